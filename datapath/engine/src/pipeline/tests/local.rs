//! Both ends on this switch: the sender's outbound rules, then the receiver's
//! inbound rules (D21), each with its own state.

use super::world::*;
use crate::packet::TcpFlags;
use crate::packet::build::Packet;
use crate::pipeline::{Outcome, PassClass};
use crate::time::Ticks;
use crate::verdict::DropReason;

fn ask(port: u16) -> Packet {
    Packet::udp("10.0.0.1:5000", &format!("10.0.0.2:{port}"), b"q")
}

fn answer(port: u16) -> Packet {
    Packet::udp(&format!("10.0.0.2:{port}"), "10.0.0.1:5000", b"a")
}

#[test]
fn d29_without_a_policy_nothing_passes() {
    let mut world = World::new();
    world.generation = 0;
    world.interfaces.clear();
    world.uplink = None;
    let frame = ask(53).frame(crate::packet::build::mac(1), crate::packet::build::mac(2));
    assert_eq!(world.put(super::super::PortIndex(0), &frame), Outcome::Drop(DropReason::NoPolicy));
    world.generation = 1;
    assert_eq!(world.put(super::super::PortIndex(4), &frame), Outcome::Drop(DropReason::PortUnbound));
    assert_eq!(world.put(super::super::PortIndex(77), &frame), Outcome::Drop(DropReason::PortUnbound));
}

#[test]
fn s15_s16_replies_need_no_rule_and_nothing_else_gets_through() {
    let mut world = World::new();
    world.open(A, &[], &[Open::Ports(17, 53, 53)]);
    world.open(B, &[Open::Ports(17, 53, 53)], &[]);
    assert_eq!(world.send(B, A, &answer(53)), Outcome::Drop(DropReason::OutboundDenied), "a reply first");
    assert_eq!(world.connections(), 0);
    assert_eq!(world.send(A, B, &ask(53)), to(B));
    assert_eq!(world.connections(), 1);
    assert_eq!(world.send(B, A, &answer(53)), to(A));
    assert_eq!(world.send(A, B, &ask(53)), to(B));
    assert_eq!((world.passed(PassClass::NewTracked), world.passed(PassClass::Established)), (1, 2));
    // The nearest neighbours: port - 1, port + 1, another client port back, the other direction.
    assert_eq!(world.send(A, B, &ask(52)), Outcome::Drop(DropReason::OutboundDenied));
    assert_eq!(world.send(A, B, &ask(54)), Outcome::Drop(DropReason::OutboundDenied));
    assert_eq!(world.send(B, A, &answer(54)), Outcome::Drop(DropReason::OutboundDenied));
    let other = Packet::udp("10.0.0.2:53", "10.0.0.1:5001", b"a");
    assert_eq!(world.send(B, A, &other), Outcome::Drop(DropReason::OutboundDenied));
    assert_eq!(world.connections(), 1);
    assert_eq!(world.at(A).drops.get(DropReason::OutboundDenied), 2);
    assert_eq!(world.at(B).drops.get(DropReason::OutboundDenied), 3);
    assert_eq!((world.at(A).outbound_packets.get(), world.at(A).inbound_packets.get()), (2, 1));
    assert_eq!((world.at(B).outbound_packets.get(), world.at(B).inbound_packets.get()), (1, 2));
    assert_eq!(world.at(B).inbound_bytes.get(), 2 * (14 + 20 + 8 + 1));
}

#[test]
fn s1_an_inbound_rule_opens_no_outbound_flow() {
    let mut world = World::new();
    world.open(A, &[Open::All], &[]);
    world.open(B, &[Open::All], &[]);
    assert_eq!(world.send(A, B, &ask(53)), Outcome::Drop(DropReason::OutboundDenied));
    world.open(A, &[], &[Open::All]);
    world.open(B, &[], &[Open::All]);
    assert_eq!(world.send(A, B, &ask(53)), Outcome::Drop(DropReason::InboundDenied));
    assert_eq!(world.at(B).drops.get(DropReason::InboundDenied), 1);
    assert_eq!(world.at(A).drops.total(), 1);
}

