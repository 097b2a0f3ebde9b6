//! Watching the wall clock: what is done when somebody sets it, and who is told when it is wrong.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use rules::walltime::Steps;

use super::{Ledgers, Realm};
use crate::{clock, tasks::Tasks};

/// How often the clocks are read.
const LOOK: Duration = Duration::from_secs(1);
/// Readings that are further apart than this were not made at the same time, and say nothing.
const PAUSE_MS: u64 = 100;
/// A clock that is so far off is told to the operator.
const SKEW_TOLD_MS: u64 = 1_000;
/// A clock that is so far off is told to whoever asks whether the node is ready.
const SKEW_GROSS_MS: u64 = 300_000;

/// How often the wall clock was set, and whether it is known to be wrong.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    back: AtomicU64,
    forward: AtomicU64,
}

impl Ledgers {
    /// Reads the clocks once a second until the node stops.
    pub fn watch_clocks(self: &Arc<Self>, tasks: &Tasks) {
        let ledgers = Arc::clone(self);
        tasks.spawn_until_stopped("clocks", async move {
            let (mut steps, mut told) = (Steps::default(), false);
            loop {
                if let Some((unix_ms, monotonic_ms)) = reading()
                    && let Some(step_ms) = steps.handle_reading(unix_ms, monotonic_ms)
                {
                    ledgers.clock_stepped(step_ms);
                }
                ledgers.tell_skew(&mut told);
                tokio::time::sleep(LOOK).await;
            }
        });
    }

    /// How often the wall clock was set back, and forward.
    #[must_use]
    pub fn clock_steps(&self) -> (u64, u64) {
        (self.clocks.back.load(Relaxed), self.clocks.forward.load(Relaxed))
    }

    /// By how many ms the wall clock is ahead of those of the witnesses: the realm that says most.
    #[must_use]
    pub fn clock_ahead_ms(&self) -> Option<i64> {
        self.realms().filter_map(|realm| realm.skew.lock().ahead_ms()).max_by_key(|ahead| ahead.unsigned_abs())
    }

    /// Whether the wall clock is so wrong that whoever asks has to know.
    #[must_use]
    pub fn clock_is_gross(&self) -> bool {
        self.clock_ahead_ms().is_some_and(|ahead| ahead.unsigned_abs() > SKEW_GROSS_MS)
    }

    /// The wall clock was set. After a step back, what is stored would live longer than it may.
    pub(super) fn clock_stepped(&self, step_ms: i64) {
        let counter = if step_ms < 0 { &self.clocks.back } else { &self.clocks.forward };
        counter.fetch_add(1, Relaxed);
        self.realms().for_each(|realm| realm.clock_stepped(step_ms));
        if step_ms < 0 {
            tracing::warn!(step_ms, "the wall clock was set back: what is stored counts as softly purged");
        } else {
            tracing::warn!(step_ms, "the wall clock was set forward");
        }
    }

    fn tell_skew(&self, told: &mut bool) {
        let ahead_ms = self.clock_ahead_ms().unwrap_or(0);
        let is_off = ahead_ms.unsigned_abs() > SKEW_TOLD_MS;
        if is_off && !*told {
            tracing::warn!(
                ahead_ms,
                "this node's wall clock is off those of the witnesses: ages and lifetimes are, too"
            );
        }
        *told = is_off;
    }
}

impl Realm {
    fn clock_stepped(&self, step_ms: i64) {
        self.skew.lock().handle_stepped();
        if step_ms < 0 {
            self.core.lock().clock_set_back();
            self.urgent.notify_one();
        }
    }
}

/// The wall clock and the one that nobody sets; none if they could not be read at the same time.
fn reading() -> Option<(u64, u64)> {
    let before_ms = clock::monotonic_ms();
    let unix_ms = clock::unix_ms();
    let after_ms = clock::monotonic_ms();
    (after_ms.saturating_sub(before_ms) < PAUSE_MS).then_some((unix_ms, after_ms))
}
