//! Parts of a response (RFC 9110 section 14): what of a stored body a client gets, and what a part that came from the
//! origin says it is.

use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, IF_RANGE, LAST_MODIFIED, RANGE},
};

use super::{
    conditional::{Comparison, parse_date, same_tag},
    lists::trim,
};

/// Most parts that one request may name; with more it gets the whole (RFC 9110 section 14.2).
const PARTS_MAX: usize = 16;

/// The first and the last byte of a part, both included, counted from 0.
pub type Span = (u64, u64);

/// What of a stored body is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// Several parts, with 206 and `multipart/byteranges`: at least two, none touching another.
    Parts(Box<[Span]>),
    /// Nothing, with 416 and `Content-Range: bytes */length`.
    Unsatisfiable,
}

/// Decides what of a stored body of `length` bytes a GET gets. Unknown units and malformed values get the whole, which
/// RFC 9110 section 14.2 always allows, and so do more parts than anybody needs; parts that overlap or touch are
/// joined. `If-Range` (section 13.1.5) needs a strong match.
#[must_use]
pub fn select(request: &HeaderMap, status: StatusCode, stored: &HeaderMap, length: u64) -> Selection {
    let mut lines = request.get_all(RANGE).iter();
    let (Some(range), None) = (lines.next(), lines.next()) else { return Selection::Whole };
    if status != StatusCode::OK || refuses_ranges(stored) || !if_range_holds(request, stored) {
        return Selection::Whole;
    }
    parts(range.as_bytes(), length).unwrap_or(Selection::Whole)
}

fn refuses_ranges(stored: &HeaderMap) -> bool {
    stored.get(ACCEPT_RANGES).is_some_and(|unit| unit.as_bytes().eq_ignore_ascii_case(b"none"))
}

/// The one part that a request asks for by its first byte, with its last byte if it names one: what can be fetched of
/// a body whose length is not known. None for a suffix, for several parts, and for what is malformed.
#[must_use]
pub fn asked(request: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let mut lines = request.get_all(RANGE).iter();
    let (Some(range), None) = (lines.next(), lines.next()) else { return None };
    match spec(trim(set(range.as_bytes())?))? {
        Spec::From { first, last } => Some((first, last)),
        Spec::Suffix(_) => None,
    }
}

/// What a 206 says that it holds (RFC 9110 section 14.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentRange {
    /// The first byte's offset.
    pub first: u64,
    /// The last byte's offset, at least `first`, less than `length`.
    pub last: u64,
    /// Length of the whole.
    pub length: u64,
}

impl ContentRange {
    /// Reads a response's. None if it is missing, malformed, contradicts itself or the response's `Content-Length`, or
    /// does not tell the whole length.
    #[must_use]
    pub fn of(response: &HeaderMap) -> Option<Self> {
        let mut lines = response.get_all(CONTENT_RANGE).iter();
        let (Some(line), None) = (lines.next(), lines.next()) else { return None };
        let value = trim(line.as_bytes());
        let (unit, rest) = value.split_at_checked(value.iter().position(|byte| *byte == b' ')?)?;
        let rest = trim(rest);
        let slash = rest.iter().position(|byte| *byte == b'/')?;
        let (span, length) = (rest.get(..slash)?, rest.get(slash + 1..)?);
        let dash = span.iter().position(|byte| *byte == b'-')?;
        let (first, last) = (number(span.get(..dash)?)?, number(span.get(dash + 1..)?)?);
        let length = number(length)?;
        let holds = unit.eq_ignore_ascii_case(b"bytes") && first <= last && last < length && length < u64::MAX;
        let range = holds.then_some(Self { first, last, length })?;
        let stated = response.get(CONTENT_LENGTH);
        stated.is_none_or(|stated| number(stated.as_bytes()) == Some(range.bytes())).then_some(range)
    }

    /// How many bytes it holds.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.last - self.first + 1
    }
}

/// What proves that two parts are of the same body, as an `If-Range` value: a strong entity tag, else a modification
/// date that is a strong validator (RFC 9110 section 8.8). None if the response has neither, or refuses ranges.
#[must_use]
pub fn strong_validator(response: &HeaderMap) -> Option<HeaderValue> {
    if refuses_ranges(response) {
        return None;
    }
    match response.get(ETAG) {
        Some(tag) => same_tag(trim(tag.as_bytes()), trim(tag.as_bytes()), Comparison::Strong).then(|| tag.clone()),
        None => response.get(LAST_MODIFIED).filter(|_| strong_date(response)).cloned(),
    }
}

