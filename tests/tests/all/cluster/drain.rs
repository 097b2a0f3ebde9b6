//! Leaving in order: clients who go by DNS notice nothing.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::{all, led_to};
use crate::harness::{
    client::{Connection, Reply, empty, get},
    dns,
    fleet::{FREE, Fleet, GERMAN},
    run, until_some,
};

const EU: &str = "eu-central";
const US: &str = "us-west";
const FIRST: Duration = Duration::from_secs(20);
/// Two TTLs of five seconds, the clients' time, and a machine that is busy.
const GONE: Duration = Duration::from_secs(100);
/// How long a client does nothing between two requests.
const PAUSE: Duration = Duration::from_millis(15);

/// What all clients share.
struct Crowd {
    /// Where DNS is asked, and which port stands behind an address.
    server: SocketAddr,
    ports: BTreeMap<IpAddr, SocketAddr>,
    stop: AtomicBool,
    answers: AtomicU64,
    reopened: AtomicU64,
    errors: Mutex<Vec<String>>,
}

/// One client's cache of a DNS answer.
struct Resolved {
    addresses: Vec<IpAddr>,
    until: Instant,
}

impl Crowd {
    async fn resolve(&self, known: &mut Option<Resolved>, turn: usize) -> SocketAddr {
        if known.as_ref().is_none_or(|known| known.until <= Instant::now()) {
            let answer = loop {
                // a lost datagram is asked for again, as resolvers do
                match dns::ask(self.server, FREE, GERMAN).await {
                    Ok(answer) if !answer.addresses.is_empty() => break answer,
                    Ok(answer) => panic!("an empty answer: {answer:?}"),
                    Err(_) => {}
                }
            };
            let ttl = Duration::from_secs(u64::from(answer.ttl_s.unwrap()));
            *known = Some(Resolved { addresses: answer.addresses, until: Instant::now() + ttl });
        }
        let addresses = &known.as_ref().unwrap().addresses;
        self.ports[&addresses[turn % addresses.len()]]
    }

    fn told(&self, who: &str, reply: Result<Reply, String>) -> Option<Reply> {
        match reply {
            Ok(reply) if reply.status == 200 && reply.broken.is_none() => {
                self.answers.fetch_add(1, Relaxed);
                return Some(reply);
            }
            Ok(reply) => self.errors.lock().unwrap().push(format!("{who}: {}", reply.seen())),
            Err(error) => self.errors.lock().unwrap().push(format!("{who}: {error}")),
        }
        None
    }
}

/// A connection for each request.
async fn hasty(crowd: Arc<Crowd>, number: usize) {
    let mut known = None;
    for turn in number.. {
        if crowd.stop.load(Relaxed) {
            return;
        }
        let at = crowd.resolve(&mut known, turn).await;
        let reply = async { Connection::open(at).await?.get(FREE, "/o/500/drain").await };
        crowd.told("hasty", reply.await);
        tokio::time::sleep(PAUSE).await;
    }
}

