//! The groups of interfaces.

use serde_json::{Value, json};

use super::{no_group, strings};
use crate::model::{Id, Validated};
use crate::reader::Node;
use crate::report::Report;
use crate::validate::is_id;

const GROUPS: &str = "Groups";

/// Gives an interface other groups (S8, S11, D9).
pub(super) fn modify(node: &Node<'_, '_>, report: &mut Report, all: &mut Validated) -> Option<Value> {
    node.known(report, &["NetworkInterfaceId", GROUPS], &["DryRun"]);
    let id = node.required(report, "NetworkInterfaceId")?;
    if !all.interfaces.contains_key(id) {
        let message = format!("The networkInterface ID '{id}' does not exist");
        report.fault("InvalidNetworkInterfaceID.NotFound", node.path_of("NetworkInterfaceId"), message);
        return None;
    }
    set_groups(node, report, all, id.into())
}

/// The same for the primary interface of an instance, and for no other (S10).
pub(super) fn modify_primary(node: &Node<'_, '_>, report: &mut Report, all: &mut Validated) -> Option<Value> {
    node.known(report, &["InstanceId", GROUPS], &["DryRun"]);
    let instance = node.required(report, "InstanceId")?;
    let is_primary = |attachment: &crate::model::Attachment| {
        attachment.instance.as_deref() == Some(instance) && attachment.device_index == Some(0)
    };
    let primary = all.interfaces.values().find(|i| i.attachment.as_ref().is_some_and(is_primary));
    let Some(id) = primary.map(|i| i.id.clone()) else {
        let message = format!("The instance ID '{instance}' does not exist");
        report.fault("InvalidInstanceID.NotFound", node.path_of("InstanceId"), message);
        return None;
    };
    set_groups(node, report, all, id)
}

fn set_groups(node: &Node<'_, '_>, report: &mut Report, all: &mut Validated, id: Id) -> Option<Value> {
    if !node.has(GROUPS) {
        node.missing(report, GROUPS);
        return None;
    }
    let interface = all.interfaces.get_mut(&id)?;
    let mut groups = Vec::new();
    let given = strings(node, report, GROUPS);
    if given.is_empty() {
        let message = "an interface has one group or more: without any it would have the default group";
        report.fault("InvalidParameterValue", node.path_of(GROUPS), message);
    }
    for (group, path) in given {
        match all.groups.get(group) {
            _ if !is_id(group, "sg-") => {
                let message = format!("The security group ID '{group}' is malformed");
                report.fault("InvalidGroupId.Malformed", path, message);
            }
            None => no_group(report, group, path),
            Some(known) if known.vpc != interface.vpc => {
                let message = "You have specified two resources that belong to different networks.";
                report.fault("InvalidGroup.NotFound", path, message);
            }
            Some(known) => groups.push(known.id.clone()),
        }
    }
    groups.sort_unstable();
    groups.dedup();
    let most = all.settings.quotas.map_or(engine::policy::MAX_GROUPS, |quotas| quotas.groups_per_interface);
    if groups.len() > most {
        let message = format!("{} groups are more than the {most} that an interface may have", groups.len());
        report.fault("SecurityGroupsPerInterfaceLimitExceeded", node.path_of(GROUPS), message);
    }
    interface.groups = groups;
    Some(json!({ "Return": true, "NetworkInterfaceId": id }))
}
