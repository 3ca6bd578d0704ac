//! Ping, ICMP errors and other protocols by state.

use super::world::*;
use crate::packet::build::{Packet, ip};
use crate::pipeline::{Outcome, PassClass};
use crate::time::Tick;
use crate::verdict::DropReason;

#[test]
fn s39_an_echo_reply_is_no_new_request() {
    for (a, b) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
        let mut world = World::new();
        world.open(A, &[], &[Open::Icmp]);
        world.open(B, &[Open::Icmp], &[]);
        assert_eq!(world.send(B, A, &Packet::pong(b, a, 7)), Outcome::Drop(DropReason::OutboundDenied));
        assert_eq!(world.send(A, B, &Packet::ping(a, b, 7)), to(B));
        assert_eq!(world.send(B, A, &Packet::pong(b, a, 7)), to(A));
        assert_eq!((world.connections(), world.passed(PassClass::NewTracked)), (1, 1));
        assert_eq!(world.send(B, A, &Packet::pong(b, a, 8)), Outcome::Drop(DropReason::OutboundDenied));
        assert_eq!(world.send(B, A, &Packet::ping(b, a, 7)), Outcome::Drop(DropReason::OutboundDenied));
    }
}

#[test]
fn s44_icmp_is_tracked_however_open_the_rules() {
    let mut world = World::new();
    world.open(A, &[Open::All], &[Open::All]);
    world.open(B, &[Open::All], &[Open::All]);
    assert_eq!(world.send(A, B, &Packet::ping("10.0.0.1", "10.0.0.2", 7)), to(B));
    assert_eq!(world.connections(), 1);
    assert_eq!(world.send(A, B, &Packet::udp("10.0.0.1:1", "10.0.0.2:1", b"")), to(B));
    assert_eq!(world.connections(), 1);
}

#[test]
fn s47_s48_another_protocol_is_known_by_its_addresses_for_600_seconds() {
    let mut world = World::new();
    let gre = |from, to| Packet::new(ip(from), ip(to), 47, vec![0; 8]);
    world.open(A, &[], &[Open::Ports(47, 0, 0)]);
    world.open(B, &[Open::Ports(47, 0, 0)], &[]);
    let (there, back) = (gre("10.0.0.1", "10.0.0.2"), gre("10.0.0.2", "10.0.0.1"));
    assert_eq!(world.send(B, A, &back), Outcome::Drop(DropReason::OutboundDenied));
    let start = world.now.0 / 2;
    assert_eq!(world.send(A, B, &there), to(B));
    world.now = Tick::from_secs(start + 599);
    assert_eq!(world.send(B, A, &back), to(A), "599 s after the request");
    world.now = Tick::from_secs(start + 599 + 599);
    assert_eq!(world.send(B, A, &back), to(A), "599 s after the response");
    world.now = Tick::from_secs(start + 599 + 599 + 601);
    assert_eq!(world.send(B, A, &back), Outcome::Drop(DropReason::OutboundDenied));
    assert_eq!(
        world.send(B, A, &Packet::new(ip("10.0.0.2"), ip("10.0.0.1"), 50, vec![0; 8])),
        Outcome::Drop(DropReason::OutboundDenied)
    );
}

#[test]
fn d17_an_error_passes_with_the_flow_it_quotes() {
    let mut world = World::new();
    world.open(A, &[], &[Open::Ports(17, 53, 53)]);
    let ask = Packet::udp("10.0.0.1:5000", "192.0.2.1:53", b"q");
    let unreachable = |from, about: &Packet| Packet::error_about(from, about, 3, 1);
    assert_eq!(
        world.send_in(A, &unreachable("198.51.100.1", &ask)),
        Outcome::Drop(DropReason::InboundDenied)
    );
    assert_eq!(world.send_out(A, &ask), out());
    // From the other end, and from a router in between.
    assert_eq!(world.send_in(A, &unreachable("192.0.2.1", &ask)), to(A));
    assert_eq!(world.send_in(A, &unreachable("198.51.100.1", &ask)), to(A));
    assert_eq!(world.passed(PassClass::Related), 2);
    // About another port, and about the flow but to another interface.
    let other = Packet::udp("10.0.0.1:5001", "192.0.2.1:53", b"q");
    assert_eq!(world.send_in(A, &unreachable("192.0.2.1", &other)), Outcome::Drop(DropReason::InboundDenied));
    let stray = unreachable("192.0.2.1", &ask).frame(crate::packet::build::mac(99), world.interfaces[B].mac);
    assert!(matches!(world.put(UPLINK, &stray), Outcome::Drop(DropReason::DestinationCheck)));
    assert_eq!(world.connections(), 1);
}

#[test]
fn d17_an_error_about_an_untracked_flow_is_judged_by_the_quoted_tuple() {
    let mut world = World::new();
    world.open(A, &[Open::Ports(17, 0, 65535)], &[Open::Ports(17, 53, 53)]);
    let about = |port| {
        Packet::error_about(
            "192.0.2.1",
            &Packet::udp("10.0.0.1:5000", &format!("192.0.2.1:{port}"), b"q"),
            3,
            3,
        )
    };
    assert_eq!(world.send_in(A, &about(53)), to(A));
    assert_eq!(world.send_in(A, &about(54)), Outcome::Drop(DropReason::InboundDenied));
    assert_eq!(world.connections(), 0);
}
