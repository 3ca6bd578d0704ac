//! Objects by their ids, of which a copy shares all that is the same.

use std::borrow::Borrow;
use std::ops::Index;
use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use imbl::shared_ptr::DefaultSharedPtr;

use crate::model::Id;

/// Objects in the order of their ids. A copy costs nothing, a change of one
/// object as much as a search, and what two copies differ in is found by
/// looking at what they do not share.
#[derive(Clone, Debug)]
pub struct ById<T>(OrdMap<Id, Arc<T>>);

impl<T> Default for ById<T> {
    fn default() -> ById<T> {
        ById(OrdMap::new())
    }
}

impl<T: Eq> PartialEq for ById<T> {
    fn eq(&self, other: &ById<T>) -> bool {
        self.0 == other.0
    }
}

impl<T: Eq> Eq for ById<T> {}

/// A persistent map by hash, with the hasher of hashbrown's maps: ids are short, and are
/// looked up all the time.
pub(crate) type HashMap<K, V> = imbl::GenericHashMap<K, V, hashbrown::DefaultHashBuilder, DefaultSharedPtr>;

impl<T> ById<T> {
    /// The object of this id.
    pub fn get(&self, id: &str) -> Option<&T> {
        self.0.get(id).map(Arc::as_ref)
    }

    /// All of them, to be shared.
    pub(crate) fn shared(&self) -> impl Iterator<Item = (&str, &Arc<T>)> {
        self.0.iter().map(|(id, object)| (id.as_str(), object))
    }

    /// Whether both are the same memory, which tells that they are equal.
    pub(crate) fn is_same(&self, other: &ById<T>) -> bool {
        self.0.ptr_eq(&other.0)
    }

    /// Whether there is one of this id.
    pub fn contains_key(&self, id: &str) -> bool {
        self.0.contains_key(id)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ids, in order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &Id> {
        self.0.keys()
    }

    /// The objects, in the order of their ids.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.0.values().map(Arc::as_ref)
    }

    /// Both.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&Id, &T)> {
        self.0.iter().map(|(id, object)| (id, object.as_ref()))
    }

    /// Puts an object under an id, and returns the one that was there.
    pub fn insert(&mut self, id: Id, object: T) -> Option<Arc<T>> {
        self.0.insert(id, Arc::new(object))
    }

    /// Takes an object away.
    pub fn remove(&mut self, id: &str) -> Option<Arc<T>> {
        self.0.remove(id)
    }

    /// The ids at which this and the other differ, in order, each with what both
    /// have there. Costs by what they do not share.
    pub fn differences<'d>(
        &'d self,
        other: &'d ById<T>,
    ) -> impl Iterator<Item = (&'d str, Option<&'d T>, Option<&'d T>)>
    where
        T: Eq,
    {
        self.0.diff(&other.0).map(|difference| match difference {
            DiffItem::Add(id, new) => (id.as_str(), None, Some(new.as_ref())),
            DiffItem::Update { old: (id, old), new: (_, new) } => {
                (id.as_str(), Some(old.as_ref()), Some(new.as_ref()))
            }
            DiffItem::Remove(id, old) => (id.as_str(), Some(old.as_ref()), None),
        })
    }
}

impl<T: Clone> ById<T> {
    /// The object of this id, to be changed; a copy of it, where others share it.
    pub fn get_mut(&mut self, id: &str) -> Option<&mut T> {
        self.0.get_mut(id).map(Arc::make_mut)
    }

    /// The object of this id, made if there is none.
    pub fn or_default(&mut self, id: &str) -> &mut T
    where
        T: Default,
    {
        Arc::make_mut(self.0.entry(id.into()).or_default())
    }

    /// Changes all objects.
    pub fn change_all(&mut self, mut change: impl FnMut(&mut T)) {
        // One by one: what iterates over all of them copies each.
        let ids: Vec<Id> = self.0.keys().cloned().collect();
        for id in ids {
            self.get_mut(&id).into_iter().for_each(&mut change);
        }
    }
}

impl<T: Eq> ById<T> {
    /// Takes over from another what is the same there, so that the two share it.
    pub fn share(&mut self, with: &ById<T>) {
        let mut shared = with.0.clone();
        let differences: Vec<_> = with.0.diff(&self.0).collect();
        for difference in differences {
            match difference {
                DiffItem::Add(id, new) | DiffItem::Update { new: (id, new), .. } => {
                    shared.insert(id.clone(), new.clone());
                }
                DiffItem::Remove(id, _) => drop(shared.remove(id)),
            }
        }
        self.0 = shared;
    }
}

impl<K: Into<Id>, T> FromIterator<(K, T)> for ById<T> {
    fn from_iter<I: IntoIterator<Item = (K, T)>>(objects: I) -> ById<T> {
        ById(objects.into_iter().map(|(id, object)| (id.into(), Arc::new(object))).collect())
    }
}

impl<K: Into<Id>, T> Extend<(K, T)> for ById<T> {
    fn extend<I: IntoIterator<Item = (K, T)>>(&mut self, objects: I) {
        self.0.extend(objects.into_iter().map(|(id, object)| (id.into(), Arc::new(object))));
    }
}

impl<T, Q: Borrow<str> + ?Sized> Index<&Q> for ById<T> {
    type Output = T;

    /// # Panics
    /// If there is no object of this id.
    fn index(&self, id: &Q) -> &T {
        &self.0[id.borrow()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn of(objects: &BTreeMap<u8, u8>) -> ById<u8> {
        objects.iter().map(|(id, object)| (id.to_string(), *object)).collect()
    }

    proptest! {
        #[test]
        fn differences_are_what_differs(
            a in prop::collection::btree_map(0u8..40, 0u8..3, 0..40),
            b in prop::collection::btree_map(0u8..40, 0u8..3, 0..40),
        ) {
            let (one, mut other) = (of(&a), of(&b));
            let found: Vec<_> = one.differences(&other).map(|(id, old, new)| (id.to_string(), old.copied(), new.copied())).collect();
            let mut expected: Vec<_> = (0..40u8)
                .filter(|id| a.get(id) != b.get(id))
                .map(|id| (id.to_string(), a.get(&id).copied(), b.get(&id).copied()))
                .collect();
            expected.sort();
            prop_assert_eq!(&found, &expected);
            let before = other.clone();
            other.share(&one);
            prop_assert_eq!(&other, &before);
            for (id, _) in one.iter().filter(|(id, object)| before.get(id) == Some(object)) {
                prop_assert!(std::ptr::eq(&one[id], &other[id]));
            }
        }
    }
}
