//! The compiled tables against the oracle, before a policy is published.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use engine::addr::Family;
use engine::ids::InterfaceId;
use engine::policy::{Direction, Query, Service};
use engine::snapshot::Snapshot;
use engine::verdict::Judgement;
use ipnet::IpNet;

use crate::compile::Compiler;
use crate::model::{Id, NetworkInterface, Peer, RuleService, Validated};
use crate::oracle::{self, Packet};
use crate::rulebook::Rulebook;

/// A packet on which the compiled tables and the oracle differ: a defect of
/// the switch, for which the policy is not published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The interface.
    pub interface: Id,
    /// Which of its rules.
    pub direction: Direction,
    /// The packet.
    pub packet: Packet,
    /// What the tables say.
    pub compiled: Judgement,
    /// What the rules say, walked one by one.
    pub oracle: Judgement,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mismatch { interface, direction, packet, compiled, oracle } = self;
        write!(
            f,
            "the compiled policy judges {packet:?} {direction:?} at {interface} {compiled:?}, its rules say {oracle:?}"
        )
    }
}

/// What a snapshot says of a packet at an interface; `None` if it does not have
/// the interface.
pub(crate) fn ask(
    compiler: &Compiler,
    snapshot: &Snapshot,
    interface: &str,
    direction: Direction,
    packet: &Packet,
) -> Option<Judgement> {
    ask_at(compiler.interface_id(interface)?, snapshot, direction, packet)
}

fn ask_at(
    interface: InterfaceId,
    snapshot: &Snapshot,
    direction: Direction,
    packet: &Packet,
) -> Option<Judgement> {
    let interface = snapshot.interfaces.get(interface)?;
    let family = if packet.remote.is_ipv4() { Family::V4 } else { Family::V6 };
    let service = |port| Service::new(family, packet.protocol, port);
    let query = Query {
        vpc: interface.vpc,
        family,
        service: service(packet.port),
        reply_service: matches!(packet.protocol, 6 | 17).then(|| service(packet.source_port)),
        remote: packet.remote.into(),
    };
    Some(interface.policy.judge(&snapshot.tables, direction, &query))
}

/// Asks both about at most `samples` packets at the edges of rules: ports and
/// addresses at, just inside and just outside of what each permits.
///
/// # Errors
/// The first packet on which they differ.
pub fn self_check(
    policy: &Validated,
    compiler: &Compiler,
    snapshot: &Snapshot,
    samples: usize,
) -> Result<usize, Box<Mismatch>> {
    let book = Rulebook::new(Arc::new(policy.clone()));
    self_check_by(&book, |id| compiler.interface_id(id), snapshot, samples)
}

/// The same where the compiler is not at hand, but the numbers that it has given
/// to interfaces are, and the policy is arranged already.
///
/// # Errors
/// As above.
pub fn self_check_by(
    book: &Rulebook,
    number: impl Fn(&str) -> Option<InterfaceId>,
    snapshot: &Snapshot,
    samples: usize,
) -> Result<usize, Box<Mismatch>> {
    let interfaces = &book.policy().interfaces;
    // Of many interfaces every n-th, so that the samples reach all of the policy.
    let stride = (interfaces.len() * 8).div_ceil(samples.max(1)).max(1);
    let share = (samples / interfaces.len().max(1)).max(8);
    check_each(book, interfaces.values().step_by(stride), number, snapshot, share, &[])
}

/// The same of a generation that has changes against the one before: at the
/// interfaces that were compiled for it, about who they are, and at a few others
/// whether they are still known as who they are.
///
/// # Errors
/// As above.
pub fn self_check_changes(
    book: &Rulebook,
    compiler: &Compiler,
    snapshot: &Snapshot,
    samples: usize,
) -> Result<usize, Box<Mismatch>> {
    let policy = book.policy();
    let looked = compiler.compiled_interfaces();
    let some = |most: usize| {
        let stride = looked.len().div_ceil(most.max(1)).max(1);
        looked.iter().step_by(stride).filter_map(|id| policy.interfaces.get(id))
    };
    let changed = some(samples / 8);
    let addresses = some(4).filter_map(|interface| interface.addresses.first().copied());
    let addresses: Vec<IpAddr> = addresses.collect();
    // Others whose rules may name the groups of those: they name their own, most of the time.
    let groups = some(2).flat_map(|interface| interface.groups.first());
    let others = groups.flat_map(|group| book.members(group).take(2));
    let all: Vec<&NetworkInterface> = changed.chain(others).collect();
    let share = (samples / all.len().max(1)).max(8);
    check_each(book, all.into_iter(), |id| compiler.interface_id(id), snapshot, share, &addresses)
}

