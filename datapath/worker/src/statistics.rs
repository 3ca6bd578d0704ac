use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use engine::pipeline::{Counter, Stage};

/// Where a worker's cycles go: the stages of the pipeline, and what surrounds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum WorkerStage {
    /// Polling queues and rings.
    Receive,
    /// As in [`Stage`].
    Parse,
    /// As in [`Stage`].
    Track,
    /// As in [`Stage`].
    Police,
    /// Sorting packets to ports and rings, and flushing them.
    Transmit,
    /// Expiring connections, answering the control thread.
    House,
}

impl WorkerStage {
    /// All, in order.
    pub const ALL: [WorkerStage; 6] = [
        WorkerStage::Receive,
        WorkerStage::Parse,
        WorkerStage::Track,
        WorkerStage::Police,
        WorkerStage::Transmit,
        WorkerStage::House,
    ];

    /// The stable name: the metric's label value.
    pub const fn label(self) -> &'static str {
        match self {
            WorkerStage::Receive => "receive",
            WorkerStage::Parse => Stage::Parse.label(),
            WorkerStage::Track => Stage::Track.label(),
            WorkerStage::Police => Stage::Police.label(),
            WorkerStage::Transmit => "transmit",
            WorkerStage::House => "house",
        }
    }
}

impl From<Stage> for WorkerStage {
    fn from(stage: Stage) -> WorkerStage {
        match stage {
            Stage::Parse => WorkerStage::Parse,
            Stage::Track => WorkerStage::Track,
            Stage::Police => WorkerStage::Police,
        }
    }
}

/// The cycles and packets of one stage, estimated from one turn of each 17.
#[derive(Debug, Default)]
pub struct StageTotals {
    /// TSC cycles.
    pub cycles: Counter,
    /// Packets that the stage worked on.
    pub packets: Counter,
}

impl StageTotals {
    #[inline]
    pub(crate) fn note(&self, cycles: u64, packets: usize) {
        self.cycles.add(cycles);
        if packets > 0 {
            self.packets.add(packets as u64);
        }
    }
}

/// Upper bounds of the burst sizes that are counted together.
pub const BURST_SIZES: [usize; 6] = [1, 2, 4, 8, 16, 32];

/// What a worker counts beside its pipeline's counters. Written by the worker
/// alone, read by the control thread.
#[derive(Debug, Default)]
pub struct WorkerStatistics {
    stages: [StageTotals; WorkerStage::ALL.len()],
    bursts: [Counter; BURST_SIZES.len()],
    /// Turns of the loop that found packets.
    pub busy_turns: Counter,
    /// Turns that found none.
    pub idle_turns: Counter,
    /// TSC cycles of busy turns.
    pub busy_cycles: Counter,
    /// TSC cycles of idle turns, sleep included.
    pub idle_cycles: Counter,
    /// Packets received from ports.
    pub received: Counter,
    /// Packets that ports took.
    pub transmitted: Counter,
    /// Packets handed over to the owners of their flows.
    pub handed_over: Counter,
    /// Packets taken over from other workers.
    pub taken_over: Counter,
    /// Judged packets passed to the worker that has the port's queue.
    pub relayed: Counter,
    /// Announcements of interfaces handed to uplinks that have changed over.
    pub announced: Counter,
    /// Connections in the table.
    pub connections: Counter,
    /// Connections inserted so far.
    pub connections_inserted: Counter,
    /// Connections expired so far.
    pub connections_expired: Counter,
    /// Half-open connections given up for newcomers so far.
    pub connections_shed: Counter,
    /// Connections that an operator has ended so far.
    pub connections_killed: Counter,
    /// Packets told of to those who watch.
    pub sightings: Counter,
    /// Packets not told of: above the allowance, or nobody took them in time.
    pub sightings_lost: Counter,
    /// The generation it judges by.
    pub generation: Counter,
    ended: AtomicBool,
}

impl WorkerStatistics {
    /// Turns of the loop so far. A worker that lives turns, idle or not.
    pub fn turns(&self) -> u64 {
        self.busy_turns.get() + self.idle_turns.get()
    }

    /// Whether the worker's thread is over: at a stop, or by a panic.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// The totals of a stage.
    #[inline]
    pub fn stage(&self, stage: WorkerStage) -> &StageTotals {
        &self.stages[stage as usize]
    }

    /// How many bursts were of each size class of [`BURST_SIZES`].
    pub fn bursts(&self) -> [u64; BURST_SIZES.len()] {
        self.bursts.each_ref().map(Counter::get)
    }

    #[inline]
    pub(crate) fn burst(&self, packets: usize) {
        // 1, 2, 3 to 4, 5 to 8, ... are the classes of the power of two above.
        let class = packets.next_power_of_two().trailing_zeros() as usize;
        self.bursts[class.min(BURST_SIZES.len() - 1)].add(1);
    }
}

/// Notes the end of a worker's thread, however it ends.
pub(crate) struct Ending(pub Arc<WorkerStatistics>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_panics_has_ended() {
        let statistics = Arc::<WorkerStatistics>::default();
        let (ending, (go, wait)) = (Ending(statistics.clone()), std::sync::mpsc::channel::<()>());
        let thread = std::thread::spawn(move || {
            let _ending = ending;
            wait.recv().expect("nobody sends: it panics here");
        });
        assert!(!statistics.has_ended());
        drop(go);
        assert!(thread.join().is_err());
        assert!(statistics.has_ended());
    }

    #[test]
    fn bursts_fall_into_their_class() {
        let statistics = WorkerStatistics::default();
        for n in 1..=32 {
            statistics.burst(n);
        }
        assert_eq!(statistics.bursts(), [1, 1, 2, 4, 8, 16]);
    }

    #[test]
    fn stages_are_in_order() {
        for (i, stage) in WorkerStage::ALL.into_iter().enumerate() {
            assert_eq!(stage as usize, i);
        }
    }
}
