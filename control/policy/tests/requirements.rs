//! Documents right and wrong, by requirement: EC2's codes and words, each with
//! its place, all at once.

mod common;

use common::{context, group, interface, ports};
use policy::{Faults, MAX_FAULTS, Notice, Peer, RuleService, Validated, validate};
use proptest::prelude::*;
use serde_json::{Value, json};

fn read(document: &Value) -> Result<(Validated, Vec<Notice>), Faults> {
    validate(document, &context(&ports()))
}

fn good(document: &Value) -> Validated {
    read(document).unwrap_or_else(|faults| panic!("{faults:?}")).0
}

/// What is wrong: code, path, message.
fn faults(document: &Value) -> Vec<(&'static str, String, String)> {
    let faults = read(document).map(|_| ()).expect_err("the document is wrong");
    faults.errors.into_iter().map(|f| (f.code, f.path, f.message)).collect()
}

/// A document of one group with these inbound permissions.
fn inbound(permissions: Value) -> Value {
    json!({ "SecurityGroups": [group("sg-1", "vpc-1", permissions, json!([]))] })
}

fn tcp(from: i64, to: i64, source: Value) -> Value {
    let mut item = json!({ "IpProtocol": "tcp", "FromPort": from, "ToPort": to });
    item.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
    item
}

fn from_v4(block: &str) -> Value {
    json!({ "IpRanges": [{ "CidrIp": block }] })
}

/// The only fault of a document whose first permission this is.
#[track_caller]
fn refused(permission: Value, code: &str, at: &str, words: &str) {
    let all = faults(&inbound(json!([permission])));
    let [(found, path, message)] = &all[..] else { panic!("{all:?}") };
    assert_eq!((*found, path.as_str()), (code, format!("SecurityGroups[0].IpPermissions[0]{at}").as_str()));
    assert!(message.contains(words), "{message}");
}

fn service(permission: Value) -> RuleService {
    good(&inbound(json!([permission]))).groups["sg-1"].inbound[0].service
}

#[test]
fn s3_s50_to_s54_every_vpc_has_a_default_group_and_who_names_none_is_in_it() {
    let policy = good(&json!({ "NetworkInterfaces": [interface("eni-1", "vpc-1", "10.0.0.11", &[])] }));
    let [id] = &policy.interfaces["eni-1"].groups[..] else { panic!("one group") };
    let default = &policy.groups[id];
    assert_eq!((default.name.as_str(), default.vpc.as_str()), ("default", "vpc-1"));
    assert_eq!(default.inbound[0].peer, Peer::Group { id: id.clone(), stale: false });
    assert_eq!(default.inbound[0].service, RuleService::All);
    assert_eq!(default.outbound[0].peer.to_string(), "0.0.0.0/0");
    assert_eq!((default.inbound.len(), default.outbound.len()), (1, 1), "no IPv6 rule without IPv6 (D14)");
}

#[test]
fn s7_groups_of_another_vpc_and_unknown_ones_are_refused() {
    let all = faults(&json!({
        "SecurityGroups": [group("sg-2", "vpc-2", json!([]), json!([]))],
        "NetworkInterfaces": [interface("eni-1", "vpc-1", "10.0.0.11", &["sg-2", "sg-3", "foobar"])],
    }));
    let at = |n| format!("NetworkInterfaces[0].Groups[{n}].GroupId");
    let expected = [
        (
            "InvalidGroup.NotFound",
            at(0),
            "You have specified two resources that belong to different networks.",
        ),
        ("InvalidGroup.NotFound", at(1), "The security group 'sg-3' does not exist"),
        ("InvalidGroupId.Malformed", at(2), "The security group ID 'foobar' is malformed"),
    ];
    assert_eq!(all, expected.map(|(code, path, message)| (code, path, message.to_string())));
}

#[test]
fn s14_d26_what_denies_is_refused() {
    let mut permission = tcp(22, 22, from_v4("0.0.0.0/0"));
    permission["Action"] = json!("deny");
    refused(permission.clone(), "InvalidParameterValue", ".Action", "a rule cannot deny");
    permission["Action"] = json!("allow");
    good(&inbound(json!([permission])));
}

