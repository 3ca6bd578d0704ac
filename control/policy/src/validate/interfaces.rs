use hashbrown::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use engine::addr::MacAddr;
use engine::policy::MAX_GROUPS;
use ipnet::IpNet;

use super::groups::group_id;
use super::{Item, cidr, is_id, keys, known, settings};
use crate::model::{Attachment, Id, NetworkInterface, SecurityGroup, Subnet, TrackingTimeouts, Validated};
use crate::precedent::{KnownInterface, Precedent, ReadInterface};
use crate::reader::Node;
use crate::report::Report;

/// What an interface owns, and which item of the list it is.
type Owned = (IpNet, usize);

/// What is one interface's alone, in a VPC.
#[derive(Default)]
struct Taken<'v> {
    macs: HashMap<(&'v str, MacAddr), &'v str>,
    owned: HashMap<&'v str, Vec<Owned>>,
}

impl<'v> Taken<'v> {
    /// Notes what an interface has; the one that has its MAC already.
    fn note(&mut self, vpc: &'v str, interface: Mine<'_, 'v>) -> Option<&'v str> {
        let Mine { item, id, mac, addresses, prefixes } = interface;
        let ranges = addresses.iter().map(|a| IpNet::from(*a)).chain(prefixes.iter().copied());
        self.owned.entry(vpc).or_default().extend(ranges.map(|net| (net, item)));
        self.macs.insert((vpc, mac), id)
    }
}

/// What of an interface no other may have.
struct Mine<'i, 'v> {
    item: usize,
    id: &'v str,
    mac: MacAddr,
    addresses: &'i [IpAddr],
    prefixes: &'i [IpNet],
}

/// Reads `NetworkInterfaces`. One that names no group has none yet.
pub(super) fn read(
    items: Vec<Item<'_, '_, KnownInterface>>,
    report: &mut Report,
    all: &mut Validated,
    before: &Precedent,
) -> Vec<Arc<ReadInterface>> {
    let mut found = Vec::with_capacity(items.len());
    let mut taken = Taken::default();
    let changed = Changed::of(before, all);
    // Of those that got along before, none takes what is another's.
    let is_any_new = items.iter().any(|item| matches!(item, Item::New(_)));
    for item in items {
        let node = match item {
            Item::Same(item, known) => {
                let KnownInterface { read, interface } = known;
                let NetworkInterface { id, vpc, mac, addresses, prefixes, .. } = &**interface;
                report.notice_again(&read.notices, || item_path(item));
                if changed.matters_to(interface, all) {
                    report.doubt();
                }
                all.mention(vpc);
                if is_any_new && taken.note(vpc, Mine { item, id, mac: *mac, addresses, prefixes }).is_some()
                {
                    report.doubt();
                }
                found.push(read.clone());
                continue;
            }
            Item::New(node) => node,
        };
        let noticed = report.noticed();
        known(&node, report, &keys::INTERFACE);
        let id = node.required(report, "NetworkInterfaceId");
        if let Some(id) = id.filter(|id| !is_id(id, "eni-")) {
            let message = format!("The networkInterface ID '{id}' is malformed");
            report.fault("InvalidNetworkInterfaceId.Malformed", node.path_of("NetworkInterfaceId"), message);
        }
        let vpc = node.required(report, "VpcId");
        let subnet = node.string(report, "SubnetId");
        let mac = mac(report, &node);
        let groups = groups(report, &node, vpc, all);
        let addresses = addresses(report, &node, subnet.and_then(|id| all.subnets.get(id)));
        let prefixes = prefixes(report, &node);
        let attachment = node.child(report, "Attachment").map(|a| Attachment {
            instance: a.string(report, "InstanceId").map(Id::from),
            device_index: a.number(report, "DeviceIndex", 0..=1000).and_then(|n| u32::try_from(n).ok()),
        });
        let timeouts = node.child(report, "ConnectionTrackingConfiguration");
        let timeouts = timeouts.map_or(TrackingTimeouts::default(), |t| settings::timeouts(&t, report));
        let source_dest_check = node.flag(report, "SourceDestCheck").unwrap_or(true);
        let (Some(id), Some(vpc), Some(mac)) = (id, vpc, mac) else { continue };

        if subnet.and_then(|id| all.subnets.get(id)).is_some_and(|s| s.vpc != vpc) {
            let message = "You have specified two resources that belong to different networks.";
            report.fault("InvalidParameterValue", node.path_of("SubnetId"), message);
        }
        let mine = Mine { item: node.index(), id, mac, addresses: &addresses, prefixes: &prefixes };
        if let Some(other) = taken.note(vpc, mine) {
            let message = format!("the MAC {mac} is that of '{other}' too");
            report.fault("InvalidParameterValue", node.path_of("MacAddress"), message);
        }
        all.mention(vpc);
        let notices = report.own_notices(noticed, || node.path());
        found.push(Arc::new(ReadInterface { id: id.into(), without_groups: groups.is_empty(), notices }));
        let interface = NetworkInterface {
            id: id.into(),
            vpc: vpc.into(),
            subnet: subnet.map(Id::from),
            attachment,
            mac,
            groups,
            addresses,
            prefixes,
            source_dest_check,
            timeouts,
        };
        if all.interfaces.insert(id.into(), interface).is_some() {
            report.fault(
                "InvalidParameterValue",
                node.path(),
                format!("the interface '{id}' is there twice"),
            );
        }
    }
    for ranges in taken.owned.into_values() {
        check_overlaps(report, ranges);
    }
    found
}

fn item_path(item: usize) -> String {
    format!("NetworkInterfaces[{item}]")
}

/// What interfaces refer to and is not what it was.
struct Changed {
    subnets: HashSet<Id>,
    /// Whether any group is gone, or in another VPC.
    groups: bool,
    most_groups: usize,
}

impl Changed {
    fn of(before: &Precedent, all: &Validated) -> Changed {
        let Precedent { policy: before, undescribed, .. } = before;
        // Nobody could name a group that was not described.
        let moved = |(id, old, new): (&str, Option<&SecurityGroup>, Option<&SecurityGroup>)| {
            old.is_some_and(|old| new.is_none_or(|new| new.vpc != old.vpc))
                && !undescribed.iter().any(|u| u == id)
        };
        Changed {
            subnets: before.subnets.differences(&all.subnets).map(|(id, ..)| id.into()).collect(),
            groups: before.groups.differences(&all.groups).any(moved),
            most_groups: most_groups(all),
        }
    }

