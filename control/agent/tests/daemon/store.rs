//! The store of a running daemon: history and rollback, a kill at any moment, a
//! full disk, a damaged file.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Answer, Daemon, ask, document};
use crate::together::{action, authorize, together};

/// The usual policy, open at another port.
fn open_at(port: u64) -> Value {
    let mut document = document();
    document["SecurityGroups"][0]["IpPermissions"][0]["FromPort"] = json!(port);
    document["SecurityGroups"][0]["IpPermissions"][0]["ToPort"] = json!(port);
    document
}

/// The port that a daemon's policy is open at.
fn port_of(policy: &Value) -> u64 {
    let groups = policy["SecurityGroups"].as_array().unwrap();
    let web = groups.iter().find(|group| group["GroupId"] == "sg-web").unwrap();
    let rules = web["IpPermissions"].as_array().unwrap();
    let ports = rules.iter().filter_map(|rule| rule["FromPort"].as_u64()).filter(|port| *port != 22);
    let [port] = ports.collect::<Vec<_>>()[..] else { panic!("{policy}") };
    port
}

fn rollback(daemon: &Daemon, generation: u64, headers: &[(&str, &str)]) -> Answer {
    ask(daemon.connect(), "POST", &format!("/v1/rollback/{generation}"), headers, b"")
}

#[test]
fn history_tells_who_did_what_and_rollback_undoes_it() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), &[]);
    let unknown = rollback(&daemon, 1, &[]);
    assert!(unknown.status == 400 && unknown.text().contains("there is none yet"), "{}", unknown.text());
    daemon.push(&open_at(443));
    daemon.push(&open_at(8443));
    let request = json!({ "GroupName": "new", "Description": "a new one", "VpcId": "vpc-1" });
    let made =
        ask(daemon.connect(), "POST", "/v1/actions/CreateSecurityGroup", &[], request.to_string().as_bytes());
    assert_eq!(made.status, 200);
    let first = daemon.show("/v1/history/1");
    let conflict = rollback(&daemon, 1, &[("if-match", "\"1\"")]);
    assert_eq!((conflict.status, daemon.show("/v1/status")["Generation"].clone()), (412, json!(3)));
    assert_eq!(rollback(&daemon, 1, &[("if-match", "\"3\"")]).json()["generation"], 4);
    let policy = daemon.show("/v1/policy");
    assert_eq!((port_of(&policy), &policy), (443, &first));
    let history = daemon.show("/v1/history")["History"].as_array().unwrap().clone();
    let changes: Vec<&str> = history.iter().map(|entry| entry["Change"].as_str().unwrap()).collect();
    assert_eq!(changes, ["rollback to 1", "CreateSecurityGroup", "push", "push"]);
    let in_force: Vec<bool> = history.iter().map(|entry| entry["InForce"] == true).collect();
    assert_eq!(in_force, [true, false, false, false]);
    assert_eq!((&history[0]["User"], &history[0]["Uid"]), (&json!("root"), &json!(0)));
    assert_eq!((&history[1]["SecurityGroups"], &history[1]["NetworkInterfaces"]), (&json!(4), &json!(2)));
    assert_eq!(daemon.show("/v1/history?limit=1")["History"].as_array().unwrap().len(), 1);
    for generation in [0, 5, u64::MAX] {
        let refused = rollback(&daemon, generation, &[]);
        assert!(refused.status == 400 && refused.text().contains("1 to 4 are"), "{}", refused.text());
        assert_eq!(daemon.get(&format!("/v1/history/{generation}")).status, 400);
    }
    assert_eq!(daemon.get("/v1/history/x").errors()[0].0, "InvalidParameterValue");
    assert_eq!(daemon.show("/v1/status")["Generation"], 4, "what is refused changes nothing");
}

#[test]
fn an_export_that_is_pushed_back_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), &[]);
    daemon.push(&document());
    let exported = daemon.show("/v1/policy");
    let plan = ask(daemon.connect(), "POST", "/v1/plan", &[], exported.to_string().as_bytes()).json();
    assert_eq!((&plan["Changes"], &plan["Notices"]), (&json!(false), &json!([])));
    daemon.push(&exported);
    assert_eq!(daemon.show("/v1/policy"), exported);
}

