//! What purges cost hits: `make bench-purging`.
//!
//! A million objects of 20 tags, with the keys of their place, lie over 100 sites in the real memory store. Hits go through
//! the functions that `edge::spine::from_memory` calls, in its order, with the check (a) left out, (b) in while nothing is
//! purged, (c) in while 1,000 purges a second come in, spread over the sites, and the sweep runs beside as in the node. Short
//! rounds of (a) and of the other alternate; in those of (a) nothing is purged and nothing swept, and time stands still for
//! the other. Times are the hitting thread's processor time, and so is the time by which purges come: others on the machine
//! cost cache lines, but no waiting. Ratios are medians of pairs. What a purge makes stale is filled again, outside of the
//! time taken.
//!
//! A hit is measured in three depths: look-up, check and decision alone; all steps from the target to the fields of the
//! answer; and whole, over HTTP/1.1 and a socket ([`whole`]), which is what a promise about hits is about. The node itself
//! does more than that (counters, policies, other protocols), so its ratios are lower.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    reason = "a bench"
)]

mod whole;

use std::{
    collections::HashMap,
    hint::black_box,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use region_config::{JurisdictionId, NodeId, Policy, Site, SiteId, TenantId};
use rules::{
    caching::{self, CacheStatus, Decision, Freshness, status::CacheName},
    key::{self, BodyId, Key, Secret},
    purge::{Apply, Event, Limits, Mode, Position, PurgeKey, RealmSecret, Saved, SiteGuard, Source, Standing, Terms},
    residency,
};
use store::objects::{Objects, Settings, Sweep};
use wire::entry::{Body, Entry, Object};

use self::whole::Wire;

const OBJECTS: u64 = 1_000_000;
const SITES: u64 = 100;
const TAGS: u64 = 20;
/// Of a site: each is on four objects.
const TAGS_OF_SITE: u64 = 50_000;
const PURGES_PER_S: u64 = 1_000;
const ROUNDS_STILL: usize = 300;
const ROUNDS_PURGING: usize = 500;
/// Of whole hits, which take longer.
const ROUNDS_WHOLE: usize = 150;
const HITS_PER_ROUND: u64 = 10_000;
const HITS_PER_BATCH: u64 = 1_000;
/// How long after a sweep the next one begins, and how it rests: as in `meridian::sweep`.
const SWEEP_PAUSE: Duration = Duration::from_secs(10);
const SWEEP_REST: u32 = 49;
/// Of an object's body.
const BODY_BYTES: usize = 1_024;
const NOW_UNIX_MS: u64 = 1_795_000_000_000;

fn main() {
    println!("== floors: a purge of a site and of everything ==");
    floors();
    [1_000_000, 5_000_000].into_iter().for_each(floors_over);
    println!("\n== hits: {OBJECTS} objects x {TAGS} tags, {SITES} sites ==");
    let world = Arc::new(World::new());
    let mut wire = Wire::new(&world);
    for spread in [Spread::Even, Spread::Skewed] {
        for depth in [Depth::Check, Depth::Steps, Depth::Whole] {
            world.compare(&mut wire, spread, depth, false);
        }
    }
    world.settle();
    thread::scope(|scope| {
        scope.spawn(|| world.purge_on());
        scope.spawn(|| world.sweep_on());
        for spread in [Spread::Even, Spread::Skewed] {
            for depth in [Depth::Check, Depth::Steps, Depth::Whole] {
                world.compare(&mut wire, spread, depth, true);
            }
        }
        world.over.store(true, Ordering::Relaxed);
    });
    let apply = world.apply.lock().unwrap();
    println!("{} purges were applied, {} marks are remembered", world.purges.load(Ordering::Relaxed), apply.marks());
    let (swept, ns) = (world.sweeps.load(Ordering::Relaxed), world.swept_ns.load(Ordering::Relaxed));
    println!("{swept} objects were swept, {} ns each", ns / swept.max(1));
}

/// Which objects are asked for.
#[derive(Debug, Clone, Copy)]
enum Spread {
    /// All alike: nearly every hit finds its object in main memory, and judged some seconds ago.
    Even,
    /// Four of five hits are for one object of a hundred.
    Skewed,
}

/// How much of a hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// The look-up, the check, the decision.
    Check,
    /// From the target of a request to the fields of its answer.
    Steps,
    /// Over HTTP.
    Whole,
}

