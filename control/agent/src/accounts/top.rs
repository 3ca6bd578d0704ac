use std::collections::HashMap;
use std::time::{Duration, Instant};

use engine::ids::VpcIndex;
use engine::pipeline::Fate;
use policy::Id;
use worker::Sighting;

use super::books::Book;
use super::tuple::Tuple;

/// Flows that one measurement tells apart; packets of others are counted together.
pub const MAX_FLOWS: usize = 262_144;

/// Measurements at a time.
pub const MAX_TOPS: usize = 4;

/// A measurement that nobody has ended for so long is given up.
const ABANDONED: Duration = Duration::from_secs(90);

/// A flow, in both directions together, and what it sent.
#[derive(Clone, Debug)]
pub struct Talker {
    /// Who spoke to whom, as first seen.
    pub tuple: Tuple,
    /// The VPC.
    pub vpc: Option<Id>,
    /// The interfaces of both, where they are ours.
    pub interfaces: [Option<Id>; 2],
    /// Packets that passed.
    pub packets: u64,
    /// Their bytes, Ethernet header included.
    pub bytes: u64,
    /// Packets that were dropped.
    pub dropped: u64,
}

/// What a measurement found.
#[derive(Clone, Debug)]
pub struct TopAnswer {
    /// All flows, in no order.
    pub talkers: Vec<Talker>,
    /// Packets of flows that there was no room for.
    pub others: u64,
    /// How long it lasted.
    pub lasted: Duration,
}

struct Top {
    id: u64,
    since: Instant,
    flows: HashMap<(Option<VpcIndex>, Tuple), Talker>,
    others: u64,
}

/// The measurements under way.
#[derive(Default)]
pub struct Tops {
    list: Vec<Top>,
    last: u64,
}

impl Tops {
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn begin(&mut self, now: Instant) -> Result<u64, &'static str> {
        if self.list.len() >= MAX_TOPS {
            return Err("four measurements are under way, the most there may be: try again in a moment");
        }
        self.last += 1;
        self.list.push(Top { id: self.last, since: now, flows: HashMap::new(), others: 0 });
        Ok(self.last)
    }

    pub fn end(&mut self, id: u64, now: Instant) -> Option<TopAnswer> {
        let at = self.list.iter().position(|top| top.id == id)?;
        let Top { since, flows, others, .. } = self.list.swap_remove(at);
        let lasted = now.duration_since(since);
        Some(TopAnswer { talkers: flows.into_values().collect(), others, lasted })
    }

    /// Gives up what nobody has ended. True if there was such.
    pub fn abandon(&mut self, now: Instant) -> bool {
        let before = self.list.len();
        self.list.retain(|top| now.duration_since(top.since) < ABANDONED);
        self.list.len() < before
    }

    pub fn note(&mut self, tuple: &Tuple, sighting: &Sighting, book: &Book) {
        let packets = u64::from(sighting.packets);
        for top in &mut self.list {
            let key = (sighting.vpc, tuple.both_ways());
            if !top.flows.contains_key(&key) {
                if top.flows.len() >= MAX_FLOWS {
                    top.others += packets;
                    continue;
                }
                let name = |id| book.names.interfaces.get(&id).cloned();
                let talker = Talker {
                    tuple: *tuple,
                    vpc: sighting.vpc.and_then(|vpc| book.names.vpcs.get(&vpc).cloned()),
                    interfaces: [name(sighting.sender), name(sighting.receiver)],
                    packets: 0,
                    bytes: 0,
                    dropped: 0,
                };
                top.flows.insert(key, talker);
            }
            let Some(talker) = top.flows.get_mut(&key) else { continue };
            match sighting.fate {
                Fate::Passed(_) => {
                    talker.packets += packets;
                    talker.bytes += sighting.bytes;
                }
                Fate::Dropped(_) | Fate::HandedOver(_) | Fate::Waits => talker.dropped += packets,
            }
        }
    }
}
