//! Numbers for what has names: given once, kept over generations, and used
//! again as late as possible.

use std::collections::{HashMap, VecDeque};

use engine::ids::{InterfaceId, VpcIndex};
use imbl::OrdSet;

use crate::by_id;
use crate::model::Id;

/// Interfaces by slot and incarnation: connections carry these numbers, so one
/// must not come to mean another interface. A copy shares all that is the same.
#[derive(Clone, Debug, Default)]
pub(super) struct InterfaceNumbers {
    known: by_id::HashMap<Id, InterfaceId>,
    names: InterfaceNames,
    /// Slots that were used: the next incarnation of each, the least used first.
    free: OrdSet<(u16, u32)>,
    /// The first slot that never was used.
    fresh: u32,
}

/// The names behind the numbers of interfaces.
pub type InterfaceNames = by_id::HashMap<InterfaceId, Id>;

impl InterfaceNumbers {
    /// The numbers of the next generation: without some interfaces, then with
    /// others, at most `slots` at once. `None` if they are more.
    pub fn next<'n>(
        &self,
        gone: impl IntoIterator<Item = &'n str>,
        new: impl IntoIterator<Item = &'n str>,
        slots: usize,
    ) -> Option<InterfaceNumbers> {
        let mut next = self.clone();
        for name in gone {
            if let Some(id) = next.known.remove(name) {
                next.names.remove(&id);
                // Incarnations go round from 1 to 4095.
                next.free.insert((id.incarnation() % 4095 + 1, id.slot() as u32));
            }
        }
        for name in new {
            let id = next.give(slots)?;
            next.known.insert(name.into(), id);
            next.names.insert(id, name.into());
        }
        Some(next)
    }

    fn give(&mut self, slots: usize) -> Option<InterfaceId> {
        if (self.fresh as usize) < slots {
            self.fresh += 1;
            return Some(InterfaceId::new(self.fresh - 1, 1));
        }
        let (incarnation, slot) = *self.free.get_min()?;
        self.free.remove(&(incarnation, slot));
        Some(InterfaceId::new(slot, incarnation))
    }

    pub fn get(&self, name: &str) -> Option<InterfaceId> {
        self.known.get(name).copied()
    }

    /// The interfaces by number.
    pub fn names(&self) -> &InterfaceNames {
        &self.names
    }
}

/// VPCs by index. A connection of a VPC that is gone cannot be taken for one of
/// the next VPC with its index: its interfaces are others.
#[derive(Clone, Debug, Default)]
pub(super) struct VpcNumbers {
    known: HashMap<Id, VpcIndex>,
    /// Indexes of VPCs that are gone, the one that went first in front.
    free: VecDeque<u16>,
    fresh: u16,
}

impl VpcNumbers {
    /// How many fresh indexes are used before old ones come round.
    const FRESH: u16 = 1024;

    /// The indexes of the next generation's VPCs; `None` if they are more than 65535.
    pub fn next<'n>(&self, names: impl Iterator<Item = &'n Id>) -> Option<VpcNumbers> {
        let mut next = VpcNumbers { known: HashMap::new(), free: self.free.clone(), fresh: self.fresh };
        let names: Vec<&Id> = names.collect();
        for &name in &names {
            if let Some(index) = self.known.get(name) {
                next.known.insert(name.clone(), *index);
            }
        }
        let mut gone: Vec<u16> =
            self.known.iter().filter(|(name, _)| !next.known.contains_key(*name)).map(|(_, v)| v.0).collect();
        gone.sort_unstable();
        next.free.extend(gone);
        for name in names {
            if !next.known.contains_key(name) {
                let index = next.give()?;
                next.known.insert(name.clone(), index);
            }
        }
        Some(next)
    }

    fn give(&mut self) -> Option<VpcIndex> {
        if self.fresh >= Self::FRESH
            && let Some(index) = self.free.pop_front()
        {
            return Some(VpcIndex(index));
        }
        let index = self.fresh;
        self.fresh = self.fresh.checked_add(1)?;
        Some(VpcIndex(index))
    }

    pub fn get(&self, name: &str) -> Option<VpcIndex> {
        self.known.get(name).copied()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Id, VpcIndex)> {
        self.known.iter().map(|(name, index)| (name, *index))
    }

    /// One more than the highest index in use or used before.
    pub fn len(&self) -> usize {
        usize::from(self.fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use compact_str::{ToCompactString, format_compact};
    use std::collections::BTreeSet;

    fn interfaces(from: &InterfaceNumbers, of: &[&str], slots: usize) -> InterfaceNumbers {
        next(from, of, slots).unwrap()
    }

    fn next(from: &InterfaceNumbers, of: &[&str], slots: usize) -> Option<InterfaceNumbers> {
        let gone = from.names().values().map(Id::as_str).filter(|name| !of.contains(name));
        from.next(gone, of.iter().copied().filter(|name| from.get(name).is_none()), slots)
    }

    #[test]
    fn an_interface_keeps_its_number_and_never_gets_that_of_another() {
        let one = interfaces(&InterfaceNumbers::default(), &["a", "b"], 3);
        assert_eq!(one.get("a"), Some(InterfaceId::new(0, 1)));
        let two = interfaces(&one, &["b", "c"], 3);
        assert_eq!(two.get("b"), one.get("b"));
        assert_eq!(two.get("c"), Some(InterfaceId::new(2, 1)), "a slot that never was used");
        assert_eq!(two.get("a"), None);
        let three = interfaces(&two, &["a", "b", "c"], 3);
        assert_eq!(three.get("a"), Some(InterfaceId::new(0, 2)), "its old slot, but not its old number");
        assert!(next(&three, &["a", "b", "c", "d"], 3).is_none());
        assert_eq!(three.names().len(), 3);
    }

    #[test]
    fn incarnations_go_round_without_zero() {
        let mut numbers = interfaces(&InterfaceNumbers::default(), &["a"], 1);
        let mut seen = BTreeSet::new();
        for turn in 0..5000 {
            let name = if turn % 2 == 0 { "b" } else { "a" };
            numbers = interfaces(&numbers, &[name], 1);
            seen.insert(numbers.get(name).unwrap().incarnation());
        }
        assert_eq!((seen.first(), seen.last(), seen.len()), (Some(&1), Some(&4095), 4095));
    }

    #[test]
    fn vpcs_keep_their_index_and_indexes_come_round() {
        let mut numbers = VpcNumbers::default();
        for turn in 0..200_000 {
            let (kept, other) = (Id::new("kept"), format_compact!("vpc-{turn}"));
            numbers = numbers.next([&kept, &other].into_iter()).unwrap();
            assert_eq!(numbers.get("kept"), Some(VpcIndex(0)));
            assert_ne!(numbers.get(&other), Some(VpcIndex(0)));
        }
        assert_eq!(numbers.len(), usize::from(VpcNumbers::FRESH));
        assert_eq!(numbers.iter().count(), 2);
        let many: Vec<Id> = (0..70_000).map(|n| n.to_compact_string()).collect();
        assert!(VpcNumbers::default().next(many.iter()).is_none());
    }
}
