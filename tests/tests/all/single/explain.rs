//! Explanations: of requests that nobody sent, which leave no trace, and of those whose client had shown a debug token.

use std::{fs, time::Duration};

use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

use super::{HOST, config};
use crate::harness::{
    Ended, Node,
    client::{Reply, empty, fetch, get, send},
    origin::{Answer, Origin},
    run, until_some,
};

const OTHER: &str = "other.single.test";

fn token_of(node: &Node) -> String {
    fs::read_to_string(node.dir().join("state").join("admin.token")).unwrap().trim().to_owned()
}

async fn admin(node: &Node, request: http::request::Builder, body: &Value) -> (u16, Value) {
    let request = request
        .header("host", node.admin.to_string())
        .header("authorization", format!("Bearer {}", token_of(node)))
        .header("content-type", "application/json");
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let reply = send(node.admin, request.body(Full::from(body)).unwrap()).await;
    (reply.status.as_u16(), serde_json::from_slice(&reply.body).unwrap_or_default())
}

async fn explained(node: &Node, order: Value) -> Value {
    let (status, explanation) = admin(node, Request::post("/api/v1/explain"), &order).await;
    assert_eq!(status, 200, "{explanation}");
    explanation
}

/// The steps in a word or two each.
fn words(explanation: &Value) -> Vec<String> {
    let word = |step: &Value| format!("{} {}", step["step"].as_str().unwrap(), step["verdict"].as_str().unwrap());
    explanation["steps"].as_array().unwrap().iter().map(word).collect()
}

#[track_caller]
fn has(explanation: &Value, expected: &[&str]) {
    let words = words(explanation);
    for word in expected {
        assert!(words.iter().any(|other| other == word), "no `{word}` in {words:?}");
    }
}

fn url(target: &str) -> String {
    format!("http://{HOST}{target}")
}

/// A node with two sites; `more` is added to the first.
fn node(origin: &Origin, more: &str) -> Node {
    let url = origin.url();
    let other = format!("[[sites]]\nname = \"other\"\nhosts = [\"{OTHER}\"]\norigin = \"{url}\"\n");
    Node::alone(&format!("{}{other}", config(origin, more)))
}

/// Runs `meridian` against a node.
fn meridian(node: &Node, arguments: &[&str]) -> Ended {
    let (admin, token) = (format!("http://{}", node.admin), token_of(node));
    let arguments = [arguments, &["--admin", &admin, "--token", &token]].concat();
    run(node.dir(), &arguments, Duration::from_secs(20))
}

/// Makes a debug token; its id and its text.
async fn debug_token(node: &Node, site: &str) -> (String, String) {
    let (status, made) = admin(node, Request::post("/api/v1/debug-tokens"), &json!({"site": site})).await;
    assert_eq!(status, 200, "{made}");
    (made["id"].as_str().unwrap().to_owned(), made["token"].as_str().unwrap().to_owned())
}

async fn with_token(node: &Node, host: &str, target: &str, token: &str) -> Reply {
    send(node.http, empty(get(host, target).header("x-meridian-debug", token))).await
}

async fn trail(node: &Node, id: &str) -> (u16, Value) {
    admin(node, Request::get(format!("/api/v1/explain/requests/{id}")), &Value::Null).await
}

async fn metrics(node: &Node) -> String {
    let told = |line: &&str| line.contains("requests_total{") || line.contains("store_") || line.contains("fetches");
    page(node).await.lines().filter(told).collect::<Vec<_>>().join("\n")
}

/// Waits until what was asked for is stored: a client has a body a moment before the store has it.
async fn settled(node: &Node) {
    until_some("nothing is being fetched", Duration::from_secs(10), async || {
        let idle = page(node).await.lines().any(|line| line == "meridian_fills 0");
        if idle { Ok(()) } else { Err("fetches under way".to_owned()) }
    })
    .await;
}

async fn page(node: &Node) -> String {
    let request =
        get(&node.admin.to_string(), "/metrics").header("authorization", format!("Bearer {}", token_of(node)));
    send(node.admin, empty(request)).await.text()
}

