//! What an interface may not claim, and where it may not send.

use super::super::PortIndex;
use super::world::*;
use crate::addr::MacAddr;
use crate::ids::VlanId;
use crate::packet::build::{Packet, arp, ip, mac};
use crate::pipeline::Outcome;
use crate::verdict::DropReason;

fn open_world() -> World {
    let mut world = World::new();
    for who in [A, B, C] {
        world.open(who, &[Open::All], &[Open::All]);
    }
    world
}

#[test]
fn an_interface_sends_as_itself_only() {
    let mut world = open_world();
    let honest = Packet::udp("10.0.0.1:1", "10.0.0.2:1", b"");
    assert_eq!(world.send(A, B, &honest), to(B));
    let cases = [
        (honest.frame(mac(3), mac(2)), DropReason::SpoofedMac),
        (honest.tagged(mac(1), mac(2), VlanId(5)), DropReason::UnexpectedVlan),
        (honest.tagged(mac(1), mac(2), VlanId(0)), DropReason::UnexpectedVlan),
        (Packet::udp("10.0.0.3:1", "10.0.0.2:1", b"").frame(mac(1), mac(2)), DropReason::SpoofedAddress),
        (Packet::udp("[fd00::3]:1", "[fd00::2]:1", b"").frame(mac(1), mac(2)), DropReason::SpoofedAddress),
        (Packet::udp("0.0.0.0:68", "10.0.0.2:67", b"").frame(mac(1), mac(2)), DropReason::SpoofedAddress),
        (Packet::udp("10.0.0.1:1", "10.0.0.3:1", b"").frame(mac(1), mac(2)), DropReason::DestinationCheck),
        (Packet::udp("10.0.0.1:1", "10.0.0.9:1", b"").frame(mac(1), mac(1)), DropReason::Hairpin),
    ];
    for (n, (frame, reason)) in cases.iter().enumerate() {
        assert_eq!(world.put(PortIndex(0), frame), Outcome::Drop(*reason), "case {n}");
    }
    assert_eq!(world.at(A).drops.total(), 7);
    assert_eq!(world.at(B).drops.get(DropReason::DestinationCheck), 1);
    world.uplink = None;
    assert_eq!(
        world.send_out(A, &Packet::udp("10.0.0.1:1", "10.9.9.9:1", b"")),
        Outcome::Drop(DropReason::NoDestination)
    );
}

#[test]
fn without_the_check_an_interface_routes_for_others() {
    let mut world = open_world();
    let routed = Packet::udp("192.0.2.1:1", "198.51.100.1:1", b"");
    assert_eq!(world.send(A, B, &routed), Outcome::Drop(DropReason::SpoofedAddress));
    world.interfaces[A].source_dest_check = false;
    assert_eq!(world.send(A, B, &routed), Outcome::Drop(DropReason::DestinationCheck));
    world.interfaces[B].source_dest_check = false;
    assert_eq!(world.send(A, B, &routed), to(B));
}

#[test]
fn arp_claims_only_its_own() {
    let mut world = open_world();
    assert_eq!(world.put(PortIndex(0), &arp(1, (mac(1), "10.0.0.1"), (mac(0), "10.0.0.2"))), to(B));
    assert_eq!(world.put(PortIndex(1), &arp(2, (mac(2), "10.0.0.2"), (mac(1), "10.0.0.1"))), to(A));
    let mut foreign_inner_mac = arp(1, (mac(1), "10.0.0.1"), (mac(0), "10.0.0.2"));
    foreign_inner_mac[14 + 8 + 5] = 3;
    for frame in [
        arp(1, (mac(1), "10.0.0.3"), (mac(0), "10.0.0.2")),
        arp(2, (mac(1), "10.0.0.3"), (mac(2), "10.0.0.2")),
        arp(2, (mac(1), "0.0.0.0"), (mac(2), "10.0.0.2")),
        // Gratuitous, for another's address.
        arp(1, (mac(1), "10.0.0.3"), (mac(0), "10.0.0.3")),
        foreign_inner_mac,
    ] {
        assert_eq!(world.put(PortIndex(0), &frame), Outcome::Drop(DropReason::SpoofedArp));
    }
    assert_eq!(
        world.put(PortIndex(0), &arp(1, (mac(3), "10.0.0.3"), (mac(0), "10.0.0.2"))),
        Outcome::Drop(DropReason::SpoofedMac)
    );
    // An uplink may not speak for an interface of this switch.
    assert_eq!(
        world.put(UPLINK, &arp(2, (mac(99), "10.0.0.2"), (mac(1), "10.0.0.1"))),
        Outcome::Drop(DropReason::SpoofedArp)
    );
    assert_eq!(world.put(UPLINK, &arp(2, (mac(99), "10.0.0.9"), (mac(1), "10.0.0.1"))), to(A));
}

