#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;
use crate::purge::PurgeKey;

fn site() -> SiteId {
    SiteId::parse("shop").unwrap()
}

fn guard() -> SiteGuard {
    SiteGuard::new(RealmSecret([3; 16]), &site(), Position::ZERO, Arc::default())
}

/// Purges tags at a position, as the apply machine does.
fn purge(guard: &SiteGuard, position: u64, mode: Mode, tags: &[&str]) {
    let keys: Vec<u64> = tags.iter().map(|tag| guard.hashes().tag(tag)).collect();
    guard.mark(Position(position), mode, &keys, false, |_, _| ());
    guard.publish(Position(position));
}

struct Stored {
    stamp: Position,
    verified: AtomicU64,
    keys: Box<[u64]>,
}

fn stored(guard: &SiteGuard, stamp: u64, tags: &[&str]) -> Stored {
    let keys = guard.keys("a.test", "/x", Some("q"), Some(tags));
    Stored { stamp: Position(stamp), verified: AtomicU64::new(0), keys }
}

fn standing(guard: &SiteGuard, object: &Stored) -> Standing {
    guard.standing(object.stamp, &object.verified, &object.keys)
}

#[test]
fn a_purge_makes_stale_what_was_filled_before_it_and_only_that() {
    let guard = guard();
    let (before, after) = (stored(&guard, 6, &["t"]), stored(&guard, 7, &["t"]));
    purge(&guard, 7, Mode::Hard, &["t"]);
    assert_eq!(standing(&guard, &before), Standing::Stale);
    assert_eq!(standing(&guard, &after), Standing::Valid);
    assert_eq!(standing(&guard, &stored(&guard, 6, &["other"])), Standing::Valid);
}

#[test]
fn every_way_of_judging_gives_the_same_answer() {
    for others in [0, 1, 7, 8, 9, 40, 63, 64, 65, 500] {
        for sweeps in [0, 1, 2, 3] {
            let guard = guard();
            purge(&guard, 10, Mode::Hard, &["t"]);
            for i in 0..others {
                if i * (sweeps + 1) % others < sweeps {
                    guard.turn();
                }
                purge(&guard, 11 + i, Mode::Hard, &[&format!("other{i}")]);
            }
            let told = format!("{others} later purges, {sweeps} sweeps");
            assert_eq!(standing(&guard, &stored(&guard, 9, &["t"])), Standing::Stale, "{told}");
            assert_eq!(standing(&guard, &stored(&guard, 10, &["t"])), Standing::Valid, "{told}");
            assert_eq!(standing(&guard, &stored(&guard, 9, &["u"])), Standing::Valid, "{told}");
        }
    }
}

#[test]
fn the_filter_forgets_what_was_purged_before_the_last_but_one_sweep_and_the_marks_do_not() {
    let guard = guard();
    for i in 1..=20_000 {
        purge(&guard, i, Mode::Hard, &[&format!("old{i}")]);
    }
    let young = stored(&guard, 20_000, &["young"]);
    let crowded = guard.filter.get().unwrap();
    assert!((0..1000).any(|n| !crowded.is_clear_of(0, &[guard.hashes().tag(&format!("n{n}"))])), "many are in it");
    for i in [20_001, 20_002] {
        assert!(guard.turn());
        assert!(!guard.turn(), "nothing was purged since");
        purge(&guard, i, Mode::Hard, &["new"]);
    }
    let filter = guard.filter.get().unwrap();
    assert!((0..1000).all(|n| filter.is_clear_of(20_000, &[guard.hashes().tag(&format!("n{n}"))])), "two are in it");
    assert!(!filter.is_clear_of(19_999, &[guard.hashes().tag("n")]), "it says nothing of what is older");
    assert_eq!(standing(&guard, &young), Standing::Valid);
    assert_eq!(guard.marks(), 20_001);
    for i in [1, 10_000, 20_000] {
        assert_eq!(standing(&guard, &stored(&guard, i - 1, &[&format!("old{i}")])), Standing::Stale);
        assert_eq!(standing(&guard, &stored(&guard, i - 1, &["kept"])), Standing::Valid);
    }
}