#[test]
fn d24_the_sender_is_tracked_although_the_receiver_refuses() {
    let mut world = World::new();
    world.open(A, &[], &[Open::Ports(17, 53, 53)]);
    world.open(B, &[], &[]);
    assert_eq!(world.send(A, B, &ask(53)), Outcome::Drop(DropReason::InboundDenied));
    assert_eq!(world.connections(), 1);
    assert_eq!(world.send(B, A, &answer(53)), Outcome::Drop(DropReason::OutboundDenied));
    // What b may send of its own reaches a by a's state: a has no inbound rule.
    world.open(B, &[], &[Open::All]);
    assert_eq!(world.send(B, A, &answer(53)), to(A));
    let other = Packet::udp("10.0.0.2:54", "10.0.0.1:5000", b"a");
    assert_eq!(world.send(B, A, &other), Outcome::Drop(DropReason::InboundDenied));
    // b is tracked by now, so a reaches it without an inbound rule of b's.
    assert_eq!(world.send(A, B, &ask(53)), to(B));
    assert_eq!(world.connections(), 2);
}

#[test]
fn d24_what_the_receiver_refuses_is_refused_again_until_rules_or_replies_permit_it() {
    let mut world = World::new();
    world.open(A, &[], &[Open::Ports(17, 53, 54)]);
    world.open(B, &[Open::Ports(17, 54, 54)], &[]);
    let hits = |world: &World| world.pipeline.counters().table_hits.get();
    for round in 0..3 {
        assert_eq!(world.send(A, B, &ask(53)), Outcome::Drop(DropReason::InboundDenied));
        assert_eq!((world.connections(), hits(&world)), (1, round));
        let b = world.at(B);
        assert_eq!((b.drops.get(DropReason::InboundDenied), b.drops.total()), (round + 1, round + 1));
        // It lives on with each of them, as a host's own connection would.
        world.now = world.now + Ticks::from_secs(20);
    }
    assert_eq!(world.send(A, B, &ask(54)), to(B), "its neighbour is not refused");
    // As others have the address, or it goes to another MAC, it is not the same refusal.
    assert_eq!(world.send(C, B, &ask(53)), Outcome::Drop(DropReason::SpoofedAddress));
    // Rules that permit it are heard of at once, and those that do not any more leave the connection.
    world.open(B, &[Open::Ports(17, 53, 53)], &[]);
    assert_eq!(world.send(A, B, &ask(53)), to(B));
    world.open(B, &[], &[]);
    assert_eq!(world.send(A, B, &ask(53)), to(B));
    // Another flow, which the receiver itself opens from its end.
    let [one, other] = [
        Packet::udp("10.0.0.1:5001", "10.0.0.2:53", b"q"),
        Packet::udp("10.0.0.2:53", "10.0.0.1:5001", b"a"),
    ];
    for _ in 0..2 {
        assert_eq!(world.send(A, B, &one), Outcome::Drop(DropReason::InboundDenied));
    }
    world.open(B, &[], &[Open::All]);
    for _ in 0..2 {
        assert_eq!(world.send(A, B, &one), Outcome::Drop(DropReason::InboundDenied));
    }
    // In one burst, in which it is refused before, and not after.
    let [a, b] = [A, B].map(|who| world.interfaces[who].mac);
    let (there, back) = (one.frame(a, b), other.frame(b, a));
    let ports = [0, 1].map(super::super::PortIndex);
    let burst = [(ports[0], &there[..], false), (ports[1], &back, false), (ports[0], &there, false)];
    assert_eq!(world.burst(&burst), [Outcome::Drop(DropReason::InboundDenied), to(A), to(B)]);
    assert_eq!(world.send(A, B, &one), to(B));
}

#[test]
fn r8_9_two_first_packets_in_one_burst_open_one_connection() {
    let mut world = World::new();
    world.open(A, &[], &[Open::Ports(17, 53, 53)]);
    world.open(B, &[Open::Ports(17, 53, 53)], &[]);
    let (there, back) = (ask(53).frame(world.interfaces[A].mac, world.interfaces[B].mac), answer(53));
    let back = back.frame(world.interfaces[B].mac, world.interfaces[A].mac);
    let ports = (super::super::PortIndex(0), super::super::PortIndex(1));
    let outcomes =
        world.burst(&[(ports.0, &there, false), (ports.0, &there, false), (ports.1, &back, false)]);
    assert_eq!(outcomes, [to(B), to(B), to(A)]);
    assert_eq!(world.connections(), 1);
    assert_eq!((world.passed(PassClass::NewTracked), world.passed(PassClass::Established)), (1, 2));
}

