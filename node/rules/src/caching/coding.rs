//! Content codings that the cache applies itself (RFC 9110 section 8.4): which response may be coded, which coding a
//! request gets, and what that changes in the response's fields.

use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{
        ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
        ETAG, VARY,
    },
};

use super::lists::{members, trim};

/// The smallest body that is worth coding, in bytes.
const LENGTH_MIN: u64 = 512;
/// The largest body that is coded, in bytes: what is larger is hardly ever text.
const LENGTH_MAX: u64 = 64 * 1024 * 1024;

/// Digests of the bytes as they were before (RFC 9530, RFC 3230, RFC 1864).
const DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];

/// A coding, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coding {
    /// RFC 8878.
    Zstd,
    /// RFC 7932.
    Brotli,
    /// RFC 1952.
    Gzip,
}

impl Coding {
    /// All of them, best first.
    pub const ALL: [Self; 3] = [Self::Zstd, Self::Brotli, Self::Gzip];

    /// Its name in `Content-Encoding`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }

    fn is_named(self, name: &[u8]) -> bool {
        name.eq_ignore_ascii_case(self.as_str().as_bytes())
            || (self == Self::Gzip && name.eq_ignore_ascii_case(b"x-gzip"))
    }
}

/// The coding that a request prefers (RFC 9110 section 12.5.3); none if it wants the bytes as they are. Among equals the
/// best one is chosen.
#[must_use]
pub fn chosen(request: &HeaderMap) -> Option<Coding> {
    let mut weights: [Option<u16>; 3] = [None; 3];
    let (mut any, mut identity) = (None, None);
    for member in request.get_all(ACCEPT_ENCODING).iter().flat_map(|line| members(line.as_bytes())) {
        let (name, weight) = weighted(member);
        if name == b"*" {
            any = Some(weight);
        } else if name.eq_ignore_ascii_case(b"identity") {
            identity = Some(weight);
        }
        for (coding, known) in Coding::ALL.into_iter().zip(&mut weights) {
            if coding.is_named(name) {
                *known = Some(weight);
            }
        }
    }
    let weighed = Coding::ALL.into_iter().zip(weights).map(|(coding, weight)| (coding, weight.or(any).unwrap_or(0)));
    // the first of the heaviest
    let best = weighed.rev().max_by_key(|(_, weight)| *weight)?;
    (best.1 > 0 && best.1 >= identity.unwrap_or(0)).then_some(best.0)
}

/// A member's name and its weight in thousandths; a weight that is malformed counts as 0.
fn weighted(member: &[u8]) -> (&[u8], u16) {
    let mut pieces = member.split(|byte| *byte == b';').map(trim);
    let name = pieces.next().unwrap_or_default();
    let weight = pieces.find_map(|piece| piece.strip_prefix(b"q=").or_else(|| piece.strip_prefix(b"Q=")));
    (name, weight.map_or(1000, |text| thousandths(text).unwrap_or(0)))
}

/// A weight (RFC 9110 section 12.4.2) in thousandths.
fn thousandths(text: &[u8]) -> Option<u16> {
    let (whole, rest) = text.split_first()?;
    let digits = match rest {
        [] => &[][..],
        [b'.', digits @ ..] if digits.len() <= 3 && digits.iter().all(u8::is_ascii_digit) => digits,
        _ => return None,
    };
    let fraction = digits.iter().chain(&[b'0'; 3]).take(3).fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    match whole {
        b'0' => Some(fraction),
        b'1' if fraction == 0 => Some(1000),
        _ => None,
    }
}

/// Whether a whole response may be coded: a 200 of a kind that gets smaller, that nobody has coded and that does not
/// forbid it (`no-transform`, RFC 9111 section 5.2.2.6).
#[must_use]
pub fn may_code(status: StatusCode, response: &HeaderMap, length: Option<u64>) -> bool {
    let plain = !response.contains_key(CONTENT_ENCODING) && !response.contains_key(CONTENT_RANGE);
    status == StatusCode::OK
        && plain
        && length.is_none_or(|length| (LENGTH_MIN..=LENGTH_MAX).contains(&length))
        && response.get(CONTENT_TYPE).is_some_and(|kind| shrinks(kind.as_bytes()))
        && !forbids(response)
}

fn forbids(response: &HeaderMap) -> bool {
    let mut directives = response.get_all(CACHE_CONTROL).iter().flat_map(|line| members(line.as_bytes()));
    directives.any(|directive| directive.eq_ignore_ascii_case(b"no-transform"))
}

/// Whether bodies of a media type get much smaller.
fn shrinks(kind: &[u8]) -> bool {
    let kind = trim(kind.split(|byte| *byte == b';').next().unwrap_or_default());
    let is = |name: &str| kind.eq_ignore_ascii_case(name.as_bytes());
    let begins = |prefix: &str| kind.get(..prefix.len()).is_some_and(|k| k.eq_ignore_ascii_case(prefix.as_bytes()));
    let ends = |suffix: &str| {
        kind.len()
            .checked_sub(suffix.len())
            .and_then(|from| kind.get(from..))
            .is_some_and(|k| k.eq_ignore_ascii_case(suffix.as_bytes()))
    };
    // events must go out one by one, and a coder would hold them back
    (begins("text/") && !is("text/event-stream"))
        || ends("+json")
        || ends("+xml")
        || ends("+text")
        || [
            "application/json",
            "application/javascript",
            "application/ecmascript",
            "application/xml",
            "application/x-ndjson",
            "application/wasm",
            "application/manifest+json",
            "application/graphql",
            "application/vnd.ms-fontobject",
            "application/x-font-ttf",
            "font/ttf",
            "font/otf",
            "image/bmp",
            "image/x-icon",
            "image/vnd.microsoft.icon",
        ]
        .iter()
        .any(|name| is(name))
}

