//! What operators do, by `sgctl`, to a switch between real network stacks.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use system_tests::policy::{all, document, from_everyone, from_group, group};
use system_tests::{Lab, Options};

const EXIT_CHANGES: i32 = 10;

/// The server's ports 4000, open to everyone and so untracked there, and 4001,
/// open to clients.
fn policy(lab: &Lab, open: bool) -> Value {
    let inbound: &[Value] = if open {
        &[from_everyone("tcp", 4000, 4000), from_group("tcp", 4001, 4001, "sg-clients")]
    } else {
        &[]
    };
    let groups = [group("sg-servers", inbound, &[all()]), group("sg-clients", &[], &[all()])];
    document(lab, &groups, &[("server", &["sg-servers"]), ("client", &["sg-clients"])])
}

fn started() -> Lab {
    let mut lab = Lab::new(&["server", "client"]);
    lab.start(&Options::default());
    lab.push(&policy(&lab, true));
    lab
}

/// A document as a file for as long as it is used.
fn with_file<R>(content: &Value, work: impl FnOnce(&str) -> R) -> R {
    let path = std::env::temp_dir().join(format!("sgswitch-operator-{}.json", std::process::id()));
    std::fs::write(&path, content.to_string()).unwrap();
    let result = work(path.to_str().unwrap());
    std::fs::remove_file(path).unwrap();
    result
}

fn json(lab: &Lab, arguments: &[&str]) -> (i32, Value) {
    let (code, text) = lab.sgctl(&[&["-o", "json"], arguments].concat());
    (code, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

fn ports(flows: &Value) -> Vec<u64> {
    let flows = flows["Flows"].as_array().unwrap();
    flows.iter().map(|flow| flow["Responder"]["Port"].as_u64().unwrap()).collect()
}

#[test]
fn s45_s46_what_a_plan_foretells_is_what_a_push_does_and_a_rollback_undoes() {
    let mut lab = started();
    let (server, client) = (lab.instance("server").clone(), lab.instance("client").clone());
    let _servers = ["4000", "4001"].map(|port| server.serve(&["tcp-echo", port]));
    let mut untracked = client.talk("tcp", &server.v4(), 4000).expect("it is open");
    let mut tracked = client.talk("tcp", &server.v4(), 4001).expect("it is open");
    assert!(untracked.lives() && tracked.lives());

    let (code, same) = with_file(&policy(&lab, true), |file| json(&lab, &["plan", file]));
    assert_eq!((code, &same["Changes"]), (0, &Value::Bool(false)));
    let closed = policy(&lab, false);
    let (code, plan) = with_file(&closed, |file| json(&lab, &["plan", file]));
    assert_eq!((code, &plan["Changes"]), (EXIT_CHANGES, &Value::Bool(true)));
    assert_eq!(ports(&plan["Flows"]["Cut"]), [4000], "{plan}");
    assert_eq!(ports(&plan["Flows"]["Outlive"]), [4001], "{plan}");
    assert!(untracked.lives() && tracked.lives(), "a plan changes nothing");
    let (_, words) = with_file(&closed, |file| lab.sgctl(&["plan", file]));
    assert!(words.contains("1 live flows stop, 1 outlive their rule"), "{words}");

    lab.push(&closed);
    assert!(!untracked.lives(), "it is cut, as foretold");
    assert!(tracked.lives(), "it outlives its rule, as foretold");
    assert!(client.talk("tcp", &server.v4(), 4001).is_none(), "a new one may not");

    let (code, text) = lab.sgctl(&["flows", "kill", "--no-longer-allowed"]);
    assert_eq!(code, 0, "{text}");
    assert!(!tracked.lives(), "an operator has ended it");

    let (code, text) = lab.sgctl(&["rollback", "1"]);
    assert_eq!(code, 0, "{text}");
    assert!(client.talk("tcp", &server.v4(), 4001).is_some_and(|mut talk| talk.lives()));
    let (_, history) = lab.sgctl(&["history"]);
    assert!(history.contains("rollback to 1") && history.contains("root"), "{history}");
    lab.stop();
}

#[test]
fn a_trace_is_written_as_a_capture_and_the_capture_explained() {
    let mut lab = started();
    let (server, client) = (lab.instance("server").clone(), lab.instance("client").clone());
    let _server = server.serve(&["tcp-echo", "4000"]);
    let capture = std::env::temp_dir().join(format!("sgswitch-operator-{}.pcap", std::process::id()));
    let file = capture.to_str().unwrap();
    let (address, done) = (server.v4(), AtomicBool::new(false));
    let trace = [
        "trace",
        "--address",
        &address,
        "--protocol",
        "tcp",
        "--packets",
        "12",
        "--seconds",
        "20",
        "--pcap",
        file,
    ];
    let (code, text) = std::thread::scope(|scope| {
        let tracing = scope.spawn(|| lab.sgctl(&trace));
        let traffic = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                assert!(client.probe(&["tcp", &server.v4(), "4000"]));
                assert!(!client.probe(&["tcp", &server.v4(), "4002"]));
            }
        });
        let traced = tracing.join().unwrap();
        done.store(true, Ordering::Relaxed);
        traffic.join().unwrap();
        traced
    });
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("SYN") && text.contains("from eni-client") && text.contains("receive "), "{text}");
    let (code, explained) = json(&lab, &["explain", "--pcap", file]);
    let (_, words) = lab.sgctl(&["explain", "--pcap", file]);
    std::fs::remove_file(&capture).unwrap();
    assert_eq!((code, explained["Packets"].as_array().unwrap().len()), (0, 12), "{explained}");
    assert!(words.contains("passed (new_tracked)"), "{words}");
    let (code, text) = lab.sgctl(&["explain", "--pcap", "/nonexistent.pcap"]);
    assert!(code == 1 && text.contains("/nonexistent.pcap"), "{text}");
    lab.stop();
}

#[test]
fn whoever_looks_disturbs_no_packet() {
    let mut lab = started();
    let (server, client) = (lab.instance("server").clone(), lab.instance("client").clone());
    let _server = server.serve(&["transfer-server", "4000"]);
    let looks: [&[&str]; 10] = [
        &["show", "status"],
        &["show", "workers"],
        &["show", "interfaces"],
        &["flows", "list", "--untracked"],
        &["flows", "top", "--seconds", "1"],
        &["counters"],
        &["drops"],
        &["verify"],
        &["lint"],
        &["trace", "--packets", "200", "--seconds", "1"],
    ];
    let done = AtomicBool::new(false);
    let lost: Vec<i64> = std::thread::scope(|scope| {
        let looker = scope.spawn(|| {
            let mut count = 0;
            while !done.load(Ordering::Relaxed) {
                for look in looks {
                    let (code, text) = lab.sgctl(look);
                    assert!(code == 0 || code == EXIT_CHANGES, "{look:?}: {text}");
                    assert!(!lab.metrics().is_empty());
                    count += 1;
                }
            }
            count
        });
        // A stream that fills no ring; a machine that stands still may cost a segment, but not each time.
        let lost = (0..3).map(|_| {
            let before = client.lost_segments();
            assert!(client.probe(&["transfer", "trickle", &server.v4(), "4000", &(8 << 20).to_string()]));
            client.lost_segments() - before
        });
        let lost = lost.collect();
        done.store(true, Ordering::Relaxed);
        assert!(looker.join().unwrap() >= 10);
        lost
    });
    assert!(lost.iter().any(|lost| *lost <= 0), "{lost:?} segments were lost");
    lab.stop();
}
