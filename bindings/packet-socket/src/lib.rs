//! Ports over the kernel's packet sockets (packet(7)) that carry the virtio-net
//! header of each frame (`PACKET_VNET_HDR`): checksums stay partial, and
//! super-frames of up to 64 KiB stay whole, from one network stack to the other.
//!
//! DPDK's own drivers over kernel interfaces (`net_af_packet`, `net_af_xdp`, 22.11)
//! move one frame of the link's MTU at a time and drop the header. With a packet
//! socket a frame is copied once on each way, in batches (`recvmmsg`, `sendmmsg`);
//! the ring that the kernel offers as well (`PACKET_RX_RING`) would be a second
//! copy, since its frames cannot be mbufs.
//!
//! The faces are those of a DPDK port: queues that one thread polls at a time, and
//! a handle for the control thread. The last of them closes the sockets.

#![allow(unsafe_code)]

mod header;
mod landing;
mod listener;
mod port;
mod receive;
mod send;
mod system;

pub use header::{NotCarried, Segmented, VnetHeader};
pub use landing::{Landing, Seen, large};
pub use listener::Listener;
pub use port::{Error, MAX_QUEUES, Port};
pub use receive::RxQueue;
pub use send::TxQueue;
