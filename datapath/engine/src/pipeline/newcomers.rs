//! What no connection has settled, in the order in which it came: each may open a
//! flow that the next is of.
//!
//! Rules do not depend on connections. So plain packets that had none when the burst
//! was looked up are judged by rules first, all together: what tells who their remote
//! addresses are is asked for, then read, and the lines where their connections will
//! lie are asked for. Then each is settled in its turn. Should one have a connection
//! by then, what rules had to say of it is forgotten.

use arrayvec::ArrayVec;

use super::border::is_guarded;
use super::forward::Receiver;
use super::plain::{Glance, Unsettled, may_receive};
use super::track::timeouts;
use super::{Arrival, BURST, Link, Outcome, PassClass, Passed, Refused, Turn, Works};
use crate::addr::MacAddr;
use crate::conntrack::{Entry, State, Timeouts};
use crate::forward::{Delivery, Endpoint, Interface, VlanEdit};
use crate::ids::InterfaceId;
use crate::packet::plain::{self, Ethernet};
use crate::packet::{Tcp, protocol};
use crate::policy::{Direction, Probe, Query, Service};
use crate::verdict::{DropReason, Judgement};

/// The two ends of new flows, found once for packets that come one after the other.
struct Ends<'a> {
    from: InterfaceId,
    /// The MAC they are for, as [`MacAddr::bits`].
    destination: u64,
    /// `None`: they came by an uplink.
    sender: Option<&'a Interface>,
    receiver: Receiver<'a>,
    /// The receiver's, where it is an interface.
    endpoint: Option<&'a Endpoint>,
    /// Whether either end is beyond an uplink, so that what passes may be exempt.
    is_outside: bool,
}

/// How rules judge a packet at one end.
#[derive(Clone, Copy)]
enum Opinion {
    /// So.
    Is(Judgement),
    /// It depends on who the remote address is, which was asked for.
    Waits(Probe),
    /// That end is not on this switch, or was not asked.
    Absent,
    /// That end may track the flow.
    ByState,
}

impl Opinion {
    fn is(self, judgement: Judgement) -> bool {
        matches!(self, Opinion::Is(is) if is == judgement)
    }
}

/// A plain packet without a connection, and how rules judge it at either end.
struct Newcomer<'g> {
    glance: &'g Glance,
    /// Their place in the list.
    ends: u8,
    outbound: Opinion,
    inbound: Opinion,
}

