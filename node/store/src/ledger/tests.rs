#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
use std::{collections::BTreeMap, sync::Arc};

use region_config::{NodeId, SiteId};
use rules::purge::{
    Apply, Cursor, Delta, Event, Limits, Marks, Mode, Position, PurgeKey, Saved, SiteFloors, Source, Terms, Witness,
};

use super::*;

const NAME: &str = "global.ledger";

fn chance() -> Chance {
    Chance { life: [1; 16], secret: [2; 16], boot_min: 0 }
}

fn open(disk: &FaultyDisk) -> Opened {
    LedgerFile::open(disk, NAME, chance()).unwrap()
}

fn site() -> SiteId {
    SiteId::parse("shop").unwrap()
}

fn event(number: u64) -> Arc<Event> {
    let keys = vec![PurgeKey::Tag(format!("t{number}")), PurgeKey::Url { host: "a.test".into(), target: "/".into() }];
    Arc::new(Event::new(Some(site()), Mode::Hard, keys, number.to_string()).unwrap())
}

/// A realm of one node, as the node drives it: applies, logs and writes.
struct Realm {
    apply: Apply,
    witness: Witness,
    file: LedgerFile,
}

impl Realm {
    fn start(disk: &FaultyDisk) -> (Self, Past) {
        let Opened { file, life, mut saved, past } = open(disk);
        let witness = match saved.witness.take() {
            Some(saved) => Witness::restored(saved, 0, 1, 1000),
            None => Witness::without_past(9, 0, 1, 1000),
        };
        let terms = Terms {
            secret: life.secret,
            boot: life.boot,
            run: 1,
            witnesses: vec![NodeId::parse("a").unwrap()],
            own: Some(0),
            limits: Limits::default(),
        };
        let mut apply = Apply::new(terms, saved, Some(witness.appended()));
        if past != Past::Kept {
            apply.handle_no_past();
        }
        apply.open_gate();
        let mut realm = Self { apply, witness, file };
        realm.write().unwrap();
        (realm, past)
    }

    fn write(&mut self) -> Result<(), LedgerError> {
        let mut delta = self.apply.poll_delta();
        (delta.records, delta.witness) = self.witness.poll_fresh();
        self.file.commit(&delta)
    }

    fn purge(&mut self, event: &Arc<Event>) -> Result<(), LedgerError> {
        let rules::purge::Append::At { seq, .. } = self.witness.handle_event(event) else { panic!() };
        self.apply.handle_event(event, Source::Log { witness: 0, seq }, 0);
        self.write()?;
        self.witness.handle_durable(seq);
        Ok(())
    }

    fn applied(&mut self, event: &Event) -> bool {
        self.apply.request(event) == Some(event.id())
    }
}

#[test]
fn everything_written_comes_back() {
    let disk = FaultyDisk::new();
    let Opened { mut file, life, past, .. } = open(&disk);
    assert_eq!((past, life.boot), (Past::None, 1));
    let cursor = Cursor { epoch: 1, seq: 2, chain: 3 };
    let marks = Marks { hard: Position(5), soft: Position(6) };
    let mut log = Witness::without_past(9, 0, 1, 10);
    log.handle_event(&event(1));
    let (records, witness) = log.poll_fresh();
    let delta = Delta {
        marks: vec![(site(), 42, marks), (site(), 44, Marks::default())],
        floors: BTreeMap::from([(site(), SiteFloors { hard: Position(2), soft: Position(3) })]),
        known: vec![(Position(5), 7, event(1).id()), (Position(6), 8, event(2).id())],
        unseen: BTreeMap::from([(event(1).id(), Some(event(1)))]),
        cursors: BTreeMap::from([(NodeId::parse("b").unwrap(), cursor)]),
        outbox: BTreeMap::from([(event(2).id(), Some(event(2)))]),
        records,
        witness,
        ..Delta::default()
    };
    file.commit(&delta).unwrap();
    drop(file);
    let Opened { mut file, life, saved, past } = open(&disk);
    assert_eq!((past, life.boot), (Past::Kept, 2));
    assert_eq!(saved.marks, [(site(), 42, marks)], "marks below the site's floor are needless");
    assert_eq!(saved.floors, [(site(), SiteFloors { hard: Position(2), soft: Position(3) })]);
    assert_eq!(saved.known, delta.known);
    assert_eq!((saved.unseen, saved.outbox), (vec![event(1)], vec![event(2)]));
    assert_eq!(saved.cursors, [(NodeId::parse("b").unwrap(), cursor)]);
    let witness = saved.witness.unwrap();
    assert_eq!(Some(witness.state), delta.witness);
    assert_eq!(witness.newest, delta.records);
    assert_eq!(file.log().after(0, 10, 1000).unwrap(), delta.records);
    let delta = Delta {
        floor: Some(Position(9)),
        forget: Some(Position(6)),
        unseen: BTreeMap::from([(event(1).id(), None)]),
        outbox: BTreeMap::from([(event(2).id(), None)]),
        ..Delta::default()
    };
    file.commit(&delta).unwrap();
    drop(file);
    let saved = open(&disk).saved;
    assert_eq!((saved.floor, saved.known.len()), (Position(9), 1));
    assert!(saved.marks.is_empty() && saved.unseen.is_empty() && saved.outbox.is_empty());
}

