//! `plan`: what a push would do.

use std::path::PathBuf;

use clap::Args;
use hyper::Method;
use serde_json::Value;

use crate::cli::Arguments;
use crate::client::{Ask, Failure, ask};
use crate::documents;
use crate::output::{cell, items, notices, table};

/// How many rows of each table people are shown.
const SHOWN: usize = 50;

#[derive(Debug, Args)]
pub struct Plan {
    /// The documents that would be pushed; - for standard input.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Accept documents that say they are cut short (NextToken).
    #[arg(long)]
    pub partial: bool,
}

/// Asks what a push of these documents would do.
pub fn planned(arguments: &Arguments, plan: &Plan) -> Result<Value, Failure> {
    let documents = documents::read(&plan.files)?;
    let path = format!("/v1/plan?partial={}", plan.partial);
    let request = Ask { method: Method::POST, path: &path, body: Some(&documents.whole), if_match: None };
    ask(&arguments.socket, request).map_err(|mut failure| {
        documents.locate(&mut failure);
        failure
    })
}

/// Whether there is anything to do.
pub fn has_changes(answer: &Value) -> bool {
    answer["Changes"] == Value::Bool(true)
}

/// The plan in tables.
pub fn in_words(answer: &Value) -> String {
    let mut text = notices(items(answer, "Notices"));
    let generation = cell(&answer["Generation"]);
    if !has_changes(answer) {
        return text + &format!("nothing changes: generation {generation} says the same\n");
    }
    let plan = &answer["Plan"];
    let rules = items(plan, "Rules").iter().map(|rule| {
        let sign = match rule["Change"].as_str() {
            Some("added") => "+",
            Some("removed") => "-",
            _ => "~",
        };
        let direction = if rule["IsEgress"] == true { "outbound" } else { "inbound" };
        let part = |key: &str| cell(&rule[key]);
        vec![
            sign.to_string(),
            format!("{} ({})", part("GroupId"), part("GroupName")),
            direction.to_string(),
            part("Permits"),
            part("Peer"),
            part("SecurityGroupRuleId"),
        ]
    });
    let mut section = |title: String, headers: &[&str], rows: Vec<Vec<String>>| {
        let count = rows.len();
        if count > 0 {
            text.push_str(&format!("{title}\n{}", table(headers, rows.into_iter().take(SHOWN))));
            if count > SHOWN {
                text.push_str(&format!("... and {} more: -o json shows all\n", count - SHOWN));
            }
            text.push('\n');
        }
    };
    let title = |what: &str| format!("{what} against generation {generation}:");
    section(title("rules"), &["", "GROUP", "DIRECTION", "PERMITS", "PEER", "RULE"], rules.collect());
    let objects = items(plan, "Objects").iter().map(|object| {
        let part = |key: &str| cell(&object[key]);
        vec![part("Change"), part("Kind"), part("Id"), part("What")]
    });
    section("otherwise:".to_string(), &["CHANGE", "KIND", "ID", "WHAT"], objects.collect());
    let verdicts = items(plan, "Verdicts").iter().map(|verdict| {
        let part = |key: &str| cell(&verdict[key]);
        let rules = [&verdict["RulesBefore"], &verdict["RulesAfter"]].map(cell);
        let [before, after] = rules.map(|ids| if ids.is_empty() { "-".to_string() } else { ids });
        vec![
            part("NetworkInterfaceId"),
            part("Direction"),
            format!("{} -> {}", part("Before"), part("After")),
            example(verdict),
            format!("{before} -> {after}"),
        ]
    });
    let headers = ["INTERFACE", "DIRECTION", "NEW FLOWS", "SUCH AS", "BY"];
    let asked = cell(&plan["PacketsAsked"]);
    section(format!("verdicts, of {asked} packets at the edges of rules:"), &headers, verdicts.collect());
    let quotas = items(plan, "Quotas").iter().map(|quota| {
        let part = |key: &str| cell(&quota[key]);
        vec![part("Id"), part("Quota"), format!("{} -> {}", part("Before"), part("After")), part("Limit")]
    });
    section("quotas:".to_string(), &["ID", "QUOTA", "USED", "LIMIT"], quotas.collect());
    let flows = &answer["Flows"];
    for (key, title) in [
        ("Cut", "live flows that would stop at once"),
        ("Outlive", "live connections that would outlive their rule"),
    ] {
        let rows: Vec<_> = items(&flows[key], "Flows").iter().map(crate::flows::row).collect();
        section(format!("{title}: {}", cell(&flows[key]["Count"])), &crate::flows::HEADERS, rows);
    }
    let count = |key: &str| flows[key]["Count"].as_u64().unwrap_or(0);
    text.push_str(&format!(
        "{} rules and {} other objects change; {} live flows stop, {} outlive their rule\n",
        items(plan, "Rules").len(),
        items(plan, "Objects").len(),
        count("Cut"),
        count("Outlive"),
    ));
    if flows["Complete"] == false {
        text.push_str("not all connections could be looked at\n");
    }
    text
}

fn example(verdict: &Value) -> String {
    let part = |key: &str| cell(&verdict[key]);
    let (protocol, port) = (verdict["Protocol"].as_u64(), verdict["Port"].as_u64().unwrap_or(0));
    let service = match protocol {
        Some(6) => format!("tcp {port}"),
        Some(17) => format!("udp {port}"),
        Some(1) => format!("icmp type {} code {}", port >> 8, port & 0xff),
        Some(58) => format!("icmpv6 type {} code {}", port >> 8, port & 0xff),
        _ => format!("protocol {}", part("Protocol")),
    };
    let way = if verdict["Direction"] == "inbound" { "from" } else { "to" };
    format!("{service} {way} {}", part("Remote"))
}
