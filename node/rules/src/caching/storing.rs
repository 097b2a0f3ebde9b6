//! Whether a response is kept (RFC 9111 section 3).

use http::{
    HeaderMap, Method, StatusCode,
    header::{AUTHORIZATION, CONTENT_LENGTH, ETAG, EXPIRES, LAST_MODIFIED, SET_COOKIE},
};
use region_config::{CacheMode, Class, Policy};

use super::{
    Freshness, Reason, Tags, VarySpec, date,
    deception::deceives,
    directives::Directives,
    fields::surrogate_tags,
    freshness::{cacheable_by_default, whole_seconds},
    groups::{Groups, groups},
    lifetime,
    surrogate::targeted,
    vary::Vary,
};

/// For how long an address whose response forbids storing is remembered as such, in seconds.
const FORBIDDEN_S: u32 = 120;
/// For how long an address whose response could not be kept this time is remembered as such, in seconds.
const UNKEPT_S: u32 = 10;

/// A request that was sent to the origin, and the head of what came back.
#[derive(Debug, Clone, Copy)]
pub struct Exchange<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// The request's fields, as the client sent them.
    pub request: &'a HeaderMap,
    /// The response's status; after a 304, the stored response's.
    pub status: StatusCode,
    /// The response's fields as they came, with `Age`; after a 304, what [`freshen`](super::conditional::freshen) gave.
    pub response: &'a HeaderMap,
    /// The request's path, in normal form.
    pub path: &'a str,
    /// When the request was sent, in ms since 1970.
    pub request_unix_ms: u64,
    /// When the response's head came, in ms since 1970.
    pub response_unix_ms: u64,
    /// The route's policy.
    pub policy: &'a Policy,
    /// The largest body that is kept, in bytes.
    pub object_bytes_max: u64,
}

/// Whether a response is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Storing {
    /// Keep it, if it arrives whole.
    Keep {
        /// How long it may be used.
        freshness: Freshness,
        /// The request fields that it varies by.
        vary: Option<VarySpec>,
        /// Why its lifetime is not the one that it names, or why it falls to purges that do not name it, if so.
        shaped: Option<Reason>,
    },
    /// Do not.
    Refuse {
        /// Why.
        reason: Reason,
        /// For how long requests for this address should not wait for each other, in seconds; 0 if this request
        /// says nothing about the next.
        hit_for_miss_s: u32,
    },
}

/// Decides whether a response is kept.
#[must_use]
pub fn storing(exchange: &Exchange<'_>) -> Storing {
    match keep(exchange) {
        Ok(kept) => kept,
        Err(reason) => Storing::Refuse { reason, hit_for_miss_s: hit_for_miss_s(reason) },
    }
}

fn keep(exchange: &Exchange<'_>) -> Result<Storing, Reason> {
    request_allows(exchange)?;
    status_allows(exchange.status)?;
    let targeted = targeted(exchange.response);
    let directives = targeted.unwrap_or_else(|| Directives::of(exchange.response));
    directives_allow(exchange, &directives)?;
    let vary = match Vary::of(exchange.response) {
        Vary::Nothing => None,
        Vary::Fields(spec) => Some(spec),
        Vary::Anything => return Err(Reason::VaryStar),
        Vary::TooWide => return Err(Reason::VaryTooWide),
    };
    if content_length(exchange.response).is_some_and(|length| length > exchange.object_bytes_max) {
        return Err(Reason::TooLarge);
    }
    let (mut freshness, has_lifetime) = Freshness::of(exchange, &directives, targeted.is_some());
    let storable = has_lifetime || directives.public || cacheable_by_default(exchange.status);
    if !storable {
        return Err(Reason::Status);
    }
    let shaped = lifetime::bound(exchange.policy, exchange.status, &mut freshness, has_lifetime);
    is_what_it_seems(exchange, &directives, targeted.is_some(), shaped)?;
    worth_keeping(exchange, &freshness, has_lifetime)?;
    let shaped = shaped.or_else(|| oversize(exchange.response).then_some(Reason::TagsOversize));
    Ok(Storing::Keep { freshness, vary, shaped })
}

