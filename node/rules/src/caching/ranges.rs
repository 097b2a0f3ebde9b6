//! Parts of a stored response (RFC 9110 section 14).

use http::{
    HeaderMap, StatusCode,
    header::{ACCEPT_RANGES, DATE, ETAG, IF_RANGE, LAST_MODIFIED, RANGE},
};

use super::{
    conditional::{Comparison, parse_date, same_tag},
    lists::trim,
};

/// What of a stored body is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// All of it, with 200.
    Whole,
    /// One part, with 206.
    Part {
        /// The first byte's offset.
        first: u64,
        /// The last byte's offset, at least `first`.
        last: u64,
    },
    /// Nothing, with 416 and `Content-Range: bytes */length`.
    Unsatisfiable,
}

/// Decides what of a stored body of `length` bytes a GET gets. Several ranges, unknown units and malformed values get
/// the whole, which RFC 9110 section 14.2 always allows; `If-Range` (section 13.1.5) needs a strong match.
#[must_use]
pub fn select(request: &HeaderMap, status: StatusCode, stored: &HeaderMap, length: u64) -> Selection {
    let mut lines = request.get_all(RANGE).iter();
    let (Some(range), None) = (lines.next(), lines.next()) else { return Selection::Whole };
    let refuses = stored.get(ACCEPT_RANGES).is_some_and(|unit| unit.as_bytes().eq_ignore_ascii_case(b"none"));
    if status != StatusCode::OK || refuses || !if_range_holds(request, stored) {
        return Selection::Whole;
    }
    single(range.as_bytes(), length).unwrap_or(Selection::Whole)
}

/// Whether the client's copy is of the stored response, if it asks that by `If-Range`.
fn if_range_holds(request: &HeaderMap, stored: &HeaderMap) -> bool {
    let mut lines = request.get_all(IF_RANGE).iter();
    let Some(condition) = lines.next() else { return true };
    if lines.next().is_some() {
        return false;
    }
    let condition = trim(condition.as_bytes());
    if condition.contains(&b'"') {
        return stored.get(ETAG).is_some_and(|tag| same_tag(condition, trim(tag.as_bytes()), Comparison::Strong));
    }
    let Some(changed) = stored.get(LAST_MODIFIED) else { return false };
    trim(changed.as_bytes()) == condition && strong_date(stored)
}

/// A date is a strong validator if the response was made at least one second later (RFC 9110 section 8.8.2.2).
fn strong_date(stored: &HeaderMap) -> bool {
    let date = |name| stored.get(name).and_then(parse_date);
    match (date(LAST_MODIFIED), date(DATE)) {
        (Some(changed), Some(made)) => changed < made,
        _ => false,
    }
}

/// Reads `bytes=first-last`, `bytes=first-` or `bytes=-count`. None if it is anything else.
fn single(value: &[u8], length: u64) -> Option<Selection> {
    let equals = value.iter().position(|byte| *byte == b'=')?;
    let (unit, spec) = value.split_at_checked(equals)?;
    if !trim(unit).eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    let spec = trim(spec.get(1..)?);
    let dash = spec.iter().position(|byte| *byte == b'-')?;
    let (first, last) = (spec.get(..dash)?, spec.get(dash + 1..)?);
    match (first.is_empty(), last.is_empty()) {
        (true, true) => None,
        (true, false) => {
            let count = number(last)?.min(length);
            Some(part(length - count, length.checked_sub(1), length))
        }
        (false, true) => Some(part(number(first)?, length.checked_sub(1), length)),
        (false, false) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return None;
            }
            Some(part(first, length.checked_sub(1).map(|end| end.min(last)), length))
        }
    }
}

fn part(first: u64, last: Option<u64>, length: u64) -> Selection {
    match last {
        Some(last) if first < length => Selection::Part { first, last },
        _ => Selection::Unsatisfiable,
    }
}

