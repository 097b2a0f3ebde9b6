//! What a route says about lifetimes: for responses that name none, and as bounds for those that do.
//!
//! Lifetimes count from age 0, as those that responses name do, so that a node that asks another one gets what a node that
//! asks the origin gets. A route never makes storable what a directive forbids to store.

use http::StatusCode;
use region_config::{Class, NegativeTtl, Policy};

use super::{Freshness, Reason};

/// The longest lifetime of an error that names none, and of every error on a static route, in seconds.
const NEGATIVE_MAX_S: u32 = 10;
/// The longest lifetime that is guessed (RFC 9111 section 4.2.2), in seconds.
const GUESS_MAX_S: u32 = 86_400;
/// The same on a static route.
const STATIC_GUESS_MAX_S: u32 = 7 * 86_400;

/// The lifetime of a response that names none, in seconds. `guess` is what its `Last-Modified` suggests, if that may be
/// used.
pub(crate) fn unnamed_s(policy: &Policy, status: StatusCode, guess: Option<u32>) -> Option<u32> {
    let fixed = policy.default_ttl_s;
    if !is_error(status) {
        let guess_max_s = if policy.class == Class::Static { STATIC_GUESS_MAX_S } else { GUESS_MAX_S };
        let guess = guess.map(|guess| guess.min(guess_max_s));
        let fixed = fixed.filter(|_| matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308));
        // a file's own history is better than one time for all
        return if policy.class == Class::Static { guess.or(fixed) } else { fixed.or(guess) };
    }
    if answers_one_client(status) {
        return None;
    }
    let fixed = fixed.filter(|_| matches!(status.as_u16(), 404 | 410));
    let short = || fixed.or(guess).map(|lifetime| lifetime.min(NEGATIVE_MAX_S));
    of_error(&policy.negative, status).or_else(short)
}

/// Bounds a response's freshness by the route, and tells why if that changed its lifetime. `named` says whether the
/// response or the route's default gave it a lifetime at all.
pub(crate) fn bound(policy: &Policy, status: StatusCode, freshness: &mut Freshness, named: bool) -> Option<Reason> {
    let before_s = freshness.lifetime_s;
    // an age that reaches back beyond 1970 is over any lifetime
    let reaches_back = freshness.age_zero_unix_ms == 0;
    let reason = if is_error(status) {
        let cap_s = of_error(&policy.negative, status).or((policy.class == Class::Static).then_some(NEGATIVE_MAX_S));
        if let Some(cap_s) = cap_s {
            freshness.lifetime_s = before_s.min(cap_s);
            freshness.stale_while_revalidate_s = freshness.stale_while_revalidate_s.min(cap_s);
            freshness.stale_if_error_s = Some(freshness.stale_if_error_s.unwrap_or(0).min(cap_s));
        }
        Reason::NegativeTtl
    } else if let Some(ttl_s) = policy.ttl_s.filter(|_| !reaches_back) {
        freshness.lifetime_s = ttl_s;
        Reason::RouteTtl
    } else {
        if named && !reaches_back {
            freshness.lifetime_s = before_s.max(policy.ttl_min_s);
        }
        Reason::RouteBound
    };
    if let Some(max_s) = policy.ttl_max_s {
        freshness.lifetime_s = freshness.lifetime_s.min(max_s);
    }
    if policy.class == Class::Tight {
        freshness.stale_while_revalidate_s = 0;
        freshness.stale_if_error_s = Some(0);
        freshness.must_revalidate = true;
    }
    (freshness.lifetime_s != before_s).then_some(reason)
}

/// What the route says about errors like this one, in seconds.
fn of_error(negative: &NegativeTtl, status: StatusCode) -> Option<u32> {
    match status.as_u16() {
        404 | 410 => negative.not_found_s,
        400..=499 => negative.client_error_s,
        _ => negative.server_error_s,
    }
}

fn is_error(status: StatusCode) -> bool {
    status.as_u16() >= 400
}

