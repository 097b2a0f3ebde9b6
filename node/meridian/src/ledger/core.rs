//! The machines of one realm, under one lock, and how they feed each other.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use region_config::NodeId;
use rules::purge::{
    Acknowledged, Append, Apply, Cursor, Delta, Electorate, Event, Handover, Heard, Lease, LogHead, Position, PurgeId,
    Reader, Receipts, Record, SavedRoll, Source, Stand, TailStart, Witness,
};
use tokio::sync::Notify;
use wire::purge::{Refusal, Sent};

use super::{figures::Figures, tokens::Places};
use crate::clock;

/// Sites of one realm that marks are kept for, at most. Events for more are refused at the door.
const SITES_MAX: usize = 65_536;

/// The machines of one realm.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) apply: Apply,
    pub(super) witness: Option<Witness>,
    pub(super) receipts: Receipts,
    pub(super) electorate: Electorate,
    /// The witnesses, and how far a change of them has come; whether that is to be written.
    pub(super) roll: SavedRoll,
    pub(super) handover: Handover,
    pub(super) remember: bool,
    /// With which change it is remembered that the new ones have taken over.
    pub(super) complete_change: u64,
    pub(super) lease: Lease,
    /// Since when nothing acknowledged can be missing, as requests read it; 0 if nothing is sure.
    pub(super) since: Arc<AtomicU64>,
    pub(super) figures: Arc<Figures>,
    /// This node's name and its place among the witnesses.
    pub(super) me: NodeId,
    pub(super) own: Option<usize>,
    pub(super) witnesses: usize,
    /// Counts the changes: what waits for the disk waits for the count to be written.
    pub(super) change: u64,
    /// Events that came since the last batch was made.
    pub(super) events: usize,
    /// Own purges whose change is not written yet.
    pub(super) unwritten: Vec<Unwritten>,
    pub(super) outbox: BTreeMap<PurgeId, Option<Arc<Event>>>,
    /// Per witness: how far its log is read *and* that is on our disk.
    pub(super) held: Vec<Option<Cursor>>,
    pub(super) caught_up: bool,
    /// Where own purges are known to be on disk.
    pub(super) places: Places,
    /// Who waits for a purge.
    pub(super) waiters: BTreeMap<PurgeId, Arc<Notify>>,
}

/// A purge that this node took, on its way to the disk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unwritten {
    change: u64,
    id: PurgeId,
    position: Position,
    /// Where it is in the own log: epoch and record.
    logged: Option<(u64, u64)>,
}

/// An event that came from another node: its place in the own log (0 if that was not asked for), and its position.
pub(super) type Received = (PurgeId, u64, Position);

/// What the caller has to do after a head.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reading {
    /// Nothing: the log must not be read now.
    Wait,
    /// Go on as before.
    On,
    /// Begin to read here.
    From(TailStart),
}

/// A change as it is about to be written.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) delta: Delta,
    pub(super) change: u64,
    pub(super) events: usize,
    pub(super) appended: Option<u64>,
    pub(super) cursors: Vec<Option<Cursor>>,
}

impl Core {
    /// An application's purge: applied at once, logged if this node is a witness, kept until a majority has it.
    pub(super) fn take(&mut self, event: &Arc<Event>, bound_ms: Option<u64>) -> bool {
        let now = clock::monotonic_ms();
        if !self.receipts.handle_taken(event, bound_ms, now, clock::unix_ms()) {
            return false;
        }
        if self.receipts.state(event.id()) == Some(Acknowledged::Accepted) {
            self.outbox.insert(event.id(), Some(Arc::clone(event)));
        }
        self.keep(event);
        true
    }

    /// Applies and logs an own purge, and notes that it is to be written.
    fn keep(&mut self, event: &Arc<Event>) {
        self.events += 1;
        let seq = self.append(event).0.ok();
        let logged = self.witness.as_ref().map(|witness| witness.appended().epoch).zip(seq);
        self.change += 1;
        let position = self.applied_at(event);
        self.unwritten.push(Unwritten { change: self.change, id: event.id(), position, logged });
    }

    /// Events from the node that took them. They are applied in any case; the answer, if it is a promise, may be
    /// given when the change is on disk.
    pub(super) fn receive(&mut self, events: &[Sent], store: bool) -> Result<Vec<Received>, Refusal> {
        let mut sites = events.iter().filter_map(|sent| sent.event.site());
        if self.apply.sites() >= SITES_MAX && sites.any(|site| !self.apply.knows(site)) {
            return Err(Refusal::Full);
        }
        let received: Vec<_> = events
            .iter()
            .map(|sent| {
                let (place, new) = self.append(&sent.event);
                if new {
                    self.figures.note_effect(sent);
                }
                (sent.event.id(), place, self.applied_at(&sent.event))
            })
            .collect();
        self.change += 1;
        self.events += received.len();
        let promised = received.into_iter().map(|(id, place, position)| {
            let place = if store { place? } else { 0 };
            Ok((id, place, position))
        });
        promised.collect()
    }

