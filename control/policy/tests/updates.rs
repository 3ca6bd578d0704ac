//! What a change costs, by what it touches and not by the clock; and that a
//! policy changed step by step is the policy compiled at once.

mod common;
#[path = "common/large.rs"]
mod large;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::{context, group, interface, ports};
use engine::policy::{Direction, SourceId};
use engine::snapshot::Snapshot;
use large::large;
use policy::oracle::Packet;
use policy::{
    Arena, Compiler, Edited, Rulebook, Validated, edit, oracle, self_check, self_check_changes,
    self_check_push, validate,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn read(document: &Value) -> Validated {
    let ports = ports();
    validate(document, &context(&ports)).unwrap_or_else(|faults| panic!("{faults:?}")).0
}

/// A large policy in force, and what an action makes of it.
struct Change {
    compiler: Compiler,
    before: Snapshot,
    after: Snapshot,
    policy: Validated,
}

fn change(policy: &Validated, action: &str, request: &Value) -> Change {
    let mut compiler = Compiler::new(20_000);
    let before = compiler.compile(policy, 1, &ports()).unwrap();
    let Edited { policy: next, is_settled, .. } =
        edit(policy, action, &Arena::default().tree(request)).unwrap().unwrap();
    assert!(is_settled, "{action} leaves nothing to validation");
    let after = compiler.compile(&next, 2, &ports()).unwrap();
    let book = Rulebook::new(Arc::new(policy.clone())).with(Arc::new(next.clone()));
    assert!(self_check_changes(&book, &compiler, &after, 64).unwrap() > 8);
    Change { compiler, before, after, policy: next }
}

#[test]
fn s8_s34_a_change_of_membership_touches_one_interface_of_ten_thousand() {
    let policy = large(10_000, 1000, 10);
    let request = json!({ "NetworkInterfaceId": "eni-77", "Groups": ["sg-500"] });
    let Change { compiler, before, after, policy: next } =
        change(&policy, "ModifyNetworkInterfaceAttribute", &request);
    assert_eq!(compiler.compiled_interfaces(), ["eni-77"]);
    let (same, all) = after.tables.members.shared_with(&before.tables.members);
    assert_eq!(all - same, 1, "its one address");
    let shared = after.interfaces.shared_with(&before.interfaces);
    assert_eq!(shared.all - shared.same, 1, "its part of the slots");
    assert!(Arc::ptr_eq(&before.tables.cidrs, &after.tables.cidrs));
    let policy_of = |snapshot: &Snapshot, id| {
        snapshot.interfaces.get(compiler.interface_id(id).unwrap()).unwrap().policy.clone()
    };
    // It has the policy that all others of the group have, and these have it still.
    assert!(Arc::ptr_eq(&policy_of(&after, "eni-77"), &policy_of(&before, "eni-500")));
    // What changed is known everywhere, and what did not is as it was.
    let members: BTreeSet<_> = next.differences_of_interfaces(&policy);
    assert_eq!(members, BTreeSet::from(["eni-77".to_string()]));
}

#[test]
fn tables_that_a_change_of_membership_did_not_reach_are_told() {
    let policy = large(1000, 100, 10);
    let request = json!({ "NetworkInterfaceId": "eni-77", "Groups": ["sg-50"] });
    let Change { compiler, before, after, policy: next } =
        change(&policy, "ModifyNetworkInterfaceAttribute", &request);
    let book = Rulebook::new(Arc::new(next.clone()));
    let check = |snapshot: &Snapshot| self_check_changes(&book, &compiler, snapshot, 64);
    assert!(check(&after).unwrap() > 100);
    assert!(check(&before).is_err(), "nothing of it");
    // The interface is judged by its new groups, but who it is to others is another matter.
    let interface = after.interfaces.get(compiler.interface_id("eni-77").unwrap()).unwrap();
    let key = (interface.vpc, interface.addresses.hosts()[0]);
    let groups = |snapshot: &Snapshot| snapshot.tables.members.get(key.0, key.1).to_vec();
    let (left, joined) = (groups(&before), groups(&after));
    let known_as = |groups: Vec<SourceId>| {
        let mut snapshot = after.clone();
        snapshot.tables.members = after.tables.members.with_changes([(key, Some(groups.into()))]);
        snapshot
    };
    assert!(check(&known_as(joined.clone())).is_ok());
    assert!(check(&known_as(vec![])).is_err(), "it did not join");
    let mismatch = check(&known_as([left, joined].concat())).unwrap_err();
    let of = |id: &str| next.interfaces[id].groups.clone();
    assert_eq!(of(&mismatch.interface), ["sg-77"], "it did not leave: {mismatch}");
}

/// A rule more of a group among a hundred.
fn rule_added() -> Change {
    let request = json!({ "GroupId": "sg-50", "IpPermissions": [
        { "IpProtocol": "tcp", "FromPort": 9, "ToPort": 9, "IpRanges": [{ "CidrIp": "0.0.0.0/0" }] },
    ] });
    change(&large(1000, 100, 10), "AuthorizeSecurityGroupIngress", &request)
}

#[test]
fn tables_that_a_change_of_a_rule_did_not_reach_are_told() {
    let Change { compiler, before, after, policy: next } = rule_added();
    let book = Rulebook::new(Arc::new(next));
    assert!(self_check_changes(&book, &compiler, &after, 64).is_ok());
    let mismatch = self_check_changes(&book, &compiler, &before, 64).unwrap_err();
    assert!(compiler.compiled_interfaces().contains(&mismatch.interface), "{mismatch}");
}

#[test]
fn tables_that_one_of_many_changes_did_not_reach_are_told() {
    const MANY: usize = 30;
    let rule = |n: usize| {
        json!({ "GroupId": format!("sg-{n}"), "IpPermissions": [
        { "IpProtocol": "udp", "FromPort": n, "ToPort": n, "IpRanges": [{ "CidrIp": "192.0.2.0/24" }] },
    ] })
    };
    let membership =
        |n: usize| json!({ "NetworkInterfaceId": format!("eni-{n}"), "Groups": [format!("sg-{}", 50 + n)] });
    type Request<'r> = &'r dyn Fn(usize) -> Value;
    let kinds: [(&str, Request<'_>); 2] =
        [("AuthorizeSecurityGroupIngress", &rule), ("ModifyNetworkInterfaceAttribute", &membership)];
    for (action, request) in kinds {
        let policy = large(300, 100, 10);
        let mut compiler = Compiler::new(20_000);
        let before = compiler.compile(&policy, 1, &ports()).unwrap();
        let next = (0..MANY).fold(policy.clone(), |policy, n| {
            edit(&policy, action, &Arena::default().tree(&request(n))).unwrap().unwrap().policy
        });
        let generation = 1 + MANY as u64;
        let after = compiler.compile(&next, generation, &ports()).unwrap();
        let book = Rulebook::new(Arc::new(policy)).with(Arc::new(next));
        let check = |snapshot: &Snapshot| self_check_changes(&book, &compiler, snapshot, 64 + 8 * MANY);
        assert!(check(&after).unwrap() > 8 * MANY);
        for n in 0..MANY {
            // All that the n-th should have reached is as it was.
            let stale = [n, n + 100, n + 200].map(|id| {
                let id = compiler.interface_id(&format!("eni-{id}")).unwrap();
                Arc::new(before.interfaces.get(id).unwrap().clone())
            });
            let interfaces = after.interfaces.with_changes([], stale);
            let snapshot = Snapshot { interfaces, ..after.clone() };
            assert!(check(&snapshot).is_err(), "{action}: the change {n} of {MANY}");
        }
    }
}

#[test]
fn tables_that_a_push_did_not_reach_are_told() {
    let Change { compiler, before, after, policy: next } = rule_added();
    let book = Rulebook::new(Arc::new(next));
    let mismatch = self_check_push(&book, &compiler, &before, 2000).unwrap_err();
    assert!(compiler.compiled_interfaces().contains(&mismatch.interface), "{mismatch}");
    // What did not change is asked about in part, another one each time.
    let whole = self_check(book.policy(), &compiler, &after, 2000).unwrap();
    for generation in 0..40 {
        let snapshot = Snapshot { generation, ..after.clone() };
        let asked = self_check_push(&book, &compiler, &snapshot, 2000).unwrap();
        assert!((1000..whole / 2).contains(&asked), "{asked} of {whole}");
        let mut blocks_lost = snapshot.clone();
        blocks_lost.tables.cidrs = Snapshot::closed().tables.cidrs;
        assert!(self_check_push(&book, &compiler, &blocks_lost, 2000).is_err());
        let mut members_lost = snapshot;
        members_lost.tables.members = Snapshot::closed().tables.members;
        assert!(self_check_push(&book, &compiler, &members_lost, 2000).is_err());
    }
}

#[test]
fn a_policy_that_is_new_is_asked_about_as_a_whole() {
    let policy = large(1000, 100, 10);
    let mut compiler = Compiler::new(20_000);
    let snapshot = compiler.compile(&policy, 1, &ports()).unwrap();
    let book = Rulebook::new(Arc::new(policy.clone()));
    let asked = self_check_push(&book, &compiler, &snapshot, 2000).unwrap();
    assert_eq!(asked, self_check(&policy, &compiler, &snapshot, 2000).unwrap());
}

/// Which interfaces differ.
trait Differs {
    fn differences_of_interfaces(&self, other: &Validated) -> BTreeSet<String>;
}

impl Differs for Validated {
    fn differences_of_interfaces(&self, other: &Validated) -> BTreeSet<String> {
        self.interfaces.differences(&other.interfaces).map(|(id, ..)| id.to_string()).collect()
    }
}

#[test]
fn s5_a_change_of_a_rule_touches_those_who_have_its_group() {
    let policy = large(10_000, 1000, 10);
    let request = json!({ "GroupId": "sg-500", "IpPermissions": [
        { "IpProtocol": "tcp", "FromPort": 9, "ToPort": 9, "UserIdGroupPairs": [{ "GroupId": "sg-1" }] },
    ] });
    let Change { compiler, before, after, .. } = change(&policy, "AuthorizeSecurityGroupIngress", &request);
    let with: Vec<_> = policy.interfaces.values().filter(|i| i.groups == ["sg-500"]).map(|i| &i.id).collect();
    assert_eq!(compiler.compiled_interfaces().iter().collect::<Vec<_>>(), with);
    assert!(!with.is_empty() && with.len() < 20, "{}", with.len());
    assert_eq!(after.tables.members.shared_with(&before.tables.members), (4096, 4096));
    let shared = after.interfaces.shared_with(&before.interfaces);
    assert!(shared.all - shared.same <= with.len());
    assert!(Arc::ptr_eq(&before.tables.cidrs, &after.tables.cidrs), "it names no other block");
}

#[test]
fn a_pushed_policy_shares_what_is_the_same_with_the_one_in_force() {
    let policy = large(1000, 100, 10);
    let mut compiler = Compiler::new(20_000);
    let before = compiler.compile(&policy, 1, &ports()).unwrap();
    let mut document = policy.to_document();
    document["NetworkInterfaces"][5]["Groups"] = json!([{ "GroupId": "sg-50" }]);
    let changed = document["NetworkInterfaces"][5]["NetworkInterfaceId"].as_str().unwrap().to_string();
    let mut next = read(&document);
    next.share(&policy);
    assert!(std::ptr::eq(&policy.interfaces["eni-1"], &next.interfaces["eni-1"]));
    let after = compiler.compile(&next, 2, &ports()).unwrap();
    assert_eq!(compiler.compiled_interfaces(), [changed]);
    assert!(Arc::ptr_eq(&before.tables.cidrs, &after.tables.cidrs));
    // The same again: nothing at all is new.
    let again = compiler.compile(&read(&document), 3, &ports()).unwrap();
    assert!(compiler.compiled_interfaces().is_empty());
    let shared = again.interfaces.shared_with(&after.interfaces);
    assert_eq!(shared.same, shared.all);
}

/// A policy of a few objects, each of which may be there or not, or otherwise.
fn documents() -> impl Strategy<Value = Value> {
    let peer = prop_oneof![
        (0u8..4).prop_map(|n| json!({ "UserIdGroupPairs": [{ "GroupId": format!("sg-{n}") }] })),
        (0u8..4).prop_map(|n| json!({ "IpRanges": [{ "CidrIp": format!("10.{n}.0.0/{}", 14 + n) }] })),
        Just(json!({ "IpRanges": [{ "CidrIp": "0.0.0.0/0" }] })),
        (0u8..2).prop_map(|n| json!({ "PrefixListIds": [{ "PrefixListId": format!("pl-{n}") }] })),
    ];
    let rule = (peer, 1u16..4).prop_map(|(mut peer, port)| {
        peer["IpProtocol"] = json!("tcp");
        (peer["FromPort"], peer["ToPort"]) = (json!(port), json!(port + 1));
        peer
    });
    let rules = || prop::collection::vec(rule.clone(), 0..3);
    let groups = prop::collection::vec((rules(), rules()), 4);
    let interface = (
        prop::bool::weighted(0.8),
        prop::sample::subsequence(vec![0u8, 1, 2, 3], 1..3),
        prop::option::of(0u8..6),
        any::<(bool, bool)>(),
        0u8..3,
    );
    let lists = prop::collection::vec(prop::collection::btree_set(0u8..4, 0..3), 2);
    let settings = (prop::option::of(30u32..33), any::<bool>(), any::<bool>());
    (groups, prop::collection::vec(interface, 6), lists, settings).prop_map(|(groups, interfaces, lists, settings)| {
        let (udp, forced, acl) = settings;
        let mut all = vec![];
        for (n, (there, groups, net, (other_vpc, check), address)) in interfaces.iter().enumerate() {
            if !there {
                continue;
            }
            let vpc = if *other_vpc { "vpc-2" } else { "vpc-1" };
            let groups: Vec<String> = match other_vpc {
                true => vec!["sg-far".to_string()],
                false => groups.iter().map(|g| format!("sg-{g}")).collect(),
            };
            let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
            // Its own, or one that moves from one to another over generations.
            let address = if *address == 0 { format!("10.9.{n}.1") } else { format!("10.9.{}.{}", n + usize::from(*address) * 10, n + 1) };
            let mut made = interface_at(n, vpc, &address, &groups);
            made["SourceDestCheck"] = json!(check);
            if let Some(net) = net {
                made["Ipv4Prefixes"] = json!([{ "Ipv4Prefix": format!("10.{}.{n}.0/28", 100 + net) }]);
            }
            if !other_vpc {
                made["SubnetId"] = json!("subnet-1");
            }
            all.push(made);
        }
        let bound = all.first().map(|first| json!({ "NetworkInterfaceId": first["NetworkInterfaceId"], "Port": "p1" }));
        let group_of = |(n, (inbound, outbound)): (usize, &(Vec<Value>, Vec<Value>))| {
            // A rule is there once.
            let once = |rules: &[Value]| rules.iter().collect::<Vec<_>>().into_iter().fold(vec![], |mut all: Vec<Value>, rule| {
                if !all.contains(rule) { all.push(rule.clone()); }
                all
            });
            group(&format!("sg-{n}"), "vpc-1", json!(once(inbound)), json!(once(outbound)))
        };
        let mut groups: Vec<Value> = groups.iter().enumerate().map(group_of).collect();
        groups.push(group("sg-far", "vpc-2", json!([]), json!([])));
        let entries = lists.iter().enumerate().map(|(n, entries)| {
            let entries: Vec<_> = entries.iter().map(|e| json!({ "Cidr": format!("10.{e}.{n}.0/24") })).collect();
            (format!("pl-{n}"), json!(entries))
        });
        let mut document = json!({
            "Vpcs": [{ "VpcId": "vpc-1" }, { "VpcId": "vpc-2" }],
            "Subnets": [{ "SubnetId": "subnet-1", "VpcId": "vpc-1", "CidrBlock": "10.0.0.0/8" }],
            "SecurityGroups": groups,
            "NetworkInterfaces": all,
            "PrefixLists": (0..2).map(|n| json!({ "PrefixListId": format!("pl-{n}"), "AddressFamily": "IPv4", "MaxEntries": 5 })).collect::<Vec<_>>(),
            "PrefixListEntries": Value::Object(entries.collect()),
            "Bindings": bound.into_iter().collect::<Vec<_>>(),
            "Settings": {},
        });
        if let Some(udp) = udp {
            document["Settings"]["Timeouts"] = json!({ "UdpTimeout": udp });
        }
        if forced && let Some(first) = document["NetworkInterfaces"][0]["NetworkInterfaceId"].as_str().map(String::from) {
            document["Settings"]["NetworkInterfaces"] = json!({ first: { "ForceTracking": true } });
        }
        if acl {
            document["NetworkAcls"] = json!([{
                "NetworkAclId": "acl-1", "VpcId": "vpc-1",
                "Associations": [{ "SubnetId": "subnet-1" }],
                "Entries": [{ "RuleNumber": 1, "Protocol": "-1", "RuleAction": "allow", "Egress": false, "CidrBlock": "10.0.0.0/8" }],
            }]);
        }
        document
    })
}

fn interface_at(n: usize, vpc: &str, address: &str, groups: &[&str]) -> Value {
    let mut made = interface(&format!("eni-{n}"), vpc, address, groups);
    made["MacAddress"] = json!(format!("02:00:00:00:01:{n:02x}"));
    made
}

fn packets() -> Vec<Packet> {
    let hosts = (0..6).flat_map(|n| [format!("10.9.{n}.1"), format!("10.9.{}.{}", n + 10, n + 1)]);
    let nets = (0..6).flat_map(|n| (0..6).map(move |m| format!("10.{}.{m}.15", 100 + n)));
    let blocks = (0..5).flat_map(|n| (0..2).map(move |m| format!("10.{n}.{m}.7")));
    let remotes = hosts.chain(nets).chain(blocks).chain(["192.0.2.1".to_string()]);
    remotes
        .flat_map(|remote| {
            [1, 3, 5].map(|port| Packet {
                remote: remote.parse().unwrap(),
                protocol: 6,
                port,
                source_port: 2,
            })
        })
        .collect()
}

fn judged(
    compiler: &Compiler,
    snapshot: &Snapshot,
    id: &str,
    packet: &Packet,
) -> [engine::verdict::Judgement; 2] {
    use engine::addr::Family;
    use engine::policy::{Query, Service};
    let interface = snapshot.interfaces.get(compiler.interface_id(id).unwrap()).unwrap();
    let service = |port| Service::new(Family::V4, packet.protocol, port);
    let query = Query {
        vpc: interface.vpc,
        family: Family::V4,
        service: service(packet.port),
        reply_service: Some(service(packet.source_port)),
        remote: packet.remote.into(),
    };
    [Direction::Inbound, Direction::Outbound]
        .map(|direction| interface.policy.judge(&snapshot.tables, direction, &query))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// Generation after generation, with a discarded one between, beside a compiler
    /// that has seen nothing before.
    #[test]
    fn changed_step_by_step_is_compiled_at_once(
        documents in prop::collection::vec((documents(), any::<bool>()), 2..6),
    ) {
        let mut compiler = Compiler::new(8);
        let mut book = Rulebook::default();
        let mut generation = 0;
        for (document, discarded) in &documents {
            let policy = read(document);
            generation += 1;
            let snapshot = compiler.compile(&policy, generation, &ports()).unwrap();
            if *discarded {
                compiler.discard();
                generation -= 1;
                continue;
            }
            let mut fresh = Compiler::new(8);
            let anew = fresh.compile(&policy, generation, &ports()).unwrap();
            book = compiler.arrange(&book, Arc::new(policy.clone()));
            prop_assert_eq!(snapshot.interfaces.len(), policy.interfaces.len());
            prop_assert_eq!(snapshot.tables.members.len(), anew.tables.members.len());
            prop_assert_eq!(&snapshot.vpcs.iter().map(|vpc| vpc.local().len()).collect::<Vec<_>>(), &anew.vpcs.iter().map(|vpc| vpc.local().len()).collect::<Vec<_>>());
            for from in policy.interfaces.values() {
                let of = |compiler: &Compiler, snapshot: &Snapshot| snapshot.interfaces.get(compiler.interface_id(&from.id).unwrap()).cloned();
                let (one, other) = (of(&compiler, &snapshot).unwrap(), of(&fresh, &anew).unwrap());
                prop_assert_eq!((&one.addresses, one.mac, one.port, one.timeouts, one.settings, one.source_dest_check), (&other.addresses, other.mac, other.port, other.timeouts, other.settings, other.source_dest_check));
                prop_assert_eq!(one.border.is_some(), other.border.is_some());
                let endpoint = snapshot.interfaces.endpoint(one.id).unwrap();
                prop_assert_eq!((endpoint.is_served().then_some(endpoint.port), endpoint.mac(), endpoint.guarded, endpoint.timeouts), (one.port, one.mac, one.border.is_some(), one.timeouts));
                prop_assert_eq!(snapshot.interfaces.by_address(one.vpc, one.addresses.hosts()[0]).map(|i| i.id), Some(one.id));
                for packet in packets() {
                    let compiled = judged(&compiler, &snapshot, &from.id, &packet);
                    prop_assert_eq!(compiled, judged(&fresh, &anew, &from.id, &packet), "{:?} at {}", packet, from.id);
                    for (direction, compiled) in [Direction::Inbound, Direction::Outbound].into_iter().zip(compiled) {
                        let (said, rules) = oracle::judge(&policy, from, direction, &packet);
                        prop_assert_eq!(compiled, said, "{:?} {:?} at {} by {:?}", packet, direction, from.id, rules);
                    }
                }
            }
            self_check(&policy, &compiler, &snapshot, 2000).unwrap();
            // The arranged policy, changed step by step, is the one arranged at once.
            let arranged = Rulebook::new(Arc::new(policy.clone()));
            for packet in packets() {
                let owners = |book: &Rulebook| book.owners(packet.remote).map(|i| i.id.clone()).collect::<BTreeSet<_>>();
                prop_assert_eq!(owners(&book), owners(&arranged));
            }
            for group in policy.groups.keys() {
                let members = |book: &Rulebook| book.members(group).map(|i| i.id.clone()).collect::<Vec<_>>();
                prop_assert_eq!(members(&book), members(&arranged));
            }
        }
    }
}
