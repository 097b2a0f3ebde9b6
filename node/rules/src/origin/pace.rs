//! How many requests a second an origin is sent: after a restart or a purge of everything, all that was answered from the
//! cache is asked of the origin at once.
//!
//! The generic cell rate algorithm (ITU-T I.371, in its virtual scheduling form): one number says when the next request
//! is due. A request that is not due yet waits for its turn, and so takes the place of the next; one that would wait for
//! too long is refused. So the queue is bounded by the longest wait, and costs nothing.

/// How early a request may come, in us: so that requests need not be evenly spread.
const EARLY_US: u64 = 100_000;

/// Longest wait for a turn, in us.
const WAIT_MAX_US: u64 = 500_000;

/// The turns at one origin.
#[derive(Debug, Clone)]
pub struct Pace {
    /// Time from one request to the next, in us.
    every_us: u64,
    /// When the next request is due.
    due_us: u64,
}

/// When a request may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// At once.
    Now,
    /// After so many us; the place in line is taken.
    After(u64),
    /// Not in time; nothing is taken.
    Never,
}

impl Pace {
    /// So many requests a second, at least one.
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        Self { every_us: 1_000_000 / u64::from(per_second.max(1)), due_us: 0 }
    }

    /// A request wants to go. `now_us` is monotonic.
    #[must_use]
    pub fn poll(&mut self, now_us: u64) -> Turn {
        let due_us = self.due_us.max(now_us);
        let wait_us = (due_us - now_us).saturating_sub(EARLY_US);
        if wait_us > WAIT_MAX_US {
            return Turn::Never;
        }
        self.due_us = due_us + self.every_us;
        if wait_us == 0 { Turn::Now } else { Turn::After(wait_us) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_crowd_goes_at_the_pace_waits_a_little_or_is_refused() {
        let mut pace = Pace::new(100);
        let turns: Vec<_> = (0..1_000).map(|_| pace.poll(5_000_000)).collect();
        let count = |wanted: fn(&Turn) -> bool| turns.iter().filter(|turn| wanted(turn)).count();
        assert_eq!(count(|turn| *turn == Turn::Now), 11, "what may come early");
        assert_eq!(count(|turn| matches!(turn, Turn::After(_))), 50, "half a second's");
        assert_eq!(count(|turn| *turn == Turn::Never), 939);
        assert_eq!(pace.poll(5_010_000), Turn::After(500_000), "the next place in line");
        assert_eq!(pace.poll(9_000_000), Turn::Now);
    }

    proptest! {
        #[test]
        fn no_second_has_more_than_the_pace_and_what_may_come_early(
            per_second in 1u32..5_000,
            pauses in prop::collection::vec(0u64..20_000, 1..2_000),
        ) {
            let mut pace = Pace::new(per_second);
            let (mut now, mut sent) = (1_000_000, Vec::new());
            for pause in pauses {
                now += pause;
                match pace.poll(now) {
                    Turn::Now => sent.push(now),
                    Turn::After(wait) => {
                        prop_assert!(wait <= WAIT_MAX_US);
                        sent.push(now + wait);
                    }
                    Turn::Never => {}
                }
            }
            sent.sort_unstable();
            let most = u64::from(per_second) + u64::from(per_second) / 10 + 2;
            for (index, from) in sent.iter().enumerate() {
                let within = sent[index..].iter().take_while(|at| **at < from + 1_000_000).count();
                prop_assert!(within as u64 <= most, "{within} in a second at {per_second}");
            }
        }
    }
}
