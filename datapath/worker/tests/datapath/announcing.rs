//! What uplinks that have changed over say.

use std::time::{Duration, Instant};

use engine::forward::{PortRole, Uplink, Vpc};
use engine::ids::{InterfaceId, PortIndex, VlanId, VpcIndex};
use engine::packet::build::mac;
use engine::snapshot::Snapshot;
use engine::verdict::DropReason;
use worker::{Announcement, Datapath};

use crate::support::*;

const UPLINK: PortIndex = PortIndex(1);

/// `a` on port 0, of a VPC that port 1 leads to, and `b` of one that it does not.
fn uplinked(generation: u64, vlan: Option<VlanId>) -> Snapshot {
    let mut snapshot = snapshot(generation, true);
    let vlans = vlan.map(|vlan| (vlan, VpcIndex(0))).into_iter().collect();
    let untagged = vlan.is_none().then_some(VpcIndex(0));
    snapshot.ports.set(UPLINK, PortRole::Uplink(Uplink { untagged, vlans }));
    snapshot.vpcs = vec![Vpc::new(vec![(UPLINK, vlan)], vec![InterfaceId::new(0, 1)])];
    snapshot
}

fn announced(datapath: &Datapath) -> u64 {
    sum(datapath, |s| s.announced.get())
}

fn is_rarp_of_a(frame: &[u8], tag: &[u8]) -> bool {
    frame[6..12] == mac(1).0 && frame[12..].starts_with(&[tag, &[0x80, 0x35]].concat())
}

#[test]
fn interfaces_are_announced_by_the_uplink_under_its_tag() {
    let (_guard, eal) = alone();
    for (workers, vlan) in [(1, None), (2, Some(VlanId(7)))] {
        let initial = uplinked(1, vlan);
        let list = Announcement::all(&initial, UPLINK);
        assert_eq!(list.len(), 1);
        let Run { datapath, pool, output, _input } = run(&eal, workers, &[], initial);
        datapath.announce(UPLINK, list);
        // By a port that does not lead there, and by one that is not: nothing.
        for port in [PortIndex(0), UPLINK.successor(), PortIndex(7)] {
            datapath.announce(port, vec![Announcement { interface: InterfaceId::new(0, 1), vlan }]);
        }
        wait_until("it is sent", || announced(&datapath) == 1);
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(announced(&datapath), 1);
        datapath.stop();
        assert_eq!(pool.in_use(), 0);
        let frames = Capture::read(&output.0);
        let tag: &[u8] = if vlan.is_some() { &[0x81, 0, 0, 7] } else { &[] };
        assert!(frames.len() == 1 && is_rarp_of_a(&frames[0], tag), "{frames:?}");
    }
}

#[test]
fn many_are_announced_little_by_little_and_only_while_it_is_true() {
    let (_guard, eal) = alone();
    let Run { mut datapath, pool, output, _input } = run(&eal, 1, &[], uplinked(1, None));
    let many = |count| vec![Announcement { interface: InterfaceId::new(0, 1), vlan: None }; count];
    let start = Instant::now();
    datapath.announce(UPLINK, many(600));
    wait_until("all are sent", || announced(&datapath) == 600);
    // The first sixteen at once, all others at two thousand a second.
    let least = Duration::from_micros((600 - 2 * 16) * 500);
    assert!(start.elapsed() >= least, "{:?}", start.elapsed());
    // What is under way is given up for a new list.
    datapath.announce(UPLINK, many(100_000));
    wait_until("some are sent", || announced(&datapath) > 700);
    datapath.announce(UPLINK, many(1));
    std::thread::sleep(Duration::from_millis(100));
    let sent = announced(&datapath);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(announced(&datapath), sent);
    // What is true no more is left out.
    datapath.announce(UPLINK, many(100_000));
    datapath.publish(snapshot(2, true));
    datapath.wait_enforced(Duration::from_secs(5)).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let sent = announced(&datapath);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(announced(&datapath), sent);
    // The port goes with what it has still to say.
    datapath.publish(uplinked(3, None));
    datapath.wait_enforced(Duration::from_secs(5)).unwrap();
    assert_eq!(datapath.unplug(UPLINK), Some(0));
    let sent = announced(&datapath);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(announced(&datapath), sent);
    assert_eq!(drops(&datapath, DropReason::TransmitFull) + drops(&datapath, DropReason::NoBuffer), 0);
    datapath.stop();
    assert_eq!(pool.in_use(), 0);
    let frames = Capture::read(&output.0);
    assert!(frames.iter().all(|frame| is_rarp_of_a(frame, &[])));
    assert_eq!(frames.len() as u64, sent);
}
