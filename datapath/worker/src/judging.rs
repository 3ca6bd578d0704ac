//! A burst and its verdicts: the pipeline, those who watch it, and the way out.

use arrayvec::ArrayVec;
use dpdk::{BURST, Burst, Mbuf};
use engine::fragment::{FragmentOf, WAITING};
use engine::ids::PortIndex;
use engine::packet::Frame;
use engine::pipeline::{Arrival, Outcomes, Pipeline};
use engine::snapshot::Snapshot;
use engine::time::Tick;

use crate::clock::Stopwatch;
use crate::egress::Egress;
use crate::observer::Observer;
use crate::statistics::WorkerStage;
use crate::wiring::Peer;

/// Where a burst comes from and what it is judged by.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    /// `None`: from another worker, each packet with its port noted in it.
    pub port: Option<PortIndex>,
    pub now: Tick,
    pub snapshot: &'a Snapshot,
}

/// The parts of a worker that judge, borrowed apart from those that receive.
pub(crate) struct Bench<'w> {
    pub pipeline: &'w mut Pipeline,
    pub egress: &'w mut Egress,
    pub observer: &'w mut Observer,
    pub outcomes: &'w mut Outcomes,
    pub watch: Stopwatch<'w>,
}

impl Bench<'_> {
    /// Judges a burst and sorts it to where its packets go; then the fragments
    /// that have waited for one of them.
    pub fn judge(&mut self, peers: &mut [Option<Peer>], burst: &mut Burst, from: Source<'_>) {
        burst.iter().for_each(Mbuf::prefetch);
        let arrival = |packet| -> Arrival<'_> {
            let packet: &Mbuf = packet;
            let steered = from.port.is_none();
            Arrival {
                frame: Frame { head: packet.data(), length: packet.total_len() },
                port: from.port.unwrap_or(PortIndex(packet.port())),
                steered,
                of: if steered { FragmentOf::from_bits(packet.note()) } else { None },
            }
        };
        // Not collected, which would copy it as a whole.
        let mut arrivals = ArrayVec::<Arrival<'_>, BURST>::new();
        arrivals.extend(burst.iter().map(arrival));
        self.run(&arrivals, from);
        drop(arrivals);
        let packets = burst.len();
        self.egress.sort(peers, burst, from.port, self.outcomes);
        self.watch.lap(WorkerStage::Transmit, packets);
        if self.pipeline.is_waiting_over() {
            self.judge_released(peers, burst, from);
        }
    }

    /// Judges the fragments whose first has come, in the order in which they came,
    /// and frees those that have waited too long.
    #[cold]
    fn judge_released(&mut self, peers: &mut [Option<Peer>], burst: &mut Burst, from: Source<'_>) {
        let released: ArrayVec<_, WAITING> = self.pipeline.released().collect();
        for chunk in released.chunks(BURST) {
            let mut tellings = ArrayVec::<FragmentOf, BURST>::new();
            for (slot, of) in chunk {
                if let Some(packet) = self.egress.waiting[usize::from(slot.0)].take()
                    && burst.push(packet).is_ok()
                {
                    tellings.push(*of);
                }
            }
            let arrival = |(packet, of)| -> Arrival<'_> {
                let packet: &Mbuf = packet;
                let frame = Frame { head: packet.data(), length: packet.total_len() };
                Arrival { frame, port: PortIndex(packet.port()), steered: false, of: Some(of) }
            };
            let arrivals: ArrayVec<Arrival<'_>, BURST> = burst.iter().zip(tellings).map(arrival).collect();
            self.run(&arrivals, from);
            drop(arrivals);
            self.egress.sort(peers, burst, None, self.outcomes);
            self.watch.lap(WorkerStage::Transmit, chunk.len());
        }
        self.egress.free_discarded(self.pipeline);
    }

    /// The verdicts, told to those who watch.
    #[inline]
    fn run(&mut self, arrivals: &[Arrival<'_>], from: Source<'_>) {
        let Bench { pipeline, observer, outcomes, watch, .. } = self;
        let before = observer.before(pipeline, from, arrivals);
        pipeline.run(from.snapshot, from.now, arrivals, watch, outcomes);
        observer.after(pipeline, from, arrivals, outcomes, before);
    }
}
