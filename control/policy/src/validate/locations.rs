use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use engine::addr::MacAddr;

use super::bindings::Bound;
use crate::model::{Binding, Id, Validated};
use crate::reader::Node;
use crate::report::Report;

/// The most hosts that are no interfaces and have a place, of one VPC: tables of
/// them are made anew with each generation.
pub(crate) const MAX_HOSTS: usize = 1024;

/// What bindings say of who is behind which uplink.
#[derive(Default)]
pub(super) struct Located<'v, 'p> {
    /// The bindings of interfaces, to be judged when all uplinks are known.
    pub interfaces: Vec<Node<'v, 'p>>,
    hosts: HashMap<Id, HashSet<MacAddr>>,
    /// Each of them and its path.
    paths: Vec<(Id, MacAddr, String)>,
    /// The bindings that name any: the uplink, its VPC and the path.
    uplinks: Vec<(&'v str, Id, String)>,
}

/// The `MacAddresses` of an uplink's binding, in order.
pub(super) fn hosts<'v>(
    report: &mut Report,
    node: &Node<'v, '_>,
    uplink: &'v str,
    vpc: &Id,
    located: &mut Located<'v, '_>,
) -> Vec<MacAddr> {
    let Some(list) = node.get("MacAddresses") else { return vec![] };
    let Some(items) = list.value.as_list() else {
        let message = format!("expected a list, found {}", list.value.kind());
        report.fault("InvalidParameterValue", list.path(), message);
        return vec![];
    };
    let known = located.hosts.entry(vpc.clone()).or_default();
    let before = known.len();
    let mut macs = Vec::new();
    for (i, item) in items.iter().enumerate() {
        let path = || format!("{}[{i}]", list.path());
        let mac = match item.as_str().map(|text| (text, text.parse::<MacAddr>())) {
            Some((_, Ok(mac))) if !mac.is_group() && !mac.is_zero() => Ok(mac),
            Some((_, Ok(mac))) => Err(format!("{mac} is no host's MAC")),
            Some((text, Err(error))) => Err(format!("'{text}' is no MAC: {error}")),
            None => Err(format!("expected a string, found {}", item.kind())),
        };
        match mac {
            Ok(mac) if known.insert(mac) => {
                macs.push(mac);
                located.paths.push((vpc.clone(), mac, path()));
            }
            Ok(mac) => {
                let message = format!("{mac} of {vpc} has a place already");
                report.fault("InvalidParameterValue", path(), message);
            }
            Err(message) => report.fault("InvalidParameterValue", path(), message),
        }
    }
    if known.len() > MAX_HOSTS && before <= MAX_HOSTS {
        let message = format!("{vpc} has more than {MAX_HOSTS} MACs with a place that are no interfaces'");
        report.fault("InsufficientCapacity", list.path(), message);
    }
    if !macs.is_empty() {
        located.uplinks.push((uplink, vpc.clone(), list.path()));
    }
    macs.sort_unstable();
    macs
}

/// Judges what is said of places, and adds the bindings of interfaces.
pub(super) fn check<'v>(
    report: &mut Report,
    all: &mut Validated,
    mut bound: Bound<'v>,
    located: &Located<'v, '_>,
) {
    for node in &located.interfaces {
        let (id, uplink) = (node.required(report, "NetworkInterfaceId"), node.required(report, "Uplink"));
        let (Some(id), Some(uplink)) = (id, uplink) else { continue };
        let mut refuse = |code, key: &str, message| report.fault(code, node.path_of(key), message);
        let Some(interface) = all.interfaces.get(id) else {
            let message = format!("The networkInterface ID '{id}' does not exist");
            refuse("InvalidNetworkInterfaceID.NotFound", "NetworkInterfaceId", message);
            continue;
        };
        if !bound.interfaces.insert(id) {
            let message = format!("the interface '{id}' is bound twice");
            refuse("InvalidParameterValue", "NetworkInterfaceId", message);
        }
        let vpc = &interface.vpc;
        let tags = bound.carried.get(&(uplink, vpc.clone())).copied().unwrap_or(0);
        let wrong = match (bound.ports.get(uplink), tags) {
            (None, _) => Some(format!("no binding makes '{uplink}' an uplink")),
            (Some(false), _) => Some(format!("the port '{uplink}' serves an interface and is no uplink")),
            (Some(true), 0) => {
                Some(format!("the uplink '{uplink}' does not carry {vpc}, which '{id}' is of"))
            }
            (Some(true), 1) => None,
            (Some(true), _) => Some(several_tags(uplink, vpc)),
        };
        match wrong {
            Some(message) => refuse("InvalidParameterValue", "Uplink", message),
            None => {
                let behind = Binding::Behind { interface: id.into(), uplink: uplink.to_string() };
                Arc::make_mut(&mut all.bindings).push(behind);
            }
        }
    }
    for (uplink, vpc, path) in &located.uplinks {
        if bound.carried.get(&(*uplink, vpc.clone())).is_some_and(|tags| *tags > 1) {
            report.fault("InvalidParameterValue", path.as_str(), several_tags(uplink, vpc));
        }
    }
    if located.paths.is_empty() {
        return;
    }
    let macs: HashMap<(&Id, MacAddr), &Id> =
        all.interfaces.values().map(|i| ((&i.vpc, i.mac), &i.id)).collect();
    for (vpc, mac, path) in &located.paths {
        if let Some(id) = macs.get(&(vpc, *mac)) {
            let message = format!(
                "{mac} is the MAC of '{id}': where interfaces are is said by NetworkInterfaceId, with Port or Uplink"
            );
            report.fault("InvalidParameterValue", path.as_str(), message);
        }
    }
}

/// A place is an uplink, not a VLAN of it.
fn several_tags(uplink: &str, vpc: &Id) -> String {
    format!(
        "the uplink '{uplink}' carries {vpc} under several tags: nothing can be said to be behind it there"
    )
}
