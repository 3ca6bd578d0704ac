use std::collections::{HashMap, HashSet};
use std::time::SystemTime;

use engine::pipeline::{Fate, PassClass};
use engine::policy::Direction;
use policy::{Id, SecurityGroup, Validated};
use worker::Sighting;

use super::books::Book;
use super::tuple::Tuple;

/// How often a rule has let something pass. What several rules permit counts at
/// each of them; what passes by state counts at none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleCount {
    /// Connections that it let open.
    pub connections: u64,
    /// Packets of untracked flows.
    pub packets: u64,
    /// Their bytes, Ethernet header included.
    pub bytes: u64,
    /// When it last did.
    pub last: SystemTime,
}

/// By the ids of rules; and how many there were when those that are gone were
/// last looked for.
#[derive(Default)]
pub struct RuleCounts(HashMap<Id, RuleCount>, usize);

/// Rules that may have been counted since, before it is looked for those that are gone.
const SPARE: usize = 1024;

impl RuleCounts {
    pub fn counts(&self) -> &HashMap<Id, RuleCount> {
        &self.0
    }

    /// Forgets the rules that a policy no longer has, which the one before had.
    pub fn keep_those_of(&mut self, before: &Validated, policy: &Validated) {
        if self.0.is_empty() {
            return;
        }
        let rules = |group: &SecurityGroup| {
            let rules = group.inbound.iter().chain(&group.outbound);
            rules.map(|rule| rule.id.clone()).collect::<HashSet<_>>()
        };
        for (_, old, new) in before.groups.differences(&policy.groups) {
            let (old, new) = (old.map(rules).unwrap_or_default(), new.map(rules).unwrap_or_default());
            for id in old.difference(&new) {
                self.0.remove(id);
            }
        }
        // Late sightings of older generations bring rules back that are gone.
        if self.0.len() > self.1 + SPARE {
            let kept: HashSet<Id> = policy.groups.values().flat_map(rules).collect();
            self.0.retain(|id, _| kept.contains(id));
            self.1 = self.0.len();
        }
    }

    /// A packet that rules let pass.
    pub fn note(&mut self, tuple: &Tuple, sighting: &Sighting, book: &mut Book) {
        let ends = [
            (sighting.sender, Direction::Outbound, tuple.at_sender()),
            (sighting.receiver, Direction::Inbound, tuple.at_receiver()),
        ];
        for (interface, direction, packet) in ends {
            if !interface.is_some() {
                continue;
            }
            for id in &*book.permitting(interface, direction, &packet) {
                self.count(id, sighting);
            }
        }
    }

    fn count(&mut self, id: &str, sighting: &Sighting) {
        let last = SystemTime::now();
        if !self.0.contains_key(id) {
            self.0.insert(id.into(), RuleCount { connections: 0, packets: 0, bytes: 0, last });
        }
        let Some(count) = self.0.get_mut(id) else { return };
        count.last = last;
        match sighting.fate {
            Fate::Passed(PassClass::NewTracked) => count.connections += 1,
            _ => {
                count.packets += u64::from(sighting.packets);
                count.bytes += sighting.bytes;
            }
        }
    }
}
