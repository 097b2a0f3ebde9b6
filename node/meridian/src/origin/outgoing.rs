//! The request as it goes upstream: strictly well formed whatever came in (RFC 9112, RFC 9113), with framing of our
//! own, and a body that either is whole or breaks the request off.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{
    Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header,
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::BoxBody;
use tokio::sync::oneshot;

use super::error::OriginError;
use crate::clock;

/// The error of a body that comes from somewhere else.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request's body: empty, or the client's, streaming.
///
/// A body that breaks off must end with an error; one that just ends is taken as whole. (Mind hyper's HTTP/2: a stream
/// that the client resets with NO_ERROR just ends; `is_end_stream` tells the difference.)
pub type RequestBody = BoxBody<Bytes, BoxError>;

/// Fields that belong to one connection or to framing, which is ours to say (RFC 9110 section 7.6.1).
const OURS: [HeaderName; 9] = [
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::EXPECT,
    HeaderName::from_static("keep-alive"),
];

/// A request taken apart, ready to be written for one origin or, if that cannot be reached, for another.
#[derive(Debug)]
pub(super) struct Outgoing {
    method: Method,
    target: PathAndQuery,
    /// The client's host.
    host: Option<HeaderValue>,
    headers: HeaderMap,
    /// What the caller wants of hyper: to be told of interim responses.
    extensions: Extensions,
    body: Option<RequestBody>,
    empty: bool,
}

/// How the origin wants to be spoken to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner<'a> {
    /// `Host` from the configuration; none means the client's.
    pub(super) host: Option<&'a HeaderValue>,
    /// A field by which the origin knows us.
    pub(super) secret: Option<&'a (HeaderName, HeaderValue)>,
    /// For HTTP/2's `:scheme`.
    pub(super) tls: bool,
    /// HTTP/1.1 or HTTP/2.
    pub(super) version: Version,
}

/// Whether this is the last time that a request is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Copy {
    /// It may have to be written again: keep the fields.
    Keep,
    /// It will not.
    Last,
}

impl Outgoing {
    /// Takes a request apart. The caller has stripped what is hop by hop.
    ///
    /// # Errors
    /// [`OriginError::Unsendable`] for methods and targets that never go to an origin.
    pub(super) fn parse(request: Request<RequestBody>) -> Result<Self, OriginError> {
        let (parts, body) = request.into_parts();
        debug_assert!(!parts.headers.contains_key(header::CONNECTION), "hop-by-hop fields are stripped by the spine");
        if parts.method == Method::CONNECT || parts.method == Method::TRACE {
            return Err(OriginError::Unsendable("the method never goes to an origin"));
        }
        let slash = || PathAndQuery::from_static("/");
        let target = parts.uri.path_and_query().cloned().unwrap_or_else(slash);
        let asterisk = target == "*" && parts.method == Method::OPTIONS;
        if !asterisk && !target.as_str().starts_with('/') {
            return Err(OriginError::Unsendable("the target does not begin with `/`"));
        }
        // the authority of an absolute target replaces Host (RFC 9112 section 3.2.2)
        let authority = parts.uri.authority().and_then(|a| HeaderValue::from_str(a.as_str()).ok());
        let host = authority.or_else(|| parts.headers.get(header::HOST).cloned());
        let mut headers = parts.headers;
        for name in OURS {
            headers.remove(name);
        }
        let empty = body.is_end_stream() || body.size_hint().exact() == Some(0);
        let extensions = parts.extensions;
        Ok(Self { method: parts.method, target, host, headers, extensions, body: Some(body), empty })
    }

    /// Whether it may be sent a second time although the first may have arrived: idempotent (RFC 9110 section 9.2.2),
    /// and without a body that is gone.
    pub(super) fn replayable(&self) -> bool {
        self.empty && self.method.is_idempotent()
    }

