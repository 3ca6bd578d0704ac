//! What connections have carried, packet by packet and byte by byte.

use super::world::*;
use crate::conntrack::{Account, Carried, TableConfig};
use crate::flow::Side;
use crate::ids::PortIndex;
use crate::packet::TcpFlags;
use crate::packet::build::{Packet, mac};
use crate::pipeline::{BURST, Outcome};
use crate::time::Ticks;
use crate::verdict::DropReason;

const CAPACITY: usize = 10_000;

/// A asks B what it likes, B nothing; accounts are kept.
fn world() -> World {
    let mut world = World::with(crate::ids::WorkerIndex(0), 1, CAPACITY);
    world.open(A, &[], &[Open::All]);
    world.open(B, &[Open::All], &[]);
    let accounts = TableConfig { capacity: CAPACITY }.accounts(|_| ());
    assert!(world.pipeline.keep_accounts(Some(Box::new(accounts))).is_none());
    world
}

fn udp(from: (u8, u16), to: (u8, u16), data: &[u8]) -> Packet {
    Packet::udp(&format!("10.0.0.{}:{}", from.0, from.1), &format!("10.0.0.{}:{}", to.0, to.1), data)
}

/// All that is told now, with how much is lost.
fn told(world: &mut World) -> (Vec<Carried>, u64) {
    let (mut all, mut lost, mut cursor) = (vec![], 0, Some(0));
    while let Some(at) = cursor {
        let (next, unknown) = world.pipeline.tell_accounts(at, 64, &mut |carried| all.push(*carried));
        lost += unknown;
        cursor = next;
    }
    (all, lost)
}

/// What was told of the side that has this port: the bytes of its frames, their number,
/// flags, and the slots of the interfaces that sent and received them.
fn of_port(all: &[Carried], port: u16) -> Option<(Account, [usize; 2])> {
    let of = |carried: &Carried| {
        let side = Side::BOTH.into_iter().find(|side| carried.key.endpoint(*side).1 == port)?;
        let ends = [side, side.other()].map(|side| carried.ends[side.index()].slot());
        Some((carried.sides[side.index()], ends))
    };
    all.iter().find_map(of)
}

#[test]
fn what_passes_by_state_is_in_the_account_and_first_packets_are_not() {
    for general in [false, true] {
        let mut world = world();
        world.pipeline.general_only = general;
        let frame = |packet: Packet| packet.frame(mac(1), mac(2)).len() as u64;
        let question = udp((1, 1000), (2, 53), b"question");
        assert_eq!(world.send(A, B, &question), to(B));
        assert_eq!(world.out.accounted(), 0, "rules let it pass");
        assert_eq!(told(&mut world), (vec![], 0));
        for _ in 0..3 {
            assert_eq!(world.send(B, A, &udp((2, 53), (1, 1000), b"an answer")), to(A));
            assert_eq!(world.out.accounted(), 1);
        }
        assert_eq!(world.send(A, B, &question), to(B));
        // A stranger is none of it.
        assert_eq!(
            world.send(B, A, &udp((2, 53), (1, 1001), b"")),
            Outcome::Drop(DropReason::OutboundDenied)
        );
        assert_eq!(world.out.accounted(), 0);
        let (all, lost) = told(&mut world);
        assert_eq!((all.len(), lost), (1, 0));
        let none = TcpFlags(0);
        let bytes = frame(question);
        assert_eq!(of_port(&all, 1000), Some((Account { bytes, packets: 1, flags: none }, [A, B])));
        let bytes = 3 * frame(udp((2, 53), (1, 1000), b"an answer"));
        assert_eq!(of_port(&all, 53), Some((Account { bytes, packets: 3, flags: none }, [B, A])));
        assert_eq!(told(&mut world), (vec![], 0), "it is told once");
    }
}

#[test]
fn control_bits_are_put_together_by_side() {
    for general in [false, true] {
        let mut world = world();
        world.pipeline.general_only = general;
        let (client, server) = ("10.0.0.1:1000", "10.0.0.2:80");
        let segment = |flags, back: bool| match back {
            false => Packet::tcp(client, server, flags, 100, 500, b""),
            true => Packet::tcp(server, client, flags, 500, 101, b""),
        };
        let both = |one: TcpFlags, other: TcpFlags| TcpFlags(one.0 | other.0);
        assert_eq!(world.send(A, B, &segment(TcpFlags::SYN, false)), to(B));
        assert_eq!(world.send(B, A, &segment(both(TcpFlags::SYN, TcpFlags::ACK), true)), to(A));
        assert_eq!(world.send(A, B, &segment(TcpFlags::ACK, false)), to(B));
        assert_eq!(world.send(A, B, &segment(both(TcpFlags::PSH, TcpFlags::ACK), false)), to(B));
        let (all, _) = told(&mut world);
        let side = |port| of_port(&all, port).map(|(account, _)| (account.packets, account.flags));
        assert_eq!(side(1000), Some((2, both(TcpFlags::PSH, TcpFlags::ACK))), "SYN was judged by rules");
        assert_eq!(side(80), Some((1, both(TcpFlags::SYN, TcpFlags::ACK))));
    }
}

