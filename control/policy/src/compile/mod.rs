//! From a validated policy to a snapshot, sharing what did not change.
//!
//! Connections and tables refer to interfaces, VPCs and sources by number. A
//! number once given stays with what it was given to. A generation is the one
//! before with changes: two policies are held against each other, which costs by
//! what they do not share, and what depends on nothing that differs is taken
//! over: policies of sets of groups, interfaces, members by shards of addresses,
//! the trie of blocks. What a change costs does not depend on how much else
//! there is.

mod blocks;
mod numbers;
mod rules;
mod sets;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use engine::addr::{Family, MacAddr, Prefix};
use engine::conntrack::Timeouts;
use engine::forward::{
    Addresses, Behind, Border, ExemptService, IcmpErrors, Interface, InterfaceSettings, Interfaces, PortRole,
    PortRoles, Uplink, Vpc,
};
use engine::ids::{InterfaceId, PortIndex, VlanId, VpcIndex};
use engine::policy::{
    AclEntry, Cidrs, Direction, Members, NetworkAcl, Revoked, SourceId, Tables, TooManyCovering,
};
use engine::snapshot::Snapshot;
use engine::time::Ticks;
use imbl::OrdSet;

use crate::model::{self, Binding, Id, NetworkInterface, TrackingTimeouts, Validated};
use crate::ports::Ports;
use crate::report::{Fault, Faults};
use crate::rulebook::Rulebook;
use blocks::Blocks;
pub use numbers::InterfaceNames;
use numbers::{InterfaceNumbers, VpcNumbers};
use rules::{Compiled, Lists, Source, Sources, prefix};
use sets::{Groups, Sets};

/// Compiles generation after generation.
pub struct Compiler {
    interface_slots: usize,
    timeouts: Timeouts,
    /// Connections that one interface may track at each worker.
    allowance: u32,
    sources: Sources,
    current: Generation,
    /// What was before `current`, which may not get published.
    before: Option<Generation>,
}

/// What is kept of a generation for the next one. A copy shares all of it.
#[derive(Clone, Default)]
struct Generation {
    number: u64,
    epoch: u64,
    lists: Lists,
    policy: Validated,
    vpcs: Arc<VpcNumbers>,
    numbers: InterfaceNumbers,
    ports: Arc<Ports>,
    /// The ports that serve interfaces.
    served: Arc<BTreeMap<Id, PortIndex>>,
    /// Where interfaces are that no port serves, as far as that is said.
    behind: Arc<BTreeMap<Id, Behind>>,
    /// What follows from these, from bindings and from the numbers of interfaces.
    roles: Arc<(PortRoles, Vec<Vpc>)>,
    borders: Arc<HashMap<Id, Border>>,
    sets: Sets,
    blocks: Blocks,
    cidrs: Arc<Cidrs>,
    members: Members,
    /// Interfaces that prefixes are delegated to, and the tables of these by VPC.
    delegating: OrdSet<Id>,
    delegated: hashbrown::HashMap<VpcIndex, Arc<Cidrs>>,
    scopes: Vec<Vec<VpcIndex>>,
    interfaces: Interfaces,
    /// The interfaces that are others than in the one before.
    differing: Arc<[Id]>,
    /// The interfaces that were compiled for it.
    compiled: Arc<[Id]>,
}

impl Generation {
    /// The interface of this name, as it is compiled.
    fn interface(&self, id: &str) -> Option<&Interface> {
        self.interfaces.get(self.numbers.get(id)?)
    }
}

/// So many interfaces that differ are sooner looked up than found again.
const FEW: usize = 64;

