//! `sgctl`: the client of `sgswitchd`.

#![forbid(unsafe_code)]

mod actions;
mod capture;
mod cli;
mod client;
mod counters;
mod documents;
mod flows;
mod generate;
mod history;
mod lint;
mod output;
mod plan;
mod port;
mod progress;
mod top;
mod trace;
mod verbs;
mod versions;

use std::process::ExitCode;

use clap::Parser;

/// A document is wrong.
pub const EXIT_INVALID: u8 = 2;
/// A quota is exceeded.
pub const EXIT_QUOTA: u8 = 3;
/// Another generation is in force.
pub const EXIT_CONFLICT: u8 = 4;
/// The switch could not.
pub const EXIT_DATAPATH: u8 = 5;
/// A plan has changes, or lint has found something.
pub const EXIT_CHANGES: u8 = 10;
/// Anything else: no daemon, no permission, no such file.
pub const EXIT_OTHER: u8 = 1;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    match verbs::run(&arguments) {
        Ok(code) => code,
        Err(failure) => {
            failure.print(arguments.output);
            ExitCode::from(failure.exit)
        }
    }
}
