//! Sends bursts of one kind through the pipeline, over and over: what a profiler
//! is pointed at. Bursts are full unless a number of packets follows the rounds.
//!
//!     cargo build --release -p engine --features build --example packets
//!     valgrind --tool=callgrind --dump-instr=yes target/release/examples/packets established 1024 20
//!
//! `new` sends the first packets alone, and ends what they have opened after each
//! round; `flood` begins connections from beyond an uplink with an interface that may
//! track three sixteenths as many, in a table for a quarter; `strays` sends what the
//! sender may send and nobody takes; `accounted` are established ones that are added up
//! as for flow logs; `uplink` and `uplinks` are established ones with hosts beyond one or
//! two of those, `located` where the policy says which one these are behind. Prints the
//! least time per packet of a round.

#[path = "../benches/support/mod.rs"]
mod support;

use std::process::ExitCode;

use engine::pipeline::BURST;
use support::{Rules, Switch, UPLINK, beginnings, replies, requests};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| words.get(at).and_then(|word| word.parse::<u32>().ok());
    let rules = match words.first().map(String::as_str) {
        Some("established" | "accounted" | "uplink" | "uplinks" | "located" | "new" | "flood") => {
            Rules::Block
        }
        Some("untracked") => Rules::Everyone,
        Some("denied") => Rules::Nothing,
        Some("strays") => Rules::Outbound,
        _ => return usage(),
    };
    let (Some(flows), Some(rounds)) = (number(1), number(2)) else { return usage() };
    let burst = number(3).map_or(BURST, |burst| burst as usize);
    if flows < BURST as u32 || rounds == 0 || !(1..=BURST).contains(&burst) {
        return usage();
    }
    let is_new = words[0] == "new";
    let is_one_way = is_new || matches!(words[0].as_str(), "strays" | "flood");
    let (port, there) = match words[0].as_str() {
        "flood" => (UPLINK, beginnings(flows)),
        _ => (0, requests(flows)),
    };
    let back = if is_one_way { vec![] } else { replies(flows) };
    let packets = (there.len() + back.len()) as f64;
    let (room, allowance) = match words[0].as_str() {
        "flood" => (flows / 4, flows / 16 * 3),
        _ => (flows * 2, u32::MAX),
    };
    let mut switch = Switch::new(room as usize, allowance, rules);
    match words[0].as_str() {
        "accounted" => switch.keep_accounts(),
        "uplink" => switch.move_beyond(1, false),
        "uplinks" => switch.move_beyond(2, false),
        "located" => switch.move_beyond(2, true),
        _ => {}
    }
    let mut least = f64::INFINITY;
    for _ in 0..rounds {
        let start = std::time::Instant::now();
        let mut answers = back.chunks(burst);
        for there in there.chunks(burst) {
            switch.run(port, there);
            if let Some(back) = answers.next() {
                switch.run(1, back);
            }
        }
        least = least.min(start.elapsed().as_nanos() as f64 / packets);
        if is_new {
            switch.pipeline.forget(support::NOW, 0, usize::MAX, &mut |_| true);
        }
    }
    println!("{least:.1} ns per packet at the least");
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!(
        "packets established|accounted|uplink|uplinks|located|untracked|denied|strays|new|flood FLOWS ROUNDS \
         [BURST]: at least {BURST} flows, one round, bursts of up to {BURST}"
    );
    ExitCode::from(2)
}
