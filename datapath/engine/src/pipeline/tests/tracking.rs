//! What operators choose about tracking: timeouts of each end, allowances,
//! forced tracking, ICMP errors, services that are not filtered.

use super::super::RELATED_PER_SECOND;
use super::world::*;
use crate::forward::{ExemptService, IcmpErrors};
use crate::ids::WorkerIndex;
use crate::packet::TcpFlags;
use crate::packet::build::{Packet, ip};
use crate::pipeline::{Outcome, PassClass};
use crate::time::{TICKS_PER_SECOND, Tick, Ticks};
use crate::verdict::DropReason;

fn ask(port: u16) -> Packet {
    Packet::udp(&format!("10.0.0.1:{port}"), "10.0.0.2:53", b"q")
}

fn answer(port: u16) -> Packet {
    Packet::udp("10.0.0.2:53", &format!("10.0.0.1:{port}"), b"a")
}

/// A asks B at port 53; both track that, neither has any other rule.
fn world() -> World {
    let mut world = World::new();
    world.open(A, &[], &[Open::Ports(17, 53, 53)]);
    world.open(B, &[Open::Ports(17, 53, 53)], &[]);
    world
}

#[test]
fn d18_each_end_forgets_by_its_own_timeout() {
    for (a, b) in [(30, 60), (60, 30)] {
        let mut world = world();
        world.interfaces[A].timeouts.udp = Ticks::from_secs(a);
        world.interfaces[B].timeouts.udp = Ticks::from_secs(b);
        let start = world.now;
        assert_eq!(world.send(A, B, &ask(1)), to(B));
        // From here on no rule permits anything.
        world.open(A, &[], &[]);
        world.open(B, &[], &[]);
        world.now = start + Ticks::from_secs(29);
        assert_eq!(world.send(B, A, &answer(1)), to(A), "both remember");
        // Whoever remembers for longer lets it pass; the other does not.
        world.now = world.now + Ticks::from_secs(31);
        let refused = if a < b { DropReason::InboundDenied } else { DropReason::OutboundDenied };
        assert_eq!(world.send(B, A, &answer(1)), Outcome::Drop(refused));
        // And what the one lets pass does not bring it back at the other.
        world.now = world.now + Ticks::from_secs(1);
        assert_eq!(world.send(B, A, &answer(1)), Outcome::Drop(refused));
        let back = if a < b { DropReason::OutboundDenied } else { DropReason::InboundDenied };
        assert_eq!(world.send(A, B, &ask(1)), Outcome::Drop(back));
    }
}

#[test]
fn d18_the_end_that_tracks_alone_counts() {
    let mut world = world();
    world.open(B, &[Open::All], &[Open::All]);
    world.interfaces[A].timeouts.udp = Ticks::from_secs(30);
    world.interfaces[B].timeouts.udp = Ticks::from_secs(60);
    assert_eq!(world.send(A, B, &ask(1)), to(B));
    world.now = world.now + Ticks::from_secs(31);
    assert_eq!(world.send(B, A, &answer(1)), Outcome::Drop(DropReason::InboundDenied));
}

#[test]
fn d23_an_interface_tracks_no_more_than_its_allowance() {
    let mut world = world();
    world.interfaces[A].settings.connections = 10;
    world.open(C, &[], &[Open::Ports(17, 53, 53)]);
    // Ten that were answered, which are never given up.
    for port in 1..=10 {
        assert_eq!(world.send(A, B, &ask(port)), to(B));
        assert_eq!(world.send(B, A, &answer(port)), to(A));
    }
    for port in 11..=20 {
        assert_eq!(world.send(A, B, &ask(port)), Outcome::Drop(DropReason::AllowanceExceeded));
    }
    assert_eq!(world.at(A).drops.get(DropReason::AllowanceExceeded), 10);
    assert_eq!(world.dropped(DropReason::AllowanceExceeded), 10);
    // What exists passes, what needs no tracking too, and the neighbour has its own.
    assert_eq!(world.send(A, B, &ask(1)), to(B));
    let from_c = Packet::udp("10.0.0.3:9", "10.0.0.2:53", b"q");
    assert_eq!(world.send(C, B, &from_c), to(B));
    assert_eq!(world.connections(), 11);
    (0..8).for_each(|_| world.pipeline.housekeep(world.now));
    assert_eq!((world.at(A).connections.get(), world.at(B).connections.get()), (10, 11));
    world.open(A, &[Open::All], &[Open::All]);
    world.open(C, &[Open::All], &[Open::All]);
    assert_eq!(world.send(A, C, &Packet::udp("10.0.0.1:1", "10.0.0.3:1", b"")), to(C));
    // When they have expired there is room again.
    world.now = world.now + Ticks::from_secs(181);
    assert_eq!(world.send(A, B, &ask(21)), to(B));
}

