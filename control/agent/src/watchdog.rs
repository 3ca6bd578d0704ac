//! Watches over the workers: one that makes no progress is reported, and the
//! service manager is told that all is well only while it is.

use std::cell::Cell;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use worker::WorkerView;

use crate::inbox::Handle;
use crate::notify;

/// How often the workers are looked at. Two looks fit the shortest limit.
const LOOK: Duration = Duration::from_millis(500);

/// How long the control thread may be busy before it counts as hung: longer
/// than a push of any size.
const CONTROL_PATIENCE: Duration = Duration::from_secs(60);

/// What a worker is found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// It makes progress.
    Running,
    /// It makes none.
    Stalled,
    /// Its thread is over, which is a defect.
    Ended,
}

impl State {
    /// The word for it.
    pub const fn label(self) -> &'static str {
        match self {
            State::Running => "running",
            State::Stalled => "stalled",
            State::Ended => "ended",
        }
    }
}

/// What a worker shows of itself at one look.
#[derive(Clone, Copy, Debug)]
struct Progress {
    /// Turns of its loop so far.
    turns: u64,
    /// Whether its thread is over.
    ended: bool,
}

/// A change that a look has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// No progress for so long.
    Stalled(Duration),
    /// Progress again, after so long.
    Resumed(Duration),
    /// The thread is over.
    Ended,
}

#[derive(Clone, Copy, Debug)]
struct Watched {
    turns: u64,
    silent: Duration,
    state: State,
}

/// The judgement: what successive looks at the workers mean.
struct Vigil {
    limit: Duration,
    last: Instant,
    workers: Vec<Watched>,
}

impl Vigil {
    /// For workers that have not been looked at yet. Silent for `limit`, one
    /// counts as stalled.
    fn new(limit: Duration, workers: usize, now: Instant) -> Vigil {
        let watched = Watched { turns: 0, silent: Duration::ZERO, state: State::Running };
        Vigil { limit, last: now, workers: vec![watched; workers] }
    }

    /// What has changed since the last look, each with the worker's index.
    fn look(&mut self, now: Instant, progress: impl IntoIterator<Item = Progress>) -> Vec<(usize, Event)> {
        // A look that comes late, as after a pause of the whole machine, says
        // nothing about the workers: they were paused with it.
        let elapsed = now.saturating_duration_since(self.last).min(LOOK);
        self.last = now;
        let judge = |(worker, (watched, seen)): (usize, (&mut Watched, Progress))| {
            let event = watched.judge(seen, elapsed, self.limit)?;
            Some((worker, event))
        };
        self.workers.iter_mut().zip(progress).enumerate().filter_map(judge).collect()
    }
}

impl Watched {
    fn judge(&mut self, seen: Progress, elapsed: Duration, limit: Duration) -> Option<Event> {
        if self.state == State::Ended {
            return None;
        }
        if seen.ended {
            self.state = State::Ended;
            return Some(Event::Ended);
        }
        if seen.turns == self.turns {
            self.silent += elapsed;
            if self.state == State::Running && self.silent >= limit {
                self.state = State::Stalled;
                return Some(Event::Stalled(self.silent));
            }
            return None;
        }
        self.turns = seen.turns;
        let silent = std::mem::take(&mut self.silent);
        let was = std::mem::replace(&mut self.state, State::Running);
        (was == State::Stalled).then_some(Event::Resumed(silent))
    }
}

/// What has been found of the workers, for metrics and views.
pub struct Watch(Vec<(AtomicU8, AtomicU64)>);

impl Watch {
    /// For so many workers, all running.
    pub fn new(workers: usize) -> Watch {
        Watch((0..workers).map(|_| Default::default()).collect())
    }

    /// What a worker is.
    pub fn state(&self, worker: usize) -> State {
        let found = self.0.get(worker).map_or(0, |(state, _)| state.load(Ordering::Relaxed));
        [State::Running, State::Stalled, State::Ended][usize::from(found).min(2)]
    }

    /// How often it was found stalled or ended.
    pub fn stalls(&self, worker: usize) -> u64 {
        self.0.get(worker).map_or(0, |(_, stalls)| stalls.load(Ordering::Relaxed))
    }

