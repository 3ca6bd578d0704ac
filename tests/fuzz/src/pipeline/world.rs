//! Three interfaces and an uplink in one VPC, and what must hold of whatever
//! becomes of a packet.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use engine::addr::{Addr, Family, Prefix};
use engine::conntrack::{TableConfig, TableStatistics, Timeouts};
use engine::flow::FlowKey;
use engine::forward::{
    Addresses, Delivery, Interface, InterfaceSettings, Interfaces, PortRole, PortRoles, Uplink, VlanEdit, Vpc,
};
use engine::fragment::FragmentOf;
use engine::ids::{InterfaceId, PortIndex, VlanId, VpcIndex, WorkerIndex};
use engine::packet::build::{ip, mac};
use engine::packet::{Frame, Packet, parse};
use engine::pipeline::{
    Arrival, BURST, Counters, InterfaceCounters, Outcome, Outcomes, PassClass, Pipeline, PipelineConfig,
};
use engine::policy::{
    Cidrs, Direction, DirectionRules, Members, Policy, Revoked, ServiceSet, SourceId, Tables,
};
use engine::snapshot::Snapshot;
use engine::time::Tick;

use crate::input::Input;

/// How many there are; each is at the port of its number.
pub(super) const INTERFACES: usize = 3;

const VPC: VpcIndex = VpcIndex(0);
const UPLINK: PortIndex = PortIndex(INTERFACES as u16);
/// Bound to nothing.
const NOWHERE: PortIndex = PortIndex(INTERFACES as u16 + 1);
const TAG: VlanId = VlanId(7);
const WORKER: WorkerIndex = WorkerIndex(0);

/// What rules name beside everyone: interface b as a group's member, and a block.
const MEMBER: SourceId = SourceId(1);
const BLOCK: SourceId = SourceId(2);

/// A frame as it waits for the burst.
pub(super) struct Waiting {
    pub bytes: Vec<u8>,
    /// How many of its bytes are in the first segment.
    pub head: usize,
    pub port: PortIndex,
    pub steered: bool,
    /// For a fragment that has waited for its first: what that has told.
    pub of: Option<FragmentOf>,
}

impl Waiting {
    pub fn frame(&self) -> Frame<'_> {
        Frame { head: &self.bytes[..self.head], length: self.bytes.len() as u32 }
    }
}

/// What has been seen so far, to be held against the counters.
#[derive(Default)]
struct Seen {
    packets: u64,
    handed_over: u64,
    dropped: u64,
    passed: u64,
    /// Packets and bytes, sent by each interface and delivered to each.
    sent: [(u64, u64); INTERFACES],
    delivered: [(u64, u64); INTERFACES],
}

pub(super) struct World {
    pub now: Tick,
    pub interfaces: Vec<Interface>,
    pub tables: Tables,
    /// Which end's rules have permitted a packet of which flow, at any time.
    pub permitted: HashSet<(InterfaceId, FlowKey)>,
    pipeline: Pipeline,
    workers: u8,
    uplink: Uplink,
    generation: u64,
    /// What first fragments have told, by source, destination and identification.
    pub firsts: HashMap<(Addr, Addr, u32), HashSet<FragmentOf>>,
    burst: Vec<Waiting>,
    /// Fragments that wait for their first, by their places.
    pieces: HashMap<u16, Waiting>,
    out: Outcomes,
    seen: Seen,
}

