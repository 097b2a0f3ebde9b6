//! Fetching what is not here: one fetch per key, shared by all that wait, stored if it may be.

pub mod coded;
pub mod filing;
pub mod flight;
mod keeper;
pub mod owner;
pub mod pieces;
pub mod slices;
pub mod upstream;

use std::sync::{Arc, atomic::AtomicU64};

use http::{HeaderMap, Response, StatusCode, header};
use region_config::{NodeId, Policy};
use rules::{
    caching::{
        self, Exchange, Freshness, Groups, Reason, SearchVariance, Storing, Tags, Vary, VarySpec, conditional,
        fields::surrogate_tags,
        ranges::{ContentRange, Span, strong_validator},
    },
    key::{self, BodyId, Key},
    purge::{
        Position, Standing,
        fill::{Made, Vouch, joinable},
    },
};
use tokio::sync::oneshot;
use wire::entry::{Body, Entry, Object};

pub use self::keeper::random_name;
use self::{
    filing::Filed,
    flight::{Failure, Fit, Flight, Head, Outcome, Part},
    keeper::{Keeper, pump},
    slices::{Kept, Opening, SLICE_BYTES, Source},
    upstream::{Conditions, Fetched, UpstreamBody},
};
use crate::{
    clock,
    edge::{interim::Teller, sites::Served},
    snapshot::Shared,
};

/// Waiters on one fill. More are refused: they would not be answered in time either.
pub const WAITERS_MAX: usize = 16_384;

/// How long it is remembered that an origin does not answer with parts, in seconds.
const RANGES_IGNORED_S: u32 = 600;

/// How long it is remembered that parts of a body cannot be kept, in seconds.
const PARTS_UNPROVEN_S: u32 = 120;

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
    /// Whom to tell what the origin says before it answers: the client that this is fetched for.
    pub interim: Option<Teller>,
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

/// Whom to ask for what is to be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The region's owner of the key, who may have it stored; if this node is it, the origin.
    Owner,
    /// The owner, for what it fetches from the origin after it is asked.
    AfterArrival,
    /// The origin.
    Origin,
}

/// What a request needs of a fetch that is under way, to wait for it.
#[derive(Debug, Clone, Copy)]
pub struct Need {
    /// What can be vouched for.
    pub vouch: Vouch,
    /// It has to begin after the flight of this number.
    pub after: Option<u64>,
}