fn solicitation(src: &str, target: &str, link: u8) -> Packet {
    let rest = [&[0; 4], &ip(target).0.to_be_bytes()[..], &[1, 1, 2, 0, 0, 0, 0, link]].concat();
    Packet::nd(src, "ff02::1:ff00:2", 135, &rest)
}

fn advertisement(src: &str, dst: &str, target: &str, link: u8) -> Packet {
    let rest = [&[0x60, 0, 0, 0], &ip(target).0.to_be_bytes()[..], &[2, 1, 2, 0, 0, 0, 0, link]].concat();
    Packet::nd(src, dst, 136, &rest)
}

#[test]
fn neighbour_discovery_claims_only_its_own() {
    let mut world = open_world();
    let group = MacAddr([0x33, 0x33, 0xff, 0, 0, 2]);
    let spoofed = Outcome::Drop(DropReason::SpoofedNd);
    let mut put = |packet: Packet, to: MacAddr| world.put(PortIndex(0), &packet.frame(mac(1), to));
    assert_eq!(put(solicitation("fd00::1", "fd00::2", 1), group), to(B));
    assert_eq!(put(solicitation("fe80::ff:fe00:1", "fe80::ff:fe00:2", 1), group), to(B));
    assert_eq!(put(solicitation("fe80::1", "fd00::2", 1), group), spoofed);
    assert_eq!(put(solicitation("fd00::3", "fd00::2", 1), group), spoofed);
    assert_eq!(put(solicitation("fd00::1", "fd00::2", 3), group), spoofed);
    assert_eq!(put(advertisement("fd00::1", "fd00::2", "fd00::1", 1), mac(2)), to(B));
    assert_eq!(put(advertisement("fd00::1", "fd00::2", "fd00::3", 1), mac(2)), spoofed);
    assert_eq!(put(advertisement("fd00::3", "fd00::2", "fd00::1", 1), mac(2)), spoofed);
    assert_eq!(put(advertisement("fd00::1", "fd00::2", "fd00::1", 3), mac(2)), spoofed);
    // Duplicate address detection, for its own address and for another's.
    let dad = |target| {
        Packet::nd("::", "ff02::1:ff00:1", 135, &[&[0; 4], &ip(target).0.to_be_bytes()[..]].concat())
    };
    assert!(matches!(put(dad("fd00::1"), group), Outcome::Flood(places) if places.len() == 3));
    assert_eq!(put(dad("fd00::2"), group), spoofed);
    // No interface is a router.
    let router = Packet::nd("fe80::ff:fe00:1", "ff02::1", 134, &[0; 12]);
    assert_eq!(put(router, MacAddr([0x33, 0x33, 0, 0, 0, 1])), spoofed);
    let redirect = Packet::nd("fe80::ff:fe00:1", "fd00::2", 137, &[0; 36]);
    assert_eq!(put(redirect, mac(2)), spoofed);
    let hello = Packet::nd("fe80::99", "ff02::1", 134, &[0; 12]);
    let all = MacAddr([0x33, 0x33, 0, 0, 0, 1]);
    assert!(
        matches!(world.put(UPLINK, &hello.frame(mac(99), all)), Outcome::Flood(places) if places.len() == 3)
    );
}
