use super::*;
use crate::addr::Addr;
use crate::ids::VpcIndex;
use crate::packet::{IcmpError, Query, QueryKind, Quoted, Tcp, Udp};
use crate::time::Ticks;

const T: Timeouts = Timeouts::DEFAULT;
const START: Tick = Tick(1000);

fn ip(transport: Transport) -> Ip {
    Ip { src: Addr::v4(1), dst: Addr::v4(2), protocol: 0, transport }
}

fn udp() -> Ip {
    ip(Transport::Udp(Udp { src_port: 1, dst_port: 2 }))
}

fn key() -> FlowKey {
    FlowKey::new(VpcIndex(3), 17, (Addr::v4(1), 1), (Addr::v4(2), 2)).0
}

fn open(packet: &Ip) -> Entry {
    Entry::open(key(), Side::Low, packet, START, &T).unwrap()
}

fn after(seconds: u32) -> Tick {
    START + Ticks::from_secs(seconds)
}

#[test]
fn udp_is_a_stream_once_it_is_asked_again_after_an_answer() {
    let mut entry = open(&udp());
    assert_eq!((entry.state(), entry.deadline(), entry.replied()), (State::UdpRequest, after(30), false));
    entry.advance(Side::Low, &udp(), after(1), &T).unwrap();
    assert_eq!((entry.state(), entry.deadline()), (State::UdpRequest, after(31)), "asked again, no answer");
    entry.advance(Side::High, &udp(), after(2), &T).unwrap();
    assert_eq!((entry.state(), entry.deadline(), entry.replied()), (State::UdpReplied, after(32), true));
    entry.advance(Side::High, &udp(), after(3), &T).unwrap();
    assert_eq!(
        (entry.state(), entry.deadline()),
        (State::UdpReplied, after(33)),
        "one exchange, however long"
    );
    entry.advance(Side::Low, &udp(), after(4), &T).unwrap();
    assert_eq!((entry.state(), entry.deadline()), (State::UdpStream, after(184)));
    entry.advance(Side::High, &udp(), after(5), &T).unwrap();
    assert_eq!((entry.state(), entry.deadline()), (State::UdpStream, after(185)));
}

#[test]
fn icmp_lives_for_30_seconds_answered_or_not() {
    let query = |kind| ip(Transport::Query(Query { kind, icmp_type: 8, code: 0, id: 7 }));
    let mut entry = open(&query(QueryKind::Request));
    assert_eq!((entry.state(), entry.deadline()), (State::Icmp, after(30)));
    assert!(entry.state().is_half_open());
    entry.advance(Side::High, &query(QueryKind::Reply), after(1), &T).unwrap();
    assert_eq!((entry.state(), entry.deadline()), (State::IcmpReplied, after(31)));
    assert!(!entry.state().is_half_open());
    assert_eq!(open(&ip(Transport::Icmp { icmp_type: 9, code: 0 })).state(), State::Icmp);
}

#[test]
fn d13_other_protocols_live_600_seconds_from_either_sides_last_packet() {
    let mut entry = open(&ip(Transport::Other));
    assert!(!entry.is_expired(after(599)) && entry.is_expired(after(601)));
    entry.advance(Side::High, &ip(Transport::Other), after(599), &T).unwrap();
    assert!(!entry.is_expired(after(599 + 599)) && entry.is_expired(after(599 + 601)));
    entry.advance(Side::Low, &ip(Transport::Other), after(1000), &T).unwrap();
    assert!(!entry.is_expired(after(1000 + 599)) && entry.is_expired(after(1000 + 601)));
    assert_eq!(entry.state(), State::Other);
}

#[test]
fn d18_an_interfaces_own_timeouts_count() {
    let own = Timeouts { udp: Ticks::from_secs(45), tcp_established: Ticks::from_secs(60), ..T };
    assert_eq!(Entry::open(key(), Side::Low, &udp(), START, &own).unwrap().deadline(), after(45));
    assert_eq!(own.of(State::Established), own.of(State::PickedUp), "never longer than established");
    assert_eq!(T.of(State::PickedUp), T.other);
}

#[test]
fn what_is_of_no_flow_opens_none_and_refreshes_none() {
    let quoted = Quoted { src: Addr::v4(1), dst: Addr::v4(2), protocol: 17, src_port: 1, dst_port: 2 };
    let error = ip(Transport::Error(IcmpError { icmp_type: 3, code: 1, quoted }));
    assert!(Entry::open(key(), Side::Low, &error, START, &T).is_none());
    let mut entry = open(&udp());
    let before = format!("{entry:?}");
    entry.advance(Side::High, &error, after(9), &T).unwrap();
    assert_eq!(format!("{entry:?}"), before, "an error neither answers nor refreshes (D17)");
    let fragment = crate::packet::Fragment { id: 1, offset: 8, length: 8, more: true, ports: Some((1, 2)) };
    assert!(Entry::open(key(), Side::Low, &ip(Transport::Fragment(fragment)), START, &T).is_none());
}

#[test]
fn a_second_packet_in_a_tick_changes_nothing() {
    let ack = |seq, ack| {
        let flags = TcpFlags::ACK;
        ip(Transport::Tcp(Tcp { src_port: 1, dst_port: 2, seq, ack, flags, payload: 9 }))
    };
    for (there, back) in
        [(udp(), udp()), (ack(1, 5), ack(5, 1)), (ip(Transport::Other), ip(Transport::Other))]
    {
        let mut entry = open(&there);
        for side in [Side::High, Side::Low, Side::High, Side::Low] {
            let packet = if side == Side::Low { &there } else { &back };
            entry.advance(side, packet, after(1), &T).unwrap();
        }
        let before = format!("{entry:?}");
        entry.advance(Side::Low, &there, after(1), &T).unwrap();
        entry.advance(Side::High, &back, after(1), &T).unwrap();
        assert_eq!(format!("{entry:?}"), before);
        entry.advance(Side::Low, &there, Tick(after(1).0 + 1), &T).unwrap();
        assert_ne!(format!("{entry:?}"), before, "the next tick writes the deadline");
    }
}

#[test]
fn ends_and_their_tracking_are_kept_apart() {
    for (originator, other) in [(Side::Low, Side::High), (Side::High, Side::Low)] {
        let mut entry = Entry::open(key(), originator, &udp(), START, &T).unwrap();
        assert_eq!(entry.originator(), originator);
        assert!(!entry.is_tracked(Side::Low) && !entry.is_tracked(Side::High));
        entry.set_tracked(other);
        assert!(entry.is_tracked(other) && !entry.is_tracked(originator));
        entry.set_end(other, InterfaceId::new(7, 2));
        assert_eq!(entry.end(other), InterfaceId::new(7, 2));
        assert_eq!(entry.end(originator), InterfaceId::NONE);
        assert_eq!(*entry.key(), key());
        entry.advance(other, &udp(), START, &T).unwrap();
        assert_eq!((entry.originator(), entry.state()), (originator, State::UdpReplied));
        assert!(entry.is_tracked(other) && !entry.is_tracked(originator));
    }
}

#[test]
fn half_open_is_what_one_end_alone_can_make() {
    use State::*;
    for state in [SynSent, SynReceived, PickedUp, UdpRequest, Icmp] {
        assert!(state.is_half_open() && state.is_expendable(), "{}", state.label());
    }
    for state in [Established, FinWait, UdpReplied, UdpStream, IcmpReplied, Other] {
        assert!(!state.is_half_open() && !state.is_expendable(), "{}", state.label());
    }
    assert!(!Closed.is_half_open() && Closed.is_expendable());
}
