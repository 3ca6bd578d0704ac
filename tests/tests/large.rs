//! Each verb of `sgctl` on a policy of ten thousand groups, interfaces and more rules,
//! while a connection lives. What each takes is printed, which `--nocapture` shows, and not
//! judged: `cargo test --release -p system-tests --test large -- --nocapture`.

#[path = "../../control/policy/tests/common/large.rs"]
mod large;

use std::time::Instant;

use serde_json::{Value, json};
use system_tests::policy::{all, document, from_group, group};
use system_tests::{Conversation, Lab, Options};

const MANY: u32 = 10_000;

/// The server's port 4000 is open to clients; beside them the many.
fn policy(lab: &Lab) -> Value {
    let groups = [
        group("sg-servers", &[from_group("tcp", 4000, 4000, "sg-clients")], &[all()]),
        group("sg-clients", &[], &[all()]),
    ];
    let mut whole = document(lab, &groups, &[("server", &["sg-servers"]), ("client", &["sg-clients"])]);
    whole["Settings"] = json!({ "Quotas": "unlimited" });
    // The first would have the addresses of the laboratory.
    let first = 1 + lab.instances().len() as u32;
    let mut many = large::large(first + MANY, MANY, 1).to_document();
    let skipped: Vec<_> = (0..first).map(|n| json!(format!("eni-{n}"))).collect();
    for list in ["SecurityGroups", "NetworkInterfaces"] {
        let more = many[list].as_array_mut().expect("a list");
        more.retain(|item| !skipped.contains(&item["NetworkInterfaceId"]));
        whole[list].as_array_mut().expect("a list").append(more);
    }
    whole
}

/// The switch, and a connection through it.
struct Session<'l> {
    lab: &'l Lab,
    talk: Option<Conversation>,
}

impl Session<'_> {
    /// Runs `sgctl`, which answers with this status and, among the rest, these words. The
    /// connection lives on. Returns the answer.
    fn ask(&mut self, line: &str, expected: i32, words: &str) -> String {
        let arguments: Vec<&str> = line.split(' ').collect();
        let start = Instant::now();
        let (status, text) = self.lab.sgctl(&arguments);
        println!("{:>8.3} s  {line}", start.elapsed().as_secs_f64());
        let excerpt = || text.chars().take(2000).collect::<String>();
        assert_eq!(status, expected, "{line}: {}", excerpt());
        assert!(text.contains(words), "{line} says nothing of {words:?}: {}", excerpt());
        assert!(self.talk.as_mut().is_none_or(Conversation::lives), "the connection has ended with {line}");
        text
    }
}

#[test]
fn every_verb_answers_with_ten_thousand_groups_interfaces_and_rules() {
    let mut lab = Lab::new(&["server", "client"]);
    lab.start(&Options::default());
    let first = policy(&lab);
    let mut second = first.clone();
    let changed = &mut second["SecurityGroups"][77]["IpPermissions"][0];
    (changed["FromPort"], changed["ToPort"]) = (json!(9), json!(9));
    let file = |name: &str, policy: &Value| {
        let path = lab.folder().join(name);
        std::fs::write(&path, policy.to_string()).unwrap();
        path.to_str().unwrap().to_string()
    };
    let (first, second) = (file("first.json", &first), file("second.json", &second));
    let mut session = Session { lab: &lab, talk: None };
    session.ask(&format!("push {first}"), 0, "generation 1: 10003 groups");
    let (server, client) = (lab.instance("server"), lab.instance("client"));
    let _serving = server.serve(&["tcp-echo", "4000"]);
    assert!(!client.probe(&["tcp", &server.v4(), "4001"]), "for drops to show");
    session.talk = client.talk("tcp", &server.v4(), 4000);
    assert!(session.talk.is_some(), "it is open");
    let mut ask = |line: &str, status, words: &str| session.ask(line, status, words);

    ask(&format!("plan {second}"), 10, "2 rules and 0 other objects change");
    ask(&format!("push {second} --if-generation 1"), 0, "generation 2: 10003 groups");
    ask("rollback 1", 0, "generation 3: 10003 groups");
    ask(&format!("plan {first}"), 0, "nothing changes");
    for (what, words) in [
        ("status", "10002"),
        ("groups", "sg-9999"),
        ("rules", "sg-9999"),
        ("interfaces", "eni-9999"),
        ("ports", "in service"),
        ("workers", "running"),
        ("prefix-lists", "none"),
        ("stale", "none"),
        ("drops", "inbound_denied"),
        ("policy", "\"eni-9999\""),
    ] {
        ask(&format!("show {what}"), 0, words);
    }
    ask("export", 0, "\"eni-9999\"");
    ask("-o yaml export --generation 2", 0, "NetworkInterfaceId: eni-9999");
    ask("counters", 0, "eni-9999");
    ask("counters eni-server", 0, "eni-server");
    ask("drops", 0, "inbound_denied");
    ask("stale", 0, "none");
    ask("explain --from eni-client --to eni-server --port 4000", 0, "allowed, tracked");
    ask("explain --from eni-9999 --to eni-server --port 4000", 0, "denied: no inbound rule of eni-server");
    ask("flows list", 0, "established");
    ask("flows top --seconds 1", 0, "flows: ");
    ask("flows kill --address 192.0.2.1", 0, "0 connections ended");
    ask("trace --seconds 1", 0, "");
    ask("history", 0, "rollback to 1");
    ask("lint", 0, "no-inbound-rules");
    ask(&format!("lint {first}"), 0, "no-inbound-rules");
    ask("verify", 0, "tables and rules agree");
    let made = ask("create-group --name new --description new --vpc vpc-1", 0, "sg-");
    let made = made.lines().next().unwrap();
    ask(&format!("authorize {made} --ingress --protocol tcp --port 22 --group sg-1"), 0, "sgr-");
    ask(&format!("revoke {made} --ingress --protocol tcp --port 22 --group sg-1"), 0, "enforced");
    ask(&format!("set-groups eni-9999 {made}"), 0, "enforced");
    ask(&format!("delete-group {made}"), 2, "DependencyViolation");
    ask("set-groups eni-9999 sg-1", 0, "enforced");
    ask(&format!("copy-group {made} --name copy --description copy"), 0, "sg-");
    ask(&format!("delete-group {made}"), 0, "enforced");
    ask("prefix-list create --name many --max-entries 5 10.9.0.0/16", 0, "pl-");
    ask("port add third net_null0,no-rx=1", 0, "in service");
    ask("port show", 0, "third");
    ask("port remove third", 0, "is removed");
    lab.stop();
}
