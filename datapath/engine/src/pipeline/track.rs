//! What the connection table settles.

use super::border::cross_borders;
use super::forward::Receiver;
use super::{PassClass, Passed, Refused, Turn, Work};
use crate::conntrack::{Entry, Slot, Timeouts};
use crate::flow::Side;
use crate::forward::Interface;
use crate::packet::{TcpFlags, Transport};

impl<'a> Turn<'_, 'a> {
    /// The verdict on a packet whose connection settles it: each local end
    /// tracks the flow. `None`: rules must be asked.
    #[inline]
    pub(super) fn established(&mut self, work: &Work<'a>, slot: Slot) -> Option<Result<Passed<'a>, Refused>> {
        let side = work.side;
        // An error travels against the flow that it quotes and must not touch its timer (D17).
        if let Transport::Error(_) = work.ip.transport {
            return None;
        }
        let entry = self.engine.table.entry(slot);
        // A port used again: another connection, for the rules to judge (S46).
        if entry.is_reopened_by(side, &work.ip) {
            return None;
        }
        let receiver = self.recorded_receiver(work, entry)?;
        let settled = (work.link.sender.is_none() || entry.is_tracked(side))
            && (receiver.interface().is_none() || entry.is_tracked(side.other()))
            && !self.lapsed(entry, side, work.link.sender, receiver).contains(&true);
        settled.then(|| {
            cross_borders(work, receiver.interface())?;
            self.advance(work, slot, receiver).map(|()| Passed { class: PassClass::Established, receiver })
        })
    }

    /// Whether the sender's end, and the receiver's, have forgotten a connection
    /// that both track and one remembers for longer.
    #[inline]
    pub(super) fn lapsed(
        &self,
        entry: &Entry,
        side: Side,
        sender: Option<&Interface>,
        receiver: Receiver<'_>,
    ) -> [bool; 2] {
        match (sender, receiver.interface()) {
            (Some(one), Some(other))
                if one.timeouts != other.timeouts
                    && entry.is_tracked(side)
                    && entry.is_tracked(side.other()) =>
            {
                let longest = one.timeouts.longest(&other.timeouts);
                [one, other].map(|end| entry.has_lapsed(self.now, &end.timeouts, &longest))
            }
            _ => [false; 2],
        }
    }

    /// The same for one end of a connection that this packet need not be of.
    pub(super) fn has_lapsed(&self, entry: &Entry, side: Side) -> bool {
        let interface =
            |side| self.snapshot.interfaces.get(entry.end(side)).filter(|_| entry.is_tracked(side));
        match (interface(side), interface(side.other())) {
            (Some(own), Some(other)) if own.timeouts != other.timeouts => {
                entry.has_lapsed(self.now, &own.timeouts, &own.timeouts.longest(&other.timeouts))
            }
            _ => false,
        }
    }

    /// Moves the connection on by a packet that belongs to it.
    #[inline]
    pub(super) fn advance(
        &mut self,
        work: &Work<'a>,
        slot: Slot,
        receiver: Receiver<'a>,
    ) -> Result<(), Refused> {
        let side = work.side;
        let entry = self.engine.table.entry_mut(slot);
        let tracking = |side, end: Option<&'a Interface>| end.filter(|_| entry.is_tracked(side));
        let ends = [tracking(side, work.link.sender), tracking(side.other(), receiver.interface())];
        let mut scratch = Timeouts::DEFAULT;
        let timeouts = timeouts(ends, &mut scratch);
        entry
            .advance(side, &work.ip, self.now, timeouts)
            .map_err(|reason| Refused(reason, work.link.sender_id()))
    }

    /// Adds a packet that has passed to its connection's account, unless ports do not tell all
    /// of it: of ICMP, type and code would be lost.
    pub(super) fn account(&mut self, work: &Work<'_>, slot: Slot) {
        let flags = match work.ip.transport {
            Transport::Tcp(segment) => segment.flags,
            Transport::Udp(_) => TcpFlags(0),
            _ => return,
        };
        self.engine.table.account(slot, work.side, work.link.bytes, flags);
        self.out.account(1 << work.link.index);
    }

    /// Whether the connection still is between these two ends.
    pub(super) fn is_between(entry: &Entry, work: &Work<'_>, receiver: Receiver<'_>) -> bool {
        entry.end(work.side) == work.link.sender_id() && entry.end(work.side.other()) == receiver.id()
    }
}

/// The timeouts that a connection lives by: of the end that tracks it, or the
/// longer ones of both (D18). `scratch` is where those are put together.
#[inline]
pub(super) fn timeouts<'t>(ends: [Option<&'t Interface>; 2], scratch: &'t mut Timeouts) -> &'t Timeouts {
    match ends {
        [Some(one), Some(other)] if one.timeouts != other.timeouts => {
            *scratch = one.timeouts.longest(&other.timeouts);
            scratch
        }
        [Some(one), _] | [None, Some(one)] => &one.timeouts,
        [None, None] => scratch,
    }
}
