//! One node, driven as the realm in the product drives its machines.

use std::{
    collections::{BTreeSet, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    sync::{Arc, LazyLock, atomic::AtomicU64},
};

use region_config::{NodeId, SiteId};
use rules::purge::{
    Append, Apply, Cursor, Electorate, Event, Heard, Lease, Limits, Mode, PurgeKey, Reader, RealmSecret, Record, Saved,
    SavedWitness, SiteGuard, Source, Standing, Tail, Terms, Witness,
};

use super::{Answer, NODES, Stored};

/// Records that a log keeps: so few that there is something to cut.
const KEEP: u64 = 1;
const TAG: &str = "t";

static NAMES: LazyLock<Vec<NodeId>> = LazyLock::new(|| ["a", "b", "c"].map(|name| named(NodeId::parse(name))).to_vec());
static SITE: LazyLock<SiteId> = LazyLock::new(|| named(SiteId::parse("shop")));
static EVENTS: LazyLock<Vec<Arc<Event>>> = LazyLock::new(|| {
    let event = |number: usize| {
        let keys = vec![PurgeKey::Tag(TAG.to_owned())];
        named(Event::new(Some(SITE.clone()), Mode::Hard, keys, number.to_string()))
    };
    (0..4).map(|number| Arc::new(event(number))).collect()
});

#[allow(clippy::panic, reason = "constants of a laboratory")]
fn named<T, E: std::fmt::Debug>(parsed: Result<T, E>) -> T {
    parsed.unwrap_or_else(|error| panic!("{error:?}"))
}

pub(super) fn event(number: usize) -> &'static Arc<Event> {
    &EVENTS[number]
}

pub(super) fn site() -> &'static SiteId {
    &SITE
}

pub(super) fn name_of(node: usize) -> &'static NodeId {
    &NAMES[node]
}

/// Which event it is.
fn number(event: &Event) -> usize {
    named(event.idempotency().parse())
}

/// A node: its machines, its disk, its cache.
#[derive(Debug)]
pub(super) struct Node {
    index: usize,
    pub(super) apply: Apply,
    guard: Arc<SiteGuard>,
    pub(super) log: Witness,
    pub(super) lease: Lease,
    /// Acknowledged events when each witness was last asked: that is what time is here.
    asked: [u64; NODES],
    pub(super) boot: u32,
    /// Lives of its log.
    life: u64,
    saved: Saved,
    records: Vec<Arc<Record>>,
    pub(super) stored: Option<Stored>,
    pub(super) answer: Option<Answer>,
    /// Seen from outside: events that it applied or passed over in this boot, and acknowledged ones of boots before.
    pub(super) must: BTreeSet<usize>,
    /// Something may have changed since it last wrote.
    pub(super) dirty: bool,
    /// It has passed over a part of a log.
    pub(super) jumped: bool,
    /// A hash of all that.
    pub(super) name: u64,
}

impl Node {
    /// A node that starts from what is on its disk.
    pub(super) fn start(index: usize, boot: u32, life: u64, mut saved: Saved, records: Vec<Arc<Record>>) -> Self {
        let past = saved.witness.take().map(|witness| witness.state);
        let epoch = life * 10 + index as u64;
        let log = match past {
            Some(state) => {
                let newest: Vec<_> = records.iter().filter(|record| record.seq >= state.base).cloned().collect();
                let ids = newest.iter().map(|record| (record.seq, record.event.id())).collect();
                Witness::restored(SavedWitness { state, ids, newest }, index, NODES, KEEP)
            }
            None => Witness::without_past(epoch, index, NODES, KEEP),
        };
        let terms = Terms {
            secret: RealmSecret([9; 16]),
            boot,
            run: u64::from(boot),
            witnesses: NAMES.clone(),
            own: Some(index),
            limits: Limits { known: 30, marks: 1000, ring: 6 },
        };
        let mut kept = saved.clone();
        kept.witness = past.map(|state| SavedWitness { state, ids: vec![], newest: vec![] });
        let mut apply = Apply::new(terms, saved, log.voting().then(|| log.appended()));
        if past.is_none() {
            apply.handle_no_past();
        }
        let guard = apply.guard(site());
        Self {
            index,
            guard,
            apply,
            log,
            lease: Lease::new(Electorate::of(NODES), Some(index), NODES),
            asked: [0; NODES],
            boot,
            life,
            saved: kept,
            records,
            stored: None,
            answer: None,
            must: BTreeSet::new(),
            dirty: true,
            jumped: false,
            name: 0,
        }
    }

