//! A fill in flight: one fetch, streamed to everyone who waits for it.
//!
//! The fetch belongs to a task of its own, never to a client: a client that leaves takes nothing with it. The head is
//! announced once; the body is a list of pieces that each reader walks at its own pace. While the body may still be
//! stored all pieces are kept, so that a late reader begins at the first. Once it has outgrown the store, pieces that
//! every reader has seen are dropped and the fetch waits for the slowest reader: memory stays bounded.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use region_config::NodeId;
use rules::{
    caching::{Freshness, Reason, VarySpec},
    key::Key,
    purge::Position,
};
use tokio::sync::{Notify, watch};
use wire::entry::Object;

use crate::{edge::body::BodyError, origin::OriginError};

/// Pieces that wait for the slowest reader of a body that is no longer stored, in bytes.
const WINDOW_BYTES: u64 = 1024 * 1024;

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
    /// What a purge would name it by.
    pub purge_keys: Box<[u64]>,
    /// How long it may be reused.
    pub freshness: Freshness,
    /// Which request fields it depends on, with the key that the leader's request selects.
    pub vary: Option<(VarySpec, Key)>,
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
    /// The response is for the leader's client alone.
    Private,
    /// Nothing came.
    Failed(Failure),
}

/// The fetch broke off: nobody may take what came for the whole.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the fetch of this body broke off")]
pub struct BrokenOff;

#[derive(Debug, Default)]
struct Pieces {
    list: VecDeque<Bytes>,
    dropped: usize,
    bytes: u64,
    end: Option<Result<(), BrokenOff>>,
    outgrown: bool,
    readers: Vec<Option<Place>>,
}

/// Where a reader stands.
#[derive(Debug, Default)]
struct Place {
    next: usize,
    waker: Option<Waker>,
}

impl Pieces {
    /// Drops what every reader has seen, once nobody new may join.
    fn trim(&mut self) {
        let slowest = self.readers.iter().flatten().map(|place| place.next).min();
        let slowest = slowest.unwrap_or(self.dropped + self.list.len());
        while self.dropped < slowest {
            let Some(piece) = self.list.pop_front() else { break };
            self.bytes -= piece.len() as u64;
            self.dropped += 1;
        }
    }

    fn take_wakers(&mut self) -> Vec<Waker> {
        self.readers.iter_mut().flatten().filter_map(|place| place.waker.take()).collect()
    }
}

/// One fetch and all who wait for it.
#[derive(Debug)]
pub struct Flight {
    key: Key,
    outcome: watch::Sender<Outcome>,
    pieces: Mutex<Pieces>,
    room: Notify,
}

impl Flight {
    /// A flight that has not left.
    #[must_use]
    pub fn new(key: Key) -> Arc<Self> {
        let (outcome, _) = watch::channel(Outcome::Waiting);
        Arc::new(Self { key, outcome, pieces: Mutex::default(), room: Notify::new() })
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
        let open = self.pieces.lock().end.is_none();
        if open {
            self.end(Err(BrokenOff));
        }
    }

    /// How many wait for its head now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.outcome.receiver_count()
    }

    /// Adds a piece of the body.
    pub fn push(&self, piece: Bytes) {
        let wakers = {
            let mut pieces = self.pieces.lock();
            pieces.bytes += piece.len() as u64;
            pieces.list.push_back(piece);
            if pieces.outgrown {
                pieces.trim();
            }
            pieces.take_wakers()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The body has ended, or broken off.
    pub fn end(&self, end: Result<(), BrokenOff>) {
        let wakers = {
            let mut pieces = self.pieces.lock();
            pieces.end = Some(end);
            pieces.take_wakers()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// From now on nobody new may join, and pieces are dropped once read.
    pub fn outgrow(&self) {
        let mut pieces = self.pieces.lock();
        pieces.outgrown = true;
        pieces.trim();
    }

    /// Waits until there is room for another piece. False if nobody reads any more.
    pub async fn room(&self) -> bool {
        loop {
            let notified = self.room.notified();
            {
                let pieces = self.pieces.lock();
                if !pieces.outgrown || pieces.bytes < WINDOW_BYTES {
                    return true;
                }
                if pieces.readers.iter().all(Option::is_none) {
                    return false;
                }
            }
            notified.await;
        }
    }

    /// All pieces so far; what is stored when the body has ended.
    #[must_use]
    pub fn pieces(&self) -> Vec<Bytes> {
        self.pieces.lock().list.iter().cloned().collect()
    }

    /// A reader at the first piece. None if pieces have been dropped already.
    #[must_use]
    pub fn reader(self: &Arc<Self>, length: Option<u64>) -> Option<Reader> {
        let mut pieces = self.pieces.lock();
        if pieces.outgrown {
            return None;
        }
        let free = pieces.readers.iter().position(Option::is_none);
        let slot = free.unwrap_or_else(|| {
            pieces.readers.push(None);
            pieces.readers.len() - 1
        });
        pieces.readers[slot] = Some(Place::default());
        drop(pieces);
        Some(Reader { flight: Arc::clone(self), slot, length })
    }
}

/// One client's way through a body.
#[derive(Debug)]
pub struct Reader {
    flight: Arc<Flight>,
    slot: usize,
    length: Option<u64>,
}

impl Reader {
    /// Length of the whole body, if it was announced.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// The next piece; an error if the fetch broke off.
    pub fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let mut guard = self.flight.pieces.lock();
        let pieces = &mut *guard;
        let Some(place) = pieces.readers.get_mut(self.slot).and_then(Option::as_mut) else {
            return Poll::Ready(Some(Err(Box::new(BrokenOff))));
        };
        if let Some(piece) = pieces.list.get(place.next - pieces.dropped) {
            let piece = piece.clone();
            place.next += 1;
            if pieces.outgrown {
                pieces.trim();
                drop(guard);
                self.flight.room.notify_one();
            }
            return Poll::Ready(Some(Ok(piece)));
        }
        match pieces.end {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(broken)) => Poll::Ready(Some(Err(Box::new(broken)))),
            None => {
                if !place.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                    place.waker = Some(context.waker().clone());
                }
                Poll::Pending
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut pieces = self.flight.pieces.lock();
        if let Some(place) = pieces.readers.get_mut(self.slot) {
            *place = None;
        }
        if pieces.outgrown {
            pieces.trim();
            drop(pieces);
            self.flight.room.notify_one();
        }
    }
}

/// How a request takes part in a fill.
#[derive(Debug)]
pub enum Part {
    /// It starts the fetch.
    Lead(Arc<Flight>),
    /// It waits for a fetch that is under way.
    Follow(Arc<Flight>),
}

const SHARDS: usize = 64;

/// All fills under way on this node: at most one per key.
#[derive(Debug)]
pub struct Flights {
    shards: [Mutex<HashMap<Key, Arc<Flight>>>; SHARDS],
}

impl Default for Flights {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()) }
    }
}

