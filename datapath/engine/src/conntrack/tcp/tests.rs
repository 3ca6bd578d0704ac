use super::*;
use crate::addr::Addr;
use crate::conntrack::Timeouts;
use crate::flow::FlowKey;
use crate::ids::{InterfaceId, VpcIndex};
use crate::packet::{Ip, Transport};
use crate::time::{Tick, Ticks};
use State::{Closed, Established, FinWait, PickedUp, SynReceived, SynSent};

const T: Timeouts = Timeouts::DEFAULT;
/// The client opens; the server answers.
const CLIENT: Side = Side::High;
const SERVER: Side = Side::Low;

const SYN: TcpFlags = TcpFlags::SYN;
const ACK: TcpFlags = TcpFlags::ACK;
const SYN_ACK: TcpFlags = TcpFlags(SYN.0 | ACK.0);
const FIN: TcpFlags = TcpFlags(TcpFlags::FIN.0 | ACK.0);
const RST: TcpFlags = TcpFlags::RST;
const RST_ACK: TcpFlags = TcpFlags(RST.0 | ACK.0);

fn segment(flags: TcpFlags, seq: u32, ack: u32, payload: u32) -> Ip {
    let tcp = Tcp { src_port: 1, dst_port: 2, seq, ack, flags, payload };
    Ip { src: Addr::v4(1), dst: Addr::v4(2), protocol: 6, transport: Transport::Tcp(tcp) }
}

fn open(side: Side, packet: &Ip, now: Tick) -> Option<Entry> {
    let key = FlowKey::new(VpcIndex(0), 6, (Addr::v4(1), 1), (Addr::v4(2), 2)).0;
    Entry::open(key, side, packet, now, &T)
}

/// A connection on a virtual clock.
struct Wire {
    entry: Entry,
    now: Tick,
}

impl Wire {
    /// Opened by this segment of the client.
    fn open(flags: TcpFlags, seq: u32, ack: u32) -> Wire {
        let now = Tick(1000);
        Wire { entry: open(CLIENT, &segment(flags, seq, ack, 0), now).unwrap(), now }
    }

    /// After the handshake: the client's next number is 101, the server's 501.
    fn established() -> Wire {
        let mut wire = Wire::open(SYN, 100, 0);
        wire.say(SERVER, SYN_ACK, 500, 101);
        wire.say(CLIENT, ACK, 101, 501);
        assert_eq!(wire.state(), Established);
        wire
    }

    fn say(&mut self, side: Side, flags: TcpFlags, seq: u32, ack: u32) {
        self.try_say(side, flags, seq, ack).unwrap();
    }

    fn try_say(&mut self, side: Side, flags: TcpFlags, seq: u32, ack: u32) -> Result<(), DropReason> {
        self.now.0 += 1;
        self.entry.advance(side, &segment(flags, seq, ack, 0), self.now, &T)
    }

    fn state(&self) -> State {
        self.entry.state()
    }

    fn left(&self) -> Ticks {
        Ticks(self.entry.deadline().0 - self.now.0)
    }
}

