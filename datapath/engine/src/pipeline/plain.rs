//! The path of plain packets: from the bytes to the connection that settles
//! them, in one place of 96 bytes per packet.
//!
//! It knows what nearly all packets need, and nothing of errors: an address
//! that is not its interface's first, a flag that may open or end a connection,
//! a guarded subnet, ends with different timeouts, whatever is refused. What it
//! does not settle, the stages that know everything judge as if it had not been
//! here. A test holds it to their verdicts.

use arrayvec::ArrayVec;

use super::forward::known_uplink;
use super::{Arrival, BURST, Link, Outcome, PassClass, Turn, Work};
use crate::addr::MacAddr;
use crate::conntrack::Guess;
use crate::flow::{FlowHash, FlowKey, Side};
use crate::forward::{Delivery, Endpoint, PortRole, VlanEdit};
use crate::ids::{PortIndex, VpcIndex};
use crate::packet::{Ip, Plain, Tcp, TcpFlags, Transport, Udp, protocol};
use crate::policy::{Direction, Query, Service};
use crate::verdict::{DropReason, Judgement};

/// A plain packet of a flow that is this worker's.
pub(super) struct Glance<'a> {
    pub key: FlowKey,
    pub hash: FlowHash,
    bytes: u32,
    seq: u32,
    ack: u32,
    payload: u32,
    destination: MacAddr,
    source: MacAddr,
    /// `None`: it came by an uplink.
    sender: Option<&'a Endpoint>,
    /// Its place in the burst.
    pub index: u8,
    side: Side,
    flags: TcpFlags,
}

const _: () = assert!(size_of::<Glance<'_>>() <= 96);

/// What the connection has decided of a packet.
enum Settled {
    /// It passes.
    ByState,
    /// Nothing, or there is none.
    No { known: bool },
}

/// Plain packets that are not settled, and whether each has a connection.
pub(super) type Unsettled<'g, 'a> = ArrayVec<(&'g Glance<'a>, bool), BURST>;

/// The plain packets of a burst.
pub(super) type Glances<'a> = ArrayVec<Glance<'a>, BURST>;

/// What the port of a plain packet says about it.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    pub port: PortIndex,
    vpc: VpcIndex,
    /// `None`: it came by an uplink.
    sender: Option<&'a Endpoint>,
    /// Whether it came by one of several uplinks: which, is to be noted.
    is_learnt: bool,
}

