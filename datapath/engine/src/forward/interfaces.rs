use std::sync::Arc;

use hashbrown::HashMap;

use super::{Endpoint, Interface, link_local};
use crate::addr::{Addr, MacAddr, Prefix};
use crate::chunks::Chunks;
use crate::conntrack::Timeouts;
use crate::ids::{InterfaceId, VpcIndex};
use crate::shards::{KeyHash, ShardMap};
use crate::slots::Slots;
use crate::vicinity::Vicinity;

/// Endpoints that are copied together: 32 KB.
const ENDPOINTS: usize = 256;

/// Numbers of clocks that are kept beyond those of as many interfaces.
const SPARE_CLOCKS: usize = 1024;

/// All interfaces of a snapshot, by slot, by MAC and by address. One with
/// changes shares with the one before what did not change: what a change costs
/// does not depend on how many interfaces there are.
#[derive(Clone, Debug, Default)]
pub struct Interfaces {
    slots: Slots<Arc<Interface>>,
    /// By slot as well.
    endpoints: Chunks<Option<Endpoint>, ENDPOINTS>,
    by_mac: ShardMap<InterfaceId>,
    by_address: ShardMap<InterfaceId>,
    /// Delegated prefixes, sorted; within a VPC they do not overlap.
    by_prefix: Arc<Vec<(VpcIndex, Prefix, InterfaceId)>>,
    /// Where these are.
    prefixes: Vicinity,
    /// The number of each choice of timeouts. Few are ever in use.
    clocks: Arc<HashMap<Timeouts, u32>>,
    len: usize,
}

/// What two sets of interfaces have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shared {
    /// Parts of the tables that are the same memory.
    pub same: usize,
    /// All parts.
    pub all: usize,
}

