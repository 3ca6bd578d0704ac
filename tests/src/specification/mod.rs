//! The executable specification: what the switch does to a packet, in as few
//! and as obvious words as possible. A map of connections, a linear walk over
//! rules, a clock that is set by hand. Written from the requirements; no code is
//! shared with the engine, and nothing here is fast.

mod connection;
mod rules;

use std::collections::HashMap;
use std::net::IpAddr;

pub use connection::{Connection, End, Flow};
pub use rules::{Group, Judgement, Peer, Policy, Rule, Service};

/// Which of a group's two rule sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Towards the interface.
    Inbound,
    /// Leaving it.
    Outbound,
}

impl Direction {
    /// The opposite one.
    pub fn other(self) -> Direction {
        match self {
            Direction::Inbound => Direction::Outbound,
            Direction::Outbound => Direction::Inbound,
        }
    }
}

/// A TCP segment by its role. Clients open; numbers are what honest ends would send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// The client asks.
    Syn,
    /// The server answers.
    SynAck,
    /// Data or an acknowledgement, of either.
    Ack,
    /// The sender has said all.
    Fin,
    /// The sender gives up; the number is exactly the one expected.
    Reset,
}

/// What a packet is, above IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// TCP.
    Tcp(Segment),
    /// UDP.
    Udp,
    /// Echo request.
    Ping,
    /// Echo reply.
    Pong,
    /// Another protocol.
    Other(u8),
}

/// A packet. Ports of a ping and a pong are (identifier, 0) and (0, identifier).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// What it is.
    pub kind: Kind,
}

