//! Addresses: one 16-byte form for both families, so that keys, tables and
//! comparisons are the same code for IPv4 and IPv6.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The address family of a packet or a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Family {
    /// IPv4 (RFC 791).
    V4 = 0,
    /// IPv6 (RFC 8200).
    V6 = 1,
}

/// An IPv4 or IPv6 address in one form: the IPv6 bits as a big-endian number,
/// IPv4 as its IPv4-mapped address (RFC 4291, 2.5.5.2).
///
/// The parsers drop IPv6 packets with an IPv4-mapped source or destination, so
/// the two families never meet in one value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[repr(transparent)]
pub struct Addr(pub u128);

const MAPPED: u128 = 0xffff_0000_0000;

impl Addr {
    /// The all-zero IPv6 address `::`; what an interface without addresses sends from.
    pub const UNSPECIFIED_V6: Addr = Addr(0);

    /// The address of a 32-bit IPv4 number.
    #[inline]
    pub const fn v4(bits: u32) -> Addr {
        Addr(MAPPED | bits as u128)
    }

    /// The family this address belongs to.
    #[inline]
    pub const fn family(self) -> Family {
        if self.0 >> 32 == MAPPED >> 32 { Family::V4 } else { Family::V6 }
    }

    /// Multicast (RFC 5771, RFC 4291) or, for IPv4, the limited broadcast address.
    #[inline]
    pub const fn is_group(self) -> bool {
        match self.family() {
            Family::V4 => is_group_v4(self.0 as u32),
            Family::V6 => is_group_v6(self),
        }
    }

    /// IPv6 link-local unicast, `fe80::/10` (RFC 4291, 2.5.6).
    #[inline]
    pub const fn is_link_local_v6(self) -> bool {
        self.0 >> 118 == 0xfe80 >> 6
    }
}

/// [`Addr::is_group`] of an IPv4 address.
#[inline(always)]
pub(crate) const fn is_group_v4(addr: u32) -> bool {
    addr >= 0xe000_0000 && (addr >> 28 == 0xe || addr == u32::MAX)
}

/// [`Addr::is_group`] of an IPv6 address.
#[inline(always)]
pub(crate) const fn is_group_v6(addr: Addr) -> bool {
    addr.0 >> 120 == 0xff
}

impl From<IpAddr> for Addr {
    fn from(ip: IpAddr) -> Addr {
        match ip {
            IpAddr::V4(a) => Addr::v4(a.to_bits()),
            IpAddr::V6(a) => Addr(a.to_bits()),
        }
    }
}

impl From<Ipv4Addr> for Addr {
    fn from(a: Ipv4Addr) -> Addr {
        Addr::v4(a.to_bits())
    }
}

impl From<Ipv6Addr> for Addr {
    fn from(a: Ipv6Addr) -> Addr {
        Addr(a.to_bits())
    }
}

impl From<Addr> for IpAddr {
    fn from(a: Addr) -> IpAddr {
        match a.family() {
            Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(a.0 as u32)),
            Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(a.0)),
        }
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        IpAddr::from(*self).fmt(f)
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A range of addresses: `addr` with all bits beyond the prefix zero, and the
/// mask of the prefix, both in the form of [`Addr`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Prefix {
    addr: Addr,
    mask: u128,
}

impl Prefix {
    /// The prefix of `length` bits (of the address's own family) that holds
    /// `addr`; host bits are cleared. `None` if `length` exceeds the family's.
    pub const fn new(addr: Addr, length: u8) -> Option<Prefix> {
        let bits = match addr.family() {
            Family::V4 if length <= 32 => length as u32 + 96,
            Family::V6 if length <= 128 => length as u32,
            _ => return None,
        };
        let mask = if bits == 0 { 0 } else { u128::MAX << (128 - bits) };
        Some(Prefix { addr: Addr(addr.0 & mask), mask })
    }

    /// The range of this one address.
    pub const fn host(addr: Addr) -> Prefix {
        Prefix { addr, mask: u128::MAX }
    }

    /// Whether the address is of the range's family and lies in it.
    #[inline]
    pub const fn contains(&self, addr: Addr) -> bool {
        // Of IPv6 prefixes only those of 0 bits and more ahead of the IPv4-mapped
        // block hold it, and it is not of their family.
        addr.0 & self.mask == self.addr.0
            && (self.mask as u64 >> 32 == 0xffff_ffff || addr.family() as u8 == self.addr.family() as u8)
    }

    /// The first address.
    pub const fn addr(&self) -> Addr {
        self.addr
    }

    /// A one for each bit of [`Addr`] that all its addresses share.
    pub(crate) const fn mask(&self) -> u128 {
        self.mask
    }

    /// The length as users write it: 0 to 32 for IPv4, 0 to 128 for IPv6.
    pub const fn length(&self) -> u8 {
        let bits = self.mask.count_ones() as u8;
        match self.addr.family() {
            // `::/0` to `::/95` have fewer bits than any IPv4 prefix in this form.
            Family::V4 if bits >= 96 => bits - 96,
            _ => bits,
        }
    }

