//! Crowds: thousands at once for one object, and for one that is never shared. Times are printed, not judged
//! (`MERIDIAN_BIN=target/release/meridian cargo test -p tests crowds -- --nocapture`).

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, sync::Notify, task::JoinSet, time::timeout};

use super::{HOST, node};
use crate::harness::{
    client::PATIENCE,
    origin::{Answer, Origin},
    stamped, until_some,
};

const CONNECTIONS: usize = 100;
const STREAMS: usize = 100;
const PEOPLE: usize = CONNECTIONS * STREAMS;

type Sender = SendRequest<Empty<Bytes>>;

async fn connections(address: SocketAddr, count: usize) -> Vec<Sender> {
    let mut senders = Vec::new();
    for _ in 0..count {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        senders.push(sender);
    }
    senders
}

/// One request over a connection that others use too: when its answer was whole, and what it was.
async fn ask(mut sender: Sender, path: &str, heads: Arc<AtomicUsize>) -> (Instant, u16, Bytes) {
    let uri = format!("http://{HOST}{path}");
    let request = Request::builder().uri(uri).version(Version::HTTP_2).body(Empty::new()).unwrap();
    let answered = async {
        let response = sender.send_request(request).await.unwrap();
        heads.fetch_add(1, Ordering::SeqCst);
        let status = response.status().as_u16();
        (status, response.into_body().collect().await.unwrap().to_bytes())
    };
    let (status, body) = timeout(PATIENCE, answered).await.expect("an answer in time");
    (Instant::now(), status, body)
}

fn crowd(senders: &[Sender], path: &'static str, heads: &Arc<AtomicUsize>) -> JoinSet<(Instant, u16, Bytes)> {
    let mut people = JoinSet::new();
    for number in 0..PEOPLE {
        people.spawn(ask(senders[number % CONNECTIONS].clone(), path, Arc::clone(heads)));
    }
    people
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_misses_on_one_object_make_one_request() {
    let origin = Origin::start();
    let mut pours =
        origin.pours("/one", |answer| answer.with("cache-control", "max-age=600").with("content-length", "2000"));
    let node = node(&origin, "");
    let whole = stamped::body("/one", 1, 2000);
    let senders = connections(node.http, CONNECTIONS).await;
    let heads = Arc::new(AtomicUsize::new(0));
    let people = crowd(&senders, "/one", &heads);
    let pour = pours.next().await;
    let waiting = async || match heads.load(Ordering::SeqCst) {
        PEOPLE => Ok(()),
        count => Err(format!("{count} have the head")),
    };
    until_some("all have the head and wait for the body", PATIENCE, waiting).await;
    let released = Instant::now();
    pour.piece(whole.clone());
    drop(pour);
    let mut waits = Vec::new();
    for (when, status, body) in people.join_all().await {
        assert_eq!(status, 200);
        assert!(body == whole);
        waits.push(when - released);
    }
    assert_eq!(origin.count("/one"), 1, "requests at the origin");
    assert!(!pours.has_next());
    // the same crowd for what is stored: the same bytes over the same connections
    let asked = Instant::now();
    let hits = crowd(&senders, "/one", &heads).join_all().await.into_iter().map(|(when, ..)| when - asked).collect();
    println!(
        "10,000 at once: misses {:?} from the origin's answer, hits {:?}, both at the median",
        median(waits),
        median(hits)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_for_what_is_never_shared_do_not_wait_in_a_row() {
    const ASKING: usize = 1000;
    const TAKES: Duration = Duration::from_millis(100);
    let origin = Origin::start();
    let mut pours = origin.pours("/mine", |answer: Answer| answer.with("cache-control", "private"));
    let node = node(&origin, "");
    let senders = connections(node.http, 20).await;
    let (here, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let done = Arc::new(Notify::new());
    let answering = tokio::spawn({
        let (here, most, done) = (Arc::clone(&here), Arc::clone(&most), Arc::clone(&done));
        async move {
            for number in 0..ASKING {
                let pour = pours.next().await;
                most.fetch_max(here.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let here = Arc::clone(&here);
                tokio::spawn(async move {
                    tokio::time::sleep(TAKES).await;
                    here.fetch_sub(1, Ordering::SeqCst);
                    pour.piece(format!("for one alone: {number}"));
                });
            }
            done.notify_one();
        }
    });
    let begun = Instant::now();
    let mut people = JoinSet::new();
    for number in 0..ASKING {
        people.spawn(ask(senders[number % senders.len()].clone(), "/mine", Arc::default()));
    }
    let mut bodies = Vec::new();
    for (_, status, body) in people.join_all().await {
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        bodies.push(body);
    }
    answering.await.unwrap();
    done.notified().await;
    bodies.sort_unstable();
    bodies.dedup();
    assert_eq!(bodies.len(), ASKING, "an answer was given twice");
    let most = most.load(Ordering::SeqCst);
    assert!(most >= 100, "never more than {most} at a time at the origin");
    println!("1,000 for a private URL whose origin takes 100 ms: all answered after {:?}", begun.elapsed());
}
