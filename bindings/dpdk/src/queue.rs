use std::sync::Arc;

use crate::port::Opened;
use crate::{Burst, Mbuf};

/// A receive queue of a started port. One thread polls it at a time.
#[derive(Debug)]
pub struct RxQueue {
    pub(crate) port: Arc<Opened>,
    pub(crate) queue: u16,
}

/// A transmit queue of a started port. One thread sends by it at a time.
#[derive(Debug)]
pub struct TxQueue {
    pub(crate) port: Arc<Opened>,
    pub(crate) queue: u16,
    /// Whether the driver reads all segments of a packet.
    pub(crate) segments: bool,
}

impl RxQueue {
    /// Adds received packets to the burst, as many as there are and fit. Returns
    /// how many. Some drivers give nothing to a burst with little room, so it
    /// should be empty.
    #[inline]
    pub fn receive(&mut self, burst: &mut Burst) -> usize {
        let (port, queue) = (self.port.id(), self.queue);
        // SAFETY: the port is started as long as its queues live, and `&mut self`
        // keeps other threads off the queue.
        burst.fill(|mbufs, n| unsafe { dpdk_sys::sgs_rx_burst(port, queue, mbufs, n) }.into())
    }
}

impl TxQueue {
    /// Whether it sends this packet at all: a driver may take packets of one segment only.
    #[inline]
    pub fn can_send(&self, packet: &Mbuf) -> bool {
        self.segments || packet.segments() == 1
    }

    /// Hands packets to the port, which frees them when they are out. Those that
    /// it does not take stay in the burst, at the front. Returns how many it took.
    ///
    /// A driver that does not offer to send segmented packets may read past the
    /// first segment, so such packets stay too, behind those that could be sent.
    #[inline]
    pub fn send(&mut self, burst: &mut Burst) -> usize {
        let (port, queue) = (self.port.id(), self.queue);
        let count = if self.segments { burst.len() } else { burst.unsegmented_first() };
        // SAFETY: as in `receive`.
        burst.give(count, |mbufs, n| unsafe { dpdk_sys::sgs_tx_burst(port, queue, mbufs, n) }.into())
    }
}
