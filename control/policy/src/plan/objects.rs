use compact_str::format_compact;
use engine::addr::MacAddr;
use serde::{Deserialize, Serialize};

use super::Change;
use crate::by_id::ById;
use crate::model::{Binding, Id, NetworkInterface, PrefixList, SecurityGroup, Validated};

/// Something other than a rule that comes, goes or changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ObjectChange {
    /// The document's key, such as `NetworkInterfaces`.
    pub kind: String,
    /// Its id; empty where there is only one.
    pub id: String,
    /// What becomes of it.
    pub change: Change,
    /// What of it changes.
    pub what: Vec<String>,
}

pub(super) fn changes(before: &Validated, after: &Validated) -> Vec<ObjectChange> {
    let mut changes = Vec::new();
    maps(&mut changes, "Vpcs", &before.vpcs, &after.vpcs, |_, _| vec!["Ipv6".to_string()]);
    maps(&mut changes, "Subnets", &before.subnets, &after.subnets, |_, _| vec![]);
    maps(&mut changes, "NetworkAcls", &before.network_acls, &after.network_acls, |_, _| vec![]);
    maps(&mut changes, "SecurityGroups", &before.groups, &after.groups, group);
    maps(&mut changes, "NetworkInterfaces", &before.interfaces, &after.interfaces, interface);
    maps(&mut changes, "PrefixLists", &before.prefix_lists, &after.prefix_lists, prefix_list);
    let peerings =
        |policy: &Validated| policy.peerings.iter().map(|p| (p.id.clone(), p.clone())).collect::<ById<_>>();
    let state = |_: &_, _: &_| vec!["Status".to_string()];
    maps(&mut changes, "VpcPeeringConnections", &peerings(before), &peerings(after), state);
    maps(&mut changes, "Bindings", &bindings(before), &bindings(after), binding);
    if before.settings != after.settings {
        let (kind, id, what) = ("Settings".to_string(), String::new(), vec![]);
        changes.push(ObjectChange { kind, id, change: Change::Changed, what });
    }
    changes.sort();
    changes
}

fn maps<T: Eq>(
    changes: &mut Vec<ObjectChange>,
    kind: &str,
    before: &ById<T>,
    after: &ById<T>,
    what: impl Fn(&T, &T) -> Vec<String>,
) {
    let mut note = |id: &str, change, what| {
        changes.push(ObjectChange { kind: kind.into(), id: id.into(), change, what })
    };
    for (id, old, new) in before.differences(after) {
        match (old, new) {
            (Some(old), Some(new)) => {
                let what = what(old, new);
                // Of a group, rules are listed on their own.
                if kind != "SecurityGroups" || !what.is_empty() {
                    note(id, Change::Changed, what);
                }
            }
            (Some(_), None) => note(id, Change::Removed, vec![]),
            (None, _) => note(id, Change::Added, vec![]),
        }
    }
}

/// The names of those parts that differ.
fn differing(parts: &[(&str, bool)]) -> Vec<String> {
    parts.iter().filter(|(_, same)| !same).map(|(name, _)| name.to_string()).collect()
}

fn group(old: &SecurityGroup, new: &SecurityGroup) -> Vec<String> {
    differing(&[
        ("GroupName", old.name == new.name),
        ("Description", old.description == new.description),
        ("VpcId", old.vpc == new.vpc),
    ])
}

fn interface(old: &NetworkInterface, new: &NetworkInterface) -> Vec<String> {
    differing(&[
        ("VpcId", old.vpc == new.vpc),
        ("SubnetId", old.subnet == new.subnet),
        ("Attachment", old.attachment == new.attachment),
        ("MacAddress", old.mac == new.mac),
        ("Groups", old.groups == new.groups),
        ("PrivateIpAddresses", old.addresses == new.addresses),
        ("Ipv4Prefixes, Ipv6Prefixes", old.prefixes == new.prefixes),
        ("SourceDestCheck", old.source_dest_check == new.source_dest_check),
        ("ConnectionTrackingConfiguration", old.timeouts == new.timeouts),
    ])
}

fn prefix_list(old: &PrefixList, new: &PrefixList) -> Vec<String> {
    differing(&[
        ("PrefixListName", old.name == new.name),
        ("Version", old.version == new.version),
        ("AddressFamily", old.ipv6 == new.ipv6),
        ("MaxEntries", old.max_entries == new.max_entries),
        ("Entries", old.entries == new.entries),
    ])
}

/// What a binding says of an interface, or of a VPC at an uplink.
#[derive(PartialEq, Eq)]
enum Bound<'p> {
    Port(&'p str),
    Behind(&'p str),
    Uplink(Option<u16>, &'p [MacAddr]),
}

fn bindings(policy: &Validated) -> ById<Bound<'_>> {
    policy.bindings.iter().map(bound).collect()
}

fn bound(binding: &Binding) -> (Id, Bound<'_>) {
    match binding {
        Binding::Interface { interface, port } => (interface.clone(), Bound::Port(port)),
        Binding::Behind { interface, uplink } => (interface.clone(), Bound::Behind(uplink)),
        Binding::Uplink { port, vpc, vlan, hosts } => {
            (format_compact!("uplink {port} {vpc}"), Bound::Uplink(*vlan, hosts))
        }
    }
}

fn binding(old: &Bound<'_>, new: &Bound<'_>) -> Vec<String> {
    match (old, new) {
        (Bound::Uplink(old_vlan, old_hosts), Bound::Uplink(vlan, hosts)) => {
            differing(&[("VlanId", old_vlan == vlan), ("MacAddresses", old_hosts == hosts)])
        }
        (Bound::Port(_), Bound::Port(_)) => vec!["Port".to_string()],
        (Bound::Behind(_), Bound::Behind(_)) => vec!["Uplink".to_string()],
        _ => ["Port", "Uplink"].map(String::from).to_vec(),
    }
}
