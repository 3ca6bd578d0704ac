//! Where a packet goes.

use super::{Link, Outcome, Passed, Refused, Turn, Work};
use crate::addr::MacAddr;
use crate::conntrack::Entry;
use crate::forward::{Delivery, Interface, Locations, VlanEdit, Way};
use crate::ids::{InterfaceId, PortIndex, VlanId, VpcIndex};
use crate::snapshot::Snapshot;
use crate::time::Tick;
use crate::verdict::DropReason;

/// Where a packet goes.
#[derive(Clone, Copy)]
pub(super) enum Receiver<'a> {
    /// To an interface of this switch.
    Local(&'a Interface, PortIndex),
    /// To the rest of the network.
    Uplinks,
}

impl<'a> Receiver<'a> {
    pub fn id(self) -> InterfaceId {
        self.interface().map_or(InterfaceId::NONE, |i| i.id)
    }

    pub fn interface(self) -> Option<&'a Interface> {
        match self {
            Receiver::Local(interface, _) => Some(interface),
            Receiver::Uplinks => None,
        }
    }
}

impl<'a> Turn<'_, 'a> {
    /// The receiver of a packet by its destination MAC.
    pub(super) fn receiver(&self, work: &Work<'_>) -> Result<Receiver<'a>, Refused> {
        self.received_by(work, self.snapshot.interfaces.by_mac(work.link.vpc, work.link.destination))
    }

    /// The same where it is known which interface has the destination MAC, if any.
    #[inline]
    pub(super) fn received_by(
        &self,
        work: &Work<'_>,
        interface: Option<&'a Interface>,
    ) -> Result<Receiver<'a>, Refused> {
        let link = &work.link;
        let Some(interface) = interface else { return self.uplinks(link) };
        let Some(port) = interface.port else { return self.uplinks(link) };
        if interface.id == link.sender_id() {
            return Err(Refused(DropReason::Hairpin, interface.id));
        }
        if !interface.may_receive_for(work.ip.dst) {
            return Err(Refused(DropReason::DestinationCheck, interface.id));
        }
        Ok(Receiver::Local(interface, port))
    }

    /// The uplinks as receiver: of what an interface sends, if there are any.
    pub(super) fn uplinks(&self, link: &Link<'_>) -> Result<Receiver<'a>, Refused> {
        let reachable = self.snapshot.vpc(link.vpc).is_some_and(|vpc| !vpc.uplinks().is_empty());
        if link.sender.is_some() && reachable {
            Ok(Receiver::Uplinks)
        } else {
            Err(Refused(DropReason::NoDestination, link.sender_id()))
        }
    }

    /// The receiver of a packet by its connection, if that still holds: both
    /// ends are the interfaces they were when it was opened.
    #[inline]
    pub(super) fn recorded_receiver(&self, work: &Work<'_>, entry: &Entry) -> Option<Receiver<'a>> {
        let side = work.side;
        if entry.end(side) != work.link.sender_id() {
            return None;
        }
        let recorded = entry.end(side.other());
        if recorded.is_some() {
            let interface = self.snapshot.interfaces.get(recorded)?;
            let same = interface.mac == work.link.destination && interface.may_receive_for(work.ip.dst);
            return interface.port.filter(|_| same).map(|port| Receiver::Local(interface, port));
        }
        // The MAC may have become a local interface's since.
        self.receiver(work).ok().filter(|r| !r.id().is_some())
    }

    /// How it is known by which uplink somebody of a VPC is reached.
    pub(super) fn way(&self, vpc: VpcIndex) -> Way {
        self.snapshot.vpc(vpc).map_or(Way::Learnt, |vpc| vpc.way)
    }

    /// What becomes of a packet by its verdict.
    #[inline]
    pub(super) fn settle(&mut self, link: &Link<'_>, verdict: Result<Passed<'a>, Refused>) {
        match verdict {
            Ok(passed) => self.forward(link, &passed),
            Err(refused) => self.refuse(link, refused),
        }
    }

    /// The way out of a packet that passed.
    #[inline]
    pub(super) fn forward(&mut self, link: &Link<'_>, passed: &Passed<'_>) {
        let outcome = match passed.receiver {
            Receiver::Local(interface, port) => {
                self.engine.counters.delivered(interface.id, 1, link.bytes.into());
                Some(Outcome::Send(deliver(link.tagged, interface.id, port)))
            }
            Receiver::Uplinks => match known_uplink(
                self.snapshot,
                &self.engine.locations,
                self.now,
                link.vpc,
                link.destination,
            ) {
                Some(delivery) => Some(Outcome::Send(delivery)),
                // Where it is said to be is out of service.
                None if self.snapshot.behind(link.vpc, link.destination).is_some() => None,
                None => self.out.flood(uplink_deliveries(self.snapshot, link)),
            },
        };
        match outcome {
            Some(outcome) => {
                self.engine.counters.pass(passed.class, link.sender_id(), link.bytes);
                self.out.pass(1 << link.index, outcome, passed.class);
            }
            None => self.refuse(link, Refused(DropReason::NoDestination, link.sender_id())),
        }
    }
}

/// The copy for a local interface, whose port carries no tags.
pub(super) fn deliver(tagged: bool, receiver: InterfaceId, port: PortIndex) -> Delivery {
    let vlan = if tagged { VlanEdit::Strip } else { VlanEdit::Keep };
    Delivery { port, vlan, receiver }
}

/// The copies for the VPC's uplinks: none for what came by one, so that no
/// packet circles between them.
pub(super) fn uplink_deliveries<'s>(
    snapshot: &'s Snapshot,
    link: &Link<'_>,
) -> impl Iterator<Item = Delivery> + use<'s> {
    let uplinks = match snapshot.vpc(link.vpc) {
        Some(vpc) if link.sender.is_some() => vpc.uplinks(),
        _ => &[],
    };
    uplinks.iter().map(|uplink| by_uplink(*uplink))
}

/// The copy for an uplink, which may carry the VPC under a tag.
fn by_uplink((port, tag): (PortIndex, Option<VlanId>)) -> Delivery {
    Delivery { port, vlan: tag.map_or(VlanEdit::Keep, VlanEdit::Push), receiver: InterfaceId::NONE }
}

/// The uplink to a MAC that no interface plugged in here has: the VPC's one, that
/// which the policy says, or that by which the MAC was seen last.
#[inline]
pub(super) fn known_uplink(
    snapshot: &Snapshot,
    locations: &Locations,
    now: Tick,
    vpc: VpcIndex,
    destination: MacAddr,
) -> Option<Delivery> {
    let of = snapshot.vpc(vpc)?;
    let uplink = match of.way {
        Way::Sole(port, tag) => (port, tag),
        way => {
            let told = if way == Way::Told { snapshot.behind(vpc, destination) } else { None };
            let port = match told {
                Some(behind) => behind.uplink()?,
                None => locations.find(vpc, destination, now)?,
            };
            *of.uplinks().iter().find(|uplink| uplink.0 == port)?
        }
    };
    let is_here = snapshot.interfaces.by_mac(vpc, destination).is_some_and(|i| i.port.is_some());
    (!is_here).then(|| by_uplink(uplink))
}
