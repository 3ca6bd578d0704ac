//! What rules and interfaces have counted.

use std::time::UNIX_EPOCH;

use engine::pipeline::InterfaceCounters;
use policy::{Id, Rule, SecurityGroup};
use serde_json::{Value, json};

use crate::switch::Switch;

/// Each rule of the policy in force, and each interface.
pub fn counters(switch: &Switch) -> Value {
    let workers = switch.datapath.workers();
    let counted = switch.accounts.counters();
    let mut answer = json!({
        "Generation": switch.generation(),
        "PacketsNotAttributed": counted.unattributed.load(std::sync::atomic::Ordering::Relaxed)
            + workers.iter().map(|w| w.statistics.sightings_lost.get()).sum::<u64>(),
    });
    // Put there, and not into the macro, which would copy them.
    answer["Rules"] = Value::Array(rules(switch));
    answer["NetworkInterfaces"] = Value::Array(interfaces(switch));
    answer
}

fn rules(switch: &Switch) -> Vec<Value> {
    let Some(current) = &switch.current else { return vec![] };
    let counts = switch.accounts.rules();
    let item = |group: &SecurityGroup, rule: &Rule, egress: bool| {
        let count = counts.get(&rule.id);
        let last = count.and_then(|c| c.last.duration_since(UNIX_EPOCH).ok()).map(|d| d.as_secs());
        json!({
            "SecurityGroupRuleId": rule.id,
            "GroupId": group.id,
            "IsEgress": egress,
            "Permits": rule.service.to_string(),
            "Peer": rule.peer.to_string(),
            "Connections": count.map_or(0, |c| c.connections),
            "UntrackedPackets": count.map_or(0, |c| c.packets),
            "UntrackedBytes": count.map_or(0, |c| c.bytes),
            "LastUsed": last,
        })
    };
    let of_group = |group: &SecurityGroup| {
        let inbound = group.inbound.iter().map(|rule| item(group, rule, false));
        inbound.chain(group.outbound.iter().map(|rule| item(group, rule, true))).collect::<Vec<_>>()
    };
    current.policy.groups.values().flat_map(of_group).collect()
}

fn interfaces(switch: &Switch) -> Vec<Value> {
    let workers = switch.datapath.workers();
    let mut names: Vec<_> = switch.compiler.interface_names().iter().collect();
    names.sort_by_key(|&(_, name)| name);
    let item = |(id, name): (&engine::ids::InterfaceId, &Id)| {
        let of_worker: Vec<_> = workers.iter().filter_map(|w| w.counters.interface(*id)).collect();
        let sum = |of: fn(&InterfaceCounters) -> u64| of_worker.iter().map(|c| of(c)).sum::<u64>();
        json!({
            "NetworkInterfaceId": name,
            "InboundPackets": sum(|c| c.inbound_packets.get()),
            "InboundBytes": sum(|c| c.inbound_bytes.get()),
            "OutboundPackets": sum(|c| c.outbound_packets.get()),
            "OutboundBytes": sum(|c| c.outbound_bytes.get()),
            "Dropped": sum(|c| c.drops.total()),
            "Connections": sum(|c| c.connections.get()),
        })
    };
    names.into_iter().map(item).collect()
}
