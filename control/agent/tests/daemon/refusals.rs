//! Pushes that change nothing.

use serde_json::json;

use crate::support::{Daemon, ask, document};

#[test]
fn every_error_is_listed_and_nothing_has_changed() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), &[]);
    daemon.push(&document());
    let before = daemon.get("/v1/policy").json();

    let mut wrong = document();
    let inbound = &mut wrong["SecurityGroups"][0]["IpPermissions"];
    inbound[0]["IpRanges"][0]["CidrIp"] = json!("10.0.0.1");
    inbound[1]["ToPort"] = json!(null);
    wrong["SecurityGroups"][1]["IpPermissionsEgress"][0]["Action"] = json!("deny");
    wrong["NetworkInterfaces"][1]["Groups"][0]["GroupId"] = json!("sg-unknown");
    let answer = daemon.put("", &[], wrong.to_string().as_bytes());
    assert_eq!(answer.status, 400);
    let errors = answer.errors();
    for (code, path) in [
        ("InvalidParameterValue", "SecurityGroups[0].IpPermissions[0].IpRanges[0].CidrIp"),
        ("InvalidParameterValue", "SecurityGroups[0].IpPermissions[1]"),
        ("InvalidParameterValue", "SecurityGroups[1].IpPermissionsEgress[0].Action"),
        ("InvalidGroup.NotFound", "NetworkInterfaces[1].Groups[0]"),
    ] {
        assert!(errors.iter().any(|(c, p)| c == code && p.starts_with(path)), "{code} {path} in {errors:?}");
    }

    let mut crowded = document();
    let rule = |n: u16| json!({ "IpProtocol": "tcp", "FromPort": n, "ToPort": n, "IpRanges": [{ "CidrIp": "10.0.0.0/8" }] });
    crowded["SecurityGroups"][0]["IpPermissions"] = (1..=61).map(rule).collect();
    let quota = daemon.put("", &[], crowded.to_string().as_bytes());
    assert_eq!((quota.status, quota.errors()[0].0.as_str()), (400, "RulesPerSecurityGroupLimitExceeded"));

    let mut cut_short = document();
    cut_short["NextToken"] = json!("more");
    assert_eq!(daemon.put("", &[], cut_short.to_string().as_bytes()).status, 400, "D28");

    for text in ["", "{", "[]", "7", "nonsense", "{\"Vpcs\": [], \"Vpcs\": []}", "{\"a\": \"\u{0}\"}"] {
        let answer = daemon.put("", &[], text.as_bytes());
        assert_eq!(answer.status, 400, "{text}: {}", answer.text());
    }
    let deep = "[".repeat(1 << 20);
    assert_eq!(daemon.put("", &[], deep.as_bytes()).status, 400);
    assert_eq!(daemon.put("", &[], &[0xff; 100]).status, 400);
    assert_eq!(daemon.put("?colour=1", &[], b"{}").errors()[0].0, "InvalidParameterValue");
    assert_eq!(daemon.put("?wait=perhaps", &[], b"{}").status, 400);

    assert_eq!(daemon.show("/v1/status")["Generation"], 1);
    assert_eq!(daemon.get("/v1/policy").json(), before);
    assert_eq!(daemon.metric("sgswitch_pushes_total{result=\"ok\"}"), 1.0);
    assert!(daemon.metric("sgswitch_pushes_total{result=\"refused\"}") > 10.0);
    // With the word for it, the page of several is taken.
    assert_eq!(daemon.put("?partial=true", &[], cut_short.to_string().as_bytes()).status, 200);
}

#[test]
fn a_push_may_depend_on_the_generation() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), &[]);
    let body = document().to_string();
    let push = |generation: &str| daemon.put("", &[("if-match", generation)], body.as_bytes());
    assert_eq!(push("\"0\"").status, 200, "none is generation 0");
    let late = push("\"0\"");
    assert_eq!((late.status, late.errors()[0].0.as_str()), (412, "IncorrectState"));
    assert!(late.text().contains("generation 1 is in force"), "{}", late.text());
    assert_eq!(push("\"2\"").status, 412, "nor one that is still to come");
    assert_eq!(push("one").status, 400);
    assert_eq!(daemon.show("/v1/status")["Generation"], 1);
    assert_eq!(push("\"1\"").status, 200);
}

#[test]
fn what_is_not_there_is_refused_in_the_same_shape() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), &[]);
    let request = |method, path| {
        let answer = ask(daemon.connect(), method, path, &[], b"");
        (answer.status, answer.errors()[0].0.clone())
    };
    let error = |status, code: &str| (status, code.to_string());
    assert_eq!(request("GET", "/v2/policy"), error(404, "InvalidAction"));
    assert_eq!(request("DELETE", "/v1/policy"), error(405, "InvalidAction"));
    assert_eq!(request("GET", "/v1/flows?limit=many"), error(400, "InvalidParameterValue"));
    assert_eq!(request("GET", "/v1/flows?limit=100001"), error(400, "InvalidParameterValue"));
    assert_eq!(request("GET", "/v1/flows?interface=eni-9"), error(400, "InvalidNetworkInterfaceID.NotFound"));
}
