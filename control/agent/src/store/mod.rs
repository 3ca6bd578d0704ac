//! The store: every policy that was put into force, the last ones kept, and the
//! ports that were added and removed.

mod damage;
mod pack;
mod ports;
mod saving;
mod schema;

pub use ports::StoredPort;
pub use saving::Saving;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Error, Result};
use rusqlite::{Connection, ErrorCode, params};

use damage::Fingerprint;
use pack::unpack;
use saving::{Chain, Saved};

/// Pages that a save gives back to the file system where there are free ones.
const VACUUM_PAGES: u32 = 256;

/// Bytes that the write-ahead log may keep when it is empty.
const LOG_BYTES: u32 = 4 << 20;

/// A policy as it was stored.
pub struct Stored {
    /// Its generation.
    pub generation: u64,
    /// The document.
    pub document: String,
}

/// A policy to be stored, and where it comes from.
#[derive(Clone, Copy, Debug)]
pub struct Record<'r> {
    /// Its generation.
    pub generation: u64,
    /// The document, or what it has that the generation before has not.
    pub document: &'r str,
    /// Whether it is the latter ([`Saving::takes_changes`]).
    pub is_change: bool,
    /// What made it: `push`, the name of an action, `rollback to N`.
    pub change: &'r str,
    /// Who did.
    pub uid: Option<u32>,
    /// Groups, rules and interfaces.
    pub counts: [usize; 3],
}

/// A generation, without its document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub generation: u64,
    /// When it was put into force: UTC, as in RFC 3339.
    pub time: String,
    /// What made it.
    pub change: String,
    /// Who did.
    pub uid: Option<u32>,
    /// Groups, rules and interfaces; not known of what an older version stored.
    pub counts: [Option<u64>; 3],
    /// Bytes of its document, or of what changed in it.
    pub bytes: u64,
}

/// Why a policy is not stored.
#[derive(Debug)]
pub enum SaveError {
    /// It may be the next time: the disk is full, say.
    Failed(Error),
    /// The file is not what it was: damaged, replaced or gone.
    Damaged(Error),
}

/// The open store.
pub struct Store {
    db: Connection,
    path: PathBuf,
    kept: usize,
    /// The file as this process has left it, and the newest generation in it.
    left: Fingerprint,
    newest: Option<Entry>,
    /// Generations since the last one of which all is stored, and the bytes of
    /// these and of that one.
    chain: Chain,
    /// Generations that are stored whole, the oldest first, which is the oldest that is there.
    wholes: VecDeque<u64>,
    /// The ports in it.
    ports: Vec<StoredPort>,
    /// What was wrong with a file that has been put aside, and how often that was.
    fault: Option<String>,
    faults: u64,
}

impl Store {
    /// Opens the store, or makes it. The last `kept` generations are kept. A
    /// damaged file is put aside, under a name that says so, and a new one made.
    ///
    /// # Errors
    /// The place cannot be written to, another process uses the store, or it is
    /// of a newer version. It is left alone then.
    pub fn open(path: &Path, kept: usize) -> Result<Store> {
        damage::finish_replacing(path)?;
        match Store::try_open(path, kept) {
            Err(error) if is_damage(&error) => {
                let mut store = Store::replace(path, kept, &error, None, &[])?;
                store.faults = 1;
                Ok(store)
            }
            other => other,
        }
    }

    /// Puts a damaged file aside and makes a new one, with this policy if there is
    /// one, and these ports. The new one is whole before the old one goes: whenever this ends, there
    /// is one of both.
    fn replace(
        path: &Path,
        kept: usize,
        error: &Error,
        running: Option<&Record<'_>>,
        ports: &[StoredPort],
    ) -> Result<Store> {
        let next = damage::next(path);
        damage::remove(&next);
        let mut fresh = Store::try_open(&next, kept)?;
        if let Some(record) = running {
            fresh.insert(|saving| saving.add(record))?;
        }
        fresh.replace_ports(ports.to_vec())?;
        // Closed, it is one file.
        drop(fresh);
        let aside = damage::put_aside(path)?;
        damage::finish_replacing(path)?;
        let fault = match aside {
            Some(aside) => format!("{error:#}; it is kept as {}", aside.display()),
            None => format!("{error:#}"),
        };
        tracing::error!("{fault}; a new one is made");
        let mut store = Store::try_open(path, kept)?;
        store.fault = Some(fault);
        Ok(store)
    }

