//! Publication by pointer swap with quiescent states (QSBR): one publisher, a
//! fixed number of readers.
//!
//! A reader that asks for the current value says by that very call that it has
//! let go of the one before: [`Reader::pin`] borrows the reader mutably, so the
//! borrow checker proves it. Reading costs two loads, and a store only when
//! something was published. Old values are freed by the publisher's thread
//! alone, since freeing a large one would stall a packet loop.
//!
//! Instead of crossbeam-epoch or arc-swap, because those free on whichever
//! thread is last; instead of left-right, because two copies of a policy take
//! twice the memory.
//!
//! # Why it is sound
//! Publishing version v swaps the pointer (P1), then stores v (P2, release).
//! Pinning loads the version (R1, acquire), announces it (R2, release), then
//! loads the pointer (R3). The publisher frees what v replaced once every
//! reader has announced v or later (P3, acquire).
//!
//! - A reader that announced v has seen P2, and so P1: its R3 finds the pointer
//!   of v or a later one, never what v replaced.
//! - What a reader did with an older value came before its R2; P3 has seen R2,
//!   so freeing comes after.
//!
//! `tests/loom.rs` lets a model checker try all interleavings.

#![allow(unsafe_code)]

use std::collections::VecDeque;

use crossbeam_utils::CachePadded;

#[cfg(loom)]
use loom::sync::{
    Arc, Mutex,
    atomic::{AtomicPtr, AtomicU64, Ordering},
};
#[cfg(not(loom))]
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicPtr, AtomicU64, Ordering},
};

/// What a reader that is gone has announced: it holds nothing up.
const GONE: u64 = u64::MAX;

struct Shared<T> {
    current: AtomicPtr<T>,
    version: AtomicU64,
    announced: Box<[CachePadded<AtomicU64>]>,
    /// Values that were replaced, each with the version that replaced it. Only
    /// the publisher locks it; it is here because readers may outlive it.
    retired: Mutex<VecDeque<(u64, Retired<T>)>>,
}

struct Retired<T>(*mut T);

// SAFETY: the pointer owns its value, which may be dropped on another thread.
unsafe impl<T: Send> Send for Retired<T> {}

impl<T> Drop for Retired<T> {
    fn drop(&mut self) {
        // SAFETY: made by `Box::into_raw`, and no reader refers to it (P3 above,
        // or there are no readers left).
        drop(unsafe { Box::from_raw(self.0) });
    }
}

// SAFETY: readers on several threads share references to `T`, and the last
// owner of `Shared` drops it.
unsafe impl<T: Send + Sync> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        drop(Retired(self.current.load(Ordering::Acquire)));
    }
}

/// The side that replaces the value and frees what was replaced.
pub struct Publisher<T> {
    shared: Arc<Shared<T>>,
}

/// One side that reads the value.
pub struct Reader<T> {
    shared: Arc<Shared<T>>,
    index: usize,
    /// What it has announced, so that it announces only what is new.
    announced: u64,
}

/// A value, version 0, for one publisher and this many readers.
pub fn channel<T: Send + Sync>(initial: Box<T>, readers: usize) -> (Publisher<T>, Vec<Reader<T>>) {
    let shared = Arc::new(Shared {
        current: AtomicPtr::new(Box::into_raw(initial)),
        version: AtomicU64::new(0),
        announced: (0..readers).map(|_| CachePadded::new(AtomicU64::new(0))).collect(),
        retired: Mutex::new(VecDeque::new()),
    });
    let reader = |index| Reader { shared: shared.clone(), index, announced: 0 };
    let readers = (0..readers).map(reader).collect();
    (Publisher { shared }, readers)
}

impl<T> Publisher<T> {
    /// Replaces the value. Returns its version.
    pub fn publish(&mut self, value: Box<T>) -> u64 {
        let version = self.shared.version.load(Ordering::Relaxed) + 1;
        // P1, then P2: who sees the version sees the pointer. Acquire, so that
        // the old value is seen whole by whoever drops it.
        let old = self.shared.current.swap(Box::into_raw(value), Ordering::AcqRel);
        self.shared.version.store(version, Ordering::Release);
        self.retired().push_back((version, Retired(old)));
        version
    }

    /// The version that every reader has reached: whatever it judges from now
    /// on, it judges by this one or a later one. The newest if there are no readers.
    pub fn enforced(&self) -> u64 {
        let published = self.shared.version.load(Ordering::Relaxed);
        // P3.
        let announced = self.shared.announced.iter().map(|a| a.load(Ordering::Acquire));
        announced.fold(published, u64::min)
    }

