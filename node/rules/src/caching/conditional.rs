//! Conditional requests (RFC 9110 section 13), towards the client and towards the origin (RFC 9111 section 4.3).

use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{
        CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG, IF_MATCH,
        IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE, SET_COOKIE,
    },
};

use super::{date, fields, lists::trim};

/// Whether a stored response is answered with 304 (RFC 9110 sections 13.1.2 and 13.1.3). `If-None-Match` wins over
/// `If-Modified-Since`; entity tags are compared weakly.
#[must_use]
pub fn not_modified(request: &HeaderMap, status: StatusCode, stored: &HeaderMap) -> bool {
    if status != StatusCode::OK {
        return false;
    }
    if request.contains_key(IF_NONE_MATCH) {
        return any_tag(request, &IF_NONE_MATCH, stored, Comparison::Weak);
    }
    let Some(since) = only(request, &IF_MODIFIED_SINCE).and_then(parse_date) else { return false };
    // a response without Last-Modified is as old as its Date (RFC 9111 section 4.3.2)
    let changed = stored.get(LAST_MODIFIED).or_else(|| stored.get(DATE)).and_then(parse_date);
    changed.is_some_and(|changed| changed <= since)
}

/// Whether a stored response is answered with 412 (RFC 9110 sections 13.1.1 and 13.1.4). `If-Match` wins over
/// `If-Unmodified-Since`; entity tags are compared strongly.
#[must_use]
pub fn precondition_failed(request: &HeaderMap, status: StatusCode, stored: &HeaderMap) -> bool {
    if !status.is_success() {
        return false;
    }
    if request.contains_key(IF_MATCH) {
        return !any_tag(request, &IF_MATCH, stored, Comparison::Strong);
    }
    let Some(since) = only(request, &IF_UNMODIFIED_SINCE).and_then(parse_date) else { return false };
    stored.get(LAST_MODIFIED).and_then(parse_date).is_some_and(|changed| changed > since)
}

/// Takes a request's own conditions and range out, so that the whole answer can be kept.
pub fn strip(request: &mut HeaderMap) {
    for name in [IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_MATCH, IF_UNMODIFIED_SINCE, IF_RANGE, RANGE] {
        request.remove(name);
    }
}

/// Makes a request ask whether the stored response still holds (RFC 9111 section 4.3.1): its own conditions and range
/// go, the stored validators come. False if there are none; the request is then an unconditional one.
pub fn validators(stored: &HeaderMap, request: &mut HeaderMap) -> bool {
    strip(request);
    let mut any = false;
    if let Some(tag) = stored.get(ETAG) {
        request.insert(IF_NONE_MATCH, tag.clone());
        any = true;
    }
    if let Some(changed) = stored.get(LAST_MODIFIED).filter(|changed| parse_date(changed).is_some()) {
        request.insert(IF_MODIFIED_SINCE, changed.clone());
        any = true;
    }
    any
}

/// Whether a 304 is about the stored response (RFC 9111 section 4.3.4): the validators that it names are the stored
/// ones. If not, it renews nothing, and the response is to be fetched anew.
#[must_use]
pub fn selects(stored: &HeaderMap, answer304: &HeaderMap) -> bool {
    if let Some(tag) = answer304.get(ETAG) {
        let ours = stored.get(ETAG).map(HeaderValue::as_bytes);
        return ours.is_some_and(|ours| opaque(ours) == opaque(tag.as_bytes()));
    }
    match (answer304.get(LAST_MODIFIED), stored.get(LAST_MODIFIED)) {
        (Some(theirs), Some(ours)) => ours == theirs,
        _ => true,
    }
}

/// Fields of a 304 that do not go into the stored response (RFC 9111 section 3.2): they speak of the body that is
/// kept, or of this one answer.
const NOT_UPDATED: [HeaderName; 4] = [CONTENT_LENGTH, CONTENT_ENCODING, CONTENT_RANGE, SET_COOKIE];

/// The stored fields with those of a 304 in the place of their namesakes (RFC 9111 sections 3.2 and 4.3.4), as if the
/// whole response had just come; `Age` is the 304's.
#[must_use]
pub fn freshen(stored: &HeaderMap, answer304: &HeaderMap) -> HeaderMap {
    let mut update = answer304.clone();
    fields::strip_response(&mut update);
    for name in NOT_UPDATED {
        update.remove(name);
    }
    let mut merged = HeaderMap::with_capacity(stored.len() + update.len());
    for (name, value) in stored {
        if !update.contains_key(name) && name != http::header::AGE {
            merged.append(name.clone(), value.clone());
        }
    }
    for (name, value) in &update {
        merged.append(name.clone(), value.clone());
    }
    merged
}

/// What a 304 does without (RFC 9110 section 15.4.5): the description of the body that it does not have.
const NOT_IN_304: [HeaderName; 5] = [CONTENT_LENGTH, CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_RANGE];

/// The fields of a 304 made from a stored response.
#[must_use]
pub fn headers_of_304(stored: &HeaderMap) -> HeaderMap {
    let mut headers = stored.clone();
    for name in NOT_IN_304 {
        headers.remove(name);
    }
    headers
}

/// How entity tags are compared (RFC 9110 section 8.8.3.2).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    /// The opaque parts are the same.
    Weak,
    /// Also, neither is weak.
    Strong,
}

/// Compares two entity tags.
pub(super) fn same_tag(one: &[u8], other: &[u8], comparison: Comparison) -> bool {
    let strong = |tag: &[u8]| !tag.starts_with(b"W/");
    opaque(one) == opaque(other) && (comparison == Comparison::Weak || strong(one) && strong(other))
}

/// An entity tag without its weakness flag.
fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// Whether a list of entity tags in a request, or `*`, covers the stored response.
fn any_tag(request: &HeaderMap, field: &HeaderName, stored: &HeaderMap, comparison: Comparison) -> bool {
    let ours = stored.get(ETAG).map(|tag| trim(tag.as_bytes()));
    request.get_all(field).iter().any(|line| {
        trim(line.as_bytes()) == b"*"
            || ours.is_some_and(|ours| tags(line.as_bytes()).any(|tag| same_tag(tag, ours, comparison)))
    })
}

/// The entity tags of a list. Their quotes know no escape (RFC 9110 section 8.8.3).
fn tags(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let mut quoted = false;
            let end = rest.iter().position(|byte| {
                quoted ^= *byte == b'"';
                *byte == b',' && !quoted
            });
            let (tag, after) = rest.split_at(end.unwrap_or(rest.len()));
            rest = after.get(1..).unwrap_or_default();
            let tag = trim(tag);
            if !tag.is_empty() {
                return Some(tag);
            }
        }
        None
    })
}

/// A field's value, if it has just one line; a condition that contradicts itself is none.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?;
    lines.next().is_none().then_some(first)
}

/// Reads a date that is compared with another of its kind; RFC 850's centuries then need no clock.
pub(super) fn parse_date(value: &HeaderValue) -> Option<i64> {
    // 2020: two-digit years from 1971 to 2070
    date::parse(value.as_bytes(), 1_577_836_800)
}
