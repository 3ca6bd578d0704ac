//! Nearly all frames: TCP or UDP over IP, whole, without tag, options or
//! extension headers, between hosts, nothing wrong.
//!
//! Read by a function of their own that knows no errors and branches little:
//! one check of the length, then fields at fixed places. What it does not take
//! is for [`parse`](super::parse) to tell. The facts are plain numbers, which the
//! compiler keeps in registers up to where they are stored: as the enums of
//! [`Packet`](super::Packet) they were copied from one result into the next,
//! at six times the cost of reading them.

use super::cursor::{Frame, be16, be32, be128};
use super::{TcpFlags, address, ethertype, header_checksum_is_right, protocol};
use crate::addr::{Addr, Family, MacAddr};

/// The facts of a plain frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain {
    /// The destination of the Ethernet header; no group address.
    pub destination: MacAddr,
    /// Its source.
    pub source: MacAddr,
    /// The family of both addresses.
    pub family: Family,
    /// The source of the IP header.
    pub src: Addr,
    /// Its destination; another address.
    pub dst: Addr,
    /// Source and destination port.
    pub ports: (u16, u16),
    /// TCP or UDP.
    pub protocol: u8,
    /// Of TCP, as in [`Tcp`](super::Tcp); of UDP 0, as are the next three.
    pub seq: u32,
    /// Likewise.
    pub ack: u32,
    /// Likewise.
    pub payload: u32,
    /// Likewise.
    pub flags: TcpFlags,
}

impl Plain {
    /// Reads a plain frame; `None` for any other.
    #[inline(always)]
    pub fn read(frame: Frame<'_>) -> Option<Plain> {
        let ethernet: &[u8; ETHERNET] = frame.head.first_chunk()?;
        match be16(ethernet, 12) {
            ethertype::IPV4 => read_ipv4(frame),
            ethertype::IPV6 => read_ipv6(frame),
            _ => None,
        }
    }
}

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// Bytes to the end of a UDP header, over IPv4 and IPv6.
const TO_UDP: [usize; 2] = [ETHERNET + 20 + 8, ETHERNET + 40 + 8];
/// Bytes to the end of a TCP header without options.
const TO_TCP: [usize; 2] = [ETHERNET + 20 + 20, ETHERNET + 40 + 20];

#[inline(always)]
fn read_ipv4(frame: Frame<'_>) -> Option<Plain> {
    let bytes: &[u8; TO_UDP[0]] = frame.head.first_chunk()?;
    let header: &[u8; 20] = bytes[ETHERNET..].first_chunk()?;
    let (src, dst) = (Addr::v4(be32(header, 12)), Addr::v4(be32(header, 16)));
    let length = u32::from(be16(header, 2));
    // Of flags and offset, "don't fragment" may be set.
    let is_plain = header[0] == 0x45
        && be16(header, 6) & 0x3fff == 0
        && length + ETHERNET as u32 <= frame.length
        && header_checksum_is_right(header)
        && address::acceptable(src, dst);
    if !is_plain {
        return None;
    }
    let tcp = || frame.head.first_chunk::<{ TO_TCP[0] }>()?[ETHERNET + 20..].first_chunk();
    above(
        bytes,
        Family::V4,
        (src, dst),
        header[9],
        length.checked_sub(20)?,
        bytes[ETHERNET + 20..].first_chunk()?,
        tcp,
    )
}

#[inline(always)]
fn read_ipv6(frame: Frame<'_>) -> Option<Plain> {
    let bytes: &[u8; TO_UDP[1]] = frame.head.first_chunk()?;
    let header: &[u8; 40] = bytes[ETHERNET..].first_chunk()?;
    let (src, dst) = (Addr(be128(header, 8)), Addr(be128(header, 24)));
    let length = u32::from(be16(header, 4));
    let is_plain = header[0] >> 4 == 6
        && length + (ETHERNET + 40) as u32 <= frame.length
        && src.family() == Family::V6
        && dst.family() == Family::V6
        && address::acceptable(src, dst);
    if !is_plain {
        return None;
    }
    let tcp = || frame.head.first_chunk::<{ TO_TCP[1] }>()?[ETHERNET + 40..].first_chunk();
    above(bytes, Family::V6, (src, dst), header[6], length, bytes[ETHERNET + 40..].first_chunk()?, tcp)
}

/// Reads the header above IP, which begins with `above` and ends within the
/// `length` that IP has room for.
#[inline(always)]
fn above<'a, const N: usize>(
    ethernet: &[u8; N],
    family: Family,
    (src, dst): (Addr, Addr),
    protocol: u8,
    length: u32,
    above: &[u8; 8],
    tcp: impl FnOnce() -> Option<&'a [u8; 20]>,
) -> Option<Plain> {
    let (destination, source) = (mac(ethernet, 0)?, mac(ethernet, 6)?);
    if destination.is_group() || source.is_group() {
        return None;
    }
    let ports = (be16(above, 0), be16(above, 2));
    let flags = TcpFlags::default();
    let (seq, ack, payload) = (0, 0, 0);
    let datagram = Plain { destination, source, family, src, dst, ports, protocol, seq, ack, payload, flags };
    match protocol {
        protocol::UDP => (8..=length).contains(&u32::from(be16(above, 4))).then_some(datagram),
        protocol::TCP => {
            let header = tcp()?;
            let own = u32::from(header[12] >> 4) * 4;
            let (seq, ack, flags) = (be32(header, 4), be32(header, 8), TcpFlags(header[13]));
            let payload = length.checked_sub(own).filter(|_| own >= 20)?;
            Some(Plain { seq, ack, flags, payload, ..datagram })
        }
        _ => None,
    }
}

#[inline(always)]
fn mac<const N: usize>(bytes: &[u8; N], at: usize) -> Option<MacAddr> {
    bytes[at..].first_chunk().copied().map(MacAddr)
}
