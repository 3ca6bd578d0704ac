//! Packets that meet generated documents often, and these documents validated.

use policy::oracle::Packet;
use policy::{Validated, validate};
use proptest::prelude::*;
use serde_json::Value;

use crate::common::{context, ports};
use crate::generate::PORTS;

const REMOTES: [&str; 14] = [
    "10.0.0.11",
    "10.0.0.12",
    "10.0.0.13",
    "10.0.1.16",
    "10.0.1.31",
    "10.0.1.32",
    "10.1.0.11",
    "10.1.0.12",
    "192.0.2.1",
    "203.0.113.7",
    "2001:db8::11",
    "2001:db8::12",
    "2001:db8:1::1",
    "2001:db8:ffff::1",
];

pub fn packets() -> impl Strategy<Value = Packet> {
    let protocol = prop::sample::select(&[6u8, 6, 6, 17, 17, 1, 58, 47, 132, 50][..]);
    let port = prop_oneof![
        3 => prop::sample::select(&PORTS[..]),
        1 => prop::sample::select(&[0x0800u16, 0x0801, 0x8000, 0x0304][..]),
    ];
    let remote = prop::sample::select(&REMOTES[..]).prop_map(|text| text.parse().unwrap());
    (remote, protocol, port.clone(), port).prop_map(|(remote, protocol, port, source_port)| {
        let ported = matches!(protocol, 6 | 17);
        let icmp = matches!(protocol, 1 | 58);
        Packet {
            remote,
            protocol,
            port: if ported || icmp { port } else { 0 },
            source_port: if ported { source_port } else { 0 },
        }
    })
}

pub fn read(document: &Value) -> Validated {
    match validate(document, &context(&ports())) {
        Ok((policy, _)) => policy,
        Err(faults) => panic!("{faults:?}"),
    }
}
