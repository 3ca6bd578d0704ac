//! What a push would change, and the rulebook that says so.

mod common;
#[path = "common/generate.rs"]
mod generate;
#[path = "common/packets.rs"]
mod packets;

use std::sync::Arc;

use common::{group, interface};
use engine::policy::Direction;
use engine::verdict::Judgement;
use generate::documents;
use packets::{packets, read};
use policy::oracle::{self, Packet};
use policy::{Change, Plan, Rulebook, Validated, plan};
use proptest::prelude::*;
use serde_json::{Value, json};

const DIRECTIONS: [Direction; 2] = [Direction::Inbound, Direction::Outbound];

fn book(document: &Value) -> Rulebook {
    Rulebook::new(Arc::new(read(document)))
}

fn planned(before: &Value, after: &Value) -> Plan {
    plan(&book(before), &book(after), 20_000)
}

fn word(judgement: Judgement) -> &'static str {
    match judgement {
        Judgement::Denied => "denied",
        Judgement::Tracked => "tracked",
        Judgement::Untracked => "untracked",
    }
}

fn oracle_says(policy: &Validated, id: &str, direction: Direction, packet: &Packet) -> (String, Vec<String>) {
    let (judgement, rules) = oracle::judge(policy, &policy.interfaces[id], direction, packet);
    (word(judgement).to_string(), rules.iter().map(|rule| rule.id.to_string()).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_rulebook_says_what_the_oracle_says(
        document in documents(), packets in prop::collection::vec(packets(), 60),
    ) {
        let book = book(&document);
        let policy = book.policy();
        for interface in policy.interfaces.values() {
            for (direction, packet) in DIRECTIONS.into_iter().flat_map(|d| packets.iter().map(move |p| (d, p))) {
                prop_assert_eq!(
                    book.judge(interface, direction, packet),
                    oracle::judge(policy, interface, direction, packet)
                );
            }
        }
    }

    /// What is listed is so; what is so at an interface is listed there; and an
    /// empty plan means that nothing is.
    #[test]
    fn a_plan_tells_how_verdicts_change(
        before in documents(), after in documents(), packets in prop::collection::vec(packets(), 60),
    ) {
        let plan = planned(&before, &after);
        let (before, after) = (read(&before), read(&after));
        for change in &plan.verdicts {
            prop_assert_eq!(change.network_interface_id.as_str(), "eni-1", "only it is plugged in here");
            let direction = if change.direction == "inbound" { Direction::Inbound } else { Direction::Outbound };
            let packet = Packet {
                remote: change.remote.parse().unwrap(),
                protocol: change.protocol,
                port: change.port,
                source_port: change.source_port,
            };
            let id = &change.network_interface_id;
            prop_assert_eq!((change.before.clone(), change.rules_before.clone()), oracle_says(&before, id, direction, &packet));
            prop_assert_eq!((change.after.clone(), change.rules_after.clone()), oracle_says(&after, id, direction, &packet));
            prop_assert_ne!(&change.before, &change.after);
        }
        for direction in DIRECTIONS {
            for packet in &packets {
                let [was, will] = [&before, &after].map(|p| oracle_says(p, "eni-1", direction, packet).0);
                if (was == "denied") != (will == "denied") {
                    let opens = was == "denied";
                    prop_assert!(plan.verdicts.iter().any(|c| {
                        c.direction == format!("{direction:?}").to_lowercase()
                            && (c.before == "denied", c.after == "denied") == (opens, !opens)
                    }), "{packet:?} {direction:?}: {was} -> {will}");
                }
            }
        }
        prop_assert_eq!(plan.is_empty(), before == after);
    }
}

fn web(inbound: Value) -> Value {
    let out = json!([{ "IpProtocol": "-1", "IpRanges": [{ "CidrIp": "0.0.0.0/0" }] }]);
    json!({
        "SecurityGroups": [group("sg-web", "vpc-1", inbound, out), group("sg-db", "vpc-1", json!([]), json!([]))],
        "NetworkInterfaces": [interface("eni-web", "vpc-1", "10.0.0.11", &["sg-web"])],
        "Bindings": [{ "NetworkInterfaceId": "eni-web", "Port": "p1" }],
    })
}

fn tcp(port: u16, block: &str) -> Value {
    json!({ "IpProtocol": "tcp", "FromPort": port, "ToPort": port, "IpRanges": [{ "CidrIp": block }] })
}

#[test]
fn the_same_policy_changes_nothing() {
    let one = web(json!([tcp(443, "10.0.0.0/8"), tcp(80, "0.0.0.0/0")]));
    let other = web(json!([tcp(80, "0.0.0.0/0"), tcp(443, "10.0.0.0/8")]));
    let plan = planned(&one, &other);
    assert!(plan.is_empty() && plan.verdicts.is_empty() && plan.packets_asked == 0);
}

#[test]
fn rules_come_and_go_and_so_do_their_verdicts() {
    let before = web(json!([tcp(80, "0.0.0.0/0"), tcp(22, "203.0.113.1/32")]));
    let after = web(json!([tcp(80, "0.0.0.0/0"), tcp(443, "10.0.0.0/8")]));
    let plan = planned(&before, &after);
    let rules: Vec<_> =
        plan.rules.iter().map(|r| (r.change, r.permits.as_str(), r.peer.as_str(), r.is_egress)).collect();
    assert_eq!(
        rules,
        [
            (Change::Added, "tcp 443", "10.0.0.0/8", false),
            (Change::Removed, "tcp 22", "203.0.113.1/32", false)
        ]
    );
    assert!(plan.objects.is_empty(), "{:?}", plan.objects);
    let verdicts: Vec<_> =
        plan.verdicts.iter().map(|v| (v.before.as_str(), v.after.as_str(), v.protocol, v.port)).collect();
    assert_eq!(verdicts, [("denied", "tracked", 6, 443), ("tracked", "denied", 6, 22)]);
}

#[test]
fn a_rule_that_opens_to_everyone_ends_tracking() {
    let before = web(json!([tcp(80, "10.0.0.0/8")]));
    let after = web(json!([tcp(80, "0.0.0.0/0")]));
    let plan = planned(&before, &after);
    let verdicts: Vec<_> =
        plan.verdicts.iter().map(|v| (v.direction.as_str(), v.before.as_str(), v.after.as_str())).collect();
    assert!(verdicts.contains(&("inbound", "tracked", "untracked")), "{verdicts:?}");
    assert!(verdicts.contains(&("inbound", "denied", "untracked")), "{verdicts:?}");
    // So do the answers' own flows: what leaves from port 80 is judged by its rule alone.
    assert!(verdicts.contains(&("outbound", "tracked", "untracked")), "{verdicts:?}");
}

#[test]
fn whatever_else_changes_is_named() {
    let before = web(json!([tcp(80, "0.0.0.0/0")]));
    let mut after = before.clone();
    after["NetworkInterfaces"][0]["PrivateIpAddresses"][0]["PrivateIpAddress"] = json!("10.0.0.12");
    after["NetworkInterfaces"][0]["SourceDestCheck"] = json!(false);
    after["SecurityGroups"][0]["IpPermissions"][0]["IpRanges"][0]["Description"] = json!("the web");
    after["Bindings"][0]["Port"] = json!("p2");
    after["Settings"] = json!({ "Quotas": "unlimited" });
    let plan = planned(&before, &after);
    let objects: Vec<_> =
        plan.objects.iter().map(|o| (o.kind.as_str(), o.id.as_str(), o.what.join(" "))).collect();
    assert_eq!(
        objects,
        [
            ("Bindings", "eni-web", "Port".to_string()),
            ("NetworkInterfaces", "eni-web", "PrivateIpAddresses SourceDestCheck".to_string()),
            ("Settings", "", String::new()),
        ]
    );
    assert_eq!(plan.rules.len(), 1);
    assert_eq!(plan.rules[0].change, Change::Changed);
    assert!(plan.verdicts.is_empty(), "none of it changes what groups say: {:?}", plan.verdicts);
}

#[test]
fn an_interface_that_is_unplugged_is_absent() {
    let before = web(json!([tcp(80, "0.0.0.0/0")]));
    let mut after = before.clone();
    after["Bindings"] = json!([]);
    let plan = planned(&before, &after);
    assert!(!plan.verdicts.is_empty());
    assert!(plan.verdicts.iter().all(|v| v.after == "absent"), "{:?}", plan.verdicts);
}

#[test]
fn quotas_are_told_where_they_fill() {
    let rules: Vec<Value> = (1..=50).map(|port| tcp(port, "10.0.0.0/8")).collect();
    let plan = planned(&web(json!([])), &web(json!(rules)));
    let uses: Vec<_> =
        plan.quotas.iter().map(|q| (q.id.as_str(), q.quota.as_str(), q.before, q.after, q.limit)).collect();
    assert_eq!(uses, [("sg-web", "inbound rules for IPv4", 0, 50, 60)]);
    assert!(planned(&web(json!([])), &web(json!([]))).quotas.is_empty());
}
