//! What memory keeps: hit ratios on made traffic, ours beside foyer's algorithms in the same run, and what a neighbour
//! costs. `cargo bench -p benches --bench eviction`.
//!
//! Objects are asked for by Zipf's law; their sizes have a heavy tail (Pareto, 500 bytes to 256 KiB); memory holds a
//! twentieth of all bytes. Beside that run a stream of objects that are asked for once, or scans. What the literature
//! gives S3-FIFO over LRU is a miss ratio lower by 10 to 20 % of itself at the median of many traces, more where there are
//! many one-hit wonders; the figures here are of one made traffic each, and say no more than that.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    reason = "a bench"
)]

use std::time::Instant;

use bytes::Bytes;
use foyer::{Cache, CacheBuilder, EvictionConfig, FifoConfig, LfuConfig, LruConfig, S3FifoConfig, SieveConfig};
use region_config::{JurisdictionId, Site, SiteId, TenantId};
use rules::{key::Key, residency};
use store::objects::{Objects, Quota, Settings, Share};
use wire::entry::Entry;

const SET: usize = 100_000;
/// For objects of the hot set; what runs beside comes on top.
const REQUESTS: usize = 600_000;
/// What an entry costs beside its bytes: the same for all, so that only the choice differs.
const RECORD_BYTES: usize = 352;
const LARGEST: usize = 256 * 1024;

/// A linear congruential generator: the same stream in every run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 11
    }

    /// At least 0, below 1.
    fn unit(&mut self) -> f64 {
        self.next() as f64 / (1_u64 << 53) as f64
    }
}

/// Cumulated weights of Zipf's law.
fn zipf(exponent: f64, set: usize) -> Vec<f64> {
    let mut sum = 0.0;
    let mut cumulated: Vec<f64> = (1..=set)
        .map(|rank| {
            sum += (rank as f64).powf(-exponent);
            sum
        })
        .collect();
    cumulated.iter_mut().for_each(|weight| *weight /= sum);
    cumulated
}

fn key(object: u64) -> u128 {
    let mix = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    u128::from(mix(object)) << 64 | u128::from(mix(!object))
}

/// An object's size, always the same for the same object.
fn size(object: u64) -> usize {
    let unit = Chance(object.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1).unit().max(1e-6);
    ((500.0 * unit.powf(-1.0 / 1.2)) as usize).min(LARGEST)
}

/// Something that keeps objects, or not.
trait Keeps {
    fn get(&self, object: u64) -> bool;
    fn insert(&self, object: u64);
}

impl Keeps for Cache<u128, usize> {
    fn get(&self, object: u64) -> bool {
        Cache::get(self, &key(object)).is_some()
    }

    fn insert(&self, object: u64) {
        Cache::insert(self, key(object), size(object));
    }
}

/// Our store, memory only; objects from `TENANTS * n` on are of other tenants.
struct Ours {
    objects: Objects,
    permits: Vec<residency::Permit>,
    bytes: Bytes,
}

/// Objects are numbered by tenant in their upper bits.
const TENANT_SHIFT: u32 = 40;

impl Ours {
    fn new(memory_bytes: usize, floors: &[Option<u64>], maxima: &[Option<u64>]) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let settings = Settings { dir: None, memory_bytes: memory_bytes as u64, disk_bytes: 0 };
        let objects = runtime.block_on(Objects::open(settings)).unwrap();
        let name = |n: usize| format!("t{n}");
        let share = |n: usize| Share {
            tenant: TenantId::parse(&name(n)).unwrap(),
            sites: vec![SiteId::parse(&name(n)).unwrap()],
            memory: Quota { floor: floors[n], max: maxima[n] },
            disk: Quota::default(),
        };
        objects.share(&(0..floors.len()).map(share).collect::<Vec<_>>());
        let permits = (0..floors.len()).map(|n| permit(&name(n))).collect();
        Self { objects, permits, bytes: Bytes::from(vec![0; LARGEST]) }
    }
}

impl Keeps for Ours {
    fn get(&self, object: u64) -> bool {
        self.objects.memory(Key(key(object))).is_some()
    }

    fn insert(&self, object: u64) {
        let permit = &self.permits[(object >> TENANT_SHIFT) as usize];
        self.objects.insert(permit, Key(key(object)), Entry::Chunk(self.bytes.slice(..size(object))));
    }
}

fn permit(site: &str) -> residency::Permit {
    let site = Site {
        failover_on: Vec::new(),
        name: SiteId::parse(site).unwrap(),
        tenant: TenantId::parse(site).unwrap(),
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
    };
    residency::permit(&site, &JurisdictionId::parse("eu").unwrap()).unwrap()
}

