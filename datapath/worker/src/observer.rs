//! What a worker tells those who watch: sightings of packets, for accounts of
//! rules and flows, and traces of chosen ones.
//!
//! Nobody waits for a watcher. Without one a burst costs two tests; what a
//! watcher does not take in time is lost to him, and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::SystemTime;

use arrayvec::ArrayVec;
use crossbeam_channel::{Sender, TrySendError};
use engine::forward::Delivery;
use engine::ids::{PortIndex, WorkerIndex};
use engine::pipeline::{Arrival, Fate, Observation, Outcome, Outcomes, Pipeline};
use engine::time::Tick;

use crate::judging::Source;
use crate::statistics::WorkerStatistics;

/// Sightings that one message brings.
pub const SIGHTINGS: usize = 32;

/// Packets permitted by rules that a worker tells of in one tick. More would
/// cost those who keep accounts of them more than they are worth.
const PERMITTED_PER_TICK: u32 = 4096;

/// Traces that may run at a time.
pub const MAX_TAPS: usize = 4;

/// What workers are to tell of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Attention {
    /// Nothing.
    Nothing,
    /// Packets that rules let pass, up to an allowance.
    Permitted,
    /// All packets.
    Everything,
}

/// The switch of [`Attention`], shared with the workers.
#[derive(Clone, Debug)]
pub struct AttentionSwitch(Arc<AtomicU8>);

impl AttentionSwitch {
    pub(crate) fn new() -> AttentionSwitch {
        AttentionSwitch(Arc::new(AtomicU8::new(Attention::Nothing as u8)))
    }

    /// From now on.
    pub fn set(&self, attention: Attention) {
        self.0.store(attention as u8, Ordering::Relaxed);
    }

    #[inline]
    fn get(&self) -> Attention {
        match self.0.load(Ordering::Relaxed) {
            0 => Attention::Nothing,
            1 => Attention::Permitted,
            _ => Attention::Everything,
        }
    }
}

/// A packet that was judged.
#[derive(Clone, Copy, Debug)]
pub struct Sighting {
    /// Its facts.
    pub observation: Observation,
    /// What became of it.
    pub fate: Fate,
    /// Its length, Ethernet header included.
    pub bytes: u32,
}

/// Packets that one worker judged by one generation, in order.
#[derive(Clone, Debug)]
pub struct Sightings {
    /// Who judged them.
    pub worker: WorkerIndex,
    /// By what.
    pub generation: u64,
    /// The packets.
    pub list: ArrayVec<Sighting, SIGHTINGS>,
}

/// Which packets a trace is to show: by their facts, the port they came in by, and
/// what became of them.
pub type Wanted = Arc<dyn Fn(&Observation, PortIndex, Fate) -> bool + Send + Sync>;

/// What is to be traced.
pub struct TapRequest {
    /// Which packets.
    pub wanted: Wanted,
    /// At most so many.
    pub limit: usize,
    /// Up to this tick.
    pub until: Tick,
    /// Bytes of each frame that are kept.
    pub head: usize,
    /// Where they go.
    pub reply: Sender<Traced>,
}

/// One packet of a trace.
#[derive(Clone, Debug)]
pub struct Traced {
    /// When it was judged.
    pub at: SystemTime,
    /// By whom.
    pub worker: WorkerIndex,
    /// By what.
    pub generation: u64,
    /// Where it came in.
    pub port: PortIndex,
    /// Whether another worker handed it over.
    pub steered: bool,
    /// Its first bytes.
    pub head: Vec<u8>,
    /// Its length.
    pub length: u32,
    /// Its facts, as they were before it was judged.
    pub observation: Observation,
    /// What became of it.
    pub fate: Fate,
    /// Where it left by: the first places.
    pub deliveries: ArrayVec<Delivery, 8>,
}

/// What the packets of a burst were before they were judged; for traces only, and so
/// not in the frame of every burst.
pub(crate) type Before = Option<Box<[Observation]>>;

/// The worker's side of all watching.
pub(crate) struct Observer {
    worker: WorkerIndex,
    statistics: Arc<WorkerStatistics>,
    attention: AttentionSwitch,
    feed: Sender<Sightings>,
    pending: Sightings,
    /// Permitted packets told of in this tick.
    told: (Tick, u32),
    taps: ArrayVec<TapRequest, MAX_TAPS>,
}

impl Observer {
    pub fn new(
        worker: WorkerIndex,
        statistics: Arc<WorkerStatistics>,
        attention: AttentionSwitch,
        feed: Sender<Sightings>,
    ) -> Observer {
        let pending = Sightings { worker, generation: 0, list: ArrayVec::new() };
        let (told, taps) = ((Tick(0), 0), ArrayVec::new());
        Observer { worker, statistics, attention, feed, pending, told, taps }
    }

