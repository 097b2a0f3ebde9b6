//! What a node refuses, and how.

use std::time::Duration;

use super::{HOST, node};
use crate::harness::{
    client::{self, Connection, fetch, raw},
    origin::Origin,
};

const PATIENCE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn an_unknown_host_is_misdirected_and_never_reaches_an_origin() {
    let origin = Origin::start();
    let node = node(&origin, "");
    let reply = fetch(node.http, "unknown.test", "/o/100/a").await;
    assert_eq!(reply.status, 421, "{}", reply.seen());
    assert!(reply.text().contains("unknown-site"), "it says why: {}", reply.seen());
    assert!(!reply.text().contains("unknown.test"), "it repeats nothing of the request: {}", reply.seen());
    assert_eq!(origin.seen().len(), 0);
    // the same client is served the next request
    let mut connection = Connection::open(node.http).await.unwrap();
    assert_eq!(connection.get("unknown.test", "/").await.unwrap().status, 421);
    assert_eq!(connection.get(HOST, "/o/100/a").await.unwrap().status, 200);
}

#[tokio::test]
async fn what_can_be_read_in_two_ways_is_refused_and_the_connection_closed() {
    let origin = Origin::start();
    let node = node(&origin, "");
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: www.single.test\r\n\r\n";
    for (name, head) in [
        ("two lengths", "Content-Length: 5\r\nContent-Length: 6\r\n"),
        ("a length with a sign", "Content-Length: +5\r\n"),
        ("another coding", "Transfer-Encoding: identity, chunked\r\n"),
        ("chunked twice", "Transfer-Encoding: chunked, chunked\r\n"),
        ("two hosts", "Host: www.single.test\r\n"),
        ("Connection names the host", "Connection: host\r\n"),
        ("a field with a space before the colon", "X-A : b\r\n"),
        ("a folded field", "X-A: b\r\n c\r\n"),
    ] {
        let bytes = format!("POST /o/100/a HTTP/1.1\r\nHost: {HOST}\r\n{head}\r\n0\r\n\r\n{smuggled}");
        let said = raw(node.http, bytes.as_bytes(), PATIENCE).await;
        assert_eq!(said.status(), 400, "{name}: {said:?}");
        assert!(said.closed, "{name}: still open: {said:?}");
        assert_eq!(said.text.matches("HTTP/1.1 ").count(), 1, "{name}: what followed was read: {said:?}");
    }
    let paths: Vec<_> = origin.seen().iter().map(|seen| seen.target.clone()).collect();
    assert!(paths.is_empty(), "the origin was asked {paths:?}");
}

/// RFC 9112 section 6.1 lets a server refuse such a request or go by the chunks alone, and makes it close in any case. Here it
/// is refused, wherever it stands, and nothing behind it is taken for a request, here or at the origin.
#[tokio::test]
async fn a_request_with_chunks_and_a_length_is_refused_and_the_last_one_of_its_connection() {
    let origin = Origin::start();
    let node = node(&origin, "");
    for (number, head) in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: nonsense\r\n",
    ]
    .into_iter()
    .enumerate()
    {
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: www.single.test\r\n\r\n";
        let bytes =
            format!("POST /o/100/{number} HTTP/1.1\r\nHost: {HOST}\r\n{head}\r\n3\r\nabc\r\n0\r\n\r\n{smuggled}");
        let said = raw(node.http, bytes.as_bytes(), PATIENCE).await;
        assert!(said.closed, "{head:?}: still open: {said:?}");
        assert_eq!(said.status(), 400, "{head:?}: {said:?}");
        assert_eq!(said.text.matches("HTTP/1.1 ").count(), 1, "{head:?}: what followed was read: {said:?}");
    }
    for seen in origin.seen() {
        assert!(seen.method == "POST" && seen.target != "/smuggled", "{seen:?}");
        assert_eq!(seen.body, "abc", "{seen:?}");
        let (length, chunks) = (seen.field("content-length"), seen.field("transfer-encoding"));
        assert!(length.is_empty() || chunks.is_empty(), "two framings were sent on: {seen:?}");
    }
}

