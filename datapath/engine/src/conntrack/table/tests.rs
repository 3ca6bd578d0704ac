use std::collections::HashMap;

use proptest::prelude::*;

use super::room::{CANDIDATES, NEIGHBOURS, RECLAIM_SLOTS};
use super::*;
use crate::addr::Addr;
use crate::conntrack::{State, Timeouts};
use crate::flow::{FlowHasher, Side};
use crate::ids::{InterfaceId, VpcIndex};
use crate::packet::{Ip, Transport, Udp};

fn key(n: u32) -> FlowKey {
    FlowKey::new(VpcIndex(0), 17, (Addr::v4(0x0a00_0000 + n), 1), (Addr::v4(0x0b00_0000), 2)).0
}

fn ip(transport: Transport) -> Ip {
    Ip { src: Addr::v4(1), dst: Addr::v4(2), protocol: 0, transport }
}

const UDP: Transport = Transport::Udp(Udp { src_port: 1, dst_port: 2 });

/// A connection that is half-open (a UDP request, 30 s) or that no newcomer may
/// push out (another protocol, 600 s).
fn entry(n: u32, open: bool, now: Tick) -> Entry {
    let transport = if open { Transport::Other } else { UDP };
    Entry::open(key(n), Side::Low, &ip(transport), now, &Timeouts::DEFAULT).unwrap()
}

fn hash(n: u32) -> FlowHash {
    FlowHasher::new([1, 2, 3, 4]).hash(&key(n))
}

/// Every overflow count is the number of connections that passed its group.
fn check_counts(table: &Table) {
    let mut passed = vec![0; table.groups.len()];
    let mut len = 0;
    for group in 0..table.groups.len() {
        for lane in table.taken(group) {
            len += 1;
            let slot = Slot::new(group, lane);
            for before in table.passed(slot, table.groups[group].0[lane]) {
                passed[before] += 1;
            }
        }
    }
    let counts: Vec<u16> = table.groups.iter().map(Group::overflow).collect();
    assert_eq!(counts, passed);
    assert_eq!(len, table.len());
}

#[test]
fn holds_what_it_promises() {
    for capacity in [1, 15, 100, 1000, 10_000] {
        let mut table = Table::new(TableConfig { capacity });
        let now = Tick(1);
        for n in 0..capacity as u32 {
            table.insert(now, hash(n), entry(n, true, now)).unwrap();
        }
        assert_eq!(table.len(), capacity);
        check_counts(&table);
        assert!((0..capacity as u32).all(|n| table.lookup(now, hash(n), &key(n)).is_some()));
        assert_eq!(table.lookup(now, hash(1 << 20), &key(1 << 20)), None);
        // Full of open connections: a newcomer is refused.
        let late = entry(1 << 20, true, now);
        assert_eq!(table.insert(now, hash(1 << 20), late), Err(TableFull));
        assert_eq!(
            table.statistics(),
            TableStatistics { inserted: capacity as u64, refused: 1, ..Default::default() }
        );
    }
}

#[test]
fn d23_half_open_ones_make_room_and_open_ones_never() {
    let mut table = Table::new(TableConfig { capacity: 200 });
    let now = Tick(1);
    for n in 0..100 {
        table.insert(now, hash(n), entry(n, true, now)).unwrap();
    }
    for n in 100..200 {
        table.insert(now, hash(n), entry(n, false, now)).unwrap();
    }
    // A flood of half-open newcomers pushes out its own kind.
    let mut admitted = 0;
    for n in 1000..5000 {
        admitted += u64::from(table.insert(now, hash(n), entry(n, false, now)).is_ok());
    }
    let seen = table.statistics();
    assert_eq!((seen.shed, seen.refused), (admitted, 4000 - admitted));
    assert!(admitted > 3000, "only {admitted} of 4000, with half of the table half-open");
    assert!((0..100).all(|n| table.lookup(now, hash(n), &key(n)).is_some()));
    assert_eq!(table.len(), 200);
    check_counts(&table);
    // So do newcomers that are answered: the table fills with open ones, and then is full.
    let mut open = 100;
    for n in 5000..7000 {
        open += usize::from(table.insert(now, hash(n), entry(n, true, now)).is_ok());
    }
    assert_eq!(open, 200);
    assert!((0..100).all(|n| table.lookup(now, hash(n), &key(n)).is_some()));
    // What has expired goes first, and is not counted as given up.
    let shed = table.statistics().shed;
    let later = now + Timeouts::DEFAULT.other;
    for n in 8000..8050 {
        table.insert(later, hash(n), entry(n, true, later)).unwrap();
    }
    assert_eq!(table.statistics().shed, shed);
    assert!(table.statistics().expired >= 50);
    check_counts(&table);
}

