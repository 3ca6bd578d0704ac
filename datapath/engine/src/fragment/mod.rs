//! Virtual reassembly: what is known of packets that come in pieces, so that
//! every piece is judged by the ports of its first (D27).
//!
//! Nothing is put together. A fragment that comes before its first waits, in
//! whatever order; when the first has come, those that waited and those still
//! to come are of its flow and are judged one by one, as packets of their own.
//! What overlaps is dropped, so that no receiver can put together something
//! else than was judged (RFC 5722, RFC 1858).
//!
//! # Who does it
//! All fragments between two addresses meet at one worker, which their
//! addresses choose since most have no ports. From there they go on to the owner
//! of their flow, with the ports noted beside them, the first in front: rings
//! keep the order.
//!
//! # Bounds
//! [`PACKETS`] packets in pieces at a time, [`WAITING`] fragments that wait for
//! their first, [`RANGES`] gaps in a packet, [`TIMEOUT`] for the whole of it. One
//! interface may have a quarter of each, and so may the uplinks together: what
//! a flood of fragments uses up is its sender's own. At a bound the newcomer is
//! dropped (`fragment_full`), never one that waits; what waits too long is
//! dropped as `fragment_orphan`.
//!
//! Rejected: putting packets together and cutting them up again (copies, and
//! other sizes than the sender chose); letting later fragments pass unjudged
//! (they carry data past a closed port into a host that has the first from
//! elsewhere); no waiting (the first often comes last from stacks that send the
//! tail first).

mod ranges;
#[cfg(test)]
mod tests;

use crate::addr::Family;
use crate::flow::{FlowHash, FlowHasher, FlowKey, Side};
use crate::ids::{InterfaceId, VpcIndex};
use crate::packet::{Fragment, Ip, protocol};
use crate::time::{Tick, Ticks};
use crate::verdict::DropReason;
use ranges::Ranges;

pub use ranges::RANGES;

/// Packets in pieces that are known at a time.
pub const PACKETS: usize = 4096;

/// Fragments that wait for their first at a time.
pub const WAITING: usize = 512;

/// The share that one interface may have of either, or all uplinks together.
pub const SHARE: usize = 4;

/// From a packet's first piece to come until its last, and how long one may
/// wait. Hosts wait 30 to 60 seconds (RFC 8200, 4.5); what is on its way between
/// two hosts of a switch is reordered by microseconds.
pub const TIMEOUT: Ticks = Ticks::from_secs(5);

/// Packets whose place in the table is the same at first; a lookup reads these.
const WAYS: usize = 8;

/// What a first fragment tells about the others of its packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FragmentOf {
    /// The protocol number, behind all extension headers.
    pub protocol: u8,
    /// Source and destination port, by the convention of [`FlowKey`].
    pub ports: (u16, u16),
}

impl FragmentOf {
    /// As a number other than 0, to be noted beside a packet.
    pub fn to_bits(self) -> u64 {
        let (src, dst) = self.ports;
        1 << 63 | u64::from(self.protocol) << 32 | u64::from(src) << 16 | u64::from(dst)
    }

    /// From such a number; `None` for 0.
    pub fn from_bits(bits: u64) -> Option<FragmentOf> {
        let ports = ((bits >> 16) as u16, bits as u16);
        (bits != 0).then_some(FragmentOf { protocol: (bits >> 32) as u8, ports })
    }
}

/// A place where a fragment waits, below [`WAITING`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitingSlot(pub u16);

/// What becomes of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Its flow is known.
    Of(FragmentOf),
    /// It waits here for its first.
    Wait(WaitingSlot),
    /// It is dropped.
    Refused(DropReason),
}

/// Which packet a fragment belongs to (RFC 791, 3.2; RFC 8200, 4.5), and who sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PacketId {
    key: FlowKey,
    side: Side,
    sender: InterfaceId,
}

impl PacketId {
    pub fn of(vpc: VpcIndex, ip: &Ip, fragment: &Fragment, sender: InterfaceId) -> PacketId {
        // Addresses, protocol and identification make a key like ports do.
        let (low, high) = (fragment.id as u16, (fragment.id >> 16) as u16);
        let (key, side) = FlowKey::new(vpc, common_protocol(ip), (ip.src, low), (ip.dst, high));
        PacketId { key, side, sender }
    }
}

