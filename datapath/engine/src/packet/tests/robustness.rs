//! What holds for any bytes: no panic, no fact from beyond the packet, nothing
//! that the flow's key could not hold; and agreement with a parser of another make.

use super::super::plain::{self, Ethernet, Wanted, may_be_hosts};
use super::*;
use crate::addr::Family;
use crate::flow::FlowKey;
use crate::ids::VpcIndex;
use crate::packet::build::{arp, ethernet, ip};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// A well-formed frame of every kind.
fn corpus() -> Vec<Vec<u8>> {
    let udp = Packet::udp("10.0.0.1:1000", "10.0.0.9:53", b"hello");
    let six = Packet::udp("[fd00::1]:1000", "[fd00::9]:53", b"hello");
    let link = [1, 1, 2, 0, 0, 0, 0, 1];
    let question = [&[0; 4], &ip("fd00::9").0.to_be_bytes()[..], &link].concat();
    let redirect = [&[0; 4], &ip("fe80::9").0.to_be_bytes()[..], &[0; 16], &link].concat();
    let mut packets = vec![
        udp.clone(),
        udp.clone().options(&[7, 7, 4, 1, 2, 3, 4, 1]),
        udp.clone().fragment(1, 1480, false),
        six.clone(),
        six.clone().extension(60, &[0; 14]).extension(43, &[4, 0, 0, 0, 0, 0]).extension(0, &[0; 6]),
        six.clone().fragment(1, 0, false),
        Packet::udp("[fd00::1]:1000", "[fd00::9]:53", &[0; 8]).extension(60, &[0; 6]).fragment(1, 0, true),
        Packet::tcp("10.0.0.1:1000", "10.0.0.9:80", TcpFlags::SYN, 7, 0, b"data"),
        Packet::tcp("[fd00::1]:1000", "[fd00::9]:80", TcpFlags::ACK, 7, 9, b"data"),
        Packet::ping("10.0.0.1", "10.0.0.9", 77),
        Packet::pong("fd00::1", "fd00::9", 77),
        Packet::icmp("10.0.0.1", "10.0.0.9", 5, 1, &[0; 4]),
        Packet::icmp("fd00::1", "ff02::16", 143, 0, &[0; 4]),
        Packet::error_about("192.0.2.1", &udp, 3, 3),
        Packet::error_about("2001:db8::1", &six.extension(60, &[0; 6]), 2, 0),
        Packet::new(ip("10.0.0.1"), ip("10.0.0.9"), 47, vec![0; 8]),
        Packet::new(ip("fd00::1"), ip("fd00::9"), 50, vec![0; 8]),
    ];
    for (icmp_type, body) in
        [(133, vec![0; 4]), (134, vec![0; 12]), (135, question.clone()), (136, question), (137, redirect)]
    {
        packets.push(Packet::nd("fe80::1", "fd00::9", icmp_type, &body));
    }
    let mut frames: Vec<_> = packets.iter().map(|packet| packet.frame(mac(1), mac(2))).collect();
    frames.push(packets[0].tagged(mac(1), mac(2), VlanId(100)));
    frames.push(packets[3].tagged(mac(1), mac(2), VlanId(0)));
    frames.push(arp(1, (mac(1), "10.0.0.1"), (mac(0), "10.0.0.9")));
    frames
}

#[test]
fn every_prefix_of_a_frame_is_truncated() {
    for frame in corpus() {
        assert!(parse(Frame::whole(&frame)).is_ok(), "{frame:02x?}");
        for length in 0..frame.len() {
            let refused = parse(Frame::whole(&frame[..length]));
            assert_eq!(refused, Err(DropReason::Truncated), "{length} of {frame:02x?}");
        }
    }
}

#[test]
fn later_segments_change_nothing_and_are_not_read() {
    for frame in corpus() {
        let whole = parse(Frame::whole(&frame));
        for length in 0..=frame.len() {
            match parse(Frame { head: &frame[..length], length: frame.len() as u32 }) {
                Ok(packet) => assert_eq!(Ok(packet), whole),
                // A quotation that ends too early looks like one that was cut.
                Err(DropReason::Truncated | DropReason::MalformedHeader) => {}
                Err(reason) => panic!("{reason} at {length} of {frame:02x?}"),
            }
        }
    }
}

