//! Ports that come and go between real network stacks, while others carry traffic.

use std::time::{Duration, Instant};

use serde_json::Value;
use system_tests::policy::{all, document, from_group, group};
use system_tests::{Instance, Lab, Options, ask};

fn started(options: Options) -> Lab {
    let mut lab = Lab::new(&["server", "client", "guest"]);
    lab.start(&options);
    lab
}

/// server lets client and guest in at TCP port 4000.
fn policy(lab: &Lab) -> Value {
    let groups = [
        group("sg-servers", &[from_group("tcp", 4000, 4000, "sg-clients")], &[]),
        group("sg-clients", &[], &[all()]),
    ];
    let members: [(&str, &[&str]); 3] =
        [("server", &["sg-servers"]), ("client", &["sg-clients"]), ("guest", &["sg-clients"])];
    document(lab, &groups, &members)
}

fn port(lab: &Lab, name: &str) -> Value {
    let (status, text) = lab.sgctl(&["-o", "json", "port", "show", name]);
    assert_eq!(status, 0, "{text}");
    serde_json::from_str(&text).expect("JSON")
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Allowed, and its nearest denied neighbours.
fn check(server: &Instance, guest: &Instance) {
    guest.forget_neighbours();
    for host in [server.v4(), server.v6()] {
        assert!(guest.probe(&["tcp", &host, "4000"]), "{host}");
    }
    let neighbours = ask([
        &|| guest.probe(&["tcp", &server.v4(), "4001"]),
        &|| guest.probe(&["tcp", &server.v6(), "4001"]),
        &|| server.probe(&["tcp", &guest.v4(), "4000"]),
    ]);
    assert_eq!(neighbours, [false; 3], "port + 1 over IPv4 and IPv6, the other direction");
}

#[test]
fn ports_come_and_go_and_a_stream_between_others_loses_nothing() {
    let lab = started(Options { later: &["guest"], cores: "0,1".to_string(), ..Options::default() });
    let (server, client, guest) = (lab.instance("server"), lab.instance("client"), lab.instance("guest"));
    let _servers = ["4000", "4001"].map(|port| server.serve(&["tcp-echo", port]));
    let (status, text) = lab.sgctl(&["port", "add", "guest", &guest.device()]);
    assert_eq!(status, 0, "{text}");
    lab.push(&policy(&lab));
    let mut talk = client.talk("tcp", &server.v4(), 4000).expect("it is allowed");
    let before = client.lost_segments();
    for _ in 0..5 {
        check(server, guest);
        let (status, text) = lab.sgctl(&["port", "remove", "guest"]);
        assert_eq!(status, 2, "the policy binds it: {text}");
        let (status, text) = lab.sgctl(&["port", "remove", "guest", "--force"]);
        assert_eq!(status, 0, "{text}");
        assert!(talk.lives());
        assert!(!guest.probe(&["tcp", &server.v4(), "4000"]), "it is not plugged in");
        let (status, text) = lab.sgctl(&["port", "add", "guest", &guest.device()]);
        assert_eq!(status, 0, "{text}");
        assert!(talk.lives());
    }
    check(server, guest);
    assert_eq!(client.lost_segments(), before);
    assert!(lab.sgctl(&["port", "show"]).1.contains("in service"));
}

#[test]
fn a_port_whose_interface_goes_is_shown_and_taken_up_again_when_it_is_back() {
    let lab = started(Options::default());
    lab.push(&policy(&lab));
    let (server, client, guest) = (lab.instance("server"), lab.instance("client"), lab.instance("guest"));
    let _servers = ["4000", "4001"].map(|port| server.serve(&["tcp-echo", port]));
    check(server, guest);
    let mut talk = client.talk("tcp", &server.v4(), 4000).expect("it is allowed");
    for round in 1..=2 {
        guest.unplug();
        wait_until("it is shown", || port(&lab, "guest")["State"] == "failed");
        let shown = port(&lab, "guest");
        assert!(shown["Fault"].as_str().is_some_and(|fault| fault.contains("interface")), "{shown}");
        assert_eq!(shown["Failures"], round);
        assert!(lab.sgctl(&["port", "show"]).1.contains("guest: "), "the reason is told");
        assert!(talk.lives(), "the others go on");
        guest.plug_in();
        wait_until("it is back", || port(&lab, "guest")["State"] == "in service");
        check(server, guest);
        assert!(talk.lives());
    }
    assert_eq!(lab.total("sgswitch_port_failures_total"), 2);
    assert_eq!(port(&lab, "client")["State"], "in service");
}

#[test]
fn a_port_is_told_its_mtu_or_refused() {
    let lab = started(Options { later: &["guest"], ..Options::default() });
    let host = lab.instance("guest").host();
    for (device, said) in [
        (format!("packet_socket9,iface={host},mtu=1400"), "follows the MTU of its interface"),
        (format!("net_pcap9,iface={host},mtu=1400"), "has no MTU that can be set"),
        (format!("net_af_packet9,iface={host},mtu=1501"), "has an MTU of 46 to 1500 bytes, not 1501"),
        (format!("net_af_packet9,iface={host},mtu=14OO"), "mtu=14OO: expected a number of bytes"),
    ] {
        let (status, text) = lab.sgctl(&["port", "add", "guest", &device]);
        assert!(status != 0 && text.contains(said), "{device}: {text}");
    }
    let mtu = || std::fs::read_to_string(format!("/sys/class/net/{host}/mtu")).unwrap();
    assert_eq!(mtu().trim(), "1500");
    let (status, text) =
        lab.sgctl(&["port", "add", "guest", &format!("net_af_packet9,iface={host},mtu=1400")]);
    assert_eq!((status, mtu().trim()), (0, "1400"), "{text}");
    assert_eq!(port(&lab, "guest")["State"], "in service");
}
