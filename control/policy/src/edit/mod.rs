//! Single changes, by EC2's names and in the shapes of its requests. A change
//! makes a policy of the one in force. What a change of groups, of rules or of an
//! interface's groups has to hold to is looked at where it changes something;
//! changes of prefix lists leave it to validation, as of a pushed policy.

mod groups;
mod interfaces;
mod prefix_lists;
mod rules;

use std::hash::{BuildHasher, RandomState};

use compact_str::format_compact;
use serde_json::Value;

use crate::model::{Id, Validated};
use crate::reader::Node;
use crate::report::{Faults, Notice, Report};
use crate::tree::Tree;
use crate::validate::groups::group_id;
use crate::validate::{quotas, sort_rules};

/// A policy after a change.
#[derive(Debug)]
pub struct Edited {
    /// The policy.
    pub policy: Validated,
    /// What the action answers, in AWS's shape.
    pub answer: Value,
    /// What may not be meant as it is written.
    pub notices: Vec<Notice>,
    /// Whether it is what validation would make of it: there is nothing left to say.
    pub is_settled: bool,
}

/// Changes a policy as an action's request asks; `None` if there is no such
/// action.
///
/// # Errors
/// Everything that is wrong with the request, each with its place in it. The
/// policy is only borrowed: nothing is half done.
pub fn edit(policy: &Validated, action: &str, request: &Tree<'_>) -> Option<Result<Edited, Faults>> {
    let (change, is_settled) = find(action)?;
    let mut report = Report::default();
    let mut next = policy.clone();
    let root = Node::root(request);
    let mut answer = None;
    if root.object(&mut report).is_some() {
        root.refuse_denials(&mut report);
        answer = change(&root, &mut report, &mut next);
        settle(&root, &mut report, policy, &mut next);
    }
    let finished = report.finish();
    let answer = answer.unwrap_or_default();
    Some(finished.map(|notices| Edited { policy: next, answer, notices, is_settled }))
}

/// An action: changes the policy and answers, or reports why not.
type Action = fn(&Node<'_, '_>, &mut Report, &mut Validated) -> Option<Value>;

/// The action of a name, and whether it leaves nothing to validation.
fn find(action: &str) -> Option<(Action, bool)> {
    let (action, is_settled): (Action, bool) = match action {
        "CreateSecurityGroup" => (groups::create, true),
        "CopySecurityGroup" => (groups::copy, true),
        "DeleteSecurityGroup" => (groups::delete, true),
        "AuthorizeSecurityGroupIngress" => {
            (|node, report, all| rules::authorize(node, report, all, false), true)
        }
        "AuthorizeSecurityGroupEgress" => {
            (|node, report, all| rules::authorize(node, report, all, true), true)
        }
        "RevokeSecurityGroupIngress" => (|node, report, all| rules::revoke(node, report, all, false), true),
        "RevokeSecurityGroupEgress" => (|node, report, all| rules::revoke(node, report, all, true), true),
        "UpdateSecurityGroupRuleDescriptionsIngress" => {
            (|node, report, all| rules::describe(node, report, all, false), true)
        }
        "UpdateSecurityGroupRuleDescriptionsEgress" => {
            (|node, report, all| rules::describe(node, report, all, true), true)
        }
        "ModifyNetworkInterfaceAttribute" => (interfaces::modify, true),
        "ModifyInstanceAttribute" => (interfaces::modify_primary, true),
        "CreateManagedPrefixList" => (prefix_lists::create, false),
        "ModifyManagedPrefixList" => (prefix_lists::modify, false),
        "DeleteManagedPrefixList" => (prefix_lists::delete, false),
        _ => return None,
    };
    Some((action, is_settled))
}

/// What validation makes of groups, of those that a change made others: rules in
/// order, as many as there may be (D20).
fn settle(root: &Node<'_, '_>, report: &mut Report, before: &Validated, next: &mut Validated) {
    let changed =
        before.groups.differences(&next.groups).filter_map(|(id, _, new)| new.and(Some(Id::from(id))));
    for id in changed.collect::<Vec<_>>() {
        if let Some(group) = next.groups.get_mut(&id) {
            sort_rules(group);
        }
        if let Some(group) = next.groups.get(&id) {
            quotas::check_group(report, next, group, |_| root.path_of("IpPermissions"));
        }
    }
}

/// The id of a group that there is.
fn existing_group(node: &Node<'_, '_>, report: &mut Report, key: &str, all: &Validated) -> Option<Id> {
    let id = group_id(report, node, key)?;
    if !all.groups.contains_key(id) {
        no_group(report, id, node.path_of(key));
        return None;
    }
    Some(id.into())
}

fn no_group(report: &mut Report, id: &str, path: String) {
    report.fault("InvalidGroup.NotFound", path, format!("The security group '{id}' does not exist"));
}

/// The strings of the list under a key, each with its path.
fn strings<'v>(node: &Node<'v, '_>, report: &mut Report, key: &str) -> Vec<(&'v str, String)> {
    let Some(list) = node.get(key) else { return vec![] };
    let Some(items) = list.value.as_list() else {
        report.fault("InvalidParameterValue", list.path(), "expected a list of strings");
        return vec![];
    };
    let mut found = Vec::with_capacity(items.len());
    for (n, item) in items.iter().enumerate() {
        let path = format!("{}[{n}]", list.path());
        match item.as_str() {
            Some(text) => found.push((text, path)),
            None => report.fault("InvalidParameterValue", path, "expected a string"),
        }
    }
    found
}

/// A new id: AWS's 17 hex digits, of the system's random numbers, and not taken.
fn fresh_id(prefix: &str, is_taken: impl Fn(&str) -> bool) -> Id {
    loop {
        let id = format_compact!("{prefix}0{:016x}", RandomState::new().hash_one(prefix));
        if !is_taken(&id) {
            return id;
        }
    }
}
