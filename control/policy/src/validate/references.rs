use std::collections::{HashMap, HashSet};

use super::groups::{Places, Reference};
use crate::model::{Peer, Validated};
use crate::report::Report;

/// What a reference may point to (S31): a group of the same VPC, or of one that
/// is actively peered. A rule whose group is gone, or behind a peering that is,
/// is stale: kept, and matches nothing (D10, S36). A group in a VPC that never
/// was peered is refused.
pub(super) fn check(report: &mut Report, all: &mut Validated, places: &Places) {
    let vpcs: HashSet<&str> = all.groups.values().map(|g| g.vpc.as_str()).collect();
    let scopes: HashMap<&str, HashSet<&str>> =
        vpcs.into_iter().map(|vpc| (vpc, all.scopes(vpc).collect())).collect();
    let mut stale = Vec::new();
    for reference in &places.references {
        let Some((vpc, id)) = referenced(all, reference) else { continue };
        let in_scope = |other: &str| scopes.get(vpc).is_some_and(|scope| scope.contains(other));
        if is_stale(report, all, (vpc, id), in_scope, reference.by_peering, || places.path(reference)) {
            stale.push(reference);
        }
    }
    for reference in stale {
        if let Some(Peer::Group { stale, .. }) = peer_mut(all, reference) {
            *stale = true;
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

/// The VPC of the group that refers, and the group referred to.
fn referenced<'v>(all: &'v Validated, reference: &Reference) -> Option<(&'v str, &'v str)> {
    let group = all.groups.get(&reference.group)?;
    let rules = if reference.egress { &group.outbound } else { &group.inbound };
    match &rules.get(reference.rule)?.peer {
        Peer::Group { id, .. } => Some((&group.vpc, id)),
        Peer::Cidr(_) | Peer::PrefixList(_) => None,
    }
}

fn peer_mut<'v>(all: &'v mut Validated, reference: &Reference) -> Option<&'v mut Peer> {
    let group = all.groups.get_mut(&reference.group)?;
    let rules = if reference.egress { &mut group.outbound } else { &mut group.inbound };
    rules.get_mut(reference.rule).map(|rule| &mut rule.peer)
}

/// Whether a peering of the two is known at all, in force or not.
fn is_peered(all: &Validated, one: &str, other: &str) -> bool {
    all.peerings.iter().any(|p| p.vpcs.iter().any(|v| v == one) && p.vpcs.iter().any(|v| v == other))
}
