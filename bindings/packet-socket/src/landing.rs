use std::mem::{MaybeUninit, size_of};
use std::ptr;

use dpdk::{BURST, Mbuf, Mempool, MempoolConfig};

use crate::VnetHeader;

/// The pool for what does not fit one ordinary mbuf, where so many threads receive: twice
/// what waits for frames with all of them, and 32 MiB at least. Segments of 16 KiB are what
/// network cards take in one descriptor.
pub fn large(threads: usize) -> MempoolConfig {
    let waiting = (threads * BURST * MORE) as u32;
    let mbufs = (2 * waiting).max(2048).next_power_of_two() - 1;
    MempoolConfig { mbufs, cache: 128, data_room: 16_384, socket: None }
}

/// Further segments of the longest frame: 64 KiB of an IP packet, and its framing.
const MORE: usize = 4;

/// Room for what the kernel tells of a VLAN tag (`struct tpacket_auxdata`).
const CONTROL: usize = 64;

/// What the kernel says of a received frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The virtio-net header, of the frame with its tag.
    pub header: VnetHeader,
    /// The tag that the kernel had taken off, which has been put back: the
    /// EtherType and the tag itself.
    pub tag: Option<(u16, u16)>,
}

/// Buffers that wait for one frame.
#[derive(Debug, Default)]
struct Slot {
    first: Option<Mbuf>,
    more: [Option<Mbuf>; MORE],
}

/// What the kernel is handed with them; it does not move.
#[repr(C)]
struct Call {
    headers: [[u8; VnetHeader::LENGTH]; BURST],
    control: [Control; BURST],
    buffers: [[libc::iovec; 2 + MORE]; BURST],
    messages: [libc::mmsghdr; BURST],
}

#[repr(C, align(8))]
struct Control([u8; CONTROL]);

/// Where frames are received to: buffers that wait for a burst of the longest ones, from
/// whichever queue of a thread is asked next. They are many (128 large ones), so that each
/// queue cannot have its own.
pub struct Landing {
    pool: Mempool,
    large: Mempool,
    slots: Box<[Slot; BURST]>,
    /// How many of the first slots lack buffers, or have been received into.
    used: usize,
    call: Box<Call>,
}

// SAFETY: the pointers of the call lead into it and into mbufs that the slots own.
unsafe impl Send for Landing {}

impl std::fmt::Debug for Landing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Landing").finish_non_exhaustive()
    }
}

impl Landing {
    /// One without buffers yet. Frames begin in mbufs of `pool`; what does not fit goes on
    /// in those of `large`.
    pub(crate) fn new(pool: Mempool, large: Mempool) -> Landing {
        // SAFETY: numbers and null pointers.
        let mut call: Box<Call> = unsafe { Box::new(MaybeUninit::zeroed().assume_init()) };
        let Call { headers, control, buffers, messages } = &mut *call;
        for (index, message) in messages.iter_mut().enumerate() {
            let header = headers[index].as_mut_ptr().cast();
            buffers[index][0] = libc::iovec { iov_base: header, iov_len: VnetHeader::LENGTH };
            message.msg_hdr.msg_iov = buffers[index].as_mut_ptr();
            message.msg_hdr.msg_control = control[index].0.as_mut_ptr().cast();
        }
        Landing { pool, large, slots: Default::default(), used: BURST, call }
    }

    /// Gives slots buffers where they have none. Returns messages for the slots that are
    /// ready: all if there were mbufs enough. Where large ones are missing, what does not
    /// fit is cut, and lost.
    pub(crate) fn prepare(&mut self) -> &mut [libc::mmsghdr] {
        let (mut ready, mut is_complete) = (BURST, true);
        for index in 0..self.used {
            let Slot { first, more } = &mut self.slots[index];
            let [_, places @ ..] = &mut self.call.buffers[index];
            let pools = std::iter::once(&self.pool).chain(std::iter::repeat(&self.large));
            let mut filled = 0;
            for ((buffer, place), pool) in std::iter::once(first).chain(more).zip(places).zip(pools) {
                if buffer.is_none() {
                    let Some(mut fresh) = Mbuf::alloc(pool) else { break };
                    let Some(room) = fresh.append(pool.data_room().into()) else { break };
                    *place = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
                    *buffer = Some(fresh);
                }
                filled += 1;
            }
            is_complete &= filled == 1 + MORE;
            if filled == 0 {
                ready = index;
                break;
            }
            let message = &mut self.call.messages[index].msg_hdr;
            message.msg_iovlen = 1 + filled;
            message.msg_controllen = CONTROL;
            message.msg_flags = 0;
        }
        // What is missing is tried for again.
        self.used = if is_complete { 0 } else { self.used };
        &mut self.call.messages[..ready]
    }

