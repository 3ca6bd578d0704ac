//! Where the policy says that hosts beyond the uplinks are.

use super::world::*;
use crate::addr::MacAddr;
use crate::forward::{Behind, Delivery, Uplink, VlanEdit};
use crate::ids::{InterfaceId, PortIndex, VlanId, VpcIndex};
use crate::packet::build::{Packet, arp, ip, mac};
use crate::pipeline::Outcome;
use crate::time::Ticks;
use crate::verdict::DropReason;

const OTHER: PortIndex = PortIndex(4);
const WRONG: Outcome = Outcome::Drop(DropReason::WrongUplink);

fn by(port: PortIndex) -> Outcome {
    Outcome::Send(Delivery { port, vlan: VlanEdit::Keep, receiver: InterfaceId::NONE })
}

/// `a` is plugged in, `c` is beyond the second of two uplinks; both may do all.
fn world(general_only: bool) -> World {
    let mut world = World::new();
    world.pipeline.general_only = general_only;
    world.other_uplink = Some(OTHER);
    for who in [A, C] {
        world.open(who, &[Open::Ports(17, 7, 7)], &[Open::All]);
    }
    world.interfaces[C].port = None;
    world.interfaces[C].behind = Some(Behind::Uplink(OTHER));
    world
}

/// From `a` to `c`, the answer with the MACs of `c`, and with those of a router.
fn talk() -> (Packet, Vec<u8>, Vec<u8>) {
    let ask = Packet::udp("10.0.0.1:5000", "10.0.0.3:53", b"q");
    let answer = Packet::udp("10.0.0.3:53", "10.0.0.1:5000", b"a");
    (ask, answer.frame(mac(3), mac(1)), answer.frame(mac(99), mac(1)))
}

#[test]
fn an_interface_is_reached_by_the_uplink_that_it_is_behind_and_nothing_moves_it() {
    for general_only in [false, true] {
        let mut world = world(general_only);
        let (ask, answer, routed) = talk();
        // At once, without having been heard.
        assert_eq!(world.send(A, C, &ask), by(OTHER));
        // Its own answer passes; in its name by the other uplink nothing does, neither
        // by its MAC nor by its address, also of a connection that there is.
        assert_eq!(world.put(UPLINK, &answer), WRONG);
        assert_eq!(world.put(UPLINK, &routed), WRONG);
        assert_eq!(world.put(OTHER, &answer), to(A));
        assert_eq!(world.put(UPLINK, &answer), WRONG);
        assert_eq!(world.put(UPLINK, &routed), WRONG);
        assert_eq!(world.put(OTHER, &routed), to(A));
        assert_eq!(world.send(A, C, &ask), by(OTHER));
        assert_eq!(world.dropped(DropReason::WrongUplink), 4);
        assert_eq!(world.pipeline.counters().drops.total(), 4, "and nothing else");
        // Silence changes nothing.
        world.now = world.now + Ticks::from_secs(1000);
        assert_eq!(world.send(A, C, &ask), by(OTHER));
    }
}

#[test]
fn a_host_that_is_no_interface_stays_where_it_is_said_to_be_and_others_are_learnt() {
    for general_only in [false, true] {
        let mut world = world(general_only);
        world.interfaces[C].behind = None;
        world.hosts.insert(mac(99), Behind::Uplink(OTHER));
        let ask = Packet::udp("10.0.0.1:5000", "192.0.2.1:53", b"q");
        let answer = Packet::udp("192.0.2.1:53", "10.0.0.1:5000", b"a");
        assert_eq!(world.send_out(A, &ask), by(OTHER));
        assert_eq!(world.put(UPLINK, &answer.frame(mac(99), mac(1))), WRONG);
        assert_eq!(world.put(OTHER, &answer.frame(mac(99), mac(1))), to(A));
        // What a broadcast says of its sender counts no more.
        let shout = Packet::udp("192.0.2.1:1", "255.255.255.255:7", b"").frame(mac(99), MacAddr([0xff; 6]));
        assert_eq!(world.put(UPLINK, &shout), WRONG);
        assert_eq!(world.send_out(A, &ask), by(OTHER));
        // Another one is where it was heard, with the same address, too: this is a router's.
        let moved = answer.frame(mac(98), mac(1));
        let to_98 = ask.frame(mac(1), mac(98));
        assert!(matches!(world.put(PortIndex(0), &to_98), Outcome::Flood(_)));
        for port in [UPLINK, OTHER, UPLINK] {
            assert_eq!(world.put(port, &moved), to(A));
            assert_eq!(world.put(PortIndex(0), &to_98), by(port));
        }
        // What was learnt before it was said does not count after.
        world.hosts.insert(mac(98), Behind::Uplink(OTHER));
        assert_eq!(world.put(PortIndex(0), &to_98), by(OTHER));
        assert_eq!(world.put(UPLINK, &moved), WRONG);
    }
}