#[test]
fn a_connection_from_its_first_segment_to_its_last() {
    let mut wire = Wire::open(SYN, 100, 0);
    assert_eq!((wire.state(), wire.left(), wire.entry.replied()), (SynSent, T.syn, false));
    wire.say(CLIENT, SYN, 100, 0);
    assert_eq!((wire.state(), wire.left()), (SynSent, T.syn), "again");
    wire.say(SERVER, SYN_ACK, 500, 101);
    assert_eq!((wire.state(), wire.left(), wire.entry.replied()), (SynReceived, T.syn, true));
    wire.say(CLIENT, ACK, 101, 501);
    assert_eq!((wire.state(), wire.left()), (Established, T.tcp_established));
    wire.say(SERVER, SYN_ACK, 500, 101);
    assert_eq!((wire.state(), wire.left()), (Established, T.tcp_established), "its answer again");
    // The client closes its direction.
    wire.say(CLIENT, FIN, 101, 501);
    assert_eq!((wire.state(), wire.left()), (Established, T.closing), "not acknowledged yet");
    wire.say(SERVER, ACK, 501, 101);
    assert_eq!((wire.state(), wire.left()), (Established, T.tcp_established), "of data before the FIN");
    wire.say(SERVER, ACK, 501, 102);
    assert_eq!((wire.state(), wire.left()), (FinWait, T.closing));
    // The server goes on sending, then closes as well.
    wire.say(SERVER, ACK, 900, 102);
    wire.say(CLIENT, ACK, 102, 1000);
    assert_eq!((wire.state(), wire.left()), (FinWait, T.closing));
    wire.say(SERVER, FIN, 1000, 102);
    assert_eq!(wire.state(), FinWait);
    wire.say(CLIENT, ACK, 102, 1001);
    assert_eq!((wire.state(), wire.left()), (Closed, T.closed));
    // The last acknowledgement was lost further on.
    let deadline = wire.entry.deadline();
    wire.say(SERVER, FIN, 1000, 102);
    wire.say(CLIENT, ACK, 102, 1001);
    assert_eq!((wire.state(), wire.entry.deadline()), (Closed, deadline), "what is over stays over");
}

#[test]
fn both_ends_may_close_at_once() {
    let mut wire = Wire::established();
    wire.say(CLIENT, FIN, 101, 501);
    wire.say(SERVER, FIN, 501, 101);
    assert_eq!((wire.state(), wire.left()), (Established, T.closing));
    wire.say(CLIENT, ACK, 102, 502);
    assert_eq!(wire.state(), FinWait);
    wire.say(SERVER, ACK, 502, 102);
    assert_eq!(wire.state(), Closed);

    // A FIN that acknowledges the other one.
    let mut wire = Wire::established();
    wire.say(SERVER, FIN, 501, 101);
    wire.say(CLIENT, FIN, 101, 502);
    assert_eq!(wire.state(), FinWait);
    wire.say(SERVER, ACK, 502, 102);
    assert_eq!(wire.state(), Closed);
}

#[test]
fn both_ends_may_open_at_once() {
    let mut wire = Wire::open(SYN, 100, 0);
    wire.say(SERVER, SYN, 500, 0);
    assert_eq!((wire.state(), wire.left()), (SynReceived, T.syn));
    wire.say(SERVER, SYN_ACK, 500, 101);
    assert_eq!(wire.state(), SynReceived, "the other SYN is not acknowledged yet");
    wire.say(CLIENT, SYN_ACK, 100, 501);
    assert_eq!((wire.state(), wire.left()), (Established, T.tcp_established));
    assert_eq!(wire.entry.originator(), CLIENT);
}

#[test]
fn a_server_that_remembers_an_older_connection_is_reset_and_asked_again() {
    // RFC 9293, 3.5.1, figure 9: the client was restarted.
    let mut wire = Wire::open(SYN, 400, 0);
    wire.say(SERVER, ACK, 300, 100);
    assert_eq!(wire.state(), SynSent);
    wire.say(CLIENT, RST, 100, 0);
    assert_eq!((wire.state(), wire.left()), (SynSent, T.syn));
    wire.say(CLIENT, SYN, 400, 0);
    wire.say(SERVER, SYN_ACK, 700, 401);
    wire.say(CLIENT, ACK, 401, 701);
    assert_eq!(wire.state(), Established);
    // Figure 8: an old SYN was answered, of a number near or far.
    for old in [91, 101 + (1 << 20)] {
        let mut wire = Wire::open(SYN, 100, 0);
        wire.say(SERVER, SYN_ACK, 300, old);
        wire.say(CLIENT, RST, old, 0);
        assert!(wire.state().is_half_open());
        wire.say(SERVER, SYN_ACK, 400, 101);
        assert_eq!(wire.state(), SynReceived);
        wire.say(CLIENT, ACK, 101, 401);
        assert_eq!(wire.state(), Established);
    }
}