impl Newcomer<'_> {
    fn is_tracked(&self) -> bool {
        self.outbound.is(Judgement::Tracked) || self.inbound.is(Judgement::Tracked)
    }

    /// Whether it had a connection when the burst was looked up.
    fn has_connection(&self) -> bool {
        matches!(self.outbound, Opinion::ByState)
    }

    /// What it asks of the end that it leaves (outbound) or comes to (inbound).
    #[inline]
    fn query(&self, direction: Direction) -> Query {
        let (key, side) = (&self.glance.key, self.glance.side());
        let (from, to) = (key.endpoint(side), key.endpoint(side.other()));
        let service = |port| Service::with_ports(key.protocol(), port);
        let remote = match direction {
            Direction::Outbound => to.0,
            Direction::Inbound => from.0,
        };
        let (service, reply_service) = (service(to.1), Some(service(from.1)));
        Query { vpc: key.vpc(), family: key.family(), service, reply_service, remote }
    }
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
        let mut order = [None; BURST];
        for (place, work) in works.iter().enumerate() {
            order[work.link.index] = Some(Left::Work(place as u8));
        }
        // Each is looked up in its turn; what that reads is asked for here.
        self.engine.table.guess::<BURST>(works.iter().map(|work| work.hash));
        let mut ends = ArrayVec::<Ends<'a>, BURST>::new();
        let mut newcomers = ArrayVec::<Newcomer<'_>, BURST>::new();
        for (place, (glance, known)) in unsettled.iter().enumerate() {
            order[glance.index()] = Some(Left::Glance(place as u8));
            // Datagrams that have a connection may be such as only their sender's rules let out (D24).
            let may_be_known = !known || glance.key.protocol() == protocol::UDP;
            if may_be_known && self.find_ends(glance, arrivals, &mut ends) {
                let ends = (ends.len() - 1) as u8;
                let outbound = if *known { Opinion::ByState } else { Opinion::Absent };
                newcomers.push(Newcomer { glance, ends, outbound, inbound: Opinion::Absent });
            }
        }
        for newcomer in &mut newcomers {
            self.ask_rules(newcomer, &ends[usize::from(newcomer.ends)]);
        }
        for (place, newcomer) in newcomers.iter_mut().enumerate() {
            self.read_probes(newcomer, &ends[usize::from(newcomer.ends)]);
            if newcomer.has_connection() && !newcomer.inbound.is(Judgement::Denied) {
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
        let inserted = self.engine.table.statistics().inserted;
        let mut missed = 0;
        for left in order.into_iter().flatten() {
            let glance = match left {
                Left::Work(place) => {
                    self.judge_one(&works[usize::from(place)]);
                    continue;
                }
                Left::Newcomer(place) => {
                    let newcomer = &newcomers[usize::from(place)];
                    let ends = &ends[usize::from(newcomer.ends)];
                    if newcomer.has_connection() {
                        if self.settle_one_sided(newcomer.glance, ends) {
                            continue;
                        }
                    } else if !self.has_come(newcomer.glance, inserted) {
                        missed += 1;
                        self.settle_newcomer(newcomer, ends, arrivals);
                        continue;
                    }
                    newcomer.glance
                }
                Left::Glance(place) => unsettled[usize::from(place)].0,
            };
            self.judge_one(&self.whole(glance, arrivals));
        }
        self.engine.counters.table_misses.add(missed);
    }

    /// Whether a connection has come into the table since it held `inserted` in all,
    /// and is this packet's.
    #[inline]
    fn has_come(&self, glance: &Glance, inserted: u64) -> bool {
        let table = &self.engine.table;
        table.statistics().inserted != inserted && table.lookup(self.now, glance.hash, &glance.key).is_some()
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
        let is_of = |ends: &Ends<'_>| (ends.from, ends.destination) == (glance.sender, glance.destination());
        if !list.last().is_some_and(is_of) {
            let Some(ends) = self.ends(glance) else { return false };
            list.push(ends);
        }
        list.last().is_some_and(|ends| {
            ends.endpoint.is_none_or(|receiver| may_receive(self.snapshot, receiver, glance))
                && !(ends.is_outside && self.may_be_beyond_rules(glance, ends, arrivals))
        })
    }

    /// Has rules judge a packet at both ends, as far as they can without knowing who
    /// the remote addresses are.
    #[inline]
    fn ask_rules(&self, newcomer: &mut Newcomer<'_>, ends: &Ends<'_>) {
        let ask = |newcomer: &Newcomer<'_>, end: Option<&Interface>, direction| match end {
            Some(interface) => {
                let query = newcomer.query(direction);
                match interface.judge_or_probe(&self.snapshot.tables, direction, &query) {
                    Ok(judgement) => Opinion::Is(judgement),
                    Err(probe) => Opinion::Waits(probe),
                }
            }
            None => Opinion::Absent,
        };
        if !newcomer.has_connection() {
            newcomer.outbound = ask(newcomer, ends.sender, Direction::Outbound);
        }
        if !newcomer.outbound.is(Judgement::Denied) {
            newcomer.inbound = ask(newcomer, ends.receiver.interface(), Direction::Inbound);
        }
    }

    /// The rest, which was asked for.
    #[inline]
    fn read_probes(&self, newcomer: &mut Newcomer<'_>, ends: &Ends<'_>) {
        let judge = |newcomer: &Newcomer<'_>, interface: &Interface, direction, probe| {
            let query = newcomer.query(direction);
            Opinion::Is(interface.policy.judge_probed(&self.snapshot.tables, direction, &query, probe))
        };
        if let (Opinion::Waits(probe), Some(sender)) = (newcomer.outbound, ends.sender) {
            newcomer.outbound = judge(newcomer, sender, Direction::Outbound, probe);
        }
        if newcomer.outbound.is(Judgement::Denied) {
            newcomer.inbound = Opinion::Absent;
        } else if let (Opinion::Waits(probe), Some(receiver)) = (newcomer.inbound, ends.receiver.interface())
        {
            newcomer.inbound = judge(newcomer, receiver, Direction::Inbound, probe);
        }
    }

    /// Whether a packet from or to an uplink may be exempt from rules, or has a source
    /// that nobody beyond an uplink has.
    #[inline(never)]
    fn may_be_beyond_rules(&self, glance: &Glance, ends: &Ends<'_>, arrivals: &[Arrival<'_>]) -> bool {
        let (key, side) = (&glance.key, glance.side());
        let [(src, src_port), (_, dst_port)] = [key.endpoint(side), key.endpoint(side.other())];
        let is_honest = || {
            let source = Ethernet::read(arrivals[glance.index()].frame).map(Ethernet::source);
            source.is_some_and(|source| self.check_source_beyond(key.vpc(), source, src).is_ok())
        };
        !self.snapshot.exempt.is_empty()
            || is_dhcp(key.protocol(), src_port, dst_port)
            || ends.sender.is_none() && !is_honest()
    }

    /// The ends of a plain packet, if neither is guarded and the receiver is another.
    fn ends(&self, glance: &Glance) -> Option<Ends<'a>> {
        let snapshot = self.snapshot;
        let (from, vpc, destination) = (glance.sender, glance.key.vpc(), glance.destination());
        let sender = snapshot.interfaces.get(from);
        let found = snapshot.interfaces.by_mac(vpc, MacAddr::from_bits(destination));
        let receiver = match found.and_then(|interface| Some((interface, interface.port?))) {
            Some((receiver, port)) if receiver.id != from => Receiver::Local(receiver, port),
            None if sender.is_some() && snapshot.vpc(vpc).is_some_and(|vpc| !vpc.uplinks.is_empty()) => {
                Receiver::Uplinks
            }
            _ => return None,
        };
        let endpoint = receiver.interface().and_then(|receiver| snapshot.interfaces.endpoint(receiver.id));
        let is_outside = sender.is_none() || endpoint.is_none();
        let is_open = !is_guarded(sender) && !is_guarded(receiver.interface());
        is_open.then_some(Ends { from, destination, sender, receiver, endpoint, is_outside })
    }

    /// Settles a packet that has no connection as rules have judged it.
    fn settle_newcomer(&mut self, newcomer: &Newcomer<'_>, ends: &Ends<'a>, arrivals: &[Arrival<'_>]) {
        let Newcomer { glance, outbound, inbound, .. } = newcomer;
        if outbound.is(Judgement::Denied) {
            return self.refuse_plain(glance, Refused(DropReason::OutboundDenied, ends.from));
        }
        let opened = if newcomer.is_tracked() {
            self.open_connection(newcomer, ends, segment(glance, arrivals))
        } else {
            Ok(())
        };
        // The receiver's refusal is reported first; the sender's side is tracked all the same (D24).
        if inbound.is(Judgement::Denied) {
            return self.refuse_plain(glance, Refused(DropReason::InboundDenied, ends.receiver.id()));
        }
        if let Err(refused) = opened {
            return self.refuse_plain(glance, refused);
        }
        let class = if newcomer.is_tracked() { PassClass::NewTracked } else { PassClass::Untracked };
        match ends.receiver {
            Receiver::Local(receiver, port) => {
                let counters = &self.engine.counters;
                counters.pass(class, ends.from, glance.bytes);
                counters.delivered(receiver.id, 1, glance.bytes.into());
                let delivery = Delivery { port, vlan: VlanEdit::Keep, receiver: receiver.id };
                self.out.pass(glance.index(), Outcome::Send(delivery), class);
            }
            Receiver::Uplinks => {
                let link: Link<'a> = self.link(glance, arrivals);
                self.forward(&link, &Passed { class, receiver: ends.receiver });
            }
        }
    }

    /// Refuses a datagram that the receiver's rules deny, and whose connection the
    /// sender alone tracks (D24). False, and nothing has happened, if it is otherwise.
    fn settle_one_sided(&mut self, glance: &Glance, ends: &Ends<'a>) -> bool {
        let (Some(sender), Some(receiver)) = (ends.sender, ends.receiver.interface()) else { return false };
        let (table, side) = (&mut self.engine.table, glance.side());
        let Some(slot) = table.lookup(self.now, glance.hash, &glance.key) else { return false };
        let entry = table.entry_mut(slot);
        let is_senders = entry.ends(side) == [sender.id, receiver.id]
            && entry.is_tracked(side)
            && !entry.is_tracked(side.other());
        if is_senders {
            entry.advance_udp(side, self.now, &sender.timeouts);
            self.engine.counters.table_hits.add(1);
            self.refuse_plain(glance, Refused(DropReason::InboundDenied, receiver.id));
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
            |end: Option<&'a Interface>, opinion: &Opinion| end.filter(|_| opinion.is(Judgement::Tracked));
        let tracking = [tracking(ends.sender, outbound), tracking(ends.receiver.interface(), inbound)];
        let table = &mut self.engine.table;
        for interface in tracking.into_iter().flatten() {
            if !table.has_allowance(now, interface.id, interface.settings.connections) {
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
        let at = if tracking[0].is_some() { ends.from } else { ends.receiver.id() };
        match table.insert(now, glance.hash, entry) {
            Ok(_) => Ok(()),
            Err(_) => Err(Refused(DropReason::ConntrackFull, at)),
        }
    }
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
