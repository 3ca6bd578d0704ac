//! The traffic plugin (`tests/bench/traffic.c`) from outside: what a program is
//! given, and what has gone through it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What both ports of a program are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Datagrams of known flows, both ways.
    Established,
    /// One datagram of each flow, one way, once.
    New,
    /// Datagrams that no rule permits, one way.
    Strays,
}

/// How long all flows may take to go through twice: ten million of them, by a
/// peer that takes two microseconds for each and more for new ones.
const PATIENCE: Duration = Duration::from_secs(240);

/// One case: the traffic and the rules that it meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// What is sent.
    pub kind: Kind,
    /// How many flows it is of.
    pub flows: u64,
    /// How many rules the flows are spread over; 0: everything is open.
    pub rules: u64,
}

/// Places of the words in the file that the plugin and its readers share.
mod word {
    pub const READY: u64 = 0;
    pub const GATE: u64 = 1;
    pub const TSC_HZ: u64 = 2;
    pub const PORT: u64 = 8;
    pub const PORT_WORDS: u64 = 8;
    pub const SENT: u64 = 0;
    pub const RECEIVED: u64 = 1;
    pub const ROUNDS: u64 = 2;
    pub const FIRST_TSC: u64 = 3;
    pub const LAST_TSC: u64 = 4;
}

/// The plugin's counters, of one program that runs.
pub struct Counts {
    file: File,
}

/// Where the plugin is and what it counts in.
#[derive(Clone, Debug)]
pub struct Plugin {
    /// The shared library.
    pub path: PathBuf,
    stats: PathBuf,
}

impl Plugin {
    /// The plugin at this path; its counters are in a file of memory.
    pub fn new(path: &Path) -> Plugin {
        let stats = PathBuf::from(format!("/dev/shm/sgswitch-bench-{}", std::process::id()));
        Plugin { path: path.to_path_buf(), stats }
    }

    /// Lets a program that will load the plugin have this traffic.
    pub fn equip(&self, command: &mut Command, traffic: Traffic) {
        let Traffic { kind, flows, rules } = traffic;
        let _ = std::fs::remove_file(&self.stats);
        let (there, back) = match kind {
            Kind::Established => ("requests", "replies"),
            Kind::New => ("new", "none"),
            Kind::Strays => ("strays", "none"),
        };
        command
            .env("TRAFFIC_STATS", &self.stats)
            .env("TRAFFIC_net_null0", format!("{there},{flows},{rules}"))
            .env("TRAFFIC_net_null1", format!("{back},{flows},{rules}"));
    }

    /// EAL's arguments: two ports that send and take what the plugin says.
    pub fn eal(&self) -> Vec<String> {
        let plugin = self.path.display().to_string();
        let ports = ["net_null0", "net_null1"].map(|port| ["--vdev".to_string(), format!("{port},size=64")]);
        let mut words = ["--no-pci", "--in-memory", "-d"].map(String::from).to_vec();
        words.push(plugin);
        words.extend(ports.into_iter().flatten());
        words
    }

    /// Waits until both ports of a program are under way.
    ///
    /// # Errors
    /// If it ends, or takes more than half a minute.
    pub fn wait(&self, child: &mut Child) -> io::Result<Counts> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = child.try_wait()? {
                return Err(io::Error::other(format!("it has ended: {status}")));
            }
            let file = OpenOptions::new().read(true).write(true).open(&self.stats);
            if let Ok(counts) = file.map(|file| Counts { file })
                && counts.word(word::READY).is_ok_and(|ready| ready == 2)
            {
                return Ok(counts);
            }
            if Instant::now() > deadline {
                return Err(io::Error::other("its ports are not up after 30 s"));
            }
            sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.stats);
    }
}

/// What one measurement has found.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// Nanoseconds per packet that the program was given.
    pub nanoseconds: f64,
    /// The share of them that came out.
    pub passed: f64,
}

impl Counts {
    fn word(&self, at: u64) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, at * 8)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn of_port(&self, port: u64, at: u64) -> io::Result<u64> {
        self.word(word::PORT + port * word::PORT_WORDS + at)
    }

    fn of_both(&self, at: u64) -> io::Result<u64> {
        Ok(self.of_port(0, at)? + self.of_port(1, at)?)
    }

    /// Opens the gate and measures for so long, once every flow has been seen
    /// twice; of new flows, the one round that there is.
    ///
    /// # Errors
    /// If the traffic does not get through in four minutes.
    pub fn measure(&self, traffic: Traffic, time: Duration) -> io::Result<Figure> {
        let deadline = Instant::now() + PATIENCE;
        self.file.write_all_at(&1u64.to_le_bytes(), word::GATE * 8)?;
        let (ports, rounds) = match traffic.kind {
            Kind::Established => (2, 2),
            Kind::New => (1, 1),
            Kind::Strays => (1, 2),
        };
        let is_warm = || -> io::Result<bool> {
            for port in 0..ports {
                if self.of_port(port, word::ROUNDS)? < rounds {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        while !is_warm()? {
            if Instant::now() > deadline {
                return Err(io::Error::other("the traffic takes too long"));
            }
            sleep(Duration::from_millis(5));
        }
        if traffic.kind == Kind::New {
            sleep(Duration::from_millis(50));
            let cycles = self.of_port(0, word::LAST_TSC)? - self.of_port(0, word::FIRST_TSC)?;
            let sent = self.of_port(0, word::SENT)? as f64;
            let nanoseconds = cycles as f64 / self.word(word::TSC_HZ)? as f64 * 1e9 / sent;
            return Ok(Figure { nanoseconds, passed: self.of_both(word::RECEIVED)? as f64 / sent });
        }
        let state = || -> io::Result<_> {
            Ok((Instant::now(), self.of_both(word::SENT)?, self.of_both(word::RECEIVED)?))
        };
        let (start, sent, received) = state()?;
        sleep(time);
        let (end, sent_then, received_then) = state()?;
        let packets = (sent_then - sent) as f64;
        Ok(Figure {
            nanoseconds: (end - start).as_nanos() as f64 / packets,
            passed: (received_then - received) as f64 / packets,
        })
    }

    /// Cycles of the time stamp counter per second.
    pub fn tsc_hz(&self) -> io::Result<u64> {
        self.word(word::TSC_HZ)
    }
}
