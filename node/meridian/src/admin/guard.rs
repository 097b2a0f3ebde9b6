//! What every request to the admin listener goes through before anything looks at it, and what every answer carries.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{self, HOST, ORIGIN},
};

use super::{
    Context,
    problem::{Problem, Refusal},
    token::Wrong,
    who::{self, Who, forbidden},
};
use crate::clock;

/// Longer than the longest wait that a purge may ask for.
const ANSWER_MAX: Duration = Duration::from_secs(75);

/// Who sent a request: an extension of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source(pub(super) SocketAddr);

const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                   base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, HeaderValue); 7] = [
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CSP)),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
    (
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static("camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ),
];

/// Refuses what names a foreign host or comes from a foreign page, bounds the time, and adds the security headers.
pub(super) async fn everything(State(context): State<Arc<Context>>, request: Request, next: Next) -> Response {
    let answer = match host(&request, &context.hosts).and_then(|host| own_page(&request, &host)) {
        Ok(()) => match tokio::time::timeout(ANSWER_MAX, next.run(request)).await {
            Ok(response) => response,
            Err(_) => {
                let detail = "the answer took longer than it may";
                Problem::new(StatusCode::GATEWAY_TIMEOUT, "timeout", "Timeout", detail).into_response()
            }
        },
        Err(problem) => problem.into_response(),
    };
    dressed(answer)
}

fn dressed(mut answer: Response) -> Response {
    let headers = answer.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, value);
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    answer
}

/// Where a request comes from that came over no connection.
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

/// Whom a listener lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// Operators, for everything; applications, for purges.
    Admin,
    /// Applications only: whoever reaches this listener cannot even try the admin token.
    Applications,
}

/// Lets only those through who send the admin token.
pub(super) async fn operators(State(context): State<Arc<Context>>, request: Request, next: Next) -> Response {
    match who(&context, &request, Door::Admin) {
        Ok(Who::Operator) => next.run(request).await,
        Ok(Who::Application(token)) => {
            let detail = format!("token `{}` is for purges", token.name);
            forbidden(detail).expected("the admin token, or /api/v1/purges").into_response()
        }
        Err(answer) => answer,
    }
}

/// Lets operators and applications through; what each may do is seen to where it is done.
pub(super) async fn purgers(
    State((context, door)): State<(Arc<Context>, Door)>,
    mut request: Request,
    next: Next,
) -> Response {
    match who(&context, &request, door) {
        Ok(who) => {
            request.extensions_mut().get_or_insert(Source(NOBODY));
            request.extensions_mut().insert(who);
            next.run(request).await
        }
        Err(answer) => answer,
    }
}

/// Bounds the time, and adds the security headers. Of a listener without pages: no name is foreign to it, and a foreign
/// page has no token to send.
pub(super) async fn plain(request: Request, next: Next) -> Response {
    let answer = tokio::time::timeout(ANSWER_MAX, next.run(request)).await;
    dressed(answer.unwrap_or_else(|_| {
        let detail = "the answer took longer than it may";
        Problem::new(StatusCode::GATEWAY_TIMEOUT, "timeout", "Timeout", detail).into_response()
    }))
}

/// Who sent a request, by its token. A right token is always taken; waiting is for those who send wrong ones.
#[allow(clippy::result_large_err, reason = "the answer goes out at once")]
fn who(context: &Context, request: &Request, door: Door) -> Result<Who, Response> {
    let source = request.extensions().get::<Source>().unwrap_or(&Source(NOBODY)).0.ip();
    let sent = bearer(request.headers());
    if door == Door::Admin && context.token.is(sent) {
        context.token.succeeded(source);
        return Ok(Who::Operator);
    }
    if let Some(token) = who::known(&context.config.load(), sent) {
        context.token.succeeded(source);
        return Ok(Who::Application(token));
    }
    Err(match context.token.failed(source, clock::monotonic_ms()) {
        Wrong::Again => unauthorized(door).into_response(),
        Wrong::Wait { seconds } => {
            let detail = "too many wrong tokens from this address";
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "login-backoff", "Too many failed logins", detail)
                .retry_after(seconds)
                .into_response()
        }
    })
}