impl World {
    pub fn new(input: &mut Input<'_>) -> World {
        let workers = 1 + (input.byte() & 1);
        let capacity = 1 + usize::from(input.byte() % 64);
        let tagged = input.flag();
        let counters = Arc::new(Counters::new(INTERFACES));
        let interfaces = (1..=INTERFACES as u8).map(|n| Interface {
            id: InterfaceId::new(u32::from(n) - 1, 1),
            vpc: VPC,
            mac: mac(n),
            port: Some(PortIndex(u16::from(n) - 1)),
            behind: None,
            addresses: Addresses::new(
                [format!("10.0.0.{n}"), format!("fd00::{n}")].map(|a| Prefix::host(ip(&a))),
            ),
            source_dest_check: true,
            policy: Arc::new(Policy::new(DirectionRules::default(), DirectionRules::default())),
            revoked: None,
            timeouts: Timeouts::DEFAULT,
            settings: InterfaceSettings::default(),
            border: None,
        });
        let mut world = World {
            now: Tick::from_secs(1),
            interfaces: interfaces.collect(),
            tables: tables(),
            permitted: HashSet::new(),
            pipeline: Pipeline::new(PipelineConfig {
                worker: WORKER,
                workers,
                table: TableConfig { capacity },
                seed: [1, 2, 3, 4],
                advise: |_| (),
                interface_slots: INTERFACES,
                counters,
            }),
            workers,
            uplink: match tagged {
                true => Uplink { untagged: None, vlans: vec![(TAG, VPC)] },
                false => Uplink { untagged: Some(VPC), vlans: vec![] },
            },
            generation: 1,
            firsts: HashMap::new(),
            burst: Vec::with_capacity(BURST),
            pieces: HashMap::new(),
            out: Outcomes::new(),
            seen: Seen::default(),
        };
        (0..INTERFACES).for_each(|who| world.change_rules(who, input));
        world
    }

    /// Other rules for an interface; what was open may be remembered as revoked.
    pub fn change_rules(&mut self, who: usize, input: &mut Input<'_>) {
        let (inbound, outbound) = (input.byte(), input.byte());
        let interface = &mut self.interfaces[who];
        interface.policy = Arc::new(Policy::new(rules(inbound), rules(outbound)));
        interface.revoked = input.flag().then(|| {
            let mut revoked = Revoked::default();
            for family in [Family::V4, Family::V6] {
                revoked.any[Direction::Inbound as usize][family as usize] = ServiceSet::ports(6, 80, 80);
            }
            Arc::new(revoked)
        });
        self.generation += 1;
    }

    /// Pulls an interface's plug or puts it in again, turns its checks on or off.
    pub fn change_interface(&mut self, who: usize, input: &mut Input<'_>) {
        let change = input.byte();
        let interface = &mut self.interfaces[who];
        interface.port = (change & 1 == 0).then_some(PortIndex(who as u16));
        interface.source_dest_check = change & 2 == 0;
        self.generation += 1;
    }

    fn snapshot(&self) -> Snapshot {
        let mut ports = PortRoles::default();
        let mut local = vec![];
        for interface in &self.interfaces {
            if let Some(port) = interface.port {
                ports.set(port, PortRole::Interface(interface.id));
                local.push(interface.id);
            }
        }
        let uplink = (UPLINK, self.uplink.vlans.first().map(|(tag, _)| *tag));
        ports.set(UPLINK, PortRole::Uplink(self.uplink.clone()));
        Snapshot {
            generation: self.generation,
            interfaces: Interfaces::new(self.interfaces.iter().cloned().map(Arc::new)),
            ports,
            vpcs: vec![Vpc::new(vec![uplink], local)],
            tables: self.tables.clone(),
            exempt: vec![],
        }
    }

    /// Lets a frame wait for the burst; a full burst is run.
    pub fn arrive(&mut self, bytes: Vec<u8>, input: &mut Input<'_>) {
        let how = input.byte();
        let port = PortIndex(u16::from(how % 5));
        let steered = how & 0x40 != 0;
        let cut = if how & 0x80 != 0 { usize::from(input.byte()) } else { bytes.len() };
        let head = cut.min(bytes.len());
        self.burst.push(Waiting { bytes, head, port, steered, of: None });
        if self.burst.len() == BURST {
            self.run();
        }
    }

    pub fn housekeep(&mut self) {
        self.run();
        self.pipeline.housekeep(self.now);
        self.forget_discarded();
        self.check_table();
    }

