//! Addresses that may not appear on the wire between hosts.

use super::transport::{Transport, Udp};
use super::{Ip, icmp};
use crate::addr::{Addr, Family};
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
    src != dst && !is_special(src) && !src.is_group() && !is_special(dst)
}

/// Never on a wire: 0/8 ("this network") and 127/8, `::` and `::1`.
#[inline(always)]
fn is_special(addr: Addr) -> bool {
    match addr.family() {
        Family::V4 => matches!(addr.0 as u32 >> 24, 0 | 127),
        Family::V6 => addr.0 <= 1,
    }
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
