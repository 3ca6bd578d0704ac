//! The safe face of DPDK: what the types own, and when it is given back.
//!
//! - An [`Mbuf`] is owned by whoever holds it and freed when dropped; a
//!   transmit that takes it takes it out of the caller's [`Burst`].
//! - A [`Mempool`] is kept by every port that fills its mbufs, and goes when the
//!   last user is gone and every mbuf is back, wherever it was (module `census`).
//! - Queues keep their [`Port`] open; it is stopped and closed when the last of
//!   them and the port itself are dropped.
//! - All of them keep [`Eal`] alive.
//!
//! Calls into C happen once per burst; what is read per packet is read from the
//! mbuf's fields directly.

#![allow(unsafe_code)]

mod burst;
mod census;
mod eal;
mod error;
mod mbuf;
mod memory;
mod mempool;
mod offload;
mod port;
mod queue;
mod ring;
mod statistics;
mod thread;

pub use burst::{BURST, Burst};
pub use eal::{Eal, cycles, tsc_hz};
pub use error::Error;
pub use mbuf::Mbuf;
pub use memory::advise_huge_pages;
pub use mempool::{Mempool, MempoolConfig};
pub use offload::{Offload, TxOffloads, TxRequest};
pub use port::{Link, MAX_PORTS, Port, PortConfig, PortInfo, Rss};
pub use queue::{RxQueue, TxQueue};
pub use ring::{Consumer, Producer, ring, ring_near};
pub use statistics::{PortStatistics, Xstat};
pub use thread::ThreadRegistration;
