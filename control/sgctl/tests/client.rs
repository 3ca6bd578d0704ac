//! The client against a daemon that answers what a test wants.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;

use serde_json::{Value, json};

/// Answers one request with this, and returns the request.
fn daemon(folder: &Path, status: u16, answer: &Value) -> (PathBuf, JoinHandle<String>) {
    let socket = folder.join(format!("{status}.sock"));
    drop(std::fs::remove_file(&socket));
    let listener = UnixListener::bind(&socket).unwrap();
    let body = answer.to_string();
    let reply = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut chunk = [0; 65536];
        while !is_whole(&request) {
            let n = stream.read(&mut chunk).unwrap();
            assert!(n > 0, "half a request");
            request.extend_from_slice(&chunk[..n]);
        }
        stream.write_all(reply.as_bytes()).unwrap();
        String::from_utf8(request).unwrap()
    });
    (socket, thread)
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|l| l.strip_prefix("content-length: "));
    body.len() >= length.map_or(0, |l| l.parse().unwrap())
}

fn sgctl(socket: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sgctl"))
        .arg("--socket")
        .arg(socket)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Exit status, standard output, standard error and what was asked.
fn exchange(status: u16, answer: &Value, arguments: &[&str], input: &str) -> (i32, String, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let (socket, daemon) = daemon(folder.path(), status, answer);
    let Output { status, stdout, stderr } = sgctl(&socket, arguments, input);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr), daemon.join().unwrap())
}

fn errors(codes: &[&str]) -> Value {
    let error = |code: &&str| json!({ "code": code, "message": format!("it is {code}"), "path": "Vpcs[0]" });
    json!({ "errors": codes.iter().map(error).collect::<Vec<_>>(), "not_listed": 0 })
}

const DOCUMENT: &str = r#"{"Vpcs": [{"VpcId": "vpc-1"}]}"#;

