//! The control thread's side: starting, publishing, asking, stopping.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use dpdk::{Eal, Mempool};
use engine::conntrack::{Entry, TableConfig};
use engine::ids::WorkerIndex;
use engine::pipeline::{Counters, Pipeline, PipelineConfig};
use engine::snapshot::Snapshot;
use engine::time::Tick;
use rcu::Publisher;

use crate::DatapathConfig;
use crate::announce::Announcer;
use crate::attention::{AttentionSwitch, Level};
use crate::clock::{Patience, TickSource};
use crate::egress::Egress;
use crate::mailbox::{Command, Connections, Filter, Mailbox};
use crate::numa::{Pools, at_node, node_of};
use crate::observer::{Observer, Sightings, TapRequest};
use crate::ports::Ports;
use crate::statistics::{Ending, WorkerStatistics};
use crate::wiring::wire;
use crate::worker::Worker;

/// How long a worker may take to answer the control thread.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Messages of sightings that wait to be taken; about four megabytes.
const FEED: usize = 1024;

/// The most workers.
const MAX_WORKERS: usize = 64;

/// Why the workers could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There are none, or too many.
    #[error("{0} workers were asked for: 1 to {MAX_WORKERS} are possible")]
    Workers(usize),
    /// DPDK refused.
    #[error(transparent)]
    Dpdk(#[from] dpdk::Error),
    /// A worker could not be bound to its core.
    #[error(
        "worker {worker} cannot run on CPU {cpu}: this machine has no such CPU, or it is not ours to use"
    )]
    Core {
        /// The worker.
        worker: usize,
        /// The CPU that was asked for.
        cpu: usize,
    },
    /// A thread could not be made.
    #[error("the thread of worker {worker} cannot be started: {reason}")]
    Thread {
        /// The worker.
        worker: usize,
        /// The system's reason.
        reason: String,
    },
}

/// CPUs that an affinity can name (sched_setaffinity(2)).
const CPU_SETSIZE: usize = 1024;

/// Not every worker has taken up the new policy in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("workers {workers:?} do not enforce generation {generation} after {waited:?}")]
pub struct NotEnforced {
    /// The generation that was waited for.
    pub generation: u64,
    /// Who still judges by an older one.
    pub workers: Vec<usize>,
    /// How long that was.
    pub waited: Duration,
}

/// A worker as the control thread sees it.
#[derive(Clone, Debug)]
pub struct WorkerView {
    /// The CPU it runs on.
    pub cpu: usize,
    /// What its pipeline counts.
    pub counters: Arc<Counters>,
    /// What else it counts.
    pub statistics: Arc<WorkerStatistics>,
    /// Connections it has room for.
    pub capacity: usize,
    /// The NUMA node of the CPU, if DPDK has no memory there for the packets that it receives.
    pub without_memory: Option<u32>,
}

pub(crate) struct Running {
    view: WorkerView,
    pub(crate) commands: Sender<Command>,
    thread: JoinHandle<()>,
}

/// The running workers and their ports. Dropped, it stops them.
pub struct Datapath {
    pub(crate) workers: Vec<Running>,
    views: Vec<WorkerView>,
    pub(crate) ports: Ports,
    publisher: Publisher<Snapshot>,
    /// Versions not yet known to be enforced, each with its generation.
    published: VecDeque<(u64, u64)>,
    enforced: u64,
    stop: Arc<AtomicBool>,
    attention: AttentionSwitch,
    sightings: Receiver<Sightings>,
    ticks: TickSource,
}

