//! The page of metrics: documented one by one, and understood by Prometheus.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Daemon, document};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The families of a page, each with its type.
fn families(page: &str) -> BTreeMap<String, String> {
    let family = |line: &str| {
        let mut words = line.strip_prefix("# TYPE ")?.split(' ');
        Some((words.next()?.to_string(), words.next()?.to_string()))
    };
    page.lines().filter_map(family).collect()
}

/// Those of the documentation: a line of a table begins with the name and its type.
fn documented() -> BTreeMap<String, (String, Vec<String>)> {
    let text = std::fs::read_to_string(repository().join("docs/metrics.md")).unwrap();
    let family = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let name = cells.next()?.trim_end_matches('`').to_string();
        let mut rest = cells.next()?.split(", ");
        let kind = rest.next()?.to_string();
        let labels = rest.filter_map(|word| Some(word.strip_prefix('`')?.split('`').next()?.to_string()));
        Some((name, (kind, labels.collect())))
    };
    text.lines().filter_map(family).collect()
}

fn daemon(folder: &Path) -> Daemon {
    let daemon = Daemon::start(folder, &[]);
    daemon.push(&document());
    daemon
}

#[test]
fn every_family_is_documented_with_its_type_and_labels() {
    let folder = tempfile::tempdir().unwrap();
    let page = daemon(folder.path()).get("/metrics").text();
    let (shown, documented) = (families(&page), documented());
    // Nothing has been dropped at an interface yet, and no port spreads packets over the
    // one worker: such families are not shown.
    let silent =
        BTreeSet::from(["sgswitch_interface_dropped_packets_total", "sgswitch_port_spread_packets_total"]);
    let names = |map: Vec<&String>| map.into_iter().cloned().collect::<BTreeSet<String>>();
    let missing: Vec<_> =
        names(shown.keys().collect()).difference(&names(documented.keys().collect())).cloned().collect();
    assert!(missing.is_empty(), "not in docs/metrics.md: {missing:?}");
    for (name, (kind, labels)) in &documented {
        if silent.contains(name.as_str()) {
            continue;
        }
        assert_eq!(shown.get(name), Some(kind), "{name}");
        let mut samples = page.lines().filter(|line| {
            let rest = line.strip_prefix(name.as_str());
            rest.is_some_and(|r| r.starts_with('{') || r.starts_with(' ') || r.starts_with("_bucket"))
        });
        let sample = samples.next().unwrap_or_else(|| panic!("{name} has no sample"));
        for label in labels {
            assert!(sample.contains(&format!("{label}=\"")), "{label} in {sample}");
        }
    }
}

#[test]
fn the_dashboard_and_the_alerts_name_only_what_there_is() {
    let known = documented();
    for file in ["alerts.yml", "dashboard.json"] {
        let text = std::fs::read_to_string(repository().join("packaging/monitoring").join(file)).unwrap();
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let words = text.split(|c: char| !is_name(c)).filter(|word| word.starts_with("sgswitch_"));
        let mut count = 0;
        for word in words {
            let family = word.trim_end_matches("_bucket");
            assert!(known.contains_key(family), "{word} in {file}");
            count += 1;
        }
        assert!(count > 10, "{file} names metrics");
    }
    let text = std::fs::read_to_string(repository().join("packaging/monitoring/dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    assert!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() > 10));
}

#[test]
fn every_alert_has_its_page_in_the_operators_manual() {
    let alerts = std::fs::read_to_string(repository().join("packaging/monitoring/alerts.yml")).unwrap();
    let manual = std::fs::read_to_string(repository().join("docs/operations.md")).unwrap();
    let names: Vec<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert_eq!(names.len(), 12);
    for name in names {
        assert!(manual.contains(name), "{name} in docs/operations.md");
        assert!(alerts.contains(&format!("operations.md#{}", name.to_lowercase())), "the place of {name}");
    }
}

/// A program of Debian's prometheus package, run to its end.
fn promtool(arguments: &[&str]) {
    let folder = repository().join("packaging/monitoring");
    let output = Command::new("promtool").args(arguments).current_dir(folder).output();
    let output = output.expect("scripts/test installs prometheus");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {arguments:?}: {text}");
}

#[test]
fn promtool_has_nothing_against_the_alerts_and_they_fire_when_they_should() {
    promtool(&["check", "rules", "alerts.yml"]);
    promtool(&["test", "rules", "alerts_test.yml"]);
}

struct Prometheus(Child, u16);

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Prometheus {
    /// The value of an expression, once it has one.
    fn value(&self, query: &str) -> f64 {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(value) = self.ask(query) {
                return value;
            }
            assert!(Instant::now() < deadline, "Prometheus does not know {query}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn ask(&self, query: &str) -> Option<f64> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.1)).ok()?;
        let query: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        write!(stream, "GET /api/v1/query?query={query} HTTP/1.0\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let answer: Value = serde_json::from_str(text.split_once("\r\n\r\n")?.1).ok()?;
        assert_eq!(answer["status"], "success", "{answer}");
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }
}

#[test]
fn prometheus_scrapes_it_and_understands_the_dashboard() {
    let folder = tempfile::tempdir().unwrap();
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (metrics, port) = (free(), free());
    let daemon = Daemon::start(folder.path(), &["--metrics", &format!("127.0.0.1:{metrics}")]);
    daemon.push(&document());
    let configuration = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: sgswitch, static_configs: [{{targets: ['127.0.0.1:{metrics}']}}]}}]\n\
         rule_files: ['{}']\n",
        repository().join("packaging/monitoring/alerts.yml").canonicalize().unwrap().display()
    );
    std::fs::write(folder.path().join("prometheus.yml"), configuration).unwrap();
    let child = Command::new("prometheus")
        .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", folder.path().join("tsdb").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("scripts/test installs prometheus");
    let prometheus = Prometheus(child, port);
    assert_eq!(prometheus.value("up{job=\"sgswitch\"}"), 1.0);
    assert_eq!(prometheus.value("sgswitch_generation"), 1.0);
    assert_eq!(prometheus.value("sgswitch_policy_objects{kind=\"interfaces\"}"), 2.0);
    assert_eq!(prometheus.value("sum(sgswitch_pushes_total{result=\"ok\"})"), 1.0);
    assert!(prometheus.value("sgswitch_push_enforced_seconds_sum") > 0.0);
    // Every expression of the dashboard is one.
    let text = std::fs::read_to_string(repository().join("packaging/monitoring/dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let mut count = 0;
    for target in targets {
        let expression =
            target["expr"].as_str().unwrap().replace("$__rate_interval", "10s").replace("$instance", ".*");
        prometheus.ask(&expression);
        count += 1;
    }
    assert!(count > 15, "{count}");
}
