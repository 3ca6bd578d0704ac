//! Frames for tests and tools: a packet is put together from the inside out,
//! lengths and checksums come right by themselves. Behind the feature `build`;
//! nothing on the datapath uses it.
//!
//! ```
//! use engine::packet::build::{Packet, mac};
//! let frame = Packet::udp("10.0.0.1:5000", "10.0.0.2:53", b"hello").frame(mac(1), mac(2));
//! assert!(engine::packet::parse(engine::packet::Frame::whole(&frame)).is_ok());
//! ```

use std::net::{IpAddr, SocketAddr};

use super::{TcpFlags, ethertype, protocol};
use crate::addr::{Addr, Family, MacAddr};
use crate::ids::VlanId;

/// The locally administered MAC that ends in this number.
pub const fn mac(n: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, n])
}

/// An IP packet in the making.
#[derive(Clone, Debug)]
pub struct Packet {
    src: Addr,
    dst: Addr,
    protocol: u8,
    hop_limit: u8,
    /// IPv4 only: the options.
    options: Vec<u8>,
    /// IPv4 only: identification, and the 16 bits of flags and offset.
    fragment: (u16, u16),
    payload: Vec<u8>,
}

/// "Don't fragment", as most stacks send.
const WHOLE: (u16, u16) = (0, 0x4000);

/// An address as text; a panic says which is none. For tests and tools only.
pub fn ip(text: &str) -> Addr {
    text.parse::<IpAddr>().unwrap_or_else(|e| panic!("{text}: {e}")).into()
}

fn socket(text: &str) -> (Addr, u16) {
    let socket: SocketAddr = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
    (socket.ip().into(), socket.port())
}

impl Packet {
    /// A packet of any protocol, between addresses of one family.
    pub fn new(src: Addr, dst: Addr, protocol: u8, payload: Vec<u8>) -> Packet {
        assert_eq!(src.family(), dst.family(), "one packet, one family");
        Packet { src, dst, protocol, hop_limit: 64, options: Vec::new(), fragment: WHOLE, payload }
    }

    /// A UDP datagram between endpoints such as `10.0.0.1:53` or `[fd00::1]:53`.
    pub fn udp(src: &str, dst: &str, data: &[u8]) -> Packet {
        let ((src, p), (dst, q)) = (socket(src), socket(dst));
        let mut payload = [p.to_be_bytes(), q.to_be_bytes()].concat();
        payload.extend(((data.len() + 8) as u16).to_be_bytes());
        payload.extend([0, 0]);
        payload.extend(data);
        Packet::new(src, dst, protocol::UDP, payload).with_checksum(6)
    }

    /// A TCP segment.
    pub fn tcp(src: &str, dst: &str, flags: TcpFlags, seq: u32, ack: u32, data: &[u8]) -> Packet {
        let ((src, p), (dst, q)) = (socket(src), socket(dst));
        let mut payload = [p.to_be_bytes(), q.to_be_bytes()].concat();
        payload.extend(seq.to_be_bytes());
        payload.extend(ack.to_be_bytes());
        payload.extend([0x50, flags.0, 0xff, 0xff, 0, 0, 0, 0]);
        payload.extend(data);
        Packet::new(src, dst, protocol::TCP, payload).with_checksum(16)
    }

    /// An ICMP or, between IPv6 addresses, ICMPv6 message; `rest` is all that
    /// follows the checksum.
    pub fn icmp(src: &str, dst: &str, icmp_type: u8, code: u8, rest: &[u8]) -> Packet {
        let (src, dst) = (ip(src), ip(dst));
        let protocol = if src.family() == Family::V4 { protocol::ICMP } else { protocol::ICMPV6 };
        let payload = [&[icmp_type, code, 0, 0], rest].concat();
        Packet::new(src, dst, protocol, payload).with_checksum(2)
    }

    /// An echo request.
    pub fn ping(src: &str, dst: &str, id: u16) -> Packet {
        let icmp_type = if ip(src).family() == Family::V4 { 8 } else { 128 };
        Packet::icmp(src, dst, icmp_type, 0, &[id.to_be_bytes(), [0, 1]].concat())
    }

    /// The answer to an echo request.
    pub fn pong(src: &str, dst: &str, id: u16) -> Packet {
        let icmp_type = if ip(src).family() == Family::V4 { 0 } else { 129 };
        Packet::icmp(src, dst, icmp_type, 0, &[id.to_be_bytes(), [0, 1]].concat())
    }

    /// An ICMP error from `src` to the sender of the packet that it quotes: of
    /// IPv4 the header and eight bytes (RFC 792), of IPv6 up to 512 bytes.
    pub fn error_about(src: &str, about: &Packet, icmp_type: u8, code: u8) -> Packet {
        let quoted = about.ip();
        let most = if about.src.family() == Family::V4 { 28 + about.options.len() } else { 512 };
        let body = [&[0; 4], &quoted[..quoted.len().min(most)]].concat();
        Packet::icmp(src, &about.src.to_string(), icmp_type, code, &body)
    }

    /// A neighbour discovery message (hop limit 255); `rest` follows the checksum.
    pub fn nd(src: &str, dst: &str, icmp_type: u8, rest: &[u8]) -> Packet {
        Packet::icmp(src, dst, icmp_type, 0, rest).hop_limit(255)
    }

    /// Another time to live or hop limit than 64.
    pub fn hop_limit(mut self, hop_limit: u8) -> Packet {
        self.hop_limit = hop_limit;
        self
    }

