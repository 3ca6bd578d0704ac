//! All interleavings of a publisher and its readers:
//! `RUSTFLAGS="--cfg loom" cargo test -p rcu --release --test loom`.
#![cfg(loom)]

use loom::cell::UnsafeCell;
use loom::thread;

/// A value whose use and end loom watches: a read that could meet the drop, or
/// come after it, fails the model.
struct Watched(UnsafeCell<u64>);

impl Watched {
    fn new(n: u64) -> Box<Watched> {
        Box::new(Watched(UnsafeCell::new(n)))
    }

    fn read(&self) -> u64 {
        // SAFETY: loom reports the access if anything writes at the same time.
        #[allow(unsafe_code)]
        self.0.with(|n| unsafe { *n })
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // SAFETY: as above.
        #[allow(unsafe_code)]
        self.0.with_mut(|n| unsafe { *n = u64::MAX });
    }
}

// SAFETY: what shared use is allowed is the very thing that loom checks.
#[allow(unsafe_code)]
unsafe impl Sync for Watched {}

#[test]
fn no_reader_meets_a_freed_value() {
    loom::model(|| {
        let (mut publisher, mut readers) = rcu::channel(Watched::new(0), 1);
        let mut reader = readers.remove(0);
        let reading = thread::spawn(move || {
            let first = reader.pin().read();
            let second = reader.pin().read();
            assert!(first <= second && second <= 2, "{first} then {second}");
        });
        publisher.publish(Watched::new(1));
        publisher.reclaim();
        publisher.publish(Watched::new(2));
        publisher.reclaim();
        reading.join().unwrap();
        assert_eq!(publisher.enforced(), 2);
    });
}

#[test]
fn what_is_enforced_is_what_readers_see() {
    loom::model(|| {
        let (mut publisher, mut readers) = rcu::channel(Watched::new(0), 2);
        let (mut one, mut two) = (readers.remove(0), readers.remove(0));
        let reading = thread::spawn(move || {
            let seen = one.pin().read();
            (one, seen)
        });
        let version = publisher.publish(Watched::new(1));
        two.pin().read();
        let enforced = publisher.enforced() >= version;
        publisher.reclaim();
        let (mut one, seen) = reading.join().unwrap();
        if enforced {
            assert_eq!(seen, 1);
        }
        assert_eq!(one.pin().read(), 1);
        assert_eq!((publisher.enforced(), publisher.reclaim() <= 1), (1, true));
    });
}
