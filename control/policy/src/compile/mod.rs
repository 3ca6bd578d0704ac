//! From a validated policy to a snapshot, sharing what did not change.
//!
//! Connections and tables refer to interfaces, VPCs and sources by number. A
//! number once given stays with what it was given to, and what was compiled
//! for one generation is taken over by the next where its inputs are the same:
//! policies by the versions of their groups, interfaces as a whole, members by
//! shards of addresses, the trie of blocks.

mod numbers;
mod rules;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use engine::addr::{Family, Prefix};
use engine::conntrack::Timeouts;
use engine::forward::{
    Addresses, Border, ExemptService, IcmpErrors, Interface, InterfaceSettings, Interfaces, PortRole,
    PortRoles, Uplink, Vpc,
};
use engine::ids::{InterfaceId, PortIndex, VlanId, VpcIndex};
use engine::policy::{
    AclEntry, Cidrs, Direction, Members, NetworkAcl, Revoked, SourceId, Tables, TooManyCovering,
};
use engine::snapshot::Snapshot;
use engine::time::Ticks;

use crate::model::{self, Binding, NetworkInterface, SecurityGroup, TrackingTimeouts, Validated};
use crate::ports::Ports;
use crate::report::{Fault, Faults};
use numbers::{InterfaceNumbers, VpcNumbers};
use rules::{Compiled, Lists, Source, Sources, prefix};

/// Compiles generation after generation.
pub struct Compiler {
    interface_slots: usize,
    timeouts: Timeouts,
    /// Connections that one interface may track at each worker.
    allowance: u32,
    sources: Sources,
    /// The version that the next group that changed gets.
    next_version: u64,
    current: Generation,
    /// What was before `current`, which may not get published.
    before: Option<Generation>,
}

/// What is kept of a generation for the next one.
#[derive(Default)]
struct Generation {
    number: u64,
    epoch: u64,
    vpcs: VpcNumbers,
    numbers: InterfaceNumbers,
    /// Groups in use, as they are, and the version of each.
    groups: HashMap<String, (SecurityGroup, u64)>,
    /// By the groups' ids: their versions, and what they compile to.
    policies: HashMap<Vec<String>, (Vec<u64>, Compiled)>,
    interfaces: HashMap<String, Known>,
    members: Members,
    lists: Lists,
    blocks: Vec<(Prefix, SourceId)>,
    cidrs: Arc<Cidrs>,
}

/// An interface, compiled.
struct Known {
    interface: Arc<Interface>,
    compiled: Compiled,
    /// What its addresses stand for.
    groups: Arc<[SourceId]>,
}

fn fault(code: &'static str, path: &str, message: String) -> Faults {
    Fault { code, message, path: path.to_string() }.into()
}

fn covered_too_often(TooManyCovering(block): TooManyCovering) -> Faults {
    let message = format!("{block} lies within more blocks than one address may belong to");
    fault("InvalidParameterValue", "SecurityGroups", message)
}

impl Compiler {
    /// For policies of at most this many interfaces at once.
    pub fn new(interface_slots: usize) -> Compiler {
        Compiler {
            interface_slots: interface_slots.min(InterfaceId::MAX_SLOTS),
            timeouts: Timeouts::DEFAULT,
            allowance: u32::MAX,
            sources: Sources::default(),
            next_version: 0,
            current: Generation::default(),
            before: None,
        }
    }

    /// With these timeouts where neither an interface nor the settings say otherwise.
    pub fn with_timeouts(self, timeouts: Timeouts) -> Compiler {
        Compiler { timeouts, ..self }
    }

    /// With so many connections at most that one interface may track at each worker (D23).
    pub fn with_allowance(self, allowance: u32) -> Compiler {
        Compiler { allowance, ..self }
    }

    /// Compiles a policy; a binding to a port that `ports` has no number for leads
    /// nowhere. A generation that is not above the last one compiled takes its
    /// place: the last one did not get published.
    ///
    /// # Errors
    /// More interfaces or VPCs than there are numbers for, or a block that lies
    /// within too many others. Nothing has changed then.
    pub fn compile(
        &mut self,
        policy: &Validated,
        generation: u64,
        ports: &Ports,
    ) -> Result<Snapshot, Faults> {
        if generation <= self.current.number {
            self.discard();
        }
        self.sources.renew();
        let (next, snapshot) = match self.generation(policy, generation, ports, Lists::AsSources)? {
            Ok(done) => done,
            Err(_) => {
                self.generation(policy, generation, ports, Lists::AsBlocks)?.map_err(covered_too_often)?
            }
        };
        self.sources.settle();
        self.before = Some(std::mem::replace(&mut self.current, next));
        Ok(snapshot)
    }

    /// Forgets the last snapshot compiled: it did not get published.
    pub fn discard(&mut self) {
        if let Some(before) = self.before.take() {
            self.current = before;
        }
    }

