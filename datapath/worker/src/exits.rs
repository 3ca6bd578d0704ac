//! How a worker reaches the ports, and what waits on its way to each.

use dpdk::{Burst, Mbuf};
use engine::ids::PortIndex;

use crate::MAX_PORTS;
use crate::device::TxQueue;

/// How a worker reaches a port.
pub(crate) enum Way {
    /// By a transmit queue of its own.
    Queue(TxQueue),
    /// The worker of this index has one.
    Relay(usize),
}

/// A port as a place to send to.
pub(crate) struct Exit {
    port: PortIndex,
    pub way: Way,
    /// Packets for a queue of this worker's.
    pub outbox: Outbox,
}

/// The exits by slot, as far as slots are taken. There is room for all from the
/// start: a port that comes while packets flow costs no memory.
pub(crate) struct Exits(Vec<Option<Exit>>);

impl Exits {
    pub fn new() -> Exits {
        Exits(Vec::with_capacity(MAX_PORTS))
    }

    /// The exit of a port that is in service.
    #[inline]
    pub fn get(&mut self, port: PortIndex) -> Option<&mut Exit> {
        self.0.get_mut(port.slot())?.as_mut().filter(|exit| exit.port == port)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Exit> {
        self.0.iter().flatten()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Exit> {
        self.0.iter_mut().flatten()
    }

    /// Opens a way to a port; its slot is free.
    pub fn open(&mut self, port: PortIndex, way: Way) {
        while self.0.len() <= port.slot() {
            self.0.push(None);
        }
        self.0[port.slot()] = Some(Exit { port, way, outbox: Outbox::default() });
    }

    /// Closes the way to a port; the exit that it was.
    pub fn close(&mut self, port: PortIndex) -> Option<Exit> {
        let exit = self.0.get_mut(port.slot())?.take_if(|exit| exit.port == port);
        while self.0.last().is_some_and(Option::is_none) {
            self.0.pop();
        }
        exit
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
