//! ICMP and ICMPv6: queries, errors and what they quote.

use super::*;
use crate::packet::build::ip;

fn query(packet: &Packet) -> Query {
    match read(packet).unwrap().transport {
        Transport::Query(query) => query,
        other => panic!("{other:?}"),
    }
}

fn quoted(packet: &Packet) -> Quoted {
    match read(packet).unwrap().transport {
        Transport::Error(error) => error.quoted,
        other => panic!("{other:?}"),
    }
}

#[test]
fn pings_of_both_families() {
    for (a, b, ask, answer) in [("10.0.0.1", "10.0.0.2", 8, 0), ("fd00::1", "fd00::2", 128, 129)] {
        let request = query(&Packet::ping(a, b, 0x1234));
        assert_eq!(request, Query { kind: QueryKind::Request, icmp_type: ask, code: 0, id: 0x1234 });
        assert_eq!(request.ports(), (0x1234, u16::from(ask) << 8));
        let reply = query(&Packet::pong(b, a, 0x1234));
        assert_eq!(reply, Query { kind: QueryKind::Reply, icmp_type: answer, code: 0, id: 0x1234 });
        assert_eq!(reply.ports(), (u16::from(ask) << 8, 0x1234));
    }
}

#[test]
fn every_query_has_its_reply() {
    for (ask, answer) in [(8, 0), (13, 14), (15, 16), (17, 18)] {
        let body = [0xab, 0xcd, 0, 1];
        let request = query(&Packet::icmp("10.0.0.1", "10.0.0.2", ask, 3, &body));
        let reply = query(&Packet::icmp("10.0.0.2", "10.0.0.1", answer, 3, &body));
        assert_eq!((request.kind, reply.kind), (QueryKind::Request, QueryKind::Reply));
        assert_eq!((request.request_type(), reply.request_type()), (ask, ask));
        assert_eq!(request.ports(), (0xabcd, u16::from(ask) << 8 | 3));
        assert_eq!(reply.ports(), (u16::from(ask) << 8 | 3, 0xabcd));
    }
}

#[test]
fn other_messages_have_type_and_code() {
    // Source quench, redirect, router advertisement and solicitation, extended echo.
    for icmp_type in [1, 2, 4, 5, 6, 7, 9, 10, 19, 30, 42, 43, 128, 129, 255] {
        let ip = read(&Packet::icmp("10.0.0.1", "10.0.0.2", icmp_type, 7, &[0; 4])).unwrap();
        assert_eq!(ip.transport, Transport::Icmp { icmp_type, code: 7 });
        assert_eq!(ip.transport.ports(), Some((u16::from(icmp_type) << 8 | 7, 0xffff)));
    }
    // Also without any body: RFC 4443 asks for no more than four bytes.
    for icmp_type in [0, 5, 8, 100, 127, 130, 131, 132, 138, 143, 255] {
        let ip = read(&Packet::icmp("fd00::1", "fd00::2", icmp_type, 7, &[])).unwrap();
        assert_eq!(ip.transport, Transport::Icmp { icmp_type, code: 7 });
    }
}

#[test]
fn messages_must_be_whole() {
    for length in 0..8 {
        for icmp_type in [0, 3, 5, 8, 11, 13] {
            let bytes = vec![icmp_type; length];
            let packet = Packet::new(ip("10.0.0.1"), ip("10.0.0.2"), 1, bytes);
            let frame = [packet.frame(mac(1), mac(2)), vec![0xff; 32]].concat();
            assert_eq!(read_frame(&frame), Err(DropReason::Truncated), "{icmp_type}: {length}");
        }
        for icmp_type in [1, 2, 128, 129] {
            let bytes = vec![icmp_type; length];
            let packet = Packet::new(ip("fd00::1"), ip("fd00::2"), 58, bytes);
            let frame = [packet.frame(mac(1), mac(2)), vec![0xff; 32]].concat();
            assert_eq!(read_frame(&frame), Err(DropReason::Truncated), "{icmp_type}: {length}");
        }
    }
}

