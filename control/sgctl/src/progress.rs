//! A line for who waits: on a terminal, for what takes longer than a moment.

use std::io::{IsTerminal, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What is answered within this is not worth a line.
const MOMENT: Duration = Duration::from_millis(500);

/// How often the line is written anew.
const PERIOD: Duration = Duration::from_millis(100);

/// To the line's start, and away with what is there.
const CLEAR: &str = "\r\x1b[K";

/// What is being done, in words.
pub struct Step(Mutex<&'static str>);

impl Default for Step {
    fn default() -> Step {
        Step::new("connecting to the daemon")
    }
}

impl Step {
    /// This is being done.
    pub fn new(step: &'static str) -> Step {
        Step(Mutex::new(step))
    }

    /// From now on this is being done.
    pub fn set(&self, step: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = step;
    }
}

/// Does the work; where standard error is a terminal, a line there says for how
/// long and which step it is, until it is done.
pub fn beside<R>(step: &Step, work: impl FnOnce() -> R) -> R {
    if !std::io::stderr().is_terminal() || std::env::var_os("TERM").is_none_or(|term| term == "dumb") {
        return work();
    }
    std::thread::scope(|scope| {
        // Dropped when the work is done, also by a panic.
        let (_working, waits) = channel::<()>();
        scope.spawn(move || tell(step, &waits));
        work()
    })
}

/// Tells of a step until nobody works on it.
fn tell(step: &Step, working: &Receiver<()>) {
    let start = Instant::now();
    let mut wait = MOMENT;
    while working.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
        let doing = *step.0.lock().unwrap_or_else(PoisonError::into_inner);
        show(&format!("{CLEAR}{:.1} s: {doing}", start.elapsed().as_secs_f64()));
        wait = PERIOD;
    }
    if wait == PERIOD {
        show(CLEAR);
    }
}

fn show(text: &str) {
    let mut line = std::io::stderr().lock();
    drop(line.write_all(text.as_bytes()).and_then(|()| line.flush()));
}
