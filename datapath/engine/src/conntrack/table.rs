use std::ops::Range;

use super::Entry;
use crate::arch::{mask_eq_u16x16, prefetch, prefetch_slice};
use crate::flow::{FlowHash, FlowKey, Side};
use crate::time::Tick;

/// Slots of a group.
const SLOTS: usize = 15;

/// Groups a flow may lie in: its own and those a stride apart from there. A
/// lookup never reads more. Sixteen find room at 0.85 load practically always;
/// strides rather than neighbours, since full neighbours come in clusters.
pub const PROBES: usize = 16;

/// Words of bits for what a burst has inserted: an eighth of them are set by a full one.
const RECENT: usize = 4;

/// The highest overflow count: nothing is sent on from a group that has it.
const MAX_OVERFLOW: u16 = u16::MAX;

/// Fifteen tags and, last, the count of flows that went on to the next group.
/// A tag of 0 is an empty slot.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(32))]
struct Group([u16; SLOTS + 1]);

const _: () = assert!(size_of::<Group>() == 32);

impl Group {
    /// A bit for each slot.
    const LANES: u16 = (1 << SLOTS) - 1;

    /// The slots with this tag, a bit for each.
    #[inline]
    fn matching(&self, tag: u16) -> u16 {
        mask_eq_u16x16(&self.0, tag) & Group::LANES
    }

    /// How many flows of this group or one before it lie further on.
    #[inline]
    fn overflow(&self) -> u16 {
        self.0[SLOTS]
    }
}

/// How large a table is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableConfig {
    /// Connections it has room for.
    pub capacity: usize,
}

impl TableConfig {
    /// Groups of such a table, in which connections take 0.85 of the slots.
    fn groups(self) -> usize {
        let slots = (self.capacity * 20).div_ceil(17);
        prime_from(slots.div_ceil(SLOTS).max(PROBES + 1))
    }
}

/// Where an entry lies. Good until the table is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(u32);

impl Slot {
    #[inline]
    fn new(group: usize, lane: usize) -> Slot {
        Slot((group * SLOTS + lane) as u32)
    }

    #[inline]
    fn index(self) -> usize {
        self.0 as usize
    }

    #[inline]
    fn group(self) -> usize {
        self.0 as usize / SLOTS
    }

    #[inline]
    fn lane(self) -> usize {
        self.0 as usize % SLOTS
    }
}

/// Where an entry may lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guess(u32);

impl Guess {
    /// In another group than its own, if at all.
    const NONE: Guess = Guess(u32::MAX);
    /// Nowhere, unless it was inserted since.
    const ABSENT: Guess = Guess(u32::MAX - 1);
}

/// No slot within reach could be freed for a newcomer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableFull;

/// What has happened to a table since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableStatistics {
    /// Connections inserted.
    pub inserted: u64,
    /// Connections forgotten because their time had come.
    pub expired: u64,
    /// Half-open connections given up for newcomers.
    pub shed: u64,
    /// Newcomers refused.
    pub refused: u64,
    /// Connections that an operator has ended.
    pub killed: u64,
}

/// The connections of one worker.
pub struct Table {
    groups: Box<[Group]>,
    entries: Box<[Entry]>,
    len: usize,
    limit: usize,
    /// The clock hand: the slot that is looked at next.
    hand: usize,
    /// Set to [`room::PRESSED`] when a newcomer's interface has used up its allowance, and
    /// one less with each burst.
    pressed: u8,
    /// Connections inserted since [`Table::mark`], as bits that their hashes name.
    recent: [u64; RECENT],
    statistics: TableStatistics,
    /// By interface slot: connections that its end tracks.
    tracked: Box<[u32]>,
    /// While somebody watches.
    accounts: Option<Box<Accounts>>,
}

/// The part of a hash that the tag line keeps; never 0.
#[inline]
fn tag_of(hash: FlowHash) -> u16 {
    (hash.0 as u16).max(1)
}

