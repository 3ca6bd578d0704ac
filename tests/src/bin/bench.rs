//! The bench of `scripts/bench`: measures the switch beside testpmd and Open
//! vSwitch and prints a table.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use system_tests::bench::tcp::{Way, measure};
use system_tests::bench::{Depth, HugePages, Plugin, Ports, run};

/// Pages of 2 MiB: what Open vSwitch wants at start.
const PAGES: u64 = 1024;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let (mut depth, mut json, mut plugin, mut core, mut rounds) = (Depth::Full, false, None, 1, None);
    let (mut tcp, mut ports) = (false, Ports::Replayed);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--quick" => depth = Depth::Quick,
            "--tcp" => tcp = true,
            "--guests" => ports = Ports::Guests,
            "--alone" => rounds = Some(0),
            "--json" => json = true,
            "--plugin" => plugin = words.next().map(PathBuf::from),
            "--rounds" => {
                match words.next().and_then(|rounds| rounds.parse().ok()).filter(|rounds| *rounds > 0) {
                    Some(number) => rounds = Some(number),
                    None => return usage(),
                }
            }
            "--core" => match words.next().and_then(|core| core.parse().ok()) {
                Some(number) => core = number,
                None => return usage(),
            },
            _ => return usage(),
        }
    }
    if tcp {
        return streams(rounds.unwrap_or(3));
    }
    let Some(plugin) = plugin else { return usage() };
    let folder = std::env::temp_dir().join(format!("sgswitch-bench-{}", std::process::id()));
    let result = HugePages::reserve(PAGES).and_then(|_pages| {
        run(&folder, Plugin::new(&plugin), ports, core, depth, rounds.unwrap_or(depth.rounds()), |what| {
            eprintln!("== {what}")
        })
    });
    match result {
        Ok(report) => {
            if json {
                println!("{:#}", report.to_json());
            } else {
                println!("{report}");
            }
            if report.failures().is_empty() {
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

/// TCP between namespaces, as a table.
fn streams(rounds: usize) -> ExitCode {
    match measure(rounds, |what| eprintln!("== {what}")) {
        Ok(all) => {
            println!(
                "Gbit/s of TCP, MTU 1500, offloads as the kernel has them: median of {rounds} rounds (least to greatest).\n"
            );
            println!("| way | 1 stream | 4 streams |\n| --- | ---: | ---: |");
            for way in Way::ALL {
                print!("| {} |", way.label());
                for stream in all.iter().filter(|stream| stream.way == way) {
                    let (least, greatest) = stream
                        .gigabits
                        .iter()
                        .fold((f64::INFINITY, 0.0), |(low, high), n| (n.min(low), n.max(high)));
                    print!(" {:.2} ({least:.2} to {greatest:.2}) |", stream.median());
                }
                println!();
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: scripts/bench [--tcp | --guests] [--quick] [--alone] [--json] [--rounds N] [--core N]");
    ExitCode::from(2)
}
