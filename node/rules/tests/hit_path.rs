//! The way to a hit allocates nothing but the `Cache-Status` value itself, nor does the decision where a client is led.

#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(unsafe_code, reason = "a counting allocator cannot be written without")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use http::{HeaderMap, Method, Request, StatusCode};
use region_config::{Config, NodeId, Policy, SiteId, TenantId};
use rules::{
    caching::{
        CacheStatus, Decision, Freshness, Intent, VarySpec, conditional, decide, fields, intent, ranges,
        status::CacheName,
    },
    health::{Fleet, NodeState, NodeView, RegionState, RegionView},
    key::{self, Secret},
    purge::Standing,
    steering::{self, Addresses, BaseBuilder, Location, Map, Point, Shares, Wishes, block_hash},
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

/// Thirty regions, of two nodes each.
fn thirty() -> Config {
    let mut text = String::from(
        "[node]\nname = \"n0-0\"\n[dns]\nlisten = \"127.0.0.1:5300\"\n[peer]\nlisten = \"127.0.0.1:7400\"\nca = \"c\"\n\
         certificate = \"c\"\nkey = \"k\"\n[[jurisdictions]]\nname = \"earth\"\ncountries = [\"DE\"]\n[[sites]]\nname = \
         \"www\"\nhosts = \"www.demo.test\"\norigin = \"http://127.0.0.1:3000\"\n",
    );
    for at in 0..30 {
        let (latitude, longitude) = (f64::from(at * 5 % 120) - 60.0, f64::from(at * 37 % 360) - 180.0);
        text += &format!(
            "[[regions]]\nname = \"r{at}\"\nlatitude = {latitude}\nlongitude = {longitude}\njurisdiction = \"earth\"\n"
        );
        for node in 0..2 {
            text += &format!(
                "[[regions.nodes]]\nname = \"n{at}-{node}\"\npeer = \"127.1.{at}.{node}:7400\"\naddresses = \
                 [\"198.51.{at}.{node}\"]\n"
            );
        }
    }
    region_config::check(&[("meridian.toml", &text)]).unwrap().config
}

#[test]
fn where_a_client_is_led_is_decided_without_allocating() {
    let config = thirty();
    let mut builder = BaseBuilder::new();
    for at in 0..200u32 {
        let point = Point::from_degrees(f64::from(at % 90), f64::from(at % 180));
        let location = builder.location(Location { point, ..Location::NOWHERE });
        builder.range_v4(at << 24, (at << 24) + 0xff_ffff, location).unwrap();
    }
    let (base, wishes) = (builder.finish(), Wishes::nearest((1 << 30) - 1));
    let plain = Map::compile(&config, &base, &wishes, &config.node.region);
    let shares = vec![vec![(1, 0.5), (2, 0.25), (3, 0.25)]; plain.size().0];
    let shared = plain.sharing(Shares::by_load(shares.iter().map(|parts| parts.as_slice().into())));
    let node = |node: &region_config::Node| NodeView { name: node.name.clone(), state: NodeState::Up, rtt_us: None };
    let region = |(at, region): (usize, &region_config::Region)| RegionView {
        name: region.name.clone(),
        state: if at % 4 == 0 { RegionState::Down } else { RegionState::Up },
        since_unix_ms: 0,
        pending: false,
        recent: false,
        part_percent: 100,
        nodes: region.nodes.iter().map(node).collect(),
        votes: vec![],
    };
    let regions = config.regions.iter().enumerate().map(region).collect();
    let standing = steering::Standing::of(&Fleet { epoch: 1, minority: false, regions });
    let (policy, addresses) = (wishes.policy(30), Addresses::new((0..12).map(|node| (node, [198, 51, 100, 1].into()))));
    let addresses: &Addresses<std::net::Ipv4Addr> = &addresses;
    let count = allocations(|| {
        let mut named = 0u64;
        for at in 0..u16::MAX {
            let [high, low] = at.to_be_bytes();
            for map in [&plain, &shared] {
                let client = [high, low, 9, 0].into();
                let decision = steering::decide(client, !0, &policy, map, &standing);
                let region = decision.region().unwrap();
                named |= 1 << region;
                assert!(
                    addresses.choose(block_hash(decision.block(client)), standing.nodes(region)).iter().count() > 0
                );
            }
        }
        assert!(named.count_ones() > 3, "{named:b}");
    });
    assert_eq!(count, 0);
}