/// Whether a part that came with these fields is of the body that `validator` names (RFC 9111 section 3.4).
#[must_use]
pub fn same_body(validator: &HeaderValue, part: &HeaderMap) -> bool {
    let validator = trim(validator.as_bytes());
    if validator.contains(&b'"') {
        return part.get(ETAG).is_some_and(|tag| same_tag(validator, trim(tag.as_bytes()), Comparison::Strong));
    }
    part.get(ETAG).is_none() && part.get(LAST_MODIFIED).is_some_and(|changed| trim(changed.as_bytes()) == validator)
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

/// One member of a range set.
enum Spec {
    From { first: u64, last: Option<u64> },
    Suffix(u64),
}

impl Spec {
    /// What it is of a body of `length` bytes; none if it lies behind the end.
    fn of(&self, length: u64) -> Option<Span> {
        let end = length.checked_sub(1)?;
        match *self {
            Self::From { first, last } => (first <= end).then(|| (first, last.map_or(end, |last| last.min(end)))),
            Self::Suffix(0) => None,
            Self::Suffix(count) => Some((length - count.min(length), end)),
        }
    }
}

/// What follows `bytes=`. None if the unit is another.
fn set(value: &[u8]) -> Option<&[u8]> {
    let equals = value.iter().position(|byte| *byte == b'=')?;
    let (unit, set) = value.split_at_checked(equals)?;
    if trim(unit).eq_ignore_ascii_case(b"bytes") { set.get(1..) } else { None }
}

/// Reads `first-last`, `first-` or `-count`. None if it is anything else.
fn spec(text: &[u8]) -> Option<Spec> {
    let dash = text.iter().position(|byte| *byte == b'-')?;
    let (first, last) = (text.get(..dash)?, text.get(dash + 1..)?);
    match (first.is_empty(), last.is_empty()) {
        (true, true) => None,
        (true, false) => Some(Spec::Suffix(number(last)?)),
        (false, true) => Some(Spec::From { first: number(first)?, last: None }),
        (false, false) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Spec::From { first, last: Some(last) })
        }
    }
}

/// Reads a range set. None if it is malformed, or names too many parts.
fn parts(value: &[u8], length: u64) -> Option<Selection> {
    let set = set(value)?;
    let one = trim(set);
    if !one.contains(&b',') {
        return Some(match spec(one)?.of(length) {
            Some((first, last)) => Selection::Part { first, last },
            None => Selection::Unsatisfiable,
        });
    }
    let mut spans = Vec::new();
    let mut count = 0;
    for member in set.split(|byte| *byte == b',').map(trim).filter(|member| !member.is_empty()) {
        count += 1;
        if count > PARTS_MAX {
            return None;
        }
        spans.extend(spec(member)?.of(length));
    }
    if count == 0 {
        return None;
    }
    Some(selection(joined(spans), length))
}

fn selection(spans: Vec<Span>, length: u64) -> Selection {
    let bytes: u64 = spans.iter().map(|(first, last)| last - first + 1).sum();
    match spans.as_slice() {
        [] => Selection::Unsatisfiable,
        _ if bytes >= length => Selection::Whole,
        [(first, last)] => Selection::Part { first: *first, last: *last },
        _ => Selection::Parts(spans.into_boxed_slice()),
    }
}

