//! What senders have left to others: taken up where packets come in, and done
//! or handed on where they leave.

use dpdk::{Mbuf, Mempool, Offload, TxOffloads, TxRequest};
use engine::offload::{Layers, Protocol, Segmentation, Sum, slices};
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
        let covered = slices(packet.segment_data(), start..packet.total_len() as usize);
        let crc = covered.fold(0, crc32c::crc32c_append);
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
        for data in slices(packet.segment_data(), segmentation.data(index)) {
            if !piece.extend(pool, data) {
                return Err(DropReason::NoBuffer);
            }
        }
        each(piece);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use dpdk::MempoolConfig;
    use engine::packet::TcpFlags;
    use engine::packet::build::{Packet, mac};
    use packet_socket::VnetHeader;

    use super::*;

    const TAKES_NOTHING: TxOffloads = TxOffloads { checksum: false, tcp4: false, tcp6: false, udp: false };
    const TAKES_ALL: TxOffloads = TxOffloads { checksum: true, tcp4: true, tcp6: true, udp: true };

    struct Bench {
        pool: Mempool,
    }

    impl Bench {
        fn packet(&self, bytes: &[u8], header: VnetHeader) -> Option<Mbuf> {
            let mut packet = Mbuf::from_bytes(&self.pool, &[]).unwrap();
            assert!(packet.extend(&self.pool, bytes));
            note(&mut packet, &Seen { header, tag: None }).then_some(packet)
        }

        fn ready(
            &self,
            packet: Mbuf,
            offloads: TxOffloads,
            longest: u32,
        ) -> (Vec<Mbuf>, Result<(), DropReason>) {
            let mut ready = vec![];
            let result = make_ready(packet, Terms { offloads, longest }, &self.pool, |p| ready.push(p));
            (ready, result)
        }
    }

    fn bytes(packet: &Mbuf) -> Vec<u8> {
        packet.segment_data().flatten().copied().collect()
    }

    fn checksum(start: u16, offset: u16) -> VnetHeader {
        VnetHeader { checksum: Some((start, offset)), ..VnetHeader::default() }
    }

    fn segments(kind: Segmented, size: u16) -> VnetHeader {
        VnetHeader { segments: Some((kind, size)), ..checksum(34, 16) }
    }

    #[test]
    fn what_is_left_to_others_is_done_or_handed_on_or_refused() {
        let eal = crate::test_eal();
        let config = MempoolConfig { mbufs: 255, cache: 32, data_room: 600, socket: None };
        let bench = Bench { pool: Mempool::new(&eal, "offload", &config).unwrap() };
        checksums(&bench);
        super_frames(&bench);
        tunnels_and_other_protocols(&bench);
        unmarked(&bench);
        assert_eq!(bench.pool.in_use(), 0);
    }

    fn tcp(data: &[u8]) -> Vec<u8> {
        let flags = TcpFlags::ACK;
        Packet::tcp("10.0.0.1:1000", "10.0.0.2:80", flags, 1, 1, data).frame(mac(1), mac(2))
    }

    fn partial(mut frame: Vec<u8>) -> Vec<u8> {
        Layers::of(Frame::whole(&frame)).unwrap().make_partial(&mut frame);
        frame
    }

    fn checksums(bench: &Bench) {
        let (whole, header) = (tcp(&[7; 901]), checksum(34, 16));
        let packet = || bench.packet(&partial(whole.clone()), header).unwrap();
        assert_eq!(packet().segments(), 2);
        let (ready, result) = bench.ready(packet(), TAKES_NOTHING, u32::MAX);
        assert_eq!((result, ready.len(), ready[0].has_offload()), (Ok(()), 1, false));
        assert_eq!((bytes(&ready[0]), ready[0].requested()), (whole.clone(), None));
        let (ready, _) = bench.ready(packet(), TAKES_ALL, u32::MAX);
        let request = TxRequest { v6: false, tcp: true, l2: 14, l3: 20, l4: 20, size: None };
        assert_eq!((bytes(&ready[0]), ready[0].requested()), (partial(whole), Some(request)));
    }

    fn super_frames(bench: &Bench) {
        let whole = partial(tcp(&[9; 5000]));
        let packet = |size| bench.packet(&whole, segments(Segmented::Tcp4, size)).unwrap();
        let (ready, result) = bench.ready(packet(1448), TAKES_ALL, 1518);
        let size = ready[0].requested().unwrap().size;
        assert_eq!((result, ready.len(), size), (Ok(()), 1, Some(1448)));
        for takes in [TAKES_NOTHING, TxOffloads { tcp4: false, ..TAKES_ALL }] {
            let (ready, result) = bench.ready(packet(1448), takes, 1518);
            let lengths: Vec<u32> = ready.iter().map(Mbuf::total_len).collect();
            assert_eq!((result, lengths), (Ok(()), vec![1502, 1502, 1502, 710]));
        }
        // What it would be cut into is longer than the port carries; the port does not matter.
        for takes in [TAKES_NOTHING, TAKES_ALL] {
            let (ready, result) = bench.ready(packet(1470), takes, 1518);
            assert_eq!((result, ready.len()), (Err(DropReason::ExceedsMtu), 0));
        }
        // More packets than there may be, or no size at all.
        for size in [0, 39] {
            let (ready, result) = bench.ready(packet(size), TAKES_NOTHING, 1518);
            assert_eq!((result, ready.len()), (Err(DropReason::OffloadRefused), 0));
        }
        // No mbuf is left for the last of them: those before are sent.
        let packet = packet(100);
        let free = bench.pool.available();
        let taken: Vec<Mbuf> = (0..free - 30).map(|_| Mbuf::alloc(&bench.pool).unwrap()).collect();
        let (ready, result) = bench.ready(packet, TAKES_NOTHING, 1518);
        assert_eq!((result, ready.len()), (Err(DropReason::NoBuffer), 30));
        drop(taken);
    }

    fn tunnels_and_other_protocols(bench: &Bench) {
        // The header names another place or kind than the packet has.
        let whole = partial(tcp(&[9; 3000]));
        let udp = Packet::udp("10.0.0.1:1000", "10.0.0.2:4789", &[3; 1000]).frame(mac(1), mac(2));
        for (frame, header) in [
            (&whole, segments(Segmented::Tcp6, 1000)),
            (&whole, segments(Segmented::Udp, 1000)),
            (&whole, VnetHeader { checksum: None, ..segments(Segmented::Tcp4, 1000) }),
            (&udp, VnetHeader { checksum: Some((84, 16)), ..segments(Segmented::Tcp4, 100) }),
            (&udp, checksum(34 + 1100, 6)),
        ] {
            assert!(bench.packet(frame, header).is_none(), "{header:?}");
        }
        // Inside of a tunnel, at 50 bytes: completed at once, and the outside left alone.
        let packet = bench.packet(&udp, checksum(50, 6)).unwrap();
        let expected = Sum::default().with(&udp[50..]).checksum();
        let mut done = udp.clone();
        done[56..58].copy_from_slice(&expected.to_be_bytes());
        assert_eq!((bytes(&packet), packet.has_offload()), (done, false));
        // SCTP: the check value of CRC32c (RFC 3720, B.4) behind a header of our own.
        let mut sctp = Packet::new(
            engine::packet::build::ip("10.0.0.1"),
            engine::packet::build::ip("10.0.0.2"),
            132,
            vec![5; 700],
        )
        .frame(mac(1), mac(2));
        let packet = bench.packet(&sctp, checksum(34, 8)).unwrap();
        sctp[42..46].fill(0);
        let crc = crc32c::crc32c(&sctp[34..]);
        sctp[42..46].copy_from_slice(&crc.to_le_bytes());
        assert_eq!((bytes(&packet), crc32c::crc32c(b"123456789")), (sctp, 0xe306_9283));
    }

    fn unmarked(bench: &Bench) {
        let see = |frame: &[u8]| {
            let mut packet = Mbuf::from_bytes(&bench.pool, frame).unwrap();
            complete_unmarked(&mut packet);
            packet.offload()
        };
        let whole = tcp(&[1; 300]);
        assert_eq!((see(&whole), see(&partial(whole.clone()))), (None, Some(Offload::Checksum)));
        assert_eq!((see(&[]), see(&whole[..40])), (None, None));
    }
}
