//! The compiled tables against the oracle, before a policy is published.

mod samples;

use std::fmt;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use engine::addr::Family;
use engine::forward::Interface;
use engine::ids::InterfaceId;
use engine::policy::{Direction, Query, Service};
use engine::snapshot::Snapshot;
use engine::verdict::Judgement;

use crate::compile::Compiler;
use crate::model::{Id, NetworkInterface, Rule, Validated};
use crate::oracle::{Facing, Packet, Rules};
use crate::rulebook::Rulebook;
use crate::sieve::Sieve;
pub(crate) use samples::{Concerned, edges};

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
    let mut checker = Checker::new(book, snapshot, Concerned::default());
    for (nth, interface) in interfaces.values().step_by(stride).enumerate() {
        checker.ask(interface, number(&interface.id), About::Edges { most: share, nth })?;
    }
    Ok(checker.asked)
}

/// The same of a generation that has changes against the one before, about what
/// has changed, others of many from generation to generation:
/// - at one in eight `samples` of the interfaces that were compiled for it, at the edges of their rules;
/// - at others that have the groups that two of them have joined or left, by the rules
///   that name these: whether they are known as members, or no longer;
/// - at a member of each of as many groups that have other rules, by those that they have got
///   and those that they have no longer.
///
/// # Errors
/// As above.
pub fn self_check_changes(
    book: &Rulebook,
    compiler: &Compiler,
    snapshot: &Snapshot,
    samples: usize,
) -> Result<usize, Box<Mismatch>> {
    check_changes(book, compiler, snapshot, samples, samples / OF_EACH)
}

fn check_changes(
    book: &Rulebook,
    compiler: &Compiler,
    snapshot: &Snapshot,
    samples: usize,
    groups: usize,
) -> Result<usize, Box<Mismatch>> {
    let policy = book.policy();
    let looked = compiler.compiled_interfaces();
    // Other rules and interfaces from generation to generation.
    let first = snapshot.generation as usize;
    let some = |most: usize| {
        let stride = looked.len().div_ceil(most.max(1)).max(1);
        looked.iter().skip(first % stride).step_by(stride)
    };
    // `looked` is in order.
    let is_other = |interface: &NetworkInterface| looked.binary_search(&interface.id).is_err();
    let changes = some(2).map(|id| {
        [compiler.policy_before().and_then(|before| before.interfaces.get(id)), policy.interfaces.get(id)]
    });
    let concerned = Concerned::by(book, changes, is_other);
    let others: Vec<_> = concerned.groups.iter().filter_map(|(_, other)| *other).collect();
    let changed: Vec<_> = some(samples / OF_EACH).filter_map(|id| policy.interfaces.get(id)).collect();
    let share = (samples / (changed.len() + others.len()).max(1)).max(OF_EACH);
    let mut checker = Checker::new(book, snapshot, concerned);
    for (nth, interface) in changed.into_iter().enumerate() {
        let about = About::Edges { most: share, nth: first.wrapping_add(nth) };
        checker.ask(interface, compiler.interface_id(&interface.id), about)?;
    }
    for other in others {
        checker.ask(other, compiler.interface_id(&other.id), About::Concerned)?;
    }
    let groups_before = compiler.policy_before().map(|before| &before.groups);
    let regulated = groups_before.into_iter().flat_map(|before| before.differences(&policy.groups));
    for (group, old, new) in regulated.take(groups) {
        if let (Some(old), Some(new), Some(member)) = (old, new, book.members(group).next()) {
            let rules = samples::changed_rules(old, new);
            checker.ask(member, compiler.interface_id(&member.id), About::Rules(&rules))?;
        }
    }
    Ok(checker.asked)
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
    let changed = check_changes(book, compiler, snapshot, samples, GROUPS)?;
    let stride = (interfaces.len() * PACKETS).div_ceil(samples.max(1)).max(1);
    let first = snapshot.generation as usize % stride;
    let share = (samples / interfaces.len().max(1)).max(8);
    let mut checker = Checker::new(book, snapshot, Concerned::default());
    for (nth, interface) in interfaces.values().skip(first).step_by(stride).enumerate() {
        checker.ask(interface, number(&interface.id), About::Edges { most: share, nth })?;
    }
    Ok(changed + checker.asked)
}

/// So many groups whose rules have changed are asked about where a document was pushed.
const GROUPS: usize = 4;

/// An interface takes so many samples at least.
const OF_EACH: usize = 8;

