//! How the client behaves towards people: on terminals of sixty columns, with a
//! daemon of another version, a slow one, or none.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::pty::{Winsize, openpty};
use serde_json::{Value, json};

const COLUMNS: u16 = 60;

/// A daemon that answers by path, each answer with its status; 404 elsewhere. It
/// takes its time for what changes the policy.
struct Daemon {
    socket: PathBuf,
    folder: tempfile::TempDir,
}

impl Daemon {
    fn new(answers: &[(&str, u16, String)], slowness: Duration) -> Daemon {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("sg.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let answers: HashMap<String, (u16, String)> =
            answers.iter().map(|(path, status, body)| (path.to_string(), (*status, body.clone()))).collect();
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                answer(stream.unwrap(), &answers, slowness);
            }
        });
        Daemon { socket, folder }
    }

    /// A command that has no terminal to ask for its size.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("setsid");
        command.args(["--wait", env!("CARGO_BIN_EXE_sgctl"), "--socket"]).arg(&self.socket);
        command.args(arguments).env("TERM", "xterm").env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
        command
    }

    /// A document to push.
    fn document(&self) -> String {
        let path = self.folder.path().join("policy.json");
        std::fs::write(&path, "{}").unwrap();
        path.to_str().unwrap().to_string()
    }
}

fn answer(mut stream: UnixStream, answers: &HashMap<String, (u16, String)>, slowness: Duration) {
    let mut request = Vec::new();
    let mut chunk = [0; 4096];
    while !request.windows(4).any(|w| w == b"\r\n\r\n") {
        match stream.read(&mut chunk).unwrap() {
            0 => return,
            n => request.extend_from_slice(&chunk[..n]),
        }
    }
    let request = String::from_utf8_lossy(&request);
    let mut words = request.split([' ', '?']);
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    if method != "GET" {
        std::thread::sleep(slowness);
    }
    let nothing = (404, error("InvalidAction", "there is nothing at this path"));
    let (status, body) = answers.get(path).unwrap_or(&nothing);
    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    drop(stream.write_all((head + body).as_bytes()));
}

fn error(code: &str, message: &str) -> String {
    json!({ "errors": [{ "code": code, "message": message, "path": "" }], "not_listed": 0 }).to_string()
}

/// What a command shows on a terminal, and its exit status.
fn on_terminal(mut command: Command) -> (i32, String) {
    let size = Winsize { ws_row: 24, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 };
    let ends = openpty(Some(&size), None).expect("a terminal");
    let end = || Stdio::from(ends.slave.try_clone().expect("a file descriptor"));
    let mut child = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("setsid and sgctl");
    // The command holds ends of its own, which keep the terminal from its end.
    drop(command);
    drop(ends.slave);
    let mut shown = Vec::new();
    // The end of a terminal whose programs are gone is an error.
    drop(File::from(ends.master).read_to_end(&mut shown));
    (child.wait().unwrap().code().unwrap(), String::from_utf8_lossy(&shown).replace("\r\n", "\n"))
}

