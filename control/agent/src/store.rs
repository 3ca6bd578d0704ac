//! The store: every policy that was put into force, the last ones kept.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Error, Result, ensure};
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};

/// The version of the tables.
const SCHEMA: i64 = 1;

/// Generations that are kept.
const KEPT: i64 = 100;

/// A policy as it was stored.
pub struct Stored {
    /// Its generation.
    pub generation: u64,
    /// The document.
    pub document: String,
}

/// The open store.
pub struct Store(Connection);

impl Store {
    /// Opens the store, or makes it.
    pub fn open(path: &Path) -> Result<Store> {
        let what = || format!("the store {}", path.display());
        if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot make the folder of {}", what()))?;
        }
        let db = Connection::open(path).with_context(|| format!("cannot open {}", what()))?;
        let set_up = || -> Result<()> {
            // One daemon at a time: generations are counted here.
            db.busy_timeout(Duration::ZERO)?;
            db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
            // A policy that was answered for survives a power cut.
            db.pragma_update(None, "journal_mode", "WAL")?;
            db.pragma_update(None, "synchronous", "FULL")?;
            let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
            ensure!(
                version <= SCHEMA,
                "it is of a newer version ({version}) than this daemon knows ({SCHEMA})"
            );
            db.execute_batch(
                "CREATE TABLE IF NOT EXISTS policy (
                     generation INTEGER PRIMARY KEY,
                     document TEXT NOT NULL,
                     pushed_at TEXT NOT NULL,
                     pushed_by_uid INTEGER
                 ) STRICT;",
            )?;
            db.pragma_update(None, "user_version", SCHEMA)?;
            Ok(())
        };
        match set_up() {
            Ok(()) => Ok(Store(db)),
            Err(error) if is_busy(&error) => {
                Err(error.context(format!("{} is in use by another process", what())))
            }
            Err(error) => Err(error.context(format!(
                "{} cannot be used; move it away to start without a policy, or restore it from a copy",
                what()
            ))),
        }
    }

    /// The last policy.
    pub fn last(&self) -> Result<Option<Stored>> {
        let query = "SELECT generation, document FROM policy ORDER BY generation DESC LIMIT 1";
        let read = |row: &rusqlite::Row<'_>| Ok(Stored { generation: row.get(0)?, document: row.get(1)? });
        self.0.query_row(query, [], read).optional().context("cannot read the stored policy")
    }

    /// Stores a policy, durably, and forgets the oldest ones.
    pub fn save(&mut self, generation: u64, document: &str, uid: Option<u32>) -> Result<()> {
        let transaction = self.0.transaction()?;
        transaction.execute(
            "INSERT INTO policy (generation, document, pushed_at, pushed_by_uid) VALUES (?1, ?2, datetime('now'), ?3)",
            params![generation, document, uid],
        )?;
        transaction.execute(
            "DELETE FROM policy WHERE generation <= (SELECT max(generation) FROM policy) - ?1",
            params![KEPT],
        )?;
        transaction.commit()?;
        Ok(())
    }
}

fn is_busy(error: &Error) -> bool {
    let sqlite = error.downcast_ref::<rusqlite::Error>();
    sqlite.and_then(rusqlite::Error::sqlite_error_code) == Some(ErrorCode::DatabaseBusy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_policy_survives_and_the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/policy.db");
        let mut store = Store::open(&path).unwrap();
        assert!(store.last().unwrap().is_none());
        for generation in 1..=150 {
            store.save(generation, &format!("document {generation}"), Some(7)).unwrap();
        }
        assert!(store.save(150, "again", None).is_err(), "a generation is stored once");
        drop(store);
        let store = Store::open(&path).unwrap();
        let last = store.last().unwrap().unwrap();
        assert_eq!((last.generation, last.document.as_str()), (150, "document 150"));
        let kept: i64 = store.0.query_row("SELECT count(*) FROM policy", [], |r| r.get(0)).unwrap();
        assert_eq!(kept, KEPT);
    }

    #[test]
    fn a_store_has_one_user_and_the_next_when_it_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.db");
        let mut store = Store::open(&path).unwrap();
        store.save(1, "one", None).unwrap();
        let error = format!("{:#}", Store::open(&path).err().unwrap());
        assert!(error.contains("in use by another process"), "{error}");
        drop(store);
        assert_eq!(Store::open(&path).unwrap().last().unwrap().unwrap().document, "one");
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        for path in [file.join("policy.db"), file.join("deep/policy.db"), folder.path().to_path_buf()] {
            let error = format!("{:#}", Store::open(&path).err().unwrap());
            assert!(error.contains(&path.display().to_string()), "{error}");
        }
    }

    #[test]
    fn a_broken_store_says_so_and_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.db");
        std::fs::write(&path, vec![7; 5000]).unwrap();
        let error = format!("{:#}", Store::open(&path).err().unwrap());
        assert!(error.contains("policy.db cannot be used"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), vec![7; 5000]);
        let newer = folder.path().join("newer.db");
        Store::open(&newer).unwrap().0.pragma_update(None, "user_version", 99).unwrap();
        let error = format!("{:#}", Store::open(&newer).err().unwrap());
        assert!(error.contains("newer version (99)"), "{error}");
    }
}
