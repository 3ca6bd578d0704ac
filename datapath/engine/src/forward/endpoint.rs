use super::Interface;
use crate::addr::{Family, MacAddr, Prefix};
use crate::conntrack::Timeouts;
use crate::ids::{InterfaceId, PortIndex, VpcIndex};

/// What of an interface a packet of an established flow needs, in one cache
/// line (two for IPv6): with many interfaces each is far.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Endpoint {
    /// As in [`Interface`].
    pub id: InterfaceId,
    /// The port that serves it, if it [is served](Endpoint::is_served).
    pub port: PortIndex,
    /// As in [`Interface`].
    pub vpc: VpcIndex,
    /// Its MAC, and above it what stands in the way of plain packets.
    mac: u64,
    /// Its first IPv4 address or, if it has none, delegated prefix: value and mask.
    v4: (u32, u32),
    /// The same number for the same timeouts, within one snapshot.
    pub clock: u32,
    /// Whether network ACLs guard its subnet.
    pub guarded: bool,
    /// As in [`Interface`].
    pub timeouts: Timeouts,
    /// The same of IPv6.
    v6: (u128, u128),
}

const _: () = assert!(std::mem::offset_of!(Endpoint, timeouts) <= 32 && size_of::<Option<Endpoint>>() == 128);

/// It is not plugged in here.
const UNSERVED: u64 = 1 << 63;
/// Network ACLs guard its subnet.
const GUARDED: u64 = 1 << 62;

impl Endpoint {
    pub(super) fn of(interface: &Interface, clock: u32) -> Endpoint {
        let addresses = &interface.addresses;
        let all = || {
            addresses
                .hosts()
                .iter()
                .map(|host| Prefix::host(*host))
                .chain(addresses.prefixes().iter().copied())
        };
        // Where there is none stands what no address is equal to.
        let first = |family| all().find(|prefix| prefix.family() == family);
        let (v4, v6) = (first(Family::V4), first(Family::V6));
        let unserved = if interface.port.is_none() { UNSERVED } else { 0 };
        let guarded = interface.border.is_some();
        Endpoint {
            id: interface.id,
            port: interface.port.unwrap_or(PortIndex(0)),
            vpc: interface.vpc,
            mac: interface.mac.bits() | unserved | if guarded { GUARDED } else { 0 },
            v4: v4.map_or((1, 0), |prefix| (prefix.addr().0 as u32, prefix.mask() as u32)),
            clock,
            guarded,
            timeouts: interface.timeouts,
            v6: v6.map_or((1, 0), |prefix| (prefix.addr().0, prefix.mask())),
        }
    }

    /// Its MAC.
    #[inline]
    pub fn mac(&self) -> MacAddr {
        MacAddr::from_bits(self.mac)
    }

    /// Whether it is plugged in here.
    #[inline]
    pub fn is_served(&self) -> bool {
        self.mac & UNSERVED == 0
    }

    /// Whether a packet to this MAC ([`MacAddr::bits`]) is for it, and nothing but its
    /// groups keeps the packet from it.
    #[inline(always)]
    pub fn receives_as(&self, mac: u64) -> bool {
        self.mac == mac
    }

    /// Its first IPv4 address or prefix: an address that is equal to the first
    /// number, once it is cut by the second, is its own; others may be as well.
    /// Without any, no address is.
    #[inline(always)]
    pub fn first_v4(&self) -> (u32, u32) {
        self.v4
    }

    /// The same of IPv6.
    #[inline(always)]
    pub fn first_v6(&self) -> (u128, u128) {
        self.v6
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Addr;
    use crate::forward::{Addresses, Border};
    use crate::packet::build::{ip, mac};
    use crate::policy::NetworkAcl;
    use std::sync::Arc;

    #[test]
    fn the_first_address_of_each_family_is_at_hand() {
        let interface = |addresses: &[(&str, u8)]| {
            let prefix = |&(text, length): &(&str, u8)| Prefix::new(ip(text), length).unwrap();
            let mut interface = crate::forward::interfaces::tests::interface(1, 1, 0, &[]);
            Arc::get_mut(&mut interface).unwrap().addresses = Addresses::new(addresses.iter().map(prefix));
            Endpoint::of(&interface, 0)
        };
        let has = |endpoint: &Endpoint, text| match ip(text) {
            addr if addr.family() == Family::V4 => {
                let (value, mask) = endpoint.first_v4();
                addr.0 as u32 & mask == value
            }
            Addr(bits) => {
                let (value, mask) = endpoint.first_v6();
                bits & mask == value
            }
        };
        let both = interface(&[("10.0.0.1", 32), ("10.0.0.2", 32), ("fd00::1", 128)]);
        assert!(has(&both, "10.0.0.1") && has(&both, "fd00::1"));
        for other in ["10.0.0.2", "10.0.0.0", "fd00::2", "::", "0.0.0.0", "::ffff:0:a00:1"] {
            assert!(!has(&both, other), "{other}");
        }
        let block = interface(&[("10.1.0.0", 16), ("fd00:1::", 64)]);
        assert!(has(&block, "10.1.255.255") && has(&block, "fd00:1::9"));
        assert!(!has(&block, "10.2.0.0") && !has(&block, "fd00:1:0:1::"));
        let none = interface(&[]);
        for any in ["0.0.0.0", "0.0.0.1", "10.0.0.1", "::", "::1", "fd00::1", "fe80::ff:fe00:1"] {
            assert!(!has(&none, any), "{any}");
        }
        assert_eq!(none.mac(), mac(1));
    }

    #[test]
    fn who_is_elsewhere_or_guarded_receives_nothing_plain() {
        let interface = crate::forward::interfaces::tests::interface(1, 1, 0, &[]);
        let border = Border { subnet: 1, acl: Arc::new(NetworkAcl::default()) };
        for (port, border) in [None, Some(PortIndex(7))].into_iter().zip([None, Some(border)]) {
            for border in [None, border] {
                let is_guarded = border.is_some();
                let endpoint = Endpoint::of(&Interface { port, border, ..(*interface).clone() }, 0);
                assert_eq!((endpoint.is_served(), endpoint.guarded), (port.is_some(), is_guarded));
                assert_eq!(endpoint.receives_as(mac(1).bits()), port.is_some() && !is_guarded);
                assert!(!endpoint.receives_as(mac(2).bits()));
            }
        }
    }
}
