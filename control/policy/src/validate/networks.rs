use std::collections::HashSet;

use super::{cidr, keys, known};
use crate::model::{Id, Peering, Subnet, Validated, Vpc};
use crate::reader::Node;
use crate::report::Report;

/// Reads `Vpcs`, `Subnets` and `VpcPeeringConnections`. Returns the VPCs that
/// the document describes, and does not only mention.
pub(super) fn read(root: &Node<'_, '_>, report: &mut Report, all: &mut Validated) -> HashSet<Id> {
    for node in root.list(report, "Vpcs") {
        known(&node, report, &keys::VPC);
        let Some(id) = node.required(report, "VpcId") else { continue };
        let ipv6 = !associated(&node, report).is_empty();
        if all.vpcs.insert(id.into(), Vpc { ipv6 }).is_some() {
            report.fault("InvalidParameterValue", node.path(), format!("the VPC '{id}' is there twice"));
        }
    }
    let described = all.vpcs.keys().cloned().collect();
    for node in root.list(report, "Subnets") {
        known(&node, report, &keys::SUBNET);
        let (id, vpc) = (node.required(report, "SubnetId"), node.required(report, "VpcId"));
        let mut blocks = Vec::new();
        if node.has("CidrBlock") {
            blocks.extend(cidr(report, &node, "CidrBlock", false));
        }
        for block in associated(&node, report).iter().filter(|b| b.has("Ipv6CidrBlock")) {
            blocks.extend(cidr(report, block, "Ipv6CidrBlock", true));
        }
        let (Some(id), Some(vpc)) = (id, vpc) else { continue };
        all.vpcs.or_default(vpc);
        let subnet = Subnet { vpc: vpc.into(), blocks };
        if all.subnets.insert(id.into(), subnet).is_some() {
            report.fault("InvalidParameterValue", node.path(), format!("the subnet '{id}' is there twice"));
        }
    }
    for node in root.list(report, "VpcPeeringConnections") {
        known(&node, report, &keys::PEERING);
        let id = node.required(report, "VpcPeeringConnectionId");
        let mut inner = |outer: &str, key: &str| match node.child(report, outer) {
            Some(info) => info.required(report, key),
            None => {
                if !node.has(outer) {
                    node.missing(report, outer);
                }
                None
            }
        };
        let ends = [inner("RequesterVpcInfo", "VpcId"), inner("AccepterVpcInfo", "VpcId")];
        let status = inner("Status", "Code");
        if let (Some(id), [Some(one), Some(other)], Some(status)) = (id, ends, status) {
            let vpcs = [one.into(), other.into()];
            all.peerings.push(Peering { id: id.into(), vpcs, active: status == "active" });
        }
    }
    described
}

/// The IPv6 blocks that are in force.
fn associated<'v, 's>(node: &'s Node<'v, '_>, report: &mut Report) -> Vec<Node<'v, 's>> {
    let mut blocks: Vec<_> = node.list(report, "Ipv6CidrBlockAssociationSet").collect();
    blocks.retain(|block| {
        let state = block.get("Ipv6CidrBlockState").and_then(|s| s.value.get("State"));
        state.is_none_or(|state| state.as_str() == Some("associated"))
    });
    blocks
}
