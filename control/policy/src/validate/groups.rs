use hashbrown::{HashMap, HashSet};
use std::borrow::Cow;
use std::sync::Arc;

use super::places::{
    At, Described, EGRESS, INGRESS, LISTS, Places, Reference, item_path, reference_path, rule_path,
};
use super::words::InWords;
use super::{Item, cidr, is_id, is_plain, keys, known, order};
use crate::model::{Id, Peer, Rule, RuleService, SecurityGroup, Validated};
use crate::precedent::{KnownGroup, ReadGroup};
use crate::reader::Node;
use crate::report::Report;
use crate::tree::Tree;

pub(crate) const NO_SOURCE: &str =
    "The request must contain exactly one of: cidrIp, cidrIpv6, prefixListId, or referencedGroupId";
pub(crate) const TWO_SOURCES: &str =
    "Only one of cidrIp, cidrIpv6, prefixListId, or referencedGroupId can be specified";
const BAD_DESCRIPTION: &str = "Invalid rule description. Valid descriptions are strings less than 256 \
    characters from the following set: a-zA-Z0-9. _-:/()#,@[]+=&;{}!$*";

/// The rules of one direction, where each is, and which refer to groups.
#[derive(Default)]
pub(crate) struct Permissions {
    pub rules: Vec<Rule>,
    /// Of each rule.
    at: Vec<At>,
    references: Vec<(usize, bool)>,
}

impl Permissions {
    /// The rules that refer to groups: which, and whether it is said to go through a
    /// peering.
    pub fn references(&self) -> &[(usize, bool)] {
        &self.references
    }

    /// The rules in their one order, with what refers to groups among them.
    fn in_order(self, egress: bool, references: &mut Vec<Reference>) -> Vec<Rule> {
        let Permissions { rules, at, references: found } = self;
        let is_before = |one: &Rule, other: &Rule| order(one, other).is_le();
        let (rules, places) = if rules.is_sorted_by(is_before) {
            (rules, None)
        } else {
            let mut rules: Vec<(Rule, usize)> = rules.into_iter().zip(0..).collect();
            rules.sort_by(|(one, _), (other, _)| order(one, other));
            let mut places = vec![0; rules.len()];
            rules.iter().enumerate().for_each(|(place, (_, before))| places[*before] = place);
            (rules.into_iter().map(|(rule, _)| rule).collect(), Some(places))
        };
        references.extend(found.into_iter().map(|(rule, by_peering)| {
            let place = places.as_ref().map_or(rule, |places| places[rule]);
            Reference { egress, by_peering, rule: place as u32, at: at[rule] }
        }));
        rules
    }

    /// The path of the group that a rule refers to, likewise.
    pub fn reference_path(&self, key: &str, rule: usize) -> String {
        self.at.get(rule).map_or(key.to_string(), |at| reference_path(key, *at))
    }

    /// The path of a rule in the list of permissions under a key.
    pub fn path(&self, key: &str, rule: usize) -> String {
        self.at.get(rule).map_or(key.to_string(), |at| rule_path(key, *at))
    }
}

