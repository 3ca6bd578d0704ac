//! Document after document, each read with the one before at hand: what comes of it
//! is what comes of reading it from the beginning, errors and notices included.

mod common;
#[path = "common/generate.rs"]
mod generate;
#[path = "common/large.rs"]
mod large;

use std::sync::Arc;

use common::{context, group, interface, ports};
use generate::{documents, permission};
use large::large;
use policy::{Arena, Faults, Notice, Precedent, Validated, merge, parse, validate_tree};
use proptest::prelude::*;
use serde_json::{Value, json};

type Outcome = Result<(Validated, Vec<Notice>), Faults>;

fn from_scratch(text: &str) -> Outcome {
    let (arena, ports) = (Arena::default(), ports());
    let whole = parse(&arena, "f", text.as_bytes()).and_then(|parts| merge(&arena, parts))?;
    validate_tree(&whole, &context(&ports))
}

/// Reads a document as the next one.
fn next(precedent: &mut Precedent, text: &str) -> Outcome {
    let (arena, ports) = (Arena::default(), ports());
    let read = precedent.read(&arena, "f", text.as_bytes())?;
    let (policy, notices, learned) = read.validate(&context(&ports))?;
    let policy = Arc::new(policy);
    if let Some(learned) = learned.precedent(text.as_bytes(), &policy) {
        *precedent = learned;
    }
    Ok((Validated::clone(&policy), notices))
}

/// The objects that documents of such policies describe.
fn described(policy: &Validated) -> impl Iterator<Item = &str> {
    let groups = policy.groups.values().filter(|group| group.name != "default").map(|group| &*group.id);
    groups.chain(policy.interfaces.keys().map(|id| &**id))
}

fn is_taken_over(before: &Validated, after: &Validated, id: &str) -> bool {
    match id.starts_with("sg-") {
        true => std::ptr::eq(&before.groups[id], &after.groups[id]),
        false => std::ptr::eq(&before.interfaces[id], &after.interfaces[id]),
    }
}

#[test]
fn what_has_not_changed_is_not_validated_again() {
    let mut document = large(50, 20, 9).to_document();
    let mut precedent = Precedent::default();
    let (first, _) = next(&mut precedent, &document.to_string()).unwrap();
    document["SecurityGroups"][5]["IpPermissions"][0]["FromPort"] = json!(7);
    document["SecurityGroups"][5]["IpPermissions"][0]["ToPort"] = json!(7);
    document["NetworkInterfaces"].as_array_mut().unwrap().swap(3, 30);
    document["NetworkInterfaces"][8]["Groups"] = json!([{ "GroupId": "sg-3" }]);
    // Rules that are named and no longer there.
    let changed = document["SecurityGroups"][5]["GroupId"].clone();
    document["SecurityGroupRules"].as_array_mut().unwrap().retain(|rule| rule["GroupId"] != changed);
    let moved = document["NetworkInterfaces"][8]["NetworkInterfaceId"].as_str().unwrap();
    let text = document.to_string();
    let (second, _) = next(&mut precedent, &text).unwrap();
    assert_eq!(second, from_scratch(&text).unwrap().0);
    for id in described(&first) {
        assert_eq!(
            is_taken_over(&first, &second, id),
            id != changed.as_str().unwrap() && id != moved,
            "{id}"
        );
    }
}

#[test]
fn a_group_is_read_again_where_the_names_of_its_rules_are_others() {
    let mut document = large(5, 4, 3).to_document();
    let mut precedent = Precedent::default();
    let (first, _) = next(&mut precedent, &document.to_string()).unwrap();
    document["SecurityGroupRules"][2]["Description"] = json!("another");
    let named = document["SecurityGroupRules"][2]["GroupId"].as_str().unwrap().to_string();
    let text = document.to_string();
    let (second, _) = next(&mut precedent, &text).unwrap();
    assert_eq!(second, from_scratch(&text).unwrap().0);
    for id in described(&first) {
        assert_eq!(is_taken_over(&first, &second, id), id != named, "{id}");
    }
    // Nothing names any rule.
    document.as_object_mut().unwrap().remove("SecurityGroupRules");
    let text = document.to_string();
    let (third, _) = next(&mut precedent, &text).unwrap();
    assert_eq!(third, from_scratch(&text).unwrap().0);
    assert!(!third.groups.keys().any(|id| is_taken_over(&second, &third, id)));
}

