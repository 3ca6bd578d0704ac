//! The name of a flow: the same for both directions.

use crate::addr::{Addr, Family};
use crate::ids::VpcIndex;
use crate::packet::plain::Plain;
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
    /// Low and high address, of each the upper half first.
    addrs: [u64; 4],
    /// From the lowest bits: low port, high port (16 each), protocol, family
    /// (8 each), VPC (16).
    rest: u64,
}

const _: () = assert!(size_of::<FlowKey>() == 40 && align_of::<FlowKey>() == 8);

/// How far the family is shifted in `FlowKey::rest`.
const FAMILY_SHIFT: u32 = 40;

/// How far the VPC is shifted in `FlowKey::rest`; below it is what the hash takes.
const VPC_SHIFT: u32 = 48;

/// What the keys of a VPC and family have in common, in its place in `FlowKey::rest`.
#[derive(Clone, Copy)]
pub(crate) struct Scope(u64);

impl Scope {
    #[inline]
    pub const fn new(vpc: VpcIndex, family: Family) -> Scope {
        Scope((family as u64) << FAMILY_SHIFT | (vpc.0 as u64) << VPC_SHIFT)
    }

    /// `FlowKey::rest` of a plain packet, whose source is the low end or not.
    #[inline(always)]
    fn of_plain(self, protocol: u8, ports: u32, in_order: bool) -> u64 {
        // The source port is in the upper half, and the low end's belongs in the lower.
        let ports = if in_order { ports.rotate_left(16) } else { ports };
        self.0 | u64::from(protocol) << 32 | u64::from(ports)
    }
}

impl FlowKey {
    /// No packet's: of protocol 0 between `::` and `::`.
    pub(crate) const NONE: FlowKey = FlowKey { addrs: [0; 4], rest: 1 << FAMILY_SHIFT };

    /// The key of the flow between two endpoints, and which of them `src` is.
    /// Ports are those of the table above.
    #[inline]
    pub fn new(vpc: VpcIndex, protocol: u8, src: (Addr, u16), dst: (Addr, u16)) -> (FlowKey, Side) {
        FlowKey::of_family(src.0.family(), vpc, protocol, src, dst)
    }

    /// [`FlowKey::new`] where the family of both addresses is known.
    #[inline]
    fn of_family(
        family: Family,
        vpc: VpcIndex,
        protocol: u8,
        src: (Addr, u16),
        dst: (Addr, u16),
    ) -> (FlowKey, Side) {
        // As tuples they would be compared for equality first, which hardly ever holds.
        let in_order = src.0 < dst.0 || (src.0 == dst.0 && src.1 <= dst.1);
        let (low, high, side) = if in_order { (src, dst, Side::Low) } else { (dst, src, Side::High) };
        let ports = u64::from(low.1) | u64::from(high.1) << 16;
        let rest = Scope::new(vpc, family).0 | u64::from(protocol) << 32 | ports;
        let (low, high) = (low.0.0, high.0.0);
        (FlowKey { addrs: [(low >> 64) as u64, low as u64, (high >> 64) as u64, high as u64], rest }, side)
    }

    /// [`FlowKey::new`] of a plain packet over IPv4, whose addresses differ.
    #[inline(always)]
    pub(crate) fn of_plain_v4(scope: Scope, plain: Plain<u32>) -> (FlowKey, Side) {
        let Plain { src, dst, .. } = plain;
        let (low, high) = (src.min(dst), src.max(dst));
        let rest = scope.of_plain(plain.protocol, plain.ports, src < dst);
        let key = FlowKey { addrs: [0, Addr::v4(low).0 as u64, 0, Addr::v4(high).0 as u64], rest };
        (key, if src < dst { Side::Low } else { Side::High })
    }

    /// The same over IPv6.
    #[inline(always)]
    pub(crate) fn of_plain_v6(scope: Scope, plain: Plain<u128>) -> (FlowKey, Side) {
        let Plain { src, dst, .. } = plain;
        let in_order = src < dst;
        let (low, high) = if in_order { (src, dst) } else { (dst, src) };
        let rest = scope.of_plain(plain.protocol, plain.ports, in_order);
        let addrs = [(low >> 64) as u64, low as u64, (high >> 64) as u64, high as u64];
        (FlowKey { addrs, rest }, if in_order { Side::Low } else { Side::High })
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
        let (upper, lower) = (self.addrs[2 * side.index()], self.addrs[2 * side.index() + 1]);
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
        if self.rest >> FAMILY_SHIFT & 1 == 0 { Family::V4 } else { Family::V6 }
    }