#[test]
fn padding_changes_nothing() {
    for frame in corpus() {
        for filling in [0x00, 0xff] {
            let padded = [&frame[..], &[filling; 46]].concat();
            assert_eq!(parse(Frame::whole(&padded)), parse(Frame::whole(&frame)));
        }
    }
}

/// The facts of a plain frame as the general parsers tell them.
fn read_plain(frame: &[u8]) -> Option<(MacAddr, MacAddr, Ip)> {
    let frame = Frame::whole(frame);
    let ethernet = Ethernet::read(frame)?;
    let family = Wanted::from_any().family(ethernet)?;
    assert_eq!(Wanted::from_source(ethernet.source()).family(ethernet), Some(family));
    let (src, dst, ports, protocol) = match family {
        Family::V4 => {
            plain::read_ipv4(frame).map(|p| (Addr::v4(p.src), Addr::v4(p.dst), p.ports, p.protocol))
        }
        Family::V6 => plain::read_ipv6(frame).map(|p| (Addr(p.src), Addr(p.dst), p.ports, p.protocol)),
    }?;
    let (src_port, dst_port) = ((ports >> 16) as u16, ports as u16);
    let transport = match protocol {
        protocol::TCP => {
            let segment = plain::segment(frame, family).expect("it was read as TCP");
            assert_eq!(plain::flags(frame, family), segment.flags);
            Transport::Tcp(segment)
        }
        _ => Transport::Udp(Udp { src_port, dst_port }),
    };
    assert_eq!(transport.ports(), Some((src_port, dst_port)));
    let ip = Ip { src, dst, protocol, transport };
    may_be_hosts(family, src, dst).then_some((
        MacAddr::from_bits(ethernet.destination),
        ethernet.source(),
        ip,
    ))
}

/// The facts of a frame that should be read as plain: none other may be, and
/// every such frame has to be.
fn should_be_plain(frame: &[u8]) -> Option<(MacAddr, MacAddr, Ip)> {
    let packet = parse(Frame::whole(frame)).ok().filter(|p| !p.tagged && !p.destination.is_group())?;
    let Body::Ip(ip) = packet.body else { return None };
    let is_bare = match ip.src.family() {
        Family::V4 => frame[14] == 0x45,
        Family::V6 => frame[20] == ip.protocol,
    };
    let is_known = matches!(ip.transport, Transport::Tcp(_) | Transport::Udp(_));
    // What a host without an address may send is not.
    (is_bare && is_known && ip.src != Addr::v4(0)).then_some((packet.destination, packet.source, ip))
}

/// What the later stages rely on for every packet; and that the short way
/// reads what it reads as the long way does.
fn check(frame: &[u8]) -> Result<(), TestCaseError> {
    prop_assert_eq!(read_plain(frame), should_be_plain(frame));
    let Ok(packet) = parse(Frame::whole(frame)) else { return Ok(()) };
    prop_assert!(!packet.source.is_group());
    prop_assert!(packet.tagged || packet.vlan.is_none());
    let Body::Ip(ip) = packet.body else { return Ok(()) };
    prop_assert_eq!(ip.src.family(), ip.dst.family());
    prop_assert_ne!(ip.src, ip.dst);
    prop_assert!(!ip.src.is_group());
    let flow = FlowKey::of(VpcIndex(1), &ip);
    let without = match ip.transport {
        Transport::NeighbourDiscovery(_) => true,
        Transport::Fragment(fragment) => fragment.offset != 0,
        _ => false,
    };
    prop_assert_eq!(flow.is_none(), without);
    if let Some((key, side)) = flow {
        // An error goes to the sender of what it quotes.
        let sender = if let Transport::Error(_) = ip.transport { ip.dst } else { ip.src };
        prop_assert_eq!(key.endpoint(side).0, sender);
        prop_assert_eq!(key.family(), ip.src.family());
    }
    agrees_with_etherparse(frame, &ip)
}

