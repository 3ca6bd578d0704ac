//! The traffic plugin (`tests/bench/traffic.c`) from outside: what a program is
//! given, and what has gone through it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What one port sends: a kind of `tests/bench/frames.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// The kind's name.
    pub kind: &'static str,
    /// How many flows, or frames of an attack.
    pub flows: u64,
    /// How many rules the flows are spread over.
    pub rules: u64,
}

/// By which receive queue of a port a frame comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dealing {
    /// By the first.
    One,
    /// By all, whatever its flow.
    Any,
    /// By the one that a card would choose as the program has told the port.
    Rss,
}

impl Dealing {
    const fn label(self) -> &'static str {
        match self {
            Dealing::One => "one",
            Dealing::Any => "any",
            Dealing::Rss => "rss",
        }
    }
}

/// What all ports of a program are given: the first is the clients', the second the
/// server's, the third, if there is one, whoever's means no good.
#[derive(Clone, Debug)]
pub struct Load {
    /// By port; three at most.
    pub streams: Vec<Stream>,
    /// How frames come.
    pub dealing: Dealing,
    /// Whether they come no faster than they leave.
    pub has_window: bool,
    /// Whether how long each took is counted, and they come at a [pace](Counts::pace);
    /// datagrams over IPv4 only.
    pub is_timed: bool,
}

/// The most ports, and queues of each, that are counted.
const PORTS: usize = 3;
const QUEUES: usize = 4;

/// How long all flows may take to go through twice: ten million of them, or a million
/// by a peer that takes microseconds for each; on a core that others use as well.
const PATIENCE: Duration = Duration::from_secs(240);

/// Places of the words in the file that the plugin and its readers share.
mod word {
    pub const READY: usize = 0;
    pub const GATE: usize = 1;
    pub const TSC_HZ: usize = 2;
    pub const DEAL: usize = 3;
    pub const DEALT: usize = 4;
    pub const PACE: usize = 5;
    pub const QUEUE: usize = 8;
    pub const QUEUE_WORDS: usize = 8;
    pub const SENT: usize = 0;
    pub const ROUNDS: usize = 1;
    pub const RECEIVED: usize = 2;
    pub const STRAY: usize = 3;
    pub const FIRST_TSC: usize = 4;
    pub const LAST_TSC: usize = 5;
    pub const MARK: usize = QUEUE + super::PORTS * super::QUEUES * QUEUE_WORDS;
    pub const WAIT: usize = MARK + super::MARKS;
    pub const ALL: usize = WAIT + super::WAITS;
}

/// Marks along the first round of port 0.
pub const MARKS: usize = 256;

/// What packets took, in cycles: up to 32 each, and then 32 to an octave.
const FINE: usize = 32;
const WAITS: usize = 60 * FINE;

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

    /// EAL's arguments to load it.
    pub fn loaded(&self) -> [String; 2] {
        ["-d".to_string(), self.path.display().to_string()]
    }

    /// Lets a program that will load the plugin have this traffic.
    pub fn equip(&self, command: &mut Command, load: &Load) {
        let _ = std::fs::remove_file(&self.stats);
        command.env("TRAFFIC_STATS", &self.stats).env("TRAFFIC_QUEUES", load.dealing.label());
        if load.has_window {
            command.env("TRAFFIC_WINDOW", "yes");
        }
        if load.is_timed {
            command.env("TRAFFIC_TIMED", "yes");
        }
        for (port, Stream { kind, flows, rules }) in load.streams.iter().enumerate() {
            command.env(format!("TRAFFIC_net_null{port}"), format!("{kind},{flows},{}", (*rules).max(1)));
        }
    }

    /// The device, for EAL, of a port that sends and takes what the plugin says.
    pub fn device(port: usize) -> String {
        format!("net_null{port},size=64")
    }

    /// Waits until all ports of a program are under way.
    ///
    /// # Errors
    /// If it ends, or takes more than half a minute.
    pub fn wait(&self, child: &mut Child, load: &Load) -> io::Result<Counts> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = child.try_wait()? {
                return Err(io::Error::other(format!("it has ended: {status}")));
            }
            let file = OpenOptions::new().read(true).write(true).open(&self.stats);
            if let Ok(counts) = file.map(|file| Counts { file })
                && counts.words().is_ok_and(|words| words[word::READY] == load.streams.len() as u64)
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

/// A folder that tests compile the plugin in; gone when dropped. EAL loads none from a folder
/// that everyone may write to, as /tmp is.
pub struct PluginFolder(PathBuf);

impl PluginFolder {
    /// A new one.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn new(name: &str) -> io::Result<PluginFolder> {
        let folder = PathBuf::from(format!("/run/sgswitch-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        Ok(PluginFolder(folder))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The plugin, compiled anew.
    ///
    /// # Errors
    /// If that does not succeed.
    pub fn compile(&self) -> io::Result<Plugin> {
        let flags = Command::new("pkg-config").args(["--cflags", "libdpdk"]).output()?;
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/traffic.c");
        let library = self.0.join("traffic.so");
        let mut compiler = Command::new("gcc");
        compiler.args(["-O2", "-march=x86-64-v3", "-fPIC", "-shared", "-o"]).arg(&library).arg(source);
        compiler.args(String::from_utf8_lossy(&flags.stdout).split_whitespace()).arg("-lm");
        let status = compiler.status()?;
        status
            .success()
            .then(|| Plugin::new(&library))
            .ok_or_else(|| io::Error::other(format!("gcc: {status}")))
    }
}

impl Drop for PluginFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.stats);
    }
}