/// Errors that say something about who asked: they get no lifetime that they do not name.
fn answers_one_client(status: StatusCode) -> bool {
    matches!(status.as_u16(), 401 | 403 | 407 | 429)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMED: Freshness = Freshness {
        lifetime_s: 3600,
        age_zero_unix_ms: 1_000_000,
        stale_while_revalidate_s: 60,
        stale_if_error_s: Some(600),
        must_revalidate: false,
        always_revalidate: false,
    };

    fn class(class: Class) -> Policy {
        Policy { class, ..Policy::default() }
    }

    fn unnamed(policy: &Policy, status: u16, guess: Option<u32>) -> Option<u32> {
        StatusCode::from_u16(status).ok().and_then(|status| unnamed_s(policy, status, guess))
    }

    fn bounded(policy: &Policy, status: u16, mut freshness: Freshness) -> (Freshness, Option<Reason>) {
        let status = StatusCode::from_u16(status).unwrap_or_default();
        let reason = bound(policy, status, &mut freshness, true);
        (freshness, reason)
    }

    #[test]
    fn what_names_no_lifetime_gets_the_routes_or_a_guess() {
        let standard = Policy { default_ttl_s: Some(300), ..Policy::default() };
        assert_eq!(unnamed(&standard, 200, Some(9)), Some(300));
        assert_eq!(unnamed(&standard, 302, None), None);
        assert_eq!(unnamed(&Policy::default(), 200, Some(1_000_000)), Some(86_400));
        let files = Policy { default_ttl_s: Some(300), ..class(Class::Static) };
        assert_eq!(unnamed(&files, 200, Some(1_000_000)), Some(7 * 86_400));
        assert_eq!(unnamed(&files, 200, None), Some(300));
    }

    #[test]
    fn errors_that_name_no_lifetime_get_a_short_one_or_none() {
        let policy = Policy { default_ttl_s: Some(300), ..Policy::default() };
        for (status, expected) in [(404, Some(10)), (410, Some(10)), (403, None), (500, None), (405, None)] {
            assert_eq!(unnamed(&policy, status, None), expected, "{status}");
        }
        assert_eq!(unnamed(&Policy::default(), 404, Some(8640)), Some(10), "a guess");
        assert_eq!(unnamed(&Policy::default(), 404, None), None);
        let negative = NegativeTtl { not_found_s: Some(30), client_error_s: Some(5), server_error_s: Some(1) };
        let policy = Policy { negative, ..Policy::default() };
        for (status, expected) in
            [(404, Some(30)), (400, Some(5)), (503, Some(1)), (401, None), (403, None), (429, None), (200, None)]
        {
            assert_eq!(unnamed(&policy, status, None), expected, "{status}");
        }
    }

    #[test]
    fn what_an_error_names_stands_unless_the_route_bounds_it() {
        for status in [401, 403, 404, 500, 599] {
            assert_eq!(bounded(&Policy::default(), status, NAMED), (NAMED, None), "{status}");
            let (found, reason) = bounded(&class(Class::Static), status, NAMED);
            assert_eq!((found.lifetime_s, found.stale_while_revalidate_s, reason), (10, 10, Some(Reason::NegativeTtl)));
        }
        let negative = NegativeTtl { client_error_s: Some(2), server_error_s: Some(0), ..NegativeTtl::default() };
        let policy = Policy { negative, ttl_min_s: 9000, ttl_s: Some(9000), ..Policy::default() };
        for (status, expected) in [(403, 2), (500, 0), (404, 3600)] {
            assert_eq!(bounded(&policy, status, NAMED).0.lifetime_s, expected, "{status}");
        }
    }

    #[test]
    fn floor_ceiling_and_override_are_told() {
        let lifetime = |policy: Policy| {
            let (found, reason) = bounded(&policy, 200, NAMED);
            (found.lifetime_s, reason)
        };
        assert_eq!(lifetime(Policy { ttl_min_s: 7200, ..Policy::default() }), (7200, Some(Reason::RouteBound)));
        assert_eq!(lifetime(Policy { ttl_max_s: Some(60), ..Policy::default() }), (60, Some(Reason::RouteBound)));
        assert_eq!(lifetime(Policy { ttl_s: Some(60), ..Policy::default() }), (60, Some(Reason::RouteTtl)));
        assert_eq!(lifetime(Policy { ttl_s: Some(3600), ..Policy::default() }), (3600, None));
        let mut unnamed = Freshness { lifetime_s: 0, ..NAMED };
        let floor = Policy { ttl_min_s: 60, ..Policy::default() };
        assert_eq!(bound(&floor, StatusCode::OK, &mut unnamed, false), None, "a floor gives no lifetime");
    }

    #[test]
    fn a_tight_route_is_never_stale() {
        let policy = Policy { ttl_max_s: Some(5), ..class(Class::Tight) };
        let (found, reason) = bounded(&policy, 200, NAMED);
        assert_eq!((found.lifetime_s, reason), (5, Some(Reason::RouteBound)));
        assert_eq!((found.stale_while_revalidate_s, found.stale_if_error_s, found.must_revalidate), (0, Some(0), true));
    }
}
