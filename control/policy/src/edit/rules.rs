//! Rules: authorized, revoked, described.

use serde_json::{Value, json};

use super::{existing_group, no_group, strings};
use crate::model::{Id, Peer, Rule, SecurityGroup, Validated};
use crate::reader::Node;
use crate::report::Report;
use crate::validate::groups::{Permissions, description, permissions};
use crate::validate::references::is_stale;
use crate::validate::rule_ids::make_ids;
use crate::validate::words::InWords;

const PERMISSIONS: &str = "IpPermissions";
const RULE_IDS: &str = "SecurityGroupRuleIds";
const DESCRIPTIONS: &str = "SecurityGroupRuleDescriptions";

fn direction(group: &mut SecurityGroup, egress: bool) -> &mut Vec<Rule> {
    if egress { &mut group.outbound } else { &mut group.inbound }
}

/// Whether two rules permit the same; descriptions do not count, nor does
/// whether a reference is stale.
fn is_same(one: &Rule, other: &Rule) -> bool {
    let peers = match (&one.peer, &other.peer) {
        (Peer::Group { id, .. }, Peer::Group { id: other, .. }) => id == other,
        (one, other) => one == other,
    };
    one.service == other.service && peers
}

/// The group and the rules of a request that names them by their properties.
fn read(node: &Node<'_, '_>, report: &mut Report, all: &Validated) -> Option<(Id, Permissions)> {
    let group = existing_group(node, report, "GroupId", all);
    let permissions = permissions(report, node, PERMISSIONS, all);
    Some((group?, permissions))
}

/// Adds rules, all or none (S66).
pub(super) fn authorize(
    node: &Node<'_, '_>,
    report: &mut Report,
    all: &mut Validated,
    egress: bool,
) -> Option<Value> {
    node.known(report, &["GroupId", PERMISSIONS], &["DryRun", "TagSpecifications"]);
    if !node.has(PERMISSIONS) {
        node.missing(report, PERMISSIONS);
    }
    let (id, mut permissions) = read(node, report, all)?;
    let vpc = all.groups.get(&id)?.vpc.clone();
    let mut stale = Vec::new();
    for &(n, by_peering) in permissions.references() {
        let path = || permissions.reference_path(PERMISSIONS, n);
        let Peer::Group { id, .. } = &permissions.rules[n].peer else { continue };
        if !all.groups.contains_key(id) {
            // A document may have such a rule as stale; nobody asks for one.
            no_group(report, id, path());
        } else {
            let in_scope = |other: &str| all.scopes(&vpc).any(|scope| scope == other);
            if is_stale(report, all, (&vpc, id), in_scope, by_peering, path) {
                stale.push(n);
            }
        }
    }
    for n in stale {
        if let Peer::Group { stale, .. } = &mut permissions.rules[n].peer {
            *stale = true;
        }
    }
    let group = all.groups.get_mut(&id)?;
    let before = direction(group, egress).len();
    for (n, rule) in permissions.rules.iter().enumerate() {
        if direction(group, egress)[..before].iter().any(|known| is_same(known, rule)) {
            let words = InWords(&rule.service, &rule.peer);
            let message = format!("the specified rule \"{words}\" already exists");
            report.fault("InvalidPermission.Duplicate", permissions.path(PERMISSIONS, n), message);
        }
        direction(group, egress).push(rule.clone());
    }
    make_ids(group);
    let added: Vec<Id> = direction(group, egress)[before..].iter().map(|r| r.id.clone()).collect();
    let shown = group.rules_document();
    let is_added = |rule: &&Value| added.iter().any(|id| rule["SecurityGroupRuleId"] == id.as_str());
    Some(json!({ "Return": true, "SecurityGroupRules": shown.iter().filter(is_added).collect::<Vec<_>>() }))
}

/// Takes rules away, all or none: by exact properties, or by their ids.
pub(super) fn revoke(
    node: &Node<'_, '_>,
    report: &mut Report,
    all: &mut Validated,
    egress: bool,
) -> Option<Value> {
    node.known(report, &["GroupId", PERMISSIONS, RULE_IDS], &["DryRun"]);
    if !node.has(PERMISSIONS) && !node.has(RULE_IDS) {
        node.missing(report, PERMISSIONS);
    }
    let ids = strings(node, report, RULE_IDS);
    let (id, permissions) = read(node, report, all)?;
    let group = all.groups.get_mut(&id)?;
    let mut gone = Vec::new();
    for (n, rule) in permissions.rules.iter().enumerate() {
        let path = || permissions.path(PERMISSIONS, n);
        gone.extend(position(direction(group, egress), report, rule, path));
    }
    for (rule, path) in ids {
        gone.extend(by_id(direction(group, egress), report, rule, path));
    }
    let mut at = 0;
    direction(group, egress).retain(|_| {
        at += 1;
        !gone.contains(&(at - 1))
    });
    Some(json!({ "Return": true }))
}

/// Gives rules other descriptions: by their properties, or by their ids.
pub(super) fn describe(
    node: &Node<'_, '_>,
    report: &mut Report,
    all: &mut Validated,
    egress: bool,
) -> Option<Value> {
    node.known(report, &["GroupId", PERMISSIONS, DESCRIPTIONS], &["DryRun"]);
    if !node.has(PERMISSIONS) && !node.has(DESCRIPTIONS) {
        node.missing(report, PERMISSIONS);
    }
    let strict = all.settings.strict_rule_descriptions;
    let (id, permissions) = read(node, report, all)?;
    let rules = direction(all.groups.get_mut(&id)?, egress);
    for (n, rule) in permissions.rules.iter().enumerate() {
        if let Some(at) = position(rules, report, rule, || permissions.path(PERMISSIONS, n)) {
            rules[at].description.clone_from(&rule.description);
        }
    }
    for item in node.list(report, DESCRIPTIONS) {
        item.known(report, &["SecurityGroupRuleId", "Description"], &[]);
        let text = description(report, &item, strict).map(String::from);
        let Some(rule) = item.required(report, "SecurityGroupRuleId") else { continue };
        if let Some(at) = by_id(rules, report, rule, item.path_of("SecurityGroupRuleId")) {
            rules[at].description = text;
        }
    }
    Some(json!({ "Return": true }))
}

fn position(rules: &[Rule], report: &mut Report, wanted: &Rule, path: impl Fn() -> String) -> Option<usize> {
    let found = rules.iter().position(|rule| is_same(rule, wanted));
    if found.is_none() {
        let message = "The specified rule does not exist in this security group";
        report.fault("InvalidPermission.NotFound", path(), message);
    }
    found
}

fn by_id(rules: &[Rule], report: &mut Report, id: &str, path: String) -> Option<usize> {
    let found = rules.iter().position(|rule| rule.id == id);
    if found.is_none() {
        let message = format!("The security group rule ID '{id}' does not exist");
        report.fault("InvalidSecurityGroupRuleId.NotFound", path, message);
    }
    found
}
