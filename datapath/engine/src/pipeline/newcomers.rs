//! What no connection has settled, in the order in which it came: each may open a
//! flow that the next is of.
//!
//! Rules do not depend on connections. So plain packets that had none when the burst
//! was looked up are judged by rules first, all together: what tells who their remote
//! addresses are is asked for, then read, and the lines where their connections will
//! lie are asked for. Then each is settled in its turn. Should one have a connection
//! by then, what rules had to say of it is forgotten. Where none of the burst can open
//! or end a connection, rules have settled it all, and there are no turns to take.

use arrayvec::ArrayVec;

use super::ends::{Ends, EndsList};
use super::plain::{Glance, Unsettled};
use super::tally::Tally;
use super::track::timeouts;
use super::{Arrival, BURST, Link, Outcome, PassClass, Passed, Refused, Turn, Works};
use crate::conntrack::{Entry, State, Timeouts};
use crate::forward::Interface;
use crate::packet::{Tcp, plain, protocol};
use crate::policy::{Direction, Probe, Query, Service};
use crate::verdict::{DropReason, Judgement};

/// How rules judge a packet at one end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Opinion {
    /// As untracked.
    Untracked,
    /// As tracked.
    Tracked,
    /// As denied.
    Denied,
    /// It depends on who the remote address is, which was asked for.
    Waits,
    /// That end is not on this switch, or was not asked.
    Absent,
    /// That end may track the flow.
    ByState,
}

impl From<Judgement> for Opinion {
    #[inline(always)]
    fn from(judgement: Judgement) -> Opinion {
        match judgement {
            Judgement::Untracked => Opinion::Untracked,
            Judgement::Tracked => Opinion::Tracked,
            Judgement::Denied => Opinion::Denied,
        }
    }
}

/// A plain packet without a connection, and how rules judge it at either end.
struct Newcomer<'g> {
    glance: &'g Glance,
    /// What was asked for of the remote address of each end that waits for it.
    probes: [Probe; 2],
    /// Their place in the list.
    ends: u8,
    outbound: Opinion,
    inbound: Opinion,
}

impl Newcomer<'_> {
    #[inline(always)]
    fn is_tracked(&self) -> bool {
        self.outbound == Opinion::Tracked || self.inbound == Opinion::Tracked
    }

    /// Whether it had a connection when the burst was looked up.
    #[inline(always)]
    fn has_connection(&self) -> bool {
        self.outbound == Opinion::ByState
    }
}

/// What a packet asks of the end that it leaves.
#[inline(always)]
fn outbound_query(glance: &Glance) -> Query {
    let (key, side) = (&glance.key, glance.side());
    let [(_, src_port), (dst, dst_port)] = [key.endpoint(side), key.endpoint(side.other())];
    let service = |port| Service::with_ports(key.protocol(), port);
    let (service, reply_service) = (service(dst_port), Some(service(src_port)));
    Query { vpc: key.vpc(), family: key.family(), service, reply_service, remote: dst }
}

/// What it asks of the end that it comes to, if it asked this of the other.
#[inline(always)]
fn inbound_query(glance: &Glance, outbound: Query) -> Query {
    Query { remote: glance.key.endpoint(glance.side()).0, ..outbound }
}

/// A packet that is left.
#[derive(Clone, Copy)]
enum Left {
    /// By its place among the newcomers.
    Newcomer(u8),
    /// Among the unsettled.
    Glance(u8),
    /// Among those that are not plain.
    Work(u8),
}

