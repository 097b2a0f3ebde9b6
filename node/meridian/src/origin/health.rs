//! Whether an origin is worth asking, and which of several is asked. Pure: the clock's reading and chance come in.
//!
//! Passively, only what happens *before* a request is sent counts: refused, unreachable, timed out. An origin that
//! answers with 500s or breaks off responses is bad, but it is there; turning it off would turn a fault of one
//! resource into an outage of the site.

use region_config::HealthCheck;
use serde::Serialize;

/// Answers to the active check that are remembered.
pub(super) const WINDOW: u32 = 5;

/// Connection failures in a row that make an origin down.
const FAILURES_IN_A_ROW: u32 = 3;

/// Time between two trials of an origin that is passively down, in ms: one request each time.
const TRIAL_MS: u64 = 2_000;

/// Whether an origin is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OriginState {
    /// It is asked.
    Up,
    /// It is asked only when no origin of the site is up, or for a trial.
    Down,
}

impl OriginState {
    /// The state in one word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// The verdict on one origin: a machine that is told what happened.
#[derive(Debug)]
pub(super) struct Verdict {
    check: Option<Thresholds>,
    /// The last answers to the active check, newest in bit 0, good is 1.
    answers: u32,
    good_in_a_row: u32,
    actively_down: bool,
    connect_failures: u32,
    /// When the next trial is due, in ms, while it is passively down.
    trial_due_ms: Option<u64>,
}

/// The two numbers of a [`HealthCheck`] that the verdict depends on.
#[derive(Debug, Clone, Copy)]
struct Thresholds {
    down_after: u32,
    up_after: u32,
}

impl Verdict {
    /// Up until something says otherwise.
    pub(super) fn new(check: Option<&HealthCheck>) -> Self {
        let check = check
            .map(|check| Thresholds { down_after: check.down_after.clamp(1, WINDOW), up_after: check.up_after.max(1) });
        let answers = (1 << WINDOW) - 1;
        Self { check, answers, good_in_a_row: 0, actively_down: false, connect_failures: 0, trial_due_ms: None }
    }

    /// What the operator sees.
    pub(super) fn state(&self) -> OriginState {
        if self.actively_down || self.trial_due_ms.is_some() { OriginState::Down } else { OriginState::Up }
    }

    /// Whether a request may go there now: it is up, or a trial is due.
    pub(super) fn offered(&self, now_ms: u64) -> bool {
        !self.actively_down && self.trial_due_ms.is_none_or(|due| due <= now_ms)
    }

    /// A request goes there: if that is the trial, the next one is later.
    pub(super) fn handle_chosen(&mut self, now_ms: u64) {
        if let Some(due) = &mut self.trial_due_ms {
            *due = now_ms.saturating_add(TRIAL_MS);
        }
    }

    /// A connection was opened.
    pub(super) fn handle_connected(&mut self) {
        self.connect_failures = 0;
        self.trial_due_ms = None;
    }

    /// A connection could not be opened.
    pub(super) fn handle_connect_failure(&mut self, now_ms: u64) {
        self.connect_failures = self.connect_failures.saturating_add(1);
        if self.connect_failures >= FAILURES_IN_A_ROW && self.trial_due_ms.is_none() {
            self.trial_due_ms = Some(now_ms.saturating_add(TRIAL_MS));
        }
    }

    /// The active check was answered well, or not.
    pub(super) fn handle_answer(&mut self, answer: Answered) {
        let Some(thresholds) = self.check else { return };
        let good = answer == Answered::Well;
        self.answers = (self.answers << 1 | u32::from(good)) & ((1 << WINDOW) - 1);
        self.good_in_a_row = if good { self.good_in_a_row.saturating_add(1) } else { 0 };
        if self.actively_down && self.good_in_a_row >= thresholds.up_after {
            self.actively_down = false;
            self.answers = (1 << WINDOW) - 1;
        } else if WINDOW - self.answers.count_ones() >= thresholds.down_after {
            self.actively_down = true;
        }
    }
}

/// How an active check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answered {
    /// 2xx or 3xx in time.
    Well,
    /// Anything else.
    Badly,
}

/// One origin as the choice sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    /// Its place in the site's list.
    pub(super) index: usize,
    /// Requests it is busy with.
    pub(super) in_flight: usize,
    /// Whether its verdict offers it.
    pub(super) offered: bool,
}

