//! Where packets go when they are judged: to queues and rings, in batches.

use std::sync::Arc;

use dpdk::{Burst, Mbuf, Mempool};
use engine::forward::{Delivery, VlanEdit};
use engine::fragment::{FragmentOf, WAITING};
use engine::ids::{InterfaceId, PortIndex};
use engine::pipeline::{Counters, Outcome, Outcomes, Pipeline};
use engine::verdict::DropReason;

use crate::statistics::WorkerStatistics;
use crate::wiring::{Peer, Way};

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
    pub fn sort(
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
    pub fn free_discarded(&mut self, pipeline: &mut Pipeline) {
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
    pub fn relay_arrived(&mut self, ports: &mut [Way], port: PortIndex, packet: Mbuf) {
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

    pub fn is_waiting(&self) -> bool {
        let boxes = self.ports.iter().chain(&self.steered).chain(&self.relayed);
        boxes.map(Outbox::len).any(|len| len > 0)
    }

    /// Offers everything that waits to its queue or ring.
    pub fn flush(&mut self, ports: &mut [Way], peers: &mut [Option<Peer>]) {
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

/// Packets on their way to one queue or ring.
///
/// What is not taken waits for the next flush; when no more fit, newcomers are
/// refused. So a port that takes nothing holds 32 packets, and nobody up.
#[derive(Default)]
pub(crate) struct Outbox(Burst);

impl Outbox {
    /// Adds a packet; a full box is offered to `take` first. Returns how many
    /// that took, and whether there was room for the packet. If not, it is freed.
    #[inline]
    pub fn push(&mut self, packet: Mbuf, take: impl FnOnce(&mut Burst) -> usize) -> (usize, bool) {
        let taken = if self.0.is_full() { take(&mut self.0) } else { 0 };
        (taken, self.0.push(packet).is_ok())
    }

    /// Offers all packets to `take`. Returns how many it took.
    #[inline]
    pub fn flush(&mut self, take: impl FnOnce(&mut Burst) -> usize) -> usize {
        if self.0.is_empty() { 0 } else { take(&mut self.0) }
    }

    /// How many packets are waiting.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}
