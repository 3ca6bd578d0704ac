//! Workers over virtual devices, without hugepages: a port of `net_ring` gives
//! back what is sent to it, so two of them, cross-bound in DPDK's arguments,
//! would need a second process; instead frames come from a capture file and
//! counters tell where they went.

mod announcing;
mod ports;
mod support;
mod watching;

use std::time::Duration;

use dpdk::MempoolConfig;
use engine::ids::PortIndex;
use engine::packet::build::{Packet, ip, mac};
use engine::snapshot::Snapshot;
use engine::verdict::DropReason;
use support::*;
use worker::{Datapath, DatapathConfig, Idle, StartError};

#[test]
fn s12_one_worker_judges_and_gives_every_mbuf_back() {
    let (_guard, eal) = alone();
    let frames = requests(100);
    let Run { datapath, pool, output, _input } = run(&eal, 1, &frames, snapshot(1, true));
    wait_until("all are received", || sum(&datapath, |s| s.received.get()) == 300);
    wait_until("all are settled", || {
        sum(&datapath, |s| s.transmitted.get()) + drops(&datapath, DropReason::OutboundDenied) == 300
    });
    assert_eq!(drops(&datapath, DropReason::OutboundDenied), 75);
    wait_until("connections are told", || sum(&datapath, |s| s.connections.get()) == 75);
    let found = datapath.connections(1000, |_| true);
    assert_eq!(found.iter().map(|(_, _, entries)| entries.len()).sum::<usize>(), 75);
    let some = datapath.connections(10, |entry| entry.key().protocol() == 17);
    assert_eq!(some[0].2.len(), 10);
    assert!(datapath.connections(10, |entry| entry.key().protocol() == 6)[0].2.is_empty());
    assert_eq!(datapath.port(PortIndex(1)).unwrap().statistics.unwrap().tx_packets, 225);
    let worker = datapath.workers()[0].statistics.clone();
    assert!(worker.turns() >= 300 / 32 && !worker.has_ended());
    datapath.stop();
    assert!(worker.has_ended());
    assert_eq!(pool.in_use(), 0);
    let expected: Vec<_> = frames.iter().filter(|f| f[37] == 53).cloned().collect();
    assert_eq!(Capture::read(&output.0), expected, "in order, and unmodified (S12)");
}

#[test]
fn two_workers_share_what_arrives_at_one_queue() {
    let (_guard, eal) = alone();
    let frames = requests(400);
    let Run { datapath, pool, output, _input } = run(&eal, 2, &frames, snapshot(1, true));
    let settled = |d: &Datapath| sum(d, |s| s.transmitted.get()) + drops(d, DropReason::OutboundDenied);
    wait_until("all are settled", || settled(&datapath) == 1200);
    assert_eq!(drops(&datapath, DropReason::OutboundDenied), 300);
    let (there, here) = (sum(&datapath, |s| s.handed_over.get()), sum(&datapath, |s| s.taken_over.get()));
    assert_eq!(there, here);
    assert!((400..800).contains(&there), "about half of 1200 belong elsewhere: {there}");
    // Port b has one transmit queue: the other worker's packets were relayed.
    assert!(sum(&datapath, |s| s.relayed.get()) > 300);
    wait_until("connections are told", || sum(&datapath, |s| s.connections.get()) == 300);
    assert!(datapath.workers().iter().all(|w| w.statistics.connections.get() > 100));
    datapath.stop();
    assert_eq!(pool.in_use(), 0);
    // Packets of one flow keep their order, whoever judged them.
    let mut rounds = std::collections::HashMap::new();
    for frame in Capture::read(&output.0) {
        let seen: &mut Vec<u8> = rounds.entry((frame[34], frame[35])).or_default();
        seen.push(frame[42]);
    }
    assert_eq!(rounds.len(), 300);
    assert!(rounds.values().all(|seen| *seen == [0, 1, 2]));
}

