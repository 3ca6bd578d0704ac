use hashbrown::{HashMap, HashSet};
use std::sync::Arc;

use super::groups::{NO_SOURCE, TWO_SOURCES, description, group_id, service};
use super::words::InWords;
use super::{Fnv, Item, cidr, is_id, keys, known};
use crate::model::{Id, Peer, Rule, RuleService, SecurityGroup, Validated};
use crate::precedent::{KnownRule, ReadRule};
use crate::reader::Node;
use crate::report::Report;

/// Takes ids and descriptions from `SecurityGroupRules`, each of which must be
/// a rule of its group, and makes ids for rules that have none.
pub(super) fn read(
    items: Vec<Item<'_, '_, KnownRule>>,
    report: &mut Report,
    all: &mut Validated,
    before: &Validated,
) -> Vec<Arc<ReadRule>> {
    let found = if items.is_empty() { vec![] } else { name_rules(items, report, all) };
    // What is as it was has ids.
    let new = before.groups.differences(&all.groups).filter_map(|(_, _, group)| Some(group?.id.clone()));
    for id in new.collect::<Vec<_>>() {
        all.groups.get_mut(&id).into_iter().for_each(make_ids);
    }
    found
}

/// What tells a rule of a group from the others.
type Properties = (bool, RuleService, Peer);

/// Where a rule of a group is: in which direction, and at which place.
type At = (bool, usize);

fn name_rules(
    items: Vec<Item<'_, '_, KnownRule>>,
    report: &mut Report,
    all: &mut Validated,
) -> Vec<Arc<ReadRule>> {
    let strict = all.settings.strict_rule_descriptions;
    let mut rules: HashMap<&str, HashMap<Properties, At>> = HashMap::new();
    let nodes = items.iter().filter_map(|item| if let Item::New(node) = item { Some(node) } else { None });
    let named: HashSet<&str> = nodes.clone().filter_map(|node| node.value.get("GroupId")?.as_str()).collect();
    // Those taken over have ids of their own.
    let is_any_new = nodes.clone().next().is_some();
    for group in named.into_iter().filter_map(|id| all.groups.get(id)) {
        let of = |egress: bool, rules: &[Rule]| {
            let at = |(n, r): (usize, &Rule)| ((egress, r.service, r.peer.clone()), (egress, n));
            rules.iter().enumerate().map(at).collect::<Vec<_>>()
        };
        let both = of(false, &group.inbound).into_iter().chain(of(true, &group.outbound));
        rules.insert(&group.id, both.collect());
    }
    let mut names = Vec::new();
    let mut seen = HashSet::new();
    let mut found = Vec::with_capacity(items.len());
    for item in &items {
        let node = match item {
            Item::Same(item, rule) => {
                let rule = &rule.read;
                report.notice_again(&rule.notices, || format!("SecurityGroupRules[{item}]"));
                if is_any_new && !seen.insert(&*rule.id) {
                    report.doubt();
                }
                found.push(Arc::clone(rule));
                continue;
            }
            Item::New(node) => node,
        };
        let noticed = report.noticed();
        known(node, report, &keys::RULE);
        let id = node.required(report, "SecurityGroupRuleId");
        if let Some(id) = id.filter(|id| !is_id(id, "sgr-")) {
            let message = format!("The security group rule ID '{id}' is malformed");
            report.fault(
                "InvalidSecurityGroupRuleId.Malformed",
                node.path_of("SecurityGroupRuleId"),
                message,
            );
        }
        let group = group_id(report, node, "GroupId");
        let egress = node.flag(report, "IsEgress");
        if !node.has("IsEgress") {
            node.missing(report, "IsEgress");
        }
        let (service, peer) = (service(report, node), peer(report, node));
        let description = description(report, node, strict);
        let (Some(id), Some(group), Some(egress)) = (id, group, egress) else { continue };
        let (Some(service), Some(peer)) = (service, peer) else { continue };
        let notices = report.own_notices(noticed, || node.path());
        found.push(Arc::new(ReadRule { id: id.into(), group: group.into(), notices }));
        if !seen.insert(id) {
            report.fault("InvalidParameterValue", node.path(), format!("the rule '{id}' is there twice"));
        }
        let Some(group_rules) = rules.get_mut(group) else {
            let message = format!("The security group '{group}' does not exist");
            report.fault("InvalidGroup.NotFound", node.path_of("GroupId"), message);
            continue;
        };
        match group_rules.remove(&(egress, service, peer.clone())) {
            Some(at) => names.push((group, at, id, description)),
            None => {
                let words = InWords(&service, &peer);
                let message = format!("'{group}' has no rule \"{words}\" that is not named already");
                report.fault("InvalidPermission.NotFound", node.path(), message);
            }
        }
    }
    drop(rules);
    for (group, (egress, n), id, description) in names {
        let Some(group) = all.groups.get_mut(group) else { continue };
        let rule = &mut if egress { &mut group.outbound } else { &mut group.inbound }[n];
        rule.id = id.into();
        if let Some(text) = description {
            rule.description = Some(text.to_string());
        }
    }
    found
}

