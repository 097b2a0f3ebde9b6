//! The admin interface as a whole, over its router.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{path::Path, sync::Arc};

use arc_swap::ArcSwap;
use axum::body::Body;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use region_config::{
    Config, JurisdictionId, KeyRules, Node, NodeId, PathPattern, Policy, QueryNames, QueryRules, Region, RegionId,
    Route,
};
use rules::health::{Force, Target};
use serde_json::{Value, json};
use tower::Service;

use super::*;
use crate::{
    observe::{self, Outcome},
    tasks::Tasks,
};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../admin-ui/openapi.json");

struct Node1 {
    router: Router,
    context: Arc<Context>,
    token: String,
    _state: tempfile::TempDir,
}

fn region(name: &str, jurisdiction: &str, nodes: &[&str]) -> Region {
    let addresses = vec!["192.0.2.1".parse().unwrap()];
    let node = |name: &&str| Node { name: NodeId::parse(name).unwrap(), peer: None, addresses: addresses.clone() };
    Region {
        name: RegionId::parse(name).unwrap(),
        latitude: 50.1,
        longitude: 8.7,
        jurisdiction: JurisdictionId::parse(jurisdiction).unwrap(),
        capacity_per_second: None,
        nodes: nodes.iter().map(node).collect(),
    }
}

/// A node in `eu` that stands alone, with the free site `shop` and the site `bank`, pinned to `us`. What it knows of `n2`
/// it has from the config only.
fn config() -> Config {
    let mut shop = observe::tests::site("shop");
    let keyed = Policy {
        query: Some(Box::new(QueryRules { names: QueryNames::All, sort: true, drop_tracking: true })),
        key: Some(Box::new(KeyRules { headers: vec!["x-plan".into()], country: true, ..KeyRules::default() })),
        ..Policy::default()
    };
    shop.routes = vec![
        Route { path: PathPattern::Prefix("/keyed".into()), policy: keyed },
        Route { path: PathPattern::Prefix(String::new()), policy: Policy::default() },
    ];
    let mut bank = observe::tests::site("bank");
    bank.pin = Some(JurisdictionId::parse("us").unwrap());
    let mut config = observe::tests::config(vec![shop, bank]);
    config.regions = vec![region("here", "eu", &["n1"]), region("there", "us", &["n2"])];
    config
}

async fn node() -> Node1 {
    let state = tempfile::tempdir().unwrap();
    let mut config = config();
    config.node.state_dir = state.path().to_owned();
    let (here, tasks) = (JurisdictionId::parse("eu").unwrap(), Tasks::new());
    let ledgers = Ledgers::open(&config, &here, None, tasks.clone()).await.unwrap();
    let purges = purges::Desk::open(state.path(), "n1", &ledgers, &tasks).unwrap();
    let health = Health::start(&config, None, tasks);
    let observe = observe::Observe::new(&config, None);
    let config = Arc::new(ArcSwap::from_pointee(config));
    let context = Arc::new(Context {
        observe,
        health,
        load: Arc::default(),
        ledgers,
        purges,
        here,
        mesh: None,
        config: Arc::clone(&config),
        token: Token::load_or_create(state.path()).unwrap(),
        hosts: vec!["admin.example".into()],
        parts: Arc::new(|| vec![Part { part: "ledger".into(), ready: false, detail: Some("catching up".into()) }]),
        warnings: Arc::new(Vec::new),
        started_unix_ms: 0,
        explained: Arc::new(|_| Box::pin(async { crate::edge::dry::Explained::default() })),
        steered: Arc::new(|_, _, _| None),
        geo: crate::geo::Watch::new(Arc::clone(&config), Arc::default()),
        what_if: Arc::new(tokio::sync::Semaphore::new(1)),
        drain: Drain::new(),
        gathered: Gathered::default(),
    });
    let token = std::fs::read_to_string(state.path().join(TOKEN_FILE)).unwrap().trim().to_owned();
    Node1 { router: router(&context), context, token, _state: state }
}

impl Node1 {
    async fn send(&self, request: Request<Body>) -> Response<Body> {
        self.router.clone().call(request).await.unwrap()
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        json_of(self.send(self.request(Method::GET, path).body(Body::empty()).unwrap()).await).await
    }

