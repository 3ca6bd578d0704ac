//! Ports that come and go while the workers run.

use dpdk::{MempoolConfig, Port};
use engine::ids::PortIndex;
use engine::snapshot::Snapshot;
use engine::verdict::DropReason;
use worker::{Datapath, MAX_PORTS, PlugError};

use crate::support::*;

fn plug_writer(datapath: &mut Datapath, eal: &dpdk::Eal, index: PortIndex) -> Capture {
    let output = Capture(std::env::temp_dir().join(unique("sgswitch-out-")));
    let devargs = format!("{},tx_pcap={}", unique("net_pcap_out"), output.0.display());
    plug(datapath, eal, index, &devargs);
    output
}

fn plug_reader(datapath: &mut Datapath, eal: &dpdk::Eal, index: PortIndex, frames: &[Vec<u8>]) -> Capture {
    let input = Capture::new(frames);
    let devargs = format!("{},rx_pcap={}", unique("net_pcap_in"), input.0.display());
    plug(datapath, eal, index, &devargs);
    input
}

#[test]
fn a_port_that_goes_takes_nothing_with_it_and_one_that_comes_takes_over() {
    let (_guard, eal) = alone();
    for workers in [1, 2] {
        let pool = pool(&eal);
        let mut datapath = Datapath::start(&eal, &pool, &config(workers), snapshot(1, true)).unwrap();
        let frames = requests(40);
        let passing = 90;
        let sent = |datapath: &Datapath| sum(datapath, |s| s.transmitted.get());
        let gone = |datapath: &Datapath| drops(datapath, DropReason::PortGone);
        // Nothing to leave by: judged, counted, freed.
        let _input = plug_reader(&mut datapath, &eal, PortIndex(0), &frames);
        wait_until("none leaves", || gone(&datapath) == passing);
        let output = plug_writer(&mut datapath, &eal, PortIndex(1));
        assert_eq!(datapath.unplug(PortIndex(0)), Some(0));
        let _input = plug_reader(&mut datapath, &eal, PortIndex(0), &frames);
        wait_until("all leave", || sent(&datapath) == passing);
        assert_eq!(gone(&datapath), passing);
        // Gone again; its neighbour goes on.
        assert_eq!(datapath.unplug(PortIndex(1)), Some(0));
        assert_eq!(Capture::read(&output.0).len() as u64, passing, "written when it was closed");
        assert_eq!(datapath.unplug(PortIndex(0)), Some(0));
        let _input = plug_reader(&mut datapath, &eal, PortIndex(0), &frames);
        wait_until("none leaves", || gone(&datapath) == 2 * passing);
        assert_eq!(sent(&datapath), passing);
        datapath.stop();
        assert_eq!(pool.in_use(), 0);
    }
}

