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
