use serde::{Deserialize, Serialize};

use crate::model::{Quotas, SecurityGroup, Validated};
use crate::validate::quotas::weight;

/// Of which part on a quota is worth a word: four fifths.
const NEAR: (usize, usize) = (4, 5);

/// How much of a quota is used (D20).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct QuotaUse {
    /// The group or interface.
    pub id: String,
    /// Which quota.
    pub quota: String,
    /// How much of it is used now.
    pub before: usize,
    /// How much will be; prefix lists count with their weight (D6).
    pub after: usize,
    /// The most.
    pub limit: usize,
}

pub(super) fn uses(before: &Validated, after: &Validated) -> Vec<QuotaUse> {
    let Some(Quotas { rules_per_group, groups_per_interface }) = after.settings.quotas else { return vec![] };
    let mut uses = Vec::new();
    let mut note = |id: &str, quota: String, before: usize, after: usize, limit: usize| {
        if after > before || after * NEAR.1 >= limit * NEAR.0 {
            uses.push(QuotaUse { id: id.to_string(), quota, before, after, limit });
        }
    };
    for group in after.groups.values() {
        let old = before.groups.get(&group.id);
        for (direction, egress) in [("inbound", false), ("outbound", true)] {
            let rules =
                |g: &SecurityGroup, policy| weight(if egress { &g.outbound } else { &g.inbound }, policy);
            let ((v4, v6), (old_v4, old_v6)) =
                (rules(group, after), old.map_or((0, 0), |old| rules(old, before)));
            note(&group.id, format!("{direction} rules for IPv4"), old_v4, v4, rules_per_group);
            note(&group.id, format!("{direction} rules for IPv6"), old_v6, v6, rules_per_group);
        }
    }
    for interface in after.interfaces.values() {
        let old = before.interfaces.get(&interface.id).map_or(0, |old| old.groups.len());
        note(&interface.id, "groups".to_string(), old, interface.groups.len(), groups_per_interface);
    }
    uses
}