    /// What the hash is taken over: both addresses, and all else but the VPC.
    #[inline]
    pub(super) const fn hashed(&self) -> ([u128; 2], u64) {
        let low = self.endpoint(Side::Low).0;
        let high = self.endpoint(Side::High).0;
        ([low.0, high.0], self.rest << (64 - VPC_SHIFT))
    }

    /// The same of IPv4, which fits one block.
    #[inline]
    pub(super) const fn hashed_v4(&self) -> u128 {
        let [_, low, _, high] = self.addrs;
        let addrs = low as u32 as u128 | (high as u32 as u128) << 32;
        addrs | ((self.rest << (64 - VPC_SHIFT)) as u128) << 64
    }

    /// Both ports, as far as network cards look for them: of TCP and UDP.
    #[inline]
    pub(super) const fn spread_ports(&self) -> u32 {
        let has_ports = matches!(self.protocol(), 6 | 17);
        self.rest as u32 & (has_ports as u32).wrapping_neg()
    }
}

impl fmt::Debug for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [(low, low_port), (high, high_port)] = Side::BOTH.map(|side| self.endpoint(side));
        let (protocol, vpc) = (self.protocol(), self.vpc().0);
        write!(f, "{low} {low_port} <-> {high} {high_port} protocol {protocol} vpc {vpc}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::build::{Packet, ip, mac};
    use crate::packet::{Body, Frame, parse};
    use proptest::prelude::*;

    const VPC: VpcIndex = VpcIndex(7);

    fn flow(packet: &Packet) -> Option<(FlowKey, Side)> {
        let frame = packet.frame(mac(1), mac(2));
        match parse(Frame::whole(&frame)).unwrap().body {
            Body::Ip(ip) => FlowKey::of(VPC, &ip),
            Body::Arp(arp) => panic!("{arp:?}"),
        }
    }

    fn same_flow(there: &Packet, back: &Packet) {
        let ((key, side), (key_back, side_back)) = (flow(there).unwrap(), flow(back).unwrap());
        assert_eq!(key, key_back);
        assert_eq!(side.other(), side_back);
    }

    #[test]
    fn both_directions_have_one_key() {
        for (a, b) in [("10.0.0.1:1000", "10.0.0.2:53"), ("[fd00::2]:53", "[fd00::1]:1000")] {
            same_flow(&Packet::udp(a, b, b""), &Packet::udp(b, a, b""));
            let flags = crate::packet::TcpFlags::ACK;
            same_flow(&Packet::tcp(a, b, flags, 1, 2, b""), &Packet::tcp(b, a, flags, 2, 1, b"x"));
        }
        let gre = |a, b| Packet::new(ip(a), ip(b), 47, vec![1, 2, 3]);
        same_flow(&gre("10.0.0.1", "10.0.0.2"), &gre("10.0.0.2", "10.0.0.1"));
    }

    #[test]
    fn a_key_has_the_ends_of_its_packet() {
        let (key, side) = flow(&Packet::udp("10.0.0.2:53", "10.0.0.1:1000", b"")).unwrap();
        assert_eq!(side, Side::High);
        assert_eq!(key.endpoint(Side::Low), (ip("10.0.0.1"), 1000));
        assert_eq!(key.endpoint(Side::High), (ip("10.0.0.2"), 53));
        assert_eq!((key.vpc(), key.protocol(), key.family()), (VPC, 17, Family::V4));
        assert_eq!(format!("{key:?}"), "10.0.0.1 1000 <-> 10.0.0.2 53 protocol 17 vpc 7");
    }

    #[test]
    fn a_reply_is_of_its_requests_flow_and_a_request_back_is_not() {
        for (a, b) in [("10.0.0.1", "10.0.0.2"), ("fd00::2", "fd00::1")] {
            same_flow(&Packet::ping(a, b, 77), &Packet::pong(b, a, 77));
            let key = |packet: &Packet| flow(packet).unwrap().0;
            assert_ne!(key(&Packet::ping(a, b, 77)), key(&Packet::ping(b, a, 77)));
            assert_ne!(key(&Packet::ping(a, b, 77)), key(&Packet::pong(b, a, 78)));
            assert_ne!(key(&Packet::ping(a, b, 77)), key(&Packet::pong(a, b, 77)));
        }
        let query = |a, b, icmp_type| Packet::icmp(a, b, icmp_type, 0, &[0, 77, 0, 1]);
        for (ask, answer) in [(8, 0), (13, 14), (15, 16), (17, 18)] {
            same_flow(&query("10.0.0.1", "10.0.0.2", ask), &query("10.0.0.2", "10.0.0.1", answer));
            let other_answer = flow(&query("10.0.0.2", "10.0.0.1", (answer + 2) % 20)).unwrap().0;
            assert_ne!(flow(&query("10.0.0.1", "10.0.0.2", ask)).unwrap().0, other_answer);
        }
    }

    #[test]
    fn one_way_messages_do_not_answer_each_other() {
        let redirect = |a, b| flow(&Packet::icmp(a, b, 5, 1, &[0; 4])).unwrap().0;
        assert_ne!(redirect("10.0.0.1", "10.0.0.2"), redirect("10.0.0.2", "10.0.0.1"));
    }

    #[test]
    fn an_error_is_of_the_flow_it_quotes() {
        let udp = Packet::udp("10.0.0.1:1000", "10.0.0.9:53", b"");
        let six = Packet::udp("[fd00::9]:1000", "[fd00::1]:53", b"");
        let ping = Packet::ping("10.0.0.9", "10.0.0.1", 7);
        assert_eq!(flow(&Packet::error_about("192.0.2.1", &udp, 3, 3)), flow(&udp));
        assert_eq!(flow(&Packet::error_about("fd00::1", &six, 1, 4)), flow(&six));
        assert_eq!(flow(&Packet::error_about("192.0.2.1", &ping, 11, 0)), flow(&ping));
    }

    #[test]
    fn later_fragments_and_neighbour_discovery_have_no_flow() {
        for (a, b) in [("10.0.0.1:1000", "10.0.0.2:53"), ("[fd00::1]:1000", "[fd00::2]:53")] {
            let whole = Packet::udp(a, b, &[0; 8]);
            assert_eq!(flow(&whole.clone().fragment(1, 0, true)), flow(&whole), "the first has");
            assert_eq!(flow(&Packet::udp(a, b, &[0; 8]).fragment(1, 8, false)), None);
        }
        assert_eq!(flow(&Packet::nd("fe80::1", "ff02::2", 133, &[0; 4])), None);
    }

    fn addr() -> impl Strategy<Value = Addr> {
        prop_oneof![
            any::<u32>().prop_map(Addr::v4),
            any::<u128>().prop_map(Addr),
            (0..4u32).prop_map(Addr::v4)
        ]
    }

    fn endpoint() -> impl Strategy<Value = (Addr, u16)> {
        (addr(), prop_oneof![any::<u16>(), 0..3u16])
    }

    proptest! {
        #[test]
        fn a_key_tells_what_it_was_made_of(
            vpc in any::<u16>(), protocol in any::<u8>(), src in endpoint(), dst in endpoint()
        ) {
            let (key, side) = FlowKey::new(VpcIndex(vpc), protocol, src, dst);
            prop_assert_eq!((key.endpoint(side), key.endpoint(side.other())), (src, dst));
            prop_assert_eq!((key.vpc(), key.protocol()), (VpcIndex(vpc), protocol));
            prop_assert!(key.endpoint(Side::Low) <= key.endpoint(Side::High));
        }

        #[test]
        fn keys_are_symmetric(
            vpc in any::<u16>(), protocol in any::<u8>(), src in endpoint(), dst in endpoint()
        ) {
            let (key, side) = FlowKey::new(VpcIndex(vpc), protocol, src, dst);
            let (back, side_back) = FlowKey::new(VpcIndex(vpc), protocol, dst, src);
            prop_assume!(src.0.family() == dst.0.family());
            prop_assert_eq!(key, back);
            prop_assert_eq!(side == side_back, src == dst);
        }
    }
}
