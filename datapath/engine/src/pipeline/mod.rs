//! The stages over one burst: parse, steer, admit, track, police, forward.
//!
//! Each stage is a loop over the packets that are still under way, so that what
//! one packet waits for is fetched while others are worked on. A packet of an
//! established flow costs its own header, one tag line and one entry line, and
//! meets no rule; only what the connection table does not settle is policed.

mod admit;
mod border;
mod budget;
mod counters;
mod exempt;
mod flood;
mod forward;
mod fragments;
mod outcome;
mod police;
#[cfg(test)]
mod tests;
mod track;

pub use budget::{EXEMPT_PER_SECOND, RELATED_PER_SECOND, UPLINK_EXEMPT_PER_SECOND};
pub use counters::{Counter, Counters, Drops, InterfaceCounters, PassClass};
pub use outcome::{Outcome, Outcomes};

use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::addr::MacAddr;
use crate::conntrack::{Slot, Table, TableConfig};
use crate::flow::{FlowHash, FlowHasher, FlowKey, Side};
use crate::forward::Interface;
use crate::fragment::{FragmentOf, Fragments, WaitingSlot};
use crate::ids::{InterfaceId, PortIndex, VpcIndex, WorkerIndex};
use crate::packet::{Frame, Ip};
use crate::snapshot::Snapshot;
use crate::time::Tick;
use crate::verdict::DropReason;
use budget::Budget;
use forward::Receiver;

/// The most packets one run takes.
pub const BURST: usize = 32;

/// Table groups that [`Pipeline::housekeep`] looks at for expired connections.
const SWEEP_GROUPS: usize = 4;

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
    /// Headers are read, the sender's role is known.
    Parse,
    /// The owner of the flow is known.
    Steer,
    /// The sender is who it claims to be.
    Admit,
    /// The connection is looked up.
    Track,
    /// Rules are asked about what the table did not settle.
    Police,
    /// The way out is known and counted.
    Forward,
}

impl Stage {
    /// All, in order.
    pub const ALL: [Stage; 6] =
        [Stage::Parse, Stage::Steer, Stage::Admit, Stage::Track, Stage::Police, Stage::Forward];

    /// The stable name: the metric's label value.
    pub const fn label(self) -> &'static str {
        match self {
            Stage::Parse => "parse",
            Stage::Steer => "steer",
            Stage::Admit => "admit",
            Stage::Track => "track",
            Stage::Police => "police",
            Stage::Forward => "forward",
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

/// An IP packet of the burst on its way through the stages.
struct Work<'a> {
    link: Link<'a>,
    ip: Ip,
}

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
    counters: Arc<Counters>,
    interface_slots: usize,
    /// The slot up to which connections have been told.
    told: usize,
}

impl Pipeline {
    /// An engine without connections. All memory it will need is allocated here.
    pub fn new(config: PipelineConfig) -> Pipeline {
        Pipeline {
            worker: config.worker,
            workers: config.workers,
            hasher: FlowHasher::new(config.seed),
            table: Table::new(config.table).counting(config.interface_slots),
            told: 0,
            interface_slots: config.interface_slots,
            fragments: Fragments::new(config.interface_slots),
            budget: Budget::new(config.interface_slots),
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
        self.table.sweep(now, SWEEP_GROUPS);
        let Pipeline { fragments, counters, .. } = self;
        fragments.sweep(now, &mut |sender| counters.dropped(DropReason::FragmentOrphan, sender));
        self.tell_connections();
    }

    /// Tells how many connections some of the interfaces have.
    fn tell_connections(&mut self) {
        for _ in 0..TOLD_SLOTS.min(self.interface_slots) {
            self.counters.tell_connections(self.told, self.table.tracked_by(self.told));
            self.told = if self.told + 1 == self.interface_slots { 0 } else { self.told + 1 };
        }
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
        let mut turn = Turn { engine: self, snapshot, now, out };

        let mut works = ArrayVec::<Work<'_>, BURST>::new();
        for (index, arrival) in arrivals.iter().enumerate() {
            works.extend(turn.parse(index, arrival));
        }
        clock.mark(Stage::Parse, arrivals.len());

        // From here on, lists stand side by side, one place per flow packet.
        let mut keys = ArrayVec::<FlowKey, BURST>::new();
        let mut hashes = ArrayVec::<FlowHash, BURST>::new();
        let mut sides = ArrayVec::<Side, BURST>::new();
        let parsed = works.len();
        works.retain(|work| match turn.steer(work, &arrivals[work.link.index]) {
            Some((key, hash, side)) => {
                keys.push(key);
                hashes.push(hash);
                sides.push(side);
                true
            }
            None => false,
        });
        clock.mark(Stage::Steer, parsed);

        // Few are refused here; such a packet keeps its place and is passed over.
        for work in &works {
            turn.admit(work);
        }
        clock.mark(Stage::Admit, works.len());

        let mut found = [None; BURST];
        let found = &mut found[..keys.len()];
        turn.engine.table.lookup_batch(now, &hashes, &keys, found);
        turn.count_lookups(found);
        let mut passed = ArrayVec::<(usize, Passed<'_>), BURST>::new();
        let mut open = ArrayVec::<usize, BURST>::new();
        for (at, work) in works.iter().enumerate() {
            if turn.out.is_settled(work.link.index) {
                continue;
            }
            match found[at].and_then(|slot| turn.established(work, sides[at], slot)) {
                Some(Ok(pass)) => passed.push((at, pass)),
                Some(Err(refused)) => turn.refuse(&work.link, refused),
                None => open.push(at),
            }
        }
        clock.mark(Stage::Track, works.len());

        for &at in &open {
            match turn.police(&works[at], &keys[at], hashes[at], sides[at]) {
                Ok(pass) => passed.push((at, pass)),
                Err(refused) => turn.refuse(&works[at].link, refused),
            }
        }
        clock.mark(Stage::Police, open.len());

        for (at, pass) in &passed {
            turn.forward(&works[*at].link, pass);
        }
        clock.mark(Stage::Forward, passed.len());
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
    fn refuse(&mut self, link: &Link<'_>, Refused(reason, at): Refused) {
        self.engine.counters.dropped(reason, at);
        self.out.set(link.index, Outcome::Drop(reason));
    }

    fn count_lookups(&self, found: &[Option<Slot>]) {
        let hits = found.iter().flatten().count();
        self.engine.counters.table_hits.add(hits as u64);
        self.engine.counters.table_misses.add((found.len() - hits) as u64);
    }
}
