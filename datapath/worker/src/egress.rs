use dpdk::{Burst, Mbuf};

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
