use std::collections::{BTreeMap, HashMap, HashSet};

use super::{cidr, is_plain};
use crate::model::{DEFAULT_GROUP, Peer, Rule, RuleService, SecurityGroup, Validated, Vpc};
use crate::reader::Node;
use crate::report::Report;

const NO_SOURCE: &str =
    "The request must contain exactly one of: cidrIp, cidrIpv6, prefixListId, or referencedGroupId";
const BAD_RULE_DESCRIPTION: &str = "Invalid rule description. Valid descriptions are strings less than 256 \
    characters from the following set: a-zA-Z0-9. _-:/()#,@[]+=&;{}!$*";

/// Reads `SecurityGroups`, and the ids of their rules from `SecurityGroupRules`.
pub(super) fn read(root: &Node<'_>, report: &mut Report, all: &mut Validated) {
    let mut names = HashMap::new();
    for node in root.list(report, "SecurityGroups") {
        let known = [
            "GroupId",
            "GroupName",
            "Description",
            "VpcId",
            "IpPermissions",
            "IpPermissionsEgress",
            "OwnerId",
            "Tags",
            "SecurityGroupArn",
        ];
        node.known(report, &known);
        let id = group_id(report, &node, "GroupId");
        let name = described(report, &node, "GroupName");
        let description = described(report, &node, "Description");
        let vpc = node.required(report, "VpcId");
        if let Some(name) = name.filter(|n| n.starts_with("sg-")) {
            let message = format!("Invalid value '{name}' for GroupName: it may not start with 'sg-'");
            report.fault("InvalidParameterValue", format!("{}.GroupName", node.path), message);
        }
        let inbound = permissions(report, &node, "IpPermissions", all);
        let outbound = permissions(report, &node, "IpPermissionsEgress", all);
        let (Some(id), Some(name), Some(description), Some(vpc)) = (id, name, description, vpc) else {
            continue;
        };
        let key = (vpc, name.trim_end().to_lowercase());
        if let Some(first) = names.insert(key, id) {
            let message = format!("'{first}' in the same VPC is named '{name}' too");
            report.notice(format!("{}.GroupName", node.path), message);
        }
        all.vpcs.entry(vpc.to_string()).or_default();
        let mut group = SecurityGroup {
            id: id.to_string(),
            name: name.trim_end().to_string(),
            description: description.to_string(),
            vpc: vpc.to_string(),
            inbound,
            outbound,
        };
        give_ids(&mut group);
        if all.groups.insert(id.to_string(), group).is_some() {
            report.fault(
                "InvalidGroup.Duplicate",
                &node.path,
                format!("The security group '{id}' is there twice"),
            );
        }
    }
    rule_ids(root, report, all);
}

/// A group's id, well-formed.
fn group_id<'v>(report: &mut Report, node: &Node<'v>, key: &str) -> Option<&'v str> {
    let id = node.required(report, key)?;
    if is_group_id(id) {
        return Some(id);
    }
    let message = format!("The security group ID '{id}' is malformed");
    report.fault("InvalidGroupId.Malformed", format!("{}.{key}", node.path), message);
    None
}

fn is_group_id(id: &str) -> bool {
    id.strip_prefix("sg-")
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// A group's name or description (S59 to S61).
fn described<'v>(report: &mut Report, node: &Node<'v>, key: &str) -> Option<&'v str> {
    let text = node.required(report, key)?;
    let path = format!("{}.{key}", node.path);
    if text.trim().is_empty() {
        report.fault("MissingParameter", path, format!("{key} may not be empty"));
    } else if !is_plain(text, true) {
        let message = format!(
            "Invalid value for {key}. It takes up to 255 characters from the following set: a-zA-Z0-9. _-:/()#,@[]+=&;{{}}!$*"
        );
        report.fault("InvalidParameterValue", path, message);
    }
    Some(text)
}

