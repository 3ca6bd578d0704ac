use std::ffi::CString;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::census::{self, Retired};
use crate::{Eal, Error};

/// How large a pool is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MempoolConfig {
    /// How many mbufs; one less than a power of two wastes the least memory.
    pub mbufs: u32,
    /// How many each thread keeps at hand (at most 512).
    pub cache: u32,
    /// Bytes of a frame that fit one mbuf; its headroom comes on top.
    pub data_room: u16,
    /// The NUMA node, `None` for any.
    pub socket: Option<u32>,
}

impl Default for MempoolConfig {
    fn default() -> MempoolConfig {
        MempoolConfig { mbufs: 16_383, cache: 256, data_room: 2048, socket: None }
    }
}

/// A pool of mbufs. Copies share it; when the last one and every port that fills
/// its mbufs are gone, it is freed as soon as all mbufs are back.
#[derive(Clone, Debug)]
pub struct Mempool(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    raw: NonNull<dpdk_sys::rte_mempool>,
    name: String,
    config: MempoolConfig,
    eal: Eal,
}

// SAFETY: DPDK's mempools may be used by any thread at any time.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

impl Drop for Pool {
    fn drop(&mut self) {
        census::retire(Retired { raw: self.raw, _eal: self.eal.clone() });
    }
}

impl Mempool {
    /// Makes a pool; the name is DPDK's, unique in the process.
    ///
    /// # Errors
    /// [`Error::Call`] if there is not enough memory, or the name is taken.
    pub fn new(eal: &Eal, name: &str, config: &MempoolConfig) -> Result<Mempool, Error> {
        let c_name = CString::new(name).map_err(|_| Error::ZeroByte(name.to_string()))?;
        let room = config.data_room.saturating_add(dpdk_sys::RTE_PKTMBUF_HEADROOM as u16);
        let socket = config.socket.map_or(-1, |s| s as i32);
        // SAFETY: EAL is started, the name lives through the call.
        let raw = unsafe {
            dpdk_sys::rte_pktmbuf_pool_create(c_name.as_ptr(), config.mbufs, config.cache, 0, room, socket)
        };
        match NonNull::new(raw) {
            Some(raw) => {
                Ok(Mempool(Arc::new(Pool { raw, name: name.to_string(), config: *config, eal: eal.clone() })))
            }
            None => Err(Error::last(format!("making the pool '{name}' of {} mbufs", config.mbufs))),
        }
    }

    /// A pool like this one at a NUMA node, or at any.
    ///
    /// # Errors
    /// As [`Mempool::new`]; there may be no memory at that node.
    pub fn sibling(&self, name: &str, socket: Option<u32>) -> Result<Mempool, Error> {
        Mempool::new(&self.0.eal, name, &MempoolConfig { socket, ..self.0.config })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// How many mbufs are in the pool, the threads' caches included. While
    /// others use the pool, this is an estimate.
    pub fn available(&self) -> u32 {
        // SAFETY: the pool is valid.
        unsafe { dpdk_sys::rte_mempool_avail_count(self.raw()) }
    }

    /// How many are out, likewise.
    pub fn in_use(&self) -> u32 {
        // SAFETY: the pool is valid.
        unsafe { dpdk_sys::rte_mempool_in_use_count(self.raw()) }
    }

    /// Bytes of a frame that fit one mbuf.
    pub fn data_room(&self) -> u16 {
        self.0.config.data_room
    }

    pub(crate) fn raw(&self) -> *mut dpdk_sys::rte_mempool {
        self.0.raw.as_ptr()
    }
}