/// The same where output goes to files, standard output and error apart.
fn in_files(mut command: Command) -> (String, String) {
    let Output { stdout, stderr, .. } = command.stdin(Stdio::null()).output().expect("setsid and sgctl");
    (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn plain(shown: &str) -> String {
    anstream::adapter::strip_str(shown).to_string()
}

fn workers() -> String {
    let worker = |n: u64| {
        json!({ "Worker": n, "Cpu": n, "State": "running", "Generation": 12345, "Received": 123456789012u64,
            "Transmitted": 123456789012u64, "HandedOver": 99999999, "Connections": 1000000, "ConnectionCapacity": 1000000 })
    };
    json!({ "Generation": 1, "Workers": [worker(0), worker(1)] }).to_string()
}

#[test]
fn tables_fit_the_terminal() {
    let group = |n: u32| {
        json!({ "GroupId": format!("sg-0123456789abcdef{n}"), "GroupName": "a name of several words", "VpcId": "vpc-0123456789abcdef0",
            "Description": "words ".repeat(30) + &"x".repeat(90), "IpPermissions": [], "IpPermissionsEgress": [] })
    };
    let groups = json!({ "Generation": 1, "SecurityGroups": [group(1), group(2)] }).to_string();
    let answers = [("/v1/workers", 200, workers()), ("/v1/groups", 200, groups)];
    let daemon = Daemon::new(&answers, Duration::ZERO);
    for (what, words) in [("workers", ["STATE", "123456789012"]), ("groups", ["GROUP", "words"])] {
        let (code, shown) = on_terminal(daemon.command(&["show", what]));
        let shown = plain(&shown);
        assert_eq!(code, 0, "{shown}");
        let longest = shown.lines().map(|line| line.chars().count()).max();
        assert!(longest.unwrap() <= COLUMNS.into(), "{longest:?} in\n{shown}");
        // What does not fit goes on below, and is not cut.
        let letters = |text: &str| text.chars().filter(|c| *c == 'x').count();
        assert_eq!(letters(&shown), if what == "groups" { 180 } else { 0 }, "{shown}");
        assert!(words[0].chars().all(|c| shown.contains(c)), "{shown}");
        // In a file lines are as long as they need to be.
        let (file, _) = in_files(daemon.command(&["show", what]));
        assert!(words.iter().all(|word| file.contains(word)), "{file}");
        assert!(file.lines().any(|line| line.len() > COLUMNS.into()), "{file}");
    }
}

#[test]
fn there_is_colour_on_terminals_alone_and_never_with_no_color() {
    let pushed = json!({ "generation": 1, "enforced": true, "notices": [{ "path": "A", "message": "b" }] })
        .to_string();
    let answers = [
        ("/v1/workers", 200, workers()),
        ("/v1/groups", 500, error("InternalError", "it is broken")),
        ("/v1/policy", 200, pushed),
    ];
    let daemon = Daemon::new(&answers, Duration::ZERO);
    let document = daemon.document();
    let cases: [(&[&str], &str); 3] = [
        (&["show", "workers"], "\x1b[1mSTATE\x1b[0m"),
        (&["show", "groups"], "\x1b[1m\x1b[31msgctl:\x1b[0m it is broken (InternalError)\n"),
        (&["push", &document], "\x1b[1m\x1b[33mnotice:\x1b[0m A: b\n"),
    ];
    for (arguments, coloured) in cases {
        let (_, shown) = on_terminal(daemon.command(arguments));
        assert!(shown.contains(coloured), "{shown:?}");
        let mut sober = daemon.command(arguments);
        sober.env("NO_COLOR", "1");
        let (_, shown) = on_terminal(sober);
        assert!(!shown.contains('\x1b') && shown.contains(&plain(coloured)), "{shown:?}");
        let (out, err) = in_files(daemon.command(arguments));
        assert!(!(out.clone() + &err).contains('\x1b'), "{out:?} {err:?}");
        assert!((out.clone() + &err).contains(&plain(coloured)), "{out:?} {err:?}");
    }
}

#[test]
fn a_slow_push_shows_that_it_goes_on_and_leaves_nothing_of_it() {
    let pushed = json!({ "generation": 1, "enforced": true, "notices": [] }).to_string();
    let answers = [("/v1/policy", 200, pushed)];
    let slow = Daemon::new(&answers, Duration::from_millis(1500));
    let document = slow.document();
    let (code, shown) = on_terminal(slow.command(&["push", &document]));
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("s: the daemon validates, compiles, checks and publishes it"), "{shown:?}");
    let lines = shown.matches("\r\x1b[K").count();
    assert!((5..=15).contains(&lines), "{lines} in {shown:?}");
    assert!(shown.contains("\r\x1b[Kgeneration 1: "), "{shown:?}");
    // Where nobody looks, nothing is shown; nor for what is quick.
    assert_eq!(in_files(slow.command(&["push", &document])).1, "");
    let quick = Daemon::new(&answers, Duration::ZERO);
    let (_, shown) = on_terminal(quick.command(&["push", &quick.document()]));
    assert!(!shown.contains("\x1b[K"), "{shown:?}");
}

#[test]
fn documents_that_take_long_to_read_show_that_they_are_read() {
    let pushed = json!({ "generation": 1, "enforced": true, "notices": [] }).to_string();
    let quick = Daemon::new(&[("/v1/policy", 200, pushed)], Duration::ZERO);
    let pipe = quick.folder.path().join("slow.yaml");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (code, shown) = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut pipe = File::options().write(true).open(&pipe).unwrap();
            std::thread::sleep(Duration::from_millis(1200));
            pipe.write_all(b"Vpcs: []").unwrap();
        });
        on_terminal(quick.command(&["push", pipe.to_str().unwrap()]))
    });
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains(" s: reading the documents"), "{shown:?}");
    assert!(shown.contains("\r\x1b[Kgeneration 1: "), "{shown:?}");
}

