//! Packets that rules judge alike, counted and sent together.

use super::ends::Ends;
use super::plain::Glance;
use super::{Outcome, PassClass, Turn};
use crate::verdict::DropReason;

/// Why a packet passed, or did not.
pub(super) type Judged = Result<PassClass, DropReason>;

/// Packets between the same two ends, one after the other, that fared alike: counted
/// and sent together.
pub(super) struct Tally {
    /// The place of their ends in the list.
    ends: u8,
    /// Why they passed, or did not.
    fate: Judged,
    /// Which they are, a bit for each, and their bytes.
    packets: u32,
    bytes: u64,
}

impl Tally {
    pub const EMPTY: Tally = Tally::of(0, Ok(PassClass::Untracked));

    /// Of no packet yet.
    #[inline(always)]
    pub const fn of(ends: u8, fate: Judged) -> Tally {
        Tally { ends, fate, packets: 0, bytes: 0 }
    }

    #[inline(always)]
    pub fn add(&mut self, glance: &Glance) {
        self.packets |= 1 << glance.index();
        self.bytes += u64::from(glance.bytes);
    }
}

impl<'a> Turn<'_, 'a> {
    /// Adds a packet to those that fared alike, or begins with it.
    #[inline(always)]
    pub(super) fn add(
        &mut self,
        tally: &mut Tally,
        glance: &Glance,
        ends: u8,
        fate: Judged,
        list: &[Ends<'a>],
    ) {
        if (tally.ends, tally.fate) != (ends, fate) {
            self.tell(tally, list);
            *tally = Tally::of(ends, fate);
        }
        tally.add(glance);
    }

    /// Counts packets that fared alike, and settles them.
    #[inline(never)]
    pub(super) fn tell(&mut self, tally: &Tally, list: &[Ends<'a>]) {
        if tally.packets == 0 {
            return;
        }
        let ends = &list[usize::from(tally.ends)];
        let (counters, packets) = (&self.engine.counters, u64::from(tally.packets.count_ones()));
        let receiver = ends.receiver.id();
        match tally.fate {
            Err(reason) => {
                let at = if reason == DropReason::InboundDenied { receiver } else { ends.from };
                counters.dropped_many(reason, at, packets);
                self.out.settle(tally.packets, Outcome::Drop(reason));
            }
            Ok(class) => {
                let Some(delivery) = ends.delivery else { return };
                counters.pass_many(class, packets);
                counters.sent(ends.from, packets, tally.bytes);
                counters.delivered(receiver, packets, tally.bytes);
                self.out.pass(tally.packets, Outcome::Send(delivery), class);
            }
        }
    }
}
