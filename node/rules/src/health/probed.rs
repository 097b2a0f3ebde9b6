//! One node, as our own probes see it.

use super::{NodeState, Settings};

/// What the probes of one node have shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    state: NodeState,
    misses: u32,
    answers: u32,
    excused: u32,
    rtt_us: Option<u32>,
}

impl Default for Probed {
    fn default() -> Self {
        Self { state: NodeState::Unknown, misses: 0, answers: 0, excused: 0, rtt_us: None }
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
        (self.misses, self.excused) = (0, 0);
        self.answers = self.answers.saturating_add(1);
        self.rtt_us = Some(rtt_us);
        let up = match self.state {
            NodeState::Up | NodeState::Starting | NodeState::Draining => false,
            NodeState::Unknown => true,
            NodeState::Down => self.answers >= settings.answers_up,
        };
        if up {
            self.state = NodeState::Up;
        }
        up
    }

    /// A probe was not answered in time, or the connection ended. True if the state changed by it.
    ///
    /// `late_ms` is how much later than it should we noticed. A miss noticed late is more likely our own slowness than
    /// the node's (Lifeguard's local health): some in a row do not count.
    pub fn handle_miss(&mut self, late_ms: u64, settings: &Settings) -> bool {
        if late_ms >= settings.late_ms && self.excused < settings.excused_max {
            self.excused += 1;
            return false;
        }
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
        assert!(!probed.handle_miss(0, &settings) && !probed.handle_miss(0, &settings));
        assert!(!probed.handle_answer(100, &settings));
        assert!(!probed.handle_miss(0, &settings) && !probed.handle_miss(0, &settings));
        assert_eq!(probed.state(), NodeState::Up);
        assert!(probed.handle_miss(0, &settings));
        assert_eq!((probed.state(), probed.rtt_us()), (NodeState::Down, None));
        assert!(!probed.handle_answer(100, &settings));
        assert!(!probed.handle_miss(0, &settings));
        assert!(!probed.handle_answer(100, &settings));
        assert!(probed.handle_answer(100, &settings));
        assert_eq!(probed.state(), NodeState::Up);
    }

    #[test]
    fn a_node_that_is_slow_itself_blames_no_peer_but_not_for_ever() {
        let settings = Settings::default();
        let mut probed = Probed::default();
        probed.handle_answer(100, &settings);
        for _ in 0..3 {
            for _ in 0..settings.excused_max {
                assert!(!probed.handle_miss(settings.late_ms, &settings));
            }
            probed.handle_answer(100, &settings);
        }
        let misses = (1..).find(|_| probed.handle_miss(settings.late_ms, &settings));
        assert_eq!(misses, Some(settings.excused_max + settings.misses_down));
    }
}
