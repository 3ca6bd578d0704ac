//! The real daemon, spoken to over its sockets.

#[path = "../support/mod.rs"]
mod support;

mod actions;
mod bounds;
mod policy;
mod refusals;
mod start;
mod store;
mod talk;
mod watching;
