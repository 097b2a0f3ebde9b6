#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod faults;
mod sweeps;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, atomic::AtomicU64},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use region_config::{JurisdictionId, Site, SiteId, TenantId};
use rules::{
    caching::{Freshness, VarySpec},
    key::BodyId,
    purge::Position,
    residency,
};
use wire::entry::{Body, CHUNK_BYTES, Object, VaryIndex};

use super::*;

const MIB: u64 = 1024 * 1024;

fn permit(site: &str) -> Permit {
    let site = Site {
        name: SiteId::parse(site).unwrap(),
        tenant: TenantId::parse("tenant").unwrap(),
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

/// Bytes that say which entry they belong to, at every place.
fn bytes(number: u64, length: usize) -> Bytes {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(length).collect()
}

fn key(number: u64) -> Key {
    Key(u128::from_le_bytes(bytes(number, 16).as_ref().try_into().unwrap()))
}

fn object(number: u64, body: Body) -> Entry {
    let mut headers = HeaderMap::new();
    headers.insert("x-number", HeaderValue::from(number));
    Entry::Object(Arc::new(Object {
        made: BodyId(3),
        status: StatusCode::OK,
        headers,
        freshness: Freshness {
            lifetime_s: 60,
            age_zero_unix_ms: number,
            stale_while_revalidate_s: 0,
            stale_if_error_s: None,
            must_revalidate: false,
            always_revalidate: false,
        },
        stamp: Position(number),
        verified: AtomicU64::new(number),
        confirmed_ms: 0,
        purge_keys: vec![number].into(),
        body,
        site: SiteId::parse("shop").unwrap(),
    }))
}

/// The entry that stands under `key(number)` in every test: every fifth a chunk, the others objects of many sizes.
fn sample(number: u64) -> Entry {
    if number.is_multiple_of(5) {
        return Entry::Chunk(bytes(number, CHUNK_BYTES as usize));
    }
    object(number, Body::Inline(bytes(number, usize::try_from(number * 7919 % 60_000).unwrap())))
}

/// Panics if the entry is another one than was stored.
fn check(number: u64, found: &Entry) {
    match (sample(number), found) {
        (Entry::Chunk(wanted), Entry::Chunk(found)) => assert!(wanted == *found, "chunk {number}"),
        (Entry::Object(wanted), Entry::Object(found)) => {
            assert_eq!(wanted.headers, found.headers, "object {number}");
            assert_eq!(wanted.stamp, found.stamp, "object {number}");
            assert!(wanted.body == found.body, "object {number}");
        }
        (_, found) => panic!("entry {number} is {found:?}"),
    }
}

/// How many of the entries are there; each that is there is the right one.
async fn found(objects: &Objects, numbers: std::ops::Range<u64>) -> u64 {
    let mut count = 0;
    for number in numbers {
        if let Some(entry) = objects.lookup(key(number)).await {
            check(number, &entry);
            count += 1;
        }
    }
    count
}

async fn open(dir: &Path, memory_bytes: u64, disk_bytes: u64) -> Objects {
    Objects::open(Settings { dir: Some(dir.to_path_buf()), memory_bytes, disk_bytes }).await.unwrap()
}

/// Waits until everything is written, so that the bounded queue drops nothing.
async fn settle(objects: &Objects) {
    objects.settle().await;
}

async fn fill(objects: &Objects, numbers: std::ops::Range<u64>) {
    let permit = permit("shop");
    for number in numbers {
        objects.insert(&permit, key(number), sample(number));
        if number.is_multiple_of(16) {
            settle(objects).await;
        }
    }
    settle(objects).await;
}

#[tokio::test]
async fn without_a_folder_everything_is_in_memory() {
    for settings in [
        Settings { dir: None, memory_bytes: 64 * MIB, disk_bytes: 64 * MIB },
        Settings { dir: Some("/nowhere/at/all".into()), memory_bytes: 64 * MIB, disk_bytes: 0 },
    ] {
        let objects = Objects::open(settings).await.unwrap();
        fill(&objects, 0..100).await;
        assert_eq!(found(&objects, 0..100).await, 100);
        check(7, &objects.memory(key(7)).unwrap());
        assert!(objects.lookup(key(1000)).await.is_none());
        let usage = objects.usage();
        assert_eq!((usage.disk_bytes, usage.disk_bytes_max, usage.memory_entries), (0, 0, 100));
        objects.close().await;
    }
}

#[tokio::test]
async fn every_kind_of_entry_comes_back_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let permit = permit("shop");
    let objects = open(dir.path(), 16 * MIB, 64 * MIB).await;
    fill(&objects, 0..100).await;
    let chunked = Body::Chunked { id: BodyId(9), length: 1 << 40, chunk_bytes: CHUNK_BYTES };
    let index = VaryIndex { specs: vec![VarySpec(vec![http::header::ACCEPT].into())], variants: Vec::new() };
    objects.insert(&permit, key(1000), object(1000, chunked.clone()));
    objects.insert(&permit, key(1001), Entry::Vary(Arc::new(index.clone())));
    objects.insert(&permit, key(1002), Entry::HitForMiss { until_unix_ms: 5, reason: 6 });
    objects.close().await;
    drop(objects);

    let objects = open(dir.path(), 16 * MIB, 64 * MIB).await;
    assert!(objects.memory(key(1)).is_none(), "memory begins empty");
    assert!(objects.contains(key(1)));
    assert_eq!(found(&objects, 0..100).await, 100);
    check(1, &objects.memory(key(1)).unwrap());
    let Some(Entry::Object(object)) = objects.lookup(key(1000)).await else { panic!("an object") };
    assert_eq!(object.body, chunked);
    let Some(Entry::Vary(found)) = objects.lookup(key(1001)).await else { panic!("an index") };
    assert_eq!(*found, index);
    let found = objects.lookup(key(1002)).await;
    assert!(matches!(found, Some(Entry::HitForMiss { until_unix_ms: 5, reason: 6 })));
    assert_eq!(objects.usage().disk_hits, 103);
    objects.close().await;
}

#[tokio::test]
async fn a_set_larger_than_memory_hits_from_disk() {
    let dir = tempfile::tempdir().unwrap();
    let objects = open(dir.path(), MIB, 64 * MIB).await;
    fill(&objects, 0..300).await;
    let usage = objects.usage();
    assert!(usage.memory_bytes <= usage.memory_bytes_max + u64::from(CHUNK_BYTES), "{usage:?}");
    assert!(usage.memory_entries < 100, "{usage:?}");
    assert_eq!(found(&objects, 0..300).await, 300);
    assert!(objects.usage().disk_hits > 200);
    objects.close().await;
}

#[tokio::test]
async fn a_full_disk_tier_drops_the_oldest_and_keeps_to_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let objects = open(dir.path(), MIB, 32 * MIB).await;
    fill(&objects, 0..1000).await;
    let there = found(&objects, 0..1000).await;
    assert!((100..700).contains(&there), "{there}");
    let newest = found(&objects, 900..1000).await;
    assert!(newest > 90, "{newest}: {:?}", objects.usage());
    assert!(directory::held_bytes(dir.path()) <= 33 * MIB);
    objects.close().await;
}

