//! The connections to one origin: kept for reuse, bounded in number, waited for in order.
//!
//! One pool per origin is shared by all edge threads, behind a lock that is held for a few moves of pointers. A pool
//! per thread would spare that lock, a wake-up across threads and little else beside a fetch from an origin, and it
//! would multiply idle connections by the threads and make `connections_max` a number per thread. hyper's senders may
//! be used from any thread; the connection itself is driven by the runtime that opened it.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use hyper::client::conn::{http1, http2};
use parking_lot::Mutex;
use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{error::OriginError, outgoing::Upload};
use crate::clock;

/// For how long an idle connection is kept: less than the 5 s after which common servers close theirs, so that it is
/// us who close first and no request meets a closing connection.
const IDLE_MS: u64 = 4_000;

/// A request that cannot be sent twice takes only a connection that was in use so lately.
const YOUNG_MS: u64 = 1_000;

/// Most requests that wait for a connection, per origin.
const WAITERS_MAX: usize = 1_024;

/// Most requests at a time on one HTTP/2 connection: what RFC 9113 section 6.5.2 recommends as the least to allow. An
/// origin that allows fewer makes the rest wait inside of the connection.
const STREAMS_MAX: usize = 100;

/// An HTTP/1.1 connection: one request at a time. Dropping it closes it at once, whatever it is doing.
#[derive(Debug)]
pub(super) struct Http1 {
    pub(super) send: http1::SendRequest<Upload>,
    /// Where it goes to.
    pub(super) peer: SocketAddr,
    /// Its driver ends, and the socket closes, when this is dropped.
    pub(super) _alive: oneshot::Sender<()>,
}

/// An HTTP/2 connection: many requests at a time. It closes when nobody holds it.
#[derive(Debug)]
pub(super) struct Http2 {
    pub(super) send: http2::SendRequest<Upload>,
    /// Where it goes to.
    peer: SocketAddr,
    /// Fires when the driver has ended.
    pub(super) gone: CancellationToken,
    streams: AtomicUsize,
    idle_since_ms: AtomicU64,
}

impl Http2 {
    pub(super) fn new(send: http2::SendRequest<Upload>, peer: SocketAddr, gone: CancellationToken) -> Self {
        let idle_since_ms = AtomicU64::new(clock::monotonic_ms());
        Self { send, peer, gone, streams: AtomicUsize::new(0), idle_since_ms }
    }

    fn usable(&self) -> bool {
        !self.gone.is_cancelled() && !self.send.is_closed()
    }

    fn has_room(&self) -> bool {
        self.streams.load(Ordering::Relaxed) < STREAMS_MAX
    }
}

/// What a request that wants a connection gets.
#[derive(Debug)]
pub(super) enum Grant {
    /// A kept connection, for this request alone.
    Kept(Http1),
    /// A place on a connection that others use too.
    Shared(Place),
    /// The right to open one.
    Open(Slot),
}

/// Which connections a request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taste {
    /// Any that is open: should it turn out to be dead, the request is sent again.
    Any,
    /// Only one used lately: the request cannot be sent again.
    Young,
}

/// The pool of one origin.
#[derive(Debug)]
pub(super) struct Pool {
    connections_max: usize,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    /// Idle HTTP/1.1 connections with the time they became so, oldest first.
    idle: Vec<(Http1, u64)>,
    shared: Vec<Arc<Http2>>,
    /// Slots given out: connections open or being opened.
    open: usize,
    /// Of these, being opened.
    opening: usize,
    /// Whether the origin speaks HTTP/2, as far as is known: then waiting for the connection being opened is better
    /// than opening another.
    multiplexed: bool,
    waiters: VecDeque<oneshot::Sender<Grant>>,
    closed: bool,
}

impl Pool {
    pub(super) fn new(connections_max: usize, multiplexed: bool) -> Arc<Self> {
        let inside = Mutex::new(Inside { multiplexed, ..Inside::default() });
        Arc::new(Self { connections_max: connections_max.max(1), inside })
    }