    /// The version each reader has reached, `None` for one that is gone.
    pub fn reached(&self) -> Vec<Option<u64>> {
        let announced = self.shared.announced.iter().map(|a| a.load(Ordering::Acquire));
        announced.map(|a| (a != GONE).then_some(a)).collect()
    }

    /// Frees what no reader can refer to any more. Returns how many values.
    pub fn reclaim(&mut self) -> usize {
        let enforced = self.enforced();
        let mut retired = self.retired();
        let free = retired.iter().take_while(|(version, _)| *version <= enforced).count();
        retired.drain(..free).count()
    }

    fn retired(&self) -> impl std::ops::DerefMut<Target = VecDeque<(u64, Retired<T>)>> {
        self.shared.retired.lock().expect("only the publisher locks, and it does not panic meanwhile")
    }
}

impl<T> Reader<T> {
    /// The current value. That the reader is borrowed mutably means that nothing
    /// of an earlier call is in use: this is its quiescent state.
    #[inline]
    pub fn pin(&mut self) -> &T {
        // R1, R2, R3: in this order.
        let version = self.shared.version.load(Ordering::Acquire);
        if version != self.announced {
            self.shared.announced[self.index].store(version, Ordering::Release);
            self.announced = version;
        }
        let current = self.shared.current.load(Ordering::Acquire);
        // SAFETY: a value is freed only when this reader has announced a version
        // that replaced it, which it does in the next call, when this borrow has ended.
        unsafe { &*current }
    }
}

impl<T> Drop for Reader<T> {
    fn drop(&mut self) {
        self.shared.announced[self.index].store(GONE, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicUsize};

    /// Counts how many of its kind live.
    struct Counted(u64, Arc<AtomicUsize>);

    impl Counted {
        fn new(n: u64, alive: &Arc<AtomicUsize>) -> Box<Counted> {
            alive.fetch_add(1, Ordering::SeqCst);
            Box::new(Counted(n, alive.clone()))
        }
    }

    impl Drop for Counted {
        fn drop(&mut self) {
            self.0 = u64::MAX;
            self.1.fetch_sub(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_value_is_freed_when_every_reader_has_moved_on() {
        let alive = Arc::new(AtomicUsize::new(0));
        let (mut publisher, mut readers) = channel(Counted::new(0, &alive), 2);
        assert_eq!((readers[0].pin().0, readers[1].pin().0), (0, 0));
        assert_eq!(publisher.publish(Counted::new(1, &alive)), 1);
        assert_eq!((publisher.enforced(), publisher.reclaim()), (0, 0));
        assert_eq!(readers[0].pin().0, 1);
        assert_eq!((publisher.enforced(), publisher.reclaim(), alive.load(Ordering::SeqCst)), (0, 0, 2));
        assert_eq!(publisher.reached(), [Some(1), Some(0)]);
        assert_eq!(readers[1].pin().0, 1);
        assert_eq!((publisher.enforced(), publisher.reclaim(), alive.load(Ordering::SeqCst)), (1, 1, 1));
        // A reader that has gone holds nothing up.
        publisher.publish(Counted::new(2, &alive));
        publisher.publish(Counted::new(3, &alive));
        drop(readers.remove(0));
        assert_eq!(readers[0].pin().0, 3);
        assert_eq!((publisher.enforced(), publisher.reclaim(), alive.load(Ordering::SeqCst)), (3, 2, 1));
        // Readers may outlive the publisher, and what it had not freed yet.
        publisher.publish(Counted::new(4, &alive));
        drop(publisher);
        assert_eq!((readers[0].pin().0, alive.load(Ordering::SeqCst)), (4, 2));
        drop(readers);
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn without_readers_all_is_enforced() {
        let (mut publisher, _) = channel(Box::new(0), 0);
        publisher.publish(Box::new(1));
        assert_eq!((publisher.enforced(), publisher.reclaim()), (1, 1));
    }

    #[test]
    fn threads_see_versions_in_order_and_none_that_is_freed() {
        let alive = Arc::new(AtomicUsize::new(0));
        let stop = AtomicBool::new(false);
        let (mut publisher, readers) = channel(Counted::new(0, &alive), 2);
        std::thread::scope(|scope| {
            for mut reader in readers {
                let stop = &stop;
                scope.spawn(move || {
                    let mut last = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let value = reader.pin();
                        assert!(value.0 != u64::MAX && value.0 >= last);
                        last = value.0;
                    }
                });
            }
            for n in 1..20_000 {
                assert_eq!(publisher.publish(Counted::new(n, &alive)), n);
                publisher.reclaim();
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!((publisher.enforced(), publisher.reclaim() < 20_000), (19_999, true));
        assert_eq!(alive.load(Ordering::SeqCst), 1);
    }
}
