//! `flows`: connections listed, ended, and who sends most.

use clap::{Args, Subcommand, ValueEnum};
use hyper::Method;
use serde_json::{Value, json};

use crate::cli::Arguments;
use crate::client::{Ask, Failure, ask};
use crate::output::{cell, items, table};

#[derive(Debug, Subcommand)]
pub enum Flows {
    /// List connections.
    List {
        /// At most so many.
        #[arg(long, default_value_t = 1000)]
        limit: usize,
        /// Untracked flows of the last minute as well.
        #[arg(long)]
        untracked: bool,
        #[command(flatten)]
        which: Which,
    },
    /// Measure for a while which flows send most.
    Top {
        /// For so long.
        #[arg(long, default_value_t = 2, value_name = "SECONDS")]
        seconds: u64,
        /// At most so many.
        #[arg(long, default_value_t = 20)]
        limit: usize,
        /// By what they are ranked.
        #[arg(long, value_enum, default_value_t = By::Bytes)]
        by: By,
    },
    /// End connections: their next packets are judged by rules, like new ones.
    Kill {
        #[command(flatten)]
        which: Which,
        /// Those that rules would not let open any more.
        #[arg(long)]
        no_longer_allowed: bool,
        /// All of them.
        #[arg(long)]
        all: bool,
    },
}

/// Which connections: those that fit all of it.
#[derive(Debug, Default, Args)]
pub struct Which {
    /// Of this interface.
    #[arg(long, value_name = "ENI")]
    pub interface: Option<String>,
    /// Of this protocol: tcp, udp, icmp, icmpv6 or a number.
    #[arg(long, value_parser = policy::protocol_number)]
    pub protocol: Option<u8>,
    /// With an end at this address, or in this block.
    #[arg(long, value_name = "ADDRESS|BLOCK")]
    pub address: Option<String>,
    /// With this port at either end.
    #[arg(long)]
    pub port: Option<u16>,
    /// In this state, such as established or syn_sent.
    #[arg(long)]
    pub state: Option<String>,
    /// In this VPC.
    #[arg(long)]
    pub vpc: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// Bytes that passed.
    Bytes,
    /// Packets that passed.
    Packets,
    /// Packets that were dropped.
    Dropped,
}

