//! Taking part in fills: which one a request may wait for, and whether it may have what that brings.

use std::sync::{Arc, atomic::AtomicU64};

use http::{StatusCode, request::Parts};
use region_config::Policy;
use rules::{
    caching::{self, Reason, ranges::Span},
    key::{self, Key},
    purge::{
        Position,
        fill::{Made, acceptable, demanded},
    },
};

use super::{
    answer::{self, Filled, How, Reply, Stock},
    coded::Codes,
    pass, refresh,
    shelf::Found,
    sites::Served,
    spine::{Arrival, Asked, Caller, from_memory, standing, wanted},
    told,
};
use crate::{
    clock,
    fill::{self, Boarding, Job, Need, Private, Seat, Way, filing::Filed, flight},
    snapshot::Shared,
};

/// Fills that one request may take part in: a waiter that is refused by one (another variant, a purge meanwhile) starts
/// another, which began after it arrived and must do.
const ROUNDS_MAX: usize = 4;

/// Why something has to be fetched.
pub(super) struct Miss {
    pub(super) key: Key,
    pub(super) found: Option<Found>,
    pub(super) reason: Reason,
    pub(super) conditional: bool,
    pub(super) part: Option<Span>,
}

/// Takes part in fills until one gives an answer that this request may have. None if it has to ask for itself.
#[expect(clippy::too_many_arguments, reason = "all that is known of a request")]
pub(super) async fn take_part(
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
        way: {
            let first = way(served, asked);
            miss.found.as_ref().map_or(first, |found| refresh::way(found, first))
        },
        part: miss.part,
        wanted: wanted(shared, caller, served, asked, parts),
    };
    let codes = Codes::of(policy, caller);
    let (mut refused, mut waited) = (None, false);
    for round in 0..ROUNDS_MAX {
        let mut landed = None;
        let boarding = if round + 1 < ROUNDS_MAX {
            let need = Need { vouch: served.realm.vouch(asked.bound_ms), after: asked.after };
            fill::board(shared, &job, need, refused.as_ref(), || {
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
            Boarding::After(flight) => {
                flight.outcome().await;
                // it is taken off the board when its body has ended: what begins now need not wait for that
                refused = Some(flight);
                continue;
            }
            Boarding::Full => return Some(answer::refuse(shared, StatusCode::SERVICE_UNAVAILABLE, Reason::Overloaded)),
        };
        arrival.tell("fetch", || told::boarding(seat.private.is_none(), &job, miss.reason));
        if seat.private.is_none() && !std::mem::replace(&mut waited, true) {
            served.counters.note_collapsed();
        }
        match ride(shared, served, asked, parts, arrival, &mut job, seat, miss.reason, codes).await {
            Ride::Answer(response) => return Some(response),
            Ride::Private(private) => return pass::private(shared, served, parts, private, miss.reason),
            Ride::Failed(failure) => return Some(failed(shared, served, asked, parts, policy, miss, &failure)),
            Ride::NotForMe if job.part.is_some() => return None,
            Ride::NotForMe => return Some(pass::alone(shared, served, parts, job.wanted, Reason::Private).await),
            Ride::Refused(flight) => {
                // what begins at the origin after this request came must do
                job.way = if job.way == Way::Owner { Way::AfterArrival } else { Way::Origin };
                refused = Some(flight);
            }
        }
    }
    Some(answer::refuse(shared, StatusCode::SERVICE_UNAVAILABLE, Reason::Overloaded))
}

/// Whom to ask first.
pub(super) fn way(served: &Served, asked: &Asked<'_>) -> Way {
    let sure = served.realm.caught_up() && demanded(&served.realm.vouch(asked.bound_ms)) == Made::Elsewhere;
    if sure && asked.after.is_none() { Way::Owner } else { Way::AfterArrival }
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
    asked: &Asked<'_>,
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
            if !may_have(served, asked, arrival, object.stamp, object.confirmed_ms, &object.purge_keys) {
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
            if is_other_variant(shared, job, &filed)
                || !may_have(served, asked, arrival, object.stamp, object.confirmed_ms, &object.purge_keys)
            {
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
            if !may_have(served, asked, arrival, head.stamp, head.confirmed_ms, &head.purge_keys) {
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

/// Whether a request that came at `arrival` may have a response whose fetch began at `stamp`.
fn may_have(
    served: &Served,
    asked: &Asked<'_>,
    arrival: &Arrival,
    stamp: Position,
    confirmed_ms: u64,
    purge_keys: &[u64],
) -> bool {
    let standing = served.guard.standing(stamp, &AtomicU64::new(stamp.0), purge_keys);
    acceptable(arrival.position, stamp, standing, &served.realm.vouch(asked.bound_ms), confirmed_ms)
}

/// Nothing came from upstream: something old where that is allowed, else a clear error.
fn failed(
    shared: &Arc<Shared>,
    served: &Arc<Served>,
    asked: &Asked<'_>,
    parts: &Parts,
    policy: &Policy,
    miss: Miss,
    failure: &flight::Failure,
) -> Reply {
    // what nothing vouches for is never served, whatever its lifetime says
    let vouched =
        |found: &Found| asked.after.is_none() && served.realm.vouch(asked.bound_ms).covers(found.object.confirmed_ms);
    if let Some(found) = miss.found.filter(vouched) {
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
