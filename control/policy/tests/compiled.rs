//! Compiled tables against the oracle, and what generations share.

mod common;

use std::sync::Arc;

use common::{context, group, interface, ports};
use engine::addr::Family;
use engine::policy::{Direction, Policy, Query, Service};
use engine::snapshot::Snapshot;
use engine::verdict::Judgement;
use policy::oracle::{self, Packet};
use policy::{Compiler, Validated, self_check, validate};
use proptest::prelude::*;
use serde_json::{Value, json};

const REMOTES: [&str; 14] = [
    "10.0.0.11",
    "10.0.0.12",
    "10.0.0.13",
    "10.0.1.16",
    "10.0.1.31",
    "10.0.1.32",
    "10.1.0.11",
    "10.1.0.12",
    "192.0.2.1",
    "203.0.113.7",
    "2001:db8::11",
    "2001:db8::12",
    "2001:db8:1::1",
    "2001:db8:ffff::1",
];
const BLOCKS_4: [&str; 7] =
    ["0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "10.0.0.0/8", "10.0.0.11/32", "10.0.1.16/28", "203.0.113.0/24"];
const BLOCKS_6: [&str; 4] = ["::/0", "2001:db8::/32", "2001:db8::11/128", "2001:db8:1::/48"];
const GROUPS: [&str; 5] = ["sg-1", "sg-2", "sg-3", "sg-9", "sg-gone"];
const PORTS: [u16; 9] = [0, 21, 22, 23, 79, 80, 81, 40_000, 65_535];

fn services() -> impl Strategy<Value = Value> {
    let range = prop_oneof![
        Just((0u16, 65_535u16)),
        (prop::sample::select(&PORTS[..]), prop::sample::select(&PORTS[..]))
            .prop_map(|(a, b)| (a.min(b), a.max(b))),
    ];
    let ports = (prop::sample::select(&["tcp", "udp"][..]), range)
        .prop_map(|(p, (from, to))| json!({ "IpProtocol": p, "FromPort": from, "ToPort": to }));
    let icmp = (
        prop::sample::select(&["icmp", "icmpv6"][..]),
        prop::sample::select(&[(-1, -1), (8, -1), (8, 0), (128, 0), (3, 4)][..]),
    )
        .prop_map(|(p, (t, c))| json!({ "IpProtocol": p, "FromPort": t, "ToPort": c }));
    let others =
        prop::sample::select(&["-1", "47", "132", "50"][..]).prop_map(|p| json!({ "IpProtocol": p }));
    prop_oneof![4 => ports, 1 => icmp, 1 => others]
}

fn permission() -> impl Strategy<Value = Value> {
    let source = prop_oneof![
        3 => prop::sample::select(&BLOCKS_4[..]).prop_map(|b| json!({ "IpRanges": [{ "CidrIp": b }] })),
        2 => prop::sample::select(&BLOCKS_6[..]).prop_map(|b| json!({ "Ipv6Ranges": [{ "CidrIpv6": b }] })),
        1 => prop::sample::select(&["pl-4", "pl-6", "pl-none"][..]).prop_map(|p| json!({ "PrefixListIds": [{ "PrefixListId": p }] })),
        3 => prop::sample::select(&GROUPS[..]).prop_map(|g| json!({ "UserIdGroupPairs": [{ "GroupId": g, "PeeringStatus": "active" }] })),
    ];
    (services(), source).prop_map(|(mut service, source)| {
        service.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
        service
    })
}

/// Permissions, none of which is there twice.
fn permissions() -> impl Strategy<Value = Value> {
    prop::collection::vec(permission(), 0..5).prop_map(|items| {
        let mut unique: Vec<Value> = Vec::new();
        for item in items {
            if !unique.contains(&item) {
                unique.push(item);
            }
        }
        json!(unique)
    })
}

/// Two peered VPCs, three groups in one and one in the other, and four
/// interfaces, one of them with a delegated prefix.
fn documents() -> impl Strategy<Value = Value> {
    let rules = prop::collection::vec((permissions(), permissions()), 4);
    let members = prop::collection::vec(prop::sample::subsequence(vec!["sg-1", "sg-2", "sg-3"], 0..=3), 3);
    (rules, members, any::<bool>()).prop_map(|(rules, members, peered)| {
        let groups: Vec<Value> = [("sg-1", "vpc-1"), ("sg-2", "vpc-1"), ("sg-3", "vpc-1"), ("sg-9", "vpc-2")]
            .into_iter()
            .zip(rules)
            .map(|((id, vpc), (inbound, outbound))| group(id, vpc, inbound, outbound))
            .collect();
        let mut one = interface("eni-1", "vpc-1", "10.0.0.11", &members[0]);
        one["Ipv6Addresses"] = json!([{ "Ipv6Address": "2001:db8::11" }]);
        let mut two = interface("eni-2", "vpc-1", "10.0.0.12", &members[1]);
        two["Ipv4Prefixes"] = json!([{ "Ipv4Prefix": "10.0.1.16/28" }]);
        two["Ipv6Prefixes"] = json!([{ "Ipv6Prefix": "2001:db8:1::/80" }]);
        let three = interface("eni-3", "vpc-1", "10.0.0.13", &members[2]);
        let nine = interface("eni-9", "vpc-2", "10.1.0.11", &["sg-9"]);
        json!({
            "SecurityGroups": groups,
            "NetworkInterfaces": [one, two, three, nine],
            "VpcPeeringConnections": [{
                "VpcPeeringConnectionId": "pcx-1",
                "RequesterVpcInfo": { "VpcId": "vpc-1" }, "AccepterVpcInfo": { "VpcId": "vpc-2" },
                "Status": { "Code": if peered { "active" } else { "deleted" } },
            }],
            "PrefixLists": [
                { "PrefixListId": "pl-4", "AddressFamily": "IPv4", "MaxEntries": 5 },
                { "PrefixListId": "pl-6", "AddressFamily": "IPv6", "MaxEntries": 5 },
                { "PrefixListId": "pl-none", "AddressFamily": "IPv4", "MaxEntries": 5 },
            ],
            "PrefixListEntries": {
                "pl-4": [{ "Cidr": "192.0.2.0/24" }, { "Cidr": "10.0.0.12/31" }, { "Cidr": "192.0.2.0/30" }],
                "pl-6": [{ "Cidr": "2001:db8:ffff::/48" }],
            },
            "Bindings": [{ "NetworkInterfaceId": "eni-1", "Port": "p1" }, { "Uplink": "up", "VpcId": "vpc-2", "VlanId": 9 }],
        })
    })
}

fn packets() -> impl Strategy<Value = Packet> {
    let protocol = prop::sample::select(&[6u8, 6, 6, 17, 17, 1, 58, 47, 132, 50][..]);
    let port = prop_oneof![
        3 => prop::sample::select(&PORTS[..]),
        1 => prop::sample::select(&[0x0800u16, 0x0801, 0x8000, 0x0304][..]),
    ];
    let remote = prop::sample::select(&REMOTES[..]).prop_map(|text| text.parse().unwrap());
    (remote, protocol, port.clone(), port).prop_map(|(remote, protocol, port, source_port)| {
        let ported = matches!(protocol, 6 | 17);
        let icmp = matches!(protocol, 1 | 58);
        Packet {
            remote,
            protocol,
            port: if ported || icmp { port } else { 0 },
            source_port: if ported { source_port } else { 0 },
        }
    })
}

fn read(document: &Value) -> Validated {
    match validate(document, &context(&ports())) {
        Ok((policy, _)) => policy,
        Err(faults) => panic!("{faults:?}"),
    }
}

fn ask(
    compiler: &Compiler,
    snapshot: &Snapshot,
    id: &str,
    direction: Direction,
    packet: &Packet,
) -> Judgement {
    let interface = snapshot.interfaces.get(compiler.interface_id(id).unwrap()).unwrap();
    let family = if packet.remote.is_ipv4() { Family::V4 } else { Family::V6 };
    let service = |port| Service::new(family, packet.protocol, port);
    let query = Query {
        vpc: interface.vpc,
        family,
        service: service(packet.port),
        reply_service: matches!(packet.protocol, 6 | 17).then(|| service(packet.source_port)),
        remote: packet.remote.into(),
    };
    interface.policy.judge(&snapshot.tables, direction, &query)
}

/// Asks both about packets at every interface, in both directions.
fn agree(policy: &Validated, compiler: &Compiler, snapshot: &Snapshot, packets: &[Packet]) {
    for interface in policy.interfaces.values() {
        for direction in [Direction::Inbound, Direction::Outbound] {
            for packet in packets {
                let compiled = ask(compiler, snapshot, &interface.id, direction, packet);
                let (oracle, rules) = oracle::judge(policy, interface, direction, packet);
                assert_eq!(compiled, oracle, "{packet:?} {direction:?} at {} by {rules:?}", interface.id);
            }
        }
    }
    self_check(policy, compiler, snapshot, 100_000).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn s6_s19_s27_s29_s37_s40_d11_tables_and_rules_agree(
        document in documents(),
        packets in prop::collection::vec(packets(), 60),
    ) {
        let policy = read(&document);
        let mut compiler = Compiler::new(8);
        let snapshot = compiler.compile(&policy, 1, &ports()).unwrap();
        agree(&policy, &compiler, &snapshot, &packets);
    }

    #[test]
    fn s5_generations_in_a_row_agree_and_ids_stay(
        documents in prop::collection::vec(documents(), 2..5),
        packets in prop::collection::vec(packets(), 20),
    ) {
        let mut compiler = Compiler::new(8);
        let mut ids = None;
        for (generation, document) in (1..).zip(&documents) {
            let policy = read(document);
            let snapshot = compiler.compile(&policy, generation, &ports()).unwrap();
            agree(&policy, &compiler, &snapshot, &packets);
            let now: Vec<_> = policy.interfaces.keys().map(|id| compiler.interface_id(id).unwrap()).collect();
            prop_assert_eq!(&now, ids.get_or_insert(now.clone()));
        }
    }

    #[test]
    fn an_exported_policy_is_the_same_policy(document in documents()) {
        let policy = read(&document);
        prop_assert_eq!(read(&policy.to_document()), policy);
    }
}

fn tcp(port: u16, block: &str) -> Value {
    json!({ "IpProtocol": "tcp", "FromPort": port, "ToPort": port, "IpRanges": [{ "CidrIp": block }] })
}

fn everything() -> Value {
    json!([{ "IpProtocol": "-1", "IpRanges": [{ "CidrIp": "0.0.0.0/0" }] }])
}

/// Two interfaces, each with a group of its own.
fn pair(web: Value, db: Value, members: &[(&str, &str, &str)]) -> Validated {
    let interfaces: Vec<_> = members.iter().map(|(id, ip, g)| interface(id, "vpc-1", ip, &[*g])).collect();
    read(&json!({
        "SecurityGroups": [group("sg-web", "vpc-1", web, everything()), group("sg-db", "vpc-1", db, everything())],
        "NetworkInterfaces": interfaces,
    }))
}

const BOTH: [(&str, &str, &str); 2] = [("eni-1", "10.0.0.11", "sg-web"), ("eni-2", "10.0.0.12", "sg-db")];

fn policy_of(compiler: &Compiler, snapshot: &Snapshot, id: &str) -> Arc<Policy> {
    snapshot.interfaces.get(compiler.interface_id(id).unwrap()).unwrap().policy.clone()
}

#[test]
fn what_did_not_change_is_shared() {
    let mut compiler = Compiler::new(8);
    let db = json!([{ "IpProtocol": "tcp", "FromPort": 1, "ToPort": 2, "UserIdGroupPairs": [{ "GroupId": "sg-web" }] }]);
    let before =
        compiler.compile(&pair(json!([tcp(80, "10.0.0.0/8")]), db.clone(), &BOTH), 1, &ports()).unwrap();
    let one = (policy_of(&compiler, &before, "eni-1"), policy_of(&compiler, &before, "eni-2"));

    // Another port: the policy of its group alone is new.
    let after =
        compiler.compile(&pair(json!([tcp(81, "10.0.0.0/8")]), db.clone(), &BOTH), 2, &ports()).unwrap();
    let two = (policy_of(&compiler, &after, "eni-1"), policy_of(&compiler, &after, "eni-2"));
    assert!(!Arc::ptr_eq(&one.0, &two.0) && Arc::ptr_eq(&one.1, &two.1));
    assert!(Arc::ptr_eq(&before.tables.cidrs, &after.tables.cidrs));

    // Another member: no policy is new (S34).
    let members = [BOTH[0], BOTH[1], ("eni-3", "10.0.0.13", "sg-web")];
    let joined = compiler.compile(&pair(json!([tcp(81, "10.0.0.0/8")]), db, &members), 3, &ports()).unwrap();
    for (id, policy) in [("eni-1", &two.0), ("eni-2", &two.1), ("eni-3", &two.0)] {
        assert!(Arc::ptr_eq(&policy_of(&compiler, &joined, id), policy), "{id}");
    }
    let packet =
        |remote: &str| Packet { remote: remote.parse().unwrap(), protocol: 6, port: 2, source_port: 9 };
    let inbound = |snapshot, remote| ask(&compiler, snapshot, "eni-2", Direction::Inbound, &packet(remote));
    assert_eq!(inbound(&joined, "10.0.0.13"), Judgement::Tracked);
    assert_eq!(inbound(&after, "10.0.0.13"), Judgement::Denied);
}

#[test]
fn s45_what_was_open_to_everyone_is_remembered_until_it_is_again() {
    let mut compiler = Compiler::new(8);
    let mut revoked = |generation, web: Value| {
        let policy = pair(web, json!([]), &BOTH);
        let snapshot = compiler.compile(&policy, generation, &ports()).unwrap();
        let of = |id| snapshot.interfaces.get(compiler.interface_id(id).unwrap()).unwrap().revoked.clone();
        assert!(of("eni-2").is_none(), "nothing was taken from it");
        of("eni-1").map(|r| {
            let service = |port| Service::new(Family::V4, 6, port);
            let any = &r.any[Direction::Inbound as usize][Family::V4 as usize];
            [22, 80].map(|port| any.contains(service(port)))
        })
    };
    let both = json!([tcp(80, "0.0.0.0/0"), tcp(22, "0.0.0.0/0")]);
    assert_eq!(revoked(1, both.clone()), None);
    assert_eq!(revoked(2, json!([tcp(80, "0.0.0.0/0")])), Some([true, false]));
    assert_eq!(revoked(3, json!([])), Some([true, true]));
    assert_eq!(revoked(4, json!([])), Some([true, true]), "a push that changes nothing changes nothing");
    assert_eq!(revoked(5, json!([tcp(22, "0.0.0.0/0")])), Some([false, true]));
    assert_eq!(revoked(6, both), None);
    assert_eq!(
        revoked(7, json!([tcp(80, "10.0.0.0/8")])),
        Some([true, true]),
        "narrowed is no longer for everyone"
    );
}

#[test]
fn a_slot_comes_back_as_another_incarnation() {
    let mut compiler = Compiler::new(2);
    compiler.compile(&pair(json!([]), json!([]), &BOTH), 1, &ports()).unwrap();
    let old = compiler.interface_id("eni-2").unwrap();
    let next = [BOTH[0], ("eni-3", "10.0.0.13", "sg-db")];
    let snapshot = compiler.compile(&pair(json!([]), json!([]), &next), 2, &ports()).unwrap();
    let new = compiler.interface_id("eni-3").unwrap();
    assert_eq!((new.slot(), compiler.interface_id("eni-2")), (old.slot(), None));
    assert_ne!(new.incarnation(), old.incarnation());
    assert!(snapshot.interfaces.get(old).is_none() && snapshot.interfaces.get(new).is_some());
}

#[test]
fn too_many_interfaces_are_refused_and_nothing_changes() {
    let mut compiler = Compiler::new(2);
    compiler.compile(&pair(json!([]), json!([]), &BOTH), 1, &ports()).unwrap();
    let ids = ["eni-1", "eni-2"].map(|id| compiler.interface_id(id).unwrap());
    let three = [("eni-3", "10.0.0.13", "sg-db"), ("eni-4", "10.0.0.14", "sg-db"), BOTH[0]];
    let faults = compiler.compile(&pair(json!([]), json!([]), &three), 2, &ports()).unwrap_err();
    assert_eq!(faults.errors[0].path, "NetworkInterfaces");
    assert!(faults.errors[0].message.contains("3 interfaces are more than the 2"), "{faults:?}");
    compiler.compile(&pair(json!([]), json!([]), &BOTH), 2, &ports()).unwrap();
    assert_eq!(["eni-1", "eni-2"].map(|id| compiler.interface_id(id).unwrap()), ids);
}

#[test]
fn s20_hundreds_of_rules_on_one_interface_work() {
    // 16 groups of 62 rules, which is as much as quotas may allow together.
    let ids: Vec<String> = (0..16).map(|n| format!("sg-{n}")).collect();
    let groups = ids.iter().enumerate().map(|(g, id)| {
        let rule = |r: usize| tcp(1000 + r as u16, &format!("192.0.{g}.{r}/32"));
        group(id, "vpc-1", (0..62).map(rule).collect(), json!([]))
    });
    let named: Vec<&str> = ids.iter().map(String::as_str).collect();
    let document = |rules: usize| {
        json!({
            "SecurityGroups": groups.clone().collect::<Value>(),
            "NetworkInterfaces": [interface("eni-1", "vpc-1", "10.0.0.11", &named)],
            "Settings": { "Quotas": { "RulesPerSecurityGroup": rules, "SecurityGroupsPerInterface": 16 } },
        })
    };
    let policy = read(&document(62));
    let mut compiler = Compiler::new(4);
    let snapshot = compiler.compile(&policy, 1, &ports()).unwrap();
    self_check(&policy, &compiler, &snapshot, 20_000).unwrap();
    let judged = |block: usize, last: usize, port: usize| {
        let packet = Packet {
            remote: format!("192.0.{block}.{last}").parse().unwrap(),
            protocol: 6,
            port: port as u16,
            source_port: 9,
        };
        ask(&compiler, &snapshot, "eni-1", Direction::Inbound, &packet)
    };
    for g in 0..16 {
        for r in 0..62 {
            assert_eq!(judged(g, r, 1000 + r), Judgement::Tracked);
            assert_eq!(judged(g, r, 1001 + r), Judgement::Denied);
            assert_eq!(judged(g, r + 62, 1000 + r), Judgement::Denied);
        }
    }
    let ports = ports();
    let refused = validate(&document(63), &context(&ports)).unwrap_err();
    assert_eq!(refused.errors[0].path, "Settings.Quotas", "the product is bounded");
}