#[test]
fn a_slot_given_to_another_port_gets_nothing_that_was_the_first_ones() {
    let (_guard, eal) = alone();
    let pool = pool(&eal);
    let mut datapath = Datapath::start(&eal, &pool, &config(2), snapshot(1, true)).unwrap();
    // The policy knows port 1; in its slot is another.
    let other = PortIndex(1).successor();
    let output = plug_writer(&mut datapath, &eal, other);
    let frames = requests(40);
    let _input = plug_reader(&mut datapath, &eal, PortIndex(0), &frames);
    wait_until("none leaves", || drops(&datapath, DropReason::PortGone) == 90);
    // What comes by a port that the policy does not know is nobody's.
    assert_eq!(datapath.unplug(PortIndex(0)), Some(0));
    let _input = plug_reader(&mut datapath, &eal, PortIndex(0).successor(), &frames);
    wait_until("none is judged", || drops(&datapath, DropReason::PortUnbound) == 120);
    assert_eq!(sum(&datapath, |s| s.transmitted.get()), 0);
    assert_eq!(datapath.unplug(PortIndex(1)), None, "there is none of this number");
    assert!(datapath.port(PortIndex(1)).is_none() && datapath.port(other).is_some());
    datapath.stop();
    assert!(Capture::read(&output.0).is_empty());
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn ports_come_and_go_under_traffic_and_every_packet_is_counted() {
    let (_guard, eal) = alone();
    let pool = pool(&eal);
    let mut datapath = Datapath::start(&eal, &pool, &config(2), snapshot(1, true)).unwrap();
    let null = || format!("{},size=60", unique("net_null_p"));
    plug(&mut datapath, &eal, PortIndex(0), &null());
    for round in 0..20 {
        let before = sum(&datapath, |s| s.received.get());
        let mut index = PortIndex(1);
        for _ in 0..round {
            index = index.successor();
        }
        plug(&mut datapath, &eal, index, &null());
        assert_eq!(datapath.unplug(index), Some(0));
        wait_until("the other port goes on", || sum(&datapath, |s| s.received.get()) > before);
    }
    let (received, dropped) = stopped(datapath);
    assert_eq!(received, dropped);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn what_waits_for_a_port_that_goes_is_counted() {
    let (_guard, eal) = alone();
    let pool = pool(&eal);
    let mut datapath = Datapath::start(&eal, &pool, &config(1), snapshot(1, true)).unwrap();
    // A machine that is not there reads nothing: 32 wait, no more are taken.
    let socket = std::env::temp_dir().join(unique("sgswitch-vhost-"));
    let devargs = format!("{},iface={}", unique("net_vhost_q"), socket.display());
    plug(&mut datapath, &eal, PortIndex(1), &devargs);
    let _input = plug_reader(&mut datapath, &eal, PortIndex(0), &requests(40));
    wait_until("all are judged", || drops(&datapath, DropReason::TransmitFull) == 90 - 32);
    assert_eq!(drops(&datapath, DropReason::PortGone), 0);
    assert_eq!(datapath.unplug(PortIndex(1)), Some(0));
    assert_eq!(drops(&datapath, DropReason::PortGone), 32);
    assert_eq!(stopped(datapath), (120, 120));
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn there_is_a_most_of_ports_and_one_more_is_refused() {
    let (_guard, eal) = alone();
    let pool = pool(&eal);
    let mut datapath = Datapath::start(&eal, &pool, &config(1), Snapshot::closed()).unwrap();
    let null = || Port::attach(&eal, &format!("{},no-rx=1", unique("net_null_m")));
    // As many of DPDK's as it has room for, and packet sockets in all other slots.
    for slot in 0..dpdk::MAX_PORTS as u16 {
        assert_eq!(datapath.plug(PortIndex(slot), null().unwrap()), Ok(0));
    }
    let refused = null().unwrap_err();
    assert!(matches!(&refused, dpdk::Error::NoRoom(device) if device.starts_with("net_null_m")), "{refused}");
    let socket = || packet_socket::Port::open(&unique("packet_socket"), "lo").unwrap();
    for slot in dpdk::MAX_PORTS as u16..MAX_PORTS as u16 {
        assert_eq!(datapath.plug(PortIndex(slot), socket()), Ok(0));
    }
    assert_eq!(
        datapath.plug(PortIndex(MAX_PORTS as u16), socket()),
        Err(PlugError::NoSlot(0)),
        "the number after the last slot is of the first one"
    );
    assert_eq!(datapath.unplug(PortIndex(7)), Some(0));
    let port = null().unwrap();
    assert_eq!(
        datapath.plug(PortIndex(8).successor(), port.clone()),
        Err(PlugError::NoSlot(8)),
        "it is taken"
    );
    assert_eq!(datapath.plug(PortIndex(7).successor(), port), Ok(0));
    datapath.stop();
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_port_for_which_there_are_too_few_buffers_says_so() {
    let (_guard, eal) = alone();
    let pool = pool_of(&eal, &MempoolConfig { mbufs: 255, cache: 0, ..MempoolConfig::default() });
    let mut datapath = Datapath::start(&eal, &pool, &config(1), Snapshot::closed()).unwrap();
    let tap = unique("net_tap_b");
    let port = Port::attach(&eal, &format!("{tap},iface={}", unique("sgwb"))).unwrap();
    let refused = datapath.plug(PortIndex(0), port).unwrap_err();
    assert!(matches!(refused, PlugError::Buffers { left: 255, wanted: 512, .. }), "{refused}");
    assert!(refused.to_string().contains("raise mbufs"), "{refused}");
    datapath.stop();
    assert_eq!(pool.in_use(), 0);
}
