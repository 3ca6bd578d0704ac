use std::collections::{BTreeMap, HashMap};

use engine::policy::MAX_ENTRIES;

use super::{cidr, keys, known};
use crate::model::{AclEntry, Id, NetworkAcl, RuleService, Validated};
use crate::reader::Node;
use crate::report::Report;

/// The entry that AWS shows last: it denies what no other entry is about.
const LAST: i64 = 32_767;

/// Reads `NetworkAcls` (S49).
pub(super) fn read(root: &Node<'_, '_>, report: &mut Report, all: &mut Validated) {
    let mut guarded: HashMap<Id, Id> = HashMap::new();
    for node in root.list(report, "NetworkAcls") {
        known(&node, report, &keys::NETWORK_ACL);
        let (id, vpc) = (node.required(report, "NetworkAclId"), node.required(report, "VpcId"));
        let mut entries = [BTreeMap::new(), BTreeMap::new()];
        for item in node.list(report, "Entries") {
            known(&item, report, &keys::ACL_ENTRY);
            let Some((egress, number, entry)) = entry(report, &item) else { continue };
            if entries[usize::from(egress)].insert(number, entry).is_some() {
                let message = format!("the entry {number} of this direction is there twice");
                report.fault("NetworkAclEntryAlreadyExists", item.path_of("RuleNumber"), message);
            }
        }
        let [inbound, outbound] = entries;
        if inbound.len().max(outbound.len()) > MAX_ENTRIES {
            let message = format!("a network ACL has {MAX_ENTRIES} entries at most in each direction");
            report.fault("NetworkAclEntryLimitExceeded", node.path_of("Entries"), message);
        }
        let (Some(id), Some(vpc)) = (id, vpc) else { continue };
        let mut subnets = Vec::new();
        for item in node.list(report, "Associations") {
            known(&item, report, &keys::ACL_ASSOCIATION);
            let Some(subnet) = item.required(report, "SubnetId") else { continue };
            match all.subnets.get(subnet) {
                None => {
                    let message = format!("The subnet ID '{subnet}' does not exist");
                    report.fault("InvalidSubnetID.NotFound", item.path_of("SubnetId"), message);
                }
                Some(known) if known.vpc != vpc => {
                    let message = "You have specified two resources that belong to different networks.";
                    report.fault("InvalidParameterValue", item.path_of("SubnetId"), message);
                }
                Some(_) => {}
            }
            if let Some(other) = guarded.insert(subnet.into(), id.into()) {
                let message = format!("'{subnet}' is associated with '{other}' already");
                report.fault("InvalidParameterValue", item.path_of("SubnetId"), message);
            }
            subnets.push(subnet.into());
        }
        subnets.sort_unstable();
        all.vpcs.or_default(vpc);
        let acl = NetworkAcl { id: id.into(), vpc: vpc.into(), inbound, outbound, subnets };
        if all.network_acls.insert(id.into(), acl).is_some() {
            let message = format!("the network ACL '{id}' is there twice");
            report.fault("InvalidParameterValue", node.path(), message);
        }
    }
}

/// Direction, number and contents of an entry; `None` also for the last one.
fn entry(report: &mut Report, node: &Node<'_, '_>) -> Option<(bool, u16, AclEntry)> {
    for key in ["RuleNumber", "Egress"] {
        if !node.has(key) {
            node.missing(report, key);
        }
    }
    let number = node.number(report, "RuleNumber", 1..=LAST);
    let egress = node.flag(report, "Egress");
    let allow = match node.required(report, "RuleAction") {
        Some("allow") => Some(true),
        Some("deny") => Some(false),
        Some(other) => {
            let message = format!("expected allow or deny, found {other}");
            report.fault("InvalidParameterValue", node.path_of("RuleAction"), message);
            None
        }
        None => None,
    };
    if number == Some(LAST) && allow == Some(false) {
        return None;
    }
    let block = match (node.has("CidrBlock"), node.has("Ipv6CidrBlock")) {
        (true, true) => {
            let message = "Only one of CidrBlock and Ipv6CidrBlock can be specified";
            report.fault("InvalidParameterCombination", node.path(), message);
            None
        }
        (false, true) => cidr(report, node, "Ipv6CidrBlock", true),
        _ => cidr(report, node, "CidrBlock", false),
    };
    let service = service(report, node);
    let entry = AclEntry { allow: allow?, service: service?, block: block? };
    Some((egress?, u16::try_from(number?).ok()?, entry))
}

fn service(report: &mut Report, node: &Node<'_, '_>) -> Option<RuleService> {
    let text = node.required(report, "Protocol")?;
    let number = match text {
        "-1" => return Some(RuleService::All),
        _ => text.parse::<u8>().ok(),
    };
    let Some(number) = number else {
        let message = format!("expected -1 or a number from 0 to 255, found '{text}'");
        report.fault("InvalidParameterValue", node.path_of("Protocol"), message);
        return None;
    };
    let range = |report: &mut Report, within: &str, keys: [&str; 2], low, high| {
        let inner = node.child(report, within)?;
        let mut read = |key| inner.number(report, key, low..=high);
        read(keys[0]).zip(read(keys[1]))
    };
    match number {
        6 | 17 if !node.has("PortRange") => Some(RuleService::Ports(number, 0, u16::MAX)),
        6 | 17 => {
            let (from, to) = range(report, "PortRange", ["From", "To"], 0, 65535)?;
            if from > to {
                report.fault(
                    "InvalidParameterValue",
                    node.path_of("PortRange"),
                    format!("{from} is above {to}"),
                );
                return None;
            }
            Some(RuleService::Ports(number, u16::try_from(from).ok()?, u16::try_from(to).ok()?))
        }
        1 | 58 if !node.has("IcmpTypeCode") => Some(RuleService::Icmp(number, None, None)),
        1 | 58 => {
            let (kind, code) = range(report, "IcmpTypeCode", ["Type", "Code"], -1, 255)?;
            Some(RuleService::Icmp(number, u8::try_from(kind).ok(), u8::try_from(code).ok()))
        }
        _ => Some(RuleService::Protocol(number, None)),
    }
}
