//! What groups never filter, its allowance, and floods.

use super::super::{EXEMPT_PER_SECOND, PortIndex};
use super::world::*;
use crate::addr::MacAddr;
use crate::packet::build::{Packet, arp, mac};
use crate::pipeline::{Outcome, PassClass};
use crate::time::TICKS_PER_SECOND;
use crate::verdict::DropReason;

fn places(world: &World, outcome: &Outcome) -> Vec<u16> {
    match outcome {
        Outcome::Flood(range) => world.out.copies(range).iter().map(|d| d.port.0).collect(),
        Outcome::Send(delivery) => vec![delivery.port.0],
        Outcome::Drop(_) | Outcome::HandOver { .. } | Outcome::Wait(_) => vec![],
    }
}

#[test]
fn a_question_goes_to_the_owner_of_the_address_alone() {
    let mut world = World::new();
    let ask = |target| arp(1, (mac(1), "10.0.0.1"), (mac(0), target));
    assert_eq!(world.put(PortIndex(0), &ask("10.0.0.3")), to(C));
    assert_eq!(world.put(PortIndex(0), &ask("10.0.0.77")), out());
    let announced = world.put(PortIndex(0), &ask("10.0.0.1"));
    assert_eq!(places(&world, &announced), [1, 2, 3]);
    world.uplink = None;
    assert_eq!(world.put(PortIndex(0), &ask("10.0.0.77")), Outcome::Drop(DropReason::NoDestination));
    assert_eq!(world.passed(PassClass::Exempt), 3);
    assert_eq!(world.at(B).inbound_packets.get(), 1);
}

#[test]
fn d22_the_unfiltered_is_capped_per_interface() {
    let mut world = World::new();
    let frame = arp(1, (mac(1), "10.0.0.1"), (mac(0), "10.0.0.2"));
    let allowance = EXEMPT_PER_SECOND / TICKS_PER_SECOND;
    for _ in 0..allowance {
        assert_eq!(world.put(PortIndex(0), &frame), to(B));
    }
    assert_eq!(world.put(PortIndex(0), &frame), Outcome::Drop(DropReason::ExemptRate));
    let neighbour = arp(2, (mac(2), "10.0.0.2"), (mac(1), "10.0.0.1"));
    assert_eq!(world.put(PortIndex(1), &neighbour), to(A));
    world.now.0 += 1;
    assert_eq!(world.put(PortIndex(0), &frame), to(B));
    assert_eq!(world.at(A).drops.get(DropReason::ExemptRate), 1);
}

#[test]
fn a_broadcast_reaches_those_whose_rules_permit_it() {
    let mut world = World::new();
    let packet = Packet::udp("10.0.0.1:7", "10.0.0.255:7", b"anyone?");
    let frame = packet.frame(mac(1), MacAddr::BROADCAST);
    assert_eq!(world.put(PortIndex(0), &frame), Outcome::Drop(DropReason::OutboundDenied));
    world.open(A, &[], &[Open::All]);
    world.uplink = None;
    assert_eq!(world.put(PortIndex(0), &frame), Outcome::Drop(DropReason::NoDestination));
    world.open(C, &[Open::Ports(17, 7, 7)], &[]);
    assert_eq!(world.put(PortIndex(0), &frame), to(C));
    world.open(B, &[Open::Ports(17, 8, 8)], &[]);
    assert_eq!(world.put(PortIndex(0), &frame), to(C));
    world.open(B, &[Open::Ports(17, 7, 7)], &[]);
    let flooded = world.put(PortIndex(0), &frame);
    assert_eq!(places(&world, &flooded), [1, 2]);
    assert_eq!(world.connections(), 0);
    assert_eq!(world.passed(PassClass::Flooded), 3);
    let spoofed = Packet::udp("10.0.0.2:7", "10.0.0.255:7", b"").frame(mac(1), MacAddr::BROADCAST);
    assert_eq!(world.put(PortIndex(0), &spoofed), Outcome::Drop(DropReason::SpoofedAddress));
}

#[test]
fn dhcp_clients_ask_outwards_and_are_answered_from_there() {
    let mut world = World::new();
    let discover = Packet::udp("0.0.0.0:68", "255.255.255.255:67", b"");
    assert_eq!(world.put(PortIndex(0), &discover.frame(mac(1), MacAddr::BROADCAST)), out());
    let offer = Packet::udp("10.0.0.254:67", "10.0.0.1:68", b"");
    assert_eq!(world.send_in(A, &offer), to(A));
    assert_eq!(world.passed(PassClass::Exempt), 2);
    // A server on an interface is judged like anything else, and so are other ports.
    let rogue = Packet::udp("10.0.0.2:67", "10.0.0.1:68", b"");
    assert_eq!(world.send(B, A, &rogue), Outcome::Drop(DropReason::OutboundDenied));
    world.open(B, &[], &[Open::All]);
    assert_eq!(world.send(B, A, &rogue), Outcome::Drop(DropReason::InboundDenied));
    let other = Packet::udp("10.0.0.254:67", "10.0.0.1:69", b"");
    assert_eq!(world.send_in(A, &other), Outcome::Drop(DropReason::InboundDenied));
    let own = Packet::udp("10.0.0.1:69", "255.255.255.255:67", b"").frame(mac(1), MacAddr::BROADCAST);
    assert_eq!(world.put(PortIndex(0), &own), Outcome::Drop(DropReason::OutboundDenied));
    let foreign = Packet::udp("10.0.0.3:68", "255.255.255.255:67", b"").frame(mac(1), MacAddr::BROADCAST);
    assert_eq!(world.put(PortIndex(0), &foreign), Outcome::Drop(DropReason::SpoofedAddress));
}
