//! What groups never filter (D22): ARP, neighbour discovery and DHCP clients'
//! traffic, bound to the sender's own addresses and capped.
//!
//! A question for an address goes to the interface that owns it, or to the
//! uplinks where none does: nobody else could answer it honestly.

use super::forward::Receiver;
use super::{Link, PassClass, Passed, Refused, Turn, Work};
use crate::addr::{Addr, Family};
use crate::forward::ExemptService;
use crate::packet::{Arp, ArpOperation, Ip, Nd, NdKind, protocol};
use crate::verdict::DropReason;

impl<'a> Turn<'_, 'a> {
    /// Settles an ARP packet (RFC 826).
    pub(super) fn arp(&mut self, link: &Link<'a>, arp: &Arp) {
        if let Err(refused) = self.arp_judged(link, arp) {
            self.refuse(link, refused);
        }
    }

    fn arp_judged(&mut self, link: &Link<'a>, arp: &Arp) -> Result<(), Refused> {
        // A probe has no sender address yet (RFC 5227).
        let probe = arp.operation == ArpOperation::Request && arp.sender == Addr::v4(0);
        let honest = arp.sender_mac == link.source
            && match link.sender {
                Some(sender) => probe || sender.owns(arp.sender),
                None => !self.is_elsewhere(link, arp.sender),
            };
        if !honest {
            return Err(Refused(DropReason::SpoofedArp, link.sender_id()));
        }
        self.spend(link)?;
        match arp.operation {
            ArpOperation::Request if arp.sender == arp.target => self.announce(link),
            ArpOperation::Request => self.ask(link, arp.target),
            ArpOperation::Reply => self.answer(link),
        }
    }

    /// Settles a neighbour discovery packet (RFC 4861).
    pub(super) fn neighbour_discovery(&mut self, work: &Work<'a>, nd: &Nd) {
        if let Err(refused) = self.nd_judged(work, nd) {
            self.refuse(&work.link, refused);
        }
    }

    fn nd_judged(&mut self, work: &Work<'a>, nd: &Nd) -> Result<(), Refused> {
        let link = &work.link;
        let spoofed = Refused(DropReason::SpoofedNd, link.sender_id());
        let unspecified = work.ip.src == Addr::UNSPECIFIED_V6;
        let own = |addr| match link.sender {
            Some(sender) => sender.owns(addr),
            None => !self.is_elsewhere(link, addr),
        };
        let honest_source = own(work.ip.src) || unspecified;
        let honest_link =
            [nd.source_link, nd.target_link].into_iter().flatten().all(|mac| mac == link.source);
        let honest = match nd.kind {
            // Duplicate address detection asks for its own address from `::`.
            NdKind::NeighbourSolicitation => honest_source && honest_link && (!unspecified || own(nd.target)),
            NdKind::NeighbourAdvertisement => own(work.ip.src) && honest_link && own(nd.target),
            NdKind::RouterSolicitation => honest_source && honest_link,
            // Only the network has routers, and they speak of others' links.
            NdKind::RouterAdvertisement | NdKind::Redirect => link.sender.is_none() && honest_source,
        };
        if !honest {
            return Err(spoofed);
        }
        self.spend(link)?;
        match nd.kind {
            NdKind::NeighbourSolicitation => self.ask(link, nd.target),
            NdKind::NeighbourAdvertisement | NdKind::RouterAdvertisement | NdKind::Redirect => {
                self.answer(link)
            }
            NdKind::RouterSolicitation => self.leave(link),
        }
    }

    /// A question for an address goes to its owner. The owner's own question
    /// looks for another that uses the address: that is for everyone.
    fn ask(&mut self, link: &Link<'a>, target: Addr) -> Result<(), Refused> {
        let owner = self.snapshot.interfaces.by_address(link.vpc, target);
        match owner.and_then(|owner| Some((owner, owner.port?))) {
            Some((owner, _)) if owner.id == link.sender_id() => self.announce(link),
            Some((owner, port)) => {
                self.settle_one(link, PassClass::Exempt, owner, port);
                Ok(())
            }
            None => self.leave(link),
        }
    }

    /// An answer goes to whom its frame is addressed.
    fn answer(&mut self, link: &Link<'a>) -> Result<(), Refused> {
        if link.destination.is_group() {
            return self.announce(link);
        }
        let receiver = self.snapshot.interfaces.by_mac(link.vpc, link.destination);
        match receiver.and_then(|receiver| Some((receiver, receiver.port?))) {
            Some((receiver, _)) if receiver.id == link.sender_id() => {
                Err(Refused(DropReason::Hairpin, receiver.id))
            }
            Some((receiver, port)) => {
                self.settle_one(link, PassClass::Exempt, receiver, port);
                Ok(())
            }
            None => self.leave(link),
        }
    }

    /// Out by the uplinks.
    fn leave(&mut self, link: &Link<'a>) -> Result<(), Refused> {
        let receiver = self.uplinks(link)?;
        self.forward(link, &Passed { class: PassClass::Exempt, receiver });
        Ok(())
    }

    /// Whether the address, claimed by what an uplink has brought, is that of an interface
    /// that is plugged in here, or that the policy says is behind another uplink.
    fn is_elsewhere(&self, link: &Link<'_>, addr: Addr) -> bool {
        let owner = self.snapshot.interfaces.by_address(link.vpc, addr);
        owner.is_some_and(|i| i.port.is_some() || i.behind.is_some_and(|behind| !behind.is(link.port)))
    }

    /// Between a local interface and a service beyond an uplink that an operator
    /// has exempted.
    pub(super) fn is_exempt_service(&self, work: &Work<'_>, receiver: Receiver<'_>) -> bool {
        let snapshot = self.snapshot;
        if snapshot.exempt.is_empty() || work.link.sender.is_some() == receiver.interface().is_some() {
            return false;
        }
        let Some((from, to)) = ports(&work.ip) else { return false };
        let (address, port) =
            if work.link.sender.is_some() { (work.ip.dst, to) } else { (work.ip.src, from) };
        snapshot.exempt.contains(&ExemptService { address, protocol: work.ip.protocol, port })
    }

    /// DHCP between a local client and a server beyond an uplink. Servers on
    /// this switch are machines like others: their groups decide.
    pub(super) fn is_exempt_dhcp(&self, work: &Work<'_>, receiver: Receiver<'_>) -> bool {
        is_dhcp(work) && work.link.sender.is_some() != receiver.interface().is_some()
    }
}

/// Ports of TCP and UDP, also where only the first fragment had them.
fn ports(ip: &Ip) -> Option<(u16, u16)> {
    match ip.protocol {
        protocol::TCP | protocol::UDP => ip.transport.ports(),
        _ => None,
    }
}

/// DHCP (RFC 2131) or DHCPv6 (RFC 8415): from an interface as a client speaks,
/// from an uplink as a server does.
pub(super) fn is_dhcp(work: &Work<'_>) -> bool {
    let Some(ports) = ports(&work.ip).filter(|_| work.ip.protocol == protocol::UDP) else { return false };
    let (client, server) = match work.ip.src.family() {
        Family::V4 => (68, 67),
        Family::V6 => (546, 547),
    };
    match work.link.sender {
        Some(_) => ports == (client, server),
        None => ports == (server, client),
    }
}
