//! Ports that come and go while the daemon runs.

use serde_json::{Value, json};

use crate::support::{Answer, Daemon, ask, command, document};

/// `RTE_MAX_ETHPORTS` of Debian's DPDK, and the most with those that are not DPDK's.
const MOST_OF_DPDK: usize = 32;
const MOST: usize = 256;

fn add(daemon: &Daemon, name: &str, device: &str) -> Answer {
    let body = json!({ "Name": name, "Device": device }).to_string();
    ask(daemon.connect(), "POST", "/v1/ports", &[], body.as_bytes())
}

fn remove(daemon: &Daemon, name: &str, query: &str) -> Answer {
    ask(daemon.connect(), "DELETE", &format!("/v1/ports/{name}{query}"), &[], b"")
}

/// Names, states and origins.
fn ports(daemon: &Daemon) -> Vec<(String, String, String)> {
    let all = daemon.show("/v1/ports");
    let text = |port: &Value, key: &str| port[key].as_str().unwrap_or_default().to_string();
    let ports = all["Ports"].as_array().unwrap().iter();
    ports.map(|port| (text(port, "Name"), text(port, "State"), text(port, "Origin"))).collect()
}

/// As cards are, which EAL looks for itself.
#[test]
fn a_port_that_was_added_and_that_eal_finds_at_the_next_start_is_one_port() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), &[]);
    assert_eq!(remove(&daemon, "net_null1", "").status, 200);
    assert_eq!(add(&daemon, "vm3", "net_null1,no-rx=1").status, 200);
    let both = [in_service("net_null0", "eal"), in_service("vm3", "added")];
    assert_eq!(ports(&daemon), both);
    assert!(daemon.stop().success());
    let daemon = Daemon::start(folder.path(), &[]);
    assert_eq!(ports(&daemon), both, "{}", daemon.log());
    assert_eq!(remove(&daemon, "vm3", "").status, 200);
    assert_eq!(ports(&daemon), [in_service("net_null0", "eal")]);
}

#[test]
fn a_port_changes_only_in_the_generation_that_was_meant() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), &[]);
    daemon.push(&document());
    let before = ports(&daemon);
    let ask = |method: &str, path: &str, generation: &str, body: &str| {
        ask(daemon.connect(), method, path, &[("If-Match", generation)], body.as_bytes())
    };
    let body = json!({ "Name": "vm3", "Device": "net_null7,no-rx=1" }).to_string();
    for generation in ["0", "2"] {
        let stale = ask("POST", "/v1/ports", generation, &body);
        assert_eq!(stale.status, 412, "{}", stale.text());
        assert_eq!(ask("DELETE", "/v1/ports/net_null1", generation, "").status, 412);
    }
    assert_eq!(ask("POST", "/v1/ports", "soon", &body).status, 400);
    assert_eq!(ports(&daemon), before);
    assert_eq!(ask("POST", "/v1/ports", "1", &body).status, 200);
    assert_eq!(ask("DELETE", "/v1/ports/vm3", "1", "").status, 200);
    assert_eq!(ports(&daemon), before);
}

fn in_service(name: &str, origin: &str) -> (String, String, String) {
    (name.into(), "in service".into(), origin.into())
}

fn refused(answer: &Answer, status: u16, code: &str, words: &str) {
    let body = answer.json();
    assert_eq!(answer.status, status, "{body}");
    assert_eq!(body["errors"][0]["code"], code, "{body}");
    assert!(body["errors"][0]["message"].as_str().unwrap().contains(words), "{body}");
}

