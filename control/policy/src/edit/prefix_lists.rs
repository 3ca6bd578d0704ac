//! Prefix lists: made, changed by versions, deleted.

use ipnet::IpNet;
use serde_json::{Value, json};

use super::fresh_id;
use crate::model::{Id, Peer, PrefixList, Validated};
use crate::reader::Node;
use crate::report::Report;
use crate::validate::{cidr, is_plain};

const MOST: i64 = 1_000_000;

type Entries = Vec<(IpNet, Option<String>)>;

/// A new list, of version 1.
pub(super) fn create(node: &Node<'_, '_>, report: &mut Report, all: &mut Validated) -> Option<Value> {
    let keys = ["PrefixListName", "AddressFamily", "MaxEntries", "Entries"];
    node.known(report, &keys, &["DryRun", "TagSpecifications", "ClientToken"]);
    let name = node.required(report, "PrefixListName").map(String::from);
    let ipv6 = match node.required(report, "AddressFamily") {
        Some("IPv4") => Some(false),
        Some("IPv6") => Some(true),
        Some(other) => {
            let message = format!("expected IPv4 or IPv6, found {other}");
            report.fault("InvalidParameterValue", node.path_of("AddressFamily"), message);
            None
        }
        None => None,
    };
    if !node.has("MaxEntries") {
        node.missing(report, "MaxEntries");
    }
    let max_entries = node.number(report, "MaxEntries", 1..=MOST).and_then(|n| usize::try_from(n).ok());
    let ipv6 = ipv6?;
    let entries = entries(node, report, "Entries", ipv6);
    let id = fresh_id("pl-", |id| all.prefix_lists.contains_key(id));
    let max_entries = max_entries?;
    let list = PrefixList {
        id: id.clone(),
        name: Some(name?),
        version: Some(1),
        ipv6,
        aws_managed: false,
        max_entries,
        entries,
    };
    fits(node, report, &list);
    all.prefix_lists.insert(id.clone(), list);
    Some(shown(&all.prefix_lists[&id]))
}

/// Other entries, under the version that they are meant for; or another size.
pub(super) fn modify(node: &Node<'_, '_>, report: &mut Report, all: &mut Validated) -> Option<Value> {
    let keys = ["PrefixListId", "CurrentVersion", "AddEntries", "RemoveEntries", "MaxEntries"];
    node.known(report, &keys, &["DryRun"]);
    let id = existing(node, report, all)?;
    let list = all.prefix_lists.get_mut(&id)?;
    let changes_entries = node.has("AddEntries") || node.has("RemoveEntries");
    if changes_entries && node.has("MaxEntries") {
        let message = "Entries and the size of a prefix list cannot be changed in one request";
        report.fault("InvalidParameterCombination", node.path_of("MaxEntries"), message);
        return None;
    }
    if let Some(most) = node.number(report, "MaxEntries", 1..=MOST) {
        list.max_entries = usize::try_from(most).unwrap_or(list.max_entries);
    }
    if changes_entries {
        let version = list.version.unwrap_or(0);
        if !node.has("CurrentVersion") {
            node.missing(report, "CurrentVersion");
        }
        let meant =
            node.number(report, "CurrentVersion", 0..=i64::MAX).and_then(|n| u64::try_from(n).ok())?;
        if meant != version {
            let message = format!("The prefix list has the version {version}, not {meant}");
            report.fault("PrefixListVersionMismatch", node.path_of("CurrentVersion"), message);
            return None;
        }
        for (net, _) in entries(node, report, "RemoveEntries", list.ipv6) {
            let before = list.entries.len();
            list.entries.retain(|(known, _)| *known != net);
            if list.entries.len() == before {
                let message = format!("the prefix list has no entry {net}");
                report.fault("InvalidParameterValue", node.path_of("RemoveEntries"), message);
            }
        }
        for (net, text) in entries(node, report, "AddEntries", list.ipv6) {
            // An entry that is there gets the other description.
            match list.entries.iter_mut().find(|(known, _)| *known == net) {
                Some(known) => known.1 = text,
                None => list.entries.push((net, text)),
            }
        }
        list.version = Some(version + 1);
    }
    fits(node, report, list);
    Some(shown(list))
}

/// Deletes a list that no rule names.
pub(super) fn delete(node: &Node<'_, '_>, report: &mut Report, all: &mut Validated) -> Option<Value> {
    node.known(report, &["PrefixListId"], &["DryRun"]);
    let id = existing(node, report, all)?;
    let mut rules = all.groups.values().flat_map(|g| g.inbound.iter().chain(&g.outbound));
    if rules.any(|rule| matches!(&rule.peer, Peer::PrefixList(named) if *named == id)) {
        let message = format!("resource {id} has a dependent object");
        report.fault("DependencyViolation", node.path_of("PrefixListId"), message);
        return None;
    }
    all.prefix_lists.remove(&id).map(|list| shown(&list))
}

/// The id of a list that there is, and that is not AWS's to change.
fn existing(node: &Node<'_, '_>, report: &mut Report, all: &Validated) -> Option<Id> {
    let id = node.required(report, "PrefixListId")?;
    match all.prefix_lists.get(id) {
        None => {
            let message = format!("The prefix list ID '{id}' does not exist");
            report.fault("InvalidPrefixListId.NotFound", node.path_of("PrefixListId"), message);
            None
        }
        Some(list) if list.aws_managed => {
            let message = format!("The prefix list '{id}' is AWS's own and is not changed here");
            report.fault("UnauthorizedOperation", node.path_of("PrefixListId"), message);
            None
        }
        Some(_) => Some(id.into()),
    }
}

fn entries(node: &Node<'_, '_>, report: &mut Report, key: &str, ipv6: bool) -> Entries {
    let mut found = Entries::new();
    for item in node.list(report, key) {
        item.known(report, &["Cidr", "Description"], &[]);
        let text = item.string(report, "Description");
        if text.is_some_and(|text| !is_plain(text, true)) {
            let message = "a description has up to 255 of EC2's characters";
            report.fault("InvalidParameterValue", item.path_of("Description"), message);
        }
        let Some(net) = cidr(report, &item, "Cidr", ipv6) else { continue };
        if found.iter().any(|(known, _)| *known == net) {
            report.fault("InvalidParameterValue", item.path_of("Cidr"), format!("{net} is there twice"));
        }
        found.push((net, text.map(String::from)));
    }
    found
}

fn fits(node: &Node<'_, '_>, report: &mut Report, list: &PrefixList) {
    if list.entries.len() > list.max_entries {
        let (have, most) = (list.entries.len(), list.max_entries);
        let message = format!("{have} entries are more than its MaxEntries of {most}");
        report.fault("PrefixListMaxEntriesExceeded", node.path(), message);
    }
}

fn shown(list: &PrefixList) -> Value {
    json!({ "PrefixList": list.to_document() })
}