/// Pushes the policy that is open at this port; its generation, if the daemon has
/// answered for it.
fn pushed(socket: &Path, port: u64) -> Option<u64> {
    let body = open_at(port).to_string();
    let head = format!(
        "PUT /v1/policy HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).ok()?;
    let mut answer = String::new();
    // One that is cut short counts as none.
    stream.read_to_string(&mut answer).ok()?;
    let answer: Value = serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()?;
    answer["generation"].as_u64()
}

#[test]
fn a_kill_at_any_moment_of_a_push_leaves_a_whole_policy() {
    let folder = tempfile::tempdir().unwrap();
    let (mut answered, mut next) = (0, 1000);
    for round in 0..12u64 {
        let daemon = Daemon::start(folder.path(), &[]);
        let status = daemon.show("/v1/status");
        let generation = status["Generation"].as_u64().unwrap();
        assert!(
            generation >= answered,
            "round {round}: {generation} is in force, {answered} was answered for"
        );
        assert_eq!(status["StoreFault"], Value::Null);
        if generation > 0 {
            // The n-th policy is open at port 999 + n: it is whole, and its own.
            assert_eq!(port_of(&daemon.show("/v1/policy")), 999 + generation, "round {round}");
            let history = daemon.show("/v1/history")["History"].as_array().unwrap().clone();
            let generations: Vec<u64> = history.iter().map(|e| e["Generation"].as_u64().unwrap()).collect();
            let kept = generation.saturating_sub(99).max(1)..=generation;
            assert!(generations.iter().copied().eq(kept.rev()), "{generations:?}");
        }
        next = next.max(1000 + generation);
        let last = AtomicU64::new(generation);
        let socket = daemon.socket();
        std::thread::scope(|scope| {
            // Pushes without a pause, until nobody answers.
            scope.spawn(|| {
                for port in next.. {
                    let Some(generation) = pushed(&socket, port) else { return };
                    last.store(generation, Ordering::Relaxed);
                }
            });
            // Another moment each time: a push takes some milliseconds.
            std::thread::sleep(Duration::from_micros(20_000 + 2_711 * round));
            daemon.kill();
        });
        answered = last.load(Ordering::Relaxed);
    }
    assert!(answered > 0, "pushes came through");
}

/// Opens this group at this port; the generation, if the daemon has answered for it.
fn opened(stream: &mut UnixStream, group: &str, port: u16) -> Option<u64> {
    let rule = json!({ "IpProtocol": "tcp", "FromPort": port, "ToPort": port, "IpRanges": [{ "CidrIp": "10.0.0.0/8" }] });
    let body = json!({ "GroupId": group, "IpPermissions": [rule] }).to_string();
    let head = format!(
        "POST /v1/actions/AuthorizeSecurityGroupIngress HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).ok()?;
    let mut answer = [0; 4096];
    let mut have = 0;
    loop {
        have += stream.read(&mut answer[have..]).ok().filter(|more| *more > 0)?;
        let text = std::str::from_utf8(&answer[..have]).unwrap();
        // One that is cut short counts as none.
        if let Some((_, body)) = text.split_once("\r\n\r\n")
            && let Ok(body) = serde_json::from_str::<Value>(body)
        {
            assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
            return body["Generation"].as_u64();
        }
    }
}

#[test]
fn a_kill_at_any_moment_of_many_changes_leaves_all_that_were_answered_for() {
    const CLIENTS: usize = 16;
    let folder = tempfile::tempdir().unwrap();
    let group = |client: usize| format!("sg-{client:017}");
    let mut policy = document();
    policy["Settings"] = json!({ "Quotas": "unlimited" });
    for client in 0..CLIENTS {
        let id = group(client);
        let group = json!({ "GroupId": id, "GroupName": format!("client {client}"), "Description": "of one client", "VpcId": "vpc-1" });
        policy["SecurityGroups"].as_array_mut().unwrap().push(group);
    }
    // By client, each port that was answered for, with its generation.
    let mut answered: Vec<Vec<(u16, u64)>> = vec![vec![]; CLIENTS];
    let mut taken = [0.0; 2];
    for round in 0..8u64 {
        let daemon = Daemon::start(folder.path(), &[]);
        if round == 0 {
            daemon.push(&policy);
        }
        let generation = daemon.show("/v1/status")["Generation"].as_u64().unwrap();
        let now = daemon.show("/v1/policy");
        let groups = now["SecurityGroups"].as_array().unwrap();
        let mut rules = 0;
        for (client, answered) in answered.iter().enumerate() {
            let id = group(client);
            let mine = groups.iter().find(|group| group["GroupId"] == *id).unwrap();
            let ports = mine["IpPermissions"].as_array().into_iter().flatten();
            let ports: Vec<u64> = ports.map(|rule| rule["FromPort"].as_u64().unwrap()).collect();
            rules += ports.len() as u64;
            for (port, made) in answered {
                assert!(
                    ports.contains(&u64::from(*port)) && *made <= generation,
                    "round {round}: {id} at {port}"
                );
            }
            // The one that was under way may be there.
            assert!(ports.len() <= answered.len() + round as usize, "round {round}: {ports:?}");
        }
        assert_eq!(
            rules + 1,
            generation,
            "round {round}: each change is one generation, and none is missing"
        );
        let mut numbers: Vec<u64> = answered.iter().flatten().map(|(_, made)| *made).collect();
        numbers.sort_unstable();
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "each has its own number");
        let socket = daemon.socket();
        std::thread::scope(|scope| {
            for (client, answered) in answered.iter_mut().enumerate() {
                let (socket, group) = (&socket, group(client));
                scope.spawn(move || {
                    let Ok(mut stream) = UnixStream::connect(socket) else { return };
                    // Other ports than one that was under way before.
                    for port in round as u16 * 5000 + 1.. {
                        let Some(generation) = opened(&mut stream, &group, port) else { return };
                        answered.push((port, generation));
                    }
                });
            }
            std::thread::sleep(Duration::from_micros(60_000 + 7_919 * round));
            taken =
                ["sum", "count"].map(|what| daemon.metric(&format!("sgswitch_push_batch_changes_{what}")));
            daemon.kill();
        });
    }
    assert!(answered.iter().flatten().count() > CLIENTS, "changes came through");
    assert!(taken[1] < taken[0], "some of them together");
}

/// A small file system of its own, gone when it is dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> SmallDisk {
        let disk = SmallDisk(tempfile::tempdir().unwrap());
        let mount = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(disk.0.path())
            .status();
        assert!(mount.unwrap().success(), "tests run as root");
        disk
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(std::process::Command::new("umount").arg("-l").arg(self.0.path()).status());
    }
}

