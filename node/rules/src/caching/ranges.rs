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