/// Compares with the etherparse crate what both read.
fn agrees_with_etherparse(frame: &[u8], ip: &Ip) -> Result<(), TestCaseError> {
    let Ok(theirs) = SlicedPacket::from_ethernet(frame) else { return Ok(()) };
    let (src, dst): (Addr, Addr) = match theirs.net {
        Some(NetSlice::Ipv4(v4)) => {
            let header = v4.header();
            (header.source_addr().into(), header.destination_addr().into())
        }
        Some(NetSlice::Ipv6(v6)) => {
            let header = v6.header();
            (header.source_addr().into(), header.destination_addr().into())
        }
        _ => return Ok(()),
    };
    prop_assert_eq!((ip.src, ip.dst), (src, dst));
    match (theirs.transport, ip.transport) {
        (Some(TransportSlice::Udp(udp)), Transport::Udp(ours)) => {
            prop_assert_eq!((ours.src_port, ours.dst_port), (udp.source_port(), udp.destination_port()));
        }
        (Some(TransportSlice::Tcp(tcp)), Transport::Tcp(ours)) => {
            prop_assert_eq!((ours.src_port, ours.dst_port), (tcp.source_port(), tcp.destination_port()));
            prop_assert_eq!((ours.seq, ours.ack), (tcp.sequence_number(), tcp.acknowledgment_number()));
            prop_assert_eq!(ours.payload as usize, tcp.payload().len());
            prop_assert_eq!(ours.flags.contains(TcpFlags::SYN), tcp.syn());
        }
        (Some(TransportSlice::Udp(_) | TransportSlice::Tcp(_)), Transport::Fragment(_)) => {}
        (Some(TransportSlice::Udp(_) | TransportSlice::Tcp(_)), ours) => {
            return Err(TestCaseError::fail(format!("they see ports, we {ours:?}")));
        }
        (_, Transport::Udp(_) | Transport::Tcp(_)) => {
            return Err(TestCaseError::fail("we see ports, they do not"));
        }
        _ => {}
    }
    Ok(())
}

#[test]
fn the_corpus_keeps_all_promises() {
    for frame in corpus() {
        check(&frame).unwrap();
    }
}

#[test]
fn the_short_way_takes_what_it_is_for() {
    for (src, dst) in [("10.0.0.1:1000", "10.0.0.9:53"), ("[fd00::1]:1000", "[fd00::9]:53")] {
        for packet in [Packet::udp(src, dst, b""), Packet::tcp(src, dst, TcpFlags::ACK, 1, 1, b"x")] {
            let frame = packet.frame(mac(1), mac(2));
            let short = read_plain(&frame).map(|(_, _, ip)| Body::Ip(ip));
            assert_eq!(short, parse(Frame::whole(&frame)).ok().map(|packet| packet.body));
            assert!(short.is_some());
        }
    }
}

#[test]
fn what_is_from_another_or_not_ip_is_not_wanted() {
    let frame = Packet::udp("10.0.0.1:1000", "10.0.0.9:53", b"").frame(mac(1), mac(2));
    let read = |frame: &[u8]| Ethernet::read(Frame::whole(frame)).expect("an Ethernet header");
    let (own, other) = (Wanted::from_source(mac(1)), Wanted::from_source(mac(3)));
    assert_eq!(own.family(read(&frame)), Some(Family::V4));
    assert_eq!(other.family(read(&frame)), None);
    let mut group = frame.clone();
    group[6] |= 1;
    assert_eq!(Wanted::from_any().family(read(&group)), None, "a group sends nothing");
    let mut tagged = frame.clone();
    tagged[12..14].copy_from_slice(&[0x81, 0]);
    assert_eq!(Wanted::from_any().family(read(&tagged)), None);
    let mut flooded = frame;
    flooded[0] |= 1;
    assert_eq!(Ethernet::read(Frame::whole(&flooded)), None);
}

