use engine::pipeline::{Stage, StageClock};
use engine::time::{TICKS_PER_SECOND, Tick};

use crate::statistics::{WorkerStage, WorkerStatistics};

/// Ticks from the time stamp counter, the same for all workers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TickSource {
    start: u64,
    cycles_per_tick: u64,
}

impl TickSource {
    pub fn new() -> TickSource {
        let cycles_per_tick = (dpdk::tsc_hz() / u64::from(TICKS_PER_SECOND)).max(1);
        TickSource { start: dpdk::cycles(), cycles_per_tick }
    }

    /// The tick at this count of the counter. The first is 1: 0 is the past of
    /// every deadline.
    pub fn at(&self, cycles: u64) -> Tick {
        Tick((cycles.saturating_sub(self.start) / self.cycles_per_tick) as u32 + 1)
    }
}

/// Patiences in a second: two microseconds each.
const PATIENCES: u64 = 500_000;

/// How long judged packets wait for others that go the same way, while further queues are
/// asked: where asking one is a system call, a turn over many takes longer than all else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    cycles: u64,
    /// When the first of them began to wait.
    since: Option<u64>,
}

impl Patience {
    pub fn new() -> Patience {
        Patience { cycles: dpdk::tsc_hz() / PATIENCES, since: None }
    }

    /// Packets may wait from now on; the clock is read if none did.
    #[inline]
    pub fn begin(&mut self, now: impl FnOnce() -> u64) {
        self.since.get_or_insert_with(now);
    }

    /// Whether they have waited long enough; if so, nobody waits any more.
    #[inline]
    pub fn is_over(&mut self, now: impl FnOnce() -> u64) -> bool {
        self.since.take_if(|since| now().saturating_sub(*since) >= self.cycles).is_some()
    }

    /// Nobody waits any more.
    #[inline]
    pub fn end(&mut self) {
        self.since = None;
    }
}

/// Of so many turns one is timed stage by stage, and counts for all: reading the
/// clock at each stage of each would take more than some of the stages. A number
/// that has no divisor in common with those of other things done every few turns.
const TIMED_TURNS: u32 = 17;

/// Notes where the cycles of a turn go.
pub(crate) struct Stopwatch<'a> {
    /// `None`: this turn is not timed.
    last: Option<u64>,
    /// How many turns this one stands for.
    weight: u32,
    statistics: &'a WorkerStatistics,
}

impl<'a> Stopwatch<'a> {
    /// For what is rare enough to be timed each time.
    pub fn start(statistics: &'a WorkerStatistics) -> Stopwatch<'a> {
        Stopwatch { last: Some(dpdk::cycles()), weight: 1, statistics }
    }

    /// For one of many turns, `number` of them since the start.
    #[inline]
    pub fn of_turn(number: u32, statistics: &'a WorkerStatistics) -> Stopwatch<'a> {
        let last = number.is_multiple_of(TIMED_TURNS).then(dpdk::cycles);
        Stopwatch { last, weight: TIMED_TURNS, statistics }
    }

    /// The time since the last mark was spent on this stage.
    #[inline]
    pub fn lap(&mut self, stage: WorkerStage, packets: usize) {
        let Some(last) = &mut self.last else { return };
        let now = dpdk::cycles();
        let (weight, spent) = (self.weight, now.saturating_sub(*last));
        self.statistics.stage(stage).note(spent * u64::from(weight), packets * weight as usize);
        *last = now;
    }
}

impl StageClock for Stopwatch<'_> {
    #[inline]
    fn mark(&mut self, stage: Stage, packets: usize) {
        self.lap(WorkerStage::from(stage), packets);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_turn_is_timed_for_all() {
        let statistics = WorkerStatistics::default();
        let packets = || statistics.stage(WorkerStage::Track).packets.get();
        for turn in 0..2 * TIMED_TURNS {
            Stopwatch::of_turn(turn, &statistics).lap(WorkerStage::Track, 3);
        }
        assert_eq!(packets(), u64::from(2 * TIMED_TURNS * 3));
        Stopwatch::start(&statistics).lap(WorkerStage::Track, 3);
        assert_eq!(packets(), u64::from(2 * TIMED_TURNS * 3 + 3));
        assert!(statistics.stage(WorkerStage::Track).cycles.get() > 0);
    }

    #[test]
    fn patience_ends_when_the_first_has_waited_long_enough() {
        let mut patience = Patience { cycles: 100, since: None };
        let unread = || panic!("nobody waits: the clock is not read");
        assert!(!patience.is_over(unread));
        patience.begin(|| 1000);
        patience.begin(|| 1090);
        assert_eq!([1050, 1099, 1100].map(|now| patience.is_over(|| now)), [false, false, true]);
        assert!(!patience.is_over(unread));
        patience.begin(|| 2000);
        patience.end();
        assert!(!patience.is_over(unread));
    }

    #[test]
    fn ticks_are_half_seconds_from_one() {
        let source = TickSource { start: 1000, cycles_per_tick: 500 };
        assert_eq!(source.at(900), Tick(1));
        assert_eq!(source.at(1499), Tick(1));
        assert_eq!(source.at(1500), Tick(2));
        assert_eq!(source.at(1000 + 500 * 1200), Tick(1201));
    }
}