/// A linear congruential generator: the same stream in every run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 20
    }

    fn object(&mut self, spread: Spread) -> u64 {
        match spread {
            Spread::Skewed if !self.next().is_multiple_of(5) => self.next() % (OBJECTS / 100) * 97,
            _ => self.next() % OBJECTS,
        }
    }
}

fn mix(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

fn site_of(object: u64) -> usize {
    (object % SITES) as usize
}

type Place = (Site, SiteId, String, residency::Permit, Arc<SiteGuard>);

struct World {
    objects: Objects,
    apply: Mutex<Apply>,
    position: Arc<AtomicU64>,
    sites: Vec<Place>,
    /// Their places by their hosts.
    hosts: HashMap<String, usize>,
    headers: HeaderMap,
    request: HeaderMap,
    policy: Policy,
    name: CacheName,
    keys: Vec<Key>,
    purges: AtomicU64,
    running: AtomicBool,
    /// Whether whole hits are checked, and which of them were found purged.
    checks: AtomicBool,
    gone: Mutex<Vec<u64>>,
    /// Nanoseconds that hits have taken while purges came in.
    time_ns: AtomicU64,
    sweeps: AtomicU64,
    swept_ns: AtomicU64,
    over: AtomicBool,
}

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let settings = Settings { dir: None, memory_bytes: 64 << 30, disk_bytes: 0 };
        let objects = runtime.block_on(Objects::open(settings)).unwrap();
        let mut apply = applying();
        let sites = (0..SITES).map(|n| {
            let id = SiteId::parse(&format!("site-{n}")).unwrap();
            let guard = apply.guard(&id);
            let site = site(&id);
            let permit = residency::permit(&site, &JurisdictionId::parse("eu").unwrap()).unwrap();
            (site, id, format!("www.site-{n}.example"), permit, guard)
        });
        let sites: Vec<Place> = sites.collect();
        let hosts = sites.iter().enumerate().map(|(n, site)| (site.2.clone(), n)).collect();
        let mut world = Self {
            objects,
            position: apply.published(),
            apply: Mutex::new(apply),
            sites,
            hosts,
            headers: response_headers(),
            request: request_headers(),
            policy: Policy::default(),
            name: CacheName::new(&NodeId::parse("frankfurt-1").unwrap()),
            keys: Vec::new(),
            purges: AtomicU64::new(0),
            running: AtomicBool::new(false),
            checks: AtomicBool::new(false),
            gone: Mutex::default(),
            time_ns: AtomicU64::new(0),
            sweeps: AtomicU64::new(0),
            swept_ns: AtomicU64::new(0),
            over: AtomicBool::new(false),
        };
        world.keys = (0..OBJECTS).map(|object| world.key(object)).collect();
        let begin = Instant::now();
        (0..OBJECTS).for_each(|object| world.fill(object));
        let usage = world.objects.usage();
        let (seconds, bytes) = (begin.elapsed().as_secs_f64(), usage.memory_bytes >> 20);
        assert_eq!(usage.memory_entries, OBJECTS);
        println!("filled in {seconds:.1} s: {bytes} MiB, {} keys an object", world.found(0).purge_keys.len());
        world
    }

    fn target(object: u64) -> String {
        format!("/shop/{}/items/{object}?size=m", object / 1_000)
    }

    fn key(&self, object: u64) -> Key {
        let uri = Uri::try_from(Self::target(object)).unwrap();
        let (site, id, host, ..) = &self.sites[site_of(object)];
        let target = key::target(&uri).unwrap();
        key::primary(&Secret([7; 16]), &site.tenant, id, true, host, &target)
    }

    fn found(&self, object: u64) -> Arc<Object> {
        match self.objects.memory(self.keys[object as usize]) {
            Some(Entry::Object(object)) => object,
            _ => unreachable!("nothing is evicted here"),
        }
    }

    /// Stores an object as if it had been fetched now.
    fn fill(&self, object: u64) {
        let stamp = Position(self.position.load(Ordering::Acquire));
        let (_, id, host, permit, guard) = &self.sites[site_of(object)];
        let tags: Vec<String> = (0..TAGS).map(|n| tag(mix(object * TAGS + n))).collect();
        let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
        let entry = Entry::Object(Arc::new(Object {
            made: BodyId(3),
            status: StatusCode::OK,
            headers: self.headers.clone(),
            freshness: freshness(),
            stamp,
            verified: AtomicU64::new(0),
            confirmed_ms: 0,
            purge_keys: guard.keys(
                host,
                &format!("/shop/{}/items/{object}", object / 1_000),
                Some("size=m"),
                Some(&tags),
            ),
            body: Body::Inline(Bytes::from_static(&[b'x'; BODY_BYTES])),
            site: id.clone(),
        }));
        self.objects.insert(permit, self.keys[object as usize], entry);
    }

    /// One hit. False if the object was purged.
    #[inline]
    fn hit(&self, object: u64, depth: Depth, check: bool) -> bool {
        let key = if depth == Depth::Check { self.keys[object as usize] } else { self.asked(object) };
        let Some((found, ttl_s)) = self.served(&self.sites[site_of(object)], key, check) else { return false };
        if depth == Depth::Steps {
            black_box(self.answered(&found, ttl_s));
        }
        true
    }

    /// An object, if it may be served, and how long it is fresh.
    #[inline]
    fn served(&self, place: &Place, key: Key, check: bool) -> Option<(Arc<Object>, i64)> {
        let Some(Entry::Object(found)) = self.objects.memory(key) else { return None };
        let standing =
            if check { place.4.standing(found.stamp, &found.verified, &found.purge_keys) } else { Standing::Valid };
        match caching::decide(&found.freshness, standing, NOW_UNIX_MS) {
            Decision::Serve { ttl_s, .. } => Some((found, ttl_s)),
            _ => None,
        }
    }

    /// The fields of an answer.
    #[inline]
    fn answered(&self, found: &Object, ttl_s: i64) -> HeaderMap {
        let mut headers = found.headers.clone();
        headers.insert("cache-status", CacheStatus::hit(ttl_s).value(&self.name));
        headers
    }

    /// From the target to the key.
    #[inline]
    fn asked(&self, object: u64) -> Key {
        let uri = Uri::try_from(Self::target(object)).unwrap();
        let (site, id, host, ..) = &self.sites[site_of(object)];
        let target = key::target(&uri).unwrap();
        black_box(caching::intent(&Method::GET, &self.request, &self.policy));
        key::primary(&Secret([7; 16]), &site.tenant, id, true, host, &target)
    }

    /// Nanoseconds per hit of a round, and how many objects were found purged.
    fn round(&self, wire: &mut Wire, chance: &mut Chance, spread: Spread, depth: Depth, check: bool) -> (f64, usize) {
        self.checks.store(check, Ordering::Relaxed);
        let (mut spent, mut purged) = (Duration::ZERO, 0);
        let mut wanted = Vec::with_capacity(HITS_PER_BATCH as usize);
        let mut gone = Vec::new();
        for _ in 0..HITS_PER_ROUND / HITS_PER_BATCH {
            wanted.clear();
            wanted.extend((0..HITS_PER_BATCH).map(|_| chance.object(spread)));
            let begin = processor_time();
            if depth == Depth::Whole {
                wire.ask(&wanted);
            } else {
                gone.extend(wanted.iter().copied().filter(|object| !self.hit(*object, depth, check)));
            }
            let batch = processor_time().saturating_sub(begin);
            spent += batch;
            if self.running.load(Ordering::Relaxed) {
                self.time_ns.fetch_add(batch.as_nanos() as u64, Ordering::Relaxed);
            }
            gone.append(&mut self.gone.lock().unwrap());
            purged += gone.len();
            gone.drain(..).for_each(|object| self.fill(object));
        }
        (spent.as_nanos() as f64 / HITS_PER_ROUND as f64, purged)
    }

    /// Pairs of rounds without and with the check.
    fn compare(&self, wire: &mut Wire, spread: Spread, depth: Depth, purging: bool) {
        let mut chance = Chance(42);
        let (mut off, mut on, mut ratios, mut added, mut purged) = (vec![], vec![], vec![], vec![], 0);
        let rounds = match depth {
            Depth::Whole => ROUNDS_WHOLE,
            _ if purging => ROUNDS_PURGING,
            _ => ROUNDS_STILL,
        };
        for round in 0..rounds + 5 {
            let without = |wire: &mut Wire| self.round(wire, &mut Chance(round as u64 + 7), spread, depth, false).0;
            let with = |wire: &mut Wire, chance: &mut Chance| {
                self.running.store(purging, Ordering::Relaxed);
                let with = self.round(wire, chance, spread, depth, true);
                self.running.store(false, Ordering::Relaxed);
                with
            };
            let (a, (b, gone)) = if round % 2 == 0 {
                let a = without(wire);
                (a, with(wire, &mut chance))
            } else {
                let b = with(wire, &mut chance);
                (without(wire), b)
            };
            if round >= 5 {
                off.push(a);
                on.push(b);
                ratios.push(b / a);
                added.push(b - a);
                purged += gone;
            }
        }
        let name = if purging { "(c) purges" } else { "(b) no purge" };
        let added = median(&mut added);
        println!(
            "{name}, {spread:?}, {depth:?}: off {:.0} ns, on {:.0} ns, +{added:.0} ns, ratio {:.3}; \
             {purged} of {} were purged",
            median(&mut off),
            median(&mut on),
            median(&mut ratios),
            ratios.len() as u64 * HITS_PER_ROUND,
        );
    }

    /// Purges a tag a thousand times a second, while time goes on.
    fn purge_on(&self) {
        let begin = self.time();
        let mut done = 0;
        while !self.over.load(Ordering::Relaxed) {
            let due = (self.time() - begin).as_millis() as u64 * PURGES_PER_S / 1_000;
            (done..due).for_each(|_| self.purge());
            done = due;
            thread::sleep(Duration::from_micros(500));
        }
    }

    fn purge(&self) {
        let n = self.purges.fetch_add(1, Ordering::Relaxed);
        let mut apply = self.apply.lock().unwrap();
        let site = Some(self.sites[(mix(n) % SITES) as usize].1.clone());
        apply.handle_event(&event(site, PurgeKey::Tag(tag(mix(n.wrapping_mul(0x9e37)))), n), source(n), n);
        drop(apply.poll_delta());
    }

    /// As after a minute of such purges.
    fn settle(&self) {
        for _ in 0..2 {
            (0..10 * PURGES_PER_S).for_each(|_| self.purge());
            self.sweep(0, || true);
            self.refill();
        }
    }

    fn refill(&self) {
        for object in 0..OBJECTS {
            if !self.hit(object, Depth::Check, true) {
                self.fill(object);
            }
        }
    }

    fn time(&self) -> Duration {
        Duration::from_nanos(self.time_ns.load(Ordering::Relaxed))
    }

    /// Sweeps as the node does, while time goes on.
    fn sweep_on(&self) {
        let mut last = self.time();
        while !self.over.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(1));
            if self.time() > last + SWEEP_PAUSE {
                self.sweep(SWEEP_REST, || self.running.load(Ordering::Relaxed));
                last = self.time();
            }
        }
    }

    fn sweep(&self, rest: u32, goes_on: impl Fn() -> bool) {
        let guards: HashMap<_, _> =
            self.sites.iter().filter(|site| site.4.turn()).map(|site| (site.1.clone(), Arc::clone(&site.4))).collect();
        let mut sweep = Sweep::default();
        let mut more = true;
        while more && !self.over.load(Ordering::Relaxed) {
            if !goes_on() {
                thread::sleep(Duration::from_micros(200));
                continue;
            }
            let (begin, busy) = (Instant::now(), processor_time());
            more = self.objects.sweep(&mut sweep, |object| match guards.get(&object.site) {
                Some(guard) => guard.standing(object.stamp, &object.verified, &object.purge_keys),
                None => Standing::Valid,
            });
            let spent = processor_time().saturating_sub(busy).as_nanos() as u64;
            self.swept_ns.fetch_add(spent, Ordering::Relaxed);
            thread::sleep(begin.elapsed() * rest);
        }
        self.sweeps.fetch_add(sweep.objects, Ordering::Relaxed);
    }
}

