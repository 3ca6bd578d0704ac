//! Single changes: each that is made, beside the nearest that are refused, in
//! EC2's words; and a refusal changes nothing.

mod common;

use common::{context, group, interface, ports};
use policy::{Arena, Edited, Id, Peer, Validated, edit, validate};
use proptest::prelude::*;
use serde_json::{Value, json};

/// What validation makes of a document.
fn read(document: &Value) -> Validated {
    let ports = ports();
    validate(document, &context(&ports)).unwrap_or_else(|faults| panic!("{faults:?}")).0
}

/// Two VPCs; in the first `sg-web` and `sg-ops`, which `sg-web` refers to.
fn policy() -> Validated {
    let tcp = |port: u16, sources: Value| {
        let mut item = json!({ "IpProtocol": "tcp", "FromPort": port, "ToPort": port });
        item.as_object_mut().unwrap().extend(sources.as_object().unwrap().clone());
        item
    };
    let attached = |id: &str, address: &str, index: u8| {
        let mut interface = interface(id, "vpc-1", address, &["sg-web"]);
        interface["Attachment"] = json!({ "InstanceId": "i-1", "DeviceIndex": index });
        interface
    };
    read(&json!({
        "Vpcs": [
            { "VpcId": "vpc-1" },
            { "VpcId": "vpc-2", "Ipv6CidrBlockAssociationSet": [{ "Ipv6CidrBlockState": { "State": "associated" } }] },
        ],
        "SecurityGroups": [
            group("sg-web", "vpc-1", json!([
                tcp(443, json!({ "IpRanges": [{ "CidrIp": "0.0.0.0/0", "Description": "everyone" }] })),
                tcp(22, json!({ "UserIdGroupPairs": [{ "GroupId": "sg-ops" }], "PrefixListIds": [{ "PrefixListId": "pl-1" }] })),
            ]), json!([])),
            group("sg-ops", "vpc-1", json!([]), json!([])),
            group("sg-far", "vpc-2", json!([]), json!([])),
        ],
        "PrefixLists": [
            { "PrefixListId": "pl-1", "PrefixListName": "offices", "AddressFamily": "IPv4", "MaxEntries": 2, "Version": 7 },
            { "PrefixListId": "pl-aws", "AddressFamily": "IPv4", "OwnerId": "AWS", "MaxEntries": 5 },
        ],
        "PrefixListEntries": { "pl-1": [{ "Cidr": "192.0.2.0/24" }], "pl-aws": [{ "Cidr": "198.51.100.0/24" }] },
        "NetworkInterfaces": [attached("eni-1", "10.0.0.1", 0), attached("eni-2", "10.0.0.2", 1)],
    }))
}

fn done(policy: &Validated, action: &str, request: &Value) -> Edited {
    let edited = edit(policy, action, &Arena::default().tree(request)).expect("a known action");
    let edited = edited.unwrap_or_else(|faults| panic!("{action}: {faults:?}"));
    // What a change makes is a policy that a push would make, rule ids and all.
    assert_eq!(read(&edited.policy.to_document()), edited.policy, "{action}");
    edited
}

/// What is wrong with a request: code, place, words.
fn refused(policy: &Validated, action: &str, request: &Value) -> Vec<(&'static str, String, String)> {
    let faults = edit(policy, action, &Arena::default().tree(request))
        .expect("a known action")
        .map(|_| ())
        .expect_err("it is refused");
    faults.errors.into_iter().map(|f| (f.code, f.path, f.message)).collect()
}

#[track_caller]
fn refuses(action: &str, request: &Value, code: &str, path: &str, message: &str) {
    let all = refused(&policy(), action, request);
    assert_eq!(
        all,
        [(code, path.to_string(), message.to_string())].map(|(c, p, m)| (leak(c), p, m)),
        "{request}"
    );
}

fn leak(text: &str) -> &'static str {
    String::leak(text.to_string())
}

fn new_group(name: &str, description: &str) -> Value {
    json!({ "GroupName": name, "Description": description, "VpcId": "vpc-1" })
}