impl<'a> Turn<'_, 'a> {
    /// Settles all that is left of a burst.
    #[inline(never)]
    pub(super) fn judge(&mut self, arrivals: &[Arrival<'_>], unsettled: &Unsettled<'_>, works: &Works<'a>) {
        let mut ends = EndsList::new();
        if works.is_empty() && self.judge_wholesale(arrivals, unsettled, &mut ends) {
            return;
        }
        let mut newcomers = ArrayVec::<Newcomer<'_>, BURST>::new();
        let mut waits = false;
        for (glance, known) in unsettled {
            // Datagrams that have a connection may be such as only their sender's rules let out (D24).
            let may_be_known = !known || glance.key.protocol() == protocol::UDP;
            if may_be_known && self.find_ends(glance, arrivals, &mut ends) {
                let newcomer = self.ask_rules(glance, *known, &ends);
                waits |= newcomer.outbound == Opinion::Waits || newcomer.inbound == Opinion::Waits;
                newcomers.push(newcomer);
            }
        }
        if waits {
            for newcomer in &mut newcomers {
                self.read_probes(newcomer, &ends[usize::from(newcomer.ends)]);
            }
        }
        let is_by_rules_alone = works.is_empty()
            && newcomers.len() == unsettled.len()
            && !newcomers.iter().any(|newcomer| newcomer.is_tracked() || newcomer.has_connection());
        let mut tally = Tally::EMPTY;
        let missed = if is_by_rules_alone {
            for newcomer in &newcomers {
                self.settle_newcomer(newcomer, &ends, arrivals, &mut tally);
            }
            newcomers.len() as u64
        } else {
            self.judge_in_order(arrivals, unsettled, works, &newcomers, &ends, &mut tally)
        };
        self.tell(&tally, &ends);
        self.engine.counters.table_misses.add(missed);
    }

    /// Settles each in its turn. Returns how many newcomers had no connection then.
    #[inline(never)]
    fn judge_in_order(
        &mut self,
        arrivals: &[Arrival<'_>],
        unsettled: &Unsettled<'_>,
        works: &Works<'a>,
        newcomers: &[Newcomer<'_>],
        ends: &[Ends<'a>],
        tally: &mut Tally,
    ) -> u64 {
        let mut order = [None; BURST];
        for (place, work) in works.iter().enumerate() {
            order[work.link.index] = Some(Left::Work(place as u8));
        }
        // Each is looked up in its turn; what that reads is asked for here.
        self.engine.table.guess::<BURST>(works.iter().map(|work| work.hash));
        for (place, (glance, _)) in unsettled.iter().enumerate() {
            order[glance.index()] = Some(Left::Glance(place as u8));
        }
        for (place, newcomer) in newcomers.iter().enumerate() {
            if newcomer.has_connection() && newcomer.inbound != Opinion::Denied {
                continue;
            }
            if newcomer.is_tracked() {
                // What does not open a connection may be the answer to a rule that is gone.
                if !may_open(newcomer.glance, arrivals) {
                    continue;
                }
                self.engine.table.prefetch_room(newcomer.glance.hash);
            }
            order[newcomer.glance.index()] = Some(Left::Newcomer(place as u8));
        }
        self.engine.table.mark();
        let mut missed = 0;
        for left in order.into_iter().flatten() {
            let glance = match left {
                Left::Work(place) => {
                    self.judge_one(&works[usize::from(place)]);
                    continue;
                }
                Left::Newcomer(place) => {
                    let newcomer = &newcomers[usize::from(place)];
                    if newcomer.has_connection() {
                        if self.advance_one_sided(newcomer.glance, &ends[usize::from(newcomer.ends)]) {
                            let denied = Err(DropReason::InboundDenied);
                            self.add(tally, newcomer.glance, newcomer.ends, denied, ends);
                            continue;
                        }
                    } else if !self.has_come(newcomer.glance) {
                        missed += 1;
                        self.settle_newcomer(newcomer, ends, arrivals, tally);
                        continue;
                    }
                    newcomer.glance
                }
                Left::Glance(place) => unsettled[usize::from(place)].0,
            };
            self.judge_one(&self.whole(glance, arrivals));
        }
        missed
    }

    /// Whether a packet before it in the burst has opened this packet's connection.
    #[inline]
    fn has_come(&self, glance: &Glance) -> bool {
        let table = &self.engine.table;
        table.may_have_come(glance.hash) && table.lookup(self.now, glance.hash, &glance.key).is_some()
    }

    /// Has rules judge a packet between the last ends of the list, as far as they can
    /// without knowing who the remote addresses are.
    #[inline(always)]
    fn ask_rules<'g>(&self, glance: &'g Glance, known: bool, list: &[Ends<'_>]) -> Newcomer<'g> {
        let mut newcomer = Newcomer {
            glance,
            probes: [Probe::NONE; 2],
            ends: list.len().wrapping_sub(1) as u8,
            outbound: if known { Opinion::ByState } else { Opinion::Absent },
            inbound: Opinion::Absent,
        };
        let Some(ends) = list.last() else { return newcomer };
        let query = outbound_query(glance);
        let [outbound, inbound] = &mut newcomer.probes;
        if let (false, Some(sender)) = (known, ends.sender) {
            newcomer.outbound = self.ask_rules_of(sender, Direction::Outbound, &query, outbound);
        }
        if let (true, Some(receiver)) = (newcomer.outbound != Opinion::Denied, ends.receiver.interface()) {
            let query = inbound_query(glance, query);
            newcomer.inbound = self.ask_rules_of(receiver, Direction::Inbound, &query, inbound);
        }
        newcomer
    }

    #[inline(always)]
    fn ask_rules_of(
        &self,
        end: &Interface,
        direction: Direction,
        query: &Query,
        probe: &mut Probe,
    ) -> Opinion {
        match end.judge_or_probe(&self.snapshot.tables, direction, query) {
            Ok(judgement) => judgement.into(),
            Err(asked) => {
                *probe = asked;
                Opinion::Waits
            }
        }
    }

    /// The rest, which was asked for.
    #[inline(always)]
    fn read_probes(&self, newcomer: &mut Newcomer<'_>, ends: &Ends<'_>) {
        let judge = |end: &Interface, direction, query: &Query, probe| {
            end.policy.judge_probed(&self.snapshot.tables, direction, query, probe).into()
        };
        let query = outbound_query(newcomer.glance);
        let [outbound, inbound] = newcomer.probes;
        if let (Opinion::Waits, Some(sender)) = (newcomer.outbound, ends.sender) {
            newcomer.outbound = judge(sender, Direction::Outbound, &query, outbound);
        }
        if newcomer.outbound == Opinion::Denied {
            newcomer.inbound = Opinion::Absent;
        } else if let (Opinion::Waits, Some(receiver)) = (newcomer.inbound, ends.receiver.interface()) {
            let query = inbound_query(newcomer.glance, query);
            newcomer.inbound = judge(receiver, Direction::Inbound, &query, inbound);
        }
    }

    /// Settles a packet that has no connection as rules have judged it.
    #[inline(always)]
    fn settle_newcomer(
        &mut self,
        newcomer: &Newcomer<'_>,
        list: &[Ends<'a>],
        arrivals: &[Arrival<'_>],
        tally: &mut Tally,
    ) {
        let Newcomer { glance, outbound, inbound, .. } = newcomer;
        let ends = &list[usize::from(newcomer.ends)];
        let fate = if *outbound == Opinion::Denied {
            Err(DropReason::OutboundDenied)
        } else {
            let is_tracked = newcomer.is_tracked();
            let opened = match is_tracked {
                true => self.open_connection(newcomer, ends, segment(glance, arrivals)),
                false => Ok(()),
            };
            // The receiver's refusal is reported first; the sender's side is tracked all the same (D24).
            match opened {
                _ if *inbound == Opinion::Denied => Err(DropReason::InboundDenied),
                Err(refused) => return self.refuse_plain(glance, refused),
                Ok(()) if is_tracked => Ok(PassClass::NewTracked),
                Ok(()) => Ok(PassClass::Untracked),
            }
        };
        if let (Ok(class), None) = (fate, ends.delivery) {
            let link: Link<'a> = self.link(glance, arrivals);
            return self.forward(&link, &Passed { class, receiver: ends.receiver });
        }
        self.add(tally, glance, newcomer.ends, fate, list);
    }

    /// Moves the connection of a datagram on that the receiver's rules deny, and that the
    /// sender alone tracks (D24). False, and nothing has happened, if it is otherwise.
    #[inline]
    fn advance_one_sided(&mut self, glance: &Glance, ends: &Ends<'a>) -> bool {
        let (Some(sender), Some(receiver)) = (ends.sender, ends.receiver.interface()) else { return false };
        let (table, side) = (&mut self.engine.table, glance.side());
        let Some(slot) = table.lookup(self.now, glance.hash, &glance.key) else { return false };
        let entry = table.entry_mut(slot);
        let is_senders = entry.ends(side) == [sender.id, receiver.id]
            && entry.is_tracked(side)
            && !entry.is_tracked(side.other());
        if is_senders {
            entry.advance_udp(side, self.now, &sender.timeouts);
            entry.refuse(side, self.snapshot.generation);
            self.engine.counters.table_hits.add(1);
        }
        is_senders
    }

    #[inline]
    fn refuse_plain(&mut self, glance: &Glance, Refused(reason, at): Refused) {
        self.engine.counters.dropped(reason, at);
        self.out.set(glance.index(), Outcome::Drop(reason));
    }

    /// Opens the connection of a packet that has none, where rules have it tracked.
    fn open_connection(
        &mut self,
        newcomer: &Newcomer<'_>,
        ends: &Ends<'a>,
        tcp: Option<Tcp>,
    ) -> Result<(), Refused> {
        let Newcomer { glance, outbound, inbound, .. } = newcomer;
        let (now, side) = (self.now, glance.side());
        let tracking =
            |end: Option<&'a Interface>, opinion: &Opinion| end.filter(|_| *opinion == Opinion::Tracked);
        let tracking = [tracking(ends.sender, outbound), tracking(ends.receiver.interface(), inbound)];
        let table = &mut self.engine.table;
        for interface in tracking.into_iter().flatten() {
            if !table.has_allowance(now, glance.hash, interface.id, interface.settings.connections) {
                return Err(Refused(DropReason::AllowanceExceeded, interface.id));
            }
        }
        let mut scratch = Timeouts::DEFAULT;
        let timeouts = timeouts(tracking, &mut scratch);
        let state = if tcp.is_some() { State::SynSent } else { State::UdpRequest };
        let mut entry = Entry::begin(glance.key, side, state, tcp.as_ref(), now, timeouts);
        for (at, end, tracks) in
            [(side, ends.from, tracking[0]), (side.other(), ends.receiver.id(), tracking[1])]
        {
            entry.set_end(at, end);
            if tracks.is_some() {
                entry.set_tracked(at);
            }
        }
        if *inbound == Opinion::Denied {
            entry.refuse(side, self.snapshot.generation);
        }
        let at = if tracking[0].is_some() { ends.from } else { ends.receiver.id() };
        match table.insert(now, glance.hash, entry) {
            Ok(_) => Ok(()),
            Err(_) => Err(Refused(DropReason::ConntrackFull, at)),
        }
    }
}

/// Whether a packet may open a connection, as far as it says.
#[inline]
fn may_open(glance: &Glance, arrivals: &[Arrival<'_>]) -> bool {
    glance.key.protocol() != protocol::TCP
        || plain::flags(arrivals[glance.index()].frame, glance.key.family()).opens()
}

/// The segment of a packet, if it is TCP.
#[inline]
fn segment(glance: &Glance, arrivals: &[Arrival<'_>]) -> Option<Tcp> {
    match glance.key.protocol() {
        protocol::TCP => plain::segment(arrivals[glance.index()].frame, glance.key.family()),
        _ => None,
    }
}