/// Purges that are floors, with few and with many marks under them.
fn floors() {
    for marks in [10_u64, 4_000_000] {
        for whole in [false, true] {
            let mut apply = applying();
            let id = SiteId::parse("shop").unwrap();
            apply.guard(&id);
            for n in 0..marks / 10 {
                let keys = (0..10).map(|key| PurgeKey::Tag(format!("{n}-{key}"))).collect();
                let event = Event::new(Some(id.clone()), Mode::Hard, keys, n.to_string()).unwrap();
                apply.handle_event(&Arc::new(event), source(n), n);
                if n % 1_000 == 0 {
                    drop(apply.poll_delta());
                }
            }
            drop(apply.poll_delta());
            let before = apply.marks();
            let event =
                if whole { event(None, PurgeKey::Realm, marks) } else { event(Some(id), PurgeKey::Site, marks) };
            let begin = Instant::now();
            apply.handle_event(&event, source(marks), marks);
            let spent = begin.elapsed();
            assert_eq!(apply.marks(), 0);
            println!("{}: {before} marks: {spent:?}", if whole { "everything" } else { "a site" });
        }
    }
}

/// The same, with many small objects in memory.
fn floors_over(objects: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let settings = Settings { dir: None, memory_bytes: 64 << 30, disk_bytes: 0 };
    let store = runtime.block_on(Objects::open(settings)).unwrap();
    let (id, mut apply) = (SiteId::parse("shop").unwrap(), applying());
    let guard = apply.guard(&id);
    let permit = residency::permit(&site(&id), &JurisdictionId::parse("eu").unwrap()).unwrap();
    let nth = |n: u64| Key(u128::from(mix(n)) << 64 | u128::from(mix(!n)));
    let keys = guard.keys("www.example.com", "/", None, Some(&["a"]));
    for n in 0..objects {
        let object = Object {
            stamp: apply.position(),
            verified: AtomicU64::new(0),
            freshness: freshness(),
            purge_keys: keys.clone(),
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            confirmed_ms: 0,
            made: BodyId(3),
            body: Body::Inline(Bytes::new()),
            site: id.clone(),
        };
        store.insert(&permit, nth(n), Entry::Object(Arc::new(object)));
    }
    assert_eq!(store.usage().memory_entries, objects);
    for (n, whole) in [(0, false), (1, true)] {
        let event = if whole { event(None, PurgeKey::Realm, n) } else { event(Some(id.clone()), PurgeKey::Site, n) };
        let begin = Instant::now();
        apply.handle_event(&event, source(n), n);
        let spent = begin.elapsed();
        let Some(Entry::Object(object)) = store.memory(nth(n)) else { unreachable!("nothing is evicted here") };
        assert_eq!(guard.standing(object.stamp, &object.verified, &object.purge_keys), Standing::Stale);
        println!("{}: {objects} objects in memory: {spent:?}", if whole { "everything" } else { "a site" });
    }
    let (begin, mut sweep) = (processor_time(), Sweep::default());
    guard.turn();
    while store.sweep(&mut sweep, |object| guard.standing(object.stamp, &object.verified, &object.purge_keys)) {}
    let spent = processor_time().saturating_sub(begin);
    assert_eq!((sweep.freed, store.usage().memory_entries), (objects, 0));
    println!("their sweep: {spent:?} of processor time without rests, {} MiB freed", sweep.freed_bytes >> 20);
}

