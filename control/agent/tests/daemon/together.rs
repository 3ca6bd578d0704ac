//! Single changes that wait at the same moment, and are taken together: as if they had been
//! taken one after the other.

use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use crate::frozen::Frozen;
use crate::support::{Answer, Daemon, answer, ask, document, send};

/// A request: an action or another path, headers, and what is sent.
pub struct Asked {
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: String,
}

pub fn action(name: &str, request: &Value) -> Asked {
    Asked { method: "POST", path: format!("/v1/actions/{name}"), headers: vec![], body: request.to_string() }
}

impl Asked {
    pub fn if_match(mut self, generation: u64) -> Asked {
        self.headers.push(("if-match", format!("\"{generation}\"")));
        self
    }

    fn without_waiting(mut self) -> Asked {
        self.path += "?wait=false";
        self
    }

    fn with<R>(&self, ask: impl FnOnce(&str, &str, &[(&str, &str)], &[u8]) -> R) -> R {
        let headers: Vec<_> = self.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        ask(self.method, &self.path, &headers, self.body.as_bytes())
    }
}

/// Has these wait for the control thread, in this order.
fn sent(daemon: &Daemon, all: &[Asked]) -> Vec<UnixStream> {
    let sent = |asked: &Asked| {
        let mut stream = daemon.connect();
        asked.with(|method, path, headers, body| send(&mut stream, method, path, headers, body));
        // Which is answered without it, and so when that has been read.
        assert_eq!(daemon.get("/healthz").status, 200);
        stream
    };
    all.iter().map(sent).collect()
}

/// The answers to what waits at the same moment.
pub fn together(daemon: &Daemon, all: &[Asked]) -> Vec<Answer> {
    let frozen = Frozen::new(daemon, "control");
    let sent = sent(daemon, all);
    drop(frozen);
    sent.into_iter().map(answer).collect()
}

/// The answers to the same, asked one after the other.
fn one_by_one(daemon: &Daemon, all: &[Asked]) -> Vec<Answer> {
    let answered = |asked: &Asked| {
        asked.with(|method, path, headers, body| ask(daemon.connect(), method, path, headers, body))
    };
    all.iter().map(answered).collect()
}

/// Changes that were put into force, and how many times that was done.
fn batches(daemon: &Daemon) -> [f64; 2] {
    ["sum", "count"].map(|what| daemon.metric(&format!("sgswitch_push_batch_changes_{what}")))
}

/// What must be the same: all that is kept, with who made it by what.
fn kept(daemon: &Daemon) -> Vec<(Value, Value)> {
    let history = daemon.show("/v1/history")["History"].as_array().unwrap().clone();
    let with_policy = |mut entry: Value| {
        entry["Time"].take();
        let policy = daemon.show(&format!("/v1/history/{}", entry["Generation"]));
        (entry, sorted(policy))
    };
    history.into_iter().map(with_policy).collect()
}

/// A policy without regard to the order of its rules.
fn sorted(mut policy: Value) -> Value {
    policy["SecurityGroupRules"].as_array_mut().unwrap().sort_by_key(Value::to_string);
    policy
}

/// Asks one daemon together and another one by one, which must make no difference. Returns
/// both, with the answers.
fn compared(folders: &[tempfile::TempDir; 2], policy: &Value, all: &[Asked]) -> ([Daemon; 2], Vec<Answer>) {
    let daemons = folders.each_ref().map(|folder| configured(folder, "[store]\nkept = 1000\n"));
    daemons.iter().for_each(|daemon| drop(daemon.push(policy)));
    let answers = together(&daemons[0], all);
    for (n, (answer, expected)) in answers.iter().zip(one_by_one(&daemons[1], all)).enumerate() {
        assert_eq!((answer.status, answer.json()), (expected.status, expected.json()), "{}", all[n].path);
    }
    // The daemon itself asks for something once a second, which may come between.
    let [changes, times] = batches(&daemons[0]);
    assert!(times < changes / 4.0, "{changes} changes in {times} batches");
    assert_eq!(batches(&daemons[1]), [changes; 2]);
    let logs = daemons.each_ref().map(Daemon::log);
    assert!(logs[0].contains("generations ") && !logs[1].contains("generations "), "{}", logs[0]);
    assert_eq!(kept(&daemons[0]), kept(&daemons[1]));
    let [first, second] = daemons.each_ref().map(|daemon| daemon.show("/v1/status"));
    assert_eq!(first["Generation"], second["Generation"]);
    assert_eq!(first["EnforcedGeneration"], first["Generation"]);
    (daemons, answers)
}

fn configured(folder: &tempfile::TempDir, text: &str) -> Daemon {
    let config = folder.path().join("config.toml");
    std::fs::write(&config, text).unwrap();
    Daemon::start(folder.path(), &["--config", config.to_str().unwrap()])
}

fn folders() -> [tempfile::TempDir; 2] {
    [(), ()].map(|()| tempfile::tempdir().unwrap())
}

