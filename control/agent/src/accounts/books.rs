use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use engine::ids::InterfaceId;
use engine::policy::Direction;
use policy::{Id, NetworkInterface, Rulebook, Validated, oracle};

use super::Names;

/// Generations that sightings may still be of.
const KEPT: usize = 4;

/// Answers that are remembered; then all are forgotten.
const MAX_REMEMBERED: usize = 65_536;

type Question = (InterfaceId, bool, [u8; 16], u8, u16);

/// A policy with the names of its generation.
pub struct Book {
    pub(super) generation: u64,
    rulebook: Rulebook,
    /// The names behind the numbers.
    pub names: Names,
    /// Rules that permit, by who is asked what.
    remembered: HashMap<Question, Arc<[Id]>>,
}

/// The policies of the last generations.
#[derive(Default)]
pub struct Books(VecDeque<Book>);

impl Books {
    pub fn add(&mut self, generation: u64, rulebook: Rulebook, names: Names) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(Book { generation, rulebook, names, remembered: HashMap::new() });
    }

    pub fn of(&mut self, generation: u64) -> Option<&mut Book> {
        self.0.iter_mut().rev().find(|book| book.generation == generation)
    }

    /// The policy of a generation, or the last one before it in which there were all of
    /// these: what connections have carried is told a little later, when an interface may
    /// be gone.
    pub fn knowing(&mut self, generation: u64, interfaces: [InterfaceId; 2]) -> Option<&mut Book> {
        let its = self.0.iter().rposition(|book| book.generation == generation)?;
        let knows = |book: &Book| {
            let mut named = interfaces.iter().filter(|id| id.is_some());
            named.all(|id| book.names.interfaces.contains_key(id))
        };
        let at = (0..=its).rev().find(|at| knows(&self.0[*at])).unwrap_or(its);
        self.0.get_mut(at)
    }

    pub fn newest(&self) -> Option<&Book> {
        self.0.back()
    }
}

impl Book {
    /// The policy.
    pub fn policy(&self) -> &Validated {
        self.rulebook.policy()
    }

    /// The interface of this number.
    pub fn interface(&self, id: InterfaceId) -> Option<&NetworkInterface> {
        self.policy().interfaces.get(self.names.interfaces.get(&id)?)
    }

    /// The rules that permit a packet at an interface, by their ids.
    pub fn permitting(
        &mut self,
        id: InterfaceId,
        direction: Direction,
        packet: &oracle::Packet,
    ) -> Arc<[Id]> {
        // Which rules permit does not depend on the source port.
        let remote = match packet.remote {
            std::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            std::net::IpAddr::V6(v6) => v6.octets(),
        };
        let question = (id, matches!(direction, Direction::Inbound), remote, packet.protocol, packet.port);
        if let Some(known) = self.remembered.get(&question) {
            return known.clone();
        }
        let rulebook = &self.rulebook;
        let rules = match self.names.interfaces.get(&id).and_then(|name| rulebook.served(name)) {
            Some(interface) => {
                let (_, rules) = rulebook.judge(interface, direction, packet);
                rules.into_iter().map(|rule| rule.id.clone()).collect()
            }
            None => Arc::default(),
        };
        if self.remembered.len() >= MAX_REMEMBERED {
            self.remembered.clear();
        }
        self.remembered.insert(question, Arc::clone(&rules));
        rules
    }
}
