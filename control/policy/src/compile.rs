//! From a validated policy to a snapshot, sharing what did not change.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use engine::addr::{Addr, Family, Prefix};
use engine::conntrack::Timeouts;
use engine::forward::{Addresses, Interface, Interfaces, PortRole, Uplink, Vpc};
use engine::ids::{InterfaceId, PortIndex, VlanId, VpcIndex};
use engine::policy::{
    Cidrs, Direction, DirectionRules, Members, Policy, Revoked, ServiceSet, SourceId, Tables, TooManyCovering,
};
use engine::snapshot::Snapshot;
use engine::time::Ticks;
use ipnet::IpNet;

use crate::model::{Binding, NetworkInterface, Peer, Rule, RuleService, SecurityGroup, Validated};
use crate::report::{Fault, Faults};

/// What rules name, as far as the compiled tables tell it apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Source {
    Group(String),
    Cidr(IpNet),
    PrefixList(String),
}

/// Compiles generation after generation. Numbers once given stay with what
/// they were given to, so that connections keep their meaning.
pub struct Compiler {
    interface_slots: usize,
    timeouts: Timeouts,
    sources: HashMap<Source, SourceId>,
    vpcs: HashMap<String, VpcIndex>,
    interfaces: HashMap<String, Known>,
    free: BTreeSet<(u16, u32)>,
    next_slot: u32,
    /// Policies by the groups that they are made of, with those groups as they were.
    policies: HashMap<Vec<String>, (Vec<SecurityGroup>, Arc<Policy>)>,
    members: Members,
    member_of: HashMap<(VpcIndex, Addr), Arc<[SourceId]>>,
    blocks: Vec<(Prefix, SourceId)>,
    cidrs: Arc<Cidrs>,
}

/// What is kept of an interface from one generation to the next.
struct Known {
    id: InterfaceId,
    policy: Arc<Policy>,
    revoked: Option<Arc<Revoked>>,
}

/// The ranges that a rule permits, as the tables have them.
fn services(service: RuleService) -> ServiceSet {
    match service {
        RuleService::All => ServiceSet::all(),
        RuleService::Ports(protocol, low, high) => ServiceSet::ports(protocol, low, high),
        RuleService::Icmp(protocol, icmp_type, code) => ServiceSet::icmp(protocol, icmp_type, code),
        RuleService::Protocol(protocol) => ServiceSet::protocol(protocol),
    }
}

/// A block as the tables have it.
fn prefix(net: &IpNet) -> Prefix {
    Prefix::new(net.network().into(), net.prefix_len()).expect("a block's length fits its family")
}

fn capacity(message: String) -> Faults {
    Fault { code: "InsufficientCapacity", message, path: "NetworkInterfaces".to_string() }.into()
}

impl Compiler {
    /// For policies of at most this many interfaces at once.
    pub fn new(interface_slots: usize) -> Compiler {
        Compiler {
            interface_slots: interface_slots.min(InterfaceId::MAX_SLOTS),
            timeouts: Timeouts::DEFAULT,
            sources: HashMap::new(),
            vpcs: HashMap::new(),
            interfaces: HashMap::new(),
            free: BTreeSet::new(),
            next_slot: 0,
            policies: HashMap::new(),
            members: Members::default(),
            member_of: HashMap::new(),
            blocks: Vec::new(),
            cidrs: Arc::default(),
        }
    }

    /// With other timeouts for connections of interfaces that name none (D18).
    pub fn with_timeouts(self, timeouts: Timeouts) -> Compiler {
        Compiler { timeouts, ..self }
    }

