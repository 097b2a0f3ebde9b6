//! What is kept, for whom, and how it is given out.

use http::Request;
use http_body_util::Full;

use super::{HOST, node};
use crate::harness::{
    Node,
    client::{self, Reply, fetch, send},
    origin::{Answer, Origin},
    stamped,
};

#[tokio::test]
async fn a_miss_then_a_hit_with_its_age_and_how_it_came() {
    let origin = Origin::start();
    let node = node(&origin, "");
    let miss = fetch(node.http, HOST, "/o/1000/a").await;
    assert_eq!(miss.status, 200, "{}", miss.seen());
    let said = miss.cache_status();
    assert!(said.starts_with("meridian.edge-1; fwd=uri-miss") && said.contains("stored"), "{said}");
    let hit = fetch(node.http, HOST, "/o/1000/a").await;
    assert!(hit.is_hit(), "{}", hit.seen());
    assert!(hit.cache_status().contains("; ttl="), "{}", hit.seen());
    assert!(hit.field("age").parse::<u32>().is_ok_and(|age| age < 10), "age: {:?}", hit.field("age"));
    assert_eq!(hit.body, miss.body);
    assert_eq!(origin.count("/o/1000/a"), 1);
}

async fn with(node: &Node, target: &str, name: &str, value: &str) -> Reply {
    send(node.http, client::empty(client::get(HOST, target).header(name, value))).await
}

/// A large body (kept in chunks), a small one (kept with its head).
const LENGTHS: [usize; 2] = [1_000_000, 1_000];

#[tokio::test]
async fn ranges_of_a_stored_object_are_cut_from_it() {
    let origin = Origin::start();
    let node = node(&origin, "");
    for length in LENGTHS {
        let target = format!("/o/{length}/ranged");
        let whole = fetch(node.http, HOST, &target).await.body;
        assert_eq!(whole.len(), length);
        let last = length - 1;
        for (range, first, last) in [
            ("bytes=0-0".to_owned(), 0, 0),
            ("bytes=10-19".to_owned(), 10, 19),
            (format!("bytes={}-", length - 100), length - 100, last),
            ("bytes=-7".to_owned(), length - 7, last),
            (format!("bytes=500-{}", length * 2), 500, last),
            (format!("bytes={}-{}", length / 3, length / 2), length / 3, length / 2),
        ] {
            let reply = with(&node, &target, "range", &range).await;
            assert_eq!(reply.status, 206, "{range}: {}", reply.seen());
            assert_eq!(reply.field("content-range"), format!("bytes {first}-{last}/{length}"), "{range}");
            assert!(reply.body == whole[first..=last], "{range}: {}", reply.seen());
            assert!(reply.is_hit(), "{range}: {}", reply.seen());
        }
        let reply = with(&node, &target, "range", &format!("bytes={length}-")).await;
        assert_eq!(reply.status, 416, "{}", reply.seen());
        assert_eq!(reply.field("content-range"), format!("bytes */{length}"));
        // amplification: many and overlapping ranges get the whole
        let reply = with(&node, &target, "range", "bytes=0-,0-,0-,0-,0-,0-").await;
        assert_eq!(reply.status, 200, "{}", reply.seen());
        assert_eq!(origin.count(&target), 1, "{target}: requests at the origin");
    }
}

#[tokio::test]
async fn head_is_answered_from_what_get_has_stored() {
    let origin = Origin::start();
    let node = node(&origin, "");
    for length in LENGTHS {
        let target = format!("/o/{length}/headed");
        fetch(node.http, HOST, &target).await;
        let head = Request::head(&target).header("host", HOST).body(Full::default()).unwrap();
        let reply = send(node.http, head).await;
        assert_eq!(reply.status, 200, "{}", reply.seen());
        assert!(reply.is_hit() && reply.body.is_empty(), "{}", reply.seen());
        assert_eq!(reply.field("content-length"), length.to_string());
        assert_eq!(origin.count(&target), 1);
    }
}

