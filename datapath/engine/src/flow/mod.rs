//! The flow a packet belongs to, and the hash that finds its owner and its entry.

mod hash;
mod key;
mod spread;

pub use hash::{FlowHash, FlowHasher, owner};
pub(crate) use key::Scope;
pub use key::{FlowKey, Side};
pub use spread::{BUCKETS, Spread};
