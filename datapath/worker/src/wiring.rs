use dpdk::{Consumer, Eal, Error, Mempool, PortConfig, Producer, ring};
use engine::ids::PortIndex;

use crate::device::{Device, RxQueue};
use crate::exits::Way;
use crate::mailbox::Part;
use crate::{DatapathConfig, MAX_PORTS, PlugError};

/// What one worker polls and sends by, beside its exits.
pub(crate) struct Wires {
    /// Its receive queues, each with its port.
    pub receive: Vec<(PortIndex, RxQueue)>,
    /// The rings to and from each other worker; `None` for itself.
    pub peers: Vec<Option<Peer>>,
}

/// The rings between a worker and another.
pub(crate) struct Peer {
    /// Packets to be judged there.
    pub steer_out: Producer,
    /// Packets to be judged here.
    pub steer_in: Consumer,
    /// Judged packets that leave by a port of the other.
    pub relay_out: Producer,
    /// Judged packets that leave by a port of this one.
    pub relay_in: Consumer,
}

/// Starts a port and deals its queues out to the workers: receive queue q of the
/// port in slot s to worker (s + q) modulo N; a transmit queue to each worker, or,
/// of a port with fewer, to the first ones from s on.
pub(crate) fn deal(
    pool: &Mempool,
    large: impl FnOnce() -> Result<Mempool, Error>,
    index: PortIndex,
    device: &Device,
    config: &DatapathConfig,
) -> Result<Vec<Part>, PlugError> {
    let info = device.info()?;
    let (workers, all) = (config.cores.len(), config.cores.len() as u16);
    // No more than one for each worker, where the choice is ours.
    let (most_rx, most_tx) = if info.peer_chooses_queue { (u16::MAX, 1) } else { (all, all) };
    let port_config = PortConfig {
        rx_queues: info.max_rx_queues.clamp(1, most_rx),
        tx_queues: info.max_tx_queues.clamp(1, most_tx),
        rx_descriptors: config.rx_descriptors,
        tx_descriptors: config.tx_descriptors,
        mtu: None,
    };
    let (receive, transmit) = device.start(&info, &port_config, pool, large)?;
    let (slot, senders) = (index.slot(), transmit.len());
    let part = |worker: usize| Part {
        port: index,
        receive: vec![],
        way: Way::Relay((slot + worker % senders) % workers),
    };
    let mut parts: Vec<Part> = (0..workers).map(part).collect();
    for (queue, rx) in receive.into_iter().enumerate() {
        parts[(slot + queue) % workers].receive.push(rx);
    }
    for (queue, tx) in transmit.into_iter().enumerate() {
        parts[(slot + queue) % workers].way = Way::Queue(tx);
    }
    Ok(parts)
}

/// Joins all workers by rings.
pub(crate) fn wire(eal: &Eal, config: &DatapathConfig) -> Result<Vec<Wires>, Error> {
    let workers = config.cores.len();
    let wires =
        |_| Wires { receive: Vec::with_capacity(MAX_PORTS), peers: (0..workers).map(|_| None).collect() };
    let mut wires: Vec<Wires> = (0..workers).map(wires).collect();
    for one in 0..workers {
        for other in one + 1..workers {
            let make = |what: &str, from: usize, to: usize| {
                ring(eal, &format!("{what}-{from}-{to}"), config.ring_size)
            };
            let (steer_there, steer_here) = (make("steer", one, other)?, make("steer", other, one)?);
            let (relay_there, relay_here) = (make("relay", one, other)?, make("relay", other, one)?);
            wires[one].peers[other] = Some(Peer {
                steer_out: steer_there.0,
                steer_in: steer_here.1,
                relay_out: relay_there.0,
                relay_in: relay_here.1,
            });
            wires[other].peers[one] = Some(Peer {
                steer_out: steer_here.0,
                steer_in: steer_there.1,
                relay_out: relay_here.0,
                relay_in: relay_there.1,
            });
        }
    }
    Ok(wires)
}
