//! Age and lifetime (RFC 9111 section 4.2).

use super::{
    Exchange, date,
    directives::{Directives, SECONDS_MAX, number},
    lifetime::unnamed_s,
    lists::members,
};
use http::{
    HeaderMap, StatusCode,
    header::{AGE, DATE, EXPIRES, LAST_MODIFIED},
};

/// How long a response may be used without asking, and how long after that in which case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// For how long it is fresh, counted from age 0, in seconds.
    pub lifetime_s: u32,
    /// When its age was 0, in ms since 1970.
    pub age_zero_unix_ms: u64,
    /// For how long after its lifetime it may be served while a fresh one is fetched (RFC 5861 section 3), in seconds.
    /// 0 also where `must-revalidate` or `proxy-revalidate` forbids it; an explicit window beside `s-maxage` stands.
    pub stale_while_revalidate_s: u32,
    /// For how long after its lifetime it may be served when the origin fails (RFC 5861 section 4), in seconds; none
    /// if the response does not say.
    pub stale_if_error_s: Option<u32>,
    /// Whether it may never be served stale when the origin fails: `must-revalidate`, `proxy-revalidate`, `s-maxage`.
    pub must_revalidate: bool,
    /// Whether it may never be served without asking: `no-cache`.
    pub always_revalidate: bool,
}

impl Freshness {
    /// Its age (RFC 9111 section 4.2.3), in seconds. A clock that stepped back makes it 0, never negative.
    #[must_use]
    pub fn age_s(&self, now_unix_ms: u64) -> u32 {
        let age = now_unix_ms.saturating_sub(self.age_zero_unix_ms) / 1000;
        u32::try_from(age).unwrap_or(u32::MAX)
    }

    /// What is left of its lifetime, in seconds; 0 or less once it is stale.
    #[must_use]
    pub fn ttl_s(&self, now_unix_ms: u64) -> i64 {
        i64::from(self.lifetime_s) - i64::from(self.age_s(now_unix_ms))
    }

    /// Reads a response's. None if nothing gives it a lifetime: then it may be kept for revalidation only.
    pub(crate) fn of(exchange: &Exchange<'_>, directives: &Directives, targeted: bool) -> (Self, bool) {
        let lifetime = lifetime_s(exchange, directives, targeted);
        let age_zero_unix_ms = age_zero_unix_ms(exchange);
        let unbendable = directives.must_revalidate || directives.proxy_revalidate;
        let freshness = Self {
            // an age that reaches back beyond 1970 cannot be kept; it is over any lifetime
            lifetime_s: if age_zero_unix_ms == 0 { 0 } else { lifetime.unwrap_or(0) },
            age_zero_unix_ms,
            stale_while_revalidate_s: match directives.stale_while_revalidate_s {
                Some(window) if !unbendable => window,
                _ => 0,
            },
            stale_if_error_s: directives.stale_if_error_s,
            must_revalidate: unbendable || directives.s_maxage_s.is_some(),
            always_revalidate: directives.no_cache,
        };
        (freshness, lifetime.is_some())
    }
}

/// When the response's age was 0, in ms since 1970: its corrected initial age (RFC 9111 section 4.2.3) before it came.
fn age_zero_unix_ms(exchange: &Exchange<'_>) -> u64 {
    let age_ms = u64::from(age_s(exchange.response)) * 1000;
    // age_value + response_delay, from the moment of the response = age_value from the moment of the request
    let sent = exchange.request_unix_ms.min(exchange.response_unix_ms);
    let corrected = sent.saturating_sub(age_ms);
    let now_s = whole_seconds(exchange.response_unix_ms);
    let apparent_s = match date_of(exchange) {
        Some(date_s) => u64::try_from(now_s.saturating_sub(date_s)).unwrap_or(0),
        None => 0,
    };
    corrected.min(exchange.response_unix_ms.saturating_sub(apparent_s.saturating_mul(1000)))
}

/// The `Age` field's first value (RFC 9111 section 5.1), in seconds; what is no number counts as absent.
fn age_s(headers: &HeaderMap) -> u32 {
    let first = headers.get(AGE).and_then(|line| members(line.as_bytes()).next());
    first.and_then(number).unwrap_or(0)
}

