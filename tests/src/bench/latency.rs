//! How long packets take through the switch, beside the floor and the peer: from when one
//! came, whether it was asked for or not, to when it was sent.

use std::io;
use std::time::Duration;

use super::{Bench, Kind, Subject, Traffic, Waits};

/// How busy a program is while its packets are timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// A packet comes by each port every 100 us.
    Idle,
    /// As many come as are four fifths of what it can do, which is measured just before.
    Load,
}

/// What idle ports wait between two packets, on average.
const IDLE: Duration = Duration::from_micros(100);

/// The part of what it can do that a program is given.
const LOAD: f64 = 0.8;

/// How many flows packets are of.
const FLOWS: [u64; 2] = [1000, 100_000];

/// Parts of the packets of which it is told within which time they were sent.
const SHARES: [f64; 2] = [0.5, 0.99];

/// One measurement.
struct Sample {
    flows: u64,
    at: At,
    subject: Subject,
    waits: Waits,
}

/// What was measured.
pub struct Latencies(Vec<Sample>);

/// What there is of each subject: flows, how busy it was, and the part of the packets.
pub fn lines() -> impl Iterator<Item = (u64, At, f64)> {
    let at = |flows| [At::Idle, At::Load].map(|at| SHARES.map(|share| (flows, at, share)));
    FLOWS.into_iter().flat_map(at).flatten()
}

impl Latencies {
    /// Nanoseconds within which that part of the packets was sent: the least, the median and the
    /// greatest of all rounds.
    pub fn spread(&self, flows: u64, at: At, share: f64, subject: Subject) -> [f64; 3] {
        let is_of = |sample: &&Sample| (sample.flows, sample.at, sample.subject) == (flows, at, subject);
        let mut all: Vec<f64> =
            self.0.iter().filter(is_of).map(|sample| sample.waits.within(share)).collect();
        all.sort_unstable_by(f64::total_cmp);
        let nth = |at: usize| all.get(at).copied().unwrap_or(f64::NAN);
        [nth(0), nth(all.len() / 2), nth(all.len().wrapping_sub(1))]
    }
}

/// Measures all subjects in turn, so many times; `tell` hears of each as it begins.
///
/// # Errors
/// If a subject does not start, or lost packets when it was not at its limit.
pub fn measure(bench: &Bench, rounds: usize, tell: impl Fn(&str)) -> io::Result<Latencies> {
    let mut all = vec![];
    for round in 1..=rounds {
        for flows in FLOWS {
            for subject in Subject::ALL {
                tell(&format!("round {round}: {flows} flows: {}", subject.label()));
                for (at, waits) in sample(bench, subject, flows)? {
                    all.push(Sample { flows, at, subject, waits });
                }
            }
        }
    }
    Ok(Latencies(all))
}

/// Of one subject, idle and under load.
fn sample(bench: &Bench, subject: Subject, flows: u64) -> io::Result<[(At, Waits); 2]> {
    let running = bench.start(subject, Traffic { kind: Kind::Established, flows, rules: 10 })?;
    let counts = &running.counts;
    counts.warm(0b01, flows, 1)?;
    counts.warm(0b11, 2 * flows, 2)?;
    let time = Duration::from_secs(1);
    let timed = |nanoseconds: f64| {
        counts.pace(nanoseconds)?;
        let before = counts.waits()?;
        let totals = counts.phase(0b11, time)?.totals;
        match totals.lost() {
            0 => Ok(counts.waits()?.since(&before)),
            lost => Err(io::Error::other(format!("{}: {lost} packets were lost", subject.label()))),
        }
    };
    let idle = timed(IDLE.as_nanos() as f64)?;
    counts.pace(0.0)?;
    let per_packet = counts.phase(0b11, time)?.per_packet();
    // Of two ports.
    Ok([(At::Idle, idle), (At::Load, timed(2.0 * per_packet / LOAD)?)])
}