/// The bit of a hash among those of what was inserted, and its word.
#[inline]
fn recent(hash: FlowHash) -> (usize, u64) {
    let [.., word, bit] = (hash.0 >> 8).to_be_bytes();
    (usize::from(word) % RECENT, 1 << (bit % 64))
}

/// `count` copies of a value in new memory, of which `advise` is told first.
fn filled<T: Clone>(count: usize, value: T, advise: fn(Range<usize>)) -> Box<[T]> {
    let mut values = Vec::with_capacity(count);
    let memory = values.spare_capacity_mut().as_ptr_range();
    advise(memory.start as usize..memory.end as usize);
    values.resize(count, value);
    values.into()
}

/// The first prime from `n` on.
fn prime_from(n: usize) -> usize {
    let is_prime = |n: &usize| (2..).take_while(|d| d * d <= *n).all(|d| !n.is_multiple_of(d));
    (n..).find(is_prime).expect("there is a prime between n and 2n")
}

impl Table {
    /// Room for `config.capacity` connections, at 0.85 of the slots. All memory
    /// is allocated and touched here.
    pub fn new(config: TableConfig) -> Table {
        Table::with_memory(config, |_| ())
    }

    /// The same, in memory that `advise` is told of before it is touched: each
    /// part by its range of addresses.
    pub fn with_memory(config: TableConfig, advise: fn(Range<usize>)) -> Table {
        let groups = config.groups();
        Table {
            groups: filled(groups, Group::default(), advise),
            entries: filled(groups * SLOTS, Entry::empty(), advise),
            len: 0,
            limit: config.capacity,
            hand: 0,
            pressed: 0,
            recent: [0; RECENT],
            statistics: TableStatistics::default(),
            tracked: Box::default(),
            accounts: None,
        }
    }

    /// With a count of the connections of each interface in a slot below `slots`.
    pub fn counting(self, slots: usize) -> Table {
        Table { tracked: vec![0; slots].into(), ..self }
    }

    /// Connections in the table, the expired ones among them that nobody met yet.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Connections it has room for.
    pub fn capacity(&self) -> usize {
        self.limit
    }

    /// Connections that the interface in this slot tracks, whichever
    /// incarnations of the slot they are of.
    pub fn tracked_by(&self, slot: usize) -> u32 {
        self.tracked.get(slot).copied().unwrap_or(0)
    }

    /// Counts the ends of a connection that track it, or counts them off.
    #[inline]
    fn count(&mut self, entry: &Entry, change: impl Fn(u32) -> u32) {
        for side in Side::BOTH {
            if entry.is_tracked(side)
                && entry.end(side).is_some()
                && let Some(count) = self.tracked.get_mut(entry.end(side).slot())
            {
                *count = change(*count);
            }
        }
    }

    /// Lets the flow of this connection pass the end at this side by state.
    pub fn track(&mut self, slot: Slot, side: Side) {
        self.change_tracking(slot, |entry| entry.set_tracked(side));
    }

    /// The end at this side has forgotten the connection.
    pub fn untrack(&mut self, slot: Slot, side: Side) {
        self.change_tracking(slot, |entry| entry.clear_tracked(side));
    }

    fn change_tracking(&mut self, slot: Slot, change: impl FnOnce(&mut Entry)) {
        let mut entry = *self.entry(slot);
        self.count(&entry, |n| n - 1);
        change(&mut entry);
        self.count(&entry, |n| n + 1);
        *self.entry_mut(slot) = entry;
    }

    /// What has happened so far.
    pub fn statistics(&self) -> TableStatistics {
        self.statistics
    }

    /// The flow's own group, from bits that the tag does not use.
    #[inline]
    fn home(&self, hash: FlowHash) -> usize {
        // The owner is picked by the topmost bits, so a worker's flows use all its groups.
        (((hash.0 >> 16 & 0xffff_ffff) * self.groups.len() as u64) >> 32) as usize
    }

