//! The loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrayvec::ArrayVec;
use dpdk::{BURST, Burst, Mbuf, Mempool};
use engine::forward::{Delivery, VlanEdit};
use engine::fragment::{FragmentOf, WAITING};
use engine::ids::{InterfaceId, PortIndex};
use engine::packet::Frame;
use engine::pipeline::{Arrival, Counters, Outcome, Outcomes, Pipeline};
use engine::snapshot::Snapshot;
use engine::time::Tick;
use engine::verdict::DropReason;
use rcu::Reader;

use crate::Idle;
use crate::clock::{Stopwatch, TickSource};
use crate::egress::Outbox;
use crate::mailbox::Mailbox;
use crate::statistics::{WorkerStage, WorkerStatistics};
use crate::wiring::{Peer, Way, Wires};

/// Busy turns between two looks at the clock, the mailbox and old connections.
const HOUSEKEEPING_TURNS: u32 = 16;

/// Idle turns before a worker that may sleep does.
const TURNS_BEFORE_SLEEP: u32 = 256;

/// The first sleep; each that follows is twice as long.
const FIRST_SLEEP: Duration = Duration::from_micros(20);

/// One worker, on its own thread.
pub(crate) struct Worker {
    pub pipeline: Pipeline,
    pub statistics: Arc<WorkerStatistics>,
    pub snapshots: Reader<Snapshot>,
    pub egress: Egress,
    pub wires: Wires,
    pub mailbox: Mailbox,
    pub ticks: TickSource,
    pub idle: Idle,
    pub stop: Arc<AtomicBool>,
}

/// Everything a packet can leave by.
pub(crate) struct Egress {
    pub pool: Mempool,
    pub counters: Arc<Counters>,
    pub statistics: Arc<WorkerStatistics>,
    /// By port: packets for a queue of this worker's.
    pub ports: Vec<Outbox>,
    /// By worker: packets to be judged there, and judged ones for its queues.
    pub steered: Vec<Outbox>,
    pub relayed: Vec<Outbox>,
    /// Fragments that wait for their first, by the place that the pipeline gave them.
    pub waiting: Box<[Option<Mbuf>]>,
}

impl Worker {
    /// Turns until told to stop, then frees what is left.
    pub fn run(mut self) {
        let mut outcomes = Outcomes::new();
        let mut now = self.ticks.at(dpdk::cycles());
        let (mut turns, mut idle_turns) = (0u32, 0u32);
        let mut start = dpdk::cycles();
        while !self.stop.load(Ordering::Relaxed) {
            let packets = self.turn(turns, now, &mut outcomes);
            turns = turns.wrapping_add(1);
            idle_turns = if packets == 0 { idle_turns.saturating_add(1) } else { 0 };
            if packets == 0 || turns.is_multiple_of(HOUSEKEEPING_TURNS) {
                now = self.keep_house();
            }
            if idle_turns >= TURNS_BEFORE_SLEEP
                && let Idle::Sleep { max } = self.idle
                && !self.mailbox.is_busy()
            {
                let doublings = (idle_turns - TURNS_BEFORE_SLEEP).min(16);
                std::thread::sleep((FIRST_SLEEP * (1 << doublings)).min(max));
            }
            let statistics = &self.statistics;
            let (turns, cycles) = match packets {
                0 => (&statistics.idle_turns, &statistics.idle_cycles),
                _ => (&statistics.busy_turns, &statistics.busy_cycles),
            };
            turns.add(1);
            let end = dpdk::cycles();
            cycles.add(end.saturating_sub(start));
            start = end;
        }
    }

