use super::cidr;
use crate::model::{PrefixList, Validated};
use crate::reader::Node;
use crate::report::Report;

/// Reads `PrefixLists` and, under their ids, `PrefixListEntries` (D6).
pub(super) fn read(root: &Node<'_>, report: &mut Report, all: &mut Validated) {
    for node in root.list(report, "PrefixLists") {
        let Some(id) = node.required(report, "PrefixListId") else { continue };
        if !id.starts_with("pl-") {
            let message = format!("The prefix list ID '{id}' is malformed");
            report.fault("InvalidPrefixListId.Malformed", format!("{}.PrefixListId", node.path), message);
        }
        let entries = root.get("PrefixListEntries").map(|e| e.list(report, id)).unwrap_or_default();
        let family = node.string(report, "AddressFamily");
        let ipv6 = match family {
            Some("IPv6") => true,
            Some("IPv4") => false,
            // AWS-managed lists are described without: their entries tell.
            None => entries
                .first()
                .and_then(|e| e.get("Cidr"))
                .is_some_and(|c| c.value.as_str().is_some_and(|c| c.contains(':'))),
            Some(other) => {
                let message = format!("expected IPv4 or IPv6, found {other}");
                report.fault("InvalidParameterValue", format!("{}.AddressFamily", node.path), message);
                continue;
            }
        };
        let mut list = PrefixList {
            id: id.to_string(),
            name: node.string(report, "PrefixListName").map(String::from),
            version: node.number(report, "Version", 0..=i64::MAX).map(|v| v as u64),
            ipv6,
            max_entries: 0,
            entries: Vec::with_capacity(entries.len()),
        };
        for entry in &entries {
            let description = entry.string(report, "Description").map(String::from);
            if let Some(net) = cidr(report, entry, "Cidr", ipv6) {
                list.entries.push((net, description));
            }
        }
        let most = node.number(report, "MaxEntries", 1..=1_000_000).map(|n| n as usize);
        list.max_entries = most.unwrap_or(list.entries.len());
        if entries.len() > list.max_entries {
            let message =
                format!("{} entries are more than its MaxEntries of {}", entries.len(), list.max_entries);
            report.fault("PrefixListMaxEntriesExceeded", &node.path, message);
        }
        if all.prefix_lists.insert(id.to_string(), list).is_some() {
            report.fault(
                "InvalidParameterValue",
                node.path,
                format!("the prefix list '{id}' is there twice"),
            );
        }
    }
    if let Some(entries) = root.get("PrefixListEntries")
        && let Some(lists) = entries.object(report)
    {
        for id in lists.keys().filter(|id| !all.prefix_lists.contains_key(*id)) {
            let message = format!("The prefix list ID '{id}' does not exist");
            report.fault("InvalidPrefixListId.NotFound", format!("{}.{id}", entries.path), message);
        }
    }
}