/// The lifetime (RFC 9111 section 4.2.1), in seconds: `s-maxage`, `max-age`, `Expires`, the route's default, a guess.
fn lifetime_s(exchange: &Exchange<'_>, directives: &Directives, targeted: bool) -> Option<u32> {
    if let Some(explicit) = directives.s_maxage_s.or(directives.max_age_s) {
        return Some(explicit);
    }
    if !targeted && exchange.response.contains_key(EXPIRES) {
        return Some(expires_s(exchange));
    }
    unnamed_s(exchange.policy, exchange.status, heuristic_s(exchange, directives))
}

/// `Expires` less `Date` (RFC 9111 section 5.3), in seconds. Of several the earliest counts, and an unreadable one is
/// past.
fn expires_s(exchange: &Exchange<'_>) -> u32 {
    let now_s = whole_seconds(exchange.response_unix_ms);
    let from_s = date_of(exchange).unwrap_or(now_s);
    let lines = exchange.response.get_all(EXPIRES).iter();
    let dates = lines.map(|line| date::parse(line.as_bytes(), now_s).unwrap_or(i64::MIN));
    let earliest = dates.min().unwrap_or(i64::MIN);
    let left = earliest.saturating_sub(from_s).clamp(0, i64::from(SECONDS_MAX));
    u32::try_from(left).unwrap_or(SECONDS_MAX)
}

/// A tenth of the time since the response last changed (RFC 9111 section 4.2.2), where the route wants guesses.
fn heuristic_s(exchange: &Exchange<'_>, directives: &Directives) -> Option<u32> {
    if !exchange.policy.heuristic || !(cacheable_by_default(exchange.status) || directives.public) {
        return None;
    }
    let now_s = whole_seconds(exchange.response_unix_ms);
    let changed_s = date::parse(exchange.response.get(LAST_MODIFIED)?.as_bytes(), now_s)?;
    let unchanged_s = date_of(exchange).unwrap_or(now_s).saturating_sub(changed_s);
    u32::try_from((unchanged_s / 10).clamp(0, i64::from(SECONDS_MAX))).ok()
}

