//! Keeps it: objects in memory and on disk (foyer), ledger and node state (redb).

pub mod audit;
pub mod ledger;
pub mod objects;
