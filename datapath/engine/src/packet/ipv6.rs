//! IPv6 and its extension headers (RFC 8200).

use super::cursor::{Frame, be16, be32, be128};
use super::nd::Envelope;
use super::transport::{self, Fragment, Transport};
use super::{Ip, address, icmp, protocol};
use crate::addr::{Addr, Family};
use crate::verdict::DropReason;

const HEADER: usize = 40;

/// How many extension headers are walked. RFC 8200 (4.1) knows seven uses of
/// five headers; what has more is built to burn time.
const MAX_EXTENSIONS: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = protocol::IPV6_FRAGMENT;
const DESTINATION_OPTIONS: u8 = 60;

/// Reads an IPv6 packet that begins where `frame` does and may end before it.
/// With `open_first`, a first fragment is told by the headers it brings.
pub(super) fn parse(frame: Frame<'_>, open_first: bool) -> Result<Ip, DropReason> {
    let header: &[u8; HEADER] = frame.header()?;
    if header[0] >> 4 != 6 {
        return Err(DropReason::MalformedHeader);
    }
    let (src, dst) = (Addr(be128(header, 8)), Addr(be128(header, 24)));
    if src.family() == Family::V4 || dst.family() == Family::V4 {
        return Err(DropReason::MartianAddress);
    }
    // A jumbogram's length of 0 (RFC 2675) leaves no room for its option.
    let body = frame.skip(HEADER as u32)?.limit(be16(header, 4).into())?;
    let Carried { protocol, rest, fragment } = walk(header[6], body)?;
    let pieces = fragment.as_ref().filter(|fragment| fragment.offset != 0 || fragment.more);
    let above = || match protocol {
        protocol::ICMPV6 => {
            let envelope = Envelope { src, dst, hop_limit: header[7], fragment: fragment.is_some() };
            icmp::parse_v6(rest, envelope)
        }
        _ => transport::parse(protocol, rest, pieces.is_none()),
    };
    let transport = match pieces {
        None => above()?,
        Some(&Fragmentation { id, offset, more, data }) => {
            let piece = Fragment::new(id, offset, more, data)?;
            match offset {
                0 if open_first => above()?,
                0 => Transport::Fragment(piece.first(rest, above())?),
                _ => Transport::Fragment(piece),
            }
        }
    };
    let ip = Ip { src, dst, protocol, transport };
    address::check(&ip)?;
    Ok(ip)
}

/// Protocol, bytes above the headers and in all of a packet that begins where
/// `frame` does; `None` for a fragment, an atomic one too, or what is malformed.
pub(super) fn whole(frame: Frame<'_>) -> Option<(u8, u32, u32)> {
    let header: &[u8; HEADER] = frame.header().ok()?;
    let body = frame.skip(HEADER as u32).ok()?.limit(be16(header, 4).into()).ok()?;
    let carried = walk(header[6], body).ok()?;
    let is_whole = header[0] >> 4 == 6 && carried.fragment.is_none();
    is_whole.then_some((carried.protocol, carried.rest.length, body.length + HEADER as u32))
}

/// What the extension headers lead to.
struct Carried<'a> {
    /// The first header that is not skipped: a transport, AH, ESP, "no next
    /// header", or what the fragment header of a later fragment names.
    protocol: u8,
    /// What lies behind the last header skipped.
    rest: Frame<'a>,
    /// The fragment header, if there is one; also that of an atomic fragment,
    /// which is a whole packet (RFC 6946).
    fragment: Option<Fragmentation>,
}

/// The fields of a fragment header.
#[derive(Clone, Copy)]
struct Fragmentation {
    id: u32,
    offset: u32,
    more: bool,
    /// Bytes behind the fragment header.
    data: u32,
}

/// Walks the extension headers: the hop-by-hop options only at the beginning
/// (RFC 8200, 4.3), no second fragment header, no type 0 routing header with
/// segments left (RFC 5095), at most [`MAX_EXTENSIONS`] in all. It stops at a
/// later fragment, for what follows is data of the packet that is in pieces,
/// and goes on into a first one, where that packet begins.
#[inline]
fn walk(next: u8, body: Frame<'_>) -> Result<Carried<'_>, DropReason> {
    let mut carried = Carried { protocol: next, rest: body, fragment: None };
    for position in 0..=MAX_EXTENSIONS {
        match carried.step(position == 0) {
            Ok(true) => {}
            Ok(false) => return Ok(carried),
            // The headers go on in a later fragment (RFC 7112).
            Err(DropReason::Truncated)
                if carried.fragment.is_some_and(|fragment| fragment.more) && carried.rest.is_at_hand() =>
            {
                return Err(DropReason::FragmentTiny);
            }
            Err(reason) => return Err(reason),
        }
    }
    Err(DropReason::ExtensionHeaders)
}

impl Carried<'_> {
    /// Skips a header; false if this is where the walk ends.
    #[inline]
    fn step(&mut self, at_the_beginning: bool) -> Result<bool, DropReason> {
        let rest = self.rest;
        match self.protocol {
            HOP_BY_HOP if at_the_beginning => {}
            DESTINATION_OPTIONS => {}
            ROUTING => {
                let &[_, _, routing_type, segments_left] = rest.header()?;
                if routing_type == 0 && segments_left != 0 {
                    return Err(DropReason::ExtensionHeaders);
                }
            }
            FRAGMENT if self.fragment.is_none() => {
                let header: &[u8; 8] = rest.header()?;
                let (offset, more) = (u32::from(be16(header, 2) & !7), header[3] & 1 != 0);
                self.rest = rest.skip(8)?;
                self.protocol = header[0];
                self.fragment =
                    Some(Fragmentation { id: be32(header, 4), offset, more, data: self.rest.length });
                return Ok(offset == 0);
            }
            HOP_BY_HOP | FRAGMENT => return Err(DropReason::ExtensionHeaders),
            _ => return Ok(false),
        }
        let &[next, length] = rest.header()?;
        let rest = rest.skip((u32::from(length) + 1) * 8)?;
        (self.protocol, self.rest) = (next, rest);
        Ok(true)
    }
}

/// Source, destination, protocol and what follows the headers of a packet that
/// an ICMPv6 error quotes, however short the quotation. `None` also for a
/// later fragment, which has no ports to be known by.
pub(super) fn quoted(frame: Frame<'_>) -> Option<(Addr, Addr, u8, Frame<'_>)> {
    let header: &[u8; HEADER] = frame.header().ok()?;
    let (src, dst) = (Addr(be128(header, 8)), Addr(be128(header, 24)));
    if header[0] >> 4 != 6 || src.family() == Family::V4 || dst.family() == Family::V4 {
        return None;
    }
    let carried = walk(header[6], frame.skip(HEADER as u32).ok()?).ok()?;
    let first = carried.fragment.is_none_or(|fragment| fragment.offset == 0);
    first.then_some((src, dst, carried.protocol, carried.rest))
}
