//! The path of plain packets: from the bytes to the connection that settles
//! them, in one cache line per packet.
//!
//! It knows what nearly all packets need, and nothing of errors: an address
//! that is not its interface's first, a flag that may open or end a connection,
//! a guarded subnet, ends with different timeouts, whatever is refused. What it
//! does not settle, the stages that know everything judge as if it had not been
//! here. A test holds it to their verdicts.

use arrayvec::ArrayVec;

use super::forward::known_uplink;
use super::{Arrival, BURST, Counters, Link, Outcome, Outcomes, PassClass, Turn, Work, Works};
use crate::addr::{Addr, Family, MacAddr};
use crate::conntrack::{Guess, Timeouts, Tracking};
use crate::flow::{FlowHash, FlowHasher, FlowKey, Scope, Side};
use crate::forward::{Delivery, Endpoint, Locations, PortRole, VlanEdit, Way};
use crate::ids::{InterfaceId, PortIndex, VpcIndex};
use crate::packet::plain::{self, Ethernet, Wanted};
use crate::packet::{Frame, Ip, TcpFlags, Transport, Udp, protocol};
use crate::snapshot::Snapshot;
use crate::time::Tick;
use crate::verdict::DropReason;

/// A plain packet of a flow that is this worker's.
#[repr(C, align(64))]
pub(super) struct Glance {
    pub key: FlowKey,
    pub hash: FlowHash,
    /// `NONE`: it came by an uplink.
    pub sender: InterfaceId,
    pub bytes: u32,
    /// The MAC it is for, as [`MacAddr::bits`]; above it its place in the burst;
    /// the highest bit is the side that has sent it.
    place: u64,
}

const _: () = assert!(size_of::<Glance>() == 64);

const INDEX_SHIFT: u32 = 48;
const SIDE_SHIFT: u32 = 63;

impl Glance {
    /// Becomes that of a packet; false if it is not plain, or its sender is not who
    /// it says, and then nothing of it counts.
    #[inline(always)]
    fn read(&mut self, hasher: &FlowHasher, frame: Frame<'_>, index: usize, origin: &Origin<'_>) -> bool {
        let Some(ethernet) = Ethernet::read(frame) else { return false };
        let side = match origin.wanted.family(ethernet) {
            Some(Family::V4) => {
                let Some(plain) = plain::read_ipv4(frame) else { return false };
                if plain.src & origin.v4.1 != origin.v4.0 && !origin.may_send_from(Addr::v4(plain.src)) {
                    return false;
                }
                let (key, side) = FlowKey::of_plain_v4(origin.scopes[0], plain);
                (self.key, self.hash) = (key, hasher.hash_v4(&key, origin.is_shared));
                side
            }
            Some(Family::V6) => {
                let Some(plain) = plain::read_ipv6(frame) else { return false };
                if plain.src & origin.v6.1 != origin.v6.0 && !origin.may_send_from(Addr(plain.src)) {
                    return false;
                }
                let (key, side) = FlowKey::of_plain_v6(origin.scopes[1], plain);
                (self.key, self.hash) = (key, hasher.hash_v6(&key, origin.is_shared));
                side
            }
            None => return false,
        };
        self.place = ethernet.destination | (index as u64) << INDEX_SHIFT | (side as u64) << SIDE_SHIFT;
        (self.sender, self.bytes) = (origin.sender, frame.length);
        true
    }

    /// Its place in the burst.
    #[inline]
    pub fn index(&self) -> usize {
        (self.place >> INDEX_SHIFT) as usize % BURST
    }

    /// The side that has sent it.
    #[inline]
    pub fn side(&self) -> Side {
        if self.place >> SIDE_SHIFT == 0 { Side::Low } else { Side::High }
    }

    /// The MAC it is for, as [`MacAddr::bits`].
    #[inline]
    pub fn destination(&self) -> u64 {
        self.place & MacAddr::BITS
    }

    /// Its source and destination.
    #[inline]
    fn addrs(&self) -> (Addr, Addr) {
        let side = self.side();
        (self.key.endpoint(side).0, self.key.endpoint(side.other()).0)
    }
}

