//! What happens to a packet: parsing, connection tracking, judging by security
//! groups, forwarding. No DPDK, no threads, no clock, no I/O: everything here
//! runs on byte slices and a [`Tick`](time::Tick) handed in, so that it can be
//! tested, fuzzed and measured on any machine.

pub mod addr;
pub mod arch;
pub mod chunks;
pub mod conntrack;
pub mod flow;
pub mod forward;
pub mod fragment;
pub mod ids;
pub mod offload;
pub mod packet;
pub mod pipeline;
pub mod policy;
pub mod shards;
mod slots;
pub mod snapshot;
pub mod time;
pub mod verdict;
mod vicinity;
