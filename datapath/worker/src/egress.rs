//! Where packets go when they are judged: to queues and rings, in batches.

use std::sync::Arc;

use dpdk::{Burst, Mbuf, Mempool};
use engine::forward::{Delivery, VlanEdit};
use engine::fragment::{FragmentOf, WAITING};
use engine::ids::{InterfaceId, PortIndex};
use engine::pipeline::{Counters, Outcome, Outcomes, Pipeline};
use engine::verdict::DropReason;

use crate::exits::{Exits, Outbox, Way};
use crate::statistics::WorkerStatistics;
use crate::wiring::Peer;

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
    pub fn sort(
        &mut self,
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
        let fits = match &mut exit.way {
            Way::Queue(queue) if !queue.can_send(&packet) => {
                self.counters.dropped(DropReason::Segmented, delivery.receiver);
                return;
            }
            Way::Queue(queue) => {
                let (taken, fits) = exit.outbox.push(packet, |burst| queue.send(burst));
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
    pub fn relay_arrived(&mut self, port: PortIndex, packet: Mbuf) {
        let lost = match self.exits.get(port).map(|exit| (&mut exit.way, &mut exit.outbox)) {
            Some((Way::Queue(queue), _)) if !queue.can_send(&packet) => Some(DropReason::Segmented),
            Some((Way::Queue(queue), outbox)) => {
                let (taken, fits) = outbox.push(packet, |burst| queue.send(burst));
                self.statistics.transmitted.add(taken as u64);
                (!fits).then_some(DropReason::TransmitFull)
            }
            Some((Way::Relay(_), _)) | None => Some(DropReason::PortGone),
        };
        if let Some(reason) = lost {
            self.counters.dropped(reason, InterfaceId::NONE);
        }
    }

    pub fn is_waiting(&self) -> bool {
        let exits = self.exits.iter().map(|exit| &exit.outbox);
        let boxes = exits.chain(&self.steered).chain(&self.relayed);
        boxes.map(Outbox::len).any(|len| len > 0)
    }

    /// Offers everything that waits to its queue or ring.
    pub fn flush(&mut self, peers: &mut [Option<Peer>]) {
        for exit in self.exits.iter_mut() {
            if let Way::Queue(queue) = &mut exit.way {
                let taken = exit.outbox.flush(|burst| queue.send(burst));
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
