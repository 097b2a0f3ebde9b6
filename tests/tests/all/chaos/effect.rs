//! From the acceptance of a purge to its effect on every node, over links as long as between continents.
//!
//! Measured twice. From outside, for some: from before the order is sent, until the answer is there in which a node no longer
//! has the object (`only-if-cached`, so that no fetch is in between). And by the nodes themselves, for all: from when one has
//! accepted a purge until it is in effect at another (`meridian_purge_effect_seconds`); all have the same clock here, and the
//! links are as long as fits a bound of that histogram.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{sync::Semaphore, task::JoinSet};

use super::{Times, cpu, sleep_until, warm};
use crate::harness::{
    client::{self, Connection},
    fleet::{Between, FREE, FREE_SITE, Fleet, Member, Plan},
    orders::Orders,
};

/// One-way times between regions, in us: 5 ms less than a bound of the histogram.
const ONE_WAY_US: [(&str, &str, u64); 3] =
    [("eu-central", "us-west", 60_536), ("us-west", "ap-southeast", 126_072), ("eu-central", "ap-southeast", 126_072)];
/// What is promised beyond the way.
const PROMISED: Duration = Duration::from_millis(5);
/// So that clients may ask for what is stored only.
const ROUTES: &str = "[[sites.routes]]\npath = \"/o/*\"\nhonour_request_cache_control = true\n";
/// The node that takes the purges.
const THROUGH: &str = "eu-central-1";
/// A node is asked so long before a purge can be in effect there.
const EARLY: Duration = Duration::from_millis(3);
/// Pause between two questions.
const PAUSE: Duration = Duration::from_micros(300);
/// A purge that is not in effect by then is a fault.
const PATIENCE: Duration = Duration::from_secs(20);
/// Connections that orders go over: a node takes 32 at a time on each, and each waits for the disk.
const CONNECTIONS: usize = 40;
/// Orders under way, at most.
const UNDER_WAY_MAX: usize = 2_000;

/// Connections to each node that stand ready for questions.
const WATCHERS: usize = 8;

/// Connections that nobody uses just now.
type Ready = Arc<Mutex<Vec<Connection>>>;

/// How much is done.
#[derive(Debug, Clone, Copy)]
struct Load {
    /// Nodes in each region.
    per_region: u8,
    /// Purges a second.
    rate: usize,
    seconds: usize,
    /// One of so many is watched on every node.
    watched: usize,
    wait: &'static str,
}

/// What came of it.
#[derive(Debug, Default)]
struct Seen {
    /// Per node: from the order to the effect, less the one-way time.
    over: Vec<(String, Duration, Times)>,
    /// Per node that did not take them: of how many purges it knows when they were accepted, and how many of those were in
    /// effect in time.
    inside: Vec<(String, f64, f64)>,
    answered: Times,
    refused: usize,
    /// How long a question took that a node answered from its memory: what the machine itself adds.
    asked: Times,
    lasted: Duration,
    /// What each node had of a processor meanwhile, and this process, in which orders, questions and the links are made.
    cpu: Vec<Duration>,
}

/// Lays the times between regions over the links.
fn lay(fleet: &Fleet) {
    for (number, node) in fleet.nodes.iter().enumerate() {
        for (other_number, other) in fleet.nodes.iter().enumerate().skip(number + 1) {
            fleet.shim().delay(number, other_number, one_way(node.region, other.region));
        }
    }
}

fn one_way(region: &str, other: &str) -> Duration {
    let known = ONE_WAY_US.iter().find(|(a, b, _)| [(*a, *b), (*b, *a)].contains(&(region, other)));
    Duration::from_micros(known.map_or(0, |(_, _, us)| *us))
}

fn watched(number: usize) -> String {
    format!("watched-{number}")
}

