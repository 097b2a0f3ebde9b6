//! The body of a fill on its way to its readers.
//!
//! Pieces stay in memory while a reader is near. While the body is being kept, what has gone into the store in chunks
//! may be dropped here: a reader that is further behind, or comes late, takes it from there. The fetch runs at most
//! [`AHEAD_BYTES`] before its fastest reader, so that a slow client's bytes wait at the origin and not in memory. A
//! body that is not kept has nothing to fall back on: then the fetch waits for the slowest reader.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::slices::{Kept, Lookup};
use crate::edge::body::BodyError;

/// How far a fetch may be before its fastest reader, in bytes.
const AHEAD_BYTES: u64 = 4 * 1024 * 1024;
/// What a fill holds though the store has it, in bytes, for readers that are near each other.
const WINDOW_BYTES: u64 = 4 * 1024 * 1024;
/// The same when all fills together hold too much.
const WINDOW_TIGHT_BYTES: u64 = 256 * 1024;
/// What may wait for the slowest reader of a body that is not kept, in bytes.
const UNKEPT_BYTES: u64 = 1024 * 1024;

/// The fetch broke off: nobody may take what came for the whole.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the fetch of this body broke off")]
pub struct BrokenOff;

/// What all fills of a node hold together.
#[derive(Debug)]
pub struct Budget {
    held: AtomicU64,
    bytes_max: u64,
}

impl Budget {
    /// One of so many bytes.
    #[must_use]
    pub const fn new(bytes_max: u64) -> Self {
        Self { held: AtomicU64::new(0), bytes_max }
    }

    /// Bytes that are held now.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    fn window(&self) -> u64 {
        if self.held_bytes() > self.bytes_max { WINDOW_TIGHT_BYTES } else { WINDOW_BYTES }
    }
}

#[derive(Debug, Default)]
struct State {
    list: VecDeque<Bytes>,
    /// How many pieces have been dropped.
    dropped: usize,
    /// Where the first piece in memory begins, and where the last one ends.
    start: u64,
    end: u64,
    ended: Option<Result<(), BrokenOff>>,
    /// Not being kept: pieces wait for the slowest reader.
    unkept: bool,
    /// So many bytes from the start are in the store.
    kept: u64,
    readers: Vec<Option<Place>>,
    /// Whether the fetch waits for its readers.
    waiting: bool,
}

/// Where a reader stands.
#[derive(Debug, Default)]
struct Place {
    at: u64,
    /// The number of the piece that begins there, if it is known.
    piece: Option<usize>,
    waker: Option<Waker>,
}

impl State {
    fn held(&self) -> u64 {
        self.end - self.start
    }

    /// Drops what need not be held; returns how many bytes.
    fn trim(&mut self, window: u64) -> u64 {
        let floor = if self.unkept { self.places().map(|place| place.at).min().unwrap_or(self.end) } else { self.kept };
        let window = if self.unkept { UNKEPT_BYTES } else { window };
        let before = self.start;
        while self.held() > window {
            let Some(piece) = self.list.front() else { break };
            let next = self.start + piece.len() as u64;
            if next > floor {
                break;
            }
            self.list.pop_front();
            self.start = next;
            self.dropped += 1;
        }
        self.start - before
    }

    fn places(&self) -> impl Iterator<Item = &Place> {
        self.readers.iter().flatten()
    }

    fn must_wait(&self) -> bool {
        if self.unkept {
            return self.held() >= UNKEPT_BYTES;
        }
        let fastest = self.places().map(|place| place.at).max();
        fastest.is_some_and(|at| self.end.saturating_sub(at) >= AHEAD_BYTES)
    }

    fn take_wakers(&mut self) -> Vec<Waker> {
        self.readers.iter_mut().flatten().filter_map(|place| place.waker.take()).collect()
    }

    /// The piece in memory that holds the byte at `at`: its index, and how many of its bytes lie before.
    fn find(&self, at: u64, known: Option<usize>) -> Option<(usize, usize)> {
        if let Some(index) = known.and_then(|piece| piece.checked_sub(self.dropped)) {
            return (index < self.list.len()).then_some((index, 0));
        }
        let mut begin = self.start;
        for (index, piece) in self.list.iter().enumerate() {
            let end = begin + piece.len() as u64;
            if at < end {
                return Some((index, usize::try_from(at - begin).unwrap_or(0)));
            }
            begin = end;
        }
        None
    }
}

/// A body that arrives once and is read by many.
#[derive(Debug)]
pub struct Pieces {
    state: Mutex<State>,
    /// Where what has been dropped can be had.
    store: Mutex<Option<Arc<Kept>>>,
    room: Notify,
    budget: Arc<Budget>,
}

