//! Parts of large bodies: fetched in slices, stored, put together again, never mixed (RFC 9110 section 14, RFC 9111
//! section 3.4).

use std::{fs, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, request};
use tokio::task::JoinSet;

use super::{HOST, config, node};
use crate::harness::{
    Node,
    client::{Connection, Reply, empty, fetch, get, send},
    origin::{Failing, Origin},
    parted::{self, Manner, Parted},
};

const MIB: u64 = 1024 * 1024;

/// A node with little memory and no disk: nothing stays long.
fn small(origin: &Origin) -> Node {
    Node::alone(&format!("[cache]\nmemory = \"32MiB\"\ndisk = \"0\"\n{}", config(origin, "")))
}

fn part(target: &str, range: &str) -> request::Builder {
    get(HOST, target).header("range", range)
}

async fn ranged(node: &Node, target: &str, range: &str) -> Reply {
    send(node.http, empty(part(target, range))).await
}

#[track_caller]
fn is_part(reply: &Reply, version: u64, first: u64, end: u64, length: u64) {
    assert_eq!(reply.status, 206, "{}", reply.seen());
    assert!(reply.broken.is_none(), "{}", reply.seen());
    assert_eq!(reply.field("content-range"), format!("bytes {first}-{}/{length}", end - 1));
    assert!(reply.body == parted::bytes(version, first, end), "other bytes: {}", reply.seen());
}

/// Resident memory of a node, in bytes.
fn resident(node: &Node) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", node.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
}