#[test]
fn what_is_not_one_json_object_is_read_as_a_whole() {
    let document = large(5, 4, 3).to_document();
    let mut precedent = Precedent::default();
    let whole = document.to_string();
    let (first, _) = next(&mut precedent, &whole).unwrap();
    for text in [
        format!("{whole}\n{{ \"Subnets\": [] }}"),
        format!("\u{feff}{whole}"),
        format!("{whole} x"),
        whole.replacen("\"NetworkInterfaces\"", "\"SecurityGroups\"", 1),
        format!("[{whole}]"),
        whole[..whole.len() - 2].to_string(),
        String::new(),
    ] {
        assert_eq!(next(&mut precedent, &text), from_scratch(&text));
    }
    let (again, _) = next(&mut precedent, &whole).unwrap();
    assert!(is_taken_over(&first, &again, "sg-1"), "it is still the document before");
}

#[test]
fn a_document_of_many_bytes_is_not_kept() {
    let (arena, ports) = (Arena::default(), ports());
    let text = large(5, 4, 3).to_document().to_string();
    for (length, is_kept) in [(Precedent::MOST_BYTES, true), (Precedent::MOST_BYTES + 1, false)] {
        let text = format!("{text}{}", " ".repeat(length - text.len()));
        let none = Precedent::default();
        let read = none.read(&arena, "f", text.as_bytes()).unwrap();
        let (policy, notices, learned) = read.validate(&context(&ports)).unwrap();
        assert_eq!(Ok((policy.clone(), notices)), from_scratch(&text));
        assert_eq!(learned.precedent(text.as_bytes(), &Arc::new(policy)).is_some(), is_kept);
    }
}

#[test]
fn notices_and_errors_name_the_places_of_now() {
    let mut noticed = group("sg-1", "vpc-1", json!([]), json!([]));
    noticed["Novelty"] = json!(1);
    let permission = json!({ "IpProtocol": "tcp", "FromPort": 1, "ToPort": 1,
        "UserIdGroupPairs": [{ "GroupId": "sg-gone" }] });
    let stale = group("sg-2", "vpc-1", json!([permission]), json!([]));
    let other = group("sg-3", "vpc-1", json!([]), json!([]));
    let mut precedent = Precedent::default();
    let mut paths = |groups: Value| {
        let text = json!({ "SecurityGroups": groups }).to_string();
        let (_, notices) = next(&mut precedent, &text).unwrap();
        notices.into_iter().map(|notice| notice.path).collect::<Vec<_>>()
    };
    let at = |n, m| {
        let reference = format!("SecurityGroups[{m}].IpPermissions[0].UserIdGroupPairs[0].GroupId");
        vec![format!("SecurityGroups[{n}].Novelty"), reference]
    };
    assert_eq!(paths(json!([noticed, stale])), at(0, 1));
    assert_eq!(paths(json!([other, noticed, stale])), at(1, 2));
    assert_eq!(paths(json!([stale, noticed])), at(1, 0));
}

