//! How soon a million objects are there again after a restart, and after a kill: `cargo bench -p benches --bench restart`.
//! Needs about 6 GB of disk in the folder for temporary files.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, reason = "a bench")]

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use bytes::Bytes;
use region_config::{JurisdictionId, Site, SiteId, TenantId};
use rules::{key::Key, residency};
use store::objects::{Objects, Settings};
use wire::entry::Entry;

const OBJECTS: u64 = 1_000_000;
const FILL: &str = "MERIDIAN_BENCH_FILL";

fn settings(dir: &Path) -> Settings {
    Settings { dir: Some(dir.to_path_buf()), memory_bytes: 256 << 20, disk_bytes: 6 << 30 }
}

fn key(object: u64) -> Key {
    let mix = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    Key(u128::from(mix(object)) << 64 | u128::from(mix(!object)))
}

fn permit() -> residency::Permit {
    let site = Site {
        failover_on: Vec::new(),
        name: SiteId::parse("shop").unwrap(),
        tenant: TenantId::parse("shop").unwrap(),
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

/// Stores a million objects of 2 to 3.5 kB, and ends without a word.
async fn fill(dir: PathBuf) {
    let objects = Objects::open(settings(&dir)).await.unwrap();
    let (permit, bytes) = (permit(), Bytes::from(vec![7; 4096]));
    for object in 0..OBJECTS {
        let size = 2000 + usize::try_from(object * 7919 % 1500).unwrap();
        objects.insert(&permit, key(object), Entry::Chunk(bytes.slice(..size)));
        if object % 2000 == 1999 {
            objects.settle().await;
        }
    }
    objects.settle().await;
    // as SIGKILL: nothing is closed
    std::process::abort();
}

async fn measure(dir: &Path, what: &str) {
    let begin = Instant::now();
    let objects = Objects::open(settings(dir)).await.unwrap();
    let took = begin.elapsed();
    let there = (0..OBJECTS).filter(|object| objects.contains(key(*object))).count();
    println!("{what:<32} ready in {:>7.0} ms with {there} objects", took.as_secs_f64() * 1e3);
    objects.close().await;
    drop(objects);
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if let Some(dir) = std::env::var_os(FILL) {
        return runtime.block_on(fill(dir.into()));
    }
    let dir = tempfile::tempdir().unwrap();
    let begin = Instant::now();
    let _aborted = Command::new(std::env::current_exe().unwrap()).env(FILL, dir.path()).status().unwrap();
    println!("filled in {:.1} s", begin.elapsed().as_secs_f64());
    runtime.block_on(async {
        measure(dir.path(), "after a kill").await;
        measure(dir.path(), "after an orderly end").await;
        let dropped = std::fs::write("/proc/sys/vm/drop_caches", "1").is_ok();
        let what = if dropped { "with nothing in the page cache" } else { "again (page cache not dropped)" };
        measure(dir.path(), what).await;
    });
}
