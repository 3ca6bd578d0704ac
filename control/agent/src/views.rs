//! What `show` shows, as JSON: groups, rules and interfaces in AWS's shapes.

use std::collections::HashMap;

use engine::ids::InterfaceId;
use engine::pipeline::PassClass;
use engine::verdict::DropReason;
use policy::{Id, Peer, Rule, SecurityGroup, Validated};
use serde_json::{Map, Value, json};
use worker::{BURST_SIZES, WorkerStage, WorkerView};

use crate::switch::Switch;

/// The policy in force, or nothing at all.
fn with_policy(switch: &Switch, key: &str, list: impl FnOnce(&Validated) -> Vec<Value>) -> Value {
    let (generation, items) = match &switch.current {
        Some(current) => (current.generation, list(&current.policy)),
        None => (0, vec![]),
    };
    let mut answer = json!({ "Generation": generation });
    // Put there, and not into the macro, which would copy them.
    answer[key] = Value::Array(items);
    answer
}

/// The switch in a few numbers.
pub fn status(switch: &Switch) -> Value {
    let workers = switch.datapath.workers();
    let enforced = workers.iter().map(|w| w.statistics.generation.get()).min().unwrap_or(0);
    let policy = switch.current.as_ref().map(|c| &c.policy);
    json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "ApiVersion": "v1",
        "Generation": switch.generation(),
        "EnforcedGeneration": enforced,
        "State": if policy.is_some() { "enforcing" } else { "closed" },
        "Workers": workers.len(),
        "Ports": switch.ports.len(),
        "SecurityGroups": policy.map_or(0, |p| p.groups.len()),
        "NetworkInterfaces": policy.map_or(0, |p| p.interfaces.len()),
        "Connections": workers.iter().map(|w| w.statistics.connections.get()).sum::<u64>(),
        "StoreFault": switch.store.fault(),
        "MbufsInUse": switch.pool.in_use(),
        "MbufsAvailable": switch.pool.available(),
    })
}

/// As `describe-security-groups`.
pub fn groups(switch: &Switch) -> Value {
    with_policy(switch, "SecurityGroups", |p| p.groups.values().map(SecurityGroup::to_document).collect())
}

/// As `describe-security-group-rules`.
pub fn rules(switch: &Switch) -> Value {
    with_policy(switch, "SecurityGroupRules", |p| {
        p.groups.values().flat_map(SecurityGroup::rules_document).collect()
    })
}

/// As `describe-network-interfaces`, with the port of each, or the uplink that it is behind.
pub fn interfaces(switch: &Switch) -> Value {
    with_policy(switch, "NetworkInterfaces", |p| {
        let (ports, uplinks) = (p.ports_by_interface(), p.uplinks_by_interface());
        let interface = |i: &policy::NetworkInterface| {
            let mut item = i.to_document();
            // A binding whose port is gone leads nowhere.
            let port = ports.get(i.id.as_str()).filter(|port| switch.ports.index(port).is_some());
            item["Port"] = json!(port);
            if let Some(uplink) = uplinks.get(i.id.as_str()) {
                item["Uplink"] = json!(uplink);
            }
            item
        };
        p.interfaces.values().map(interface).collect()
    })
}

/// Prefix lists with their entries.
pub fn prefix_lists(switch: &Switch) -> Value {
    with_policy(switch, "PrefixLists", |p| {
        let list = |l: &policy::PrefixList| {
            json!({
                "PrefixListId": l.id,
                "PrefixListName": l.name,
                "AddressFamily": if l.ipv6 { "IPv6" } else { "IPv4" },
                "MaxEntries": l.max_entries,
                "Version": l.version,
                "Entries": l.entries.iter().map(|(net, text)| json!({ "Cidr": net.to_string(), "Description": text })).collect::<Vec<_>>(),
            })
        };
        p.prefix_lists.values().map(list).collect()
    })
}

/// Rules that match nothing because what they refer to is gone (D10).
pub fn stale(switch: &Switch) -> Value {
    with_policy(switch, "StaleRules", |p| {
        let is_stale = |rule: &&Rule| matches!(rule.peer, Peer::Group { stale: true, .. });
        let of_group = |g: &SecurityGroup| {
            let rules = g.inbound.iter().map(|r| (r, false)).chain(g.outbound.iter().map(|r| (r, true)));
            let item = |(rule, egress): (&Rule, bool)| {
                json!({
                    "GroupId": g.id, "SecurityGroupRuleId": rule.id, "IsEgress": egress,
                    "Permits": rule.service.to_string(), "Peer": rule.peer.to_string(),
                })
            };
            rules.filter(|(r, _)| is_stale(r)).map(item).collect::<Vec<_>>()
        };
        p.groups.values().flat_map(of_group).collect()
    })
}