#[tokio::test]
async fn a_request_without_a_host_or_with_a_bad_target_is_refused() {
    let origin = Origin::start();
    let node = node(&origin, "");
    for (name, head) in [
        ("no host", "GET / HTTP/1.1\r\n\r\n".to_owned()),
        ("an empty host", "GET / HTTP/1.1\r\nHost: \r\n\r\n".to_owned()),
        ("a zero byte", format!("GET /%00 HTTP/1.1\r\nHost: {HOST}\r\n\r\n")),
        ("a backslash", format!("GET /a\\b HTTP/1.1\r\nHost: {HOST}\r\n\r\n")),
        ("no HTTP", "hello\r\n\r\n".to_owned()),
    ] {
        let said = raw(node.http, head.as_bytes(), PATIENCE).await;
        assert_eq!(said.status(), 400, "{name}: {said:?}");
        assert!(said.closed, "{name}: {said:?}");
    }
    assert_eq!(origin.seen().len(), 0);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let origin = Origin::start();
    let node = node(&origin, "[limits]\nhead_size = \"16KiB\"\nfields = 50\ntarget_size = \"1KiB\"\n");
    let many: String = (0..60).map(|n| format!("X-{n}: a\r\n")).collect();
    let one = format!("X-A: {}\r\n", "a".repeat(20_000));
    for (name, bytes, expected) in [
        ("one large field", format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n{one}\r\n"), [431, 400]),
        ("many fields", format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n{many}\r\n"), [431, 400]),
        ("a long target", format!("GET /{} HTTP/1.1\r\nHost: {HOST}\r\n\r\n", "a".repeat(2000)), [414, 414]),
    ] {
        let said = raw(node.http, bytes.as_bytes(), PATIENCE).await;
        assert!(expected.contains(&said.status()), "{name}: expected {expected:?}: {said:?}");
        assert!(said.closed, "{name}: {said:?}");
    }
    assert_eq!(origin.seen().len(), 0);
}

#[tokio::test]
async fn a_slow_head_is_cut_while_others_are_served() {
    let origin = Origin::start();
    let node = node(&origin, "[limits]\nhead_time = \"500ms\"\n");
    let slow = raw(node.http, b"GET / HTTP/1.1\r\nHost: www.sin", PATIENCE);
    let silent = raw(node.http, b"", PATIENCE);
    let others = async {
        for _ in 0..5 {
            assert_eq!(fetch(node.http, HOST, "/o/100/a").await.status, 200);
        }
    };
    let (slow, silent, ()) = tokio::join!(slow, silent, others);
    for (name, said) in [("half a head", slow), ("nothing", silent)] {
        assert!(said.closed, "{name}: still open after {:?}: {said:?}", said.after);
        assert!(said.after >= Duration::from_millis(400), "{name}: cut after {:?} already", said.after);
    }
}

#[tokio::test]
async fn methods_that_are_not_for_a_cache_are_refused() {
    let origin = Origin::start();
    let node = node(&origin, "");
    for (method, target) in [("CONNECT", "www.single.test:80"), ("TRACE", "/")] {
        let head = format!("{method} {target} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
        let said = raw(node.http, head.as_bytes(), PATIENCE).await;
        assert!([405, 501, 400].contains(&said.status()), "{method}: {said:?}");
    }
    assert_eq!(origin.seen().len(), 0);
}

#[tokio::test]
async fn what_a_client_may_not_decide_does_not_reach_the_origin() {
    let origin = Origin::start();
    let node = node(&origin, "");
    let request = client::get(HOST, "/o/100/a")
        .header("x-forwarded-host", "evil.test")
        .header("x-original-url", "/admin")
        .header("x-forwarded-for", "1.2.3.4")
        .header("x-hop", "a")
        .header("connection", "x-hop")
        .header("proxy-authorization", "secret");
    assert_eq!(client::send(node.http, client::empty(request)).await.status, 200);
    let seen = origin.seen();
    let [seen] = seen.as_slice() else { panic!("one request: {seen:?}") };
    for name in ["x-forwarded-host", "x-original-url", "x-hop", "proxy-authorization"] {
        assert_eq!(seen.field(name), "", "{name} was sent on: {seen:?}");
    }
    assert_eq!(seen.field("x-forwarded-for"), "127.0.0.1", "{seen:?}");
    assert_eq!(seen.field("host"), HOST, "{seen:?}");
    assert!(seen.field("via").contains("edge-1"), "{seen:?}");
}
