//! The life of a request: the only file that writes the order of its steps. HTTP/1.1 and HTTP/2 are doors to it, and
//! so is a peer that asks the owner of a key.

use std::{
    net::IpAddr,
    sync::{Arc, atomic::AtomicU64},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header, request::Parts};
use http_body::Body as HttpBody;
use region_config::{KeyRules, Policy};
use rules::{
    caching::{self, Decision, Demand, Intent, Reason, conditional, fields, ranges::Span},
    key::{self, Key, Target},
    purge::{Position, Standing},
};

use super::{
    answer::{self, Filled, How, Reply, Stock},
    body::{Body, BodyError},
    coded::{self, Codes},
    forward,
    interim::Interim,
    keyed,
    noted::{note, shown, stray},
    pass, refresh, searched,
    shelf::{Found, Look, Shelf, part, pick, shelf},
    sites::{Lodger, Served, bare_host},
    told,
};
use crate::{
    clock,
    fill::{self, Boarding, Job, Private, Seat, Wanted, filing::Filed, flight},
    observe::{Outcome, Told, Trail},
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

/// Answers a request. What the origin says before it answers is told to `interim`.
pub async fn answer<B>(
    shared: &Arc<Shared>,
    caller: Caller,
    interim: Option<&Interim>,
    request: Request<B>,
) -> Response<Body>
where
    B: HttpBody<Data = Bytes> + Send + Sync + Unpin + 'static,
    B::Error: Into<BodyError>,
{
    let (mut parts, body) = request.into_parts();
    // 1. parse strictly; refuse what is ambiguous, and close
    if let Some(reason) = fields::framing_fault(&parts) {
        return stray(shared, caller, answer::refuse_and_close(StatusCode::BAD_REQUEST, reason), reason);
    }
    if parts.headers.contains_key(header::CONNECTION) {
        // what it names is for this hop only, and plays no part in what is chosen or sent on
        fields::strip_request(&mut parts.headers);
    }
    // a debug token is for this node: it plays no part either
    let token = match caller {
        Caller::Client { .. } => shared.observe.trails().shown(&mut parts.headers),
        Caller::Peer { .. } => None,
    };
    // 2. the site, and the right to touch its data
    let sites = shared.sites.load();
    let Some(authority) = authority(&parts) else {
        let refused = answer::refuse_and_close(StatusCode::BAD_REQUEST, Reason::HostMissing);
        return stray(shared, caller, refused, Reason::HostMissing);
    };
    let host = bare_host(authority);
    let served = match sites.find(&host) {
        Some(Lodger::Served(served)) => served,
        other => {
            // nothing of a site outside is stored, opened, counted by site, or logged here
            let reason = other.map_or(Reason::UnknownSite, |_| Reason::OutsideJurisdiction);
            return stray(shared, caller, answer::misdirected(reason), reason);
        }
    };
    let mut arrival = Arrival::now(served);
    arrival.trail = token.and_then(|token| shared.observe.trails().begin(&served.permit, &token));
    // 3. what is asked for
    let target = match key::target(&parts.uri) {
        Ok(target) => target,
        Err(_) => {
            let response = answer::refuse_and_close(StatusCode::BAD_REQUEST, Reason::Target);
            let reply = Reply { response, outcome: Outcome::Refused, reason: Some(Reason::Target) };
            note(shared, caller, served, &parts, &arrival, &reply);
            return reply.response;
        }
    };
    let policy = served.policy(&target.path);
    let intent = caching::intent(&parts.method, &parts.headers, policy);
    arrival.tell("lookup", || told::intent(intent));
    let reply = match intent {
        Intent::Refuse(reason) => answer::refuse(shared, refusal_status(reason), reason),
        _ if forward::is_looping(shared, &parts.headers) => {
            answer::refuse(shared, StatusCode::LOOP_DETECTED, Reason::Loop)
        }
        Intent::Pass(reason) => {
            let asked = Asked { interim, ..Asked::new(shared, served, caller, authority, &host, &target) };
            pass::through(shared, caller, served, &asked, &parts, body, reason).await
        }
        // over HTTP/2 a body needs no field to announce it
        Intent::Lookup if !body.is_end_stream() => {
            let asked = Asked { interim, ..Asked::new(shared, served, caller, authority, &host, &target) };
            pass::through(shared, caller, served, &asked, &parts, body, Reason::RequestBody).await
        }
        Intent::Lookup => {
            let target = keyed::target(policy, target);
            let dressed = keyed::dressed(shared, caller, policy, &parts);
            let parts = dressed.as_ref().unwrap_or(&parts);
            let asked = Asked { interim, ..Asked::new(shared, served, caller, authority, &host, &target) };
            let asked = asked.declared(shared, policy, &parts.headers);
            // 4. the usual case: in memory, fresh, not purged. Nothing waits.
            let codes = Codes::of(policy, caller);
            match from_memory(shared, caller, served, &asked, parts, &arrival, codes) {
                Some(reply) => {
                    arrival.tell("memory", || Told::plain("hit", "All that is needed is in memory, and fresh."));
                    reply
                }
                None => Box::pin(look_further(shared, caller, served, &asked, parts, policy, &arrival)).await,
            }
        }
    };
    note(shared, caller, served, &parts, &arrival, &reply);
    if matches!(caller, Caller::Client { .. }) { shown(shared, served, &parts, arrival, reply) } else { reply.response }
}

pub(super) fn refusal_status(reason: Reason) -> StatusCode {
    match reason {
        Reason::MethodRefused => StatusCode::METHOD_NOT_ALLOWED,
        _ => StatusCode::NOT_IMPLEMENTED,
    }
}

/// The one authority of a request: that of an absolute target, else `Host`.
pub(super) fn authority(parts: &Parts) -> Option<&str> {
    if let Some(authority) = parts.uri.authority() {
        return Some(authority.as_str());
    }
    parts.headers.get(header::HOST)?.to_str().ok().filter(|host| !host.is_empty())
}

/// What was true when a request came.
pub(super) struct Arrival {
    pub(super) unix_ms: u64,
    pub(super) instant: std::time::Instant,
    position: Position,
    /// What is noted for a client that has shown a debug token.
    pub(super) trail: Option<Box<Trail>>,
}

impl Arrival {
    fn now(served: &Served) -> Self {
        Self { unix_ms: clock::unix_ms(), instant: clock::instant(), position: served.realm.position(), trail: None }
    }

    /// Notes a step, if anybody wants to know.
    fn tell(&self, step: &'static str, told: impl FnOnce() -> Told) {
        if let Some(trail) = &self.trail {
            trail.note(step, told());
        }
    }
}

/// What is asked for, and the key it is filed under.
pub struct Asked<'a> {
    pub(super) https: bool,
    pub(super) authority: &'a str,
    pub(super) host: &'a str,
    pub(super) target: &'a Target<'a>,
    pub(super) primary: Key,
    pub(super) interim: Option<&'a Interim>,
    /// What is in the key beside the URL.
    pub(super) keyed: Option<&'a KeyRules>,
    /// What the client asks of the cache, where the route lets that count.
    pub(super) demand: Option<Demand>,
    /// Whether it is fetched anew before its lifetime is over, if it is asked for often.
    pub(super) ahead: bool,
}

