//! Packets in pieces (D27): every piece follows its first, in any order.

use proptest::prelude::*;

use super::super::*;
use super::world::*;
use crate::fragment;
use crate::packet::build::{Packet, ip, mac};
use crate::packet::protocol;
use crate::time::Ticks;

/// The addresses of A and B.
fn ends(six: bool) -> (&'static str, &'static str) {
    if six { ("fd00::1", "fd00::2") } else { ("10.0.0.1", "10.0.0.2") }
}

/// The payload of an IP packet cut at these places, as frames from A to B.
fn pieces(src: &str, dst: &str, number: u8, payload: &[u8], cuts: &[usize], id: u32) -> Vec<Vec<u8>> {
    let bounds: Vec<usize> = std::iter::once(0).chain(cuts.iter().copied()).chain([payload.len()]).collect();
    let piece = |pair: &[usize]| {
        let (start, stop) = (pair[0], pair[1]);
        let data = payload[start..stop].to_vec();
        let packet = Packet::new(ip(src), ip(dst), number, data);
        packet.fragment(id, start as u16, stop < payload.len()).frame(mac(1), mac(2))
    };
    bounds.windows(2).map(piece).collect()
}

/// A datagram's header and 56 bytes.
fn datagram(from: u16, to: u16) -> Vec<u8> {
    [&from.to_be_bytes()[..], &to.to_be_bytes(), &64u16.to_be_bytes(), &[0, 0], &[7; 56]].concat()
}

/// A segment's header of 20 bytes, and 44.
fn segment(from: u16, to: u16, flags: u8) -> Vec<u8> {
    let head = [&from.to_be_bytes()[..], &to.to_be_bytes(), &[0, 0, 0, 9, 0, 0, 0, 9, 0x50, flags]].concat();
    [&head[..], &[16, 0, 0, 0, 0, 0], &[7; 44]].concat()
}

/// A may send UDP to port 53, and B's group lets that in: tracked at both ends.
fn world() -> World {
    let mut world = World::new();
    world.open(A, &[], &[Open::Ports(17, 53, 53)]);
    world.open(B, &[Open::Ports(17, 53, 53)], &[]);
    world
}

fn put_all(world: &mut World, frames: &[Vec<u8>], order: &[usize]) -> Vec<Outcome> {
    order.iter().flat_map(|i| world.piece(PortIndex(0), &frames[*i], None)).collect()
}

fn sent(outcomes: &[Outcome]) -> usize {
    outcomes.iter().filter(|o| **o == to(B)).count()
}

const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

#[test]
fn d27_r8_6_pieces_follow_their_first_in_any_order() {
    for six in [false, true] {
        let (a, b) = ends(six);
        for order in ORDERS {
            let mut world = world();
            let frames = pieces(a, b, 17, &datagram(5000, 53), &[24, 40], 7);
            let outcomes = put_all(&mut world, &frames, &order);
            assert_eq!(sent(&outcomes), 3, "{order:?} {outcomes:?}");
            assert_eq!((world.connections(), world.pipeline.waiting()), (1, 0));
            assert!(world.pipeline.fragments.is_empty(), "a whole packet is forgotten");
            assert_eq!(world.pipeline.counters().drops.total(), 0);
            assert_eq!(world.passed(PassClass::NewTracked), 1);
            assert_eq!(world.passed(PassClass::Established), 2);
            assert_eq!(world.at(B).inbound_packets.get(), 3);
            // The pieces of the answer pass by state, whatever rules B has.
            let answer = pieces(b, a, 17, &datagram(53, 5000), &[24, 40], 7);
            let back = |world: &mut World, i: usize| {
                let mut frame = answer[i].clone();
                frame[..12].copy_from_slice(&[mac(1).0, mac(2).0].concat());
                world.piece(PortIndex(1), &frame, None)
            };
            let outcomes: Vec<_> = order.iter().flat_map(|i| back(&mut world, *i)).collect();
            assert_eq!(outcomes.iter().filter(|o| **o == to(A)).count(), 3, "{outcomes:?}");
        }
    }
}

