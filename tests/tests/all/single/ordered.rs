//! Purges that an origin orders in its answers to writes.

use http::Request;
use http_body_util::Full;

use super::{HOST, node};
use crate::harness::{
    Node,
    client::{Reply, fetch, send},
    origin::{Answer, Origin},
};

const ON: &str = "purge_by_response = true\n";
const PATHS: [&str; 4] = ["/a", "/b", "/c?q=1", "/d"];

fn origin() -> Origin {
    let origin = Origin::start();
    for (path, tag) in [("/a", "one"), ("/b", "two"), ("/c", "three"), ("/d", "four")] {
        origin.on(path, move |_| {
            let answer = Answer::ok("x").with("cache-control", "max-age=600, stale-while-revalidate=600");
            answer.with("surrogate-key", tag).with("meridian-purge-site", "hard")
        });
    }
    origin
}

async fn write(node: &Node, method: &str, path: &str) -> Reply {
    let request = Request::builder().method(method).uri(path).header("host", HOST);
    send(node.http, request.body(Full::from("x")).unwrap()).await
}

/// After a write whose answer has these fields, exactly these are no hits any more.
async fn check(node: &Node, origin: &Origin, status: u16, fields: &[(&'static str, &str)], gone: &[&str]) -> Reply {
    let owned: Vec<(&'static str, String)> = fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    origin.on("/write", move |_| {
        owned.iter().fold(Answer::status(status), |answer, (name, value)| answer.with(name, value))
    });
    for path in PATHS {
        fetch(node.http, HOST, path).await;
        let reply = fetch(node.http, HOST, path).await;
        assert!(reply.is_hit() && reply.field("meridian-purge-site").is_empty(), "{path}: {}", reply.seen());
    }
    let reply = write(node, "POST", "/write").await;
    assert_eq!(reply.status, status, "{fields:?}: {}", reply.seen());
    for (name, _) in fields {
        assert!(!name.starts_with("meridian-purge-") || reply.field(name).is_empty(), "{}", reply.seen());
    }
    for path in PATHS {
        let seen = fetch(node.http, HOST, path).await;
        assert_eq!(!seen.is_hit(), gone.contains(&path), "{path} after {fields:?}: {}", seen.seen());
    }
    reply
}

#[tokio::test]
async fn the_answer_to_a_write_purges_what_it_names() {
    let origin = origin();
    let node = node(&origin, ON);
    let absolute = format!("http://{HOST}/b HTTPS://{HOST}:8443/d");
    for (fields, gone) in [
        (vec![("meridian-purge-tags", "one two")], vec!["/a", "/b"]),
        (vec![("meridian-purge-tags", "three,none")], vec!["/c?q=1"]),
        (vec![("meridian-purge-urls", "/a /c?q=1 /c")], vec!["/a", "/c?q=1"]),
        (vec![("meridian-purge-urls", absolute.as_str())], vec!["/b", "/d"]),
        (vec![("meridian-purge-tags", "one"), ("meridian-purge-urls", "/d")], vec!["/a", "/d"]),
        (vec![("meridian-purge-site", "hard"), ("meridian-purge-tags", "one")], PATHS.to_vec()),
    ] {
        let reply = check(&node, &origin, 200, &fields, &gone).await;
        assert!(!reply.field("meridian-purge").is_empty(), "{}", reply.seen());
    }
    check(&node, &origin, 303, &[("meridian-purge-tags", "one")], &["/a"]).await;

    // softly: served once more, and fetched anew behind it
    origin.on("/write", |_| Answer::ok("x").with("meridian-purge-site", "soft"));
    write(&node, "POST", "/write").await;
    let reply = fetch(node.http, HOST, "/a").await;
    assert!(reply.cache_status().contains("soft-purged"), "{}", reply.seen());
}

#[tokio::test]
async fn what_cannot_be_meant_purges_nothing() {
    let origin = origin();
    let node = node(&origin, ON);
    let (long, many) = ("x".repeat(300), (0..90).map(|number| format!("/none/{number}")).collect::<Vec<_>>().join(" "));
    for fields in [
        vec![("meridian-purge-tags", long.as_str())],
        vec![("meridian-purge-tags", "")],
        vec![("meridian-purge-urls", "http://other.test/a a ../a http://:/ /a#b")],
        vec![("meridian-purge-urls", many.as_str()), ("meridian-purge-urls", "/a")],
        vec![("meridian-purge-site", "all")],
        vec![("meridian-purge", "forged")],
    ] {
        let reply = check(&node, &origin, 200, &fields, &[]).await;
        assert_ne!(reply.field("meridian-purge"), "forged");
    }
    // neither does a write that failed, nor a read
    check(&node, &origin, 500, &[("meridian-purge-site", "hard")], &[]).await;
    check(&node, &origin, 404, &[("meridian-purge-tags", "one")], &[]).await;
    origin.on("/write", |_| Answer::ok("x").with("meridian-purge-site", "hard"));
    for method in ["GET", "OPTIONS", "SEARCH"] {
        write(&node, method, "/write").await;
    }
    assert!(fetch(node.http, HOST, "/a").await.is_hit());
}

#[tokio::test]
async fn an_origin_orders_nothing_where_the_site_does_not_say_so() {
    let origin = origin();
    let node = node(&origin, "");
    let reply =
        check(&node, &origin, 200, &[("meridian-purge-site", "hard"), ("meridian-purge-tags", "one")], &[]).await;
    assert!(reply.field("meridian-purge").is_empty(), "{}", reply.seen());
}
