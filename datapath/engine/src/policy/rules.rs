use hashbrown::HashMap;

use super::rows::Rows;
use super::service::{Service, ServiceSet};
use super::{Probe, Tables};
use crate::addr::{Addr, Family};
use crate::ids::VpcIndex;
use crate::packet::protocol;
use crate::shards::KeyHash;
use crate::verdict::Judgement;

/// Which of a group's two rule sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Direction {
    /// Towards the interface.
    Inbound = 0,
    /// Leaving the interface.
    Outbound = 1,
}

impl Direction {
    /// The opposite one.
    #[inline]
    pub const fn other(self) -> Direction {
        match self {
            Direction::Inbound => Direction::Outbound,
            Direction::Outbound => Direction::Inbound,
        }
    }
}

/// What a rule names as source or destination, interned: a group, a CIDR block
/// or a prefix list. Stable over generations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(pub u32);

/// The rules of one direction of a set of groups, gathered one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirectionRules {
    /// Services of 0.0.0.0/0 and of ::/0 rules.
    any: [ServiceSet; 2],
    /// By family: whether one such rule is for all ports of TCP, of UDP.
    open: [[bool; 2]; 2],
    named: Named,
    rows: HashMap<SourceId, ServiceSet>,
}

/// What kinds of sources rules name, and so what has to be known of an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Named {
    /// Groups: whose address it is.
    pub groups: bool,
    /// CIDR blocks or prefix lists: which hold it.
    pub blocks: bool,
}

impl DirectionRules {
    /// A rule for every address of a family: 0.0.0.0/0 or ::/0, literally (D11).
    pub fn permit_everyone(&mut self, family: Family, services: &ServiceSet) {
        let any = &mut self.any[family as usize];
        *any = any.union(services);
        for (open, protocol) in self.open[family as usize].iter_mut().zip([6, 17]) {
            *open |= services.covers(&ServiceSet::protocol(protocol));
        }
    }

    /// A rule for a group, which is one of [`Tables::members`] or [`Tables::delegated`].
    pub fn permit_group(&mut self, source: SourceId, services: &ServiceSet) {
        self.named.groups = true;
        self.permit(source, services);
    }

    /// A rule for a CIDR block or a prefix list, of [`Tables::cidrs`].
    pub fn permit_block(&mut self, source: SourceId, services: &ServiceSet) {
        self.named.blocks = true;
        self.permit(source, services);
    }

    fn permit(&mut self, source: SourceId, services: &ServiceSet) {
        let row = self.rows.entry(source).or_default();
        *row = row.union(services);
    }

    /// What is open to every address of a family.
    pub fn open_to_everyone(&self, family: Family) -> &ServiceSet {
        &self.any[family as usize]
    }
}

/// One direction, ready to be asked. What nearly every packet needs of it is in
/// its first cache line.
#[derive(Debug)]
#[repr(C, align(64))]
struct Plane {
    /// By family: the first range of what is open to everyone.
    first: [(u32, u32); 2],
    /// By family: whether there are more.
    more: [bool; 2],
    /// By family, of TCP and UDP: whether one rule for everyone is for all ports.
    open: [[bool; 2]; 2],
    named: Named,
    rows: Rows,
    any: [ServiceSet; 2],
}

const _: () = assert!(std::mem::offset_of!(Plane, rows) + size_of::<Rows>() <= 64);

impl Plane {
    fn new(rules: DirectionRules) -> Plane {
        let rows = Rows::new(rules.rows.iter().map(|(source, services)| (*source, services)));
        let DirectionRules { any, open, named, .. } = rules;
        // No service lies in an empty range.
        let first = any.each_ref().map(|set| set.ranges().first().copied().unwrap_or((1, 0)));
        Plane { first, more: any.each_ref().map(|set| set.ranges().len() > 1), open, named, rows, any }
    }

    /// Whether one rule for everyone is for all ports of this service's protocol.
    #[inline]
    fn is_open(&self, family: Family, service: Service) -> bool {
        let [tcp, udp] = self.open[family as usize];
        service.is_of(protocol::TCP) & tcp | service.is_of(protocol::UDP) & udp
    }

    /// Whether no rule is for everyone of this family, and none names a group or block.
    fn is_empty(&self, family: Family) -> bool {
        self.named == Named::default() && self.any[family as usize].ranges().is_empty()
    }

    #[inline]
    fn permits_everyone(&self, family: Family, service: Service) -> bool {
        let (low, high) = self.first[family as usize];
        (low..=high).contains(&service.number())
            || self.more[family as usize] && self.any[family as usize].contains(service)
    }
}

