//! Whether an origin is left alone for a moment, by what became of the requests to it.
//!
//! Closed, all requests pass. It opens when connections fail one after the other, or when too large a share of the last
//! ten seconds' requests failed. Open, none pass; half-open, one in an interval does, which is longer each time that it
//! fails. The first that ends well closes it.
//!
//! An answer with a server error is an answer: it opens the breaker only if nearly all are like it, for otherwise the
//! fault of one resource would become an outage of the site.

/// Connections that fail one after the other until it opens.
const UNREACHED_MAX: u32 = 5;

/// Requests in the window below which shares mean nothing.
const ASKED_MIN: u32 = 20;

/// The same for answers with server errors.
const ANSWERED_MIN: u32 = 50;

/// Share of server errors among the requests, in percent, that opens it.
const ERRORS_PERCENT: u32 = 90;

/// The window: so many slots of so many ms.
const SLOTS: usize = 10;
const SLOT_MS: u64 = 1_000;

/// The first interval between two probes, and the longest, in ms: an origin that is back is found within the latter.
const INTERVAL_MS: u64 = 1_000;
const INTERVAL_MAX_MS: u64 = 4_000;

/// The breaker of one origin.
#[derive(Debug, Clone)]
pub struct Breaker {
    /// Share of failures among the requests, in percent, that opens it; none if it never opens.
    failures_percent: Option<u32>,
    unreached: u32,
    slots: [Slot; SLOTS],
    open: Option<Open>,
}

/// What it lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// The request may go.
    Free,
    /// The request may go, and what becomes of it decides.
    Probe,
    /// The origin is left alone.
    Closed,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With an answer.
    Well,
    /// With an answer that is a server error (500, 502, 503, 504).
    ServerError,
    /// On the way: reset, late, malformed.
    Failed,
    /// Before it was sent: no connection.
    Unreached,
}

/// What an operator sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// All requests pass.
    Closed,
    /// None pass.
    Open,
    /// The next one passes, as a probe.
    HalfOpen,
}

impl BreakerState {
    /// The state in one word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

/// What was counted within a slot of time.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    number: u64,
    asked: u32,
    errors: u32,
    failures: u32,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    probes: u32,
    probe_due_ms: u64,
}

impl Breaker {
    /// Opens at this share of failures, in percent; never if there is none.
    #[must_use]
    pub fn new(failures_percent: Option<u32>) -> Self {
        Self { failures_percent, unreached: 0, slots: [Slot::default(); SLOTS], open: None }
    }

    /// Whether a request would get through now. Changes nothing.
    #[must_use]
    pub fn would_pass(&self, now_ms: u64) -> bool {
        self.open.is_none_or(|open| open.probe_due_ms <= now_ms)
    }

    /// A request wants to go. `chance` spreads the probes of nodes that saw the same fault at the same time.
    #[must_use]
    pub fn poll(&mut self, now_ms: u64, chance: u64) -> Passage {
        match &mut self.open {
            None => Passage::Free,
            Some(open) if open.probe_due_ms <= now_ms => {
                open.probes = open.probes.saturating_add(1);
                open.probe_due_ms = now_ms.saturating_add(interval_ms(open.probes, chance));
                Passage::Probe
            }
            Some(_) => Passage::Closed,
        }
    }

    /// A request ended. True if that opened or closed the breaker.
    pub fn handle_end(&mut self, ended: Ended, now_ms: u64, chance: u64) -> bool {
        let Some(failures_percent) = self.failures_percent else { return false };
        self.count(ended, now_ms);
        self.unreached = if ended == Ended::Unreached { self.unreached.saturating_add(1) } else { 0 };
        match (self.open, ended) {
            (Some(_), Ended::Well) => {
                self.open = None;
                self.slots = [Slot::default(); SLOTS];
                true
            }
            // a probe, or one that was under way when it opened: the next probe is due when it was
            (Some(_), Ended::ServerError | Ended::Failed | Ended::Unreached) => false,
            (None, Ended::Well) => false,
            (None, _) if self.unreached >= UNREACHED_MAX || self.too_many(failures_percent, now_ms) => {
                self.open = Some(Open { probes: 0, probe_due_ms: now_ms.saturating_add(interval_ms(0, chance)) });
                true
            }
            (None, _) => false,
        }
    }

    /// What an operator sees.
    #[must_use]
    pub fn state(&self, now_ms: u64) -> BreakerState {
        match self.open {
            None => BreakerState::Closed,
            Some(open) if open.probe_due_ms <= now_ms => BreakerState::HalfOpen,
            Some(_) => BreakerState::Open,
        }
    }

    fn count(&mut self, ended: Ended, now_ms: u64) {
        let number = now_ms / SLOT_MS;
        let place = usize::try_from(number % SLOTS as u64).unwrap_or(0);
        let Some(slot) = self.slots.get_mut(place) else { return };
        if slot.number != number {
            *slot = Slot { number, ..Slot::default() };
        }
        slot.asked = slot.asked.saturating_add(1);
        match ended {
            Ended::Well => {}
            Ended::ServerError => slot.errors = slot.errors.saturating_add(1),
            Ended::Failed | Ended::Unreached => slot.failures = slot.failures.saturating_add(1),
        }
    }