#[test]
fn d27_no_piece_of_what_is_refused_passes() {
    for six in [false, true] {
        let (a, b) = ends(six);
        for (port, number) in [(52, 17), (54, 17), (53, 132)] {
            for order in ORDERS {
                let mut world = world();
                let frames = pieces(a, b, number, &datagram(5000, port), &[24, 40], 7);
                assert_eq!(sent(&put_all(&mut world, &frames, &order)), 0, "{port} {order:?}");
                let dropped = world.dropped(DropReason::OutboundDenied);
                assert_eq!((dropped, world.connections(), world.pipeline.waiting()), (3, 0, 0));
            }
        }
        // By the receiver's groups: the sender's side is tracked (D24), the receiver lets none of it in.
        let mut world = world();
        world.open(B, &[Open::Ports(17, 54, 54)], &[]);
        let frames = pieces(a, b, 17, &datagram(5000, 53), &[24, 40], 7);
        assert_eq!(sent(&put_all(&mut world, &frames, &[2, 0, 1])), 0);
        let (denied, orphans) =
            (world.dropped(DropReason::InboundDenied), world.dropped(DropReason::FragmentOrphan));
        assert_eq!((denied, orphans), (3, 0));
    }
}

#[test]
fn d27_untracked_pieces_meet_the_rules_each() {
    let mut world = world();
    world.open(A, &[Open::All], &[Open::All]);
    world.open(B, &[Open::Ports(6, 80, 80)], &[Open::All]);
    let frames = pieces("10.0.0.1", "10.0.0.2", 6, &segment(5000, 80, 0x10), &[24, 40], 7);
    assert_eq!(sent(&put_all(&mut world, &frames, &[1, 0])), 2);
    assert_eq!((world.connections(), world.passed(PassClass::Untracked)), (0, 2));
    // The rule goes while the last piece is still to come (S45).
    world.open(B, &[], &[Open::All]);
    assert_eq!(sent(&put_all(&mut world, &frames, &[2])), 0);
    assert_eq!(world.dropped(DropReason::InboundDenied), 1);
}

#[test]
fn d27_a_piece_alone_is_an_orphan() {
    let mut world = world();
    let frames = pieces("10.0.0.1", "10.0.0.2", 17, &datagram(5000, 53), &[24, 40], 7);
    assert_eq!(put_all(&mut world, &frames, &[1, 2]).len(), 2);
    assert_eq!((world.pipeline.waiting(), world.waiting.len()), (2, 2));
    let turns = fragment::PACKETS;
    world.now = world.now + fragment::TIMEOUT;
    (0..turns).for_each(|_| world.pipeline.housekeep(world.now));
    assert_eq!(world.forget_discarded(), 2);
    assert_eq!((world.dropped(DropReason::FragmentOrphan), world.pipeline.waiting()), (2, 0));
    assert_eq!(world.at(A).drops.get(DropReason::FragmentOrphan), 2);
    // Its first comes too late for them, and waits for nobody.
    assert_eq!(put_all(&mut world, &frames, &[0]), [to(B)]);
}

#[test]
fn d27_what_overlaps_is_dropped() {
    for six in [false, true] {
        let (a, b) = ends(six);
        let mut world = world();
        let whole = pieces(a, b, 17, &datagram(5000, 53), &[24, 40], 7);
        // The same places, but 8 bytes earlier or cut otherwise.
        let other = pieces(a, b, 17, &datagram(5000, 53), &[16, 48], 7);
        assert_eq!(sent(&put_all(&mut world, &whole, &[0])), 1);
        assert_eq!(sent(&put_all(&mut world, &other, &[0, 1, 2])), 1, "the last alone touches nothing");
        assert_eq!(world.dropped(DropReason::FragmentOverlap), 2);
        assert_eq!(sent(&put_all(&mut world, &whole, &[0, 2])), 0);
        assert_eq!(world.dropped(DropReason::FragmentOverlap), 4);
    }
}

