//! The rules that the traffic meets: as a policy of the switch, and as flows of
//! OpenFlow. Addresses and ports are those of `tests/bench/frames.h`.

use serde_json::{Value, json};

use super::{Kind, Traffic};

/// The clients of a rule, by family, and the port that it opens to them.
fn rule(number: u64) -> (String, String, u64) {
    let v4 = format!("10.{}.{}.0/24", 1 + (number >> 8), number & 255);
    (v4, format!("fd00:0:0:{number:x}::/64"), 1000 + number * 37 % 50000)
}

/// Where the attacker comes from.
const ATTACKERS: &str = "172.16.0.0/12";

/// The port that the server opens to all of those.
const OPEN_TO_ATTACKERS: u64 = 900;

/// The attacker's address, where he is one host.
const ATTACKER: &str = "172.16.0.5";

/// How many groups the attacker and the server are in.
const GROUPS: usize = 16;

/// The rules of each of those groups of the server.
const RULES_OF_GROUP: usize = 60;

/// Who the third port is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Third {
    /// There is none.
    Nobody,
    /// An interface of one address, in one group, or in as many as there can be, as the server then is.
    Interface {
        /// Whether it is in many.
        in_many_groups: bool,
    },
    /// The network beyond.
    Uplink,
}

fn permission(protocol: &str, ports: Option<u64>, v4: &[&str], v6: &[&str]) -> Value {
    let v4: Vec<_> = v4.iter().map(|block| json!({ "CidrIp": block })).collect();
    let v6: Vec<_> = v6.iter().map(|block| json!({ "CidrIpv6": block })).collect();
    let mut permission = json!({ "IpProtocol": protocol, "IpRanges": v4, "Ipv6Ranges": v6 });
    if let Some(port) = ports {
        permission["FromPort"] = port.into();
        permission["ToPort"] = port.into();
    }
    permission
}