fn share(tenant: &str) -> Share {
    Share {
        tenant: TenantId::parse(tenant).unwrap(),
        sites: vec![SiteId::parse(tenant).unwrap()],
        memory: Quota::default(),
        disk: Quota::default(),
    }
}

/// A small object of the site `other`.
fn of_other(number: u64) -> Entry {
    let Entry::Object(object) = object(number, Body::Inline(bytes(number, 20_000))) else { panic!("an object") };
    let Ok(mut object) = Arc::try_unwrap(object) else { panic!("one holder") };
    object.site = SiteId::parse("other").unwrap();
    Entry::Object(Arc::new(object))
}

#[tokio::test]
async fn a_tenant_that_scans_does_not_wash_its_neighbour_off_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let objects = open(dir.path(), MIB, 64 * MIB).await;
    objects.share(&[share("shop"), share("other")]);
    fill(&objects, 0..100).await;
    let other = permit("other");
    // ten times the disk
    for number in 0..26_000 {
        objects.insert(&other, key(1 << 32 | number), of_other(number));
        if number.is_multiple_of(64) {
            objects.settle().await;
        }
    }
    let there = found(&objects, 0..100).await;
    assert!(there > 95, "{there} of 100; {:?}", objects.usage());
    assert!(objects.usage().disk_refused[Refusal::Share as usize] > 20_000);
    let tenants = objects.tenants();
    assert_eq!(tenants.len(), 3);
    assert!(tenants[2].disk_bytes > 30 * MIB, "it has its share: {tenants:?}");
    objects.close().await;
}

