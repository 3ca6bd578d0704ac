//! ARP for IPv4 over Ethernet (RFC 826).

use super::cursor::{Frame, be16, be32};
use crate::addr::{Addr, MacAddr};
use crate::verdict::DropReason;

/// What an ARP packet asks or says. Whether its sender may say so is for the
/// admission of interfaces to judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Request or reply; other operations (RARP, InARP) are malformed here.
    pub operation: ArpOperation,
    /// The sender's hardware address, as the ARP packet claims it.
    pub sender_mac: MacAddr,
    /// The sender's IPv4 address; 0.0.0.0 in a probe (RFC 5227).
    pub sender: Addr,
    /// The target's hardware address; meaningless in a request.
    pub target_mac: MacAddr,
    /// The IPv4 address asked for, or answered to.
    pub target: Addr,
}

/// The operations of RFC 826.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArpOperation {
    /// Who has the target address?
    Request,
    /// The sender has the sender address.
    Reply,
}

/// Hardware type Ethernet, protocol type IPv4, and their address lengths.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];

pub(super) fn parse(frame: Frame<'_>) -> Result<Arp, DropReason> {
    let header: &[u8; 28] = frame.header()?;
    if header[..6] != ETHERNET_IPV4 {
        return Err(DropReason::MalformedHeader);
    }
    let operation = match be16(header, 6) {
        1 => ArpOperation::Request,
        2 => ArpOperation::Reply,
        _ => return Err(DropReason::MalformedHeader),
    };
    let mac = |at: usize| MacAddr(std::array::from_fn(|i| header[at + i]));
    Ok(Arp {
        operation,
        sender_mac: mac(8),
        sender: Addr::v4(be32(header, 14)),
        target_mac: mac(18),
        target: Addr::v4(be32(header, 24)),
    })
}
