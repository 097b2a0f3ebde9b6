//! Fetching what is not here: one fetch per key, shared by all that wait, stored if it may be.

pub mod filing;
pub mod flight;
pub mod owner;
pub mod upstream;

use std::sync::{Arc, atomic::AtomicU64};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response, StatusCode, header};
use http_body_util::BodyExt;
use region_config::{NodeId, Policy};
use rules::{
    caching::{
        self, Exchange, Freshness, Groups, Reason, SearchVariance, Storing, Tags, VarySpec, conditional,
        fields::surrogate_tags,
    },
    key::{self, BodyId, Key},
    purge::{Position, Standing},
};
use tokio::sync::oneshot;
use wire::entry::{Body, Entry, Object};

use self::{
    filing::Filed,
    flight::{BrokenOff, Failure, Flight, Head, Outcome, Part},
    upstream::{Conditions, Fetched, UpstreamBody},
};
use crate::{clock, edge::sites::Served, snapshot::Shared};

/// Bodies up to this size are stored with their head, in bytes.
const INLINE_BYTES: usize = 64 * 1024;

/// Size of a chunk of a larger body, in bytes.
const CHUNK_BYTES: usize = 256 * 1024;

/// Waiters on one fill. More are refused: they would not be answered in time either.
pub const WAITERS_MAX: usize = 16_384;

/// A GET as it is sent upstream, with what it is filed under.
#[derive(Debug)]
pub struct Wanted {
    /// The site.
    pub served: Arc<Served>,
    /// Whether the client came over TLS.
    pub https: bool,
    /// Host and port as the client named them: part of the key, and sent to the origin.
    pub authority: Box<str>,
    /// The host, bare: what purges name.
    pub host: Box<str>,
    /// The normalised path.
    pub path: Box<str>,
    /// The normalised query.
    pub query: Option<Box<str>>,
    /// The fields to send.
    pub headers: HeaderMap,
    /// The URL's key.
    pub primary: Key,
    /// The key of its path without a query: what indexes by `No-Vary-Search` are made of.
    pub path_key: Key,
    /// The URL's place among a region's nodes.
    pub placement: u64,
    /// Whether a peer asks: then the origin is next, never another peer.
    pub from_peer: bool,
}

impl Wanted {
    fn policy(&self) -> &Policy {
        self.served.policy(&self.path)
    }

    /// Path and query, as they are sent.
    #[must_use]
    pub fn target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.to_string(),
        }
    }
}

/// What is to be fetched, and why.
#[derive(Debug, Clone)]
pub struct Job {
    /// The request.
    pub wanted: Arc<Wanted>,
    /// What is coalesced under.
    pub key: Key,
    /// What is stored but may not be served as it is, with the key it stands under.
    pub stale: Option<(Key, Arc<Object>)>,
    /// Whether the stored validators may be used: not after a hard purge.
    pub conditional: bool,
    /// Whether to go straight to the origin, past the region's owner.
    pub direct: bool,
}

/// A response for one client alone.
#[derive(Debug)]
pub struct Private {
    /// The response, cleaned of hop-by-hop fields.
    pub response: Response<UpstreamBody>,
    /// Why it is not shared.
    pub reason: Reason,
}

/// A place in a fill: where to wait, and what is there for the leader alone.
#[derive(Debug)]
pub struct Seat {
    /// The fill.
    pub flight: Arc<Flight>,
    /// The leader's private answer.
    pub private: Option<oneshot::Receiver<Private>>,
}

/// Takes part in the fill of a key: starts it if there is none. None if too many wait already.
#[must_use]
pub fn board(shared: &Arc<Shared>, job: &Job, refused: Option<&Arc<Flight>>) -> Option<Seat> {
    match shared.flights.join(job.key, refused) {
        Part::Follow(flight) => (flight.waiting() < WAITERS_MAX).then_some(Seat { flight, private: None }),
        Part::Lead(flight) => Some(launch(shared, job.clone(), flight)),
    }
}

/// Fetches for one client alone, coalescing with nobody.
#[must_use]
pub fn alone(shared: &Arc<Shared>, job: Job) -> Seat {
    let flight = Flight::new(job.key);
    launch(shared, job, flight)
}

