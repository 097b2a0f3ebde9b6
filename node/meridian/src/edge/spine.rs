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
    caching::{self, Decision, Demand, Intent, Reason, conditional, fields},
    key::{self, Key, Target},
    purge::{Position, Standing},
};
use wire::entry::Object;

use super::{
    answer::{self, How, Reply},
    body::{Body, BodyError},
    coded::{self, Codes},
    forward,
    interim::Interim,
    keyed, misrouted,
    noted::{note, shown, stray},
    pass, refresh,
    ride::{Miss, take_part},
    searched,
    shelf::{Found, Look, Shelf, part, pick, shelf},
    sites::{Lodger, Served, bare_host},
    tokens, told,
};
use crate::{
    clock,
    fill::Wanted,
    observe::{Outcome, Told, Trail},
    snapshot::Shared,
};

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
        /// Nothing will do but what is fetched by a flight after this one.
        after: Option<u64>,
    },
}

impl Caller {
    pub(super) fn https(self) -> bool {
        match self {
            Self::Client { https, .. } | Self::Peer { https, .. } => https,
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
    // a debug token and tokens of purges are for this node: they play no part either
    let (token, named) = match caller {
        Caller::Client { .. } => (shared.observe.trails().shown(&mut parts.headers), tokens::shown(&mut parts.headers)),
        Caller::Peer { .. } => (None, None),
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
        // nothing of a site outside is stored, opened, counted by site, or logged here
        Some(Lodger::Outside(outside)) => {
            let answer = misrouted::answer(&outside.site, caller.https(), &host, authority, &parts.uri);
            return stray(shared, caller, answer, Reason::OutsideJurisdiction);
        }
        None => return stray(shared, caller, answer::misdirected(Reason::UnknownSite), Reason::UnknownSite),
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
            let awaited = match named {
                None => None,
                Some(named) => {
                    let awaited = Box::pin(named.awaited(served)).await;
                    // what was heard of meanwhile counts as heard of before
                    arrival.position = served.realm.position();
                    awaited
                }
            };
            let target = keyed::target(policy, target);
            let dressed = keyed::dressed(shared, caller, policy, &parts);
            let parts = dressed.as_ref().unwrap_or(&parts);
            let asked = Asked { interim, ..Asked::new(shared, served, caller, authority, &host, &target) };
            let asked = asked.declared(shared, policy, &parts.headers);
            let asked = Asked { after: awaited.or(asked.after), ..asked };
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
    match caller {
        Caller::Client { .. } => shown(shared, served, &parts, arrival, reply),
        Caller::Peer { .. } => {
            let mut response = reply.response;
            response.extensions_mut().insert(reply.outcome);
            response
        }
    }
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
    pub(super) position: Position,
    /// What is noted for a client that has shown a debug token.
    pub(super) trail: Option<Box<Trail>>,
}

impl Arrival {
    fn now(served: &Served) -> Self {
        Self { unix_ms: clock::unix_ms(), instant: clock::instant(), position: served.realm.position(), trail: None }
    }

    /// Notes a step, if anybody wants to know.
    pub(super) fn tell(&self, step: &'static str, told: impl FnOnce() -> Told) {
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
    /// What the route promises about purges.
    pub(super) bound_ms: Option<u64>,
    /// Whether another node asks.
    pub(super) from_peer: bool,
    /// Nothing will do but what is fetched by a flight after this one.
    pub(super) after: Option<u64>,
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
        let (from_peer, after) = match caller {
            Caller::Client { .. } => (false, None),
            Caller::Peer { after, .. } => (true, after),
        };
        Self {
            https,
            authority,
            host,
            target,
            primary,
            interim: None,
            keyed: None,
            demand: None,
            ahead: false,
            bound_ms: None,
            from_peer,
            after,
        }
    }
}

/// A fresh answer from memory; none if anything has to be waited for.
pub(super) fn from_memory(
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
    let decision = match &asked.demand {
        Some(demand) => demand.applied(decision, &object.freshness, &object.headers, standing, now),
        None => decision,
    };
    match (decision, because(served, asked, standing, object)) {
        (Decision::Serve { .. } | Decision::ServeAndRefresh { .. }, Some(reason)) => Decision::Revalidate { reason },
        (decision, _) => decision,
    }
}

/// Why the origin has to be asked though what is stored would do: nothing vouches for it, or another node asks that would
/// keep it for more than it is.
#[inline]
fn because(served: &Served, asked: &Asked<'_>, standing: Standing, object: &Object) -> Option<Reason> {
    if asked.after.is_some() {
        return Some(Reason::AfterArrival);
    }
    if asked.bound_ms.is_some() && !served.realm.vouch(asked.bound_ms).covers(object.confirmed_ms) {
        return Some(Reason::LeaseLapsed);
    }
    // that it was softly purged would be lost on the way
    (asked.from_peer && standing == Standing::Soft).then_some(Reason::SoftPurged)
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

/// Whether a method's answer has no body.
pub(super) fn is_head(method: &Method) -> bool {
    *method == Method::HEAD
}