    /// Runs the burst that waits, and the fragments that waited for one of it;
    /// holds what comes out against what is known.
    pub fn run(&mut self) {
        let burst = std::mem::take(&mut self.burst);
        self.seen.packets += burst.len() as u64;
        self.judge(burst);
        let released: Vec<_> = self.pipeline.released().collect();
        for chunk in released.chunks(BURST) {
            let pieces = chunk.iter().map(|(slot, of)| {
                let piece = self.pieces.remove(&slot.0).expect("it waits there");
                Waiting { of: Some(*of), steered: false, ..piece }
            });
            let pieces = pieces.collect();
            self.judge(pieces);
            assert_eq!(self.pipeline.released().count(), 0, "what has waited releases nothing");
        }
        self.forget_discarded();
        self.check_counters();
        self.check_table();
    }

    fn judge(&mut self, burst: Vec<Waiting>) {
        let snapshot = self.snapshot();
        let arrival = |w| -> Arrival<'_> {
            let w: &Waiting = w;
            Arrival { frame: w.frame(), port: w.port, steered: w.steered, of: w.of }
        };
        let arrivals: Vec<_> = burst.iter().map(arrival).collect();
        self.pipeline.run(&snapshot, self.now, &arrivals, &mut (), &mut self.out);
        // All first: a packet may open a flow for one that stands before it in the burst.
        burst.iter().for_each(|w| self.note_permitted(w));
        let out = std::mem::take(&mut self.out);
        let mut copies = Vec::new();
        for (i, waiting) in burst.into_iter().enumerate() {
            match out.get(i) {
                Outcome::Drop(_) => self.seen.dropped += 1,
                Outcome::HandOver { to, of } => {
                    self.seen.handed_over += 1;
                    assert!(*to != WORKER && to.0 < self.workers, "{to:?}");
                    assert!(!waiting.steered || of.is_some(), "only fragments are handed on");
                }
                Outcome::Wait(slot) => {
                    assert!(waiting.of.is_none() && self.pieces.insert(slot.0, waiting).is_none());
                }
                Outcome::Send(delivery) => self.passed(&waiting, &[*delivery]),
                Outcome::Flood(places) => {
                    copies.push(places.clone());
                    self.passed(&waiting, out.copies(places));
                }
            }
        }
        check_copies(copies, out.deliveries().len());
        self.out = out;
    }

    /// What has waited too long is counted already.
    fn forget_discarded(&mut self) {
        for slot in self.pipeline.discarded() {
            self.pieces.remove(&slot.0).expect("it waits there");
            self.seen.dropped += 1;
        }
        self.pipeline.reuse();
        assert_eq!(self.pipeline.waiting(), self.pieces.len());
    }

    /// The interface at a port.
    pub fn at_port(&self, port: PortIndex) -> Option<&Interface> {
        self.interfaces.iter().find(|i| i.port == Some(port))
    }

    fn passed(&mut self, waiting: &Waiting, deliveries: &[Delivery]) {
        self.seen.passed += 1;
        let packet = parse(waiting.frame()).expect("what passes can be read");
        assert_ne!(waiting.port, NOWHERE);
        let bytes = waiting.bytes.len() as u64;
        let sender = self.at_port(waiting.port).cloned();
        if let Some(sender) = &sender {
            assert!(packet.source == sender.mac && !packet.tagged, "{packet:?} from {:?}", sender.id);
            add(&mut self.seen.sent[sender.id.slot()], bytes);
        }
        for (i, delivery) in deliveries.iter().enumerate() {
            assert_ne!(delivery.port, waiting.port, "back to where it came from");
            assert!(deliveries[..i].iter().all(|d| d.port != delivery.port), "two copies: {deliveries:?}");
            self.delivered(&packet, delivery, bytes);
        }
        self.check_permitted(waiting, sender.as_ref(), deliveries);
    }

    fn delivered(&mut self, packet: &Packet, delivery: &Delivery, bytes: u64) {
        if delivery.port == UPLINK {
            let vlan = self.uplink.vlans.first().map_or(VlanEdit::Keep, |(tag, _)| VlanEdit::Push(*tag));
            assert_eq!((delivery.receiver, delivery.vlan), (InterfaceId::NONE, vlan));
            return;
        }
        let receiver = self.at_port(delivery.port).expect("copies go to ports in use");
        let vlan = if packet.tagged { VlanEdit::Strip } else { VlanEdit::Keep };
        assert_eq!((delivery.receiver, delivery.vlan), (receiver.id, vlan));
        let slot = receiver.id.slot();
        add(&mut self.seen.delivered[slot], bytes);
    }

    /// Every packet is counted once, and at the interfaces it was seen at.
    fn check_counters(&self) {
        let (counters, seen) = (self.pipeline.counters(), &self.seen);
        let passed: u64 = PassClass::ALL.iter().map(|class| counters.passed(*class)).sum();
        assert_eq!((passed, counters.drops.total()), (seen.passed, seen.dropped));
        let waiting = self.pieces.len() as u64;
        assert_eq!(seen.passed + seen.dropped + seen.handed_over + waiting, seen.packets);
        let mut dropped = 0;
        for interface in &self.interfaces {
            let slot = interface.id.slot();
            let at: &InterfaceCounters = counters.interface(interface.id).expect("there are that many slots");
            assert_eq!((at.outbound_packets.get(), at.outbound_bytes.get()), seen.sent[slot]);
            assert_eq!((at.inbound_packets.get(), at.inbound_bytes.get()), seen.delivered[slot]);
            dropped += at.drops.total();
        }
        assert!(dropped <= seen.dropped, "a drop was counted at two interfaces");
        assert!(counters.table_hits.get() + counters.table_misses.get() <= seen.packets);
    }

    fn check_table(&self) {
        let table = self.pipeline.table();
        let TableStatistics { inserted, expired, shed, .. } = table.statistics();
        for interface in &self.interfaces {
            assert!(table.tracked_by(interface.id.slot()) as usize <= table.len());
        }
        assert!(table.len() <= table.capacity());
        assert_eq!(table.len() as u64, inserted - expired - shed);
    }
}

