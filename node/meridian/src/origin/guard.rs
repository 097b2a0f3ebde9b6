//! What decides about the requests to one origin: the machines of [`rules::origin`], behind one lock that is never held
//! across a wait, and the queue before them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use region_config::{Origin, SiteId};
use rules::origin::{
    Answered, Breaker, BreakerState, Candidate, Checked, Ended, Latency, Limiter, Pace, Passage, SlowStart, Turn,
    spread,
};
use serde::Serialize;
use tokio::{sync::Notify, time::Instant};

use super::error::OriginError;
use crate::clock;

/// For how long a request waits for others to be answered, when the origin has as many as it bears. Long enough for a
/// burst to pass through an origin that is well, shorter than clients wait.
const ROOM_WAIT: Duration = Duration::from_secs(3);

/// Most requests that wait so.
const WAITING_MAX: usize = 1_024;

/// Whether an origin is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OriginState {
    /// It is asked.
    Up,
    /// It is asked only when no origin of the site is up, or for a trial.
    Down,
}

impl OriginState {
    /// The state in one word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// The guard of one origin, shared with the task that asks for its health.
#[derive(Debug)]
pub(super) struct Guard {
    site: SiteId,
    origin: String,
    machines: Mutex<Machines>,
    /// Rung when a place may be free.
    room: Notify,
    waiting: AtomicUsize,
    /// Chance is drawn from it.
    draws: AtomicU64,
    last_error: Mutex<Option<String>>,
}

#[derive(Debug)]
struct Machines {
    checked: Option<Checked>,
    breaker: Breaker,
    limiter: Limiter,
    latency: Latency,
    slow_start: SlowStart,
    pace: Option<Pace>,
}

/// What is to be seen of a guard.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) state: OriginState,
    pub(super) breaker: BreakerState,
    pub(super) limit: usize,
    pub(super) latency_us: Option<f64>,
}

impl Guard {
    pub(super) fn new(site: &SiteId, config: &Origin) -> Arc<Self> {
        let machines = Machines {
            checked: config.health.as_ref().map(Checked::new),
            breaker: Breaker::new(config.breaker_percent),
            limiter: Limiter::new(config.concurrency_max),
            latency: Latency::default(),
            slow_start: SlowStart::default(),
            pace: config.fetches_per_second.map(Pace::new),
        };
        Arc::new(Self {
            site: site.clone(),
            origin: config.name.clone(),
            machines: Mutex::new(machines),
            room: Notify::new(),
            waiting: AtomicUsize::new(0),
            // nodes that see the same fault at the same time shall not draw the same
            draws: AtomicU64::new(getrandom::u64().unwrap_or_else(|_| clock::unix_ms())),
            last_error: Mutex::new(None),
        })
    }

    /// The origin has joined others that serve already.
    pub(super) fn joined(&self) {
        self.machines.lock().slow_start.handle_start(clock::monotonic_ms());
    }

    /// The origin as the choice among several sees it.
    pub(super) fn candidate(&self, index: usize, config: &Origin, busy: usize, now_ms: u64) -> Candidate {
        let machines = self.machines.lock();
        Candidate {
            index,
            tier: config.priority,
            weight: f64::from(config.weight) * machines.slow_start.share(now_ms),
            busy,
            latency_us: machines.latency.micros(),
            healthy: machines.checked.as_ref().is_none_or(Checked::healthy),
            open: machines.breaker.would_pass(now_ms),
            tried: false,
        }
    }

    /// Lets a request go, now or a little later, or does not.
    ///
    /// # Errors
    /// [`OriginError::BreakerOpen`], [`OriginError::Paced`], [`OriginError::Limited`].
    pub(super) async fn admit(self: &Arc<Self>, end: Instant) -> Result<Place, OriginError> {
        if !self.machines.lock().breaker.would_pass(clock::monotonic_ms()) {
            return Err(OriginError::BreakerOpen);
        }
        self.turn(end).await?;
        let place = self.place(end).await?;
        // asked last: a probe that then got no place would be lost for an interval
        let passage = self.machines.lock().breaker.poll(clock::monotonic_ms(), self.chance());
        if passage == Passage::Closed { Err(OriginError::BreakerOpen) } else { Ok(place) }
    }

    /// Waits for the request's turn, if the origin has a pace.
    async fn turn(&self, end: Instant) -> Result<(), OriginError> {
        let now_us = clock::monotonic_ms().saturating_mul(1_000);
        let turn = self.machines.lock().pace.as_mut().map(|pace| pace.poll(now_us));
        match turn.unwrap_or(Turn::Now) {
            Turn::Now => Ok(()),
            Turn::Never => Err(OriginError::Paced),
            Turn::After(micros) => {
                let due = Instant::from_std(clock::instant()) + Duration::from_micros(micros);
                tokio::time::sleep_until(due.min(end)).await;
                Ok(())
            }
        }
    }

