//! A switch of two interfaces, and traffic between them, without DPDK.

use std::sync::Arc;

use arrayvec::ArrayVec;
use engine::addr::{Addr, Family, Prefix};
use engine::conntrack::{TableConfig, Timeouts};
use engine::forward::{Addresses, Behind, Interface, InterfaceSettings, Interfaces, PortRole, Uplink, Vpc};
use engine::ids::{InterfaceId, PortIndex, VpcIndex, WorkerIndex};
use engine::packet::build::{Packet, ip, mac};
use engine::packet::{Frame, TcpFlags};
use engine::pipeline::{Arrival, BURST, Counters, Outcomes, Pipeline, PipelineConfig};
use engine::policy::{DirectionRules, Policy, ServiceSet, SourceId, Tables};
use engine::snapshot::Snapshot;
use engine::time::Tick;

/// The time at which everything happens.
pub const NOW: Tick = Tick::from_secs(1);

/// The port of the uplink.
pub const UPLINK: u16 = 7;

/// Two interfaces on ports 0 and 1, an uplink, and what has become of the last burst.
pub struct Switch {
    pub pipeline: Pipeline,
    pub snapshot: Snapshot,
    out: Outcomes,
}

/// What the rules of both interfaces let pass between them.
#[derive(Clone, Copy)]
pub enum Rules {
    /// All of it, by rules for their block: it is tracked.
    Block,
    /// All of it, by rules for everyone: it is not tracked.
    Everyone,
    /// Nothing.
    Nothing,
    /// Whatever leaves, and nothing that comes: senders track it all the same.
    Outbound,
}

impl Switch {
    /// With room for `capacity` connections, of which each interface may track so many.
    pub fn new(capacity: usize, connections: u32, rules: Rules) -> Switch {
        let of = |rules| {
            let mut all = DirectionRules::default();
            match rules {
                Rules::Block => all.permit_block(SourceId(0), &ServiceSet::all()),
                Rules::Everyone => all.permit_everyone(Family::V4, &ServiceSet::all()),
                Rules::Nothing | Rules::Outbound => {}
            }
            all
        };
        let outbound = if let Rules::Outbound = rules { Rules::Everyone } else { rules };
        let policy = Arc::new(Policy::new(of(rules), of(outbound)));
        let interfaces = (0..2u8).map(|n| Interface {
            id: InterfaceId::new(n.into(), 1),
            vpc: VpcIndex(0),
            mac: mac(n + 1),
            port: Some(PortIndex(n.into())),
            behind: None,
            addresses: Addresses::new([Prefix::new(ip(&format!("10.{n}.0.0")), 16).expect("a prefix")]),
            source_dest_check: true,
            policy: policy.clone(),
            revoked: None,
            timeouts: Timeouts::DEFAULT,
            settings: InterfaceSettings { connections, ..InterfaceSettings::default() },
            border: None,
        });
        let block = Prefix::new(ip("10.0.0.0"), 8).expect("a prefix");
        let tables = Tables {
            cidrs: Arc::new(engine::policy::Cidrs::new([(block, SourceId(0))]).expect("one block")),
            scopes: vec![vec![VpcIndex(0)]],
            ..Tables::default()
        };
        let uplink = Uplink { untagged: Some(VpcIndex(0)), ..Uplink::default() };
        let snapshot = Snapshot {
            generation: 1,
            interfaces: Interfaces::new(interfaces.map(Arc::new)),
            ports: (0..2)
                .map(|n| (PortIndex(n), PortRole::Interface(InterfaceId::new(n.into(), 1))))
                .chain([(PortIndex(UPLINK), PortRole::Uplink(uplink))])
                .collect(),
            vpcs: vec![Vpc::new(
                vec![(PortIndex(UPLINK), None)],
                vec![InterfaceId::new(0, 1), InterfaceId::new(1, 1)],
            )],
            tables,
            exempt: vec![],
        };
        let config = PipelineConfig {
            worker: WorkerIndex(0),
            workers: 1,
            table: TableConfig { capacity },
            seed: [1, 2, 3, 4],
            advise: |_| (),
            interface_slots: 8,
            counters: Arc::new(Counters::new(8)),
        };
        Switch { pipeline: Pipeline::new(config), snapshot, out: Outcomes::new() }
    }

