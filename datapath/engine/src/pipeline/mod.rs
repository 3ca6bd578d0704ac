//! The stages over one burst: parse, track, police.
//!
//! Each stage is a loop over the packets that are still under way, so that what
//! one packet waits for is fetched while others are worked on. A packet of an
//! established flow costs its own header, one tag line and one entry line, and
//! meets no rule; only what the connection table does not settle is policed.
//!
//! Nearly all packets are plain: TCP or UDP over IP, whole, without anything
//! special, from who they say they are. These have a path of their own ([`plain`])
//! that knows no errors: what it does not settle is judged by the stages that
//! know all cases and give the reason of every refusal.

mod border;
mod budget;
mod counters;
mod ends;
mod exempt;
mod flood;
mod forward;
mod fragments;
mod newcomers;
mod observe;
mod outcome;
mod parse;
mod plain;
mod police;
mod tally;
#[cfg(test)]
mod tests;
mod track;
mod wholesale;

pub use budget::{EXEMPT_PER_SECOND, RELATED_PER_SECOND, UPLINK_EXEMPT_PER_SECOND};
pub use counters::{Counter, Counters, Drops, InterfaceCounters, PassClass};
pub use observe::{KnownConnection, Observation};
pub use outcome::{Fate, Outcome, Outcomes};

use std::ops::Range;
use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::addr::{Addr, MacAddr};
use crate::conntrack::{Accounts, Carried, Entry, Table, TableConfig};
use crate::flow::{FlowHash, FlowHasher, FlowKey, Side};
use crate::forward::{Interface, Locations};
use crate::fragment::{FragmentOf, Fragments, WaitingSlot};
use crate::ids::{InterfaceId, PortIndex, VpcIndex, WorkerIndex};
use crate::packet::{Frame, Ip, Transport};
use crate::snapshot::Snapshot;
use crate::time::{Tick, Ticks};
use crate::verdict::DropReason;
use budget::Budget;
use forward::Receiver;
use plain::{Glances, Unsettled};

/// The most packets one run takes.
pub const BURST: usize = 32;

/// Table groups that [`Pipeline::housekeep`] looks at for expired connections.
const SWEEP_GROUPS: usize = 4;

/// The shortest time in which [`Pipeline::housekeep`] looks at all of the table:
/// what has expired is found soon enough, and a busy worker, whose turns are
/// many, does not read memory for nothing.
const SWEEP_TIME: Ticks = Ticks::from_secs(4);

/// Interface slots of which [`Pipeline::housekeep`] tells the connections.
const TOLD_SLOTS: usize = 32;

/// What a pipeline is made from.
pub struct PipelineConfig {
    /// Which worker it is.
    pub worker: WorkerIndex,
    /// How many workers share the flows, at least 1.
    pub workers: u8,
    /// The connection table.
    pub table: TableConfig,
    /// The key of the flow hash: random, and the same for all workers, since
    /// they must agree on the owner of a flow.
    pub seed: [u64; 4],
    /// How many interface slots the control plane may use.
    pub interface_slots: usize,
    /// Where it counts.
    pub counters: Arc<Counters>,
    /// Told of the table's memory before it is touched, as in [`Table::with_memory`].
    pub advise: fn(Range<usize>),
}

/// One packet as it comes in.
#[derive(Clone, Copy)]
pub struct Arrival<'a> {
    /// Its bytes.
    pub frame: Frame<'a>,
    /// The port it was received on.
    pub port: PortIndex,
    /// Whether another worker handed it over: then it stays here, unless it is a
    /// fragment that only comes here to meet its first.
    pub steered: bool,
    /// For a fragment: what its first has told.
    pub of: Option<FragmentOf>,
}

/// A stage of the pipeline, for those who time it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Stage {
    /// Headers are read, the sender is who it claims to be, and the flow's owner is known.
    Parse,
    /// The connection is looked up, and settles the packet if it can.
    Track,
    /// Rules are asked about what it did not settle.
    Police,
}

impl Stage {
    /// All, in order.
    pub const ALL: [Stage; 3] = [Stage::Parse, Stage::Track, Stage::Police];

    /// The stable name: the metric's label value.
    pub const fn label(self) -> &'static str {
        match self {
            Stage::Parse => "parse",
            Stage::Track => "track",
            Stage::Police => "police",
        }
    }
}

