use std::ops::Range;

use super::BURST;
use crate::forward::Delivery;
use crate::fragment::{FragmentOf, WaitingSlot};
use crate::ids::WorkerIndex;
use crate::verdict::DropReason;

/// What becomes of one packet of a burst.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing more; it is counted already.
    Drop(DropReason),
    /// Its place is with another worker: the flow's owner, or for a fragment the
    /// one at which it meets its first.
    HandOver {
        /// Who that is.
        to: WorkerIndex,
        /// For a fragment: what its first has told, to be handed over with it.
        of: Option<FragmentOf>,
    },
    /// It waits in this place for the first fragment of its packet, until
    /// [`Pipeline::released`](super::Pipeline::released) or
    /// [`Pipeline::discarded`](super::Pipeline::discarded) names the place.
    Wait(WaitingSlot),
    /// It leaves by one port.
    Send(Delivery),
    /// A copy for each of these places, [`Outcomes::copies`]; at least one.
    Flood(Range<u32>),
}

const _: () = assert!(size_of::<Outcome>() <= 16);

/// What becomes of each packet of a burst; reused from burst to burst so that
/// nothing is allocated once it has grown.
#[derive(Debug)]
pub struct Outcomes {
    list: [Outcome; BURST],
    /// Packets of the burst whose place in `list` is filled, a bit for each.
    settled: u32,
    deliveries: Vec<Delivery>,
}

const _: () = assert!(BURST <= 32);

impl Default for Outcomes {
    fn default() -> Outcomes {
        Outcomes::new()
    }
}

impl Outcomes {
    /// Empty; with room for the copies of a usual flood.
    pub fn new() -> Outcomes {
        let list = [const { Outcome::Drop(DropReason::NoPolicy) }; BURST];
        Outcomes { list, settled: 0, deliveries: Vec::with_capacity(1024) }
    }

    /// What becomes of packet `index` of the burst.
    ///
    /// # Panics
    /// If the burst was shorter.
    #[inline]
    pub fn get(&self, index: usize) -> &Outcome {
        assert!(self.is_settled(index), "every packet of the burst has an outcome");
        &self.list[index]
    }

    /// Where the copies of all flooded packets go.
    pub fn deliveries(&self) -> &[Delivery] {
        &self.deliveries
    }

    /// Where the copies of one flooded packet go.
    #[inline]
    pub fn copies(&self, places: &Range<u32>) -> &[Delivery] {
        &self.deliveries[places.start as usize..places.end as usize]
    }

    pub(super) fn clear(&mut self) {
        self.settled = 0;
        self.deliveries.clear();
    }

    #[inline]
    pub(super) fn set(&mut self, index: usize, outcome: Outcome) {
        self.list[index] = outcome;
        self.settled |= 1 << index;
    }

    /// Whether it is known already what becomes of this packet.
    #[inline]
    fn is_settled(&self, index: usize) -> bool {
        self.settled >> index & 1 == 1
    }

    /// Copies for all of `places`; `None` if there are none.
    pub(super) fn flood(&mut self, places: impl Iterator<Item = Delivery>) -> Option<Outcome> {
        let start = self.deliveries.len();
        self.deliveries.extend(places);
        match self.deliveries.len() - start {
            0 => None,
            1 => self.deliveries.pop().map(Outcome::Send),
            _ => Some(Outcome::Flood(start as u32..self.deliveries.len() as u32)),
        }
    }
}
