//! Sending events to one other member: at once, over a line that stands, again until it has answered.
//!
//! Nothing waits for an answer but the answer's reader: what comes while a batch is on its way goes out behind it. Answers
//! come in the order of the batches. When the line breaks, what was not answered goes again, over the next one.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use region_config::NodeId;
use rules::purge::OUTBOX_MAX;
use tokio::sync::Notify;
use wire::purge::{Answer, BATCH_BYTES, Refusal, Request, Sent, decode_answer, encode_request, event_bytes};

use super::{
    carrier::{Carrier, CarryFault, Receiving, Sending},
    chance,
    realm::Realm,
};
use crate::{clock, peers::Kind};

/// Events in one batch.
const EVENTS_MAX: usize = 512;
/// Batches and events that wait for their answers, at most: an answer comes after the member's disk has synced, and what is to
/// come into effect there must not wait for a disk that is slow for a second.
const BATCHES_ON_WAY_MAX: usize = 8_192;
const EVENTS_ON_WAY_MAX: usize = 16_384;
/// How long an answer may take, and how often that is looked at.
const ANSWER_MS: u64 = 5_000;
const LOOK: Duration = Duration::from_millis(500);
/// Pauses after failures, in ms: the first and the longest.
const PAUSE_MS: (u64, u64) = (50, 1_000);

/// The way to one other member.
#[derive(Debug)]
pub(super) struct Outlet {
    pub(super) node: NodeId,
    /// Whether it is a witness: then it is asked to store.
    store: bool,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Sent>,
    on_way: VecDeque<Batch>,
    events_on_way: usize,
}

#[derive(Debug)]
struct Batch {
    events: Vec<Sent>,
    sent_ms: u64,
}

impl Outlet {
    pub(super) fn new(node: NodeId, store: bool) -> Self {
        Self { node, store, state: Mutex::default(), changed: Notify::new() }
    }

    /// Puts an event into the queue. Over its limit the oldest goes: the tails bring it, only its receipt is missing.
    pub(super) fn push(&self, sent: Sent) {
        let mut state = self.state.lock();
        if state.waiting.len() >= OUTBOX_MAX {
            state.waiting.pop_front();
        }
        state.waiting.push_back(sent);
        drop(state);
        self.changed.notify_one();
    }

    /// How many events wait to be sent or answered.
    pub(super) fn backlog(&self) -> usize {
        let state = self.state.lock();
        state.waiting.len() + state.events_on_way
    }

    /// Waits for the next batch, which is on its way from then on.
    async fn next(&self) -> Vec<Sent> {
        loop {
            let departing = self.state.lock().depart(clock::monotonic_ms());
            if let Some(events) = departing {
                return events;
            }
            self.changed.notified().await;
        }
    }

    /// The oldest batch is answered; none if there is no batch.
    fn arrived(&self) -> Option<Vec<Sent>> {
        let mut state = self.state.lock();
        let batch = state.on_way.pop_front()?;
        state.events_on_way -= batch.events.len();
        drop(state);
        self.changed.notify_one();
        Some(batch.events)
    }

    fn overdue(&self) -> bool {
        let now_ms = clock::monotonic_ms();
        self.state.lock().on_way.front().is_some_and(|batch| now_ms.saturating_sub(batch.sent_ms) > ANSWER_MS)
    }

    /// What was not answered goes again, in its order.
    fn back(&self) {
        let mut state = self.state.lock();
        let unanswered: Vec<Batch> = state.on_way.drain(..).collect();
        for sent in unanswered.into_iter().rev().flat_map(|batch| batch.events.into_iter().rev()) {
            state.waiting.push_front(sent);
        }
        state.events_on_way = 0;
    }
}

impl State {
    fn depart(&mut self, now_ms: u64) -> Option<Vec<Sent>> {
        if self.waiting.is_empty() || self.on_way.len() >= BATCHES_ON_WAY_MAX || self.events_on_way >= EVENTS_ON_WAY_MAX
        {
            return None;
        }
        let mut bytes = 0;
        let fits = self.waiting.iter().take(EVENTS_MAX).take_while(|sent| {
            bytes += 8 + event_bytes(&sent.event);
            bytes <= BATCH_BYTES
        });
        // an event alone always fits into a message
        let count = fits.count().max(1);
        let events: Vec<Sent> = self.waiting.drain(..count).collect();
        self.events_on_way += events.len();
        self.on_way.push_back(Batch { events: events.clone(), sent_ms: now_ms });
        Some(events)
    }
}

