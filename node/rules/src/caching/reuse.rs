//! Whether a stored response is served (RFC 9111 sections 4 and 4.2.4; RFC 5861).

use region_config::Policy;

use super::{Freshness, Reason};
use crate::purge::Standing;

/// What is done with a stored response that matches a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Serve it.
    Serve {
        /// Its age, in seconds: the `Age` to send.
        age_s: u32,
        /// What is left of its lifetime, in seconds.
        ttl_s: i64,
    },
    /// Serve it now and fetch a fresh one behind.
    ServeAndRefresh {
        /// Its age, in seconds: the `Age` to send.
        age_s: u32,
        /// What is left of its lifetime, in seconds: 0 or less if it is stale by age.
        ttl_s: i64,
        /// Why it is refreshed.
        reason: Reason,
    },
    /// Ask the origin, with its validators, whether it still holds.
    Revalidate {
        /// Why.
        reason: Reason,
    },
    /// Fetch anew, without its validators: it was purged, and a 304 would bring it back.
    Refetch {
        /// Why.
        reason: Reason,
    },
}

/// The shortest lifetime that is worth ending early, in seconds.
const AHEAD_LIFETIME_MIN_S: u32 = 10;

/// Whether a fresh response is in the last tenth of its lifetime, at most half a minute: time to fetch it anew if it is
/// asked for often, so that nobody waits when it is over.
#[must_use]
pub fn nearly_over(freshness: &Freshness, ttl_s: i64) -> bool {
    let window_s = (freshness.lifetime_s / 10).min(30);
    freshness.lifetime_s >= AHEAD_LIFETIME_MIN_S && ttl_s <= i64::from(window_s)
}

/// Decides about a stored response. What the client asks for by `Cache-Control` plays no part: no client can make the
/// cache miss.
///
/// A soft purge ends the lifetime, but is also leave to serve the old response while one request refreshes it, as
/// long as the response itself does not forbid that.
#[must_use]
pub fn decide(freshness: &Freshness, standing: Standing, now_unix_ms: u64) -> Decision {
    if standing == Standing::Stale {
        return Decision::Refetch { reason: Reason::Purged };
    }
    if freshness.always_revalidate {
        return Decision::Revalidate { reason: Reason::NoCache };
    }
    let age_s = freshness.age_s(now_unix_ms);
    let ttl_s = freshness.ttl_s(now_unix_ms);
    if age_s < freshness.lifetime_s {
        return match standing {
            Standing::Soft if freshness.must_revalidate => Decision::Revalidate { reason: Reason::SoftPurged },
            Standing::Soft => Decision::ServeAndRefresh { age_s, ttl_s, reason: Reason::SoftPurged },
            Standing::Valid | Standing::Stale => Decision::Serve { age_s, ttl_s },
        };
    }
    if age_s < freshness.lifetime_s.saturating_add(freshness.stale_while_revalidate_s) {
        return Decision::ServeAndRefresh { age_s, ttl_s, reason: Reason::StaleWhileRevalidate };
    }
    Decision::Revalidate { reason: Reason::Stale }
}

