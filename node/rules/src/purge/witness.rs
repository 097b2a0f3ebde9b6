//! A witness's log: append-only, chained, and speaking only of what is safely on disk.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    hash::Hasher as _,
    sync::Arc,
};

use siphasher::sip::SipHasher24;

use super::{
    event::{Event, PurgeId},
    quorum::Electorate,
    saved::{SavedWitness, WitnessState},
};

/// Newest records kept in memory, for tails that are close behind.
pub const WINDOW_MAX: usize = 4_096;
/// Records kept on disk for readers that come back; older ones go once a majority holds them.
pub const LOG_KEEP: u64 = 1_000_000;
/// Records in a log, at most: over it, events are refused.
const LOG_MAX: u64 = 4 * LOG_KEEP;
/// Ids of records kept, to store an event once. Forgetting one only stores it twice.
const IDS_MAX: usize = 1 << 20;

/// How far a witness's log was read: everything up to `seq` of one life of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// Random name of the life of the log.
    pub epoch: u64,
    /// Sequence number of the last record read; 0 before the first.
    pub seq: u64,
    /// Chain value of that record: two logs that agree in it agree in everything before.
    pub chain: u64,
}

/// One event in a witness's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place: 1, 2, 3 ...
    pub seq: u64,
    /// Hash over the record before, the place and the event's id.
    pub chain: u64,
    /// The event.
    pub event: Arc<Event>,
}

/// What a witness says about its log. Only records on disk count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogHead {
    /// Random name of the life of the log.
    pub epoch: u64,
    /// Place of the first record that can be read; 1 if nothing is missing.
    pub base: u64,
    /// Chain value before `base`.
    pub base_chain: u64,
    /// Place of the last record on disk; `base - 1` if there is none.
    pub seq: u64,
    /// Chain value of that record.
    pub chain: u64,
    /// Whether the witness may acknowledge.
    pub voting: bool,
}

/// Where a reader wants to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TailStart {
    /// What it has read.
    pub cursor: Cursor,
    /// Whether it is a witness that has lost its log: it may read also from one that does not vote.
    pub recovering: bool,
}

/// What became of an event that was to be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Append {
    /// It is in the log at this place (perhaps not on disk yet); `new` if it was not before.
    At {
        /// Its place.
        seq: u64,
        /// Whether it was appended just now.
        new: bool,
    },
    /// The log is full: readers that hold records back have not come for too long.
    Full,
}

/// What a reader's start means for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// It can read on from there.
    Follows,
    /// It is too far behind, or speaks of another epoch: it has to look at the head again.
    Behind,
    /// It has read records that this log does not have: the disk was set back to an older state.
    Ahead,
    /// It can read on if the chain value at its cursor is the one of the record on disk; else it is ahead.
    IfChainOnDisk,
}

/// What to send to a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tail {
    /// Nothing new on disk.
    UpToDate,
    /// These records.
    Records(Vec<Arc<Record>>),
    /// The records after this place, from disk.
    OnDisk(u64),
    /// They are gone, or the log began a new life: it has to look at the head again.
    Gone,
}

/// The machine of one witness's log.
#[derive(Debug)]
pub struct Witness {
    state: WitnessState,
    /// Last appended.
    head: (u64, u64),
    /// Last on disk.
    durable: (u64, u64),
    /// Places by event id, of records that may not be on disk yet.
    ids: HashMap<PurgeId, u64>,
    order: VecDeque<(PurgeId, u64)>,
    window: VecDeque<Arc<Record>>,
    recovery: Option<Recovery>,
    electorate: Electorate,
    /// Per other witness: up to which place it has what we have.
    held: Vec<u64>,
    own: usize,
    keep: u64,
    fresh: Vec<Arc<Record>>,
    changed: bool,
}

/// What a witness that may have lost records waits for.
#[derive(Debug, Default)]
struct Recovery {
    /// Other witnesses whose log it has read, voting ones apart.
    voting: BTreeSet<usize>,
    silent: BTreeSet<usize>,
    /// Some source had lost its beginning: then ours is incomplete, too.
    incomplete: bool,
    /// It is new among the witnesses, and waits to have read the old ones.
    waits: bool,
    /// It is new, and has.
    joined: bool,
    /// Enough was read; it votes when everything up to this place is on disk.
    until: Option<u64>,
}

impl Witness {
    /// Takes up a log that was saved. `own` is this node's place among `witnesses` many.
    #[must_use]
    pub fn restored(saved: SavedWitness, own: usize, witnesses: usize, keep: u64) -> Self {
        let last = saved.newest.last().map(|record| (record.seq, record.chain));
        let head = last.unwrap_or((saved.state.base - 1, saved.state.base_chain));
        let mut witness = Self::empty(saved.state, head, own, witnesses, keep);
        for (seq, id) in saved.ids {
            witness.index(id, seq);
        }
        witness.window = saved.newest.into();
        witness.trim_window();
        witness
    }

