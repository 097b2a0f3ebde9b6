//! Purges.

/// A node's own counter of applied events: `boot << 40 | n`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position(pub u64);