/// Whether it has more or longer tags than are kept: then it falls to every purge by a tag.
fn oversize(response: &HeaderMap) -> bool {
    matches!(surrogate_tags(response), Tags::Oversize) || matches!(groups(true, "", response), Groups::Oversize)
}

/// What may be a private page under a file's name is not kept, unless the origin itself gave it its lifetime. On a static
/// route that counts for nothing: there, lifetimes come with the place.
fn is_what_it_seems(
    exchange: &Exchange<'_>,
    directives: &Directives,
    targeted: bool,
    shaped: Option<Reason>,
) -> Result<(), Reason> {
    let named = directives.s_maxage_s.or(directives.max_age_s).is_some()
        || (!targeted && exchange.response.contains_key(EXPIRES));
    let trusted = named && !matches!(shaped, Some(Reason::RouteTtl | Reason::RouteBound));
    if trusted && exchange.policy.class != Class::Static {
        return Ok(());
    }
    deceives(exchange.path, exchange.status, exchange.response).map_or(Ok(()), Err)
}

/// What the request itself rules out.
fn request_allows(exchange: &Exchange<'_>) -> Result<(), Reason> {
    if exchange.policy.cache == CacheMode::Off {
        return Err(Reason::CacheOff);
    }
    if exchange.policy.class == Class::Live {
        return Err(Reason::LiveRoute);
    }
    if exchange.method == Method::HEAD {
        return Err(Reason::Head);
    }
    if exchange.method != Method::GET {
        return Err(Reason::Method);
    }
    if Directives::of(exchange.request).no_store {
        return Err(Reason::RequestNoStore);
    }
    Ok(())
}

/// Any final status may be kept if it says for how long, but for those that answer only this one request.
fn status_allows(status: StatusCode) -> Result<(), Reason> {
    match status.as_u16() {
        100..=199 => Err(Reason::Interim),
        206 => Err(Reason::Partial),
        304 | 412 | 416 => Err(Reason::RequestSpecific),
        _ => Ok(()),
    }
}

/// What the directives rule out (RFC 9111 sections 3, 3.5 and 5.2.2).
fn directives_allow(exchange: &Exchange<'_>, directives: &Directives) -> Result<(), Reason> {
    if directives.must_understand && !understood(exchange.status) {
        return Err(Reason::MustUnderstand);
    }
    if directives.no_store && !directives.must_understand {
        return Err(Reason::NoStore);
    }
    if directives.private {
        return Err(Reason::Private);
    }
    let shareable = directives.public || directives.must_revalidate || directives.s_maxage_s.is_some();
    if exchange.request.contains_key(AUTHORIZATION) && !shareable {
        return Err(Reason::Authorization);
    }
    // the obsolete `Set-Cookie2` sets nothing (RFC 6265 section 9.4)
    if exchange.response.contains_key(SET_COOKIE) {
        return Err(Reason::SetCookie);
    }
    Ok(())
}

/// Statuses whose caching rules this code knows (RFC 9111 section 5.2.2.3).
fn understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200..=204 | 300..=303 | 307 | 308 | 400..=406 | 408..=411 | 413..=415 | 417 | 421 | 422 | 426 | 428 | 429 | 431 | 451 | 500..=505 | 511
    )
}

/// A response that could never be served, neither fresh nor stale nor after asking, only takes room, and would make
/// requests wait for each other in vain.
fn worth_keeping(exchange: &Exchange<'_>, freshness: &Freshness, has_lifetime: bool) -> Result<(), Reason> {
    let fresh = freshness.ttl_s(exchange.response_unix_ms) > 0 && !freshness.always_revalidate;
    let window_s = freshness.stale_while_revalidate_s.max(freshness.stale_if_error_s.unwrap_or(0));
    let stale = window_s > 0 && !freshness.always_revalidate && !freshness.must_revalidate;
    if fresh || stale || can_be_validated(exchange) {
        return Ok(());
    }
    Err(if has_lifetime { Reason::Expired } else { Reason::NoLifetime })
}

