//! The keyed hash of flows.
//!
//! # Design
//! Three AES rounds (FIPS 197, 5.1) separate every bit of the key from the
//! result. A flow of IPv4 is one block. Of IPv6 each of the three blocks (low
//! address, high address, the rest) goes through two rounds in a lane of its own,
//! under secret keys; the sum of the lanes goes through a third. The lanes run
//! side by side, so that the latency is that of three rounds.
//!
//! Rejected: CRC32C (linear: its key does not protect, collisions hold under
//! every key), SipHash (9 ns more per packet), two rounds (structure is
//! visible). Also a chain that takes in one block per round: with one round
//! between the blocks, a change of one address byte is cancelled by a change of
//! the next block with a chance of 1 in 64, whatever the key; over two rounds
//! at least five S-boxes take part, and the chance falls below 2^-30.

use super::FlowKey;
use super::spread::{BUCKETS, Spread};
use crate::addr::Family;
use crate::arch::aes_round;
use crate::ids::WorkerIndex;

/// The hash of a flow; the same for both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowHash(pub u64);

/// How far the bucket is shifted in a hash. What is below it is keyed.
const BUCKET_SHIFT: u32 = u64::BITS - BUCKETS.ilog2();

const KEYED: u64 = (1 << BUCKET_SHIFT) - 1;

impl FlowHash {
    /// The worker that owns the flow: that of its bucket, which are the upper bits.
    /// The lower ones are left for the table.
    #[inline]
    pub const fn owner(self, workers: u8) -> WorkerIndex {
        owner((self.0 >> BUCKET_SHIFT) as u8, workers)
    }
}

/// The worker that owns a bucket of flows: each owns a run of them.
#[inline]
pub const fn owner(bucket: u8, workers: u8) -> WorkerIndex {
    WorkerIndex(((bucket as usize * workers as usize) / BUCKETS) as u8)
}

/// Hashes flow keys under a secret, so that nobody outside can choose flows
/// that share a place in the table. All workers must use one seed.
#[derive(Clone)]
pub struct FlowHasher {
    keys: [u128; 6],
    spread: Spread,
}

impl FlowHasher {
    /// The hasher of a seed, which should be random and secret.
    pub fn new(seed: [u64; 4]) -> FlowHasher {
        let [a, b, c, d] = seed.map(u128::from);
        let (whitening, key) = (a << 64 | b, c << 64 | d);
        // Four rounds let every bit of the seed reach every bit of each key.
        let keys = std::array::from_fn(|i| {
            (0..4).fold(whitening ^ (i as u128 + 1), |state, _| aes_round(state, key))
        });
        let spread = Spread::new(aes_round(aes_round(whitening, key), key) as u16);
        FlowHasher { keys, spread }
    }

    /// How flows are spread over workers, to be told to network cards.
    pub fn spread(&self) -> &Spread {
        &self.spread
    }

    /// The hash over addresses, ports, protocol and family. Not over the VPC:
    /// packets find their worker without it.
    #[inline]
    pub fn hash(&self, key: &FlowKey) -> FlowHash {
        match key.family() {
            Family::V4 => self.hash_v4(key, true),
            Family::V6 => self.hash_v6(key, true),
        }
    }

    /// [`FlowHasher::hash`] of a key that is known to be of IPv4. Where there are no
    /// workers to share flows with, nobody needs to know the `owner`.
    #[inline(always)]
    pub(crate) fn hash_v4(&self, key: &FlowKey, owner: bool) -> FlowHash {
        let block = key.hashed_v4();
        let sum = || u128::from(block as u32 ^ (block >> 32) as u32);
        self.with_owner(self.mix_one(block), owner, || self.spread.bucket(sum(), key.spread_ports()))
    }

    /// The same of IPv6.
    #[inline(always)]
    pub(crate) fn hash_v6(&self, key: &FlowKey, owner: bool) -> FlowHash {
        let ([low, high], rest) = key.hashed();
        let bucket = || self.spread.bucket(low ^ high, key.spread_ports());
        self.with_owner(self.mix([low, high, rest.into()]), owner, bucket)
    }

    #[inline(always)]
    fn with_owner(&self, mixed: u64, owner: bool, bucket: impl FnOnce() -> u8) -> FlowHash {
        let bucket = if owner { u64::from(bucket()) } else { 0 };
        FlowHash(mixed & KEYED | bucket << BUCKET_SHIFT)
    }

    #[inline(always)]
    fn mix_one(&self, block: u128) -> u64 {
        let [k0, .., k3, k4, k5] = self.keys;
        aes_round(aes_round(aes_round(block ^ k0, k3), k4), k5) as u64
    }

    #[inline]
    fn mix(&self, [low, high, rest]: [u128; 3]) -> u64 {
        let [k0, k1, k2, k3, k4, k5] = self.keys;
        let low = aes_round(aes_round(low ^ k0, k3), 0);
        let high = aes_round(aes_round(high ^ k1, k4), 0);
        let rest = aes_round(aes_round(rest ^ k2, k5), 0);
        aes_round(low ^ high ^ rest, 0) as u64
    }
}

