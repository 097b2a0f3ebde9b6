#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn check(method: &str, fields: &[(&'static str, &str)], expected: Intent) {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, value.parse().unwrap());
    }
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    assert_eq!(intent(&method, &headers, &Policy::default()), expected, "{method} {fields:?}");
}

#[test]
fn get_and_head_look_up_whatever_the_client_says_about_caching() {
    check("GET", &[], Intent::Lookup);
    check("HEAD", &[], Intent::Lookup);
    check("GET", &[("cache-control", "no-cache, nothing-to-see-here"), ("pragma", "no-cache")], Intent::Lookup);
    check("GET", &[("content-length", "0")], Intent::Lookup);
}

#[test]
fn a_get_with_a_body_passes() {
    check("GET", &[("content-length", "1")], Intent::Pass(Reason::RequestBody));
    check("GET", &[("transfer-encoding", "chunked")], Intent::Pass(Reason::RequestBody));
}

#[test]
fn other_methods_pass_and_tunnels_are_refused() {
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "M-SEARCH", "get"] {
        check(method, &[], Intent::Pass(Reason::Method));
    }
    check("CONNECT", &[], Intent::Refuse(Reason::MethodRefused));
    check("TRACE", &[], Intent::Refuse(Reason::MethodRefused));
    check(&"X".repeat(33), &[], Intent::Refuse(Reason::MethodUnknown));
}

#[test]
fn a_route_that_keeps_nothing_passes_everything() {
    let policy = Policy { cache: CacheMode::Off, ..Policy::default() };
    assert_eq!(intent(&Method::GET, &HeaderMap::new(), &policy), Intent::Pass(Reason::CacheOff));
}
