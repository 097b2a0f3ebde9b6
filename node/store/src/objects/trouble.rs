//! A disk that fails: counted, told once a minute, and left alone for a while when it goes on.

use std::{
    fmt::Display,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use foyer::Spawner;

use super::directory::{self, Directory};

/// How long a request waits for the disk. An origin is nearer than a disk that takes longer.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
/// So many failures in a row, and the disk rests until the next round.
const FAILURES_MAX: u32 = 16;
const ROUND: Duration = Duration::from_secs(5);
const ROUNDS_PER_REPORT: u64 = 12;

/// What went wrong with the disk, and what it holds.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    errors: AtomicU64,
    /// Failures since the last success.
    row: AtomicU32,
    resting: AtomicBool,
    /// Errors that the log knows of.
    told: AtomicU64,
    held_bytes: AtomicU64,
}

impl Trouble {
    pub(super) fn passed(&self) {
        // a look first: a store would take the line from the other cores at every disk hit
        if self.row.load(Ordering::Relaxed) != 0 {
            self.row.store(0, Ordering::Relaxed);
        }
    }

    pub(super) fn failed(&self, fault: &dyn Display) {
        let errors = self.errors.fetch_add(1, Ordering::Relaxed) + 1;
        // the first one at once, the others by `report`
        if self.told.compare_exchange(0, errors, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            tracing::warn!(%fault, "cannot read the disk cache; requests go on without it");
        }
        if self.row.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES_MAX && !self.resting.swap(true, Ordering::Relaxed) {
            tracing::warn!(failures = FAILURES_MAX, "the disk cache keeps failing and is left alone for some seconds");
        }
    }

    pub(super) fn resting(&self) -> bool {
        self.resting.load(Ordering::Relaxed)
    }

    pub(super) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    pub(super) fn held_bytes(&self) -> u64 {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// Lets the disk be tried again: one failure more, and it rests again.
    fn wake(&self) {
        if self.resting.swap(false, Ordering::Relaxed) {
            self.row.store(FAILURES_MAX - 1, Ordering::Relaxed);
        }
    }

    fn report(&self) {
        let errors = self.errors();
        let told = self.told.swap(errors, Ordering::Relaxed);
        if errors > told {
            tracing::warn!(errors = errors - told, "reads of the disk cache failed in the last minute");
        }
    }
}

/// Starts the rounds on the store's own threads; they end with the store.
pub(super) fn watch(trouble: &Arc<Trouble>, directory: Option<&Directory>, spawner: &Spawner) {
    let Some(directory) = directory else { return };
    let path = directory.path().to_path_buf();
    trouble.held_bytes.store(directory::held_bytes(&path), Ordering::Relaxed);
    let trouble = Arc::downgrade(trouble);
    spawner.spawn(async move {
        let mut rounds: u64 = 0;
        loop {
            tokio::time::sleep(ROUND).await;
            let Some(trouble) = trouble.upgrade() else { return };
            rounds += 1;
            trouble.wake();
            if rounds.is_multiple_of(ROUNDS_PER_REPORT) {
                trouble.report();
            }
            // a few hundred calls that touch no data; on these threads nobody waits for them
            trouble.held_bytes.store(directory::held_bytes(&path), Ordering::Relaxed);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_keeps_failing_is_left_alone_and_tried_again() {
        let trouble = Trouble::default();
        for _ in 1..FAILURES_MAX {
            trouble.failed(&"EIO");
        }
        assert!(!trouble.resting());
        trouble.failed(&"EIO");
        assert!(trouble.resting());
        trouble.wake();
        assert!(!trouble.resting());
        trouble.failed(&"EIO");
        assert!(trouble.resting(), "one more is enough");
        trouble.wake();
        trouble.passed();
        trouble.failed(&"EIO");
        assert!(!trouble.resting(), "a success forgives the row");
        assert_eq!(trouble.errors(), u64::from(FAILURES_MAX) + 2);
    }
}
