//! The HTTP/2 door (RFC 9113), on h2 itself: hyper's server over it cannot send interim responses, and browsers take
//! 103 over HTTP/2 only. All streams of a connection are polled by its one task.

use std::{
    future::{Future as _, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use h2::{
    Ping, PingPong, Reason, RecvStream, SendStream,
    server::{Builder, Connection, SendResponse},
};
use http::{HeaderName, HeaderValue, Request, Response, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use region_config::Limits;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    body::{Body, BodyError},
    connection::Desk,
    interim::{Head, Interim},
};
use crate::clock;

/// Flow-control windows, in bytes: per stream and per connection.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// What of a response's body may wait for the client's window, per stream, in bytes.
const SEND_BUFFER_BYTES: usize = 256 * 1024;

/// Streams that we reset because of what the client did, before the connection is closed.
const RESETS_MAX: usize = 256;

/// For how long a silent client may leave a ping without an answer.
const PONG_WAIT: Duration = Duration::from_secs(10);

/// Fields that mean something on one HTTP/1.1 connection, and are an error here (RFC 9113 section 8.2.2).
const CONNECTION_FIELDS: [HeaderName; 6] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Serves a connection to its end.
///
/// # Errors
/// How it broke off.
pub(super) async fn serve<S>(
    stream: S,
    desk: Arc<Desk>,
    limits: &Limits,
    stopping: CancellationToken,
) -> Result<(), h2::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let patience = Duration::from_millis(limits.head_ms);
    let shaken = timeout(patience, builder(limits).handshake(stream)).await;
    let mut connection: Connection<S, Bytes> = shaken.map_err(|_| h2::Error::from(Reason::SETTINGS_TIMEOUT))??;
    let heard = Arc::new(AtomicBool::new(false));
    let interval = Duration::from_millis(limits.idle_ms.max(1000));
    let mut silence = pin!(silence(connection.ping_pong(), interval, Arc::clone(&heard)));
    let mut stopping = pin!(stopping.cancelled_owned());
    let mut stopped = false;
    let mut streams = FuturesUnordered::new();
    poll_fn(|context| {
        if !stopped && stopping.as_mut().poll(context).is_ready() {
            stopped = true;
            connection.graceful_shutdown();
        }
        // all requests that are there, then all answers, then, as h2 wakes this task for it, one write for them together
        loop {
            match connection.poll_accept(context) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    heard.store(true, Ordering::Relaxed);
                    streams.push(exchange(Arc::clone(&desk), request, respond, Arc::clone(&heard)));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => break,
            }
        }
        while let Poll::Ready(Some(())) = streams.poll_next_unpin(context) {}
        // a client that is gone is not worth a goodbye
        silence.as_mut().poll(context).map(Ok)
    })
    .await
}

fn builder(limits: &Limits) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(limits.streams_max)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .max_local_error_reset_streams(Some(RESETS_MAX));
    builder
}

/// Ends when nothing was heard of the client for `interval`, and it does not answer a ping either.
async fn silence(ping: Option<PingPong>, interval: Duration, heard: Arc<AtomicBool>) {
    let Some(mut ping) = ping else { return std::future::pending().await };
    loop {
        tokio::time::sleep(interval).await;
        if heard.swap(false, Ordering::Relaxed) {
            continue;
        }
        let answered = timeout(PONG_WAIT, ping.ping(Ping::opaque())).await;
        if !matches!(answered, Ok(Ok(_))) && !heard.load(Ordering::Relaxed) {
            return;
        }
    }
}

/// One stream: a request and its answer.
async fn exchange(
    desk: Arc<Desk>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    heard: Arc<AtomicBool>,
) {
    let request = request.map(|stream| Upload::new(stream, heard));
    let interim = Interim::default();
    let answered = {
        let mut answer = pin!(desk.answer(Some(&interim), with_length(request)));
        poll_fn(|context| {
            let polled = answer.as_mut().poll(context);
            // a client that has reset the stream wants nothing more of it
            if polled.is_pending() && respond.poll_reset(context).is_ready() {
                return Poll::Ready(None);
            }
            interim.pass_on(&polled, context, |head| {
                let _ = respond.send_informational(informational(head));
            });
            polled.map(Some)
        })
        .await
    };
    if let Some(response) = answered {
        send(response, &mut respond).await;
    }
}

fn informational(head: Head) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    strip(response.headers_mut());
    response
}

fn strip(headers: &mut http::HeaderMap) {
    for name in &CONNECTION_FIELDS {
        headers.remove(name);
    }
}

