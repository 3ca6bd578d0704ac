//! The path of plain packets against the stages that know everything: the same
//! bursts through two switches, of which one has no such path.

use proptest::prelude::*;

use super::super::*;
use super::world::{A, B, C, Open, UPLINK, World};
use crate::addr::Prefix;
use crate::conntrack::{Entry, Timeouts};
use crate::flow::Side;
use crate::forward::{Addresses, Behind, Border};
use crate::packet::TcpFlags;
use crate::packet::build::{Packet, ip, mac};
use crate::policy::NetworkAcl;

/// A second uplink, now and then.
const OTHER: PortIndex = PortIndex(4);

/// One packet among few flows, so that many meet; of some something is wrong.
#[derive(Clone, Debug)]
struct Sent {
    from: usize,
    to: usize,
    six: bool,
    ports: (u16, u16),
    /// `None`: UDP. Else flags, and how far the numbers are from what they should be.
    tcp: Option<(u8, i32, i32)>,
    fault: u8,
}

/// The hosts: those of the switch, A once more by an address that is not its
/// first, then two beyond the uplink.
const HOSTS: usize = 6;
const FIRST_BEYOND: usize = 4;

fn mac_of(host: usize) -> MacAddr {
    mac([1, 2, 3, 1, 99, 99][host])
}

impl Sent {
    fn frame(&self) -> (PortIndex, Vec<u8>) {
        let host = |n: usize| match (n, self.six) {
            (3, false) => "10.9.0.7".to_string(),
            (3, true) => "[fd00:a::7]".to_string(),
            (n, false) => format!("10.0.0.{}", n + 1),
            (n, true) => format!("[fd00::{}]", n + 1),
        };
        let mut source = host(self.from);
        if self.fault == 1 {
            source = host(self.to.max(1) - 1);
        }
        // What no host may have: its own machine's address, or none.
        let martian = if self.six { ["[::1]", "[::]"] } else { ["127.0.0.1", "0.0.0.0"] };
        let mut target = host(self.to);
        match self.fault {
            // Where its sender is, one path learns before it has looked, and the other does not.
            7 | 8 if self.from >= FIRST_BEYOND => {}
            7 => source = martian[usize::from(self.ports.0 > 1)].to_string(),
            8 => target = martian[usize::from(self.ports.0 > 1)].to_string(),
            _ => {}
        }
        let (source, target) = (format!("{source}:{}", self.ports.0), format!("{target}:{}", self.ports.1));
        let packet = match self.tcp {
            None => Packet::udp(&source, &target, b"data"),
            Some((flags, seq, ack)) => {
                let number = |side: usize, off: i32| (1000 * side as u32).wrapping_add_signed(off);
                let (seq, ack) = (number(self.from, seq), number(self.to, ack));
                Packet::tcp(&source, &target, TcpFlags(flags), seq, ack, b"")
            }
        };
        let destination =
            mac_of(if self.fault == 3 || self.fault == 2 { (self.to + 1) % HOSTS } else { self.to });
        let sender = mac_of(if self.fault == 4 { (self.from + 1) % HOSTS } else { self.from });
        let mut frame = match self.fault {
            5 => packet.options(&[1, 1, 1, 0]).frame(sender, destination),
            _ => packet.frame(sender, destination),
        };
        if self.fault == 6 {
            frame.truncate(40);
        }
        let last = if self.ports.0 == 1 { OTHER } else { UPLINK };
        let port = [PortIndex(0), PortIndex(1), PortIndex(2), PortIndex(0), UPLINK, last][self.from];
        (port, frame)
    }
}

fn sent() -> impl Strategy<Value = Sent> {
    let flags = prop_oneof![4 => Just(0x10u8), 3 => Just(0x02), 3 => Just(0x12), 1 => Just(0x11), 1 => Just(0x04), 1 => any::<u8>()];
    let off = || prop_oneof![6 => 0..2i32, 1 => any::<i32>()];
    let ports = prop_oneof![Just((1u16, 53u16)), Just((1, 80))];
    let fault = prop_oneof![20 => Just(0u8), 4 => 1..9u8];
    let tcp = prop_oneof![2 => Just(None), 1 => (flags, off(), off()).prop_map(Some)];
    (0..HOSTS, 0..HOSTS, prop::bool::weighted(0.3), (ports, any::<bool>()), tcp, fault)
        .prop_filter("a host does not speak to itself", |(from, to, ..)| from != to)
        .prop_map(|(from, to, six, (ports, back), tcp, fault)| {
            let ports = if back { (ports.1, ports.0) } else { ports };
            Sent { from, to, six, ports, tcp, fault }
        })
}