impl Which {
    fn tree(&self) -> Value {
        let all = json!({
            "interface": self.interface,
            "protocol": self.protocol,
            "address": self.address,
            "port": self.port,
            "state": self.state,
            "vpc": self.vpc,
        });
        let given = all.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
        Value::Object(given.map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}

/// An answer, and how people are shown it.
type Shown = (Value, fn(&Value) -> String);

/// Asks, and says how to show the answer.
pub fn run(arguments: &Arguments, verb: &Flows) -> Result<Shown, Failure> {
    let get = |path: &str| ask(&arguments.socket, Ask::get(path));
    match verb {
        Flows::List { limit, untracked, which } => {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("limit", &limit.to_string());
            query.append_pair("untracked", &untracked.to_string());
            for (key, value) in which.tree().as_object().into_iter().flatten() {
                query.append_pair(key, &cell(value));
            }
            Ok((get(&format!("/v1/flows?{}", query.finish()))?, listed))
        }
        Flows::Top { seconds, limit, by } => {
            let by = by.to_possible_value().map_or(String::new(), |value| value.get_name().to_string());
            Ok((get(&format!("/v1/flows/top?seconds={seconds}&limit={limit}&by={by}"))?, topped))
        }
        Flows::Kill { which, no_longer_allowed, all } => {
            let mut body = json!({ "NoLongerAllowed": no_longer_allowed, "All": all });
            for (key, value) in which.tree().as_object().into_iter().flatten() {
                let mut key = key.clone();
                key[..1].make_ascii_uppercase();
                body[key] = value.clone();
            }
            let request =
                Ask { method: Method::POST, path: "/v1/flows/kill", body: Some(&body), if_match: None };
            Ok((ask(&arguments.socket, request)?, killed))
        }
    }
}

/// The columns of a list of flows.
pub const HEADERS: [&str; 7] =
    ["VPC", "PROTOCOL", "ORIGINATOR", "RESPONDER", "STATE", "TRACKED BY", "EXPIRES"];

/// A flow's cells.
pub fn row(flow: &Value) -> Vec<String> {
    let ends = [&flow["Originator"], &flow["Responder"]];
    let tracked: Vec<String> =
        ends.iter().filter(|e| e["Tracked"] == true).map(|e| cell(&e["NetworkInterfaceId"])).collect();
    let left = match (&flow["ExpiresInSeconds"], &flow["SecondsSinceLast"]) {
        (Value::Null, Value::Null) => "-".to_string(),
        (Value::Null, since) => format!("seen {} s ago", cell(since)),
        (seconds, _) => format!("{} s", cell(seconds)),
    };
    vec![
        cell(&flow["VpcId"]),
        protocol_name(&flow["Protocol"]),
        end(ends[0]),
        end(ends[1]),
        cell(&flow["State"]),
        if tracked.is_empty() { "-".to_string() } else { tracked.join(", ") },
        left,
    ]
}

fn protocol_name(number: &Value) -> String {
    match number.as_u64() {
        Some(6) => "tcp".to_string(),
        Some(17) => "udp".to_string(),
        Some(1) => "icmp".to_string(),
        Some(58) => "icmpv6".to_string(),
        _ => cell(number),
    }
}

fn end(end: &Value) -> String {
    let (address, port) = (cell(&end["Address"]), cell(&end["Port"]));
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

fn listed(answer: &Value) -> String {
    let mut text = table(&HEADERS, items(answer, "Flows").iter().map(row));
    if answer["Truncated"] == true {
        text.push_str("there are more: raise --limit\n");
    }
    if answer["Complete"] == false {
        text.push_str("not all workers have answered\n");
    }
    text
}

fn topped(answer: &Value) -> String {
    let seconds = answer["Seconds"].as_f64().unwrap_or(1.0).max(0.001);
    let rate = |value: &Value, scale: f64| format!("{:.3}", value.as_f64().unwrap_or(0.0) * scale / seconds);
    let row = |flow: &Value| {
        vec![
            cell(&flow["VpcId"]),
            protocol_name(&flow["Protocol"]),
            end(&flow["Source"]),
            end(&flow["Destination"]),
            rate(&flow["Bytes"], 8e-6),
            rate(&flow["Packets"], 1e-3),
            rate(&flow["Dropped"], 1e-3),
        ]
    };
    let headers = ["VPC", "PROTOCOL", "SOURCE", "DESTINATION", "MBIT/S", "KPACKETS/S", "KDROPS/S"];
    let mut text = table(&headers, items(answer, "Flows").iter().map(row));
    let total = &answer["Total"];
    text.push_str(&format!(
        "all {} flows: {} Mbit/s, {} kpackets/s, {} kdrops/s\n",
        cell(&answer["FlowsSeen"]),
        rate(&total["Bytes"], 8e-6),
        rate(&total["Packets"], 1e-3),
        rate(&total["Dropped"], 1e-3)
    ));
    match answer["PacketsNotSeen"].as_u64() {
        None | Some(0) => {}
        Some(missed) => {
            text.push_str(&format!("{missed} packets came too fast to be seen: real rates are higher\n"))
        }
    }
    text
}

fn killed(answer: &Value) -> String {
    let mut text = format!("{} connections ended\n", cell(&answer["Killed"]));
    if answer["Complete"] == false {
        text.push_str("not all connections could be looked at: ask again\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top_talkers_are_told_as_rates() {
        let end = |address: &str| json!({ "Address": address, "Port": 1 });
        let flow = json!({ "Protocol": 6, "Source": end("10.0.0.1"), "Destination": end("fd00::1"),
                           "Packets": 4000, "Bytes": 1_000_000, "Dropped": 0 });
        let total = json!({ "Packets": 4000, "Bytes": 1_000_000, "Dropped": 0 });
        let answer =
            json!({ "Seconds": 2.0, "Flows": [flow], "FlowsSeen": 1, "Total": total, "PacketsNotSeen": 7 });
        let shown = topped(&answer);
        assert!(
            shown.contains("4.000") && shown.contains("2.000") && shown.contains("[fd00::1]:1"),
            "{shown}"
        );
        assert!(shown.contains("7 packets came too fast"), "{shown}");
    }
}
