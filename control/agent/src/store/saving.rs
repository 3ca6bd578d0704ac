use std::collections::VecDeque;

use anyhow::Result;
use rusqlite::{Connection, Transaction, params};

use super::pack::pack;
use super::{Entry, Record};

/// Generations on their way to the disk: one after the other, in one transaction.
pub struct Saving<'s> {
    transaction: Transaction<'s>,
    /// Now, as in RFC 3339.
    time: String,
    chain: Chain,
    newest: Option<Entry>,
    /// Those that are stored whole.
    added: Vec<u64>,
}

/// What a store is after a transaction.
pub(super) struct Saved {
    pub chain: Chain,
    pub newest: Option<Entry>,
    /// Whether there are pages to be given back.
    pub has_deleted: bool,
}

impl<'s> Saving<'s> {
    /// Behind what there is.
    pub(super) fn begin(db: &'s mut Connection, chain: Chain, newest: Option<Entry>) -> Result<Saving<'s>> {
        let transaction = db.transaction()?;
        let time = transaction
            .prepare_cached("SELECT strftime('%Y-%m-%dT%H:%M:%SZ', 'now')")?
            .query_row([], |row| row.get(0))?;
        Ok(Saving { transaction, time, chain, newest, added: vec![] })
    }

    /// Whether the next generation may be told by what it has that the last one
    /// has not: there is a last one, and not too many of these follow each other.
    pub fn takes_changes(&self, generation: u64) -> bool {
        self.newest.as_ref().is_some_and(|newest| newest.generation + 1 == generation)
            && self.chain.may_grow()
    }

    /// Adds a generation.
    ///
    /// # Errors
    /// It is there already, or cannot be written: nothing of all of them is stored then.
    pub fn add(&mut self, record: &Record<'_>) -> Result<()> {
        let Record { generation, document, is_change, change, uid, counts } = *record;
        let counts = counts.map(|count| count as u64);
        let bytes = document.len() as u64;
        let mut insert = self.transaction.prepare_cached(
            "INSERT INTO generations
                 (generation, document, bytes, pushed_at, pushed_by_uid, change, groups, rules, interfaces,
                  is_change)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?;
        insert.execute(params![
            generation,
            pack(document)?,
            bytes,
            self.time,
            uid,
            change,
            counts[0],
            counts[1],
            counts[2],
            is_change
        ])?;
        self.chain = self.chain.next(is_change, bytes);
        if !is_change {
            self.added.push(generation);
        }
        let (time, change) = (self.time.clone(), change.to_string());
        self.newest = Some(Entry { generation, time, change, uid, counts: counts.map(Some), bytes });
        Ok(())
    }

    /// Has all of it on the disk, and all but the last so many generations gone; of which those
    /// stay that tell what is kept.
    pub(super) fn commit(self, kept: usize, wholes: &mut VecDeque<u64>) -> Result<Saved> {
        let Saving { transaction, chain, newest, added, .. } = self;
        let next = newest.as_ref().map_or(0, |newest| newest.generation + 1);
        let oldest = next.saturating_sub(kept as u64);
        let mut all = wholes.iter().chain(&added).copied();
        let first = all.clone().take_while(|whole| *whole <= oldest).last();
        // Most of the time none goes.
        let gone = first.filter(|first| all.next() != Some(*first));
        if let Some(first) = gone {
            transaction
                .prepare_cached("DELETE FROM generations WHERE generation < ?1")?
                .execute(params![first])?;
        }
        transaction.commit()?;
        wholes.extend(added);
        while wholes.front().is_some_and(|whole| Some(*whole) < first) {
            wholes.pop_front();
        }
        Ok(Saved { chain, newest, has_deleted: gone.is_some() })
    }
}

/// Generations that are told by what changed, behind one that is stored whole.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Chain {
    pub changes: u64,
    pub bytes: f64,
    pub whole: f64,
}

impl Chain {
    /// The most: they are read one after the other.
    const MOST: u64 = 8192;

    /// Bytes that changes may take beyond what the whole takes.
    const SPARE: f64 = 262_144.0;

    fn may_grow(&self) -> bool {
        self.whole > 0.0 && self.changes < Chain::MOST && self.bytes <= self.whole + Chain::SPARE
    }

    fn next(self, is_change: bool, bytes: u64) -> Chain {
        match is_change {
            true => Chain { changes: self.changes + 1, bytes: self.bytes + bytes as f64, ..self },
            false => Chain { whole: bytes as f64, ..Chain::default() },
        }
    }
}
