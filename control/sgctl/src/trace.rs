//! `trace`: live packets, stage by stage; and the packets of a capture, likewise.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use hyper::Method;
use serde_json::Value;

use crate::EXIT_OTHER;
use crate::capture;
use crate::cli::{Arguments, Output};
use crate::client::{Ask, Failure, ask, stream};
use crate::output::{cell, items, print, table};

/// The longest trace that the daemon gives at a time.
const MAX_SECONDS: u64 = 60;

#[derive(Debug, Args)]
pub struct Trace {
    /// From or to this interface.
    #[arg(long, value_name = "ENI")]
    pub interface: Option<String>,
    /// That came in by this port of the switch.
    #[arg(long, value_name = "PORT")]
    pub by: Option<String>,
    /// From or to this address, or one of this block.
    #[arg(long, value_name = "ADDRESS|BLOCK")]
    pub address: Option<String>,
    /// Of this protocol: tcp, udp, icmp, icmpv6 or a number.
    #[arg(long, value_parser = policy::protocol_number)]
    pub protocol: Option<u8>,
    /// With this port of TCP or UDP at either end.
    #[arg(long)]
    pub port: Option<u16>,
    /// That passed, or that were dropped.
    #[arg(long, value_enum)]
    pub verdict: Option<Verdict>,
    /// That were dropped for this reason, such as inbound_denied.
    #[arg(long)]
    pub reason: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 100)]
    pub packets: usize,
    /// For so long at most.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=MAX_SECONDS))]
    pub seconds: u64,
    /// Write the packets to a capture file as well.
    #[arg(long, value_name = "FILE")]
    pub pcap: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Verdict {
    Passed,
    Dropped,
}

/// Shows packets while they come.
pub fn run(arguments: &Arguments, trace: &Trace) -> Result<ExitCode, Failure> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    let mut add = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            query.append_pair(key, &value);
        }
    };
    add("interface", trace.interface.clone());
    add("port_name", trace.by.clone());
    add("address", trace.address.clone());
    add("protocol", trace.protocol.map(|p| p.to_string()));
    add("port", trace.port.map(|p| p.to_string()));
    let verdict = trace.verdict.map(|v| match v {
        Verdict::Passed => "passed",
        Verdict::Dropped => "dropped",
    });
    add("verdict", verdict.map(str::to_string));
    add("reason", trace.reason.clone());
    add("packets", Some(trace.packets.to_string()));
    add("seconds", Some(trace.seconds.to_string()));
    // A capture is of whole frames.
    add("bytes", trace.pcap.is_some().then(|| "9216".to_string()));
    let path = format!("/v1/trace?{}", query.finish());
    let mut writer = trace.pcap.as_deref().map(capture::Writer::create).transpose()?;
    let mut seen = 0;
    stream(&arguments.socket, &path, |line| {
        let packet: Value = serde_json::from_str(line).map_err(|_| {
            Failure::local(EXIT_OTHER, "UnknownAnswer", "the daemon's trace has a line that is no JSON")
        })?;
        seen += 1;
        if let Some(writer) = &mut writer {
            writer.add(&packet)?;
        }
        match arguments.output {
            Output::Table => print(&in_words(&packet)),
            Output::Json => print(&format!("{packet}\n")),
            Output::Yaml => print(&format!("---\n{}", serde_yaml_ng::to_string(&packet).unwrap_or_default())),
        }
        Ok(())
    })?;
    writer.map(capture::Writer::finish).transpose()?;
    if seen == 0 && arguments.output == Output::Table {
        print("no packet fitted in that time\n");
    }
    Ok(ExitCode::SUCCESS)
}

/// A packet and its stages.
fn in_words(packet: &Value) -> String {
    let headline = packet["Packet"].as_str().unwrap_or("no packet");
    let mut text = format!("{} worker {}: {headline}\n", time(&packet["Time"]), cell(&packet["Worker"]));
    for stage in items(packet, "Stages") {
        text.push_str(&format!("  {:<9} {}\n", cell(&stage["Stage"]), cell(&stage["Text"])));
    }
    text
}

/// The time of day, in UTC.
fn time(seconds: &Value) -> String {
    let micros = (seconds.as_f64().unwrap_or(0.0) * 1e6) as u64;
    let (of_day, micros) = (micros / 1_000_000 % 86_400, micros % 1_000_000);
    format!("{:02}:{:02}:{:02}.{micros:06}", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

/// Asks what would become of the packets of a capture.
pub fn explain_capture(arguments: &Arguments, file: &Path, port: Option<&str>) -> Result<Value, Failure> {
    let mut request = capture::read(file)?;
    if let Some(port) = port {
        request["Port"] = port.into();
    }
    let body = Some(&request);
    ask(&arguments.socket, Ask { method: Method::POST, path: "/v1/explain/packets", body, if_match: None })
}

/// One line for each packet of a capture, and why for those that are dropped.
pub fn explained_capture(answer: &Value) -> String {
    let row = |packet: &Value| {
        let verdict = cell(&packet["Verdict"]);
        let class = [&packet["Class"], &packet["Reason"]].into_iter().find(|v| !v.is_null());
        let ends = items(packet, "Ends").iter().map(|end| {
            let rules = items(end, "rules");
            let near = items(end, "nearest")
                .iter()
                .map(|m| format!("{}: {}", cell(&m["group"]), cell(&m["reason"])));
            match (rules, end["network_acl"].as_str()) {
                (_, Some(acl)) => format!("{}: {acl} refuses it", cell(&end["interface"])),
                ([], None) => format!("{}: {}", cell(&end["interface"]), near.collect::<Vec<_>>().join("; ")),
                (rules, None) => {
                    let ids: Vec<String> = rules.iter().map(cell).collect();
                    format!("{}: by {}", cell(&end["interface"]), ids.join(", "))
                }
            }
        });
        vec![
            cell(&packet["Number"]),
            packet["Packet"].as_str().unwrap_or("no packet").to_string(),
            format!("{verdict} ({})", class.map_or(String::new(), cell)),
            ends.collect::<Vec<_>>().join("\n"),
        ]
    };
    table(&["NUMBER", "PACKET", "VERDICT", "WHY"], items(answer, "Packets").iter().map(row))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_packet_is_told_stage_by_stage() {
        let packet = json!({ "Time": 3661.5, "Worker": 1, "Packet": "tcp a > b SYN",
            "Stages": [{ "Stage": "receive", "Text": "60 bytes" }, { "Stage": "transmit", "Text": "dropped: x" }] });
        let expected =
            "01:01:01.500000 worker 1: tcp a > b SYN\n  receive   60 bytes\n  transmit  dropped: x\n";
        assert_eq!(in_words(&packet), expected);
    }
}
