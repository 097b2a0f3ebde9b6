//! One client connection: TLS if any, which HTTP, and the limits that hold on it.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use http_body::Body as HttpBody;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use region_config::Limits;
use rules::caching::Reason;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::server::TlsStream;

use super::{
    answer,
    body::{Body, BodyError},
    framing::{Framed, Framing},
    hello::Hello,
    http2,
    interim::{Gap, Interim, Interjecting},
    listener::{Guest, Lobby},
    noted, relay, relayed,
    sites::Outside,
    spine::{self, Caller},
    stall::Stall,
};
use crate::{peers::Stream, snapshot::Shared};

/// How an HTTP/2 connection in clear text begins (RFC 9113 section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves a connection to its end.
pub(super) async fn serve(guest: Guest, stream: TcpStream, peer: SocketAddr, tls: bool) {
    // small answers leave at once; a refusal to set it costs latency only
    let _ = stream.set_nodelay(true);
    let limits = guest.lobby.shared.config.load().node.limits.clone();
    let patience = Duration::from_millis(limits.head_ms);
    let caller = Caller::Client { address: peer.ip(), https: tls };
    if tls {
        match timeout(patience, open(&guest.lobby, stream)).await {
            Ok(Ok(Opened::Here(stream))) => {
                let h2 = is_http2(&stream);
                speak(&guest, *stream, caller, &limits, h2).await;
            }
            Ok(Ok(Opened::Elsewhere(hello, outside))) => {
                Box::pin(relay::carry(&guest, *hello, &outside, peer.ip(), &limits)).await;
            }
            Ok(Err(_)) | Err(_) => {}
        }
    } else {
        let Ok(Some(h2)) = timeout(patience, begins_with_preface(&stream)).await else { return };
        speak(&guest, stream, caller, &limits, h2).await;
    }
}

/// Serves a connection that another node passes on, to its end.
pub(super) async fn serve_relayed(guest: Guest, stream: Stream) {
    let limits = guest.lobby.shared.config.load().node.limits.clone();
    let patience = Duration::from_millis(limits.head_ms);
    let Ok(Ok((stream, address))) = timeout(patience, relayed::open(&guest.lobby, stream)).await else { return };
    let h2 = is_http2(&stream);
    speak(&guest, stream, Caller::Client { address, https: true }, &limits, h2).await;
}

/// Who answers a TLS connection.
enum Opened {
    /// This node.
    Here(Box<TlsStream<TcpStream>>),
    /// A node that may have the site's data.
    Elsewhere(Box<Hello<TcpStream>>, Arc<Outside>),
}

async fn open(lobby: &Lobby, stream: TcpStream) -> io::Result<Opened> {
    let hello = Hello::read(stream).await?;
    match relay::wanted(lobby, hello.name()) {
        Some(outside) => Ok(Opened::Elsewhere(Box::new(hello), outside)),
        None => Ok(Opened::Here(Box::new(lobby.tls.answer(hello).await?))),
    }
}

fn is_http2<S>(stream: &TlsStream<S>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(b"h2")
}

/// Whether a clear-text connection begins as HTTP/2; none if it ends before it begins.
async fn begins_with_preface(stream: &TcpStream) -> Option<bool> {
    let mut seen = [0; PREFACE.len()];
    loop {
        let count = stream.peek(&mut seen).await.ok()?;
        if count == 0 {
            return None;
        }
        if seen[..count] != PREFACE[..count] {
            return Some(false);
        }
        if count == PREFACE.len() {
            return Some(true);
        }
        // the beginning of a preface: the rest is on its way, and peeking would return at once
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn speak<S>(guest: &Guest, stream: S, caller: Caller, limits: &Limits, h2: bool)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = Stall::new(stream, Duration::from_millis(limits.stall_ms));
    let desk = Arc::new(Desk {
        shared: Arc::clone(&guest.lobby.shared),
        caller,
        target_bytes: limits.target_bytes,
        gap: Arc::default(),
        framing: Arc::default(),
        lobby: Arc::clone(&guest.lobby),
    });
    let stopping = guest.lobby.tasks.stopping();
    if h2 {
        return trace(http2::serve(stream, desk, limits, guest.lobby.left.clone()).await);
    }
    let io = TokioIo::new(Interjecting::new(Framed::new(stream, Arc::clone(&desk.framing)), Arc::clone(&desk.gap)));
    let service = service_fn(move |request| {
        let desk = Arc::clone(&desk);
        async move { Ok::<_, Infallible>(desk.answer_http1(request).await) }
    });
    let mut connection = pin!(http1_builder(limits).serve_connection(io, service));
    tokio::select! {
        ended = connection.as_mut() => return trace(ended),
        () = stopping.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    trace(connection.await);
}

/// Clients break off all the time: of interest only to who looks closely.
fn trace<E: std::fmt::Display>(ended: Result<(), E>) {
    if let Err(error) = ended {
        tracing::trace!(%error, "a client connection ended early");
    }
}

fn http1_builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(limits.head_ms))
        .max_headers(limits.fields_max)
        .max_buf_size(limits.head_bytes.max(8192))
        .half_close(false);
    builder
}

/// What the requests of a connection share.
pub(super) struct Desk {
    shared: Arc<Shared>,
    lobby: Arc<Lobby>,
    caller: Caller,
    target_bytes: usize,
    gap: Arc<Gap>,
    framing: Arc<Framing>,
}

impl Desk {
    /// What holds for every request, whatever carries it; then the spine.
    pub(super) async fn answer<B>(&self, interim: Option<&Interim>, request: Request<B>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + Sync + Unpin + 'static,
        B::Error: Into<BodyError>,
    {
        let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
        if target > self.target_bytes {
            let refused = answer::refuse_and_close(StatusCode::URI_TOO_LONG, Reason::HeadTooLarge);
            return noted::stray(&self.shared, self.caller, refused, Reason::HeadTooLarge);
        }
        spine::answer(&self.shared, self.caller, interim, request).await
    }

    /// The same, with what the origin says before it answers.
    async fn answer_http1(&self, request: Request<Incoming>) -> Response<Body> {
        if self.framing.next_is_twofold() {
            let refused = answer::refuse_and_close(StatusCode::BAD_REQUEST, Reason::ContentLength);
            return noted::stray(&self.shared, self.caller, refused, Reason::ContentLength);
        }
        // not to be sent to HTTP/1.0, which does not know them (RFC 9110 section 15.2)
        if request.version() < Version::HTTP_11 {
            return self.answer(None, request).await;
        }
        let interim = Interim::default();
        let answer = pin!(self.answer(Some(&interim), request));
        let mut response = self.gap.before(&interim, answer).await;
        if self.lobby.leaving.load(Ordering::Relaxed) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
