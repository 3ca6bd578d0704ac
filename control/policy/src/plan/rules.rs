use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Change;
use crate::model::{Peer, Rule, RuleService, SecurityGroup, Validated};

/// Whose rule it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Group {
    /// `sg-...`
    pub group_id: String,
    /// Its name.
    pub group_name: String,
}

/// A rule that comes, goes, or has another id or description.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RuleChange {
    /// The group.
    #[serde(flatten)]
    pub group: Group,
    /// What becomes of it.
    pub change: Change,
    /// `sgr-...`; the new one where it changes.
    pub security_group_rule_id: String,
    /// Whether it is for what leaves.
    pub is_egress: bool,
    /// What it permits.
    pub permits: String,
    /// From or to whom.
    pub peer: String,
}

/// A rule's properties are its identity, as EC2 has it; staleness is none of them.
type Identity = (bool, RuleService, Peer);

fn rules(group: Option<&SecurityGroup>) -> BTreeMap<Identity, &Rule> {
    let of = |rules: &'_ [Rule], egress| -> Vec<(Identity, usize)> {
        rules.iter().enumerate().map(|(at, r)| ((egress, r.service, named(&r.peer)), at)).collect()
    };
    let Some(group) = group else { return BTreeMap::new() };
    let inbound = of(&group.inbound, false).into_iter().map(|(id, at)| (id, &group.inbound[at]));
    let outbound = of(&group.outbound, true).into_iter().map(|(id, at)| (id, &group.outbound[at]));
    inbound.chain(outbound).collect()
}

/// The peer by its name alone.
fn named(peer: &Peer) -> Peer {
    match peer {
        Peer::Group { id, .. } => Peer::Group { id: id.clone(), stale: false },
        other => other.clone(),
    }
}

pub(super) fn changes(before: &Validated, after: &Validated) -> Vec<RuleChange> {
    let mut changes = Vec::new();
    let ids = before.groups.keys().chain(after.groups.keys().filter(|id| !before.groups.contains_key(id)));
    for id in ids {
        let (old, new) = (before.groups.get(id), after.groups.get(id));
        if old == new {
            continue;
        }
        let name = new.or(old).map_or(String::new(), |g| g.name.clone());
        let (old, new) = (rules(old), rules(new));
        let mut note = |change, rule: &Rule, egress| {
            changes.push(RuleChange {
                group: Group { group_id: id.to_string(), group_name: name.clone() },
                change,
                security_group_rule_id: rule.id.to_string(),
                is_egress: egress,
                permits: rule.service.to_string(),
                peer: rule.peer.to_string(),
            });
        };
        for (identity, rule) in &old {
            match new.get(identity) {
                None => note(Change::Removed, rule, identity.0),
                Some(other) if other != rule => note(Change::Changed, other, identity.0),
                Some(_) => {}
            }
        }
        for (identity, rule) in new.iter().filter(|(identity, _)| !old.contains_key(*identity)) {
            note(Change::Added, rule, identity.0);
        }
    }
    changes.sort();
    changes
}
