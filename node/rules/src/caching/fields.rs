//! Which fields may come in, and which go on (RFC 9110 section 7.6.1, RFC 9112 sections 3.2 and 6).

use http::{
    HeaderMap, HeaderName, HeaderValue, Version,
    header::{
        AGE, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, EXPIRES, HOST,
        PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VARY,
    },
    request::Parts,
};

use super::tags::is_between;
pub use super::tags::{strip_tags, surrogate_tags};
use super::{
    Reason,
    lists::{is_token, members},
};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const PROXY_AUTHENTICATION_INFO: HeaderName = HeaderName::from_static("proxy-authentication-info");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Fields that speak of one connection only.
const HOP_BY_HOP: [HeaderName; 10] = [
    KEEP_ALIVE,
    PROXY_CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    PROXY_AUTHENTICATION_INFO,
    HTTP2_SETTINGS,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Longest host that is taken, port included, in bytes.
const HOST_BYTES_MAX: usize = 261;

/// Takes out of a request what is meant for this connection only, and what `Connection` names. A request that
/// [`framing_fault`] has passed keeps its `Host` and `Content-Length`.
pub fn strip_request(headers: &mut HeaderMap) {
    strip(headers, |_| false);
}

/// Takes out of a response what is meant for this connection only, and what `Connection` names. If there is a
/// `Transfer-Encoding`, `Content-Length` goes too: kept, it would frame what another writer sends (RFC 9112 section 6.3).
pub fn strip_response(headers: &mut HeaderMap) {
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    strip(headers, is_for_caches);
}

/// What a response's `Connection` may not name, since its loss could make others get what is not for them: it is meant
/// for all recipients (RFC 9110 section 7.6.1).
fn is_for_caches(name: &HeaderName) -> bool {
    [CACHE_CONTROL, EXPIRES, AGE, VARY, SET_COOKIE, CONTENT_ENCODING, CONTENT_RANGE].contains(name)
        || is_between(name)
        || matches!(name.as_str(), "cdn-cache-control" | "cache-groups")
}

/// Takes out of a response's trailer section what is no trailer (RFC 9110 section 6.5.1): fields that frame, route,
/// authenticate, control caches, tell the content's format or set cookies, and those of one connection.
pub fn strip_trailers(trailers: &mut HeaderMap) {
    strip(trailers, |_| false);
    let names: Vec<HeaderName> = trailers.keys().filter(|name| is_no_trailer(name)).cloned().collect();
    for name in names {
        trailers.remove(name);
    }
}

fn is_no_trailer(name: &HeaderName) -> bool {
    let name_is = |known: &[&str]| known.contains(&name.as_str());
    is_for_caches(name)
        || name.as_str().starts_with("content-")
        || name.as_str().starts_with("access-control-")
        || name_is(&[
            "host",
            "date",
            "location",
            "retry-after",
            "pragma",
            "warning",
            "authorization",
            "www-authenticate",
        ])
        || name_is(&["authentication-info", "cookie", "cache-status", "via", "strict-transport-security", "alt-svc"])
}

fn strip(headers: &mut HeaderMap, stays: fn(&HeaderName) -> bool) {
    let lines: Vec<HeaderValue> = headers.get_all(CONNECTION).iter().cloned().collect();
    for name in lines.iter().flat_map(|line| members(line.as_bytes())) {
        // what frames and routes a message cannot be named away
        if let Ok(name) = HeaderName::from_bytes(name)
            && name != HOST
            && name != CONTENT_LENGTH
            && !stays(&name)
        {
            headers.remove(name);
        }
    }
    headers.remove(CONNECTION);
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// What is wrong with how a request is framed or routed, if anything: such a request is answered with 400 and its
/// connection closed, since the next server might read it otherwise.
#[must_use]
pub fn framing_fault(request: &Parts) -> Option<Reason> {
    let mut seen = Seen::default();
    for (name, value) in &request.headers {
        if let Some(fault) = seen.field(name, value) {
            return Some(fault);
        }
    }
    host_fault(request, &seen).or_else(|| body_fault(request.version, &seen))
}

/// What was met among the fields.
#[derive(Default)]
struct Seen<'a> {
    host: Option<&'a HeaderValue>,
    content_length: Option<&'a HeaderValue>,
    transfer_encoding: bool,
}

impl<'a> Seen<'a> {
    /// Notes one field line.
    fn field(&mut self, name: &HeaderName, value: &'a HeaderValue) -> Option<Reason> {
        if *name == HOST {
            return self.host.replace(value).map(|_| Reason::HostRepeated);
        }
        if *name == CONTENT_LENGTH {
            let digits = value.as_bytes();
            let number = !digits.is_empty() && digits.len() <= 19 && digits.iter().all(u8::is_ascii_digit);
            let repeated = self.content_length.replace(value).is_some();
            return (repeated || !number).then_some(Reason::ContentLength);
        }
        if *name == TRANSFER_ENCODING {
            let repeated = std::mem::replace(&mut self.transfer_encoding, true);
            let chunked = value.as_bytes().eq_ignore_ascii_case(b"chunked");
            return (repeated || !chunked).then_some(Reason::TransferEncoding);
        }
        if *name == CONNECTION {
            return members(value.as_bytes()).any(frames_or_routes).then_some(Reason::ConnectionNames);
        }
        looks_like_framing(name).then_some(Reason::FieldName)
    }
}

/// Whether a name in `Connection` is of a field that frames or routes the message, or is no name.
fn frames_or_routes(name: &[u8]) -> bool {
    let forbidden: [&[u8]; 5] = [b"host", b"content-length", b"transfer-encoding", b"connection", b"authorization"];
    !name.iter().all(|byte| is_token(*byte)) || forbidden.iter().any(|field| name.eq_ignore_ascii_case(field))
}

/// Names that servers which turn `_` into `-` take for a framing field.
fn looks_like_framing(name: &HeaderName) -> bool {
    let name = name.as_str();
    match name.len() {
        14 => name == "content_length",
        17 => name.starts_with("transfer") && name.ends_with("encoding") && name.as_bytes().get(8) == Some(&b'_'),
        _ => false,
    }
}

/// Exactly one valid host (RFC 9112 section 3.2): from `Host`, from an absolute target, or from both if they agree.
fn host_fault(request: &Parts, seen: &Seen<'_>) -> Option<Reason> {
    let field = seen.host.map(HeaderValue::as_bytes);
    let authority = request.uri.authority().map(|authority| authority.as_str().as_bytes());
    match (field, authority) {
        (None, None) if request.version == Version::HTTP_10 => None,
        (None, None) => Some(Reason::HostMissing),
        (Some(host), None) | (None, Some(host)) => (!is_host(host)).then_some(Reason::HostInvalid),
        (Some(host), Some(authority)) if !is_host(host) || !is_host(authority) => Some(Reason::HostInvalid),
        (Some(host), Some(authority)) => (!host.eq_ignore_ascii_case(authority)).then_some(Reason::HostRepeated),
    }
}

/// `name`, `1.2.3.4` or `[::1]`, with or without `:port`.
fn is_host(host: &[u8]) -> bool {
    if host.is_empty() || host.len() > HOST_BYTES_MAX {
        return false;
    }
    let (name, port): (&[u8], &[u8]) = if host.starts_with(b"[") {
        let Some(end) = host.iter().position(|byte| *byte == b']') else { return false };
        let (inside, rest) = (host.get(1..end).unwrap_or_default(), host.get(end + 1..).unwrap_or_default());
        let address = inside.iter().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'));
        if !address || inside.is_empty() {
            return false;
        }
        (b"x", rest)
    } else {
        let end = host.iter().position(|byte| *byte == b':').unwrap_or(host.len());
        host.split_at(end)
    };
    let named =
        !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    let ported = match port {
        [] => true,
        [b':', digits @ ..] => (1..=5).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    named && ported
}

/// One way only of telling where the body ends (RFC 9112 section 6.1).
fn body_fault(version: Version, seen: &Seen<'_>) -> Option<Reason> {
    if seen.transfer_encoding && version != Version::HTTP_11 {
        return Some(Reason::TransferEncoding);
    }
    (seen.transfer_encoding && seen.content_length.is_some()).then_some(Reason::ContentLength)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use http::Request;
    use proptest::prelude::*;

    use super::*;

    fn fields(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        headers
    }

    #[test]
    fn a_response_cannot_name_away_what_keeps_it_from_others() {
        let mut headers = fields(&[
            ("connection", "x-hop, Cache-Control, vary, set-cookie, surrogate-key, cdn-cache-control"),
            ("x-hop", "1"),
            ("cache-control", "private"),
            ("vary", "*"),
            ("set-cookie", "a"),
            ("surrogate-key", "k"),
            ("cdn-cache-control", "no-store"),
        ]);
        strip_response(&mut headers);
        assert!(!headers.contains_key("x-hop") && !headers.contains_key("connection"));
        assert_eq!(headers.len(), 5);
    }

    #[test]
    fn trailers_lose_what_is_none() {
        let mut trailers = fields(&[
            ("grpc-status", "0"),
            ("server-timing", "a"),
            ("etag", "\"a\""),
            ("connection", "x-a"),
            ("x-a", "1"),
            ("transfer-encoding", "chunked"),
            ("content-length", "1"),
            ("content-type", "a/b"),
            ("cache-control", "max-age=1"),
            ("set-cookie", "a"),
            ("surrogate-key", "k"),
        ]);
        strip_trailers(&mut trailers);
        let left: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["grpc-status", "server-timing", "etag"]);
    }

    fn fault(version: Version, uri: &str, lines: &[(&str, &str)]) -> Option<Reason> {
        let (mut parts, ()) = Request::builder().version(version).uri(uri).body(()).unwrap().into_parts();
        parts.headers = fields(lines);
        framing_fault(&parts)
    }

    /// Over HTTP/1.1, with a good host besides.
    fn check(lines: &[(&str, &str)], expected: Option<Reason>) {
        let mut with_host = vec![("host", "example.com")];
        with_host.extend_from_slice(lines);
        assert_eq!(fault(Version::HTTP_11, "/", &with_host), expected, "{lines:?}");
    }

    #[test]
    fn what_is_meant_for_one_connection_goes_with_what_connection_names() {
        let mut headers = fields(&[
            ("host", "a"),
            ("connection", "X-One, close"),
            ("connection", "x-two,,Host, content-length"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
            ("content-length", "5"),
            ("keep-alive", "1"),
            ("proxy-connection", "1"),
            ("proxy-authorization", "1"),
            ("proxy-authenticate", "1"),
            ("proxy-authentication-info", "1"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
        ]);
        strip_request(&mut headers);
        assert_eq!(headers, fields(&[("host", "a"), ("content-length", "5"), ("x-three", "3")]));
    }

    #[test]
    fn a_responses_length_beside_a_transfer_coding_goes_too() {
        let mut headers = fields(&[("transfer-encoding", "chunked"), ("content-length", "5"), ("a", "b")]);
        strip_response(&mut headers);
        assert_eq!(headers, fields(&[("a", "b")]));
        let mut headers = fields(&[("content-length", "5")]);
        strip_response(&mut headers);
        assert_eq!(headers, fields(&[("content-length", "5")]));
    }

    #[test]
    fn a_request_has_exactly_one_valid_host() {
        let http11 = |uri, lines: &[(&str, &str)]| fault(Version::HTTP_11, uri, lines);
        for host in ["example.com", "a", "127.0.0.1:8080", "[::1]", "[::1]:443", "under_score.example", "EXAMPLE.com."]
        {
            assert_eq!(http11("/", &[("host", host)]), None, "{host}");
        }
        for host in
            ["", "a, b", "a b", "a@b", "a/b", "a:b", "a:123456", "a:", "[::1", "[]", "[x]", "[::1]x", "a\u{e4}", ":80"]
        {
            assert_eq!(http11("/", &[("host", host)]), Some(Reason::HostInvalid), "{host}");
        }
        assert_eq!(http11("/", &[]), Some(Reason::HostMissing));
        assert_eq!(fault(Version::HTTP_10, "/", &[]), None);
        assert_eq!(http11("/", &[("host", "a"), ("host", "a")]), Some(Reason::HostRepeated));
    }

    #[test]
    fn an_absolute_target_and_host_must_agree() {
        let check = |uri, lines: &[(&str, &str)], expected| {
            assert_eq!(fault(Version::HTTP_2, uri, lines), expected, "{uri} {lines:?}");
        };
        check("http://a/", &[], None);
        check("http://a/", &[("host", "A")], None);
        check("http://a/", &[("host", "b")], Some(Reason::HostRepeated));
        check("http://user@a/", &[], Some(Reason::HostInvalid));
    }

    #[test]
    fn a_body_ends_in_one_way_only() {
        check(&[("content-length", "5")], None);
        check(&[("transfer-encoding", "Chunked")], None);
        for lines in [
            &[("content-length", "5"), ("transfer-encoding", "chunked")][..],
            &[("content-length", "5"), ("content-length", "5")],
            &[("content-length", "5, 5")],
            &[("content-length", "+5")],
            &[("content-length", "-1")],
            &[("content-length", "")],
            &[("content-length", "0x5")],
            &[("content-length", "99999999999999999999")],
        ] {
            check(lines, Some(Reason::ContentLength));
        }
        for coding in
            ["identity", "chunked, chunked", "gzip, chunked", "identity, chunked", "chunked;a=b", "xchunked", ""]
        {
            check(&[("transfer-encoding", coding)], Some(Reason::TransferEncoding));
        }
        check(&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], Some(Reason::TransferEncoding));
        let old = fault(Version::HTTP_10, "/", &[("host", "a"), ("transfer-encoding", "chunked")]);
        assert_eq!(old, Some(Reason::TransferEncoding));
    }

    #[test]
    fn connection_may_not_name_what_frames_or_routes() {
        check(&[("connection", "keep-alive, X-Foo")], None);
        for name in
            ["Host", "close, content-length", "TRANSFER-ENCODING", "connection", "authorization", "a b", "\"x\""]
        {
            check(&[("connection", name)], Some(Reason::ConnectionNames));
        }
    }

    #[test]
    fn names_that_some_take_for_framing_are_refused() {
        for name in ["transfer_encoding", "content_length"] {
            check(&[(name, "x")], Some(Reason::FieldName));
        }
        check(&[("x_content_length", "1"), ("transfer-encodings", "1")], None);
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic(value in proptest::collection::vec(32u8..=255, 0..60)) {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                for name in [HOST, CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION] {
                    let (mut parts, ()) = Request::new(()).into_parts();
                    parts.headers.insert(name, value.clone());
                    let _ = framing_fault(&parts);
                    strip_request(&mut parts.headers);
                }
            }
        }
    }
}