/// The protocol that all fragments of a packet name: in IPv6 the later ones name
/// what follows their own header, which may be another one than the first's last.
fn common_protocol(ip: &Ip) -> u8 {
    match ip.src.family() {
        Family::V4 => ip.protocol,
        Family::V6 => protocol::IPV6_FRAGMENT,
    }
}

/// What chooses the worker at which all fragments between two addresses meet.
pub(crate) fn meeting_point(vpc: VpcIndex, ip: &Ip) -> FlowKey {
    FlowKey::new(vpc, common_protocol(ip), (ip.src, 0), (ip.dst, 0)).0
}

/// A packet in pieces.
#[derive(Clone, Copy)]
struct Packet {
    id: PacketId,
    /// Known when the first fragment has come.
    of: Option<FragmentOf>,
    ranges: Ranges,
    deadline: Tick,
    /// The fragments that wait, as a list through `Fragments::next`.
    first_waiting: Option<WaitingSlot>,
    last_waiting: Option<WaitingSlot>,
}

/// What one sender uses.
#[derive(Clone, Copy, Default)]
struct Used {
    packets: u16,
    waiting: u16,
}

/// A fragment that waits.
#[derive(Clone, Copy, Default)]
struct Waiting {
    next: Option<WaitingSlot>,
}

/// The packets in pieces that meet at one worker.
pub struct Fragments {
    packets: Box<[Option<Packet>]>,
    /// How many of them there are.
    open: usize,
    waiting: Box<[Waiting]>,
    free: Vec<WaitingSlot>,
    /// Free again when the worker has emptied them.
    retired: Vec<WaitingSlot>,
    released: Vec<(WaitingSlot, FragmentOf)>,
    discarded: Vec<WaitingSlot>,
    interfaces: Box<[Used]>,
    uplinks: Used,
    hand: usize,
}

impl Fragments {
    /// For interfaces in slots below `interface_slots`. All memory is allocated here.
    pub fn new(interface_slots: usize) -> Fragments {
        Fragments {
            packets: vec![None; PACKETS].into(),
            open: 0,
            waiting: vec![Waiting::default(); WAITING].into(),
            free: (0..WAITING as u16).rev().map(WaitingSlot).collect(),
            retired: Vec::with_capacity(WAITING),
            released: Vec::with_capacity(WAITING),
            discarded: Vec::with_capacity(WAITING),
            interfaces: vec![Used::default(); interface_slots].into(),
            uplinks: Used::default(),
            hand: 0,
        }
    }

    /// Fragments that wait for their first.
    pub fn waiting(&self) -> usize {
        WAITING - self.free.len() - self.retired.len()
    }

    /// Packets in pieces that are known.
    pub fn len(&self) -> usize {
        self.packets.iter().flatten().count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.packets.iter().all(Option::is_none)
    }

    /// Whether any have been released or discarded since they were last taken.
    #[inline]
    pub fn is_waiting_over(&self) -> bool {
        !(self.released.is_empty() && self.discarded.is_empty())
    }

    /// Takes those that waited and whose first has come, in the order they came.
    pub fn released(&mut self) -> impl Iterator<Item = (WaitingSlot, FragmentOf)> {
        self.released.drain(..)
    }

    /// Takes those that waited too long; they are counted already.
    pub fn discarded(&mut self) -> impl Iterator<Item = WaitingSlot> {
        self.discarded.drain(..)
    }

    /// To be called when the worker has emptied all places released or
    /// discarded so far: only then they may be given to others.
    pub fn reuse(&mut self) {
        self.free.append(&mut self.retired);
    }

    /// Takes note of a fragment. `lost` is told the sender of each fragment
    /// that has waited too long.
    pub(crate) fn piece(
        &mut self,
        now: Tick,
        hasher: &FlowHasher,
        id: PacketId,
        fragment: &Fragment,
        of: Option<FragmentOf>,
        lost: &mut dyn FnMut(InterfaceId),
    ) -> Piece {
        let set = Self::set(hasher.hash(&id.key));
        self.expire(now, set, lost);
        let at = match self.find(set, &id).or_else(|| self.open(now, set, id)) {
            Some(at) => at,
            None => return Piece::Refused(DropReason::FragmentFull),
        };
        let Some(packet) = &mut self.packets[at] else { return Piece::Refused(DropReason::FragmentFull) };
        let ranges = match packet.ranges.with(fragment) {
            Ok(ranges) => ranges,
            Err(reason) => return self.refused(at, reason),
        };
        let piece = match packet.of.or(of) {
            Some(known) => {
                packet.of = Some(known);
                Piece::Of(known)
            }
            None => match self.wait(at) {
                Some(slot) => Piece::Wait(slot),
                None => return self.refused(at, DropReason::FragmentFull),
            },
        };
        if let Some(packet) = &mut self.packets[at] {
            packet.ranges = ranges;
        }
        if let Piece::Of(of) = piece {
            self.release(at, of);
            if ranges.is_whole() {
                self.close(at);
            }
        }
        piece
    }

