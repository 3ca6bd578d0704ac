//! Configuration: a TOML file, and flags over it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use engine::conntrack::Timeouts;
use engine::time::Ticks;
use serde::Deserialize;
use worker::Idle;

/// Everything the daemon is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Arguments for EAL, untouched.
    pub eal: Vec<String>,
    /// The CPU of each worker; empty: EAL's lcores but the main one.
    pub cores: Vec<usize>,
    /// Ports to attach beside those that EAL finds by its own arguments.
    pub ports: Vec<PortSetting>,
    /// What idle workers do.
    pub idle: Idle,
    /// Connections each worker has room for.
    pub connections: usize,
    /// Interfaces a policy may have.
    pub interfaces: usize,
    /// How long connections are remembered, where an interface does not say.
    pub timeouts: Timeouts,
    /// Mbufs in the pool.
    pub mbufs: u32,
    /// Bytes of a frame that fit one mbuf.
    pub mbuf_room: u16,
    /// Packets that fit each ring between workers.
    pub ring_size: u32,
    /// Descriptors of each queue, receiving and sending.
    pub descriptors: (u16, u16),
    /// How long a push waits for the workers.
    pub enforce_timeout: Duration,
    /// The API's socket.
    pub socket: PathBuf,
    /// Its mode.
    pub socket_mode: u32,
    /// Its group, by name.
    pub socket_group: Option<String>,
    /// Where metrics are served by TCP.
    pub metrics: Option<SocketAddr>,
    /// The store.
    pub store: PathBuf,
    /// What is logged.
    pub log: tracing::Level,
}

/// A port to attach.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortSetting {
    /// DPDK's device arguments: a PCI address, or a virtual device such as
    /// `net_af_packet0,iface=veth0`.
    pub device: String,
    /// The name bindings use; the device's own if it is left out.
    #[serde(default)]
    pub name: Option<String>,
}