    /// A connection, or the right to open one; waits in line until `deadline` if all are in use.
    ///
    /// # Errors
    /// [`OriginError::TooManyConnections`] when the line is too long or the wait was.
    pub(super) async fn acquire(self: &Arc<Self>, taste: Taste, deadline: Instant) -> Result<Grant, OriginError> {
        let waiting = match self.take_or_wait(taste, clock::monotonic_ms()) {
            Taken::Now(grant) => return Ok(grant),
            Taken::Full => return Err(OriginError::TooManyConnections),
            Taken::Wait(waiting) => waiting,
        };
        match tokio::time::timeout_at(deadline, waiting).await {
            Ok(Ok(grant)) => Ok(grant),
            Ok(Err(_)) | Err(_) if self.open() < self.connections_max => Err(OriginError::ConnectTimeout),
            Ok(Err(_)) | Err(_) => Err(OriginError::TooManyConnections),
        }
    }

    fn take_or_wait(self: &Arc<Self>, taste: Taste, now_ms: u64) -> Taken {
        let mut inside = self.inside.lock();
        if let Some(kept) = inside.pop_idle(taste, now_ms) {
            return Taken::Now(Grant::Kept(kept));
        }
        if let Some(place) = self.place(&mut inside) {
            return Taken::Now(Grant::Shared(place));
        }
        let worth_waiting = inside.multiplexed && inside.opening > 0;
        if !worth_waiting && inside.open < self.connections_max {
            return Taken::Now(Grant::Open(self.slot(&mut inside)));
        }
        // no room for a new one: better an older connection than none
        if let Some(kept) = inside.pop_idle(Taste::Any, now_ms) {
            return Taken::Now(Grant::Kept(kept));
        }
        inside.idle.clear();
        if inside.waiters.len() >= WAITERS_MAX {
            inside.waiters.retain(|waiter| !waiter.is_closed());
        }
        if inside.waiters.len() >= WAITERS_MAX {
            return Taken::Full;
        }
        let (waiter, waiting) = oneshot::channel();
        inside.waiters.push_back(waiter);
        Taken::Wait(waiting)
    }

    /// A new slot; the caller has seen that there is room.
    fn slot(self: &Arc<Self>, inside: &mut Inside) -> Slot {
        inside.open += 1;
        inside.opening += 1;
        Slot { pool: Some(Arc::clone(self)), opening: true }
    }

    /// A place on a shared connection, if one has room.
    fn place(self: &Arc<Self>, inside: &mut Inside) -> Option<Place> {
        inside.shared.retain(|connection| connection.usable());
        let connection = inside.shared.iter().find(|connection| connection.has_room())?;
        connection.streams.fetch_add(1, Ordering::Relaxed);
        Some(Place { connection: Arc::clone(connection), pool: Some(Arc::clone(self)) })
    }

    /// Takes back a connection that is ready for the next request.
    pub(super) fn keep(&self, connection: Http1) {
        let mut connection = connection;
        loop {
            let mut inside = self.inside.lock();
            let Some(waiter) = inside.waiters.pop_front() else {
                if !inside.closed {
                    inside.idle.push((connection, clock::monotonic_ms()));
                }
                return;
            };
            drop(inside);
            match waiter.send(Grant::Kept(connection)) {
                Err(Grant::Kept(back)) => connection = back,
                Ok(()) | Err(_) => return,
            }
        }
    }

    /// A connection for one request at a time was opened: those who hoped to share it may open their own.
    pub(super) fn alone(self: &Arc<Self>) {
        let mut inside = self.inside.lock();
        let hoped = std::mem::take(&mut inside.multiplexed);
        drop(inside);
        if hoped {
            self.serve_line();
        }
    }

    /// Takes in a new HTTP/2 connection and gives places on it: the first to the caller, the next to those in line.
    pub(super) fn share(self: &Arc<Self>, connection: Http2) -> Place {
        let connection = Arc::new(connection);
        connection.streams.store(1, Ordering::Relaxed);
        let mut inside = self.inside.lock();
        inside.multiplexed = true;
        inside.shared.push(Arc::clone(&connection));
        drop(inside);
        self.serve_line();
        Place { connection, pool: Some(Arc::clone(self)) }
    }

    /// Gives those in line places on shared connections, and rights to open, as far as there are any.
    fn serve_line(self: &Arc<Self>) {
        loop {
            let (waiter, grant) = {
                let mut inside = self.inside.lock();
                if inside.waiters.is_empty() {
                    return;
                }
                let grant = match self.place(&mut inside) {
                    Some(place) => Grant::Shared(place),
                    None if inside.open < self.connections_max && !(inside.multiplexed && inside.opening > 0) => {
                        Grant::Open(self.slot(&mut inside))
                    }
                    None => return,
                };
                (inside.waiters.pop_front(), grant)
            };
            if let Some(waiter) = waiter
                && let Err(Grant::Shared(mut place)) = waiter.send(grant)
            {
                place.pool = None;
            }
        }
    }

