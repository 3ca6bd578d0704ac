//! Why a packet would pass, or what comes nearest where nothing permits it.

use std::net::IpAddr;

use engine::addr::Family;
use engine::policy::{Direction, Service};
use engine::snapshot::Snapshot;
use engine::verdict::Judgement;
use serde::{Deserialize, Serialize};

use crate::check::ask;
use crate::compile::Compiler;
use crate::model::{ExemptService, NetworkInterface, Rule, RuleService, Validated};
use crate::oracle::{self, Packet};

/// A packet to explain: the first of its flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// An address, or an interface's id.
    pub from: String,
    /// An address, or an interface's id.
    pub to: String,
    /// `tcp`, `udp`, `icmp`, `icmpv6` or a number.
    pub protocol: String,
    /// Destination port of TCP and UDP.
    #[serde(default)]
    pub port: Option<u16>,
    /// Source port of TCP and UDP; an ephemeral one if it is left out.
    #[serde(default)]
    pub source_port: Option<u16>,
    /// ICMP type; an echo request if it is left out.
    #[serde(default)]
    pub icmp_type: Option<u8>,
    /// ICMP code.
    #[serde(default)]
    pub icmp_code: Option<u8>,
    /// The VPC, where the addresses are in several.
    #[serde(default)]
    pub vpc: Option<String>,
}

/// What becomes of the packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Whether it passes.
    pub allowed: bool,
    /// In a sentence.
    pub summary: String,
    /// The ends that are interfaces of the policy, the sender first.
    pub ends: Vec<EndExplanation>,
}

/// How one end judges it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndExplanation {
    /// The interface.
    pub interface: String,
    /// `outbound` at the sender, `inbound` at the receiver.
    pub direction: String,
    /// `denied`, `tracked` or `untracked`.
    pub verdict: String,
    /// The rules that permit it.
    pub rules: Vec<String>,
    /// Where none does: what each group has that comes nearest.
    pub nearest: Vec<NearestMiss>,
    /// The network ACL of its subnet that refuses the packet, if one does (S49).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub network_acl: Option<String>,
}

/// The rule of a group that comes nearest to permitting a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NearestMiss {
    /// The group.
    pub group: String,
    /// The rule; none if the group has no rule in that direction.
    pub rule: Option<String>,
    /// What it permits instead.
    pub reason: String,
}

/// The request does not make a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExplainError {
    /// What is wrong with it.
    Invalid(String),
    /// The compiled policy and its rules differ: a defect of the switch.
    Mismatch(String),
}

/// One end of the packet.
struct End<'v> {
    interface: Option<&'v NetworkInterface>,
    address: Option<IpAddr>,
}

/// Finds an end by interface id or address.
fn end<'v>(policy: &'v Validated, text: &str, vpc: Option<&str>) -> Result<End<'v>, ExplainError> {
    if text.starts_with("eni-") {
        let missing = || ExplainError::Invalid(format!("the policy has no interface '{text}'"));
        return Ok(End { interface: Some(policy.interfaces.get(text).ok_or_else(missing)?), address: None });
    }
    let address: IpAddr = text.parse().map_err(|_| {
        ExplainError::Invalid(format!("'{text}' is neither an address nor an interface's id (eni-...)"))
    })?;
    // The tables would take it for the IPv4 address that it is made from.
    if matches!(address, IpAddr::V6(a) if a.to_ipv4_mapped().is_some()) {
        let message = format!("{address} is IPv4-mapped: the switch drops packets with such an address");
        return Err(ExplainError::Invalid(message));
    }
    let owns = |i: &&NetworkInterface| {
        vpc.is_none_or(|vpc| vpc == i.vpc)
            && (i.addresses.contains(&address) || i.prefixes.iter().any(|p| p.contains(&address)))
    };
    let mut owners = policy.interfaces.values().filter(owns);
    let interface = owners.next();
    if let (Some(one), Some(other)) = (interface, owners.next()) {
        let message = format!("{address} is in {} and in {}: say which VPC is meant", one.vpc, other.vpc);
        return Err(ExplainError::Invalid(message));
    }
    Ok(End { interface, address: Some(address) })
}

