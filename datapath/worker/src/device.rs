//! What can be a port: a DPDK device, or a kernel interface by packet sockets.

use dpdk::{Burst, Link, Mbuf, Mempool, PortConfig, PortInfo, PortStatistics, TxOffloads, Xstat};
use engine::verdict::DropReason;
use packet_socket::Landing;

use crate::PlugError;
use crate::offload::{complete_unmarked, note};
use crate::spread::Inspector;

/// An open device, on its way to become a port.
#[derive(Clone, Debug)]
pub enum Device {
    /// A device of DPDK, and the MTU that it is to have.
    Dpdk(dpdk::Port, Option<u16>),
    /// A kernel interface, which has an MTU of its own, and whose frames keep their virtio-net header.
    Packet(packet_socket::Port),
}

impl From<dpdk::Port> for Device {
    fn from(port: dpdk::Port) -> Device {
        Device::Dpdk(port, None)
    }
}

impl From<packet_socket::Port> for Device {
    fn from(port: packet_socket::Port) -> Device {
        Device::Packet(port)
    }
}

/// A started device's queues.
type Queues = (Vec<RxQueue>, Vec<TxQueue>);

impl Device {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Device::Dpdk(port, _) => port.name(),
            Device::Packet(port) => port.name(),
        }
    }

    pub(crate) fn info(&self) -> Result<PortInfo, PlugError> {
        match self {
            Device::Dpdk(port, _) => Ok(port.info()?),
            Device::Packet(port) => Ok(port.info()?),
        }
    }

    pub(crate) fn link(&self) -> Option<Link> {
        match self {
            Device::Dpdk(port, _) => port.link(),
            Device::Packet(port) => port.link(),
        }
    }

    pub(crate) fn active_member(&self) -> Option<u16> {
        match self {
            Device::Dpdk(port, _) => port.active_member(),
            Device::Packet(_) => None,
        }
    }

    pub(crate) fn statistics(&self) -> Option<PortStatistics> {
        match self {
            Device::Dpdk(port, _) => port.statistics().ok(),
            Device::Packet(port) => Some(port.statistics()),
        }
    }

    pub(crate) fn xstats(&self) -> Vec<Xstat> {
        match self {
            Device::Dpdk(port, _) => port.xstats(),
            Device::Packet(port) => port.xstats(),
        }
    }

    pub(crate) fn is_gone(&self) -> bool {
        match self {
            Device::Dpdk(port, _) => port.is_gone(),
            Device::Packet(port) => port.is_gone(),
        }
    }

    /// Starts it, being what it says, with a pool for each receive queue. `large` makes
    /// the pool for segments of super-frames, where it needs one.
    pub(crate) fn start(
        &self,
        info: &PortInfo,
        config: &PortConfig,
        pools: &[Mempool],
        large: impl FnOnce() -> Result<Mempool, dpdk::Error>,
    ) -> Result<Queues, PlugError> {
        Ok(match self {
            Device::Dpdk(port, mtu) => {
                let of = if info.hides_partial_checksums { RxQueue::Unmarked } else { RxQueue::Dpdk };
                let config = PortConfig { mtu: *mtu, ..config.clone() };
                let (receive, send) = port.start_near(&config, pools)?;
                (receive.into_iter().map(of).collect(), send.into_iter().map(TxQueue::Dpdk).collect())
            }
            Device::Packet(port) => {
                let (receive, send) = port.start(config, pools, &large()?)?;
                let receive = receive.into_iter().map(RxQueue::Packet).collect();
                (receive, send.into_iter().map(TxQueue::Packet).collect())
            }
        })
    }

    /// Has it spread packets over its queues: that of each bucket under this key.
    pub(crate) fn spread(&self, key: [u8; 2], queues: &[u16]) -> Result<(), String> {
        match self {
            Device::Dpdk(port, _) => port.spread(key, queues).map_err(|error| error.to_string()),
            Device::Packet(_) => Err("the kernel spreads packets by a hash of its own".to_string()),
        }
    }
}

/// A receive queue.
pub(crate) enum RxQueue {
    Dpdk(dpdk::RxQueue),
    /// One whose packets do not say what was left to others.
    Unmarked(dpdk::RxQueue),
    /// One of a port that spreads packets by itself.
    Spread(dpdk::RxQueue, Box<Inspector>),
    Packet(packet_socket::RxQueue),
}

impl RxQueue {
    /// The same, held to what its port was told to deliver by it.
    pub fn inspected(self, inspector: Inspector) -> RxQueue {
        match self {
            RxQueue::Dpdk(queue) => RxQueue::Spread(queue, Box::new(inspector)),
            other => other,
        }
    }

    /// Fills an empty burst; from packet sockets by way of where they land. Returns how many
    /// packets came.
    #[inline]
    pub fn receive(&mut self, landing: Option<&mut Landing>, burst: &mut Burst) -> usize {
        match self {
            RxQueue::Dpdk(queue) => queue.receive(burst),
            RxQueue::Unmarked(queue) => {
                let count = queue.receive(burst);
                burst.iter_mut().for_each(complete_unmarked);
                count
            }
            RxQueue::Spread(queue, inspector) => {
                let count = queue.receive(burst);
                if count > 0 {
                    inspector.show(burst);
                }
                count
            }
            RxQueue::Packet(queue) => landing.map_or(0, |landing| queue.receive(landing, burst, note)),
        }
    }
}

/// A transmit queue.
pub(crate) enum TxQueue {
    Dpdk(dpdk::TxQueue),
    Packet(packet_socket::TxQueue),
}

impl TxQueue {
    /// Offers it packets; what it does not take stays. Returns how many it took.
    #[inline]
    pub fn send(&mut self, burst: &mut Burst) -> usize {
        match self {
            TxQueue::Dpdk(queue) => queue.send(burst),
            TxQueue::Packet(queue) => queue.send(burst),
        }
    }

    /// Whether it wants [`TxQueue::keep_up`].
    pub fn has_to_keep_up(&self) -> bool {
        matches!(self, TxQueue::Dpdk(queue) if queue.is_bond())
    }

    /// Lets a bond speak to its partner, which it does while it sends.
    #[inline]
    pub fn keep_up(&mut self) {
        if let TxQueue::Dpdk(queue) = self {
            queue.keep_up();
        }
    }

    /// Why it cannot send a packet, whatever room it has.
    #[inline]
    pub fn refuses(&self, packet: &Mbuf) -> Option<DropReason> {
        match self {
            TxQueue::Dpdk(queue) => (!queue.can_send(packet)).then_some(DropReason::Segmented),
            TxQueue::Packet(queue) if !queue.can_send(packet) => Some(DropReason::Segmented),
            TxQueue::Packet(queue) => {
                let is_whole = packet.requested().is_none_or(|request| request.size.is_none());
                (is_whole && packet.total_len() > queue.longest()).then_some(DropReason::ExceedsMtu)
            }
        }
    }

    /// Whether it refuses no packet of one segment that asks for nothing, whatever its length.
    #[inline]
    pub fn takes_all_plain(&self) -> bool {
        matches!(self, TxQueue::Dpdk(_))
    }

    /// Bytes of the longest frame that it sends, where that is known.
    pub fn longest(&self) -> u32 {
        match self {
            TxQueue::Dpdk(_) => u32::MAX,
            TxQueue::Packet(queue) => queue.longest(),
        }
    }

    /// What it does for packets.
    pub fn offloads(&self) -> TxOffloads {
        match self {
            TxQueue::Dpdk(queue) => queue.offloads(),
            TxQueue::Packet(_) => packet_socket::TxQueue::OFFLOADS,
        }
    }
}
