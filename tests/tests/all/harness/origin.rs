//! A scripted origin: it answers as it is told, and remembers everything that it was asked.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::sync::{mpsc, oneshot};

use super::stamped;

/// Where the versioned objects are: `/o/<length>/<name>`.
const OBJECTS: &str = "/o/";

/// A request as the origin saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    /// A field, or nothing.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

/// What the origin answers.
#[derive(Debug)]
pub(crate) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Content,
}

impl Answer {
    /// 200 with a body.
    pub(crate) fn ok(body: impl Into<Bytes>) -> Self {
        Self { status: StatusCode::OK, headers: HeaderMap::new(), body: Content::Whole(Some(body.into())) }
    }

    /// A status without a body.
    pub(crate) fn status(status: u16) -> Self {
        Self { status: StatusCode::from_u16(status).unwrap(), ..Self::ok("") }
    }

    /// The same with a field.
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        self
    }

    /// The same with a body that is made while it is sent: `length` bytes, of which `make` gives those from one offset to
    /// before another.
    pub(crate) fn made(self, length: u64, make: impl Fn(u64, u64) -> Bytes + Send + 'static) -> Self {
        Self { body: Content::Made { at: 0, length, make: Box::new(make) }, ..self }
    }

    fn poured(pieces: mpsc::UnboundedReceiver<Piece>) -> Self {
        Self { body: Content::Poured(pieces), ..Self::ok("") }
    }
}

/// A piece of a poured body, or its breaking off.
type Piece = Result<Bytes, BrokenOff>;

/// A body that the test pours piece by piece; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Pour(mpsc::UnboundedSender<Piece>);

impl Pour {
    /// Sends a piece. Nobody listening is no fault: that is for the test to find.
    pub(crate) fn piece(&self, bytes: impl Into<Bytes>) {
        let _ = self.0.send(Ok(bytes.into()));
    }

    /// Breaks the body off: the connection is cut.
    pub(crate) fn break_off(self) {
        let _ = self.0.send(Err(BrokenOff));
    }
}

/// The requests to a path whose bodies the test pours.
#[derive(Debug)]
pub(crate) struct Pours(mpsc::UnboundedReceiver<Pour>);

impl Pours {
    /// The next request's body.
    pub(crate) async fn next(&mut self) -> Pour {
        let next = tokio::time::timeout(super::client::PATIENCE, self.0.recv()).await;
        next.expect("the origin is asked in time").unwrap()
    }

    /// Whether another request has come.
    pub(crate) fn has_next(&mut self) -> bool {
        self.0.try_recv().is_ok()
    }
}

type Script = Arc<dyn Fn(&Seen) -> Answer + Send + Sync>;

#[derive(Default)]
struct State {
    scripts: Mutex<HashMap<String, Script>>,
    seen: Mutex<Vec<Seen>>,
    version: Arc<AtomicU64>,
    failing: Mutex<Option<Failing>>,
    forgets: AtomicBool,
}

/// How the origin fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failing {
    /// Every connection is cut before an answer.
    Cut,
    /// Every answer has this status.
    Status(u16),
}

