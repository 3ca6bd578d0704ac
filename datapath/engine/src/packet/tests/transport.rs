//! TCP, UDP, and what is neither.

use super::*;

const PAIRS: [(&str, &str); 2] = [("10.0.0.1:1000", "10.0.0.2:53"), ("[fd00::1]:1000", "[fd00::2]:53")];

/// Where the header above IP begins.
fn above(packet: &Packet) -> usize {
    if packet.ip()[0] >> 4 == 4 { 20 } else { 40 }
}

#[test]
fn udp_of_both_families() {
    for (src, dst) in PAIRS {
        let ip = read(&Packet::udp(src, dst, b"hello")).unwrap();
        assert_eq!(ip.protocol, 17);
        assert_eq!(ip.transport, Transport::Udp(Udp { src_port: 1000, dst_port: 53 }));
        assert_eq!(ip.transport.ports(), Some((1000, 53)));
    }
}

#[test]
fn tcp_of_both_families() {
    for (src, dst) in PAIRS {
        let flags = TcpFlags::SYN | TcpFlags::ACK;
        let ip = read(&Packet::tcp(src, dst, flags, 0x0102_0304, 0x0506_0708, b"data")).unwrap();
        let expected =
            Tcp { src_port: 1000, dst_port: 53, seq: 0x0102_0304, ack: 0x0506_0708, flags, payload: 4 };
        assert_eq!((ip.protocol, ip.transport), (6, Transport::Tcp(expected)));
    }
}

#[test]
fn tcp_options_are_no_payload_and_must_fit() {
    for (src, dst) in PAIRS {
        // Twelve bytes behind the fixed header: three words of options or of data.
        let packet = Packet::tcp(src, dst, TcpFlags::ACK, 1, 1, &[1; 12]);
        let offset = above(&packet) + 12;
        for (words, payload) in [(5, 12), (6, 8), (8, 0)] {
            let ip = read_frame(&patched(&packet, &[(offset, words << 4)])).unwrap();
            assert!(matches!(ip.transport, Transport::Tcp(tcp) if tcp.payload == payload), "{words} words");
        }
        for (words, reason) in [
            (0, DropReason::MalformedHeader),
            (4, DropReason::MalformedHeader),
            (9, DropReason::Truncated),
            (15, DropReason::Truncated),
        ] {
            assert_eq!(read_frame(&patched(&packet, &[(offset, words << 4)])), Err(reason), "{words} words");
        }
    }
}

#[test]
fn udp_lengths_must_not_lie() {
    for (src, dst) in PAIRS {
        let packet = Packet::udp(src, dst, b"hello");
        let offset = above(&packet) + 5;
        // Less than the packet holds leaves a surplus that is no data: allowed.
        for right in [8, 12, 13] {
            assert!(read_frame(&patched(&packet, &[(offset, right)])).is_ok(), "{right}");
        }
        for wrong in [0, 7, 14, 255] {
            let refused = read_frame(&patched(&packet, &[(offset, wrong)]));
            assert_eq!(refused, Err(DropReason::MalformedHeader), "{wrong}");
        }
    }
}

#[test]
fn headers_must_fit_their_packet() {
    for (src, dst) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
        let (src, dst) = (build::ip(src), build::ip(dst));
        for (number, least) in [(protocol::UDP, 8), (protocol::TCP, 20)] {
            for length in 0..least {
                let packet = Packet::new(src, dst, number, vec![0; length]);
                // Padding behind the packet is none of its bytes.
                let frame = [packet.frame(mac(1), mac(2)), vec![0xff; 64]].concat();
                assert_eq!(read_frame(&frame), Err(DropReason::Truncated), "{number}: {length}");
            }
        }
    }
}

#[test]
fn other_protocols_are_other_whatever_they_carry() {
    // IGMP, GRE, AH, SCTP, UDP-Lite, no next header, 255; ICMPv6 in IPv4 and
    // ICMP in IPv6.
    for (src, dst, stranger) in [("10.0.0.1", "10.0.0.2", 58), ("fd00::1", "fd00::2", 1)] {
        for number in [2, 47, 50, 51, 59, 132, 136, 255, stranger] {
            for payload in [vec![], vec![8, 0, 0, 0, 0, 1, 0, 1]] {
                let ip = read(&Packet::new(build::ip(src), build::ip(dst), number, payload)).unwrap();
                assert_eq!((ip.protocol, ip.transport), (number, Transport::Other));
                assert_eq!(ip.transport.ports(), Some((0, 0)));
            }
        }
    }
}

#[test]
fn tcp_flags_have_names() {
    assert_eq!(format!("{:?}", TcpFlags::SYN | TcpFlags::ACK), "SYN|ACK");
    assert_eq!(format!("{:?}", TcpFlags::default()), "-");
    assert_eq!(format!("{:?}", TcpFlags(0xff)), "FIN|SYN|RST|PSH|ACK|URG|ECE|CWR");
    let both = TcpFlags::FIN | TcpFlags::ACK;
    assert!(both.contains(TcpFlags::FIN) && !TcpFlags::FIN.contains(both));
    assert!(both.intersects(TcpFlags::FIN | TcpFlags::RST) && !both.intersects(TcpFlags::RST));
}