/// Numbers that look random, always the same.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_parts_of_a_huge_body_cost_the_origin_two_slices_each_and_no_memory() {
    const LENGTH: u64 = 10 * 1024 * MIB;
    let origin = Origin::start();
    let file = Parted::at(&origin, "/huge", LENGTH, Manner::Proper);
    let node = small(&origin);
    let mut connection = Connection::open(node.http).await.unwrap();
    let (mut dice, mut before) = (Dice(7), 0);
    for round in 0..120 {
        let first = dice.below(LENGTH - MIB);
        let range = format!("bytes={first}-{}", first + MIB - 1);
        let reply = connection.send(empty(part("/huge", &range))).await.unwrap();
        is_part(&reply, 1, first, first + MIB, LENGTH);
        let cost = file.sent() - before;
        assert!(cost <= 2 * MIB, "{cost} bytes from the origin in round {round}");
        before = file.sent();
    }
    // 32 MiB of store and its queue, the same again for what is on its way, and the program itself
    let resident = resident(&node);
    assert!(resident < 256 * MIB, "{} MiB resident", resident / MIB);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_was_fetched_is_not_fetched_again() {
    let origin = Origin::start();
    let file = Parted::at(&origin, "/v", 9 * MIB + 17, Manner::Proper);
    let node = node(&origin, "");
    is_part(&ranged(&node, "/v", "bytes=100-200").await, 1, 100, 201, file.length);
    assert_eq!(origin.count("/v"), 1);
    let again = ranged(&node, "/v", "bytes=300000-1000000").await;
    is_part(&again, 1, 300_000, 1_000_001, file.length);
    assert!(again.is_hit(), "{}", again.seen());
    assert_eq!((origin.count("/v"), file.sent()), (1, MIB));
    // partly there
    let more = ranged(&node, "/v", &format!("bytes={}-{}", MIB - 5, MIB + 5)).await;
    is_part(&more, 1, MIB - 5, MIB + 6, file.length);
    assert!(more.cache_status().contains("fwd=partial"), "{}", more.seen());
    assert_eq!((origin.count("/v"), file.sent()), (2, 2 * MIB));
    // the end by its length, now that it is known
    let end = ranged(&node, "/v", "bytes=-20").await;
    is_part(&end, 1, file.length - 20, file.length, file.length);
    // the whole: what is missing is fetched, what is there is not
    let whole = fetch(node.http, HOST, "/v").await;
    assert_eq!(whole.status, 200, "{}", whole.seen());
    assert!(whole.body == parted::bytes(1, 0, file.length), "{}", whole.seen());
    assert_eq!(file.sent(), file.length);
    let hit = fetch(node.http, HOST, "/v").await;
    assert!(hit.is_hit() && hit.body == whole.body, "{}", hit.seen());
    assert_eq!(ranged(&node, "/v", &format!("bytes={}-", file.length)).await.status, 416);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_want_the_same_part_make_one_request() {
    let origin = Origin::start();
    let file = Parted::at(&origin, "/v", 50 * MIB, Manner::Proper);
    let node = node(&origin, "");
    let mut clients = JoinSet::new();
    for client in 0..60u64 {
        let address = node.http;
        clients.spawn(async move {
            let (first, end) = (3 * MIB + client, 4 * MIB - client);
            let reply = send(address, empty(part("/v", &format!("bytes={first}-{}", end - 1)))).await;
            (reply, first, end)
        });
    }
    for (reply, first, end) in clients.join_all().await {
        is_part(&reply, 1, first, end, file.length);
    }
    assert_eq!((origin.count("/v"), file.sent()), (1, MIB));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_of_two_versions_are_never_put_together() {
    let origin = Origin::start();
    let file = Parted::at(&origin, "/v", 20 * MIB, Manner::Proper);
    let node = node(&origin, "");
    is_part(&ranged(&node, "/v", "bytes=0-9").await, 1, 0, 10, file.length);
    assert_eq!(file.change(), 2);
    // the rest cannot be had any more: the answer is cut, and not completed with other bytes
    let torn = fetch(node.http, HOST, "/v").await;
    assert!(torn.broken.is_some(), "{}", torn.seen());
    assert!(torn.body == parted::bytes(1, 0, torn.body.len() as u64));
    // from now on it is the new one
    let whole = fetch(node.http, HOST, "/v").await;
    assert!(whole.broken.is_none() && whole.body == parted::bytes(2, 0, file.length), "{}", whole.seen());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_nothing_proves_is_asked_for_as_the_client_asked() {
    let origin = Origin::start();
    let file = Parted::at(&origin, "/v", 20 * MIB, Manner::NoValidator);
    let node = node(&origin, "");
    for (first, last) in [(100, 200), (MIB - 1, MIB), (7, 7)] {
        is_part(&ranged(&node, "/v", &format!("bytes={first}-{last}")).await, 1, first, last + 1, file.length);
    }
    let ranges: Vec<_> = origin.seen().iter().map(|seen| seen.field("range").to_owned()).collect();
    assert_eq!(ranges, ["bytes=0-1048575", "bytes=1048575-1048576", "bytes=7-7"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_knows_no_parts_is_asked_for_the_whole_once() {
    let origin = Origin::start();
    let file = Parted::at(&origin, "/v", 3 * MIB, Manner::WholeOnly);
    let node = node(&origin, "");
    for first in [5, 2 * MIB, 1] {
        is_part(&ranged(&node, "/v", &format!("bytes={first}-{}", first + 9)).await, 1, first, first + 10, file.length);
    }
    assert_eq!(origin.count("/v"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_body_is_stored_whole_by_a_request_for_a_part_of_it() {
    let origin = Origin::start();
    let file = Parted::at(&origin, "/small", 3000, Manner::NoValidator);
    let node = node(&origin, "");
    is_part(&ranged(&node, "/small", "bytes=10-19").await, 1, 10, 20, file.length);
    let whole = fetch(node.http, HOST, "/small").await;
    assert!(whole.is_hit() && whole.body == parted::bytes(1, 0, 3000), "{}", whole.seen());
    assert_eq!(whole.field("content-range"), "");
    assert_eq!(origin.count("/small"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_part_is_renewed_without_fetching_the_whole() {
    let origin = Origin::start();
    let file = Parted::at(&origin, "/v", 64 * MIB, Manner::Proper);
    let node = node(&origin, "[[sites.routes]]\npath = \"/*\"\n");
    is_part(&ranged(&node, "/v", "bytes=0-9").await, 1, 0, 10, file.length);
    purge(&node, "/v").await;
    let version = file.change();
    is_part(&ranged(&node, "/v", "bytes=0-9").await, version, 0, 10, file.length);
    is_part(&ranged(&node, "/v", "bytes=10-19").await, version, 10, 20, file.length);
    assert_eq!(file.sent(), 2 * MIB);
    // an origin that fails leaves what is stored whole, and nothing else, to be served
    origin.fail(Some(Failing::Status(503)));
    is_part(&ranged(&node, "/v", "bytes=20-29").await, version, 20, 30, file.length);
    let missing = ranged(&node, "/v", &format!("bytes={}-{}", 5 * MIB, 5 * MIB + 9)).await;
    assert!(missing.broken.is_some() || missing.status == 503, "{}", missing.seen());
}

/// Purges by an unsafe request, as an origin application could.
async fn purge(node: &Node, target: &str) {
    let builder = get(HOST, target).method("DELETE");
    send(node.http, empty(builder)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_parts_come_as_multipart() {
    let origin = Origin::start();
    let file = Parted::at(&origin, "/v", 5 * MIB, Manner::Proper);
    Parted::at(&origin, "/small", 100, Manner::Proper);
    let node = node(&origin, "");
    for (target, length) in [("/v", file.length), ("/small", 100)] {
        assert_eq!(fetch(node.http, HOST, target).await.status, 200);
        let reply = ranged(&node, target, "bytes=0-4, 10-19, -3").await;
        assert_eq!(reply.status, 206, "{}", reply.seen());
        let parts = multipart(&reply.headers, &reply.body);
        let spans = [(0, 5), (10, 20), (length - 3, length)];
        assert_eq!(parts.len(), spans.len());
        for ((head, bytes), (first, end)) in parts.iter().zip(spans) {
            assert!(head.contains(&format!("Content-Range: bytes {first}-{}/{length}", end - 1)), "{head}");
            assert!(head.contains("Content-Type: video/mp4"), "{head}");
            assert!(*bytes == parted::bytes(1, first, end));
        }
        assert_eq!(reply.field("content-length"), reply.body.len().to_string());
    }
}

/// Takes `multipart/byteranges` apart: the head and the bytes of each part.
fn multipart(headers: &HeaderMap, body: &Bytes) -> Vec<(String, Bytes)> {
    let content_type = headers["content-type"].to_str().unwrap();
    let boundary = content_type.strip_prefix("multipart/byteranges; boundary=").expect("multipart/byteranges");
    let mut parts = Vec::new();
    let mut at = 0;
    let find = |from: usize, what: &[u8]| from + body[from..].windows(what.len()).position(|w| w == what).unwrap();
    let line = format!("--{boundary}");
    loop {
        let begin = find(at, line.as_bytes()) + line.len();
        if body[begin..].starts_with(b"--") {
            assert_eq!(&body[begin..], b"--\r\n");
            return parts;
        }
        let head_end = find(begin, b"\r\n\r\n");
        let head = String::from_utf8(body[begin + 2..head_end].to_vec()).unwrap();
        let end = find(head_end + 4, format!("\r\n{line}").as_bytes());
        parts.push((head, body.slice(head_end + 4..end)));
        at = end + 2;
    }
}

/// Whatever is in the store, whatever has just been evicted: the bytes are the origin's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_from_any_state_of_the_store_is_the_origins_bytes() {
    let origin = Origin::start();
    let lengths = [1, 3000, 70_000, 700_000, 3 * MIB + 1, 40 * MIB];
    let mut files: Vec<(String, Arc<Parted>, u64)> = Vec::new();
    for (index, length) in lengths.into_iter().enumerate() {
        for manner in [Manner::Proper, Manner::NoValidator, Manner::WholeOnly] {
            if length > 8 * MIB && manner != Manner::Proper {
                continue;
            }
            let path = format!("/f{index}-{manner:?}");
            files.push((path.clone(), Parted::at(&origin, &path, length, manner), 1));
        }
    }
    let node = small(&origin);
    let mut connection = Connection::open(node.http).await.unwrap();
    let mut dice = Dice(42);
    for round in 0..400 {
        let pick = usize::try_from(dice.below(files.len() as u64)).unwrap();
        let (path, file, version) = &mut files[pick];
        let length = file.length;
        let first = dice.below(length);
        let last = (first + dice.below(2 * MIB)).min(length - 1);
        let seen;
        match dice.below(8) {
            0 => {
                let reply = connection.get(HOST, path).await.unwrap();
                seen = reply.seen();
                assert_eq!(reply.status, 200, "round {round}: {path}: {seen}");
                assert!(reply.body == parted::bytes(*version, 0, length), "round {round}: {path}: {seen}");
            }
            1 => {
                let reply = connection.send(empty(part(path, &format!("bytes={first}-")))).await.unwrap();
                is_part(&reply, *version, first, length, length);
            }
            2 => {
                let count = (length - first).min(3 * MIB);
                let reply = connection.send(empty(part(path, &format!("bytes=-{count}")))).await.unwrap();
                if reply.status == 200 && path.ends_with("WholeOnly") {
                    // nobody knew the length, so that the origin was asked just so
                    assert!(reply.body == parted::bytes(*version, 0, length), "round {round}: {path}");
                } else {
                    is_part(&reply, *version, length - count, length, length);
                }
            }
            3 if length > 100 => {
                let range = format!("bytes=0-9,{}-{}", length / 2, length / 2 + 20);
                let reply = connection.send(empty(part(path, &range))).await.unwrap();
                if reply.status == 206 {
                    let parts = multipart(&reply.headers, &reply.body);
                    assert!(parts[0].1 == parted::bytes(*version, 0, 10), "round {round}: {path}");
                    assert!(
                        parts[1].1 == parted::bytes(*version, length / 2, length / 2 + 21),
                        "round {round}: {path}"
                    );
                } else {
                    assert_eq!(reply.status, 200, "round {round}: {path}: {}", reply.seen());
                    assert!(reply.body == parted::bytes(*version, 0, length), "round {round}: {path}");
                }
            }
            4 if round % 3 == 0 => {
                *version = file.change();
                let deleted = connection.send(empty(get(HOST, path).method("DELETE"))).await.unwrap();
                assert!(deleted.status.is_success() || deleted.status == 304, "{}", deleted.seen());
            }
            _ => {
                let reply = connection.send(empty(part(path, &format!("bytes={first}-{last}")))).await.unwrap();
                assert!(reply.broken.is_none(), "round {round}: {path} {first}-{last}: {}", reply.seen());
                is_part(&reply, *version, first, last + 1, length);
            }
        }
    }
}
