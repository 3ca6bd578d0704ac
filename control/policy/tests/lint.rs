//! What lint finds, and what it leaves alone.

mod common;
#[path = "common/generate.rs"]
mod generate;
#[path = "common/packets.rs"]
mod packets;

use common::{group, interface};
use engine::policy::Direction;
use generate::documents;
use packets::{packets, read};
use policy::{Finding, Severity, Validated, lint, oracle};
use proptest::prelude::*;
use serde_json::{Value, json};

fn tcp(from: u16, to: u16, block: &str) -> Value {
    let ranges = if block.contains(':') { "Ipv6Ranges" } else { "IpRanges" };
    let key = if block.contains(':') { "CidrIpv6" } else { "CidrIp" };
    json!({ "IpProtocol": "tcp", "FromPort": from, "ToPort": to, ranges: [{ key: block }] })
}

fn document(inbound: Value) -> Value {
    json!({
        "SecurityGroups": [group("sg-web", "vpc-1", inbound, json!([]))],
        "NetworkInterfaces": [interface("eni-1", "vpc-1", "10.0.0.11", &["sg-web"])],
    })
}

fn found(document: &Value, check: &str) -> Vec<Finding> {
    lint(&read(document)).into_iter().filter(|finding| finding.check == check).collect()
}

#[test]
fn groups_that_nobody_has_or_needs_are_found() {
    let mut document = document(json!([
        { "IpProtocol": "tcp", "FromPort": 1, "ToPort": 1, "UserIdGroupPairs": [{ "GroupId": "sg-b" }, { "GroupId": "sg-web" }] }
    ]));
    let own = json!([{ "IpProtocol": "-1", "UserIdGroupPairs": [{ "GroupId": "sg-a" }] }]);
    for more in [group("sg-a", "vpc-1", own, json!([])), group("sg-b", "vpc-1", json!([]), json!([]))] {
        document["SecurityGroups"].as_array_mut().unwrap().push(more);
    }
    let ids = |check| found(&document, check).into_iter().map(|f| f.id).collect::<Vec<_>>();
    assert_eq!(ids("unused-group"), ["sg-a"], "that it refers to itself keeps no group");
    assert_eq!(ids("empty-group"), ["sg-b"]);
}

#[test]
fn administration_ports_are_found_where_they_are_open_to_the_world() {
    for (rule, word) in [
        (tcp(22, 22, "0.0.0.0/0"), "SSH (22) is open to everyone"),
        (tcp(20, 25, "::/0"), "SSH (22), Telnet (23) is open to everyone"),
        (tcp(22, 22, "128.0.0.0/1"), "half of the world"),
        (tcp(0, 65535, "0.0.0.0/0"), "every administration port"),
        (json!({ "IpProtocol": "-1", "IpRanges": [{ "CidrIp": "0.0.0.0/0" }] }), "all traffic is open"),
    ] {
        let findings = found(&document(json!([rule])), "open-administration");
        assert_eq!(findings.len(), 1, "{word}");
        assert!(
            findings[0].message.contains(word) && findings[0].severity == Severity::Warning,
            "{findings:?}"
        );
    }
    let mut unused = document(json!([tcp(22, 22, "0.0.0.0/0")]));
    unused["NetworkInterfaces"] = json!([]);
    let outbound = json!([tcp(22, 22, "0.0.0.0/0")]);
    let sends = json!({ "SecurityGroups": [group("sg-web", "vpc-1", json!([]), outbound)],
                        "NetworkInterfaces": [interface("eni-1", "vpc-1", "10.0.0.11", &["sg-web"])] });
    for quiet in [
        document(json!([tcp(443, 443, "0.0.0.0/0")])),
        document(json!([tcp(21, 21, "0.0.0.0/0"), tcp(24, 24, "0.0.0.0/0")])),
        document(json!([tcp(22, 22, "10.0.0.0/8")])),
        document(json!([tcp(22, 22, "0.0.0.0/2")])),
        document(
            json!([{ "IpProtocol": "udp", "FromPort": 22, "ToPort": 22, "IpRanges": [{ "CidrIp": "0.0.0.0/0" }] }]),
        ),
        unused,
        sends,
    ] {
        assert_eq!(found(&quiet, "open-administration"), []);
    }
}

