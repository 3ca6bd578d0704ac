//! What is allowed in a policy and may not be meant.

use std::collections::{BTreeSet, HashMap};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::model::{DEFAULT_GROUP, Id, Peer, Rule, RuleService, SecurityGroup, Validated};

/// Ports by which machines are administered or databases asked, and what they
/// are: not for everyone.
const ADMINISTRATION: [(u16, &str); 20] = [
    (22, "SSH"),
    (23, "Telnet"),
    (135, "RPC"),
    (445, "SMB"),
    (1433, "SQL Server"),
    (1521, "Oracle"),
    (2375, "Docker"),
    (2379, "etcd"),
    (3306, "MySQL"),
    (3389, "RDP"),
    (5432, "PostgreSQL"),
    (5601, "Kibana"),
    (5900, "VNC"),
    (5985, "WinRM"),
    (5986, "WinRM"),
    (6379, "Redis"),
    (9200, "Elasticsearch"),
    (10250, "kubelet"),
    (11211, "memcached"),
    (27017, "MongoDB"),
];

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Most likely not meant.
    Warning,
}

/// Something that may not be meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// Which check has found it: a stable name.
    pub check: String,
    /// The group, interface or prefix list.
    pub id: String,
    /// The rule, if it is one.
    pub security_group_rule_id: Option<String>,
    /// What it is, and what to do about it.
    pub message: String,
}

/// All findings, what matters most in front.
pub fn lint(policy: &Validated) -> Vec<Finding> {
    let mut findings = Vec::new();
    let used = used_groups(policy);
    for group in policy.groups.values() {
        group_findings(policy, group, &used, &mut findings);
        for (rules, egress) in [(&group.inbound, false), (&group.outbound, true)] {
            shadowed(group, rules, &mut findings);
            for rule in rules {
                rule_findings(policy, group, rule, egress, &used, &mut findings);
            }
        }
    }
    for interface in policy.interfaces.values() {
        let groups = || interface.groups.iter().filter_map(|id| policy.groups.get(id));
        if groups().all(|group| group.inbound.is_empty()) {
            let message = "none of its groups has an inbound rule: nothing can begin to talk to it";
            findings.push(finding(Severity::Info, "no-inbound-rules", &interface.id, None, message));
        }
    }
    findings.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.cmp(b)));
    findings
}

fn finding(
    severity: Severity,
    check: &str,
    id: &str,
    rule: Option<&Rule>,
    message: impl Into<String>,
) -> Finding {
    Finding {
        severity,
        check: check.to_string(),
        id: id.to_string(),
        security_group_rule_id: rule.map(|rule| rule.id.to_string()),
        message: message.into(),
    }
}

/// What interfaces have, and what rules refer to.
struct Used<'p> {
    members: BTreeSet<&'p str>,
    referred: BTreeSet<&'p str>,
}

fn used_groups(policy: &Validated) -> Used<'_> {
    let members = policy.interfaces.values().flat_map(|i| &i.groups).map(Id::as_str).collect();
    let rules = policy.groups.values().flat_map(|g| {
        let own = g.id.as_str();
        g.inbound.iter().chain(&g.outbound).map(move |rule| (own, rule))
    });
    let referred = rules.filter_map(|(own, rule)| match &rule.peer {
        Peer::Group { id, .. } if id != own => Some(id.as_str()),
        _ => None,
    });
    Used { members, referred: referred.collect() }
}

fn group_findings(policy: &Validated, group: &SecurityGroup, used: &Used<'_>, findings: &mut Vec<Finding>) {
    let (has, referred) =
        (used.members.contains(group.id.as_str()), used.referred.contains(group.id.as_str()));
    if !has && !referred && group.name != DEFAULT_GROUP {
        let message = "no interface has it and no rule of another group refers to it: delete it";
        findings.push(finding(Severity::Warning, "unused-group", &group.id, None, message));
    }
    if !has && referred {
        let message = "rules refer to it, and no interface has it: they match nothing";
        findings.push(finding(Severity::Warning, "empty-group", &group.id, None, message));
    }
    if policy.vpcs.get(&group.vpc).is_some_and(|vpc| vpc.ipv6) {
        one_family_only(group, findings);
    }
}

/// Services open to all of IPv4 and not to all of IPv6.
fn one_family_only(group: &SecurityGroup, findings: &mut Vec<Finding>) {
    let everyone = |rule: &Rule, v4: bool| matches!(rule.peer, Peer::Cidr(net) if net.prefix_len() == 0 && net.addr().is_ipv4() == v4);
    for rule in group.inbound.iter().filter(|rule| everyone(rule, true)) {
        let is_same = |other: &Rule| everyone(other, false) && covers(&other.service, &rule.service);
        let of_ipv4 = matches!(rule.service, RuleService::Icmp(..));
        if !of_ipv4 && !group.inbound.iter().any(is_same) {
            let message = format!("{} is open to everyone by IPv4 and not by IPv6 (::/0)", rule.service);
            findings.push(finding(Severity::Info, "ipv4-only", &group.id, Some(rule), message));
        }
    }
}