#[test]
fn s57_s58_s64_s65_d14_a_new_group_lets_nothing_in_and_everything_out() {
    let before = policy();
    let Edited { policy: after, answer, .. } = done(&before, "CreateSecurityGroup", &new_group("db", "data"));
    let id = answer["GroupId"].as_str().unwrap();
    assert!(id.len() == 20 && id.starts_with("sg-0") && !before.groups.contains_key(id), "{id}");
    let group = &after.groups[id];
    assert_eq!(
        (group.name.as_str(), group.description.as_str(), group.vpc.as_str()),
        ("db", "data", "vpc-1")
    );
    assert!(group.inbound.is_empty());
    let out =
        |group: &policy::SecurityGroup| group.outbound.iter().map(|r| r.peer.to_string()).collect::<Vec<_>>();
    assert_eq!(out(group), ["0.0.0.0/0"], "no IPv6 without IPv6");
    let six = json!({ "GroupName": "db", "Description": "data", "VpcId": "vpc-2" });
    let Edited { policy: after, answer, .. } = done(&after, "CreateSecurityGroup", &six);
    assert_eq!(out(&after.groups[answer["GroupId"].as_str().unwrap()]), ["0.0.0.0/0", "::/0"]);
    assert_eq!(after.groups.len(), before.groups.len() + 2, "the same name in another VPC is fine");
}

#[test]
fn s59_to_s63_d16_d19_r7_3_r7_16_names_and_descriptions() {
    let create = "CreateSecurityGroup";
    let duplicate = |name: &str, known: &str| {
        let message = format!("The security group '{known}' already exists for VPC 'vpc-1'");
        refuses(create, &new_group(name, "d"), "InvalidGroup.Duplicate", "GroupName", &message);
    };
    duplicate("web", "web");
    duplicate("WEB", "web");
    duplicate("web  ", "web");
    for (request, code, path) in [
        (new_group("", "d"), "MissingParameter", "GroupName"),
        (new_group("n", " "), "MissingParameter", "Description"),
        (json!({ "GroupName": "n", "VpcId": "vpc-1" }), "MissingParameter", "Description"),
        (json!({ "Description": "n", "VpcId": "vpc-1" }), "MissingParameter", "GroupName"),
        (json!({ "GroupName": "n", "Description": "d" }), "MissingParameter", "VpcId"),
        (new_group("sg-n", "d"), "InvalidParameterValue", "GroupName"),
        (new_group("default", "d"), "InvalidParameterValue", "GroupName"),
        (new_group("Default", "d"), "InvalidParameterValue", "GroupName"),
        (new_group("n~", "d"), "InvalidParameterValue", "GroupName"),
        (new_group("n", "d?"), "InvalidParameterValue", "Description"),
        (new_group(&"n".repeat(256), "d"), "InvalidParameterValue", "GroupName"),
        (new_group("n", &"d".repeat(256)), "InvalidParameterValue", "Description"),
        (json!({ "GroupName": "n", "Description": "d", "VpcId": "vpc-9" }), "InvalidVpcID.NotFound", "VpcId"),
    ] {
        let all = refused(&policy(), create, &request);
        assert_eq!((all.len(), all[0].0, all[0].1.as_str()), (1, code, path), "{request}");
    }
    done(&policy(), create, &new_group(&"n".repeat(255), &"d".repeat(255)));
    done(&policy(), create, &new_group("a-zA-Z0-9. _-:/()#,@[]+=&;{}!$*", "a-zA-Z0-9. _-:/()#,@[]+=&;{}!$*"));
}

#[test]
fn r6_1_a_copy_has_a_new_id_and_the_same_rules() {
    let before = policy();
    let request = json!({ "SourceGroupId": "sg-web", "GroupName": "web2", "Description": "another" });
    let Edited { policy: after, answer, .. } = done(&before, "CopySecurityGroup", &request);
    let (source, copy) = (&before.groups["sg-web"], &after.groups[answer["GroupId"].as_str().unwrap()]);
    let rules = |g: &policy::SecurityGroup| {
        let rules = g.inbound.iter().chain(&g.outbound);
        rules.map(|r| (r.service, r.peer.clone(), r.description.clone())).collect::<Vec<_>>()
    };
    assert_eq!(rules(source), rules(copy));
    assert!(copy.inbound.iter().zip(&source.inbound).all(|(c, s)| c.id != s.id), "rules have their own ids");
    let unknown = json!({ "SourceGroupId": "sg-9", "GroupName": "web2", "Description": "d" });
    let message = "The security group 'sg-9' does not exist";
    refuses("CopySecurityGroup", &unknown, "InvalidGroup.NotFound", "SourceGroupId", message);
}

