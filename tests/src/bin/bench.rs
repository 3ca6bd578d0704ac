//! The bench of `scripts/bench`: measures the switch beside testpmd and Open
//! vSwitch and prints a table.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use system_tests::bench::{Depth, HugePages, Plugin, run};

/// Pages of 2 MiB: what Open vSwitch wants at start.
const PAGES: u64 = 1024;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let (mut depth, mut json, mut plugin, mut core) = (Depth::Full, false, None, 1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--quick" => depth = Depth::Quick,
            "--json" => json = true,
            "--plugin" => plugin = words.next().map(PathBuf::from),
            "--core" => match words.next().and_then(|core| core.parse().ok()) {
                Some(number) => core = number,
                None => return usage(),
            },
            _ => return usage(),
        }
    }
    let Some(plugin) = plugin else { return usage() };
    let folder = std::env::temp_dir().join(format!("sgswitch-bench-{}", std::process::id()));
    let result = HugePages::reserve(PAGES)
        .and_then(|_pages| run(&folder, Plugin::new(&plugin), core, depth, |what| eprintln!("== {what}")));
    match result {
        Ok(report) => {
            if json {
                println!("{:#}", report.to_json());
            } else {
                println!("{report}");
            }
            if report.cases.iter().all(|case| case.failures().is_empty()) {
                let _ = std::fs::remove_dir_all(&folder);
                ExitCode::SUCCESS
            } else {
                eprintln!("bench: not all went as it should; logs are in {}", folder.display());
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: scripts/bench [--quick] [--json] [--core N]");
    ExitCode::from(2)
}
