//! What a guest may do to its own socket: nobody else notices, and what it sends is
//! dropped for a reason.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use system_tests::policy::{all, document, from_everyone, group};
use system_tests::{Instance, Kind, Lab, Options, binary};

fn rogue(from: &Instance, to: &Instance) {
    let output = Command::new(binary("rogue"))
        .arg(from.socket())
        .args([from.mac(), from.v4(), to.mac(), to.v4()])
        .stdin(Stdio::null())
        .output()
        .expect("rogue can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_guest_that_lies_harms_nobody() {
    let instances =
        [("mallory", Kind::Vhost { client: false }), ("alpha", Kind::PacketSocket), ("beta", Kind::AfPacket)];
    let mut lab = Lab::of(&instances);
    lab.start(&Options::default());
    let groups =
        [group("sg-all", &[from_everyone("tcp", 8080, 8080), from_everyone("udp", 8080, 8080)], &[all()])];
    let members: [(&str, &[&str]); 3] =
        [("mallory", &["sg-all"]), ("alpha", &["sg-all"]), ("beta", &["sg-all"])];
    lab.push(&document(&lab, &groups, &members));
    let (mallory, alpha, beta) = (lab.instance("mallory"), lab.instance("alpha"), lab.instance("beta"));
    let _served = [alpha.serve(&["tcp-echo", "8080"]), alpha.serve(&["udp-echo", "8080"])];
    let mut talk = beta.talk("tcp", &alpha.v4(), 8080).expect("TCP is allowed");

    // To a port that takes super-frames, and to one for which they are cut.
    for to in [alpha, beta, alpha] {
        rogue(mallory, to);
        assert!(talk.lives(), "{}", lab.read_log());
    }
    for reason in ["truncated", "offload_refused"] {
        assert!(lab.dropped(reason) > 0, "{reason}: {:?}", lab.sgctl(&["drops"]));
    }

    // Connections that say nothing, or nonsense.
    let connections: Vec<UnixStream> = (0..200)
        .filter_map(|n| {
            let mut stream = UnixStream::connect(mallory.socket()).ok()?;
            stream.write_all(&vec![n as u8; n * 7]).ok()?;
            Some(stream)
        })
        .collect();
    assert!(!connections.is_empty() && talk.lives());
    let (status, text) = lab.sgctl(&["show", "status"]);
    assert_eq!(status, 0, "{text}");
    drop(connections);
    rogue(mallory, alpha);
    assert!(talk.lives());
    assert!(beta.probe(&["udp", &alpha.v4(), "8080"]));
}
