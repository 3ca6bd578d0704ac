//! Neighbour discovery (RFC 4861), checked as its receivers must check it.

use super::cursor::{Frame, be128};
use crate::addr::{Addr, Family, MacAddr};
use crate::verdict::DropReason;

/// The facts of a neighbour discovery message. Whether its sender may say so
/// is for the admission of interfaces to judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nd {
    /// Which message it is.
    pub kind: NdKind,
    /// The address that a neighbour message or a redirect is about; `::` in
    /// router messages, which have none.
    pub target: Addr,
    /// The source link-layer address option.
    pub source_link: Option<MacAddr>,
    /// The target link-layer address option.
    pub target_link: Option<MacAddr>,
}

/// The messages, ICMPv6 types 133 to 137.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NdKind {
    /// A host asks for routers.
    RouterSolicitation,
    /// A router offers itself.
    RouterAdvertisement,
    /// Who has the target address?
    NeighbourSolicitation,
    /// The sender has the target address.
    NeighbourAdvertisement,
    /// A router knows a better next hop.
    Redirect,
}

/// What the IP header says that neighbour discovery depends on.
#[derive(Clone, Copy)]
pub(super) struct Envelope {
    pub src: Addr,
    pub dst: Addr,
    pub hop_limit: u8,
    /// Whether there is a fragment header, if only an atomic one.
    pub fragment: bool,
}

/// How many options are read; a router advertisement of one link has fewer.
const MAX_OPTIONS: usize = 32;

const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;

/// Reads a message of type 133 to 137.
pub(super) fn parse(
    icmp_type: u8,
    code: u8,
    message: Frame<'_>,
    envelope: Envelope,
) -> Result<Nd, DropReason> {
    // In fragments it would be hidden from inspection: RFC 6980 forbids it.
    if envelope.fragment {
        return Err(DropReason::ExtensionHeaders);
    }
    // A hop limit of 255 proves that no router has forwarded it.
    if envelope.hop_limit != 255 || code != 0 {
        return Err(DropReason::MalformedHeader);
    }
    let (kind, has_target, fixed) = match icmp_type {
        133 => (NdKind::RouterSolicitation, false, 8),
        134 => (NdKind::RouterAdvertisement, false, 16),
        135 => (NdKind::NeighbourSolicitation, true, 24),
        136 => (NdKind::NeighbourAdvertisement, true, 24),
        _ => (NdKind::Redirect, true, 40),
    };
    let target = if has_target { target(message)? } else { Addr::UNSPECIFIED_V6 };
    let (source_link, target_link) = link_layer_options(message.skip(fixed)?)?;
    let nd = Nd { kind, target, source_link, target_link };
    let &[_, _, _, _, flags] = message.header()?;
    if is_valid(&nd, flags, envelope) { Ok(nd) } else { Err(DropReason::MalformedHeader) }
}

/// The target address, where neighbour messages and redirects have it.
fn target(message: Frame<'_>) -> Result<Addr, DropReason> {
    let header: &[u8; 24] = message.header()?;
    let target = Addr(be128(header, 8));
    // An IPv4-mapped target would be taken for the IPv4 address.
    if target.is_group() || target.family() == Family::V4 {
        return Err(DropReason::MartianAddress);
    }
    Ok(target)
}

/// What receivers must check beyond the form (RFC 4861, 6.1, 7.1 and 8.1).
fn is_valid(nd: &Nd, flags: u8, envelope: Envelope) -> bool {
    const SOLICITED: u8 = 0x40;
    let nowhere = envelope.src == Addr::UNSPECIFIED_V6;
    match nd.kind {
        NdKind::RouterSolicitation => !nowhere || nd.source_link.is_none(),
        NdKind::RouterAdvertisement | NdKind::Redirect => envelope.src.is_link_local_v6(),
        NdKind::NeighbourSolicitation => {
            !nowhere || (nd.source_link.is_none() && is_solicited_node(envelope.dst))
        }
        NdKind::NeighbourAdvertisement => !nowhere && (flags & SOLICITED == 0 || !envelope.dst.is_group()),
    }
}

/// A solicited-node multicast address, `ff02::1:ff00:0/104` (RFC 4291, 2.7.1).
fn is_solicited_node(addr: Addr) -> bool {
    addr.0 >> 24 == 0xff02_0000_0000_0000_0000_0001_ff00_0000 >> 24
}

/// The source and target link-layer address among the options (RFC 4861, 4.6).
/// All options must be at hand. A second one of a kind is refused: receivers
/// differ in which of the two they believe.
fn link_layer_options(options: Frame<'_>) -> Result<(Option<MacAddr>, Option<MacAddr>), DropReason> {
    let (mut source, mut target) = (None, None);
    let mut rest = options;
    for _ in 0..MAX_OPTIONS {
        if rest.length == 0 {
            return Ok((source, target));
        }
        let &[kind, units] = rest.header()?;
        if units == 0 {
            return Err(DropReason::MalformedHeader);
        }
        let link = match kind {
            SOURCE_LINK_LAYER => &mut source,
            TARGET_LINK_LAYER => &mut target,
            _ => {
                rest = rest.skip(u32::from(units) * 8)?;
                continue;
            }
        };
        let &[_, _, m0, m1, m2, m3, m4, m5] = rest.header()?;
        if units != 1 || link.replace(MacAddr([m0, m1, m2, m3, m4, m5])).is_some() {
            return Err(DropReason::MalformedHeader);
        }
        rest = rest.skip(8)?;
    }
    if rest.length == 0 { Ok((source, target)) } else { Err(DropReason::MalformedHeader) }
}
