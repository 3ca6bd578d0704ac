use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use engine::addr::MacAddr;
use engine::policy::MAX_GROUPS;
use ipnet::IpNet;

use super::cidr;
use crate::model::{DEFAULT_GROUP, NetworkInterface, Validated};
use crate::reader::Node;
use crate::report::Report;

/// Reads `NetworkInterfaces`. Groups of interfaces that name none come later
/// ([`add_default_groups`]).
pub(super) fn read(root: &Node<'_>, report: &mut Report, all: &mut Validated) {
    let mut macs = HashMap::new();
    let mut owners: HashMap<String, Vec<(IpNet, String)>> = HashMap::new();
    for node in root.list(report, "NetworkInterfaces") {
        let id = node.required(report, "NetworkInterfaceId");
        if let Some(id) = id.filter(|id| !id.starts_with("eni-")) {
            let message = format!("The networkInterface ID '{id}' is malformed");
            report.fault(
                "InvalidNetworkInterfaceId.Malformed",
                format!("{}.NetworkInterfaceId", node.path),
                message,
            );
        }
        let vpc = node.required(report, "VpcId");
        let mac = mac(report, &node);
        let groups = groups(report, &node, vpc, all);
        let addresses = addresses(report, &node);
        let mut prefixes = Vec::new();
        for prefix in node.list(report, "Ipv4Prefixes") {
            prefixes.extend(cidr(report, &prefix, "Ipv4Prefix", false));
        }
        for prefix in node.list(report, "Ipv6Prefixes") {
            prefixes.extend(cidr(report, &prefix, "Ipv6Prefix", true));
        }
        let timeouts = ["ConnectionTrackingConfiguration", "ConnectionTrackingSpecification"];
        let timeouts = timeouts.iter().find_map(|key| node.get(key));
        let mut timeout = |key, range| timeouts.as_ref()?.number(report, key, range).map(|n| n as u32);
        let tcp_established_timeout = timeout("TcpEstablishedTimeout", 60..=432_000);
        let udp_timeout = timeout("UdpTimeout", 30..=60);
        let udp_stream_timeout = timeout("UdpStreamTimeout", 60..=180);
        let source_dest_check = node.flag(report, "SourceDestCheck").unwrap_or(true);
        let (Some(id), Some(vpc), Some(mac)) = (id, vpc, mac) else { continue };

        all.vpcs.entry(vpc.to_string()).or_default();
        if let Some(other) = macs.insert((vpc, mac), id) {
            let message = format!("the MAC {mac} is that of '{other}' too");
            report.fault("InvalidParameterValue", format!("{}.MacAddress", node.path), message);
        }
        let own = addresses.iter().map(|a| IpNet::from(*a)).chain(prefixes.iter().copied());
        owners.entry(vpc.to_string()).or_default().extend(own.map(|net| (net, node.path.clone())));
        let interface = NetworkInterface {
            id: id.to_string(),
            vpc: vpc.to_string(),
            mac,
            groups,
            addresses,
            prefixes,
            source_dest_check,
            tcp_established_timeout,
            udp_timeout,
            udp_stream_timeout,
        };
        if all.interfaces.insert(id.to_string(), interface).is_some() {
            report.fault("InvalidParameterValue", &node.path, format!("the interface '{id}' is there twice"));
        }
    }
    for ranges in owners.into_values() {
        check_overlaps(report, ranges);
    }
}

/// Within a VPC, an address is one interface's.
fn check_overlaps(report: &mut Report, mut ranges: Vec<(IpNet, String)>) {
    ranges.sort();
    // Sorted by address, a range that overlaps an earlier one lies within it.
    let mut holder: Option<(IpNet, String)> = None;
    for (net, path) in ranges {
        match &holder {
            Some((outer, by)) if outer.contains(&net) => {
                let message = format!("{net} overlaps {outer}, which {by} has");
                report.fault("InvalidIPAddress.InUse", path, message);
            }
            _ => holder = Some((net, path)),
        }
    }
}

fn mac(report: &mut Report, node: &Node<'_>) -> Option<MacAddr> {
    let text = node.required(report, "MacAddress")?;
    let path = format!("{}.MacAddress", node.path);
    match text.parse::<MacAddr>() {
        Ok(mac) if !mac.is_group() && !mac.is_zero() => return Some(mac),
        Ok(mac) => report.fault("InvalidParameterValue", path, format!("{mac} is no interface's MAC")),
        Err(error) => report.fault("InvalidParameterValue", path, format!("'{text}' is no MAC: {error}")),
    }
    None
}

/// The groups by id: existing, of the interface's VPC (S7), within the quota.
fn groups(report: &mut Report, node: &Node<'_>, vpc: Option<&str>, all: &Validated) -> Vec<String> {
    let mut groups = Vec::new();
    for group in node.list(report, "Groups") {
        let Some(id) = group.required(report, "GroupId") else { continue };
        let path = format!("{}.GroupId", group.path);
        match all.groups.get(id) {
            None => report.fault(
                "InvalidGroup.NotFound",
                path,
                format!("The security group '{id}' does not exist"),
            ),
            Some(known) if vpc.is_some_and(|vpc| vpc != known.vpc) => {
                let message = "You have specified two resources that belong to different networks.";
                report.fault("InvalidGroup.NotFound", path, message);
            }
            Some(_) if groups.iter().any(|g| g == id) => {
                report.notice(path, format!("'{id}' is named twice"))
            }
            Some(_) => groups.push(id.to_string()),
        }
    }
    let most = all.settings.quotas.map_or(MAX_GROUPS, |q| q.groups_per_interface);
    if groups.len() > most {
        let message = format!("{} groups are more than the {most} that an interface may have", groups.len());
        report.fault("SecurityGroupsPerInterfaceLimitExceeded", format!("{}.Groups", node.path), message);
    }
    groups.sort();
    groups
}

/// Private addresses of both families; never the public ones (S35).
fn addresses(report: &mut Report, node: &Node<'_>) -> Vec<IpAddr> {
    fn push<A: std::str::FromStr + Into<IpAddr>>(
        report: &mut Report,
        all: &mut Vec<IpAddr>,
        node: &Node<'_>,
        key: &str,
    ) {
        let Some(text) = node.required(report, key) else { return };
        match text.parse::<A>().map(Into::into) {
            Ok(address) if all.contains(&address) => {}
            Ok(address) => all.push(address),
            Err(_) => {
                let message = format!("Invalid value '{text}' for {key}: it is no address");
                report.fault("InvalidParameterValue", format!("{}.{key}", node.path), message);
            }
        }
    }
    let mut all = Vec::new();
    if node.get("PrivateIpAddress").is_some() {
        push::<Ipv4Addr>(report, &mut all, node, "PrivateIpAddress");
    }
    for item in node.list(report, "PrivateIpAddresses") {
        push::<Ipv4Addr>(report, &mut all, &item, "PrivateIpAddress");
    }
    for item in node.list(report, "Ipv6Addresses") {
        push::<Ipv6Addr>(report, &mut all, &item, "Ipv6Address");
    }
    all
}

/// An interface without groups gets its VPC's default one (S3).
pub(super) fn add_default_groups(all: &mut Validated) {
    let defaults: HashMap<&str, &str> = all
        .groups
        .values()
        .filter(|g| g.name == DEFAULT_GROUP)
        .map(|g| (g.vpc.as_str(), g.id.as_str()))
        .collect();
    for interface in all.interfaces.values_mut().filter(|i| i.groups.is_empty()) {
        interface.groups.extend(defaults.get(interface.vpc.as_str()).map(|id| id.to_string()));
    }
}
