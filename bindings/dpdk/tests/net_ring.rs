//! Ports over `net_ring`, whose transmit queues lead to its receive queues.

mod support;

use dpdk::{Burst, Error, Mbuf, Port, PortConfig};
use support::{burst, eal, frame, pool, unique};

#[test]
fn packets_keep_their_order_and_what_does_not_fit_stays() {
    let pool = pool(2048);
    let port = Port::attach(&eal(), &unique("net_ring")).unwrap();
    let (mut rx, mut tx) = port.start(&PortConfig::default(), &pool).unwrap();
    let mut packets = burst(&pool, 0..5);
    assert_eq!(tx[0].send(&mut packets), 5);
    assert!(packets.is_empty());
    assert_eq!(rx[0].receive(&mut packets), 5);
    assert!(packets.iter().enumerate().all(|(i, m)| m.data() == frame(i as u8)));
    let statistics = port.statistics().unwrap();
    assert_eq!((statistics.rx_packets, statistics.tx_packets), (5, 5));
    let received = port.xstats().into_iter().find(|x| x.name == "rx_good_packets").unwrap();
    assert_eq!(received.value, 5);
    assert!(port.link().unwrap().up);
    // Fill it until it takes no more: the rest stays ours, and is the end of the burst.
    let (mut sent, mut offered) = (0, 0u32);
    loop {
        while !packets.is_full() {
            packets.push(Mbuf::from_bytes(&pool, &offered.to_be_bytes()).unwrap()).unwrap();
            offered += 1;
        }
        match tx[0].send(&mut packets) {
            0 => break,
            n => sent += n,
        }
    }
    assert_eq!(pool.in_use() as usize, sent + packets.len());
    assert_eq!(packets[0].data().len(), 4);
    assert_eq!(packets[31].data(), (offered - 1).to_be_bytes());
    // The five frames from before went in first.
    assert_eq!(packets[0].data(), ((sent - 5) as u32).to_be_bytes());
    drop(packets);
    let mut back = Burst::new();
    let mut received = 0;
    while rx[0].receive(&mut back) > 0 {
        received += back.len();
        back.clear();
    }
    assert_eq!((received, pool.in_use()), (sent, 0));
}

#[test]
fn packets_on_their_way_are_freed_when_the_port_closes() {
    let pool = pool(2048);
    let port = Port::attach(&eal(), &unique("net_ring")).unwrap();
    let n = port.info().unwrap().max_rx_queues.min(2);
    let config = PortConfig { rx_queues: n, tx_queues: n, ..PortConfig::default() };
    let (rx, mut tx) = port.start(&config, &pool).unwrap();
    let mut sent = 0;
    for tx in &mut tx {
        for _ in 0..30 {
            sent += tx.send(&mut burst(&pool, 0..32));
        }
    }
    assert_eq!((sent, pool.in_use()), (usize::from(n) * 960, u32::from(n) * 960));
    drop((port, rx));
    assert_eq!(pool.in_use(), u32::from(n) * 960, "a queue keeps it open");
    drop(tx);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_port_without_hashing_says_so() {
    let port = Port::attach(&eal(), &unique("net_ring")).unwrap();
    assert!(!port.info().unwrap().rss.is_offered());
    let segmented = pool(64);
    let whole = pool(2048);
    // It carries segments: a small mbuf is no obstacle to an MTU, but it has none.
    let refused = port.start(&PortConfig { mtu: Some(9001), ..PortConfig::default() }, &whole).unwrap_err();
    assert!(refused.to_string().ends_with("has no MTU that can be set"), "{refused}");
    let (mut rx, mut tx) = port.start(&PortConfig::default(), &whole).unwrap();
    let long = Mbuf::from_bytes(&whole, &[1; 200]).unwrap();
    let mut packets = Burst::new();
    packets.push(long.copy(&segmented).unwrap()).unwrap();
    assert_eq!(tx[0].send(&mut packets), 1);
    assert_eq!(rx[0].receive(&mut packets), 1);
    assert_eq!((packets[0].segments(), packets[0].total_len()), (4, 200));
    drop((packets, long));
    assert_eq!((whole.in_use(), segmented.in_use()), (0, 0));
}

#[test]
fn a_port_without_a_hash_does_not_spread() {
    let port = Port::attach(&eal(), &unique("net_ring")).unwrap();
    let _queues = port.start(&PortConfig::default(), &pool(2048)).unwrap();
    let error = port.spread([0x6d, 0x5a], &[0; 128]).unwrap_err();
    assert!(matches!(&error, Error::Unsupported { what, .. } if what.contains("by a hash")), "{error}");
}
