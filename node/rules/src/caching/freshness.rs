//! Age and lifetime (RFC 9111 section 4.2).

use http::{
    HeaderMap, StatusCode,
    header::{AGE, DATE, EXPIRES, LAST_MODIFIED},
};
use region_config::Policy;

use super::{
    Exchange, date,
    directives::{Directives, SECONDS_MAX, number},
    lists::members,
};

/// The longest lifetime that is guessed, in seconds (RFC 9111 section 4.2.2).
const HEURISTIC_MAX_S: i64 = 86_400;

/// The longest lifetime that a route's default gives to an error, in seconds.
const ERROR_DEFAULT_MAX_S: u32 = 10;

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
    default_s(exchange.policy, exchange.status).or_else(|| heuristic_s(exchange, directives))
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

/// The route's default lifetime, for a status that is cacheable without being told; short for errors.
fn default_s(policy: &Policy, status: StatusCode) -> Option<u32> {
    let default = policy.default_ttl_s?;
    match status.as_u16() {
        200 | 203 | 204 | 300 | 301 | 308 => Some(default),
        404 | 410 => Some(default.min(ERROR_DEFAULT_MAX_S)),
        _ => None,
    }
}

/// A tenth of the time since the response last changed (RFC 9111 section 4.2.2), where the route wants guesses.
fn heuristic_s(exchange: &Exchange<'_>, directives: &Directives) -> Option<u32> {
    if !exchange.policy.heuristic || !(cacheable_by_default(exchange.status) || directives.public) {
        return None;
    }
    let now_s = whole_seconds(exchange.response_unix_ms);
    let changed_s = date::parse(exchange.response.get(LAST_MODIFIED)?.as_bytes(), now_s)?;
    let unchanged_s = date_of(exchange).unwrap_or(now_s).saturating_sub(changed_s);
    u32::try_from((unchanged_s / 10).clamp(0, HEURISTIC_MAX_S)).ok()
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
