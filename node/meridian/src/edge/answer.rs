//! Makes answers out of decisions: what the client is sent, and what is counted about it.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header, request::Parts};
use rules::caching::{
    CacheStatus, Reason, conditional,
    ranges::{self, Selection, Span},
    status::{CacheName, Forward},
};
use rules::key::Key;
use wire::entry::{self, Object};

use super::{
    body::{Body, Source},
    chunks::ChunkReader,
    coded::{self, Coded, Codes},
    sites::Served,
    spine::is_head,
};
use crate::{
    fill::{
        Wanted,
        flight::{Failure, Head},
        pieces::Reader,
        random_name,
        slices::{self, Kept, Source as Refill},
    },
    observe::Outcome,
    snapshot::Shared,
};

/// RFC 9211.
pub(super) static CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

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
    /// The same, by a node that cannot be sure that nothing of it was purged.
    Unsure {
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
    /// From the store as far as it is there; the rest is fetched while it is sent.
    Filling {
        /// Why it was not all there.
        reason: Reason,
        /// Whether somebody else's fetch was shared.
        collapsed: bool,
        /// Whether it is being stored; if not, why.
        stored: Result<(), Reason>,
    },
}

impl How {
    fn outcome(self) -> Outcome {
        match self {
            Self::Hit { .. } | Self::Unsure { .. } => Outcome::Hit,
            Self::Stale { .. } => Outcome::Stale,
            Self::Renewed { .. } => Outcome::Revalidated,
            Self::Filling { .. } => Outcome::Miss,
        }
    }

    fn reason(self) -> Option<Reason> {
        match self {
            Self::Hit { .. } => None,
            Self::Unsure { .. } => Some(Reason::Unconfirmed),
            Self::Stale { reason, .. } | Self::Renewed { reason, .. } | Self::Filling { reason, .. } => Some(reason),
        }
    }