/// Statuses that may be kept without an explicit lifetime (RFC 9110 section 15.1), save 206.
pub(crate) fn cacheable_by_default(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// The response's `Date`, in seconds since 1970.
fn date_of(exchange: &Exchange<'_>) -> Option<i64> {
    let now_s = whole_seconds(exchange.response_unix_ms);
    date::parse(exchange.response.get(DATE)?.as_bytes(), now_s)
}

pub(crate) fn whole_seconds(unix_ms: u64) -> i64 {
    i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use http::{Method, header::HeaderName};
    use proptest::prelude::*;
    use region_config::Policy;

    use super::*;

    /// 2026-11-22T00:00:00Z
    const NOW_MS: u64 = 1_795_305_600_000;
    const DATE_NOW: &str = "Sun, 22 Nov 2026 00:00:00 GMT";

    fn freshness(fields: &[(&str, &str)], policy: &Policy, status: u16) -> (Freshness, bool) {
        let mut response = HeaderMap::new();
        for (name, value) in fields {
            response.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        let targeted = Directives::targeted(&response);
        let exchange = Exchange {
            method: &Method::GET,
            request: &HeaderMap::new(),
            status: StatusCode::from_u16(status).unwrap(),
            response: &response,
            path: "/",
            request_unix_ms: NOW_MS,
            response_unix_ms: NOW_MS,
            policy,
            object_bytes_max: 0,
        };
        Freshness::of(&exchange, &targeted.unwrap_or_else(|| Directives::of(&response)), targeted.is_some())
    }

    fn check_lifetime(fields: &[(&str, &str)], expected: Option<u32>) {
        let (found, explicit) = freshness(fields, &Policy::default(), 200);
        assert_eq!(explicit.then_some(found.lifetime_s), expected, "{fields:?}");
    }

    fn check_age(fields: &[(&str, &str)], expected: u32) {
        let (found, _) = freshness(fields, &Policy::default(), 200);
        assert_eq!(found.age_s(NOW_MS), expected, "{fields:?}");
    }

    #[test]
    fn s_maxage_beats_max_age_beats_expires() {
        let expires = ("expires", "Sun, 22 Nov 2026 00:01:00 GMT");
        let date = ("date", DATE_NOW);
        check_lifetime(&[("cache-control", "max-age=1, s-maxage=3600"), expires, date], Some(3600));
        check_lifetime(&[("cache-control", "max-age=0"), expires, date], Some(0));
        check_lifetime(&[("cache-control", "foo"), expires, date], Some(60));
        check_lifetime(&[date], None);
    }

    #[test]
    fn expires_counts_from_date() {
        let expires = ("expires", "Sun, 22 Nov 2026 00:01:00 GMT");
        check_lifetime(&[expires, ("date", "Sat, 21 Nov 2026 23:59:00 GMT")], Some(120));
        check_lifetime(&[expires, ("date", "Sun, 22 Nov 2026 00:01:00 GMT")], Some(0));
        check_lifetime(&[expires], Some(60));
        check_lifetime(&[expires, ("date", "rubbish")], Some(60));
    }

    #[test]
    fn an_expires_that_cannot_be_read_is_past() {
        check_lifetime(&[("expires", "0"), ("date", DATE_NOW)], Some(0));
        let twice = [("expires", "Sun, 22 Nov 2026 00:01:00 GMT"), ("expires", "-1"), ("date", DATE_NOW)];
        check_lifetime(&twice, Some(0));
    }

    #[test]
    fn a_targeted_field_replaces_cache_control_and_expires_wholly() {
        let expires = ("expires", "Sun, 22 Nov 2026 00:01:00 GMT");
        check_lifetime(&[("cache-control", "max-age=1"), ("cdn-cache-control", "max-age=60")], Some(60));
        check_lifetime(&[("cache-control", "s-maxage=60"), ("cdn-cache-control", "max-age=1")], Some(1));
        check_lifetime(&[expires, ("cache-control", "max-age=9"), ("cdn-cache-control", "public")], None);
        check_lifetime(&[("cache-control", "max-age=9"), ("cdn-cache-control", "max-age=x,")], Some(9));
    }

    #[test]
    fn age_is_the_first_number_of_the_first_line() {
        check_age(&[("age", "30")], 30);
        check_age(&[("age", "7200, 0")], 7200);
        check_age(&[("age", "0"), ("age", "7200")], 0);
        for rubbish in ["abc", "-7200", "7200.0", "7200;foo=bar", ""] {
            check_age(&[("age", rubbish)], 0);
        }
    }

    #[test]
    fn a_huge_age_is_over_every_lifetime() {
        for age in ["2147483647", "2147483648", "2147483649", "99999999999999999999"] {
            let (found, _) =
                freshness(&[("age", age), ("cache-control", "max-age=99999999999")], &Policy::default(), 200);
            assert!(found.ttl_s(NOW_MS) <= 0, "{age}");
        }
    }

    #[test]
    fn an_old_date_makes_a_response_old() {
        check_age(&[("date", "Sat, 21 Nov 2026 23:00:00 GMT")], 3600);
        check_age(&[("date", "Sat, 21 Nov 2026 23:00:00 GMT"), ("age", "7200")], 7200);
        check_age(&[("date", "Sun, 22 Nov 2026 01:00:00 GMT"), ("age", "5")], 5);
    }

    #[test]
    fn age_ticks_from_what_came() {
        let (found, _) = freshness(&[("age", "30"), ("date", DATE_NOW)], &Policy::default(), 200);
        assert_eq!(found.age_s(NOW_MS + 2_999), 32);
        assert_eq!(found.age_s(NOW_MS + 3_000), 33);
        assert_eq!(found.age_s(NOW_MS - 100_000), 0, "a clock that steps back");
    }

    #[test]
    fn a_lifetime_ends_when_age_reaches_it() {
        let (found, _) = freshness(&[("cache-control", "max-age=2")], &Policy::default(), 200);
        assert_eq!(found.ttl_s(NOW_MS + 1_999), 1);
        assert_eq!(found.ttl_s(NOW_MS + 2_000), 0);
    }

    #[test]
    fn the_routes_default_is_for_responses_that_name_no_lifetime_and_short_for_errors() {
        let policy = Policy { default_ttl_s: Some(300), ..Policy::default() };
        for (status, expected) in [(200, 300), (404, 10), (308, 300)] {
            assert_eq!(freshness(&[], &policy, status).0.lifetime_s, expected, "{status}");
        }
        assert!(!freshness(&[], &policy, 500).1);
        assert_eq!(freshness(&[("cache-control", "max-age=1")], &policy, 200).0.lifetime_s, 1);
    }

    #[test]
    fn a_lifetime_is_guessed_only_where_the_route_wants_it() {
        let fields = [("last-modified", "Sat, 21 Nov 2026 00:00:00 GMT"), ("date", DATE_NOW)];
        let policy = Policy { heuristic: true, ..Policy::default() };
        assert_eq!(freshness(&fields, &policy, 200).0.lifetime_s, 8640);
        assert_eq!(freshness(&fields, &policy, 404).0.lifetime_s, 10, "errors are kept shortly");
        assert!(!freshness(&fields, &policy, 599).1);
        let public = [fields[0], fields[1], ("cache-control", "public")];
        assert_eq!(freshness(&public, &policy, 599).0.lifetime_s, 10);
        assert!(!freshness(&fields, &Policy::default(), 200).1);
        let old = [("last-modified", "Sat, 21 Nov 1998 00:00:00 GMT")];
        assert_eq!(freshness(&old, &policy, 200).0.lifetime_s, 86_400);
    }

    #[test]
    fn an_explicit_window_stands_beside_s_maxage_but_not_beside_must_revalidate() {
        let window =
            |line: &str| freshness(&[("cache-control", line)], &Policy::default(), 200).0.stale_while_revalidate_s;
        assert_eq!(window("max-age=1, stale-while-revalidate=60"), 60);
        assert_eq!(window("s-maxage=1, stale-while-revalidate=60"), 60);
        assert_eq!(window("max-age=1, must-revalidate, stale-while-revalidate=60"), 0);
        assert_eq!(window("max-age=1, proxy-revalidate, stale-while-revalidate=60"), 0);
    }

    proptest! {
        /// RFC 9111 section 4.2.3 as it is written there, in whole seconds.
        #[test]
        fn freshness_agrees_with_the_formula_of_the_rfc(
            age_value in 0u32..10_000, date_ago in -100i64..10_000, delay in 0u64..100, lifetime in 0u32..10_000,
            resident in 0u64..20_000,
        ) {
            let response_time = NOW_MS / 1000;
            let date_value = i64::try_from(response_time).unwrap() - date_ago;
            let mut response = HeaderMap::new();
            response.insert(AGE, age_value.into());
            response.insert("cache-control", format!("max-age={lifetime}").parse().unwrap());
            response.insert(DATE, imf(date_value).parse().unwrap());
            let exchange = Exchange {
                method: &Method::GET,
                request: &HeaderMap::new(),
                status: StatusCode::OK,
                response: &response,
                path: "/",
                request_unix_ms: NOW_MS - delay * 1000,
                response_unix_ms: NOW_MS,
                policy: &Policy::default(),
                object_bytes_max: 0,
            };
            let (found, _) = Freshness::of(&exchange, &Directives::of(&response), false);

            let apparent_age = u64::try_from(date_ago).unwrap_or(0);
            let corrected_age_value = u64::from(age_value) + delay;
            let current_age = apparent_age.max(corrected_age_value) + resident;
            let now = NOW_MS + resident * 1000;
            prop_assert_eq!(u64::from(found.age_s(now)), current_age);
            prop_assert_eq!(found.ttl_s(now) > 0, u64::from(lifetime) > current_age);
        }
    }

    /// A date near [`NOW_MS`] as text: only hours, minutes and seconds differ, over two days.
    fn imf(unix_s: i64) -> String {
        let (day, rest) = (unix_s.div_euclid(86_400), unix_s.rem_euclid(86_400));
        let first = i64::try_from(NOW_MS / 1000).unwrap().div_euclid(86_400);
        let day = 22 + day - first;
        format!("Sun, {day:02} Nov 2026 {:02}:{:02}:{:02} GMT", rest / 3600, rest / 60 % 60, rest % 60)
    }
}