impl<'a> Asked<'a> {
    pub(super) fn new(
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
        Self { https, authority, host, target, primary, interim: None, keyed: None, demand: None, ahead: false }
    }
}

/// A fresh answer from memory; none if anything has to be waited for.
fn from_memory(
    shared: &Arc<Shared>,
    caller: Caller,
    served: &Arc<Served>,
    asked: &Asked<'_>,
    parts: &Parts,
    arrival: &Arrival,
    codes: Codes,
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
            let refill = || wanted(shared, caller, served, asked, parts);
            let stock = found.stock(&refill, codes.in_memory());
            let reply = answer::stored(shared, served, parts, &stock, age_s, How::Hit { ttl_s });
            if asked.ahead && reply.is_some() && refresh::is_due(&found, ttl_s) {
                refresh::start(shared, refill(), found);
            }
            reply
        }
        _ => None,
    }
}

/// The same, told.
fn decided(served: &Served, asked: &Asked<'_>, found: &Found, arrival: &Arrival) -> Decision {
    let decision = decide(served, asked, found, arrival.unix_ms);
    arrival.tell("purges", || told::standing(standing(served, found)));
    arrival.tell("decision", || told::decision(decision));
    decision
}

/// Whether a stored object may be used, and how: its lifetime, and whether it was purged since its fetch began.
pub(super) fn decide(served: &Served, asked: &Asked<'_>, found: &Found, now: u64) -> Decision {
    let (standing, object) = (standing(served, found), &found.object);
    let decision = caching::decide(&object.freshness, standing, now);
    match &asked.demand {
        Some(demand) => demand.applied(decision, &object.freshness, &object.headers, standing, now),
        None => decision,
    }
}