    /// Whether an interface that was right may not be so any more.
    fn matters_to(&self, interface: &NetworkInterface, all: &Validated) -> bool {
        let is_there = |id: &Id| all.groups.get(id).is_some_and(|group| group.vpc == interface.vpc);
        interface.groups.len() > self.most_groups
            || self.groups && !interface.groups.iter().all(is_there)
            || !self.subnets.is_empty()
                && interface.subnet.as_ref().is_some_and(|id| self.subnets.contains(id))
    }
}

/// The groups that an interface may have.
fn most_groups(all: &Validated) -> usize {
    all.settings.quotas.map_or(MAX_GROUPS, |quotas| quotas.groups_per_interface)
}

/// Within a VPC, an address is one interface's; an interface's own prefixes
/// do not nest.
fn check_overlaps(report: &mut Report, mut ranges: Vec<Owned>) {
    ranges.sort_unstable();
    // Blocks nest or are apart: sorted, one that overlaps an earlier one lies within it.
    let mut holder: Option<Owned> = None;
    for (net, at) in ranges {
        match holder {
            Some((outer, by)) if outer.contains(&net) => {
                let own_address = by == at && net.prefix_len() == net.max_prefix_len();
                if !own_address {
                    let message = format!("{net} overlaps {outer}, which {} has", item_path(by));
                    report.fault("InvalidIPAddress.InUse", item_path(at), message);
                }
            }
            _ => holder = Some((net, at)),
        }
    }
}

fn mac(report: &mut Report, node: &Node<'_, '_>) -> Option<MacAddr> {
    let text = node.required(report, "MacAddress")?;
    let message = match text.parse::<MacAddr>() {
        Ok(mac) if !mac.is_group() && !mac.is_zero() => return Some(mac),
        Ok(mac) => format!("{mac} is no interface's MAC"),
        Err(error) => format!("'{text}' is no MAC: {error}"),
    };
    report.fault("InvalidParameterValue", node.path_of("MacAddress"), message);
    None
}

/// The groups by id: existing, of the interface's VPC (S7), within the quota.
fn groups(report: &mut Report, node: &Node<'_, '_>, vpc: Option<&str>, all: &Validated) -> Vec<Id> {
    let mut groups = Vec::new();
    for group in node.list(report, "Groups") {
        group.known(report, &["GroupId"], &["GroupName"]);
        let Some(id) = group_id(report, &group, "GroupId") else { continue };
        let path = || group.path_of("GroupId");
        match all.groups.get(id) {
            None => {
                let message = format!("The security group '{id}' does not exist");
                report.fault("InvalidGroup.NotFound", path(), message);
            }
            Some(known) if vpc.is_some_and(|vpc| vpc != known.vpc) => {
                let message = "You have specified two resources that belong to different networks.";
                report.fault("InvalidGroup.NotFound", path(), message);
            }
            Some(_) if groups.iter().any(|g| g == id) => {
                report.notice(path(), format!("'{id}' is named twice"));
            }
            Some(_) => groups.push(id.into()),
        }
    }
    let most = most_groups(all);
    if groups.len() > most {
        let message = format!("{} groups are more than the {most} that an interface may have", groups.len());
        report.fault("SecurityGroupsPerInterfaceLimitExceeded", node.path_of("Groups"), message);
    }
    groups.sort();
    groups
}

/// Private addresses of both families, the primary one first; never the public
/// ones (S35).
fn addresses(report: &mut Report, node: &Node<'_, '_>, subnet: Option<&Subnet>) -> Vec<IpAddr> {
    let mut all = Vec::new();
    let mut add = |address: Option<IpAddr>, first: bool| {
        if let Some(address) = address.filter(|a| !all.contains(a)) {
            all.insert(if first { 0 } else { all.len() }, address);
        }
    };
    if node.has("PrivateIpAddress") {
        add(address::<Ipv4Addr>(report, node, "PrivateIpAddress", subnet), true);
    }
    for item in node.list(report, "PrivateIpAddresses") {
        item.known(report, &["PrivateIpAddress", "Primary"], &["Association", "PrivateDnsName"]);
        let primary = item.flag(report, "Primary").unwrap_or(false);
        add(address::<Ipv4Addr>(report, &item, "PrivateIpAddress", subnet), primary);
    }
    for item in node.list(report, "Ipv6Addresses") {
        item.known(report, &["Ipv6Address"], &["IsPrimaryIpv6", "PublicIpv6DnsName"]);
        add(address::<Ipv6Addr>(report, &item, "Ipv6Address", subnet), false);
    }
    all
}

/// An address that an interface can have; in its subnet, if that is described,
/// and none that the subnet keeps for itself.
fn address<A: FromStr + Into<IpAddr>>(
    report: &mut Report,
    node: &Node<'_, '_>,
    key: &str,
    subnet: Option<&Subnet>,
) -> Option<IpAddr> {
    let text = node.required(report, key)?;
    let address: Option<IpAddr> = text.parse::<A>().ok().map(Into::into);
    let blocks = || subnet.iter().flat_map(|s| &s.blocks);
    let block = address.and_then(|a| blocks().find(|block| block.contains(&a)));
    let own_family = |a: IpAddr| blocks().any(|block| block.addr().is_ipv4() == a.is_ipv4());
    let problem = match (address, block) {
        (None, _) => format!("Invalid value '{text}' for {key}: it is no address of this family"),
        (Some(a), _) if !is_unicast(a) => format!("{a} cannot be an interface's address"),
        (Some(a), Some(block)) if is_reserved(block, a) => {
            format!("Address {a} is in subnet's reserved address range")
        }
        (Some(a), None) if own_family(a) && !is_link_local(a) => {
            format!("Address {a} does not fall within the subnet's address range")
        }
        (Some(a), _) => return Some(a),
    };
    report.fault("InvalidParameterValue", node.path_of(key), problem);
    None
}

fn is_unicast(address: IpAddr) -> bool {
    let limited_broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    let mapped = matches!(address, IpAddr::V6(a) if a.to_ipv4_mapped().is_some());
    !address.is_unspecified()
        && !address.is_loopback()
        && !address.is_multicast()
        && !limited_broadcast
        && !mapped
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(a) if a.is_unicast_link_local())
}

/// EC2 keeps the first four addresses of a subnet and the last.
fn is_reserved(block: &IpNet, address: IpAddr) -> bool {
    let first = match (block, address) {
        (IpNet::V4(net), IpAddr::V4(a)) => u128::from(a.to_bits() - net.network().to_bits()),
        (IpNet::V6(net), IpAddr::V6(a)) => a.to_bits() - net.network().to_bits(),
        _ => return false,
    };
    first < 4 || address == block.broadcast()
}

fn prefixes(report: &mut Report, node: &Node<'_, '_>) -> Vec<IpNet> {
    let mut all = Vec::new();
    for (list, key, ipv6) in [("Ipv4Prefixes", "Ipv4Prefix", false), ("Ipv6Prefixes", "Ipv6Prefix", true)] {
        for item in node.list(report, list) {
            item.known(report, &[key], &[]);
            all.extend(cidr(report, &item, key, ipv6));
        }
    }
    all
}
