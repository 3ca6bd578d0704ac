//! Every mbuf comes back to its pool, on virtual devices and without hugepages.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use dpdk::{Burst, Eal, Error, Mbuf, Mempool, MempoolConfig, Port, PortConfig, ring};

fn eal() -> Eal {
    static EAL: OnceLock<Eal> = OnceLock::new();
    EAL.get_or_init(|| {
        let arguments = ["--no-huge", "--no-shconf", "--no-pci", "-m", "256", "--log-level", "error"];
        Eal::init("ownership", &arguments.map(String::from)).unwrap()
    })
    .clone()
}

/// A name that no other test uses.
fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{what}{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn pool() -> Mempool {
    let config = MempoolConfig { mbufs: 1023, cache: 32, ..MempoolConfig::default() };
    Mempool::new(&eal(), &unique("pool"), &config).unwrap()
}

fn frame(n: u8) -> Vec<u8> {
    (0..60).map(|i| n ^ i).collect()
}

#[test]
fn eal_starts_once() {
    let eal = eal();
    assert_eq!(Eal::init("again", &[]).unwrap_err(), Error::AlreadyStarted);
    assert!(!eal.lcores().is_empty());
    assert!(dpdk::tsc_hz() > 0 && dpdk::cycles() > 0);
}

#[test]
fn a_registered_thread_has_a_cache_and_a_thread_may_come_and_go() {
    let (eal, pool) = (eal(), pool());
    for _ in 0..200 {
        // More threads in turn than there are lcore numbers.
        let (eal, pool) = (eal.clone(), pool.clone());
        std::thread::spawn(move || {
            let _registered = eal.register_thread().unwrap();
            drop(Mbuf::alloc(&pool).unwrap());
        })
        .join()
        .unwrap();
    }
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn mbufs_hold_their_bytes_and_go_back() {
    let pool = pool();
    let mut mbuf = Mbuf::from_bytes(&pool, &frame(1)).unwrap();
    assert_eq!((mbuf.data(), mbuf.total_len(), mbuf.segments()), (&frame(1)[..], 60, 1));
    let copy = mbuf.copy(&pool).unwrap();
    mbuf.prepend(4).unwrap()[..4].copy_from_slice(b"head");
    assert_eq!((&mbuf.data()[..4], mbuf.total_len()), (&b"head"[..], 64));
    assert!(mbuf.adj(10));
    assert_eq!(mbuf.data(), &frame(1)[6..]);
    assert_eq!(copy.data(), frame(1), "a copy is its own");
    // At the limits nothing changes.
    assert!(!mbuf.adj(55) && mbuf.prepend(u16::MAX).is_none() && mbuf.append(1 << 20).is_none());
    assert_eq!(mbuf.total_len(), 54);
    assert!(Mbuf::from_bytes(&pool, &[0; 4000]).is_none());
    assert_eq!(pool.in_use(), 2);
    drop((mbuf, copy));
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn an_empty_pool_says_so() {
    let pool = pool();
    let all: Vec<Mbuf> = std::iter::from_fn(|| Mbuf::alloc(&pool)).collect();
    assert_eq!(all.len(), 1023);
    assert!(all[0].copy(&pool).is_none());
    drop(all);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_burst_frees_what_it_holds() {
    let pool = pool();
    let mut burst = Burst::new();
    for n in 0..32 {
        burst.push(Mbuf::from_bytes(&pool, &frame(n)).unwrap()).unwrap();
    }
    let refused = burst.push(Mbuf::alloc(&pool).unwrap()).unwrap_err();
    assert!(burst.is_full());
    drop(refused);
    assert_eq!(pool.in_use(), 32);
    let first = burst.drain().next();
    assert_eq!(first.as_ref().map(|m| m.data()[0]), Some(0));
    drop(first);
    assert_eq!((pool.in_use(), burst.len()), (0, 0));
    burst.push(Mbuf::alloc(&pool).unwrap()).unwrap();
    burst.clear();
    burst.push(Mbuf::alloc(&pool).unwrap()).unwrap();
    drop(burst);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_full_ring_leaves_the_rest_with_the_caller() {
    let pool = pool();
    let (mut producer, mut consumer) = ring(&eal(), &unique("ring"), 40).unwrap();
    let mut accepted = 0;
    for round in 0..4u8 {
        let mut burst = Burst::new();
        for n in 0..32 {
            burst.push(Mbuf::from_bytes(&pool, &frame(round * 32 + n)).unwrap()).unwrap();
        }
        let taken = producer.enqueue(&mut burst);
        accepted += taken;
        assert_eq!(burst.len(), 32 - taken);
        // What stays is the end of the burst, in order.
        let rest: Vec<u8> = burst.iter().map(|m| m.data()[0]).collect();
        let expected: Vec<u8> = (taken as u8..32).map(|n| round * 32 + n).collect();
        assert_eq!(rest, expected);
    }
    assert_eq!(accepted, 63, "64 places, one of which stays empty");
    assert_eq!(pool.in_use(), 63);
    let mut burst = Burst::new();
    assert_eq!(consumer.dequeue(&mut burst), 32);
    assert!(burst.iter().enumerate().all(|(i, m)| m.data()[0] == i as u8));
    drop((producer, consumer));
    assert_eq!(pool.in_use(), 32, "the ring's are free, the burst's are not");
    drop(burst);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn net_ring_carries_packets_and_closes_empty() {
    let pool = pool();
    let name = unique("net_ring");
    let port = Port::attach(&eal(), &name).unwrap();
    assert_eq!(port.name(), name);
    let config = PortConfig { rx_queues: 1, tx_queues: 1, ..PortConfig::default() };
    let (mut rx, mut tx) = port.start(&config, &pool).unwrap();
    let mut burst = Burst::new();
    for n in 0..5 {
        burst.push(Mbuf::from_bytes(&pool, &frame(n)).unwrap()).unwrap();
    }
    assert_eq!(tx[0].send(&mut burst), 5);
    assert!(burst.is_empty());
    assert_eq!(rx[0].receive(&mut burst), 5);
    assert!(burst.iter().enumerate().all(|(i, m)| m.data() == frame(i as u8)));
    let statistics = port.statistics().unwrap();
    assert_eq!((statistics.rx_packets, statistics.tx_packets), (5, 5));
    assert!(port.link().unwrap().up);
    // Fill it until it takes no more: the rest stays ours.
    let mut sent = 0;
    loop {
        while !burst.is_full() {
            let Some(mbuf) = Mbuf::alloc(&pool) else { break };
            burst.push(mbuf).unwrap();
        }
        match tx[0].send(&mut burst) {
            0 => break,
            n => sent += n,
        }
    }
    assert_eq!(pool.in_use() as usize, sent + burst.len());
    burst.clear();
    while rx[0].receive(&mut burst) > 0 {
        burst.clear();
    }
    assert_eq!(pool.in_use(), 0);
    drop((rx, tx, port));
    assert_eq!(Port::by_name(&eal(), &name).unwrap_err(), Error::NoPort(name));
}

#[test]
fn net_null_gives_and_takes() {
    let pool = pool();
    let port = Port::attach(&eal(), &format!("{},size=60", unique("net_null"))).unwrap();
    let info = port.info().unwrap();
    assert_eq!(info.driver, "net_null");
    let too_many = PortConfig { rx_queues: info.max_rx_queues + 1, ..PortConfig::default() };
    assert!(matches!(port.start(&too_many, &pool), Err(Error::Unsupported { .. })));
    let (mut rx, mut tx) =
        port.start(&PortConfig { rx_queues: 2, tx_queues: 2, ..PortConfig::default() }, &pool).unwrap();
    assert!(matches!(port.start(&PortConfig::default(), &pool), Err(Error::Unsupported { .. })));
    assert_eq!((rx.len(), tx.len()), (2, 2));
    let mut burst = Burst::new();
    for (rx, tx) in rx.iter_mut().zip(&mut tx) {
        assert_eq!(rx.receive(&mut burst), 32);
        assert_eq!(rx.receive(&mut burst), 0, "a full burst takes no more");
        assert_eq!(tx.send(&mut burst), 32);
    }
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn net_pcap_reads_a_capture_to_its_end() {
    let pool = pool();
    let path = std::env::temp_dir().join(format!("sgswitch-{}.pcap", std::process::id()));
    let mut capture = vec![];
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65535, 1] {
        capture.extend(word.to_le_bytes());
    }
    for n in 0..3u32 {
        for word in [n, 0, 60, 60] {
            capture.extend(word.to_le_bytes());
        }
        capture.extend(frame(n as u8));
    }
    std::fs::write(&path, capture).unwrap();
    let port = Port::attach(&eal(), &format!("{},rx_pcap={}", unique("net_pcap"), path.display())).unwrap();
    let (mut rx, tx) = port.start(&PortConfig::default(), &pool).unwrap();
    let mut burst = Burst::new();
    while rx[0].receive(&mut burst) > 0 {}
    assert_eq!(burst.iter().map(|m| m.data().to_vec()).collect::<Vec<_>>(), [frame(0), frame(1), frame(2)]);
    drop((burst, rx, tx, port));
    std::fs::remove_file(&path).unwrap();
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn what_cannot_be_is_refused_in_words() {
    let eal = eal();
    assert_eq!(
        Port::by_name(&eal, "nowhere").unwrap_err().to_string(),
        "there is no DPDK port named 'nowhere'"
    );
    let refused = Port::attach(&eal, "net_af_packet0,iface=not-there").unwrap_err().to_string();
    assert!(refused.starts_with("attaching 'net_af_packet0,iface=not-there' failed: "), "{refused}");
    let name = unique("net_null");
    let _port = Port::attach(&eal, &name).unwrap();
    assert!(matches!(Port::attach(&eal, &name), Err(Error::Call { .. })));
    assert!(Port::all(&eal).iter().any(|p| p.name() == name));
    let taken = unique("taken");
    let config = MempoolConfig { mbufs: 31, cache: 0, ..MempoolConfig::default() };
    let _pool = Mempool::new(&eal, &taken, &config).unwrap();
    assert!(matches!(Mempool::new(&eal, &taken, &config), Err(Error::Call { .. })));
    assert!(matches!(Mempool::new(&eal, "a\0b", &config), Err(Error::ZeroByte(_))));
}
