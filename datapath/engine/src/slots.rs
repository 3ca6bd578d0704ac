//! Values by slot, of which a copy with a change shares nearly all.

use std::sync::Arc;

/// Values that are copied together.
const LEAF: usize = 16;
/// Leaves of a part, and parts of a region.
const FAN: usize = 32;
/// Slots of a region.
const REGION: usize = LEAF * FAN * FAN;

type Leaf<T> = Arc<[Option<T>; LEAF]>;
type Part<T> = Arc<[Option<Leaf<T>>; FAN]>;
type Region<T> = Arc<[Option<Part<T>>; FAN]>;

/// Values by slot, a tree of four levels. What is copied for a change counts up all that it
/// shares, each count in a line of its own, most of them far: with a million slots in use 144
/// of them; two levels of 64 below an array of them all have 373.
#[derive(Clone, Debug)]
pub struct Slots<T>(Arc<Vec<Option<Region<T>>>>);

impl<T> Default for Slots<T> {
    fn default() -> Slots<T> {
        Slots(Arc::new(Vec::new()))
    }
}

impl<T> Slots<T> {
    /// The value of a slot.
    #[inline]
    pub fn get(&self, slot: usize) -> Option<&T> {
        let region = self.0.get(slot / REGION)?.as_ref()?;
        let part = region[slot / (LEAF * FAN) % FAN].as_ref()?;
        let leaf = part[slot / LEAF % FAN].as_ref()?;
        leaf[slot % LEAF].as_ref()
    }

    /// All values, in the order of their slots.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.leaves().flat_map(|(_, leaf)| leaf.iter().flatten())
    }

    /// One more than the highest slot in use.
    pub fn end(&self) -> usize {
        let last = |(first, leaf): (usize, &Leaf<T>)| {
            leaf.iter().rposition(Option::is_some).map(|at| first + at + 1)
        };
        self.leaves().filter_map(last).last().unwrap_or(0)
    }

    /// Leaves, each with its first slot.
    fn leaves(&self) -> impl Iterator<Item = (usize, &Leaf<T>)> {
        let regions = self.0.iter().zip((0..).step_by(REGION));
        let regions = regions.filter_map(|(region, first)| Some((region.as_ref()?, first)));
        let parts = regions.flat_map(|(region, first)| region.iter().zip((first..).step_by(LEAF * FAN)));
        let parts = parts.filter_map(|(part, first)| Some((part.as_ref()?, first)));
        let leaves = parts.flat_map(|(part, first)| part.iter().zip((first..).step_by(LEAF)));
        leaves.filter_map(|(leaf, first)| Some((first, leaf.as_ref()?)))
    }

    fn leaf(&self, slot: usize) -> Option<&Leaf<T>> {
        self.0.get(slot / REGION)?.as_ref()?[slot / (LEAF * FAN) % FAN].as_ref()?[slot / LEAF % FAN].as_ref()
    }

    /// How many leaves two have in common, and of how many.
    pub fn shared_with(&self, other: &Slots<T>) -> (usize, usize) {
        let is_same = |(first, leaf): &(usize, &Leaf<T>)| {
            other.leaf(*first).is_some_and(|other| Arc::ptr_eq(leaf, other))
        };
        let all = self.leaves().count().max(other.leaves().count());
        (self.leaves().filter(is_same).count(), all)
    }
}

impl<T: Clone> Slots<T> {
    /// A slot to be changed: what leads to it is copied if others have it too.
    pub fn get_mut(&mut self, slot: usize) -> &mut Option<T> {
        let regions = Arc::make_mut(&mut self.0);
        if regions.len() <= slot / REGION {
            regions.resize(slot / REGION + 1, None);
        }
        let region =
            Arc::make_mut(regions[slot / REGION].get_or_insert_with(|| Arc::new([const { None }; FAN])));
        let part = region[slot / (LEAF * FAN) % FAN].get_or_insert_with(|| Arc::new([const { None }; FAN]));
        let leaf =
            Arc::make_mut(part)[slot / LEAF % FAN].get_or_insert_with(|| Arc::new([const { None }; LEAF]));
        &mut Arc::make_mut(leaf)[slot % LEAF]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_change_copies_one_leaf_and_leaves_the_original() {
        let mut all = Slots::default();
        assert_eq!((all.get(0), all.end()), (None, 0));
        (0..100).for_each(|n| *all.get_mut(n) = Some(n));
        let before = all.clone();
        *all.get_mut(50) = Some(1);
        assert_eq!((before.get(50), all.get(50)), (Some(&50), Some(&1)));
        assert_eq!(all.shared_with(&before), (6, 7));
        *all.get_mut(1 << 19) = Some(2);
        assert_eq!((all.end(), before.end()), ((1 << 19) + 1, 100));
        assert_eq!(all.shared_with(&before), (6, 8));
        assert_eq!(before.shared_with(&all), (6, 8));
    }

    proptest! {
        #[test]
        fn behaves_like_a_map(
            changes in prop::collection::vec((prop_oneof![0usize..70, 0usize..40_000], prop::option::of(any::<u8>())), 0..80),
        ) {
            let mut model: BTreeMap<usize, u8> = BTreeMap::new();
            let mut slots = Slots::default();
            for (slot, value) in changes {
                let before = slots.clone();
                let was = model.get(&slot).copied();
                *slots.get_mut(slot) = value;
                match value {
                    Some(value) => drop(model.insert(slot, value)),
                    None => drop(model.remove(&slot)),
                }
                prop_assert_eq!(before.get(slot).copied(), was);
                prop_assert_eq!(slots.get(slot), model.get(&slot));
                prop_assert!(slots.iter().eq(model.values()));
                prop_assert_eq!(slots.end(), model.keys().last().map_or(0, |last| last + 1));
            }
        }
    }
}
