//! To and from the rest of the network.

use super::world::*;
use crate::addr::MacAddr;
use crate::forward::{Delivery, Uplink, VlanEdit};
use crate::ids::{InterfaceId, PortIndex, VlanId, VpcIndex};
use crate::packet::build::{Packet, mac};
use crate::pipeline::Outcome;
use crate::time::Ticks;
use crate::verdict::DropReason;

#[test]
fn state_holds_across_the_uplink() {
    let mut world = World::new();
    world.open(A, &[], &[Open::Ports(17, 53, 53)]);
    let ask = Packet::udp("10.0.0.1:5000", "192.0.2.1:53", b"q");
    let answer = Packet::udp("192.0.2.1:53", "10.0.0.1:5000", b"a");
    assert_eq!(world.send_in(A, &answer), Outcome::Drop(DropReason::InboundDenied));
    assert_eq!(world.send_out(A, &ask), out());
    assert_eq!(world.send_in(A, &answer), to(A));
    assert_eq!(
        world.send_in(A, &Packet::udp("192.0.2.2:53", "10.0.0.1:5000", b"a")),
        Outcome::Drop(DropReason::InboundDenied)
    );
    assert_eq!(world.connections(), 1);
}

#[test]
fn an_uplink_brings_nothing_in_the_name_of_a_local_interface() {
    let mut world = World::new();
    world.open(A, &[], &[Open::Ports(17, 53, 53)]);
    world.open(B, &[Open::All], &[Open::All]);
    // A flow between a and b, which a forged answer from outside would match.
    assert_eq!(world.send(A, B, &Packet::udp("10.0.0.1:5000", "10.0.0.2:53", b"q")), to(B));
    let forged = Packet::udp("10.0.0.2:53", "10.0.0.1:5000", b"a");
    assert_eq!(world.send_in(A, &forged), Outcome::Drop(DropReason::SpoofedAddress));
    let looped = Packet::udp("192.0.2.1:53", "10.0.0.1:5000", b"a").frame(mac(2), mac(1));
    assert_eq!(world.put(UPLINK, &looped), Outcome::Drop(DropReason::SpoofedMac));
    assert_eq!(world.send(B, A, &forged), to(A), "the flow itself is untouched");
    // Nothing passes from uplink to uplink.
    let transit = Packet::udp("192.0.2.1:1", "192.0.2.2:1", b"").frame(mac(98), mac(97));
    assert_eq!(world.put(UPLINK, &transit), Outcome::Drop(DropReason::NoDestination));
}

#[test]
fn tags_come_off_and_go_on() {
    let mut world = World::new();
    world.uplink = Some(Uplink { untagged: None, vlans: vec![(VlanId(100), VpcIndex(0))] });
    world.open(A, &[Open::Ports(17, 7, 7)], &[Open::Ports(17, 53, 53)]);
    let deliver = |port, vlan, receiver| Outcome::Send(Delivery { port, vlan, receiver });
    let ask = Packet::udp("10.0.0.1:5000", "192.0.2.1:53", b"q");
    assert_eq!(world.send_out(A, &ask), deliver(UPLINK, VlanEdit::Push(VlanId(100)), InterfaceId::NONE));
    let hello = Packet::udp("192.0.2.1:5", "10.0.0.1:7", b"");
    let a = InterfaceId::new(0, 1);
    assert_eq!(
        world.put(UPLINK, &hello.tagged(mac(99), mac(1), VlanId(100))),
        deliver(PortIndex(0), VlanEdit::Strip, a)
    );
    for vlan in [99, 101] {
        let frame = hello.tagged(mac(99), mac(1), VlanId(vlan));
        assert_eq!(world.put(UPLINK, &frame), Outcome::Drop(DropReason::UnexpectedVlan));
    }
    assert_eq!(world.put(UPLINK, &hello.frame(mac(99), mac(1))), Outcome::Drop(DropReason::UnexpectedVlan));
}

#[test]
fn a_remote_member_is_reached_by_the_uplink() {
    let mut world = World::new();
    world.open(A, &[], &[Open::All]);
    world.interfaces[C].port = None;
    assert_eq!(world.send(A, C, &Packet::udp("10.0.0.1:1", "10.0.0.3:1", b"")), out());
    world.open(A, &[Open::Ports(17, 9, 9)], &[]);
    let from_c = Packet::udp("10.0.0.3:1", "10.0.0.1:9", b"").frame(mac(3), mac(1));
    assert_eq!(world.put(UPLINK, &from_c), to(A));
}

const OTHER: PortIndex = PortIndex(4);

/// The copies of what is for several places, or the one place.
fn places(world: &World, outcome: &Outcome) -> Vec<Delivery> {
    match outcome {
        Outcome::Flood(places) => world.out.copies(places).to_vec(),
        Outcome::Send(delivery) => vec![*delivery],
        other => panic!("{other:?}"),
    }
}

