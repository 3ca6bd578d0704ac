//! The flow a packet belongs to, and the hash that finds its owner and its entry.

mod hash;
mod key;

pub use hash::{FlowHash, FlowHasher};
pub(crate) use key::Scope;
pub use key::{FlowKey, Side};