/// Reads `SecurityGroups`. Rules are in order, and have no ids yet.
pub(super) fn read<'v>(
    items: Vec<Item<'v, '_, KnownGroup>>,
    report: &mut Report,
    all: &mut Validated,
) -> Places {
    let mut places = Places::default();
    let mut names = HashMap::with_capacity(items.len());
    for item in items {
        let node = match item {
            Item::Same(item, known) => {
                let group = &known.group;
                report.notice_again(&known.read.notices, || item_path(item));
                note_name(report, &mut names, (&group.vpc, &group.name, &group.id), || item_path(item));
                all.mention(&group.vpc);
                let (read, was_in_order) = (known.read.clone(), !known.is_stale);
                places.described.push(Described { item, read, was_in_order });
                continue;
            }
            Item::New(node) => node,
        };
        let noticed = report.noticed();
        known(&node, report, &keys::GROUP);
        let id = group_id(report, &node, "GroupId");
        let name = named(report, &node, "GroupName").map(str::trim_end);
        let description = named(report, &node, "Description");
        let vpc = node.required(report, "VpcId");
        no_id(report, &node, name);
        let inbound = permissions(report, &node, INGRESS, all);
        let outbound = permissions(report, &node, EGRESS, all);
        let (Some(id), Some(name), Some(description), Some(vpc)) = (id, name, description, vpc) else {
            continue;
        };
        let notices = report.own_notices(noticed, || node.path());
        note_name(report, &mut names, (vpc, name, id), || node.path());
        let without_egress = !node.has(EGRESS);
        if without_egress {
            let message = "it does not say what may leave: everything may, as from a new group";
            report.notice(node.path_of(EGRESS), message);
        }
        let mut references = Vec::with_capacity(inbound.references.len() + outbound.references.len());
        let inbound = inbound.in_order(false, &mut references);
        let outbound = outbound.in_order(true, &mut references);
        let (item, references) = (node.index(), references.into());
        let read = Arc::new(ReadGroup { id: id.into(), references, without_egress, notices });
        places.described.push(Described { item, read, was_in_order: false });
        all.mention(vpc);
        let group = SecurityGroup {
            id: id.into(),
            name: name.to_string(),
            description: description.to_string(),
            vpc: vpc.into(),
            inbound,
            outbound,
        };
        if all.groups.insert(id.into(), group).is_some() {
            let message = format!("The security group '{id}' is there twice");
            report.fault("InvalidGroup.Duplicate", node.path(), message);
        }
    }
    places
}

/// Notes the name of a group, by VPC and without regard to case.
fn note_name<'v>(
    report: &mut Report,
    names: &mut HashMap<(&'v str, String), &'v str>,
    (vpc, name, id): (&'v str, &str, &'v str),
    path: impl Fn() -> String,
) {
    if let Some(first) = names.insert((vpc, name.to_lowercase()), id) {
        same_name(report, path() + ".GroupName", name, first, vpc);
    }
}

/// Two groups of one name in a VPC: their ids tell them apart (D16), but only
/// one can be the VPC's default.
fn same_name(report: &mut Report, path: String, name: &str, first: &str, vpc: &str) {
    if name == crate::model::DEFAULT_GROUP {
        let message = format!("The security group '{name}' already exists for VPC '{vpc}'");
        report.fault("InvalidGroup.Duplicate", path, message);
    } else {
        report.notice(path, format!("'{first}' in the same VPC is named '{name}' too"));
    }
}

/// A group's id, well-formed.
pub(crate) fn group_id<'v>(report: &mut Report, node: &Node<'v, '_>, key: &str) -> Option<&'v str> {
    let id = node.required(report, key)?;
    if is_id(id, "sg-") {
        return Some(id);
    }
    let message = format!("The security group ID '{id}' is malformed");
    report.fault("InvalidGroupId.Malformed", node.path_of(key), message);
    None
}

/// A group's name or description (S59 to S61).
pub(crate) fn named<'v>(report: &mut Report, node: &Node<'v, '_>, key: &str) -> Option<&'v str> {
    let text = node.required(report, key)?;
    if text.trim().is_empty() {
        report.fault("MissingParameter", node.path_of(key), format!("{key} may not be empty"));
    } else if !is_plain(text, true) {
        let message = format!(
            "Invalid value for {key}. It takes up to 255 characters from the following set: a-zA-Z0-9. _-:/()#,@[]+=&;{{}}!$*"
        );
        report.fault("InvalidParameterValue", node.path_of(key), message);
    }
    Some(text)
}

/// A name is none that could be an id (S62).
pub(crate) fn no_id(report: &mut Report, node: &Node<'_, '_>, name: Option<&str>) {
    if let Some(name) = name.filter(|n| n.starts_with("sg-")) {
        let message = format!("Invalid value '{name}' for GroupName: it may not start with 'sg-'");
        report.fault("InvalidParameterValue", node.path_of("GroupName"), message);
    }
}

