//! What the connection table settles.

use super::forward::Receiver;
use super::{PassClass, Passed, Refused, Turn, Work};
use crate::conntrack::{Entry, Slot, Timeouts};
use crate::flow::Side;
use crate::forward::Interface;
use crate::packet::Transport;

impl<'a> Turn<'_, 'a> {
    /// The verdict on a packet whose connection settles it: each local end
    /// tracks the flow. `None`: rules must be asked.
    #[inline]
    pub(super) fn established(
        &mut self,
        work: &Work<'a>,
        side: Side,
        slot: Slot,
    ) -> Option<Result<Passed<'a>, Refused>> {
        // An error travels against the flow that it quotes and must not touch its timer (D17).
        if let Transport::Error(_) = work.ip.transport {
            return None;
        }
        let entry = self.engine.table.entry(slot);
        // A port used again: another connection, for the rules to judge (S46).
        if entry.is_reopened_by(side, &work.ip) {
            return None;
        }
        let receiver = self.recorded_receiver(work, side, entry)?;
        let settled = (work.link.sender.is_none() || entry.is_tracked(side))
            && (receiver.interface().is_none() || entry.is_tracked(side.other()));
        settled.then(|| {
            self.advance(work, side, slot, receiver)
                .map(|()| Passed { class: PassClass::Established, receiver })
        })
    }

    /// Moves the connection on by a packet that belongs to it.
    #[inline]
    pub(super) fn advance(
        &mut self,
        work: &Work<'a>,
        side: Side,
        slot: Slot,
        receiver: Receiver<'a>,
    ) -> Result<(), Refused> {
        let entry = self.engine.table.entry_mut(slot);
        let timeouts = timeouts(entry.originator() == side, work.link.sender, receiver.interface());
        entry
            .advance(side, &work.ip, self.now, timeouts)
            .map_err(|reason| Refused(reason, work.link.sender_id()))
    }

    /// Whether the connection still is between these two ends.
    pub(super) fn is_between(entry: &Entry, side: Side, sender: &Work<'_>, receiver: Receiver<'_>) -> bool {
        entry.end(side) == sender.link.sender_id() && entry.end(side.other()) == receiver.id()
    }
}

/// Whose timeouts hold for a flow: its originator's, or the other end's where
/// the originator is not on this switch.
#[inline]
pub(super) fn timeouts<'t>(
    sender_is_originator: bool,
    sender: Option<&'t Interface>,
    receiver: Option<&'t Interface>,
) -> &'t Timeouts {
    let (first, second) = if sender_is_originator { (sender, receiver) } else { (receiver, sender) };
    first.or(second).map_or(&Timeouts::DEFAULT, |i| &i.timeouts)
}
