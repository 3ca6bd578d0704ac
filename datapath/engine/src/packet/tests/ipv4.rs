//! IPv4: lengths, checksum, options, fragments, addresses.

use super::*;
use crate::packet::build::ip;

fn datagram() -> Packet {
    Packet::udp("10.0.0.1:1000", "10.0.0.2:53", b"hello")
}

fn between(src: &str, dst: &str) -> Result<Ip, DropReason> {
    read(&Packet::udp(&format!("{src}:1000"), &format!("{dst}:53"), b""))
}

#[test]
fn the_header_length_must_hold_the_header() {
    for words in 0..5 {
        let frame = patched(&datagram(), &[(0, 0x40 | words)]);
        assert_eq!(read_frame(&frame), Err(DropReason::MalformedHeader), "{words} words");
    }
}

#[test]
fn the_total_length_must_hold_the_header_and_fit_the_frame() {
    for (total, reason) in [
        (0, DropReason::MalformedHeader),
        (19, DropReason::MalformedHeader),
        // No room for UDP, then none for what UDP says it has.
        (20, DropReason::Truncated),
        (27, DropReason::Truncated),
        (32, DropReason::MalformedHeader),
        (34, DropReason::Truncated),
        (255, DropReason::Truncated),
    ] {
        assert_eq!(read_frame(&patched(&datagram(), &[(3, total)])), Err(reason), "total length {total}");
    }
    let padded = [datagram().frame(mac(1), mac(2)), vec![0xff; 30]].concat();
    assert_eq!(read_frame(&padded), read(&datagram()));
}

#[test]
fn only_version_four_is_ipv4() {
    for version in [0, 3, 5, 6, 15] {
        let frame = patched(&datagram(), &[(0, version << 4 | 5)]);
        assert_eq!(read_frame(&frame), Err(DropReason::MalformedHeader), "version {version}");
    }
}

#[test]
fn any_changed_bit_breaks_the_checksum() {
    let header = datagram().ip()[..20].to_vec();
    assert!(header_checksum_is_right(&header));
    for bit in 0..160 {
        let mut broken = header.clone();
        broken[bit / 8] ^= 1 << (bit % 8);
        assert!(!header_checksum_is_right(&broken), "bit {bit}");
    }
    let mut frame = datagram().frame(mac(1), mac(2));
    frame[14 + 8] ^= 1;
    assert_eq!(read_frame(&frame), Err(DropReason::BadChecksum));
    assert!(!header_checksum_is_right(&[0; 20]));
}

