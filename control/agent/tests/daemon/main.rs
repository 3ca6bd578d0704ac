//! The real daemon, spoken to over its sockets.

#[path = "../support/mod.rs"]
mod support;

mod actions;
mod bounds;
mod frozen;
mod metrics;
mod policy;
mod ports;
mod refusals;
mod service;
mod start;
mod store;
mod talk;
mod together;
mod unit;
mod watchdog;
mod watching;
