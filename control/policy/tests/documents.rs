//! Documents as users have them, by the ids of the requirements.

use engine::policy::Direction;
use engine::verdict::Judgement;
use policy::oracle::{self, Packet};
use policy::{
    Arena, Binding, Compiler, Context, ExplainRequest, Faults, MAX_FAULTS, Notice, Peer, Ports, Validated,
};
use policy::{explain, merge, self_check, validate};
use serde_json::{Value, json};

fn ports() -> Ports {
    ["p0", "p1", "up"].into_iter().collect()
}

fn check(document: &Value) -> Result<(Validated, Vec<Notice>), Faults> {
    validate(document, &Context { ports: &ports(), partial: false, missing_ports_are_notices: false })
}

fn valid(document: &Value) -> Validated {
    check(document).unwrap_or_else(|faults| panic!("{faults:#?}")).0
}

/// The faults of a document, as code, path and message.
fn faults(document: &Value) -> Vec<(String, String, String)> {
    let faults = check(document).expect_err("the document is wrong");
    faults.errors.into_iter().map(|f| (f.code.to_string(), f.path, f.message)).collect()
}

/// The document has this fault, among others or alone.
fn assert_fault(document: &Value, code: &str, path: &str, words: &str) {
    let all = faults(document);
    let found = all.iter().any(|(c, p, m)| c == code && p.contains(path) && m.contains(words));
    assert!(found, "no {code} at {path} with '{words}' in {all:#?}");
}