    /// One turn: receive, judge, send. Returns how many packets came.
    fn turn(&mut self, number: u32, now: Tick, outcomes: &mut Outcomes) -> usize {
        let Worker { pipeline, statistics, snapshots, egress, wires, .. } = self;
        let snapshot = snapshots.pin();
        if statistics.generation.get() != snapshot.generation {
            statistics.generation.set(snapshot.generation);
        }
        let mut burst = Burst::new();
        let mut total = 0;
        let mut watch = Stopwatch::of_turn(number, statistics);
        let Wires { receive, ports, peers } = wires;
        for (port, queue) in receive {
            let count = queue.receive(&mut burst);
            if count > 0 {
                statistics.received.add(count as u64);
                statistics.burst(count);
                watch.lap(WorkerStage::Receive, count);
                let from = Source { port: Some(*port), now, snapshot };
                judge(pipeline, egress, ports, peers, &mut burst, from, outcomes, &mut watch);
                total += count;
            }
        }
        for at in 0..peers.len() {
            let Some(peer) = &mut peers[at] else { continue };
            let count = peer.relay_in.dequeue(&mut burst);
            for packet in burst.drain() {
                let port = PortIndex(packet.port());
                egress.relay_arrived(ports, port, packet);
            }
            let steered = peer.steer_in.dequeue(&mut burst);
            if steered > 0 {
                statistics.taken_over.add(steered as u64);
                watch.lap(WorkerStage::Receive, steered);
                let from = Source { port: None, now, snapshot };
                judge(pipeline, egress, ports, peers, &mut burst, from, outcomes, &mut watch);
            }
            total += count + steered;
        }
        if total > 0 || egress.is_waiting() {
            egress.flush(ports, peers);
            watch.lap(WorkerStage::Transmit, total);
        }
        total
    }

    /// Forgets a few connections, does a piece of what the control thread asked
    /// for, and tells what can be told. Returns the time.
    fn keep_house(&mut self) -> Tick {
        let mut watch = Stopwatch::start(&self.statistics);
        let now = self.ticks.at(dpdk::cycles());
        self.pipeline.housekeep(now);
        self.egress.free_discarded(&mut self.pipeline);
        self.mailbox.work(self.pipeline.table(), now);
        let table = self.pipeline.table();
        let seen = table.statistics();
        let levels = [
            (&self.statistics.connections, table.len() as u64),
            (&self.statistics.connections_inserted, seen.inserted),
            (&self.statistics.connections_expired, seen.expired),
            (&self.statistics.connections_shed, seen.shed),
        ];
        for (counter, value) in levels {
            if counter.get() != value {
                counter.set(value);
            }
        }
        watch.lap(WorkerStage::House, 0);
        now
    }
}

/// Where a burst comes from and what it is judged by.
#[derive(Clone, Copy)]
struct Source<'a> {
    /// `None`: from another worker, each packet with its port noted in it.
    port: Option<PortIndex>,
    now: Tick,
    snapshot: &'a Snapshot,
}

/// Judges a burst and sorts it to where its packets go; then the fragments that
/// have waited for one of them.
#[expect(clippy::too_many_arguments, reason = "parts of the worker that are borrowed apart")]
fn judge(
    pipeline: &mut Pipeline,
    egress: &mut Egress,
    ports: &mut [Way],
    peers: &mut [Option<Peer>],
    burst: &mut Burst,
    from: Source<'_>,
    outcomes: &mut Outcomes,
    watch: &mut Stopwatch<'_>,
) {
    burst.iter().for_each(Mbuf::prefetch);
    let arrival = |packet| -> Arrival<'_> {
        let packet: &Mbuf = packet;
        let steered = from.port.is_none();
        Arrival {
            frame: Frame { head: packet.data(), length: packet.total_len() },
            port: from.port.unwrap_or(PortIndex(packet.port())),
            steered,
            of: if steered { FragmentOf::from_bits(packet.note()) } else { None },
        }
    };
    let arrivals: ArrayVec<Arrival<'_>, BURST> = burst.iter().map(arrival).collect();
    pipeline.run(from.snapshot, from.now, &arrivals, watch, outcomes);
    drop(arrivals);
    let packets = burst.len();
    egress.sort(ports, peers, burst, from.port, outcomes);
    watch.lap(WorkerStage::Transmit, packets);
    if pipeline.is_waiting_over() {
        judge_released(pipeline, egress, ports, peers, burst, from, outcomes, watch);
    }
}

