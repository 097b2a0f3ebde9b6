//! Letting go of what was purged.

use rules::purge::Standing;

use super::*;

fn sweep(objects: &Objects, mut standing: impl FnMut(&Object) -> Standing) -> Sweep {
    let mut sweep = Sweep::default();
    while objects.sweep(&mut sweep, &mut standing) {}
    sweep
}

fn odd_is_stale(object: &Object) -> Standing {
    if object.stamp.0.is_multiple_of(2) { Standing::Soft } else { Standing::Stale }
}

#[tokio::test]
async fn a_sweep_meets_every_object_once_and_lets_go_of_what_is_stale() {
    let settings = Settings { dir: None, memory_bytes: 256 * MIB, disk_bytes: 0 };
    let objects = Objects::open(settings).await.unwrap();
    let permit = permit("shop");
    for number in 0..10_000 {
        objects.insert(&permit, key(number), object(number, Body::Inline(Bytes::from_static(b"body"))));
    }
    objects.insert(&permit, key(10_001), Entry::Chunk(Bytes::from_static(b"a chunk is nobody's object")));
    let before = objects.usage();
    let mut met = vec![0; 10_000];
    let swept = sweep(&objects, |object| {
        met[usize::try_from(object.stamp.0).unwrap()] += 1;
        odd_is_stale(object)
    });
    assert!(met.iter().all(|times| *times == 1));
    assert_eq!((swept.objects, swept.freed, swept.freed_on_disk), (10_000, 5_000, 0));
    assert_eq!(objects.usage().memory_bytes, before.memory_bytes - swept.freed_bytes);
    assert!((0..10_000).all(|number| objects.in_memory(key(number)) == number.is_multiple_of(2)));
    assert!(objects.in_memory(key(10_001)));
    let again = sweep(&objects, odd_is_stale);
    assert_eq!((again.objects, again.freed), (5_000, 0));
}

#[tokio::test]
async fn what_replaced_a_stale_object_meanwhile_stays() {
    let settings = Settings { dir: None, memory_bytes: 64 * MIB, disk_bytes: 0 };
    let objects = Objects::open(settings).await.unwrap();
    let permit = permit("shop");
    objects.insert(&permit, key(1), object(1, Body::Inline(Bytes::new())));
    let swept = sweep(&objects, |stale| {
        objects.insert(&permit, key(1), object(2, Body::Inline(Bytes::new())));
        odd_is_stale(stale)
    });
    assert_eq!((swept.objects, swept.freed), (1, 0));
    assert!(matches!(objects.memory(key(1)), Some(Entry::Object(object)) if object.stamp == Position(2)));
}

#[tokio::test]
async fn what_is_let_go_is_gone_from_disk_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let objects = open(dir.path(), 64 * MIB, DISK_BYTES_MIN).await;
    let permit = permit("shop");
    for number in 0..10 {
        objects.insert(&permit, key(number), object(number, Body::Inline(bytes(number, 1_000))));
    }
    objects.settle().await;
    let swept = sweep(&objects, odd_is_stale);
    assert_eq!((swept.freed, swept.freed_on_disk), (5, 5));
    for number in 0..10 {
        assert_eq!(objects.lookup(key(number)).await.is_some(), number.is_multiple_of(2), "{number}");
    }
}
