//! Within a region an object is fetched once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use http::Request;
use http_body_util::Full;

use crate::harness::{
    client::{empty, fetch, get, send},
    fleet::{FREE, Fleet, PINNED},
    origin::Answer,
    stamped, until_some,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cold_object_asked_at_both_nodes_of_a_region_costs_one_origin_request() {
    let fleet = Fleet::start(2).await;
    for (host, region) in [(FREE, "us-west"), (PINNED, "eu-central")] {
        let nodes: Vec<_> = fleet.region(region).map(|node| node.http).collect();
        for length in [1_000, 400_000] {
            for number in 0..10 {
                let target = format!("/o/{length}/{region}-{number}");
                let (one, two) = tokio::join!(fetch(nodes[0], host, &target), fetch(nodes[1], host, &target));
                for reply in [one, two] {
                    assert_eq!(reply.status, 200, "{target}: {}", reply.seen());
                    assert!(reply.broken.is_none(), "{target}: {}", reply.seen());
                    assert_eq!(stamped::check(&reply.body).unwrap().target, target);
                }
                assert_eq!(fleet.origin.count(&target), 1, "{target}: requests at the origin");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_node_at_the_client_puts_into_the_key_counts_at_the_owner() {
    let fleet = Fleet::start(2).await;
    for number in 0..8 {
        fleet.origin.on(&format!("/keyed/{number}"), |seen| {
            let fields = ["cookie", "x-meridian-country", "x-meridian-device"].map(|name| seen.field(name));
            Answer::ok(format!("{} {}", seen.target, fields.join(" "))).with("cache-control", "max-age=600")
        });
    }
    let nodes: Vec<_> = fleet.region("us-west").map(|node| node.http).collect();
    for number in 0..8 {
        let path = format!("/keyed/{number}");
        for (agent, device) in [("iPhone", "mobile"), ("curl", "desktop")] {
            for node in &nodes {
                let request = get(FREE, &format!("{path}?gclid={node}"))
                    .header("user-agent", agent)
                    .header("cookie", "session=1; plan=gold")
                    .header("x-meridian-device", "bot");
                let reply = send(*node, empty(request)).await;
                assert_eq!(reply.text(), format!("{path} plan=gold XX {device}"), "{}", reply.seen());
            }
        }
        assert_eq!(fleet.origin.count(&path), 2, "{path}: one request per key, at whichever node");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_voided_on_every_node() {
    let fleet = Fleet::start(2).await;
    let votes = Arc::new(AtomicU64::new(0));
    let (counted, shown) = (Arc::clone(&votes), votes);
    fleet.origin.on("/scores", move |_| {
        let text = shown.load(SeqCst).to_string();
        Answer::ok(text).with("cache-control", "max-age=600").with("cache-groups", "\"scores\"")
    });
    fleet.origin.on("/vote", move |_| {
        counted.fetch_add(1, SeqCst);
        Answer::ok("x").with("cache-group-invalidation", "\"scores\"")
    });
    for node in &fleet.nodes {
        fetch(node.http, FREE, "/scores").await;
        let reply = fetch(node.http, FREE, "/scores").await;
        assert!(reply.is_hit() && reply.text() == "0", "{}: {}", node.name, reply.seen());
    }
    let vote = Request::post("/vote").header("host", FREE).body(Full::from("x")).unwrap();
    send(fleet.nodes[0].http, vote).await;
    for node in &fleet.nodes {
        let what = format!("{} tells the new score", node.name);
        until_some(&what, Duration::from_secs(10), async || {
            let reply = fetch(node.http, FREE, "/scores").await;
            if reply.text() == "1" { Ok(()) } else { Err(reply.seen()) }
        })
        .await;
    }
}
