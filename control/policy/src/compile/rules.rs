//! Rules as the tables have them: sources interned, services united.

use hashbrown::HashMap;
use std::sync::Arc;

use engine::addr::{Family, Prefix};
use engine::policy::{Direction, DirectionRules, Policy, ServiceSet, SourceId};
use ipnet::IpNet;

use crate::model::{Id, Peer, Rule, RuleService, SecurityGroup, Validated};

/// What rules name, as far as the tables tell it apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    Group(Id),
    Cidr(IpNet),
    PrefixList(Id),
}

/// Sources by number. Numbers are never taken back one by one: when too many
/// are of the past, all begin anew, in another epoch.
#[derive(Debug, Default)]
pub(super) struct Sources {
    numbers: HashMap<Source, SourceId>,
    /// What of two epochs must not be mixed.
    pub epoch: u64,
    /// How many a generation needed when the epoch began.
    needed: usize,
}

impl Sources {
    /// How many numbers of the past are kept, beyond twice those in use.
    const SPARE: usize = 1 << 16;

    pub fn of(&mut self, source: Source) -> SourceId {
        let next = SourceId(self.numbers.len() as u32);
        *self.numbers.entry(source).or_insert(next)
    }

    /// Begins a new epoch if this one has become too long.
    pub fn renew(&mut self) {
        if self.numbers.len() > 2 * self.needed + Self::SPARE {
            *self = Sources { epoch: self.epoch + 1, ..Sources::default() };
        }
    }

    /// A generation is complete.
    pub fn settle(&mut self) {
        if self.needed == 0 {
            self.needed = self.numbers.len();
        }
    }
}

/// Ranges of services by direction and family.
pub(super) type ByDirection = [[ServiceSet; 2]; 2];

/// A set of groups, compiled.
#[derive(Clone, Debug)]
pub(super) struct Compiled {
    pub policy: Arc<Policy>,
    /// TCP whose flows are untracked: open to everyone, and so is the way back.
    pub untracked: Arc<ByDirection>,
}

/// How prefix lists become sources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Lists {
    /// Each is one: a change of its entries touches no rules.
    #[default]
    AsSources,
    /// Its blocks are, where too many lists hold one address.
    AsBlocks,
}

/// A block as the tables have it.
pub(super) fn prefix(net: &IpNet) -> Prefix {
    Prefix::new(net.network().into(), net.prefix_len()).expect("a block's length fits its family")
}

/// The ranges that a rule permits, as the tables have them.
pub(super) fn services(service: RuleService) -> ServiceSet {
    match service {
        RuleService::All => ServiceSet::all(),
        RuleService::Ports(protocol, low, high) => ServiceSet::ports(protocol, low, high),
        RuleService::Icmp(protocol, icmp_type, code) => ServiceSet::icmp(protocol, icmp_type, code),
        RuleService::Protocol(protocol, _) => ServiceSet::protocol(protocol),
    }
}

/// Compiles a set of groups.
pub(super) fn compile(
    sources: &mut Sources,
    all: &Validated,
    groups: &[&SecurityGroup],
    lists: Lists,
) -> Compiled {
    let inbound = direction(sources, all, groups.iter().flat_map(|g| &g.inbound), lists);
    let outbound = direction(sources, all, groups.iter().flat_map(|g| &g.outbound), lists);
    let (open_in, open_out) = (inbound.tcp_is_open, outbound.tcp_is_open);
    let policy = Arc::new(Policy::new(inbound.rules, outbound.rules));
    let tcp = ServiceSet::protocol(6);
    let not_tcp = ServiceSet::all().subtract(&tcp);
    let mut untracked = ByDirection::default();
    for (there, back) in [(Direction::Inbound, open_out), (Direction::Outbound, open_in)] {
        for family in [Family::V4, Family::V6] {
            if back[family as usize] {
                untracked[there as usize][family as usize] =
                    policy.open_to_everyone(there, family).subtract(&not_tcp);
            }
        }
    }
    Compiled { policy, untracked: Arc::new(untracked) }
}

/// The rules of one direction.
struct Side {
    rules: DirectionRules,
    /// By family: whether one rule lets everyone reach all ports (D11).
    tcp_is_open: [bool; 2],
}

fn direction<'r>(
    sources: &mut Sources,
    all: &Validated,
    rules: impl Iterator<Item = &'r Rule>,
    lists: Lists,
) -> Side {
    let mut everyone = [Vec::new(), Vec::new()];
    let mut groups: Vec<(SourceId, ServiceSet)> = Vec::new();
    let mut blocks: Vec<(SourceId, ServiceSet)> = Vec::new();
    for rule in rules {
        let services = services(rule.service);
        match &rule.peer {
            Peer::Cidr(net) if net.prefix_len() == 0 => {
                let family = if net.addr().is_ipv4() { Family::V4 } else { Family::V6 };
                everyone[family as usize].push(services);
            }
            Peer::Cidr(net) => blocks.push((sources.of(Source::Cidr(*net)), services)),
            Peer::PrefixList(id) if lists == Lists::AsSources => {
                blocks.push((sources.of(Source::PrefixList(id.clone())), services));
            }
            Peer::PrefixList(id) => {
                let entries = all.prefix_lists.get(id).map_or(&[][..], |l| &l.entries);
                let row = |(net, _): &(IpNet, _)| (sources.of(Source::Cidr(*net)), services.clone());
                blocks.extend(entries.iter().map(row));
            }
            Peer::Group { id, stale: false } => {
                groups.push((sources.of(Source::Group(id.clone())), services));
            }
            Peer::Group { stale: true, .. } => {}
        }
    }
    let mut side = Side { rules: DirectionRules::default(), tcp_is_open: [false; 2] };
    for (family, sets) in [Family::V4, Family::V6].into_iter().zip(&everyone) {
        permit_everyone(&mut side.rules, family, sets);
        side.tcp_is_open[family as usize] = sets.iter().any(|set| set.covers(&ServiceSet::protocol(6)));
    }
    by_source(groups, |source, services| side.rules.permit_group(source, services));
    by_source(blocks, |source, services| side.rules.permit_block(source, services));
    side
}

/// Permits what the rules of each source permit together.
fn by_source(mut rules: Vec<(SourceId, ServiceSet)>, mut permit: impl FnMut(SourceId, &ServiceSet)) {
    rules.sort_unstable_by_key(|(source, _)| *source);
    for of_source in rules.chunk_by(|a, b| a.0 == b.0) {
        let services = of_source.iter().map(|(_, services)| services);
        permit(of_source[0].0, &ServiceSet::union_of(services));
    }
}

/// Permits each of these sets: as one, unless that would open all of a protocol
/// where no single rule does (D11).
fn permit_everyone(rules: &mut DirectionRules, family: Family, sets: &[ServiceSet]) {
    let whole = ServiceSet::union_of(sets);
    let only_together = [6, 17]
        .into_iter()
        .map(ServiceSet::protocol)
        .any(|protocol| whole.covers(&protocol) && !sets.iter().any(|set| set.covers(&protocol)));
    match only_together {
        true => sets.iter().for_each(|set| rules.permit_everyone(family, set)),
        false => rules.permit_everyone(family, &whole),
    }
}
