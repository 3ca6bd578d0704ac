//! IPv6: lengths, extension headers, fragments, addresses.

use super::*;
use crate::packet::build::ip;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const DESTINATION: u8 = 60;
const PADDING: [u8; 6] = [1, 4, 0, 0, 0, 0];

fn datagram() -> Packet {
    Packet::udp("[fd00::1]:1000", "[fd00::2]:53", b"hello")
}

/// The datagram behind extension headers, in this order.
fn behind(headers: &[(u8, &[u8])]) -> Result<Ip, DropReason> {
    // The builder puts each in front of those before.
    read(&headers.iter().rev().fold(datagram(), |packet, (kind, body)| packet.extension(*kind, body)))
}

fn between(src: &str, dst: &str) -> Result<Ip, DropReason> {
    read(&Packet::udp(&format!("[{src}]:1000"), &format!("[{dst}]:53"), b""))
}

#[test]
fn only_version_six_is_ipv6() {
    for version in [0, 4, 5, 7, 15] {
        let frame = patched(&datagram(), &[(0, version << 4)]);
        assert_eq!(read_frame(&frame), Err(DropReason::MalformedHeader), "version {version}");
    }
    // Traffic class and flow label are no concern.
    assert_eq!(read_frame(&patched(&datagram(), &[(0, 0x6f), (1, 0xff), (2, 1), (3, 2)])), read(&datagram()));
}

#[test]
fn the_payload_length_must_fit_the_frame() {
    for (length, reason) in [
        (0, DropReason::Truncated),
        (7, DropReason::Truncated),
        (12, DropReason::MalformedHeader),
        (14, DropReason::Truncated),
        (255, DropReason::Truncated),
    ] {
        assert_eq!(read_frame(&patched(&datagram(), &[(5, length)])), Err(reason), "payload length {length}");
    }
    let padded = [datagram().frame(mac(1), mac(2)), vec![0xff; 30]].concat();
    assert_eq!(read_frame(&padded), read(&datagram()));
}

#[test]
fn extension_headers_are_walked() {
    let routing = [4, 1, 0, 0, 0, 0];
    let long = [&PADDING[..], &[0; 16]].concat();
    for headers in [
        &[(HOP_BY_HOP, &PADDING[..])][..],
        &[(DESTINATION, &PADDING)],
        &[(ROUTING, &routing)],
        &[(HOP_BY_HOP, &long), (DESTINATION, &PADDING), (ROUTING, &routing), (DESTINATION, &long)],
    ] {
        assert_eq!(behind(headers), read(&datagram()), "{headers:?}");
    }
}

#[test]
fn eight_extension_headers_and_no_more() {
    let many = [(DESTINATION, &PADDING[..]); 9];
    assert_eq!(behind(&many[..8]), read(&datagram()));
    assert_eq!(behind(&many), Err(DropReason::ExtensionHeaders));
}

#[test]
fn hop_by_hop_options_come_first_or_not_at_all() {
    for headers in [
        [(DESTINATION, &PADDING[..]), (HOP_BY_HOP, &PADDING)],
        [(HOP_BY_HOP, &PADDING), (HOP_BY_HOP, &PADDING)],
    ] {
        assert_eq!(behind(&headers), Err(DropReason::ExtensionHeaders), "{headers:?}");
    }
}

#[test]
fn type_0_routing_is_dead() {
    for (routing_type, left, allowed) in
        [(0, 1, false), (0, 255, false), (0, 0, true), (2, 1, true), (4, 1, true)]
    {
        let outcome = behind(&[(ROUTING, &[routing_type, left, 0, 0, 0, 0])]);
        let expected = if allowed { read(&datagram()) } else { Err(DropReason::ExtensionHeaders) };
        assert_eq!(outcome, expected, "type {routing_type}, {left} left");
    }
}

#[test]
fn extension_headers_must_fit_the_packet() {
    let packet = datagram().extension(DESTINATION, &PADDING);
    // The packet has 21 bytes behind the IPv6 header: two units of eight.
    for units in [1, 2, 255] {
        let refused = read_frame(&patched(&packet, &[(41, units)]));
        assert_eq!(refused, Err(DropReason::Truncated), "{units} more units");
    }
    for length in 0..8 {
        for kind in [HOP_BY_HOP, ROUTING, 44, DESTINATION] {
            let begun = [17, 0, 0, 0, 0, 0, 0, 0][..length].to_vec();
            let cut = Packet::new(ip("fd00::1"), ip("fd00::2"), kind, begun);
            let frame = [cut.frame(mac(1), mac(2)), vec![0; 64]].concat();
            assert_eq!(read_frame(&frame), Err(DropReason::Truncated), "{kind}: {length}");
        }
    }
}