    fn applied_at(&self, event: &Event) -> Position {
        self.apply.applied_at(event).unwrap_or_else(|| self.apply.position())
    }

    /// Applies an event, and appends it to the own log if that counts: its place there, and whether it was new here.
    fn append(&mut self, event: &Arc<Event>) -> (Result<u64, Refusal>, bool) {
        let appended = match &mut self.witness {
            Some(witness) if witness.voting() => witness.handle_event(event),
            _ => {
                return (Err(Refusal::NotVoting), self.apply(event, Source::Direct));
            }
        };
        match (appended, self.own) {
            (Append::At { seq, .. }, Some(witness)) => {
                let new = self.apply(event, Source::Log { witness, seq });
                self.own_log();
                (Ok(seq), new)
            }
            _ => (Err(Refusal::Full), self.apply(event, Source::Direct)),
        }
    }

    fn apply(&mut self, event: &Arc<Event>, source: Source) -> bool {
        let new = self.apply.handle_event(event, source, clock::monotonic_ms());
        self.told_of(event, new);
        new
    }

    /// An event was put into the node's order, if it is `new` there.
    fn told_of(&self, event: &Event, new: bool) {
        if new {
            self.figures.note_applied(event);
        }
        applied(event, new);
    }

    /// A witness is asked where its log ends.
    pub(super) fn asked(&mut self, witness: usize, nonce: u64) {
        self.lease.handle_asked(witness, nonce, clock::monotonic_ms());
    }

    /// The line to a witness is gone.
    pub(super) fn line_lost(&mut self, witness: usize) {
        self.lease.handle_line_lost(witness);
        self.handover.handle_line_lost(witness);
    }

    /// How a witness stands in a change, which it says with its head.
    pub(super) fn stands(&mut self, witness: usize, stand: Stand) {
        self.handover.handle_stand(witness, stand);
    }

    /// What a witness says about its log, when it is asked (`nonce`) or by itself (0).
    pub(super) fn head(&mut self, witness: usize, nonce: u64, head: LogHead, reading: bool) -> Reading {
        let recovering = self.witness.as_ref().is_some_and(Witness::recovering);
        let before = self.apply.cursor(witness);
        let start = self.apply.handle_head(witness, head, recovering, clock::monotonic_ms());
        self.lease.handle_answer(witness, nonce, &head);
        self.read(witness);
        self.change += 1;
        self.weigh();
        match start {
            None => Reading::Wait,
            Some(start) if reading && before == Some(start.cursor) => Reading::On,
            Some(start) => Reading::From(start),
        }
    }

    /// Records of a witness's log. A witness stores what it reads from others. False if they do not follow.
    pub(super) fn records(&mut self, witness: usize, name: &NodeId, epoch: u64, records: &[Arc<Record>]) -> bool {
        let now = clock::monotonic_ms();
        for record in records {
            match self.apply.handle_record(witness, epoch, record, now) {
                Heard::Broken => return false,
                Heard::Consumed { new } => self.told_of(&record.event, new),
            }
            if let (Some(own), Some(log)) = (self.own, &mut self.witness)
                && let Append::At { seq, .. } = log.handle_event(&record.event)
            {
                self.apply.handle_event(&record.event, Source::Log { witness: own, seq }, now);
            }
            // a tail brings only what is on the witness's disk
            if self.receipts.state(record.event.id()).is_some() {
                self.places.note(record.event.id(), witness, epoch, record.seq);
            }
            let reached = self.receipts.handle_stored(record.event.id(), name, now);
            self.reached(record.event.id(), reached);
        }
        self.own_log();
        self.read(witness);
        self.change += 1;
        self.weigh();
        true
    }

    /// What the stream holds at one place, everything before being read. False if it does not follow.
    pub(super) fn passage(&mut self, read: Cursor, name: &NodeId, events: &[Arc<Event>]) -> bool {
        let now = clock::monotonic_ms();
        if !self.apply.handle_passage(0, read, events, now) {
            return false;
        }
        for event in events {
            // what is in the stream was acknowledged by a majority of its servers
            let reached = self.receipts.handle_stored(event.id(), name, now);
            self.reached(event.id(), reached);
        }
        self.change += 1;
        true
    }

    /// A witness's log was read up to the cursor.
    fn read(&mut self, witness: usize) {
        if let Some(cursor) = self.apply.cursor(witness) {
            self.lease.handle_read(witness, &cursor);
        }
    }

    /// The wall clock was set back.
    pub(super) fn clock_set_back(&mut self) {
        self.apply.handle_clock_set_back();
        self.change += 1;
    }

    /// A reader of the own log says where it is.
    pub(super) fn reader(&self, cursor: &Cursor) -> Reader {
        self.witness.as_ref().map_or(Reader::Behind, |witness| witness.reader(cursor))
    }

