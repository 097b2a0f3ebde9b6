//! What an origin says before it answers (1xx): to the client whose request it answers, in order, and to nobody else.

use std::time::Duration;

use http::Method;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{HOST, http2};
use crate::harness::{
    Node,
    certificates::{SiteCa, Validity},
    client::{Raw, raw, tls},
    scribe::{Scribe, Step, ok},
};

const PATIENCE: Duration = Duration::from_secs(10);

const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n\
                     HTTP/1.1 103 Early Hints\r\nLink: </b.js>; rel=preload\r\nSurrogate-Key: secret\r\n\r\n";

/// What of [`HINTS`] a client gets.
const HINTED: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n\
                      HTTP/1.1 103 Early Hints\r\nlink: </b.js>; rel=preload\r\n\r\n";

/// Answers each request with what `script` makes of its target, one write per piece.
fn telling(script: fn(&str) -> Vec<String>) -> Scribe {
    Scribe::start(move |asked| script(&asked.target).into_iter().map(Step::from).collect())
}

fn site(origin: &Scribe) -> String {
    format!("[[sites]]\nname = \"single\"\nhosts = [\"{HOST}\"]\norigin = \"{}\"\n", origin.url())
}

fn node(origin: &Scribe) -> Node {
    Node::alone(&site(origin))
}

/// Hints, then an answer that may be stored.
fn hinting(target: &str) -> Vec<String> {
    vec![HINTS.to_owned(), ok("Cache-Control: max-age=600\r\n", target)]
}

fn request(target: &str, more: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\n{more}\r\n")
}

/// Sends requests, the last of which closes the connection.
async fn exchange(node: &Node, requests: &str) -> Raw {
    let answered = raw(node.http, requests.as_bytes(), PATIENCE).await;
    assert!(answered.closed, "the connection stays open: {}", answered.text);
    answered
}

/// What comes before the first final answer, and the rest.
fn parted(text: &str) -> (&str, &str) {
    let at = text.find("HTTP/1.1 20").unwrap_or_else(|| panic!("no answer in: {text}"));
    text.split_at(at)
}

#[tokio::test]
async fn hints_come_before_the_answer_in_order_and_a_hit_has_none() {
    let origin = telling(hinting);
    let node = node(&origin);
    let miss = exchange(&node, &request("/a", "Connection: close\r\n")).await;
    let (hints, answer) = parted(&miss.text);
    assert_eq!(hints, HINTED);
    assert!(answer.ends_with("\r\n\r\n/a"), "{answer}");
    let hit = exchange(&node, &request("/a", "Connection: close\r\n")).await;
    assert!(hit.text.starts_with("HTTP/1.1 200") && hit.text.contains("; hit"), "{}", hit.text);
    assert_eq!(origin.count("/a"), 1);
}

#[tokio::test]
async fn what_is_not_stored_is_hinted_too_whatever_the_method() {
    let origin = telling(hinting);
    let node = node(&origin);
    for method in ["DELETE", "HEAD", "OPTIONS"] {
        let asked = format!("{method} /p HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
        let answered = exchange(&node, &asked).await;
        assert_eq!(parted(&answered.text).0, HINTED, "{method}");
    }
    let ranged = exchange(&node, &request("/r", "Range: bytes=0-0\r\nConnection: close\r\n")).await;
    assert_eq!(parted(&ranged.text).0, HINTED);
}

#[tokio::test]
async fn http_1_0_gets_none() {
    let origin = telling(hinting);
    let node = node(&origin);
    let answered = exchange(&node, &format!("GET /old HTTP/1.0\r\nHost: {HOST}\r\n\r\n")).await;
    assert!(!answered.text.contains(" 103 ") && answered.text.ends_with("/old"), "{}", answered.text);
}

#[tokio::test]
async fn over_tls_too() {
    let origin = telling(hinting);
    let (dir, ca) = (TempDir::new().unwrap(), SiteCa::new());
    ca.site(dir.path(), "site", HOST, Validity::Now);
    let node = Node::within(dir, &(site(&origin) + "tls = { certificate = \"site.crt\", key = \"site.key\" }\n"));
    let mut stream = tls(node.https, HOST, &ca.pem, b"http/1.1").await.unwrap();
    stream.write_all((request("/1", "") + &request("/2", "Connection: close\r\n")).as_bytes()).await.unwrap();
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text).await;
    in_order(&String::from_utf8(text).unwrap(), &["/1", "/2"]);
}

#[tokio::test]
async fn over_http2_too_each_on_its_own_stream() {
    let origin = telling(hinting);
    let (dir, ca) = (TempDir::new().unwrap(), SiteCa::new());
    ca.site(dir.path(), "site", HOST, Validity::Now);
    let node = Node::within(dir, &(site(&origin) + "tls = { certificate = \"site.crt\", key = \"site.key\" }\n"));
    let clear = http2::over(tokio::net::TcpStream::connect(node.http).await.unwrap(), 1 << 16).await;
    let sealed = http2::over(tls(node.https, HOST, &ca.pem, b"h2").await.unwrap(), 1 << 16).await;
    for (name, send) in [("clear", clear), ("sealed", sealed)] {
        let mut answers = Vec::new();
        for index in 0..20 {
            answers.push(http2::begin(&send, Method::GET, &format!("/{name}/{index}"), true).await.0);
        }
        for (index, answer) in answers.into_iter().enumerate() {
            let (hints, answer) = http2::told(answer).await;
            let links: Vec<_> =
                hints.iter().map(|hint| (hint.status().as_u16(), hint.headers()["link"].to_str().unwrap())).collect();
            assert_eq!(links, [(103, "</a.css>; rel=preload"), (103, "</b.js>; rel=preload")], "{name} {index}");
            assert!(hints.iter().all(|hint| hint.headers().len() == 1), "{hints:?}");
            assert_eq!(answer.status(), 200);
        }
        let (again, _) = http2::begin(&send, Method::GET, &format!("/{name}/0"), true).await;
        assert!(http2::told(again).await.0.is_empty(), "a hit has none");
    }
}