impl Packet {
    /// The protocol number.
    pub fn protocol(&self) -> u8 {
        match self.kind {
            Kind::Tcp(_) => 6,
            Kind::Udp => 17,
            Kind::Ping | Kind::Pong if self.src.is_ipv4() => 1,
            Kind::Ping | Kind::Pong => 58,
            Kind::Other(number) => number,
        }
    }
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passes, counted in this class.
    Pass(&'static str),
    /// It is dropped, for this reason.
    Drop(&'static str),
}

/// How a packet stands with one of its two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// The end is beyond the uplink.
    Elsewhere,
    /// It belongs to a connection that the end tracks.
    ByState,
    /// The end's rules permit it, and the flow is to be tracked.
    Tracked,
    /// The end's rules permit it, each time anew.
    Untracked,
    /// The end refuses it.
    Refused(&'static str),
}

/// The switch.
#[derive(Clone, Debug)]
pub struct Switch {
    policy: Policy,
    connections: HashMap<Flow, Connection>,
    /// Seconds since the start.
    now: u32,
    /// TCP ports that were open to everyone, untracked, and no longer are: by
    /// interface, direction of the rule that went, and family (S45).
    revoked: Vec<(usize, Direction, bool, u16)>,
}

/// Every port that the scenarios use, to name sets of ports by listing them.
pub const PORTS: [u16; 6] = [22, 53, 80, 443, 5000, 5001];

impl Switch {
    /// A switch with its first policy.
    pub fn new(policy: Policy) -> Switch {
        Switch { policy, connections: HashMap::new(), now: 0, revoked: Vec::new() }
    }

    /// The policy in force.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Time passes.
    pub fn wait(&mut self, seconds: u32) {
        self.now += seconds;
        let now = self.now;
        self.connections.retain(|_, connection| connection.is_remembered(now));
    }

    /// Another policy comes into force. Connections stay (S46).
    pub fn push(&mut self, next: Policy) {
        for interface in 0..next.interfaces() {
            for direction in [Direction::Inbound, Direction::Outbound] {
                for v4 in [true, false] {
                    let once = |port: &u16| self.policy.is_untracked_tcp(interface, direction, v4, *port);
                    let gone = PORTS.into_iter().filter(once).map(|port| (interface, direction, v4, port));
                    self.revoked.extend(gone);
                }
            }
        }
        self.revoked.retain(|(interface, direction, v4, port)| {
            !next.permits_everyone(*interface, *direction, *v4, Service::Tcp(*port, *port))
        });
        self.policy = next;
    }

    /// The connections that are remembered: each with its state.
    pub fn connections(&self) -> Vec<(Flow, &'static str)> {
        self.connections.iter().map(|(flow, connection)| (*flow, connection.state())).collect()
    }

    /// Judges a packet: the sender's outbound rules and state, then the
    /// receiver's inbound rules and state (D21).
    pub fn judge(&mut self, packet: &Packet) -> Verdict {
        let flow = Flow::of(packet);
        let ends = [self.policy.owner(packet.src), self.policy.owner(packet.dst)];
        // A connection between other interfaces has nothing to say about these.
        let known = self.connections.get(&flow).filter(|c| c.is_between(packet, ends));
        let known = known.filter(|c| !c.is_reopened_by(packet));
        let is_known = known.is_some();
        let tracks = |address: IpAddr| known.is_some_and(|c| c.is_tracked_at(packet, address, self.now));
        let outbound = self.standing(ends[0], Direction::Outbound, packet, tracks(packet.src));
        let inbound = self.standing(ends[1], Direction::Inbound, packet, tracks(packet.dst));
        if let Standing::Refused(reason) = outbound {
            return Verdict::Drop(reason);
        }
        // The sender's side is tracked whatever the receiver says (D24).
        let newly = [outbound, inbound].map(|standing| standing == Standing::Tracked);
        let mut opened = newly.contains(&true);
        if opened && !is_known {
            match Connection::open(packet, ends) {
                Some(connection) => drop(self.connections.insert(flow, connection)),
                None => opened = false,
            }
        }
        if (opened || is_known)
            && let Some(connection) = self.connections.get_mut(&flow)
        {
            connection.hear(packet, newly, !is_known, self.now, &self.policy);
        }
        match (inbound, opened) {
            (Standing::Refused(reason), _) => Verdict::Drop(reason),
            (_, true) => Verdict::Pass("new_tracked"),
            _ if [outbound, inbound].contains(&Standing::ByState) => Verdict::Pass("established"),
            _ => Verdict::Pass("untracked"),
        }
    }

    /// Judges an ICMP error (type 3 or ICMPv6 1, code 0) from this host about a packet (D17).
    pub fn judge_error(&self, from: IpAddr, about: &Packet) -> Verdict {
        let connection = self.connections.get(&Flow::of(about));
        let mut class = "untracked";
        let ends = [
            // Who sends the error stands where the quoted packet was going.
            (from, Direction::Outbound, about.src, about.src, "outbound_denied"),
            (about.src, Direction::Inbound, from, about.dst, "inbound_denied"),
        ];
        for (address, direction, remote, quoted_remote, refusal) in ends {
            let Some(interface) = self.policy.owner(address) else { continue };
            let quoted_end = if direction == Direction::Inbound { about.src } else { about.dst };
            let tracked = connection.is_some_and(|c| {
                c.end_at(about, quoted_end) == Some(interface) && c.is_tracked_at(about, quoted_end, self.now)
            });
            let quoted = self.policy.judge(interface, direction.other(), quoted_remote, about);
            if tracked || quoted == Judgement::Untracked {
                class = "related";
            } else if !self.policy.permits_error(interface, direction, remote) {
                return Verdict::Drop(refusal);
            }
        }
        Verdict::Pass(class)
    }

    fn standing(&self, end: Option<usize>, direction: Direction, packet: &Packet, tracked: bool) -> Standing {
        let Some(interface) = end else { return Standing::Elsewhere };
        if tracked {
            return Standing::ByState;
        }
        let remote = if direction == Direction::Outbound { packet.dst } else { packet.src };
        match (self.policy.judge(interface, direction, remote, packet), direction) {
            (Judgement::Denied, Direction::Outbound) => Standing::Refused("outbound_denied"),
            (Judgement::Denied, Direction::Inbound) => Standing::Refused("inbound_denied"),
            (Judgement::Untracked, _) => Standing::Untracked,
            (Judgement::Tracked, _) if self.answers_revoked(interface, direction, packet) => {
                Standing::Refused("rule_revoked")
            }
            (Judgement::Tracked, _) => Standing::Tracked,
        }
    }

    /// Whether a segment in mid-stream would bring back a flow that was cut with its rule (S45).
    fn answers_revoked(&self, interface: usize, direction: Direction, packet: &Packet) -> bool {
        let revoked = (interface, direction.other(), packet.src.is_ipv4(), packet.sport);
        let Kind::Tcp(segment) = packet.kind else { return false };
        segment != Segment::Syn && self.revoked.contains(&revoked)
    }
}
