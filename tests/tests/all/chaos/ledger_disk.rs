//! A purge that was acknowledged is kept, and one that could not be kept is not acknowledged: nodes that are killed right
//! behind their word, disks that are full, ledger files that are torn.

use std::{
    fs::{self, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{Chance, version};
use crate::harness::{
    client::fetch,
    fleet::{Between, FREE, FREE_SITE, Fleet, Member, Plan},
    until_some,
};

/// How soon a purge that is acknowledged by a majority is in effect on a node that has nothing else to do.
const IN_EFFECT: Duration = Duration::from_secs(10);
/// Orders until a full disk is noticed, at most: the file has some room inside.
const UNNOTICED_MAX: usize = 20_000;
const DISK_MIB: u32 = 24;

fn order(tag: &str, wait: &str) -> Value {
    json!({ "site": FREE_SITE, "tags": [tag], "wait": wait, "timeout_ms": 5_000, "idempotency_key": format!("key-{tag}") })
}

fn target(tag: &str) -> String {
    format!("/o/700/{tag}")
}

async fn versions(nodes: impl Iterator<Item = &Member>, tag: &str) -> Vec<u64> {
    let mut versions = Vec::new();
    for node in nodes {
        let reply = fetch(node.http, FREE, &target(tag)).await;
        versions.push(version(&reply).unwrap_or_else(|fault| panic!("{}: {fault}", node.name)));
    }
    versions
}

/// Waits until all these nodes have a version of an object.
async fn all_have<'a>(nodes: impl Iterator<Item = &'a Member> + Clone, tag: &str, floor: u64) -> Duration {
    let what = format!("version {floor} of {tag} is everywhere");
    let ((), after) = until_some(&what, IN_EFFECT, async || {
        let versions = versions(nodes.clone(), tag).await;
        if versions.iter().all(|version| *version >= floor) { Ok(()) } else { Err(format!("{versions:?}")) }
    })
    .await;
    after
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_dies_right_behind_its_word_has_kept_it() {
    let mut fleet = Fleet::planned(Plan { per_region: 1, between: Between::Shim, ..Plan::default() }).await;
    let mut slowest = Duration::ZERO;
    for round in 0..6 {
        let (taker, cut_off) = (round % 3, (round + 1) % 3);
        let tag = format!("word-{round}");
        versions(fleet.nodes.iter(), &tag).await;
        let floor = fleet.origin.publish();
        // the third node learns of it from the second only: the first is dead before they meet
        fleet.shim().cut_both(taker, cut_off);
        let (status, receipt) = fleet.nodes[taker].purge(&order(&tag, "quorum")).await.unwrap();
        assert_eq!(status, 200, "{receipt}");
        fleet.nodes[taker].kill();
        fleet.shim().heal();
        let alive = fleet.nodes.iter().enumerate().filter(|(number, _)| *number != taker).map(|(_, node)| node);
        slowest = slowest.max(all_have(alive, &tag, floor).await);
        if round % 2 == 1 {
            // a witness may lose its disk, as long as the others keep theirs
            fs::remove_dir_all(fleet.nodes[taker].dir.join("state").join("ledger")).unwrap();
        }
        fleet.nodes[taker].start();
        fleet.nodes[taker].ready().await;
        assert_eq!(
            versions([&fleet.nodes[taker]].into_iter(), &tag).await,
            [floor],
            "{} is back",
            fleet.nodes[taker].name
        );
    }
    eprintln!(
        "6 nodes killed after their word, 3 of them without ledger afterwards: in effect {slowest:.1?} later at most"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_whose_node_dies_before_its_word_is_done_by_asking_another() {
    let mut fleet = Fleet::planned(Plan { per_region: 1, between: Between::Shim, ..Plan::default() }).await;
    for (one, other) in [(0, 1), (1, 2), (0, 2)] {
        fleet.shim().delay(one, other, Duration::from_millis(10));
    }
    let mut chance = Chance::new();
    let (mut kept, mut lost) = (0, 0);
    for round in 0..8 {
        let taker = round % 3;
        let tag = format!("early-{round}");
        versions(fleet.nodes.iter(), &tag).await;
        let floor = fleet.origin.publish();
        let door = fleet.nodes[taker].door();
        let asked = order(&tag, "quorum");
        let ordering = tokio::spawn(async move { door.order(&asked).await });
        tokio::time::sleep(chance.between(Duration::ZERO, Duration::from_millis(40))).await;
        fleet.nodes[taker].kill();
        let answer = ordering.await.unwrap();
        let others = || fleet.nodes.iter().enumerate().filter(|(number, _)| *number != taker).map(|(_, node)| node);
        if let Ok((status, receipt)) = answer {
            assert_eq!(status, 200, "{receipt}");
            kept += 1;
        } else {
            lost += 1;
            let (status, receipt) = fleet.nodes[(taker + 1) % 3].purge(&order(&tag, "quorum")).await.unwrap();
            assert_eq!(status, 200, "{receipt}");
        }
        all_have(others(), &tag, floor).await;
        fleet.nodes[taker].start();
        fleet.nodes[taker].ready().await;
        assert_eq!(versions([&fleet.nodes[taker]].into_iter(), &tag).await, [floor]);
    }
    eprintln!("8 nodes killed around their word: {kept} had given it, {lost} had not and the order was repeated");
    assert!(lost > 0, "no node was killed early enough");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_ledger_disk_is_full_refuses_purges_and_serves_on() {
    let mut fleet = Fleet::start(1).await;
    let (full, other) = (1, 0);
    fleet.nodes[full].kill();
    fleet.nodes[full].small_ledger_disk(DISK_MIB);
    fleet.nodes[full].start();
    fleet.nodes[full].ready().await;
    let (status, receipt) = fleet.nodes[full].purge(&order("before", "all")).await.unwrap();
    assert_eq!(status, 200, "{receipt}");
    for tag in ["kept", "gone", "late", "own"] {
        versions(fleet.nodes.iter(), tag).await;
    }
    fleet.nodes[full].ledger_disk().fill();
    // what is acknowledged counts, also now
    let mut taken = 0;
    let door = fleet.nodes[full].door();
    let problem = loop {
        match door.order(&order(&format!("unnoticed-{taken}"), "local")).await.unwrap() {
            (200, _) => taken += 1,
            (503, problem) => break problem,
            other => panic!("{other:?}"),
        }
        assert!(taken < UNNOTICED_MAX, "a full disk is not noticed");
    };
    eprintln!("full: {taken} purges found room yet; then: {problem}");
    for wait in ["local", "quorum", "all"] {
        let (status, answer) = door.order(&order("own", wait)).await.unwrap();
        assert_eq!(status, 503, "wait={wait}: {answer}");
    }
    // it serves what it has, and what it has not, and hears of what others take
    assert!(fleet.nodes[full].get(FREE, &target("kept")).await.is_hit());
    assert_eq!(fleet.nodes[full].get(FREE, &target("fresh")).await.status, 200);
    let floor = fleet.origin.publish();
    let (status, receipt) = fleet.nodes[other].purge(&order("gone", "quorum")).await.unwrap();
    assert_eq!(status, 200, "two of three witnesses can write: {receipt}");
    all_have(fleet.nodes.iter(), "gone", floor).await;
    let (status, receipt) = fleet.nodes[other].purge(&order("late", "all")).await.unwrap();
    eprintln!("full: a purge for all through another node: {status} {}, {}", receipt["state"], receipt["nodes"]);
    // with room and a restart all is well
    fleet.nodes[full].kill();
    fleet.nodes[full].ledger_disk().free();
    fleet.nodes[full].start();
    let ready = fleet.nodes[full].ready().await;
    let after = versions([&fleet.nodes[full]].into_iter(), "gone").await;
    assert_eq!(after, [floor], "what was purged while the disk was full is not there again");
    let floor = fleet.origin.publish();
    let (status, receipt) = fleet.nodes[full].purge(&order("own", "all")).await.unwrap();
    assert_eq!((status, receipt["state"].as_str()), (200, Some("all")), "{receipt}");
    assert_eq!(versions(fleet.nodes.iter(), "own").await, [floor; 3]);
    eprintln!("full: ready {ready:.1?} after the restart with room, and takes purges");
}

/// Does something to a file.
type Damage = fn(&Path);

/// What happens to a ledger file while its node is down.
const DAMAGES: [(&str, Damage); 5] = [
    ("cut to half", |file| cut(file, 2)),
    ("cut to nothing", |file| cut(file, u64::MAX)),
    ("without its first page", |file| zero(file, 0, 4096)),
    ("with flipped bits", |file| flip(file, 64)),
    ("zeroed in the middle", |file| zero(file, length(file) / 2, length(file) / 4)),
];

fn length(file: &Path) -> u64 {
    fs::metadata(file).unwrap().len()
}

fn cut(file: &Path, divisor: u64) {
    let kept = length(file) / divisor;
    OpenOptions::new().write(true).open(file).unwrap().set_len(kept).unwrap();
}

fn zero(file: &Path, from: u64, bytes: u64) {
    let mut file = OpenOptions::new().write(true).open(file).unwrap();
    file.seek(SeekFrom::Start(from)).unwrap();
    file.write_all(&vec![0; usize::try_from(bytes).unwrap()]).unwrap();
}

/// Flips a bit in so many places all over the file.
fn flip(path: &Path, places: u64) {
    let mut file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    for place in 0..places {
        let at = length(path) * place / places + 61 * place % 4096;
        let mut byte = [0];
        file.seek(SeekFrom::Start(at)).unwrap();
        if file.read(&mut byte).unwrap() == 1 {
            byte[0] ^= 1 << (place % 8);
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(&byte).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_ledger_is_no_past_and_nothing_is_stale_with_it() {
    let mut fleet = Fleet::start(1).await;
    let (torn, other) = (2, 0);
    for (round, (what, damage)) in DAMAGES.into_iter().enumerate() {
        let (early, late) = (format!("early-{round}"), format!("late-{round}"));
        for tag in [&early, &late] {
            versions(fleet.nodes.iter(), tag).await;
            assert!(fleet.nodes[torn].get(FREE, &target(tag)).await.is_hit());
        }
        let first = fleet.origin.publish();
        let (status, receipt) = fleet.nodes[torn].purge(&order(&early, "all")).await.unwrap();
        assert_eq!(status, 200, "{receipt}");
        fleet.nodes[torn].kill();
        let second = fleet.origin.publish();
        let (status, receipt) = fleet.nodes[other].purge(&order(&late, "quorum")).await.unwrap();
        assert_eq!(status, 200, "{receipt}");
        damage(&fleet.nodes[torn].dir.join("state").join("ledger").join("global.ledger"));
        let start = Instant::now();
        fleet.nodes[torn].start();
        fleet.nodes[torn].ready().await;
        let ready = start.elapsed();
        let node = || [&fleet.nodes[torn]].into_iter();
        assert!(versions(node(), &early).await[0] >= first, "a ledger {what}: what was purged before is back");
        assert_eq!(versions(node(), &late).await, [second], "a ledger {what}: what was purged meanwhile is back");
        let third = fleet.origin.publish();
        let again = json!({ "site": FREE_SITE, "tags": [late], "wait": "all", "timeout_ms": 5_000 });
        let (status, receipt) = fleet.nodes[torn].purge(&again).await.unwrap();
        assert_eq!(status, 200, "with a ledger {what} before: {receipt}");
        assert_eq!(versions(fleet.nodes.iter(), &late).await, [third; 3], "a ledger {what}");
        let said = fleet.nodes[torn].log().lines().filter(|line| line.contains("is set aside")).count();
        eprintln!("a ledger {what}: ready after {ready:.1?}; set aside {said} times so far");
    }
}