impl Need {
    fn fit(self, flight: &Arc<Flight>, refused: Option<&Arc<Flight>>) -> Fit {
        if refused.is_some_and(|refused| Arc::ptr_eq(refused, flight)) {
            return Fit::Replace;
        }
        match self.after {
            Some(after) if flight.made() == Made::AtOrigin && flight.number() > after => Fit::Join,
            Some(_) => Fit::Wait,
            None if joinable(flight.made(), flight.began_ms(), &self.vouch) => Fit::Join,
            None => Fit::Replace,
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
    /// Whom to ask.
    pub way: Way,
    /// The part that is asked for, on the borders of slices; the whole if none.
    pub part: Option<Span>,
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

/// How a request got into a fill.
#[derive(Debug)]
pub enum Boarding {
    /// It has a place in one.
    Seat(Seat),
    /// This one has to land first.
    After(Arc<Flight>),
    /// Too many wait already.
    Full,
    /// One has just landed, and brought what is wanted.
    Landed,
}

/// Takes part in the fill of a key: starts it if there is none, and nothing `landed` meanwhile.
pub fn board(
    shared: &Arc<Shared>,
    job: &Job,
    need: Need,
    refused: Option<&Arc<Flight>>,
    landed: impl FnOnce() -> bool,
) -> Boarding {
    let fit = |flight: &Arc<Flight>| need.fit(flight, refused);
    match shared.flights.join(job.key, fit, || made(shared, job), landed) {
        Part::After(flight) if flight.waiting() < WAITERS_MAX => Boarding::After(flight),
        Part::After(_) => Boarding::Full,
        Part::Follow(flight) if flight.waiting() < WAITERS_MAX => Boarding::Seat(Seat { flight, private: None }),
        Part::Follow(_) => Boarding::Full,
        Part::Lead(flight) => Boarding::Seat(launch(shared, job.clone(), flight)),
        Part::Landed => Boarding::Landed,
    }
}

/// Where a job asks in the end.
fn made(shared: &Shared, job: &Job) -> Made {
    let origin = job.way != Way::Owner || job.wanted.from_peer || owner_of(shared, &job.wanted).is_none();
    if origin { Made::AtOrigin } else { Made::Elsewhere }
}

/// Fetches for one client alone, coalescing with nobody.
#[must_use]
pub fn alone(shared: &Arc<Shared>, job: Job) -> Seat {
    let flight = Flight::new(job.key, made(shared, &job), shared.flights.budget());
    launch(shared, job, flight)
}

/// Starts the fetch in a task of its own.
fn launch(shared: &Arc<Shared>, job: Job, flight: Arc<Flight>) -> Seat {
    let (sender, receiver) = oneshot::channel();
    let seat = Seat { flight: Arc::clone(&flight), private: Some(receiver) };
    let owned = Arc::clone(shared);
    shared.tasks.spawn("fill", async move {
        let under_way = owned.flights.under_way(job.wanted.primary);
        let landing = Landing { shared: &owned, flight: &flight, primary: job.wanted.primary };
        run(&owned, &job, &flight, sender).await;
        drop(landing);
        drop(under_way);
    });
    seat
}

/// Takes the flight off the board however the fetch ends, and lets nobody wait for ever.
struct Landing<'a> {
    shared: &'a Shared,
    flight: &'a Arc<Flight>,
    primary: Key,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        self.shared.flights.land(self.flight);
        self.shared.flights.land_under(self.primary, self.flight);
        self.flight.abandon();
    }
}

/// One fetch from start to end.
async fn run(shared: &Arc<Shared>, job: &Job, flight: &Arc<Flight>, private: oneshot::Sender<Private>) {
    let served = &job.wanted.served;
    served.counters.note_origin_fetch();
    let mut fetched = match upstream::fetch(shared, job, Conditions::Sent).await {
        Ok(fetched) => fetched,
        Err(failure) => return flight.announce(Outcome::Failed(failure)),
    };
    served.counters.note_fetched();
    if let Some((key, stale)) = &job.stale {
        if job.conditional && fetched.response.status() == StatusCode::NOT_MODIFIED {
            if renewable(&stale.headers, fetched.response.headers()) {
                return flight.announce(renew(shared, job, *key, stale, &fetched));
            }
            let same = conditional::selects(&stale.headers, fetched.response.headers());
            served.counters.note_not_stored(if same { Reason::Refiled } else { Reason::Unverifiable });
            served.counters.note_origin_fetch();
            fetched = match upstream::fetch(shared, job, Conditions::Left).await {
                Ok(fetched) => fetched,
                Err(failure) => return flight.announce(Outcome::Failed(failure)),
            };
            served.counters.note_fetched();
        }
        let status = fetched.response.status();
        let now = clock::unix_ms();
        if server_failed(status)
            && caching::stale_on_error(&stale.freshness, Standing::Valid, now, job.wanted.policy()).is_some()
        {
            // what is stored is better
            served.counters.note_not_stored(Reason::OriginError);
            return flight.announce(Outcome::Failed(Failure { status, reason: Reason::OriginError }));
        }
    }
    if job.part.is_some() {
        match fetched.response.status() {
            StatusCode::PARTIAL_CONTENT => return part(shared, job, flight, fetched, private).await,
            // it does not do parts: the next one who asks for one shares a fetch of the whole
            StatusCode::OK => {
                remember(shared, job, Reason::RangesIgnored, RANGES_IGNORED_S);
                shared.flights.also(job.wanted.primary, flight);
            }
            _ => {}
        }
    }
    settle(shared, job, flight, fetched, private).await;
}

/// A whole response: for all, or for the leader's client alone.
async fn settle(
    shared: &Arc<Shared>,
    job: &Job,
    flight: &Arc<Flight>,
    fetched: Fetched,
    private: oneshot::Sender<Private>,
) {
    match verdict(shared, job, &fetched, fetched.response.status(), fetched.response.headers()) {
        Storing::Keep { freshness, vary, shaped } => {
            share(shared, job, flight, fetched, (freshness, shaped), vary).await;
        }
        Storing::Refuse { reason, hit_for_miss_s } => {
            remember(shared, job, reason, hit_for_miss_s);
            alone_it_is(job, flight, fetched, private, reason);
        }
    }
}

/// The response is not stored: gives it to the leader's client.
fn alone_it_is(job: &Job, flight: &Flight, fetched: Fetched, private: oneshot::Sender<Private>, reason: Reason) {
    job.wanted.served.counters.note_not_stored(reason);
    // the receiver is gone if the client is: then nobody wants the answer
    let _ = private.send(Private { response: fetched.response, reason });
    flight.announce(Outcome::Private);
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

/// Remembers for a while that a URL's answers are private, so that nobody waits for another's; or that its parts are.
fn remember(shared: &Shared, job: &Job, reason: Reason, seconds: u32) {
    if seconds == 0 {
        return;
    }
    let until_unix_ms = clock::unix_ms() + u64::from(seconds) * 1000;
    let entry = Entry::HitForMiss { until_unix_ms, reason: reason.code() };
    let key = if job.part.is_some() { key::part(job.wanted.primary, None) } else { job.wanted.primary };
    shared.objects.insert(&job.wanted.served.permit, key, entry);
}

/// A 206: the part of a large body, or all of a small one.
async fn part(
    shared: &Arc<Shared>,
    job: &Job,
    flight: &Arc<Flight>,
    mut fetched: Fetched,
    private: oneshot::Sender<Private>,
) {
    let headers = fetched.response.headers();
    let range = ContentRange::of(headers).filter(|range| job.part.is_some_and(|asked| answers(asked, *range)));
    let Some(range) = range else {
        remember(shared, job, Reason::PartUnproven, PARTS_UNPROVEN_S);
        return alone_it_is(job, flight, fetched, private, Reason::Partial);
    };
    // what it says of the whole
    let mut whole = headers.clone();
    whole.remove(header::CONTENT_RANGE);
    whole.insert(header::CONTENT_LENGTH, range.length.into());
    if range.bytes() == range.length {
        *fetched.response.status_mut() = StatusCode::OK;
        *fetched.response.headers_mut() = whole;
        return settle(shared, job, flight, fetched, private).await;
    }
    // its parts are kept one by one, so that its length is no matter
    whole.remove(header::CONTENT_LENGTH);
    let refused = match (verdict(shared, job, &fetched, StatusCode::OK, &whole), strong_validator(&whole)) {
        (Storing::Keep { freshness, vary, .. }, Some(validator)) => {
            return slice(shared, job, flight, fetched, Part206 { range, whole, freshness, vary, validator }).await;
        }
        (Storing::Keep { .. }, None) => Reason::PartUnproven,
        (Storing::Refuse { reason, .. }, _) => reason,
    };
    remember(shared, job, refused, PARTS_UNPROVEN_S);
    alone_it_is(job, flight, fetched, private, refused);
}

/// Whether a 206 brings what was asked for: all of it, or up to the end of the body.
fn answers(asked: Span, range: ContentRange) -> bool {
    range.first == asked.0 && range.last == asked.1.min(range.length - 1)
}

/// A part that can be kept, and what it says of the whole.
struct Part206 {
    range: ContentRange,
    whole: HeaderMap,
    freshness: Freshness,
    vary: Option<VarySpec>,
    validator: http::HeaderValue,
}

/// The first part of a large body: files its head, and takes in the slices that come.
async fn slice(shared: &Arc<Shared>, job: &Job, flight: &Arc<Flight>, fetched: Fetched, part: Part206) {
    let wanted = &job.wanted;
    let (purge_keys, stored) = purge_keys_and_standing(wanted, &part.whole, fetched.stamp);
    let filed = Filed::of(shared, wanted, fetched.made, &part.whole, part.vary);
    let stored = stored.and(kept(&fetched)).and_then(|()| filed.has_room(shared, wanted));
    let key = filed.key();
    let (id, length) = (BodyId(random_name()), part.range.length);
    let object = Arc::new(Object {
        status: StatusCode::OK,
        headers: stored_headers(&part.whole),
        freshness: part.freshness,
        stamp: fetched.stamp,
        verified: AtomicU64::new(fetched.stamp.0),
        confirmed_ms: fetched.confirmed_ms,
        purge_keys,
        made: id,
        body: Body::Chunked { id, length, chunk_bytes: SLICE_BYTES },
        site: wanted.served.site.name.clone(),
    });
    let source = Source { wanted: Arc::clone(wanted), validator: part.validator, head: key };
    let body = Kept::new(Arc::clone(shared), id, length, SLICE_BYTES, Some(source));
    let opening = Opening::new(&body, part.range);
    match stored {
        Ok(()) => {
            filing::index(shared, wanted, &filed);
            shared.objects.insert(&wanted.served.permit, key, Entry::Object(Arc::clone(&object)));
            wanted.served.counters.note_stored();
        }
        Err(reason) => wanted.served.counters.note_not_stored(reason),
    }
    flight.announce(Outcome::Sliced { object, key, filed, stored });
    // who comes from now on finds the head, and its slices on their way
    shared.flights.land(flight);
    opening.fill(fetched.response.into_body()).await;
}

/// Whether a 304 may renew what is stored. One about something else renews nothing (RFC 9111 section 4.3.4), and one after
/// which it would stand in the wrong place, by what it varies by or does not, would give it to others than it is for.
fn renewable(stored: &HeaderMap, answer304: &HeaderMap) -> bool {
    let fresh = conditional::freshen(stored, answer304);
    conditional::selects(stored, answer304)
        && SearchVariance::of(&fresh) == SearchVariance::of(stored)
        && Vary::of(&fresh) == Vary::of(stored)
}

/// A 304: the stored body with a fresher head and a new stamp (RFC 9111 section 4.3.4).
fn renew(shared: &Shared, job: &Job, key: Key, stale: &Arc<Object>, fetched: &Fetched) -> Outcome {
    let fresh = conditional::freshen(&stale.headers, fetched.response.headers());
    let (freshness, kept) = match verdict(shared, job, fetched, stale.status, &fresh) {
        Storing::Keep { freshness, .. } => (freshness, Ok(())),
        Storing::Refuse { reason, .. } => (Freshness { lifetime_s: 0, ..stale.freshness }, Err(reason)),
    };
    let headers = stored_headers(&fresh);
    let purge_keys = purge_keys(&job.wanted, &headers);
    let object = Arc::new(Object {
        status: stale.status,
        headers,
        freshness,
        stamp: fetched.stamp,
        verified: AtomicU64::new(fetched.stamp.0),
        confirmed_ms: fetched.confirmed_ms,
        purge_keys,
        made: stale.made,
        body: stale.body.clone(),
        site: stale.site.clone(),
    });
    let served = &job.wanted.served;
    let valid = standing(served, fetched.stamp, &object.purge_keys) == Standing::Valid;
    match kept.and(if valid { Ok(()) } else { Err(Reason::PurgedDuringFill) }) {
        Ok(()) => {
            shared.objects.insert(&served.permit, key, Entry::Object(Arc::clone(&object)));
            served.counters.note_renewed();
        }
        Err(reason) => {
            shared.objects.remove(key);
            served.counters.note_not_stored(reason);
        }
    }
    Outcome::Renewed { object, key }
}

/// What a purge would name this response by. One with more or longer tags than are kept falls to every purge by a tag.
fn purge_keys(wanted: &Wanted, headers: &HeaderMap) -> Box<[u64]> {
    let guard = &wanted.served.guard;
    let (host, path, query) = (&*wanted.host, &*wanted.path, wanted.query.as_deref());
    let groups = caching::groups(wanted.https, &wanted.authority, headers);
    let keys = match (surrogate_tags(headers), &groups) {
        (Tags::Listed(mut tags), Groups::Listed(groups)) => {
            tags.extend(groups.iter().map(String::as_str));
            guard.keys(host, path, query, Some(&tags))
        }
        (Tags::Oversize, _) | (_, Groups::Oversize) => guard.keys(host, path, query, None),
    };
    match SearchVariance::of(headers) {
        None => keys,
        // also by what all URLs have in common that are one by No-Vary-Search
        Some(variance) => {
            let common = guard.url_key(host, path, variance.canonical(query).as_deref());
            std::iter::once(common).chain(keys).collect()
        }
    }
}

fn standing(served: &Served, stamp: Position, purge_keys: &[u64]) -> Standing {
    served.guard.standing(stamp, &AtomicU64::new(stamp.0), purge_keys)
}

/// What another node serves though it is stale is for who waits now.
fn kept(fetched: &Fetched) -> Result<(), Reason> {
    if fetched.stale { Err(Reason::Stale) } else { Ok(()) }
}

/// What a purge would name this response by, and whether it may be stored: none came since its fetch began.
fn purge_keys_and_standing(wanted: &Wanted, headers: &HeaderMap, stamp: Position) -> (Box<[u64]>, Result<(), Reason>) {
    let keys = purge_keys(wanted, headers);
    let valid = standing(&wanted.served, stamp, &keys) == Standing::Valid;
    (keys, if valid { Ok(()) } else { Err(Reason::PurgedDuringFill) })
}

/// A response for all: announces it, streams it, stores it.
async fn share(
    shared: &Arc<Shared>,
    job: &Job,
    flight: &Arc<Flight>,
    fetched: Fetched,
    (freshness, shaped): (Freshness, Option<Reason>),
    vary: Option<VarySpec>,
) {
    let (wanted, kept) = (&job.wanted, kept(&fetched));
    let (parts, body) = fetched.response.into_parts();
    let (purge_keys, stored) = purge_keys_and_standing(wanted, &parts.headers, fetched.stamp);
    let filed = Filed::of(shared, wanted, fetched.made, &parts.headers, vary);
    let stored = stored.and(kept).and_then(|()| filed.has_room(shared, wanted));
    let head = Arc::new(Head {
        status: parts.status,
        length: content_length(&parts.headers),
        headers: parts.headers,
        stamp: fetched.stamp,
        confirmed_ms: fetched.confirmed_ms,
        purge_keys,
        freshness,
        made: BodyId(random_name()),
        shaped,
        filed,
        stored,
        through: fetched.through,
    });
    flight.announce(Outcome::Opened(Arc::clone(&head)));
    pump(flight.body(), body, Keeper::new(shared, job, &head), &head).await;
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The fields as they are kept: `Age` is computed at every hit, `Cache-Status` told by whoever answers.
fn stored_headers(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    headers.remove(header::AGE);
    headers.remove("cache-status");
    headers
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
        .filter(|name| **name == shared.here.node || shared.health.node_serves(name));
    key::rendezvous(wanted.placement, alive).filter(|owner| **owner != shared.here.node).cloned()
}
