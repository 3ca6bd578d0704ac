//! A real daemon over silent `net_null` ports, without hugepages, and a client
//! that can be as rude as a test needs.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// What DPDK is told: no hugepages, no shared files, two ports without traffic.
pub const EAL: &str =
    "-l 0 --no-huge --no-shconf --no-pci -m 64 --vdev net_null0,no-rx=1 --vdev net_null1,no-rx=1";

/// The command of a daemon that has its files in a folder.
pub fn command(folder: &Path, arguments: &[&str], eal: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sgswitchd"));
    command
        .args(["--idle", "sleep", "--cores", "0", "--connections", "1000", "--mbufs", "1023"])
        .args(["--interfaces", "64", "--rx-descriptors", "64", "--tx-descriptors", "64"])
        .arg("--socket")
        .arg(folder.join("sg.sock"))
        .arg("--store")
        .arg(folder.join("policy.db"))
        .args(arguments)
        .arg("--")
        .args(eal.split(' '));
    command
}

/// A daemon that runs; killed when it is dropped.
pub struct Daemon {
    pub child: Child,
    folder: PathBuf,
}

impl Daemon {
    /// Starts a daemon with these arguments, and waits until it answers.
    pub fn start(folder: &Path, arguments: &[&str]) -> Daemon {
        Daemon::launch(folder, command(folder, arguments, EAL))
    }

    /// The same for a command of one's own.
    pub fn launch(folder: &Path, mut command: Command) -> Daemon {
        let log = std::fs::File::create(folder.join("log")).expect("a log file");
        let out = log.try_clone().expect("a log file");
        let child =
            command.stdin(Stdio::null()).stdout(out).stderr(log).spawn().expect("sgswitchd can be run");
        let mut daemon = Daemon { child, folder: folder.to_path_buf() };
        let deadline = Instant::now() + Duration::from_secs(60);
        while UnixStream::connect(daemon.socket()).is_err() {
            let ended = daemon.child.try_wait().expect("a child of ours");
            assert!(ended.is_none() && Instant::now() < deadline, "it has not started:\n{}", daemon.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(daemon.get("/healthz").status, 200, "{}", daemon.log());
        daemon
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.join("sg.sock")
    }

    /// What it has written, DPDK's words included.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    pub fn connect(&self) -> UnixStream {
        connect(&self.socket())
    }

    pub fn get(&self, path: &str) -> Answer {
        ask(self.connect(), "GET", path, &[], b"")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("a child of ours");
    }

    /// Ends it as an operator does.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// Codes and places of the errors.
    pub fn errors(&self) -> Vec<(String, String)> {
        let text = |error: &Value, key: &str| error[key].as_str().unwrap_or_default().to_string();
        let body = self.json();
        let errors = body["errors"].as_array().unwrap_or_else(|| panic!("no errors in {body}"));
        errors.iter().map(|e| (text(e, "code"), text(e, "path"))).collect()
    }
}

pub fn connect(socket: &Path) -> UnixStream {
    let stream = UnixStream::connect(socket).expect("somebody listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout above 0");
    stream
}

/// One request, one answer. What cannot be sent any more does not matter: the
/// answer may come before the end of the body.
pub fn ask(
    mut stream: impl Read + Write,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    send(&mut stream, method, path, headers, body);
    answer(stream)
}

/// The first half of that.
pub fn send(stream: &mut impl Write, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    drop(stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)));
}

/// The answer to what was sent.
pub fn answer(mut stream: impl Read) -> Answer {
    let mut bytes = Vec::new();
    let mut chunk = [0; 65536];
    // A connection that is cut behind its answer may end with an error.
    while let Ok(n @ 1..) = stream.read(&mut chunk) {
        bytes.extend_from_slice(&chunk[..n]);
    }
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(&bytes)));
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    Answer { status, head, body: bytes[end + 4..].to_vec() }
}

/// A policy for the two ports: `sg-web` takes TCP 443 from everyone and TCP 22
/// from the members of `sg-ops`.
pub fn document() -> Value {
    let interface = |n: u8, groups: &[&str]| {
        json!({
            "NetworkInterfaceId": format!("eni-{n}"), "VpcId": "vpc-1",
            "MacAddress": format!("02:00:00:00:00:0{n}"),
            "Groups": groups.iter().map(|g| json!({ "GroupId": g })).collect::<Vec<_>>(),
            "PrivateIpAddresses": [{ "PrivateIpAddress": format!("10.0.0.{n}"), "Primary": true }],
        })
    };
    let everyone = json!([{ "CidrIp": "0.0.0.0/0" }]);
    json!({
        "Vpcs": [{ "VpcId": "vpc-1" }],
        "SecurityGroups": [
            { "GroupId": "sg-web", "GroupName": "web", "Description": "web tier", "VpcId": "vpc-1",
              "IpPermissions": [
                { "IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "IpRanges": everyone },
                { "IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "UserIdGroupPairs": [{ "GroupId": "sg-ops" }] } ],
              "IpPermissionsEgress": [] },
            { "GroupId": "sg-ops", "GroupName": "ops", "Description": "operators", "VpcId": "vpc-1",
              "IpPermissions": [],
              "IpPermissionsEgress": [{ "IpProtocol": "-1", "IpRanges": everyone }] },
        ],
        "PrefixLists": [{ "PrefixListId": "pl-1", "PrefixListName": "offices", "AddressFamily": "IPv4", "MaxEntries": 5, "Version": 1 }],
        "PrefixListEntries": { "pl-1": [{ "Cidr": "192.0.2.0/24" }] },
        "NetworkInterfaces": [interface(1, &["sg-web"]), interface(2, &["sg-ops"])],
        "Bindings": [
            { "NetworkInterfaceId": "eni-1", "Port": "net_null0" },
            { "NetworkInterfaceId": "eni-2", "Port": "net_null1" },
        ],
    })
}