async fn run(load: Load) -> Seen {
    let fleet = Fleet::planned(Plan {
        per_region: load.per_region,
        between: Between::Shim,
        routes: Some(ROUTES),
        ..Plan::default()
    })
    .await;
    lay(&fleet);
    let samples = load.rate * load.seconds / load.watched;
    for node in &fleet.nodes {
        let mut connection = Connection::open(node.http).await.unwrap();
        for number in 0..samples {
            warm(&mut connection, &format!("/o/500/{}", watched(number))).await;
        }
    }
    fleet.origin.publish();
    let mut connections = Vec::new();
    for node in &fleet.nodes {
        let mut ready = Vec::new();
        for _ in 0..WATCHERS {
            ready.push(Connection::open(node.http).await.unwrap());
        }
        connections.push(Ready::new(Mutex::new(ready)));
    }
    let door = fleet.node(THROUGH).door();
    let mut doors = Vec::new();
    for _ in 0..CONNECTIONS {
        doors.push(door.open().await.unwrap());
    }
    let (refused, under_way) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(UNDER_WAY_MAX)));
    let mut orders: JoinSet<Duration> = JoinSet::new();
    let mut watches: JoinSet<(usize, usize, Gone)> = JoinSet::new();
    let pids: Vec<_> = fleet.nodes.iter().map(Member::pid).chain([std::process::id()]).collect();
    let before: Vec<_> = pids.iter().map(|pid| cpu(*pid)).collect();
    let start = Instant::now();
    for number in 0..load.rate * load.seconds {
        let due = Duration::from_secs(1).mul_f64(number as f64 / load.rate as f64);
        if start.elapsed() < due {
            sleep_until(start, due).await;
        }
        let room = Arc::clone(&under_way).acquire_owned().await.unwrap();
        let sample = number / load.watched;
        let is_watched = number % load.watched == load.watched / 2;
        let tag = if is_watched { watched(sample) } else { format!("tag-{number}") };
        if is_watched {
            for (index, node) in fleet.nodes.iter().enumerate() {
                let (address, distance) = (node.http, one_way(fleet.node(THROUGH).region, node.region));
                let target = format!("/o/500/{tag}");
                let sent = Instant::now();
                let ready = Arc::clone(&connections[index]);
                watches.spawn(async move { (index, sample, gone(address, &ready, &target, sent, distance).await) });
            }
        }
        let order = json!({ "site": FREE_SITE, "tags": [tag], "wait": load.wait, "timeout_ms": 10_000 });
        let (door, refused) = (doors[number % CONNECTIONS].clone(), Arc::clone(&refused));
        orders.spawn(async move {
            let after = ordered(&door, &order, &refused).await;
            drop(room);
            after
        });
    }
    let lasted = start.elapsed();
    let mut seen = Seen { lasted, ..Seen::default() };
    seen.answered.0 = orders.join_all().await;
    seen.cpu = pids.iter().zip(before).map(|(pid, before)| cpu(*pid).saturating_sub(before)).collect();
    seen.refused = refused.load(Ordering::SeqCst);
    let mut ends = vec![vec![Duration::ZERO; samples]; fleet.nodes.len()];
    for (index, sample, gone) in watches.join_all().await {
        ends[index][sample] = gone.after;
        seen.asked.0.extend(gone.asked);
    }
    for (index, node) in fleet.nodes.iter().enumerate() {
        seen.over.push((
            node.name.clone(),
            one_way(fleet.node(THROUGH).region, node.region),
            Times(ends[index].clone()),
        ));
    }
    seen.inside = inside(&fleet).await;
    seen
}

/// Orders, and returns how long the answer took.
async fn ordered(door: &Orders, order: &Value, refused: &AtomicUsize) -> Duration {
    let sent = Instant::now();
    match door.order(order).await {
        Ok((200 | 202, _)) => {}
        Ok((503, _)) => _ = refused.fetch_add(1, Ordering::SeqCst),
        other => panic!("{order}: {other:?}"),
    }
    sent.elapsed()
}

/// When an object was gone, and how long the questions took before.
#[derive(Debug)]
struct Gone {
    after: Duration,
    asked: Vec<Duration>,
}

