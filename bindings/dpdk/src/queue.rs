use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::port::Opened;
use crate::{Burst, Mbuf, TxOffloads};

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
    pub(crate) offloads: Offloads,
    /// Whether it is a bond's, which speaks to its partner while it is used.
    pub(crate) is_bond: bool,
}

/// Where it is known from what a port does for packets.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Offloads {
    Fixed(TxOffloads),
    /// What the guest behind a vhost-user port has negotiated.
    OfGuest,
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

    /// What it does for packets that ask for it by [`Mbuf::request`].
    pub fn offloads(&self) -> TxOffloads {
        match self.offloads {
            Offloads::Fixed(offloads) => offloads,
            Offloads::OfGuest => {
                // SAFETY: reads a number.
                let features = unsafe { dpdk_sys::sgs_vhost_features(self.port.id()) };
                let takes = |feature| features & feature != 0;
                // The driver completes checksums for a guest that does not.
                TxOffloads {
                    checksum: true,
                    tcp4: takes(dpdk_sys::SGS_VHOST_GUEST_TSO4),
                    tcp6: takes(dpdk_sys::SGS_VHOST_GUEST_TSO6),
                    udp: false,
                }
            }
        }
    }

    /// Whether its port joins others.
    pub fn is_bond(&self) -> bool {
        self.is_bond
    }

    /// Lets a bond say what its members have to say (LACP), which it does while it
    /// sends: ten times a second at least, with packets or without.
    #[inline]
    pub fn keep_up(&mut self) {
        if self.is_bond {
            let (port, queue) = (self.port.id(), self.queue);
            // SAFETY: as in `receive`.
            Burst::new().give(0, |mbufs, n| unsafe { dpdk_sys::sgs_tx_burst(port, queue, mbufs, n) }.into());
        }
    }

    /// Has the driver adjust the packets that ask for offloads to what its device
    /// expects. Returns how many of the first `count` it has passed; the next one
    /// it refuses, which is freed and counted if it is the first.
    #[cold]
    fn prepare(&mut self, burst: &mut Burst, count: usize) -> usize {
        let (port, queue) = (self.port.id(), self.queue);
        // SAFETY: as in `send`; the packets stay the burst's.
        let ready = burst.look(count, |mbufs, n| unsafe { dpdk_sys::sgs_tx_prepare(port, queue, mbufs, n) });
        if ready == 0 && count > 0 {
            self.port.unprepared.fetch_add(1, Ordering::Relaxed);
            burst.free_first(1);
        }
        ready
    }

    /// Hands packets to the port, which frees them when they are out. Those that
    /// it does not take stay in the burst, at the front. Returns how many it took.
    ///
    /// A driver that does not offer to send segmented packets may read past the
    /// first segment, so such packets stay too, behind those that could be sent.
    #[inline]
    pub fn send(&mut self, burst: &mut Burst) -> usize {
        let (port, queue) = (self.port.id(), self.queue);
        let mut count = if self.segments { burst.len() } else { burst.unsegmented_first() };
        if matches!(self.offloads, Offloads::Fixed(TxOffloads { checksum: true, .. }))
            && burst[..count].iter().any(Mbuf::has_request)
        {
            count = self.prepare(burst, count);
        }
        // SAFETY: as in `receive`.
        burst.give(count, |mbufs, n| unsafe { dpdk_sys::sgs_tx_burst(port, queue, mbufs, n) }.into())
    }
}
