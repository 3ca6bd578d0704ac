use crate::addr::{Addr, Prefix};

/// The addresses and delegated prefixes of one interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Single addresses, sorted.
    hosts: Box<[Addr]>,
    /// Delegated prefixes.
    prefixes: Box<[Prefix]>,
}

/// Up to here a scan of a cache line or two beats a binary search.
const SCAN: usize = 8;

impl Addresses {
    /// From ranges in any order; a range of one address is a host address.
    pub fn new(ranges: impl IntoIterator<Item = Prefix>) -> Addresses {
        let (hosts, prefixes): (Vec<_>, Vec<_>) =
            ranges.into_iter().partition(|p| *p == Prefix::host(p.addr()));
        let mut hosts: Vec<Addr> = hosts.iter().map(Prefix::addr).collect();
        hosts.sort_unstable();
        hosts.dedup();
        Addresses { hosts: hosts.into(), prefixes: prefixes.into() }
    }

    /// Whether the address is one of them.
    #[inline]
    pub fn owns(&self, addr: Addr) -> bool {
        let host = match self.hosts.len() {
            0..=SCAN => self.hosts.contains(&addr),
            _ => self.hosts.binary_search(&addr).is_ok(),
        };
        host || self.prefixes.iter().any(|p| p.contains(addr))
    }

    /// The single addresses, sorted.
    pub fn hosts(&self) -> &[Addr] {
        &self.hosts
    }

    /// The delegated prefixes, as given.
    pub fn prefixes(&self) -> &[Prefix] {
        &self.prefixes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owns_what_was_given_and_nothing_beside() {
        let net = Prefix::new(Addr::v4(0x0a01_0000), 28).unwrap();
        for count in [1u32, SCAN as u32, SCAN as u32 + 1, 40] {
            let hosts = (0..count).rev().map(|i| Prefix::host(Addr::v4(0x0a00_0000 + 2 * i)));
            let own = Addresses::new(hosts.chain([net]));
            for i in 0..count {
                assert!(own.owns(Addr::v4(0x0a00_0000 + 2 * i)));
                assert!(!own.owns(Addr::v4(0x0a00_0001 + 2 * i)));
            }
            assert!(own.owns(Addr::v4(0x0a01_000f)) && !own.owns(Addr::v4(0x0a01_0010)));
            assert!(!own.owns(Addr::v4(0x0a00_ffff)) && !own.owns(Addr(0x0a01_0000)));
        }
    }
}
