//! Cases as data: each file of `tests/cases` is a policy and what happens to
//! packets under it, step by step.
//!
//! A step is one of these, with what is expected of it:
//! - a packet: `tcp FROM:PORT > TO:PORT FLAGS`, `udp FROM:PORT > TO:PORT`,
//!   `ping FROM > TO ID`, `pong FROM > TO ID`, `NUMBER FROM > TO`, or one of
//!   these behind `unreachable BY:` for an ICMP error about it. Expected is the
//!   class it passes in, or the reason it is dropped for;
//! - `wait: SECONDS`; `connections: NUMBER` to be found;
//! - an action of EC2's with its request, or `refused ACTION:` with the code
//!   expected and the request;
//! - `push:` another document, of which only the keys that differ are given.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use engine::addr::MacAddr;
use engine::packet::TcpFlags;
use engine::packet::build::{Packet, mac};
use libtest_mimic::{Arguments, Trial};
use serde_json::Value;
use system_tests::product::Product;
use system_tests::specification::Verdict;

/// The port that is the uplink.
const UPLINK: usize = 3;

fn main() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).expect("the cases").map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} has no cases", folder.display());
    let trial = |file: std::path::PathBuf| {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Trial::test(name, move || run(&file).map_err(Into::into))
    };
    libtest_mimic::run(&Arguments::from_args(), files.into_iter().map(trial).collect()).exit();
}

fn run(file: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(file).map_err(|e| e.to_string())?;
    let case: Value = serde_yaml_ng::from_str(&text).map_err(|e| e.to_string())?;
    let mut document = case["policy"].clone();
    let mut product = Product::new(case["connections"].as_u64().unwrap_or(1000) as usize);
    product.push(&document).map_err(|faults| format!("the policy: {faults:?}"))?;
    let steps = case["steps"].as_array().ok_or("there are no steps")?;
    for (number, step) in steps.iter().enumerate() {
        let steps = step.as_object().ok_or(format!("step {number} is no object"))?;
        for (what, expected) in steps {
            take(&mut product, &mut document, what, expected)
                .map_err(|error| format!("step {number}, {what}: {error}"))?;
        }
    }
    Ok(())
}

fn take(product: &mut Product, document: &mut Value, what: &str, expected: &Value) -> Result<(), String> {
    let same = |found: &str| match expected.as_str() == Some(found) {
        true => Ok(()),
        false => Err(format!("expected {expected}, found {found}")),
    };
    match what {
        "wait" => {
            product.now += expected.as_u64().ok_or("expected seconds")? as u32;
            return Ok(());
        }
        "connections" => {
            return match product.connections().len() as u64 {
                found if expected.as_u64() == Some(found) => Ok(()),
                found => Err(format!("expected {expected}, found {found}: {:?}", product.connections())),
            };
        }
        "push" => {
            let changed = expected.as_object().ok_or("expected an object")?;
            changed.iter().for_each(|(key, value)| document[key] = value.clone());
            return product.push(document).map_err(|faults| format!("{faults:?}"));
        }
        _ => {}
    }
    if let Some(action) = what.strip_prefix("refused ") {
        let request = &expected["request"];
        let refusal = product.act(action, request).ok_or("no such action")?;
        let faults = refusal.map(|_| ()).err().ok_or("it is not refused")?;
        let codes: Vec<&str> = faults.errors.iter().map(|f| f.code).collect();
        return if expected["code"] == codes[0] { Ok(()) } else { Err(format!("refused as {codes:?}")) };
    }
    if let Some(answer) = product.act(what, expected) {
        return answer.map(|_| ()).map_err(|faults| format!("{faults:?}"));
    }
    let (from, to, packet) = packet(what)?;
    let port = |address| port_of(product, address);
    let (sender, receiver) = (port(from), port(to));
    let frame = packet.frame(link(product, from), link(product, to));
    let (verdict, ports) = product.put(sender, &frame);
    match verdict {
        Verdict::Pass(class) if ports != [receiver] => Err(format!("{class}, but by the ports {ports:?}")),
        Verdict::Pass(class) => same(class),
        Verdict::Drop(reason) => same(reason),
    }
}

/// The interface that has an address, with the number of its port.
fn owner(product: &Product, address: IpAddr) -> Option<(&policy::NetworkInterface, usize)> {
    let owns = |i: &&policy::NetworkInterface| {
        i.addresses.contains(&address) || i.prefixes.iter().any(|p| p.contains(&address))
    };
    let interface = product.policy.interfaces.values().find(owns)?;
    let port = product.policy.port_of(&interface.id)?;
    Some((interface, system_tests::product::PORTS.iter().position(|p| *p == port)?))
}

fn port_of(product: &Product, address: IpAddr) -> usize {
    owner(product, address).map_or(UPLINK, |(_, port)| port)
}

fn link(product: &Product, address: IpAddr) -> MacAddr {
    owner(product, address).map_or(mac(99), |(interface, _)| interface.mac)
}

/// A packet in words: who sends it to whom, and the packet.
fn packet(words: &str) -> Result<(IpAddr, IpAddr, Packet), String> {
    if let Some((by, about)) = words.strip_prefix("unreachable ").and_then(|rest| rest.split_once(": ")) {
        let (sender, _, about) = packet(about)?;
        let by = address(by)?;
        let kind = if by.is_ipv4() { 3 } else { 1 };
        return Ok((by, sender, Packet::error_about(&by.to_string(), &about, kind, 0)));
    }
    let parts: Vec<&str> = words.split_whitespace().collect();
    let [kind, from, ">", to, rest @ ..] = &parts[..] else { return Err("these words are no step".into()) };
    match *kind {
        "tcp" | "udp" => {
            let ends = (socket(from)?, socket(to)?);
            let packet = match *kind {
                "udp" => Packet::udp(from, to, b"data"),
                _ => {
                    let (flags, seq, ack) = segment(rest, ends.0.port() > ends.1.port())?;
                    Packet::tcp(from, to, flags, seq, ack, b"")
                }
            };
            Ok((ends.0.ip(), ends.1.ip(), packet))
        }
        kind => {
            let id = rest.first().map_or(Ok(1), |id| id.parse()).map_err(|_| "expected an identifier")?;
            let (source, destination) = (address(from)?, address(to)?);
            let packet = match kind {
                "ping" => Packet::ping(from, to, id),
                "pong" => Packet::pong(from, to, id),
                number => {
                    let number = number.parse().map_err(|_| format!("'{number}' is no protocol"))?;
                    Packet::new(source.into(), destination.into(), number, vec![0; 8])
                }
            };
            Ok((source, destination, packet))
        }
    }
}

/// Flags and numbers as honest ends have them; the client has the higher port.
fn segment(flags: &[&str], client: bool) -> Result<(TcpFlags, u32, u32), String> {
    let (seq, ack) = if client { (101, 201) } else { (201, 101) };
    match flags {
        ["syn"] => Ok((TcpFlags::SYN, seq - 1, 0)),
        ["syn-ack"] => Ok((TcpFlags::SYN | TcpFlags::ACK, seq - 1, ack)),
        ["ack"] => Ok((TcpFlags::ACK, seq, ack)),
        ["fin"] => Ok((TcpFlags::FIN | TcpFlags::ACK, seq, ack)),
        ["rst"] => Ok((TcpFlags::RST | TcpFlags::ACK, seq, ack)),
        other => Err(format!("{other:?} are no flags")),
    }
}

fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("'{text}' is no address"))
}

fn socket(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("'{text}' is no address and port"))
}