#[tokio::test]
async fn a_conditional_request_is_answered_from_the_store() {
    let origin = Origin::start();
    let node = node(&origin, "");
    let etag = fetch(node.http, HOST, "/o/1000/c").await.field("etag").to_owned();
    let reply = with(&node, "/o/1000/c", "if-none-match", &etag).await;
    assert_eq!(reply.status, 304, "{}", reply.seen());
    assert!(reply.body.is_empty() && reply.field("etag") == etag, "{}", reply.seen());
    let reply = with(&node, "/o/1000/c", "if-none-match", "\"other\"").await;
    assert_eq!(reply.status, 200, "{}", reply.seen());
    assert!(stamped::check(&reply.body).is_ok(), "{}", reply.seen());
    let reply = with(&node, "/o/1000/c", "if-match", "\"other\"").await;
    assert_eq!(reply.status, 412, "{}", reply.seen());
    assert_eq!(origin.count("/o/1000/c"), 1);
}

#[tokio::test]
async fn private_answers_are_never_shared() {
    let origin = Origin::start();
    type Dress = fn(Answer) -> Answer;
    let kinds: [(&str, Dress); 5] = [
        ("/private", |answer| answer.with("cache-control", "private, max-age=600")),
        ("/no-store", |answer| answer.with("cache-control", "no-store")),
        ("/cookie", |answer| answer.with("cache-control", "max-age=600").with("set-cookie", "id=1")),
        ("/authorized", |answer| answer.with("cache-control", "max-age=600")),
        ("/vary-all", |answer| answer.with("cache-control", "max-age=600").with("vary", "*")),
    ];
    for (path, dress) in kinds {
        origin.on(path, move |seen| {
            let user = format!("for {}{}", seen.field("authorization"), seen.field("cookie"));
            dress(Answer::ok(user))
        });
    }
    let node = node(&origin, "");
    for (path, _) in kinds {
        let field = if path == "/authorized" { "authorization" } else { "cookie" };
        for round in 0..3 {
            for user in ["anne", "bert"] {
                let reply = with(&node, path, field, user).await;
                assert_eq!(reply.text(), format!("for {user}"), "{path}, round {round}: {}", reply.seen());
                assert!(!reply.is_hit(), "{path}: {}", reply.seen());
            }
        }
        assert_eq!(origin.count(path), 6, "{path}: requests at the origin");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn private_answers_are_not_shared_by_those_who_wait_together() {
    let origin = Origin::start();
    origin.on("/me", |seen| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        Answer::ok(format!("for {}", seen.field("cookie"))).with("cache-control", "private")
    });
    let node = node(&origin, "");
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..20 {
        let address = node.http;
        clients.spawn(async move {
            let user = format!("user-{number}");
            let reply = send(address, client::empty(client::get(HOST, "/me").header("cookie", &user))).await;
            assert_eq!(reply.text(), format!("for {user}"), "{}", reply.seen());
        });
    }
    while let Some(done) = clients.join_next().await {
        done.unwrap();
    }
    assert_eq!(origin.count("/me"), 20);
}

#[tokio::test]
async fn variants_are_told_apart_by_the_fields_that_the_origin_names() {
    let origin = Origin::start();
    origin.on("/v", |seen| {
        let language = seen.field("accept-language").to_owned();
        Answer::ok(language).with("cache-control", "max-age=600").with("vary", "accept-language")
    });
    let node = node(&origin, "");
    for round in 0..2 {
        for language in ["de", "fr"] {
            let reply = with(&node, "/v", "accept-language", language).await;
            assert_eq!(reply.text(), language, "{}", reply.seen());
            assert_eq!(reply.is_hit(), round == 1, "round {round}: {}", reply.seen());
        }
    }
    assert_eq!(origin.count("/v"), 2);
}

#[tokio::test]
async fn an_unsafe_request_voids_what_is_stored() {
    let origin = Origin::start();
    let node = node(&origin, "");
    assert_eq!(stamped::check(&fetch(node.http, HOST, "/o/500/p").await.body).unwrap().version, 1);
    assert!(fetch(node.http, HOST, "/o/500/p").await.is_hit());
    origin.publish();
    origin.on("/refused", |_| Answer::status(403));
    let post = |path: &str| Request::post(path).header("host", HOST).body(Full::from("new")).unwrap();
    let reply = send(node.http, post("/o/500/p")).await;
    assert_eq!(reply.status, 200, "{}", reply.seen());
    let reply = fetch(node.http, HOST, "/o/500/p").await;
    assert_eq!(stamped::check(&reply.body).unwrap().version, 2, "{}", reply.seen());
    let bodies: Vec<_> =
        origin.seen().iter().filter(|seen| seen.method == "POST").map(|seen| seen.body.clone()).collect();
    assert_eq!(bodies, ["new"], "the origin got the POST once, and whole");
}
