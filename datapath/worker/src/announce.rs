//! Tells the network beyond an uplink where interfaces are, when the uplink has changed
//! over: switches there send to the old place until they have heard each of them.
//!
//! An announcement is a RARP request (RFC 903) of an interface about itself, to everyone:
//! what Open vSwitch calls a learning packet of a bond, and QEMU sends for a guest that
//! has moved. Switches learn from it, and hosts do not heed it; gratuitous ARP, as Linux'
//! bonding sends, would be one frame for each address, and rewrite hosts' caches.

use arrayvec::ArrayVec;
use dpdk::Mbuf;
use engine::addr::MacAddr;
use engine::forward::PortRole;
use engine::ids::{InterfaceId, PortIndex, VlanId};
use engine::snapshot::Snapshot;
use engine::verdict::DropReason;

use crate::egress::Egress;
use crate::exits::Way;

/// Announcements in a second, at most: a switch that learns in software takes so many,
/// and ten thousand interfaces are told of in five seconds.
pub(crate) const PER_SECOND: u64 = 2000;

/// Announcements at a time; fewer than wait for a queue.
const BATCH: usize = 16;

const _: () = assert!(BATCH < dpdk::BURST);

/// An interface that is to be announced by an uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The interface.
    pub interface: InterfaceId,
    /// The tag of its VPC at the uplink.
    pub vlan: Option<VlanId>,
}

impl Announcement {
    /// Those of all interfaces that are plugged in here and of a VPC that the uplink carries.
    pub fn all(snapshot: &Snapshot, uplink: PortIndex) -> Vec<Announcement> {
        let PortRole::Uplink(carried) = snapshot.port(uplink) else { return vec![] };
        let untagged = carried.untagged.map(|vpc| (None, vpc));
        let tagged = carried.vlans.iter().map(|(tag, vpc)| (Some(*tag), *vpc));
        let vpcs = untagged.into_iter().chain(tagged);
        let of_vpc = |(vlan, vpc)| {
            let local = snapshot.vpc(vpc).map_or(&[][..], |vpc| vpc.local());
            local.iter().map(move |interface| Announcement { interface: *interface, vlan })
        };
        vpcs.flat_map(of_vpc).collect()
    }

    /// The MAC to announce, if that is still true.
    fn mac(&self, snapshot: &Snapshot, uplink: PortIndex) -> Option<MacAddr> {
        let PortRole::Uplink(carried) = snapshot.port(uplink) else { return None };
        let interface = snapshot.interfaces.get(self.interface)?;
        let is_carried = carried.vpc(self.vlan) == Some(interface.vpc);
        (interface.port.is_some() && is_carried).then_some(interface.mac)
    }
}

/// A frame of 60 bytes, or 64 with a tag.
type Frame = ArrayVec<u8, 64>;

fn frame(mac: MacAddr, vlan: Option<VlanId>) -> Frame {
    let mut frame = Frame::new();
    let mut put = |bytes: &[u8]| frame.try_extend_from_slice(bytes).expect("the parts are 64 bytes at most");
    put(&MacAddr::BROADCAST.0);
    put(&mac.0);
    if let Some(VlanId(id)) = vlan {
        put(&[0x81, 0x00]);
        put(&id.to_be_bytes());
    }
    // EtherType RARP; Ethernet and IPv4, addresses of 6 and 4 bytes, request reverse.
    put(&[0x80, 0x35, 0, 1, 0x08, 0, 6, 4, 0, 3]);
    for _sender_and_target in 0..2 {
        put(&mac.0);
        put(&[0; 4]);
    }
    // The least that Ethernet carries.
    put(&[0; 18]);
    frame
}

/// What a worker has to announce: at most a list for each of its ports.
pub(crate) struct Announcer {
    lists: Vec<(PortIndex, Vec<Announcement>)>,
    /// The count of cycles before which nothing more is sent, and what is added to it by a batch.
    next: u64,
    pause: u64,
}

impl Announcer {
    pub fn new() -> Announcer {
        let pause = dpdk::tsc_hz() * BATCH as u64 / PER_SECOND;
        Announcer { lists: Vec::with_capacity(crate::MAX_PORTS), next: 0, pause }
    }

    /// Begins to announce these. Of what the uplink was announcing nothing more is sent.
    pub fn begin(&mut self, uplink: PortIndex, list: Vec<Announcement>) {
        self.lists.retain(|(port, _)| *port != uplink);
        self.lists.push((uplink, list));
    }

    pub fn is_busy(&self) -> bool {
        !self.lists.is_empty()
    }

    /// Sends a few, if it is time. A queue that takes nothing is waited for.
    pub fn go_on(&mut self, egress: &mut Egress, snapshot: &Snapshot, cycles: u64) {
        if cycles < self.next {
            return;
        }
        self.next = cycles + self.pause;
        let Some((uplink, mut list)) = self.lists.pop() else { return };
        if send(egress, uplink, snapshot, &mut list) && !list.is_empty() {
            // First the others.
            self.lists.insert(0, (uplink, list));
        }
    }
}

