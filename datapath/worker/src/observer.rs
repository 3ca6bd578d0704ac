//! What a worker tells those who watch: sightings of packets, for accounts of
//! rules and flows, and traces of chosen ones.
//!
//! Packets that their connections let pass are added up there, and told of together;
//! all others one by one. Nobody waits for a watcher. Without one a burst costs two tests; what a
//! watcher does not take in time is lost to him, and counted.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arrayvec::ArrayVec;
use crossbeam_channel::{Sender, TrySendError};
use engine::conntrack::{Account, Carried};
use engine::flow::Side;
use engine::forward::Delivery;
use engine::ids::{InterfaceId, PortIndex, VpcIndex, WorkerIndex};
use engine::packet::{Body, Ip, TcpFlags, Transport, Udp};
use engine::pipeline::{Arrival, Fate, Observation, Outcome, Outcomes, PassClass, Pipeline};
use engine::time::{Tick, Ticks};

use crate::attention::{Attention, Level};
use crate::judging::Source;
use crate::statistics::WorkerStatistics;

/// Sightings that one message brings.
pub const SIGHTINGS: usize = 32;

/// Packets permitted by rules that a worker tells of in one tick. More would
/// cost those who keep accounts of them more than they are worth.
const PERMITTED_PER_TICK: u32 = 4096;

/// The time in which all connections are told of.
const TOUR: Ticks = Ticks::from_secs(1);

/// Groups of the table of which connections are told at a time.
const GROUPS_PER_TURN: usize = 8;

/// How long a worker that ends waits for room for what it has to tell.
const LAST_PATIENCE: Duration = Duration::from_millis(100);

/// Traces that may run at a time.
pub const MAX_TAPS: usize = 4;

/// Packets of a flow, in one direction, that fared alike.
#[derive(Clone, Copy, Debug)]
pub struct Sighting {
    /// Their headers above Ethernet; of several packets what all have in common, addresses
    /// and ports.
    pub ip: Ip,
    /// The VPC that their port says they are of; `None`: of none.
    pub vpc: Option<VpcIndex>,
    /// The interface that their port serves; `NONE` on an uplink.
    pub sender: InterfaceId,
    /// The interface plugged in here that they are for.
    pub receiver: InterfaceId,
    /// What became of them.
    pub fate: Fate,
    /// How many there are.
    pub packets: u32,
    /// Their lengths together, Ethernet headers included.
    pub bytes: u64,
    /// All of TCP's control bits that they have, together; none of another protocol.
    pub tcp_flags: TcpFlags,
}

impl Sighting {
    /// Of one packet, unless it is not of IP.
    fn of(observation: &Observation, fate: Fate, bytes: u32) -> Option<Sighting> {
        let Body::Ip(ip) = observation.packet.as_ref().ok()?.body else { return None };
        let tcp_flags = match ip.transport {
            Transport::Tcp(segment) => segment.flags,
            _ => TcpFlags(0),
        };
        let Observation { vpc, sender, receiver, .. } = *observation;
        Some(Sighting { ip, vpc, sender, receiver, fate, packets: 1, bytes: bytes.into(), tcp_flags })
    }

