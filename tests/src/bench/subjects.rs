//! The programs that are measured: the floor, the peer and the switch, each on
//! one core, with the same ports.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::Traffic;
use super::rules::{Third, document, pipeline};
use super::traffic::{Counts, Load, Plugin, PluginFolder};
use crate::lab::binary;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// testpmd, which swaps MAC addresses and sends: what receiving and sending takes.
    Floor,
    /// Open vSwitch over DPDK with connection tracking.
    OvsDpdk,
    /// The switch.
    Sgswitch,
}

impl Subject {
    /// All, in the order in which they take turns.
    pub const ALL: [Subject; 3] = [Subject::Floor, Subject::OvsDpdk, Subject::Sgswitch];

    /// The stable name.
    pub const fn label(self) -> &'static str {
        match self {
            Subject::Floor => "testpmd",
            Subject::OvsDpdk => "ovs-dpdk",
            Subject::Sgswitch => "sgswitch",
        }
    }
}

/// How the switch is to run.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The CPU of each worker.
    pub cores: Vec<usize>,
    /// Connections that each has room for.
    pub connections: usize,
    /// And how many of them an interface may have.
    pub allowance: usize,
    /// The policy.
    pub policy: Value,
    /// The fields of the flow logs that it writes to `flows.log`, if any.
    pub flow_logs: Option<&'static str>,
}

/// By which ports a subject takes packets and gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// Ports of its own that the plugin fills and empties.
    Replayed,
    /// vhost-user sockets. Their other ends are testpmd's, on another core: it passes on
    /// what the plugin fills and empties there.
    Guests,
}

/// Programs that run; ended, the last first, when dropped.
struct Children(Vec<Child>);

impl Drop for Children {
    fn drop(&mut self) {
        while let Some(mut child) = self.0.pop() {
            end(&mut child);
        }
    }
}

/// A subject that runs and waits for traffic; ends when dropped.
pub struct Running {
    _children: Children,
    /// What goes through it.
    pub counts: Counts,
}

fn end(child: &mut Child) {
    let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM);
    let deadline = Instant::now() + Duration::from_secs(10);
    while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
        sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// Where subjects keep their files, and which core they work on.
pub struct Bench {
    /// For sockets, stores and logs.
    pub folder: PathBuf,
    /// The source of the traffic.
    pub plugin: Plugin,
    /// How it comes.
    pub ports: Ports,
    /// Whether how long packets take is counted; see [`Load::is_timed`].
    pub is_timed: bool,
    /// The core that the packets are worked on.
    pub core: usize,
    /// Megabytes of ordinary memory that the switch is to use instead of huge pages.
    pub ordinary_memory: Option<u32>,
}

impl PluginFolder {
    /// A bench for tests: on CPU 1, in ordinary memory. Files are in this folder.
    ///
    /// # Errors
    /// If the plugin does not compile.
    pub fn bench(&self) -> io::Result<Bench> {
        Ok(Bench {
            folder: self.path().to_path_buf(),
            plugin: self.compile()?,
            ports: Ports::Replayed,
            is_timed: false,
            core: 1,
            ordinary_memory: Some(512),
        })
    }
}

/// The socket of the guest at a port.
fn guest(folder: &Path, port: usize) -> PathBuf {
    folder.join(format!("guest{port}"))
}

/// Connections that the switch has room for, however few flows there are.
const FEWEST_CONNECTIONS: usize = 100_000;

impl Bench {
    /// Starts a subject with the rules of this traffic. With 0 rules everything
    /// is open, which leaves nothing to track.
    ///
    /// # Errors
    /// With what it said, if it does not start.
    pub fn start(&self, subject: Subject, traffic: Traffic) -> io::Result<Running> {
        for port in 0..self.load(traffic).streams.len() {
            // One who was killed has left it.
            let _ = std::fs::remove_file(guest(&self.folder, port));
        }
        match subject {
            Subject::Floor => self.start_floor(traffic),
            Subject::OvsDpdk => self.start_ovs(traffic),
            Subject::Sgswitch => {
                // Somewhat more than there are flows: the table is nearly full of them.
                let connections = (traffic.flows as usize * 6 / 5).max(FEWEST_CONNECTIONS);
                let setup = Setup {
                    cores: vec![self.core],
                    connections,
                    allowance: connections,
                    policy: document(traffic, Third::Nobody),
                    flow_logs: None,
                };
                self.start_switch(&self.load(traffic), &setup)
            }
        }
    }