    /// The first slots have been received into.
    pub(crate) fn note(&mut self, received: usize) {
        self.used = self.used.max(received);
    }

    /// The frame that was received into a slot, and what the kernel says of it;
    /// `None` if it was longer than any, or of a kind that is not carried.
    pub(crate) fn take(&mut self, index: usize) -> Option<(Mbuf, Seen)> {
        let message = &self.call.messages[index];
        let header = VnetHeader::from_bytes(self.call.headers[index]);
        let was_cut = message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
        let mut left = (message.msg_len as usize).checked_sub(VnetHeader::LENGTH)?;
        let tag = tag(&message.msg_hdr);
        if was_cut {
            return None;
        }
        let Slot { first, more } = &mut self.slots[index];
        let mut packet = first.take()?;
        let mut fill = |buffer: &mut Mbuf| {
            let here = left.min(buffer.data().len());
            buffer.truncate(here as u16);
            left -= here;
            left > 0
        };
        let mut goes_on = fill(&mut packet);
        for buffer in more {
            if !goes_on {
                break;
            }
            let mut segment = buffer.take()?;
            goes_on = fill(&mut segment);
            packet.chain(segment).ok()?;
        }
        let mut seen = Seen { header: header.ok()?, tag };
        if let Some((kind, tag)) = tag {
            put_back(&mut packet, kind, tag)?;
            if let Some((start, _)) = &mut seen.header.checksum {
                *start += TAG as u16;
            }
        }
        Some((packet, seen))
    }
}

/// Bytes of a VLAN tag.
const TAG: usize = 4;
/// The two MACs in front of it.
const MACS: usize = 12;

fn put_back(packet: &mut Mbuf, kind: u16, tag: u16) -> Option<()> {
    let data = packet.prepend(TAG as u16)?;
    data.get(..TAG + MACS)?;
    data.copy_within(TAG..TAG + MACS, 0);
    data[MACS..MACS + 2].copy_from_slice(&kind.to_be_bytes());
    data[MACS + 2..MACS + 4].copy_from_slice(&tag.to_be_bytes());
    Some(())
}

/// The tag that the kernel took off the frame of this message (packet(7), PACKET_AUXDATA).
fn tag(message: &libc::msghdr) -> Option<(u16, u16)> {
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Auxiliary {
        status: u32,
        length: u32,
        captured: u32,
        mac: u16,
        net: u16,
        tag: u16,
        kind: u16,
    }
    // SAFETY: the control bytes are the kernel's answer to this message.
    let auxiliary = unsafe {
        let control = libc::CMSG_FIRSTHDR(message).as_ref()?;
        let is_it = control.cmsg_level == libc::SOL_PACKET
            && control.cmsg_type == libc::PACKET_AUXDATA
            && control.cmsg_len >= libc::CMSG_LEN(size_of::<Auxiliary>() as u32) as usize;
        is_it.then(|| ptr::read_unaligned(libc::CMSG_DATA(control).cast::<Auxiliary>()))?
    };
    let valid = |bit: u32| auxiliary.status & bit != 0;
    let kind = if valid(libc::TP_STATUS_VLAN_TPID_VALID) { auxiliary.kind } else { 0x8100 };
    valid(libc::TP_STATUS_VLAN_VALID).then_some((kind, auxiliary.tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_has_more_than_all_threads_wait_with() {
        let mbufs = [1, 8, 9, 128].map(|threads| large(threads).mbufs);
        assert_eq!(mbufs, [2047, 2047, 4095, 32_767]);
    }
}