#[test]
fn d23_half_open_ones_of_the_same_interface_make_room_within_its_allowance() {
    let mut world = world();
    world.interfaces[B].settings.connections = 10;
    world.open(A, &[], &[Open::Ports(17, 53, 53)]);
    // Never answered: the clock hand finds some of them, sooner or later.
    let passed = (1..=500).filter(|port| world.send(A, B, &ask(*port)) == to(B)).count();
    assert!((11..500).contains(&passed), "{passed}");
    (0..8).for_each(|_| world.pipeline.housekeep(world.now));
    assert_eq!(world.at(B).connections.get(), 10);
    assert_eq!(world.dropped(DropReason::AllowanceExceeded) as usize, 500 - passed);
}

#[test]
fn the_sweep_looks_at_all_of_the_table_in_no_less_than_four_seconds() {
    let mut world = World::with(WorkerIndex(0), 1, 20_000);
    world.open(A, &[], &[Open::Ports(17, 53, 53)]);
    world.open(B, &[Open::Ports(17, 53, 53)], &[]);
    for port in 1..=1000 {
        world.send(A, B, &ask(port));
    }
    world.now = world.now + Ticks::from_secs(3600);
    // However often it is called, in each of eight ticks an eighth of the table is its turn.
    let mut left = vec![world.connections()];
    for _ in 0..8 {
        (0..10_000).for_each(|_| world.pipeline.housekeep(world.now));
        left.push(world.connections());
        world.now = world.now + Ticks(1);
    }
    assert_eq!((left[0], left[8]), (1000, 0));
    let expired = |pair: &[usize]| pair[0] - pair[1];
    assert!(left.windows(2).map(expired).all(|n| (60..=190).contains(&n)), "{left:?}");
}

#[test]
fn d25_forced_tracking_leaves_nothing_untracked() {
    let mut world = World::new();
    world.open(A, &[Open::All], &[Open::All]);
    world.open(B, &[Open::All], &[Open::All]);
    assert_eq!(world.send(A, B, &ask(1)), to(B));
    assert_eq!(world.connections(), 0);
    world.interfaces[B].settings.force_tracking = true;
    assert_eq!(world.send(A, B, &ask(1)), to(B));
    assert_eq!(world.connections(), 1);
    // Tracked, it outlives its rule at b; a's side is judged by rules as before.
    world.open(B, &[], &[]);
    assert_eq!(world.send(A, B, &ask(1)), to(B));
    assert_eq!(world.send(B, A, &answer(1)), to(A));
    assert_eq!(world.send(A, B, &ask(2)), Outcome::Drop(DropReason::InboundDenied));
}

#[test]
fn d17_errors_by_rules_alone_where_that_is_chosen() {
    let mut world = World::new();
    world.open(A, &[], &[Open::Ports(17, 53, 53)]);
    let asked = Packet::udp("10.0.0.1:5000", "192.0.2.1:53", b"q");
    let error = Packet::error_about("198.51.100.1", &asked, 3, 1);
    assert_eq!(world.send_out(A, &asked), out());
    assert_eq!(world.send_in(A, &error), to(A));
    world.interfaces[A].settings.icmp_errors = IcmpErrors::Rules;
    assert_eq!(world.send_in(A, &error), Outcome::Drop(DropReason::InboundDenied));
    world.open(A, &[Open::Icmp], &[]);
    assert_eq!(world.send_in(A, &error), to(A));
    assert_eq!((world.passed(PassClass::Related), world.passed(PassClass::Untracked)), (1, 1));
}