#[test]
fn ah_esp_and_no_next_header_end_the_walk() {
    for number in [50, 51, 59, 135] {
        let packet = Packet::new(ip("fd00::1"), ip("fd00::2"), number, vec![17, 4, 0, 0, 0, 0, 0, 0]);
        let ip = read(&packet.extension(DESTINATION, &PADDING)).unwrap();
        assert_eq!((ip.protocol, ip.transport), (number, Transport::Other));
    }
}

#[test]
fn every_fragment_is_a_fragment_the_first_included() {
    let data = |length| Packet::new(ip("fd00::1"), ip("fd00::2"), 17, vec![9; length]);
    for (offset, more, length) in [(0, true, 8), (8, true, 1448), (1456, false, 3), (65528, false, 7)] {
        let packet = data(length).fragment(0xdead_beef, offset, more);
        for packet in [packet.clone(), packet.extension(HOP_BY_HOP, &PADDING)] {
            let ip = read(&packet).unwrap();
            let ports = (offset == 0).then_some((0x909, 0x909));
            let fragment = Fragment { id: 0xdead_beef, offset, length: length as u16, more, ports };
            assert_eq!((ip.protocol, ip.transport), (17, Transport::Fragment(fragment)));
        }
    }
    for (offset, more, length) in
        [(0, true, 0), (8, false, 0), (0, true, 9), (8, true, 12), (65528, true, 8), (65520, false, 16)]
    {
        let refused = read(&data(length).fragment(1, offset, more));
        assert_eq!(refused, Err(DropReason::MalformedHeader), "{offset} {more} {length}");
    }
}

#[test]
fn a_later_fragment_is_not_read_as_headers() {
    // Its data would be a hop-by-hop header in the wrong place.
    let data = Packet::new(ip("fd00::1"), ip("fd00::2"), HOP_BY_HOP, vec![0xff; 16]);
    let ip = read(&data.fragment(1, 64, false)).unwrap();
    assert_eq!(ip.protocol, HOP_BY_HOP);
    assert!(matches!(ip.transport, Transport::Fragment(_)));
}

#[test]
fn an_atomic_fragment_is_a_whole_packet() {
    assert_eq!(read(&datagram().fragment(7, 0, false)), read(&datagram()));
    let twice = datagram().fragment(7, 0, false).fragment(8, 0, false);
    assert_eq!(read(&twice), Err(DropReason::ExtensionHeaders));
    let hidden = datagram().fragment(7, 8, false).fragment(8, 0, false);
    assert_eq!(read(&hidden), Err(DropReason::ExtensionHeaders));
}

#[test]
fn martian_sources_and_destinations() {
    for src in ["::", "::1", "ff02::1", "ffff::1", "fd00::2"] {
        assert_eq!(between(src, "fd00::2"), Err(DropReason::MartianAddress), "from {src}");
    }
    for dst in ["::", "::1"] {
        assert_eq!(between("fd00::1", dst), Err(DropReason::MartianAddress), "to {dst}");
    }
    for (src, dst) in
        [("::2", "fd00::2"), ("fe80::1", "ff02::1"), ("::fffe:10.0.0.1", "fd00::2"), ("fd00::1", "fd00::2")]
    {
        assert!(between(src, dst).is_ok(), "{src} {dst}");
    }
}

#[test]
fn no_address_is_mapped() {
    // `::ffff:10.0.0.1` in the place of the source, then of the destination;
    // then their nearest neighbour, `::fffe:10.0.0.1`.
    for at in [8, 24] {
        let with = |mapped: [u8; 2]| {
            let address = [&[0; 10][..], &mapped, &[10, 0, 0, 1]].concat();
            let patches: Vec<_> = address.into_iter().enumerate().map(|(i, byte)| (at + i, byte)).collect();
            read_frame(&patched(&datagram(), &patches))
        };
        assert_eq!(with([0xff, 0xff]), Err(DropReason::MartianAddress));
        assert!(with([0xff, 0xfe]).is_ok());
    }
}

#[test]
fn only_discovery_and_multicast_reports_come_from_nowhere() {
    let icmp = |icmp_type| read(&Packet::icmp("::", "ff02::16", icmp_type, 0, &[0; 20]));
    for report in [131, 132, 143] {
        assert!(icmp(report).is_ok(), "{report}");
    }
    for other in [128, 129, 130, 138, 144] {
        assert_eq!(icmp(other), Err(DropReason::MartianAddress), "{other}");
    }
    let to_itself = Packet::icmp("::", "::", 143, 0, &[0; 20]);
    assert_eq!(read(&to_itself), Err(DropReason::MartianAddress));
    let same_number_elsewhere = Packet::new(ip("::"), ip("ff02::16"), 143, vec![0; 8]);
    assert_eq!(read(&same_number_elsewhere), Err(DropReason::MartianAddress));
}
