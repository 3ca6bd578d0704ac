use super::*;
use crate::addr::Addr;
use crate::packet::Transport;

const START: Tick = Tick::from_secs(1);
const OF: FragmentOf = FragmentOf { protocol: 17, ports: (5000, 53) };

fn id(number: u32, sender: InterfaceId) -> PacketId {
    let fragment = piece(number, 0, 8);
    let transport = Transport::Fragment(fragment);
    let ip = Ip { src: Addr::v4(1), dst: Addr::v4(2), protocol: 17, transport };
    PacketId::of(VpcIndex(0), &ip, &fragment, sender)
}

fn piece(id: u32, start: u16, stop: u16) -> Fragment {
    Fragment { id, offset: start, length: stop - start, more: true, ports: None }
}

struct Bench {
    fragments: Fragments,
    hasher: FlowHasher,
    lost: usize,
}

impl Bench {
    fn new() -> Bench {
        Bench { fragments: Fragments::new(16), hasher: FlowHasher::new([1, 2, 3, 4]), lost: 0 }
    }

    fn put(&mut self, now: Tick, id: PacketId, fragment: Fragment, of: Option<FragmentOf>) -> Piece {
        let lost = &mut self.lost;
        self.fragments.piece(now, &self.hasher, id, &fragment, of, &mut |_| *lost += 1)
    }
}

#[test]
fn what_a_first_tells_is_a_number_and_back() {
    for of in
        [OF, FragmentOf { protocol: 0, ports: (0, 0) }, FragmentOf { protocol: 255, ports: (65535, 65535) }]
    {
        assert_ne!(of.to_bits(), 0);
        assert_eq!(FragmentOf::from_bits(of.to_bits()), Some(of));
    }
    assert_eq!(FragmentOf::from_bits(0), None);
}

#[test]
fn a_place_is_given_again_only_when_it_is_empty() {
    let mut bench = Bench::new();
    let sender = InterfaceId::new(3, 1);
    let Piece::Wait(first) = bench.put(START, id(1, sender), piece(1, 8, 16), None) else { panic!() };
    assert_eq!(bench.put(START, id(1, sender), piece(1, 0, 8), Some(OF)), Piece::Of(OF));
    let Piece::Wait(second) = bench.put(START, id(2, sender), piece(2, 8, 16), None) else { panic!() };
    assert_ne!(first, second, "the worker has not emptied it");
    assert_eq!(bench.fragments.released().collect::<Vec<_>>(), [(first, OF)]);
    bench.fragments.reuse();
    assert_eq!(bench.put(START, id(3, sender), piece(3, 8, 16), None), Piece::Wait(first));
}

#[test]
fn all_waiting_places_are_shared_out_and_come_back() {
    let mut bench = Bench::new();
    for sender in 0..8u32 {
        for number in 0..200u16 {
            let sender = InterfaceId::new(sender, 1);
            bench.put(
                START,
                id(sender.slot() as u32, sender),
                piece(1, 16 + number * 8, 24 + number * 8),
                None,
            );
        }
    }
    assert_eq!(bench.fragments.waiting(), WAITING);
    for _ in 0..PACKETS / WAYS {
        let lost = &mut bench.lost;
        bench.fragments.sweep(START + TIMEOUT, &mut |_| *lost += 1);
    }
    assert_eq!((bench.lost, bench.fragments.len()), (WAITING, 0));
    assert_eq!(bench.fragments.discarded().count(), WAITING);
    bench.fragments.reuse();
    assert_eq!(bench.fragments.waiting(), 0);
    assert!(matches!(bench.put(START, id(9, InterfaceId::new(0, 1)), piece(1, 8, 16), None), Piece::Wait(_)));
}

#[test]
fn an_unknown_sender_has_no_share() {
    let mut bench = Bench::new();
    let beyond = InterfaceId::new(16, 1);
    assert_eq!(
        bench.put(START, id(1, beyond), piece(1, 8, 16), None),
        Piece::Refused(DropReason::FragmentFull)
    );
    assert!(matches!(bench.put(START, id(1, InterfaceId::NONE), piece(1, 8, 16), None), Piece::Wait(_)));
}

#[test]
fn both_directions_and_all_senders_are_apart() {
    let one = id(7, InterfaceId::new(1, 1));
    assert_ne!(one, id(7, InterfaceId::new(2, 1)));
    assert_ne!(one, id(8, InterfaceId::new(1, 1)));
    let fragment = piece(7, 0, 8);
    let transport = Transport::Fragment(fragment);
    let back = Ip { src: Addr::v4(2), dst: Addr::v4(1), protocol: 17, transport };
    assert_ne!(one, PacketId::of(VpcIndex(0), &back, &fragment, InterfaceId::new(1, 1)));
    assert_eq!(meeting_point(VpcIndex(0), &back).endpoint(Side::Low).0, Addr::v4(1));
}
