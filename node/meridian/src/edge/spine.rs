//! The life of a request: the only file that writes the order of its steps. HTTP/1.1 and HTTP/2 are doors to it, and
//! so is a peer that asks the owner of a key.

use std::{
    net::IpAddr,
    sync::{Arc, atomic::AtomicU64},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version, header, request::Parts};
use http_body::Body as HttpBody;
use region_config::{KeyRules, Policy};
use rules::{
    caching::{self, Decision, Demand, Intent, Reason, conditional, fields},
    key::{self, Key, Target},
    purge::{Position, Standing},
};
use wire::entry::{Entry, Object};

use super::{
    answer::{self, How, Reply},
    body::{Body, BodyError, Source},
    chunks::ChunkReader,
    forward, keyed, pass, searched,
    sites::{Lodger, Served, bare_host},
};
use crate::{
    clock,
    fill::{self, Job, Private, Seat, Wanted, flight},
    observe::Line,
    snapshot::Shared,
};

/// Fills that one request may take part in: a waiter that is refused by one (another variant, a purge meanwhile) starts
/// another, which began after it arrived and must do.
const ROUNDS_MAX: usize = 4;

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub enum Caller {
    /// A client.
    Client {
        /// Its address.
        address: IpAddr,
        /// Whether it came over TLS.
        https: bool,
    },
    /// Another node of this region, for which this one owns the key.
    Peer {
        /// Whether its client came over TLS.
        https: bool,
    },
}

impl Caller {
    fn https(self) -> bool {
        match self {
            Self::Client { https, .. } | Self::Peer { https } => https,
        }
    }
}

/// Answers a request.
pub async fn answer<B>(shared: &Arc<Shared>, caller: Caller, request: Request<B>) -> Response<Body>
where
    B: HttpBody<Data = Bytes> + Send + Sync + Unpin + 'static,
    B::Error: Into<BodyError>,
{
    let (mut parts, body) = request.into_parts();
    // 1. parse strictly; refuse what is ambiguous, and close
    if let Some(reason) = fields::framing_fault(&parts) {
        return answer::refuse_and_close(StatusCode::BAD_REQUEST, reason);
    }
    if parts.headers.contains_key(header::CONNECTION) {
        // what it names is for this hop only, and plays no part in what is chosen or sent on
        fields::strip_request(&mut parts.headers);
    }
    // 2. the site, and the right to touch its data
    let sites = shared.sites.load();
    let Some(authority) = authority(&parts) else {
        return answer::refuse_and_close(StatusCode::BAD_REQUEST, Reason::HostMissing);
    };
    let host = bare_host(authority);
    let served = match sites.find(&host) {
        Some(Lodger::Served(served)) => served,
        // nothing of it is stored, opened, counted by site, or logged here
        Some(Lodger::Outside) => return answer::misdirected(Reason::OutsideJurisdiction),
        None => return answer::misdirected(Reason::UnknownSite),
    };
    let arrival = Arrival::now(served);
    // 3. what is asked for
    let target = match key::target(&parts.uri) {
        Ok(target) => target,
        Err(_) => return answer::refuse_and_close(StatusCode::BAD_REQUEST, Reason::Target),
    };
    let policy = served.policy(&target.path);
    let reply = match caching::intent(&parts.method, &parts.headers, policy) {
        Intent::Refuse(reason) => answer::refuse(shared, refusal_status(reason), reason),
        _ if forward::is_looping(shared, &parts.headers) => {
            answer::refuse(shared, StatusCode::LOOP_DETECTED, Reason::Loop)
        }
        Intent::Pass(reason) => {
            let asked = Asked::new(shared, served, caller, authority, &host, &target);
            pass::through(shared, caller, served, &asked, &parts, body, reason).await
        }
        // over HTTP/2 a body needs no field to announce it
        Intent::Lookup if !body.is_end_stream() => {
            let asked = Asked::new(shared, served, caller, authority, &host, &target);
            pass::through(shared, caller, served, &asked, &parts, body, Reason::RequestBody).await
        }
        Intent::Lookup => {
            let target = keyed::target(policy, target);
            let dressed = keyed::dressed(shared, caller, policy, &parts);
            let parts = dressed.as_ref().unwrap_or(&parts);
            let asked = Asked::new(shared, served, caller, authority, &host, &target);
            let asked = asked.declared(shared, policy, &parts.headers);
            // 4. the usual case: in memory, fresh, not purged. Nothing waits.
            match from_memory(shared, served, &asked, parts, &arrival) {
                Some(reply) => reply,
                None => Box::pin(look_further(shared, caller, served, &asked, parts, policy, &arrival)).await,
            }
        }
    };
    note(shared, caller, served, &parts, &arrival, &reply);
    let mut response = reply.response;
    if matches!(caller, Caller::Client { .. }) {
        // tags are between origin and cache: they tell strangers how a site is built
        fields::strip_tags(response.headers_mut());
    }
    response
}