#[test]
fn errors_quote_the_ports_of_their_packet() {
    let about_v4 = [
        (Packet::udp("10.0.0.1:1000", "10.0.0.9:53", b""), (17, 1000, 53)),
        (Packet::udp("10.0.0.1:1000", "10.0.0.9:53", b"").options(&[1; 8]), (17, 1000, 53)),
        (Packet::udp("10.0.0.1:1000", "10.0.0.9:53", b"12345678").fragment(1, 0, true), (17, 1000, 53)),
        (Packet::tcp("10.0.0.1:1000", "10.0.0.9:80", TcpFlags::SYN, 7, 0, b""), (6, 1000, 80)),
        (Packet::ping("10.0.0.1", "10.0.0.9", 77), (1, 77, 0x0800)),
        (Packet::pong("10.0.0.1", "10.0.0.9", 77), (1, 0x0800, 77)),
        (Packet::icmp("10.0.0.1", "10.0.0.9", 5, 1, &[0; 4]), (1, 0x0501, 0xffff)),
        (Packet::new(ip("10.0.0.1"), ip("10.0.0.9"), 47, vec![0; 8]), (47, 0, 0)),
        (Packet::new(ip("10.0.0.1"), ip("10.0.0.9"), 58, vec![128, 0, 0, 0, 0, 77, 0, 0]), (58, 0, 0)),
    ];
    for (about, (protocol, src_port, dst_port)) in about_v4 {
        for icmp_type in [3, 11, 12] {
            let expected = Quoted { src: ip("10.0.0.1"), dst: ip("10.0.0.9"), protocol, src_port, dst_port };
            // From the host itself, and from a router on the way.
            for from in ["10.0.0.9", "192.0.2.1"] {
                let error = Packet::error_about(from, &about, icmp_type, 1);
                assert_eq!(quoted(&error), expected, "{about:?}");
                assert_eq!(read(&error).unwrap().transport.ports(), Some((src_port, dst_port)));
            }
        }
    }
    let about_v6 = [
        (Packet::udp("[fd00::1]:1000", "[fd00::9]:53", b""), (17, 1000, 53)),
        (Packet::udp("[fd00::1]:1000", "[fd00::9]:53", b"").extension(60, &[0; 14]), (17, 1000, 53)),
        (Packet::udp("[fd00::1]:1000", "[fd00::9]:53", &[0; 8]).fragment(1, 0, true), (17, 1000, 53)),
        (Packet::udp("[fd00::1]:1000", "[fd00::9]:53", b"").fragment(1, 0, false), (17, 1000, 53)),
        (Packet::ping("fd00::1", "fd00::9", 77), (58, 77, 0x8000)),
        (Packet::icmp("fd00::1", "fd00::9", 143, 0, &[]), (58, 0x8f00, 0xffff)),
        (Packet::new(ip("fd00::1"), ip("fd00::9"), 50, vec![0; 8]), (50, 0, 0)),
        (Packet::new(ip("fd00::1"), ip("fd00::9"), 1, vec![8, 0, 0, 0, 0, 77, 0, 0]), (1, 0, 0)),
    ];
    for (about, (protocol, src_port, dst_port)) in about_v6 {
        for icmp_type in [1, 2, 3, 4] {
            let expected = Quoted { src: ip("fd00::1"), dst: ip("fd00::9"), protocol, src_port, dst_port };
            assert_eq!(quoted(&Packet::error_about("2001:db8::1", &about, icmp_type, 0)), expected);
        }
    }
}