    /// Forgets what has waited too long among some packets; to be called every few turns.
    pub(crate) fn sweep(&mut self, now: Tick, lost: &mut dyn FnMut(InterfaceId)) {
        if self.open > 0 {
            self.expire(now, self.hand, lost);
            self.hand = (self.hand + WAYS) % PACKETS;
        }
    }

    /// Where the packets with this hash begin.
    fn set(hash: FlowHash) -> usize {
        hash.0 as usize % (PACKETS / WAYS) * WAYS
    }

    fn find(&self, set: usize, id: &PacketId) -> Option<usize> {
        (set..set + WAYS).find(|at| self.packets[*at].as_ref().is_some_and(|packet| packet.id == *id))
    }

    fn open(&mut self, now: Tick, set: usize, id: PacketId) -> Option<usize> {
        let at = (set..set + WAYS).find(|at| self.packets[*at].is_none())?;
        let used = self.used(id.sender).filter(|used| usize::from(used.packets) < PACKETS / SHARE)?;
        used.packets += 1;
        let (ranges, deadline) = (Ranges::default(), now + TIMEOUT);
        let packet = Packet { id, of: None, ranges, deadline, first_waiting: None, last_waiting: None };
        self.packets[at] = Some(packet);
        self.open += 1;
        Some(at)
    }

    /// A packet that was opened for a fragment that is refused is forgotten.
    fn refused(&mut self, at: usize, reason: DropReason) -> Piece {
        if self.packets[at].as_ref().is_some_and(|packet| packet.ranges.is_empty()) {
            self.close(at);
        }
        Piece::Refused(reason)
    }

    fn close(&mut self, at: usize) {
        let Some(packet) = self.packets[at].take() else { return };
        self.open -= 1;
        if let Some(used) = self.used(packet.id.sender) {
            used.packets -= 1;
        }
    }

    fn used(&mut self, sender: InterfaceId) -> Option<&mut Used> {
        if sender.is_some() { self.interfaces.get_mut(sender.slot()) } else { Some(&mut self.uplinks) }
    }

    /// A place at the end of a packet's list.
    fn wait(&mut self, at: usize) -> Option<WaitingSlot> {
        let sender = self.packets[at].as_ref()?.id.sender;
        let used = self.used(sender).filter(|used| usize::from(used.waiting) < WAITING / SHARE)?;
        used.waiting += 1;
        let Some(slot) = self.free.pop() else {
            if let Some(used) = self.used(sender) {
                used.waiting -= 1;
            }
            return None;
        };
        self.waiting[usize::from(slot.0)] = Waiting::default();
        let packet = self.packets[at].as_mut()?;
        match packet.last_waiting.replace(slot) {
            None => packet.first_waiting = Some(slot),
            Some(last) => self.waiting[usize::from(last.0)].next = Some(slot),
        }
        Some(slot)
    }

    /// Empties a packet's list, in order.
    fn take_waiting(&mut self, at: usize, mut each: impl FnMut(&mut Fragments, WaitingSlot)) {
        let Some(packet) = self.packets[at].as_mut() else { return };
        let sender = packet.id.sender;
        packet.last_waiting = None;
        let mut next = packet.first_waiting.take();
        while let Some(slot) = next {
            next = self.waiting[usize::from(slot.0)].next;
            if let Some(used) = self.used(sender) {
                used.waiting -= 1;
            }
            self.retired.push(slot);
            each(self, slot);
        }
    }

    fn release(&mut self, at: usize, of: FragmentOf) {
        self.take_waiting(at, |all, slot| all.released.push((slot, of)));
    }

    /// Forgets the packets of a set whose time has come.
    fn expire(&mut self, now: Tick, set: usize, lost: &mut dyn FnMut(InterfaceId)) {
        for at in set..set + WAYS {
            let Some(packet) = self.packets[at].as_ref().filter(|packet| packet.deadline <= now) else {
                continue;
            };
            let sender = packet.id.sender;
            self.take_waiting(at, |all, slot| {
                all.discarded.push(slot);
                lost(sender);
            });
            self.close(at);
        }
    }
}
