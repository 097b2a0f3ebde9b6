//! One origin: a request's way to it and the response's way back, within its deadlines.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::{body::Incoming, client::conn::TrySendError};
use parking_lot::Mutex;
use region_config::{Origin, SiteId};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    Answer, OriginView,
    body::{Bounds, OriginBody},
    check,
    connect::{Connector, Opened},
    error::{OriginError, cause},
    figures::{Figures, OriginCounts},
    head,
    health::{Answered, OriginState, Verdict},
    outgoing::{Copy, Manner, Outgoing, Stage, Upload, UploadWatch, Written},
    pool::{Grant, Http1, Place, Pool, Taste},
};
use crate::{clock, tasks::Tasks};

/// For how long a kept connection may still be settling when the next request takes it.
const SETTLE: Duration = Duration::from_millis(50);

/// A kept connection that had died shows it so soon after a request was written to it; what takes longer is an origin
/// that broke off the request itself, and is not asked again.
const STALE_SHOWS: Duration = Duration::from_secs(1);

/// For how long to wait for the end of an HTTP/2 connection after a request on it failed.
const GONE_SHOWS: Duration = Duration::from_millis(50);

/// One origin of a site.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) config: Origin,
    pub(super) name: Arc<str>,
    host_header: Option<HeaderValue>,
    connector: Arc<Connector>,
    pub(super) pool: Arc<Pool>,
    pub(super) health: Arc<Health>,
    in_flight: AtomicUsize,
    figures: Figures,
    /// Ends its tasks when it leaves the configuration and its last request is over.
    _retired: DropGuard,
}

impl Upstream {
    /// Makes the origin ready and starts to look after it.
    pub(super) fn start(site: &SiteId, config: &Origin, tasks: &Tasks) -> Result<Arc<Self>, rustls::Error> {
        let retired = CancellationToken::new();
        let connector = Arc::new(Connector::new(config, tasks, retired.clone())?);
        let health = Arc::new(Health::new(site, config));
        if let Some(fault) = connector.fault() {
            tracing::warn!(%site, origin = %config.name, %fault, "origin cannot be used");
            health.note(&fault.to_string());
        }
        if let Some(question) = &config.health {
            check::start(config, question, &connector, &health, tasks, retired.clone());
        }
        Ok(Arc::new(Self {
            config: config.clone(),
            name: Arc::from(config.name.as_str()),
            host_header: config.host_header.as_deref().and_then(|host| HeaderValue::from_str(host).ok()),
            pool: Pool::new(config.connections_max, connector.multiplexes()),
            connector,
            health,
            in_flight: AtomicUsize::new(0),
            figures: Figures::default(),
            _retired: retired.drop_guard(),
        }))
    }

    /// Requests it is busy with, to the end of their bodies.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// What the operator sees of it.
    pub(super) fn view(&self) -> OriginView {
        OriginView {
            name: self.config.name.clone(),
            state: self.health.state(),
            in_flight: self.in_flight(),
            connections: self.pool.open(),
            failures: self.figures.failures(),
            last_error: self.health.last_error.lock().clone(),
        }
    }

    /// What is counted of it.
    pub(super) fn counts(&self) -> OriginCounts {
        self.figures.read()
    }

    /// Sends the request and waits for the response's head. `started` is when the whole request began.
    ///
    /// # Errors
    /// [`OriginError`]; if it is one [`OriginError::before_sending`], `outgoing` may go to another origin.
    pub(super) async fn send(self: &Arc<Self>, out: &mut Outgoing, started: Instant) -> Result<Answer, OriginError> {
        Figures::one(&self.figures.requests);
        let end = started + Duration::from_millis(self.config.deadlines.total_ms);
        let _flight = Flight::begin(self);
        let result = match self.attempt(out, end, Again::May).await {
            Err(Broken::Stale) => {
                Figures::one(&self.figures.retried);
                self.pool.distrust();
                self.attempt(out, end, Again::MayNot).await
            }
            first => first,
        };
        result.map_err(|broken| {
            let error = match broken {
                Broken::Stale => OriginError::Reset("kept connections had died".into()),
                Broken::For(error) => error,
            };
            self.failed(&error);
            error
        })
    }

    /// Counts a failure and keeps it for the operator, unless it is the client's or the caller's.
    fn failed(&self, error: &OriginError) {
        if !matches!(error, OriginError::UploadBroken(_) | OriginError::Unsendable(_)) {
            self.figures.failed(error);
            self.health.note(&error.to_string());
        }
    }

