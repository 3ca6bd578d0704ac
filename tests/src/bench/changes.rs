//! Changes of policy beside traffic: of one who makes them one after the other, and of
//! many who do, which the switch takes together.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::Bench;
use super::rules::{Third, document};
use super::strain::{Line, NEIGHBOURS, ROOM, beside, establish, lost};
use super::subjects::Setup;

/// How many change something at once.
const CLIENTS: [usize; 3] = [1, 16, 64];

/// The groups that an interface is in by turns.
const GROUPS: [&str; 2] = ["sg-0000000000000000c", "sg-0000000000000000d"];

/// An interface for each client, which no port serves.
fn interface(client: usize) -> Value {
    json!({
        "NetworkInterfaceId": name(client), "VpcId": "vpc-1",
        "MacAddress": format!("02:00:00:00:01:{client:02x}"),
        "Groups": [{ "GroupId": GROUPS[1] }], "Ipv6Addresses": [],
        "PrivateIpAddresses": [{ "PrivateIpAddress": format!("172.31.0.{client}"), "Primary": true }],
    })
}

fn name(client: usize) -> String {
    format!("eni-000000000000001{client:02}")
}

/// Single changes of interfaces' groups, each client of its own interface's.
pub(super) fn changes(bench: &Bench, time: Duration) -> io::Result<Vec<Line>> {
    let mut policy = document(NEIGHBOURS, Third::Nobody);
    let most = CLIENTS.into_iter().max().unwrap_or(0);
    if let Some(interfaces) = policy["NetworkInterfaces"].as_array_mut() {
        interfaces.extend((0..most).map(interface));
    }
    let setup = Setup {
        cores: vec![bench.core],
        connections: ROOM,
        allowance: ROOM / 4 * 3,
        policy,
        flow_logs: None,
    };
    let running = bench.start_switch(&NEIGHBOURS.load(), &setup)?;
    let counts = &running.counts;
    establish(counts)?;
    let batches = || bench.metric("sgswitch_push_batch_changes_count ");
    let line = |clients: usize| {
        let before = counts.phase(0b011, time)?;
        let batches_before = batches()?;
        let (changed, during) = beside(counts, time, |is_over| change(bench, clients, is_over))?;
        let batches = batches()? - batches_before;
        let per_second = changed as f64 / during.nanoseconds * 1e9;
        Ok(Line {
            name: format!("{clients} at once"),
            figures: vec![
                ("changes per second, each enforced and stored", per_second, 0),
                ("taken together", changed as f64 / batches as f64, 1),
                ("ns per packet before", before.per_packet(), 1),
                ("while they are made", during.per_packet(), 1),
                ("packets lost", during.totals.lost() as f64, 0),
            ],
            failure: lost(&during.totals, "while policies changed"),
        })
    };
    CLIENTS.into_iter().map(line).collect()
}

/// A connection that changes the groups of an interface.
struct Client {
    stream: UnixStream,
    /// Into one group, and into the other.
    requests: [Vec<u8>; 2],
    changed: u64,
}

impl Client {
    fn new(bench: &Bench, number: usize) -> io::Result<Client> {
        let request = |group: &str| {
            let body = json!({ "NetworkInterfaceId": name(number), "Groups": [group] }).to_string();
            format!(
                "POST /v1/actions/ModifyNetworkInterfaceAttribute HTTP/1.1\r\nHost: sgswitch\r\n\
                 Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
        };
        let requests = GROUPS.map(|group| request(group).into_bytes());
        Ok(Client { stream: UnixStream::connect(bench.socket())?, requests, changed: 0 })
    }

    fn ask(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.requests[self.changed as usize % 2])
    }

    /// Waits for the answer to what was asked.
    fn answer(&mut self) -> io::Result<()> {
        let mut bytes = [0; 4096];
        let mut have = 0;
        loop {
            let error = |text: &[u8]| io::Error::other(String::from_utf8_lossy(text).into_owned());
            match self.stream.read(&mut bytes[have..])? {
                0 => return Err(error(&bytes[..have])),
                more => have += more,
            }
            let answer = &bytes[..have];
            let Some(head) = answer.windows(4).position(|end| end == b"\r\n\r\n") else { continue };
            let text = std::str::from_utf8(&answer[..head]).unwrap_or_default();
            let length = text.split("\r\n").find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.and_then(|length| length.parse().ok()).unwrap_or(0);
            if !text.starts_with("HTTP/1.1 200 ") {
                return Err(error(answer));
            }
            if have == head + 4 + length {
                self.changed += 1;
                return Ok(());
            }
        }
    }
}

/// So many clients change groups until they are told to stop. Returns how often. Each asks
/// again as soon as it has its answer, all in one thread, which takes next to nothing of the
/// core that it shares with the switch.
fn change(bench: &Bench, clients: usize, is_over: &AtomicBool) -> io::Result<u64> {
    let mut clients: Vec<Client> =
        (0..clients).map(|number| Client::new(bench, number)).collect::<io::Result<_>>()?;
    clients.iter_mut().try_for_each(Client::ask)?;
    while !is_over.load(Ordering::Relaxed) {
        for client in &mut clients {
            client.answer()?;
            client.ask()?;
        }
    }
    clients.iter_mut().try_for_each(Client::answer)?;
    Ok(clients.iter().map(|client| client.changed).sum())
}
