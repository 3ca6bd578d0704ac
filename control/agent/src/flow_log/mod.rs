//! Flow logs: one line for each flow, direction and verdict at an interface in a
//! window of time, as VPC Flow Logs have them.
//!
//! <https://docs.aws.amazon.com/vpc/latest/userguide/flow-log-records.html>

mod fields;
mod sink;
mod window;

pub use fields::{DEFAULT_FIELDS, Field};
pub use sink::Rotation;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use crossbeam_channel::{Sender, bounded};
use worker::Sighting;

use crate::accounts::{Book, Tuple};
use sink::Sinks;
use window::Window;

/// Windows that wait to be written; one more is lost.
const MAX_WAITING: usize = 2;

/// Where flow logs go, and what is in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowLogConfig {
    /// A file that lines are appended to.
    pub file: Option<(PathBuf, Rotation)>,
    /// A Unix stream socket that somebody listens on.
    pub socket: Option<PathBuf>,
    /// The fields of a line, in order.
    pub fields: Vec<Field>,
    /// How long a window lasts, 1 to 60 seconds.
    pub interval: Duration,
    /// `account-id`.
    pub account: Option<String>,
    /// `region`.
    pub region: Option<String>,
}

/// What is counted of flow logs.
#[derive(Debug, Default)]
pub struct FlowLogCounters {
    /// Lines written.
    pub written: AtomicU64,
    /// Lines that could not be written, or had no room in their window.
    pub lost: AtomicU64,
}

/// The window under way, and the way to the thread that writes closed ones.
pub struct FlowLog {
    interval: Duration,
    window: Window,
    closed: Sender<Closed>,
    counters: Arc<FlowLogCounters>,
    /// Packets that workers could not tell of, as far as lines say so.
    lost_packets: u64,
}

/// A window to be written.
struct Closed {
    window: Window,
    until: SystemTime,
    /// The interfaces that were plugged in, for those without any flow.
    served: Vec<window::Place>,
    /// Whether packets were lost to it.
    is_incomplete: bool,
}

impl FlowLog {
    /// Begins to log. The thread ends, all being written, when the log is dropped.
    pub fn begin(config: FlowLogConfig) -> std::io::Result<(FlowLog, JoinHandle<()>)> {
        let (closed, windows) = bounded::<Closed>(MAX_WAITING);
        let counters = Arc::new(FlowLogCounters::default());
        let log = FlowLog {
            interval: config.interval,
            window: Window::since(SystemTime::now()),
            closed,
            counters: counters.clone(),
            lost_packets: 0,
        };
        let write = move || {
            let mut sinks = Sinks::new(&config);
            for window in windows {
                let lines = window.lines(&config);
                let (written, lost) = sinks.write(&lines);
                counters.written.fetch_add(written, Ordering::Relaxed);
                counters.lost.fetch_add(lost, Ordering::Relaxed);
            }
        };
        let thread = std::thread::Builder::new().name("flow-log".to_string()).spawn(write)?;
        Ok((log, thread))
    }

    /// What is counted.
    pub fn counters(&self) -> &FlowLogCounters {
        &self.counters
    }

