//! Poll-mode workers: each pinned to a core, with its own queues and its own
//! connections, judging bursts by the snapshot that was last published.
//!
//! A flow has one owner among the workers. What arrives elsewhere crosses a
//! ring to its owner; what must leave by a port whose queues belong to another
//! worker crosses a second kind of ring after it was judged.

#![forbid(unsafe_code)]

mod announce;
mod attention;
mod clock;
mod config;
mod datapath;
mod device;
mod egress;
mod exits;
mod intake;
mod judging;
mod mailbox;
mod numa;
mod observer;
mod offload;
mod ports;
mod spread;
mod statistics;
mod wiring;
mod worker;

pub use announce::Announcement;
pub use attention::{Attention, AttentionSwitch};
pub use config::{DatapathConfig, Idle};
pub use datapath::{Datapath, NotEnforced, StartError, WorkerView};
pub use device::Device;
pub use observer::{MAX_TAPS, Sighting, Sightings, TapRequest, Traced, Wanted};
pub use ports::{MAX_PORTS, PlugError, PortView};
pub use spread::{Deliveries, Spreading};
pub use statistics::{BURST_SIZES, WorkerStage, WorkerStatistics};

/// The EAL that the tests beside the code share: it starts once.
#[cfg(test)]
fn test_eal() -> dpdk::Eal {
    static EAL: std::sync::OnceLock<dpdk::Eal> = std::sync::OnceLock::new();
    let arguments = ["-l", "0", "--no-huge", "--no-shconf", "--no-pci", "-m", "64", "--log-level", "error"];
    EAL.get_or_init(|| dpdk::Eal::init("worker", &arguments.map(String::from)).unwrap()).clone()
}