#[test]
fn exit_statuses_say_what_became_of_a_push() {
    let pushed = json!({ "generation": 7, "enforced": true, "published_us": 1, "enforced_us": 2,
        "groups": 1, "rules": 2, "interfaces": 3, "notices": [{ "path": "Vpcs[0].X", "message": "unknown key" }] });
    let (code, out, _, request) = exchange(200, &pushed, &["push", "-", "--if-generation", "6"], DOCUMENT);
    assert_eq!(code, 0);
    assert!(
        out.contains("notice: Vpcs[0].X: unknown key") && out.contains("generation 7: 1 groups"),
        "{out}"
    );
    assert!(request.starts_with("PUT /v1/policy?partial=false&wait=true HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("if-match: \"6\"\r\n"), "{request}");
    assert!(request.ends_with(r#"{"Vpcs":[{"VpcId":"vpc-1"}]}"#), "{request}");
    for (status, codes, exit) in [
        (400, &["InvalidParameterValue"][..], 2),
        (400, &["RulesPerSecurityGroupLimitExceeded"], 3),
        (400, &["RulesPerSecurityGroupLimitExceeded", "MissingParameter"], 2),
        (412, &["IncorrectState"], 4),
        (500, &["InternalError"], 5),
        (503, &["NotEnforced"], 5),
        (403, &["UnauthorizedOperation"], 1),
    ] {
        let (code, out, err, _) = exchange(status, &errors(codes), &["push", "-"], DOCUMENT);
        assert_eq!((code, out.as_str()), (exit, ""), "{codes:?}: {err}");
        for code in codes {
            assert!(err.contains(&format!("sgctl: Vpcs[0]: it is {code} ({code})\n")), "{err}");
        }
        // The same for programs, where they look for it.
        let (code, out, err, _) = exchange(status, &errors(codes), &["-o", "json", "push", "-"], DOCUMENT);
        assert_eq!((code, err.as_str()), (exit, ""));
        assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["errors"], errors(codes)["errors"]);
    }
}

#[test]
fn files_are_pushed_side_by_side_and_errors_say_which() {
    let folder = tempfile::tempdir().unwrap();
    let (json_file, yaml) = (folder.path().join("a.json"), folder.path().join("b.yaml"));
    std::fs::write(&json_file, DOCUMENT).unwrap();
    std::fs::write(&yaml, "Vpcs:\n- VpcId: vpc-2\n").unwrap();
    let files = [json_file.to_str().unwrap(), yaml.to_str().unwrap()];
    let answer =
        json!({ "errors": [{ "code": "X", "message": "wrong", "path": "Vpcs[1].VpcId" }], "not_listed": 0 });
    let (code, _, err, request) = exchange(400, &answer, &["push", files[0], files[1]], "");
    assert_eq!(code, 2);
    assert!(request.ends_with(r#"{"Vpcs":[{"VpcId":"vpc-1"},{"VpcId":"vpc-2"}]}"#), "{request}");
    assert!(err.contains(&format!("in {}: Vpcs[0].VpcId", files[1])), "{err}");
}

#[test]
fn what_needs_no_daemon_is_told_without_one() {
    let nowhere = Path::new("/nonexistent/sg.sock");
    let status = |arguments: &[&str], input: &str| {
        let output = sgctl(nowhere, arguments, input);
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, err) = status(&["show", "groups"], "");
    assert!(code == 1 && err.contains("is sgswitchd running"), "{err}");
    let (code, err) = status(&["push", "-"], "{\"a\": ");
    assert!(code == 2 && err.contains("line 1"), "{err}");
    let (code, err) = status(&["push", "/nonexistent.json"], "");
    assert!(code == 1 && err.contains("/nonexistent.json cannot be read"), "{err}");
    let (code, err) = status(&["push", "-"], &format!("{{\"a\": \"{}\"}}", "x".repeat(65 << 20)));
    assert!(code == 3 && err.contains("at most"), "{err}");
    assert_eq!(status(&["push"], "").0, 2);
}

#[test]
fn answers_are_shown_as_table_json_and_yaml() {
    let groups = json!({ "Generation": 3, "SecurityGroups": [{ "GroupId": "sg-1", "GroupName": "web", "VpcId": "vpc-1",
        "Description": "web tier", "IpPermissionsEgress": [],
        "IpPermissions": [{ "IpProtocol": "tcp", "IpRanges": [{ "CidrIp": "0.0.0.0/0" }], "Ipv6Ranges": [{ "CidrIpv6": "::/0" }] }] }] });
    let show = |output: &[&str]| {
        let (code, out, err, request) = exchange(200, &groups, &[&["show", "groups"], output].concat(), "");
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(request.starts_with("GET /v1/groups HTTP/1.1\r\n"), "{request}");
        out
    };
    let table = show(&[]);
    let rows: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["GROUP", "NAME", "VPC", "INBOUND", "OUTBOUND", "DESCRIPTION"]);
    assert_eq!(rows[1], ["sg-1", "web", "vpc-1", "2", "0", "web", "tier"]);
    assert_eq!(serde_json::from_str::<Value>(&show(&["-o", "json"])).unwrap(), groups);
    assert_eq!(serde_yaml_ng::from_str::<Value>(&show(&["-o", "yaml"])).unwrap(), groups);
}

#[test]
fn before_the_first_policy_it_says_what_to_do() {
    let none = json!({ "Generation": 0, "SecurityGroups": [] });
    let (code, out, _, _) = exchange(200, &none, &["show", "groups"], "");
    assert!(code == 0 && out.contains("sgctl push"), "{out}");
    let status = json!({ "Generation": 0, "State": "closed" });
    let (_, out, _, _) = exchange(200, &status, &["show", "status"], "");
    assert!(out.contains("State") && out.contains("closed"), "{out}");
}

#[test]
fn flows_are_listed_with_what_is_missing() {
    let end = |address: &str, port: u16| json!({ "Address": address, "Port": port, "NetworkInterfaceId": "eni-1", "Tracked": true });
    let answer = json!({ "Truncated": true, "Complete": false, "Flows": [{ "Worker": 0, "VpcId": "vpc-1", "Protocol": 6,
        "State": "established", "Originator": end("2001:db8::1", 40000), "Responder": end("2001:db8::2", 443), "ExpiresInSeconds": 5 }] });
    let arguments = ["flows", "list", "--limit", "5", "--interface", "a&b c", "--protocol", "6"];
    let (code, out, _, request) = exchange(200, &answer, &arguments, "");
    assert_eq!(code, 0);
    assert!(
        request
            .starts_with("GET /v1/flows?limit=5&untracked=false&interface=a%26b+c&protocol=6 HTTP/1.1\r\n"),
        "{request}"
    );
    for word in ["[2001:db8::2]:443", "established", "raise --limit", "not all workers have answered"] {
        assert!(out.contains(word), "{word} in {out}");
    }
}

#[test]
fn packets_are_explained_end_by_end() {
    let answer = json!({ "allowed": false, "summary": "denied", "ends": [
        { "interface": "eni-1", "direction": "inbound", "verdict": "denied", "rules": [],
          "nearest": [{ "group": "sg-1", "rule": "sgr-1", "reason": "permits tcp 443" }] } ] });
    let arguments = ["explain", "--from", "10.0.0.1", "--to", "eni-1", "--port", "22"];
    let (code, out, _, request) = exchange(200, &answer, &arguments, "");
    assert_eq!(code, 0);
    assert_eq!(out, "denied\n  inbound of eni-1: denied\n    sg-1: permits tcp 443 (sgr-1)\n");
    let body: Value = serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!((&body["to"], &body["port"], &body["protocol"]), (&json!("eni-1"), &json!(22), &json!("tcp")));
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let many: Vec<Value> = (0..20_000).map(|n| json!({ "GroupId": format!("sg-{n}") })).collect();
    let (socket, _daemon) = daemon(folder.path(), 200, &json!({ "Generation": 1, "SecurityGroups": many }));
    let mut child = Command::new(env!("CARGO_BIN_EXE_sgctl"))
        .arg("--socket")
        .arg(&socket)
        .args(["show", "groups", "-o", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
}

/// What a verb asks: its path and request.
fn asked(arguments: &[&str]) -> (String, Value) {
    let answer = json!({ "Generation": 8, "Enforced": true, "GroupId": "sg-0new" });
    let (code, out, err, request) = exchange(200, &answer, arguments, "");
    assert_eq!(code, 0, "{arguments:?}: {err}");
    assert!(out.contains("sg-0new") && out.contains("generation 8: enforced"), "{out}");
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().to_string(), serde_json::from_str(body).unwrap())
}

#[test]
fn single_changes_are_ec2s_actions() {
    let (path, request) = asked(&["create-group", "--name", "db", "--description", "data", "--vpc", "vpc-1"]);
    assert_eq!(path, "/v1/actions/CreateSecurityGroup?wait=true");
    assert_eq!(request, json!({ "GroupName": "db", "Description": "data", "VpcId": "vpc-1" }));
    let cases: [(&[&str], &str, Value); 9] = [
        (
            &["copy-group", "sg-1", "--name", "n", "--description", "d"],
            "CopySecurityGroup",
            json!({ "SourceGroupId": "sg-1", "GroupName": "n", "Description": "d" }),
        ),
        (&["delete-group", "sg-1"], "DeleteSecurityGroup", json!({ "GroupId": "sg-1" })),
        (
            &[
                "authorize",
                "sg-1",
                "--ingress",
                "--protocol",
                "tcp",
                "--port",
                "7000-8000",
                "--cidr",
                "::/0",
                "--description",
                "x",
            ],
            "AuthorizeSecurityGroupIngress",
            json!({ "GroupId": "sg-1", "IpPermissions": [{ "IpProtocol": "tcp",
                "FromPort": 7000, "ToPort": 8000, "Ipv6Ranges": [{ "CidrIpv6": "::/0", "Description": "x" }] }] }),
        ),
        (
            &["revoke", "sg-1", "--egress", "--protocol", "icmp", "--icmp-type", "8", "--group", "sg-2"],
            "RevokeSecurityGroupEgress",
            json!({ "GroupId": "sg-1", "IpPermissions": [{ "IpProtocol": "icmp",
                "FromPort": 8, "ToPort": -1, "UserIdGroupPairs": [{ "GroupId": "sg-2" }] }] }),
        ),
        (
            &["revoke", "sg-1", "--ingress", "--rule", "sgr-1", "--rule", "sgr-2"],
            "RevokeSecurityGroupIngress",
            json!({ "GroupId": "sg-1", "SecurityGroupRuleIds": ["sgr-1", "sgr-2"] }),
        ),
        (
            &["describe-rule", "sg-1", "--ingress", "--rule", "sgr-1", "--description", ""],
            "UpdateSecurityGroupRuleDescriptionsIngress",
            json!({ "GroupId": "sg-1",
                "SecurityGroupRuleDescriptions": [{ "SecurityGroupRuleId": "sgr-1", "Description": "" }] }),
        ),
        (
            &["set-groups", "i-1", "sg-1"],
            "ModifyInstanceAttribute",
            json!({ "InstanceId": "i-1", "Groups": ["sg-1"] }),
        ),
        (
            &["set-groups", "eni-1", "sg-1", "sg-2"],
            "ModifyNetworkInterfaceAttribute",
            json!({ "NetworkInterfaceId": "eni-1", "Groups": ["sg-1", "sg-2"] }),
        ),
        (
            &["prefix-list", "add", "pl-1", "--version", "3", "10.0.0.0/8"],
            "ModifyManagedPrefixList",
            json!({ "PrefixListId": "pl-1", "CurrentVersion": 3, "AddEntries": [{ "Cidr": "10.0.0.0/8" }] }),
        ),
    ];
    for (arguments, action, expected) in cases {
        let (path, request) = asked(arguments);
        assert_eq!((path, request), (format!("/v1/actions/{action}?wait=true"), expected), "{arguments:?}");
    }
}

#[test]
fn d15_what_cannot_be_deleted_is_told_in_the_sources_words() {
    let message = "the specified group: \"sg-51530134\" name: \"default\" cannot be deleted by a user";
    let answer = json!({ "errors": [{ "code": "CannotDelete", "message": message, "path": "GroupId" }], "not_listed": 0 });
    let (code, _, err, _) = exchange(400, &answer, &["delete-group", "sg-51530134"], "");
    assert_eq!(code, 2);
    assert_eq!(err, format!("Client.CannotDelete: {message}\n"));
}

#[test]
fn half_a_rule_is_refused_before_anybody_is_asked() {
    for arguments in [
        &["authorize", "sg-1", "--protocol", "tcp", "--cidr", "::/0"][..],
        &["authorize", "sg-1", "--ingress", "--egress", "--protocol", "tcp", "--cidr", "::/0"],
        &["authorize", "sg-1", "--ingress", "--cidr", "::/0"],
        &["authorize", "sg-1", "--ingress", "--protocol", "tcp", "--port", "x", "--cidr", "::/0"],
        &["authorize", "sg-1", "--ingress", "--protocol", "tcp", "--cidr", "::/0", "--group", "sg-2"],
        &["revoke", "sg-1", "--ingress"],
        &["set-groups", "eni-1"],
    ] {
        let output = sgctl(Path::new("/nonexistent.sock"), arguments, "");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}