#[test]
fn a_port_scan_leaves_half_open_entries() {
    let mut wire = Wire::open(SYN, 100, 0);
    wire.say(SERVER, SYN_ACK, 500, 101);
    wire.say(CLIENT, RST, 101, 0);
    assert_eq!((wire.state(), wire.left()), (SynReceived, T.syn));
    // The port again, in earnest; the SYN that was sent is not another one.
    assert!(!wire.entry.is_reopened_by(CLIENT, &segment(SYN, 100, 0, 0)));
    assert!(wire.entry.is_reopened_by(CLIENT, &segment(SYN, 9000, 0, 0)));
    assert!(!wire.entry.is_reopened_by(SERVER, &segment(SYN, 9000, 0, 0)));
    // The server, too, may give up.
    wire.say(SERVER, RST, 501, 0);
    assert_eq!((wire.state(), wire.left()), (Closed, T.closed));
}

#[test]
fn a_restarted_client_gets_rid_of_the_servers_connection() {
    // The switch still has the old connection, too.
    let mut wire = Wire::established();
    assert!(!wire.entry.is_reopened_by(CLIENT, &segment(SYN, 9000, 0, 0)));
    wire.say(CLIENT, SYN, 9000, 0);
    assert_eq!(wire.state(), Established);
    wire.say(SERVER, ACK, 501, 101); // the challenge
    wire.say(CLIENT, RST, 101, 0);
    assert_eq!(wire.state(), Closed);
    assert!(wire.entry.is_reopened_by(CLIENT, &segment(SYN, 9000, 0, 0)));
}

#[test]
fn a_refusal_must_acknowledge_the_syn() {
    let refuse = |flags, ack| {
        let mut wire = Wire::open(SYN, 100, 0);
        wire.try_say(SERVER, flags, 0, ack).map(|()| wire.state())
    };
    assert_eq!(refuse(RST_ACK, 101), Ok(Closed));
    assert_eq!(refuse(RST_ACK, 100), Err(DropReason::InvalidTcp));
    assert_eq!(refuse(RST, 101), Err(DropReason::InvalidTcp), "no acknowledgement at all");
    // Data that came with the SYN may be acknowledged with it (RFC 7413).
    assert_eq!(refuse(RST_ACK, 102), Ok(SynSent));
    assert_eq!(refuse(RST_ACK, 101 + EARLY as u32), Ok(SynSent));
    assert_eq!(refuse(RST_ACK, 102 + EARLY as u32), Err(DropReason::InvalidTcp));
    // A retransmitted SYN is refused like the first.
    let mut wire = Wire::open(SYN, 100, 0);
    wire.say(CLIENT, SYN, 100, 0);
    wire.say(SERVER, RST_ACK, 0, 101);
    assert_eq!((wire.state(), wire.left()), (Closed, T.closed));
    wire.say(SERVER, RST_ACK, 0, 101);
    assert_eq!(wire.state(), Closed, "a copy of it");
}

