//! Frames between the hosts of the world: well-formed ones, then bent.

use engine::addr::MacAddr;
use engine::ids::VlanId;
use engine::packet::TcpFlags;
use engine::packet::build::{Packet, arp, ip, mac};

use crate::input::Input;
use crate::packet::mended;

/// The interfaces', somebody's beyond the uplink, everyone's.
const MACS: [MacAddr; 6] =
    [mac(1), mac(2), mac(3), mac(99), MacAddr::BROADCAST, MacAddr([0x33, 0x33, 0, 0, 0, 1])];

const V4: [&str; 8] = [
    "10.0.0.1",
    "10.0.0.2",
    "10.0.0.3",
    "192.0.2.1",
    "198.51.100.7",
    "224.0.0.251",
    "255.255.255.255",
    "0.0.0.0",
];
const V6: [&str; 8] =
    ["fd00::1", "fd00::2", "fd00::3", "2001:db8::1", "fe80::ff:fe00:1", "fe80::9", "ff02::1", "::"];
const PORTS: [u16; 8] = [53, 80, 5000, 40_000, 67, 68, 546, 547];

/// Any bytes.
pub(super) fn raw(input: &mut Input<'_>) -> Vec<u8> {
    let length = usize::from(input.byte());
    input.take(length).to_vec()
}

/// A frame of one of many kinds, perhaps with a tag, with some bytes overwritten.
pub(super) fn built(input: &mut Input<'_>) -> Vec<u8> {
    let (from, to) = (input.pick(&MACS), input.pick(&MACS));
    let shape = input.byte();
    let mut frame = if shape & 15 == 15 {
        let ends = [input.pick(&V4), input.pick(&V4)];
        arp(1 + u16::from(input.byte() & 1), (from, ends[0]), (to, ends[1]))
    } else {
        let packet = packet(shape & 15, input);
        match shape >> 4 {
            1 => packet.tagged(from, to, VlanId(7)),
            2 => packet.tagged(from, to, VlanId(0)),
            _ => packet.frame(from, to),
        }
    };
    for _ in 0..(shape >> 6) {
        let at = usize::from(input.byte()) % frame.len();
        frame[at] = input.byte();
    }
    match shape >> 6 {
        0 => frame,
        _ => mended(&frame).unwrap_or(frame),
    }
}

fn packet(kind: u8, input: &mut Input<'_>) -> Packet {
    let hosts = if input.flag() { &V6 } else { &V4 };
    let (src, dst) = (input.pick(hosts), input.pick(hosts));
    match kind {
        0..=5 => ported(kind < 3, src, dst, input),
        6 => Packet::ping(src, dst, u16::from(input.byte() & 1)),
        7 => Packet::pong(src, dst, u16::from(input.byte() & 1)),
        8 => Packet::icmp(src, dst, input.byte(), input.byte(), &[0; 4]),
        9 | 10 => about(src, dst, input),
        11 => Packet::new(ip(src), ip(dst), input.pick(&[47, 50, 132, 1, 58, 0]), vec![0; 8]),
        12 => {
            // Few places and identifications, so that they meet.
            let (offset, more) = (u16::from(input.byte() % 5) * 8, input.flag());
            let id = u32::from(input.byte() % 3);
            ported(input.flag(), src, dst, input).fragment(id, offset, more)
        }
        _ => neighbour(input),
    }
}

/// An endpoint as text.
fn endpoint(host: &str, input: &mut Input<'_>) -> String {
    let port = input.pick(&PORTS);
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn ported(udp: bool, src: &str, dst: &str, input: &mut Input<'_>) -> Packet {
    let (src, dst) = (endpoint(src, input), endpoint(dst, input));
    if udp {
        return Packet::udp(&src, &dst, b"data");
    }
    let (seq, ack) = (u32::from(input.byte()), u32::from(input.byte()));
    Packet::tcp(&src, &dst, TcpFlags(input.byte()), seq, ack, if input.flag() { b"data" } else { b"" })
}

/// An error from a third host, or from the receiver of what it quotes.
fn about(src: &str, dst: &str, input: &mut Input<'_>) -> Packet {
    let quoted = match input.byte() % 4 {
        0 => Packet::ping(src, dst, 0),
        1 => Packet::new(ip(src), ip(dst), 47, vec![0; 8]),
        2 => ported(true, src, dst, input),
        _ => ported(false, src, dst, input),
    };
    let v6 = src.contains(':');
    let reporter = if input.flag() { dst } else { input.pick(if v6 { &V6 } else { &V4 }) };
    Packet::error_about(reporter, &quoted, input.pick(if v6 { &[1, 2, 3, 4] } else { &[3, 11, 12, 3] }), 0)
}

/// Neighbour discovery, its target and link-layer option somebody's.
fn neighbour(input: &mut Input<'_>) -> Packet {
    let (src, dst, target) = (input.pick(&V6), input.pick(&V6), input.pick(&V6));
    let icmp_type = 133 + input.byte() % 5;
    let fixed = match icmp_type {
        133 => vec![0; 4],
        134 => vec![0; 12],
        137 => [&[0; 4], &ip(target).0.to_be_bytes()[..], &[0; 16]].concat(),
        _ => [&[0; 4], &ip(target).0.to_be_bytes()[..]].concat(),
    };
    let link = match input.byte() % 3 {
        0 => vec![],
        kind => [&[kind, 1][..], &input.pick(&MACS).0].concat(),
    };
    Packet::nd(src, dst, icmp_type, &[fixed, link].concat())
}
