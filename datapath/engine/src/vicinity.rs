//! In which parts of the address space keys are, roughly: so that strangers are told
//! apart by one line that is at hand, and not by lines that are far.
//!
//! A bit for each /16 of IPv4; those of IPv6, one for each /48, lie among them by a hash.
//! Bits are never taken back: where all keys of a part have gone, its addresses are looked
//! for as if there were some.

use std::sync::Arc;

/// Words of 64 bits: 8 KB.
const WORDS: usize = 1 << 10;

/// Parts of the address space. A copy shares the bits until one of the two gets another.
#[derive(Clone, Debug)]
pub(crate) struct Vicinity(Arc<[u64; WORDS]>);

impl Default for Vicinity {
    fn default() -> Vicinity {
        Vicinity(Arc::new([0; WORDS]))
    }
}

/// The number of an address's part, below 2^16.
#[inline]
fn part(key: u128) -> usize {
    let prefix = (key >> 80) as u64;
    let hashed = prefix.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
    // An IPv4 address is an IPv4-mapped one of IPv6.
    (if key >> 32 == 0xffff { key as u32 as u64 >> 16 } else { hashed }) as usize
}

impl Vicinity {
    /// Whether keys may be where this one is; false only if there are none.
    #[inline]
    pub fn may_have(&self, key: u128) -> bool {
        let part = part(key);
        self.0[part / 64 % WORDS] >> (part % 64) & 1 == 1
    }

    /// Takes note of a key.
    pub fn add(&mut self, key: u128) {
        if !self.may_have(key) {
            let part = part(key);
            Arc::make_mut(&mut self.0)[part / 64] |= 1 << (part % 64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Addr;
    use crate::packet::build::ip;

    #[test]
    fn neighbours_are_found_and_strangers_are_not() {
        let mut known = Vicinity::default();
        let ours: Vec<Addr> =
            ["10.1.0.1", "10.1.255.255", "fd00:a::1", "fd00:a::2", "::", "255.255.255.255"].map(ip).to_vec();
        let strangers = ["10.0.255.255", "10.2.0.0", "fd00:b::1", "2001:db8::1", "192.0.2.1"].map(ip);
        assert!(ours.iter().chain(&strangers).all(|addr| !known.may_have(addr.0)));
        ours.iter().for_each(|addr| known.add(addr.0));
        assert!(ours.iter().all(|addr| known.may_have(addr.0)));
        assert!(strangers.iter().all(|addr| !known.may_have(addr.0)));
    }

    #[test]
    fn a_copy_shares_until_it_gets_more() {
        let mut one = Vicinity::default();
        one.add(ip("10.1.0.1").0);
        let mut other = one.clone();
        other.add(ip("10.1.0.2").0);
        assert!(Arc::ptr_eq(&one.0, &other.0));
        other.add(ip("10.2.0.1").0);
        assert!(other.may_have(ip("10.2.0.1").0) && !one.may_have(ip("10.2.0.1").0));
    }
}