/// What the client says of a daemon that does not know `show groups`.
fn said_of(version: Option<Value>, groups: &str) -> String {
    let mut answers = vec![("/v1/groups", 404, groups.to_string())];
    answers.extend(version.map(|version| ("/version", 200, version.to_string())));
    let (out, err) = in_files(Daemon::new(&answers, Duration::ZERO).command(&["show", "groups"]));
    assert_eq!(out, "");
    err
}

#[test]
fn a_daemon_of_another_version_is_named_with_what_to_do() {
    let ours = env!("CARGO_PKG_VERSION");
    let unknown = error("InvalidAction", "there is nothing at this path");
    let other = json!({ "Version": "7.1.0", "ApiVersions": ["v2", "v3"] });
    for answer in [unknown.as_str(), "<html>what?</html>"] {
        let said = said_of(Some(other.clone()), answer);
        let words =
            format!("this sgctl {ours} speaks v1, the daemon 7.1.0 speaks v2, v3: install sgctl 7.1.0");
        assert!(said.contains(&words), "{said}");
    }
    let older = said_of(Some(json!({ "Version": "0.0.1", "ApiVersions": ["v1"] })), &unknown);
    assert!(
        older.contains("the daemon 0.0.1 does not know") && older.contains("install sgctl 0.0.1"),
        "{older}"
    );
    // One of ours that does not know a thing, and one that does not say what it is: as it answers.
    for version in [Some(json!({ "Version": ours, "ApiVersions": ["v1"] })), None] {
        assert_eq!(said_of(version, &unknown), "sgctl: there is nothing at this path (InvalidAction)\n");
    }
}

#[test]
fn without_a_daemon_it_says_what_to_do() {
    let sgctl = |socket: &Path| {
        let output = Command::new(env!("CARGO_BIN_EXE_sgctl"))
            .arg("--socket")
            .arg(socket)
            .args(["show", "status"])
            .output();
        let output = output.unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("sg.sock");
    let (code, said) = sgctl(&socket);
    assert!(code == Some(1) && said.contains("systemctl status sgswitchd"), "{said}");
    drop(UnixListener::bind(&socket).unwrap());
    let (code, said) = sgctl(&socket);
    assert!(code == Some(1) && said.contains("journalctl -u sgswitchd"), "{said}");
}

fn generated(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sgctl")).arg("generate").args(arguments).output().unwrap()
}

#[test]
fn the_manual_has_a_page_for_each_verb_and_completions_know_them() {
    let folder = tempfile::tempdir().unwrap();
    assert!(generated(&["man", folder.path().to_str().unwrap()]).status.success());
    let page = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap_or_default();
    for verb in ["push", "show", "explain", "authorize", "prefix-list-add", "flows-list"] {
        assert!(page(&format!("sgctl-{verb}.1")).contains(".SH SYNOPSIS"), "{verb}");
    }
    assert!(page("sgctl.1").contains("conflict: another generation"), "exit statuses");
    assert!(!folder.path().join("sgctl-generate.1").exists(), "it is for packages");
    assert_eq!(generated(&["man", "/nonexistent"]).status.code(), Some(1));
    for shell in ["bash", "zsh", "fish"] {
        let output = generated(&["completions", shell]);
        assert!(
            output.status.success() && String::from_utf8_lossy(&output.stdout).contains("create-group"),
            "{shell}"
        );
    }
}