#[test]
fn shadowed_rules_are_found_with_what_shadows_them() {
    let shadowed = |rules: Value| found(&document(rules), "shadowed-rule").len();
    let wide = tcp(80, 90, "10.0.0.0/8");
    for narrow in [tcp(80, 90, "10.1.0.0/16"), tcp(85, 85, "10.0.0.0/8"), tcp(80, 80, "10.255.255.255/32")] {
        assert_eq!(shadowed(json!([wide, narrow])), 1, "{narrow}");
    }
    for neighbour in [
        tcp(79, 90, "10.1.0.0/16"),
        tcp(80, 91, "10.1.0.0/16"),
        tcp(85, 85, "10.0.0.0/7"),
        tcp(85, 85, "11.0.0.0/8"),
        tcp(85, 85, "fd00::/8"),
        json!({ "IpProtocol": "udp", "FromPort": 85, "ToPort": 85, "IpRanges": [{ "CidrIp": "10.1.0.0/16" }] }),
    ] {
        assert_eq!(shadowed(json!([wide, neighbour])), 0, "{neighbour}");
    }
    let icmp = |t: i32, c: i32| json!({ "IpProtocol": "icmp", "FromPort": t, "ToPort": c, "IpRanges": [{ "CidrIp": "10.0.0.0/8" }] });
    assert_eq!(
        (shadowed(json!([icmp(-1, -1), icmp(8, 0)])), shadowed(json!([icmp(8, -1), icmp(3, 0)]))),
        (1, 0)
    );
    // Ports of other protocols mean nothing (D2): of two that permit the same, one is to go.
    let gre = |port: u16| json!({ "IpProtocol": "47", "FromPort": port, "ToPort": port, "IpRanges": [{ "CidrIp": "10.0.0.0/8" }] });
    assert_eq!(shadowed(json!([gre(1), gre(2)])), 1);
    let message = &found(&document(json!([wide, tcp(85, 85, "10.1.0.0/16")])), "shadowed-rule")[0].message;
    assert!(message.starts_with("tcp 85 and 10.1.0.0/16 are permitted by sgr-"), "{message}");
}

#[test]
fn rules_that_match_nothing_and_silent_interfaces_are_found() {
    let mut document = document(json!([
        { "IpProtocol": "tcp", "FromPort": 1, "ToPort": 1, "UserIdGroupPairs": [{ "GroupId": "sg-gone" }] },
        { "IpProtocol": "tcp", "FromPort": 2, "ToPort": 2, "PrefixListIds": [{ "PrefixListId": "pl-1" }] },
    ]));
    document["PrefixLists"] = json!([{ "PrefixListId": "pl-1", "AddressFamily": "IPv4", "MaxEntries": 5 }]);
    assert_eq!((found(&document, "stale-rule").len(), found(&document, "empty-prefix-list").len()), (1, 1));
    document["PrefixListEntries"] = json!({ "pl-1": [{ "Cidr": "192.0.2.0/24" }] });
    assert_eq!(found(&document, "empty-prefix-list"), []);
    assert_eq!(found(&document, "no-inbound-rules"), []);
    document["SecurityGroups"][0]["IpPermissions"] = json!([]);
    assert_eq!(found(&document, "no-inbound-rules")[0].id, "eni-1");
}

#[test]
fn what_is_open_by_one_family_only_is_told_where_there_are_both() {
    let mut document = document(json!([tcp(443, 443, "0.0.0.0/0")]));
    assert_eq!(found(&document, "ipv4-only"), [], "the VPC has no IPv6");
    document["Vpcs"] = json!([{ "VpcId": "vpc-1", "Ipv6CidrBlockAssociationSet": [{ "Ipv6CidrBlock": "2001:db8::/56", "Ipv6CidrBlockState": { "State": "associated" } }] }]);
    assert_eq!(found(&document, "ipv4-only").len(), 1);
    document["SecurityGroups"][0]["IpPermissions"].as_array_mut().unwrap().push(tcp(443, 443, "::/0"));
    assert_eq!(found(&document, "ipv4-only"), []);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Without the rules that are reported as shadowed, the same is permitted.
    #[test]
    fn shadowed_rules_can_go(document in documents(), packets in prop::collection::vec(packets(), 60)) {
        let whole = read(&document);
        let shadowed: Vec<String> = lint(&whole).into_iter()
            .filter(|f| f.check == "shadowed-rule")
            .filter_map(|f| Some(format!("{} {}", f.id, f.security_group_rule_id?))).collect();
        let mut without: Validated = whole.clone();
        without.groups.change_all(|group| {
            let id = group.id.clone();
            let stays = |rule: &policy::Rule| !shadowed.contains(&format!("{id} {}", rule.id));
            group.inbound.retain(stays);
            group.outbound.retain(stays);
        });
        for interface in whole.interfaces.values() {
            for direction in [Direction::Inbound, Direction::Outbound] {
                for packet in &packets {
                    let judged = |policy| oracle::judge(policy, interface, direction, packet).0;
                    prop_assert_eq!(judged(&whole), judged(&without), "{:?} {:?} without {:?}", packet, direction, shadowed);
                }
            }
        }
    }
}
