//! A disk that fails: counted, told, and out of use until it works again.

use std::{
    fmt::Display,
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};

/// So many failures in a row, and the disk is broken.
const FAILURES_MAX: u32 = 16;
/// What goes on is told again after so many rounds.
const ROUNDS_PER_REPORT: u64 = 12;

/// What went wrong with the disk.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    errors: AtomicU64,
    /// Failures since the last success.
    row: AtomicU32,
    broken: AtomicBool,
    breaks: AtomicU64,
    /// Errors that the log knows of.
    told: AtomicU64,
    rounds: AtomicU64,
}

impl Trouble {
    pub(super) fn passed(&self) {
        // a look first: a store would take the line from the other cores at every disk hit
        if self.row.load(Ordering::Relaxed) != 0 {
            self.row.store(0, Ordering::Relaxed);
        }
    }

    /// A single failure; a row of them breaks the disk.
    pub(super) fn failed(&self, doing: &'static str, fault: &dyn Display) {
        let errors = self.errors.fetch_add(1, Ordering::Relaxed) + 1;
        // the first one at once, the others by `report`
        if self.told.compare_exchange(0, errors, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            tracing::warn!(%fault, "cannot {doing} the disk cache; requests go on without it");
        }
        if self.row.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES_MAX {
            self.out(fault);
        }
    }

    /// A failure that leaves no doubt.
    pub(super) fn breaks(&self, fault: &dyn Display) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        self.out(fault);
    }

    fn out(&self, fault: &dyn Display) {
        if !self.broken.swap(true, Ordering::Relaxed) {
            self.breaks.fetch_add(1, Ordering::Relaxed);
            self.rounds.store(0, Ordering::Relaxed);
            tracing::warn!(%fault, "the disk cache is out of use; the node goes on with its memory and the origins");
        }
    }

    /// A broken disk was tried, and is still broken.
    pub(super) fn still(&self, fault: &dyn Display) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(%fault, "the disk cache was tried");
        if (self.rounds.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(ROUNDS_PER_REPORT) {
            tracing::warn!(%fault, "the disk cache is still out of use");
        }
    }

    /// A broken disk works again.
    pub(super) fn mends(&self) {
        self.row.store(0, Ordering::Relaxed);
        if self.broken.swap(false, Ordering::Relaxed) {
            tracing::info!("the disk cache is in use again");
        }
    }

    pub(super) fn broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    pub(super) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// How often it broke.
    pub(super) fn times(&self) -> u64 {
        self.breaks.load(Ordering::Relaxed)
    }

    /// Tells what failed since the last report.
    pub(super) fn report(&self) {
        let errors = self.errors();
        let told = self.told.swap(errors, Ordering::Relaxed);
        if errors > told && !self.broken() {
            tracing::warn!(errors = errors - told, "uses of the disk cache failed in the last minute");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_keeps_failing_is_out_of_use_until_it_is_found_whole() {
        let trouble = Trouble::default();
        for _ in 1..FAILURES_MAX {
            trouble.failed("read", &"EIO");
        }
        trouble.passed();
        trouble.failed("read", &"EIO");
        assert!(!trouble.broken(), "a success forgives the row");
        for _ in 1..FAILURES_MAX {
            trouble.failed("read", &"EIO");
        }
        assert!(trouble.broken());
        trouble.passed();
        trouble.still(&"EIO");
        assert!(trouble.broken(), "a look-up that began before says nothing");
        trouble.mends();
        assert!(!trouble.broken());
        trouble.breaks(&"gone");
        assert!(trouble.broken());
        assert_eq!((trouble.errors(), trouble.times()), (u64::from(FAILURES_MAX) * 2 + 1, 2));
    }
}
