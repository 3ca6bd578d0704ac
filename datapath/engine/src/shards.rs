//! A map by addresses, for readers that must not wait and a writer that changes
//! little at a time.
//!
//! # Design
//! Entries lie in 4096 shards, three levels of 16; a map with changes shares with
//! the one before every shard in which nothing changed, so that what a change
//! costs does not depend on how many entries there are. A part that is copied
//! counts up all that it shares, each count in a line of its own, most of them far:
//! hence small parts. A shard that others have is never written to: it is made
//! anew, with linear probing over cache lines of two entries each, two thirds
//! full; or copied as it is where one key gets other values that fit beside it.
//!
//! Most addresses that are asked about are strangers', where much traffic is with the
//! world: where no key is near one, no shard is read ([`Vicinity`]).
//!
//! The hash is keyed (three rounds of AES, see [`crate::flow`]), one key for
//! all maps of the process: one hash of an address serves each of them.
//!
//! Rejected: one table of interned lists of values beside the entries (a second
//! line to wait for on each lookup, and lists to count references of); 256
//! shards of one level (a change among a million entries copies 200 KB); two
//! levels of 64 (four times as many counts to go up and down).

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock};

use crate::arch::{aes_round, prefetch_slice};
use crate::ids::VpcIndex;
use crate::vicinity::Vicinity;

/// Shards of a group, groups of a wing, and wings of a map.
const FAN: usize = 16;

/// Values that lie beside their key; more lie apart.
const INLINE: usize = 3;

/// Keys that go before it is noted anew where the others are.
const GONE: usize = 1 << 16;

/// The most values of one key.
pub const MAX_VALUES: usize = 16;

/// The hash of a 128-bit key, whatever map and VPC it is looked up in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHash(u64);

impl KeyHash {
    /// No key's more than any other's.
    pub(crate) const NONE: KeyHash = KeyHash(0);

    /// Hashes under the secret of this process.
    #[inline]
    pub fn of(key: u128) -> KeyHash {
        let keys = &*KEYS;
        KeyHash(aes_round(aes_round(aes_round(key ^ keys[0], keys[1]), keys[2]), 0) as u64)
    }

