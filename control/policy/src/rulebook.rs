//! A policy arranged for many questions: whom an address belongs to is looked up
//! where the oracle searches. Rules are still walked one by one, so it tells
//! which of them permit.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use engine::policy::Direction;
use engine::verdict::Judgement;
use imbl::{OrdMap, OrdSet};
use ipnet::IpNet;

use crate::by_id::HashMap;
use crate::model::{Id, NetworkInterface, Peer, Rule, Validated};
use crate::oracle::{self, Facing, Packet, Rules};

/// A policy, and who has which address. A copy shares all that is the same.
#[derive(Clone, Debug, Default)]
pub struct Rulebook {
    policy: Arc<Validated>,
    /// The interfaces with an address, in whichever VPC.
    hosts: HashMap<IpAddr, OrdSet<Id>>,
    prefixes: HashMap<IpNet, OrdSet<Id>>,
    /// The interfaces that have a group.
    members: HashMap<Id, OrdSet<Id>>,
    /// The interfaces that a port of this switch serves.
    bound: Arc<HashSet<Id>>,
    /// Lengths of prefixes that there are, and how many; true for IPv6.
    lengths: OrdMap<(bool, u8), usize>,
}

impl Rulebook {
    /// Arranges a policy. Takes time and memory by the number of addresses.
    pub fn new(policy: Arc<Validated>) -> Rulebook {
        Rulebook::default().with(policy)
    }

    /// Arranges another policy instead. Costs by what the two do not share.
    pub fn with(&self, policy: Arc<Validated>) -> Rulebook {
        let mut book = self.begin(&policy);
        for (_, old, new) in self.policy.interfaces.differences(&policy.interfaces) {
            book.exchange(old, new);
        }
        book
    }

    /// The same, where it is known which interfaces differ.
    pub(crate) fn with_known(&self, policy: Arc<Validated>, differing: &[Id]) -> Rulebook {
        let mut book = self.begin(&policy);
        for id in differing {
            book.exchange(self.policy.interfaces.get(id), policy.interfaces.get(id));
        }
        book
    }

    /// All that does not depend on interfaces.
    fn begin(&self, policy: &Arc<Validated>) -> Rulebook {
        let mut book = Rulebook { policy: policy.clone(), ..self.clone() };
        if policy.bindings != self.policy.bindings {
            book.bound = Arc::new(policy.ports_by_interface().into_keys().map(Id::from).collect());
        }
        book
    }

    /// An interface has become another.
    fn exchange(&mut self, old: Option<&NetworkInterface>, new: Option<&NetworkInterface>) {
        let same_addresses = old
            .zip(new)
            .is_some_and(|(old, new)| (&old.addresses, &old.prefixes) == (&new.addresses, &new.prefixes));
        for (interface, add) in [(old, false), (new, true)] {
            let Some(interface) = interface else { continue };
            if !same_addresses {
                self.count_addresses(interface, add);
            }
            for group in &interface.groups {
                change(&mut self.members, group.clone(), &interface.id, add);
            }
        }
    }

    fn count_addresses(&mut self, interface: &NetworkInterface, add: bool) {
        for address in &interface.addresses {
            change(&mut self.hosts, *address, &interface.id, add);
        }
        for prefix in &interface.prefixes {
            change(&mut self.prefixes, prefix.trunc(), &interface.id, add);
            let length = (prefix.addr().is_ipv6(), prefix.prefix_len());
            let before = self.lengths.get(&length).copied().unwrap_or(0);
            match if add { before + 1 } else { before.saturating_sub(1) } {
                0 => drop(self.lengths.remove(&length)),
                count => drop(self.lengths.insert(length, count)),
            }
        }
    }

    /// The interfaces that have a group, in the order of their ids.
    pub fn members(&self, group: &str) -> impl Iterator<Item = &NetworkInterface> {
        let ids = self.members.get(group).into_iter().flatten();
        ids.filter_map(|id| self.policy.interfaces.get(id))
    }

    /// The policy.
    pub fn policy(&self) -> &Arc<Validated> {
        &self.policy
    }

    /// An interface that a port of this switch serves.
    pub fn served(&self, id: &str) -> Option<&NetworkInterface> {
        self.policy.interfaces.get(id).filter(|_| self.bound.contains(id))
    }

    /// The interfaces that have this address, by itself or by a delegated prefix,
    /// in whichever VPC.
    pub fn owners(&self, address: IpAddr) -> impl Iterator<Item = &NetworkInterface> {
        let hosts = self.hosts.get(&address).into_iter().flatten();
        // Most policies delegate nothing.
        let lengths = (!self.lengths.is_empty()).then(|| self.lengths.keys()).into_iter().flatten();
        let prefixes = lengths
            .filter(move |(v6, _)| *v6 == address.is_ipv6())
            .filter_map(move |(_, length)| self.prefixes.get(&IpNet::new(address, *length).ok()?.trunc()));
        hosts.chain(prefixes.flatten()).filter_map(|id| self.policy.interfaces.get(id))
    }

    /// How the switch judges a packet at an interface, and by which rules: as the
    /// oracle does, and tracked where the operator wants all of it tracked (D25).
    pub fn judge<'r>(
        &'r self,
        interface: &'r NetworkInterface,
        direction: Direction,
        packet: &Packet,
    ) -> (Judgement, Vec<&'r Rule>) {
        let facing = self.facing(interface, packet.remote);
        let chosen = self.policy.settings.interfaces.get(&interface.id);
        let judgement = match facing.judge(direction, packet) {
            Judgement::Untracked if chosen.is_some_and(|chosen| chosen.force_tracking) => Judgement::Tracked,
            judgement => judgement,
        };
        (judgement, facing.permitting(direction, packet).collect())
    }

    /// Those of an interface's rules that name this address, whatever the operator
    /// wants tracked: as the oracle finds them.
    fn facing<'r>(&'r self, interface: &'r NetworkInterface, remote: IpAddr) -> Facing<'r> {
        let policy = &*self.policy;
        let members: Vec<&NetworkInterface> = self
            .owners(remote)
            .filter(|owner| policy.scopes(&interface.vpc).any(|vpc| vpc == owner.vpc))
            .collect();
        Rules::of(policy, interface).facing(|peer| match peer {
            Peer::Group { id, stale: false } => members.iter().any(|member| member.groups.contains(id)),
            other => oracle::is_peer(policy, interface, other, remote),
        })
    }
}

/// Notes that an interface has something, or no longer.
fn change<K: std::hash::Hash + Eq + Clone>(
    all: &mut HashMap<K, OrdSet<Id>>,
    key: K,
    interface: &str,
    add: bool,
) {
    if add {
        all.entry(key).or_default().insert(interface.into());
    } else if let Some(ids) = all.get_mut(&key) {
        ids.remove(interface);
        if ids.is_empty() {
            all.remove(&key);
        }
    }
}
