//! Where documents say that hosts beyond the uplinks are.

mod common;

use std::sync::Arc;

use common::{context, group, interface};
use engine::forward::Behind;
use engine::ids::PortIndex;
use engine::snapshot::Snapshot;
use policy::{Binding, Compiler, Fault, Ports, Rulebook, Validated, explain, plan, validate};
use serde_json::{Value, json};

const ROUTER: &str = "02:00:00:00:00:fe";

/// The ports of the switch; `up1` is there, or was removed while it is bound.
fn ports(has_up1: bool) -> Ports {
    let mut ports = common::ports();
    ports.insert("up1".to_string(), has_up1.then_some(PortIndex(3)));
    ports
}

/// An interface here, one behind an uplink, a router behind the other, and another VPC.
fn example() -> Value {
    let groups = ["vpc-1", "vpc-2"].map(|vpc| group(&format!("sg-{vpc}"), vpc, json!([]), json!([])));
    let uplink = |name: &str, vpc: &str, vlan: u16| json!({ "Uplink": name, "VpcId": vpc, "VlanId": vlan });
    let mut other = uplink("up1", "vpc-1", 7);
    other["MacAddresses"] = json!([ROUTER, "02:00:00:00:00:fd"]);
    json!({
        "SecurityGroups": groups,
        "NetworkInterfaces": [
            interface("eni-here", "vpc-1", "10.0.0.1", &["sg-vpc-1"]),
            interface("eni-far", "vpc-1", "10.0.0.2", &["sg-vpc-1"]),
            interface("eni-other", "vpc-2", "10.0.0.2", &["sg-vpc-2"]),
        ],
        // A place may stand before its uplink.
        "Bindings": [
            { "NetworkInterfaceId": "eni-far", "Uplink": "up" },
            { "NetworkInterfaceId": "eni-here", "Port": "p1" },
            uplink("up", "vpc-1", 7), other, uplink("up", "vpc-2", 8),
        ],
    })
}

fn valid(document: &Value) -> Validated {
    validate(document, &context(&ports(true))).unwrap_or_else(|faults| panic!("{faults:#?}")).0
}

/// The one thing that is wrong.
fn fault(document: &Value) -> Fault {
    let faults = validate(document, &context(&ports(true))).expect_err("it is wrong");
    let [fault] = &faults.errors[..] else { panic!("{faults:#?}") };
    fault.clone()
}

/// The example with one binding more.
fn and(binding: Value) -> Value {
    let mut document = example();
    document["Bindings"].as_array_mut().unwrap().push(binding);
    document
}

fn assert_fault(document: &Value, path: &str, words: &str) {
    let found = fault(document);
    assert!(found.path == path && found.message.contains(words), "{found:?}");
}

#[test]
fn places_are_read_and_exported_and_the_export_changes_nothing() {
    let policy = valid(&example());
    let exported = policy.to_document();
    let again = valid(&exported);
    assert_eq!(again, policy);
    assert_eq!(again.to_document(), exported);
    assert!(policy.bindings.contains(&Binding::Behind { interface: "eni-far".into(), uplink: "up".into() }));
    let hosts = exported["Bindings"].as_array().unwrap().iter().find(|b| b["Uplink"] == "up1").unwrap();
    assert_eq!(hosts["MacAddresses"], json!(["02:00:00:00:00:fd", ROUTER]), "in order");
    // No place is what there was before.
    let none = json!([]);
    let mut document = example();
    document["Bindings"][3]["MacAddresses"] = none;
    let policy = valid(&document).to_document();
    assert!(policy["Bindings"].as_array().unwrap().iter().all(|b| b.get("MacAddresses").is_none()));
}

