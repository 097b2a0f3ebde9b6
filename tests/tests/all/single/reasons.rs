//! Every request that is no fresh hit has one reason, and every response that was fetched for the cache is stored, renews
//! what is stored, or has one reason why not: the sums on the metrics page say so.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{HOST, config};
use crate::harness::{
    Node,
    client::{Reply, empty, fetch, get, send},
    origin::{Answer, Failing, Origin},
    until_some,
};

const PACED: &str = "paced.single.test";
const BROKEN: &str = "broken.single.test";
const MIB: u64 = 1024 * 1024;

/// The series of one family with their values, by their labels.
type Family = BTreeMap<String, u64>;

async fn admin(node: &Node, request: http::request::Builder, body: &Value) -> Reply {
    let token = fs::read_to_string(node.dir().join("state").join("admin.token")).unwrap();
    let request = request
        .header("host", node.admin.to_string())
        .header("authorization", format!("Bearer {}", token.trim()))
        .header("content-type", "application/json");
    let body = if body.is_null() { String::new() } else { body.to_string() };
    send(node.admin, request.body(Full::from(body)).unwrap()).await
}

async fn page(node: &Node) -> String {
    admin(node, Request::get("/metrics"), &Value::Null).await.text()
}

fn family(page: &str, name: &str, site: &str) -> Family {
    let start = format!("{name}{{site=\"{site}\"");
    let lines = page.lines().filter(|line| line.starts_with(&start));
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series[start.len()..].to_owned(), value.parse().unwrap())
        })
        .collect()
}

fn sum(family: &Family) -> u64 {
    family.values().sum()
}

/// The reason of a series.
fn reasons(family: &Family) -> BTreeMap<&str, u64> {
    family.iter().map(|(labels, count)| (labels.split('"').nth(1).unwrap(), *count)).collect()
}

/// What the page says of a site must add up: `requests` of it were answered.
#[track_caller]
fn adds_up(page: &str, site: &str, requests: u64) {
    let outcomes = family(page, "meridian_requests_total", site);
    let hits = outcomes.iter().find(|(labels, _)| labels.contains("\"hit\"")).map_or(0, |(_, count)| *count);
    let not_hit = family(page, "meridian_not_hit_total", site);
    assert_eq!(sum(&outcomes), requests, "requests of {site}: {outcomes:?}");
    assert_eq!(sum(&not_hit), requests - hits, "reasons of {site}: {outcomes:?} {not_hit:?}");
    let one = |name: &str| sum(&family(page, name, site));
    let not_stored = family(page, "meridian_not_stored_total", site);
    let told = [one("meridian_stored_total"), one("meridian_renewed_total"), sum(&not_stored)];
    let fetched = one("meridian_fetched_total");
    assert_eq!(told.iter().sum::<u64>(), fetched, "stored, renewed, not stored of {site}: {told:?} {not_stored:?}");
}

async fn with(node: &Node, target: &str, fields: &[(&str, &str)]) -> Reply {
    let request = fields.iter().fold(get(HOST, target), |request, (name, value)| request.header(*name, *value));
    send(node.http, empty(request)).await
}

/// An origin whose paths answer in every way there is.
fn origin() -> Origin {
    let origin = Origin::start();
    let keep = |answer: Answer| answer.with("cache-control", "max-age=600");
    let always = |path: &str, cache_control: &'static str| {
        origin.on(path, move |_| Answer::ok("x").with("cache-control", cache_control));
    };
    always("/no-store", "no-store");
    always("/private", "private");
    always("/live", "max-age=600");
    always("/off", "max-age=600");
    always("/swr", "max-age=0, stale-while-revalidate=600");
    origin.on("/nothing", |_| Answer::ok("x"));
    origin.on("/cookie", move |_| keep(Answer::ok("x")).with("set-cookie", "a=b"));
    origin.on("/star", move |_| keep(Answer::ok("x")).with("vary", "*"));
    origin.on("/many-tags", move |_| keep(Answer::ok("x")).with("surrogate-key", &many_tags()));
    origin.on("/vary", move |_| keep(Answer::ok("x")).with("vary", "x-plan"));
    origin.on("/coded", move |_| keep(Answer::ok("text ".repeat(2000))).with("content-type", "text/html"));
    origin.on("/big", |_| Answer::ok("").with("cache-control", "max-age=600").made(3 * MIB, made));
    origin.on("/again", |seen| match seen.field("if-none-match") {
        "" => Answer::ok("x").with("cache-control", "no-cache").with("etag", "\"1\""),
        _ => Answer::status(304).with("cache-control", "no-cache").with("etag", "\"1\""),
    });
    origin.on("/stale", |seen| match seen.field("if-none-match") {
        "" => Answer::ok("x").with("cache-control", "max-age=0").with("etag", "\"1\""),
        _ => Answer::status(304).with("cache-control", "max-age=0").with("etag", "\"1\""),
    });
    // confirms what was never said
    origin.on("/strange", |seen| match seen.field("if-none-match") {
        "" => Answer::ok("x").with("cache-control", "no-cache").with("etag", "\"1\""),
        _ => Answer::status(304).with("etag", "\"2\""),
    });
    origin.on("/refiled", |seen| match seen.field("if-none-match") {
        "" => Answer::ok("x").with("cache-control", "no-cache").with("etag", "\"1\""),
        _ => Answer::status(304).with("etag", "\"1\"").with("no-vary-search", "params"),
    });
    let asked = Arc::new(AtomicUsize::new(0));
    origin.on("/fails-later", move |_| match asked.fetch_add(1, Ordering::Relaxed) {
        0 => Answer::ok("x").with("cache-control", "max-age=0").with("etag", "\"1\""),
        _ => Answer::status(503),
    });
    origin.on("/part", |seen| match seen.field("range") {
        "" => Answer::ok("").with("cache-control", "max-age=600").with("etag", "\"p\"").made(8 * MIB, made),
        range => ranged(range),
    });
    origin.on("/lying-part", |_| {
        let answer = Answer::status(206).with("content-range", "bytes 5-5/9").with("cache-control", "max-age=600");
        answer.made(1, made)
    });
    origin.on("/crowd", move |_| {
        std::thread::sleep(Duration::from_millis(300));
        keep(Answer::ok("x"))
    });
    origin
}