/// Judges the fragments whose first has come, in the order in which they came,
/// and frees those that have waited too long.
#[cold]
#[expect(clippy::too_many_arguments, reason = "parts of the worker that are borrowed apart")]
fn judge_released(
    pipeline: &mut Pipeline,
    egress: &mut Egress,
    ports: &mut [Way],
    peers: &mut [Option<Peer>],
    burst: &mut Burst,
    from: Source<'_>,
    outcomes: &mut Outcomes,
    watch: &mut Stopwatch<'_>,
) {
    let released: ArrayVec<_, WAITING> = pipeline.released().collect();
    for chunk in released.chunks(BURST) {
        let mut tellings = ArrayVec::<FragmentOf, BURST>::new();
        for (slot, of) in chunk {
            if let Some(packet) = egress.waiting[usize::from(slot.0)].take()
                && burst.push(packet).is_ok()
            {
                tellings.push(*of);
            }
        }
        let arrival = |(packet, of)| -> Arrival<'_> {
            let packet: &Mbuf = packet;
            let frame = Frame { head: packet.data(), length: packet.total_len() };
            Arrival { frame, port: PortIndex(packet.port()), steered: false, of: Some(of) }
        };
        let arrivals: ArrayVec<Arrival<'_>, BURST> = burst.iter().zip(tellings).map(arrival).collect();
        pipeline.run(from.snapshot, from.now, &arrivals, watch, outcomes);
        drop(arrivals);
        egress.sort(ports, peers, burst, None, outcomes);
        watch.lap(WorkerStage::Transmit, chunk.len());
    }
    egress.free_discarded(pipeline);
}

impl Egress {
    pub fn new(
        pool: Mempool,
        counters: Arc<Counters>,
        statistics: Arc<WorkerStatistics>,
        ports: usize,
        workers: usize,
    ) -> Egress {
        let boxes = |n| std::iter::repeat_with(Outbox::default).take(n).collect();
        let (ports, steered, relayed) = (boxes(ports), boxes(workers), boxes(workers));
        let waiting = std::iter::repeat_with(|| None).take(WAITING).collect();
        Egress { pool, counters, statistics, ports, steered, relayed, waiting }
    }

    /// Sends each packet of a burst where it goes. `port` is where all of them
    /// came in; `None`: as noted in each.
    fn sort(
        &mut self,
        ports: &mut [Way],
        peers: &mut [Option<Peer>],
        burst: &mut Burst,
        port: Option<PortIndex>,
        outcomes: &Outcomes,
    ) {
        for (index, mut packet) in burst.drain().enumerate() {
            match outcomes.get(index) {
                Outcome::Drop(_) => drop(packet),
                Outcome::HandOver { to, of } => {
                    if let Some(port) = port {
                        packet.set_port(port.0);
                    }
                    packet.set_note(of.map_or(0, FragmentOf::to_bits));
                    self.steer(peers, usize::from(to.0), packet);
                }
                Outcome::Wait(slot) => {
                    if let Some(port) = port {
                        packet.set_port(port.0);
                    }
                    self.waiting[usize::from(slot.0)] = Some(packet);
                }
                Outcome::Send(delivery) => self.send(ports, peers, *delivery, packet),
                Outcome::Flood(places) => {
                    let (last, others) = outcomes.copies(places).split_last().expect("a flood has places");
                    for delivery in others {
                        match packet.copy(&self.pool) {
                            Some(copy) => self.send(ports, peers, *delivery, copy),
                            None => self.counters.dropped(DropReason::NoBuffer, delivery.receiver),
                        }
                    }
                    self.send(ports, peers, *last, packet);
                }
            }
        }
    }

    /// Frees the fragments that have waited too long.
    fn free_discarded(&mut self, pipeline: &mut Pipeline) {
        for slot in pipeline.discarded() {
            self.waiting[usize::from(slot.0)] = None;
        }
        pipeline.reuse();
    }

    /// To the worker that owns the packet's flow.
    #[inline]
    fn steer(&mut self, peers: &mut [Option<Peer>], owner: usize, packet: Mbuf) {
        let Some(peer) = &mut peers[owner] else { return };
        let (taken, fits) = self.steered[owner].push(packet, |burst| peer.steer_out.enqueue(burst));
        self.statistics.handed_over.add(taken as u64);
        if !fits {
            self.counters.dropped(DropReason::HandOverFull, InterfaceId::NONE);
        }
    }

