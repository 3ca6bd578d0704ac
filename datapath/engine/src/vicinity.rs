//! In which parts of the address space keys are, roughly: so that strangers are told
//! apart by one line that is at hand, and not by lines that are far.
//!
//! A bit for each /16 of IPv4; those of IPv6, one for each /48, lie among them by a hash.
//! Bits are not taken back: where all keys of a part have gone, its addresses are looked for
//! as if there were some, until all that is there is noted anew.

use std::sync::Arc;

use crate::addr::{Addr, Family, Prefix};

/// Words of 64 bits: 8 KB.
const WORDS: usize = 1 << 10;

/// The bits of an IPv4 prefix, and of an IPv6 prefix, that tell its part.
const PART_BITS: [u8; 2] = [16, 48];

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
    /// Of these keys.
    pub fn of(keys: impl Iterator<Item = u128>) -> Vicinity {
        let mut all = Vicinity::default();
        keys.for_each(|key| all.add(key));
        all
    }

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

    /// Takes note of all addresses of a block.
    pub fn add_block(&mut self, block: Prefix) {
        let first = block.addr();
        match (block.family(), PART_BITS[block.family() as usize].saturating_sub(block.length())) {
            (_, 0) => self.add(first.0),
            (Family::V4, more) => {
                (0..1u32 << more).for_each(|n| self.add(Addr::v4(first.0 as u32 + (n << 16)).0));
            }
            // By their hashes, so many are everywhere.
            (Family::V6, _) => *Arc::make_mut(&mut self.0) = [u64::MAX; WORDS],
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
    fn a_block_has_all_its_addresses_and_no_others() {
        let block = |text: &str, length| Prefix::new(ip(text), length).expect("a prefix");
        let of = |block| {
            let mut known = Vicinity::default();
            known.add_block(block);
            known
        };
        let cases = [
            (block("10.4.0.0", 14), ["10.4.0.0", "10.5.1.2", "10.7.255.255"], ["10.3.255.255", "10.8.0.0"]),
            (block("10.4.0.0", 16), ["10.4.0.0", "10.4.1.2", "10.4.255.255"], ["10.3.255.255", "10.5.0.0"]),
            (block("10.4.9.0", 28), ["10.4.9.0", "10.4.9.1", "10.4.9.15"], ["10.3.9.1", "10.5.0.0"]),
            (block("fd00:a::", 48), ["fd00:a::", "fd00:a::1", "fd00:a:0:ffff::"], ["fd00:b::", "fd00:a:1::"]),
            (
                block("fd00:a:0:1::", 64),
                ["fd00:a:0:1::", "fd00:a:0:1::1", "fd00:a:0:1:ffff::"],
                ["fd00:b::", "::"],
            ),
        ];
        for (block, inside, outside) in cases {
            let known = of(block);
            assert!(inside.iter().all(|addr| known.may_have(ip(addr).0)), "{block}");
            assert!(outside.iter().all(|addr| !known.may_have(ip(addr).0)), "{block}");
        }
        for all in [block("0.0.0.0", 0), block("fd00::", 8), block("fd00::", 47)] {
            let inside = all.addr().0 | !all.mask();
            assert!(of(all).may_have(inside) && of(all).may_have(inside - (1 << 81 & !all.mask())));
        }
        assert!(of(block("0.0.0.0", 0)).may_have(ip("255.255.255.255").0));
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
