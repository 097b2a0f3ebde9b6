//! The origins of one site: which one is asked, and what happens when that goes wrong.
//!
//! All within the one deadline of the first that is asked:
//! - What was not sent goes to another origin that was not tried yet.
//! - What was sent and lost on the way is sent a second time, once and out of the site's budget, if it is idempotent and
//!   has no body: to another origin if there is one. After a timeout only to another.
//! - What was answered with a status of the site's `failover_on` is asked of another origin under the same condition; if
//!   none answers better, that answer stands.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use region_config::Site;
use rules::origin::{Budget, choose, has_share, spread};
use tokio::time::Instant;

use super::{Answer, error::OriginError, figures::Figures, outgoing::Outgoing, upstream::Upstream};
use crate::clock;

/// Most origins that one request is tried on.
const ORIGINS_TRIED_MAX: usize = 3;

/// Most fetches that all sites of the node have under way.
const NODE_FETCHES_MAX: usize = 8_192;

/// Pause before a request is sent a second time, in ms: the least, and what chance adds. So that those that were lost
/// together do not come back together.
const RETRY_PAUSE_MS: u64 = 10;
const RETRY_SPREAD_MS: u64 = 40;

/// The origins of one site.
#[derive(Debug)]
pub(super) struct SiteOrigins {
    pub(super) origins: Vec<Arc<Upstream>>,
    failover_on: Vec<u16>,
    /// Kept over a reload, as is `busy`.
    budget: Arc<Mutex<Budget>>,
    busy: Arc<AtomicUsize>,
    /// Counts draws; chance is made from it.
    draws: AtomicU64,
}

/// A site's place among the node's fetches; given back when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    own: Arc<AtomicUsize>,
    all: Arc<AtomicUsize>,
}

