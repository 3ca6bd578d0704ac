//! Pieces of documents.

use policy::{Context, Ports};
use serde_json::{Value, json};

/// The switch's ports.
pub fn ports() -> Ports {
    ["p1", "p2", "up"].into_iter().collect()
}

/// What documents are validated against.
pub fn context(ports: &Ports) -> Context<'_> {
    Context { ports, partial: false, missing_ports_are_notices: false }
}

/// A group named after its id.
pub fn group(id: &str, vpc: &str, inbound: Value, outbound: Value) -> Value {
    json!({
        "GroupId": id, "GroupName": id.trim_start_matches("sg-"), "Description": "a group", "VpcId": vpc,
        "IpPermissions": inbound, "IpPermissionsEgress": outbound,
    })
}

/// An interface, its MAC made from the last number of its address.
pub fn interface(id: &str, vpc: &str, address: &str, groups: &[&str]) -> Value {
    let last: u8 = address.rsplit('.').next().and_then(|n| n.parse().ok()).expect("an IPv4 address");
    json!({
        "NetworkInterfaceId": id, "VpcId": vpc, "MacAddress": format!("02:00:00:00:00:{last:02x}"),
        "Groups": groups.iter().map(|g| json!({ "GroupId": g })).collect::<Value>(),
        "PrivateIpAddresses": [{ "PrivateIpAddress": address, "Primary": true }],
    })
}