    /// A packet that was judged.
    pub fn note(&mut self, tuple: &Tuple, sighting: &Sighting, book: &Book) {
        if !self.window.note(tuple, sighting, book) {
            self.counters.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Closes the window if its time has come. `lost_packets` is how many workers
    /// could not tell of so far.
    pub fn write_what_is_due(&mut self, book: Option<&Book>, lost_packets: u64) {
        let now = SystemTime::now();
        if now.duration_since(self.window.begun()).is_ok_and(|age| age < self.interval) {
            return;
        }
        self.close(book, lost_packets, now);
    }

    /// Closes the window as it is.
    pub fn close(&mut self, book: Option<&Book>, lost_packets: u64, now: SystemTime) {
        let window = std::mem::replace(&mut self.window, Window::since(now));
        let flows = window.flows() as u64;
        let is_incomplete = lost_packets > self.lost_packets;
        self.lost_packets = lost_packets;
        let served = book.map_or_else(Vec::new, window::served);
        if self.closed.try_send(Closed { window, until: now, served, is_incomplete }).is_err() {
            self.counters.lost.fetch_add(flows, Ordering::Relaxed);
        }
    }
}

impl Closed {
    /// The lines, each with its end.
    fn lines(&self, config: &FlowLogConfig) -> Vec<String> {
        let context = fields::Context { config, start: self.window.begun(), end: self.until };
        let mut lines: Vec<String> =
            self.window.iter().map(|(key, flow)| context.line(Some((key, flow)), &key.place, "OK")).collect();
        let seen = self.window.interfaces();
        for place in &self.served {
            if self.is_incomplete {
                lines.push(context.line(None, place, "SKIPDATA"));
            } else if !seen.contains(place.interface.as_str()) {
                lines.push(context.line(None, place, "NODATA"));
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use engine::pipeline::{Fate, PassClass};
    use engine::verdict::DropReason;

    use super::*;
    use crate::accounts::tests::{books, sighting};

    fn config(format: &str) -> FlowLogConfig {
        FlowLogConfig {
            file: None,
            socket: None,
            fields: Field::format(format).unwrap(),
            interval: Duration::from_secs(60),
            account: None,
            region: None,
        }
    }

    fn note(window: &mut Window, n: u32, fate: Fate) -> bool {
        let sighting = sighting(n, fate);
        window.note(&Tuple::of_ip(&sighting.ip), &sighting, books().of(1).unwrap())
    }

    fn lines(window: Window, is_incomplete: bool) -> Vec<String> {
        let served = window::served(books().newest().unwrap());
        let closed = Closed { window, until: SystemTime::now(), served, is_incomplete };
        let mut lines = closed.lines(&config("interface-id flow-direction action log-status"));
        lines.sort();
        lines
    }

    #[test]
    fn each_verdict_is_said_at_the_ends_it_is_of() {
        use DropReason::*;
        let both =
            |one, other| vec![format!("eni-1 ingress {one} OK\n"), format!("eni-2 egress {other} OK\n")];
        let one = |line: &str| vec!["eni-1 - - NODATA\n".to_string(), format!("eni-2 {line} OK\n")];
        let nothing = ["eni-1 - - NODATA\n", "eni-2 - - NODATA\n"].map(String::from).to_vec();
        for (fate, expected) in [
            (Fate::Passed(PassClass::Established), both("ACCEPT", "ACCEPT")),
            (Fate::Passed(PassClass::Exempt), nothing.clone()),
            (Fate::Dropped(OutboundDenied), one("egress REJECT")),
            (Fate::Dropped(AclOutbound), one("egress REJECT")),
            (Fate::Dropped(InboundDenied), both("REJECT", "ACCEPT")),
            (Fate::Dropped(AclInbound), both("REJECT", "ACCEPT")),
            (Fate::Dropped(SpoofedAddress), nothing.clone()),
            (Fate::Waits, nothing.clone()),
        ] {
            let mut window = Window::since(SystemTime::now());
            assert!(note(&mut window, 1, fate));
            assert_eq!(lines(window, false), expected, "{fate:?}");
        }
    }

    #[test]
    fn a_window_that_missed_packets_says_so_at_every_interface() {
        let mut window = Window::since(SystemTime::now());
        note(&mut window, 1, Fate::Dropped(DropReason::OutboundDenied));
        let expected = ["eni-1 - - SKIPDATA\n", "eni-2 - - SKIPDATA\n", "eni-2 egress REJECT OK\n"];
        assert_eq!(lines(window, true), expected);
    }

    #[test]
    fn a_full_window_loses_new_flows_and_counts_the_old() {
        let (mut books, mut window) = (books(), Window::since(SystemTime::now()));
        let book = books.of(1).unwrap();
        let mut note = |n: usize| {
            let sighting = sighting(n as u32, Fate::Dropped(DropReason::OutboundDenied));
            window.note(&Tuple::of_ip(&sighting.ip), &sighting, book)
        };
        assert!((0..window::MAX_FLOWS).all(&mut note), "there is room for so many");
        assert!(!note(window::MAX_FLOWS), "one too many");
        assert!(note(0), "a known one");
        assert_eq!(window.flows(), window::MAX_FLOWS);
    }
}
