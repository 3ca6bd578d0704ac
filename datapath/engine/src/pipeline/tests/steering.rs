//! Several workers, and the accounts: every packet ends in exactly one counter.

use proptest::prelude::*;

use super::super::*;
use super::world::*;
use crate::packet::build::{Packet, mac};

#[test]
fn a_flow_has_one_owner_in_both_directions() {
    let mut workers = [World::with(WorkerIndex(0), 2, 1000), World::with(WorkerIndex(1), 2, 1000)];
    for world in &mut workers {
        world.open(A, &[], &[Open::Ports(17, 53, 53)]);
        world.open(B, &[Open::Ports(17, 53, 53)], &[]);
    }
    let mut owned = [0, 0];
    for port in 1000..1100u16 {
        let a = format!("10.0.0.1:{port}");
        let there = Packet::udp(&a, "10.0.0.2:53", b"q").frame(mac(1), mac(2));
        let back = Packet::udp("10.0.0.2:53", &a, b"a").frame(mac(2), mac(1));
        let owner = match workers[0].put(PortIndex(0), &there) {
            outcome @ Outcome::HandOver { .. } => {
                assert_eq!(outcome, handed_to(1));
                assert_eq!(workers[1].burst(&[(PortIndex(0), &there, true)]), [to(B)]);
                1
            }
            outcome => {
                assert_eq!(outcome, to(B));
                0
            }
        };
        owned[owner] += 1;
        assert_eq!(workers[1 - owner].put(PortIndex(1), &back), handed_to(owner));
        assert_eq!(workers[owner].burst(&[(PortIndex(1), &back, true)]), [to(A)]);
    }
    assert!(owned.iter().all(|n| *n > 25), "{owned:?}");
    assert_eq!(workers[0].connections() + workers[1].connections(), 100);
}

#[test]
fn what_was_handed_over_stays() {
    let mut world = World::with(WorkerIndex(0), 2, 1000);
    world.open(A, &[], &[Open::All]);
    world.open(B, &[Open::All], &[]);
    for port in 1000..1100u16 {
        let frame = Packet::udp(&format!("10.0.0.1:{port}"), "10.0.0.2:53", b"q").frame(mac(1), mac(2));
        assert_eq!(world.burst(&[(PortIndex(0), &frame, true)]), [to(B)]);
    }
}

fn frames() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let host = 1u8..5;
    let port = prop_oneof![Just(52u16), Just(53), Just(5000)];
    let valid = (0u16..6, host.clone(), host.clone(), host, port.clone(), port, 0u8..4).prop_map(
        |(on, source, destination, claimed, p, q, kind)| {
            let (src, dst) = (format!("10.0.0.{claimed}"), format!("10.0.0.{destination}"));
            let (s, d) = (format!("{src}:{p}"), format!("{dst}:{q}"));
            let packet = match kind {
                0 | 3 => Packet::udp(&s, &d, b"x"),
                1 => Packet::tcp(&s, &d, crate::packet::TcpFlags(p as u8), 1, 1, b""),
                _ => Packet::ping(&src, &dst, q),
            };
            let to = if kind == 3 { MacAddr::BROADCAST } else { mac(destination) };
            (on, packet.frame(mac(source), to))
        },
    );
    let noise = (0u16..6, proptest::collection::vec(any::<u8>(), 0..80));
    prop_oneof![4 => valid, 1 => noise]
}

proptest! {
    #[test]
    fn every_packet_ends_in_one_counter(
        bursts in proptest::collection::vec(proptest::collection::vec(frames(), 1..BURST), 1..20),
        workers in 1u8..3,
    ) {
        let mut world = World::with(WorkerIndex(0), workers, 100);
        world.open(A, &[Open::Ports(17, 53, 53)], &[Open::All]);
        world.open(B, &[Open::All], &[Open::Ports(6, 53, 53)]);
        world.open(C, &[Open::All], &[Open::All]);
        let (mut packets, mut handed_over) = (0, 0);
        for burst in &bursts {
            let frames: Vec<_> = burst.iter().map(|(port, bytes)| (PortIndex(*port), &bytes[..], false)).collect();
            let outcomes = world.burst(&frames);
            packets += outcomes.len() as u64;
            handed_over += outcomes.iter().filter(|o| matches!(o, Outcome::HandOver { .. })).count() as u64;
            world.now.0 += 1;
        }
        let passed: u64 = PassClass::ALL.iter().map(|c| world.passed(*c)).sum();
        prop_assert_eq!(passed + world.pipeline.counters().drops.total() + handed_over, packets);
    }
}