impl Datapath {
    /// Starts a worker for each core, judging by `initial` from the first packet
    /// on. They have no ports yet: [`Datapath::plug`] brings them.
    ///
    /// # Errors
    /// [`StartError`]; whatever had been started is stopped again.
    pub fn start(
        eal: &Eal,
        pool: &Mempool,
        config: &DatapathConfig,
        initial: Snapshot,
    ) -> Result<Datapath, StartError> {
        let count = config.cores.len();
        if count == 0 || count > MAX_WORKERS {
            return Err(StartError::Workers(count));
        }
        // core_affinity panics beyond the set that the kernel's call takes.
        if let Some((worker, &cpu)) = config.cores.iter().enumerate().find(|(_, cpu)| **cpu >= CPU_SETSIZE) {
            return Err(StartError::Core { worker, cpu });
        }
        let enforced = initial.generation;
        let (publisher, readers) = rcu::channel(Box::new(initial), count);
        let wires = wire(eal, config)?;
        let nodes: Vec<Option<u32>> = config.cores.iter().map(|cpu| node_of(*cpu)).collect();
        let pools = Pools::new(pool, &nodes, |node| at_node(pool, node));
        let stop = Arc::new(AtomicBool::new(false));
        let ticks = TickSource::new();
        let attention = Level::new();
        let (feed, sightings) = bounded(FEED);
        let table = TableConfig { capacity: config.connections_per_worker };
        let mailboxes: Vec<_> = (0..count).map(|_| unbounded()).collect();
        let senders = mailboxes.iter().map(|(sender, _)| sender.clone()).collect();
        let mut datapath = Datapath {
            workers: Vec::with_capacity(count),
            views: Vec::new(),
            publisher,
            published: VecDeque::new(),
            enforced,
            stop: stop.clone(),
            ports: Ports::new(eal.clone(), pools.clone(), config.clone()),
            attention: AttentionSwitch::new(attention.clone(), table, senders),
            sightings,
            ticks,
        };
        let (report, reports) = bounded(count);
        for (index, ((reader, wires), (commands, received))) in
            readers.into_iter().zip(wires).zip(mailboxes).enumerate()
        {
            let cpu = config.cores[index];
            let view = WorkerView {
                cpu,
                counters: Arc::new(Counters::new(config.interface_slots)),
                statistics: Arc::default(),
                capacity: table.capacity,
                without_memory: nodes[index].filter(|_| pools.is_far(nodes[index])),
            };
            let (eal, pool, report, stop) =
                (eal.clone(), pools.at(nodes[index]).clone(), report.clone(), stop.clone());
            let (counters, statistics, idle) = (view.counters.clone(), view.statistics.clone(), config.idle);
            let worker = WorkerIndex(index as u8);
            let observer = Observer::new(worker, statistics.clone(), attention.clone(), feed.clone());
            let pipeline = PipelineConfig {
                worker,
                workers: count as u8,
                table,
                seed: config.seed,
                interface_slots: config.interface_slots,
                counters: counters.clone(),
                advise: dpdk::advise_huge_pages,
            };
            let ending = Ending(statistics.clone());
            let body = move || {
                let _ending = ending;
                // EAL has pinned the thread that we were made by.
                if !core_affinity::set_for_current(core_affinity::CoreId { id: cpu }) {
                    drop(report.send(Err(StartError::Core { worker: index, cpu })));
                    return;
                }
                let _registration = match eal.register_thread() {
                    Ok(registration) => registration,
                    Err(error) => return drop(report.send(Err(error.into()))),
                };
                let workers = wires.peers.len();
                let worker = Worker {
                    // On this thread, so that its memory is near its core.
                    pipeline: Pipeline::new(pipeline),
                    egress: Egress::new(pool, counters.clone(), statistics.clone(), workers),
                    observer,
                    mailbox: Mailbox::new(received),
                    announcer: Announcer::new(),
                    snapshots: reader,
                    statistics,
                    wires,
                    ticks,
                    patience: Patience::new(),
                    idle,
                    stop,
                };
                drop(report.send(Ok(())));
                worker.run();
            };
            let thread = std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(body)
                .map_err(|e| StartError::Thread { worker: index, reason: e.to_string() })?;
            datapath.views.push(view.clone());
            datapath.workers.push(Running { view, commands, thread });
        }
        drop(report);
        // The threads keep their ends of the channel: as many answers as threads.
        for result in reports.iter().take(count) {
            result?;
        }
        Ok(datapath)
    }

    /// Gives the workers a new snapshot to judge by; each takes it up between
    /// two turns. Frees snapshots that nobody uses any more.
    ///
    /// # Panics
    /// If its generation is not later than that of the one before: connections note what
    /// rules of a generation have refused, and would hold it against other rules.
    pub fn publish(&mut self, snapshot: Snapshot) {
        let generation = snapshot.generation;
        let before = self.published.back().map_or(self.enforced, |(_, generation)| *generation);
        assert!(generation > before, "generation {generation} comes after {before}");
        let version = self.publisher.publish(Box::new(snapshot));
        self.published.push_back((version, generation));
        self.reclaim();
    }

    /// Frees what nobody uses any more: snapshots, and ports that a worker gave back late.
    pub fn reclaim(&mut self) {
        self.publisher.reclaim();
        self.ports.reclaim();
    }

    /// The generation by which every worker judges, or a later one.
    pub fn enforced(&mut self) -> u64 {
        let version = self.publisher.enforced();
        while let Some(&(_, generation)) = self.published.front().filter(|(v, _)| *v <= version) {
            self.enforced = generation;
            self.published.pop_front();
        }
        self.enforced
    }