#[test]
fn what_an_object_depends_on_besides_its_bytes_is_looked_at() {
    let permission = json!({ "IpProtocol": "tcp", "FromPort": 1, "ToPort": 1,
        "IpRanges": [{ "CidrIp": "10.0.0.0/8", "Description": "one & two" }, { "CidrIp": "10.0.0.0/9" }],
        "PrefixListIds": [{ "PrefixListId": "pl-1" }] });
    let mut of_subnet = interface("eni-1", "vpc-1", "10.0.0.11", &["sg-1", "sg-2"]);
    of_subnet["SubnetId"] = json!("subnet-1");
    let subnet =
        |vpc: &str, block: &str| json!([{ "SubnetId": "subnet-1", "VpcId": vpc, "CidrBlock": block }]);
    let list =
        |weight: u32| json!([{ "PrefixListId": "pl-1", "AddressFamily": "IPv4", "MaxEntries": weight }]);
    let usual = json!({
        "SecurityGroups": [
            group("sg-1", "vpc-1", json!([permission]), json!([])), group("sg-2", "vpc-1", json!([]), json!([])),
        ],
        "NetworkInterfaces": [of_subnet], "PrefixLists": list(5), "Subnets": subnet("vpc-1", "10.0.0.0/24"),
    });
    let mut precedent = Precedent::default();
    let mut expect = |document: &Value, code: Option<&str>| {
        let outcome = next(&mut precedent, &document.to_string());
        assert_eq!(outcome, from_scratch(&document.to_string()));
        let found = outcome.as_ref().err().map(|faults| faults.errors[0].code);
        assert_eq!(found, code, "{document}");
    };
    for (key, value, code) in [
        ("Settings", json!({ "StrictRuleDescriptions": true }), Some("InvalidParameterValue")),
        (
            "Settings",
            json!({ "Quotas": { "RulesPerSecurityGroup": 6 } }),
            Some("RulesPerSecurityGroupLimitExceeded"),
        ),
        (
            "Settings",
            json!({ "Quotas": { "SecurityGroupsPerInterface": 1 } }),
            Some("SecurityGroupsPerInterfaceLimitExceeded"),
        ),
        ("Settings", json!({ "Timeouts": { "UdpTimeout": 31 } }), None),
        ("PrefixLists", json!([]), Some("InvalidPrefixListId.NotFound")),
        ("PrefixLists", list(59), Some("RulesPerSecurityGroupLimitExceeded")),
        ("PrefixLists", list(58), None),
        ("Subnets", subnet("vpc-1", "10.9.0.0/24"), Some("InvalidParameterValue")),
        ("Subnets", subnet("vpc-2", "10.0.0.0/24"), Some("InvalidParameterValue")),
        ("Subnets", subnet("vpc-1", "10.0.0.0/25"), None),
        ("Subnets", json!([]), None),
    ] {
        expect(&usual, None);
        let mut changed = usual.clone();
        changed[key] = value;
        expect(&changed, code);
    }
}

const LISTS: [&str; 3] = ["SecurityGroups", "SecurityGroupRules", "NetworkInterfaces"];

/// What is done to a document: which edit, and two numbers to choose by.
type Edit = (u8, usize, usize);

fn list<'d>(document: &'d mut Value, key: &str) -> &'d mut Vec<Value> {
    if !document[key].is_array() {
        document[key] = json!([]);
    }
    document[key].as_array_mut().unwrap()
}

fn any_of<'d>(document: &'d mut Value, key: &str, n: usize) -> Option<&'d mut Value> {
    let items = list(document, key);
    let count = items.len().max(1);
    items.get_mut(n % count).filter(|item| item.is_object())
}

