use std::fmt;
use std::ptr::NonNull;
use std::slice;

use dpdk_sys::rte_mbuf;

use crate::Mempool;

/// A packet in a buffer of its pool, in one or more segments. Freed when dropped.
#[repr(transparent)]
pub struct Mbuf(NonNull<rte_mbuf>);

// SAFETY: an mbuf belongs to one owner at a time, and freeing works on any thread.
unsafe impl Send for Mbuf {}

impl Drop for Mbuf {
    fn drop(&mut self) {
        // SAFETY: the mbuf is owned, and not used again.
        unsafe { dpdk_sys::sgs_free(self.0.as_ptr()) };
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mbuf({} bytes from port {})", self.total_len(), self.port())
    }
}

impl Mbuf {
    /// An empty packet; `None` if the pool has no mbuf left.
    pub fn alloc(pool: &Mempool) -> Option<Mbuf> {
        // SAFETY: the pool is valid.
        NonNull::new(unsafe { dpdk_sys::sgs_alloc(pool.raw()) }).map(Mbuf)
    }

    /// A packet with these bytes; `None` if the pool has no mbuf left or the
    /// bytes do not fit one.
    pub fn from_bytes(pool: &Mempool, bytes: &[u8]) -> Option<Mbuf> {
        let mut mbuf = Mbuf::alloc(pool)?;
        mbuf.append(bytes.len())?.copy_from_slice(bytes);
        Some(mbuf)
    }

    /// A copy of all segments, from the same pool or another; `None` if it has
    /// no mbuf left.
    pub fn copy(&self, pool: &Mempool) -> Option<Mbuf> {
        // SAFETY: both are valid; the copy is a new mbuf.
        let raw = unsafe { dpdk_sys::rte_pktmbuf_copy(self.0.as_ptr(), pool.raw(), 0, u32::MAX) };
        NonNull::new(raw).map(Mbuf)
    }

    #[inline]
    pub(crate) fn raw(&self) -> &rte_mbuf {
        // SAFETY: owned and valid.
        unsafe { self.0.as_ref() }
    }

    #[inline]
    pub(crate) fn raw_mut(&mut self) -> &mut rte_mbuf {
        // SAFETY: owned and valid.
        unsafe { self.0.as_mut() }
    }

    /// The bytes of the first segment, which are all if [`Mbuf::segments`] is 1.
    #[inline]
    pub fn data(&self) -> &[u8] {
        let raw = self.raw();
        debug_assert!(u32::from(raw.data_off) + u32::from(raw.data_len) <= raw.buf_len.into());
        // SAFETY: DPDK keeps data_off + data_len within the segment's buffer.
        unsafe {
            slice::from_raw_parts(raw.buf_addr.cast::<u8>().add(raw.data_off.into()), raw.data_len.into())
        }
    }

    /// The bytes of each segment.
    pub fn segment_data(&self) -> impl Iterator<Item = &[u8]> {
        let mut next: *const rte_mbuf = self.0.as_ptr();
        std::iter::from_fn(move || {
            // SAFETY: the segments of an owned packet are valid, the last has no next.
            let segment = unsafe { next.as_ref() }?;
            next = segment.next;
            // SAFETY: as in `data`.
            Some(unsafe {
                let start = segment.buf_addr.cast::<u8>().add(segment.data_off.into());
                slice::from_raw_parts(start, segment.data_len.into())
            })
        })
    }

    /// Adds bytes at the end, in as many further segments as they need. False if
    /// the pool has no mbuf left, or the packet becomes too long; some of them may
    /// have been added then.
    #[must_use]
    pub fn extend(&mut self, pool: &Mempool, mut bytes: &[u8]) -> bool {
        let (fits, rest) = bytes.split_at(self.tail_room().min(bytes.len()));
        if let Some(added) = self.append(fits.len()) {
            added.copy_from_slice(fits);
            bytes = rest;
        }
        while !bytes.is_empty() {
            let count = bytes.len().min(pool.data_room().into());
            let Some(segment) = Mbuf::from_bytes(pool, &bytes[..count]) else { return false };
            if self.chain(segment).is_err() {
                return false;
            }
            bytes = &bytes[count..];
        }
        true
    }

    /// Bytes that [`Mbuf::append`] can add.
    fn tail_room(&self) -> usize {
        let raw = self.raw();
        let used = usize::from(raw.data_off) + usize::from(raw.data_len);
        let is_last = raw.nb_segs == 1 && self.is_sole_owner();
        if is_last { usize::from(raw.buf_len).saturating_sub(used) } else { 0 }
    }

    /// Adds the segments of another packet behind its own.
    ///
    /// # Errors
    /// Gives it back if they would be too many, or too long, for DPDK's counts.
    pub fn chain(&mut self, tail: Mbuf) -> Result<(), Mbuf> {
        let segments = self.segments().checked_add(tail.segments());
        let total = self.total_len().checked_add(tail.total_len());
        let (Some(segments), Some(total)) = (segments, total) else { return Err(tail) };
        let mut last = self.0.as_ptr();
        // SAFETY: owned segments, of which the last has no next; the tail's belong
        // to this packet from now on, so its handle is not dropped.
        unsafe {
            while !(*last).next.is_null() {
                last = (*last).next;
            }
            (*last).next = tail.0.as_ptr();
        }
        std::mem::forget(tail);
        let raw = self.raw_mut();
        (raw.nb_segs, raw.pkt_len) = (segments, total);
        Ok(())
    }

