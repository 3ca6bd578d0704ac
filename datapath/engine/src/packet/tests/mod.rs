//! Named cases for every header and for every way it can be wrong; then all
//! prefixes of a corpus, arbitrary bytes, and a parser of another make.

mod ethernet;
mod icmp;
mod ipv4;
mod ipv6;
mod nd;
mod robustness;
mod transport;

use super::build::{Packet, mac};
use super::*;

/// The IP packet in the frame of a built packet.
fn read(packet: &Packet) -> Result<Ip, DropReason> {
    read_frame(&packet.frame(mac(1), mac(2)))
}

fn read_frame(frame: &[u8]) -> Result<Ip, DropReason> {
    match parse(Frame::whole(frame))?.body {
        Body::Ip(ip) => Ok(ip),
        Body::Arp(arp) => panic!("not IP: {arp:?}"),
    }
}

/// The frame of a built packet with the byte at `offset` of its IP header
/// replaced, and the sum of an IPv4 header made right again.
fn patched(packet: &Packet, patches: &[(usize, u8)]) -> Vec<u8> {
    let mut bytes = packet.ip();
    for (offset, value) in patches {
        bytes[*offset] = *value;
    }
    let is_v4 = packet.ip()[0] >> 4 == 4;
    if is_v4 {
        let header = usize::from(packet.ip()[0] & 15) * 4;
        bytes[10..12].fill(0);
        let sum = build::checksum(&bytes[..header]);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    let ethertype = if is_v4 { ethertype::IPV4 } else { ethertype::IPV6 };
    build::ethernet(mac(1), mac(2), None, ethertype, &bytes)
}
