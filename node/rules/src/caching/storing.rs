//! Whether a response is kept (RFC 9111 section 3).

use http::{
    HeaderMap, HeaderName, Method, StatusCode,
    header::{AUTHORIZATION, CONTENT_LENGTH, ETAG, LAST_MODIFIED, SET_COOKIE},
};
use region_config::{CacheMode, Policy};

use super::{
    Freshness, Reason, Tags, VarySpec, date,
    directives::Directives,
    fields::surrogate_tags,
    freshness::{cacheable_by_default, whole_seconds},
    vary::Vary,
};

/// For how long an address whose response forbids storing is remembered as such, in seconds.
const FORBIDDEN_S: u32 = 120;
/// For how long an address whose response could not be kept this time is remembered as such, in seconds.
const UNKEPT_S: u32 = 10;

const SET_COOKIE2: HeaderName = HeaderName::from_static("set-cookie2");

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
        Ok((freshness, vary)) => Storing::Keep { freshness, vary },
        Err(reason) => Storing::Refuse { reason, hit_for_miss_s: hit_for_miss_s(reason) },
    }
}

fn keep(exchange: &Exchange<'_>) -> Result<(Freshness, Option<VarySpec>), Reason> {
    request_allows(exchange)?;
    status_allows(exchange.status)?;
    let targeted = Directives::targeted(exchange.response);
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
    if matches!(surrogate_tags(exchange.response), Tags::Oversize) {
        return Err(Reason::TagsOversize);
    }
    let (freshness, has_lifetime) = Freshness::of(exchange, &directives, targeted.is_some());
    if !has_lifetime && !(cacheable_by_default(exchange.status) || directives.public) {
        return Err(Reason::Status);
    }
    worth_keeping(exchange, &freshness, has_lifetime)?;
    Ok((freshness, vary))
}

/// What the request itself rules out.
fn request_allows(exchange: &Exchange<'_>) -> Result<(), Reason> {
    if exchange.policy.cache == CacheMode::Off {
        return Err(Reason::CacheOff);
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
    if exchange.response.contains_key(SET_COOKIE) || exchange.response.contains_key(SET_COOKIE2) {
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
        | Reason::TagsOversize => UNKEPT_S,
        _ => 0,
    }
}