    /// A slot came back: for the next in line, or for later.
    fn released(self: &Arc<Self>) {
        loop {
            let (waiter, slot) = {
                let mut inside = self.inside.lock();
                inside.open = inside.open.saturating_sub(1);
                let Some(waiter) = inside.waiters.pop_front() else { return };
                (waiter, self.slot(&mut inside))
            };
            match waiter.send(Grant::Open(slot)) {
                Err(Grant::Open(mut slot)) => slot.disarm(),
                Ok(()) | Err(_) => return,
            }
        }
    }

    /// Closes what is idle: one of them was found dead, so that the others are likely to be.
    pub(super) fn distrust(&self) {
        let idle = std::mem::take(&mut self.inside.lock().idle);
        drop(idle);
    }

    /// Closes what has been idle for too long, or goes to an address that the origin has no more; what is under way on a
    /// shared connection ends well.
    pub(super) fn sweep(&self, now_ms: u64, still_has: impl Fn(SocketAddr) -> bool) {
        let mut inside = self.inside.lock();
        let (kept, old): (Vec<_>, Vec<_>) =
            std::mem::take(&mut inside.idle).into_iter().partition(|(connection, since_ms)| {
                let usable = !connection.send.is_closed() && still_has(connection.peer);
                usable && !aged(*since_ms, now_ms, IDLE_MS)
            });
        inside.idle = kept;
        inside.shared.retain(|connection| {
            let idle = connection.streams.load(Ordering::Relaxed) == 0;
            let since_ms = connection.idle_since_ms.load(Ordering::Relaxed);
            connection.usable() && still_has(connection.peer) && !(idle && aged(since_ms, now_ms, IDLE_MS))
        });
        drop(inside);
        drop(old);
    }

    /// Keeps nothing any more: the origin or the node is going. What is under way goes on.
    pub(super) fn close(&self) {
        let mut inside = self.inside.lock();
        inside.closed = true;
        let leaving = (std::mem::take(&mut inside.idle), std::mem::take(&mut inside.shared));
        drop(inside);
        drop(leaving);
    }

    /// Connections open or being opened.
    pub(super) fn open(&self) -> usize {
        self.inside.lock().open
    }
}

enum Taken {
    Now(Grant),
    Wait(oneshot::Receiver<Grant>),
    Full,
}

impl Inside {
    /// The idle connection used last, so that the others may grow old.
    fn pop_idle(&mut self, taste: Taste, now_ms: u64) -> Option<Http1> {
        let age = if taste == Taste::Young { YOUNG_MS } else { IDLE_MS };
        while let Some((connection, since_ms)) = self.idle.pop() {
            if connection.send.is_closed() {
                continue;
            }
            if aged(since_ms, now_ms, age) {
                self.idle.push((connection, since_ms));
                return None;
            }
            return Some(connection);
        }
        None
    }
}

fn aged(since_ms: u64, now_ms: u64, limit_ms: u64) -> bool {
    now_ms.saturating_sub(since_ms) >= limit_ms
}

/// The right to have a connection open. Held by the connection's driver to its end.
#[derive(Debug)]
pub(super) struct Slot {
    pool: Option<Arc<Pool>>,
    opening: bool,
}

impl Slot {
    /// The connection stands.
    pub(super) fn opened(&mut self) {
        if let Some(pool) = &self.pool
            && std::mem::take(&mut self.opening)
        {
            let mut inside = pool.inside.lock();
            inside.opening = inside.opening.saturating_sub(1);
        }
    }

    /// Gives up being a slot, without giving it back.
    fn disarm(&mut self) {
        self.opened();
        self.pool = None;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.opened();
        if let Some(pool) = self.pool.take() {
            pool.released();
        }
    }
}

/// A place on a shared connection, given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) connection: Arc<Http2>,
    /// None for a place that nobody took: it is not offered again by its own end.
    pool: Option<Arc<Pool>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connection.idle_since_ms.store(clock::monotonic_ms(), Ordering::Relaxed);
        self.connection.streams.fetch_sub(1, Ordering::Relaxed);
        if let Some(pool) = self.pool.take() {
            pool.serve_line();
        }
    }
}
