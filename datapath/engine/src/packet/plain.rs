//! Nearly all frames: TCP or UDP over IP, whole, without tag, options or
//! extension headers, nothing wrong.
//!
//! Read by functions of their own that know no errors and branch little: one
//! check of the length, then words at fixed places. What they do not take is for
//! [`parse`](super::parse) to tell. The facts are plain numbers, which the
//! compiler keeps in registers up to where they are stored: as the enums of
//! [`Packet`](super::Packet) they were copied from one result into the next, at
//! six times the cost of reading them.
//!
//! Two things are left to whoever needs them. The numbers of a TCP segment are
//! read once its connection is at hand ([`segment`]). And whether a host may have
//! these addresses at all is not asked here ([`may_be_hosts`]): no connection is
//! ever opened between such that may not.

use super::cursor::{Frame, be16, be32, be128, le64};
use super::{Tcp, TcpFlags, address, header_checksum_is_right, protocol};
use crate::addr::{Addr, Family, MacAddr};

/// The Ethernet header of a frame as two words, so that one comparison tells who
/// has sent it and what it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// The destination, as [`MacAddr::bits`].
    pub destination: u64,
    /// The source, in the form of [`MacAddr::bits`], and above it the EtherType
    /// as the wire has it.
    pub source_and_type: u64,
}

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;

impl Ethernet {
    /// The header of a frame without a tag; `None` if the frame is too short, or
    /// for a group.
    #[inline(always)]
    pub fn read(frame: Frame<'_>) -> Option<Ethernet> {
        let bytes: &[u8; ETHERNET] = frame.head.first_chunk()?;
        let destination = le64(bytes, 0) & MacAddr::BITS;
        let is_group = destination & MacAddr::GROUP_BIT != 0;
        (!is_group).then_some(Ethernet { destination, source_and_type: le64(bytes, 6) })
    }

    /// The source.
    #[inline]
    pub fn source(self) -> MacAddr {
        MacAddr::from_bits(self.source_and_type)
    }
}

/// What the second word of an [`Ethernet`] header must be for a plain frame.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    mask: u64,
    source: u64,
}

impl Wanted {
    const IPV4: u64 = 0x0008 << 48;
    const IPV6: u64 = 0xdd86 << 48;

    /// IP from this source.
    pub fn from_source(source: MacAddr) -> Wanted {
        Wanted { mask: u64::MAX, source: source.bits() }
    }

    /// IP from any source that is no group.
    pub fn from_any() -> Wanted {
        Wanted { mask: !MacAddr::BITS | MacAddr::GROUP_BIT, source: 0 }
    }

    /// The family of what a frame carries; `None` if it is not what is wanted.
    #[inline(always)]
    pub fn family(self, ethernet: Ethernet) -> Option<Family> {
        match (ethernet.source_and_type & self.mask) ^ self.source {
            Self::IPV4 => Some(Family::V4),
            Self::IPV6 => Some(Family::V6),
            _ => None,
        }
    }
}

/// The facts of a plain packet whose addresses are of type `A`: `u32` or `u128`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain<A> {
    /// The source of the IP header.
    pub src: A,
    /// Its destination; another address.
    pub dst: A,
    /// The source port in the upper half, the destination port in the lower.
    pub ports: u32,
    /// TCP or UDP.
    pub protocol: u8,
}

/// Bytes to the end of a UDP header, over IPv4 and IPv6.
const TO_UDP: [usize; 2] = [ETHERNET + 20 + 8, ETHERNET + 40 + 8];
/// Bytes to the end of a TCP header without options.
const TO_TCP: [usize; 2] = [ETHERNET + 20 + 20, ETHERNET + 40 + 20];