fn refusal_status(reason: Reason) -> StatusCode {
    match reason {
        Reason::MethodRefused => StatusCode::METHOD_NOT_ALLOWED,
        _ => StatusCode::NOT_IMPLEMENTED,
    }
}

/// The one authority of a request: that of an absolute target, else `Host`.
fn authority(parts: &Parts) -> Option<&str> {
    if let Some(authority) = parts.uri.authority() {
        return Some(authority.as_str());
    }
    parts.headers.get(header::HOST)?.to_str().ok().filter(|host| !host.is_empty())
}

/// What was true when a request came.
struct Arrival {
    unix_ms: u64,
    instant: std::time::Instant,
    position: Position,
}

impl Arrival {
    fn now(served: &Served) -> Self {
        Self { unix_ms: clock::unix_ms(), instant: clock::instant(), position: served.realm.position() }
    }
}

/// What is asked for, and the key it is filed under.
pub struct Asked<'a> {
    pub(super) https: bool,
    pub(super) authority: &'a str,
    pub(super) host: &'a str,
    pub(super) target: &'a Target<'a>,
    pub(super) primary: Key,
    /// What is in the key beside the URL.
    pub(super) keyed: Option<&'a KeyRules>,
    /// What the client asks of the cache, where the route lets that count.
    pub(super) demand: Option<Demand>,
}

impl<'a> Asked<'a> {
    fn new(
        shared: &Shared,
        served: &Served,
        caller: Caller,
        authority: &'a str,
        host: &'a str,
        target: &'a Target<'a>,
    ) -> Self {
        let https = caller.https();
        let site = &served.site;
        let primary = key::primary(&shared.secret, &site.tenant, &site.name, https, authority, target);
        Self { https, authority, host, target, primary, keyed: None, demand: None }
    }
}

/// A stored object that was found, with the key it stands under.
pub(super) struct Found {
    pub(super) key: Key,
    pub(super) object: Arc<Object>,
    /// What purges name the URL by that was asked for, if it was found for another one.
    pub(super) presented: Option<Box<[u64]>>,
}

/// What the store says about a key.
pub(super) enum Shelf {
    Found(Found),
    /// Variants are there, but not this one; the key that this request's would have.
    OtherVariants(Key),
    /// Its answers were private a moment ago.
    Private(Reason),
    Nothing,
}

/// Picks from what stands under the primary key; `variant` looks under a variant's key.
fn pick(
    shared: &Shared,
    primary: Key,
    headers: &HeaderMap,
    now: u64,
    entry: Option<Entry>,
    mut variant: impl FnMut(Key) -> Option<Entry>,
) -> Shelf {
    match entry {
        Some(Entry::Object(object)) => Shelf::Found(Found { key: primary, object, presented: None }),
        Some(Entry::HitForMiss { until_unix_ms, reason }) if until_unix_ms > now => {
            Shelf::Private(Reason::from_code(reason).unwrap_or(Reason::HitForMiss))
        }
        Some(Entry::Vary(index)) => {
            let mut first = None;
            for spec in &index.specs {
                let key = key::variant(&shared.secret, primary, spec, headers);
                first.get_or_insert(key);
                if let Some(Entry::Object(object)) = variant(key) {
                    return Shelf::Found(Found { key, object, presented: None });
                }
            }
            first.map_or(Shelf::Nothing, Shelf::OtherVariants)
        }
        _ => Shelf::Nothing,
    }
}

/// A fresh answer from memory; none if anything has to be waited for.
fn from_memory(
    shared: &Shared,
    served: &Arc<Served>,
    asked: &Asked<'_>,
    parts: &Parts,
    arrival: &Arrival,
) -> Option<Reply> {
    let now = arrival.unix_ms;
    let look = |key| shared.objects.memory(key);
    let (shelf, presented) = match look(asked.primary) {
        Some(entry) => (pick(shared, asked.primary, &parts.headers, now, Some(entry), look), None),
        None => {
            let (key, entry) = searched::in_memory(shared, served, asked, &parts.headers)?;
            (pick(shared, key, &parts.headers, now, Some(entry), look), Some(searched::presented(served, asked)))
        }
    };
    let Shelf::Found(found) = shelf else { return None };
    let found = Found { presented, ..found };
    match decide(served, asked, &found, now) {
        Decision::Serve { age_s, ttl_s } => {
            let how = How::Hit { ttl_s };
            answer::stored(shared, served, parts, &found.object, age_s, how)
        }
        _ => None,
    }
}