#[derive(Clone, Debug)]
enum Step {
    Burst(Vec<Sent>),
    Wait(u32),
    /// Another policy: which of the interfaces are how.
    Change {
        open: [u8; 3],
        guarded: bool,
        slow: bool,
        unchecked: bool,
        uplinks: u8,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec(sent(), 1..=60).prop_map(Step::Burst),
        4 => (0..40u32).prop_map(Step::Wait),
        4 => (prop::array::uniform3(prop_oneof![3 => Just(0x05u8), 3 => Just(0x85), 2 => Just(0x25), 2 => Just(0x45), 1 => any::<u8>()]), any::<bool>(), any::<bool>(), any::<bool>(), any::<u8>())
            .prop_map(|(open, guarded, slow, unchecked, uplinks)| Step::Change { open, guarded, slow, unchecked, uplinks }),
    ]
}

fn change(world: &mut World, open: [u8; 3], guarded: bool, slow: bool, unchecked: bool, uplinks: u8) {
    let way = |bits: u8| match bits & 3 {
        0 => vec![],
        1 => vec![Open::All],
        2 => vec![Open::Ports(17, 53, 53), Open::Ports(6, 80, 80)],
        _ => vec![Open::Ports(6, 0, 65535)],
    };
    for (who, bits) in open.into_iter().enumerate() {
        world.open(who, &way(bits), &way(bits >> 2));
        // What is open both ways would be in no table.
        world.interfaces[who].settings.force_tracking = bits & 0x40 == 0;
    }
    let own = |text: &str, length| Prefix::new(ip(text), length).expect("a prefix");
    let mut addresses =
        vec![own("10.0.0.1", 32), own("fd00::1", 128), own("10.9.0.0", 16), own("fd00:a::", 64)];
    addresses.truncate(if open[0] & 0x80 != 0 { 4 } else { 2 });
    world.interfaces[A].addresses = Addresses::new(addresses);
    world.interfaces[B].source_dest_check = !unchecked;
    world.interfaces[B].timeouts = if slow {
        Timeouts { udp: Ticks::from_secs(60), tcp_established: Ticks::from_secs(60), ..Timeouts::DEFAULT }
    } else {
        Timeouts::DEFAULT
    };
    // C has moved away, and what has its slot is another.
    let gone = open[2] & 0x20 != 0;
    world.interfaces[C].id = InterfaceId::new(C as u32, 1 + u16::from(gone));
    world.interfaces[C].port = (!gone).then_some(PortIndex(C as u16));
    // One uplink or two, behind which C is, or the hosts that are no interfaces, or nobody is said to be.
    world.other_uplink = (uplinks & 1 != 0).then_some(OTHER);
    let places = [None, Some(Behind::Uplink(UPLINK)), Some(Behind::Uplink(OTHER)), Some(Behind::Absent)];
    world.interfaces[C].behind = places[usize::from(uplinks >> 1 & 3)].filter(|_| gone);
    world.hosts = places[usize::from(uplinks >> 3 & 3)].map(|place| (mac(99), place)).into_iter().collect();
    let border = || Border { subnet: 1, acl: Arc::new(NetworkAcl::new(vec![], vec![])) };
    world.interfaces[C].border = guarded.then(border);
    world.generation += 1;
}

