//! What workers are to tell of, and the accounts that they are given for it.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};
use engine::conntrack::TableConfig;

use crate::mailbox::Command;

/// How long workers may take to tell all that they have not told yet.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(2);

/// What workers are to tell of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Attention {
    /// Nothing.
    Nothing,
    /// Packets that rules let pass, up to an allowance.
    Permitted,
    /// All packets; those of a connection together, once a second or so.
    Everything,
}

/// [`Attention`] as workers read it.
#[derive(Clone, Debug)]
pub(crate) struct Level(Arc<AtomicU8>);

impl Level {
    pub fn new() -> Level {
        Level(Arc::new(AtomicU8::new(Attention::Nothing as u8)))
    }

    #[inline]
    pub fn get(&self) -> Attention {
        match self.0.load(Ordering::Relaxed) {
            0 => Attention::Nothing,
            1 => Attention::Permitted,
            _ => Attention::Everything,
        }
    }
}

/// The switch of [`Attention`], shared with the workers.
#[derive(Clone)]
pub struct AttentionSwitch {
    level: Level,
    table: TableConfig,
    workers: Vec<Sender<Command>>,
    /// Whoever changes it: one at a time.
    change: Arc<Mutex<()>>,
}

impl AttentionSwitch {
    pub(crate) fn new(level: Level, table: TableConfig, workers: Vec<Sender<Command>>) -> AttentionSwitch {
        AttentionSwitch { level, table, workers, change: Arc::default() }
    }

    /// From now on what `wanted` says, which is asked when nobody else changes it. Workers
    /// that shall tell of everything are given accounts for their connections, 32 bytes for
    /// each place of their tables; until these come they tell of each packet apart.
    pub fn set(&self, wanted: impl FnOnce() -> Attention) {
        let _changing = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, now) = (self.level.get(), wanted());
        self.level.0.store(now as u8, Ordering::Relaxed);
        match (before == Attention::Everything, now == Attention::Everything) {
            (false, true) => {
                for worker in &self.workers {
                    let accounts = self.table.accounts(dpdk::advise_huge_pages);
                    drop(worker.send(Command::KeepAccounts(Box::new(accounts))));
                }
            }
            (true, false) => {
                let (back, returned) = bounded(self.workers.len());
                for worker in &self.workers {
                    drop(worker.send(Command::CloseAccounts(back.clone())));
                }
                drop(back);
                let deadline = Instant::now() + SETTLE_TIMEOUT;
                // Freed here and not by a worker, unless it is later than that.
                while returned.recv_deadline(deadline).is_ok() {}
            }
            (true, true) | (false, false) => {}
        }
    }

    /// Has workers tell what their connections have carried so far, and waits until whoever
    /// takes sightings has taken that, two seconds at most.
    pub fn settle(&self) {
        let (mark, taken) = bounded(self.workers.len());
        for worker in &self.workers {
            drop(worker.send(Command::TellAccounts(mark.clone())));
        }
        drop(mark);
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        while taken.recv_deadline(deadline).is_ok() {}
    }
}