/// An origin on a port of its own, on a thread of its own.
pub(crate) struct Origin {
    address: SocketAddr,
    state: Arc<State>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Origin {
    /// Starts one. Paths without a script are 404, but for `/o/<length>/<name>`: objects of that length, good for an hour,
    /// with the tags `all` and `<name>`, that say which version they are.
    pub(crate) fn start() -> Self {
        let state = Arc::new(State::default());
        state.version.store(1, Ordering::SeqCst);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let serving = Arc::clone(&state);
        let thread = thread::Builder::new().name("origin".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    () = serve(listener, serving) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, state, stop: Some(stop), thread: Some(thread.unwrap()) }
    }

    /// Where it listens, as a config names it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers a path by a script.
    pub(crate) fn on(&self, path: &str, script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) {
        self.state.scripts.lock().unwrap().insert(path.to_owned(), Arc::new(script));
    }

    /// Answers a path with bodies that the test pours, under the fields of `head`.
    pub(crate) fn pours(&self, path: &str, head: impl Fn(Answer) -> Answer + Send + Sync + 'static) -> Pours {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.on(path, move |_| {
            let (piece, pieces) = mpsc::unbounded_channel();
            let _ = sender.send(Pour(piece));
            head(Answer::poured(pieces))
        });
        Pours(receiver)
    }

    /// How often a path was asked for, whatever the method and query.
    pub(crate) fn count(&self, path: &str) -> usize {
        self.seen().iter().filter(|seen| path_of(&seen.target) == path).count()
    }

    /// Everything that it was asked.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// The version of its objects; 1 at the start.
    pub(crate) fn version(&self) -> u64 {
        self.state.version.load(Ordering::SeqCst)
    }

    /// From now on all objects are another version, which is returned.
    pub(crate) fn publish(&self) -> u64 {
        self.state.version.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The version of its objects, for tasks that publish.
    pub(crate) fn versions(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.state.version)
    }

    /// Remembers no request from now on: for tests of minutes.
    pub(crate) fn forget(&self) {
        self.state.forgets.store(true, Ordering::SeqCst);
    }

    /// Fails from now on, or not any more.
    pub(crate) fn fail(&self, failing: Option<Failing>) {
        *self.state.failing.lock().unwrap() = failing;
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn path_of(target: &str) -> &str {
    target.split('?').next().unwrap_or(target)
}

async fn serve(listener: tokio::net::TcpListener, state: Arc<State>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        if *state.failing.lock().unwrap() == Some(Failing::Cut) {
            continue;
        }
        let _ = stream.set_nodelay(true);
        let state = Arc::clone(&state);
        let service = service_fn(move |request| answer(Arc::clone(&state), request));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Content>, BrokenOff> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| BrokenOff)?.to_bytes();
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let seen = Seen { method: parts.method, target, headers: parts.headers, body };
    // what is noted first is what the version is read after: a request that was seen is never answered older
    if !state.forgets.load(Ordering::SeqCst) {
        state.seen.lock().unwrap().push(seen.clone());
    }
    let failing = *state.failing.lock().unwrap();
    let answer = match failing {
        Some(Failing::Cut) => return Err(BrokenOff),
        Some(Failing::Status(status)) => Answer::status(status),
        None => {
            let script = state.scripts.lock().unwrap().get(path_of(&seen.target)).cloned();
            script.map_or_else(|| object(&state, &seen), |script| script(&seen))
        }
    };
    let mut response = Response::new(answer.body);
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    Ok(response)
}

/// A versioned object.
fn object(state: &State, seen: &Seen) -> Answer {
    let path = path_of(&seen.target);
    let parts = path.strip_prefix(OBJECTS).and_then(|rest| rest.split_once('/'));
    let Some((length, name)) = parts.and_then(|(length, name)| Some((length.parse().ok()?, name))) else {
        return Answer::status(404).with("cache-control", "no-store");
    };
    let version = state.version.load(Ordering::SeqCst);
    Answer::ok(stamped::body(&seen.target, version, length))
        .with("cache-control", "public, max-age=3600")
        .with("etag", &format!("\"v{version}\""))
        .with("surrogate-key", &format!("all {name}"))
}

/// The body breaks off: hyper cuts the connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BrokenOff;

impl std::fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken off")
    }
}

impl std::error::Error for BrokenOff {}

/// The bytes from one offset to before another.
type Make = Box<dyn Fn(u64, u64) -> Bytes + Send>;

enum Content {
    Whole(Option<Bytes>),
    Poured(mpsc::UnboundedReceiver<Piece>),
    Made { at: u64, length: u64, make: Make },
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Content")
    }
}

/// What is made at a time, in bytes.
const MADE_BYTES: u64 = 64 * 1024;

impl HttpBody for Content {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match &mut *self {
            Self::Whole(bytes) => std::task::Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Poured(pieces) => pieces.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data))),
            Self::Made { at, length, .. } if at == length => std::task::Poll::Ready(None),
            Self::Made { at, length, make } => {
                let (from, to) = (*at, (*at + MADE_BYTES).min(*length));
                *at = to;
                std::task::Poll::Ready(Some(Ok(Frame::data(make(from, to)))))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Poured(_) => SizeHint::default(),
            Self::Made { at, length, .. } => SizeHint::with_exact(length - at),
        }
    }
}