/// Sends a batch of a list; false if this worker has no way to the port any more.
fn send(egress: &mut Egress, uplink: PortIndex, snapshot: &Snapshot, list: &mut Vec<Announcement>) -> bool {
    let Egress { pool, counters, statistics, exits, .. } = egress;
    let Some((Way::Queue(queue), outbox)) = exits.get(uplink).map(|exit| (&mut exit.way, &mut exit.outbox))
    else {
        return false;
    };
    let mut taken = outbox.flush(|burst| queue.send(burst));
    if outbox.len() == 0 {
        for announcement in list.drain(list.len().saturating_sub(BATCH)..) {
            let Some(mac) = announcement.mac(snapshot, uplink) else { continue };
            let Some(packet) = Mbuf::from_bytes(pool, &frame(mac, announcement.vlan)) else {
                counters.dropped(DropReason::NoBuffer, InterfaceId::NONE);
                continue;
            };
            let (earlier, _) = outbox.push(packet, |burst| queue.send(burst));
            taken += earlier;
            statistics.announced.add(1);
        }
        taken += outbox.flush(|burst| queue.send(burst));
    }
    statistics.transmitted.add(taken as u64);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::forward::{Addresses, Interface, Interfaces, Uplink, Vpc};
    use engine::ids::VpcIndex;
    use engine::packet::build::mac;
    use engine::policy::{DirectionRules, Policy};
    use std::sync::Arc;

    const UPLINK: PortIndex = PortIndex(9);

    /// Of three VPCs with an interface each, and one more beyond the uplink in the first.
    fn snapshot() -> Snapshot {
        let interface = |n: u8, vpc: u16, port: Option<u16>| {
            Arc::new(Interface {
                id: InterfaceId::new(n.into(), 1),
                vpc: VpcIndex(vpc),
                mac: mac(n),
                port: port.map(PortIndex),
                behind: None,
                addresses: Addresses::new([]),
                source_dest_check: true,
                policy: Arc::new(Policy::new(DirectionRules::default(), DirectionRules::default())),
                revoked: None,
                timeouts: Default::default(),
                settings: Default::default(),
                border: None,
            })
        };
        let vpc = |n: u32| Vpc::new(vec![], vec![InterfaceId::new(n, 1)]);
        let carried = Uplink { untagged: Some(VpcIndex(0)), vlans: vec![(VlanId(7), VpcIndex(1))] };
        Snapshot {
            interfaces: Interfaces::new([
                interface(1, 0, Some(1)),
                interface(2, 1, Some(2)),
                interface(3, 2, Some(3)),
                interface(4, 0, None),
            ]),
            ports: [(UPLINK, PortRole::Uplink(carried))].into_iter().collect(),
            vpcs: vec![vpc(1), vpc(2), vpc(3)],
            ..Snapshot::closed()
        }
    }

    fn of(n: u32, vlan: Option<u16>) -> Announcement {
        Announcement { interface: InterfaceId::new(n, 1), vlan: vlan.map(VlanId) }
    }

    #[test]
    fn an_uplink_announces_what_is_here_of_the_vpcs_that_it_carries() {
        let snapshot = snapshot();
        assert_eq!(Announcement::all(&snapshot, UPLINK), [of(1, None), of(2, Some(7))]);
        assert_eq!(Announcement::all(&snapshot, PortIndex(1)), []);
        assert_eq!(of(1, None).mac(&snapshot, UPLINK), Some(mac(1)));
        // Another VPC's tag, a VPC that is not carried, one that is elsewhere or is no more.
        for untrue in [of(1, Some(7)), of(2, None), of(3, None), of(4, None), of(5, None)] {
            assert_eq!(untrue.mac(&snapshot, UPLINK), None, "{untrue:?}");
        }
        assert_eq!(of(1, None).mac(&snapshot, UPLINK.successor()), None);
    }

    #[test]
    fn a_frame_is_a_rarp_request_about_its_sender() {
        let plain = frame(mac(5), None);
        assert_eq!((plain.len(), &plain[..6], &plain[6..12]), (60, &[0xff; 6][..], &mac(5).0[..]));
        assert_eq!(plain[12..22], [0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3]);
        assert_eq!((&plain[22..28], &plain[32..38]), (&mac(5).0[..], &mac(5).0[..]));
        assert_eq!((&plain[28..32], &plain[38..]), (&[0; 4][..], &[0; 22][..]));
        let tagged = frame(mac(5), Some(VlanId(7)));
        assert_eq!((tagged.len(), &tagged[12..16]), (64, &[0x81, 0, 0, 7][..]));
        assert_eq!((&tagged[..12], &tagged[16..]), (&plain[..12], &plain[12..]));
    }

    #[test]
    fn a_new_list_takes_the_place_of_the_old_one() {
        let mut announcer = Announcer::new();
        announcer.begin(UPLINK, vec![of(1, None); 3]);
        announcer.begin(PortIndex(1), vec![of(1, None)]);
        announcer.begin(UPLINK, vec![of(2, None)]);
        assert_eq!(announcer.lists.len(), 2);
        assert!(announcer.lists.contains(&(UPLINK, vec![of(2, None)])));
    }
}