    /// A reader has read what the own log does not have: the disk was set back.
    pub(super) fn set_back(&mut self, epoch: u64) {
        let Some(witness) = &mut self.witness else { return };
        witness.handle_set_back(epoch);
        self.apply.handle_own_epoch(witness.appended(), false);
        self.apply.handle_doubt();
        self.handover.handle_set_back();
        self.change += 1;
        self.weigh();
    }

    /// A witness has it on disk.
    pub(super) fn stored(&mut self, id: PurgeId, witness: &NodeId) {
        let reached = self.receipts.handle_stored(id, witness, clock::monotonic_ms());
        self.reached(id, reached);
    }

    /// A member has applied it, and has that on disk.
    pub(super) fn applied(&mut self, id: PurgeId, member: &NodeId, position: Position) {
        let reached = self.receipts.handle_applied(id, member, position, clock::monotonic_ms());
        self.reached(id, reached);
    }

    /// Time passes: who has not answered may be fenced.
    pub(super) fn tick(&mut self, now_ms: u64) {
        for id in self.receipts.poll_fenced(now_ms) {
            self.told(id);
        }
    }

    fn reached(&mut self, id: PurgeId, state: Option<Acknowledged>) {
        let Some(state) = state else { return };
        if state >= Acknowledged::Quorum {
            self.outbox.insert(id, None);
            self.change += 1;
        }
        self.told(id);
    }

    fn told(&self, id: PurgeId) {
        if let Some(waiters) = self.waiters.get(&id) {
            waiters.notify_waiters();
        }
    }

    /// What there is to write; none if nothing.
    pub(super) fn batch(&mut self) -> Batch {
        let mut delta = self.apply.poll_delta();
        if let Some(witness) = &mut self.witness {
            (delta.records, delta.witness) = witness.poll_fresh();
        }
        delta.outbox = std::mem::take(&mut self.outbox);
        delta.roll = self.poll_roll();
        let cursors = (0..self.witnesses).map(|witness| self.apply.cursor(witness)).collect();
        let appended = self.witness.as_ref().map(|witness| witness.appended().seq);
        Batch { delta, change: self.change, events: std::mem::take(&mut self.events), appended, cursors }
    }

    /// A batch is on disk.
    pub(super) fn written(&mut self, batch: Batch) {
        self.held = batch.cursors;
        if let (Some(witness), Some(seq)) = (&mut self.witness, batch.appended) {
            let voted = witness.voting();
            witness.handle_durable(seq);
            if witness.voting() && !voted {
                self.votes();
            }
        }
        let me = self.me.clone();
        let written = self.unwritten.partition_point(|own| own.change <= batch.change);
        for own in self.unwritten.drain(..written).collect::<Vec<_>>() {
            self.applied(own.id, &me, own.position);
            if let (Some((epoch, seq)), Some(witness)) = (own.logged, self.own) {
                self.places.note(own.id, witness, epoch, seq);
                self.stored(own.id, &me);
            }
        }
        self.weigh();
    }

    /// The own log has recovered: it takes from now on what waits for a majority.
    pub(super) fn votes(&mut self) {
        if let Some(witness) = &self.witness {
            self.apply.handle_own_epoch(witness.appended(), true);
        }
        for event in self.receipts.waiting_events() {
            self.keep(&event);
        }
        self.change += 1;
    }

    /// Draws the consequences of what was heard: a witness that recovers may vote, a node that starts has caught up.
    fn weigh(&mut self) {
        let others = (0..self.witnesses).filter(|witness| Some(*witness) != self.own);
        let heard: Vec<(usize, bool)> = others.filter_map(|w| Some((w, self.apply.confirmed(w)?))).collect();
        self.weigh_change(&heard);
        if let Some(witness) = &mut self.witness
            && witness.recovering()
        {
            for (other, voting) in &heard {
                witness.handle_confirmed(*other, *voting, self.apply.compacted(*other));
            }
            if witness.voting() {
                self.votes();
            }
        }
        if !self.caught_up {
            let own = self.own.filter(|_| self.witness.as_ref().is_some_and(Witness::voting));
            if self.electorate.met(|witness| own == Some(witness) || heard.contains(&(witness, true))) {
                self.caught_up = true;
                self.apply.open_gate();
            }
        }
        self.weigh_complete();
        let votes = self.witness.as_ref().is_some_and(Witness::voting);
        self.since.store(self.lease.since(votes).unwrap_or(0), Ordering::Release);
    }

    /// To be called once after the start: a witness that is alone has caught up with itself.
    pub(super) fn begin(&mut self) {
        self.weigh();
    }

    fn own_log(&mut self) {
        if let Some(witness) = &self.witness {
            self.apply.handle_own_log(witness.appended());
        }
    }
}

/// An event was put into the node's order, if it is `new` there: a simulation's checker is told.
fn applied(event: &Event, new: bool) {
    #[cfg(feature = "simulation")]
    if let (true, Some(world)) = (new, crate::simulation::world()) {
        world.applied(event);
    }
    #[cfg(not(feature = "simulation"))]
    let _ = (event, new);
}
