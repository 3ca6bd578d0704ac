//! What can be told of a packet to somebody who watches. It changes nothing, and
//! costs a second reading of the packet: nobody asks unless somebody watches.

use super::{Arrival, Pipeline};
use crate::conntrack::State;
use crate::flow::FlowKey;
use crate::forward::PortRole;
use crate::ids::{InterfaceId, VpcIndex, WorkerIndex};
use crate::packet::{self, Body, Fragment, Packet, Transport};
use crate::snapshot::Snapshot;
use crate::time::{Tick, Ticks};
use crate::verdict::DropReason;

/// The facts of a packet, as the stages see them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// What the headers say, or why it is no packet. Of a later fragment the
    /// ports are known if they were when it was observed.
    pub packet: Result<Packet, DropReason>,
    /// The VPC that its port says it is of; `None`: of none.
    pub vpc: Option<VpcIndex>,
    /// The interface that its port serves; `NONE` on an uplink.
    pub sender: InterfaceId,
    /// The interface plugged in here that its destination MAC names.
    pub receiver: InterfaceId,
    /// The worker that owns its flow; `None` where it has no flow.
    pub owner: Option<WorkerIndex>,
    /// Its connection at this worker.
    pub connection: Option<KnownConnection>,
}

/// A connection as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownConnection {
    /// What it has come to.
    pub state: State,
    /// Whether the packet's sender tracks it.
    pub sender_tracks: bool,
    /// Whether its receiver does.
    pub receiver_tracks: bool,
    /// Whether the packet's sender opened it.
    pub by_originator: bool,
    /// When it is forgotten unless a packet comes.
    pub expires_in: Ticks,
}

impl Pipeline {
    /// What the stages would find of this packet now.
    pub fn observe(&self, snapshot: &Snapshot, now: Tick, arrival: &Arrival<'_>) -> Observation {
        let mut seen = Observation {
            packet: packet::parse(arrival.frame),
            vpc: None,
            sender: InterfaceId::NONE,
            receiver: InterfaceId::NONE,
            owner: None,
            connection: None,
        };
        let Ok(packet) = &mut seen.packet else { return seen };
        match snapshot.port(arrival.port) {
            PortRole::Interface(id) => {
                seen.sender = *id;
                seen.vpc = snapshot.interfaces.get(*id).map(|i| i.vpc);
            }
            PortRole::Uplink(uplink) => seen.vpc = uplink.vpc(packet.vlan),
            PortRole::Unbound => {}
        }
        let Some(vpc) = seen.vpc else { return seen };
        let receiver = snapshot.interfaces.by_mac(vpc, packet.destination);
        seen.receiver = receiver.filter(|i| i.port.is_some()).map_or(InterfaceId::NONE, |i| i.id);
        let Body::Ip(ip) = &mut packet.body else { return seen };
        if let (Transport::Fragment(fragment), Some(of)) = (ip.transport, arrival.of) {
            ip.protocol = of.protocol;
            ip.transport = Transport::Fragment(Fragment { ports: Some(of.ports), ..fragment });
        }
        let Some((key, side)) = FlowKey::of(vpc, ip) else { return seen };
        let hash = self.hasher.hash(&key);
        seen.owner = Some(hash.owner(self.workers));
        seen.connection = self.table.lookup(now, hash, &key).map(|slot| {
            let entry = self.table.entry(slot);
            KnownConnection {
                state: entry.state(),
                sender_tracks: entry.is_tracked(side),
                receiver_tracks: entry.is_tracked(side.other()),
                by_originator: entry.originator() == side,
                expires_in: Ticks(entry.deadline().0.saturating_sub(now.0)),
            }
        });
        seen
    }
}
