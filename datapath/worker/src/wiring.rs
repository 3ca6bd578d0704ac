use std::sync::Arc;

use dpdk::{Burst, Consumer, Eal, Error, Mbuf, Mempool, PortConfig, Producer, ring_near};
use engine::flow::FlowHasher;
use engine::ids::{PortIndex, WorkerIndex};

use crate::device::{Device, RxQueue};
use crate::exits::Way;
use crate::intake::Intake;
use crate::mailbox::Part;
use crate::numa::{Pools, node_of};
use crate::spread::{Deliveries, Inspector, Spreading, table};
use crate::{DatapathConfig, MAX_PORTS, PlugError};

/// What one worker polls and sends by, beside its exits.
pub(crate) struct Wires {
    /// Its receive queues.
    pub receive: Intake,
    /// The rings to and from each other worker; `None` for itself.
    pub peers: Vec<Option<Peer>>,
}

/// The rings between a worker and another.
pub(crate) struct Peer {
    /// Packets to be judged there.
    pub steer_out: Producer,
    /// Packets to be judged here.
    pub steer_in: Consumer,
    /// Those of them that were taken off the ring, and are on their way into the cache.
    pub arriving: Burst,
    /// Judged packets that leave by a port of the other.
    pub relay_out: Producer,
    /// Judged packets that leave by a port of this one.
    pub relay_in: Consumer,
}

impl Peer {
    /// Takes a burst off the ring for [`Peer::take_over`]. Its packets were last in the
    /// other core's cache: from now on they are under way together, and need not be
    /// waited for if there is something to do meanwhile.
    #[inline]
    pub fn fetch(&mut self) {
        if self.steer_in.dequeue(&mut self.arriving) > 0 {
            self.arriving.iter().for_each(Mbuf::prefetch_unread);
        }
    }

    /// Hands out what was fetched, in exchange for an empty burst. Returns how many.
    #[inline]
    pub fn take_over(&mut self, burst: &mut Burst) -> usize {
        std::mem::swap(burst, &mut self.arriving);
        burst.len()
    }
}

/// A port's parts, one for each worker, and how packets find them.
pub(crate) type Dealt = (Vec<Part>, Spreading);

/// Starts a port and deals its queues out to the workers: receive queue q of the
/// port in slot s to worker (s + q) modulo N; a transmit queue to each worker, or,
/// of a port with fewer, to the first ones from s on. A port that can is told to
/// deliver to the owners of flows.
pub(crate) fn deal(
    pools: &Pools,
    large: impl FnOnce() -> Result<Mempool, Error>,
    index: PortIndex,
    device: &Device,
    config: &DatapathConfig,
) -> Result<Dealt, PlugError> {
    let info = device.info()?;
    let (workers, all) = (config.cores.len(), config.cores.len() as u16);
    // No more than one for each worker, where the choice is ours.
    let (most_rx, most_tx) = if info.peer_chooses_queue { (u16::MAX, 1) } else { (all, all) };
    let port_config = PortConfig {
        rx_queues: info.max_rx_queues.clamp(1, most_rx),
        tx_queues: info.max_tx_queues.clamp(1, most_tx),
        rx_descriptors: config.rx_descriptors,
        tx_descriptors: config.tx_descriptors,
        // The device has its own.
        mtu: None,
    };
    let slot = index.slot();
    let worker_of = |queue: usize| worker_of(slot, queue, workers);
    let near = |queue: u16| pools.at(node_of(config.cores[worker_of(queue.into())])).clone();
    let pools: Vec<Mempool> = (0..port_config.rx_queues).map(near).collect();
    let left = pools.iter().map(Mempool::available).min().unwrap_or(0);
    let wanted = u32::from(port_config.rx_queues) * u32::from(port_config.rx_descriptors);
    let (mut receive, transmit) =
        device.start(&info, &port_config, &pools, large).map_err(|error| match error {
            PlugError::Dpdk(reason) if left < wanted => PlugError::Buffers { reason, left, wanted },
            other => other,
        })?;
    let spreading = spread(device, &mut receive, config, worker_of);
    let senders = transmit.len();
    let part =
        |worker: usize| Part { port: index, receive: vec![], way: Way::Relay(worker_of(worker % senders)) };
    let mut parts: Vec<Part> = (0..workers).map(part).collect();
    for (queue, rx) in receive.into_iter().enumerate() {
        parts[worker_of(queue)].receive.push(rx);
    }
    for (queue, tx) in transmit.into_iter().enumerate() {
        parts[worker_of(queue)].way = Way::Queue(tx);
    }
    Ok((parts, spreading))
}

/// The worker that has this queue of the port in this slot.
fn worker_of(slot: usize, queue: usize, workers: usize) -> usize {
    (slot + queue) % workers
}

/// A worker that sends to this port by a queue of its own: that of the first queue, of
/// which each port has one.
pub(crate) fn sender_of(port: PortIndex, workers: usize) -> usize {
    worker_of(port.slot(), 0, workers)
}

/// Has a port deliver to the owners of flows, if it can.
fn spread(
    device: &Device,
    receive: &mut Vec<RxQueue>,
    config: &DatapathConfig,
    worker_of: impl Fn(usize) -> usize,
) -> Spreading {
    let (workers, queues) = (config.cores.len() as u8, receive.len());
    if workers == 1 || queues == 1 {
        return Spreading::None;
    }
    let hasher = FlowHasher::new(config.seed);
    let polled_by = |worker: WorkerIndex| {
        (0..queues).find(|queue| worker_of(*queue) == worker.0.into()).map(|queue| queue as u16)
    };
    if let Err(reason) = device.spread(hasher.spread().key(), &table(workers, queues as u16, polled_by)) {
        return Spreading::Workers(reason);
    }
    let deliveries: Arc<Deliveries> = Arc::default();
    for (at, queue) in std::mem::take(receive).into_iter().enumerate() {
        let worker = WorkerIndex(worker_of(at) as u8);
        let inspector = Inspector::new(hasher.clone(), worker, workers, deliveries.clone());
        receive.push(queue.inspected(inspector));
    }
    Spreading::Port(deliveries)
}

/// Joins all workers by rings.
pub(crate) fn wire(eal: &Eal, config: &DatapathConfig) -> Result<Vec<Wires>, Error> {
    let workers = config.cores.len();
    let wires =
        |_| Wires { receive: Intake::with_room(MAX_PORTS), peers: (0..workers).map(|_| None).collect() };
    let mut wires: Vec<Wires> = (0..workers).map(wires).collect();
    for one in 0..workers {
        for other in one + 1..workers {
            let make = |what: &str, from: usize, to: usize| {
                let reader = node_of(config.cores[to]);
                ring_near(eal, &format!("{what}-{from}-{to}"), config.ring_size, reader)
            };
            let (steer_there, steer_here) = (make("steer", one, other)?, make("steer", other, one)?);
            let (relay_there, relay_here) = (make("relay", one, other)?, make("relay", other, one)?);
            wires[one].peers[other] = Some(Peer {
                steer_out: steer_there.0,
                steer_in: steer_here.1,
                arriving: Burst::new(),
                relay_out: relay_there.0,
                relay_in: relay_here.1,
            });
            wires[other].peers[one] = Some(Peer {
                steer_out: steer_here.0,
                steer_in: steer_there.1,
                arriving: Burst::new(),
                relay_out: relay_here.0,
                relay_in: relay_there.1,
            });
        }
    }
    Ok(wires)
}
