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
const NOT_UPDATED: [HeaderName; 5] =
    [CONTENT_LENGTH, CONTENT_ENCODING, CONTENT_RANGE, HeaderName::from_static("content-md5"), SET_COOKIE];

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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    fn fields(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    const OLDER: &str = "Sat, 21 Nov 2026 00:00:00 GMT";
    const NEWER: &str = "Sun, 22 Nov 2026 00:00:00 GMT";

    fn check(request: &[(&str, &str)], stored: &[(&str, &str)], expected: bool) {
        assert_eq!(not_modified(&fields(request), StatusCode::OK, &fields(stored)), expected, "{request:?} {stored:?}");
    }

    #[test]
    fn if_none_match_is_compared_weakly_over_all_its_tags() {
        let stored = [("etag", "\"abc\"")];
        for line in ["\"abc\"", "W/\"abc\"", "\"x\", \"abc\"", "\"abc\",\"x\"", "*", " * ", "\"x,\", W/\"abc\", \"y\""]
        {
            check(&[("if-none-match", line)], &stored, true);
        }
        for line in ["\"abcd\"", "abc", "\"x,abc\"", "w/\"abc\"", "\"ABC\"", "", "\"abc"] {
            check(&[("if-none-match", line)], &stored, false);
        }
        check(&[("if-none-match", "\"x\""), ("if-none-match", "\"abc\"")], &stored, true);
        check(&[("if-none-match", "\"abc\"")], &[("etag", "W/\"abc\"")], true);
        check(&[("if-none-match", "\"abc\"")], &[], false);
        check(&[("if-none-match", "\"a\\\", \"abc\"")], &stored, true);
    }

    #[test]
    fn if_none_match_wins_over_if_modified_since() {
        let stored = [("etag", "\"abc\""), ("last-modified", NEWER)];
        check(&[("if-none-match", "\"abc\""), ("if-modified-since", OLDER)], &stored, true);
        check(&[("if-none-match", "\"x\""), ("if-modified-since", NEWER)], &stored, false);
    }

    #[test]
    fn if_modified_since_is_compared_with_last_modified_else_with_date() {
        check(&[("if-modified-since", NEWER)], &[("last-modified", NEWER)], true);
        check(&[("if-modified-since", NEWER)], &[("last-modified", OLDER)], true);
        check(&[("if-modified-since", OLDER)], &[("last-modified", NEWER)], false);
        check(&[("if-modified-since", NEWER)], &[("date", OLDER)], true);
        check(&[("if-modified-since", OLDER)], &[("date", NEWER)], false);
        check(&[("if-modified-since", "yesterday")], &[("last-modified", OLDER)], false);
        check(&[("if-modified-since", NEWER), ("if-modified-since", NEWER)], &[("last-modified", OLDER)], false);
        check(&[("if-modified-since", NEWER)], &[], false);
    }

    #[test]
    fn only_a_200_becomes_a_304() {
        let (request, stored) = (fields(&[("if-none-match", "*")]), fields(&[("etag", "\"a\"")]));
        for status in [204, 301, 404, 500] {
            assert!(!not_modified(&request, StatusCode::from_u16(status).unwrap(), &stored), "{status}");
        }
    }

    #[test]
    fn if_match_is_compared_strongly_and_wins_over_if_unmodified_since() {
        let stored = fields(&[("etag", "\"a\""), ("last-modified", NEWER)]);
        let failed = |request: &[(&str, &str)]| precondition_failed(&fields(request), StatusCode::OK, &stored);
        assert!(!failed(&[("if-match", "\"a\"")]));
        assert!(!failed(&[("if-match", "*")]));
        assert!(!failed(&[("if-match", "\"a\""), ("if-unmodified-since", OLDER)]));
        assert!(failed(&[("if-match", "\"b\"")]));
        assert!(failed(&[("if-match", "W/\"a\"")]));
        assert!(failed(&[("if-unmodified-since", OLDER)]));
        assert!(!failed(&[("if-unmodified-since", NEWER)]));
        assert!(!failed(&[]));
    }

    #[test]
    fn a_revalidation_carries_the_stored_validators_and_nothing_of_the_clients() {
        let mut request =
            fields(&[("if-none-match", "\"client\""), ("if-match", "*"), ("range", "bytes=0-1"), ("a", "b")]);
        let stored = fields(&[("etag", "W/\"abc\""), ("last-modified", OLDER)]);
        assert!(validators(&stored, &mut request));
        let expected = fields(&[("if-none-match", "W/\"abc\""), ("if-modified-since", OLDER), ("a", "b")]);
        assert_eq!(request, expected);
        assert!(!validators(&fields(&[("last-modified", "rubbish")]), &mut request));
        assert_eq!(request, fields(&[("a", "b")]));
    }

    #[test]
    fn a_304_with_other_validators_renews_nothing() {
        let stored = fields(&[("etag", "\"a\""), ("last-modified", OLDER)]);
        assert!(selects(&stored, &fields(&[("etag", "\"a\"")])));
        assert!(selects(&stored, &fields(&[("etag", "W/\"a\"")])));
        assert!(selects(&stored, &fields(&[])));
        assert!(selects(&stored, &fields(&[("last-modified", OLDER)])));
        assert!(!selects(&stored, &fields(&[("etag", "\"b\"")])));
        assert!(!selects(&stored, &fields(&[("last-modified", NEWER)])));
        assert!(!selects(&fields(&[]), &fields(&[("etag", "\"b\"")])));
    }

    #[test]
    fn a_304_updates_all_but_what_speaks_of_the_body_or_the_connection() {
        let stored = fields(&[
            ("a", "old"),
            ("a", "old too"),
            ("b", "kept"),
            ("content-length", "36"),
            ("content-encoding", "gzip"),
            ("cache-control", "max-age=1"),
        ]);
        let answer = fields(&[
            ("a", "new"),
            ("content-length", "10"),
            ("content-encoding", "br"),
            ("cache-control", "max-age=60"),
            ("connection", "x, close"),
            ("x", "1"),
            ("keep-alive", "1"),
            ("set-cookie", "s=1"),
            ("age", "7"),
        ]);
        let expected = fields(&[
            ("a", "new"),
            ("b", "kept"),
            ("content-length", "36"),
            ("content-encoding", "gzip"),
            ("cache-control", "max-age=60"),
            ("age", "7"),
        ]);
        assert_eq!(freshen(&stored, &answer), expected);
    }

    #[test]
    fn a_304_carries_what_guides_caches_and_nothing_about_the_body() {
        let stored = fields(&[
            ("etag", "\"a\""),
            ("date", NEWER),
            ("vary", "a"),
            ("cache-control", "max-age=1"),
            ("content-location", "/x"),
            ("content-length", "36"),
            ("content-type", "text/plain"),
        ]);
        let mut expected = stored.clone();
        expected.remove(CONTENT_LENGTH);
        expected.remove(CONTENT_TYPE);
        assert_eq!(headers_of_304(&stored), expected);
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic(
            request in proptest::collection::vec(32u8..=255, 0..80), stored in proptest::collection::vec(32u8..=255, 0..40),
        ) {
            if let (Ok(request), Ok(stored)) = (HeaderValue::from_bytes(&request), HeaderValue::from_bytes(&stored)) {
                let mut asked = HeaderMap::new();
                let mut kept = HeaderMap::new();
                for name in [IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_MATCH, IF_UNMODIFIED_SINCE] {
                    asked.insert(name, request.clone());
                }
                for name in [ETAG, LAST_MODIFIED, DATE] {
                    kept.insert(name, stored.clone());
                }
                let _ = not_modified(&asked, StatusCode::OK, &kept);
                asked.remove(IF_NONE_MATCH);
                asked.remove(IF_MATCH);
                let _ = not_modified(&asked, StatusCode::OK, &kept);
                let _ = precondition_failed(&asked, StatusCode::OK, &kept);
                let _ = selects(&kept, &asked);
            }
        }

        #[test]
        fn a_tag_is_found_wherever_it_stands(tags in proptest::collection::vec("[!#-~]{0,6}", 1..6), at in 0usize..6) {
            let at = at % tags.len();
            let line = tags.iter().map(|tag| format!("\"{tag}\"")).collect::<Vec<_>>().join(", ");
            let ours = format!("\"{}\"", tags[at]);
            prop_assert!(not_modified(&fields(&[("if-none-match", &line)]), StatusCode::OK, &fields(&[("etag", &ours)])));
        }
    }
}