    /// To its port, by a queue of this worker or of another.
    #[inline(always)]
    fn send(&mut self, ports: &mut [Way], peers: &mut [Option<Peer>], delivery: Delivery, mut packet: Mbuf) {
        if !edit_tag(&mut packet, delivery.vlan) {
            self.counters.dropped(DropReason::NoBuffer, delivery.receiver);
            return;
        }
        let port = usize::from(delivery.port.0);
        let fits = match &mut ports[port] {
            Way::Queue(queue) if !queue.can_send(&packet) => {
                self.counters.dropped(DropReason::Segmented, delivery.receiver);
                return;
            }
            Way::Queue(queue) => {
                let (taken, fits) = self.ports[port].push(packet, |burst| queue.send(burst));
                if taken > 0 {
                    self.statistics.transmitted.add(taken as u64);
                }
                fits
            }
            Way::Relay(worker) => {
                packet.set_port(delivery.port.0);
                let Some(peer) = &mut peers[*worker] else { return };
                let (taken, fits) = self.relayed[*worker].push(packet, |burst| peer.relay_out.enqueue(burst));
                self.statistics.relayed.add(taken as u64);
                fits
            }
        };
        if !fits {
            self.counters.dropped(DropReason::TransmitFull, delivery.receiver);
        }
    }

    /// A judged packet from another worker, for a queue of this one.
    fn relay_arrived(&mut self, ports: &mut [Way], port: PortIndex, packet: Mbuf) {
        let port = usize::from(port.0);
        let fits = match ports.get_mut(port) {
            Some(Way::Queue(queue)) if !queue.can_send(&packet) => {
                self.counters.dropped(DropReason::Segmented, InterfaceId::NONE);
                return;
            }
            Some(Way::Queue(queue)) => {
                let (taken, fits) = self.ports[port].push(packet, |burst| queue.send(burst));
                self.statistics.transmitted.add(taken as u64);
                fits
            }
            Some(Way::Relay(_)) | None => false,
        };
        if !fits {
            self.counters.dropped(DropReason::TransmitFull, InterfaceId::NONE);
        }
    }

    fn is_waiting(&self) -> bool {
        let boxes = self.ports.iter().chain(&self.steered).chain(&self.relayed);
        boxes.map(Outbox::len).any(|len| len > 0)
    }

    /// Offers everything that waits to its queue or ring.
    fn flush(&mut self, ports: &mut [Way], peers: &mut [Option<Peer>]) {
        for (outbox, way) in self.ports.iter_mut().zip(ports) {
            if let Way::Queue(queue) = way {
                let taken = outbox.flush(|burst| queue.send(burst));
                self.statistics.transmitted.add(taken as u64);
            }
        }
        for (worker, peer) in peers.iter_mut().enumerate() {
            let Some(peer) = peer else { continue };
            let taken = self.steered[worker].flush(|burst| peer.steer_out.enqueue(burst));
            self.statistics.handed_over.add(taken as u64);
            let taken = self.relayed[worker].flush(|burst| peer.relay_out.enqueue(burst));
            self.statistics.relayed.add(taken as u64);
        }
    }
}

/// Takes the VLAN tag off or puts one on. False if there is no room for it.
#[inline]
fn edit_tag(packet: &mut Mbuf, edit: VlanEdit) -> bool {
    // The tag stands between the two MACs and the EtherType.
    const MACS: usize = 12;
    match edit {
        VlanEdit::Keep => true,
        VlanEdit::Strip => {
            let Some(data) = packet.data_mut().filter(|data| data.len() >= MACS + 4) else { return false };
            data.copy_within(..MACS, 4);
            packet.adj(4)
        }
        VlanEdit::Push(id) => {
            let Some(data) = packet.prepend(4) else { return false };
            if data.len() < MACS + 4 {
                return false;
            }
            data.copy_within(4..4 + MACS, 0);
            data[MACS..MACS + 2].copy_from_slice(&[0x81, 0x00]);
            data[MACS + 2..MACS + 4].copy_from_slice(&id.0.to_be_bytes());
            true
        }
    }
}