#[tokio::test]
async fn on_a_full_disk_what_comes_twice_is_written_and_what_comes_once_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let objects = open(dir.path(), MIB, 32 * MIB).await;
    objects.share(&[share("shop"), share("other")]);
    let other = permit("other");
    let insert = async |numbers: std::ops::Range<u64>| {
        for number in numbers {
            objects.insert(&other, key(1 << 32 | number), of_other(number));
        }
        objects.settle().await;
    };
    for round in 0..40 {
        insert(round * 50..round * 50 + 50).await;
    }
    insert(5000..5050).await;
    insert(5000..5050).await;
    insert(6000..6050).await;
    insert(7000..7100).await;
    let there = |numbers: std::ops::Range<u64>| numbers.filter(|n| objects.contains(key(1 << 32 | n))).count();
    assert!(there(5000..5050) >= 45, "{}", there(5000..5050));
    assert!(there(6000..6050) <= 5, "{}", there(6000..6050));
    objects.close().await;
}

#[tokio::test]
async fn a_smaller_disk_still_takes_new_entries() {
    let dir = tempfile::tempdir().unwrap();
    let objects = open(dir.path(), MIB, 64 * MIB).await;
    // about 52 MiB: the first eight blocks are written, and the clean ones are those that a smaller disk cuts off
    fill(&objects, 0..650).await;
    objects.close().await;
    drop(objects);
    let objects = open(dir.path(), MIB, 32 * MIB).await;
    let permit = permit("shop");
    for number in 1000..1010 {
        objects.insert(&permit, key(number), sample(number));
    }
    let settled = tokio::time::timeout(std::time::Duration::from_secs(20), settle(&objects)).await;
    assert!(settled.is_ok(), "the new entries are written");
    objects.close().await;
    drop(objects);
    let objects = open(dir.path(), MIB, 32 * MIB).await;
    assert_eq!(found(&objects, 1000..1010).await, 10);
    assert!(directory::held_bytes(dir.path()) <= 33 * MIB);
    objects.close().await;
}

#[tokio::test]
async fn flipped_bits_on_disk_are_misses_and_never_other_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let objects = open(dir.path(), 64 * MIB, 64 * MIB).await;
    fill(&objects, 0..300).await;
    objects.close().await;
    drop(objects);
    for file in fs::read_dir(dir.path()).unwrap() {
        let path = file.unwrap().path();
        let mut content = fs::read(&path).unwrap();
        if content.len() < 4096 {
            continue;
        }
        for at in (0..content.len()).step_by(150_001).skip(1) {
            content[at] ^= 1 << (at % 8);
        }
        fs::write(&path, content).unwrap();
    }
    let objects = open(dir.path(), 64 * MIB, 64 * MIB).await;
    let there = found(&objects, 0..300).await;
    assert!((10..290).contains(&there), "{there} of 300: some are lost, some are there");
    objects.close().await;
}

#[tokio::test]
async fn rubbish_in_the_folder_is_an_empty_cache() {
    let dir = tempfile::tempdir().unwrap();
    let objects = open(dir.path(), 64 * MIB, 64 * MIB).await;
    fill(&objects, 0..100).await;
    objects.close().await;
    drop(objects);
    for file in fs::read_dir(dir.path()).unwrap() {
        let path = file.unwrap().path();
        let length = usize::try_from(fs::metadata(&path).unwrap().len()).unwrap();
        fs::write(&path, bytes(1, length)).unwrap();
    }
    let objects = open(dir.path(), 64 * MIB, 64 * MIB).await;
    assert_eq!(found(&objects, 0..100).await, 0);
    fill(&objects, 0..100).await;
    assert_eq!(found(&objects, 0..100).await, 100);
    objects.close().await;
}

const KILLED: &str = "MERIDIAN_TEST_STORE_TO_KILL";
const SETTLED: u64 = 400;

