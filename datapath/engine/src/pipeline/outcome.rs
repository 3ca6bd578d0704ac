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
    /// A copy for each of these places in [`Outcomes::deliveries`], at least one.
    Flood(Range<usize>),
}

/// What becomes of each packet of a burst; reused from burst to burst so that
/// nothing is allocated once it has grown.
#[derive(Debug, Default)]
pub struct Outcomes {
    list: [Option<Outcome>; BURST],
    deliveries: Vec<Delivery>,
}

impl Outcomes {
    /// Empty; with room for the copies of a usual flood.
    pub fn new() -> Outcomes {
        Outcomes { list: Default::default(), deliveries: Vec::with_capacity(1024) }
    }

    /// What becomes of packet `index` of the burst.
    ///
    /// # Panics
    /// If the burst was shorter.
    #[inline]
    pub fn get(&self, index: usize) -> &Outcome {
        self.list[index].as_ref().expect("every packet of the burst has an outcome")
    }

    /// Where the copies of flooded packets go.
    pub fn deliveries(&self) -> &[Delivery] {
        &self.deliveries
    }

    pub(super) fn clear(&mut self) {
        self.list = Default::default();
        self.deliveries.clear();
    }

    #[inline]
    pub(super) fn set(&mut self, index: usize, outcome: Outcome) {
        self.list[index] = Some(outcome);
    }

    /// Whether it is known already what becomes of this packet.
    #[inline]
    pub(super) fn is_settled(&self, index: usize) -> bool {
        self.list[index].is_some()
    }

    /// Copies for all of `places`; `None` if there are none.
    pub(super) fn flood(&mut self, places: impl Iterator<Item = Delivery>) -> Option<Outcome> {
        let start = self.deliveries.len();
        self.deliveries.extend(places);
        match self.deliveries.len() - start {
            0 => None,
            1 => self.deliveries.pop().map(Outcome::Send),
            _ => Some(Outcome::Flood(start..self.deliveries.len())),
        }
    }
}
