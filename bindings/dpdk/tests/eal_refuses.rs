//! An EAL that does not start: one test, since there is no second try.

use dpdk::{Eal, Error};

#[test]
fn a_refusal_names_the_arguments() {
    let arguments = ["--no-pci", "--no-such-option"].map(String::from);
    let refused = Eal::init("refused", &arguments).unwrap_err().to_string();
    assert!(refused.starts_with("EAL refuses to start: "), "{refused}");
    assert!(refused.ends_with("(its arguments were: --no-pci --no-such-option)"), "{refused}");
    assert_eq!(Eal::init("refused", &[]).unwrap_err(), Error::AlreadyStarted);
}