    /// The next generation; `Ok(Err(_))` if an address belongs to too many blocks.
    fn generation(
        &mut self,
        policy: &Validated,
        number: u64,
        ports: &Ports,
        lists: Lists,
    ) -> Result<Result<(Generation, Snapshot), TooManyCovering>, Faults> {
        let numbers = self.current.numbers.next(policy.interfaces.keys(), self.interface_slots);
        let numbers = numbers.ok_or_else(|| {
            let (have, most) = (policy.interfaces.len(), self.interface_slots);
            let message = format!("{have} interfaces are more than the {most} that the switch has room for");
            fault("InsufficientCapacity", "NetworkInterfaces", message)
        })?;
        let vpcs = self.current.vpcs.next(policy.vpcs.keys()).ok_or_else(|| {
            let message = format!("{} VPCs are more than the switch has numbers for", policy.vpcs.len());
            fault("InsufficientCapacity", "Vpcs", message)
        })?;
        let mut next =
            Generation { number, epoch: self.sources.epoch, vpcs, numbers, lists, ..Generation::default() };
        self.compile_groups(policy, &mut next);
        if let Err(covered) = self.compile_blocks(policy, &mut next) {
            return Ok(Err(covered));
        }
        let delegated = self.compile_interfaces(policy, &mut next, ports);
        let delegated = delegated.map_err(covered_too_often)?;
        let mut scopes = vec![Vec::new(); next.vpcs.len()];
        for (name, index) in next.vpcs.iter() {
            scopes[usize::from(index.0)] = policy.scopes(name).filter_map(|vpc| next.vpcs.get(vpc)).collect();
        }
        let tables = Tables { members: next.members.clone(), delegated, cidrs: next.cidrs.clone(), scopes };
        let (roles, vpcs) = roles(policy, ports, &next);
        let interfaces =
            Interfaces::new(policy.interfaces.keys().map(|id| next.interfaces[id].interface.clone()));
        let exempt = policy.settings.exempt_services.iter().map(exempt).collect();
        let snapshot = Snapshot { generation: number, interfaces, ports: roles, vpcs, tables, exempt };
        Ok(Ok((next, snapshot)))
    }

    /// What of the generation before may be shared: nothing of another epoch.
    fn shared(&self, next: &Generation) -> bool {
        self.current.epoch == next.epoch
    }

    /// The policy of every set of groups in use. One whose groups are as they
    /// were is shared; with prefix lists in it as blocks it is not, since those
    /// may have changed.
    fn compile_groups(&mut self, policy: &Validated, next: &mut Generation) {
        let used: BTreeSet<&String> = policy.interfaces.values().flat_map(|i| &i.groups).collect();
        for group in used.into_iter().filter_map(|id| policy.groups.get(id)) {
            let version = match self.current.groups.get(&group.id) {
                Some((before, version)) if before == group => *version,
                _ => {
                    self.next_version += 1;
                    self.next_version
                }
            };
            next.groups.insert(group.id.clone(), (group.clone(), version));
        }
        let shares =
            self.shared(next) && (self.current.lists, next.lists) == (Lists::AsSources, Lists::AsSources);
        for interface in policy.interfaces.values() {
            if next.policies.contains_key(&interface.groups) {
                continue;
            }
            let groups: Vec<_> = interface.groups.iter().filter_map(|id| next.groups.get(id)).collect();
            let versions: Vec<u64> = groups.iter().map(|(_, version)| *version).collect();
            let before = self.current.policies.get(&interface.groups);
            let compiled = match before.filter(|(old, _)| shares && *old == versions) {
                Some((_, compiled)) => compiled.clone(),
                None => {
                    let groups: Vec<_> = groups.iter().map(|(group, _)| group).collect();
                    rules::compile(&mut self.sources, policy, &groups, next.lists)
                }
            };
            next.policies.insert(interface.groups.clone(), (versions, compiled));
        }
    }

    fn compile_blocks(&mut self, policy: &Validated, next: &mut Generation) -> Result<(), TooManyCovering> {
        let groups = next.groups.values().map(|(group, _)| group);
        next.blocks = rules::blocks(&mut self.sources, policy, groups, next.lists);
        next.cidrs = match self.shared(next) && self.current.blocks == next.blocks {
            true => self.current.cidrs.clone(),
            false => Arc::new(Cidrs::new(next.blocks.iter().copied())?),
        };
        Ok(())
    }