/// Explains what the compiled policy does with a packet, by which rules.
///
/// # Errors
/// [`ExplainError::Invalid`] if the request does not make a packet.
pub fn explain(
    policy: &Validated,
    compiler: &Compiler,
    snapshot: &Snapshot,
    request: &ExplainRequest,
) -> Result<Explanation, ExplainError> {
    let vpc = request.vpc.as_deref();
    let (from, to) = (end(policy, &request.from, vpc)?, end(policy, &request.to, vpc)?);
    let protocol = protocol_number(&request.protocol).map_err(ExplainError::Invalid)?;
    let v6 = [from.address, to.address].into_iter().flatten().next().map_or(protocol == 58, |a| a.is_ipv6());
    let address = |end: &End<'_>, name: &str| {
        let own = end.interface.map_or(&[][..], |i| &i.addresses);
        let given = end.address.or_else(|| own.iter().copied().find(|a| a.is_ipv6() == v6));
        let given = given.filter(|a| a.is_ipv6() == v6);
        given.ok_or_else(|| {
            ExplainError::Invalid(format!("{name} has no IPv{} address", if v6 { 6 } else { 4 }))
        })
    };
    let (src, dst) = (address(&from, &request.from)?, address(&to, &request.to)?);
    let port = match protocol {
        6 | 17 => request.port.ok_or_else(|| ExplainError::Invalid("TCP and UDP need a port".to_string()))?,
        1 | 58 => {
            let echo = if protocol == 1 { 8 } else { 128 };
            u16::from_be_bytes([request.icmp_type.unwrap_or(echo), request.icmp_code.unwrap_or(0)])
        }
        _ => 0,
    };
    let source_port = request.source_port.unwrap_or(49_152);
    let between = Between { src, dst, protocol, port, source_port };
    if let Some(why) = exempt(policy, &between, [from.interface, to.interface]) {
        let summary = format!("allowed, exempt: {why}; groups do not filter it");
        return Ok(Explanation { allowed: true, summary, ends: vec![] });
    }
    let ends = explain_ends(policy, compiler, snapshot, [from.interface, to.interface], &between)?;
    let refused = ends.iter().find(|e| e.verdict == "denied" || e.network_acl.is_some());
    let tracked = ends.iter().any(|e| e.verdict == "tracked");
    let mut summary = match refused {
        _ if ends.is_empty() => {
            "neither end is an interface that is bound to a port: this switch does not judge it".to_string()
        }
        Some(EndExplanation { network_acl: Some(acl), interface, direction, .. }) => {
            format!("denied: {acl} does not let it pass the border of {interface}'s subnet, {direction}")
        }
        Some(end) => format!("denied: no {} rule of {} permits it", end.direction, end.interface),
        None if tracked => "allowed, tracked: replies pass by state".to_string(),
        None => "allowed, untracked: judged by rules on each packet".to_string(),
    };
    let allowed = refused.is_none() && !ends.is_empty();
    let uplink = |end: &End<'_>| policy.uplink_of(&end.interface?.id);
    match (uplink(&from), uplink(&to)) {
        _ if !allowed => {}
        (Some(uplink), _) => summary.push_str(&format!("; only if it comes by {uplink}")),
        (None, Some(uplink)) => summary.push_str(&format!("; it leaves by {uplink}")),
        (None, None) => {}
    }
    Ok(Explanation { allowed, summary, ends })
}

/// A packet, and whom it is between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Between {
    /// The sender.
    pub src: IpAddr,
    /// The receiver.
    pub dst: IpAddr,
    /// Protocol number.
    pub protocol: u8,
    /// Destination port; of ICMP, type times 256 plus code.
    pub port: u16,
    /// Source port.
    pub source_port: u16,
}

/// How the rules of both ends judge a packet for which neither has state: the
/// sender's, then the receiver's, of those that are plugged in here.
///
/// # Errors
/// [`ExplainError::Mismatch`] if tables and rules differ.
pub fn explain_ends(
    policy: &Validated,
    compiler: &Compiler,
    snapshot: &Snapshot,
    interfaces: [Option<&NetworkInterface>; 2],
    packet: &Between,
) -> Result<Vec<EndExplanation>, ExplainError> {
    let &Between { src, dst, protocol, port, source_port } = packet;
    let subnets = interfaces.map(|interface| interface.and_then(|i| i.subnet.as_ref()));
    let crosses = subnets[0].is_none() || subnets[0] != subnets[1];
    let mut ends = Vec::new();
    let asked = interfaces.into_iter().zip([(Direction::Outbound, dst), (Direction::Inbound, src)]);
    for (interface, (direction, remote)) in asked {
        let Some(interface) = interface.filter(|i| policy.port_of(&i.id).is_some()) else { continue };
        let packet = Packet { remote, protocol, port, source_port };
        let mut end = explain_end(policy, compiler, snapshot, interface, direction, &packet)?;
        if crosses {
            end.network_acl = refusing_acl(policy, compiler, snapshot, interface, direction, &packet);
        }
        ends.push(end);
    }
    Ok(ends)
}

/// Why groups do not filter a packet at all (D22), if they do not: DHCP of a
/// client here, and what an operator has exempted, both beyond the uplinks.
fn exempt(
    policy: &Validated,
    packet: &Between,
    interfaces: [Option<&NetworkInterface>; 2],
) -> Option<&'static str> {
    let [sends, receives] = interfaces.map(|i| i.is_some_and(|i| policy.port_of(&i.id).is_some()));
    if sends == receives {
        return None;
    }
    let (client, server) = if packet.src.is_ipv4() { (68, 67) } else { (546, 547) };
    let wanted = if sends { (client, server) } else { (server, client) };
    if packet.protocol == 17 && (packet.source_port, packet.port) == wanted {
        return Some("it is DHCP of a client here");
    }
    let (address, port) = if sends { (packet.dst, packet.port) } else { (packet.src, packet.source_port) };
    let is_it = |service: &ExemptService| {
        (service.address, service.protocol, service.port) == (address, packet.protocol, port)
    };
    policy.settings.exempt_services.iter().any(is_it).then_some("the settings exempt this service")
}