#[test]
fn d23_the_half_open_one_that_would_expire_first_is_given_up() {
    let mut table = Table::new(TableConfig { capacity: 1000 });
    let same = FlowHash(0x1234_5678_9abc_def0);
    for n in 0..15 {
        table.insert(Tick(1 + n), same, entry(n, n % 5 != 2, Tick(1 + n))).unwrap();
    }
    let home = table.home(same);
    for victim in [2, 7, 12] {
        assert!(table.lookup(Tick(20), same, &key(victim)).is_some());
        assert!(table.shed(home, Tick(20)));
        assert_eq!(table.lookup(Tick(20), same, &key(victim)), None);
    }
    assert!(!table.shed(home, Tick(20)), "the rest is open");
    assert_eq!((table.len(), table.statistics().shed), (12, 3));
}

#[test]
fn d23_of_the_first_few_that_the_hand_meets_the_oldest_is_given_up() {
    let mut table = Table::new(TableConfig { capacity: 3000 });
    for n in 0..3000 {
        table.insert(Tick(1), hash(n), entry(n, false, Tick(1))).unwrap();
    }
    let first: Vec<Slot> = (0..2).flat_map(|g| table.taken(g).map(move |l| Slot::new(g, l))).collect();
    let age = |table: &mut Table, at: usize, tick| {
        let key = *table.entry(first[at]).key();
        let other = Entry::open(key, Side::Low, &ip(UDP), Tick(tick), &Timeouts::DEFAULT);
        table.replace(first[at], other.unwrap());
        key
    };
    for at in 0..CANDIDATES + 1 {
        age(&mut table, at, 20 - at as u32);
    }
    let victim = *table.entry(first[CANDIDATES - 1]).key();
    let is_there = |table: &Table, key: &FlowKey| {
        let mut found = false;
        table.scan(Tick(2), 0, usize::MAX, &mut |entry| found |= entry.key() == key);
        found
    };
    let before: Vec<FlowKey> = first.iter().map(|slot| *table.entry(*slot).key()).collect();
    table.insert(Tick(2), hash(9000), entry(9000, true, Tick(2))).unwrap();
    assert!(!is_there(&table, &victim));
    assert_eq!(before.iter().filter(|key| !is_there(&table, key)).count(), 1);
    // What has expired goes ahead of what is expendable, and ends the search.
    let (len, hand) = (table.len(), table.hand);
    let later = Tick(1) + Timeouts::DEFAULT.udp;
    table.insert(later, hash(9001), entry(9001, true, later)).unwrap();
    assert_eq!((table.len(), table.statistics().shed), (len, 1));
    assert!(table.hand - hand <= 2 * CANDIDATES, "{} after {hand}", table.hand);
    check_counts(&table);
}

/// An entry that an interface tracks.
fn tracked(n: u32, open: bool, now: Tick, interface: InterfaceId) -> Entry {
    let mut entry = entry(n, open, now);
    entry.set_end(Side::Low, interface);
    entry.set_tracked(Side::Low);
    entry
}