    /// VPCs number few; whoever picks addresses does not pick these.
    #[inline]
    fn in_vpc(self, vpc: VpcIndex) -> u64 {
        self.0 ^ u64::from(vpc.0).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// Random numbers from the system, by way of the standard library's hasher keys.
static KEYS: LazyLock<[u128; 3]> = LazyLock::new(|| {
    let number = |n: u8| u128::from(RandomState::new().hash_one(n));
    std::array::from_fn(|_| number(0) << 64 | number(1))
});

/// An entry: 32 bytes.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct Slot<V> {
    key: u128,
    values: [V; INLINE],
    vpc: VpcIndex,
    kept: Kept,
}

/// Where the values of a slot are: 0 if it is free, one more than their number
/// if they lie beside the key, or else the place of those that lie apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Kept(u16);

impl Kept {
    const FREE: Kept = Kept(0);
    /// The first number that is a place.
    const APART: u16 = INLINE as u16 + 2;
}

/// A cache line.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
struct Line<V>([Slot<V>; 2]);

const _: () = assert!(size_of::<Line<u32>>() == 64);

/// More values than fit beside a key.
#[derive(Clone, Copy, Debug)]
struct Apart<V> {
    values: [V; MAX_VALUES],
    count: u8,
}

/// Entries that are made anew together.
#[derive(Clone, Debug)]
struct Shard<V> {
    /// Never empty, and never full.
    lines: Arc<[Line<V>]>,
    /// `None` if there are none, as nearly everywhere.
    apart: Option<Arc<[Apart<V>]>>,
    len: u32,
}

type Group<V> = Arc<[Shard<V>; FAN]>;
type Wing<V> = Arc<[Group<V>; FAN]>;

/// From keys in VPCs to a few small values each.
#[derive(Clone, Debug)]
pub struct ShardMap<V> {
    wings: Arc<[Wing<V>; FAN]>,
    /// Where the keys are, and those that have gone since that was noted.
    near: Vicinity,
    /// How many of these there are.
    gone: usize,
}

impl<V: Copy + Default> Default for ShardMap<V> {
    fn default() -> ShardMap<V> {
        let shard = Shard::with([].into_iter(), 0);
        let group: Group<V> = Arc::new(std::array::from_fn(|_| shard.clone()));
        let wing: Wing<V> = Arc::new(std::array::from_fn(|_| group.clone()));
        ShardMap {
            wings: Arc::new(std::array::from_fn(|_| wing.clone())),
            near: Vicinity::default(),
            gone: 0,
        }
    }
}

impl<V: Copy + Default> Shard<V> {
    /// Of so many entries, each key once.
    fn with<'v>(entries: impl Iterator<Item = ((VpcIndex, u128), &'v [V])>, len: usize) -> Shard<V>
    where
        V: 'v,
    {
        // Two slots each, two thirds full: one is free at least.
        let mut lines = vec![Line::default(); len * 3 / 4 + 1];
        let mut apart = Vec::new();
        for ((vpc, key), values) in entries {
            let mut slot = Slot { key, vpc, ..Slot::default() };
            if values.len() <= INLINE {
                slot.values[..values.len()].copy_from_slice(values);
                slot.kept = Kept(values.len() as u16 + 1);
            } else {
                let mut more = Apart { values: [V::default(); MAX_VALUES], count: values.len() as u8 };
                more.values[..values.len()].copy_from_slice(values);
                slot.kept = Kept(
                    u16::try_from(apart.len() + usize::from(Kept::APART))
                        .expect("65,000 entries of one shard of 4096 are more than there are interfaces"),
                );
                apart.push(more);
            }
            let mut at = place(KeyHash::of(key).in_vpc(vpc), lines.len());
            loop {
                if let Some(free) = lines[at].0.iter_mut().find(|slot| slot.kept == Kept::FREE) {
                    *free = slot;
                    break;
                }
                at = next(at, lines.len());
            }
        }
        let apart = (!apart.is_empty()).then(|| apart.into());
        Shard { lines: lines.into(), apart, len: len as u32 }
    }

    #[inline]
    fn get(&self, hash: u64, vpc: VpcIndex, key: u128) -> Option<&[V]> {
        let mut at = place(hash, self.lines.len());
        // As far as there are lines without a free slot, and there is one with.
        loop {
            let [one, other] = &self.lines[at].0;
            for slot in [one, other] {
                if slot.key == key && slot.vpc == vpc && slot.kept != Kept::FREE {
                    return Some(self.values(slot));
                }
            }
            // The second is filled last.
            if other.kept == Kept::FREE {
                return None;
            }
            at = next(at, self.lines.len());
        }
    }

    #[inline]
    fn values<'s>(&'s self, slot: &'s Slot<V>) -> &'s [V] {
        match slot.kept.0.checked_sub(Kept::APART) {
            None => &slot.values[..usize::from(slot.kept.0.saturating_sub(1))],
            Some(place) => {
                let apart = self.apart.as_deref().and_then(|apart| apart.get(usize::from(place)));
                apart.map_or(&[], |apart| &apart.values[..usize::from(apart.count)])
            }
        }
    }

    /// Gives a key other values, if it is there and both they and those that it has lie
    /// beside it. The lines are copied, if others have them too.
    fn replace(&mut self, hash: u64, vpc: VpcIndex, key: u128, values: &[V]) -> bool {
        let mut at = place(hash, self.lines.len());
        let found = loop {
            let slots = &self.lines[at].0;
            if let Some(n) = slots.iter().position(|slot| (slot.key, slot.vpc) == (key, vpc)) {
                break (at, n);
            }
            if slots[1].kept == Kept::FREE {
                return false;
            }
            at = next(at, self.lines.len());
        };
        let (line, n) = found;
        let kept = self.lines[line].0[n].kept;
        if kept == Kept::FREE || kept.0 >= Kept::APART || values.len() > INLINE {
            return false;
        }
        let slot = &mut Arc::make_mut(&mut self.lines)[line].0[n];
        slot.values = [V::default(); INLINE];
        slot.values[..values.len()].copy_from_slice(values);
        slot.kept = Kept(values.len() as u16 + 1);
        true
    }

    fn iter(&self) -> impl Iterator<Item = ((VpcIndex, u128), &[V])> {
        let slots = self.lines.iter().flat_map(|line| &line.0);
        let used = slots.filter(|slot| slot.kept != Kept::FREE);
        used.map(|slot| ((slot.vpc, slot.key), self.values(slot)))
    }
}

/// The line that a hash begins at: by its lower half, scaled.
#[inline]
fn place(hash: u64, lines: usize) -> usize {
    (((hash & 0xffff_ffff) * lines as u64) >> 32) as usize
}

#[inline]
fn next(at: usize, lines: usize) -> usize {
    if at + 1 == lines { 0 } else { at + 1 }
}

/// Wing, group and shard: by the topmost bits.
#[inline]
fn shard_of(hash: u64) -> (usize, usize, usize) {
    ((hash >> 60) as usize, (hash >> 56) as usize % FAN, (hash >> 52) as usize % FAN)
}

impl<V: Copy + Default + PartialEq> ShardMap<V> {
    /// Whether it may have a key, as far as that is known without its hash.
    #[inline]
    pub fn may_have(&self, key: u128) -> bool {
        self.near.may_have(key)
    }

