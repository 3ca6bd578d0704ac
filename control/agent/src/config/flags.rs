//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;

use super::IdleMode;

/// A DPDK switch that enforces EC2 security groups.
#[derive(Debug, Parser)]
#[command(name = "sgswitchd", version, about, args_override_self = true)]
pub(super) struct Flags {
    /// Configuration file (TOML); flags win over it.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// CPU of each worker [default: EAL's lcores but the main one].
    #[arg(long, value_name = "CPU,...", value_delimiter = ',')]
    pub cores: Vec<usize>,
    /// Attach a port: DEVICE, or NAME=DEVICE to call it otherwise. A comma after
    /// the device's name starts its arguments.
    #[arg(long = "port", value_name = "[NAME=]DEVICE")]
    pub ports: Vec<String>,
    /// What idle workers do.
    #[arg(long, value_enum)]
    pub idle: Option<IdleMode>,
    /// Connections each worker has room for.
    #[arg(long, value_name = "N")]
    pub connections: Option<usize>,
    /// Interfaces a policy may have.
    #[arg(long, value_name = "N")]
    pub interfaces: Option<usize>,
    /// How long a silent connection is remembered, such as udp=30 or
    /// tcp_established=3600; may be given several times.
    #[arg(long = "timeout", value_name = "NAME=SECONDS", value_delimiter = ',')]
    pub timeouts: Vec<String>,
    /// Mbufs in the pool.
    #[arg(long, value_name = "N")]
    pub mbufs: Option<u32>,
    /// Bytes of a frame that fit one mbuf.
    #[arg(long, value_name = "BYTES")]
    pub mbuf_room: Option<u16>,
    /// Descriptors of each receive queue.
    #[arg(long, value_name = "N")]
    pub rx_descriptors: Option<u16>,
    /// Descriptors of each transmit queue.
    #[arg(long, value_name = "N")]
    pub tx_descriptors: Option<u16>,
    /// Packets that fit each ring between two workers.
    #[arg(long, value_name = "N")]
    pub ring_size: Option<u32>,
    /// The API's Unix socket.
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// The socket's mode, in octal.
    #[arg(long, value_name = "MODE")]
    pub socket_mode: Option<String>,
    /// The group whose members may use the socket.
    #[arg(long, value_name = "GROUP")]
    pub socket_group: Option<String>,
    /// Serve metrics by TCP as well, at this address.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics: Option<SocketAddr>,
    /// The store of policies.
    #[arg(long, value_name = "PATH")]
    pub store: Option<PathBuf>,
    /// What is logged: error, warn, info, debug, trace.
    #[arg(long, value_name = "LEVEL")]
    pub log: Option<tracing::Level>,
    /// Write the manual into a folder, and end.
    #[arg(long, value_name = "DIR", hide = true)]
    pub generate_man: Option<PathBuf>,
    /// Arguments for DPDK's EAL, passed on untouched.
    #[arg(last = true, value_name = "EAL ARGUMENTS")]
    pub eal: Vec<String>,
}
