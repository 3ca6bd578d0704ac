//! The first stage: what the headers say, who sent the packet and whether it is
//! who it claims to be, and which worker owns its flow.

use super::plain::Glances;
use super::{Arrival, Link, Outcome, Refused, Turn, Work, Works};
use crate::flow::{FlowHash, FlowKey, Side};
use crate::forward::{Interface, PortRole, Way};
use crate::ids::{InterfaceId, VpcIndex};
use crate::packet::{self, Body, Packet, Transport};
use crate::verdict::DropReason;

impl<'a> Turn<'_, 'a> {
    /// Reads the headers of a burst. What is of a flow of this worker's, and sent
    /// by whom it says, comes to `glances` or `works`; all else is settled.
    #[inline(never)]
    pub(super) fn parse(&mut self, arrivals: &[Arrival<'_>], glances: &mut Glances, works: &mut Works<'a>) {
        let mut at = 0;
        // Of most bursts all packets are from one port, and plain.
        while let Some(arrival) = arrivals.get(at) {
            let port = arrival.port;
            let origin = self.origin_of_plain(port);
            while arrivals.get(at).is_some_and(|arrival| arrival.port == port) {
                if let Some(origin) = &origin {
                    at += self.glance(at, &arrivals[at..], origin, glances);
                }
                // What stopped there, if it is of this port.
                if let Some(arrival) = arrivals.get(at).filter(|arrival| arrival.port == port) {
                    works.extend(self.read(at, arrival));
                    at += 1;
                }
            }
        }
    }

    /// Reads any packet. What is of no flow ends here.
    #[cold]
    pub(super) fn read(&mut self, index: usize, arrival: &Arrival<'_>) -> Option<Work<'a>> {
        let mut work = self.open(index, arrival)?;
        let (key, hash, side) = self.steer(&mut work, arrival)?;
        (work.key, work.hash, work.side) = (key, hash, side);
        match self.admit(&work) {
            Ok(()) => Some(work),
            Err(refused) => {
                self.refuse(&work.link, refused);
                None
            }
        }
    }

    /// Reads the headers and finds the sender. What is not IP ends here.
    fn open(&mut self, index: usize, arrival: &Arrival<'_>) -> Option<Work<'a>> {
        let role = self.snapshot.port(arrival.port);
        let judged = packet::parse(arrival.frame)
            .and_then(|packet| self.origin(role, &packet).map(|origin| (packet, origin)));
        let (packet, (vpc, sender)) = match judged {
            Ok(known) => known,
            Err(reason) => {
                let at = if let PortRole::Interface(id) = role { *id } else { InterfaceId::NONE };
                self.engine.counters.dropped(reason, at);
                self.out.set(index, Outcome::Drop(reason));
                return None;
            }
        };
        let link = Link {
            index,
            port: arrival.port,
            bytes: arrival.frame.length,
            tagged: packet.tagged,
            vpc,
            sender,
            source: packet.source,
            destination: packet.destination,
        };
        if sender.is_none() && !self.locate(&link, &packet) {
            self.refuse(&link, Refused(DropReason::WrongUplink, InterfaceId::NONE));
            return None;
        }
        match packet.body {
            Body::Ip(ip) => Some(Work { link, ip, ..Work::BLANK }),
            Body::Arp(arp) => {
                self.arp(&link, &arp);
                None
            }
        }
    }

    /// Notes by which uplink a packet came, if that matters; false if the policy says
    /// that its sender is behind another. What ARP and neighbour discovery claim in
    /// others' names is refused with them.
    fn locate(&mut self, link: &Link<'_>, packet: &Packet) -> bool {
        let way = self.way(link.vpc);
        if let Way::Sole(..) = way {
            return true;
        }
        let src = match packet.body {
            Body::Ip(ip) => Some(ip.src),
            Body::Arp(_) => None,
        };
        if way == Way::Told && !self.snapshot.may_come_by(link.port, link.vpc, link.source, src) {
            return false;
        }
        self.engine.locations.learn(link.vpc, link.source, link.port, self.now);
        true
    }

    /// The VPC of a packet and the interface that sent it, by the port's role.
    fn origin(
        &self,
        role: &PortRole,
        packet: &Packet,
    ) -> Result<(VpcIndex, Option<&'a Interface>), DropReason> {
        match role {
            PortRole::Interface(id) => {
                let interface = self.snapshot.interfaces.get(*id).ok_or(DropReason::PortUnbound)?;
                // The port is the interface's alone: what else comes from it is forged.
                if packet.tagged {
                    Err(DropReason::UnexpectedVlan)
                } else if packet.source != interface.mac {
                    Err(DropReason::SpoofedMac)
                } else {
                    Ok((interface.vpc, Some(interface)))
                }
            }
            PortRole::Uplink(uplink) => {
                let vpc = uplink.vpc(packet.vlan).ok_or(DropReason::UnexpectedVlan)?;
                Ok((vpc, None))
            }
            PortRole::Unbound if self.snapshot.generation == 0 => Err(DropReason::NoPolicy),
            PortRole::Unbound => Err(DropReason::PortUnbound),
        }
    }

    /// The flow of a packet, if it is this worker's to judge. What has no
    /// flow (neighbour discovery, floods) is settled here, by whichever worker.
    fn steer(&mut self, work: &mut Work<'a>, arrival: &Arrival<'_>) -> Option<(FlowKey, FlowHash, Side)> {
        let index = work.link.index;
        let mut stays = arrival.steered;
        let mut of = None;
        match work.ip.transport {
            Transport::NeighbourDiscovery(nd) => {
                self.neighbour_discovery(work, &nd);
                return None;
            }
            Transport::Fragment(fragment) => {
                of = Some(self.piece(work, arrival, &fragment)?);
                // Here it has only met its first.
                stays &= arrival.of.is_some();
            }
            _ => {}
        }
        if work.link.destination.is_group() {
            self.flood(work);
            return None;
        }
        let Some((key, side)) = FlowKey::of(work.link.vpc, &work.ip) else {
            self.refuse(&work.link, Refused(DropReason::FragmentOrphan, work.link.sender_id()));
            return None;
        };
        let hash = self.engine.hasher.hash(&key);
        let owner = hash.owner(self.engine.workers);
        if owner != self.engine.worker && !stays {
            self.out.set(index, Outcome::HandOver { to: owner, of });
            return None;
        }
        Some((key, hash, side))
    }

    /// Anti-spoofing: an interface sends from its own addresses (EC2's source
    /// check). What an uplink may not claim is checked where a flow is new; a
    /// known flow has its sender's interface on record.
    fn admit(&self, work: &Work<'_>) -> Result<(), Refused> {
        match work.link.sender {
            Some(sender) if !sender.may_send_from(work.ip.src) => {
                Err(Refused(DropReason::SpoofedAddress, sender.id))
            }
            _ => Ok(()),
        }
    }
}
