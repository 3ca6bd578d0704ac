use std::collections::{HashMap, HashSet};

use compact_str::format_compact;

use super::Fnv;
use super::places::Places;
use crate::model::{DEFAULT_GROUP, Id, Peer, Rule, RuleService, SecurityGroup, Validated};

/// Adds what a document need not say: the default group of each VPC, the
/// groups of interfaces that name none, what may leave a group. Whether a group that
/// the document describes has made room for a default one.
pub(super) fn fill(described: &HashSet<Id>, places: &Places, all: &mut Validated) -> bool {
    find_ipv6(described, all);
    let without_egress = places.described.iter().filter(|described| described.read.without_egress);
    for id in without_egress.map(|described| &described.read.id) {
        if let Some(group) = all.groups.get_mut(id) {
            group.outbound = everything_out(all.vpcs.get(&group.vpc).is_some_and(|vpc| vpc.ipv6));
        }
    }
    let is_any_replaced = add_default_groups(all);
    let defaults = all.groups.values().filter(|g| g.name == DEFAULT_GROUP);
    let defaults: HashMap<&str, &str> = defaults.map(|g| (g.vpc.as_str(), g.id.as_str())).collect();
    // S3, S51: never "no filter", never "deny all".
    let without = all.interfaces.values().filter(|i| i.groups.is_empty()).map(|i| i.id.clone());
    for id in without.collect::<Vec<_>>() {
        if let Some(interface) = all.interfaces.get_mut(&id) {
            interface.groups.extend(defaults.get(interface.vpc.as_str()).map(|id| Id::from(*id)));
        }
    }
    is_any_replaced
}

/// A VPC that the document does not describe has IPv6 if a subnet or an
/// interface in it has.
fn find_ipv6(described: &HashSet<Id>, all: &mut Validated) {
    let subnets =
        all.subnets.values().filter(|s| s.blocks.iter().any(|b| b.addr().is_ipv6())).map(|s| &s.vpc);
    let interfaces = all
        .interfaces
        .values()
        .filter(|i| i.addresses.iter().any(|a| a.is_ipv6()) || i.prefixes.iter().any(|p| p.addr().is_ipv6()));
    for vpc in subnets.chain(interfaces.map(|i| &i.vpc)).filter(|vpc| !described.contains(*vpc)) {
        if let Some(vpc) = all.vpcs.get_mut(vpc) {
            vpc.ipv6 = true;
        }
    }
}

fn everything(peer: Peer) -> Rule {
    Rule { id: Id::default(), service: RuleService::All, peer, description: None }
}

/// What a new group lets out: everything (S13, S65), by IPv6 only where the VPC
/// has it (D14).
pub(crate) fn everything_out(ipv6: bool) -> Vec<Rule> {
    let blocks = [Some("0.0.0.0/0"), ipv6.then_some("::/0")];
    let block = |text: &str| text.parse().map(Peer::Cidr).expect("a block in a constant");
    blocks.into_iter().flatten().map(|text| everything(block(text))).collect()
}

/// Adds the default group of each VPC that the document gives none (S50 to
/// S54): in come its own members, out goes everything.
fn add_default_groups(all: &mut Validated) -> bool {
    let described: HashSet<&str> =
        all.groups.values().filter(|g| g.name == DEFAULT_GROUP).map(|g| g.vpc.as_str()).collect();
    let missing: Vec<_> = all.vpcs.iter().filter(|(id, _)| !described.contains(id.as_str())).collect();
    let made = missing.into_iter().map(|(vpc, about)| {
        let id = format_compact!("sg-0{:016x}", Fnv::of(vpc).0);
        SecurityGroup {
            inbound: vec![everything(Peer::Group { id: id.clone(), stale: false })],
            outbound: everything_out(about.ipv6),
            id,
            name: DEFAULT_GROUP.to_string(),
            description: "default VPC security group".to_string(),
            vpc: vpc.clone(),
        }
    });
    let made: Vec<SecurityGroup> = made.collect();
    let mut is_any_replaced = false;
    for group in made {
        is_any_replaced |= all.groups.insert(group.id.clone(), group).is_some();
    }
    is_any_replaced
}
