//! What workers tell those who watch.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;
use engine::ids::PortIndex;
use engine::pipeline::{Fate, PassClass};
use engine::verdict::DropReason;
use worker::{Attention, MAX_TAPS, Sighting, Sightings, TapRequest, Traced};

use crate::support::*;

/// Four flows over and over, of which the last is denied.
fn endless(eal: &dpdk::Eal) -> Run {
    endless_of(eal, 4)
}

/// Up to four flows over and over, of which the fourth is denied.
fn endless_of(eal: &dpdk::Eal, flows: u16) -> Run {
    let run = run_with(eal, pool(eal), &config(1), &requests(flows), ",infinite_rx=1", snapshot(1, true));
    wait_until("connections are told", || sum(&run.datapath, |s| s.connections.get()) == 3);
    run
}

fn ports_of(sighting: &Sighting) -> (u16, u16) {
    sighting.ip.transport.ports().unwrap()
}

/// The next message.
fn next(sightings: &Receiver<Sightings>) -> Sightings {
    sightings.recv_timeout(Duration::from_secs(10)).unwrap()
}

#[test]
fn all_packets_are_told_of_while_somebody_attends_to_them() {
    let (_guard, eal) = alone();
    let Run { datapath, pool, .. } = endless(&eal);
    let sightings = datapath.sightings();
    assert!(sightings.recv_timeout(Duration::from_millis(100)).is_err(), "nobody has asked");
    datapath.attention().set(|| Attention::Everything);
    let mut seen: Vec<Sighting> = Vec::new();
    // Three of the flows have connections: these are told of now and then, and together.
    let is_together = |sighting: &&Sighting| sighting.packets > 1;
    while seen.iter().filter(is_together).count() < 6 || seen.len() < 500 {
        let message = next(&sightings);
        assert_eq!((message.worker.0, message.generation), (0, 1));
        seen.extend(message.list);
    }
    for sighting in &seen {
        let denied = ports_of(sighting).1 == 54;
        let fate = match denied {
            true => Fate::Dropped(DropReason::OutboundDenied),
            false => Fate::Passed(PassClass::Established),
        };
        assert_eq!((sighting.fate, sighting.bytes), (fate, 62 * u64::from(sighting.packets)));
        assert!(!denied || sighting.packets == 1);
    }
    for port in [1000, 1001, 1002] {
        let of_it = |s: &&Sighting| ports_of(s).0 == port && s.packets > 1;
        assert!(seen.iter().any(|sighting| of_it(&sighting)), "of {port} packets are told together");
    }
    datapath.attention().set(|| Attention::Nothing);
    wait_until("what was under way is over", || {
        sightings.try_iter().count() == 0 && sightings.recv_timeout(Duration::from_millis(50)).is_err()
    });
    datapath.stop();
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn what_rules_permit_is_told_of_and_what_state_does_is_not() {
    let (_guard, eal) = alone();
    let Run { datapath, pool, .. } = endless(&eal);
    let sightings = datapath.sightings();
    datapath.attention().set(|| Attention::Permitted);
    assert!(sightings.recv_timeout(Duration::from_millis(200)).is_err(), "all is established or denied");
    // A connection that an operator ends is opened anew by its next packet.
    let port = |port| {
        move |entry: &engine::conntrack::Entry| {
            engine::flow::Side::BOTH.iter().any(|side| entry.key().endpoint(*side).1 == port)
        }
    };
    let forgotten = datapath.forget_connections(port(1001));
    assert_eq!(forgotten.iter().map(|(_, n)| n).sum::<usize>(), 1);
    let message = next(&sightings);
    assert_eq!(message.list.len(), 1);
    assert_eq!(ports_of(&message.list[0]), (1001, 53));
    assert_eq!(message.list[0].fate, Fate::Passed(PassClass::NewTracked));
    assert_eq!(datapath.forget_connections(port(7)), [(engine::ids::WorkerIndex(0), 0)]);
    wait_until("it is counted", || sum(&datapath, |s| s.connections_killed.get()) == 1);
    datapath.stop();
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn who_waits_for_it_knows_when_all_was_told() {
    let (_guard, eal) = alone();
    let Run { datapath, pool, .. } = endless_of(&eal, 3);
    let sightings = datapath.sightings();
    let established = |message: &Sightings| {
        let of_it = message.list.iter().filter(|s| s.fate == Fate::Passed(PassClass::Established));
        of_it.map(|sighting| u64::from(sighting.packets)).sum::<u64>()
    };
    datapath.attention().set(|| Attention::Everything);
    // Until the accounts are there.
    wait_until("packets are told together", || next(&sightings).list.iter().any(|s| s.packets > 1));
    let passed = || datapath.workers()[0].counters.passed(PassClass::Established);
    let (before, attention) = (passed(), datapath.attention().clone());
    wait_until("packets pass", || {
        sightings.try_iter().for_each(drop);
        passed() > before + 10_000
    });
    let waiter = std::thread::spawn(move || attention.settle());
    let mut told = 0;
    loop {
        let message = next(&sightings);
        told += established(&message);
        if let Some(mark) = message.mark {
            break mark.send(()).unwrap();
        }
    }
    waiter.join().unwrap();
    assert!(told > 0, "what they had carried came before the mark");
    // Where nobody takes what is told, nobody waits for long, and nothing is kept for good.
    datapath.attention().set(|| Attention::Nothing);
    datapath.attention().settle();
    datapath.stop();
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn what_nobody_takes_is_lost_and_counted_and_holds_nobody_up() {
    let (_guard, eal) = alone();
    let Run { datapath, pool, .. } = endless(&eal);
    datapath.attention().set(|| Attention::Everything);
    wait_until("some are lost", || sum(&datapath, |s| s.sightings_lost.get()) > 0);
    let before = sum(&datapath, |s| s.transmitted.get());
    wait_until("packets go on", || sum(&datapath, |s| s.transmitted.get()) > before + 1000);
    // Single packets leave room for what connections have carried, and for the mark behind it.
    let attention = datapath.attention().clone();
    let waiter = std::thread::spawn(move || attention.settle());
    let sightings = datapath.sightings();
    let (mut together, mut mark) = (0, None);
    while mark.is_none() {
        let message = next(&sightings);
        together += message.list.iter().filter(|sighting| sighting.packets > 1).count();
        mark = message.mark;
    }
    assert!(together >= 3, "all three connections were told of");
    mark.unwrap().send(()).unwrap();
    waiter.join().unwrap();
    datapath.stop();
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_trace_shows_the_chosen_packets_and_ends() {
    let (_guard, eal) = alone();
    let Run { datapath, pool, .. } = endless(&eal);
    let trace = |limit: usize, until| {
        let (reply, traced) = crossbeam_channel::bounded::<Traced>(100);
        datapath.trace(|| TapRequest {
            wanted: Arc::new(|_, _, fate| matches!(fate, Fate::Dropped(_))),
            limit,
            until,
            head: 40,
            reply: reply.clone(),
        });
        drop(reply);
        traced
    };
    let later = datapath.now() + engine::time::Ticks::from_secs(60);
    let seen: Vec<Traced> = trace(5, later).iter().collect();
    assert_eq!(seen.len(), 5, "the worker ends the trace at its limit");
    for traced in seen {
        assert_eq!(traced.head, requests(4)[9][..40]);
        assert_eq!((traced.length, traced.port, traced.steered), (62, PortIndex(0), false));
        assert_eq!(traced.fate, Fate::Dropped(DropReason::OutboundDenied));
        assert!(traced.deliveries.is_empty() && traced.observation.connection.is_none());
    }
    // More than there is room for, without a limit that ends them: the last is refused, the others end in time.
    let soon = datapath.now() + engine::time::Ticks::from_secs(1);
    let many: Vec<_> = (0..=MAX_TAPS).map(|_| trace(usize::MAX, soon)).collect();
    let counts: Vec<usize> = many.into_iter().map(|traced| traced.iter().count()).collect();
    assert!(counts[..MAX_TAPS].iter().all(|n| *n > 0) && counts[MAX_TAPS] == 0, "{counts:?}");
    datapath.stop();
    assert_eq!(pool.in_use(), 0);
}
