//! The compiled policy and the pipeline against the executable specification:
//! random packets, changes of policy and time, every verdict, reason, class and
//! connection compared.

use std::collections::BTreeMap;
use std::net::IpAddr;

use engine::addr::MacAddr;
use engine::packet::TcpFlags;
use engine::packet::build::{Packet as Frame, mac};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use system_tests::product::Product;
use system_tests::specification::{
    Group, Kind, PORTS, Packet, Peer, Policy, Rule, Segment, Service, Switch, Verdict,
};

/// Interfaces of the switch, on ports of the same numbers; the uplink comes after them.
const INTERFACES: usize = 3;

/// Hosts beyond the uplink, by number behind the interfaces.
const HOSTS: [[&str; 2]; 2] = [["198.51.100.7", "2001:db8::7"], ["198.51.100.8", "2001:db8::8"]];

fn participants() -> std::ops::Range<usize> {
    0..INTERFACES + HOSTS.len()
}

fn address(policy: &Policy, who: usize, v6: bool) -> IpAddr {
    match who.checked_sub(INTERFACES) {
        None => policy.addresses[who][usize::from(v6)],
        Some(host) => HOSTS[host][usize::from(v6)].parse().unwrap(),
    }
}

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    /// A packet between two participants.
    Packet {
        from: usize,
        to: usize,
        v6: bool,
        ports: (u16, u16),
        kind: Kind,
    },
    /// An ICMP error from a participant, about a packet between two others.
    Error {
        by: usize,
        from: usize,
        to: usize,
        v6: bool,
        ports: (u16, u16),
        kind: Kind,
    },
    /// Time.
    Wait(u32),
    /// Another policy.
    Group(usize, Group),
    Members(usize, Vec<usize>),
    Swap(usize, usize),
    Force(usize, bool),
}

fn service() -> impl Strategy<Value = Service> {
    prop_oneof![
        3 => Just(Service::All),
        3 => select(&PORTS[..]).prop_map(|port| Service::Tcp(port, port)),
        2 => select(&PORTS[..]).prop_map(|port| Service::Udp(port, port)),
        1 => Just(Service::Tcp(0, 65535)),
        1 => Just(Service::Udp(0, 65535)),
        1 => Just(Service::Tcp(23, 442)),
        1 => select(vec![None, Some(8), Some(0), Some(3)]).prop_map(Service::Icmp),
        1 => select(vec![None, Some(128), Some(129), Some(1)]).prop_map(Service::Icmpv6),
        1 => select(vec![47, 50]).prop_map(Service::Other),
    ]
}

fn peer() -> impl Strategy<Value = Peer> {
    let block = |text: &str, length| Peer::Cidr(text.parse().unwrap(), length);
    prop_oneof![
        3 => Just(block("0.0.0.0", 0)),
        2 => Just(block("::", 0)),
        3 => (0..3usize).prop_map(Peer::Group),
        1 => select(vec![
            block("0.0.0.0", 1), block("128.0.0.0", 1), block("10.0.0.0", 8), block("10.0.0.2", 32),
            block("198.51.100.8", 29), block("2001:db8::8", 128), block("fd00::", 16), block("8000::", 1),
        ]),
    ]
}

fn group() -> impl Strategy<Value = Group> {
    let rules = || {
        prop::collection::vec((service(), peer()).prop_map(|(service, peer)| Rule { service, peer }), 0..5)
            .prop_map(|rules| {
                // The same rule twice is refused.
                rules.into_iter().fold(vec![], |mut all, rule| {
                    if !all.contains(&rule) {
                        all.push(rule);
                    }
                    all
                })
            })
    };
    (rules(), rules()).prop_map(|(inbound, outbound)| Group { inbound, outbound })
}

fn members() -> impl Strategy<Value = Vec<usize>> {
    select(vec![vec![0], vec![1], vec![2], vec![0, 1], vec![1, 2], vec![0, 1, 2]])
}

fn policies() -> impl Strategy<Value = Policy> {
    let each = |strategy| prop::collection::vec(strategy, INTERFACES);
    (prop::collection::vec(group(), 3), each(members()), select(vec![false, false, true])).prop_map(
        |(groups, members, differing)| Policy {
            groups,
            members,
            addresses: (1..=INTERFACES)
                .map(|n| [format!("10.0.0.{n}"), format!("fd00::{n}")].map(|a| a.parse().unwrap()))
                .collect(),
            forced: vec![false; INTERFACES],
            udp_timeouts: if differing { vec![(30, 60), (60, 180), (45, 90)] } else { vec![(30, 180); 3] },
        },
    )
}

