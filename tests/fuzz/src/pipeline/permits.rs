//! No packet passes an end that is on the switch unless that end's rules permit
//! it now, or have permitted a packet of its flow before.

use engine::flow::FlowKey;
use engine::forward::{Delivery, Interface};
use engine::fragment::FragmentOf;
use engine::ids::VpcIndex;
use engine::packet::{
    Body, Fragment, IcmpError, Ip, Packet, Transport, parse, parse_first_fragment, protocol,
};
use engine::policy::{Direction, Query, Service};
use engine::verdict::Judgement;

use super::world::{Waiting, World};

/// A packet's services: those that its rule must permit, all of them.
fn services(ip: &Ip) -> Vec<(u16, Option<u16>)> {
    let icmp = |t, c| vec![(u16::from_be_bytes([t, c]), None)];
    match ip.transport {
        Transport::Tcp(tcp) => vec![(tcp.dst_port, Some(tcp.src_port))],
        Transport::Udp(udp) => vec![(udp.dst_port, Some(udp.src_port))],
        Transport::Query(query) => icmp(query.icmp_type, query.code),
        Transport::Error(error) => icmp(error.icmp_type, error.code),
        Transport::Icmp { icmp_type, code } => icmp(icmp_type, code),
        Transport::Fragment(Fragment { ports: Some((from, to)), .. })
            if matches!(ip.protocol, protocol::TCP | protocol::UDP) =>
        {
            vec![(to, Some(from))]
        }
        // Its type is not known: it passes by state or not at all.
        Transport::Fragment(_) if matches!(ip.protocol, protocol::ICMP | protocol::ICMPV6) => vec![],
        Transport::Fragment(_) | Transport::NeighbourDiscovery(_) | Transport::Other => vec![(0, None)],
    }
}

fn judge(world: &World, end: &Interface, direction: Direction, ip: &Ip) -> Judgement {
    let remote = if direction == Direction::Outbound { ip.dst } else { ip.src };
    let family = ip.src.family();
    let service = |port| Service::new(family, ip.protocol, port);
    let judged = services(ip).into_iter().map(|(port, reply)| {
        let (service, reply_service) = (service(port), reply.map(service));
        let query = Query { vpc: VpcIndex(0), family, service, reply_service, remote };
        end.policy.judge(&world.tables, direction, &query)
    });
    let judged: Vec<_> = judged.collect();
    if judged.contains(&Judgement::Denied) {
        Judgement::Denied
    } else {
        judged.first().copied().unwrap_or(Judgement::Denied)
    }
}

/// Whether the packet that an error quotes passes this end untracked.
fn passes_untracked(world: &World, end: &Interface, direction: Direction, error: &IcmpError) -> bool {
    let quoted = &error.quoted;
    let remote = if direction == Direction::Outbound { quoted.dst } else { quoted.src };
    let family = quoted.src.family();
    let service = |port| Service::new(family, quoted.protocol, port);
    let (service, reply_service) = (service(quoted.dst_port), Some(service(quoted.src_port)));
    let query = Query { vpc: VpcIndex(0), family, service, reply_service, remote };
    end.policy.judge(&world.tables, direction, &query) == Judgement::Untracked
}

impl World {
    /// Notes at which ends rules permit this packet: its flow may be tracked there.
    pub fn note_permitted(&mut self, waiting: &Waiting) {
        let Ok(packet) = parse(waiting.frame()) else { return };
        if let Body::Ip(ip) = packet.body
            && let Transport::Fragment(Fragment { id, ports: Some(ports), .. }) = ip.transport
        {
            let of = FragmentOf { protocol: ip.protocol, ports };
            self.firsts.entry((ip.src, ip.dst, id)).or_default().insert(of);
        }
        // A later fragment opens nothing.
        let [ip] = self.readings(waiting)[..] else { return };
        if matches!(ip.transport, Transport::Fragment(_)) {
            return;
        }
        let Some((key, _)) = FlowKey::of(VpcIndex(0), &ip) else { return };
        if let Transport::Error(_) = ip.transport {
            return;
        }
        let sender = self.at_port(waiting.port).map(|i| (i, Direction::Outbound));
        let receiver =
            self.interfaces.iter().find(|i| i.mac == packet.destination).map(|i| (i, Direction::Inbound));
        let ends = [sender, receiver].into_iter().flatten();
        let permitted: Vec<_> = ends
            .filter(|(end, direction)| judge(self, end, *direction, &ip) != Judgement::Denied)
            .map(|(end, _)| (end.id, key))
            .collect();
        self.permitted.extend(permitted);
    }

    /// What a packet may be: one thing, but for a later fragment, of which any
    /// first with its identification may have told.
    fn readings(&self, waiting: &Waiting) -> Vec<Ip> {
        let Ok(Packet { body: Body::Ip(ip), .. }) = parse(waiting.frame()) else { return vec![] };
        let Transport::Fragment(fragment) = ip.transport else { return vec![ip] };
        if fragment.offset == 0 {
            let first = parse_first_fragment(waiting.frame());
            return match first {
                Ok(Packet { body: Body::Ip(ip), .. }) => vec![ip],
                _ => panic!("a first fragment was read before: {ip:?}"),
            };
        }
        let told = self.firsts.get(&(ip.src, ip.dst, fragment.id)).into_iter().flatten();
        let told = told.filter(|told| waiting.of.is_none_or(|of| of == **told));
        let reading = |of: &FragmentOf| {
            let transport = Transport::Fragment(Fragment { ports: Some(of.ports), ..fragment });
            Ip { protocol: of.protocol, transport, ..ip }
        };
        told.map(reading).collect()
    }

    /// Each end of what passed let it pass.
    pub fn check_permitted(&self, waiting: &Waiting, sender: Option<&Interface>, deliveries: &[Delivery]) {
        if let Ok(Packet { body: Body::Arp(_), .. }) = parse(waiting.frame()) {
            return;
        }
        let readings = self.readings(waiting);
        let permitted = readings.iter().any(|ip| self.is_permitted(ip, sender, deliveries));
        assert!(permitted, "{readings:?} has passed");
    }

    fn is_permitted(&self, ip: &Ip, sender: Option<&Interface>, deliveries: &[Delivery]) -> bool {
        let receivers: Vec<_> = deliveries.iter().filter_map(|d| self.at_port(d.port)).collect();
        if is_exempt(ip, sender, &receivers) {
            return true;
        }
        let ends = sender.into_iter().map(|i| (i, Direction::Outbound));
        let mut ends = ends.chain(receivers.into_iter().map(|i| (i, Direction::Inbound)));
        ends.all(|(end, direction)| {
            let by_rule = judge(self, end, direction, ip) != Judgement::Denied;
            let flow = FlowKey::of(VpcIndex(0), ip).map(|(key, _)| (end.id, key));
            let by_state = flow.is_some_and(|flow| self.permitted.contains(&flow));
            let related = match &ip.transport {
                Transport::Error(error) => passes_untracked(self, end, direction.other(), error),
                _ => false,
            };
            by_rule || by_state || related
        })
    }
}

/// What groups do not filter: neighbour discovery, and DHCP with a server
/// beyond the uplink.
fn is_exempt(ip: &Ip, sender: Option<&Interface>, receivers: &[&Interface]) -> bool {
    let outside = sender.is_none() || receivers.is_empty();
    let dhcp = [(68, 67), (67, 68), (546, 547), (547, 546)];
    match ip.transport {
        Transport::NeighbourDiscovery(_) => true,
        _ if ip.protocol != protocol::UDP => false,
        transport => outside && transport.ports().is_some_and(|ports| dhcp.contains(&ports)),
    }
}
