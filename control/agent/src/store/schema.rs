use anyhow::{Result, ensure};
use rusqlite::{Connection, Transaction, params};

use super::pack::pack;

/// The version of the tables.
pub(super) const SCHEMA: i64 = 4;

fn version(db: &Connection) -> Result<i64> {
    Ok(db.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

/// Refuses tables that this daemon does not know, before it changes anything.
pub(super) fn refuse_newer(db: &Connection) -> Result<()> {
    let version = version(db)?;
    ensure!(
        version <= SCHEMA,
        "it is of a newer version ({version}) than this daemon knows ({SCHEMA}): install the newer daemon, \
         or move the store away to start without a policy"
    );
    Ok(())
}

/// Makes the tables, or brings those of an older version up to date.
pub(super) fn bring_up(db: &mut Connection) -> Result<()> {
    let version = version(db)?;
    if version == SCHEMA {
        return Ok(());
    }
    let transaction = db.transaction()?;
    if version < 3 {
        transaction.execute_batch(
            "CREATE TABLE ports (
             name TEXT PRIMARY KEY,
             -- DPDK's device arguments.
             device TEXT NOT NULL,
             -- 0: one of the configuration that was removed.
             present INTEGER NOT NULL
         ) STRICT;",
        )?;
    }
    if version < 2 {
        make_generations(&transaction, version == 1)?;
    } else {
        transaction
            .execute_batch("ALTER TABLE generations ADD COLUMN is_change INTEGER NOT NULL DEFAULT 0")?;
    }
    transaction.pragma_update(None, "user_version", SCHEMA)?;
    transaction.commit()?;
    if version == 1 {
        // The older file cannot give pages back until it is written anew. If there is no
        // room for that, it stays as large as it is.
        drop(db.execute_batch("VACUUM"));
    }
    Ok(())
}

/// The table of generations, filled from that of the first version if there is one.
fn make_generations(transaction: &Transaction<'_>, has_first: bool) -> Result<()> {
    transaction.execute_batch(
        "CREATE TABLE generations (
             generation INTEGER PRIMARY KEY,
             -- Packed with zlib.
             document BLOB NOT NULL,
             bytes INTEGER NOT NULL,
             pushed_at TEXT NOT NULL,
             pushed_by_uid INTEGER,
             change TEXT NOT NULL,
             groups INTEGER,
             rules INTEGER,
             interfaces INTEGER,
             -- 1: the document is what it has that the generation before has not.
             is_change INTEGER NOT NULL DEFAULT 0
         ) STRICT;",
    )?;
    if has_first {
        let mut old =
            transaction.prepare("SELECT generation, document, pushed_at, pushed_by_uid FROM policy")?;
        let mut rows = old.query([])?;
        while let Some(row) = rows.next()? {
            let (generation, document): (i64, String) = (row.get(0)?, row.get(1)?);
            let (time, uid): (String, Option<i64>) = (row.get(2)?, row.get(3)?);
            transaction.execute(
                "INSERT INTO generations (generation, document, bytes, pushed_at, pushed_by_uid, change)
                 VALUES (?1, ?2, ?3, ?4, ?5, 'push')",
                params![
                    generation,
                    pack(&document)?,
                    document.len() as i64,
                    time.replace(' ', "T") + "Z",
                    uid
                ],
            )?;
        }
        drop(rows);
        drop(old);
        transaction.execute_batch("DROP TABLE policy;")?;
    }
    Ok(())
}
