//! The linear oracle: rules walked one by one, as the words of the requirements
//! have it. Slow, obvious, and the judge of the compiled tables.

use std::net::IpAddr;

use engine::policy::Direction;
use engine::verdict::Judgement;

use crate::model::{NetworkInterface, Peer, Rule, RuleService, Validated};

/// A packet as rules see it, from one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The address at the other end; its family is the packet's.
    pub remote: IpAddr,
    /// Protocol number.
    pub protocol: u8,
    /// Destination port; of ICMP, type times 256 plus code.
    pub port: u16,
    /// Source port.
    pub source_port: u16,
}

/// How the groups of an interface judge a packet, and which rules permit it.
pub fn judge<'v>(
    policy: &'v Validated,
    interface: &'v NetworkInterface,
    direction: Direction,
    packet: &Packet,
) -> (Judgement, Vec<&'v Rule>) {
    let rules = Rules::of(policy, interface);
    let facing = rules.facing(|peer| is_peer(policy, interface, peer, packet.remote));
    (facing.judge(direction, packet), facing.permitting(direction, packet).collect())
}

/// The rules of an interface, by direction.
pub(crate) struct Rules<'v>([Vec<&'v Rule>; 2]);

impl<'v> Rules<'v> {
    pub fn of(policy: &'v Validated, interface: &'v NetworkInterface) -> Rules<'v> {
        let mut of = [Vec::new(), Vec::new()];
        for group in interface.groups.iter().filter_map(|id| policy.groups.get(id)) {
            of[Direction::Inbound as usize].extend(&group.inbound);
            of[Direction::Outbound as usize].extend(&group.outbound);
        }
        Rules(of)
    }

    pub fn of_direction(&self, direction: Direction) -> &[&'v Rule] {
        &self.0[direction as usize]
    }

    /// Those that name one remote address, each looked at; `is_peer` tells whether a
    /// peer is that address.
    pub fn facing(&self, is_peer: impl Fn(&Peer) -> bool) -> Facing<'v> {
        let named =
            |rules: &Vec<&'v Rule>| rules.iter().copied().filter(|rule| is_peer(&rule.peer)).collect();
        Facing(self.0.each_ref().map(named))
    }
}

/// The rules of an interface that name one remote address, by direction: all that
/// packets of that address are judged by.
#[derive(Default)]
pub(crate) struct Facing<'v>([Vec<&'v Rule>; 2]);

impl<'v> Facing<'v> {
    /// None.
    pub fn clear(&mut self) {
        self.0.iter_mut().for_each(Vec::clear);
    }

    /// One more.
    pub fn add(&mut self, direction: Direction, rule: &'v Rule) {
        self.0[direction as usize].push(rule);
    }

    /// Their ids by direction, in order.
    #[cfg(test)]
    pub fn ids(&self) -> [Vec<&'v str>; 2] {
        self.0.each_ref().map(|rules| {
            let mut ids: Vec<_> = rules.iter().map(|rule| rule.id.as_str()).collect();
            ids.sort_unstable();
            ids
        })
    }

    fn rules(&self, direction: Direction) -> &[&'v Rule] {
        &self.0[direction as usize]
    }

    /// The rules that permit a packet.
    pub fn permitting(&self, direction: Direction, packet: &Packet) -> impl Iterator<Item = &'v Rule> {
        self.rules(direction).iter().copied().filter(|rule| is_for(rule.service, packet))
    }

    /// How they judge it.
    pub fn judge(&self, direction: Direction, packet: &Packet) -> Judgement {
        if self.permitting(direction, packet).next().is_none() {
            return Judgement::Denied;
        }
        let reply = Packet { port: packet.source_port, source_port: packet.port, ..*packet };
        let everyone = |direction, packet: &Packet| {
            self.permitting(direction, packet).any(|rule| is_everyone(rule, packet))
        };
        let open = |direction| {
            self.rules(direction).iter().any(|r| is_everyone(r, packet) && is_all_ports(r.service, packet))
        };
        // S40, D11: whichever direction opened the flow.
        let untracked = matches!(packet.protocol, 6 | 17)
            && (everyone(direction, packet) && open(direction.other())
                || everyone(direction.other(), &reply) && open(direction));
        if untracked { Judgement::Untracked } else { Judgement::Tracked }
    }
}

/// All rules of all groups of the interface (S6, S19).
pub(crate) fn rules<'v>(
    policy: &'v Validated,
    interface: &'v NetworkInterface,
    direction: Direction,
) -> impl Iterator<Item = &'v Rule> {
    interface.groups.iter().filter_map(|id| policy.groups.get(id)).flat_map(move |g| match direction {
        Direction::Inbound => &g.inbound,
        Direction::Outbound => &g.outbound,
    })
}

/// Whether a rule is for what the packet is for (S21 to S23, D2, D4).
pub(crate) fn is_for(service: RuleService, packet: &Packet) -> bool {
    let own_family = packet.protocol != if packet.remote.is_ipv4() { 58 } else { 1 };
    match service {
        RuleService::All => true,
        RuleService::Ports(protocol, low, high) => {
            packet.protocol == protocol && (low..=high).contains(&packet.port)
        }
        RuleService::Icmp(protocol, icmp_type, code) => {
            let [t, c] = packet.port.to_be_bytes();
            packet.protocol == protocol
                && own_family
                && icmp_type.is_none_or(|wanted| wanted == t)
                && code.is_none_or(|wanted| wanted == c)
        }
        RuleService::Protocol(protocol, _) => packet.protocol == protocol && own_family,
    }
}

/// Whether the remote address is what a rule names (S24 to S29, S34, S35).
pub(crate) fn is_peer(policy: &Validated, interface: &NetworkInterface, peer: &Peer, remote: IpAddr) -> bool {
    match peer {
        Peer::Cidr(net) => net.contains(&remote),
        Peer::PrefixList(id) => policy
            .prefix_lists
            .get(id)
            .is_some_and(|l| l.entries.iter().any(|(net, _)| net.contains(&remote))),
        Peer::Group { stale: true, .. } => false,
        Peer::Group { id, .. } => {
            let scopes: Vec<&str> = policy.scopes(&interface.vpc).collect();
            policy.interfaces.values().any(|member| {
                scopes.contains(&member.vpc.as_str())
                    && member.groups.contains(id)
                    && (member.addresses.contains(&remote)
                        || member.prefixes.iter().any(|p| p.contains(&remote)))
            })
        }
    }
}

/// A rule for 0.0.0.0/0 or ::/0, literally.
fn is_everyone(rule: &Rule, packet: &Packet) -> bool {
    matches!(rule.peer, Peer::Cidr(net) if net.prefix_len() == 0 && net.addr().is_ipv4() == packet.remote.is_ipv4())
}

fn is_all_ports(service: RuleService, packet: &Packet) -> bool {
    match service {
        RuleService::All => true,
        RuleService::Ports(protocol, 0, u16::MAX) => protocol == packet.protocol,
        _ => false,
    }
}