#[test]
fn d23_whose_allowance_is_used_up_takes_the_place_of_its_own_in_the_newcomers_group() {
    let [own, other] = [InterfaceId::new(1, 1), InterfaceId::new(2, 1)];
    let mut table = Table::new(TableConfig { capacity: 3000 }).counting(4);
    let now = Tick(1);
    // A third each: half-open ones of its own, established ones of its own, and another's.
    for n in 0..2400 {
        let (open, interface) = [(false, own), (true, own), (false, other)][n as usize % 3];
        table.insert(now, hash(n), tracked(n, open, now, interface)).unwrap();
    }
    let most = 1600;
    let (mut at_home, mut taken) = (0, 0);
    for n in 9000..9400 {
        let before: Vec<(FlowKey, Slot)> =
            table.neighbours(hash(n)).map(|slot| (*table.entry(slot).key(), slot)).collect();
        assert!(before.len() <= NEIGHBOURS);
        assert!(before.iter().all(|(_, slot)| slot.group() == table.home(hash(n))));
        let may_go = before.iter().any(|(_, slot)| {
            let entry = table.entry(*slot);
            entry.is_tracked_by(own) && entry.state().is_expendable()
        });
        let hand = table.hand;
        if !table.has_allowance(now, hash(n), own, most) {
            continue;
        }
        taken += 1;
        // One of these two, and then the hand stands still.
        let gone = before.iter().filter(|(_, slot)| table.groups[slot.group()].0[slot.lane()] == 0);
        assert_eq!((gone.count() == 1, table.hand == hand), (may_go, may_go));
        at_home += usize::from(may_go);
        table.insert(now, hash(n), tracked(n, false, now, own)).unwrap();
        assert_eq!(table.tracked_by(own.slot()), most);
    }
    assert!(at_home > 100 && taken > at_home, "{at_home} of {taken}");
    // Neither what was in use nor another's has gone.
    for n in (0..2400).filter(|n| n % 3 != 0) {
        assert!(table.lookup(now, hash(n), &key(n)).is_some());
    }
    assert_eq!(table.statistics().shed, taken as u64);
    check_counts(&table);
}

#[test]
fn d23_an_expired_neighbour_goes_before_a_half_open_one() {
    let own = InterfaceId::new(1, 1);
    let mut table = Table::new(TableConfig { capacity: 3000 }).counting(2);
    for n in 0..2400 {
        table.insert(Tick(1), hash(n), tracked(n, false, Tick(1), own)).unwrap();
    }
    let newcomer = (9000..).find(|n| table.neighbours(hash(*n)).count() == NEIGHBOURS).unwrap();
    let slots: Vec<Slot> = table.neighbours(hash(newcomer)).collect();
    let later = Tick(1) + Timeouts::DEFAULT.udp;
    let fresh = |table: &mut Table, slot| {
        let key = *table.entry(slot).key();
        let mut entry = Entry::open(key, Side::Low, &ip(UDP), later, &Timeouts::DEFAULT).unwrap();
        entry.set_end(Side::Low, own);
        entry.set_tracked(Side::Low);
        table.replace(slot, entry);
    };
    fresh(&mut table, slots[0]);
    assert!(table.has_allowance(later, hash(newcomer), own, 2400));
    let is_there = |slot: &Slot| table.groups[slot.group()].0[slot.lane()] != 0;
    assert_eq!([is_there(&slots[0]), is_there(&slots[1])], [true, false]);
    assert_eq!((table.statistics().expired, table.statistics().shed), (1, 0));
    check_counts(&table);
}

#[test]
fn what_was_inserted_since_the_mark_is_known() {
    let mut table = Table::new(TableConfig { capacity: 3000 });
    table.insert(Tick(1), hash(0), entry(0, false, Tick(1))).unwrap();
    table.mark();
    assert!((0..1000).all(|n| !table.may_have_come(hash(n))));
    for n in 1000..1032 {
        table.insert(Tick(1), hash(n), entry(n, false, Tick(1))).unwrap();
    }
    assert!((1000..1032).all(|n| table.may_have_come(hash(n))));
    // Of others an eighth is taken for such.
    let others = (0..1000).filter(|n| table.may_have_come(hash(*n))).count();
    assert!((50..200).contains(&others), "{others}");
}