/// A rule's description (S32, S33, D1); an empty one is none.
pub(crate) fn description<'v>(report: &mut Report, node: &Node<'v, '_>, strict: bool) -> Option<&'v str> {
    let text = node.string(report, "Description").filter(|text| !text.is_empty())?;
    if !is_plain(text, !strict) {
        report.fault("InvalidParameterValue", node.path_of("Description"), BAD_DESCRIPTION);
    }
    Some(text)
}

/// The rules of one direction: one for each source of each permission.
pub(crate) fn permissions(
    report: &mut Report,
    group: &Node<'_, '_>,
    key: &str,
    all: &Validated,
) -> Permissions {
    let mut found = Permissions::default();
    let mut seen = Seen::default();
    for (n, node) in group.list(report, key).enumerate() {
        known(&node, report, &keys::PERMISSION);
        let service = service(report, &node);
        let mut sources = 0;
        for (which, (list, about)) in LISTS.into_iter().enumerate() {
            for (m, item) in node.list(report, list).enumerate() {
                sources += 1;
                known(&item, report, &keys::PEER);
                let has_more = item.value.as_object().is_some_and(|object| object.len() > 1);
                if has_more
                    && item.has(about)
                    && LISTS.iter().any(|(_, other)| *other != about && item.has(other))
                {
                    report.fault("InvalidParameterCombination", item.path(), TWO_SOURCES);
                }
                let peer = peer(report, &item, about, all);
                let description = description(report, &item, all.settings.strict_rule_descriptions);
                let (Some(service), Some(peer)) = (service, peer) else { continue };
                if seen.has(&found.rules, service, &peer) {
                    let rule = InWords(&service, &peer);
                    let message = format!("the specified rule \"{rule}\" already exists");
                    report.fault("InvalidPermission.Duplicate", item.path(), message);
                }
                if about == "GroupId" {
                    let by_peering = item.has("PeeringStatus") || item.has("VpcPeeringConnectionId");
                    found.references.push((found.rules.len(), by_peering));
                }
                let description = description.map(String::from);
                found.at.push(At { permission: n as u32, list: which as u8, item: m as u32 });
                found.rules.push(Rule { id: Id::default(), service, peer, description });
            }
        }
        if sources == 0 {
            report.fault("MissingParameter", node.path(), NO_SOURCE);
        }
    }
    found
}

/// Finds a rule among those before it: of few by looking at each.
#[derive(Default)]
struct Seen(HashSet<(RuleService, Peer)>);

impl Seen {
    const FEW: usize = 16;

    fn has(&mut self, rules: &[Rule], service: RuleService, peer: &Peer) -> bool {
        if rules.len() < Seen::FEW {
            return rules.iter().any(|rule| rule.service == service && rule.peer == *peer);
        }
        if self.0.is_empty() {
            self.0.extend(rules.iter().map(|rule| (rule.service, rule.peer.clone())));
        }
        !self.0.insert((service, peer.clone()))
    }
}

/// From or to whom an item of a permission is.
fn peer(report: &mut Report, item: &Node<'_, '_>, about: &str, all: &Validated) -> Option<Peer> {
    match about {
        "CidrIp" => cidr(report, item, about, false).map(Peer::Cidr),
        "CidrIpv6" => cidr(report, item, about, true).map(Peer::Cidr),
        "PrefixListId" => {
            let id = item.required(report, about)?;
            if !all.prefix_lists.contains_key(id) {
                let message = format!("The prefix list ID '{id}' does not exist");
                report.fault("InvalidPrefixListId.NotFound", item.path_of(about), message);
            }
            Some(Peer::PrefixList(id.into()))
        }
        _ => group_id(report, item, about).map(|id| Peer::Group { id: id.into(), stale: false }),
    }
}

