use hashbrown::{HashMap, HashSet};

use super::places::{Described, Places};
use crate::model::Validated;
use crate::report::Report;

/// What a reference may point to (S31): a group of the same VPC, or of one that
/// is actively peered. A rule whose group is gone, or behind a peering that is,
/// is stale: kept, and matches nothing (D10, S36). A group in a VPC that never
/// was peered is refused. References of groups that were taken over are looked at
/// where they were not all in order, or groups or peerings are not what they were.
pub(super) fn check(report: &mut Report, all: &mut Validated, places: &Places, before: &Validated) {
    // Who is where decides what references are.
    let as_before = all.peerings == before.peerings
        && before
            .groups
            .differences(&all.groups)
            .all(|(_, old, new)| old.zip(new).is_some_and(|(old, new)| old.vpc == new.vpc));
    let mut scopes: HashMap<&str, HashSet<&str>> = HashMap::new();
    let mut changed = Vec::new();
    for Described { item, read, .. } in places.described.iter().filter(|d| !(as_before && d.was_in_order)) {
        let Some(group) = all.groups.get(&read.id) else { continue };
        let scope = scopes.entry(&group.vpc).or_insert_with(|| all.scopes(&group.vpc).collect());
        for reference in &read.references {
            let Some((id, was_stale)) = reference.peer(group) else { continue };
            let in_scope = |other: &str| scope.contains(other);
            let path = || reference.path(*item);
            let is_stale = is_stale(report, all, (&group.vpc, id), in_scope, reference.by_peering, path);
            if is_stale != was_stale {
                changed.push((&read.id, reference, is_stale));
            }
        }
    }
    drop(scopes);
    for (group, reference, is_stale) in changed {
        if let Some(group) = all.groups.get_mut(group) {
            reference.set_stale(group, is_stale);
        }
    }
}

/// Whether a rule of a VPC that refers to a group is stale, with a notice; a
/// reference that there cannot be is a fault.
pub(crate) fn is_stale(
    report: &mut Report,
    all: &Validated,
    (vpc, id): (&str, &str),
    in_scope: impl Fn(&str) -> bool,
    by_peering: bool,
    path: impl Fn() -> String,
) -> bool {
    let reason = match all.groups.get(id) {
        None => format!("the group '{id}' does not exist"),
        Some(group) if in_scope(&group.vpc) => return false,
        Some(group) if by_peering || is_peered(all, vpc, &group.vpc) => {
            format!("there is no active peering of '{vpc}' with '{}'", group.vpc)
        }
        Some(_) => {
            let message = "You have specified two resources that belong to different networks.";
            report.fault("InvalidGroup.NotFound", path(), message);
            return false;
        }
    };
    report.notice(path(), format!("{reason}: the rule is stale and matches nothing"));
    true
}

/// Whether a peering of the two is known at all, in force or not.
fn is_peered(all: &Validated, one: &str, other: &str) -> bool {
    all.peerings.iter().any(|p| p.vpcs.iter().any(|v| v == one) && p.vpcs.iter().any(|v| v == other))
}
