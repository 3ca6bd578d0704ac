//! The keyed hash of flows.
//!
//! # Design
//! Three AES rounds (FIPS 197, 5.1) separate every bit of the key from the
//! result. Each of the three blocks (low address, high address, the rest) goes
//! through two rounds in a lane of its own, under secret keys; the sum of the
//! lanes goes through a third. The lanes run side by side, so that the latency
//! is that of three rounds.
//!
//! Rejected: CRC32C (linear: its key does not protect, collisions hold under
//! every key), SipHash (9 ns more per packet), two rounds (structure is
//! visible). Also a chain that takes in one block per round: with one round
//! between the blocks, a change of one address byte is cancelled by a change of
//! the next block with a chance of 1 in 64, whatever the key; over two rounds
//! at least five S-boxes take part, and the chance falls below 2^-30.

use super::FlowKey;
use crate::arch::aes_round;
use crate::ids::WorkerIndex;

/// The hash of a flow; the same for both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowHash(pub u64);

impl FlowHash {
    /// The worker that owns the flow: the upper 32 bits, scaled to the number of
    /// workers. The lower bits are left for the table.
    #[inline]
    pub const fn owner(self, workers: u8) -> WorkerIndex {
        WorkerIndex((((self.0 >> 32) * workers as u64) >> 32) as u8)
    }
}

/// Hashes flow keys under a secret, so that nobody outside can choose flows
/// that share a worker or a place in the table. All workers must use one seed.
#[derive(Clone)]
pub struct FlowHasher {
    keys: [u128; 6],
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
        FlowHasher { keys }
    }

    /// The hash over addresses, ports, protocol and family. Not over the VPC:
    /// packets find their worker without it.
    #[inline]
    pub fn hash(&self, key: &FlowKey) -> FlowHash {
        let [k0, k1, k2, k3, k4, k5] = self.keys;
        let ([low, high], rest) = key.hashed();
        let low = aes_round(aes_round(low ^ k0, k3), 0);
        let high = aes_round(aes_round(high ^ k1, k4), 0);
        let rest = aes_round(aes_round(u128::from(rest) ^ k2, k5), 0);
        FlowHash(aes_round(low ^ high ^ rest, 0) as u64)
    }
}

impl std::fmt::Debug for FlowHasher {
    /// Without the keys: they are secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FlowHasher").finish_non_exhaustive()
    }
}
