//! The switch between real network stacks. Each test has its own namespaces and
//! its own daemon; a laboratory waits until the one before is gone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use engine::packet::build::{Packet, arp, ip, mac};
use serde_json::{Value, json};
use system_tests::policy::{all, document, from_everyone, from_group, group, ping_from};
use system_tests::{Instance, Kind, Lab, Options, ask};

const MEBIBYTE: u64 = 1 << 20;

/// server lets clients in at one TCP and one UDP port and answers their pings;
/// nobody else has any rule for what comes in.
fn policy(lab: &Lab, port: u16) -> Value {
    let mut inbound = Vec::from(ping_from("sg-clients"));
    inbound.push(from_group("tcp", port, port, "sg-clients"));
    inbound.push(from_group("udp", port, port, "sg-clients"));
    let groups = [
        group("sg-servers", &inbound, &[]),
        group("sg-clients", &[], &[all()]),
        group("sg-strangers", &[], &[all()]),
    ];
    let members: [(&str, &[&str]); 3] =
        [("server", &["sg-servers"]), ("client", &["sg-clients"]), ("stranger", &["sg-strangers"])];
    document(lab, &groups, &members)
}

fn lab() -> Lab {
    Lab::new(&["server", "client", "stranger"])
}

fn started(cores: &str) -> Lab {
    start(lab(), cores)
}

fn start(mut lab: Lab, cores: &str) -> Lab {
    lab.start(&Options { cores: cores.to_string(), ..Options::default() });
    lab
}

/// What matters of an allowed case and its nearest denied neighbours.
fn check_neighbours(lab: &Lab, port: u16) {
    let [server, client, stranger] = ["server", "client", "stranger"].map(|n| lab.instance(n));
    let (at, below, above) = (port.to_string(), (port - 1).to_string(), (port + 1).to_string());
    let _servers: Vec<_> = [&at, &below, &above]
        .into_iter()
        .flat_map(|p| [server.serve(&["tcp-echo", p]), server.serve(&["udp-echo", p])])
        .chain([client.serve(&["tcp-echo", &at])])
        .collect();
    for host in [server.v4(), server.v6()] {
        for protocol in ["tcp", "udp"] {
            assert!(client.probe(&[protocol, &host, &at]), "{protocol} {host} {at}");
            let neighbours = ask([
                &|| client.probe(&[protocol, &host, &below]),
                &|| client.probe(&[protocol, &host, &above]),
                &|| stranger.probe(&[protocol, &host, &at]),
            ]);
            assert_eq!(neighbours, [false; 3], "port - 1, port + 1, another source");
        }
        assert!(client.ping(&host));
    }
    // In pieces: of IPv6, since the kernel puts those of IPv4 together before these ports see them.
    assert!(client.large_ping(&server.v6(), 5000));
    let pings = ask([&|| stranger.ping(&server.v4()), &|| stranger.ping(&server.v6()), &|| {
        stranger.large_ping(&server.v6(), 5000)
    }]);
    assert_eq!(pings, [false; 3], "another source");
    let back = ask([&|| server.probe(&["tcp", &client.v4(), &at]), &|| server.ping(&client.v6())]);
    assert_eq!(back, [false; 2], "the other direction");
}

#[test]
fn r8_11_an_allowed_case_and_its_nearest_denied_neighbours() {
    let mut lab = started("1");
    lab.push(&policy(&lab, 4000));
    check_neighbours(&lab, 4000);
    assert!(lab.dropped("inbound_denied") > 0 && lab.dropped("outbound_denied") > 0);
    lab.stop();
}