    async fn post(&self, path: &str, body: impl Into<Body>) -> (StatusCode, Value) {
        let request = self.request(Method::POST, path).header("content-type", "application/json");
        json_of(self.send(request.body(body.into()).unwrap()).await).await
    }

    fn request(&self, method: Method, path: &str) -> http::request::Builder {
        let token = format!("Bearer {}", self.token);
        Request::builder().method(method).uri(path).header("host", "127.0.0.1:9000").header("authorization", token)
    }
}

async fn json_of(response: Response<Body>) -> (StatusCode, Value) {
    let status = response.status();
    let problem = response.headers().get("content-type").is_some_and(|kind| kind == "application/problem+json");
    assert_eq!(problem, status.is_client_error(), "{status}");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}

/// Set `MERIDIAN_WRITE_OPENAPI=1` to write the file anew; then `npm run types` in admin-ui.
#[test]
fn the_document_that_the_ui_is_typed_by_is_the_one_that_is_served() {
    if std::env::var_os("MERIDIAN_WRITE_OPENAPI").is_some() {
        std::fs::write(DOCUMENT, openapi()).unwrap();
    }
    let kept = std::fs::read_to_string(Path::new(DOCUMENT)).unwrap();
    assert!(kept == openapi(), "admin-ui/openapi.json is out of date: see the comment on this test");
}

#[tokio::test]
async fn nothing_about_sites_is_told_without_the_token() {
    let node = node().await;
    for path in
        ["/api/v1/fleet", "/api/v1/sites", "/api/v1/config", "/api/v1/openapi.json", "/metrics", "/api/v1/purges"]
    {
        for token in ["", "Bearer ", "Bearer admin", "Basic YTpi"] {
            let request = Request::get(path).header("host", "localhost").header("authorization", token);
            let response = node.send(request.body(Body::empty()).unwrap()).await;
            assert!(matches!(response.status().as_u16(), 401 | 429), "{path} {token}: {}", response.status());
        }
        let request = node.request(Method::GET, path).body(Body::empty()).unwrap();
        assert_eq!(node.send(request).await.status(), 200, "{path}");
    }
}

#[tokio::test]
async fn supervisors_need_no_token_and_see_which_part_is_not_ready() {
    let node = node().await;
    let get = async |path: &str| {
        let request = Request::get(path).header("host", "10.0.0.1").body(Body::empty()).unwrap();
        let response = node.send(request).await;
        (response.status(), response.into_body().collect().await.unwrap().to_bytes())
    };
    assert_eq!(get("/healthz").await.0, 200);
    let (status, body) = get("/readyz").await;
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(status, 503);
    assert_eq!(body["parts"][0], json!({"part": "ledger", "ready": false, "detail": "catching up"}));
}

#[tokio::test]
async fn a_foreign_name_and_a_foreign_page_are_refused() {
    let node = node().await;
    for (host, status) in
        [("admin.example", 200), ("ADMIN.example:1", 200), ("[::1]:9", 200), ("localhost", 200), ("evil.example", 421)]
    {
        let request = Request::get("/healthz").header("host", host).body(Body::empty()).unwrap();
        assert_eq!(node.send(request).await.status(), status, "{host}");
    }
    for (name, value, status) in [
        ("origin", "https://evil.example", 403),
        ("origin", "null", 403),
        ("origin", "http://127.0.0.1:9001", 403),
        ("sec-fetch-site", "cross-site", 403),
        ("sec-fetch-site", "same-site", 403),
        ("origin", "http://127.0.0.1:9000", 422),
    ] {
        let request = node.request(Method::POST, "/api/v1/purges").header("content-type", "application/json");
        let request = request.header(name, value).body(r#"{"site":"shop"}"#.into()).unwrap();
        assert_eq!(node.send(request).await.status(), status, "{name}: {value}");
    }
}

#[tokio::test]
async fn every_answer_carries_the_security_headers() {
    let node = node().await;
    for path in ["/", "/api/v1/fleet", "/healthz", "/nothing.js"] {
        let request = Request::get(path).header("host", "127.0.0.1").body(Body::empty()).unwrap();
        let response = node.send(request).await;
        let header =
            |name: &str| response.headers().get(name).map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
        let csp = header("content-security-policy");
        assert!(csp.contains("frame-ancestors 'none'") && !csp.contains("unsafe"), "{path}");
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("referrer-policy"), "no-referrer", "{path}");
    }
}