#[tokio::test]
async fn a_dry_explanation_follows_the_request_until_something_stops_it() {
    let origin = Origin::start();
    let node = node(&origin, "routes = [{ path = \"/live/*\", class = \"live\" }]\n");
    let ask = async |target: &str, more: Value| {
        let mut order = json!({"url": url(target)});
        order.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        explained(&node, order).await
    };
    let explanation = ask("/a/../b?c", json!({})).await;
    let expected =
        ["residency permitted", "target normalised", "route /*", "lookup lookup", "stored nothing", "origin asked"];
    has(&explanation, &expected);
    assert_eq!((&explanation["key"]["path"], &explanation["key"]["owner"]), (&json!("/b"), &json!("edge-1")));
    assert_eq!(explanation["cache_status"], "meridian.edge-1; fwd=uri-miss; detail=uri-miss");
    let last = explanation["steps"].as_array().unwrap().last().unwrap().clone();
    assert!(last["detail"].as_str().unwrap().contains("breaker closed"), "{last}");

    has(&ask("/", json!({"method": "POST"})).await, &["lookup pass", "origin asked"]);
    has(&ask("/live/x", json!({})).await, &["route /live/*", "lookup pass"]);
    has(&ask("/", json!({"method": "TRACE"})).await, &["lookup refused"]);
    has(&ask("/a%zz", json!({})).await, &["target refused"]);
    has(&ask("/", json!({"headers": {"via": "1.1 edge-1.meridian"}})).await, &["loop refused"]);
    let split = json!({"headers": {"transfer-encoding": "chunked, chunked"}});
    has(&ask("/", split).await, &["parse refused"]);
    assert_eq!(admin(&node, Request::post("/api/v1/explain"), &json!({"url": "http://who.test/"})).await.0, 404);
    assert!(origin.seen().is_empty(), "an explanation asked the origin");
}

#[tokio::test]
async fn a_dry_explanation_says_what_the_next_request_gets_and_leaves_no_trace() {
    let origin = Origin::start();
    let keep = |answer: Answer| answer.with("cache-control", "max-age=600");
    origin.on("/vary", move |_| keep(Answer::ok("x")).with("vary", "x-plan"));
    origin.on("/private", |_| Answer::ok("x").with("cache-control", "private"));
    origin.on("/again", |_| Answer::ok("x").with("cache-control", "no-cache").with("etag", "\"1\""));
    origin.on("/coded", move |_| keep(Answer::ok("text ".repeat(2000))).with("content-type", "text/html"));
    origin.on("/nvs", move |_| keep(Answer::ok("x")).with("no-vary-search", "params"));
    let node =
        node(&origin, "routes = [{ path = \"/coded\", compress = true }, { path = \"/tight\", class = \"tight\" }]\n");
    for path in ["/o/100/a", "/o/600000/large", "/private", "/again", "/coded", "/nvs?a=1"] {
        fetch(node.http, HOST, path).await;
    }
    send(node.http, empty(get(HOST, "/vary").header("x-plan", "gold"))).await;
    settled(&node).await;
    let (seen, before) = (origin.seen().len(), metrics(&node).await);
    for (target, fields, expected) in [
        (
            "/o/100/a",
            json!({}),
            &["stored object", "lifetime 3600 s", "purges valid", "decision serve", "origin not asked"][..],
        ),
        ("/o/600000/large", json!({"range": "bytes=0-9"}), &["body here", "origin not asked"]),
        ("/private", json!({}), &["stored hit-for-miss", "origin asked"]),
        ("/again", json!({}), &["decision revalidate", "origin asked"]),
        ("/coded", json!({"accept-encoding": "br"}), &["coding br"]),
        ("/vary", json!({"x-plan": "gold"}), &["decision serve"]),
        ("/vary", json!({"x-plan": "free"}), &["stored other variants"]),
        ("/nvs?b=2", json!({}), &["stored object", "decision serve"]),
    ] {
        for _ in 0..3 {
            has(&explained(&node, json!({"url": url(target), "headers": fields})).await, expected);
        }
    }
    assert_eq!((origin.seen().len(), metrics(&node).await), (seen, before), "an explanation left a trace");
    let order = json!({"site": "single", "urls": [url("/o/100/a")], "wait": "local"});
    assert_eq!(admin(&node, Request::post("/api/v1/purges"), &order).await.0, 200);
    let explanation = explained(&node, json!({"url": url("/o/100/a")})).await;
    has(&explanation, &["purges void", "decision refetch"]);
    let reply = fetch(node.http, HOST, "/o/100/a").await;
    settled(&node).await;
    assert!(reply.cache_status().contains("detail=purged"), "{}", reply.seen());
    assert_eq!(explanation["cache_status"], "meridian.edge-1; fwd=stale; detail=purged");

    let shown = meridian(&node, &["explain", "--url", &url("/o/100/a"), "-H", "Accept: a", "-H", "Accept: b"]);
    assert_eq!(shown.code, Some(0), "{}", shown.output);
    assert!(shown.output.contains("Cache-Status: meridian.edge-1; hit; ttl="), "{}", shown.output);
}

