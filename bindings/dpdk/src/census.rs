//! When the memory of a pool may go.
//!
//! Mbufs hold no reference to their pool: counting would cost an atomic per
//! packet. So a pool that nobody refers to any more is *retired*: nothing can
//! allocate from it, what is out comes back, and once all is back it is freed.
//!
//! "All is back" cannot be asked while another thread may be putting mbufs into
//! its cache: `rte_mempool_put` raises the cache's fill before it writes the
//! entry, and sends a full cache to the common ring before it lowers the fill.
//! A thread without a cache puts straight into the ring, and the new tail, which
//! is what the question reads, is the last thing it writes. Only registered
//! threads have caches, so retired pools are looked at when there is none but
//! the calling one; until then they wait. A pool that never gets an mbuf back
//! keeps its memory, and EAL, to the end of the process.

use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{Eal, Error};

/// A pool without users.
pub(crate) struct Retired {
    pub raw: NonNull<dpdk_sys::rte_mempool>,
    /// The memory is EAL's.
    pub _eal: Eal,
}

// SAFETY: DPDK's pools are not bound to a thread.
unsafe impl Send for Retired {}

struct Census {
    /// Threads that are registered now, and so have caches.
    threads: usize,
    retired: Vec<Retired>,
}

static CENSUS: Mutex<Census> = Mutex::new(Census { threads: 0, retired: Vec::new() });

thread_local! {
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
}

fn census() -> MutexGuard<'static, Census> {
    CENSUS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Census {
    /// Frees the retired pools that have all their mbufs back, if it can be told.
    fn sweep(&mut self) {
        if self.threads > usize::from(REGISTERED.get()) {
            return;
        }
        self.retired.retain(|pool| {
            // SAFETY: the pool is valid until it is freed below.
            if unsafe { dpdk_sys::rte_mempool_in_use_count(pool.raw.as_ptr()) } > 0 {
                return true;
            }
            // Pairs with the release of the tail by which the last mbuf came back.
            fence(Ordering::Acquire);
            // SAFETY: no `Mempool` refers to the pool, no mbuf of it is out, and
            // no other thread is in the middle of giving one back (see above).
            unsafe { dpdk_sys::rte_mempool_free(pool.raw.as_ptr()) };
            false
        });
    }
}

/// Gives the calling thread an lcore number, and so mempool caches.
pub(crate) fn register() -> Result<(), Error> {
    let mut census = census();
    if REGISTERED.get() {
        return Err(Error::AlreadyRegistered);
    }
    // SAFETY: EAL is started, the caller has an `Eal`; the thread is not registered.
    if unsafe { dpdk_sys::rte_thread_register() } != 0 {
        return Err(Error::last("registering a thread with EAL"));
    }
    census.threads += 1;
    REGISTERED.set(true);
    Ok(())
}

/// Takes it back. To be called on the thread that registered.
pub(crate) fn unregister() {
    let mut census = census();
    // SAFETY: the calling thread is registered.
    unsafe { dpdk_sys::rte_thread_unregister() };
    census.threads -= 1;
    REGISTERED.set(false);
    census.sweep();
}

/// Frees a pool without users as soon as it is whole.
pub(crate) fn retire(pool: Retired) {
    let mut census = census();
    census.retired.push(pool);
    census.sweep();
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::census;
    use crate::{Eal, Error, Mbuf, Mempool, MempoolConfig};

    fn retired() -> usize {
        census().retired.len()
    }

    fn pool(eal: &Eal, name: &str) -> Mempool {
        Mempool::new(eal, name, &MempoolConfig { mbufs: 255, cache: 32, ..MempoolConfig::default() }).unwrap()
    }

    /// The only test of this program that starts EAL, which happens once.
    #[test]
    fn a_pool_goes_when_it_is_whole_and_nobody_is_about_to_use_it() {
        let arguments = ["--no-huge", "--no-shconf", "--no-pci", "-m", "64", "--log-level", "error"];
        let eal = Eal::init("census", &arguments.map(String::from)).unwrap();

        // Whole: at once, and its name is free again.
        drop(pool(&eal, "whole"));
        assert_eq!(retired(), 0);
        drop(pool(&eal, "whole"));

        // An mbuf is out: its bytes stay, and the pool goes with the next occasion.
        let survivor = {
            let pool = pool(&eal, "early");
            Mbuf::from_bytes(&pool, &[7; 60]).unwrap()
        };
        assert_eq!((retired(), survivor.data()), (1, &[7; 60][..]));
        drop(pool(&eal, "next"));
        assert_eq!(retired(), 1);
        drop(survivor);
        drop(pool(&eal, "next"));
        assert_eq!(retired(), 0);

        // A registered thread may be putting one back: not before it has left.
        let (ready, wait) = mpsc::channel();
        let (leave, until) = mpsc::channel::<()>();
        let other = {
            let eal = eal.clone();
            thread::spawn(move || {
                let _registered = eal.register_thread().unwrap();
                assert_eq!(eal.register_thread().unwrap_err(), Error::AlreadyRegistered);
                ready.send(()).unwrap();
                until.recv().unwrap_err();
            })
        };
        wait.recv().unwrap();
        drop(pool(&eal, "busy"));
        assert_eq!(retired(), 1);
        drop(leave);
        other.join().unwrap();
        assert_eq!(retired(), 0);

        // The calling thread itself is not about to.
        let registered = eal.register_thread().unwrap();
        drop(pool(&eal, "own"));
        assert_eq!(retired(), 0);
        drop(registered);

        // The end: a second start is refused also after it.
        drop(eal);
        assert_eq!(Eal::init("census", &[]).unwrap_err(), Error::AlreadyStarted);
    }
}
