//! One object that stands for several URLs, by its `No-Vary-Search`, at two nodes of a region.
//!
//! What broke: a node got such an object from the store of the key's owner, which had judged it for the URL that was asked
//! for, and served it for the others too, with a stamp from after their purge. Now what a node has from another's store
//! stands for the asked URL alone, and whether an object is still good for all of its URLs is asked at the origin.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use serde_json::json;

use crate::harness::{
    client::{Reply, fetch},
    fleet::{FREE, FREE_SITE, Fleet, Member},
    origin::Answer,
};

/// So many that some have the owners that a test wants: those are drawn from the names of the URLs.
const PATHS: usize = 32;
/// And so many have them at least.
const SUITED_MIN: usize = 3;
/// For how long an object is good, where a test is about what comes after.
const SHORT: Duration = Duration::from_secs(4);

/// The two nodes of the region.
fn nodes(fleet: &Fleet) -> (&Member, &Member) {
    let mut nodes = fleet.region("us-west");
    (nodes.next().unwrap(), nodes.next().unwrap())
}

fn path(number: usize) -> String {
    format!("/list/{number}")
}

/// URLs that are one by what the origin says.
fn url(number: usize, from: &str) -> String {
    format!("{}?page=1&from={from}", path(number))
}

/// The versions that the origin answers with, of each path, good for so long.
fn lists(fleet: &Fleet, good: Duration) -> Vec<Arc<AtomicU64>> {
    let list = |number| {
        let published = Arc::new(AtomicU64::new(1));
        let version = Arc::clone(&published);
        fleet.origin.on(&path(number), move |seen| {
            let version = version.load(SeqCst).to_string();
            let tag = format!("\"{version}\"");
            let same = seen.field("if-none-match") == tag;
            let answer = if same { Answer::status(304) } else { Answer::ok(version) };
            answer
                .with("cache-control", &format!("max-age={}", good.as_secs()))
                .with("etag", &tag)
                .with("no-vary-search", "params=(\"from\")")
        });
        published
    };
    (0..PATHS).map(list).collect()
}

async fn purge(fleet: &Fleet, target: &str) {
    let order = json!({ "site": FREE_SITE, "urls": [format!("http://{FREE}{target}")], "wait": "all" });
    let (status, receipt) = fleet.nodes[0].purge(&order).await.unwrap();
    assert_eq!((status, &receipt["state"]), (200, &json!("all")), "{receipt}");
}

/// What a node has for a URL, and how often the origin was asked for that.
async fn asked(fleet: &Fleet, node: &Member, target: &str) -> (Reply, usize) {
    let path = target.split('?').next().unwrap();
    let before = fleet.origin.count(path);
    let reply = fetch(node.http, FREE, target).await;
    assert_eq!(reply.status, 200, "{target} at {}: {}", node.name, reply.seen());
    (reply, fleet.origin.count(path) - before)
}

/// Asks a node for what it does not have; says whether it asked the origin itself, so is the owner of this URL.
async fn owns(node: &Member, target: &str) -> bool {
    let reply = fetch(node.http, FREE, target).await;
    assert!(!reply.is_hit() && reply.text() == "1", "{target} at {}: {}", node.name, reply.seen());
    hops(&reply) == 1
}

/// The nodes that an answer came through.
fn hops(reply: &Reply) -> usize {
    let lines = reply.headers.get_all("cache-status").iter();
    lines.map(|line| line.to_str().unwrap().matches("; fwd=").count()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_owner_gave_for_one_url_is_not_served_for_another_that_was_purged() {
    let fleet = Fleet::start(2).await;
    let versions = lists(&fleet, Duration::from_secs(600));
    let (owner, other) = nodes(&fleet);
    let mut suited = 0;
    for (number, version) in versions.iter().enumerate() {
        let [one, purged] = ["a", "b"].map(|from| url(number, from));
        if !owns(owner, &one).await {
            continue;
        }
        assert!(fetch(owner.http, FREE, &purged).await.is_hit(), "the object stands for both");
        version.store(2, SeqCst);
        purge(&fleet, &purged).await;
        let (reply, requests) = asked(&fleet, other, &one).await;
        assert_eq!((reply.text().as_str(), requests), ("1", 0), "not from the owner's store: {}", reply.seen());
        let (reply, _) = asked(&fleet, other, &purged).await;
        assert_eq!(reply.text(), "2", "{purged} was purged, and {} has it still: {}", other.name, reply.seen());
        assert_eq!(asked(&fleet, owner, &purged).await.0.text(), "2", "{purged} at {}", owner.name);
        suited += 1;
    }
    assert!(suited >= SUITED_MIN, "only {suited} of {PATHS} had the owner that is wanted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_does_the_owner_of_one_url_say_that_an_object_is_good_for_that_other() {
    let fleet = Fleet::start(2).await;
    let versions = lists(&fleet, SHORT);
    let (node, owner) = nodes(&fleet);
    let mut suited = Vec::new();
    for number in 0..PATHS {
        // both have it from the origin
        if owns(owner, &url(number, "a")).await && owns(node, &url(number, "c")).await {
            suited.push(number);
        }
    }
    assert!(suited.len() >= SUITED_MIN, "only {} of {PATHS} had the owners that are wanted", suited.len());
    // it is time alone that makes them stale
    tokio::time::sleep(SHORT).await;
    let mut shown = 0;
    for number in suited {
        let [one, purged] = ["a", "b"].map(|from| url(number, from));
        // the owner hears from the origin that its own is good, just before there is a new one
        assert_eq!(asked(&fleet, owner, &one).await.0.text(), "1");
        let heard = Instant::now();
        versions[number].store(2, SeqCst);
        purge(&fleet, &purged).await;
        let (reply, requests) = asked(&fleet, node, &one).await;
        assert!(!reply.is_hit(), "it was good still: {}", reply.seen());
        // the owner would have said that it is good
        shown += usize::from(requests == 1 && heard.elapsed() < SHORT / 2);
        let (reply, _) = asked(&fleet, node, &purged).await;
        assert_eq!(reply.text(), "2", "{purged} was purged, and {} has it still: {}", node.name, reply.seen());
    }
    assert!(shown > 0, "all was too slow, so nothing was shown");
}