fn can_be_validated(exchange: &Exchange<'_>) -> bool {
    let now_s = whole_seconds(exchange.response_unix_ms);
    let changed = exchange.response.get(LAST_MODIFIED);
    exchange.response.contains_key(ETAG) || changed.is_some_and(|line| date::parse(line.as_bytes(), now_s).is_some())
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// How much this refusal says about the next request for the address.
const fn hit_for_miss_s(reason: Reason) -> u32 {
    match reason {
        Reason::NoStore | Reason::Private | Reason::VaryStar | Reason::VaryTooWide | Reason::TooLarge => FORBIDDEN_S,
        Reason::Authorization
        | Reason::SetCookie
        | Reason::NoLifetime
        | Reason::Expired
        | Reason::MustUnderstand
        | Reason::Status
        | Reason::DeceptivePath
        | Reason::ContentMismatch => UNKEPT_S,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use http::HeaderName;

    use super::*;

    /// 2026-11-22T00:00:00Z
    const NOW_MS: u64 = 1_795_305_600_000;

    fn fields(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn decide(method: &str, request: &[(&str, &str)], status: u16, response: &[(&str, &str)]) -> Storing {
        storing(&Exchange {
            method: &Method::from_bytes(method.as_bytes()).unwrap(),
            request: &fields(request),
            status: StatusCode::from_u16(status).unwrap(),
            response: &fields(response),
            path: "/",
            request_unix_ms: NOW_MS,
            response_unix_ms: NOW_MS,
            policy: &Policy::default(),
            object_bytes_max: 1000,
        })
    }

    fn check(request: &[(&str, &str)], status: u16, response: &[(&str, &str)], expected: Result<(), Reason>) {
        let found = match decide("GET", request, status, response) {
            Storing::Keep { .. } => Ok(()),
            Storing::Refuse { reason, .. } => Err(reason),
        };
        assert_eq!(found, expected, "{request:?} {status} {response:?}");
    }

    #[test]
    fn an_explicit_lifetime_makes_any_final_status_storable() {
        for status in [200, 203, 204, 299, 301, 302, 303, 307, 308, 400, 404, 410, 499, 500, 502, 503, 504, 599, 999] {
            check(&[], status, &[("cache-control", "max-age=60")], Ok(()));
            check(&[], status, &[("expires", "Sun, 22 Nov 2026 00:01:00 GMT")], Ok(()));
        }
    }

    #[test]
    fn a_status_that_answers_only_this_request_is_never_stored() {
        let fresh = [("cache-control", "max-age=60")];
        check(&[], 206, &fresh, Err(Reason::Partial));
        check(&[], 304, &fresh, Err(Reason::RequestSpecific));
        check(&[], 412, &fresh, Err(Reason::RequestSpecific));
        check(&[], 416, &fresh, Err(Reason::RequestSpecific));
        check(&[], 103, &fresh, Err(Reason::Interim));
        check(&[("range", "bytes=0-1")], 200, &fresh, Ok(()));
    }

    #[test]
    fn only_get_fills() {
        let refused = |method| match decide(method, &[], 200, &[("cache-control", "max-age=60")]) {
            Storing::Refuse { reason, hit_for_miss_s: 0 } => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused("HEAD"), Reason::Head);
        assert_eq!(refused("POST"), Reason::Method);
        assert_eq!(refused("M-SEARCH"), Reason::Method);
    }

    #[test]
    fn prohibitions_win_over_every_lifetime() {
        check(&[], 200, &[("cache-control", "max-age=60, no-store")], Err(Reason::NoStore));
        check(&[], 200, &[("cache-control", "max-age=60, private")], Err(Reason::Private));
        check(&[], 200, &[("cache-control", "max-age=60, private=\"x\"")], Err(Reason::Private));
        check(&[], 200, &[("cache-control", "max-age=60"), ("vary", "a"), ("vary", "*")], Err(Reason::VaryStar));
        check(&[], 200, &[("cache-control", "public, max-age=60"), ("set-cookie", "a=b")], Err(Reason::SetCookie));
        check(&[("cache-control", "no-store")], 200, &[("cache-control", "max-age=60")], Err(Reason::RequestNoStore));
    }

    #[test]
    fn a_targeted_field_decides_alone() {
        let cdn = |value| ("cdn-cache-control", value);
        check(&[], 200, &[("cache-control", "no-store"), cdn("max-age=60")], Ok(()));
        check(&[], 200, &[("cache-control", "max-age=60"), cdn("no-store")], Err(Reason::NoStore));
        check(&[], 200, &[("cache-control", "max-age=60"), cdn("private")], Err(Reason::Private));
        check(&[], 200, &[("cache-control", "max-age=60"), cdn("no-cache")], Err(Reason::NoLifetime));
        check(&[], 200, &[("cache-control", "no-store"), cdn("max-age=60, &&&")], Err(Reason::NoStore));
        check(&[], 200, &[("cache-control", "no-store"), cdn("max-age=\"60\"")], Err(Reason::NoStore));
    }

    #[test]
    fn must_understand_overrules_no_store_for_a_known_status_only() {
        let fields = [("cache-control", "max-age=60, no-store, must-understand")];
        check(&[], 200, &fields, Ok(()));
        check(&[], 599, &fields, Err(Reason::MustUnderstand));
        check(&[], 599, &[("cache-control", "max-age=60, must-understand")], Err(Reason::MustUnderstand));
    }

    #[test]
    fn an_authenticated_response_is_shared_only_if_it_says_so() {
        let request = [("authorization", "x")];
        check(&request, 200, &[("cache-control", "max-age=60")], Err(Reason::Authorization));
        check(&request, 200, &[("cache-control", "max-age=60, proxy-revalidate")], Err(Reason::Authorization));
        for line in ["max-age=60, public", "max-age=60, must-revalidate", "s-maxage=60"] {
            check(&request, 200, &[("cache-control", line)], Ok(()));
        }
    }

    #[test]
    fn without_a_lifetime_only_what_can_be_revalidated_is_kept() {
        check(&[], 200, &[], Err(Reason::NoLifetime));
        check(&[], 200, &[("etag", "\"a\"")], Ok(()));
        check(&[], 200, &[("last-modified", "Sun, 22 Nov 2026 00:00:00 GMT")], Ok(()));
        check(&[], 200, &[("last-modified", "rubbish")], Err(Reason::NoLifetime));
        check(&[], 200, &[("cache-control", "no-cache"), ("etag", "\"a\"")], Ok(()));
        check(&[], 200, &[("cache-control", "max-age=0")], Err(Reason::Expired));
        check(&[], 200, &[("cache-control", "max-age=60"), ("age", "60")], Err(Reason::Expired));
        check(&[], 200, &[("cache-control", "max-age=0, stale-while-revalidate=5")], Ok(()));
        check(&[], 500, &[("etag", "\"a\"")], Err(Reason::Status));
        check(&[], 500, &[("etag", "\"a\""), ("cache-control", "public")], Ok(()));
    }

    #[test]
    fn what_is_too_large_is_not_kept() {
        let fresh = ("cache-control", "max-age=60");
        check(&[], 200, &[fresh, ("content-length", "1000")], Ok(()));
        check(&[], 200, &[fresh, ("content-length", "1001")], Err(Reason::TooLarge));
        // what has too many tags falls to every purge by a tag instead
        let tags = "x ".repeat(300) + &"y".repeat(300);
        check(&[], 200, &[fresh, ("surrogate-key", &tags)], Ok(()));
    }

    #[test]
    fn a_response_that_forbids_storing_is_remembered_so_that_requests_do_not_wait() {
        for (line, least) in [("no-store", 60), ("private", 60), ("max-age=0", 5)] {
            let Storing::Refuse { hit_for_miss_s, .. } = decide("GET", &[], 200, &[("cache-control", line)]) else {
                panic!("{line} was kept");
            };
            assert!(hit_for_miss_s >= least, "{line}");
        }
        let one_off = decide("GET", &[("cache-control", "no-store")], 200, &[("cache-control", "max-age=60")]);
        assert_eq!(one_off, Storing::Refuse { reason: Reason::RequestNoStore, hit_for_miss_s: 0 });
    }

    #[test]
    fn what_it_varies_by_is_kept_with_it() {
        let response = [("cache-control", "max-age=60"), ("vary", "Foo, accept"), ("vary", "foo")];
        let Storing::Keep { vary: Some(VarySpec(names)), .. } = decide("GET", &[], 200, &response) else {
            panic!("not kept");
        };
        assert_eq!(names.iter().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept", "foo"]);
    }
}
