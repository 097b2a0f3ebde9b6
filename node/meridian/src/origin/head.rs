//! What a response's head must be like before anything else looks at it (RFC 9112 section 6). Pure.
//!
//! hyper frames a response safely, yet leaves fields in the map that the next writer would obey: `Content-Length`
//! beside `Transfer-Encoding`, and transfer codings nobody asked for. Whatever is ambiguous is refused here, and
//! what has been said is left in the map in one form only.

use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
};

/// Most fields in a response's head.
pub(super) const FIELDS_MAX: usize = 200;

/// Largest response head, in bytes.
pub(super) const HEAD_BYTES: usize = 64 * 1024;

/// Why a response is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadFault {
    /// Not HTTP as RFC 9112 or RFC 9113 write it.
    #[error("{0}")]
    Syntax(String),
    /// Both ways of framing at once: the usual sign of smuggling (RFC 9112 section 6.3).
    #[error("both Content-Length and Transfer-Encoding")]
    TwoFramings,
    /// A transfer coding other than exactly `chunked`.
    #[error("Transfer-Encoding is not exactly `chunked`")]
    TransferCoding,
    /// Several `Content-Length` that differ.
    #[error("Content-Length values that differ")]
    TwoLengths,
    /// A `Content-Length` that is not a number.
    #[error("Content-Length is not a number")]
    BadLength,
    /// 101 to a request that asked for no other protocol (RFC 9110 section 15.2.2).
    #[error("101 Switching Protocols was not asked for")]
    UnaskedUpgrade,
    /// 304 to a request without a condition (RFC 9110 section 15.4.5).
    #[error("304 Not Modified was not asked for")]
    UnaskedNotModified,
    /// More than [`FIELDS_MAX`] fields.
    #[error("more than {FIELDS_MAX} fields")]
    TooManyFields,
}

/// Checks a head and leaves one form of framing in it: at most one `Content-Length` with one number, and no
/// `Transfer-Encoding`, which was between the origin and us (RFC 9112 section 6.1).
///
/// `conditional` tells whether the request carried a precondition that a 304 may answer. Returns the length that
/// the head states.
///
/// # Errors
/// [`HeadFault`] for what may not be passed on.
pub(super) fn check(status: StatusCode, headers: &mut HeaderMap, conditional: bool) -> Result<Option<u64>, HeadFault> {
    if status.is_informational() {
        return Err(HeadFault::UnaskedUpgrade);
    }
    if status == StatusCode::NOT_MODIFIED && !conditional {
        return Err(HeadFault::UnaskedNotModified);
    }
    if headers.len() > FIELDS_MAX {
        return Err(HeadFault::TooManyFields);
    }
    let length = length(headers)?;
    if headers.contains_key(TRANSFER_ENCODING) {
        transfer_coding(headers)?;
        if length.is_some() {
            return Err(HeadFault::TwoFramings);
        }
        headers.remove(TRANSFER_ENCODING);
    }
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(length)
}

/// The stated length: all members of all lines must be the same number (RFC 9110 section 8.6).
fn length(headers: &HeaderMap) -> Result<Option<u64>, HeadFault> {
    let mut stated = None;
    for line in headers.get_all(CONTENT_LENGTH) {
        for member in line.as_bytes().split(|b| *b == b',') {
            let number = number(member.trim_ascii()).ok_or(HeadFault::BadLength)?;
            if stated.is_some_and(|before| before != number) {
                return Err(HeadFault::TwoLengths);
            }
            stated = Some(number);
        }
    }
    Ok(stated)
}

/// Digits only: no sign, no blank, no overflow.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Refuses every transfer coding but one `chunked`.
fn transfer_coding(headers: &HeaderMap) -> Result<(), HeadFault> {
    let mut lines = headers.get_all(TRANSFER_ENCODING).iter();
    let one = lines.next().is_some_and(|value| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
    if one && lines.next().is_none() { Ok(()) } else { Err(HeadFault::TransferCoding) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use http::HeaderName;

    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    fn checked(lines: &[(&'static str, &'static str)]) -> Result<Option<u64>, HeadFault> {
        check(StatusCode::OK, &mut headers(lines), false)
    }

    #[test]
    fn one_way_of_framing_passes_and_two_do_not() {
        assert_eq!(checked(&[]), Ok(None));
        assert_eq!(checked(&[("content-length", "5")]), Ok(Some(5)));
        assert_eq!(checked(&[("transfer-encoding", "Chunked")]), Ok(None));
        let both = [("transfer-encoding", "chunked"), ("content-length", "5")];
        assert_eq!(checked(&both), Err(HeadFault::TwoFramings));
    }

    #[test]
    fn only_chunked_is_a_transfer_coding() {
        for junk in ["abcdefghijk", "gzip, chunked", "chunked, chunked", "identity", "", "chunked;a=1"] {
            assert_eq!(checked(&[("transfer-encoding", junk)]), Err(HeadFault::TransferCoding), "{junk}");
        }
        let two = [("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")];
        assert_eq!(checked(&two), Err(HeadFault::TransferCoding));
    }

    #[test]
    fn lengths_must_agree_and_are_left_as_one() {
        assert_eq!(checked(&[("content-length", "5"), ("content-length", "6")]), Err(HeadFault::TwoLengths));
        assert_eq!(checked(&[("content-length", "5, 6")]), Err(HeadFault::TwoLengths));
        for bad in ["-1", "+5", "5x", "", "5,", "99999999999999999999"] {
            assert_eq!(checked(&[("content-length", bad)]), Err(HeadFault::BadLength), "{bad}");
        }
        let mut same = headers(&[("content-length", "5"), ("content-length", "5, 5")]);
        assert_eq!(check(StatusCode::OK, &mut same, false), Ok(Some(5)));
        assert_eq!(same.get_all(CONTENT_LENGTH).iter().collect::<Vec<_>>(), ["5"]);
    }

    #[test]
    fn what_was_not_asked_for_is_refused() {
        let mut none = HeaderMap::new();
        assert_eq!(check(StatusCode::SWITCHING_PROTOCOLS, &mut none, false), Err(HeadFault::UnaskedUpgrade));
        assert_eq!(check(StatusCode::NOT_MODIFIED, &mut none, false), Err(HeadFault::UnaskedNotModified));
        assert_eq!(check(StatusCode::NOT_MODIFIED, &mut none, true), Ok(None));
        assert_eq!(check(StatusCode::from_u16(999).unwrap(), &mut none, false), Ok(None));
    }
}
