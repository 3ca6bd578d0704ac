//! Where groups and their rules are in a document, which of them refer to others.

use std::cell::OnceCell;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::model::{Id, Peer, SecurityGroup};
use crate::precedent::ReadGroup;

const GROUPS: &str = "SecurityGroups";
pub(super) const INGRESS: &str = "IpPermissions";
pub(super) const EGRESS: &str = "IpPermissionsEgress";

/// The lists of a permission, each with the key that its items are about.
pub(super) const LISTS: [(&str, &str); 4] = [
    ("IpRanges", "CidrIp"),
    ("Ipv6Ranges", "CidrIpv6"),
    ("PrefixListIds", "PrefixListId"),
    ("UserIdGroupPairs", "GroupId"),
];

/// What later checks need to know of where things are in the document.
#[derive(Default)]
pub(super) struct Places {
    /// What describes groups, in order.
    pub described: Vec<Described>,
    /// Which items of the list describe groups, by their ids: made when it is asked for.
    items: OnceCell<HashMap<Id, usize>>,
}

/// What describes a group.
pub(super) struct Described {
    /// Which item of the list.
    pub item: usize,
    /// The group by itself.
    pub read: Arc<ReadGroup>,
    /// Whether it is taken over with references that were all in order.
    pub was_in_order: bool,
}

/// A rule of a group that refers to a group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reference {
    pub(super) egress: bool,
    /// Whether the document says that it goes through a peering.
    pub by_peering: bool,
    /// Which of the group's rules, once these are in order.
    pub(super) rule: u32,
    pub(super) at: At,
}

impl Reference {
    /// The group referred to, and whether the reference is stale.
    pub fn peer<'g>(&self, group: &'g SecurityGroup) -> Option<(&'g Id, bool)> {
        let rules = if self.egress { &group.outbound } else { &group.inbound };
        match &rules.get(self.rule as usize)?.peer {
            Peer::Group { id, stale } => Some((id, *stale)),
            Peer::Cidr(_) | Peer::PrefixList(_) => None,
        }
    }

    /// Makes it stale, or no longer.
    pub fn set_stale(&self, group: &mut SecurityGroup, is_stale: bool) {
        let rules = if self.egress { &mut group.outbound } else { &mut group.inbound };
        if let Some(Peer::Group { stale, .. }) = rules.get_mut(self.rule as usize).map(|rule| &mut rule.peer)
        {
            *stale = is_stale;
        }
    }

    /// Its path.
    pub fn path(&self, item: usize) -> String {
        let key = if self.egress { EGRESS } else { INGRESS };
        format!("{}.{}", item_path(item), reference_path(key, self.at))
    }
}

pub(super) fn item_path(item: usize) -> String {
    format!("{GROUPS}[{item}]")
}

impl Places {
    /// The path of what describes a group; empty for one that is not described.
    pub fn path(&self, group: &str) -> String {
        let ids =
            || self.described.iter().map(|described| (described.read.id.clone(), described.item)).collect();
        self.items.get_or_init(ids).get(group).map_or(String::new(), |item| item_path(*item))
    }
}

/// Where a rule is among permissions: which, which list of it, and which item.
#[derive(Clone, Copy, Debug)]
pub(super) struct At {
    pub permission: u32,
    pub list: u8,
    pub item: u32,
}

pub(super) fn rule_path(key: &str, At { permission, list, item }: At) -> String {
    let (list, _) = LISTS[usize::from(list)];
    format!("{key}[{permission}].{list}[{item}]")
}

pub(super) fn reference_path(key: &str, at: At) -> String {
    format!("{}.GroupId", rule_path(key, at))
}
