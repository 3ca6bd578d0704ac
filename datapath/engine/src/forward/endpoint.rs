use super::Interface;
use crate::addr::{Addr, Family, MacAddr, Prefix};
use crate::conntrack::Timeouts;
use crate::ids::{InterfaceId, PortIndex};

/// What of an interface a packet of an established flow needs, in one cache
/// line (two for IPv6): with many interfaces each is far.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Endpoint {
    /// As in [`Interface`].
    pub id: InterfaceId,
    /// As in [`Interface`].
    pub port: Option<PortIndex>,
    /// As in [`Interface`].
    pub mac: MacAddr,
    /// Whether network ACLs guard its subnet.
    pub guarded: bool,
    /// The same number for the same timeouts, within one snapshot.
    pub clock: u32,
    /// Its first IPv4 address or, if it has none, delegated prefix: value and mask.
    v4: (u32, u32),
    /// As in [`Interface`].
    pub timeouts: Timeouts,
    /// The same of IPv6.
    v6: (u128, u128),
}

const _: () = assert!(std::mem::offset_of!(Endpoint, timeouts) <= 32 && size_of::<Endpoint>() == 128);

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
        Endpoint {
            id: interface.id,
            port: interface.port,
            mac: interface.mac,
            guarded: interface.border.is_some(),
            clock,
            v4: v4.map_or((1, 0), |prefix| (prefix.addr().0 as u32, prefix.mask() as u32)),
            timeouts: interface.timeouts,
            v6: v6.map_or((1, 0), |prefix| (prefix.addr().0, prefix.mask())),
        }
    }

    /// Whether this is, or lies in, its first address or prefix; if not, it may
    /// yet be its own.
    #[inline]
    pub fn has_first(&self, family: Family, addr: Addr) -> bool {
        match family {
            Family::V4 => addr.0 as u32 & self.v4.1 == self.v4.0,
            Family::V6 => addr.0 & self.v6.1 == self.v6.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::Addresses;
    use crate::packet::build::{ip, mac};

    #[test]
    fn the_first_address_of_each_family_is_at_hand() {
        let interface = |addresses: &[(&str, u8)]| {
            let prefix = |&(text, length): &(&str, u8)| Prefix::new(ip(text), length).unwrap();
            let mut interface = crate::forward::interfaces::tests::interface(1, 1, 0, &[]);
            std::sync::Arc::get_mut(&mut interface).unwrap().addresses =
                Addresses::new(addresses.iter().map(prefix));
            Endpoint::of(&interface, 0)
        };
        let has = |endpoint: &Endpoint, text| endpoint.has_first(ip(text).family(), ip(text));
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
        assert_eq!(none.mac, mac(1));
    }
}