    /// Compiles a policy. `ports` are the switch's, in the order of their indexes.
    ///
    /// # Errors
    /// More interfaces or VPCs than there are numbers for, or a block that lies
    /// within too many others.
    pub fn compile(
        &mut self,
        policy: &Validated,
        generation: u64,
        ports: &[String],
    ) -> Result<Snapshot, Faults> {
        if policy.interfaces.len() > self.interface_slots {
            let (have, most) = (policy.interfaces.len(), self.interface_slots);
            return Err(capacity(format!(
                "{have} interfaces are more than the {most} that the switch has room for"
            )));
        }
        for vpc in policy.vpcs.keys() {
            let next = u16::try_from(self.vpcs.len())
                .map_err(|_| capacity("too many VPCs since the start".into()))?;
            self.vpcs.entry(vpc.clone()).or_insert(VpcIndex(next));
        }
        let port_index = |name: &str| ports.iter().position(|p| p == name).map(|i| PortIndex(i as u16));
        self.refresh_policies(policy);
        self.release(policy);
        let mut interfaces = Vec::with_capacity(policy.interfaces.len());
        let served: BTreeMap<&str, PortIndex> = policy
            .bindings
            .iter()
            .filter_map(|b| match b {
                Binding::Interface { interface, port } => Some((interface.as_str(), port_index(port)?)),
                Binding::Uplink { .. } => None,
            })
            .collect();
        for interface in policy.interfaces.values() {
            let port = served.get(interface.id.as_str()).copied();
            interfaces.push(Arc::new(self.interface(policy, interface, port)));
        }
        let tables = self.tables(policy)?;
        let (roles, vpcs) = self.roles(policy, ports, &interfaces);
        Ok(Snapshot { generation, interfaces: Interfaces::new(interfaces), ports: roles, vpcs, tables })
    }

    fn source(&mut self, source: Source) -> SourceId {
        let next = SourceId(self.sources.len() as u32);
        *self.sources.entry(source).or_insert(next)
    }

    fn vpc(&self, id: &str) -> VpcIndex {
        self.vpcs[id]
    }

    /// Makes the policy of every set of groups in use; one whose groups are as
    /// they were is shared.
    fn refresh_policies(&mut self, policy: &Validated) {
        let mut before = std::mem::take(&mut self.policies);
        for interface in policy.interfaces.values() {
            if self.policies.contains_key(&interface.groups) {
                continue;
            }
            let groups: Vec<&SecurityGroup> =
                interface.groups.iter().filter_map(|id| policy.groups.get(id)).collect();
            let same = before
                .remove(&interface.groups)
                .filter(|(old, _)| old.iter().eq(groups.iter().copied()))
                .map(|(_, compiled)| compiled);
            let compiled = same.unwrap_or_else(|| {
                let inbound = self.direction(groups.iter().flat_map(|g| &g.inbound));
                let outbound = self.direction(groups.iter().flat_map(|g| &g.outbound));
                Arc::new(Policy::new(inbound, outbound))
            });
            let kept = groups.into_iter().cloned().collect();
            self.policies.insert(interface.groups.clone(), (kept, compiled));
        }
    }