    /// Takes the second interface away: who has its MAC is beyond this many uplinks,
    /// of ports 1 and above, by which one they are heard or said to be.
    pub fn move_beyond(&mut self, uplinks: u16, is_located: bool) {
        let uplink = Uplink { untagged: Some(VpcIndex(0)), vlans: vec![] };
        self.snapshot.interfaces = self.snapshot.interfaces.with_changes([InterfaceId::new(1, 1)], []);
        for port in (1..=uplinks).map(PortIndex) {
            self.snapshot.ports.set(port, PortRole::Uplink(uplink.clone()));
        }
        let uplinks = (1..=uplinks).map(|port| (PortIndex(port), None)).collect();
        let hosts = is_located.then_some((mac(2), Behind::Uplink(PortIndex(1))));
        let vpc = Vpc::new(uplinks, vec![InterfaceId::new(0, 1)]);
        self.snapshot.vpcs = vec![vpc.with_located(hosts.into_iter().collect(), false)];
    }

    /// Adds up what connections carry, as while somebody watches.
    pub fn keep_accounts(&mut self) {
        let config = TableConfig { capacity: self.pipeline.table().capacity() };
        self.pipeline.keep_accounts(Some(Box::new(config.accounts(|_| ()))));
    }

    /// Judges a burst that came in at one port.
    pub fn run(&mut self, port: u16, frames: &[Vec<u8>]) {
        // Not collected, which would copy it as a whole.
        let mut arrivals = ArrayVec::<_, BURST>::new();
        arrivals.extend(frames.iter().map(|frame| arrival(port, frame)));
        self.pipeline.run(&self.snapshot, NOW, &arrivals, &mut (), &mut self.out);
    }
}

fn arrival(port: u16, bytes: &[u8]) -> Arrival<'_> {
    Arrival { frame: Frame::whole(bytes), port: PortIndex(port), steered: false, of: None }
}

/// The first datagram of each of `flows` flows from port 0 to port 1, in an
/// order without a pattern.
pub fn requests(flows: u32) -> Vec<Vec<u8>> {
    datagrams(flows, true)
}

/// The answers to them.
pub fn replies(flows: u32) -> Vec<Vec<u8>> {
    datagrams(flows, false)
}

/// The first segment of each of `flows` connections from beyond the uplink to port 1.
pub fn beginnings(flows: u32) -> Vec<Vec<u8>> {
    let segment = |n: u32| {
        let n = n.wrapping_mul(0x9e37_79b1) % flows.next_power_of_two();
        let client = Addr::v4(0x0a80_0000 + (n & 0x000f_ffff));
        let one = format!("{client}:{}", 1024 + (n >> 20));
        Packet::tcp(&one, "10.1.0.1:443", TcpFlags::SYN, n, 0, &[]).frame(mac(9), mac(2))
    };
    (0..flows).map(segment).collect()
}

fn datagrams(flows: u32, there: bool) -> Vec<Vec<u8>> {
    let flow = |n: u32| {
        // Odd, so that no two numbers below a power of two meet.
        let n = n.wrapping_mul(0x9e37_79b1) % flows.next_power_of_two();
        let (client, server) = (Addr::v4(0x0a00_0001 + (n & 0xff)), Addr::v4(0x0a01_0001 + (n >> 8 & 0xff)));
        let (one, other) = (format!("{client}:{}", 1024 + (n >> 16)), format!("{server}:53"));
        match there {
            true => Packet::udp(&one, &other, &[0; 18]).frame(mac(1), mac(2)),
            false => Packet::udp(&other, &one, &[0; 18]).frame(mac(2), mac(1)),
        }
    };
    (0..flows).map(flow).collect()
}
