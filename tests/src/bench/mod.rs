//! The switch beside the floor and beside its peer: the same packets through
//! each in turn, round after round, and the ratios of the medians. Then the switch
//! alone, under what is to be endured, and on two cores.

mod changes;
pub mod latency;
mod machine;
mod report;
mod rules;
mod strain;
mod subjects;
pub mod tcp;
mod traffic;

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

pub use machine::{HugePages, Machine};
pub use report::Report;
pub use rules::{Third, document};
pub use strain::{Line, Strain};
pub use subjects::{Bench, Ports, Setup, Subject};
pub use traffic::{Dealing, Load, Plugin, PluginFolder, Stream, Waits};

/// What both ports of a program are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Datagrams of known flows, both ways.
    Established,
    /// The same over IPv6.
    Established6,
    /// Segments of TCP connections, both ways.
    Segments,
    /// Datagrams of known flows, some of which come far more often (Zipf's law).
    Popular,
    /// One datagram of each flow, one way, once.
    New,
    /// Datagrams that no rule permits, one way.
    Strays,
    /// TCP connections from open to close, of 16 packets.
    Calls,
}

impl Kind {
    /// The kinds of `tests/bench/frames.h` at the clients' port and at the server's.
    pub const fn streams(self) -> [&'static str; 2] {
        match self {
            Kind::Established => ["requests", "replies"],
            Kind::Established6 => ["requests6", "replies6"],
            Kind::Segments => ["segments", "answers"],
            Kind::Popular => ["popular", "liked"],
            Kind::New => ["new", "none"],
            Kind::Strays => ["strays", "none"],
            Kind::Calls => ["calls", "calledback"],
        }
    }

    /// What rules call the protocol.
    const fn protocol(self) -> &'static str {
        match self {
            Kind::Segments | Kind::Calls => "tcp",
            _ => "udp",
        }
    }
}

/// One case: the traffic and the rules that it meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// What is sent.
    pub kind: Kind,
    /// How many flows it is of.
    pub flows: u64,
    /// How many rules the flows are spread over; 0: everything is open.
    pub rules: u64,
}

impl Traffic {
    /// Whether everyone may come to the server, which leaves nothing to track.
    fn is_open(self) -> bool {
        self.rules == 0
    }

    /// What the ports send.
    pub fn load(self) -> Load {
        let Traffic { kind, flows, rules } = self;
        let streams = kind.streams().map(|kind| Stream { kind, flows, rules });
        Load { streams: streams.to_vec(), dealing: Dealing::One, has_window: false, is_timed: false }
    }

    /// The name of the case.
    pub fn name(self) -> &'static str {
        match self.kind {
            Kind::Established if self.is_open() => "untracked",
            Kind::Established => "established",
            Kind::Established6 => "established, IPv6",
            Kind::Segments => "established, TCP",
            Kind::Popular => "established, Zipf",
            Kind::New => "new flows",
            Kind::Strays => "denied",
            Kind::Calls => "TCP open to close",
        }
    }
}

/// What one measurement has found.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// Nanoseconds per packet that the program was given.
    pub nanoseconds: f64,
    /// Packets that it was given.
    pub sent: u64,
    /// Packets that came out.
    pub received: u64,
}

/// How thorough a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The main cases: less than three minutes.
    Quick,
    /// All cases.
    Full,
}

impl Depth {
    /// How many rounds, unless the caller says otherwise or time runs out.
    pub fn rounds(self) -> usize {
        match self {
            Depth::Quick => 2,
            Depth::Full => 5,
        }
    }

    /// After so long no further round begins.
    fn budget(self) -> Duration {
        Duration::from_secs(match self {
            Depth::Quick => 60,
            Depth::Full => 12 * 60,
        })
    }

    fn time(self) -> Duration {
        Duration::from_millis(match self {
            Depth::Quick => 400,
            Depth::Full => 1000,
        })
    }

    /// What guests send; of what does not come through, nobody could tell whether it had
    /// come so far.
    fn cases_of_guests(self) -> Vec<Traffic> {
        let case = |kind, flows, rules| Traffic { kind, flows, rules };
        let mut cases = vec![case(Kind::Established, 1000, 10), case(Kind::Established, 100_000, 10)];
        if self == Depth::Full {
            cases.extend([case(Kind::Segments, 100_000, 10), case(Kind::Established, 1000, 0)]);
        }
        cases
    }

