//! Policies of any size, for tests and benchmarks of what changes cost.

use std::net::{IpAddr, Ipv4Addr};

use policy::{NetworkInterface, Peer, Rule, RuleService, SecurityGroup, TrackingTimeouts, Validated};

/// So many interfaces with an address each, in turn in one of so many groups, each
/// of which has so many rules: for other groups, and for blocks.
pub fn large(interfaces: u32, groups: u32, rules: u32) -> Validated {
    let mut all = Validated::default();
    all.settings.quotas = None;
    all.vpcs.or_default("vpc-1");
    all.groups.extend((0..groups).map(|n| (format!("sg-{n}"), group(n, groups, rules))));
    all.interfaces.extend((0..interfaces).map(|n| (format!("eni-{n}"), interface(n, groups))));
    all
}

fn group(n: u32, groups: u32, rules: u32) -> SecurityGroup {
    let rule = |i: u32| Rule {
        id: format!("sgr-{n}-{i}").into(),
        service: RuleService::Ports(6, 1000 + i as u16, 1000 + i as u16),
        peer: match i % 2 {
            0 => Peer::Group { id: format!("sg-{}", (n + i) % groups).into(), stale: false },
            _ => {
                let block = 0x0b00_0000 + ((n * rules + i) << 8 & 0xff_ffff);
                Peer::Cidr(ipnet::IpNet::new(IpAddr::V4(Ipv4Addr::from_bits(block)), 24).expect("a block"))
            }
        },
        description: None,
    };
    let everywhere = Rule {
        id: format!("sgr-{n}-out").into(),
        service: RuleService::All,
        peer: Peer::Cidr("0.0.0.0/0".parse().expect("a block")),
        description: None,
    };
    SecurityGroup {
        id: format!("sg-{n}").into(),
        name: format!("group {n}"),
        description: "one of many".to_string(),
        vpc: "vpc-1".into(),
        inbound: (0..rules).map(rule).collect(),
        outbound: vec![everywhere],
    }
}

fn interface(n: u32, groups: u32) -> NetworkInterface {
    let [a, b, c, d] = n.to_be_bytes();
    NetworkInterface {
        id: format!("eni-{n}").into(),
        vpc: "vpc-1".into(),
        subnet: None,
        attachment: None,
        mac: engine::addr::MacAddr([2, 0, a, b, c, d]),
        groups: vec![format!("sg-{}", n % groups).into()],
        addresses: vec![IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n + 1))],
        prefixes: vec![],
        source_dest_check: true,
        timeouts: TrackingTimeouts::default(),
    }
}