/// What runs beside the hot set.
#[derive(Clone, Copy)]
enum Beside {
    Nothing,
    /// So many of a hundred requests are for objects that never come again.
    OneHit(u64),
    /// After every so many requests, a scan over as many other objects, always the same ones.
    Scan(usize),
}

/// Hit ratio of the hot set in percent, and ns per request.
fn run(cache: &dyn Keeps, zipf: &[f64], beside: Beside) -> (f64, f64) {
    let mut chance = Chance(42);
    let (mut asked, mut hits) = (0_u64, 0_u64);
    let mut other = SET as u64;
    let ask = |object| {
        let hit = cache.get(object);
        if !hit {
            cache.insert(object);
        }
        hit
    };
    let begin = Instant::now();
    let (mut hot, mut request) = (0, 0);
    while hot < REQUESTS {
        request += 1;
        match beside {
            Beside::OneHit(share) if chance.next() % 100 < share => {
                other += 1;
                ask(other);
                continue;
            }
            Beside::Scan(length) if hot % length == length - 1 => {
                for n in 0..length as u64 {
                    ask(SET as u64 + n);
                }
                request += length;
            }
            _ => {}
        }
        hot += 1;
        let at = chance.unit();
        let hit = ask(zipf.partition_point(|weight| *weight < at) as u64);
        // the first half fills the cache
        if hot > REQUESTS / 2 {
            asked += 1;
            hits += u64::from(hit);
        }
    }
    let ns = begin.elapsed().as_nanos() as f64 / request as f64;
    (hits as f64 / asked as f64 * 100.0, ns)
}