    /// What the ports send. Guests send no more than the subject takes: what would not fit
    /// into their rings never came to it.
    fn load(&self, traffic: Traffic) -> Load {
        Load { has_window: self.ports == Ports::Guests, is_timed: self.is_timed, ..traffic.load() }
    }

    fn log(&self, name: &str) -> io::Result<Stdio> {
        Ok(std::fs::File::create(self.folder.join(format!("{name}.log")))?.into())
    }

    fn spawn(&self, command: &mut Command, name: &str) -> io::Result<Child> {
        command.stdout(self.log(name)?).stderr(self.log(&format!("{name}-errors"))?);
        command.spawn().map_err(|e| io::Error::other(format!("{name}: {e}")))
    }

    /// The device at which a guest is, for EAL.
    fn vhost(&self, port: usize) -> String {
        format!("net_vhost{port},iface={}", guest(&self.folder, port).display())
    }

    fn testpmd(cores: [usize; 2], devices: impl Iterator<Item = String>) -> Command {
        let mut command = Command::new("dpdk-testpmd");
        let [main, forwarding] = cores;
        command.args([&format!("--lcores=0@{main},1@{forwarding}"), "--in-memory", "--no-pci"]);
        // A guest hands all its memory over, by one descriptor for each file of it.
        command.arg("--single-file-segments");
        command.args(devices.flat_map(|device| ["--vdev".to_string(), device]));
        command.stdin(Stdio::null());
        command
    }

    fn forward(command: &mut Command) {
        command.args(["--", "--port-topology=paired", "--nb-cores=1", "--no-flush-rx"]);
        command.arg("--total-num-mbufs=32768");
    }

    /// Waits until traffic through the last of these programs can begin. Where it comes by
    /// guests, they are started now; their sockets are in this folder.
    fn wait(&self, mut children: Children, load: &Load, folder: &Path) -> io::Result<Running> {
        if self.ports == Ports::Guests {
            let deadline = Instant::now() + Duration::from_secs(30);
            while !(0..load.streams.len()).all(|port| guest(folder, port).exists()) {
                if Instant::now() > deadline {
                    return Err(io::Error::other("it does not listen for guests after 30 s"));
                }
                sleep(Duration::from_millis(20));
            }
            let device = |port| {
                let link =
                    format!("net_virtio_user{port},path={},queue_size=4096", guest(folder, port).display());
                [Plugin::device(port), link]
            };
            // Their rings hold what is under way, also where the plugin has given up on some.
            // The subject has the other core.
            let core = usize::from(self.core == 0);
            let mut command = Bench::testpmd([core; 2], (0..load.streams.len()).flat_map(device));
            self.plugin.equip(&mut command, load);
            command.args(self.plugin.loaded());
            Bench::forward(&mut command);
            let mut guests =
                self.spawn(command.args(["-i", "--rxd=4096", "--txd=4096"]).stdin(Stdio::piped()), "guests")?;
            // It would drop what its ring does not take at once. It ends with its input, which is kept.
            let waits = b"set fwd io retry\nset burst tx delay 1 retry 1000000\nstart\n";
            let told = guests.stdin.as_mut().map_or(Ok(()), |input| input.write_all(waits));
            children.0.push(guests);
            told?;
        }
        let last = children.0.last_mut().ok_or_else(|| io::Error::other("nothing was started"))?;
        let counts = self.plugin.wait(last, load)?;
        Ok(Running { _children: children, counts })
    }

