//! Origins as they are: slow, broken, hostile, gone.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, future::join_all, stream};
use http::{Method, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use region_config::{HealthCheck, OriginProtocol};
use tokio::io::AsyncWriteExt;

use super::{
    BoxError, OriginError, OriginState, RequestBody, empty_body,
    script::{House, Scripted, at, config, pause, request, until},
};
use crate::{clock, tasks::Tasks};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn full(bytes: &'static str) -> RequestBody {
    BoxBody::new(Full::new(Bytes::from_static(bytes.as_bytes())).map_err(|never| match never {}))
}

/// A body of unknown length, made of pieces.
fn pieces(pieces: Vec<Result<&'static str, &'static str>>) -> RequestBody {
    let frames = pieces.into_iter().map(|piece| match piece {
        Ok(data) => Ok(Frame::data(Bytes::from_static(data.as_bytes()))),
        Err(why) => Err(BoxError::from(why)),
    });
    BoxBody::new(StreamBody::new(stream::iter(frames.collect::<Vec<_>>())))
}

/// The one origin's error for a GET whose answer is given.
async fn error_for(answer: &'static str) -> OriginError {
    let origin = Scripted::once(answer).await;
    House::new(vec![at("o", origin.address)]).whole().await.unwrap_err()
}

#[tokio::test]
async fn a_connection_serves_one_request_after_the_other() {
    let origin = Scripted::always(OK).await;
    let house = House::new(vec![at("o", origin.address)]);
    for _ in 0..20 {
        assert_eq!(house.whole().await.unwrap(), (200, Bytes::from_static(b"ok")));
    }
    assert_eq!(origin.accepted(), 1);
    let counts = &house.origins.counts()[0].2;
    assert_eq!((counts.connections_opened, counts.connections_reused, counts.requests), (1, 19, 20));
    assert!(counts.failures.is_empty());
    assert_eq!(house.origins.health(&house.site)[0].in_flight, 0);
}

#[tokio::test]
async fn the_request_is_written_with_framing_of_our_own() {
    let origin = Scripted::start(|_, mut wire| async move {
        while let Some(head) = wire.head().await {
            let lower = head.to_ascii_lowercase();
            let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{lower}", lower.len());
            wire.say(&reply).await;
            if lower.contains("chunked") || lower.contains("content-length: 5") {
                return;
            }
        }
    })
    .await;
    let house = House::new(vec![at("o", origin.address)]);
    let seen = async |mut request: http::Request<RequestBody>| {
        let headers = request.headers_mut();
        for (name, value) in [("content-length", "77"), ("transfer-encoding", "gzip"), ("te", "trailers")] {
            headers.insert(name, value.parse().unwrap());
        }
        headers.insert("expect", "100-continue".parse().unwrap());
        let body = house.send(request).await.unwrap().response.into_body();
        String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
    };
    let get = seen(request(Method::GET, empty_body())).await;
    assert!(get.starts_with("get /a/b?c=d http/1.1\r\n"), "{get}");
    assert!(get.contains("host: shop.test\r\n") && get.contains("via: 1.1 meridian\r\n") && get.contains("x-own: 1"));
    for framing in ["content-length", "transfer-encoding", "te:", "expect", "connection"] {
        assert!(!get.contains(framing), "{framing} in {get}");
    }
    assert!(seen(request(Method::POST, empty_body())).await.contains("content-length: 0\r\n"));
    let known = seen(request(Method::POST, full("12345"))).await;
    assert!(known.contains("content-length: 5\r\n") && !known.contains("transfer-encoding"));
    let unknown = seen(request(Method::GET, pieces(vec![Ok("a"), Ok("b")]))).await;
    assert!(unknown.contains("transfer-encoding: chunked\r\n") && !unknown.contains("content-length"));
}

#[tokio::test]
async fn what_never_goes_to_an_origin_is_refused_before_connecting() {
    let origin = Scripted::always(OK).await;
    let house = House::new(vec![at("o", origin.address)]);
    let unsendable = async |request| house.send(request).await.unwrap_err();
    assert!(matches!(unsendable(request(Method::CONNECT, empty_body())).await, OriginError::Unsendable(_)));
    assert!(matches!(unsendable(request(Method::TRACE, empty_body())).await, OriginError::Unsendable(_)));
    let other = config(vec![]);
    let mut site = other.sites[0].as_ref().clone();
    site.name = region_config::SiteId::parse("other").unwrap();
    let permit = rules::residency::permit(&site, &other.regions[0].jurisdiction).unwrap();
    let error = house.origins.send(&house.site, request(Method::GET, empty_body()), &permit).await.unwrap_err();
    assert!(matches!(error, OriginError::NotPermitted));
    assert_eq!(origin.accepted(), 0);
    let mut hostless = request(Method::GET, empty_body());
    hostless.headers_mut().remove("host");
    assert!(matches!(unsendable(hostless).await, OriginError::Unsendable(_)));
}

#[tokio::test]
async fn a_head_that_does_not_come_is_given_up_in_time() {
    let origin = Scripted::start(|_, mut wire| async move {
        wire.head().await;
        wire.rest().await;
    })
    .await;
    let house = House::new(vec![at("o", origin.address)]);
    let start = clock::instant();
    let error = house.whole().await.unwrap_err();
    assert!(matches!(error, OriginError::FirstByteTimeout), "{error}");
    assert_eq!(error.status(), StatusCode::GATEWAY_TIMEOUT);
    assert!((350..2_000).contains(&start.elapsed().as_millis()));
    until("the connection is closed", || origin.open() == 0).await;
    assert_eq!(origin.accepted(), 1, "and not asked again");
}

#[tokio::test]
async fn a_slow_body_is_let_through_and_a_silent_one_is_not() {
    let origin = Scripted::start(|number, mut wire| async move {
        wire.head().await;
        wire.say("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n").await;
        for _ in 0..4 {
            wire.say("ab").await;
            pause(100).await;
            if number == 1 {
                wire.rest().await;
            }
        }
    })
    .await;
    let house = House::new(vec![at("o", origin.address)]);
    assert_eq!(house.whole().await.unwrap().1, "abababab");
    let error = house.whole().await.unwrap_err();
    assert!(matches!(error, OriginError::BetweenBytesTimeout), "{error}");
}

#[tokio::test]
async fn a_reader_that_takes_its_time_is_not_taken_for_a_silent_origin() {
    let origin = Scripted::always(OK).await;
    let house = House::new(vec![at("o", origin.address)]);
    let body = house.get().await.unwrap().response.into_body();
    pause(500).await;
    assert_eq!(body.collect().await.unwrap().to_bytes(), "ok");
}

#[tokio::test]
async fn no_response_outlives_the_total_deadline() {
    let origin = Scripted::start(|_, mut wire| async move {
        wire.head().await;
        wire.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        loop {
            wire.say("1\r\nx\r\n").await;
            pause(20).await;
        }
    })
    .await;
    let mut dripping = at("o", origin.address);
    dripping.deadlines.total_ms = 600;
    let house = House::new(vec![dripping]);
    let start = clock::instant();
    let error = house.whole().await.unwrap_err();
    assert!(matches!(error, OriginError::TotalTimeout), "{error}");
    assert!((550..2_000).contains(&start.elapsed().as_millis()));
}

#[tokio::test]
async fn a_broken_response_is_never_a_whole_one() {
    let cases = [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n0\r\n\r\n",
    ];
    for answer in cases {
        let error = error_for(answer).await;
        assert!(matches!(error, OriginError::Truncated(_)), "{answer}: {error}");
    }
    let resetting = Scripted::start(|_, mut wire| async move {
        wire.head().await;
        wire.say("HTTP/1.1 200 OK\r\n\r\nab").await;
        pause(50).await;
        wire.reset();
    })
    .await;
    let error = House::new(vec![at("o", resetting.address)]).whole().await.unwrap_err();
    assert!(matches!(error, OriginError::Truncated(_)), "{error}");
}

#[tokio::test]
async fn a_connection_broken_before_the_head_is_a_reset_and_is_not_tried_again() {
    for answer in ["", "HTTP/1.1 200 OK\r\nContent-"] {
        let origin = Scripted::once(answer).await;
        let house = House::new(vec![at("o", origin.address)]);
        let error = house.whole().await.unwrap_err();
        assert!(matches!(error, OriginError::Reset(_)), "{answer}: {error}");
        assert_eq!((origin.accepted(), error.status()), (1, StatusCode::BAD_GATEWAY));
        assert_eq!(house.origins.health(&house.site)[0].state, OriginState::Up, "a reset says nothing about health");
    }
}

#[tokio::test]
async fn ambiguous_or_unasked_heads_are_refused() {
    let cases = [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: abcdefghijk\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-Bad: a\0b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-Fold: a\r\n b\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n\r\n",
    ];
    for answer in cases {
        let error = error_for(answer).await;
        assert!(matches!(error, OriginError::Malformed(_)), "{answer}: {error}");
        assert_eq!(error.status(), StatusCode::BAD_GATEWAY);
    }
}

#[tokio::test]
async fn heads_beyond_the_limits_are_refused() {
    let long = format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\n\r\n", "a".repeat(70_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X-Many: 1\r\n".repeat(201));
    for answer in [long, many] {
        let error = error_for(answer.leak()).await;
        assert!(matches!(error, OriginError::Malformed(_)), "{error}");
    }
    let just = format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{}\r\n", "X-Many: 1\r\n".repeat(199));
    let origin = Scripted::always(just.leak()).await;
    let house = House::new(vec![at("o", origin.address)]);
    assert_eq!(house.whole().await.unwrap().0, 200);
}

