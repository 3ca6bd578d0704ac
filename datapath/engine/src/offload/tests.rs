use std::iter::once;

use etherparse::checksum::Sum16BitWords;
use etherparse::{NetHeaders, PacketHeaders, SlicedPacket, TransportHeader, TransportSlice};
use proptest::prelude::*;

use super::*;
use crate::packet::build::{Packet, mac};
use crate::packet::{Frame, TcpFlags, parse};

fn frame(packet: Packet) -> Vec<u8> {
    packet.frame(mac(1), mac(2))
}

fn layers(frame: &[u8]) -> Layers {
    Layers::of(Frame::whole(frame)).unwrap()
}

/// The frame with a partial checksum.
fn partial(mut frame: Vec<u8>) -> Vec<u8> {
    layers(&frame).make_partial(&mut frame);
    frame
}

fn complete(frame: &mut [u8]) {
    let layers = layers(frame);
    let checksum = layers.completed(once(&*frame));
    layers.set_checksum(frame, checksum);
}

/// Whether another implementation finds all checksums and lengths right.
fn is_right(frame: &[u8]) -> bool {
    let headers = PacketHeaders::from_ethernet_slice(frame).unwrap();
    let payload = headers.payload.slice();
    let ip_is_right = match headers.net.as_ref().unwrap() {
        NetHeaders::Ipv4(v4, _) => v4.calc_header_checksum() == v4.header_checksum,
        _ => true,
    };
    let (found, right) = match (headers.transport.unwrap(), headers.net.unwrap()) {
        (TransportHeader::Tcp(tcp), NetHeaders::Ipv4(v4, _)) => {
            (tcp.checksum, tcp.calc_checksum_ipv4(&v4, payload))
        }
        (TransportHeader::Tcp(tcp), NetHeaders::Ipv6(v6, _)) => {
            (tcp.checksum, tcp.calc_checksum_ipv6(&v6, payload))
        }
        (TransportHeader::Udp(udp), NetHeaders::Ipv4(v4, _)) => {
            (udp.checksum, udp.calc_checksum_ipv4(&v4, payload))
        }
        (TransportHeader::Udp(udp), NetHeaders::Ipv6(v6, _)) => {
            (udp.checksum, udp.calc_checksum_ipv6(&v6, payload))
        }
        _ => unreachable!("only these are asked for"),
    };
    ip_is_right && found == right.unwrap()
}

/// TCP and UDP over both families, with options, extensions and tags in between.
fn packets(data: &[u8], flags: TcpFlags) -> Vec<Vec<u8>> {
    let tcp = |a, b| Packet::tcp(a, b, flags, u32::MAX - 1000, 7, data);
    let udp = |a, b| Packet::udp(a, b, data);
    let (a, b, c, d) = ("10.0.0.1:5000", "10.0.0.2:80", "[fd00::1]:5000", "[fd00::2]:80");
    let options = [1u8, 1, 1, 1];
    vec![
        frame(tcp(a, b)),
        frame(tcp(a, b).options(&options)),
        frame(tcp(c, d)),
        frame(tcp(c, d).extension(60, &[1, 4, 0, 0, 0, 0])),
        frame(udp(a, b)),
        frame(udp(c, d)),
    ]
}

fn tagged(frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &[0x81, 0, 0, 7], &frame[12..]].concat()
}

/// Cuts a frame that is in two segments, split somewhere behind its headers.
fn cut(frame: &[u8], split: usize, size: u16) -> Option<Vec<Vec<u8>>> {
    let layers = layers(frame);
    let split = split.clamp(layers.data, frame.len());
    let (head, rest) = frame.split_at(split);
    let segmentation = Segmentation::new(head, layers, size)?;
    let packet = |index| {
        let headers = segmentation.headers(index, once(head).chain(once(rest)));
        [&headers[..], &frame[segmentation.data(index)]].concat()
    };
    Some((0..segmentation.count()).map(packet).collect())
}

proptest! {
    #[test]
    fn a_sum_does_not_depend_on_the_pieces(bytes in prop::collection::vec(any::<u8>(), 0..200), cuts in prop::collection::vec(0..200usize, 0..5)) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|at| at.min(bytes.len())).collect();
        cuts.sort_unstable();
        let (mut sum, mut at) = (Sum::default(), 0);
        for cut in cuts.into_iter().chain([bytes.len()]) {
            sum = sum.with(&bytes[at..cut]);
            at = cut;
        }
        prop_assert_eq!(sum.checksum(), Sum16BitWords::new().add_slice(&bytes).ones_complement().to_be());
    }

    #[test]
    fn what_is_completed_is_what_the_sender_would_have_sent(data in prop::collection::vec(any::<u8>(), 0..300), split in 0..400usize, tag in any::<bool>()) {
        for whole in packets(&data, TcpFlags::ACK) {
            let whole = if tag { tagged(&whole) } else { whole };
            let mut frame = partial(whole.clone());
            prop_assert!(layers(&frame).has_partial_checksum(&frame));
            let layers = layers(&frame);
            let split = split.clamp(layers.data, frame.len());
            let checksum = layers.completed(once(&frame[..split]).chain(once(&frame[split..])));
            layers.set_checksum(&mut frame, checksum);
            prop_assert_eq!(&frame, &whole);
        }
    }

    #[test]
    fn what_is_cut_is_right_and_whole_again(data in prop::collection::vec(any::<u8>(), 1..6000), split in 0..4000usize, size in 60..2000u16) {
        let flags = TcpFlags::ACK | TcpFlags::PSH | TcpFlags::FIN | TcpFlags::CWR;
        for whole in packets(&data, flags) {
            let pieces = cut(&partial(whole.clone()), split, size).unwrap();
            prop_assert_eq!(pieces.len(), data.len().div_ceil(size.into()));
            let mut joined: Vec<u8> = Vec::new();
            for (index, piece) in pieces.iter().enumerate() {
                prop_assert!(is_right(piece), "piece {index} of {whole:02x?}");
                prop_assert!(parse(Frame::whole(piece)).is_ok());
                let sliced = SlicedPacket::from_ethernet(piece).unwrap();
                if let Some(etherparse::NetSlice::Ipv4(v4)) = &sliced.net {
                    prop_assert_eq!(usize::from(v4.header().identification()), index);
                }
                match sliced.transport.unwrap() {
                    TransportSlice::Tcp(tcp) => {
                        let (is_first, is_last) = (index == 0, index + 1 == pieces.len());
                        prop_assert_eq!(tcp.sequence_number(), (u32::MAX - 1000).wrapping_add(joined.len() as u32));
                        prop_assert_eq!((tcp.ack(), tcp.cwr(), tcp.fin(), tcp.psh()), (true, is_first, is_last, is_last));
                        joined.extend(tcp.payload());
                    }
                    TransportSlice::Udp(udp) => joined.extend(udp.payload()),
                    _ => unreachable!("TCP and UDP only"),
                }
            }
            prop_assert_eq!(&joined, &data);
        }
    }
}

