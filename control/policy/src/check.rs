//! The compiled tables against the oracle, before a policy is published.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use engine::addr::Family;
use engine::forward::Interface;
use engine::ids::InterfaceId;
use engine::policy::{Direction, Query, Service};
use engine::snapshot::Snapshot;
use engine::verdict::Judgement;
use ipnet::IpNet;

use crate::compile::Compiler;
use crate::model::{Id, NetworkInterface, Peer, Rule, RuleService, Validated};
use crate::oracle::{self, Packet, Rules};
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
    let interface = snapshot.interfaces.get(compiler.interface_id(interface)?)?;
    Some(ask_at(interface, snapshot, direction, packet))
}

fn ask_at(interface: &Interface, snapshot: &Snapshot, direction: Direction, packet: &Packet) -> Judgement {
    let family = if packet.remote.is_ipv4() { Family::V4 } else { Family::V6 };
    let service = |port| Service::new(family, packet.protocol, port);
    let query = Query {
        vpc: interface.vpc,
        family,
        service: service(packet.port),
        reply_service: matches!(packet.protocol, 6 | 17).then(|| service(packet.source_port)),
        remote: packet.remote.into(),
    };
    interface.policy.judge(&snapshot.tables, direction, &query)
}

/// Asks both about packets at the edges of rules: ports and addresses at, just
/// inside and just outside of what each permits. About `samples` of them: of few
/// interfaces many each, of many every n-th, of which each is asked about one rule of
/// each direction at least, another one from interface to interface; so it may be more.
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
    check_each(book, interfaces.values().step_by(stride), number, snapshot, share, &Concerned::default())
}

/// The same of a generation that has changes against the one before, about what
/// has changed:
/// - at some of the interfaces that were compiled for it;
/// - at others that have their groups, of now and of before, by the rules that name
///   these: whether they are known as members, or no longer.
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
        looked.iter().step_by(stride)
    };
    let mut concerned = Concerned::default();
    for interface in
        some(2).flat_map(|id| [policy.interfaces.get(id), compiler.interface_before(id)]).flatten()
    {
        concerned.groups.extend(interface.groups.first());
        concerned.addresses.extend(interface.addresses.first());
    }
    // `looked` is in order.
    let is_other = |interface: &&NetworkInterface| looked.binary_search(&interface.id).is_err();
    let others = concerned.groups.iter().filter_map(|group| book.members(group).take(4).find(is_other));
    let changed = some(samples / 8).filter_map(|id| policy.interfaces.get(id));
    let all: Vec<&NetworkInterface> = changed.chain(others).collect();
    let share = (samples / all.len().max(1)).max(8);
    check_each(book, all.into_iter(), |id| compiler.interface_id(id), snapshot, share, &concerned)
}

/// The same of a generation that a document has made. Of one that differs in little from
/// the one before, what differs is asked about as of changes; the rest, which was asked
/// about when it came, at every n-th interface, others from generation to generation.
///
/// # Errors
/// As above.
pub fn self_check_push(
    book: &Rulebook,
    compiler: &Compiler,
    snapshot: &Snapshot,
    samples: usize,
) -> Result<usize, Box<Mismatch>> {
    let interfaces = &book.policy().interfaces;
    let number = |id: &str| compiler.interface_id(id);
    if compiler.compiled_interfaces().len() > interfaces.len() / LITTLE {
        return self_check_by(book, number, snapshot, samples);
    }
    let changed = self_check_changes(book, compiler, snapshot, samples)?;
    let stride = (interfaces.len() * PACKETS).div_ceil(samples.max(1)).max(1);
    let first = snapshot.generation as usize % stride;
    let some = interfaces.values().skip(first).step_by(stride);
    let share = (samples / interfaces.len().max(1)).max(8);
    let rest = check_each(book, some, number, snapshot, share, &Concerned::default())?;
    Ok(changed + rest)
}

/// Less than one interface in so many is little.
const LITTLE: usize = 4;

/// About so many packets are asked about at an interface, if not many.
const PACKETS: usize = 80;

/// What a change is about: rules that name these groups are asked about these
/// addresses, whichever other rules are.
#[derive(Default)]
pub(crate) struct Concerned<'c> {
    groups: BTreeSet<&'c Id>,
    addresses: BTreeSet<IpAddr>,
}