/// A kept HTTP/1.1 connection, until the node says that it closes it.
async fn keeping(crowd: Arc<Crowd>, number: usize) {
    let mut known = None;
    for turn in number.. {
        let at = crowd.resolve(&mut known, turn).await;
        let Ok(mut connection) = Connection::open(at).await.map_err(|error| crowd.told("keeping", Err(error))) else {
            continue;
        };
        loop {
            if crowd.stop.load(Relaxed) {
                return;
            }
            let Some(reply) = crowd.told("keeping", connection.get(FREE, "/o/500/drain").await) else { break };
            if reply.field("connection").eq_ignore_ascii_case("close") {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        crowd.reopened.fetch_add(1, Relaxed);
    }
}

/// An HTTP/2 connection, until the node has sent GOAWAY.
async fn streaming(crowd: Arc<Crowd>, number: usize) {
    let mut known = None;
    for turn in number.. {
        let at = crowd.resolve(&mut known, turn).await;
        let stream = match TcpStream::connect(at).await {
            Ok(stream) => stream,
            Err(error) => {
                crowd.told("streaming", Err(error.to_string()));
                continue;
            }
        };
        let (mut sender, connection) =
            http2::handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        while sender.ready().await.is_ok() && !sender.is_closed() {
            if crowd.stop.load(Relaxed) {
                return;
            }
            let request = empty(get(FREE, &format!("http://{FREE}/o/500/drain")));
            let reply = match sender.send_request(request).await {
                Ok(response) => Ok(Reply::read(response).await),
                Err(error) => Err(format!("{error:?}")),
            };
            crowd.told("streaming", reply);
            tokio::time::sleep(PAUSE).await;
        }
        crowd.reopened.fetch_add(1, Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_and_then_its_region_leave_and_no_client_sees_an_error() {
    let mut fleet = Fleet::start(2).await;
    led_to(&fleet, &all(&fleet), EU, US, FIRST).await;
    let crowd = Arc::new(Crowd {
        server: fleet.node("us-west-1").dns,
        ports: fleet.nodes.iter().map(|node| (node.ip, node.http)).collect(),
        stop: AtomicBool::new(false),
        answers: AtomicU64::new(0),
        reopened: AtomicU64::new(0),
        errors: Mutex::default(),
    });
    let mut clients = Vec::new();
    for number in 0..3 {
        clients.push(tokio::spawn(hasty(Arc::clone(&crowd), number)));
        clients.push(tokio::spawn(keeping(Arc::clone(&crowd), number)));
        clients.push(tokio::spawn(streaming(Arc::clone(&crowd), number)));
    }
    let mut pours = fleet.origin.pours("/long", |answer| answer.with("cache-control", "no-store"));
    for leaving in ["eu-central-1", "eu-central-2"] {
        let (http, ip) = (fleet.node(leaving).http, fleet.node(leaving).ip);
        // a download that is under way until the end
        let download = tokio::spawn(async move { Connection::open(http).await?.get(FREE, "/long").await });
        let pour = pours.next().await;
        pour.piece("first ");
        let (dir, config) = (fleet.dir().to_owned(), fleet.node(leaving).dir.clone());
        let began = Instant::now();
        let order =
            tokio::task::spawn_blocking(move || run(&dir, &["drain", "--config", config.to_str().unwrap()], GONE));
        let out = until_some("DNS everywhere has left it", Duration::from_secs(3), async || {
            for server in fleet.nodes.iter().filter(|node| node.ip != ip) {
                let answer = dns::ask(server.dns, FREE, GERMAN).await?;
                if answer.addresses.contains(&ip) || answer.addresses.is_empty() {
                    return Err(format!("{}: {answer:?}", server.name));
                }
            }
            Ok(())
        })
        .await
        .1;
        assert_eq!(fleet.node(leaving).get(FREE, "/o/500/drain").await.status, 200, "it goes on serving");
        tokio::time::sleep(Duration::from_secs(12).saturating_sub(began.elapsed())).await;
        pour.piece("last");
        drop(pour);
        let whole = download.await.unwrap().unwrap();
        assert_eq!((whole.text().as_str(), whole.broken), ("first last", None));
        let ended = order.await.unwrap();
        assert_eq!(ended.code, Some(0), "{}", ended.output);
        eprintln!("{leaving}: out of DNS after {out:?}, gone after {:?}", began.elapsed());
        assert!(began.elapsed() >= Duration::from_secs(10), "it did not wait for two TTLs");
        let at = fleet.nodes.iter().position(|node| node.name == leaving).unwrap();
        // it said so when the admin port was closed: a restart right after it found its addresses in use
        assert!(fleet.nodes[at].ended(), "the command said that the node was gone, and it runs");
        assert!(fleet.nodes[at].log().contains("stopped"), "it did not end in order");
        fleet.nodes[at].kill();
        fleet.nodes.remove(at);
    }
    crowd.stop.store(true, Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    let errors = crowd.errors.lock().unwrap();
    let (answers, reopened) = (crowd.answers.load(Relaxed), crowd.reopened.load(Relaxed));
    eprintln!("{answers} answers, {reopened} kept connections opened anew, {} errors", errors.len());
    assert!(errors.is_empty(), "{} of {answers}: {:?}", errors.len(), &errors[..errors.len().min(5)]);
    assert!(answers > 1_000 && reopened >= 6, "{answers} answers, {reopened} reopened");
}
