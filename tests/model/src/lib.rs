//! The purge protocol as a model: a world small enough to look at every state that it can be in. What is in it, what is
//! not, and what was found is in `docs/purge-protocol.md`.

pub mod catalogue;
pub mod change;
pub mod machines;
pub mod mutants;
pub mod protocol;
pub mod search;
