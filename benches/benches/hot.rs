//! The functions that a hit goes through, one by one: `cargo bench -p benches --bench hot`.
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench")]

use std::{
    hint::black_box,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use region_config::{JurisdictionId, NodeId, Policy, Site, SiteId, TenantId};
use rules::{
    caching::{self, CacheStatus, Directives, Exchange, Freshness, VarySpec, status::CacheName},
    key::{self, Key, Secret},
    purge::{Gate, Position, RealmSecret, SiteGuard, Standing},
    residency,
};
use store::objects::{Objects, Settings};
use wire::entry::{self, Body, CHUNK_BYTES, Entry, Object};

const NOW_UNIX_MS: u64 = 1_795_000_000_000;
/// Enough that entries lie in main memory, as in a real cache.
const ENTRIES: u64 = 200_000;

fn response_headers() -> HeaderMap {
    [
        ("content-type", "application/json; charset=utf-8"),
        ("cache-control", "public, max-age=300, stale-while-revalidate=60"),
        ("etag", "\"5f3c-9a1b2c3d4e5f\""),
        ("last-modified", "Sat, 21 Nov 2026 10:00:00 GMT"),
        ("date", "Sun, 22 Nov 2026 10:00:00 GMT"),
        ("vary", "accept-encoding"),
        ("surrogate-key", "product-17 shop front-page"),
        ("x-request-id", "0f9d2c6e-2f0a-4f1e-9c57-d5a6b3e1c001"),
        ("server", "origin/1.0"),
        ("content-length", "1024"),
    ]
    .into_iter()
    .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
    .collect()
}

fn request_headers() -> HeaderMap {
    [
        ("host", "www.example.com"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0"),
        ("accept", "*/*"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("accept-language", "en-GB,en;q=0.7,de;q=0.3"),
    ]
    .into_iter()
    .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
    .collect()
}

fn freshness() -> Freshness {
    Freshness {
        lifetime_s: 300,
        age_zero_unix_ms: NOW_UNIX_MS - 20_000,
        stale_while_revalidate_s: 60,
        stale_if_error_s: None,
        must_revalidate: false,
        always_revalidate: false,
    }
}

fn object(body_bytes: usize) -> Entry {
    Entry::Object(Arc::new(Object {
        made: rules::key::BodyId(3),
        status: StatusCode::OK,
        headers: response_headers(),
        freshness: freshness(),
        stamp: Position::first(1),
        verified: AtomicU64::new(0),
        confirmed_ms: 0,
        purge_keys: (0..8).collect(),
        body: Body::Inline(Bytes::from(vec![b'x'; body_bytes])),
        site: SiteId::parse("shop").unwrap(),
    }))
}

fn permit() -> residency::Permit {
    let site = Site {
        name: SiteId::parse("shop").unwrap(),
        tenant: TenantId::parse("acme").unwrap(),
        hosts: vec![],
        pin: None,
        origins: vec![],
        routes: vec![],
        tls: None,
        dns_ttl_s: 60,
        steering: region_config::SiteSteering::default(),
        https_port: 443,
        purge_by_response: false,
        misrouted_to: None,
        misrouted_tls: region_config::MisroutedTls::Refuse,
        cache_status: region_config::StatusFor::All,
        failover_on: Vec::new(),
    };
    residency::permit(&site, &JurisdictionId::parse("eu").unwrap()).unwrap()
}

fn keys(bench: &mut Criterion) {
    let secret = Secret([7; 16]);
    let (tenant, site) = (TenantId::parse("acme").unwrap(), SiteId::parse("shop").unwrap());
    let uri = Uri::from_static("/assets/products/4711/picture-large.webp?width=640&v=8");
    bench.bench_function("key/of a request", |bencher| {
        bencher.iter(|| {
            let target = key::target(black_box(&uri)).unwrap();
            key::primary(&secret, &tenant, &site, true, "www.example.com", &target)
        });
    });
    let vary = VarySpec(vec![http::header::ACCEPT_ENCODING].into());
    let request = request_headers();
    bench.bench_function("key/of a variant", |bencher| {
        bencher.iter(|| key::variant(&secret, black_box(Key(17)), &vary, &request));
    });
}

fn lookup(bench: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let settings = Settings { dir: None, memory_bytes: 4 << 30, disk_bytes: 0 };
    let objects = runtime.block_on(Objects::open(settings)).unwrap();
    let (entry, permit) = (object(1024), permit());
    let nth = |n: u64| Key(u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
    for n in 0..ENTRIES {
        objects.insert(&permit, nth(n), entry.clone());
    }
    let mut state = 1_u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % ENTRIES
    };
    bench.bench_function("objects/memory hit", |bencher| {
        bencher.iter_batched(&mut random, |n| objects.memory(nth(n)), BatchSize::SmallInput);
    });
    bench.bench_function("objects/memory miss", |bencher| {
        bencher.iter_batched(&mut random, |n| objects.memory(nth(n + ENTRIES)), BatchSize::SmallInput);
    });
    let mut fresh = ENTRIES;
    bench.bench_function("objects/insert, memory only", |bencher| {
        bencher.iter(|| {
            fresh += 1;
            objects.insert(&permit, nth(fresh), entry.clone());
        });
    });
}

fn judging(bench: &mut Criterion) {
    let site = SiteId::parse("shop").unwrap();
    let guard = SiteGuard::new(RealmSecret([7; 16]), &site, Position::first(1), Arc::new(Gate::default()));
    let purge_keys = guard.keys("www.example.com", "/a", None, Some(&["product-17", "shop", "front-page"]));
    let verified = AtomicU64::new(0);
    let stamp = Position::first(1);
    bench.bench_function("purge/standing, nothing new", |bencher| {
        bencher.iter(|| guard.standing(black_box(stamp), &verified, &purge_keys));
    });
    bench.bench_function("caching/decide", |bencher| {
        let freshness = freshness();
        bencher.iter(|| caching::decide(black_box(&freshness), Standing::Valid, NOW_UNIX_MS));
    });
}

fn headers(bench: &mut Criterion) {
    let name = CacheName::new(&NodeId::parse("frankfurt-1").unwrap());
    bench.bench_function("caching/Cache-Status of a hit", |bencher| {
        bencher.iter(|| CacheStatus::hit(black_box(280)).line(&name));
    });
    bench.bench_function("caching/Cache-Status of a hit, as a field value", |bencher| {
        bencher.iter(|| CacheStatus::hit(black_box(280)).value(&name));
    });
    let (request, response) = (request_headers(), response_headers());
    bench.bench_function("caching/Cache-Control", |bencher| {
        bencher.iter(|| Directives::of(black_box(&response)));
    });
    let policy = Policy::default();
    bench.bench_function("caching/storing", |bencher| {
        bencher.iter(|| {
            caching::storing(black_box(&Exchange {
                method: &Method::GET,
                request: &request,
                status: StatusCode::OK,
                response: &response,
                path: "/",
                request_unix_ms: NOW_UNIX_MS,
                response_unix_ms: NOW_UNIX_MS + 20,
                policy: &policy,
                object_bytes_max: 1 << 28,
            }))
        });
    });
}

fn stored_bytes(bench: &mut Criterion) {
    let chunk = Entry::Chunk(Bytes::from(vec![b'x'; CHUNK_BYTES as usize]));
    let mut group = bench.benchmark_group("entry");
    for (name, entry) in [("object of 1 KiB", object(1024)), ("object of 64 KiB", object(65_536)), ("chunk", chunk)] {
        let mut bytes = Vec::new();
        entry::encode(&entry, &mut bytes).unwrap();
        let shared = Bytes::from(bytes.clone());
        group.throughput(Throughput::Bytes(shared.len() as u64));
        group.bench_function(format!("decode/{name}"), |bencher| {
            bencher.iter(|| entry::decode_shared(black_box(&shared)).unwrap());
        });
        group.bench_function(format!("encode/{name}"), |bencher| {
            bencher.iter(|| {
                bytes.clear();
                entry::encode(black_box(&entry), &mut bytes).unwrap();
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = hot;
    config = Criterion::default().sample_size(30).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = keys, lookup, judging, headers, stored_bytes
}
criterion_main!(hot);