#[test]
fn a_handshake_asks_for_the_right_numbers() {
    let (far, near) = ([EARLY + 1, -EARLY - 1, i32::MIN], [0, EARLY, -EARLY]);
    let cases = far.map(|d| (d, false)).into_iter().chain(near.map(|d| (d, true)));
    for (distance, fits) in cases {
        let mut wire = Wire::open(SYN, 100, 0);
        wire.say(SERVER, SYN_ACK, 500, 101u32.wrapping_add_signed(distance));
        assert_eq!(wire.state(), if fits { SynReceived } else { SynSent }, "SYN-ACK, {distance}");
        for flags in [ACK, FIN, SYN_ACK] {
            let mut wire = Wire::open(SYN, 100, 0);
            wire.say(SERVER, SYN_ACK, 500, 101);
            wire.say(CLIENT, flags, 101, 501u32.wrapping_add_signed(distance));
            assert_eq!(wire.state(), if fits { Established } else { SynReceived }, "{flags:?}, {distance}");
        }
    }
    // A server that closes before its SYN is acknowledged.
    let mut wire = Wire::open(SYN, 100, 0);
    wire.say(SERVER, SYN_ACK, 500, 101);
    wire.say(SERVER, FIN, 600, 101);
    wire.say(CLIENT, ACK, 101, 501);
    assert_eq!(wire.state(), Established);
    wire.say(CLIENT, ACK, 101, 601);
    assert_eq!(wire.state(), FinWait);
    // The client alone gets nowhere, nor does the server.
    let mut wire = Wire::open(SYN, 100, 0);
    for flags in [ACK, SYN_ACK, FIN, RST, TcpFlags::PSH] {
        wire.say(CLIENT, flags, 101, 0);
        assert_eq!(wire.state(), SynSent);
    }
    wire.say(SERVER, SYN_ACK, 500, 101);
    for flags in [ACK, SYN_ACK, FIN, SYN] {
        wire.say(SERVER, flags, 501, 101);
        assert_eq!(wire.state(), SynReceived, "{flags:?}");
    }
    // A server that answers anew with another number (a SYN cookie) is believed.
    wire.say(SERVER, SYN_ACK, 7000, 101);
    wire.say(CLIENT, ACK, 101, 7001);
    assert_eq!(wire.state(), Established);
}

#[test]
fn a_reset_ends_what_its_receiver_will_believe_it_ends() {
    for (side, expected) in [(CLIENT, 101u32), (SERVER, 501)] {
        let reset = |distance: i32| {
            let mut wire = Wire::established();
            let seq = expected.wrapping_add_signed(distance);
            wire.try_say(side, RST, seq, 0).map(|()| (wire.state(), wire.left()))
        };
        assert_eq!(reset(0), Ok((Closed, T.closed)));
        for near in [1, -1, WINDOW, -WINDOW] {
            assert_eq!(reset(near), Ok((Established, T.closing)), "{near}");
        }
        for far in [WINDOW + 1, -WINDOW - 1, i32::MAX, i32::MIN] {
            assert_eq!(reset(far), Err(DropReason::InvalidTcp), "{far}");
        }
    }
    // Refused, it changes nothing.
    let mut wire = Wire::established();
    let before = format!("{:?}", wire.entry);
    wire.try_say(SERVER, RST, 1 << 30, 0).unwrap_err();
    assert_eq!(format!("{:?}", wire.entry), before);
}

#[test]
fn a_challenge_gives_a_connection_its_time_back() {
    let mut wire = Wire::established();
    wire.say(SERVER, RST, 777, 0);
    assert_eq!(wire.left(), T.closing);
    wire.say(CLIENT, ACK, 101, 501);
    assert_eq!((wire.state(), wire.left()), (Established, T.tcp_established));
    // A real sender answers the challenge with the very number.
    wire.say(SERVER, RST, 501, 0);
    assert_eq!(wire.state(), Closed);
}

#[test]
fn a_sender_cannot_move_the_number_its_resets_are_measured_by() {
    let far = 1 << 26;
    let mut wire = Wire::established();
    for flags in [ACK, SYN, SYN_ACK, TcpFlags::PSH] {
        wire.say(SERVER, flags, far, 101);
        assert_eq!(wire.try_say(SERVER, RST, far, 0), Err(DropReason::InvalidTcp), "{flags:?}");
    }
    // A FIN claims a number, but that is not one to be reset by.
    wire.say(SERVER, FIN, far, 101);
    wire.say(SERVER, RST, far + 1, 0);
    assert_eq!((wire.state(), wire.left()), (Established, T.closing));
    wire.say(CLIENT, ACK, 101, 600);
    assert_eq!((wire.state(), wire.left()), (Established, T.tcp_established));
    // The other side repairs what was claimed as soon as it is told more.
    wire.say(CLIENT, ACK, 101, far + 1000);
    wire.say(SERVER, RST, far + 1000, 0);
    assert_eq!(wire.state(), Closed);
}

