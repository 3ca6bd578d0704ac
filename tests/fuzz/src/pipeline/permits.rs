//! No packet passes an end that is on the switch unless that end's rules permit
//! it now, or have permitted a packet of its flow before.

use engine::flow::FlowKey;
use engine::forward::{Delivery, Interface};
use engine::ids::VpcIndex;
use engine::packet::{Body, IcmpError, Ip, Packet, Transport, parse};
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
        // Its port is not known: any could be meant.
        Transport::Fragment(_) => [0, 1, 80, 9999, u16::MAX].map(|port| (port, None)).to_vec(),
        Transport::NeighbourDiscovery(_) | Transport::Other => vec![(0, None)],
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
    if judged.contains(&Judgement::Denied) { Judgement::Denied } else { judged[0] }
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
        let Body::Ip(ip) = packet.body else { return };
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

    /// Each end of what passed let it pass.
    pub fn check_permitted(&self, packet: &Packet, sender: Option<&Interface>, deliveries: &[Delivery]) {
        let Body::Ip(ip) = &packet.body else { return };
        let receivers: Vec<_> = deliveries.iter().filter_map(|d| self.at_port(d.port)).collect();
        if is_exempt(ip, sender, &receivers) {
            return;
        }
        let ends = sender.into_iter().map(|i| (i, Direction::Outbound));
        for (end, direction) in ends.chain(receivers.into_iter().map(|i| (i, Direction::Inbound))) {
            let by_rule = judge(self, end, direction, ip) != Judgement::Denied;
            let flow = FlowKey::of(VpcIndex(0), ip).map(|(key, _)| (end.id, key));
            let by_state = flow.is_some_and(|flow| self.permitted.contains(&flow));
            let related = match &ip.transport {
                Transport::Error(error) => passes_untracked(self, end, direction.other(), error),
                _ => false,
            };
            assert!(by_rule || by_state || related, "{direction:?} at {:?} passed: {ip:?}", end.id);
        }
    }
}

/// What groups do not filter: neighbour discovery, and DHCP with a server
/// beyond the uplink.
fn is_exempt(ip: &Ip, sender: Option<&Interface>, receivers: &[&Interface]) -> bool {
    let outside = sender.is_none() || receivers.is_empty();
    match ip.transport {
        Transport::NeighbourDiscovery(_) => true,
        Transport::Udp(udp) if outside => {
            [(68, 67), (67, 68), (546, 547), (547, 546)].contains(&(udp.src_port, udp.dst_port))
        }
        _ => false,
    }
}