/// Whether all that the other service is for, this one is for as well.
fn covers(wide: &RuleService, narrow: &RuleService) -> bool {
    match (*wide, *narrow) {
        (RuleService::All, _) => true,
        (RuleService::Ports(p, low, high), RuleService::Ports(q, from, to)) => {
            p == q && low <= from && to <= high
        }
        (RuleService::Icmp(p, t, c), RuleService::Icmp(q, u, d)) => {
            p == q && (t.is_none() || (t == u && (c.is_none() || c == d)))
        }
        (RuleService::Protocol(p, _), RuleService::Protocol(q, _)) => p == q,
        _ => false,
    }
}

/// Whether all whom the other peer names, this one names as well, whatever lists
/// and groups have in them.
fn names_all(wide: &Peer, narrow: &Peer) -> bool {
    match (wide, narrow) {
        (Peer::Cidr(wide), Peer::Cidr(narrow)) => wide.contains(narrow),
        (wide, narrow) => wide == narrow,
    }
}

/// Rules that permit nothing which another rule of the same group and direction
/// does not permit. Without them nothing changes, not even what is tracked (S40):
/// what shadows a rule for everyone is for everyone itself.
fn shadowed(group: &SecurityGroup, rules: &[Rule], findings: &mut Vec<Finding>) {
    let is_in = |wide: &Rule, narrow: &Rule| {
        covers(&wide.service, &narrow.service) && names_all(&wide.peer, &narrow.peer)
    };
    // Of rules that permit the same, the first stays.
    let shadows = |(i, wide): (usize, &Rule), (j, narrow): (usize, &Rule)| {
        i != j && is_in(wide, narrow) && (i < j || !is_in(narrow, wide))
    };
    let mut by_peer: HashMap<&Peer, Vec<usize>> = HashMap::new();
    for (at, rule) in rules.iter().enumerate() {
        by_peer.entry(&rule.peer).or_default().push(at);
    }
    let wide_blocks: Vec<usize> =
        (0..rules.len()).filter(|at| matches!(rules[*at].peer, Peer::Cidr(_))).collect();
    for (at, rule) in rules.iter().enumerate() {
        let candidates = match rule.peer {
            Peer::Cidr(_) => &wide_blocks,
            _ => by_peer.get(&rule.peer).unwrap_or(&wide_blocks),
        };
        let found = candidates.iter().copied().find(|other| shadows((*other, &rules[*other]), (at, rule)));
        if let Some(other) = found {
            let wide = &rules[other];
            let message = format!(
                "{} and {} are permitted by {} ({}, {}) already: revoke it",
                rule.service, rule.peer, wide.id, wide.service, wide.peer
            );
            findings.push(finding(Severity::Warning, "shadowed-rule", &group.id, Some(rule), message));
        }
    }
}

fn rule_findings(
    policy: &Validated,
    group: &SecurityGroup,
    rule: &Rule,
    egress: bool,
    used: &Used<'_>,
    findings: &mut Vec<Finding>,
) {
    let mut note = |severity, check: &str, message: String| {
        findings.push(finding(severity, check, &group.id, Some(rule), message));
    };
    match &rule.peer {
        Peer::Group { id, stale: true } => {
            let message = format!("it refers to {id}, which is gone or out of reach: it matches nothing");
            note(Severity::Warning, "stale-rule", message);
        }
        Peer::PrefixList(id) if policy.prefix_lists.get(id).is_none_or(|list| list.entries.is_empty()) => {
            note(Severity::Warning, "empty-prefix-list", format!("{id} has no entries: it matches nothing"));
        }
        Peer::Cidr(net) if !egress && used.members.contains(group.id.as_str()) => {
            if let Some(message) = open_to_the_world(net, &rule.service) {
                note(Severity::Warning, "open-administration", message);
            }
        }
        _ => {}
    }
}

/// What is open to all of a family, or to half of it as some write that to get
/// around such a check, and should hardly be.
fn open_to_the_world(net: &IpNet, service: &RuleService) -> Option<String> {
    let whom = match net.prefix_len() {
        0 => "everyone".to_string(),
        1 => format!("half of the world ({net})"),
        _ => return None,
    };
    match *service {
        RuleService::All => Some(format!("all traffic is open to {whom}: name services and sources")),
        RuleService::Ports(protocol, low, high) => {
            let open: Vec<String> = ADMINISTRATION
                .iter()
                .filter(|(port, _)| protocol == 6 && (low..=high).contains(port))
                .map(|(port, name)| format!("{name} ({port})"))
                .collect();
            let all = open.len() == ADMINISTRATION.len();
            let what = if all { "every administration port".to_string() } else { open.join(", ") };
            (!open.is_empty()).then(|| format!("{what} is open to {whom}: name the sources"))
        }
        RuleService::Icmp(..) | RuleService::Protocol(..) => None,
    }
}