    /// From 1 to one less than there are groups.
    #[inline]
    fn stride(&self, tag: u16) -> usize {
        1 + ((usize::from(tag) * (self.groups.len() - 1)) >> 16)
    }

    /// The groups a flow may lie in, in the order they are tried. Their number
    /// is prime, so that every stride leads to as many different ones.
    #[inline]
    fn probes(&self, home: usize, tag: u16) -> impl Iterator<Item = usize> + use<> {
        let (groups, stride) = (self.groups.len(), self.stride(tag));
        (0..PROBES).scan(home, move |next, _| {
            let group = *next;
            *next = if group + stride < groups { group + stride } else { group + stride - groups };
            Some(group)
        })
    }

    /// The first part of a lookup, for the flows of a burst together, at most `N`:
    /// where their entries most likely lie. Asks for their lines.
    // In short loops: that many lines, and walks through page tables, are under way
    // at once. Beside other work, one waits for the other.
    #[inline(always)]
    pub fn guess<const N: usize>(&self, hashes: impl Iterator<Item = FlowHash> + Clone) -> [Guess; N] {
        let mut homes = [0; N];
        for (hash, home) in hashes.clone().zip(&mut homes) {
            *home = self.home(hash);
            prefetch(&self.groups[*home]);
        }
        let mut guesses = [Guess::NONE; N];
        for ((hash, home), guess) in hashes.zip(homes).zip(&mut guesses) {
            *guess = self.guess_in(home, tag_of(hash));
        }
        guesses
    }

    #[inline(always)]
    fn guess_in(&self, home: usize, tag: u16) -> Guess {
        let group = &self.groups[home];
        let hits = group.matching(tag);
        // Without its tag an entry is not there, whatever its key still says.
        if hits == 0 {
            return if group.overflow() == 0 { Guess::ABSENT } else { Guess::NONE };
        }
        let slot = Slot::new(home, hits.trailing_zeros() as usize);
        prefetch_slice(&self.entries, slot.0 as usize);
        Guess(slot.0)
    }

    /// The second part, for one of the flows: the connection with this key, as [`Table::lookup`] finds it, but for one inserted since the guess. Its key
    /// must stay.
    #[inline]
    pub fn lookup_guessed(
        &mut self,
        now: Tick,
        hash: FlowHash,
        key: &FlowKey,
        guess: Guess,
    ) -> Option<&mut Entry> {
        let slot = guess.0 as usize;
        // Nearly always. Asked for by its index, since a reference could not be kept.
        if slot < self.entries.len() && self.entries[slot].key() == key {
            return Some(&mut self.entries[slot]).filter(|entry| !entry.is_expired(now));
        }
        self.lookup_further(now, hash, key, guess)
    }

    #[inline(never)]
    fn lookup_further(
        &mut self,
        now: Tick,
        hash: FlowHash,
        key: &FlowKey,
        guess: Guess,
    ) -> Option<&mut Entry> {
        if guess == Guess::ABSENT {
            return None;
        }
        let slot = self.find(hash, key)?;
        Some(self.entry_mut(slot)).filter(|entry| !entry.is_expired(now))
    }

    /// From here on, to be called for each burst of newcomers, [`Table::may_have_come`]
    /// tells what is inserted.
    pub fn mark(&mut self) {
        self.recent = [0; RECENT];
        self.pressed = self.pressed.saturating_sub(1);
    }

    /// Whether a connection of this hash may have been inserted since [`Table::mark`].
    #[inline]
    pub fn may_have_come(&self, hash: FlowHash) -> bool {
        let (word, bit) = recent(hash);
        self.recent[word] & bit != 0
    }

    /// The connection with this key, unless its time has come.
    pub fn lookup(&self, now: Tick, hash: FlowHash, key: &FlowKey) -> Option<Slot> {
        self.find(hash, key).filter(|slot| !self.entry(*slot).is_expired(now))
    }

