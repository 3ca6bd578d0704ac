//! Between whom new flows are, found once for packets that come one after the other.

use arrayvec::ArrayVec;

use super::border::is_guarded;
use super::forward::{Receiver, deliver, known_uplink};
use super::plain::{Glance, may_receive};
use super::police::is_plugged;
use super::{Arrival, BURST, Turn};
use crate::addr::MacAddr;
use crate::forward::{Delivery, Endpoint, Interface};
use crate::ids::InterfaceId;
use crate::packet::plain::Ethernet;
use crate::packet::protocol;

/// The two ends of new flows.
pub(super) struct Ends<'a> {
    pub from: InterfaceId,
    /// The MAC they are from, where they came by an uplink.
    pub source: Option<MacAddr>,
    /// The MAC they are for, as [`MacAddr::bits`].
    pub destination: u64,
    /// `None`: they came by an uplink.
    pub sender: Option<&'a Interface>,
    pub receiver: Receiver<'a>,
    /// The receiver's, where it is an interface.
    endpoint: Option<&'a Endpoint>,
    /// Whether either end is beyond an uplink, so that what passes may be exempt.
    is_outside: bool,
    /// Where what passes goes, if that is one place.
    pub delivery: Option<Delivery>,
}

/// Those of a burst.
pub(super) type EndsList<'a> = ArrayVec<Ends<'a>, BURST>;

impl<'a> Turn<'_, 'a> {
    /// Notes the ends of a packet as the last in the list; false if more than rules has
    /// to be asked about it, or there is a reason to refuse it that they do not know.
    #[inline(always)]
    pub(super) fn find_ends(
        &self,
        glance: &Glance,
        arrivals: &[Arrival<'_>],
        list: &mut EndsList<'a>,
    ) -> bool {
        let is_theirs = match list.last() {
            Some(ends) => {
                (ends.from, ends.destination) == (glance.sender, glance.destination())
                    && (ends.from.is_some() || ends.source == source(glance, arrivals))
            }
            None => false,
        };
        if !is_theirs {
            let Some(ends) = self.ends(glance, arrivals) else { return false };
            list.push(ends);
        }
        let Some(ends) = list.last() else { return false };
        let may_come = match ends.endpoint {
            Some(receiver) => may_receive(self.snapshot, receiver, glance),
            None => true,
        };
        may_come && !(ends.is_outside && self.may_be_beyond_rules(glance, ends))
    }

    /// Whether a packet from or to an uplink may be exempt from rules, or has a source
    /// that nobody beyond an uplink has.
    #[inline(never)]
    fn may_be_beyond_rules(&self, glance: &Glance, ends: &Ends<'_>) -> bool {
        let (key, side) = (&glance.key, glance.side());
        let [(src, src_port), (_, dst_port)] = [key.endpoint(side), key.endpoint(side.other())];
        !self.snapshot.exempt.is_empty()
            || is_dhcp(key.protocol(), src_port, dst_port)
            || ends.sender.is_none() && is_plugged(self.snapshot.interfaces.by_address(key.vpc(), src))
    }

    /// The ends of a plain packet, if neither is guarded, the receiver is another, and
    /// nobody here has the MAC that it is from, where it came by an uplink.
    fn ends(&self, glance: &Glance, arrivals: &[Arrival<'_>]) -> Option<Ends<'a>> {
        let snapshot = self.snapshot;
        let (from, vpc, destination) = (glance.sender, glance.key.vpc(), glance.destination());
        let sender = snapshot.interfaces.get(from);
        let source = match sender {
            Some(_) => None,
            None => Some(source(glance, arrivals)?),
        };
        let found = snapshot.interfaces.by_mac(vpc, MacAddr::from_bits(destination));
        let receiver = match found.and_then(|interface| Some((interface, interface.port?))) {
            Some((receiver, port)) if receiver.id != from => Receiver::Local(receiver, port),
            None if sender.is_some() && snapshot.vpc(vpc).is_some_and(|vpc| !vpc.uplinks().is_empty()) => {
                Receiver::Uplinks
            }
            _ => return None,
        };
        let endpoint = receiver.interface().and_then(|receiver| snapshot.interfaces.endpoint(receiver.id));
        let is_outside = sender.is_none() || endpoint.is_none();
        if is_guarded(sender)
            || is_guarded(receiver.interface())
            || source.is_some_and(|mac| is_plugged(snapshot.interfaces.by_mac(vpc, mac)))
        {
            return None;
        }
        let delivery = match receiver {
            Receiver::Local(interface, port) => Some(deliver(false, interface.id, port)),
            Receiver::Uplinks => {
                let mac = MacAddr::from_bits(destination);
                known_uplink(snapshot, &self.engine.locations, self.now, vpc, mac)
            }
        };
        Some(Ends { from, source, destination, sender, receiver, endpoint, is_outside, delivery })
    }
}

/// The MAC that a packet is from.
#[inline]
fn source(glance: &Glance, arrivals: &[Arrival<'_>]) -> Option<MacAddr> {
    Ethernet::read(arrivals[glance.index()].frame).map(Ethernet::source)
}

/// Ports by which clients and servers of DHCP (RFC 2131, RFC 8415) speak.
#[inline]
fn is_dhcp(protocol: u8, src_port: u16, dst_port: u16) -> bool {
    protocol == protocol::UDP
        && matches!((src_port.min(dst_port), src_port.max(dst_port)), (67, 68) | (546, 547))
}