    /// Whether no other mbuf refers to the first segment's buffer: true of all
    /// that is allocated or copied here, and of what common drivers receive.
    #[inline]
    fn is_sole_owner(&self) -> bool {
        let raw = self.raw();
        raw.refcnt == 1 && raw.ol_flags & dpdk_sys::SGS_MBUF_INDIRECT == 0
    }

    /// The bytes of the first segment, to be changed; `None` if another mbuf
    /// shares the buffer.
    #[inline]
    pub fn data_mut(&mut self) -> Option<&mut [u8]> {
        if !self.is_sole_owner() {
            return None;
        }
        let raw = self.raw();
        // SAFETY: as in `data`, and no other mbuf refers to the buffer.
        Some(unsafe {
            slice::from_raw_parts_mut(raw.buf_addr.cast::<u8>().add(raw.data_off.into()), raw.data_len.into())
        })
    }

    /// Bytes of the whole packet, all segments together.
    #[inline]
    pub fn total_len(&self) -> u32 {
        self.raw().pkt_len
    }

    /// How many segments it has.
    #[inline]
    pub fn segments(&self) -> u16 {
        self.raw().nb_segs
    }

    /// The number of the port it was received on, where the driver sets one, or
    /// whatever was set since.
    #[inline]
    pub fn port(&self) -> u16 {
        self.raw().port
    }

    /// Notes another number in its place, to tell who takes it off a ring.
    #[inline]
    pub fn set_port(&mut self, port: u16) {
        self.raw_mut().port = port;
    }

    /// What [`Mbuf::set_note`] has noted; anything, where nothing was since the
    /// packet was received.
    #[inline]
    pub fn note(&self) -> u64 {
        // SAFETY: every bit pattern is a number, and both fields are of plain numbers.
        let (low, high) = unsafe {
            let fdir = self.raw().__bindgen_anon_2.hash.fdir;
            (fdir.__bindgen_anon_1.lo, fdir.hi)
        };
        u64::from(high) << 32 | u64::from(low)
    }

    /// Notes a number beside the packet, to tell who takes it off a ring. It
    /// stands where drivers put the hash of what they received.
    #[inline]
    pub fn set_note(&mut self, note: u64) {
        // SAFETY: plain numbers, whichever field of the unions is meant.
        unsafe {
            let fdir = &mut self.raw_mut().__bindgen_anon_2.hash.fdir;
            fdir.__bindgen_anon_1.lo = note as u32;
            fdir.hi = (note >> 32) as u32;
        }
    }

    /// Asks the cache for the first line of its data.
    #[inline]
    pub fn prefetch(&self) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let raw = self.raw();
        let data = raw.buf_addr.cast::<i8>().wrapping_add(raw.data_off.into());
        // SAFETY: a prefetch reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(data) };
    }

    /// Asks the cache for what another core wrote last: both lines of its header, and
    /// the one where data begins unless its start was moved. Waits for none of them.
    #[inline]
    pub fn prefetch_unread(&self) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        const HEADER: usize = size_of::<rte_mbuf>();
        let header = self.0.as_ptr().cast::<i8>();
        for offset in [0, HEADER / 2, HEADER + dpdk_sys::RTE_PKTMBUF_HEADROOM as usize] {
            // SAFETY: a prefetch reads nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(header.wrapping_add(offset)) };
        }
    }

    /// Makes room of `n` bytes in front and returns the first segment; `None`,
    /// and nothing changes, if the headroom is smaller or the buffer is shared.
    /// What the new bytes hold is left over from the buffer's last use.
    pub fn prepend(&mut self, n: u16) -> Option<&mut [u8]> {
        let sole_owner = self.is_sole_owner();
        let raw = self.raw_mut();
        let longer = raw.data_len.checked_add(n)?;
        if !sole_owner || raw.data_off < n {
            return None;
        }
        raw.data_off -= n;
        raw.data_len = longer;
        raw.pkt_len += u32::from(n);
        self.data_mut()
    }

    /// Takes `n` bytes off the front; false, and nothing changes, if the first
    /// segment has fewer.
    #[must_use]
    pub fn adj(&mut self, n: u16) -> bool {
        let raw = self.raw_mut();
        if raw.data_len < n {
            return false;
        }
        raw.data_off += n;
        raw.data_len -= n;
        raw.pkt_len -= u32::from(n);
        true
    }

    /// Keeps the first `n` bytes of a packet of one segment, which has no fewer.
    pub fn truncate(&mut self, n: u16) {
        let raw = self.raw_mut();
        if raw.nb_segs == 1 && n <= raw.data_len {
            (raw.data_len, raw.pkt_len) = (n, n.into());
        }
    }

    /// Adds `n` bytes at the end of a packet of one segment and returns them;
    /// `None`, and nothing changes, if they do not fit. What they hold is left
    /// over from the buffer's last use.
    pub fn append(&mut self, n: usize) -> Option<&mut [u8]> {
        if n > self.tail_room() || self.segments() != 1 || !self.is_sole_owner() {
            return None;
        }
        let raw = self.raw_mut();
        let start = raw.data_len.into();
        raw.data_len += n as u16;
        raw.pkt_len += n as u32;
        self.data_mut().map(|data| &mut data[start..])
    }
}
