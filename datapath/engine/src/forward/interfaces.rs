use std::sync::Arc;

use hashbrown::HashMap;

use super::{Endpoint, Interface, link_local};
use crate::addr::{Addr, MacAddr, Prefix};
use crate::ids::{InterfaceId, VpcIndex};

/// All interfaces of a snapshot, by slot, by MAC and by address.
#[derive(Clone, Debug, Default)]
pub struct Interfaces {
    slots: Vec<Option<Arc<Interface>>>,
    /// By slot as well.
    endpoints: Vec<Option<Endpoint>>,
    by_mac: HashMap<u64, InterfaceId>,
    by_address: HashMap<(VpcIndex, Addr), InterfaceId>,
    /// Delegated prefixes, sorted; within a VPC they do not overlap.
    by_prefix: Vec<(VpcIndex, Prefix, InterfaceId)>,
}

/// A VPC and a MAC as one number, which hashes faster than the two.
#[inline]
fn mac_key(vpc: VpcIndex, mac: MacAddr) -> u64 {
    let [a, b, c, d, e, f] = mac.0;
    let [x, y] = vpc.0.to_be_bytes();
    u64::from_be_bytes([x, y, a, b, c, d, e, f])
}

impl Interfaces {
    /// Ids are distinct in their slots, and within a VPC MACs, addresses and
    /// prefixes belong to one interface each: the caller has validated that.
    /// Where two claim the same, the later one is found.
    pub fn new(interfaces: impl IntoIterator<Item = Arc<Interface>>) -> Interfaces {
        let mut all = Interfaces::default();
        // Few are ever in use.
        let mut clocks: HashMap<_, u32> = HashMap::new();
        for interface in interfaces {
            let (id, vpc) = (interface.id, interface.vpc);
            let next = clocks.len() as u32;
            let clock = *clocks.entry(interface.timeouts).or_insert(next);
            all.by_mac.insert(mac_key(vpc, interface.mac), id);
            all.by_address.insert((vpc, link_local(interface.mac)), id);
            all.by_address.extend(interface.addresses.hosts().iter().map(|a| ((vpc, *a), id)));
            all.by_prefix.extend(interface.addresses.prefixes().iter().map(|p| (vpc, *p, id)));
            if all.slots.len() <= id.slot() {
                all.slots.resize(id.slot() + 1, None);
                all.endpoints.resize(id.slot() + 1, None);
            }
            all.endpoints[id.slot()] = Some(Endpoint::of(&interface, clock));
            all.slots[id.slot()] = Some(interface);
        }
        all.by_prefix.sort_unstable_by_key(|(vpc, prefix, _)| (*vpc, prefix.addr()));
        all
    }

    /// The interface of this slot, if it is still the same incarnation.
    #[inline]
    pub fn get(&self, id: InterfaceId) -> Option<&Interface> {
        self.slots.get(id.slot())?.as_deref().filter(|i| i.id == id)
    }

    /// What packets of established flows need of the interface.
    #[inline]
    pub fn endpoint(&self, id: InterfaceId) -> Option<&Endpoint> {
        self.endpoints.get(id.slot())?.as_ref().filter(|e| e.id == id)
    }

    /// The interface with this MAC.
    #[inline]
    pub fn by_mac(&self, vpc: VpcIndex, mac: MacAddr) -> Option<&Interface> {
        self.get(*self.by_mac.get(&mac_key(vpc, mac))?)
    }

    /// The interface that owns this address, by itself or by a delegated prefix.
    pub fn by_address(&self, vpc: VpcIndex, addr: Addr) -> Option<&Interface> {
        if let Some(id) = self.by_address.get(&(vpc, addr)) {
            return self.get(*id);
        }
        let after = self.by_prefix.partition_point(|(v, p, _)| (*v, p.addr()) <= (vpc, addr));
        let (v, prefix, id) = self.by_prefix[..after].last()?;
        if *v == vpc && prefix.contains(addr) { self.get(*id) } else { None }
    }

    /// Every interface, in the order of slots.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Interface>> {
        self.slots.iter().flatten()
    }

    /// One more than the highest slot in use.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::forward::Addresses;
    use crate::policy::{DirectionRules, Policy};

    pub fn interface(slot: u32, incarnation: u16, vpc: u16, addresses: &[Prefix]) -> Arc<Interface> {
        Arc::new(Interface {
            id: InterfaceId::new(slot, incarnation),
            vpc: VpcIndex(vpc),
            mac: MacAddr([2, 0, 0, 0, 0, slot as u8]),
            port: None,
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
}
