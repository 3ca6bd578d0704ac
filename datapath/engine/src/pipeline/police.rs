//! What the rules say of packets that no connection settles: the sender's
//! outbound rules, then the receiver's inbound rules (D21).

use super::border::cross_borders;
use super::forward::Receiver;
use super::track::timeouts;
use super::{PassClass, Passed, Refused, Turn, Work};
use crate::addr::{Addr, Family, MacAddr};
use crate::conntrack::{Entry, Slot, Timeouts};
use crate::flow::Side;
use crate::forward::{IcmpErrors, Interface};
use crate::ids::{InterfaceId, VpcIndex};
use crate::packet::plain::may_be_hosts;
use crate::packet::{Fragment, IcmpError, Ip, Transport, protocol};
use crate::policy::{Direction, Query, Service};
use crate::verdict::{DropReason, Judgement};

/// How a packet stands with one of its two ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// That end is not on this switch: nothing to ask.
    Absent,
    /// The end tracks the flow.
    ByState,
    /// The end's rules permit it, and the flow is tracked from now on.
    Tracked,
    /// The end's rules permit it on each packet.
    Untracked,
    /// The end refuses it.
    Refused(DropReason),
}

/// What a packet asks of rules, whichever end is asked.
pub(super) struct Question {
    vpc: VpcIndex,
    family: Family,
    service: Service,
    /// TCP and UDP: the service that a reply would be for.
    reply: Option<Service>,
    /// A TCP segment that does not open a connection.
    mid_stream: bool,
    /// A later fragment: it passes with its first or not at all.
    pub later_fragment: bool,
}

impl Question {
    pub fn of(vpc: VpcIndex, ip: &Ip) -> Question {
        let family = ip.src.family();
        let service = |port| Service::new(family, ip.protocol, port);
        let (port, reply, mid_stream) = match ip.transport {
            Transport::Tcp(tcp) => (tcp.dst_port, Some(service(tcp.src_port)), !tcp.flags.opens()),
            Transport::Udp(udp) => (udp.dst_port, Some(service(udp.src_port)), false),
            Transport::Query(q) => (icmp_port(q.icmp_type, q.code), None, false),
            Transport::Error(e) => (icmp_port(e.icmp_type, e.code), None, false),
            Transport::Icmp { icmp_type, code } => (icmp_port(icmp_type, code), None, false),
            // A later fragment is known by what its first has told.
            Transport::Fragment(Fragment { ports: Some((from, to)), .. })
                if matches!(ip.protocol, protocol::TCP | protocol::UDP) =>
            {
                (to, Some(service(from)), true)
            }
            Transport::NeighbourDiscovery(_) | Transport::Fragment(_) | Transport::Other => (0, None, false),
        };
        let later_fragment = matches!(ip.transport, Transport::Fragment(_));
        Question { vpc, family, service: service(port), reply, mid_stream, later_fragment }
    }

    /// The packet that an ICMP error quotes, as a question.
    fn quoted(vpc: VpcIndex, error: &IcmpError) -> Question {
        let quoted = &error.quoted;
        let family = quoted.src.family();
        let service = |port| Service::new(family, quoted.protocol, port);
        let reply = Some(service(quoted.src_port));
        let service = service(quoted.dst_port);
        Question { vpc, family, service, reply, mid_stream: true, later_fragment: false }
    }

    pub fn service(&self) -> Service {
        self.service
    }

    pub fn query(&self, remote: Addr) -> Query {
        Query { vpc: self.vpc, family: self.family, service: self.service, reply_service: self.reply, remote }
    }
}

fn icmp_port(icmp_type: u8, code: u8) -> u16 {
    u16::from_be_bytes([icmp_type, code])
}