#[test]
fn a_fin_that_is_overtaken_is_forgotten() {
    let mut wire = Wire::established();
    wire.say(SERVER, FIN, 2000, 101);
    wire.say(CLIENT, ACK, 101, 2500);
    wire.say(CLIENT, ACK, 101, 2001);
    assert_eq!(wire.state(), Established);
    // The true one may come after a forged one.
    wire.say(SERVER, FIN, 1 << 31, 101);
    wire.say(SERVER, FIN, 3000, 101);
    wire.say(CLIENT, ACK, 101, 3001);
    assert_eq!(wire.state(), FinWait);
}

#[test]
fn a_fin_that_is_acknowledged_is_settled() {
    let mut wire = Wire::established();
    wire.say(SERVER, FIN, 501, 101);
    wire.say(CLIENT, ACK, 101, 502);
    assert_eq!(wire.state(), FinWait);
    // Again, or forged: a reset with the expected number is believed all the same.
    wire.say(SERVER, FIN, 501, 101);
    wire.say(SERVER, FIN, 9000, 101);
    assert_eq!((wire.state(), wire.left()), (FinWait, T.closing));
    wire.say(SERVER, RST, 502, 0);
    assert_eq!(wire.state(), Closed);
}

#[test]
fn d30_a_connection_is_picked_up_by_anything_but_its_end() {
    let now = Tick(1);
    for bits in 0..=0xff {
        let flags = TcpFlags(bits);
        let entry = open(CLIENT, &segment(flags, 1, 1, 0), now);
        let ends = flags.intersects(TcpFlags::RST | TcpFlags::FIN);
        assert_eq!(entry.is_some(), !ends && flags.intersects(SYN | ACK), "{flags:?}");
    }
    // Seen from one side, it is half-open, however often.
    let mut wire = Wire::open(ACK, 100, 500);
    wire.say(CLIENT, ACK, 200, 600);
    assert_eq!((wire.state(), wire.left()), (PickedUp, T.other));
    assert!(wire.state().is_half_open());
    wire.say(SERVER, ACK, 600, 150);
    assert_eq!((wire.state(), wire.left()), (Established, T.tcp_established));

    // An answer that is none.
    let mut wire = Wire::open(ACK, 100, 500);
    wire.say(SERVER, ACK, 500, 101 + (1 << 24));
    wire.say(SERVER, SYN_ACK, 500, 100);
    assert_eq!(wire.state(), PickedUp);
    wire.say(SERVER, RST, 500, 0);
    assert_eq!((wire.state(), wire.left()), (Closed, T.closed), "there was no connection");

    // Picked up by an answer to a SYN: the client is the other side.
    let wire = Wire::open(SYN_ACK, 500, 101);
    assert_eq!((wire.state(), wire.entry.originator(), wire.entry.replied()), (SynReceived, SERVER, true));
    let mut wire = wire;
    wire.say(SERVER, ACK, 101, 501);
    assert_eq!(wire.state(), Established);
}

#[test]
fn d30_an_answer_to_what_was_sent_long_after_the_pick_up_counts() {
    let mut wire = Wire::open(ACK, 100, 500);
    for megabytes in 1..100 {
        wire.say(CLIENT, ACK, megabytes << 20, 500);
    }
    wire.say(SERVER, ACK, 500, 98 << 20);
    assert_eq!(wire.state(), Established);
}

#[test]
fn d30_a_connection_picked_up_at_its_end_closes() {
    let mut wire = Wire::open(ACK, 100, 500);
    wire.say(CLIENT, FIN, 100, 500);
    assert_eq!((wire.state(), wire.left()), (PickedUp, T.closing));
    wire.say(SERVER, FIN, 500, 101);
    assert_eq!(wire.state(), FinWait);
    wire.say(CLIENT, ACK, 101, 501);
    assert_eq!(wire.state(), Closed);
}