/// Reads a frame that carries IPv4; `None` if it is not plain.
#[inline(always)]
pub fn read_ipv4(frame: Frame<'_>) -> Option<Plain<u32>> {
    let bytes: &[u8; TO_UDP[0]] = frame.head.first_chunk()?;
    let header: &[u8; 20] = bytes[ETHERNET..].first_chunk()?;
    let (src, dst) = (be32(header, 12), be32(header, 16));
    let length = u32::from(be16(header, 2));
    // Of flags and offset, "don't fragment" may be set.
    let is_plain = header[0] == 0x45
        && be16(header, 6) & 0x3fff == 0
        && src != dst
        && length + ETHERNET as u32 <= frame.length
        && header_checksum_is_right(header);
    if !is_plain {
        return None;
    }
    let tcp = || frame.head.first_chunk::<{ TO_TCP[0] }>()?[ETHERNET + 20..].first_chunk();
    let (protocol, length) = (header[9], length.checked_sub(20)?);
    let ports = above(protocol, length, bytes[ETHERNET + 20..].first_chunk()?, tcp)?;
    Some(Plain { src, dst, ports, protocol })
}

/// Reads a frame that carries IPv6; `None` if it is not plain.
#[inline(always)]
pub fn read_ipv6(frame: Frame<'_>) -> Option<Plain<u128>> {
    let bytes: &[u8; TO_UDP[1]] = frame.head.first_chunk()?;
    let header: &[u8; 40] = bytes[ETHERNET..].first_chunk()?;
    let (src, dst) = (be128(header, 8), be128(header, 24));
    let length = u32::from(be16(header, 4));
    let is_plain = header[0] >> 4 == 6 && src != dst && length + (ETHERNET + 40) as u32 <= frame.length;
    if !is_plain {
        return None;
    }
    let tcp = || frame.head.first_chunk::<{ TO_TCP[1] }>()?[ETHERNET + 40..].first_chunk();
    let protocol = header[6];
    let ports = above(protocol, length, bytes[ETHERNET + 40..].first_chunk()?, tcp)?;
    Some(Plain { src, dst, ports, protocol })
}

/// Whether two hosts that have addresses may speak to each other by these two, from
/// an IP header of this family. Those of IPv6 may be IPv4-mapped, and may not then.
#[inline(always)]
pub fn may_be_hosts(family: Family, src: Addr, dst: Addr) -> bool {
    match family {
        Family::V4 => address::acceptable_v4(src, dst),
        Family::V6 => {
            let is_mapped = src.family() == Family::V4 || dst.family() == Family::V4;
            !is_mapped && address::acceptable_v6(src, dst)
        }
    }
}

/// The ports of the header above IP, which begins with `above` and ends within
/// the `length` that IP has room for.
#[inline(always)]
fn above<'a>(
    protocol: u8,
    length: u32,
    above: &[u8; 8],
    tcp: impl FnOnce() -> Option<&'a [u8; 20]>,
) -> Option<u32> {
    let fits = match protocol {
        protocol::UDP => (8..=length).contains(&u32::from(be16(above, 4))),
        protocol::TCP => (20..=length).contains(&header_length(tcp()?)),
        _ => false,
    };
    fits.then_some(be32(above, 0))
}

/// What a TCP header says of its own length, in bytes.
#[inline(always)]
fn header_length(tcp: &[u8; 20]) -> u32 {
    u32::from(tcp[12] >> 4) * 4
}

/// The control bits in a frame that was read as plain and as TCP.
#[inline(always)]
pub fn flags(frame: Frame<'_>, family: Family) -> TcpFlags {
    let header = TO_TCP[family as usize] - 20;
    TcpFlags(frame.head.get(header + 13).copied().unwrap_or_default())
}

/// The segment in a frame that was read as plain and as TCP.
#[inline(always)]
pub fn segment(frame: Frame<'_>, family: Family) -> Option<Tcp> {
    let (header, length): (&[u8; 20], u32) = match family {
        Family::V4 => {
            let bytes: &[u8; TO_TCP[0]] = frame.head.first_chunk()?;
            (bytes[ETHERNET + 20..].first_chunk()?, u32::from(be16(bytes, ETHERNET + 2)).checked_sub(20)?)
        }
        Family::V6 => {
            let bytes: &[u8; TO_TCP[1]] = frame.head.first_chunk()?;
            (bytes[ETHERNET + 40..].first_chunk()?, u32::from(be16(bytes, ETHERNET + 4)))
        }
    };
    Some(Tcp {
        src_port: be16(header, 0),
        dst_port: be16(header, 2),
        seq: be32(header, 4),
        ack: be32(header, 8),
        flags: TcpFlags(header[13]),
        payload: length.checked_sub(header_length(header))?,
    })
}