impl std::fmt::Debug for FlowHasher {
    /// Without the keys: they are secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FlowHasher").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Addr;
    use crate::flow::Side;
    use crate::ids::VpcIndex;
    use proptest::prelude::*;

    const SEED: [u64; 4] = [0x0123_4567, 0x89ab_cdef, 0xfedc_ba98, 0x7654_3210];

    /// SplitMix64: the same numbers in every run.
    struct Numbers(u64);

    impl Numbers {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            x ^ (x >> 31)
        }

        fn wide(&mut self) -> u128 {
            u128::from(self.next()) << 64 | u128::from(self.next())
        }
    }

    fn key(src: u32, src_port: u16, dst: u32, dst_port: u16) -> FlowKey {
        FlowKey::new(VpcIndex(0), 6, (Addr::v4(src), src_port), (Addr::v4(dst), dst_port)).0
    }

    fn key_v6(src: u32, src_port: u16, dst: u32) -> FlowKey {
        let addr = |host| Addr(0x2001_0db8 << 96 | u128::from(host));
        FlowKey::new(VpcIndex(0), 6, (addr(src), src_port), (addr(dst), 443)).0
    }

    /// What goes into the hash: the blocks of IPv6, or in the first the one of IPv4.
    type Blocks = [u128; 3];

    /// Either way of mixing, and how many bits of each block it reads.
    type Way = (fn(&FlowHasher, Blocks) -> u64, [u32; 3]);

    const SIX: Way = (FlowHasher::mix, [128, 128, 64]);
    const FOUR: Way = (|hasher, blocks| hasher.mix_one(blocks[0]), [128, 0, 0]);

    /// The chance of each output bit to flip with each input bit must be one
    /// half. 4096 trials have a deviation of 0.0078; of 17000 pairs the worst
    /// of a perfect hash lies near four of them, the bound is six.
    fn assert_avalanche((mix, widths): Way, mut input: impl FnMut() -> Blocks) {
        const TRIALS: u32 = 4096;
        let hasher = FlowHasher::new(SEED);
        let bits = (0..3).flat_map(|block| (0..widths[block]).map(move |bit| (block, bit)));
        for (block, bit) in bits {
            let mut flips = [0u32; 64];
            for _ in 0..TRIALS {
                let before = input();
                let mut after = before;
                after[block] ^= 1 << bit;
                let changed = mix(&hasher, before) ^ mix(&hasher, after);
                for (i, count) in flips.iter_mut().enumerate() {
                    *count += (changed >> i & 1) as u32;
                }
            }
            for (i, count) in flips.iter().enumerate() {
                let chance = f64::from(*count) / f64::from(TRIALS);
                assert!((chance - 0.5).abs() < 0.047, "block {block} bit {bit} flips bit {i} by {chance}");
            }
        }
    }

    #[test]
    fn every_input_bit_flips_every_output_bit_half_the_time() {
        for way in [SIX, FOUR] {
            let mut numbers = Numbers(1);
            assert_avalanche(way, || [numbers.wide(), numbers.wide(), numbers.next().into()]);
        }
    }

    #[test]
    fn also_among_the_few_bits_of_real_flows() {
        // Two /16, a client port, one server port: all else is constant.
        let mut numbers = Numbers(2);
        assert_avalanche(SIX, || {
            let x = numbers.next();
            let [low, high] = [x & 0xffff, x >> 16 & 0xffff].map(|host| 0x2001_0db8 << 96 | u128::from(host));
            [low, high, u128::from((x >> 32) as u16) << 16 | 443 << 32 | 6 << 48 | 1 << 56]
        });
        assert_avalanche(FOUR, || {
            let x = numbers.next();
            [
                key(
                    0x0a00_0000 | x as u16 as u32,
                    (x >> 32) as u16,
                    0x0a01_0000 | (x >> 16) as u16 as u32,
                    443,
                )
                .hashed_v4(),
                0,
                0,
            ]
        });
    }

    #[test]
    fn every_seed_bit_changes_the_hash() {
        let mut numbers = Numbers(3);
        let blocks: Vec<Blocks> =
            (0..64).map(|_| [numbers.wide(), numbers.wide(), numbers.next().into()]).collect();
        let before = FlowHasher::new(SEED);
        for ((mix, _), bit) in [SIX, FOUR].into_iter().flat_map(|way| (0..256).map(move |bit| (way, bit))) {
            let mut seed = SEED;
            seed[bit / 64] ^= 1 << (bit % 64);
            let after = FlowHasher::new(seed);
            let changed: u32 = blocks.iter().map(|k| (mix(&before, *k) ^ mix(&after, *k)).count_ones()).sum();
            // 4096 bits: half of them, by six deviations.
            assert!((1856..=2240).contains(&changed), "seed bit {bit}: {changed} of 4096");
        }
    }

    /// Counts in `cells` places must be those of a fair die: chi squared within
    /// six deviations of its mean.
    fn assert_even(counts: &[u32]) {
        let total: u32 = counts.iter().sum();
        let expected = f64::from(total) / counts.len() as f64;
        let chi: f64 = counts.iter().map(|c| (f64::from(*c) - expected).powi(2) / expected).sum();
        let freedom = (counts.len() - 1) as f64;
        assert!(
            (chi - freedom).abs() <= 6.0 * (2.0 * freedom).sqrt(),
            "chi squared {chi} of {freedom}: {counts:?}"
        );
    }

    /// What real traffic and scans look like to the hash: counters.
    fn scans() -> Vec<Vec<FlowKey>> {
        const FLOWS: u32 = 1 << 16;
        vec![
            (0..FLOWS).map(|i| key(0x0a00_0001, i as u16, 0x0a00_0002, 443)).collect(),
            (0..FLOWS).map(|i| key(0x0a00_0001, 40000, 0x0a01_0000 + i, 443)).collect(),
            (0..FLOWS).map(|i| key(0x0a00_0000 + (i >> 8), 5, 0x0a01_0000 + (i & 0xff), 443)).collect(),
            (0..FLOWS).map(|i| key(0x0a00_0001, (i >> 8) as u16, 0x0a00_0002, i as u16 & 0xff)).collect(),
            (0..FLOWS).map(|i| key_v6(1, i as u16, 2)).collect(),
            (0..FLOWS).map(|i| key_v6(1, 40000, 0x1_0000 + i)).collect(),
        ]
    }

    #[test]
    fn owners_share_as_evenly_as_buckets_allow() {
        let hasher = FlowHasher::new(SEED);
        for scan in scans() {
            let bucket = scan.len() / BUCKETS;
            for workers in [1, 2, 3, 4, 7, 16, 64] {
                let mut counts = vec![0; workers.into()];
                for key in &scan {
                    counts[usize::from(hasher.hash(key).owner(workers).0)] += 1;
                }
                let buckets = BUCKETS / usize::from(workers);
                let fair = buckets * bucket..=(buckets + 1) * bucket;
                assert!(counts.iter().all(|count| fair.contains(count)), "{counts:?} of {workers}");
            }
        }
    }

    #[test]
    fn ports_of_other_protocols_do_not_choose_the_owner() {
        // A card does not know what stands in their place, such as a ping's identifier.
        let hasher = FlowHasher::new(SEED);
        let owners = |protocol| {
            let key = |n| FlowKey::new(VpcIndex(0), protocol, (Addr::v4(1), n), (Addr::v4(2), 7)).0;
            (0..1000).map(|n| hasher.hash(&key(n)).owner(64)).collect::<std::collections::BTreeSet<_>>().len()
        };
        assert_eq!([1, 6, 17, 50, 58, 132].map(owners), [1, 64, 64, 1, 1, 1]);
    }

    #[test]
    fn the_table_fills_evenly_for_each_owner() {
        let hasher = FlowHasher::new(SEED);
        for scan in scans() {
            let mut counts = vec![0; 1 << 10];
            let mine = scan.iter().map(|key| hasher.hash(key)).filter(|hash| hash.owner(4) == WorkerIndex(1));
            mine.for_each(|hash| counts[hash.0 as usize & 0x3ff] += 1);
            assert_even(&counts);
        }
    }

    #[test]
    fn the_owner_is_always_a_worker() {
        for workers in 1..=64 {
            assert_eq!(FlowHash(0).owner(workers), WorkerIndex(0));
            assert_eq!(FlowHash(u64::MAX).owner(workers), WorkerIndex(workers - 1));
        }
    }

    #[test]
    fn the_table_and_the_owner_take_different_bits() {
        assert_eq!(FlowHash(KEYED).owner(64), WorkerIndex(0));
    }

    #[test]
    fn the_keys_are_not_shown() {
        assert_eq!(format!("{:?}", FlowHasher::new(SEED)), "FlowHasher { .. }");
    }

    proptest! {
        #[test]
        fn hashes_are_symmetric_and_leave_the_vpc_out(
            seed in any::<[u64; 4]>(), protocol in any::<u8>(), a in any::<(u128, u16)>(), b in any::<(u128, u16)>(),
            vpcs in any::<(u16, u16)>(), six in any::<bool>()
        ) {
            let hasher = FlowHasher::new(seed);
            let addr = |bits: u128| if six { Addr(bits << 1 | 1 << 127) } else { Addr::v4(bits as u32) };
            let (a, b) = ((addr(a.0), a.1), (addr(b.0), b.1));
            let (there, _) = FlowKey::new(VpcIndex(vpcs.0), protocol, a, b);
            let (back, _) = FlowKey::new(VpcIndex(vpcs.1), protocol, b, a);
            prop_assert_eq!(hasher.hash(&there), hasher.hash(&back));
            prop_assert_eq!(there.endpoint(Side::Low), back.endpoint(Side::Low));
        }
    }
}
