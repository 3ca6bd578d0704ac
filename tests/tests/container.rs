//! The image of the Dockerfile, built and run by podman: as an ordinary user, with the
//! capabilities that its ports need, and with none.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use system_tests::policy::{all, document, from_group, group, ping_from};
use system_tests::{Lab, must, script, target};

const OPEN: &str = "8080";
const SHUT: &str = "8081";

/// A container that runs, and goes with its owner.
struct Container {
    name: String,
}

/// Where images are: kept from run to run, for the Debian that is bootstrapped once.
fn storage() -> PathBuf {
    target().join("containers")
}

/// With what runs on machines of both generations of cgroups, and without systemd.
fn podman(arguments: &[&str]) -> Command {
    let mut command = Command::new("podman");
    command.arg("--root").arg(storage().join("images")).arg("--runroot").arg(storage().join("run"));
    command.args(["--runtime", "runc", "--cgroup-manager", "cgroupfs", "--events-backend", "none"]);
    command.args(arguments);
    command
}

impl Container {
    /// Runs the image with these options, and its program with these arguments.
    fn run(lab: &Lab, options: &[&str], arguments: &[String]) -> Container {
        let name = lab.folder().file_name().unwrap().to_str().unwrap().to_string();
        let container = Container { name };
        // Limits of a container are podman's or these, and podman's may be more than we may set.
        let limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"];
        let fixed = ["--detach", "--network", "host", "--read-only", "--cap-drop", "all"];
        let run = ["run", "--name", &container.name];
        let command = [&run[..], &fixed, &limits, options, &["localhost/sgswitch"]].concat();
        must(podman(&command).args(arguments));
        container
    }

    /// Runs a command in it.
    fn exec(&self, arguments: &[&str]) -> (bool, String) {
        let command = [&["exec", &self.name], arguments].concat();
        let Output { status, stdout, stderr } = podman(&command).output().unwrap();
        (status.success(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
    }

    fn must(&self, arguments: &[&str]) -> String {
        let (well, text) = self.exec(arguments);
        assert!(well, "{arguments:?}: {text}");
        text
    }

    /// Whether the health check of the image passes.
    fn is_healthy(&self) -> bool {
        let check = ["healthcheck", "run", &self.name];
        podman(&check).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    }

    fn await_health(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.is_healthy() {
            assert!(Instant::now() < deadline, "{}", self.logs());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn logs(&self) -> String {
        let output = podman(&["logs", &self.name]).output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    fn process(&self) -> Pid {
        let text = must(&mut podman(&["inspect", "--format", "{{.State.Pid}}", &self.name]));
        Pid::from_raw(text.trim().parse().unwrap())
    }

    /// Ends it as an operator does, and returns its exit status.
    fn stop(&self) -> String {
        must(&mut podman(&["stop", "--time", "30", &self.name]));
        must(&mut podman(&["inspect", "--format", "{{.State.ExitCode}}", &self.name])).trim().to_string()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        drop(podman(&["rm", "--force", "--volumes", "--time", "0", &self.name]).output());
    }
}

fn capabilities(container: &Container, set: &str) -> u64 {
    let status = container.must(&["cat", "/proc/1/status"]);
    let hex = status.lines().find_map(|line| line.strip_prefix(set)).expect("a set");
    u64::from_str_radix(hex.trim(), 16).unwrap()
}

#[test]
#[ignore = "bootstraps Debian, which takes minutes: scripts/test --vm"]
fn the_container_judges_as_an_ordinary_user_and_is_healthy() {
    must(script("container").env("SGSWITCH_CONTAINERS", storage()));

    let lab = Lab::new(&["client", "server"]);
    let ports = lab
        .instances()
        .iter()
        .flat_map(|instance| ["--port".to_string(), format!("{}={}", instance.name, instance.device())]);
    let ports: Vec<String> = ports.collect();
    {
        // Without a capability it runs, and says what its ports lack.
        let container = Container::run(&lab, &[], &ports);
        container.await_health();
        assert_eq!(capabilities(&container, "CapBnd:"), 0);
        let shown = container.must(&["sgctl", "-o", "json", "port", "show"]);
        assert_eq!(shown.matches("\"failed\"").count(), 2, "{shown}");
        assert!(shown.contains("Operation not permitted"), "{shown}");
        assert_eq!(container.stop(), "0");
    }

    let capability = ["--cap-add", "net_raw", "--cap-add", "net_admin"];
    let container = Container::run(&lab, &capability, &ports);
    container.await_health();
    assert_ne!(container.must(&["id", "-u"]).trim(), "0");
    assert_eq!(capabilities(&container, "CapEff:"), 1 << 12 | 1 << 13, "NET_ADMIN and NET_RAW");

    let from_client = |protocol| from_group(protocol, 8080, 8080, "sg-client");
    let mut open = vec![from_client("tcp"), from_client("udp")];
    open.extend(ping_from("sg-client"));
    let groups = [group("sg-client", &[], &[all()]), group("sg-server", &open, &[])];
    let policy = document(&lab, &groups, &[("client", &["sg-client"]), ("server", &["sg-server"])]);
    container.must(&["sh", "-c", &format!("echo '{policy}' | sgctl push -")]);

    let (client, server) = (lab.instance("client"), lab.instance("server"));
    let served = [["transfer-server", OPEN], ["udp-echo", OPEN], ["tcp-echo", SHUT]];
    let _served: Vec<_> = served.iter().map(|words| server.serve(words)).collect();
    for host in [server.v4(), server.v6()] {
        assert!(client.ping(&host), "{host}: {}", container.must(&["sgctl", "drops"]));
        for direction in ["up", "down"] {
            assert!(client.probe(&["transfer", direction, &host, OPEN, "20000000"]), "{direction} to {host}");
        }
        assert!(client.probe(&["udp", &host, OPEN]), "UDP to {host}");
        assert!(!client.probe(&["tcp", &host, SHUT]), "a port that no rule opens, at {host}");
        assert!(!client.probe(&["udp", &host, SHUT]), "the same with UDP");
    }
    assert!(!server.ping(&client.v4()), "nothing opens this direction");
    assert!(container.must(&["sgctl", "drops"]).contains("inbound_denied"));

    // One that hangs is ill, and well again when it goes on.
    let process = container.process();
    kill(process, Signal::SIGSTOP).unwrap();
    assert!(!container.is_healthy());
    kill(process, Signal::SIGCONT).unwrap();
    container.await_health();
    assert!(client.ping(&server.v4()));
    assert_eq!(container.stop(), "0");
}
