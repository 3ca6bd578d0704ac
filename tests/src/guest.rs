//! Virtual machines under QEMU, plugged in by vhost-user.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::lab::{Instance, Kind, Lab, binary};

/// How long a machine may take to boot, or to answer: it is emulated, beside others.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running machine. Dropped, it is switched off.
pub struct Guest {
    instance: Instance,
    machine: Child,
    console: Mutex<BufReader<UnixStream>>,
}

/// What a machine has beside its one CPU and link.
#[derive(Clone, Copy, Debug)]
pub struct Hardware {
    /// CPUs, each with a pair of queues of its own.
    pub cpus: u8,
    /// Of its interface, in bytes.
    pub mtu: u16,
    /// Further properties of the network card.
    pub card: &'static str,
}

impl Default for Hardware {
    fn default() -> Hardware {
        Hardware { cpus: 1, mtu: 1500, card: "" }
    }
}

/// Kernel and initramfs, which `scripts/guest` makes.
fn image(name: &str) -> PathBuf {
    let programs = binary("probe");
    let target = programs.ancestors().nth(2).expect("a folder of builds");
    let path = target.join("guest").join(name);
    assert!(path.exists(), "there is no {}: scripts/guest makes it", path.display());
    path
}

impl Guest {
    /// Boots the machine of an instance whose port is of [`Kind::Vhost`].
    ///
    /// # Panics
    /// If it does not come up.
    pub fn boot(lab: &Lab, name: &str, hardware: Hardware) -> Guest {
        let instance = lab.instance(name).clone();
        let Hardware { cpus, mtu, card } = hardware;
        let Kind::Vhost { client } = instance.kind else { panic!("{name} has no vhost-user port") };
        let (socket, console) = (instance.socket(), lab.folder().join(format!("{name}.console")));
        drop(std::fs::remove_file(&console));
        // The one that does not listen knocks until the other does.
        let side = if client { "server=on,wait=off" } else { "reconnect=1" };
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-accel", "tcg", "-cpu", "max", "-nodefaults", "-display", "none", "-no-reboot"]);
        command.args(["-m", "256", "-object", "memory-backend-memfd,id=memory,size=256M,share=on"]);
        command.args(["-numa", "node,memdev=memory", "-smp", &cpus.to_string()]);
        command.arg("-kernel").arg(image("vmlinuz")).arg("-initrd").arg(image("initrd"));
        command.args(["-append", "console=ttyS0 quiet panic=-1"]);
        command.arg("-serial").arg(format!("file:{}", lab.folder().join(format!("{name}.log")).display()));
        command.arg("-chardev");
        command.arg(format!("socket,id=console,path={},server=on,wait=off", console.display()));
        command.args(["-serial", "chardev:console"]);
        command.arg("-chardev").arg(format!("socket,id=link,path={},{side}", socket.display()));
        command.arg("-netdev").arg(format!("vhost-user,id=net,chardev=link,queues={cpus}"));
        let (mac, mq) = (instance.mac(), if cpus > 1 { "on" } else { "off" });
        // No MSI-X: without KVM, QEMU 7.2 crashes when a vhost device has some.
        let device = format!("virtio-net-pci,netdev=net,mac={mac},mq={mq},vectors=0,mrg_rxbuf=on{card}");
        command.arg("-device").arg(device);
        let log = lab.folder().join(format!("{name}.qemu"));
        let log = std::fs::File::options().create(true).append(true).open(log).expect("a log");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        let machine = command.spawn().expect("qemu-system-x86_64 can be run");

        let deadline = Instant::now() + PATIENCE;
        let stream = loop {
            match UnixStream::connect(&console) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < deadline, "{name} has no console: {error}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let guest = Guest { instance, machine, console: Mutex::new(BufReader::new(stream)) };
        let mut line = String::new();
        let mut console = guest.console.lock().unwrap_or_else(PoisonError::into_inner);
        let read = console.read_line(&mut line);
        drop(console);
        assert_eq!(line.trim(), "ready", "{name} has not booted: {read:?}, {}", guest.read_log(lab));
        let (v4, v6) = (guest.instance.v4(), guest.instance.v6());
        for words in [
            format!("ip addr add {v4}/24 dev eth0"),
            format!("ip link set eth0 mtu {mtu} up"),
            format!("ip addr add {v6}/64 dev eth0"),
        ] {
            let (status, text) = guest.run(&words);
            assert_eq!(status, 0, "{name}: {words}: {text}");
        }
        guest
    }

    fn read_log(&self, lab: &Lab) -> String {
        let of =
            |end: &str| std::fs::read_to_string(lab.folder().join(format!("{}.{end}", self.instance.name)));
        [of("qemu"), of("log")].map(Result::unwrap_or_default).concat()
    }

    /// Its addresses and its port.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// Runs a line of shell in it. Returns its exit status and what it printed.
    ///
    /// # Panics
    /// If the machine does not answer.
    pub fn run(&self, line: &str) -> (i32, String) {
        let mut console = self.console.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(console.get_mut(), "{line}").expect("the console takes it");
        let mut text = String::new();
        loop {
            let mut answer = String::new();
            let read = console.read_line(&mut answer);
            assert!(read.is_ok_and(|n| n > 0), "{} does not answer '{line}'", self.instance.name);
            match answer.strip_prefix("status ") {
                Some(status) => return (status.trim().parse().expect("a status"), text),
                None => text += &answer,
            }
        }
    }

    /// Runs a probe in it to its end; whether it found what it looked for.
    pub fn probe(&self, arguments: &[&str]) -> bool {
        let (status, text) = self.run(&format!("probe {}", arguments.join(" ")));
        if status != 0 {
            println!("in {}: {}", self.instance.name, text.trim());
        }
        status == 0
    }

    /// Starts a probe that serves as long as the machine runs.
    ///
    /// # Panics
    /// If it does not say that it is ready.
    pub fn serve(&self, arguments: &[&str]) {
        let words = arguments.join(" ");
        let wait = "for i in $(seq 100); do grep -q ready /tmp/said && break; usleep 50000; done";
        let (status, text) =
            self.run(&format!("probe {words} > /tmp/said 2>&1 & {wait}; grep -q ready /tmp/said"));
        assert_eq!(status, 0, "probe {words} in {}: {text}", self.instance.name);
    }

    /// Whether a ping with so many bytes of data is answered.
    pub fn ping(&self, address: &str, bytes: u16) -> bool {
        self.run(&format!("ping -c 1 -W 2 -s {bytes} {address}")).0 == 0
    }

    /// TCP segments, UDP datagrams and ICMP messages that it has dropped because
    /// their checksum was wrong.
    pub fn checksum_errors(&self) -> i64 {
        let read = |file: &str| self.run(&format!("cat /proc/net/{file}")).1;
        crate::lab::checksum_errors(&read("snmp"), &read("snmp6"))
    }
}

impl Drop for Guest {
    /// Like a machine whose power is pulled.
    fn drop(&mut self) {
        drop(self.machine.kill());
        drop(self.machine.wait());
    }
}
