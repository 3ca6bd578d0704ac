//! Virtual machines behind vhost-user ports, beside a namespace: real guests talk
//! through the switch under groups, one is killed and returns, the switch is
//! started anew.

use system_tests::policy::{all, document, from_group, group, ping_from};
use system_tests::{Guest, Hardware, Instance, Kind, Lab, Options};

const OPEN: &str = "8080";
const SHUT: &str = "8081";

/// Little enough for emulated machines.
const BYTES: &str = "4000000";

/// One for each queue that a guest may have, and one more than it may use.
fn two_workers() -> Options {
    Options { cores: "0,1".to_string(), ..Options::default() }
}

fn lab() -> Lab {
    let guests = [("alpha", Kind::Vhost { client: false }), ("beta", Kind::Vhost { client: true })];
    let others = [("gamma", Kind::PacketSocket), ("delta", Kind::AfPacket)];
    let mut lab = Lab::of(&[&guests[..], &others].concat());
    lab.start(&two_workers());
    let mut open = vec![from_group("tcp", 8080, 8080, "sg-all"), from_group("udp", 8080, 8080, "sg-all")];
    open.extend(ping_from("sg-all"));
    let groups = [group("sg-all", &open, &[all()])];
    let members: Vec<(&str, &[&str])> =
        ["alpha", "beta", "gamma", "delta"].map(|name| (name, &["sg-all"][..])).to_vec();
    lab.push(&document(&lab, &groups, &members));
    lab
}

fn serve(guest: &Guest) {
    guest.serve(&["transfer-server", OPEN]);
    guest.serve(&["udp-echo", OPEN]);
    guest.serve(&["tcp-echo", SHUT]);
}

/// TCP both ways, UDP and ping over both families; and the neighbour of what is allowed.
fn check(lab: &Lab, from: &Guest, to: &Instance) {
    for host in [to.v4(), to.v6()] {
        for direction in ["up", "down"] {
            let passed = from.probe(&["transfer", direction, &host, OPEN, BYTES]);
            assert!(passed, "{direction} to {} at {host}: {:?}", to.name, lab.sgctl(&["drops"]));
        }
        assert!(from.probe(&["udp", &host, OPEN]), "UDP to {} at {host}", to.name);
        assert!(from.ping(&host, 56), "ping of {} at {host}", to.name);
    }
    let (v4, v6) = (to.v4(), to.v6());
    let shut = [["tcp", &v4, SHUT], ["udp", &v4, SHUT], ["tcp", &v6, SHUT], ["udp", &v6, SHUT]];
    let [a, b, c, d] = &shut;
    assert_eq!(from.probes([a, b, c, d]), [false; 4], "{shut:?} of {}", to.name);
}

/// Bytes of a packet that a port has received, in the mean since it was opened.
fn mean_length(lab: &Lab, port: &str) -> u64 {
    let (status, text) = lab.sgctl(&["-o", "json", "port", "show", port]);
    assert_eq!(status, 0, "{text}");
    let shown: serde_json::Value = serde_json::from_str(&text).unwrap();
    let number = |key: &str| shown[key].as_u64().unwrap_or_else(|| panic!("{key} in {text}"));
    number("RxBytes") / number("RxPackets").max(1)
}

#[test]
fn guests_talk_under_groups_and_survive_each_other_and_the_switch() {
    let mut lab = lab();
    let alpha = Guest::boot(&lab, "alpha", Hardware::default());
    let beta = Guest::boot(&lab, "beta", Hardware { cpus: 2, ..Hardware::default() });
    let (gamma, delta) = (lab.instance("gamma").clone(), lab.instance("delta").clone());
    let _served: Vec<_> = [&gamma, &delta]
        .iter()
        .flat_map(|i| {
            [["transfer-server", OPEN], ["udp-echo", OPEN], ["tcp-echo", SHUT]].map(|w| i.serve(&w))
        })
        .collect();
    serve(&beta);
    check(&lab, &alpha, beta.instance());
    // Super-frames: whole to beta and gamma, cut for delta's port.
    let mean = mean_length(&lab, "alpha");
    assert!(mean > 3000, "alpha's packets have {mean} bytes in the mean");
    check(&lab, &alpha, &gamma);
    check(&lab, &alpha, &delta);

    // A guest that is gone is nobody else's matter, and is welcome when it is back.
    let mut talk = gamma.talk("udp", &delta.v4(), 8080).expect("UDP is allowed");
    drop(beta);
    assert!(!alpha.ping(&lab.instance("beta").v4(), 56) && talk.lives());
    let beta = Guest::boot(&lab, "beta", Hardware { cpus: 2, mtu: 9001, ..Hardware::default() });
    serve(&beta);
    check(&lab, &alpha, beta.instance());

    // One that takes neither: what alpha leaves to others is done for it.
    drop(beta);
    let plain = Hardware { offloads: false, ..Hardware::default() };
    let beta = Guest::boot(&lab, "beta", plain);
    serve(&beta);
    let before = lab.metrics();
    check(&lab, &alpha, beta.instance());
    let sent = |direction: &str, port: &str| {
        let key = format!("sgswitch_port_packets_total{{direction=\"{direction}\",port=\"{port}\"}}");
        lab.metrics()[&key] - before[&key]
    };
    assert!(sent("tx", "beta") > 2.0 * sent("rx", "alpha"), "frames were cut");
    assert_eq!(beta.checksum_errors(), 0);
    drop(beta);
    let beta = Guest::boot(&lab, "beta", Hardware { cpus: 2, mtu: 9001, ..Hardware::default() });
    serve(&beta);

    // One that reads nothing: its port drops, and nobody else waits.
    assert!(gamma.ping(&beta.instance().v4()));
    let full = lab.dropped("transmit_full");
    beta.machine().freeze(true);
    let flood = ["udp-flood", &beta.instance().v4(), OPEN, "20000"];
    assert!(gamma.probe(&flood) && talk.lives());
    check(&lab, &alpha, &gamma);
    assert!(lab.dropped("transmit_full") > full + 10_000);
    beta.machine().freeze(false);
    assert!((0..10).any(|_| alpha.ping(&beta.instance().v4(), 56)));
    check(&lab, &alpha, beta.instance());

    // The switch is started anew: both sides of a socket find each other again.
    drop(talk);
    lab.stop();
    lab.start(&two_workers());
    alpha.machine().must("ip link set eth0 mtu 9001");
    let back = (0..30).any(|_| alpha.ping(&beta.instance().v4(), 56));
    assert!(back, "{}", lab.read_log());
    check(&lab, &alpha, beta.instance());
    assert!(alpha.ping(&beta.instance().v4(), 8900), "frames of 9001 bytes");
    let errors =
        [alpha.checksum_errors(), beta.checksum_errors(), gamma.checksum_errors(), delta.checksum_errors()];
    assert_eq!(errors, [0; 4]);
    assert_eq!(lab.dropped("offload_refused") + lab.dropped("segmented"), 0);
}
