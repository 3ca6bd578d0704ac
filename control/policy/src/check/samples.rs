//! Which packets are asked about.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use engine::policy::Direction;
use hashbrown::HashMap;
use ipnet::IpNet;

use crate::model::{Id, NetworkInterface, Peer, Rule, RuleService, SecurityGroup};
use crate::oracle::{Packet, Rules};
use crate::rulebook::Rulebook;
use crate::sieve::Sieve;

/// What a change is about: rules that name these groups are asked about these
/// addresses, whichever other rules are.
#[derive(Default)]
pub(crate) struct Concerned<'c> {
    /// Each with somebody who has had it before, if there is one.
    pub groups: Vec<(&'c Id, Option<&'c NetworkInterface>)>,
    addresses: Vec<IpAddr>,
}

impl<'c> Concerned<'c> {
    /// By interfaces, before and after: of each its address, and a group that it has left and
    /// one that it has joined, or its first. `is_other`: whether an interface has not changed.
    pub fn by(
        book: &'c Rulebook,
        changes: impl Iterator<Item = [Option<&'c NetworkInterface>; 2]>,
        is_other: impl Fn(&NetworkInterface) -> bool,
    ) -> Concerned<'c> {
        let (mut groups, mut addresses): (Vec<&Id>, Vec<IpAddr>) = Default::default();
        for sides in changes {
            for (this, other) in [(sides[0], sides[1]), (sides[1], sides[0])] {
                let Some(this) = this else { continue };
                let is_new = |group: &&Id| other.is_none_or(|other| !other.groups.contains(group));
                add_each(&mut groups, this.groups.iter().find(is_new).or(this.groups.first()));
                add_each(&mut addresses, this.addresses.first().copied());
            }
        }
        let other = |group| book.members(group).take(OTHERS).find(|member| is_other(member));
        Concerned { groups: groups.into_iter().map(|group| (group, other(group))).collect(), addresses }
    }

    /// Whether a rule is about them.
    fn is_named_by(&self, rule: &Rule) -> bool {
        matches!(&rule.peer, Peer::Group { id, .. } if self.groups.iter().any(|(group, _)| *group == id))
    }
}

/// Members of a group that are looked at, whether they have changed.
const OTHERS: usize = 4;

/// Adds what is not there yet. For few.
fn add_each<T: PartialEq>(all: &mut Vec<T>, new: impl IntoIterator<Item = T>) {
    for new in new {
        if !all.contains(&new) {
            all.push(new);
        }
    }
}

