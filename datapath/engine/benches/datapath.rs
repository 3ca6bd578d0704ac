//! What the steps of a packet's way take: per packet, on one core, of packets
//! and tables in memory. `cargo bench -p engine --features build`.

#![allow(missing_docs, reason = "criterion's macros make public functions")]

mod support;

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use engine::addr::Addr;
use engine::conntrack::{Entry, Table, TableConfig, Timeouts};
use engine::flow::{FlowHash, FlowHasher, FlowKey, Side};
use engine::ids::VpcIndex;
use engine::packet::plain::read_ipv4;
use engine::packet::{Body, Frame, Ip, Transport, Udp, parse};
use engine::pipeline::BURST;
use engine::time::{Tick, Ticks};
use support::{NOW, Rules, Switch, UPLINK, beginnings, replies, requests};

fn parsing(c: &mut Criterion) {
    let frames = requests(1024);
    let mut group = c.benchmark_group("parse");
    group.throughput(Throughput::Elements(frames.len() as u64));
    group.bench_function("plain", |b| {
        b.iter(|| frames.iter().filter(|frame| read_ipv4(black_box(Frame::whole(frame))).is_some()).count());
    });
    group.bench_function("any", |b| {
        b.iter(|| frames.iter().filter(|frame| parse(black_box(Frame::whole(frame))).is_ok()).count());
    });
    let hasher = FlowHasher::new([1, 2, 3, 4]);
    let keys: Vec<FlowKey> = frames.iter().map(|frame| key_of(frame)).collect();
    group.bench_function("hash", |b| {
        b.iter(|| keys.iter().fold(0, |sum, key| sum ^ hasher.hash(black_box(key)).0))
    });
    group.finish();
}

fn key_of(frame: &[u8]) -> FlowKey {
    let Ok(packet) = parse(Frame::whole(frame)) else { panic!("a frame of the bench") };
    let Body::Ip(ip) = packet.body else { panic!("an IP packet") };
    FlowKey::of(VpcIndex(0), &ip).expect("a flow").0
}

fn flow(n: u32) -> FlowKey {
    let client = (Addr::v4(0x0a00_0000 + (n >> 16)), n as u16);
    FlowKey::new(VpcIndex(0), 17, client, (Addr::v4(0x0a01_0001), 53)).0
}

const DATAGRAM: Ip = Ip {
    src: Addr::v4(0x0a00_0001),
    dst: Addr::v4(0x0a01_0001),
    protocol: 17,
    transport: Transport::Udp(Udp { src_port: 1, dst_port: 53 }),
};

fn entry(key: FlowKey) -> Entry {
    Entry::open(key, Side::Low, &DATAGRAM, NOW, &Timeouts::DEFAULT).expect("UDP opens a connection")
}

fn filled(capacity: usize, share: f64) -> (Table, Vec<(FlowHash, FlowKey)>) {
    let hasher = FlowHasher::new([1, 2, 3, 4]);
    let mut table = Table::new(TableConfig { capacity });
    let count = (capacity as f64 * share) as u32;
    let flows: Vec<_> = (0..count).map(flow).map(|key| (hasher.hash(&key), key)).collect();
    for (hash, key) in &flows {
        table.insert(NOW, *hash, entry(*key)).expect("room");
    }
    (table, flows)
}

fn table(c: &mut Criterion) {
    let mut group = c.benchmark_group("table");
    group.throughput(Throughput::Elements(BURST as u64));
    for (capacity, share) in
        [(1000, 0.5), (100_000, 0.5), (1_000_000, 0.5), (1_000_000, 0.85), (1_000_000, 0.95)]
    {
        let (mut table, flows) = filled(capacity, share);
        let mut at = 0;
        group.bench_function(format!("lookup/{capacity}/{share}"), |b| {
            b.iter(|| {
                at = (at + 7919 * BURST) % (flows.len() - BURST);
                let flows = &flows[at..at + BURST];
                let guesses = table.guess::<BURST>(flows.iter().map(|flow| flow.0));
                let found = |(i, (hash, key)): (usize, &(_, _))| {
                    table.lookup_guessed(NOW, *hash, key, guesses[i]).is_some()
                };
                flows.iter().enumerate().map(found).filter(|found| *found).count()
            });
        });
    }
    // As many as expire: the table stays full.
    let (mut table, _) = filled(1_000_000, 0.999);
    let hasher = FlowHasher::new([1, 2, 3, 4]);
    let (mut n, mut now) = (2_000_000u32, NOW + Ticks::from_secs(31));
    group.bench_function("insert/1000000/full", |b| {
        b.iter(|| {
            for _ in 0..BURST {
                n = n.wrapping_add(1);
                let key = flow(n);
                let entry = Entry::open(key, Side::Low, &DATAGRAM, now, &Timeouts::DEFAULT).expect("UDP");
                let _ = black_box(table.insert(now, hasher.hash(&key), entry));
            }
            now = Tick(now.0 + u32::from(n.is_multiple_of(1 << 14)));
        });
    });
    group.finish();
    let mut group = c.benchmark_group("expire");
    group.sample_size(10);
    group.throughput(Throughput::Elements(85_000));
    group.bench_function("sweep/100000", |b| {
        let late = NOW + Ticks::from_secs(3600);
        b.iter_batched_ref(
            || filled(100_000, 0.85).0,
            |table| table.sweep(late, usize::MAX),
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

fn bursts(c: &mut Criterion) {
    let mut group = c.benchmark_group("burst");
    for (name, rules) in [
        ("established", Rules::Block),
        ("accounted", Rules::Block),
        ("uplinks", Rules::Block),
        ("located", Rules::Block),
        ("untracked", Rules::Everyone),
        ("denied", Rules::Nothing),
        ("strays", Rules::Outbound),
        ("flood", Rules::Block),
    ] {
        let is_flood = name == "flood";
        // Who gets nothing answers nothing, and who floods does not wait for answers.
        let has_replies = name != "strays" && !is_flood;
        for flows in [1024, 131_072] {
            let (there, back) = (if is_flood { beginnings(flows) } else { requests(flows) }, replies(flows));
            // Of a flood three sixteenths, in a table for a quarter.
            let (room, allowance) =
                if is_flood { (flows / 4, flows / 16 * 3) } else { (flows * 2, u32::MAX) };
            let mut switch = Switch::new(room as usize, allowance, rules);
            match name {
                "accounted" => switch.keep_accounts(),
                "uplinks" => switch.move_beyond(2, false),
                "located" => switch.move_beyond(2, true),
                _ => {}
            }
            let port = if is_flood { UPLINK } else { 0 };
            let bursts = if has_replies { 2 } else { 1 };
            group.throughput(Throughput::Elements(bursts * BURST as u64));
            let mut at = 0;
            group.bench_function(format!("{name}/{flows}"), |b| {
                b.iter(|| {
                    at = (at + BURST) % there.len();
                    switch.run(port, &there[at..at + BURST]);
                    if has_replies {
                        switch.run(1, &back[at..at + BURST]);
                    }
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, parsing, table, bursts);
criterion_main!(benches);