/// Starts the fetch in a task of its own.
fn launch(shared: &Arc<Shared>, job: Job, flight: Arc<Flight>) -> Seat {
    let (sender, receiver) = oneshot::channel();
    let seat = Seat { flight: Arc::clone(&flight), private: Some(receiver) };
    let owned = Arc::clone(shared);
    shared.tasks.spawn("fill", async move {
        let landing = Landing { shared: &owned, flight: &flight };
        run(&owned, &job, &flight, sender).await;
        drop(landing);
    });
    seat
}

/// Takes the flight off the board however the fetch ends, and lets nobody wait for ever.
struct Landing<'a> {
    shared: &'a Shared,
    flight: &'a Arc<Flight>,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        self.shared.flights.land(self.flight);
        self.flight.abandon();
    }
}

/// One fetch from start to end.
async fn run(shared: &Shared, job: &Job, flight: &Arc<Flight>, private: oneshot::Sender<Private>) {
    let served = &job.wanted.served;
    served.counters.note_origin_fetch();
    let mut fetched = match upstream::fetch(shared, job, Conditions::Sent).await {
        Ok(fetched) => fetched,
        Err(failure) => return flight.announce(Outcome::Failed(failure)),
    };
    if let Some((key, stale)) = &job.stale {
        if job.conditional && fetched.response.status() == StatusCode::NOT_MODIFIED {
            if conditional::selects(&stale.headers, fetched.response.headers()) {
                return flight.announce(renew(shared, job, *key, stale, &fetched));
            }
            // a 304 about something else than what is stored renews nothing (RFC 9111 section 4.3.4)
            fetched = match upstream::fetch(shared, job, Conditions::Left).await {
                Ok(fetched) => fetched,
                Err(failure) => return flight.announce(Outcome::Failed(failure)),
            };
        }
        let status = fetched.response.status();
        let now = clock::unix_ms();
        if server_failed(status)
            && caching::stale_on_error(&stale.freshness, Standing::Valid, now, job.wanted.policy()).is_some()
        {
            return flight.announce(Outcome::Failed(Failure { status, reason: Reason::OriginError }));
        }
    }
    match verdict(shared, job, &fetched, fetched.response.status(), fetched.response.headers()) {
        Storing::Keep { freshness, vary, shaped } => {
            share(shared, job, flight, fetched, (freshness, shaped), vary).await;
        }
        Storing::Refuse { reason, hit_for_miss_s } => {
            served.counters.note_not_stored(reason);
            remember_private(shared, job, reason, hit_for_miss_s);
            // the receiver is gone if the client is: then nobody wants the answer
            let _ = private.send(Private { response: fetched.response, reason });
            flight.announce(Outcome::Private);
        }
    }
}