/// What went in and came out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Packets given to the program, by port.
    pub sent: [u64; PORTS],
    /// Packets that came out again; without the attacker's, if there is one.
    pub received: u64,
    /// The attacker's that came out.
    pub stray: u64,
}

impl Totals {
    fn since(self, before: Totals) -> Totals {
        Totals {
            sent: std::array::from_fn(|port| self.sent[port] - before.sent[port]),
            received: self.received - before.received,
            stray: self.stray - before.stray,
        }
    }

    /// Packets given to the program that are not the attacker's.
    pub fn honest(&self) -> u64 {
        self.sent[0] + self.sent[1]
    }

    /// Those of them that did not come out.
    pub fn lost(&self) -> u64 {
        self.honest().saturating_sub(self.received)
    }
}

/// A while of traffic, of which nothing is under way any more.
#[derive(Clone, Copy, Debug)]
pub struct Phase {
    /// How long it lasted.
    pub nanoseconds: f64,
    /// What went in and came out.
    pub totals: Totals,
}

impl Phase {
    /// Nanoseconds for each packet that went in.
    pub fn per_packet(&self) -> f64 {
        self.nanoseconds / self.totals.sent.iter().sum::<u64>() as f64
    }
}

/// How long packets took from when they came to when they were sent.
#[derive(Clone, Debug)]
pub struct Waits {
    counts: Vec<u64>,
    tsc_hz: u64,
}

impl Waits {
    /// Those that were counted after others.
    pub fn since(&self, before: &Waits) -> Waits {
        let counts = self.counts.iter().zip(&before.counts).map(|(now, before)| now - before);
        Waits { counts: counts.collect(), tsc_hz: self.tsc_hz }
    }

    /// Nanoseconds within which this share of them was sent, to 3 %; NaN if there is none.
    pub fn within(&self, share: f64) -> f64 {
        let wanted = share * self.counts.iter().sum::<u64>() as f64;
        let mut sum = 0;
        let found = self.counts.iter().position(|count| {
            sum += count;
            sum > 0 && sum as f64 >= wanted
        });
        let cycles = |at: usize| {
            let octave = (at / FINE).saturating_sub(1);
            ((at - octave * FINE) << octave) as f64
        };
        found.map_or(f64::NAN, |at| f64::midpoint(cycles(at), cycles(at + 1)) * 1e9 / self.tsc_hz as f64)
    }
}