#[tokio::test]
async fn a_malformed_order_is_answered_with_what_was_found_and_expected() {
    let node = node().await;
    let check = async |body: &str, status: u16, words: &[&str]| {
        let (answered, problem) = node.post("/api/v1/purges", body.to_owned()).await;
        assert_eq!(answered.as_u16(), status, "{body}: {problem}");
        let text = problem.to_string();
        words.iter().for_each(|word| assert!(text.contains(word), "{body}: {text}"));
    };
    check("{", 400, &["not JSON", "line 1"]).await;
    check(r#"{"site":"shop","tag":"a"}"#, 422, &["unknown field `tag`", "`tags`"]).await;
    check(r#"{"site":"shop","tags":"a"}"#, 422, &["expected a sequence"]).await;
    check(r#"{"site":"shop","tags":["a"],"wait":"forever"}"#, 422, &["forever", "quorum"]).await;
    check(r#"{"site":"nope","everything":true}"#, 404, &["nope"]).await;
    check(r#"{"site":"bank","everything":true}"#, 421, &["n2", "pinned to `us`"]).await;
    check(&format!("{{\"site\":\"{}\"}}", "a".repeat(70_000)), 413, &["65536"]).await;
}

#[tokio::test]
async fn a_purge_is_taken_and_its_receipt_is_found_again() {
    let node = node().await;
    let order =
        r#"{"site":"shop","tags":["a"],"urls":["https://shop.example/x"],"idempotency_key":"k","wait":"local"}"#;
    let (status, purge) = node.post("/api/v1/purges", order).await;
    assert_eq!(status, 200, "{purge}");
    let url = json!({"kind": "url", "host": "shop.example", "target": "/x"});
    assert_eq!(purge["scope"], json!([url, {"kind": "tag", "tag": "a"}]));
    assert_eq!(purge["nodes"][0]["state"], "applied", "{purge}");
    let id = purge["id"].as_str().unwrap();
    assert_eq!(node.get(&format!("/api/v1/purges/{id}")).await.1["id"], purge["id"]);
    assert_eq!(node.get("/api/v1/purges").await.1["purges"].as_array().unwrap().len(), 1);
    // the same order again is the same purge; another one under its key is refused
    assert_eq!(node.post("/api/v1/purges", order).await.1["id"], purge["id"]);
    let other = r#"{"site":"shop","tags":["b"],"idempotency_key":"k"}"#;
    assert_eq!(node.post("/api/v1/purges", other).await.0, 409);
}

#[tokio::test]
async fn a_purge_that_does_not_come_as_far_as_asked_in_time_goes_on() {
    let node = node().await;
    let order = r#"{"site":"shop","everything":true,"wait":"all","timeout_ms":50}"#;
    let (status, purge) = node.post("/api/v1/purges", order).await;
    assert_eq!(status, 202, "{purge}");
    assert_eq!(
        purge["nodes"][1],
        json!({"node": "n2", "region": "there", "state": "pending", "position": null, "after_ms": null})
    );
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_and_not_the_ui() {
    let node = node().await;
    assert_eq!(node.get("/api/v1/nothing").await.0, 404);
    assert_eq!(node.get("/api/v1/purges/xyz").await.0, 400);
    assert_eq!(node.get(&format!("/api/v1/purges/{}", "0".repeat(32))).await.0, 404);
    assert_eq!(node.post("/api/v1/fleet", "{}").await.0, 405);
}

#[tokio::test]
async fn sites_are_summed_over_the_nodes_that_answer_and_the_others_are_named() {
    let node = node().await;
    let counters = node.context.observe.site(&region_config::SiteId::parse("shop").unwrap());
    counters.note(Outcome::Hit, None, 10, 5);
    counters.note(Outcome::Miss, Some(rules::caching::Reason::Paced), 10, 500);
    counters.note_origin_fetch();
    counters.note_collapsed();
    let (_, sites) = node.get("/api/v1/sites").await;
    assert_eq!((&sites["nodes"], &sites["missing"]), (&json!(["n1"]), &json!(["n2"])));
    let shop = &sites["sites"][0];
    assert_eq!((&shop["total"]["requests"], &shop["total"]["hit_ratio"]), (&json!(2), &json!(0.5)));
    assert_eq!((&shop["not_hit"][0]["reason"], &shop["not_hit"][0]["count"]), (&json!("paced"), &json!(1)));
    assert_eq!(shop["nodes"][0]["region"], "here");
    let worth = json!({"collapse_ratio": 0.5, "offload": 0.5, "stale_served": 0, "shed": 1});
    assert_eq!(shop["worth"], worth);
    assert_eq!(sites["sites"][1]["pin"], "us");
}

#[tokio::test]
async fn where_dns_leads_is_asked_with_a_host_an_address_and_regions_that_are_gone() {
    let node = node().await;
    let path = "/api/v1/explain/route";
    for order in [
        json!({"host": "a.test", "client": "a.test"}),
        json!({"host": "a.test", "client": "192.0.2.1", "without": ["nowhere"]}),
        json!({"host": "a.test", "client": "192.0.2.1", "without": vec!["here"; 65]}),
        json!({"host": "a.test"}),
        json!({"host": "a.test", "client": "192.0.2.1", "with": []}),
    ] {
        assert_eq!(node.post(path, order.to_string()).await.0, 422, "{order}");
    }
    let (_, problem) = node.post(path, r#"{"host":"a.test","client":"::1","without":["nowhere"]}"#).await;
    assert_eq!((&problem["found"], &problem["expected"]), (&json!("nowhere"), &json!("one of here, there")));
    let (status, problem) = node.post(path, r#"{"host":"a.test","client":"192.0.2.1","without":["here"]}"#).await;
    assert_eq!((status.as_u16(), &problem["found"]), (404, &json!("a.test")));
}

#[tokio::test]
async fn an_order_to_explain_that_makes_no_sense_is_refused() {
    let node = node().await;
    for order in [
        json!({"url": "/a"}),
        json!({"url": "ftp://shop.example/"}),
        json!({"url": "https://user@shop.example/"}),
        json!({"url": "https://shop.example/", "method": "G T"}),
        json!({"url": "https://shop.example/", "headers": {"a b": "c"}}),
        json!({"url": "https://shop.example/", "client": "here"}),
    ] {
        assert_eq!(node.post("/api/v1/explain", order.to_string()).await.0, 422, "{order}");
    }
}

#[tokio::test]
async fn debug_tokens_are_for_sites_that_may_be_here_and_are_told_once() {
    let node = node().await;
    let (status, made) = node.post("/api/v1/debug-tokens", r#"{"site":"shop","minutes":10}"#).await;
    assert_eq!(status, 200, "{made}");
    let token = made["token"].as_str().unwrap();
    let (_, listed) = node.get("/api/v1/debug-tokens").await;
    assert_eq!((&listed["tokens"][0]["id"], listed["tokens"][0]["token"].is_null()), (&made["id"], true));
    assert!(!listed.to_string().contains(token));
    for (order, expected) in [
        (r#"{"site":"bank"}"#, 421),
        (r#"{"site":"none"}"#, 404),
        (r#"{"site":"shop","minutes":0}"#, 422),
        (r#"{"site":"shop","minutes":61}"#, 422),
        (r#"{"site":"shop","minutes":18446744073709551615}"#, 422),
    ] {
        assert_eq!(node.post("/api/v1/debug-tokens", order).await.0, expected, "{order}");
    }
    let path = format!("/api/v1/debug-tokens/{}", made["id"].as_str().unwrap());
    let revoke =
        async |path: &str| node.send(node.request(Method::DELETE, path).body(Body::empty()).unwrap()).await.status();
    assert_eq!([revoke(&path).await, revoke(&path).await, revoke("/api/v1/debug-tokens/x").await], [200, 404, 400]);
    for (id, expected) in [("x".to_owned(), 400), ("0".repeat(32), 404), ("+".repeat(32), 400)] {
        assert_eq!(node.get(&format!("/api/v1/explain/requests/{id}")).await.0, expected, "{id}");
    }
}

#[tokio::test]
async fn a_region_is_forced_with_who_and_why_and_that_is_kept() {
    let node = node().await;
    let order = r#"{"region":"there","state":"down","why":"fibre cut","who":"ada"}"#;
    let (status, answer) = node.post("/api/v1/forced", order).await;
    assert_eq!(status, 200, "{answer}");
    let told = answer["warnings"].to_string();
    assert!(told.contains("bank") && !told.contains("shop"), "{told}");
    let (_, fleet) = node.get("/api/v1/fleet").await;
    let there = &fleet["regions"][1];
    assert_eq!((&there["state"], &there["observed"]), (&json!("down"), &json!("up")));
    assert_eq!((&there["forced"]["who"], &there["forced"]["why"]), (&json!("ada"), &json!("fibre cut")));
    assert!(fleet["regions"][0]["forced"].is_null());
    assert!(node.get("/api/v1/status").await.1["warnings"].to_string().contains("bank"));
    // a node that starts with the same state folder has it in force from the beginning
    let again = Health::start(&node.context.config.load(), None, Tasks::new());
    assert_eq!(again.fleet().regions[1].state, rules::health::RegionState::Down);

    let release = r#"{"region":"there","state":"released","why":"mended"}"#;
    assert_eq!(node.post("/api/v1/forced", release).await.0, 200);
    assert_eq!(node.post("/api/v1/forced", release).await.0, 409);
    assert_eq!(node.get("/api/v1/fleet").await.1["regions"][1]["state"], "up");
    let (_, all) = node.get("/api/v1/forced").await;
    assert_eq!((&all["forced"][0]["state"], &all["forced"][0]["who"]), (&json!("released"), &json!("(admin)")));
}

/// What left the config could not be taken back any more: there was no such region or node.
#[tokio::test]
async fn what_is_forced_of_a_name_that_left_the_config_can_be_released_and_not_forced_anew() {
    let node = node().await;
    let (region, member) = (RegionId::parse("gone").unwrap(), NodeId::parse("gone-1").unwrap());
    for (target, key, name) in [(Target::Region(region), "region", "gone"), (Target::Node(member), "node", "gone-1")] {
        let told = ("ada", "fibre cut");
        node.context.health.force(target, Some(Force::Down), told).await.unwrap();
        let order = |state: &str| json!({key: name, "state": state, "why": "a"}).to_string();
        let mut answers = Vec::new();
        for state in ["drain", "released", "released", "up"] {
            answers.push(node.post("/api/v1/forced", order(state)).await.0.as_u16());
        }
        assert_eq!(answers, [404, 200, 409, 404], "{name}");
    }
}

#[tokio::test]
async fn a_node_is_told_to_leave_with_bounds() {
    let node = node().await;
    assert_eq!(node.get("/api/v1/drain").await.1["phase"], "serving");
    for (order, status) in [(r#"{"wait_s":3601}"#, 422), (r#"{"wait_s":-1}"#, 422), (r#"{"waits":1}"#, 422)] {
        assert_eq!(node.post("/api/v1/drain", order).await.0, status, "{order}");
    }
    assert_eq!(node.get("/api/v1/drain").await.1["phase"], "serving");
    let (status, told) = node.post("/api/v1/drain", r#"{"wait_s":7}"#).await;
    assert_eq!((status.as_u16(), &told["phase"], &told["wait_s"]), (200, &json!("waiting"), &json!(7)));
}

#[tokio::test]
async fn an_order_to_force_that_makes_no_sense_changes_nothing() {
    let node = node().await;
    for (order, status, word) in [
        (json!({"region": "nowhere", "state": "down", "why": "a"}), 404, "here, there"),
        (json!({"node": "n9", "state": "down", "why": "a"}), 404, "n1, n2"),
        (json!({"state": "down", "why": "a"}), 422, "`region` or `node`"),
        (json!({"region": "here", "node": "n1", "state": "down", "why": "a"}), 422, "one region or one node"),
        (json!({"region": "here", "state": "down"}), 422, "missing field `why`"),
        (json!({"region": "here", "state": "down", "why": " "}), 422, "1 to 200 characters"),
        (json!({"region": "here", "state": "down", "why": "a", "who": "b\u{1b}c"}), 422, "1 to 64 characters"),
        (json!({"region": "here", "state": "sideways", "why": "a"}), 422, "released"),
    ] {
        let (answered, problem) = node.post("/api/v1/forced", order.to_string()).await;
        assert_eq!(answered.as_u16(), status, "{order}: {problem}");
        assert!(problem.to_string().contains(word), "{order}: {problem}");
    }
    assert_eq!(node.get("/api/v1/forced").await.1["forced"], json!([]));
}

#[tokio::test]
async fn what_would_change_is_asked_for_with_bounds() {
    let node = node().await;
    let one = json!([{ "block": "192.0.2.0/24" }]);
    let many: Vec<_> = (0..4000).map(|n| json!({ "block": format!("{}.0.0.0/8", n % 200 + 1) })).collect();
    let faulty = json!([{ "name": "a.toml", "text": "[node]\nnam = \"x\"" }]);
    for (order, status, word) in [
        (json!({}), 422, "missing field `clients`"),
        (json!({ "clients": [] }), 422, "no `clients`"),
        (json!({ "clients": [{ "block": "192.0.2.0/33" }] }), 422, "192.0.2.0/33"),
        (json!({ "clients": [{ "block": "192.0.2.0/24", "requests": -1 }] }), 422, "not negative"),
        (json!({ "clients": many }), 422, "at most 1000000"),
        (json!({ "clients": one, "without": ["nowhere"] }), 422, "one of here, there"),
        (json!({ "clients": one, "without": vec!["here"; 65] }), 422, "at most 64"),
        (json!({ "clients": one, "site": "none" }), 404, "one of shop, bank"),
        (json!({ "clients": one, "candidate": faulty }), 422, "did you mean `name`?"),
        (json!({ "clients": one, "more": 1 }), 422, "unknown field `more`"),
    ] {
        let (answered, problem) = node.post("/api/v1/what-if", order.to_string()).await;
        assert_eq!(answered.as_u16(), status, "{word}: {problem}");
        assert!(problem.to_string().contains(word), "{word}: {problem}");
    }
    let (status, answer) = node.post("/api/v1/what-if", json!({ "clients": one }).to_string()).await;
    assert_eq!((status.as_u16(), answer["sites"].as_array().unwrap().len()), (200, 2), "{answer}");
    assert_eq!(answer["sites"][0]["requests"], json!(1.0));
    // one at a time
    let turn = node.context.what_if.try_acquire().unwrap();
    assert_eq!(node.post("/api/v1/what-if", json!({ "clients": one }).to_string()).await.0, 429);
    drop(turn);
    assert_eq!(node.post("/api/v1/what-if", json!({ "clients": one }).to_string()).await.0, 200);
}

#[tokio::test]
async fn a_geo_database_is_accepted_by_its_sum_only() {
    let node = node().await;
    let (status, state) = node.get("/api/v1/geo").await;
    assert_eq!((status.as_u16(), state), (200, json!({ "editions": [], "alarms": [], "held": [] })));
    for (order, status, word) in [
        (json!({}), 422, "missing field `sum`"),
        (json!({ "sum": "../../etc/passwd" }), 422, "64 hexadecimal digits"),
        (json!({ "sum": "0".repeat(64) }), 409, "not-held"),
    ] {
        let (answered, problem) = node.post("/api/v1/geo/accept", order.to_string()).await;
        assert_eq!(answered.as_u16(), status, "{word}: {problem}");
        assert!(problem.to_string().contains(word), "{word}: {problem}");
    }
    // neither is for who has no token
    for (method, path) in
        [(Method::GET, "/api/v1/geo"), (Method::POST, "/api/v1/geo/accept"), (Method::POST, "/api/v1/what-if")]
    {
        let request = Request::builder().method(method).uri(path).header("host", "127.0.0.1");
        let request = request.header("content-type", "application/json").body(Body::from("{}")).unwrap();
        assert_eq!(node.send(request).await.status(), 401, "{path}");
    }
}

#[tokio::test]
async fn the_token_is_in_no_answer() {
    let node = node().await;
    for path in ["/api/v1/config", "/api/v1/status", "/api/v1/openapi.json", "/metrics"] {
        let response = node.send(node.request(Method::GET, path).body(Body::empty()).unwrap()).await;
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(!String::from_utf8_lossy(&body).contains(&node.token), "{path}");
    }
}
