//! A histogram of durations with fixed, nearly logarithmic buckets: one integer operation finds the bucket, and a
//! quantile read from it is at most 3.2 % off.
//!
//! ```text
//!  0 .. 16 us        16 buckets of 1 us
//!  2^k .. 2^(k+1)    16 buckets of 2^(k-4) us,  k = 4 .. 25
//!  from 2^26 us      (67 s) counted in the last bucket
//! ```

use std::sync::atomic::AtomicU64;

use super::counters::Pen;

const PARTS_LOG2: u32 = 4;
const PARTS: usize = 1 << PARTS_LOG2;
const OCTAVE_LAST: u32 = 25;

/// How many buckets there are.
pub(super) const BUCKETS: usize = PARTS + (OCTAVE_LAST - PARTS_LOG2 + 1) as usize * PARTS;

/// The buckets that one thread writes.
#[derive(Debug)]
pub(crate) struct Histogram([AtomicU64; BUCKETS]);

impl Histogram {
    pub(crate) fn new() -> Self {
        Self([const { AtomicU64::new(0) }; BUCKETS])
    }

    #[inline]
    pub(super) fn note(&self, pen: Pen, micros: u32) {
        // `bucket` is below BUCKETS for every input; `get` keeps a mistake from being a panic
        if let Some(cell) = self.0.get(bucket(micros)) {
            pen.add(cell, 1);
        }
    }

    /// The same where more than one thread writes.
    pub(crate) fn note_shared(&self, micros: u64) {
        if let Some(cell) = self.0.get(bucket(u32::try_from(micros).unwrap_or(u32::MAX))) {
            cell.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    /// What was noted until now.
    pub(crate) fn read(&self) -> Durations {
        let mut durations = Durations::default();
        self.sum_into(&mut durations);
        durations
    }

    pub(super) fn sum_into(&self, durations: &mut Durations) {
        for (sum, cell) in durations.0.iter_mut().zip(&self.0) {
            *sum += cell.load(std::sync::atomic::Ordering::Relaxed);
        }
    }
}

/// A histogram as read at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Durations(Box<[u64]>);

impl Default for Durations {
    fn default() -> Self {
        Self(vec![0; BUCKETS].into())
    }
}

impl Durations {
    /// How many durations were noted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Adds another histogram to this one.
    pub fn absorb(&mut self, other: &Self) {
        for (sum, count) in self.0.iter_mut().zip(&other.0) {
            *sum += count;
        }
    }

    /// The duration in us below which the share `q` (0 to 1) of all lie, by the middle of its bucket; none if nothing
    /// was noted.
    #[must_use]
    pub fn quantile_us(&self, q: f64) -> Option<u64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count is a count")]
        let rank = ((count as f64 * q.clamp(0.0, 1.0)).ceil() as u64).clamp(1, count);
        let mut seen = 0;
        let index = self.0.iter().position(|here| {
            seen += here;
            seen >= rank
        })?;
        Some(u64::midpoint(lower_us(index), lower_us(index + 1) - 1))
    }

    /// For each power of two from 2^5 us (32 us) to 2^25 us (34 s): that bound in us, and how many durations lie below.
    pub fn by_octave(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let (mut index, mut seen) = (0, 0);
        (5..=OCTAVE_LAST).map(move |octave| {
            let bound = 1_u64 << octave;
            while lower_us(index) < bound {
                seen += self.0.get(index).copied().unwrap_or(0);
                index += 1;
            }
            (bound, seen)
        })
    }
}

/// The bucket that a duration falls into.
#[inline]
fn bucket(micros: u32) -> usize {
    if micros < 1 << PARTS_LOG2 {
        return micros as usize;
    }
    let octave = (31 - micros.leading_zeros()).min(OCTAVE_LAST);
    let part = (micros >> (octave - PARTS_LOG2)) as usize - PARTS;
    PARTS + (octave - PARTS_LOG2) as usize * PARTS + part.min(PARTS - 1)
}

/// The smallest duration in us that falls into bucket `index`.
fn lower_us(index: usize) -> u64 {
    match index.checked_sub(PARTS) {
        None => index as u64,
        Some(above) => ((PARTS + above % PARTS) as u64) << (above / PARTS),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn durations(of: impl Iterator<Item = u32>) -> Durations {
        let histogram = Histogram::new();
        of.for_each(|micros| histogram.note(Pen::shared(), micros));
        let mut durations = Durations::default();
        histogram.sum_into(&mut durations);
        durations
    }

    #[test]
    fn every_duration_lies_between_the_bounds_of_its_bucket() {
        for micros in (0..100_000).chain((17..26).flat_map(|k| [(1 << k) - 1, 1 << k, (1 << k) + 1])) {
            let index = bucket(micros);
            assert!(lower_us(index) <= u64::from(micros) && u64::from(micros) < lower_us(index + 1), "{micros}");
        }
        assert_eq!(bucket(u32::MAX), BUCKETS - 1);
    }

    #[test]
    fn a_quantile_is_at_most_five_percent_off() {
        let even = durations(1..=100_000);
        for q in [0.01, 0.1, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0] {
            let (found, truth) = (even.quantile_us(q).unwrap() as f64, q * 100_000.0);
            assert!((found - truth).abs() <= truth * 0.05, "{q}: {found}");
        }
        assert_eq!(Durations::default().quantile_us(0.5), None);
    }

    #[test]
    fn octaves_count_everything_below_their_bound() {
        let few = durations([0, 31, 32, 1_000, 40_000_000].into_iter());
        let octaves: Vec<_> = few.by_octave().collect();
        assert_eq!(octaves.first(), Some(&(32, 2)));
        assert_eq!(octaves.get(1), Some(&(64, 3)));
        assert_eq!(octaves.last(), Some(&(1 << 25, 4)));
        assert_eq!(few.count(), 5);
    }
}
