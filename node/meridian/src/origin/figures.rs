//! What is counted of one origin: kept handles, a few nanoseconds each.

use std::sync::atomic::{AtomicU64, Ordering};

use super::error::{OriginError, REASONS};

/// The causes that are this node's doing.
const HELD_BACK: [&str; 5] = ["breaker-open", "origin-limited", "paced", "site-busy", "retry-budget"];

/// The counters of one origin since it was configured.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) opened: AtomicU64,
    pub(super) reused: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) retried: AtomicU64,
    /// Requests sent a second time on the budget.
    pub(super) tried_again: AtomicU64,
    /// Requests that might have been, were there any left of the budget.
    pub(super) not_tried_again: AtomicU64,
    failures: [AtomicU64; REASONS.len()],
}

impl Figures {
    /// Adds one.
    pub(super) fn one(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a failure by its cause.
    pub(super) fn failed(&self, error: &OriginError) {
        if let Some(counter) = self.failures.get(error.index()) {
            Self::one(counter);
        }
    }

    /// All failures of the origin together.
    pub(super) fn failures(&self) -> u64 {
        self.read().failures.iter().map(|(_, count)| count).sum()
    }

    /// The counters as they stand, failures by cause without those that never happened.
    pub(super) fn read(&self) -> OriginCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let failures = REASONS.iter().zip(&self.failures).map(|(reason, counter)| (*reason, read(counter)));
        let denied = ("retry-budget", read(&self.not_tried_again));
        let counted = failures.chain([denied]).filter(|(_, count)| *count > 0);
        let (refused, failures): (Vec<_>, Vec<_>) = counted.partition(|(reason, _)| HELD_BACK.contains(reason));
        OriginCounts {
            connections_opened: read(&self.opened),
            connections_reused: read(&self.reused),
            requests: read(&self.requests),
            retries: read(&self.retried),
            budgeted_retries: read(&self.tried_again),
            refused,
            failures,
        }
    }
}

/// Counters of one origin, for metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OriginCounts {
    /// Connections opened.
    pub connections_opened: u64,
    /// Requests that went over a connection that had served one before.
    pub connections_reused: u64,
    /// Requests given to this origin.
    pub requests: u64,
    /// Requests sent a second time, since a kept connection had died.
    pub retries: u64,
    /// Requests sent a second time after they had failed, which a site has a budget for.
    pub budgeted_retries: u64,
    /// Requests that this node held back, by cause.
    pub refused: Vec<(&'static str, u64)>,
    /// Failures by cause ([`OriginError::reason`]).
    pub failures: Vec<(&'static str, u64)>,
}
