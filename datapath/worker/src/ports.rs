//! Ports that come and go while the workers run.

use std::collections::BTreeMap;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use dpdk::{Eal, Link, Mempool, PortInfo, PortStatistics, Xstat};
use engine::ids::PortIndex;

use crate::DatapathConfig;
use crate::announce::Announcement;
use crate::datapath::{ANSWER_TIMEOUT, Datapath, Running};
use crate::device::Device;
use crate::mailbox::{Command, Part};
use crate::numa::Pools;
use crate::spread::Spreading;
use crate::wiring::{Dealt, deal, sender_of};

/// The most ports at a time, of which [`dpdk::MAX_PORTS`] may be DPDK's.
pub const MAX_PORTS: usize = PortIndex::MAX_SLOTS;

/// Why a port is not in service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlugError {
    /// The slot has a port.
    #[error("slot {0} has a port")]
    NoSlot(usize),
    /// DPDK refused.
    #[error(transparent)]
    Dpdk(#[from] dpdk::Error),
    /// DPDK refused, and there are fewer packet buffers left than the port may want.
    #[error(
        "{reason}: {left} packet buffers are left, and its receive queues want up to {wanted}: raise mbufs, or \
         lower rx_descriptors"
    )]
    Buffers {
        /// What DPDK says.
        reason: dpdk::Error,
        /// In the pool with the fewest.
        left: u32,
        /// By all of its queues.
        wanted: u32,
    },
    /// The kernel refused.
    #[error(transparent)]
    Packet(#[from] packet_socket::Error),
}

/// A port as the control thread sees it.
#[derive(Clone, Debug)]
pub struct PortView {
    /// The device's name.
    pub device: String,
    /// What it is; `None` if the driver does not say.
    pub info: Option<PortInfo>,
    /// Its link; `None` if the driver does not say.
    pub link: Option<Link>,
    /// What it has counted; `None` if the driver does not count.
    pub statistics: Option<PortStatistics>,
    /// The driver's own counters.
    pub xstats: Vec<Xstat>,
    /// How its packets come to the owners of their flows.
    pub spreading: Spreading,
}

/// What a worker gives back of a port.
type Returned = (PortIndex, Option<Part>);

/// A port in service.
struct Plugged {
    index: PortIndex,
    device: Device,
    spreading: Spreading,
}

/// The ports in service.
pub(crate) struct Ports {
    eal: Eal,
    /// What they are set up with.
    pools: Pools,
    /// For segments of super-frames, from the first port on that wants it.
    large: Option<Mempool>,
    config: DatapathConfig,
    plugged: BTreeMap<usize, Plugged>,
    /// Where workers give parts back; a late one is taken when it comes.
    back: (Sender<Returned>, Receiver<Returned>),
}

impl Ports {
    pub fn new(eal: Eal, pools: Pools, config: DatapathConfig) -> Ports {
        Ports { eal, pools, large: None, config, plugged: BTreeMap::new(), back: unbounded() }
    }

    /// Closes the ports whose last part was given back late.
    pub fn reclaim(&self) {
        self.back.1.try_iter().for_each(drop);
    }

    fn get(&self, index: PortIndex) -> Option<&Plugged> {
        self.plugged.get(&index.slot()).filter(|plugged| plugged.index == index)
    }

    /// Starts a device and deals its queues out.
    fn deal(&mut self, index: PortIndex, device: &Device) -> Result<Dealt, PlugError> {
        let Ports { eal, pools, large, config, .. } = self;
        let large = || match large {
            Some(pool) => Ok(pool.clone()),
            None => {
                let pool = Mempool::new(eal, "super-frames", &packet_socket::large(config.cores.len()))?;
                Ok(large.insert(pool).clone())
            }
        };
        deal(pools, large, index, device, config)
    }
}

impl Datapath {
    /// Starts a port and has the workers take up its queues, each between two
    /// bursts. Other ports do not notice. Returns how many workers
    /// have not done so in five seconds; they do when they turn again.
    ///
    /// # Errors
    /// [`PlugError`]; the port is given back then, closed.
    pub fn plug(&mut self, index: PortIndex, device: impl Into<Device>) -> Result<usize, PlugError> {
        let slot = index.slot();
        if self.ports.plugged.contains_key(&slot) {
            return Err(PlugError::NoSlot(slot));
        }
        let device = device.into();
        let (parts, spreading) = self.ports.deal(index, &device)?;
        self.ports.plugged.insert(slot, Plugged { index, device, spreading });
        let ask = |(worker, part): (&Running, Part)| {
            let (done, answer) = bounded(1);
            // A worker that has ended polls nothing.
            drop(worker.commands.send(Command::Plug(part, done)));
            answer
        };
        let answers: Vec<_> = self.workers.iter().zip(parts).map(ask).collect();
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        Ok(answers.into_iter().filter(|answer| answer.recv_deadline(deadline).is_err()).count())
    }

    /// Has the workers let go of a port's queues, and closes it. What waits on its
    /// way to it is dropped. A worker that does not answer in five seconds keeps
    /// the device open until it does. Returns how many those are; `None` if there
    /// is no such port.
    pub fn unplug(&mut self, index: PortIndex) -> Option<usize> {
        self.ports.get(index)?;
        let port = self.ports.plugged.remove(&index.slot())?;
        let (sender, receiver) = &self.ports.back;
        let is_asked =
            |worker: &&Running| worker.commands.send(Command::Unplug(index, sender.clone())).is_ok();
        let mut waiting = self.workers.iter().filter(is_asked).count();
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        while waiting > 0 {
            let Ok((of, part)) = receiver.recv_deadline(deadline) else { break };
            drop(part);
            waiting -= usize::from(of == index);
        }
        drop(port);
        Some(waiting)
    }

    /// A port as it is now; `None` if it is not in service.
    pub fn port(&self, index: PortIndex) -> Option<PortView> {
        let Plugged { device: port, spreading, .. } = self.ports.get(index)?;
        Some(PortView {
            device: port.name().to_string(),
            info: port.info().ok(),
            link: port.link(),
            statistics: port.statistics(),
            xstats: port.xstats(),
            spreading: spreading.clone(),
        })
    }

    /// The link of a port in service; `None` if its driver does not say.
    pub fn link(&self, index: PortIndex) -> Option<Link> {
        self.ports.get(index)?.device.link()
    }

    /// Of a bond that sends by one member (DPDK's mode 1): which one that is now.
    pub fn active_member(&self, index: PortIndex) -> Option<u16> {
        self.ports.get(index)?.device.active_member()
    }

    /// Announces interfaces by an uplink, at most 2000 in a second and 16 at a time;
    /// what of it is no longer true when its turn comes is left out. A list that is
    /// under way at this uplink is given up for the new one. Each that is sent counts
    /// in [`WorkerStatistics::announced`](crate::WorkerStatistics::announced).
    pub fn announce(&self, uplink: PortIndex, list: Vec<Announcement>) {
        let worker = self.workers.get(sender_of(uplink, self.workers.len().max(1)));
        // One that has ended sends nothing.
        worker.map(|worker| worker.commands.send(Command::Announce(uplink, list)));
    }

    /// Whether the device of a port in service is gone, as its driver says.
    pub fn is_gone(&self, index: PortIndex) -> bool {
        self.ports.get(index).is_some_and(|plugged| plugged.device.is_gone())
    }

    /// How the packets of a port in service come to the owners of their flows.
    pub fn spreading(&self, index: PortIndex) -> Option<&Spreading> {
        self.ports.get(index).map(|plugged| &plugged.spreading)
    }
}
