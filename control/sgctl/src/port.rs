//! `port`: what the switch is plugged into, while it runs.

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};

use crate::cli::Arguments;
use crate::client::{Ask, Failure, ask};
use crate::output::{cell, items, plain, table};

#[derive(Debug, Subcommand)]
pub enum Port {
    /// Add a port; it is there again after a restart.
    Add(Add),
    /// Remove a port; its device is closed.
    Remove(Remove),
    /// Show the ports, or all that is known of one.
    Show {
        /// Its name.
        name: Option<String>,
    },
}

#[derive(Debug, Args)]
pub struct Add {
    /// What bindings call it.
    pub name: String,
    /// Device arguments: a PCI address, or a virtual device such as
    /// packet_socket0,iface=veth0 or net_vhost0,iface=/run/vm1.sock. mtu=9000
    /// behind a card's sets its MTU.
    pub device: String,
    #[command(flatten)]
    pub when: When,
}

#[derive(Debug, Args)]
pub struct Remove {
    /// Its name.
    pub name: String,
    /// Also if the policy binds it: what it serves has no port then.
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub when: When,
}

#[derive(Debug, Args)]
pub struct When {
    /// Only if this generation of the policy is in force.
    #[arg(long, value_name = "N")]
    pub if_generation: Option<u64>,
}

/// Asks for what the verb says.
pub fn run(arguments: &Arguments, verb: &Port) -> Result<Value, Failure> {
    match verb {
        Port::Add(Add { name, device, when }) => {
            let body = json!({ "Name": name, "Device": device });
            let if_match = when.if_generation;
            let request = Ask { method: Method::POST, path: "/v1/ports", body: Some(&body), if_match };
            ask(&arguments.socket, request)
        }
        Port::Remove(Remove { name, force, when }) => {
            let path = format!("{}?force={force}", path(name));
            let if_match = when.if_generation;
            ask(&arguments.socket, Ask { method: Method::DELETE, path: &path, body: None, if_match })
        }
        Port::Show { name: None } => ask(&arguments.socket, Ask::get("/v1/ports")),
        Port::Show { name: Some(name) } => ask(&arguments.socket, Ask::get(&path(name))),
    }
}

/// Names that are none are refused by the daemon; here they only must not be part of the path.
fn path(name: &str) -> String {
    let escaped = name.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b':' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    });
    format!("/v1/ports/{}", escaped.collect::<String>())
}

/// What became of it, in words.
pub fn in_words(verb: &Port, answer: &Value) -> String {
    match verb {
        Port::Add(_) => {
            format!("port {} is in service ({})\n", cell(&answer["Name"]), cell(&answer["Driver"]))
        }
        Port::Remove(_) => format!("port {} is removed\n", cell(&answer["Name"])),
        Port::Show { name: None } => list(answer),
        Port::Show { name: Some(_) } => one(answer),
    }
}

/// A line for each port, and the reasons of those that are not in service.
pub fn list(answer: &Value) -> String {
    let columns = [
        ("PORT", "Name"),
        ("DEVICE", "Device"),
        ("DRIVER", "Driver"),
        ("ROLE", "Role"),
        ("STATE", "State"),
        ("LINK", "LinkUp"),
        ("RX", "RxPackets"),
        ("TX", "TxPackets"),
        ("MISSED", "RxMissed"),
        ("TX ERRORS", "TxErrors"),
    ];
    let faults = items(answer, "Ports").iter().filter(|port| port["Fault"].is_string());
    let faults = faults.map(|port| format!("{}: {}\n", cell(&port["Name"]), cell(&port["Fault"])));
    plain(answer, "Ports", &columns) + &faults.collect::<String>()
}

fn one(port: &Value) -> String {
    let main = port.as_object().into_iter().flatten().filter(|(key, _)| *key != "Extended");
    let extended =
        port["Extended"].as_object().into_iter().flatten().filter(|(_, value)| **value != json!(0));
    table(&["", ""], main.chain(extended).map(|(key, value)| vec![key.clone(), cell(value)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_piece_of_a_path() {
        assert_eq!(path("0000:01:00.0"), "/v1/ports/0000:01:00.0");
        assert_eq!(path("a/../b?c"), "/v1/ports/a%2F..%2Fb%3Fc");
    }
}