#[test]
fn a_quotation_may_end_behind_the_ports_and_not_before() {
    // Bytes of the quoted packet that are needed: its IP header, then the
    // ports, or the identifier of a query.
    for (about, needed) in [
        (Packet::udp("10.0.0.1:1000", "10.0.0.9:53", b"12345678"), 24),
        (Packet::tcp("10.0.0.1:1000", "10.0.0.9:80", TcpFlags::SYN, 7, 0, b""), 24),
        (Packet::ping("10.0.0.1", "10.0.0.9", 77), 26),
        (Packet::icmp("10.0.0.1", "10.0.0.9", 5, 1, &[0; 4]), 22),
        (Packet::new(ip("10.0.0.1"), ip("10.0.0.9"), 47, vec![0; 8]), 20),
        (Packet::udp("[fd00::1]:1000", "[fd00::9]:53", b"12345678"), 44),
        (Packet::udp("[fd00::1]:1000", "[fd00::9]:53", b"").extension(60, &[0; 6]), 52),
        (Packet::ping("fd00::1", "fd00::9", 77), 46),
    ] {
        let whole = about.ip();
        let (from, to, icmp_type) =
            if whole[0] >> 4 == 4 { ("192.0.2.1", "10.0.0.1", 3) } else { ("2001:db8::1", "fd00::1", 1) };
        for cut in 0..=whole.len() {
            let body = [&[0; 4], &whole[..cut]].concat();
            let outcome = read(&Packet::icmp(from, to, icmp_type, 0, &body));
            if cut < needed {
                assert_eq!(outcome, Err(DropReason::MalformedHeader), "{about:?}, cut at {cut}");
            } else {
                assert!(outcome.is_ok(), "{about:?}, cut at {cut}");
            }
        }
    }
}

#[test]
fn errors_that_quote_what_cannot_be_are_malformed() {
    let udp = Packet::udp("10.0.0.1:1000", "10.0.0.9:53", b"12345678");
    let six = Packet::udp("[fd00::1]:1000", "[fd00::9]:53", b"12345678");
    let cases: [(&str, &str, u8, Vec<u8>); 7] = [
        ("192.0.2.1", "10.0.0.1", 3, six.ip()),
        ("2001:db8::1", "fd00::1", 1, [udp.ip(), vec![0; 40]].concat()),
        ("192.0.2.1", "10.0.0.1", 3, udp.clone().fragment(1, 8, true).ip()),
        ("2001:db8::1", "fd00::1", 1, six.clone().fragment(1, 8, true).ip()),
        ("192.0.2.1", "10.0.0.1", 3, [&[0x44], &udp.ip()[1..]].concat()),
        ("2001:db8::1", "fd00::1", 1, (0..9).fold(six.clone(), |p, _| p.extension(60, &[0; 6])).ip()),
        // An IPv4-mapped address in IPv6 would pass for IPv4's.
        (
            "2001:db8::1",
            "fd00::1",
            1,
            [&six.ip()[..24], &[0; 10], &[0xff; 2], &[10, 0, 0, 9], &six.ip()[40..]].concat(),
        ),
    ];
    for (i, (from, to, icmp_type, quotation)) in cases.iter().enumerate() {
        let error = Packet::icmp(from, to, *icmp_type, 0, &[&[0; 4], &quotation[..]].concat());
        assert_eq!(read(&error), Err(DropReason::MalformedHeader), "case {i}");
    }
}

#[test]
fn errors_go_to_whoever_sent_the_quoted_packet() {
    let about = Packet::udp("10.0.0.1:1000", "10.0.0.9:53", b"").ip();
    let body = [&[0; 4], &about[..]].concat();
    assert!(read(&Packet::icmp("10.0.0.9", "10.0.0.1", 3, 3, &body)).is_ok());
    for to in ["10.0.0.2", "10.0.0.9", "255.255.255.255"] {
        let refused = read(&Packet::icmp("192.0.2.1", to, 3, 3, &body));
        assert_eq!(refused, Err(DropReason::UnrelatedError), "to {to}");
    }
}

#[test]
fn errors_do_not_quote_martians() {
    for (src, dst) in
        [("0.0.0.0:68", "255.255.255.255:67"), ("127.0.0.1:1", "10.0.0.9:2"), ("10.0.0.1:1", "10.0.0.1:2")]
    {
        let body = [&[0; 4], &Packet::udp(src, dst, b"").ip()[..]].concat();
        let refused = read(&Packet::icmp("192.0.2.1", "10.0.0.1", 3, 3, &body));
        assert_eq!(refused, Err(DropReason::MartianAddress), "{src}");
    }
}
