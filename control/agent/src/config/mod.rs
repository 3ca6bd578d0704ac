//! Configuration: a TOML file, and flags over it.

mod file;
mod flags;
mod flow_logs;
mod timeouts;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{CommandFactory, Parser};
use engine::conntrack::Timeouts;
use serde::Deserialize;
use worker::Idle;

use file::File;
use flags::Flags;

use crate::flow_log::FlowLogConfig;

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
    /// How many of those one interface may have (D23).
    pub allowance: u32,
    /// Interfaces a policy may have.
    pub interfaces: usize,
    /// How long silent connections are remembered, where no policy says otherwise.
    pub timeouts: Timeouts,
    /// Mbufs in the pool.
    pub mbufs: u32,
    /// Bytes of a frame that fit one mbuf.
    pub mbuf_room: u16,
    /// How long a worker may make no turn before it counts as stalled.
    pub stall: Duration,
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
    /// Generations that it keeps.
    pub kept: usize,
    /// Whether interfaces are announced by uplinks that have changed over.
    pub announces: bool,
    /// Where flow logs go, if anywhere.
    pub flow_log: Option<FlowLogConfig>,
    /// What is logged.
    pub log: tracing::Level,
}

/// A port to attach.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortSetting {
    /// Device arguments: a PCI address, or a virtual device such as
    /// `packet_socket0,iface=veth0`.
    pub device: String,
    /// The name bindings use; the device's own if it is left out.
    #[serde(default)]
    pub name: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum IdleMode {
    /// Poll on: least latency, a whole core.
    Spin,
    /// Sleep when there is nothing to do.
    Sleep,
}

/// Reads the command line and the file it names.
pub fn load() -> Result<Config> {
    let flags = Flags::parse();
    if let Some(folder) = &flags.generate_man {
        clap_mangen::Man::new(Flags::command())
            .section("8")
            .generate_to(folder)
            .with_context(|| format!("the manual cannot be written into {}", folder.display()))?;
        // As --help, which ends the process where it is read.
        std::process::exit(0);
    }
    let file = flags.config.as_deref().map_or_else(|| Ok(File::default()), File::read)?;
    merge(flags, file)
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
    let connections = flags.connections.or(file.connections.per_worker).unwrap_or(1_000_000);
    // A quarter is left to the others.
    let allowance = file.connections.per_interface.unwrap_or(connections - connections / 4);
    let config = Config {
        eal: file.eal.arguments.into_iter().chain(flags.eal).collect(),
        cores: if flags.cores.is_empty() { file.workers.cores } else { flags.cores },
        ports: file.ports.into_iter().chain(flag_ports).collect(),
        idle,
        connections,
        allowance: u32::try_from(allowance).unwrap_or(u32::MAX),
        interfaces: flags.interfaces.or(file.connections.interfaces).unwrap_or(16_384),
        mbufs: flags.mbufs.or(file.pools.mbufs).unwrap_or(32_767),
        mbuf_room: flags.mbuf_room.or(file.pools.mbuf_room).unwrap_or(2048),
        stall: Duration::from_secs(file.workers.stall_seconds.unwrap_or(2)),
        ring_size: flags.ring_size.or(file.workers.ring_size).unwrap_or(4096),
        descriptors: (
            flags.rx_descriptors.or(file.pools.rx_descriptors).unwrap_or(1024),
            flags.tx_descriptors.or(file.pools.tx_descriptors).unwrap_or(1024),
        ),
        timeouts: timeouts::read(file.timeouts, &flags.timeouts)?,
        enforce_timeout: Duration::from_millis(file.api.enforce_timeout_ms.unwrap_or(5000)),
        socket: flags.socket.or(file.api.socket).unwrap_or_else(|| "/run/sgswitch/sgswitchd.sock".into()),
        socket_mode,
        socket_group: flags.socket_group.or(file.api.group),
        metrics: flags.metrics.or(file.metrics.listen),
        store: flags.store.or(file.store.path).unwrap_or_else(|| "/var/lib/sgswitch/policy.db".into()),
        kept: file.store.kept.unwrap_or(100),
        announces: file.uplinks.announce.unwrap_or(true),
        flow_log: flow_logs::read(file.flow_logs)?,
        log,
    };
    ensure!((1..=1 << 28).contains(&config.connections), "connections: expected 1 to {}", 1 << 28);
    ensure!(config.allowance > 0, "per_interface: expected 1 connection or more");
    ensure!((1..=1 << 20).contains(&config.interfaces), "interfaces: expected 1 to {}", 1 << 20);
    ensure!((1..=100_000).contains(&config.kept), "store.kept: expected 1 to 100000");
    ensure!(config.mbufs >= 64, "mbufs: expected 64 or more");
    ensure!((1..=3600).contains(&config.stall.as_secs()), "stall_seconds: expected 1 to 3600");
    ensure!((32..=1 << 20).contains(&config.ring_size), "ring_size: expected 32 to {}", 1 << 20);
    ensure!(config.descriptors.0 > 0 && config.descriptors.1 > 0, "descriptors: expected 1 or more");
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
        assert!(config.announces && !load(&[], "[uplinks]\nannounce = false\n").unwrap().announces);
        assert!(matches!(config.idle, Idle::Sleep { .. }));
        assert_eq!(config.ports, [PortSetting { device: "net_null0".into(), name: Some("vm1".into()) }]);
    }

    #[test]
    fn the_documented_file_says_the_defaults() {
        let documented = format!("{:?}", load(&[], include_str!("../../../../docs/sgswitchd.toml")).unwrap());
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
            (vec![], "[connections]\nper_interface = 0", "per_interface"),
            (vec!["--mbufs", "1"], "", "mbufs"),
            (vec![], "[store]\nkept = 0", "store.kept"),
            (vec![], "[workers]\nstall_seconds = 0", "stall_seconds"),
            (vec!["--timeout", "upd=3"], "", "expected one of tcp_established, udp"),
            (vec![], "[timeouts]\nupd = 3", "expected one of tcp_established, udp"),
            (vec!["--timeout", "udp"], "", "NAME=SECONDS"),
            (vec!["--timeout", "udp=0"], "", "1 to 432000"),
            (vec!["--rx-descriptors", "0"], "", "descriptors"),
            (vec![], "[flow_logs]\nformat = \"srcadr\"", "'srcadr' is no field"),
            (vec![], "[flow_logs]\ninterval_seconds = 61", "flow_logs.interval_seconds: expected 1 to 60"),
            (vec![], "[flow_logs]\naccount_id = \"1 2\"", "flow_logs.account_id"),
        ] {
            let error = format!("{:#}", load(&flags, file).unwrap_err());
            assert!(error.contains(word), "{error}");
        }
    }
}
