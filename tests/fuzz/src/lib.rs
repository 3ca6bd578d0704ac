//! What must hold for any input. Each function takes the bytes that a fuzzer
//! made and panics where a promise is broken; the README says what it promises.
//!
//! They are plain functions of stable Rust, so that every input ever found can
//! be replayed by `cargo test`, without a fuzzer.

#![forbid(unsafe_code)]

mod document;
mod edit;
mod example;
mod explain;
mod input;
mod packet;
mod pipeline;
mod table;

pub use document::document;
pub use edit::edit;
pub use explain::explain;
pub use packet::packet;
pub use pipeline::pipeline;
pub use table::table;