#[tokio::test]
async fn interim_responses_are_not_final_ones() {
    let answer = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n\
                  HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let origin = Scripted::always(answer).await;
    let house = House::new(vec![at("o", origin.address)]);
    for _ in 0..3 {
        assert_eq!(house.whole().await.unwrap(), (200, Bytes::from_static(b"ok")));
    }
    assert_eq!(origin.accepted(), 1);
    // nothing but interim responses is no response
    let forever = Scripted::start(|_, mut wire| async move {
        wire.head().await;
        loop {
            wire.say("HTTP/1.1 103 Early Hints\r\n\r\n").await;
            pause(20).await;
        }
    })
    .await;
    let error = House::new(vec![at("o", forever.address)]).whole().await.unwrap_err();
    assert!(matches!(error, OriginError::FirstByteTimeout), "{error}");
}

#[tokio::test]
async fn surplus_bytes_cost_the_connection() {
    for surplus in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    ] {
        let origin = Scripted::always(surplus).await;
        let house = House::new(vec![at("o", origin.address)]);
        for _ in 0..3 {
            assert_ne!(house.whole().await.unwrap().1, "evil");
        }
        assert_eq!(origin.accepted(), 3);
    }
}

#[tokio::test]
async fn responses_without_a_body_leave_the_connection_usable() {
    let origin = Scripted::always("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n").await;
    let house = House::new(vec![at("o", origin.address)]);
    for _ in 0..3 {
        let answer = house.send(request(Method::HEAD, empty_body())).await.unwrap();
        assert_eq!(answer.response.headers()["content-length"], "1000");
        assert!(answer.response.into_body().collect().await.unwrap().to_bytes().is_empty());
    }
    assert_eq!(origin.accepted(), 1);
}