impl Flights {
    fn shard(&self, key: Key) -> &Mutex<HashMap<Key, Arc<Flight>>> {
        &self.shards[usize::try_from(key.0 % SHARDS as u128).unwrap_or(0)]
    }

    /// Joins the fill of a key, or starts one. A flight that the caller has `refused` is replaced.
    #[must_use]
    pub fn join(&self, key: Key, refused: Option<&Arc<Flight>>) -> Part {
        let mut shard = self.shard(key).lock();
        if let Some(flight) = shard.get(&key)
            && !refused.is_some_and(|refused| Arc::ptr_eq(refused, flight))
        {
            return Part::Follow(Arc::clone(flight));
        }
        let flight = Flight::new(key);
        shard.insert(key, Arc::clone(&flight));
        Part::Lead(flight)
    }

    /// Takes a flight off the board; later requests start another.
    pub fn land(&self, flight: &Arc<Flight>) {
        let mut shard = self.shard(flight.key).lock();
        if shard.get(&flight.key).is_some_and(|current| Arc::ptr_eq(current, flight)) {
            shard.remove(&flight.key);
        }
    }

    /// How many are under way.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::task::Waker;

    use super::*;

    fn next(reader: &mut Reader) -> Poll<Option<Result<Bytes, BodyError>>> {
        reader.poll_piece(&mut Context::from_waker(Waker::noop()))
    }

    fn piece(reader: &mut Reader) -> Bytes {
        match next(reader) {
            Poll::Ready(Some(Ok(bytes))) => bytes,
            other => panic!("expected a piece, found {other:?}"),
        }
    }

    #[test]
    fn a_late_reader_begins_at_the_first_piece() {
        let flight = Flight::new(Key(1));
        flight.push(Bytes::from_static(b"a"));
        let mut late = flight.reader(None).unwrap();
        flight.push(Bytes::from_static(b"b"));
        flight.end(Ok(()));
        assert_eq!(piece(&mut late), "a");
        assert_eq!(piece(&mut late), "b");
        assert!(matches!(next(&mut late), Poll::Ready(None)));
    }

    #[test]
    fn a_broken_fetch_is_never_taken_for_the_whole() {
        let flight = Flight::new(Key(1));
        let mut reader = flight.reader(None).unwrap();
        flight.push(Bytes::from_static(b"a"));
        flight.end(Err(BrokenOff));
        assert_eq!(piece(&mut reader), "a");
        assert!(matches!(next(&mut reader), Poll::Ready(Some(Err(_)))));
    }

    #[test]
    fn once_outgrown_pieces_are_dropped_when_the_slowest_has_read_them() {
        let flight = Flight::new(Key(1));
        let (mut fast, mut slow) = (flight.reader(None).unwrap(), flight.reader(None).unwrap());
        for _ in 0..4 {
            flight.push(Bytes::from_static(b"x"));
        }
        flight.outgrow();
        assert!(flight.reader(None).is_none(), "nobody new may join");
        for _ in 0..4 {
            piece(&mut fast);
        }
        assert_eq!(flight.pieces().len(), 4);
        piece(&mut slow);
        assert_eq!(flight.pieces().len(), 3);
        drop(slow);
        assert_eq!(flight.pieces().len(), 0);
    }

    #[test]
    fn a_key_has_one_flight_until_it_lands_or_is_refused() {
        let flights = Flights::default();
        let Part::Lead(first) = flights.join(Key(7), None) else { panic!("first leads") };
        assert!(matches!(flights.join(Key(7), None), Part::Follow(_)));
        assert!(matches!(flights.join(Key(8), None), Part::Lead(_)));
        let Part::Lead(second) = flights.join(Key(7), Some(&first)) else { panic!("refused: leads anew") };
        flights.land(&first);
        assert!(matches!(flights.join(Key(7), None), Part::Follow(_)), "the second is still under way");
        flights.land(&second);
        assert!(matches!(flights.join(Key(7), None), Part::Lead(_)));
    }
}
