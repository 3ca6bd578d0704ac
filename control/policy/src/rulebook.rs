//! A policy arranged for many questions: whom an address belongs to is looked up
//! where the oracle searches. Rules are still walked one by one, so it tells
//! which of them permit.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use engine::policy::Direction;
use engine::verdict::Judgement;
use ipnet::IpNet;

use crate::model::{NetworkInterface, Peer, Rule, Validated};
use crate::oracle::{self, Packet};

/// A policy, and who has which address.
#[derive(Clone, Debug, Default)]
pub struct Rulebook {
    policy: Arc<Validated>,
    /// The interfaces with an address, in whichever VPC.
    hosts: HashMap<IpAddr, Vec<String>>,
    prefixes: HashMap<IpNet, Vec<String>>,
    /// The interfaces that a port of this switch serves.
    bound: HashSet<String>,
    /// Lengths of prefixes that there are; true for IPv6.
    lengths: BTreeSet<(bool, u8)>,
}

impl Rulebook {
    /// Arranges a policy. Takes time and memory by the number of addresses.
    pub fn new(policy: Arc<Validated>) -> Rulebook {
        let mut book = Rulebook { policy: policy.clone(), ..Rulebook::default() };
        let served = policy.ports_by_interface();
        book.bound = served.keys().map(ToString::to_string).collect();
        for interface in policy.interfaces.values() {
            for address in &interface.addresses {
                book.hosts.entry(*address).or_default().push(interface.id.clone());
            }
            for prefix in &interface.prefixes {
                book.lengths.insert((prefix.addr().is_ipv6(), prefix.prefix_len()));
                book.prefixes.entry(prefix.trunc()).or_default().push(interface.id.clone());
            }
        }
        book
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
        let lengths = self.lengths.iter().filter(move |(v6, _)| *v6 == address.is_ipv6());
        let prefixes = lengths
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
        let policy = &*self.policy;
        let members: Vec<&NetworkInterface> = self
            .owners(packet.remote)
            .filter(|owner| policy.scopes(&interface.vpc).any(|vpc| vpc == owner.vpc))
            .collect();
        let is_peer = |peer: &Peer| match peer {
            Peer::Group { id, stale: false } => members.iter().any(|member| member.groups.contains(id)),
            other => oracle::is_peer(policy, interface, other, packet.remote),
        };
        let (judgement, rules) = oracle::judge_by(policy, interface, direction, packet, is_peer);
        let forced =
            policy.settings.interfaces.get(&interface.id).is_some_and(|chosen| chosen.force_tracking);
        match judgement {
            Judgement::Untracked if forced => (Judgement::Tracked, rules),
            judgement => (judgement, rules),
        }
    }
}