/// Told at the end of each stage; the worker reads its clock there.
pub trait StageClock {
    /// The stage is over and took this many packets.
    fn mark(&mut self, stage: Stage, packets: usize);
}

/// Nobody is timing.
impl StageClock for () {
    #[inline]
    fn mark(&mut self, _: Stage, _: usize) {}
}

/// What is known of a frame below IP.
#[derive(Clone, Copy)]
struct Link<'a> {
    /// Its place in the burst.
    index: usize,
    port: PortIndex,
    bytes: u32,
    /// Whether it came with a VLAN tag, which comes off on the way out.
    tagged: bool,
    vpc: VpcIndex,
    /// The interface that sent it; `None`: it came by an uplink.
    sender: Option<&'a Interface>,
    source: MacAddr,
    destination: MacAddr,
}

impl Link<'_> {
    fn sender_id(&self) -> InterfaceId {
        self.sender.map_or(InterfaceId::NONE, |i| i.id)
    }
}

/// A packet of a flow on its way through the stages.
struct Work<'a> {
    link: Link<'a>,
    key: FlowKey,
    hash: FlowHash,
    /// The side that sent it.
    side: Side,
    ip: Ip,
}

impl Work<'_> {
    /// What is said of a packet whose flow is not known yet.
    const BLANK: Work<'static> = Work {
        link: Link {
            index: 0,
            port: PortIndex(0),
            bytes: 0,
            tagged: false,
            vpc: VpcIndex(0),
            sender: None,
            source: MacAddr([0; 6]),
            destination: MacAddr([0; 6]),
        },
        key: FlowKey::NONE,
        hash: FlowHash(0),
        side: Side::Low,
        ip: Ip { src: Addr(0), dst: Addr(0), protocol: 0, transport: Transport::Other },
    };
}

/// The packets of a burst that are under way, each in its place.
type Works<'a> = ArrayVec<Work<'a>, BURST>;

/// A packet that passed.
struct Passed<'a> {
    class: PassClass,
    receiver: Receiver<'a>,
}

/// A packet that did not: why, and the interface it is counted at.
struct Refused(DropReason, InterfaceId);

/// One worker's engine: its connections, its counters, its place among workers.
pub struct Pipeline {
    worker: WorkerIndex,
    workers: u8,
    hasher: FlowHasher,
    table: Table,
    fragments: Fragments,
    budget: Budget,
    /// MACs beyond the uplinks, where a VPC has several.
    locations: Locations,
    counters: Arc<Counters>,
    /// Room for the plain packets of a burst; with the burst while one is judged.
    glances: Option<Glances>,
    /// In which tick how many groups of the table were looked at.
    swept: (Tick, usize),
    /// By interface slot: connections as they were last told.
    told: Box<[u32]>,
    /// The slot up to which connections have been told.
    told_to: usize,
    /// Whether plain packets are judged like all others.
    #[cfg(test)]
    general_only: bool,
}

impl Pipeline {
    /// An engine without connections. All memory it will need is allocated here.
    pub fn new(config: PipelineConfig) -> Pipeline {
        Pipeline {
            worker: config.worker,
            workers: config.workers,
            hasher: FlowHasher::new(config.seed),
            table: Table::with_memory(config.table, config.advise).counting(config.interface_slots),
            swept: (Tick(0), 0),
            told: vec![0; config.interface_slots].into(),
            told_to: 0,
            glances: Some(Glances::new()),
            #[cfg(test)]
            general_only: false,
            fragments: Fragments::new(config.interface_slots),
            budget: Budget::new(config.interface_slots),
            locations: Locations::new(u128::from(config.seed[1]) << 64 | u128::from(config.seed[3])),
            counters: config.counters,
        }
    }

    /// The connections.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Expires a few connections and fragments; to be called every few turns,
    /// loaded or idle, and followed by [`Pipeline::discarded`].
    pub fn housekeep(&mut self, now: Tick) {
        if self.swept.0 != now {
            self.swept = (now, 0);
        }
        if self.swept.1 < self.table.groups().div_ceil(SWEEP_TIME.0 as usize) {
            self.swept.1 += SWEEP_GROUPS;
            self.table.sweep(now, SWEEP_GROUPS);
        }
        let Pipeline { fragments, counters, .. } = self;
        fragments.sweep(now, &mut |sender| counters.dropped(DropReason::FragmentOrphan, sender));
        self.tell_connections();
    }