fn many_tags() -> String {
    (0..3000).map(|number| format!("tag-{number} ")).collect()
}

fn made(from: u64, to: u64) -> Bytes {
    vec![b'm'; usize::try_from(to - from).unwrap()].into()
}

/// The part of 8 MiB that a range asks for.
fn ranged(range: &str) -> Answer {
    let (first, last) = range.trim_start_matches("bytes=").split_once('-').unwrap();
    let (first, last) = (first.parse::<u64>().unwrap(), last.parse::<u64>().unwrap_or(u64::MAX).min(8 * MIB - 1));
    Answer::status(206)
        .with("content-range", &format!("bytes {first}-{last}/{}", 8 * MIB))
        .with("cache-control", "max-age=600")
        .with("etag", "\"p\"")
        .made(last + 1 - first, made)
}

/// Asks for everything there is; how many requests that were.
async fn everything(node: &Node, origin: &Origin) -> u64 {
    let mut count = 0;
    let paths = [
        "/no-store",
        "/private",
        "/nothing",
        "/cookie",
        "/star",
        "/many-tags",
        "/live",
        "/off",
        "/swr",
        "/again",
        "/stale",
        "/strange",
        "/refiled",
        "/fails-later",
        "/big",
        "/lying-part",
        "/o/1000/a",
        "/o/1000/b",
        "/o/70000/c",
        "/missing",
    ];
    for path in paths {
        for _ in 0..6 {
            fetch(node.http, HOST, path).await;
            count += 1;
        }
    }
    for number in 0..20 {
        let plan = (number % 4).to_string();
        with(node, "/vary", &[("x-plan", &plan)]).await;
        with(node, "/o/1000/a", &[("if-none-match", "\"v1\"")]).await;
        with(node, "/o/1000/a", &[("if-match", "\"other\"")]).await;
        let coding = ["gzip", "br", "identity"][number % 3];
        with(node, "/coded", &[("accept-encoding", coding)]).await;
        count += 4;
    }
    for range in ["bytes=0-9", "bytes=5000000-5000009", "bytes=0-9", "bytes=-5", "bytes=0-1,9-10"] {
        with(node, "/part", &[("range", range)]).await;
        with(node, "/lying-part", &[("range", range)]).await;
        with(node, "/o/70000/c", &[("range", range)]).await;
        count += 3;
    }
    for method in [Method::POST, Method::PUT, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::CONNECT] {
        let request = Request::builder().method(method.clone()).uri("/o/1000/b").header("host", HOST);
        if method != Method::CONNECT {
            let body = if method == Method::POST { "x" } else { "" };
            send(node.http, request.body(Full::from(body)).unwrap()).await;
            count += 1;
        }
    }
    let long = Request::builder().method("M".repeat(40).as_str()).uri("/").header("host", HOST);
    send(node.http, empty(long)).await;
    send(node.http, get(HOST, "/o/1000/a").body(Full::from("a body")).unwrap()).await;
    with(node, "/o/1000/a", &[("via", "1.1 edge-1.meridian")]).await;
    with(node, "/a%zz", &[]).await;
    with(node, "/honour", &[("cache-control", "only-if-cached")]).await;
    with(node, "/o/1000/secret", &[("authorization", "Basic x")]).await;
    count += 6;
    count += crowded(node).await;
    let order = json!({"site": "single", "urls": [format!("http://{HOST}/o/1000/a")], "wait": "local"});
    assert_eq!(admin(node, Request::post("/api/v1/purges"), &order).await.status, 200);
    let order =
        json!({"site": "single", "urls": [format!("http://{HOST}/o/70000/c")], "mode": "soft", "wait": "local"});
    assert_eq!(admin(node, Request::post("/api/v1/purges"), &order).await.status, 200);
    for path in ["/o/1000/a", "/o/70000/c"] {
        fetch(node.http, HOST, path).await;
        count += 1;
    }
    origin.fail(Some(Failing::Cut));
    for number in 0..20 {
        fetch(node.http, HOST, &format!("/o/1000/{number}")).await;
        fetch(node.http, HOST, "/swr").await;
        fetch(node.http, HOST, "/fails-later").await;
        count += 3;
    }
    for number in 0..40 {
        fetch(node.http, BROKEN, &format!("/o/1000/{number}")).await;
    }
    origin.fail(None);
    count
}