    /// A log without a past: either the realm is new, or this node lost its disk. It does not vote until it has read
    /// what the others have.
    #[must_use]
    pub fn without_past(epoch: u64, own: usize, witnesses: usize, keep: u64) -> Self {
        let chain = first_chain(epoch);
        let state = WitnessState { epoch, base: 1, base_chain: chain, voting: false };
        let mut witness = Self::empty(state, (0, chain), own, witnesses, keep);
        witness.changed = true;
        witness.recover();
        witness
    }

    /// The same log while the set of witnesses is being changed. One that is only coming does not vote before it has read
    /// the old ones: see [`Witness::handle_handed_over`]. What those had dropped, whoever goes over to the new set has heard
    /// or jumped over before: its log is whole without that.
    #[must_use]
    pub fn under(mut self, electorate: Electorate) -> Self {
        if let Some(recovery) = &mut self.recovery {
            recovery.waits = !electorate.present(self.own);
        }
        self.electorate = electorate;
        self
    }

    fn empty(state: WitnessState, head: (u64, u64), own: usize, witnesses: usize, keep: u64) -> Self {
        let recovery = (!state.voting).then(Recovery::default);
        Self {
            state,
            head,
            durable: head,
            ids: HashMap::new(),
            order: VecDeque::new(),
            window: VecDeque::new(),
            recovery,
            electorate: Electorate::of(witnesses),
            held: vec![0; witnesses],
            own,
            keep,
            fresh: Vec::new(),
            changed: false,
        }
    }

    /// Appends an event, unless it is in the log. It counts only when it is on disk.
    pub fn handle_event(&mut self, event: &Arc<Event>) -> Append {
        if let Some(seq) = self.ids.get(&event.id()) {
            return Append::At { seq: *seq, new: false };
        }
        if self.head.0 - (self.state.base - 1) >= self.keep.saturating_mul(LOG_MAX / LOG_KEEP) {
            return Append::Full;
        }
        let seq = self.head.0 + 1;
        let chain = next_chain(self.head.1, seq, event.id());
        let record = Arc::new(Record { seq, chain, event: Arc::clone(event) });
        self.head = (seq, chain);
        self.index(event.id(), seq);
        self.window.push_back(Arc::clone(&record));
        self.fresh.push(record);
        Append::At { seq, new: true }
    }

    /// Everything up to `seq` is on disk.
    pub fn handle_durable(&mut self, seq: u64) {
        if seq > self.durable.0 {
            let chain = if seq == self.head.0 { Some(self.head.1) } else { self.chain_at(seq) };
            if let Some(chain) = chain {
                self.durable = (seq, chain);
            }
        }
        self.trim_window();
        let recovered = self.recovery.as_ref().and_then(|recovery| recovery.until);
        if recovered.is_some_and(|until| self.durable.0 >= until) {
            self.vote();
        }
    }

    /// Everything that the old set alone agreed on was read and appended here.
    pub fn handle_handed_over(&mut self) {
        if let Some(recovery) = &mut self.recovery
            && recovery.until.is_none()
            && std::mem::take(&mut recovery.waits)
        {
            recovery.joined = true;
            self.recover_further();
        }
    }

    /// Everything that another witness last said to have on disk was read from it and appended here.
    pub fn handle_confirmed(&mut self, witness: usize, voting: bool, compacted: bool) {
        let own = self.own;
        let Some(recovery) = &mut self.recovery else { return };
        if witness == own || recovery.until.is_some() {
            return;
        }
        let heard = if voting { &mut recovery.voting } else { &mut recovery.silent };
        heard.insert(witness);
        recovery.incomplete |= compacted;
        self.recover_further();
    }

    /// What a reader's cursor says about this log.
    #[must_use]
    pub fn reader(&self, cursor: &Cursor) -> Reader {
        if cursor.epoch != self.state.epoch || cursor.seq + 1 < self.state.base {
            return Reader::Behind;
        }
        if cursor.seq > self.durable.0 {
            return Reader::Ahead;
        }
        match self.chain_at(cursor.seq) {
            Some(chain) if chain == cursor.chain => {}
            Some(_) => return Reader::Ahead,
            None => return Reader::IfChainOnDisk,
        }
        Reader::Follows
    }

    /// Another witness has on disk what is here up to `seq`.
    pub fn handle_held(&mut self, witness: usize, seq: u64) {
        if let Some(held) = self.held.get_mut(witness) {
            *held = seq.min(self.durable.0).max(*held);
        }
    }

    /// The disk was set back: records that others have read are gone. The log goes on under a new name, and does not
    /// vote until it has read the others again.
    pub fn handle_set_back(&mut self, epoch: u64) {
        self.state.epoch = epoch;
        self.state.voting = false;
        self.changed = true;
        self.held.fill(0);
        self.recover();
    }

    /// The place up to which the log may be dropped: older than what it has to keep, and held by a majority. The
    /// caller reads that record's chain value from disk and gives it to [`Witness::handle_compact`].
    #[must_use]
    pub fn poll_compact(&self) -> Option<u64> {
        let held =
            |witness: usize| if witness == self.own { Some(self.durable.0) } else { self.held.get(witness).copied() };
        let everywhere = self.electorate.agreed(held)?;
        let last = self.durable.0.saturating_sub(self.keep).min(everywhere);
        // in steps, so that it is not done for every record
        (last >= self.state.base + self.keep / 16).then_some(last)
    }

