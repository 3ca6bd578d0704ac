//! Two switches with a link between them, which both have as an uplink: memory that
//! they share, or two cables that LACP joins. What passes is judged at both ends.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use system_tests::policy::{all, document, from_everyone, group};
use system_tests::{Lab, Options, binary, run};

const OPEN: &str = "8080";
const SHUT: &str = "8081";

/// The switch at the other end of the link, with the server.
struct Second {
    daemon: Child,
    socket: PathBuf,
    policy: PathBuf,
}

impl Second {
    /// Starts it beside the laboratory's own, with these ports.
    fn start(lab: &Lab, ports: &[String], memory: &[&str]) -> Second {
        let file = |name: &str| lab.folder().join(name);
        let log = std::fs::File::create(file("second.log")).unwrap();
        let mut command = Command::new(binary("sgswitchd"));
        command.arg("--socket").arg(file("second.sock")).arg("--store").arg(file("second.db"));
        command.args(["--idle", "sleep", "--cores", "0", "--connections", "10000", "--mbufs", "16383"]);
        for port in ports {
            command.arg("--port").arg(port);
        }
        command.args(["--", "-l", "0", "--no-pci"]).args(memory);
        let command = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let second = Second {
            daemon: command.spawn().unwrap(),
            socket: file("second.sock"),
            policy: file("second.json"),
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        while second.sgctl(&["show", "status"]).0 != 0 {
            let log = std::fs::read_to_string(file("second.log")).unwrap();
            assert!(Instant::now() < deadline, "the second switch does not start: {log}");
            std::thread::sleep(Duration::from_millis(50));
        }
        second
    }

    fn sgctl(&self, arguments: &[&str]) -> (i32, String) {
        let output = Command::new(binary("sgctl")).arg("--socket").arg(&self.socket).args(arguments).output();
        let output = output.unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
    }

    fn must(&self, arguments: &[&str]) -> String {
        let (status, text) = self.sgctl(arguments);
        assert_eq!(status, 0, "{arguments:?}: {text}");
        text
    }

    fn push(&self, policy: &Value) {
        std::fs::write(&self.policy, policy.to_string()).unwrap();
        self.must(&["push", self.policy.to_str().unwrap()]);
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.daemon.id() as i32), Signal::SIGTERM);
        drop(self.daemon.wait());
    }
}