/// Whether anything that a stored object falls under was purged since its fetch began.
pub(super) fn standing(served: &Served, found: &Found) -> Standing {
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
    let shelf = match shelf(shared, Look::Use, asked.primary, &parts.headers, arrival.unix_ms).await {
        Shelf::Nothing => searched::shelf(shared, Look::Use, served, asked, &parts.headers, arrival.unix_ms).await,
        shelf => shelf,
    };
    arrival.tell("stored", || told::shelf(&shelf));
    // 6. decide
    let mut key = asked.primary;
    let codes = Codes::of(policy, caller);
    if let Shelf::Found(found) = &shelf {
        coded::look(shared, codes, parts, found.key, &found.object).await;
    }
    let refill = || wanted(shared, caller, served, asked, parts);
    let (found, reason, conditional) = match shelf {
        Shelf::Found(found) => match decided(served, asked, &found, arrival) {
            Decision::Serve { age_s, ttl_s } => {
                let how = How::Hit { ttl_s };
                if let Some(response) = answer::stored(shared, served, parts, &found.stock(&refill, codes), age_s, how)
                {
                    return response;
                }
                (None, Reason::ChunkLost, false)
            }
            Decision::ServeAndRefresh { age_s, ttl_s, reason } => {
                let how = How::Stale { ttl_s, reason };
                if let Some(response) = answer::stored(shared, served, parts, &found.stock(&refill, codes), age_s, how)
                {
                    refresh::start(shared, refill(), found);
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
        Shelf::Private(reason) => return pass::alone(shared, served, parts, refill(), reason).await,
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
    let Some(part) = part(shared, asked, parts, found.as_ref(), arrival.unix_ms) else {
        return pass::part(shared, caller, served, asked, parts).await;
    };
    // 7. fill, and 8. store
    let miss = Miss { key, found, reason, conditional, part };
    match take_part(shared, caller, served, asked, parts, policy, arrival, miss).await {
        Some(reply) => reply,
        // slices of it are not to be had; what the client asked for may be
        None => pass::part(shared, caller, served, asked, parts).await,
    }
}

/// The request as it goes upstream.
pub(super) fn wanted(
    shared: &Shared,
    caller: Caller,
    served: &Arc<Served>,
    asked: &Asked<'_>,
    parts: &Parts,
) -> Arc<Wanted> {
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
        interim: asked.interim.map(Interim::teller),
    })
}

/// Why something has to be fetched.
struct Miss {
    key: Key,
    found: Option<Found>,
    reason: Reason,
    conditional: bool,
    part: Option<Span>,
}

/// Takes part in fills until one gives an answer that this request may have. None if it has to ask for itself.
#[expect(clippy::too_many_arguments, reason = "all that is known of a request")]
async fn take_part(
    shared: &Arc<Shared>,
    caller: Caller,
    served: &Arc<Served>,
    asked: &Asked<'_>,
    parts: &Parts,
    policy: &Policy,
    arrival: &Arrival,
    miss: Miss,
) -> Option<Reply> {
    // what was found for another URL is asked for by this one's own name: the answer may be for this one alone
    let own = miss.found.as_ref().filter(|found| found.presented.is_none());
    let key = own.map_or(miss.key, |found| found.key);
    let mut job = Job {
        key: refresh::flown(key, miss.part),
        stale: miss.found.as_ref().map(|found| (found.key, Arc::clone(&found.object))),
        conditional: miss.conditional,
        direct: !served.realm.caught_up(),
        part: miss.part,
        wanted: wanted(shared, caller, served, asked, parts),
    };
    let codes = Codes::of(policy, caller);
    let (mut refused, mut waited) = (None, false);
    for round in 0..ROUNDS_MAX {
        let mut landed = None;
        let boarding = if round + 1 < ROUNDS_MAX {
            fill::board(shared, &job, refused.as_ref(), || {
                // somebody else's fetch may have landed since the look-up: a second one would bring the same
                landed = from_memory(shared, caller, served, asked, parts, arrival, codes);
                landed.is_some()
            })
        } else {
            Boarding::Seat(fill::alone(shared, job.clone()))
        };
        let seat = match boarding {
            Boarding::Seat(seat) => seat,
            Boarding::Landed => return landed,
            Boarding::Full => return Some(answer::refuse(shared, StatusCode::SERVICE_UNAVAILABLE, Reason::Overloaded)),
        };
        arrival.tell("fetch", || told::boarding(seat.private.is_none(), &job, miss.reason));
        if seat.private.is_none() && !std::mem::replace(&mut waited, true) {
            served.counters.note_collapsed();
        }
        match ride(shared, served, parts, arrival, &mut job, seat, miss.reason, codes).await {
            Ride::Answer(response) => return Some(response),
            Ride::Private(private) => return pass::private(shared, served, parts, private, miss.reason),
            Ride::Failed(failure) => return Some(failed(shared, served, parts, policy, miss, &failure)),
            Ride::NotForMe if job.part.is_some() => return None,
            Ride::NotForMe => return Some(pass::alone(shared, served, parts, job.wanted, Reason::Private).await),
            Ride::Refused(flight) => {
                // straight to the origin: what began after this request came must do
                job.direct = true;
                refused = Some(flight);
            }
        }
    }
    Some(answer::refuse(shared, StatusCode::SERVICE_UNAVAILABLE, Reason::Overloaded))
}

/// How one fill went for one request.
enum Ride {
    Answer(Reply),
    Private(Private),
    NotForMe,
    Refused(Arc<flight::Flight>),
    Failed(flight::Failure),
}

#[expect(clippy::too_many_arguments, reason = "all that is known of a request")]
async fn ride(
    shared: &Arc<Shared>,
    served: &Arc<Served>,
    parts: &Parts,
    arrival: &Arrival,
    job: &mut Job,
    seat: Seat,
    reason: Reason,
    codes: Codes,
) -> Ride {
    let flight = seat.flight;
    let collapsed = seat.private.is_none();
    let outcome = flight.outcome().await;
    arrival.tell("fetched", || told::flight(&outcome));
    match outcome {
        flight::Outcome::Waiting => Ride::Refused(flight),
        flight::Outcome::Failed(failure) => Ride::Failed(failure),
        flight::Outcome::Private => match seat.private {
            Some(private) => private.await.map_or(Ride::NotForMe, Ride::Private),
            None => Ride::NotForMe,
        },
        flight::Outcome::Renewed { object, key } => {
            if !acceptable(served, arrival, object.stamp, &object.purge_keys) {
                return Ride::Refused(flight);
            }
            let how = How::Renewed { reason, collapsed };
            let age_s = object.freshness.age_s(clock::unix_ms());
            let refill = || Arc::clone(&job.wanted);
            let stock = Stock { object: &object, key, refill: Some(&refill), codes };
            match answer::stored(shared, served, parts, &stock, age_s, how) {
                Some(response) => Ride::Answer(response),
                None => {
                    // the body is gone though its head was renewed: fetch it whole
                    job.stale = None;
                    Ride::Refused(flight)
                }
            }
        }
        flight::Outcome::Sliced { object, key, filed, stored } => {
            if is_other_variant(shared, job, &filed) || !acceptable(served, arrival, object.stamp, &object.purge_keys) {
                return Ride::Refused(flight);
            }
            let how = How::Filling { reason, collapsed, stored };
            let refill = || Arc::clone(&job.wanted);
            let stock = Stock { object: &object, key, refill: Some(&refill), codes };
            let age_s = object.freshness.age_s(clock::unix_ms());
            answer::stored(shared, served, parts, &stock, age_s, how).map_or(Ride::Refused(flight), Ride::Answer)
        }
        flight::Outcome::Opened(head) => {
            if is_other_variant(shared, job, &head.filed) {
                return Ride::Refused(flight);
            }
            if !acceptable(served, arrival, head.stamp, &head.purge_keys) {
                return Ride::Refused(flight);
            }
            let Some(reader) = flight.reader(head.length) else { return Ride::Refused(flight) };
            let filled = Filled { head: &head, reader, reason, collapsed, codes };
            Ride::Answer(answer::filled(shared, served, parts, filled))
        }
    }
}

/// Whether what came varies by fields in which this request differs from the leader's; then it flies under its own key.
fn is_other_variant(shared: &Shared, job: &mut Job, filed: &Filed) -> bool {
    let Some((spec, key)) = &filed.vary else { return false };
    let mine = key::variant(&shared.secret, filed.primary, spec, &job.wanted.headers);
    if mine != *key {
        job.key = refresh::flown(mine, job.part);
    }
    mine != *key
}

/// Whether a request that came at `arrival` may have a response whose fetch began at `stamp`: it began after the
/// request came, or nothing that it falls under was purged since.
fn acceptable(served: &Served, arrival: &Arrival, stamp: Position, purge_keys: &[u64]) -> bool {
    let verified = AtomicU64::new(stamp.0);
    stamp >= arrival.position || served.guard.standing(stamp, &verified, purge_keys) == Standing::Valid
}

/// Nothing came from upstream: something old where that is allowed, else a clear error.
fn failed(
    shared: &Arc<Shared>,
    served: &Arc<Served>,
    parts: &Parts,
    policy: &Policy,
    miss: Miss,
    failure: &flight::Failure,
) -> Reply {
    if let Some(found) = miss.found {
        let now = clock::unix_ms();
        let object = &found.object;
        let standing = standing(served, &found);
        if let Some(age_s) = caching::stale_on_error(&object.freshness, standing, now, policy) {
            let how = How::Stale { ttl_s: object.freshness.ttl_s(now), reason: Reason::StaleIfError };
            // what is missing of it could not be fetched now
            let stock = Stock { object, key: found.key, refill: None, codes: Codes::Off };
            if let Some(response) = answer::stored(shared, served, parts, &stock, age_s, how) {
                return response;
            }
        }
    }
    answer::failed(shared, miss.reason, failure)
}

/// Whether a method's answer has no body.
pub(super) fn is_head(method: &Method) -> bool {
    *method == Method::HEAD
}
