//! Uplinks between real stacks: hosts beyond them are where the policy says, and nobody
//! else is there in their names; what changes over says who is here.

use std::time::{Duration, Instant};

use engine::addr::MacAddr;
use engine::ids::VlanId;
use engine::packet::build::{Packet, arp, capture, mac};
use serde_json::{Value, json};
use system_tests::policy::{all, document, eni, from_group, group};
use system_tests::{Instance, Kind, Lab, Options, ask, run};

const OPEN: &str = "8080";
const SHUT: &str = "8081";

/// More than stacks say by themselves meanwhile.
const MANY: u64 = 60;

/// An instance here, one behind the uplink `far`, and a host that is no interface behind
/// the uplink `near`. `far` also leads to another VPC.
fn policy(lab: &Lab, far_is_behind: Option<&str>) -> Value {
    let open = ["tcp", "udp"].map(|protocol| from_group(protocol, 8080, 8080, "sg-far"));
    let groups = [group("sg-here", &open, &[all()]), group("sg-far", &[], &[])];
    let members: [(&str, &[&str]); 2] = [("here", &["sg-here"]), ("far", &["sg-far"])];
    let mut policy = document(lab, &groups, &members);
    let vpcs = policy["Vpcs"].as_array_mut().unwrap();
    vpcs.push(json!({ "VpcId": "vpc-2" }));
    let bindings = policy["Bindings"].as_array_mut().unwrap();
    bindings.retain(|binding| binding["Port"] != "far");
    bindings
        .extend(far_is_behind.map(|uplink| json!({ "NetworkInterfaceId": eni("far"), "Uplink": uplink })));
    let near = lab.instance("near").mac();
    bindings.push(json!({ "Uplink": "near", "VpcId": "vpc-1", "MacAddresses": [near] }));
    bindings.push(json!({ "Uplink": "far", "VpcId": "vpc-1" }));
    bindings.push(json!({ "Uplink": "far", "VpcId": "vpc-2", "VlanId": 8 }));
    policy
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn own(instance: &Instance) -> MacAddr {
    mac(instance.number)
}

fn send(from: &Instance, frames: &[Vec<u8>]) {
    let hex = |frame: &Vec<u8>| frame.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let frames: Vec<String> = frames.iter().map(hex).collect();
    let words: Vec<&str> = ["raw"].into_iter().chain(frames.iter().map(String::as_str)).collect();
    assert!(from.probe(&words));
}

/// Frames that have come to the end of an uplink.
fn received(instance: &Instance) -> u64 {
    let file = "/sys/class/net/eth0/statistics/rx_packets";
    let text = run(&format!("ip netns exec {} cat {file}", instance.netns()));
    text.trim().parse().expect("a number")
}

/// Sends what is for a MAC, and tells which ends of uplinks have received it.
fn reached(lab: &Lab, to: MacAddr) -> [bool; 2] {
    let ends = ["near", "far"].map(|name| lab.instance(name));
    let before = ends.map(received);
    let here = lab.instance("here");
    let one = Packet::udp(&format!("{}:5000", here.v4()), "192.0.2.1:9", b"").frame(own(here), to);
    send(here, &vec![one; MANY as usize]);
    let arrived = || [0, 1].map(|end| received(ends[end]) - before[end] >= MANY);
    wait_until("it arrives somewhere", || arrived() != [false; 2]);
    std::thread::sleep(Duration::from_millis(200));
    arrived()
}

/// Sends one frame, of which nothing but this reason remains.
fn refused(lab: &Lab, from: &str, reason: &str, frame: &[u8]) {
    let before = (lab.dropped(reason), lab.total("sgswitch_connections_inserted_total"));
    send(lab.instance(from), &[frame.to_vec()]);
    wait_until(&format!("{reason}, from {from}"), || lab.dropped(reason) == before.0 + 1);
    assert_eq!(lab.total("sgswitch_connections_inserted_total"), before.1, "{reason}, from {from}");
}

#[test]
fn hosts_are_where_the_policy_says_and_nobody_else_is_there_in_their_names() {
    let mut lab = Lab::new(&["here", "near", "far"]);
    lab.start(&Options::default());
    lab.push(&policy(&lab, Some("far")));
    let [here, near, far] = ["here", "near", "far"].map(|name| lab.instance(name).clone());

    // Nobody was heard yet, and what is for them goes to them alone.
    assert_eq!(reached(&lab, own(&far)), [false, true], "an interface");
    assert_eq!(reached(&lab, own(&near)), [true, false], "a host that is no interface");
    assert_eq!(reached(&lab, mac(0xaa)), [true, true], "of others it is not known");

    let _served =
        [["tcp-echo", OPEN], ["udp-echo", OPEN], ["tcp-echo", SHUT]].map(|words| here.serve(&words));
    for host in [here.v4(), here.v6()] {
        assert!(far.probe(&["tcp", &host, OPEN]), "{host}: {:?}", lab.sgctl(&["drops"]));
        assert!(far.probe(&["udp", &host, OPEN]), "{host}: {:?}", lab.sgctl(&["drops"]));
        let opened = ask([&|| far.probe(&["tcp", &host, SHUT]), &|| near.probe(&["tcp", &host, OPEN])]);
        assert_eq!(opened, [false; 2], "TCP {SHUT}, and who is no member of the group, at {host}");
    }
    assert_eq!(lab.dropped("wrong_uplink"), 0, "everybody is in his place");

    // In the name of the member by the other uplink: with its MAC and address, with its
    // address alone, in ARP; and by its own, in the name of the router at the other.
    let asks = |from: &str| Packet::udp(&format!("{from}:5000"), &format!("{}:{OPEN}", here.v4()), b"hello");
    let member = asks(&far.v4());
    refused(&lab, "near", "wrong_uplink", &member.frame(own(&far), own(&here)));
    refused(&lab, "near", "wrong_uplink", &member.frame(own(&near), own(&here)));
    refused(&lab, "near", "wrong_uplink", &member.frame(own(&far), MacAddr::BROADCAST));
    let claim = arp(2, (own(&near), &far.v4()), (own(&here), &here.v4()));
    refused(&lab, "near", "spoofed_arp", &claim);
    refused(&lab, "far", "wrong_uplink", &asks("192.0.2.1").frame(own(&near), own(&here)));
    // In its name within the other VPC of its uplink, and under a tag of none.
    let tagged = |vlan| member.tagged(own(&far), own(&here), VlanId(vlan));
    refused(&lab, "far", "no_destination", &tagged(8));
    refused(&lab, "far", "unexpected_vlan", &tagged(9));
    assert_eq!(lab.dropped("wrong_uplink"), 4);
    let said = lab.sgctl(&[
        "explain",
        "--from",
        &eni("far"),
        "--to",
        &eni("here"),
        "--protocol",
        "tcp",
        "--port",
        OPEN,
    ]);
    assert!(said.1.contains("only if it comes by far"), "{said:?}");
    // A capture of it, as it came and as it should have come.
    let file = lab.folder().join("member.pcap");
    std::fs::write(&file, capture(&[member.frame(own(&far), own(&here))])).unwrap();
    let told = |by: &[&str]| {
        let (status, text) =
            lab.sgctl(&[&["-o", "json", "explain", "--pcap", file.to_str().unwrap()], by].concat());
        assert_eq!(status, 0, "{text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        let stages = answer["Packets"][0]["Stages"].as_array().unwrap().clone();
        stages.last().unwrap()["Text"].as_str().unwrap().to_string()
    };
    assert_eq!(told(&["--by", "near"]), format!("dropped: wrong_uplink ({} is behind far)", far.mac()));
    assert!(told(&[]).starts_with("passed"), "{}", told(&[]));
    // Nothing of it has moved anybody.
    assert_eq!(reached(&lab, own(&far)), [false, true]);
    assert_eq!(reached(&lab, own(&near)), [true, false]);
    assert!(far.probe(&["tcp", &here.v4(), OPEN]));

    // What is exported is what is in force.
    let (status, exported) = lab.sgctl(&["export"]);
    assert_eq!(status, 0, "{exported}");
    let file = lab.folder().join("exported.json");
    std::fs::write(&file, &exported).unwrap();
    let (status, plan) = lab.sgctl(&["plan", file.to_str().unwrap()]);
    assert_eq!(status, 0, "{plan}");
    let (_, shown) = lab.sgctl(&["show", "interfaces"]);
    assert!(shown.contains("behind far"), "{shown}");

    // The policy moves it, while it talks: what comes from its old place is refused at once.
    let mut talk = far.talk("tcp", &here.v4(), OPEN.parse().unwrap()).expect("a conversation");
    assert!(talk.lives());
    let before = lab.dropped("wrong_uplink");
    lab.push(&policy(&lab, Some("near")));
    assert!(!talk.lives());
    assert!(lab.dropped("wrong_uplink") > before);
    assert_eq!(reached(&lab, own(&far)), [true, false]);
    // Said of nobody, it is where it is heard.
    lab.push(&policy(&lab, None));
    wait_until("it is heard", || far.probe(&["tcp", &here.v4(), OPEN]));
    assert_eq!(reached(&lab, own(&far)), [false, true]);
}

#[test]
fn behind_an_uplink_that_was_removed_nobody_is_reached() {
    let mut lab = Lab::new(&["here", "near", "far"]);
    lab.start(&Options::default());
    lab.push(&policy(&lab, Some("far")));
    let [here, far] = ["here", "far"].map(|name| lab.instance(name).clone());
    let _served = here.serve(&["tcp-echo", OPEN]);
    assert!(far.probe(&["tcp", &here.v4(), OPEN]));
    let (status, text) = lab.sgctl(&["port", "remove", "far", "--force"]);
    assert_eq!(status, 0, "{text}");
    let to_far = Packet::udp(&format!("{}:5000", here.v4()), "192.0.2.1:9", b"").frame(own(&here), own(&far));
    let at_near = received(lab.instance("near"));
    let before = lab.dropped("no_destination");
    send(&here, &vec![to_far; MANY as usize]);
    wait_until("it leads nowhere", || lab.dropped("no_destination") >= before + MANY);
    assert!(received(lab.instance("near")) - at_near < MANY, "and not to the other uplink");
    // Nor does it come by the one that is left.
    let member = Packet::udp(&format!("{}:5000", far.v4()), &format!("{}:{OPEN}", here.v4()), b"hello");
    refused(&lab, "near", "wrong_uplink", &member.frame(own(&far), own(&here)));
    let (status, text) = lab.sgctl(&["port", "add", "far", &far.device()]);
    assert_eq!(status, 0, "{text}");
    wait_until("it is back", || far.probe(&["tcp", &here.v4(), OPEN]));
}

/// An instance of a VPC that the uplink `trunk` carries, under this tag, and one of another.
fn apart(lab: &Lab, vlan: Option<u16>) -> Value {
    let mut groups = [group("sg-here", &[], &[all()]), group("sg-other", &[], &[all()])];
    groups[1]["VpcId"] = json!("vpc-2");
    let members: [(&str, &[&str]); 2] = [("here", &["sg-here"]), ("other", &["sg-other"])];
    let mut policy = document(lab, &groups, &members);
    policy["NetworkInterfaces"][1]["VpcId"] = json!("vpc-2");
    policy["NetworkInterfaces"][1]["Ipv6Addresses"] = json!([]);
    let uplink = json!({ "Uplink": "trunk", "VpcId": "vpc-1", "VlanId": vlan });
    policy["Bindings"].as_array_mut().unwrap().push(uplink);
    policy
}

/// Has the stack of an instance say nothing by itself any more.
fn mute(instance: &Instance) {
    let netns = instance.netns();
    run(&format!("ip netns exec {netns} sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1"));
    run(&format!("ip -n {netns} addr flush dev eth0"));
}

/// What a bridge knows of who is where: a line for each MAC.
fn known(bridge: &str) -> Vec<String> {
    run(&format!("bridge {bridge}")).lines().map(String::from).collect()
}

/// Whether a bridge has learnt that a MAC is at this port of it.
fn is_at(bridge: &str, who: &Instance, place: &str) -> bool {
    known(bridge).iter().any(|line| line.starts_with(&format!("{} dev {place} ", who.mac())))
}

#[test]
fn a_bond_that_changes_over_says_who_is_here() {
    let mut lab =
        Lab::of(&[("here", Kind::PacketSocket), ("other", Kind::PacketSocket), ("trunk", Kind::Bond)]);
    lab.start(&Options::default());
    lab.push(&apart(&lab, None));
    let [here, other, trunk] = ["here", "other", "trunk"].map(|name| lab.instance(name).clone());
    let bridge = format!("fdb show br {}c", trunk.host());
    let announced = || lab.total("sgswitch_announcements_total");
    let members = trunk.members();
    [&here, &other].into_iter().for_each(mute);
    let speaks = || {
        let packet = Packet::udp(&format!("{}:5000", here.v4()), "192.0.2.1:9", b"");
        send(&here, &[packet.frame(own(&here), mac(0xaa))]);
    };
    wait_until("the bond carries", || {
        speaks();
        is_at(&bridge, &here, &members[0])
    });
    // Looked at once a second: the member that sends has to be seen.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(announced(), 0, "nothing has changed");
    // Each time the bridge learns it without a word of the instance.
    for (lost, (count, left)) in [(0, (1, 1)), (1, (2, 0))] {
        trunk.set_member(lost, false);
        wait_until("the bridge has heard of it", || is_at(&bridge, &here, &members[left]));
        assert_eq!(announced(), count);
        trunk.set_member(lost, true);
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(announced(), count, "a member that does not send is no change");
    }
    assert!(!known(&bridge).iter().any(|line| line.starts_with(&other.mac())), "{:?}", known(&bridge));
    assert_eq!(lab.total("sgswitch_port_link_losses_total"), 0, "the bond has kept its own");
}

#[test]
fn an_uplink_whose_link_returns_says_who_is_here() {
    let mut lab = Lab::new(&["here", "other", "trunk"]);
    lab.start(&Options::default());
    // The tag itself is looked at beside the worker's code: not every kernel has VLANs.
    lab.push(&apart(&lab, Some(7)));
    let [here, other, trunk] = ["here", "other", "trunk"].map(|name| lab.instance(name).clone());
    [&here, &other].into_iter().for_each(mute);
    let netns = trunk.netns();
    run(&format!("ip -n {netns} link add br0 type bridge mcast_snooping 0"));
    run(&format!("ip -n {netns} link set eth0 master br0"));
    run(&format!("ip -n {netns} link set br0 up"));
    let bridge = format!("-n {netns} fdb show br br0");
    let (announced, losses) =
        (|| lab.total("sgswitch_announcements_total"), || lab.total("sgswitch_port_link_losses_total"));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!((losses(), announced()), (0, 0), "the first link is no change");
    for round in 1..=2 {
        run(&format!("ip -n {netns} link set eth0 down"));
        wait_until("the link is lost", || losses() == round);
        assert!(!is_at(&bridge, &here, "eth0"), "the bridge forgets with the link");
        assert_eq!(announced(), round - 1, "nobody is told by a link that is not there");
        run(&format!("ip -n {netns} link set eth0 up"));
        wait_until("the bridge has heard of it", || is_at(&bridge, &here, "eth0"));
        assert_eq!(announced(), round);
    }
    assert!(!known(&bridge).iter().any(|line| line.starts_with(&other.mac())), "{:?}", known(&bridge));
}
