//! What goes up.

use super::*;

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
    assert!(get.contains("host: shop.test\r\n") && !get.contains("via:") && get.contains("x-own: 1"));
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
async fn an_upload_arrives_whole_and_one_that_breaks_off_never_does() {
    let (teller, mut heard) = tokio::sync::mpsc::channel::<(String, Vec<u8>)>(8);
    let origin = Scripted::start(move |_, mut wire| {
        let teller = teller.clone();
        async move {
            let head = wire.head().await.unwrap();
            let body = wire.through(b"0\r\n\r\n").await;
            wire.say(OK).await;
            teller.send((head, body)).await.unwrap();
        }
    })
    .await;
    let house = House::new(vec![at("o", origin.address)]);
    let whole = pieces(vec![Ok("abc"), Ok("de")]);
    let answer = house.send(request(Method::POST, whole)).await.unwrap();
    answer.response.into_body().collect().await.unwrap();
    let (head, body) = heard.recv().await.unwrap();
    assert!(head.contains("transfer-encoding: chunked\r\n"));
    assert_eq!(body, b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");

    let broken = pieces(vec![Ok("abc"), Err("the client has gone")]);
    let error = house.send(request(Method::POST, broken)).await.unwrap_err();
    assert!(matches!(error, OriginError::UploadBroken(_)), "{error}");
    assert_eq!(heard.recv().await.unwrap().1, b"3\r\nabc\r\n", "cut, and not ended");
    assert_eq!(origin.accepted(), 2, "and not sent again");
}

#[tokio::test]
async fn a_body_that_is_not_as_long_as_it_said_is_broken_off() {
    let (teller, mut heard) = tokio::sync::mpsc::channel::<Vec<u8>>(8);
    let origin = Scripted::start(move |_, mut wire| {
        let teller = teller.clone();
        async move {
            wire.head().await;
            teller.send(wire.rest().await).await.unwrap();
        }
    })
    .await;
    let house = House::new(vec![at("o", origin.address)]);
    for (said, sent) in [(5, "abc"), (2, "abc")] {
        let body = BoxBody::new(Said { said, inner: pieces(vec![Ok(sent), Err("end")]) });
        let error = house.send(request(Method::POST, body)).await.unwrap_err();
        assert!(matches!(error, OriginError::UploadBroken(_)), "{error}");
        assert_ne!(heard.recv().await.unwrap().len(), said, "{said}: it must not look complete");
    }
}

/// A body that says a length of its own, and ends where its error would be.
struct Said {
    said: usize,
    inner: RequestBody,
}

impl http_body::Body for Said {
    type Data = Bytes;
    type Error = BoxError;
    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = std::task::ready!(std::pin::Pin::new(&mut self.inner).poll_frame(cx));
        std::task::Poll::Ready(frame.filter(Result::is_ok))
    }
    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.said as u64)
    }
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