/// The policy: clients at port 0, a server at port 1 with so many rules, or
/// everything open to everyone; and who is at port 2.
pub fn document(traffic: Traffic, third: Third) -> Value {
    let all = || json!([permission("-1", None, &["0.0.0.0/0"], &["::/0"])]);
    let protocol = traffic.kind.protocol();
    let rules = (0..traffic.rules).map(|number| {
        let (v4, v6, port) = rule(number);
        match traffic.kind {
            Kind::Established6 => permission(protocol, Some(port), &[], &[&v6]),
            _ => permission(protocol, Some(port), &[&v4], &[]),
        }
    });
    let mut rules: Vec<Value> = rules.collect();
    if third != Third::Nobody {
        rules.extend(
            ["tcp", "udp"].map(|protocol| permission(protocol, Some(OPEN_TO_ATTACKERS), &[ATTACKERS], &[])),
        );
    }
    let (clients, server) = match traffic.is_open() {
        true => (all(), all()),
        false => (json!([]), rules.into()),
    };
    let group = |id: &str, name: &str, rules: Value| {
        json!({
            "GroupId": id, "GroupName": name, "Description": name, "VpcId": "vpc-1",
            "IpPermissions": rules, "IpPermissionsEgress": all(),
        })
    };
    let mut groups = vec![
        group("sg-0000000000000000a", "clients", clients),
        group("sg-0000000000000000b", "servers", server),
        group("sg-0000000000000000c", "others", json!([])),
        group("sg-0000000000000000d", "strangers", json!([])),
    ];
    let (mut of_server, mut of_third) =
        (vec!["sg-0000000000000000b".to_string()], vec!["sg-0000000000000000c".to_string()]);
    if third == (Third::Interface { in_many_groups: true }) {
        let [to, from] = ["a", "b"].map(|kind| move |n: usize| format!("sg-{kind}0000000000000{n:03}"));
        for at in 1..GROUPS {
            let rule = |n: usize| {
                let port = 50_000 + at * RULES_OF_GROUP + n;
                json!({ "IpProtocol": "udp", "FromPort": port, "ToPort": port,
                        "UserIdGroupPairs": [{ "GroupId": from(1 + n % (GROUPS - 1)) }] })
            };
            groups.push(group(&to(at), &format!("to {at}"), (0..RULES_OF_GROUP).map(rule).collect()));
            groups.push(group(&from(at), &format!("from {at}"), json!([])));
            of_server.push(to(at));
            of_third.push(from(at));
        }
    }
    let members = |groups: &[String]| groups.iter().map(|id| json!({ "GroupId": id })).collect::<Vec<_>>();
    let mut interfaces = vec![
        json!({ "NetworkInterfaceId": "eni-0000000000000000a", "VpcId": "vpc-1", "MacAddress": "02:00:00:00:00:0a",
                "Groups": [{ "GroupId": "sg-0000000000000000a" }], "PrivateIpAddresses": [], "Ipv6Addresses": [],
                "Ipv4Prefixes": [{ "Ipv4Prefix": "10.0.0.0/8" }], "Ipv6Prefixes": [{ "Ipv6Prefix": "fd00::/48" }] }),
        json!({ "NetworkInterfaceId": "eni-0000000000000000b", "VpcId": "vpc-1", "MacAddress": "02:00:00:00:00:0b",
                "Groups": members(&of_server), "Ipv6Addresses": [{ "Ipv6Address": "fd01::11" }],
                "PrivateIpAddresses": [{ "PrivateIpAddress": "192.168.0.11", "Primary": true }] }),
    ];
    let mut bindings = vec![
        json!({ "NetworkInterfaceId": "eni-0000000000000000a", "Port": "net_null0" }),
        json!({ "NetworkInterfaceId": "eni-0000000000000000b", "Port": "net_null1" }),
    ];
    match third {
        Third::Nobody => (),
        Third::Interface { .. } => {
            interfaces.push(json!({
                "NetworkInterfaceId": "eni-0000000000000000c", "VpcId": "vpc-1", "MacAddress": "02:00:00:00:00:0c",
                "Groups": members(&of_third), "Ipv6Addresses": [],
                "PrivateIpAddresses": [{ "PrivateIpAddress": ATTACKER, "Primary": true }],
            }));
            bindings.push(json!({ "NetworkInterfaceId": "eni-0000000000000000c", "Port": "net_null2" }));
        }
        Third::Uplink => bindings.push(json!({ "Uplink": "net_null2", "VpcId": "vpc-1" })),
    }
    json!({
        "Vpcs": [{ "VpcId": "vpc-1" }],
        "SecurityGroups": groups,
        "NetworkInterfaces": interfaces,
        "Bindings": bindings,
        "Settings": { "Quotas": "unlimited" },
    })
}

/// The same as flows of OpenFlow: a source check, one trip through the tracker,
/// then established connections, then the rules. Less than EC2 asks for, since
/// only one of the two ends is judged.
pub fn pipeline(traffic: Traffic) -> String {
    let (ip, client, server) = match traffic.kind {
        Kind::Established6 => ("ipv6", "ipv6_src=fd00::/48", "ipv6_src=fd01::11"),
        _ => ("ip", "nw_src=10.0.0.0/8", "nw_src=192.168.0.11"),
    };
    let [client, server] = [(1, 'a', client), (2, 'b', server)]
        .map(|(port, mac, from)| format!("in_port={port},{ip},dl_src=02:00:00:00:00:0{mac},{from}"));
    if traffic.is_open() {
        return format!("{client},actions=output:2\n{server},actions=output:1");
    }
    let track = "actions=ct(table=1,zone=1)";
    let mut lines = vec![format!("table=0,{client},{track}"), format!("table=0,{server},{track}")];
    for (from, to) in [(1, 2), (2, 1)] {
        lines.push(format!(
            "table=1,priority=90,ct_state=+trk+est-inv,{ip},in_port={from},actions=output:{to}"
        ));
    }
    for number in 0..traffic.rules {
        let (v4, v6, port) = rule(number);
        let from = match traffic.kind {
            Kind::Established6 => format!("udp6,in_port=1,ipv6_src={v6}"),
            _ => format!("{},in_port=1,nw_src={v4}", traffic.kind.protocol()),
        };
        let admitted = "actions=ct(commit,zone=1),output:2";
        lines.push(format!("table=1,priority=50,ct_state=+trk+new,{from},tp_dst={port},{admitted}"));
    }
    lines.push("table=1,priority=0,actions=drop".to_string());
    lines.join("\n")
}