    /// Notes and logs a change.
    fn note(&self, worker: usize, cpu: usize, event: Event) {
        let Some((state, stalls)) = self.0.get(worker) else { return };
        let found = match event {
            Event::Stalled(silent) => {
                tracing::error!(
                    "worker {worker} on CPU {cpu} is stalled: it has not turned for {:.1} s, and what is its to \
                     judge waits",
                    silent.as_secs_f64()
                );
                State::Stalled
            }
            Event::Resumed(silent) => {
                tracing::warn!("worker {worker} on CPU {cpu} goes on after {:.1} s", silent.as_secs_f64());
                State::Running
            }
            Event::Ended => {
                tracing::error!(
                    "worker {worker} on CPU {cpu} has ended, which is a defect: what is its to judge is lost until \
                     sgswitchd is started again"
                );
                State::Ended
            }
        };
        state.store(found as u8, Ordering::Relaxed);
        if found != State::Running {
            stalls.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Workers that make no progress.
    fn silent(&self) -> Vec<usize> {
        (0..self.0.len()).filter(|worker| self.state(*worker) != State::Running).collect()
    }
}

/// Watches over the workers and tells the service manager, as long as it is polled.
pub async fn keep(watch: &Watch, workers: &[WorkerView], limit: Duration, handle: &Handle) -> Infallible {
    let patience = notify::patience();
    let period = patience.map_or(LOOK, |patience| (patience / 2).clamp(Duration::from_millis(1), LOOK));
    // When the control thread has answered last, and with which generation.
    let answer: Cell<Option<(Instant, u64)>> = Cell::new(None);
    let ask = async {
        loop {
            // No answer is one that the next look misses.
            if let Ok(generation) = handle.run(|switch| switch.generation()).await {
                let is_first = answer.replace(Some((Instant::now(), generation))).is_none();
                if is_first {
                    notify::ready(&summary(generation, workers.len(), &watch.silent()));
                }
            }
            tokio::time::sleep(period).await;
        }
    };
    let look = async {
        let mut vigil = Vigil::new(limit, workers.len(), Instant::now());
        let mut told = String::new();
        loop {
            tokio::time::sleep(period).await;
            let now = Instant::now();
            let progress = workers.iter().map(|worker| Progress {
                turns: worker.statistics.turns(),
                ended: worker.statistics.has_ended(),
            });
            for (worker, event) in vigil.look(now, progress) {
                watch.note(worker, workers[worker].cpu, event);
            }
            let Some((answered, generation)) = answer.get() else { continue };
            let silent = watch.silent();
            let status = summary(generation, workers.len(), &silent);
            if status != told {
                notify::status(&status);
                told = status;
            }
            let is_well = silent.is_empty() && now.saturating_duration_since(answered) < CONTROL_PATIENCE;
            if is_well && patience.is_some() {
                notify::alive();
            }
        }
    };
    tokio::select! {
        never = ask => never,
        never = look => never,
    }
}

/// The switch in one line.
fn summary(generation: u64, workers: usize, silent: &[usize]) -> String {
    let policy = match generation {
        0 => "closed, no policy yet".to_string(),
        generation => format!("generation {generation} in force"),
    };
    match silent {
        [] => format!("{policy}; {workers} workers"),
        silent => format!("{policy}; {workers} workers, of which these are stalled: {silent:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(2);

    /// Looks in time at one worker after another count of its turns.
    fn looks(turns: &[u64]) -> Vec<(usize, Event)> {
        let start = Instant::now();
        let mut vigil = Vigil::new(LIMIT, 1, start);
        let look = |(n, turns): (usize, &u64)| {
            let now = start + LOOK * (n as u32 + 1);
            vigil.look(now, [Progress { turns: *turns, ended: false }]).pop().map(|(_, event)| (n, event))
        };
        turns.iter().enumerate().filter_map(look).collect()
    }

    #[test]
    fn a_worker_that_turns_is_well_however_slowly() {
        assert_eq!(looks(&[1, 2, 3, 4, 5, 6]), []);
        assert_eq!(looks(&[1, 1, 1, 1, 2, 2, 2, 2, 3]), []);
    }

    #[test]
    fn one_that_does_not_is_reported_once_and_once_when_it_goes_on() {
        let limit_and_more = LIMIT + LOOK * 2;
        assert_eq!(
            looks(&[7, 7, 7, 7, 7, 7, 7, 8, 9]),
            [(4, Event::Stalled(LIMIT)), (7, Event::Resumed(limit_and_more))]
        );
        // Again stalled is reported again; one that never turned was never well.
        assert_eq!(
            looks(&[0, 0, 0, 0, 1, 1, 1, 1, 1]),
            [(3, Event::Stalled(LIMIT)), (4, Event::Resumed(LIMIT)), (8, Event::Stalled(LIMIT))]
        );
    }

    #[test]
    fn a_pause_of_the_whole_machine_is_no_stall() {
        let start = Instant::now();
        let mut vigil = Vigil::new(Duration::from_secs(1), 1, start);
        let progress = |turns| [Progress { turns, ended: false }];
        assert_eq!(vigil.look(start + LOOK, progress(5)), []);
        assert_eq!(vigil.look(start + Duration::from_secs(90), progress(5)), []);
        assert_eq!(vigil.look(start + Duration::from_secs(91), progress(6)), []);
        // Nor is a clock that stands.
        for _ in 0..10 {
            assert_eq!(vigil.look(start + Duration::from_secs(91), progress(6)), []);
        }
    }

    #[test]
    fn workers_are_judged_apart_and_an_end_is_final() {
        let start = Instant::now();
        let mut vigil = Vigil::new(LOOK * 2, 3, start);
        let watch = Watch::new(3);
        let mut found = Vec::new();
        for n in 1..=4u32 {
            let progress = [(u64::from(n), false), (9, false), (u64::from(n), n > 1)];
            let progress = progress.map(|(turns, ended)| Progress { turns, ended });
            found.extend(vigil.look(start + LOOK * n, progress));
        }
        assert_eq!(found, [(2, Event::Ended), (1, Event::Stalled(LOOK * 2))]);
        found.iter().for_each(|(worker, event)| watch.note(*worker, 0, *event));
        assert_eq!([0, 1, 2].map(|w| watch.state(w)), [State::Running, State::Stalled, State::Ended]);
        assert_eq!([0, 1, 2, 3].map(|w| watch.stalls(w)), [0, 1, 1, 0]);
        watch.note(1, 0, Event::Resumed(LIMIT));
        assert_eq!((watch.state(1), watch.stalls(1), watch.silent()), (State::Running, 1, vec![2]));
        assert_eq!(
            summary(3, 3, &watch.silent()),
            "generation 3 in force; 3 workers, of which these are stalled: [2]"
        );
        assert_eq!(summary(0, 1, &[]), "closed, no policy yet; 1 workers");
    }
}