#[test]
fn what_cannot_be_is_refused_with_its_place() {
    let far = |uplink: &str| {
        let mut document = example();
        document["Bindings"][0]["Uplink"] = json!(uplink);
        document
    };
    assert_fault(&far("nowhere"), "Bindings[0].Uplink", "no binding makes 'nowhere' an uplink");
    assert_fault(&far("p1"), "Bindings[0].Uplink", "'p1' serves an interface and is no uplink");
    let other = and(json!({ "NetworkInterfaceId": "eni-other", "Uplink": "up1" }));
    assert_fault(&other, "Bindings[5].Uplink", "'up1' does not carry vpc-2, which 'eni-other' is of");
    let unknown = and(json!({ "NetworkInterfaceId": "eni-none", "Uplink": "up1" }));
    assert_fault(&unknown, "Bindings[5].NetworkInterfaceId", "'eni-none' does not exist");
    assert_eq!(fault(&unknown).code, "InvalidNetworkInterfaceID.NotFound");
    for (id, uplink) in [("eni-far", "up1"), ("eni-far", "up"), ("eni-here", "up")] {
        let twice = and(json!({ "NetworkInterfaceId": id, "Uplink": uplink }));
        assert_fault(&twice, "Bindings[5].NetworkInterfaceId", &format!("'{id}' is bound twice"));
    }
    for key in ["Port", "VpcId", "VlanId", "MacAddresses"] {
        let mut document = example();
        document["Bindings"][0][key] = json!("up");
        assert_fault(&document, "Bindings[0]", "expected NetworkInterfaceId with Port or with Uplink");
    }
    // Under two tags nobody could say which one leads there.
    let tags = and(json!({ "Uplink": "up", "VpcId": "vpc-1", "VlanId": 9 }));
    assert_fault(&tags, "Bindings[0].Uplink", "'up' carries vpc-1 under several tags");
    let tags = and(json!({ "Uplink": "up1", "VpcId": "vpc-1", "VlanId": 9 }));
    assert_fault(&tags, "Bindings[3].MacAddresses", "'up1' carries vpc-1 under several tags");
}

#[test]
fn macs_that_cannot_be_located_are_refused_with_their_place() {
    let with = |macs: Value| {
        let mut document = example();
        document["Bindings"][3]["MacAddresses"] = macs;
        document
    };
    let first = "Bindings[3].MacAddresses[0]";
    assert_fault(&with(json!(["01:00:5e:00:00:01"])), first, "01:00:5e:00:00:01 is no host's MAC");
    assert_fault(&with(json!(["ff:ff:ff:ff:ff:ff"])), first, "is no host's MAC");
    assert_fault(&with(json!(["00:00:00:00:00:00"])), first, "is no host's MAC");
    assert_fault(&with(json!(["02:00"])), first, "'02:00' is no MAC");
    assert_fault(&with(json!([7])), first, "expected a string, found a number");
    assert_fault(&with(json!(ROUTER)), "Bindings[3].MacAddresses", "expected a list, found a string");
    assert_fault(&with(json!([ROUTER, ROUTER])), "Bindings[3].MacAddresses[1]", "has a place already");
    for (mac, id) in [("02:00:00:00:00:01", "eni-here"), ("02:00:00:00:00:02", "eni-far")] {
        assert_fault(&with(json!([mac])), first, &format!("{mac} is the MAC of '{id}'"));
    }
    // Behind two uplinks of a VPC; of another VPC it is another.
    let mut twice = example();
    twice["Bindings"][2]["MacAddresses"] = json!([ROUTER]);
    assert_fault(&twice, "Bindings[3].MacAddresses[0]", "has a place already");
    let mut apart = example();
    apart["Bindings"][4]["MacAddresses"] = json!([ROUTER, "02:00:00:00:00:01"]);
    valid(&apart);
}

#[test]
fn a_vpc_has_a_place_for_so_many_hosts_and_no_more() {
    let with = |count: u32| {
        let macs: Vec<String> =
            (0..count).map(|n| format!("06:00:00:00:{:02x}:{:02x}", n >> 8, n & 0xff)).collect();
        let mut document = example();
        let (some, others) = macs.split_at(10);
        document["Bindings"][2]["MacAddresses"] = json!(some);
        document["Bindings"][3]["MacAddresses"] = json!(others);
        // Those of another VPC do not count.
        document["Bindings"][4]["MacAddresses"] = json!(some);
        document
    };
    valid(&with(1024));
    assert_fault(&with(1025), "Bindings[3].MacAddresses", "more than 1024");
    assert_eq!(fault(&with(1025)).code, "InsufficientCapacity");
}

fn behind(compiler: &Compiler, snapshot: &Snapshot, id: &str) -> Option<Behind> {
    snapshot.interfaces.get(compiler.interface_id(id).unwrap()).unwrap().behind
}

