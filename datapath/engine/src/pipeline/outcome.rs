use std::ops::Range;

use arrayvec::ArrayVec;

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
    /// What becomes of several packets, a bit for each, instead of what `list` says of them.
    kinds: ArrayVec<(Outcome, u32), KINDS>,
    /// All of these packets.
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

/// Ways in which several packets of a burst may fare alike. Of packets that fare in more
/// than these, what becomes of each is noted apart.
const KINDS: usize = 4;

impl Default for Outcomes {
    fn default() -> Outcomes {
        Outcomes::new()
    }
}

impl Outcomes {
    /// Empty; with room for the copies of a usual flood.
    pub fn new() -> Outcomes {
        const NOTHING: Outcome = Outcome::Drop(DropReason::NoPolicy);
        let list = [const { NOTHING }; BURST];
        let classes = [PassClass::Established; BURST];
        let deliveries = Vec::with_capacity(1024);
        Outcomes {
            list,
            kinds: ArrayVec::new_const(),
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
        let kind = self.kinds.iter().find(|(_, packets)| packets >> index & 1 == 1);
        kind.map_or(&self.list[index], |(outcome, _)| outcome)
    }

    /// What becomes of the packets of the burst, where all fare in few ways: each of these
    /// with the packets that it is of, a bit for each.
    #[inline]
    pub fn kinds(&self) -> Option<&[(Outcome, u32)]> {
        (self.alike == self.settled).then_some(&self.kinds)
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
        self.kinds.clear();
        (self.alike, self.settled, self.classed) = (0, 0, 0);
        (self.permitted, self.accounted) = (0, 0);
        self.deliveries.clear();
    }

    #[inline]
    pub(super) fn set(&mut self, index: usize, outcome: Outcome) {
        self.list[index] = outcome;
        self.settled |= 1 << index;
    }

    /// What becomes of several packets, a bit for each: so that it is seen which fare alike.
    #[inline]
    pub(super) fn settle(&mut self, packets: u32, outcome: Outcome) {
        let kind = self.kinds.iter_mut().find(|(kind, _)| *kind == outcome);
        if let Some((_, alike)) = kind {
            *alike |= packets;
        } else if !self.kinds.is_full() {
            self.kinds.push((outcome, packets));
        } else {
            return self.settle_apart(packets, &outcome);
        }
        self.alike |= packets;
        self.settled |= packets;
    }

    #[inline(never)]
    fn settle_apart(&mut self, packets: u32, outcome: &Outcome) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn to(worker: u8) -> Outcome {
        Outcome::HandOver { to: WorkerIndex(worker), of: None }
    }

    #[test]
    fn packets_that_fare_alike_are_known_together() {
        let mut outcomes = Outcomes::new();
        assert_eq!(outcomes.kinds(), Some(&[][..]), "of no packets");
        for kind in 0..KINDS as u8 {
            outcomes.settle(0b11 << (2 * kind), to(kind));
        }
        outcomes.settle(1 << 20, to(1));
        let kinds = outcomes.kinds().unwrap();
        assert_eq!((kinds.len(), &kinds[1]), (KINDS, &(to(1), 0b1100 | 1 << 20)));
        // One kind more than there is room for: no longer all of them.
        outcomes.settle(0b101 << 21, to(9));
        assert_eq!(outcomes.kinds(), None);
        outcomes.set(22, to(0));
        let fates = [(0, 0), (3, 1), (20, 1), (7, 3), (21, 9), (22, 0), (23, 9)];
        assert!(fates.into_iter().all(|(index, worker)| *outcomes.get(index) == to(worker)));
        // One that is noted apart.
        outcomes.clear();
        outcomes.settle(0b1, to(0));
        outcomes.set(1, to(0));
        assert_eq!((outcomes.kinds(), outcomes.get(1)), (None, &to(0)));
    }
}
