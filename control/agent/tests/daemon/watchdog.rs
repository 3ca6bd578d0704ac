//! Workers that hang.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::frozen::{Frozen, wait_until};
use crate::support::{Daemon, document};

/// A second worker beside the one that every test's daemon has, on the same CPU.
const SECOND: [&str; 2] = ["--cores", "0"];

fn states(daemon: &Daemon) -> Vec<serde_json::Value> {
    let workers = daemon.show("/v1/workers");
    let workers = workers["Workers"].as_array().expect("a list").iter();
    workers.map(|w| json!([w["State"], w["Stalls"]])).collect()
}

#[test]
fn a_worker_that_hangs_is_named_and_one_that_goes_on_too() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    std::fs::write(&config, "[workers]\nstall_seconds = 1\n").unwrap();
    let daemon =
        Daemon::start(folder.path(), &[&SECOND[..], &["--config", config.to_str().unwrap()]].concat());
    let metrics = |daemon: &Daemon| {
        [
            "stalled{worker=\"0\"}",
            "stalled{worker=\"1\"}",
            "stalls_total{worker=\"0\"}",
            "stalls_total{worker=\"1\"}",
        ]
        .map(|name| daemon.metric(&format!("sgswitch_worker_{name}")))
    };
    // Idle workers make progress as well.
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(metrics(&daemon), [0.0, 0.0, 0.0, 0.0], "{}", daemon.log());
    assert_eq!(states(&daemon), [json!(["running", 0]), json!(["running", 0])]);

    let frozen = Frozen::new(&daemon, "worker-1");
    wait_until("worker 1 is stalled", || metrics(&daemon)[1] == 1.0);
    assert_eq!(metrics(&daemon), [0.0, 1.0, 0.0, 1.0]);
    assert_eq!(states(&daemon), [json!(["running", 0]), json!(["stalled", 1])]);
    std::thread::sleep(Duration::from_millis(1500));
    let log = daemon.log();
    assert!(log.contains("ERROR worker 1 on CPU 0 is stalled: it has not turned for 1."), "{log}");
    assert_eq!(log.matches("is stalled").count(), 1, "once: {log}");

    drop(frozen);
    wait_until("worker 1 goes on", || metrics(&daemon)[1] == 0.0);
    assert_eq!(metrics(&daemon), [0.0, 0.0, 0.0, 1.0], "what was counted stays");
    assert_eq!(states(&daemon), [json!(["running", 0]), json!(["running", 1])]);
    assert!(daemon.log().contains("WARN worker 1 on CPU 0 goes on after"), "{}", daemon.log());
    daemon.push(&document());
    assert!(daemon.stop().success());
}

#[test]
fn a_daemon_that_was_stopped_as_a_whole_has_not_stalled() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), &[]);
    daemon.signal(Signal::SIGSTOP);
    std::thread::sleep(Duration::from_secs(4));
    daemon.signal(Signal::SIGCONT);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(daemon.metric("sgswitch_worker_stalls_total{worker=\"0\"}"), 0.0, "{}", daemon.log());
    assert!(daemon.stop().success());
}