#[test]
fn behind_an_uplink_that_is_gone_nobody_is_reached_or_heard() {
    for general_only in [false, true] {
        for others in [Some(OTHER), None] {
            let mut world = world(general_only);
            let (ask, answer, routed) = talk();
            assert_eq!(world.send(A, C, &ask), by(OTHER));
            world.other_uplink = others;
            world.interfaces[C].behind = Some(Behind::Absent);
            assert_eq!(world.send(A, C, &ask), Outcome::Drop(DropReason::NoDestination));
            assert_eq!(world.put(UPLINK, &answer), WRONG);
            assert_eq!(world.put(UPLINK, &routed), WRONG);
            // All others go as ever.
            let strange = Packet::udp("192.0.2.1:53", "10.0.0.1:7", b"").frame(mac(99), mac(1));
            assert_eq!(world.put(UPLINK, &strange), to(A));
            assert_eq!(world.send_out(A, &Packet::udp("10.0.0.1:7", "192.0.2.1:53", b"")), out());
        }
    }
}

#[test]
fn arp_and_nd_by_another_uplink_claim_nothing_of_a_located_interface() {
    let mut world = world(false);
    // In its own name from elsewhere; in another's name, with its address.
    let own = |from: u8| arp(2, (mac(from), "10.0.0.3"), (mac(1), "10.0.0.1"));
    assert_eq!(world.put(UPLINK, &own(3)), WRONG);
    assert_eq!(world.put(UPLINK, &own(98)), Outcome::Drop(DropReason::SpoofedArp));
    assert_eq!(world.put(OTHER, &own(3)), to(A));
    let advertises = |src: &str, from: u8| {
        let rest = [&[0x60, 0, 0, 0][..], &ip("fd00::3").0.to_be_bytes(), &[2, 1], &mac(from).0].concat();
        Packet::nd(src, "fd00::1", 136, &rest).frame(mac(from), mac(1))
    };
    assert_eq!(world.put(UPLINK, &advertises("fd00::3", 3)), WRONG);
    assert_eq!(world.put(UPLINK, &advertises("fd00::3", 98)), WRONG);
    assert_eq!(world.put(UPLINK, &advertises("fd00::98", 98)), Outcome::Drop(DropReason::SpoofedNd));
    assert_eq!(world.put(OTHER, &advertises("fd00::3", 3)), to(A));
}

#[test]
fn a_place_is_of_one_vpc() {
    let mut world = world(false);
    // The other VLAN of the same cables is of another VPC, which has an interface of the same MAC.
    world.uplink =
        Some(Uplink { untagged: None, vlans: vec![(VlanId(7), VpcIndex(0)), (VlanId(8), VpcIndex(1))] });
    let (_, answer, _) = talk();
    let tagged = |tag: u8| [&answer[..12], &[0x81, 0, 0, tag], &answer[12..]].concat();
    assert_eq!(world.put(UPLINK, &tagged(7)), WRONG);
    assert_ne!(world.put(UPLINK, &tagged(8)), WRONG);
    assert_eq!(world.dropped(DropReason::WrongUplink), 1);
}