    pub(super) fn cache_status(self, cache: &CacheName) -> HeaderValue {
        match self {
            Self::Hit { ttl_s } => CacheStatus::hit(ttl_s),
            Self::Unsure { ttl_s } => CacheStatus::hit(ttl_s).because(Reason::Unconfirmed),
            Self::Stale { ttl_s, reason } => CacheStatus::hit(ttl_s).because(reason),
            Self::Renewed { reason, collapsed } => CacheStatus {
                collapsed,
                fwd_status: Some(StatusCode::NOT_MODIFIED),
                ..CacheStatus::forwarded(forward(reason)).because(reason)
            },
            Self::Filling { reason, collapsed, stored } => CacheStatus {
                collapsed,
                stored: stored.is_ok(),
                detail: Some(stored.err().unwrap_or(reason)),
                ..CacheStatus::forwarded(forward(reason))
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
        Reason::PartlyStored => Forward::Partial,
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

/// The same before it is known what comes back.
pub fn foreseen(reason: Reason) -> CacheStatus {
    CacheStatus::forwarded(forward(reason)).because(reason)
}

/// A stored object, and how what is missing of its body can be had.
pub struct Stock<'a> {
    /// The object.
    pub object: &'a Object,
    /// The key it stands under.
    pub key: Key,
    /// The request that asks for missing parts; without one they stay missing.
    pub refill: Option<&'a dyn Fn() -> Arc<Wanted>>,
    /// What is done about codings.
    pub codes: Codes,
}

/// Serves a stored object; none if its body is not whole any more, and cannot be made so.
pub fn stored(
    shared: &Arc<Shared>,
    served: &Arc<Served>,
    parts: &Parts,
    stock: &Stock<'_>,
    age_s: u32,
    how: How,
) -> Option<Reply> {
    let object = stock.object;
    let how = match how {
        How::Hit { ttl_s } if served.realm.unsure() => How::Unsure { ttl_s },
        how => how,
    };
    let plain = || stored_body(shared, stock, &Spans::Whole, how).map(|(body, _)| body);
    let headers = match coded::stored(shared, served, parts, stock, plain) {
        Coded::Unknown => return None,
        Coded::Plain(headers) => headers,
        Coded::Form(mut headers, body, length) => {
            headers.insert(header::AGE, HeaderValue::from(age_s));
            headers.insert(CACHE_STATUS.clone(), how.cache_status(&shared.cache_name));
            let response = shape(served, parts, object.status, headers, body, length);
            return Some(Reply { response, outcome: how.outcome(), reason: how.reason() });
        }
    };
    let plan = plan(parts, object.status, headers, Some(object.body.length()), true);
    let (body, how) = match &plan.spans {
        None => (Body::empty(), how),
        Some(_) if is_head(&parts.method) => (Body::empty(), how),
        Some(spans) => stored_body(shared, stock, spans, how)?,
    };
    let mut headers = plan.headers;
    headers.insert(header::AGE, HeaderValue::from(age_s));
    headers.insert(CACHE_STATUS.clone(), how.cache_status(&shared.cache_name));
    let body = if plan.spans.is_some() { body.counted(Arc::clone(&served.counters)) } else { body };
    let response = with(plan.status, headers, body);
    Some(Reply { response, outcome: how.outcome(), reason: how.reason() })
}

/// What of a stored body is wanted, from memory or chunk by chunk.
fn stored_body(shared: &Arc<Shared>, stock: &Stock<'_>, spans: &Spans, how: How) -> Option<(Body, How)> {
    match &stock.object.body {
        entry::Body::Inline(bytes) => Some((
            spans.row(|span| match span {
                None => Body::full(bytes.clone()),
                Some((first, last)) => Body::full(bytes.clone()).cut(first, last),
            }),
            how,
        )),
        entry::Body::Chunked { id, length, chunk_bytes } => {
            let whole = (0, length.saturating_sub(1));
            let here = spans.all(whole, |span| slices::is_here(&shared.objects, *id, *chunk_bytes, span));
            let source = refill(stock);
            let how = match how {
                _ if here => how,
                _ if source.is_none() => return None,
                How::Hit { .. } | How::Unsure { .. } => {
                    How::Filling { reason: Reason::PartlyStored, collapsed: false, stored: Ok(()) }
                }
                how => how,
            };
            let kept = Kept::new(Arc::clone(shared), *id, *length, *chunk_bytes, source);
            let reader = |span| Box::new(ChunkReader::new(Arc::clone(&kept), span));
            Some((spans.row(|span| Body::from(Source::Chunks(reader(span.unwrap_or(whole))))), how))
        }
    }
}

/// All of a stored body, if it is all there.
pub fn whole_body(shared: &Arc<Shared>, object: &Object) -> Option<Body> {
    let stock = Stock { object, key: Key(0), refill: None, codes: Codes::Off };
    stored_body(shared, &stock, &Spans::Whole, How::Hit { ttl_s: 0 }).map(|(body, _)| body)
}

/// Where missing chunks come from: also of a body that seems to be here, since a chunk may turn out to be damaged.
fn refill(stock: &Stock<'_>) -> Option<Refill> {
    let validator = ranges::strong_validator(&stock.object.headers)?;
    (stock.object.status == StatusCode::OK).then_some(())?;
    Some(Refill { wanted: stock.refill?(), validator, head: stock.key })
}

/// A response that is being filled, for one of those who wait for it.
pub struct Filled<'a> {
    /// Its head.
    pub head: &'a Head,
    /// The client's way through its body.
    pub reader: Reader,
    /// Why it had to be fetched.
    pub reason: Reason,
    /// Whether somebody else's fetch was shared.
    pub collapsed: bool,
    /// What is done about codings.
    pub codes: Codes,
}

/// Serves a response that is being filled.
pub fn filled(shared: &Arc<Shared>, served: &Arc<Served>, parts: &Parts, filled: Filled<'_>) -> Reply {
    let Filled { head, reader, reason, collapsed, codes } = filled;
    let body = Body::from(Source::Flight(reader));
    let (mut headers, body, length) = coded::filled(shared, served, codes, parts, head, body);
    let status = CacheStatus { collapsed, ..forwarded(reason, head.status) };
    let status = match head.stored {
        Ok(()) => CacheStatus { stored: true, detail: head.shaped.or(status.detail), ..status },
        Err(refused) => status.because(refused),
    };
    append_status(shared, &mut headers, status);
    let response = shape(served, parts, head.status, headers, body, length);
    Reply { response, outcome: Outcome::Miss, reason: Some(reason) }
}

/// Adds this hop's member behind those of the hops nearer to the origin (RFC 9211 section 2).
pub fn append_status(shared: &Shared, headers: &mut HeaderMap, own: CacheStatus) {
    headers.append(CACHE_STATUS.clone(), own.value(&shared.cache_name));
}

/// What is sent of a body.
pub enum Spans {
    /// All of it.
    Whole,
    /// One part.
    Part(Span),
    /// Several parts, each with the text that stands before it, and the text behind the last one.
    Parts(Vec<(Bytes, Span)>, Bytes),
}

impl Spans {
    fn all(&self, whole: Span, holds: impl Fn(Span) -> bool) -> bool {
        match self {
            Self::Whole => holds(whole),
            Self::Part(span) => holds(*span),
            Self::Parts(parts, _) => parts.iter().all(|(_, span)| holds(*span)),
        }
    }

    fn row(&self, body: impl Fn(Option<Span>) -> Body) -> Body {
        match self {
            Self::Whole => body(None),
            Self::Part(span) => body(Some(*span)),
            Self::Parts(parts, end) => {
                let mut row = VecDeque::with_capacity(parts.len() * 2 + 1);
                for (text, span) in parts {
                    row.push_back(Body::full(text.clone()));
                    row.push_back(body(Some(*span)));
                }
                row.push_back(Body::full(end.clone()));
                Body::from(Source::Row(row))
            }
        }
    }
}

/// What is answered: a head, and what of the body goes with it, if any does.
pub struct Plan {
    /// The status.
    pub status: StatusCode,
    /// The fields.
    pub headers: HeaderMap,
    /// What of the body is sent; none if nothing is.
    pub spans: Option<Spans>,
}

/// Conditions and ranges, applied to a whole response of `length` bytes. Several parts only where `many` allows it.
pub fn plan(parts: &Parts, status: StatusCode, mut headers: HeaderMap, length: Option<u64>, many: bool) -> Plan {
    let bare = |status, headers| Plan { status, headers, spans: None };
    if conditional::precondition_failed(&parts.headers, status, &headers) {
        return bare(StatusCode::PRECONDITION_FAILED, conditional::headers_of_304(&headers));
    }
    if conditional::not_modified(&parts.headers, status, &headers) {
        return bare(StatusCode::NOT_MODIFIED, conditional::headers_of_304(&headers));
    }
    let selection = match length {
        // of HEAD no parts are known (RFC 9110 section 14.2)
        Some(length) if !is_head(&parts.method) && parts.headers.contains_key(header::RANGE) => {
            ranges::select(&parts.headers, status, &headers, length)
        }
        _ => Selection::Whole,
    };
    match selection {
        Selection::Part { first, last } => {
            headers.insert(header::CONTENT_RANGE, content_range(first, last, length.unwrap_or(0)));
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(last - first + 1));
            Plan { status: StatusCode::PARTIAL_CONTENT, headers, spans: Some(Spans::Part((first, last))) }
        }
        Selection::Parts(spans) if many => multipart(headers, &spans, length.unwrap_or(0)),
        Selection::Whole | Selection::Parts(_) => {
            // a 204 has no content, and says nothing of its length (RFC 9110 section 8.6)
            if let Some(length) = length
                && status != StatusCode::NO_CONTENT
            {
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            }
            Plan { status, headers, spans: Some(Spans::Whole) }
        }
        Selection::Unsatisfiable => {
            let mut headers = conditional::headers_of_304(&headers);
            if let Ok(value) = HeaderValue::try_from(format!("bytes */{}", length.unwrap_or(0))) {
                headers.insert(header::CONTENT_RANGE, value);
            }
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(0));
            bare(StatusCode::RANGE_NOT_SATISFIABLE, headers)
        }
    }
}