impl Seat {
    fn take(own: &Arc<AtomicUsize>, all: &Arc<AtomicUsize>) -> Option<Self> {
        // two that look at the same moment may both get the last one: the bound is soft by the number of threads
        if !has_share(own.load(Ordering::Relaxed), all.load(Ordering::Relaxed), NODE_FETCHES_MAX) {
            return None;
        }
        own.fetch_add(1, Ordering::Relaxed);
        all.fetch_add(1, Ordering::Relaxed);
        Some(Self { own: Arc::clone(own), all: Arc::clone(all) })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.own.fetch_sub(1, Ordering::Relaxed);
        self.all.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How far a request has come.
struct Course {
    started: Instant,
    /// When it must be over; known when the first origin is chosen.
    end: Option<Instant>,
    tried: Vec<usize>,
    sent_again: bool,
    /// An answer that stands if there is no better one.
    answer: Option<Answer>,
}

impl SiteOrigins {
    /// The origins of a site, with what is kept of those that it had before.
    pub(super) fn new(site: &Site, origins: Vec<Arc<Upstream>>, before: Option<&Self>) -> Self {
        Self {
            origins,
            failover_on: site.failover_on.clone(),
            budget: before.map_or_else(Arc::default, |before| Arc::clone(&before.budget)),
            busy: before.map_or_else(Arc::default, |before| Arc::clone(&before.busy)),
            draws: AtomicU64::new(0),
        }
    }

    /// Fetches of the site that are under way.
    pub(super) fn busy(&self) -> usize {
        self.busy.load(Ordering::Relaxed)
    }

    /// Sends a request to one of the origins, or to several in turn. `all` counts the node's fetches.
    ///
    /// # Errors
    /// [`OriginError`]: the last origin's.
    pub(super) async fn send(&self, mut out: Outgoing, all: &Arc<AtomicUsize>) -> Result<Answer, OriginError> {
        let seat = Seat::take(&self.busy, all).ok_or(OriginError::SiteBusy)?;
        self.budget.lock().handle_request();
        let started = Instant::from_std(clock::instant());
        let mut course = Course { started, end: None, tried: Vec::new(), sent_again: false, answer: None };
        let mut answer = self.follow(&mut out, &mut course).await?;
        answer.response.body_mut().sit(seat);
        Ok(answer)
    }

    async fn follow(&self, out: &mut Outgoing, course: &mut Course) -> Result<Answer, OriginError> {
        let mut last = None;
        loop {
            let Some((index, upstream)) = self.next(course, last.as_ref()) else {
                return course.standing(last.unwrap_or_else(|| self.none()));
            };
            let end = course.ends(upstream);
            let result = Box::pin(upstream.send(out, end)).await;
            course.tried.push(index);
            match result {
                Ok(answer) if !self.fails_over(&answer, out, course) => return Ok(answer),
                Ok(answer) => {
                    // the first one is the nearest to what the operator wants to be seen
                    course.answer.get_or_insert(answer);
                    out.rewind();
                }
                // why it was lost says more than why it could not be sent again
                Err(error) if error.held_back() && last.is_some() => {}
                Err(error) if error.before_sending() => last = Some(error),
                Err(error) => {
                    if !self.may_send_again(&error, out, course, upstream) {
                        return course.standing(error);
                    }
                    self.pause(end).await;
                    out.rewind();
                    last = Some(error);
                }
            }
        }
    }

    /// The origin to ask next: one not tried yet, or the one that lost the request, if that is to be sent again.
    fn next(&self, course: &Course, last: Option<&OriginError>) -> Option<(usize, &Arc<Upstream>)> {
        let chosen = if course.tried.len() < ORIGINS_TRIED_MAX { self.choose(&course.tried) } else { None };
        let again = matches!(last, Some(OriginError::Reset(_))) && course.sent_again;
        let index = match chosen {
            Some(index) => index,
            None if again && course.tried.len() == 1 => self.choose(&[])?,
            None => return None,
        };
        self.origins.get(index).map(|upstream| (index, upstream))
    }

    fn choose(&self, tried: &[usize]) -> Option<usize> {
        if let ([_], []) = (self.origins.as_slice(), tried) {
            return Some(0);
        }
        let now_ms = clock::monotonic_ms();
        let mut candidates = Vec::with_capacity(self.origins.len());
        for (index, upstream) in self.origins.iter().enumerate() {
            let mut candidate = upstream.candidate(index, now_ms);
            candidate.tried = tried.contains(&index);
            candidates.push(candidate);
        }
        choose(&candidates, self.chance())
    }

    /// Why there is nobody to ask.
    fn none(&self) -> OriginError {
        if self.origins.is_empty() { OriginError::NoHealthyOrigin } else { OriginError::BreakerOpen }
    }

    /// Whether an answer is one for which another origin is to be asked.
    fn fails_over(&self, answer: &Answer, out: &Outgoing, course: &Course) -> bool {
        self.failover_on.contains(&answer.response.status().as_u16())
            && out.replayable()
            && course.tried.len() < ORIGINS_TRIED_MAX.min(self.origins.len())
    }

    /// Whether what was lost is sent a second time.
    fn may_send_again(&self, error: &OriginError, out: &Outgoing, course: &mut Course, upstream: &Upstream) -> bool {
        let worth = match error {
            OriginError::Reset(_) => true,
            OriginError::FirstByteTimeout => self.origins.len() > course.tried.len(),
            _ => false,
        };
        if !worth || course.sent_again || !out.replayable() {
            return false;
        }
        course.sent_again = true;
        let paid = self.budget.lock().poll_retry();
        let figures = &upstream.figures;
        Figures::one(if paid { &figures.tried_again } else { &figures.not_tried_again });
        paid
    }

    async fn pause(&self, end: Instant) {
        let ms = RETRY_PAUSE_MS + self.chance() % RETRY_SPREAD_MS;
        let due = Instant::from_std(clock::instant()) + Duration::from_millis(ms);
        tokio::time::sleep_until(due.min(end)).await;
    }

    fn chance(&self) -> u64 {
        spread(self.draws.fetch_add(1, Ordering::Relaxed))
    }
}

impl Course {
    /// The answer that stands, while there is time for its body; else the error.
    fn standing(&mut self, error: OriginError) -> Result<Answer, OriginError> {
        let over = self.end.is_some_and(|end| Instant::from_std(clock::instant()) >= end);
        self.answer.take().filter(|_| !over).ok_or(error)
    }

    /// When the request must be over at an origin: within the time of the first one, and within its own.
    fn ends(&mut self, upstream: &Upstream) -> Instant {
        let own = self.started + Duration::from_millis(upstream.config.deadlines.total_ms);
        own.min(*self.end.get_or_insert(own))
    }
}
