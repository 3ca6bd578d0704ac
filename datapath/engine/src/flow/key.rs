//! The name of a flow: the same for both directions.

use crate::addr::{Addr, Family};
use crate::ids::VpcIndex;
use crate::packet::{Ip, Transport};
use std::fmt;

/// The two ends of a flow in normal order: `Low` has the lower address (of one
/// address: the lower port). Which end sent a packet, or owns a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Side {
    /// The lower end.
    Low = 0,
    /// The higher end.
    High = 1,
}

impl Side {
    /// Both, in order.
    pub const BOTH: [Side; 2] = [Side::Low, Side::High];

    /// The opposite end.
    #[inline]
    pub const fn other(self) -> Side {
        match self {
            Side::Low => Side::High,
            Side::High => Side::Low,
        }
    }

    /// The index into an array by side.
    #[inline]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// What names a flow: VPC, family, protocol and both endpoints in normal order,
/// so that both directions have one key.
///
/// Protocols without ports have these in their place:
///
/// | packet | source port | destination port |
/// | --- | --- | --- |
/// | ICMP request (echo and the like) | identifier | type and code |
/// | ICMP reply | type and code of the request | identifier |
/// | other ICMP | type and code | 0xffff |
/// | every other protocol | 0 | 0 |
///
/// So a ping from A to B and one from B to A are two flows, even with one
/// identifier, and SCTP, GRE or ESP between two hosts is one flow (as in EC2).
///
/// Plain data of 40 bytes without padding: keys compare as memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct FlowKey {
    /// Low and high address, the upper half first.
    addrs: [[u64; 2]; 2],
    /// From the lowest bits: low port, high port (16 each), protocol, family
    /// (8 each), VPC (16).
    rest: u64,
}

const _: () = assert!(size_of::<FlowKey>() == 40 && align_of::<FlowKey>() == 8);

/// How far the VPC is shifted in `FlowKey::rest`; below it is what the hash takes.
const VPC_SHIFT: u32 = 48;

impl FlowKey {
    /// The key of the flow between two endpoints, and which of them `src` is.
    /// Ports are those of the table above.
    #[inline]
    pub fn new(vpc: VpcIndex, protocol: u8, src: (Addr, u16), dst: (Addr, u16)) -> (FlowKey, Side) {
        let (low, high, side) = if src <= dst { (src, dst, Side::Low) } else { (dst, src, Side::High) };
        let halves = |addr: Addr| [(addr.0 >> 64) as u64, addr.0 as u64];
        let rest = u64::from(low.1)
            | u64::from(high.1) << 16
            | u64::from(protocol) << 32
            | (src.0.family() as u64) << 40
            | u64::from(vpc.0) << VPC_SHIFT;
        (FlowKey { addrs: [halves(low.0), halves(high.0)], rest }, side)
    }

    /// The key of the flow a packet belongs to, and the side that sent it.
    ///
    /// For an ICMP error that is the flow of the packet it quotes, and the side
    /// that sent the quoted packet (which the error is on its way to). `None`
    /// for neighbour discovery, which is of no flow, and for fragments, of
    /// which only the first could tell.
    #[inline]
    pub fn of(vpc: VpcIndex, ip: &Ip) -> Option<(FlowKey, Side)> {
        let (src_port, dst_port) = ip.transport.ports()?;
        let (protocol, src, dst) = match &ip.transport {
            Transport::Error(error) => (error.quoted.protocol, error.quoted.src, error.quoted.dst),
            _ => (ip.protocol, ip.src, ip.dst),
        };
        Some(FlowKey::new(vpc, protocol, (src, src_port), (dst, dst_port)))
    }

    /// The address and port of an end.
    #[inline]
    pub const fn endpoint(&self, side: Side) -> (Addr, u16) {
        let [upper, lower] = self.addrs[side.index()];
        (Addr((upper as u128) << 64 | lower as u128), (self.rest >> (16 * side.index())) as u16)
    }

    /// The VPC whose addresses these are.
    #[inline]
    pub const fn vpc(&self) -> VpcIndex {
        VpcIndex((self.rest >> VPC_SHIFT) as u16)
    }

    /// The IP protocol number.
    #[inline]
    pub const fn protocol(&self) -> u8 {
        (self.rest >> 32) as u8
    }

    /// The family of both addresses.
    #[inline]
    pub const fn family(&self) -> Family {
        if self.rest >> 40 & 1 == 0 { Family::V4 } else { Family::V6 }
    }

    /// What the hash is taken over: both addresses, and all else but the VPC.
    #[inline]
    pub(super) const fn hashed(&self) -> ([u128; 2], u64) {
        let low = self.endpoint(Side::Low).0;
        let high = self.endpoint(Side::High).0;
        ([low.0, high.0], self.rest << (64 - VPC_SHIFT))
    }
}

impl fmt::Debug for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [(low, low_port), (high, high_port)] = Side::BOTH.map(|side| self.endpoint(side));
        let (protocol, vpc) = (self.protocol(), self.vpc().0);
        write!(f, "{low} {low_port} <-> {high} {high_port} protocol {protocol} vpc {vpc}")
    }
}