#[test]
fn a_newcomer_costs_a_bounded_search() {
    // Half-open ones everywhere but where the hand is: refused, not searched for.
    let mut table = Table::new(TableConfig { capacity: 3000 });
    let now = Tick(1);
    for n in 0..3000 {
        table.insert(now, hash(n), entry(n, false, now)).unwrap();
    }
    for group in 0..RECLAIM_SLOTS / SLOTS {
        for lane in table.taken(group) {
            let slot = Slot::new(group, lane);
            let key = *table.entry(slot).key();
            let other = Entry::open(key, Side::Low, &ip(Transport::Other), now, &Timeouts::DEFAULT);
            table.replace(slot, other.unwrap());
        }
    }
    let newcomer = |n| (hash(n), entry(n, true, now));
    let (at, late) = newcomer(9000);
    assert_eq!(table.insert(now, at, late), Err(TableFull));
    assert_eq!(table.insert(now, at, late).map(|_| ()), Ok(()), "the hand has moved on");
    check_counts(&table);
}

#[test]
fn an_overflow_count_never_wraps() {
    let mut table = Table::new(TableConfig { capacity: 1000 });
    let same = FlowHash(0x1234_5678_9abc_def0);
    let now = Tick(1);
    for n in 0..15 {
        table.insert(now, same, entry(n, true, now)).unwrap();
    }
    let home = table.home(same);
    table.groups[home].0[SLOTS] = MAX_OVERFLOW;
    assert_eq!(table.insert(now, same, entry(15, true, now)), Err(TableFull));
    table.groups[home].0[SLOTS] = MAX_OVERFLOW - 1;
    table.insert(now, same, entry(15, true, now)).unwrap();
    assert!(table.lookup(now, same, &key(15)).is_some());
}

#[test]
fn flows_of_one_hash_are_told_apart_within_a_bound() {
    let mut table = Table::new(TableConfig { capacity: 1000 });
    let same = FlowHash(0x1234_5678_9abc_def0);
    let now = Tick(1);
    let reach = (PROBES * SLOTS) as u32;
    for n in 0..reach {
        table.insert(now, same, entry(n, true, now)).unwrap();
    }
    check_counts(&table);
    assert_eq!(table.insert(now, same, entry(reach, true, now)), Err(TableFull));
    for n in 0..reach {
        let slot = table.lookup(now, same, &key(n)).unwrap();
        assert_eq!(*table.entry(slot).key(), key(n));
    }
    // Taking one out of the first group makes room there and breaks no chain.
    let first = table.lookup(now, same, &key(0)).unwrap();
    table.remove(first);
    check_counts(&table);
    assert!((1..reach).all(|n| table.lookup(now, same, &key(n)).is_some()));
}

#[test]
fn a_key_whose_connection_expired_is_taken_over_in_place() {
    let mut table = Table::new(TableConfig { capacity: 100 });
    let old = table.insert(Tick(1), hash(1), entry(1, false, Tick(1))).unwrap();
    let now = Tick(1) + Timeouts::DEFAULT.udp;
    assert_eq!(table.lookup(now, hash(1), &key(1)), None);
    assert_eq!(table.insert(now, hash(1), entry(1, true, now)), Ok(old));
    assert_eq!(table.entry(old).state(), State::Other);
    assert_eq!(table.len(), 1);
    assert_eq!(table.statistics(), TableStatistics { inserted: 2, expired: 1, ..Default::default() });
}