#[test]
fn d27_a_header_in_pieces_is_dropped() {
    for (number, payload, cut) in [(6, segment(5000, 80, 2), 16), (6, segment(5000, 80, 2), 8)] {
        for six in [false, true] {
            let (a, b) = ends(six);
            let mut world = world();
            world.open(A, &[Open::All], &[Open::All]);
            world.open(B, &[Open::All], &[Open::All]);
            let frames = pieces(a, b, number, &payload, &[cut], 7);
            assert_eq!(sent(&put_all(&mut world, &frames, &[0, 1])), 0);
            assert_eq!(world.dropped(DropReason::FragmentTiny), 1);
            // The rest of the header rewritten behind a first that is long enough (RFC 1858).
            let again = pieces(a, b, number, &payload, &[24], 7);
            assert_eq!(sent(&put_all(&mut world, &again, &[0])), 0, "it overlaps what waits");
            assert_eq!(world.dropped(DropReason::FragmentOverlap), 1);
        }
    }
}

#[test]
fn d27_large_pings_pass_in_pieces_and_errors_do_not() {
    for six in [false, true] {
        let (a, b) = ends(six);
        let number = if six { protocol::ICMPV6 } else { protocol::ICMP };
        let mut world = world();
        world.open(A, &[], &[Open::Icmp]);
        world.open(B, &[Open::Icmp], &[]);
        let echo = [&[if six { 128 } else { 8 }, 0, 0, 0, 0, 77, 0, 1][..], &[7; 56]].concat();
        let frames = pieces(a, b, number, &echo, &[16, 40], 9);
        assert_eq!(sent(&put_all(&mut world, &frames, &[2, 1, 0])), 3);
        assert_eq!(world.passed(PassClass::NewTracked), 1);
        let error = [&[if six { 1 } else { 3 }, 0, 0, 0, 0, 0, 0, 0][..], &[0x45; 56]].concat();
        let frames = pieces(a, b, number, &error, &[56], 10);
        assert_eq!(sent(&put_all(&mut world, &frames, &[0, 1])), 0);
        assert_eq!(world.dropped(DropReason::MalformedHeader), 1);
    }
}

#[test]
fn d27_other_protocols_follow_their_first_too() {
    let mut world = world();
    world.open(A, &[], &[Open::All]);
    world.open(B, &[Open::All], &[]);
    let frames = pieces("10.0.0.1", "10.0.0.2", 50, &[7; 64], &[24, 40], 7);
    assert_eq!(sent(&put_all(&mut world, &frames, &[2, 1, 0])), 3);
    assert_eq!(world.connections(), 1);
}

#[test]
fn d27_nobody_takes_a_place_in_anothers_name() {
    let mut world = world();
    let frames = pieces("10.0.0.1", "10.0.0.2", 17, &datagram(5000, 53), &[24, 40], 7);
    // C speaks as A; the uplink speaks as A too.
    let mut forged = frames[1].clone();
    forged[6..12].copy_from_slice(&mac(3).0);
    assert_eq!(world.piece(PortIndex(2), &forged, None), [Outcome::Drop(DropReason::SpoofedAddress)]);
    forged[6..12].copy_from_slice(&mac(99).0);
    assert_eq!(world.piece(UPLINK, &forged, None), [Outcome::Drop(DropReason::SpoofedAddress)]);
    assert_eq!(world.pipeline.fragments.len(), 0);
    assert_eq!(sent(&put_all(&mut world, &frames, &[0, 1, 2])), 3);
}

#[test]
fn d27_a_flood_of_pieces_uses_up_its_senders_share_alone() {
    let mut world = world();
    world.open(C, &[], &[Open::Ports(17, 53, 53)]);
    let share = (fragment::WAITING / fragment::SHARE) as u64;
    for id in 0..1000 {
        let frames = pieces("10.0.0.3", "10.0.0.2", 17, &datagram(5000, 53), &[24, 40], id);
        let mut frame = frames[1].clone();
        frame[6..12].copy_from_slice(&mac(3).0);
        world.piece(PortIndex(2), &frame, None);
    }
    assert_eq!(world.pipeline.waiting() as u64, share);
    assert_eq!(world.dropped(DropReason::FragmentFull), 1000 - share);
    assert_eq!(world.at(C).drops.get(DropReason::FragmentFull), 1000 - share);
    // The neighbour's packets in pieces pass.
    let frames = pieces("10.0.0.1", "10.0.0.2", 17, &datagram(5000, 53), &[24, 40], 7);
    assert_eq!(sent(&put_all(&mut world, &frames, &[2, 0, 1])), 3);
}

