use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::locations::{self, Located};
use super::{Context, keys, known};
use crate::model::{Binding, Id, Validated};
use crate::reader::Node;
use crate::report::Report;

/// What has been bound so far, each with what it must not be bound to again.
#[derive(Default)]
pub(super) struct Bound<'v> {
    pub interfaces: HashSet<&'v str>,
    /// Whether the port is an uplink.
    pub ports: HashMap<&'v str, bool>,
    tags: HashSet<(&'v str, Option<u16>)>,
    /// Under how many tags an uplink carries a VPC.
    pub carried: HashMap<(&'v str, Id), usize>,
}

/// Reads `Bindings`: one port for an interface, one interface for a port; an
/// uplink for each VPC, under a tag of its own or untagged; and what is behind uplinks.
pub(super) fn read(root: &Node<'_, '_>, report: &mut Report, all: &mut Validated, context: &Context<'_>) {
    let mut bound = Bound::default();
    let mut located = Located::default();
    for node in root.list(report, "Bindings") {
        known(&node, report, &keys::BINDING);
        let interface = ["NetworkInterfaceId", "Port"].into_iter().any(|key| node.has(key));
        let uplink = ["Uplink", "VpcId", "VlanId", "MacAddresses"].into_iter().any(|key| node.has(key));
        let is_behind = ["NetworkInterfaceId", "Uplink"].into_iter().all(|key| node.has(key))
            && !["Port", "VpcId", "VlanId", "MacAddresses"].into_iter().any(|key| node.has(key));
        let binding = match (interface, uplink) {
            (true, true) if is_behind => {
                located.interfaces.push(node);
                continue;
            }
            (true, false) => bind_interface(report, &node, all, &mut bound),
            (false, true) => bind_uplink(report, &node, all, &mut bound, &mut located),
            _ => {
                let message = "expected NetworkInterfaceId with Port or with Uplink, or Uplink with VpcId, \
                               VlanId and MacAddresses";
                report.fault("InvalidParameterCombination", node.path(), message);
                continue;
            }
        };
        if let Some((binding, port, key)) = binding
            && is_port(report, &node, key, port, context)
        {
            Arc::make_mut(&mut all.bindings).push(binding);
        }
    }
    locations::check(report, all, bound, &located);
}

/// A binding, its port, and the key that names the port.
type Found<'v> = Option<(Binding, &'v str, &'static str)>;

fn bind_interface<'v>(
    report: &mut Report,
    node: &Node<'v, '_>,
    all: &Validated,
    bound: &mut Bound<'v>,
) -> Found<'v> {
    let (id, port) = (node.required(report, "NetworkInterfaceId"), node.required(report, "Port"));
    let (id, port) = (id?, port?);
    if !all.interfaces.contains_key(id) {
        let message = format!("The networkInterface ID '{id}' does not exist");
        report.fault("InvalidNetworkInterfaceID.NotFound", node.path_of("NetworkInterfaceId"), message);
    }
    if !bound.interfaces.insert(id) {
        let message = format!("the interface '{id}' is bound twice");
        report.fault("InvalidParameterValue", node.path_of("NetworkInterfaceId"), message);
    }
    if bound.ports.insert(port, false).is_some() {
        bound_twice(report, node, "Port", port);
    }
    Some((Binding::Interface { interface: id.into(), port: port.to_string() }, port, "Port"))
}

fn bind_uplink<'v>(
    report: &mut Report,
    node: &Node<'v, '_>,
    all: &Validated,
    bound: &mut Bound<'v>,
    located: &mut Located<'v, '_>,
) -> Found<'v> {
    let port = node.required(report, "Uplink");
    let vlan = node.number(report, "VlanId", 1..=4094).and_then(|v| u16::try_from(v).ok());
    let vpc = uplink_vpc(report, node, all);
    let (port, vpc) = (port?, vpc?);
    if bound.ports.insert(port, true) == Some(false) {
        bound_twice(report, node, "Uplink", port);
    }
    if !bound.tags.insert((port, vlan)) {
        let tag = vlan.map_or("untagged".to_string(), |v| format!("VLAN {v}"));
        let message = format!("the uplink '{port}' has another VPC for the same tag ({tag})");
        report.fault("InvalidParameterValue", node.path(), message);
    }
    *bound.carried.entry((port, vpc.clone())).or_default() += 1;
    let hosts = locations::hosts(report, node, port, &vpc, located);
    Some((Binding::Uplink { port: port.to_string(), vpc, vlan, hosts }, port, "Uplink"))
}

/// The VPC that the binding names, or the only one there is.
fn uplink_vpc(report: &mut Report, node: &Node<'_, '_>, all: &Validated) -> Option<Id> {
    if node.has("VpcId") {
        let vpc = node.string(report, "VpcId")?;
        if all.vpcs.contains_key(vpc) {
            return Some(vpc.into());
        }
        let message = format!("The vpc ID '{vpc}' does not exist");
        report.fault("InvalidVpcID.NotFound", node.path_of("VpcId"), message);
        return None;
    }
    let mut vpcs = all.vpcs.keys();
    if let (Some(only), None) = (vpcs.next(), vpcs.next()) {
        return Some(only.clone());
    }
    let message = format!("the document has {} VPCs: say which one the uplink carries", all.vpcs.len());
    report.fault("MissingParameter", node.path_of("VpcId"), message);
    None
}

fn bound_twice(report: &mut Report, node: &Node<'_, '_>, key: &str, port: &str) {
    report.fault("InvalidParameterValue", node.path_of(key), format!("the port '{port}' is bound twice"));
}

/// Whether the port may be bound.
fn is_port(
    report: &mut Report,
    node: &Node<'_, '_>,
    key: &'static str,
    port: &str,
    context: &Context<'_>,
) -> bool {
    if context.ports.index(port).is_some() {
        return true;
    }
    let names: Vec<&str> = context.ports.iter().map(|(name, _)| name).collect();
    let names = if names.is_empty() { "none".to_string() } else { names.join(", ") };
    let message = format!("the switch has no port named '{port}' (it has {names})");
    let is_known = context.missing_ports_are_notices || context.ports.knows(port);
    match is_known {
        true => report.notice(node.path_of(key), message),
        false => report.fault("InvalidParameterValue", node.path_of(key), message),
    }
    is_known
}
