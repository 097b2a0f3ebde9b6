//! A fleet in simulated time: the real ledger of six nodes in three regions, an origin and clients, under faults that a
//! seed says; and a checker that reads only what happened. See docs/simulation.md.

pub mod checker;
pub mod clients;
pub mod faults;
pub mod fleet;
pub mod log;
pub mod net;
pub mod node;
pub mod quic;
pub mod run;
pub mod stage;
