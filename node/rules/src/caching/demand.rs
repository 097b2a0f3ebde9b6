//! What a client asks of the cache by `Cache-Control` (RFC 9111 section 5.2.1), on routes that let it count.

use http::{
    HeaderMap,
    header::{CACHE_CONTROL, PRAGMA},
};
use region_config::Policy;

use super::{
    Decision, Freshness, Reason,
    directives::number,
    lists::{members, trim},
};
use crate::purge::Standing;

/// What a client asks for. Where a directive is repeated, the stricter one counts; an argument that cannot be read counts
/// as the strictest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Demand {
    no_cache: bool,
    only_if_cached: bool,
    max_age_s: Option<u32>,
    min_fresh_s: Option<u32>,
    max_stale_s: Option<u32>,
}

impl Demand {
    /// Reads a request's; none if it asks for nothing, or if the route does not let it count.
    #[must_use]
    pub fn of(policy: &Policy, request: &HeaderMap) -> Option<Self> {
        if !policy.honour_request_cache_control {
            return None;
        }
        let mut demand = Self::default();
        for line in request.get_all(CACHE_CONTROL) {
            members(line.as_bytes()).for_each(|member| demand.member(member));
        }
        // RFC 9111 section 5.4
        if !request.contains_key(CACHE_CONTROL) {
            let mut pragmas = request.get_all(PRAGMA).iter().flat_map(|line| members(line.as_bytes()));
            demand.no_cache = pragmas.any(|member| member.eq_ignore_ascii_case(b"no-cache"));
        }
        (demand != Self::default()).then_some(demand)
    }

    fn member(&mut self, member: &[u8]) {
        let (name, argument) = match member.iter().position(|byte| *byte == b'=') {
            Some(at) => (member.get(..at).unwrap_or_default(), member.get(at + 1..)),
            None => (member, None),
        };
        let seconds = argument.map(|argument| match trim(argument) {
            [b'"', inner @ .., b'"'] => number(inner),
            bare => number(bare),
        });
        match trim(name).to_ascii_lowercase().as_slice() {
            b"no-cache" => self.no_cache = true,
            b"only-if-cached" => self.only_if_cached = true,
            b"max-age" => least(&mut self.max_age_s, seconds.flatten().unwrap_or(0)),
            b"min-fresh" => {
                let seconds = seconds.flatten().unwrap_or(u32::MAX);
                self.min_fresh_s = Some(self.min_fresh_s.map_or(seconds, |known| known.max(seconds)));
            }
            // without an argument it takes any age
            b"max-stale" => least(&mut self.max_stale_s, seconds.map_or(u32::MAX, |seconds| seconds.unwrap_or(0))),
            _ => {}
        }
    }

    /// Whether only what is stored may be given: else 504.
    #[must_use]
    pub const fn only_if_cached(&self) -> bool {
        self.only_if_cached
    }

    /// What becomes of a decision. A purge stays a purge; what is `immutable` (RFC 8246) and fresh is not asked for again;
    /// what may not be served stale is not.
    #[must_use]
    pub fn applied(
        &self,
        decision: Decision,
        freshness: &Freshness,
        stored: &HeaderMap,
        standing: Standing,
        now_unix_ms: u64,
    ) -> Decision {
        match decision {
            Decision::Serve { age_s, ttl_s } | Decision::ServeAndRefresh { age_s, ttl_s, .. } => {
                let fresh = matches!(decision, Decision::Serve { .. });
                if fresh && self.min_fresh_s.is_none_or(|least| ttl_s >= i64::from(least)) && is_immutable(stored) {
                    return decision;
                }
                let refused = self.no_cache
                    || self.max_age_s.is_some_and(|most| age_s > most)
                    || self.min_fresh_s.is_some_and(|least| ttl_s < i64::from(least));
                if refused { Decision::Revalidate { reason: Reason::RequestNoCache } } else { decision }
            }
            Decision::Revalidate { reason: Reason::Stale } if standing == Standing::Valid => {
                let (age_s, ttl_s) = (freshness.age_s(now_unix_ms), freshness.ttl_s(now_unix_ms));
                let bearable = self.max_stale_s.is_some_and(|most| ttl_s.saturating_neg() <= i64::from(most))
                    && self.max_age_s.is_none_or(|most| age_s <= most)
                    && self.min_fresh_s.is_none();
                if bearable && !self.no_cache && !freshness.must_revalidate {
                    return Decision::ServeAndRefresh { age_s, ttl_s, reason: Reason::RequestMaxStale };
                }
                decision
            }
            Decision::Revalidate { .. } | Decision::Refetch { .. } => decision,
        }
    }
}