fn check_each<'b>(
    book: &Rulebook,
    interfaces: impl Iterator<Item = &'b NetworkInterface>,
    number: impl Fn(&str) -> Option<InterfaceId>,
    snapshot: &Snapshot,
    share: usize,
    concerned: &Concerned<'_>,
) -> Result<usize, Box<Mismatch>> {
    let mut asked = 0;
    for (n, interface) in interfaces.enumerate() {
        let Some(compiled) = number(&interface.id).and_then(|id| snapshot.interfaces.get(id)) else {
            continue;
        };
        let packets = edges(book, interface, share, n, concerned);
        let rules = Rules::of(book.policy(), interface);
        for packets in packets.chunk_by(|(_, one), (_, other)| one.remote == other.remote) {
            let facing = book.facing(interface, &rules, packets[0].1.remote);
            for &(direction, packet) in packets {
                let compiled = ask_at(compiled, snapshot, direction, &packet);
                let oracle = facing.judge(direction, &packet);
                if compiled != oracle {
                    let interface = interface.id.clone();
                    return Err(Box::new(Mismatch { interface, direction, packet, compiled, oracle }));
                }
            }
            asked += packets.len();
        }
    }
    Ok(asked)
}

/// Packets at the edges of an interface's rules, those of one address one after the
/// other: of about as many rules as give `most` packets, the first of them the `nth`
/// or as far round as that is, and of those that name who is concerned.
pub(crate) fn edges(
    book: &Rulebook,
    interface: &NetworkInterface,
    most: usize,
    nth: usize,
    concerned: &Concerned<'_>,
) -> Vec<(Direction, Packet)> {
    let policy = book.policy();
    let mut packets = Vec::new();
    for direction in [Direction::Inbound, Direction::Outbound] {
        let rules: Vec<_> = oracle::rules(policy, interface, direction).collect();
        // Each rule gives about twenty packets.
        let stride = (rules.len() * 40).div_ceil(most).max(1);
        let is_concerned =
            |rule: &&&Rule| matches!(&rule.peer, Peer::Group { id, .. } if concerned.groups.contains(id));
        let spread = rules.iter().skip(nth % stride.min(rules.len().max(1))).step_by(stride);
        let others = spread.filter(|rule| !is_concerned(rule));
        for rule in others.chain(rules.iter().filter(is_concerned).take(2)) {
            for remote in remotes(book, &rule.peer, &concerned.addresses) {
                for (protocol, port) in ports(rule.service) {
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
    for remote in STRANGERS {
        for (protocol, port) in [(6, 22), (17, 53), (1, 0x0800), (58, 0x8000), (47, 0)] {
            for direction in [Direction::Inbound, Direction::Outbound] {
                packets.push((direction, Packet { remote, protocol, port, source_port: 40_000 }));
            }
        }
    }
    packets
}

/// Addresses that few rules name: documentation's.
const STRANGERS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

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

/// Addresses at the edges of a peer, and just outside, each once.
fn remotes(book: &Rulebook, peer: &Peer, concerned: &BTreeSet<IpAddr>) -> Vec<IpAddr> {
    let mut remotes: Vec<IpAddr> = match peer {
        Peer::Cidr(net) => around(net).collect(),
        Peer::PrefixList(id) => {
            let entries = book.policy().prefix_lists.get(id).map_or(&[][..], |l| &l.entries);
            let ends = [entries.first(), entries.last()];
            ends.into_iter().flatten().flat_map(|(net, _)| around(net)).collect()
        }
        Peer::Group { id, .. } => {
            let nets = |m: &NetworkInterface| {
                let nets = m.addresses.iter().map(|a| IpNet::from(*a)).chain(m.prefixes.iter().copied());
                nets.take(3).collect::<Vec<_>>()
            };
            // Of a change, who is concerned is the matter.
            let members = if concerned.is_empty() { 2 } else { 1 };
            let around = book.members(id).take(members).flat_map(nets).flat_map(|net| around(&net));
            around.chain(concerned.iter().copied()).collect()
        }
    };
    remotes.sort_unstable();
    remotes.dedup();
    remotes
}

fn around(net: &IpNet) -> impl Iterator<Item = IpAddr> + use<> {
    let edges = match net {
        IpNet::V4(net) => {
            let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
            [first, last, first.wrapping_sub(1), last.wrapping_add(1)]
                .map(|bits| Ipv4Addr::from_bits(bits).into())
        }
        IpNet::V6(net) => {
            let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
            [first, last, first.wrapping_sub(1), last.wrapping_add(1)]
                .map(|bits| Ipv6Addr::from_bits(bits).into())
        }
    };
    // No packet has IPv4 in IPv6's clothes, and the tables would take them for IPv4.
    edges.into_iter().filter(|edge| !matches!(edge, IpAddr::V6(a) if a.to_ipv4_mapped().is_some()))
}