    /// Whether a 304 may answer it (RFC 9110 section 13.1).
    pub(super) fn conditional(&self) -> bool {
        self.headers.contains_key(header::IF_NONE_MATCH) || self.headers.contains_key(header::IF_MODIFIED_SINCE)
    }

    /// Its method.
    pub(super) fn method(&self) -> &Method {
        &self.method
    }

    /// Writes the request down for a connection.
    ///
    /// # Errors
    /// [`OriginError::Unsendable`] without a valid host, or when the body is gone already.
    pub(super) fn write(&mut self, manner: Manner<'_>, copy: Copy) -> Result<Written, OriginError> {
        let host = manner.host.or(self.host.as_ref()).ok_or(OriginError::Unsendable("no host"))?;
        let authority = Authority::try_from(host.as_bytes()).map_err(|_| OriginError::Unsendable("bad host"))?;
        if authority.as_str().contains('@') {
            return Err(OriginError::Unsendable("user information in the host"));
        }
        let host = host.clone();
        let body = self.body.take().ok_or(OriginError::Unsendable("its body is gone"))?;
        let length = if self.empty { Some(0) } else { body.size_hint().exact() };
        let headers = match copy {
            Copy::Keep => self.headers.clone(),
            Copy::Last => std::mem::take(&mut self.headers),
        };
        let (upload, watch) = Upload::new(body, length, self.empty);
        let mut request = Request::new(upload);
        *request.method_mut() = self.method.clone();
        *request.headers_mut() = headers;
        *request.extensions_mut() = self.extensions.clone();
        frame(&mut request, length, manner.version);
        if let Some((name, value)) = manner.secret {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        if manner.version == Version::HTTP_2 {
            *request.uri_mut() = self.absolute(authority, manner.tls)?;
            *request.version_mut() = Version::HTTP_2;
        } else {
            *request.uri_mut() = Uri::from(self.target.clone());
            request.headers_mut().insert(header::HOST, host);
        }
        Ok(Written { request, watch })
    }

    /// The target with scheme and authority, from which HTTP/2 takes its pseudo fields (RFC 9113 section 8.3.1).
    fn absolute(&self, authority: Authority, tls: bool) -> Result<Uri, OriginError> {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(if tls { Scheme::HTTPS } else { Scheme::HTTP });
        parts.authority = Some(authority);
        parts.path_and_query = Some(self.target.clone());
        Uri::from_parts(parts).map_err(|_| OriginError::Unsendable("the target has no HTTP/2 form"))
    }

    /// Takes back a request that was never sent.
    pub(super) fn restore(&mut self, request: Request<Upload>) {
        self.body = Some(request.into_body().inner);
    }

    /// Makes an empty request writable again.
    pub(super) fn rewind(&mut self) {
        if self.empty && self.body.is_none() {
            self.body = Some(empty_body());
        }
    }
}

/// The body of a request that has none.
#[must_use]
pub fn empty_body() -> RequestBody {
    BoxBody::new(http_body_util::BodyExt::map_err(http_body_util::Empty::new(), |never| match never {}))
}

/// Says how the body is framed (RFC 9112 section 6): by its length, or chunked on HTTP/1.1.
fn frame<B>(request: &mut Request<B>, length: Option<u64>, version: Version) {
    let expects_body = matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH);
    let headers = request.headers_mut();
    match length {
        Some(0) if !expects_body => {}
        Some(length) => drop(headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length))),
        None if version == Version::HTTP_2 => {}
        None => drop(headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"))),
    }
}

/// A request as written, and the watch over its body.
pub(super) struct Written {
    pub(super) request: Request<Upload>,
    pub(super) watch: UploadWatch,
}

/// Where an upload stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Waiting for the client: its own limits apply, the origin's do not.
    Client,
    /// Waiting for the origin to take what it was given.
    Origin,
    /// All of it has been given to the connection.
    Done,
    /// It broke off: the client's fault, whatever the connection says of it.
    Broken,
}