    fn start_floor(&self, traffic: Traffic) -> io::Result<Running> {
        let (load, ports) = (self.load(traffic), self.ports);
        let device = |port| match ports {
            Ports::Replayed => Plugin::device(port),
            Ports::Guests => self.vhost(port),
        };
        let mut command = Bench::testpmd([0, self.core], (0..load.streams.len()).map(device));
        if ports == Ports::Replayed {
            self.plugin.equip(&mut command, &load);
            command.args(self.plugin.loaded());
        }
        Bench::forward(&mut command);
        command.args(["--forward-mode=macswap", "--auto-start", "--stats-period=600"]);
        let children = Children(vec![self.spawn(&mut command, "testpmd")?]);
        self.wait(children, &load, &self.folder)
    }

    /// The socket of the switch's interface.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("switch.sock")
    }

    /// What the running switch answers at a path.
    ///
    /// # Errors
    /// If it does not answer, or otherwise.
    pub fn get(&self, path: &str) -> io::Result<String> {
        let mut stream = UnixStream::connect(self.socket())?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: sgswitch\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        match answer.starts_with("HTTP/1.1 200 ") {
            true => Ok(answer),
            false => Err(io::Error::other(format!("{path}: {answer}"))),
        }
    }

    /// The sum of what the running switch tells by metrics whose lines begin so.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn metric(&self, start: &str) -> io::Result<u64> {
        let page = self.get("/metrics")?;
        let values = page.lines().filter(|line| line.starts_with(start));
        Ok(values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64)
    }

    /// What the running switch has logged.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn switch_log(&self) -> io::Result<String> {
        let read = |name: &str| std::fs::read_to_string(self.folder.join(name));
        Ok(read("sgswitchd.log")? + &read("sgswitchd-errors.log")?)
    }

    /// Starts the switch with a policy.
    ///
    /// # Errors
    /// With what it said, if it does not start.
    pub fn start_switch(&self, load: &Load, setup: &Setup) -> io::Result<Running> {
        let (socket, store) = (self.socket(), self.folder.join("switch.db"));
        let _ = std::fs::remove_file(&store);
        let config = self.folder.join("switch.toml");
        let Setup { cores, connections, allowance, policy, flow_logs } = setup;
        let mut text = format!("[connections]\nper_worker = {connections}\nper_interface = {allowance}\n");
        if let Some(format) = flow_logs {
            let file = self.folder.join("flows.log");
            text += &format!(
                "[flow_logs]\nfile = {file:?}\nformat = {format:?}\ninterval_seconds = 1\nkept = 1\n"
            );
        }
        std::fs::write(&config, text)?;
        let cores: Vec<String> = cores.iter().map(usize::to_string).collect();
        let mut command = Command::new(binary("sgswitchd"));
        command.arg("--config").arg(&config).arg("--socket").arg(&socket).arg("--store").arg(&store);
        command.args(["--cores", &cores.join(","), "--log", "warn"]).stdin(Stdio::null());
        let ports = 0..load.streams.len();
        if self.ports == Ports::Guests {
            // By the names that the policy has for them.
            let port = |port| [String::from("--port"), format!("net_null{port}={}", self.vhost(port))];
            command.args(ports.clone().flat_map(port));
        }
        command.args(["--", "-l", "0", "--no-pci"]);
        if self.ports == Ports::Replayed {
            self.plugin.equip(&mut command, load);
            command.args(self.plugin.loaded());
            command.args(ports.flat_map(|port| ["--vdev".to_string(), Plugin::device(port)]));
        }
        match self.ordinary_memory {
            Some(megabytes) => command.args(["--no-huge", "--no-shconf", "-m", &megabytes.to_string()]),
            None => command.arg("--in-memory"),
        };
        let children = Children(vec![self.spawn(&mut command, "sgswitchd")?]);
        let running = self.wait(children, load, &self.folder)?;
        let file = self.folder.join("policy.json");
        std::fs::write(&file, policy.to_string())?;
        let push =
            Command::new(binary("sgctl")).arg("--socket").arg(&socket).arg("push").arg(&file).output()?;
        let error = || io::Error::other(String::from_utf8_lossy(&push.stderr).into_owned());
        push.status.success().then_some(running).ok_or_else(error)
    }

    fn start_ovs(&self, traffic: Traffic) -> io::Result<Running> {
        let folder = &self.folder.join("ovs");
        let _ = std::fs::remove_dir_all(folder);
        std::fs::create_dir_all(folder)?;
        let (load, mut children) = (self.load(traffic), Children(vec![]));
        let folders = ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"].map(|name| (name, folder));
        let tool = |program: &str, arguments: &[&str]| -> io::Result<()> {
            let mut command = Command::new(program);
            command.envs(folders);
            let output = command.args(arguments).output()?;
            let error =
                || io::Error::other(format!("{program}: {}", String::from_utf8_lossy(&output.stderr)));
            output.status.success().then_some(()).ok_or_else(error)
        };
        let file = |name: &str| folder.join(name).display().to_string();
        let (database, socket) = (file("conf.db"), file("db.sock"));
        tool("ovsdb-tool", &["create", &database, "/usr/share/openvswitch/vswitch.ovsschema"])?;
        let mut server = Command::new("ovsdb-server");
        server.envs(folders);
        server
            .arg(&database)
            .arg(format!("--remote=punix:{socket}"))
            .arg(format!("--unixctl={}", file("db.ctl")));
        children.0.push(self.spawn(server.stdin(Stdio::null()), "ovsdb")?);
        while !Path::new(&socket).exists() {
            if let Some(status) = children.0[0].try_wait()? {
                return Err(io::Error::other(format!("ovsdb-server: {status}")));
            }
            sleep(Duration::from_millis(20));
        }
        let remote = format!("unix:{socket}");
        let to_database = format!("--db={remote}");
        let configure =
            |words: &[&str]| tool("ovs-vsctl", &[&["--timeout=60", &to_database], words].concat());
        let plugin = match self.ports {
            Ports::Replayed => self.plugin.loaded().join(" "),
            Ports::Guests => String::new(),
        };
        configure(&["--no-wait", "init"])?;
        configure(&[
            "--no-wait",
            "set",
            "Open_vSwitch",
            ".",
            "other_config:dpdk-init=true",
            &format!("other_config:dpdk-extra=\"--no-pci --in-memory {plugin}\""),
            "other_config:dpdk-lcore-mask=0x1",
            &format!("other_config:pmd-cpu-mask={:#x}", 1u64 << self.core),
            "other_config:dpdk-socket-mem=1024",
        ])?;
        let mut daemon = Command::new("/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk");
        daemon.envs(folders);
        daemon.arg(&remote).arg(format!("--unixctl={}", file("vs.ctl"))).stdin(Stdio::null());
        if self.ports == Ports::Replayed {
            self.plugin.equip(&mut daemon, &load);
        }
        children.0.push(self.spawn(&mut daemon, "ovs-vswitchd")?);
        let bridge = ["--", "set", "bridge", "br0", "datapath_type=netdev", "fail_mode=secure"];
        configure(&[&["add-br", "br0"], &bridge[..], &["protocols=OpenFlow13"]].concat())?;
        for port in 0..2 {
            let (name, number) = (format!("guest{port}"), format!("ofport_request={}", port + 1));
            let device = format!("options:dpdk-devargs={}", Plugin::device(port));
            let kind = match self.ports {
                Ports::Replayed => &["type=dpdk", &device][..],
                // It listens at a socket that has the port's name.
                Ports::Guests => &["type=dpdkvhostuser"],
            };
            let interface = [&["--", "set", "Interface", &name], kind, &[&number]].concat();
            configure(&[&["add-port", "br0", &name], &interface[..]].concat())?;
        }
        let running = self.wait(children, &load, folder)?;
        let flows = file("flows");
        std::fs::write(&flows, pipeline(traffic))?;
        let bridge = format!("unix:{}", file("br0.mgmt"));
        tool("ovs-ofctl", &["-OOpenFlow13", "add-flows", &bridge, &flows])?;
        let control = format!("--target={}", file("vs.ctl"));
        tool("ovs-appctl", &[&control, "dpctl/ct-set-maxconns", "16000000"])?;
        Ok(running)
    }
}
