use std::net::IpAddr;

use super::{Direction, Kind, Packet};

/// What a rule permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// All traffic.
    All,
    /// TCP ports, both included.
    Tcp(u16, u16),
    /// UDP ports.
    Udp(u16, u16),
    /// ICMP, and ICMPv6 by a rule of its own: this type or any.
    Icmp(Option<u8>),
    /// ICMPv6.
    Icmpv6(Option<u8>),
    /// Another protocol.
    Other(u8),
}

/// From or to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A block: its address and length.
    Cidr(IpAddr, u8),
    /// The members of a group.
    Group(usize),
}

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it permits.
    pub service: Service,
    /// From or to whom.
    pub peer: Peer,
}

/// A security group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Rules for what reaches its members.
    pub inbound: Vec<Rule>,
    /// Rules for what leaves them.
    pub outbound: Vec<Rule>,
}

/// A policy: groups, and who is in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The groups.
    pub groups: Vec<Group>,
    /// By interface: its groups.
    pub members: Vec<Vec<usize>>,
    /// By interface: its addresses, one of each family.
    pub addresses: Vec<[IpAddr; 2]>,
    /// By interface: whether all its flows are tracked (D25).
    pub forced: Vec<bool>,
    /// By interface: seconds of UDP that saw one exchange at most, and more (D18).
    pub udp_timeouts: Vec<(u32, u32)>,
}

/// What rules say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// No rule permits it (S14).
    Denied,
    /// A rule permits it, and replies will need none (S15, S16).
    Tracked,
    /// A rule permits it as it permits everything that answers it (S40).
    Untracked,
}

impl Policy {
    /// How many interfaces there are.
    pub fn interfaces(&self) -> usize {
        self.members.len()
    }

    /// The interface that has this address.
    pub fn owner(&self, address: IpAddr) -> Option<usize> {
        (0..self.interfaces()).find(|i| self.addresses[*i].contains(&address))
    }

    /// All rules of all groups of an interface (S6, S19).
    fn rules(&self, interface: usize, direction: Direction) -> impl Iterator<Item = &Rule> {
        self.members[interface].iter().flat_map(move |group| match direction {
            Direction::Inbound => &self.groups[*group].inbound,
            Direction::Outbound => &self.groups[*group].outbound,
        })
    }

    /// Whether a rule's peer is this address (S26 to S30, S35).
    fn is_peer(&self, peer: Peer, address: IpAddr) -> bool {
        match peer {
            Peer::Cidr(block, length) => is_within(address, block, length),
            Peer::Group(group) => {
                self.owner(address).is_some_and(|owner| self.members[owner].contains(&group))
            }
        }
    }

    /// Whether a rule for everyone, literally, permits this in a direction (D11).
    pub fn permits_everyone(
        &self,
        interface: usize,
        direction: Direction,
        v4: bool,
        service: Service,
    ) -> bool {
        self.rules(interface, direction).any(|rule| {
            matches!(rule.peer, Peer::Cidr(block, 0) if block.is_ipv4() == v4)
                && covers(rule.service, service)
        })
    }

    /// Whether packets of this service are not tracked: they and all that
    /// answers them are open to everyone (S40, D11).
    fn is_untracked(&self, interface: usize, direction: Direction, v4: bool, there: Service) -> bool {
        let all = match there {
            Service::Tcp(..) => Service::Tcp(0, 65535),
            Service::Udp(..) => Service::Udp(0, 65535),
            _ => return false,
        };
        self.permits_everyone(interface, direction, v4, there)
            && self.permits_everyone(interface, direction.other(), v4, all)
    }

    /// The same for a TCP port.
    pub fn is_untracked_tcp(&self, interface: usize, direction: Direction, v4: bool, port: u16) -> bool {
        self.is_untracked(interface, direction, v4, Service::Tcp(port, port))
    }

    /// What the rules say of a packet from or to `remote`.
    pub fn judge(
        &self,
        interface: usize,
        direction: Direction,
        remote: IpAddr,
        packet: &Packet,
    ) -> Judgement {
        let v4 = remote.is_ipv4();
        let service = |port| match packet.kind {
            Kind::Tcp(_) => Service::Tcp(port, port),
            Kind::Udp => Service::Udp(port, port),
            Kind::Ping if v4 => Service::Icmp(Some(8)),
            Kind::Pong if v4 => Service::Icmp(Some(0)),
            Kind::Ping => Service::Icmpv6(Some(128)),
            Kind::Pong => Service::Icmpv6(Some(129)),
            Kind::Other(number) => Service::Other(number),
        };
        let (there, back) = (service(packet.dport), service(packet.sport));
        let mut rules = self.rules(interface, direction);
        if !rules.any(|rule| covers(rule.service, there) && self.is_peer(rule.peer, remote)) {
            return Judgement::Denied;
        }
        // Whichever direction opened the flow, its class is the same.
        let untracked = self.is_untracked(interface, direction, v4, there)
            || self.is_untracked(interface, direction.other(), v4, back);
        if untracked && !self.forced[interface] { Judgement::Untracked } else { Judgement::Tracked }
    }

    /// Whether the rules permit an ICMP error as they permit any other packet.
    pub fn permits_error(&self, interface: usize, direction: Direction, remote: IpAddr) -> bool {
        let error = if remote.is_ipv4() { Service::Icmp(Some(3)) } else { Service::Icmpv6(Some(1)) };
        self.rules(interface, direction)
            .any(|rule| covers(rule.service, error) && self.is_peer(rule.peer, remote))
    }
}

/// Whether a rule's service holds all of another (S21 to S23).
fn covers(rule: Service, what: Service) -> bool {
    match (rule, what) {
        (Service::All, _) => true,
        (Service::Tcp(low, high), Service::Tcp(from, to)) => low <= from && to <= high,
        (Service::Udp(low, high), Service::Udp(from, to)) => low <= from && to <= high,
        (Service::Icmp(None), Service::Icmp(_)) | (Service::Icmpv6(None), Service::Icmpv6(_)) => true,
        (rule, what) => rule == what,
    }
}

fn is_within(address: IpAddr, block: IpAddr, length: u8) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    };
    let differing = bits(address) ^ bits(block);
    address.is_ipv4() == block.is_ipv4() && (length == 0 || differing >> (128 - u32::from(length)) == 0)
}
