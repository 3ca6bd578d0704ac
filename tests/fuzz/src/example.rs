//! A document with something of everything, to ask about and to bend.

use policy::{Context, Ports};
use serde_json::{Value, json};

/// The switch's ports.
pub(crate) fn ports() -> Ports {
    ["p0", "p1", "p2", "up"].into_iter().collect()
}

/// What documents are validated against.
pub(crate) fn context(ports: &Ports) -> Context<'_> {
    Context { ports, partial: false, missing_ports_are_notices: false }
}

/// Two peered VPCs; groups that name blocks, lists and each other; interfaces
/// of both families, with delegated prefixes.
pub(crate) fn document() -> Value {
    json!({
        "Vpcs": [
            { "VpcId": "vpc-1", "Ipv6CidrBlockAssociationSet": [{ "Ipv6CidrBlockState": { "State": "associated" } }] },
            { "VpcId": "vpc-2" },
        ],
        "Subnets": [{ "SubnetId": "subnet-1", "VpcId": "vpc-1", "CidrBlock": "10.0.0.0/24" }],
        "VpcPeeringConnections": [{
            "VpcPeeringConnectionId": "pcx-1", "RequesterVpcInfo": { "VpcId": "vpc-1" },
            "AccepterVpcInfo": { "VpcId": "vpc-2" }, "Status": { "Code": "active" },
        }],
        "PrefixLists": [
            { "PrefixListId": "pl-1", "PrefixListName": "offices", "AddressFamily": "IPv4", "MaxEntries": 5, "Version": 3 },
            { "PrefixListId": "pl-6", "AddressFamily": "IPv6", "OwnerId": "AWS", "Cidrs": ["2001:db8:ffff::/48"] },
        ],
        "PrefixListEntries": {
            "pl-1": [{ "Cidr": "203.0.113.0/28", "Description": "north" }, { "Cidr": "198.51.100.7/32" }],
        },
        "SecurityGroups": [
            { "GroupId": "sg-web", "GroupName": "web", "Description": "web tier", "VpcId": "vpc-1", "IpPermissions": [
                { "IpProtocol": "tcp", "FromPort": 80, "ToPort": 80,
                  "IpRanges": [{ "CidrIp": "0.0.0.0/0", "Description": "all" }], "Ipv6Ranges": [{ "CidrIpv6": "::/0" }] },
                { "IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "PrefixListIds": [{ "PrefixListId": "pl-1" }] },
                { "IpProtocol": "udp", "FromPort": 53, "ToPort": 54, "UserIdGroupPairs": [{ "GroupId": "sg-client" }] },
                { "IpProtocol": "icmp", "FromPort": 8, "ToPort": -1, "IpRanges": [{ "CidrIp": "10.0.0.0/8" }] },
                { "IpProtocol": "47", "UserIdGroupPairs": [{ "GroupId": "sg-far", "PeeringStatus": "active" }] },
              ], "IpPermissionsEgress": [{ "IpProtocol": "-1", "IpRanges": [{ "CidrIp": "0.0.0.0/0" }] }] },
            { "GroupId": "sg-client", "GroupName": "client", "Description": "clients", "VpcId": "vpc-1",
              "IpPermissions": [{ "IpProtocol": "icmpv6", "PrefixListIds": [{ "PrefixListId": "pl-6" }] }] },
            { "GroupId": "sg-far", "GroupName": "default", "Description": "far", "VpcId": "vpc-2", "IpPermissions": [
                { "IpProtocol": "tcp", "FromPort": 0, "ToPort": 65535, "IpRanges": [{ "CidrIp": "10.0.0.0/16" }] },
              ], "IpPermissionsEgress": [] },
        ],
        "SecurityGroupRules": [{
            "SecurityGroupRuleId": "sgr-1", "GroupId": "sg-web", "IsEgress": false, "IpProtocol": "tcp",
            "FromPort": 22, "ToPort": 22, "PrefixListId": "pl-1", "Description": "ssh",
        }],
        "NetworkInterfaces": [
            { "NetworkInterfaceId": "eni-web", "VpcId": "vpc-1", "SubnetId": "subnet-1", "MacAddress": "02:00:00:00:00:01",
              "Groups": [{ "GroupId": "sg-web" }], "Attachment": { "InstanceId": "i-1", "DeviceIndex": 0 },
              "PrivateIpAddresses": [{ "PrivateIpAddress": "10.0.0.11", "Primary": true }],
              "Ipv6Addresses": [{ "Ipv6Address": "fd00::11" }],
              "ConnectionTrackingConfiguration": { "TcpEstablishedTimeout": 600, "UdpTimeout": 45 } },
            { "NetworkInterfaceId": "eni-client", "VpcId": "vpc-1", "MacAddress": "02:00:00:00:00:02",
              "Groups": [{ "GroupId": "sg-client" }, { "GroupId": "sg-web" }],
              "PrivateIpAddresses": [{ "PrivateIpAddress": "10.0.0.12" }, { "PrivateIpAddress": "10.0.0.13" }],
              "Ipv4Prefixes": [{ "Ipv4Prefix": "10.7.0.0/28" }], "Ipv6Prefixes": [{ "Ipv6Prefix": "2001:db8:1::/80" }],
              "SourceDestCheck": false },
            { "NetworkInterfaceId": "eni-far", "VpcId": "vpc-2", "MacAddress": "02:00:00:00:00:03", "Groups": [],
              "PrivateIpAddresses": [{ "PrivateIpAddress": "10.1.0.11" }] },
        ],
        "Bindings": [
            { "NetworkInterfaceId": "eni-web", "Port": "p0" }, { "NetworkInterfaceId": "eni-client", "Port": "p1" },
            { "NetworkInterfaceId": "eni-far", "Port": "p2" },
            { "Uplink": "up", "VpcId": "vpc-1", "VlanId": 100 }, { "Uplink": "up", "VpcId": "vpc-2" },
        ],
        "Settings": { "Quotas": "unlimited", "Timeouts": { "UdpStreamTimeout": 90 } },
    })
}