#[tokio::test]
async fn a_status_is_an_answer_whatever_it_is() {
    let origin = Scripted::always("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n").await;
    let house = House::new(vec![at("o", origin.address)]);
    for _ in 0..10 {
        assert_eq!(house.whole().await.unwrap().0, 500);
    }
    assert_eq!(house.origins.health(&house.site)[0].state, OriginState::Up);
    assert_eq!(house.origins.counts()[0].2.retries, 0);
    let odd = Scripted::always("HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(House::new(vec![at("o", odd.address)]).whole().await.unwrap().0, 999);
}

#[tokio::test]
async fn a_kept_connection_that_has_died_is_replaced_once() {
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    let origin = Scripted::start(move |number, mut wire| {
        let requests = Arc::clone(&counter);
        async move {
            while wire.head().await.is_some() {
                if requests.fetch_add(1, Ordering::SeqCst) > 0 && number == 0 {
                    return; // read, and closed without a word
                }
                wire.say(OK).await;
            }
        }
    })
    .await;
    let house = House::new(vec![at("o", origin.address)]);
    house.whole().await.unwrap();
    assert_eq!(house.whole().await.unwrap().0, 200);
    assert_eq!((origin.accepted(), requests.load(Ordering::SeqCst)), (2, 3));
    assert_eq!(house.origins.counts()[0].2.retries, 1);
}

#[tokio::test]
async fn what_may_have_arrived_is_not_sent_twice_unless_it_is_idempotent() {
    let posts = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&posts);
    let origin = Scripted::start(move |_, mut wire| {
        let posts = Arc::clone(&counter);
        async move {
            while let Some(head) = wire.head().await {
                if head.starts_with("POST") {
                    posts.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                wire.say(OK).await;
            }
        }
    })
    .await;
    let house = House::new(vec![at("o", origin.address)]);
    for body in [empty_body(), full("pay 5")] {
        house.whole().await.unwrap();
        let error = house.send(request(Method::POST, body)).await.unwrap_err();
        assert!(matches!(error, OriginError::Reset(_)), "{error}");
    }
    assert_eq!(posts.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_post_is_sent_whole_when_the_kept_connection_was_closed_before() {
    let origin = Scripted::start(|_, mut wire| async move {
        let head = wire.head().await.unwrap_or_default();
        if head.starts_with("POST") {
            pause(20).await;
        }
        wire.say(OK).await; // and closed, without saying so
    })
    .await;
    let house = House::new(vec![at("o", origin.address)]);
    for _ in 0..5 {
        house.whole().await.unwrap();
        until("the origin has closed", || origin.open() == 0).await;
        let answer = house.send(request(Method::POST, full("12345"))).await.unwrap();
        answer.response.into_body().collect().await.unwrap();
    }
    assert_eq!(origin.accepted(), 10);
}

#[tokio::test]
async fn an_idle_connection_is_closed_by_us_first() {
    let origin = Scripted::always(OK).await;
    let house = House::new(vec![at("o", origin.address)]);
    house.whole().await.unwrap();
    assert_eq!(origin.open(), 1);
    let start = clock::instant();
    while origin.open() > 0 {
        assert!(start.elapsed() < Duration::from_secs(7));
        pause(50).await;
    }
    assert!((3_500..6_500).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    assert_eq!(house.origins.health(&house.site)[0].connections, 0);
}

#[tokio::test]
async fn an_upload_arrives_whole_and_one_that_breaks_off_never_does() {
    let (teller, mut heard) = tokio::sync::mpsc::channel::<(String, Vec<u8>)>(8);
    let origin = Scripted::start(move |number, mut wire| {
        let teller = teller.clone();
        async move {
            let head = wire.head().await.unwrap();
            if number == 0 {
                wire.say(OK).await;
            }
            let rest = wire.rest().await;
            teller.send((head, rest)).await.unwrap();
        }
    })
    .await;
    let house = House::new(vec![at("o", origin.address)]);
    let whole = pieces(vec![Ok("abc"), Ok("de")]);
    let answer = house.send(request(Method::POST, whole)).await.unwrap();
    answer.response.into_body().collect().await.unwrap();
    house.tasks.stopping().cancel();
    assert_eq!(heard.recv().await.unwrap().1, b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");

    let house = House::new(vec![at("o", origin.address)]);
    let broken = pieces(vec![Ok("abc"), Err("the client has gone")]);
    let error = house.send(request(Method::POST, broken)).await.unwrap_err();
    assert!(matches!(error, OriginError::UploadBroken(_)), "{error}");
    let (head, rest) = heard.recv().await.unwrap();
    assert!(head.contains("chunked"));
    assert!(!rest.windows(5).any(|five| five == b"0\r\n\r\n"), "{rest:?}");
    assert_eq!(origin.accepted(), 2, "and is not sent again");
}

#[tokio::test]
async fn an_upload_that_the_origin_does_not_take_ends_in_time() {
    let origin = Scripted::start(|_, mut wire| async move {
        wire.head().await;
        pause(10_000).await;
    })
    .await;
    let house = House::new(vec![at("o", origin.address)]);
    let piece: &'static str = "x".repeat(64 * 1024).leak();
    let pulled = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&pulled);
    let endless = stream::repeat_with(move || {
        counter.fetch_add(piece.len(), Ordering::SeqCst);
        Ok(Frame::data(Bytes::from_static(piece.as_bytes())))
    });
    let error = house.send(request(Method::PUT, BoxBody::new(SyncBody(endless)))).await.unwrap_err();
    assert!(matches!(error, OriginError::FirstByteTimeout), "{error}");
    assert!(pulled.load(Ordering::SeqCst) < 32 << 20, "the client is read no faster than the origin");
}

/// A stream of frames as a body.
struct SyncBody<S>(S);

impl<S: futures_util::Stream<Item = Result<Frame<Bytes>, BoxError>> + Unpin> http_body::Body for SyncBody<S> {
    type Data = Bytes;
    type Error = BoxError;
    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_next_unpin(cx)
    }
}

#[tokio::test]
async fn an_origin_is_read_no_faster_than_the_client_reads() {
    let written = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&written);
    let origin = Scripted::start(move |_, mut wire| {
        let written = Arc::clone(&counter);
        async move {
            wire.head().await;
            wire.say("HTTP/1.1 200 OK\r\n\r\n").await;
            let piece = vec![b'x'; 64 * 1024];
            while wire.stream.write_all(&piece).await.is_ok() {
                written.fetch_add(piece.len(), Ordering::SeqCst);
            }
        }
    })
    .await;
    let house = House::new(vec![at("o", origin.address)]);
    let mut body = house.get().await.unwrap().response.into_body();
    body.frame().await.unwrap().unwrap();
    pause(300).await;
    let stood = written.load(Ordering::SeqCst);
    pause(200).await;
    assert_eq!(written.load(Ordering::SeqCst), stood, "the origin goes on without a reader");
    drop(body);
    until("the connection is closed with its body", || origin.open() == 0).await;
}

#[tokio::test]
async fn connections_stay_below_their_number_and_requests_wait_in_line() {
    let origin = Scripted::start(|_, mut wire| async move {
        while wire.head().await.is_some() {
            pause(20).await;
            wire.say(OK).await;
        }
    })
    .await;
    let mut narrow = at("o", origin.address);
    narrow.connections_max = 4;
    let house = House::new(vec![narrow]);
    let answers = join_all((0..40).map(|_| house.whole())).await;
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|(status, _)| *status == 200)));
    assert!(origin.open_max() <= 4, "{}", origin.open_max());
    assert!(origin.accepted() <= 6, "{}", origin.accepted());
}

