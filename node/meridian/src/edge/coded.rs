//! Coded forms of what is stored: which one a client gets, where it comes from, and what is said about it.

use std::sync::Arc;

use http::{HeaderMap, header, request::Parts};
use region_config::Policy;
use rules::{
    caching::coding::{self, Coding},
    key::{self, Key},
    purge::fill::Made,
};
use wire::entry::{Entry, Object};

use super::{
    answer::{self, Stock},
    body::{Body, Source},
    sites::Served,
    spine::{Caller, is_head},
};
use crate::{
    fill::{
        coded::{self, Origin, Target},
        flight::{Fit, Head, Part},
    },
    snapshot::Shared,
};

/// What is done about codings for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codes {
    /// Nothing: the route does not want it, or another node asks, which codes for its own clients.
    Off,
    /// Coded forms that are in memory are served; what is not there has to be looked for.
    InMemory,
    /// Coded forms are served, and made.
    Made,
}

impl Codes {
    /// For a request that can wait.
    #[must_use]
    pub fn of(policy: &Policy, caller: Caller) -> Self {
        if policy.compress && matches!(caller, Caller::Client { .. }) { Self::Made } else { Self::Off }
    }

    /// For one that cannot.
    #[must_use]
    pub fn in_memory(self) -> Self {
        if self == Self::Made { Self::InMemory } else { self }
    }
}

/// The coding of the answer, where one is wanted. Parts are always of the bytes as they are: their validator is strong.
fn wanted(parts: &Parts) -> Option<Coding> {
    if parts.headers.contains_key(header::RANGE) && !is_head(&parts.method) {
        None
    } else {
        coding::chosen(&parts.headers)
    }
}

/// The coding that a client gets of a stored response, if any.
#[must_use]
pub fn chosen(codes: Codes, parts: &Parts, object: &Object) -> Option<Coding> {
    let coded = codes != Codes::Off && coding::may_code(object.status, &object.headers, Some(object.body.length()));
    if coded { wanted(parts) } else { None }
}

/// Brings a coded form that is on disk into memory, where [`stored`] finds it.
pub async fn look(shared: &Shared, codes: Codes, parts: &Parts, key: Key, object: &Object) {
    if let Some(coding) = chosen(codes, parts, object) {
        shared.objects.lookup(key::coded(key, object.made, coding)).await;
    }
}

/// What to send instead of a stored body.
pub enum Coded {
    /// A coded form: its fields, its body, and its length if that is known.
    Form(HeaderMap, Body, Option<u64>),
    /// The bytes as they are, with these fields.
    Plain(HeaderMap),
    /// It is not known without looking further.
    Unknown,
}

/// Chooses the form of a stored object.
pub fn stored(
    shared: &Arc<Shared>,
    served: &Arc<Served>,
    parts: &Parts,
    stock: &Stock<'_>,
    plain: impl FnOnce() -> Option<Body>,
) -> Coded {
    let object = stock.object;
    let mut headers = object.headers.clone();
    if stock.codes == Codes::Off || !coding::may_code(object.status, &headers, Some(object.body.length())) {
        return Coded::Plain(headers);
    }
    coding::vary(&mut headers);
    let Some(coding) = wanted(parts) else { return Coded::Plain(headers) };
    let key = key::coded(stock.key, object.made, coding);
    if let Some(Entry::Object(form)) = shared.objects.memory(key)
        && let Some(body) = answer::whole_body(shared, &form)
    {
        coding::code(&mut headers, coding);
        return Coded::Form(headers, body, Some(form.body.length()));
    }
    if stock.codes == Codes::InMemory {
        return Coded::Unknown;
    }
    if is_head(&parts.method) {
        coding::code(&mut headers, coding);
        return Coded::Form(headers, Body::empty(), None);
    }
    let origin = || Origin { freshness: object.freshness, stamp: object.stamp, purge_keys: object.purge_keys.clone() };
    match made(shared, served, key, coding, origin, plain) {
        Some(body) => {
            coding::code(&mut headers, coding);
            Coded::Form(headers, body, None)
        }
        None => Coded::Plain(headers),
    }
}

/// Chooses the form of a response that is being filled: its fields and body. `plain` makes a reader of it.
pub fn filled(
    shared: &Arc<Shared>,
    served: &Arc<Served>,
    codes: Codes,
    parts: &Parts,
    head: &Head,
    plain: Body,
) -> (HeaderMap, Body, Option<u64>) {
    let mut headers = head.headers.clone();
    if codes == Codes::Off || !coding::may_code(head.status, &headers, head.length) {
        return (headers, plain, head.length);
    }
    coding::vary(&mut headers);
    let (Some(coding), Ok(())) = (wanted(parts), head.stored) else { return (headers, plain, head.length) };
    let key = key::coded(head.filed.key(), head.made, coding);
    let origin = || Origin { freshness: head.freshness, stamp: head.stamp, purge_keys: head.purge_keys.clone() };
    let mut plain = Some(plain);
    match made(shared, served, key, coding, origin, || plain.take()) {
        Some(body) => {
            coding::code(&mut headers, coding);
            (headers, body, None)
        }
        None => (headers, plain.unwrap_or_default(), head.length),
    }
}

/// A reader of the coded form that is being made; none if there is no room to make one.
fn made(
    shared: &Arc<Shared>,
    served: &Arc<Served>,
    key: Key,
    coding: Coding,
    origin: impl FnOnce() -> Origin,
    plain: impl FnOnce() -> Option<Body>,
) -> Option<Body> {
    let mut ready = None;
    // whoever cannot make it does not lead: a flight that never leaves would cut those who joined it
    let part = shared.flights.join(
        key,
        |_| Fit::Join,
        || Made::Elsewhere,
        || {
            ready = coded::room(shared).and_then(|running| Some((running, plain()?)));
            ready.is_none()
        },
    );
    let reader = match (part, ready) {
        (Part::Follow(flight), _) => flight.reader(None),
        (Part::Lead(flight), Some((running, body))) => {
            // the reader is there before the first piece is, so that none is missed
            let reader = flight.reader(None);
            coded::start(running, served, &flight, Target { key, coding, origin: origin() }, body);
            reader
        }
        (Part::Lead(_), None) | (Part::Landed | Part::After(_), _) => None,
    };
    reader.map(|reader| Body::from(Source::Flight(reader)))
}
