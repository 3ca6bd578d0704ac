//! Ports over `net_null`, which gives as many frames as asked for and takes all.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use dpdk::{Burst, Error, Mbuf, Mempool, MempoolConfig, Port, PortConfig, ring};
use support::{burst, eal, frame, pool, unique};

fn attach() -> Port {
    Port::attach(&eal(), &format!("{},size=60", unique("net_null"))).unwrap()
}

fn queues(n: u16) -> PortConfig {
    PortConfig { rx_queues: n, tx_queues: n, ..PortConfig::default() }
}

#[test]
fn what_was_received_is_sent_or_freed_once() {
    let pool = pool(2048);
    let port = attach();
    let (mut rx, mut tx) = port.start(&queues(2), &pool).unwrap();
    assert_eq!((rx.len(), tx.len()), (2, 2));
    let mut packets = Burst::new();
    for (rx, tx) in rx.iter_mut().zip(&mut tx) {
        assert_eq!(rx.receive(&mut packets), 32);
        assert!(packets.iter().all(|m| m.data().len() == 60 && m.port() == port.id()));
        assert_eq!(rx.receive(&mut packets), 0, "a full burst takes no more");
        assert_eq!(pool.in_use(), 32);
        assert_eq!(tx.send(&mut packets), 32);
        assert_eq!((pool.in_use(), packets.len()), (0, 0));
        assert_eq!(tx.send(&mut packets), 0);
    }
    assert_eq!(rx[0].receive(&mut packets), 32);
    let kept = packets.pop().unwrap();
    drop(packets);
    assert_eq!(pool.in_use(), 1);
    let mut ours = burst(&pool, 0..5);
    ours.push(kept).unwrap();
    assert_eq!(tx[1].send(&mut ours), 6);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_port_keeps_the_key_and_the_table_by_which_it_is_to_spread() {
    let pool = pool(2048);
    let port = attach();
    let rss = port.info().unwrap().rss;
    assert_eq!((rss.is_offered(), rss.table_entries), (true, 128));
    let _queues = port.start(&queues(4), &pool).unwrap();
    let table: Vec<u16> = (0..128).map(|bucket| bucket / 32).collect();
    port.spread([0x6d, 0x5a], &table).unwrap();
    port.spread([0x12, 0x34], &table[..64]).unwrap();
    for refused in [&table[..96], &[], &[0; 256]] {
        let error = port.spread([0x6d, 0x5a], refused).unwrap_err();
        assert!(
            matches!(&error, Error::Unsupported { what, .. } if what.contains("table of 128")),
            "{error}"
        );
    }
}

#[test]
fn a_bond_says_by_which_member_it_sends_if_that_is_one() {
    let attached = |arguments: &str| Port::attach(&eal(), arguments).unwrap();
    let bond = |mode: u8, members: [&Port; 2], more: &str| {
        let [one, other] = members.map(Port::name);
        let name = unique("net_bonding");
        attached(&format!("{name},mode={mode},slave={one},slave={other}{more}"))
    };
    let members = [attach(), attach(), attach(), attach()];
    let [a, b, c, d] = &members;
    let pool = pool(2048);
    let backup = bond(1, [a, b], &format!(",primary={}", b.name()));
    let _queues = backup.start(&queues(1), &pool).unwrap();
    assert_eq!(backup.active_member(), Some(b.id()));
    let all = bond(0, [c, d], "");
    let _all = all.start(&queues(1), &pool).unwrap();
    assert_eq!(all.active_member(), None, "it sends by each in turn");
    assert_eq!(a.active_member(), None, "it is no bond");
}

#[test]
fn workers_with_a_queue_each_hand_packets_to_each_other() {
    const ROUNDS: usize = 500;
    let pool = pool(2048);
    let port = attach();
    let (rx, tx) = port.start(&queues(2), &pool).unwrap();
    let (to_second, from_first) = ring(&eal(), &unique("ring"), 64).unwrap();
    let (to_first, from_second) = ring(&eal(), &unique("ring"), 64).unwrap();
    let workers = rx.into_iter().zip(tx).zip([(to_second, from_second), (to_first, from_first)]);
    let sent: usize = thread::scope(|scope| {
        let run = |((mut rx, mut tx), (mut to, mut from)): ((dpdk::RxQueue, dpdk::TxQueue), _)| {
            let from: &mut dpdk::Consumer = &mut from;
            let to: &mut dpdk::Producer = &mut to;
            let _registered = eal().register_thread().unwrap();
            let (mut received, mut handed) = (Burst::new(), Burst::new());
            (0..ROUNDS)
                .map(|_| {
                    rx.receive(&mut received);
                    to.enqueue(&mut received);
                    received.clear();
                    from.dequeue(&mut handed);
                    tx.send(&mut handed)
                })
                .sum()
        };
        let workers: Vec<_> = workers.map(|worker| scope.spawn(move || run(worker))).collect();
        workers.into_iter().map(|w| -> usize { w.join().unwrap() }).sum()
    });
    let statistics = port.statistics().unwrap();
    assert_eq!(statistics.rx_packets, 2 * 32 * ROUNDS as u64);
    assert_eq!(statistics.tx_packets, sent as u64);
    assert_eq!(pool.in_use(), 0, "what was still in the rings went with them");
}

#[test]
fn a_started_port_keeps_its_pool() {
    let eal = eal();
    let name = unique("kept");
    let config = MempoolConfig { mbufs: 255, cache: 0, ..MempoolConfig::default() };
    let pool = Mempool::new(&eal, &name, &config).unwrap();
    let port = attach();
    let (mut rx, tx) = port.start(&queues(1), &pool).unwrap();
    drop((pool, port));
    let mut packets = Burst::new();
    assert_eq!(rx[0].receive(&mut packets), 32, "the queue keeps the port, which keeps the pool");
    assert!(Mempool::new(&eal, &name, &config).is_err(), "its name is taken");
    drop((rx, tx));
    assert_eq!(packets.iter().filter(|m| m.data().len() == 60).count(), 32, "packets keep it too");
}

#[test]
fn segmented_packets_stay_behind_those_that_can_be_sent() {
    let (pool, small) = (pool(2048), pool(64));
    let (_rx, mut tx) = attach().start(&queues(1), &pool).unwrap();
    let long = Mbuf::from_bytes(&pool, &[9; 100]).unwrap();
    let mut mixed = Burst::new();
    for n in 0..6 {
        let mbuf = if n % 3 == 1 { long.copy(&small) } else { Mbuf::from_bytes(&pool, &frame(n)) };
        mixed.push(mbuf.unwrap()).unwrap();
    }
    // net_null does not say that it can send them.
    assert_eq!(tx[0].send(&mut mixed), 4);
    assert_eq!(mixed.iter().map(|m| (m.segments(), m.total_len())).collect::<Vec<_>>(), [(2, 100), (2, 100)]);
    assert_eq!(tx[0].send(&mut mixed), 0);
    drop((mixed, long));
    assert_eq!((pool.in_use(), small.in_use()), (0, 0));
}

#[test]
fn a_port_says_what_it_is() {
    let port = attach();
    let info = port.info().unwrap();
    assert_eq!(info.driver, "net_null");
    assert!(info.rss.is_offered());
    assert!(info.rss.table_entries > 0);
    assert!(info.max_rx_queues >= 2 && info.max_tx_queues >= 2);
    assert!(info.min_mtu < 1500 && info.max_mtu > 1500);
    assert!(port.link().is_some());
    assert!(Port::all(&eal()).iter().any(|p| p.name() == port.name() && p.id() == port.id()));
}

#[test]
fn a_port_that_was_refused_can_be_started_otherwise() {
    let pool = pool(2048);
    let port = attach();
    let info = port.info().unwrap();
    let refusals = [
        (queues(info.max_rx_queues + 1), "transmit queues at most"),
        (queues(0), "needs a queue"),
        (PortConfig { mtu: Some(info.min_mtu - 1), ..queues(1) }, "has an MTU of 46 to 65535 bytes, not 45"),
        (
            PortConfig { mtu: Some(2027), ..queues(1) },
            "needs mbufs for a whole frame at an MTU of 2027; the pool's hold 2048",
        ),
    ];
    for (config, why) in refusals {
        let refused = port.start(&config, &pool).unwrap_err().to_string();
        assert!(refused.starts_with(&format!("port '{}' ", port.name())), "{refused}");
        assert!(refused.ends_with(why), "{refused}");
    }
    let started = port.start(&PortConfig { mtu: Some(2026), ..queues(1) }, &pool).unwrap();
    assert!(matches!(port.start(&queues(1), &pool), Err(Error::Unsupported { .. })), "it is started");
    drop(started);
}

#[test]
fn a_closed_port_can_be_attached_again() {
    let (eal, pool) = (eal(), pool(2048));
    let name = unique("net_null");
    for _ in 0..3 {
        let port = Port::attach(&eal, &name).unwrap();
        let same = Port::by_name(&eal, &name).unwrap();
        let refused = Port::attach(&eal, &name).unwrap_err().to_string();
        assert_eq!(refused, format!("attaching '{name}' failed: it is attached already"));
        let (mut rx, _tx) = same.start(&queues(1), &pool).unwrap();
        drop((port, same));
        assert_eq!(rx[0].receive(&mut Burst::new()), 32, "a queue keeps it open");
        assert!(Port::by_name(&eal, &name).is_ok());
        drop(rx);
        drop(_tx);
        let refused = Port::by_name(&eal, &name).unwrap_err().to_string();
        assert_eq!(refused, format!("there is no DPDK port named '{name}'"));
    }
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_device_that_is_not_there_is_refused() {
    let refused = Port::attach(&eal(), "net_af_packet0,iface=not-there").unwrap_err().to_string();
    assert!(refused.starts_with("attaching 'net_af_packet0,iface=not-there' failed: "), "{refused}");
    assert!(Port::by_name(&eal(), "net_af_packet0").is_err());
    assert!(matches!(Port::attach(&eal(), "a\0b"), Err(Error::ZeroByte(_))));
    assert!(matches!(Port::by_name(&eal(), "a\0b"), Err(Error::ZeroByte(_))));
}

#[test]
fn threads_may_ask_for_one_port_while_it_comes_and_goes() {
    let (eal, pool) = (eal(), pool(2048));
    let name = unique("net_null");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    if let Ok(port) = Port::by_name(&eal, &name) {
                        assert_eq!(port.info().unwrap().driver, "net_null");
                        port.statistics().unwrap();
                    }
                }
            });
        }
        let mut closed = 0;
        while closed < 20 {
            // Another thread's handle may keep it open a little longer.
            if let Ok(port) = Port::attach(&eal, &name) {
                port.start(&queues(1), &pool).unwrap();
                closed += 1;
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(Port::by_name(&eal, &name).is_err());
    assert_eq!(pool.in_use(), 0);
}