fn by(port: PortIndex) -> Delivery {
    Delivery { port, vlan: VlanEdit::Keep, receiver: InterfaceId::NONE }
}

#[test]
fn of_several_uplinks_the_one_where_a_host_was_heard_leads_to_it() {
    for general_only in [false, true] {
        let mut world = World::new();
        world.pipeline.general_only = general_only;
        world.other_uplink = Some(OTHER);
        world.open(A, &[Open::Ports(17, 7, 7)], &[Open::All]);
        let ask = Packet::udp("10.0.0.1:5000", "192.0.2.1:53", b"q");
        let answer = Packet::udp("192.0.2.1:53", "10.0.0.1:5000", b"a").frame(mac(99), mac(1));
        // Nobody knows where it is: by all of them, and never back by the one it came by.
        let first = world.send_out(A, &ask);
        assert_eq!(places(&world, &first), [by(UPLINK), by(OTHER)]);
        assert_eq!(world.put(OTHER, &answer), to(A));
        assert_eq!(world.send_out(A, &ask), Outcome::Send(by(OTHER)));
        // It moves, and is followed at once.
        assert_eq!(world.put(UPLINK, &answer), to(A));
        assert_eq!(world.send_out(A, &ask), Outcome::Send(by(UPLINK)));
        // What is refused tells where its sender is, too; another host is another.
        let refused = Packet::udp("192.0.2.1:5", "10.0.0.1:8", b"").frame(mac(98), mac(1));
        assert_eq!(world.put(OTHER, &refused), Outcome::Drop(DropReason::InboundDenied));
        let to_98 = world.put(PortIndex(0), &ask.frame(mac(1), mac(98)));
        assert_eq!(to_98, Outcome::Send(by(OTHER)));
        assert_eq!(world.send_out(A, &ask), Outcome::Send(by(UPLINK)));
        // Five minutes of silence, or its uplink gone: by all that there are.
        world.now = world.now + Ticks::from_secs(301);
        let later = world.send_out(A, &ask);
        assert_eq!(places(&world, &later), [by(UPLINK), by(OTHER)]);
        assert_eq!(world.put(OTHER, &answer), to(A));
        world.other_uplink = None;
        assert_eq!(world.send_out(A, &ask), out());
    }
}

#[test]
fn a_host_beyond_an_uplink_that_claims_a_local_mac_diverts_nothing() {
    for general_only in [false, true] {
        let mut world = World::new();
        world.pipeline.general_only = general_only;
        world.other_uplink = Some(OTHER);
        world.open(A, &[Open::All], &[Open::All]);
        world.open(B, &[Open::All], &[Open::All]);
        let claim = Packet::udp("192.0.2.1:1", "10.0.0.1:1", b"").frame(mac(2), mac(1));
        assert_eq!(world.put(OTHER, &claim), Outcome::Drop(DropReason::SpoofedMac));
        assert_eq!(world.send(A, B, &Packet::udp("10.0.0.1:1", "10.0.0.2:1", b"")), to(B));
        // Of others nothing was learnt by it.
        let ask = Packet::udp("10.0.0.1:5000", "192.0.2.1:53", b"q");
        let asked = world.send_out(A, &ask);
        assert_eq!(places(&world, &asked), [by(UPLINK), by(OTHER)]);
    }
}

#[test]
fn nothing_passes_from_one_uplink_to_another() {
    let mut world = World::new();
    world.other_uplink = Some(OTHER);
    world.open(A, &[Open::All], &[Open::All]);
    let transit = Packet::udp("192.0.2.1:1", "192.0.2.2:1", b"");
    // Also where the receiver is known to be at the other.
    let back = Packet::udp("192.0.2.2:1", "192.0.2.1:1", b"");
    assert_eq!(world.put(OTHER, &back.frame(mac(98), mac(97))), Outcome::Drop(DropReason::NoDestination));
    assert_eq!(world.put(UPLINK, &transit.frame(mac(97), mac(98))), Outcome::Drop(DropReason::NoDestination));
    // A broadcast reaches the interfaces, and no uplink.
    let shout = Packet::udp("192.0.2.1:1", "255.255.255.255:1", b"").frame(mac(97), MacAddr([0xff; 6]));
    let heard = world.put(UPLINK, &shout);
    assert!(places(&world, &heard).iter().all(|place| place.receiver.is_some()));
    // An interface's own broadcast that comes back by another uplink is not taken in.
    let own = Packet::udp("10.0.0.1:1", "255.255.255.255:1", b"").frame(mac(1), MacAddr([0xff; 6]));
    let sent = world.put(PortIndex(0), &own);
    assert!(places(&world, &sent).contains(&by(OTHER)));
    assert_eq!(world.put(OTHER, &own), Outcome::Drop(DropReason::SpoofedMac));
}
