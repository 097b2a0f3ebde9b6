//! What is written to disk.
//!
//! The disk is a log that goes round: what is written pushes the oldest out. So a tenant's part of the disk is what it
//! wrote of the last lap, and a tenant that writes more than its share pushes the others out.
//!
//! **In the first lap everything is written at once**, since what is not on disk is lost by a kill. **Once the log goes
//! round**, a tenant that holds less than its share goes on like that; beyond it, only what comes a second time is
//! written: fetched again, or asked for in memory before it has to leave there. A scan comes once. Pieces of
//! large bodies are not held to that, since each fetch names them anew, until their tenant holds all of its share. What that saves was
//! measured (`benches/benches/eviction.rs`, a log for a quarter of the set, half of the requests for objects that never
//! come again): a tenth of the bytes written, and 73 % hits instead of 53 %. What it costs: a kill loses what was asked
//! for only once since.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use parking_lot::Mutex;

use super::memory::{Bounds, Slot};

/// A lap is forgotten in so many steps.
const STEPS: usize = 64;
/// What foyer rounds an entry up to.
const PAGE: u64 = 4096;
/// Of each page of a blob's index, so many entries are told of; an entry also pays for its part of that.
const INDEX_BYTES: u64 = 24;
/// What foyer writes before an entry: its own head, and the key.
const HEAD_BYTES: u64 = 48;

/// Why an entry was not written to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Its tenant has written more than its share, and this is the first that is seen of it.
    Share,
    /// Its tenant has as much on disk as it may have.
    Max,
    /// The disk is slower than what is to be written.
    Queue,
    /// The disk is out of use.
    Away,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Share, Self::Max, Self::Queue, Self::Away];

    /// In metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Share => "share",
            Self::Max => "max",
            Self::Queue => "queue",
            Self::Away => "away",
        }
    }
}

/// How many were refused, by cause, in the order of [`Refusal::ALL`].
#[derive(Debug, Default)]
pub(super) struct Refused([AtomicU64; 4]);

