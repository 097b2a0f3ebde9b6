//! Sending events to the stream: in batches, some at a time, again until they are acknowledged.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use parking_lot::Mutex;
use rules::purge::{Event, OUTBOX_MAX};
use tokio::sync::Notify;
use wire::purge::{BATCH_BYTES, event_bytes};

use super::{
    super::{outlet::jittered, realm::Realm},
    NodeId, Stream,
    fault::StreamFault,
    log::{Letter, StreamLog},
};

/// Messages that wait for their acknowledgement at a time. The servers sync each by itself, so few large ones are
/// better than many small ones.
const LETTERS_MAX: usize = 4;
/// Events in one message.
const EVENTS_MAX: usize = 512;
/// Pauses after failures, in ms: the first and the longest.
const PAUSE_MS: (u64, u64) = (50, 1_000);

/// The way to a realm's stream.
#[derive(Debug)]
pub(crate) struct StreamLine {
    pub(super) config: Stream,
    pub(super) node: NodeId,
    /// What the stream is called in receipts.
    pub(super) witness: NodeId,
    queue: Mutex<Queue>,
    /// The last place of the stream that its servers have told of, and in which of its lives.
    last: Mutex<(u64, u64)>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Arc<Event>>,
    /// Those on their way, by the number of their message.
    sent: BTreeMap<u64, Vec<Arc<Event>>>,
    next: u64,
}

impl StreamLine {
    pub(crate) fn new(config: Stream, node: NodeId, witness: NodeId) -> Self {
        Self { config, node, witness, queue: Mutex::default(), last: Mutex::default(), filled: Notify::new() }
    }

    /// Puts an event into the queue. There are never more than wait for an acknowledgement; should there be, the oldest
    /// stays in the outbox, and goes out after the next start.
    pub(crate) fn push(&self, event: Arc<Event>) {
        let mut queue = self.queue.lock();
        if queue.waiting.len() >= OUTBOX_MAX {
            queue.waiting.pop_front();
        }
        queue.waiting.push_back(event);
        drop(queue);
        self.filled.notify_one();
    }

    /// A session begins: what was on its way in the one before is not known to have arrived.
    pub(super) fn begin(&self) {
        let mut queue = self.queue.lock();
        let sent = std::mem::take(&mut queue.sent);
        sent.into_values().rev().flatten().for_each(|event| queue.waiting.push_front(event));
        drop(queue);
        self.filled.notify_one();
    }

    /// Publishes a beat; returns its place.
    pub(super) async fn beat(&self, log: &StreamLog) -> Result<u64, StreamFault> {
        let before = *self.last.lock();
        let beat = log.beat().await?;
        if before.0 == log.epoch && beat <= before.1 {
            return Err(StreamFault::SetBack);
        }
        self.told(log, beat);
        Ok(beat)
    }

    /// The servers have told of a place. Answers may come in another order than the places.
    fn told(&self, log: &StreamLog, seq: u64) {
        let mut last = self.last.lock();
        let before = if last.0 == log.epoch { last.1 } else { 0 };
        *last = (log.epoch, before.max(seq));
    }

    /// The next batch, with its number.
    fn batch(&self) -> Option<(u64, Vec<Arc<Event>>)> {
        let mut queue = self.queue.lock();
        let mut bytes = 0;
        let fits = queue.waiting.iter().take(EVENTS_MAX).take_while(|event| {
            bytes += event_bytes(event);
            bytes <= BATCH_BYTES
        });
        // an event alone always fits into a message
        let count = fits.count().max(usize::from(!queue.waiting.is_empty()));
        let events: Vec<_> = queue.waiting.drain(..count).collect();
        if events.is_empty() {
            return None;
        }
        let number = queue.next;
        queue.next += 1;
        queue.sent.insert(number, events.clone());
        Some((number, events))
    }

    fn arrived(&self, number: u64) {
        self.queue.lock().sent.remove(&number);
    }
}

/// Sends until nothing can be sent any more.
pub(super) async fn run(realm: &Arc<Realm>, log: &StreamLog, line: &StreamLine) -> StreamFault {
    let mut letters = FuturesUnordered::new();
    loop {
        while letters.len() < LETTERS_MAX
            && let Some((number, events)) = line.batch()
        {
            match Letter::new(&events) {
                Ok(letter) => letters.push(deliver(realm, line, log, letter, number, events)),
                Err(fault) => return fault,
            }
        }
        tokio::select! {
            () = line.filled.notified(), if letters.len() < LETTERS_MAX => {}
            Some((number, events)) = letters.next() => {
                line.arrived(number);
                let mut core = realm.core.lock();
                events.iter().for_each(|event| core.stored(event.id(), &line.witness));
                drop(core);
                realm.lazy.notify_one();
            }
        }
    }
}

/// Sends one message, the same one again and again, until it is acknowledged.
async fn deliver(
    realm: &Realm,
    line: &StreamLine,
    log: &StreamLog,
    letter: Letter,
    number: u64,
    events: Vec<Arc<Event>>,
) -> (u64, Vec<Arc<Event>>) {
    let mut pause = PAUSE_MS.0;
    loop {
        match log.publish(&letter).await {
            Ok(place) => {
                line.told(log, place.seq);
                return (number, events);
            }
            Err(fault) => tracing::debug!(realm = %realm.name, %fault, "purges go to the stream again"),
        }
        tokio::time::sleep(jittered(pause)).await;
        pause = (pause * 2).min(PAUSE_MS.1);
    }
}