/// A policy of one instance here, which may say all and is let in at one port, and the
/// others beyond these uplinks.
fn policy(lab: &Lab, here: &str, uplinks: &[&str]) -> Value {
    let open = ["tcp", "udp"].map(|protocol| from_everyone(protocol, 8080, 8080));
    let mut policy = document(lab, &[group("sg-here", &open, &[all()])], &[(here, &["sg-here"])]);
    let uplink = |name: &&str| json!({ "Uplink": name, "VpcId": "vpc-1" });
    policy["Bindings"].as_array_mut().unwrap().extend(uplinks.iter().map(uplink));
    policy
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// TCP both ways and UDP, over both families, and the neighbours of what is allowed.
fn judged(lab: &Lab, second: &Second) {
    let (client, server) = (lab.instance("client"), lab.instance("server"));
    let served = [["transfer-server", OPEN], ["udp-echo", OPEN], ["tcp-echo", SHUT]];
    let _served: Vec<_> = served.iter().map(|words| server.serve(words)).collect();
    for host in [server.v4(), server.v6()] {
        for direction in ["up", "down"] {
            let passed = client.probe(&["transfer", direction, &host, OPEN, "5000000"]);
            assert!(
                passed,
                "{direction} to {host}: {:?} {:?}",
                lab.sgctl(&["drops"]),
                second.sgctl(&["drops"])
            );
        }
        assert!(client.probe(&["udp", &host, OPEN]), "UDP to {host}");
    }
    let opened = client.reaches(server, SHUT);
    assert_eq!(opened, [false; 4], "TCP and UDP {SHUT}, over IPv4 and IPv6");
    assert_eq!((client.checksum_errors(), server.checksum_errors()), (0, 0));
    assert!(second.must(&["drops"]).contains("inbound_denied"));
}

fn port(name: &str, device: &str) -> String {
    format!("{name}={device}")
}

/// Hugepages, given back when it is dropped.
struct HugePages {
    before: String,
}

const PAGES: &str = "/proc/sys/vm/nr_hugepages";

impl HugePages {
    /// So many more, of 2 MiB.
    fn take(more: u64) -> HugePages {
        let before = std::fs::read_to_string(PAGES).expect("a kernel with hugepages");
        let wanted = before.trim().parse::<u64>().unwrap() + more;
        std::fs::write(PAGES, wanted.to_string()).unwrap();
        let taken = HugePages { before };
        let now = std::fs::read_to_string(PAGES).unwrap();
        assert_eq!(now.trim(), wanted.to_string(), "there is no memory for hugepages");
        taken
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        drop(std::fs::write(PAGES, &self.before));
    }
}

#[test]
fn two_switches_share_memory_by_memif() {
    let mut lab = Lab::new(&["client", "server"]);
    let _pages = HugePages::take(300);
    let socket = lab.folder().join("memif.sock").display().to_string();
    let device = |role: &str| format!("net_memif0,role={role},id=1,socket={socket},socket-abstract=no");
    let options = Options {
        hugepages: true,
        ports: vec![port("link", &device("server"))],
        later: &["server"],
        ..Options::default()
    };
    lab.start(&options);
    let ports = [port("server", &lab.instance("server").device()), port("link", &device("client"))];
    let second = Second::start(&lab, &ports, &["--in-memory", "-m", "256"]);
    lab.push(&policy(&lab, "client", &["link"]));
    second.push(&policy(&lab, "server", &["link"]));
    judged(&lab, &second);

    // The other end goes, and comes again.
    let losses = || lab.total("sgswitch_port_link_losses_total");
    assert_eq!(losses(), 0);
    drop(second);
    wait_until("the loss of the link", || losses() == 1);
    let second = Second::start(&lab, &ports, &["--in-memory", "-m", "256"]);
    let (client, server) = (lab.instance("client"), lab.instance("server"));
    let _echo = server.serve(&["tcp-echo", OPEN]);
    wait_until("both ends meet again", || client.probe(&["tcp", &server.v4(), OPEN]));
    drop(_echo);
    judged(&lab, &second);
}

/// Cables between taps of both switches: bridges, which forward LACP too.
struct Cables(Vec<Cable>);

struct Cable {
    bridge: String,
    ends: [String; 2],
}

impl Cables {
    fn named(lab: &Lab) -> Cables {
        let of = |what: &str, number: usize| format!("{}{what}{number}", lab.instance("client").host());
        let ends = |number| ["a", "b"].map(|end| of(end, number));
        Cables((0..2).map(|number| Cable { bridge: of("c", number), ends: ends(number) }).collect())
    }

    /// A bond of one end of each, for EAL.
    fn bond(&self, end: usize) -> Vec<String> {
        let taps = self.0.iter().enumerate();
        let taps = taps.map(|(number, cable)| format!("--vdev=net_tap{number},iface={}", cable.ends[end]));
        let bond = "--vdev=net_bonding0,mode=4,xmit_policy=l34,slave=net_tap0,slave=net_tap1";
        taps.chain([bond.to_string()]).collect()
    }

    /// Joins the ends, which the switches have made.
    fn plug(&self) {
        for Cable { bridge, ends } in &self.0 {
            run(&format!("ip link add {bridge} type bridge mcast_snooping 0"));
            for interface in ends.iter().chain([bridge]) {
                run(&format!("sysctl -qw net.ipv6.conf.{interface}.disable_ipv6=1"));
            }
            for end in ends {
                run(&format!("ip link set {end} master {bridge} up"));
                // 01-80-C2-00-00-02 is for the next bridge only.
                run(&format!("ip link set {end} type bridge_slave group_fwd_mask 4"));
            }
            run(&format!("ip link set {bridge} up"));
        }
    }

    fn set(&self, number: usize, up: bool) {
        for end in &self.0[number].ends {
            run(&format!("ip link set {end} {}", if up { "up" } else { "down" }));
        }
    }

    /// Frames that each has carried, from the first switch and from the second.
    fn carried(&self) -> Vec<u64> {
        let read =
            |end: &String| std::fs::read_to_string(format!("/sys/class/net/{end}/statistics/rx_packets"));
        let ends = self.0.iter().flat_map(|cable| &cable.ends);
        ends.map(|end| read(end).unwrap().trim().parse().unwrap()).collect()
    }
}

impl Drop for Cables {
    fn drop(&mut self) {
        for Cable { bridge, .. } in &self.0 {
            drop(Command::new("ip").args(["link", "del", bridge]).output());
        }
    }
}

#[test]
fn two_cables_are_joined_by_lacp() {
    let mut lab = Lab::new(&["client", "server"]);
    let cables = Cables::named(&lab);
    let link = port("link", "net_bonding0");
    let options =
        Options { ports: vec![link.clone()], eal: cables.bond(0), later: &["server"], ..Options::default() };
    lab.start(&options);
    let ports = [port("server", &lab.instance("server").device()), link];
    let eal = [cables.bond(1), ["--no-huge", "--no-shconf", "-m", "512"].map(String::from).to_vec()].concat();
    let second = Second::start(&lab, &ports, &eal.iter().map(String::as_str).collect::<Vec<_>>());
    lab.push(&policy(&lab, "client", &["link"]));
    second.push(&policy(&lab, "server", &["link"]));
    cables.plug();
    let (client, server) = (lab.instance("client"), lab.instance("server"));
    let echo = [OPEN, SHUT].map(|port| server.serve(&["tcp-echo", port]));
    let carries = |number: usize| {
        let of = |carried: Vec<u64>| [carried[2 * number], carried[2 * number + 1]];
        let before = of(cables.carried());
        // LACP says something once a second at most. Each connection has a cable, by its ports.
        wait_until(&format!("cable {number} carries, both ways"), || {
            let passed = client.probe(&["tcp", &server.v4(), OPEN]);
            passed && of(cables.carried()).iter().zip(before).all(|(now, then)| *now > then + 40)
        });
    };
    (0..2).for_each(carries);
    // By one cable alone, and the other when it is there again.
    let open = OPEN.parse().unwrap();
    let mut talks: Vec<_> = (0..4).filter_map(|_| client.talk("tcp", &server.v4(), open)).collect();
    assert_eq!(talks.len(), 4);
    cables.set(0, false);
    for talk in &mut talks {
        wait_until("the other cable carries", || talk.lives());
    }
    assert!(client.probe(&["tcp", &server.v6(), OPEN]), "a new connection");
    assert!(!client.probe(&["tcp", &server.v4(), SHUT]), "TCP {SHUT} by one cable");
    cables.set(0, true);
    carries(0);
    assert_eq!(lab.total("sgswitch_port_link_losses_total"), 0, "the bond has kept its own");
    drop(echo);

    judged(&lab, &second);
}
