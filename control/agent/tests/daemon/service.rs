//! What the daemon tells the service manager.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::frozen::Frozen;
use crate::support::{Daemon, EAL, command, document};

/// A service manager's ear.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(folder: &Path) -> Manager {
        let path = folder.join("notify.sock");
        Manager { socket: UnixDatagram::bind(&path).unwrap(), path }
    }

    /// Starts a daemon that it manages, with a watchdog of one second.
    fn start(&self, folder: &Path) -> Daemon {
        let mut command = command(folder, &[], EAL);
        command.env("NOTIFY_SOCKET", &self.path).env("WATCHDOG_USEC", "1000000");
        Daemon::launch(folder, command)
    }

    /// The lines that arrive within so long.
    fn hear(&self, time: Duration) -> Vec<String> {
        let end = Instant::now() + time;
        let mut lines = Vec::new();
        let mut datagram = [0; 4096];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return lines;
            }
            self.socket.set_read_timeout(Some(left)).unwrap();
            if let Ok(n) = self.socket.recv(&mut datagram) {
                lines.extend(String::from_utf8_lossy(&datagram[..n]).lines().map(String::from));
            }
        }
    }

    /// What arrives up to a line that begins so.
    fn hear_until(&self, start: &str) -> Vec<String> {
        let mut lines = Vec::new();
        for _ in 0..200 {
            lines.extend(self.hear(Duration::from_millis(100)));
            if lines.iter().any(|line| line.starts_with(start)) {
                return lines;
            }
        }
        panic!("no {start} in {lines:?}");
    }
}

fn count(lines: &[String], line: &str) -> usize {
    lines.iter().filter(|l| *l == line).count()
}

#[test]
fn the_manager_is_told_of_start_life_and_stop() {
    let folder = tempfile::tempdir().unwrap();
    let manager = Manager::new(folder.path());
    let daemon = manager.start(folder.path());
    let lines = manager.hear_until("READY=1");
    assert_eq!(count(&lines, "READY=1"), 1, "{lines:?}");
    assert!(lines.contains(&"STATUS=closed, no policy yet; 1 workers".to_string()), "{lines:?}");
    daemon.push(&document());
    manager.hear_until("STATUS=generation 1 in force; 1 workers");
    // Twice in each period, and one look more or less.
    let alive = count(&manager.hear(Duration::from_secs(3)), "WATCHDOG=1");
    assert!((4..=7).contains(&alive), "{alive}");

    let frozen = Frozen::new(&daemon, "worker-0");
    manager.hear_until("STATUS=generation 1 in force; 1 workers, of which these are stalled: [0]");
    let lines = manager.hear(Duration::from_secs(2));
    assert_eq!(count(&lines, "WATCHDOG=1"), 0, "{lines:?}");
    drop(frozen);
    manager.hear_until("WATCHDOG=1");

    assert!(daemon.stop().success());
    let lines = manager.hear(Duration::from_millis(300));
    assert_eq!(count(&lines, "STOPPING=1"), 1, "{lines:?}");
    assert_eq!(count(&lines, "READY=1"), 0, "{lines:?}");
}

#[test]
fn a_start_that_fails_is_never_ready() {
    let folder = tempfile::tempdir().unwrap();
    let manager = Manager::new(folder.path());
    let mut command = command(folder.path(), &[], "--no-such-argument");
    let output = command.env("NOTIFY_SOCKET", &manager.path).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(manager.hear(Duration::from_millis(200)), Vec::<String>::new());
}

#[test]
fn without_a_manager_nothing_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), &[]);
    std::thread::sleep(Duration::from_millis(1200));
    assert!(!daemon.log().contains("service manager"), "{}", daemon.log());
    assert!(daemon.stop().success());
}
