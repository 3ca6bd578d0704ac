//! What it takes to hand packets to another thread and take them over: bursts of 32
//! through rings. `cargo bench -p dpdk`; with two threads it needs CPUs 0 and 1.

#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use core_affinity::{CoreId, set_for_current};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dpdk::{BURST, Burst, Consumer, Eal, Mbuf, Mempool, MempoolConfig, Producer, ring};

/// Bursts on their way.
const UNDER_WAY: usize = 8;

/// One thread does both: what the calls take. An iteration hands 32 packets over.
fn alone(c: &mut Criterion, eal: &Eal, pool: &Mempool) {
    let (mut to, mut from) = ring(eal, "alone", 4096).unwrap();
    let mut burst = full(pool);
    let mut group = c.benchmark_group("hand-over");
    group.throughput(Throughput::Elements(BURST as u64));
    group.bench_function("one thread", |b| {
        b.iter(|| {
            to.enqueue(&mut burst);
            from.dequeue(&mut burst)
        });
    });
    group.finish();
}

/// What each core does with a packet that it has got.
type Work = fn(&mut Burst);

/// It passes it on: nothing but the rings travels.
fn nothing(_: &mut Burst) {}

/// What a worker cannot do without: it asks for what it will read, reads the headers, and
/// notes something beside them. Two lines travel with each packet, of which one is written.
fn read_and_note(burst: &mut Burst) {
    burst.iter().for_each(Mbuf::prefetch_unread);
    for packet in burst.iter_mut() {
        let first = packet.data().first().copied().unwrap_or(0);
        packet.set_port(u16::from(first) + 1);
    }
}

/// Packets go to another core and come back by a second ring: what both cores take
/// together, and the lines that travel. An iteration is 32 packets, 64 hand-overs.
fn across(c: &mut Criterion, eal: &Eal, pool: &Mempool, name: &str, work: Work) {
    let (mut there, mut arrivals) = ring(eal, &format!("there {name}"), 4096).unwrap();
    let (mut departures, mut back) = ring(eal, &format!("back {name}"), 4096).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            set_for_current(CoreId { id: 1 });
            let _registered = eal.register_thread().unwrap();
            reflect(&mut arrivals, &mut departures, work, &stop);
        });
        set_for_current(CoreId { id: 0 });
        for _ in 0..UNDER_WAY {
            there.enqueue(&mut full(pool));
        }
        let mut group = c.benchmark_group("hand-over");
        group.throughput(Throughput::Elements(2 * BURST as u64));
        group.bench_function(format!("to another core and back, {name}"), |b| {
            b.iter_custom(|bursts| {
                let start = Instant::now();
                (0..bursts).for_each(|_| send_on(&mut back, &mut there, work));
                start.elapsed()
            });
        });
        group.finish();
        stop.store(true, Ordering::Relaxed);
    });
}

/// Sends 32 packets of those that came back.
fn send_on(back: &mut Consumer, there: &mut Producer, work: Work) {
    let mut burst = Burst::new();
    while !burst.is_full() {
        if back.dequeue(&mut burst) == 0 {
            spin_loop();
        }
    }
    work(&mut burst);
    there.enqueue(&mut burst);
}

/// The other worker.
fn reflect(arrivals: &mut Consumer, departures: &mut Producer, work: Work, stop: &AtomicBool) {
    let mut burst = Burst::new();
    while !stop.load(Ordering::Relaxed) {
        if arrivals.dequeue(&mut burst) == 0 {
            spin_loop();
        }
        work(&mut burst);
        departures.enqueue(&mut burst);
    }
}

fn full(pool: &Mempool) -> Burst {
    let mut burst = Burst::new();
    while !burst.is_full() {
        let packet = Mbuf::from_bytes(pool, &[0; 60]).expect("a pool for all of them");
        burst.push(packet).expect("it is not full");
    }
    burst
}

fn benches(c: &mut Criterion) {
    let arguments = ["-l", "0", "--no-huge", "--no-shconf", "--no-pci", "-m", "64", "--log-level", "error"];
    let eal = Eal::init("ring", &arguments.map(String::from)).unwrap();
    let config = MempoolConfig { mbufs: 1023, cache: 32, ..MempoolConfig::default() };
    let pool = Mempool::new(&eal, "ring", &config).unwrap();
    alone(c, &eal, &pool);
    across(c, &eal, &pool, "passed on", nothing);
    across(c, &eal, &pool, "read", read_and_note);
}

criterion_group!(all, benches);
criterion_main!(all);