/// A protocol by the name that EC2 has for it, in any case, or by its number.
///
/// # Errors
/// What was expected instead.
pub fn protocol_number(text: &str) -> Result<u8, String> {
    match text.to_lowercase().as_str() {
        "tcp" => Ok(6),
        "udp" => Ok(17),
        "icmp" => Ok(1),
        "icmpv6" => Ok(58),
        other => other
            .parse()
            .map_err(|_| format!("'{text}' is no protocol: expected tcp, udp, icmp, icmpv6 or a number")),
    }
}

fn explain_end(
    policy: &Validated,
    compiler: &Compiler,
    snapshot: &Snapshot,
    interface: &NetworkInterface,
    direction: Direction,
    packet: &Packet,
) -> Result<EndExplanation, ExplainError> {
    let (judgement, permitting) = oracle::judge(policy, interface, direction, packet);
    let compiled = ask(compiler, snapshot, &interface.id, direction, packet);
    if compiled != Some(judgement) {
        let message =
            format!("the compiled tables say {compiled:?} at {}, its rules say {judgement:?}", interface.id);
        return Err(ExplainError::Mismatch(message));
    }
    let forced = policy.settings.interfaces.get(&interface.id).is_some_and(|chosen| chosen.force_tracking);
    let judgement = match judgement {
        Judgement::Untracked if forced => Judgement::Tracked,
        other => other,
    };
    let nearest = match judgement {
        Judgement::Denied => {
            interface.groups.iter().map(|g| nearest(policy, interface, g, direction, packet)).collect()
        }
        Judgement::Tracked | Judgement::Untracked => vec![],
    };
    let verdict = match judgement {
        Judgement::Denied => "denied",
        Judgement::Tracked => "tracked",
        Judgement::Untracked => "untracked",
    };
    Ok(EndExplanation {
        interface: interface.id.to_string(),
        direction: match direction {
            Direction::Inbound => "inbound".to_string(),
            Direction::Outbound => "outbound".to_string(),
        },
        verdict: verdict.to_string(),
        rules: permitting.iter().map(|r| r.id.to_string()).collect(),
        nearest,
        network_acl: None,
    })
}

/// The network ACL that keeps a packet from passing the border of an
/// interface's subnet, if it is guarded so.
fn refusing_acl(
    policy: &Validated,
    compiler: &Compiler,
    snapshot: &Snapshot,
    interface: &NetworkInterface,
    direction: Direction,
    packet: &Packet,
) -> Option<String> {
    let border = snapshot.interfaces.get(compiler.interface_id(&interface.id)?)?.border.as_ref()?;
    let family = if packet.remote.is_ipv4() { Family::V4 } else { Family::V6 };
    let service = Service::new(family, packet.protocol, packet.port);
    if border.acl.permits(direction, packet.remote.into(), Some(service)) {
        return None;
    }
    let subnet = interface.subnet.as_ref()?;
    policy.network_acls.values().find(|acl| acl.subnets.contains(subnet)).map(|acl| acl.id.to_string())
}

/// The rule of a group that shares most with the packet.
fn nearest(
    policy: &Validated,
    interface: &NetworkInterface,
    group: &str,
    direction: Direction,
    packet: &Packet,
) -> NearestMiss {
    let (rules, preposition) = match (policy.groups.get(group), direction) {
        (Some(group), Direction::Inbound) => (&group.inbound[..], "from"),
        (Some(group), Direction::Outbound) => (&group.outbound[..], "to"),
        (None, _) => (&[][..], "from"),
    };
    let same_protocol = |rule: &Rule| match rule.service {
        RuleService::All => true,
        RuleService::Ports(p, ..) | RuleService::Icmp(p, ..) | RuleService::Protocol(p, _) => {
            p == packet.protocol
        }
    };
    let shares = |rule: &Rule| {
        let service = oracle::is_for(rule.service, packet);
        let peer = oracle::is_peer(policy, interface, &rule.peer, packet.remote);
        (service || peer, service, same_protocol(rule), peer)
    };
    let best = rules.iter().max_by_key(|rule| shares(rule));
    let reason = match best.map(|rule| (rule, shares(rule))) {
        None => "it has no rule in this direction".to_string(),
        Some((rule, (_, true, ..))) => {
            format!("{} is allowed, {preposition} {} only", rule.service, rule.peer)
        }
        Some((rule, (.., true))) => {
            format!("{preposition} {} only {} is allowed", packet.remote, rule.service)
        }
        Some(_) => {
            format!("none of its {} rules is for this service or {preposition} this address", rules.len())
        }
    };
    let related = best.filter(|rule| shares(rule).0);
    NearestMiss { group: group.to_string(), rule: related.map(|r| r.id.to_string()), reason }
}