    /// Drops everything up to `seq`, whose chain value is `chain`.
    pub fn handle_compact(&mut self, seq: u64, chain: u64) {
        if seq >= self.state.base && seq <= self.durable.0 {
            self.state.base = seq + 1;
            self.state.base_chain = chain;
            self.changed = true;
        }
    }

    /// What it says to readers: its borders, as they are on disk.
    #[must_use]
    pub fn head(&self) -> LogHead {
        let WitnessState { epoch, base, base_chain, voting } = self.state;
        let (seq, chain) = self.durable;
        LogHead { epoch, base, base_chain, seq, chain, voting }
    }

    /// What was appended last, on disk or not.
    #[must_use]
    pub fn appended(&self) -> Cursor {
        Cursor { epoch: self.state.epoch, seq: self.head.0, chain: self.head.1 }
    }

    /// Whether it may acknowledge.
    #[must_use]
    pub fn voting(&self) -> bool {
        self.state.voting
    }

    /// Whether it waits to read the others' logs.
    #[must_use]
    pub fn recovering(&self) -> bool {
        self.recovery.is_some()
    }

    /// What to send to a reader that has read up to `after` under `epoch`. Only what is on disk, at most `max`.
    #[must_use]
    pub fn tail(&self, epoch: u64, after: u64, max: usize) -> Tail {
        if epoch != self.state.epoch || after + 1 < self.state.base {
            return Tail::Gone;
        }
        if after >= self.durable.0 {
            return Tail::UpToDate;
        }
        let first = self.window.front().map_or(u64::MAX, |record| record.seq);
        if after + 1 < first {
            return Tail::OnDisk(after);
        }
        let skip = usize::try_from(after + 1 - first).unwrap_or(usize::MAX);
        let durable = self.window.iter().skip(skip).take_while(|record| record.seq <= self.durable.0);
        Tail::Records(durable.take(max).cloned().collect())
    }

    /// New records and borders to be written.
    pub fn poll_fresh(&mut self) -> (Vec<Arc<Record>>, Option<WitnessState>) {
        let state = std::mem::take(&mut self.changed).then_some(self.state);
        (std::mem::take(&mut self.fresh), state)
    }

    fn recover(&mut self) {
        let waits = !self.electorate.present(self.own);
        self.recovery = Some(Recovery { waits, ..Recovery::default() });
        // a witness that is alone has nobody to ask
        self.recover_further();
    }

    /// Enough others: so many voting ones that every majority without this node is met, or simply all of them (a new
    /// realm, or new witnesses: who of them does not vote has never voted).
    fn recover_further(&mut self) {
        let (own, head) = (self.own, self.head.0);
        let Some(recovery) = &mut self.recovery else { return };
        let Recovery { voting, silent, .. } = &*recovery;
        let met = self.electorate.recovered(own, |witness| voting.contains(&witness));
        let all = self.electorate.all_others(own, |witness| voting.contains(&witness) || silent.contains(&witness));
        if (met || all) && !recovery.waits {
            recovery.until = Some(head);
            self.handle_durable(self.durable.0);
        }
    }

    fn vote(&mut self) {
        let incomplete = self.recovery.take().is_some_and(|recovery| recovery.incomplete && !recovery.joined);
        self.state.voting = true;
        self.changed = true;
        if incomplete {
            // what the sources had dropped is missing here, too: whoever has not read it elsewhere has to jump
            self.state.base = self.durable.0 + 1;
            self.state.base_chain = self.durable.1;
        }
    }

    fn chain_at(&self, seq: u64) -> Option<u64> {
        if seq + 1 == self.state.base {
            return Some(self.state.base_chain);
        }
        let first = self.window.front()?.seq;
        let index = usize::try_from(seq.checked_sub(first)?).ok()?;
        self.window.get(index).map(|record| record.chain)
    }

    fn index(&mut self, id: PurgeId, seq: u64) {
        self.ids.insert(id, seq);
        self.order.push_back((id, seq));
        if self.order.len() > IDS_MAX
            && let Some((oldest, seq)) = self.order.pop_front()
            && self.ids.get(&oldest) == Some(&seq)
        {
            self.ids.remove(&oldest);
        }
    }

    /// Records that are not on disk yet stay, however many they are.
    fn trim_window(&mut self) {
        while self.window.len() > WINDOW_MAX && self.window.front().is_some_and(|record| record.seq <= self.durable.0) {
            self.window.pop_front();
        }
    }
}

/// Whether a record comes right after a cursor, in the same log.
#[must_use]
pub(super) fn follows(cursor: &Cursor, record: &Record) -> bool {
    record.seq == cursor.seq + 1 && record.chain == next_chain(cursor.chain, record.seq, record.event.id())
}

fn next_chain(before: u64, seq: u64, id: PurgeId) -> u64 {
    let mut hasher = SipHasher24::new_with_keys(before, seq);
    hasher.write(&id.0.to_be_bytes());
    hasher.finish()
}

fn first_chain(epoch: u64) -> u64 {
    next_chain(0, epoch, PurgeId(0))
}

mod fork;
#[cfg(test)]
mod tests;