    /// Interfaces, what their addresses stand for, and what is delegated to them.
    fn compile_interfaces(
        &mut self,
        policy: &Validated,
        next: &mut Generation,
        ports: &Ports,
    ) -> Result<hashbrown::HashMap<VpcIndex, Arc<Cidrs>>, TooManyCovering> {
        let served: HashMap<&str, PortIndex> = policy
            .bindings
            .iter()
            .filter_map(|binding| match binding {
                Binding::Interface { interface, port } => Some((interface.as_str(), ports.index(port)?)),
                Binding::Uplink { .. } => None,
            })
            .collect();
        let shares = self.shared(next);
        let borders = borders(policy);
        let mut delegated: HashMap<VpcIndex, Vec<(Prefix, SourceId)>> = HashMap::new();
        let mut lists: HashMap<&[String], Arc<[SourceId]>> = HashMap::new();
        let (mut left, mut joined) = (Vec::new(), Vec::new());
        for from in policy.interfaces.values() {
            let before = self.current.interfaces.get(&from.id);
            let port = served.get(from.id.as_str()).copied();
            let border = from.subnet.as_ref().and_then(|subnet| borders.get(subnet));
            let interface = self.interface(policy, next, from, port, border.cloned());
            let groups = lists.entry(&from.groups).or_insert_with(|| {
                from.groups.iter().map(|g| self.sources.of(Source::Group(g.clone()))).collect()
            });
            let stays = before.filter(|_| shares).is_some_and(|before| {
                before.interface.vpc == interface.vpc
                    && before.interface.addresses.hosts() == interface.addresses.hosts()
                    && before.groups == *groups
            });
            if !stays {
                left.extend(before.map(|b| b.interface.clone()));
                let keys = interface.addresses.hosts().iter().map(|a| (interface.vpc, *a));
                joined.extend(keys.map(|key| (key, Some(groups.clone()))));
            }
            let own = interface.addresses.prefixes();
            if !own.is_empty() {
                let blocks = own.iter().flat_map(|net| groups.iter().map(|g| (*net, *g)));
                delegated.entry(interface.vpc).or_default().extend(blocks);
            }
            let compiled = next.policies[&from.groups].1.clone();
            next.interfaces.insert(from.id.clone(), Known { interface, compiled, groups: groups.clone() });
        }
        let gone = self.current.interfaces.iter().filter(|(id, _)| !policy.interfaces.contains_key(*id));
        left.extend(gone.map(|(_, known)| known.interface.clone()));
        // First out, then in: an address may have moved from one to another.
        let out = left.iter().flat_map(|i| i.addresses.hosts().iter().map(|a| ((i.vpc, *a), None)));
        next.members = match shares {
            true => self.current.members.with_changes(out.chain(joined)),
            false => Members::default().with_changes(joined),
        };
        delegated.into_iter().map(|(vpc, blocks)| Ok((vpc, Arc::new(Cidrs::new(blocks)?)))).collect()
    }

    /// An interface; the one of the generation before, if it is the same.
    fn interface(
        &self,
        policy: &Validated,
        next: &Generation,
        from: &NetworkInterface,
        port: Option<PortIndex>,
        border: Option<Border>,
    ) -> Arc<Interface> {
        let compiled = &next.policies[&from.groups].1;
        let before = self.current.interfaces.get(&from.id);
        let hosts = from.addresses.iter().map(|a| Prefix::host((*a).into()));
        let interface = Interface {
            id: next.numbers.get(&from.id).expect("every interface has been given a number"),
            vpc: next.vpcs.get(&from.vpc).expect("every VPC has been given a number"),
            mac: from.mac,
            port,
            addresses: Addresses::new(hosts.chain(from.prefixes.iter().map(prefix))),
            source_dest_check: from.source_dest_check,
            policy: compiled.policy.clone(),
            revoked: before.and_then(|before| still_revoked(before, compiled)),
            timeouts: timeouts(&from.timeouts, timeouts(&policy.settings.timeouts, self.timeouts)),
            settings: self.settings(policy.settings.interfaces.get(&from.id).copied().unwrap_or_default()),
            border,
        };
        match before {
            Some(before) if is_same(&before.interface, &interface) => before.interface.clone(),
            _ => Arc::new(interface),
        }
    }

    fn settings(&self, chosen: model::InterfaceSettings) -> InterfaceSettings {
        let icmp_errors = if chosen.icmp_errors_by_rules { IcmpErrors::Rules } else { IcmpErrors::Related };
        InterfaceSettings { force_tracking: chosen.force_tracking, icmp_errors, connections: self.allowance }
    }

    /// The number of an interface, for those who look at connections.
    pub fn interface_id(&self, id: &str) -> Option<InterfaceId> {
        self.current.numbers.get(id)
    }

    /// The interfaces by number, likewise.
    pub fn interface_names(&self) -> HashMap<InterfaceId, String> {
        self.current.numbers.iter().map(|(name, id)| (id, name.clone())).collect()
    }

    /// The VPCs by number, likewise.
    pub fn vpc_names(&self) -> HashMap<VpcIndex, String> {
        self.current.vpcs.iter().map(|(name, index)| (index, name.clone())).collect()
    }
}

