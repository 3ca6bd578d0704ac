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
use super::traffic::{Counts, Load, Plugin};
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
}

/// A subject that runs and waits for traffic; ends when dropped.
pub struct Running {
    children: Vec<Child>,
    /// What goes through it.
    pub counts: Counts,
}

impl Drop for Running {
    fn drop(&mut self) {
        while let Some(mut child) = self.children.pop() {
            end(&mut child);
        }
    }
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
    /// The core that the packets are worked on.
    pub core: usize,
    /// Megabytes of ordinary memory that the switch is to use instead of huge pages.
    pub ordinary_memory: Option<u32>,
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
                };
                self.start_switch(&traffic.load(), &setup)
            }
        }
    }

    fn log(&self, name: &str) -> io::Result<Stdio> {
        Ok(std::fs::File::create(self.folder.join(format!("{name}.log")))?.into())
    }

    fn spawn(&self, command: &mut Command, name: &str, load: &Load) -> io::Result<Child> {
        self.plugin.equip(command, load);
        command.stdout(self.log(name)?).stderr(self.log(&format!("{name}-errors"))?);
        command.spawn().map_err(|e| io::Error::other(format!("{name}: {e}")))
    }

    fn start_floor(&self, traffic: Traffic) -> io::Result<Running> {
        let load = traffic.load();
        let mut command = Command::new("dpdk-testpmd");
        command
            .args(["-l", &format!("0,{}", self.core)])
            .arg("--in-memory")
            .args(self.plugin.eal(&load))
            .arg("--");
        command.args(["--forward-mode=macswap", "--port-topology=paired", "--auto-start"]);
        command
            .args(["--nb-cores=1", "--no-flush-rx", "--total-num-mbufs=32768", "--stats-period=600"])
            .stdin(Stdio::null());
        let mut child = self.spawn(&mut command, "testpmd", &load)?;
        match self.plugin.wait(&mut child, &load) {
            Ok(counts) => Ok(Running { children: vec![child], counts }),
            Err(error) => {
                end(&mut child);
                Err(error)
            }
        }
    }

    /// The socket of the switch's interface.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("switch.sock")
    }

    /// The sum of what the running switch tells by metrics whose lines begin so.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn metric(&self, start: &str) -> io::Result<u64> {
        let mut stream = UnixStream::connect(self.socket())?;
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: sgswitch\r\nConnection: close\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
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
        let Setup { cores, connections, allowance, policy } = setup;
        std::fs::write(
            &config,
            format!("[connections]\nper_worker = {connections}\nper_interface = {allowance}\n"),
        )?;
        let cores: Vec<String> = cores.iter().map(usize::to_string).collect();
        let mut command = Command::new(binary("sgswitchd"));
        command.arg("--config").arg(&config).arg("--socket").arg(&socket).arg("--store").arg(&store);
        command.args(["--cores", &cores.join(","), "--log", "warn", "--", "-l", "0"]);
        command.args(self.plugin.eal(load)).stdin(Stdio::null());
        match self.ordinary_memory {
            Some(megabytes) => command.args(["--no-huge", "--no-shconf", "-m", &megabytes.to_string()]),
            None => command.arg("--in-memory"),
        };
        let mut child = self.spawn(&mut command, "sgswitchd", load)?;
        let started = self.plugin.wait(&mut child, load).and_then(|counts| {
            let file = self.folder.join("policy.json");
            std::fs::write(&file, policy.to_string())?;
            let push =
                Command::new(binary("sgctl")).arg("--socket").arg(&socket).arg("push").arg(&file).output()?;
            match push.status.success() {
                true => Ok(counts),
                false => Err(io::Error::other(String::from_utf8_lossy(&push.stderr).into_owned())),
            }
        });
        match started {
            Ok(counts) => Ok(Running { children: vec![child], counts }),
            Err(error) => {
                end(&mut child);
                Err(error)
            }
        }
    }

    fn start_ovs(&self, traffic: Traffic) -> io::Result<Running> {
        let folder = self.folder.join("ovs");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder)?;
        let mut children = vec![];
        let counts = self.ovs(&folder, traffic, &mut children);
        match counts {
            Ok(counts) => Ok(Running { children, counts }),
            Err(error) => {
                children.iter_mut().rev().for_each(end);
                Err(error)
            }
        }
    }

    fn ovs(&self, folder: &Path, traffic: Traffic, children: &mut Vec<Child>) -> io::Result<Counts> {
        let load = traffic.load();
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
        children.push(
            server
                .stdin(Stdio::null())
                .stdout(self.log("ovsdb")?)
                .stderr(self.log("ovsdb-errors")?)
                .spawn()?,
        );
        while !Path::new(&socket).exists() {
            if let Some(status) = children[0].try_wait()? {
                return Err(io::Error::other(format!("ovsdb-server: {status}")));
            }
            sleep(Duration::from_millis(20));
        }
        let remote = format!("unix:{socket}");
        let to_database = format!("--db={remote}");
        let configure =
            |words: &[&str]| tool("ovs-vsctl", &[&["--timeout=60", &to_database], words].concat());
        let plugin = self.plugin.path.display();
        configure(&["--no-wait", "init"])?;
        configure(&[
            "--no-wait",
            "set",
            "Open_vSwitch",
            ".",
            "other_config:dpdk-init=true",
            &format!("other_config:dpdk-extra=\"--no-pci --in-memory -d {plugin}\""),
            "other_config:dpdk-lcore-mask=0x1",
            &format!("other_config:pmd-cpu-mask={:#x}", 1u64 << self.core),
            "other_config:dpdk-socket-mem=1024",
        ])?;
        let mut daemon = Command::new("/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk");
        daemon.envs(folders);
        daemon.arg(&remote).arg(format!("--unixctl={}", file("vs.ctl"))).stdin(Stdio::null());
        children.push(self.spawn(&mut daemon, "ovs-vswitchd", &load)?);
        let bridge = ["--", "set", "bridge", "br0", "datapath_type=netdev", "fail_mode=secure"];
        configure(&[&["add-br", "br0"], &bridge[..], &["protocols=OpenFlow13"]].concat())?;
        for port in 0..2 {
            let (name, number) = (format!("d{port}"), format!("ofport_request={}", port + 1));
            let device = format!("options:dpdk-devargs=net_null{port},size=64");
            let kind = ["--", "set", "Interface", &name, "type=dpdk", &device, &number];
            configure(&[&["add-port", "br0", &name], &kind[..]].concat())?;
        }
        let counts = self.plugin.wait(&mut children[1], &load)?;
        let flows = file("flows");
        std::fs::write(&flows, pipeline(traffic))?;
        let bridge = format!("unix:{}", file("br0.mgmt"));
        tool("ovs-ofctl", &["-OOpenFlow13", "add-flows", &bridge, &flows])?;
        let control = format!("--target={}", file("vs.ctl"));
        tool("ovs-appctl", &[&control, "dpctl/ct-set-maxconns", "16000000"])?;
        Ok(counts)
    }
}
