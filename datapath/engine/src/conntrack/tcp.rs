//! TCP as a firewall between the ends sees it.
//!
//! The ends run TCP; the switch decides how long to remember. So segments pass
//! whatever their numbers, and numbers decide one thing only: whether a segment
//! may change what the switch remembers. Nobody outside the connection may be
//! able to end it, nor to make a half-open one look established.
//!
//! # Which numbers are kept
//! For each side the number that the *other* side expects of it next: the last
//! acknowledgement the other side sent (its RCV.NXT). What a side says of itself
//! does not count, with one exception while the handshake runs. Whoever forges
//! segments of a remote host therefore cannot move the number that the host's
//! segments are measured by: it comes from the local end, whose source address
//! the switch enforces. The last acknowledgement counts, not the highest, so
//! that a wrong one is repaired by the next. (Rejected: the highest sequence
//! number sent. One forged segment moves it, the next one is then a "valid"
//! reset, and it is written for every segment of a transfer instead of for its
//! acknowledgements.)
//!
//! # Resets (RFC 5961, section 3)
//! | number of the reset | it passes | the connection |
//! | --- | --- | --- |
//! | exactly what the receiver expects | yes | is over |
//! | within [`WINDOW`] of that, or after a FIN not acknowledged yet | yes | lives; see below |
//! | anything else | no: `InvalidTcp` | lives |
//! | from the side that opens, during the handshake | yes | lives; the handshake may go on (RFC 9293, 3.5) |
//! | in answer to a SYN: acknowledges it | yes | is over |
//! | in answer to a SYN: does not (RFC 9293, 3.10.7.3) | no: `InvalidTcp` | lives |
//!
//! The middle row is a sender with data in flight: its number is ahead of the
//! last acknowledgement, and the receiver, who knows better, either accepts it
//! or answers with a challenge. The switch sees the answer. So the connection
//! keeps its state and is only given the shorter time `closing`; any later
//! segment, the challenge first of all, gives it its full time back.
//!
//! [`WINDOW`] need not be the largest window of TCP (2^30): the data in flight
//! that put a reset beyond it make the receiver send acknowledgements, and each
//! is answered by a reset with exactly its number.
//!
//! # FIN
//! A FIN counts when the other side has acknowledged it, because a forged one
//! never is. Until then it gives the connection the time `closing`, like a
//! reset of the middle row, so that a FIN to a host that is gone does not leave
//! an entry for days.
//!
//! # SYN
//! In a live connection a SYN changes nothing: the ends answer it with a
//! challenge (RFC 5961, section 4), and the reset that answers the challenge
//! ends the connection if its peer was restarted. Where the connection is over
//! a SYN opens another one: see [`Entry::is_reopened_by`].

use super::entry::{FIN_CLAIMED, FIN_DONE};
use super::{Entry, State};
use crate::flow::Side;
use crate::packet::{Tcp, TcpFlags};
use crate::verdict::DropReason;

/// How far from the expected number a reset may lie: as much data as common
/// stacks keep in flight (Linux: 4 to 6 MiB unless tuned).
const WINDOW: i32 = 1 << 24;

/// How far from the expected number an acknowledgement may lie while the
/// handshake runs: ahead by data sent early (RFC 7413), behind by a FIN that was
/// sent early. A blind guess succeeds once in 2^15.
const EARLY: i32 = 1 << 16;

/// Who sends: the side that opened the connection, or the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Originator,
    Responder,
}

/// What a segment tells. Numbers have been checked when there is an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// SYN alone.
    Syn,
    /// SYN, and acknowledges the other side's.
    SynAck,
    /// Acknowledges what the other side has sent.
    Ack,
    /// As `Ack`, and carries a FIN that is not acknowledged yet.
    Fin,
    /// Acknowledges the FIN of the other side, the first of the two.
    HalfClose,
    /// Acknowledges the second.
    FullClose,
    /// A reset with exactly the expected number.
    Reset,
    /// A reset near the expected number: its receiver will decide.
    DoubtfulReset,
    /// Nothing: not the number the handshake asks for, or no acknowledgement at all.
    Stray,
}

impl Event {
    /// Whether the connection may be about to end, as far as its sender goes.
    #[inline]
    pub fn announces_end(self) -> bool {
        matches!(self, Event::Fin | Event::DoubtfulReset)
    }
}

/// The state of a first segment. `None` for what never opens an entry: a reset
/// or FIN (D30), and what is no segment of any connection, neither SYN nor ACK.
#[inline]
pub(super) fn first(flags: TcpFlags) -> Option<State> {
    let set = |flag| flags.contains(flag);
    match (set(TcpFlags::SYN), set(TcpFlags::ACK)) {
        _ if flags.intersects(TcpFlags::RST | TcpFlags::FIN) => None,
        (true, false) => Some(State::SynSent),
        (true, true) => Some(State::SynReceived),
        (false, true) => Some(State::PickedUp),
        (false, false) => None,
    }
}