#[test]
fn two_workers_with_everything_arriving_at_one_queue() {
    // Ports with one receive queue each.
    let mut lab = start(Lab::of(&["server", "client", "stranger"].map(|name| (name, Kind::AfPacket))), "0,1");
    lab.push(&policy(&lab, 4000));
    check_neighbours(&lab, 4000);
    let (server, client) = (lab.instance("server"), lab.instance("client"));
    let _server = server.serve(&["transfer-server", "4000"]);
    for host in [server.v4(), server.v6()] {
        assert!(client.probe(&["transfer", "up", &host, "4000", &(20 * MEBIBYTE).to_string()]));
        assert!(client.probe(&["transfer", "down", &host, "4000", &(20 * MEBIBYTE).to_string()]));
    }
    // A port has one receive queue, so about half of all packets change worker.
    assert!(lab.total("sgswitch_handed_over_packets_total") > 10);
    assert_eq!(lab.dropped("hand_over_full"), 0);
    lab.stop();
}

#[test]
fn s12_a_hundred_megabytes_each_way_arrive_unchanged() {
    let mut lab = started("1");
    lab.push(&policy(&lab, 4000));
    let (server, client) = (lab.instance("server"), lab.instance("client"));
    let _server = server.serve(&["transfer-server", "4000"]);
    let bytes = (100 * MEBIBYTE).to_string();
    assert!(client.probe(&["transfer", "up", &server.v4(), "4000", &bytes]));
    assert!(client.probe(&["transfer", "down", &server.v4(), "4000", &bytes]));
    lab.stop();
}

#[test]
fn s4_d8_a_push_every_ten_milliseconds_drops_nothing() {
    let mut lab = started("1");
    let one = policy(&lab, 4000);
    lab.push(&one);
    let drops = |lab: &Lab| lab.total("sgswitch_dropped_packets_total");
    let (server, client) = (lab.instance("server"), lab.instance("client"));
    let _server = server.serve(&["transfer-server", "4000"]);
    // The stacks have said their multicast hellos when the count stands still.
    let mut before = drops(&lab);
    let mut since = Instant::now();
    while since.elapsed() < Duration::from_millis(1500) {
        std::thread::sleep(Duration::from_millis(50));
        if drops(&lab) != before {
            (before, since) = (drops(&lab), Instant::now());
        }
    }
    let mut pushes = 0;
    // At full speed the rings of the ports lose segments of their own accord, so
    // what is sent again is counted of a stream that fills none. A machine that
    // stands still may cost a segment as well, but not each time.
    let (bulk, trickle) = (60 * MEBIBYTE, 8 * MEBIBYTE);
    assert!(push_during(&lab, &mut pushes, &["transfer", "down", &server.v4(), "4000", &bulk.to_string()]));
    let sent_again = (0..3).map(|_| {
        let before = client.lost_segments();
        assert!(push_during(
            &lab,
            &mut pushes,
            &["transfer", "trickle", &server.v4(), "4000", &trickle.to_string()]
        ));
        client.lost_segments() - before
    });
    let lost: Vec<i64> = sent_again.collect();
    assert!(lost.iter().any(|lost| *lost <= 0), "{lost:?} segments were lost");
    assert!(pushes >= 20, "{pushes} pushes");
    assert_eq!(lab.total("sgswitch_generation"), pushes + 1);
    // No packet of the connections was refused by any generation, nor lost for want of room.
    assert_eq!(drops(&lab), before, "{pushes} pushes:\n{}", lab.sgctl(&["show", "drops"]).1);
    lab.stop();
}

/// Pushes a policy that closes the port, and one that opens it, every 10 ms while
/// the client's probe runs: a connection that is tracked outlives both.
fn push_during(lab: &Lab, pushes: &mut u64, probe: &[&str]) -> bool {
    let (closed, open) = (policy(lab, 5000), policy(lab, 4000));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let probe = scope.spawn(|| {
            let succeeded = lab.instance("client").probe(probe);
            done.store(true, Ordering::Relaxed);
            succeeded
        });
        std::thread::sleep(Duration::from_millis(300));
        let mut next = [&closed, &open].into_iter().cycle();
        // Ends with the port open.
        while !done.load(Ordering::Relaxed) || *pushes % 2 == 1 {
            let start = Instant::now();
            lab.push(next.next().expect("it goes round"));
            *pushes += 1;
            std::thread::sleep(Duration::from_millis(10).saturating_sub(start.elapsed()));
        }
        probe.join().expect("a probe does not panic")
    })
}