fn applying() -> Apply {
    let terms = Terms {
        secret: RealmSecret([7; 16]),
        boot: 1,
        run: 1,
        witnesses: vec![NodeId::parse("frankfurt-1").unwrap()],
        own: Some(0),
        limits: Limits::default(),
    };
    let apply = Apply::new(terms, Saved::default(), None);
    apply.open_gate();
    apply
}

fn source(n: u64) -> Source {
    Source::Log { witness: 0, seq: n + 1 }
}

fn event(site: Option<SiteId>, key: PurgeKey, n: u64) -> Arc<Event> {
    Arc::new(Event::new(site, Mode::Hard, vec![key], format!("event-{n}")).unwrap())
}

fn tag(n: u64) -> String {
    format!("product-{}", n % TAGS_OF_SITE)
}

fn site(id: &SiteId) -> Site {
    Site {
        name: id.clone(),
        tenant: TenantId::parse("acme").unwrap(),
        hosts: vec![],
        pin: None,
        origins: vec![],
        routes: vec![],
        tls: None,
        dns_ttl_s: 60,
        steering: region_config::SiteSteering::default(),
        https_port: 443,
        cache_status: region_config::StatusFor::All,
        failover_on: Vec::new(),
        purge_by_response: false,
        misrouted_to: None,
        misrouted_tls: region_config::MisroutedTls::Refuse,
    }
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

fn response_headers() -> HeaderMap {
    fields([
        ("content-type", "application/json; charset=utf-8"),
        ("cache-control", "public, max-age=300, stale-while-revalidate=60"),
        ("etag", "\"5f3c-9a1b2c3d4e5f\""),
        ("date", "Sun, 22 Nov 2026 10:00:00 GMT"),
        ("content-length", "1024"),
    ])
}

fn request_headers() -> HeaderMap {
    fields([
        ("host", "www.example.com"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0"),
        ("accept", "*/*"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("accept-language", "en-GB,en;q=0.7,de;q=0.3"),
    ])
}

fn fields<const N: usize>(fields: [(&'static str, &'static str); N]) -> HeaderMap {
    fields.into_iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

/// Of this thread.
fn processor_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
