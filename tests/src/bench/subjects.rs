//! The programs that are measured: the floor, the peer and the switch, each on
//! one core, with the same ports.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::traffic::{Counts, Kind, Plugin, Traffic};
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
}

/// Whether clients of rules, or everyone, may come to the server.
fn is_open(traffic: Traffic) -> bool {
    traffic.rules == 0
}

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
            Subject::Sgswitch => self.start_switch(traffic),
        }
    }

    fn log(&self, name: &str) -> io::Result<Stdio> {
        Ok(std::fs::File::create(self.folder.join(format!("{name}.log")))?.into())
    }

    fn spawn(&self, command: &mut Command, name: &str, traffic: Traffic) -> io::Result<Child> {
        self.plugin.equip(command, Traffic { rules: traffic.rules.max(1), ..traffic });
        command.stdout(self.log(name)?).stderr(self.log(&format!("{name}-errors"))?);
        command.spawn().map_err(|e| io::Error::other(format!("{name}: {e}")))
    }

    fn start_floor(&self, traffic: Traffic) -> io::Result<Running> {
        let mut command = Command::new("dpdk-testpmd");
        command.args(["-l", &format!("0,{}", self.core)]).args(self.plugin.eal()).arg("--");
        command.args(["--forward-mode=macswap", "--port-topology=paired", "--auto-start"]);
        command.args(["--nb-cores=1", "--total-num-mbufs=32768", "--stats-period=600"]).stdin(Stdio::null());
        let mut child = self.spawn(&mut command, "testpmd", traffic)?;
        match self.plugin.wait(&mut child) {
            Ok(counts) => Ok(Running { children: vec![child], counts }),
            Err(error) => {
                end(&mut child);
                Err(error)
            }
        }
    }

    fn start_switch(&self, traffic: Traffic) -> io::Result<Running> {
        let (socket, store) = (self.folder.join("switch.sock"), self.folder.join("switch.db"));
        let _ = std::fs::remove_file(&store);
        let mut command = Command::new(binary("sgswitchd"));
        command.arg("--socket").arg(&socket).arg("--store").arg(&store);
        command.args(["--connections", "16000000", "--log", "warn", "--", "-l", &format!("0,{}", self.core)]);
        command.args(self.plugin.eal()).stdin(Stdio::null());
        let mut child = self.spawn(&mut command, "sgswitchd", traffic)?;
        let started = self.plugin.wait(&mut child).and_then(|counts| {
            let policy = self.folder.join("policy.json");
            std::fs::write(&policy, document(traffic).to_string())?;
            let push = Command::new(binary("sgctl"))
                .arg("--socket")
                .arg(&socket)
                .arg("push")
                .arg(&policy)
                .output()?;
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
        children.push(self.spawn(&mut daemon, "ovs-vswitchd", traffic)?);
        let bridge = ["--", "set", "bridge", "br0", "datapath_type=netdev", "fail_mode=secure"];
        configure(&[&["add-br", "br0"], &bridge[..], &["protocols=OpenFlow13"]].concat())?;
        for port in 0..2 {
            let (name, number) = (format!("d{port}"), format!("ofport_request={}", port + 1));
            let device = format!("options:dpdk-devargs=net_null{port},size=64");
            let kind = ["--", "set", "Interface", &name, "type=dpdk", &device, &number];
            configure(&[&["add-port", "br0", &name], &kind[..]].concat())?;
        }
        let counts = self.plugin.wait(&mut children[1])?;
        let flows = file("flows");
        std::fs::write(&flows, pipeline(traffic))?;
        let bridge = format!("unix:{}", file("br0.mgmt"));
        tool("ovs-ofctl", &["-OOpenFlow13", "add-flows", &bridge, &flows])?;
        let control = format!("--target={}", file("vs.ctl"));
        tool("ovs-appctl", &[&control, "dpctl/ct-set-maxconns", "16000000"])?;
        Ok(counts)
    }
}

/// The clients of a rule, and the port that it opens to them, as
/// `tests/bench/traffic.c` makes their packets.
fn rule(number: u64) -> (String, u64) {
    (format!("10.{}.{}.0/24", 1 + (number >> 8), number & 255), 1000 + number * 37 % 50000)
}

/// The policy: clients at port 0, a server at port 1 with so many rules; or
/// everything open to everyone.
fn document(traffic: Traffic) -> Value {
    let permission = |protocol: &str, ports: Option<u64>, block: &str| {
        let mut permission = json!({ "IpProtocol": protocol, "IpRanges": [{ "CidrIp": block }] });
        if let Some(port) = ports {
            permission["FromPort"] = port.into();
            permission["ToPort"] = port.into();
        }
        permission
    };
    let all = || json!([permission("-1", None, "0.0.0.0/0")]);
    let rules = (0..traffic.rules).map(|number| {
        let (block, port) = rule(number);
        permission("udp", Some(port), &block)
    });
    let (clients, server) = match is_open(traffic) {
        true => (all(), all()),
        false => (json!([]), Value::from(rules.collect::<Vec<_>>())),
    };
    let group = |id: &str, name: &str, rules: Value| {
        json!({
            "GroupId": id, "GroupName": name, "Description": name, "VpcId": "vpc-1",
            "IpPermissions": rules, "IpPermissionsEgress": all(),
        })
    };
    json!({
        "Vpcs": [{ "VpcId": "vpc-1" }],
        "SecurityGroups": [group("sg-0000000000000000a", "clients", clients), group("sg-0000000000000000b", "servers", server)],
        "NetworkInterfaces": [
            { "NetworkInterfaceId": "eni-0000000000000000a", "VpcId": "vpc-1", "MacAddress": "02:00:00:00:00:0a",
              "Groups": [{ "GroupId": "sg-0000000000000000a" }], "PrivateIpAddresses": [], "Ipv6Addresses": [],
              "Ipv4Prefixes": [{ "Ipv4Prefix": "10.0.0.0/8" }] },
            { "NetworkInterfaceId": "eni-0000000000000000b", "VpcId": "vpc-1", "MacAddress": "02:00:00:00:00:0b",
              "Groups": [{ "GroupId": "sg-0000000000000000b" }], "Ipv6Addresses": [],
              "PrivateIpAddresses": [{ "PrivateIpAddress": "192.168.0.11", "Primary": true }] },
        ],
        "Bindings": [
            { "NetworkInterfaceId": "eni-0000000000000000a", "Port": "net_null0" },
            { "NetworkInterfaceId": "eni-0000000000000000b", "Port": "net_null1" },
        ],
        "Settings": { "Quotas": "unlimited" },
    })
}

/// The same as flows of OpenFlow: a source check, one trip through the tracker,
/// then established connections, then the rules. Less than EC2 asks for, since
/// only one of the two ends is judged.
fn pipeline(traffic: Traffic) -> String {
    let mut lines = vec![];
    if is_open(traffic) {
        lines.push("in_port=1,ip,dl_src=02:00:00:00:00:0a,nw_src=10.0.0.0/8,actions=output:2".to_string());
        lines.push("in_port=2,ip,dl_src=02:00:00:00:00:0b,nw_src=192.168.0.11,actions=output:1".to_string());
        return lines.join("\n");
    }
    let track = "actions=ct(table=1,zone=1)";
    lines.push(format!("table=0,in_port=1,ip,dl_src=02:00:00:00:00:0a,nw_src=10.0.0.0/8,{track}"));
    lines.push(format!("table=0,in_port=2,ip,dl_src=02:00:00:00:00:0b,nw_src=192.168.0.11,{track}"));
    for (from, to) in [(1, 2), (2, 1)] {
        lines
            .push(format!("table=1,priority=90,ct_state=+trk+est-inv,ip,in_port={from},actions=output:{to}"));
    }
    for number in 0..traffic.rules {
        let (block, port) = rule(number);
        let admitted = "actions=ct(commit,zone=1),output:2";
        lines.push(format!(
            "table=1,priority=50,ct_state=+trk+new,udp,in_port=1,nw_src={block},tp_dst={port},{admitted}"
        ));
    }
    lines.push("table=1,priority=0,actions=drop".to_string());
    lines.join("\n")
}

/// The traffic of a case, by the name that its line begins with.
pub fn case_name(traffic: Traffic) -> &'static str {
    match (traffic.kind, is_open(traffic)) {
        (Kind::Established, true) => "untracked",
        (Kind::Established, false) => "established",
        (Kind::New, _) => "new flows",
        (Kind::Strays, _) => "denied",
    }
}