/// Says that a response depends on `Accept-Encoding`, unless it says so already.
pub fn vary(response: &mut HeaderMap) {
    let told = response
        .get_all(VARY)
        .iter()
        .flat_map(|line| members(line.as_bytes()))
        .any(|name| name == b"*" || name.eq_ignore_ascii_case(b"accept-encoding"));
    if !told {
        response.append(VARY, HeaderValue::from_static("accept-encoding"));
    }
}

/// Turns the fields of a response into those of the coded one: another length, a weak entity tag (RFC 9110 section
/// 8.8.1), no digests of what it was.
pub fn code(response: &mut HeaderMap, coding: Coding) {
    response.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.as_str()));
    response.remove(CONTENT_LENGTH);
    response.remove(ACCEPT_RANGES);
    for name in DIGESTS {
        response.remove(name);
    }
    if let Some(tag) = response.get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/"))
        && let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat())
    {
        response.insert(ETAG, weak);
    }
    vary(response);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    fn fields(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn check(accepted: &str, expected: Option<Coding>) {
        assert_eq!(chosen(&fields(&[("accept-encoding", accepted)])), expected, "{accepted}");
    }

    #[test]
    fn the_heaviest_coding_is_chosen_and_the_best_among_equals() {
        check("gzip, deflate, br, zstd", Some(Coding::Zstd));
        check("gzip, deflate, br", Some(Coding::Brotli));
        check("gzip;q=1.0, br;q=0.9", Some(Coding::Gzip));
        check("x-gzip", Some(Coding::Gzip));
        check("GZIP ; q=0.2", Some(Coding::Gzip));
        check("*", Some(Coding::Zstd));
        check("zstd;q=0, *;q=0.5", Some(Coding::Brotli));
    }

    #[test]
    fn who_does_not_want_a_coding_gets_none() {
        for accepted in [
            "",
            "identity",
            "deflate",
            "gzip;q=0",
            "gzip;q=0.000",
            "gzip;q=2",
            "gzip;q=x",
            "*;q=0",
            "gzip;q=0.5, identity",
        ] {
            check(accepted, None);
        }
        assert_eq!(chosen(&HeaderMap::new()), None);
    }

    #[test]
    fn only_whole_plain_text_is_coded() {
        let may = |headers: &[(&str, &str)], length| may_code(StatusCode::OK, &fields(headers), Some(length));
        for kind in
            ["text/html; charset=utf-8", "application/json", "Image/SVG+xml", "application/problem+json", "font/ttf"]
        {
            assert!(may(&[("content-type", kind)], 5000), "{kind}");
        }
        for kind in ["image/png", "video/mp4", "text/event-stream", "application/octet-stream", "font/woff2", ""] {
            assert!(!may(&[("content-type", kind)], 5000), "{kind}");
        }
        let text = ("content-type", "text/css");
        assert!(!may(&[text], 511));
        assert!(!may(&[text], LENGTH_MAX + 1));
        assert!(!may(&[text, ("content-encoding", "identity")], 5000));
        assert!(!may(&[text, ("cache-control", "max-age=1, No-Transform")], 5000));
        assert!(!may_code(StatusCode::NOT_FOUND, &fields(&[text]), Some(5000)));
    }

    #[test]
    fn a_coded_response_says_so_and_has_a_weak_tag() {
        let mut headers =
            fields(&[("etag", "\"a\""), ("content-length", "7"), ("vary", "cookie"), ("digest", "x"), ("a", "b")]);
        code(&mut headers, Coding::Brotli);
        let expected = fields(&[
            ("etag", "W/\"a\""),
            ("vary", "cookie"),
            ("vary", "accept-encoding"),
            ("a", "b"),
            ("content-encoding", "br"),
        ]);
        assert_eq!(headers, expected);
        code(&mut headers, Coding::Brotli);
        assert_eq!(headers, expected);
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic(value in proptest::collection::vec(32u8..=255, 0..80)) {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                let mut headers = HeaderMap::new();
                for name in [ACCEPT_ENCODING, CONTENT_TYPE, CACHE_CONTROL, VARY, ETAG] {
                    headers.insert(name, value.clone());
                }
                let _ = chosen(&headers);
                let _ = may_code(StatusCode::OK, &headers, None);
                code(&mut headers, Coding::Gzip);
            }
        }

        #[test]
        fn a_coding_that_is_refused_is_never_chosen(weights in proptest::array::uniform3(0u16..=3)) {
            let line = Coding::ALL.iter().zip(weights).map(|(c, w)| format!("{};q=0.{w}", c.as_str())).collect::<Vec<_>>().join(",");
            let chosen = chosen(&fields(&[("accept-encoding", &line)]));
            let best = weights.iter().copied().max().unwrap_or(0);
            let expected = Coding::ALL.into_iter().zip(weights).find(|(_, w)| *w == best && best > 0).map(|(c, _)| c);
            prop_assert_eq!(chosen, expected);
        }
    }
}