#[test]
fn s21_d3_r7_10_protocols_by_name_and_number_are_one() {
    for (text, expected) in [
        (json!("6"), RuleService::Ports(6, 1, 2)),
        (json!("TCP"), RuleService::Ports(6, 1, 2)),
        (json!("17"), RuleService::Ports(17, 1, 2)),
        (json!(-1), RuleService::All),
        (json!("1"), RuleService::Icmp(1, Some(1), Some(2))),
        (json!("ICMPv6"), RuleService::Icmp(58, Some(1), Some(2))),
        (json!("132"), RuleService::Protocol(132, Some((1, 2)))),
    ] {
        let mut permission = tcp(1, 2, from_v4("10.0.0.0/8"));
        permission["IpProtocol"] = text;
        assert_eq!(service(permission), expected);
    }
    let mut permission = tcp(1, 2, from_v4("10.0.0.0/8"));
    permission["IpProtocol"] = Value::Null;
    let words =
        "Invalid value 'null' for protocol. VPC security group rules must specify protocols explicitly.";
    refused(permission.clone(), "InvalidParameterValue", ".IpProtocol", words);
    for wrong in [json!("256"), json!("tpc"), json!(""), json!(6.5), json!([])] {
        permission["IpProtocol"] = wrong;
        refused(permission.clone(), "InvalidParameterValue", ".IpProtocol", "for protocol");
    }
}

#[test]
fn s22_r7_11_ports_have_both_ends_in_order_and_in_bounds() {
    let source = || from_v4("10.0.0.0/8");
    assert_eq!(service(tcp(0, 65_535, source())), RuleService::Ports(6, 0, 65_535));
    assert_eq!(service(tcp(7000, 8000, source())), RuleService::Ports(6, 7000, 8000));
    let mut half = tcp(80, 80, source());
    half.as_object_mut().unwrap().remove("ToPort");
    let words = "Invalid value for portRange. Must specify both from and to ports with TCP/UDP.";
    refused(half, "InvalidParameterValue", "", words);
    refused(tcp(81, 80, source()), "InvalidParameterValue", "", "portRange");
    refused(tcp(-1, 80, source()), "InvalidParameterValue", ".FromPort", "from 0 to 65535, found -1");
    refused(tcp(0, 65_536, source()), "InvalidParameterValue", ".ToPort", "found 65536");
}

#[test]
fn s23_d4_icmp_types_and_codes() {
    let icmp = |from: i64, to: i64| {
        let mut item = tcp(from, to, from_v4("10.0.0.0/8"));
        item["IpProtocol"] = json!("icmp");
        item
    };
    assert_eq!(service(icmp(-1, -1)), RuleService::Icmp(1, None, None));
    assert_eq!(service(icmp(8, -1)), RuleService::Icmp(1, Some(8), None));
    assert_eq!(service(icmp(255, 255)), RuleService::Icmp(1, Some(255), Some(255)));
    refused(icmp(-1, 0), "InvalidParameterValue", ".ToPort", "needs a type");
    refused(icmp(256, 0), "InvalidParameterValue", ".FromPort", "from -1 to 255");
}

#[test]
fn s24_s25_r7_12_addresses_have_a_length_and_their_own_family() {
    let v6 = |block: &str| json!({ "Ipv6Ranges": [{ "CidrIpv6": block }] });
    for wrong in [
        "1.2.3.4",
        "2600:14a0::/40",
        "1.2.3.4/33",
        "1.2.3.4/",
        "01.2.3.4/32",
        "1.2.3.4/032",
        "1.2.3.4/+8",
        "",
    ] {
        let words = format!("CIDR block {wrong} is malformed");
        refused(tcp(1, 1, from_v4(wrong)), "InvalidParameterValue", ".IpRanges[0].CidrIp", &words);
    }
    for wrong in ["2001:db8::1", "10.0.0.0/8", "::ffff:10.0.0.0/104", "2001:db8::/129"] {
        refused(tcp(1, 1, v6(wrong)), "InvalidParameterValue", ".Ipv6Ranges[0].CidrIpv6", "is malformed");
    }
    good(&inbound(json!([tcp(1, 1, from_v4("1.2.3.4/32")), tcp(1, 1, v6("2001:db8::1/128"))])));
}

