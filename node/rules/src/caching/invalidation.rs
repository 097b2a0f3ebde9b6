//! What other requests make stale (RFC 9111 section 4.4).

use http::{
    HeaderMap, Method, StatusCode, Uri,
    header::{CONTENT_LOCATION, LOCATION},
};

use crate::key;

/// Longest reference that is followed, in bytes.
const REFERENCE_BYTES_MAX: usize = 8 * 1024;

/// Whether a response to `method` makes what is stored for its target stale: the method is not known to be safe, and
/// the response is no error.
#[must_use]
pub fn invalidates(method: &Method, status: StatusCode) -> bool {
    !is_safe(method) && (status.is_success() || status.is_redirection())
}

/// Methods registered as safe (RFC 9110 section 9.2.1; the IANA registry). Unknown ones are unsafe.
#[must_use]
pub fn is_safe(method: &Method) -> bool {
    matches!(method.as_str(), "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PROPFIND" | "REPORT" | "SEARCH" | "QUERY")
}

/// What else such a response makes stale: the targets that its `Location` and `Content-Location` name, if they are of
/// the same origin as the request (`https`, `host` with the port if it had one, `path`). Each is a path with a query, if any, in
/// normal form. At most two.
#[must_use]
pub fn also_invalidated(https: bool, host: &str, path: &str, response: &HeaderMap) -> Vec<String> {
    let fields = [LOCATION, CONTENT_LOCATION];
    let references = fields.iter().filter_map(|name| response.get(name)?.to_str().ok());
    references.filter_map(|reference| resolve(https, host, path, reference)).collect()
}

/// Resolves a reference (RFC 3986 section 5.2) to a target of the same origin.
fn resolve(https: bool, host: &str, path: &str, reference: &str) -> Option<String> {
    let reference = reference.split('#').next().unwrap_or_default().trim();
    if reference.len() > REFERENCE_BYTES_MAX {
        return None;
    }
    let whole = match same_origin(https, host, reference)? {
        "" => path.to_owned(),
        query if query.starts_with('?') => format!("{path}{query}"),
        target if target.starts_with('/') => target.to_owned(),
        relative => {
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{folder}/{relative}")
        }
    };
    let uri: Uri = whole.parse().ok()?;
    let target = key::target(&uri).ok()?;
    Some(target.to_string())
}

/// What a reference has behind its origin, if that is absent or the same. Absolute references come out with at least
/// a `/`.
fn same_origin<'a>(https: bool, host: &str, reference: &'a str) -> Option<&'a str> {
    let (scheme, rest) = match reference.split_once(':') {
        Some((scheme, rest)) if !scheme.contains(['/', '?']) => (Some(scheme), rest),
        _ => (None, reference),
    };
    let ours = if https { "https" } else { "http" };
    if scheme.is_some_and(|scheme| !scheme.eq_ignore_ascii_case(ours)) {
        return None;
    }
    let Some(rest) = rest.strip_prefix("//") else {
        // a scheme without an authority has no target of ours
        return scheme.is_none().then_some(rest);
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at_checked(end)?;
    let same = without_default_port(https, authority).eq_ignore_ascii_case(without_default_port(https, host));
    let rest = if rest.is_empty() { "/" } else { rest };
    (same && rest.starts_with('/')).then_some(rest)
}

fn without_default_port(https: bool, authority: &str) -> &str {
    authority.strip_suffix(if https { ":443" } else { ":80" }).unwrap_or(authority)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_methods_known_as_safe_leave_the_cache_alone() {
        for method in ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "FOO", "get"] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            assert!(invalidates(&method, StatusCode::OK), "{method}");
            assert!(invalidates(&method, StatusCode::NO_CONTENT), "{method}");
            assert!(invalidates(&method, StatusCode::FOUND), "{method}");
            assert!(!invalidates(&method, StatusCode::NOT_FOUND), "{method}");
            assert!(!invalidates(&method, StatusCode::BAD_GATEWAY), "{method}");
        }
        for method in ["GET", "HEAD", "OPTIONS", "TRACE", "QUERY", "PROPFIND"] {
            assert!(!invalidates(&Method::from_bytes(method.as_bytes()).unwrap(), StatusCode::OK), "{method}");
        }
    }

    fn check(reference: &str, expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, HeaderValue::from_str(reference).unwrap());
        let found = also_invalidated(false, "example.com", "/a/b", &headers);
        assert_eq!(found.first().map(String::as_str), expected, "{reference}");
    }

    #[test]
    fn references_to_the_same_origin_are_resolved_by_rfc_3986() {
        check("/c?d#e", Some("/c?d"));
        check("c", Some("/a/c"));
        check("../c", Some("/c"));
        check("?x", Some("/a/b?x"));
        check("#x", Some("/a/b"));
        check("http://EXAMPLE.com/c", Some("/c"));
        check("http://example.com:80/c/./%7Ed", Some("/c/~d"));
        check("HTTP://example.com", Some("/"));
        check("//example.com/c", Some("/c"));
        check("/x:y", Some("/x:y"));
    }

    #[test]
    fn other_origins_are_none_of_its_business() {
        for reference in ["https://example.com/c", "http://example.com:8080/c", "http://other.com/c", "//other.com/c"] {
            check(reference, None);
        }
        for reference in ["mailto:a@example.com", "http:/c", "http://example.com?x", "http://example.com@other.com/"] {
            check(reference, None);
        }
    }

    #[test]
    fn both_fields_count() {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, HeaderValue::from_static("/c"));
        headers.insert(CONTENT_LOCATION, HeaderValue::from_static("/d"));
        assert_eq!(also_invalidated(true, "h", "/", &headers), ["/c", "/d"]);
    }

    proptest! {
        #[test]
        fn no_reference_makes_it_panic(reference in "[ -~]{0,60}", path in "/[ -~]{0,20}") {
            let _ = resolve(true, "example.com", &path, &reference);
        }
    }
}