    #[inline]
    fn find(&self, hash: FlowHash, key: &FlowKey) -> Option<Slot> {
        let home = self.home(hash);
        let found = self.find_in(home, tag_of(hash), key);
        if found.is_some() || self.groups[home].overflow() == 0 {
            found
        } else {
            self.find_further(hash, key)
        }
    }

    #[inline]
    fn find_in(&self, group: usize, tag: u16, key: &FlowKey) -> Option<Slot> {
        let mut hits = self.groups[group].matching(tag);
        while hits != 0 {
            let slot = Slot::new(group, hits.trailing_zeros() as usize);
            if self.entry(slot).key() == key {
                return Some(slot);
            }
            hits &= hits - 1;
        }
        None
    }

    /// In the groups that flows are sent on to from their own.
    #[inline(never)]
    fn find_further(&self, hash: FlowHash, key: &FlowKey) -> Option<Slot> {
        let tag = tag_of(hash);
        for group in self.probes(self.home(hash), tag).skip(1) {
            if let Some(slot) = self.find_in(group, tag, key) {
                return Some(slot);
            }
            if self.groups[group].overflow() == 0 {
                return None;
            }
        }
        None
    }

    /// The connection in this slot.
    #[inline]
    pub fn entry(&self, slot: Slot) -> &Entry {
        &self.entries[slot.0 as usize]
    }

    /// The connection in this slot, to be changed; its key must stay.
    #[inline]
    pub fn entry_mut(&mut self, slot: Slot) -> &mut Entry {
        &mut self.entries[slot.0 as usize]
    }

    /// Adds a connection whose key the caller has not found. An expired one
    /// with the same key makes place for it.
    ///
    /// # Errors
    /// [`TableFull`] if the table is at its capacity, and the clock hand meets
    /// only connections that live and are not
    /// [expendable](crate::conntrack::State::is_expendable) in the slots it looks
    /// at. Also if no slot within reach of the flow is free, nor could be: with a
    /// keyed hash that does not happen.
    #[inline]
    pub fn insert(&mut self, now: Tick, hash: FlowHash, entry: Entry) -> Result<Slot, TableFull> {
        let (word, bit) = recent(hash);
        self.recent[word] |= bit;
        if let Some(slot) = self.find(hash, entry.key()) {
            self.statistics.expired += 1;
            self.statistics.inserted += 1;
            self.replace(slot, entry);
            return Ok(slot);
        }
        let has_room = self.has_room(now);
        let home = self.home(hash);
        let free = self.groups[home].matching(0);
        if free != 0 && has_room {
            let slot = Slot::new(home, free.trailing_zeros() as usize);
            self.fill(slot, hash, entry, 0);
            return Ok(slot);
        }
        self.insert_further(now, hash, entry, has_room)
    }

    /// Where the flow's own group is full.
    #[inline(never)]
    fn insert_further(
        &mut self,
        now: Tick,
        hash: FlowHash,
        entry: Entry,
        has_room: bool,
    ) -> Result<Slot, TableFull> {
        let home = self.home(hash);
        let slot = self
            .free_slot(hash)
            .filter(|_| has_room)
            .or_else(|| (has_room && self.shed(home, now)).then(|| self.free_slot(hash)).flatten());
        let Some(slot) = slot else {
            self.statistics.refused += 1;
            return Err(TableFull);
        };
        let mut displacement = 0;
        for group in self.probes(home, tag_of(hash)).take_while(|g| *g != slot.group()) {
            self.groups[group].0[SLOTS] += 1;
            displacement += 1;
        }
        self.fill(slot, hash, entry, displacement);
        Ok(slot)
    }

    /// The first empty slot within reach.
    fn free_slot(&self, hash: FlowHash) -> Option<Slot> {
        for group in self.probes(self.home(hash), tag_of(hash)) {
            let free = self.groups[group].matching(0);
            if free != 0 {
                return Some(Slot::new(group, free.trailing_zeros() as usize));
            }
            if self.groups[group].overflow() == MAX_OVERFLOW {
                return None;
            }
        }
        None
    }

