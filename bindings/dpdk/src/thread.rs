use std::marker::PhantomData;

use crate::{Eal, Error, census};

impl Eal {
    /// Makes the calling thread one of DPDK's, so that mempools give it a cache:
    /// without, each allocation takes three times as long. To be called before
    /// the thread's first use of a pool or ring, and after its affinity is set,
    /// which tells DPDK its NUMA node. Ends when the result is dropped.
    ///
    /// # Errors
    /// [`Error::AlreadyRegistered`], or [`Error::Call`] if no lcore number is
    /// left or another process shares EAL's memory.
    pub fn register_thread(&self) -> Result<ThreadRegistration, Error> {
        census::register()?;
        Ok(ThreadRegistration { _eal: self.clone(), _of_this_thread: PhantomData })
    }
}

/// The calling thread is one of DPDK's until this is dropped.
#[derive(Debug)]
pub struct ThreadRegistration {
    _eal: Eal,
    /// A registration cannot move to another thread.
    _of_this_thread: PhantomData<*const ()>,
}

impl ThreadRegistration {
    /// The number that DPDK knows the thread by.
    pub fn lcore(&self) -> u32 {
        // SAFETY: reads a number of the calling thread.
        unsafe { dpdk_sys::sgs_lcore_id() }
    }
}

impl Drop for ThreadRegistration {
    fn drop(&mut self) {
        census::unregister();
    }
}