#[test]
fn places_reach_the_tables_and_follow_their_uplink() {
    let mut compiler = Compiler::new(8);
    let policy = valid(&example());
    let snapshot = compiler.compile(&policy, 1, &ports(true)).unwrap();
    let (up, up1) = (Behind::Uplink(PortIndex(2)), Behind::Uplink(PortIndex(3)));
    assert_eq!(behind(&compiler, &snapshot, "eni-far"), Some(up));
    assert_eq!(behind(&compiler, &snapshot, "eni-here"), None);
    assert_eq!(behind(&compiler, &snapshot, "eni-other"), None);
    let names = compiler.vpc_names();
    let vpc = |snapshot: &Snapshot, name: &str| {
        let index = names.iter().find(|(_, id)| *id == name).unwrap().0;
        snapshot.vpc(*index).unwrap().clone()
    };
    let router = ROUTER.parse().unwrap();
    assert_eq!(vpc(&snapshot, "vpc-1").host(router), Some(up1));
    assert_eq!(vpc(&snapshot, "vpc-2").host(router), None);
    assert!(vpc(&snapshot, "vpc-1").is_told() && !vpc(&snapshot, "vpc-2").is_told());

    // The uplink goes and comes back: the places stay, and lead nowhere meanwhile.
    let gone = compiler.compile(&policy, 2, &ports(false)).unwrap();
    assert_eq!(vpc(&gone, "vpc-1").host(router), Some(Behind::Absent));
    assert_eq!(behind(&compiler, &gone, "eni-far"), Some(up));
    assert!(compiler.compiled_interfaces().is_empty(), "nothing of an interface has changed");
    let mut moved = example();
    moved["Bindings"][0]["Uplink"] = json!("up1");
    let gone = compiler.compile(&valid(&moved), 3, &ports(false)).unwrap();
    assert_eq!(behind(&compiler, &gone, "eni-far"), Some(Behind::Absent));
    assert_eq!(compiler.compiled_interfaces(), ["eni-far"]);
    let back = compiler.compile(&valid(&moved), 4, &ports(true)).unwrap();
    assert_eq!(behind(&compiler, &back, "eni-far"), Some(up1));
    moved["Bindings"].as_array_mut().unwrap().remove(0);
    let free = compiler.compile(&valid(&moved), 5, &ports(true)).unwrap();
    assert_eq!(behind(&compiler, &free, "eni-far"), None);
    assert!(vpc(&free, "vpc-1").is_told(), "the router has a place");
}

#[test]
fn an_explanation_says_by_which_uplink() {
    let mut compiler = Compiler::new(8);
    let mut document = example();
    let all = json!([{ "IpProtocol": "-1", "IpRanges": [{ "CidrIp": "0.0.0.0/0" }] }]);
    document["SecurityGroups"][0]["IpPermissions"] = all.clone();
    document["SecurityGroups"][0]["IpPermissionsEgress"] = all;
    let policy = valid(&document);
    let snapshot = compiler.compile(&policy, 1, &ports(true)).unwrap();
    let summary = |from: &str, to: &str| {
        let request = json!({ "from": from, "to": to, "protocol": "tcp", "port": 80 });
        let request = serde_json::from_value(request).unwrap();
        explain(&policy, &compiler, &snapshot, &request).unwrap().summary
    };
    assert!(
        summary("eni-here", "eni-far").ends_with("; it leaves by up"),
        "{}",
        summary("eni-here", "eni-far")
    );
    assert!(summary("eni-far", "eni-here").ends_with("; only if it comes by up"));
    assert!(!summary("eni-here", "192.0.2.1").contains(';'));
}

#[test]
fn a_plan_names_places_that_change() {
    let changes = |after: &Value| {
        let book = |document| Rulebook::new(Arc::new(valid(document)));
        let plan = plan(&book(&example()), &book(after), 1000);
        plan.objects.iter().map(|o| format!("{}: {}", o.id, o.what.join(" "))).collect::<Vec<_>>()
    };
    let mut after = example();
    assert!(changes(&after).is_empty());
    after["Bindings"][0]["Uplink"] = json!("up1");
    assert_eq!(changes(&after), ["eni-far: Uplink"]);
    after["Bindings"][3]["MacAddresses"] = json!([]);
    assert_eq!(changes(&after), ["eni-far: Uplink", "uplink up1 vpc-1: MacAddresses"]);
    let mut after = example();
    after["Bindings"][3]["VlanId"] = json!(9);
    assert_eq!(changes(&after), ["uplink up1 vpc-1: VlanId"]);
    let mut after = example();
    after["Bindings"][0] = json!({ "NetworkInterfaceId": "eni-far", "Port": "p1" });
    after["Bindings"][1] = json!({ "NetworkInterfaceId": "eni-here", "Uplink": "up1" });
    assert_eq!(changes(&after), ["eni-far: Port Uplink", "eni-here: Port Uplink"]);
    after["Bindings"].as_array_mut().unwrap().remove(1);
    assert!(changes(&after).contains(&"eni-here: ".to_string()));
}
