use std::sync::Arc;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

use super::SourceId;
use crate::addr::Addr;
use crate::ids::VpcIndex;

/// The most groups an interface may have (EC2's upper bound, D20).
pub const MAX_GROUPS: usize = 16;

/// Parts that a snapshot shares with the one before, where nothing changed in them.
const SHARDS: usize = 256;

type Key = (VpcIndex, Addr);
type Shard = HashTable<(Key, Arc<[SourceId]>)>;

/// The shard of a key with this hash. Tables take their tags from the topmost
/// bits and their places from the lowest.
#[inline]
fn shard_of(hash: u64) -> usize {
    (hash >> 32) as usize % SHARDS
}

/// Which groups each address of an interface stands for.
#[derive(Clone, Debug)]
pub struct Members {
    shards: Vec<Arc<Shard>>,
    hasher: DefaultHashBuilder,
}

impl Default for Members {
    fn default() -> Members {
        Members { shards: vec![Arc::default(); SHARDS], hasher: DefaultHashBuilder::default() }
    }
}

impl Members {
    /// The groups of the interface in this VPC that has this address; none if
    /// no interface has it.
    #[inline]
    pub fn get(&self, vpc: VpcIndex, addr: Addr) -> &[SourceId] {
        let key = (vpc, addr);
        let hash = self.hasher.hash_one(key);
        self.shards[shard_of(hash)].find(hash, |member| member.0 == key).map_or(&[], |member| &member.1)
    }

    /// The same with changes; `None` removes. Shards without a change are
    /// shared with the original.
    ///
    /// # Panics
    /// If an address stands for more than [`MAX_GROUPS`] groups: the caller has
    /// validated that none does.
    pub fn with_changes(&self, changes: impl IntoIterator<Item = (Key, Option<Arc<[SourceId]>>)>) -> Members {
        let mut next = self.clone();
        for (key, groups) in changes {
            let hasher = &next.hasher;
            let hash = hasher.hash_one(key);
            let shard = Arc::make_mut(&mut next.shards[shard_of(hash)]);
            let at = shard.entry(hash, |member| member.0 == key, |member| hasher.hash_one(member.0));
            match (groups, at) {
                (Some(groups), at) => {
                    assert!(groups.len() <= MAX_GROUPS, "{} groups on one interface", groups.len());
                    at.insert((key, groups));
                }
                (None, Entry::Occupied(member)) => drop(member.remove()),
                (None, Entry::Vacant(_)) => {}
            }
        }
        next
    }

    /// Addresses of all interfaces together.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|s| s.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.shards.iter().all(|s| s.is_empty())
    }

    /// How many shards two tables have in common.
    #[cfg(test)]
    fn shared_with(&self, other: &Members) -> usize {
        self.shards.iter().zip(&other.shards).filter(|(a, b)| Arc::ptr_eq(a, b)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_copies_one_shard_and_leaves_the_original() {
        let key = |n: u32| (VpcIndex(0), Addr::v4(n));
        let groups: Arc<[SourceId]> = Arc::new([SourceId(1), SourceId(2)]);
        let before = Members::default().with_changes((0..1000).map(|n| (key(n), Some(groups.clone()))));
        let after = before.with_changes([(key(7), None)]);
        assert_eq!(after.shared_with(&before), SHARDS - 1);
        assert_eq!((before.len(), after.len()), (1000, 999));
        assert_eq!(before.get(VpcIndex(0), Addr::v4(7)), &*groups);
        assert!(after.get(VpcIndex(0), Addr::v4(7)).is_empty());
        assert!(after.get(VpcIndex(1), Addr::v4(8)).is_empty(), "another VPC");
        assert!(!after.is_empty() && Members::default().is_empty());
    }
}