/// Sends a response, as fast as the client takes it.
async fn send(response: Response<Body>, respond: &mut SendResponse<Bytes>) {
    let (mut head, body) = response.into_parts();
    strip(&mut head.headers);
    if !head.headers.contains_key(header::DATE)
        && let Ok(now) = HeaderValue::try_from(clock::http_date())
    {
        head.headers.insert(header::DATE, now);
    }
    let ended = body.is_end_stream();
    if let Some(length) = body.size_hint().exact().filter(|_| !ended) {
        head.headers.entry(header::CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
    }
    match respond.send_response(Response::from_parts(head, ()), ended) {
        Ok(stream) if !ended => {
            if let Err(error) = send_body(body, stream).await {
                tracing::trace!(%error, "a response over HTTP/2 ended early");
            }
        }
        Ok(_) => {}
        Err(error) => {
            tracing::debug!(%error, "a response that HTTP/2 cannot say");
            respond.send_reset(Reason::INTERNAL_ERROR);
        }
    }
}

/// Sends a body: a piece is asked for only when the one before has a place in the client's window.
async fn send_body(mut body: Body, mut stream: SendStream<Bytes>) -> Result<(), h2::Error> {
    loop {
        let frame = poll_fn(|context| {
            if let Poll::Ready(reset) = stream.poll_reset(context) {
                return Poll::Ready(Err(reset.map_or_else(|error| error, h2::Error::from)));
            }
            Pin::new(&mut body).poll_frame(context).map(Ok)
        })
        .await?;
        let Some(frame) = frame else { return stream.send_data(Bytes::new(), true) };
        let Ok(frame) = frame else {
            // nobody may take a part for the whole
            stream.send_reset(Reason::INTERNAL_ERROR);
            return Ok(());
        };
        match frame.into_data() {
            Ok(piece) => {
                let last = body.is_end_stream();
                if piece.is_empty() && !last {
                    continue;
                }
                if !piece.is_empty() {
                    // one byte holds a place; h2 asks for the rest when it has the piece
                    stream.reserve_capacity(1);
                    capacity(&mut stream).await?;
                }
                stream.send_data(piece, last)?;
                if last {
                    return Ok(());
                }
            }
            Err(frame) => {
                stream.reserve_capacity(0);
                return frame.into_trailers().map_or(Ok(()), |trailers| stream.send_trailers(trailers));
            }
        }
    }
}

/// Waits until the client takes something of this stream.
async fn capacity(stream: &mut SendStream<Bytes>) -> Result<(), h2::Error> {
    while stream.capacity() == 0 {
        let gained = poll_fn(|context| {
            if let Poll::Ready(reset) = stream.poll_reset(context) {
                return Poll::Ready(Err(reset.map_or_else(|error| error, h2::Error::from)));
            }
            stream.poll_capacity(context).map(|gained| gained.unwrap_or(Err(Reason::CANCEL.into())))
        });
        gained.await?;
    }
    Ok(())
}

/// A request's body. One that the client breaks off ends with an error.
pub(super) struct Upload {
    stream: RecvStream,
    left: Option<u64>,
    data_ended: bool,
    heard: Arc<AtomicBool>,
}

/// Notes the length that a request's head states; h2 holds the client to it.
fn with_length(mut request: Request<Upload>) -> Request<Upload> {
    let stated = request.headers().get(header::CONTENT_LENGTH);
    let stated = stated.and_then(|length| length.to_str().ok()?.parse().ok());
    let upload = request.body_mut();
    upload.left = if upload.stream.is_end_stream() { Some(0) } else { stated };
    request
}

impl Upload {
    fn new(stream: RecvStream, heard: Arc<AtomicBool>) -> Self {
        Self { stream, left: None, data_ended: false, heard }
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if !this.data_ended {
            match ready!(this.stream.poll_data(context)) {
                Some(Ok(piece)) => {
                    this.heard.store(true, Ordering::Relaxed);
                    if let Some(left) = &mut this.left {
                        *left = left.saturating_sub(piece.len() as u64);
                    }
                    // what is handed on is bounded by who reads it: the window may open again
                    let _ = this.stream.flow_control().release_capacity(piece.len());
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(Box::new(error)))),
                None => this.data_ended = true,
            }
        }
        let trailers = ready!(this.stream.poll_trailers(context));
        Poll::Ready(trailers.map(|trailers| trailers.map(Frame::trailers)).map_err(BodyError::from).transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