/// Packets at the edges of an interface's rules, those of one address one after the
/// other: of about as many rules as give `most` packets, the first of them the `nth`
/// or as far round as that is, but none that are [asked about anyhow](about).
pub(crate) fn edges(
    book: &Rulebook,
    rules: &Rules<'_>,
    most: usize,
    nth: usize,
    concerned: &Concerned<'_>,
    packets: &mut Vec<(Direction, Packet)>,
) {
    let mut remotes = Vec::with_capacity(8);
    for direction in [Direction::Inbound, Direction::Outbound] {
        let rules = rules.of_direction(direction);
        // Each rule gives about twenty packets.
        let stride = (rules.len() * 40).div_ceil(most).max(1);
        let mut from = nth % stride.min(rules.len().max(1));
        while let Some(at) = (from..rules.len()).find(|at| !concerned.is_named_by(rules[*at])) {
            remotes.clear();
            add_remotes(book, &rules[at].peer, &mut remotes);
            remotes.iter().for_each(|remote| add_packets(packets, direction, rules[at], *remote));
            from = at + stride;
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
}

/// Packets at the edges of rules that name who is concerned, one of each direction for each
/// group: of the addresses that are concerned, and of one that is not.
pub(super) fn about(sieve: &Sieve<'_>, concerned: &Concerned<'_>, packets: &mut Vec<(Direction, Packet)>) {
    for (group, another) in &concerned.groups {
        let another = another.and_then(|another| another.addresses.first());
        for direction in [Direction::Inbound, Direction::Outbound] {
            let Some((_, rule)) = sieve.naming(group).find(|(of, _)| *of == direction) else { continue };
            for remote in concerned.addresses.iter().chain(another) {
                add_packets(packets, direction, rule, *remote);
            }
        }
    }
}

/// Packets at the edges of these rules, whether they are there or were before.
pub(super) fn of_rules(
    book: &Rulebook,
    rules: &[(Direction, &Rule)],
    packets: &mut Vec<(Direction, Packet)>,
) {
    let mut remotes = Vec::with_capacity(8);
    for &(direction, rule) in rules {
        remotes.clear();
        add_remotes(book, &rule.peer, &mut remotes);
        remotes.iter().for_each(|remote| add_packets(packets, direction, rule, *remote));
    }
}

/// Rules that one of two groups has and the other has not: of each direction two at most of
/// those that are new, and two of those that are gone.
pub(super) fn changed_rules<'c>(
    old: &'c SecurityGroup,
    new: &'c SecurityGroup,
) -> Vec<(Direction, &'c Rule)> {
    let sides = [
        (Direction::Inbound, &old.inbound, &new.inbound),
        (Direction::Outbound, &old.outbound, &new.outbound),
    ];
    let mut changed = Vec::new();
    for (direction, old, new) in sides {
        for (from, other) in [(new, old), (old, new)] {
            let known: HashMap<&Id, &Rule> = other.iter().map(|rule| (&rule.id, rule)).collect();
            let others = from.iter().filter(|rule| known.get(&rule.id) != Some(rule));
            changed.extend(others.take(2).map(|rule| (direction, rule)));
        }
    }
    changed
}

/// Packets of an address at the edges of what a rule permits.
fn add_packets(packets: &mut Vec<(Direction, Packet)>, direction: Direction, rule: &Rule, remote: IpAddr) {
    each_port(rule.service, |protocol, port| {
        packets.push((direction, Packet { remote, protocol, port, source_port: 40_000 }));
        // As the answer to what it permits.
        packets.push((direction.other(), Packet { remote, protocol, port: 40_000, source_port: port }));
    });
}

/// Addresses that few rules name: documentation's.
const STRANGERS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// Protocols and ports at the edges of a service, and just outside, each once.
fn each_port(service: RuleService, mut add: impl FnMut(u8, u16)) {
    match service {
        RuleService::All => {
            [(6, 0), (17, 65535), (1, 0x0800), (58, 0x8000), (132, 0)].iter().for_each(|(p, n)| add(*p, *n));
        }
        RuleService::Ports(protocol, low, high) => {
            let ports = [low.wrapping_sub(1), low, high, high.wrapping_add(1)];
            for (n, port) in ports.into_iter().enumerate() {
                if !ports[..n].contains(&port) {
                    add(protocol, port);
                }
            }
            add(if protocol == 6 { 17 } else { 6 }, low);
        }
        RuleService::Icmp(protocol, icmp_type, code) => {
            let port = u16::from_be_bytes([icmp_type.unwrap_or(8), code.unwrap_or(0)]);
            for port in [port, port.wrapping_add(1), port.wrapping_add(0x100)] {
                add(protocol, port);
            }
            add(6, port);
        }
        RuleService::Protocol(protocol, _) => {
            for protocol in [protocol, protocol.wrapping_add(1), protocol.wrapping_sub(1)] {
                add(protocol, 0);
            }
        }
    }
}

/// Addresses at the edges of a peer, and just outside, each once.
fn add_remotes(book: &Rulebook, peer: &Peer, remotes: &mut Vec<IpAddr>) {
    match peer {
        Peer::Cidr(net) => add_each(remotes, around(net)),
        Peer::PrefixList(id) => {
            let entries = book.policy().prefix_lists.get(id).map_or(&[][..], |l| &l.entries);
            for (net, _) in [entries.first(), entries.last()].into_iter().flatten() {
                add_each(remotes, around(net));
            }
        }
        Peer::Group { id, .. } => {
            for member in book.members(id).take(2) {
                let hosts = member.addresses.iter().map(|a| IpNet::from(*a));
                for net in hosts.chain(member.prefixes.iter().copied()).take(3) {
                    add_each(remotes, around(&net));
                }
            }
        }
    }
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
