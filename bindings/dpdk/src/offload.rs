//! What is left to devices, packet by packet: checksums and segments.

use crate::Mbuf;

/// What the sender of a packet has left to whoever sends it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offload {
    /// Its TCP or UDP checksum is the pseudo-header's sum, to be completed.
    Checksum,
    /// The same, and it is to be cut into packets with so many bytes of data.
    Segments(u16),
}

/// What a transmit queue does for packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TxOffloads {
    /// It completes checksums of TCP and UDP.
    pub checksum: bool,
    /// It cuts TCP over IPv4, or hands it on whole.
    pub tcp4: bool,
    /// It cuts TCP over IPv6, likewise.
    pub tcp6: bool,
    /// It cuts UDP, likewise.
    pub udp: bool,
}

/// What a transmit queue is to do for a packet, and where its headers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxRequest {
    /// Whether it is of IPv6.
    pub v6: bool,
    /// Whether it is TCP; else UDP.
    pub tcp: bool,
    /// Bytes in front of the IP header.
    pub l2: usize,
    /// Bytes of the IP header, extensions of IPv6 included.
    pub l3: usize,
    /// Bytes of the header above IP.
    pub l4: usize,
    /// Bytes of data in each segment; `None`: the checksum alone.
    pub size: Option<u16>,
}

/// Both bits are set: the checksum is not right, but the data is (DPDK's rte_mbuf_core.h).
const PARTIAL: u64 = dpdk_sys::SGS_MBUF_RX_L4_CKSUM_NONE;

impl Mbuf {
    /// Whether [`Mbuf::offload`] is something.
    #[inline]
    pub fn has_offload(&self) -> bool {
        self.raw().ol_flags & PARTIAL == PARTIAL
    }

    /// What the driver says that its sender has left to others.
    pub fn offload(&self) -> Option<Offload> {
        if !self.has_offload() {
            return None;
        }
        if self.raw().ol_flags & dpdk_sys::SGS_MBUF_RX_LRO == 0 {
            return Some(Offload::Checksum);
        }
        // SAFETY: reads a field of an owned mbuf.
        Some(Offload::Segments(unsafe { dpdk_sys::sgs_segment_size(self.raw()) }))
    }

    /// Notes what its sender has left to others.
    pub fn set_offload(&mut self, offload: Option<Offload>) {
        let (flags, size) = match offload {
            None => (0, 0),
            Some(Offload::Checksum) => (PARTIAL, 0),
            Some(Offload::Segments(size)) => (PARTIAL | dpdk_sys::SGS_MBUF_RX_LRO, size),
        };
        self.write(flags, [0; 3], size);
    }

    /// Asks the queue that it is sent by next.
    pub fn request(&mut self, request: TxRequest) {
        let TxRequest { v6, tcp, l2, l3, l4, size } = request;
        let mut flags = if v6 { dpdk_sys::SGS_MBUF_TX_IPV6 } else { dpdk_sys::SGS_MBUF_TX_IPV4 };
        flags |= if tcp { dpdk_sys::SGS_MBUF_TX_TCP_CKSUM } else { dpdk_sys::SGS_MBUF_TX_UDP_CKSUM };
        if size.is_some() {
            flags |= if tcp { dpdk_sys::SGS_MBUF_TX_TCP_SEG } else { dpdk_sys::SGS_MBUF_TX_UDP_SEG };
            if !v6 {
                flags |= dpdk_sys::SGS_MBUF_TX_IP_CKSUM;
            }
        }
        self.write(flags, [l2, l3, l4], size.unwrap_or(0));
    }

    /// What [`Mbuf::request`] has asked for.
    pub fn requested(&self) -> Option<TxRequest> {
        if !self.has_request() {
            return None;
        }
        let flags = self.raw().ol_flags;
        let (mut l2, mut l3, mut l4) = (0, 0, 0);
        // SAFETY: reads fields of an owned mbuf.
        let size = unsafe {
            dpdk_sys::sgs_header_lengths(self.raw(), &mut l2, &mut l3, &mut l4);
            dpdk_sys::sgs_segment_size(self.raw())
        };
        let cut = dpdk_sys::SGS_MBUF_TX_TCP_SEG | dpdk_sys::SGS_MBUF_TX_UDP_SEG;
        // A field of two bits: 1 is TCP, 3 is UDP.
        let udp = dpdk_sys::SGS_MBUF_TX_UDP_CKSUM;
        Some(TxRequest {
            v6: flags & dpdk_sys::SGS_MBUF_TX_IPV6 != 0,
            tcp: flags & udp != udp,
            l2: l2 as usize,
            l3: l3 as usize,
            l4: l4 as usize,
            size: (flags & cut != 0).then_some(size),
        })
    }

    /// Whether a queue has been asked for something.
    #[inline]
    pub(crate) fn has_request(&self) -> bool {
        self.raw().ol_flags & dpdk_sys::SGS_MBUF_TX_OFFLOADS != 0
    }

    fn write(&mut self, flags: u64, [l2, l3, l4]: [usize; 3], size: u16) {
        // How the memory is held is no matter of the packet's.
        let flags = flags | self.raw().ol_flags & dpdk_sys::SGS_MBUF_MEMORY;
        // SAFETY: writes fields of an owned mbuf.
        unsafe { dpdk_sys::sgs_set_offload(self.raw_mut(), flags, l2 as u32, l3 as u32, l4 as u32, size) };
    }
}
