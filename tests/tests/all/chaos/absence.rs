//! A node that was off while very much was purged.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{cpu, resident_mib, version, warm};
use crate::harness::{
    client::{Connection, fetch},
    fleet::{FREE, FREE_SITE, Fleet, Member},
    orders::{Door, Orders},
    until_some,
};

/// Objects that are purged meanwhile, and as many that are not.
const OBJECTS: usize = 100;
/// What is promised.
const READY: Duration = Duration::from_secs(30);
/// What a node may have in memory, in MiB, with 32 MiB for objects: the ledger's horizon is a million records.
const RESIDENT_MIB_MAX: u64 = 1_500;
/// A purge that is not acknowledged by then is a fault.
const ACKNOWLEDGED: Duration = Duration::from_secs(60);
/// How soon an order is repeated.
const AGAIN: Duration = Duration::from_millis(100);
/// Orders in one call, and calls at a time to each node that takes purges, each over a connection of its own.
const BATCH: usize = 500;
const CALLS: usize = 8;

fn gone(number: usize) -> String {
    format!("gone-{number}")
}

fn target(tag: &str) -> String {
    format!("/o/2000/{tag}")
}

fn tags() -> impl Iterator<Item = String> {
    (0..OBJECTS).flat_map(|number| [gone(number), format!("stays-{number}")])
}

/// How many of the objects are hits at a node.
async fn stored(node: &Member) -> usize {
    let mut hits = 0;
    for tag in tags() {
        hits += usize::from(fetch(node.http, FREE, &target(&tag)).await.is_hit());
    }
    hits
}

/// Purges so many different tags, among them evenly those of the objects that go. Returns how many were acknowledged.
async fn purge(nodes: &[Door], count: usize, deadline: Duration) -> usize {
    let next = Arc::new(AtomicUsize::new(0));
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let end = Instant::now() + deadline;
    let mut workers = JoinSet::new();
    for node in nodes {
        for _ in 0..CALLS {
            let orders = node.open().await.unwrap();
            let (next, acknowledged) = (Arc::clone(&next), Arc::clone(&acknowledged));
            workers.spawn(async move {
                loop {
                    let first = next.fetch_add(BATCH, Ordering::SeqCst);
                    if first >= count || Instant::now() > end {
                        return;
                    }
                    let last = count.min(first + BATCH);
                    order_all(&orders, (first..last).map(|number| format!("tag-{number}"))).await;
                    acknowledged.fetch_add(last - first, Ordering::SeqCst);
                }
            });
        }
    }
    // those that matter are spread over the time of the others
    let orders = nodes[0].open().await.unwrap();
    for number in 0..OBJECTS {
        let due = count * number / OBJECTS;
        while next.load(Ordering::SeqCst) < due && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        order(&orders, &gone(number)).await;
    }
    while let Some(ended) = workers.join_next().await {
        ended.unwrap();
    }
    acknowledged.load(Ordering::SeqCst) + OBJECTS
}

