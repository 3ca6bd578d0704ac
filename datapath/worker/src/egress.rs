//! Where packets go when they are judged: to queues and rings, in batches.

use std::sync::Arc;

use dpdk::{Burst, Mbuf, Mempool};
use engine::forward::{Delivery, VlanEdit};
use engine::fragment::{FragmentOf, WAITING};
use engine::ids::{InterfaceId, PortIndex};
use engine::pipeline::{Counters, Outcome, Outcomes, Pipeline};
use engine::verdict::DropReason;

use crate::device::TxQueue;
use crate::exits::{Exits, Outbox, Way};
use crate::offload::{Terms, make_ready};
use crate::statistics::WorkerStatistics;
use crate::wiring::Peer;

/// From so many packets on a burst is sent as a whole; fewer wait for others that
/// go the same way in this turn.
const WHOLE: usize = 8;

/// Everything a packet can leave by.
pub(crate) struct Egress {
    pub pool: Mempool,
    pub counters: Arc<Counters>,
    pub statistics: Arc<WorkerStatistics>,
    pub exits: Exits,
    /// By worker: packets to be judged there, and judged ones for its queues.
    pub steered: Vec<Outbox>,
    pub relayed: Vec<Outbox>,
    /// Fragments that wait for their first, by the place that the pipeline gave them.
    pub waiting: Box<[Option<Mbuf>]>,
}

impl Egress {
    pub fn new(
        pool: Mempool,
        counters: Arc<Counters>,
        statistics: Arc<WorkerStatistics>,
        workers: usize,
    ) -> Egress {
        let boxes = || std::iter::repeat_with(Outbox::default).take(workers).collect();
        let (exits, steered, relayed) = (Exits::new(), boxes(), boxes());
        let waiting = std::iter::repeat_with(|| None).take(WAITING).collect();
        Egress { pool, counters, statistics, exits, steered, relayed, waiting }
    }

    /// Sends each packet of a burst where it goes. `port` is where all of them
    /// came in; `None`: as noted in each.
    #[inline]
    pub fn sort(
        &mut self,
        peers: &mut [Option<Peer>],
        burst: &mut Burst,
        port: Option<PortIndex>,
        outcomes: &Outcomes,
    ) {
        match outcomes.kinds() {
            Some([(outcome, _)]) => self.send_alike(peers, burst, port, outcome, outcomes),
            Some(kinds) => {
                let hands = kinds.iter().map(|(outcome, packets)| (outcome, *packets));
                burst.deal(hands, |outcome, hand| self.send_alike(peers, hand, port, outcome, outcomes));
            }
            // In their order, which matters where packets of a flow fare differently.
            None => burst.drain().enumerate().for_each(|(index, packet)| {
                self.place(peers, packet, port, outcomes.get(index), outcomes);
            }),
        }
    }

    /// Sends packets that fare alike.
    #[inline]
    fn send_alike(
        &mut self,
        peers: &mut [Option<Peer>],
        burst: &mut Burst,
        port: Option<PortIndex>,
        outcome: &Outcome,
        outcomes: &Outcomes,
    ) {
        match outcome {
            Outcome::Drop(_) => burst.clear(),
            Outcome::Send(delivery) if burst.len() >= WHOLE && self.send_whole(*delivery, burst) => {}
            _ => burst.drain().for_each(|packet| self.place(peers, packet, port, outcome, outcomes)),
        }
    }

    /// Sends a burst as it is to the one place where all of it goes; false, and
    /// nothing has happened, if its packets have to be looked at one by one.
    fn send_whole(&mut self, delivery: Delivery, burst: &mut Burst) -> bool {
        let Some(exit) = self.exits.get(delivery.port) else { return false };
        let Way::Queue(queue) = &mut exit.way else { return false };
        if delivery.vlan != VlanEdit::Keep || !burst.is_plain() || !queue.takes_all_plain() {
            return false;
        }
        // What has waited goes ahead.
        let mut taken = exit.outbox.flush(|waiting| queue.send(waiting));
        if exit.outbox.len() == 0 {
            taken += queue.send(burst);
        }
        self.statistics.transmitted.add(taken as u64);
        for packet in burst.drain() {
            let (taken, fits) = exit.outbox.push(packet, |waiting| queue.send(waiting));
            self.statistics.transmitted.add(taken as u64);
            if !fits {
                self.counters.dropped(DropReason::TransmitFull, delivery.receiver);
            }
        }
        true
    }

    /// Sends a packet where it goes.
    #[inline]
    fn place(
        &mut self,
        peers: &mut [Option<Peer>],
        mut packet: Mbuf,
        port: Option<PortIndex>,
        outcome: &Outcome,
        outcomes: &Outcomes,
    ) {
        match outcome {
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
            Outcome::Send(delivery) => self.send(peers, *delivery, packet),
            Outcome::Flood(places) => {
                let (last, others) = outcomes.copies(places).split_last().expect("a flood has places");
                for delivery in others {
                    match packet.copy(&self.pool) {
                        Some(copy) => self.send(peers, *delivery, copy),
                        None => self.counters.dropped(DropReason::NoBuffer, delivery.receiver),
                    }
                }
                self.send(peers, *last, packet);
            }
        }
    }