    #[inline]
    fn fill(&mut self, slot: Slot, hash: FlowHash, entry: Entry, displacement: u8) {
        self.groups[slot.group()].0[slot.lane()] = tag_of(hash);
        self.count(&entry, |n| n + 1);
        let place = &mut self.entries[slot.0 as usize];
        *place = entry;
        place.set_displacement(displacement);
        self.len += 1;
        self.statistics.inserted += 1;
    }

    /// Puts another connection with the same key in the place of this one.
    pub fn replace(&mut self, slot: Slot, entry: Entry) {
        self.close_account(slot);
        let before = *self.entry(slot);
        let displacement = before.displacement();
        self.count(&before, |n| n - 1);
        self.count(&entry, |n| n + 1);
        *self.entry_mut(slot) = entry;
        self.entry_mut(slot).set_displacement(displacement);
    }

    /// Forgets the connection in this slot.
    pub fn remove(&mut self, slot: Slot) {
        self.close_account(slot);
        let entry = *self.entry(slot);
        self.count(&entry, |n| n - 1);
        let tag = std::mem::take(&mut self.groups[slot.group()].0[slot.lane()]);
        for group in self.passed(slot, tag) {
            self.groups[group].0[SLOTS] -= 1;
        }
        self.len -= 1;
    }

    /// The groups that a connection was sent on from, before it found this slot.
    fn passed(&self, slot: Slot, tag: u16) -> impl Iterator<Item = usize> + use<> {
        let groups = self.groups.len();
        let displacement = usize::from(self.entry(slot).displacement());
        let home = (slot.group() + (groups - self.stride(tag)) * displacement) % groups;
        self.probes(home, tag).take(displacement)
    }

    /// The lanes of a group that hold a connection.
    fn taken(&self, group: usize) -> impl Iterator<Item = usize> + use<> {
        let mut taken = !self.groups[group].matching(0) & Group::LANES;
        std::iter::from_fn(move || {
            let lane = taken.trailing_zeros() as usize;
            taken &= taken.wrapping_sub(1);
            (lane < SLOTS).then_some(lane)
        })
    }

    /// How many groups of slots it has.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Shows the living connections of `groups` groups from `cursor` on; the
    /// cursor to go on with, `None` after the last. Connections that come or go
    /// between two calls may be missed, none is shown twice.
    pub fn scan(
        &self,
        now: Tick,
        cursor: usize,
        groups: usize,
        visit: &mut dyn FnMut(&Entry),
    ) -> Option<usize> {
        let end = cursor.saturating_add(groups).min(self.groups.len());
        for group in cursor..end {
            for lane in self.taken(group) {
                let entry = self.entry(Slot::new(group, lane));
                if !entry.is_expired(now) {
                    visit(entry);
                }
            }
        }
        (end < self.groups.len()).then_some(end)
    }

    /// Forgets the living connections that `unwanted` names, of `groups` groups
    /// from `cursor` on, as [`Table::scan`] goes through them.
    pub fn forget(
        &mut self,
        now: Tick,
        cursor: usize,
        groups: usize,
        unwanted: &mut dyn FnMut(&Entry) -> bool,
    ) -> Option<usize> {
        let end = cursor.saturating_add(groups).min(self.groups.len());
        for group in cursor..end {
            for lane in self.taken(group) {
                let slot = Slot::new(group, lane);
                let entry = self.entry(slot);
                if !entry.is_expired(now) && unwanted(entry) {
                    self.remove(slot);
                    self.statistics.killed += 1;
                }
            }
        }
        (end < self.groups.len()).then_some(end)
    }
}

mod accounts;
mod room;
#[cfg(test)]
mod tests;

pub use accounts::{Account, Accounts, Carried};
