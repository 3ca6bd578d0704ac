//! Broadcast and multicast: judged by the sender's outbound rules and by the
//! inbound rules of each receiver, never tracked, and capped, since one packet
//! costs as much as the VPC has interfaces.

use super::border::cross_borders;
use super::exempt::is_dhcp;
use super::forward::{deliver, uplink_deliveries};
use super::police::Question;
use super::{Link, Outcome, PassClass, Refused, Turn, Work};
use crate::addr::Addr;
use crate::forward::{Delivery, Interface};
use crate::ids::PortIndex;
use crate::packet::protocol;
use crate::policy::Direction;
use crate::snapshot::Snapshot;
use crate::verdict::{DropReason, Judgement};

impl<'a> Turn<'_, 'a> {
    /// Settles a packet for a group address.
    pub(super) fn flood(&mut self, work: &Work<'a>) {
        if let Err(refused) = self.flooded(work) {
            self.refuse(&work.link, refused);
        }
    }

    fn flooded(&mut self, work: &Work<'a>) -> Result<(), Refused> {
        let (link, snapshot) = (&work.link, self.snapshot);
        let dhcp = is_dhcp(work);
        self.check_uplink_source(work)?;
        if let Some(sender) = link.sender
            && !sender.may_send_from(work.ip.src)
            && !(dhcp && work.ip.src == Addr::v4(0))
        {
            return Err(Refused(DropReason::SpoofedAddress, sender.id));
        }
        self.spend(link)?;
        if dhcp {
            // A client's question leaves the switch, a server's answer comes from outside.
            return match link.sender {
                Some(_) => self.settle_flood(link, PassClass::Exempt, uplink_deliveries(snapshot, link)),
                None => {
                    self.settle_flood(link, PassClass::Exempt, local_deliveries(snapshot, link, |_| true))
                }
            };
        }
        let question = Question::of(link.vpc, &work.ip);
        if question.later_fragment && matches!(work.ip.protocol, protocol::ICMP | protocol::ICMPV6) {
            // Its type is not known, and there is no connection to ask.
            return Err(Refused(DropReason::FragmentOrphan, link.sender_id()));
        }
        let permits = |interface: &Interface, direction, remote| {
            interface.judge(&snapshot.tables, direction, &question.query(remote)) != Judgement::Denied
        };
        if let Some(sender) = link.sender
            && !permits(sender, Direction::Outbound, work.ip.dst)
        {
            return Err(Refused(DropReason::OutboundDenied, sender.id));
        }
        let reaches = |i: &Interface| {
            permits(i, Direction::Inbound, work.ip.src) && cross_borders(work, Some(i)).is_ok()
        };
        let leaves = cross_borders(work, None).is_ok();
        let uplinks = uplink_deliveries(snapshot, link).filter(|_| leaves);
        self.settle_flood(link, PassClass::Flooded, local_deliveries(snapshot, link, reaches).chain(uplinks))
    }

    /// Sends a frame to everyone else in the VPC, as ARP and ND announcements go.
    pub(super) fn announce(&mut self, link: &Link<'a>) -> Result<(), Refused> {
        let snapshot = self.snapshot;
        let everyone = local_deliveries(snapshot, link, |_| true).chain(uplink_deliveries(snapshot, link));
        self.settle_flood(link, PassClass::Exempt, everyone)
    }

    /// Counts and settles the copies of a frame; without any it is dropped.
    pub(super) fn settle_flood(
        &mut self,
        link: &Link<'_>,
        class: PassClass,
        places: impl Iterator<Item = Delivery>,
    ) -> Result<(), Refused> {
        let counters = &self.engine.counters;
        let places = places.inspect(|place| counters.delivered(place.receiver, 1, link.bytes.into()));
        let Some(outcome) = self.out.flood(places) else {
            return Err(Refused(DropReason::NoDestination, link.sender_id()));
        };
        counters.pass(class, link.sender_id(), link.bytes);
        self.out.pass(1 << link.index, outcome, class);
        Ok(())
    }

    /// Settles a frame that goes to one interface.
    pub(super) fn settle_one(
        &mut self,
        link: &Link<'_>,
        class: PassClass,
        receiver: &Interface,
        port: PortIndex,
    ) {
        self.engine.counters.pass(class, link.sender_id(), link.bytes);
        self.engine.counters.delivered(receiver.id, 1, link.bytes.into());
        self.out.pass(1 << link.index, Outcome::Send(deliver(link.tagged, receiver.id, port)), class);
    }

    /// Takes one from the sender's allowance for what rules and state do not hold back.
    pub(super) fn spend(&mut self, link: &Link<'_>) -> Result<(), Refused> {
        let budget = &mut self.engine.budget;
        let left = match link.sender {
            Some(sender) => budget.interface(sender.id, self.now),
            None => budget.uplink(link.port, self.now),
        };
        if left { Ok(()) } else { Err(Refused(DropReason::ExemptRate, link.sender_id())) }
    }
}

/// The copies for the VPC's other interfaces that `wanted` admits.
fn local_deliveries<'s>(
    snapshot: &'s Snapshot,
    link: &Link<'_>,
    wanted: impl Fn(&Interface) -> bool + 's,
) -> impl Iterator<Item = Delivery> + 's {
    let (sender, tagged) = (link.sender_id(), link.tagged);
    let locals = snapshot.vpc(link.vpc).map_or(&[][..], |vpc| vpc.local());
    locals.iter().filter_map(move |&id| {
        let interface = snapshot.interfaces.get(id).filter(|i| i.id != sender && wanted(i))?;
        Some(deliver(tagged, id, interface.port?))
    })
}
