use ipnet::IpNet;

use super::places::Places;
use crate::by_id::ById;
use crate::model::{Peer, Rule, SecurityGroup, Validated};
use crate::report::Report;

/// Rules of each group, by direction and family (D20); of those that were within the
/// same quotas before not again.
pub(super) fn check(report: &mut Report, all: &Validated, places: &Places, before: &Validated) {
    let none = ById::default();
    let as_before = all.settings.quotas == before.settings.quotas && all.prefix_lists == before.prefix_lists;
    let checked = if as_before { &before.groups } else { &none };
    for group in checked.differences(&all.groups).filter_map(|(_, _, group)| group) {
        check_group(report, all, group, |key| format!("{}.{key}", places.path(&group.id)));
    }
}

/// Rules of one group.
pub(crate) fn check_group(
    report: &mut Report,
    all: &Validated,
    group: &SecurityGroup,
    path: impl Fn(&str) -> String,
) {
    let Some(quotas) = all.settings.quotas else { return };
    for (key, rules) in [("IpPermissions", &group.inbound), ("IpPermissionsEgress", &group.outbound)] {
        let (v4, v6) = weight(rules, all);
        if v4.max(v6) <= quotas.rules_per_group {
            continue;
        }
        let message = format!(
            "The maximum number of rules per security group has been reached. \
             '{}' has {v4} for IPv4 and {v6} for IPv6, the quota is {} each",
            group.id, quotas.rules_per_group
        );
        report.fault("RulesPerSecurityGroupLimitExceeded", path(key), message);
    }
}

/// How many rules these are for IPv4 and for IPv6. A prefix list counts as many
/// as it may have (D6), a group counts for both.
pub(crate) fn weight(rules: &[Rule], all: &Validated) -> (usize, usize) {
    rules.iter().fold((0, 0), |(v4, v6), rule| match &rule.peer {
        Peer::Cidr(IpNet::V4(_)) => (v4 + 1, v6),
        Peer::Cidr(IpNet::V6(_)) => (v4, v6 + 1),
        Peer::Group { .. } => (v4 + 1, v6 + 1),
        Peer::PrefixList(id) => match all.prefix_lists.get(id) {
            Some(list) if list.ipv6 => (v4, v6 + list.max_entries),
            Some(list) => (v4 + list.max_entries, v6),
            None => (v4, v6),
        },
    })
}