/// Between half and all of it.
pub(super) fn jittered(pause_ms: u64) -> Duration {
    // without random numbers the pause is merely not jittered
    let [chance] = chance().unwrap_or([0]);
    Duration::from_millis(pause_ms / 2 + pause_ms * u64::from(chance) / 510)
}

/// Sends until the node stops. The line stands before there is anything to send: the first purge shall not wait for it.
pub(super) async fn run(realm: Arc<Realm>, outlet: Arc<Outlet>, carrier: Carrier) {
    let mut pause = PAUSE_MS.0;
    loop {
        let mut answered = false;
        let fault = line(&realm, &outlet, &carrier, &mut answered).await;
        tracing::debug!(realm = %realm.name, node = %outlet.node, %fault, "a line for events ended");
        realm.note_refusal(&outlet.node, &fault);
        outlet.back();
        pause = if answered { PAUSE_MS.0 } else { (pause * 2).min(PAUSE_MS.1) };
        tokio::time::sleep(jittered(pause)).await;
    }
}

/// Sends over one line, until it ends.
async fn line(realm: &Arc<Realm>, outlet: &Outlet, carrier: &Carrier, answered: &mut bool) -> CarryFault {
    let line = match carrier.open(&outlet.node, Kind::Ledger, &realm.name).await {
        Ok(line) => line,
        Err(fault) => return fault,
    };
    tokio::select! {
        biased;
        fault = listen(realm, outlet, line.recv, answered) => fault,
        fault = speak(realm, outlet, line.send) => fault,
        () = overdue(outlet) => CarryFault::TimedOut,
    }
}

async fn speak(realm: &Realm, outlet: &Outlet, mut send: Sending) -> CarryFault {
    loop {
        let events = outlet.next().await;
        let request = Request { realm: realm.name.clone(), roll: realm.roll, store: outlet.store, events };
        #[cfg(feature = "simulation")]
        crate::simulation::pause(crate::simulation::Place::Send).await;
        if let Err(fault) = send.frame(&encode_request(&request)).await {
            return fault;
        }
    }
}

async fn overdue(outlet: &Outlet) {
    while !outlet.overdue() {
        tokio::time::sleep(LOOK).await;
    }
}

async fn listen(realm: &Arc<Realm>, outlet: &Outlet, mut recv: Receiving, answered: &mut bool) -> CarryFault {
    loop {
        let answer = match recv.frame().await {
            Ok(bytes) => decode_answer(&bytes),
            Err(fault) => return fault,
        };
        match answer {
            Err(fault) => return fault.into(),
            Ok(answer) => {
                if let Err(refusal) = settle(realm, outlet, answer) {
                    return CarryFault::Refused(refusal);
                }
            }
        }
        *answered = true;
    }
}

/// Notes what an answer says of the oldest batch. One that promises nothing leaves it where it is: it goes again.
fn settle(realm: &Arc<Realm>, outlet: &Outlet, answer: Answer) -> Result<(), Refusal> {
    let mut core = realm.core.lock();
    match answer {
        Answer::Refused(refusal) => return Err(refusal),
        // a witness that only applied has not done what it was asked to
        Answer::Applied(_) if outlet.store => return Err(Refusal::Malformed),
        Answer::Applied(ids) => {
            ids.into_iter().for_each(|(id, position)| core.applied(id, &outlet.node, position));
        }
        Answer::Stored { epoch, places } => {
            let witness = realm.witnesses.iter().position(|witness| *witness == outlet.node);
            for (id, seq, position) in places {
                if let Some(witness) = witness {
                    core.places.note(id, witness, epoch, seq);
                }
                core.applied(id, &outlet.node, position);
                core.stored(id, &outlet.node);
            }
        }
    }
    drop(core);
    outlet.arrived();
    realm.lazy.notify_one();
    Ok(())
}
