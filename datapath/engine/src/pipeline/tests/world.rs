//! A small switch: interfaces a (port 0), b (port 1) and c (port 2), and an
//! uplink (port 3), in one VPC.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::*;
use crate::addr::Family;
use crate::addr::{MacAddr, Prefix};
use crate::conntrack::Timeouts;
use crate::forward::{
    Addresses, Behind, Delivery, ExemptService, Interfaces, PortRole, PortRoles, Uplink, VlanEdit, Vpc,
};
use crate::fragment::FragmentOf;
use crate::packet::build::{ip, mac};
use crate::policy::{Direction, DirectionRules, Policy, Revoked, ServiceSet};
use crate::verdict::DropReason;

pub const A: usize = 0;
pub const B: usize = 1;
pub const C: usize = 2;
pub const UPLINK: PortIndex = PortIndex(3);

/// All protocols, or ports of one, open to every address of both families.
#[derive(Clone, Copy)]
pub enum Open {
    All,
    Ports(u8, u16, u16),
    Icmp,
}

/// The rules of one direction: what is open to everyone.
pub fn rules(open: &[Open]) -> DirectionRules {
    let mut rules = DirectionRules::default();
    for (family, icmp) in [(Family::V4, 1), (Family::V6, 58)] {
        for rule in open {
            let services = match *rule {
                Open::All => ServiceSet::all(),
                Open::Ports(protocol, low, high) => ServiceSet::ports(protocol, low, high),
                Open::Icmp => ServiceSet::icmp(icmp, None, None),
            };
            rules.permit_everyone(family, &services);
        }
    }
    rules
}

pub struct World {
    pub pipeline: Pipeline,
    pub interfaces: Vec<Interface>,
    pub uplink: Option<Uplink>,
    /// A second one, which carries the same.
    pub other_uplink: Option<PortIndex>,
    /// Hosts that are no interfaces, and where the policy says that they are.
    pub hosts: hashbrown::HashMap<MacAddr, Behind>,
    pub generation: u64,
    pub now: Tick,
    pub out: Outcomes,
    pub exempt: Vec<ExemptService>,
    /// Fragments that wait for their first.
    pub waiting: HashMap<u16, (PortIndex, Vec<u8>)>,
}

impl World {
    /// Nothing is permitted anywhere.
    pub fn new() -> World {
        World::with(WorkerIndex(0), 1, 1000)
    }

    pub fn with(worker: WorkerIndex, workers: u8, capacity: usize) -> World {
        let interfaces = (0..3u8).map(|n| Interface {
            id: InterfaceId::new(u32::from(n), 1),
            vpc: VpcIndex(0),
            mac: mac(n + 1),
            port: Some(PortIndex(u16::from(n))),
            behind: None,
            addresses: Addresses::new([
                Prefix::host(ip(&format!("10.0.0.{}", n + 1))),
                Prefix::host(ip(&format!("fd00::{}", n + 1))),
            ]),
            source_dest_check: true,
            policy: Arc::new(Policy::new(DirectionRules::default(), DirectionRules::default())),
            revoked: None,
            timeouts: Timeouts::DEFAULT,
            settings: Default::default(),
            border: None,
        });
        World {
            pipeline: Pipeline::new(PipelineConfig {
                worker,
                workers,
                table: TableConfig { capacity },
                seed: [1, 2, 3, 4],
                advise: |_| (),
                interface_slots: 8,
                counters: Arc::new(Counters::new(8)),
            }),
            interfaces: interfaces.collect(),
            uplink: Some(Uplink { untagged: Some(VpcIndex(0)), vlans: vec![] }),
            other_uplink: None,
            hosts: Default::default(),
            generation: 1,
            now: Tick::from_secs(1),
            out: Outcomes::new(),
            exempt: vec![],
            waiting: HashMap::new(),
        }
    }

    /// Opens an interface to everyone, in this way.
    pub fn open(&mut self, who: usize, inbound: &[Open], outbound: &[Open]) {
        self.interfaces[who].policy = Arc::new(Policy::new(rules(inbound), rules(outbound)));
        // What rules say is the same within one.
        self.generation += 1;
    }

    /// What the compiler leaves when an open inbound rule for these ports goes.
    pub fn revoke_inbound(&mut self, who: usize, protocol: u8, low: u16, high: u16) {
        let mut revoked = Revoked::default();
        for family in [Family::V4, Family::V6] {
            revoked.any[Direction::Inbound as usize][family as usize] =
                ServiceSet::ports(protocol, low, high);
        }
        self.interfaces[who].revoked = Some(Arc::new(revoked));
    }

