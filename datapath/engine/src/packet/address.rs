//! Addresses that may not appear on the wire between hosts.

use super::transport::{Transport, Udp};
use super::{Ip, icmp};
use crate::addr::{Addr, Family, is_group_v4, is_group_v6};
use crate::verdict::DropReason;

/// Refuses a packet whose addresses no host may send (RFC 1122, 3.2.1.3;
/// RFC 4291, 2.5 and 2.7), but for those that a host without an address must:
/// a DHCP request from 0.0.0.0 (RFC 2131, 4.1), neighbour discovery and
/// multicast reports from `::` (RFC 4861, RFC 3590).
#[inline]
pub(super) fn check(ip: &Ip) -> Result<(), DropReason> {
    if acceptable(ip.src, ip.dst) || from_nowhere(ip) { Ok(()) } else { Err(DropReason::MartianAddress) }
}

/// Whether a host that has an address may send from `src` to `dst`, of one family.
#[inline(always)]
pub(super) fn acceptable(src: Addr, dst: Addr) -> bool {
    match src.family() {
        Family::V4 => acceptable_v4(src, dst),
        Family::V6 => acceptable_v6(src, dst),
    }
}

/// The same where both are known to be IPv4.
#[inline(always)]
pub(super) fn acceptable_v4(Addr(src): Addr, Addr(dst): Addr) -> bool {
    let (src, dst) = (src as u32, dst as u32);
    src != dst && !is_special_v4(src) && !is_group_v4(src) && !is_special_v4(dst)
}

/// The same where both are known to be IPv6.
#[inline(always)]
pub(super) fn acceptable_v6(src: Addr, dst: Addr) -> bool {
    src != dst && !is_special_v6(src) && !is_group_v6(src) && !is_special_v6(dst)
}

/// Never on a wire: 0/8 ("this network") and 127/8, `::` and `::1`.
#[inline(always)]
fn is_special(addr: Addr) -> bool {
    match addr.family() {
        Family::V4 => is_special_v4(addr.0 as u32),
        Family::V6 => is_special_v6(addr),
    }
}

#[inline(always)]
fn is_special_v4(addr: u32) -> bool {
    matches!(addr >> 24, 0 | 127)
}

#[inline(always)]
fn is_special_v6(addr: Addr) -> bool {
    addr.0 <= 1
}

/// Whether the packet is one that a host without an address sends.
#[cold]
fn from_nowhere(ip: &Ip) -> bool {
    const DHCP: Transport = Transport::Udp(Udp { src_port: 68, dst_port: 67 });
    if is_special(ip.dst) {
        return false;
    }
    match ip.transport {
        Transport::NeighbourDiscovery(_) => ip.src == Addr::UNSPECIFIED_V6,
        Transport::Icmp { icmp_type, .. } => {
            ip.src == Addr::UNSPECIFIED_V6 && icmp::is_multicast_report(icmp_type)
        }
        dhcp => ip.src == Addr::v4(0) && dhcp == DHCP,
    }
}