/// A MAC as the tables have it.
#[inline]
fn mac_key(mac: MacAddr) -> u128 {
    let [a, b, c, d, e, f] = mac.0;
    u128::from(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
}

/// The MAC that a link-local address is made from ([`link_local`]).
#[inline]
fn made_from(addr: Addr) -> Option<MacAddr> {
    if !addr.is_link_local_v6() {
        return None;
    }
    let [a, b, c, _, _, d, e, f] = (addr.0 as u64).to_be_bytes();
    let mac = MacAddr([a ^ 2, b, c, d, e, f]);
    (link_local(mac) == addr).then_some(mac)
}

impl Interfaces {
    /// Ids are distinct in their slots, and within a VPC MACs, addresses and
    /// prefixes belong to one interface each: the caller has validated that.
    /// Where two claim the same, the later one is found.
    pub fn new(interfaces: impl IntoIterator<Item = Arc<Interface>>) -> Interfaces {
        Interfaces::default().with_changes([], interfaces)
    }

    /// Without some, then with others, each instead of what its slot had.
    pub fn with_changes(
        &self,
        gone: impl IntoIterator<Item = InterfaceId>,
        new: impl IntoIterator<Item = Arc<Interface>>,
    ) -> Interfaces {
        let mut next = self.clone();
        let (mut left, mut joined) = (Vec::new(), Vec::new());
        for id in gone {
            if let Some(old) = next.take(id.slot()) {
                left.push(old);
            }
        }
        for interface in new {
            let slot = interface.id.slot();
            let old = next.take(slot);
            let clock = next.clock(interface.timeouts);
            let endpoint = Some(Endpoint::of(&interface, clock));
            if next.endpoints.get(slot) != Some(&endpoint) {
                *next.endpoints.get_mut(slot) = endpoint;
            }
            *next.slots.get_mut(slot) = Some(interface.clone());
            next.len += 1;
            if !old.as_ref().is_some_and(|old| has_same_keys(old, &interface)) {
                left.extend(old);
                joined.push(interface);
            }
        }
        // Slots that are empty now have no endpoints; the others have got theirs.
        for slot in left.iter().map(|old| old.id.slot()) {
            if next.at(slot).is_none() {
                *next.endpoints.get_mut(slot) = None;
            }
        }
        next.rename(&left, &joined);
        // Each choice that is not in use any more leaves a number behind.
        if next.clocks.len() > 2 * next.len + SPARE_CLOCKS {
            let all: Vec<_> = next.iter().cloned().collect();
            return Interfaces::new(all);
        }
        next
    }

    /// Empties a slot.
    fn take(&mut self, slot: usize) -> Option<Arc<Interface>> {
        self.at(slot)?;
        self.len -= 1;
        self.slots.get_mut(slot).take()
    }

    /// The number of these timeouts.
    fn clock(&mut self, timeouts: Timeouts) -> u32 {
        if let Some(clock) = self.clocks.get(&timeouts) {
            return *clock;
        }
        let clock = self.clocks.len() as u32;
        Arc::make_mut(&mut self.clocks).insert(timeouts, clock);
        clock
    }

    /// By MAC, address and prefix: first out, then in, since a key may have moved
    /// from one to another.
    fn rename(&mut self, left: &[Arc<Interface>], joined: &[Arc<Interface>]) {
        let out = |i: &Arc<Interface>| (i.vpc, None::<[InterfaceId; 1]>);
        let new = |i: &Arc<Interface>| (i.vpc, Some([i.id]));
        let sides = || left.iter().map(|i| (i, out(i))).chain(joined.iter().map(|i| (i, new(i))));
        self.by_mac = self.by_mac.with_changes(sides().map(|(i, (vpc, id))| ((vpc, mac_key(i.mac)), id)));
        let hosts = sides()
            .flat_map(|(i, (vpc, id))| i.addresses.hosts().iter().map(move |addr| ((vpc, addr.0), id)));
        self.by_address = self.by_address.with_changes(hosts);
        if sides().any(|(i, _)| !i.addresses.prefixes().is_empty()) {
            let by_prefix = Arc::make_mut(&mut self.by_prefix);
            by_prefix.retain(|(.., id)| !left.iter().any(|old| old.id == *id));
            let of = |i: &Arc<Interface>| {
                let (vpc, id) = (i.vpc, i.id);
                i.addresses.prefixes().iter().map(move |p| (vpc, *p, id)).collect::<Vec<_>>()
            };
            by_prefix.extend(joined.iter().flat_map(of));
            by_prefix.sort_unstable_by_key(|(vpc, prefix, _)| (*vpc, prefix.addr()));
            self.prefixes = Vicinity::default();
            by_prefix.iter().for_each(|(_, prefix, _)| self.prefixes.add_block(*prefix));
        }
    }

    #[inline]
    fn at(&self, slot: usize) -> Option<&Arc<Interface>> {
        self.slots.get(slot)
    }

    /// The interface of this slot, if it is still the same incarnation.
    #[inline]
    pub fn get(&self, id: InterfaceId) -> Option<&Interface> {
        self.at(id.slot()).map(Arc::as_ref).filter(|i| i.id == id)
    }

    /// What packets of established flows need of the interface.
    #[inline]
    pub fn endpoint(&self, id: InterfaceId) -> Option<&Endpoint> {
        self.endpoints.get(id.slot())?.as_ref().filter(|e| e.id == id)
    }

    /// The interface with this MAC.
    #[inline]
    pub fn by_mac(&self, vpc: VpcIndex, mac: MacAddr) -> Option<&Interface> {
        let key = mac_key(mac);
        self.get(*self.by_mac.get(KeyHash::of(key), vpc, key)?.first()?)
    }

    /// The interface that owns this address: by itself, by a delegated prefix, or
    /// as the link-local address that is made from its MAC.
    pub fn by_address(&self, vpc: VpcIndex, addr: Addr) -> Option<&Interface> {
        if self.by_address.may_have(addr.0)
            && let Some([id, ..]) = self.by_address.get(KeyHash::of(addr.0), vpc, addr.0)
        {
            return self.get(*id);
        }
        if let Some(mac) = made_from(addr) {
            return self.by_mac(vpc, mac);
        }
        if !self.prefixes.may_have(addr.0) {
            return None;
        }
        let after = self.by_prefix.partition_point(|(v, p, _)| (*v, p.addr()) <= (vpc, addr));
        let (v, prefix, id) = self.by_prefix[..after].last()?;
        if *v == vpc && prefix.contains(addr) { self.get(*id) } else { None }
    }

    /// Every interface, in the order of slots.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Interface>> {
        self.slots.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One more than the highest slot in use.
    pub fn slots(&self) -> usize {
        self.slots.end()
    }

    /// What two sets have in common: of each kind of table, and of all together.
    pub fn shared_with(&self, other: &Interfaces) -> Shared {
        let counts = [
            self.slots.shared_with(&other.slots),
            self.endpoints.shared_with(&other.endpoints),
            self.by_mac.shared_with(&other.by_mac),
            self.by_address.shared_with(&other.by_address),
        ];
        let (same, all) = counts.into_iter().fold((0, 0), |sum, (same, all)| (sum.0 + same, sum.1 + all));
        Shared { same, all }
    }
}

/// Whether both are found by the same keys, under the same number.
fn has_same_keys(one: &Interface, other: &Interface) -> bool {
    (one.id, one.vpc, one.mac) == (other.id, other.vpc, other.mac) && one.addresses == other.addresses
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::forward::Addresses;
    use crate::policy::{DirectionRules, Policy};
    use proptest::prelude::*;

    pub fn interface(slot: u32, incarnation: u16, vpc: u16, addresses: &[Prefix]) -> Arc<Interface> {
        Arc::new(Interface {
            id: InterfaceId::new(slot, incarnation),
            vpc: VpcIndex(vpc),
            mac: MacAddr([2, 0, 0, 0, 0, slot as u8]),
            port: None,
            behind: None,
            addresses: Addresses::new(addresses.iter().copied()),
            source_dest_check: true,
            policy: Arc::new(Policy::new(DirectionRules::default(), DirectionRules::default())),
            revoked: None,
            timeouts: Default::default(),
            settings: Default::default(),
            border: None,
        })
    }

    #[test]
    fn found_by_slot_mac_address_and_prefix_within_the_vpc() {
        let a = Addr::v4(0x0a00_0001);
        let net = Prefix::new(Addr::v4(0x0a02_0000), 16).unwrap();
        let all = Interfaces::new([
            interface(1, 1, 0, &[Prefix::host(a), net]),
            interface(2, 7, 1, &[Prefix::host(a)]),
        ]);
        let (one, two) = (InterfaceId::new(1, 1), InterfaceId::new(2, 7));
        let id = |i: Option<&Interface>| i.map(|i| i.id);
        assert_eq!(id(all.get(one)), Some(one));
        assert_eq!(id(all.get(InterfaceId::new(1, 2))), None, "another incarnation");
        assert_eq!(id(all.get(InterfaceId::NONE)), None);
        assert_eq!(id(all.get(InterfaceId::new(9, 1))), None);
        assert_eq!(id(all.by_address(VpcIndex(0), a)), Some(one));
        assert_eq!(id(all.by_address(VpcIndex(1), a)), Some(two));
        assert_eq!(id(all.by_address(VpcIndex(2), a)), None);
        assert_eq!(id(all.by_address(VpcIndex(0), Addr::v4(0x0a02_ffff))), Some(one));
        assert_eq!(id(all.by_address(VpcIndex(0), Addr::v4(0x0a03_0000))), None);
        assert_eq!(id(all.by_address(VpcIndex(1), Addr::v4(0x0a02_ffff))), None);
        assert_eq!(id(all.by_mac(VpcIndex(0), MacAddr([2, 0, 0, 0, 0, 1]))), Some(one));
        assert_eq!(id(all.by_mac(VpcIndex(1), MacAddr([2, 0, 0, 0, 0, 1]))), None);
        assert_eq!(id(all.by_address(VpcIndex(1), link_local(MacAddr([2, 0, 0, 0, 0, 2])))), Some(two));
    }

    fn slot_of(interface: &Arc<Interface>) -> usize {
        interface.id.slot()
    }

    #[test]
    fn a_change_shares_all_but_what_it_touches() {
        let at = |slot: u32, addr: u32| {
            let mut interface = interface(slot, 1, 0, &[Prefix::host(Addr::v4(addr))]);
            let [.., d, e] = slot.to_be_bytes();
            Arc::get_mut(&mut interface).unwrap().mac = MacAddr([2, 0, 0, 0, d, e]);
            interface
        };
        let before = Interfaces::new((0..10_000).map(|n| at(n, n)));
        assert_eq!((before.len(), before.slots()), (10_000, 10_000));
        // Other rules: its part of the slots alone.
        let policy = before.with_changes([], [at(77, 77)]);
        let Shared { same, all } = policy.shared_with(&before);
        assert_eq!(all - same, 1);
        // Another address: its part, its endpoints, and where both addresses are.
        let moved = before.with_changes([], [at(77, 20_000)]);
        let Shared { same, all } = moved.shared_with(&before);
        assert!((3..=4).contains(&(all - same)), "{}", all - same);
        assert!(moved.by_address(VpcIndex(0), Addr::v4(77)).is_none());
        let gone = moved.with_changes([InterfaceId::new(77, 1), InterfaceId::new(9999, 1)], []);
        assert_eq!((gone.len(), gone.slots()), (9998, 9999));
        assert!(gone.endpoint(InterfaceId::new(77, 1)).is_none());
        assert!(before.by_address(VpcIndex(0), Addr::v4(77)).is_some());
    }

    #[test]
    fn a_number_for_each_choice_of_timeouts_and_not_for_ever() {
        let with = |slot: u32, seconds: u32| {
            let mut interface = interface(slot, 1, 0, &[]);
            Arc::get_mut(&mut interface).unwrap().timeouts.udp = crate::time::Ticks::from_secs(seconds);
            interface
        };
        let mut all = Interfaces::new([with(0, 30), with(1, 30), with(2, 31)]);
        let clock = |all: &Interfaces, slot| all.endpoint(InterfaceId::new(slot, 1)).unwrap().clock;
        assert_eq!(clock(&all, 0), clock(&all, 1));
        assert_ne!(clock(&all, 0), clock(&all, 2));
        for seconds in 0..3000 {
            all = all.with_changes([], [with(0, 100 + seconds)]);
        }
        assert!(all.clocks.len() <= SPARE_CLOCKS + 6);
        assert_ne!(clock(&all, 0), clock(&all, 1));
        assert_ne!(clock(&all, 1), clock(&all, 2));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Put { slot: u32, incarnation: u16, vpc: u16, mac: u8, hosts: Vec<u8>, net: Option<u8> },
        Drop { slot: u32 },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let put = (
            0u32..70,
            1u16..3,
            0u16..2,
            0u8..8,
            prop::collection::vec(0u8..12, 0..4),
            prop::option::of(0u8..4),
        );
        let put = put.prop_map(|(slot, incarnation, vpc, mac, hosts, net)| Step::Put {
            slot,
            incarnation,
            vpc,
            mac,
            hosts,
            net,
        });
        prop::collection::vec(
            prop_oneof![3 => put, 1 => (0u32..70).prop_map(|slot| Step::Drop { slot })],
            0..12,
        )
    }

    proptest! {
        /// Changed step by step, or made at once: the same is found.
        #[test]
        fn changes_come_to_the_same_as_beginning_anew(rounds in prop::collection::vec(steps(), 1..6)) {
            let mut model: Vec<Arc<Interface>> = vec![];
            let mut all = Interfaces::default();
            for steps in rounds {
                let (mut gone, mut new): (Vec<InterfaceId>, Vec<Arc<Interface>>) = (vec![], vec![]);
                for step in steps {
                    match step {
                        Step::Put { slot, incarnation, vpc, mac, hosts, net } => {
                            let hosts = hosts.iter().map(|n| Prefix::host(Addr::v4(u32::from(*n))));
                            let net = net.map(|n| Prefix::new(Addr::v4(0x0a00_0000 | u32::from(n) << 16), 16).unwrap());
                            let mut made = interface(slot, incarnation, vpc, &hosts.chain(net).collect::<Vec<_>>());
                            Arc::get_mut(&mut made).unwrap().mac = MacAddr([2, 0, 0, 0, 1, mac]);
                            // Validation lets no two interfaces of a VPC have the same.
                            let clashes = |i: &&Arc<Interface>| slot_of(i) != slot as usize && i.vpc == made.vpc && (i.mac == made.mac
                                || i.addresses.hosts().iter().any(|a| made.addresses.hosts().contains(a))
                                || i.addresses.prefixes().iter().any(|p| made.addresses.prefixes().contains(p)));
                            if model.iter().any(|i| clashes(&i)) || new.iter().any(|i| slot_of(i) == slot as usize) {
                                continue;
                            }
                            model.retain(|i| slot_of(i) != slot as usize);
                            model.push(made.clone());
                            new.push(made);
                        }
                        Step::Drop { slot } => {
                            if new.iter().any(|i| slot_of(i) == slot as usize) {
                                continue;
                            }
                            gone.extend(model.iter().find(|i| slot_of(i) == slot as usize).map(|i| i.id));
                            model.retain(|i| slot_of(i) != slot as usize);
                        }
                    }
                }
                all = all.with_changes(gone, new);
                let anew = Interfaces::new(model.iter().cloned());
                prop_assert_eq!((all.len(), all.slots()), (anew.len(), anew.slots()));
                let id = |i: Option<&Interface>| i.map(|i| i.id);
                for slot in 0..70 {
                    for incarnation in 1..3 {
                        let one = InterfaceId::new(slot, incarnation);
                        prop_assert_eq!(id(all.get(one)), id(anew.get(one)));
                        prop_assert_eq!(all.endpoint(one).map(|e| (e.id, e.mac())), anew.endpoint(one).map(|e| (e.id, e.mac())));
                    }
                }
                for vpc in [0, 1].map(VpcIndex) {
                    for mac in (0..8).map(|n| MacAddr([2, 0, 0, 0, 1, n])) {
                        prop_assert_eq!(id(all.by_mac(vpc, mac)), id(anew.by_mac(vpc, mac)));
                        prop_assert_eq!(id(all.by_address(vpc, link_local(mac))), id(anew.by_mac(vpc, mac)));
                    }
                    for addr in (0..12).chain((0..4).map(|n| 0x0a00_0005 | n << 16)).map(Addr::v4) {
                        prop_assert_eq!(id(all.by_address(vpc, addr)), id(anew.by_address(vpc, addr)));
                    }
                }
            }
        }
    }
}
