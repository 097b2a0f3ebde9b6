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
use region_config::{Origin, SiteId};
use rules::origin::{Candidate, Ended};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    Answer, OriginView,
    body::{Bounds, OriginBody},
    check,
    connect::{Connector, Opened},
    error::{OriginError, cause},
    figures::{Figures, OriginCounts},
    guard::{Guard, Place},
    head,
    outgoing::{Copy, Manner, Outgoing, Stage, Upload, UploadWatch, Written},
    pool::{self, Grant, Http1, Pool, Taste},
    resolver::Resolvers,
    secret::Secret,
    site::Seat,
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
    secret: Arc<Secret>,
    connector: Arc<Connector>,
    pub(super) pool: Arc<Pool>,
    pub(super) guard: Arc<Guard>,
    in_flight: AtomicUsize,
    pub(super) figures: Figures,
    /// Ends its tasks when it leaves the configuration and its last request is over.
    _retired: DropGuard,
}

impl Upstream {
    /// Makes the origin ready and starts to look after it.
    pub(super) fn start(
        site: &SiteId,
        config: &Origin,
        resolvers: &Resolvers,
        tasks: &Tasks,
    ) -> Result<Arc<Self>, rustls::Error> {
        let retired = CancellationToken::new();
        let connector = Arc::new(Connector::new(config, resolvers, tasks, retired.clone())?);
        let guard = Guard::new(site, config);
        let secret = Arc::new(Secret::load(config.secret.as_ref()));
        let faults = [connector.fault().map(ToString::to_string), secret.fault().map(str::to_owned)];
        for fault in faults.into_iter().flatten() {
            tracing::warn!(%site, origin = %config.name, %fault, "origin cannot be used");
            guard.note(&fault);
        }
        if let Some(question) = &config.health {
            check::start(config, question, &connector, &secret, &guard, tasks, retired.clone());
        }
        Ok(Arc::new(Self {
            config: config.clone(),
            name: Arc::from(config.name.as_str()),
            host_header: config.host_header.as_deref().and_then(|host| HeaderValue::from_str(host).ok()),
            pool: Pool::new(config.connections_max, connector.multiplexes()),
            secret,
            connector,
            guard,
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
        let seen = self.guard.seen();
        OriginView {
            name: self.config.name.clone(),
            state: seen.state,
            breaker: seen.breaker.as_str(),
            limit: seen.limit,
            latency_us: seen.latency_us,
            in_flight: self.in_flight(),
            connections: self.pool.open(),
            failures: self.figures.failures(),
            last_error: self.guard.last_error(),
        }
    }

    /// What is counted of it.
    pub(super) fn counts(&self) -> OriginCounts {
        self.figures.read()
    }

    /// The origin as the choice among several sees it.
    pub(super) fn candidate(&self, index: usize, now_ms: u64) -> Candidate {
        self.guard.candidate(index, &self.config, self.in_flight(), now_ms)
    }

    /// Closes connections that have been idle for too long, or go to where the origin is no more.
    pub(super) fn sweep(&self, now_ms: u64) {
        self.pool.sweep(now_ms, |address| self.connector.still_has(address));
    }

    /// Sends the request and waits for the response's head. `end` is when the whole request must be over.
    ///
    /// # Errors
    /// [`OriginError`]; if it is one [`OriginError::before_sending`], `outgoing` may go to another origin; if it is
    /// replayable, also after others.
    pub(super) async fn send(self: &Arc<Self>, out: &mut Outgoing, end: Instant) -> Result<Answer, OriginError> {
        let place = self.guard.admit(end).await.inspect_err(|refused| self.figures.failed(refused))?;
        Figures::one(&self.figures.requests);
        let _flight = Flight::begin(self);
        let result = match self.attempt(out, end, Again::May).await {
            Err(Broken::Stale) => {
                Figures::one(&self.figures.retried);
                self.pool.distrust();
                self.attempt(out, end, Again::MayNot).await
            }
            first => first,
        };
        let error = match result {
            Ok((answer, micros)) => {
                self.answered(answer.response.status(), micros, place);
                return Ok(answer);
            }
            Err(Broken::Client(error)) => return Err(error),
            Err(Broken::Stale) => OriginError::Reset("kept connections had died".into()),
            Err(Broken::For(error)) => error,
        };
        if matches!(error, OriginError::FirstByteTimeout | OriginError::TotalTimeout) {
            place.timed_out(self.config.deadlines.first_byte_ms.saturating_mul(1_000));
        }
        self.failed(&error);
        Err(error)
    }

    /// What an answer says about the origin. One that is a server error says nothing about its pace: an origin that
    /// fails fast is not a fast one.
    fn answered(&self, status: StatusCode, micros: u64, place: Place) {
        if matches!(status.as_u16(), 500 | 502..=504) {
            self.guard.ended(Ended::ServerError);
        } else {
            place.answered(micros);
            self.guard.ended(Ended::Well);
        }
    }

    /// Counts a failure, unless it is the client's or the caller's, and keeps it for the operator.
    fn failed(&self, error: &OriginError) {
        if matches!(error, OriginError::UploadBroken(_) | OriginError::Unsendable(_)) {
            return;
        }
        self.figures.failed(error);
        self.guard.note(&error.to_string());
        if let Some(ended) = error.ended() {
            self.guard.ended(ended);
        }
    }

    /// One try on one connection. With the answer comes the time to its head, in us.
    async fn attempt(
        self: &Arc<Self>,
        out: &mut Outgoing,
        end: Instant,
        again: Again,
    ) -> Result<(Answer, u64), Broken> {
        self.secret.field()?;
        let mut way = self.way(out, end).await?;
        let (host, version) = (self.host_header.as_ref(), way.held.version());
        let manner = Manner { host, secret: self.secret.field()?, tls: self.config.tls, version };
        let may = out.replayable() || (way.kept && again == Again::May);
        let copy = if may { Copy::Keep } else { Copy::Last };
        let conditional = out.conditional();
        let method = out.method().clone();
        let Written { request, watch } = out.write(manner, copy)?;
        let request_unix_ms = clock::unix_ms();
        let sent = Instant::from_std(clock::instant());
        let result = self.head(&mut way.held, request, &watch, end).await;
        let response = match result {
            Ok(response) => response,
            Err(Failure::Error(error @ OriginError::TotalTimeout)) if watch.stage().0 == Stage::Client => {
                return Err(Broken::Client(error));
            }
            Err(failure) => return Err(self.broken(failure, &way, out, again, sent).await),
        };
        let micros = Instant::from_std(clock::instant()).saturating_duration_since(sent).as_micros();
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
        let lease = Lease { held: way.held, flight: Flight::begin(self), seat: None };
        let body = OriginBody::new(body, lease, watch, &bounds);
        let origin = Arc::clone(&self.name);
        let response = Response::from_parts(parts, body);
        let micros = u64::try_from(micros).unwrap_or(u64::MAX);
        Ok((Answer { response, origin, request_unix_ms, response_unix_ms }, micros))
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
            let opened = self.connector.open(Some(slot), end).await?;
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
    /// By the client's own pace.
    Client(OriginError),
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
    Place(pool::Place),
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
    /// The site's share of the node.
    seat: Option<Seat>,
}

impl Lease {
    /// Keeps the site's seat taken for as long as the connection is held.
    pub(super) fn sit(&mut self, seat: Seat) {
        self.seat = Some(seat);
    }

    /// The response is whole: the connection may serve another request, if the origin is still where it goes to.
    pub(super) fn keep(self) {
        let upstream = &self.flight.0;
        if let Held::Own(own) = self.held
            && !own.send.is_closed()
            && upstream.connector.still_has(own.peer)
        {
            upstream.pool.keep(own);
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
