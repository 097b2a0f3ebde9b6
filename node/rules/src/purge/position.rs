//! A node's own order of the events it applied.

use std::fmt;

/// Bits for the count inside one boot.
const COUNT_BITS: u32 = 40;

/// A place in one node's own order: `boot << 40 | n`. It grows with every applied event and with every restart, and
/// means nothing on another node.
///
/// An object carries the position at the *start* of its fill as its stamp.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl Position {
    /// Before everything.
    pub const ZERO: Self = Self(0);

    /// The first position of a boot: above every position of the boots before. Boots over 24 bits stay at the last.
    #[must_use]
    pub fn first(boot: u32) -> Self {
        Self(u64::from(boot.min((1 << 24) - 1)) << COUNT_BITS)
    }

    /// The boot it was given in.
    #[must_use]
    pub fn boot(self) -> u64 {
        self.0 >> COUNT_BITS
    }

    /// The one after.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The one before.
    #[must_use]
    pub fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.boot(), self.0 & ((1 << COUNT_BITS) - 1))
    }
}
