//! What the tests of one program share: an EAL, without hugepages.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use dpdk::{Burst, Eal, Mbuf, Mempool, MempoolConfig};

pub fn eal() -> Eal {
    static EAL: OnceLock<Eal> = OnceLock::new();
    EAL.get_or_init(|| {
        let arguments = ["--no-huge", "--no-shconf", "--no-pci", "-m", "256", "--log-level", "error"];
        Eal::init("test", &arguments.map(String::from)).unwrap()
    })
    .clone()
}

/// A name that no other test uses.
pub fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{what}{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A pool of 2047 mbufs with room for frames of this size.
pub fn pool(data_room: u16) -> Mempool {
    let config = MempoolConfig { mbufs: 2047, cache: 32, data_room, socket: None };
    Mempool::new(&eal(), &unique("pool"), &config).unwrap()
}

/// A frame of 60 bytes that tells its number.
pub fn frame(n: u8) -> Vec<u8> {
    (0..60).map(|i| n ^ i).collect()
}

/// A burst of the frames of these numbers.
pub fn burst(pool: &Mempool, numbers: std::ops::Range<u8>) -> Burst {
    let mut burst = Burst::new();
    for n in numbers {
        burst.push(Mbuf::from_bytes(pool, &frame(n)).unwrap()).unwrap();
    }
    burst
}