    fn try_open(path: &Path, kept: usize) -> Result<Store> {
        let what = || format!("the store {}", path.display());
        if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot make the folder of {}", what()))?;
        }
        let mut db = Connection::open(path).with_context(|| format!("cannot open {}", what()))?;
        let set_up = |db: &mut Connection| -> Result<()> {
            // One daemon at a time: generations are counted here.
            db.busy_timeout(Duration::ZERO)?;
            db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
            schema::refuse_newer(db)?;
            // Takes effect in a new file only.
            db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
            // A policy that was answered for survives a power cut.
            db.pragma_update(None, "journal_mode", "WAL")?;
            db.pragma_update(None, "synchronous", "FULL")?;
            db.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
            let sound: String = db.pragma_query_value(None, "quick_check", |row| row.get(0))?;
            if sound != "ok" {
                return Err(Error::new(damage::Damaged(sound)));
            }
            schema::bring_up(db)
        };
        match set_up(&mut db) {
            Ok(()) => {}
            Err(error) if is_busy(&error) => {
                return Err(error.context(format!("{} is in use by another process", what())));
            }
            Err(error) => return Err(error.context(format!("{} cannot be used", what()))),
        }
        let left = Fingerprint::of(path);
        let mut store = Store {
            db,
            path: path.to_path_buf(),
            kept,
            left,
            newest: None,
            chain: Chain::default(),
            wholes: VecDeque::new(),
            ports: vec![],
            fault: None,
            faults: 0,
        };
        store.last().with_context(|| format!("{} cannot be used", what()))?;
        store.newest = store.history(1)?.pop();
        store.chain = store.read_chain().with_context(|| format!("{} cannot be used", what()))?;
        store.wholes = store.read_wholes().with_context(|| format!("{} cannot be used", what()))?;
        store.ports = ports::read(&store.db).with_context(|| format!("{} cannot be used", what()))?;
        Ok(store)
    }

    /// What was wrong with a store that has been put aside.
    pub fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// How often that was.
    pub fn faults(&self) -> u64 {
        self.faults
    }

    /// The last policy.
    pub fn last(&self) -> Result<Option<Stored>> {
        match self.range()? {
            Some((_, last)) => self.document(last),
            None => Ok(None),
        }
    }

    /// The policy of a generation, if it is kept.
    pub fn document(&self, generation: u64) -> Result<Option<Stored>> {
        if self.range()?.is_none_or(|(first, last)| !(first..=last).contains(&generation)) {
            return Ok(None);
        }
        let mut query = self.db.prepare_cached(
            "SELECT generation, document, is_change FROM generations
             WHERE generation <= ?1 AND generation >=
                 (SELECT max(generation) FROM generations WHERE generation <= ?1 AND NOT is_change)
             ORDER BY generation",
        )?;
        let read = |row: &rusqlite::Row<'_>| -> rusqlite::Result<(u64, Vec<u8>, bool)> {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        };
        let parts = query.query_map(params![generation as i64], read)?;
        let parts = parts.collect::<rusqlite::Result<Vec<_>>>().context("cannot read a policy")?;
        let damaged = |number: u64, error: String| {
            Error::new(damage::Damaged(format!("generation {number} cannot be unpacked: {error}")))
        };
        let mut texts = Vec::with_capacity(parts.len());
        for (number, packed, _) in &parts {
            texts.push(unpack(packed).map_err(|error| damaged(*number, error.to_string()))?);
        }
        match (&parts[..], &texts[..]) {
            ([], _) => Ok(None),
            ([(number, ..)], [document]) => {
                let document = document.clone();
                Ok((*number == generation).then_some(Stored { generation, document }))
            }
            _ => {
                let mut values = Vec::with_capacity(texts.len());
                for (text, (number, ..)) in texts.iter().zip(&parts) {
                    values.push(serde_json::from_str(text).map_err(|e| damaged(*number, e.to_string()))?);
                }
                let changes = values.split_off(1);
                let whole = values.pop().unwrap_or_default();
                let document = policy::with_changes(whole, changes).to_string();
                Ok(Some(Stored { generation, document }))
            }
        }
    }

    fn read_chain(&self) -> Result<Chain> {
        let read = |row: &rusqlite::Row<'_>| -> rusqlite::Result<Chain> {
            Ok(Chain { changes: row.get(0)?, bytes: row.get(1)?, whole: row.get(2)? })
        };
        let query = "SELECT count(*) FILTER (WHERE is_change), total(bytes) FILTER (WHERE is_change),
                 total(bytes) FILTER (WHERE NOT is_change)
             FROM generations
             WHERE generation >= (SELECT max(generation) FROM generations WHERE NOT is_change)";
        Ok(self.db.query_row(query, [], read)?)
    }

    fn read_wholes(&self) -> Result<VecDeque<u64>> {
        let mut query =
            self.db.prepare("SELECT generation FROM generations WHERE NOT is_change ORDER BY generation")?;
        Ok(query.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
    }

    /// The first and last generation that are kept.
    pub fn range(&self) -> Result<Option<(u64, u64)>> {
        let read = |row: &rusqlite::Row<'_>| -> rusqlite::Result<(Option<u64>, Option<u64>)> {
            Ok((row.get(0)?, row.get(1)?))
        };
        let (first, last) =
            self.db.query_row("SELECT min(generation), max(generation) FROM generations", [], read)?;
        // What older ones are still there for is told by those that are kept.
        let kept = |last: u64| (last + 1).saturating_sub(self.kept as u64);
        Ok(first.zip(last).map(|(first, last)| (first.max(kept(last)), last)))
    }

    /// The generations that are kept, the last one first, at most so many.
    pub fn history(&self, limit: usize) -> Result<Vec<Entry>> {
        let mut query = self.db.prepare_cached(
            "SELECT generation, pushed_at, change, pushed_by_uid, groups, rules, interfaces, bytes
             FROM generations ORDER BY generation DESC LIMIT ?1",
        )?;
        let limit = limit.min(self.kept);
        let entry = |row: &rusqlite::Row<'_>| {
            Ok(Entry {
                generation: row.get(0)?,
                time: row.get(1)?,
                change: row.get(2)?,
                uid: row.get(3)?,
                counts: [row.get(4)?, row.get(5)?, row.get(6)?],
                bytes: row.get(7)?,
            })
        };
        let entries = query.query_map(params![limit as i64], entry)?;
        entries.collect::<rusqlite::Result<_>>().context("cannot read the history")
    }

    /// Stores the generations that `add` has for it, all or none, durably, in one
    /// transaction, and forgets the oldest ones.
    ///
    /// # Errors
    /// [`SaveError::Damaged`] asks for [`Store::begin_anew`].
    pub fn save(&mut self, add: impl FnOnce(&mut Saving<'_>) -> Result<()>) -> Result<(), SaveError> {
        let sort = |error: Error| {
            if is_damage(&error) { SaveError::Damaged(error) } else { SaveError::Failed(error) }
        };
        if Fingerprint::of(&self.path) != self.left {
            self.look_again().map_err(sort)?;
        }
        let saved = self.insert(add);
        self.left = Fingerprint::of(&self.path);
        saved.map_err(sort)
    }

    /// Somebody has touched the file: it must still be the one that was left.
    fn look_again(&mut self) -> Result<()> {
        if !self.path.exists() {
            return Err(Error::new(damage::Damaged(format!("the store {} is gone", self.path.display()))));
        }
        // Closed first, since it is locked; closing may write to it.
        let found = damage::Copy::of(&self.path)?;
        self.db = Connection::open_in_memory()?;
        let again = match Store::try_open(&self.path, self.kept) {
            Ok(again) => again,
            Err(error) => {
                found.put_back(&self.path)?;
                return Err(error);
            }
        };
        if again.newest != self.newest {
            let message = format!("the store {} has been replaced by another", self.path.display());
            return Err(Error::new(damage::Damaged(message)));
        }
        tracing::warn!("the store {} has been touched by somebody else, and is sound", self.path.display());
        (self.db, self.left, self.chain, self.wholes) = (again.db, again.left, again.chain, again.wholes);
        Ok(())
    }

    /// Puts the file aside and makes a new one that holds the policy in force.
    pub fn begin_anew(&mut self, error: &Error, running: Option<&Record<'_>>) -> Result<()> {
        self.db = Connection::open_in_memory()?;
        let faults = self.faults + 1;
        *self = Store::replace(&self.path, self.kept, error, running, &self.ports)?;
        self.faults = faults;
        Ok(())
    }

    fn insert(&mut self, add: impl FnOnce(&mut Saving<'_>) -> Result<()>) -> Result<()> {
        let mut saving = Saving::begin(&mut self.db, self.chain, self.newest.clone())?;
        add(&mut saving)?;
        let Saved { chain, newest, has_deleted } = saving.commit(self.kept, &mut self.wholes)?;
        (self.chain, self.newest) = (chain, newest);
        if has_deleted {
            // The policies are stored; that the file could not shrink is no reason to say otherwise.
            drop(self.db.pragma(None, "incremental_vacuum", VACUUM_PAGES, |_| Ok(())));
        }
        Ok(())
    }
}

fn sqlite_code(error: &Error) -> Option<ErrorCode> {
    error.downcast_ref::<rusqlite::Error>().and_then(rusqlite::Error::sqlite_error_code)
}

fn is_busy(error: &Error) -> bool {
    sqlite_code(error) == Some(ErrorCode::DatabaseBusy)
}

fn is_damage(error: &Error) -> bool {
    error.downcast_ref::<damage::Damaged>().is_some()
        || matches!(sqlite_code(error), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

#[cfg(test)]
mod tests;
