//! Residency by negative search: a word that stands in everything of a pinned site is looked for in everything that nodes
//! outside have written, and is not there.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::harness::{
    client::{self, Reply, send},
    fleet::{CALIFORNIAN, FREE, FREE_SITE, Fleet, Member, PINNED, PINNED_SITE, fleet_more},
    origin::Answer,
    until, until_some,
};

const CANARY: &str = "canary7f3a91c2";

fn request(method: Method) -> Request<Full<bytes::Bytes>> {
    Request::builder()
        .method(method)
        .uri(format!("/{CANARY}/path?q={CANARY}"))
        .header("host", PINNED)
        .header("user-agent", CANARY)
        .header("x-canary", CANARY)
        .header("cookie", format!("c={CANARY}"))
        .header("referer", format!("http://{PINNED}/{CANARY}"))
        .body(Full::from(CANARY))
        .unwrap()
}

fn get() -> Request<Full<bytes::Bytes>> {
    let builder = client::get(PINNED, &format!("/{CANARY}/path?q={CANARY}"));
    client::empty(builder.header("user-agent", CANARY).header("x-canary", CANARY))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_pinned_site_is_found_at_nodes_outside() {
    let mut fleet = Fleet::start(2).await;
    fleet.origin.on(&format!("/{CANARY}/path"), |_| {
        Answer::ok(CANARY.repeat(20))
            .with("cache-control", "max-age=600")
            .with("x-answer", CANARY)
            .with("surrogate-key", CANARY)
    });
    // inside: served, stored, purged by every kind of name
    for node in fleet.region("eu-central") {
        let reply = send(node.http, get()).await;
        assert_eq!(reply.status, 200, "{}: {}", node.name, reply.seen());
        assert!(send(node.http, get()).await.is_hit(), "{}", node.name);
    }
    let asked = fleet.origin.seen().len();
    refused_outside(&fleet).await;
    assert_eq!(fleet.origin.seen().len(), asked, "a node outside asked the origin");
    let inside = fleet.node("eu-central-1");
    for order in [
        json!({ "site": PINNED_SITE, "tags": [CANARY], "wait": "all" }),
        json!({ "site": PINNED_SITE, "urls": [format!("http://{PINNED}/{CANARY}/path?q={CANARY}")], "wait": "all" }),
    ] {
        let (status, receipt) = inside.purge(&order).await.unwrap();
        assert_eq!(status, 200, "{receipt}");
        let strange = receipt["nodes"].as_array().unwrap().iter().find(|node| node["region"] != "eu-central");
        assert!(strange.is_none(), "a node outside knows of the purge: {receipt}");
        // outside, it is refused
        for node in outside(&fleet) {
            let (status, problem) = node.purge(&order).await.unwrap();
            assert!((400..500).contains(&status), "{}: {status} {problem}", node.name);
        }
    }
    let (status, receipt) =
        outside(&fleet)[0].purge(&json!({ "site": FREE_SITE, "tags": ["x"], "wait": "all" })).await.unwrap();
    assert_eq!(status, 200, "{receipt}");
    assert!(outside(&fleet)[0].get(FREE, "/o/10/free").await.status == 200);
    for node in fleet.region("eu-central") {
        send(node.http, get()).await;
    }
    // the search finds it where it may be: in the access log and on the disk of a node inside
    for (what, below) in [("the access log", "access.log"), ("the store", "state")] {
        let place = inside.dir.join(below);
        until(&format!("{what} of {} has the word", inside.name), Duration::from_secs(10), || {
            !found(&place).is_empty()
        });
    }
    assert_clean(&fleet).await;

    // and when nobody inside is left to serve it
    fleet.kill_region("eu-central");
    refused_outside(&fleet).await;
    until_some("the EU is known to be down outside", Duration::from_secs(30), async || {
        for node in outside(&fleet) {
            let fleet = node.admin("/api/v1/fleet").await;
            let known: Value =
                serde_json::from_slice(&fleet.body).map_err(|error| format!("{error}: {}", fleet.seen()))?;
            let eu = known["regions"].as_array().unwrap().iter().find(|region| region["name"] == "eu-central");
            if !eu.is_some_and(|region| region["state"] == "down") {
                return Err(format!("{}: {eu:?}", node.name));
            }
        }
        Ok(())
    })
    .await;
    refused_outside(&fleet).await;
    let from_outside = |via: &str| outside(&fleet).iter().any(|node| via.contains(&node.name));
    let strange =
        fleet.origin.seen().into_iter().find(|seen| seen.field("host") == PINNED && from_outside(seen.field("via")));
    assert!(strange.is_none(), "the origin was asked from outside: {strange:?}");
    assert_clean(&fleet).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_at_the_wrong_node_is_sent_to_the_right_name_once_and_nothing_of_it_stays() {
    const HOST: &str = "moved.fleet.test";
    const RIGHT: &str = "eu.moved.fleet.test";
    let mut fleet = Fleet::prepare(1, "");
    let url = fleet.origin.url();
    let site = format!(
        "[[sites]]\nname = \"moved\"\ntenant = \"clinic\"\nhosts = [\"{HOST}\", \"{RIGHT}\"]\npin = \"eu\"\n\
         origin = \"{url}\"\nmisrouted_to = \"{RIGHT}\"\n"
    );
    fleet_more(fleet.dir(), &site);
    fleet.nodes.iter_mut().for_each(Member::start);
    fleet.all_ready().await;
    let target = format!("/o/100/{CANARY}?q={CANARY}");
    let ask = |method: Method, host: &str| {
        let builder = client::get(host, &target).method(method).header("cookie", CANARY);
        builder.body(Full::from(CANARY)).unwrap()
    };
    for node in outside(&fleet) {
        for method in [Method::GET, Method::POST, Method::PUT] {
            let reply = send(node.http, ask(method.clone(), HOST)).await;
            let told = (reply.status.as_u16(), reply.field("location"), reply.field("cache-control"));
            let location = format!("http://{RIGHT}{target}");
            assert_eq!(told, (307, location.as_str(), "no-store"), "{method} at {}: {}", node.name, reply.seen());
            assert!(reply.body.is_empty(), "{}", reply.seen());
            // whoever is led to a wrong node by that name too is not sent on again
            let again = send(node.http, ask(method, RIGHT)).await;
            assert_eq!((again.status.as_u16(), again.field("location")), (421, ""), "{}", again.seen());
        }
        let order = json!({ "url": format!("http://{HOST}/{CANARY}") });
        let told: Value = serde_json::from_slice(&node.post("/api/v1/explain", &order).await.body).unwrap();
        assert_eq!(told["steps"][0]["reason"], "outside-jurisdiction", "{told}");
    }
    // and where DNS leads that name, it is served
    for server in &fleet.nodes {
        let steered = fleet.steered(server, RIGHT, CALIFORNIAN).await.unwrap();
        assert_eq!(steered.regions, ["eu-central"], "{}: {steered:?}", server.name);
    }
    assert!(fleet.origin.seen().iter().all(|seen| !seen.target.contains(CANARY)), "the origin was asked from outside");
    let inside = fleet.region("eu-central").next().unwrap();
    assert_eq!(inside.get(RIGHT, &target).await.status, 200);
    assert_eq!(inside.get(HOST, &target).await.status, 200, "inside, no name is the wrong one");
    assert_clean(&fleet).await;
}

fn outside(fleet: &Fleet) -> Vec<&Member> {
    fleet.nodes.iter().filter(|node| node.jurisdiction != "eu").collect()
}

/// Every node outside refuses every kind of request for the pinned site.
async fn refused_outside(fleet: &Fleet) {
    let refused = |node: &Member, reply: &Reply| {
        assert_eq!(reply.status, 421, "{}: {}", node.name, reply.seen());
        assert!(!reply.text().contains(CANARY), "{} repeats it: {}", node.name, reply.seen());
    };
    for node in outside(fleet) {
        for method in [Method::POST, Method::PUT, Method::DELETE] {
            refused(node, &send(node.http, request(method)).await);
        }
        refused(node, &send(node.http, get()).await);
        let (explanation, token) = explained_outside(node).await;
        assert_eq!(explanation.status, 200, "{}: {}", node.name, explanation.seen());
        let told: Value = serde_json::from_slice(&explanation.body).unwrap();
        let steps = told["steps"].as_array().unwrap();
        let refusal = (&steps[0]["step"], &steps[0]["reason"], steps.len(), told["key"].is_null());
        assert_eq!(refusal, (&json!("residency"), &json!("outside-jurisdiction"), 1, true), "{told}");
        assert!(!explanation.text().contains(CANARY), "{} repeats it: {told}", node.name);
        refused(node, &token);
        let counted = node.admin("/metrics").await.text();
        let strays = "meridian_not_hit_total{site=\"-\",reason=\"outside-jurisdiction\"} ";
        assert!(counted.contains(strays), "{} does not count what it refuses", node.name);
        let absolute = format!("http://{PINNED}/{CANARY}/path");
        refused(node, &client::send_h2c(node.http, client::empty(Request::get(absolute))).await);
    }
}

/// What the admin interface of a node outside says of a request for the pinned site, and to an order for a debug token.
async fn explained_outside(node: &Member) -> (Reply, Reply) {
    let url = format!("http://{PINNED}/{CANARY}/path?q={CANARY}");
    let explain = node.post("/api/v1/explain", &json!({ "url": url, "headers": { "x-canary": CANARY } })).await;
    let token = node.post("/api/v1/debug-tokens", &json!({ "site": PINNED_SITE })).await;
    (explain, token)
}

/// No file and no metric of a node outside has the word, and nothing is counted there of the pinned site.
async fn assert_clean(fleet: &Fleet) {
    for node in outside(fleet) {
        let files = found(&node.dir);
        assert!(files.is_empty(), "{} wrote it to {files:?}", node.name);
        let metrics = node.admin("/metrics").await;
        assert_eq!(metrics.status, 200, "{}", metrics.seen());
        let text = metrics.text();
        assert!(!text.contains(CANARY), "the metrics of {} have it", node.name);
        let named = |line: &&str| line.contains(&format!("\"{PINNED_SITE}\""));
        let counted = text.lines().filter(named).find(|line| !line.ends_with(" 0"));
        assert_eq!(counted, None, "{} counts the pinned site", node.name);
    }
}

/// The files below a path that have the word.
fn found(path: &Path) -> Vec<PathBuf> {
    if path.is_dir() {
        let entries = fs::read_dir(path).unwrap().filter_map(Result::ok);
        return entries.flat_map(|entry| found(&entry.path())).collect();
    }
    let bytes = fs::read(path).unwrap_or_default();
    let there = bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
    there.then(|| path.to_owned()).into_iter().collect()
}
