//! Makes answers out of decisions: what the client is sent, and what is counted about it.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header, request::Parts};
use rules::caching::{
    CacheStatus, Reason, conditional,
    ranges::{self, Selection},
    status::{CacheName, Forward},
};
use wire::entry::Object;

use super::{
    body::{Body, Source},
    sites::Served,
    spine::{is_head, stored_body},
};
use crate::{
    fill::flight::{Failure, Head, Reader},
    observe::Outcome,
    snapshot::Shared,
};

/// RFC 9211.
static CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// An answer, and how it came about.
pub struct Reply {
    /// What is sent.
    pub response: Response<Body>,
    /// How it came about.
    pub outcome: Outcome,
    /// Why it was no plain hit.
    pub reason: Option<Reason>,
}

/// How a stored object came to be served.
#[derive(Debug, Clone, Copy)]
pub enum How {
    /// Fresh from the store, for another so many seconds.
    Hit {
        /// Seconds until it is stale; negative afterwards.
        ttl_s: i64,
    },
    /// Though past its lifetime.
    Stale {
        /// Seconds until it is stale; 0 or less if it is so by age.
        ttl_s: i64,
        /// Why it was allowed.
        reason: Reason,
    },
    /// The origin confirmed it.
    Renewed {
        /// Why it had to be asked.
        reason: Reason,
        /// Whether somebody else's question was shared.
        collapsed: bool,
    },
}

impl How {
    fn outcome(self) -> Outcome {
        match self {
            Self::Hit { .. } => Outcome::Hit,
            Self::Stale { .. } => Outcome::Stale,
            Self::Renewed { .. } => Outcome::Revalidated,
        }
    }

    fn reason(self) -> Option<Reason> {
        match self {
            Self::Hit { .. } => None,
            Self::Stale { reason, .. } | Self::Renewed { reason, .. } => Some(reason),
        }
    }

    fn cache_status(self, cache: &CacheName) -> HeaderValue {
        match self {
            Self::Hit { ttl_s } => CacheStatus::hit(ttl_s),
            Self::Stale { ttl_s, reason } => CacheStatus::hit(ttl_s).because(reason),
            Self::Renewed { reason, collapsed } => CacheStatus {
                collapsed,
                fwd_status: Some(StatusCode::NOT_MODIFIED),
                ..CacheStatus::forwarded(forward(reason)).because(reason)
            },
        }
        .value(cache)
    }
}

/// The standard's word for why a request went upstream (RFC 9211 section 2.2); ours, finer, stands in `detail`.
fn forward(reason: Reason) -> Forward {
    match reason {
        Reason::UriMiss | Reason::Partial => Forward::UriMiss,
        Reason::VaryMiss => Forward::VaryMiss,
        Reason::Stale | Reason::NoCache | Reason::RequestNoCache | Reason::Purged | Reason::SoftPurged => {
            Forward::Stale
        }
        Reason::Method => Forward::Method,
        Reason::CacheOff | Reason::LiveRoute | Reason::RequestBody => Forward::Bypass,
        _ => Forward::Miss,
    }
}

/// What is said of a request that went upstream: why, what came back, and whether it was kept.
pub fn forwarded(reason: Reason, status: StatusCode) -> CacheStatus {
    let own_word = forward(reason);
    let status = CacheStatus { fwd_status: Some(status), ..CacheStatus::forwarded(own_word) };
    // the same word twice tells nothing
    if matches!(reason, Reason::UriMiss | Reason::VaryMiss | Reason::Stale | Reason::Method) {
        return status;
    }
    status.because(reason)
}

/// Serves a stored object; none if its body is not whole any more.
pub fn stored(
    shared: &Shared,
    served: &Arc<Served>,
    parts: &Parts,
    object: &Object,
    age_s: u32,
    how: How,
) -> Option<Reply> {
    let source = stored_body(shared, object)?;
    let mut headers = object.headers.clone();
    headers.insert(header::AGE, HeaderValue::from(age_s));
    headers.insert(CACHE_STATUS.clone(), how.cache_status(&shared.cache_name));
    let response = shape(served, parts, object.status, headers, Body::from(source), Some(object.body.length()));
    Some(Reply { response, outcome: how.outcome(), reason: how.reason() })
}

/// Serves a response that is being filled.
pub fn filled(
    shared: &Shared,
    served: &Arc<Served>,
    parts: &Parts,
    head: &Head,
    reader: Reader,
    reason: Reason,
    collapsed: bool,
) -> Reply {
    let mut headers = head.headers.clone();
    let status = CacheStatus { collapsed, ..forwarded(reason, head.status) };
    let status = match head.stored {
        Ok(()) => CacheStatus { stored: true, detail: head.shaped.or(status.detail), ..status },
        Err(refused) => status.because(refused),
    };
    append_status(shared, &mut headers, status);
    let body = Body::from(Source::Flight(reader));
    let response = shape(served, parts, head.status, headers, body, head.length);
    Reply { response, outcome: Outcome::Miss, reason: Some(reason) }
}