/// UDP of so many bytes of IP, to a port.
fn sized(bytes: usize, port: u16) -> Vec<u8> {
    let data: Vec<u8> = (0..bytes - 28).map(|i| i as u8).collect();
    Packet::udp("10.0.0.1:1000", &format!("10.1.0.1:{port}"), &data).frame(mac(1), mac(2))
}

#[test]
fn s12_r6_8_frames_of_1500_and_9001_bytes_pass_unmodified() {
    let (_guard, eal) = alone();
    let frames = [sized(1500, 53), sized(9001, 53), sized(9001, 54), sized(60, 53)];
    // Buffers that hold the largest frame, headroom included.
    let large = MempoolConfig { mbufs: 1023, cache: 32, data_room: 9216, ..MempoolConfig::default() };
    let Run { datapath, pool, output, _input } =
        run_in(&eal, pool_of(&eal, &large), &config(1), &frames, snapshot(1, true));
    wait_until("all are settled", || {
        sum(&datapath, |s| s.transmitted.get()) + drops(&datapath, DropReason::OutboundDenied) == 4
    });
    assert_eq!(drops(&datapath, DropReason::OutboundDenied), 1);
    datapath.stop();
    assert_eq!(pool.in_use(), 0);
    assert_eq!(Capture::read(&output.0), [frames[0].clone(), frames[1].clone(), frames[3].clone()]);
}

#[test]
fn a_frame_that_a_port_cannot_send_is_dropped_and_holds_nobody_up() {
    let (_guard, eal) = alone();
    // More frames of several buffers than an outbox holds, for a driver that takes one each.
    let mut frames = vec![sized(9001, 53); 100];
    frames.push(sized(60, 53));
    let Run { datapath, pool, output, _input } = run(&eal, 1, &frames, snapshot(1, true));
    wait_until("all are settled", || {
        sum(&datapath, |s| s.transmitted.get()) + drops(&datapath, DropReason::Segmented) == 101
    });
    assert_eq!(drops(&datapath, DropReason::Segmented), 100);
    datapath.stop();
    assert_eq!(pool.in_use(), 0);
    assert_eq!(Capture::read(&output.0), [sized(60, 53)]);
}

/// A datagram of each flow in three pieces, the last first; every fourth to a
/// port that is closed.
fn datagrams_in_pieces(flows: u16) -> Vec<Vec<u8>> {
    let pieces = |n: u16| {
        let port: u16 = if n % 4 == 3 { 54 } else { 53 };
        let head = [1000 + n, port, 64, 0].map(u16::to_be_bytes).concat();
        let datagram = [&head[..], &[n as u8; 56]].concat();
        // Many addresses, so that pieces meet at either worker.
        let (src, dst) = (ip(&format!("10.0.{}.1", n % 16)), ip("10.1.0.1"));
        [(48usize, 64usize), (0, 24), (24, 48)].map(|(start, stop)| {
            let data = datagram[start..stop].to_vec();
            Packet::new(src, dst, 17, data).fragment(n.into(), start as u16, stop < 64).frame(mac(1), mac(2))
        })
    };
    (0..flows).flat_map(pieces).collect()
}

#[test]
fn d27_pieces_follow_their_first_from_worker_to_worker() {
    let (_guard, eal) = alone();
    // The last one's first never comes.
    let mut frames = datagrams_in_pieces(41);
    frames.truncate(121);
    let Run { datapath, pool, output, _input } = run(&eal, 2, &frames, snapshot(1, true));
    wait_until("all are settled but the one that waits", || {
        sum(&datapath, |s| s.transmitted.get()) + drops(&datapath, DropReason::OutboundDenied) == 120
    });
    assert_eq!(drops(&datapath, DropReason::OutboundDenied), 30);
    assert!(sum(&datapath, |s| s.handed_over.get()) > 30);
    wait_until("connections are told", || sum(&datapath, |s| s.connections.get()) == 30);
    datapath.stop();
    assert_eq!(pool.in_use(), 0, "what waits is freed with its worker");
    let mut packets = std::collections::HashMap::new();
    for frame in Capture::read(&output.0) {
        let offset = u16::from_be_bytes([frame[20], frame[21]]) & 0x1fff;
        let seen: &mut Vec<u16> = packets.entry((frame[18], frame[19])).or_default();
        seen.push(offset * 8);
    }
    assert_eq!(packets.len(), 30);
    for seen in packets.values_mut() {
        assert_eq!(seen[0], 0, "the first in front");
        seen.sort_unstable();
        assert_eq!(*seen, [0, 24, 48]);
    }
}

