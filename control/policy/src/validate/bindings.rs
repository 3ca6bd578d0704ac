use std::collections::{HashMap, HashSet};

use super::Context;
use crate::model::{Binding, Validated};
use crate::reader::Node;
use crate::report::Report;

/// Reads `Bindings`: one port for an interface, one interface for a port; an
/// uplink for each VPC, under a tag of its own or untagged.
pub(super) fn read(root: &Node<'_>, report: &mut Report, all: &mut Validated, context: &Context<'_>) {
    let (mut bound, mut serving) = (HashSet::new(), HashMap::new());
    let mut carried = HashSet::new();
    for node in root.list(report, "Bindings") {
        node.known(report, &["NetworkInterfaceId", "Port", "Uplink", "VpcId", "VlanId"]);
        let (interface, uplink) = (node.get("NetworkInterfaceId"), node.get("Uplink"));
        let (binding, port, key) = match (interface, uplink) {
            (Some(_), None) => {
                let id = node.required(report, "NetworkInterfaceId");
                let port = node.required(report, "Port");
                let (Some(id), Some(port)) = (id, port) else { continue };
                if !all.interfaces.contains_key(id) {
                    let message = format!("The networkInterface ID '{id}' does not exist");
                    report.fault(
                        "InvalidNetworkInterfaceID.NotFound",
                        format!("{}.NetworkInterfaceId", node.path),
                        message,
                    );
                }
                if !bound.insert(id) {
                    report.fault(
                        "InvalidParameterValue",
                        &node.path,
                        format!("the interface '{id}' is bound twice"),
                    );
                }
                (Binding::Interface { interface: id.to_string(), port: port.to_string() }, port, "Port")
            }
            (None, Some(_)) => {
                let Some(port) = node.required(report, "Uplink") else { continue };
                let vlan = node.number(report, "VlanId", 1..=4094).map(|v| v as u16);
                let vpc = match node.string(report, "VpcId") {
                    Some(vpc) if all.vpcs.contains_key(vpc) => vpc.to_string(),
                    Some(vpc) => {
                        let message = format!("The vpc ID '{vpc}' does not exist");
                        report.fault("InvalidVpcID.NotFound", format!("{}.VpcId", node.path), message);
                        continue;
                    }
                    None => match all.vpcs.keys().collect::<Vec<_>>()[..] {
                        [only] => only.clone(),
                        _ => {
                            let message = format!(
                                "the document has {} VPCs: say which one the uplink carries",
                                all.vpcs.len()
                            );
                            report.fault("MissingParameter", format!("{}.VpcId", node.path), message);
                            continue;
                        }
                    },
                };
                if !carried.insert((port, vlan)) {
                    let tag = vlan.map_or("untagged".to_string(), |v| format!("VLAN {v}"));
                    report.fault(
                        "InvalidParameterValue",
                        &node.path,
                        format!("{tag} of the uplink '{port}' is given twice"),
                    );
                }
                (Binding::Uplink { port: port.to_string(), vpc, vlan }, port, "Uplink")
            }
            _ => {
                let message = "expected either NetworkInterfaceId and Port, or Uplink";
                report.fault("InvalidParameterCombination", &node.path, message);
                continue;
            }
        };
        let is_uplink = key == "Uplink";
        let clash = match serving.insert(port, is_uplink) {
            None => false,
            Some(was_uplink) => !(was_uplink && is_uplink),
        };
        if clash {
            report.fault(
                "InvalidParameterValue",
                format!("{}.{key}", node.path),
                format!("the port '{port}' is bound twice"),
            );
        }
        if !context.ports.iter().any(|p| p == port) {
            let known = if context.ports.is_empty() {
                "it has none".to_string()
            } else {
                format!("it has {}", context.ports.join(", "))
            };
            let message = format!("the switch has no port named '{port}' ({known})");
            let path = format!("{}.{key}", node.path);
            if context.missing_ports_are_notices {
                report.notice(path, message);
                continue;
            }
            report.fault("InvalidParameterValue", path, message);
        }
        all.bindings.push(binding);
    }
}
