use std::net::IpAddr;

use super::{Kind, Packet, Policy, Segment};

/// An endpoint: an address and a port.
pub type End = (IpAddr, u16);

/// What a flow is known by: its protocol and both ends, in order. Other
/// protocols than TCP, UDP and ICMP have no ports (S47); a ping is known by who
/// asks with which identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Flow {
    /// Protocol number.
    pub protocol: u8,
    /// The lower end, then the higher.
    pub ends: [End; 2],
}

impl Flow {
    /// The flow that a packet belongs to.
    pub fn of(packet: &Packet) -> Flow {
        let mut ends = [(packet.src, packet.sport), (packet.dst, packet.dport)];
        ends.sort();
        Flow { protocol: packet.protocol(), ends }
    }
}

/// A connection, from the first packet on.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Who sent the first packet; for a SYN that was not seen, who was answered.
    originator: End,
    state: &'static str,
    /// Who has sent a FIN.
    finished: Vec<End>,
    /// Each end: its interface, if it is one, and until when it remembers.
    ends: Vec<(End, Option<usize>, Option<u32>)>,
}

fn source(packet: &Packet) -> End {
    (packet.src, packet.sport)
}

fn destination(packet: &Packet) -> End {
    (packet.dst, packet.dport)
}

impl Connection {
    /// What a first packet opens. A reset or FIN opens nothing (D30).
    pub fn open(packet: &Packet, interfaces: [Option<usize>; 2]) -> Option<Connection> {
        let (originator, state) = match packet.kind {
            Kind::Tcp(Segment::Syn) => (source(packet), "syn_sent"),
            Kind::Tcp(Segment::SynAck) => (destination(packet), "syn_received"),
            Kind::Tcp(Segment::Ack) => (source(packet), "picked_up"),
            Kind::Tcp(Segment::Fin | Segment::Reset) => return None,
            Kind::Udp => (source(packet), "udp_request"),
            Kind::Ping | Kind::Pong => (source(packet), "icmp"),
            Kind::Other(_) => (source(packet), "other"),
        };
        let ends = vec![(source(packet), interfaces[0], None), (destination(packet), interfaces[1], None)];
        Some(Connection { originator, state, finished: vec![], ends })
    }

    /// What it has come to.
    pub fn state(&self) -> &'static str {
        self.state
    }

    /// Whether any end remembers it.
    pub fn is_remembered(&self, now: u32) -> bool {
        self.ends.iter().any(|(_, _, until)| until.is_some_and(|until| now < until))
    }

    fn end(&self, packet: &Packet, address: IpAddr) -> Option<&(End, Option<usize>, Option<u32>)> {
        let wanted = if address == packet.src { source(packet) } else { destination(packet) };
        self.ends.iter().find(|(end, ..)| *end == wanted && end.0 == address)
    }

    /// The interface at the end of a packet that has this address.
    pub fn end_at(&self, packet: &Packet, address: IpAddr) -> Option<usize> {
        self.end(packet, address)?.1
    }

    /// Whether that end remembers it: only then a packet passes it by state.
    pub fn is_tracked_at(&self, packet: &Packet, address: IpAddr, now: u32) -> bool {
        self.end(packet, address).is_some_and(|(_, _, until)| until.is_some_and(|until| now < until))
    }

    /// Whether the ends are still the interfaces they were.
    pub fn is_between(&self, packet: &Packet, interfaces: [Option<usize>; 2]) -> bool {
        [packet.src, packet.dst].map(|address| self.end_at(packet, address)) == interfaces
    }

    /// Whether a packet opens another connection between the same ends: a SYN
    /// where the last is over or was seen from one side only.
    pub fn is_reopened_by(&self, packet: &Packet) -> bool {
        packet.kind == Kind::Tcp(Segment::Syn) && matches!(self.state, "closed" | "picked_up")
    }

    /// Takes note of a packet; `newly` says at which ends it is tracked from now on.
    pub fn hear(&mut self, packet: &Packet, newly: [bool; 2], first: bool, now: u32, policy: &Policy) {
        let before = self.state;
        let ends_soon = !first && self.change(packet);
        // What is over stays over: late packets do not keep it, nor does who joins late.
        let over = !first && (before, self.state) == ("closed", "closed");
        let last = self.ends.iter().filter_map(|(_, _, until)| *until).max();
        for ((end, interface, until), newly) in self.ends_of(packet).into_iter().zip(newly) {
            let at = self.ends.iter().position(|(known, ..)| *known == end);
            let (Some(at), Some(interface)) = (at, interface) else { continue };
            let seconds = seconds(self.state, policy.udp_timeouts[interface]);
            let afresh = now + if ends_soon { seconds.min(60) } else { seconds };
            let remembers = until.is_some_and(|until| now < until);
            self.ends[at].2 = match (remembers, newly) {
                (false, false) => None,
                (true, _) if over => until,
                (false, true) if over => last,
                _ => Some(afresh),
            };
        }
    }

    fn ends_of(&self, packet: &Packet) -> Vec<(End, Option<usize>, Option<u32>)> {
        [packet.src, packet.dst].iter().filter_map(|address| self.end(packet, *address).copied()).collect()
    }

    /// The state after a packet; whether that announces an end that its receiver
    /// has not confirmed.
    fn change(&mut self, packet: &Packet) -> bool {
        let from_originator = source(packet) == self.originator;
        let finished = self.finished.contains(&source(packet));
        let (state, soon) = match (packet.kind, self.state, from_originator) {
            (Kind::Udp, "udp_request", false) => ("udp_replied", false),
            (Kind::Udp, "udp_replied", true) => ("udp_stream", false),
            (Kind::Ping | Kind::Pong, "icmp", false) => ("icmp_replied", false),
            (Kind::Tcp(_), "closed", _) => ("closed", false),

            // Who opened cannot end what was not answered; who is asked can refuse.
            (Kind::Tcp(Segment::Reset), "syn_sent" | "syn_received", true) => (self.state, false),
            // Its receiver may believe it or not, once a FIN was sent.
            (Kind::Tcp(Segment::Reset), _, _) if finished => (self.state, true),
            (Kind::Tcp(Segment::Reset), _, _) => ("closed", false),

            (Kind::Tcp(Segment::SynAck), "syn_sent", false) => ("syn_received", false),
            (Kind::Tcp(Segment::Ack), "syn_received", true) => ("established", false),
            (Kind::Tcp(Segment::Ack), "picked_up", false) => ("established", false),
            (Kind::Tcp(Segment::Fin), "syn_sent", _) => ("syn_sent", false),
            (Kind::Tcp(Segment::Fin), "syn_received", true) => ("established", true),
            (Kind::Tcp(Segment::Fin), "picked_up", false) => ("established", true),
            (Kind::Tcp(Segment::Fin), state, _) => (state, true),
            (_, state, _) => (state, false),
        };
        if packet.kind == Kind::Tcp(Segment::Fin) && soon {
            self.finished.push(source(packet));
        }
        // The server begins anew.
        if packet.kind == Kind::Tcp(Segment::SynAck) && matches!(self.state, "syn_sent" | "syn_received") {
            self.finished.retain(|end| *end != source(packet));
        }
        self.state = state;
        soon
    }
}

/// How long an end remembers a connection in this state (D18).
fn seconds(state: &str, (udp, udp_stream): (u32, u32)) -> u32 {
    match state {
        "syn_sent" | "syn_received" => 30,
        "picked_up" => 600,
        "established" => 432_000,
        "closed" => 10,
        "udp_request" | "udp_replied" => udp,
        "udp_stream" => udp_stream,
        "icmp" | "icmp_replied" => 30,
        _ => 600,
    }
}
