//! What operators choose beside EC2's shapes: read, refused, compiled, exported.

mod common;

use common::{context, group, interface, ports};
use engine::forward::{ExemptService, IcmpErrors};
use policy::{Compiler, Validated, validate};
use serde_json::{Value, json};

fn document(settings: Value) -> Value {
    json!({
        "SecurityGroups": [group("sg-1", "vpc-1", json!([]), json!([]))],
        "NetworkInterfaces": [
            interface("eni-1", "vpc-1", "10.0.0.11", &["sg-1"]),
            interface("eni-2", "vpc-1", "10.0.0.12", &["sg-1"]),
        ],
        "Bindings": [{ "NetworkInterfaceId": "eni-1", "Port": "p1" }],
        "Settings": settings,
    })
}

fn read(settings: Value) -> Validated {
    let ports = ports();
    validate(&document(settings), &context(&ports)).unwrap_or_else(|faults| panic!("{faults:?}")).0
}

/// Code and place of each fault.
fn faults(settings: Value) -> Vec<(&'static str, String)> {
    let ports = ports();
    let faults = validate(&document(settings), &context(&ports)).map(|_| ()).expect_err("it is wrong");
    faults.errors.into_iter().map(|f| (f.code, f.path)).collect()
}

#[test]
fn d17_d22_d23_d25_choices_reach_the_compiled_interfaces() {
    let policy = read(json!({
        "ExemptServices": [
            { "Address": "169.254.169.254", "Protocol": "tcp", "Port": 80 },
            { "Address": "fd00:ec2::123", "Protocol": "udp", "Port": 123 },
        ],
        "NetworkInterfaces": { "eni-1": { "ForceTracking": true, "IcmpErrors": "rules" } },
    }));
    let mut compiler = Compiler::new(16).with_allowance(77);
    let snapshot = compiler.compile(&policy, 1, &ports()).unwrap();
    let chosen = |id| snapshot.interfaces.get(compiler.interface_id(id).unwrap()).unwrap().settings;
    assert!(chosen("eni-1").force_tracking && !chosen("eni-2").force_tracking);
    assert_eq!(
        (chosen("eni-1").icmp_errors, chosen("eni-2").icmp_errors),
        (IcmpErrors::Rules, IcmpErrors::Related)
    );
    assert_eq!((chosen("eni-1").connections, chosen("eni-2").connections), (77, 77));
    let service = |address: &str, protocol, port| {
        let address = address.parse::<std::net::IpAddr>().unwrap().into();
        ExemptService { address, protocol, port }
    };
    assert_eq!(snapshot.exempt, [service("169.254.169.254", 6, 80), service("fd00:ec2::123", 17, 123)]);
    // The same again from what is exported; and without settings, none.
    let ports = ports();
    assert_eq!(validate(&policy.to_document(), &context(&ports)).unwrap().0, policy);
    let snapshot = compiler.compile(&read(json!({})), 2, &ports).unwrap();
    assert!(snapshot.exempt.is_empty());
    assert!(snapshot.interfaces.iter().all(|i| !i.settings.force_tracking));
}

#[test]
fn d17_d22_d25_what_cannot_be_chosen_is_refused_with_its_place() {
    let invalid = |path: &str| vec![("InvalidParameterValue", format!("Settings.{path}"))];
    let service = |address: Value, protocol: Value, port: Value| json!({ "ExemptServices": [{ "Address": address, "Protocol": protocol, "Port": port }] });
    let good = || (json!("192.0.2.1"), json!("udp"), json!(53));
    let (address, protocol, port) = good();
    assert!(
        faults(service(json!("here"), protocol.clone(), port.clone()))
            == invalid("ExemptServices[0].Address")
    );
    assert!(faults(service(address.clone(), json!("icmp"), port)) == invalid("ExemptServices[0].Protocol"));
    for port in [json!(0), json!(65536), json!("53")] {
        let faults = faults(service(address.clone(), protocol.clone(), port));
        assert_eq!(faults, invalid("ExemptServices[0].Port"));
    }
    let missing = faults(service(address, protocol, Value::Null));
    assert_eq!(missing, [("MissingParameter", "Settings.ExemptServices[0].Port".to_string())]);
    let many = vec![json!({ "Address": "192.0.2.1", "Protocol": "udp", "Port": 53 }); 17];
    assert_eq!(faults(json!({ "ExemptServices": many })), invalid("ExemptServices"));
    let chosen = |id: &str, chosen: Value| faults(json!({ "NetworkInterfaces": { id: chosen } }));
    assert_eq!(
        chosen("eni-9", json!({})),
        [("InvalidNetworkInterfaceID.NotFound", "Settings.NetworkInterfaces.eni-9".to_string())]
    );
    assert_eq!(
        chosen("eni-1", json!({ "IcmpErrors": "all" })),
        invalid("NetworkInterfaces.eni-1.IcmpErrors")
    );
    assert_eq!(
        chosen("eni-1", json!({ "ForceTracking": 1 })),
        invalid("NetworkInterfaces.eni-1.ForceTracking")
    );
    assert_eq!(chosen("eni-1", json!(7)), invalid("NetworkInterfaces.eni-1"));
}