    /// Whether too large a share of the window's requests went wrong.
    fn too_many(&self, failures_percent: u32, now_ms: u64) -> bool {
        let oldest = (now_ms / SLOT_MS).saturating_sub(SLOTS as u64 - 1);
        let (mut asked, mut errors, mut failures) = (0u64, 0u64, 0u64);
        for slot in self.slots.iter().filter(|slot| slot.number >= oldest) {
            asked += u64::from(slot.asked);
            errors += u64::from(slot.errors);
            failures += u64::from(slot.failures);
        }
        let reaches = |part: u64, percent: u32| part * 100 >= asked * u64::from(percent);
        (asked >= u64::from(ASKED_MIN) && reaches(failures, failures_percent))
            || (asked >= u64::from(ANSWERED_MIN) && reaches(failures + errors, ERRORS_PERCENT))
    }
}

/// Time to the next probe: twice as long with each, up to the longest, less up to a quarter by chance.
fn interval_ms(probes: u32, chance: u64) -> u64 {
    let whole = INTERVAL_MS.saturating_mul(1 << probes.min(16)).min(INTERVAL_MAX_MS);
    whole - chance % (whole / 4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tell(breaker: &mut Breaker, count: u32, ended: Ended, now_ms: u64) {
        for _ in 0..count {
            breaker.handle_end(ended, now_ms, 0);
        }
    }

    #[test]
    fn connections_that_fail_in_a_row_open_it_and_an_answer_between_them_does_not() {
        let mut breaker = Breaker::new(Some(50));
        for _ in 0..10 {
            tell(&mut breaker, 4, Ended::Unreached, 0);
            tell(&mut breaker, 5, Ended::Well, 0);
        }
        assert_eq!(breaker.state(0), BreakerState::Closed);
        tell(&mut breaker, 5, Ended::Unreached, 0);
        assert_eq!((breaker.state(999), breaker.state(1_000)), (BreakerState::Open, BreakerState::HalfOpen));
    }

    #[test]
    fn half_of_the_requests_failing_opens_it_once_there_are_enough() {
        let mut breaker = Breaker::new(Some(50));
        tell(&mut breaker, 19, Ended::Failed, 0);
        assert_eq!(breaker.state(0), BreakerState::Closed, "too few to tell");
        tell(&mut breaker, 20, Ended::Well, 500);
        assert_eq!(breaker.state(500), BreakerState::Closed, "less than half");
        assert!(breaker.handle_end(Ended::Failed, 900, 0));
        assert_eq!(breaker.state(900), BreakerState::Open);
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let mut breaker = Breaker::new(Some(50));
        tell(&mut breaker, 19, Ended::Failed, 0);
        tell(&mut breaker, 19, Ended::Failed, 10_000);
        assert_eq!(breaker.state(10_000), BreakerState::Closed);
    }

    #[test]
    fn server_errors_open_it_only_when_nearly_everything_is_one() {
        let mut breaker = Breaker::new(Some(50));
        // the public caching suite: 34 server errors and 8 disconnects among 1,500 requests, and as dense as may be
        tell(&mut breaker, 8, Ended::Well, 0);
        tell(&mut breaker, 34, Ended::ServerError, 0);
        tell(&mut breaker, 8, Ended::Failed, 0);
        assert_eq!(breaker.state(0), BreakerState::Closed);
        let mut broken = Breaker::new(Some(50));
        tell(&mut broken, 49, Ended::ServerError, 0);
        assert_eq!(broken.state(0), BreakerState::Closed);
        tell(&mut broken, 1, Ended::ServerError, 0);
        assert_eq!(broken.state(0), BreakerState::Open);
    }

    #[test]
    fn one_probe_an_interval_which_grows_and_success_closes_it() {
        let mut breaker = Breaker::new(Some(50));
        tell(&mut breaker, 5, Ended::Unreached, 0);
        let mut probes = Vec::new();
        for now_ms in 0..20_000 {
            if breaker.poll(now_ms, 0) == Passage::Probe {
                probes.push(now_ms);
                tell(&mut breaker, 1, Ended::Unreached, now_ms);
            }
        }
        assert_eq!(probes, [1_000, 3_000, 7_000, 11_000, 15_000, 19_000]);
        assert_eq!(breaker.poll(23_000, 0), Passage::Probe);
        assert!(breaker.handle_end(Ended::Well, 23_010, 0));
        assert_eq!(breaker.poll(23_011, 0), Passage::Free);
        tell(&mut breaker, 4, Ended::Unreached, 23_020);
        assert_eq!(breaker.state(23_020), BreakerState::Closed, "what was before is forgotten");
    }

    #[test]
    fn off_means_off() {
        let mut breaker = Breaker::new(None);
        tell(&mut breaker, 1_000, Ended::Unreached, 0);
        assert_eq!(breaker.poll(0, 0), Passage::Free);
    }

    proptest! {
        #[test]
        fn while_open_there_is_at_most_one_request_in_three_quarters_of_a_second(
            chance in any::<u64>(),
            history in prop::collection::vec((0u64..400, 0u8..4), 0..2_000),
        ) {
            let mut breaker = Breaker::new(Some(50));
            tell(&mut breaker, 5, Ended::Unreached, 0);
            let (mut now, mut last) = (0, None);
            for (pause, ended) in history {
                now += pause;
                if breaker.poll(now, chance) == Passage::Probe {
                    prop_assert!(last.is_none_or(|last| now - last >= 750), "{last:?} {now}");
                    last = Some(now);
                }
                // never well: it stays open
                let ended = [Ended::ServerError, Ended::Failed, Ended::Unreached][usize::from(ended % 3)];
                breaker.handle_end(ended, now, chance);
                prop_assert!(breaker.state(now) != BreakerState::Closed);
                prop_assert!(breaker.would_pass(now + INTERVAL_MAX_MS), "it is found again");
            }
        }
    }
}