/// Chooses the less busy of two taken by chance among those offered (power of two choices). When none is offered,
/// all count: a site whose origins all look down is asked rather than refused.
pub(super) fn choose(candidates: &[Candidate], chance: u64) -> Option<usize> {
    let any = candidates.iter().any(|candidate| candidate.offered);
    let pool = || candidates.iter().filter(move |candidate| candidate.offered || !any);
    let count = u64::try_from(pool().count()).unwrap_or(u64::MAX);
    if count == 0 {
        return None;
    }
    let nth = |n: u64| pool().nth(usize::try_from(n).unwrap_or(0));
    let first = (chance >> 32) % count;
    let second = (first + 1 + (chance & 0xffff_ffff) % (count - 1).max(1)) % count;
    let (first, second) = (nth(first)?, nth(second)?);
    Some(if second.in_flight < first.in_flight { second.index } else { first.index })
}

/// Spreads a counter over all 64 bits (the finaliser of SplitMix64): chance enough to choose by, without a source of
/// randomness on the request path.
pub(super) fn spread(counter: u64) -> u64 {
    let mut z = counter.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked() -> Verdict {
        let check = HealthCheck { path: "/".into(), interval_ms: 1_000, timeout_ms: 500, down_after: 3, up_after: 2 };
        Verdict::new(Some(&check))
    }

    #[test]
    fn three_bad_answers_of_five_make_it_down_and_two_good_ones_up() {
        use Answered::{Badly, Well};
        let mut verdict = checked();
        for answer in [Badly, Well, Badly, Well] {
            verdict.handle_answer(answer);
            assert_eq!(verdict.state(), OriginState::Up);
        }
        verdict.handle_answer(Badly);
        assert_eq!(verdict.state(), OriginState::Down);
        verdict.handle_answer(Well);
        assert_eq!(verdict.state(), OriginState::Down);
        verdict.handle_answer(Well);
        assert_eq!(verdict.state(), OriginState::Up);
        verdict.handle_answer(Badly);
        assert_eq!(verdict.state(), OriginState::Up, "coming up forgets the bad ones before");
    }

    #[test]
    fn connection_failures_in_a_row_make_it_down_and_one_trial_at_a_time_finds_it_again() {
        let mut verdict = Verdict::new(None);
        verdict.handle_connect_failure(0);
        verdict.handle_connect_failure(0);
        verdict.handle_connected();
        verdict.handle_connect_failure(0);
        verdict.handle_connect_failure(0);
        assert_eq!(verdict.state(), OriginState::Up);
        verdict.handle_connect_failure(0);
        assert_eq!(verdict.state(), OriginState::Down);
        assert!(!verdict.offered(TRIAL_MS - 1));
        assert!(verdict.offered(TRIAL_MS));
        verdict.handle_chosen(TRIAL_MS);
        assert!(!verdict.offered(TRIAL_MS + 1), "the trial is under way");
        verdict.handle_connected();
        assert_eq!(verdict.state(), OriginState::Up);
    }

    #[test]
    fn the_less_busy_of_two_is_chosen_and_the_down_only_if_all_are() {
        let candidate = |index, in_flight, offered| Candidate { index, in_flight, offered };
        let two = [candidate(0, 9, true), candidate(1, 1, true)];
        let with_down = [candidate(0, 9, true), candidate(1, 1, false)];
        let all_down = [candidate(0, 9, false), candidate(1, 1, false)];
        for counter in 0..100 {
            assert_eq!(choose(&two, spread(counter)), Some(1));
            assert_eq!(choose(&with_down, spread(counter)), Some(0));
            assert_eq!(choose(&all_down, spread(counter)), Some(1));
            assert_eq!(choose(&[], spread(counter)), None);
        }
    }

    #[test]
    fn equally_busy_origins_share_the_load_within_a_tenth() {
        let four: Vec<_> = (0..4).map(|index| Candidate { index, in_flight: 0, offered: true }).collect();
        let mut shares = [0u32; 4];
        for counter in 0..40_000 {
            if let Some(index) = choose(&four, spread(counter)) {
                shares[index] += 1;
            }
        }
        assert!(shares.iter().all(|share| (9_000..=11_000).contains(share)), "{shares:?}");
    }
}