pub fn authorize(group: &str, port: u16) -> Asked {
    let rule = json!({ "IpProtocol": "tcp", "FromPort": port, "ToPort": port, "IpRanges": [{ "CidrIp": "10.0.0.0/8" }] });
    action("AuthorizeSecurityGroupIngress", &json!({ "GroupId": group, "IpPermissions": [rule] }))
}

fn revoke(group: &str, port: u16) -> Asked {
    let asked = authorize(group, port);
    Asked { path: asked.path.replace("Authorize", "Revoke"), ..asked }
}

fn regroup(interface: &str, groups: &[&str]) -> Asked {
    let request = json!({ "NetworkInterfaceId": interface, "Groups": groups });
    action("ModifyNetworkInterfaceAttribute", &request)
}

fn generations(answers: &[Answer]) -> Vec<u64> {
    answers
        .iter()
        .filter(|answer| answer.status == 200)
        .map(|a| a.json()["Generation"].as_u64().unwrap())
        .collect()
}

#[test]
fn changes_taken_together_are_what_they_are_one_by_one() {
    let folders = folders();
    let entries = |version: u64, net: &str| {
        action(
            "ModifyManagedPrefixList",
            &json!({ "PrefixListId": "pl-1", "CurrentVersion": version, "AddEntries": [{ "Cidr": net }] }),
        )
    };
    let broken = |path: &str, body: &str| Asked { body: body.to_string(), ..action(path, &json!({})) };
    let mut all = vec![
        authorize("sg-web", 1000),
        // Refused for what the one before has made, and not any more after the next.
        authorize("sg-web", 1000),
        revoke("sg-web", 1000),
        revoke("sg-web", 1000),
        authorize("sg-web", 1000),
        regroup("eni-1", &["sg-web", "sg-ops"]),
        regroup("eni-2", &["sg-none"]),
        regroup("eni-2", &["sg-ops", "sg-web"]),
        regroup("eni-2", &["sg-web"]),
        action("DeleteSecurityGroup", &json!({ "GroupId": "sg-ops" })),
        // Not settled by the edit alone.
        entries(1, "198.51.100.0/24"),
        entries(1, "203.0.113.0/24"),
        entries(2, "203.0.113.0/24"),
        action("LaunchRockets", &json!({})),
        broken("DeleteSecurityGroup", "{\"GroupId\": "),
        broken("DeleteSecurityGroup", "[]"),
        // Up to the quota and beyond.
        regroup("eni-1", &["sg-web"]),
    ];
    all.extend((2000..2065).map(|port| authorize("sg-ops", port)));
    all.extend((2000..2005).map(|port| revoke("sg-ops", port)));
    let (daemons, answers) = compared(&folders, &document(), &all);
    let generations = generations(&answers);
    assert!(generations.iter().copied().eq(2..2 + generations.len() as u64), "{generations:?}");
    let refused = answers.len() - generations.len();
    assert!(refused > 12 && generations.len() > 70, "{refused} of {}", answers.len());
    let counted = |result: &str| daemons[0].metric(&format!("sgswitch_pushes_total{{result=\"{result}\"}}"));
    assert_eq!([counted("ok"), counted("refused")], [1.0 + generations.len() as f64, refused as f64]);

    // Back into the middle of a batch, and there once more after a restart.
    let middle = 2 + generations.len() as u64 / 2;
    let path = format!("/v1/rollback/{middle}");
    let policies = daemons.each_ref().map(|daemon| {
        assert_eq!(ask(daemon.connect(), "POST", &path, &[], b"").status, 200);
        sorted(daemon.show("/v1/policy"))
    });
    assert_eq!(policies[0], policies[1]);
    assert_eq!(policies[0], sorted(daemons[1].show(&format!("/v1/history/{middle}"))));
    let kept_before = kept(&daemons[0]);
    let [first, _] = daemons;
    first.kill();
    let again = configured(&folders[0], "[store]\nkept = 1000\n");
    assert_eq!((kept(&again), sorted(again.show("/v1/policy"))), (kept_before, policies[0].clone()));
}

/// The usual policy without quotas, in which blocks lie within 64 others: as many as there may be.
fn nested() -> Value {
    let mut nested = document();
    let block = |length: u8| json!({ "IpProtocol": "udp", "FromPort": 7, "ToPort": 7, "Ipv6Ranges": [{ "CidrIpv6": format!("::/{length}") }] });
    nested["SecurityGroups"][1]["IpPermissions"] = (1..=64).map(block).collect();
    nested["Settings"] = json!({ "Quotas": "unlimited" });
    nested
}