fn algorithms() {
    let set_bytes: usize = (0..SET as u64).map(|object| size(object) + RECORD_BYTES).sum();
    let capacity = set_bytes / 20;
    println!(
        "memory for 5 % of {} MB; hit ratio of the hot set in percent, ns per request with the insert",
        set_bytes >> 20
    );
    let traffic = [
        ("alone", Beside::Nothing),
        ("50 % one-hit", Beside::OneHit(50)),
        ("90 % one-hit", Beside::OneHit(90)),
        ("scans", Beside::Scan(20_000)),
    ];
    for exponent in [0.8, 1.0] {
        let zipf = zipf(exponent, SET);
        print!("Zipf {exponent:<5}");
        traffic.iter().for_each(|(name, _)| print!("{name:>22}"));
        println!();
        let foyer = |config: EvictionConfig| -> Box<dyn Keeps> {
            let builder = CacheBuilder::new(capacity).with_shards(1).with_eviction_config(config);
            Box::new(builder.with_weighter(|_: &u128, size: &usize| size + RECORD_BYTES).build())
        };
        type Make<'a> = &'a dyn Fn() -> Box<dyn Keeps>;
        let makers: [(&str, Make<'_>); 6] = [
            ("ours", &|| Box::new(Ours::new(capacity, &[None], &[None]))),
            ("s3-fifo", &|| foyer(S3FifoConfig::default().into())),
            ("sieve", &|| foyer(SieveConfig.into())),
            ("fifo", &|| foyer(FifoConfig::default().into())),
            ("lru", &|| foyer(LruConfig::default().into())),
            ("lfu", &|| foyer(LfuConfig::default().into())),
        ];
        for (name, make) in makers {
            print!("{name:<10}");
            for (_, beside) in traffic {
                let (ratio, ns) = run(make().as_ref(), &zipf, beside);
                print!("{ratio:>12.1} {ns:>6.0} ns");
            }
            println!();
        }
    }
}

/// Hit ratio of tenant 0 while tenant 1 scans ten times the memory, each object `twice` or once in a row.
fn beside_scanner(ours: &Ours, zipf: &[f64], scans: usize, twice: u64) -> f64 {
    let mut chance = Chance(42);
    let (mut asked, mut hits, mut scanned) = (0_u64, 0_u64, 0_u64);
    for request in 0..REQUESTS / 2 {
        let at = chance.unit();
        let object = zipf.partition_point(|weight| *weight < at) as u64;
        let hit = ours.get(object);
        if !hit {
            ours.insert(object);
        }
        if request > REQUESTS / 4 {
            asked += 1;
            hits += u64::from(hit);
        }
        for _ in 0..scans {
            let object = (1 << TENANT_SHIFT) + scanned / twice % (SET as u64 / 2);
            if !ours.get(object) {
                ours.insert(object);
            }
            scanned += 1;
        }
    }
    hits as f64 / asked as f64 * 100.0
}

fn tenants() {
    let zipf = zipf(0.9, SET);
    let set_bytes: usize = (0..SET as u64).map(|object| size(object) + RECORD_BYTES).sum();
    let capacity = set_bytes / 20;
    let half = Some(capacity as u64 / 2);
    println!(
        "\na tenant with a floor of half the memory, and a neighbour that scans ten times the memory, 4 requests to one"
    );
    let alone = beside_scanner(&Ours::new(capacity, &[half, Some(0)], &[half, None]), &zipf, 0, 1);
    println!("{:<44}{alone:>6.1} %", "alone, with its floor and no more");
    for (name, twice) in [("each object once", 1), ("each object twice in a row", 2)] {
        let with = beside_scanner(&Ours::new(capacity, &[half, Some(0)], &[None, None]), &zipf, 4, twice);
        let automatic = beside_scanner(&Ours::new(capacity, &[None, None], &[None, None]), &zipf, 4, twice);
        let without = beside_scanner(&Ours::new(capacity, &[Some(0), Some(0)], &[None, None]), &zipf, 4, twice);
        println!("{name:<28}{:<16}{with:>6.1} %", "with the floor");
        println!("{:<28}{:<16}{automatic:>6.1} %", "", "automatic");
        println!("{:<28}{:<16}{without:>6.1} %", "", "without one");
    }
}

/// What a ghost filter before the disk would save, and cost: a log that goes round, five times the memory above.
fn disk_filter() {
    println!(
        "\na disk for 25 % of the set, as a log that goes round; one-hit wonders are half of the requests (Zipf 0.9)"
    );
    let zipf = zipf(0.9, SET);
    let set_bytes: u64 = (0..SET as u64).map(disk_size).sum();
    for (name, filtered) in [("everything is written", false), ("what comes a second time", true)] {
        let log: Cache<u64, u64> = CacheBuilder::new((set_bytes / 4) as usize)
            .with_shards(1)
            .with_eviction_config(FifoConfig::default())
            .with_weighter(|object: &u64, _: &u64| disk_size(*object) as usize)
            .build();
        let mut seen = std::collections::HashSet::new();
        let mut chance = Chance(42);
        let (mut other, mut asked, mut hits, mut written) = (SET as u64, 0_u64, 0_u64, 0_u64);
        for request in 0..REQUESTS {
            let one_hit = chance.next().is_multiple_of(2);
            let at = chance.unit();
            let object = if one_hit {
                other += 1;
                other
            } else {
                zipf.partition_point(|weight| *weight < at) as u64
            };
            let hit = log.get(&object).is_some();
            if !hit && (!filtered || !seen.insert(object)) {
                log.insert(object, 0);
                written += disk_size(object);
            }
            if !one_hit && request > REQUESTS / 2 {
                asked += 1;
                hits += u64::from(hit);
            }
        }
        println!("{name:<28}{:>6.1} % hits {:>8} MB written", hits as f64 / asked as f64 * 100.0, written >> 20);
    }
}

fn disk_size(object: u64) -> u64 {
    (size(object) as u64).next_multiple_of(4096)
}

/// Nothing walks: look-ups while another thread stores, replaces and evicts without pause.
fn latency() {
    const ENTRIES: u64 = 1_000_000;
    println!("\nns of a look-up in memory among a million entries, with the clock's own (two cores, shared)");
    let ours = Ours::new(1 << 30, &[None], &[None]);
    let entry = Entry::Chunk(ours.bytes.slice(..500));
    (0..ENTRIES).for_each(|object| ours.objects.insert(&ours.permits[0], Key(key(object)), entry.clone()));
    let measure = |what: &str, cache: &dyn Keeps| {
        let mut chance = Chance(7);
        let mut times: Vec<u64> = (0..500_000)
            .map(|_| {
                let object = chance.next() % ENTRIES;
                let begin = Instant::now();
                std::hint::black_box(cache.get(object));
                begin.elapsed().as_nanos() as u64
            })
            .collect();
        times.sort_unstable();
        let part = |part: usize| times[times.len() * part / 1000];
        println!("{what:<44} p50 {:>6}   p99 {:>6}   p99.9 {:>7}", part(500), part(990), part(999));
    };
    let foyer: Cache<u128, usize> =
        CacheBuilder::new(2 * ENTRIES as usize).with_shards(64).with_eviction_config(S3FifoConfig::default()).build();
    (0..ENTRIES).for_each(|object| Keeps::insert(&foyer, object));
    measure("nothing else; foyer's s3-fifo", &foyer);
    drop(foyer);
    measure("nothing else", &ours);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let beside = |what: &str, first: u64, count: u64| {
        stop.store(false, std::sync::atomic::Ordering::Relaxed);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in (0..).take_while(|_| !stop.load(std::sync::atomic::Ordering::Relaxed)) {
                    ours.objects.insert(&ours.permits[0], Key(key(first + n % count)), entry.clone());
                }
            });
            measure(what, &ours);
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    };
    beside("all is fetched anew, as after purging all", 0, ENTRIES);
    beside("a scan that evicts at every insert", ENTRIES, 100 * ENTRIES);
}

fn main() {
    algorithms();
    tenants();
    disk_filter();
    latency();
}
