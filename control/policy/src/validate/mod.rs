//! From a document to [`Validated`]: all that is wrong at once.

mod bindings;
mod groups;
mod interfaces;
mod prefix_lists;

use ipnet::IpNet;
use serde_json::Value;

use crate::model::{Peering, Quotas, Settings, Validated, Vpc};
use crate::reader::Node;
use crate::report::{Faults, Notice, Report};

/// What a document is validated against.
#[derive(Clone, Copy, Debug)]
pub struct Context<'c> {
    /// The names of the switch's ports.
    pub ports: &'c [String],
    /// Whether a document cut short by `NextToken` is accepted (D28).
    pub partial: bool,
    /// Whether a binding to a port that does not exist is a notice, and the
    /// binding left out: when a stored policy is restored.
    pub missing_ports_are_notices: bool,
}

/// Validates a document.
///
/// # Errors
/// Everything that is wrong with it.
pub fn validate(document: &Value, context: &Context<'_>) -> Result<(Validated, Vec<Notice>), Faults> {
    let mut report = Report::default();
    let root = Node::root(document);
    if root.object(&mut report).is_none() {
        return Err(report.faults);
    }
    root.known(&mut report, &TOP_LEVEL_KEYS);
    if let Some(token) = root.get("NextToken").filter(|_| !context.partial) {
        let message = "the document is one page of several: it would close what the others open; \
                       fetch all pages, or say that it is meant to be partial";
        report.fault("InvalidParameterValue", token.path, message);
    }
    let mut all = Validated { settings: settings(&root, &mut report), ..Validated::default() };
    vpcs(&root, &mut report, &mut all);
    prefix_lists::read(&root, &mut report, &mut all);
    groups::read(&root, &mut report, &mut all);
    interfaces::read(&root, &mut report, &mut all);
    groups::add_defaults(&mut all);
    interfaces::add_default_groups(&mut all);
    groups::check_references(&mut report, &mut all);
    groups::check_quotas(&mut report, &all);
    bindings::read(&root, &mut report, &mut all, context);
    if report.faults.errors.is_empty() { Ok((all, report.notices)) } else { Err(report.faults) }
}

/// Keys that mean something here, or that the AWS CLI writes beside those.
const TOP_LEVEL_KEYS: [&str; 12] = [
    "SecurityGroups",
    "SecurityGroupRules",
    "NetworkInterfaces",
    "PrefixLists",
    "PrefixListEntries",
    "Vpcs",
    "Subnets",
    "VpcPeeringConnections",
    "Bindings",
    "Settings",
    "NextToken",
    "ResponseMetadata",
];

fn settings(root: &Node<'_>, report: &mut Report) -> Settings {
    let mut settings = Settings::default();
    let Some(node) = root.get("Settings") else { return settings };
    node.known(report, &["Quotas", "StrictRuleDescriptions"]);
    settings.strict_rule_descriptions = node.flag(report, "StrictRuleDescriptions").unwrap_or(false);
    match node.get("Quotas") {
        None => {}
        Some(quotas) if quotas.value.as_str() == Some("unlimited") => settings.quotas = None,
        Some(quotas) if quotas.value.is_object() => {
            quotas.known(report, &["RulesPerSecurityGroup", "SecurityGroupsPerInterface"]);
            let default = Quotas::default();
            let mut read = |key, default: usize, most| {
                quotas.number(report, key, 1..=most).map_or(default, |n| n as usize)
            };
            let rules_per_group = read("RulesPerSecurityGroup", default.rules_per_group, 1000);
            let groups_per_interface = read("SecurityGroupsPerInterface", default.groups_per_interface, 16);
            if rules_per_group * groups_per_interface > 1000 {
                let message = format!(
                    "{rules_per_group} rules times {groups_per_interface} groups are more than the 1000 that an interface may have"
                );
                report.fault("InvalidParameterValue", &quotas.path, message);
            }
            settings.quotas = Some(Quotas { rules_per_group, groups_per_interface });
        }
        Some(quotas) => {
            report.fault("InvalidParameterValue", quotas.path, "expected \"unlimited\" or an object");
        }
    }
    settings
}

fn vpcs(root: &Node<'_>, report: &mut Report, all: &mut Validated) {
    for node in root.list(report, "Vpcs") {
        let Some(id) = node.required(report, "VpcId") else { continue };
        let associated = node.list(report, "Ipv6CidrBlockAssociationSet");
        let ipv6 = associated.iter().any(|a| {
            let state =
                a.get("Ipv6CidrBlockState").and_then(|s| s.get("State").and_then(|s| s.value.as_str()));
            state.is_none_or(|s| s == "associated")
        });
        if all.vpcs.insert(id.to_string(), Vpc { ipv6 }).is_some() {
            report.fault("InvalidParameterValue", node.path, format!("the VPC '{id}' is there twice"));
        }
    }
    for node in root.list(report, "VpcPeeringConnections") {
        let id = node.required(report, "VpcPeeringConnectionId");
        let mut end = |key: &str| {
            let info = node.get(key);
            if info.is_none() {
                let message = format!("the request must contain the parameter {key}");
                report.fault("MissingParameter", format!("{}.{key}", node.path), message);
            }
            info?.required(report, "VpcId")
        };
        let vpcs = [end("RequesterVpcInfo"), end("AccepterVpcInfo")];
        let status = node.get("Status").and_then(|s| s.string(report, "Code"));
        if let (Some(id), [Some(one), Some(other)]) = (id, vpcs) {
            let vpcs = [one.to_string(), other.to_string()];
            all.peerings.push(Peering { id: id.to_string(), vpcs, active: status == Some("active") });
        }
    }
}

/// A CIDR block in EC2's notation: always with a length (S24, S25), of the
/// family that is wanted. Host bits are cleared, with a notice (D5).
fn cidr(report: &mut Report, node: &Node<'_>, key: &str, ipv6: bool) -> Option<IpNet> {
    let text = node.required(report, key)?;
    let path = format!("{}.{key}", node.path);
    let net = text.parse::<IpNet>().ok().filter(|net| matches!(net, IpNet::V6(_)) == ipv6);
    // The parser takes leading zeros, which others read as octal.
    let net = net.filter(|net| ipv6 || net.to_string() == text);
    // IPv4 in IPv6's clothes would never meet a packet.
    let net = net.filter(|net| !matches!(net, IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some()));
    let Some(net) = net else {
        report.fault("InvalidParameterValue", path, format!("CIDR block {text} is malformed"));
        return None;
    };
    let canonical = net.trunc();
    if canonical != net {
        report.notice(path, format!("{text} has host bits set: it is taken as {canonical}"));
    }
    Some(canonical)
}

/// A description or name: at most 255 of EC2's characters. `&` is allowed in
/// rules only where that is not strict (D1).
fn is_plain(text: &str, ampersand: bool) -> bool {
    let allowed =
        |c: char| c.is_ascii_alphanumeric() || " ._-:/()#,@[]+=;{}!$*".contains(c) || (ampersand && c == '&');
    text.chars().count() <= 255 && text.chars().all(allowed)
}