#[test]
fn padding_is_neither_summed_up_nor_sent() {
    let whole = frame(Packet::tcp("10.0.0.1:1", "10.0.0.2:2", TcpFlags::ACK, 1, 1, b"x"));
    let mut padded = partial(whole.clone());
    padded.extend([0xee; 5]);
    let pieces = cut(&padded, 0, 100).unwrap();
    assert_eq!(pieces, std::slice::from_ref(&whole));
    complete(&mut padded);
    assert_eq!(padded[..whole.len()], whole);
}

#[test]
fn a_udp_checksum_of_zero_is_sent_as_ones() {
    // The data makes the sum come out as all ones.
    let base = frame(Packet::udp("10.0.0.1:1", "10.0.0.2:2", &[0, 0]));
    let missing = u16::from_be_bytes([base[40], base[41]]);
    let whole = frame(Packet::udp("10.0.0.1:1", "10.0.0.2:2", &missing.to_be_bytes()));
    let mut frame = partial(whole);
    complete(&mut frame);
    assert_eq!(frame[40..42], [0xff, 0xff]);
}

#[test]
fn a_complete_checksum_is_not_taken_for_a_partial_one() {
    for whole in packets(b"some data", TcpFlags::ACK) {
        assert!(!layers(&whole).has_partial_checksum(&whole), "{whole:02x?}");
    }
}

#[test]
fn what_no_device_knows_has_no_layers() {
    let udp = || Packet::udp("10.0.0.1:1", "10.0.0.2:2", b"data");
    let six = || Packet::udp("[fd00::1]:1", "[fd00::2]:2", b"data");
    let arp = [&frame(udp())[..12], &[8, 6], &[0; 28]].concat();
    let mut short_header = frame(Packet::tcp("10.0.0.1:1", "10.0.0.2:2", TcpFlags::SYN, 0, 0, b"data"));
    short_header[14 + 20 + 12] = 0x40;
    let mut long_header = short_header.clone();
    long_header[14 + 20 + 12] = 0xf0;
    let others = [
        frame(Packet::ping("10.0.0.1", "10.0.0.2", 1)),
        frame(udp().fragment(1, 0, true)),
        frame(udp().fragment(1, 8, false)),
        frame(six().fragment(1, 0, true)),
        frame(six().fragment(1, 0, false)),
        frame(udp())[..14 + 20 + 7].to_vec(),
        frame(udp())[..13].to_vec(),
        Vec::new(),
        arp,
        short_header,
        long_header,
    ];
    for other in others {
        assert_eq!(Layers::of(Frame::whole(&other)), None, "{other:02x?}");
    }
}

#[test]
fn headers_that_are_not_in_the_first_segment_are_not_seen() {
    let whole = frame(Packet::tcp("10.0.0.1:1", "10.0.0.2:2", TcpFlags::ACK, 1, 1, &[0; 100]));
    let of = |head: usize| Layers::of(Frame { head: &whole[..head], length: whole.len() as u32 });
    assert_eq!((of(14 + 20 + 19), of(14 + 20 + 20)), (None, Some(layers(&whole))));
}

#[test]
fn nothing_is_cut_into_no_size_or_more_packets_than_there_may_be() {
    let super_frame = |bytes: usize| {
        partial(frame(Packet::tcp("10.0.0.1:1", "10.0.0.2:2", TcpFlags::ACK, 1, 1, &vec![1; bytes])))
    };
    assert_eq!(cut(&super_frame(10), 0, 0), None);
    assert_eq!(cut(&super_frame(128 * 40), 0, 40).unwrap().len(), MAX_SEGMENTS);
    assert_eq!(cut(&super_frame(128 * 40 + 1), 0, 40), None);
    // Without data it is one packet.
    assert_eq!(cut(&super_frame(0), 0, 40).unwrap().len(), 1);
}

#[test]
fn headers_that_are_too_long_are_not_cut() {
    let data = [5; 300];
    let packet = |extensions: usize| {
        let bare = Packet::tcp("[fd00::1]:1", "[fd00::2]:2", TcpFlags::ACK, 1, 1, &data);
        (0..extensions).fold(bare, |p, _| p.extension(60, &[&[1, 28][..], &[0; 28]].concat()))
    };
    assert!(cut(&partial(frame(packet(5))), 0, 100).is_some());
    assert!(cut(&partial(frame(packet(6))), 0, 100).is_none());
}
