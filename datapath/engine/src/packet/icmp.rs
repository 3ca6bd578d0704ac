//! ICMP (RFC 792, RFC 950) and ICMPv6 (RFC 4443).

use super::cursor::{Frame, be16};
use super::transport::{Transport, one_way};
use super::{address, ipv4, ipv6, nd, protocol};
use crate::addr::{Addr, Family};
use crate::verdict::DropReason;

/// An ICMP message with an identifier: echo of both families, and of IPv4 also
/// timestamp, information and address mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// Whether it asks or answers.
    pub kind: QueryKind,
    /// The message's type.
    pub icmp_type: u8,
    /// Its code.
    pub code: u8,
    /// The identifier that request and reply share.
    pub id: u16,
}

/// The two directions of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryKind {
    /// It asks.
    Request,
    /// It answers.
    Reply,
}

impl Query {
    fn new(icmp_type: u8, code: u8, id: u16) -> Option<Query> {
        let kind = match icmp_type {
            8 | 13 | 15 | 17 | 128 => QueryKind::Request,
            0 | 14 | 16 | 18 | 129 => QueryKind::Reply,
            _ => return None,
        };
        Some(Query { kind, icmp_type, code, id })
    }

    /// The type of the request: its own, or that of what it answers.
    #[inline]
    pub fn request_type(&self) -> u8 {
        match (self.kind, self.icmp_type) {
            (QueryKind::Request, own) => own,
            (QueryKind::Reply, 0) => 8,
            // Timestamp, information, address mask and ICMPv6 echo number the
            // reply after the request.
            (QueryKind::Reply, own) => own.saturating_sub(1),
        }
    }

    /// Source and destination port by the convention of
    /// [`FlowKey`](crate::flow::FlowKey): the identifier is the requester's
    /// port, request type and code are the replier's. So a reply is of its
    /// request's flow, and a request from the other side with the same
    /// identifier is not.
    #[inline]
    pub fn ports(&self) -> (u16, u16) {
        let service = u16::from_be_bytes([self.request_type(), self.code]);
        match self.kind {
            QueryKind::Request => (self.id, service),
            QueryKind::Reply => (service, self.id),
        }
    }
}

/// An ICMP error: of IPv4 destination unreachable (3), time exceeded (11) and
/// parameter problem (12); of IPv6 the four of RFC 4443, types 1 to 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError {
    /// The message's type.
    pub icmp_type: u8,
    /// Its code.
    pub code: u8,
    /// The packet that caused it.
    pub quoted: Quoted,
}

/// What an ICMP error tells of the packet that it quotes, as that packet was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// Who sent it: the error's destination.
    pub src: Addr,
    /// Where it was to go.
    pub dst: Addr,
    /// Its protocol, after extension headers.
    pub protocol: u8,
    /// Its source port, by the convention of [`FlowKey`](crate::flow::FlowKey).
    pub src_port: u16,
    /// Its destination port, likewise.
    pub dst_port: u16,
}

/// Reads an ICMP message; all of IPv4 have at least 8 bytes.
pub(super) fn parse_v4(frame: Frame<'_>, dst: Addr) -> Result<Transport, DropReason> {
    let &[icmp_type, code, _, _, id0, id1, _, _] = frame.skip(8).and(frame.header())?;
    match icmp_type {
        3 | 11 | 12 => error(icmp_type, code, frame, dst),
        0 | 8 | 13..=18 => Ok(query_or_other(icmp_type, code, [id0, id1])),
        _ => Ok(Transport::Icmp { icmp_type, code }),
    }
}

/// Reads an ICMPv6 message of a packet from `src` to `dst`.
pub(super) fn parse_v6(frame: Frame<'_>, envelope: nd::Envelope) -> Result<Transport, DropReason> {
    let &[icmp_type, code, _, _] = frame.skip(4).and(frame.header())?;
    match icmp_type {
        1..=4 => error(icmp_type, code, frame, envelope.dst),
        128 | 129 => {
            let &[_, _, _, _, id0, id1, _, _] = frame.skip(8).and(frame.header())?;
            Ok(query_or_other(icmp_type, code, [id0, id1]))
        }
        133..=137 => nd::parse(icmp_type, code, frame, envelope).map(Transport::NeighbourDiscovery),
        _ => Ok(Transport::Icmp { icmp_type, code }),
    }
}

fn query_or_other(icmp_type: u8, code: u8, id: [u8; 2]) -> Transport {
    match Query::new(icmp_type, code, u16::from_be_bytes(id)) {
        Some(query) => Transport::Query(query),
        None => Transport::Icmp { icmp_type, code },
    }
}

/// Whether an ICMPv6 type is a multicast listener's report or leave (RFC 2710,
/// RFC 3810), which a host sends before it has an address.
pub(super) fn is_multicast_report(icmp_type: u8) -> bool {
    matches!(icmp_type, 131 | 132 | 143)
}

/// Reads an error that is on its way to `dst`. It must quote what `dst` has
/// sent (RFC 1122, 3.2.2; RFC 4443, 2.2): whatever else it quotes, it is no
/// error of a flow of that host.
fn error(icmp_type: u8, code: u8, frame: Frame<'_>, dst: Addr) -> Result<Transport, DropReason> {
    let family = dst.family();
    let quoted = quoted(frame.skip(8)?, family).ok_or(DropReason::MalformedHeader)?;
    if !address::acceptable(quoted.src, quoted.dst) {
        return Err(DropReason::MartianAddress);
    }
    if quoted.src != dst {
        return Err(DropReason::UnrelatedError);
    }
    Ok(Transport::Error(IcmpError { icmp_type, code, quoted }))
}

/// Reads the beginning of a packet, which may be cut anywhere behind its
/// ports. `None` if it is cut before, or is no packet that could be ours.
fn quoted(frame: Frame<'_>, family: Family) -> Option<Quoted> {
    let (src, dst, protocol, rest) = match family {
        Family::V4 => ipv4::quoted(frame)?,
        Family::V6 => ipv6::quoted(frame)?,
    };
    let (src_port, dst_port) = match (protocol, family) {
        (protocol::TCP | protocol::UDP, _) => {
            let header: &[u8; 4] = rest.header().ok()?;
            (be16(header, 0), be16(header, 2))
        }
        (protocol::ICMP, Family::V4) | (protocol::ICMPV6, Family::V6) => quoted_icmp(rest)?,
        _ => (0, 0),
    };
    Some(Quoted { src, dst, protocol, src_port, dst_port })
}

fn quoted_icmp(frame: Frame<'_>) -> Option<(u16, u16)> {
    let &[icmp_type, code] = frame.header().ok()?;
    let id = |header: &[u8; 6]| be16(header, 4);
    match Query::new(icmp_type, code, 0) {
        Some(query) => Some(Query { id: id(frame.header().ok()?), ..query }.ports()),
        None => Some(one_way(icmp_type, code)),
    }
}