#[test]
fn the_hand_forgets_a_little_at_a_time() {
    let mut table = Table::new(TableConfig { capacity: 300 });
    let start = Tick(1);
    for n in 0..300 {
        table.insert(start, hash(n), entry(n, n % 2 == 0, start)).unwrap();
    }
    let later = start + Timeouts::DEFAULT.udp;
    assert_eq!(table.lookup(later, hash(1), &key(1)), None, "expired, though still there");
    assert!(table.lookup(Tick(later.0 - 1), hash(1), &key(1)).is_some());
    let groups = table.groups.len();
    let mut gone = 0;
    for _ in 0..groups {
        let now = table.sweep(later, 1);
        assert!(now <= SLOTS);
        gone += now;
    }
    assert_eq!((gone, table.len()), (150, 150));
    assert_eq!(table.statistics().expired, 150);
    check_counts(&table);
}

#[test]
fn a_scan_shows_each_living_connection_once() {
    let mut table = Table::new(TableConfig { capacity: 500 });
    let now = Tick(1);
    for n in 0..500 {
        table.insert(now, hash(n), entry(n, n % 5 == 0, now)).unwrap();
    }
    let later = now + Timeouts::DEFAULT.udp;
    let (mut cursor, mut seen) = (Some(0), Vec::new());
    while let Some(from) = cursor {
        cursor = table.scan(later, from, 3, &mut |e| seen.push(e.key().endpoint(Side::Low).0));
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 100);
    assert_eq!(table.scan(later, usize::MAX, 3, &mut |_| unreachable!("beyond the end")), None);
}

#[test]
fn a_scan_is_bounded_and_shows_what_stays_while_others_come_and_go() {
    let mut table = Table::new(TableConfig { capacity: 500 });
    let now = Tick(1);
    for n in 0..300 {
        table.insert(now, hash(n), entry(n, true, now)).unwrap();
    }
    let (mut cursor, mut seen, mut calls) = (Some(0), vec![0; 2000], 0);
    while let Some(from) = cursor {
        let mut shown = 0;
        cursor = table.scan(now, from, 2, &mut |e| {
            shown += 1;
            let (Addr(bits), _) = e.key().endpoint(Side::Low);
            seen[(bits as u32 - 0x0a00_0000) as usize] += 1;
        });
        assert!(shown <= 2 * SLOTS);
        // Of every three, one goes; others come.
        if let Some(slot) = table.lookup(now, hash(3 * calls), &key(3 * calls)) {
            table.remove(slot);
        }
        table.insert(now, hash(1000 + calls), entry(1000 + calls, true, now)).unwrap();
        table.sweep(now, 1);
        calls += 1;
    }
    assert_eq!(calls as usize, table.groups.len().div_ceil(2));
    assert!((0..300).filter(|n| n % 3 != 0).all(|n| seen[n] == 1));
    assert!(seen.iter().all(|n| *n <= 1));
}

#[test]
fn replacing_keeps_the_chain() {
    let mut table = Table::new(TableConfig { capacity: 1000 });
    let same = FlowHash(7 << 40);
    let now = Tick(1);
    for n in 0..20 {
        table.insert(now, same, entry(n, true, now)).unwrap();
    }
    let slot = table.lookup(now, same, &key(19)).unwrap();
    table.replace(slot, entry(19, false, now));
    assert_eq!(table.entry(slot).state(), State::UdpRequest);
    check_counts(&table);
    table.remove(slot);
    check_counts(&table);
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u32, bool),
    Lookup(u32),
    Remove(u32),
    Sweep(usize),
    Wait(u32),
    /// Forgets each seventh.
    Forget(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Few keys, so that they meet again.
    let step = prop_oneof![
        6 => (0u32..200, any::<bool>()).prop_map(|(n, open)| Step::Insert(n, open)),
        3 => (0u32..200).prop_map(Step::Lookup),
        2 => (0u32..200).prop_map(Step::Remove),
        1 => (0usize..5).prop_map(Step::Sweep),
        1 => (0u32..7).prop_map(Step::Forget),
        1 => (0u32..40).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 1..600)
}

