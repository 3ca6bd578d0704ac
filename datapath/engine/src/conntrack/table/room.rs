//! Who gives way to newcomers, where room or an allowance is used up (D23): what has
//! expired, then half-open connections and such as are over; never one that is in use.
//!
//! Whose interface has used up its allowance finds another of that interface in its own
//! group first, whose line it has to read anyway. A table that is full has the clock hand
//! look for what has expired, wherever that is.

use super::{Group, SLOTS, Slot, Table};
use crate::arch::prefetch_slice;
use crate::conntrack::Entry;
use crate::flow::FlowHash;
use crate::ids::InterfaceId;
use crate::time::Tick;

/// Slots that the clock hand looks at for a newcomer when the table is full.
pub(super) const RECLAIM_SLOTS: usize = 2 * SLOTS;

/// Slots that it looks at for a newcomer whose interface has used up its allowance.
const ALLOWANCE_SLOTS: usize = 8;

/// Expendable connections that it chooses from, unless it meets an expired one.
pub(super) const CANDIDATES: usize = 4;

/// Connections in its own group that a newcomer looks at before.
pub(super) const NEIGHBOURS: usize = 2;

/// Bursts for which their lines are asked for ahead, after there was need of it.
pub(super) const PRESSED: u8 = 16;

/// Groups by which the clock hand's lines are asked for ahead of it.
const GROUPS_AHEAD: usize = 2;

/// What a connection is to a newcomer.
enum Found {
    /// It had expired, and is gone.
    Expired,
    /// It may be given up, and is one to choose from.
    Candidate,
    /// It stays.
    InUse,
}

impl Table {
    /// Whether the interface may track one more (D23), a flow of this hash: it has fewer
    /// than `most`, or one of its own gives way that has expired or is expendable, of a few
    /// in the newcomer's group and where the clock hand moves on.
    #[inline]
    pub fn has_allowance(&mut self, now: Tick, hash: FlowHash, interface: InterfaceId, most: u32) -> bool {
        let is_below = |table: &Table| table.tracked_by(interface.slot()) < most;
        if is_below(self) {
            return true;
        }
        self.pressed = PRESSED;
        let may = |entry: &Entry| entry.is_tracked_by(interface);
        self.make_room_at_home(now, hash, is_below, may)
            || self.make_room(now, ALLOWANCE_SLOTS, is_below, may)
    }

    /// Whether the table has room for one more, which others may have to give way for.
    #[inline]
    pub(super) fn has_room(&mut self, now: Tick) -> bool {
        self.len < self.limit || self.make_room(now, RECLAIM_SLOTS, |table| table.len < table.limit, |_| true)
    }

    /// Asks for the lines that will be read when a connection of this flow is opened.
    #[inline]
    pub fn prefetch_room(&self, hash: FlowHash) {
        let home = self.home(hash);
        let free = self.groups[home].matching(0);
        if free != 0 {
            prefetch_slice(&self.entries, home * SLOTS + free.trailing_zeros() as usize);
        }
        if self.pressed > 0 {
            for slot in self.neighbours(hash) {
                prefetch_slice(&self.entries, slot.index());
            }
        }
    }

    /// The first connections of a flow's own group, from a lane on that differs from flow
    /// to flow, so that none is found more often than others.
    #[inline]
    pub(super) fn neighbours(&self, hash: FlowHash) -> impl Iterator<Item = Slot> + use<> {
        let home = self.home(hash);
        let taken = u32::from(!self.groups[home].matching(0) & Group::LANES);
        // Bits that neither group nor tag are made from.
        let from = (hash.0 >> 48) as u32 % SLOTS as u32;
        let later = taken >> from << from;
        let mut left = later | (taken ^ later) << SLOTS;
        (0..NEIGHBOURS).map_while(move |_| {
            let lane = left.trailing_zeros() as usize % SLOTS;
            let is_one = left != 0;
            left &= left.wrapping_sub(1);
            is_one.then_some(Slot::new(home, lane))
        })
    }

    /// What has expired in a few slots of the flow's group goes; else the expendable
    /// connection there that would expire first, of those that `may` be given up.
    #[inline(never)]
    fn make_room_at_home(
        &mut self,
        now: Tick,
        hash: FlowHash,
        is_enough: impl Fn(&Table) -> bool,
        may: impl Fn(&Entry) -> bool,
    ) -> bool {
        let mut victim = None;
        for slot in self.neighbours(hash) {
            if let Found::Expired = self.look_at(slot, now, &may, &mut victim)
                && is_enough(self)
            {
                return true;
            }
        }
        self.give_up(victim)
    }