fn unauthorized(door: Door) -> Refusal {
    let (detail, expected) = match door {
        Door::Admin => (
            "the admin token is missing or wrong",
            "`Authorization: Bearer <token>` with the content of `admin.token` in the node's state directory",
        ),
        Door::Applications => (
            "the token is missing or wrong",
            "`Authorization: Bearer <token>` with a token of `[[tokens]]`; the admin token is not taken here",
        ),
    };
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "Not logged in", detail).expected(expected)
}

fn bearer(headers: &HeaderMap) -> &[u8] {
    let value = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
    match value.split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => token.trim_ascii(),
        _ => b"",
    }
}

/// The host that a request names, if it is one of ours. A page on a foreign name that was rebound to our address by DNS
/// still sends its own name, and is refused.
fn host(request: &Request, names: &[String]) -> Result<String, Refusal> {
    let mut sent = request.headers().get_all(HOST).iter();
    let named = match (request.uri().authority(), sent.next(), sent.next()) {
        (Some(authority), ..) => Some(authority.as_str()),
        (None, Some(host), None) => host.to_str().ok(),
        _ => None,
    };
    let Some(named) = named else {
        return Err(misdirected("the request names no host, or several"));
    };
    let bare = without_port(named);
    let literal = bare.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
    let ours = || bare.eq_ignore_ascii_case("localhost") || names.iter().any(|name| name.eq_ignore_ascii_case(bare));
    if literal || ours() {
        return Ok(named.to_ascii_lowercase());
    }
    Err(misdirected("the admin interface is not served under this name").found(bare))
}

fn misdirected(detail: &str) -> Refusal {
    Problem::new(StatusCode::MISDIRECTED_REQUEST, "unknown-host", "Unknown host", detail)
        .expected("an IP address, `localhost`, or a configured name")
}

fn without_port(host: &str) -> &str {
    let after_bracket = host.rfind(']').map_or(0, |at| at + 1);
    match host[after_bracket..].rfind(':') {
        Some(colon) => &host[..after_bracket + colon],
        None => host,
    }
}

/// Refuses to change anything on behalf of a foreign page. The token alone would do (a foreign page does not have it, and
/// no cookie is sent by itself); this is the second lock.
fn own_page(request: &Request, host: &str) -> Result<(), Refusal> {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    let headers = request.headers();
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    let foreign_fetch = site.is_some_and(|site| site != b"same-origin" && site != b"none");
    let foreign_origin = headers.get(ORIGIN).is_some_and(|origin| !same_host(origin, host));
    if foreign_fetch || foreign_origin {
        let detail = "another page's script may not change anything here";
        return Err(Problem::new(StatusCode::FORBIDDEN, "foreign-origin", "Foreign origin", detail));
    }
    Ok(())
}

fn same_host(origin: &HeaderValue, host: &str) -> bool {
    let origin = origin.to_str().unwrap_or_default();
    let named = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    named.is_some_and(|named| named.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_taken_with_or_without_a_port_and_in_brackets() {
        let cases = [("a", "a"), ("a:1", "a"), ("[::1]", "[::1]"), ("[::1]:80", "[::1]"), ("127.0.0.1:9", "127.0.0.1")];
        for (given, expected) in cases {
            assert_eq!(without_port(given), expected);
        }
    }

    #[test]
    fn only_a_bearer_token_counts() {
        let check = |value: &'static str, expected: &[u8]| {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(value))]);
            assert_eq!(bearer(&headers), expected, "{value}");
        };
        check("Bearer abc", b"abc");
        check("bearer  abc ", b"abc");
        check("Basic abc", b"");
        check("abc", b"");
        assert_eq!(bearer(&HeaderMap::new()), b"");
    }
}