/// Each of these targets is answered, in order, with its hints just before its answer.
fn in_order(text: &str, targets: &[&str]) {
    let mut rest = text;
    for target in targets {
        let (hints, answer) = parted(rest);
        assert_eq!(hints, HINTED, "before {target} in: {text}");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        rest = body.strip_prefix(target).unwrap_or_else(|| panic!("{target} is not answered here: {answer}"));
    }
    assert_eq!(rest, "");
}

#[tokio::test]
async fn pipelined_requests_have_theirs_between_the_answers() {
    let origin = telling(hinting);
    let node = node(&origin);
    let targets: Vec<String> = (100..140).map(|index| format!("/{index}")).collect();
    let mut requests: String = targets.iter().map(|target| request(target, "")).collect();
    requests += &request("/last", "Connection: close\r\n");
    let answered = exchange(&node, &requests).await;
    let mut targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    targets.push("/last");
    in_order(&answered.text, &targets);
}

#[tokio::test]
async fn our_own_100_and_what_the_origin_says_do_not_cut_each_other() {
    let origin = telling(|_| vec![HINTS.to_owned(), ok("Connection: close\r\n", "taken")]);
    let node = node(&origin);
    let head = format!("POST /up HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 5\r\n");
    let asked = head + "Expect: 100-continue\r\nConnection: close\r\n\r\nhello";
    let answered = exchange(&node, &asked).await;
    // the origin may be faster than the body
    let (interim, answer) = parted(&answered.text);
    assert!(interim.contains("HTTP/1.1 100 Continue\r\n\r\n") && answer.ends_with("taken"), "{}", answered.text);
    assert_eq!(interim.replacen("HTTP/1.1 100 Continue\r\n\r\n", "", 1), HINTED);
}

const LARGE: usize = 3_000_000;

fn hinting_large(target: &str) -> Vec<String> {
    vec![HINTS.to_owned(), ok("Cache-Control: no-store\r\n", &target.repeat(LARGE / target.len()))]
}

#[tokio::test]
async fn a_client_that_reads_slowly_through_a_tiny_window_gets_every_byte_in_its_place() {
    let origin = telling(hinting_large);
    let node = node(&origin);
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(node.http).await.unwrap();
    let requests = [request("/x1", ""), request("/x2", ""), request("/x3", "Connection: close\r\n")].concat();
    stream.write_all(requests.as_bytes()).await.unwrap();
    let (mut seen, mut piece) = (Vec::new(), vec![0; 4096]);
    while let Ok(Ok(count @ 1..)) = tokio::time::timeout(PATIENCE, stream.read(&mut piece)).await {
        seen.extend_from_slice(&piece[..count]);
        tokio::task::yield_now().await;
    }
    let text = String::from_utf8(seen).unwrap();
    let bodies = ["/x1", "/x2", "/x3"].map(|target| target.repeat(LARGE / target.len()));
    in_order(&text, &bodies.each_ref().map(String::as_str));
}

#[tokio::test]
async fn a_flood_is_cut_to_a_few_and_what_is_too_large_is_left_out() {
    let origin = telling(|target| match target {
        "/flood" => vec![HINTS.repeat(2000), ok("", "flood")],
        "/large" => vec![
            format!("HTTP/1.1 103 Early Hints\r\nLink: {}\r\n\r\n", "x".repeat(20_000)),
            HINTS.to_owned(),
            ok("", "large"),
        ],
        _ => vec![HINTS.repeat(1000); 20],
    });
    let node = Node::alone(&format!(
        "[[sites]]\nname = \"single\"\nhosts = [\"{HOST}\"]\n\
         origins = [{{ url = \"http://{}\", deadlines = {{ first_byte = \"1s\" }} }}]\n",
        origin.address
    ));
    let flood = exchange(&node, &request("/flood", "Connection: close\r\n")).await;
    assert_eq!(parted(&flood.text).0, HINTED.repeat(8));
    assert!(flood.text.ends_with("flood"), "{}", flood.text);
    let large = exchange(&node, &request("/large", "Connection: close\r\n")).await;
    assert_eq!(parted(&large.text).0, HINTED);
    let endless = exchange(&node, &request("/endless", "Connection: close\r\n")).await;
    let rest = endless.text.strip_prefix(&HINTED.repeat(8)).unwrap_or_else(|| panic!("{}", endless.text));
    assert!(rest.starts_with("HTTP/1.1 504"), "{rest}");
}

#[tokio::test]
async fn a_switch_that_nobody_asked_for_is_a_bad_gateway_and_a_stray_100_stays_on_its_side() {
    let origin = telling(|target| match target {
        "/switch" => {
            vec!["HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nyyy".to_owned()]
        }
        _ => vec!["HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n".to_owned(), ok("", "there")],
    });
    let node = node(&origin);
    let switched = exchange(&node, &request("/switch", "Connection: close\r\n")).await;
    assert_eq!(switched.status(), 502, "{}", switched.text);
    let continued = exchange(&node, &request("/continue", "Connection: close\r\n")).await;
    assert_eq!(parted(&continued.text).0, "HTTP/1.1 102 Processing\r\n\r\n");
}