#[test]
fn what_a_connection_carried_is_told_when_it_is_gone() {
    let mut world = world();
    for port in [1000, 1001, 1002] {
        world.send(A, B, &udp((1, port), (2, 53), b""));
        world.send(B, A, &udp((2, 53), (1, port), b""));
    }
    let is_of = |port| move |carried: &Carried| of_port(&[*carried], port).is_some();
    // One is ended by an operator, one by time, one goes on.
    world.pipeline.forget(world.now, 0, usize::MAX, &mut |entry| {
        Side::BOTH.iter().any(|side| entry.key().endpoint(*side).1 == 1000)
    });
    world.now = world.now + Ticks::from_secs(20);
    world.send(A, B, &udp((1, 1002), (2, 53), b""));
    world.now = world.now + Ticks::from_secs(20);
    while world.connections() > 1 {
        world.pipeline.housekeep(world.now);
        world.now = world.now + Ticks(1);
    }
    let (all, lost) = told(&mut world);
    assert_eq!(lost, 0);
    for (port, packets) in [(1000, 1), (1001, 1), (1002, 2)] {
        let of: Vec<_> = all.iter().copied().filter(is_of(port)).collect();
        let sum: u32 = of.iter().flat_map(|carried| carried.sides).map(|account| account.packets).sum();
        assert_eq!((of.len(), sum), (1, packets), "{port}");
    }
    // A place that is taken again begins with nothing.
    world.send(A, B, &udp((1, 1000), (2, 53), b""));
    assert_eq!(told(&mut world), (vec![], 0));
}

#[test]
fn a_port_used_again_is_another_connection() {
    let mut world = world();
    let (client, server) = ("10.0.0.1:1000", "10.0.0.2:80");
    let rst = TcpFlags(TcpFlags::RST.0 | TcpFlags::ACK.0);
    world.send(A, B, &Packet::tcp(client, server, TcpFlags::SYN, 100, 0, b""));
    assert_eq!(world.send(B, A, &Packet::tcp(server, client, rst, 0, 101, b"")), to(A));
    assert_eq!(world.send(A, B, &Packet::tcp(client, server, TcpFlags::SYN, 900, 0, b"")), to(B));
    let (all, _) = told(&mut world);
    assert_eq!(of_port(&all, 80).map(|(account, _)| (account.packets, account.flags)), Some((1, rst)));
    assert_eq!(told(&mut world), (vec![], 0));
}

#[test]
fn packets_that_are_no_datagrams_or_segments_are_told_of_one_by_one() {
    let mut world = world();
    let ping = |back| match back {
        false => Packet::ping("10.0.0.1", "10.0.0.2", 7),
        true => Packet::pong("10.0.0.2", "10.0.0.1", 7),
    };
    assert_eq!(world.send(A, B, &ping(false)), to(B));
    assert_eq!(world.send(B, A, &ping(true)), to(A));
    assert_eq!(world.out.accounted(), 0);
    assert_eq!(told(&mut world), (vec![], 0));
}

#[test]
fn of_more_that_end_at_once_than_there_is_room_for_packets_are_counted_as_lost() {
    let mut world = world();
    let ports: Vec<u16> = (1000..1000 + 5000).collect();
    for (from, back) in [(A, false), (B, true)] {
        for some in ports.chunks(BURST) {
            let packet = |port: &u16| match back {
                false => udp((1, *port), (2, 53), b"").frame(mac(1), mac(2)),
                true => udp((2, 53), (1, *port), b"").frame(mac(2), mac(1)),
            };
            let frames: Vec<_> = some.iter().map(packet).collect();
            let burst: Vec<_> =
                frames.iter().map(|f| (PortIndex(from as u16), f.as_slice(), false)).collect();
            world.burst(&burst);
        }
    }
    assert_eq!(world.connections(), 5000);
    world.pipeline.forget(world.now, 0, usize::MAX, &mut |_| true);
    let (all, lost) = told(&mut world);
    assert_eq!((all.len(), lost), (4096, 5000 - 4096));
    assert_eq!(told(&mut world), (vec![], 0));
}

#[test]
#[should_panic(expected = "of this table")]
fn accounts_of_another_table_are_refused() {
    let accounts = TableConfig { capacity: 2 * CAPACITY }.accounts(|_| ());
    world().pipeline.keep_accounts(Some(Box::new(accounts)));
}