#[test]
fn a_full_disk_refuses_a_push_and_changes_nothing() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), SmallDisk::mount());
    let store = disk.path().join("policy.db");
    let daemon = Daemon::start(folder.path(), &["--store", store.to_str().unwrap()]);
    daemon.push(&open_at(443));
    let filler = disk.path().join("filler");
    let mut room = 1 << 20;
    while room > 0 {
        // Until not even a byte fits.
        let bytes = vec![0; room];
        let grown = std::fs::OpenOptions::new().append(true).create(true).open(&filler);
        if grown.unwrap().write_all(&bytes).is_err() {
            room /= 2;
        }
    }
    let mut refused = None;
    // Some may fit what the file has reserved already.
    for port in 1000..1200 {
        let answer = daemon.put("", &[], open_at(port).to_string().as_bytes());
        if answer.status != 200 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("a disk that is full");
    assert_eq!(refused.status, 500);
    assert!(
        refused.text().contains("cannot be stored") && refused.text().contains("full"),
        "{}",
        refused.text()
    );
    let (generation, policy) = (daemon.show("/v1/status")["Generation"].clone(), daemon.show("/v1/policy"));
    // Nor do changes that wait together, and nobody is told of what another has not made.
    let changes: Vec<_> = (0..20).map(|n| authorize("sg-web", 1000 + n / 2)).collect();
    for refused in together(&daemon, &changes) {
        assert_eq!(refused.status, 500);
        assert!(refused.text().contains("cannot be stored"), "{}", refused.text());
    }
    assert_eq!(daemon.put("", &[], open_at(7).to_string().as_bytes()).status, 500);
    assert_eq!(
        (&daemon.show("/v1/status")["Generation"], &daemon.show("/v1/policy")),
        (&generation, &policy)
    );
    assert_eq!(daemon.show("/v1/status")["StoreFault"], Value::Null, "it is full, not damaged");
    std::fs::remove_file(filler).unwrap();
    let pushed = daemon.push(&open_at(9));
    assert_eq!(pushed["generation"].as_u64(), generation.as_u64().map(|g| g + 1), "no number is lost");
    daemon.kill();
    let daemon = Daemon::start(folder.path(), &["--store", store.to_str().unwrap()]);
    assert_eq!(port_of(&daemon.show("/v1/policy")), 9);
}