/// Several parts (RFC 9110 section 14.6). The boundary is drawn at random, so that no body can hold it but by chance.
fn multipart(mut headers: HeaderMap, spans: &[Span], length: u64) -> Plan {
    let boundary = format!("{:032x}", random_name());
    let content_type = headers.remove(header::CONTENT_TYPE);
    let mut bytes = 0;
    let mut texts = Vec::with_capacity(spans.len());
    for (index, (first, last)) in spans.iter().enumerate() {
        let mut text = Vec::with_capacity(160);
        text.extend_from_slice(if index == 0 { b"--" } else { b"\r\n--" });
        text.extend_from_slice(boundary.as_bytes());
        if let Some(content_type) = &content_type {
            text.extend_from_slice(b"\r\nContent-Type: ");
            text.extend_from_slice(content_type.as_bytes());
        }
        text.extend_from_slice(format!("\r\nContent-Range: bytes {first}-{last}/{length}\r\n\r\n").as_bytes());
        bytes += text.len() as u64 + (last - first + 1);
        texts.push((Bytes::from(text), (*first, *last)));
    }
    let end = Bytes::from(format!("\r\n--{boundary}--\r\n"));
    bytes += end.len() as u64;
    let multipart = HeaderValue::try_from(format!("multipart/byteranges; boundary={boundary}"));
    headers.insert(header::CONTENT_TYPE, multipart.unwrap_or(HeaderValue::from_static("multipart/byteranges")));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
    Plan { status: StatusCode::PARTIAL_CONTENT, headers, spans: Some(Spans::Parts(texts, end)) }
}