/// Whether a stored object may be used, and how: its lifetime, and whether it was purged since its fetch began.
fn decide(served: &Served, asked: &Asked<'_>, found: &Found, now: u64) -> Decision {
    let (standing, object) = (standing(served, found), &found.object);
    let decision = caching::decide(&object.freshness, standing, now);
    match &asked.demand {
        Some(demand) => demand.applied(decision, &object.freshness, &object.headers, standing, now),
        None => decision,
    }
}

/// Whether anything that a stored object falls under was purged since its fetch began.
fn standing(served: &Served, found: &Found) -> Standing {
    let object = &found.object;
    let own = served.guard.standing(object.stamp, &object.verified, &object.purge_keys);
    match &found.presented {
        None => own,
        Some(keys) => own.max(served.guard.standing(object.stamp, &AtomicU64::new(object.stamp.0), keys)),
    }
}

/// Disk, then upstream.
async fn look_further(
    shared: &Arc<Shared>,
    caller: Caller,
    served: &Arc<Served>,
    asked: &Asked<'_>,
    parts: &Parts,
    policy: &Policy,
    arrival: &Arrival,
) -> Reply {
    // 5. memory and disk
    let shelf = match shelf(shared, asked.primary, &parts.headers, arrival.unix_ms).await {
        Shelf::Nothing => searched::shelf(shared, served, asked, &parts.headers, arrival.unix_ms).await,
        shelf => shelf,
    };
    // 6. decide
    let mut key = asked.primary;
    let (found, reason, conditional) = match shelf {
        Shelf::Found(found) => match decide(served, asked, &found, arrival.unix_ms) {
            Decision::Serve { age_s, ttl_s } => {
                let how = How::Hit { ttl_s };
                if let Some(response) = answer::stored(shared, served, parts, &found.object, age_s, how) {
                    return response;
                }
                (None, Reason::ChunkLost, false)
            }
            Decision::ServeAndRefresh { age_s, ttl_s, reason } => {
                let how = How::Stale { ttl_s, reason };
                if let Some(response) = answer::stored(shared, served, parts, &found.object, age_s, how) {
                    let wanted = wanted(shared, caller, served, asked, parts);
                    refresh(shared, wanted, found);
                    return response;
                }
                (None, Reason::ChunkLost, false)
            }
            Decision::Revalidate { reason } => (Some(found), reason, true),
            Decision::Refetch { reason } => (Some(found), reason, false),
        },
        _ if asked.demand.is_some_and(|demand| demand.only_if_cached()) => {
            return answer::refuse(shared, StatusCode::GATEWAY_TIMEOUT, Reason::OnlyIfCached);
        }
        Shelf::Private(reason) => {
            return pass::alone(shared, served, parts, wanted(shared, caller, served, asked, parts), reason).await;
        }
        Shelf::OtherVariants(own) => {
            // variants are fetched side by side
            key = own;
            (None, Reason::VaryMiss, false)
        }
        Shelf::Nothing => (None, Reason::UriMiss, false),
    };
    if asked.demand.is_some_and(|demand| demand.only_if_cached()) {
        return answer::refuse(shared, StatusCode::GATEWAY_TIMEOUT, Reason::OnlyIfCached);
    }
    // a part of something that is not here: the origin is asked for the part only
    if found.is_none() && parts.headers.contains_key(header::RANGE) {
        return pass::part(shared, caller, served, asked, parts).await;
    }
    // 7. fill, and 8. store
    let wanted = wanted(shared, caller, served, asked, parts);
    if found.is_none()
        && let Some(reply) = from_memory(shared, served, asked, parts, arrival)
    {
        // somebody else's fetch landed while the disk was asked: a second one would bring the same
        return reply;
    }
    let miss = Miss { key, found, reason, conditional };
    take_part(shared, served, parts, policy, arrival, wanted, miss).await
}