/// How long after `sent`, and beyond the distance, a node does not have an object any more.
async fn gone(address: SocketAddr, ready: &Ready, target: &str, sent: Instant, distance: Duration) -> Gone {
    let kept = ready.lock().unwrap().pop();
    let mut connection = match kept {
        Some(kept) => kept,
        None => Connection::open(address).await.unwrap(),
    };
    sleep_until(sent, distance.saturating_sub(EARLY)).await;
    let mut asked = Vec::new();
    loop {
        let asking = Instant::now();
        let request = client::get(FREE, target).header("cache-control", "only-if-cached");
        let Ok(reply) = connection.send(client::empty(request)).await else {
            // the node closes what is not used for a while
            connection = Connection::open(address).await.unwrap();
            continue;
        };
        match reply.status.as_u16() {
            504 => {
                let after = sent.elapsed().saturating_sub(distance);
                ready.lock().unwrap().push(connection);
                return Gone { after, asked };
            }
            200 if sent.elapsed() < PATIENCE => asked.push(asking.elapsed()),
            _ => panic!("{target} at {address}: {}", reply.seen()),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What the nodes themselves measured.
async fn inside(fleet: &Fleet) -> Vec<(String, f64, f64)> {
    let mut inside = Vec::new();
    for node in fleet.nodes.iter().filter(|node| node.name != THROUGH) {
        let page = node.admin("/metrics").await.text();
        let figure = |name: &str, more: &str| {
            let name = format!("{name}{{realm=\"global\"{more}}} ");
            page.lines().find_map(|line| line.strip_prefix(&name)?.parse::<f64>().ok()).unwrap_or(0.0)
        };
        let told = |name: &str| {
            let count = figure(&format!("{name}_count"), "");
            format!("{count} of {:.2} ms", figure(&format!("{name}_sum"), "") * 1e3 / count.max(1.0))
        };
        let (effects, commits) = (told("meridian_purge_effect_seconds"), told("meridian_purge_commit_seconds"));
        eprintln!("{} says: {effects} from a node's taking to the effect here; {commits} for a commit", node.name);
        let distance = one_way(fleet.node(THROUGH).region, node.region);
        // in the same region, the next lower bound
        let bound = if distance.is_zero() { 0.004_096 } else { (distance + PROMISED).as_secs_f64() };
        let in_time = figure("meridian_purge_effect_seconds_bucket", &format!(",le=\"{bound:.6}\""));
        inside.push((node.name.clone(), figure("meridian_purge_effect_seconds_count", ""), in_time));
    }
    inside
}

fn tell(load: Load, seen: &Seen) {
    let sent = load.rate * load.seconds;
    eprintln!(
        "{sent} purges, {} a second wanted, {:.0} had, wait={}: {} refused; answered after {}",
        load.rate,
        sent as f64 / seen.lasted.as_secs_f64(),
        load.wait,
        seen.refused,
        seen.answered
    );
    let all: Duration = seen.cpu.iter().sum();
    eprintln!(
        "{:.2} cores were used: by each node, and by the test: {:.1?}",
        all.as_secs_f64() / seen.lasted.as_secs_f64(),
        seen.cpu
    );
    eprintln!("a question for what is in memory took {}", seen.asked);
    for (node, distance, times) in &seen.over {
        eprintln!("in effect at {node}, beyond the {distance:?} of the way: {times}");
    }
    for (node, all, in_time) in &seen.inside {
        eprintln!(
            "of {all} purges {in_time} were in effect at {node} within a one-way time and {PROMISED:?} of their acceptance"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_is_in_effect_on_other_continents_about_when_a_packet_is_there() {
    let load = Load { per_region: 2, rate: 100, seconds: 3, watched: 10, wait: "local" };
    let mut seen = run(load).await;
    tell(load, &seen);
    assert_eq!(seen.refused, 0);
    for (node, _, times) in &mut seen.over {
        // the machine does other things too: the long form has the promised figure
        assert!(times.per_mille(500) < Duration::from_secs(1), "{node}: {times}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "wants the machine for half a minute, and a release build: make chaos"]
async fn a_thousand_purges_a_second_are_in_effect_a_one_way_time_later_and_5_ms() {
    let set = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let rate = set("MERIDIAN_PURGES_PER_S").unwrap_or(1_000);
    // on two processors more nodes wait for each other, and for the links and clients of this test
    let per_region = set("MERIDIAN_NODES_PER_REGION").and_then(|nodes| u8::try_from(nodes).ok()).unwrap_or(1);
    let load = Load { per_region, rate, seconds: 20, watched: rate / 10, wait: "local" };
    let seen = run(load).await;
    tell(load, &seen);
    assert_eq!(seen.refused, 0);
    assert!(seen.lasted < Duration::from_secs(21), "1,000 a second were not taken: {:?}", seen.lasted);
    for (node, all, in_time) in &seen.inside {
        assert!(*all > 0.9 * (rate * load.seconds) as f64, "{node} knows of {all}");
        assert!(*in_time >= 0.99 * all, "{node}: {in_time} of {all}");
    }
}
