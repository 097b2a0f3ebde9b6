//! The names under which things are kept.

/// A keyed 128-bit hash that names a stored entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub u128);

/// The random name of a body; its chunks are kept under keys made from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BodyId(pub u128);