/// What stands under a primary key, in memory or on disk.
pub(super) async fn shelf(shared: &Shared, primary: Key, headers: &HeaderMap, now: u64) -> Shelf {
    let entry = shared.objects.lookup(primary).await;
    if let Some(Entry::Vary(index)) = &entry {
        for spec in &index.specs {
            let key = key::variant(&shared.secret, primary, spec, headers);
            if let Some(Entry::Object(object)) = shared.objects.lookup(key).await {
                return Shelf::Found(Found { key, object, presented: None });
            }
        }
    }
    pick(shared, primary, headers, now, entry, |_| None)
}

/// The request as it goes upstream.
fn wanted(shared: &Shared, caller: Caller, served: &Arc<Served>, asked: &Asked<'_>, parts: &Parts) -> Arc<Wanted> {
    let site = &served.site;
    let mut headers = forward::headers(shared, caller, &parts.headers, asked.authority, asked.keyed);
    conditional::strip(&mut headers);
    Arc::new(Wanted {
        served: Arc::clone(served),
        https: asked.https,
        authority: asked.authority.into(),
        host: asked.host.into(),
        path: asked.target.path.as_ref().into(),
        query: asked.target.query.as_deref().map(Into::into),
        headers,
        primary: asked.primary,
        path_key: searched::path_key(shared, served, asked, &parts.headers),
        placement: key::placement(&site.tenant, &site.name, asked.https, asked.authority, asked.target),
        from_peer: matches!(caller, Caller::Peer { .. }),
    })
}

/// Fetches anew behind the client's back, unless that is under way.
fn refresh(shared: &Arc<Shared>, wanted: Arc<Wanted>, found: Found) {
    let job = Job { key: found.key, stale: Some((found.key, found.object)), conditional: true, direct: false, wanted };
    // nobody waits: the seat is given up at once, the fetch goes on
    drop(fill::board(shared, &job, None));
}

/// Why something has to be fetched.
struct Miss {
    key: Key,
    found: Option<Found>,
    reason: Reason,
    conditional: bool,
}

/// Takes part in fills until one gives an answer that this request may have.
async fn take_part(
    shared: &Arc<Shared>,
    served: &Arc<Served>,
    parts: &Parts,
    policy: &Policy,
    arrival: &Arrival,
    wanted: Arc<Wanted>,
    miss: Miss,
) -> Reply {
    let mut job = Job {
        // what was found for another URL is asked for by this one's own name: the answer may be for this one alone
        key: miss.found.as_ref().filter(|found| found.presented.is_none()).map_or(miss.key, |found| found.key),
        stale: miss.found.as_ref().map(|found| (found.key, Arc::clone(&found.object))),
        conditional: miss.conditional,
        direct: !served.realm.caught_up(),
        wanted,
    };
    let mut refused = None;
    for round in 0..ROUNDS_MAX {
        let seat = if round + 1 < ROUNDS_MAX {
            fill::board(shared, &job, refused.as_ref())
        } else {
            Some(fill::alone(shared, job.clone()))
        };
        let Some(seat) = seat else {
            return answer::refuse(shared, StatusCode::SERVICE_UNAVAILABLE, Reason::Overloaded);
        };
        let collapsed = seat.private.is_none();
        if collapsed {
            served.counters.note_collapsed();
        }
        match ride(shared, served, parts, arrival, &mut job, seat, miss.reason).await {
            Ride::Answer(response) => return response,
            Ride::Private(private) => return pass::private(shared, served, parts, private),
            Ride::Failed(failure) => return failed(shared, served, parts, policy, miss.found, &failure),
            Ride::NotForMe => return pass::alone(shared, served, parts, job.wanted, Reason::Private).await,
            Ride::Refused(flight) => {
                // straight to the origin: what began after this request came must do
                job.direct = true;
                refused = Some(flight);
            }
        }
    }
    answer::refuse(shared, StatusCode::SERVICE_UNAVAILABLE, Reason::Overloaded)
}

/// How one fill went for one request.
enum Ride {
    Answer(Reply),
    Private(Private),
    NotForMe,
    Refused(Arc<flight::Flight>),
    Failed(flight::Failure),
}

