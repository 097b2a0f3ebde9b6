//! The Meridian node: listeners and the spine of a request, origins, DNS, peers, ledger, admin. The binary is
//! `main.rs`; this library exists so that tests and benches can reach the parts.

pub mod admin;
mod chance;
pub mod cli;
pub mod clock;
pub mod console;
pub mod demo;
pub mod dns;
pub mod drain;
pub mod edge;
pub mod fill;
pub mod geo;
pub mod ledger;
pub mod load;
mod news;
pub mod observe;
pub mod origin;
pub mod peers;
mod restart;
#[cfg(feature = "simulation")]
pub mod simulation;
pub mod snapshot;
pub mod sweep;
pub mod tasks;
pub mod wiring;