#[test]
fn a_crash_at_any_write_loses_nothing_that_was_acknowledged() {
    let mut total = 0;
    for seed in 1..=60_u64 {
        let disk = FaultyDisk::new();
        let mut acknowledged = Vec::new();
        let mut next = 0;
        for round in 0..4_u64 {
            let (mut realm, past) = Realm::start(&disk);
            assert!(past == Past::Kept || acknowledged.is_empty(), "seed {seed}: {past:?}");
            for number in &acknowledged {
                assert!(realm.applied(&event(*number)), "seed {seed}: event {number} was acknowledged");
                assert!(realm.witness.handle_event(&event(*number)) != rules::purge::Append::Full);
            }
            let lost = realm.witness.poll_fresh().0;
            assert!(
                lost.is_empty(),
                "seed {seed} round {round}: the log of {past:?} lost {lost:?} of {acknowledged:?}"
            );
            disk.fail_after(seed * 7 % 40 + round);
            for _ in 0..30 {
                next += 1;
                match realm.purge(&event(next)) {
                    Ok(()) => acknowledged.push(next),
                    Err(_) => break,
                }
            }
            disk.crash(seed * 1000 + round + 1);
            disk.heal();
        }
        total += acknowledged.len();
    }
    assert!(total > 60, "{total}");
}

#[test]
fn marks_and_cursors_and_log_are_never_apart() {
    for seed in 1..=30_u64 {
        let disk = FaultyDisk::new();
        let (mut realm, _) = Realm::start(&disk);
        disk.fail_after(seed * 3);
        for number in 1..20 {
            if realm.purge(&event(number)).is_err() {
                break;
            }
        }
        disk.crash(seed);
        disk.heal();
        let saved = open(&disk).saved;
        let logged = saved.witness.map_or(0, |witness| witness.newest.len());
        assert_eq!(saved.known.len(), logged, "seed {seed}");
        // its tag each, and for all of them the URL and that a tag was purged
        let marks = if logged == 0 { 0 } else { logged + 2 };
        assert_eq!(saved.marks.len(), marks, "seed {seed}");
    }
}

#[test]
fn after_a_failed_write_nothing_is_written() {
    let disk = FaultyDisk::new();
    let (mut realm, _) = Realm::start(&disk);
    realm.purge(&event(1)).unwrap();
    disk.fail_after(0);
    let fault = realm.purge(&event(2)).unwrap_err();
    assert!(matches!(fault, LedgerError::Stopped { .. }), "{fault}");
    disk.heal();
    assert!(realm.purge(&event(3)).is_err(), "also when the disk is well again");
    drop(realm);
    let (mut realm, past) = Realm::start(&disk);
    assert_eq!(past, Past::Kept);
    assert!(realm.applied(&event(1)));
    realm.purge(&event(4)).unwrap();
}

#[test]
fn a_lost_file_is_a_new_life() {
    let disk = FaultyDisk::new();
    let (mut realm, _) = Realm::start(&disk);
    realm.purge(&event(1)).unwrap();
    drop(realm);
    disk.lose(NAME);
    assert_eq!(open(&disk).past, Past::None);
}

#[test]
fn no_spoiled_file_makes_a_node_panic_or_refuse_to_start() {
    let disk = FaultyDisk::new();
    let (mut realm, _) = Realm::start(&disk);
    for number in 1..=20 {
        realm.purge(&event(number)).unwrap();
    }
    drop(realm);
    let whole = disk.image();
    let bytes = disk.bytes(NAME);
    let mut lost = 0;
    for (at, count) in (0..bytes).step_by(bytes / 40).map(|at| (at, 512)).chain([(0, bytes), (0, 1), (64, 128)]) {
        disk.set_back(&whole);
        disk.spoil(NAME, at, count);
        let (mut realm, past) = Realm::start(&disk);
        lost += usize::from(past != Past::Kept);
        realm.purge(&event(99)).unwrap();
    }
    assert!(lost > 0);
}

#[test]
fn the_boot_grows_even_if_the_file_was_set_back() {
    let disk = FaultyDisk::new();
    drop(open(&disk));
    let old = disk.image();
    drop(open(&disk));
    disk.set_back(&old);
    let opened = LedgerFile::open(&disk, NAME, Chance { boot_min: 77, ..chance() }).unwrap();
    assert_eq!(opened.life.boot, 77);
}

#[test]
fn a_real_disk_keeps_it_too_and_says_who_has_it_open() {
    let folder = tempfile::tempdir().unwrap();
    let disk = RealDisk::new(folder.path().join("ledger")).unwrap();
    let opened = LedgerFile::open(&disk, NAME, chance()).unwrap();
    let second = LedgerFile::open(&disk, NAME, chance()).unwrap_err();
    assert!(second.to_string().contains("another process"), "{second}");
    drop(opened);
    assert_eq!(LedgerFile::open(&disk, NAME, chance()).unwrap().past, Past::Kept);
    std::fs::write(folder.path().join("ledger").join(NAME), b"not a ledger, and not empty either").unwrap();
    let opened = LedgerFile::open(&disk, NAME, chance()).unwrap();
    assert!(matches!(opened.past, Past::Lost { .. }), "{:?}", opened.past);
    assert_eq!(opened.saved.known, Saved::default().known);
}

#[tokio::test]
async fn the_writer_answers_when_it_is_on_disk() {
    let disk = FaultyDisk::new();
    let writer = Writer::start(open(&disk).file, "test").unwrap();
    let delta = Delta { floor: Some(Position(7)), ..Delta::default() };
    writer.commit(delta).await.unwrap();
    disk.crash(1);
    assert_eq!(open(&disk).saved.floor, Position(7));
    let delta = Delta { floor: Some(Position(8)), ..Delta::default() };
    assert!(writer.commit(delta).await.is_err());
}
