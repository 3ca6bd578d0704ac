//! The loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dpdk::{BURST, Burst};
use engine::ids::PortIndex;
use engine::pipeline::{Outcomes, Pipeline};
use engine::snapshot::Snapshot;
use engine::time::Tick;
use rcu::Reader;

use crate::Idle;
use crate::announce::Announcer;
use crate::clock::{Patience, Stopwatch, TickSource};
use crate::egress::Egress;
use crate::judging::{Bench, Source};
use crate::mailbox::{Desk, Mailbox};
use crate::observer::Observer;
use crate::statistics::{WorkerStage, WorkerStatistics};
use crate::wiring::{Peer, Wires};

/// Turns between two looks at the clock, the mailbox and old connections, of which each takes
/// longer than a turn in which nothing comes.
const HOUSEKEEPING_TURNS: u32 = 16;

/// Idle turns before a worker that may sleep does.
const TURNS_BEFORE_SLEEP: u32 = 256;

/// The first sleep; each that follows is twice as long.
const FIRST_SLEEP: Duration = Duration::from_micros(20);

/// One worker, on its own thread.
pub(crate) struct Worker {
    pub pipeline: Pipeline,
    pub statistics: Arc<WorkerStatistics>,
    pub snapshots: Reader<Snapshot>,
    pub egress: Egress,
    pub observer: Observer,
    pub wires: Wires,
    pub mailbox: Mailbox,
    pub announcer: Announcer,
    pub ticks: TickSource,
    pub patience: Patience,
    pub idle: Idle,
    pub stop: Arc<AtomicBool>,
}

impl Worker {
    /// Turns until told to stop, then frees what is left.
    pub fn run(mut self) {
        let mut outcomes = Outcomes::new();
        let mut now = self.ticks.at(dpdk::cycles());
        let (mut turns, mut idle_turns) = (0u32, 0u32);
        let mut start = dpdk::cycles();
        while !self.stop.load(Ordering::Relaxed) {
            let packets = self.turn(turns, now, &mut outcomes);
            turns = turns.wrapping_add(1);
            idle_turns = if packets == 0 { idle_turns.saturating_add(1) } else { 0 };
            let longest_sleep = match self.idle {
                Idle::Sleep { max } if idle_turns >= TURNS_BEFORE_SLEEP => Some(max),
                _ => None,
            };
            if longest_sleep.is_some() || turns.is_multiple_of(HOUSEKEEPING_TURNS) {
                now = self.keep_house();
            }
            if let Some(max) = longest_sleep
                && !self.mailbox.is_busy()
            {
                let doublings = (idle_turns - TURNS_BEFORE_SLEEP).min(16);
                self.wires.receive.sleep((FIRST_SLEEP * (1 << doublings)).min(max));
            }
            let statistics = &self.statistics;
            let (turns, cycles) = match packets {
                0 => (&statistics.idle_turns, &statistics.idle_cycles),
                _ => (&statistics.busy_turns, &statistics.busy_cycles),
            };
            turns.add(1);
            let end = dpdk::cycles();
            cycles.add(end.saturating_sub(start));
            start = end;
        }
        self.observer.close(&mut self.pipeline);
    }

    /// One turn: receive, judge, send. Returns how many packets came.
    fn turn(&mut self, number: u32, now: Tick, outcomes: &mut Outcomes) -> usize {
        let Worker { pipeline, statistics, snapshots, egress, observer, wires, patience, .. } = self;
        let snapshot = snapshots.pin();
        if statistics.generation.get() != snapshot.generation {
            statistics.generation.set(snapshot.generation);
        }
        let mut burst = Burst::new();
        let mut total = 0;
        let Wires { receive, peers } = wires;
        // A peer that polls as many queues as this one may have as many bursts for it.
        let peer_bursts = receive.len().max(1);
        let watch = Stopwatch::of_turn(number, statistics);
        let mut bench = Bench { pipeline, egress, observer, outcomes, watch };
        peers.iter_mut().flatten().for_each(Peer::fetch);
        receive.listen();
        for at in 0..receive.len() {
            if let Some((port, count)) = receive.receive(at, &mut burst) {
                statistics.received.add(count as u64);
                statistics.burst(count);
                bench.watch.lap(WorkerStage::Receive, count);
                bench.judge(peers, &mut burst, Source { port: Some(port), now, snapshot });
                total += count;
                if receive.takes_long_after(at) {
                    patience.begin(dpdk::cycles);
                }
            }
            if patience.is_over(dpdk::cycles) {
                bench.egress.flush(peers);
            }
        }
        for at in 0..peers.len() {
            for left in (0..peer_bursts).rev() {
                let Some(peer) = &mut peers[at] else { break };
                let count = peer.relay_in.dequeue(&mut burst);
                for packet in burst.drain() {
                    let port = PortIndex(packet.port());
                    bench.egress.relay_arrived(port, packet);
                }
                let steered = peer.take_over(&mut burst);
                if steered > 0 {
                    if left > 0 {
                        peer.fetch();
                    }
                    statistics.taken_over.add(steered as u64);
                    bench.watch.lap(WorkerStage::Receive, steered);
                    bench.judge(peers, &mut burst, Source { port: None, now, snapshot });
                }
                total += count + steered;
                if count.max(steered) < BURST {
                    break;
                }
            }
        }
        patience.end();
        if total > 0 || bench.egress.is_waiting() {
            bench.egress.flush(peers);
            bench.watch.lap(WorkerStage::Transmit, total);
        }
        total
    }

    /// Forgets a few connections, does a piece of what the control thread asked
    /// for, and tells what can be told. Returns the time.
    fn keep_house(&mut self) -> Tick {
        let mut watch = Stopwatch::start(&self.statistics);
        let cycles = dpdk::cycles();
        let now = self.ticks.at(cycles);
        self.pipeline.housekeep(now);
        self.egress.free_discarded(&mut self.pipeline);
        self.egress.exits.keep_up();
        let Worker { pipeline, observer, egress, wires, mailbox, announcer, .. } = self;
        mailbox.work(&mut Desk { pipeline, observer, egress, receive: &mut wires.receive, announcer }, now);
        if self.announcer.is_busy() {
            self.announcer.go_on(&mut self.egress, self.snapshots.pin(), cycles);
        }
        self.observer.go_on_telling(&mut self.pipeline, now);
        self.observer.flush();
        let table = self.pipeline.table();
        let seen = table.statistics();
        let levels = [
            (&self.statistics.connections, table.len() as u64),
            (&self.statistics.connections_inserted, seen.inserted),
            (&self.statistics.connections_expired, seen.expired),
            (&self.statistics.connections_shed, seen.shed),
            (&self.statistics.connections_killed, seen.killed),
        ];
        for (counter, value) in levels {
            if counter.get() != value {
                counter.set(value);
            }
        }
        watch.lap(WorkerStage::House, 0);
        now
    }
}
