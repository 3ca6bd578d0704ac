//! Two ends that speak TCP over a network that loses and delays, with the
//! switch in the middle: whatever they do, it must not stand in their way.

use proptest::prelude::*;

use super::*;

/// One end: as little of TCP as has numbers.
#[derive(Clone, Copy, Debug)]
struct End {
    /// Next number to send.
    next: u32,
    /// Next number expected, once the other end has been heard.
    expected: Option<u32>,
    /// First number not acknowledged.
    unacknowledged: u32,
    closed: bool,
}

#[derive(Clone, Copy, Debug)]
enum Act {
    /// New data of this many bytes: a segment, or many merged by offloads.
    Send(u32),
    /// Everything not acknowledged yet, again.
    Resend,
    Acknowledge,
    Close,
    /// The process is gone: an active reset.
    Abort,
}

/// What becomes of a segment: lost before the switch, lost behind it, or received.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Unseen,
    Lost,
    Received,
}

fn steps() -> impl Strategy<Value = Vec<(bool, Act, Fate)>> {
    let act = prop_oneof![
        6 => (1u32..100_000).prop_map(Act::Send),
        2 => Just(Act::Resend),
        4 => Just(Act::Acknowledge),
        1 => Just(Act::Close),
    ];
    let fate = prop_oneof![1 => Just(Fate::Unseen), 1 => Just(Fate::Lost), 6 => Just(Fate::Received)];
    proptest::collection::vec((any::<bool>(), act, fate), 0..60)
}

struct Network {
    entry: Entry,
    now: Tick,
    ends: [End; 2],
}

impl Network {
    fn new(isn: [u32; 2]) -> Network {
        let now = Tick(1);
        let end =
            |isn: u32| End { next: isn.wrapping_add(1), expected: None, unacknowledged: isn, closed: false };
        let entry = open(CLIENT, &segment(SYN, isn[CLIENT.index()], 0, 0), now).unwrap();
        let mut network = Network { entry, now, ends: isn.map(end) };
        let [server, client] = isn;
        network.pass(SERVER, SYN_ACK, server, Some(client.wrapping_add(1)), 0);
        network.pass(CLIENT, ACK, client.wrapping_add(1), Some(server.wrapping_add(1)), 0);
        network.ends[0].expected = Some(client.wrapping_add(1));
        network.ends[1].expected = Some(server.wrapping_add(1));
        assert_eq!(network.entry.state(), Established);
        network
    }

    /// The switch sees a segment. It must let it pass.
    fn pass(&mut self, side: Side, flags: TcpFlags, seq: u32, ack: Option<u32>, payload: u32) {
        let packet = segment(flags, seq, ack.unwrap_or(0), payload);
        assert_eq!(self.entry.advance(side, &packet, self.now, &T), Ok(()), "{side:?} {flags:?} {seq}");
    }

    fn step(&mut self, side: Side, act: Act, fate: Fate) {
        let end = self.ends[side.index()];
        let (flags, seq) = match act {
            Act::Send(_) | Act::Close if end.closed => return,
            Act::Send(_) | Act::Acknowledge => (ACK, end.next),
            Act::Resend if end.closed => (FIN, end.unacknowledged),
            Act::Resend => (ACK, end.unacknowledged),
            Act::Close => (FIN, end.next),
            Act::Abort => (RST_ACK, end.next),
        };
        let payload = match act {
            Act::Send(bytes) => bytes,
            Act::Resend => end.next.wrapping_sub(end.unacknowledged).saturating_sub(u32::from(end.closed)),
            _ => 0,
        };
        if flags == FIN && end.unacknowledged == end.next && end.closed {
            return; // nothing left to send again
        }
        let after = seq.wrapping_add(payload).wrapping_add(u32::from(flags == FIN));
        let me = &mut self.ends[side.index()];
        me.closed |= flags == FIN;
        me.next = if ahead(after, me.next) > 0 { after } else { me.next };
        if fate != Fate::Unseen {
            self.pass(side, flags, seq, end.expected, payload);
        }
        if fate == Fate::Received {
            let other = &mut self.ends[side.other().index()];
            // In order it is taken, else the other end waits for what is missing.
            if other.expected.is_some_and(|e| ahead(seq, e) <= 0 && ahead(after, e) > 0) {
                other.expected = Some(after);
            }
            if let Some(ack) = end.expected.filter(|a| ahead(*a, other.unacknowledged) > 0) {
                other.unacknowledged = ack;
            }
        }
    }

    /// Retransmits until both ends have heard everything.
    fn settle(&mut self) {
        for _ in 0..4 {
            for side in Side::BOTH {
                self.step(side, Act::Resend, Fate::Received);
                self.step(side.other(), Act::Acknowledge, Fate::Received);
            }
        }
    }
}

proptest! {
    #[test]
    fn real_ends_are_never_in_the_way_of_the_switch(isn in any::<[u32; 2]>(), steps in steps()) {
        let mut network = Network::new(isn);
        for (client, act, fate) in steps {
            network.step(if client { CLIENT } else { SERVER }, act, fate);
        }
        network.settle();
        // Whatever was lost on the way, the switch knows in the end what the ends know.
        let closed = network.ends.iter().filter(|end| end.closed).count();
        prop_assert_eq!(network.entry.state(), [Established, FinWait, Closed][closed]);
    }

    #[test]
    fn real_resets_pass(isn in any::<[u32; 2]>(), steps in steps(), client in any::<bool>()) {
        let mut network = Network::new(isn);
        for (client, act, fate) in steps {
            network.step(if client { CLIENT } else { SERVER }, act, fate);
        }
        let side = if client { CLIENT } else { SERVER };
        // An abort, with data in flight or not.
        network.step(side, Act::Abort, Fate::Lost);
        prop_assert!(network.entry.deadline() <= network.now + T.closing);
        // It was lost: the other end asks on, and gets the number it expects.
        let other = network.ends[side.other().index()];
        network.step(side.other(), Act::Resend, Fate::Received);
        network.step(side.other(), Act::Acknowledge, Fate::Received);
        network.pass(side, RST, other.expected.unwrap(), None, 0);
        let claimed = network.entry.has(side, FIN_CLAIMED);
        prop_assert!(network.entry.state() == Closed || claimed);
        prop_assert!(network.entry.deadline() <= network.now + T.closing);
    }
}
