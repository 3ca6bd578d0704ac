//! A packet's way through the stages, in words and as a tree.

use std::net::IpAddr;
use std::time::UNIX_EPOCH;

use engine::addr::MacAddr;
use engine::packet::{ArpOperation, Body, Packet, TcpFlags, Transport};
use engine::pipeline::{Fate, KnownConnection, PassClass};
use engine::verdict::DropReason;
use policy::{Between, EndExplanation, Id, NetworkInterface, explain_ends};
use serde_json::{Value, json};
use worker::Traced;

use crate::accounts::{Names, Tuple};
use crate::switch::Switch;

/// One stage of the way.
fn stage(name: &str, text: impl Into<String>) -> Value {
    json!({ "Stage": name, "Text": text.into() })
}

/// What was seen of a packet, stage by stage. Rules are told by the policy in
/// force, if it is still the one that the packet was judged by.
pub fn shown(switch: &Switch, names: &Names, traced: &Traced) -> Value {
    let seen = &traced.observation;
    let interface = |id| names.interfaces.get(&id).map(Id::as_str);
    let (sender, receiver) = (interface(seen.sender), interface(seen.receiver));
    let port = switch.ports.name(traced.port).unwrap_or("?");
    let mut stages = Vec::new();
    let by = if traced.steered { ", handed over by another worker" } else { "" };
    stages.push(stage("receive", format!("{} bytes by port {port}{by}", traced.length)));
    let (packet, tuple) = match &seen.packet {
        Err(reason) => {
            stages.push(stage("parse", format!("no packet: {reason}")));
            (None, None)
        }
        Ok(packet) => {
            let from = match (sender, seen.vpc) {
                (Some(id), _) => format!("from {id}"),
                (None, Some(vpc)) => {
                    format!("by an uplink of {}", names.vpcs.get(&vpc).map_or("?", Id::as_str))
                }
                (None, None) => "from a port that serves nothing".to_string(),
            };
            stages.push(stage("parse", format!("{}, {from}", packet_in_words(packet))));
            let tuple = match &packet.body {
                Body::Ip(ip) => Some(Tuple::of_ip(ip)),
                Body::Arp(_) => None,
            };
            (Some(packet), tuple)
        }
    };
    if tuple.is_some() && seen.vpc.is_some() {
        stages.push(stage("track", tracked_in_words(seen.connection.as_ref())));
    }
    let ends = judged(switch, traced, [sender, receiver], tuple);
    if let Some(text) = policed_in_words(traced.fate, &ends) {
        stages.push(stage("police", text));
    }
    let mut left = left_in_words(switch, traced, receiver);
    if let Some(place) = packet.and_then(|packet| place_in_words(switch, traced, packet)) {
        left.push_str(&format!(" ({place})"));
    }
    stages.push(stage("transmit", left));
    let time = traced.at.duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
    let (verdict, class, reason) = match traced.fate {
        Fate::Passed(class) => ("passed", Some(class.label()), None),
        Fate::Dropped(reason) => ("dropped", None, Some(reason.label())),
        Fate::HandedOver(_) => ("handed over", None, None),
        Fate::Waits => ("waits", None, None),
    };
    json!({
        "Time": time,
        "Worker": traced.worker.0,
        "Generation": traced.generation,
        "Port": port,
        "Length": traced.length,
        "Packet": packet.map(packet_in_words),
        "Sender": sender,
        "Receiver": receiver,
        "Verdict": verdict,
        "Class": class,
        "Reason": reason,
        "Stages": stages,
        "Ends": ends,
        "Data": hex::encode(&traced.head),
    })
}

/// How rules judge the packet at both ends, where they were asked about it.
fn judged(
    switch: &Switch,
    traced: &Traced,
    names: [Option<&str>; 2],
    tuple: Option<Tuple>,
) -> Vec<EndExplanation> {
    let asked = matches!(
        traced.fate,
        Fate::Passed(PassClass::NewTracked | PassClass::Untracked)
            | Fate::Dropped(
                DropReason::OutboundDenied
                    | DropReason::InboundDenied
                    | DropReason::AclOutbound
                    | DropReason::AclInbound
                    | DropReason::RuleRevoked
            )
    );
    let (Some(current), Some(tuple)) = (&switch.current, tuple) else { return vec![] };
    if !asked || current.generation != traced.generation {
        return vec![];
    }
    let Tuple { protocol, src, dst, src_port, dst_port } = tuple;
    let between = Between { src, dst, protocol, port: dst_port, source_port: src_port };
    let interfaces: [Option<&NetworkInterface>; 2] = names.map(|name| current.policy.interfaces.get(name?));
    explain_ends(&current.policy, &switch.compiler, &current.snapshot, interfaces, &between)
        .unwrap_or_default()
}

fn tracked_in_words(connection: Option<&KnownConnection>) -> String {
    let Some(known) = connection else { return "no connection".to_string() };
    let who = match (known.sender_tracks, known.receiver_tracks) {
        (true, true) => "both ends track it",
        (true, false) => "the sender tracks it",
        (false, true) => "the receiver tracks it",
        (false, false) => "neither end tracks it",
    };
    let opener = if known.by_originator { "sender" } else { "receiver" };
    format!(
        "connection {}, opened by the {opener}, {who}, {} s to live",
        known.state.label(),
        known.expires_in.as_secs()
    )
}