fn kind() -> impl Strategy<Value = Kind> {
    use Segment::{Ack, Fin, Reset, Syn, SynAck};
    prop_oneof![
        6 => select(vec![Syn, Syn, SynAck, Ack, Ack, Fin, Reset]).prop_map(Kind::Tcp),
        3 => Just(Kind::Udp),
        1 => select(vec![Kind::Ping, Kind::Pong]),
        1 => select(vec![47, 50]).prop_map(Kind::Other),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    // Few of each, so that packets meet again.
    let ports = || (select(&PORTS[4..]), select(&PORTS[..4]));
    let v6 = || prop::bool::weighted(0.3);
    let turned = |ports: (u16, u16), turned| if turned { (ports.1, ports.0) } else { ports };
    prop_oneof![
        20 => (participants(), participants(), v6(), ports(), any::<bool>(), kind()).prop_map(
            move |(from, to, v6, ports, back, kind)| {
                Step::Packet { from, to, v6, ports: turned(ports, back), kind }
            }
        ),
        2 => (participants(), participants(), participants(), v6(), ports(), any::<bool>(), kind()).prop_map(
            move |(by, from, to, v6, ports, back, kind)| {
                Step::Error { by, from, to, v6, ports: turned(ports, back), kind }
            }
        ),
        2 => select(vec![1, 9, 10, 11, 29, 31, 61, 179, 181, 599, 601]).prop_map(Step::Wait),
        2 => (0..3usize, group()).prop_map(|(at, group)| Step::Group(at, group)),
        1 => (0..INTERFACES, members()).prop_map(|(at, groups)| Step::Members(at, groups)),
        1 => (0..INTERFACES, 0..INTERFACES).prop_map(|(a, b)| Step::Swap(a, b)),
        1 => (0..INTERFACES, any::<bool>()).prop_map(|(at, forced)| Step::Force(at, forced)),
    ]
}

/// Packets of few flows, going back and forth: most steps are about the last flow.
fn scenarios() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((steps(), prop::bool::weighted(0.7), any::<bool>()), 1..150).prop_map(|steps| {
        let mut last = None;
        let stay = |(step, stays, back): (Step, bool, bool)| {
            let Step::Packet { from, to, v6, ports, kind } = step else { return step };
            let (from, to, v6, ports) = match last {
                Some((from, to, v6, (sport, dport))) if stays && back => (to, from, v6, (dport, sport)),
                Some(same) if stays => same,
                _ => (from, to, v6, ports),
            };
            last = Some((from, to, v6, ports));
            Step::Packet { from, to, v6, ports, kind }
        };
        steps.into_iter().map(stay).collect()
    })
}

/// A packet of the specification, if there can be one: TCP roles go by port.
fn packet(
    policy: &Policy,
    from: usize,
    to: usize,
    v6: bool,
    ports: (u16, u16),
    kind: Kind,
) -> Option<Packet> {
    let is_local = |who| who < INTERFACES;
    if from == to || !(is_local(from) || is_local(to)) {
        return None;
    }
    let (src, dst) = (address(policy, from, v6), address(policy, to, v6));
    let is_client = ports.0 >= 5000;
    let (sport, dport) = match kind {
        Kind::Tcp(Segment::Syn) if !is_client => return None,
        Kind::Tcp(Segment::SynAck) if is_client => return None,
        Kind::Tcp(_) | Kind::Udp => ports,
        Kind::Ping => (ports.0, 0),
        Kind::Pong => (0, ports.0),
        Kind::Other(_) => (0, 0),
    };
    Some(Packet { src, dst, sport, dport, kind })
}

