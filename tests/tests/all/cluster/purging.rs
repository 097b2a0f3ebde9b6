//! A purge is in effect everywhere when it says so.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{
    client::{Connection, PATIENCE},
    fleet::{FREE, FREE_SITE, Fleet, Member, PINNED, PINNED_SITE},
    stamped, until_some,
};

/// What is promised.
const IN_EFFECT: Duration = Duration::from_secs(1);

const OBJECTS: usize = 10;
const REQUESTS: usize = 10_000;
const PURGES: usize = 5;

fn target(number: usize) -> String {
    format!("/o/2000/object-{number}")
}

fn by_tag(site: &str, tag: &str, wait: &str) -> Value {
    json!({ "site": site, "tags": [tag], "wait": wait })
}

/// Purges, and returns how long the acknowledgement took.
async fn purged(node: &Member, order: &Value, state: &str) -> (Value, Duration) {
    let start = Instant::now();
    let (status, receipt) = node.purge(order).await.unwrap_or_else(|error| panic!("{order} at {}: {error}", node.name));
    assert_eq!(status, 200, "{order} at {} after {:?}: {receipt}", node.name, start.elapsed());
    // it may have come further meanwhile
    let way = ["accepted", "quorum", "region", "all"];
    let come = |state: &Value| way.iter().position(|name| state == name);
    assert!(come(&receipt["state"]) >= come(&state.into()), "{receipt}");
    (receipt, start.elapsed())
}

/// The version of an object at a node.
async fn version(node: &Member, host: &str, target: &str) -> u64 {
    let reply = node.get(host, target).await;
    stamped::check(&reply.body).unwrap_or_else(|fault| panic!("{}: {fault}: {}", node.name, reply.seen())).version
}

/// Readers on kept connections, two per node, until so many requests are done in all.
struct Readers {
    /// The version that every answer must have at least, whose request starts from now on.
    floor: Arc<AtomicU64>,
    done: Arc<AtomicUsize>,
    readers: JoinSet<Result<Tally, String>>,
}

/// What one reader saw.
#[derive(Debug, Default)]
struct Tally {
    requests: usize,
    hits: usize,
}

impl Readers {
    fn start(nodes: &[Member]) -> Self {
        let (floor, done) = (Arc::new(AtomicU64::new(1)), Arc::new(AtomicUsize::new(0)));
        let mut readers = JoinSet::new();
        for node in nodes {
            for _ in 0..2 {
                readers.spawn(read(node.http, Arc::clone(&floor), Arc::clone(&done)));
            }
        }
        Self { floor, done, readers }
    }

    async fn reached(&self, requests: usize) {
        until_some(&format!("{requests} requests are done"), Duration::from_secs(60), async || {
            let done = self.done.load(Ordering::SeqCst);
            if done >= requests { Ok(()) } else { Err(format!("{done}")) }
        })
        .await;
    }

    async fn end(mut self) -> Tally {
        let mut sum = Tally::default();
        while let Some(tally) = self.readers.join_next().await {
            let tally = tally.unwrap().unwrap_or_else(|fault| panic!("{fault}"));
            sum.requests += tally.requests;
            sum.hits += tally.hits;
        }
        sum
    }
}

