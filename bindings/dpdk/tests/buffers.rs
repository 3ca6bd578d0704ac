//! Mbufs, bursts, pools and rings: each mbuf ends in its pool.

mod support;

use std::thread;

use dpdk::{Burst, Error, Mbuf, Mempool, MempoolConfig, ring};
use support::{burst, eal, frame, pool, unique};

#[test]
fn mbufs_hold_their_bytes_and_go_back() {
    let pool = pool(2048);
    let mut mbuf = Mbuf::from_bytes(&pool, &frame(1)).unwrap();
    assert_eq!((mbuf.data(), mbuf.total_len(), mbuf.segments()), (&frame(1)[..], 60, 1));
    let copy = mbuf.copy(&pool).unwrap();
    mbuf.prepend(4).unwrap()[..4].copy_from_slice(b"head");
    assert_eq!((&mbuf.data()[..4], mbuf.total_len()), (&b"head"[..], 64));
    assert!(mbuf.adj(10));
    assert_eq!(mbuf.data(), &frame(1)[6..]);
    mbuf.append(2).unwrap().copy_from_slice(b"xy");
    assert_eq!((&mbuf.data()[54..], mbuf.total_len()), (&b"xy"[..], 56));
    mbuf.data_mut().unwrap()[0] = 0xee;
    assert_eq!((mbuf.data()[0], copy.data()), (0xee, &frame(1)[..]), "a copy is its own");
    mbuf.set_port(7);
    assert_eq!(mbuf.port(), 7);
    assert_eq!(pool.in_use(), 2);
    drop((mbuf, copy));
    assert_eq!((pool.in_use(), pool.available()), (0, 2047));
}

#[test]
fn a_burst_is_dealt_into_hands_and_what_nobody_takes_is_freed() {
    let pool = pool(64);
    for len in [0, 1, 12, 32] {
        let mut packets = burst(&pool, 0..len);
        let len = usize::from(len);
        let all: Vec<Vec<u8>> = packets.iter().map(|mbuf| mbuf.data().to_vec()).collect();
        let (even, every_third) = (0x5555_5555, 0x4924_9249);
        // Each packet goes to the first that asks; bits of places without packets mean nothing.
        let hands = [("even", even), ("none", 0), ("thirds", every_third | even), ("left lying", 0xf0)];
        let (mut kept, mut shown) = (Burst::new(), vec![]);
        packets.deal(hands.into_iter(), |name, hand| {
            shown.push(name);
            let theirs: Vec<&[u8]> = hand.iter().map(|mbuf| mbuf.data()).collect();
            let is_theirs = |at: usize| match (name, at.is_multiple_of(2), at.is_multiple_of(3)) {
                ("even", is_even, _) => is_even,
                ("thirds", is_even, is_third) => !is_even && is_third,
                ("left lying", is_even, is_third) => !is_even && !is_third && (4..8).contains(&at),
                _ => false,
            };
            let expected: Vec<&[u8]> = (0..len).filter(|at| is_theirs(*at)).map(|at| &all[at][..]).collect();
            assert_eq!(theirs, expected, "{name} of {len}");
            if name != "left lying" {
                hand.drain().for_each(|mbuf| kept.push(mbuf).unwrap());
            }
        });
        assert_eq!(shown, ["even", "none", "thirds", "left lying"]);
        assert!(packets.is_empty());
        assert_eq!(pool.in_use() as usize, kept.len());
        drop(kept);
        assert_eq!(pool.in_use(), 0);
    }
}

