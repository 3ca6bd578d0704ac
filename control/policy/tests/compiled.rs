//! Compiled tables against the oracle, and what generations share.

mod common;
#[path = "common/generate.rs"]
mod generate;
#[path = "common/packets.rs"]
mod packets;

use std::sync::Arc;

use common::{context, group, interface, ports};
use engine::addr::Family;
use engine::policy::{Direction, Policy, Query, Service};
use engine::snapshot::Snapshot;
use engine::verdict::Judgement;
use generate::documents;
use packets::{packets, read};
use policy::oracle::{self, Packet};
use policy::{Compiler, Validated, self_check, validate};
use proptest::prelude::*;
use serde_json::{Value, json};

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