/// Orders until it is acknowledged.
async fn order(orders: &Orders, tag: &str) {
    let start = Instant::now();
    loop {
        match orders.order(&order_of(tag)).await {
            Ok((200, _)) => return,
            other => assert!(start.elapsed() < ACKNOWLEDGED, "{tag} is not purged: {other:?}"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Orders many at once, and those again that are not acknowledged, until all are.
async fn order_all(orders: &Orders, tags: impl Iterator<Item = String>) {
    let mut left: Vec<_> = tags.map(|tag| order_of(&tag)).collect();
    let start = Instant::now();
    loop {
        let answered = orders.batch(&left).await;
        if let Ok(statuses) = &answered {
            assert_eq!(statuses.len(), left.len(), "each order has an answer");
            let mut status = statuses.iter();
            left.retain(|_| status.next() != Some(&200));
        }
        if left.is_empty() {
            return;
        }
        assert!(start.elapsed() < ACKNOWLEDGED, "{} are not purged, as {}: {answered:?}", left.len(), left[0]);
        tokio::time::sleep(AGAIN).await;
    }
}

fn order_of(tag: &str) -> Value {
    let key = format!("absent-{tag}");
    json!({ "site": FREE_SITE, "tags": [tag], "wait": "quorum", "timeout_ms": 20_000, "idempotency_key": key })
}

/// Asks for what is gone as soon as the node answers at all, until told to stop. Returns how many answers were judged.
async fn watch(address: std::net::SocketAddr, end: Arc<AtomicBool>) -> Result<usize, String> {
    let mut judged = 0;
    for number in 0.. {
        if end.load(Ordering::SeqCst) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        let Ok(mut connection) = Connection::open(address).await else { continue };
        let target = target(&gone(number % OBJECTS));
        let Ok(reply) = connection.get(FREE, &target).await else { continue };
        if reply.status == 200 && version(&reply)? < 2 {
            return Err(format!("{target} is older than its purge: {}", reply.seen()));
        }
        judged += usize::from(reply.status == 200);
    }
    Ok(judged)
}

async fn absent(count: usize, deadline: Duration) {
    let mut fleet = Fleet::start(1).await;
    fleet.origin.forget();
    let victim = fleet.nodes.iter().position(|node| node.region == "ap-southeast").unwrap();
    let http = fleet.nodes[victim].http;
    let mut connection = Connection::open(http).await.unwrap();
    for tag in tags() {
        warm(&mut connection, &target(&tag)).await;
    }
    until_some("the objects survive a restart", Duration::from_secs(30), async || {
        fleet.nodes[victim].kill();
        fleet.nodes[victim].start();
        fleet.nodes[victim].ready().await;
        let hits = stored(&fleet.nodes[victim]).await;
        if hits * 100 >= OBJECTS * 2 * 95 { Ok(()) } else { Err(format!("{hits} hits")) }
    })
    .await;
    fleet.nodes[victim].kill();
    fleet.origin.publish();
    let start = Instant::now();
    let through = || fleet.nodes.iter().filter(|node| node.region != "ap-southeast");
    let (doors, pids): (Vec<_>, Vec<_>) = through().map(|node| (node.door(), node.pid())).unzip();
    let purged = purge(&doors, count, deadline).await;
    let took = start.elapsed();
    let others: Vec<_> = pids.into_iter().map(resident_mib).collect();

    let end = Arc::new(AtomicBool::new(false));
    let watching = tokio::spawn(watch(http, Arc::clone(&end)));
    fleet.nodes[victim].start();
    let ready = fleet.nodes[victim].ready().await;
    let work = cpu(fleet.nodes[victim].pid());
    for number in 0..OBJECTS {
        let reply = fetch(http, FREE, &target(&gone(number))).await;
        assert_eq!(version(&reply), Ok(2), "{} came back with the node: {}", gone(number), reply.seen());
    }
    let mut kept = 0;
    for number in 0..OBJECTS {
        let reply = fetch(http, FREE, &target(&format!("stays-{number}"))).await;
        kept += usize::from(reply.is_hit() && version(&reply) == Ok(1));
    }
    // until it has read what it missed: then it takes part in what waits for all
    let victim = &fleet.nodes[victim];
    let what = format!("{} has what is purged now", victim.name);
    let ((), after) = until_some(&what, Duration::from_secs(120), async || {
        let order = json!({ "site": FREE_SITE, "tags": ["last"], "wait": "all", "timeout_ms": 10_000 });
        match doors[0].order(&order).await {
            Ok((200, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    end.store(true, Ordering::SeqCst);
    let judged = watching.await.unwrap().unwrap_or_else(|fault| panic!("{fault}"));
    let peak = peak_mib(victim.pid());
    eprintln!(
        "{purged} purges in {took:.1?} ({:.0} a second) while a node was off; ready {ready:.1?} after its start, with \
         {work:.1?} of a processor; {judged} answers from its start on, none stale; {kept} of {OBJECTS} that were not \
         purged are hits; a purge for all took {after:.1?}; at most {peak} MiB resident, the others {others:?}",
        purged as f64 / took.as_secs_f64()
    );
    assert!(ready < READY, "ready only after {ready:?}");
    assert!(peak < RESIDENT_MIB_MAX && others.iter().all(|mib| *mib < RESIDENT_MIB_MAX), "{peak} MiB, {others:?}");
}

/// The most that a process had in memory, in MiB.
fn peak_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_purges_during_an_absence_leave_nothing_stale() {
    absent(20_000, Duration::from_secs(120)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes, and wants a release build: make chaos"]
async fn a_million_purges_during_an_absence_leave_nothing_stale() {
    let given = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<usize>().ok());
    let seconds = given("MERIDIAN_ABSENCE_S").unwrap_or(3_600) as u64;
    absent(given("MERIDIAN_ABSENCE_PURGES").unwrap_or(1_000_000), Duration::from_secs(seconds)).await;
}
