use std::ffi::CString;
use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dpdk::{Link, Mempool, PortConfig, PortInfo, PortStatistics, Rss, Xstat};

use crate::landing::Landing;
use crate::system::{Socket, interface_number};
use crate::{RxQueue, TxQueue};

/// The most queues of a port.
pub const MAX_QUEUES: u16 = 16;

/// Ethernet's header and a VLAN tag.
const FRAMING: u32 = 14 + 4;

/// What the kernel refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No interface has this name.
    #[error("there is no interface '{0}'")]
    NoInterface(String),
    /// It has its queues already.
    #[error("the port '{0}' is started already")]
    Started(String),
    /// A call failed.
    #[error("{action} the packet socket of '{interface}' failed: {reason}")]
    Call {
        /// What was attempted.
        action: &'static str,
        /// The interface.
        interface: String,
        /// The kernel's reason.
        reason: String,
    },
}

/// A kernel interface as a port. Copies share it.
#[derive(Clone, Debug)]
pub struct Port(Arc<Opened>);

#[derive(Debug)]
pub(crate) struct Opened {
    name: String,
    interface: String,
    number: i32,
    /// For questions about the interface; each queue has one of its own.
    control: Socket,
    queues: Mutex<Vec<Arc<Queue>>>,
    /// Bytes of the longest frame that is sent whole.
    longest: AtomicU32,
}

/// A socket and what its users count, each counter by one thread.
#[derive(Debug)]
pub(crate) struct Queue {
    pub socket: Socket,
    pub rx: Counts,
    pub tx: Counts,
    /// Frames lost because the kernel had no room for more, as far as it was asked.
    missed: AtomicU64,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub packets: Count,
    pub bytes: Count,
    pub errors: Count,
    /// How often there was no mbuf to receive into. Frames wait in the kernel then.
    pub starved: Count,
    pub super_frames: Count,
}

/// A counter that one thread writes.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub fn add(&self, n: u64) {
        if n > 0 {
            self.0.store(self.0.load(Ordering::Relaxed) + n, Ordering::Relaxed);
        }
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Opened {
    pub fn longest(&self) -> u32 {
        self.longest.load(Ordering::Relaxed)
    }
}

impl Port {
    /// A port of this name over a kernel interface.
    ///
    /// # Errors
    /// [`Error`]; packet sockets need CAP_NET_RAW.
    pub fn open(name: &str, interface: &str) -> Result<Port, Error> {
        let missing = || Error::NoInterface(interface.to_string());
        let c_name = CString::new(interface).map_err(|_| missing())?;
        let number = interface_number(&c_name).ok_or_else(missing)?;
        let failed = |reason: io::Error| Error::Call {
            action: "opening",
            interface: interface.to_string(),
            reason: reason.to_string(),
        };
        // Bound to no interface, it receives nothing.
        let control = Socket::idle().map_err(failed)?;
        let opened = Opened {
            name: name.to_string(),
            interface: interface.to_string(),
            number,
            control,
            queues: Mutex::default(),
            longest: AtomicU32::new(0),
        };
        let port = Port(Arc::new(opened));
        port.refresh().map_err(failed)?;
        Ok(port)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Opens the queues. Frames are received into mbufs of each queue's own of `pools`,
    /// the last one's for all that follow, and what does not fit one into those of `large`.
    ///
    /// # Errors
    /// [`Error::Call`] with the kernel's reason, [`Error::Started`] the second time.
    pub fn start(
        &self,
        config: &PortConfig,
        pools: &[Mempool],
        large: &Mempool,
    ) -> Result<(Vec<RxQueue>, Vec<TxQueue>), Error> {
        if !self.queues().is_empty() {
            return Err(Error::Started(self.0.name.clone()));
        }
        let count = config.rx_queues.max(config.tx_queues).clamp(1, MAX_QUEUES);
        let (mut queues, mut group) = (Vec::new(), None);
        for _ in 0..count {
            let socket = Socket::open(self.0.number).map_err(|e| self.failed("opening", e))?;
            if count > 1 {
                group = Some(socket.share(group).map_err(|e| self.failed("sharing", e))?);
            }
            let queue = Queue { socket, rx: Counts::default(), tx: Counts::default(), missed: 0.into() };
            queues.push(Arc::new(queue));
        }
        let pools = pools.iter().chain(pools.last().into_iter().cycle());
        let receive = |(queue, pool): (&Arc<Queue>, &Mempool)| {
            RxQueue::new(queue.clone(), Landing::new(pool.clone(), large.clone()))
        };
        let send = |queue: &Arc<Queue>| TxQueue::new(queue.clone(), self.0.clone());
        let ends = (queues.iter().zip(pools).map(receive).collect(), queues.iter().map(send).collect());
        *self.queues() = queues;
        Ok(ends)
    }

    fn queues(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Queue>>> {
        self.0.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it is and offers.
    ///
    /// # Errors
    /// [`Error::Call`] if the interface is gone.
    pub fn info(&self) -> Result<PortInfo, Error> {
        let mac = self.0.control.mac(self.0.number).map_err(|e| self.failed("asking", e))?;
        Ok(PortInfo {
            driver: "packet_socket".to_string(),
            mac,
            max_rx_queues: MAX_QUEUES,
            max_tx_queues: MAX_QUEUES,
            socket: None,
            min_mtu: 68,
            max_mtu: u16::MAX,
            rss: Rss { packet_types: 0, key_bytes: 0, table_entries: 0 },
            peer_chooses_queue: false,
            hides_partial_checksums: false,
        })
    }

    /// The state of the link; `None` if the interface is gone.
    pub fn link(&self) -> Option<Link> {
        let up = self.0.control.is_up(self.0.number).ok()?;
        Some(Link { up, speed: None })
    }

    /// Whether the interface is gone. Takes up its MTU if it is not.
    pub fn is_gone(&self) -> bool {
        self.refresh().is_err()
    }

    fn refresh(&self) -> io::Result<()> {
        let mtu = self.0.control.mtu(self.0.number)?;
        self.0.longest.store(mtu.saturating_add(FRAMING), Ordering::Relaxed);
        Ok(())
    }

    /// What it has counted.
    pub fn statistics(&self) -> PortStatistics {
        let mut sum = PortStatistics::default();
        for queue in self.queues().iter() {
            let missed = queue.socket.missed().unwrap_or(0);
            sum.rx_missed += queue.missed.fetch_add(missed, Ordering::Relaxed) + missed;
            sum.rx_packets += queue.rx.packets.get();
            sum.rx_bytes += queue.rx.bytes.get();
            sum.rx_errors += queue.rx.errors.get();
            sum.tx_packets += queue.tx.packets.get();
            sum.tx_bytes += queue.tx.bytes.get();
            sum.tx_errors += queue.tx.errors.get();
        }
        sum
    }

    /// What else it has counted.
    pub fn xstats(&self) -> Vec<Xstat> {
        let queues = self.queues();
        let sum = |of: fn(&Queue) -> &Count| queues.iter().map(|queue| of(queue).get()).sum();
        let xstat = |name: &str, value| Xstat { name: name.to_string(), value };
        vec![
            xstat("rx_super_frames", sum(|queue| &queue.rx.super_frames)),
            xstat("tx_super_frames", sum(|queue| &queue.tx.super_frames)),
            xstat("rx_starved_polls", sum(|queue| &queue.rx.starved)),
        ]
    }

    fn failed(&self, action: &'static str, reason: io::Error) -> Error {
        Error::Call { action, interface: self.0.interface.clone(), reason: reason.to_string() }
    }
}
