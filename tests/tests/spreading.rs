//! Ports that spread packets over workers by a hash: told whose is what, and held to
//! it. The card is the bench's plugin, which computes Toeplitz's hash bit by bit by the
//! key and the table that the switch has told the port.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use system_tests::bench::{Dealing, Kind, Load, PluginFolder, Setup, Stream, Third, Traffic, document};

/// What two workers make of a port that delivers so: packets lost, packets handed over,
/// samples at their owner and elsewhere, and what was logged.
fn deliver(kind: Kind, dealing: Dealing) -> ([u64; 4], String) {
    // One at a time: there are two cores, and one file of counters.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = PluginFolder::new("spreading").unwrap();
    let bench = folder.bench().unwrap();
    let traffic = Traffic { kind, flows: 2000, rules: 10 };
    let streams = kind.streams().map(|kind| Stream { kind, flows: traffic.flows, rules: traffic.rules });
    let load = Load { streams: streams.to_vec(), dealing, has_window: true, is_timed: false };
    let setup = Setup {
        cores: vec![0, 1],
        connections: 10_000,
        allowance: 10_000,
        policy: document(traffic, Third::Nobody),
        flow_logs: None,
    };
    let running = bench.start_switch(&load, &setup).unwrap();
    running.counts.deal().unwrap();
    running.counts.warm(0b11, 2 * traffic.flows, 2).unwrap();
    let handed = || bench.metric("sgswitch_handed_over_packets_total{").unwrap();
    let before = handed();
    let phase = running.counts.phase(0b11, Duration::from_millis(300)).unwrap();
    assert!(phase.totals.honest() > 10_000, "{phase:?}");
    let sample = |at: &str| {
        let ports = ["net_null0", "net_null1"];
        let line = |port: &str| format!("sgswitch_port_spread_packets_total{{at=\"{at}\",port=\"{port}\"}}");
        ports.iter().map(|port| bench.metric(&line(port)).unwrap()).sum()
    };
    // Of a few bursts in the beginning, and of some later on.
    let deadline = Instant::now() + Duration::from_secs(20);
    while sample("owner") + sample("elsewhere") < 1024 && Instant::now() < deadline {
        running.counts.phase(0b11, Duration::from_millis(100)).unwrap();
    }
    // The switch looks at its ports every second.
    let mut log = bench.switch_log().unwrap();
    while dealing == Dealing::Any && !log.contains("does not spread") && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(100));
        log = bench.switch_log().unwrap();
    }
    ([phase.totals.lost(), handed() - before, sample("owner"), sample("elsewhere")], log)
}

#[test]
fn a_port_that_hashes_as_told_delivers_to_the_owners_of_flows() {
    for kind in [Kind::Established, Kind::Established6, Kind::Segments] {
        let ([lost, handed, owner, elsewhere], log) = deliver(kind, Dealing::Rss);
        assert_eq!((lost, handed), (0, 0), "{kind:?}: {log}");
        assert!(owner > 256, "{kind:?}: {owner} at their owner, {elsewhere} elsewhere");
        assert!(!log.contains("does not spread"), "{log}");
    }
}

#[test]
fn a_port_that_delivers_otherwise_is_found_out_and_loses_nothing() {
    let ([lost, handed, owner, elsewhere], log) = deliver(Kind::Established, Dealing::Any);
    assert_eq!(lost, 0, "{log}");
    assert!(handed > 1000 && owner > 0 && elsewhere > 256, "{handed} handed over, {owner} and {elsewhere}");
    assert!(log.contains("does not spread packets as it was told"), "{log}");
}