/// Many ask for the same at once.
async fn crowded(node: &Node) -> u64 {
    let mut clients = JoinSet::new();
    for _ in 0..20 {
        clients.spawn(fetch(node.http, HOST, "/crowd"));
    }
    clients.join_all().await.len() as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reasons_add_up_to_the_misses() {
    let origin = origin();
    let others = format!(
        "[[sites]]\nname = \"paced\"\nhosts = [\"{PACED}\"]\n[[sites.origins]]\nurl = \"{url}\"\nfetches_per_second = 1\n\
         [[sites]]\nname = \"broken\"\nhosts = [\"{BROKEN}\"]\norigin = \"{url}\"\n",
        url = origin.url()
    );
    let routes = "routes = [{ path = \"/live\", class = \"live\" }, { path = \"/off\", cache = \"off\" }, \
                  { path = \"/coded\", compress = true }, { path = \"/honour\", honour_request_cache_control = true }]\n";
    let limits = "[limits]\nobject_size = \"2MiB\"\n";
    let node = Node::alone(&format!("{}{others}{limits}", config(&origin, routes)));
    let asked = everything(&node, &origin).await;
    for number in 0..10 {
        fetch(node.http, PACED, &format!("/o/10/{number}")).await;
    }
    // of no site that is known: each 400 or 421
    for host in ["nobody.test", "nobody.test", "bad host"] {
        let reply = fetch(node.http, host, "/").await;
        assert!(matches!(reply.status.as_u16(), 400 | 421), "{}", reply.seen());
    }

    // what goes on behind clients' backs has to come to an end first
    let (page, _) = until_some("nothing is being fetched", Duration::from_secs(15), async || {
        let page = page(&node).await;
        let idle = page.lines().any(|line| line == "meridian_fills 0");
        if idle { Ok(page) } else { Err("fills under way".to_owned()) }
    })
    .await;
    adds_up(&page, "single", asked);
    adds_up(&page, "paced", 10);
    adds_up(&page, "broken", 40);
    adds_up(&page, "-", 3);
    let not_hit = family(&page, "meridian_not_hit_total", "single");
    let seen = reasons(&not_hit);
    eprintln!("{asked} requests: {seen:?}");
    for reason in [
        "uri-miss",
        "vary-miss",
        "stale",
        "no-cache",
        "purged",
        "soft-purged",
        "stale-while-revalidate",
        "stale-if-error",
        "live-route",
        "only-if-cached",
        "cache-off",
        "method",
        "request-body",
        "no-store",
        "private",
        "set-cookie",
        "vary-star",
        "no-lifetime",
        "partial",
        "partly-stored",
        "method-refused",
        "method-unknown",
        "loop",
        "target",
    ] {
        assert!(seen.contains_key(reason), "no request was `{reason}`: {seen:?}");
    }
    let not_stored = family(&page, "meridian_not_stored_total", "single");
    let seen = reasons(&not_stored);
    eprintln!("not stored: {seen:?}");
    for reason in ["no-store", "private", "set-cookie", "too-large", "unverifiable", "refiled", "origin-error"] {
        assert!(seen.contains_key(reason), "nothing was not stored for `{reason}`: {seen:?}");
    }
    let strays = family(&page, "meridian_not_hit_total", "-");
    assert_eq!(reasons(&strays), BTreeMap::from([("host-invalid", 1), ("unknown-site", 2)]));
    let paced = family(&page, "meridian_not_hit_total", "paced");
    assert!(reasons(&paced).contains_key("paced"), "{paced:?}");
    let broken = family(&page, "meridian_not_hit_total", "broken");
    assert!(reasons(&broken).contains_key("breaker-open"), "{broken:?}");
}