#[test]
fn at_its_limits_an_mbuf_does_not_change() {
    let pool = pool(256);
    let mut mbuf = Mbuf::from_bytes(&pool, &[5; 250]).unwrap();
    assert!(mbuf.append(7).is_none());
    assert_eq!(mbuf.append(6).unwrap().len(), 6);
    assert!(mbuf.append(1).is_none());
    // The headroom is 128 bytes.
    assert!(mbuf.prepend(129).is_none());
    assert!(mbuf.prepend(u16::MAX).is_none());
    assert_eq!(mbuf.prepend(128).unwrap().len(), 384);
    assert!(mbuf.prepend(1).is_none());
    assert!(!mbuf.adj(385));
    assert_eq!((mbuf.data().len(), mbuf.total_len()), (384, 384));
    assert!(mbuf.adj(384));
    assert_eq!((mbuf.data(), mbuf.total_len()), (&[][..], 0));
    assert!(Mbuf::from_bytes(&pool, &[0; 257]).is_none());
    drop(mbuf);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn of_a_segmented_packet_only_the_first_segment_shows() {
    let (pool, small) = (pool(2048), pool(256));
    let bytes: Vec<u8> = (0..600u16).map(|i| i as u8).collect();
    let whole = Mbuf::from_bytes(&pool, &bytes).unwrap();
    let mut chain = whole.copy(&small).unwrap();
    assert_eq!((chain.segments(), chain.total_len(), chain.data()), (3, 600, &bytes[..256]));
    assert_eq!(small.in_use(), 3);
    assert!(chain.append(1).is_none(), "its end is in another segment");
    assert!(!chain.adj(257));
    assert!(chain.adj(6));
    chain.prepend(2).unwrap()[..2].copy_from_slice(b"hi");
    assert_eq!((chain.total_len(), chain.data().len()), (596, 252));
    let flat = chain.copy(&pool).unwrap();
    assert_eq!((flat.segments(), &flat.data()[..2], &flat.data()[2..]), (1, &b"hi"[..], &bytes[6..]));
    drop((whole, chain, flat));
    assert_eq!((pool.in_use(), small.in_use()), (0, 0));
}

#[test]
fn an_empty_pool_says_so() {
    let pool = pool(2048);
    let all: Vec<Mbuf> = std::iter::from_fn(|| Mbuf::alloc(&pool)).collect();
    assert_eq!(all.len(), 2047);
    assert!(all[0].copy(&pool).is_none());
    drop(all);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_burst_frees_what_it_holds() {
    let pool = pool(2048);
    let mut full = burst(&pool, 0..32);
    let refused = full.push(Mbuf::alloc(&pool).unwrap()).unwrap_err();
    assert!(full.is_full());
    drop(refused);
    assert_eq!(pool.in_use(), 32);
    assert_eq!(full.pop().unwrap().data(), frame(31));
    let first = full.drain().next();
    assert_eq!(first.as_ref().map(|m| m.data()), Some(&frame(0)[..]));
    drop(first);
    assert_eq!((pool.in_use(), full.len()), (0, 0));
    full.push(Mbuf::alloc(&pool).unwrap()).unwrap();
    full.clear();
    full.clear();
    assert_eq!(pool.in_use(), 0);
    full.push(Mbuf::alloc(&pool).unwrap()).unwrap();
    drop(full);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_full_ring_leaves_the_rest_with_the_caller() {
    let pool = pool(2048);
    let (mut producer, mut consumer) = ring(&eal(), &unique("ring"), 40).unwrap();
    let mut accepted = 0;
    for round in 0..4u8 {
        let mut offered = burst(&pool, round * 32..round * 32 + 32);
        let taken = producer.enqueue(&mut offered);
        accepted += taken;
        // What stays is the end of the burst, in order.
        let rest: Vec<u8> = offered.iter().map(|m| m.data()[0]).collect();
        let expected: Vec<u8> = (taken as u8..32).map(|n| round * 32 + n).collect();
        assert_eq!(rest, expected);
    }
    assert_eq!(accepted, 63, "64 places, one of which stays empty");
    assert_eq!(pool.in_use(), 63);
    let mut received = burst(&pool, 100..110);
    assert_eq!(consumer.dequeue(&mut received), 22, "as many as the burst has room for");
    let order: Vec<u8> = received.iter().map(|m| m.data()[0]).collect();
    assert_eq!(order, (100..110).chain(0..22).collect::<Vec<_>>());
    drop((producer, consumer));
    assert_eq!(pool.in_use(), 32, "the ring's are free, the burst's are not");
    drop(received);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_ring_carries_packets_from_thread_to_thread_in_order() {
    const PACKETS: u32 = 20_000;
    let pool = pool(2048);
    let (mut producer, mut consumer) = ring(&eal(), &unique("ring"), 256).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let _registered = eal().register_thread().unwrap();
            let mut sent = 0;
            let mut waiting = Burst::new();
            while sent < PACKETS || !waiting.is_empty() {
                while sent < PACKETS && !waiting.is_full() {
                    let Some(mbuf) = Mbuf::from_bytes(&pool, &sent.to_be_bytes()) else { break };
                    waiting.push(mbuf).unwrap();
                    sent += 1;
                }
                if producer.enqueue(&mut waiting) == 0 {
                    thread::yield_now();
                }
            }
        });
        scope.spawn(|| {
            let _registered = eal().register_thread().unwrap();
            let mut received = 0;
            let mut arrived = Burst::new();
            while received < PACKETS {
                if consumer.dequeue(&mut arrived) == 0 {
                    thread::yield_now();
                }
                for mbuf in arrived.drain() {
                    assert_eq!(mbuf.data(), received.to_be_bytes());
                    received += 1;
                }
            }
        });
    });
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_note_stays_beside_its_packet() {
    let pool = pool(255);
    let mut mbuf = Mbuf::from_bytes(&pool, b"bytes").unwrap();
    for note in [0, u64::MAX, 0x0123_4567_89ab_cdef] {
        mbuf.set_note(note);
        assert_eq!((mbuf.note(), mbuf.data()), (note, &b"bytes"[..]));
    }
}

#[test]
fn threads_register_and_leave_more_often_than_there_are_numbers() {
    let pool = pool(2048);
    for _ in 0..200 {
        let (eal, pool) = (eal(), pool.clone());
        thread::spawn(move || {
            let _registered = eal.register_thread().unwrap();
            drop(Mbuf::alloc(&pool).unwrap());
        })
        .join()
        .unwrap();
    }
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn names_are_unique_and_sizes_possible() {
    let eal = eal();
    let config = MempoolConfig { mbufs: 31, cache: 0, ..MempoolConfig::default() };
    let name = unique("taken");
    let _pool = Mempool::new(&eal, &name, &config).unwrap();
    let refused = Mempool::new(&eal, &name, &config).unwrap_err().to_string();
    assert_eq!(refused, format!("making the pool '{name}' of 31 mbufs failed: File exists"));
    assert!(matches!(Mempool::new(&eal, "a\0b", &config), Err(Error::ZeroByte(_))));
    let cache = MempoolConfig { cache: 513, mbufs: 2047, ..config };
    assert!(matches!(Mempool::new(&eal, &unique("pool"), &cache), Err(Error::Call { .. })));
    let memory = MempoolConfig { mbufs: 1 << 24, ..config };
    assert!(matches!(Mempool::new(&eal, &unique("pool"), &memory), Err(Error::Call { .. })));

    let name = unique("ring");
    let _ring = ring(&eal, &name, 8).unwrap();
    let refused = ring(&eal, &name, 8).unwrap_err().to_string();
    assert_eq!(refused, format!("making the ring '{name}' failed: File exists"));
    assert!(matches!(ring(&eal, &unique("ring"), u32::MAX), Err(Error::Call { .. })));
}