/// web (80 from everyone, 22 from an office, 53 from clients) and a client.
fn example() -> Value {
    json!({
        "Vpcs": [{ "VpcId": "vpc-1", "Ipv6CidrBlockAssociationSet": [{ "Ipv6CidrBlockState": { "State": "associated" } }] }],
        "PrefixLists": [{ "PrefixListId": "pl-1", "PrefixListName": "offices", "AddressFamily": "IPv4", "MaxEntries": 5, "Version": 3 }],
        "PrefixListEntries": { "pl-1": [{ "Cidr": "203.0.113.0/28", "Description": "north" }, { "Cidr": "198.51.100.7/32" }] },
        "SecurityGroups": [
            { "GroupId": "sg-web", "GroupName": "web", "Description": "web tier", "VpcId": "vpc-1",
              "IpPermissions": [
                { "IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{ "CidrIp": "0.0.0.0/0", "Description": "all" }], "Ipv6Ranges": [{ "CidrIpv6": "::/0" }] },
                { "IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "PrefixListIds": [{ "PrefixListId": "pl-1" }] },
                { "IpProtocol": "udp", "FromPort": 53, "ToPort": 54, "UserIdGroupPairs": [{ "GroupId": "sg-client" }] },
                { "IpProtocol": "icmp", "FromPort": 8, "ToPort": -1, "IpRanges": [{ "CidrIp": "10.0.0.0/8" }] } ],
              "IpPermissionsEgress": [{ "IpProtocol": "-1", "IpRanges": [{ "CidrIp": "0.0.0.0/0" }] }] },
            { "GroupId": "sg-client", "GroupName": "client", "Description": "clients", "VpcId": "vpc-1",
              "IpPermissions": [], "IpPermissionsEgress": [{ "IpProtocol": "-1", "IpRanges": [{ "CidrIp": "0.0.0.0/0" }] }] } ],
        "NetworkInterfaces": [
            { "NetworkInterfaceId": "eni-web", "VpcId": "vpc-1", "MacAddress": "02:00:00:00:00:01", "Groups": [{ "GroupId": "sg-web" }],
              "PrivateIpAddresses": [{ "PrivateIpAddress": "10.0.0.1", "Primary": true, "Association": { "PublicIp": "192.0.2.200" } }],
              "Ipv6Addresses": [{ "Ipv6Address": "fd00::1" }],
              "ConnectionTrackingConfiguration": { "TcpEstablishedTimeout": 600, "UdpTimeout": 45 } },
            { "NetworkInterfaceId": "eni-client", "VpcId": "vpc-1", "MacAddress": "02:00:00:00:00:02", "Groups": [{ "GroupId": "sg-client" }],
              "PrivateIpAddresses": [{ "PrivateIpAddress": "10.0.0.2" }], "Ipv4Prefixes": [{ "Ipv4Prefix": "10.7.0.0/28" }], "SourceDestCheck": false } ],
        "Bindings": [{ "NetworkInterfaceId": "eni-web", "Port": "p0" }, { "NetworkInterfaceId": "eni-client", "Port": "p1" }, { "Uplink": "up", "VlanId": 100 }],
    })
}

/// The example with one place changed.
fn with(pointer: &str, value: Value) -> Value {
    let mut document = example();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match document.pointer_mut(parent).unwrap_or_else(|| panic!("{parent}")) {
        Value::Object(object) => drop(object.insert(key.to_string(), value)),
        Value::Array(list) => list[key.parse::<usize>().unwrap()] = value,
        other => panic!("{other}"),
    }
    document
}

const FIRST: &str = "/SecurityGroups/0/IpPermissions/0";

#[test]
fn the_example_is_valid_and_its_export_changes_nothing() {
    let policy = valid(&example());
    assert_eq!(valid(&policy.to_document()), policy);
    assert_eq!(
        policy.bindings[2],
        Binding::Uplink { port: "up".into(), vpc: "vpc-1".into(), vlan: Some(100), hosts: vec![] }
    );
    assert_eq!(policy.interfaces["eni-web"].timeouts.tcp_established, Some(600));
    assert!(!policy.interfaces["eni-client"].source_dest_check);
    let ids: Vec<_> =
        policy.groups.values().flat_map(|g| g.inbound.iter().chain(&g.outbound)).map(|r| &r.id).collect();
    assert!(ids.iter().all(|id| id.len() == 21 && id.starts_with("sgr-")), "{ids:?}");
}

#[test]
fn all_errors_at_once_each_with_its_path() {
    let mut document = example();
    document["SecurityGroups"][0]["IpPermissions"][0]["IpRanges"][0]["CidrIp"] = json!("1.2.3.4");
    document["SecurityGroups"][0]["IpPermissions"][1]["ToPort"] = json!(null);
    document["NetworkInterfaces"][0]["Groups"][0]["GroupId"] = json!("sg-nowhere");
    document["Bindings"][0]["Port"] = json!("p9");
    assert_fault(
        &document,
        "InvalidParameterValue",
        "SecurityGroups[0].IpPermissions[0].IpRanges[0].CidrIp",
        "CIDR block 1.2.3.4 is malformed",
    );
    assert_fault(
        &document,
        "InvalidParameterValue",
        "SecurityGroups[0].IpPermissions[1]",
        "Must specify both from and to ports with TCP/UDP.",
    );
    assert_fault(
        &document,
        "InvalidGroup.NotFound",
        "NetworkInterfaces[0].Groups[0].GroupId",
        "The security group 'sg-nowhere' does not exist",
    );
    assert_fault(&document, "InvalidParameterValue", "Bindings[0].Port", "no port named 'p9'");
}

#[test]
fn s24_to_s27_blocks_have_a_length_and_a_family() {
    let at = format!("{FIRST}/IpRanges/0/CidrIp");
    for bad in [
        "1.2.3.4",
        "1.2.3.4/33",
        "1.2.3/24",
        "01.2.3.4/32",
        "1.2.3.4/032",
        "2600:14a0::/40",
        "::ffff:10.0.0.0/104",
        "",
        "all",
    ] {
        assert_fault(
            &with(&at, json!(bad)),
            "InvalidParameterValue",
            "IpRanges[0].CidrIp",
            &format!("CIDR block {bad} is malformed"),
        );
    }
    assert_fault(
        &with(&format!("{FIRST}/Ipv6Ranges/0/CidrIpv6"), json!("10.0.0.0/8")),
        "InvalidParameterValue",
        "Ipv6Ranges[0].CidrIpv6",
        "malformed",
    );
    // D5: host bits are cleared, with a notice.
    let (policy, notices) = check(&with(&at, json!("10.0.0.77/26"))).unwrap();
    let canonical = Peer::Cidr("10.0.0.64/26".parse().unwrap());
    assert!(policy.groups["sg-web"].inbound.iter().any(|r| r.peer == canonical));
    assert!(
        notices.iter().any(|n| n.path.ends_with("CidrIp") && n.message.contains("10.0.0.64/26")),
        "{notices:?}"
    );
}

#[test]
fn the_same_rule_twice_is_refused_in_ec2s_words() {
    let document =
        with(&format!("{FIRST}/IpRanges"), json!([{ "CidrIp": "0.0.0.0/0" }, { "CidrIp": "0.0.0.0/0" }]));
    assert_fault(
        &document,
        "InvalidPermission.Duplicate",
        "IpPermissions[0].IpRanges[1]",
        "the specified rule \"peer: 0.0.0.0/0, TCP, from port: 80, to port: 80, ALLOW\" already exists",
    );
    let nobody = with(FIRST, json!({ "IpProtocol": "tcp", "FromPort": 80, "ToPort": 80 }));
    assert_fault(&nobody, "MissingParameter", "IpPermissions[0]", "exactly one of");
}

#[test]
fn addresses_and_macs_are_one_interfaces() {
    assert_fault(
        &with("/NetworkInterfaces/1/MacAddress", json!("02:00:00:00:00:01")),
        "InvalidParameterValue",
        "NetworkInterfaces[1].MacAddress",
        "eni-web",
    );
    assert_fault(
        &with("/NetworkInterfaces/1/PrivateIpAddresses/0/PrivateIpAddress", json!("10.0.0.1")),
        "InvalidIPAddress.InUse",
        "NetworkInterfaces[",
        "10.0.0.1",
    );
    assert_fault(
        &with("/NetworkInterfaces/0/PrivateIpAddresses/0/PrivateIpAddress", json!("10.7.0.15")),
        "InvalidIPAddress.InUse",
        "NetworkInterfaces[",
        "10.7.0.15",
    );
    assert!(
        check(&with("/NetworkInterfaces/0/PrivateIpAddresses/0/PrivateIpAddress", json!("10.7.0.16")))
            .is_ok()
    );
    for bad in [json!("ff:ff:ff:ff:ff:ff"), json!("00:00:00:00:00:00"), json!("02-00"), json!(7)] {
        assert_fault(
            &with("/NetworkInterfaces/0/MacAddress", bad),
            "InvalidParameterValue",
            "NetworkInterfaces[0].MacAddress",
            "",
        );
    }
}

#[test]
fn ten_thousand_errors_are_a_bounded_answer() {
    let rules: Vec<_> = (0..10_000).map(|i| json!({ "CidrIp": format!("bad{i}") })).collect();
    let answer = check(&with(&format!("{FIRST}/IpRanges"), json!(rules))).unwrap_err();
    assert_eq!((answer.errors.len(), answer.errors.len() + answer.not_listed), (MAX_FAULTS, 10_000));
}

#[test]
fn wrong_types_anywhere_are_faults_and_never_a_panic() {
    fn pointers(value: &Value, at: String, all: &mut Vec<String>) {
        all.push(at.clone());
        match value {
            Value::Object(o) => o.iter().for_each(|(k, v)| pointers(v, format!("{at}/{k}"), all)),
            Value::Array(a) => a.iter().enumerate().for_each(|(i, v)| pointers(v, format!("{at}/{i}"), all)),
            _ => {}
        }
    }
    let mut all = Vec::new();
    pointers(&example(), String::new(), &mut all);
    for pointer in all.iter().filter(|p| !p.is_empty()) {
        for wrong in [json!(null), json!(true), json!(-7), json!("§"), json!([[]]), json!({ "a": {} })] {
            if let Err(faults) = check(&with(pointer, wrong)) {
                assert!(
                    faults.errors.iter().all(|f| !f.message.is_empty() && !f.code.is_empty()),
                    "{pointer}"
                );
            }
        }
    }
    for wrong in [json!(null), json!([]), json!("text")] {
        assert!(check(&wrong).is_err());
    }
}

#[test]
fn files_are_put_side_by_side() {
    let parts = |a: Value, b: Value| {
        let arena = Arena::default();
        let whole = merge(&arena, vec![("a".into(), arena.tree(&a)), ("b".into(), arena.tree(&b))]);
        whole.map(|whole| json!(whole))
    };
    let both = parts(
        json!({ "Vpcs": [1], "PrefixListEntries": { "pl-1": [] } }),
        json!({ "Vpcs": [2], "PrefixListEntries": { "pl-2": [] } }),
    );
    assert_eq!(both.unwrap(), json!({ "Vpcs": [1, 2], "PrefixListEntries": { "pl-1": [], "pl-2": [] } }));
    assert!(parts(json!({ "Vpcs": [] }), json!({ "Vpcs": {} })).is_err());
    assert!(parts(json!([]), json!({})).is_err());
}

fn packet(remote: &str, protocol: u8, port: u16) -> Packet {
    Packet { remote: remote.parse().unwrap(), protocol, port, source_port: 40_000 }
}

#[test]
fn the_oracle_and_the_compiled_policy_agree_also_over_generations() {
    let mut compiler = Compiler::new(16);
    let changed = [
        example(),
        with(&format!("{FIRST}/IpRanges"), json!([{ "CidrIp": "10.0.0.0/9" }])),
        with("/NetworkInterfaces/1/Groups/0/GroupId", json!("sg-web")),
        with("/NetworkInterfaces/0/Groups", json!([])),
        example(),
    ];
    for (generation, document) in (1..).zip(&changed) {
        let policy = valid(document);
        let snapshot = compiler.compile(&policy, generation, &ports()).unwrap();
        let asked = self_check(&policy, &compiler, &snapshot, 5000).unwrap_or_else(|m| panic!("{m}"));
        assert!(asked > 100, "{asked}");
    }
}

#[test]
fn s34_s35_a_reference_covers_private_addresses_alone() {
    let policy = valid(&example());
    let web = &policy.interfaces["eni-web"];
    let judge = |remote, port| oracle::judge(&policy, web, Direction::Inbound, &packet(remote, 17, port)).0;
    assert_eq!(
        (judge("10.0.0.2", 53), judge("10.0.0.2", 52), judge("10.0.0.2", 55)),
        (Judgement::Tracked, Judgement::Denied, Judgement::Denied)
    );
    assert_eq!((judge("10.7.0.15", 53), judge("10.7.0.16", 53)), (Judgement::Tracked, Judgement::Denied));
    assert_eq!(judge("192.0.2.200", 53), Judgement::Denied);
    // S28, to the edges of the list's entries.
    let ssh = |remote| oracle::judge(&policy, web, Direction::Inbound, &packet(remote, 6, 22)).0;
    assert_eq!(ssh("203.0.113.15"), Judgement::Tracked);
    assert_eq!(
        (ssh("203.0.113.16"), ssh("198.51.100.6"), ssh("198.51.100.8")),
        (Judgement::Denied, Judgement::Denied, Judgement::Denied)
    );
}

#[test]
fn numbers_stay_and_are_not_mixed_up() {
    let mut compiler = Compiler::new(2);
    let first = compiler.compile(&valid(&example()), 1, &ports()).unwrap();
    let (web, client) =
        (compiler.interface_id("eni-web").unwrap(), compiler.interface_id("eni-client").unwrap());
    // client goes, another comes: it may have client's slot, never client's number.
    let other = with("/NetworkInterfaces/1/NetworkInterfaceId", json!("eni-other"));
    let mut other = other;
    other["Bindings"][1]["NetworkInterfaceId"] = json!("eni-other");
    let second = compiler.compile(&valid(&other), 2, &ports()).unwrap();
    assert_eq!(compiler.interface_id("eni-web"), Some(web));
    let newcomer = compiler.interface_id("eni-other").unwrap();
    assert!(newcomer != client && second.interfaces.get(client).is_none());
    // Unchanged groups share their policy with the generation before.
    let policy = |s: &engine::snapshot::Snapshot| s.interfaces.get(web).unwrap().policy.clone();
    assert!(std::sync::Arc::ptr_eq(&policy(&first), &policy(&second)));
    let mut third = other;
    third["NetworkInterfaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "NetworkInterfaceId": "eni-3", "VpcId": "vpc-1", "MacAddress": "02:00:00:00:00:03" }));
    let refused = compiler.compile(&valid(&third), 3, &ports()).unwrap_err();
    assert_eq!(refused.errors[0].code, "InsufficientCapacity");
}

#[test]
fn s45_what_was_open_to_everyone_is_remembered_until_it_is_again() {
    let mut compiler = Compiler::new(16);
    let mut revoked = |document: &Value, generation| {
        let snapshot = compiler.compile(&valid(document), generation, &ports()).unwrap();
        snapshot.interfaces.get(compiler.interface_id("eni-web").unwrap()).unwrap().revoked.is_some()
    };
    assert!(!revoked(&example(), 1));
    let narrow = with(
        FIRST,
        json!({ "IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{ "CidrIp": "10.0.0.0/8" }] }),
    );
    assert!(revoked(&narrow, 2) && revoked(&narrow, 3));
    assert!(!revoked(&example(), 4));
}

#[test]
fn explain_names_the_rules_or_what_comes_nearest() {
    let (policy, mut compiler) = (valid(&example()), Compiler::new(16));
    let snapshot = compiler.compile(&policy, 1, &ports()).unwrap();
    let ask = |from: &str, to: &str, port| {
        let request = ExplainRequest {
            from: from.into(),
            to: to.into(),
            protocol: "udp".into(),
            port: Some(port),
            source_port: None,
            icmp_type: None,
            icmp_code: None,
            vpc: None,
        };
        explain(&policy, &compiler, &snapshot, &request).unwrap()
    };
    let allowed = ask("eni-client", "10.0.0.1", 53);
    assert!(
        allowed.allowed && allowed.ends.len() == 2 && allowed.ends.iter().all(|e| e.rules.len() == 1),
        "{allowed:#?}"
    );
    let port = ask("eni-client", "eni-web", 55);
    assert_eq!(port.ends[1].nearest[0].reason, "from 10.0.0.2 only udp 53-54 is allowed");
    let source = ask("192.0.2.9", "eni-web", 53);
    assert_eq!((source.allowed, source.ends.len()), (false, 1));
    assert_eq!(source.ends[0].nearest[0].reason, "udp 53-54 is allowed, from sg-client only");
    assert!(!ask("192.0.2.9", "192.0.2.8", 53).allowed);
}