fn edited(document: &mut Value, (edit, a, b): Edit, rule: &Value) {
    let key = LISTS[a % 3];
    let some_group = any_of(document, LISTS[0], a)
        .map_or("sg-1".to_string(), |group| group["GroupId"].as_str().unwrap_or("sg-1").to_string());
    match edit {
        0 | 1 => {
            let items = list(document, key);
            if let Some(last) = items.len().checked_sub(1) {
                items.swap(b % (last + 1), (a / 3) % (last + 1));
            }
        }
        2 => {
            let items = list(document, key);
            if !items.is_empty() {
                items.remove(b % items.len());
            }
        }
        3 if b % 3 == 0 => {
            let copy = any_of(document, key, b).cloned();
            list(document, key).extend(copy);
        }
        4 => {
            let names = ["web", "WEB", "default", "2", "sg-bad"];
            any_of(document, LISTS[0], a)
                .into_iter()
                .for_each(|g| g["GroupName"] = json!(names[b % names.len()]));
        }
        5..=8 => {
            let direction = ["IpPermissions", "IpPermissionsEgress"][b % 2];
            if let Some(group) = any_of(document, LISTS[0], a) {
                let rules = list(group, direction);
                match edit {
                    5 if !rules.contains(rule) => rules.push(rule.clone()),
                    6 if !rules.is_empty() => drop(rules.remove(b % rules.len())),
                    7 => rules.reverse(),
                    _ => {}
                }
            }
        }
        9 => any_of(document, key, b).into_iter().for_each(|item| item["Novelty"] = json!(a)),
        10 => {
            if let Some(group) = any_of(document, LISTS[0], a).and_then(Value::as_object_mut) {
                group.remove("IpPermissionsEgress");
            }
        }
        11 => {
            let code = ["active", "deleted"][b % 2];
            document["VpcPeeringConnections"] = match a % 3 {
                0 => json!([]),
                _ => json!([{
                    "VpcPeeringConnectionId": "pcx-1", "RequesterVpcInfo": { "VpcId": "vpc-1" },
                    "AccepterVpcInfo": { "VpcId": "vpc-2" }, "Status": { "Code": code },
                }]),
            };
        }
        12 => {
            let quotas = [
                json!("unlimited"),
                json!({ "RulesPerSecurityGroup": 1 + a % 9 }),
                json!({ "SecurityGroupsPerInterface": 1 + a % 3 }),
            ];
            document["Settings"] = json!({ "Quotas": quotas[b % 3], "StrictRuleDescriptions": a % 5 == 0 });
        }
        13 => {
            any_of(document, "PrefixLists", a).into_iter().for_each(|l| l["MaxEntries"] = json!(5 + b % 30))
        }
        14 if b % 2 == 0 => {
            let lists = list(document, "PrefixLists");
            lists.retain(|list| list["PrefixListId"] != "pl-none");
            if a % 2 == 0 {
                lists.push(json!({ "PrefixListId": "pl-none", "AddressFamily": "IPv4", "MaxEntries": 5 }));
            }
        }
        15 => {
            let block = ["10.0.0.0/24", "10.0.0.0/29", "10.9.0.0/24"][b % 3];
            document["Subnets"] = json!([{ "SubnetId": "subnet-1", "VpcId": "vpc-1", "CidrBlock": block }]);
            any_of(document, LISTS[2], a).into_iter().for_each(|i| i["SubnetId"] = json!("subnet-1"));
        }
        16 => {
            let groups = [
                json!([]),
                json!([{ "GroupId": some_group }]),
                json!([{ "GroupId": "sg-gone" }]),
                json!([{ "GroupId": "sg-1" }, { "GroupId": "sg-2" }, { "GroupId": "sg-1" }]),
            ];
            any_of(document, LISTS[2], a).into_iter().for_each(|i| i["Groups"] = groups[b % 4].clone());
        }
        17 => {
            let address = ["10.0.0.11", "10.0.0.12", "10.0.0.44", "10.0.1.17"][b % 4];
            if let Some(interface) = any_of(document, LISTS[2], a) {
                interface["PrivateIpAddresses"] = json!([{ "PrivateIpAddress": address }]);
            }
        }
        18 => {
            let text = ["one & two", "plain", ""][b % 3];
            let rules = any_of(document, LISTS[0], a).map(|group| list(group, "IpPermissions"));
            for item in
                rules.into_iter().flatten().filter_map(|rule| rule["IpRanges"].as_array_mut()).flatten()
            {
                item["Description"] = json!(text);
            }
        }
        19 | 20 => {
            // The names of rules, as an export has them.
            if let Ok((policy, _)) = from_scratch(&document.to_string()) {
                document["SecurityGroupRules"] = policy.to_document()["SecurityGroupRules"].clone();
            }
        }
        21 => {
            let key = ["Description", "SecurityGroupRuleId"][a % 2];
            any_of(document, LISTS[1], b).into_iter().for_each(|r| r[key] = json!(format!("sgr-{}", b % 7)));
        }
        22 => {
            let id = ["sg-gone", "sg-new", "sg-0d41d8cd98f00b204"][b % 3];
            list(document, LISTS[0]).push(group(id, ["vpc-1", "vpc-2"][a % 2], json!([rule]), json!([])));
        }
        23 => any_of(document, LISTS[0], a)
            .into_iter()
            .for_each(|g| g["VpcId"] = json!(["vpc-1", "vpc-2", "vpc-3"][b % 3])),
        24 => {
            document["Vpcs"] = match b % 3 {
                0 => json!([]),
                _ => {
                    json!([{ "VpcId": "vpc-1", "Ipv6CidrBlockAssociationSet": [{ "Ipv6CidrBlock": "2001:db8::/32" }] }])
                }
            }
        }
        25 if b % 4 == 0 => document[key] = [json!(null), json!({}), json!([7])][a % 3].clone(),
        26 if b % 4 == 0 => document["NextToken"] = json!(["", "more"][a % 2]),
        27 => {
            // Whatever the document leaves to the switch, written down.
            if let Ok((policy, _)) = from_scratch(&document.to_string()) {
                *document = policy.to_document();
            }
        }
        28 => {
            let address = format!("10.0.7.{}", 1 + b % 9);
            list(document, LISTS[2]).push(interface(
                &format!("eni-{}", 20 + b % 9),
                "vpc-1",
                &address,
                &[&some_group],
            ));
        }
        29 => any_of(document, LISTS[1], b).into_iter().for_each(|r| r["GroupId"] = json!(some_group)),
        _ => {}
    }
}

