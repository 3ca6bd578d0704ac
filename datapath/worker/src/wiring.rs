use dpdk::{Consumer, Eal, Error, Mempool, PortConfig, Producer, RxQueue, TxQueue, ring};
use engine::ids::PortIndex;

use crate::{DatapathConfig, PortSpec};

/// What one worker polls and sends by.
pub(crate) struct Wires {
    /// Its receive queues, each with its port.
    pub receive: Vec<(PortIndex, RxQueue)>,
    /// How it reaches each port.
    pub ports: Vec<Way>,
    /// The rings to and from each other worker; `None` for itself.
    pub peers: Vec<Option<Peer>>,
}

/// How a worker reaches a port.
pub(crate) enum Way {
    /// By a transmit queue of its own.
    Queue(TxQueue),
    /// The worker of this index has one.
    Relay(usize),
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

/// Starts the ports and deals their queues out to the workers: receive queue q
/// of port p to worker (p + q) modulo N; a transmit queue to each worker, or, of
/// a port with fewer, to the first ones from p on. Rings join all workers.
pub(crate) fn wire(
    eal: &Eal,
    pool: &Mempool,
    specs: &[PortSpec],
    config: &DatapathConfig,
) -> Result<Vec<Wires>, Error> {
    let workers = config.cores.len();
    let mut wires: Vec<Wires> = (0..workers)
        .map(|_| Wires { receive: vec![], ports: vec![], peers: (0..workers).map(|_| None).collect() })
        .collect();
    for (number, spec) in specs.iter().enumerate() {
        let info = spec.port.info()?;
        let all = workers as u16;
        let port_config = PortConfig {
            rx_queues: info.max_rx_queues.clamp(1, all),
            tx_queues: info.max_tx_queues.clamp(1, all),
            rx_descriptors: config.rx_descriptors,
            tx_descriptors: config.tx_descriptors,
            mtu: None,
        };
        let (receive, transmit) = spec.port.start(&port_config, pool)?;
        for (queue, rx) in receive.into_iter().enumerate() {
            wires[(number + queue) % workers].receive.push((PortIndex(number as u16), rx));
        }
        let senders = transmit.len();
        let mut ways: Vec<Way> =
            (0..workers).map(|from| Way::Relay((number + from % senders) % workers)).collect();
        for (queue, tx) in transmit.into_iter().enumerate() {
            ways[(number + queue) % workers] = Way::Queue(tx);
        }
        for (wires, way) in wires.iter_mut().zip(ways) {
            wires.ports.push(way);
        }
    }
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
