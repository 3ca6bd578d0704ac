use std::ffi::CString;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::{Burst, Eal, Error};

#[derive(Debug)]
struct Ring {
    raw: NonNull<dpdk_sys::rte_ring>,
    _eal: Eal,
}

// SAFETY: a ring is made for one producer and one consumer on different threads;
// that there is one of each is what the two types below see to.
unsafe impl Send for Ring {}
// SAFETY: as above.
unsafe impl Sync for Ring {}

impl Drop for Ring {
    fn drop(&mut self) {
        let mut left = Burst::new();
        while dequeue(self, &mut left) > 0 {
            left.clear();
        }
        // SAFETY: empty, and nobody refers to it.
        unsafe { dpdk_sys::rte_ring_free(self.raw.as_ptr()) };
    }
}

/// Takes packets out; the caller sees to it that nobody else does.
#[inline]
fn dequeue(ring: &Ring, burst: &mut Burst) -> usize {
    burst.fill(|mbufs, n| {
        // SAFETY: the ring is valid, and this is its only consumer now.
        let given = unsafe { dpdk_sys::sgs_ring_dequeue(ring.raw.as_ptr(), mbufs, n.into()) };
        given as usize
    })
}

/// The end of a ring that packets go into.
#[derive(Debug)]
pub struct Producer(Arc<Ring>);

/// The end of a ring that packets come out of, in the same order.
#[derive(Debug)]
pub struct Consumer(Arc<Ring>);

/// A ring from one thread to another, for at least `size` packets. The name is
/// DPDK's, unique in the process. Packets left in it are freed with it.
///
/// # Errors
/// [`Error::Call`] if there is not enough memory, or the name is taken.
pub fn ring(eal: &Eal, name: &str, size: u32) -> Result<(Producer, Consumer), Error> {
    ring_near(eal, name, size, None)
}

/// [`ring`] at a NUMA node, which should be the consumer's, if there is memory.
///
/// # Errors
/// As there.
pub fn ring_near(
    eal: &Eal,
    name: &str,
    size: u32,
    socket: Option<u32>,
) -> Result<(Producer, Consumer), Error> {
    let c_name = CString::new(name).map_err(|_| Error::ZeroByte(name.to_string()))?;
    let flags = dpdk_sys::SGS_RING_F_SP_ENQ | dpdk_sys::SGS_RING_F_SC_DEQ;
    // One place of a ring stays empty. DPDK refuses what is no power of two.
    let places = size.checked_add(1).and_then(u32::checked_next_power_of_two).unwrap_or(u32::MAX);
    let make = |socket| {
        // SAFETY: EAL is started, the name lives through the call.
        NonNull::new(unsafe { dpdk_sys::rte_ring_create(c_name.as_ptr(), places, socket, flags) })
    };
    let near = socket.and_then(|socket| make(socket as i32));
    let raw = near.or_else(|| make(-1)).ok_or_else(|| Error::last(format!("making the ring '{name}'")))?;
    let ring = Arc::new(Ring { raw, _eal: eal.clone() });
    Ok((Producer(ring.clone()), Consumer(ring)))
}

impl Producer {
    /// Puts packets into the ring. Those that do not fit stay in the burst, at
    /// the front. Returns how many went in.
    #[inline]
    pub fn enqueue(&mut self, burst: &mut Burst) -> usize {
        burst.give(burst.len(), |mbufs, n| {
            // SAFETY: the ring is valid, and `&mut self` is its only producer.
            let taken = unsafe { dpdk_sys::sgs_ring_enqueue(self.0.raw.as_ptr(), mbufs, n.into()) };
            taken as usize
        })
    }
}

impl Consumer {
    /// Adds packets from the ring to the burst, as many as there are and fit.
    /// Returns how many.
    #[inline]
    pub fn dequeue(&mut self, burst: &mut Burst) -> usize {
        dequeue(&self.0, burst)
    }
}
