//! The ledger on disk: one file per realm (redb), written by one thread in groups, behind a narrow door to the disk.
//!
//! What belongs together is written together: the marks of an event, the cursor that says it was heard, the record in
//! the own log and the outbox entry are one transaction. So after a crash the file is some state that the realm was
//! in, and it contains everything that was ever said to be on disk.
//!
//! After a failed write nothing more is written until the next start.

mod disk;
mod faulty;
mod file;
mod load;
mod writer;

pub(crate) use disk::Door;
pub use disk::{Disk, RealDisk};
pub use faulty::{FaultyDisk, Image};
pub use file::{Chance, LedgerFile, Life, Log, Opened, Past};
pub use writer::Writer;

/// Why the ledger's file could not be opened, read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LedgerError {
    /// The file cannot be opened, for a reason that is not its content.
    #[error("opening the ledger file `{name}`: {why}")]
    Open {
        /// Its name.
        name: String,
        /// What the system said.
        why: String,
    },
    /// A write failed. Nothing is written any more.
    #[error("writing the ledger file `{name}` failed, and nothing more is written to it: {why}")]
    Stopped {
        /// Its name.
        name: String,
        /// What the system said.
        why: String,
    },
    /// A read failed.
    #[error("reading the ledger file `{name}`: {why}")]
    Read {
        /// Its name.
        name: String,
        /// What the system said.
        why: String,
    },
}

#[cfg(test)]
mod tests;