#[test]
fn checksum_as_in_the_textbook() {
    // A header whose sum needs the end-around carry twice.
    let mut header = [0xff; 20];
    header[10..12].fill(0);
    let sum = build::checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    assert!(header_checksum_is_right(&header));
    // RFC 1071, 3: the sum of these bytes is ddf2.
    assert_eq!(build::checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    assert_eq!(build::checksum(&[0x00, 0x01, 0xf2]), !0xf201);
}

#[test]
fn options_are_skipped_if_their_lengths_are_right() {
    for options in [
        &[1, 1, 1, 0][..],
        &[0, 0xff, 0xff, 0xff],
        &[148, 4, 0, 0],
        &[1, 7, 3, 4],
        &[7, 7, 4, 1, 2, 3, 4, 1],
        &[1; 40],
    ] {
        assert_eq!(read(&datagram().options(options)), read(&datagram()), "{options:?}");
    }
    for options in
        [&[7, 0, 0, 0][..], &[7, 1, 0, 0], &[7, 5, 4, 0], &[1, 1, 1, 7], &[148, 4, 0, 0, 1, 1, 7, 3]]
    {
        assert_eq!(read(&datagram().options(options)), Err(DropReason::MalformedHeader), "{options:?}");
    }
}

#[test]
fn options_are_under_the_checksum_and_must_be_at_hand() {
    let mut frame = datagram().options(&[1, 1, 1, 1]).frame(mac(1), mac(2));
    let head = Frame { head: &frame[..14 + 22], length: frame.len() as u32 };
    assert_eq!(parse(head).unwrap_err(), DropReason::Truncated);
    frame[14 + 21] = 0;
    assert_eq!(read_frame(&frame), Err(DropReason::BadChecksum));
}

#[test]
fn every_fragment_is_a_fragment_the_first_included() {
    let data = |length| Packet::new(ip("10.0.0.1"), ip("10.0.0.2"), 17, vec![9; length]);
    for (offset, more, length) in [(0, true, 8), (8, true, 1480), (1488, false, 3), (65528, false, 7)] {
        let ip = read(&data(length).fragment(0xbeef, offset, more)).unwrap();
        let ports = (offset == 0).then_some((0x909, 0x909));
        let fragment = Fragment { id: 0xbeef, offset, length: length as u16, more, ports };
        assert_eq!((ip.protocol, ip.transport), (17, Transport::Fragment(fragment)));
        assert_eq!(ip.transport.ports(), ports);
    }
    // Nothing in it, no multiple of eight before the last, beyond 65535 bytes.
    for (offset, more, length) in
        [(0, true, 0), (8, false, 0), (0, true, 9), (8, true, 12), (65528, true, 8), (65520, false, 16)]
    {
        let refused = read(&data(length).fragment(1, offset, more));
        assert_eq!(refused, Err(DropReason::MalformedHeader), "{offset} {more} {length}");
    }
    // "Don't fragment" and the reserved bit make no fragment.
    for flags in [0x00, 0x40, 0x80, 0xc0] {
        assert_eq!(read_frame(&patched(&datagram(), &[(6, flags)])), read(&datagram()));
    }
}

#[test]
fn martian_sources_and_destinations() {
    for src in [
        "0.0.0.0",
        "0.0.0.1",
        "0.255.255.255",
        "127.0.0.1",
        "127.255.255.255",
        "224.0.0.1",
        "239.255.255.255",
        "255.255.255.255",
        "10.0.0.2",
    ] {
        assert_eq!(between(src, "10.0.0.2"), Err(DropReason::MartianAddress), "from {src}");
    }
    for dst in ["0.0.0.0", "0.1.2.3", "127.0.0.1", "127.200.0.1"] {
        assert_eq!(between("10.0.0.1", dst), Err(DropReason::MartianAddress), "to {dst}");
    }
    // Their nearest neighbours.
    for src in ["1.0.0.0", "126.255.255.255", "128.0.0.0", "223.255.255.255", "255.255.255.254", "10.0.0.1"] {
        assert!(between(src, "10.0.0.2").is_ok(), "from {src}");
    }
    for dst in ["1.0.0.0", "126.255.255.255", "128.0.0.0", "224.0.0.1", "255.255.255.255"] {
        assert!(between("10.0.0.1", dst).is_ok(), "to {dst}");
    }
}

#[test]
fn only_a_dhcp_request_comes_from_nowhere() {
    let udp = |src: &str, dst: &str| read(&Packet::udp(src, dst, b""));
    assert!(udp("0.0.0.0:68", "255.255.255.255:67").is_ok());
    assert!(udp("0.0.0.0:68", "10.0.0.2:67").is_ok());
    for (src, dst) in [
        ("0.0.0.0:67", "255.255.255.255:67"),
        ("0.0.0.0:68", "255.255.255.255:68"),
        ("0.0.0.0:67", "255.255.255.255:68"),
        ("0.0.0.1:68", "255.255.255.255:67"),
        ("127.0.0.1:68", "255.255.255.255:67"),
        ("255.255.255.255:68", "10.0.0.2:67"),
        ("0.0.0.0:68", "0.0.0.0:67"),
        ("0.0.0.0:68", "127.0.0.1:67"),
    ] {
        assert_eq!(udp(src, dst), Err(DropReason::MartianAddress), "{src} {dst}");
    }
    let tcp = Packet::tcp("0.0.0.0:68", "255.255.255.255:67", TcpFlags::SYN, 0, 0, b"");
    assert_eq!(read(&tcp), Err(DropReason::MartianAddress));
    let fragment = Packet::udp("0.0.0.0:68", "255.255.255.255:67", b"").fragment(1, 0, true);
    assert_eq!(read(&fragment), Err(DropReason::MartianAddress));
}
