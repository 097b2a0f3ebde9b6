//! One region's verdict over time: quick to fall, slow to rise, and damped when it flaps.

use super::{RegionState, Settings};

/// The verdict of one region and what it takes to change it.
#[derive(Debug, Clone, PartialEq)]
pub struct Course {
    state: RegionState,
    /// A better or settling state in the making, since when (monotonic, in ms).
    pending_since_ms: Option<u64>,
    penalty: f64,
    penalty_at_ms: u64,
    suppressed: bool,
}

impl Course {
    /// A course that begins in `state`.
    #[must_use]
    pub fn new(state: RegionState) -> Self {
        Self { state, pending_since_ms: None, penalty: 0.0, penalty_at_ms: 0, suppressed: false }
    }

    /// The verdict.
    #[must_use]
    pub fn state(&self) -> RegionState {
        self.state
    }

    /// Whether a change is in the making.
    #[must_use]
    pub fn pending(&self) -> bool {
        self.pending_since_ms.is_some()
    }

    /// Whether the region went down so often lately that it is kept down.
    #[must_use]
    pub fn suppressed(&self) -> bool {
        self.suppressed
    }

    /// Takes what the votes say now. True if the verdict changed.
    ///
    /// Down and draining count at once; degraded must settle; anything better must hold without a break, and waits for
    /// the penalty of a flapping region to decay. No opinion changes nothing.
    pub fn handle_judgement(&mut self, judged: RegionState, now_ms: u64, settings: &Settings) -> bool {
        self.decay(now_ms, settings);
        if judged == self.state || judged == RegionState::Unknown {
            self.pending_since_ms = None;
            return false;
        }
        let since = *self.pending_since_ms.get_or_insert(now_ms);
        let waited_ms = now_ms.saturating_sub(since);
        let due = match (self.state, judged) {
            (RegionState::Unknown, _) | (_, RegionState::Down) => true,
            (RegionState::Up | RegionState::Degraded, RegionState::Draining) => true,
            (RegionState::Up, _) => waited_ms >= settings.settle_ms,
            _ => waited_ms >= settings.hold_ms && !self.suppressed,
        };
        if due {
            self.change(judged, now_ms, settings);
        }
        due
    }

    /// Keeps the verdict, whatever the votes say: what is in the making must begin anew.
    pub fn freeze(&mut self) {
        self.pending_since_ms = None;
    }

    fn change(&mut self, state: RegionState, now_ms: u64, settings: &Settings) {
        let flap = state == RegionState::Down && self.state != RegionState::Unknown;
        if flap {
            self.penalty += settings.flap_penalty;
            self.penalty_at_ms = now_ms;
            self.suppressed |= self.penalty > settings.suppress_above;
        }
        self.state = state;
        self.pending_since_ms = None;
    }

    #[allow(clippy::cast_precision_loss, reason = "milliseconds of a decay: the lost bits are ages")]
    fn decay(&mut self, now_ms: u64, settings: &Settings) {
        let elapsed = now_ms.saturating_sub(self.penalty_at_ms) as f64 / settings.half_life_ms.max(1) as f64;
        self.penalty *= (-elapsed).exp2();
        self.penalty_at_ms = now_ms;
        self.suppressed &= self.penalty >= settings.reuse_below;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_falls_at_once_and_rises_after_a_hold_without_a_break() {
        let settings = Settings::default();
        let mut course = Course::new(RegionState::Up);
        assert!(course.handle_judgement(RegionState::Down, 0, &settings));
        assert!(!course.handle_judgement(RegionState::Up, 1000, &settings));
        assert!(course.pending());
        assert!(!course.handle_judgement(RegionState::Down, 3000, &settings));
        assert!(!course.handle_judgement(RegionState::Degraded, 3500, &settings));
        assert!(!course.handle_judgement(RegionState::Up, 6499, &settings));
        assert!(course.handle_judgement(RegionState::Up, 6500, &settings));
        assert_eq!(course.state(), RegionState::Up);
    }

    #[test]
    fn a_short_dip_is_not_called_degraded() {
        let settings = Settings::default();
        let mut course = Course::new(RegionState::Up);
        assert!(!course.handle_judgement(RegionState::Degraded, 0, &settings));
        assert!(!course.handle_judgement(RegionState::Up, 1999, &settings));
        assert!(!course.handle_judgement(RegionState::Degraded, 2000, &settings));
        assert!(course.handle_judgement(RegionState::Degraded, 4000, &settings));
    }

    #[test]
    fn no_opinion_changes_nothing() {
        let mut course = Course::new(RegionState::Degraded);
        assert!(!course.handle_judgement(RegionState::Unknown, 1_000_000, &Settings::default()));
        assert_eq!(course.state(), RegionState::Degraded);
    }

    #[test]
    fn a_region_that_flaps_is_kept_down_until_its_penalty_has_decayed() {
        let settings = Settings::default();
        let mut course = Course::new(RegionState::Up);
        let mut now = 0;
        for flap in 1..=3 {
            assert!(course.handle_judgement(RegionState::Down, now, &settings));
            assert_eq!(course.suppressed(), flap == 3);
            course.handle_judgement(RegionState::Up, now, &settings);
            now += settings.hold_ms;
            assert_eq!(course.handle_judgement(RegionState::Up, now, &settings), flap != 3);
        }
        let before = now;
        while !course.handle_judgement(RegionState::Up, now, &settings) {
            now += 1000;
        }
        // 2,870 halves twice in two minutes: below 750 just before
        assert!((100_000..125_000).contains(&(now - before)), "{}", now - before);
    }
}