    /// One try on one connection.
    async fn attempt(self: &Arc<Self>, out: &mut Outgoing, end: Instant, again: Again) -> Result<Answer, Broken> {
        let mut way = self.way(out, end).await?;
        let manner = Manner { host: self.host_header.as_ref(), tls: self.config.tls, version: way.held.version() };
        let copy = if way.kept && again == Again::May { Copy::Keep } else { Copy::Last };
        let conditional = out.conditional();
        let method = out.method().clone();
        let Written { request, watch } = out.write(manner, copy)?;
        let request_unix_ms = clock::unix_ms();
        let sent = Instant::from_std(clock::instant());
        let result = self.head(&mut way.held, request, &watch, end).await;
        let response = match result {
            Ok(response) => response,
            Err(failure) => return Err(self.broken(failure, &way, out, again, sent).await),
        };
        let response_unix_ms = clock::unix_ms();
        let (mut parts, body) = response.into_parts();
        let length = head::check(parts.status, &mut parts.headers, conditional).map_err(OriginError::from)?;
        parts.extensions = http::Extensions::new();
        parts.version = Version::HTTP_11;
        let bodiless = method == Method::HEAD
            || parts.status == StatusCode::NO_CONTENT
            || parts.status == StatusCode::NOT_MODIFIED;
        let between = Duration::from_millis(self.config.deadlines.between_bytes_ms);
        let bounds = Bounds { between, end, length: if bodiless { None } else { length } };
        let lease = Lease { held: way.held, flight: Flight::begin(self) };
        let body = OriginBody::new(body, lease, watch, &bounds);
        let origin = Arc::clone(&self.name);
        Ok(Answer { response: Response::from_parts(parts, body), origin, request_unix_ms, response_unix_ms })
    }

    /// A connection: a kept one, a place on a shared one, or one newly opened.
    async fn way(&self, out: &Outgoing, end: Instant) -> Result<Way, OriginError> {
        let taste = if out.replayable() { Taste::Any } else { Taste::Young };
        let wait = Duration::from_millis(self.config.deadlines.connect_ms);
        let deadline = end.min(Instant::from_std(clock::instant()) + wait);
        loop {
            let slot = match self.pool.acquire(taste, deadline).await? {
                Grant::Open(slot) => slot,
                Grant::Shared(place) => {
                    Figures::one(&self.figures.reused);
                    return Ok(Way { held: Held::Place(place), kept: true });
                }
                Grant::Kept(mut own) => {
                    let settled = own.send.is_ready()
                        || tokio::time::timeout(SETTLE, own.send.ready()).await.is_ok_and(|ready| ready.is_ok());
                    if !settled {
                        continue;
                    }
                    Figures::one(&self.figures.reused);
                    return Ok(Way { held: Held::Own(own), kept: true });
                }
            };
            let opened = self.connector.open(Some(slot), end).await;
            self.health.connected(&opened);
            let opened = opened?;
            Figures::one(&self.figures.opened);
            let held = match opened {
                Opened::Own(own) => {
                    self.pool.alone();
                    Held::Own(own)
                }
                Opened::Shared(shared) => Held::Place(self.pool.share(shared)),
            };
            return Ok(Way { held, kept: false });
        }
    }

    /// Sends and waits for the final head: `first_byte_ms` from the request's last byte, and never beyond `end`.
    async fn head(
        &self,
        held: &mut Held,
        request: Request<Upload>,
        watch: &UploadWatch,
        end: Instant,
    ) -> Result<Response<Incoming>, Failure> {
        let first_byte = Duration::from_millis(self.config.deadlines.first_byte_ms);
        let answer = held.send(request);
        tokio::pin!(answer);
        let mut limit = Instant::from_std(clock::instant()) + first_byte;
        loop {
            match tokio::time::timeout_at(limit.min(end), answer.as_mut()).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(error)) if watch.stage().0 == Stage::Broken => {
                    return Err(Failure::Error(OriginError::UploadBroken(cause(&error.into_error()))));
                }
                Ok(Err(error)) => return Err(Failure::from(error)),
                Err(_) => {}
            }
            let now = Instant::from_std(clock::instant());
            if now >= end {
                return Err(Failure::Error(OriginError::TotalTimeout));
            }
            limit = match watch.stage() {
                (Stage::Client, _) => now + first_byte,
                (Stage::Origin | Stage::Done | Stage::Broken, since_ms) => {
                    let waited = Duration::from_millis(clock::monotonic_ms().saturating_sub(since_ms));
                    // an empty request has been waiting since it was sent, which is what `limit` was
                    if since_ms == 0 || waited >= first_byte {
                        return Err(Failure::Error(OriginError::FirstByteTimeout));
                    }
                    now + (first_byte - waited)
                }
            };
        }
    }

    /// What a failure on a connection means: was it the connection that had died before?
    async fn broken(&self, failure: Failure, way: &Way, out: &mut Outgoing, again: Again, sent: Instant) -> Broken {
        let may = again == Again::May && way.kept;
        match failure {
            Failure::Unsent(request) => {
                out.restore(*request);
                if may { Broken::Stale } else { Broken::For(OriginError::Reset("closed before it was used".into())) }
            }
            Failure::Error(error @ OriginError::Reset(_)) if may && out.replayable() => {
                let soon = Instant::from_std(clock::instant()).saturating_duration_since(sent) < STALE_SHOWS;
                if soon && way.held.gone().await {
                    out.rewind();
                    return Broken::Stale;
                }
                Broken::For(error)
            }
            Failure::Error(error) => Broken::For(error),
        }
    }
}

