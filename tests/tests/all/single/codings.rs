//! Text is coded once for each coding, for clients that accept it, and never anything else (RFC 9110 section 8.4).

use std::{io::Read as _, time::Duration};

use bytes::Bytes;
use tokio::task::JoinSet;

use super::{HOST, node};
use crate::harness::{
    Node,
    client::{Reply, empty, fetch, get, send},
    origin::{Answer, Origin},
};

const ROUTES: &str = "[[sites.routes]]\npath = \"/*\"\ncompress = true\n";

fn text(lines: u32) -> Bytes {
    (0..lines).flat_map(|line| format!("line {} of some text\n", line % 900).into_bytes()).collect::<Vec<_>>().into()
}

fn page(kind: &'static str, body: Bytes) -> impl Fn(&crate::harness::origin::Seen) -> Answer + Send + Sync {
    move |_| {
        Answer::ok(body.clone())
            .with("content-type", kind)
            .with("cache-control", "max-age=600")
            .with("etag", "\"one\"")
            .with("content-digest", "sha-256=:AAAA:")
    }
}

async fn accepting(node: &Node, target: &str, codings: &str) -> Reply {
    send(node.http, empty(get(HOST, target).header("accept-encoding", codings))).await
}

fn decoded(reply: &Reply) -> Vec<u8> {
    let mut out = Vec::new();
    match reply.field("content-encoding") {
        "" => out = reply.body.to_vec(),
        "zstd" => out = zstd::stream::decode_all(&reply.body[..]).unwrap(),
        "br" => {
            brotli::Decompressor::new(&reply.body[..], 4096).read_to_end(&mut out).unwrap();
        }
        "gzip" => {
            flate2::read::GzDecoder::new(&reply.body[..]).read_to_end(&mut out).unwrap();
        }
        other => panic!("coded as {other}"),
    }
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_client_gets_a_coding_that_it_accepts_and_the_origin_is_asked_once() {
    let origin = Origin::start();
    for (path, lines) in [("/small.css", 100), ("/large.css", 60_000)] {
        let body = text(lines);
        origin.on(path, page("text/css; charset=utf-8", body.clone()));
        let node = node(&origin, ROUTES);
        // the first one already, while it is fetched
        let wishes = [("br", "br"), ("gzip, deflate", "gzip"), ("gzip, br, zstd", "zstd"), ("", ""), ("br;q=0", "")];
        for round in 0..2 {
            for (accepted, expected) in wishes {
                let reply = accepting(&node, path, accepted).await;
                assert_eq!(
                    (reply.status.as_u16(), reply.field("content-encoding")),
                    (200, expected),
                    "{}",
                    reply.seen()
                );
                assert!(reply.broken.is_none() && decoded(&reply) == body, "{accepted}: {}", reply.seen());
                assert_eq!(reply.field("vary"), "accept-encoding", "{accepted}: {}", reply.seen());
                let coded = !expected.is_empty();
                assert_eq!(reply.field("etag"), if coded { "W/\"one\"" } else { "\"one\"" });
                assert_eq!(reply.field("content-digest").is_empty(), coded);
                if round == 1 {
                    assert!(reply.is_hit(), "{}", reply.seen());
                    assert_eq!(reply.field("content-length"), reply.body.len().to_string(), "{accepted}: stored coded");
                }
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        assert_eq!(origin.count(path), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_get_one_coding_while_it_is_fetched() {
    let origin = Origin::start();
    let body = text(40_000);
    origin.on("/big.js", page("application/javascript", body.clone()));
    let node = node(&origin, ROUTES);
    let mut clients = JoinSet::new();
    for client in 0..60 {
        let address = node.http;
        let codings = ["gzip", "br", "zstd", "identity"][client % 4];
        clients
            .spawn(async move { send(address, empty(get(HOST, "/big.js").header("accept-encoding", codings))).await });
    }
    for reply in clients.join_all().await {
        assert!(reply.broken.is_none() && decoded(&reply) == body, "{}", reply.seen());
    }
    assert_eq!(origin.count("/big.js"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conditions_and_ranges_know_the_coded_form() {
    let origin = Origin::start();
    let body = text(1000);
    origin.on("/p", page("text/html", body.clone()));
    let node = node(&origin, ROUTES);
    assert_eq!(accepting(&node, "/p", "gzip").await.field("content-encoding"), "gzip");
    for tag in ["W/\"one\"", "\"one\""] {
        let request = get(HOST, "/p").header("accept-encoding", "gzip").header("if-none-match", tag);
        let reply = send(node.http, empty(request)).await;
        assert_eq!((reply.status.as_u16(), reply.field("etag")), (304, "W/\"one\""), "{}", reply.seen());
    }
    // a part is of the bytes as they are, whatever is accepted
    let part =
        send(node.http, empty(get(HOST, "/p").header("accept-encoding", "gzip").header("range", "bytes=5-9"))).await;
    assert_eq!((part.status.as_u16(), part.field("content-encoding")), (206, ""), "{}", part.seen());
    assert_eq!(part.body, body.slice(5..10));
    let head = send(node.http, empty(get(HOST, "/p").method("HEAD").header("accept-encoding", "gzip"))).await;
    assert_eq!((head.status.as_u16(), head.field("content-encoding")), (200, "gzip"), "{}", head.seen());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_not_be_changed_or_gets_no_smaller_is_left_alone() {
    let origin = Origin::start();
    let body = text(1000);
    origin.on("/image", page("image/png", body.clone()));
    let fixed = body.clone();
    origin.on("/fixed", move |_| {
        Answer::ok(fixed.clone()).with("content-type", "text/plain").with("cache-control", "max-age=9, no-transform")
    });
    let passed = body.clone();
    origin.on("/passed", move |_| {
        Answer::ok(passed.clone()).with("content-type", "text/plain").with("cache-control", "no-store")
    });
    let already = body.clone();
    origin.on("/already", move |_| {
        let answer = Answer::ok(already.clone()).with("content-type", "text/plain").with("cache-control", "max-age=9");
        answer.with("content-encoding", "x-own")
    });
    let node = node(&origin, ROUTES);
    for path in ["/image", "/fixed", "/passed", "/already"] {
        for _ in 0..2 {
            let reply = accepting(&node, path, "gzip, br").await;
            assert!(reply.body == body, "{path}: {}", reply.seen());
            assert!(!["gzip", "br"].contains(&reply.field("content-encoding")), "{path}");
        }
    }
    let off = super::node(&origin, "");
    origin.on("/off", page("text/css", body.clone()));
    for _ in 0..2 {
        let reply = accepting(&off, "/off", "gzip").await;
        assert_eq!((reply.field("content-encoding"), reply.field("vary")), ("", ""));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_takes_every_coding() {
    let origin = Origin::start();
    origin.on("/c", page("text/css", text(2000)));
    let node = node(&origin, ROUTES);
    for codings in ["gzip", "br", "zstd", ""] {
        accepting(&node, "/c", codings).await;
    }
    let new = text(3000);
    origin.on("/c", page("text/css", new.clone()));
    send(node.http, empty(get(HOST, "/c").method("POST"))).await;
    for codings in ["gzip", "br", "zstd", ""] {
        let reply = accepting(&node, "/c", codings).await;
        assert!(decoded(&reply) == new, "{codings}: {}", reply.seen());
    }
    assert_eq!(fetch(node.http, HOST, "/c").await.body, new);
}
