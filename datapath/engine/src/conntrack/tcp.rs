//! The states of a TCP connection as a firewall between its ends sees them.
//!
//! The table is deliberately lenient: the ends run TCP, the switch only decides
//! how long to remember. What it is strict about is what an outsider could use
//! to tear a connection down or to take it over:
//!
//! - A reset counts only if its sequence number is one its sender could use
//!   now: within [`WINDOW`] of the highest it has sent, or of what the other
//!   side last acknowledged. RFC 5961 has hosts demand the exact number; a
//!   switch that has not seen every segment cannot, and a blind guess must
//!   still hit 1 in 2^15 or less.
//! - In answer to a SYN, a reset must acknowledge that SYN (RFC 9293, 3.10.7.3).
//! - A SYN in a live connection changes nothing: the ends answer it with a
//!   challenge (RFC 5961, section 4). Only a closed one starts anew.

use super::State;
use crate::packet::{Tcp, TcpFlags};

/// How far from the highest sequence number seen a reset may lie: an unscaled
/// window to each side.
pub(super) const WINDOW: u32 = 1 << 16;

/// What a segment means to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// SYN alone.
    Syn,
    /// SYN and ACK.
    SynAck,
    /// FIN.
    Fin,
    /// RST, already found acceptable.
    Rst,
    /// Anything else.
    Ack,
}

impl Event {
    #[inline]
    pub fn of(flags: TcpFlags) -> Event {
        let set = |flag| flags.contains(flag);
        match (set(TcpFlags::RST), set(TcpFlags::SYN), set(TcpFlags::ACK), set(TcpFlags::FIN)) {
            (true, ..) => Event::Rst,
            (_, true, false, _) => Event::Syn,
            (_, true, true, _) => Event::SynAck,
            (.., true) => Event::Fin,
            _ => Event::Ack,
        }
    }
}

/// The sequence number after a segment: its data, SYN and FIN take some (RFC 9293, 3.4).
#[inline]
pub(super) fn sequence_end(tcp: &Tcp) -> u32 {
    let one = |flag| u32::from(tcp.flags.contains(flag));
    tcp.seq.wrapping_add(tcp.payload).wrapping_add(one(TcpFlags::SYN)).wrapping_add(one(TcpFlags::FIN))
}

/// Who sends: the side whose first packet opened the entry, or the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Originator,
    Responder,
}

/// The state after a segment, and whether it starts the connection anew.
#[inline]
pub(super) fn next(state: State, who: Who, event: Event, fin_from_both: bool) -> State {
    use Event::{Ack, Fin, Rst, Syn, SynAck};
    use State::{Closed, Closing, Established, FinWait, SynReceived, SynSent};
    use Who::{Originator, Responder};
    match (state, who, event) {
        // A reset ends it from any state; the caller has checked its number.
        (_, _, Rst) => Closed,

        // SYN sent, nothing back yet.
        (SynSent, Originator, Fin) => SynSent, // a FIN before any answer opens nothing more
        (SynSent, Originator, _) => SynSent,   // the SYN again, or data with it (RFC 7413)
        (SynSent, Responder, SynAck) => SynReceived, // the usual answer
        (SynSent, Responder, Syn) => SynReceived, // both open at once (RFC 9293, 3.5)
        (SynSent, Responder, Fin) => SynSent,  // no answer to a SYN
        (SynSent, Responder, Ack) => SynSent, // a challenge ACK: the other side remembers an older connection

        // Answered, and the answer not acknowledged yet.
        (SynReceived, Originator, Ack) => Established, // the third of three
        (SynReceived, Originator, SynAck) => Established, // the third when both opened at once
        (SynReceived, Responder, Ack) => SynReceived,  // the responder may send before it is acknowledged
        (SynReceived, Responder, SynAck) => SynReceived, // its answer again
        (SynReceived, _, Syn) => SynReceived,          // again
        (SynReceived, _, Fin) => FinWait,              // closed before it was used

        // Open.
        (Established, _, Fin) => FinWait,     // one side has no more to send
        (Established, _, Ack) => Established, // data, acknowledgements
        (Established, _, SynAck) => Established, // an answer again, late
        (Established, _, Syn) => Established, // to be challenged by the ends, not by us

        // One side has closed; the other may go on sending.
        (FinWait, _, Fin) if fin_from_both => Closing, // now both have
        (FinWait, _, Fin) => FinWait,                  // the same FIN again
        (FinWait, _, Ack) => FinWait,                  // the half that is still open
        (FinWait, _, SynAck | Syn) => FinWait,         // old, or challenged by the ends

        // Both have closed: the last acknowledgements.
        (Closing, _, Ack) => Closed,     // of the second FIN
        (Closing, _, Fin) => Closing,    // again
        (Closing, _, SynAck) => Closing, // old
        (Closing, _, Syn) => Closing,    // a new connection is a restart, not a transition

        // Over; what still comes is late, and does not revive it.
        (Closed, _, Ack | Fin | SynAck | Syn) => Closed,

        // Not states of TCP: `advance` asks for TCP entries only.
        (State::UdpRequest | State::UdpReplied | State::UdpStream, ..) => state,
        (State::Icmp | State::IcmpReplied | State::Other, ..) => state,
    }
}

/// Whether a reset is one its sender could send (see the module's words).
/// `own_next` is the next sequence number of its sender as far as seen,
/// `other_next` that of the other side.
#[inline]
pub(super) fn reset_is_acceptable(
    state: State,
    who: Who,
    tcp: &Tcp,
    own_next: Option<u32>,
    other_next: u32,
) -> bool {
    match (state, who, own_next) {
        (State::SynSent, Who::Responder, _) => tcp.flags.contains(TcpFlags::ACK) && tcp.ack == other_next,
        // Nothing is known of a sender that has not spoken.
        (_, _, None) => true,
        (_, _, Some(next)) => tcp.seq.wrapping_sub(next).wrapping_add(WINDOW) <= 2 * WINDOW,
    }
}
