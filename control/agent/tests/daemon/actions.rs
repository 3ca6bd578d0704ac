//! Single changes over the API: one path and one store with pushes.

use serde_json::{Value, json};

use crate::support::{Answer, Daemon, ask, document};

fn act(daemon: &Daemon, action: &str, headers: &[(&str, &str)], request: &Value) -> Answer {
    let path = format!("/v1/actions/{action}");
    ask(daemon.connect(), "POST", &path, headers, request.to_string().as_bytes())
}

fn done(daemon: &Daemon, action: &str, request: &Value) -> Value {
    let answer = act(daemon, action, &[], request);
    assert_eq!(answer.status, 200, "{action}: {}", answer.text());
    answer.json()
}

fn names(daemon: &Daemon) -> Vec<String> {
    let groups = daemon.show("/v1/groups");
    let groups = groups["SecurityGroups"].as_array().unwrap();
    groups.iter().map(|g| g["GroupName"].as_str().unwrap().to_string()).collect()
}

#[test]
fn s57_s66_d8_single_changes_are_enforced_and_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), &[]);
    daemon.push(&document());
    let made = done(
        &daemon,
        "CreateSecurityGroup",
        &json!({ "GroupName": "db", "Description": "data", "VpcId": "vpc-1" }),
    );
    assert_eq!((&made["Generation"], &made["Enforced"]), (&json!(2), &json!(true)));
    let group = &made["GroupId"];
    let rule = json!({ "IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, "UserIdGroupPairs": [{ "GroupId": "sg-ops" }] });
    let rules =
        done(&daemon, "AuthorizeSecurityGroupIngress", &json!({ "GroupId": group, "IpPermissions": [rule] }));
    let rule_id = &rules["SecurityGroupRules"][0]["SecurityGroupRuleId"];
    done(
        &daemon,
        "ModifyNetworkInterfaceAttribute",
        &json!({ "NetworkInterfaceId": "eni-1", "Groups": ["sg-web", group] }),
    );
    let explained = |daemon: &Daemon| {
        let question = json!({ "from": "10.0.0.2", "to": "10.0.0.1", "protocol": "tcp", "port": 5432 });
        ask(daemon.connect(), "POST", "/v1/explain", &[], question.to_string().as_bytes()).json()["allowed"]
            .clone()
    };
    assert_eq!(explained(&daemon), json!(true));
    assert_eq!(daemon.show("/v1/status")["EnforcedGeneration"], 4);
    let before = daemon.get("/v1/policy").json();
    assert!(daemon.stop().success());

    let daemon = Daemon::start(folder.path(), &[]);
    assert_eq!(daemon.get("/v1/policy").json(), before);
    assert_eq!(explained(&daemon), json!(true));
    done(
        &daemon,
        "RevokeSecurityGroupIngress",
        &json!({ "GroupId": group, "SecurityGroupRuleIds": [rule_id] }),
    );
    assert_eq!(explained(&daemon), json!(false));
}

#[test]
fn s56_d10_a_refused_change_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), &[]);
    let create = json!({ "GroupName": "db", "Description": "data", "VpcId": "vpc-1" });
    let early = act(&daemon, "CreateSecurityGroup", &[], &create);
    assert_eq!(
        (early.status, early.errors()[0].0.as_str()),
        (400, "InvalidVpcID.NotFound"),
        "there is no VPC yet"
    );
    daemon.push(&document());
    let before = daemon.get("/v1/policy").json();
    let default =
        before["SecurityGroups"].as_array().unwrap().iter().find(|g| g["GroupName"] == "default").unwrap();
    let delete = act(&daemon, "DeleteSecurityGroup", &[], &json!({ "GroupId": default["GroupId"] }));
    assert_eq!((delete.status, delete.errors()[0].0.as_str()), (400, "CannotDelete"));
    // One right and one wrong; a quota; another generation; no such action; no JSON.
    let ports = |from: u16, n: u16| {
        let one = |port| json!({ "IpProtocol": "udp", "FromPort": port, "ToPort": port, "IpRanges": [{ "CidrIp": "10.0.0.0/8" }] });
        json!({ "GroupId": "sg-web", "IpPermissions": (from..from + n).map(one).collect::<Value>() })
    };
    let authorize = "AuthorizeSecurityGroupIngress";
    let mut wrong = ports(1, 2);
    wrong["IpPermissions"][1]["ToPort"] = json!("x");
    assert_eq!(act(&daemon, authorize, &[], &wrong).errors()[0].1, "IpPermissions[1].ToPort");
    let quota = act(&daemon, authorize, &[], &ports(1, 60));
    assert_eq!((quota.status, quota.errors()[0].0.as_str()), (400, "RulesPerSecurityGroupLimitExceeded"));
    let late = act(&daemon, authorize, &[("if-match", "\"7\"")], &ports(1, 1));
    assert_eq!((late.status, late.errors()[0].0.as_str()), (412, "IncorrectState"));
    assert_eq!(act(&daemon, "LaunchRockets", &[], &json!({})).errors()[0].0, "InvalidAction");
    let garbage = ask(daemon.connect(), "POST", "/v1/actions/DeleteSecurityGroup", &[], b"{\"GroupId\": ");
    assert_eq!((garbage.status, garbage.errors()[0].0.as_str()), (400, "MalformedDocument"));
    assert_eq!(daemon.get("/v1/policy").json(), before);
    assert_eq!((daemon.show("/v1/status")["Generation"].as_u64(), names(&daemon).len()), (Some(1), 3));
    // At the quota's edge there is room.
    assert_eq!(act(&daemon, authorize, &[("if-match", "\"1\"")], &ports(1, 58)).status, 200);
}

#[test]
fn a_document_pushed_again_undoes_single_changes() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path(), &[]);
    daemon.push(&document());
    let before = daemon.get("/v1/policy").json();
    let rule = json!({ "GroupId": "sg-web", "IpPermissions": [
        { "IpProtocol": "udp", "FromPort": 1, "ToPort": 1, "IpRanges": [{ "CidrIp": "10.0.0.0/8" }] },
    ] });
    assert_eq!(act(&daemon, "AuthorizeSecurityGroupIngress", &[], &rule).status, 200);
    assert_ne!(daemon.get("/v1/policy").json(), before);
    // One that is refused leaves no trace in what the next takes over.
    let mut wrong = document();
    wrong["SecurityGroups"][0]["IpPermissions"] = json!([{ "IpProtocol": "none" }]);
    let refused = daemon.put("", &[], wrong.to_string().as_bytes());
    assert_eq!((refused.status, refused.errors()[0].0.as_str()), (400, "InvalidParameterValue"));
    assert_eq!(daemon.push(&document())["generation"], 3);
    assert_eq!(daemon.get("/v1/policy").json(), before);
}