#[tokio::test]
async fn a_killed_store_serves_its_old_set_and_no_torn_entry() {
    if let Ok(dir) = std::env::var(KILLED) {
        return write_until_killed(Path::new(&dir)).await;
    }
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["objects::tests::a_killed_store_serves_its_old_set_and_no_torn_entry", "--exact", "--nocapture"])
            .env(KILLED, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("settled")), "the child came to the point of being killed");
        let _busy = lines.nth(3 + round);
        child.kill().unwrap();
        child.wait().unwrap();

        let objects = open(dir.path(), 4 * MIB, 128 * MIB).await;
        assert_eq!(found(&objects, 0..SETTLED).await, SETTLED, "what was on disk before the kill is there");
        let _later = found(&objects, SETTLED..SETTLED + 2000).await;
        objects.close().await;
    }
}

/// The child: stores the old set, says so, and goes on storing until it is killed. On the disk's second and third life
/// the set is there already and is stored again.
async fn write_until_killed(dir: &Path) {
    let mut stdout = std::io::stdout();
    let objects = open(dir, 4 * MIB, 128 * MIB).await;
    fill(&objects, 0..SETTLED).await;
    writeln!(stdout, "settled").unwrap();
    for batch in 0..1000 {
        let first = SETTLED + batch % 20 * 100;
        fill(&objects, first..first + 10).await;
        writeln!(stdout, "busy").unwrap();
    }
}

#[tokio::test]
async fn two_nodes_cannot_share_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { dir: Some(dir.path().to_path_buf()), memory_bytes: MIB, disk_bytes: 64 * MIB };
    let objects = Objects::open(settings.clone()).await.unwrap();
    let fault = Objects::open(settings.clone()).await.unwrap_err();
    assert!(matches!(fault, StoreError::InUse { .. }), "{fault}");
    objects.close().await;
    drop(objects);
    assert!(Objects::open(settings).await.is_ok(), "and it is free afterwards");
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_a_clear_fault() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    let settings = Settings { dir: Some(file.clone()), memory_bytes: MIB, disk_bytes: 64 * MIB };
    let fault = Objects::open(settings).await.unwrap_err();
    assert!(matches!(&fault, StoreError::Directory { dir, .. } if *dir == file), "{fault}");
    let settings = Settings { dir: Some(dir.path().into()), memory_bytes: MIB, disk_bytes: MIB };
    let fault = Objects::open(settings).await.unwrap_err();
    assert_eq!(fault.to_string(), "disk_bytes is 1048576: expected 0 (memory only) or at least 33554432");
}

#[tokio::test]
async fn an_object_is_not_stored_under_the_permit_of_another_site() {
    let objects = Objects::open(Settings { dir: None, memory_bytes: MIB, disk_bytes: 0 }).await.unwrap();
    objects.insert(&permit("another"), key(1), sample(1));
    assert!(objects.memory(key(1)).is_none());
    objects.insert(&permit("shop"), key(1), sample(1));
    assert!(objects.memory(key(1)).is_some());
}

#[tokio::test]
async fn what_is_removed_frees_its_space_and_what_comes_after_closing_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let objects = open(dir.path(), 64 * MIB, 64 * MIB).await;
    fill(&objects, 0..20).await;
    objects.remove(key(3));
    settle(&objects).await;
    assert!(!objects.contains(key(3)));
    assert!(objects.lookup(key(3)).await.is_none());
    assert_eq!(objects.usage().memory_entries, 19);
    objects.close().await;
    objects.close().await;
    objects.insert(&permit("shop"), key(50), sample(50));
    objects.remove(key(4));
    assert!(objects.lookup(key(50)).await.is_none());
    assert_eq!(found(&objects, 0..20).await, 19, "look-ups still answer");
}

#[tokio::test]
async fn a_look_up_may_be_given_up_at_any_time() {
    let dir = tempfile::tempdir().unwrap();
    let objects = open(dir.path(), MIB, 64 * MIB).await;
    fill(&objects, 0..100).await;
    for number in 0..100 {
        let abandoned = tokio::time::timeout(std::time::Duration::ZERO, objects.lookup(key(number)));
        let _either_way = abandoned.await;
    }
    assert_eq!(found(&objects, 0..100).await, 100);
    objects.close().await;
}
