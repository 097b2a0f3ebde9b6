//! A fill in flight: one fetch, streamed to everyone who waits for it.
//!
//! The fetch belongs to a task of its own, never to a client: a client that leaves takes nothing with it. The head is
//! announced once; the body goes to each reader at its own pace ([`pieces`](super::pieces)).

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use region_config::NodeId;
use rules::{
    caching::{Freshness, Reason},
    key::{BodyId, Key},
    purge::{Position, fill::Made},
};
use tokio::sync::watch;
use wire::entry::Object;

use super::{
    filing::Filed,
    pieces::{BrokenOff, Budget, Pieces, Reader},
};
use crate::{clock, origin::OriginError};

/// The head of a response that all waiters of a fill may share.
#[derive(Debug)]
pub struct Head {
    /// Its status.
    pub status: StatusCode,
    /// Its fields, without hop-by-hop ones.
    pub headers: HeaderMap,
    /// Length of its body, if it was announced.
    pub length: Option<u64>,
    /// The position that its fetch began at.
    pub stamp: Position,
    /// When the origin was asked, by this node or for it; 0 if another node answered from what it had.
    pub confirmed_ms: u64,
    /// What a purge would name it by.
    pub purge_keys: Box<[u64]>,
    /// How long it may be reused.
    pub freshness: Freshness,
    /// The name of what its body says.
    pub made: BodyId,
    /// Why that is not as long as it says itself, if it is not.
    pub shaped: Option<Reason>,
    /// Where it is filed.
    pub filed: Filed,
    /// Whether it is being stored; if not, why.
    pub stored: Result<(), Reason>,
    /// The node that it came through, if not straight from the origin.
    pub through: Option<NodeId>,
}

/// Why a fill gave nothing.
#[derive(Debug, Clone, Copy)]
pub struct Failure {
    /// What the client is told.
    pub status: StatusCode,
    /// The named cause.
    pub reason: Reason,
}

impl From<&OriginError> for Failure {
    fn from(error: &OriginError) -> Self {
        let reason = match error {
            OriginError::ConnectTimeout
            | OriginError::FirstByteTimeout
            | OriginError::BetweenBytesTimeout
            | OriginError::TotalTimeout => Reason::OriginTimeout,
            OriginError::NoHealthyOrigin => Reason::NoHealthyOrigin,
            OriginError::TooManyConnections => Reason::OriginBusy,
            OriginError::BreakerOpen => Reason::BreakerOpen,
            OriginError::Limited => Reason::OriginLimited,
            OriginError::Paced => Reason::Paced,
            OriginError::SiteBusy => Reason::SiteBusy,
            OriginError::UploadBroken(_) | OriginError::Unsendable(_) => Reason::Incomplete,
            OriginError::NotPermitted => Reason::OutsideJurisdiction,
            OriginError::Reset(_) => Reason::OriginReset,
            OriginError::Malformed(_) | OriginError::Truncated(_) => Reason::OriginMalformed,
            OriginError::Unresolved { .. }
            | OriginError::Forbidden { .. }
            | OriginError::Refused
            | OriginError::Unreachable(_)
            | OriginError::Tls(_) => Reason::OriginUnreachable,
        };
        Self { status: error.status(), reason }
    }
}

/// What a fill came to.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Still asking.
    Waiting,
    /// A new response, whose body may still be on its way.
    Opened(Arc<Head>),
    /// What was stored is good for longer: same body, fresher head.
    Renewed {
        /// The renewed object.
        object: Arc<Object>,
        /// The key it stands under.
        key: Key,
    },
    /// A part has come, and told of a whole whose other parts can be fetched like it.
    Sliced {
        /// The whole, of which parts are stored or on their way.
        object: Arc<Object>,
        /// The key it stands under.
        key: Key,
        /// Where it is filed.
        filed: Filed,
        /// Whether it is being stored; if not, why.
        stored: Result<(), Reason>,
    },
    /// The response is for the leader's client alone.
    Private,
    /// Nothing came.
    Failed(Failure),
}

/// Flights that ever began on this node.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// The number of the flight that began last: whatever begins from now on has a larger one.
#[must_use]
pub fn newest() -> u64 {
    NUMBER.load(Ordering::Acquire)
}

/// What a flight under way is to a request that could wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// It may bring what is wanted.
    Join,
    /// It cannot: another one has to begin.
    Replace,
    /// It cannot, and one that begins when it has landed can: so many who want that share one.
    Wait,
}

