//! The words the whole house shares, and the operator's files turned into one checked [`Config`].
//!
//! Pure: names no sockets, clocks, randomness or async runtime. Reading files is the one thing it does to the world,
//! and only in `files`.

pub mod config;
pub mod ids;

pub use config::*;
pub use ids::*;
