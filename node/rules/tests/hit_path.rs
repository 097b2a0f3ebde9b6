//! The way to a hit allocates nothing but the `Cache-Status` value itself.

#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(unsafe_code, reason = "a counting allocator cannot be written without")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use http::{HeaderMap, Method, Request, StatusCode};
use region_config::{NodeId, Policy, SiteId, TenantId};
use rules::{
    caching::{
        CacheStatus, Decision, Freshness, Intent, VarySpec, conditional, decide, fields, intent, ranges,
        status::CacheName,
    },
    key::{self, Secret},
    purge::Standing,
};

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: hands everything on to the system's allocator and only counts
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are handed on
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are handed on
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `work` allocates.
fn allocations<T>(work: impl FnOnce() -> T) -> usize {
    let before = COUNT.get();
    let result = work();
    let after = COUNT.get();
    drop(result);
    after - before
}

fn request() -> http::request::Parts {
    let (parts, ()) = Request::get("/shop/items/42.json?lang=de&page=%2F2")
        .header("host", "shop.example.com")
        .header("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)")
        .header("accept-encoding", "gzip, br")
        .header("connection", "keep-alive")
        .header("if-none-match", "\"x\", \"y\"")
        .header("if-modified-since", "Sat, 21 Nov 2026 00:00:00 GMT")
        .body(())
        .unwrap()
        .into_parts();
    parts
}

#[test]
fn a_hit_allocates_nothing() {
    let (secret, tenant, site) = (Secret([1; 16]), TenantId::parse("acme").unwrap(), SiteId::parse("shop").unwrap());
    let (policy, parts) = (Policy::default(), request());
    let vary = VarySpec(Box::new([http::header::ACCEPT_ENCODING]));
    let mut stored = HeaderMap::new();
    stored.insert("etag", "\"abc\"".parse().unwrap());
    let freshness = Freshness {
        lifetime_s: 60,
        age_zero_unix_ms: 0,
        stale_while_revalidate_s: 0,
        stale_if_error_s: None,
        must_revalidate: false,
        always_revalidate: false,
    };
    let name = CacheName::new(&NodeId::parse("eu-1").unwrap());

    let count = allocations(|| {
        assert_eq!(fields::framing_fault(&parts), None);
        assert_eq!(intent(&Method::GET, &parts.headers, &policy), Intent::Lookup);
        let target = key::target(&parts.uri).unwrap();
        let primary = key::primary(&secret, &tenant, &site, true, "shop.example.com", &target);
        let variant = key::variant(&secret, primary, &vary, &parts.headers);
        assert_ne!(primary, variant);
        assert_eq!(decide(&freshness, Standing::Valid, 5_000), Decision::Serve { age_s: 5, ttl_s: 55 });
        assert!(!conditional::precondition_failed(&parts.headers, StatusCode::OK, &stored));
        assert!(!conditional::not_modified(&parts.headers, StatusCode::OK, &stored));
        assert_eq!(ranges::select(&parts.headers, StatusCode::OK, &stored, 10), ranges::Selection::Whole);
        assert_eq!(CacheStatus::hit(55).line(&name).as_bytes(), b"meridian.eu-1; hit; ttl=55");
    });
    assert_eq!(count, 0);
    assert_eq!(allocations(|| CacheStatus::hit(55).value(&name)), 1);
}
