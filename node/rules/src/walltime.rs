//! Wall clocks that are wrong: steps of the own one, and how far it is from those of others. Nothing about purges goes by
//! wall clocks; ages and lifetimes of what is stored do.

/// A difference in ms from which on two readings are a step and no drift.
const STEP_MS: i64 = 1_000;

/// Finds steps of the wall clock, by a clock that nobody sets.
#[derive(Debug, Default)]
pub struct Steps {
    last: Option<(u64, u64)>,
}

impl Steps {
    /// The two clocks were read at about the same time, in ms. Returns by how much the wall clock was set since the reading
    /// before, if it was: above zero forward, below zero back.
    pub fn handle_reading(&mut self, unix_ms: u64, monotonic_ms: u64) -> Option<i64> {
        let (last_unix_ms, last_monotonic_ms) = self.last.replace((unix_ms, monotonic_ms))?;
        let step_ms = difference(unix_ms, last_unix_ms) - difference(monotonic_ms, last_monotonic_ms);
        (step_ms.abs() > STEP_MS).then_some(step_ms)
    }
}

/// Estimates how far the own wall clock is from those of other nodes, by what they say when they are asked.
#[derive(Debug)]
pub struct Skew {
    /// Per other node: the last question and when it was asked by the own wall clock, and what came of one.
    others: Vec<Other>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Other {
    asked: Option<(u64, u64)>,
    ahead_ms: Option<i64>,
}

impl Skew {
    /// Nobody has said anything yet, of so many.
    #[must_use]
    pub fn new(others: usize) -> Self {
        Self { others: vec![Other::default(); others] }
    }

    /// Another node is asked.
    pub fn handle_asked(&mut self, other: usize, nonce: u64, unix_ms: u64) {
        if let Some(other) = self.others.get_mut(other) {
            other.asked = Some((nonce, unix_ms));
        }
    }

    /// It answers what its clock shows. When it looked is not known: the middle between question and answer is at most half
    /// of the way there and back off.
    pub fn handle_answer(&mut self, other: usize, nonce: u64, theirs_unix_ms: u64, unix_ms: u64) {
        let Some(other) = self.others.get_mut(other) else { return };
        let Some((_, asked_ms)) = other.asked.take_if(|(asked, _)| *asked == nonce) else { return };
        other.ahead_ms = Some(difference(u64::midpoint(asked_ms, unix_ms), theirs_unix_ms));
    }

    /// The own clock was set: what was measured by it counts no more.
    pub fn handle_stepped(&mut self) {
        self.others.fill(Other::default());
    }

    /// By how many ms the own clock is ahead of the median of all that are known, its own among them; none if no other is.
    #[must_use]
    pub fn ahead_ms(&self) -> Option<i64> {
        let mut ahead: Vec<i64> = self.others.iter().filter_map(|other| other.ahead_ms).collect();
        if ahead.is_empty() {
            return None;
        }
        // of an even number the two in the middle are the own one or beside it
        ahead.push(0);
        ahead.sort_unstable();
        let (low, high) = (ahead.get((ahead.len() - 1) / 2)?, ahead.get(ahead.len() / 2)?);
        Some(low.midpoint(*high))
    }
}

/// What has to be added to `b` to get `a`; of clocks that are further apart than any are, the largest there is.
fn difference(a: u64, b: u64) -> i64 {
    let apart = i64::try_from(a.abs_diff(b)).unwrap_or(i64::MAX / 4).min(i64::MAX / 4);
    if a >= b { apart } else { -apart }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_told_once_and_drift_never() {
        let mut steps = Steps::default();
        let readings = [
            (1_000_000, 5_000, None),
            (1_001_000, 6_000, None),
            (1_002_900, 7_000, None),
            (1_603_900, 8_000, Some(600_000)),
            (1_604_900, 9_000, None),
            (1_004_900, 10_000, Some(-601_000)),
            // the machine slept: both clocks went on
            (1_094_900, 100_000, None),
            (0, 101_000, Some(-1_095_900)),
            (u64::MAX, 101_000, Some(i64::MAX / 4)),
        ];
        for (unix_ms, monotonic_ms, step) in readings {
            assert_eq!(steps.handle_reading(unix_ms, monotonic_ms), step, "{unix_ms} {monotonic_ms}");
        }
        assert!(steps.handle_reading(0, u64::MAX).is_some(), "absurd, and no overflow");
    }

    fn ahead(theirs: &[u64]) -> Option<i64> {
        let mut skew = Skew::new(theirs.len());
        for (other, unix_ms) in theirs.iter().enumerate() {
            skew.handle_asked(other, 7, 10_000_000);
            skew.handle_answer(other, 7, *unix_ms, 10_000_100);
        }
        skew.ahead_ms()
    }

    #[test]
    fn a_clock_is_held_against_the_median() {
        assert_eq!(ahead(&[]), None);
        assert_eq!(ahead(&[10_000_050, 10_000_050]), Some(0));
        assert_eq!(ahead(&[9_400_050, 9_400_050]), Some(600_000), "it is the own one that is wrong");
        assert_eq!(ahead(&[10_600_050, 10_600_050]), Some(-600_000));
        assert_eq!(ahead(&[10_000_050, 4]), Some(0), "it is another one that is wrong");
        assert_eq!(ahead(&[10_000_060, 10_000_040]), Some(0));
        assert_eq!(ahead(&[9_999_050]), Some(500), "of two nobody knows which");
    }

    #[test]
    fn only_the_answer_to_the_last_question_counts() {
        let mut skew = Skew::new(1);
        skew.handle_answer(0, 0, 1, 2);
        skew.handle_asked(0, 1, 100);
        skew.handle_asked(0, 2, 200);
        skew.handle_answer(0, 1, 0, 300);
        assert_eq!(skew.ahead_ms(), None);
        skew.handle_answer(0, 2, 250, 300);
        assert_eq!(skew.ahead_ms(), Some(0));
        skew.handle_answer(0, 2, 0, 900);
        skew.handle_answer(9, 2, 0, 900);
        assert_eq!(skew.ahead_ms(), Some(0), "each answer once");
        skew.handle_stepped();
        assert_eq!(skew.ahead_ms(), None);
    }
}
