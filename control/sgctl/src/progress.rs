//! A line for who waits: on a terminal, for what takes longer than a moment.

use std::cell::Cell;
use std::io::{IsTerminal, Write};
use std::pin::pin;
use std::time::{Duration, Instant};

/// What is answered within this is not worth a line.
const MOMENT: Duration = Duration::from_millis(500);

/// How often the line is written anew.
const PERIOD: Duration = Duration::from_millis(100);

/// To the line's start, and away with what is there.
const CLEAR: &str = "\r\x1b[K";

/// What is being done, in words.
pub struct Step(Cell<&'static str>);

impl Default for Step {
    fn default() -> Step {
        Step(Cell::new("connecting to the daemon"))
    }
}

impl Step {
    /// From now on this is being done.
    pub fn set(&self, step: &'static str) {
        self.0.set(step);
    }
}

/// Does the work; where standard error is a terminal, a line there says for how
/// long and which step it is, until it is done.
pub async fn beside<R>(work: impl Future<Output = R>, step: &Step) -> R {
    if !std::io::stderr().is_terminal() || std::env::var_os("TERM").is_none_or(|term| term == "dumb") {
        return work.await;
    }
    let start = Instant::now();
    let mut work = pin!(work);
    let mut wait = MOMENT;
    loop {
        match tokio::time::timeout(wait, work.as_mut()).await {
            Ok(done) => {
                if wait == PERIOD {
                    show(CLEAR);
                }
                return done;
            }
            Err(_) => show(&format!("{CLEAR}{:.1} s: {}", start.elapsed().as_secs_f64(), step.0.get())),
        }
        wait = PERIOD;
    }
}

fn show(text: &str) {
    let mut line = std::io::stderr().lock();
    drop(line.write_all(text.as_bytes()).and_then(|()| line.flush()));
}
