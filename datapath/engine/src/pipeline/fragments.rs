//! Fragments: each is judged by the ports of its first.

use super::{Arrival, Outcome, Refused, Turn, Work};
use crate::fragment::{FragmentOf, PacketId, Piece, meeting_point};
use crate::packet::{self, Body, Fragment, Transport};
use crate::verdict::DropReason;

impl<'a> Turn<'_, 'a> {
    /// What a fragment belongs to, and the packet as that tells it. `None` if it
    /// is settled: it waits, is handed over or dropped.
    #[cold]
    pub(super) fn piece(
        &mut self,
        work: &mut Work<'a>,
        arrival: &Arrival<'_>,
        fragment: &Fragment,
    ) -> Option<FragmentOf> {
        let of = match arrival.of {
            Some(of) => of,
            None => match self.meet(work, arrival, fragment) {
                Ok(of) => of?,
                Err(refused) => {
                    self.refuse(&work.link, refused);
                    return None;
                }
            },
        };
        work.ip.protocol = of.protocol;
        work.ip.transport = Transport::Fragment(Fragment { ports: Some(of.ports), ..*fragment });
        if fragment.offset == 0
            && let Ok(packet) = packet::parse_first_fragment(arrival.frame)
            && let Body::Ip(ip) = packet.body
        {
            work.ip = ip;
        }
        Some(of)
    }

    /// Brings a fragment together with its first. `None`: it waits, or meets it elsewhere.
    fn meet(
        &mut self,
        work: &Work<'a>,
        arrival: &Arrival<'_>,
        fragment: &Fragment,
    ) -> Result<Option<FragmentOf>, Refused> {
        let link = &work.link;
        // Nobody takes up room, or a place in a packet, in another's name.
        self.check_uplink_source(work)?;
        if let Some(sender) = link.sender.filter(|sender| !sender.may_send_from(work.ip.src)) {
            return Err(Refused(DropReason::SpoofedAddress, sender.id));
        }
        let meeting = self.engine.hasher.hash(&meeting_point(link.vpc, &work.ip)).owner(self.engine.workers);
        if meeting != self.engine.worker && !arrival.steered {
            self.out.set(link.index, Outcome::HandOver { to: meeting, of: None });
            return Ok(None);
        }
        let id = PacketId::of(link.vpc, &work.ip, fragment, link.sender_id());
        let first = fragment.ports.map(|ports| FragmentOf { protocol: work.ip.protocol, ports });
        let engine = &mut *self.engine;
        let counters = &engine.counters;
        let lost = &mut |sender| counters.dropped(DropReason::FragmentOrphan, sender);
        match engine.fragments.piece(self.now, &engine.hasher, id, fragment, first, lost) {
            Piece::Of(of) => Ok(Some(of)),
            Piece::Wait(slot) => {
                self.out.set(link.index, Outcome::Wait(slot));
                Ok(None)
            }
            Piece::Refused(reason) => Err(Refused(reason, link.sender_id())),
        }
    }
}