#[test]
fn a_port_is_added_bound_and_removed_and_a_restart_remembers() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--port", "conf=net_null5,no-rx=1"];
    let daemon = Daemon::start(folder.path(), &arguments);
    let given =
        [in_service("conf", "configuration"), in_service("net_null0", "eal"), in_service("net_null1", "eal")];
    assert_eq!(ports(&daemon), given);
    let added = add(&daemon, "vm3", "net_null7,no-rx=1");
    assert_eq!(added.status, 200, "{}", added.text());
    assert_eq!(added.json()["Driver"], "net_null");
    assert_eq!(daemon.show("/v1/ports/vm3")["DeviceArguments"], "net_null7,no-rx=1");

    // Nothing binds it yet, so there is nothing to enforce.
    assert_eq!(daemon.show("/v1/status")["Generation"], 0);
    let mut policy = document();
    policy["Bindings"][0]["Port"] = "vm3".into();
    daemon.push(&policy);
    refused(&remove(&daemon, "vm3", ""), 400, "DependencyViolation", "serves eni-1");
    assert_eq!(remove(&daemon, "vm3", "?force=true").status, 200);
    let status = daemon.show("/v1/status");
    assert_eq!((&status["Generation"], &status["EnforcedGeneration"]), (&2.into(), &2.into()));
    // The policy still says so, may be pushed again with a notice, and says it to a port that comes back.
    let again = daemon.put("", &[], policy.to_string().as_bytes());
    assert_eq!(again.status, 200, "{}", again.text());
    assert!(again.text().contains("no port named 'vm3'"), "{}", again.text());
    let mut other = policy.clone();
    other["Bindings"][0]["Port"] = "vm4".into();
    assert_eq!(
        daemon.put("", &[], other.to_string().as_bytes()).status,
        400,
        "a port that never was is an error"
    );
    assert_eq!(add(&daemon, "vm3", "net_null8,no-rx=1").status, 200);
    assert_eq!(daemon.show("/v1/status")["Generation"], 4);
    assert_eq!(daemon.show("/v1/ports/vm3")["Role"], "eni-1");
    let history = daemon.show("/v1/history");
    assert_eq!(history["History"][0]["Change"], "port vm3 added");
    assert_eq!(history["History"][2]["Change"], "port vm3 removed");

    // The configuration's can go as well, and EAL's.
    for name in ["conf", "net_null1"] {
        assert_eq!(remove(&daemon, name, "?force=true").status, 200);
    }
    assert!(daemon.stop().success());
    let daemon = Daemon::start(folder.path(), &arguments);
    assert_eq!(ports(&daemon), [in_service("net_null0", "eal"), in_service("vm3", "added")]);
    assert_eq!(daemon.show("/v1/ports/vm3")["Role"], "eni-1");
    refused(&add(&daemon, "conf", "net_null9"), 400, "InvalidPort.Duplicate", "net_null5,no-rx=1");
    let back = add(&daemon, "conf", "net_null5,no-rx=1");
    assert_eq!(back.json()["Origin"], "configuration", "{}", back.text());
    assert!(daemon.stop().success());
    let daemon = Daemon::start(folder.path(), &arguments);
    assert_eq!(ports(&daemon).len(), 3, "{:?}", ports(&daemon));
}

#[test]
fn what_is_no_port_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), &[]);
    let before = ports(&daemon);
    let invalid = "InvalidParameterValue";
    for name in ["", "a b", "a/b", "ä", &"x".repeat(65)] {
        refused(&add(&daemon, name, "net_null7"), 400, invalid, "no name of a port");
    }
    for device in ["", ",iface=x", "net_null7\n", &"x".repeat(2000)] {
        refused(&add(&daemon, "vm3", device), 400, invalid, "device arguments");
    }
    let put = |body: &str| ask(daemon.connect(), "POST", "/v1/ports", &[], body.as_bytes());
    refused(&put("{}"), 400, invalid, "expected Name and Device");
    refused(&put("{\"Name\":\"a\",\"Device\":\"net_null7\",\"Speed\":1}"), 400, invalid, "Speed");
    refused(&add(&daemon, "net_null0", "net_null7"), 400, "InvalidPort.Duplicate", "there is a port named");
    refused(&add(&daemon, "vm3", "net_null0"), 400, "InvalidPort.Duplicate", "'net_null0' has the device");
    let bond = "net_bonding0,mode=1,slave=net_null7,slave=net_null0";
    refused(&add(&daemon, "bond", bond), 400, "InvalidPort.Duplicate", "has the device 'net_null0'");
    for device in ["net_nosuch0", "net_null7,colour=red", "0000:ff:1f.7"] {
        refused(&add(&daemon, "vm3", device), 503, "DeviceFailure", "cannot be opened");
    }
    refused(
        &add(&daemon, "vm3", "net_af_packet0,iface=nosuch0"),
        503,
        "DeviceFailure",
        "there is no interface 'nosuch0'",
    );
    refused(&remove(&daemon, "vm3", ""), 400, "InvalidPort.NotFound", "no port named 'vm3'");
    assert_eq!(remove(&daemon, "net_null0", "?force=yes").status, 400);
    assert_eq!(ports(&daemon), before);
    // Its place was not used up.
    assert_eq!(add(&daemon, "vm3", "net_null7,no-rx=1").status, 200);
}