#[test]
fn without_a_policy_nothing_passes_and_a_push_opens() {
    let (_guard, eal) = alone();
    let Run { mut datapath, pool, .. } = run(&eal, 1, &requests(10), Snapshot::closed());
    wait_until("all are dropped", || drops(&datapath, DropReason::NoPolicy) == 30);
    assert_eq!(datapath.enforced(), 0);
    datapath.publish(snapshot(7, true));
    datapath.wait_enforced(Duration::from_secs(5)).unwrap();
    assert_eq!(datapath.enforced(), 7);
    wait_until("the worker says so", || sum(&datapath, |s| s.generation.get()) == 7);
    // Other rules under the same number, or a lower one, would not be other rules to a connection.
    for generation in [7, 6] {
        let again = std::panic::AssertUnwindSafe(|| datapath.publish(snapshot(generation, true)));
        assert!(std::panic::catch_unwind(again).is_err(), "{generation}");
    }
    datapath.stop();
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn publication_under_traffic_loses_nothing() {
    let (_guard, eal) = alone();
    let pool = pool(&eal);
    // net_null gives frames of zeros without end: all are malformed, and all must be counted.
    let mut datapath = Datapath::start(&eal, &pool, &config(2), snapshot(1, true)).unwrap();
    for index in 0..2 {
        plug(&mut datapath, &eal, PortIndex(index), &format!("{},size=60", unique("net_null_w")));
    }
    for generation in 2..200 {
        datapath.publish(snapshot(generation, generation % 2 == 0));
        datapath.wait_enforced(Duration::from_secs(5)).unwrap();
        assert_eq!(datapath.enforced(), generation);
    }
    let (received, dropped) = stopped(datapath);
    assert!(received > 10_000, "{received}");
    assert_eq!(received, dropped);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn full_rings_drop_and_count_and_hold_nobody_up() {
    let (_guard, eal) = alone();
    // Both workers share a core and never sleep: while one reads the whole
    // capture, the other takes nothing off the small rings between them.
    let small = DatapathConfig { cores: vec![0, 0], idle: Idle::Spin, ring_size: 31, ..config(2) };
    let frames = requests(2000);
    let Run { datapath, pool, .. } = run_as(&eal, &small, &frames, snapshot(1, true));
    let settled = |d: &Datapath| {
        let dropped: u64 = d.workers().iter().map(|w| w.counters.drops.total()).sum();
        sum(d, |s| s.transmitted.get()) + dropped
    };
    wait_until("every packet is sent or counted as dropped", || settled(&datapath) == 6000);
    assert!(drops(&datapath, DropReason::HandOverFull) > 0);
    assert!(drops(&datapath, DropReason::TransmitFull) > 0);
    assert_eq!(sum(&datapath, |s| s.handed_over.get()), sum(&datapath, |s| s.taken_over.get()));
    datapath.stop();
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn what_cannot_start_says_why() {
    let (_guard, eal) = alone();
    let pool = pool(&eal);
    let start = |cores: Vec<usize>| {
        let config = DatapathConfig { cores, ..config(1) };
        Datapath::start(&eal, &pool, &config, Snapshot::closed()).err()
    };
    assert!(matches!(start(vec![]), Some(StartError::Workers(0))));
    assert!(matches!(start(vec![0; 65]), Some(StartError::Workers(65))));
    let refused = start(vec![1000]).unwrap();
    assert!(refused.to_string().contains("CPU 1000"), "{refused}");
}
