//! The connection table against a map.

use std::collections::HashMap;

use engine::addr::Addr;
use engine::conntrack::{Entry, Slot, Table, TableConfig, TableStatistics, Timeouts};
use engine::flow::{FlowHash, FlowHasher, FlowKey, Side};
use engine::ids::VpcIndex;
use engine::packet::{Ip, Query, QueryKind, Tcp, TcpFlags, Transport, Udp};
use engine::time::Tick;

use crate::input::Input;

/// How many flows there are: few, so that they meet again, and no more than lie
/// within reach of one hash.
const FLOWS: u8 = 200;

/// Runs operations on a table and on a map beside it. Both must say the same
/// of every connection; only what a newcomer may push out can be missing.
pub fn table(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mut world = World::new(&mut input);
    for _ in 0..1000 {
        if input.is_empty() {
            break;
        }
        world.step(&mut input);
        world.count();
    }
    world.end();
}

struct World {
    table: Table,
    /// What was inserted and not removed; the expired may be gone from the table.
    model: HashMap<u8, Entry>,
    now: Tick,
    /// How flows are hashed: by a secret, or so that many collide.
    hasher: Option<FlowHasher>,
    spread: u8,
    removed: u64,
}

impl World {
    fn new(input: &mut Input<'_>) -> World {
        let capacity = 1 + usize::from(input.byte());
        let spread = input.byte();
        World {
            table: Table::new(TableConfig { capacity }),
            model: HashMap::new(),
            now: Tick(1),
            hasher: (spread == 0).then(|| FlowHasher::new([1, 2, 3, 4])),
            spread,
            removed: 0,
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 16 {
            0..=5 => self.insert(input),
            6 | 7 => drop(self.lookup(input.byte() % FLOWS)),
            8..=10 => self.advance(input),
            11 => self.remove(input.byte() % FLOWS),
            12 => self.replace(input),
            13 => {
                let before = self.table.len();
                let gone = self.table.sweep(self.now, usize::from(input.byte() % 8));
                assert_eq!(self.table.len(), before - gone);
            }
            14 => self.now.0 = self.now.0.saturating_add(u32::from(input.byte())),
            _ => self.now.0 = self.now.0.saturating_add(u32::from(input.u16()) * 64),
        }
    }

    fn key(n: u8) -> FlowKey {
        FlowKey::new(VpcIndex(0), 17, (Addr::v4(0x0a00_0000 + u32::from(n)), 1), (Addr::v4(0x0b00_0000), 2)).0
    }

    fn hash(&self, n: u8) -> FlowHash {
        match &self.hasher {
            Some(hasher) => hasher.hash(&World::key(n)),
            // As many groups as `spread` says, and three tags.
            None => FlowHash(u64::from(n % self.spread) << 42 | u64::from(n % 3)),
        }
    }

    fn find(&self, n: u8) -> Option<Slot> {
        self.table.lookup(self.now, self.hash(n), &World::key(n))
    }

    /// What the map has of a flow that lives.
    fn known(&self, n: u8) -> Option<&Entry> {
        self.model.get(&n).filter(|entry| !entry.is_expired(self.now))
    }

    fn lookup(&self, n: u8) -> Option<Slot> {
        let slot = self.find(n);
        match (slot.map(|slot| self.table.entry(slot)), self.known(n)) {
            (Some(found), Some(known)) => assert_same(found, known),
            (None, None) => {}
            (found, known) => panic!("flow {n}: the table has {found:?}, the map {known:?}"),
        }
        slot
    }

    fn opened(&self, n: u8, input: &mut Input<'_>) -> Option<Entry> {
        let (packet, side) = (segment(input), side(input));
        let mut entry = Entry::open(World::key(n), side, &packet, self.now, &Timeouts::DEFAULT)?;
        entry.set_tracked(side);
        Some(entry)
    }

    fn insert(&mut self, input: &mut Input<'_>) {
        let n = input.byte() % FLOWS;
        let Some(entry) = self.opened(n, input).filter(|_| self.lookup(n).is_none()) else { return };
        let (before, length) = (self.table.statistics(), self.table.len());
        let inserted = self.table.insert(self.now, self.hash(n), entry);
        let after = self.table.statistics();
        assert_eq!(inserted.is_err(), after.refused == before.refused + 1);
        self.note_shed(n, before, after);
        match inserted {
            Ok(slot) => {
                assert_eq!(after.inserted, before.inserted + 1);
                assert_same(self.table.entry(slot), &entry);
                self.model.insert(n, entry);
            }
            Err(_) => {
                assert_eq!((length, self.table.len()), (self.table.capacity(), length), "refused with room");
                assert_eq!(after.inserted, before.inserted);
            }
        }
    }

    /// Finds out what was given up for a newcomer: one at most, and expendable.
    fn note_shed(&mut self, newcomer: u8, before: TableStatistics, after: TableStatistics) {
        let living = self.model.keys().copied().filter(|n| *n != newcomer && self.known(*n).is_some());
        let lost: Vec<u8> = living.filter(|n| self.find(*n).is_none()).collect();
        assert_eq!(lost.len() as u64, after.shed - before.shed, "lost {lost:?}");
        assert!(lost.len() <= 1, "several were given up for one");
        for n in lost {
            let entry = self.model.remove(&n).expect("it was in the map");
            assert!(entry.state().is_expendable(), "given up: {entry:?}");
        }
    }

    fn advance(&mut self, input: &mut Input<'_>) {
        let n = input.byte() % FLOWS;
        let (packet, side) = (segment(input), side(input));
        let Some(slot) = self.lookup(n) else { return };
        let known = self.model.get_mut(&n).expect("lookup has compared them");
        let expected = known.advance(side, &packet, self.now, &Timeouts::DEFAULT);
        let before = *self.table.entry(slot);
        let advanced = self.table.entry_mut(slot).advance(side, &packet, self.now, &Timeouts::DEFAULT);
        assert_eq!(advanced, expected);
        assert_same(self.table.entry(slot), known);
        if advanced.is_err() {
            assert_same(self.table.entry(slot), &before);
        }
        assert!(Side::BOTH.iter().all(|s| known.is_tracked(*s) == before.is_tracked(*s)), "{known:?}");
    }

    fn remove(&mut self, n: u8) {
        if let Some(slot) = self.lookup(n) {
            self.table.remove(slot);
            self.model.remove(&n);
            self.removed += 1;
            assert_eq!(self.find(n), None);
        }
    }

    fn replace(&mut self, input: &mut Input<'_>) {
        let n = input.byte() % FLOWS;
        let (Some(slot), Some(entry)) = (self.lookup(n), self.opened(n, input)) else { return };
        self.table.replace(slot, entry);
        self.model.insert(n, entry);
        assert_eq!(self.lookup(n).is_some(), !entry.is_expired(self.now));
    }

    /// What comes is what goes, and what is there.
    fn count(&self) {
        let TableStatistics { inserted, expired, shed, .. } = self.table.statistics();
        assert_eq!(self.table.len() as u64, inserted - expired - shed - self.removed);
        assert!(self.table.len() <= self.table.capacity());
    }

    /// Everything again, at once and one by one; then the table is emptied and
    /// must take as much as a new one: a miscounted chain would show.
    fn end(&mut self) {
        let flows: Vec<u8> = (0..FLOWS).collect();
        for flows in flows.chunks(32) {
            let hashes: Vec<_> = flows.iter().map(|n| self.hash(*n)).collect();
            let keys: Vec<_> = flows.iter().map(|n| World::key(*n)).collect();
            let guesses = self.table.guess::<32>(hashes.iter().copied());
            for (n, ((hash, key), guess)) in flows.iter().zip(hashes.iter().zip(&keys).zip(guesses)) {
                let found = self.table.lookup_guessed(self.now, *hash, key, guess).map(|entry| *entry);
                let known = self.lookup(*n).map(|slot| *self.table.entry(slot));
                assert_eq!(found.is_some(), known.is_some());
                found.iter().zip(&known).for_each(|(found, known)| assert_same(found, known));
            }
        }
        let living = flows.iter().filter(|n| self.known(**n).is_some()).count();
        assert_eq!(self.scanned(), living);
        self.table.sweep(self.now, usize::MAX);
        assert_eq!(self.table.len(), living);
        self.count();
        flows.iter().for_each(|n| self.remove(*n));
        assert!(self.table.is_empty());
        self.refill();
    }

    fn scanned(&self) -> usize {
        let (mut cursor, mut shown) = (Some(0), 0);
        while let Some(from) = cursor {
            cursor = self.table.scan(self.now, from, 3, &mut |entry| {
                shown += 1;
                let (Addr(low), _) = entry.key().endpoint(Side::Low);
                let n = (low as u32 - 0x0a00_0000) as u8;
                assert_same(entry, self.known(n).expect("a scan shows what lives"));
            });
        }
        shown
    }

    fn refill(&mut self) {
        let room = self.table.capacity().min(FLOWS.into()) as u8;
        let packet = ip(Transport::Other);
        for n in 0..room {
            let entry = Entry::open(World::key(n), Side::Low, &packet, Tick(1), &Timeouts::DEFAULT);
            let inserted = entry.map(|entry| self.table.insert(Tick(1), self.hash(n), entry));
            assert!(matches!(inserted, Some(Ok(_))), "no room for flow {n} in an empty table");
        }
        assert!((0..room).all(|n| self.table.lookup(Tick(1), self.hash(n), &World::key(n)).is_some()));
    }
}

/// All that two entries tell, but for where they lie.
fn assert_same(one: &Entry, other: &Entry) {
    let facts = |e: &Entry| {
        let tracked = Side::BOTH.map(|side| e.is_tracked(side));
        (*e.key(), e.state(), e.deadline(), e.originator(), e.replied(), tracked)
    };
    assert_eq!(facts(one), facts(other));
}

fn side(input: &mut Input<'_>) -> Side {
    if input.flag() { Side::High } else { Side::Low }
}

fn ip(transport: Transport) -> Ip {
    Ip { src: Addr::v4(1), dst: Addr::v4(2), protocol: 0, transport }
}

/// A packet of any protocol; of TCP with numbers that are near to each other,
/// so that they fit now and then.
fn segment(input: &mut Input<'_>) -> Ip {
    ip(match input.byte() % 8 {
        0 => Transport::Udp(Udp { src_port: 1, dst_port: 2 }),
        1 => Transport::Query(Query { kind: QueryKind::Request, icmp_type: 8, code: 0, id: 1 }),
        2 => Transport::Other,
        _ => Transport::Tcp(Tcp {
            src_port: 1,
            dst_port: 2,
            flags: TcpFlags(input.byte()),
            seq: u32::from(input.byte()).wrapping_sub(8),
            ack: u32::from(input.byte()).wrapping_sub(8),
            payload: u32::from(input.byte() % 4),
        }),
    })
}