#[test]
fn there_is_a_most_of_ports() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), &[]);
    let added = |name: &str, device: &str| {
        let added = add(&daemon, name, device);
        assert_eq!(added.status, 200, "{}", added.text());
    };
    (2..MOST_OF_DPDK).for_each(|n| added(&format!("vm{n}"), &format!("net_null{n},no-rx=1")));
    refused(&add(&daemon, "more", "net_null99,no-rx=1"), 400, "PortLimitExceeded", "32 devices of DPDK");
    for round in 0..3 {
        assert_eq!(remove(&daemon, "vm7", "").status, 200);
        added("vm7", &format!("net_null{},no-rx=1", 100 + round));
    }
    assert_eq!(ports(&daemon).len(), MOST_OF_DPDK);
    // Packet sockets have the other numbers.
    (MOST_OF_DPDK..MOST).for_each(|n| added(&format!("c{n}"), &format!("packet_socket{n},iface=lo")));
    refused(&add(&daemon, "more", "packet_socket999,iface=lo"), 400, "PortLimitExceeded", "256 ports");
    assert_eq!(remove(&daemon, "c99", "").status, 200);
    added("more", "packet_socket999,iface=lo");
    assert_eq!(ports(&daemon).len(), MOST);
}

#[test]
fn a_port_that_cannot_be_opened_is_shown_and_the_others_serve() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--port", "vm1=net_nosuch0", "--port", "vm2=net_af_packet0,iface=nosuch0"];
    let daemon = Daemon::start(folder.path(), &arguments);
    let port = daemon.show("/v1/ports/vm2");
    assert_eq!((&port["State"], &port["LinkUp"]), (&"failed".into(), &Value::Null));
    assert_eq!(port["Fault"], "there is no interface 'nosuch0'");
    assert!(daemon.log().contains("the port 'vm1' cannot be opened"), "{}", daemon.log());
    let metrics = daemon.get("/metrics").text();
    for line in [
        "sgswitch_port_up{port=\"vm1\"} 0",
        "sgswitch_port_up{port=\"net_null0\"} 1",
        "sgswitch_port_failures_total{port=\"vm2\"} 1",
        "sgswitch_port_failures_total{port=\"net_null0\"} 0",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    // It can be bound all the same: it may come.
    let mut policy = document();
    policy["Bindings"][0]["Port"] = "vm1".into();
    daemon.push(&policy);
    assert_eq!(remove(&daemon, "vm1", "?force=true").status, 200);
}

#[test]
fn devices_of_several_drivers_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let eal = "-l 0 --no-huge --no-shconf --no-pci -m 256";
    let daemon = Daemon::launch(folder.path(), command(folder.path(), &[], eal));
    let socket = folder.path().join("vm1.sock");
    let tap = format!("sgp{}", std::process::id());
    let at = |name: &str| std::path::Path::new("/sys/class/net").join(name);
    for _ in 0..2 {
        let vhost = add(&daemon, "vm1", &format!("net_vhost0,iface={}", socket.display()));
        assert_eq!((vhost.status, &vhost.json()["Driver"]), (200, &json!("net_vhost")), "{}", vhost.text());
        // No machine is plugged in yet.
        assert_eq!(vhost.json()["LinkUp"], false);
        assert!(socket.exists());
        let added = add(&daemon, "tap1", &format!("net_tap0,iface={tap}"));
        assert_eq!((added.status, &added.json()["Driver"]), (200, &json!("net_tap")), "{}", added.text());
        assert!(at(&tap).exists());
        for name in ["vm1", "tap1"] {
            assert_eq!(remove(&daemon, name, "").status, 200);
        }
        assert!(!socket.exists() && !at(&tap).exists());
    }
    assert!(daemon.stop().success());
}