/// Plain packets that are not settled, and whether each has a connection.
pub(super) type Unsettled<'g> = ArrayVec<(&'g Glance, bool), BURST>;

/// The plain packets of a burst, in places that are used again for each.
pub(super) struct Glances {
    list: Box<[Glance; BURST]>,
    count: usize,
}

const _: () = assert!(BURST.is_power_of_two());

impl Glances {
    pub fn new() -> Glances {
        let blank = || Glance {
            key: FlowKey::NONE,
            hash: FlowHash(0),
            sender: InterfaceId::NONE,
            bytes: 0,
            place: 0,
        };
        Glances { list: Box::new(std::array::from_fn(|_| blank())), count: 0 }
    }

    pub fn clear(&mut self) {
        self.count = 0;
    }

    #[inline]
    pub fn as_slice(&self) -> &[Glance] {
        &self.list[..self.count.min(BURST)]
    }

    /// The place of the next one, which becomes one by [`Glances::keep`].
    #[inline(always)]
    fn next(&mut self) -> &mut Glance {
        &mut self.list[self.count % BURST]
    }

    #[inline(always)]
    fn keep(&mut self) {
        self.count += 1;
    }
}

/// What the port of plain packets says about them.
pub(super) struct Origin<'a> {
    port: PortIndex,
    vpc: VpcIndex,
    wanted: Wanted,
    scopes: [Scope; 2],
    /// Value and mask of the addresses that need no second look.
    v4: (u32, u32),
    v6: (u128, u128),
    /// `NONE`: they came by an uplink.
    sender: InterfaceId,
    /// What is to be noted of by which uplink they came.
    heard: Heard,
    /// Whether flows may belong to other workers.
    is_shared: bool,
    snapshot: &'a Snapshot,
}

/// Of whom it is to be noted by which uplink they were heard.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    Nothing,
    Anyone,
    /// Of those whose place the policy does not say; of the others it is held against it.
    Other,
}

impl Origin<'_> {
    /// Whether the sender may use an address that is not its first.
    #[cold]
    fn may_send_from(&self, addr: Addr) -> bool {
        self.snapshot.interfaces.get(self.sender).is_some_and(|interface| interface.may_send_from(addr))
    }
}

/// Plain packets, one after the other, of connections between the same two ends:
/// what holds for all is found once.
struct Run<'a> {
    /// Who sends, and who receives.
    ends: [InterfaceId; 2],
    /// The MAC they are for.
    destination: u64,
    /// By the side that sends: the ends that must track a connection.
    tracking: [Tracking; 2],
    /// `None`: they leave by an uplink.
    receiver: Option<&'a Endpoint>,
    timeouts: &'a Timeouts,
    delivery: Delivery,
    /// Those that have passed, a bit for each, and their bytes.
    packets: u32,
    bytes: u64,
}

impl<'a> Run<'a> {
    /// Of what this packet is the first; `None` if its connection does not settle it.
    #[inline(never)]
    fn of(
        snapshot: &'a Snapshot,
        locations: &Locations,
        now: Tick,
        glance: &Glance,
        ends: [InterfaceId; 2],
    ) -> Option<Run<'a>> {
        let [from, to] = ends;
        if from != glance.sender {
            return None;
        }
        let sender = from.is_some().then(|| snapshot.interfaces.endpoint(from));
        // What this packet came by was looked up.
        let sender = match sender {
            Some(known) => Some(known?),
            None => None,
        };
        let destination = glance.destination();
        let (receiver, timeouts, delivery) = if to.is_some() {
            let receiver = snapshot.interfaces.endpoint(to)?;
            let is_alike = sender.is_none_or(|sender| sender.clock == receiver.clock);
            if !receiver.receives_as(destination) || !is_alike {
                return None;
            }
            let delivery = Delivery { port: receiver.port, vlan: VlanEdit::Keep, receiver: to };
            (Some(receiver), &receiver.timeouts, delivery)
        } else {
            let mac = MacAddr::from_bits(destination);
            (None, &sender?.timeouts, known_uplink(snapshot, locations, now, glance.key.vpc(), mac)?)
        };
        let tracking = Side::BOTH
            .map(|side| Tracking::NONE.and(side, sender.is_some()).and(side.other(), receiver.is_some()));
        Some(Run { ends, destination, tracking, receiver, timeouts, delivery, packets: 0, bytes: 0 })
    }

    /// Whether a packet of a connection between these ends is of the run.
    #[inline(always)]
    fn has(&self, glance: &Glance, ends: [InterfaceId; 2]) -> bool {
        self.ends == ends && self.ends[0] == glance.sender && self.destination == glance.destination()
    }

    #[inline(always)]
    fn add(&mut self, glance: &Glance) {
        self.packets |= 1 << glance.index();
        self.bytes += u64::from(glance.bytes);
    }

    /// Counts its packets and sends them where they go. Returns which these are.
    #[inline]
    fn finish(&self, counters: &Counters, out: &mut Outcomes) -> u32 {
        if self.packets != 0 {
            let packets = u64::from(self.packets.count_ones());
            counters.sent(self.ends[0], packets, self.bytes);
            counters.delivered(self.ends[1], packets, self.bytes);
            out.settle(self.packets, Outcome::Send(self.delivery));
        }
        self.packets
    }
}

