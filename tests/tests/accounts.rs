//! Flow logs hold every packet, also where more come than anybody could be told of one by
//! one: the bench's plugin sends as fast as a worker judges.

use std::time::Duration;

use system_tests::bench::{Kind, PluginFolder, Setup, Third, Traffic, document};

/// Packets that the log says were accepted: those that left their senders, and those that
/// reached their receivers; and how many lines say so.
fn accepted(log: &str) -> ([u64; 2], usize) {
    let (mut packets, mut lines) = ([0; 2], 0);
    for line in log.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [direction, action, status, count] = fields[..] else { panic!("{line}") };
        assert_eq!((action, status), ("ACCEPT", "OK"), "{line}");
        packets[usize::from(direction == "ingress")] += count.parse::<u64>().unwrap();
        lines += 1;
    }
    (packets, lines)
}

#[test]
fn r6_7_flow_logs_hold_every_packet_of_a_worker_that_is_busy_all_the_time() {
    const FLOWS: u64 = 2000;
    let folder = PluginFolder::new("accounts").unwrap();
    let bench = folder.bench().unwrap();
    for kind in [Kind::Established, Kind::Segments] {
        let traffic = Traffic { kind, flows: FLOWS, rules: 10 };
        let setup = Setup {
            cores: vec![1],
            connections: 10_000,
            allowance: 10_000,
            policy: document(traffic, Third::Nobody),
            flow_logs: Some("flow-direction action log-status packets"),
        };
        let running = bench.start_switch(&traffic.load(), &setup).unwrap();
        let counts = &running.counts;
        counts.warm(0b01, FLOWS, 1).unwrap();
        // Over the end of a window, and into another.
        let phase = counts.phase(0b11, Duration::from_millis(1500)).unwrap();
        assert_eq!(phase.totals.lost(), 0);
        let totals = counts.totals().unwrap();
        assert_eq!(bench.metric("sgswitch_sightings_lost_total").unwrap(), 0);
        drop(running);
        let log = std::fs::read_to_string(folder.path().join("flows.log")).unwrap();
        let (packets, lines) = accepted(&log);
        assert_eq!(packets, [totals.honest(); 2], "{kind:?}");
        // Far more than a message for each packet would have brought through.
        assert!(totals.honest() > 20 * FLOWS && lines as u64 >= 4 * FLOWS, "{lines} of {totals:?}");
        std::fs::remove_file(folder.path().join("flows.log")).unwrap();
    }
}