async fn ride(
    shared: &Arc<Shared>,
    served: &Arc<Served>,
    parts: &Parts,
    arrival: &Arrival,
    job: &mut Job,
    seat: Seat,
    reason: Reason,
) -> Ride {
    let flight = seat.flight;
    let collapsed = seat.private.is_none();
    match flight.outcome().await {
        flight::Outcome::Waiting => Ride::Refused(flight),
        flight::Outcome::Failed(failure) => Ride::Failed(failure),
        flight::Outcome::Private => match seat.private {
            Some(private) => private.await.map_or(Ride::NotForMe, Ride::Private),
            None => Ride::NotForMe,
        },
        flight::Outcome::Renewed { object, .. } => {
            if !acceptable(served, arrival, object.stamp, &object.purge_keys) {
                return Ride::Refused(flight);
            }
            let how = How::Renewed { reason, collapsed };
            let age_s = object.freshness.age_s(clock::unix_ms());
            match answer::stored(shared, served, parts, &object, age_s, how) {
                Some(response) => Ride::Answer(response),
                None => {
                    // the body is gone though its head was renewed: fetch it whole
                    job.stale = None;
                    Ride::Refused(flight)
                }
            }
        }
        flight::Outcome::Opened(head) => {
            if let Some((spec, key)) = &head.filed.vary {
                let mine = key::variant(&shared.secret, head.filed.primary, spec, &job.wanted.headers);
                if mine != *key {
                    job.key = mine;
                    return Ride::Refused(flight);
                }
            }
            if !acceptable(served, arrival, head.stamp, &head.purge_keys) {
                return Ride::Refused(flight);
            }
            let Some(reader) = flight.reader(head.length) else { return Ride::Refused(flight) };
            Ride::Answer(answer::filled(shared, served, parts, &head, reader, reason, collapsed))
        }
    }
}

/// Whether a request that came at `arrival` may have a response whose fetch began at `stamp`: it began after the
/// request came, or nothing that it falls under was purged since.
fn acceptable(served: &Served, arrival: &Arrival, stamp: Position, purge_keys: &[u64]) -> bool {
    let verified = AtomicU64::new(stamp.0);
    stamp >= arrival.position || served.guard.standing(stamp, &verified, purge_keys) == Standing::Valid
}

/// Nothing came from upstream: something old where that is allowed, else a clear error.
fn failed(
    shared: &Shared,
    served: &Arc<Served>,
    parts: &Parts,
    policy: &Policy,
    found: Option<Found>,
    failure: &flight::Failure,
) -> Reply {
    if let Some(found) = found {
        let now = clock::unix_ms();
        let object = &found.object;
        let standing = standing(served, &found);
        if let Some(age_s) = caching::stale_on_error(&object.freshness, standing, now, policy) {
            let how = How::Stale { ttl_s: object.freshness.ttl_s(now), reason: Reason::StaleIfError };
            if let Some(response) = answer::stored(shared, served, parts, object, age_s, how) {
                return response;
            }
        }
    }
    answer::failed(shared, failure)
}

/// Counts and logs what was answered. Never waits.
fn note(shared: &Shared, caller: Caller, served: &Served, parts: &Parts, arrival: &Arrival, reply: &Reply) {
    let Caller::Client { address, .. } = caller else { return };
    let micros = u32::try_from(clock::instant().duration_since(arrival.instant).as_micros()).unwrap_or(u32::MAX);
    served.counters.note(reply.outcome, reply.reason, 0, micros);
    if let Some(log) = shared.observe.access_log() {
        log.line(&served.permit, &line(address, parts, arrival, reply, micros));
    }
}

fn line<'a>(client: IpAddr, parts: &'a Parts, arrival: &Arrival, reply: &Reply, micros: u32) -> Line<'a> {
    Line {
        unix_ms: arrival.unix_ms,
        method: parts.method.as_str(),
        host: authority(parts).unwrap_or(""),
        path: parts.uri.path(),
        protocol: if parts.version >= Version::HTTP_2 { "HTTP/2" } else { "HTTP/1.1" },
        client,
        agent: parts.headers.get(header::USER_AGENT).map(http::HeaderValue::as_bytes),
        status: reply.response.status().as_u16(),
        bytes: reply.response.body().size_hint().exact().unwrap_or(0),
        micros,
        outcome: reply.outcome,
        reason: reply.reason,
    }
}

/// A body read from the store; none if a chunk of it is gone.
pub(super) fn stored_body(shared: &Shared, object: &Object) -> Option<Source> {
    match &object.body {
        wire::entry::Body::Inline(bytes) => Some(Source::Full(bytes.clone())),
        wire::entry::Body::Chunked { id, length, chunk_bytes } => {
            let reader = ChunkReader::new(shared.objects.clone(), *id, *length, *chunk_bytes);
            reader.complete().then(|| Source::Chunks(Box::new(reader)))
        }
    }
}

/// Whether a method's answer has no body.
pub(super) fn is_head(method: &Method) -> bool {
    *method == Method::HEAD
}
