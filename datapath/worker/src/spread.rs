//! Ports that spread packets over their receive queues by themselves: told which
//! flows are whose, and held to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dpdk::Burst;
use engine::flow::{BUCKETS, FlowHasher, FlowKey, owner};
use engine::ids::{VpcIndex, WorkerIndex};
use engine::packet::{Body, Frame, parse};

/// Bursts of a queue whose packets are all looked at in the beginning; later one in
/// as many.
const LOOKS: u32 = 64;

/// Packets after which it shows whether a port does as it was told.
const ENOUGH: u64 = 256;

/// How a port's packets come to the owners of their flows.
#[derive(Clone, Debug, Default)]
pub enum Spreading {
    /// It has nothing to choose: one worker, or one queue.
    #[default]
    None,
    /// Workers hand over what is another's; why the port cannot spare them that.
    Workers(String),
    /// The port was told whose is what, and says that it does so.
    Port(Arc<Deliveries>),
}

/// Where packets of TCP and UDP have come from a port that spreads them: samples.
#[derive(Debug, Default)]
pub struct Deliveries {
    checked: AtomicU64,
    elsewhere: AtomicU64,
}

impl Deliveries {
    /// Packets that were looked at.
    pub fn checked(&self) -> u64 {
        self.checked.load(Ordering::Relaxed)
    }

    /// Those of them that came to another worker than their flow's owner, which has
    /// got them all the same.
    pub fn elsewhere(&self) -> u64 {
        self.elsewhere.load(Ordering::Relaxed)
    }

    /// Whether the port does as it was told: at most one packet of 16 went elsewhere,
    /// as some that a device reads otherwise may. `None` until enough were looked at.
    pub fn are_right(&self) -> Option<bool> {
        let (checked, elsewhere) = (self.checked(), self.elsewhere());
        (checked >= ENOUGH).then_some(elsewhere * 16 <= checked)
    }
}

/// The queue of each bucket, where `queue` says which one a worker polls. Buckets of
/// workers without a queue go to those there are.
pub(crate) fn table(workers: u8, queues: u16, queue: impl Fn(WorkerIndex) -> Option<u16>) -> Vec<u16> {
    let of = |bucket| queue(owner(bucket, workers)).unwrap_or(u16::from(bucket) % queues);
    (0..BUCKETS as u8).map(of).collect()
}

/// Looks at what comes by a queue of a port that spreads.
pub(crate) struct Inspector {
    hasher: FlowHasher,
    worker: WorkerIndex,
    workers: u8,
    deliveries: Arc<Deliveries>,
    bursts: u32,
}

impl Inspector {
    pub fn new(
        hasher: FlowHasher,
        worker: WorkerIndex,
        workers: u8,
        deliveries: Arc<Deliveries>,
    ) -> Inspector {
        Inspector { hasher, worker, workers, deliveries, bursts: 0 }
    }

    /// Shows it a burst; it looks at some.
    #[inline]
    pub fn show(&mut self, burst: &Burst) {
        if self.bursts < LOOKS || self.bursts.is_multiple_of(LOOKS) {
            self.look(burst.iter().map(|packet| packet.data()));
        }
        self.bursts = self.bursts.checked_add(1).unwrap_or(LOOKS);
    }

    #[cold]
    fn look<'a>(&self, frames: impl Iterator<Item = &'a [u8]>) {
        let (mut checked, mut elsewhere) = (0, 0);
        for owner in frames.filter_map(|frame| self.owner(frame)) {
            checked += 1;
            elsewhere += u64::from(owner != self.worker);
        }
        // In this order, so that a reader never sees more elsewhere than there were.
        self.deliveries.checked.fetch_add(checked, Ordering::Relaxed);
        self.deliveries.elsewhere.fetch_add(elsewhere, Ordering::Relaxed);
    }

    /// Whose a packet of TCP or UDP is; `None`: anything else.
    fn owner(&self, frame: &[u8]) -> Option<WorkerIndex> {
        let Ok(packet) = parse(Frame::whole(frame)) else { return None };
        let Body::Ip(ip) = packet.body else { return None };
        let (key, _) = FlowKey::of(VpcIndex(0), &ip).filter(|_| matches!(ip.protocol, 6 | 17))?;
        Some(self.hasher.hash(&key).owner(self.workers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::packet::build::{Packet, mac};

    fn datagram(port: u16) -> Vec<u8> {
        Packet::udp(&format!("10.0.0.1:{port}"), "10.0.0.2:53", &[]).frame(mac(1), mac(2))
    }

    fn inspectors() -> [Inspector; 2] {
        let deliveries = Arc::new(Deliveries::default());
        [0, 1].map(|worker| {
            Inspector::new(FlowHasher::new([1, 2, 3, 4]), WorkerIndex(worker), 2, deliveries.clone())
        })
    }

    #[test]
    fn every_worker_is_given_its_buckets() {
        let own = table(4, 4, |worker| Some(u16::from(worker.0 + 1) % 4));
        assert_eq!(own.iter().filter(|queue| **queue == 1).count(), 32);
        assert!(own[..32].iter().all(|queue| *queue == 1) && own[96..].iter().all(|queue| *queue == 0));
        let few = table(3, 2, |worker| (worker.0 < 2).then_some(worker.0.into()));
        assert!(few.iter().all(|queue| *queue < 2));
        let [zeros, ones] = [0, 1].map(|queue| few[86..].iter().filter(|q| **q == queue).count());
        assert_eq!(zeros, ones, "what no queue leads to is spread");
    }

    #[test]
    fn a_port_that_delivers_to_owners_is_believed() {
        let inspectors = inspectors();
        assert_eq!(inspectors[0].deliveries.are_right(), None);
        for port in 0..1000 {
            let frame = datagram(port);
            let owner = inspectors[0].owner(&frame).unwrap();
            inspectors[usize::from(owner.0)].look(std::iter::once(&frame[..]));
        }
        let deliveries = &inspectors[0].deliveries;
        assert_eq!((deliveries.checked(), deliveries.elsewhere()), (1000, 0));
        assert_eq!(deliveries.are_right(), Some(true));
    }

    #[test]
    fn a_port_that_delivers_otherwise_is_not() {
        let [one, _] = inspectors();
        let frames: Vec<_> = (0..1000).map(datagram).collect();
        one.look(frames.iter().map(|frame| &frame[..]));
        assert_eq!(one.deliveries.elsewhere(), 500);
        assert_eq!(one.deliveries.are_right(), Some(false));
    }

    #[test]
    fn only_what_has_ports_is_looked_at() {
        let [one, _] = inspectors();
        let ping = Packet::ping("10.0.0.1", "10.0.0.2", 7).frame(mac(1), mac(2));
        for frame in [&[][..], &[0; 60], &ping] {
            assert_eq!(one.owner(frame), None);
        }
    }
}
