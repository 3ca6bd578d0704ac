//! The file. Every key may be left out; a key that is not known is an error,
//! since it would be one that is not heeded.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::flow_logs::FlowLogs;
use super::{IdleMode, PortSetting};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    pub eal: Eal,
    pub workers: Workers,
    pub pools: Pools,
    pub connections: Connections,
    /// Seconds, by the names of [`super::timeouts`].
    pub timeouts: BTreeMap<String, u32>,
    pub api: Api,
    pub metrics: Metrics,
    pub store: Store,
    pub flow_logs: FlowLogs,
    pub uplinks: Uplinks,
    pub log: Option<String>,
    #[serde(rename = "port")]
    pub ports: Vec<PortSetting>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Eal {
    pub arguments: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Workers {
    pub cores: Vec<usize>,
    pub idle: Option<IdleMode>,
    pub idle_sleep_us: Option<u64>,
    pub ring_size: Option<u32>,
    pub stall_seconds: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Pools {
    pub mbufs: Option<u32>,
    pub mbuf_room: Option<u16>,
    pub rx_descriptors: Option<u16>,
    pub tx_descriptors: Option<u16>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Connections {
    pub per_worker: Option<usize>,
    pub per_interface: Option<usize>,
    pub interfaces: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Api {
    pub socket: Option<PathBuf>,
    pub mode: Option<String>,
    pub group: Option<String>,
    pub enforce_timeout_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Metrics {
    pub listen: Option<SocketAddr>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Store {
    pub path: Option<PathBuf>,
    pub kept: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Uplinks {
    pub announce: Option<bool>,
}

impl File {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<File> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is not a valid configuration", path.display()))
    }
}