/// A document with one network ACL of these entries, for the subnet of eni-1.
fn guarded(entries: Value) -> Value {
    let mut document = document(json!({}));
    document["Subnets"] = json!([{ "SubnetId": "subnet-1", "VpcId": "vpc-1", "CidrBlock": "10.0.0.0/24" }]);
    document["NetworkInterfaces"][0]["SubnetId"] = json!("subnet-1");
    document["NetworkAcls"] = json!([{ "NetworkAclId": "acl-1", "VpcId": "vpc-1",
        "Associations": [{ "SubnetId": "subnet-1" }], "Entries": entries }]);
    document
}

fn entry(number: i64, protocol: &str, action: &str) -> Value {
    json!({ "RuleNumber": number, "Egress": false, "RuleAction": action, "Protocol": protocol, "CidrBlock": "0.0.0.0/0" })
}

#[test]
fn s49_r6_9_network_acls_are_read_exported_and_explained() {
    let ports = ports();
    let mut ssh = entry(90, "6", "deny");
    ssh["PortRange"] = json!({ "From": 22, "To": 22 });
    let document = guarded(json!([entry(100, "-1", "allow"), ssh, entry(32_767, "-1", "deny")]));
    let policy = validate(&document, &context(&ports)).unwrap_or_else(|faults| panic!("{faults:?}")).0;
    let numbers: Vec<u16> = policy.network_acls["acl-1"].inbound.keys().copied().collect();
    assert_eq!(numbers, [90, 100], "in order, without the one that AWS shows last");
    assert_eq!(validate(&policy.to_document(), &context(&ports)).unwrap().0, policy);
    let mut compiler = Compiler::new(4);
    let snapshot = compiler.compile(&policy, 1, &ports).unwrap();
    let request = serde_json::from_value(
        json!({ "from": "198.51.100.7", "to": "eni-1", "protocol": "tcp", "port": 22 }),
    )
    .unwrap();
    let explained = policy::explain(&policy, &compiler, &snapshot, &request).unwrap();
    assert_eq!(explained.ends[0].network_acl.as_deref(), Some("acl-1"));
    assert!(!explained.allowed && explained.summary.contains("acl-1"), "{}", explained.summary);
}

#[test]
fn s49_d26_network_acls_that_are_none_are_refused_and_groups_still_deny_nothing() {
    let ports = ports();
    let faults = |document: &Value| {
        let faults = validate(document, &context(&ports)).map(|_| ()).expect_err("it is wrong");
        faults.errors.into_iter().map(|f| (f.code, f.path)).collect::<Vec<_>>()
    };
    let with = |key: &str, value: Value| {
        let mut entry = entry(100, "6", "allow");
        entry[key] = value;
        faults(&guarded(json!([entry])))
    };
    let at = |key: &str| format!("NetworkAcls[0].Entries[0].{key}");
    for (key, value) in [
        ("RuleNumber", json!(0)),
        ("RuleNumber", json!(32_768)),
        ("RuleAction", json!("drop")),
        ("Protocol", json!("tcp")),
        ("Protocol", json!("256")),
        ("CidrBlock", json!("10.0.0.1")),
        ("Egress", json!("no")),
    ] {
        assert_eq!(with(key, value.clone()), [("InvalidParameterValue", at(key))], "{key} {value}");
    }
    assert_eq!(
        with("PortRange", json!({ "From": 2, "To": 1 })),
        [("InvalidParameterValue", at("PortRange"))]
    );
    assert_eq!(with("Egress", Value::Null), [("MissingParameter", at("Egress"))]);
    assert_eq!(with("Ipv6CidrBlock", json!("::/0"))[0].0, "InvalidParameterCombination");
    let twice = faults(&guarded(json!([entry(1, "6", "allow"), entry(1, "17", "deny")])));
    assert_eq!(twice, [("NetworkAclEntryAlreadyExists", "NetworkAcls[0].Entries[1].RuleNumber".to_string())]);
    let many = |n: i64| guarded((1..=n).map(|number| entry(number, "6", "allow")).collect());
    assert_eq!(faults(&many(41))[0].0, "NetworkAclEntryLimitExceeded");
    assert!(validate(&many(40), &context(&ports)).is_ok());
    let mut elsewhere = guarded(json!([]));
    elsewhere["NetworkAcls"][0]["Associations"] = json!([{ "SubnetId": "subnet-9" }]);
    assert_eq!(faults(&elsewhere)[0].0, "InvalidSubnetID.NotFound");
    let mut second = guarded(json!([]));
    let other = json!({ "NetworkAclId": "acl-2", "VpcId": "vpc-1", "Entries": [], "Associations": [{ "SubnetId": "subnet-1" }] });
    second["NetworkAcls"].as_array_mut().unwrap().push(other);
    assert_eq!(
        faults(&second),
        [("InvalidParameterValue", "NetworkAcls[1].Associations[0].SubnetId".to_string())]
    );
    let mut group = guarded(json!([]));
    group["SecurityGroups"][0]["IpPermissions"] =
        json!([{ "IpProtocol": "-1", "RuleAction": "deny", "IpRanges": [{ "CidrIp": "0.0.0.0/0" }] }]);
    assert_eq!(faults(&group)[0].1, "SecurityGroups[0].IpPermissions[0].RuleAction");
    let deep = (0..40).fold(json!(1), |inner, _| json!([inner]));
    let mut nested = guarded(json!([]));
    nested["NetworkAcls"][0]["Tags"] = deep;
    assert_eq!(faults(&nested)[0].1, "NetworkAcls");
}