#[test]
fn s40_an_untracked_flow_has_no_entry_and_is_cut_with_its_rule() {
    let mut world = World::new();
    world.open(A, &[Open::All], &[Open::All]);
    world.open(B, &[Open::Ports(6, 80, 80)], &[Open::All]);
    let request = Packet::tcp("10.0.0.1:5000", "10.0.0.2:80", TcpFlags::ACK, 1, 1, b"GET");
    let reply = Packet::tcp("10.0.0.2:80", "10.0.0.1:5000", TcpFlags::ACK, 1, 4, b"200");
    assert_eq!(world.send(A, B, &request), to(B));
    assert_eq!(world.send(B, A, &reply), to(A));
    assert_eq!(world.connections(), 0);
    assert_eq!(world.passed(PassClass::Untracked), 2);
    // S45: the inbound rule goes. Neither side's next segment may bring the flow back.
    world.open(B, &[], &[Open::All]);
    world.revoke_inbound(B, 6, 80, 80);
    assert_eq!(world.send(A, B, &request), Outcome::Drop(DropReason::InboundDenied));
    assert_eq!(world.send(B, A, &reply), Outcome::Drop(DropReason::RuleRevoked));
    assert_eq!(world.send(A, B, &request), Outcome::Drop(DropReason::InboundDenied));
    assert_eq!(world.connections(), 0);
    // The neighbours of what was revoked: another source port, and a connection opened anew.
    let other = Packet::tcp("10.0.0.2:81", "10.0.0.1:5000", TcpFlags::ACK, 1, 4, b"200");
    assert_eq!(world.send(B, A, &other), to(A));
    let opening = Packet::tcp("10.0.0.2:80", "10.0.0.1:5001", TcpFlags::SYN, 1, 0, b"");
    assert_eq!(world.send(B, A, &opening), to(A));
}

#[test]
fn s44b_without_the_outbound_rule_all_is_tracked() {
    let mut world = World::new();
    world.open(A, &[Open::All], &[Open::All]);
    world.open(B, &[Open::Ports(6, 80, 80)], &[]);
    let request = Packet::tcp("10.0.0.1:5000", "10.0.0.2:80", TcpFlags::ACK, 1, 1, b"GET");
    let reply = Packet::tcp("10.0.0.2:80", "10.0.0.1:5000", TcpFlags::ACK, 1, 4, b"200");
    assert_eq!(world.send(B, A, &reply), Outcome::Drop(DropReason::OutboundDenied));
    assert_eq!(
        world.send(A, B, &request),
        to(B),
        "D12: the next packet that a rule permits creates the entry"
    );
    assert_eq!(world.connections(), 1);
    assert_eq!(world.send(B, A, &reply), to(A));
}

#[test]
fn s46_a_tracked_flow_outlives_its_rule() {
    let mut world = World::new();
    world.open(A, &[], &[Open::Ports(6, 22, 22)]);
    world.open(B, &[Open::Ports(6, 22, 22)], &[]);
    let syn = |port: u16| Packet::tcp(&format!("10.0.0.1:{port}"), "10.0.0.2:22", TcpFlags::SYN, 1, 0, b"");
    let synack = Packet::tcp("10.0.0.2:22", "10.0.0.1:5000", TcpFlags::SYN | TcpFlags::ACK, 9, 2, b"");
    let data = Packet::tcp("10.0.0.1:5000", "10.0.0.2:22", TcpFlags::ACK, 2, 10, b"ls");
    assert_eq!(world.send(A, B, &syn(5000)), to(B));
    assert_eq!(world.send(B, A, &synack), to(A));
    assert_eq!(world.send(A, B, &data), to(B));
    world.open(A, &[], &[]);
    world.open(B, &[], &[]);
    assert_eq!(world.send(A, B, &data), to(B));
    assert_eq!(world.send(A, B, &syn(5001)), Outcome::Drop(DropReason::OutboundDenied));
}