/// What the rules have said, or why they were not asked.
fn policed_in_words(fate: Fate, ends: &[EndExplanation]) -> Option<String> {
    let by_rules = |end: &EndExplanation| {
        let (direction, interface) = (&end.direction, &end.interface);
        if let Some(acl) = &end.network_acl {
            return format!("{direction} of {interface}: {acl} refuses it");
        }
        if !end.rules.is_empty() {
            return format!("{direction} of {interface}: {}, by {}", end.verdict, end.rules.join(", "));
        }
        let nearest: Vec<String> =
            end.nearest.iter().map(|miss| format!("{}: {}", miss.group, miss.reason)).collect();
        format!("{direction} of {interface}: {} ({})", end.verdict, nearest.join("; "))
    };
    match fate {
        Fate::Passed(PassClass::Established) => Some("by state: no rule is asked".to_string()),
        Fate::Passed(PassClass::Related) => Some("related: with the flow that the error quotes".to_string()),
        Fate::Passed(PassClass::Exempt) => Some("exempt: groups do not filter it".to_string()),
        Fate::Passed(PassClass::Flooded) => {
            Some("broadcast or multicast: permitted by the sender and each receiver".to_string())
        }
        _ if ends.is_empty() => None,
        _ => Some(ends.iter().map(by_rules).collect::<Vec<_>>().join("; ")),
    }
}

fn left_in_words(switch: &Switch, traced: &Traced, receiver: Option<&str>) -> String {
    match traced.fate {
        Fate::Dropped(reason) => format!("dropped: {reason}"),
        Fate::HandedOver(to) => format!("handed over to worker {}", to.0),
        Fate::Waits => "waits for the first fragment of its packet".to_string(),
        Fate::Passed(class) => {
            let ports: Vec<&str> = traced
                .deliveries
                .iter()
                .map(|delivery| switch.ports.name(delivery.port).unwrap_or("?"))
                .collect();
            let to = receiver.map_or(String::new(), |id| format!(" to {id}"));
            format!("passed ({}){to} by port {}", class.label(), ports.join(", "))
        }
    }
}

/// Where the policy says that the receiver is, or the sender of what came elsewhere, if it
/// is still the policy that the packet was judged by.
fn place_in_words(switch: &Switch, traced: &Traced, packet: &Packet) -> Option<String> {
    let current = switch.current.as_ref().filter(|current| current.generation == traced.generation)?;
    let (snapshot, vpc) = (&current.snapshot, traced.observation.vpc?);
    let of_mac = |mac: MacAddr| Some((mac.to_string(), snapshot.behind(vpc, mac)?));
    let (who, behind) = match (traced.fate, &packet.body) {
        (Fate::Dropped(DropReason::WrongUplink), body) => {
            let by_mac = of_mac(packet.source).filter(|(_, behind)| !behind.is(traced.port));
            by_mac.or_else(|| {
                let Body::Ip(ip) = body else { return None };
                let owner = snapshot.interfaces.by_address(vpc, ip.src)?;
                Some((IpAddr::from(ip.src).to_string(), owner.behind?))
            })?
        }
        (Fate::Passed(_) | Fate::Dropped(DropReason::NoDestination), _) => of_mac(packet.destination)?,
        _ => return None,
    };
    let uplink = behind.uplink().and_then(|port| switch.ports.name(port));
    Some(format!("{who} is behind {}", uplink.unwrap_or("an uplink that is out of service")))
}

/// A packet in a line.
pub fn packet_in_words(packet: &Packet) -> String {
    let tag = packet.vlan.map_or(String::new(), |vlan| format!("vlan {} ", vlan.0));
    let text = match &packet.body {
        Body::Arp(arp) => {
            let (sender, target) = (IpAddr::from(arp.sender), IpAddr::from(arp.target));
            match arp.operation {
                ArpOperation::Request => format!("arp who has {target}, tell {sender}"),
                ArpOperation::Reply => format!("arp {sender} is at {}", arp.sender_mac),
            }
        }
        Body::Ip(ip) => {
            let (src, dst) = (IpAddr::from(ip.src), IpAddr::from(ip.dst));
            let with = |address: IpAddr, port: u16| std::net::SocketAddr::new(address, port);
            match ip.transport {
                Transport::Tcp(tcp) => {
                    format!(
                        "tcp {} > {} {}",
                        with(src, tcp.src_port),
                        with(dst, tcp.dst_port),
                        flags(tcp.flags)
                    )
                }
                Transport::Udp(udp) => {
                    format!("udp {} > {}", with(src, udp.src_port), with(dst, udp.dst_port))
                }
                Transport::Query(q) => {
                    format!("icmp {src} > {dst} type {} code {} id {}", q.icmp_type, q.code, q.id)
                }
                Transport::Error(e) => {
                    format!("icmp {src} > {dst} error type {} code {}", e.icmp_type, e.code)
                }
                Transport::Icmp { icmp_type, code } => {
                    format!("icmp {src} > {dst} type {icmp_type} code {code}")
                }
                Transport::NeighbourDiscovery(_) => format!("neighbour discovery {src} > {dst}"),
                Transport::Fragment(f) => {
                    format!("fragment {src} > {dst} protocol {} offset {}", ip.protocol, f.offset)
                }
                Transport::Other => format!("protocol {} {src} > {dst}", ip.protocol),
            }
        }
    };
    tag + &text
}

fn flags(flags: TcpFlags) -> String {
    let names = [
        (TcpFlags::SYN, "SYN"),
        (TcpFlags::FIN, "FIN"),
        (TcpFlags::RST, "RST"),
        (TcpFlags::PSH, "PSH"),
        (TcpFlags::ACK, "ACK"),
        (TcpFlags::URG, "URG"),
    ];
    let set: Vec<&str> =
        names.into_iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, n)| n).collect();
    if set.is_empty() { "no flags".to_string() } else { set.join("+") }
}
