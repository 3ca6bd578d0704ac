//! Peers that send too much, too little, or nothing that makes sense.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::support::{Daemon, answer, ask, document, send};

/// More than any document may have.
const TOO_MUCH: usize = 100_000_000;

/// The most memory that the daemon has had, in MiB.
fn peak_memory(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// The daemon with a policy, which must be the same afterwards.
fn daemon(folder: &tempfile::TempDir) -> Daemon {
    let daemon = Daemon::start(folder.path(), &[]);
    daemon.push(&document());
    daemon
}

fn unharmed(daemon: &Daemon) {
    let status = daemon.show("/v1/status");
    assert_eq!((status["Generation"].as_u64(), status["EnforcedGeneration"].as_u64()), (Some(1), Some(1)));
}

#[test]
fn a_body_of_a_hundred_megabytes_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = daemon(&folder);
    let before = peak_memory(&daemon);
    let body = vec![b' '; TOO_MUCH];
    let announced = daemon.put("", &[], &body);
    assert_eq!((announced.status, announced.errors()[0].0.as_str()), (413, "RequestLimitExceeded"));
    assert!(peak_memory(&daemon) < before + 16, "it is not read");

    // Without a length said, so much as may be is read, and no more.
    let mut stream = daemon.connect();
    let chunked = "PUT /v1/policy HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(chunked.as_bytes()).unwrap();
    for part in body.chunks(1 << 20) {
        let head = format!("{:x}\r\n", part.len());
        let sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(part));
        if sent.and_then(|()| stream.write_all(b"\r\n")).is_err() {
            break;
        }
    }
    assert_eq!(answer(stream).status, 413);
    assert!(peak_memory(&daemon) < before + 256, "{} MiB, {before} before", peak_memory(&daemon));
    unharmed(&daemon);
}

#[test]
fn garbage_is_answered_or_hung_up_on() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = daemon(&folder);
    let mut noise = 0x2545_f491_4f6c_dd1d_u64;
    for length in [1, 2, 3, 10, 1000, 100_000] {
        let mut stream = daemon.connect();
        let garbage: Vec<u8> = (0..length)
            .map(|_| {
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                noise as u8
            })
            .collect();
        drop(stream.write_all(&garbage));
        drop(stream.shutdown(std::net::Shutdown::Write));
        let mut reply = Vec::new();
        drop(stream.read_to_end(&mut reply));
        assert!(
            reply.is_empty() || reply.starts_with(b"HTTP/1.1 400"),
            "{:?}",
            String::from_utf8_lossy(&reply)
        );
    }
    let mut long = daemon.connect();
    drop(long.write_all(b"GET / HTTP/1.1\r\n").and_then(|()| long.write_all(&b"x: y\r\n".repeat(100_000))));
    assert_eq!(answer(long).status, 431, "headers have a bound as well");
    for request in ["GET / HTTP/9.9\r\n\r\n", "PUT /v1/policy HTTP/1.1\r\ncontent-length: -1\r\n\r\n"] {
        let mut stream = daemon.connect();
        stream.write_all(request.as_bytes()).unwrap();
        assert_eq!(answer(stream).status, 400, "{request}");
    }
    unharmed(&daemon);
}

#[test]
fn half_a_request_holds_up_nobody_and_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = daemon(&folder);
    let half = |text: &str| {
        let mut stream = daemon.connect();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    };
    let mut heads: Vec<UnixStream> = (0..20).map(|_| half("GET /v1/status HT")).collect();
    let announced = |length: u64| {
        half(&format!("PUT /v1/policy HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n\r\n{{"))
    };
    // More than may be read at a time, of large ones; and of small ones more than of those.
    let unsaid = "PUT /v1/policy HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{";
    let mut bodies: Vec<UnixStream> = (0..6).map(|_| announced(60_000_000)).collect();
    bodies.extend((0..2).map(|_| half(unsaid)));
    bodies.extend((0..30).map(|_| announced(1000)));
    let start = Instant::now();
    unharmed(&daemon);
    let refused = daemon.put("?colour=1", &[], b"{}");
    let change = ask(daemon.connect(), "POST", "/v1/actions/LaunchRockets", &[], b"{}");
    assert_eq!((refused.status, change.errors()[0].0.as_str()), (400, "InvalidAction"), "small ones go on");
    assert!(start.elapsed() < Duration::from_secs(5), "others are answered meanwhile");
    // Larger than what goes for small.
    let mut large = document().to_string().into_bytes();
    large.resize(100_000, b' ');
    let mut waits = daemon.connect();
    waits.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    send(&mut waits, "PUT", "/v1/policy", &[], &large);
    assert!(waits.read(&mut [0; 100]).is_err(), "there is no place for it");
    drop((waits, bodies));
    assert_eq!(daemon.put("", &[], &large).status, 200);
    assert!(start.elapsed() < Duration::from_secs(8), "who hangs up gives his place back");
    for stream in &mut heads {
        let mut rest = Vec::new();
        drop(stream.read_to_end(&mut rest));
        let rest = String::from_utf8_lossy(&rest);
        assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 408"), "{rest}");
    }
    assert!(start.elapsed() < Duration::from_secs(30), "and the silent are hung up on");
}

#[test]
fn more_connections_than_places_wait_their_turn() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = daemon(&folder);
    let idle: Vec<UnixStream> = (0..270).map(|_| daemon.connect()).collect();
    // Places come back when the idle ones are hung up on.
    unharmed(&daemon);
    drop(idle);
    unharmed(&daemon);
}
