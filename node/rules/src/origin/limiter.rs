//! How many requests an origin is sent at a time: as many as it answers without getting slower.
//!
//! The gradient limit of Netflix's concurrency-limits (`Gradient2Limit`): the limit follows the ratio of the time that
//! answers take in the long run to the time that they take now, with room for a queue. Two things are added. The long
//! run is learnt while the origin is not busy; while it is, it is moved downward, and upward only very slowly: so a limit
//! that is too high does not come to look normal. And requests that died of a timeout say more than any time: each makes
//! the limit smaller by a tenth (additive increase, multiplicative decrease, as in TCP).

/// The limit of an origin that nothing is known of.
const FIRST: f64 = 256.0;

/// The limit is never below this.
const LEAST: f64 = 8.0;

/// Slow answers do not bring it below this: an origin that answers is not in need, it may have slow resources.
const LEAST_BY_LATENCY: f64 = 32.0;

/// How much slower than in the long run an answer may be before the limit shrinks: resources differ.
const TOLERANCE: f64 = 3.0;

/// How much of a new limit is taken over at once.
const SMOOTHING: f64 = 0.2;

/// Share of the long run that an answer makes up.
const LONG_RUN: f64 = 0.02;

/// The same, divided by the limit, for an answer that took longer while the origin was busy: that is what is to be found
/// out, not what is normal. An origin that has become slower for good is believed at last, the sooner the less it gets.
const LONG_RUN_BUSY: f64 = 0.002;

/// Share of the present that an answer makes up.
const PRESENT: f64 = 0.1;

/// What a timeout leaves of the limit.
const BACK_OFF: f64 = 0.9;

/// Times below this are taken for this, in us: below it, noise of this machine looks like a slow origin.
const MICROS_MIN: f64 = 5_000.0;

/// The limit on one origin, and the requests under it.
#[derive(Debug, Clone)]
pub struct Limiter {
    limit: f64,
    most: f64,
    long_run_us: f64,
    present_us: f64,
    busy: usize,
}

impl Limiter {
    /// A limit that never goes above `most`.
    #[must_use]
    pub fn new(most: usize) -> Self {
        let most = f64::from(u32::try_from(most.max(1)).unwrap_or(u32::MAX));
        Self { limit: FIRST.min(most), most, long_run_us: 0.0, present_us: 0.0, busy: 0 }
    }

    /// The limit as it stands.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "between 1 and a u32")]
    pub fn limit(&self) -> usize {
        self.limit as usize
    }

    /// Requests under it.
    #[must_use]
    pub fn busy(&self) -> usize {
        self.busy
    }

