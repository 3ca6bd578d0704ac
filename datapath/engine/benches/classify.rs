//! What classification takes: the rules' verdict on a packet of a new flow, of
//! policies of so many rules and so many members. `single` judges one packet
//! after the other; `batched` asks for what a sub-batch will read and judges it
//! then, as the pipeline does. `cargo bench -p engine --features build --bench classify`.

#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use engine::addr::{Addr, Family, Prefix};
use engine::ids::VpcIndex;
use engine::pipeline::BURST;
use engine::policy::{
    Cidrs, Direction, DirectionRules, Members, Policy, Query, Service, ServiceSet, SourceId, Tables,
};
use engine::verdict::Judgement;

/// Packets that are asked about, in an order without a pattern.
const PACKETS: usize = 1 << 18;

struct Case {
    name: String,
    policy: Policy,
    tables: Tables,
    queries: Vec<Query>,
}

fn query(remote: Addr, port: u16) -> Query {
    let service = |port| Service::new(Family::V4, 17, port);
    let (service, reply_service) = (service(port), Some(service(9)));
    Query { vpc: VpcIndex(0), family: Family::V4, service, reply_service, remote }
}

/// Numbers without a pattern, the same in every run.
fn numbers() -> impl Iterator<Item = u32> {
    let mut state = 1u64;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 33) as u32
    })
}

/// A policy of rules for groups and for blocks.
fn policy(
    groups: impl Iterator<Item = (SourceId, ServiceSet)>,
    blocks: impl Iterator<Item = (SourceId, ServiceSet)>,
) -> Policy {
    let mut inbound = DirectionRules::default();
    groups.for_each(|(source, services)| inbound.permit_group(source, &services));
    blocks.for_each(|(source, services)| inbound.permit_block(source, &services));
    Policy::new(inbound, DirectionRules::default())
}

/// Each rule names a block and a port of its own.
fn blocks(rules: u32) -> Case {
    let port = |n: u32| 1000 + (n % 60_000) as u16;
    // /24 up to 64k rules, /28 beyond.
    let block = |n: u32| {
        let (shift, length) = if rules <= 1 << 16 { (8, 24) } else { (4, 28) };
        (Prefix::new(Addr::v4(0x0a00_0000 | n << shift), length).expect("a prefix"), SourceId(n))
    };
    let tables = Tables {
        cidrs: Arc::new(Cidrs::new((0..rules).map(block)).expect("blocks apart")),
        scopes: vec![vec![VpcIndex(0)]],
        ..Tables::default()
    };
    let queries = numbers().take(PACKETS).map(|n| {
        let rule = n % rules;
        query(Addr(block(rule).0.addr().0 + 1), port(rule))
    });
    Case {
        name: format!("{rules} rules"),
        policy: policy(
            std::iter::empty(),
            (0..rules).map(|n| (SourceId(n), ServiceSet::ports(17, port(n), port(n)))),
        ),
        queries: queries.collect(),
        tables,
    }
}

/// Ten groups of rules, five hundred sets of two groups, so many members.
fn members(members: u32) -> Case {
    let groups: Vec<Arc<[SourceId]>> =
        (0..500).map(|n| Arc::from([SourceId(n % 10), SourceId(10 + n)])).collect();
    let addr = |n: u32| Addr::v4(0xac10_0000 + n);
    let entry = |n: u32| ((VpcIndex(0), addr(n)), Some(groups[n as usize % groups.len()].clone()));
    Case {
        name: format!("{members} members"),
        policy: policy(
            (0..10).map(|n| (SourceId(n), ServiceSet::ports(17, 1000, 1000 + n as u16))),
            std::iter::empty(),
        ),
        tables: Tables {
            members: Members::default().with_changes((0..members).map(entry)),
            scopes: vec![vec![VpcIndex(0)]],
            ..Tables::default()
        },
        queries: numbers().take(PACKETS).map(|n| query(addr(n % members), 1000)).collect(),
    }
}

/// The most that a packet can ask: 16 groups, 64 blocks, rules of several ranges
/// for each of these sources, and none that fits.
fn worst() -> Case {
    let remote = Addr::v4(0x0a00_0001);
    let (groups, rest): (Arc<[SourceId]>, _) = ((0..16).map(SourceId).collect(), 16..80u32);
    // IPv4 has 32 lengths: two sources each.
    let block = |n: u32| (Prefix::new(remote, ((n - 16) / 2 + 1) as u8).expect("a prefix"), SourceId(n));
    let services = |n: u32| {
        let ports =
            (0..12).map(|i| ServiceSet::ports(17, 2000 + 100 * i + n as u16, 2000 + 100 * i + n as u16));
        ServiceSet::union_of(&ports.collect::<Vec<_>>())
    };
    Case {
        name: "16 groups and 64 blocks".to_string(),
        policy: policy(
            (0..16).map(|n| (SourceId(n), services(n))),
            rest.clone().map(|n| (SourceId(n), services(n))),
        ),
        tables: Tables {
            members: Members::default().with_changes([((VpcIndex(0), remote), Some(groups))]),
            cidrs: Arc::new(Cidrs::new(rest.map(block)).expect("64 blocks")),
            scopes: vec![vec![VpcIndex(0)]],
            ..Tables::default()
        },
        queries: numbers().take(PACKETS).map(|n| query(remote, 10_000 + (n % 1000) as u16)).collect(),
    }
}

fn classify(c: &mut Criterion) {
    let mut group = c.benchmark_group("classify");
    group.throughput(Throughput::Elements(BURST as u64));
    let cases = [10, 1000, 10_000, 100_000].map(blocks);
    for case in cases.into_iter().chain([100_000, 1_000_000].map(members)).chain([worst()]) {
        let Case { name, policy, tables, queries } = &case;
        let mut bursts = queries.chunks_exact(BURST).cycle();
        group.bench_function(format!("single/{name}"), |b| {
            b.iter(|| {
                let burst = bursts.next().expect("endless");
                let denied = |query: &&Query| {
                    policy.judge(tables, Direction::Inbound, black_box(query)) == Judgement::Denied
                };
                burst.iter().filter(denied).count()
            });
        });
        group.bench_function(format!("batched/{name}"), |b| {
            b.iter(|| {
                let burst = bursts.next().expect("endless");
                let mut probes = [const { None }; BURST];
                for (probe, query) in probes.iter_mut().zip(burst) {
                    *probe = policy.judge_or_probe(tables, Direction::Inbound, query).err();
                }
                let denied = |(query, probe): &(&Query, _)| {
                    let Some(probe) = *probe else { return true };
                    policy.judge_probed(tables, Direction::Inbound, black_box(query), probe)
                        == Judgement::Denied
                };
                burst.iter().zip(probes).filter(denied).count()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, classify);
criterion_main!(benches);
