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
pub(crate) struct Exits {
    list: Vec<Option<Exit>>,
    /// The slots that packets may wait in, a bit for each.
    used: [u64; MAX_PORTS.div_ceil(64)],
    /// How many of them want something when there is nothing to send.
    wanting: usize,
}

impl Exits {
    pub fn new() -> Exits {
        Exits { list: Vec::with_capacity(MAX_PORTS), used: [0; MAX_PORTS.div_ceil(64)], wanting: 0 }
    }

    /// The exit of a port that is in service, to put packets into.
    #[inline]
    pub fn get(&mut self, port: PortIndex) -> Option<&mut Exit> {
        let exit = self.list.get_mut(port.slot())?.as_mut().filter(|exit| exit.port == port)?;
        self.used[port.slot() / 64] |= 1 << (port.slot() % 64);
        Some(exit)
    }

    /// Whether packets wait, if all that were put into exits have been offered since.
    #[inline]
    pub fn is_waiting(&self) -> bool {
        self.used.iter().any(|slots| *slots != 0)
    }

    /// Offers what waits to `take`, exit by exit.
    #[inline]
    pub fn flush(&mut self, mut take: impl FnMut(&mut TxQueue, &mut Burst) -> usize) {
        for (word, slots) in self.used.iter_mut().enumerate() {
            let mut left = *slots;
            while left != 0 {
                let bit = left & left.wrapping_neg();
                left ^= bit;
                let slot = 64 * word + bit.trailing_zeros() as usize;
                let waits = self.list.get_mut(slot).and_then(Option::as_mut).is_some_and(|exit| {
                    if let Way::Queue(queue) = &mut exit.way {
                        exit.outbox.flush(|burst| take(queue, burst));
                    }
                    exit.outbox.len() > 0
                });
                if !waits {
                    *slots ^= bit;
                }
            }
        }
    }

    /// What queues want also when there is nothing to send.
    #[inline]
    pub fn keep_up(&mut self) {
        if self.wanting > 0 {
            self.queues().for_each(TxQueue::keep_up);
        }
    }

    fn queues(&mut self) -> impl Iterator<Item = &mut TxQueue> {
        self.list.iter_mut().flatten().filter_map(|exit| match &mut exit.way {
            Way::Queue(queue) => Some(queue),
            Way::Relay(_) => None,
        })
    }

    /// Opens a way to a port; its slot is free.
    pub fn open(&mut self, port: PortIndex, way: Way) {
        while self.list.len() <= port.slot() {
            self.list.push(None);
        }
        self.list[port.slot()] = Some(Exit { port, way, outbox: Outbox::default() });
        self.wanting = self.queues().filter(|queue| queue.has_to_keep_up()).count();
    }

    /// Closes the way to a port; the exit that it was.
    pub fn close(&mut self, port: PortIndex) -> Option<Exit> {
        let exit = self.list.get_mut(port.slot())?.take_if(|exit| exit.port == port);
        while self.list.last().is_some_and(Option::is_none) {
            self.list.pop();
        }
        self.wanting = self.queues().filter(|queue| queue.has_to_keep_up()).count();
        exit
    }
}

/// Bytes that packets of several segments may have in an outbox together: eight super-frames.
const LONG_BYTES: u32 = 8 << 16;

/// Packets on their way to one queue or ring.
///
/// What is not taken waits for the next flush; when no more fit, newcomers are
/// refused. So a port that takes nothing holds 32 packets and [`LONG_BYTES`] of long
/// ones, whose buffers are few, and nobody up.
#[derive(Default)]
pub(crate) struct Outbox {
    packets: Burst,
    /// Bytes of those of several segments.
    long_bytes: u32,
}

impl Outbox {
    /// Adds a packet; a full box is offered to `take` first. Returns how many
    /// that took, and whether there was room for the packet. If not, it is freed.
    #[inline]
    pub fn push(&mut self, packet: Mbuf, take: impl FnOnce(&mut Burst) -> usize) -> (usize, bool) {
        if packet.segments() > 1 {
            return self.push_long(packet, take);
        }
        let taken = if self.packets.is_full() { self.offer(take) } else { 0 };
        (taken, self.packets.push(packet).is_ok())
    }

    /// The same for a packet of several segments.
    fn push_long(&mut self, packet: Mbuf, take: impl FnOnce(&mut Burst) -> usize) -> (usize, bool) {
        let bytes = packet.total_len();
        let fits = |outbox: &Outbox| !outbox.packets.is_full() && outbox.long_bytes + bytes <= LONG_BYTES;
        let taken = if fits(self) { 0 } else { self.offer(take) };
        let fits = fits(self) && self.packets.push(packet).is_ok();
        self.long_bytes += if fits { bytes } else { 0 };
        (taken, fits)
    }

    /// Offers all packets to `take`. Returns how many it took.
    #[inline]
    pub fn flush(&mut self, take: impl FnOnce(&mut Burst) -> usize) -> usize {
        if self.packets.is_empty() { 0 } else { self.offer(take) }
    }

    #[inline]
    fn offer(&mut self, take: impl FnOnce(&mut Burst) -> usize) -> usize {
        let taken = take(&mut self.packets);
        if self.long_bytes > 0 {
            let long = self.packets.iter().filter(|packet| packet.segments() > 1);
            self.long_bytes = long.map(Mbuf::total_len).sum();
        }
        taken
    }

    /// How many packets are waiting.
    pub fn len(&self) -> usize {
        self.packets.len()
    }
}

#[cfg(test)]
mod tests {
    use dpdk::{Mempool, MempoolConfig};

    use super::*;

    #[test]
    fn a_port_that_takes_nothing_holds_few_buffers() {
        let config = MempoolConfig { mbufs: 255, cache: 0, data_room: 16_384, socket: None };
        let pool = Mempool::new(&crate::test_eal(), "outbox", &config).unwrap();
        let packet = |segments: usize| {
            let segment = || {
                let mut segment = Mbuf::alloc(&pool).unwrap();
                segment.append(16_384).unwrap();
                segment
            };
            let mut packet = segment();
            (1..segments).for_each(|_| packet.chain(segment()).unwrap());
            packet
        };
        let nothing = |_: &mut Burst| 0;
        let mut outbox = Outbox::default();
        // Eight of 64 KiB, and as many short ones as it has places for.
        let long = (0..20).filter(|_| outbox.push(packet(4), nothing).1).count();
        let short = (0..40).filter(|_| outbox.push(packet(1), nothing).1).count();
        assert_eq!((long, short, outbox.len()), (8, 24, 32));
        assert_eq!(outbox.push(packet(2), nothing), (0, false));
        // What is taken makes room for others.
        assert_eq!(
            outbox.flush(|burst| {
                burst.free_first(3);
                3
            }),
            3
        );
        let long = (0..20).filter(|_| outbox.push(packet(4), nothing).1).count();
        assert_eq!((long, outbox.len()), (3, 32));
        // A box that is full is offered ahead of the packet, and all of it may go.
        let all = |burst: &mut Burst| {
            let all = burst.len();
            burst.clear();
            all
        };
        assert_eq!(outbox.push(packet(4), all), (32, true));
        assert_eq!((outbox.len(), outbox.flush(all), outbox.long_bytes), (1, 1, 0));
    }
}
