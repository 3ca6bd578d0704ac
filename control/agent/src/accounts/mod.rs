//! Accounts of what passes: rules, untracked flows, top talkers, flow logs.
//!
//! Workers tell of packets; a thread of its own works that off and keeps the
//! accounts, so that neither the packet path nor the control thread does. What
//! comes faster than it can be worked off is lost to the accounts, and counted.

mod books;
mod rules;
mod top;
mod tuple;
mod untracked;

pub use books::Book;
pub use rules::RuleCount;
pub use top::{Talker, TopAnswer};
pub use tuple::Tuple;
pub use untracked::UntrackedFlow;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use engine::ids::VpcIndex;
use engine::pipeline::{Fate, PassClass};
use policy::{Id, InterfaceNames, Rulebook};
use worker::{Attention, AttentionSwitch, Datapath, Sighting, Sightings, WorkerStatistics};

use crate::flow_log::FlowLog;
use books::Books;
use rules::RuleCounts;
use top::Tops;
use untracked::UntrackedFlows;

/// How often old accounts are closed where nothing comes.
const PAUSE: Duration = Duration::from_millis(100);

/// The names behind the numbers of one generation.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Interfaces.
    pub interfaces: InterfaceNames,
    /// VPCs.
    pub vpcs: HashMap<VpcIndex, Id>,
}

/// All accounts, shared by the thread that keeps them and those who ask.
#[derive(Clone)]
pub struct Accounts(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    attention: AttentionSwitch,
    workers: Vec<Arc<WorkerStatistics>>,
    counters: AccountCounters,
}

/// What is counted of the accounts themselves.
#[derive(Debug, Default)]
pub struct AccountCounters {
    /// Packets that rules let pass, of which the rules could not be told: of a
    /// generation that is forgotten.
    pub unattributed: AtomicU64,
    /// Untracked flows not listed for want of room.
    pub untracked_refused: AtomicU64,
}

#[derive(Default)]
struct State {
    books: Books,
    rules: RuleCounts,
    untracked: UntrackedFlows,
    tops: Tops,
    flow_log: Option<FlowLog>,
}

impl Accounts {
    /// Empty ones, kept from now on by a thread that ends with the workers.
    pub fn keep(
        datapath: &Datapath,
        flow_log: Option<FlowLog>,
    ) -> std::io::Result<(Accounts, JoinHandle<()>)> {
        let (sightings, attention) = (datapath.sightings(), datapath.attention().clone());
        let workers = datapath.workers().iter().map(|worker| worker.statistics.clone()).collect();
        let state = Mutex::new(State { flow_log, ..State::default() });
        let accounts =
            Accounts(Arc::new(Shared { state, attention, workers, counters: AccountCounters::default() }));
        accounts.attend();
        let keeper = accounts.clone();
        let thread =
            std::thread::Builder::new().name("accounts".to_string()).spawn(move || keeper.run(&sightings))?;
        Ok((accounts, thread))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is counted of the accounts themselves.
    pub fn counters(&self) -> &AccountCounters {
        &self.0.counters
    }

    /// A policy that workers judge by from now on.
    pub fn published(&self, generation: u64, book: Rulebook, names: Names) {
        let mut state = self.state();
        let State { books, rules, .. } = &mut *state;
        if let Some(before) = books.newest() {
            rules.keep_those_of(before.policy(), book.policy());
        }
        books.add(generation, book, names);
    }

    /// How often each rule has let something pass, by the rule's id.
    pub fn rules(&self) -> HashMap<Id, RuleCount> {
        self.state().rules.counts().clone()
    }

    /// Untracked flows of the last minute.
    pub fn untracked(&self) -> Vec<UntrackedFlow> {
        self.state().untracked.list(Instant::now())
    }

    /// Begins to measure who sends most. Takes as long as workers take to tell what was before.
    pub fn begin_top(&self) -> Result<u64, &'static str> {
        self.0.attention.settle();
        let id = self.state().tops.begin(Instant::now())?;
        self.attend();
        Ok(id)
    }

    /// Ends a measurement, with what it found.
    pub fn end_top(&self, id: u64) -> Option<TopAnswer> {
        self.0.attention.settle();
        let answer = self.state().tops.end(id, Instant::now());
        self.attend();
        answer
    }

    /// Asks the workers for as much as the accounts need.
    fn attend(&self) {
        self.0.attention.set(|| {
            let state = self.state();
            let everything = state.flow_log.is_some() || !state.tops.is_empty();
            if everything { Attention::Everything } else { Attention::Permitted }
        });
    }

    /// Counters of the flow log, where there is one.
    pub fn flow_log<R>(&self, of: impl FnOnce(&FlowLog) -> R) -> Option<R> {
        self.state().flow_log.as_ref().map(of)
    }

    fn run(&self, sightings: &Receiver<Sightings>) {
        loop {
            match sightings.recv_timeout(PAUSE) {
                Ok(message) => {
                    self.work_off(&message);
                    if let Some(mark) = message.mark {
                        // Who has asked for it may have given up waiting.
                        mark.send(()).ok();
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let mut state = self.state();
            let now = Instant::now();
            state.untracked.close(now);
            let is_over = state.tops.abandon(now);
            let State { books, flow_log, .. } = &mut *state;
            if let Some(log) = flow_log {
                log.write_what_is_due(books.newest(), self.lost());
            }
            drop(state);
            if is_over {
                self.attend();
            }
        }
        let mut state = self.state();
        if let Some(mut log) = state.flow_log.take() {
            log.close(state.books.newest(), self.lost(), SystemTime::now());
        }
    }

    /// Packets that workers could not tell of.
    pub fn lost(&self) -> u64 {
        self.0.workers.iter().map(|worker| worker.sightings_lost.get()).sum()
    }

    fn work_off(&self, message: &Sightings) {
        let counters = &self.0.counters;
        let now = Instant::now();
        let mut state = self.state();
        let State { books, rules, untracked, tops, flow_log } = &mut *state;
        if books.of(message.generation).is_none() {
            let permitted = message.list.iter().filter(|s| is_permitted(s)).count() as u64;
            counters.unattributed.fetch_add(permitted, Ordering::Relaxed);
            return;
        }
        for sighting in &message.list {
            let tuple = Tuple::of_ip(&sighting.ip);
            let ends = [sighting.sender, sighting.receiver];
            let Some(book) = books.knowing(message.generation, ends) else { continue };
            tops.note(&tuple, sighting, book);
            if let Some(log) = flow_log {
                log.note(&tuple, sighting, book);
            }
            if is_permitted(sighting) {
                rules.note(&tuple, sighting, book);
                if sighting.fate == Fate::Passed(PassClass::Untracked)
                    && !untracked.note(&tuple, sighting, book, now)
                {
                    counters.untracked_refused.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

fn is_permitted(sighting: &Sighting) -> bool {
    matches!(sighting.fate, Fate::Passed(PassClass::NewTracked | PassClass::Untracked))
}

#[cfg(test)]
pub(crate) mod tests;
