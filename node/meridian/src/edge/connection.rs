//! One client connection: TLS if any, which HTTP, and the limits that hold on it.

use std::{convert::Infallible, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use http::{Request, Response, Version};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use region_config::Limits;
use rules::caching::Reason;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};

use super::{
    answer,
    body::Body,
    interim::{Gap, Interim, Interjecting},
    listener::Guest,
    spine::{self, Caller},
    stall::Stall,
};
use crate::snapshot::Shared;

/// How an HTTP/2 connection in clear text begins (RFC 9113 section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// HTTP/2 flow-control windows, in bytes: per stream and per connection.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// Serves a connection to its end.
pub(super) async fn serve(guest: Guest, stream: TcpStream, peer: SocketAddr, tls: bool) {
    // small answers leave at once; a refusal to set it costs latency only
    let _ = stream.set_nodelay(true);
    let limits = guest.lobby.shared.config.load().node.limits.clone();
    let patience = Duration::from_millis(limits.head_ms);
    let caller = Caller::Client { address: peer.ip(), https: tls };
    if tls {
        let Ok(Ok(stream)) = timeout(patience, guest.lobby.tls.accept(stream)).await else { return };
        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        speak(&guest, stream, caller, &limits, h2).await;
    } else {
        let Ok(Some(h2)) = timeout(patience, begins_with_preface(&stream)).await else { return };
        speak(&guest, stream, caller, &limits, h2).await;
    }
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
    let shared = Arc::clone(&guest.lobby.shared);
    let desk = Arc::new(Desk { shared, caller, target_bytes: limits.target_bytes, gap: Arc::default() });
    let stopping = guest.lobby.tasks.stopping();
    if h2 {
        let service = service_fn(move |request| {
            let desk = Arc::clone(&desk);
            async move { Ok::<_, Infallible>(desk.answer(None, request).await) }
        });
        let mut connection = pin!(http2_builder(limits).serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            ended = connection.as_mut() => return trace(ended),
            () = stopping.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        trace(connection.await);
    } else {
        let io = TokioIo::new(Interjecting::new(stream, Arc::clone(&desk.gap)));
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
}

/// Clients break off all the time: of interest only to who looks closely.
fn trace(ended: hyper::Result<()>) {
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

fn http2_builder(limits: &Limits) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_max)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(256 * 1024)
        .max_local_error_reset_streams(Some(256))
        .keep_alive_interval(Some(Duration::from_millis(limits.idle_ms.max(1000))))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}

/// What the requests of a connection share.
struct Desk {
    shared: Arc<Shared>,
    caller: Caller,
    target_bytes: usize,
    gap: Arc<Gap>,
}

impl Desk {
    /// What holds for every request, whatever carries it; then the spine.
    async fn answer(&self, interim: Option<&Interim>, request: Request<Incoming>) -> Response<Body> {
        let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
        if target > self.target_bytes {
            return answer::refuse_and_close(http::StatusCode::URI_TOO_LONG, Reason::HeadTooLarge);
        }
        let version = request.version();
        let mut response = spine::answer(&self.shared, self.caller, interim, request).await;
        if version >= Version::HTTP_2 {
            // meaningless there, and an error to send (RFC 9113 section 8.2.2)
            response.headers_mut().remove(http::header::CONNECTION);
        }
        response
    }

    /// The same, with what the origin says before it answers.
    async fn answer_http1(&self, request: Request<Incoming>) -> Response<Body> {
        // not to be sent to HTTP/1.0, which does not know them (RFC 9110 section 15.2)
        if request.version() < Version::HTTP_11 {
            return self.answer(None, request).await;
        }
        let interim = Interim::default();
        let answer = pin!(self.answer(Some(&interim), request));
        self.gap.before(&interim, answer).await
    }
}