impl<'a> Turn<'_, 'a> {
    /// Settles a packet, whatever it is.
    pub(super) fn judge_one(&mut self, work: &Work<'a>) {
        let slot = self.engine.table.lookup(self.now, work.hash, &work.key);
        let counters = &self.engine.counters;
        if slot.is_some() { &counters.table_hits } else { &counters.table_misses }.add(1);
        let verdict = slot.and_then(|slot| self.established(work, slot));
        if let (Some(slot), Some(Ok(_)), true) = (slot, &verdict, self.engine.table.keeps_accounts()) {
            self.account(work, slot);
        }
        let verdict = verdict.unwrap_or_else(|| self.police(work, slot));
        self.settle(&work.link, verdict);
    }

    /// The verdict on a packet that its connection, if it has one, does not settle.
    fn police(&mut self, work: &Work<'a>, slot: Option<Slot>) -> Result<Passed<'a>, Refused> {
        let side = work.side;
        self.check_uplink_source(work)?;
        let receiver = self.receiver(work)?;
        if self.is_exempt_dhcp(work, receiver) || self.is_exempt_service(work, receiver) {
            self.spend(&work.link)?;
            return Ok(Passed { class: PassClass::Exempt, receiver });
        }
        cross_borders(work, receiver.interface())?;
        if let Transport::Error(error) = &work.ip.transport {
            return self.related(work, error, slot, receiver);
        }
        self.forget_lapsed(work, slot, receiver);
        let entry = slot
            .map(|slot| self.engine.table.entry(slot))
            .filter(|entry| Self::is_between(entry, work, receiver))
            .filter(|entry| !entry.is_reopened_by(side, &work.ip));
        let tracks = |side| entry.is_some_and(|e| e.is_tracked(side));

        let question = Question::of(work.link.vpc, &work.ip);
        let (sender, other) = (work.link.sender, receiver.interface());
        let outbound = self.standing(sender, tracks(side), Direction::Outbound, &question, work.ip.dst);
        if let Standing::Refused(reason) = outbound {
            return Err(Refused(reason, work.link.sender_id()));
        }
        let inbound = self.standing(other, tracks(side.other()), Direction::Inbound, &question, work.ip.src);

        let (known, matches) = (slot, entry.is_some());
        let new = [(outbound, side), (inbound, side.other())];
        let remembered = if new.iter().any(|(standing, _)| *standing == Standing::Tracked) {
            self.remember(work, known, matches, receiver, new)
        } else if let Some(slot) = known.filter(|_| matches) {
            self.advance(work, slot, receiver).map(|()| false)
        } else {
            Ok(false)
        };
        // The receiver's refusal is reported first; the sender's side is tracked all the same (D24).
        if let Standing::Refused(reason) = inbound {
            return Err(Refused(reason, receiver.id()));
        }
        let class = match remembered? {
            true => PassClass::NewTracked,
            false if outbound == Standing::ByState || inbound == Standing::ByState => PassClass::Established,
            false => PassClass::Untracked,
        };
        Ok(Passed { class, receiver })
    }

    /// How a packet stands with one end.
    fn standing(
        &self,
        end: Option<&Interface>,
        tracks: bool,
        direction: Direction,
        question: &Question,
        remote: Addr,
    ) -> Standing {
        let Some(interface) = end else { return Standing::Absent };
        if tracks {
            return Standing::ByState;
        }
        let refusal = match direction {
            Direction::Outbound => DropReason::OutboundDenied,
            Direction::Inbound => DropReason::InboundDenied,
        };
        match interface.judge(&self.snapshot.tables, direction, &question.query(remote)) {
            Judgement::Denied => Standing::Refused(refusal),
            Judgement::Untracked => Standing::Untracked,
            // Its first would have opened the connection, had it passed.
            Judgement::Tracked if question.later_fragment => Standing::Refused(DropReason::FragmentOrphan),
            // An open rule of the other direction is gone, and this may be the
            // answer to what it let in: it must not bring the flow back (S45).
            Judgement::Tracked if question.mid_stream && answers_revoked(interface, direction, question) => {
                Standing::Refused(DropReason::RuleRevoked)
            }
            Judgement::Tracked => Standing::Tracked,
        }
    }

    /// An end whose own time is up tracks the connection no longer, so that what
    /// the other end still lets pass does not bring it back there.
    fn forget_lapsed(&mut self, work: &Work<'a>, slot: Option<Slot>, receiver: Receiver<'a>) {
        let Some(slot) = slot else { return };
        let side = work.side;
        let entry = self.engine.table.entry(slot);
        let lapsed = self.lapsed(entry, side, work.link.sender, receiver);
        for (side, lapsed) in [side, side.other()].into_iter().zip(lapsed) {
            if lapsed {
                self.engine.table.untrack(slot, side);
            }
        }
    }

    /// Tracks the flow at the ends that asked for it. False if this packet
    /// opens no connection (a TCP reset or FIN).
    fn remember(
        &mut self,
        work: &Work<'a>,
        slot: Option<Slot>,
        matches: bool,
        receiver: Receiver<'a>,
        ends: [(Standing, Side); 2],
    ) -> Result<bool, Refused> {
        let &Work { ref key, hash, side, .. } = work;
        let newly = ends.map(|(standing, at)| (standing == Standing::Tracked).then_some(at));
        let [sender, receiving] = [work.link.sender, receiver.interface()];
        let tracking = [sender.filter(|_| newly[0].is_some()), receiving.filter(|_| newly[1].is_some())];
        let slot_of_it = slot.filter(|_| matches);
        let mut scratch = Timeouts::DEFAULT;
        let timeouts = timeouts(tracking, &mut scratch);
        // The path of plain packets relies on it: no connection of a host without an address.
        let opened = Entry::open(*key, side, &work.ip, self.now, timeouts)
            .filter(|_| may_be_hosts(key.family(), work.ip.src, work.ip.dst));
        if slot_of_it.is_none() && opened.is_none() {
            return Ok(false);
        }
        for interface in tracking.into_iter().flatten() {
            if !self.engine.table.has_allowance(
                self.now,
                work.hash,
                interface.id,
                interface.settings.connections,
            ) {
                return Err(Refused(DropReason::AllowanceExceeded, interface.id));
            }
        }
        // What has made room may have been this connection, half-open as it was.
        let slot_of_it = slot_of_it.and_then(|_| self.engine.table.lookup(self.now, hash, key));
        if let Some(slot) = slot_of_it {
            newly.into_iter().flatten().for_each(|side| self.engine.table.track(slot, side));
            return self.advance(work, slot, receiver).map(|()| true);
        }
        let Some(mut entry) = opened else { return Ok(false) };
        entry.set_end(side, work.link.sender_id());
        entry.set_end(side.other(), receiver.id());
        newly.into_iter().flatten().for_each(|side| entry.set_tracked(side));
        match slot.and_then(|_| self.engine.table.lookup(self.now, hash, key)) {
            // The same endpoints, but an address has moved to another interface
            // since, or its port is used again.
            Some(slot) => self.engine.table.replace(slot, entry),
            None => {
                let at = if entry.is_tracked(side) { work.link.sender_id() } else { receiver.id() };
                self.engine
                    .table
                    .insert(self.now, hash, entry)
                    .map_err(|_| Refused(DropReason::ConntrackFull, at))?;
            }
        }
        Ok(true)
    }

    /// The verdict on an ICMP error (D17): it passes an end that tracks the flow
    /// it quotes, or whose rules permit the quoted packet on each packet, or
    /// whose rules permit the error itself. It never refreshes a connection.
    fn related(
        &mut self,
        work: &Work<'a>,
        error: &IcmpError,
        slot: Option<Slot>,
        receiver: Receiver<'a>,
    ) -> Result<Passed<'a>, Refused> {
        // The parser has seen to it that the error goes to the sender of what it quotes.
        let (side, quoted) = (work.side, &error.quoted);
        let entry = slot.map(|slot| self.engine.table.entry(slot));
        // `side` sent the quoted packet, so the error goes to it.
        let tracks = |side, end: InterfaceId| {
            entry.is_some_and(|e| e.end(side) == end && e.is_tracked(side) && !self.has_lapsed(e, side))
        };
        let about = Question::quoted(work.link.vpc, error);
        let plain = Question::of(work.link.vpc, &work.ip);
        let mut class = PassClass::Untracked;
        let ends = [
            (
                work.link.sender,
                side.other(),
                Direction::Outbound,
                work.ip.dst,
                quoted.src,
                DropReason::OutboundDenied,
            ),
            (
                receiver.interface(),
                side,
                Direction::Inbound,
                work.ip.src,
                quoted.dst,
                DropReason::InboundDenied,
            ),
        ];
        for (end, side, direction, remote, quoted_remote, refusal) in ends {
            let Some(interface) = end else { continue };
            let judge = |direction, question: &Question, remote| {
                interface.judge(&self.snapshot.tables, direction, &question.query(remote))
            };
            let related = interface.settings.icmp_errors == IcmpErrors::Related
                && (tracks(side, interface.id)
                    || judge(direction.other(), &about, quoted_remote) == Judgement::Untracked);
            if related {
                class = PassClass::Related;
            } else if judge(direction, &plain, remote) == Judgement::Denied {
                return Err(Refused(refusal, interface.id));
            }
        }
        if class == PassClass::Related && !self.engine.budget.related(receiver.id(), self.now) {
            return Err(Refused(DropReason::RelatedRate, receiver.id()));
        }
        Ok(Passed { class, receiver })
    }

    /// What an uplink brings may not come from an interface of this switch.
    pub(super) fn check_uplink_source(&self, work: &Work<'_>) -> Result<(), Refused> {
        let link = &work.link;
        match link.sender {
            Some(_) => Ok(()),
            None => self.check_source_beyond(link.vpc, link.source, work.ip.src),
        }
    }

    /// [`Turn::check_uplink_source`] of what an uplink has brought.
    fn check_source_beyond(&self, vpc: VpcIndex, mac: MacAddr, src: Addr) -> Result<(), Refused> {
        if is_plugged(self.snapshot.interfaces.by_mac(vpc, mac)) {
            Err(Refused(DropReason::SpoofedMac, InterfaceId::NONE))
        } else if is_plugged(self.snapshot.interfaces.by_address(vpc, src)) {
            Err(Refused(DropReason::SpoofedAddress, InterfaceId::NONE))
        } else {
            Ok(())
        }
    }
}

/// Whether an interface is on this switch: what it sends comes by its port alone.
#[inline]
pub(super) fn is_plugged(interface: Option<&Interface>) -> bool {
    interface.is_some_and(|interface| interface.port.is_some())
}

/// Whether a packet in `direction` may be the answer to a flow whose open rule
/// in the other direction was removed.
fn answers_revoked(interface: &Interface, direction: Direction, question: &Question) -> bool {
    let (Some(revoked), Some(reply)) = (&interface.revoked, question.reply) else { return false };
    revoked.any[direction.other() as usize][question.family as usize].contains(reply)
}
