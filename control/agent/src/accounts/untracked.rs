use std::collections::HashMap;
use std::time::{Duration, Instant};

use engine::ids::InterfaceId;
use policy::Id;
use worker::Sighting;

use super::books::Book;
use super::tuple::Tuple;

/// Untracked flows that are remembered.
pub const MAX_FLOWS: usize = 65_536;

/// How long after their last packet.
const MEMORY: Duration = Duration::from_secs(60);

/// How often those whose time is up are looked for.
const CLOSE_EVERY: Duration = Duration::from_secs(5);

/// A flow that has no connection: one direction of it, as it was seen.
#[derive(Clone, Debug)]
pub struct UntrackedFlow {
    /// Who spoke to whom.
    pub tuple: Tuple,
    /// The VPC.
    pub vpc: Option<Id>,
    /// The interface that sends, if it is one of ours.
    pub sender: Option<Id>,
    /// The interface that receives.
    pub receiver: Option<Id>,
    /// Packets that were told of.
    pub packets: u64,
    /// Their bytes, Ethernet header included.
    pub bytes: u64,
    /// When the last one was.
    pub last: Instant,
}

/// The flows of the last minute, by who spoke to whom where.
#[derive(Default)]
pub struct UntrackedFlows {
    flows: HashMap<(InterfaceId, InterfaceId, Tuple), UntrackedFlow>,
    closed: Option<Instant>,
}

impl UntrackedFlows {
    /// A packet of an untracked flow. False if there is no room for its flow.
    pub fn note(&mut self, tuple: &Tuple, sighting: &Sighting, book: &Book, now: Instant) -> bool {
        let key = (sighting.sender, sighting.receiver, *tuple);
        if !self.flows.contains_key(&key) {
            if self.flows.len() >= MAX_FLOWS {
                return false;
            }
            let name = |id| book.names.interfaces.get(&id).cloned();
            let flow = UntrackedFlow {
                tuple: *tuple,
                vpc: sighting.vpc.and_then(|vpc| book.names.vpcs.get(&vpc).cloned()),
                sender: name(sighting.sender),
                receiver: name(sighting.receiver),
                packets: 0,
                bytes: 0,
                last: now,
            };
            self.flows.insert(key, flow);
        }
        if let Some(flow) = self.flows.get_mut(&key) {
            flow.packets += u64::from(sighting.packets);
            flow.bytes += sighting.bytes;
            flow.last = now;
        }
        true
    }

    /// Forgets flows that have been silent for long.
    pub fn close(&mut self, now: Instant) {
        if self.closed.is_none_or(|closed| now.duration_since(closed) >= CLOSE_EVERY) {
            self.closed = Some(now);
            self.flows.retain(|_, flow| now.duration_since(flow.last) < MEMORY);
        }
    }

    /// Those of the last minute.
    pub fn list(&self, now: Instant) -> Vec<UntrackedFlow> {
        self.flows.values().filter(|flow| now.duration_since(flow.last) < MEMORY).cloned().collect()
    }
}
