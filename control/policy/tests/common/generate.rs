//! Documents whose rules, blocks and groups meet each other often.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::common::{group, interface};

pub const BLOCKS_4: [&str; 7] =
    ["0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "10.0.0.0/8", "10.0.0.11/32", "10.0.1.16/28", "203.0.113.0/24"];
pub const BLOCKS_6: [&str; 4] = ["::/0", "2001:db8::/32", "2001:db8::11/128", "2001:db8:1::/48"];
pub const GROUPS: [&str; 5] = ["sg-1", "sg-2", "sg-3", "sg-9", "sg-gone"];
pub const PORTS: [u16; 9] = [0, 21, 22, 23, 79, 80, 81, 40_000, 65_535];

pub fn services() -> impl Strategy<Value = Value> {
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

pub fn permission() -> impl Strategy<Value = Value> {
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
pub fn permissions() -> impl Strategy<Value = Value> {
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
pub fn documents() -> impl Strategy<Value = Value> {
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
