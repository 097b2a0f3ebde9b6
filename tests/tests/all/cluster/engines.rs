//! Measures the two engines of the ledger beside each other; run by hand:
//! `cargo test -p tests --release -- --ignored --nocapture engines_compared`.

use std::{
    rc::Rc,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::task::JoinSet;

use super::stream::started;
use crate::harness::fleet::{FREE_SITE, Fleet};

/// Purges one after the other, and then from so many clients for so long.
const ALONE: usize = 200;
const CLIENTS: usize = 64;
const LOAD: Duration = Duration::from_secs(10);

async fn order(fleet: &Fleet, node: usize, wait: &str, number: usize) -> Duration {
    let start = Instant::now();
    let order = json!({ "site": FREE_SITE, "tags": [format!("tag-{number}")], "wait": wait, "timeout_ms": 20_000 });
    let (status, receipt) = fleet.nodes[node].purge(&order).await.unwrap();
    assert_eq!(status, 200, "{receipt}");
    start.elapsed()
}

async fn measured(name: &str, fleet: Fleet) {
    let fleet = Rc::new(fleet);
    for wait in ["quorum", "all"] {
        let mut times = Vec::new();
        for number in 0..ALONE {
            times.push(order(&fleet, number % 3, wait, number).await);
        }
        eprintln!("{name}: alone, wait={wait}: {}", spread(times));
    }
    let (count, end) = (Rc::new(AtomicUsize::new(0)), Instant::now() + LOAD);
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (fleet, count) = (Rc::clone(&fleet), Rc::clone(&count));
        clients.spawn_local(async move {
            let mut times = Vec::new();
            while Instant::now() < end {
                let number = count.fetch_add(1, Ordering::Relaxed);
                times.push(order(&fleet, client % 3, "quorum", 10_000 + number).await);
            }
            times
        });
    }
    let times: Vec<_> = clients.join_all().await.into_iter().flatten().collect();
    let rate = times.len() as f64 / LOAD.as_secs_f64();
    eprintln!("{name}: {CLIENTS} clients, wait=quorum: {rate:.0} purges/s, {}", spread(times));
}

fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    format!("p50 {:.1?}, p99 {:.1?}", at(50), at(99))
}

#[tokio::test]
#[ignore = "measures, for docs/engines.md"]
async fn engines_compared() {
    // a fleet is not shared between threads
    tokio::task::LocalSet::new().run_until(all_measured()).await;
}

async fn all_measured() {
    measured("three witnesses", Fleet::start(1).await).await;
    let (fleet, _nats) = started(1).await;
    measured("NATS, one server", fleet).await;
    let (fleet, _nats) = started(3).await;
    measured("NATS, three servers", fleet).await;
}
