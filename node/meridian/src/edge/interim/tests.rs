#![allow(clippy::unwrap_used, reason = "tests")]
use std::{convert::Infallible, pin::pin};

use bytes::Bytes;
use http::{HeaderValue, Response};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    task::yield_now,
};

use super::*;

fn fields(list: &[(&'static str, &str)]) -> HeaderMap {
    list.iter().map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap())).collect()
}

fn parse(status: u16, list: &[(&'static str, &str)]) -> Option<Head> {
    Head::parse(StatusCode::from_u16(status).unwrap(), &fields(list))
}

#[test]
fn what_is_between_two_connections_stays_there() {
    assert!(parse(100, &[]).is_none() && parse(101, &[]).is_none() && parse(200, &[]).is_none());
    assert!(parse(102, &[]).is_some() && parse(103, &[]).is_some() && parse(199, &[]).is_some());
    let hop = [("link", "</a>"), ("connection", "x-hop"), ("x-hop", "1"), ("keep-alive", "1"), ("content-length", "5")];
    assert_eq!(parse(103, &hop).unwrap().headers, fields(&[("link", "</a>")]));
    assert!(parse(103, &[("link", &"x".repeat(HEAD_BYTES_MAX))]).is_none());
}

#[test]
fn a_head_is_written_as_http1_writes_it() {
    let mut bytes = Vec::new();
    parse(103, &[("link", "</a>"), ("x", "")]).unwrap().write(&mut bytes);
    assert_eq!(bytes, b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nx: \r\n\r\n");
    bytes.clear();
    parse(142, &[]).unwrap().write(&mut bytes);
    assert_eq!(bytes, b"HTTP/1.1 142 \r\n\r\n");
}

#[test]
fn no_more_than_so_many_and_none_after_the_answer() {
    let told = Told::default();
    (0..HEADS_MAX + 5).for_each(|_| told.tell(StatusCode::EARLY_HINTS, &HeaderMap::new()));
    assert_eq!(told.listen(Waker::noop()).len(), HEADS_MAX);
    told.tell(StatusCode::EARLY_HINTS, &HeaderMap::new());
    assert_eq!(told.listen(Waker::noop()).len(), 0, "those that were told count, too");
    let told = Told::default();
    told.tell(StatusCode::EARLY_HINTS, &HeaderMap::new());
    assert_eq!(told.close().len(), 1);
    told.tell(StatusCode::EARLY_HINTS, &HeaderMap::new());
    assert_eq!(told.close().len(), 0);
}

#[tokio::test]
async fn what_was_handed_over_first_is_written_first_and_nothing_stands_between_its_pieces() {
    let (near, mut far) = duplex(1 << 16);
    let gap = Arc::new(Gap::default());
    let mut stream = Interjecting::new(near, Arc::clone(&gap));
    stream.write_all(b"answer 1, ").await.unwrap();
    gap.put(&parse(103, &[]).unwrap());
    stream.write_all(b"more of it, ").await.unwrap();
    let pieces = [io::IoSlice::new(b"and "), io::IoSlice::new(b"its end\n")];
    assert_eq!(stream.write_vectored(&pieces).await.unwrap(), 12);
    assert!(gap.full.load(Ordering::Relaxed), "not before hyper flushes");
    stream.flush().await.unwrap();
    gap.taken().await;
    stream.write_all(b"answer 2").await.unwrap();
    drop(stream);
    let mut seen = String::new();
    far.read_to_string(&mut seen).await.unwrap();
    assert_eq!(seen, "answer 1, more of it, and its end\nHTTP/1.1 103 Early Hints\r\n\r\nanswer 2");
}

/// Answers `/<n>`: n interim responses, then n times 50 bytes. Some come at once, some while hyper sleeps.
async fn answer(gap: Arc<Gap>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let count: usize = request.uri().path()[1..].parse().unwrap();
    let interim = Interim::default();
    let teller = interim.teller();
    let answer = pin!(async {
        for index in 0..count {
            if index % 3 == 1 {
                yield_now().await;
            }
            let mut headers = fields(&[("x-padding", &"p".repeat(index * 40))]);
            headers.insert("x-index", HeaderValue::from(index));
            teller.0.tell(StatusCode::EARLY_HINTS, &headers);
            if index % 4 == 2 {
                yield_now().await;
            }
        }
        Response::new(Full::from("b".repeat(count * 50)))
    });
    Ok(gap.before(&interim, answer).await)
}

/// What a client must get for these requests, in just this order.
fn expected(requests: &[usize]) -> String {
    let mut text = String::new();
    for count in requests {
        for index in 0..*count {
            let padding = "p".repeat(index * 40);
            text += &format!("HTTP/1.1 103 Early Hints\r\nx-padding: {padding}\r\nx-index: {index}\r\n\r\n");
        }
        let length = count * 50;
        text += &format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{}", "b".repeat(length));
    }
    text
}

/// Pipelines requests over a stream whose buffer is so large, to a client that reads pieces of such a size.
async fn check(requests: &[usize], buffer: usize, piece: usize, vectored: bool) {
    let (near, far) = duplex(buffer);
    let gap = Arc::new(Gap::default());
    let io = TokioIo::new(Interjecting::new(near, Arc::clone(&gap)));
    let service = service_fn(move |request| answer(Arc::clone(&gap), request));
    let mut builder = http1::Builder::new();
    let server = builder.auto_date_header(false).writev(vectored).serve_connection(io, service);
    let (mut reader, mut writer) = tokio::io::split(far);
    let write = async {
        for count in requests {
            let last =
                if std::ptr::eq(count, &raw const requests[requests.len() - 1]) { "close" } else { "keep-alive" };
            let head = format!("GET /{count} HTTP/1.1\r\nhost: a\r\nconnection: {last}\r\n\r\n");
            writer.write_all(head.as_bytes()).await.unwrap();
        }
    };
    let read = async {
        let (mut seen, mut bytes) = (Vec::new(), vec![0; piece]);
        loop {
            let count = reader.read(&mut bytes).await.unwrap();
            if count == 0 {
                return String::from_utf8(seen).unwrap();
            }
            seen.extend_from_slice(&bytes[..count]);
            yield_now().await;
        }
    };
    let (served, (), seen) = tokio::join!(server, write, read);
    served.unwrap();
    let seen = seen.replace("connection: close\r\n", "");
    assert_eq!(seen, expected(requests), "{requests:?} through {buffer} bytes, read by {piece}");
}

#[tokio::test]
async fn they_stand_between_the_answers_however_the_bytes_are_cut() {
    let pipelines: [&[usize]; 6] = [&[3], &[0, 4, 0], &[5, 1, 0, 9, 2], &[16, 16], &[1, 1, 1, 1, 1, 1], &[2, 40]];
    for requests in pipelines {
        let requests: Vec<usize> = requests.iter().map(|count| *count.min(&HEADS_MAX)).collect();
        for buffer in [1, 2, 17, 64, 333, 4096, 1 << 20] {
            for piece in [1, 50, 8192] {
                check(&requests, buffer, piece, true).await;
                check(&requests, buffer, piece, false).await;
            }
        }
    }
}
