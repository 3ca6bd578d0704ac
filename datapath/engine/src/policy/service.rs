use std::fmt;

use crate::addr::Family;

/// What a packet is for, as one number: the protocol, and the destination port
/// or ICMP type and code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service(u32);

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// What an IPv4 packet of protocol 58 and an IPv6 packet of protocol 1 are: no
/// rule names them, since `icmp` is IPv4's and `icmpv6` is IPv6's (D4).
const OTHER_FAMILYS_ICMP: u32 = 256;

impl Service {
    /// `port` is the destination port of TCP and UDP, type times 256 plus code
    /// of ICMP, and has no meaning for others (D2).
    #[inline]
    pub const fn new(family: Family, protocol: u8, port: u16) -> Service {
        let protocol = match (family, protocol) {
            (Family::V4, ICMPV6) | (Family::V6, ICMP) => OTHER_FAMILYS_ICMP,
            (_, protocol) => protocol as u32,
        };
        let port = if has_ports(protocol) { port as u32 } else { 0 };
        Service(protocol << 16 | port)
    }

    /// [`Service::new`] of TCP or UDP, whose ports mean the same in both families.
    #[inline]
    pub const fn with_ports(protocol: u8, port: u16) -> Service {
        debug_assert!(protocol == TCP || protocol == UDP);
        Service((protocol as u32) << 16 | port as u32)
    }

    /// The place among all services.
    #[inline]
    pub(super) const fn number(self) -> u32 {
        self.0
    }

    /// Whether it is one of this protocol.
    #[inline]
    pub(super) const fn is_of(self, protocol: u8) -> bool {
        self.0 >> 16 == protocol as u32
    }
}

#[inline]
const fn has_ports(protocol: u32) -> bool {
    protocol == TCP as u32 || protocol == UDP as u32 || protocol == ICMP as u32 || protocol == ICMPV6 as u32
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0 >> 16, self.0 & 0xffff)
    }
}

/// A set of services: sorted ranges that neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ServiceSet(Vec<(u32, u32)>);

impl ServiceSet {
    /// Everything (protocol `-1`).
    pub fn all() -> ServiceSet {
        ServiceSet(vec![(0, u32::MAX)])
    }

    /// All of one protocol.
    pub fn protocol(protocol: u8) -> ServiceSet {
        ServiceSet(vec![(u32::from(protocol) << 16, u32::from(protocol) << 16 | 0xffff)])
    }

    /// The ports `low` to `high`, both included, of TCP or UDP; all of any other
    /// protocol, which has no ports (D2). Empty if `low` exceeds `high`.
    pub fn ports(protocol: u8, low: u16, high: u16) -> ServiceSet {
        match protocol {
            TCP | UDP if low > high => ServiceSet::default(),
            TCP | UDP => {
                let base = u32::from(protocol) << 16;
                ServiceSet(vec![(base | u32::from(low), base | u32::from(high))])
            }
            _ => ServiceSet::protocol(protocol),
        }
    }

    /// An ICMP (1) or ICMPv6 (58) type and code, `None` for all (D4).
    pub fn icmp(protocol: u8, icmp_type: Option<u8>, code: Option<u8>) -> ServiceSet {
        let base = u32::from(protocol) << 16;
        match (icmp_type.map(u32::from), code.map(u32::from)) {
            (None, _) => ServiceSet::protocol(protocol),
            (Some(t), None) => ServiceSet(vec![(base | t << 8, base | t << 8 | 0xff)]),
            (Some(t), Some(c)) => ServiceSet(vec![(base | t << 8 | c, base | t << 8 | c)]),
        }
    }

    /// Whether the service is in the set.
    #[inline]
    pub fn contains(&self, service: Service) -> bool {
        contains(&self.0, service)
    }

    /// Whether all of `other` is in the set.
    pub fn covers(&self, other: &ServiceSet) -> bool {
        other.0.iter().all(|&(low, high)| {
            let after = self.0.partition_point(|r| r.0 <= low);
            after > 0 && self.0[after - 1].1 >= high
        })
    }

    /// What is in either.
    pub fn union(&self, other: &ServiceSet) -> ServiceSet {
        ServiceSet::from_ranges(self.0.iter().chain(&other.0).copied().collect())
    }

    /// What is in any of these, at the cost of one sort.
    pub fn union_of<'s>(sets: impl IntoIterator<Item = &'s ServiceSet>) -> ServiceSet {
        ServiceSet::from_ranges(sets.into_iter().flat_map(|s| s.0.iter().copied()).collect())
    }

    fn from_ranges(mut ranges: Vec<(u32, u32)>) -> ServiceSet {
        ranges.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
        for (low, high) in ranges {
            match merged.last_mut() {
                Some(last) if low <= last.1.saturating_add(1) => last.1 = last.1.max(high),
                _ => merged.push((low, high)),
            }
        }
        ServiceSet(merged)
    }

    /// What is in this set and not in the other.
    pub fn subtract(&self, other: &ServiceSet) -> ServiceSet {
        let mut left = Vec::new();
        for &(mut low, high) in &self.0 {
            let mut gone = false;
            for &(cut_low, cut_high) in &other.0 {
                if cut_high < low || cut_low > high {
                    continue;
                }
                if cut_low > low {
                    left.push((low, cut_low - 1));
                }
                if cut_high >= high {
                    gone = true;
                    break;
                }
                low = cut_high + 1;
            }
            if !gone {
                left.push((low, high));
            }
        }
        ServiceSet(left)
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn ranges(&self) -> &[(u32, u32)] {
        &self.0
    }
}