/// How two policies differ, as far as it is taken over from one to the other.
struct Differences<'d> {
    /// The interfaces that differ: before, and after.
    interfaces: Vec<[Option<&'d NetworkInterface>; 2]>,
    /// The ids of those to be compiled.
    look: BTreeSet<Id>,
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
        let before = self.current.clone();
        let mut next = Generation { number, lists, policy: policy.clone(), ..before.clone() };
        let mut differences = Differences {
            interfaces: before
                .policy
                .interfaces
                .differences(&policy.interfaces)
                .map(|(_, a, b)| [a, b])
                .collect(),
            look: BTreeSet::new(),
        };
        let ids = differences.interfaces.iter().filter_map(|[old, new]| Some((*old).or(*new)?.id.clone()));
        next.differing = ids.collect();
        self.number(&before, &mut next, &differences)?;
        if before.epoch != self.sources.epoch {
            // Sources have other numbers.
            (next.epoch, next.members) = (self.sources.epoch, Members::default());
        }
        self.compile_groups(&before, &mut next, &mut differences);
        if next.blocks.take_changed() {
            next.cidrs = match Cidrs::new(next.blocks.iter()) {
                Ok(cidrs) => Arc::new(cidrs),
                Err(covered) => return Ok(Err(covered)),
            };
        }
        let are_elsewhere = look_again(&before, &mut next, ports, &mut differences);
        self.compile_interfaces(&before, &mut next, &differences).map_err(covered_too_often)?;
        if policy.vpcs != before.policy.vpcs || policy.peerings != before.policy.peerings {
            next.scopes = vec![Vec::new(); next.vpcs.len()];
            for (name, index) in next.vpcs.iter() {
                let scopes = policy.scopes(name).filter_map(|vpc| next.vpcs.get(vpc));
                next.scopes[usize::from(index.0)] = scopes.collect();
            }
        }
        let tables = Tables {
            members: next.members.clone(),
            delegated: next.delegated.clone(),
            cidrs: next.cidrs.clone(),
            scopes: next.scopes.clone(),
        };
        let stay = |[old, new]: &[Option<&NetworkInterface>; 2]| {
            old.zip(*new).is_some_and(|(old, new)| old.vpc == new.vpc)
        };
        let same_vpcs = policy.vpcs == before.policy.vpcs;
        if are_elsewhere || !same_vpcs || !differences.interfaces.iter().all(stay) {
            next.roles = Arc::new(roles(policy, ports, &next));
        }
        let (roles, vpcs) = (*next.roles).clone();
        let interfaces = next.interfaces.clone();
        let exempt = policy.settings.exempt_services.iter().map(exempt).collect();
        let snapshot = Snapshot { generation: number, interfaces, ports: roles, vpcs, tables, exempt };
        Ok(Ok((next, snapshot)))
    }

    /// Gives numbers to what is new.
    fn number(
        &self,
        before: &Generation,
        next: &mut Generation,
        differences: &Differences<'_>,
    ) -> Result<(), Faults> {
        let have = next.policy.interfaces.len();
        let of = |wanted: fn(&[Option<&NetworkInterface>; 2]) -> bool, side: usize| {
            let pairs = differences.interfaces.iter().filter(move |pair| wanted(pair));
            pairs.filter_map(move |pair| pair[side]).map(|interface| interface.id.as_str())
        };
        let (gone, new) = (of(|[_, new]| new.is_none(), 0), of(|[old, _]| old.is_none(), 1));
        let numbers = match have <= self.interface_slots {
            true => before.numbers.next(gone, new, self.interface_slots),
            false => None,
        };
        next.numbers = numbers.ok_or_else(|| {
            let most = self.interface_slots;
            let message = format!("{have} interfaces are more than the {most} that the switch has room for");
            fault("InsufficientCapacity", "NetworkInterfaces", message)
        })?;
        if next.policy.vpcs != before.policy.vpcs {
            let vpcs = before.vpcs.next(next.policy.vpcs.keys()).ok_or_else(|| {
                let have = next.policy.vpcs.len();
                let message = format!("{have} VPCs are more than the switch has numbers for");
                fault("InsufficientCapacity", "Vpcs", message)
            })?;
            next.vpcs = Arc::new(vpcs);
        }
        Ok(())
    }

    /// The policy of every set of groups in use, and the blocks that these name. A
    /// policy whose groups are as they were is shared; with prefix lists in it as
    /// blocks it is not, since those may have changed.
    fn compile_groups(
        &mut self,
        before: &Generation,
        next: &mut Generation,
        differences: &mut Differences<'_>,
    ) {
        let policy = next.policy.clone();
        let shares =
            before.epoch == next.epoch && (before.lists, next.lists) == (Lists::AsSources, Lists::AsSources);
        let mut stale: BTreeSet<Groups> = BTreeSet::new();
        if shares {
            // First the lists, so that what is counted off below is what is counted.
            for (_, old, new) in before.policy.prefix_lists.differences(&policy.prefix_lists) {
                next.blocks.replace(&mut self.sources, [old, new], next.lists);
            }
            let mut touched: BTreeSet<&str> = BTreeSet::new();
            let others = |[old, new]: &&[Option<&NetworkInterface>; 2]| {
                old.map(|i| &i.groups) != new.map(|i| &i.groups)
            };
            let regrouped: Vec<_> = differences.interfaces.iter().filter(others).collect();
            // First in, so that a set that passes from one to another stays compiled.
            for interface in regrouped.iter().filter_map(|[_, new]| *new) {
                next.sets.add(interface);
                touched.extend(interface.groups.iter().map(Id::as_str));
                stale.insert(interface.groups.as_slice().into());
            }
            for interface in regrouped.iter().filter_map(|[old, _]| *old) {
                next.sets.remove(interface);
                touched.extend(interface.groups.iter().map(Id::as_str));
            }
            stale.retain(|groups| next.sets.compiled(groups).is_none());
            for (id, ..) in before.policy.groups.differences(&policy.groups) {
                stale.extend(next.sets.with(id).cloned());
                touched.insert(id);
            }
            for id in touched {
                let (old, new) = (before.policy.groups.get(id), policy.groups.get(id));
                let old = old.filter(|_| before.sets.is_used(id));
                let new = new.filter(|_| next.sets.is_used(id));
                let same = match (old, new) {
                    (Some(old), Some(new)) => std::ptr::eq(old, new) || old == new,
                    (old, new) => old.is_none() && new.is_none(),
                };
                if !same {
                    // First in, so that what both name is counted all the time.
                    new.into_iter().for_each(|g| next.blocks.add(&mut self.sources, &policy, g, next.lists));
                    old.into_iter()
                        .for_each(|g| next.blocks.remove(&mut self.sources, &policy, g, next.lists));
                }
            }
        } else {
            (next.sets, next.blocks) = (Sets::default(), Blocks::default());
            policy.interfaces.values().for_each(|interface| next.sets.add(interface));
            for group in next.sets.used().filter_map(|id| policy.groups.get(id)) {
                next.blocks.add(&mut self.sources, &policy, group, next.lists);
            }
            next.blocks.begin_anew();
            stale.extend(next.sets.iter().cloned());
        }
        for set in stale {
            if next.sets.interfaces(&set).next().is_none() {
                continue;
            }
            let groups: Vec<_> = set.iter().filter_map(|id| policy.groups.get(id)).collect();
            let compiled = rules::compile(&mut self.sources, &policy, &groups, next.lists);
            next.sets.compile(&set, compiled);
            differences.look.extend(next.sets.interfaces(&set).cloned());
        }
    }

    /// Interfaces, what their addresses stand for, and what is delegated to them.
    fn compile_interfaces(
        &mut self,
        before: &Generation,
        next: &mut Generation,
        differences: &Differences<'_>,
    ) -> Result<(), TooManyCovering> {
        let shares = before.epoch == next.epoch;
        let mut lists: HashMap<&[Id], Arc<[SourceId]>> = HashMap::new();
        let (mut left, mut joined) = (Vec::new(), Vec::new());
        let (mut gone, mut made) = (Vec::new(), Vec::new());
        let mut delegations: BTreeSet<VpcIndex> = BTreeSet::new();
        let policy = next.policy.clone();
        next.compiled = differences.look.iter().cloned().collect();
        for from in differences.look.iter().filter_map(|id| policy.interfaces.get(id.as_str())) {
            let old = before.interface(&from.id);
            let old_groups = before.policy.interfaces.get(&from.id).map(|i| &i.groups);
            let interface = self.interface(before, next, from);
            let stays = old.filter(|_| shares).is_some_and(|old| {
                old.vpc == interface.vpc
                    && old.addresses == interface.addresses
                    && old_groups == Some(&from.groups)
            });
            if !stays {
                let groups = lists.entry(&from.groups).or_insert_with(|| {
                    from.groups.iter().map(|g| self.sources.of(Source::Group(g.clone()))).collect()
                });
                left.extend(old);
                let keys = interface.addresses.hosts().iter().map(|a| (interface.vpc, *a));
                joined.extend(keys.map(|key| (key, Some(groups.clone()))));
                let delegates = |i: &&Interface| !i.addresses.prefixes().is_empty();
                delegations.extend(old.filter(delegates).map(|old| old.vpc));
                if delegates(&&interface) {
                    delegations.insert(interface.vpc);
                    next.delegating.insert(from.id.clone());
                } else {
                    next.delegating.remove(&from.id);
                }
            }
            if !old.is_some_and(|old| is_same(old, &interface)) {
                made.push(Arc::new(interface));
            }
        }
        for [old, new] in &differences.interfaces {
            let (Some(old), None) = (old, new) else { continue };
            next.delegating.remove(&old.id);
            let Some(interface) = before.interface(&old.id) else { continue };
            if !interface.addresses.prefixes().is_empty() {
                delegations.insert(interface.vpc);
            }
            left.push(interface);
            gone.push(interface.id);
        }
        // First out, then in: an address may have moved from one to another.
        let out = left.iter().flat_map(|i| i.addresses.hosts().iter().map(|a| ((i.vpc, *a), None)));
        next.members = next.members.with_changes(out.chain(joined));
        next.interfaces = before.interfaces.with_changes(gone, made);
        if !shares {
            next.delegated.clear();
            delegations.extend(next.vpcs.iter().map(|(_, vpc)| vpc));
        }
        for vpc in delegations {
            let of_vpc = next
                .delegating
                .iter()
                .filter_map(|id| Some((next.interface(id)?, policy.interfaces.get(id)?)));
            let mut blocks = Vec::new();
            for (interface, from) in of_vpc.filter(|(interface, _)| interface.vpc == vpc) {
                for group in &from.groups {
                    let source = self.sources.of(Source::Group(group.clone()));
                    blocks.extend(interface.addresses.prefixes().iter().map(|net| (*net, source)));
                }
            }
            match blocks.is_empty() {
                true => next.delegated.remove(&vpc),
                false => next.delegated.insert(vpc, Arc::new(Cidrs::new(blocks)?)),
            };
        }
        Ok(())
    }

    /// An interface.
    fn interface(&self, before: &Generation, next: &Generation, from: &NetworkInterface) -> Interface {
        let compiled = next.sets.compiled(&from.groups).expect("every set in use is compiled");
        let policy = &next.policy;
        let hosts = from.addresses.iter().map(|a| Prefix::host((*a).into()));
        let border = from.subnet.as_ref().and_then(|subnet| next.borders.get(subnet));
        let chosen = policy.settings.interfaces.get(&from.id).copied().unwrap_or_default();
        Interface {
            id: next.numbers.get(&from.id).expect("every interface has been given a number"),
            vpc: next.vpcs.get(&from.vpc).expect("every VPC has been given a number"),
            mac: from.mac,
            port: next.served.get(&from.id).copied(),
            behind: next.behind.get(&from.id).copied(),
            addresses: Addresses::new(hosts.chain(from.prefixes.iter().map(prefix))),
            source_dest_check: from.source_dest_check,
            policy: compiled.policy.clone(),
            revoked: still_revoked(before, from, compiled),
            timeouts: timeouts(&from.timeouts, timeouts(&policy.settings.timeouts, self.timeouts)),
            settings: self.settings(chosen),
            border: border.cloned(),
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

    /// The interfaces by number, likewise. A copy costs nothing.
    pub fn interface_names(&self) -> &InterfaceNames {
        self.current.numbers.names()
    }

    /// The interfaces that were compiled for the last generation; the others were
    /// taken over from the one before.
    pub fn compiled_interfaces(&self) -> &[Id] {
        &self.current.compiled
    }

    /// The policy of the generation before the last.
    pub(crate) fn policy_before(&self) -> Option<&Validated> {
        self.before.as_ref().map(|before| &before.policy)
    }

    /// Arranges the policy of the last generation. Where `before` is of the one before, it is
    /// not looked for what differs once more.
    pub fn arrange(&self, before: &Rulebook, policy: Arc<Validated>) -> Rulebook {
        let is_known = self.current.differing.len() <= FEW
            && policy.interfaces.is_same(&self.current.policy.interfaces)
            && self.policy_before().is_some_and(|one| one.interfaces.is_same(&before.policy().interfaces));
        match is_known {
            true => before.with_known(policy, &self.current.differing),
            false => before.with(policy),
        }
    }

    /// The VPCs by number, likewise.
    pub fn vpc_names(&self) -> HashMap<VpcIndex, Id> {
        self.current.vpcs.iter().map(|(name, index)| (index, name.clone())).collect()
    }
}

/// What else of interfaces may differ: their ports, their settings, the borders
/// of their subnets. Whether something is at other ports.
fn look_again(
    before: &Generation,
    next: &mut Generation,
    ports: &Ports,
    differences: &mut Differences<'_>,
) -> bool {
    let Differences { interfaces, look } = differences;
    look.extend(interfaces.iter().filter_map(|[_, new]| Some((*new)?.id.clone())));
    let are_elsewhere = next.policy.bindings != before.policy.bindings || *before.ports != *ports;
    if are_elsewhere {
        next.ports = Arc::new(ports.clone());
        let served = next.policy.bindings.iter().filter_map(|binding| match binding {
            Binding::Interface { interface, port } => Some((interface.clone(), ports.index(port)?)),
            Binding::Uplink { .. } | Binding::Behind { .. } => None,
        });
        next.served = Arc::new(served.collect());
        let behind = next.policy.bindings.iter().filter_map(|binding| match binding {
            Binding::Behind { interface, uplink } => Some((interface.clone(), place(ports, uplink))),
            Binding::Interface { .. } | Binding::Uplink { .. } => None,
        });
        next.behind = Arc::new(behind.collect());
        look.extend(moved(&before.served, &next.served));
        look.extend(moved(&next.served, &before.served));
        look.extend(moved(&before.behind, &next.behind));
        look.extend(moved(&next.behind, &before.behind));
    }
    let (old, new) = (&before.policy.settings, &next.policy.settings);
    look.extend(old.interfaces.differences(&new.interfaces).map(|(id, ..)| id.into()));
    let has_other_borders = before.policy.network_acls != next.policy.network_acls;
    if has_other_borders {
        next.borders = Arc::new(borders(&next.policy));
    }
    if has_other_borders || old.timeouts != new.timeouts {
        look.extend(next.policy.interfaces.keys().cloned());
    }
    are_elsewhere
}

/// The interfaces that are elsewhere, or nowhere, in the other.
fn moved<P: PartialEq>(one: &BTreeMap<Id, P>, other: &BTreeMap<Id, P>) -> Vec<Id> {
    let moved = one.iter().filter(|(id, place)| other.get(*id) != Some(place));
    moved.map(|(id, _)| id.clone()).collect()
}

/// Behind the uplink of this name.
fn place(ports: &Ports, uplink: &str) -> Behind {
    ports.index(uplink).map_or(Behind::Absent, Behind::Uplink)
}

/// The border of each subnet that a network ACL guards. Subnets are numbered
/// anew: the numbers mean nothing beyond a snapshot.
fn borders(policy: &Validated) -> HashMap<Id, Border> {
    let mut borders = HashMap::new();
    for acl in policy.network_acls.values() {
        let entries = |entries: &BTreeMap<u16, model::AclEntry>| entries.values().map(acl_entry).collect();
        let compiled = Arc::new(NetworkAcl::new(entries(&acl.inbound), entries(&acl.outbound)));
        for subnet in &acl.subnets {
            let number = borders.len() as u32;
            borders.insert(subnet.clone(), Border { subnet: number, acl: compiled.clone() });
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
        behind,
        addresses,
        source_dest_check,
        policy,
        revoked,
        timeouts,
        settings,
        border,
    } = other;
    (one.id, one.vpc, one.mac, one.port, one.behind) == (*id, *vpc, *mac, *port, *behind)
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
fn still_revoked(before: &Generation, of: &NetworkInterface, now: &Compiled) -> Option<Arc<Revoked>> {
    let interface = before.interface(&of.id)?;
    let old = before.sets.compiled(&before.policy.interfaces.get(&of.id)?.groups)?;
    if Arc::ptr_eq(&old.policy, &now.policy) {
        return interface.revoked.clone();
    }
    let mut revoked = Revoked::default();
    for direction in [Direction::Inbound, Direction::Outbound] {
        for family in [Family::V4, Family::V6] {
            let (d, f) = (direction as usize, family as usize);
            let mut once = old.untracked[d][f].clone();
            if let Some(earlier) = &interface.revoked {
                once = once.union(&earlier.any[d][f]);
            }
            revoked.any[d][f] = once.subtract(now.policy.open_to_everyone(direction, family));
        }
    }
    (revoked != Revoked::default()).then(|| Arc::new(revoked))
}

/// A VPC as it is put together.
#[derive(Clone, Default)]
struct Parts {
    uplinks: Vec<(PortIndex, Option<VlanId>)>,
    local: Vec<InterfaceId>,
    hosts: hashbrown::HashMap<MacAddr, Behind>,
    /// Whether some of its interfaces are said to be behind an uplink.
    are_located: bool,
}

/// What each port is for, whom a flooded packet reaches, and who is where.
fn roles(policy: &Validated, ports: &Ports, next: &Generation) -> (PortRoles, Vec<Vpc>) {
    let mut roles = PortRoles::default();
    let mut vpcs = vec![Parts::default(); next.vpcs.len()];
    for (id, port) in &*next.served {
        let Some(interface) = next.interface(id) else { continue };
        roles.set(*port, PortRole::Interface(interface.id));
        vpcs[usize::from(interface.vpc.0)].local.push(interface.id);
    }
    let mut uplinks: HashMap<PortIndex, Uplink> = HashMap::new();
    for binding in &*policy.bindings {
        let (port, vpc, vlan) = match binding {
            Binding::Interface { .. } => continue,
            Binding::Behind { interface, .. } => {
                let Some(interface) = next.interface(interface) else { continue };
                vpcs[usize::from(interface.vpc.0)].are_located = true;
                continue;
            }
            Binding::Uplink { port, vpc, vlan, hosts } => {
                let Some(vpc) = next.vpcs.get(vpc) else { continue };
                let place = place(ports, port);
                vpcs[usize::from(vpc.0)].hosts.extend(hosts.iter().map(|mac| (*mac, place)));
                let Some(port) = ports.index(port) else { continue };
                (port, vpc, vlan.map(VlanId))
            }
        };
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
    let vpc =
        |parts: Parts| Vpc::new(parts.uplinks, parts.local).with_located(parts.hosts, parts.are_located);
    (roles, vpcs.into_iter().map(vpc).collect())
}