/// The same document in other bytes.
fn written(document: &Value, style: u8) -> String {
    match style {
        0 => serde_json::to_string_pretty(document).unwrap(),
        1 => {
            // Its keys the other way round, and room everywhere.
            let entries = document.as_object().unwrap().iter().rev();
            let entries: Vec<String> = entries.map(|(key, value)| format!("\"{key}\"\t: {value} ")).collect();
            format!(" {{\r\n{} }}\n ", entries.join("\n, "))
        }
        _ => document.to_string(),
    }
}

/// A text with a byte of it changed.
fn damaged(text: &str, at: usize, by: u8) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let at = at % bytes.len();
    let wanted = b"{}[],:\" 0e\\x";
    match by % 3 {
        0 => drop(bytes.remove(at)),
        1 => bytes.insert(at, wanted[usize::from(by) % wanted.len()]),
        _ => bytes[at] = wanted[usize::from(by) % wanted.len()],
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn what_is_taken_over_is_what_would_be_read(
        first in documents(),
        steps in prop::collection::vec(
            (
                prop::collection::vec(((0u8..30, 0usize..60, 0usize..60), permission()), 0..3),
                0u8..12,
                prop::option::weighted(0.1, (any::<usize>(), any::<u8>())),
            ),
            2..12,
        ),
    ) {
        let mut precedent = Precedent::default();
        let (mut right, mut document) = (first.clone(), first);
        for (edits, style, damage) in &steps {
            edits.iter().for_each(|(edit, rule)| edited(&mut document, *edit, rule));
            let mut text = written(&document, *style);
            if let Some((at, by)) = damage {
                text = damaged(&text, *at, *by);
            }
            let outcome = next(&mut precedent, &text);
            let expected = from_scratch(&text);
            prop_assert_eq!(&outcome, &expected, "{}", text);
            // Most of the time one goes on from what was right.
            match expected {
                Ok(_) => right = document.clone(),
                Err(_) if style % 4 != 0 => document = right.clone(),
                Err(_) => {}
            }
        }
    }
}
