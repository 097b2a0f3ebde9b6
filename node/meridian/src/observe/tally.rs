//! Counts by a number: so many cells for each thread, as in [`super::counters`].

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use super::{
    counters::Pen,
    threads::{SLOTS, slot},
};

/// Cells with numbers from 0 on.
#[derive(Debug)]
pub struct Tally {
    length: usize,
    /// Made when a thread first counts something.
    shards: [OnceLock<Box<[AtomicU64]>>; SLOTS],
}

impl Tally {
    /// So many cells, all zero.
    #[must_use]
    pub fn new(length: usize) -> Self {
        Self { length, shards: [const { OnceLock::new() }; SLOTS] }
    }

    /// Counts one in a cell; one that is not there is not counted. Waits for nobody.
    #[inline]
    pub fn note(&self, cell: usize) {
        let slot = slot();
        // the index is below SLOTS by construction, which the compiler cannot see
        let shard = self.shards[slot.index.min(SLOTS - 1)]
            .get_or_init(|| std::iter::repeat_with(AtomicU64::default).take(self.length).collect());
        if let Some(cell) = shard.get(cell) {
            Pen::of(slot).add(cell, 1);
        }
    }

    /// What all threads have counted so far, by cell.
    #[must_use]
    pub fn totals(&self) -> Vec<u64> {
        let mut totals = vec![0; self.length];
        for shard in self.shards.iter().filter_map(OnceLock::get) {
            for (total, cell) in totals.iter_mut().zip(shard) {
                *total += cell.load(Relaxed);
            }
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_threads_count_is_added_up() {
        let tally = Tally::new(3);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|n| tally.note(n % 4)));
            }
        });
        assert_eq!(tally.totals(), [1000, 1000, 1000]);
    }
}
