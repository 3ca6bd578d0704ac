//! The safe face of DPDK: what the types own, and when it is given back.
//!
//! - An [`Mbuf`] is owned by whoever holds it and freed when dropped; a
//!   transmit that takes it takes it out of the caller's [`Burst`].
//! - A [`Mempool`] is freed after everything that was made with it (ports,
//!   rings) and only when every mbuf is back. If one is still out, the pool is
//!   left allocated: a leak at the end of a program, never a use after free.
//! - Queues keep their [`Port`] open; a started port is stopped and closed when
//!   the last of them and the port itself are dropped.
//! - All of them keep [`Eal`] alive.
//!
//! Calls into C happen once per burst; what is read per packet is read from the
//! mbuf's fields directly.

#![allow(unsafe_code)]

mod burst;
mod eal;
mod error;
mod mbuf;
mod mempool;
mod port;
mod queue;
mod ring;
mod statistics;

pub use burst::{BURST, Burst};
pub use eal::{Eal, ThreadRegistration, cycles, tsc_hz};
pub use error::Error;
pub use mbuf::Mbuf;
pub use mempool::{Mempool, MempoolConfig};
pub use port::{Link, Port, PortConfig, PortInfo};
pub use queue::{RxQueue, TxQueue};
pub use ring::{Consumer, Producer, ring};
pub use statistics::{PortStatistics, Xstat};
