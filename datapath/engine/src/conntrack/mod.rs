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
//! # When it is full
//! A newcomer takes a slot of its own probe range whose entry has expired, else
//! one that is half-open, nearest deadline first; an established connection is
//! never given up for a newcomer (D23).

mod entry;
mod table;
mod tcp;
mod timeouts;

pub use entry::{Entry, State};
pub use table::{PROBES, Slot, Table, TableConfig, TableFull, TableStatistics};
pub use timeouts::Timeouts;
