//! The product without DPDK: a document is validated and compiled, frames go
//! through the pipeline, time is set by hand.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use engine::conntrack::TableConfig;
use engine::flow::Side;
use engine::ids::{PortIndex, WorkerIndex};
use engine::packet::Frame;
use engine::pipeline::{Arrival, Counters, Outcome, Outcomes, PassClass, Pipeline, PipelineConfig};
use engine::snapshot::Snapshot;
use engine::time::Tick;
use policy::{Arena, Compiler, Context, Faults, Validated, edit, validate};
use serde_json::Value;

use crate::specification::{Flow, Verdict};

/// The ports of the switch: three for interfaces and one that documents use as uplink.
pub const PORTS: [&str; 4] = ["p0", "p1", "p2", "up"];

/// One worker with its policy and its connections.
pub struct Product {
    /// The policy in force.
    pub policy: Validated,
    compiler: Compiler,
    snapshot: Snapshot,
    pipeline: Pipeline,
    outcomes: Outcomes,
    /// Seconds since the start.
    pub now: u32,
}

impl Product {
    /// A switch without a policy, with room for so many connections.
    pub fn new(connections: usize) -> Product {
        let config = PipelineConfig {
            worker: WorkerIndex(0),
            workers: 1,
            table: TableConfig { capacity: connections },
            seed: [1, 2, 3, 4],
            interface_slots: 16,
            counters: Arc::new(Counters::new(16)),
            advise: |_| (),
        };
        Product {
            policy: Validated::default(),
            compiler: Compiler::new(16),
            snapshot: Snapshot::closed(),
            pipeline: Pipeline::new(config),
            outcomes: Outcomes::new(),
            now: 0,
        }
    }

    /// Puts a document into force.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn push(&mut self, document: &Value) -> Result<(), Faults> {
        let ports = PORTS.into_iter().collect();
        let context = Context { ports: &ports, partial: false, missing_ports_are_notices: false };
        let (policy, _) = validate(document, &context)?;
        self.snapshot = self.compiler.compile(&policy, self.snapshot.generation + 1, &ports)?;
        self.policy = policy;
        Ok(())
    }

    /// Makes a single change; `None` if there is no such action.
    pub fn act(&mut self, action: &str, request: &Value) -> Option<Result<Value, Faults>> {
        let edited = edit(&self.policy, action, &Arena::default().tree(request))?;
        Some(edited.and_then(|edited| self.push(&edited.policy.to_document()).map(|()| edited.answer)))
    }

    fn tick(&self) -> Tick {
        Tick::from_secs(1 + self.now)
    }

    /// A frame into a port: the verdict on it, and the ports that it leaves by.
    ///
    /// # Panics
    /// If what passes is not counted in exactly one class.
    pub fn put(&mut self, port: usize, frame: &[u8]) -> (Verdict, Vec<usize>) {
        let port = PortIndex(port as u16);
        let arrival = Arrival { frame: Frame::whole(frame), port, steered: false, of: None };
        let passed = |pipeline: &Pipeline| PassClass::ALL.map(|class| pipeline.counters().passed(class));
        let (before, now) = (passed(&self.pipeline), self.tick());
        self.pipeline.run(&self.snapshot, now, &[arrival], &mut (), &mut self.outcomes);
        let ports = match self.outcomes.get(0) {
            Outcome::Drop(reason) => return (Verdict::Drop(reason.label()), vec![]),
            Outcome::Send(delivery) => vec![usize::from(delivery.port.0)],
            Outcome::Flood(places) => {
                self.outcomes.copies(places).iter().map(|d| usize::from(d.port.0)).collect()
            }
            other => panic!("one worker keeps what it gets: {other:?}"),
        };
        let after = passed(&self.pipeline);
        let moved = PassClass::ALL.into_iter().filter(|c| after[*c as usize] != before[*c as usize]);
        let [class] = moved.collect::<Vec<_>>()[..] else { panic!("what passes is counted in one class") };
        (Verdict::Pass(class.label()), ports)
    }

    /// The connections that live, each with its state.
    pub fn connections(&self) -> BTreeMap<Flow, &'static str> {
        let mut found = BTreeMap::new();
        self.pipeline.table().scan(self.tick(), 0, usize::MAX, &mut |entry| {
            let protocol = entry.key().protocol();
            let end = |side| {
                let (address, port) = entry.key().endpoint(side);
                // Of a ping, the other end's port says type and code.
                let asked = matches!(protocol, 1 | 58) && matches!(port, 0x0800 | 0x8000);
                (IpAddr::from(address), if asked { 0 } else { port })
            };
            let mut ends = Side::BOTH.map(end);
            ends.sort();
            found.insert(Flow { protocol, ends }, entry.state().label());
        });
        found
    }
}