    fn direction<'r>(&mut self, rules: impl Iterator<Item = &'r Rule>) -> DirectionRules {
        let mut direction = DirectionRules::default();
        for rule in rules {
            let services = services(rule.service);
            match &rule.peer {
                Peer::Cidr(net) if net.prefix_len() == 0 => {
                    let family = if net.addr().is_ipv4() { Family::V4 } else { Family::V6 };
                    direction.permit_everyone(family, &services);
                }
                Peer::Cidr(net) => direction.permit(self.source(Source::Cidr(*net)), &services),
                Peer::PrefixList(id) => {
                    direction.permit(self.source(Source::PrefixList(id.clone())), &services)
                }
                Peer::Group { id, stale: false } => {
                    direction.permit(self.source(Source::Group(id.clone())), &services);
                }
                Peer::Group { stale: true, .. } => {}
            }
        }
        direction
    }

    /// Takes back the slots of interfaces that are gone.
    fn release(&mut self, policy: &Validated) {
        let free = &mut self.free;
        self.interfaces.retain(|id, known| {
            let stays = policy.interfaces.contains_key(id);
            if !stays {
                // Incarnations 1 to 4095 in turn; the least used slots go first.
                let next = known.id.incarnation() % 4095 + 1;
                free.insert((next, known.id.slot() as u32));
            }
            stays
        });
    }

    fn interface(&mut self, all: &Validated, from: &NetworkInterface, port: Option<PortIndex>) -> Interface {
        debug_assert!(all.interfaces.contains_key(&from.id));
        let policy = self.policies[&from.groups].1.clone();
        let (id, revoked) = match self.interfaces.get(&from.id) {
            Some(known) => (known.id, still_revoked(known, &policy)),
            None => (self.new_id(), None),
        };
        self.interfaces
            .insert(from.id.clone(), Known { id, policy: policy.clone(), revoked: revoked.clone() });
        let hosts = from.addresses.iter().map(|a| Prefix::host((*a).into()));
        let seconds = |given: Option<u32>, default| given.map_or(default, Ticks::from_secs);
        let default = self.timeouts;
        Interface {
            id,
            vpc: self.vpc(&from.vpc),
            mac: from.mac,
            port,
            addresses: Addresses::new(hosts.chain(from.prefixes.iter().map(prefix))),
            source_dest_check: from.source_dest_check,
            policy,
            revoked,
            timeouts: Timeouts {
                tcp_established: seconds(from.tcp_established_timeout, default.tcp_established),
                udp: seconds(from.udp_timeout, default.udp),
                udp_stream: seconds(from.udp_stream_timeout, default.udp_stream),
                ..default
            },
        }
    }

    fn new_id(&mut self) -> InterfaceId {
        // Fresh slots first, so that a number is used again as late as possible.
        if (self.next_slot as usize) < self.interface_slots {
            self.next_slot += 1;
            return InterfaceId::new(self.next_slot - 1, 1);
        }
        let (incarnation, slot) = self.free.pop_first().expect("no more interfaces than slots");
        InterfaceId::new(slot, incarnation)
    }

    /// Who remote addresses are.
    fn tables(&mut self, policy: &Validated) -> Result<Tables, Faults> {
        let mut member_of: HashMap<(VpcIndex, Addr), Arc<[SourceId]>> = HashMap::new();
        let mut delegated: HashMap<VpcIndex, Vec<(Prefix, SourceId)>> = HashMap::new();
        let mut lists: HashMap<&[String], Arc<[SourceId]>> = HashMap::new();
        for interface in policy.interfaces.values() {
            let vpc = self.vpc(&interface.vpc);
            let groups = match lists.get(interface.groups.as_slice()) {
                Some(known) => known.clone(),
                None => {
                    let ids =
                        interface.groups.iter().map(|g| self.source(Source::Group(g.clone()))).collect();
                    lists.entry(&interface.groups).or_insert(ids).clone()
                }
            };
            for net in &interface.prefixes {
                delegated.entry(vpc).or_default().extend(groups.iter().map(|g| (prefix(net), *g)));
            }
            member_of.extend(interface.addresses.iter().map(|a| ((vpc, Addr::from(*a)), groups.clone())));
        }
        let gone = self.member_of.keys().filter(|key| !member_of.contains_key(*key)).map(|key| (*key, None));
        let changed = member_of.iter().filter(|(key, groups)| self.member_of.get(*key) != Some(groups));
        let changes = gone.chain(changed.map(|(key, groups)| (*key, Some(groups.clone()))));
        self.members = self.members.with_changes(changes);
        self.member_of = member_of;

        let blocks = self.rule_blocks(policy);
        if blocks != self.blocks {
            self.cidrs = Arc::new(Cidrs::new(blocks.iter().copied()).map_err(too_many)?);
            self.blocks = blocks;
        }
        let mut tables =
            Tables { members: self.members.clone(), cidrs: self.cidrs.clone(), ..Tables::default() };
        for (vpc, blocks) in delegated {
            tables.delegated.insert(vpc, Arc::new(Cidrs::new(blocks).map_err(too_many)?));
        }
        tables.scopes = vec![Vec::new(); self.vpcs.len()];
        for vpc in policy.vpcs.keys() {
            let known = policy.scopes(vpc).filter_map(|v| self.vpcs.get(v).copied());
            tables.scopes[usize::from(self.vpc(vpc).0)] = known.collect();
        }
        Ok(tables)
    }

    /// The blocks that rules of groups in use name, and those of prefix lists.
    fn rule_blocks(&mut self, policy: &Validated) -> Vec<(Prefix, SourceId)> {
        let mut blocks = BTreeMap::new();
        let used: BTreeSet<&String> = policy.interfaces.values().flat_map(|i| &i.groups).collect();
        for group in used.into_iter().filter_map(|id| policy.groups.get(id)) {
            for rule in group.inbound.iter().chain(&group.outbound) {
                match &rule.peer {
                    Peer::Cidr(net) if net.prefix_len() > 0 => {
                        blocks.insert((*net, self.source(Source::Cidr(*net))), ());
                    }
                    Peer::PrefixList(id) => {
                        let source = self.source(Source::PrefixList(id.clone()));
                        let entries = policy.prefix_lists.get(id).map_or(&[][..], |l| &l.entries);
                        blocks.extend(entries.iter().map(|(net, _)| ((*net, source), ())));
                    }
                    Peer::Cidr(_) | Peer::Group { .. } => {}
                }
            }
        }
        blocks.into_keys().map(|(net, source)| (prefix(&net), source)).collect()
    }

    /// What each port is for, and whom a flooded packet reaches.
    fn roles(
        &self,
        policy: &Validated,
        ports: &[String],
        interfaces: &[Arc<Interface>],
    ) -> (Vec<PortRole>, Vec<Vpc>) {
        let mut roles = vec![PortRole::Unbound; ports.len()];
        let mut vpcs = vec![Vpc::default(); self.vpcs.len()];
        for interface in interfaces {
            if let Some(port) = interface.port {
                roles[usize::from(port.0)] = PortRole::Interface(interface.id);
                vpcs[usize::from(interface.vpc.0)].local.push(interface.id);
            }
        }
        for binding in &policy.bindings {
            let Binding::Uplink { port, vpc, vlan } = binding else { continue };
            let Some(index) = ports.iter().position(|p| p == port) else { continue };
            let (vpc, vlan) = (self.vpc(vpc), vlan.map(VlanId));
            vpcs[usize::from(vpc.0)].uplinks.push((PortIndex(index as u16), vlan));
            if !matches!(roles[index], PortRole::Uplink(_)) {
                roles[index] = PortRole::Uplink(Uplink::default());
            }
            if let PortRole::Uplink(uplink) = &mut roles[index] {
                match vlan {
                    None => uplink.untagged = Some(vpc),
                    Some(tag) => uplink.vlans.push((tag, vpc)),
                }
                uplink.vlans.sort_unstable_by_key(|(tag, _)| *tag);
            }
        }
        (roles, vpcs)
    }

    /// The number of an interface, for those who look at connections.
    pub fn interface_id(&self, id: &str) -> Option<InterfaceId> {
        self.interfaces.get(id).map(|k| k.id)
    }

    /// The interfaces by number, likewise.
    pub fn interface_names(&self) -> HashMap<InterfaceId, String> {
        self.interfaces.iter().map(|(name, known)| (known.id, name.clone())).collect()
    }

    /// The VPCs by number, likewise.
    pub fn vpc_names(&self) -> HashMap<VpcIndex, String> {
        self.vpcs.iter().map(|(name, index)| (*index, name.clone())).collect()
    }
}