#[test]
fn s56_d10_d15_r6_1_r7_1_r7_2_groups_that_cannot_be_deleted() {
    let delete = |id: &str| json!({ "GroupId": id });
    let action = "DeleteSecurityGroup";
    let default = policy().groups.values().find(|g| g.name == "default").unwrap().id.clone();
    let message = format!("the specified group: \"{default}\" name: \"default\" cannot be deleted by a user");
    refuses(action, &delete(&default), "CannotDelete", "GroupId", &message);
    let depends = |id: &str| format!("resource {id} has a dependent object");
    refuses(action, &delete("sg-web"), "DependencyViolation", "GroupId", &depends("sg-web"));
    refuses(action, &delete("sg-ops"), "DependencyViolation", "GroupId", &depends("sg-ops"));
    refuses(
        action,
        &delete("sg-9"),
        "InvalidGroup.NotFound",
        "GroupId",
        "The security group 'sg-9' does not exist",
    );
    let malformed = "The security group ID 'foobar' is malformed";
    refuses(action, &delete("foobar"), "InvalidGroupId.Malformed", "GroupId", malformed);
    // Nobody needs it: gone. Its own reference to itself does not keep it.
    let own = json!({ "GroupId": "sg-far", "IpPermissions": [{ "IpProtocol": "-1", "UserIdGroupPairs": [{ "GroupId": "sg-far" }] }] });
    let with_own = done(&policy(), "AuthorizeSecurityGroupIngress", &own).policy;
    let after = done(&with_own, action, &delete("sg-far")).policy;
    assert!(!after.groups.contains_key("sg-far"));
    let revoked = json!({ "GroupId": "sg-web", "IpPermissions": [
        { "IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "UserIdGroupPairs": [{ "GroupId": "sg-ops" }] }] });
    let free = done(&policy(), "RevokeSecurityGroupIngress", &revoked).policy;
    assert!(!done(&free, action, &delete("sg-ops")).policy.groups.contains_key("sg-ops"));
}

fn permission(port: u16, block: &str) -> Value {
    json!({ "IpProtocol": "tcp", "FromPort": port, "ToPort": port, "IpRanges": [{ "CidrIp": block }] })
}

fn of_web(permissions: Value) -> Value {
    json!({ "GroupId": "sg-web", "IpPermissions": permissions })
}

#[test]
fn s17_s55_s66_r6_2_rules_are_added_in_both_directions_and_to_default_groups() {
    let before = policy();
    let default = before.groups.values().find(|g| g.name == "default").unwrap().id.clone();
    for group in ["sg-web", default.as_str()] {
        for (action, egress) in
            [("AuthorizeSecurityGroupIngress", false), ("AuthorizeSecurityGroupEgress", true)]
        {
            let request = json!({ "GroupId": group, "IpPermissions": [
                { "IpProtocol": "udp", "FromPort": 53, "ToPort": 53, "IpRanges": [{ "CidrIp": "10.0.0.0/8", "Description": "ours" }] }] });
            let Edited { policy: after, answer, .. } = done(&before, action, &request);
            let rules = |policy: &Validated| {
                let group = &policy.groups[group];
                if egress { group.outbound.clone() } else { group.inbound.clone() }
            };
            assert_eq!(rules(&after).len(), rules(&before).len() + 1);
            let shown = &answer["SecurityGroupRules"][0];
            assert_eq!(
                (&shown["IsEgress"], &shown["CidrIpv4"], &shown["Description"], &shown["FromPort"]),
                (&json!(egress), &json!("10.0.0.0/8"), &json!("ours"), &json!(53))
            );
            let id = shown["SecurityGroupRuleId"].as_str().unwrap();
            assert!(id.len() == 21 && id.starts_with("sgr-0"), "{id}");
            assert!(rules(&after).iter().any(|r| r.id == id));
            // Those of before are what they were, ids and all.
            assert!(rules(&before).iter().all(|rule| rules(&after).contains(rule)));
        }
    }
}

#[test]
fn r7_4_r7_8_r7_10_to_r7_15_what_is_no_rule_adds_none() {
    let action = "AuthorizeSecurityGroupIngress";
    let refuse = |item: Value, code: &str, at: &str, message: &str| {
        // Beside one that is right: all or none.
        let request = of_web(json!([permission(8080, "10.0.0.0/8"), item]));
        refuses(action, &request, code, &format!("IpPermissions[1]{at}"), message);
    };
    refuse(
        permission(443, "0.0.0.0/0"),
        "InvalidPermission.Duplicate",
        ".IpRanges[0]",
        "the specified rule \"peer: 0.0.0.0/0, TCP, from port: 443, to port: 443, ALLOW\" already exists",
    );
    refuse(
        json!({ "FromPort": 1, "ToPort": 1, "IpRanges": [{ "CidrIp": "0.0.0.0/0" }] }),
        "InvalidParameterValue",
        ".IpProtocol",
        "Invalid value 'null' for protocol. VPC security group rules must specify protocols explicitly.",
    );
    refuse(
        json!({ "IpProtocol": "tcp", "FromPort": 1, "IpRanges": [{ "CidrIp": "0.0.0.0/0" }] }),
        "InvalidParameterValue",
        "",
        "Invalid value for portRange. Must specify both from and to ports with TCP/UDP.",
    );
    refuse(
        permission(1, "2600:14a0::/40"),
        "InvalidParameterValue",
        ".IpRanges[0].CidrIp",
        "CIDR block 2600:14a0::/40 is malformed",
    );
    refuse(
        json!({ "IpProtocol": "-1", "IpRanges": [{ "CidrIp": "10.0.0.0/8", "Description": "what?" }] }),
        "InvalidParameterValue",
        ".IpRanges[0].Description",
        "Invalid rule description. Valid descriptions are strings less than 256 characters from the following set: a-zA-Z0-9. _-:/()#,@[]+=&;{}!$*",
    );
    refuse(
        json!({ "IpProtocol": "-1" }),
        "MissingParameter",
        "",
        "The request must contain exactly one of: cidrIp, cidrIpv6, prefixListId, or referencedGroupId",
    );
    refuse(
        json!({ "IpProtocol": "-1", "IpRanges": [{ "CidrIp": "10.0.0.0/8", "CidrIpv6": "::/0" }] }),
        "InvalidParameterCombination",
        ".IpRanges[0]",
        "Only one of cidrIp, cidrIpv6, prefixListId, or referencedGroupId can be specified",
    );
    refuse(
        json!({ "IpProtocol": "-1", "UserIdGroupPairs": [{ "GroupId": "sg-9" }] }),
        "InvalidGroup.NotFound",
        ".UserIdGroupPairs[0].GroupId",
        "The security group 'sg-9' does not exist",
    );
    refuses(
        action,
        &json!({ "GroupId": "sg-web" }),
        "MissingParameter",
        "IpPermissions",
        "the request must contain the parameter IpPermissions",
    );
    let all_traffic =
        json!([{ "IpProtocol": "-1", "IpRanges": [{ "CidrIp": "0.0.0.0/0" }, { "CidrIp": "0.0.0.0/0" }] }]);
    let twice = "the specified rule \"peer: 0.0.0.0/0, ALL, ALLOW\" already exists";
    refuses(
        action,
        &of_web(all_traffic),
        "InvalidPermission.Duplicate",
        "IpPermissions[0].IpRanges[1]",
        twice,
    );
    let deny =
        of_web(json!([{ "IpProtocol": "-1", "Action": "deny", "IpRanges": [{ "CidrIp": "10.0.0.0/8" }] }]));
    assert_eq!(refused(&policy(), action, &deny)[0].1, "IpPermissions[0].Action");
}

#[test]
fn r6_3_r7_7_r7_9_rules_are_revoked_exactly_or_not_at_all() {
    let (before, action) = (policy(), "RevokeSecurityGroupIngress");
    // The description does not count.
    let by_properties = of_web(json!([permission(443, "0.0.0.0/0")]));
    let after = done(&before, action, &by_properties).policy;
    assert_eq!(after.groups["sg-web"].inbound.len(), 2);
    let id = before.groups["sg-web"].inbound.iter().find(|r| r.description.is_some()).unwrap().id.clone();
    let by_id = json!({ "GroupId": "sg-web", "SecurityGroupRuleIds": [id] });
    assert_eq!(done(&before, action, &by_id).policy, after);
    let missing = "The specified rule does not exist in this security group";
    for neighbour in [
        permission(442, "0.0.0.0/0"),
        permission(443, "0.0.0.0/1"),
        json!({ "IpProtocol": "udp", "FromPort": 443, "ToPort": 443, "IpRanges": [{ "CidrIp": "0.0.0.0/0" }] }),
        json!({ "IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "Ipv6Ranges": [{ "CidrIpv6": "::/0" }] }),
    ] {
        // One that is there goes with it or stays with it.
        let list = if neighbour.get("Ipv6Ranges").is_some() { "Ipv6Ranges" } else { "IpRanges" };
        let request = of_web(json!([permission(443, "0.0.0.0/0"), neighbour]));
        let path = format!("IpPermissions[1].{list}[0]");
        refuses(action, &request, "InvalidPermission.NotFound", &path, missing);
    }
    let message = "The security group rule ID 'sgr-00000000000000000' does not exist";
    let unknown = json!({ "GroupId": "sg-web", "SecurityGroupRuleIds": [id, "sgr-00000000000000000"] });
    refuses(action, &unknown, "InvalidSecurityGroupRuleId.NotFound", "SecurityGroupRuleIds[1]", message);
    // Of the other direction, and of nothing.
    let path = "SecurityGroupRuleIds[0]";
    let message = format!("The security group rule ID '{id}' does not exist");
    refuses("RevokeSecurityGroupEgress", &by_id, "InvalidSecurityGroupRuleId.NotFound", path, &message);
    let nothing = "the request must contain the parameter IpPermissions";
    refuses(action, &json!({ "GroupId": "sg-web" }), "MissingParameter", "IpPermissions", nothing);
}

#[test]
fn s32_s33_d1_descriptions_are_changed_by_properties_and_by_id() {
    let (before, action) = (policy(), "UpdateSecurityGroupRuleDescriptionsIngress");
    let described = |policy: &Validated| {
        let rule =
            policy.groups["sg-web"].inbound.iter().find(|r| r.peer.to_string() == "0.0.0.0/0").unwrap();
        (rule.id.clone(), rule.description.clone())
    };
    let (id, _) = described(&before);
    let by_properties = of_web(json!([{ "IpProtocol": "tcp", "FromPort": 443, "ToPort": 443,
        "IpRanges": [{ "CidrIp": "0.0.0.0/0", "Description": "R&D" }] }]));
    assert_eq!(
        described(&done(&before, action, &by_properties).policy),
        (id.clone(), Some("R&D".to_string()))
    );
    let by_id = |id: &str, text: &str| {
        let item = json!({ "SecurityGroupRuleId": id, "Description": text });
        json!({ "GroupId": "sg-web", "SecurityGroupRuleDescriptions": [item] })
    };
    assert_eq!(
        described(&done(&before, action, &by_id(&id, "x")).policy),
        (id.clone(), Some("x".to_string()))
    );
    assert_eq!(described(&done(&before, action, &by_id(&id, "")).policy), (id.clone(), None));
    let all = refused(&before, action, &by_id(&id, &"x".repeat(256)));
    assert_eq!(
        (all[0].0, all[0].1.as_str()),
        ("InvalidParameterValue", "SecurityGroupRuleDescriptions[0].Description")
    );
    assert_eq!(refused(&before, action, &by_id("sgr-1", "x"))[0].0, "InvalidSecurityGroupRuleId.NotFound");
    let mut strict = before.clone();
    strict.settings.strict_rule_descriptions = true;
    assert_eq!(refused(&strict, action, &by_properties)[0].0, "InvalidParameterValue", "the strict setting");
}

#[test]
fn s8_s9_s10_s11_r7_5_r7_6_r7_18_interfaces_change_groups() {
    let before = policy();
    let of = |policy: &Validated, id: &str| policy.interfaces[id].groups.clone();
    let set = |target: (&str, &str), groups: &[&str]| json!({ target.0: target.1, "Groups": groups });
    let (modify, primary) = ("ModifyNetworkInterfaceAttribute", "ModifyInstanceAttribute");
    let after =
        done(&before, modify, &set(("NetworkInterfaceId", "eni-2"), &["sg-ops", "sg-web", "sg-ops"])).policy;
    assert_eq!(of(&after, "eni-2"), ["sg-ops", "sg-web"]);
    assert_eq!(of(&after, "eni-1"), ["sg-web"], "the other interface of the instance is untouched");
    let after = done(&before, primary, &set(("InstanceId", "i-1"), &["sg-ops"])).policy;
    assert_eq!(
        (of(&after, "eni-1"), of(&after, "eni-2")),
        (vec![Id::from("sg-ops")], vec![Id::from("sg-web")])
    );
    let at = ("NetworkInterfaceId", "eni-1");
    let networks = "You have specified two resources that belong to different networks.";
    refuses(modify, &set(at, &["sg-far"]), "InvalidGroup.NotFound", "Groups[0]", networks);
    let unknown = "The security group 'sg-9' does not exist";
    refuses(modify, &set(at, &["sg-web", "sg-9"]), "InvalidGroup.NotFound", "Groups[1]", unknown);
    let malformed = "The security group ID 'foobar' is malformed";
    refuses(modify, &set(at, &["sg-web", "foobar"]), "InvalidGroupId.Malformed", "Groups[1]", malformed);
    assert_eq!(refused(&before, modify, &set(at, &[]))[0].0, "InvalidParameterValue");
    let nobody = set(("NetworkInterfaceId", "eni-9"), &["sg-web"]);
    assert_eq!(refused(&before, modify, &nobody)[0].0, "InvalidNetworkInterfaceID.NotFound");
    assert_eq!(
        refused(&before, primary, &set(("InstanceId", "i-9"), &["sg-web"]))[0].0,
        "InvalidInstanceID.NotFound"
    );
    assert_eq!(refused(&before, modify, &json!({ "NetworkInterfaceId": "eni-1" }))[0].0, "MissingParameter");
    let mut many = before.clone();
    let mut ids = vec!["sg-web".to_string()];
    for n in 0..5 {
        let created = done(&many, "CreateSecurityGroup", &new_group(&format!("g{n}"), "d"));
        ids.push(created.answer["GroupId"].as_str().unwrap().to_string());
        many = created.policy;
    }
    let six = json!({ "NetworkInterfaceId": "eni-1", "Groups": ids });
    assert_eq!(refused(&many, modify, &six)[0].0, "SecurityGroupsPerInterfaceLimitExceeded");
    done(&many, modify, &json!({ "NetworkInterfaceId": "eni-1", "Groups": ids[..5] }));
}

#[test]
fn r6_5_d6_prefix_lists_change_by_versions() {
    let (before, modify) = (policy(), "ModifyManagedPrefixList");
    let entry = |block: &str| json!({ "Cidr": block });
    let request = |version: u64, key: &str, blocks: &[&str]| json!({ "PrefixListId": "pl-1", "CurrentVersion": version, key: blocks.iter().map(|b| entry(b)).collect::<Value>() });
    let after = done(&before, modify, &request(7, "AddEntries", &["198.51.100.0/24"])).policy;
    let list = &after.prefix_lists["pl-1"];
    assert_eq!((list.version, list.entries.len()), (Some(8), 2));
    let back = done(&after, modify, &request(8, "RemoveEntries", &["198.51.100.0/24"])).policy;
    assert_eq!((back.prefix_lists["pl-1"].version, back.prefix_lists["pl-1"].entries.len()), (Some(9), 1));
    let code = |request: &Value| refused(&before, modify, request)[0].0;
    assert_eq!(code(&request(6, "AddEntries", &["198.51.100.0/24"])), "PrefixListVersionMismatch");
    assert_eq!(
        code(&json!({ "PrefixListId": "pl-1", "AddEntries": [entry("198.51.100.0/24")] })),
        "MissingParameter"
    );
    assert_eq!(
        code(&request(7, "AddEntries", &["198.51.100.0/24", "203.0.113.0/24"])),
        "PrefixListMaxEntriesExceeded"
    );
    assert_eq!(code(&request(7, "RemoveEntries", &["198.51.100.0/24"])), "InvalidParameterValue");
    assert_eq!(code(&request(7, "AddEntries", &["2001:db8::/32"])), "InvalidParameterValue");
    let mut both = request(7, "AddEntries", &["198.51.100.0/24"]);
    both["MaxEntries"] = json!(9);
    assert_eq!(code(&both), "InvalidParameterCombination");
    assert_eq!(code(&json!({ "PrefixListId": "pl-9", "MaxEntries": 9 })), "InvalidPrefixListId.NotFound");
    assert_eq!(code(&json!({ "PrefixListId": "pl-aws", "MaxEntries": 9 })), "UnauthorizedOperation");
    let resized = done(&before, modify, &json!({ "PrefixListId": "pl-1", "MaxEntries": 9 })).policy;
    assert_eq!(
        (resized.prefix_lists["pl-1"].max_entries, resized.prefix_lists["pl-1"].version),
        (9, Some(7))
    );

    let create = json!({ "PrefixListName": "labs", "AddressFamily": "IPv6", "MaxEntries": 3, "Entries": [entry("2001:db8::/32")] });
    let Edited { policy: after, answer, .. } = done(&before, "CreateManagedPrefixList", &create);
    let id = answer["PrefixList"]["PrefixListId"].as_str().unwrap();
    assert!(after.prefix_lists[id].ipv6 && after.prefix_lists[id].version == Some(1));
    let gone = done(&after, "DeleteManagedPrefixList", &json!({ "PrefixListId": id })).policy;
    assert_eq!(gone, before);
    let named = json!({ "PrefixListId": "pl-1" });
    assert_eq!(refused(&before, "DeleteManagedPrefixList", &named)[0].0, "DependencyViolation");
}

#[test]
fn what_is_no_request_is_refused() {
    assert!(edit(&policy(), "DescribeSecurityGroups", &Arena::default().tree(&json!({}))).is_none());
    for request in [json!([]), json!(7), json!(null)] {
        assert_eq!(refused(&policy(), "DeleteSecurityGroup", &request)[0].0, "InvalidParameterValue");
    }
    let request = json!({ "GroupName": "n", "Description": "d", "VpcId": "vpc-1", "Colour": 1 });
    let noticed = edit(&policy(), "CreateSecurityGroup", &Arena::default().tree(&request));
    assert_eq!(noticed.unwrap().unwrap().notices[0].path, "Colour");
}

proptest! {
    /// What is added can be taken away again, and all else is as it was.
    #[test]
    fn s66_r6_3_authorizing_and_revoking_leave_no_trace(
        ports in prop::collection::btree_set(1..440u16, 1..6), egress in any::<bool>(), by_id in any::<bool>()
    ) {
        let before = policy();
        let name = |what: &str| format!("{what}SecurityGroup{}", if egress { "Egress" } else { "Ingress" });
        let request = of_web(ports.iter().map(|port| permission(*port, "10.0.0.0/8")).collect());
        let Edited { policy: after, answer, .. } = done(&before, &name("Authorize"), &request);
        prop_assert_ne!(&after, &before);
        let rules = answer["SecurityGroupRules"].as_array().unwrap();
        prop_assert_eq!(rules.len(), ports.len());
        let ids: Vec<&Value> = rules.iter().map(|rule| &rule["SecurityGroupRuleId"]).collect();
        let undo = if by_id { json!({ "GroupId": "sg-web", "SecurityGroupRuleIds": ids }) } else { request };
        prop_assert_eq!(done(&after, &name("Revoke"), &undo).policy, before);
    }
}

/// A reference to what is gone is stale, and can be revoked like any other.
#[test]
fn s36_d10_a_stale_rule_can_be_revoked() {
    let mut policy = policy();
    policy.groups.remove("sg-ops");
    let stale = read(&policy.to_document());
    let is_stale = |p: &Validated| {
        p.groups["sg-web"].inbound.iter().any(|r| matches!(r.peer, Peer::Group { stale: true, .. }))
    };
    assert!(is_stale(&stale));
    let request = of_web(
        json!([{ "IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "UserIdGroupPairs": [{ "GroupId": "sg-ops" }] }]),
    );
    assert!(!is_stale(&done(&stale, "RevokeSecurityGroupIngress", &request).policy));
}