    /// What is left of it when the power fails. Copies are on the cache's disk.
    pub(super) fn restarted(&self, acknowledged: &[usize]) -> Self {
        let mut node = Self::start(self.index, self.boot + 1, self.life, self.saved.clone(), self.records.clone());
        node.stored = self.stored;
        node.must = self.must.iter().filter(|event| acknowledged.contains(event)).copied().collect();
        node
    }

    /// What is left of it when its disk is lost.
    pub(super) fn lost(&self) -> Self {
        Self::start(self.index, self.boot + 1, self.life + 1, Saved::default(), Vec::new())
    }

    pub(super) fn fork(&self) -> Self {
        let mut apply = self.apply.fork();
        Self {
            guard: apply.guard(site()),
            apply,
            log: self.log.fork(),
            lease: self.lease.clone(),
            saved: self.saved.clone(),
            records: self.records.clone(),
            answer: self.answer.clone(),
            must: self.must.clone(),
            ..*self
        }
    }

    /// Gives it its name, after a step.
    pub(super) fn settle(mut self) -> Self {
        let mut into = DefaultHasher::new();
        self.apply.trace(&mut into);
        self.log.trace(&mut into);
        (&self.lease, self.asked, self.boot, self.life, self.stored, &self.must, self.jumped).hash(&mut into);
        let saved = &self.saved;
        (saved.floor, &saved.marks, &saved.floors, &saved.known, &saved.cursors).hash(&mut into);
        saved.unseen.iter().for_each(|event| event.id().hash(&mut into));
        saved.witness.as_ref().map(|witness| witness.state).hash(&mut into);
        self.records.iter().for_each(|record| (record.seq, record.chain).hash(&mut into));
        if let Some(Answer { from, version, have, at_start }) = &self.answer {
            (from, version, at_start, have.run, have.position, &have.cursors, &have.ids).hash(&mut into);
        }
        self.name = into.finish();
        self
    }

    pub(super) fn hear(&mut self, number: usize) {
        let event = event(number);
        let source = match self.log.voting().then(|| self.log.handle_event(event)) {
            Some(Append::At { seq, .. }) => Source::Log { witness: self.index, seq },
            _ => Source::Direct,
        };
        self.apply.handle_event(event, source, 0);
        if matches!(source, Source::Log { .. }) {
            self.apply.handle_own_log(self.log.appended());
        }
        self.must.insert(number);
    }

    /// Opens a tail of another's log, and reads a record. `now` is how many events are acknowledged.
    pub(super) fn tail(&mut self, witness: usize, other: &Self, now: u64) {
        let head = other.log.head();
        let before = self.apply.cursor(witness).map(|cursor| (cursor.epoch, cursor.seq));
        let start = self.apply.handle_head(witness, head, self.log.recovering(), 0);
        if self.asked[witness] <= now {
            self.asked[witness] = now + 1;
            self.lease.handle_asked(witness, now, now + 1);
            self.lease.handle_answer(witness, now, &head);
        }
        if let Some(start) = start {
            if before != Some((start.cursor.epoch, start.cursor.seq)) && start.cursor.seq > 0 {
                self.jumped = true;
                self.must.extend(other.records_up_to(start.cursor.seq));
            }
            if other.log.reader(&start.cursor) == Reader::Follows
                && let Tail::Records(records) = other.log.tail(head.epoch, start.cursor.seq, 1)
            {
                records.iter().for_each(|record| self.read(witness, head.epoch, record));
            }
        }
        self.weigh(witness);
    }

    fn read(&mut self, witness: usize, epoch: u64, record: &Record) {
        if !matches!(self.apply.handle_record(witness, epoch, record, 0), Heard::Consumed { .. }) {
            return;
        }
        if let Append::At { seq, .. } = self.log.handle_event(&record.event) {
            self.apply.handle_event(&record.event, Source::Log { witness: self.index, seq }, 0);
            self.apply.handle_own_log(self.log.appended());
        }
        self.must.insert(number(&record.event));
    }