fn add((packets, sum): &mut (u64, u64), bytes: u64) {
    *packets += 1;
    *sum += bytes;
}

/// Floods share no place, have two at least, and no copy belongs to none.
fn check_copies(mut copies: Vec<Range<u32>>, all: usize) {
    copies.sort_by_key(|places| places.start);
    assert!(copies.iter().all(|places| places.len() > 1), "{copies:?}");
    let ends = copies.iter().fold(0, |end, places| {
        assert_eq!(places.start, end);
        places.end
    });
    assert_eq!(ends as usize, all);
}

fn tables() -> Tables {
    let member = |a: &str| ((VPC, ip(a)), Some(Arc::from([MEMBER])));
    let block = |a: Addr, length| Some((Prefix::new(a, length)?, BLOCK));
    let blocks = [block(ip("192.0.2.0"), 24), block(ip("2001:db8::"), 32)];
    Tables {
        members: Members::default().with_changes(["10.0.0.2", "fd00::2"].map(member)),
        cidrs: Arc::new(Cidrs::new(blocks.into_iter().flatten()).expect("two blocks")),
        scopes: vec![vec![VPC]],
        ..Tables::default()
    }
}

/// Rules of one direction, one for each bit.
fn rules(bits: u8) -> DirectionRules {
    let mut rules = DirectionRules::default();
    let wanted = |bit: u8| bits >> bit & 1 != 0;
    for (family, icmp) in [(Family::V4, 1), (Family::V6, 58)] {
        let everyone = [
            (0, ServiceSet::all()),
            (1, ServiceSet::ports(17, 0, 100)),
            (2, ServiceSet::ports(6, 80, 80)),
            (3, ServiceSet::ports(6, 0, u16::MAX)),
            (4, ServiceSet::icmp(icmp, None, None)),
            (5, ServiceSet::protocol(47)),
        ];
        for (_, services) in everyone.iter().filter(|(bit, _)| wanted(*bit)) {
            rules.permit_everyone(family, services);
        }
    }
    if wanted(6) {
        rules.permit_group(MEMBER, &ServiceSet::ports(6, 0, 1000));
    }
    if wanted(7) {
        rules.permit_block(BLOCK, &ServiceSet::ports(17, 0, u16::MAX));
    }
    rules
}