impl<'a> Turn<'_, 'a> {
    /// Where plain packets of this port are from; `None` if none of it can be plain.
    pub(super) fn origin_of_plain(&self, port: PortIndex) -> Option<Origin<'a>> {
        let snapshot = self.snapshot;
        let (vpc, sender) = match snapshot.port(port) {
            PortRole::Interface(id) => {
                let sender = snapshot.interfaces.endpoint(*id).filter(|sender| !sender.guarded)?;
                (sender.vpc, Some(sender))
            }
            PortRole::Uplink(uplink) => (uplink.untagged?, None),
            PortRole::Unbound => return None,
        };
        Some(Origin {
            port,
            vpc,
            wanted: sender.map_or(Wanted::from_any(), |sender| Wanted::from_source(sender.mac())),
            scopes: [Family::V4, Family::V6].map(|family| Scope::new(vpc, family)),
            // Every address is as good as another where it came by an uplink.
            v4: sender.map_or((0, 0), Endpoint::first_v4),
            v6: sender.map_or((0, 0), Endpoint::first_v6),
            sender: sender.map_or(InterfaceId::NONE, |sender| sender.id),
            heard: match self.way(vpc) {
                _ if sender.is_some() => Heard::Nothing,
                Way::Sole(..) => Heard::Nothing,
                Way::Learnt => Heard::Anyone,
                Way::Told => Heard::Other,
            },
            is_shared: self.engine.workers > 1,
            snapshot,
        })
    }

    /// Reads packets of one port, of which the first has this place in the burst, up
    /// to one that is not plain, or whose sender is not who it says. Returns how many.
    #[inline]
    pub(super) fn glance(
        &mut self,
        first: usize,
        arrivals: &[Arrival<'_>],
        origin: &Origin<'a>,
        glances: &mut Glances,
    ) -> usize {
        match origin.heard {
            Heard::Nothing => self.glance_at::<false, false>(first, arrivals, origin, glances),
            Heard::Anyone => self.glance_at::<true, false>(first, arrivals, origin, glances),
            Heard::Other => self.glance_at::<true, true>(first, arrivals, origin, glances),
        }
    }

    /// The same, in a version for each of [`Heard`]: no packet pays for what is not asked.
    #[inline(never)]
    fn glance_at<const IS_LEARNT: bool, const IS_TOLD: bool>(
        &mut self,
        first: usize,
        arrivals: &[Arrival<'_>],
        origin: &Origin<'a>,
        glances: &mut Glances,
    ) -> usize {
        #[cfg(test)]
        if self.engine.general_only {
            return 0;
        }
        let (workers, worker) = (self.engine.workers, self.engine.worker);
        for (count, arrival) in arrivals.iter().enumerate() {
            if arrival.port != origin.port {
                return count;
            }
            let glance = glances.next();
            if !glance.read(&self.engine.hasher, arrival.frame, first + count, origin) {
                return count;
            }
            if IS_LEARNT {
                let source = Ethernet::read(arrival.frame).map_or(MacAddr([0; 6]), Ethernet::source);
                let (src, _) = glance.addrs();
                if IS_TOLD && !self.snapshot.may_come_by(origin.port, origin.vpc, source, Some(src)) {
                    return count;
                }
                self.engine.locations.learn(origin.vpc, source, origin.port, self.now);
            }
            let owner = glance.hash.owner(workers);
            if owner != worker && !arrival.steered {
                self.out.settle(1 << (first + count), Outcome::HandOver { to: owner, of: None });
            } else {
                glances.keep();
            }
        }
        arrivals.len()
    }

    /// Settles the plain packets that their connections settle. The others become
    /// `unsettled`; those that no host may send are read again, to be told why.
    #[inline(never)]
    pub(super) fn track<'g>(
        &mut self,
        arrivals: &[Arrival<'_>],
        glances: &'g [Glance],
        works: &mut Works<'a>,
        unsettled: &mut Unsettled<'g>,
    ) {
        let guesses = self.engine.table.guess::<BURST>(glances.iter().map(|glance| glance.hash));
        self.engine.table.prefetch_accounts(&guesses[..glances.len()]);
        let mut passed = 0u32;
        let mut run = None;
        let mut refused = ArrayVec::<(&Glance, InterfaceId), BURST>::new();
        for (glance, &guess) in glances.iter().zip(&guesses) {
            let Turn { engine, snapshot, out, now } = self;
            let entry = engine.table.lookup_guessed(*now, glance.hash, &glance.key, guess);
            let known = entry.is_some();
            if let Some(entry) = entry {
                let (side, ends) = (glance.side(), entry.ends(glance.side()));
                if !run.as_ref().is_some_and(|run: &Run<'_>| run.has(glance, ends)) {
                    passed |= run.take().map_or(0, |run| run.finish(&engine.counters, out));
                    run = Run::of(snapshot, &engine.locations, *now, glance, ends);
                }
                if let Some(run) = &mut run
                    && run.receiver.is_none_or(|receiver| may_receive(snapshot, receiver, glance))
                {
                    let has_advanced = match glance.key.protocol() {
                        _ if !entry.has_tracking(run.tracking[side.index()]) => {
                            if entry.is_tracked(side) && entry.is_refused(side, snapshot.generation) {
                                entry.advance_udp(side, *now, run.timeouts);
                                refused.push((glance, ends[1]));
                                continue;
                            }
                            false
                        }
                        protocol::TCP => {
                            let frame = arrivals[glance.index()].frame;
                            let segment = plain::segment(frame, glance.key.family());
                            segment.is_some_and(|tcp| {
                                entry.advance_by_ack(side, &tcp, *now, run.timeouts)
                                    // Without ACK it may begin another connection; an error has changed nothing.
                                    || tcp.flags.contains(TcpFlags::ACK)
                                        && entry.advance_tcp(side, &tcp, *now, run.timeouts).is_ok()
                            })
                        }
                        _ => {
                            entry.advance_udp(side, *now, run.timeouts);
                            true
                        }
                    };
                    if has_advanced {
                        run.add(glance);
                        continue;
                    }
                }
            }
            let (src, dst) = glance.addrs();
            if plain::may_be_hosts(glance.key.family(), src, dst) {
                unsettled.push((glance, known));
            } else {
                works.extend(self.read(glance.index(), &arrivals[glance.index()]));
            }
        }
        let Turn { engine, out, .. } = self;
        passed |= run.map_or(0, |run| run.finish(&engine.counters, out));
        if !refused.is_empty() {
            self.settle_refused(&refused, works, unsettled);
        }
        let Turn { engine, .. } = self;
        let packets = u64::from(passed.count_ones());
        engine.counters.table_hits.add(packets);
        engine.counters.pass_many(PassClass::Established, packets);
        if engine.table.keeps_accounts() {
            self.account_plain(arrivals, glances, &guesses, passed);
        }
    }

    /// Drops datagrams that only their sender tracks, and that rules of this generation have
    /// refused at the receiver before (D24). One of a flow that others of the burst are of, which may
    /// open it, is unsettled.
    #[inline(never)]
    fn settle_refused<'g>(
        &mut self,
        refused: &[(&'g Glance, InterfaceId)],
        works: &Works<'_>,
        unsettled: &mut Unsettled<'g>,
    ) {
        let Turn { engine, out, .. } = self;
        let others: ArrayVec<FlowHash, BURST> = works
            .iter()
            .map(|work| work.hash)
            .chain(unsettled.iter().map(|(glance, _)| glance.hash))
            .collect();
        let mut dropped = 0u32;
        for of_receiver in refused.chunk_by(|one, other| one.1 == other.1) {
            let before = dropped;
            for (glance, _) in of_receiver {
                if others.contains(&glance.hash) {
                    unsettled.push((glance, true));
                } else {
                    dropped |= 1 << glance.index();
                }
            }
            let packets = u64::from((dropped ^ before).count_ones());
            engine.counters.dropped_many(DropReason::InboundDenied, of_receiver[0].1, packets);
        }
        if dropped != 0 {
            engine.counters.table_hits.add(dropped.count_ones().into());
            out.settle(dropped, Outcome::Drop(DropReason::InboundDenied));
        }
    }

    /// Adds plain packets of the burst, a bit for each, to the accounts of their connections.
    #[inline(never)]
    fn account_plain(
        &mut self,
        arrivals: &[Arrival<'_>],
        glances: &[Glance],
        guesses: &[Guess],
        packets: u32,
    ) {
        let Turn { engine, out, .. } = self;
        let is_of = |glance: &Glance| packets >> glance.index() & 1 == 1;
        for (glance, guess) in glances.iter().zip(guesses).filter(|(glance, _)| is_of(glance)) {
            let Some(slot) = engine.table.slot_of(glance.hash, &glance.key, *guess) else { continue };
            let flags = match glance.key.protocol() {
                protocol::TCP => plain::segment(arrivals[glance.index()].frame, glance.key.family())
                    .map_or(TcpFlags(0), |segment| segment.flags),
                _ => TcpFlags(0),
            };
            engine.table.account(slot, glance.side(), glance.bytes, flags);
            out.account(1 << glance.index());
        }
    }

    /// All that the general stages need of a plain packet.
    pub(super) fn whole(&self, glance: &Glance, arrivals: &[Arrival<'_>]) -> Work<'a> {
        let &Glance { key, hash, .. } = glance;
        let side = glance.side();
        let [(src, src_port), (dst, dst_port)] = [key.endpoint(side), key.endpoint(side.other())];
        let segment = match key.protocol() {
            protocol::TCP => plain::segment(arrivals[glance.index()].frame, key.family()),
            _ => None,
        };
        let transport = segment.map_or(Transport::Udp(Udp { src_port, dst_port }), Transport::Tcp);
        let ip = Ip { src, dst, protocol: key.protocol(), transport };
        Work { link: self.link(glance, arrivals), key, hash, side, ip }
    }

    /// What is below IP of a plain packet.
    pub(super) fn link(&self, glance: &Glance, arrivals: &[Arrival<'_>]) -> Link<'a> {
        let index = glance.index();
        let Arrival { frame, port, .. } = arrivals[index];
        Link {
            index,
            port,
            bytes: glance.bytes,
            tagged: false,
            vpc: glance.key.vpc(),
            sender: self.snapshot.interfaces.get(glance.sender),
            source: Ethernet::read(frame).map_or(MacAddr([0; 6]), Ethernet::source),
            destination: MacAddr::from_bits(glance.destination()),
        }
    }
}

/// Whether this receiver may be sent a packet for this address.
#[inline(always)]
pub(super) fn may_receive(snapshot: &Snapshot, receiver: &Endpoint, glance: &Glance) -> bool {
    let (_, dst) = glance.addrs();
    let has_it = match glance.key.family() {
        Family::V4 => dst.0 as u32 & receiver.first_v4().1 == receiver.first_v4().0,
        Family::V6 => dst.0 & receiver.first_v6().1 == receiver.first_v6().0,
    };
    has_it || snapshot.interfaces.get(receiver.id).is_some_and(|interface| interface.may_receive_for(dst))
}
