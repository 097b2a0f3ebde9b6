//! Origins that hang, break, lie, move and come back, and what of it clients and other origins notice.

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use http::Method;
use tokio::task::JoinSet;

use super::HOST;
use crate::harness::{
    Node,
    client::{self, Reply, empty, fetch, get, try_send},
    until_some,
    wire::{Act, Wire, whole},
};

const OTHER: &str = "other.single.test";

/// A site with its origins, each as the lines of its table.
fn site(host: &str, more: &str, origins: &[String]) -> String {
    let name = host.split('.').next().unwrap();
    let origins: String = origins.iter().map(|lines| format!("[[sites.origins]]\n{lines}\n")).collect();
    format!("[[sites]]\nname = \"{name}\"\nhosts = [\"{host}\"]\n{more}\n{origins}")
}

fn at(origin: &Wire, more: &str) -> String {
    format!("url = \"{}\"\n{more}", origin.url())
}

/// An origin whose answers must not be stored.
fn fresh(body: &'static str) -> Act {
    Act::Say(whole(body, "Cache-Control: no-store\r\n"))
}

/// Asks for so many different targets at once; each answer with the time it took.
async fn crowd(address: SocketAddr, host: &'static str, count: usize) -> Vec<(Reply, Duration)> {
    let mut clients = JoinSet::new();
    for number in 0..count {
        clients.spawn(async move {
            let start = Instant::now();
            let reply = fetch(address, host, &format!("/{number}")).await;
            (reply, start.elapsed())
        });
    }
    clients.join_all().await
}