#[test]
fn after_a_restart_the_stored_policy_judges_the_first_packet() {
    let mut lab = started("1");
    lab.push(&policy(&lab, 4000));
    lab.stop();
    // They try without a pause, from before the daemon is there.
    let [server, client, stranger] = ["server", "client", "stranger"].map(|n| lab.instance(n).clone());
    let _server = server.serve(&["udp-echo", "4000"]);
    let done = AtomicBool::new(false);
    let attempts = |from: &Instance| {
        let mut answered = 0;
        while !done.load(Ordering::Relaxed) {
            answered += u32::from(from.probe(&["udp", &server.v4(), "4000"]));
        }
        answered
    };
    let (reached, leaked) = std::thread::scope(|scope| {
        let trying = [&client, &stranger].map(|from| scope.spawn(|| attempts(from)));
        lab.start(&Options::default());
        std::thread::sleep(Duration::from_secs(3));
        done.store(true, Ordering::Relaxed);
        let [client, stranger] = trying.map(|t| t.join().unwrap());
        (client, stranger)
    });
    assert!(reached > 0, "the client is let in without a push");
    assert_eq!(leaked, 0, "the stranger never is");
    assert_eq!((lab.total("sgswitch_generation"), lab.dropped("no_policy")), (1, 0));
    assert!(lab.dropped("inbound_denied") > 0);
    lab.stop();
}

#[test]
fn s45_s46_untracked_flows_stop_with_their_rule_and_tracked_ones_live() {
    let mut lab = started("1");
    let with = |lab: &Lab, inbound: &[Value]| {
        let groups = [group("sg-servers", inbound, &[all()]), group("sg-clients", &[], &[all()])];
        document(lab, &groups, &[("server", &["sg-servers"]), ("client", &["sg-clients"])])
    };
    let (server, client) = (lab.instance("server").clone(), lab.instance("client").clone());
    let _servers = [
        server.serve(&["tcp-echo", "80"]),
        server.serve(&["tcp-echo", "22"]),
        server.serve(&["udp-echo", "53"]),
    ];
    let open =
        [from_everyone("tcp", 80, 80), from_everyone("udp", 53, 53), from_group("tcp", 22, 22, "sg-clients")];
    lab.push(&with(&lab, &open));
    let mut untracked = client.talk("tcp", &server.v4(), 80).expect("port 80 is open");
    let mut datagrams = client.talk("udp", &server.v6(), 53).expect("port 53 is open");
    let mut tracked = client.talk("tcp", &server.v6(), 22).expect("port 22 is open to the group");
    assert!(untracked.lives() && datagrams.lives() && tracked.lives());
    // client's own side is tracked: its groups let nothing in. server's decides here.
    lab.push(&with(&lab, &[]));
    assert!(!untracked.lives() && !datagrams.lives(), "cut with the generation that removes their rules");
    assert!(tracked.lives(), "outlives its rule");
    assert!(!client.probe(&["tcp", &server.v6(), "22"]), "but opens no more");
    // Back again: the connection of before goes on.
    lab.push(&with(&lab, &open));
    assert!(client.probe(&["tcp", &server.v4(), "80"]));
    lab.stop();
}