impl Drop for Pieces {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.state.get_mut().held(), Ordering::Relaxed);
    }
}

impl Pieces {
    /// None yet.
    #[must_use]
    pub fn new(budget: Arc<Budget>) -> Self {
        Self { state: Mutex::default(), store: Mutex::default(), room: Notify::new(), budget }
    }

    /// Adds a piece.
    pub fn push(&self, piece: Bytes) {
        let wakers = {
            let mut state = self.state.lock();
            let added = piece.len() as u64;
            state.end += added;
            state.list.push_back(piece);
            self.budget.held.fetch_add(added, Ordering::Relaxed);
            self.trimmed(&mut state);
            state.take_wakers()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    fn trimmed(&self, state: &mut State) {
        let freed = state.trim(self.budget.window());
        if freed > 0 {
            self.budget.held.fetch_sub(freed, Ordering::Relaxed);
        }
    }

    /// Says that the first `bytes` are in the store, and where.
    pub fn kept(&self, bytes: u64, store: &Arc<Kept>) {
        self.store.lock().get_or_insert_with(|| Arc::clone(store));
        let mut state = self.state.lock();
        state.kept = bytes;
        self.trimmed(&mut state);
    }

    /// From now on nothing more goes into the store.
    pub fn unkept(&self) {
        let mut state = self.state.lock();
        state.unkept = true;
        self.trimmed(&mut state);
    }

    /// The body has ended, or broken off. The first end counts.
    pub fn end(&self, end: Result<(), BrokenOff>) {
        let wakers = {
            let mut state = self.state.lock();
            state.ended.get_or_insert(end);
            state.take_wakers()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Waits until there is room for another piece. False if it is neither kept nor read by anybody.
    pub async fn room(&self) -> bool {
        loop {
            let notified = self.room.notified();
            {
                let mut state = self.state.lock();
                self.trimmed(&mut state);
                if !state.must_wait() {
                    return true;
                }
                if state.unkept && state.places().next().is_none() {
                    return false;
                }
                state.waiting = true;
            }
            notified.await;
        }
    }

    /// A reader at the first byte; none if what it would begin with is gone. `length` is what was announced.
    #[must_use]
    pub fn reader(self: &Arc<Self>, length: Option<u64>) -> Option<Reader> {
        let mut state = self.state.lock();
        if state.start > 0 && state.start > state.kept {
            return None;
        }
        let free = state.readers.iter().position(Option::is_none);
        let slot = free.unwrap_or_else(|| {
            state.readers.push(None);
            state.readers.len() - 1
        });
        if let Some(place) = state.readers.get_mut(slot) {
            *place = Some(Place::default());
        }
        drop(state);
        Some(Reader { pieces: Arc::clone(self), slot, length, chunk: None })
    }
}

/// One client's way through a body.
pub struct Reader {
    pieces: Arc<Pieces>,
    slot: usize,
    length: Option<u64>,
    /// A chunk that is being read from the store.
    chunk: Option<Lookup>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("slot", &self.slot).field("length", &self.length).finish_non_exhaustive()
    }
}

impl Reader {
    /// Length of the whole body, if it was announced.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// The next piece; an error if the fetch broke off.
    pub fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if self.chunk.is_some() {
            return self.poll_chunk(context);
        }
        let pieces = Arc::clone(&self.pieces);
        let mut guard = pieces.state.lock();
        let state = &mut *guard;
        let Some(place) = state.readers.get(self.slot).and_then(Option::as_ref) else {
            return Poll::Ready(Some(Err(Box::new(BrokenOff))));
        };
        if place.at < state.start {
            let at = place.at;
            drop(guard);
            return self.behind(at, context);
        }
        if let Some((index, skip)) = state.find(place.at, place.piece)
            && let Some(piece) = state.list.get(index)
        {
            let piece = piece.slice(skip..);
            let next = Some(index + state.dropped + 1);
            self.step(state, piece.len() as u64, next);
            return Poll::Ready(Some(Ok(piece)));
        }
        match state.ended {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(broken)) => Poll::Ready(Some(Err(Box::new(broken)))),
            None => {
                if let Some(place) = state.readers.get_mut(self.slot).and_then(Option::as_mut)
                    && !place.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker()))
                {
                    place.waker = Some(context.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    /// Moves on, and lets the fetch go on if it waits.
    fn step(&self, state: &mut State, bytes: u64, piece: Option<usize>) {
        if let Some(place) = state.readers.get_mut(self.slot).and_then(Option::as_mut) {
            place.at += bytes;
            place.piece = piece;
        }
        if state.waiting && !state.must_wait_after_trim(&self.pieces) {
            state.waiting = false;
            self.pieces.room.notify_one();
        }
    }

    /// What it wants next is not in memory any more.
    fn behind(&mut self, at: u64, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let Some(store) = self.pieces.store.lock().clone() else {
            return Poll::Ready(Some(Err(Box::new(BrokenOff))));
        };
        self.chunk = Some(store.chunk_from(at));
        self.poll_chunk(context)
    }

    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let Some(chunk) = &mut self.chunk else { return Poll::Ready(Some(Err(Box::new(BrokenOff)))) };
        let read = ready!(chunk.as_mut().poll(context));
        self.chunk = None;
        let read = match read {
            Ok(bytes) if !bytes.is_empty() => bytes,
            _ => return Poll::Ready(Some(Err(Box::new(BrokenOff)))),
        };
        self.step(&mut self.pieces.state.lock(), read.len() as u64, None);
        Poll::Ready(Some(Ok(read)))
    }
}

impl State {
    fn must_wait_after_trim(&mut self, pieces: &Pieces) -> bool {
        pieces.trimmed(self);
        self.must_wait()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.pieces.state.lock();
        if let Some(place) = state.readers.get_mut(self.slot) {
            *place = None;
        }
        if state.waiting {
            state.waiting = false;
            self.pieces.room.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::task::Waker;

    use super::*;

    fn pieces() -> Arc<Pieces> {
        Arc::new(Pieces::new(Arc::new(Budget::new(u64::MAX))))
    }

    fn next(reader: &mut Reader) -> Poll<Option<Result<Bytes, BodyError>>> {
        reader.poll_piece(&mut Context::from_waker(Waker::noop()))
    }

    fn piece(reader: &mut Reader) -> Bytes {
        match next(reader) {
            Poll::Ready(Some(Ok(bytes))) => bytes,
            other => panic!("expected a piece, found {other:?}"),
        }
    }

    fn large(byte: u8) -> Bytes {
        Bytes::from(vec![byte; 600 * 1024])
    }

    #[test]
    fn a_late_reader_begins_at_the_first_piece() {
        let body = pieces();
        body.push(Bytes::from_static(b"a"));
        let mut late = body.reader(None).unwrap();
        body.push(Bytes::from_static(b"b"));
        body.end(Ok(()));
        assert_eq!(piece(&mut late), "a");
        assert_eq!(piece(&mut late), "b");
        assert!(matches!(next(&mut late), Poll::Ready(None)));
    }

    #[test]
    fn a_broken_fetch_is_never_taken_for_the_whole() {
        let body = pieces();
        let mut reader = body.reader(None).unwrap();
        body.push(Bytes::from_static(b"a"));
        body.end(Err(BrokenOff));
        body.end(Ok(()));
        assert_eq!(piece(&mut reader), "a");
        assert!(matches!(next(&mut reader), Poll::Ready(Some(Err(_)))));
    }

    #[test]
    fn what_is_not_kept_waits_for_the_slowest_reader() {
        let body = pieces();
        body.unkept();
        let (mut fast, mut slow) = (body.reader(None).unwrap(), body.reader(None).unwrap());
        body.push(large(1));
        body.push(large(2));
        assert!(body.state.lock().must_wait());
        piece(&mut fast);
        piece(&mut fast);
        assert_eq!(body.state.lock().list.len(), 2, "the slow one has read nothing yet");
        piece(&mut slow);
        body.push(large(3));
        assert_eq!(body.state.lock().list.len(), 2);
        assert!(body.reader(None).is_none(), "nobody new may join");
        assert_eq!(piece(&mut slow), large(2));
        drop(slow);
        assert_eq!(piece(&mut fast), large(3));
    }

    #[test]
    fn small_bodies_that_are_not_kept_are_still_there_for_all_who_waited() {
        let body = pieces();
        body.unkept();
        let mut first = body.reader(None).unwrap();
        body.push(Bytes::from_static(b"a"));
        piece(&mut first);
        assert_eq!(piece(&mut body.reader(None).unwrap()), "a");
    }

    #[test]
    fn what_is_kept_waits_for_the_fastest_reader_only() {
        let body = pieces();
        let (mut fast, _slow) = (body.reader(None).unwrap(), body.reader(None).unwrap());
        for byte in 0..7 {
            body.push(large(byte));
        }
        assert!(body.state.lock().must_wait());
        piece(&mut fast);
        assert!(!body.state.lock().must_wait());
    }

    #[test]
    fn without_readers_a_kept_body_never_waits() {
        let body = pieces();
        for byte in 0..20 {
            body.push(large(byte));
        }
        assert!(!body.state.lock().must_wait());
        assert_eq!(body.budget.held_bytes(), 20 * 600 * 1024);
        let budget = Arc::clone(&body.budget);
        drop(body);
        assert_eq!(budget.held_bytes(), 0);
    }
}
