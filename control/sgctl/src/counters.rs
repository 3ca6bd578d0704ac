//! `counters`: what rules have let pass, and interfaces have carried.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use serde_json::Value;

use crate::output::{cell, items, table};

#[derive(Debug, Args)]
pub struct Counters {
    /// Only this rule, group or interface.
    pub id: Option<String>,
    /// Only rules that have never let anything pass since the daemon started.
    #[arg(long)]
    pub unused: bool,
}

/// Leaves what was asked for.
pub fn chosen(mut answer: Value, verb: &Counters) -> Value {
    let is_meant = |item: &Value, keys: &[&str]| {
        verb.id.as_deref().is_none_or(|id| keys.iter().any(|key| item[*key] == id))
    };
    let is_unused = |rule: &Value| rule["Connections"] == 0 && rule["UntrackedPackets"] == 0;
    if let Some(rules) = answer["Rules"].as_array_mut() {
        rules.retain(|rule| {
            is_meant(rule, &["SecurityGroupRuleId", "GroupId"]) && (!verb.unused || is_unused(rule))
        });
    }
    if let Some(interfaces) = answer["NetworkInterfaces"].as_array_mut() {
        interfaces.retain(|interface| !verb.unused && is_meant(interface, &["NetworkInterfaceId"]));
    }
    answer
}

/// Two tables.
pub fn in_words(answer: &Value) -> String {
    let now = SystemTime::now();
    let rule = |rule: &Value| {
        let part = |key: &str| cell(&rule[key]);
        let last = rule["LastUsed"].as_u64().map(|s| UNIX_EPOCH + Duration::from_secs(s));
        let ago = last.and_then(|last| now.duration_since(last).ok());
        vec![
            part("SecurityGroupRuleId"),
            part("GroupId"),
            if rule["IsEgress"] == true { "outbound" } else { "inbound" }.to_string(),
            part("Permits"),
            part("Peer"),
            part("Connections"),
            part("UntrackedPackets"),
            ago.map_or("never".to_string(), |ago| format!("{} s ago", ago.as_secs())),
        ]
    };
    let headers =
        ["RULE", "GROUP", "DIRECTION", "PERMITS", "PEER", "CONNECTIONS", "UNTRACKED PACKETS", "LAST USED"];
    let mut text = table(&headers, items(answer, "Rules").iter().map(rule));
    let interfaces = items(answer, "NetworkInterfaces");
    if !interfaces.is_empty() {
        let keys = [
            "NetworkInterfaceId",
            "InboundPackets",
            "InboundBytes",
            "OutboundPackets",
            "OutboundBytes",
            "Dropped",
            "Connections",
        ];
        let headers =
            ["INTERFACE", "IN PACKETS", "IN BYTES", "OUT PACKETS", "OUT BYTES", "DROPPED", "CONNECTIONS"];
        let rows = interfaces.iter().map(|i| keys.iter().map(|key| cell(&i[*key])).collect());
        text.push_str(&format!("\n{}", table(&headers, rows)));
    }
    match answer["PacketsNotAttributed"].as_u64() {
        None | Some(0) => {}
        Some(missed) => text.push_str(&format!(
            "\n{missed} packets came too fast to be counted at their rules: real numbers are higher\n"
        )),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer() -> Value {
        let rule = |id: &str, n: u64| json!({ "SecurityGroupRuleId": id, "GroupId": "sg-1", "Connections": n, "UntrackedPackets": 0 });
        json!({ "Rules": [rule("sgr-1", 3), rule("sgr-2", 0)],
                "NetworkInterfaces": [{ "NetworkInterfaceId": "eni-1", "InboundPackets": 5 }] })
    }

    #[test]
    fn counters_are_chosen_by_id_and_use() {
        let ids = |id: Option<&str>, unused| {
            let verb = Counters { id: id.map(str::to_string), unused };
            let chosen = chosen(answer(), &verb);
            let rules = items(&chosen, "Rules").iter().map(|r| cell(&r["SecurityGroupRuleId"]));
            let interfaces =
                items(&chosen, "NetworkInterfaces").iter().map(|i| cell(&i["NetworkInterfaceId"]));
            rules.chain(interfaces).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(ids(None, false), "sgr-1 sgr-2 eni-1");
        assert_eq!(ids(Some("sg-1"), false), "sgr-1 sgr-2");
        assert_eq!(ids(Some("eni-1"), false), "eni-1");
        assert_eq!(ids(None, true), "sgr-2");
        assert_eq!(ids(Some("sgr-9"), false), "");
    }
}
