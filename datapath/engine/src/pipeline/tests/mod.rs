//! The pipeline over real frames: every allowed case beside its nearest denied
//! neighbours, and every counter that moved.

mod accounts;
mod fragments;
mod local;
mod located;
mod neighbours;
mod spoofing;
mod state;
mod steering;
mod tracking;
mod twins;
mod uplink;
mod world;