#[test]
fn what_was_judged_at_a_sweep_is_judged_rightly_after_it() {
    let guard = guard();
    let objects: Vec<_> = (0..50).map(|n| stored(&guard, 0, &[&format!("t{n}")])).collect();
    for (round, n) in (1..).zip(0..50) {
        // more than the recent ones, so that the filter is asked
        for i in 0..20 {
            purge(&guard, round * 100 + i, Mode::Hard, &[&format!("other{round}-{i}")]);
        }
        purge(&guard, round * 100 + 50, Mode::Hard, &[&format!("t{n}")]);
        for i in 51..71 {
            purge(&guard, round * 100 + i, Mode::Hard, &[&format!("other{round}-{i}")]);
        }
        guard.turn();
        for (at, object) in objects.iter().enumerate() {
            let expected = if at <= n { Standing::Stale } else { Standing::Valid };
            assert_eq!(standing(&guard, object), expected, "object {at} in round {round}");
        }
    }
}

#[test]
fn an_object_that_stood_is_not_judged_by_the_same_purges_again() {
    let guard = guard();
    let object = stored(&guard, 1, &["t"]);
    purge(&guard, 5, Mode::Hard, &["other"]);
    assert_eq!(standing(&guard, &object), Standing::Valid);
    assert_eq!(object.verified.load(Relaxed), 5);
    purge(&guard, 6, Mode::Hard, &["t"]);
    assert_eq!(standing(&guard, &object), Standing::Stale);
}

#[test]
fn a_soft_purge_stays_seen_until_a_refill_and_a_hard_one_overrides_it() {
    let guard = guard();
    let object = stored(&guard, 1, &["t"]);
    purge(&guard, 5, Mode::Soft, &["t"]);
    assert_eq!(standing(&guard, &object), Standing::Soft);
    for i in 0..20 {
        purge(&guard, 6 + i, Mode::Hard, &[&format!("other{i}")]);
        assert_eq!(standing(&guard, &object), Standing::Soft);
    }
    assert_eq!(standing(&guard, &stored(&guard, 5, &["t"])), Standing::Valid);
    purge(&guard, 40, Mode::Hard, &["t"]);
    assert_eq!(standing(&guard, &object), Standing::Stale);
    purge(&guard, 41, Mode::Soft, &["t"]);
    assert_eq!(standing(&guard, &object), Standing::Stale);
}

#[test]
fn a_purge_of_the_site_is_a_floor() {
    let guard = guard();
    purge(&guard, 3, Mode::Hard, &["t"]);
    guard.raise(Mode::Soft, Position(5));
    guard.publish(Position(5));
    assert_eq!(standing(&guard, &stored(&guard, 4, &[])), Standing::Soft);
    assert_eq!(standing(&guard, &stored(&guard, 2, &["t"])), Standing::Stale);
    assert_eq!(guard.raise(Mode::Hard, Position(8)), 1, "the marks below the floor are needless");
    guard.publish(Position(8));
    assert_eq!(standing(&guard, &stored(&guard, 7, &[])), Standing::Stale);
    assert_eq!(standing(&guard, &stored(&guard, 8, &[])), Standing::Valid);
}

#[test]
fn giving_up_marks_purges_too_much_and_never_too_little() {
    let guard = guard();
    for i in 1..=100 {
        purge(&guard, i, Mode::Hard, &[&format!("t{i}")]);
    }
    let gone = guard.shed();
    assert!((40..=60).contains(&gone), "{gone}");
    assert_eq!(guard.marks(), 100 - gone);
    for i in 1..=100 {
        let tag = format!("t{i}");
        assert_eq!(standing(&guard, &stored(&guard, i - 1, &[&tag])), Standing::Stale, "{i}");
    }
    assert_eq!(standing(&guard, &stored(&guard, 99, &["u"])), Standing::Valid);
}

#[test]
fn what_was_stored_before_this_boot_waits_behind_the_gate() {
    let start = Position::first(2);
    let gate = Arc::new(Gate::closed_below(start));
    let guard = SiteGuard::restored(RealmSecret([3; 16]), &site(), start, SiteFloors::default(), Arc::clone(&gate));
    let (marked, free) = (stored(&guard, 3, &["t"]), stored(&guard, 3, &["u"]));
    guard.restore(guard.hashes().tag("t"), Marks { hard: Position(4), soft: Position::ZERO });
    for object in [&marked, &free] {
        assert_eq!(standing(&guard, object), Standing::Stale);
    }
    let fresh = Stored { stamp: start, ..stored(&guard, 0, &["t"]) };
    assert_eq!(standing(&guard, &fresh), Standing::Valid);
    gate.open();
    assert_eq!(standing(&guard, &marked), Standing::Stale, "marks outlive a restart");
    assert_eq!(standing(&guard, &free), Standing::Valid);
}

