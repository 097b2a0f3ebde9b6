//! HTTP/2 and TLS origins.

use super::*;

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
        assert!(!request.headers().contains_key("via"), "the spine says by whom it came; nothing is added here");
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
    assert_eq!(house.origins.counts()[0].2.retries, 0);
    let broken = pieces(vec![Ok("abc"), Err("the client has gone")]);
    let answer = house.send(request(Method::POST, broken)).await;
    assert!(answer.is_ok(), "this origin answers before it has the request");
    assert_eq!(origin.accepted(), 1);
}

#[tokio::test]
async fn an_upload_that_breaks_off_resets_its_stream() {
    let (teller, mut heard) = tokio::sync::mpsc::channel::<bool>(1);
    let origin = h2c(move |request| {
        let teller = teller.clone();
        async move {
            let whole = request.into_body().collect().await.is_ok();
            teller.send(whole).await.unwrap();
            http::Response::new(empty_body())
        }
    })
    .await;
    let mut config = at("o", origin.address);
    config.protocol = OriginProtocol::Http2;
    let house = House::new(vec![config]);
    let broken = pieces(vec![Ok("abc"), Err("the client has gone")]);
    let error = house.send(request(Method::POST, broken)).await.unwrap_err();
    assert!(matches!(error, OriginError::UploadBroken(_)), "{error}");
    assert!(!heard.recv().await.unwrap());
    assert_eq!(house.origins.health(&house.site)[0].failures, 0, "which is no fault of the origin's");
}

/// hyper takes a stream that is reset with NO_ERROR for one that has ended: without a length to check the body by, half
/// of it passed for the whole. What counts is END_STREAM.
#[tokio::test]
async fn a_stream_reset_without_an_error_is_not_whole_either() {
    /// SETTINGS and its acknowledgement, HEADERS with `:status: 200`, DATA, RST_STREAM with NO_ERROR.
    const FRAMES: &[&[u8]] = &[
        &[0, 0, 0, 4, 0, 0, 0, 0, 0],
        &[0, 0, 0, 4, 1, 0, 0, 0, 0],
        &[0, 0, 1, 1, 4, 0, 0, 0, 1, 0x88],
        &[0, 0, 4, 0, 0, 0, 0, 0, 1, b'h', b'a', b'l', b'f'],
        &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 0],
    ];
    let origin = Scripted::start(|_, mut wire| async move {
        wire.head().await;
        for frame in FRAMES {
            pause(20).await;
            wire.stream.write_all(frame).await.unwrap();
        }
        wire.rest().await;
    })
    .await;
    let mut config = at("o", origin.address);
    config.protocol = OriginProtocol::Http2;
    let error = House::new(vec![config]).whole().await.unwrap_err();
    assert!(matches!(error, OriginError::Truncated(_)), "{error}");
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
