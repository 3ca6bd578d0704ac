use std::ops::{Deref, DerefMut};

use arrayvec::ArrayVec;

use crate::Mbuf;

/// The most packets of a burst.
pub const BURST: usize = 32;

const _: () = assert!(BURST == u32::BITS as usize);

/// Up to 32 packets that their holder owns.
#[derive(Debug, Default)]
pub struct Burst(pub(crate) ArrayVec<Mbuf, BURST>);

impl Burst {
    /// Without packets.
    pub const fn new() -> Burst {
        Burst(ArrayVec::new_const())
    }

    /// Whether no more fit.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.0.is_full()
    }

    /// Whether each packet is one segment, of which nothing was left to others.
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.0.iter().all(|mbuf| mbuf.segments() == 1 && !mbuf.has_offload())
    }

    /// Adds a packet.
    ///
    /// # Errors
    /// Gives it back if the burst is full.
    #[inline]
    pub fn push(&mut self, mbuf: Mbuf) -> Result<(), Mbuf> {
        self.0.try_push(mbuf).map_err(|e| e.element())
    }

    /// Takes out the last packet.
    #[inline]
    pub fn pop(&mut self) -> Option<Mbuf> {
        self.0.pop()
    }

    /// Takes out all packets in order; those that are not used are freed.
    #[inline]
    pub fn drain(&mut self) -> impl Iterator<Item = Mbuf> {
        self.0.drain(..)
    }

    /// Takes all packets out, dealt into hands: each of these is a bit for each packet, and
    /// something to tell it by. `play` is shown them in turn; what it leaves is freed, and
    /// so is what is in no hand. A packet is in the first hand that has its bit.
    #[inline]
    pub fn deal<T>(&mut self, hands: impl Iterator<Item = (T, u32)>, mut play: impl FnMut(T, &mut Burst)) {
        let mut left = u32::MAX.unbounded_shr((BURST - self.0.len()) as u32);
        let mut hand = Burst::new();
        // SAFETY: the burst gives all packets up, each of which is taken over below, once.
        unsafe { self.0.set_len(0) };
        let mut take = |packets: u32, hand: &mut Burst| {
            let mut packets = packets & left;
            left ^= packets;
            while packets != 0 {
                let at = packets.trailing_zeros() as usize;
                packets &= packets - 1;
                // SAFETY: there was a packet in this place, and its bit is gone from `left`; a
                // hand was empty, and holds as many as there are bits.
                unsafe { hand.0.push_unchecked(self.0.as_ptr().add(at).read()) };
            }
        };
        for (by, packets) in hands {
            take(packets, &mut hand);
            play(by, &mut hand);
            hand.clear();
        }
        take(u32::MAX, &mut hand);
    }

    /// Frees the first `count` packets.
    pub fn free_first(&mut self, count: usize) {
        self.0.drain(..count.min(self.0.len())).for_each(drop);
    }

    /// Frees all packets, in one call.
    pub fn clear(&mut self) {
        let count = self.0.len();
        if count > 0 {
            // SAFETY: `Mbuf` is a pointer to an mbuf; the burst gives all of them up at once.
            unsafe {
                self.0.set_len(0);
                dpdk_sys::sgs_free_bulk(self.0.as_mut_ptr().cast(), count as u32);
            }
        }
    }

    /// Lets `give` fill the spare places, up to the number that it is told.
    #[inline]
    pub(crate) fn fill(&mut self, give: impl FnOnce(*mut *mut dpdk_sys::rte_mbuf, u16) -> usize) -> usize {
        let spare = self.0.remaining_capacity();
        // SAFETY: the pointer leads to `spare` places for pointers behind those in use.
        let given = give(unsafe { self.0.as_mut_ptr().add(self.0.len()) }.cast(), spare as u16);
        // SAFETY: DPDK has put `given` mbufs there, which are the burst's from now on.
        unsafe { self.0.set_len(self.0.len() + given.min(spare)) };
        given
    }

    /// Lets `take` have packets from the first `count`; those it takes are its own.
    #[inline]
    pub(crate) fn give(
        &mut self,
        count: usize,
        take: impl FnOnce(*mut *mut dpdk_sys::rte_mbuf, u16) -> usize,
    ) -> usize {
        let len = self.0.len();
        let count = count.min(len);
        let taken = take(self.0.as_mut_ptr().cast(), count as u16).min(count);
        let rest = len - taken;
        // SAFETY: the first `taken` mbufs belong to DPDK now; the others move to the front.
        unsafe {
            self.0.set_len(rest);
            let start = self.0.as_mut_ptr();
            start.add(taken).copy_to(start, rest);
        }
        taken
    }

    /// Lets `see` look at the first `count`, and change what they ask for. Returns
    /// what it does, at most `count`.
    pub(crate) fn look(
        &mut self,
        count: usize,
        see: impl FnOnce(*mut *mut dpdk_sys::rte_mbuf, u16) -> u16,
    ) -> usize {
        let count = count.min(self.0.len());
        usize::from(see(self.0.as_mut_ptr().cast(), count as u16)).min(count)
    }

    /// Puts the packets of one segment in front, each kind in its order. Returns
    /// how many there are.
    #[inline]
    pub(crate) fn unsegmented_first(&mut self) -> usize {
        if self.0.iter().all(|mbuf| mbuf.segments() == 1) { self.0.len() } else { self.partition() }
    }

    #[cold]
    fn partition(&mut self) -> usize {
        let mut front = 0;
        for i in 0..self.0.len() {
            if self.0[i].segments() == 1 {
                self.0[front..=i].rotate_right(1);
                front += 1;
            }
        }
        front
    }
}

impl Deref for Burst {
    type Target = [Mbuf];

    #[inline]
    fn deref(&self) -> &[Mbuf] {
        &self.0
    }
}

impl DerefMut for Burst {
    #[inline]
    fn deref_mut(&mut self) -> &mut [Mbuf] {
        &mut self.0
    }
}

impl Drop for Burst {
    fn drop(&mut self) {
        self.clear();
    }
}