fn too_many(TooManyCovering(block): TooManyCovering) -> Faults {
    let message = format!("{block} lies within more blocks and prefix lists than one address may belong to");
    Fault { code: "InvalidParameterValue", message, path: "SecurityGroups".to_string() }.into()
}

/// What was open to everyone before and is not under this policy: TCP alone,
/// whose segments tell whether they open a connection (S45).
fn still_revoked(known: &Known, policy: &Arc<Policy>) -> Option<Arc<Revoked>> {
    if Arc::ptr_eq(&known.policy, policy) {
        return known.revoked.clone();
    }
    let tcp = ServiceSet::protocol(6);
    let everything_else = ServiceSet::all().subtract(&tcp);
    let mut revoked = Revoked::default();
    for direction in [Direction::Inbound, Direction::Outbound] {
        for family in [Family::V4, Family::V6] {
            let before = known.policy.open_to_everyone(direction, family).subtract(&everything_else);
            let earlier = known.revoked.as_ref().map(|r| &r.any[direction as usize][family as usize]);
            let all = earlier.map_or(before.clone(), |earlier| earlier.union(&before));
            revoked.any[direction as usize][family as usize] =
                all.subtract(policy.open_to_everyone(direction, family));
        }
    }
    (revoked != Revoked::default()).then(|| Arc::new(revoked))
}