/// The example of EC2's documentation over real stacks: SSH from one address,
/// HTTP and ICMP from everyone, everything out; changed by single changes.
#[test]
fn s42_s43_s44_s44b_s45_s46_the_sources_example() {
    let mut lab = started("1");
    let (server, client) = (lab.instance("server").clone(), lab.instance("client").clone());
    let (one, anyone) = (format!("{}/32", client.v4()), "0.0.0.0/0".to_string());
    let from = |protocol: &str, port: i32, block: &str| json!({ "IpProtocol": protocol, "FromPort": port, "ToPort": port, "IpRanges": [{ "CidrIp": block }] });
    let everything = json!({ "IpProtocol": "-1", "IpRanges": [{ "CidrIp": anyone }] });
    let inbound = [from("tcp", 22, &one), from("tcp", 80, &anyone), from("icmp", -1, &anyone)];
    // What happens is the server's doing: the others are open both ways.
    let groups = [
        group("sg-example", &inbound, std::slice::from_ref(&everything)),
        group("sg-open", &[all()], &[all()]),
    ];
    let members: [(&str, &[&str]); 3] =
        [("server", &["sg-example"]), ("client", &["sg-open"]), ("stranger", &["sg-open"])];
    lab.push(&document(&lab, &groups, &members));
    let stranger = lab.instance("stranger").clone();
    let _servers = ["22", "80", "81"].map(|port| server.serve(&["tcp-echo", port]));
    let to_port = |protocol: &str| {
        let (status, text) =
            lab.sgctl(&["-o", "json", "flows", "list", "--interface", "eni-server", "--protocol", protocol]);
        assert_eq!(status, 0, "{text}");
        let flows: Value = serde_json::from_str(&text).unwrap();
        let port = |flow: &Value| flow["Responder"]["Port"].as_u64().unwrap();
        flows["Flows"].as_array().unwrap().iter().map(port).collect::<Vec<_>>()
    };
    let mut ssh = client.talk("tcp", &server.v4(), 22).expect("22 is open to the client");
    let mut http = client.talk("tcp", &server.v4(), 80).expect("80 is open to everyone");
    assert!(ssh.lives() && http.lives());
    assert!(!stranger.probe(&["tcp", &server.v4(), "22"]) && stranger.probe(&["tcp", &server.v4(), "80"]));
    assert!(!client.probe(&["tcp", &server.v4(), "81"]));
    assert_eq!(to_port("6"), [22], "SSH is tracked, HTTP is not");
    assert!(stranger.ping(&server.v4()));
    assert_eq!(to_port("1").len(), 1, "ICMP always is");
    // Both rules go: one connection lives, the other is cut at once.
    let revoke = |arguments: &[&str]| {
        let (status, text) = lab.sgctl(&[&["revoke", "sg-example"], arguments].concat());
        assert_eq!(status, 0, "{text}");
    };
    revoke(&["--ingress", "--protocol", "tcp", "--port", "22", "--cidr", &one]);
    revoke(&["--ingress", "--protocol", "tcp", "--port", "80", "--cidr", &anyone]);
    assert!(ssh.lives() && !http.lives());
    let opened =
        ask([&|| client.probe(&["tcp", &server.v4(), "22"]), &|| client.probe(&["tcp", &server.v4(), "80"])]);
    assert_eq!(opened, [false; 2]);
    // Open again, but without the outbound rule: everything is tracked.
    let (status, text) = lab.sgctl(&[
        "authorize",
        "sg-example",
        "--ingress",
        "--protocol",
        "tcp",
        "--port",
        "80",
        "--cidr",
        &anyone,
    ]);
    assert_eq!(status, 0, "{text}");
    revoke(&["--egress", "--protocol", "all", "--cidr", &anyone]);
    let mut http = client.talk("tcp", &server.v4(), 80).expect("80 is open again");
    assert!(http.lives());
    assert!(to_port("6").contains(&80), "{:?}", to_port("6"));
    lab.stop();
}

