//! How many requests are sent a second time: a share of all, so that retries never become a storm of their own.
//!
//! The token bucket of Finagle's `RetryBudget`: each request pays in a tenth, each retry takes a whole.

/// What a request pays in, in thousandths of a retry: retries are a tenth of the requests at most.
const PAID_IN: u32 = 100;

/// What a retry costs.
const RETRY: u32 = 1_000;

/// Retries that a site which is seldom asked has to begin with.
const FLOOR: u32 = 3 * RETRY;

/// Most that is saved up: a long calm does not pay for a storm.
const SAVED_MAX: u32 = 50 * RETRY;

/// The retries of one site.
#[derive(Debug, Clone)]
pub struct Budget {
    saved: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self { saved: FLOOR }
    }
}

impl Budget {
    /// A request came: it pays in.
    pub fn handle_request(&mut self) {
        self.saved = (self.saved + PAID_IN).min(SAVED_MAX);
    }

    /// Takes a retry out, if there is one.
    #[must_use]
    pub fn poll_retry(&mut self) -> bool {
        let Some(rest) = self.saved.checked_sub(RETRY) else { return false };
        self.saved = rest;
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_site_that_is_seldom_asked_has_a_few_retries() {
        let mut budget = Budget::default();
        assert_eq!((0..10).filter(|_| budget.poll_retry()).count(), 3);
    }

    proptest! {
        #[test]
        fn retries_are_a_tenth_of_the_requests_and_a_few(history in prop::collection::vec(any::<bool>(), 0..5_000)) {
            let mut budget = Budget::default();
            let (mut requests, mut retries) = (0u32, 0u32);
            for retry in history {
                if retry {
                    retries += u32::from(budget.poll_retry());
                } else {
                    budget.handle_request();
                    requests += 1;
                }
                prop_assert!(retries <= requests / 10 + 3);
            }
        }
    }
}
