use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use serde_json::Value;

use crate::command::{run, try_run};

static STOPPED: AtomicBool = AtomicBool::new(false);

/// Lets Ctrl-C and SIGTERM end a program that watches the result, so that its
/// laboratory is taken down.
pub fn stop_on_signals() -> &'static AtomicBool {
    ctrlc::set_handler(|| STOPPED.store(true, Ordering::Relaxed)).expect("one handler for each program");
    &STOPPED
}

/// A program of this workspace, beside the one that runs or a folder above it.
///
/// # Panics
/// If it has not been built.
pub fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a program knows where it is");
    let found = own.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| {
        panic!("{name} is not built: cargo build --release -p agent -p sgctl -p system-tests")
    })
}

/// What joins an instance to the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A veth pair, and a packet socket of ours: the kernel's offloads are left on.
    PacketSocket,
    /// A veth pair, and DPDK's packet socket, which carries single frames: the
    /// kernel cuts segments itself, and leaves checksums partial.
    AfPacket,
    /// A veth pair, and an XDP socket: the kernel's offloads are left on.
    AfXdp,
    /// A tap device of DPDK's.
    Tap,
    /// A bond of two tap devices of DPDK's, of which the first sends: a bridge of the
    /// kernel's joins them to a veth pair.
    Bond,
    /// A vhost-user socket for a virtual machine, which the switch listens at or
    /// connects to.
    Vhost {
        /// Whether the machine listens.
        client: bool,
    },
}

impl Kind {
    /// The stable name.
    pub const fn label(self) -> &'static str {
        match self {
            Kind::PacketSocket => "packet_socket",
            Kind::AfPacket => "af_packet",
            Kind::AfXdp => "af_xdp",
            Kind::Tap => "tap",
            Kind::Bond => "bond",
            Kind::Vhost { .. } => "vhost-user",
        }
    }
}

/// A machine plugged into the switch: a namespace with one interface.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Its name, which is also its port's.
    pub name: String,
    /// Its number: the last byte of its MAC and of its addresses.
    pub number: u8,
    /// How it is plugged in.
    pub kind: Kind,
    netns: String,
    host: String,
    folder: PathBuf,
}

impl Instance {
    /// 10.0.0.N
    pub fn v4(&self) -> String {
        format!("10.0.0.{}", self.number)
    }

    /// fd00::N, in hexadecimal digits.
    pub fn v6(&self) -> String {
        format!("fd00::{:x}", self.number)
    }

    /// 02:00:00:00:00:N
    pub fn mac(&self) -> String {
        format!("02:00:00:00:00:{:02x}", self.number)
    }

    /// The name of its namespace, for `ip netns exec`.
    pub fn netns(&self) -> &str {
        &self.netns
    }

    /// What its port is of. Rings of 2048 frames, so that a sleeping worker loses none.
    pub fn device(&self) -> String {
        let Instance { number, host, .. } = self;
        match self.kind {
            Kind::PacketSocket => format!("packet_socket{number},iface={host}"),
            Kind::AfPacket => {
                format!("net_af_packet{number},iface={host},blocksz=65536,framesz=2048,framecnt=2048")
            }
            Kind::AfXdp => format!("net_af_xdp{number},iface={host}"),
            Kind::Tap => format!("net_tap{number},iface={host}"),
            Kind::Bond => format!("net_bonding{number},mode=1,slave=net_tap{number}0,slave=net_tap{number}1"),
            Kind::Vhost { client } => {
                let socket = self.socket().display().to_string();
                format!("net_vhost{number},iface={socket},queues=2,client={}", u8::from(client))
            }
        }
    }

    /// The socket of its vhost-user port.
    pub fn socket(&self) -> PathBuf {
        self.folder.join(format!("{}.vhost", self.number))
    }

    /// The interfaces of a [`Kind::Bond`]'s members; the bond sends by the first.
    pub fn members(&self) -> [String; 2] {
        ["a", "b"].map(|member| format!("{}{member}", self.host))
    }

