use std::mem::MaybeUninit;
use std::sync::Arc;

use dpdk::{BURST, Burst, Mbuf, TxOffloads, TxRequest};

use crate::port::{Opened, Queue};
use crate::{Segmented, VnetHeader};

/// The most segments of a packet: a super-frame in mbufs of 2 KiB has 33.
const SEGMENTS: usize = 47;

/// A transmit queue. One thread sends by it at a time.
pub struct TxQueue {
    queue: Arc<Queue>,
    port: Arc<Opened>,
    call: Box<Call>,
}

/// What the kernel is handed; it does not move.
struct Call {
    headers: [[u8; VnetHeader::LENGTH]; BURST],
    buffers: [[libc::iovec; 1 + SEGMENTS]; BURST],
    messages: [libc::mmsghdr; BURST],
}

// SAFETY: the pointers of the call lead into it, or to packets of the burst that is
// being sent.
unsafe impl Send for TxQueue {}

impl std::fmt::Debug for TxQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TxQueue").field("queue", &self.queue).finish_non_exhaustive()
    }
}

impl TxQueue {
    pub(crate) fn new(queue: Arc<Queue>, port: Arc<Opened>) -> TxQueue {
        // SAFETY: numbers and null pointers.
        let mut call: Box<Call> = unsafe { Box::new(MaybeUninit::zeroed().assume_init()) };
        let Call { headers, buffers, messages } = &mut *call;
        for (index, message) in messages.iter_mut().enumerate() {
            let header = headers[index].as_mut_ptr().cast();
            buffers[index][0] = libc::iovec { iov_base: header, iov_len: VnetHeader::LENGTH };
            message.msg_hdr.msg_iov = buffers[index].as_mut_ptr();
        }
        TxQueue { queue, port, call }
    }

    /// Takes checksums that are to be completed, and super-frames, as they are.
    pub const OFFLOADS: TxOffloads = TxOffloads { checksum: true, tcp4: true, tcp6: true, udp: true };

    /// Bytes of the longest frame that is not cut: the interface's MTU and framing.
    #[inline]
    pub fn longest(&self) -> u32 {
        self.port.longest()
    }

    /// Whether a packet has no more segments than are sent.
    #[inline]
    pub fn can_send(&self, packet: &Mbuf) -> bool {
        usize::from(packet.segments()) <= SEGMENTS
    }

    /// Hands packets to the kernel, and frees them. Those that it has no room for
    /// stay in the burst, at the front; what it refuses otherwise is freed and
    /// counted. Returns how many it took.
    pub fn send(&mut self, burst: &mut Burst) -> usize {
        let count = burst.len();
        burst.iter().enumerate().for_each(|(index, packet)| self.call.describe(index, packet));
        let (mut at, mut sent, mut errors) = (0, 0, 0);
        // Each round sends or refuses one at least.
        while at < count {
            // SAFETY: the messages point into the call and to packets of the burst.
            match unsafe { self.queue.socket.send(&mut self.call.messages[at..count]) } {
                Ok(taken) => (at, sent) = (at + taken, sent + taken),
                // It has no room now, and will have.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS)) => break,
                Err(_) => (at, errors) = (at + 1, errors + 1),
            }
        }
        let bytes = self.call.messages[..at].iter().map(|message| u64::from(message.msg_len)).sum::<u64>();
        let counts = &self.queue.tx;
        counts.packets.add(sent as u64);
        counts.bytes.add(bytes.saturating_sub((sent * VnetHeader::LENGTH) as u64));
        counts.errors.add(errors);
        let cut = |packet: &&Mbuf| packet.requested().is_some_and(|request| request.size.is_some());
        counts.super_frames.add(burst[..at].iter().filter(cut).count() as u64);
        burst.free_first(at);
        sent
    }
}

impl Call {
    /// Points a message to a packet.
    fn describe(&mut self, index: usize, packet: &Mbuf) {
        self.headers[index] = packet.requested().map(header).unwrap_or_default().to_bytes();
        let [_, places @ ..] = &mut self.buffers[index];
        let mut used = 1;
        for (place, segment) in places.iter_mut().zip(packet.segment_data()) {
            *place = libc::iovec { iov_base: segment.as_ptr().cast_mut().cast(), iov_len: segment.len() };
            used += 1;
        }
        let message = &mut self.messages[index];
        message.msg_hdr.msg_iovlen = used;
        message.msg_len = 0;
    }
}

/// What the kernel is asked for.
fn header(request: TxRequest) -> VnetHeader {
    let TxRequest { v6, tcp, l2, l3, l4, size } = request;
    let kind = match (tcp, v6) {
        (true, false) => Segmented::Tcp4,
        (true, true) => Segmented::Tcp6,
        (false, _) => Segmented::Udp,
    };
    let offset = if tcp { 16 } else { 6 };
    VnetHeader {
        checksum: Some(((l2 + l3) as u16, offset)),
        segments: size.map(|size| (kind, size)),
        headers: if size.is_some() { (l2 + l3 + l4) as u16 } else { 0 },
    }
}