#[test]
fn d17_errors_are_capped_and_do_not_refresh_the_connection() {
    let mut world = World::new();
    world.open(A, &[], &[Open::Ports(17, 53, 53)]);
    let asked = Packet::udp("10.0.0.1:5000", "192.0.2.1:53", b"q");
    let error = Packet::error_about("198.51.100.1", &asked, 3, 1);
    assert_eq!(world.send_out(A, &asked), out());
    let start = world.now;
    let allowance = RELATED_PER_SECOND / TICKS_PER_SECOND;
    for _ in 0..allowance {
        assert_eq!(world.send_in(A, &error), to(A));
    }
    assert_eq!(world.send_in(A, &error), Outcome::Drop(DropReason::RelatedRate));
    assert_eq!(world.at(A).drops.get(DropReason::RelatedRate), 1);
    for second in 1..30 {
        world.now = start + Ticks::from_secs(second);
        assert_eq!(world.send_in(A, &error), to(A));
    }
    world.now = start + Ticks::from_secs(30);
    assert_eq!(world.send_in(A, &error), Outcome::Drop(DropReason::InboundDenied), "the connection is over");
}

#[test]
fn d22_services_are_exempt_where_configured_and_nowhere_else() {
    for (address, number) in [("169.254.169.254", 6), ("fd00:ec2::254", 6), ("169.254.169.123", 17)] {
        let mut world = World::new();
        let six = address.contains(':');
        let own = if six { "[fd00::1]:5000" } else { "10.0.0.1:5000" };
        let remote =
            |port: u16| if six { format!("[{address}]:{port}") } else { format!("{address}:{port}") };
        let packet = |from: &str, to: &str| match number {
            6 => Packet::tcp(from, to, TcpFlags::SYN, 1, 0, b""),
            _ => Packet::udp(from, to, b"x"),
        };
        let ask = packet(own, &remote(80));
        assert_eq!(world.send_out(A, &ask), Outcome::Drop(DropReason::OutboundDenied));
        world.exempt = vec![ExemptService { address: ip(address), protocol: number, port: 80 }];
        assert_eq!(world.send_out(A, &ask), out());
        assert_eq!(world.send_in(A, &packet(&remote(80), own)), to(A));
        assert_eq!((world.passed(PassClass::Exempt), world.connections()), (2, 0));
        // The neighbours: other ports, the other protocol, and an interface with that address.
        assert_eq!(world.send_out(A, &packet(own, &remote(81))), Outcome::Drop(DropReason::OutboundDenied));
        assert_eq!(world.send_in(A, &packet(&remote(79), own)), Outcome::Drop(DropReason::InboundDenied));
        world.exempt[0].protocol = 23 - number;
        assert_eq!(world.send_out(A, &ask), Outcome::Drop(DropReason::OutboundDenied));
    }
    let mut world = World::new();
    world.exempt = vec![ExemptService { address: ip("10.0.0.2"), protocol: 17, port: 53 }];
    assert_eq!(world.send(A, B, &ask(1)), Outcome::Drop(DropReason::OutboundDenied));
    world.now = Tick::from_secs(9);
    world.exempt = vec![ExemptService { address: ip("192.0.2.1"), protocol: 17, port: 53 }];
    let flood = Packet::udp("10.0.0.1:1", "192.0.2.1:53", b"q");
    let passed = (0..2000).filter(|_| world.send_out(A, &flood) == out()).count();
    assert_eq!(passed as u32, super::super::EXEMPT_PER_SECOND / TICKS_PER_SECOND);
}

#[test]
fn a_host_without_an_address_opens_no_connection() {
    let mut world = World::new();
    world.open(A, &[], &[Open::Ports(17, 67, 67)]);
    world.open(B, &[Open::Ports(17, 67, 67)], &[]);
    world.interfaces[A].source_dest_check = false;
    let ask = |from: &str| Packet::udp(&format!("{from}:68"), "10.0.0.2:67", b"");
    assert_eq!(world.send(A, B, &ask("0.0.0.0")), to(B));
    assert_eq!((world.connections(), world.passed(PassClass::Untracked)), (0, 1));
    assert_eq!(world.send(A, B, &ask("10.0.0.1")), to(B));
    assert_eq!((world.connections(), world.passed(PassClass::NewTracked)), (1, 1));
}
