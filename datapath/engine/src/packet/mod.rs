//! Bounded header parsers: from the bytes of a frame to the facts that the
//! later stages judge by, or to the reason why it is no packet.
//!
//! Nothing is read beyond the first segment, nothing is copied but the facts,
//! and every loop has a bound of its own: 8 extension headers, 40 bytes of
//! IPv4 options, 32 neighbour discovery options. Lengths are checked against
//! the header that encloses them, from the outside in, so that no inner header
//! can reach beyond an outer one.
//!
//! What is not checked: checksums above IPv4 (a wrong one is the receiver's to
//! drop, and the flow it would belong to is the same), the contents of options
//! that decide nothing here, TCP flags (the connection's table does).

mod address;
mod arp;
#[cfg(any(test, feature = "build"))]
pub mod build;
mod cursor;
mod headers;
mod icmp;
mod ipv4;
mod ipv6;
mod nd;
pub mod plain;
#[cfg(test)]
mod tests;
mod transport;

pub use arp::{Arp, ArpOperation};
pub use cursor::Frame;
pub use headers::Headers;
pub use icmp::{IcmpError, Query, QueryKind, Quoted};
pub use ipv4::header_checksum_is_right;
pub use nd::{Nd, NdKind};
pub use transport::{Fragment, Tcp, TcpFlags, Transport, Udp};

use crate::addr::{Addr, MacAddr};
use crate::ids::VlanId;
use crate::verdict::DropReason;

/// Protocol numbers (IANA) that the switch knows by name.
pub mod protocol {
    /// ICMP (RFC 792).
    pub const ICMP: u8 = 1;
    /// TCP (RFC 9293).
    pub const TCP: u8 = 6;
    /// UDP (RFC 768).
    pub const UDP: u8 = 17;
    /// ICMPv6 (RFC 4443).
    pub const ICMPV6: u8 = 58;
    /// The fragment header of IPv6 (RFC 8200, 4.5).
    pub const IPV6_FRAGMENT: u8 = 44;
}

/// The EtherTypes (IEEE 802) that are not dropped.
mod ethertype {
    pub const IPV4: u16 = 0x0800;
    pub const ARP: u16 = 0x0806;
    pub const VLAN: u16 = 0x8100;
    pub const IPV6: u16 = 0x86dd;
}

/// The facts of a well-formed frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The destination of the Ethernet header.
    pub destination: MacAddr,
    /// Its source; never a group address.
    pub source: MacAddr,
    /// Whether there is an 802.1Q tag, also one that only carries a priority.
    pub tagged: bool,
    /// The VLAN of the tag; `None` without a tag and for a priority tag (VID 0).
    pub vlan: Option<VlanId>,
    /// What the frame carries.
    pub body: Body,
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// ARP for IPv4 over Ethernet.
    Arp(Arp),
    /// IPv4 or IPv6.
    Ip(Ip),
}

/// The facts of an IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// The source, of the same family as the destination.
    pub src: Addr,
    /// The destination.
    pub dst: Addr,
    /// The protocol number; for IPv6 the one after the extension headers that
    /// can be skipped. For a later IPv6 fragment: what its fragment header names,
    /// until its first fragment has been seen.
    pub protocol: u8,
    /// The header above IP.
    pub transport: Transport,
}

/// Reads the headers of a frame: Ethernet, at most one 802.1Q tag, ARP or IP,
/// and what lies above IP.
///
/// The error is the reason to drop the frame for. A frame may be longer than
/// its IP packet (Ethernet padding), never shorter.
pub fn parse(frame: Frame<'_>) -> Result<Packet, DropReason> {
    Link::parse(frame)?.any(false)
}

/// Reads a first fragment again, for the header above IP that it brings:
/// what [`parse`] has kept of it are the ports.
#[cold]
pub fn parse_first_fragment(frame: Frame<'_>) -> Result<Packet, DropReason> {
    Link::parse(frame)?.any(true)
}

/// The Ethernet header with its tag, and what lies behind.
#[derive(Clone, Copy)]
struct Link<'a> {
    destination: MacAddr,
    source: MacAddr,
    tagged: bool,
    vlan: Option<VlanId>,
    ethertype: u16,
    rest: Frame<'a>,
}

impl<'a> Link<'a> {
    fn parse(frame: Frame<'a>) -> Result<Link<'a>, DropReason> {
        let &[d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = frame.header()?;
        let destination = MacAddr([d0, d1, d2, d3, d4, d5]);
        let source = MacAddr([s0, s1, s2, s3, s4, s5]);
        if source.is_group() {
            return Err(DropReason::MartianAddress);
        }
        let (ethertype, rest) = (u16::from_be_bytes([t0, t1]), frame.skip(14)?);
        if ethertype != ethertype::VLAN {
            return Ok(Link { destination, source, tagged: false, vlan: None, ethertype, rest });
        }
        let &[c0, c1, t0, t1] = rest.header()?;
        let vlan = match u16::from_be_bytes([c0, c1]) & 0x0fff {
            0 => None,
            0x0fff => return Err(DropReason::MalformedHeader),
            id => Some(VlanId(id)),
        };
        let (ethertype, rest) = (u16::from_be_bytes([t0, t1]), rest.skip(4)?);
        Ok(Link { destination, source, tagged: true, vlan, ethertype, rest })
    }

    /// The packet, whatever it is.
    fn any(self, open_first: bool) -> Result<Packet, DropReason> {
        let body = match self.ethertype {
            ethertype::IPV4 => Body::Ip(ipv4::parse(self.rest, open_first)?),
            ethertype::IPV6 => Body::Ip(ipv6::parse(self.rest, open_first)?),
            ethertype::ARP => Body::Arp(arp::parse(self.rest)?),
            _ => return Err(DropReason::UnknownEtherType),
        };
        Ok(self.carrying(body))
    }

    #[inline]
    fn carrying(self, body: Body) -> Packet {
        let Link { destination, source, tagged, vlan, .. } = self;
        Packet { destination, source, tagged, vlan, body }
    }
}