/// What a packet asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// The VPC that the interface is in.
    pub vpc: VpcIndex,
    /// The packet's family.
    pub family: Family,
    /// What it is for.
    pub service: Service,
    /// TCP and UDP: what a reply to it would be for, that is its source port.
    pub reply_service: Option<Service>,
    /// The address at the other end.
    pub remote: Addr,
}

/// What a set of groups permits. Immutable; interfaces with the same groups share it.
#[derive(Debug)]
pub struct Policy {
    planes: [Plane; 2],
}

impl Policy {
    /// From the rules of all groups of the set together.
    pub fn new(inbound: DirectionRules, outbound: DirectionRules) -> Policy {
        Policy { planes: [Plane::new(inbound), Plane::new(outbound)] }
    }

    /// How the rules judge a packet in this direction (S6, S37: any rule suffices).
    ///
    /// A flow is untracked (S40, D11) if a rule for everyone permits it and one
    /// for everyone and all its protocol's ports permits the return. A packet
    /// does not say which direction opened its flow, so both readings count: the
    /// class of a flow is the same for its two directions.
    #[inline]
    pub fn judge(&self, tables: &Tables, direction: Direction, query: &Query) -> Judgement {
        self.judge_by_everyone(direction, query).unwrap_or_else(|| {
            self.judge_by_sources(tables, direction, query, || KeyHash::of(query.remote.0))
        })
    }

    /// The judgement on every packet of TCP or UDP of this family and direction, if it does
    /// not depend on ports and addresses and the flow is not tracked: open to everyone both
    /// ways, or without any rule.
    pub fn judge_all(&self, direction: Direction, family: Family, protocol: u8) -> Option<Judgement> {
        let [there, back] = [direction, direction.other()].map(|way| &self.planes[way as usize]);
        let any_port = Service::with_ports(protocol, 0);
        if there.is_open(family, any_port) && back.is_open(family, any_port) {
            Some(Judgement::Untracked)
        } else {
            there.is_empty(family).then_some(Judgement::Denied)
        }
    }

    /// The first of two steps, for packets that are judged together: the judgement,
    /// if who the remote address is does not matter; else asks for what tells that.
    ///
    /// # Errors
    /// With what to ask for in the second step, [`Policy::judge_probed`].
    #[inline(always)]
    pub fn judge_or_probe(
        &self,
        tables: &Tables,
        direction: Direction,
        query: &Query,
    ) -> Result<Judgement, Probe> {
        if let Some(judgement) = self.judge_by_everyone(direction, query) {
            return Ok(judgement);
        }
        let named = self.planes[direction as usize].named;
        if named == Named::default() {
            Ok(Judgement::Denied)
        } else {
            Err(tables.probe(named, query.vpc, query.family, query.remote))
        }
    }

    /// The second step.
    #[inline]
    pub fn judge_probed(
        &self,
        tables: &Tables,
        direction: Direction,
        query: &Query,
        probe: Probe,
    ) -> Judgement {
        self.judge_by_sources(tables, direction, query, || probe.0)
    }

    /// The judgement by rules for everyone; `None` if none of them permits it.
    #[inline(always)]
    fn judge_by_everyone(&self, direction: Direction, query: &Query) -> Option<Judgement> {
        let (there, back) = (&self.planes[direction as usize], &self.planes[direction.other() as usize]);
        let Query { family, service, .. } = *query;
        if !there.permits_everyone(family, service) {
            return None;
        }
        let opened_by_this = back.is_open(family, service);
        let answers = || {
            there.is_open(family, service)
                && query.reply_service.is_some_and(|reply| back.permits_everyone(family, reply))
        };
        Some(if opened_by_this || answers() { Judgement::Untracked } else { Judgement::Tracked })
    }

    /// The judgement by rules for single sources.
    #[inline]
    fn judge_by_sources(
        &self,
        tables: &Tables,
        direction: Direction,
        query: &Query,
        hash: impl Fn() -> KeyHash,
    ) -> Judgement {
        let Plane { named, rows, .. } = &self.planes[direction as usize];
        let permits = |sources: &[SourceId]| rows.permit_any(sources, query.service);
        let permitted = tables.any_source(*named, query, hash, permits);
        if permitted { Judgement::Tracked } else { Judgement::Denied }
    }

    /// What is open to every address of a family in this direction.
    pub fn open_to_everyone(&self, direction: Direction, family: Family) -> &ServiceSet {
        &self.planes[direction as usize].any[family as usize]
    }
}

/// What was open to everyone in an earlier policy of an interface and no longer
/// is. A segment in mid-stream that would answer such traffic must not bring
/// its flow back (S45), since the switch keeps no record of untracked flows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revoked {
    /// By direction of the rule that went, and family.
    pub any: [[ServiceSet; 2]; 2],
}
