//! The kept connection of one lane to one peer.
//!
//! Both sides may dial at the same time, and a peer that came back dials while we still believe in its old connection: the
//! newest connection is the one that new streams are opened on, the older ones live until their streams are done with
//! them, and at most [`OLDER_MAX`] of them.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use quinn::Connection;
use region_config::NodeId;
use tokio::sync::oneshot;

use super::{PeerIdentity, frame::Lane};
use crate::news::News;

/// Connections to one peer that are kept beside the newest.
const OLDER_MAX: usize = 2;
/// The first pause after a failed attempt; it doubles with each.
const RETRY_FIRST: Duration = Duration::from_millis(100);
/// The longest pause: a peer that comes back dials us too, so this is rarely what it waits for.
const RETRY_MAX: Duration = Duration::from_secs(1);

/// The way to one peer.
pub(super) struct Link {
    pub(super) node: NodeId,
    pub(super) lane: Lane,
    state: Mutex<State>,
    /// Connections that came or went, and attempts that failed, so far.
    changes: News<u64>,
    asked: Mutex<Option<(u64, oneshot::Sender<Echo>)>>,
}

#[derive(Default)]
struct State {
    live: Option<(Connection, PeerIdentity)>,
    older: VecDeque<(Connection, PeerIdentity)>,
    dialing: bool,
    failures: u32,
    retry_at: Option<Instant>,
    last_failure: String,
}

/// What to do for whoever wants a connection.
pub(super) enum Way {
    /// Here it is.
    Open(Connection),
    /// Somebody dials already; wait for a change.
    Wait,
    /// Nobody dials: the caller must, and say how it went.
    Dial,
    /// Dialling failed lately, for this reason; the next attempt is not due.
    Closed(String),
}

/// The answer to a probe.
#[derive(Debug, Clone, Copy)]
pub(super) struct Echo {
    pub(super) attempt: u8,
    pub(super) generation: u64,
    pub(super) issue: u64,
}

impl Link {
    pub(super) fn new(node: NodeId, lane: Lane) -> Self {
        Self { node, lane, state: Mutex::default(), changes: News::new(0), asked: Mutex::new(None) }
    }

    /// How often anything has changed: connections that came or went, attempts that failed.
    pub(super) fn changes(&self) -> u64 {
        self.changes.read(|count| *count)
    }

    /// Waits for more changes than were `seen`.
    pub(super) async fn changed(&self, seen: u64) {
        self.changes.until(|count| (*count != seen).then_some(())).await;
    }

    /// The newest open connection and whose it is.
    pub(super) fn live(&self) -> Option<(Connection, PeerIdentity)> {
        self.state.lock().live.clone().filter(|(connection, _)| connection.close_reason().is_none())
    }

    /// Attempts that failed since the last that did not.
    pub(super) fn failures(&self) -> (u32, String) {
        let state = self.state.lock();
        (state.failures, state.last_failure.clone())
    }

    pub(super) fn way(&self, now: Instant) -> Way {
        let mut state = self.state.lock();
        if let Some((connection, _)) = &state.live
            && connection.close_reason().is_none()
        {
            return Way::Open(connection.clone());
        }
        if state.dialing {
            return Way::Wait;
        }
        if state.retry_at.is_some_and(|at| now < at) {
            return Way::Closed(state.last_failure.clone());
        }
        state.dialing = true;
        Way::Dial
    }

    /// A connection stands, whoever dialled it.
    pub(super) fn install(&self, connection: Connection, peer: PeerIdentity) {
        let mut state = self.state.lock();
        if let Some(older) = state.live.replace((connection, peer)) {
            state.older.push_back(older);
        }
        state.older.retain(|(connection, _)| connection.close_reason().is_none());
        while state.older.len() > OLDER_MAX {
            if let Some((oldest, _)) = state.older.pop_front() {
                oldest.close(0u8.into(), b"a newer connection stands");
            }
        }
        state.failures = 0;
        state.retry_at = None;
        drop(state);
        self.note_change();
    }

    /// Our attempt ended; `failure` says why if it gave no connection. `chance` is any random number.
    pub(super) fn dialled(&self, failure: Option<String>, now: Instant, chance: u8) {
        let mut state = self.state.lock();
        state.dialing = false;
        if let Some(why) = failure {
            state.last_failure = why;
            let pause = RETRY_FIRST.saturating_mul(1 << state.failures.min(10)).min(RETRY_MAX);
            // between half and all of it, so that many peers do not knock in step
            state.retry_at = Some(now + pause.mul_f64(0.5 + f64::from(chance) / 512.0));
            state.failures = state.failures.saturating_add(1);
        }
        drop(state);
        self.note_change();
    }

    /// A connection ended.
    pub(super) fn lost(&self, connection: &Connection) {
        let mut state = self.state.lock();
        state.older.retain(|(older, _)| older.close_reason().is_none());
        let ours = state.live.as_ref().is_some_and(|(live, _)| live.stable_id() == connection.stable_id());
        if ours {
            state.live = state.older.pop_back();
        }
        drop(state);
        self.note_change();
    }

    /// Ends all connections.
    pub(super) fn close(&self, why: &[u8]) {
        let mut state = self.state.lock();
        let live = state.live.take();
        for (connection, _) in live.into_iter().chain(std::mem::take(&mut state.older)) {
            connection.close(0u8.into(), why);
        }
    }

    /// Expects the answer to a probe with this number; an earlier one is forgotten.
    pub(super) fn ask(&self, nonce: u64) -> oneshot::Receiver<Echo> {
        let (answered, answer) = oneshot::channel();
        *self.asked.lock() = Some((nonce, answered));
        answer
    }

    /// An answer came; one that nobody waits for is dropped.
    pub(super) fn answered(&self, nonce: u64, echo: Echo) {
        let waiting = self.asked.lock().take_if(|(asked, _)| *asked == nonce);
        if let Some((_, answered)) = waiting {
            // whoever asked may have gone
            let _gone = answered.send(echo);
        }
    }

    fn note_change(&self) {
        self.changes.change(|count| *count = count.wrapping_add(1));
    }
}