#[test]
fn d27_firsts_alone_are_bounded_too() {
    let mut world = world();
    let share = fragment::PACKETS / fragment::SHARE;
    for id in 0..2 * share as u32 {
        let frames = pieces("10.0.0.1", "10.0.0.2", 17, &datagram(5000, 53), &[24], id);
        world.piece(PortIndex(0), &frames[0], None);
    }
    assert!(world.pipeline.fragments.len() <= share);
    assert!(world.dropped(DropReason::FragmentFull) as usize >= share);
}

#[test]
fn d27_pieces_of_a_flow_end_with_its_owner() {
    let new = |n| World::with(WorkerIndex(n), 3, 1000);
    let mut workers = [new(0), new(1), new(2)];
    for world in &mut workers {
        world.open(A, &[], &[Open::Ports(17, 53, 53)]);
        world.open(B, &[Open::Ports(17, 53, 53)], &[]);
    }
    let mut hops = [0; 3];
    for port in 1000..1060u16 {
        let frames = pieces("10.0.0.1", "10.0.0.2", 17, &datagram(port, 53), &[24, 40], port.into());
        let mut delivered = 0;
        for at in [1, 0, 2] {
            // What comes into worker 0's queue, until nobody hands it on.
            let mut packets = vec![(0, PortIndex(0), frames[at].clone(), false, None, 0)];
            while let Some((worker, on, frame, steered, of, hop)) = packets.pop() {
                let world = &mut workers[worker];
                let snapshot = world.snapshot();
                let arrival = Arrival { frame: Frame::whole(&frame), port: on, steered, of };
                world.pipeline.run(&snapshot, world.now, &[arrival], &mut (), &mut world.out);
                let outcome = world.out.get(0).clone();
                let released: Vec<_> = world.pipeline.released().collect();
                for (slot, of) in released.into_iter().rev() {
                    let (port, frame) = world.waiting.remove(&slot.0).unwrap();
                    packets.push((worker, port, frame, false, Some(of), hop));
                }
                world.pipeline.reuse();
                match outcome {
                    Outcome::HandOver { to, of } => {
                        packets.push((usize::from(to.0), on, frame, true, of, hop + 1));
                    }
                    Outcome::Wait(slot) => drop(world.waiting.insert(slot.0, (on, frame))),
                    outcome => {
                        assert_eq!(outcome, to(B));
                        hops[hop] += 1;
                        delivered += 1;
                    }
                }
            }
        }
        assert_eq!(delivered, 3);
    }
    assert_eq!(workers.iter().map(World::connections).sum::<usize>(), 60);
    // Two addresses meet at one worker, and their flows belong to all three.
    assert!(hops.iter().filter(|n| **n > 0).count() >= 2, "{hops:?}");
}

proptest! {
    #[test]
    fn d27_whatever_the_pieces_nothing_refused_passes_and_every_piece_is_accounted_for(
        steps in prop::collection::vec((0..8usize, 1..8usize, any::<bool>(), 0..3u32, any::<bool>(), 0..3u32), 1..60)
    ) {
        let mut world = world();
        let (mut put, mut delivered) = (0, 0);
        for (start, length, more, id, allowed, seconds) in steps {
            world.now = world.now + Ticks::from_secs(seconds);
            world.pipeline.housekeep(world.now);
            world.forget_discarded();
            let (start, stop) = (start * 8, ((start + length) * 8).min(64));
            if start >= stop {
                continue;
            }
            // What is refused is of other packets than what is allowed.
            let (port, id) = if allowed { (53, 2 * id) } else { (54, 2 * id + 1) };
            let data = datagram(5000, port)[start..stop].to_vec();
            let packet = Packet::new(ip("10.0.0.1"), ip("10.0.0.2"), 17, data);
            let frame = packet.fragment(id, start as u16, more || start == 0).frame(mac(1), mac(2));
            let outcomes = world.piece(PortIndex(0), &frame, None);
            put += 1;
            delivered += sent(&outcomes) as u64;
            prop_assert!(allowed || sent(&outcomes) == 0, "{outcomes:?}");
            let settled = delivered + world.pipeline.counters().drops.total();
            prop_assert_eq!(put, settled + world.pipeline.waiting() as u64);
            prop_assert_eq!(world.pipeline.waiting(), world.waiting.len());
        }
    }
}
