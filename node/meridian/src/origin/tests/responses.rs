//! What comes back.

use super::*;

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
    let origin = Scripted::start(|number, mut wire| async move {
        wire.head().await;
        wire.say("HTTP/1.1 200 OK\r\n\r\n").await;
        let (piece, silence) = if number == 0 { (1, 20) } else { (64 * 1024, 0) };
        while wire.stream.write_all(&vec![b'x'; piece]).await.is_ok() {
            pause(silence).await;
        }
    })
    .await;
    let mut dripping = at("o", origin.address);
    dripping.deadlines.total_ms = 600;
    let house = House::new(vec![dripping]);
    for _ in ["dripping", "flooding"] {
        let start = clock::instant();
        let error = house.whole().await.unwrap_err();
        assert!(matches!(error, OriginError::TotalTimeout), "{error}");
        assert!((550..2_000).contains(&start.elapsed().as_millis()));
    }
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
async fn a_connection_broken_before_the_head_is_a_reset_and_is_tried_again_once() {
    for answer in ["", "HTTP/1.1 200 OK\r\nContent-"] {
        let origin = Scripted::once(answer).await;
        let house = House::new(vec![at("o", origin.address)]);
        let error = house.whole().await.unwrap_err();
        assert!(matches!(error, OriginError::Reset(_)), "{answer}: {error}");
        assert_eq!((origin.accepted(), error.status()), (2, StatusCode::BAD_GATEWAY));
        assert_eq!(house.origins.counts()[0].2.budgeted_retries, 1);
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
