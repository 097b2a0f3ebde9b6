//! Many forms of one URL: variants by `Vary`, their number, one purge for all of them; and queries that are one by
//! `No-Vary-Search`.

use http::{Request, header};
use http_body_util::Full;
use serde_json::json;

use super::{HOST, node};
use crate::harness::{
    Node,
    client::{self, Reply, fetch, send},
    origin::{Answer, Origin},
};

const CODINGS: [&str; 3] = ["br", "gzip", "zstd"];
const LANGUAGES: [&str; 4] = ["de", "en", "fr", "it"];

async fn variant(node: &Node, target: &str, coding: &str, language: &str) -> Reply {
    let request = client::get(HOST, target).header("accept-encoding", coding).header("accept-language", language);
    send(node.http, client::empty(request)).await
}

/// Purges URLs through the admin API, and waits until every node has.
async fn purge(node: &Node, targets: &[&str]) {
    let token = std::fs::read_to_string(node.dir().join("state/admin.token")).unwrap();
    let urls: Vec<_> = targets.iter().map(|target| format!("http://{HOST}{target}")).collect();
    let order = json!({ "site": "single", "urls": urls, "wait": "all" }).to_string();
    let request = Request::post("/api/v1/purges")
        .header(header::HOST, node.admin.to_string())
        .header(header::AUTHORIZATION, format!("Bearer {}", token.trim()))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::from(order))
        .unwrap();
    let reply = send(node.admin, request).await;
    assert_eq!(reply.status, 200, "{}", reply.seen());
}

#[tokio::test]
async fn one_purge_leaves_no_variant() {
    let origin = Origin::start();
    origin.on("/v", |seen| {
        let text = format!("{} {}", seen.field("accept-encoding"), seen.field("accept-language"));
        Answer::ok(text).with("cache-control", "max-age=600").with("vary", "accept-encoding, accept-language")
    });
    let node = node(&origin, "");
    for round in 0..2 {
        for coding in CODINGS {
            for language in LANGUAGES {
                let reply = variant(&node, "/v", coding, language).await;
                assert_eq!(reply.text(), format!("{coding} {language}"));
                assert_eq!(reply.is_hit(), round == 1, "{}", reply.seen());
            }
        }
    }
    purge(&node, &["/v"]).await;
    for coding in CODINGS {
        for language in LANGUAGES {
            let reply = variant(&node, "/v", coding, language).await;
            assert!(!reply.is_hit(), "survived: {coding} {language}: {}", reply.seen());
        }
    }
    assert_eq!(origin.count("/v"), 24);
}

#[tokio::test]
async fn so_many_variants_are_kept_and_no_more_until_there_is_room() {
    let origin = Origin::start();
    origin.on("/v", |seen| {
        Answer::ok(seen.field("accept-language").to_owned())
            .with("cache-control", "max-age=600")
            .with("vary", "accept-language")
    });
    let node = node(&origin, "routes = [{ path = \"/*\", variants_max = 3 }]\n");
    for language in ["a", "b", "c"] {
        assert!(variant(&node, "/v", "br", language).await.cache_status().contains("stored"), "{language}");
    }
    for _ in 0..2 {
        let reply = variant(&node, "/v", "br", "d").await;
        assert_eq!(reply.text(), "d");
        assert!(!reply.is_hit() && reply.cache_status().contains("detail=variant-cap"), "{}", reply.seen());
    }
    for language in ["a", "b", "c"] {
        assert!(variant(&node, "/v", "br", language).await.is_hit(), "what is kept stays: {language}");
    }
    purge(&node, &["/v"]).await;
    assert!(variant(&node, "/v", "br", "d").await.cache_status().contains("stored"), "what was purged takes no room");
    assert!(variant(&node, "/v", "br", "d").await.is_hit());
}

fn searched(origin: &Origin, field: &'static str) {
    origin.on("/s", move |seen| {
        Answer::ok(seen.target.clone()).with("cache-control", "max-age=600").with("no-vary-search", field)
    });
}

#[tokio::test]
async fn queries_that_are_one_share_what_is_stored() {
    let origin = Origin::start();
    searched(&origin, "params=(\"utm_source\"), key-order");
    let node = node(&origin, "");
    assert_eq!(fetch(node.http, HOST, "/s?b=1&a=2&utm_source=x").await.text(), "/s?b=1&a=2&utm_source=x");
    for same in ["/s?b=1&a=2&utm_source=x", "/s?a=2&b=1", "/s?utm_source=y&b=1&a=2", "/s?a=%32&b=1"] {
        let reply = fetch(node.http, HOST, same).await;
        assert!(reply.is_hit() && reply.text() == "/s?b=1&a=2&utm_source=x", "{same}: {}", reply.seen());
    }
    for other in ["/s?a=2", "/s?a=2&b=2", "/s", "/s?a=2&b=1&c"] {
        let reply = fetch(node.http, HOST, other).await;
        assert!(!reply.is_hit() && reply.text() == other, "{other}: {}", reply.seen());
    }
    assert!(fetch(node.http, HOST, "/s?utm_source=z").await.is_hit(), "what is stored for the path alone");
    assert_eq!(origin.count("/s"), 5);
}

#[tokio::test]
async fn a_purge_of_any_of_them_is_a_purge_of_what_is_served_for_it() {
    let origin = Origin::start();
    searched(&origin, "except=(\"id\")");
    let node = node(&origin, "");
    fetch(node.http, HOST, "/s?id=1&x=1").await;
    assert!(fetch(node.http, HOST, "/s?id=1&x=2").await.is_hit());
    purge(&node, &["/s?id=1&x=2"]).await;
    let reply = fetch(node.http, HOST, "/s?id=1&x=2").await;
    assert!(!reply.is_hit() && reply.text() == "/s?id=1&x=2", "{}", reply.seen());
    assert_eq!(fetch(node.http, HOST, "/s?id=1&x=1").await.text(), "/s?id=1&x=2", "the new one is for all");
    for (purged, target) in [("/s?id=1", "/s?id=1&x=7"), ("/s?id=1&x=7", "/s?id=1&x=7")] {
        purge(&node, &[purged]).await;
        let reply = fetch(node.http, HOST, target).await;
        assert!(!reply.is_hit(), "{target} after a purge of {purged}: {}", reply.seen());
        assert!(fetch(node.http, HOST, "/s?id=1&x=8").await.is_hit());
    }
    let post = Request::post("/s?id=1&x=9").header("host", HOST).body(Full::from("x")).unwrap();
    send(node.http, post).await;
    assert!(!fetch(node.http, HOST, "/s?id=1&x=3").await.is_hit(), "a write to one of them voids all");
}

#[tokio::test]
async fn an_answer_that_now_varies_by_all_is_not_given_for_others() {
    let origin = Origin::start();
    origin.on("/s", |seen| {
        let answer = Answer::ok(seen.target.clone()).with("cache-control", "no-cache").with("etag", "\"1\"");
        if seen.target.contains("new") { answer } else { answer.with("no-vary-search", "params") }
    });
    let node = node(&origin, "");
    fetch(node.http, HOST, "/s?old").await;
    assert_eq!(fetch(node.http, HOST, "/s?new=1").await.text(), "/s?new=1");
    assert_eq!(fetch(node.http, HOST, "/s?new=2").await.text(), "/s?new=2");
    assert_eq!(fetch(node.http, HOST, "/s?new=1").await.text(), "/s?new=1");
}