#[tokio::test]
async fn when_all_connections_hang_the_next_request_is_refused_in_time() {
    let origin = Scripted::start(|_, mut wire| async move {
        wire.rest().await;
    })
    .await;
    let mut narrow = at("o", origin.address);
    narrow.connections_max = 2;
    narrow.deadlines.connect_ms = 200;
    narrow.deadlines.first_byte_ms = 1_000;
    let house = House::new(vec![narrow]);
    let answers = join_all((0..5).map(|_| house.whole())).await;
    let refused = answers.iter().filter(|a| matches!(a, Err(OriginError::TooManyConnections))).count();
    let late = answers.iter().filter(|a| matches!(a, Err(OriginError::FirstByteTimeout))).count();
    assert_eq!((refused, late, origin.open_max()), (3, 2, 2));
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_refused_at_once() {
    let gone = Scripted::always(OK).await.address;
    pause(50).await;
    let house = House::new(vec![at("o", gone)]);
    for _ in 0..5 {
        let error = house.whole().await.unwrap_err();
        assert!(matches!(error, OriginError::Refused), "an only origin is always tried: {error}");
    }
    let view = &house.origins.health(&house.site)[0];
    assert_eq!((view.state, view.failures, view.in_flight), (OriginState::Down, 5, 0));
    assert!(view.last_error.as_ref().unwrap().contains("refused"));
}

#[tokio::test]
async fn a_request_not_yet_sent_goes_to_another_origin() {
    let gone = Scripted::always(OK).await.address;
    let origin = Scripted::always(OK).await;
    let house = House::new(vec![at("gone", gone), at("here", origin.address)]);
    for _ in 0..20 {
        let answer = house.send(request(Method::POST, full("12345"))).await.unwrap();
        assert_eq!(&*answer.origin, "here");
        answer.response.into_body().collect().await.unwrap();
    }
    let views = house.origins.health(&house.site);
    assert_eq!((views[0].state, views[1].state), (OriginState::Down, OriginState::Up));
    assert!(views[0].failures <= 5, "a down origin is left alone but for trials: {}", views[0].failures);
}

#[tokio::test]
async fn addresses_that_no_origin_may_have_are_never_connected_to() {
    for host in ["169.254.169.254", "fe80::1", "::ffff:169.254.169.254", "0.0.0.0"] {
        let mut origin = at("o", "127.0.0.1:80".parse().unwrap());
        origin.host = host.into();
        let error = House::new(vec![origin]).whole().await.unwrap_err();
        assert!(matches!(error, OriginError::Forbidden { .. }), "{host}: {error}");
    }
}

#[tokio::test]
async fn a_name_is_resolved_and_a_name_that_does_not_exist_is_said_to() {
    let origin = Scripted::always(OK).await;
    let mut named = at("o", origin.address);
    named.host = "localhost".into();
    assert_eq!(House::new(vec![named]).whole().await.unwrap().0, 200);
    let mut nowhere = at("o", origin.address);
    nowhere.host = "nowhere.invalid".into();
    nowhere.deadlines.connect_ms = 3_000;
    let error = House::new(vec![nowhere]).whole().await.unwrap_err();
    assert!(matches!(error, OriginError::Unresolved { .. } | OriginError::ConnectTimeout), "{error}");
}

#[tokio::test]
async fn the_active_check_takes_an_origin_out_and_back() {
    let sick = Arc::new(AtomicUsize::new(1));
    let switch = Arc::clone(&sick);
    let checked = Scripted::start(move |_, mut wire| {
        let sick = Arc::clone(&switch);
        async move {
            while let Some(head) = wire.head().await {
                let bad = head.starts_with("GET /health ") && sick.load(Ordering::SeqCst) == 1;
                wire.say(if bad { "HTTP/1.1 503 Sick\r\nContent-Length: 0\r\n\r\n" } else { OK }).await;
            }
        }
    })
    .await;
    let other = Scripted::always(OK).await;
    let mut first = at("checked", checked.address);
    first.health =
        Some(HealthCheck { path: "/health".into(), interval_ms: 100, timeout_ms: 300, down_after: 3, up_after: 2 });
    let house = House::new(vec![first, at("other", other.address)]);
    let state = || house.origins.health(&house.site)[0].state;
    until("it is down", || state() == OriginState::Down).await;
    assert!(house.origins.health(&house.site)[0].last_error.as_ref().unwrap().contains("503"));
    for _ in 0..10 {
        assert_eq!(&*house.get().await.unwrap().origin, "other");
    }
    sick.store(0, Ordering::SeqCst);
    until("it is up", || state() == OriginState::Up).await;
}

#[tokio::test]
async fn a_reload_keeps_what_has_not_changed() {
    let origin = Scripted::always(OK).await;
    let house = House::new(vec![at("o", origin.address)]);
    house.whole().await.unwrap();
    house.origins.replace(&config(vec![at("o", origin.address)])).unwrap();
    house.whole().await.unwrap();
    assert_eq!(origin.accepted(), 1);
    let other = Scripted::always("HTTP/1.1 203 Other\r\nContent-Length: 0\r\n\r\n").await;
    house.origins.replace(&config(vec![at("o", other.address)])).unwrap();
    assert_eq!(house.whole().await.unwrap().0, 203);
    until("the old one's connection is closed", || origin.open() == 0).await;
}

/// An HTTP/2 origin by prior knowledge; `answer` gets the request.
async fn h2c<F, S>(answer: F) -> Scripted
where
    F: Fn(http::Request<hyper::body::Incoming>) -> S + Clone + Send + Sync + 'static,
    S: Future<Output = http::Response<RequestBody>> + Send + 'static,
{
    Scripted::start(move |_, wire| {
        let answer = answer.clone();
        async move {
            let service = hyper::service::service_fn(move |request| {
                let answer = answer(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            drop(builder.serve_connection(TokioIo::new(wire.stream), service).await);
        }
    })
    .await
}

#[tokio::test]
async fn many_requests_share_one_http_2_connection() {
    let origin = h2c(|request| async move {
        assert_eq!(request.uri().to_string(), "http://shop.test/a/b?c=d");
        assert!(request.headers().get("host").is_none());
        assert_eq!(request.headers()["via"], "1.1 meridian");
        let body = request.into_body().collect().await.unwrap().to_bytes();
        pause(30).await;
        http::Response::new(BoxBody::new(Full::new(body).map_err(|never| match never {})))
    })
    .await;
    let mut config = at("o", origin.address);
    config.protocol = OriginProtocol::Http2;
    let house = House::new(vec![config]);
    let answers = join_all((0..50).map(|_| house.send(request(Method::POST, full("echo"))))).await;
    for answer in answers {
        let body = answer.unwrap().response.into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes(), "echo");
    }
    assert_eq!(origin.accepted(), 1);
    assert_eq!(house.origins.health(&house.site)[0].in_flight, 0);
}

#[tokio::test]
async fn a_broken_http_2_stream_is_never_whole_and_costs_only_itself() {
    let origin = h2c(|_| async move { http::Response::new(pieces(vec![Ok("half"), Err("broken")])) }).await;
    let mut config = at("o", origin.address);
    config.protocol = OriginProtocol::Http2;
    let house = House::new(vec![config]);
    for _ in 0..3 {
        let error = house.whole().await.unwrap_err();
        assert!(matches!(error, OriginError::Truncated(_)), "{error}");
    }
    let broken = pieces(vec![Ok("abc"), Err("the client has gone")]);
    drop(house.send(request(Method::POST, broken)).await);
    assert_eq!(origin.accepted(), 1);
}

#[tokio::test]
async fn a_tls_origin_is_checked_against_its_own_authority_and_asked_for_http_2() {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let dir = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap();
    let path = dir.path().join("ca.pem");
    std::fs::write(&path, authority.pem()).unwrap();
    let issuer = Issuer::new(params, key);
    let own = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&own, &issuer).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::try_from(own.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let origin = Scripted::start(move |_, wire| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(stream) = acceptor.accept(wire.stream).await else { return };
            let service = hyper::service::service_fn(|request: http::Request<hyper::body::Incoming>| async move {
                let text = format!("{:?}", request.version());
                Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::from(text))))
            });
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            drop(builder.serve_connection(TokioIo::new(stream), service).await);
        }
    })
    .await;
    let tls = |protocol, ca: Option<&std::path::Path>| {
        let mut config = at("o", origin.address);
        (config.tls, config.protocol, config.ca) = (true, protocol, ca.map(Into::into));
        House::new(vec![config])
    };
    assert_eq!(tls(OriginProtocol::Auto, Some(&path)).whole().await.unwrap().1, "HTTP/2.0");
    assert_eq!(tls(OriginProtocol::Http2, Some(&path)).whole().await.unwrap().1, "HTTP/2.0");
    assert_eq!(tls(OriginProtocol::Http1, Some(&path)).whole().await.unwrap().1, "HTTP/1.1");
    let error = tls(OriginProtocol::Auto, None).whole().await.unwrap_err();
    assert!(matches!(error, OriginError::Tls(_)), "{error}");
    let missing = dir.path().join("missing.pem");
    let house = tls(OriginProtocol::Auto, Some(&missing));
    assert!(house.origins.health(&house.site)[0].last_error.as_ref().unwrap().contains("missing.pem"));
    assert!(house.whole().await.unwrap_err().to_string().contains("missing.pem"));
}