/// Reads digits; more than fits counts as the largest number.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'))))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    fn fields(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn check(range: &str, length: u64, expected: Selection) {
        let found = select(&fields(&[("range", range)]), StatusCode::OK, &fields(&[]), length);
        assert_eq!(found, expected, "{range} of {length}");
    }

    const fn part(first: u64, last: u64) -> Selection {
        Selection::Part { first, last }
    }

    #[test]
    fn a_single_range_is_cut_to_the_body() {
        check("bytes=0-0", 10, part(0, 0));
        check("bytes=4-9", 10, part(4, 9));
        check("bytes=4-", 10, part(4, 9));
        check("bytes=4-99999999999999999999999", 10, part(4, 9));
        check("bytes=-3", 10, part(7, 9));
        check("bytes=-30", 10, part(0, 9));
        check("BYTES = 1-2 ", 10, part(1, 2));
    }

    #[test]
    fn a_range_that_begins_behind_the_end_is_unsatisfiable() {
        check("bytes=10-", 10, Selection::Unsatisfiable);
        check("bytes=10-20", 10, Selection::Unsatisfiable);
        check("bytes=-0", 10, Selection::Unsatisfiable);
        check("bytes=0-", 0, Selection::Unsatisfiable);
        check("bytes=-5", 0, Selection::Unsatisfiable);
    }

    #[test]
    fn what_is_not_one_good_range_gets_the_whole() {
        for range in [
            "bytes=0-1,3-4",
            "bytes=",
            "bytes=-",
            "bytes=4-3",
            "bytes=a-b",
            "bytes=1",
            "lines=0-1",
            "0-1",
            "bytes=+1-2",
            "bytes=--1",
        ] {
            check(range, 10, Selection::Whole);
        }
        let many = format!("bytes={}", "0-,".repeat(1000));
        check(&many, 10, Selection::Whole);
        let twice = fields(&[("range", "bytes=0-1"), ("range", "bytes=0-1")]);
        assert_eq!(select(&twice, StatusCode::OK, &fields(&[]), 10), Selection::Whole);
    }

    #[test]
    fn only_a_200_has_parts_and_only_if_it_is_not_refused() {
        let request = fields(&[("range", "bytes=0-1")]);
        assert_eq!(select(&request, StatusCode::NOT_FOUND, &fields(&[]), 10), Selection::Whole);
        assert_eq!(select(&request, StatusCode::OK, &fields(&[("accept-ranges", "none")]), 10), Selection::Whole);
        assert_eq!(select(&fields(&[]), StatusCode::OK, &fields(&[]), 10), Selection::Whole);
    }

    #[test]
    fn if_range_needs_a_strong_match() {
        const CHANGED: &str = "Sat, 21 Nov 2026 00:00:00 GMT";
        let check = |condition: &str, stored: &[(&str, &str)], held: bool| {
            let request = fields(&[("range", "bytes=0-1"), ("if-range", condition)]);
            let expected = if held { part(0, 1) } else { Selection::Whole };
            assert_eq!(select(&request, StatusCode::OK, &fields(stored), 10), expected, "{condition} {stored:?}");
        };
        check("\"a\"", &[("etag", "\"a\"")], true);
        check("\"a\"", &[("etag", "\"b\"")], false);
        check("W/\"a\"", &[("etag", "W/\"a\"")], false);
        check("\"a\"", &[], false);
        let later = ("date", "Sat, 21 Nov 2026 00:00:01 GMT");
        check(CHANGED, &[("last-modified", CHANGED), later], true);
        check(CHANGED, &[("last-modified", CHANGED), ("date", CHANGED)], false);
        check(CHANGED, &[("last-modified", CHANGED)], false);
        check("Sun, 22 Nov 2026 00:00:00 GMT", &[("last-modified", CHANGED), later], false);
    }

    proptest! {
        #[test]
        fn a_part_always_lies_in_the_body(range in "bytes=[0-9]{0,21}-[0-9]{0,21}", length: u64) {
            if let Selection::Part { first, last } = select(&fields(&[("range", &range)]), StatusCode::OK, &fields(&[]), length) {
                prop_assert!(first <= last && last < length);
            }
        }

        #[test]
        fn no_octets_make_it_panic(range in proptest::collection::vec(32u8..=255, 0..60), length: u64) {
            if let Ok(range) = HeaderValue::from_bytes(&range) {
                let mut request = HeaderMap::new();
                request.insert(RANGE, range.clone());
                request.insert(IF_RANGE, range);
                let _ = select(&request, StatusCode::OK, &fields(&[("etag", "\"a\"")]), length);
            }
        }
    }
}
