//! Policies for the laboratory, in AWS's shapes.

use serde_json::{Value, json};

use crate::Lab;

/// The document of one VPC: these groups, and each instance with its groups.
pub fn document(lab: &Lab, groups: &[Value], members: &[(&str, &[&str])]) -> Value {
    let interface = |(name, groups): &(&str, &[&str])| {
        let instance = lab.instance(name);
        json!({
            "NetworkInterfaceId": eni(name),
            "VpcId": "vpc-1",
            "MacAddress": instance.mac(),
            "Groups": groups.iter().map(|g| json!({ "GroupId": g })).collect::<Vec<_>>(),
            "PrivateIpAddresses": [{ "PrivateIpAddress": instance.v4(), "Primary": true }],
            "Ipv6Addresses": [{ "Ipv6Address": instance.v6() }],
        })
    };
    json!({
        "Vpcs": [{ "VpcId": "vpc-1", "Ipv6CidrBlockAssociationSet": [{ "Ipv6CidrBlockState": { "State": "associated" } }] }],
        "SecurityGroups": groups,
        "NetworkInterfaces": members.iter().map(interface).collect::<Vec<_>>(),
        "Bindings": members.iter().map(|(name, _)| json!({ "NetworkInterfaceId": eni(name), "Port": name })).collect::<Vec<_>>(),
    })
}

/// The interface of an instance.
pub fn eni(instance: &str) -> String {
    format!("eni-{instance}")
}

/// A group.
pub fn group(id: &str, inbound: &[Value], outbound: &[Value]) -> Value {
    json!({
        "GroupId": id,
        "GroupName": id.trim_start_matches("sg-"),
        "Description": "of the laboratory",
        "VpcId": "vpc-1",
        "IpPermissions": inbound,
        "IpPermissionsEgress": outbound,
    })
}

/// Ports, from or to everyone of both families.
pub fn from_everyone(protocol: &str, low: u16, high: u16) -> Value {
    json!({
        "IpProtocol": protocol, "FromPort": low, "ToPort": high,
        "IpRanges": [{ "CidrIp": "0.0.0.0/0" }], "Ipv6Ranges": [{ "CidrIpv6": "::/0" }],
    })
}

/// Ports, from or to the members of a group.
pub fn from_group(protocol: &str, low: u16, high: u16, group: &str) -> Value {
    json!({
        "IpProtocol": protocol, "FromPort": low, "ToPort": high,
        "UserIdGroupPairs": [{ "GroupId": group }],
    })
}

/// Ping of both families, from the members of a group.
pub fn ping_from(group: &str) -> [Value; 2] {
    let pairs = json!([{ "GroupId": group }]);
    [
        json!({ "IpProtocol": "icmp", "FromPort": 8, "ToPort": -1, "UserIdGroupPairs": pairs }),
        json!({ "IpProtocol": "icmpv6", "FromPort": 128, "ToPort": -1, "UserIdGroupPairs": pairs }),
    ]
}

/// Everything, to everyone.
pub fn all() -> Value {
    json!({ "IpProtocol": "-1", "IpRanges": [{ "CidrIp": "0.0.0.0/0" }], "Ipv6Ranges": [{ "CidrIpv6": "::/0" }] })
}
