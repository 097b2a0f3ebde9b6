//! What the program's end says to scripts.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Failed.
    Failure,
    /// The command line makes no sense.
    Usage,
    /// The configuration makes no sense.
    Config,
    /// The node could not be reached.
    Unreachable,
    /// Refused, by a node or by what a new database is held against.
    Refused,
    /// A purge was accepted and goes on, but had not come as far as asked in time.
    Incomplete,
    /// A signed receipt does not hold.
    Forged,
}

impl Exit {
    /// All of them.
    #[cfg(test)]
    pub(super) const ALL: [Self; 8] = [
        Self::Done,
        Self::Failure,
        Self::Usage,
        Self::Config,
        Self::Unreachable,
        Self::Refused,
        Self::Incomplete,
        Self::Forged,
    ];

    /// The process's exit code.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Config => 3,
            Self::Unreachable => 4,
            Self::Refused => 5,
            Self::Incomplete => 6,
            Self::Forged => 7,
        }
    }

    /// The word for it in JSON.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failure => "failed",
            Self::Usage => "usage",
            Self::Config => "config",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::Incomplete => "incomplete",
            Self::Forged => "forged",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
