//! The switch alone, under what it must endure: adversaries, a table that fills, changes of
//! policy; and on two cores.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::changes::changes;
use super::rules::{Third, document};
use super::subjects::Setup;
use super::traffic::{Counts, MARKS, Phase, Totals};
use super::{Bench, Dealing, Depth, Figure, Kind, Load, Stream, Traffic, measure};

/// A line of a table, with a failure if it shows one.
#[derive(Clone, Debug)]
pub struct Line {
    /// What was done.
    pub name: String,
    /// Figures, each with its name and how many digits it has behind the point.
    pub figures: Vec<(&'static str, f64, usize)>,
    /// What should not have been.
    pub failure: Option<String>,
}

/// What was found, by table.
#[derive(Clone, Debug, Default)]
pub struct Strain {
    /// Each with its title.
    pub tables: Vec<(&'static str, Vec<Line>)>,
}

/// Attacks, each with how many frames it has.
const ATTACKS: [(&str, u64, Third); 6] = [
    ("scan", 1_000_000, Third::Interface { in_many_groups: false }),
    ("synflood", 2_000_000, Third::Uplink),
    ("fragments", 1_000_000, Third::Uplink),
    ("malformed", 100_000, Third::Interface { in_many_groups: false }),
    ("crowd", 1_000_000, Third::Interface { in_many_groups: true }),
    ("churn", 2_000_000, Third::Uplink),
];

/// Room for connections under attack, and while the table fills.
pub(super) const ROOM: usize = 1_000_000;

/// What flow logs have in them unless somebody wants something else.
const FIELDS: &str = "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes \
                      start end action log-status";

/// What goes on beside all that is done.
pub(super) const NEIGHBOURS: Traffic = Traffic { kind: Kind::Established, flows: 100_000, rules: 10 };

impl Strain {
    /// Puts the switch to all of it.
    pub fn measure(bench: &Bench, depth: Depth, tell: &impl Fn(&str)) -> Strain {
        let time = match depth {
            Depth::Quick => Duration::from_millis(300),
            Depth::Full => Duration::from_secs(2),
        };
        let attempt = |name: &str, run: &dyn Fn() -> io::Result<Vec<Line>>| {
            tell(&format!("sgswitch alone: {name}"));
            run().unwrap_or_else(|error| {
                let failure = Some(error.to_string());
                vec![Line { name: name.to_string(), figures: vec![], failure }]
            })
        };
        let attacks = ATTACKS.into_iter().filter(|(kind, ..)| depth == Depth::Full || *kind == "synflood");
        let adversaries = attacks
            .flat_map(|(kind, frames, third)| attempt(kind, &|| attack(bench, kind, frames, third, time)));
        let mut tables = vec![("Adversaries", adversaries.collect())];
        if depth == Depth::Full {
            tables.push(("A table that fills with new flows", attempt("filling", &|| fill(bench))));
        }
        tables.push(("Changes under load", attempt("changes", &|| changes(bench, time))));
        tables.push(("Who looks", attempt("who looks", &|| watched(bench, depth, time))));
        tables.push(("Two workers", attempt("two workers", &|| workers(bench, depth, time))));
        Strain { tables }
    }