/// What is allowed in the policy and may not be meant.
pub fn lint(switch: &Switch) -> Value {
    with_policy(switch, "Findings", |p| policy::lint(p).into_iter().map(|finding| json!(finding)).collect())
}

/// What each port is for, in words.
pub fn roles(switch: &Switch) -> HashMap<&str, String> {
    let bindings = switch.current.iter().flat_map(|c| c.policy.bindings.iter());
    let mut roles: HashMap<&str, String> = HashMap::new();
    for binding in bindings {
        match binding {
            policy::Binding::Interface { interface, port } => {
                roles.insert(port, interface.to_string());
            }
            // Its uplink has a binding of its own.
            policy::Binding::Behind { .. } => {}
            policy::Binding::Uplink { port, vpc, vlan, .. } => {
                let tag = vlan.map_or(String::new(), |v| format!(" vlan {v}"));
                let role = roles.entry(port).or_insert_with(|| "uplink".to_string());
                role.push_str(&format!(" {vpc}{tag}"));
            }
        }
    }
    roles
}

/// The workers: cycles by stage, packets, drops by reason, table hits and misses.
pub fn workers(switch: &Switch) -> Value {
    let worker = |(index, w): (usize, &WorkerView)| {
        let s = &w.statistics;
        let stages = WorkerStage::ALL.map(|stage| {
            let totals = s.stage(stage);
            (
                stage.label().to_string(),
                json!({ "Cycles": totals.cycles.get(), "Packets": totals.packets.get() }),
            )
        });
        let bursts = BURST_SIZES.iter().zip(s.bursts()).map(|(size, n)| (size.to_string(), json!(n)));
        let passed = PassClass::ALL.map(|class| (class.label().to_string(), json!(w.counters.passed(class))));
        json!({
            "Worker": index,
            "Cpu": w.cpu,
            "State": switch.watch.state(index).label(),
            "Stalls": switch.watch.stalls(index),
            "Generation": s.generation.get(),
            "Received": s.received.get(),
            "Transmitted": s.transmitted.get(),
            "HandedOver": s.handed_over.get(),
            "TakenOver": s.taken_over.get(),
            "Relayed": s.relayed.get(),
            "BusyTurns": s.busy_turns.get(),
            "IdleTurns": s.idle_turns.get(),
            "BusyCycles": s.busy_cycles.get(),
            "IdleCycles": s.idle_cycles.get(),
            "Connections": s.connections.get(),
            "ConnectionCapacity": w.capacity,
            "TableHits": w.counters.table_hits.get(),
            "TableMisses": w.counters.table_misses.get(),
            "Passed": Map::from_iter(passed),
            "Drops": drop_counts(|reason| w.counters.drops.get(reason)),
            "Stages": Map::from_iter(stages),
            "Bursts": Map::from_iter(bursts),
        })
    };
    let workers: Vec<_> = switch.datapath.workers().iter().enumerate().map(worker).collect();
    json!({ "TscHz": dpdk::tsc_hz(), "Workers": workers })
}

fn drop_counts(count: impl Fn(DropReason) -> u64) -> Map<String, Value> {
    let counts = DropReason::ALL.iter().map(|r| (r.label().to_string(), count(*r)));
    counts.filter(|(_, n)| *n > 0).map(|(label, n)| (label, json!(n))).collect()
}

/// Drops by reason, of the whole switch and of each interface that has any.
pub fn drops(switch: &Switch) -> Value {
    let workers = switch.datapath.workers();
    let total = drop_counts(|reason| workers.iter().map(|w| w.counters.drops.get(reason)).sum());
    let of_interface = |(id, name): (&InterfaceId, &Id)| {
        let counters: Vec<_> = workers.iter().filter_map(|w| w.counters.interface(*id)).collect();
        let counts = drop_counts(|reason| counters.iter().map(|c| c.drops.get(reason)).sum());
        (!counts.is_empty()).then(|| json!({ "NetworkInterfaceId": name, "Drops": counts }))
    };
    let mut interfaces: Vec<_> = switch.compiler.interface_names().iter().filter_map(of_interface).collect();
    interfaces.sort_by_key(|i| i["NetworkInterfaceId"].to_string());
    json!({ "Drops": total, "NetworkInterfaces": interfaces })
}