#[test]
fn d5_host_bits_are_cut_and_what_is_then_equal_is_a_duplicate() {
    let (policy, notices) = read(&inbound(json!([tcp(80, 80, from_v4("10.1.2.3/8"))]))).unwrap();
    assert_eq!(policy.groups["sg-1"].inbound[0].peer.to_string(), "10.0.0.0/8");
    assert!(notices.iter().any(|n| n.path.ends_with("CidrIp") && n.message.contains("10.0.0.0/8")));
    let all =
        faults(&inbound(json!([tcp(80, 80, from_v4("10.1.2.3/8")), tcp(80, 80, from_v4("10.0.0.0/8"))])));
    let words =
        "the specified rule \"peer: 10.0.0.0/8, TCP, from port: 80, to port: 80, ALLOW\" already exists";
    let path = "SecurityGroups[0].IpPermissions[1].IpRanges[0]".to_string();
    assert_eq!(all, [("InvalidPermission.Duplicate", path, words.to_string())]);
}

#[test]
fn r6_2_r7_14_r7_15_a_rule_has_exactly_one_source() {
    refused(tcp(1, 1, json!({})), "MissingParameter", "", "exactly one of: cidrIp, cidrIpv6");
    let two = json!({ "IpRanges": [{ "CidrIp": "10.0.0.0/8", "GroupId": "sg-1" }] });
    refused(tcp(1, 1, two), "InvalidParameterCombination", ".IpRanges[0]", "Only one of cidrIp");
    let gone = json!({ "PrefixListIds": [{ "PrefixListId": "pl-1" }] });
    refused(
        tcp(1, 1, gone),
        "InvalidPrefixListId.NotFound",
        ".PrefixListIds[0].PrefixListId",
        "does not exist",
    );
}

#[test]
fn s31_s36_d10_references_to_what_is_gone_are_stale_and_to_strangers_refused() {
    let pair = |id: &str| json!({ "UserIdGroupPairs": [{ "GroupId": id }] });
    let document = |status: Option<&str>| {
        let peering = |code| {
            json!([{
                "VpcPeeringConnectionId": "pcx-1", "Status": { "Code": code },
                "RequesterVpcInfo": { "VpcId": "vpc-1" }, "AccepterVpcInfo": { "VpcId": "vpc-2" },
            }])
        };
        let rules = json!([tcp(1, 1, pair("sg-1")), tcp(2, 2, pair("sg-gone")), tcp(3, 3, pair("sg-2"))]);
        json!({
            "SecurityGroups": [group("sg-1", "vpc-1", rules, json!([])), group("sg-2", "vpc-2", json!([]), json!([]))],
            "VpcPeeringConnections": status.map_or(json!([]), peering),
        })
    };
    let stale = |status| {
        let policy = good(&document(Some(status)));
        assert_eq!(good(&policy.to_document()), policy);
        let rules = &policy.groups["sg-1"].inbound;
        rules.iter().map(|r| matches!(r.peer, Peer::Group { stale: true, .. })).collect::<Vec<_>>()
    };
    assert_eq!(stale("active"), [false, true, false]);
    assert_eq!(stale("deleted"), [false, true, true]);
    let path = "SecurityGroups[0].IpPermissions[2].UserIdGroupPairs[0].GroupId".to_string();
    let words = "You have specified two resources that belong to different networks.".to_string();
    assert_eq!(faults(&document(None)), [("InvalidGroup.NotFound", path, words)]);
}

