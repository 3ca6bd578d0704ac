use super::tcp::{self, Who};
use super::{State, Timeouts};
use crate::flow::{FlowKey, Side};
use crate::ids::InterfaceId;
use crate::packet::{Ip, Tcp, TcpFlags, Transport};
use crate::time::Tick;
use crate::verdict::DropReason;

/// One connection: both directions, both ends. Plain data in one cache line, so
/// that a table may lie in memory that outlasts the process.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Entry {
    key: FlowKey,
    /// The interface at each side; `NONE` where the end is not on this switch.
    ends: [InterfaceId; 2],
    /// TCP, by side: the sequence number that the other side expects next of it.
    /// With [`FIN_CLAIMED`] the end of the FIN that is not acknowledged yet.
    /// UDP, by side: the generation whose rules have last refused at the other end what it
    /// sends, or none so far; its lower bits, of which nobody lives long enough to see two
    /// alike.
    pub(super) expected: [u32; 2],
    deadline: Tick,
    pub(super) state: State,
    flags: u8,
    /// The table's note of how many groups from its own it lies.
    displacement: u8,
    /// Whether the last packet announced the connection's end, which shortened its life.
    ends_soon: bool,
}

const _: () = assert!(size_of::<Entry>() == 64 && align_of::<Entry>() == 64);
const _: () = assert!(std::mem::offset_of!(Entry, key) == 0 && std::mem::offset_of!(Entry, ends_soon) == 63);

// Flags of a side are two bits each, the low side's first.
/// The side lets the flow pass by state.
const TRACKED: u8 = 1;
/// The high side opened the connection.
const ORIGINATOR: u8 = 1 << 2;
/// The side has sent a FIN that the other has not acknowledged.
pub(super) const FIN_CLAIMED: u8 = 1 << 3;
/// The side has sent a FIN that the other has acknowledged.
pub(super) const FIN_DONE: u8 = 1 << 5;
/// The side that did not open the connection has sent something.
const REPLIED: u8 = 1 << 7;

/// Sides that let a flow pass by state, to be asked for together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracking(u8);

impl Tracking {
    /// Neither.
    pub const NONE: Tracking = Tracking(0);

    /// This side as well, if so.
    #[must_use]
    pub const fn and(self, side: Side, tracks: bool) -> Tracking {
        if tracks { Tracking(self.0 | TRACKED << side as u8) } else { self }
    }
}

impl Entry {
    /// The connection that a first packet opens, tracked nowhere yet. `None` if
    /// this packet opens none: a TCP reset or FIN (D30), a segment that is
    /// neither SYN nor ACK, an ICMP error, a fragment, neighbour discovery.
    pub fn open(key: FlowKey, originator: Side, ip: &Ip, now: Tick, timeouts: &Timeouts) -> Option<Entry> {
        let state = match &ip.transport {
            Transport::Tcp(tcp) => tcp::first(tcp.flags)?,
            Transport::Udp(_) => State::UdpRequest,
            Transport::Query(_) | Transport::Icmp { .. } => State::Icmp,
            Transport::Other => State::Other,
            Transport::Error(_) | Transport::NeighbourDiscovery(_) | Transport::Fragment(_) => return None,
        };
        let tcp = if let Transport::Tcp(tcp) = &ip.transport { Some(tcp) } else { None };
        Some(Entry::begin(key, originator, state, tcp, now, timeouts))
    }

    /// The connection that a packet opens which leads to this state; a segment, if
    /// it is TCP.
    #[inline]
    pub fn begin(
        key: FlowKey,
        originator: Side,
        state: State,
        tcp: Option<&Tcp>,
        now: Tick,
        timeouts: &Timeouts,
    ) -> Entry {
        // Who answers a SYN that nobody saw is not who opened the connection.
        let answers = state == State::SynReceived;
        let originator_is_high = (originator == Side::High) != answers;
        let mut entry = Entry {
            key,
            state,
            deadline: now + timeouts.of(state),
            flags: if originator_is_high { ORIGINATOR } else { 0 } | if answers { REPLIED } else { 0 },
            ..Entry::empty()
        };
        if let Some(tcp) = tcp {
            entry.start(originator, tcp);
        }
        entry
    }

    /// Whether this packet begins another connection between the same endpoints:
    /// a SYN where the last connection is over (a port used again), was never
    /// seen to live, or is being asked for anew with another number. Rules have to be
    /// asked as for any first packet; if they permit it, the new connection
    /// takes the place of this one ([`Table::replace`](super::Table::replace)).
    #[inline]
    pub fn is_reopened_by(&self, side: Side, ip: &Ip) -> bool {
        let Transport::Tcp(tcp) = &ip.transport else { return false };
        tcp.flags.contains(TcpFlags::SYN)
            && tcp::first(tcp.flags) == Some(State::SynSent)
            && match self.state {
                State::Closed | State::PickedUp => true,
                State::SynSent | State::SynReceived => {
                    side == self.originator() && tcp.seq.wrapping_add(1) != self.expected[side.index()]
                }
                _ => false,
            }
    }