#[test]
fn d23_r8_5_a_full_table_refuses_only_what_must_be_tracked() {
    let mut world = World::with(super::super::WorkerIndex(0), 1, 64);
    world.open(A, &[], &[Open::Ports(6, 1, 60000)]);
    world.open(B, &[Open::Ports(6, 1, 60000)], &[]);
    // Established connections, which no newcomer may push out.
    let mut opened = Vec::new();
    let mut full = 0;
    for port in 1..=200u16 {
        let target = format!("10.0.0.2:{port}");
        let segment = |from: &str, to: &str, flags| Packet::tcp(from, to, flags, 5, 5, b"");
        match world.send(A, B, &segment("10.0.0.1:9", &target, TcpFlags::SYN)) {
            Outcome::Drop(DropReason::ConntrackFull) => full += 1,
            other => {
                assert_eq!(other, to(B));
                let synack = TcpFlags::SYN | TcpFlags::ACK;
                assert_eq!(world.send(B, A, &segment(&target, "10.0.0.1:9", synack)), to(A));
                assert_eq!(world.send(A, B, &segment("10.0.0.1:9", &target, TcpFlags::ACK)), to(B));
                opened.push(target);
            }
        }
    }
    assert!(full > 0 && world.dropped(DropReason::ConntrackFull) == full);
    assert!(opened.len() >= 64, "{}", opened.len());
    for target in &opened {
        let data = Packet::tcp("10.0.0.1:9", target, TcpFlags::ACK, 6, 6, b"x");
        assert_eq!(world.send(A, B, &data), to(B), "established connections live on");
    }
    // Untracked traffic needs no room.
    world.open(A, &[Open::All], &[Open::All]);
    world.open(C, &[Open::All], &[Open::All]);
    assert_eq!(world.send(A, C, &Packet::udp("10.0.0.1:1", "10.0.0.3:1", b"")), to(C));
}

#[test]
fn an_address_that_moves_takes_no_connection_along() {
    let mut world = World::new();
    world.open(A, &[], &[Open::Ports(17, 53, 53)]);
    world.open(B, &[Open::Ports(17, 53, 53)], &[]);
    assert_eq!(world.send(A, B, &ask(53)), to(B));
    // c takes over b's address, and has no rule.
    world.interfaces[C].addresses = world.interfaces[B].addresses.clone();
    world.interfaces[B].addresses = Default::default();
    assert_eq!(world.send(B, A, &answer(53)), Outcome::Drop(DropReason::SpoofedAddress));
    assert_eq!(world.send(C, A, &answer(53)), Outcome::Drop(DropReason::OutboundDenied));
    assert_eq!(world.send(A, C, &ask(53)), Outcome::Drop(DropReason::InboundDenied));
    assert_eq!(world.send(A, B, &ask(53)), Outcome::Drop(DropReason::DestinationCheck));
}

#[test]
fn s46_a_port_used_again_is_a_new_connection_and_asks_the_rules() {
    for permitted in [true, false] {
        let mut world = World::new();
        world.open(A, &[], &[Open::Ports(6, 22, 22)]);
        world.open(B, &[Open::Ports(6, 22, 22)], &[]);
        let from_a = |flags, seq, ack| Packet::tcp("10.0.0.1:5000", "10.0.0.2:22", flags, seq, ack, b"");
        let from_b = |flags, seq, ack| Packet::tcp("10.0.0.2:22", "10.0.0.1:5000", flags, seq, ack, b"");
        let (syn, ack) = (TcpFlags::SYN, TcpFlags::ACK);
        assert_eq!(world.send(A, B, &from_a(syn, 1, 0)), to(B));
        assert_eq!(world.send(B, A, &from_b(syn | ack, 9, 2)), to(A));
        assert_eq!(world.send(A, B, &from_a(ack, 2, 10)), to(B));
        assert_eq!(world.send(B, A, &from_b(TcpFlags::RST, 10, 0)), to(A));
        if !permitted {
            world.open(B, &[], &[]);
        }
        let expected = if permitted { to(B) } else { Outcome::Drop(DropReason::InboundDenied) };
        assert_eq!(world.send(A, B, &from_a(syn, 7000, 0)), expected);
        // Nor may the other end open one to the client's port.
        if !permitted {
            assert_eq!(world.send(B, A, &from_b(syn, 8000, 0)), Outcome::Drop(DropReason::OutboundDenied));
        } else {
            assert_eq!(world.send(B, A, &from_b(syn | ack, 8000, 7001)), to(A));
            assert_eq!(world.connections(), 1);
        }
    }
}