#[test]
fn s32_s33_d1_r7_13_descriptions() {
    let described = |text: String, strict: bool| {
        let range = json!({ "IpRanges": [{ "CidrIp": "10.0.0.0/8", "Description": text }] });
        let mut document = inbound(json!([tcp(1, 1, range)]));
        document["Settings"] = json!({ "StrictRuleDescriptions": strict });
        document
    };
    for (text, strict) in
        [("x".repeat(255), false), ("a-Z0 ._-:/()#,@[]+=;{}!$*".into(), true), ("a&b".into(), false)]
    {
        good(&described(text, strict));
    }
    for (text, strict) in
        [("x".repeat(256), false), ("a&b".into(), true), ("é".into(), false), ("a\nb".into(), false)]
    {
        let all = faults(&described(text, strict));
        assert_eq!(all[0].0, "InvalidParameterValue");
        assert_eq!(all[0].1, "SecurityGroups[0].IpPermissions[0].IpRanges[0].Description");
        assert!(all[0].2.starts_with("Invalid rule description."), "{all:?}");
    }
}

#[test]
fn s35_public_addresses_count_for_nothing() {
    let mut eni = interface("eni-1", "vpc-1", "10.0.0.11", &[]);
    eni["Association"] = json!({ "PublicIp": "203.0.113.9" });
    eni["PrivateIpAddresses"][0]["Association"] = json!({ "PublicIp": "203.0.113.9" });
    let policy = good(&json!({ "NetworkInterfaces": [eni] }));
    assert_eq!(policy.interfaces["eni-1"].addresses, ["10.0.0.11".parse::<std::net::IpAddr>().unwrap()]);
}

#[test]
fn s59_to_s63_d16_r7_16_names_and_descriptions() {
    let named = |name: Value, description: Value| {
        let mut one = group("sg-1", "vpc-1", json!([]), json!([]));
        one["GroupName"] = name;
        one["Description"] = description;
        json!({ "SecurityGroups": [one] })
    };
    let all = faults(&named(Value::Null, json!("")));
    let codes: Vec<_> = all.iter().map(|(code, path, _)| (*code, path.as_str())).collect();
    let missing = "MissingParameter";
    assert_eq!(codes, [(missing, "SecurityGroups[0].GroupName"), (missing, "SecurityGroups[0].Description")]);
    for wrong in ["sg-web", "a\"b", &"x".repeat(256)] {
        let all = faults(&named(json!(wrong), json!("d")));
        assert_eq!((all[0].0, all[0].1.as_str()), ("InvalidParameterValue", "SecurityGroups[0].GroupName"));
    }
    assert_eq!(good(&named(json!("R&D  "), json!("d"))).groups["sg-1"].name, "R&D");
    let same = |vpc: &str, name: &str| {
        let mut two = group("sg-2", vpc, json!([]), json!([]));
        two["GroupName"] = json!(name);
        json!({ "SecurityGroups": [group("sg-1", "vpc-1", json!([]), json!([])), two] })
    };
    let names = |document: &Value| {
        let (_, notices) = read(document).unwrap();
        notices.iter().filter(|n| n.path.ends_with("GroupName")).count()
    };
    // `group` names sg-1 "1".
    assert_eq!(
        (names(&same("vpc-1", "1 ")), names(&same("vpc-2", "1")), names(&same("vpc-1", "2"))),
        (1, 0, 0)
    );
}

#[test]
fn d6_prefix_lists_have_one_family_and_a_weight() {
    let document = |cidr: &str, most: usize, quota: usize| {
        let from = json!({ "PrefixListIds": [{ "PrefixListId": "pl-1" }] });
        let mut document = inbound(json!([tcp(1, 1, from)]));
        document["PrefixLists"] =
            json!([{ "PrefixListId": "pl-1", "AddressFamily": "IPv4", "MaxEntries": most }]);
        document["PrefixListEntries"] = json!({ "pl-1": [{ "Cidr": cidr }, { "Cidr": "192.0.2.0/24" }] });
        document["Settings"] = json!({ "Quotas": { "RulesPerSecurityGroup": quota } });
        document
    };
    good(&document("10.0.0.0/8", 60, 60));
    let of = |document| faults(&document).remove(0);
    let (code, path, _) = of(document("2001:db8::/32", 60, 60));
    assert_eq!((code, path.as_str()), ("InvalidParameterValue", "PrefixListEntries.pl-1[0].Cidr"));
    let (code, path, _) = of(document("10.0.0.0/8", 1, 60));
    assert_eq!((code, path.as_str()), ("PrefixListMaxEntriesExceeded", "PrefixLists[0]"));
    let (code, path, _) = of(document("10.0.0.0/8", 60, 59));
    assert_eq!(
        (code, path.as_str()),
        ("RulesPerSecurityGroupLimitExceeded", "SecurityGroups[0].IpPermissions")
    );
}

