//! Virtual machines under QEMU: plugged into the switch by vhost-user, or running it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::lab::{Instance, Kind, Lab, checksum_errors};
use crate::scripts::target;

/// How long a machine may take to boot, or to answer: it is emulated, beside others.
const PATIENCE: Duration = Duration::from_secs(120);

/// A machine that boots an initramfs, and runs what its console is told. Dropped, it
/// is switched off, like one whose power is pulled.
pub struct Machine {
    name: String,
    process: Child,
    console: Mutex<BufReader<UnixStream>>,
    monitor: PathBuf,
}

/// A machine that is plugged into the switch.
pub struct Guest {
    instance: Instance,
    machine: Machine,
}

/// What a machine has beside its one CPU and link.
#[derive(Clone, Copy, Debug)]
pub struct Hardware {
    /// CPUs, each with a pair of queues of its own.
    pub cpus: u8,
    /// Of its interface, in bytes.
    pub mtu: u16,
    /// Whether its card completes checksums and takes super-frames.
    pub offloads: bool,
}

impl Default for Hardware {
    fn default() -> Hardware {
        Hardware { cpus: 1, mtu: 1500, offloads: true }
    }
}

/// Kernel and initramfs, which `scripts/guest` makes.
fn image(name: &str) -> PathBuf {
    let path = target().join("guest").join(name);
    assert!(path.exists(), "there is no {}: scripts/guest makes it", path.display());
    path
}