/// The border of each subnet that a network ACL guards. Subnets are numbered
/// anew: the numbers mean nothing beyond a snapshot.
fn borders(policy: &Validated) -> HashMap<&String, Border> {
    let mut borders = HashMap::new();
    for acl in policy.network_acls.values() {
        let entries = |entries: &BTreeMap<u16, model::AclEntry>| entries.values().map(acl_entry).collect();
        let compiled = Arc::new(NetworkAcl::new(entries(&acl.inbound), entries(&acl.outbound)));
        for subnet in &acl.subnets {
            let number = borders.len() as u32;
            borders.insert(subnet, Border { subnet: number, acl: compiled.clone() });
        }
    }
    borders
}

fn acl_entry(entry: &model::AclEntry) -> AclEntry {
    AclEntry { allow: entry.allow, block: prefix(&entry.block), services: rules::services(entry.service) }
}

fn exempt(service: &model::ExemptService) -> ExemptService {
    let model::ExemptService { address, protocol, port } = *service;
    ExemptService { address: address.into(), protocol, port }
}

fn timeouts(given: &TrackingTimeouts, default: Timeouts) -> Timeouts {
    let or = |seconds: Option<u32>, default| seconds.map_or(default, Ticks::from_secs);
    Timeouts {
        tcp_established: or(given.tcp_established, default.tcp_established),
        udp: or(given.udp, default.udp),
        udp_stream: or(given.udp_stream, default.udp_stream),
        ..default
    }
}

fn is_same(one: &Interface, other: &Interface) -> bool {
    let Interface {
        id,
        vpc,
        mac,
        port,
        addresses,
        source_dest_check,
        policy,
        revoked,
        timeouts,
        settings,
        border,
    } = other;
    (one.id, one.vpc, one.mac, one.port) == (*id, *vpc, *mac, *port)
        && one.addresses == *addresses
        && one.source_dest_check == *source_dest_check
        && Arc::ptr_eq(&one.policy, policy)
        && one.revoked == *revoked
        && one.timeouts == *timeouts
        && one.settings == *settings
        && match (&one.border, border) {
            (Some(one), Some(other)) => one.subnet == other.subnet && one.acl == other.acl,
            (one, other) => one.is_none() && other.is_none(),
        }
}

/// What was untracked under an earlier policy of the interface, and is open to
/// everyone no longer (S45): TCP, whose segments tell whether they open a
/// connection. What is still open but tracked from now on is not: the next
/// packet makes the entry (D12).
fn still_revoked(before: &Known, now: &Compiled) -> Option<Arc<Revoked>> {
    if Arc::ptr_eq(&before.compiled.policy, &now.policy) {
        return before.interface.revoked.clone();
    }
    let mut revoked = Revoked::default();
    for direction in [Direction::Inbound, Direction::Outbound] {
        for family in [Family::V4, Family::V6] {
            let (d, f) = (direction as usize, family as usize);
            let mut once = before.compiled.untracked[d][f].clone();
            if let Some(earlier) = &before.interface.revoked {
                once = once.union(&earlier.any[d][f]);
            }
            revoked.any[d][f] = once.subtract(now.policy.open_to_everyone(direction, family));
        }
    }
    (revoked != Revoked::default()).then(|| Arc::new(revoked))
}

/// What each port is for, and whom a flooded packet reaches.
fn roles(policy: &Validated, ports: &Ports, next: &Generation) -> (PortRoles, Vec<Vpc>) {
    let mut roles = PortRoles::default();
    let mut vpcs = vec![Vpc::default(); next.vpcs.len()];
    for id in policy.interfaces.keys() {
        let interface = &next.interfaces[id].interface;
        if let Some(port) = interface.port {
            roles.set(port, PortRole::Interface(interface.id));
            vpcs[usize::from(interface.vpc.0)].local.push(interface.id);
        }
    }
    let mut uplinks: HashMap<PortIndex, Uplink> = HashMap::new();
    for binding in &policy.bindings {
        let Binding::Uplink { port, vpc, vlan } = binding else { continue };
        let (Some(port), Some(vpc)) = (ports.index(port), next.vpcs.get(vpc)) else { continue };
        let vlan = vlan.map(VlanId);
        vpcs[usize::from(vpc.0)].uplinks.push((port, vlan));
        let uplink = uplinks.entry(port).or_default();
        match vlan {
            None => uplink.untagged = Some(vpc),
            Some(tag) => uplink.vlans.push((tag, vpc)),
        }
    }
    for (port, mut uplink) in uplinks {
        uplink.vlans.sort_unstable_by_key(|(tag, _)| *tag);
        roles.set(port, PortRole::Uplink(uplink));
    }
    (roles, vpcs)
}