#[test]
fn d20_r7_17_quotas_by_direction_and_family_and_unlimited() {
    let document = |rules: i64, groups: usize, quotas: Value| {
        let rules: Vec<Value> = (1..=rules).map(|port| tcp(port, port, from_v4("10.0.0.0/8"))).collect();
        let all: Vec<String> = (1..=groups).map(|n| format!("sg-{n}")).collect();
        let names: Vec<&str> = all.iter().map(String::as_str).collect();
        let described: Vec<Value> =
            names.iter().map(|id| group(id, "vpc-1", json!(rules), json!([]))).collect();
        json!({
            "SecurityGroups": described, "Settings": { "Quotas": quotas },
            "NetworkInterfaces": [interface("eni-1", "vpc-1", "10.0.0.11", &names)],
        })
    };
    good(&document(60, 5, Value::Null));
    good(&document(61, 16, json!("unlimited")));
    let over = read(&document(61, 1, Value::Null)).map(|_| ()).unwrap_err();
    assert!(over.is_quota());
    assert_eq!(over.errors[0].code, "RulesPerSecurityGroupLimitExceeded");
    assert!(
        over.errors[0]
            .message
            .starts_with("The maximum number of rules per security group has been reached.")
    );
    let all = faults(&document(1, 6, Value::Null));
    assert_eq!(
        (all[0].0, all[0].1.as_str()),
        ("SecurityGroupsPerInterfaceLimitExceeded", "NetworkInterfaces[0].Groups")
    );
    let product = json!({ "RulesPerSecurityGroup": 201, "SecurityGroupsPerInterface": 5 });
    assert_eq!(faults(&document(1, 1, product))[0].1, "Settings.Quotas");
}

#[test]
fn d28_a_document_cut_short_is_refused_unless_it_is_meant() {
    let document = json!({ "SecurityGroups": [], "NextToken": "abc" });
    assert_eq!(faults(&document)[0].1, "NextToken");
    let ports = ports();
    validate(&document, &policy::Context { partial: true, ..context(&ports) }).unwrap();
}

#[test]
fn every_error_is_listed_up_to_a_bound() {
    let wrong: Vec<Value> = (0..10_000).map(|n| tcp(1, 1, from_v4(&format!("10.0.0.{n}")))).collect();
    let all = read(&inbound(json!(wrong))).map(|_| ()).unwrap_err();
    assert_eq!((all.errors.len(), all.not_listed), (MAX_FAULTS, 10_000 - MAX_FAULTS));
    assert_eq!(all.errors[999].path, "SecurityGroups[0].IpPermissions[999].IpRanges[0].CidrIp");
}