impl Refused {
    pub(super) fn count(&self, refusal: Refusal) {
        if let Some(counter) = self.0.get(refusal as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn all(&self) -> [u64; 4] {
        self.0.each_ref().map(|counter| counter.load(Ordering::Relaxed))
    }
}

/// The log of the last lap: who wrote how much of it.
#[derive(Debug)]
pub(super) struct Lap {
    capacity: u64,
    written: Mutex<Written>,
    seen: Box<[AtomicU32]>,
}

#[derive(Debug, Default)]
struct Written {
    /// The steps of the lap before this one, oldest first.
    steps: VecDeque<Vec<u64>>,
    step: Vec<u64>,
    step_bytes: u64,
    /// By slot: the sum of all steps.
    lap: Vec<u64>,
    /// What the disk holds, up to the whole of it.
    filled: u64,
}

impl Lap {
    /// The lap of a disk of this capacity of which so much is filled already; nobody knows any more by whom.
    pub(super) fn new(capacity: u64, filled: u64) -> Self {
        let seen = (capacity / (16 * 1024)).clamp(1 << 10, 1 << 20).next_power_of_two();
        let seen = (0..seen).map(|_| AtomicU32::new(0)).collect();
        Self { capacity, written: Mutex::new(Written { filled, ..Written::default() }), seen }
    }

    /// Whether `entry_bytes` of a slot may be written; if so, they are taken for written. `known`: it is no first time.
    pub(super) fn admit(
        &self,
        slot: Slot,
        bounds: Bounds,
        hash: u64,
        entry_bytes: usize,
        known: bool,
    ) -> Result<(), Refusal> {
        let bytes = disk_bytes(entry_bytes);
        let slot = usize::from(slot);
        let mut written = self.written.lock();
        let after = written.lap.get(slot).copied().unwrap_or(0) + bytes;
        if after > bounds.max as u64 {
            return Err(Refusal::Max);
        }
        let roomy = written.filled < self.capacity || after <= bounds.floor as u64;
        if !roomy && !known && !self.seen_before(hash) {
            return Err(Refusal::Share);
        }
        written.add(slot, bytes, self.capacity);
        Ok(())
    }

    /// What each of the first `count` slots wrote of the last lap, in bytes.
    pub(super) fn by_slot(&self, count: usize) -> Vec<u64> {
        let mut all = self.written.lock().lap.clone();
        all.resize(count, 0);
        all
    }

    /// Whether this was asked before, some time ago; remembers it if not.
    fn seen_before(&self, hash: u64) -> bool {
        let mark = (hash >> 32) as u32 | 1;
        // there is a power of two of places
        let at = usize::try_from(hash & (self.seen.len() as u64 - 1)).unwrap_or(0);
        let Some(place) = self.seen.get(at) else { return false };
        if place.load(Ordering::Relaxed) == mark {
            place.store(0, Ordering::Relaxed);
            return true;
        }
        place.store(mark, Ordering::Relaxed);
        false
    }
}

impl Written {
    fn add(&mut self, slot: usize, bytes: u64, capacity: u64) {
        for list in [&mut self.step, &mut self.lap] {
            if list.len() <= slot {
                list.resize(slot + 1, 0);
            }
            if let Some(sum) = list.get_mut(slot) {
                *sum += bytes;
            }
        }
        self.filled = (self.filled + bytes).min(capacity);
        self.step_bytes += bytes;
        if self.step_bytes * (STEPS as u64) < capacity {
            return;
        }
        self.step_bytes = 0;
        self.steps.push_back(std::mem::take(&mut self.step));
        if self.steps.len() > STEPS
            && let Some(oldest) = self.steps.pop_front()
        {
            for (sum, bytes) in self.lap.iter_mut().zip(oldest) {
                *sum -= bytes;
            }
        }
    }
}

/// What an entry takes on disk.
pub(super) fn disk_bytes(entry_bytes: usize) -> u64 {
    (entry_bytes as u64 + HEAD_BYTES).next_multiple_of(PAGE) + INDEX_BYTES
}

#[cfg(test)]
mod tests {
    #![allow(clippy::cast_possible_truncation, reason = "tests")]

    use super::*;

    const ENTRY: usize = 4096 - HEAD_BYTES as usize;
    const CAPACITY: u64 = 1000 * (PAGE + INDEX_BYTES);

    fn bounds(floor: u64, max: u64) -> Bounds {
        let bytes = |entries: u64| usize::try_from(entries * (PAGE + INDEX_BYTES)).unwrap_or(usize::MAX);
        Bounds { floor: bytes(floor), max: bytes(max) }
    }

    /// How many of a thousand new entries are written.
    fn admitted(lap: &Lap, slot: Slot, bounds: Bounds, hashes: std::ops::Range<u64>) -> usize {
        let mix = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hashes.filter(|n| lap.admit(slot, bounds, mix(*n), ENTRY, false).is_ok()).count()
    }

    #[test]
    fn in_the_first_lap_everything_is_written() {
        let lap = Lap::new(CAPACITY, 0);
        assert_eq!(admitted(&lap, 1, bounds(100, 5000), 0..1000), 1000);
        assert!(admitted(&lap, 1, bounds(100, 5000), 1000..2000) < 20);
    }

    #[test]
    fn one_tenant_alone_is_never_refused() {
        let lap = Lap::new(CAPACITY, CAPACITY);
        let all = Bounds { floor: usize::MAX, max: usize::MAX };
        assert_eq!(admitted(&lap, 0, all, 0..5000), 5000);
    }

    #[test]
    fn beyond_its_share_a_tenant_writes_only_what_comes_twice() {
        let lap = Lap::new(CAPACITY, CAPACITY);
        assert_eq!(admitted(&lap, 1, bounds(500, 5000), 0..400), 400);
        assert!((95..=105).contains(&admitted(&lap, 1, bounds(500, 5000), 400..1000)));
        let again = admitted(&lap, 1, bounds(500, 5000), 900..1000);
        assert!(again > 60, "{again} of 100 that come again soon");
        assert_eq!(admitted(&lap, 2, bounds(500, 5000), 5000..5300), 300, "the neighbour has its share all the same");
    }

    #[test]
    fn nobody_writes_more_than_its_most() {
        let lap = Lap::new(CAPACITY, 0);
        assert_eq!(admitted(&lap, 1, bounds(100, 200), 0..1000), 200);
        assert_eq!(lap.admit(1, bounds(100, 200), 7, ENTRY, true), Err(Refusal::Max), "also what comes twice");
        assert_eq!(lap.by_slot(3), [0, 200 * (PAGE + INDEX_BYTES), 0]);
    }

    #[test]
    fn what_was_written_a_lap_ago_is_forgotten() {
        let lap = Lap::new(CAPACITY, 0);
        let all = Bounds { floor: usize::MAX, max: usize::MAX };
        admitted(&lap, 1, all, 0..500);
        admitted(&lap, 2, all, 0..1100);
        let [_, one, two] = lap.by_slot(3)[..] else { return };
        assert_eq!(one, 0);
        assert!(two >= CAPACITY);
    }
}
