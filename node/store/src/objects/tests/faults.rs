//! Disks that fail, for real: files under an open store are cut, changed and removed, and its open files are exchanged
//! for ones that give EIO or ENOSPC.
#![allow(unsafe_code, reason = "dup2 on an open file of foyer's is the only way to break it from outside")]

use std::{
    fs::{File, OpenOptions},
    os::fd::{AsRawFd, OwnedFd, RawFd},
};

use super::*;

const ROUND: Duration = Duration::from_millis(50);

async fn open_watched(dir: &Path) -> Objects {
    let settings = Settings { dir: Some(dir.to_path_buf()), memory_bytes: MIB, disk_bytes: 64 * MIB };
    Objects::open_with_rounds(settings, ROUND).await.unwrap()
}

async fn until(what: &str, objects: &Objects, mut reached: impl FnMut(&Usage) -> bool) {
    let reaching = async {
        while !reached(&objects.usage()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let reached = tokio::time::timeout(Duration::from_secs(30), reaching).await;
    assert!(reached.is_ok(), "{what}: {:?}", objects.usage());
}

/// What foyer has open in the folder.
fn open_blocks(dir: &Path) -> Vec<RawFd> {
    let dir = dir.canonicalize().unwrap();
    let mut open = Vec::new();
    for link in fs::read_dir("/proc/self/fd").unwrap() {
        let link = link.unwrap();
        let Ok(target) = fs::read_link(link.path()) else { continue };
        if target.starts_with(&dir) && target.to_str().unwrap().contains("foyer-storage") {
            open.push(link.file_name().to_str().unwrap().parse().unwrap());
        }
    }
    assert!(!open.is_empty());
    open
}

/// Every open block becomes this file, until the store opens them anew. The originals are kept aside.
fn exchange(dir: &Path, by: &str) -> Vec<(RawFd, OwnedFd)> {
    let broken = OpenOptions::new().read(true).write(true).open(by).unwrap();
    let mut kept = Vec::new();
    for fd in open_blocks(dir) {
        kept.push((fd, File::open(format!("/proc/self/fd/{fd}")).unwrap().into()));
        // SAFETY: both are open; the one that is closed by it is foyer's, which goes on under the same number
        assert!(unsafe { libc::dup2(broken.as_raw_fd(), fd) } >= 0);
    }
    kept
}

/// Goes on storing and reading while the disk is broken; whatever is found must be right.
async fn use_it(objects: &Objects, numbers: std::ops::Range<u64>) {
    let permit = permit("shop");
    for number in numbers {
        objects.insert(&permit, key(number), sample(number));
        if let Some(entry) = objects.lookup(key(number)).await {
            check(number, &entry);
        }
        if let Some(entry) = objects.lookup(key(number / 2)).await {
            check(number / 2, &entry);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// `/proc/self/mem` has nothing at small offsets: reads and writes there give EIO, as those of a dead disk do.
const EIO: &str = "/proc/self/mem";
/// Writes give ENOSPC, reads zeros.
const ENOSPC: &str = "/dev/full";

async fn check_breaks_and_comes_back(by: &str) {
    let dir = tempfile::tempdir().unwrap();
    let objects = open_watched(dir.path()).await;
    fill(&objects, 0..100).await;
    let _originals = exchange(dir.path(), by);
    use_it(&objects, 100..150).await;
    until("it is seen", &objects, |usage| usage.disk_breaks > 0).await;
    assert!(objects.usage().disk_errors > 0);
    until("it comes back", &objects, |usage| !usage.disk_resting).await;
    assert!(found(&objects, 0..100).await > 80, "what was there before the fault is there");
    fill(&objects, 200..300).await;
    objects.close().await;
    drop(objects);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let objects = open_watched(dir.path()).await;
    assert!(found(&objects, 200..300).await >= 99, "and it is written again");
    objects.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_with_eio_is_out_of_use_and_comes_back() {
    check_breaks_and_comes_back(EIO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_takes_no_more_bytes_is_out_of_use_and_comes_back() {
    check_breaks_and_comes_back(ENOSPC).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_removed_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("objects");
    let objects = open_watched(&inner).await;
    fill(&objects, 0..50).await;
    fs::remove_dir_all(&inner).unwrap();
    until("it is seen", &objects, |usage| usage.disk_breaks > 0).await;
    until("it comes back", &objects, |usage| !usage.disk_resting).await;
    fill(&objects, 100..150).await;
    let _any = found(&objects, 0..50).await;
    assert_eq!(found(&objects, 100..150).await, 50);
    assert!(inner.join("layout").exists());
    objects.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_made_anew_leaves_the_node_its_memory() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("objects");
    let objects = open_watched(&inner).await;
    fill(&objects, 0..50).await;
    fs::remove_dir_all(&inner).unwrap();
    fs::write(&inner, "a file where the folder was").unwrap();
    until("it is seen", &objects, |usage| usage.disk_resting && usage.disk_bytes_max == 0).await;
    use_it(&objects, 100..110).await;
    assert!(objects.memory(key(109)).is_some());
    assert!(objects.usage().disk_refused[Refusal::Away as usize] > 0);
    let errors = objects.usage().disk_errors;
    until("it is tried", &objects, |usage| usage.disk_errors > errors + 2).await;
    fs::remove_file(&inner).unwrap();
    until("it comes back", &objects, |usage| !usage.disk_resting).await;
    objects.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_cut_under_a_running_store_are_misses() {
    let dir = tempfile::tempdir().unwrap();
    let objects = open_watched(dir.path()).await;
    fill(&objects, 0..300).await;
    for (count, file) in fs::read_dir(dir.path()).unwrap().enumerate() {
        let path = file.unwrap().path();
        if path.to_str().unwrap().contains("foyer-storage") {
            OpenOptions::new().write(true).open(path).unwrap().set_len(100_000 * count as u64 % 700_000).unwrap();
        }
    }
    let there = found(&objects, 0..300).await;
    assert!(there < 290, "{there}");
    use_it(&objects, 300..350).await;
    until("it is whole again", &objects, |usage| !usage.disk_resting && usage.disk_bytes_max > 0).await;
    fill(&objects, 400..420).await;
    assert_eq!(found(&objects, 400..420).await, 20);
    objects.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bits_that_flip_under_a_running_store_are_misses() {
    let dir = tempfile::tempdir().unwrap();
    let objects = open_watched(dir.path()).await;
    fill(&objects, 0..300).await;
    for file in fs::read_dir(dir.path()).unwrap() {
        let path = file.unwrap().path();
        if path.to_str().unwrap().contains("foyer-storage") {
            flip(&path, 70_001);
        }
    }
    let there = found(&objects, 0..300).await;
    assert!((5..290).contains(&there), "{there}");
    assert!(!objects.usage().disk_resting, "a disk with bad bytes is still a disk");
    objects.close().await;
}

/// In place: the file stays the one that is open.
fn flip(path: &Path, step: usize) {
    use std::os::unix::fs::FileExt;
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let length = usize::try_from(file.metadata().unwrap().len()).unwrap();
    for at in (0..length).step_by(step).skip(1) {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at as u64).unwrap();
        file.write_all_at(&[byte[0] ^ 1 << (at % 8)], at as u64).unwrap();
    }
}

/// A short one of the long measurement in `benches/benches/restart.rs`.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_takes_up_twenty_thousand_objects_in_a_moment() {
    const OBJECTS: u64 = 20_000;
    let dir = tempfile::tempdir().unwrap();
    let open = || open(dir.path(), MIB, 256 * MIB);
    let objects = open().await;
    let permit = permit("shop");
    let small = |number: u64| object(number, Body::Inline(bytes(number, 2000)));
    for number in 0..OBJECTS {
        objects.insert(&permit, key(number), small(number));
        if number.is_multiple_of(500) {
            objects.settle().await;
        }
    }
    objects.close().await;
    drop(objects);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let objects = tokio::time::timeout(Duration::from_secs(5), open()).await.unwrap();
    let there = (0..OBJECTS).filter(|number| objects.contains(key(*number))).count();
    assert_eq!(there as u64, OBJECTS);
    objects.close().await;
}