    /// What was read may be enough to vote, or to be sure.
    fn weigh(&mut self, witness: usize) {
        if let Some(cursor) = self.apply.cursor(witness) {
            self.lease.handle_read(witness, &cursor);
        }
        if let Some(voting) = self.apply.confirmed(witness) {
            let voted = self.log.voting();
            self.log.handle_confirmed(witness, voting, self.apply.compacted(witness));
            self.votes_since(voted);
        }
        if self.lease.since(self.log.voting()).is_some() {
            self.apply.open_gate();
        }
    }

    fn votes_since(&mut self, voted: bool) {
        if self.log.voting() && !voted {
            self.apply.handle_own_epoch(self.log.appended(), true);
        }
    }

    /// Writes what changed, as the ledger's file does.
    pub(super) fn write(&mut self) {
        let mut delta = self.apply.poll_delta();
        (delta.records, delta.witness) = self.log.poll_fresh();
        let saved = &mut self.saved;
        if let Some(floor) = delta.floor {
            saved.floor = floor;
            saved.marks.clear();
        }
        for (site, key, marks) in delta.marks {
            saved.marks.retain(|(_, old, _)| *old != key);
            saved.marks.push((site, key, marks));
        }
        for (site, floors) in delta.floors {
            saved.floors.retain(|(old, _)| *old != site);
            saved.floors.push((site, floors));
        }
        saved.known.extend(delta.known);
        for (id, event) in delta.unseen {
            saved.unseen.retain(|old| old.id() != id);
            saved.unseen.extend(event);
        }
        for (witness, cursor) in delta.cursors {
            saved.cursors.retain(|(old, _)| *old != witness);
            saved.cursors.push((witness, cursor));
            saved.cursors.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        }
        if let Some(state) = delta.witness {
            saved.witness = Some(SavedWitness { state, ids: vec![], newest: vec![] });
        }
        self.records.extend(delta.records);
        let voted = self.log.voting();
        self.log.handle_durable(self.log.appended().seq);
        self.votes_since(voted);
        self.dirty = self.log.voting() && !voted;
    }

    /// The record up to which its log may be cut, when the others have on disk what they have.
    pub(super) fn cut(&self, others: &[(usize, Option<Cursor>)]) -> Option<(Witness, u64)> {
        let mut log = self.log.fork();
        for (other, cursor) in others {
            if let Some(cursor) = cursor.filter(|cursor| cursor.epoch == log.head().epoch) {
                log.handle_held(*other, cursor.seq);
            }
        }
        let last = log.poll_compact()?;
        let chain = self.records.iter().find(|record| record.seq == last)?.chain;
        log.handle_compact(last, chain);
        Some((log, last))
    }

    /// What it has written of how far it has read a log.
    pub(super) fn saved_cursor(&self, witness: usize) -> Option<Cursor> {
        self.saved.cursors.iter().find(|(name, _)| *name == NAMES[witness]).map(|(_, cursor)| *cursor)
    }

    pub(super) fn fetch(&mut self, version: usize) {
        self.stored = Some(Stored { version, stamp: self.apply.position() });
    }

    /// What an answer is worth here: no more than what the other had heard.
    pub(super) fn landing(&mut self) -> Option<Stored> {
        let Answer { from, version, have, at_start } = self.answer.take()?;
        let stamp = self.apply.covered(name_of(from), site(), &have, at_start);
        Some(Stored { version, stamp })
    }

    pub(super) fn serves(&self, copy: &Stored) -> bool {
        let keys = self.guard.keys("h", "/", None, Some(&[TAG]));
        self.guard.standing(copy.stamp, &AtomicU64::new(0), &keys) == Standing::Valid
    }

    pub(super) fn has_on_disk(&self, number: usize) -> bool {
        let durable = self.log.head().seq;
        self.log.voting()
            && self.records.iter().any(|record| record.seq <= durable && record.event.id() == event(number).id())
    }

    /// Whether it says that it has stored an event.
    pub(super) fn has(&self, number: usize, unwritten: bool) -> bool {
        let appended = || {
            let mut log = self.log.fork();
            log.voting() && matches!(log.handle_event(event(number)), Append::At { new: false, .. })
        };
        self.has_on_disk(number) || (unwritten && appended())
    }

    /// Whether it has caught up.
    pub(super) fn is_sure(&self) -> bool {
        self.lease.since(self.log.voting()).is_some()
    }

    fn records_up_to(&self, seq: u64) -> impl Iterator<Item = usize> + '_ {
        self.records.iter().filter(move |record| record.seq <= seq).map(|record| number(&record.event))
    }
}