/// The state after an event.
#[inline]
pub(super) fn next(state: State, who: Who, event: Event) -> State {
    use Event::{Ack, DoubtfulReset, Fin, FullClose, HalfClose, Reset, Stray, Syn, SynAck};
    use State::{Closed, Established, FinWait, PickedUp, SynReceived, SynSent};
    use Who::{Originator, Responder};
    match (state, who, event) {
        // From any state.
        (_, _, Stray | DoubtfulReset) => state, // tells nothing that counts
        (_, _, Reset) => Closed,                // the receiver will believe it
        (_, _, FullClose) => Closed,            // nothing more to come but late copies

        // Asked for by one side.
        (SynSent, Originator, Syn) => SynSent, // the SYN again
        (SynSent, Originator, SynAck | Ack | Fin | HalfClose) => SynSent, // cannot answer what was not sent
        (SynSent, Responder, Syn) => SynReceived, // both open at once (RFC 9293, 3.5)
        (SynSent, Responder, SynAck) => SynReceived, // the usual answer
        (SynSent, Responder, Ack | Fin | HalfClose) => SynSent, // remembers an older connection (half-open, 3.5.1)

        // Answered; the answer is not acknowledged yet.
        (SynReceived, _, Syn) => SynReceived,             // again
        (SynReceived, Originator, SynAck) => Established, // both opened at once: its answer to the other's SYN
        (SynReceived, Originator, Ack) => Established,    // the third of three
        (SynReceived, Originator, Fin) => Established,    // the same, with nothing to say after it
        (SynReceived, Responder, SynAck) => SynReceived,  // its answer again
        (SynReceived, Responder, Ack) => SynReceived,     // takes early data
        (SynReceived, Responder, Fin) => SynReceived,     // does not wait for the third of three
        (SynReceived, _, HalfClose) => FinWait,           // closed before it was used

        // One side seen. Forged segments end here: nobody answers them but by a reset.
        (PickedUp, Originator, Syn | SynAck | Ack | Fin) => PickedUp, // more of the same side
        (PickedUp, Responder, Ack | Fin) => Established,              // the other side agrees
        (PickedUp, Responder, Syn | SynAck) => PickedUp,              // no answer to what was seen
        (PickedUp, _, HalfClose) => FinWait,                          // the end is all there is to see

        // Open.
        (Established, _, Syn | SynAck) => Established, // the ends challenge it
        (Established, _, Ack) => Established,          // data, acknowledgements
        (Established, _, Fin) => Established,          // counts when acknowledged
        (Established, _, HalfClose) => FinWait,        // one direction is closed

        // One direction closed; the other may be used for long.
        (FinWait, _, Syn | SynAck) => FinWait, // the ends challenge it
        (FinWait, _, Ack) => FinWait,          // the direction still open
        (FinWait, _, Fin) => FinWait,          // the second, not acknowledged yet
        (FinWait, _, HalfClose) => FinWait,    // told before

        // Over. Late copies of what was sent, and what answers them.
        (Closed, _, Syn | SynAck | Ack | Fin | HalfClose) => Closed,

        // No states of TCP: only entries of protocol 6 come here.
        (State::UdpRequest | State::UdpReplied | State::UdpStream, ..) => state,
        (State::Icmp | State::IcmpReplied | State::Other, ..) => state,
    }
}

/// How far a number is ahead of another, negative if behind (RFC 9293, 3.4).
#[inline]
const fn ahead(number: u32, of: u32) -> i32 {
    number.wrapping_sub(of).cast_signed()
}

impl Entry {
    /// The numbers of the first segment.
    pub(super) fn start(&mut self, side: Side, tcp: &Tcp) {
        let syn = tcp.flags.contains(TcpFlags::SYN);
        self.expected[side.index()] = tcp.seq.wrapping_add(u32::from(syn));
        self.expected[side.other().index()] = tcp.ack;
    }

    /// What a segment from `side` tells; takes note of its numbers.
    ///
    /// # Errors
    /// `InvalidTcp` for a reset that its receiver could not believe; nothing changes.
    #[inline]
    pub(super) fn hear(&mut self, side: Side, tcp: &Tcp) -> Result<Event, DropReason> {
        let has = |flags| tcp.flags.intersects(flags);
        if has(TcpFlags::RST) {
            return self.hear_reset(side, tcp);
        }
        if has(TcpFlags::SYN) {
            return Ok(self.hear_syn(side, tcp));
        }
        if !has(TcpFlags::ACK) {
            return Ok(Event::Stray);
        }
        let event = self.hear_ack(side, tcp);
        if has(TcpFlags::FIN) && event != Event::Stray && self.hear_fin(side, tcp) && event == Event::Ack {
            return Ok(Event::Fin);
        }
        Ok(event)
    }