#[test]
fn checksums_of_the_builder_are_right_to_others() {
    for frame in corpus() {
        let Ok(packet) = SlicedPacket::from_ethernet(&frame) else { continue };
        let (net, Some(transport)) = (packet.net, packet.transport) else { continue };
        let (written, right) = match (net, transport) {
            (Some(NetSlice::Ipv4(v4)), TransportSlice::Udp(udp)) => {
                let right = udp.to_header().calc_checksum_ipv4(&v4.header().to_header(), udp.payload());
                (udp.checksum(), right.unwrap())
            }
            (Some(NetSlice::Ipv6(v6)), TransportSlice::Udp(udp)) => {
                let right = udp.to_header().calc_checksum_ipv6(&v6.header().to_header(), udp.payload());
                (udp.checksum(), right.unwrap())
            }
            (Some(NetSlice::Ipv4(v4)), TransportSlice::Tcp(tcp)) => {
                let (src, dst) = (v4.header().source(), v4.header().destination());
                (tcp.checksum(), tcp.calc_checksum_ipv4(src, dst).unwrap())
            }
            (Some(NetSlice::Ipv6(v6)), TransportSlice::Tcp(tcp)) => {
                let (src, dst) = (v6.header().source(), v6.header().destination());
                (tcp.checksum(), tcp.calc_checksum_ipv6(src, dst).unwrap())
            }
            (Some(NetSlice::Ipv6(v6)), TransportSlice::Icmpv6(icmp)) => {
                let header = v6.header();
                assert!(icmp.is_checksum_valid(header.source(), header.destination()));
                continue;
            }
            (_, TransportSlice::Icmpv4(icmp)) => {
                assert_eq!(build::checksum(icmp.slice()), 0);
                continue;
            }
            _ => continue,
        };
        assert_eq!(written, right, "{frame:02x?}");
    }
}

/// Bytes with the beginning of a frame of IPv4 or IPv6, so that they get past it.
fn nearly_ip() -> impl Strategy<Value = Vec<u8>> {
    let start = select(vec![(ethertype::IPV4, 0x45), (ethertype::IPV4, 0x48), (ethertype::IPV6, 0x60)]);
    (start, prop::collection::vec(any::<u8>(), 0..200)).prop_map(|((ethertype, first), mut bytes)| {
        bytes.insert(0, first);
        ethernet(mac(1), mac(2), None, ethertype, &bytes)
    })
}

/// A frame of the corpus with some bytes overwritten, its IPv4 sum made right
/// again so that the inner headers are reached, and perhaps cut.
fn bent() -> impl Strategy<Value = Vec<u8>> {
    let bytes = prop::collection::vec((any::<Index>(), any::<u8>()), 0..5);
    (select(corpus()), bytes, prop::option::of(any::<Index>())).prop_map(|(mut frame, bytes, cut)| {
        for (at, byte) in bytes {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        if frame[12..14] == ethertype::IPV4.to_be_bytes() {
            let header = usize::from(frame[14] & 15) * 4;
            frame[24..26].fill(0);
            let end = frame.len().min(14 + header).max(26);
            let sum = build::checksum(&frame[14..end]);
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        if let Some(cut) = cut {
            frame.truncate(cut.index(frame.len()));
        }
        frame
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check(&bytes)?;
    }

    #[test]
    fn nearly_ip_does_not_panic(frame in nearly_ip()) {
        check(&frame)?;
    }

    #[test]
    fn bent_frames_keep_all_promises(frame in bent()) {
        check(&frame)?;
    }

    #[test]
    fn the_fast_sum_is_the_slow_sum(mut header in prop::collection::vec(any::<u8>(), 20..=60), right in any::<bool>()) {
        header.truncate(header.len() / 4 * 4);
        if right {
            header[10..12].fill(0);
            let sum = build::checksum(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        prop_assert_eq!(header_checksum_is_right(&header), build::checksum(&header) == 0);
    }
}