/// One fetch and all who wait for it.
#[derive(Debug)]
pub struct Flight {
    key: Key,
    /// Flights are counted: one with a larger number began later.
    number: u64,
    /// Where it asks.
    made: Made,
    /// When it began, by the clock of leases.
    began_ms: u64,
    outcome: watch::Sender<Outcome>,
    pieces: Arc<Pieces>,
}

impl Flight {
    /// A flight that has not left, and asks in such a place.
    #[must_use]
    pub fn new(key: Key, made: Made, budget: &Arc<Budget>) -> Arc<Self> {
        let (outcome, _) = watch::channel(Outcome::Waiting);
        let number = NUMBER.fetch_add(1, Ordering::AcqRel) + 1;
        let began_ms = clock::monotonic_ms();
        Arc::new(Self { key, number, made, began_ms, outcome, pieces: Arc::new(Pieces::new(Arc::clone(budget))) })
    }

    /// Which one it is.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Where it asks.
    #[must_use]
    pub fn made(&self) -> Made {
        self.made
    }

    /// When it began, by the clock of leases.
    #[must_use]
    pub fn began_ms(&self) -> u64 {
        self.began_ms
    }

    /// Announces what it came to.
    pub fn announce(&self, outcome: Outcome) {
        self.outcome.send_replace(outcome);
    }

    /// Waits until it has come to something.
    pub async fn outcome(&self) -> Outcome {
        let mut receiver = self.outcome.subscribe();
        let landed = receiver.wait_for(|outcome| !matches!(outcome, Outcome::Waiting)).await;
        landed.map_or(Outcome::Private, |outcome| outcome.clone())
    }

    /// The fetch's task is gone: whoever still waits is told that nothing came.
    pub fn abandon(&self) {
        self.outcome.send_if_modified(|outcome| {
            let waiting = matches!(outcome, Outcome::Waiting);
            if waiting {
                let failure = Failure { status: StatusCode::BAD_GATEWAY, reason: Reason::Incomplete };
                *outcome = Outcome::Failed(failure);
            }
            waiting
        });
        self.pieces.end(Err(BrokenOff));
    }

    /// How many wait for its head now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.outcome.receiver_count()
    }

    /// Its body.
    #[must_use]
    pub fn body(&self) -> &Arc<Pieces> {
        &self.pieces
    }

    /// A reader of its body from the first byte; none if that is gone.
    #[must_use]
    pub fn reader(&self, length: Option<u64>) -> Option<Reader> {
        self.pieces.reader(length)
    }
}

/// How a request takes part in a fill.
#[derive(Debug)]
pub enum Part {
    /// It starts the fetch.
    Lead(Arc<Flight>),
    /// It waits for a fetch that is under way.
    Follow(Arc<Flight>),
    /// It waits until this one has landed, and comes again.
    After(Arc<Flight>),
    /// Neither: one has just landed, and brought what is wanted.
    Landed,
}

const SHARDS: usize = 64;

fn shard_of(key: Key) -> usize {
    usize::try_from(key.0 % SHARDS as u128).unwrap_or(0)
}

/// All fills under way on this node: at most one per key.
#[derive(Debug)]
pub struct Flights {
    shards: [Mutex<HashMap<Key, Arc<Flight>>>; SHARDS],
    /// How many are under way for an address, whatever they are coalesced under.
    addresses: [Mutex<HashMap<Key, usize>>; SHARDS],
    budget: Arc<Budget>,
}

/// A fetch for an address, as long as it lives.
pub struct UnderWay<'a> {
    flights: &'a Flights,
    primary: Key,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut addresses = self.flights.address(self.primary).lock();
        if let Some(count) = addresses.get_mut(&self.primary) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&self.primary);
            }
        }
    }
}