    #[cold]
    fn hear_reset(&self, side: Side, tcp: &Tcp) -> Result<Event, DropReason> {
        let (distance, window) = match (self.state, self.who(side)) {
            // Nothing is left to protect.
            (State::Closed, _) => return Ok(Event::Stray),
            // Rids the responder of what it remembers or an old SYN made it
            // believe, by that one's numbers; the handshake goes on (RFC 9293,
            // 3.5 and 3.5.1). If it does not, a half-open entry is soon gone.
            (State::SynSent | State::SynReceived, Who::Originator) => return Ok(Event::Stray),
            (State::SynSent, Who::Responder) if tcp.flags.contains(TcpFlags::ACK) => {
                (ahead(tcp.ack, self.expected[side.other().index()]), 0..=EARLY)
            }
            (State::SynSent, Who::Responder) => return Err(DropReason::InvalidTcp),
            // What a FIN of the same side claims is not what its receiver said.
            _ if self.has(side, FIN_CLAIMED) => return Ok(Event::DoubtfulReset),
            _ => (ahead(tcp.seq, self.expected[side.index()]), -WINDOW..=WINDOW),
        };
        match distance {
            0 => Ok(Event::Reset),
            _ if window.contains(&distance) => Ok(Event::DoubtfulReset),
            _ => Err(DropReason::InvalidTcp),
        }
    }

    /// A SYN tells its sender's own number while the handshake runs: nobody
    /// else has yet.
    #[cold]
    fn hear_syn(&mut self, side: Side, tcp: &Tcp) -> Event {
        if !matches!(self.state, State::SynSent | State::SynReceived) {
            return if tcp.flags.contains(TcpFlags::ACK) { Event::Stray } else { Event::Syn };
        }
        let event = if !tcp.flags.contains(TcpFlags::ACK) {
            Event::Syn
        } else if self.hear_ack(side, tcp) == Event::Stray {
            return Event::Stray;
        } else {
            Event::SynAck
        };
        if self.who(side) == Who::Responder {
            self.expected[side.index()] = tcp.seq.wrapping_add(1);
            self.clear(side, FIN_CLAIMED);
        }
        event
    }

    /// An acknowledgement tells what is expected of the other side.
    #[inline]
    fn hear_ack(&mut self, side: Side, tcp: &Tcp) -> Event {
        let (who, other) = (self.who(side), side.other());
        // Nobody has told the number of a side that is seen alone.
        if (self.state, who) == (State::PickedUp, Who::Originator) && !self.has(side, FIN_CLAIMED) {
            self.expected[side.index()] = tcp.seq;
        }
        let distance = ahead(tcp.ack, self.expected[other.index()]);
        // A side not known to be real has to show that it sees the other's numbers.
        let fits = match (self.state, who) {
            (State::SynSent, Who::Originator) => false,
            (State::SynSent, Who::Responder) => {
                tcp.flags.contains(TcpFlags::SYN) && (-EARLY..=EARLY).contains(&distance)
            }
            (State::SynReceived, _) => (-EARLY..=EARLY).contains(&distance),
            (State::PickedUp, Who::Responder) => (-WINDOW..=WINDOW).contains(&distance),
            _ => true,
        };
        if !fits {
            return Event::Stray;
        }
        if self.has(other, FIN_CLAIMED) {
            if distance < 0 {
                return Event::Ack; // of what was sent before the FIN
            }
            self.clear(other, FIN_CLAIMED);
            if distance == 0 {
                self.set(other, FIN_DONE);
                return if self.has(side, FIN_DONE) { Event::FullClose } else { Event::HalfClose };
            }
            // Of what comes after it: the FIN was never sent.
        }
        if distance != 0 {
            self.expected[other.index()] = tcp.ack;
        }
        Event::Ack
    }

    /// Takes note of a FIN until it is acknowledged, and tells whether there is
    /// one to wait for.
    #[cold]
    fn hear_fin(&mut self, side: Side, tcp: &Tcp) -> bool {
        if self.has(side, FIN_DONE) {
            return false;
        }
        self.expected[side.index()] = tcp.seq.wrapping_add(tcp.payload).wrapping_add(1);
        self.set(side, FIN_CLAIMED);
        true
    }
}

#[cfg(test)]
mod tests;