    /// Of what one side of a connection of TCP or UDP has sent.
    fn of_account(carried: &Carried, side: Side) -> Sighting {
        let Carried { key, ends, sides } = carried;
        let [(src, src_port), (dst, dst_port)] = [side, side.other()].map(|side| key.endpoint(side));
        let Account { bytes, packets, flags } = sides[side.index()];
        Sighting {
            // Their ports are in the same place.
            ip: Ip {
                src,
                dst,
                protocol: key.protocol(),
                transport: Transport::Udp(Udp { src_port, dst_port }),
            },
            vpc: Some(key.vpc()),
            sender: ends[side.index()],
            receiver: ends[side.other().index()],
            fate: Fate::Passed(PassClass::Established),
            packets,
            bytes,
            tcp_flags: flags,
        }
    }
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
    /// Who waits until this and all before it is worked off, and is to be told then.
    pub mark: Option<Sender<()>>,
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

/// Where the accounts of connections are told of next.
struct Tour {
    /// Groups of the table that were looked at in this tick.
    tick: Tick,
    groups: usize,
    cursor: usize,
}

/// The worker's side of all watching.
pub(crate) struct Observer {
    worker: WorkerIndex,
    statistics: Arc<WorkerStatistics>,
    attention: Level,
    feed: Sender<Sightings>,
    pending: Sightings,
    /// How long whoever watches is waited for.
    patience: Duration,
    tour: Tour,
    /// Permitted packets told of in this tick.
    told: (Tick, u32),
    taps: ArrayVec<TapRequest, MAX_TAPS>,
}

impl Observer {
    pub fn new(
        worker: WorkerIndex,
        statistics: Arc<WorkerStatistics>,
        attention: Level,
        feed: Sender<Sightings>,
    ) -> Observer {
        let pending = Sightings { worker, generation: 0, list: ArrayVec::new(), mark: None };
        let (patience, tour) = (Duration::ZERO, Tour { tick: Tick(0), groups: 0, cursor: 0 });
        let (told, taps) = ((Tick(0), 0), ArrayVec::new());
        Observer { worker, statistics, attention, feed, pending, patience, tour, told, taps }
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
            Attention::Everything => {
                let wanted = !outcomes.accounted();
                self.tell(pipeline, from, arrivals, outcomes, wanted);
            }
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
        if wanted == 0 {
            return;
        }
        self.begin(from.snapshot.generation);
        // What a flood of single packets leaves is for what connections carried.
        let has_room = self.feed.capacity().is_none_or(|most| self.feed.len() < most / 4 * 3);
        for (index, arrival) in arrivals.iter().enumerate().filter(|(index, _)| wanted >> index & 1 == 1) {
            let fate = outcomes.fate(index);
            // Whoever judges it will tell.
            if matches!(fate, Fate::HandedOver(_) | Fate::Waits) {
                continue;
            }
            if !has_room {
                self.statistics.sightings_lost.add(1);
                continue;
            }
            let observation = pipeline.observe(from.snapshot, from.now, arrival);
            if let Some(sighting) = Sighting::of(&observation, fate, arrival.frame.length) {
                self.push(sighting);
            }
        }
    }

    /// What is told from now on is of this generation.
    fn begin(&mut self, generation: u64) {
        if self.pending.generation != generation {
            self.flush();
            self.pending.generation = generation;
        }
    }

    fn push(&mut self, sighting: Sighting) {
        self.pending.list.push(sighting);
        if self.pending.list.is_full() {
            self.flush();
        }
    }

    /// Tells of some of the connections what they have carried: of all in a second or so.
    #[inline]
    pub fn go_on_telling(&mut self, pipeline: &mut Pipeline, now: Tick) {
        if !pipeline.table().keeps_accounts() {
            return;
        }
        let Tour { tick, groups, cursor } = &mut self.tour;
        if *tick != now {
            (*tick, *groups) = (now, 0);
        }
        if *groups < pipeline.table().groups().div_ceil(TOUR.0 as usize) {
            *groups += GROUPS_PER_TURN;
            let cursor = *cursor;
            self.tour.cursor = self.tell_accounts(pipeline, cursor, GROUPS_PER_TURN).unwrap_or(0);
        }
    }

    /// Tells what connections have carried, of so many groups of the table from `cursor` on.
    /// Returns the cursor to go on with.
    pub fn tell_accounts(&mut self, pipeline: &mut Pipeline, cursor: usize, groups: usize) -> Option<usize> {
        self.begin(self.statistics.generation.get());
        let (next, lost) = pipeline.tell_accounts(cursor, groups, &mut |carried| {
            for side in Side::BOTH {
                if carried.sides[side.index()].packets > 0 {
                    self.push(Sighting::of_account(carried, side));
                }
            }
        });
        self.statistics.sightings_lost.add(lost);
        next
    }

    /// Has whoever takes sightings tell the one at the other end of `mark` when all that was
    /// told so far has been taken. If there is no room for that, he sees its end at once.
    pub fn settle(&mut self, mark: Sender<()>) {
        self.pending.mark = Some(mark);
        self.send();
    }

    /// Tells the last there is, with some patience.
    pub fn close(&mut self, pipeline: &mut Pipeline) {
        self.patience = LAST_PATIENCE;
        self.tell_accounts(pipeline, 0, usize::MAX);
        self.flush();
    }

    /// Hands over what there is to tell.
    #[inline]
    pub fn flush(&mut self) {
        if !self.pending.list.is_empty() {
            self.send();
        }
    }

    fn send(&mut self) {
        let Sightings { worker, generation, .. } = self.pending;
        let (list, mark) = (std::mem::take(&mut self.pending.list), self.pending.mark.take());
        let packets = list.iter().map(|sighting| u64::from(sighting.packets)).sum();
        let message = Sightings { worker, generation, list, mark };
        let is_taken = match self.patience {
            Duration::ZERO => self.feed.try_send(message).is_ok(),
            patience => self.feed.send_timeout(message, patience).is_ok(),
        };
        if is_taken {
            self.statistics.sightings.add(packets);
        } else {
            self.statistics.sightings_lost.add(packets);
            self.patience = Duration::ZERO;
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