#[test]
fn a_store_damaged_under_the_daemon_keeps_it_on_the_running_policy() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("policy.db");
    let daemon = Daemon::start(folder.path(), &[]);
    daemon.push(&open_at(443));
    // So that all of it is in the file, and nothing in its log to restore it from.
    assert!(daemon.stop().success());
    let daemon = Daemon::start(folder.path(), &[]);
    std::fs::write(&store, vec![7; 30_000]).unwrap();
    let refused = daemon.put("", &[], open_at(8443).to_string().as_bytes());
    assert_eq!(refused.status, 500);
    assert!(refused.text().contains("push again"), "{}", refused.text());
    assert_eq!(port_of(&daemon.show("/v1/policy")), 443, "it stays on the running policy");
    let fault = daemon.show("/v1/status")["StoreFault"].as_str().unwrap().to_string();
    assert!(fault.contains("policy.db.corrupt-1"), "{fault}");
    let copy = std::fs::read(folder.path().join("policy.db.corrupt-1")).unwrap();
    assert!(copy.len() == 30_000 && copy.ends_with(&[7; 10_000]), "it is kept");
    assert_eq!(daemon.metric("sgswitch_store_faults_total"), 1.0);
    assert!(daemon.log().contains("a new one is made"));
    // What runs is in the new one already, and takes changes. Those that find it damaged together
    // are made all the same, of the policy that runs.
    std::fs::write(&store, vec![7; 30_000]).unwrap();
    let changes = [
        action("DeleteSecurityGroup", &json!({ "GroupId": "sg-none" })),
        authorize("sg-ops", 1),
        authorize("sg-ops", 2),
    ];
    let statuses: Vec<u16> = together(&daemon, &changes).iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [400, 200, 200]);
    assert_eq!(daemon.metric("sgswitch_store_faults_total"), 2.0);
    daemon.kill();
    let daemon = Daemon::start(folder.path(), &[]);
    assert_eq!(port_of(&daemon.show("/v1/policy")), 443);
    let status = daemon.show("/v1/status");
    assert_eq!((&status["Generation"], &status["StoreFault"]), (&json!(3), &Value::Null));
    let kept: Vec<Value> = daemon.show("/v1/history")["History"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["Change"].clone())
        .collect();
    assert_eq!(
        kept,
        [
            "AuthorizeSecurityGroupIngress",
            "AuthorizeSecurityGroupIngress",
            "kept after a damage of the store"
        ]
    );
    assert_eq!(daemon.push(&open_at(8443))["generation"], 4);
}

#[test]
fn a_damaged_store_starts_a_closed_switch_that_says_so() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("policy.db"), vec![7; 5000]).unwrap();
    let daemon = Daemon::start(folder.path(), &[]);
    let status = daemon.show("/v1/status");
    assert_eq!(status["State"], "closed");
    assert!(status["StoreFault"].as_str().is_some_and(|fault| fault.contains("corrupt-1")), "{status}");
    assert!(daemon.log().contains("policy.db cannot be used"), "{}", daemon.log());
    assert_eq!(daemon.push(&document())["generation"], 1);
}
