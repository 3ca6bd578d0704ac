use super::Timeouts;
use super::tcp::{self, Event, Who};
use crate::flow::{FlowKey, Side};
use crate::ids::InterfaceId;
use crate::packet::{Ip, TcpFlags, Transport};
use crate::time::Tick;
use crate::verdict::DropReason;

/// What a connection has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// TCP: opened by one side.
    SynSent,
    /// TCP: answered by the other.
    SynReceived,
    /// TCP: open, or picked up in mid-stream (D30).
    Established,
    /// TCP: one side has sent FIN.
    FinWait,
    /// TCP: both have.
    Closing,
    /// TCP: over, or reset.
    Closed,
    /// UDP: never answered.
    UdpRequest,
    /// UDP: answered once.
    UdpReplied,
    /// UDP: asked again after an answer.
    UdpStream,
    /// ICMP: never answered.
    Icmp,
    /// ICMP: answered.
    IcmpReplied,
    /// Any other protocol.
    Other,
}

impl State {
    /// Whether the connection may be given up when the table is full: no end
    /// has shown yet that it wants it.
    #[inline]
    pub const fn is_half_open(self) -> bool {
        matches!(self, State::SynSent | State::SynReceived | State::UdpRequest | State::Icmp | State::Closed)
    }

    /// The stable name.
    pub const fn label(self) -> &'static str {
        match self {
            State::SynSent => "syn_sent",
            State::SynReceived => "syn_received",
            State::Established => "established",
            State::FinWait => "fin_wait",
            State::Closing => "closing",
            State::Closed => "closed",
            State::UdpRequest => "udp_request",
            State::UdpReplied => "udp_replied",
            State::UdpStream => "udp_stream",
            State::Icmp => "icmp",
            State::IcmpReplied => "icmp_replied",
            State::Other => "other",
        }
    }
}

/// One connection: both directions, both ends. Plain data in one cache line, so
/// that a table may lie in memory that outlasts the process.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Entry {
    key: FlowKey,
    /// The interface at each side; `NONE` where the end is not on this switch.
    ends: [InterfaceId; 2],
    /// TCP: the next sequence number of each side, as far as seen.
    next_seq: [u32; 2],
    deadline: Tick,
    state: State,
    flags: u8,
    /// The table's note of how many groups from its own it lies.
    displacement: u8,
}

const _: () = assert!(size_of::<Entry>() == 64 && align_of::<Entry>() == 64);

/// Bit 0 and 1: tracked at the low and high side.
const TRACKED: u8 = 1;
/// Bit 2: the high side sent the first packet.
const ORIGINATOR: u8 = 1 << 2;
/// Bit 3 and 4: the low and high side have sent FIN.
const FIN: u8 = 1 << 3;
/// Bit 5 and 6: `next_seq` of the low and high side has been seen.
const SEEN: u8 = 1 << 5;

impl Entry {
    /// The connection that a first packet opens, tracked nowhere yet. `None` if
    /// this packet opens none: a TCP reset or FIN (D30), an ICMP error, a fragment.
    pub fn open(key: FlowKey, originator: Side, ip: &Ip, now: Tick, timeouts: &Timeouts) -> Option<Entry> {
        let state = match ip.transport {
            Transport::Tcp(tcp) => match Event::of(tcp.flags) {
                Event::Rst | Event::Fin => return None,
                Event::Syn => State::SynSent,
                Event::SynAck => State::SynReceived,
                Event::Ack => State::Established,
            },
            Transport::Udp(_) => State::UdpRequest,
            Transport::Query(_) | Transport::Icmp { .. } => State::Icmp,
            Transport::Other => State::Other,
            Transport::Error(_) | Transport::NeighbourDiscovery(_) | Transport::Fragment(_) => return None,
        };
        let mut entry = Entry {
            key,
            ends: [InterfaceId::NONE; 2],
            next_seq: [0; 2],
            deadline: now + timeouts.of(state),
            state,
            flags: if originator == Side::High { ORIGINATOR } else { 0 },
            displacement: 0,
        };
        if let Transport::Tcp(tcp) = ip.transport {
            entry.next_seq[originator.index()] = tcp::sequence_end(&tcp);
            entry.flags |= SEEN << originator.index();
            if tcp.flags.contains(TcpFlags::ACK) {
                entry.next_seq[originator.other().index()] = tcp.ack;
                entry.flags |= SEEN << originator.other().index();
            }
            // Who answers a SYN nobody saw is not who opened the connection.
            if state == State::SynReceived {
                entry.flags ^= ORIGINATOR;
            }
        }
        Some(entry)
    }

