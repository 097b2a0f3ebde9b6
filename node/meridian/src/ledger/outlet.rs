//! Sending events to one other member: at once, in batches, again until it has answered.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use region_config::NodeId;
use rules::purge::{Event, OUTBOX_MAX};
use tokio::sync::{Notify, Semaphore};
use wire::purge::{Answer, BATCH_BYTES, Request, decode_answer, encode_request, event_bytes};

use super::{
    carrier::{Carrier, CarryFault},
    chance,
    realm::Realm,
};

/// Calls to one member that wait for answers at a time: an answer comes after the member's disk has synced, and the
/// next events shall not wait for that.
const CALLS_MAX: usize = 16;
/// Events in one call.
const EVENTS_MAX: usize = 512;
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// Pauses after failures, in ms: the first and the longest.
const PAUSE_MS: (u64, u64) = (50, 1_000);

/// The way to one other member.
#[derive(Debug)]
pub(super) struct Outlet {
    pub(super) node: NodeId,
    /// Whether it is a witness: then it is asked to store.
    store: bool,
    queue: Mutex<VecDeque<Arc<Event>>>,
    filled: Notify,
    failures: AtomicU32,
}

impl Outlet {
    pub(super) fn new(node: NodeId, store: bool) -> Self {
        Self { node, store, queue: Mutex::default(), filled: Notify::new(), failures: AtomicU32::new(0) }
    }

    /// Puts an event into the queue. Over its limit the oldest goes: the tails bring it, only its receipt is missing.
    pub(super) fn push(&self, event: Arc<Event>) {
        let mut queue = self.queue.lock();
        if queue.len() >= OUTBOX_MAX {
            queue.pop_front();
        }
        queue.push_back(event);
        drop(queue);
        self.filled.notify_one();
    }

    fn batch(&self) -> Vec<Arc<Event>> {
        let mut queue = self.queue.lock();
        let mut bytes = 0;
        let fits = queue.iter().take(EVENTS_MAX).take_while(|event| {
            bytes += event_bytes(event);
            bytes <= BATCH_BYTES
        });
        let count = fits.count();
        // an event alone always fits into a message
        let count = count.max(usize::from(!queue.is_empty()));
        queue.drain(..count).collect()
    }

    fn back(&self, events: Vec<Arc<Event>>) {
        let mut queue = self.queue.lock();
        events.into_iter().rev().for_each(|event| queue.push_front(event));
        drop(queue);
        self.filled.notify_one();
    }

    /// How long to wait before the next call.
    fn pause(&self) -> Option<Duration> {
        let failures = self.failures.load(Ordering::Relaxed);
        let (first, longest) = PAUSE_MS;
        let pause = first.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(longest);
        (failures > 0).then(|| jittered(pause))
    }
}

/// Between half and all of it.
pub(super) fn jittered(pause_ms: u64) -> Duration {
    // without random numbers the pause is merely not jittered
    let [chance] = chance().unwrap_or([0]);
    Duration::from_millis(pause_ms / 2 + pause_ms * u64::from(chance) / 510)
}

/// Sends until the node stops.
pub(super) async fn run(realm: Arc<Realm>, outlet: Arc<Outlet>, carrier: Carrier) {
    let calls = Arc::new(Semaphore::new(CALLS_MAX));
    loop {
        if let Some(pause) = outlet.pause() {
            tokio::time::sleep(pause).await;
        }
        let Ok(call) = Arc::clone(&calls).acquire_owned().await else { return };
        let events = outlet.batch();
        if events.is_empty() {
            outlet.filled.notified().await;
            continue;
        }
        let (realm, sending, carrier) = (Arc::clone(&realm), Arc::clone(&outlet), carrier.clone());
        let tasks = realm.tasks.clone();
        let sent = async move {
            send(&realm, &sending, &carrier, events).await;
            drop(call);
        };
        // while it fails, one call at a time
        if outlet.failures.load(Ordering::Relaxed) > 0 {
            sent.await;
        } else {
            tasks.spawn_until_stopped("ledger-call", sent);
        }
    }
}

async fn send(realm: &Arc<Realm>, outlet: &Outlet, carrier: &Carrier, events: Vec<Arc<Event>>) {
    let request = Request { realm: realm.name.clone(), store: outlet.store, events };
    let bytes = encode_request(&request);
    #[cfg(feature = "simulation")]
    crate::simulation::pause(crate::simulation::Place::Send).await;
    let called = carrier.call(&outlet.node, &realm.name, &bytes, ANSWER).await;
    let answer = called.and_then(|bytes| decode_answer(&bytes).map_err(CarryFault::from));
    let mut core = realm.core.lock();
    match answer {
        Ok(Answer::Applied(ids)) if !outlet.store => {
            ids.into_iter().for_each(|id| core.applied(id, &outlet.node));
        }
        Ok(Answer::Stored { places, .. }) => {
            for (id, _) in places {
                core.applied(id, &outlet.node);
                core.stored(id, &outlet.node);
            }
        }
        other => {
            drop(core);
            tracing::debug!(realm = %realm.name, node = %outlet.node, answer = ?other, "events go again");
            outlet.failures.fetch_add(1, Ordering::Relaxed);
            outlet.back(request.events);
            return;
        }
    }
    drop(core);
    outlet.failures.store(0, Ordering::Relaxed);
    realm.lazy.notify_one();
}