/// A DPDK switch that enforces EC2 security groups.
#[derive(Debug, Parser)]
#[command(name = "sgswitchd", version, about)]
struct Flags {
    /// Configuration file (TOML); flags win over it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// CPU of each worker [default: EAL's lcores but the main one].
    #[arg(long, value_name = "CPU,...", value_delimiter = ',')]
    cores: Vec<usize>,
    /// Attach a port: DEVICE, or NAME=DEVICE to call it otherwise. A comma after
    /// the device's name starts its arguments.
    #[arg(long = "port", value_name = "[NAME=]DEVICE")]
    ports: Vec<String>,
    /// What idle workers do.
    #[arg(long, value_enum)]
    idle: Option<IdleMode>,
    /// Connections each worker has room for.
    #[arg(long, value_name = "N")]
    connections: Option<usize>,
    /// Mbufs in the pool.
    #[arg(long, value_name = "N")]
    mbufs: Option<u32>,
    /// The API's Unix socket.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The socket's mode, in octal.
    #[arg(long, value_name = "MODE")]
    socket_mode: Option<String>,
    /// The group whose members may use the socket.
    #[arg(long, value_name = "GROUP")]
    socket_group: Option<String>,
    /// Serve metrics by TCP as well, at this address.
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics: Option<SocketAddr>,
    /// The store of policies.
    #[arg(long, value_name = "PATH")]
    store: Option<PathBuf>,
    /// What is logged: error, warn, info, debug.
    #[arg(long, value_name = "LEVEL")]
    log: Option<tracing::Level>,
    /// Arguments for DPDK's EAL, passed on untouched.
    #[arg(last = true, value_name = "EAL ARGUMENTS")]
    eal: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
enum IdleMode {
    /// Poll on: least latency, a whole core.
    Spin,
    /// Sleep when there is nothing to do.
    Sleep,
}

/// The file. Every key may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    eal: EalSection,
    workers: Workers,
    pools: Pools,
    connections: Connections,
    timeouts: TimeoutSeconds,
    api: Api,
    metrics: Metrics,
    store: Store,
    log: Option<String>,
    #[serde(rename = "port")]
    ports: Vec<PortSetting>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct EalSection {
    arguments: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Workers {
    cores: Vec<usize>,
    idle: Option<IdleMode>,
    idle_sleep_us: Option<u64>,
    ring_size: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Pools {
    mbufs: Option<u32>,
    mbuf_room: Option<u16>,
    rx_descriptors: Option<u16>,
    tx_descriptors: Option<u16>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Connections {
    per_worker: Option<usize>,
    interfaces: Option<usize>,
}

/// Seconds (D18).
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TimeoutSeconds {
    tcp_established: Option<u32>,
    udp: Option<u32>,
    udp_stream: Option<u32>,
    other: Option<u32>,
    syn: Option<u32>,
    closing: Option<u32>,
    closed: Option<u32>,
    icmp: Option<u32>,
}

impl TimeoutSeconds {
    /// EC2's ranges where EC2 has one, else from a second to five days.
    fn checked(&self) -> Result<Timeouts> {
        let check = |name: &str, given: Option<u32>, default: Ticks, range: std::ops::RangeInclusive<u32>| {
            let Some(seconds) = given else { return Ok(default) };
            let (low, high) = (range.start(), range.end());
            ensure!(
                range.contains(&seconds),
                "timeouts.{name}: expected {low} to {high} seconds, found {seconds}"
            );
            Ok(Ticks::from_secs(seconds))
        };
        let (default, any) = (Timeouts::DEFAULT, 1..=432_000);
        Ok(Timeouts {
            tcp_established: check(
                "tcp_established",
                self.tcp_established,
                default.tcp_established,
                60..=432_000,
            )?,
            udp: check("udp", self.udp, default.udp, 30..=60)?,
            udp_stream: check("udp_stream", self.udp_stream, default.udp_stream, 60..=180)?,
            other: check("other", self.other, default.other, any.clone())?,
            syn: check("syn", self.syn, default.syn, any.clone())?,
            closing: check("closing", self.closing, default.closing, any.clone())?,
            closed: check("closed", self.closed, default.closed, any.clone())?,
            icmp: check("icmp", self.icmp, default.icmp, any)?,
        })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Api {
    socket: Option<PathBuf>,
    mode: Option<String>,
    group: Option<String>,
    enforce_timeout_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Metrics {
    listen: Option<SocketAddr>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Store {
    path: Option<PathBuf>,
}

/// Reads the command line and the file it names.
pub fn load() -> Result<Config> {
    let flags = Flags::parse();
    let file = match &flags.config {
        Some(path) => read(path)?,
        None => File::default(),
    };
    merge(flags, file)
}

fn read(path: &Path) -> Result<File> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is not a valid configuration", path.display()))
}

fn merge(flags: Flags, file: File) -> Result<Config> {
    let sleep = Duration::from_micros(file.workers.idle_sleep_us.unwrap_or(200).clamp(1, 100_000));
    let idle = match flags.idle.or(file.workers.idle).unwrap_or(IdleMode::Spin) {
        IdleMode::Spin => Idle::Spin,
        IdleMode::Sleep => Idle::Sleep { max: sleep },
    };
    let mode = flags.socket_mode.or(file.api.mode).unwrap_or_else(|| "0660".to_string());
    let socket_mode = u32::from_str_radix(&mode, 8)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .with_context(|| format!("'{mode}' is no file mode: expected octal digits such as 0660"))?;
    let log = match (flags.log, &file.log) {
        (Some(level), _) => level,
        (None, Some(text)) => text.parse().with_context(|| {
            format!("'{text}' is no log level: expected error, warn, info, debug or trace")
        })?,
        (None, None) => tracing::Level::INFO,
    };
    let flag_ports = flags.ports.iter().map(|text| port_flag(text)).collect::<Result<Vec<_>>>()?;
    let config = Config {
        eal: file.eal.arguments.into_iter().chain(flags.eal).collect(),
        cores: if flags.cores.is_empty() { file.workers.cores } else { flags.cores },
        ports: file.ports.into_iter().chain(flag_ports).collect(),
        idle,
        connections: flags.connections.or(file.connections.per_worker).unwrap_or(1_000_000),
        interfaces: file.connections.interfaces.unwrap_or(16_384),
        timeouts: file.timeouts.checked()?,
        mbufs: flags.mbufs.or(file.pools.mbufs).unwrap_or(32_767),
        mbuf_room: file.pools.mbuf_room.unwrap_or(2048),
        ring_size: file.workers.ring_size.unwrap_or(4096),
        descriptors: (file.pools.rx_descriptors.unwrap_or(1024), file.pools.tx_descriptors.unwrap_or(1024)),
        enforce_timeout: Duration::from_millis(file.api.enforce_timeout_ms.unwrap_or(5000)),
        socket: flags.socket.or(file.api.socket).unwrap_or_else(|| "/run/sgswitch/sgswitchd.sock".into()),
        socket_mode,
        socket_group: flags.socket_group.or(file.api.group),
        metrics: flags.metrics.or(file.metrics.listen),
        store: flags.store.or(file.store.path).unwrap_or_else(|| "/var/lib/sgswitch/policy.db".into()),
        log,
    };
    ensure!((1..=1 << 28).contains(&config.connections), "connections: expected 1 to {}", 1 << 28);
    ensure!((1..=1 << 20).contains(&config.interfaces), "interfaces: expected 1 to {}", 1 << 20);
    ensure!(config.mbufs >= 64, "mbufs: expected 64 or more");
    ensure!((32..=1 << 20).contains(&config.ring_size), "ring_size: expected 32 to {}", 1 << 20);
    ensure!((512..=16_384).contains(&config.mbuf_room), "mbuf_room: expected 512 to 16384 bytes");
    Ok(config)
}

/// `NAME=DEVICE` or `DEVICE`; device arguments have their own `=`, behind a comma.
fn port_flag(text: &str) -> Result<PortSetting> {
    let head = text.split(',').next().unwrap_or(text);
    let (name, device) = match head.split_once('=') {
        Some((name, _)) => (Some(name.to_string()), text[name.len() + 1..].to_string()),
        None => (None, text.to_string()),
    };
    if device.is_empty() || name.as_deref() == Some("") {
        bail!("'{text}' is no port: expected DEVICE or NAME=DEVICE");
    }
    Ok(PortSetting { device, name })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(flags: &[&str], file: &str) -> Result<Config> {
        let flags = Flags::try_parse_from(std::iter::once(&"sgswitchd").chain(flags))?;
        merge(flags, toml::from_str(file)?)
    }

    #[test]
    fn flags_win_over_the_file_and_eal_is_untouched() {
        let file = "log = \"warn\"\n[workers]\ncores = [1]\nidle = \"sleep\"\n[connections]\nper_worker = 5\n\
                    [eal]\narguments = [\"--no-pci\"]\n[[port]]\ndevice = \"net_null0\"\nname = \"vm1\"\n";
        let config = load(
            &["--cores", "2,3", "--connections", "7", "--", "-l", "0,1", "--vdev", "net_null1,size=64"],
            file,
        )
        .unwrap();
        assert_eq!((config.cores, config.connections), (vec![2, 3], 7));
        assert_eq!(config.eal, ["--no-pci", "-l", "0,1", "--vdev", "net_null1,size=64"]);
        assert_eq!(config.log, tracing::Level::WARN);
        assert!(matches!(config.idle, Idle::Sleep { .. }));
        assert_eq!(config.ports, [PortSetting { device: "net_null0".into(), name: Some("vm1".into()) }]);
    }

    #[test]
    fn the_documented_file_says_the_defaults() {
        let documented = format!("{:?}", load(&[], include_str!("../../../docs/sgswitchd.toml")).unwrap());
        assert_eq!(documented, format!("{:?}", load(&[], "").unwrap()));
    }

    #[test]
    fn ports_by_flag() {
        let port = |text| port_flag(text).map(|p| (p.name, p.device)).unwrap();
        assert_eq!(port("net_tap0"), (None, "net_tap0".into()));
        assert_eq!(port("net_af_packet0,iface=veth0"), (None, "net_af_packet0,iface=veth0".into()));
        assert_eq!(
            port("vm1=net_af_packet0,iface=veth0"),
            (Some("vm1".into()), "net_af_packet0,iface=veth0".into())
        );
        assert_eq!(port("nic=0000:01:00.0"), (Some("nic".into()), "0000:01:00.0".into()));
        assert!(port_flag("").is_err() && port_flag("=x").is_err() && port_flag("x=").is_err());
    }

    #[test]
    fn nonsense_is_refused_in_words() {
        for (flags, file, word) in [
            (vec!["--socket-mode", "99"], "", "octal"),
            (vec![], "log = \"loud\"", "log level"),
            (vec![], "[workers]\ncolour = 1", "colour"),
            (vec!["--connections", "0"], "", "connections"),
            (vec!["--mbufs", "1"], "", "mbufs"),
            (vec![], "[timeouts]\nudp = 61", "30 to 60 seconds"),
            (vec![], "[timeouts]\nother = 0", "timeouts.other"),
        ] {
            let error = format!("{:#}", load(&flags, file).unwrap_err());
            assert!(error.contains(word), "{error}");
        }
    }
}