/// The rules of one direction: an item of the list for each source of each permission.
fn permissions(report: &mut Report, group: &Node<'_>, key: &str, all: &Validated) -> Vec<Rule> {
    let mut rules = Vec::new();
    let mut seen = HashSet::new();
    for node in group.list(report, key) {
        let known = [
            "IpProtocol",
            "FromPort",
            "ToPort",
            "IpRanges",
            "Ipv6Ranges",
            "PrefixListIds",
            "UserIdGroupPairs",
        ];
        node.known(report, &known);
        let service = service(report, &node);
        let mut peers: Vec<(Option<Peer>, Node<'_>)> = Vec::new();
        for range in node.list(report, "IpRanges") {
            peers.push((cidr(report, &range, "CidrIp", false).map(Peer::Cidr), range));
        }
        for range in node.list(report, "Ipv6Ranges") {
            peers.push((cidr(report, &range, "CidrIpv6", true).map(Peer::Cidr), range));
        }
        for list in node.list(report, "PrefixListIds") {
            let id = list.required(report, "PrefixListId");
            if let Some(id) = id.filter(|id| !all.prefix_lists.contains_key(*id)) {
                let message = format!("The prefix list ID '{id}' does not exist");
                report.fault("InvalidPrefixListId.NotFound", format!("{}.PrefixListId", list.path), message);
            }
            peers.push((id.map(|id| Peer::PrefixList(id.to_string())), list));
        }
        for pair in node.list(report, "UserIdGroupPairs") {
            let id = group_id(report, &pair, "GroupId");
            peers.push((id.map(|id| Peer::Group { id: id.to_string(), stale: false }), pair));
        }
        if peers.is_empty() {
            report.fault("MissingParameter", &node.path, NO_SOURCE);
        }
        for (peer, at) in peers {
            let keys = [
                "CidrIp",
                "CidrIpv6",
                "PrefixListId",
                "GroupId",
                "Description",
                "UserId",
                "VpcId",
                "GroupName",
                "VpcPeeringConnectionId",
                "PeeringStatus",
            ];
            at.known(report, &keys);
            let description = at.string(report, "Description");
            let plain = |text: &&str| is_plain(text, !all.settings.strict_rule_descriptions);
            if description.is_some_and(|text| !plain(&text)) {
                report.fault(
                    "InvalidParameterValue",
                    format!("{}.Description", at.path),
                    BAD_RULE_DESCRIPTION,
                );
            }
            let (Some(service), Some(peer)) = (service, peer) else { continue };
            if !seen.insert((service, peer.clone())) {
                let message = format!("the specified rule \"{}\" already exists", in_words(&service, &peer));
                report.fault("InvalidPermission.Duplicate", &at.path, message);
                continue;
            }
            rules.push(Rule { id: String::new(), service, peer, description: description.map(String::from) });
        }
    }
    rules
}

/// A rule as EC2's messages name it.
fn in_words(service: &RuleService, peer: &Peer) -> String {
    let protocol = match service {
        RuleService::All => return format!("peer: {peer}, ALL, ALLOW"),
        other => other.protocol().to_uppercase(),
    };
    match service.range() {
        Some((from, to)) => format!("peer: {peer}, {protocol}, from port: {from}, to port: {to}, ALLOW"),
        None => format!("peer: {peer}, {protocol}, ALLOW"),
    }
}

/// Protocol and ports, or ICMP type and code (D2 to D4).
fn service(report: &mut Report, node: &Node<'_>) -> Option<RuleService> {
    let path = format!("{}.IpProtocol", node.path);
    let Some(protocol) = node.get("IpProtocol") else {
        let message =
            "Invalid value 'null' for protocol. VPC security group rules must specify protocols explicitly.";
        report.fault("InvalidParameterValue", path, message);
        return None;
    };
    let text = match protocol.value {
        serde_json::Value::Number(number) => number.to_string(),
        other => other.as_str().unwrap_or("").trim().to_lowercase(),
    };
    let number = match text.as_str() {
        "-1" | "all" => return Some(RuleService::All),
        "tcp" => 6,
        "udp" => 17,
        "icmp" => 1,
        "icmpv6" | "icmp6" => 58,
        other => match other.parse::<u8>() {
            Ok(number) => number,
            Err(_) => {
                let message = format!(
                    "Invalid value '{text}' for protocol: expected tcp, udp, icmp, icmpv6, -1 or a number from 0 to 255"
                );
                report.fault("InvalidParameterValue", path, message);
                return None;
            }
        },
    };
    match number {
        6 | 17 => {
            let (from, to) = (node.get("FromPort"), node.get("ToPort"));
            if from.is_none() || to.is_none() {
                let message =
                    "Invalid value for portRange. Must specify both from and to ports with TCP/UDP.";
                report.fault("InvalidParameterValue", &node.path, message);
                return None;
            }
            let from = node.number(report, "FromPort", 0..=65535);
            let to = node.number(report, "ToPort", 0..=65535);
            let (from, to) = (from?, to?);
            if from > to {
                let message = format!("Invalid value for portRange: {from} is above {to}");
                report.fault("InvalidParameterValue", &node.path, message);
                return None;
            }
            Some(RuleService::Ports(number, from as u16, to as u16))
        }
        1 | 58 => {
            let mut read = |key| match node.get(key) {
                None => Some(-1),
                Some(_) => node.number(report, key, -1..=255),
            };
            let (icmp_type, code) = (read("FromPort"), read("ToPort"));
            let (icmp_type, code) = (icmp_type?, code?);
            if icmp_type == -1 && code != -1 {
                let message = format!("Invalid value for ICMP: a code ({code}) needs a type");
                report.fault("InvalidParameterValue", format!("{}.ToPort", node.path), message);
                return None;
            }
            let some = |v: i64| u8::try_from(v).ok();
            Some(RuleService::Icmp(number, some(icmp_type), some(code)))
        }
        _ => {
            let ranged = [("FromPort", -1..=65535), ("ToPort", -1..=65535)]
                .into_iter()
                .filter_map(|(key, range)| node.number(report, key, range))
                .any(|port| port > 0 && port < 65535);
            if ranged {
                report
                    .notice(&node.path, format!("protocol {number} has no ports: the rule is for all of it"));
            }
            Some(RuleService::Protocol(number))
        }
    }
}

/// Ids for rules that have none: made from what they are, so that the same rule
/// has the same id after a restart.
fn give_ids(group: &mut SecurityGroup) {
    let SecurityGroup { id, inbound, outbound, .. } = group;
    for (direction, rules) in [("in", inbound), ("out", outbound)] {
        for rule in rules.iter_mut().filter(|r| r.id.is_empty()) {
            let text = format!("{id} {direction} {:?} {:?}", rule.service, rule.peer);
            rule.id = format!("sgr-0{:016x}", fnv(&text));
        }
    }
}

/// FNV-1a, whose numbers do not change between versions of a compiler.
fn fnv(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Takes ids and descriptions from `SecurityGroupRules`, each of which must be
/// a rule of its group.
fn rule_ids(root: &Node<'_>, report: &mut Report, all: &mut Validated) {
    let mut seen = HashSet::new();
    for node in root.list(report, "SecurityGroupRules") {
        let id = node.required(report, "SecurityGroupRuleId");
        let group = group_id(report, &node, "GroupId");
        let egress = node.flag(report, "IsEgress").unwrap_or(false);
        let service = service(report, &node);
        let peer = if node.get("CidrIpv4").is_some() {
            cidr(report, &node, "CidrIpv4", false).map(Peer::Cidr)
        } else if node.get("CidrIpv6").is_some() {
            cidr(report, &node, "CidrIpv6", true).map(Peer::Cidr)
        } else if let Some(list) = node.string(report, "PrefixListId") {
            Some(Peer::PrefixList(list.to_string()))
        } else if let Some(info) = node.get("ReferencedGroupInfo") {
            group_id(report, &info, "GroupId").map(|id| Peer::Group { id: id.to_string(), stale: false })
        } else {
            report.fault("MissingParameter", &node.path, NO_SOURCE);
            None
        };
        let (Some(id), Some(group), Some(service), Some(peer)) = (id, group, service, peer) else { continue };
        if !seen.insert(id) {
            report.fault("InvalidParameterValue", &node.path, format!("the rule '{id}' is there twice"));
        }
        let Some(group) = all.groups.get_mut(group) else {
            let message = format!("The security group '{group}' does not exist");
            report.fault("InvalidGroup.NotFound", format!("{}.GroupId", node.path), message);
            continue;
        };
        let rules = if egress { &mut group.outbound } else { &mut group.inbound };
        match rules.iter_mut().find(|r| r.service == service && r.peer == peer) {
            Some(rule) => {
                rule.id = id.to_string();
                if let Some(description) = node.string(report, "Description").filter(|d| !d.is_empty()) {
                    rule.description = Some(description.to_string());
                }
            }
            None => {
                let message = format!("'{}' has no rule \"{}\"", group.id, in_words(&service, &peer));
                report.fault("InvalidPermission.NotFound", &node.path, message);
            }
        }
    }
}

/// Adds the default group of each VPC that the document does not describe
/// (S50 to S54): everything from its own members, everything out; out by IPv6
/// only where the VPC has it (D14).
pub(super) fn add_defaults(all: &mut Validated) {
    let described: HashSet<String> =
        all.groups.values().filter(|g| g.name == DEFAULT_GROUP).map(|g| g.vpc.clone()).collect();
    let missing: Vec<(String, Vpc)> = all
        .vpcs
        .iter()
        .filter(|(id, _)| !described.contains(*id))
        .map(|(id, v)| (id.clone(), v.clone()))
        .collect();
    for (vpc, Vpc { ipv6 }) in missing {
        let id = format!("sg-0{:016x}", fnv(&vpc));
        let rule = |peer| Rule { id: String::new(), service: RuleService::All, peer, description: None };
        let everywhere = |text: &str| rule(Peer::Cidr(text.parse().expect("a constant")));
        let mut outbound = vec![everywhere("0.0.0.0/0")];
        outbound.extend(ipv6.then(|| everywhere("::/0")));
        let mut group = SecurityGroup {
            inbound: vec![rule(Peer::Group { id: id.clone(), stale: false })],
            id: id.clone(),
            name: DEFAULT_GROUP.to_string(),
            description: "default VPC security group".to_string(),
            vpc,
            outbound,
        };
        give_ids(&mut group);
        all.groups.insert(id, group);
    }
}

/// What a reference may point to (S31): a group of the same VPC, or of one that
/// is actively peered. One that is gone, or behind a peering that is, makes the
/// rule stale (D10, S36); one in a VPC that never was peered is refused.
pub(super) fn check_references(report: &mut Report, all: &mut Validated) {
    let vpc_of: BTreeMap<String, String> =
        all.groups.values().map(|g| (g.id.clone(), g.vpc.clone())).collect();
    let mut groups = std::mem::take(&mut all.groups);
    for group in groups.values_mut() {
        let reachable: HashSet<&str> = all.scopes(&group.vpc).collect();
        let peered = |vpc: &str| {
            all.peerings.iter().any(|p| p.vpcs.iter().any(|v| v == vpc) && p.vpcs.contains(&group.vpc))
        };
        for rule in group.inbound.iter_mut().chain(&mut group.outbound) {
            let Peer::Group { id, stale } = &mut rule.peer else { continue };
            let path = format!("SecurityGroups['{}'] rule {}", group.id, rule.id);
            match vpc_of.get(id) {
                None => {
                    *stale = true;
                    report.notice(
                        path,
                        format!("the group '{id}' does not exist: the rule is stale and matches nothing"),
                    );
                }
                Some(vpc) if reachable.contains(vpc.as_str()) => {}
                Some(vpc) if peered(vpc) => {
                    *stale = true;
                    report.notice(
                        path,
                        format!(
                            "the peering with {vpc} is not active: the rule is stale and matches nothing"
                        ),
                    );
                }
                Some(_) => {
                    let message = "You have specified two resources that belong to different networks.";
                    report.fault("InvalidGroup.NotFound", path, message);
                }
            }
        }
    }
    all.groups = groups;
}

/// Rules of each group, by direction and family; a prefix list by its weight (D20).
pub(super) fn check_quotas(report: &mut Report, all: &Validated) {
    let Some(quotas) = all.settings.quotas else { return };
    for group in all.groups.values() {
        for (direction, rules) in
            [("IpPermissions", &group.inbound), ("IpPermissionsEgress", &group.outbound)]
        {
            let (mut v4, mut v6) = (0, 0);
            for rule in rules {
                match &rule.peer {
                    Peer::Cidr(ipnet::IpNet::V4(_)) => v4 += 1,
                    Peer::Cidr(ipnet::IpNet::V6(_)) => v6 += 1,
                    Peer::Group { .. } => (v4, v6) = (v4 + 1, v6 + 1),
                    Peer::PrefixList(id) => match all.prefix_lists.get(id) {
                        Some(list) if list.ipv6 => v6 += list.max_entries,
                        Some(list) => v4 += list.max_entries,
                        None => {}
                    },
                }
            }
            let most = quotas.rules_per_group;
            if v4.max(v6) > most {
                let message = format!(
                    "The maximum number of rules per security group has been reached. '{}' has {v4} for IPv4 and {v6} for IPv6, \
                     the quota is {most} each",
                    group.id
                );
                report.fault(
                    "RulesPerSecurityGroupLimitExceeded",
                    format!("SecurityGroups['{}'].{direction}", group.id),
                    message,
                );
            }
        }
    }
}