/// Something of everything.
fn rich() -> Value {
    let mut one = interface("eni-1", "vpc-1", "10.0.0.11", &["sg-1", "sg-2"]);
    one["Ipv6Addresses"] = json!([{ "Ipv6Address": "2001:db8::11" }]);
    one["Ipv4Prefixes"] = json!([{ "Ipv4Prefix": "10.0.1.16/28" }]);
    one["Ipv6Prefixes"] = json!([{ "Ipv6Prefix": "2001:db8:1::/80" }]);
    one["SourceDestCheck"] = json!(false);
    one["Attachment"] = json!({ "InstanceId": "i-1", "DeviceIndex": 1 });
    one["ConnectionTrackingConfiguration"] = json!({ "TcpEstablishedTimeout": 600, "UdpTimeout": 45 });
    let rules = json!([
        tcp(443, 443, json!({ "Ipv6Ranges": [{ "CidrIpv6": "::/0" }], "UserIdGroupPairs": [{ "GroupId": "sg-9" }, { "GroupId": "sg-gone" }] })),
        { "IpProtocol": "-1", "PrefixListIds": [{ "PrefixListId": "pl-1", "Description": "offices" }] },
        tcp(443, 443, json!({ "IpRanges": [{ "CidrIp": "0.0.0.0/0", "Description": "everyone" }] })),
        { "IpProtocol": "132", "IpRanges": [{ "CidrIp": "10.0.0.0/8" }] },
        { "IpProtocol": "icmp", "FromPort": 3, "ToPort": 4, "IpRanges": [{ "CidrIp": "10.0.0.0/8" }] },
    ]);
    json!({
        "Vpcs": [{ "VpcId": "vpc-1", "Ipv6CidrBlockAssociationSet": [{ "Ipv6CidrBlockState": { "State": "associated" } }] }],
        "Subnets": [{ "SubnetId": "subnet-1", "VpcId": "vpc-1", "CidrBlock": "10.0.0.0/24" }],
        "VpcPeeringConnections": [{
            "VpcPeeringConnectionId": "pcx-1", "Status": { "Code": "active" },
            "RequesterVpcInfo": { "VpcId": "vpc-1" }, "AccepterVpcInfo": { "VpcId": "vpc-2" },
        }],
        "SecurityGroups": [
            group("sg-1", "vpc-1", rules, json!([])), group("sg-2", "vpc-1", json!([]), json!([])),
            group("sg-9", "vpc-2", json!([]), json!([])),
        ],
        "SecurityGroupRules": [{
            "SecurityGroupRuleId": "sgr-00000000000000001", "GroupId": "sg-1", "IsEgress": false, "IpProtocol": "tcp",
            "FromPort": 443, "ToPort": 443, "CidrIpv4": "0.0.0.0/0", "Description": "everyone",
        }],
        // The same address in two VPCs.
        "NetworkInterfaces": [one, interface("eni-9", "vpc-2", "10.0.0.11", &[])],
        "PrefixLists": [{ "PrefixListId": "pl-1", "PrefixListName": "offices", "AddressFamily": "IPv4", "MaxEntries": 3, "Version": 7 }],
        "PrefixListEntries": { "pl-1": [{ "Cidr": "192.0.2.0/24", "Description": "north" }, { "Cidr": "198.51.100.0/24" }] },
        "Bindings": [
            { "NetworkInterfaceId": "eni-1", "Port": "p1" },
            { "Uplink": "up", "VpcId": "vpc-1", "VlanId": 100 }, { "Uplink": "up", "VpcId": "vpc-2" },
        ],
        "Settings": {
            "Quotas": { "RulesPerSecurityGroup": 100, "SecurityGroupsPerInterface": 10 },
            "StrictRuleDescriptions": true, "Timeouts": { "UdpStreamTimeout": 120 },
        },
    })
}

#[test]
fn an_export_says_what_the_document_said() {
    let policy = good(&rich());
    assert_eq!(good(&policy.to_document()), policy);
    let mut plain = rich();
    plain["Settings"]["Quotas"] = json!("unlimited");
    let unlimited = good(&plain);
    assert_eq!(unlimited.settings.quotas, None);
    assert_eq!(good(&unlimited.to_document()), unlimited);
}

#[test]
fn r6_4_rules_of_the_same_protocol_and_ports_are_shown_as_one() {
    let range = |block: &str| json!({ "IpRanges": [{ "CidrIp": block }] });
    let all = json!({ "IpProtocol": "-1", "IpRanges": [{ "CidrIp": "192.0.2.1/32" }] });
    let document = inbound(json!([
        tcp(80, 80, range("10.0.0.0/8")),
        tcp(80, 81, range("10.0.0.0/8")),
        tcp(80, 80, json!({ "Ipv6Ranges": [{ "CidrIpv6": "::/0" }] })),
        tcp(80, 80, range("192.0.2.0/24")),
        all,
    ]));
    let shown = good(&document).groups["sg-1"].to_document();
    let items = shown["IpPermissions"].as_array().unwrap();
    let of = |from: i64, to: i64| {
        items.iter().find(|i| (&i["FromPort"], &i["ToPort"]) == (&json!(from), &json!(to))).unwrap()
    };
    assert_eq!(items.len(), 3);
    assert_eq!(of(80, 80)["IpRanges"], json!([{ "CidrIp": "10.0.0.0/8" }, { "CidrIp": "192.0.2.0/24" }]));
    assert_eq!(of(80, 80)["Ipv6Ranges"], json!([{ "CidrIpv6": "::/0" }]));
    assert_eq!(of(80, 81)["IpRanges"], json!([{ "CidrIp": "10.0.0.0/8" }]));
    let everything = items.iter().find(|i| i["IpProtocol"] == "-1").unwrap();
    assert!(everything.get("FromPort").is_none() && everything.get("ToPort").is_none(), "{everything}");
}