/// Whether one of these sorted ranges holds the service.
#[inline]
pub(super) fn contains(ranges: &[(u32, u32)], service: Service) -> bool {
    let after = match ranges {
        [] => return false,
        // What a row mostly is.
        [(low, high)] => return (*low..=*high).contains(&service.0),
        _ => ranges.partition_point(|r| r.0 <= service.0),
    };
    after > 0 && ranges[after - 1].1 >= service.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(port: u16) -> Service {
        Service::new(Family::V4, TCP, port)
    }

    #[test]
    fn s22_ranges_have_inclusive_edges() {
        let set = ServiceSet::ports(TCP, 7000, 8000);
        for (port, expected) in [(6999, false), (7000, true), (8000, true), (8001, false)] {
            assert_eq!(set.contains(tcp(port)), expected, "{port}");
        }
        assert!(!set.contains(Service::new(Family::V4, UDP, 7500)));
        assert!(ServiceSet::ports(TCP, 0, 65535).contains(tcp(0)));
        assert!(ServiceSet::ports(TCP, 0, 65535).contains(tcp(65535)));
        assert!(!ServiceSet::ports(TCP, 0, 65535).contains(Service::new(Family::V4, 7, 0)));
        assert!(ServiceSet::ports(TCP, 9, 8).is_empty());
    }

    #[test]
    fn s23_d4_icmp_types_and_codes() {
        let service =
            |family, protocol, t: u8, c: u8| Service::new(family, protocol, u16::from_be_bytes([t, c]));
        let echo = ServiceSet::icmp(ICMP, Some(8), None);
        assert!(
            echo.contains(service(Family::V4, ICMP, 8, 0))
                && echo.contains(service(Family::V4, ICMP, 8, 255))
        );
        assert!(
            !echo.contains(service(Family::V4, ICMP, 7, 255))
                && !echo.contains(service(Family::V4, ICMP, 9, 0))
        );
        let one = ServiceSet::icmp(ICMP, Some(3), Some(4));
        assert!(one.contains(service(Family::V4, ICMP, 3, 4)));
        assert!(
            !one.contains(service(Family::V4, ICMP, 3, 3)) && !one.contains(service(Family::V4, ICMP, 3, 5))
        );
        // Each family has its own ICMP; the other's is met by "all traffic" only.
        for (family, protocol) in [(Family::V6, ICMP), (Family::V4, ICMPV6)] {
            assert!(!ServiceSet::protocol(protocol).contains(service(family, protocol, 8, 0)));
            assert!(ServiceSet::all().contains(service(family, protocol, 8, 0)));
        }
    }

    #[test]
    fn d2_ports_of_other_protocols_are_ignored() {
        let sctp = ServiceSet::ports(132, 80, 80);
        assert!(sctp.contains(Service::new(Family::V4, 132, 81)));
        assert!(!sctp.contains(Service::new(Family::V4, 131, 80)));
        assert!(!sctp.contains(Service::new(Family::V4, 133, 80)));
    }

    proptest::proptest! {
        #[test]
        fn sets_behave_like_sets(
            a in proptest::collection::vec((0u16..40, 0u16..40), 0..6),
            b in proptest::collection::vec((0u16..40, 0u16..40), 0..6),
        ) {
            let set = |ranges: &[(u16, u16)]| {
                let sets: Vec<_> = ranges.iter().map(|(l, h)| ServiceSet::ports(TCP, *l, *h)).collect();
                ServiceSet::union_of(&sets)
            };
            let (x, y) = (set(&a), set(&b));
            let slow = |ranges: &[(u16, u16)], p: u16| ranges.iter().any(|(l, h)| (*l..=*h).contains(&p));
            for p in 0..41 {
                proptest::prop_assert_eq!(x.contains(tcp(p)), slow(&a, p));
                proptest::prop_assert_eq!(x.union(&y).contains(tcp(p)), slow(&a, p) || slow(&b, p));
                proptest::prop_assert_eq!(x.subtract(&y).contains(tcp(p)), slow(&a, p) && !slow(&b, p));
            }
            proptest::prop_assert_eq!(x.covers(&y), (0..41).all(|p| !slow(&b, p) || slow(&a, p)));
            proptest::prop_assert!(x.ranges().windows(2).all(|w| w[0].1 + 1 < w[1].0));
        }
    }
}
