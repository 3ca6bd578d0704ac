//! What senders have left to others: taken up where packets come in, and done
//! or handed on where they leave.

use dpdk::{Mbuf, Mempool, Offload, TxOffloads, TxRequest};
use engine::offload::{Layers, Protocol, Segmentation, Sum};
use engine::packet::Frame;
use engine::verdict::DropReason;
use packet_socket::{Seen, Segmented};

use crate::device::TxQueue;

fn layers(packet: &Mbuf) -> Option<Layers> {
    Layers::of(Frame { head: packet.data(), length: packet.total_len() })
}

/// Notes a partial checksum on a packet of a port that does not tell.
pub(crate) fn complete_unmarked(packet: &mut Mbuf) {
    if layers(packet).is_some_and(|layers| layers.has_partial_checksum(packet.data())) {
        packet.set_offload(Some(Offload::Checksum));
    }
}

/// Notes on a packet of a packet socket what the kernel says of it. False for what
/// cannot be handed on: super-frames inside of tunnels.
pub(crate) fn note(packet: &mut Mbuf, seen: &Seen) -> bool {
    let Some((start, offset)) = seen.header.checksum.map(|(start, offset)| (start.into(), offset.into()))
    else {
        return seen.header.segments.is_none();
    };
    let known = layers(packet).filter(|l| l.transport == start && l.protocol.checksum() == offset);
    match (known, seen.header.segments) {
        (Some(_), None) => packet.set_offload(Some(Offload::Checksum)),
        (Some(layers), Some((kind, size))) => {
            let is_so = match kind {
                Segmented::Tcp4 => !layers.v6 && layers.protocol == Protocol::Tcp,
                Segmented::Tcp6 => layers.v6 && layers.protocol == Protocol::Tcp,
                Segmented::Udp => layers.protocol == Protocol::Udp,
            };
            packet.set_offload(Some(Offload::Segments(size)));
            return is_so;
        }
        // The inside of a tunnel, or another protocol: done at once, since it is rare.
        (None, None) => return complete_elsewhere(packet, start, offset).is_some(),
        (None, Some(_)) => return false,
    }
    true
}

/// Where SCTP has its checksum, and no other protocol that is left to devices.
const SCTP: usize = 8;

/// Completes a checksum that covers all from `start` on and is `offset` from there:
/// the Internet's (RFC 1071), or SCTP's CRC32c (RFC 9260, appendix A).
fn complete_elsewhere(packet: &mut Mbuf, start: usize, offset: usize) -> Option<()> {
    let field = start + offset;
    if offset == SCTP {
        packet.data_mut()?.get_mut(field..field + 4)?.fill(0);
        let mut skip = start;
        let mut crc = 0;
        for segment in packet.segment_data() {
            let here = skip.min(segment.len());
            crc = crc32c::crc32c_append(crc, &segment[here..]);
            skip -= here;
        }
        packet.data_mut()?.get_mut(field..field + 4)?.copy_from_slice(&crc.to_le_bytes());
    } else {
        let checksum = Sum::between(packet.segment_data(), start, packet.total_len() as usize).checksum();
        // For those protocols of which it may be UDP, zero says that there is none.
        let checksum = if checksum == 0 { 0xffff } else { checksum };
        packet.data_mut()?.get_mut(field..field + 2)?.copy_from_slice(&checksum.to_be_bytes());
    }
    Some(())
}

/// What a queue takes, at a moment.
#[derive(Clone, Copy)]
pub(crate) struct Terms {
    offloads: TxOffloads,
    /// Bytes of the longest frame.
    longest: u32,
}

impl Terms {
    pub fn of(queue: &TxQueue) -> Terms {
        Terms { offloads: queue.offloads(), longest: queue.longest() }
    }
}

/// Makes a packet whose sender has left something ready for a queue, and hands it,
/// or what it is cut into, to `each`.
///
/// # Errors
/// Why there is nothing to send, or no more.
pub(crate) fn make_ready(
    mut packet: Mbuf,
    terms: Terms,
    pool: &Mempool,
    mut each: impl FnMut(Mbuf),
) -> Result<(), DropReason> {
    let Some(offload) = packet.offload() else {
        each(packet);
        return Ok(());
    };
    let layers = layers(&packet).ok_or(DropReason::OffloadRefused)?;
    let takes = terms.offloads;
    let request = |size| TxRequest {
        v6: layers.v6,
        tcp: layers.protocol == Protocol::Tcp,
        l2: layers.ip,
        l3: layers.transport - layers.ip,
        l4: layers.data - layers.transport,
        size,
    };
    match offload {
        Offload::Checksum if takes.checksum => packet.request(request(None)),
        Offload::Checksum => {
            let checksum = layers.completed(packet.segment_data());
            layers.set_checksum(packet.data_mut().ok_or(DropReason::NoBuffer)?, checksum);
            packet.set_offload(None);
        }
        Offload::Segments(size) => {
            if layers.data + usize::from(size) > terms.longest as usize {
                return Err(DropReason::ExceedsMtu);
            }
            if size == 0 || !is_taken(&layers, takes) {
                return cut(&packet, layers, size, pool, each);
            }
            packet.request(request(Some(size)));
        }
    }
    each(packet);
    Ok(())
}

fn is_taken(layers: &Layers, takes: TxOffloads) -> bool {
    match (layers.protocol, layers.v6) {
        (Protocol::Tcp, false) => takes.tcp4,
        (Protocol::Tcp, true) => takes.tcp6,
        (Protocol::Udp, _) => takes.udp,
    }
}

/// Cuts a super-frame into packets of `size` bytes of data, each in as many mbufs
/// as it needs.
fn cut(
    packet: &Mbuf,
    layers: Layers,
    size: u16,
    pool: &Mempool,
    mut each: impl FnMut(Mbuf),
) -> Result<(), DropReason> {
    let refused = || DropReason::OffloadRefused;
    let segmentation = Segmentation::new(packet.data(), layers, size).ok_or_else(refused)?;
    for index in 0..segmentation.count() {
        let headers = segmentation.headers(index, packet.segment_data());
        let mut piece = Mbuf::from_bytes(pool, &headers).ok_or(DropReason::NoBuffer)?;
        let (data, mut at) = (segmentation.data(index), 0);
        for segment in packet.segment_data() {
            let (from, to) = (data.start.saturating_sub(at), data.end.saturating_sub(at));
            let (from, to) = (from.min(segment.len()), to.min(segment.len()));
            if from < to && !piece.extend(pool, &segment[from..to]) {
                return Err(DropReason::NoBuffer);
            }
            at += segment.len();
        }
        each(piece);
    }
    Ok(())
}
