//! To and from the rest of the network.

use super::world::*;
use crate::forward::{Delivery, Uplink, VlanEdit};
use crate::ids::{InterfaceId, PortIndex, VlanId, VpcIndex};
use crate::packet::build::{Packet, mac};
use crate::pipeline::Outcome;
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
