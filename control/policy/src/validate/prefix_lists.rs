use ipnet::IpNet;

use super::{block, cidr, is_id, keys, known};
use crate::model::{PrefixList, Validated};
use crate::reader::Node;
use crate::report::Report;

/// Reads `PrefixLists` and, under their ids, `PrefixListEntries` (D6).
pub(super) fn read(root: &Node<'_, '_>, report: &mut Report, all: &mut Validated) {
    let by_id = root.child(report, "PrefixListEntries");
    for node in root.list(report, "PrefixLists") {
        known(&node, report, &keys::PREFIX_LIST);
        let Some(id) = node.required(report, "PrefixListId") else { continue };
        if !is_id(id, "pl-") {
            let message = format!("The prefix list ID '{id}' is malformed");
            report.fault("InvalidPrefixListId.Malformed", node.path_of("PrefixListId"), message);
        }
        let listed: Vec<_> = by_id.iter().flat_map(|e| e.list(report, id)).collect();
        let ipv6 = match node.string(report, "AddressFamily") {
            Some("IPv6") => true,
            Some("IPv4") => false,
            // `describe-prefix-lists` does not say: the entries tell.
            None => listed
                .first()
                .and_then(|entry| entry.value.get("Cidr"))
                .or_else(|| node.value.get("Cidrs")?.as_list()?.first())
                .is_some_and(|first| first.as_str().is_some_and(|text| text.contains(':'))),
            Some(other) => {
                let message = format!("expected IPv4 or IPv6, found {other}");
                report.fault("InvalidParameterValue", node.path_of("AddressFamily"), message);
                continue;
            }
        };
        let mut entries = bare(&node, report, ipv6);
        for entry in &listed {
            known(entry, report, &keys::PREFIX_LIST_ENTRY);
            let description = entry.string(report, "Description").map(String::from);
            entries.extend(cidr(report, entry, "Cidr", ipv6).map(|net| (net, description)));
        }
        let most = node.number(report, "MaxEntries", 1..=1_000_000).and_then(|n| usize::try_from(n).ok());
        let max_entries = most.unwrap_or(entries.len());
        let aws_managed = node.string(report, "OwnerId") == Some("AWS");
        if entries.len() > max_entries && !aws_managed {
            let message = format!("{} entries are more than its MaxEntries of {max_entries}", entries.len());
            report.fault("PrefixListMaxEntriesExceeded", node.path(), message);
        }
        if entries.is_empty() {
            report.notice(node.path(), format!("'{id}' has no entries: rules that name it match nothing"));
        }
        let list = PrefixList {
            id: id.into(),
            name: node.string(report, "PrefixListName").map(String::from),
            version: node.number(report, "Version", 0..=i64::MAX).and_then(|v| u64::try_from(v).ok()),
            ipv6,
            aws_managed,
            max_entries,
            entries,
        };
        if all.prefix_lists.insert(id.into(), list).is_some() {
            let message = format!("the prefix list '{id}' is there twice");
            report.fault("InvalidParameterValue", node.path(), message);
        }
    }
    let unknown = by_id.iter().filter_map(|e| e.value.as_object().map(|lists| (e, lists)));
    for (entries, id) in unknown.flat_map(|(e, lists)| lists.keys().map(move |id| (e, id))) {
        if !all.prefix_lists.contains_key(id) {
            let message = format!("The prefix list ID '{id}' does not exist");
            report.fault("InvalidPrefixListId.NotFound", entries.path_of(id), message);
        }
    }
}

/// The blocks of `describe-prefix-lists`, which come with the list.
fn bare(node: &Node<'_, '_>, report: &mut Report, ipv6: bool) -> Vec<(IpNet, Option<String>)> {
    let Some(list) = node.get("Cidrs") else { return vec![] };
    let Some(items) = list.value.as_list() else {
        report.fault("InvalidParameterValue", list.path(), "expected a list");
        return vec![];
    };
    let mut entries = Vec::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        let path = || format!("{}[{i}]", list.path());
        match item.as_str() {
            Some(text) => entries.extend(block(report, text, ipv6, path).map(|net| (net, None))),
            None => report.fault("InvalidParameterValue", path(), "expected a string"),
        }
    }
    entries
}