    /// Takes note of a packet of this connection from `side`.
    ///
    /// # Errors
    /// `InvalidTcp` for a reset that its sender could not have sent; nothing changes.
    #[inline]
    pub fn advance(&mut self, side: Side, ip: &Ip, now: Tick, timeouts: &Timeouts) -> Result<(), DropReason> {
        let by_originator = side == self.originator();
        let state = match ip.transport {
            Transport::Tcp(tcp) => {
                let who = if by_originator { Who::Originator } else { Who::Responder };
                let event = Event::of(tcp.flags);
                let (own, other) = (side.index(), side.other().index());
                if event == Event::Rst {
                    let own_next = (self.flags & SEEN << own != 0).then_some(self.next_seq[own]);
                    if !tcp::reset_is_acceptable(self.state, who, &tcp, own_next, self.next_seq[other]) {
                        return Err(DropReason::InvalidTcp);
                    }
                }
                // The same ports again after the end: a new connection in the old one's place.
                if event == Event::Syn
                    && matches!(self.state, State::Closed | State::Closing)
                    && let Some(fresh) = Entry::open(self.key, side, ip, now, timeouts)
                {
                    let tracked = self.flags & (TRACKED | TRACKED << 1);
                    let (ends, displacement) = (self.ends, self.displacement);
                    *self = Entry { ends, displacement, flags: fresh.flags | tracked, ..fresh };
                    return Ok(());
                }
                if event == Event::Fin {
                    self.set_flag(FIN << own);
                }
                if event != Event::Rst {
                    self.observe_sequence(side, tcp::sequence_end(&tcp));
                }
                let both = self.flags & FIN != 0 && self.flags & FIN << 1 != 0;
                tcp::next(self.state, who, event, both)
            }
            _ => match (self.state, by_originator) {
                (State::UdpRequest, false) => State::UdpReplied,
                (State::UdpReplied, true) => State::UdpStream,
                (State::Icmp, false) => State::IcmpReplied,
                (state, _) => state,
            },
        };
        if state != self.state {
            self.state = state;
        }
        // What is over stays over: late packets do not keep it alive.
        let deadline = now + timeouts.of(state);
        if deadline != self.deadline && (state != State::Closed || deadline < self.deadline) {
            self.deadline = deadline;
        }
        Ok(())
    }

    /// Raises the next sequence number of a side; written only if it moved.
    #[inline]
    fn observe_sequence(&mut self, side: Side, end: u32) {
        let seen = SEEN << side.index();
        let ahead = end.wrapping_sub(self.next_seq[side.index()]);
        if self.flags & seen == 0 || (ahead != 0 && ahead < 1 << 31) {
            self.next_seq[side.index()] = end;
            self.set_flag(seen);
        }
    }

    #[inline]
    fn set_flag(&mut self, flag: u8) {
        if self.flags & flag == 0 {
            self.flags |= flag;
        }
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

    /// Records the interface at this side.
    pub const fn set_end(&mut self, side: Side, interface: InterfaceId) {
        self.ends[side as usize] = interface;
    }

    /// Whether the end at this side lets the flow pass by state.
    #[inline]
    pub const fn is_tracked(&self, side: Side) -> bool {
        self.flags & TRACKED << side as u8 != 0
    }

    /// Lets the flow pass the end at this side from now on.
    pub const fn set_tracked(&mut self, side: Side) {
        self.flags |= TRACKED << side as u8;
    }

    /// The side that opened the connection.
    #[inline]
    pub const fn originator(&self) -> Side {
        if self.flags & ORIGINATOR == 0 { Side::Low } else { Side::High }
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
        let nowhere = (crate::addr::Addr(0), 0);
        Entry {
            key: FlowKey::new(Default::default(), 0, nowhere, nowhere).0,
            ends: [InterfaceId::NONE; 2],
            next_seq: [0; 2],
            deadline: Tick(0),
            state: State::Other,
            flags: 0,
            displacement: 0,
        }
    }
}