#[test]
fn a_port_may_be_used_again_once_its_connection_is_over() {
    let syn = segment(SYN, 9000, 0, 0);
    let reopened = |wire: &Wire| Side::BOTH.map(|side| wire.entry.is_reopened_by(side, &syn));
    let mut closed = Wire::established();
    closed.say(SERVER, RST, 501, 0);
    assert_eq!(reopened(&closed), [true; 2]);
    assert_eq!(reopened(&Wire::open(ACK, 1, 1)), [true; 2], "never seen to live");
    assert_eq!(reopened(&Wire::established()), [false; 2]);
    // A SYN with another number, where none was answered. The other side's
    // opens the same connection from there.
    assert_eq!(reopened(&Wire::open(SYN, 100, 0)), [SERVER, CLIENT].map(|side| side == CLIENT));
    assert_eq!(reopened(&Wire::open(SYN, 9000, 0)), [false; 2], "the same SYN again");
    for flags in [SYN_ACK, ACK, FIN, RST, TcpFlags(SYN.0 | FIN.0), TcpFlags(SYN.0 | RST.0)] {
        assert!(!closed.entry.is_reopened_by(CLIENT, &segment(flags, 9000, 0, 0)), "{flags:?}");
    }
    // ECN asks along with the SYN (RFC 3168, 6.1.1).
    let ecn = TcpFlags(SYN.0 | TcpFlags::ECE.0 | TcpFlags::CWR.0);
    assert!(closed.entry.is_reopened_by(CLIENT, &segment(ecn, 9000, 0, 0)));

    // Restarted in place, with its ends, and from either side.
    for (side, other) in [(CLIENT, SERVER), (SERVER, CLIENT)] {
        let mut wire = Wire { entry: closed.entry, now: closed.now };
        wire.entry.set_tracked(CLIENT);
        wire.entry.set_end(CLIENT, InterfaceId::new(5, 1));
        wire.say(side, SYN, 9000, 0);
        assert_eq!((wire.state(), wire.left(), wire.entry.originator()), (SynSent, T.syn, side));
        assert!(!wire.entry.replied());
        assert!(wire.entry.is_tracked(CLIENT) && !wire.entry.is_tracked(SERVER));
        assert_eq!(wire.entry.end(CLIENT), InterfaceId::new(5, 1));
        wire.say(other, SYN_ACK, 20_000, 9001);
        wire.say(side, ACK, 9001, 20_001);
        assert_eq!(wire.state(), Established);
    }
}

const STATES: [State; 6] = [SynSent, SynReceived, PickedUp, Established, FinWait, Closed];
const EVENTS: [Event; 9] = [
    Event::Syn,
    Event::SynAck,
    Event::Ack,
    Event::Fin,
    Event::HalfClose,
    Event::FullClose,
    Event::Reset,
    Event::DoubtfulReset,
    Event::Stray,
];

#[test]
fn the_table_has_no_way_back_and_no_way_round() {
    let rank = |state| STATES.iter().position(|s| *s == state).unwrap();
    for state in STATES {
        for who in [Who::Originator, Who::Responder] {
            for event in EVENTS {
                let after = next(state, who, event);
                assert!(rank(after) >= rank(state), "{state:?} {who:?} {event:?} -> {after:?}");
                match event {
                    Event::Reset | Event::FullClose => assert_eq!(after, Closed),
                    Event::DoubtfulReset | Event::Stray => assert_eq!(after, state),
                    _ => assert!(after != Closed || state == Closed),
                }
                // To be established takes both: nobody gets there alone.
                let opens = state.is_half_open() && after == Established;
                let needed = if state == PickedUp { Who::Responder } else { Who::Originator };
                assert!(!opens || (who == needed && state != SynSent), "{state:?} {who:?} {event:?}");
            }
        }
    }
}

mod attacker;
mod model;