    /// Waits until every worker judges by what was last published.
    ///
    /// # Errors
    /// [`NotEnforced`] names those that do not in time. The policy stays published.
    pub fn wait_enforced(&mut self, timeout: Duration) -> Result<Duration, NotEnforced> {
        let start = Instant::now();
        let Some(&(wanted, generation)) = self.published.back() else { return Ok(Duration::ZERO) };
        while self.publisher.enforced() < wanted {
            if start.elapsed() > timeout {
                let reached = self.publisher.reached().into_iter().enumerate();
                let late = reached.filter(|(_, v)| v.is_some_and(|v| v < wanted)).map(|(worker, _)| worker);
                return Err(NotEnforced { generation, workers: late.collect(), waited: start.elapsed() });
            }
            // A turn takes microseconds: yield first, so as not to oversleep it.
            match start.elapsed() < Duration::from_micros(200) {
                true => std::thread::yield_now(),
                false => std::thread::sleep(Duration::from_micros(50)),
            }
        }
        let waited = start.elapsed();
        self.enforced();
        self.reclaim();
        Ok(waited)
    }

    /// The workers, by index.
    pub fn workers(&self) -> &[WorkerView] {
        &self.views
    }

    /// Up to `limit` connections of each worker that the filter admits, each
    /// worker's with the tick at which it answered. Workers do a little of it
    /// in each turn. A worker that does not answer within five seconds is left out.
    pub fn connections(
        &self,
        limit: usize,
        filter: impl Fn(&Entry) -> bool + Send + Sync + 'static,
    ) -> Vec<(WorkerIndex, Tick, Vec<Entry>)> {
        let filter: Filter = Arc::new(filter);
        let ask = |worker: &Running| {
            let (reply, pieces) = unbounded();
            let command = Command::Connections { limit, filter: filter.clone(), reply };
            worker.commands.send(command).ok().map(|()| pieces)
        };
        let answers: Vec<_> = self.workers.iter().map(ask).collect();
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let collect = |(index, pieces): (usize, Option<Receiver<Connections>>)| {
            let pieces = pieces?;
            let (mut now, mut entries) = (self.now(), Vec::new());
            loop {
                match pieces.recv_deadline(deadline) {
                    Ok((then, piece)) => {
                        now = then;
                        entries.extend(piece);
                    }
                    Err(RecvTimeoutError::Disconnected) => {
                        break Some((WorkerIndex(index as u8), now, entries));
                    }
                    Err(RecvTimeoutError::Timeout) => break None,
                }
            }
        };
        answers.into_iter().enumerate().filter_map(collect).collect()
    }

    /// Has the workers forget the connections that the filter admits. Returns how
    /// many each has forgotten; one that does not answer within five seconds is
    /// left out, and goes on all the same.
    pub fn forget_connections(
        &self,
        filter: impl Fn(&Entry) -> bool + Send + Sync + 'static,
    ) -> Vec<(WorkerIndex, usize)> {
        let filter: Filter = Arc::new(filter);
        self.ask(|reply| Command::Forget { filter: filter.clone(), reply })
    }

    /// Asks all workers the same, and waits for their answers.
    fn ask<R>(&self, command: impl Fn(Sender<R>) -> Command) -> Vec<(WorkerIndex, R)> {
        let ask = |worker: &Running| {
            let (reply, answer) = bounded(1);
            worker.commands.send(command(reply)).ok().map(|()| answer)
        };
        let answers: Vec<_> = self.workers.iter().map(ask).collect();
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let collect = |(index, answer): (usize, Option<Receiver<R>>)| {
            Some((WorkerIndex(index as u8), answer?.recv_deadline(deadline).ok()?))
        };
        answers.into_iter().enumerate().filter_map(collect).collect()
    }

    /// What the workers are to tell of to whoever takes [`Datapath::sightings`].
    pub fn attention(&self) -> &AttentionSwitch {
        &self.attention
    }

    /// Where the workers tell of packets. Taken too late they are lost, and counted.
    pub fn sightings(&self) -> Receiver<Sightings> {
        self.sightings.clone()
    }

    /// Traces packets at every worker. At most [`MAX_TAPS`](crate::MAX_TAPS)
    /// traces run at a time; one more ends at once.
    pub fn trace(&self, request: impl Fn() -> TapRequest) {
        for worker in &self.workers {
            drop(worker.commands.send(Command::Tap(request())));
        }
    }

    /// The workers' time.
    pub fn now(&self) -> Tick {
        self.ticks.at(dpdk::cycles())
    }

    /// Stops the workers and closes the ports. Packets under way are freed.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Datapath {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for Running { thread, commands, view } in self.workers.drain(..) {
            drop((commands, view));
            // A worker that has panicked has said so; the others are to be stopped all the same.
            drop(thread.join());
        }
    }
}
