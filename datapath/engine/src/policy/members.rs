use std::sync::Arc;

use super::SourceId;
use crate::addr::Addr;
use crate::ids::VpcIndex;
use crate::shards::{KeyHash, MAX_VALUES, ShardMap};

/// The most groups an interface may have (EC2's upper bound, D20).
pub const MAX_GROUPS: usize = 16;

const _: () = assert!(MAX_GROUPS <= MAX_VALUES);

type Key = (VpcIndex, Addr);

/// Which groups each address of an interface stands for.
#[derive(Clone, Debug, Default)]
pub struct Members(ShardMap<SourceId>);

impl Members {
    /// The groups of the interface in this VPC that has this address; none if
    /// no interface has it.
    #[inline]
    pub fn get(&self, vpc: VpcIndex, addr: Addr) -> &[SourceId] {
        self.get_hashed(KeyHash::of(addr.0), vpc, addr)
    }

    #[inline]
    pub(super) fn get_hashed(&self, hash: KeyHash, vpc: VpcIndex, addr: Addr) -> &[SourceId] {
        self.0.get(hash, vpc, addr.0).unwrap_or(&[])
    }

    #[inline]
    pub(super) fn prefetch(&self, hash: KeyHash, vpc: VpcIndex, addr: Addr) {
        self.0.prefetch(hash, vpc, addr.0);
    }

    /// The same with changes; `None` removes, and of several changes of one
    /// address the last counts. What a change costs does not depend on how many
    /// addresses there are.
    ///
    /// # Panics
    /// If an address stands for more than [`MAX_GROUPS`] groups: the caller has
    /// validated that none does.
    pub fn with_changes(&self, changes: impl IntoIterator<Item = (Key, Option<Arc<[SourceId]>>)>) -> Members {
        Members(self.0.with_changes(changes.into_iter().map(|((vpc, addr), groups)| ((vpc, addr.0), groups))))
    }

    /// Addresses of all interfaces together.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many parts of the table two have in common, and of how many.
    pub fn shared_with(&self, other: &Members) -> (usize, usize) {
        self.0.shared_with(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_copies_one_part_and_leaves_the_original() {
        let key = |n: u32| (VpcIndex(0), Addr::v4(n));
        let groups: Arc<[SourceId]> = Arc::new([SourceId(1), SourceId(2)]);
        let before = Members::default().with_changes((0..1000).map(|n| (key(n), Some(groups.clone()))));
        let after = before.with_changes([(key(7), None)]);
        let (shared, all) = after.shared_with(&before);
        assert_eq!(shared, all - 1);
        assert_eq!((before.len(), after.len()), (1000, 999));
        assert_eq!(before.get(VpcIndex(0), Addr::v4(7)), &*groups);
        assert!(after.get(VpcIndex(0), Addr::v4(7)).is_empty());
        assert!(after.get(VpcIndex(1), Addr::v4(8)).is_empty(), "another VPC");
        assert!(!after.is_empty() && Members::default().is_empty());
    }
}