impl Machine {
    /// Boots a kernel and an initramfs of `scripts/guest` with these arguments of QEMU's;
    /// its files are in the folder.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn boot(folder: &Path, name: &str, initrd: &str, append: &str, arguments: &[String]) -> Machine {
        let of = |name| image(name).display().to_string();
        let append = format!("console=ttyS0 quiet panic=-1 {append}");
        let kernel = ["-kernel", &of("vmlinuz"), "-initrd", &of(initrd), "-append", &append];
        Machine::start(folder, name, &[&kernel.map(String::from)[..], arguments].concat(), PATIENCE)
    }

    /// Starts a machine; if it does not come up, once more: without KVM, a kernel of two CPUs
    /// was seen to stand still before it had said anything, and not when it was tried again.
    fn start(folder: &Path, name: &str, arguments: &[String], patience: Duration) -> Machine {
        let start = || Machine::try_start(folder, name, arguments, patience);
        let again = |reason| {
            eprintln!("{reason}; it is started once more");
            start()
        };
        start().or_else(again).unwrap_or_else(|reason| panic!("{reason}"))
    }

    /// Boots a disk, which is not changed. What is on it says that it is ready, and
    /// runs commands, at its second serial port.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn boot_disk(folder: &Path, name: &str, disk: &Path, arguments: &[String]) -> Machine {
        let drive = format!("file={},if=virtio,format=qcow2,snapshot=on", disk.display());
        let drive = ["-drive".to_string(), drive];
        // Firmware, boot loader and all of Debian, emulated.
        Machine::start(folder, name, &[&drive[..], arguments].concat(), 5 * PATIENCE)
    }

    fn try_start(
        folder: &Path,
        name: &str,
        arguments: &[String],
        patience: Duration,
    ) -> Result<Machine, String> {
        let console = folder.join(format!("{name}.console"));
        let monitor = folder.join(format!("{name}.monitor"));
        drop((std::fs::remove_file(&console), std::fs::remove_file(&monitor)));
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-accel", "tcg", "-cpu", "max", "-nodefaults", "-display", "none", "-no-reboot"]);
        command.arg("-serial").arg(format!("file:{}", folder.join(format!("{name}.log")).display()));
        command.arg("-chardev");
        command.arg(format!("socket,id=console,path={},server=on,wait=off", console.display()));
        command.arg("-qmp").arg(format!("unix:{},server=on,wait=off", monitor.display()));
        command.args(["-serial", "chardev:console"]).args(arguments);
        let log = folder.join(format!("{name}.qemu"));
        let log = std::fs::File::options().create(true).append(true).open(log).expect("a log");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        let process = command.spawn().expect("qemu-system-x86_64 can be run");

        let deadline = Instant::now() + PATIENCE;
        let stream = loop {
            match UnixStream::connect(&console) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < deadline, "{name} has no console: {error}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        stream.set_read_timeout(Some(patience)).expect("a timeout");
        let console = Mutex::new(BufReader::new(stream));
        let machine = Machine { name: name.to_string(), process, console, monitor };
        let mut line = String::new();
        let read = machine.lock().read_line(&mut line);
        drop(machine.lock().get_ref().set_read_timeout(Some(PATIENCE)));
        let said = || {
            let of = |end| std::fs::read_to_string(folder.join(format!("{name}.{end}")));
            ["qemu", "log"].map(of).map(Result::unwrap_or_default).concat()
        };
        match line.trim() {
            "ready" => Ok(machine),
            other => Err(format!("{name} has not booted: {read:?}, {other:?}, {}", said())),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BufReader<UnixStream>> {
        self.console.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a line of shell. Returns its exit status and what it printed.
    ///
    /// # Panics
    /// If the machine does not answer.
    pub fn run(&self, line: &str) -> (i32, String) {
        let mut console = self.lock();
        writeln!(console.get_mut(), "{line}").expect("the console takes it");
        let mut text = String::new();
        loop {
            let mut answer = Vec::new();
            let read = console.read_until(b'\n', &mut answer);
            assert!(read.is_ok_and(|n| n > 0), "{} does not answer '{line}'", self.name);
            let answer = String::from_utf8_lossy(&answer);
            match answer.strip_prefix("status ") {
                Some(status) => return (status.trim().parse().expect("a status"), text),
                None => text += &answer,
            }
        }
    }

    /// Runs a line that is to succeed, and returns what it printed.
    ///
    /// # Panics
    /// If it fails.
    pub fn must(&self, line: &str) -> String {
        let (status, text) = self.run(line);
        assert_eq!(status, 0, "{}: {line}: {text}", self.name);
        text
    }

    /// Takes the link of a card away, or gives it back: of the one that is joined to
    /// this `-netdev` of QEMU's.
    ///
    /// # Panics
    /// If QEMU refuses.
    pub fn set_link(&self, netdev: &str, up: bool) {
        let stream = UnixStream::connect(&self.monitor).expect("QEMU has a monitor");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut answers = BufReader::new(&stream).lines();
        // It says first what it is.
        let mut answer = || answers.next().and_then(Result::ok).unwrap_or_default();
        let greeting = answer();
        let ask = json!({ "execute": "set_link", "arguments": { "name": netdev, "up": up } });
        for question in [json!({ "execute": "qmp_capabilities" }), ask] {
            writeln!(&stream, "{question}").expect("the monitor takes it");
            // Events may come in between.
            let said = std::iter::repeat_with(&mut answer).find(|line| !line.contains("\"event\""));
            let is_done = said.as_ref().is_some_and(|line| line.contains("\"return\""));
            assert!(is_done, "{}: {question}: {greeting} {said:?}", self.name);
        }
    }

    /// Stops its processors, or lets them go on.
    pub fn freeze(&self, frozen: bool) {
        let signal = if frozen { Signal::SIGSTOP } else { Signal::SIGCONT };
        kill(Pid::from_raw(self.process.id() as i32), signal).expect("it is ours");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Guest {
    /// Boots the machine of an instance whose port is of [`Kind::Vhost`].
    ///
    /// # Panics
    /// If it does not come up.
    pub fn boot(lab: &Lab, name: &str, hardware: Hardware) -> Guest {
        let instance = lab.instance(name).clone();
        let Hardware { cpus, mtu, offloads } = hardware;
        let Kind::Vhost { client } = instance.kind else { panic!("{name} has no vhost-user port") };
        // The one that does not listen knocks until the other does.
        let side = if client { "server=on,wait=off" } else { "reconnect=1" };
        let (socket, mac) = (instance.socket(), instance.mac());
        let mq = if cpus > 1 { "on" } else { "off" };
        // No MSI-X: without KVM, QEMU 7.2 crashes when a vhost device has some.
        let mut device = format!("virtio-net-pci,netdev=net,mac={mac},mq={mq},vectors=0,mrg_rxbuf=on");
        if !offloads {
            for feature in ["", "tso4", "tso6", "ecn", "ufo"] {
                let (guest, host) = match feature {
                    "" => ("guest_csum".to_string(), "csum".to_string()),
                    _ => (format!("guest_{feature}"), format!("host_{feature}")),
                };
                device += &format!(",{guest}=off,{host}=off");
            }
        }
        let arguments = [
            ["-m", "256"].map(String::from),
            ["-object", "memory-backend-memfd,id=memory,size=256M,share=on"].map(String::from),
            ["-numa", "node,memdev=memory"].map(String::from),
            ["-smp".to_string(), cpus.to_string()],
            ["-chardev".to_string(), format!("socket,id=link,path={},{side}", socket.display())],
            ["-netdev".to_string(), format!("vhost-user,id=net,chardev=link,queues={cpus}")],
            ["-device".to_string(), device],
        ];
        let machine = Machine::boot(lab.folder(), name, "initrd", "", &arguments.concat());
        let guest = Guest { instance, machine };
        let (v4, v6) = (guest.instance.v4(), guest.instance.v6());
        guest.machine.must(&format!("ip addr add {v4}/24 dev eth0"));
        guest.machine.must(&format!("ip link set eth0 mtu {mtu} up"));
        guest.machine.must(&format!("ip addr add {v6}/64 dev eth0"));
        guest
    }

    /// Its addresses and its port.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// What it runs on.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Runs a probe in it to its end; whether it found what it looked for.
    pub fn probe(&self, arguments: &[&str]) -> bool {
        let (status, text) = self.machine.run(&format!("probe {}", arguments.join(" ")));
        if status != 0 {
            println!("in {}: {}", self.instance.name, text.trim());
        }
        status == 0
    }

    /// Runs probes at the same time, as [`ask`](crate::ask) does; which found what they looked for.
    ///
    /// # Panics
    /// If one does not come to an end.
    pub fn probes<const N: usize>(&self, probes: [&[&str]; N]) -> [bool; N] {
        let start = |(which, words): (usize, &&[&str])| {
            // What they say themselves would come in pieces, between each other's.
            let probe = format!("probe {} > /dev/null 2>&1", words.join(" "));
            format!("({probe}; echo \"ended {which} $?\") & started=\"$started $!\"; ")
        };
        let start: String = probes.iter().enumerate().map(start).collect();
        let (_, text) = self.machine.run(&format!("started=; {start}wait $started"));
        let ended = |which: usize| {
            let status = text.lines().find_map(|line| line.strip_prefix(&format!("ended {which} ")));
            status.unwrap_or_else(|| panic!("in {}: {:?}: {text}", self.instance.name, probes[which]))
        };
        std::array::from_fn(|which| ended(which) == "0")
    }

    /// Starts a probe that serves as long as the machine runs.
    ///
    /// # Panics
    /// If it does not say that it is ready.
    pub fn serve(&self, arguments: &[&str]) {
        let words = arguments.join(" ");
        let wait = "for i in $(seq 100); do grep -q ready /tmp/said && break; usleep 50000; done";
        self.machine.must(&format!("probe {words} > /tmp/said 2>&1 & {wait}; grep -q ready /tmp/said"));
    }

    /// Whether a ping with so many bytes of data is answered.
    pub fn ping(&self, address: &str, bytes: u16) -> bool {
        self.machine.run(&format!("ping -c 1 -W 2 -s {bytes} {address}")).0 == 0
    }

    /// TCP segments, UDP datagrams and ICMP messages that it has dropped because
    /// their checksum was wrong.
    pub fn checksum_errors(&self) -> i64 {
        let read = |file: &str| self.machine.must(&format!("cat /proc/net/{file}"));
        checksum_errors(&read("snmp"), &read("snmp6"))
    }
}
