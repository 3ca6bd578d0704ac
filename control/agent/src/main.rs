//! `sgswitchd`: the daemon. It starts DPDK and the workers, restores the last
//! good policy before ports open, and takes updates over a Unix socket.

#![forbid(unsafe_code)]

mod access;
mod accounts;
mod api;
mod bodies;
mod capture;
mod config;
mod counters;
mod error;
mod filter;
mod flow_log;
mod flows;
mod history;
mod inbox;
mod lifecycle;
mod metrics;
mod notify;
mod plan;
mod ports;
mod push;
mod server;
mod sight;
mod socket;
mod store;
mod switch;
mod trace;
mod verify;
mod version;
mod views;
mod watchdog;

use std::io::IsTerminal;
use std::process::ExitCode;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

fn main() -> ExitCode {
    let config = match config::load() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("sgswitchd: {error:#}");
            return ExitCode::from(2);
        }
    };
    tracing_subscriber::fmt()
        .with_max_level(config.log)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .with_writer(std::io::stderr)
        .init();
    raise_descriptors();
    match lifecycle::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Has as many descriptors as it may: each packet socket of each worker is one.
fn raise_descriptors() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(reason) = raised {
        tracing::warn!("the limit of descriptors stays as it is: {reason}");
    }
}