/// Conditions, one range and `HEAD`, applied to a whole response whose body is on its way.
pub fn shape(
    served: &Arc<Served>,
    parts: &Parts,
    status: StatusCode,
    headers: HeaderMap,
    body: Body,
    length: Option<u64>,
) -> Response<Body> {
    let plan = plan(parts, status, headers, length, false);
    let body = match plan.spans {
        Some(_) if is_head(&parts.method) => Body::empty(),
        Some(Spans::Part((first, last))) => body.cut(first, last).counted(Arc::clone(&served.counters)),
        Some(_) => body.counted(Arc::clone(&served.counters)),
        None => Body::empty(),
    };
    with(plan.status, plan.headers, body)
}

/// `Content-Range` of a part.
pub fn content_range(first: u64, last: u64, length: u64) -> HeaderValue {
    HeaderValue::try_from(format!("bytes {first}-{last}/{length}"))
        .unwrap_or_else(|_| HeaderValue::from_static("bytes */*"))
}

/// A response of these.
pub fn with(status: StatusCode, headers: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
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

/// Answers an OPTIONS that may go no further (RFC 9110 section 9.3.7).
pub fn options(shared: &Shared) -> Reply {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(0));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    append_status(shared, &mut headers, CacheStatus::refused(Reason::Method));
    let response = with(StatusCode::OK, headers, Body::empty());
    Reply { response, outcome: Outcome::Refused, reason: Some(Reason::Method) }
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

/// Upstream, which was asked for a `reason`, gave nothing, and nothing old may be served.
pub fn failed(shared: &Shared, reason: Reason, failure: &Failure) -> Reply {
    let mut response = own(failure.status, failure.reason.as_str(), failure.reason.meaning());
    append_status(shared, response.headers_mut(), CacheStatus::forwarded(forward(reason)).because(failure.reason));
    Reply { response, outcome: Outcome::Error, reason: Some(failure.reason) }
}
