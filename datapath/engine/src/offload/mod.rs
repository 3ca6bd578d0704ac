//! What senders leave to the devices below them: the checksum above IP, and the
//! cutting of a super-frame of up to 64 KiB into packets that fit the link.
//!
//! A virtual machine or a kernel's virtual link hands over TCP and UDP packets
//! with a *partial checksum*: the field holds the sum of the pseudo-header, and
//! whoever puts the packet on a wire sums up the rest (virtio 1.1, 5.1.6.2). It
//! is judged like any other, and made ready for where it leaves: carried as it
//! is to a port that takes such packets, completed and cut for one that does not.
//!
//! DPDK's library for cutting (`librte_gso`, 22.11) knows no TCP over IPv6 and
//! leaves checksums to the device; so this is our own, over bytes, for both
//! families, and sums up while it cuts.

mod checksum;
mod layers;
mod segment;
#[cfg(test)]
mod tests;

pub use checksum::{Sum, slices};
pub use layers::{Layers, Protocol};
pub use segment::{Headers, MAX_SEGMENTS, Segmentation};