    fn cases(self) -> Vec<Traffic> {
        let case = |kind, flows, rules| Traffic { kind, flows, rules };
        let mut cases = vec![
            case(Kind::Established, 1000, 10),
            case(Kind::Established, 100_000, 10),
            case(Kind::Established, 1000, 0),
            case(Kind::Strays, 100_000, 10),
            case(Kind::New, 500_000, 10),
            case(Kind::Calls, 50_000, 10),
        ];
        if self == Depth::Full {
            cases.extend([
                case(Kind::Established, 1_000_000, 10),
                case(Kind::Established, 10_000_000, 10),
                case(Kind::Established, 100_000, 1000),
                case(Kind::Established, 100_000, 10_000),
                case(Kind::Popular, 1_000_000, 10),
                case(Kind::Established6, 100_000, 10),
                case(Kind::Segments, 100_000, 10),
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

impl Case {
    /// Whether a subject takes part: ten million flows take Open vSwitch minutes to learn.
    fn has(&self, subject: Subject) -> bool {
        subject != Subject::OvsDpdk || self.traffic.flows <= 1_000_000
    }
}

/// Runs all cases, so many times in turn, and then the switch alone, unless traffic comes
/// by guests; `tell` hears of each as it begins.
///
/// # Errors
/// If the folder for the subjects' files cannot be made.
pub fn run(
    folder: &Path,
    plugin: Plugin,
    ports: Ports,
    core: usize,
    depth: Depth,
    rounds: usize,
    tell: impl Fn(&str),
) -> io::Result<Report> {
    std::fs::create_dir_all(folder)?;
    let start = Instant::now();
    let bench =
        Bench { folder: folder.to_path_buf(), plugin, ports, core, is_timed: false, ordinary_memory: None };
    let traffic = match ports {
        Ports::Replayed => depth.cases(),
        Ports::Guests => depth.cases_of_guests(),
    };
    let mut cases: Vec<Case> = traffic
        .into_iter()
        .map(|traffic| Case { traffic, figures: Default::default(), errors: vec![] })
        .collect();
    let mut machine = Machine::probe();
    for round in 0..rounds {
        if round > 0 && start.elapsed() > depth.budget() {
            tell(&format!("no time is left for more than {round} rounds"));
            break;
        }
        for case in &mut cases {
            let Traffic { flows, rules, .. } = case.traffic;
            let name = case.traffic.name();
            for (at, subject) in Subject::ALL
                .into_iter()
                .enumerate()
                .filter(|(_, subject)| case.has(*subject))
                .collect::<Vec<_>>()
            {
                tell(&format!(
                    "round {}: {name}, {flows} flows, {rules} rules: {}",
                    round + 1,
                    subject.label()
                ));
                let measured = bench.start(subject, case.traffic).and_then(|running| {
                    machine.tsc_hz = running.counts.tsc_hz()?;
                    measure(&running.counts, case.traffic, depth.time())
                });
                match measured {
                    Ok(figure) => case.figures[at].push(figure),
                    Err(error) => case.errors.push(format!("{}: {error}", subject.label())),
                }
            }
        }
    }
    let strain = match ports {
        Ports::Replayed => Strain::measure(&bench, depth, &tell),
        Ports::Guests => Strain::default(),
    };
    Ok(Report { machine, ports, cases, strain })
}

/// Measures for so long, once every flow has been seen twice; of new flows and of
/// connections from open to close, the one round that there is.
fn measure(counts: &traffic::Counts, traffic: Traffic, time: Duration) -> io::Result<Figure> {
    let phase = match traffic.kind {
        Kind::New => counts.once(0b01)?,
        Kind::Calls => counts.once(0b11)?,
        Kind::Strays => {
            counts.warm(0b01, traffic.flows, 1)?;
            counts.phase(0b01, time)?
        }
        Kind::Established | Kind::Established6 | Kind::Segments | Kind::Popular => {
            counts.warm(0b11, 2 * traffic.flows, 2)?;
            counts.phase(0b11, time)?
        }
    };
    let (sent, received) = (phase.totals.honest(), phase.totals.received);
    Ok(Figure { nanoseconds: phase.per_packet(), sent, received })
}
