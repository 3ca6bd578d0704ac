//! Which of an interface's rules name an address, for many addresses of one interface:
//! what [`Rules::facing`](crate::oracle::Rules::facing) finds by looking at each rule.

use std::net::IpAddr;

use engine::policy::Direction;
use ipnet::IpNet;

use crate::model::{Id, NetworkInterface, Peer, PrefixList, Rule, Validated};
use crate::oracle::{Facing, Rules};

/// The rules of an interface, apart by what it takes to tell whether they name an
/// address: an address of nobody's is held against no group.
#[derive(Default)]
pub(crate) struct Sieve<'v> {
    v4: Vec<(Block<u32>, Named<'v>)>,
    v6: Vec<(Block<u128>, Named<'v>)>,
    groups: Vec<(Ending, Named<'v>)>,
    lists: Vec<(&'v PrefixList, Named<'v>)>,
}

/// A rule, and the direction it is for.
type Named<'v> = (Direction, &'v Rule);

/// A block: an address of it, and how many first bits all have in common.
struct Block<B>(B, u8);

impl Block<u32> {
    fn holds(&self, address: u32) -> bool {
        (self.0 ^ address).leading_zeros() >= u32::from(self.1)
    }
}

impl Block<u128> {
    fn holds(&self, address: u128) -> bool {
        (self.0 ^ address).leading_zeros() >= u32::from(self.1)
    }
}

/// The end of an id, where most of them differ.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Ending(u64);

impl Ending {
    fn of(id: &str) -> Ending {
        match id.as_bytes() {
            [.., a, b, c, d, e, f, g, h] => Ending(u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h])),
            short => Ending(short.iter().fold(0, |ending, byte| ending << 8 | u64::from(*byte))),
        }
    }
}

impl<'v> Sieve<'v> {
    /// Takes these rules instead of those before, in the same memory.
    pub fn fill(&mut self, policy: &'v Validated, rules: &Rules<'v>) {
        self.v4.clear();
        self.v6.clear();
        self.groups.clear();
        self.lists.clear();
        let most =
            rules.of_direction(Direction::Inbound).len() + rules.of_direction(Direction::Outbound).len();
        self.v4.reserve(most);
        self.groups.reserve(most);
        for direction in [Direction::Inbound, Direction::Outbound] {
            for &rule in rules.of_direction(direction) {
                let named = (direction, rule);
                match &rule.peer {
                    Peer::Cidr(IpNet::V4(net)) => {
                        self.v4.push((Block(net.addr().to_bits(), net.prefix_len()), named));
                    }
                    Peer::Cidr(IpNet::V6(net)) => {
                        self.v6.push((Block(net.addr().to_bits(), net.prefix_len()), named));
                    }
                    Peer::Group { id, stale: false } => self.groups.push((Ending::of(id), named)),
                    Peer::Group { stale: true, .. } => {}
                    Peer::PrefixList(id) => {
                        self.lists.extend(policy.prefix_lists.get(id).map(|list| (list, named)));
                    }
                }
            }
        }
    }

