use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use dpdk::{Eal, Mempool, MempoolConfig, Port};
use engine::addr::{Family, Prefix};
use engine::conntrack::Timeouts;
use engine::forward::{Addresses, Interface, Interfaces, PortRole, Vpc};
use engine::ids::{InterfaceId, PortIndex, VpcIndex};
use engine::packet::build::{Packet, capture, ip, mac};
use engine::policy::{DirectionRules, Policy, ServiceSet};
use engine::snapshot::Snapshot;
use engine::verdict::DropReason;
use worker::{Datapath, DatapathConfig, Idle, WorkerStatistics};

/// One datapath at a time: there are two cores, and ring names are the process's.
pub fn alone() -> (MutexGuard<'static, ()>, Eal) {
    static LOCK: Mutex<()> = Mutex::new(());
    static EAL: OnceLock<Eal> = OnceLock::new();
    let guard = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let start = || {
        let arguments =
            ["-l", "0", "--no-huge", "--no-shconf", "--no-pci", "-m", "512", "--log-level", "error"];
        Eal::init("datapath", &arguments.map(String::from)).unwrap()
    };
    (guard, EAL.get_or_init(start).clone())
}

pub fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{what}{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A file that goes when it is no longer needed.
pub struct Capture(pub PathBuf);

impl Capture {
    pub fn new(frames: &[Vec<u8>]) -> Capture {
        let path =
            std::env::temp_dir().join(format!("sgswitch-worker-{}-{}", std::process::id(), unique("f")));
        std::fs::write(&path, capture(frames)).unwrap();
        Capture(path)
    }

    /// The frames of a capture that a port wrote.
    pub fn read(path: &std::path::Path) -> Vec<Vec<u8>> {
        let bytes = std::fs::read(path).unwrap();
        let mut rest = &bytes[24..];
        let mut frames = Vec::new();
        while let Some((header, after)) = rest.split_first_chunk::<16>() {
            let length = u32::from_le_bytes([header[8], header[9], header[10], header[11]]) as usize;
            frames.push(after[..length].to_vec());
            rest = &after[length..];
        }
        frames
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

/// Two interfaces, on ports 0 and 1; a may send UDP to b's port 53.
pub fn snapshot(generation: u64, open: bool) -> Snapshot {
    let mut outbound = DirectionRules::default();
    let mut inbound = DirectionRules::default();
    if open {
        outbound.permit_everyone(Family::V4, &ServiceSet::ports(17, 53, 53));
        inbound.permit_everyone(Family::V4, &ServiceSet::ports(17, 53, 53));
    }
    let policies =
        [Policy::new(DirectionRules::default(), outbound), Policy::new(inbound, DirectionRules::default())];
    let interface = |(n, policy)| {
        let n: u16 = n;
        Arc::new(Interface {
            id: InterfaceId::new(n.into(), 1),
            vpc: VpcIndex(0),
            mac: mac(n as u8 + 1),
            port: Some(PortIndex(n)),
            behind: None,
            addresses: Addresses::new([Prefix::new(ip(&format!("10.{n}.0.0")), 16).unwrap()]),
            source_dest_check: true,
            policy: Arc::new(policy),
            revoked: None,
            timeouts: Timeouts::DEFAULT,
            settings: Default::default(),
            border: None,
        })
    };
    let interfaces: Vec<_> = (0u16..).zip(policies).map(interface).collect();
    let ids: Vec<InterfaceId> = interfaces.iter().map(|i| i.id).collect();
    Snapshot {
        generation,
        ports: (0..).map(PortIndex).zip(ids.iter().map(|id| PortRole::Interface(*id))).collect(),
        vpcs: vec![Vpc::new(vec![], ids)],
        interfaces: Interfaces::new(interfaces),
        ..Snapshot::closed()
    }
}

pub fn config(workers: usize) -> DatapathConfig {
    DatapathConfig {
        cores: (0..workers).collect(),
        idle: Idle::Sleep { max: Duration::from_millis(1) },
        connections_per_worker: 10_000,
        interface_slots: 16,
        ring_size: 4096,
        seed: [1, 2, 3, 4],
        rx_descriptors: 512,
        tx_descriptors: 512,
    }
}

pub fn pool(eal: &Eal) -> Mempool {
    let config = MempoolConfig { mbufs: 16_383, cache: 128, ..MempoolConfig::default() };
    pool_of(eal, &config)
}

pub fn pool_of(eal: &Eal, config: &MempoolConfig) -> Mempool {
    Mempool::new(eal, &unique("pool"), config).unwrap()
}

pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub fn sum(datapath: &Datapath, of: impl Fn(&WorkerStatistics) -> u64) -> u64 {
    datapath.workers().iter().map(|w| of(&w.statistics)).sum()
}

pub fn drops(datapath: &Datapath, reason: DropReason) -> u64 {
    datapath.workers().iter().map(|w| w.counters.drops.get(reason)).sum()
}

/// Requests of so many flows from a to b, three packets of each in a row, every
/// fourth to a port that is closed.
pub fn requests(flows: u16) -> Vec<Vec<u8>> {
    let request = |n: u16, round: u8| {
        let port = if n % 4 == 3 { 54 } else { 53 };
        let (src, dst) = (format!("10.0.0.1:{}", 1000 + n), format!("10.1.0.1:{port}"));
        Packet::udp(&src, &dst, &[round; 20]).frame(mac(1), mac(2))
    };
    (0..flows).flat_map(|n| (0..3).map(move |round| request(n, round))).collect()
}

/// Puts a device into service; every worker takes its part.
pub fn plug(datapath: &mut Datapath, eal: &Eal, index: PortIndex, devargs: &str) {
    assert_eq!(datapath.plug(index, Port::attach(eal, devargs).unwrap()), Ok(0));
}

/// Stops a datapath: how many packets it has received in all, and dropped.
pub fn stopped(datapath: Datapath) -> (u64, u64) {
    let workers = datapath.workers().to_vec();
    datapath.stop();
    let received = workers.iter().map(|w| w.statistics.received.get()).sum();
    (received, workers.iter().map(|w| w.counters.drops.total()).sum())
}

pub struct Run {
    pub datapath: Datapath,
    pub pool: Mempool,
    pub output: Capture,
    pub _input: Capture,
}

/// Starts a datapath whose port 0 reads these frames and whose port 1 writes a capture.
pub fn run(eal: &Eal, workers: usize, frames: &[Vec<u8>], initial: Snapshot) -> Run {
    run_as(eal, &config(workers), frames, initial)
}

pub fn run_as(eal: &Eal, config: &DatapathConfig, frames: &[Vec<u8>], initial: Snapshot) -> Run {
    run_in(eal, pool(eal), config, frames, initial)
}

pub fn run_in(
    eal: &Eal,
    pool: Mempool,
    config: &DatapathConfig,
    frames: &[Vec<u8>],
    initial: Snapshot,
) -> Run {
    run_with(eal, pool, config, frames, "", initial)
}

/// The same with more arguments for the port that reads.
pub fn run_with(
    eal: &Eal,
    pool: Mempool,
    config: &DatapathConfig,
    frames: &[Vec<u8>],
    arguments: &str,
    initial: Snapshot,
) -> Run {
    let (input, output) = (Capture::new(frames), Capture(std::env::temp_dir().join(unique("sgswitch-out-"))));
    let reader = format!("{},rx_pcap={}{arguments}", unique("net_pcap_in"), input.0.display());
    let writer = format!("{},tx_pcap={}", unique("net_pcap_out"), output.0.display());
    let mut datapath = Datapath::start(eal, &pool, config, initial).unwrap();
    // The one that writes first: what the other reads at once must get there.
    for (index, devargs) in [(1, writer), (0, reader)] {
        plug(&mut datapath, eal, PortIndex(index), &devargs);
    }
    Run { datapath, pool, output, _input: input }
}