    /// What should not have been.
    pub fn failures(&self) -> impl Iterator<Item = String> {
        let lines = self.tables.iter().flat_map(|(_, lines)| lines);
        lines.filter_map(|line| Some(format!("{}: {}", line.name, line.failure.as_ref()?)))
    }
}

/// What neighbours lost, as a failure.
pub(super) fn lost(totals: &Totals, when: &str) -> Option<String> {
    let (lost, sent) = (totals.lost(), totals.honest());
    (lost > 0).then(|| format!("{lost} of {sent} packets of established connections were lost {when}"))
}

/// Has the neighbours' clients open all their connections, and then both ends use them: a
/// reply that comes before its request is denied, and would count as under way for ever.
pub(super) fn establish(counts: &Counts) -> io::Result<()> {
    counts.warm(0b001, NEIGHBOURS.flows, 1)?;
    counts.warm(0b011, 2 * NEIGHBOURS.flows, 2)
}

/// An attack beside neighbours whose connections are established, and are to stay.
fn attack(
    bench: &Bench,
    kind: &'static str,
    frames: u64,
    third: Third,
    time: Duration,
) -> io::Result<Vec<Line>> {
    let mut load = NEIGHBOURS.load();
    load.streams.push(Stream { kind, flows: frames, rules: 1 });
    let setup = Setup {
        cores: vec![bench.core],
        connections: ROOM,
        allowance: ROOM / 4 * 3,
        policy: document(NEIGHBOURS, third),
        flow_logs: None,
    };
    let running = bench.start_switch(&load, &setup)?;
    let counts = &running.counts;
    establish(counts)?;
    let before = counts.phase(0b011, time)?;
    // Until whatever it can use up is used up.
    counts.warm(0b100, frames, 1)?;
    let alone = counts.phase(0b100, time)?;
    let beside = counts.phase(0b111, time)?;
    let after = counts.phase(0b011, time)?;
    let passed = (alone.totals.stray + beside.totals.stray) as f64
        / (alone.totals.sent[2] + beside.totals.sent[2]) as f64;
    let failure = lost(&beside.totals, "beside it").or_else(|| lost(&after.totals, "after it"));
    Ok(vec![Line {
        name: kind.to_string(),
        figures: vec![
            ("ns per packet of it", alone.per_packet(), 0),
            ("neighbours', ns", before.per_packet(), 0),
            ("both at once", beside.per_packet(), 0),
            ("neighbours' after it", after.per_packet(), 0),
            ("of it passed, %", passed * 100.0, 1),
        ],
        failure,
    }])
}

/// All-new traffic into an empty table, and what a flow costs when it is half full, and fuller.
fn fill(bench: &Bench) -> io::Result<Vec<Line>> {
    let traffic = Traffic { kind: Kind::New, flows: ROOM as u64 * 97 / 100, rules: 10 };
    let setup = Setup {
        cores: vec![bench.core],
        connections: ROOM,
        allowance: ROOM,
        policy: document(traffic, Third::Nobody),
        flow_logs: None,
    };
    let running = bench.start_switch(&traffic.load(), &setup)?;
    let phase = running.counts.once(0b01)?;
    let stretches = running.counts.stretches()?;
    let flows = traffic.flows as f64 / (MARKS - 1) as f64;
    let at = |percent: usize| {
        // Five of them around that level.
        let middle = ROOM * percent / 100 * (MARKS - 1) / traffic.flows as usize;
        let around = &stretches[middle.saturating_sub(2)..(middle + 3).min(MARKS - 1)];
        let known: Vec<f64> = around.iter().copied().filter(|nanoseconds| *nanoseconds > 0.0).collect();
        known.iter().sum::<f64>() / known.len() as f64 / flows
    };
    let levels = [("at 5 %", 5), ("at 50 %", 50), ("at 85 %", 85), ("at 95 %", 95)];
    let mut figures: Vec<_> = levels.map(|(name, percent)| (name, at(percent), 0)).into();
    figures.push(("all, ns per flow", phase.per_packet(), 0));
    Ok(vec![Line { name: "new flows".to_string(), figures, failure: lost(&phase.totals, "") }])
}

/// Established packets for so long, while something else is done until it is told to stop,
/// and tells how often.
pub(super) fn beside(
    counts: &Counts,
    time: Duration,
    work: impl FnOnce(&AtomicBool) -> io::Result<u64> + Send,
) -> io::Result<(u64, Phase)> {
    let is_over = AtomicBool::new(false);
    let (done, during) = std::thread::scope(|scope| {
        let worker = scope.spawn(|| work(&is_over));
        let during = counts.phase(0b011, time);
        is_over.store(true, Ordering::Relaxed);
        (worker.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked"))), during)
    });
    Ok((done?, during?))
}

/// What packets take while somebody asks again and again, and while flow logs are written,
/// beside what they take without, in turn.
fn watched(bench: &Bench, depth: Depth, time: Duration) -> io::Result<Vec<Line>> {
    let rounds = if depth == Depth::Full { 5 } else { 3 };
    // For `flows top`, which measures for a second.
    let time = time.max(Duration::from_secs(1));
    let start = |traffic: Traffic, flow_logs| {
        let policy = document(traffic, Third::Nobody);
        let cores = vec![bench.core];
        let setup = Setup { cores, connections: ROOM, allowance: ROOM, policy, flow_logs };
        bench.start_switch(&traffic.load(), &setup)
    };
    let line = |name: &str, mut without: Vec<f64>, mut with: Vec<f64>, asked, failure| {
        let [without, with] = [&mut without, &mut with].map(|all| {
            all.sort_unstable_by(f64::total_cmp);
            all[all.len() / 2]
        });
        let mut figures = vec![
            ("ns per packet without", without, 1),
            ("with", with, 1),
            ("times as much", with / without, 2),
        ];
        figures.extend(asked);
        Line { name: name.to_string(), figures, failure }
    };
    let mut lines = vec![];
    let running = start(NEIGHBOURS, None)?;
    establish(&running.counts)?;
    let looks = [
        ("show", "/v1/interfaces"),
        ("counters", "/v1/counters"),
        ("scrapes", "/metrics"),
        ("flows top", "/v1/flows/top?seconds=1"),
    ];
    for (name, path) in looks {
        let (mut without, mut with, mut asked, mut seconds) = (vec![], vec![], 0, 0.0);
        let mut failure = None;
        for _ in 0..rounds {
            without.push(running.counts.phase(0b011, time)?.per_packet());
            let (count, phase) = beside(&running.counts, time, |is_over| {
                let mut count = 0;
                while !is_over.load(Ordering::Relaxed) {
                    bench.get(path)?;
                    count += 1;
                }
                Ok(count)
            })?;
            with.push(phase.per_packet());
            failure = failure.or_else(|| lost(&phase.totals, "while somebody asked"));
            (asked, seconds) = (asked + count, seconds + phase.nanoseconds / 1e9);
        }
        let asked = ("asked per second", asked as f64 / seconds, 1);
        lines.push(line(name, without, with, Some(asked), failure));
    }
    drop(running);
    let new = Traffic { kind: Kind::New, flows: ROOM as u64 / 2, rules: 10 };
    for (name, traffic) in [("flow logs, established", NEIGHBOURS), ("flow logs, new flows", new)] {
        let (mut taken, mut failure) = ([vec![], vec![]], None);
        for _ in 0..rounds {
            for (flow_logs, taken) in [None, Some(FIELDS)].into_iter().zip(&mut taken) {
                let running = start(traffic, flow_logs)?;
                let Figure { nanoseconds, sent, received } = measure(&running.counts, traffic, time)?;
                taken.push(nanoseconds);
                failure = failure.or_else(|| {
                    (received < sent).then(|| format!("{} of {sent} packets were lost", sent - received))
                });
            }
        }
        let [without, with] = taken;
        lines.push(line(name, without, with, None, failure));
    }
    Ok(lines)
}

/// One worker, and two: with a card that delivers to the owners of flows, with one that
/// spreads without regard, and with a port of one queue.
fn workers(bench: &Bench, depth: Depth, time: Duration) -> io::Result<Vec<Line>> {
    let ways: [(&str, &[usize], Dealing); 5] = [
        ("one, on CPU 0", &[0], Dealing::One),
        ("one, on CPU 1", &[1], Dealing::One),
        ("two, delivered to owners (RSS)", &[0, 1], Dealing::Rss),
        ("two, delivered anywhere: half changes hands", &[0, 1], Dealing::Any),
        ("two, one queue for each port: half changes hands", &[0, 1], Dealing::One),
    ];
    let rounds = if depth == Depth::Full { 3 } else { 1 };
    // Of each round: time by the clock, the share that changed hands, time of workers that had packets.
    let mut figures: [Vec<[f64; 3]>; 5] = Default::default();
    let mut problem = [const { None }; 5];
    for _ in 0..rounds {
        for (at, (_, cores, dealing)) in ways.into_iter().enumerate() {
            // Beyond what both can do, rings between workers overflow.
            let has_window = cores.len() > 1 && dealing != Dealing::Rss;
            let load = Load { dealing, has_window, ..NEIGHBOURS.load() };
            let policy = document(NEIGHBOURS, Third::Nobody);
            let cores = cores.to_vec();
            let setup = Setup { cores, connections: ROOM, allowance: ROOM, policy, flow_logs: None };
            let running = bench.start_switch(&load, &setup)?;
            let counts = &running.counts;
            counts.deal()?;
            establish(counts)?;
            let handed_over = || bench.metric("sgswitch_handed_over_packets_total{");
            let busy = || bench.metric("sgswitch_worker_cycles_total{state=\"busy\"");
            let before = [handed_over()?, busy()?];
            let phase = counts.phase(0b11, time)?;
            let [handed, busy] = [handed_over()? - before[0], busy()? - before[1]];
            let sent = phase.totals.honest() as f64;
            let busy = busy as f64 * 1e9 / counts.tsc_hz()? as f64;
            figures[at].push([phase.per_packet(), handed as f64 / sent, busy / sent]);
            problem[at] = problem[at].take().or_else(|| lost(&phase.totals, ""));
            if dealing == Dealing::Rss && handed > 0 {
                problem[at] = Some(format!("{handed} packets changed hands"));
            }
        }
    }
    let median = |at: usize, what: usize| {
        let mut sorted: Vec<f64> = figures[at].iter().map(|figure| figure[what]).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    };
    let one = f64::midpoint(median(0, 0), median(1, 0));
    let lines = ways.into_iter().enumerate().zip(problem).map(|((at, (name, ..)), failure)| {
        let nanoseconds = median(at, 0);
        let (handed, busy) = (median(at, 1), median(at, 2));
        let mut figures = vec![
            ("ns per packet, all workers together", nanoseconds, 1),
            ("times one", one / nanoseconds, 2),
            ("changed hands, %", handed * 100.0, 1),
            ("ns of busy workers", busy, 1),
        ];
        // By the clock it would be more: a window that is full leaves workers waiting.
        if handed > 0.1 {
            figures.push(("ns more for each of those", (busy - median(2, 2)) / handed, 0));
        }
        Line { name: name.to_string(), figures, failure }
    });
    Ok(lines.collect())
}