proptest! {
    /// Against a map: what the table finds, the map has, with the same deadline;
    /// what the map has and no newcomer could have pushed out, the table finds.
    #[test]
    fn behaves_like_a_map(steps in steps(), spread in 1u64..40) {
        let mut table = Table::new(TableConfig { capacity: 120 });
        let mut model: HashMap<u32, (Tick, bool)> = HashMap::new();
        let mut now = Tick(1);
        // Few distinct hashes make long chains.
        let hash = |n: u32| FlowHash((u64::from(n) % spread) << 42 | u64::from(n % 3));
        for step in steps {
            match step {
                Step::Insert(n, open) => {
                    if table.lookup(now, hash(n), &key(n)).is_none() {
                        let before = table.statistics();
                        let fresh = entry(n, open, now);
                        let inserted = table.insert(now, hash(n), fresh).is_ok();
                        prop_assert_eq!(inserted, table.statistics().refused == before.refused);
                        if table.statistics().shed > before.shed {
                            // Some half-open one is gone: find out which.
                            let lost: Vec<u32> = model.keys().copied()
                                .filter(|k| *k != n && model[k].0 > now && table.lookup(now, hash(*k), &key(*k)).is_none())
                                .collect();
                            prop_assert_eq!(lost.len(), 1);
                            prop_assert!(!model[&lost[0]].1, "an open connection was given up");
                            model.remove(&lost[0]);
                        }
                        if inserted {
                            model.insert(n, (fresh.deadline(), open));
                        }
                    }
                }
                Step::Lookup(n) => {
                    let found = table.lookup(now, hash(n), &key(n)).map(|s| table.entry(s).deadline());
                    prop_assert_eq!(found, model.get(&n).map(|m| m.0).filter(|d| *d > now));
                }
                Step::Remove(n) => {
                    if let Some(slot) = table.lookup(now, hash(n), &key(n)) {
                        table.remove(slot);
                        model.remove(&n);
                    }
                }
                Step::Forget(of) => {
                    let unwanted: Vec<FlowKey> = (0..200).filter(|n| n % 7 == of).map(key).collect();
                    let before = table.statistics().killed;
                    let mut asked = 0;
                    table.forget(now, 0, usize::MAX, &mut |entry| {
                        asked += 1;
                        unwanted.contains(entry.key())
                    });
                    let living = model.iter().filter(|(_, m)| m.0 > now);
                    let (gone, kept): (Vec<u32>, Vec<u32>) =
                        living.map(|(n, _)| *n).partition(|n| n % 7 == of);
                    prop_assert_eq!(asked, gone.len() + kept.len());
                    prop_assert_eq!(table.statistics().killed - before, gone.len() as u64);
                    model.retain(|n, m| m.0 <= now || n % 7 != of);
                }
                Step::Sweep(groups) => {
                    table.sweep(now, groups);
                }
                Step::Wait(ticks) => now.0 += ticks,
            }
            prop_assert!(table.len() <= table.capacity());
        }
        check_counts(&table);
        let keys: Vec<u32> = (0..200).collect();
        let (hashes, flow_keys): (Vec<_>, Vec<_>) = keys.iter().map(|n| (hash(*n), key(*n))).unzip();
        for (chunk, (hashes, flow_keys)) in keys.chunks(32).zip(hashes.chunks(32).zip(flow_keys.chunks(32))) {
            let mut found = [None; 32];
            let guesses = table.guess::<32>(hashes.iter().copied());
            for (at, (hash, guess)) in hashes.iter().zip(guesses).enumerate() {
                let entry = table.lookup_guessed(now, *hash, &flow_keys[at], guess).map(|entry| *entry.key());
                found[at] = table.lookup(now, *hash, &flow_keys[at]);
                prop_assert_eq!(entry, found[at].map(|_| flow_keys[at]));
            }
            for (n, slot) in chunk.iter().zip(found) {
                prop_assert_eq!(slot, table.lookup(now, hash(*n), &key(*n)));
                prop_assert_eq!(slot.is_some(), model.get(n).is_some_and(|m| m.0 > now));
            }
        }
    }
}