impl Drop for Upstream {
    /// A kept connection's driver holds the pool that holds the connection: that circle is cut here.
    fn drop(&mut self) {
        self.pool.close();
    }
}

/// Whether a request may be sent a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    May,
    MayNot,
}

/// How a try ended badly.
#[derive(Debug)]
enum Broken {
    /// On a kept connection that had died; nothing has come of it, and it may be sent again.
    Stale,
    For(OriginError),
}

impl From<OriginError> for Broken {
    fn from(error: OriginError) -> Self {
        Self::For(error)
    }
}

/// How sending failed.
enum Failure {
    /// Not a byte of it was written.
    Unsent(Box<Request<Upload>>),
    Error(OriginError),
}

impl From<TrySendError<Request<Upload>>> for Failure {
    fn from(mut error: TrySendError<Request<Upload>>) -> Self {
        match error.take_message() {
            Some(request) => Self::Unsent(Box::new(request)),
            None => Self::Error(OriginError::from_hyper(&error.into_error())),
        }
    }
}

/// A connection found for a request.
struct Way {
    held: Held,
    /// Whether it had served another request before.
    kept: bool,
}

/// The connection that a request is on.
#[derive(Debug)]
enum Held {
    Own(Http1),
    Place(Place),
}

impl Held {
    fn version(&self) -> Version {
        match self {
            Self::Own(_) => Version::HTTP_11,
            Self::Place(_) => Version::HTTP_2,
        }
    }

    async fn send(&mut self, request: Request<Upload>) -> Result<Response<Incoming>, TrySendError<Request<Upload>>> {
        match self {
            Self::Own(own) => own.send.try_send_request(request).await,
            Self::Place(place) => place.connection.send.clone().try_send_request(request).await,
        }
    }

    /// Whether the connection itself has ended, and not only one stream on it.
    async fn gone(&self) -> bool {
        match self {
            Self::Own(_) => true,
            Self::Place(place) => tokio::time::timeout(GONE_SHOWS, place.connection.gone.cancelled()).await.is_ok(),
        }
    }
}

/// A connection in the hands of a response's body. Dropped, it closes (or its stream is reset).
#[derive(Debug)]
pub(super) struct Lease {
    held: Held,
    flight: Flight,
}

impl Lease {
    /// The response is whole: the connection may serve another request.
    pub(super) fn keep(self) {
        if let Held::Own(own) = self.held
            && !own.send.is_closed()
        {
            self.flight.0.pool.keep(own);
        }
    }

    /// The response will never be whole.
    pub(super) fn failed(self, error: &OriginError) {
        self.flight.0.failed(error);
    }

    /// Whether others use the connection too.
    pub(super) fn shared(&self) -> bool {
        matches!(self.held, Held::Place(_))
    }
}

/// Counts a request as busy for as long as it lives.
#[derive(Debug)]
struct Flight(Arc<Upstream>);

impl Flight {
    fn begin(upstream: &Arc<Upstream>) -> Self {
        upstream.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(upstream))
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is known of an origin's health, shared with the task that asks for it.
#[derive(Debug)]
pub(super) struct Health {
    site: SiteId,
    origin: String,
    verdict: Mutex<Verdict>,
    last_error: Mutex<Option<String>>,
}

impl Health {
    fn new(site: &SiteId, config: &Origin) -> Self {
        let verdict = Mutex::new(Verdict::new(config.health.as_ref()));
        Self { site: site.clone(), origin: config.name.clone(), verdict, last_error: Mutex::new(None) }
    }

    pub(super) fn state(&self) -> OriginState {
        self.verdict.lock().state()
    }

    pub(super) fn offered(&self, now_ms: u64) -> bool {
        self.verdict.lock().offered(now_ms)
    }

    pub(super) fn chosen(&self, now_ms: u64) {
        self.verdict.lock().handle_chosen(now_ms);
    }

    /// A request tried to open a connection.
    pub(super) fn connected(&self, opened: &Result<Opened, OriginError>) {
        match opened {
            Ok(_) => self.tell(Verdict::handle_connected),
            Err(_) => self.tell(|verdict| verdict.handle_connect_failure(clock::monotonic_ms())),
        }
    }

    /// The active check was answered.
    pub(super) fn answered(&self, answer: &Result<(), String>) {
        if let Err(why) = answer {
            self.note(why);
        }
        self.tell(|verdict| verdict.handle_answer(if answer.is_ok() { Answered::Well } else { Answered::Badly }));
    }

    /// Keeps the last error for the operator.
    pub(super) fn note(&self, error: &str) {
        *self.last_error.lock() = Some(error.to_owned());
    }

    fn tell(&self, event: impl FnOnce(&mut Verdict)) {
        let (before, after) = {
            let mut verdict = self.verdict.lock();
            let before = verdict.state();
            event(&mut verdict);
            (before, verdict.state())
        };
        if before != after {
            let why = self.last_error.lock().clone().unwrap_or_default();
            tracing::warn!(site = %self.site, origin = %self.origin, state = after.as_str(), %why, "origin health");
        }
    }
}