/// A writer purges one of 50 tags after the other; sweeps, shedding and purges of the site come in between. Readers
/// store what fell to a purge that they know of, and things that were judged before, and ask.
#[test]
fn readers_never_miss_a_purge_that_was_published() {
    const PURGES: u64 = 30_000;
    let guard = guard();
    let published = AtomicU64::new(0);
    let asked = std::thread::scope(|scope| {
        scope.spawn(|| {
            for i in 1..=PURGES {
                purge(&guard, i, Mode::Hard, &[&format!("t{}", i % 50)]);
                if i % 5_000 == 0 {
                    guard.shed();
                }
                if i % 7_001 == 0 {
                    guard.raise(Mode::Hard, Position(i));
                }
                published.store(i, Release);
            }
        });
        scope.spawn(|| {
            while published.load(Acquire) < PURGES {
                guard.turn();
                std::thread::yield_now();
            }
        });
        let reader = |age: u64| {
            let (guard, published) = (&guard, &published);
            move || {
                let mut asked = 0;
                while published.load(Acquire) < PURGES {
                    let seen = published.load(Acquire);
                    if seen <= age {
                        continue;
                    }
                    let object = stored(guard, seen - 1 - age, &[&format!("t{}", seen % 50)]);
                    assert_eq!(standing(guard, &object), Standing::Stale, "purged at {seen}, {age} before");
                    // one that is not purged may still be called stale, but only until the next one of its name
                    let object = stored(guard, seen, &[&format!("t{}", (seen + 49) % 50)]);
                    let valid = standing(guard, &object) == Standing::Valid;
                    assert!(
                        !valid || object.verified.load(Relaxed) < seen + 49,
                        "purged at {} at the latest",
                        seen + 49
                    );
                    asked += 1;
                }
                asked
            }
        };
        let readers = [0, 5, 20, 300].map(|age| scope.spawn(reader(age)));
        readers.into_iter().map(|reader| reader.join().unwrap()).sum::<u64>()
    });
    assert!(asked > 0);
}

#[test]
fn what_has_tags_that_nobody_can_list_falls_to_every_purge_by_a_tag_and_to_nothing_else() {
    let guard = guard();
    let untagged =
        || Stored { stamp: Position(1), verified: AtomicU64::new(0), keys: guard.keys("a.test", "/x", None, None) };
    let url = guard.hashes().url("a.test", "/other", None);
    guard.mark(Position(2), Mode::Hard, &[url], false, |_, _| ());
    guard.publish(Position(2));
    assert_eq!(standing(&guard, &untagged()), Standing::Valid);
    let mut told = Vec::new();
    guard.mark(Position(3), Mode::Hard, &[guard.hashes().tag("t")], true, |key, marks| told.push((key, marks.hard)));
    guard.publish(Position(3));
    assert_eq!(standing(&guard, &untagged()), Standing::Stale);
    assert!(told.contains(&(UNTAGGED, Position(3))), "and it is remembered over a restart");
    let listed = stored(&guard, 1, &["u"]);
    assert_eq!(standing(&guard, &listed), Standing::Valid);
}

#[test]
fn an_object_falls_to_its_host_and_to_the_prefixes_of_its_path() {
    let keys = |guard: &SiteGuard, path| guard.keys("a.test", path, Some("q=1"), Some(&[]));
    for (purged, path, falls) in [
        (PurgeKey::Host("a.test".into()), "/x/y", true),
        (PurgeKey::Host("b.test".into()), "/x/y", false),
        (PurgeKey::Prefix { host: "a.test".into(), path: "/x".into() }, "/x/y", true),
        (PurgeKey::Prefix { host: "a.test".into(), path: "/x".into() }, "/x", true),
        (PurgeKey::Prefix { host: "a.test".into(), path: "/x".into() }, "/xy", false),
        (PurgeKey::Prefix { host: "b.test".into(), path: "/x".into() }, "/x/y", false),
    ] {
        let guard = guard();
        let key = guard.hashes().hash(&purged).unwrap();
        guard.mark(Position(2), Mode::Soft, &[key], false, |_, _| ());
        guard.publish(Position(2));
        let expected = if falls { Standing::Soft } else { Standing::Valid };
        assert_eq!(guard.standing(Position(1), &AtomicU64::new(0), &keys(&guard, path)), expected, "{purged:?} {path}");
    }
}
