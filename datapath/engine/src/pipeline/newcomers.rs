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

use super::border::is_guarded;
use super::forward::{Receiver, deliver, known_uplink};
use super::plain::{Glance, Unsettled, may_receive};
use super::police::is_plugged;
use super::track::timeouts;
use super::{Arrival, BURST, Link, Outcome, PassClass, Passed, Refused, Turn, Works};
use crate::addr::MacAddr;
use crate::conntrack::{Entry, State, Timeouts};
use crate::forward::{Delivery, Endpoint, Interface};
use crate::ids::InterfaceId;
use crate::packet::plain::{self, Ethernet};
use crate::packet::{Tcp, protocol};
use crate::policy::{Direction, Probe, Query, Service};
use crate::verdict::{DropReason, Judgement};

/// The two ends of new flows, found once for packets that come one after the other.
struct Ends<'a> {
    from: InterfaceId,
    /// The MAC they are from, where they came by an uplink.
    source: Option<MacAddr>,
    /// The MAC they are for, as [`MacAddr::bits`].
    destination: u64,
    /// `None`: they came by an uplink.
    sender: Option<&'a Interface>,
    receiver: Receiver<'a>,
    /// The receiver's, where it is an interface.
    endpoint: Option<&'a Endpoint>,
    /// Whether either end is beyond an uplink, so that what passes may be exempt.
    is_outside: bool,
    /// Where what passes goes, if that is one place.
    delivery: Option<Delivery>,
}

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

/// Packets between the same two ends, one after the other, that fared alike: counted
/// and sent together.
struct Tally {
    /// The place of their ends in the list.
    ends: u8,
    /// Why they passed, or did not.
    fate: Result<PassClass, DropReason>,
    /// Which they are, a bit for each, and their bytes.
    packets: u32,
    bytes: u64,
}

impl Tally {
    const EMPTY: Tally = Tally { ends: 0, fate: Ok(PassClass::Untracked), packets: 0, bytes: 0 };
}