    /// Tells how many connections some of the interfaces have.
    fn tell_connections(&mut self) {
        for _ in 0..TOLD_SLOTS.min(self.told.len()) {
            let slot = self.told_to;
            let connections = self.table.tracked_by(slot);
            if self.told[slot] != connections {
                self.told[slot] = connections;
                self.counters.tell_connections(slot, connections);
            }
            self.told_to = if slot + 1 == self.told.len() { 0 } else { slot + 1 };
        }
    }

    /// Forgets the living connections that `unwanted` names, of `groups` groups
    /// of the table from `cursor` on; the cursor to go on with, `None` after the last.
    pub fn forget(
        &mut self,
        now: Tick,
        cursor: usize,
        groups: usize,
        unwanted: &mut dyn FnMut(&Entry) -> bool,
    ) -> Option<usize> {
        self.table.forget(now, cursor, groups, unwanted)
    }

    /// Keeps accounts of what connections carry, as [`Table::keep_accounts`].
    ///
    /// # Panics
    /// If they are for another table.
    pub fn keep_accounts(&mut self, accounts: Option<Box<Accounts>>) -> Option<Box<Accounts>> {
        self.table.keep_accounts(accounts)
    }

    /// Tells what connections have carried, as [`Table::tell_accounts`].
    pub fn tell_accounts(
        &mut self,
        cursor: usize,
        groups: usize,
        tell: &mut dyn FnMut(&Carried),
    ) -> (Option<usize>, u64) {
        self.table.tell_accounts(cursor, groups, tell)
    }

    /// Fragments that wait for their first.
    pub fn waiting(&self) -> usize {
        self.fragments.waiting()
    }

    /// Whether there is anything for [`Pipeline::released`] or [`Pipeline::discarded`] to tell.
    #[inline]
    pub fn is_waiting_over(&self) -> bool {
        self.fragments.is_waiting_over()
    }

    /// Fragments whose first has come since the last call, in order: to be
    /// taken from their places and run again with what is told of them here.
    pub fn released(&mut self) -> impl Iterator<Item = (WaitingSlot, FragmentOf)> {
        self.fragments.released()
    }

    /// Fragments that have waited too long since the last call, counted
    /// already: to be freed.
    pub fn discarded(&mut self) -> impl Iterator<Item = WaitingSlot> {
        self.fragments.discarded()
    }

    /// To be called when the places of all that was released or discarded are
    /// empty: only then are they given to others.
    pub fn reuse(&mut self) {
        self.fragments.reuse();
    }

    /// Judges a burst of at most [`BURST`] packets by one snapshot and tells
    /// what becomes of each.
    pub fn run<C: StageClock>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        arrivals: &[Arrival<'_>],
        clock: &mut C,
        out: &mut Outcomes,
    ) {
        out.clear();
        let Some(mut glances) = self.glances.take() else { return };
        glances.clear();
        Turn { engine: self, snapshot, now, out }.run(arrivals, &mut glances, clock);
        self.glances = Some(glances);
    }
}

/// One burst being judged by one snapshot. The stages are its methods, each in
/// the file of its name.
struct Turn<'e, 'a> {
    engine: &'e mut Pipeline,
    snapshot: &'a Snapshot,
    now: Tick,
    out: &'e mut Outcomes,
}

impl Turn<'_, '_> {
    /// All stages.
    #[inline]
    fn run<C: StageClock>(&mut self, arrivals: &[Arrival<'_>], glances: &mut Glances, clock: &mut C) {
        let mut works = Works::new();
        self.parse(arrivals, glances, &mut works);
        clock.mark(Stage::Parse, arrivals.len());
        let plain = glances.as_slice();
        let mut unsettled = Unsettled::new();
        self.track(arrivals, plain, &mut works, &mut unsettled);
        clock.mark(Stage::Track, plain.len());
        let left = unsettled.len() + works.len();
        if left > 0 {
            self.judge(arrivals, &unsettled, &works);
            clock.mark(Stage::Police, left);
        }
    }

    fn refuse(&mut self, link: &Link<'_>, Refused(reason, at): Refused) {
        self.engine.counters.dropped(reason, at);
        self.out.set(link.index, Outcome::Drop(reason));
    }
}
