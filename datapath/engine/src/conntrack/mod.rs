//! Connection tracking: what lets a reply pass without a rule.
//!
//! # The table
//! Bounded, allocated once, one entry per flow for both directions and both
//! ends. Tags and entries lie apart: a group is 32 bytes with fifteen 16-bit
//! tags and a count of flows that found it full, its entries are 64 bytes each.
//! A hit costs one tag line and one entry line, a miss the tag line alone. A
//! flow that finds its group full goes on to another, [`PROBES`] of them at
//! most, and is counted in each that it passed: a lookup goes on only while
//! that count says that someone did, so removal leaves no tombstone.
//!
//! Rejected, with the prototype's figures at one million entries: tombstones
//! with a slot sweep (6 M new flows per second sustained where this gives 9 to
//! 11); tags inline in the bucket's line (47 to 50 ns per packet where this
//! gives 34 to 42); two-choice buckets; `rte_hash`, which collapses under
//! all-new flows and evicts nothing.
//!
//! # When it is full (D23)
//! A newcomer moves the clock hand on, over thirty slots at most. The first expired
//! connection that it meets makes room. Else, of the first four expendable ones the
//! one that would expire first is given up: one that is half-open (SYN without a
//! completed handshake, TCP picked up from one side, UDP or ICMP never answered) or
//! over. An established one never is; where the hand meets no other, the newcomer is
//! refused. So a table full of a flood costs a newcomer four lines, which were asked
//! for ahead. The place is free anywhere, not within the newcomer's reach: at 0.85
//! load there is a free slot within reach as good as always.
//!
//! Of an interface whose allowance is used up, the hand looks at eight slots for one
//! of its own; a flood at one interface is bounded more tightly than one of all.
//!
//! Rejected: a victim among the 240 slots within reach. It finds the last
//! half-open entry of a full table, and reads 200 entries from 16 places for it:
//! 5 to 7 us per newcomer at a million entries, where the hand takes 0.3 to 0.6
//! (same machine, same runs, with other work beside). The bound for any packet
//! is 0.4 us; a flood must not find a way around it. A bit "half-open" beside
//! the tags: spares those reads, but every handshake would write the tag line.
//!
//! # What is strict, what is lenient
//! See `tcp.rs`. States and deadlines are for remembering; the ends judge
//! segments. Only a reset that its receiver could not believe is dropped.
//!
//! # A port that is used again
//! A SYN where a connection is over, or was never seen to live, opens another
//! connection, and rules may have changed since: ask
//! [`Entry::is_reopened_by`] before letting it pass by state, judge it as a
//! first packet, and put [`Entry::open`]'s answer in place by [`Table::replace`].

mod entry;
mod state;
mod table;
mod tcp;
mod timeouts;

pub use entry::{Entry, Tracking};
pub use state::State;
pub use table::{
    Account, Accounts, Carried, Guess, PROBES, Slot, Table, TableConfig, TableFull, TableStatistics,
};
pub use timeouts::Timeouts;