/// Whether a stored response may be served since the origin failed (refused, reset, timed out, or answered 500, 502,
/// 503 or 504), and its age in seconds if so.
///
/// The response's own `stale-if-error` counts, else the route's. Never after a purge, nor where `must-revalidate`,
/// `proxy-revalidate`, `no-cache` or `s-maxage` forbids it.
#[must_use]
pub fn stale_on_error(freshness: &Freshness, standing: Standing, now_unix_ms: u64, policy: &Policy) -> Option<u32> {
    if standing == Standing::Stale || freshness.always_revalidate {
        return None;
    }
    let age_s = freshness.age_s(now_unix_ms);
    let stale = standing == Standing::Soft || age_s >= freshness.lifetime_s;
    if stale && freshness.must_revalidate {
        return None;
    }
    let window_s = freshness.stale_if_error_s.unwrap_or(policy.stale_if_error_s);
    (age_s < freshness.lifetime_s.saturating_add(window_s)).then_some(age_s)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORED: u64 = 1_000_000;
    const FRESH: Freshness = Freshness {
        lifetime_s: 10,
        age_zero_unix_ms: STORED,
        stale_while_revalidate_s: 0,
        stale_if_error_s: None,
        must_revalidate: false,
        always_revalidate: false,
    };

    fn check(freshness: &Freshness, standing: Standing, after_ms: u64, expected: Decision) {
        assert_eq!(decide(freshness, standing, STORED + after_ms), expected, "{freshness:?} {standing:?} {after_ms}");
    }

    #[test]
    fn a_lifetime_is_nearly_over_in_its_last_tenth() {
        let over = |lifetime_s, ttl_s| nearly_over(&Freshness { lifetime_s, ..FRESH }, ttl_s);
        assert!(over(100, 10) && !over(100, 11));
        assert!(over(86_400, 30) && !over(86_400, 31));
        assert!(over(10, 1) && !over(9, 1));
    }

    #[test]
    fn it_is_served_strictly_within_its_lifetime() {
        check(&FRESH, Standing::Valid, 0, Decision::Serve { age_s: 0, ttl_s: 10 });
        check(&FRESH, Standing::Valid, 9_999, Decision::Serve { age_s: 9, ttl_s: 1 });
        check(&FRESH, Standing::Valid, 10_000, Decision::Revalidate { reason: Reason::Stale });
        let zero = Freshness { lifetime_s: 0, ..FRESH };
        check(&zero, Standing::Valid, 0, Decision::Revalidate { reason: Reason::Stale });
    }

    #[test]
    fn a_stale_response_is_served_only_within_a_window_that_was_given() {
        let window = Freshness { stale_while_revalidate_s: 5, ..FRESH };
        let stale = |age_s| Decision::ServeAndRefresh {
            age_s,
            ttl_s: 10 - i64::from(age_s),
            reason: Reason::StaleWhileRevalidate,
        };
        check(&window, Standing::Valid, 10_000, stale(10));
        check(&window, Standing::Valid, 14_999, stale(14));
        check(&window, Standing::Valid, 15_000, Decision::Revalidate { reason: Reason::Stale });
    }

    #[test]
    fn no_cache_always_asks() {
        let no_cache = Freshness { always_revalidate: true, stale_while_revalidate_s: 99, ..FRESH };
        check(&no_cache, Standing::Valid, 0, Decision::Revalidate { reason: Reason::NoCache });
        check(&no_cache, Standing::Valid, 20_000, Decision::Revalidate { reason: Reason::NoCache });
    }

    #[test]
    fn a_purge_beats_every_lifetime() {
        for freshness in [FRESH, Freshness { always_revalidate: true, ..FRESH }] {
            check(&freshness, Standing::Stale, 0, Decision::Refetch { reason: Reason::Purged });
        }
    }

    #[test]
    fn a_soft_purge_serves_the_old_one_while_it_is_refreshed_unless_that_is_forbidden() {
        let refresh = Decision::ServeAndRefresh { age_s: 1, ttl_s: 9, reason: Reason::SoftPurged };
        check(&FRESH, Standing::Soft, 1_000, refresh);
        check(&FRESH, Standing::Soft, 10_000, Decision::Revalidate { reason: Reason::Stale });
        let strict = Freshness { must_revalidate: true, ..FRESH };
        check(&strict, Standing::Soft, 1_000, Decision::Revalidate { reason: Reason::SoftPurged });
    }

    #[test]
    fn when_the_origin_fails_a_stale_response_is_served_unless_that_is_forbidden() {
        let policy = Policy { stale_if_error_s: 60, ..Policy::default() };
        let served = |freshness: Freshness, standing, after_s: u64| {
            stale_on_error(&freshness, standing, STORED + after_s * 1000, &policy)
        };
        assert_eq!(served(FRESH, Standing::Valid, 69), Some(69));
        assert_eq!(served(FRESH, Standing::Valid, 70), None);
        assert_eq!(served(FRESH, Standing::Soft, 5), Some(5));
        assert_eq!(served(FRESH, Standing::Stale, 5), None);
        let own = Freshness { stale_if_error_s: Some(1), ..FRESH };
        assert_eq!(served(own, Standing::Valid, 10), Some(10));
        assert_eq!(served(own, Standing::Valid, 11), None);
        let strict = Freshness { must_revalidate: true, stale_if_error_s: Some(60), ..FRESH };
        assert_eq!(served(strict, Standing::Valid, 11), None);
        assert_eq!(served(strict, Standing::Soft, 5), None);
        assert_eq!(served(Freshness { always_revalidate: true, ..FRESH }, Standing::Valid, 1), None);
    }
}
