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