impl<'a> Turn<'_, 'a> {
    /// Settles all that is left of a burst.
    #[inline(never)]
    pub(super) fn judge(&mut self, arrivals: &[Arrival<'_>], unsettled: &Unsettled<'_>, works: &Works<'a>) {
        let mut ends = ArrayVec::<Ends<'a>, BURST>::new();
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
                if segment(newcomer.glance, arrivals).is_some_and(|tcp| !tcp.flags.opens()) {
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
                            self.add(tally, newcomer, ends, Err(DropReason::InboundDenied));
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

    /// Notes the ends of a packet as the last in the list; false if more than rules has
    /// to be asked about it, or there is a reason to refuse it that they do not know.
    #[inline]
    fn find_ends(
        &self,
        glance: &Glance,
        arrivals: &[Arrival<'_>],
        list: &mut ArrayVec<Ends<'a>, BURST>,
    ) -> bool {
        let is_of = |ends: &Ends<'_>| {
            (ends.from, ends.destination) == (glance.sender, glance.destination())
                && (ends.from.is_some() || ends.source == source(glance, arrivals))
        };
        if !list.last().is_some_and(is_of) {
            let Some(ends) = self.ends(glance, arrivals) else { return false };
            list.push(ends);
        }
        list.last().is_some_and(|ends| {
            ends.endpoint.is_none_or(|receiver| may_receive(self.snapshot, receiver, glance))
                && !(ends.is_outside && self.may_be_beyond_rules(glance, ends))
        })
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

    /// Whether a packet from or to an uplink may be exempt from rules, or has a source
    /// that nobody beyond an uplink has.
    #[inline(never)]
    fn may_be_beyond_rules(&self, glance: &Glance, ends: &Ends<'_>) -> bool {
        let (key, side) = (&glance.key, glance.side());
        let [(src, src_port), (_, dst_port)] = [key.endpoint(side), key.endpoint(side.other())];
        !self.snapshot.exempt.is_empty()
            || is_dhcp(key.protocol(), src_port, dst_port)
            || ends.sender.is_none() && is_plugged(self.snapshot.interfaces.by_address(key.vpc(), src))
    }

    /// The ends of a plain packet, if neither is guarded, the receiver is another, and
    /// nobody here has the MAC that it is from, where it came by an uplink.
    fn ends(&self, glance: &Glance, arrivals: &[Arrival<'_>]) -> Option<Ends<'a>> {
        let snapshot = self.snapshot;
        let (from, vpc, destination) = (glance.sender, glance.key.vpc(), glance.destination());
        let sender = snapshot.interfaces.get(from);
        let source = match sender {
            Some(_) => None,
            None => Some(source(glance, arrivals)?),
        };
        let found = snapshot.interfaces.by_mac(vpc, MacAddr::from_bits(destination));
        let receiver = match found.and_then(|interface| Some((interface, interface.port?))) {
            Some((receiver, port)) if receiver.id != from => Receiver::Local(receiver, port),
            None if sender.is_some() && snapshot.vpc(vpc).is_some_and(|vpc| !vpc.uplinks().is_empty()) => {
                Receiver::Uplinks
            }
            _ => return None,
        };
        let endpoint = receiver.interface().and_then(|receiver| snapshot.interfaces.endpoint(receiver.id));
        let is_outside = sender.is_none() || endpoint.is_none();
        if is_guarded(sender)
            || is_guarded(receiver.interface())
            || source.is_some_and(|mac| is_plugged(snapshot.interfaces.by_mac(vpc, mac)))
        {
            return None;
        }
        let delivery = match receiver {
            Receiver::Local(interface, port) => Some(deliver(false, interface.id, port)),
            Receiver::Uplinks => {
                let mac = MacAddr::from_bits(destination);
                known_uplink(snapshot, &self.engine.locations, self.now, vpc, mac)
            }
        };
        Some(Ends { from, source, destination, sender, receiver, endpoint, is_outside, delivery })
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
        self.add(tally, newcomer, list, fate);
    }

    /// Adds a packet to those that fared alike, or begins with it.
    #[inline(always)]
    fn add(
        &mut self,
        tally: &mut Tally,
        newcomer: &Newcomer<'_>,
        list: &[Ends<'a>],
        fate: Result<PassClass, DropReason>,
    ) {
        if (tally.ends, tally.fate) != (newcomer.ends, fate) {
            self.tell(tally, list);
            *tally = Tally { ends: newcomer.ends, fate, ..Tally::EMPTY };
        }
        tally.packets |= 1 << newcomer.glance.index();
        tally.bytes += u64::from(newcomer.glance.bytes);
    }

    /// Counts packets that fared alike, and settles them.
    #[inline(never)]
    fn tell(&mut self, tally: &Tally, list: &[Ends<'a>]) {
        if tally.packets == 0 {
            return;
        }
        let ends = &list[usize::from(tally.ends)];
        let (counters, packets) = (&self.engine.counters, u64::from(tally.packets.count_ones()));
        let receiver = ends.receiver.id();
        match tally.fate {
            Err(reason) => {
                let at = if reason == DropReason::InboundDenied { receiver } else { ends.from };
                counters.dropped_many(reason, at, packets);
                self.out.settle(tally.packets, Outcome::Drop(reason));
            }
            Ok(class) => {
                let Some(delivery) = ends.delivery else { return };
                counters.pass_many(class, packets);
                counters.sent(ends.from, packets, tally.bytes);
                counters.delivered(receiver, packets, tally.bytes);
                self.out.pass(tally.packets, Outcome::Send(delivery), class);
            }
        }
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

/// The MAC that a packet is from.
#[inline]
fn source(glance: &Glance, arrivals: &[Arrival<'_>]) -> Option<MacAddr> {
    Ethernet::read(arrivals[glance.index()].frame).map(Ethernet::source)
}

/// The segment of a packet, if it is TCP.
#[inline]
fn segment(glance: &Glance, arrivals: &[Arrival<'_>]) -> Option<Tcp> {
    match glance.key.protocol() {
        protocol::TCP => plain::segment(arrivals[glance.index()].frame, glance.key.family()),
        _ => None,
    }
}

/// Ports by which clients and servers of DHCP (RFC 2131, RFC 8415) speak.
#[inline]
fn is_dhcp(protocol: u8, src_port: u16, dst_port: u16) -> bool {
    protocol == protocol::UDP
        && matches!((src_port.min(dst_port), src_port.max(dst_port)), (67, 68) | (546, 547))
}
