//! HTTP/2, and TLS by name.

use std::{fs, time::Duration};

use http::Request;
use http_body_util::Full;
use tempfile::TempDir;

use super::HOST;
use crate::harness::{
    Node,
    certificates::{SiteCa, Validity},
    client::{Connection, empty, fetch, get, over_h2, send_h2c, tls},
    origin::Origin,
    stamped, until_some,
};

const OTHER: &str = "other.single.test";
const OLD: &str = "old.single.test";

/// A node with two sites that have certificates, and one whose certificate has expired.
fn with_certificates(origin: &Origin) -> (Node, SiteCa) {
    let dir = TempDir::new().unwrap();
    let ca = SiteCa::new();
    let mut config = String::new();
    for (name, host, time) in
        [("one", HOST, Validity::Now), ("two", OTHER, Validity::Now), ("old", OLD, Validity::Past)]
    {
        ca.site(dir.path(), name, host, time);
        config += &format!(
            "[[sites]]\nname = \"{name}\"\nhosts = [\"{host}\"]\norigin = \"{}\"\n\
             tls = {{ certificate = \"{name}.crt\", key = \"{name}.key\" }}\n",
            origin.url()
        );
    }
    (Node::within(dir, &config), ca)
}

fn absolute(scheme: &str, host: &str, target: &str) -> Request<Full<bytes::Bytes>> {
    empty(Request::get(format!("{scheme}://{host}{target}")))
}

#[tokio::test]
async fn http2_in_clear_text_by_prior_knowledge_shares_the_cache_with_http1() {
    let origin = Origin::start();
    let node = super::node(&origin, "");
    let miss = send_h2c(node.http, absolute("http", HOST, "/o/200000/h")).await;
    assert_eq!(miss.status, 200, "{}", miss.seen());
    assert!(stamped::check(&miss.body).is_ok(), "{}", miss.seen());
    let hit = fetch(node.http, HOST, "/o/200000/h").await;
    assert!(hit.is_hit() && hit.body == miss.body, "{}", hit.seen());
    let hit = send_h2c(node.http, absolute("http", HOST, "/o/200000/h")).await;
    assert!(hit.is_hit() && hit.body == miss.body, "{}", hit.seen());
    assert_eq!(send_h2c(node.http, absolute("http", "unknown.test", "/")).await.status, 421);
    assert_eq!(origin.count("/o/200000/h"), 1);
}

#[tokio::test]
async fn tls_serves_each_site_with_its_own_certificate_over_both_protocols() {
    let origin = Origin::start();
    let (node, ca) = with_certificates(&origin);
    for host in [HOST, OTHER] {
        let target = format!("/o/1000/{host}");
        let stream = tls(node.https, host, &ca.pem, b"h2").await.unwrap_or_else(|error| panic!("{host}: {error}"));
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let reply = over_h2(stream, absolute("https", host, &target)).await;
        assert_eq!(reply.status, 200, "{host}: {}", reply.seen());
        let stream = tls(node.https, host, &ca.pem, b"http/1.1").await.unwrap();
        let reply = Connection::over(stream).await.unwrap().send(empty(get(host, &target))).await.unwrap();
        assert!(reply.is_hit(), "{host}: {}", reply.seen());
    }
}

#[tokio::test]
async fn a_name_that_is_not_served_gets_an_alert() {
    let origin = Origin::start();
    let (node, ca) = with_certificates(&origin);
    let error = tls(node.https, "unknown.test", &ca.pem, b"h2").await.expect_err("a handshake for an unknown name");
    assert!(error.to_string().contains("UnrecognisedName"), "{error}");
    assert!(tls(node.https, HOST, &ca.pem, b"h2").await.is_ok(), "others are served afterwards");
}

#[tokio::test]
async fn an_expired_certificate_is_told_and_takes_tls_from_its_own_site_alone() {
    let origin = Origin::start();
    let (node, ca) = with_certificates(&origin);
    let log = node.log();
    let line = log.lines().find(|line| line.contains("old.crt")).unwrap_or_else(|| panic!("nothing is said: {log}"));
    for word in ["ERROR", "site `old`", "expired on", "2021"] {
        assert!(line.contains(word), "no {word:?} in: {line}");
    }
    let error = tls(node.https, OLD, &ca.pem, b"h2").await.expect_err("a handshake with an expired certificate");
    assert!(error.to_string().contains("UnrecognisedName"), "{error}");
    assert!(tls(node.https, HOST, &ca.pem, b"h2").await.is_ok(), "the others have TLS");
    assert_eq!(fetch(node.http, OLD, "/o/10/a").await.status, 200, "in clear text it is served");
}

#[tokio::test]
async fn a_new_certificate_is_taken_from_the_disk_without_a_restart() {
    let origin = Origin::start();
    let (node, ca) = with_certificates(&origin);
    let fresh = TempDir::new_in(node.dir()).unwrap();
    ca.site(fresh.path(), "old", OLD, Validity::Now);
    for file in ["old.key", "old.crt"] {
        fs::rename(fresh.path().join(file), node.dir().join(file)).unwrap();
    }
    // the node is told, as it is after every change of its config; it would also look by itself in a while
    node.signal(libc::SIGHUP);
    until_some("the renewed site has TLS", Duration::from_secs(5), async || {
        tls(node.https, OLD, &ca.pem, b"h2").await.map_err(|error| error.to_string())
    })
    .await;
}