/// Less than one interface in so many is little.
const LITTLE: usize = 4;

/// About so many packets are asked about at an interface, if not many.
const PACKETS: usize = 80;

/// What an interface is asked about.
#[derive(Clone, Copy)]
enum About<'a> {
    /// The edges of its rules, as [`edges`] has them, and who is concerned.
    Edges { most: usize, nth: usize },
    /// Who is concerned.
    Concerned,
    /// The edges of these rules.
    Rules(&'a [(Direction, &'a Rule)]),
}

/// Holds the tables against the rules, interface after interface.
struct Checker<'b> {
    snapshot: &'b Snapshot,
    concerned: Concerned<'b>,
    owners: Owners<'b>,
    asked: usize,
    /// Memory that is used again.
    packets: Vec<(Direction, Packet)>,
    sieve: Sieve<'b>,
    facing: Facing<'b>,
}

impl<'b> Checker<'b> {
    fn new(book: &'b Rulebook, snapshot: &'b Snapshot, concerned: Concerned<'b>) -> Checker<'b> {
        Checker {
            snapshot,
            concerned,
            owners: Owners::new(book),
            asked: 0,
            packets: Vec::with_capacity(128),
            sieve: Sieve::default(),
            facing: Facing::default(),
        }
    }

    /// Asks about an interface that has this number.
    fn ask(
        &mut self,
        interface: &'b NetworkInterface,
        number: Option<InterfaceId>,
        about: About<'_>,
    ) -> Result<(), Box<Mismatch>> {
        let Some(compiled) = number.and_then(|id| self.snapshot.interfaces.get(id)) else { return Ok(()) };
        let book = self.owners.book;
        let rules = Rules::of(book.policy(), interface);
        self.sieve.fill(book.policy(), &rules);
        self.packets.clear();
        match about {
            About::Edges { most, nth } => {
                edges(book, &rules, most, nth, &self.concerned, &mut self.packets);
                samples::about(&self.sieve, &self.concerned, &mut self.packets);
            }
            About::Concerned => samples::about(&self.sieve, &self.concerned, &mut self.packets),
            About::Rules(rules) => samples::of_rules(book, rules, &mut self.packets),
        }
        for packets in self.packets.chunk_by(|(_, one), (_, other)| one.remote == other.remote) {
            let remote = packets[0].1.remote;
            self.sieve.facing(remote, self.owners.of(remote, interface), &mut self.facing);
            for &(direction, packet) in packets {
                let compiled = ask_at(compiled, self.snapshot, direction, &packet);
                let oracle = self.facing.judge(direction, &packet);
                if compiled != oracle {
                    let interface = interface.id.clone();
                    return Err(Box::new(Mismatch { interface, direction, packet, compiled, oracle }));
                }
            }
        }
        self.asked += self.packets.len();
        Ok(())
    }
}

/// Whose addresses are: an address is asked about at several interfaces.
struct Owners<'b> {
    book: &'b Rulebook,
    /// The first addresses that were looked up, and where their owners lie in `all`.
    known: Vec<(IpAddr, Range<usize>)>,
    all: Vec<&'b NetworkInterface>,
    /// Those that were asked for.
    found: Vec<&'b NetworkInterface>,
}

/// Addresses that are remembered, which are looked through one by one.
const REMEMBERED: usize = 12;

impl<'b> Owners<'b> {
    fn new(book: &'b Rulebook) -> Owners<'b> {
        Owners { book, known: Vec::with_capacity(REMEMBERED), all: Vec::new(), found: Vec::new() }
    }

    /// The owners of an address in the VPCs whose members an interface's rules are about.
    fn of(&mut self, address: IpAddr, interface: &NetworkInterface) -> &[&'b NetworkInterface] {
        self.found.clear();
        let policy = self.book.policy();
        let is_in_scope =
            |owner: &&NetworkInterface| policy.scopes(&interface.vpc).any(|vpc| vpc == owner.vpc);
        if let Some((_, owners)) = self.known.iter().find(|(known, _)| *known == address) {
            self.found.extend(self.all[owners.clone()].iter().copied().filter(is_in_scope));
            return &self.found;
        }
        if self.known.len() < REMEMBERED {
            let first = self.all.len();
            self.all.extend(self.book.owners(address));
            self.known.push((address, first..self.all.len()));
            self.found.extend(self.all[first..].iter().copied().filter(is_in_scope));
        } else {
            self.found.extend(self.book.owners(address).filter(is_in_scope));
        }
        &self.found
    }
}