    /// The values of a key; none if it is not there.
    #[inline]
    pub fn get(&self, hash: KeyHash, vpc: VpcIndex, key: u128) -> Option<&[V]> {
        if !self.near.may_have(key) {
            return None;
        }
        let hash = hash.in_vpc(vpc);
        self.shard(hash).get(hash, vpc, key)
    }

    #[inline]
    fn shard(&self, hash: u64) -> &Shard<V> {
        let (wing, group, shard) = shard_of(hash);
        &self.wings[wing][group][shard]
    }

    fn shards(&self) -> impl Iterator<Item = &Shard<V>> {
        self.wings.iter().flat_map(|wing| wing.iter()).flat_map(|group| group.iter())
    }

    /// Asks for the line that the key's entry most likely is in.
    #[inline]
    pub fn prefetch(&self, hash: KeyHash, vpc: VpcIndex, key: u128) {
        if !self.near.may_have(key) {
            return;
        }
        let hash = hash.in_vpc(vpc);
        let lines = &*self.shard(hash).lines;
        prefetch_slice(lines, place(hash, lines.len()));
    }

    /// The same with changes; `None` removes. Of several changes of one key the
    /// last counts. Shards without a change are shared with the original.
    ///
    /// # Panics
    /// If a key has more than [`MAX_VALUES`] values: the caller has validated that.
    pub fn with_changes<L: AsRef<[V]>>(
        &self,
        changes: impl IntoIterator<Item = ((VpcIndex, u128), Option<L>)>,
    ) -> ShardMap<V> {
        let hashed = changes.into_iter().map(|((vpc, key), values)| {
            let count = values.as_ref().map_or(0, |values| values.as_ref().len());
            assert!(count <= MAX_VALUES, "too many values of one key");
            (KeyHash::of(key).in_vpc(vpc), vpc, key, values)
        });
        let mut all: Vec<_> = hashed.collect();
        // Stable: of several of one key the last stays the last.
        all.sort_by_key(|(hash, vpc, key, _)| (shard_of(*hash), *vpc, *key));
        let last = all.chunk_by(|a, b| (a.1, a.2) == (b.1, b.2)).filter_map(<[_]>::last);
        let last = last.map(|(hash, vpc, key, values)| (*hash, *vpc, *key, values.as_ref().map(L::as_ref)));
        let differs = |&(hash, vpc, key, values): &(u64, VpcIndex, u128, Option<&[V]>)| {
            self.shard(hash).get(hash, vpc, key) != values
        };
        let real: Vec<_> = last.filter(differs).collect();
        let mut map = self.clone();
        for (_, _, key, values) in &real {
            match values {
                Some(_) => map.near.add(*key),
                None => map.gone += 1,
            }
        }
        for changes in real.chunk_by(|a, b| shard_of(a.0) == shard_of(b.0)) {
            let (wing, group, shard) = shard_of(changes[0].0);
            let wing = &mut Arc::make_mut(&mut map.wings)[wing];
            let shard = &mut Arc::make_mut(&mut Arc::make_mut(wing)[group])[shard];
            if let [(hash, vpc, key, Some(values))] = changes
                && shard.replace(*hash, *vpc, *key, values)
            {
                continue;
            }
            let stays = |of: (VpcIndex, u128)| changes.binary_search_by_key(&of, |c| (c.1, c.2)).is_err();
            let old = shard.iter().filter(|(key, _)| stays(*key));
            let new = changes.iter().filter_map(|(_, vpc, key, values)| Some(((*vpc, *key), (*values)?)));
            let entries: Vec<_> = old.chain(new).collect();
            let len = entries.len();
            let made = Shard::with(entries.into_iter(), len);
            *shard = made;
        }
        if map.gone >= GONE {
            let keys = map.shards().flat_map(Shard::iter).map(|((_, key), _)| key);
            (map.near, map.gone) = (Vicinity::of(keys), 0);
        }
        map
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.shards().map(|shard| shard.len as usize).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many shards two maps have in common, and of how many.
    pub fn shared_with(&self, other: &ShardMap<V>) -> (usize, usize) {
        let pairs = self.shards().zip(other.shards());
        (pairs.filter(|(a, b)| Arc::ptr_eq(&a.lines, &b.lines)).count(), FAN * FAN * FAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Addr;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Key = (VpcIndex, u128);

    fn get(map: &ShardMap<u32>, (vpc, key): Key) -> Option<&[u32]> {
        let hash = KeyHash::of(key);
        map.prefetch(hash, vpc, key);
        map.get(hash, vpc, key)
    }

    #[test]
    fn a_change_makes_one_shard_anew_and_leaves_the_original() {
        let key = |n: u128| (VpcIndex(0), n);
        let before = ShardMap::default().with_changes((0..10_000).map(|n| (key(n), Some([n as u32]))));
        let after = before.with_changes([(key(7), None::<[u32; 1]>)]);
        assert_eq!(after.shared_with(&before), (4095, 4096));
        assert_eq!((before.len(), after.len()), (10_000, 9999));
        assert_eq!((get(&before, key(7)), get(&after, key(7))), (Some(&[7][..]), None));
        assert_eq!(get(&after, (VpcIndex(1), 8)), None, "another VPC");
        // What changes nothing shares everything.
        let same = after.with_changes([(key(7), None), (key(8), Some([9])), (key(8), Some([8]))]);
        assert_eq!(same.shared_with(&after), (4096, 4096));
        assert!(!after.is_empty() && ShardMap::<u32>::default().is_empty());
    }

    #[test]
    fn whose_neighbours_have_all_gone_is_a_stranger_again() {
        let host = |part: u32, n: u32| (VpcIndex(0), Addr::v4(part << 16 | n).0);
        let all = (0..40_000).flat_map(|n| [(host(1, n), Some([1])), (host(2, n), Some([2]))]);
        let before = ShardMap::default().with_changes(all.clone());
        let first = before.with_changes((0..40_000).map(|n| (host(1, n), None::<[u32; 1]>)));
        assert!(first.may_have(host(1, 0).1), "not noted anew yet");
        let most = first.with_changes((0..39_999).map(|n| (host(2, n), None::<[u32; 1]>)));
        assert!(!most.may_have(host(1, 0).1));
        assert!(most.may_have(host(2, 0).1) && before.may_have(host(1, 0).1));
        assert_eq!((get(&most, host(2, 39_999)), most.len()), (Some(&[2][..]), 1));
    }

    #[test]
    #[should_panic(expected = "too many values")]
    fn more_values_than_there_may_be_are_refused() {
        drop(ShardMap::default().with_changes([((VpcIndex(0), 1), Some([0u32; 17]))]));
    }

    #[test]
    fn lines_are_found_in_few_steps_whatever_the_keys() {
        // A subnet, hosts of many subnets, and IPv6 addresses made from MACs.
        let sets: [fn(u128) -> u128; 3] =
            [|n| 0xffff_0a00_0000 + n, |n| 0xffff_0a00_0001 + (n << 8), |n| 0xfd00 << 112 | n << 24];
        for of in sets {
            let keys = (0..100_000).map(|n| ((VpcIndex(0), of(n)), Some([n as u32])));
            let map = ShardMap::default().with_changes(keys);
            let shards: Vec<u32> = map.shards().map(|s| s.len).collect();
            // 24.4 each, with a deviation of 4.9.
            assert!(shards.iter().all(|len| (1..65).contains(len)), "{:?}", shards.iter().max());
            let full = map.shards().flat_map(|s| {
                let full = s.lines.iter().map(|line| line.0[1].kept != Kept::FREE);
                full.collect::<Vec<_>>().chunk_by(|a, b| *a && *b).map(<[bool]>::len).max()
            });
            assert!(full.max().unwrap() < 40);
        }
    }

    /// Few keys, so that changes meet what is there, and many in one shard with luck; beside
    /// each other, and each in a part of the address space of its own.
    fn key(n: u128) -> u128 {
        match n % 4 {
            0 | 1 => n,
            2 => 0xffff_0a00_0000 + (n << 16),
            _ => 0xfd00 << 112 | n << 80,
        }
    }

    fn keys() -> impl Strategy<Value = Key> {
        (0u16..3, 0u128..40).prop_map(|(vpc, n)| (VpcIndex(vpc), key(n)))
    }

    proptest! {
        #[test]
        fn behaves_like_a_map(
            rounds in proptest::collection::vec(
                proptest::collection::vec((keys(), proptest::option::of(proptest::collection::vec(any::<u32>(), 0..=16))), 0..40),
                1..6,
            )
        ) {
            let mut model: BTreeMap<Key, Vec<u32>> = BTreeMap::new();
            let mut map = ShardMap::default();
            for changes in rounds {
                let (old, before) = (map.clone(), model.clone());
                map = map.with_changes(changes.clone());
                for (key, values) in changes {
                    match values {
                        Some(values) => drop(model.insert(key, values)),
                        None => drop(model.remove(&key)),
                    }
                }
                prop_assert_eq!(map.len(), model.len());
                for vpc in 0..3 {
                    for key in (0..40).map(|n| (VpcIndex(vpc), key(n))) {
                        prop_assert_eq!(get(&map, key), model.get(&key).map(Vec::as_slice));
                        prop_assert_eq!(get(&old, key), before.get(&key).map(Vec::as_slice));
                    }
                }
            }
        }
    }
}