/// Statuses for which an old answer is better, where allowed (RFC 5861 section 4).
fn server_failed(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

fn verdict(shared: &Shared, job: &Job, fetched: &Fetched, status: StatusCode, headers: &HeaderMap) -> Storing {
    caching::storing(&Exchange {
        method: &http::Method::GET,
        request: &job.wanted.headers,
        status,
        response: headers,
        path: &job.wanted.path,
        request_unix_ms: fetched.request_unix_ms,
        response_unix_ms: fetched.response_unix_ms,
        policy: job.wanted.policy(),
        object_bytes_max: shared.config.load().node.limits.object_bytes,
    })
}

/// Remembers for a while that a URL's answers are private, so that nobody waits for another's.
fn remember_private(shared: &Shared, job: &Job, reason: Reason, seconds: u32) {
    if seconds == 0 {
        return;
    }
    let until_unix_ms = clock::unix_ms() + u64::from(seconds) * 1000;
    let entry = Entry::HitForMiss { until_unix_ms, reason: reason.code() };
    shared.objects.insert(&job.wanted.served.permit, job.wanted.primary, entry);
}

/// A 304: the stored body with a fresher head and a new stamp (RFC 9111 section 4.3.4).
fn renew(shared: &Shared, job: &Job, key: Key, stale: &Arc<Object>, fetched: &Fetched) -> Outcome {
    let fresh = conditional::freshen(&stale.headers, fetched.response.headers());
    let (freshness, keep) = match verdict(shared, job, fetched, stale.status, &fresh) {
        // one that is filed by what it did not vary by, and now says otherwise, stands in the wrong place
        Storing::Keep { freshness, .. } => {
            (freshness, SearchVariance::of(&fresh) == SearchVariance::of(&stale.headers))
        }
        Storing::Refuse { .. } => (Freshness { lifetime_s: 0, ..stale.freshness }, false),
    };
    let headers = stored_headers(&fresh);
    let purge_keys = purge_keys(&job.wanted, &headers).unwrap_or_else(|_| stale.purge_keys.clone());
    let object = Arc::new(Object {
        status: stale.status,
        headers,
        freshness,
        stamp: fetched.stamp,
        verified: AtomicU64::new(fetched.stamp.0),
        purge_keys,
        body: stale.body.clone(),
        site: stale.site.clone(),
    });
    if keep && standing(&job.wanted.served, fetched.stamp, &object.purge_keys) == Standing::Valid {
        shared.objects.insert(&job.wanted.served.permit, key, Entry::Object(Arc::clone(&object)));
    } else {
        shared.objects.remove(key);
    }
    Outcome::Renewed { object, key }
}

/// What a purge would name this response by; refused if its tags are too many or too long to be kept.
fn purge_keys(wanted: &Wanted, headers: &HeaderMap) -> Result<Box<[u64]>, Reason> {
    let keys = |tags: &[&str]| wanted.served.guard.keys(&wanted.host, &wanted.path, wanted.query.as_deref(), tags);
    match (surrogate_tags(headers), caching::groups(wanted.https, &wanted.authority, headers)) {
        (Tags::Listed(mut tags), Groups::Listed(groups)) => {
            tags.extend(groups.iter().map(String::as_str));
            let mut keys = keys(&tags).into_vec();
            // also by what all URLs have in common that are one by No-Vary-Search
            if let Some(variance) = SearchVariance::of(headers) {
                let query = variance.canonical(wanted.query.as_deref());
                keys.extend(wanted.served.guard.keys(&wanted.host, &wanted.path, query.as_deref(), &[]));
            }
            Ok(keys.into_boxed_slice())
        }
        (Tags::Oversize, _) | (_, Groups::Oversize) => Err(Reason::TagsOversize),
    }
}

fn standing(served: &Served, stamp: Position, purge_keys: &[u64]) -> Standing {
    served.guard.standing(stamp, &AtomicU64::new(stamp.0), purge_keys)
}

/// A response for all: announces it, streams it, stores it.
async fn share(
    shared: &Shared,
    job: &Job,
    flight: &Arc<Flight>,
    fetched: Fetched,
    (freshness, shaped): (Freshness, Option<Reason>),
    vary: Option<VarySpec>,
) {
    let wanted = &job.wanted;
    let (parts, body) = fetched.response.into_parts();
    let (purge_keys, stored) = match purge_keys(wanted, &parts.headers) {
        Ok(keys) if standing(&wanted.served, fetched.stamp, &keys) == Standing::Valid => (keys, Ok(())),
        Ok(keys) => (keys, Err(Reason::PurgedDuringFill)),
        Err(reason) => {
            (wanted.served.guard.keys(&wanted.host, &wanted.path, wanted.query.as_deref(), &[]), Err(reason))
        }
    };
    let filed = Filed::of(shared, wanted, &parts.headers, vary);
    let stored = stored.and_then(|()| filed.has_room(shared, wanted));
    if let Err(reason) = stored {
        wanted.served.counters.note_not_stored(reason);
    }
    let head = Arc::new(Head {
        status: parts.status,
        length: content_length(&parts.headers),
        headers: parts.headers,
        stamp: fetched.stamp,
        purge_keys,
        freshness,
        shaped,
        filed,
        stored,
        through: fetched.through,
    });
    flight.announce(Outcome::Opened(Arc::clone(&head)));
    let mut keeper = Keeper::new(shared, job, &head);
    let ended = pump(flight, body, &mut keeper).await;
    if ended.is_ok() {
        keeper.finish(&head);
    }
    flight.end(ended);
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Moves the body from upstream to readers and store.
async fn pump(flight: &Flight, mut body: UpstreamBody, keeper: &mut Keeper<'_>) -> Result<(), BrokenOff> {
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Err(BrokenOff) };
        let Ok(piece) = frame.into_data() else { continue };
        if piece.is_empty() {
            continue;
        }
        if keeper.outgrown_by(piece.len()) {
            flight.outgrow();
        }
        keeper.keep(&piece);
        flight.push(piece);
        if !flight.room().await {
            return Err(BrokenOff);
        }
    }
    Ok(())
}