    /// Waits a little for a place under the limit.
    async fn place(self: &Arc<Self>, end: Instant) -> Result<Place, OriginError> {
        if let Some(place) = self.take() {
            return Ok(place);
        }
        let _queued = Queued::join(&self.waiting).ok_or(OriginError::Limited)?;
        let deadline = end.min(Instant::from_std(clock::instant()) + ROOM_WAIT);
        loop {
            if tokio::time::timeout_at(deadline, self.room.notified()).await.is_err() {
                return Err(OriginError::Limited);
            }
            if let Some(place) = self.take() {
                self.ring();
                return Ok(place);
            }
        }
    }

    fn take(self: &Arc<Self>) -> Option<Place> {
        self.machines.lock().limiter.poll_place().then(|| Place(Some(Arc::clone(self))))
    }

    /// Wakes one who waits, if there is room.
    fn ring(&self) {
        let room = self.waiting.load(Ordering::Relaxed) > 0 && self.machines.lock().limiter.has_room();
        if room {
            self.room.notify_one();
        }
    }

    /// A request ended so.
    pub(super) fn ended(&self, ended: Ended) {
        let (now_ms, chance) = (clock::monotonic_ms(), self.chance());
        let changed = {
            let mut machines = self.machines.lock();
            let changed = machines.breaker.handle_end(ended, now_ms, chance);
            let closed = machines.breaker.state(now_ms) == BreakerState::Closed;
            if changed && closed {
                machines.limiter.handle_recovery();
                machines.slow_start.handle_start(now_ms);
            }
            changed.then_some(if closed { "closed" } else { "open" })
        };
        if let Some(breaker) = changed {
            let why = self.last_error().unwrap_or_default();
            tracing::warn!(site = %self.site, origin = %self.origin, breaker, %why, "origin breaker");
        }
    }

    /// The active check was answered.
    pub(super) fn checked(&self, answer: &Result<(), String>) {
        if let Err(why) = answer {
            self.note(why);
        }
        let answered = if answer.is_ok() { Answered::Well } else { Answered::Badly };
        let state = {
            let mut machines = self.machines.lock();
            let Some(checked) = &mut machines.checked else { return };
            if !checked.handle_answer(answered) {
                return;
            }
            let healthy = checked.healthy();
            if healthy {
                machines.slow_start.handle_start(clock::monotonic_ms());
            }
            if healthy { OriginState::Up } else { OriginState::Down }
        };
        let why = self.last_error().unwrap_or_default();
        tracing::warn!(site = %self.site, origin = %self.origin, state = state.as_str(), %why, "origin health");
    }

    /// Keeps the last error for the operator.
    pub(super) fn note(&self, error: &str) {
        *self.last_error.lock() = Some(error.to_owned());
    }

    /// The last thing that went wrong.
    pub(super) fn last_error(&self) -> Option<String> {
        self.last_error.lock().clone()
    }

    /// What is to be seen of it.
    pub(super) fn seen(&self) -> Seen {
        let machines = self.machines.lock();
        let breaker = machines.breaker.state(clock::monotonic_ms());
        let healthy = machines.checked.as_ref().is_none_or(Checked::healthy);
        let up = healthy && breaker == BreakerState::Closed;
        Seen {
            state: if up { OriginState::Up } else { OriginState::Down },
            breaker,
            limit: machines.limiter.limit(),
            latency_us: machines.latency.micros(),
        }
    }

    fn chance(&self) -> u64 {
        spread(self.draws.fetch_add(1, Ordering::Relaxed))
    }
}

/// A request's place among those that the origin has; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place(Option<Arc<Guard>>);

impl Place {
    /// The origin answered after so many us.
    pub(super) fn answered(mut self, micros: u64) {
        if let Some(guard) = self.0.take() {
            {
                let mut machines = guard.machines.lock();
                machines.latency.handle_answer(micros);
                machines.limiter.handle_answer(micros);
            }
            guard.ring();
        }
    }

    /// The origin did not answer in time; it took so many us at least.
    pub(super) fn timed_out(mut self, micros: u64) {
        if let Some(guard) = self.0.take() {
            {
                let mut machines = guard.machines.lock();
                machines.latency.handle_answer(micros);
                machines.limiter.handle_timeout();
            }
            guard.ring();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(guard) = self.0.take() {
            guard.machines.lock().limiter.handle_gone();
            guard.ring();
        }
    }
}

/// One who waits for a place.
struct Queued<'a>(&'a AtomicUsize);

impl<'a> Queued<'a> {
    fn join(waiting: &'a AtomicUsize) -> Option<Self> {
        let joined = Self(waiting);
        (waiting.fetch_add(1, Ordering::Relaxed) < WAITING_MAX).then_some(joined)
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
