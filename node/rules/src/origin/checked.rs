//! Whether an origin is healthy by its answers to the active check.

use region_config::HealthCheck;

/// Answers to the active check that are remembered.
const WINDOW: u32 = 5;

/// The verdict on one origin: a machine that is told each answer. Changes are slow on purpose: a flapping origin stays
/// what it was.
#[derive(Debug, Clone)]
pub struct Checked {
    down_after: u32,
    up_after: u32,
    /// The last answers, newest in bit 0, good is 1.
    answers: u32,
    good_in_a_row: u32,
    down: bool,
}

/// How an active check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// 2xx or 3xx in time.
    Well,
    /// Anything else.
    Badly,
}

impl Checked {
    /// Healthy until something says otherwise.
    #[must_use]
    pub fn new(check: &HealthCheck) -> Self {
        let down_after = check.down_after.clamp(1, WINDOW);
        let answers = (1 << WINDOW) - 1;
        Self { down_after, up_after: check.up_after.max(1), answers, good_in_a_row: 0, down: false }
    }

    /// The check was answered. True if that changed the verdict.
    pub fn handle_answer(&mut self, answer: Answered) -> bool {
        let (good, before) = (answer == Answered::Well, self.down);
        self.answers = (self.answers << 1 | u32::from(good)) & ((1 << WINDOW) - 1);
        self.good_in_a_row = if good { self.good_in_a_row.saturating_add(1) } else { 0 };
        if self.down && self.good_in_a_row >= self.up_after {
            self.down = false;
            self.answers = (1 << WINDOW) - 1;
        } else if WINDOW - self.answers.count_ones() >= self.down_after {
            self.down = true;
        }
        before != self.down
    }

    /// Whether it is healthy.
    #[must_use]
    pub fn healthy(&self) -> bool {
        !self.down
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_bad_answers_of_five_make_it_down_and_so_many_good_ones_up() {
        use Answered::{Badly, Well};
        let check = HealthCheck { path: "/".into(), interval_ms: 1_000, timeout_ms: 500, down_after: 3, up_after: 2 };
        let mut checked = Checked::new(&check);
        for answer in [Badly, Well, Badly, Well] {
            assert!(!checked.handle_answer(answer) && checked.healthy());
        }
        assert!(checked.handle_answer(Badly) && !checked.healthy());
        assert!(!checked.handle_answer(Well) && !checked.healthy());
        assert!(checked.handle_answer(Well) && checked.healthy());
        assert!(!checked.handle_answer(Badly) && checked.healthy(), "coming up forgets the bad ones before");
    }
}