    /// The family of the range.
    pub const fn family(&self) -> Family {
        self.addr.family()
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.length())
    }
}

/// An Ethernet address (IEEE 802).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[repr(transparent)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: MacAddr = MacAddr([0xff; 6]);

    /// The bits that [`MacAddr::bits`] uses.
    pub const BITS: u64 = (1 << 48) - 1;

    /// Of these the group bit.
    pub const GROUP_BIT: u64 = 1;

    /// As a number, of which the first byte is the lowest: how a processor reads
    /// it from a frame.
    #[inline]
    pub const fn bits(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }

    /// From such a number; what is above [`MacAddr::BITS`] is cut off.
    #[inline]
    pub const fn from_bits(bits: u64) -> MacAddr {
        let [a, b, c, d, e, f, _, _] = bits.to_le_bytes();
        MacAddr([a, b, c, d, e, f])
    }

    /// The group bit: multicast or broadcast.
    #[inline]
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }

    /// All zero: never a valid sender.
    #[inline]
    pub const fn is_zero(self) -> bool {
        matches!(self.0, [0, 0, 0, 0, 0, 0])
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not six pairs of hex digits between colons or dashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseMacError;

impl fmt::Display for ParseMacError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected six pairs of hex digits, as in 02:00:00:00:00:01")
    }
}

impl std::error::Error for ParseMacError {}

impl FromStr for MacAddr {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<MacAddr, ParseMacError> {
        let mut mac = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut mac {
            let part = parts.next().ok_or(ParseMacError)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(ParseMacError);
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| ParseMacError)?;
        }
        match parts.next() {
            None => Ok(MacAddr(mac)),
            Some(_) => Err(ParseMacError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Addr {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn families_do_not_mix() {
        assert_eq!(ip("10.0.0.1").family(), Family::V4);
        assert_eq!(ip("::1").family(), Family::V6);
        assert_eq!(ip("2001:db8::1").to_string(), "2001:db8::1");
        assert_eq!(ip("255.255.255.255").to_string(), "255.255.255.255");
    }

    #[test]
    fn prefixes_have_edges() {
        let p = Prefix::new(ip("10.0.0.77"), 26).unwrap();
        assert_eq!(p.to_string(), "10.0.0.64/26");
        assert!(p.contains(ip("10.0.0.64")) && p.contains(ip("10.0.0.127")));
        assert!(!p.contains(ip("10.0.0.63")) && !p.contains(ip("10.0.0.128")));
        assert!(!p.contains(ip("::ffff:0:a00:40")));
        assert!(!Prefix::new(ip("::"), 0).unwrap().contains(ip("10.0.0.64")));
        assert_eq!(Prefix::new(ip("10.0.0.1"), 33), None);
        let all = Prefix::new(ip("0.0.0.0"), 0).unwrap();
        assert!(all.contains(ip("1.2.3.4")) && !all.contains(ip("2001:db8::1")));
        assert_eq!(all.to_string(), "0.0.0.0/0");
        let six = Prefix::new(ip("2001:db8::1"), 64).unwrap();
        assert_eq!(six.to_string(), "2001:db8::/64");
        assert_eq!(Prefix::host(ip("1.2.3.4")).to_string(), "1.2.3.4/32");
    }

    #[test]
    fn group_addresses() {
        for a in ["224.0.0.1", "239.255.255.255", "255.255.255.255", "ff02::1"] {
            assert!(ip(a).is_group(), "{a}");
        }
        for a in ["223.255.255.255", "240.0.0.1", "255.255.255.254", "fe80::1"] {
            assert!(!ip(a).is_group(), "{a}");
        }
        assert!(ip("fe80::1").is_link_local_v6() && ip("febf::1").is_link_local_v6());
        assert!(!ip("fec0::1").is_link_local_v6() && !ip("fe7f::1").is_link_local_v6());
    }

    #[test]
    fn macs_are_numbers_too() {
        let mac = MacAddr([2, 0, 0, 0, 0, 0x0a]);
        assert_eq!(mac.bits(), 0x0a00_0000_0002);
        assert_eq!(MacAddr::from_bits(mac.bits() | 0xffff << 48), mac);
        assert_eq!((MacAddr::BROADCAST.bits(), mac.bits() & MacAddr::GROUP_BIT), (MacAddr::BITS, 0));
        assert!(MacAddr::from_bits(MacAddr::GROUP_BIT).is_group());
    }

    #[test]
    fn macs_parse_strictly() {
        assert_eq!("02:00:00:00:00:0A".parse::<MacAddr>().unwrap().to_string(), "02:00:00:00:00:0a");
        for bad in ["", "02:00:00:00:00", "02:00:00:00:00:0a:0b", "2:0:0:0:0:a", "02:00:00:00:00:+a"] {
            assert_eq!(bad.parse::<MacAddr>(), Err(ParseMacError), "{bad}");
        }
    }
}