    /// The other end of its link, outside of its namespace.
    pub fn host(&self) -> &str {
        &self.host
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.netns]).arg(program);
        command
    }

    /// Runs a probe in the namespace to its end; whether it found what it looked for.
    pub fn probe(&self, arguments: &[&str]) -> bool {
        let status = self
            .command(&binary("probe"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.expect("ip can be run").success()
    }

    /// Whether another answers at this port, asked at the same time: TCP and UDP over IPv4, then
    /// over IPv6.
    pub fn reaches(&self, other: &Instance, port: &str) -> [bool; 4] {
        let (v4, v6) = (other.v4(), other.v6());
        ask([
            &|| self.probe(&["tcp", &v4, port]),
            &|| self.probe(&["udp", &v4, port]),
            &|| self.probe(&["tcp", &v6, port]),
            &|| self.probe(&["udp", &v6, port]),
        ])
    }

    /// Starts a probe that serves until it is dropped, and waits until it does.
    pub fn serve(&self, arguments: &[&str]) -> Server {
        let mut command = self.command(&binary("probe"));
        let child = command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut server = Server(child.expect("ip can be run"));
        let mut line = String::new();
        let stdout = server.0.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("a server says when it is ready");
        assert_eq!(line.trim(), "ready", "probe {arguments:?} in {}", self.name);
        server
    }

    /// Opens a conversation with an echo server: over one connection, several
    /// questions. `None` if it cannot be opened.
    pub fn talk(&self, protocol: &str, host: &str, port: u16) -> Option<Conversation> {
        let mut command = self.command(&binary("probe"));
        command.args(["talk", protocol, host, &port.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("ip can be run");
        let answers = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut talk = Conversation { server: Server(child), answers };
        (talk.answer() == "open").then_some(talk)
    }

    /// TCP segments that its stack has sent again because they were lost: not
    /// those that the receiver had already, as its D-SACK says (RFC 2883), which
    /// were late on a busy machine.
    pub fn lost_segments(&self) -> i64 {
        self.tcp_counter("snmp", "Tcp: ", "RetransSegs")
            - self.tcp_counter("netstat", "TcpExt: ", "TCPDSACKRecv")
    }

    /// TCP segments, UDP datagrams and ICMP messages that its stack has dropped
    /// because their checksum was wrong.
    pub fn checksum_errors(&self) -> i64 {
        let read = |file: &str| run(&format!("ip netns exec {} cat /proc/net/{file}", self.netns));
        checksum_errors(&read("snmp"), &read("snmp6"))
    }

    fn tcp_counter(&self, file: &str, family: &str, name: &str) -> i64 {
        counter(&run(&format!("ip netns exec {} cat /proc/net/{file}", self.netns)), family, name)
    }

    /// Lets its stack ask for its neighbours anew: after a question that nobody
    /// answered it waits a second before it asks again, as long as a ping waits.
    pub fn forget_neighbours(&self) {
        run(&format!("ip -n {} neigh flush dev eth0", self.netns));
    }

    /// Whether a ping of this address is answered.
    pub fn ping(&self, address: &str) -> bool {
        self.large_ping(address, 56)
    }

    /// The same with so many bytes, in pieces if they are more than fit a frame.
    pub fn large_ping(&self, address: &str, bytes: u16) -> bool {
        try_run(&format!("ip netns exec {} ping -n -c 1 -W 1 -s {bytes} {address}", self.netns))
    }
}

/// Asks all of these at the same time, and tells which were answered: those that are
/// not to be each wait in vain for a second, and together for one.
pub fn ask<const N: usize>(questions: [&(dyn Fn() -> bool + Sync); N]) -> [bool; N] {
    std::thread::scope(|scope| {
        let asked = questions.map(|question| scope.spawn(question));
        asked.map(|asking| asking.join().expect("a question does not panic"))
    })
}

/// A counter of a file such as /proc/net/snmp: a line of names, and one of values.
fn counter(text: &str, family: &str, name: &str) -> i64 {
    let mut lines = text.lines().filter_map(|l| l.strip_prefix(family)).map(str::split_whitespace);
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let found = names.zip(values).find(|(found, _)| *found == name);
    found.and_then(|(_, value)| value.parse().ok()).expect("a counter of the kernel's")
}

/// What a stack has dropped because of a wrong checksum, by its /proc/net/snmp and snmp6.
pub(crate) fn checksum_errors(snmp: &str, snmp6: &str) -> i64 {
    let v4 = ["Tcp: ", "Udp: ", "Icmp: "].map(|family| counter(snmp, family, "InCsumErrors"));
    let v6 = snmp6
        .lines()
        .filter(|line| line.split_whitespace().next().is_some_and(|n| n.ends_with("InCsumErrors")));
    let v6 = v6.filter_map(|line| line.split_whitespace().nth(1)?.parse::<i64>().ok());
    v4.into_iter().chain(v6).sum()
}

/// A child process that ends with its owner.
#[derive(Debug)]
pub struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// An open connection that can be asked whether it still carries anything.
#[derive(Debug)]
pub struct Conversation {
    server: Server,
    answers: BufReader<std::process::ChildStdout>,
}

impl Conversation {
    fn answer(&mut self) -> String {
        let mut line = String::new();
        drop(self.answers.read_line(&mut line));
        line.trim().to_string()
    }

    /// Sends something and tells whether it comes back within a second.
    pub fn lives(&mut self) -> bool {
        let stdin = self.server.0.stdin.as_mut().expect("it is piped");
        stdin.write_all(b"say\n").is_ok() && self.answer() == "heard"
    }
}

/// How the daemon is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// The CPU of each worker.
    pub cores: String,
    /// Whether to use hugepages.
    pub hugepages: bool,
    /// More ports, as `--port` takes them.
    pub ports: Vec<String>,
    /// More arguments for EAL.
    pub eal: Vec<String>,
    /// Instances whose ports are added later.
    pub later: &'static [&'static str],
}

impl Default for Options {
    fn default() -> Options {
        Options { cores: "1".to_string(), hugepages: false, ports: Vec::new(), eal: Vec::new(), later: &[] }
    }
}

/// One laboratory at a time: polling workers and real stacks need the cores.
static ALONE: Mutex<()> = Mutex::new(());

/// Instances, the daemon, and a folder for its files. Dropped, all of it goes.
pub struct Lab {
    instances: Vec<Instance>,
    folder: PathBuf,
    daemon: Option<Child>,
    /// Held until all else is gone.
    _alone: MutexGuard<'static, ()>,
}

impl Lab {
    /// Makes the instances, numbered from 1; waits until no other laboratory of
    /// this program is left.
    ///
    /// # Panics
    /// Without root, or where the kernel refuses.
    pub fn new(names: &[&str]) -> Lab {
        Lab::of(&names.iter().map(|name| (*name, Kind::PacketSocket)).collect::<Vec<_>>())
    }

    /// The same with these kinds of ports.
    ///
    /// # Panics
    /// As [`Lab::new`].
    pub fn of(instances: &[(&str, Kind)]) -> Lab {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(geteuid().is_root(), "network namespaces need root: this test did not run");
        let id = format!("{:x}x{:x}", std::process::id() & 0xfffff, NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(format!("sgswitch-lab-{id}"));
        std::fs::create_dir_all(&folder).expect("a folder for the daemon");
        // Each is in the list before it is made, so that what failed half way is taken down too.
        let mut lab = Lab { instances: Vec::new(), folder, daemon: None, _alone: alone };
        for (number, (name, kind)) in (1u8..).zip(instances) {
            let (netns, host) = (format!("sg{id}-{name}"), format!("sg{id}{number:x}"));
            let (name, folder) = (name.to_string(), lab.folder.clone());
            lab.instances.push(Instance { name, number, kind: *kind, netns, host, folder });
            lab.instances[usize::from(number) - 1].plug_in();
        }
        lab
    }

    /// The instance of this name.
    pub fn instance(&self, name: &str) -> &Instance {
        self.instances.iter().find(|i| i.name == name).expect("an instance of this laboratory")
    }

    /// All instances.
    pub fn instances(&self) -> &[Instance] {
        &self.instances
    }

    /// Where the files of this laboratory are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("sgswitchd.sock")
    }

    /// Starts the daemon with a port for each instance, and waits until it answers.
    pub fn start(&mut self, options: &Options) {
        let log = std::fs::File::options().create(true).append(true).open(self.log()).expect("a log");
        let mut command = Command::new(binary("sgswitchd"));
        command.arg("--socket").arg(self.socket()).arg("--store").arg(self.folder.join("policy.db"));
        command.args([
            "--idle",
            "sleep",
            "--connections",
            "100000",
            "--mbufs",
            "32767",
            "--cores",
            &options.cores,
        ]);
        for instance in self.instances.iter().filter(|i| !options.later.contains(&&*i.name)) {
            command.arg("--port").arg(format!("{}={}", instance.name, instance.device()));
        }
        for port in &options.ports {
            command.arg("--port").arg(port);
        }
        command.args(["--", "-l", "0", "--no-pci"]).args(&options.eal);
        for instance in self.instances.iter().filter(|i| i.kind == Kind::Bond) {
            for (which, interface) in instance.members().iter().enumerate() {
                command.arg(format!("--vdev=net_tap{}{which},iface={interface}", instance.number));
            }
        }
        match options.hugepages {
            true => command.args(["--in-memory", "-m", "300"]),
            false => command.args(["--no-huge", "--no-shconf", "-m", "512"]),
        };
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        self.daemon = Some(command.spawn().expect("sgswitchd can be run"));
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.get("/healthz").is_none() {
            let ended =
                self.daemon.as_mut().is_none_or(|d| d.try_wait().is_ok_and(|status| status.is_some()));
            assert!(!ended && Instant::now() < deadline, "the daemon does not start:\n{}", self.read_log());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.instances.iter().filter(|i| i.kind == Kind::Tap).for_each(Instance::move_tap);
        self.instances.iter().filter(|i| i.kind == Kind::Bond).for_each(Instance::bridge);
    }

    /// Stops the daemon by SIGTERM and waits until it has ended well.
    pub fn stop(&mut self) {
        let Some(mut daemon) = self.daemon.take() else { return };
        let _ = kill(Pid::from_raw(daemon.id() as i32), Signal::SIGTERM);
        let status = daemon.wait().expect("it is ours");
        assert!(status.success(), "the daemon ended with {status}:\n{}", self.read_log());
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// What the daemon has said.
    pub fn read_log(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// Runs `sgctl` and returns its exit status and output.
    pub fn sgctl(&self, arguments: &[&str]) -> (i32, String) {
        let mut command = Command::new(binary("sgctl"));
        let output =
            command.arg("--socket").arg(self.socket()).args(arguments).output().expect("sgctl can be run");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
    }

    /// Pushes a policy with `sgctl`; it is enforced when this returns.
    ///
    /// # Panics
    /// If it is refused.
    pub fn push(&self, policy: &Value) {
        let file = self.folder.join("policy.json");
        std::fs::write(&file, policy.to_string()).expect("a file for the policy");
        let (status, text) = self.sgctl(&["push", file.to_str().expect("a plain path")]);
        assert_eq!(status, 0, "{text}");
    }

    /// The counters of the page at `/metrics`, by name and labels.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let page = self.get("/metrics").expect("the daemon answers");
        let lines = page.lines().filter(|l| !l.starts_with('#'));
        lines
            .filter_map(|l| l.rsplit_once(' '))
            .filter_map(|(k, v)| Some((k.to_string(), v.parse().ok()?)))
            .collect()
    }

    /// Packets dropped for a reason, by all workers.
    pub fn dropped(&self, reason: &str) -> u64 {
        let wanted = format!("reason=\"{reason}\"");
        let all = self.metrics();
        let of_reason = all
            .iter()
            .filter(|(k, _)| k.starts_with("sgswitch_dropped_packets_total") && k.contains(&wanted));
        of_reason.map(|(_, v)| *v as u64).sum()
    }

    /// The sum of a counter over its labels.
    pub fn total(&self, name: &str) -> u64 {
        let all = self.metrics();
        all.iter().filter(|(k, _)| k.split('{').next() == Some(name)).map(|(_, v)| *v as u64).sum()
    }

    /// A page of the API, `None` if the daemon does not answer.
    fn get(&self, path: &str) -> Option<String> {
        let mut stream = UnixStream::connect(self.socket()).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: sgswitch\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.starts_with("HTTP/1.1 200").then(|| body.to_string())
    }
}

impl Instance {
    /// Makes the namespace and its link to the switch.
    pub fn plug_in(&self) {
        let Instance { netns, host, .. } = self;
        if matches!(self.kind, Kind::Vhost { .. }) {
            return;
        }
        run(&format!("ip netns add {netns}"));
        run(&format!("ip -n {netns} link set lo up"));
        if self.kind == Kind::Tap {
            // The switch makes it.
            return;
        }
        run(&format!("ip link add {host} type veth peer name eth0 netns {netns}"));
        run(&format!("sysctl -qw net.ipv6.conf.{host}.disable_ipv6=1"));
        if self.kind == Kind::AfPacket {
            run(&format!("ip netns exec {netns} ethtool -K eth0 tso off gso off"));
        }
        run(&format!("ip link set {host} up"));
        self.configure();
    }

    /// Gives its link this MTU, as far as it is the kernel's.
    pub fn set_mtu(&self, mtu: u16) {
        let ends = match self.kind {
            Kind::Tap => vec![],
            Kind::Bond => [&self.members()[..], &[self.host.clone(), format!("{}c", self.host)]].concat(),
            _ => vec![self.host.clone()],
        };
        for end in ends {
            run(&format!("ip link set {end} mtu {mtu}"));
        }
        run(&format!("ip -n {} link set eth0 mtu {mtu}", self.netns));
    }

    /// Moves the tap device that the switch, or a machine, has made into its namespace.
    pub fn move_tap(&self) {
        let Instance { netns, host, .. } = self;
        run(&format!("ip link set {host} netns {netns} name eth0"));
        self.configure();
    }

    /// Joins the members of its bond, which the switch or a machine has made, to its link.
    pub fn bridge(&self) {
        let bridge = format!("{}c", self.host);
        run(&format!("ip link add {bridge} type bridge mcast_snooping 0"));
        let [first, second] = self.members();
        for interface in [&first, &second, &self.host, &bridge] {
            run(&format!("sysctl -qw net.ipv6.conf.{interface}.disable_ipv6=1"));
        }
        for interface in [&first, &second, &self.host] {
            run(&format!("ip link set {interface} master {bridge} up"));
        }
        run(&format!("ip link set {bridge} up"));
    }

    /// Takes the far end of a member's link away, or gives it back.
    pub fn set_member(&self, member: usize, up: bool) {
        run(&format!("ip link set {} {}", self.members()[member], if up { "up" } else { "down" }));
    }

    /// Frames that the far end of a member's link has received.
    pub fn received_by_member(&self, member: usize) -> u64 {
        let file = format!("/sys/class/net/{}/statistics/rx_packets", self.members()[member]);
        std::fs::read_to_string(file).expect("it is there").trim().parse().expect("a number")
    }

    /// Sets the interface in the namespace up.
    fn configure(&self) {
        let Instance { netns, .. } = self;
        for setting in ["eth0.accept_ra=0", "eth0.router_solicitations=0", "eth0.accept_dad=0"] {
            run(&format!("ip netns exec {netns} sysctl -qw net.ipv6.conf.{setting}"));
        }
        run(&format!("ip -n {netns} link set eth0 address {}", self.mac()));
        run(&format!("ip -n {netns} addr add {}/24 dev eth0", self.v4()));
        run(&format!("ip -n {netns} addr add {}/64 dev eth0 nodad", self.v6()));
        run(&format!("ip -n {netns} link set eth0 up"));
    }

    /// Takes its namespace and its link down.
    pub fn unplug(&self) {
        if matches!(self.kind, Kind::Vhost { .. }) {
            return;
        }
        try_run(&format!("ip link del {}", self.host));
        if self.kind == Kind::Bond {
            try_run(&format!("ip link del {}c", self.host));
        }
        try_run(&format!("ip netns del {}", self.netns));
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = kill(Pid::from_raw(daemon.id() as i32), Signal::SIGTERM);
            drop(daemon.wait());
        }
        if std::thread::panicking() {
            eprintln!("the daemon said:\n{}", self.read_log());
        }
        self.instances.iter().for_each(Instance::unplug);
        drop(std::fs::remove_dir_all(&self.folder));
    }
}
