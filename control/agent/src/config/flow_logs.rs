//! Where flow logs go.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Deserialize;

use crate::flow_log::{DEFAULT_FIELDS, Field, FlowLogConfig, Rotation};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct FlowLogs {
    pub file: Option<PathBuf>,
    pub rotate_megabytes: Option<u64>,
    pub kept: Option<usize>,
    pub socket: Option<PathBuf>,
    pub format: Option<String>,
    pub interval_seconds: Option<u64>,
    pub account_id: Option<String>,
    pub region: Option<String>,
}

/// `None` where nobody wants flow logs.
pub(super) fn read(file: FlowLogs) -> Result<Option<FlowLogConfig>> {
    let fields = Field::format(file.format.as_deref().unwrap_or(DEFAULT_FIELDS))
        .map_err(|error| anyhow::anyhow!("flow_logs.format: {error}"))?;
    let interval = file.interval_seconds.unwrap_or(60);
    ensure!((1..=60).contains(&interval), "flow_logs.interval_seconds: expected 1 to 60");
    let megabytes = file.rotate_megabytes.unwrap_or(100);
    ensure!((1..=1 << 20).contains(&megabytes), "flow_logs.rotate_megabytes: expected 1 to {}", 1 << 20);
    let kept = file.kept.unwrap_or(5);
    ensure!(kept <= 1000, "flow_logs.kept: expected 1000 at most");
    for (name, word) in [("account_id", &file.account_id), ("region", &file.region)] {
        let is_word = |word: &String| !word.is_empty() && !word.contains(char::is_whitespace);
        ensure!(word.as_ref().is_none_or(is_word), "flow_logs.{name}: expected a word without spaces");
    }
    if file.file.is_none() && file.socket.is_none() {
        return Ok(None);
    }
    let rotation = Rotation { bytes: megabytes << 20, kept };
    Ok(Some(FlowLogConfig {
        file: file.file.map(|path| (path, rotation)),
        socket: file.socket,
        fields,
        interval: Duration::from_secs(interval),
        account: file.account_id,
        region: file.region,
    }))
}