/// Shared by an upload and whoever waits for the response.
#[derive(Debug)]
struct Progress {
    stage: AtomicU8,
    since_ms: AtomicU64,
}

impl Progress {
    fn set(&self, stage: Stage) {
        self.since_ms.store(clock::monotonic_ms(), Ordering::Relaxed);
        self.stage.store(stage as u8, Ordering::Release);
    }
}

/// Watches an upload; when it is dropped, an upload that is still going on breaks off.
#[derive(Debug)]
pub(super) struct UploadWatch {
    progress: Option<Arc<Progress>>,
    _wanted: Option<oneshot::Sender<()>>,
}

impl UploadWatch {
    /// Where the upload stands, and since when by [`clock::monotonic_ms`].
    pub(super) fn stage(&self) -> (Stage, u64) {
        let Some(progress) = &self.progress else { return (Stage::Done, 0) };
        let stage = match progress.stage.load(Ordering::Acquire) {
            0 => Stage::Client,
            1 => Stage::Origin,
            2 => Stage::Done,
            _ => Stage::Broken,
        };
        (stage, progress.since_ms.load(Ordering::Relaxed))
    }
}

/// A request body on its way to the origin. Pulled by the connection, so that the origin's pace is the client's.
pub(super) struct Upload {
    inner: RequestBody,
    /// What is still to come, if its length was said.
    left: Option<u64>,
    progress: Option<Arc<Progress>>,
    unwanted: Option<oneshot::Receiver<()>>,
}

impl Upload {
    fn new(inner: RequestBody, length: Option<u64>, empty: bool) -> (Self, UploadWatch) {
        if empty {
            let upload = Self { inner, left: Some(0), progress: None, unwanted: None };
            return (upload, UploadWatch { progress: None, _wanted: None });
        }
        let progress = Progress { stage: AtomicU8::new(0), since_ms: AtomicU64::new(clock::monotonic_ms()) };
        let progress = Some(Arc::new(progress));
        let (wanted, unwanted) = oneshot::channel();
        let upload = Self { inner, left: length, progress: progress.clone(), unwanted: Some(unwanted) };
        (upload, UploadWatch { progress, _wanted: Some(wanted) })
    }

    fn note(&self, stage: Stage) {
        if let Some(progress) = &self.progress {
            progress.set(stage);
        }
    }

    /// Keeps the promise made by `Content-Length`: never more than it, and never an end before it.
    fn account(&mut self, bytes: usize) -> Result<(), BoxError> {
        let Some(left) = &mut self.left else { return Ok(()) };
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        *left = left.checked_sub(bytes).ok_or("the body is longer than its Content-Length")?;
        Ok(())
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let frame = ready!(this.poll_inner(cx));
        if matches!(frame, Some(Err(_))) {
            this.note(Stage::Broken);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.progress.is_none() || (self.left.is_none_or(|left| left == 0) && self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Upload {
    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self;
        if let Some(unwanted) = &mut this.unwanted
            && Pin::new(unwanted).poll(cx).is_ready()
        {
            this.unwanted = None;
            return Poll::Ready(Some(Err("nobody waits for the response any more".into())));
        }
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Pending => {
                this.note(Stage::Client);
                Poll::Pending
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error))),
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => {
                    this.account(data.len())?;
                    this.note(if this.is_end_stream() { Stage::Done } else { Stage::Origin });
                    Poll::Ready(Some(Ok(Frame::data(data))))
                }
                // trailers end a body; they are not forwarded (RFC 9110 section 6.5.1)
                Err(_) => Poll::Ready(this.ended()),
            },
            Poll::Ready(None) => Poll::Ready(this.ended()),
        }
    }

    fn ended(&mut self) -> Option<Result<Frame<Bytes>, BoxError>> {
        if self.left.is_some_and(|left| left > 0) {
            return Some(Err("the body is shorter than its Content-Length".into()));
        }
        self.note(Stage::Done);
        None
    }
}