    pub fn snapshot(&self) -> Snapshot {
        let mut ports = PortRoles::default();
        for interface in &self.interfaces {
            if let Some(port) = interface.port {
                ports.set(port, PortRole::Interface(interface.id));
            }
        }
        let local = self.interfaces.iter().filter(|i| i.port.is_some()).map(|i| i.id).collect();
        let mut uplinks = vec![];
        if let Some(uplink) = &self.uplink {
            let tag = uplink.vlans.first().map(|(tag, _)| *tag);
            for port in [Some(UPLINK), self.other_uplink].into_iter().flatten() {
                uplinks.push((port, if uplink.untagged.is_some() { None } else { tag }));
                ports.set(port, PortRole::Uplink(uplink.clone()));
            }
        }
        let vpc = Vpc::new(uplinks, local);
        let are_located = self.interfaces.iter().any(|i| i.behind.is_some());
        Snapshot {
            generation: self.generation,
            interfaces: Interfaces::new(self.interfaces.iter().cloned().map(Arc::new)),
            ports,
            vpcs: vec![vpc.with_located(self.hosts.clone(), are_located)],
            tables: Default::default(),
            exempt: self.exempt.clone(),
        }
    }

    /// One frame into a port; what becomes of it.
    pub fn put(&mut self, port: PortIndex, frame: &[u8]) -> Outcome {
        self.burst(&[(port, frame, false)]).swap_remove(0)
    }

    /// Several frames in one burst.
    pub fn burst(&mut self, frames: &[(PortIndex, &[u8], bool)]) -> Vec<Outcome> {
        let snapshot = self.snapshot();
        let arrivals: Vec<_> = frames
            .iter()
            .map(|&(port, bytes, steered)| Arrival { frame: Frame::whole(bytes), port, steered, of: None })
            .collect();
        self.pipeline.run(&snapshot, self.now, &arrivals, &mut (), &mut self.out);
        (0..arrivals.len()).map(|i| self.out.get(i).clone()).collect()
    }

    /// A fragment into a port, and whatever its coming sets free, as a worker
    /// does it; outcomes in the order of the packets.
    pub fn piece(&mut self, port: PortIndex, frame: &[u8], of: Option<FragmentOf>) -> Vec<Outcome> {
        let snapshot = self.snapshot();
        let arrival = Arrival { frame: Frame::whole(frame), port, steered: false, of };
        self.pipeline.run(&snapshot, self.now, &[arrival], &mut (), &mut self.out);
        let mut outcomes = vec![self.out.get(0).clone()];
        if let Outcome::Wait(slot) = outcomes[0] {
            assert!(self.waiting.insert(slot.0, (port, frame.to_vec())).is_none(), "the place is taken");
        }
        let released: Vec<_> = self.pipeline.released().collect();
        for (slot, of) in released {
            let (port, frame) = self.waiting.remove(&slot.0).expect("it waits there");
            outcomes.extend(self.piece(port, &frame, Some(of)));
        }
        self.forget_discarded();
        outcomes
    }

    /// Empties the places of those that have waited too long.
    pub fn forget_discarded(&mut self) -> usize {
        let discarded: Vec<_> = self.pipeline.discarded().collect();
        for slot in &discarded {
            self.waiting.remove(&slot.0).expect("it waits there");
        }
        self.pipeline.reuse();
        discarded.len()
    }

    /// A packet from one interface to another, with the MACs they have.
    pub fn send(&mut self, from: usize, to: usize, packet: &crate::packet::build::Packet) -> Outcome {
        let (from, to) = (&self.interfaces[from], &self.interfaces[to]);
        let (port, frame) = (from.port, packet.frame(from.mac, to.mac));
        self.put(port.unwrap_or(UPLINK), &frame)
    }

    /// A packet from an interface to a host beyond the uplink, and back.
    pub fn send_out(&mut self, from: usize, packet: &crate::packet::build::Packet) -> Outcome {
        let from = &self.interfaces[from];
        let (port, frame) = (from.port.unwrap(), packet.frame(from.mac, mac(99)));
        self.put(port, &frame)
    }

    /// A packet from beyond the uplink.
    pub fn send_in(&mut self, to: usize, packet: &crate::packet::build::Packet) -> Outcome {
        let frame = packet.frame(mac(99), self.interfaces[to].mac);
        self.put(UPLINK, &frame)
    }

    pub fn connections(&self) -> usize {
        self.pipeline.table().len()
    }

    pub fn passed(&self, class: PassClass) -> u64 {
        self.pipeline.counters().passed(class)
    }

    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.pipeline.counters().drops.get(reason)
    }

    pub fn at(&self, who: usize) -> &InterfaceCounters {
        self.pipeline.counters().interface(self.interfaces[who].id).unwrap()
    }
}

/// Where a packet for this interface goes.
pub fn to(who: usize) -> Outcome {
    Outcome::Send(Delivery {
        port: PortIndex(who as u16),
        vlan: VlanEdit::Keep,
        receiver: InterfaceId::new(who as u32, 1),
    })
}

/// Where a packet for the rest of the network goes.
pub fn out() -> Outcome {
    Outcome::Send(Delivery { port: UPLINK, vlan: VlanEdit::Keep, receiver: InterfaceId::NONE })
}

/// What belongs to another worker.
pub fn handed_to(worker: usize) -> Outcome {
    Outcome::HandOver { to: WorkerIndex(worker as u8), of: None }
}
