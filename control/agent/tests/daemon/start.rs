//! Starting and stopping, and every way in which a start is refused.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::{Daemon, EAL, answer, ask, command, document};
use crate::talk::refused;

/// A start that is refused with this exit status, in these words.
fn refuses(folder: &Path, arguments: &[&str], eal: &str, status: i32, words: &[&str]) {
    let (code, text) = refused(command(folder, arguments, eal));
    assert_eq!(code, Some(status), "{text}");
    for word in words {
        assert!(text.contains(word), "'{word}' in: {text}");
    }
    assert!(!folder.join("sg.sock").exists(), "it leaves no socket behind");
}

#[test]
fn a_second_daemon_is_refused_and_the_first_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), &[]);
    daemon.push(&document());
    let (code, text) = refused(command(folder.path(), &[], EAL));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&format!("in use by a daemon that lives (process {})", daemon.pid())), "{text}");
    // Nor may one with another socket have its store.
    let elsewhere = folder.path().join("other.sock");
    let (code, text) = refused(command(folder.path(), &["--socket", elsewhere.to_str().unwrap()], EAL));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("policy.db is in use by another process"), "{text}");
    daemon.push(&document());
    assert!(daemon.stop().success());
}

#[test]
fn a_dead_daemons_socket_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), &[]);
    daemon.push(&document());
    daemon.kill();
    assert!(folder.path().join("sg.sock").exists(), "it could not clean up");
    let daemon = Daemon::start(folder.path(), &[]);
    assert!(daemon.log().contains("taking over"), "{}", daemon.log());
    let status = daemon.show("/v1/status");
    assert_eq!((&status["Generation"], &status["State"]), (&1.into(), &"enforcing".into()));
    assert!(daemon.stop().success());
}

/// A child that is killed when it is dropped.
struct Started(std::process::Child);

impl Drop for Started {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_start_that_cannot_be_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let file = at.join("file");
    std::fs::write(&file, "precious").unwrap();
    let file = file.to_str().unwrap();

    refuses(at, &["--port", "net_null1=net_null0"], EAL, 1, &["two ports are named 'net_null1'"]);
    refuses(at, &[], "--no-such-argument", 1, &["EAL"]);
    refuses(at, &["--store", &format!("{file}/policy.db")], EAL, 1, &["policy.db", "cannot"]);
    refuses(at, &["--socket-group", "nosuchgroup"], EAL, 1, &["no group named 'nosuchgroup'"]);
    refuses(at, &["--cores", "4095"], EAL, 1, &["4095"]);
    refuses(at, &["--config", "/nonexistent.toml"], EAL, 2, &["cannot read /nonexistent.toml"]);
    refuses(at, &["--timeout", "udp=never"], EAL, 2, &["'udp=never' is no timeout"]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    refuses(at, &["--metrics", &address], EAL, 1, &["metrics cannot be served at", &address]);
    let (code, text) = refused(command(at, &["--socket", file], EAL));
    assert!(code == Some(1) && text.contains("is no socket"), "{text}");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "precious");
}

#[test]
fn a_stored_policy_that_cannot_be_read_is_not_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), &[]);
    daemon.push(&document());
    assert!(daemon.stop().success());
    let store = folder.path().join("policy.db");
    for (document, words) in [("{", "is no JSON"), ("{\"Vpcs\": 7}", "not valid")] {
        let db = rusqlite::Connection::open(&store).unwrap();
        let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, document.as_bytes()).unwrap();
        db.execute("UPDATE generations SET document = ?1", [packed.finish().unwrap()]).unwrap();
        drop(db);
        // Open without a policy would be closed, and nobody would know why.
        refuses(folder.path(), &[], EAL, 1, &["stored policy of generation 1", words]);
    }
}

#[test]
fn metrics_are_served_by_tcp_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), &["--metrics", "127.0.0.1:0"]);
    let log = daemon.log();
    let address = log.split_once("metrics at http://").expect("the log has the address").1;
    let address = address.split('/').next().unwrap();
    let get = |path| ask(TcpStream::connect(address).unwrap(), "GET", path, &[], b"");
    let metrics = get("/metrics");
    assert!(metrics.status == 200 && metrics.text().contains("sgswitch_generation 0"), "{}", metrics.text());
    assert_eq!(get("/healthz").status, 200);
    assert_eq!(get("/v1/status").status, 404);
    let put = ask(
        TcpStream::connect(address).unwrap(),
        "PUT",
        "/v1/policy",
        &[],
        document().to_string().as_bytes(),
    );
    assert_eq!(put.status, 404);
    assert_eq!(daemon.show("/v1/status")["Generation"], 0);
}

#[test]
fn it_stops_in_order_whoever_is_connected() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), &["--port", "net_null2,no-rx=1"]);
    let idle = daemon.connect();
    let start = Instant::now();
    assert_eq!(daemon.stop().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(5));
    drop(idle);
    // A signal while it starts is heeded once it has started.
    let mut child = Started(command(folder.path(), &[], EAL).spawn().unwrap());
    while !folder.path().join("sg.sock").exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let pid = nix::unistd::Pid::from_raw(child.0.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
    assert!(!folder.path().join("sg.sock").exists());
}

#[test]
fn connections_before_the_switch_is_ready_are_answered_when_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let _daemon = Started(command(folder.path(), &[], EAL).spawn().unwrap());
    let socket = folder.path().join("sg.sock");
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut stream = loop {
        match std::os::unix::net::UnixStream::connect(&socket) {
            Ok(stream) => break stream,
            Err(_) => assert!(Instant::now() < deadline, "it has not started"),
        }
    };
    std::io::Write::write_all(
        &mut stream,
        b"GET /healthz HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n",
    )
    .unwrap();
    assert_eq!(answer(stream).status, 200);
}

#[test]
fn its_version_can_be_asked_without_knowing_the_apis() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), &[]);
    let version = serde_json::json!({ "Version": env!("CARGO_PKG_VERSION"), "ApiVersions": ["v1"] });
    assert_eq!(daemon.show("/version"), version);
    assert_eq!(daemon.show("/v1/status")["ApiVersion"], "v1");
}
