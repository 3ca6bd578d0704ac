//! The bench of `scripts/bench`: measures the switch beside testpmd and Open
//! vSwitch and prints a table.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use system_tests::bench::latency::{self, At};
use system_tests::bench::tcp::{self, Way};
use system_tests::bench::{Bench, Depth, HugePages, Plugin, Ports, Subject, run};

/// Pages of 2 MiB: what Open vSwitch wants at start.
const PAGES: u64 = 1024;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let (mut depth, mut json, mut plugin, mut core, mut rounds) = (Depth::Full, false, None, 1, None);
    let (mut tcp, mut latency, mut ports) = (false, false, Ports::Replayed);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--quick" => depth = Depth::Quick,
            "--tcp" => tcp = true,
            "--latency" => latency = true,
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
    if latency {
        return waits(&folder, Plugin::new(&plugin), core, rounds.unwrap_or(depth.rounds()));
    }
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
    match tcp::measure(rounds, |what| eprintln!("== {what}")) {
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

/// How long packets take, as a table.
fn waits(folder: &Path, plugin: Plugin, core: usize, rounds: usize) -> ExitCode {
    let ports = Ports::Replayed;
    let bench =
        Bench { folder: folder.to_path_buf(), plugin, ports, is_timed: true, core, ordinary_memory: None };
    let result = std::fs::create_dir_all(folder)
        .and_then(|()| HugePages::reserve(PAGES))
        .and_then(|_pages| latency::measure(&bench, rounds, |what| eprintln!("== {what}")));
    match result {
        Ok(all) => {
            println!(
                "Nanoseconds from when a packet came to when it was sent, half of them and 99 of 100: medians of \
                 {rounds} rounds (least to greatest).\n"
            );
            println!("| flows | at | of packets | testpmd | ovs-dpdk | sgswitch | more than testpmd |");
            println!("| ---: | --- | ---: | ---: | ---: | ---: | ---: |");
            for (flows, at, share) in latency::lines() {
                let load = if at == At::Idle { "idle" } else { "80 % load" };
                print!("| {flows} | {load} | {} % |", share * 100.0);
                let spread = |subject| all.spread(flows, at, share, subject);
                for subject in Subject::ALL {
                    let [least, median, greatest] = spread(subject);
                    print!(" {median:.0} ({least:.0} to {greatest:.0}) |");
                }
                println!(" {:.0} |", spread(Subject::Sgswitch)[1] - spread(Subject::Floor)[1]);
            }
            let _ = std::fs::remove_dir_all(folder);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!(
        "usage: scripts/bench [--tcp | --guests | --latency] [--quick] [--alone] [--json] [--rounds N] [--core N]"
    );
    ExitCode::from(2)
}
