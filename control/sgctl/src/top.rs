//! `top`: a screen of workers, interfaces, flows and drops that renews itself.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers, poll, read};
use crossterm::{cursor, execute, terminal};
use serde_json::Value;

use crate::EXIT_OTHER;
use crate::cli::Arguments;
use crate::client::{Ask, Failure, ask, ask_silently};
use crate::flows::By;
use crate::output::{SIZE, cell, items, print};

#[derive(Debug, Args)]
pub struct Top {
    /// How long a look lasts.
    #[arg(long, default_value_t = 2, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=30))]
    pub every: u64,
    /// One look, and end.
    #[arg(long)]
    pub once: bool,
    /// Without flows: measuring those costs the workers some of their speed.
    #[arg(long)]
    pub no_flows: bool,
    /// By what flows are ranked.
    #[arg(long, value_enum, default_value_t = By::Bytes)]
    pub by: By,
}

/// The switch at one time.
#[derive(Clone, Debug, Default)]
struct Sample {
    at: Option<Instant>,
    status: Value,
    workers: Value,
    counters: Value,
    drops: Value,
    flows: Value,
}

/// Shows the screen until `q` or Ctrl-C; once, where nobody could press it.
pub fn run(arguments: &Arguments, top: &Top) -> Result<ExitCode, Failure> {
    let live = !top.once && std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    // A line for who waits would be in the middle of the screen.
    let get = |path: &str| match live {
        true => ask_silently(&arguments.socket, Ask::get(path)),
        false => ask(&arguments.socket, Ask::get(path)),
    };
    let mut before = sample(&get, None)?;
    if !live {
        let after = sample(&get, Some(top))?;
        print(&lines(&before, &after, 200, usize::MAX).join("\n"));
        print("\n");
        return Ok(ExitCode::SUCCESS);
    }
    let _screen = Screen::enter().map_err(|e| Failure::local(EXIT_OTHER, "TerminalError", e.to_string()))?;
    loop {
        let after = sample(&get, Some(top))?;
        let (width, height) = terminal::size().ok().filter(|(width, _)| *width > 0).unwrap_or(SIZE);
        let shown = lines(&before, &after, width.into(), usize::from(height).saturating_sub(1));
        draw(&shown);
        before = after;
        if wants_to_leave() {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// Asks for all of it. `top`: for so long, with the flows of that time.
fn sample(get: &impl Fn(&str) -> Result<Value, Failure>, top: Option<&Top>) -> Result<Sample, Failure> {
    let flows = match top {
        Some(top) if !top.no_flows => {
            let by = format!("{:?}", top.by).to_lowercase();
            get(&format!("/v1/flows/top?seconds={}&limit=50&by={by}", top.every))?
        }
        Some(top) => {
            std::thread::sleep(Duration::from_secs(top.every));
            Value::Null
        }
        None => Value::Null,
    };
    Ok(Sample {
        at: Some(Instant::now()),
        status: get("/v1/status")?,
        workers: get("/v1/workers")?,
        counters: get("/v1/counters")?,
        drops: get("/v1/drops")?,
        flows,
    })
}

/// The terminal, taken over and given back.
struct Screen;

impl Screen {
    fn enter() -> std::io::Result<Screen> {
        terminal::enable_raw_mode()?;
        let screen = Screen;
        execute!(std::io::stdout(), terminal::EnterAlternateScreen, cursor::Hide)?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        drop(execute!(std::io::stdout(), cursor::Show, terminal::LeaveAlternateScreen));
        drop(terminal::disable_raw_mode());
    }
}

fn draw(lines: &[String]) {
    let mut out = std::io::stdout().lock();
    drop(execute!(out, cursor::MoveTo(0, 0)));
    for line in lines {
        // Raw mode: a line feed alone goes straight down.
        drop(write!(out, "{line}\x1b[K\r\n"));
    }
    drop(execute!(out, terminal::Clear(terminal::ClearType::FromCursorDown)));
}

/// Whether a key was pressed that ends it.
fn wants_to_leave() -> bool {
    while poll(Duration::ZERO).unwrap_or(false) {
        let Ok(event) = read() else { return true };
        let Event::Key(KeyEvent { code, modifiers, .. }) = event else { continue };
        let interrupts = modifiers.contains(KeyModifiers::CONTROL) && code == KeyCode::Char('c');
        if interrupts || matches!(code, KeyCode::Char('q') | KeyCode::Esc) {
            return true;
        }
    }
    false
}

/// The difference of a number between two samples, for each second.
fn rate(before: &Value, after: &Value, key: &str, seconds: f64) -> f64 {
    let number = |value: &Value| value[key].as_f64().unwrap_or(0.0);
    (number(after) - number(before)).max(0.0) / seconds
}

/// A number with a unit's prefix, in at most six characters.
fn short(value: f64) -> String {
    let (value, unit) = match value {
        v if v >= 1e9 => (v / 1e9, "G"),
        v if v >= 1e6 => (v / 1e6, "M"),
        v if v >= 1e3 => (v / 1e3, "k"),
        v => (v, ""),
    };
    if unit.is_empty() { format!("{value:.0}") } else { format!("{value:.2}{unit}") }
}

/// The item of a list with the same value under this key.
fn same<'v>(list: &'v [Value], item: &Value, key: &str) -> &'v Value {
    list.iter().find(|other| other[key] == item[key]).unwrap_or(&Value::Null)
}

/// The screen: at most so wide and so high.
fn lines(before: &Sample, after: &Sample, width: usize, height: usize) -> Vec<String> {
    let seconds = match (before.at, after.at) {
        (Some(from), Some(to)) => to.duration_since(from).as_secs_f64().max(0.001),
        _ => 1.0,
    };
    let status = |key: &str| cell(&after.status[key]);
    let mut lines = vec![format!(
        "sgswitchd {}: {}, generation {}; {} connections, {} interfaces, {} mbufs in use",
        status("Version"),
        status("State"),
        status("Generation"),
        status("Connections"),
        status("NetworkInterfaces"),
        status("MbufsInUse"),
    )];
    lines.push(String::new());
    lines.push(format!(
        "{:<8}{:>5}{:>8}{:>10}{:>10}{:>10}{:>14}",
        "WORKER", "CPU", "BUSY", "RX/S", "TX/S", "HANDED", "CONNECTIONS"
    ));
    for worker in items(&after.workers, "Workers") {
        let old = same(items(&before.workers, "Workers"), worker, "Worker");
        let rate = |key| rate(old, worker, key, seconds);
        let (busy, idle) = (rate("BusyCycles"), rate("IdleCycles"));
        let share = if busy + idle > 0.0 { 100.0 * busy / (busy + idle) } else { 0.0 };
        lines.push(format!(
            "{:<8}{:>5}{:>7.1}%{:>10}{:>10}{:>10}{:>14}",
            cell(&worker["Worker"]),
            cell(&worker["Cpu"]),
            share,
            short(rate("Received")),
            short(rate("Transmitted")),
            short(rate("HandedOver")),
            cell(&worker["Connections"]),
        ));
    }
    drops(&mut lines, before, after, seconds);
    interfaces(&mut lines, before, after, seconds, height);
    flows(&mut lines, after);
    lines.truncate(height);
    lines.iter_mut().for_each(|line| *line = line.chars().take(width).collect());
    lines
}

fn drops(lines: &mut Vec<String>, before: &Sample, after: &Sample, seconds: f64) {
    let mut reasons: Vec<(f64, &String)> = after.drops["Drops"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(reason, _)| (rate(&before.drops["Drops"], &after.drops["Drops"], reason, seconds), reason))
        .filter(|(rate, _)| *rate > 0.0)
        .collect();
    reasons.sort_by(|a, b| b.0.total_cmp(&a.0));
    let shown: Vec<String> =
        reasons.iter().map(|(rate, reason)| format!("{reason} {}/s", short(*rate))).collect();
    let none = "none".to_string();
    lines.push(String::new());
    lines.push(format!("DROPS  {}", if shown.is_empty() { none } else { shown.join(", ") }));
}

fn interfaces(lines: &mut Vec<String>, before: &Sample, after: &Sample, seconds: f64, height: usize) {
    let old = items(&before.counters, "NetworkInterfaces");
    let mut busiest: Vec<(f64, &Value, &Value)> = items(&after.counters, "NetworkInterfaces")
        .iter()
        .zip(old.iter().chain(std::iter::repeat(&Value::Null)))
        .map(|(now, then)| {
            // The same place, unless the policy has changed between the two.
            let then = if then["NetworkInterfaceId"] == now["NetworkInterfaceId"] {
                then
            } else {
                same(old, now, "NetworkInterfaceId")
            };
            let all = ["InboundPackets", "OutboundPackets", "Dropped"];
            (all.iter().map(|key| rate(then, now, key, seconds)).sum(), now, then)
        })
        .collect();
    busiest.sort_by(|a, b| b.0.total_cmp(&a.0));
    lines.push(String::new());
    lines.push(format!(
        "{:<24}{:>10}{:>12}{:>10}{:>12}{:>10}{:>14}",
        "INTERFACE", "IN/S", "IN BIT/S", "OUT/S", "OUT BIT/S", "DROPS/S", "CONNECTIONS"
    ));
    let room = (height / 3).clamp(3, 15);
    for (_, now, then) in busiest.into_iter().take(room) {
        let rate = |key| rate(then, now, key, seconds);
        lines.push(format!(
            "{:<24}{:>10}{:>12}{:>10}{:>12}{:>10}{:>14}",
            cell(&now["NetworkInterfaceId"]),
            short(rate("InboundPackets")),
            short(8.0 * rate("InboundBytes")),
            short(rate("OutboundPackets")),
            short(8.0 * rate("OutboundBytes")),
            short(rate("Dropped")),
            cell(&now["Connections"]),
        ));
    }
}

fn flows(lines: &mut Vec<String>, after: &Sample) {
    let lasted = after.flows["Seconds"].as_f64().unwrap_or(1.0).max(0.001);
    let flows = items(&after.flows, "Flows");
    if flows.is_empty() {
        return;
    }
    lines.push(String::new());
    lines.push(format!("{:<70}{:>10}{:>10}{:>10}", "FLOW", "BIT/S", "PACKETS/S", "DROPS/S"));
    for flow in flows {
        let end = |end: &Value| format!("{} {}", cell(&end["Address"]), cell(&end["Port"]));
        let number = |key: &str| flow[key].as_f64().unwrap_or(0.0) / lasted;
        let name = format!(
            "{:<3} {} > {}",
            cell(&flow["Protocol"]),
            end(&flow["Source"]),
            end(&flow["Destination"])
        );
        lines.push(format!(
            "{name:<70}{:>10}{:>10}{:>10}",
            short(8.0 * number("Bytes")),
            short(number("Packets")),
            short(number("Dropped"))
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sample(at: Instant, n: u64) -> Sample {
        let interface = |id: &str, packets: u64| json!({ "NetworkInterfaceId": id, "InboundPackets": packets, "InboundBytes": packets * 100, "Connections": 1 });
        Sample {
            at: Some(at),
            status: json!({ "Version": "0.1.0", "State": "enforcing", "Generation": 7 }),
            workers: json!({ "Workers": [{ "Worker": 0, "Cpu": 1, "Received": n * 3000, "BusyCycles": n * 25, "IdleCycles": n * 75 }] }),
            counters: json!({ "NetworkInterfaces": [interface("eni-quiet", 9), interface("eni-busy", n * 2_000_000)] }),
            drops: json!({ "Drops": { "inbound_denied": n * 10, "truncated": 4 } }),
            flows: Value::Null,
        }
    }

    #[test]
    fn the_screen_shows_rates_and_the_busiest_first() {
        let start = Instant::now();
        let (before, after) = (sample(start, 1), sample(start + Duration::from_secs(2), 3));
        let shown = lines(&before, &after, 200, 100);
        let text = shown.join("\n");
        assert!(text.contains("25.0%") && text.contains("3.00k") && text.contains("generation 7"), "{text}");
        assert!(text.contains("inbound_denied 10/s") && !text.contains("truncated"), "{text}");
        let at = |id: &str| shown.iter().position(|line| line.starts_with(id)).unwrap();
        assert!(at("eni-busy") < at("eni-quiet"));
        assert!(shown[at("eni-busy")].contains("2.00M") && shown[at("eni-busy")].contains("1.60G"), "{text}");
    }

    #[test]
    fn the_screen_fits_the_terminal() {
        let start = Instant::now();
        let shown = lines(&sample(start, 1), &sample(start, 3), 40, 6);
        assert_eq!(shown.len(), 6);
        assert!(shown.iter().all(|line| line.chars().count() <= 40));
    }
}