    /// Frees the fragments that have waited too long.
    pub fn free_discarded(&mut self, pipeline: &mut Pipeline) {
        for slot in pipeline.discarded() {
            self.waiting[usize::from(slot.0)] = None;
        }
        pipeline.reuse();
    }

    /// Closes the way to a port, and frees and counts what waits on it.
    pub fn close(&mut self, port: PortIndex) -> Option<Way> {
        let exit = self.exits.close(port)?;
        (0..exit.outbox.len()).for_each(|_| self.counters.dropped(DropReason::PortGone, InterfaceId::NONE));
        Some(exit.way)
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
    fn send(&mut self, peers: &mut [Option<Peer>], delivery: Delivery, mut packet: Mbuf) {
        if !edit_tag(&mut packet, delivery.vlan) {
            self.counters.dropped(DropReason::NoBuffer, delivery.receiver);
            return;
        }
        let Some(exit) = self.exits.get(delivery.port) else {
            self.counters.dropped(DropReason::PortGone, delivery.receiver);
            return;
        };
        match &mut exit.way {
            Way::Queue(queue) => {
                let door = Door { queue, outbox: &mut exit.outbox, receiver: delivery.receiver };
                door.pass(packet, &self.pool, &self.counters, &self.statistics);
            }
            Way::Relay(worker) => {
                packet.set_port(delivery.port.0);
                let Some(peer) = &mut peers[*worker] else { return };
                let (taken, fits) = self.relayed[*worker].push(packet, |burst| peer.relay_out.enqueue(burst));
                self.statistics.relayed.add(taken as u64);
                if !fits {
                    self.counters.dropped(DropReason::TransmitFull, delivery.receiver);
                }
            }
        }
    }

    /// A judged packet from another worker, for a queue of this one.
    pub fn relay_arrived(&mut self, port: PortIndex, packet: Mbuf) {
        match self.exits.get(port).map(|exit| (&mut exit.way, &mut exit.outbox)) {
            Some((Way::Queue(queue), outbox)) => {
                let door = Door { queue, outbox, receiver: InterfaceId::NONE };
                door.pass(packet, &self.pool, &self.counters, &self.statistics);
            }
            Some((Way::Relay(_), _)) | None => {
                self.counters.dropped(DropReason::PortGone, InterfaceId::NONE);
            }
        }
    }

    pub fn is_waiting(&self) -> bool {
        self.exits.is_waiting() || self.steered.iter().chain(&self.relayed).any(|outbox| outbox.len() > 0)
    }

    /// Offers everything that waits to its queue or ring.
    pub fn flush(&mut self, peers: &mut [Option<Peer>]) {
        self.exits.flush(|queue, burst| {
            let taken = queue.send(burst);
            self.statistics.transmitted.add(taken as u64);
            taken
        });
        for (worker, peer) in peers.iter_mut().enumerate() {
            let Some(peer) = peer else { continue };
            let taken = self.steered[worker].flush(|burst| peer.steer_out.enqueue(burst));
            self.statistics.handed_over.add(taken as u64);
            let taken = self.relayed[worker].flush(|burst| peer.relay_out.enqueue(burst));
            self.statistics.relayed.add(taken as u64);
        }
    }
}

/// A transmit queue, and to whom packets go by it.
struct Door<'w> {
    queue: &'w mut TxQueue,
    outbox: &'w mut Outbox,
    receiver: InterfaceId,
}

impl Door<'_> {
    /// Puts a packet into the queue's outbox, as the queue takes it; what is lost is counted.
    #[inline(always)]
    fn pass(mut self, packet: Mbuf, pool: &Mempool, counters: &Counters, statistics: &WorkerStatistics) {
        if packet.has_offload() {
            self.pass_ready(packet, pool, counters, statistics);
        } else {
            self.push(packet, counters, statistics);
        }
    }

    /// The same for a packet whose sender has left something to do.
    #[inline(never)]
    fn pass_ready(
        &mut self,
        packet: Mbuf,
        pool: &Mempool,
        counters: &Counters,
        statistics: &WorkerStatistics,
    ) {
        // What it takes does not change while one packet is cut.
        let terms = Terms::of(self.queue);
        let result = make_ready(packet, terms, pool, |ready| self.push(ready, counters, statistics));
        if let Err(reason) = result {
            counters.dropped(reason, self.receiver);
        }
    }

    #[inline(always)]
    fn push(&mut self, packet: Mbuf, counters: &Counters, statistics: &WorkerStatistics) {
        let Door { queue, outbox, receiver } = self;
        if let Some(reason) = queue.refuses(&packet) {
            counters.dropped(reason, *receiver);
            return;
        }
        let (taken, fits) = outbox.push(packet, |burst| queue.send(burst));
        if taken > 0 {
            statistics.transmitted.add(taken as u64);
        }
        if !fits {
            counters.dropped(DropReason::TransmitFull, *receiver);
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
