//! What a policy has that another has not, as a document: for a store that keeps
//! one policy after the other.

use std::collections::{HashMap, HashSet};

use serde::Serialize;
use serde_json::{Value, json};

use crate::export::InDocument;
use crate::model::{SecurityGroup, Validated};

/// Where changes of so many objects are as good as the whole.
const WHOLE: usize = 4;

/// A document of groups and interfaces.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Changes<'c> {
    security_groups: Vec<Value>,
    security_group_rules: Vec<Value>,
    network_interfaces: Vec<InDocument<'c>>,
}

impl Validated {
    /// The groups and interfaces of this policy that are others than those of
    /// `before`, as the text of a document. `None` if anything else differs, if
    /// something is gone, or if it is a good part of the whole.
    pub fn changes_since(&self, before: &Validated) -> Option<String> {
        let same = self.vpcs == before.vpcs
            && self.subnets == before.subnets
            && self.network_acls == before.network_acls
            && self.prefix_lists == before.prefix_lists
            && self.peerings == before.peerings
            && self.bindings == before.bindings
            && self.settings == before.settings;
        if !same {
            return None;
        }
        let most = (self.groups.len() + self.interfaces.len()) / WHOLE;
        let mut left = most + 1;
        let mut groups: Vec<&SecurityGroup> = Vec::new();
        for (_, _, new) in before.groups.differences(&self.groups) {
            groups.push(new?);
            left = left.checked_sub(1)?;
        }
        let mut network_interfaces = Vec::new();
        for (_, _, new) in before.interfaces.differences(&self.interfaces) {
            network_interfaces.push(InDocument(new?));
            left = left.checked_sub(1)?;
        }
        let changes = Changes {
            security_groups: groups.iter().map(|g| g.to_document()).collect(),
            security_group_rules: groups.iter().flat_map(|g| g.rules_document()).collect(),
            network_interfaces,
        };
        serde_json::to_string(&changes).ok()
    }
}

/// The document of a policy, after changes that [`Validated::changes_since`] has
/// told one after the other.
pub fn with_changes(mut document: Value, changes: Vec<Value>) -> Value {
    for (list, key) in [("SecurityGroups", "GroupId"), ("NetworkInterfaces", "NetworkInterfaceId")] {
        let mut items = taken(&mut document, list);
        let id = |item: &Value| item[key].as_str().unwrap_or_default().to_string();
        let mut places: HashMap<String, usize> = items.iter().map(id).zip(0..).collect();
        for item in changes.iter().flat_map(|changes| listed(changes, list)) {
            match places.get(&id(item)) {
                Some(at) => items[*at] = item.clone(),
                None => {
                    places.insert(id(item), items.len());
                    items.push(item.clone());
                }
            }
        }
        document[list] = Value::Array(items);
    }
    // Of a group that has changed, the last change has all rules.
    let mut rules: Vec<Value> = Vec::new();
    let mut told: HashSet<String> = HashSet::new();
    let mut whole = vec![json!({ "SecurityGroupRules": taken(&mut document, "SecurityGroupRules") })];
    whole.extend(changes);
    for changes in whole.iter_mut().rev() {
        let of = |item: &Value| item["GroupId"].as_str().unwrap_or_default().to_string();
        let mut items = taken(changes, "SecurityGroupRules");
        items.retain(|rule| !told.contains(&of(rule)));
        rules.append(&mut items);
        told.extend(listed(changes, "SecurityGroups").map(of));
    }
    document["SecurityGroupRules"] = Value::Array(rules);
    document
}

fn listed<'v>(document: &'v Value, list: &str) -> impl Iterator<Item = &'v Value> {
    document.get(list).and_then(Value::as_array).into_iter().flatten()
}

fn taken(document: &mut Value, list: &str) -> Vec<Value> {
    match document.get_mut(list).map(Value::take) {
        Some(Value::Array(items)) => items,
        _ => vec![],
    }
}