#[tokio::test]
async fn a_debug_token_gets_the_trail_of_its_requests_and_of_no_others() {
    let origin = Origin::start();
    let node = node(&origin, "");
    let (id, token) = debug_token(&node, "single").await;
    let (_, foreign) = debug_token(&node, "other").await;
    let miss = with_token(&node, HOST, "/o/100/a", &token).await;
    settled(&node).await;
    let hit = with_token(&node, HOST, "/o/100/a", &token).await;
    assert!(hit.is_hit() && !miss.is_hit(), "a token is in no key: {} {}", miss.seen(), hit.seen());
    assert_eq!(origin.seen()[0].field("x-meridian-debug"), "", "a token goes no further");
    let (status, told) = trail(&node, miss.field("meridian-request")).await;
    assert_eq!(status, 200, "{told}");
    has(&told, &["lookup lookup", "stored nothing", "fetch fetches", "fetched to be stored"]);
    assert_eq!((&told["outcome"], &told["reason"], &told["status"]), (&json!("miss"), &json!("uri-miss"), &json!(200)));
    assert_eq!(told["url"], format!("{HOST}/o/100/a"));
    assert!(told["cache_status"].as_str().unwrap().ends_with(miss.cache_status()), "{told}");
    let after: Vec<_> =
        told["steps"].as_array().unwrap().iter().map(|step| step["after_us"].as_u64().unwrap()).collect();
    assert!(after.is_sorted() && after.last().unwrap() <= &told["micros"].as_u64().unwrap(), "{told}");
    has(&trail(&node, hit.field("meridian-request")).await.1, &["memory hit"]);
    let shown = meridian(&node, &["explain", "request", miss.field("meridian-request")]);
    assert!(shown.output.contains("uri-miss") && shown.output.contains("What to do:"), "{}", shown.output);

    // wrong, another site's, twice, none: like anybody's
    for wrong in ["", "0", &foreign, &token[1..], &token.replace(|_: char| true, "a")] {
        let reply = with_token(&node, HOST, "/o/100/a", wrong).await;
        assert!(reply.is_hit() && reply.field("meridian-request").is_empty(), "{wrong}: {}", reply.seen());
    }
    assert!(fetch(node.http, HOST, "/o/100/a").await.field("meridian-request").is_empty());
    assert!(!with_token(&node, OTHER, "/o/100/a", &foreign).await.field("meridian-request").is_empty());
    let h2 = Request::get(url("/o/100/a")).header("x-meridian-debug", &token);
    let h2 = crate::harness::client::send_h2c(node.http, empty(h2)).await;
    assert_eq!(trail(&node, h2.field("meridian-request")).await.0, 200);

    let revoked = meridian(&node, &["debug-token", "revoke", &id]);
    assert_eq!(revoked.code, Some(0), "{}", revoked.output);
    assert_eq!(trail(&node, miss.field("meridian-request")).await.0, 404, "what was kept for it is gone");
    assert!(with_token(&node, HOST, "/o/100/a", &token).await.field("meridian-request").is_empty());
    let listed = meridian(&node, &["debug-token", "list"]);
    assert!(listed.output.contains("other") && !listed.output.contains("single"), "{}", listed.output);
}

#[tokio::test]
async fn trails_are_kept_in_a_ring() {
    let origin = Origin::start();
    let node = node(&origin, "");
    let (_, token) = debug_token(&node, "single").await;
    let mut connection = crate::harness::client::Connection::open(node.http).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..300 {
        let reply = connection.send(empty(get(HOST, "/o/10/a").header("x-meridian-debug", &token))).await.unwrap();
        ids.push(reply.field("meridian-request").to_owned());
    }
    assert_eq!(trail(&node, &ids[0]).await.0, 404, "the oldest is gone");
    assert_eq!(trail(&node, &ids[299]).await.0, 200);
    for number in 0..15 {
        assert_eq!(debug_token(&node, "single").await.0.len(), 16, "token {number}");
    }
    let (status, refused) = admin(&node, Request::post("/api/v1/debug-tokens"), &json!({"site": "single"})).await;
    assert_eq!(status, 409, "{refused}");
}

#[tokio::test]
async fn where_cache_status_is_for_debugging_only_holders_of_a_token_see_it() {
    let origin = Origin::start();
    origin.on("/told", |_| Answer::ok("x").with("cache-control", "no-store").with("cache-status", "inner; hit"));
    let node = node(&origin, "cache_status = \"debug\"\n");
    let (_, token) = debug_token(&node, "single").await;
    for target in ["/o/100/a", "/o/100/a", "/told", "/a%zz"] {
        let reply = fetch(node.http, HOST, target).await;
        assert!(!reply.headers.contains_key("cache-status"), "{}", reply.seen());
    }
    settled(&node).await;
    assert!(with_token(&node, HOST, "/o/100/a", &token).await.is_hit());
    assert!(with_token(&node, HOST, "/told", &token).await.cache_status().contains("detail=no-store"));
    assert!(!with_token(&node, HOST, "/told", "wrong").await.headers.contains_key("cache-status"));
    assert!(fetch(node.http, OTHER, "/o/100/a").await.cache_status().contains("fwd=uri-miss"));
}
