//! Groups: made, copied, deleted.

use serde_json::{Value, json};

use super::{existing_group, fresh_id};
use crate::model::{DEFAULT_GROUP, Id, Peer, Rule, SecurityGroup, Validated};
use crate::reader::Node;
use crate::report::Report;
use crate::validate::defaults::everything_out;
use crate::validate::groups::{named, no_id};
use crate::validate::rule_ids::make_ids;

/// A new group lets nothing in and everything out (S57, S64, S65).
pub(super) fn create(node: &Node<'_, '_>, report: &mut Report, all: &mut Validated) -> Option<Value> {
    node.known(report, &["GroupName", "Description", "VpcId"], &["DryRun", "TagSpecifications"]);
    let vpc = node.required(report, "VpcId");
    let (name, description) = described(node, report, all, vpc);
    let vpc = vpc?;
    let Some(about) = all.vpcs.get(vpc) else {
        report.fault(
            "InvalidVpcID.NotFound",
            node.path_of("VpcId"),
            format!("The vpc ID '{vpc}' does not exist"),
        );
        return None;
    };
    let outbound = everything_out(about.ipv6);
    Some(add(all, name?, description?, vpc.into(), vec![], outbound))
}

/// The same rules under a new id; rules that refer to the source itself go on doing so.
pub(super) fn copy(node: &Node<'_, '_>, report: &mut Report, all: &mut Validated) -> Option<Value> {
    node.known(report, &["SourceGroupId", "GroupName", "Description"], &["DryRun", "TagSpecifications"]);
    let source = existing_group(node, report, "SourceGroupId", all);
    let source = source.and_then(|id| all.groups.get(&id).cloned());
    let (name, description) = described(node, report, all, source.as_ref().map(|s| s.vpc.as_str()));
    let SecurityGroup { vpc, inbound, outbound, .. } = source?;
    Some(add(all, name?, description?, vpc, inbound, outbound))
}

/// Deletes a group that nobody needs (S56, D10).
pub(super) fn delete(node: &Node<'_, '_>, report: &mut Report, all: &mut Validated) -> Option<Value> {
    node.known(report, &["GroupId"], &["DryRun"]);
    let id = existing_group(node, report, "GroupId", all)?;
    let group = &all.groups[&id];
    let path = node.path_of("GroupId");
    if group.name == DEFAULT_GROUP {
        let message = format!("the specified group: \"{id}\" name: \"default\" cannot be deleted by a user");
        report.fault("CannotDelete", path, message);
        return None;
    }
    let refers = |rule: &Rule| matches!(&rule.peer, Peer::Group { id: other, .. } if *other == id);
    let referred = || {
        let others = all.groups.values().filter(|g| g.id != id);
        others.flat_map(|g| g.inbound.iter().chain(&g.outbound)).any(refers)
    };
    let needed = all.interfaces.values().any(|i| i.groups.contains(&id)) || referred();
    if needed {
        report.fault("DependencyViolation", path, format!("resource {id} has a dependent object"));
        return None;
    }
    all.groups.remove(&id);
    Some(json!({ "Return": true, "GroupId": id }))
}

/// A name that is free in its VPC (S59 to S63, D16, D19), and a description.
fn described(
    node: &Node<'_, '_>,
    report: &mut Report,
    all: &Validated,
    vpc: Option<&str>,
) -> (Option<String>, Option<String>) {
    let name = named(report, node, "GroupName").map(str::trim_end);
    let description = named(report, node, "Description");
    no_id(report, node, name);
    let path = || node.path_of("GroupName");
    if let Some(name) = name {
        let same = |g: &&SecurityGroup| Some(g.vpc.as_str()) == vpc && g.name.eq_ignore_ascii_case(name);
        if name.eq_ignore_ascii_case(DEFAULT_GROUP) {
            let message = format!("Cannot use reserved security group name: {name}");
            report.fault("InvalidParameterValue", path(), message);
        } else if let (Some(group), Some(vpc)) = (all.groups.values().find(same), vpc) {
            let message = format!("The security group '{}' already exists for VPC '{vpc}'", group.name);
            report.fault("InvalidGroup.Duplicate", path(), message);
        }
    }
    (name.map(String::from), description.map(String::from))
}

fn add(
    all: &mut Validated,
    name: String,
    description: String,
    vpc: Id,
    inbound: Vec<Rule>,
    outbound: Vec<Rule>,
) -> Value {
    let id = fresh_id("sg-", |id| all.groups.contains_key(id));
    let unnamed = |rules: Vec<Rule>| rules.into_iter().map(|r| Rule { id: Id::default(), ..r }).collect();
    let (inbound, outbound) = (unnamed(inbound), unnamed(outbound));
    let mut group = SecurityGroup { id: id.clone(), name, description, vpc, inbound, outbound };
    make_ids(&mut group);
    all.groups.insert(id.clone(), group);
    json!({ "GroupId": id })
}