impl Flights {
    /// None yet; together they shall hold no more than `bytes_max` of bodies that the store has.
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            addresses: std::array::from_fn(|_| Mutex::default()),
            budget: Arc::new(Budget::new(bytes_max)),
        }
    }

    fn address(&self, primary: Key) -> &Mutex<HashMap<Key, usize>> {
        &self.addresses[shard_of(primary)]
    }

    /// Notes that an address is being fetched, until what is returned is dropped.
    #[must_use]
    pub fn under_way(&self, primary: Key) -> UnderWay<'_> {
        *self.address(primary).lock().entry(primary).or_default() += 1;
        UnderWay { flights: self, primary }
    }

    /// Whether an address is being fetched: what comes may be stored.
    #[must_use]
    pub fn is_under_way(&self, primary: Key) -> bool {
        self.address(primary).lock().contains_key(&primary)
    }

    /// What all of them may hold.
    #[must_use]
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    fn shard(&self, key: Key) -> &Mutex<HashMap<Key, Arc<Flight>>> {
        &self.shards[shard_of(key)]
    }

    /// Joins the fill of a key, or starts one that asks where `made` says. `fit` is asked of one that is under way. `landed`
    /// is asked before one is started, while no other can land: whether what is wanted has come meanwhile, or none can be
    /// started.
    #[must_use]
    pub fn join(
        &self,
        key: Key,
        fit: impl FnOnce(&Arc<Flight>) -> Fit,
        made: impl FnOnce() -> Made,
        landed: impl FnOnce() -> bool,
    ) -> Part {
        let mut shard = self.shard(key).lock();
        if let Some(flight) = shard.get(&key) {
            match fit(flight) {
                Fit::Join => return Part::Follow(Arc::clone(flight)),
                Fit::Wait => return Part::After(Arc::clone(flight)),
                Fit::Replace => {}
            }
        }
        if landed() {
            return Part::Landed;
        }
        let flight = Flight::new(key, made(), &self.budget);
        shard.insert(key, Arc::clone(&flight));
        Part::Lead(flight)
    }

    /// Puts a flight on the board under one more key, if none is there: it brings what is wanted under that, too.
    pub fn also(&self, key: Key, flight: &Arc<Flight>) {
        self.shard(key).lock().entry(key).or_insert_with(|| Arc::clone(flight));
    }

    /// Takes a flight off the board; later requests start another.
    pub fn land(&self, flight: &Arc<Flight>) {
        self.land_under(flight.key, flight);
    }

    /// Takes it off from under a further key.
    pub fn land_under(&self, key: Key, flight: &Arc<Flight>) {
        let mut shard = self.shard(key).lock();
        if shard.get(&key).is_some_and(|current| Arc::ptr_eq(current, flight)) {
            shard.remove(&key);
        }
    }

    /// How many are under way, and how many requests wait for their heads.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        let shards = self.shards.iter().map(|shard| {
            let shard = shard.lock();
            (shard.len(), shard.values().map(|flight| flight.waiting()).sum::<usize>())
        });
        shards.fold((0, 0), |sum, more| (sum.0 + more.0, sum.1 + more.1))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use super::*;

    fn join(flights: &Flights, key: u128, refused: Option<&Arc<Flight>>, landed: bool) -> Part {
        let fit = |flight: &Arc<Flight>| match refused {
            Some(refused) if Arc::ptr_eq(refused, flight) => Fit::Replace,
            _ => Fit::Join,
        };
        flights.join(Key(key), fit, || Made::AtOrigin, || landed)
    }

    fn lead(flights: &Flights, refused: Option<&Arc<Flight>>) -> Arc<Flight> {
        match join(flights, 7, refused, false) {
            Part::Lead(flight) => flight,
            other => panic!("expected to lead, found {other:?}"),
        }
    }

    #[test]
    fn a_key_has_one_flight_until_it_lands_or_is_refused() {
        let flights = Flights::new(0);
        let first = lead(&flights, None);
        assert!(matches!(join(&flights, 7, None, true), Part::Follow(_)));
        assert!(matches!(join(&flights, 8, None, false), Part::Lead(_)));
        let second = lead(&flights, Some(&first));
        flights.land(&first);
        assert!(matches!(join(&flights, 7, None, true), Part::Follow(_)), "the second is still under way");
        flights.land(&second);
        assert!(matches!(join(&flights, 7, None, true), Part::Landed));
        lead(&flights, None);
    }

    #[test]
    fn who_needs_what_begins_later_waits_for_the_one_under_way_to_land() {
        let flights = Flights::new(0);
        let first = lead(&flights, None);
        let seen = newest();
        let later = |flight: &Arc<Flight>| if flight.number() > seen { Fit::Join } else { Fit::Wait };
        let part = flights.join(Key(7), later, || Made::AtOrigin, || false);
        assert!(matches!(part, Part::After(flight) if Arc::ptr_eq(&flight, &first)));
        flights.land(&first);
        let part = flights.join(Key(7), later, || Made::AtOrigin, || false);
        assert!(matches!(part, Part::Lead(_)));
        assert!(matches!(flights.join(Key(7), later, || Made::AtOrigin, || false), Part::Follow(_)));
    }
}