    /// Takes note of a packet of this connection from `side`. At most the
    /// packet's numbers and state are written, and the deadline once per tick.
    ///
    /// A packet that [reopens](Self::is_reopened_by) the connection restarts
    /// it here, at the ends that tracked it: for callers that do not want to
    /// ask the rules again.
    ///
    /// # Errors
    /// `InvalidTcp` for a reset that its receiver could not believe; nothing changes.
    #[inline]
    pub fn advance(&mut self, side: Side, ip: &Ip, now: Tick, timeouts: &Timeouts) -> Result<(), DropReason> {
        match &ip.transport {
            Transport::Tcp(_) if self.is_reopened_by(side, ip) => self.restart(side, ip, now, timeouts),
            Transport::Tcp(tcp) => self.advance_tcp(side, tcp, now, timeouts)?,
            // An error about the connection is not of it (D17); a later fragment
            // has no header to say anything by.
            Transport::Error(_) | Transport::Fragment(_) => {}
            _ => self.advance_stateless(side, now, timeouts),
        }
        Ok(())
    }

    /// [`Entry::advance`] by a TCP segment that does not reopen the connection.
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn advance_tcp(
        &mut self,
        side: Side,
        tcp: &Tcp,
        now: Tick,
        timeouts: &Timeouts,
    ) -> Result<(), DropReason> {
        let who = self.who(side);
        let event = self.hear(side, tcp)?;
        self.come_to(tcp::next(self.state, who, event), who, event.announces_end(), now, timeouts);
        Ok(())
    }

    /// [`Entry::advance`] by a packet of another protocol than TCP.
    #[inline]
    pub fn advance_stateless(&mut self, side: Side, now: Tick, timeouts: &Timeouts) {
        let who = self.who(side);
        self.come_to(next_without_tcp(self.state, who), who, false, now, timeouts);
    }

    /// [`Entry::advance_stateless`], where most packets of UDP change nothing but
    /// the time.
    #[inline(always)]
    pub fn advance_udp(&mut self, side: Side, now: Tick, timeouts: &Timeouts) {
        match self.state {
            State::UdpStream => self.live_until(now + timeouts.udp_stream),
            _ => self.advance_stateless(side, now, timeouts),
        }
    }

    /// [`Entry::advance_tcp`] by a segment that is nothing but data or an
    /// acknowledgement of an established connection, as most are; false, and
    /// nothing has changed, if it is anything else.
    #[inline(always)]
    pub fn advance_by_ack(&mut self, side: Side, tcp: &Tcp, now: Tick, timeouts: &Timeouts) -> bool {
        const ENDS: u8 = FIN_CLAIMED | FIN_CLAIMED << 1;
        let is_usual = self.state == State::Established
            && tcp.flags.0 & (TcpFlags::ACK | TcpFlags::SYN | TcpFlags::RST | TcpFlags::FIN).0
                == TcpFlags::ACK.0
            && self.flags & (ENDS | REPLIED) == REPLIED
            && !self.ends_soon;
        if is_usual {
            let expected = &mut self.expected[side.other().index()];
            if *expected != tcp.ack {
                *expected = tcp.ack;
            }
            self.live_until(now + timeouts.tcp_established);
        }
        is_usual
    }

    /// Notes that the rules of this generation refuse at the other end what a side sends.
    /// Rules do not change within a generation, so that they need not be asked again. Of UDP.
    #[inline]
    pub fn refuse(&mut self, side: Side, generation: u64) {
        if self.state.is_udp() {
            self.expected[side.index()] = generation as u32;
        }
    }

    /// Whether this was noted of a side, and of this generation.
    #[inline]
    pub fn is_refused(&self, side: Side, generation: u64) -> bool {
        self.state.is_udp() && self.expected[side.index()] == generation as u32 && generation as u32 != 0
    }

    #[inline(always)]
    fn live_until(&mut self, deadline: Tick) {
        if deadline != self.deadline {
            self.deadline = deadline;
        }
    }

    /// Takes note of what a packet from `who` has led to.
    #[inline]
    fn come_to(&mut self, state: State, who: Who, ends_soon: bool, now: Tick, timeouts: &Timeouts) {
        if who == Who::Responder && self.flags & REPLIED == 0 {
            self.flags |= REPLIED;
        }
        // What is over stays over: late packets do not keep it.
        if (self.state, state) == (State::Closed, State::Closed) {
            return;
        }
        let mut timeout = timeouts.of(state);
        if ends_soon {
            timeout = timeout.min(timeouts.closing);
        }
        if ends_soon != self.ends_soon {
            self.ends_soon = ends_soon;
        }
        if state != self.state {
            self.state = state;
        }
        self.live_until(now + timeout);
    }

