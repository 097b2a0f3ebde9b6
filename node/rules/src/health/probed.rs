//! One node, as our own probes see it.

use super::{NodeState, Settings};

/// What the probes of one node have shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    state: NodeState,
    misses: u32,
    answers: u32,
    rtt_us: Option<u32>,
}

impl Default for Probed {
    fn default() -> Self {
        Self { state: NodeState::Unknown, misses: 0, answers: 0, rtt_us: None }
    }
}

impl Probed {
    /// This node itself: it runs, so it is up.
    #[must_use]
    pub fn ourselves() -> Self {
        Self { state: NodeState::Up, ..Self::default() }
    }

    /// A probe was answered after `rtt_us` microseconds. True if the state changed by it.
    pub fn handle_answer(&mut self, rtt_us: u32, settings: &Settings) -> bool {
        self.misses = 0;
        self.answers = self.answers.saturating_add(1);
        self.rtt_us = Some(rtt_us);
        let up = match self.state {
            NodeState::Up => false,
            NodeState::Unknown => true,
            NodeState::Down => self.answers >= settings.answers_up,
        };
        if up {
            self.state = NodeState::Up;
        }
        up
    }

    /// A probe was not answered in time, or the connection ended. True if the state changed by it.
    pub fn handle_miss(&mut self, settings: &Settings) -> bool {
        self.answers = 0;
        self.misses = self.misses.saturating_add(1);
        let down = self.state != NodeState::Down && self.misses >= settings.misses_down;
        if down {
            self.state = NodeState::Down;
            self.rtt_us = None;
        }
        down
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> NodeState {
        self.state
    }

    /// Round trip of the last answered probe, in microseconds.
    #[must_use]
    pub fn rtt_us(&self) -> Option<u32> {
        self.rtt_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_misses_in_a_row_make_down_and_two_answers_in_a_row_make_up() {
        let settings = Settings::default();
        let mut probed = Probed::default();
        assert!(probed.handle_answer(100, &settings));
        assert!(!probed.handle_miss(&settings) && !probed.handle_miss(&settings));
        assert!(!probed.handle_answer(100, &settings));
        assert!(!probed.handle_miss(&settings) && !probed.handle_miss(&settings));
        assert_eq!(probed.state(), NodeState::Up);
        assert!(probed.handle_miss(&settings));
        assert_eq!((probed.state(), probed.rtt_us()), (NodeState::Down, None));
        assert!(!probed.handle_answer(100, &settings));
        assert!(!probed.handle_miss(&settings));
        assert!(!probed.handle_answer(100, &settings));
        assert!(probed.handle_answer(100, &settings));
        assert_eq!(probed.state(), NodeState::Up);
    }
}
