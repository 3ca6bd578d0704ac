//! What connections carry, for those who watch: beside the table, and there only while
//! somebody does.
//!
//! To tell of every packet costs a worker several times what judging it does, and whoever
//! listens cannot follow. So packets of a connection are added up in its place here, one
//! line for each place of the table, and told now and then as one.

use std::mem::take;

use super::{Entry, Slot};
use crate::arch::prefetch_slice;
use crate::flow::{FlowKey, Side};
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

/// The accounts of a [`Table`](super::Table), one for each of its places.
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
    pub(super) fn new(sides: Box<[[Account; 2]]>) -> Accounts {
        Accounts { sides, parted: Vec::with_capacity(PARTED), lost: 0 }
    }

    /// For how many places this is.
    pub(super) fn places(&self) -> usize {
        self.sides.len()
    }

    /// Asks for the lines of places, which need not exist.
    pub(super) fn prefetch(&self, places: impl Iterator<Item = usize>) {
        places.for_each(|place| prefetch_slice(&self.sides, place));
    }

    /// A packet of the connection in this place.
    #[inline]
    pub(super) fn add(&mut self, slot: Slot, side: Side, bytes: u32, flags: TcpFlags) {
        let account = &mut self.sides[slot.index()][side.index()];
        account.bytes += u64::from(bytes);
        account.packets = account.packets.saturating_add(1);
        account.flags.0 |= flags.0;
    }

    /// What the connection in this place has carried, if anything; from now on it has not.
    pub(super) fn take(&mut self, slot: Slot, entry: &Entry) -> Option<Carried> {
        let place = &mut self.sides[slot.index()];
        let has_carried = place.iter().any(|account| account.packets > 0);
        has_carried.then(|| Carried {
            key: *entry.key(),
            ends: Side::BOTH.map(|side| entry.end(side)),
            sides: take(place),
        })
    }

    /// The connection in this place comes to its end.
    pub(super) fn part(&mut self, slot: Slot, entry: &Entry) {
        let Some(carried) = self.take(slot, entry) else { return };
        if self.parted.len() < PARTED {
            self.parted.push(carried);
        } else {
            self.lost += carried.sides.iter().map(|account| u64::from(account.packets)).sum::<u64>();
        }
    }

    /// Tells what was carried by connections that came to their end. Returns of how many
    /// packets nothing is told, for want of room.
    pub(super) fn tell_parted(&mut self, tell: &mut dyn FnMut(&Carried)) -> u64 {
        self.parted.drain(..).for_each(|carried| tell(&carried));
        take(&mut self.lost)
    }
}