#[test]
fn r6_6_interfaces_have_addresses_of_every_kind_and_check_them() {
    let mut described = interface("eni-1", "vpc-1", "10.0.0.11", &[]);
    described["PrivateIpAddresses"] = json!([
        { "PrivateIpAddress": "10.0.0.12", "Primary": false },
        { "PrivateIpAddress": "10.0.0.11", "Primary": true, "Association": { "PublicIp": "198.51.100.1" } },
    ]);
    described["Ipv6Addresses"] = json!([{ "Ipv6Address": "fd00::11" }]);
    described["Ipv4Prefixes"] = json!([{ "Ipv4Prefix": "10.0.1.0/28" }]);
    described["Ipv6Prefixes"] = json!([{ "Ipv6Prefix": "fd00:1::/80" }]);
    let read =
        |described: &Value| good(&json!({ "NetworkInterfaces": [described] })).interfaces["eni-1"].clone();
    let found = read(&described);
    let addresses: Vec<String> = found.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.0.0.11", "10.0.0.12", "fd00::11"], "the primary first, the public never");
    let prefixes: Vec<String> = found.prefixes.iter().map(ToString::to_string).collect();
    assert_eq!(prefixes, ["10.0.1.0/28", "fd00:1::/80"]);
    assert!(found.source_dest_check, "on, where nothing is said");
    described["SourceDestCheck"] = json!(false);
    assert!(!read(&described).source_dest_check);
}

#[test]
fn s19_the_order_of_rules_means_nothing() {
    let mut other = rich();
    other["SecurityGroups"][0]["IpPermissions"].as_array_mut().unwrap().reverse();
    other["SecurityGroups"].as_array_mut().unwrap().reverse();
    other["NetworkInterfaces"][0]["Groups"].as_array_mut().unwrap().reverse();
    assert_eq!(good(&other), good(&rich()));
}

/// The values of a document, depth first.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(object) => object.values().map(count).sum(),
        _ => 0,
    }
}

/// Puts something else in the place of the n-th value.
fn replace(value: &mut Value, n: &mut usize, by: &Value) {
    if *n == 0 {
        *value = by.clone();
    }
    *n = n.wrapping_sub(1);
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, n, by)),
        Value::Object(object) => object.values_mut().for_each(|item| replace(item, n, by)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_wrong_is_told_with_its_place(
        at in prop::collection::vec(any::<prop::sample::Index>(), 1..3),
        by in prop::sample::select(vec![
            json!(null), json!(true), json!(-1), json!(1e300), json!(u64::MAX), json!(""), json!("x"), json!("sg-1"),
            json!("0.0.0.0/0"), json!("::ffff:0:0/96"), json!("é".repeat(600)), json!([]), json!([1]), json!([[]]),
            json!({}), json!([{}]), json!({ "deny": 1 }),
        ]),
    ) {
        let mut document = rich();
        for index in at {
            let mut n = index.index(count(&document));
            replace(&mut document, &mut n, &by);
        }
        match read(&document) {
            Ok((policy, _)) => prop_assert_eq!(good(&policy.to_document()), policy),
            Err(faults) => {
                prop_assert!(!faults.errors.is_empty());
                let whole = !document.is_object();
                prop_assert!(faults.errors.iter().all(|f| whole || !f.path.is_empty()), "{:?}", faults);
            }
        }
    }
}