    /// Those that name a group, each with its direction.
    pub fn naming<'s>(&'s self, group: &'s Id) -> impl Iterator<Item = (Direction, &'v Rule)> + 's {
        let ending = Ending::of(group);
        let alike = self.groups.iter().filter(move |(other, _)| *other == ending).map(|(_, named)| *named);
        alike.filter(move |(_, rule)| matches!(&rule.peer, Peer::Group { id, .. } if id == group))
    }

    /// Those that name an address that these interfaces have, which are in a VPC whose
    /// members the rules are about.
    pub fn facing(&self, remote: IpAddr, owners: &[&NetworkInterface], facing: &mut Facing<'v>) {
        facing.clear();
        match remote {
            IpAddr::V4(remote) => {
                let remote = remote.to_bits();
                let named = self.v4.iter().filter(|(block, _)| block.holds(remote));
                named.for_each(|(_, (direction, rule))| facing.add(*direction, rule));
            }
            IpAddr::V6(remote) => {
                let remote = remote.to_bits();
                let named = self.v6.iter().filter(|(block, _)| block.holds(remote));
                named.for_each(|(_, (direction, rule))| facing.add(*direction, rule));
            }
        }
        for (n, group) in owners.iter().enumerate().flat_map(|(n, o)| o.groups.iter().map(move |g| (n, g))) {
            // Of two owners that have it, the first counts.
            if owners[..n].iter().any(|before| before.groups.contains(group)) {
                continue;
            }
            self.naming(group).for_each(|(direction, rule)| facing.add(direction, rule));
        }
        for (list, (direction, rule)) in &self.lists {
            if list.entries.iter().any(|(net, _)| net.contains(&remote)) {
                facing.add(*direction, rule);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{RuleService, SecurityGroup};
    use crate::oracle;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    /// Few addresses, beside each other and far apart.
    fn addresses() -> impl Strategy<Value = IpAddr> {
        let v4 = prop_oneof![0x0a00_0000u32..0x0a00_0008, any::<u32>()];
        let v6 = prop_oneof![0xfd00u128 << 112..(0xfd00 << 112) + 8, any::<u128>()];
        prop_oneof![
            3 => v4.prop_map(|bits| Ipv4Addr::from_bits(bits).into()),
            2 => v6.prop_map(|bits| Ipv6Addr::from_bits(bits).into()),
        ]
    }

    fn blocks() -> impl Strategy<Value = IpNet> {
        let length = prop_oneof![Just(0u8), 28u8..=32, any::<u8>()];
        (addresses(), length).prop_map(|(address, length)| {
            let length = if address.is_ipv4() { length % 33 } else { (length % 33) * 4 };
            IpNet::new(address, length).unwrap().trunc()
        })
    }

    /// Ids that begin alike or end alike, short and long.
    const GROUPS: [&str; 5] = ["sg-1", "sg-2", "1", "sg-00000000000000001", "sg-10000000000000001"];

    fn peers() -> impl Strategy<Value = Peer> {
        prop_oneof![
            4 => blocks().prop_map(Peer::Cidr),
            3 => (prop::sample::select(&GROUPS[..]), prop::bool::weighted(0.2))
                .prop_map(|(id, stale)| Peer::Group { id: id.into(), stale }),
            1 => prop::sample::select(&["pl-1", "pl-none"][..]).prop_map(|id| Peer::PrefixList(id.into())),
        ]
    }

    fn interface(
        id: &str,
        vpc: &str,
        groups: Vec<&str>,
        address: IpAddr,
        prefixes: Vec<IpNet>,
    ) -> NetworkInterface {
        NetworkInterface {
            id: id.into(),
            vpc: vpc.into(),
            subnet: None,
            attachment: None,
            mac: engine::addr::MacAddr([2, 0, 0, 0, 0, 1]),
            groups: groups.into_iter().map(Id::from).collect(),
            addresses: vec![address],
            prefixes,
            source_dest_check: true,
            timeouts: Default::default(),
        }
    }

    prop_compose! {
        fn interfaces()(
            groups in prop::sample::subsequence(GROUPS.to_vec(), 1..4),
            address in addresses(),
            prefixes in prop::collection::vec(blocks(), 0..2),
            far in prop::bool::weighted(0.2),
        ) -> NetworkInterface {
            interface("", if far { "vpc-2" } else { "vpc-1" }, groups, address, prefixes)
        }
    }

    proptest! {
        #[test]
        fn those_that_face_an_address_are_those_that_the_oracle_finds(
            peers in prop::collection::vec((peers(), any::<bool>()), 0..12),
            list in prop::collection::vec(blocks(), 0..3),
            members in prop::collection::vec(interfaces(), 0..4),
            more in prop::collection::vec(addresses(), 0..4),
        ) {
            let mut policy = Validated::default();
            let rule = |(n, (peer, _)): (usize, &(Peer, bool))| Rule {
                id: format!("sgr-{n}").into(), service: RuleService::All, peer: peer.clone(), description: None,
            };
            let [inbound, outbound] = [true, false].map(|side| {
                peers.iter().enumerate().filter(|(_, (_, is_inbound))| *is_inbound == side).map(rule).collect()
            });
            let group = SecurityGroup {
                id: "sg-own".into(), name: String::new(), description: String::new(), vpc: "vpc-1".into(), inbound, outbound,
            };
            policy.groups.insert("sg-own".into(), group);
            policy.prefix_lists.insert("pl-1".into(), PrefixList {
                id: "pl-1".into(), name: None, version: None, ipv6: false, aws_managed: false, max_entries: 9,
                entries: list.iter().map(|net| (*net, None)).collect(),
            });
            for (n, member) in members.iter().enumerate() {
                policy.interfaces.insert(format!("eni-{n}").into(), member.clone());
            }
            let own = interface("eni-own", "vpc-1", vec!["sg-own"], "192.0.2.1".parse().unwrap(), vec![]);
            policy.interfaces.insert(own.id.clone(), own.clone());
            let rules = Rules::of(&policy, &own);
            let (mut sieve, mut facing) = (Sieve::default(), Facing::default());
            sieve.fill(&policy, &rules);
            let edges = peers.iter().filter_map(|(peer, _)| match peer {
                Peer::Cidr(net) => Some([net.addr(), net.broadcast()]),
                _ => None,
            });
            for remote in more.into_iter().chain(members.iter().map(|m| m.addresses[0])).chain(edges.flatten()) {
                let has = |i: &&NetworkInterface| {
                    i.vpc == "vpc-1" && (i.addresses.contains(&remote) || i.prefixes.iter().any(|p| p.contains(&remote)))
                };
                let owners: Vec<_> = policy.interfaces.values().filter(has).collect();
                sieve.facing(remote, &owners, &mut facing);
                let expected = rules.facing(|peer| oracle::is_peer(&policy, &own, peer, remote));
                prop_assert_eq!(facing.ids(), expected.ids(), "{}", remote);
            }
        }
    }
}
