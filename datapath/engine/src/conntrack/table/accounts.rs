//! What connections carry, for those who watch: beside the table, and there only while
//! somebody does.
//!
//! To tell of every packet costs a worker several times what judging it does, and whoever
//! listens cannot follow. So packets of a connection are added up in its place here, one
//! line for each place of the table, and told now and then as one.

use std::mem::take;
use std::ops::Range;

use super::{Entry, Guess, SLOTS, Slot, Table, TableConfig, filled};
use crate::arch::prefetch_slice;
use crate::flow::{FlowHash, FlowKey, Side};
use crate::ids::InterfaceId;
use crate::packet::TcpFlags;

/// Connections that came to an end and are not told of yet; of more, nothing is told.
const PARTED: usize = 4096;

/// What one side of a connection has sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Bytes of frames, Ethernet headers included.
    pub bytes: u64,
    /// How many packets that were.
    pub packets: u32,
    /// All of TCP's control bits that they had, together; none of another protocol.
    pub flags: TcpFlags,
}

/// A connection with what it has carried since it was last told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Whose packets these were.
    pub key: FlowKey,
    /// The interfaces at its ends, by side.
    pub ends: [InterfaceId; 2],
    /// What each side has sent.
    pub sides: [Account; 2],
}

/// The accounts of a [`Table`], one for each of its places.
#[derive(Debug)]
pub struct Accounts {
    sides: Box<[[Account; 2]]>,
    /// What was carried by connections that are gone.
    parted: Vec<Carried>,
    /// Packets of connections of which nothing is told any more.
    lost: u64,
}

const _: () = assert!(size_of::<[Account; 2]>() == 32);

impl Accounts {
    /// For a table with so many places.
    fn new(sides: Box<[[Account; 2]]>) -> Accounts {
        Accounts { sides, parted: Vec::with_capacity(PARTED), lost: 0 }
    }

    /// For how many places this is.
    fn places(&self) -> usize {
        self.sides.len()
    }

    /// Asks for the lines of places, which need not exist.
    fn prefetch(&self, places: impl Iterator<Item = usize>) {
        places.for_each(|place| prefetch_slice(&self.sides, place));
    }

    /// A packet of the connection in this place.
    #[inline]
    fn add(&mut self, slot: Slot, side: Side, bytes: u32, flags: TcpFlags) {
        let account = &mut self.sides[slot.index()][side.index()];
        account.bytes += u64::from(bytes);
        account.packets = account.packets.saturating_add(1);
        account.flags.0 |= flags.0;
    }

    /// What the connection in this place has carried, if anything; from now on it has not.
    fn take(&mut self, slot: Slot, entry: &Entry) -> Option<Carried> {
        let place = &mut self.sides[slot.index()];
        let has_carried = place.iter().any(|account| account.packets > 0);
        has_carried.then(|| Carried {
            key: *entry.key(),
            ends: Side::BOTH.map(|side| entry.end(side)),
            sides: take(place),
        })
    }

    /// The connection in this place comes to its end.
    fn part(&mut self, slot: Slot, entry: &Entry) {
        let Some(carried) = self.take(slot, entry) else { return };
        if self.parted.len() < PARTED {
            self.parted.push(carried);
        } else {
            self.lost += carried.sides.iter().map(|account| u64::from(account.packets)).sum::<u64>();
        }
    }

    /// Tells what was carried by connections that came to their end. Returns of how many
    /// packets nothing is told, for want of room.
    fn tell_parted(&mut self, tell: &mut dyn FnMut(&Carried)) -> u64 {
        self.parted.drain(..).for_each(|carried| tell(&carried));
        take(&mut self.lost)
    }
}

impl TableConfig {
    /// Accounts for such a table, in memory that `advise` is told of before it is touched.
    /// To be made on another thread than the table's: this takes a while.
    pub fn accounts(self, advise: fn(Range<usize>)) -> Accounts {
        Accounts::new(filled(self.groups() * SLOTS, [Account::default(); 2], advise))
    }
}

impl Table {
    /// Keeps these accounts from now on, or none. Returns those that were kept.
    ///
    /// # Panics
    /// If they are for another table.
    pub fn keep_accounts(&mut self, accounts: Option<Box<Accounts>>) -> Option<Box<Accounts>> {
        assert!(accounts.as_ref().is_none_or(|new| new.places() == self.entries.len()), "of this table");
        std::mem::replace(&mut self.accounts, accounts)
    }

    /// Whether it keeps accounts.
    #[inline]
    pub fn keeps_accounts(&self) -> bool {
        self.accounts.is_some()
    }

    /// Asks for the accounts of connections that most likely lie there, if accounts are kept.
    #[inline]
    pub fn prefetch_accounts(&self, guesses: &[Guess]) {
        if let Some(accounts) = &self.accounts {
            accounts.prefetch(guesses.iter().map(|guess| guess.0 as usize));
        }
    }

    /// Where the connection with this key lies, whether or not its time has come.
    #[inline]
    pub fn slot_of(&self, hash: FlowHash, key: &FlowKey, guess: Guess) -> Option<Slot> {
        let is_there = self.entries.get(guess.0 as usize).is_some_and(|entry| entry.key() == key);
        if is_there { Some(Slot(guess.0)) } else { self.find(hash, key) }
    }

    /// Adds a packet that this side has sent to the account of the connection in this slot.
    #[inline]
    pub fn account(&mut self, slot: Slot, side: Side, bytes: u32, flags: TcpFlags) {
        if let Some(accounts) = &mut self.accounts {
            accounts.add(slot, side, bytes, flags);
        }
    }

    /// Tells what connections have carried since they were last told of: those that came to
    /// their end, and those of `groups` groups from `cursor` on. Returns the cursor to go on
    /// with, `None` after the last, and of how many packets nothing can be told.
    pub fn tell_accounts(
        &mut self,
        cursor: usize,
        groups: usize,
        tell: &mut dyn FnMut(&Carried),
    ) -> (Option<usize>, u64) {
        let Some(mut accounts) = self.accounts.take() else { return (None, 0) };
        let lost = accounts.tell_parted(tell);
        let end = cursor.saturating_add(groups).min(self.groups.len());
        for group in cursor..end {
            for lane in self.taken(group) {
                let slot = Slot::new(group, lane);
                if let Some(carried) = accounts.take(slot, self.entry(slot)) {
                    tell(&carried);
                }
            }
        }
        self.accounts = Some(accounts);
        ((end < self.groups.len()).then_some(end), lost)
    }

    /// The connection in this slot comes to its end.
    #[inline]
    pub(super) fn close_account(&mut self, slot: Slot) {
        if self.accounts.is_some() {
            self.part(slot);
        }
    }

    #[cold]
    fn part(&mut self, slot: Slot) {
        let Table { accounts, entries, .. } = self;
        if let Some(accounts) = accounts {
            accounts.part(slot, &entries[slot.index()]);
        }
    }
}