/// Protocol and ports, or ICMP type and code (D2 to D4).
pub(crate) fn service(report: &mut Report, node: &Node<'_, '_>) -> Option<RuleService> {
    match protocol(report, node)? {
        None => Some(RuleService::All),
        Some(number @ (6 | 17)) => ports(report, node, number),
        Some(number @ (1 | 58)) => icmp(report, node, number),
        Some(number) => {
            let mut port = |key| node.number(report, key, -1..=65535).and_then(|n| u16::try_from(n).ok());
            let ports = port("FromPort").zip(port("ToPort"));
            if ports.is_some_and(|ports| ports != (0, u16::MAX)) {
                let message = format!("protocol {number} has no ports here: the rule is for all of it");
                report.notice(node.path(), message);
            }
            Some(RuleService::Protocol(number, ports))
        }
    }
}

/// The protocol by name or number (S21, D3); `Some(None)` for all.
fn protocol(report: &mut Report, node: &Node<'_, '_>) -> Option<Option<u8>> {
    let value = node.get("IpProtocol").map_or(&Tree::Null, |protocol| protocol.value);
    let text = match value {
        Tree::String(text) => Cow::Borrowed(*text),
        // A number, or what is no protocol at all.
        other => Cow::Owned(other.to_string()),
    };
    let names = [("tcp", 6), ("udp", 17), ("icmp", 1), ("icmpv6", 58)];
    let number = match &*text {
        "-1" => return Some(None),
        all if all.eq_ignore_ascii_case("all") => return Some(None),
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok(),
        name => names.iter().find(|(known, _)| name.eq_ignore_ascii_case(known)).map(|(_, number)| *number),
    };
    if number.is_none() {
        let text = text.to_lowercase();
        let wanted = match value {
            Tree::Null => "VPC security group rules must specify protocols explicitly.",
            _ => "It takes tcp, udp, icmp, icmpv6, -1 or a number from 0 to 255.",
        };
        let message = format!("Invalid value '{text}' for protocol. {wanted}");
        report.fault("InvalidParameterValue", node.path_of("IpProtocol"), message);
    }
    number.map(Some)
}

/// TCP and UDP take both ends of a range (S22).
fn ports(report: &mut Report, node: &Node<'_, '_>, protocol: u8) -> Option<RuleService> {
    let ends = [node.get("FromPort"), node.get("ToPort")];
    if ends.iter().any(Option::is_none) {
        let message = "Invalid value for portRange. Must specify both from and to ports with TCP/UDP.";
        report.fault("InvalidParameterValue", node.path(), message);
        return None;
    }
    let mut port =
        |end: Node<'_, '_>| end.whole_number(report, 0..=65535).and_then(|n| u16::try_from(n).ok());
    let [from, to] = ends.map(|end| end.and_then(&mut port));
    let (from, to) = (from?, to?);
    if from > to {
        let message = format!("Invalid value for portRange: {from} is above {to}");
        report.fault("InvalidParameterValue", node.path(), message);
        return None;
    }
    Some(RuleService::Ports(protocol, from, to))
}

/// ICMP takes a type and a code, -1 for all; so does leaving them out (S23, D4).
fn icmp(report: &mut Report, node: &Node<'_, '_>, protocol: u8) -> Option<RuleService> {
    let mut read = |key| match node.has(key) {
        true => node.number(report, key, -1..=255),
        false => Some(-1),
    };
    let (icmp_type, code) = (read("FromPort"), read("ToPort"));
    let (icmp_type, code) = (u8::try_from(icmp_type?).ok(), u8::try_from(code?).ok());
    if let (None, Some(code)) = (icmp_type, code) {
        let message = format!("Invalid value for ICMP: the code {code} needs a type");
        report.fault("InvalidParameterValue", node.path_of("ToPort"), message);
        return None;
    }
    Some(RuleService::Icmp(protocol, icmp_type, code))
}