/// Adds this hop's member behind those of the hops nearer to the origin (RFC 9211 section 2).
pub fn append_status(shared: &Shared, headers: &mut HeaderMap, own: CacheStatus) {
    headers.append(CACHE_STATUS.clone(), own.value(&shared.cache_name));
}

/// Conditions, ranges and `HEAD`, applied to a whole response.
pub fn shape(
    served: &Arc<Served>,
    parts: &Parts,
    status: StatusCode,
    mut headers: HeaderMap,
    body: Body,
    length: Option<u64>,
) -> Response<Body> {
    if conditional::precondition_failed(&parts.headers, status, &headers) {
        return bare(StatusCode::PRECONDITION_FAILED, conditional::headers_of_304(&headers));
    }
    if conditional::not_modified(&parts.headers, status, &headers) {
        return bare(StatusCode::NOT_MODIFIED, conditional::headers_of_304(&headers));
    }
    let selection = match length {
        Some(length) if parts.headers.contains_key(header::RANGE) => {
            ranges::select(&parts.headers, status, &headers, length)
        }
        _ => Selection::Whole,
    };
    let mut response = match selection {
        Selection::Whole => {
            // a 204 has no content, and says nothing of its length (RFC 9110 section 8.6)
            if let Some(length) = length
                && status != StatusCode::NO_CONTENT
            {
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            }
            with(status, headers, body)
        }
        Selection::Part { first, last } => {
            headers.insert(header::CONTENT_RANGE, content_range(first, last, length.unwrap_or(0)));
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(last - first + 1));
            with(StatusCode::PARTIAL_CONTENT, headers, body.cut(first, last))
        }
        Selection::Unsatisfiable => {
            let mut headers = conditional::headers_of_304(&headers);
            if let Ok(value) = HeaderValue::try_from(format!("bytes */{}", length.unwrap_or(0))) {
                headers.insert(header::CONTENT_RANGE, value);
            }
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(0));
            bare(StatusCode::RANGE_NOT_SATISFIABLE, headers)
        }
    };
    if is_head(&parts.method) {
        *response.body_mut() = Body::empty();
        return response;
    }
    response.map(|body| body.counted(Arc::clone(&served.counters)))
}

fn content_range(first: u64, last: u64, length: u64) -> HeaderValue {
    HeaderValue::try_from(format!("bytes {first}-{last}/{length}"))
        .unwrap_or_else(|_| HeaderValue::from_static("bytes */*"))
}

fn with(status: StatusCode, headers: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn bare(status: StatusCode, headers: HeaderMap) -> Response<Body> {
    with(status, headers, Body::empty())
}

/// An answer of our own: a line of text with the reason.
fn own(status: StatusCode, reason: &str, meaning: &str) -> Response<Body> {
    let text = format!("{} {}\n{reason}: {meaning}\n", status.as_u16(), status.canonical_reason().unwrap_or("Error"));
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(text.len()));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    }
    with(status, headers, Body::full(Bytes::from(text)))
}

/// Refuses a request to a site of this node.
pub fn refuse(shared: &Shared, status: StatusCode, reason: Reason) -> Reply {
    let mut response = own(status, reason.as_str(), reason.meaning());
    append_status(shared, response.headers_mut(), CacheStatus::refused(reason));
    Reply { response, outcome: Outcome::Refused, reason: Some(reason) }
}

/// Refuses what cannot be understood in only one way, and closes: nobody can know what follows on the connection.
pub fn refuse_and_close(status: StatusCode, reason: Reason) -> Response<Body> {
    let mut response = own(status, reason.as_str(), reason.meaning());
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Not a site of this node (RFC 9110 section 15.5.20). Says nothing about what was asked for.
pub fn misdirected(reason: Reason) -> Response<Body> {
    own(StatusCode::MISDIRECTED_REQUEST, reason.as_str(), reason.meaning())
}

/// Upstream gave nothing, and nothing old may be served.
pub fn failed(shared: &Shared, failure: &Failure) -> Reply {
    let mut response = own(failure.status, failure.reason.as_str(), failure.reason.meaning());
    append_status(shared, response.headers_mut(), CacheStatus::forwarded(Forward::Miss).because(failure.reason));
    Reply { response, outcome: Outcome::Error, reason: Some(failure.reason) }
}
