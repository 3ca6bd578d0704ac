//! Bursts that rules judge without a look at ports and addresses: such as of hosts that are
//! open to everyone both ways, whose flows nobody tracks, or of one that may not speak at all.

use arrayvec::ArrayVec;

use super::ends::{Ends, EndsList};
use super::plain::{Glance, Unsettled};
use super::tally::{Judged, Tally};
use super::{Arrival, BURST, PassClass, Turn};
use crate::addr::Family;
use crate::policy::Direction;
use crate::verdict::{DropReason, Judgement};

impl Ends<'_> {
    /// How rules judge all packets of a family and of TCP or UDP from one end to the other,
    /// if they judge them alike and none opens a connection.
    fn judge_all(&self, family: Family, protocol: u8) -> Option<Judged> {
        if let Some(sender) = self.sender
            && sender.judge_all(Direction::Outbound, family, protocol)? == Judgement::Denied
        {
            return Some(Err(DropReason::OutboundDenied));
        }
        if let Some(receiver) = self.receiver.interface()
            && receiver.judge_all(Direction::Inbound, family, protocol)? == Judgement::Denied
        {
            return Some(Err(DropReason::InboundDenied));
        }
        // Where it may go to several places, each packet is sent for itself.
        self.delivery.map(|_| Ok(PassClass::Untracked))
    }
}

/// Of what packets a tally is: between which ends of the list, family and protocol.
type Kind = (usize, Family, u8);

/// The tally that a packet between the last ends belongs to, where `last` tells of what the
/// last one is; `None` if ports or addresses matter.
#[inline(always)]
fn tally_of<'t>(
    glance: &Glance,
    ends: &[Ends<'_>],
    last: &mut Option<Kind>,
    tallies: &'t mut ArrayVec<Tally, BURST>,
) -> Option<&'t mut Tally> {
    let at = ends.len().wrapping_sub(1);
    let kind = (at, glance.key.family(), glance.key.protocol());
    if *last != Some(kind) {
        let (_, family, protocol) = kind;
        let fate = ends.get(at)?.judge_all(family, protocol)?;
        tallies.push(Tally::of(at as u8, fate));
        *last = Some(kind);
    }
    tallies.last_mut()
}

impl<'a> Turn<'_, 'a> {
    /// Settles packets without connections, all that is left of a burst, if their ends say all
    /// there is to say of each. False, and nothing has happened, if one of them is not such;
    /// the list has the ends of the first packet at most then.
    #[inline(never)]
    pub(super) fn judge_wholesale(
        &mut self,
        arrivals: &[Arrival<'_>],
        unsettled: &Unsettled<'_>,
        ends: &mut EndsList<'a>,
    ) -> bool {
        let mut tallies = ArrayVec::<Tally, BURST>::new();
        let mut last = None;
        for (glance, known) in unsettled {
            let is_found = !known && self.find_ends(glance, arrivals, ends);
            let tally = if is_found { tally_of(glance, ends, &mut last, &mut tallies) } else { None };
            let Some(tally) = tally else {
                ends.truncate(1);
                return false;
            };
            tally.add(glance);
        }
        for tally in &tallies {
            self.tell(tally, ends);
        }
        self.engine.counters.table_misses.add(unsettled.len() as u64);
        true
    }
}
