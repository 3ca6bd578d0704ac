//! A policy's life: pushed, shown, explained, kept over restarts.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Daemon, EAL, ask, command, document};

/// The steps of a push that the metrics time.
const STEPS: [&str; 10] = [
    "wait",
    "parse",
    "validate",
    "compile",
    "arrange",
    "self_check",
    "store",
    "account",
    "publish",
    "enforce",
];

fn names(answer: &Value, list: &str, key: &str) -> Vec<String> {
    let items = answer[list].as_array().unwrap_or_else(|| panic!("no {list} in {answer}"));
    items.iter().map(|item| item[key].as_str().unwrap_or("-").to_string()).collect()
}

#[test]
fn a_policy_is_pushed_shown_and_restored() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), &[]);
    let status = daemon.show("/v1/status");
    assert_eq!((&status["State"], &status["Generation"]), (&json!("closed"), &json!(0)), "D29: closed");
    assert_eq!(daemon.get("/v1/policy").status, 404);
    assert_eq!(daemon.show("/v1/groups"), json!({ "Generation": 0, "SecurityGroups": [] }));

    let answer = daemon.put("", &[], document().to_string().as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.head.contains("etag: \"1\""), "{}", answer.head);
    let pushed = answer.json();
    assert_eq!(
        (&pushed["generation"], &pushed["enforced"], &pushed["groups"], &pushed["interfaces"]),
        (&json!(1), &json!(true), &json!(3), &json!(2)),
        "with the default group of the VPC"
    );
    for step in STEPS {
        assert_eq!(daemon.metric(&format!("sgswitch_push_step_seconds_count{{step=\"{step}\"}}")), 1.0);
    }

    let exported = daemon.get("/v1/policy");
    assert!(exported.head.contains("etag: \"1\""));
    assert_eq!(daemon.push(&exported.json())["generation"], 2);
    assert_eq!(daemon.get("/v1/policy").json(), exported.json(), "pushing an export back changes nothing");
    assert!(daemon.stop().success());
    assert!(!folder.path().join("sg.sock").exists());

    let daemon = Daemon::start(folder.path(), &[]);
    let status = daemon.show("/v1/status");
    assert_eq!((&status["State"], &status["Generation"]), (&json!("enforcing"), &json!(2)));
    assert_eq!(status["EnforcedGeneration"], 2, "every worker has it from its first packet on");
    assert_eq!(daemon.metric("sgswitch_worker_generation{worker=\"0\"}"), 2.0);
    assert_eq!(daemon.get("/v1/policy").json(), exported.json());
    assert_eq!(daemon.push(&document())["generation"], 3, "and the count goes on");
}

#[test]
fn views_have_what_was_pushed() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), &[]);
    let mut with_stale = document();
    let gone = json!({ "IpProtocol": "udp", "FromPort": 53, "ToPort": 53, "UserIdGroupPairs": [{ "GroupId": "sg-gone" }] });
    with_stale["SecurityGroups"][1]["IpPermissions"] = json!([gone]);
    daemon.push(&with_stale);

    let groups = daemon.show("/v1/groups");
    let mut ids = names(&groups, "SecurityGroups", "GroupId");
    ids.retain(|id| id == "sg-web" || id == "sg-ops");
    assert_eq!(ids, ["sg-ops", "sg-web"]);
    let rules = daemon.show("/v1/rules");
    assert!(
        names(&rules, "SecurityGroupRules", "SecurityGroupRuleId").iter().all(|id| id.starts_with("sgr-"))
    );
    let interfaces = daemon.show("/v1/interfaces");
    assert_eq!(names(&interfaces, "NetworkInterfaces", "Port"), ["net_null0", "net_null1"]);
    let ports = daemon.show("/v1/ports");
    assert_eq!(names(&ports, "Ports", "Name"), ["net_null0", "net_null1"]);
    assert_eq!(names(&ports, "Ports", "Role"), ["eni-1", "eni-2"]);
    assert_eq!(names(&daemon.show("/v1/prefix-lists"), "PrefixLists", "PrefixListId"), ["pl-1"]);
    let stale = daemon.show("/v1/stale");
    assert_eq!(names(&stale, "StaleRules", "GroupId"), ["sg-ops"], "D10: kept, listed, matches nothing");
    let workers = daemon.show("/v1/workers");
    let worker = &workers["Workers"][0];
    for key in ["Received", "TableHits", "TableMisses", "Connections", "HandedOver", "BusyCycles"] {
        assert!(worker[key].is_u64(), "{key} in {worker}");
    }
    assert!(worker["Stages"]["parse"]["Cycles"].is_u64() && worker["Drops"].is_object(), "{worker}");
    let flows = daemon.show("/v1/flows");
    assert_eq!(flows, json!({ "Generation": 1, "Flows": [], "Truncated": false, "Complete": true }));
}

