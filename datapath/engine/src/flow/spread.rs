//! How flows are spread over workers: by a hash that network cards compute too.
//!
//! # Design
//! Cards hash addresses and ports by Toeplitz's function (as Microsoft's receive
//! side scaling has it): linear, the sum of a window of the key for each bit that
//! is set. Under a key that repeats after 16 bits, both directions of a flow hash
//! to the same, and what is hashed comes down to the sum of all 16-bit words of
//! addresses and ports: in software two small tables.
//!
//! The lowest bits of the hash name one of 128 buckets, as the smallest indirection
//! tables of cards do, and each worker owns a run of buckets. Cards that are told
//! key and table deliver to the owner; where none is, or one does otherwise, the
//! receiver hands over, since it computes the same.
//!
//! The key is secret, but a linear hash protects nothing: flows whose words have
//! one sum share a worker under every key. Whoever aims at a worker so reaches no
//! more than by one flow at full speed: work per packet is bounded, allowances are
//! by worker, and places in the table are found by the keyed hash, not by this one.
//! Rejected: an owner that only software can compute, since of N workers' packets
//! all but one in N would change hands, at several times the price.

/// Buckets that flows are spread over.
pub const BUCKETS: usize = 128;

/// Bits of a bucket's number.
const BITS: u32 = BUCKETS.ilog2();

/// Bits after which the key repeats, and of what is hashed.
const PERIOD: u32 = u16::BITS;

/// Adjacent bits that reach all buckets, wherever they stand.
const RUN: u32 = 8;

/// The spread of flows under one key.
#[derive(Clone)]
pub struct Spread {
    pattern: u16,
    /// By the lower and by the upper byte of the sum of words.
    tables: [[u8; 256]; 2],
}

impl Spread {
    /// By a key that follows from `random`.
    pub(super) fn new(random: u16) -> Spread {
        let mut pattern = random;
        while !is_suitable(pattern) {
            pattern = pattern.wrapping_add(1);
        }
        let table = |shift: u32| {
            std::array::from_fn(|byte| {
                let word = (byte as u16) << shift;
                let windows = (0..PERIOD).filter(|at| word << at >> (PERIOD - 1) == 1);
                windows.fold(0, |sum, at| sum ^ window(pattern, at))
            })
        };
        Spread { pattern, tables: [table(0), table(8)] }
    }

    /// The bucket of a flow: `addresses` is the sum (exclusive or) of both, `ports` of
    /// TCP and UDP are both side by side, of all else 0.
    #[inline]
    pub(super) fn bucket(&self, addresses: u128, ports: u32) -> u8 {
        let sum = (addresses >> 64) as u64 ^ addresses as u64;
        let sum = (sum >> 32) as u32 ^ sum as u32 ^ ports;
        let [lower, upper] = ((sum >> 16) as u16 ^ sum as u16).to_le_bytes();
        self.tables[0][usize::from(lower)] ^ self.tables[1][usize::from(upper)]
    }

    /// The key for a card: these two bytes, over and over.
    pub fn key(&self) -> [u8; 2] {
        self.pattern.to_be_bytes()
    }
}

/// The lowest bits of the 32 bits of the key that begin at this bit.
fn window(pattern: u16, at: u32) -> u8 {
    pattern.rotate_left(at) as u8 & (BUCKETS - 1) as u8
}

/// Whether the whole hash tells all sums of words apart (an odd pattern has an
/// inverse), and flows that differ in any eight adjacent bits only, as consecutive
/// ports and addresses do, are spread over all buckets. Of all patterns one in twelve.
fn is_suitable(pattern: u16) -> bool {
    let is_odd = pattern.count_ones() % 2 == 1;
    is_odd
        && (0..PERIOD).all(|start| {
            let mut windows: Vec<u8> = (start..start + RUN).map(|at| window(pattern, at % PERIOD)).collect();
            // Gauss: as many of them as a bucket has bits are independent.
            (0..BITS).all(|bit| {
                let Some(at) = windows.iter().position(|window| window >> bit & 1 == 1) else { return false };
                let pivot = windows.swap_remove(at);
                windows
                    .iter_mut()
                    .filter(|window| **window >> bit & 1 == 1)
                    .for_each(|window| *window ^= pivot);
                true
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Toeplitz's hash as it is defined, bit by bit.
    fn toeplitz(key: &[u8], input: &[u8]) -> u32 {
        let bit = |bytes: &[u8], at: usize| u32::from(bytes[at / 8] >> (7 - at % 8) & 1);
        let window = |at| (at..at + 32).fold(0, |word, at| word << 1 | bit(key, at));
        (0..input.len() * 8).filter(|at| bit(input, *at) == 1).fold(0, |sum, at| sum ^ window(at))
    }

    #[test]
    fn toeplitz_is_that_of_the_published_examples() {
        // Microsoft, "Verifying the RSS Hash Calculation".
        let key = hex("6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa");
        // 66.9.149.187:2794 to 161.142.100.80:1766
        assert_eq!(toeplitz(&key, &hex("420995bba18e64500aea06e6")), 0x51cc_c178);
    }

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn every_random_number_leads_to_a_key_of_its_kind() {
        let suitable = (0..=u16::MAX).filter(|pattern| is_suitable(*pattern)).count();
        assert!(suitable > 4096, "{suitable}");
        for random in [0, 1, 0x6d5a, 0x8000, u16::MAX] {
            assert!(is_suitable(u16::from_be_bytes(Spread::new(random).key())));
        }
        assert!(!is_suitable(0) && !is_suitable(0x0101) && !is_suitable(u16::MAX));
    }

    #[test]
    fn consecutive_ports_and_addresses_reach_every_bucket_equally() {
        for random in (0..=u16::MAX).step_by(4099) {
            let spread = Spread::new(random);
            for shift in [0, 3, 8, 15] {
                let mut counts = [0; BUCKETS];
                (0..256u32).for_each(|n| counts[usize::from(spread.bucket(0, n << shift))] += 1);
                assert_eq!(counts, [2; BUCKETS], "{random:#x}, from bit {shift}");
            }
        }
    }

    proptest! {
        #[test]
        fn buckets_are_what_a_card_computes_in_both_directions(
            random in any::<u16>(), a in any::<(u128, u16)>(), b in any::<(u128, u16)>()
        ) {
            let spread = Spread::new(random);
            let key: Vec<u8> = spread.key().into_iter().cycle().take(40).collect();
            let ports = u32::from(a.1) << 16 | u32::from(b.1);
            for (a, b) in [(a, b), (b, a)] {
                let bytes = [&a.0.to_be_bytes()[..], &b.0.to_be_bytes(), &a.1.to_be_bytes(), &b.1.to_be_bytes()];
                let bucket = |input: &[u8]| toeplitz(&key, input) as u8 % BUCKETS as u8;
                prop_assert_eq!(spread.bucket(a.0 ^ b.0, ports), bucket(&bytes.concat()));
                prop_assert_eq!(spread.bucket(a.0 ^ b.0, 0), bucket(&bytes[..2].concat()));
                // IPv4, whose addresses here have 96 bits in common.
                let v4 = [&bytes[0][12..], &bytes[1][12..], bytes[2], bytes[3]].concat();
                let sum = u128::from(a.0 as u32 ^ b.0 as u32);
                prop_assert_eq!(spread.bucket(sum, ports), bucket(&v4));
            }
        }
    }
}