/// All that a switch knows and has counted.
fn state(world: &World) -> (Vec<String>, Vec<u64>, [u64; 2]) {
    let mut entries = vec![];
    let mut show = |entry: &Entry| {
        let mut entry = *entry;
        // What rules have refused is noted by one path alone.
        [Side::Low, Side::High].into_iter().for_each(|side| entry.refuse(side, 0));
        entries.push(format!("{entry:?}"));
    };
    world.pipeline.table().scan(world.now, 0, usize::MAX, &mut show);
    let counters = world.pipeline.counters();
    let mut counts: Vec<u64> = PassClass::ALL.iter().map(|class| counters.passed(*class)).collect();
    counts.extend(DropReason::ALL.iter().map(|reason| counters.drops.get(*reason)));
    for who in [A, B, C] {
        let at = world.at(who);
        counts.extend(
            [&at.outbound_packets, &at.outbound_bytes, &at.inbound_packets, &at.inbound_bytes]
                .map(Counter::get),
        );
        counts.push(at.drops.total());
    }
    (entries, counts, [&counters.table_hits, &counters.table_misses].map(Counter::get))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn plain_packets_are_judged_like_all_others(steps in prop::collection::vec(step(), 1..20)) {
        let [mut fast, mut slow] = [World::new(), World::new()];
        slow.pipeline.general_only = true;
        for world in [&mut fast, &mut slow] {
            change(world, [0x85, 5, 5], false, false, false, 0);
        }
        for step in steps {
            match step {
                Step::Burst(burst) => {
                    // One by one: in a burst, known flows go ahead of new ones.
                    for sent in burst {
                        let (port, frame) = sent.frame();
                        prop_assert_eq!(fast.put(port, &frame), slow.put(port, &frame), "{:?}", sent);
                    }
                }
                Step::Wait(seconds) => [&mut fast, &mut slow].into_iter().for_each(|w| w.now = w.now + Ticks::from_secs(seconds)),
                Step::Change { open, guarded, slow: other, unchecked, uplinks } => {
                    [&mut fast, &mut slow].into_iter().for_each(|w| change(w, open, guarded, other, unchecked, uplinks));
                }
            }
            prop_assert_eq!(state(&fast), state(&slow));
        }
    }

    /// Where nobody's flows are tracked, a burst is as its packets are one by one. With one
    /// uplink: by which of several somebody is, a burst tells before any of it is sent.
    #[test]
    fn bursts_that_nobody_tracks_are_judged_like_their_packets(
        steps in prop::collection::vec((prop::collection::vec(sent(), 1..=60), prop::array::uniform3(any::<bool>()), any::<u8>()), 1..10),
    ) {
        let [mut whole, mut single] = [World::new(), World::new()];
        for (burst, open, uplinks) in steps {
            let open = open.map(|open| if open { 0x45 } else { 0x40 });
            [&mut whole, &mut single].into_iter().for_each(|w| change(w, open, false, false, false, uplinks & !1));
            let frames: Vec<_> = burst.iter().map(Sent::frame).collect();
            for burst in frames.chunks(BURST) {
                let together = whole.burst(&burst.iter().map(|(port, frame)| (*port, &frame[..], false)).collect::<Vec<_>>());
                let apart: Vec<_> = burst.iter().map(|(port, frame)| single.put(*port, frame)).collect();
                prop_assert_eq!(together, apart);
            }
            prop_assert_eq!(state(&whole), state(&single));
            prop_assert_eq!(whole.connections(), 0);
        }
    }
}

#[test]
fn nearly_all_is_settled_in_bursts_as_it_is_one_by_one() {
    let frames = |n: u16| {
        let (there, back) = (format!("10.0.0.1:{n}"), "10.0.0.2:53".to_string());
        [
            (PortIndex(0), Packet::udp(&there, &back, b"q").frame(mac(1), mac(2))),
            (PortIndex(1), Packet::udp(&back, &there, b"a").frame(mac(2), mac(1))),
        ]
    };
    let all: Vec<_> = (1..=8).flat_map(frames).collect();
    let [mut whole, mut single] = [World::new(), World::new()];
    for world in [&mut whole, &mut single] {
        world.open(A, &[], &[Open::All]);
        world.open(B, &[Open::Ports(17, 53, 53)], &[]);
    }
    for _ in 0..3 {
        let burst: Vec<_> = all.iter().map(|(port, frame)| (*port, &frame[..], false)).collect();
        let together = whole.burst(&burst);
        let apart: Vec<_> = all.iter().map(|(port, frame)| single.put(*port, frame)).collect();
        assert_eq!(together, apart);
        assert_eq!(state(&whole), state(&single));
    }
    assert_eq!((whole.connections(), whole.passed(PassClass::Established)), (8, 40));
}
