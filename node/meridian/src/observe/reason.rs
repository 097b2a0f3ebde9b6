//! The reasons that are counted.

/// Placeholder until the caching rules land.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// Nothing stored under this key.
    UriMiss,
}

impl Reason {
    /// All.
    pub const ALL: [Self; 1] = [Self::UriMiss];
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        "uri-miss"
    }
}

/// How many there are.
pub(super) const REASONS: usize = Reason::ALL.len();
