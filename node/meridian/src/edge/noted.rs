//! What is counted and logged of a request, once it is answered.

use std::net::IpAddr;

use http::{Response, Version, header, request::Parts};
use http_body::Body as _;
use rules::caching::Reason;

use super::{
    answer::Reply,
    body::Body,
    sites::Served,
    spine::{Arrival, Caller, authority},
};
use crate::{
    clock,
    observe::{Line, Outcome},
    snapshot::Shared,
};

/// Counts and logs what was answered. Never waits.
pub(super) fn note(shared: &Shared, caller: Caller, served: &Served, parts: &Parts, arrival: &Arrival, reply: &Reply) {
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

/// Counts what is refused before its site is known, or for a site that is not here: under no site's name.
pub(super) fn stray(shared: &Shared, caller: Caller, response: Response<Body>, reason: Reason) -> Response<Body> {
    if matches!(caller, Caller::Client { .. }) {
        shared.observe.strays().note(Outcome::Refused, Some(reason), 0, 0);
    }
    response
}
