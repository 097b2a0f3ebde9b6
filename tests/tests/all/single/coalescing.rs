//! One fetch for all who ask, streamed to each of them as it arrives.

use std::time::Duration;

use bytes::BytesMut;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::{task::JoinSet, time::timeout};

use super::{HOST, node};
use crate::harness::{
    client::{self, Connection, PATIENCE, Reply, fetch},
    origin::{Answer, Origin},
    stamped, until_some,
};

const CLIENTS: usize = 200;

fn storable(answer: Answer) -> Answer {
    answer.with("cache-control", "max-age=600")
}

/// A client that has the head and reads the body piece by piece.
struct Reading {
    response: Response<Incoming>,
    taken: BytesMut,
    /// Kept, as the answer ends with it.
    _connection: Connection,
}

impl Reading {
    async fn begin(address: std::net::SocketAddr, target: &'static str) -> Self {
        let mut connection = Connection::open(address).await.unwrap();
        let response = connection.head(client::empty(client::get(HOST, target))).await.unwrap();
        Self { response, taken: BytesMut::new(), _connection: connection }
    }

    /// Reads until so many bytes are there.
    async fn has(&mut self, length: usize) {
        while self.taken.len() < length {
            let frame = timeout(PATIENCE, self.response.body_mut().frame()).await;
            let frame = frame.unwrap_or_else(|_| panic!("only {} of {length} bytes in time", self.taken.len()));
            let frame = frame.expect("the body ended early").expect("the body broke off");
            self.taken.extend_from_slice(frame.data_ref().unwrap());
        }
    }

    /// The rest.
    async fn end(self) -> Reply {
        let mut reply = Reply::read(self.response).await;
        let mut whole = self.taken;
        whole.extend_from_slice(&reply.body);
        reply.body = whole.freeze();
        reply
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_clients_make_one_origin_request_and_get_the_bytes_as_they_arrive() {
    let origin = Origin::start();
    let mut pours = origin.pours("/big", storable);
    let node = node(&origin, "");
    let whole = stamped::body("/big", 1, 300_000);
    let (first, last) = whole.split_at(150_000);

    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let address = node.http;
        clients.spawn(async move { Reading::begin(address, "/big").await });
    }
    let pour = pours.next().await;
    pour.piece(first.to_vec());
    // every client has the first piece, while the origin still holds the last one back
    let mut begun = JoinSet::new();
    while let Some(reading) = clients.join_next().await {
        let mut reading = reading.unwrap();
        begun.spawn(async move {
            reading.has(150_000).await;
            reading
        });
    }
    let begun = begun.join_all().await;
    assert_eq!(begun.len(), CLIENTS);
    pour.piece(last.to_vec());
    drop(pour);
    let mut collapsed = 0;
    for reading in begun {
        let reply = reading.end().await;
        assert_eq!(reply.status, 200, "{}", reply.seen());
        assert!(reply.broken.is_none() && reply.body == whole, "{}", reply.seen());
        collapsed += usize::from(reply.cache_status().contains("; collapsed"));
    }
    assert_eq!(origin.count("/big"), 1, "requests at the origin");
    assert!(collapsed >= CLIENTS - 1, "{collapsed} say that they shared a fetch");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_goes_away_takes_nothing_with_it() {
    let origin = Origin::start();
    let mut pours = origin.pours("/led", storable);
    let node = node(&origin, "");
    let whole = stamped::body("/led", 1, 200_000);

    let leading = tokio::spawn(Reading::begin(node.http, "/led"));
    let pour = pours.next().await;
    pour.piece(whole[..100_000].to_vec());
    let mut leader = leading.await.unwrap();
    leader.has(1).await;
    let mut followers = Vec::new();
    for _ in 0..5 {
        followers.push(Reading::begin(node.http, "/led").await);
    }
    drop(leader);
    for follower in &mut followers {
        follower.has(100_000).await;
    }
    pour.piece(whole[100_000..].to_vec());
    drop(pour);
    for follower in followers {
        let reply = follower.end().await;
        assert!(reply.broken.is_none() && reply.body == whole, "{}", reply.seen());
    }
    assert_eq!(origin.count("/led"), 1, "requests at the origin");
    assert_eq!(stored(&node, "/led").await, whole);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_breaks_off_is_never_given_or_stored_as_whole() {
    let origin = Origin::start();
    let mut pours = origin.pours("/torn", storable);
    let node = node(&origin, "");
    let whole = stamped::body("/torn", 1, 50_000);

    let leading = tokio::spawn(Reading::begin(node.http, "/torn"));
    let pour = pours.next().await;
    pour.piece(whole[..20_000].to_vec());
    // an answer that breaks off before its head has arrived is asked for again: all of them have it
    let mut readers = vec![leading.await.unwrap()];
    for _ in 0..4 {
        readers.push(Reading::begin(node.http, "/torn").await);
    }
    for reader in &mut readers {
        reader.has(20_000).await;
    }
    pour.break_off();
    for reader in readers {
        let reply = timeout(PATIENCE, reader.end()).await.expect("the clients of a broken body are not left waiting");
        assert!(reply.broken.is_some(), "a part was taken for the whole: {}", reply.seen());
    }
    let again = tokio::spawn(fetch(node.http, HOST, "/torn"));
    let pour = pours.next().await;
    pour.piece(whole.clone());
    drop(pour);
    let reply = again.await.unwrap();
    assert!(reply.broken.is_none() && reply.body == whole, "after the break: {}", reply.seen());
    assert!(!reply.is_hit(), "what broke off was stored: {}", reply.seen());
}

/// What the node has stored of a target, as soon as it has.
async fn stored(node: &crate::harness::Node, target: &str) -> bytes::Bytes {
    let (reply, _) = until_some("a hit", Duration::from_secs(5), async || {
        let reply = fetch(node.http, HOST, target).await;
        if reply.is_hit() { Ok(reply) } else { Err(reply.seen()) }
    })
    .await;
    reply.body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uncacheable_answers_do_not_wait_for_each_other() {
    let origin = Origin::start();
    let mut pours = origin.pours("/private", |answer| answer.with("cache-control", "no-store"));
    let node = node(&origin, "");
    // known as private from the first answer on
    let first = tokio::spawn(fetch(node.http, HOST, "/private"));
    drop(pours.next().await);
    assert_eq!(first.await.unwrap().status, 200);

    let mut clients = JoinSet::new();
    for _ in 0..20 {
        let address = node.http;
        clients.spawn(async move { fetch(address, HOST, "/private").await });
    }
    // all twenty are at the origin before it has answered one
    let mut held = Vec::new();
    for number in 0..20 {
        let pour = pours.next().await;
        pour.piece(format!("for one alone: {number}"));
        held.push(pour);
    }
    drop(held);
    let mut bodies: Vec<_> = clients.join_all().await.into_iter().map(|reply| reply.text()).collect();
    bodies.sort_unstable();
    bodies.dedup();
    assert_eq!(bodies.len(), 20, "an answer was given twice: {bodies:?}");
}
