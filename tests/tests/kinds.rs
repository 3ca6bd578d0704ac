//! Each kind of port between real stacks, with the kernel's offloads as they are:
//! checksums arrive complete or are carried, super-frames are whole or cut, and
//! what no rule permits stays out.

use std::time::{Duration, Instant};

use engine::packet::build::{Packet, mac};
use system_tests::policy::{all, document, from_everyone, from_group, group};
use system_tests::{Kind, Lab, Options, ask, run};

const OPEN: u16 = 8080;
const SHUT: u16 = 8081;

/// Enough for thousands of segments, and for the window to open.
const BYTES: &str = "20000000";

fn joined(client: Kind, server: Kind) -> Lab {
    let mut lab = Lab::of(&[("client", client), ("server", server)]);
    lab.start(&Options::default());
    permit(&lab);
    lab
}

fn permit(lab: &Lab) {
    let from_client = |protocol, from, to| from_group(protocol, from, to, "sg-client");
    let groups = [
        group("sg-client", &[], &[all()]),
        group(
            "sg-server",
            &[
                from_client("tcp", OPEN, OPEN),
                from_client("udp", OPEN, OPEN),
                from_client("icmp", 8, 0),
                from_client("icmpv6", 128, 0),
            ],
            &[],
        ),
    ];
    let group_of = |name: &str| -> &[&str] { if name == "server" { &["sg-server"] } else { &["sg-client"] } };
    let members: Vec<_> =
        lab.instances().iter().map(|instance| (&*instance.name, group_of(&instance.name))).collect();
    lab.push(&document(lab, &groups, &members));
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A value of `sgctl -o json port show PORT`.
fn extended(lab: &Lab, port: &str, counter: &str) -> u64 {
    let (status, text) = lab.sgctl(&["-o", "json", "port", "show", port]);
    assert_eq!(status, 0, "{text}");
    let shown: serde_json::Value = serde_json::from_str(&text).unwrap();
    shown["Extended"][counter].as_u64().unwrap_or_else(|| panic!("{counter} in {text}"))
}

fn everything_passes_whole_and_nothing_else(lab: &Lab) {
    let (client, server) = (lab.instance("client"), lab.instance("server"));
    let has_af_packet = lab.instances().iter().any(|i| i.device().starts_with("net_af_packet"));
    let _tcp = server.serve(&["transfer-server", &OPEN.to_string()]);
    let _udp = server.serve(&["udp-echo", &OPEN.to_string()]);
    let _shut = server.serve(&["tcp-echo", &SHUT.to_string()]);
    for host in [server.v4(), server.v6()] {
        for direction in ["up", "down"] {
            let passed = client.probe(&["transfer", direction, &host, &OPEN.to_string(), BYTES]);
            assert!(passed, "{direction} to {host}: {:?}", lab.sgctl(&["drops"]));
        }
        assert!(client.probe(&["udp", &host, &OPEN.to_string()]), "UDP to {host}");
        assert!(client.ping(&host), "ping of {host}");
        // DPDK's af_packet has the kernel join the fragments of IPv4, and cuts the rest off.
        if !(has_af_packet && server.v4() == host) {
            let passed = client.large_ping(&host, 4000);
            assert!(passed, "ping of {host} in fragments: {:?}", lab.sgctl(&["drops"]));
        }
    }
    let opened = client.reaches(server, &SHUT.to_string());
    assert_eq!(opened, [false; 4], "TCP and UDP at a port that no rule opens, over IPv4 and IPv6");
    for instance in [client, server] {
        assert_eq!(instance.checksum_errors(), 0, "{}", instance.name);
    }
    assert!(lab.dropped("inbound_denied") > 0);
}

#[test]
fn packet_sockets_carry_super_frames_whole() {
    let lab = joined(Kind::PacketSocket, Kind::PacketSocket);
    everything_passes_whole_and_nothing_else(&lab);
    for port in ["client", "server"] {
        assert!(extended(&lab, port, "rx_super_frames") > 100);
        assert!(extended(&lab, port, "tx_super_frames") > 100);
    }
}

#[test]
fn two_workers_share_packet_sockets() {
    let mut lab = Lab::new(&["client", "server"]);
    lab.start(&Options { cores: "0,1".to_string(), ..Options::default() });
    permit(&lab);
    everything_passes_whole_and_nothing_else(&lab);
    // The kernel spreads flows over the queues as it likes: some are another worker's.
    assert!(lab.total("sgswitch_handed_over_packets_total") > 10);
    assert_eq!(lab.dropped("hand_over_full"), 0);
}

#[test]
fn each_of_many_packet_sockets_receives() {
    // Before they shared what they receive into, the last of them had nothing to receive into.
    let hosts: Vec<String> = (0..18).map(|n| format!("host{n}")).collect();
    let names: Vec<&str> = hosts.iter().map(String::as_str).chain(["client", "server"]).collect();
    let mut lab = Lab::new(&names);
    lab.start(&Options::default());
    permit(&lab);
    everything_passes_whole_and_nothing_else(&lab);
    let (server, first) = (lab.instance("server").v4(), lab.instance(&hosts[0]).v4());
    let hosts: Vec<_> = hosts.iter().map(|host| lab.instance(host)).collect();
    for host in &hosts {
        assert!(host.ping(&server), "{} reaches the server", host.name);
    }
    let [.., a, b, c] = &hosts[..] else { unreachable!("there are 18") };
    let reached = ask([&|| a.ping(&first), &|| b.ping(&first), &|| c.ping(&first)]);
    assert_eq!(reached, [false; 3], "they reach nobody else");
}

#[test]
fn super_frames_are_cut_for_af_packet_and_its_checksums_completed() {
    let lab = joined(Kind::AfPacket, Kind::PacketSocket);
    everything_passes_whole_and_nothing_else(&lab);
    assert!(extended(&lab, "server", "rx_super_frames") > 100, "the other side has made some");
    assert_eq!(extended(&lab, "server", "tx_super_frames"), 0, "this side cannot");
}

#[test]
fn between_af_packet_ports_checksums_are_completed() {
    everything_passes_whole_and_nothing_else(&joined(Kind::AfPacket, Kind::AfPacket));
}

#[test]
fn super_frames_are_cut_for_tap_devices() {
    everything_passes_whole_and_nothing_else(&joined(Kind::Tap, Kind::PacketSocket));
}

#[test]
fn super_frames_are_cut_for_xdp_sockets() {
    everything_passes_whole_and_nothing_else(&joined(Kind::AfXdp, Kind::PacketSocket));
}

/// Of taps, since vhost-user, virtio-user and memif do not take a bond's address (DPDK
/// 22.11). Cards are in `vfio.rs`.
#[test]
fn a_bond_carries_and_its_members_are_no_ports() {
    let lab = joined(Kind::Bond, Kind::PacketSocket);
    let (status, text) = lab.sgctl(&["-o", "json", "port", "show"]);
    assert_eq!(status, 0, "{text}");
    let shown: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(shown["Ports"].as_array().unwrap().len(), 2, "members are no ports: {text}");
    everything_passes_whole_and_nothing_else(&lab);

    let client = lab.instance("client");
    let server = lab.instance("server");
    let (status, text) = lab.sgctl(&["port", "add", "member", &format!("net_tap{}1", client.number)]);
    assert!(status != 0 && text.contains("'client' has the device"), "{text}");

    // By one after the other, the first of which sends.
    let served = [OPEN, SHUT].map(|port| server.serve(&["tcp-echo", &port.to_string()]));
    let mut talk = client.talk("tcp", &server.v4(), OPEN).expect("a conversation");
    let mut by_one = |lost: usize| {
        client.set_member(lost, false);
        wait_until("the other one carries", || talk.lives());
        assert!(!client.probe(&["tcp", &server.v4(), &SHUT.to_string()]));
        client.set_member(lost, true);
    };
    by_one(0);
    assert_eq!(lab.total("sgswitch_port_link_losses_total"), 0, "the bond has kept its own");
    by_one(1);
    drop(served);
    everything_passes_whole_and_nothing_else(&lab);
}

#[test]
fn a_link_that_goes_is_counted_once() {
    let lab = joined(Kind::PacketSocket, Kind::PacketSocket);
    let (client, server) = (lab.instance("client"), lab.instance("server"));
    let losses = || lab.total("sgswitch_port_link_losses_total");
    // Looked at once a second: it has to be seen up first.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(losses(), 0);
    run(&format!("ip -n {} link set eth0 down", client.netns()));
    wait_until("the link is lost", || losses() == 1);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(losses(), 1, "it stays lost, and is counted no second time");
    run(&format!("ip -n {} link set eth0 up", client.netns()));
    run(&format!("ip -n {} addr replace {}/64 dev eth0 nodad", client.netns(), client.v6()));
    wait_until("it carries again", || client.ping(&server.v4()));
    assert_eq!(losses(), 1);
}

#[test]
fn a_frame_that_is_longer_than_the_port_carries_is_counted() {
    let lab = joined(Kind::PacketSocket, Kind::PacketSocket);
    let (client, server) = (lab.instance("client"), lab.instance("server"));
    assert!(client.large_ping(&server.v4(), 4000), "in fragments of 1500");
    client.set_mtu(9000);
    // Fragments that do not fit the server's link.
    assert!(!client.large_ping(&server.v4(), 4000));
    assert!(lab.dropped("exceeds_mtu") > 0);
    server.set_mtu(9000);
    wait_until("the switch takes up a new MTU", || client.large_ping(&server.v4(), 4000));
    let _tcp = server.serve(&["transfer-server", &OPEN.to_string()]);
    for direction in ["up", "down"] {
        assert!(client.probe(&["transfer", direction, &server.v6(), &OPEN.to_string(), BYTES]));
    }
}

/// The kernel takes a tag off before a packet socket sees the frame: it is put back.
#[test]
fn frames_keep_their_vlan_tags_on_packet_sockets() {
    let mut lab = Lab::new(&["inside", "trunk"]);
    lab.start(&Options::default());
    let (inside, trunk) = (lab.instance("inside"), lab.instance("trunk"));
    let groups = [group("sg-inside", &[from_everyone("udp", OPEN, OPEN)], &[])];
    let mut policy = document(&lab, &groups, &[("inside", &["sg-inside"])]);
    let uplink = serde_json::json!({ "Uplink": "trunk", "VpcId": "vpc-1", "VlanId": 7 });
    policy["Bindings"].as_array_mut().unwrap().push(uplink);
    lab.push(&policy);
    let from = format!("{}:3000", trunk.v4());
    let send = |tag: Option<u8>| {
        let to = format!("{}:{OPEN}", inside.v4());
        let frame = Packet::udp(&from, &to, b"hello").frame(mac(2), mac(1));
        let tag = tag.map(|id| vec![0x81, 0, 0, id]).unwrap_or_default();
        let frame = [&frame[..12], &tag, &frame[12..]].concat();
        let text: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(trunk.probe(&["raw", &text]));
    };
    for wrong in [None, Some(8)] {
        send(wrong);
    }
    // Its stack says something without a tag as well, now and then.
    wait_until("the wrong tags are refused", || lab.dropped("unexpected_vlan") >= 2);
    assert_eq!(lab.total("sgswitch_connections"), 0);
    send(Some(7));
    wait_until("the right one passes", || lab.total("sgswitch_connections") == 1);
}