#[test]
fn a_connection_opened_on_one_thread_serves_requests_of_another() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (main, own, other) = (runtime(), runtime(), runtime());
    let stop = Tasks::new().stopping();
    let (origin, house) = main.block_on(async {
        let origin = Scripted::always(OK).await;
        let house = Arc::new(House::new(vec![at("o", origin.address)]));
        (origin, house)
    });
    let (tell, first_done) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let (house_of_own, stop_of_own) = (Arc::clone(&house), stop.clone());
        let stopping = stop.clone();
        scope.spawn(move || main.block_on(stopping.cancelled()));
        scope.spawn(move || {
            own.block_on(async {
                house_of_own.whole().await.unwrap();
                tell.send(()).unwrap();
                stop_of_own.cancelled().await;
            });
        });
        first_done.recv().unwrap();
        for _ in 0..10 {
            assert_eq!(other.block_on(house.whole()).unwrap().1, "ok");
        }
        stop.cancel();
    });
    assert_eq!(origin.accepted(), 1);
}

#[tokio::test]
async fn stopping_waits_for_responses_under_way_and_keeps_nothing_after() {
    let origin = Scripted::start(|_, mut wire| async move {
        wire.head().await;
        pause(200).await;
        wire.say(OK).await;
        wire.rest().await;
    })
    .await;
    let house = House::new(vec![at("o", origin.address)]);
    let (answer, stopped) = tokio::join!(house.whole(), async {
        pause(50).await;
        house.tasks.stop(Duration::from_secs(3)).await
    });
    assert_eq!(answer.unwrap().1, "ok");
    assert!(stopped);
    until("the connection is closed", || origin.open() == 0).await;
}