    /// Whether there is room for one more.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.busy < self.limit()
    }

    /// Takes a place, if there is one. Each that is taken is given back by one of the `handle_*`.
    #[must_use]
    pub fn poll_place(&mut self) -> bool {
        let room = self.has_room();
        self.busy += usize::from(room);
        room
    }

    /// A request was answered after so many us.
    pub fn handle_answer(&mut self, micros: u64) {
        let sample = (micros as f64).max(MICROS_MIN);
        // only what was asked at the limit says anything about the limit
        let pressed = self.busy * 2 >= self.limit();
        self.handle_gone();
        if self.long_run_us == 0.0 {
            (self.long_run_us, self.present_us) = (sample, sample);
            return;
        }
        let share = if pressed && sample > self.long_run_us { LONG_RUN_BUSY / self.limit } else { LONG_RUN };
        self.long_run_us += (sample - self.long_run_us) * share;
        self.present_us += (sample - self.present_us) * PRESENT;
        if pressed {
            let gradient = (TOLERANCE * self.long_run_us / self.present_us).clamp(0.5, 1.0);
            let wanted = self.limit * gradient + self.limit.sqrt();
            let moved = self.limit + (wanted - self.limit) * SMOOTHING;
            self.set(moved.max(self.limit.min(LEAST_BY_LATENCY)));
        }
    }

    /// A request died of a timeout.
    pub fn handle_timeout(&mut self) {
        self.handle_gone();
        self.set(self.limit * BACK_OFF);
    }

    /// A request ended in a way that says nothing about the origin's pace.
    pub fn handle_gone(&mut self) {
        self.busy = self.busy.saturating_sub(1);
    }

    /// The origin is back from a fault: it is tried out anew. Requests under way stay counted.
    pub fn handle_recovery(&mut self) {
        self.set(self.limit.min(FIRST));
    }

    fn set(&mut self, limit: f64) {
        self.limit = limit.clamp(LEAST.min(self.most), self.most);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Keeps the limiter full for a while before an origin that answers each of `busy` requests after `micros`.
    fn press(limiter: &mut Limiter, answers: usize, micros: impl Fn(usize) -> u64) {
        while limiter.poll_place() {}
        for _ in 0..answers {
            limiter.handle_answer(micros(limiter.busy()));
            while limiter.poll_place() {}
        }
        while limiter.busy() > 0 {
            limiter.handle_gone();
        }
    }

    #[test]
    fn an_origin_that_keeps_up_is_asked_more_up_to_what_the_operator_allows() {
        let mut limiter = Limiter::new(600);
        assert_eq!(limiter.limit(), 256);
        press(&mut limiter, 6_000, |_| 20_000);
        assert_eq!(limiter.limit(), 600);
    }

    #[test]
    fn an_origin_that_gets_slower_with_load_is_asked_what_it_can_do() {
        // ten at a time in 20 ms each, the others wait
        let mut limiter = Limiter::new(1_000);
        for _ in 0..10 {
            assert!(limiter.poll_place());
            limiter.handle_answer(20_000);
        }
        press(&mut limiter, 5_000, |busy| 20_000 * (busy as u64).div_ceil(10));
        assert!((10..=200).contains(&limiter.limit()), "{}", limiter.limit());
    }

    #[test]
    fn an_origin_that_is_slower_for_good_is_believed_at_last() {
        let mut limiter = Limiter::new(100);
        press(&mut limiter, 2_000, |_| 10_000);
        press(&mut limiter, 200, |_| 200_000);
        assert_eq!(limiter.limit(), 32);
        press(&mut limiter, 10_000, |_| 200_000);
        assert!(limiter.limit() >= 60, "{}", limiter.limit());
    }

    #[test]
    fn an_origin_at_rest_keeps_its_limit_however_its_resources_differ() {
        let mut limiter = Limiter::new(1_000);
        for round in 0..10_000u64 {
            assert!(limiter.poll_place());
            limiter.handle_answer(if round % 3 == 0 { 900_000 } else { 2_000 });
        }
        assert_eq!(limiter.limit(), 256);
    }

    #[test]
    fn timeouts_shrink_the_limit_to_the_least_and_answers_open_it_again() {
        let mut limiter = Limiter::new(256);
        for _ in 0..100 {
            assert!(limiter.poll_place());
            limiter.handle_timeout();
        }
        assert_eq!((limiter.limit(), limiter.busy()), (8, 0));
        press(&mut limiter, 500, |_| 10_000);
        assert!(limiter.limit() > 100, "{}", limiter.limit());
    }

    #[test]
    fn a_full_limit_refuses() {
        let mut limiter = Limiter::new(2);
        assert!(limiter.poll_place() && limiter.poll_place() && !limiter.poll_place());
        limiter.handle_gone();
        assert!(limiter.poll_place());
    }

    proptest! {
        #[test]
        fn the_limit_keeps_its_bounds_and_places_are_neither_lost_nor_made(
            most in 1usize..500,
            history in prop::collection::vec((0u8..4, 0u64..10_000_000), 0..2_000),
        ) {
            let mut limiter = Limiter::new(most);
            let mut held = 0;
            for (event, micros) in history {
                match event {
                    0 | 1 => held += usize::from(limiter.poll_place()),
                    _ if held == 0 => {}
                    2 => { limiter.handle_answer(micros); held -= 1; }
                    _ => { limiter.handle_timeout(); held -= 1; }
                }
                prop_assert_eq!(limiter.busy(), held);
                prop_assert!((8.min(most)..=most).contains(&limiter.limit()));
            }
        }
    }
}
