//! Clients that read slowly hold back the origin, never the node's memory.

use std::{fs, time::Duration};

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    time::timeout,
};

use super::{HOST, config};
use crate::harness::{
    Node,
    client::{Connection, PATIENCE, Reply, empty, fetch, get},
    origin::{Answer, Origin},
    parted::{self, Manner, Parted},
};

const MIB: u64 = 1024 * 1024;

fn small(origin: &Origin) -> Node {
    Node::alone(&format!("[cache]\nmemory = \"32MiB\"\ndisk = \"0\"\n{}", config(origin, "")))
}

/// Resident memory of a node now and at most, in bytes.
fn resident(node: &Node) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{}/status", node.id())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
    };
    (field("VmRSS:"), field("VmHWM:"))
}

/// Reads some bytes of a body.
async fn read(response: &mut Response<Incoming>, least: u64) -> u64 {
    let mut taken = 0;
    while taken < least {
        let frame = timeout(PATIENCE, response.body_mut().frame()).await.expect("bytes in time");
        let frame = frame.expect("the body ended early").expect("the body broke off");
        taken += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
    taken
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_slow_clients_on_uncacheable_downloads_cost_no_memory() {
    const CLIENTS: usize = 200;
    let origin = Origin::start();
    let piece = Bytes::from(vec![7u8; 64 * 1024]);
    origin.on("/download", move |_| {
        let piece = piece.clone();
        let made = move |from, to| piece.slice(..usize::try_from(to - from).unwrap());
        Answer::ok("").with("cache-control", "no-store").made(1024 * MIB, made)
    });
    let node = small(&origin);
    let mut held = Vec::new();
    for _ in 0..CLIENTS {
        // what the kernel holds for a slow client is not the node's
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        let mut stream = socket.connect(node.http).await.unwrap();
        stream.write_all(format!("GET /download HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
        // one after the other, so that the origin is not asked more at once than a busy machine bears
        let mut status = [0; 12];
        timeout(PATIENCE, stream.read_exact(&mut status)).await.expect("an answer in time").unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
        held.push(stream);
    }
    // nobody reads: whatever can be buffered, is buffered soon
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (_, most) = resident(&node);
    assert!(most < 200 * MIB, "{} MiB resident for {CLIENTS} clients", most / MIB);
    assert_eq!((held.len(), origin.count("/download")), (CLIENTS, CLIENTS));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_of_a_fill_gets_every_byte_though_memory_is_small() {
    let origin = Origin::start();
    let file = Parted::at(&origin, "/v", 150 * MIB, Manner::Proper);
    let node = small(&origin);
    let mut slow_connection = Connection::open(node.http).await.unwrap();
    let mut slow = slow_connection.head(empty(get(HOST, "/v"))).await.unwrap();
    let begun = read(&mut slow, 1).await;
    // a fast one takes part in the same fetch, from the first byte, and is not held back
    let fast = fetch(node.http, HOST, "/v").await;
    assert!(fast.broken.is_none() && fast.body == parted::bytes(1, 0, file.length), "{}", fast.seen());
    let rest = Reply::read(slow).await;
    assert!(rest.broken.is_none(), "{}", rest.seen());
    assert!(rest.body == parted::bytes(1, begun, file.length), "{}", rest.seen());
    let (_, most) = resident(&node);
    assert!(most < 200 * MIB, "{} MiB resident", most / MIB);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_alone_holds_back_the_origin() {
    let origin = Origin::start();
    // nothing proves that parts would be of the same body: what is dropped could not be fetched again
    let file = Parted::at(&origin, "/v", 150 * MIB, Manner::NoValidator);
    let node = small(&origin);
    let mut connection = Connection::open(node.http).await.unwrap();
    let mut slow = connection.head(empty(get(HOST, "/v"))).await.unwrap();
    let begun = read(&mut slow, 1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (now, _) = resident(&node);
    assert!(now < 120 * MIB, "{} MiB resident while nobody reads", now / MIB);
    let rest = Reply::read(slow).await;
    assert!(rest.broken.is_none() && rest.body == parted::bytes(1, begun, file.length), "{}", rest.seen());
}
