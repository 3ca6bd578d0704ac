use std::ops::Range;

use super::{BURST, PassClass};
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

/// What became of a packet, in a word: for those who watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It left, and why it might.
    Passed(PassClass),
    /// It did not, and why.
    Dropped(DropReason),
    /// Another worker judges it.
    HandedOver(WorkerIndex),
    /// It waits for the first fragment of its packet.
    Waits,
}

/// What becomes of each packet of a burst; reused from burst to burst so that
/// nothing is allocated once it has grown.
#[derive(Debug)]
pub struct Outcomes {
    list: [Outcome; BURST],
    /// What becomes of the packets in `alike`, a bit for each, instead of what `list` says.
    common: Outcome,
    alike: u32,
    /// Packets of the burst whose place in `list` is filled, a bit for each.
    settled: u32,
    /// Packets whose class is in `classes`; what else passed did so by state.
    classed: u32,
    /// Packets that rules let pass: one more bit for each.
    permitted: u32,
    /// Packets that are in the account of their connection.
    accounted: u32,
    classes: [PassClass; BURST],
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
        const NOTHING: Outcome = Outcome::Drop(DropReason::NoPolicy);
        let (list, common) = ([const { NOTHING }; BURST], NOTHING);
        let classes = [PassClass::Established; BURST];
        let deliveries = Vec::with_capacity(1024);
        Outcomes {
            list,
            common,
            alike: 0,
            settled: 0,
            classed: 0,
            permitted: 0,
            accounted: 0,
            classes,
            deliveries,
        }
    }

    /// What becomes of packet `index` of the burst.
    ///
    /// # Panics
    /// If the burst was shorter.
    #[inline]
    pub fn get(&self, index: usize) -> &Outcome {
        assert!(self.is_settled(index), "every packet of the burst has an outcome");
        if self.alike >> index & 1 == 1 { &self.common } else { &self.list[index] }
    }

    /// What becomes of all packets of the burst, if that is the same for all, and this
    /// is known of them together.
    #[inline]
    pub fn of_all(&self) -> Option<&Outcome> {
        (self.alike == self.settled && self.settled != 0).then_some(&self.common)
    }

    /// What became of packet `index`, in a word.
    ///
    /// # Panics
    /// If the burst was shorter.
    pub fn fate(&self, index: usize) -> Fate {
        match self.get(index) {
            Outcome::Drop(reason) => Fate::Dropped(*reason),
            Outcome::HandOver { to, .. } => Fate::HandedOver(*to),
            Outcome::Wait(_) => Fate::Waits,
            Outcome::Send(_) | Outcome::Flood(_) if self.classed >> index & 1 == 1 => {
                Fate::Passed(self.classes[index])
            }
            Outcome::Send(_) | Outcome::Flood(_) => Fate::Passed(PassClass::Established),
        }
    }

    /// The packets that rules let pass, a bit for each: those that opened a
    /// connection, and those that are judged by rules each time.
    #[inline]
    pub fn permitted(&self) -> u32 {
        self.permitted
    }

    /// The packets that passed and are in the accounts of their connections, where the table
    /// keeps some, a bit for each.
    #[inline]
    pub fn accounted(&self) -> u32 {
        self.accounted
    }

    pub(super) fn account(&mut self, packets: u32) {
        self.accounted |= packets;
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
        (self.alike, self.settled, self.classed) = (0, 0, 0);
        (self.permitted, self.accounted) = (0, 0);
        self.deliveries.clear();
    }

    #[inline]
    pub(super) fn set(&mut self, index: usize, outcome: Outcome) {
        self.list[index] = outcome;
        self.settled |= 1 << index;
    }

    /// What becomes of several packets, a bit for each: so that it is seen where a whole
    /// burst fares alike.
    #[inline]
    pub(super) fn settle(&mut self, packets: u32, outcome: Outcome) {
        if self.alike == 0 || self.common == outcome {
            (self.common, self.alike) = (outcome, self.alike | packets);
            self.settled |= packets;
            return;
        }
        let mut left = packets;
        while left != 0 {
            self.set(left.trailing_zeros() as usize, outcome.clone());
            left &= left - 1;
        }
    }

    /// Settles packets, a bit for each, that pass otherwise than by their connections alone.
    #[inline]
    pub(super) fn pass(&mut self, packets: u32, outcome: Outcome, class: PassClass) {
        self.settle(packets, outcome);
        self.classed |= packets;
        if matches!(class, PassClass::NewTracked | PassClass::Untracked) {
            self.permitted |= packets;
        }
        let mut left = packets;
        while left != 0 {
            self.classes[left.trailing_zeros() as usize] = class;
            left &= left - 1;
        }
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
