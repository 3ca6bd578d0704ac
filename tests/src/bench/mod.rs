//! The switch beside the floor and beside its peer: the same packets through
//! each in turn, round after round, and the ratios of the medians.

mod machine;
mod report;
mod subjects;
pub mod tcp;
mod traffic;

use std::io;
use std::path::Path;
use std::time::Duration;

pub use machine::{HugePages, Machine};
pub use report::Report;
pub use subjects::{Bench, Subject};
pub use traffic::{Kind, Plugin, Traffic};

use traffic::Figure;

/// How thorough a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The main cases, two rounds: less than three minutes.
    Quick,
    /// All cases, seven rounds.
    Full,
}

impl Depth {
    /// How many rounds, unless the caller says otherwise.
    pub fn rounds(self) -> usize {
        match self {
            Depth::Quick => 2,
            Depth::Full => 7,
        }
    }

    fn time(self) -> Duration {
        Duration::from_millis(match self {
            Depth::Quick => 500,
            Depth::Full => 1000,
        })
    }

    fn cases(self) -> Vec<Traffic> {
        let case = |kind, flows, rules| Traffic { kind, flows, rules };
        let mut cases = vec![
            case(Kind::Established, 1000, 10),
            case(Kind::Established, 100_000, 10),
            case(Kind::Established, 1000, 0),
            case(Kind::Strays, 100_000, 10),
            case(Kind::New, 500_000, 10),
        ];
        if self == Depth::Full {
            cases.extend([
                case(Kind::Established, 1_000_000, 10),
                case(Kind::Established, 100_000, 1000),
                case(Kind::Established, 100_000, 10_000),
                case(Kind::Established, 10_000_000, 10),
                case(Kind::Strays, 100_000, 10_000),
                case(Kind::New, 500_000, 1000),
                case(Kind::New, 500_000, 10_000),
            ]);
        }
        cases
    }
}

/// One case with all that was measured of it.
#[derive(Clone, Debug)]
pub struct Case {
    /// What was sent, and the rules.
    pub traffic: Traffic,
    /// By subject, in the order of [`Subject::ALL`]: one figure of each round.
    pub figures: [Vec<Figure>; 3],
    /// What did not work.
    pub errors: Vec<String>,
}

/// Runs all cases, so many times in turn; `tell` hears of each as it begins.
///
/// # Errors
/// If the folder for the subjects' files cannot be made.
pub fn run(
    folder: &Path,
    plugin: Plugin,
    core: usize,
    depth: Depth,
    rounds: usize,
    tell: impl Fn(&str),
) -> io::Result<Report> {
    std::fs::create_dir_all(folder)?;
    let bench = Bench { folder: folder.to_path_buf(), plugin, core };
    let mut cases: Vec<Case> = depth
        .cases()
        .into_iter()
        .map(|traffic| Case { traffic, figures: Default::default(), errors: vec![] })
        .collect();
    let mut machine = Machine::probe();
    for round in 0..rounds {
        for case in &mut cases {
            let Traffic { flows, rules, .. } = case.traffic;
            let name = subjects::case_name(case.traffic);
            for (at, subject) in Subject::ALL.into_iter().enumerate() {
                tell(&format!(
                    "round {}: {name}, {flows} flows, {rules} rules: {}",
                    round + 1,
                    subject.label()
                ));
                let measured = bench.start(subject, case.traffic).and_then(|running| {
                    machine.tsc_hz = running.counts.tsc_hz()?;
                    running.counts.measure(case.traffic, depth.time())
                });
                match measured {
                    Ok(figure) => case.figures[at].push(figure),
                    Err(error) => case.errors.push(format!("{}: {error}", subject.label())),
                }
            }
        }
    }
    Ok(Report { machine, cases })
}