fn socket(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

/// The packet as honest ends would send it.
fn built(packet: &Packet) -> Frame {
    let (from, to) = (socket(packet.src, packet.sport), socket(packet.dst, packet.dport));
    let is_client = packet.sport >= 5000;
    let (seq, ack) = if is_client { (101, 201) } else { (201, 101) };
    let (src, dst) = (packet.src.to_string(), packet.dst.to_string());
    match packet.kind {
        Kind::Tcp(segment) => {
            let (flags, seq, ack) = match segment {
                Segment::Syn => (TcpFlags::SYN, 100, 0),
                Segment::SynAck => (TcpFlags::SYN | TcpFlags::ACK, 200, 101),
                Segment::Ack => (TcpFlags::ACK, seq, ack),
                Segment::Fin => (TcpFlags::FIN | TcpFlags::ACK, seq, ack),
                Segment::Reset => (TcpFlags::RST | TcpFlags::ACK, seq, ack),
            };
            Frame::tcp(&from, &to, flags, seq, ack, b"")
        }
        Kind::Udp => Frame::udp(&from, &to, b"data"),
        Kind::Ping => Frame::ping(&src, &dst, packet.sport),
        Kind::Pong => Frame::pong(&src, &dst, packet.dport),
        Kind::Other(number) => Frame::new(packet.src.into(), packet.dst.into(), number, vec![0; 8]),
    }
}

/// The policy in AWS's shapes.
fn document(policy: &Policy) -> Value {
    let permission = |rule: &Rule| {
        let (protocol, from, to) = match rule.service {
            Service::All => ("-1".to_string(), -1, -1),
            Service::Tcp(low, high) => ("tcp".to_string(), low.into(), high.into()),
            Service::Udp(low, high) => ("udp".to_string(), low.into(), high.into()),
            Service::Icmp(kind) => ("icmp".to_string(), kind.map_or(-1, i32::from), -1),
            Service::Icmpv6(kind) => ("icmpv6".to_string(), kind.map_or(-1, i32::from), -1),
            Service::Other(number) => (number.to_string(), -1, -1),
        };
        let mut item = json!({ "IpProtocol": protocol });
        if protocol != "-1" {
            (item["FromPort"], item["ToPort"]) = (json!(from), json!(to));
        }
        match rule.peer {
            Peer::Cidr(block, length) if block.is_ipv4() => {
                item["IpRanges"] = json!([{ "CidrIp": format!("{block}/{length}") }]);
            }
            Peer::Cidr(block, length) => {
                item["Ipv6Ranges"] = json!([{ "CidrIpv6": format!("{block}/{length}") }]);
            }
            Peer::Group(group) => item["UserIdGroupPairs"] = json!([{ "GroupId": format!("sg-{group}") }]),
        }
        item
    };
    let group = |(n, group): (usize, &Group)| {
        json!({
            "GroupId": format!("sg-{n}"), "GroupName": format!("g{n}"), "Description": "a group", "VpcId": "vpc-1",
            "IpPermissions": group.inbound.iter().map(permission).collect::<Value>(),
            "IpPermissionsEgress": group.outbound.iter().map(permission).collect::<Value>(),
        })
    };
    let interface = |n: usize| {
        let [v4, v6] = policy.addresses[n];
        let (udp, stream) = policy.udp_timeouts[n];
        json!({
            "NetworkInterfaceId": format!("eni-{n}"), "VpcId": "vpc-1", "MacAddress": interface_mac(n).to_string(),
            "Groups": policy.members[n].iter().map(|g| json!({ "GroupId": format!("sg-{g}") })).collect::<Value>(),
            "PrivateIpAddresses": [{ "PrivateIpAddress": v4 }], "Ipv6Addresses": [{ "Ipv6Address": v6 }],
            "ConnectionTrackingConfiguration": { "UdpTimeout": udp, "UdpStreamTimeout": stream },
        })
    };
    let chosen = policy.forced.iter().enumerate().filter(|(_, forced)| **forced);
    let chosen = chosen.map(|(n, _)| (format!("eni-{n}"), json!({ "ForceTracking": true })));
    let served =
        (0..INTERFACES).map(|n| json!({ "NetworkInterfaceId": format!("eni-{n}"), "Port": format!("p{n}") }));
    json!({
        "SecurityGroups": policy.groups.iter().enumerate().map(group).collect::<Value>(),
        "NetworkInterfaces": (0..INTERFACES).map(interface).collect::<Value>(),
        "Bindings": served.chain([json!({ "Uplink": "up", "VpcId": "vpc-1" })]).collect::<Value>(),
        "Settings": { "NetworkInterfaces": Value::Object(chosen.collect()) },
    })
}

fn interface_mac(n: usize) -> MacAddr {
    mac(n as u8 + 1)
}

/// One packet from the participant that has its source.
fn judged(product: &mut Product, policy: &Policy, from: IpAddr, to: IpAddr, packet: &Frame) -> Verdict {
    let port = |address| policy.owner(address).unwrap_or(INTERFACES);
    let link = |address| policy.owner(address).map_or(mac(99), interface_mac);
    let (verdict, ports) = product.put(port(from), &packet.frame(link(from), link(to)));
    if let Verdict::Pass(_) = verdict {
        assert_eq!(ports, [port(to)], "it goes where it is addressed to");
    }
    verdict
}

fn push(product: &mut Product, policy: &Policy) {
    product.push(&document(policy)).unwrap_or_else(|faults| panic!("{faults:?}"));
}

fn changed(policy: &Policy, step: &Step) -> Option<Policy> {
    let mut next = policy.clone();
    match step {
        Step::Group(at, group) => next.groups[*at] = group.clone(),
        Step::Members(at, groups) => next.members[*at] = groups.clone(),
        Step::Swap(a, b) => next.addresses.swap(*a, *b),
        Step::Force(at, forced) => next.forced[*at] = *forced,
        Step::Packet { .. } | Step::Error { .. } | Step::Wait(_) => return None,
    }
    Some(next)
}

/// How often each verdict was given, to know that the scenarios reach what they are for.
type Seen = BTreeMap<String, usize>;

fn run(policy: Policy, steps: &[Step], seen: &mut Seen) -> Result<(), TestCaseError> {
    let mut product = Product::new(10_000);
    push(&mut product, &policy);
    let mut switch = Switch::new(policy);
    for (number, step) in steps.iter().enumerate() {
        let policy = switch.policy().clone();
        let verdicts = match *step {
            Step::Packet { from, to, v6, ports, kind } => {
                let Some(packet) = packet(&policy, from, to, v6, ports, kind) else { continue };
                let verdict = judged(&mut product, &policy, packet.src, packet.dst, &built(&packet));
                Some((verdict, switch.judge(&packet)))
            }
            Step::Error { by, from, to, v6, ports, kind } => {
                let Some(about) = packet(&policy, from, to, v6, ports, kind) else { continue };
                let by_address = address(&policy, by, v6);
                if by == from || !(by < INTERFACES || from < INTERFACES) {
                    continue;
                }
                let error_type = if v6 { 1 } else { 3 };
                let error = Frame::error_about(&by_address.to_string(), &built(&about), error_type, 0);
                let verdict = judged(&mut product, &policy, by_address, about.src, &error);
                Some((verdict, switch.judge_error(by_address, &about)))
            }
            Step::Wait(seconds) => {
                product.now += seconds;
                switch.wait(seconds);
                None
            }
            _ => None,
        };
        if let Some((verdict, specified)) = verdicts {
            prop_assert_eq!(verdict, specified, "step {}: {:?}", number, step);
            *seen.entry(format!("{verdict:?}")).or_default() += 1;
        }
        if let Some(next) = changed(&policy, step) {
            push(&mut product, &next);
            switch.push(next);
        }
        let specified: BTreeMap<_, _> = switch.connections().into_iter().collect();
        prop_assert_eq!(product.connections(), specified, "after step {}: {:?}", number, step);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn every_verdict_reason_and_connection_is_as_specified(policy in policies(), steps in scenarios()) {
        run(policy, &steps, &mut Seen::new())?;
    }
}

/// The scenarios reach every verdict there is, often enough to mean something.
#[test]
fn the_scenarios_reach_what_they_are_for() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut seen = Seen::new();
    for _ in 0..300 {
        let (policy, steps) = (policies(), scenarios()).new_tree(&mut runner).unwrap().current();
        run(policy, &steps, &mut seen).unwrap();
    }
    for verdict in ["new_tracked", "established", "untracked", "related"] {
        let count = seen.get(&format!("{:?}", Verdict::Pass(verdict))).copied().unwrap_or(0);
        assert!(count > 20, "{verdict}: {seen:?}");
    }
    for reason in ["outbound_denied", "inbound_denied", "rule_revoked"] {
        let count = seen.get(&format!("{:?}", Verdict::Drop(reason))).copied().unwrap_or(0);
        assert!(count > 5, "{reason}: {seen:?}");
    }
}