    /// Begins a trace; a request too many is refused by dropping it.
    pub fn tap(&mut self, request: TapRequest) {
        drop(self.taps.try_push(request));
    }

    /// Ends the traces whose time is up.
    pub fn end_taps(&mut self, now: Tick) {
        self.taps.retain(|tap| now < tap.until && tap.limit > 0);
    }

    /// What a trace must know before the burst is judged.
    #[inline]
    pub fn before(&self, pipeline: &Pipeline, from: Source<'_>, arrivals: &[Arrival<'_>]) -> Before {
        if self.taps.is_empty() {
            return None;
        }
        Some(arrivals.iter().map(|arrival| pipeline.observe(from.snapshot, from.now, arrival)).collect())
    }

    /// Tells of a burst that was judged.
    #[inline]
    pub fn after(
        &mut self,
        pipeline: &Pipeline,
        from: Source<'_>,
        arrivals: &[Arrival<'_>],
        outcomes: &Outcomes,
        before: Before,
    ) {
        let permitted = outcomes.permitted();
        match self.attention.get() {
            Attention::Everything => self.tell(pipeline, from, arrivals, outcomes, u32::MAX),
            Attention::Permitted if permitted != 0 => {
                if self.told.0 != from.now {
                    self.told = (from.now, 0);
                }
                let packets = permitted.count_ones();
                if self.told.1 + packets > PERMITTED_PER_TICK {
                    self.statistics.sightings_lost.add(packets.into());
                } else {
                    self.told.1 += packets;
                    self.tell(pipeline, from, arrivals, outcomes, permitted);
                }
            }
            Attention::Permitted | Attention::Nothing => {}
        }
        if let Some(before) = before {
            self.trace(from, arrivals, outcomes, &before);
        }
    }

    #[cold]
    fn tell(
        &mut self,
        pipeline: &Pipeline,
        from: Source<'_>,
        arrivals: &[Arrival<'_>],
        outcomes: &Outcomes,
        wanted: u32,
    ) {
        if self.pending.generation != from.snapshot.generation {
            self.flush();
            self.pending.generation = from.snapshot.generation;
        }
        for (index, arrival) in arrivals.iter().enumerate().filter(|(index, _)| wanted >> index & 1 == 1) {
            let fate = outcomes.fate(index);
            // Whoever judges it will tell.
            if matches!(fate, Fate::HandedOver(_) | Fate::Waits) {
                continue;
            }
            let observation = pipeline.observe(from.snapshot, from.now, arrival);
            self.pending.list.push(Sighting { observation, fate, bytes: arrival.frame.length });
            if self.pending.list.is_full() {
                self.flush();
            }
        }
    }

    /// Hands over what there is to tell.
    #[inline]
    pub fn flush(&mut self) {
        if self.pending.list.is_empty() {
            return;
        }
        let packets = self.pending.list.len() as u64;
        let Sightings { worker, generation, .. } = self.pending;
        let list = std::mem::take(&mut self.pending.list);
        match self.feed.try_send(Sightings { worker, generation, list }) {
            Ok(()) => self.statistics.sightings.add(packets),
            Err(_) => self.statistics.sightings_lost.add(packets),
        }
    }

    #[cold]
    fn trace(
        &mut self,
        from: Source<'_>,
        arrivals: &[Arrival<'_>],
        outcomes: &Outcomes,
        before: &[Observation],
    ) {
        let worker = self.worker;
        for (index, (arrival, observation)) in arrivals.iter().zip(before).enumerate() {
            let fate = outcomes.fate(index);
            self.taps.retain(|tap| {
                if tap.limit == 0 || !(tap.wanted)(observation, arrival.port, fate) {
                    return true;
                }
                let deliveries = match outcomes.get(index) {
                    Outcome::Send(delivery) => std::slice::from_ref(delivery),
                    Outcome::Flood(places) => outcomes.copies(places),
                    Outcome::Drop(_) | Outcome::HandOver { .. } | Outcome::Wait(_) => &[],
                };
                let traced = Traced {
                    at: SystemTime::now(),
                    worker,
                    generation: from.snapshot.generation,
                    port: arrival.port,
                    steered: arrival.steered,
                    head: arrival.frame.head[..arrival.frame.head.len().min(tap.head)].to_vec(),
                    length: arrival.frame.length,
                    observation: *observation,
                    fate,
                    deliveries: deliveries.iter().copied().take(8).collect(),
                };
                tap.limit -= 1;
                !matches!(tap.reply.try_send(traced), Err(TrySendError::Disconnected(_)))
            });
        }
    }
}
