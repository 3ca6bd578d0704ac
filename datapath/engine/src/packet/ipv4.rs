//! IPv4 (RFC 791).

use super::cursor::{Frame, be16, be32};
use super::transport::{self, Fragment, Transport};
use super::{Ip, address, icmp, protocol};
use crate::addr::Addr;
use crate::verdict::DropReason;

/// The length of a header without options, in bytes.
const HEADER: u32 = 20;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

/// Reads an IPv4 packet that begins where `frame` does and may end before it.
/// With `open_first`, a first fragment is told by the header it brings.
pub(super) fn parse(frame: Frame<'_>, open_first: bool) -> Result<Ip, DropReason> {
    let header: &[u8; HEADER as usize] = frame.header()?;
    let header_length = header_length(header).ok_or(DropReason::MalformedHeader)?;
    let total = u32::from(be16(header, 2));
    if total < header_length {
        return Err(DropReason::MalformedHeader);
    }
    let packet = frame.limit(total)?;
    if header_length == HEADER {
        if !header_checksum_is_right(header) {
            return Err(DropReason::BadChecksum);
        }
    } else {
        check_long_header(packet, header_length)?;
    }
    let rest = packet.skip(header_length)?;
    let (src, dst) = (Addr::v4(be32(header, 12)), Addr::v4(be32(header, 16)));
    let protocol = header[9];
    let fragment = be16(header, 6) & (MORE_FRAGMENTS | OFFSET);
    let above = || match protocol {
        protocol::ICMP => icmp::parse_v4(rest, dst),
        _ => transport::parse(protocol, rest, fragment == 0),
    };
    let transport = if fragment == 0 {
        above()?
    } else {
        let more = fragment & MORE_FRAGMENTS != 0;
        let offset = u32::from(fragment & OFFSET) * 8;
        let piece = Fragment::new(be16(header, 4).into(), offset, more, rest.length)?;
        match offset {
            0 if open_first => above()?,
            0 => Transport::Fragment(piece.first(rest, above())?),
            _ => Transport::Fragment(piece),
        }
    };
    let ip = Ip { src, dst, protocol, transport };
    address::check(&ip)?;
    Ok(ip)
}

/// Protocol, bytes above the header and in all of a packet that begins where `frame`
/// does; `None` for a fragment, or what is malformed.
pub(super) fn whole(frame: Frame<'_>) -> Option<(u8, u32, u32)> {
    let header: &[u8; HEADER as usize] = frame.header().ok()?;
    let total = frame.limit(be16(header, 2).into()).ok()?;
    let above = total.length.checked_sub(header_length(header)?)?;
    let in_pieces = be16(header, 6) & (MORE_FRAGMENTS | OFFSET) != 0;
    (!in_pieces).then_some((header[9], above, total.length))
}

/// The header's length in bytes, 20 to 60, if it is one of IPv4.
#[inline]
fn header_length(header: &[u8; HEADER as usize]) -> Option<u32> {
    let length = u32::from(header[0] & 0x0f) * 4;
    (header[0] >> 4 == 4 && length >= HEADER).then_some(length)
}

/// Whether the checksum of an IPv4 header is right (RFC 1071). `header` is the
/// whole header, which is a multiple of four bytes.
#[inline]
pub fn header_checksum_is_right(header: &[u8]) -> bool {
    // The ones' complement sum of 16-bit words is the sum modulo 0xffff, of
    // which 0x10000 leaves 1: larger words can be added, in any byte order.
    let (words, _) = header.as_chunks::<4>();
    let sum: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    sum != 0 && sum.is_multiple_of(0xffff)
}

/// Checks a header with options: that it is at hand, its checksum, and that
/// its options have lengths that fill it.
#[cold]
fn check_long_header(packet: Frame<'_>, length: u32) -> Result<(), DropReason> {
    let header = packet.head.get(..length as usize).ok_or(DropReason::Truncated)?;
    if !header_checksum_is_right(header) {
        return Err(DropReason::BadChecksum);
    }
    let mut options = &header[HEADER as usize..];
    // At most 40 bytes, and every turn takes at least one.
    loop {
        options = match options {
            [] | [END_OF_OPTIONS, ..] => return Ok(()),
            [NO_OPERATION, rest @ ..] => rest,
            [_, length, ..] if *length >= 2 => {
                options.get(usize::from(*length)..).ok_or(DropReason::MalformedHeader)?
            }
            _ => return Err(DropReason::MalformedHeader),
        }
    }
}

const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;

/// Source, destination, protocol and what follows the header of a packet that
/// an ICMP error quotes. Its checksum and total length are left alone: routers
/// on the way have changed what they cover, and the quotation is cut short.
/// `None` also for a later fragment, which has no ports to be known by.
pub(super) fn quoted(frame: Frame<'_>) -> Option<(Addr, Addr, u8, Frame<'_>)> {
    let header: &[u8; HEADER as usize] = frame.header().ok()?;
    let rest = frame.skip(header_length(header)?).ok()?;
    let first = be16(header, 6) & OFFSET == 0;
    first.then_some((Addr::v4(be32(header, 12)), Addr::v4(be32(header, 16)), header[9], rest))
}
