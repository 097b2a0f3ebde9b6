//! What is counted and logged of a request, once it is answered.

use std::net::IpAddr;

use http::{HeaderValue, Response, Version, header, request::Parts};
use http_body::Body as _;
use region_config::StatusFor;
use rules::caching::{Reason, fields};

use super::{
    answer::{CACHE_STATUS, Reply},
    body::Body,
    sites::Served,
    spine::{Arrival, Caller, authority},
};
use crate::{
    clock,
    observe::{
        Line, Outcome,
        trail::{Answered, REQUEST},
    },
    snapshot::Shared,
};

/// Counts and logs what was answered. Never waits.
pub(super) fn note(shared: &Shared, caller: Caller, served: &Served, parts: &Parts, arrival: &Arrival, reply: &Reply) {
    let Caller::Client { address, .. } = caller else { return };
    let micros = u32::try_from(clock::instant().duration_since(arrival.instant).as_micros()).unwrap_or(u32::MAX);
    served.counters.note(reply.outcome, reply.reason, 0, micros);
    shared.load.note(served.place, &served.site, address);
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

/// What a client is shown: without what is between origin and cache, and with the id of its trail if it has one.
pub(super) fn shown(shared: &Shared, served: &Served, parts: &Parts, arrival: Arrival, reply: Reply) -> Response<Body> {
    let Reply { mut response, outcome, reason } = reply;
    // tags tell strangers how a site is built
    fields::strip_tags(response.headers_mut());
    let Arrival { trail, unix_ms, instant, .. } = arrival;
    match trail {
        Some(trail) => {
            let micros = u32::try_from(clock::instant().duration_since(instant).as_micros()).unwrap_or(u32::MAX);
            let answered = answered(parts, &response, (outcome, reason), unix_ms, micros);
            let id = shared.observe.trails().keep(&served.permit, *trail, answered);
            if let Ok(id) = HeaderValue::try_from(id) {
                response.headers_mut().insert(REQUEST.clone(), id);
            }
        }
        None if served.site.cache_status == StatusFor::Holders => {
            response.headers_mut().remove(&CACHE_STATUS);
        }
        None => {}
    }
    response
}

fn answered(
    parts: &Parts,
    response: &Response<Body>,
    (outcome, reason): (Outcome, Option<Reason>),
    unix_ms: u64,
    micros: u32,
) -> Answered {
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let members = response.headers().get_all(&CACHE_STATUS).iter().filter_map(|member| member.to_str().ok());
    Answered {
        unix_ms,
        method: parts.method.to_string(),
        url: format!("{}{target}", authority(parts).unwrap_or("")),
        status: response.status().as_u16(),
        outcome,
        reason,
        cache_status: members.collect::<Vec<_>>().join(", "),
        micros,
    }
}

/// Counts what is refused before its site is known, or for a site that is not here: under no site's name.
pub(super) fn stray(shared: &Shared, caller: Caller, response: Response<Body>, reason: Reason) -> Response<Body> {
    if matches!(caller, Caller::Client { .. }) {
        shared.observe.strays().note(Outcome::Refused, Some(reason), 0, 0);
    }
    response
}