impl Counts {
    fn words(&self) -> io::Result<Vec<u64>> {
        let mut bytes = [0; word::ALL * 8];
        self.file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect())
    }

    fn set(&self, at: usize, value: u64) -> io::Result<()> {
        self.file.write_all_at(&value.to_le_bytes(), at as u64 * 8)
    }

    /// Has frames come by the queues that they are to come by, which the program has set up.
    ///
    /// # Errors
    /// If the plugin does not answer.
    pub fn deal(&self) -> io::Result<()> {
        self.set(word::DEAL, 1)?;
        self.until(|words| words[word::DEALT] == 1)
    }

    /// Waits for what the counters are to say.
    fn until(&self, is_so: impl Fn(&[u64]) -> bool) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(&self.words()?) {
            if Instant::now() > deadline {
                return Err(io::Error::other("the traffic takes too long"));
            }
            sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// What went in and came out so far.
    ///
    /// # Errors
    /// If the counters cannot be read.
    pub fn totals(&self) -> io::Result<Totals> {
        let words = self.words()?;
        let of = |port, what| of_queues(&words, port).map(|queue| queue[what]).sum::<u64>();
        let of_all = |what| (0..PORTS).map(|port| of(port, what)).sum();
        Ok(Totals {
            sent: std::array::from_fn(|port| of(port, word::SENT)),
            received: of_all(word::RECEIVED),
            stray: of_all(word::STRAY),
        })
    }

    /// Waits until what is under way has come out, or never will: a core that others
    /// use as well may stand still for a while.
    fn drain(&self) -> io::Result<Totals> {
        let (mut before, mut same) = (self.totals()?, 0);
        while same < 10 {
            sleep(Duration::from_millis(20));
            let now = self.totals()?;
            same = if now == before { same + 1 } else { 0 };
            before = now;
        }
        Ok(before)
    }

    /// Lets these ports (a bit for each) send until each has sent `frames`, and every
    /// frame of a queue so many times.
    ///
    /// # Errors
    /// If that takes more than four minutes.
    pub fn warm(&self, ports: u64, frames: u64, rounds: u64) -> io::Result<()> {
        self.set(word::GATE, ports)?;
        let is_warm = |words: &[u64], port| {
            let sent: u64 = of_queues(words, port).map(|queue| queue[word::SENT]).sum();
            let mut used = of_queues(words, port).filter(|queue| queue[word::SENT] > 0);
            sent >= frames && used.all(|queue| queue[word::ROUNDS] >= rounds)
        };
        let all =
            |words: &[u64]| (0..PORTS).filter(|port| ports >> port & 1 == 1).all(|port| is_warm(words, port));
        let result = self.until(all);
        self.set(word::GATE, 0)?;
        self.drain()?;
        result
    }

    /// Lets these ports send for so long.
    ///
    /// # Errors
    /// If the counters cannot be read or written.
    pub fn phase(&self, ports: u64, time: Duration) -> io::Result<Phase> {
        let before = self.drain()?;
        let start = Instant::now();
        self.set(word::GATE, ports)?;
        sleep(time);
        self.set(word::GATE, 0)?;
        let nanoseconds = start.elapsed().as_nanos() as f64;
        Ok(Phase { nanoseconds, totals: self.drain()?.since(before) })
    }

    /// Lets these ports send all they have, once.
    ///
    /// # Errors
    /// If that takes more than four minutes.
    pub fn once(&self, ports: u64) -> io::Result<Phase> {
        self.warm(ports, 1, 1)?;
        let words = self.words()?;
        let queues =
            || (0..PORTS).flat_map(|port| of_queues(&words, port)).filter(|queue| queue[word::SENT] > 0);
        let first = queues().map(|queue| queue[word::FIRST_TSC]).min().unwrap_or(0);
        let last = queues().map(|queue| queue[word::LAST_TSC]).max().unwrap_or(0);
        let nanoseconds = (last - first) as f64 / words[word::TSC_HZ] as f64 * 1e9;
        Ok(Phase { nanoseconds, totals: self.totals()? })
    }

    /// Nanoseconds that each stretch between two marks took, along the first round of
    /// port 0; 0 where there is none.
    ///
    /// # Errors
    /// If the counters cannot be read.
    pub fn stretches(&self) -> io::Result<Vec<f64>> {
        let words = self.words()?;
        let cycles = |pair: &[u64]| if pair.contains(&0) { 0 } else { pair[1] - pair[0] };
        let nanoseconds = 1e9 / words[word::TSC_HZ] as f64;
        Ok(words[word::MARK..word::WAIT].windows(2).map(|pair| cycles(pair) as f64 * nanoseconds).collect())
    }

    /// Has packets of a port come so many nanoseconds after one another, on average; with 0
    /// one is there whenever the program asks.
    ///
    /// # Errors
    /// If the counters cannot be written.
    pub fn pace(&self, nanoseconds: f64) -> io::Result<()> {
        self.set(word::PACE, (nanoseconds * self.tsc_hz()? as f64 / 1e9) as u64)
    }

    /// What packets took so far.
    ///
    /// # Errors
    /// If the counters cannot be read.
    pub fn waits(&self) -> io::Result<Waits> {
        let words = self.words()?;
        Ok(Waits { counts: words[word::WAIT..word::ALL].to_vec(), tsc_hz: words[word::TSC_HZ] })
    }

    /// Cycles of the time stamp counter per second.
    ///
    /// # Errors
    /// If the counters cannot be read.
    pub fn tsc_hz(&self) -> io::Result<u64> {
        Ok(self.words()?[word::TSC_HZ])
    }
}

/// The counters of a port's queues.
fn of_queues(words: &[u64], port: usize) -> impl Iterator<Item = &[u64]> {
    let start = word::QUEUE + port * QUEUES * word::QUEUE_WORDS;
    words[start..start + QUEUES * word::QUEUE_WORDS].chunks(word::QUEUE_WORDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the plugin does.
    fn place(wait: u64) -> usize {
        let octave = if wait < FINE as u64 { 0 } else { 63 - wait.leading_zeros() - FINE.ilog2() };
        octave as usize * FINE + (wait >> octave) as usize
    }

    #[test]
    fn waits_are_told_to_three_percent() {
        for cycles in [1_u64, 31, 32, 33, 63, 64, 1000, 123_456, 1 << 40] {
            let mut counts = vec![0; WAITS];
            counts[place(cycles)] = 1;
            let told = Waits { counts, tsc_hz: 1_000_000_000 }.within(0.5);
            assert!(
                (told - cycles as f64 - 0.5).abs() <= (cycles as f64 * 0.03).max(0.5),
                "{cycles}: {told}"
            );
        }
    }

    #[test]
    fn shares_are_of_those_that_came_since() {
        let mut counts = vec![0; WAITS];
        counts[place(10)] = 98;
        let before = Waits { counts: counts.clone(), tsc_hz: 1_000_000_000 };
        counts[place(20)] = 99;
        counts[place(30)] = 1;
        let waits = Waits { counts, tsc_hz: 1_000_000_000 }.since(&before);
        assert_eq!([0.5, 0.99, 0.999].map(|share| waits.within(share)), [20.5, 20.5, 30.5]);
        assert!(waits.since(&waits).within(0.5).is_nan());
    }
}