#[test]
fn forged_and_broken_frames_are_dropped_by_their_reason() {
    let mut lab = started("1");
    lab.push(&policy(&lab, 4000));
    let server = lab.instance("server").clone();
    let stranger = lab.instance("stranger").clone();
    let (own, to) = (mac(stranger.number), mac(server.number));
    let (client_v4, server_v4) = (lab.instance("client").v4(), server.v4());
    let asks = |from: &str| Packet::udp(&format!("{from}:5000"), &format!("{server_v4}:4000"), b"let me i");
    let good = asks(&stranger.v4()).frame(own, to);
    let truncated = good[..30].to_vec();
    let mut lying = good.clone();
    lying[17] = 0xff;
    let mut checksum = good.clone();
    checksum[24] ^= 1;
    let martian = Packet::udp("127.0.0.1:5000", &format!("{server_v4}:4000"), b"").frame(own, to);
    // Of IPv6, for the same reason as above.
    let piece = |id, offset, more| {
        let packet = Packet::new(ip(&stranger.v6()), ip(&server.v6()), 6, vec![0; 16]);
        packet.fragment(id, offset, more).frame(own, to)
    };
    let vlan = asks(&stranger.v4()).tagged(own, to, engine::ids::VlanId(5));
    let rogue_router = Packet::nd(&format!("fe80::ff:fe00:{:x}", stranger.number), "ff02::1", 134, &[0; 12]);
    let cases = [
        ("spoofed_mac", asks(&client_v4).frame(mac(lab.instance("client").number), to)),
        ("spoofed_address", asks(&client_v4).frame(own, to)),
        ("spoofed_arp", arp(2, (own, &client_v4), (to, &server_v4))),
        ("spoofed_nd", rogue_router.frame(own, "33:33:00:00:00:01".parse().unwrap())),
        ("unexpected_vlan", vlan),
        ("truncated", truncated),
        ("truncated", lying),
        ("bad_checksum", checksum),
        ("martian_address", martian),
        ("fragment_tiny", piece(7, 0, true)),
        ("fragment_orphan", piece(8, 16, false)),
        ("unknown_ethertype", [&good[..12], &[0x88, 0x47], &good[14..]].concat()),
        ("inbound_denied", good),
    ];
    assert_eq!(ip(&client_v4).to_string(), client_v4);
    let received = lab.instance("server").clone();
    let listener = received.serve(&["udp-echo", "4000"]);
    let delivered = |lab: &Lab| {
        let key = "sgswitch_interface_packets_total{direction=\"inbound\",interface=\"eni-server\"}";
        lab.metrics().get(key).copied().unwrap_or_default()
    };
    for (reason, frame) in cases {
        let (before, at_server) = (lab.dropped(reason), delivered(&lab));
        let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(stranger.probe(&["raw", &hex]), "{reason} cannot be sent");
        let deadline = Instant::now() + Duration::from_secs(10);
        while lab.dropped(reason) == before {
            assert!(
                Instant::now() < deadline,
                "not counted as {reason}:\n{}",
                lab.sgctl(&["show", "drops"]).1
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(delivered(&lab), at_server, "{reason}: something reached the server");
    }
    drop(listener);
    assert!(lab.instance("client").ping(&server_v4), "the neighbours have not noticed");
    lab.stop();
}

#[test]
fn a_broken_document_changes_nothing() {
    let mut lab = started("1");
    let good = policy(&lab, 4000);
    lab.push(&good);
    let (server, client) = (lab.instance("server").clone(), lab.instance("client").clone());
    let _server = server.serve(&["tcp-echo", "4000"]);
    let mut bad = good.clone();
    bad["SecurityGroups"][0]["IpPermissions"][0]["Action"] = "deny".into();
    bad["NetworkInterfaces"][0]["Groups"][0]["GroupId"] = "sg-nowhere".into();
    bad["NetworkInterfaces"][1]["Groups"] = "none".into();
    bad["Bindings"][0]["Port"] = "no-such-port".into();
    let file = std::env::temp_dir().join(format!("sgswitch-bad-{}.json", std::process::id()));
    std::fs::write(&file, bad.to_string()).unwrap();
    let (status, text) = lab.sgctl(&["push", file.to_str().unwrap()]);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(status, 2, "{text}");
    for part in
        ["Action", "sg-nowhere", "InvalidGroup.NotFound", "NetworkInterfaces[1].Groups", "no-such-port"]
    {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
    assert_eq!(lab.total("sgswitch_generation"), 1);
    assert!(client.probe(&["tcp", &server.v4(), "4000"]));
    let (status, text) = lab.sgctl(&[
        "-o",
        "json",
        "explain",
        "--from",
        "eni-stranger",
        "--to",
        "eni-server",
        "--port",
        "4000",
    ]);
    assert_eq!(status, 0, "{text}");
    let explanation: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(explanation["allowed"], false);
    assert!(
        explanation["ends"][1]["nearest"][0]["reason"].as_str().unwrap().contains("from sg-clients only"),
        "{text}"
    );
    lab.stop();
}
