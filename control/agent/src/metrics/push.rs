use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounterVec, Opts};

use crate::push::MOST;

/// The steps of a push that are timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// From received to taken up by the control thread.
    Wait,
    /// From bytes to a tree.
    Parse,
    /// From the document to types.
    Validate,
    /// To a snapshot.
    Compile,
    /// For questions: whom an address belongs to.
    Arrange,
    /// Against the oracle.
    SelfCheck,
    /// To the disk.
    Store,
    /// Told to the accounts.
    Account,
    /// The pointer swap.
    Publish,
    /// Until every worker judges by it.
    Enforce,
}

impl Step {
    /// By their numbers.
    const ALL: [Step; 10] = [
        Step::Wait,
        Step::Parse,
        Step::Validate,
        Step::Compile,
        Step::Arrange,
        Step::SelfCheck,
        Step::Store,
        Step::Account,
        Step::Publish,
        Step::Enforce,
    ];

    const fn label(self) -> &'static str {
        match self {
            Step::Wait => "wait",
            Step::Parse => "parse",
            Step::Validate => "validate",
            Step::Compile => "compile",
            Step::Arrange => "arrange",
            Step::SelfCheck => "self_check",
            Step::Store => "store",
            Step::Account => "account",
            Step::Publish => "publish",
            Step::Enforce => "enforce",
        }
    }
}

/// What is counted of pushes.
pub struct PushMetrics {
    pub(super) seconds: HistogramVec,
    /// The same by number of step: to look one up by its label takes longer than some steps.
    steps: [Histogram; Step::ALL.len()],
    pub(super) pushes: IntCounterVec,
    pub(super) enforced: Histogram,
    pub(super) tables: Histogram,
    pub(super) together: Histogram,
    started: u64,
}

impl PushMetrics {
    /// With all counters at 0.
    pub fn new() -> PushMetrics {
        let buckets = vec![
            1e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2,
            0.5, 1.0, 5.0,
        ];
        let seconds = HistogramOpts::new("sgswitch_push_step_seconds", "Time of each step of a push.")
            .buckets(buckets.clone());
        let pushes =
            Opts::new("sgswitch_pushes_total", "Pushes by result: ok, or refused with nothing changed.");
        let enforced = HistogramOpts::new(
            "sgswitch_push_enforced_seconds",
            "Time from a push received to enforced by every worker.",
        );
        let tables = HistogramOpts::new(
            "sgswitch_push_tables_seconds",
            "Time from a valid policy to enforced by every worker, without self-check and store.",
        );
        let (enforced, tables) = (enforced.buckets(buckets.clone()), tables.buckets(buckets));
        let together = HistogramOpts::new(
            "sgswitch_push_batch_changes",
            "Single changes that were put into force together: one transaction, one publication.",
        )
        .buckets((0..=MOST.ilog2()).map(|power| f64::from(1 << power)).collect());
        let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let seconds = HistogramVec::new(seconds, &["step"]).expect("a valid name and label");
        PushMetrics {
            steps: Step::ALL.map(|step| seconds.with_label_values(&[step.label()])),
            seconds,
            enforced: Histogram::with_opts(enforced).expect("a valid name"),
            tables: Histogram::with_opts(tables).expect("a valid name"),
            together: Histogram::with_opts(together).expect("a valid name"),
            started,
            pushes: IntCounterVec::new(pushes, &["result"]).expect("a valid name and label"),
        }
    }

    /// Times a step.
    pub fn time<R>(&self, step: Step, work: impl FnOnce() -> R) -> R {
        let start = Instant::now();
        let result = work();
        self.steps[step as usize].observe(start.elapsed().as_secs_f64());
        result
    }

    /// A push was taken up after so long.
    pub fn waited(&self, for_so_long: Duration) {
        self.steps[Step::Wait as usize].observe(for_so_long.as_secs_f64());
    }

    /// A push was enforced after so long.
    pub fn enforced(&self, after: Duration) {
        self.enforced.observe(after.as_secs_f64());
    }

    /// Tables took so long, from a valid policy to enforced.
    pub fn tables(&self, took: Duration) {
        self.tables.observe(took.as_secs_f64());
    }

    /// So many single changes were put into force together.
    pub fn together(&self, changes: usize) {
        self.together.observe(changes as f64);
    }

    /// When the daemon started, in seconds since 1970.
    pub fn started(&self) -> u64 {
        self.started
    }

    /// Counts a push.
    pub fn finished(&self, ok: bool) {
        self.pushes.with_label_values(&[if ok { "ok" } else { "refused" }]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_is_timed_under_its_own_name() {
        let metrics = PushMetrics::new();
        let counts =
            || Step::ALL.map(|step| metrics.seconds.with_label_values(&[step.label()]).get_sample_count());
        for (n, step) in Step::ALL.into_iter().enumerate() {
            let mut expected = counts();
            metrics.time(step, || ());
            expected[n] += 1;
            assert_eq!(counts(), expected, "{step:?}");
        }
        metrics.waited(Duration::ZERO);
        assert_eq!(counts(), [2, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
    }
}
