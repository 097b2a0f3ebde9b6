//! One region's verdict over time: quick to fall, slow to rise, and damped when it flaps.

use super::{Ground, RegionState, Settings};

/// The verdict of one region and what it takes to change it.
#[derive(Debug, Clone, PartialEq)]
pub struct Course {
    state: RegionState,
    /// A better or settling state in the making, since when (monotonic, in ms).
    pending_since_ms: Option<u64>,
    penalty: f64,
    penalty_at_ms: u64,
    suppressed: bool,
    /// Whether the last change was for the worse, or the first verdict was not the best: a fall in several steps is one.
    falling: bool,
}

impl Course {
    /// A course that begins in `state`.
    #[must_use]
    pub fn new(state: RegionState) -> Self {
        let falling = state != RegionState::Up;
        Self { state, pending_since_ms: None, penalty: 0.0, penalty_at_ms: 0, suppressed: false, falling }
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

    /// Whether the region fell so often lately that it does not rise.
    #[must_use]
    pub fn suppressed(&self) -> bool {
        self.suppressed
    }

    /// Takes what should be said now, and what that rests on. True if the verdict changed.
    ///
    /// Down and draining count at once; degraded must settle; anything better must hold without a break, and waits for
    /// the penalty of a flapping region to decay, to which what is meant adds nothing. No opinion changes nothing.
    pub fn handle_judgement(&mut self, judged: (RegionState, Ground), now_ms: u64, settings: &Settings) -> bool {
        let (judged, ground) = judged;
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
            self.change(judged, ground, now_ms, settings);
        }
        due
    }

    /// Keeps the verdict, whatever the votes say: what is in the making must begin anew.
    pub fn freeze(&mut self) {
        self.pending_since_ms = None;
    }

    fn change(&mut self, state: RegionState, ground: Ground, now_ms: u64, settings: &Settings) {
        // states are in the order of their worth
        let falls = state > self.state;
        if falls && !self.falling && ground == Ground::Observed {
            self.penalty += settings.flap_penalty;
            self.penalty_at_ms = now_ms;
            self.suppressed |= self.penalty > settings.suppress_above;
        }
        let begins_low = self.state == RegionState::Unknown && state != RegionState::Up;
        (self.state, self.falling) = (state, falls || begins_low);
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

    /// What votes say, or a region's own word.
    fn told(state: RegionState) -> (RegionState, Ground) {
        (state, if state == RegionState::Draining { Ground::Word } else { Ground::Observed })
    }

    #[test]
    fn a_region_falls_at_once_and_rises_after_a_hold_without_a_break() {
        let settings = Settings::default();
        let mut course = Course::new(RegionState::Up);
        assert!(course.handle_judgement(told(RegionState::Down), 0, &settings));
        assert!(!course.handle_judgement(told(RegionState::Up), 1000, &settings));
        assert!(course.pending());
        assert!(!course.handle_judgement(told(RegionState::Down), 3000, &settings));
        assert!(!course.handle_judgement(told(RegionState::Degraded), 3500, &settings));
        assert!(!course.handle_judgement(told(RegionState::Up), 6499, &settings));
        assert!(course.handle_judgement(told(RegionState::Up), 6500, &settings));
        assert_eq!(course.state(), RegionState::Up);
    }

    #[test]
    fn a_short_dip_is_not_called_degraded() {
        let settings = Settings::default();
        let mut course = Course::new(RegionState::Up);
        assert!(!course.handle_judgement(told(RegionState::Degraded), 0, &settings));
        assert!(!course.handle_judgement(told(RegionState::Up), 1999, &settings));
        assert!(!course.handle_judgement(told(RegionState::Degraded), 2000, &settings));
        assert!(course.handle_judgement(told(RegionState::Degraded), 4000, &settings));
    }

    #[test]
    fn no_opinion_changes_nothing() {
        let mut course = Course::new(RegionState::Degraded);
        assert!(!course.handle_judgement(told(RegionState::Unknown), 1_000_000, &Settings::default()));
        assert_eq!(course.state(), RegionState::Degraded);
    }

    #[test]
    fn a_region_that_falls_twice_within_two_minutes_is_kept_down_until_its_penalty_has_decayed() {
        let settings = Settings::default();
        let mut course = Course::new(RegionState::Up);
        let mut now = 0;
        for flap in 1..=2 {
            assert!(course.handle_judgement(told(RegionState::Down), now, &settings));
            assert_eq!(course.suppressed(), flap == 2);
            course.handle_judgement(told(RegionState::Up), now, &settings);
            now += settings.hold_ms;
            assert_eq!(course.handle_judgement(told(RegionState::Up), now, &settings), flap != 2);
        }
        let before = now;
        while !course.handle_judgement(told(RegionState::Up), now, &settings) {
            now += 1000;
        }
        // 1,970 halves nearly twice in two minutes: below 500 just before
        assert!((110_000..120_000).contains(&(now - before)), "{}", now - before);
    }

    /// One of two nodes that comes and goes made its region better and worse twelve times a minute.
    #[test]
    fn no_flapping_makes_more_than_two_changes_a_minute_over_any_two_of_them() {
        let settings = Settings::default();
        for worse in [RegionState::Down, RegionState::Degraded, RegionState::Draining] {
            for (up_ms, down_ms) in (3..40).flat_map(|up| (3..40).map(move |down| (up * 500, down * 500))) {
                let mut course = Course::new(RegionState::Up);
                let judged = |now: u64| if now % (up_ms + down_ms) < up_ms { RegionState::Up } else { worse };
                let changes: Vec<u64> = (0..1_200_000)
                    .step_by(500)
                    .filter(|now| course.handle_judgement((judged(*now), Ground::Observed), *now, &settings))
                    .collect();
                let within = |ms: u64, most: usize| {
                    let count = |at: &u64| changes.iter().filter(|other| (*at..at + ms).contains(*other)).count();
                    changes.iter().all(|at| count(at) <= most)
                };
                let what = (worse, up_ms, down_ms, &changes);
                assert!(within(60_000, 3) && within(120_000, 4), "{what:?}");
            }
        }
    }

    #[test]
    fn a_region_that_was_never_up_has_not_fallen() {
        let settings = Settings::default();
        let mut course = Course::new(RegionState::Unknown);
        assert!(course.handle_judgement(told(RegionState::Degraded), 0, &settings));
        assert!(course.handle_judgement(told(RegionState::Down), 100, &settings));
        course.handle_judgement(told(RegionState::Up), 200, &settings);
        assert!(course.handle_judgement(told(RegionState::Up), 200 + settings.hold_ms, &settings));
        assert!(course.handle_judgement(told(RegionState::Down), 5_000, &settings));
        assert!(!course.suppressed(), "it fell once");
    }

    #[test]
    fn a_fall_in_steps_is_one_and_a_region_that_drains_by_its_own_word_is_not_punished() {
        let settings = Settings::default();
        let mut course = Course::new(RegionState::Up);
        for now in [0, 2_000] {
            course.handle_judgement(told(RegionState::Degraded), now, &settings);
        }
        assert!(course.handle_judgement(told(RegionState::Down), 2_100, &settings) && !course.suppressed());
        let mut course = Course::new(RegionState::Up);
        for restart in 0..5u64 {
            let at = restart * 10_000;
            assert!(course.handle_judgement(told(RegionState::Draining), at, &settings));
            assert!(course.handle_judgement(told(RegionState::Down), at + 1_000, &settings));
            course.handle_judgement(told(RegionState::Up), at + 2_000, &settings);
            assert!(course.handle_judgement(told(RegionState::Up), at + 5_000, &settings) && !course.suppressed());
        }
    }
}