/// From or to whom the rule is, by the one of four keys that is there.
fn peer(report: &mut Report, node: &Node<'_, '_>) -> Option<Peer> {
    let keys = ["CidrIpv4", "CidrIpv6", "PrefixListId", "ReferencedGroupInfo"];
    let mut given = keys.into_iter().filter(|key| node.has(key));
    let Some(key) = given.next() else {
        report.fault("MissingParameter", node.path(), NO_SOURCE);
        return None;
    };
    if given.next().is_some() {
        report.fault("InvalidParameterCombination", node.path(), TWO_SOURCES);
        return None;
    }
    match key {
        "CidrIpv4" => cidr(report, node, key, false).map(Peer::Cidr),
        "CidrIpv6" => cidr(report, node, key, true).map(Peer::Cidr),
        "PrefixListId" => node.string(report, key).map(|id| Peer::PrefixList(id.into())),
        _ => {
            let info = node.child(report, key)?;
            group_id(report, &info, "GroupId").map(|id| Peer::Group { id: id.into(), stale: false })
        }
    }
}

/// Makes ids from what rules are, so that the same rule has the same id after a restart.
pub(crate) fn make_ids(group: &mut SecurityGroup) {
    let SecurityGroup { id, inbound, outbound, .. } = group;
    for (direction, rules) in [(" in ", inbound), (" out ", outbound)] {
        let group = Fnv::of(id).and(direction);
        for rule in rules.iter_mut().filter(|r| r.id.is_empty()) {
            let mut hash = group;
            InWords(&rule.service, &rule.peer).say(&mut hash).expect("numbers take any text");
            rule.id = rule_id(hash.0);
        }
    }
}

/// `sgr-0` and 16 hex digits: by hand, since a document has thousands.
fn rule_id(hash: u64) -> Id {
    let mut text = *b"sgr-00000000000000000";
    for (digit, place) in (0..16).rev().zip(&mut text[5..]) {
        *place = b"0123456789abcdef"[(hash >> (4 * digit)) as usize & 15];
    }
    Id::from_utf8(text).expect("hex digits are UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_rules_stay_what_they_are() {
        let rule = |service, peer: &str| {
            let peer = match peer.parse() {
                Ok(block) => Peer::Cidr(block),
                Err(_) => Peer::Group { id: peer.into(), stale: false },
            };
            Rule { id: Id::default(), service, peer, description: None }
        };
        let default = "sg-04eeef02328d5a717";
        let mut group = SecurityGroup {
            id: default.into(),
            name: String::new(),
            description: String::new(),
            vpc: "vpc-1".into(),
            inbound: vec![rule(RuleService::All, default)],
            outbound: vec![rule(RuleService::All, "0.0.0.0/0")],
        };
        make_ids(&mut group);
        assert_eq!(group.inbound[0].id, "sgr-0053c245f699ff1ba");
        assert_eq!(group.outbound[0].id, "sgr-096a86b871d703a4c");
        assert_eq!(
            [0, 0xf, u64::MAX].map(rule_id),
            ["sgr-00000000000000000", "sgr-0000000000000000f", "sgr-0ffffffffffffffff"]
        );
    }

    #[test]
    fn rules_in_words_are_as_ec2_has_them() {
        let words = |service, peer: Peer| InWords(&service, &peer).to_string();
        let block = |text: &str| Peer::Cidr(text.parse().unwrap());
        let group = |stale| Peer::Group { id: "sg-1".into(), stale };
        let ports = RuleService::Ports(6, 0, 65_535);
        for (service, peer, expected) in [
            (ports, block("10.20.0.255/32"), "10.20.0.255/32, TCP, from port: 0, to port: 65535"),
            (RuleService::Ports(17, 9, 10), block("0.0.0.0/0"), "0.0.0.0/0, UDP, from port: 9, to port: 10"),
            (RuleService::All, block("2001:db8::/32"), "2001:db8::/32, ALL"),
            (RuleService::Icmp(1, Some(8), None), group(false), "sg-1, ICMP, from port: 8, to port: -1"),
            (
                RuleService::Icmp(58, None, None),
                group(true),
                "sg-1 (stale), ICMPV6, from port: -1, to port: -1",
            ),
            (RuleService::Protocol(47, None), Peer::PrefixList("pl-1".into()), "pl-1, 47"),
        ] {
            assert_eq!(words(service, peer), format!("peer: {expected}, ALLOW"));
        }
    }
}