/// The same bytes in parts that do not touch: in the order asked for where none does (RFC 9110 section 15.3.7.2).
fn joined(spans: Vec<Span>) -> Vec<Span> {
    let mut sorted = spans.clone();
    sorted.sort_unstable();
    let touches = |pair: &[Span]| matches!(pair, [one, two] if two.0 <= one.1.saturating_add(1));
    if !sorted.windows(2).any(touches) {
        return spans;
    }
    let mut joined: Vec<Span> = Vec::with_capacity(sorted.len());
    for (first, last) in sorted {
        match joined.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    joined
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

    #[expect(clippy::needless_pass_by_value, reason = "reads better where it is called")]
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
            "bytes=",
            "bytes=,",
            "bytes=0-1,x",
            "bytes=0-1,5-4",
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

    #[test]
    fn several_ranges_are_parts_in_the_order_asked_for() {
        check("bytes=0-1,3-4", 10, Selection::Parts([(0, 1), (3, 4)].into()));
        check("bytes=7-8 , 0-1", 10, Selection::Parts([(7, 8), (0, 1)].into()));
        check("bytes=-1,0-0,,", 10, Selection::Parts([(9, 9), (0, 0)].into()));
        check("bytes=0-0,50-60", 10, part(0, 0));
        check("bytes=20-,50-60", 10, Selection::Unsatisfiable);
    }

    #[test]
    fn ranges_that_overlap_or_touch_are_joined() {
        check("bytes=4-5,0-1,5-6", 10, Selection::Parts([(0, 1), (4, 6)].into()));
        check("bytes=0-1,2-3", 10, part(0, 3));
        check("bytes=0-5,4-9", 10, Selection::Whole);
        check("bytes=0-,0-,0-", 10, Selection::Whole);
    }

    #[test]
    fn what_is_asked_of_a_body_of_unknown_length() {
        let asked = |range| asked(&fields(&[("range", range)]));
        assert_eq!(asked("bytes=5-9"), Some((5, Some(9))));
        assert_eq!(asked("bytes=5-"), Some((5, None)));
        for other in ["bytes=-5", "bytes=0-1,3-4", "bytes=5-4", "lines=1-2", "bytes"] {
            assert_eq!(asked(other), None, "{other}");
        }
    }

    #[test]
    fn a_content_range_that_contradicts_itself_is_none() {
        let read = |value| ContentRange::of(&fields(&[("content-range", value)]));
        assert_eq!(read("bytes 2-4/10"), Some(ContentRange { first: 2, last: 4, length: 10 }));
        for bad in
            ["bytes 2-4/*", "bytes */10", "bytes 4-2/10", "bytes 2-10/10", "lines 2-4/10", "bytes 2-4", "bytes=2-4/10"]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
        let twice = fields(&[("content-range", "bytes 2-4/10"), ("content-range", "bytes 2-4/10")]);
        assert_eq!(ContentRange::of(&twice), None);
        for (length, fits) in [("3", true), ("2", false), ("4", false), ("10", false), ("x", false)] {
            let with_length = fields(&[("content-range", "bytes 2-4/10"), ("content-length", length)]);
            assert_eq!(ContentRange::of(&with_length).is_some(), fits, "{length}");
        }
    }

    #[test]
    fn only_a_strong_validator_joins_parts() {
        const CHANGED: &str = "Sat, 21 Nov 2026 00:00:00 GMT";
        let later = ("date", "Sat, 21 Nov 2026 00:00:01 GMT");
        let of = |headers: &[(&str, &str)]| strong_validator(&fields(headers));
        assert_eq!(of(&[("etag", "\"a\"")]).unwrap(), "\"a\"");
        assert_eq!(of(&[("etag", "W/\"a\""), ("last-modified", CHANGED), later]), None);
        assert_eq!(of(&[("etag", "\"a\""), ("accept-ranges", "none")]), None);
        assert_eq!(of(&[("last-modified", CHANGED), later]).unwrap(), CHANGED);
        assert_eq!(of(&[("last-modified", CHANGED)]), None);
        let tag = HeaderValue::from_static("\"a\"");
        assert!(same_body(&tag, &fields(&[("etag", "\"a\"")])));
        assert!(!same_body(&tag, &fields(&[("etag", "W/\"a\"")])));
        assert!(!same_body(&tag, &fields(&[])));
        let date = HeaderValue::from_static(CHANGED);
        assert!(same_body(&date, &fields(&[("last-modified", CHANGED)])));
        assert!(!same_body(&date, &fields(&[("last-modified", CHANGED), ("etag", "\"b\"")])));
    }

    proptest! {
        #[test]
        fn parts_hold_every_byte_that_was_asked_for_and_never_touch(
            asked in proptest::collection::vec((0u64..60, 0u64..12), 1..PARTS_MAX), length in 1u64..50,
        ) {
            let set = asked.iter().map(|(first, more)| format!("{first}-{}", first + more)).collect::<Vec<_>>().join(",");
            let wanted = |byte: u64| asked.iter().any(|(first, more)| (*first..=first + more).contains(&byte));
            let selected = select(&fields(&[("range", &format!("bytes={set}"))]), StatusCode::OK, &fields(&[]), length);
            let spans = match selected {
                Selection::Whole => vec![(0, length - 1)],
                Selection::Part { first, last } => vec![(first, last)],
                Selection::Parts(spans) => spans.into_vec(),
                Selection::Unsatisfiable => vec![],
            };
            for byte in 0..length {
                let holders = spans.iter().filter(|(first, last)| (*first..=*last).contains(&byte)).count();
                prop_assert_eq!(holders, usize::from(wanted(byte)), "byte {} of {} for {}", byte, length, set);
            }
        }

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
