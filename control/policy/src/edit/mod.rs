//! Single changes, by EC2's names and in the shapes of its requests. A change
//! makes a policy of the one in force; what that policy has to be, quotas and
//! all, is for validation to say, as of a pushed one.

mod groups;
mod interfaces;
mod prefix_lists;
mod rules;

use std::hash::{BuildHasher, RandomState};

use serde_json::Value;

use crate::model::Validated;
use crate::reader::Node;
use crate::report::{Faults, Notice, Report};
use crate::validate::groups::group_id;

/// A policy after a change.
#[derive(Debug)]
pub struct Edited {
    /// The policy.
    pub policy: Validated,
    /// What the action answers, in AWS's shape.
    pub answer: Value,
    /// What may not be meant as it is written.
    pub notices: Vec<Notice>,
}

/// Changes a policy as an action's request asks; `None` if there is no such
/// action.
///
/// # Errors
/// Everything that is wrong with the request, each with its place in it. The
/// policy is only borrowed: nothing is half done.
pub fn edit(policy: &Validated, action: &str, request: &Value) -> Option<Result<Edited, Faults>> {
    let change = find(action)?;
    let mut report = Report::default();
    let mut next = policy.clone();
    let root = Node::root(request);
    let mut answer = None;
    if root.object(&mut report).is_some() {
        root.refuse_denials(&mut report);
        answer = change(&root, &mut report, &mut next);
    }
    let finished = report.finish();
    Some(finished.map(|notices| Edited { policy: next, answer: answer.unwrap_or_default(), notices }))
}

/// An action: changes the policy and answers, or reports why not.
type Action = fn(&Node<'_, '_>, &mut Report, &mut Validated) -> Option<Value>;

fn find(action: &str) -> Option<Action> {
    Some(match action {
        "CreateSecurityGroup" => groups::create,
        "CopySecurityGroup" => groups::copy,
        "DeleteSecurityGroup" => groups::delete,
        "AuthorizeSecurityGroupIngress" => |node, report, all| rules::authorize(node, report, all, false),
        "AuthorizeSecurityGroupEgress" => |node, report, all| rules::authorize(node, report, all, true),
        "RevokeSecurityGroupIngress" => |node, report, all| rules::revoke(node, report, all, false),
        "RevokeSecurityGroupEgress" => |node, report, all| rules::revoke(node, report, all, true),
        "UpdateSecurityGroupRuleDescriptionsIngress" => {
            |node, report, all| rules::describe(node, report, all, false)
        }
        "UpdateSecurityGroupRuleDescriptionsEgress" => {
            |node, report, all| rules::describe(node, report, all, true)
        }
        "ModifyNetworkInterfaceAttribute" => interfaces::modify,
        "ModifyInstanceAttribute" => interfaces::modify_primary,
        "CreateManagedPrefixList" => prefix_lists::create,
        "ModifyManagedPrefixList" => prefix_lists::modify,
        "DeleteManagedPrefixList" => prefix_lists::delete,
        _ => return None,
    })
}

/// The id of a group that there is.
fn existing_group(node: &Node<'_, '_>, report: &mut Report, key: &str, all: &Validated) -> Option<String> {
    let id = group_id(report, node, key)?;
    if !all.groups.contains_key(id) {
        no_group(report, id, node.path_of(key));
        return None;
    }
    Some(id.to_string())
}

fn no_group(report: &mut Report, id: &str, path: String) {
    report.fault("InvalidGroup.NotFound", path, format!("The security group '{id}' does not exist"));
}

/// The strings of the list under a key, each with its path.
fn strings<'v>(node: &Node<'v, '_>, report: &mut Report, key: &str) -> Vec<(&'v str, String)> {
    let Some(list) = node.get(key) else { return vec![] };
    let Some(items) = list.value.as_array() else {
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
fn fresh_id(prefix: &str, is_taken: impl Fn(&str) -> bool) -> String {
    loop {
        let id = format!("{prefix}0{:016x}", RandomState::new().hash_one(prefix));
        if !is_taken(&id) {
            return id;
        }
    }
}