    /// Moves the clock hand on over at most `slots`, until what it has forgotten is
    /// enough. What has expired goes first; else the expendable connection that would
    /// expire first, of the first few that it meets and that `may` be given up.
    #[inline(never)]
    fn make_room(
        &mut self,
        now: Tick,
        slots: usize,
        is_enough: impl Fn(&Table) -> bool,
        may: impl Fn(&Entry) -> bool,
    ) -> bool {
        let mut candidates = 0;
        let mut victim = None;
        for _ in 0..slots {
            let slot = Slot(self.hand as u32);
            self.turn_hand();
            if self.groups[slot.group()].0[slot.lane()] == 0 {
                continue;
            }
            match self.look_at(slot, now, &may, &mut victim) {
                Found::Expired if is_enough(self) => return true,
                Found::Candidate => {
                    candidates += 1;
                    if candidates == CANDIDATES {
                        break;
                    }
                }
                Found::Expired | Found::InUse => {}
            }
        }
        self.give_up(victim)
    }

    /// Makes room in a group: forgets what has expired, else gives up the expendable
    /// connection that would expire first. False if there is neither.
    pub(super) fn shed(&mut self, group: usize, now: Tick) -> bool {
        let mut victim = None;
        let mut expired = false;
        for lane in self.taken(group) {
            let found = self.look_at(Slot::new(group, lane), now, |_| true, &mut victim);
            expired |= matches!(found, Found::Expired);
        }
        expired || self.give_up(victim)
    }

    /// Forgets a connection that has expired; one that may be given up becomes the victim
    /// if it would expire before that.
    #[inline]
    fn look_at(
        &mut self,
        slot: Slot,
        now: Tick,
        may: impl Fn(&Entry) -> bool,
        victim: &mut Option<(Tick, Slot)>,
    ) -> Found {
        let entry = self.entry(slot);
        let deadline = entry.deadline();
        if entry.is_expired(now) {
            self.remove(slot);
            self.statistics.expired += 1;
            Found::Expired
        } else if entry.state().is_expendable() && may(entry) {
            if victim.is_none_or(|(earliest, _)| deadline < earliest) {
                *victim = Some((deadline, slot));
            }
            Found::Candidate
        } else {
            Found::InUse
        }
    }

    /// Gives the victim up; false if there is none.
    fn give_up(&mut self, victim: Option<(Tick, Slot)>) -> bool {
        let Some((_, slot)) = victim else { return false };
        self.remove(slot);
        self.statistics.shed += 1;
        true
    }

    /// On to the next slot. What it will look at later is asked for, group by group,
    /// to be on its way while packets are worked on.
    #[inline]
    fn turn_hand(&mut self) {
        self.hand = if self.hand + 1 == self.entries.len() { 0 } else { self.hand + 1 };
        if self.hand.is_multiple_of(SLOTS) {
            self.prefetch_ahead();
        }
    }

    fn prefetch_ahead(&self) {
        let group = self.hand / SLOTS;
        prefetch_slice(&self.groups, group + 2 * GROUPS_AHEAD);
        let ahead = group + GROUPS_AHEAD;
        if ahead < self.groups.len() {
            for lane in self.taken(ahead) {
                prefetch_slice(&self.entries, ahead * SLOTS + lane);
            }
        }
    }

    /// Moves the clock hand on to the end of this many groups and forgets what has
    /// expired in them. Returns how many connections that were.
    pub fn sweep(&mut self, now: Tick, groups: usize) -> usize {
        let mut expired = 0;
        for _ in 0..groups.min(self.groups.len()) {
            let group = self.hand / SLOTS;
            expired += self.expire(group, now);
            self.hand = if group + 1 == self.groups.len() { 0 } else { (group + 1) * SLOTS };
            self.prefetch_ahead();
        }
        expired
    }

    /// Forgets what has expired in a group; how many that were.
    fn expire(&mut self, group: usize, now: Tick) -> usize {
        let mut expired = 0;
        for lane in self.taken(group) {
            let slot = Slot::new(group, lane);
            if self.entry(slot).is_expired(now) {
                self.remove(slot);
                expired += 1;
            }
        }
        self.statistics.expired += expired as u64;
        expired
    }
}