/// A series of the metrics page.
async fn metric(node: &Node, series: &str) -> f64 {
    let token = fs::read_to_string(node.dir().join("state").join("admin.token")).unwrap();
    let request = get(&node.admin.to_string(), "/metrics").header("authorization", format!("Bearer {}", token.trim()));
    let page = client::send(node.admin, empty(request)).await.text();
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_origin_is_asked_little_and_leaves_the_other_sites_alone() {
    let hung = Wire::start(|_| Act::SayAndStall(String::new()));
    let well = Wire::start(|_| fresh("well"));
    let node = Node::alone(&format!(
        "{}{}",
        site(HOST, "", &[at(&hung, "concurrency = 20\ndeadlines = { first_byte = \"6s\" }")]),
        site(OTHER, "", &[at(&well, "")]),
    ));
    let address = node.http;
    let hanging = tokio::spawn(crowd(address, HOST, 100));
    until_some("all of its places are taken", Duration::from_secs(5), async || {
        if hung.count() >= 20 { Ok(()) } else { Err(hung.count().to_string()) }
    })
    .await;
    // as long as they hang, the other site is answered as if nothing were
    let mut slowest = Duration::ZERO;
    for _ in 0..5 {
        for (reply, took) in crowd(address, OTHER, 20).await {
            assert_eq!((reply.status.as_u16(), reply.text().as_str()), (200, "well"), "{}", reply.seen());
            slowest = slowest.max(took);
        }
    }
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    assert!(!hanging.is_finished(), "nothing hung while it was measured");

    let (late, refused): (Vec<_>, Vec<_>) =
        hanging.await.unwrap().into_iter().partition(|(reply, _)| reply.status == 504);
    assert_eq!((late.len(), refused.len()), (20, 80));
    for (reply, took) in refused {
        assert_eq!(reply.status, 503, "{}", reply.seen());
        assert!(reply.text().contains("origin-limited"), "{}", reply.seen());
        assert!(!reply.field("retry-after").is_empty(), "{}", reply.seen());
        assert!(took < Duration::from_secs(6), "refused after {took:?}");
    }
    assert_eq!(hung.count(), 20, "requests at the hung origin");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_breaker_opens_serves_what_is_stored_probes_once_an_interval_and_closes() {
    let good = |head: &str| {
        let fields =
            if head.contains("/kept") { "Cache-Control: max-age=1\r\n" } else { "Cache-Control: no-store\r\n" };
        Act::Say(whole("good", fields))
    };
    let origin = Wire::start(good);
    let node = Node::alone(&site(HOST, "", &[at(&origin, "name = \"o\"")]));
    assert_eq!(fetch(node.http, HOST, "/kept").await.text(), "good");

    origin.script(|_| Act::SayAndReset(String::new()));
    let (_, opened) = until_some("the breaker opens", Duration::from_secs(10), async || {
        let reply = fetch(node.http, HOST, "/gone").await;
        assert!(matches!(reply.status.as_u16(), 502 | 503), "{}", reply.seen());
        if reply.status == 503 { Ok(()) } else { Err(reply.seen()) }
    })
    .await;
    assert!(origin.count() <= 40, "{} requests until it opened, {opened:?}", origin.count());
    assert!(metric(&node, "meridian_origin_breaker_open{site=\"www\",origin=\"o\"}").await > 0.5);

    let reply = fetch(node.http, HOST, "/gone").await;
    assert_eq!((reply.status.as_u16(), reply.field("cache-control")), (503, "no-store"), "{}", reply.seen());
    assert!(reply.text().contains("breaker-open"), "{}", reply.seen());
    assert!(!reply.field("retry-after").is_empty(), "{}", reply.seen());
    until_some("what is stored is past its lifetime and served", Duration::from_secs(5), async || {
        let reply = fetch(node.http, HOST, "/kept").await;
        assert_eq!((reply.status.as_u16(), reply.text().as_str()), (200, "good"), "{}", reply.seen());
        if reply.cache_status().contains("stale-if-error") { Ok(()) } else { Err(reply.seen()) }
    })
    .await;

    // intervals of 1, 2, 4 s, and by chance up to a quarter less: two or three in 5 s
    let (before, start) = (origin.count(), Instant::now());
    while start.elapsed() < Duration::from_secs(5) {
        let reply = fetch(node.http, HOST, "/gone").await;
        assert!(matches!(reply.status.as_u16(), 502 | 503), "{}", reply.seen());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let probes = origin.count() - before;
    assert!((1..=3).contains(&probes), "{probes} probes in 5 s");

    origin.script(good);
    let (_, after) = until_some("the origin is used again", Duration::from_secs(5), async || {
        let reply = fetch(node.http, HOST, "/gone").await;
        if reply.status == 200 { Ok(()) } else { Err(reply.seen()) }
    })
    .await;
    for _ in 0..20 {
        assert_eq!(fetch(node.http, HOST, "/gone").await.status, 200, "closed after {after:?}");
    }
    assert!(metric(&node, "meridian_origin_breaker_open{site=\"www\",origin=\"o\"}").await < 0.5);
}

#[tokio::test]
async fn an_answer_with_an_error_does_not_open_the_breaker_unless_nearly_all_are() {
    let origin = Wire::start(|head| match head.contains("/bad") {
        true => Act::Say("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\nCache-Control: no-store\r\n\r\n".into()),
        false => fresh("good"),
    });
    let node = Node::alone(&site(HOST, "", &[at(&origin, "")]));
    for _ in 0..10 {
        for _ in 0..8 {
            assert_eq!(fetch(node.http, HOST, "/bad").await.status, 500);
        }
        for _ in 0..2 {
            assert_eq!(fetch(node.http, HOST, "/good").await.status, 200);
        }
    }
}

#[tokio::test]
async fn another_origin_is_asked_for_the_statuses_that_the_site_names_within_one_deadline() {
    let unwell =
        |_: &str| Act::Say("HTTP/1.1 503 Away\r\nContent-Length: 5\r\nCache-Control: no-store\r\n\r\nfirst".into());
    let (first, second) = (Wire::start(unwell), Wire::start(|_| fresh("second")));
    let impatient = "priority = 1\ndeadlines = { first_byte = \"300ms\" }";
    let origins = [at(&first, ""), at(&second, impatient)];
    let node = Node::alone(&site(HOST, "failover_on = [503]", &origins));
    for number in 0..5 {
        let reply = fetch(node.http, HOST, &format!("/{number}")).await;
        assert_eq!((reply.status.as_u16(), reply.text().as_str()), (200, "second"), "{}", reply.seen());
    }
    assert_eq!((first.count(), second.count()), (5, 5), "the first is asked first");

    // what may not be sent twice is not
    let post = empty(get(HOST, "/post").method(Method::POST));
    assert_eq!(client::send(node.http, post).await.status, 503);
    assert_eq!(second.count_of("POST"), 0);

    // another status stands
    first.script(|_| Act::Say("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\nCache-Control: no-store\r\n\r\n".into()));
    assert_eq!(fetch(node.http, HOST, "/500").await.status, 500);

    // the first one's answer stands if there is no better one
    first.script(unwell);
    second.script(|_| Act::SayAndStall(String::new()));
    let reply = fetch(node.http, HOST, "/stands").await;
    assert_eq!((reply.status.as_u16(), reply.text().as_str()), (503, "first"), "{}", reply.seen());

    // one that is not reached is passed over, whatever is sent
    drop(first);
    second.script(|_| fresh("second"));
    until_some("the first one is gone", Duration::from_secs(5), async || {
        let post = empty(get(HOST, "/gone").method(Method::POST));
        let reply = client::send(node.http, post).await;
        if reply.text() == "second" { Ok(()) } else { Err(reply.seen()) }
    })
    .await;
}

#[tokio::test]
async fn all_that_are_asked_together_have_the_time_of_the_first() {
    let first = Wire::start(|_| {
        thread::sleep(Duration::from_millis(700));
        Act::Say("HTTP/1.1 503 Away\r\nContent-Length: 0\r\n\r\n".into())
    });
    let second = Wire::start(|_| Act::SayAndStall(String::new()));
    let origins = [at(&first, "deadlines = { total = \"1s\" }"), at(&second, "priority = 1")];
    let node = Node::alone(&site(HOST, "failover_on = [503]", &origins));
    let start = Instant::now();
    let reply = fetch(node.http, HOST, "/a").await;
    assert_eq!(reply.status, 504, "{}", reply.seen());
    assert!((900..2_500).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    assert_eq!((first.count(), second.count()), (1, 1));
}

#[tokio::test]
async fn retries_are_a_tenth_of_the_requests_at_an_origin_that_resets_every_connection() {
    let origin = Wire::start(|_| Act::SayAndReset(String::new()));
    let node = Node::alone(&site(HOST, "", &[at(&origin, "breaker = \"off\"")]));
    for number in 0..100 {
        let reply = fetch(node.http, HOST, &format!("/{number}")).await;
        assert_eq!(reply.status, 502, "{}", reply.seen());
    }
    let gets = origin.count();
    assert!((101..=113).contains(&gets), "{gets} for 100");
    for _ in 0..5 {
        let post = empty(get(HOST, "/post").method(Method::POST));
        assert_eq!(client::send(node.http, post).await.status, 502);
    }
    assert_eq!(origin.count_of("POST"), 5, "a POST is never sent twice");
}

#[tokio::test]
async fn a_request_that_the_origin_lost_is_sent_again_once() {
    let lost = AtomicUsize::new(0);
    let origin = Wire::start(move |_| match lost.fetch_add(1, Ordering::SeqCst) {
        0 => Act::SayAndReset(String::new()),
        _ => fresh("found"),
    });
    let node = Node::alone(&site(HOST, "", &[at(&origin, "")]));
    let reply = fetch(node.http, HOST, "/a").await;
    assert_eq!((reply.status.as_u16(), reply.text().as_str()), (200, "found"), "{}", reply.seen());
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn what_a_broken_origin_says_is_never_taken_for_the_whole_and_the_next_request_is_well() {
    let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=3600\r\n";
    let begun = format!("{head}Content-Length: 100\r\n\r\nonly the beginning");
    let cases = [
        ("truncated", Act::SayAndClose(begun.clone())),
        ("truncated chunk", Act::SayAndClose(format!("{head}Transfer-Encoding: chunked\r\n\r\n50\r\nonly"))),
        ("reset in the body", Act::SayAndReset(begun.clone())),
        ("stalled in the body", Act::SayAndStall(begun)),
        ("stalled in the head", Act::SayAndStall(head.to_owned())),
        ("no head", Act::SayAndClose(String::new())),
        ("junk", Act::SayAndClose("\0\0 this is no HTTP \u{fffd}\r\n\r\n".into())),
        ("junk length", Act::SayAndClose(format!("{head}Content-Length: many\r\n\r\nonly"))),
        (
            "two framings",
            Act::SayAndClose(format!("{head}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\nonly")),
        ),
        ("unasked upgrade", Act::SayAndStall("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n".into())),
    ];
    let origin = Wire::start(|_| Act::ok("whole"));
    let deadlines = "breaker = \"off\"\ndeadlines = { first_byte = \"500ms\", between_bytes = \"500ms\" }";
    let node = Node::alone(&site(HOST, "", &[at(&origin, deadlines)]));
    for (number, (name, act)) in cases.into_iter().enumerate() {
        let target = format!("/{number}");
        origin.script(move |_| act.clone());
        // cut off before its head had left is as clear as an error
        if let Ok(reply) = try_send(node.http, empty(get(HOST, &target))).await {
            let clear = matches!(reply.status.as_u16(), 502 | 504) && reply.broken.is_none();
            assert!(clear || reply.broken.is_some(), "{name}: {}", reply.seen());
        }
        origin.script(|_| Act::ok("whole"));
        let reply = fetch(node.http, HOST, &target).await;
        assert_eq!((reply.status.as_u16(), reply.text().as_str()), (200, "whole"), "{name}: {}", reply.seen());
        assert!(!reply.is_hit(), "{name}: a part was stored: {}", reply.seen());
    }

    // more than was promised: what was promised is whole, and what is over reaches nobody
    origin.script(|_| Act::Say(format!("{}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", whole("right", ""))));
    for number in 0..5 {
        let reply = fetch(node.http, HOST, &format!("/over/{number}")).await;
        assert_eq!((reply.status.as_u16(), reply.text().as_str()), (200, "right"), "{}", reply.seen());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_purge_of_everything_the_origin_sees_no_more_than_its_pace() {
    let origin = Wire::start(|_| Act::ok("good"));
    let node = Node::alone(&site(HOST, "", &[at(&origin, "fetches_per_second = 20")]));
    let start = Instant::now();
    let replies = crowd(node.http, HOST, 200).await;
    let took = start.elapsed().as_secs_f64();
    let served = replies.iter().filter(|(reply, _)| reply.status == 200).count();
    assert_eq!(origin.count(), served);
    assert!(served as f64 <= 20.0 * (took + 0.6) + 3.0, "{served} in {took} s");
    assert!(served >= 10, "{served}");
    for (reply, took) in replies.iter().filter(|(reply, _)| reply.status != 200) {
        assert_eq!(reply.status, 503, "{}", reply.seen());
        assert!(reply.text().contains("paced") && !reply.field("retry-after").is_empty(), "{}", reply.seen());
        assert!(*took < Duration::from_secs(3), "refused after {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn origins_share_the_load_by_weight_and_a_slow_one_gets_less() {
    let after = |ms: u64| {
        Wire::start(move |_| {
            thread::sleep(Duration::from_millis(ms));
            fresh("good")
        })
    };
    let (heavy, light, slow) = (after(10), after(10), after(80));
    let origins = [at(&heavy, "weight = 3"), at(&light, "weight = 1"), at(&slow, "weight = 1")];
    let node = Node::alone(&site(HOST, "", &origins));
    for _ in 0..25 {
        for (reply, _) in crowd(node.http, HOST, 20).await {
            assert_eq!(reply.status, 200, "{}", reply.seen());
        }
    }
    let counts = [heavy.count(), light.count(), slow.count()];
    assert_eq!(counts.iter().sum::<usize>(), 500);
    let of_the_fast = counts[0] as f64 / (counts[0] + counts[1]) as f64;
    assert!((0.6..0.85).contains(&of_the_fast), "{counts:?}");
    assert!(counts[2] > 0 && counts[2] * 2 < counts[1] * 2 + counts[1], "{counts:?}");
    assert!(counts[2] < counts[1], "{counts:?}");
}

#[tokio::test]
async fn an_origin_knows_this_node_by_a_secret_that_no_client_can_name() {
    let origin = Wire::start(|head| match head.to_lowercase().matches("x-origin-secret: canary-17\r\n").count() {
        1 if !head.contains("guess") => fresh("you"),
        _ => Act::Say("HTTP/1.1 403 Who\r\nContent-Length: 0\r\n\r\n".into()),
    });
    let dir = tempfile::TempDir::new().unwrap();
    fs::write(dir.path().join("secret"), "canary-17\n").unwrap();
    let secret = "secret = { header = \"X-Origin-Secret\", file = \"secret\" }";
    let node = Node::within(dir, &site(HOST, "", &[at(&origin, secret)]));
    let request = empty(get(HOST, "/a").header("x-origin-secret", "guess"));
    assert_eq!(client::send(node.http, request).await.text(), "you");
    let post = empty(get(HOST, "/a").method(Method::POST).header("x-origin-secret", "guess"));
    assert_eq!(client::send(node.http, post).await.text(), "you");
    assert!(!node.log().contains("canary-17"));
}

/// A DNS server with one name that has one IPv4 address, for one second.
struct Names {
    address: SocketAddr,
    /// The last number of the address; 0 for a failure, 255 for silence.
    host: Arc<AtomicU8>,
    asked: Arc<AtomicUsize>,
}

impl Names {
    fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let (host, asked) = (Arc::new(AtomicU8::new(1)), Arc::new(AtomicUsize::new(0)));
        let (says, counter) = (Arc::clone(&host), Arc::clone(&asked));
        thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                counter.fetch_add(1, Ordering::SeqCst);
                let says = says.load(Ordering::SeqCst);
                if says != 255 {
                    drop(socket.send_to(&answer(&buffer[..length], says), from));
                }
            }
        });
        Self { address, host, asked }
    }

    fn say(&self, host: u8) {
        self.host.store(host, Ordering::SeqCst);
    }
}

/// The answer to a query for an A record, or none for others (RFC 1035 section 4).
fn answer(query: &[u8], host: u8) -> Vec<u8> {
    let name = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 1;
    let is_a = query[name..name + 2] == [0, 1];
    let answers = u8::from(is_a && host != 0);
    let code = if host == 0 { 2 } else { 0 };
    let mut reply = query[..2].to_vec();
    reply.extend([0x81, 0x80 | code, 0, 1, 0, answers, 0, 0, 0, 0]);
    reply.extend(&query[12..name + 4]);
    if answers == 1 {
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, host]);
    }
    reply
}

#[tokio::test]
async fn a_name_is_asked_again_when_its_time_is_over_and_the_last_good_address_outlives_the_resolver() {
    let names = Names::start();
    let first = Wire::start(|_| fresh("first"));
    let port = first.address().port();
    let second = Wire::start_at(SocketAddr::from(([127, 0, 0, 2], port)), |_| fresh("second"));
    let origin = format!("url = \"http://origin.test:{port}\"");
    let node = Node::alone(&format!("resolvers = \"{}\"\n{}", names.address, site(HOST, "", &[origin])));
    assert_eq!(fetch(node.http, HOST, "/a").await.text(), "first");

    // without the resolver, with errors and with silence, past the lifetime
    for broken in [0, 255] {
        names.say(broken);
        let (asked, start) = (names.asked.load(Ordering::SeqCst), Instant::now());
        while start.elapsed() < Duration::from_secs(4) {
            let began = Instant::now();
            let reply = fetch(node.http, HOST, "/a").await;
            assert_eq!(reply.text(), "first", "{}", reply.seen());
            assert!(began.elapsed() < Duration::from_millis(900), "it waited for the resolver");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(names.asked.load(Ordering::SeqCst) > asked, "the resolver was asked again");
    }

    // the name moves while connections to the old address are kept
    names.say(2);
    let (_, after) = until_some("the new address is used", Duration::from_secs(15), async || {
        let reply = fetch(node.http, HOST, "/a").await;
        if reply.text() == "second" { Ok(()) } else { Err(reply.seen()) }
    })
    .await;
    let old = first.count();
    for _ in 0..20 {
        assert_eq!(fetch(node.http, HOST, "/a").await.text(), "second", "moved after {after:?}");
    }
    assert_eq!(first.count(), old, "nothing goes to the old address any more");
    assert!(second.count() >= 20);
}