    #[cold]
    fn restart(&mut self, side: Side, ip: &Ip, now: Tick, timeouts: &Timeouts) {
        if let Some(fresh) = Entry::open(self.key, side, ip, now, timeouts) {
            let tracked = self.flags & (TRACKED | TRACKED << 1);
            let (ends, displacement) = (self.ends, self.displacement);
            *self = Entry { ends, displacement, flags: fresh.flags | tracked, ..fresh };
        }
    }

    #[inline]
    pub(super) fn who(&self, side: Side) -> Who {
        if side == self.originator() { Who::Originator } else { Who::Responder }
    }

    /// Whether a flag of two bits is set for a side.
    #[inline]
    pub(super) const fn has(&self, side: Side, flag: u8) -> bool {
        self.flags & flag << side as u8 != 0
    }

    #[inline]
    pub(super) const fn set(&mut self, side: Side, flag: u8) {
        self.flags |= flag << side as u8;
    }

    #[inline]
    pub(super) const fn clear(&mut self, side: Side, flag: u8) {
        self.flags &= !(flag << side as u8);
    }

    /// The flow's key.
    #[inline]
    pub const fn key(&self) -> &FlowKey {
        &self.key
    }

    /// The interface at this side.
    #[inline]
    pub const fn end(&self, side: Side) -> InterfaceId {
        self.ends[side as usize]
    }

    /// The interfaces at a side and at the other, to be compared together.
    #[inline]
    pub const fn ends(&self, side: Side) -> [InterfaceId; 2] {
        [self.end(side), self.end(side.other())]
    }

    /// Records the interface at this side.
    pub const fn set_end(&mut self, side: Side, interface: InterfaceId) {
        self.ends[side as usize] = interface;
    }

    /// Whether the end at this side lets the flow pass by state.
    #[inline]
    pub const fn is_tracked(&self, side: Side) -> bool {
        self.has(side, TRACKED)
    }

    /// Whether all of these sides let the flow pass by state.
    #[inline]
    pub const fn has_tracking(&self, sides: Tracking) -> bool {
        self.flags & sides.0 == sides.0
    }

    /// Lets the flow pass the end at this side from now on. Of a connection in a
    /// table by [`Table::track`](super::Table::track) alone, which counts it.
    pub const fn set_tracked(&mut self, side: Side) {
        self.set(side, TRACKED);
    }

    /// Whether this interface is one of its ends and tracks it.
    pub fn is_tracked_by(&self, interface: InterfaceId) -> bool {
        Side::BOTH.iter().any(|side| self.end(*side) == interface && self.is_tracked(*side))
    }

    pub(super) const fn clear_tracked(&mut self, side: Side) {
        self.clear(side, TRACKED);
    }

    /// Whether an end has forgotten the connection while the other still has
    /// it: its own timeouts are shorter, and no packet came for as long (D18).
    /// `longest` are those that the connection lives by.
    #[inline]
    pub fn has_lapsed(&self, now: Tick, own: &Timeouts, longest: &Timeouts) -> bool {
        let ahead = longest.of(self.state).0.saturating_sub(own.of(self.state).0);
        !self.ends_soon && ahead > 0 && self.deadline.0.saturating_sub(ahead) <= now.0
    }

    /// The side that opened the connection.
    #[inline]
    pub const fn originator(&self) -> Side {
        if self.flags & ORIGINATOR == 0 { Side::Low } else { Side::High }
    }

    /// Whether the side that did not open it has sent something.
    #[inline]
    pub const fn replied(&self) -> bool {
        self.flags & REPLIED != 0
    }

    /// What it has come to.
    #[inline]
    pub const fn state(&self) -> State {
        self.state
    }

    /// When it is forgotten unless a packet comes.
    #[inline]
    pub const fn deadline(&self) -> Tick {
        self.deadline
    }

    /// Whether that time has come.
    #[inline]
    pub fn is_expired(&self, now: Tick) -> bool {
        self.deadline <= now
    }

    pub(super) const fn displacement(&self) -> u8 {
        self.displacement
    }

    pub(super) const fn set_displacement(&mut self, groups: u8) {
        self.displacement = groups;
    }

    /// What an empty slot holds: equal to no packet's key, long expired.
    pub(super) fn empty() -> Entry {
        Entry {
            key: FlowKey::NONE,
            ends: [InterfaceId::NONE; 2],
            expected: [0; 2],
            deadline: Tick(0),
            state: State::Other,
            flags: 0,
            displacement: 0,
            ends_soon: false,
        }
    }
}

/// The state after a packet of a protocol that has none of its own.
#[inline]
fn next_without_tcp(state: State, who: Who) -> State {
    match (state, who) {
        (State::UdpRequest, Who::Responder) => State::UdpReplied, // the first answer
        (State::UdpReplied, Who::Originator) => State::UdpStream, // more than one exchange
        (State::Icmp, Who::Responder) => State::IcmpReplied,      // the answer
        (state, _) => state,                                      // more of the same
    }
}

#[cfg(test)]
mod tests;