fn check_each<'b>(
    book: &Rulebook,
    interfaces: impl Iterator<Item = &'b NetworkInterface>,
    number: impl Fn(&str) -> Option<InterfaceId>,
    snapshot: &Snapshot,
    share: usize,
    also: &[IpAddr],
) -> Result<usize, Box<Mismatch>> {
    let mut asked = 0;
    for interface in interfaces {
        for (direction, packet) in edges(book, interface, share, also) {
            let compiled = number(&interface.id).and_then(|id| ask_at(id, snapshot, direction, &packet));
            let Some(compiled) = compiled else { continue };
            let (oracle, _) = book.judge_by_rules(interface, direction, &packet);
            if compiled != oracle {
                let interface = interface.id.clone();
                return Err(Box::new(Mismatch { interface, direction, packet, compiled, oracle }));
            }
            asked += 1;
        }
    }
    Ok(asked)
}

/// Packets at the edges of an interface's rules; of rules that name groups, from
/// some further addresses as well.
pub(crate) fn edges(
    book: &Rulebook,
    interface: &NetworkInterface,
    most: usize,
    also: &[IpAddr],
) -> Vec<(Direction, Packet)> {
    let policy = book.policy();
    let mut packets = Vec::new();
    for direction in [Direction::Inbound, Direction::Outbound] {
        let rules: Vec<_> = oracle::rules(policy, interface, direction).collect();
        // Each rule gives about twenty packets.
        let stride = (rules.len() * 40).div_ceil(most).max(1);
        for rule in rules.iter().step_by(stride) {
            let remotes = remotes(book, &rule.peer, also);
            for (protocol, port) in ports(rule.service) {
                for &remote in &remotes {
                    packets.push((direction, Packet { remote, protocol, port, source_port: 40_000 }));
                    // As the answer to what it permits.
                    packets.push((
                        direction.other(),
                        Packet { remote, protocol, port: 40_000, source_port: port },
                    ));
                }
            }
        }
    }
    // Whoever has no rules is asked as well.
    for remote in [
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        "2001:db8::1".parse::<Ipv6Addr>().expect("a constant").into(),
    ] {
        for (protocol, port) in [(6, 22), (17, 53), (1, 0x0800), (58, 0x8000), (47, 0)] {
            for direction in [Direction::Inbound, Direction::Outbound] {
                packets.push((direction, Packet { remote, protocol, port, source_port: 40_000 }));
            }
        }
    }
    packets
}

fn ports(service: RuleService) -> Vec<(u8, u16)> {
    match service {
        RuleService::All => vec![(6, 0), (17, 65535), (1, 0x0800), (58, 0x8000), (132, 0)],
        RuleService::Ports(protocol, low, high) => [low.wrapping_sub(1), low, high, high.wrapping_add(1)]
            .into_iter()
            .map(|port| (protocol, port))
            .chain([(if protocol == 6 { 17 } else { 6 }, low)])
            .collect(),
        RuleService::Icmp(protocol, icmp_type, code) => {
            let port = u16::from_be_bytes([icmp_type.unwrap_or(8), code.unwrap_or(0)]);
            vec![
                (protocol, port),
                (protocol, port.wrapping_add(1)),
                (protocol, port.wrapping_add(0x100)),
                (6, port),
            ]
        }
        RuleService::Protocol(protocol, _) => {
            vec![(protocol, 0), (protocol.wrapping_add(1), 0), (protocol.wrapping_sub(1), 0)]
        }
    }
}

/// Addresses at the edges of a peer, and just outside.
fn remotes(book: &Rulebook, peer: &Peer, also: &[IpAddr]) -> Vec<IpAddr> {
    match peer {
        Peer::Cidr(net) => around(net),
        Peer::PrefixList(id) => {
            let entries = book.policy().prefix_lists.get(id).map_or(&[][..], |l| &l.entries);
            let ends = [entries.first(), entries.last()];
            ends.into_iter().flatten().flat_map(|(net, _)| around(net)).collect()
        }
        Peer::Group { id, .. } => {
            let members = book.members(id).take(2);
            let around = members
                .flat_map(|m| {
                    m.addresses.iter().map(|a| IpNet::from(*a)).chain(m.prefixes.iter().copied()).take(3)
                })
                .flat_map(|net| around(&net));
            around.chain(also.iter().copied()).collect()
        }
    }
}

fn around(net: &IpNet) -> Vec<IpAddr> {
    match net {
        IpNet::V4(net) => {
            let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
            [first, last, first.wrapping_sub(1), last.wrapping_add(1)]
                .map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits)))
                .to_vec()
        }
        IpNet::V6(net) => {
            let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
            [first, last, first.wrapping_sub(1), last.wrapping_add(1)]
                .map(Ipv6Addr::from_bits)
                .into_iter()
                // No packet has those, and the tables would take them for IPv4.
                .filter(|a| a.to_ipv4_mapped().is_none())
                .map(IpAddr::V6)
                .collect()
        }
    }
}