async fn read(address: SocketAddr, floor: Arc<AtomicU64>, done: Arc<AtomicUsize>) -> Result<Tally, String> {
    let mut connection = Connection::open(address).await?;
    let mut tally = Tally::default();
    while done.fetch_add(1, Ordering::SeqCst) < REQUESTS {
        let target = target(tally.requests % OBJECTS);
        let at_least = floor.load(Ordering::SeqCst);
        let reply = connection.get(FREE, &target).await.map_err(|error| format!("{address}{target}: {error}"))?;
        let stamp =
            stamped::check(&reply.body).map_err(|fault| format!("{address}{target}: {fault}: {}", reply.seen()))?;
        if stamp.version < at_least || stamp.target != target {
            return Err(format!("{address}{target}: STALE: {stamp:?} after version {at_least}: {}", reply.seen()));
        }
        tally.requests += 1;
        tally.hits += usize::from(reply.is_hit());
    }
    Ok(tally)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_acknowledgement_of_a_purge_no_node_gives_an_older_version() {
    let fleet = Fleet::start(2).await;
    for node in &fleet.nodes {
        for number in 0..OBJECTS {
            assert_eq!(version(node, FREE, &target(number)).await, 1);
        }
        assert!(node.get(FREE, &target(0)).await.is_hit(), "{} is warm", node.name);
    }
    let readers = Readers::start(&fleet.nodes);
    let mut slowest = Duration::ZERO;
    for round in 0..PURGES {
        // the last fifth of the requests comes after the last purge
        readers.reached(REQUESTS * (round + 1) / (PURGES + 1)).await;
        let version = fleet.origin.publish();
        let through = &fleet.nodes[round % fleet.nodes.len()];
        let (receipt, after) = purged(through, &by_tag(FREE_SITE, "all", "all"), "all").await;
        readers.floor.store(version, Ordering::SeqCst);
        let nodes = receipt["nodes"].as_array().unwrap();
        assert_eq!(nodes.len(), 6, "{receipt}");
        assert!(nodes.iter().all(|node| node["state"] == "applied"), "{receipt}");
        assert!(after < IN_EFFECT, "purge {round} through {} took {after:?}: {receipt}", through.name);
        slowest = slowest.max(after);
    }
    let tally = readers.end().await;
    assert!(tally.requests >= REQUESTS, "{tally:?}");
    assert!(tally.hits > tally.requests / 2, "the caches were hardly used: {tally:?}");
    eprintln!("{PURGES} purges in effect on six nodes within {slowest:?} at most; {tally:?}, none stale");
}

#[tokio::test]
async fn a_purge_covers_what_it_names_and_nothing_else() {
    let fleet = Fleet::start(2).await;
    let through = fleet.node("ap-southeast-2");
    let targets = ["/o/100/red", "/o/100/blue"];
    let hosts = [(FREE, FREE_SITE), (PINNED, PINNED_SITE)];
    for (host, _) in hosts {
        for node in serving(&fleet, host) {
            for target in targets {
                assert_eq!(version(node, host, target).await, 1);
            }
        }
    }
    fleet.origin.publish();
    purged(through, &by_tag(FREE_SITE, "red", "all"), "all").await;
    for node in &fleet.nodes {
        assert_eq!(version(node, FREE, targets[0]).await, 2, "{}: by its tag", node.name);
        assert_eq!(version(node, FREE, targets[1]).await, 1, "{}: another tag", node.name);
    }
    let url = json!({ "site": FREE_SITE, "urls": [format!("http://{FREE}{}", targets[1])], "wait": "all" });
    purged(through, &url, "all").await;
    for node in &fleet.nodes {
        assert_eq!(version(node, FREE, targets[1]).await, 2, "{}: by its URL", node.name);
    }
    for node in fleet.region("eu-central") {
        for target in targets {
            assert_eq!(version(node, PINNED, target).await, 1, "{}: another site with the same tags", node.name);
        }
    }
    purged(fleet.node("eu-central-2"), &json!({ "site": PINNED_SITE, "everything": true, "wait": "all" }), "all").await;
    for node in fleet.region("eu-central") {
        assert_eq!(version(node, PINNED, targets[0]).await, 2, "{}: everything of the site", node.name);
    }
    for bad in [
        json!({ "site": FREE_SITE }),
        json!({ "site": "nobody", "everything": true }),
        json!({ "site": FREE_SITE, "urls": ["not a url"] }),
        json!({ "site": FREE_SITE, "urls": [format!("http://{PINNED}/")] }),
        json!({ "site": FREE_SITE, "tags": ["a"], "wait": "never" }),
        json!("purge"),
    ] {
        let (status, problem) = through.purge(&bad).await.unwrap();
        assert!((400..500).contains(&status), "{bad}: {status} {problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{bad}: {problem}");
    }
}

fn serving<'a>(fleet: &'a Fleet, host: &str) -> Vec<&'a Member> {
    fleet.nodes.iter().filter(|node| host == FREE || node.jurisdiction == "eu").collect()
}

#[tokio::test]
async fn a_quorum_is_enough_when_a_witness_is_dead_and_it_catches_up_when_it_returns() {
    let mut fleet = Fleet::start(2).await;
    let object = "/o/2000/quorum";
    for node in &fleet.nodes {
        assert_eq!(version(node, FREE, object).await, 1);
    }
    let (receipt, _) = purged(&fleet.nodes[0], &by_tag(FREE_SITE, "nothing-has-this", "all"), "all").await;
    let witnesses: Vec<_> =
        receipt["stored"].as_array().unwrap().iter().map(|it| it["node"].as_str().unwrap().to_owned()).collect();
    assert!(witnesses.len() >= 3, "the witnesses: {receipt}");
    let dead = witnesses.last().unwrap().clone();
    // what is on its disk must not come back
    let at = fleet.nodes.iter().position(|node| node.name == dead).unwrap();
    fleet.nodes[at].kill();
    let asked = fleet.nodes.iter().position(|node| node.name != dead).unwrap();

    fleet.origin.publish();
    let (receipt, after) = purged(&fleet.nodes[asked], &by_tag(FREE_SITE, "quorum", "quorum"), "quorum").await;
    eprintln!("with witness {dead} dead, a quorum had the purge after {after:?}");
    assert!(after < IN_EFFECT, "after {after:?}: {receipt}");
    for node in fleet.nodes.iter().filter(|node| node.name != dead) {
        until_some(&format!("the purge is in effect at {}", node.name), IN_EFFECT, async || {
            let seen = version(node, FREE, object).await;
            if seen == 2 { Ok(()) } else { Err(format!("version {seen}")) }
        })
        .await;
    }
    fleet.nodes[at].start();
    // it answers as soon as it listens; what it answers must be right from the first request on
    let back = &fleet.nodes[at];
    until_some("the witness that was dead serves", PATIENCE, async || {
        let reply = crate::harness::client::try_send(
            back.http,
            crate::harness::client::empty(crate::harness::client::get(FREE, object)),
        )
        .await?;
        if reply.status != 200 {
            return Err(reply.seen());
        }
        assert_eq!(stamped::check(&reply.body).unwrap().version, 2, "a purged object came back: {}", reply.seen());
        Ok(())
    })
    .await;
    fleet.all_ready().await;
}
