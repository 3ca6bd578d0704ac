//! Ports added and removed by the API, which a restart brings back or leaves out.

use anyhow::{Context, Result};
use rusqlite::{Connection, params};

use super::Store;
use super::damage::Fingerprint;

/// A port as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPort {
    /// Its name.
    pub name: String,
    /// Its device arguments.
    pub device: String,
    /// Whether it is to be there; else it is one of the configuration that is not to be.
    pub present: bool,
}

pub(super) fn read(db: &Connection) -> Result<Vec<StoredPort>> {
    let mut query = db.prepare("SELECT name, device, present FROM ports ORDER BY name")?;
    let port = |row: &rusqlite::Row<'_>| {
        Ok(StoredPort { name: row.get(0)?, device: row.get(1)?, present: row.get(2)? })
    };
    query.query_map([], port)?.collect::<rusqlite::Result<_>>().context("cannot read the ports")
}

pub(super) fn write(db: &mut Connection, ports: &[StoredPort]) -> Result<()> {
    let transaction = db.transaction()?;
    transaction.execute("DELETE FROM ports", [])?;
    for StoredPort { name, device, present } in ports {
        transaction.execute("INSERT INTO ports VALUES (?1, ?2, ?3)", params![name, device, present])?;
    }
    Ok(transaction.commit()?)
}

impl Store {
    /// The ports that are remembered.
    pub fn ports(&self) -> &[StoredPort] {
        &self.ports
    }

    /// Remembers a port, instead of what was known of its name.
    ///
    /// # Errors
    /// It cannot be written; what was remembered still is.
    pub fn remember_port(&mut self, port: StoredPort) -> Result<()> {
        let others = self.ports.iter().filter(|other| other.name != port.name).cloned();
        let ports = others.chain([port.clone()]).collect();
        self.replace_ports(ports)
    }

    /// Forgets what is known of a name.
    ///
    /// # Errors
    /// As [`Store::remember_port`].
    pub fn forget_port(&mut self, name: &str) -> Result<()> {
        if self.ports.iter().all(|port| port.name != name) {
            return Ok(());
        }
        self.replace_ports(self.ports.iter().filter(|port| port.name != name).cloned().collect())
    }

    /// Remembers these ports and no others.
    ///
    /// # Errors
    /// As [`Store::remember_port`].
    pub fn replace_ports(&mut self, ports: Vec<StoredPort>) -> Result<()> {
        // A file that somebody else has touched is looked at by the next push.
        let is_ours = Fingerprint::of(&self.path) == self.left;
        write(&mut self.db, &ports).context("the ports cannot be stored")?;
        if is_ours {
            self.left = Fingerprint::of(&self.path);
        }
        self.ports = ports;
        Ok(())
    }
}
