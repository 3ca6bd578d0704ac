//! EAL's start and end, which a process has once: one test.

use dpdk::{Eal, Error};

fn allowed_cpus() -> String {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    status.lines().find(|l| l.starts_with("Cpus_allowed_list")).unwrap().to_string()
}

#[test]
fn eal_starts_once_and_leaves_its_caller_alone() {
    let zero = Eal::init("eal", &["a\0b".to_string()]).unwrap_err();
    assert_eq!(zero, Error::ZeroByte("a\0b".to_string()), "and EAL is not tried with it");

    let before = allowed_cpus();
    let arguments = ["-l", "0", "--no-huge", "--no-shconf", "--no-pci", "-m", "64", "--log-level", "error"];
    let eal = Eal::init("eal", &arguments.map(String::from)).unwrap();
    assert_eq!(eal.lcores(), [0]);
    assert_eq!(allowed_cpus(), before, "the caller is not pinned to the main lcore");
    assert!(dpdk::tsc_hz() > 0);
    assert!(dpdk::cycles() < dpdk::cycles());

    assert_eq!(Eal::init("eal", &[]).unwrap_err(), Error::AlreadyStarted);
    let registered = eal.register_thread().unwrap();
    assert_ne!(registered.lcore(), 0, "the main lcore's number is taken");
    drop(eal);
    assert_eq!(Eal::init("eal", &[]).unwrap_err(), Error::AlreadyStarted);
    drop(registered);
    assert_eq!(Eal::init("eal", &[]).unwrap_err(), Error::AlreadyStarted, "not even after the end");
}
