//! A laboratory for the switch: network namespaces as instances, each with a
//! real network stack, and the daemon between them; and the specification that
//! the engine is compared with.

#![forbid(unsafe_code)]

pub mod bench;
mod command;
mod guest;
mod lab;
pub mod policy;
pub mod product;
mod scripts;
pub mod specification;

pub use command::run;
pub use guest::{Guest, Hardware, Machine};
pub use lab::{Conversation, Instance, Kind, Lab, Options, Server, ask, binary, stop_on_signals};
pub use scripts::{must, script, target};