fn least(known: &mut Option<u32>, seconds: u32) {
    *known = Some(known.map_or(seconds, |earlier| earlier.min(seconds)));
}

/// Whether a stored response says that it does not change within its lifetime (RFC 8246).
fn is_immutable(stored: &HeaderMap) -> bool {
    let lines = stored.get_all(CACHE_CONTROL).iter();
    lines.flat_map(|line| members(line.as_bytes())).any(|member| member.eq_ignore_ascii_case(b"immutable"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::caching::decide;

    const STORED: u64 = 1_000_000;
    const FRESH: Freshness = Freshness {
        lifetime_s: 10,
        age_zero_unix_ms: STORED,
        stale_while_revalidate_s: 0,
        stale_if_error_s: None,
        must_revalidate: false,
        always_revalidate: false,
    };

    fn headers(line: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, line.parse().unwrap());
        headers
    }

    fn honoured(line: &str) -> Option<Demand> {
        let policy = Policy { honour_request_cache_control: true, ..Policy::default() };
        Demand::of(&policy, &headers(line))
    }

    fn outcome(line: &str, freshness: &Freshness, stored: &str, after_s: u64) -> Decision {
        let now = STORED + after_s * 1000;
        let decision = decide(freshness, Standing::Valid, now);
        let stored = headers(stored);
        honoured(line).map_or(decision, |demand| demand.applied(decision, freshness, &stored, Standing::Valid, now))
    }

    fn asks(line: &str, after_s: u64) -> bool {
        outcome(line, &FRESH, "max-age=10", after_s) == Decision::Revalidate { reason: Reason::RequestNoCache }
    }

    #[test]
    fn nothing_counts_where_the_route_does_not_say_so() {
        assert_eq!(Demand::of(&Policy::default(), &headers("no-cache, only-if-cached")), None);
        assert_eq!(honoured("nothing-to-see-here"), None);
    }

    #[test]
    fn a_client_may_ask_for_something_fresher() {
        assert!(asks("no-cache", 1));
        assert!(asks("max-age=0", 1) && !asks("max-age=0", 0));
        assert!(asks("max-age=5", 6) && !asks("max-age=5", 5));
        assert!(asks("max-age=x", 1));
        assert!(asks("min-fresh=5", 6) && !asks("min-fresh=5", 5));
        let policy = Policy { honour_request_cache_control: true, ..Policy::default() };
        let mut pragma = HeaderMap::new();
        pragma.insert(PRAGMA, "no-cache".parse().unwrap());
        assert!(Demand::of(&policy, &pragma).is_some());
        pragma.insert(CACHE_CONTROL, "max-stale".parse().unwrap());
        assert!(!Demand::of(&policy, &pragma).unwrap().no_cache, "Cache-Control counts before Pragma");
    }

    #[test]
    fn what_is_immutable_and_fresh_is_not_asked_for_again() {
        let served = Decision::Serve { age_s: 1, ttl_s: 9 };
        assert_eq!(outcome("no-cache", &FRESH, "max-age=10, immutable", 1), served);
        assert_eq!(
            outcome("no-cache", &FRESH, "max-age=10, immutable", 11),
            Decision::Revalidate { reason: Reason::Stale }
        );
    }

    #[test]
    fn a_client_may_bear_something_staler_unless_the_response_forbids_that() {
        let stale = Decision::ServeAndRefresh { age_s: 12, ttl_s: -2, reason: Reason::RequestMaxStale };
        let asked = Decision::Revalidate { reason: Reason::Stale };
        assert_eq!(outcome("max-stale", &FRESH, "max-age=10", 12), stale);
        assert_eq!(outcome("max-stale=2", &FRESH, "max-age=10", 12), stale);
        assert_eq!(outcome("max-stale=1", &FRESH, "max-age=10", 12), asked);
        assert_eq!(outcome("max-stale, no-cache", &FRESH, "max-age=10", 12), asked);
        assert_eq!(outcome("max-stale=x", &FRESH, "max-age=10", 12), asked);
        let strict = Freshness { must_revalidate: true, ..FRESH };
        assert_eq!(outcome("max-stale", &strict, "max-age=10", 12), asked);
    }
}