impl<'a> Turn<'_, 'a> {
    /// Where plain packets of this port are from; `None` if none of it can be plain.
    pub(super) fn origin_of_plain(&self, port: PortIndex) -> Option<Origin<'a>> {
        match self.snapshot.port(port) {
            PortRole::Interface(id) => {
                let vpc = self.snapshot.interfaces.get(*id)?.vpc;
                let sender = self.snapshot.interfaces.endpoint(*id);
                Some(Origin { port, vpc, sender, is_learnt: false })
            }
            PortRole::Uplink(uplink) => {
                let vpc = uplink.untagged?;
                Some(Origin { port, vpc, sender: None, is_learnt: self.has_several_uplinks(vpc) })
            }
            PortRole::Unbound => None,
        }
    }

    /// Reads a plain packet. False, and nothing has happened, if it is none, or its sender is not who it says.
    #[inline(always)]
    pub(super) fn glance(
        &mut self,
        index: usize,
        arrival: &Arrival<'_>,
        origin: Origin<'a>,
        glances: &mut Glances<'a>,
    ) -> bool {
        let Turn { engine, snapshot, out, now } = self;
        #[cfg(test)]
        if engine.general_only {
            return false;
        }
        let Some(plain) = Plain::read(arrival.frame) else { return false };
        if let Some(sender) = origin.sender {
            let may_send = || snapshot.interfaces.get(sender.id).is_some_and(|i| i.may_send_from(plain.src));
            if plain.source != sender.mac || !(sender.has_first(plain.family, plain.src) || may_send()) {
                return false;
            }
        }
        if origin.is_learnt {
            engine.locations.learn(origin.vpc, plain.source, origin.port, *now);
        }
        let (src, dst) = ((plain.src, plain.ports.0), (plain.dst, plain.ports.1));
        let (key, side) = FlowKey::of_family(plain.family, origin.vpc, plain.protocol, src, dst);
        let hash = engine.hasher.hash(&key);
        let owner = hash.owner(engine.workers);
        if owner != engine.worker && !arrival.steered {
            out.set(index, Outcome::HandOver { to: owner, of: None });
            return true;
        }
        glances.push(Glance {
            key,
            hash,
            bytes: arrival.frame.length,
            seq: plain.seq,
            ack: plain.ack,
            payload: plain.payload,
            destination: plain.destination,
            source: plain.source,
            sender: origin.sender,
            index: index as u8,
            side,
            flags: plain.flags,
        });
        true
    }

    /// Settles the plain packets that their connections settle, and tells the others.
    #[inline(never)]
    pub(super) fn track<'g>(&mut self, glances: &'g Glances<'a>) -> Unsettled<'g, 'a> {
        let mut unsettled = Unsettled::new();
        let guesses = self.engine.table.guess::<BURST>(glances.iter().map(|glance| glance.hash));
        let mut passed = 0;
        for (glance, guess) in glances.iter().zip(guesses) {
            match self.settle_by_state(glance, guess) {
                Settled::ByState => passed += 1,
                Settled::No { known } => unsettled.push((glance, known)),
            }
        }
        let counters = &self.engine.counters;
        counters.table_hits.add(passed);
        counters.pass_many(PassClass::Established, passed);
        unsettled
    }

    /// Lets a packet pass whose connection both ends track and which changes
    /// nothing about it but its timer and numbers.
    #[inline(always)]
    fn settle_by_state(&mut self, glance: &Glance<'a>, guess: Guess) -> Settled {
        let Turn { engine, snapshot, out, now } = self;
        let Some(entry) = engine.table.lookup_guessed(*now, glance.hash, &glance.key, guess) else {
            return Settled::No { known: false };
        };
        const NO: Settled = Settled::No { known: true };
        let side = glance.side;
        let (from, to) = (entry.end(side), entry.end(side.other()));
        let is_senders = match glance.sender {
            Some(sender) => from == sender.id && entry.is_tracked(side) && !sender.guarded,
            None => !from.is_some(),
        };
        if !is_senders {
            return NO;
        }
        let (delivery, timeouts) = match snapshot.interfaces.endpoint(to) {
            Some(receiver) => {
                let Some(port) = receiver.port else { return NO };
                let dst = glance.key.endpoint(side.other()).0;
                let may_receive = || snapshot.interfaces.get(to).is_some_and(|i| i.may_receive_for(dst));
                let is_receivers = entry.is_tracked(side.other())
                    && !receiver.guarded
                    && receiver.mac == glance.destination
                    && glance.sender.is_none_or(|sender| sender.clock == receiver.clock)
                    && (receiver.has_first(glance.key.family(), dst) || may_receive());
                if !is_receivers {
                    return NO;
                }
                (Delivery { port, vlan: VlanEdit::Keep, receiver: to }, &receiver.timeouts)
            }
            None => {
                let (vpc, locations) = (glance.key.vpc(), &engine.locations);
                match (glance.sender, known_uplink(snapshot, locations, *now, vpc, glance.destination)) {
                    (Some(sender), Some(delivery)) if !to.is_some() => (delivery, &sender.timeouts),
                    _ => return NO,
                }
            }
        };
        if glance.key.protocol() == protocol::TCP {
            // Without ACK it may begin another connection; an error has changed nothing.
            if !glance.flags.contains(TcpFlags::ACK)
                || entry.advance_tcp(side, &glance.tcp(), *now, timeouts).is_err()
            {
                return NO;
            }
        } else {
            entry.advance_stateless(side, *now, timeouts);
        }
        if let Some(sender) = glance.sender {
            engine.counters.sent(sender.id, glance.bytes);
        }
        engine.counters.delivered(to, glance.bytes);
        out.set(glance.index.into(), Outcome::Send(delivery));
        Settled::ByState
    }

    /// Settles a packet between two interfaces that has no connection, if rules
    /// permit it without tracking or refuse it without a trace. False: it is not
    /// settled.
    #[inline(never)]
    pub(super) fn settle_by_rules(&mut self, glance: &Glance<'a>) -> bool {
        let Turn { engine, snapshot, out, .. } = self;
        let (key, side) = (&glance.key, glance.side);
        let [(src, src_port), (dst, dst_port)] = [key.endpoint(side), key.endpoint(side.other())];
        let Some(from) = glance.sender.filter(|from| !from.guarded) else { return false };
        let Some(sender) = snapshot.interfaces.get(from.id) else { return false };
        let Some(receiver) = snapshot.interfaces.by_mac(key.vpc(), glance.destination) else { return false };
        let Some(port) = receiver.port else { return false };
        if receiver.id == from.id || receiver.border.is_some() || !receiver.may_receive_for(dst) {
            return false;
        }
        let service = |port| Service::new(key.family(), key.protocol(), port);
        let query = |remote| Query {
            vpc: key.vpc(),
            family: key.family(),
            service: service(dst_port),
            reply_service: Some(service(src_port)),
            remote,
        };
        let outbound = sender.judge(&snapshot.tables, Direction::Outbound, &query(dst));
        let inbound = match outbound {
            Judgement::Untracked => receiver.judge(&snapshot.tables, Direction::Inbound, &query(src)),
            other => other,
        };
        let (reason, at) = match (outbound, inbound) {
            (Judgement::Untracked, Judgement::Untracked) => {
                engine.counters.table_misses.add(1);
                engine.counters.pass(PassClass::Untracked, from.id, glance.bytes);
                engine.counters.delivered(receiver.id, glance.bytes);
                let delivery = Delivery { port, vlan: VlanEdit::Keep, receiver: receiver.id };
                out.pass(glance.index.into(), Outcome::Send(delivery), PassClass::Untracked);
                return true;
            }
            (Judgement::Untracked, Judgement::Denied) => (DropReason::InboundDenied, receiver.id),
            (Judgement::Denied, _) => (DropReason::OutboundDenied, from.id),
            _ => return false,
        };
        engine.counters.table_misses.add(1);
        engine.counters.dropped(reason, at);
        out.set(glance.index.into(), Outcome::Drop(reason));
        true
    }

    /// All that the general stages need of a plain packet.
    pub(super) fn whole(&self, glance: &Glance<'a>, arrivals: &[Arrival<'_>]) -> Work<'a> {
        let &Glance { key, hash, side, bytes, destination, source, .. } = glance;
        let (src, dst) = (key.endpoint(side).0, key.endpoint(side.other()).0);
        let tcp = glance.tcp();
        let transport = match key.protocol() {
            protocol::TCP => Transport::Tcp(tcp),
            _ => Transport::Udp(Udp { src_port: tcp.src_port, dst_port: tcp.dst_port }),
        };
        let index = usize::from(glance.index);
        let sender = glance.sender.and_then(|endpoint| self.snapshot.interfaces.get(endpoint.id));
        let link = Link {
            index,
            port: arrivals[index].port,
            bytes,
            tagged: false,
            vpc: key.vpc(),
            sender,
            source,
            destination,
        };
        Work { link, key, hash, side, ip: Ip { src, dst, protocol: key.protocol(), transport } }
    }
}

impl Glance<'_> {
    /// The segment, if it is TCP.
    #[inline(always)]
    fn tcp(&self) -> Tcp {
        let Glance { seq, ack, payload, flags, side, .. } = *self;
        let (src_port, dst_port) = (self.key.endpoint(side).1, self.key.endpoint(side.other()).1);
        Tcp { src_port, dst_port, seq, ack, flags, payload }
    }
}