#[test]
fn packets_are_explained() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), &[]);
    let explain =
        |question: Value| ask(daemon.connect(), "POST", "/v1/explain", &[], question.to_string().as_bytes());
    let question =
        |from: &str, port: u16| json!({ "from": from, "to": "eni-1", "protocol": "tcp", "port": port });
    let closed = explain(question("198.51.100.1", 443));
    assert!(closed.status == 400 && closed.text().contains("closed"), "{}", closed.text());
    daemon.push(&document());
    for (from, port, allowed) in [
        ("198.51.100.1", 443, true),
        ("198.51.100.1", 442, false),
        ("198.51.100.1", 22, false),
        ("10.0.0.2", 22, true),
        ("10.0.0.2", 23, false),
    ] {
        let explanation = explain(question(from, port)).json();
        assert_eq!(explanation["allowed"], allowed, "{from} to {port}: {explanation}");
    }
    for wrong in [
        question("eni-9", 22),
        json!({ "from": "10.0.0.2" }),
        json!({ "from": "10.0.0.2", "to": "eni-1", "protocol": "tcp", "colour": 1 }),
        json!([]),
    ] {
        let answer = explain(wrong);
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert_eq!(answer.errors()[0].0, "InvalidParameterValue");
    }
}

#[test]
fn a_stored_policy_is_restored_without_the_ports_that_are_gone() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), &[]);
    daemon.push(&document());
    let refused = {
        let mut unknown = document();
        unknown["Bindings"][0]["Port"] = json!("net_null7");
        daemon.put("", &[], unknown.to_string().as_bytes())
    };
    assert_eq!(refused.status, 400, "a push that names no port of ours is refused: {}", refused.text());
    assert_eq!(refused.errors()[0].1, "Bindings[0].Port");
    assert!(daemon.stop().success());

    let fewer = EAL.replace(" --vdev net_null1,no-rx=1", "");
    let daemon = Daemon::launch(folder.path(), command(folder.path(), &[], &fewer));
    assert!(daemon.log().contains("net_null1"), "a warning names the port:\n{}", daemon.log());
    assert_eq!(daemon.show("/v1/status")["Generation"], 1);
    assert_eq!(names(&daemon.show("/v1/interfaces"), "NetworkInterfaces", "Port"), ["net_null0", "-"]);
}

#[test]
fn a_push_need_not_wait_and_is_enforced_soon() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), &[]);
    let answer = daemon.put("?wait=false", &[], document().to_string().as_bytes());
    assert_eq!((answer.status, &answer.json()["enforced"]), (200, &json!(false)));
    let deadline = Instant::now() + Duration::from_secs(10);
    while daemon.show("/v1/status")["EnforcedGeneration"] != 1 {
        assert!(Instant::now() < deadline, "a worker has not taken it up");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_is_dropped_is_counted_by_reason() {
    let folder = tempfile::tempdir().unwrap();
    // A port that delivers frames of zeros without end.
    let eal = "-l 0 --no-huge --no-shconf --no-pci -m 64 --vdev net_null0,size=64";
    let daemon = Daemon::launch(folder.path(), command(folder.path(), &["--port", "vm1=net_null0"], eal));
    let deadline = Instant::now() + Duration::from_secs(10);
    while daemon.metric("sgswitch_received_packets_total{worker=\"0\"}") == 0.0 {
        assert!(Instant::now() < deadline, "nothing is received");
        std::thread::sleep(Duration::from_millis(20));
    }
    let drops = daemon.show("/v1/drops");
    let [(reason, count)] = &drops["Drops"].as_object().unwrap().iter().collect::<Vec<_>>()[..] else {
        panic!("frames that are alike are dropped for one reason: {drops}");
    };
    assert!(count.as_u64().unwrap() > 0);
    let metric = format!("sgswitch_dropped_packets_total{{reason=\"{reason}\",worker=\"0\"}}");
    assert!(daemon.metric(&metric) >= count.as_f64().unwrap());
    assert_eq!(names(&daemon.show("/v1/ports"), "Ports", "Name"), ["vm1"], "by the name it was given");
    assert!(daemon.stop().success(), "also under load");
}