#[test]
fn what_tables_refuse_drags_nobody_down() {
    let folders = folders();
    let deeper = || {
        let rule = json!({ "IpProtocol": "udp", "FromPort": 7, "ToPort": 7, "Ipv6Ranges": [{ "CidrIpv6": "::/65" }] });
        action("AuthorizeSecurityGroupIngress", &json!({ "GroupId": "sg-web", "IpPermissions": [rule] }))
    };
    let mut all: Vec<Asked> = (1..20).map(|port| authorize("sg-web", port)).collect();
    all.push(deeper());
    // It has not been made, so there is none to be described, and it is refused again.
    let path = "/v1/actions/UpdateSecurityGroupRuleDescriptionsIngress".to_string();
    all.push(Asked { path, ..deeper() });
    all.push(deeper());
    all.extend((20..40).map(|port| authorize("sg-web", port)));
    let ([daemon, _], answers) = compared(&folders, &nested(), &all);
    assert_eq!(generations(&answers).len(), 39);
    let codes: Vec<_> = answers.iter().filter(|a| a.status != 200).map(|a| a.errors()[0].0.clone()).collect();
    assert_eq!(codes, ["InvalidParameterValue", "InvalidPermission.NotFound", "InvalidParameterValue"]);

    // Nobody judges by what is between: it is kept as what it was, which cannot be in force.
    let revoked = Asked { path: deeper().path.replace("Authorize", "Revoke"), ..deeper() };
    let before = sorted(daemon.show("/v1/policy"));
    assert_eq!(generations(&together(&daemon, &[deeper(), revoked])), [41, 42]);
    let back = ask(daemon.connect(), "POST", "/v1/rollback/41", &[], b"");
    assert_eq!((back.status, daemon.show("/v1/status")["Generation"].clone()), (400, json!(42)));
    assert_eq!(sorted(daemon.show("/v1/policy")), before);
}

#[test]
fn a_condition_holds_for_what_those_before_have_made() {
    let folders = folders();
    let mut all = vec![
        authorize("sg-web", 1).if_match(1),
        authorize("sg-web", 2).if_match(1),
        authorize("sg-web", 3).if_match(2),
        authorize("sg-web", 4),
        authorize("sg-web", 5).if_match(3),
        authorize("sg-web", 1).if_match(4),
        authorize("sg-web", 6).if_match(4),
        authorize("sg-web", 7).if_match(6),
    ];
    all.extend((10..30).map(|port| authorize("sg-web", port).if_match(5)));
    let (_daemons, answers) = compared(&folders, &document(), &all);
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses[..9], [200, 412, 200, 200, 412, 400, 200, 412, 200]);
    assert!(answers[1].text().contains("generation 2 is in force"), "{}", answers[1].text());
    assert!(statuses[9..].iter().all(|status| *status == 412), "one wins: {statuses:?}");
}

#[test]
fn pushes_and_changes_are_done_in_the_order_in_which_they_came() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), &[]);
    daemon.push(&document());
    let push = Asked {
        method: "PUT",
        path: "/v1/policy".to_string(),
        headers: vec![],
        body: document().to_string(),
    };
    let rollback =
        Asked { method: "POST", path: "/v1/rollback/3".to_string(), headers: vec![], body: String::new() };
    let all = [
        authorize("sg-web", 1),
        authorize("sg-web", 2),
        push,
        authorize("sg-web", 1),
        authorize("sg-web", 3),
        rollback,
        authorize("sg-web", 4),
    ];
    let answers = together(&daemon, &all);
    let generation = |answer: &Answer| {
        assert_eq!(answer.status, 200, "{}", answer.text());
        let answer = answer.json();
        answer["Generation"].as_u64().or(answer["generation"].as_u64()).unwrap()
    };
    assert!(answers.iter().map(generation).eq(2..=8));
    let [changes, times] = batches(&daemon);
    assert!(changes == 5.0 && (3.0..=5.0).contains(&times), "{changes} changes in {times} batches");
    let ports = |generation: u64| {
        let policy = daemon.show(&format!("/v1/history/{generation}"));
        let groups = policy["SecurityGroups"].as_array().unwrap();
        let web = groups.iter().find(|group| group["GroupId"] == "sg-web").unwrap();
        let ports = web["IpPermissions"].as_array().unwrap().iter();
        ports.filter_map(|rule| rule["FromPort"].as_u64()).filter(|port| *port < 10).collect::<Vec<_>>()
    };
    assert_eq!(
        (1..=8).map(ports).collect::<Vec<_>>(),
        [vec![], vec![1], vec![1, 2], vec![], vec![1], vec![1, 3], vec![1, 2], vec![1, 2, 4],]
    );
    assert!(daemon.log().contains("generation 8: 3 groups"), "{}", daemon.log());
}

#[test]
fn who_does_not_want_to_wait_for_workers_does_not_and_the_others_are_told_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = configured(&folder, "[api]\nenforce_timeout_ms = 300\n");
    daemon.push(&document());
    let worker = Frozen::new(&daemon, "worker-0");
    let all = [authorize("sg-web", 1), authorize("sg-web", 2).without_waiting(), authorize("sg-web", 3)];
    let answers = together(&daemon, &all);
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [503, 200, 503]);
    assert_eq!(
        (answers[0].errors()[0].0.as_str(), &answers[1].json()["Enforced"]),
        ("NotEnforced", &json!(false))
    );
    let status = daemon.show("/v1/status");
    assert_eq!((&status["Generation"], &status["EnforcedGeneration"]), (&json!(4), &json!(1)));
    drop(worker);
    let answer = authorize("sg-web", 4).if_match(4).with(|m, p, h, b| ask(daemon.connect(), m, p, h, b));
    assert_eq!((answer.status, daemon.show("/v1/status")["EnforcedGeneration"].clone()), (200, json!(5)));
}