    /// The same with an IPv6 extension header in front: `body` follows the two
    /// bytes of next header and length, and makes with them a multiple of eight.
    pub fn extension(mut self, protocol: u8, body: &[u8]) -> Packet {
        assert_eq!((body.len() + 2) % 8, 0, "extension headers come in eights");
        let units = ((body.len() + 2) / 8 - 1) as u8;
        self.payload = [&[self.protocol, units], body, &self.payload].concat();
        self.protocol = protocol;
        self
    }

    /// The same with IPv4 options, a multiple of four bytes.
    pub fn options(mut self, options: &[u8]) -> Packet {
        assert_eq!(options.len() % 4, 0, "IPv4 options come in fours");
        self.options = options.to_vec();
        self
    }

    /// The same as a fragment of the packet `id`: its payload is what begins
    /// at `offset` bytes, a multiple of eight.
    pub fn fragment(mut self, id: u32, offset: u16, more: bool) -> Packet {
        assert_eq!(offset % 8, 0, "fragments begin at multiples of eight");
        match self.src.family() {
            Family::V4 => {
                self.fragment = (id as u16, (offset / 8) | (u16::from(more) << 13));
                self
            }
            Family::V6 => {
                let place = (offset | u16::from(more)).to_be_bytes();
                self.extension(44, &[&place[..], &id.to_be_bytes()].concat())
            }
        }
    }

    /// The transport checksum (RFC 9293, 768, 792, 4443), at this place of the payload.
    fn with_checksum(mut self, at: usize) -> Packet {
        let mut sum = Vec::new();
        if self.protocol != protocol::ICMP {
            for addr in [self.src, self.dst] {
                match addr.family() {
                    Family::V4 => sum.extend((addr.0 as u32).to_be_bytes()),
                    Family::V6 => sum.extend(addr.0.to_be_bytes()),
                }
            }
            sum.extend((self.payload.len() as u32).to_be_bytes());
            sum.extend([0, 0, 0, self.protocol]);
        }
        sum.extend(&self.payload);
        // Zero says in UDP that there is no checksum; its twin says the same sum.
        let sum = match checksum(&sum) {
            0 if self.protocol == protocol::UDP => 0xffff,
            sum => sum,
        };
        self.payload[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        self
    }

    /// The bytes from the IP header on.
    pub fn ip(&self) -> Vec<u8> {
        match self.src.family() {
            Family::V4 => {
                let length = 20 + self.options.len();
                let mut header = vec![0x40 | (length / 4) as u8, 0];
                for field in [(length + self.payload.len()) as u16, self.fragment.0, self.fragment.1] {
                    header.extend(field.to_be_bytes());
                }
                header.extend([self.hop_limit, self.protocol, 0, 0]);
                header.extend((self.src.0 as u32).to_be_bytes());
                header.extend((self.dst.0 as u32).to_be_bytes());
                header.extend(&self.options);
                let sum = checksum(&header);
                header[10..12].copy_from_slice(&sum.to_be_bytes());
                [header, self.payload.clone()].concat()
            }
            Family::V6 => {
                let mut header = vec![0x60, 0, 0, 0, 0, 0, self.protocol, self.hop_limit];
                header[4..6].copy_from_slice(&(self.payload.len() as u16).to_be_bytes());
                header.extend(self.src.0.to_be_bytes());
                header.extend(self.dst.0.to_be_bytes());
                [header, self.payload.clone()].concat()
            }
        }
    }

    /// The frame, from one MAC to another. Not padded to the least of a wire.
    pub fn frame(&self, source: MacAddr, destination: MacAddr) -> Vec<u8> {
        ethernet(source, destination, None, self.ethertype(), &self.ip())
    }

    /// The frame with an 802.1Q tag.
    pub fn tagged(&self, source: MacAddr, destination: MacAddr, vlan: VlanId) -> Vec<u8> {
        ethernet(source, destination, Some(vlan), self.ethertype(), &self.ip())
    }

    fn ethertype(&self) -> u16 {
        match self.src.family() {
            Family::V4 => ethertype::IPV4,
            Family::V6 => ethertype::IPV6,
        }
    }
}

/// A frame of any EtherType.
pub fn ethernet(
    source: MacAddr,
    destination: MacAddr,
    vlan: Option<VlanId>,
    ethertype: u16,
    payload: &[u8],
) -> Vec<u8> {
    let mut frame = [destination.0, source.0].concat();
    if let Some(VlanId(id)) = vlan {
        frame.extend(ethertype::VLAN.to_be_bytes());
        frame.extend(id.to_be_bytes());
    }
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A capture file (pcap, of Ethernet) with these frames, all of one time.
pub fn capture(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65535, 1].iter().flat_map(|word| word.to_le_bytes()).collect();
    for frame in frames {
        let length = frame.len() as u32;
        bytes.extend([0, 0, length, length].iter().flat_map(|word: &u32| word.to_le_bytes()));
        bytes.extend(frame);
    }
    bytes
}

/// An ARP frame: `operation` 1 asks, 2 answers. A request is broadcast.
pub fn arp(operation: u16, sender: (MacAddr, &str), target: (MacAddr, &str)) -> Vec<u8> {
    let v4 = |text| (ip(text).0 as u32).to_be_bytes();
    let mut body = vec![0, 1, 8, 0, 6, 4];
    body.extend(operation.to_be_bytes());
    body.extend(sender.0.0);
    body.extend(v4(sender.1));
    body.extend(target.0.0);
    body.extend(v4(target.1));
    let destination = if operation == 1 { MacAddr::BROADCAST } else { target.0 };
    ethernet(sender.0, destination, None, ethertype::ARP, &body)
}

/// The Internet checksum (RFC 1071) over bytes whose own checksum field is
/// zero; an odd last byte is padded with zero.
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])))
        .sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}