/// Collects a body for the store as it passes by.
struct Keeper<'a> {
    shared: &'a Shared,
    job: &'a Job,
    keeping: bool,
    bytes: u64,
    bytes_max: u64,
    held: BytesMut,
    id: Option<BodyId>,
    chunks: u32,
}

impl<'a> Keeper<'a> {
    fn new(shared: &'a Shared, job: &'a Job, head: &Head) -> Self {
        Self {
            shared,
            job,
            keeping: head.stored.is_ok(),
            bytes: 0,
            bytes_max: shared.config.load().node.limits.object_bytes,
            held: BytesMut::new(),
            id: None,
            chunks: 0,
        }
    }

    /// Whether this piece makes the body too large to be kept: by readers' memory or by the store.
    fn outgrown_by(&mut self, piece_bytes: usize) -> bool {
        self.bytes += piece_bytes as u64;
        if self.bytes > self.bytes_max {
            self.keeping = false;
        }
        self.bytes > self.bytes_max
    }

    fn keep(&mut self, piece: &Bytes) {
        if !self.keeping {
            return;
        }
        self.held.extend_from_slice(piece);
        if self.bytes > INLINE_BYTES as u64 {
            while self.held.len() >= CHUNK_BYTES {
                let chunk = self.held.split_to(CHUNK_BYTES).freeze();
                self.keep_chunk(chunk);
            }
        }
    }

    fn keep_chunk(&mut self, chunk: Bytes) {
        let id = *self.id.get_or_insert_with(random_body_id);
        let key = key::body_chunk(id, self.chunks);
        self.shared.objects.insert(&self.job.wanted.served.permit, key, Entry::Chunk(chunk));
        self.chunks += 1;
    }

    /// The body is whole: makes it findable.
    fn finish(mut self, head: &Head) {
        if !self.keeping {
            return;
        }
        let body = if self.bytes <= INLINE_BYTES as u64 {
            Body::Inline(self.held.split().freeze())
        } else {
            let rest = self.held.split().freeze();
            if !rest.is_empty() {
                self.keep_chunk(rest);
            }
            let Some(id) = self.id else { return };
            let chunk_bytes = u32::try_from(CHUNK_BYTES).unwrap_or(u32::MAX);
            Body::Chunked { id, length: self.bytes, chunk_bytes }
        };
        let wanted = &self.job.wanted;
        filing::index(self.shared, wanted, head);
        let object = Object {
            status: head.status,
            headers: stored_headers(&head.headers),
            freshness: head.freshness,
            stamp: head.stamp,
            verified: AtomicU64::new(head.stamp.0),
            purge_keys: head.purge_keys.clone(),
            body,
            site: wanted.served.site.name.clone(),
        };
        self.shared.objects.insert(&wanted.served.permit, head.filed.key(), Entry::Object(Arc::new(object)));
        wanted.served.counters.note_stored();
    }
}

/// The fields as they are kept: `Age` is computed at every hit, `Cache-Status` told by whoever answers.
fn stored_headers(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    headers.remove(header::AGE);
    headers.remove("cache-status");
    headers
}

fn random_body_id() -> BodyId {
    let mut bytes = [0; 16];
    if getrandom::fill(&mut bytes).is_err() {
        // no randomness to be had: a number that no other body of this process has
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        return BodyId((u128::from(clock::unix_ms()) << 64) | u128::from(next));
    }
    BodyId(u128::from_le_bytes(bytes))
}

/// The node that fills for this key in this region, if it is another one.
#[must_use]
pub fn owner_of(shared: &Shared, wanted: &Wanted) -> Option<NodeId> {
    let config = shared.config.load();
    let region = config.regions.iter().find(|region| region.name == shared.here.region)?;
    let alive = region
        .nodes
        .iter()
        .map(|node| &node.name)
        .filter(|name| **name == shared.here.node || shared.health.node_up(name));
    key::rendezvous(wanted.placement, alive).filter(|owner| **owner != shared.here.node).cloned()
}
