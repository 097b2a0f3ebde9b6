//! Local order: every event that a node hears of gets its next position, once.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Release},
    },
};

use region_config::{NodeId, SiteId};

use super::{
    covered::{HAVE_IDS_MAX, HAVE_IDS_MS, Have, RING_MAX, Ring},
    event::{Event, Mode, PurgeId, PurgeKey},
    guard::{Gate, SiteFloors, SiteGuard},
    keys::RealmSecret,
    members::WITNESSES_MAX,
    position::Position,
    saved::{Delta, Saved},
    witness::{Cursor, LogHead, Record, TailStart, follows},
};

/// Applied events that are known by their ids. Forgetting one only purges too much when it comes again.
pub const UIDS_MAX: usize = 1 << 20;

/// Purged keys that the guards of a realm remember together (about 32 bytes each); over it, the largest guard gives
/// up its older half and raises its floor.
pub const MARKS_MAX: usize = 4 << 20;

/// The newest events of a site that are known by name: more than a [`Have`] names, since nodes are not equally far.
const NEWEST_MAX: usize = 4 * HAVE_IDS_MAX;

/// Sizes of an [`Apply`].
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Applied events that are known by their ids.
    pub known: usize,
    /// Purged keys remembered.
    pub marks: usize,
    /// Applied events kept for translation.
    pub ring: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { known: UIDS_MAX, marks: MARKS_MAX, ring: RING_MAX }
    }
}

/// Who a realm's machine works for, and with what.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The realm's secret on this node.
    pub secret: RealmSecret,
    /// This boot: larger than every one before.
    pub boot: u32,
    /// Random name of this run.
    pub run: u64,
    /// The realm's witnesses, in the order of the config; at most [`WITNESSES_MAX`].
    pub witnesses: Vec<NodeId>,
    /// Which of them is this node.
    pub own: Option<usize>,
    /// Sizes.
    pub limits: Limits,
}

/// How an event reached this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// From an application or from the node that took it: perhaps in no log yet.
    Direct,
    /// It stands at `seq` in a witness's log.
    Log {
        /// Index of the witness.
        witness: usize,
        /// Where.
        seq: u64,
    },
}

/// What became of a record that a tail brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It was consumed; `new` if the event had not been applied before.
    Consumed {
        /// Whether the event is new to this node.
        new: bool,
    },
    /// It does not follow what was heard before: the tail has to be opened anew.
    Broken,
}

/// A site, as this node knows it.
#[derive(Debug)]
struct Site {
    guard: Arc<SiteGuard>,
    /// Its newest events with the time of their application.
    newest: VecDeque<(u64, PurgeId)>,
}

/// The machine that puts events into the node's own order and answers for it.
#[derive(Debug)]
pub struct Apply {
    terms: Terms,
    start: Position,
    position: Position,
    /// `position`, as fills read it.
    published: Arc<AtomicU64>,
    floor: Position,
    /// What was stored before it is softly purged, whatever its site.
    floor_soft: Position,
    gate: Arc<Gate>,
    sites: BTreeMap<SiteId, Site>,
    marks: usize,
    /// The newest events about all of the realm.
    newest: VecDeque<(u64, PurgeId)>,
    known: Known,
    unseen: BTreeMap<PurgeId, Arc<Event>>,
    ring: Ring,
    cursors: Vec<Option<Cursor>>,
    /// Where this node, when it was no witness, had read other logs to, which it now reads again to keep what they have.
    before: Vec<Option<Cursor>>,
    /// Whether what is stored here may be from before this run.
    has_past: bool,
    /// Witnesses that are only coming: nodes that have not heard of the change yet do not read them.
    coming: Vec<usize>,
    /// What each witness last said about its log, in this run.
    heads: Vec<Option<LogHead>>,
    delta: Delta,
}

impl Apply {
    /// Takes up what was saved, in a new boot. `own` is the border of the node's own log, if it is a witness that may
    /// vote. Without anything saved, everything that was stored before is stale.
    #[must_use]
    pub fn new(terms: Terms, saved: Saved, own: Option<Cursor>) -> Self {
        let start = Position::first(terms.boot);
        let gate = Arc::new(Gate::closed_below(start));
        let places = |saved: Vec<(NodeId, Cursor)>| {
            let mut cursors: Vec<Option<Cursor>> = vec![None; terms.witnesses.len().min(WITNESSES_MAX)];
            for (name, cursor) in saved {
                if let Some(index) = terms.witnesses.iter().position(|witness| *witness == name) {
                    cursors[index] = Some(cursor);
                }
            }
            cursors
        };
        let (mut cursors, before) = (places(saved.cursors), places(saved.cursors_before));
        if let Some(index) = terms.own {
            cursors[index] = own;
        }
        let base = cursors.iter().map(|cursor| cursor.map(|cursor| (cursor.epoch, cursor.seq))).collect();
        let mut apply = Self {
            ring: Ring::new(start.next(), base, terms.limits.ring),
            known: Known::new(terms.limits.known),
            heads: vec![None; cursors.len()],
            terms,
            start,
            position: start,
            published: Arc::new(AtomicU64::new(start.0)),
            floor: saved.floor,
            floor_soft: saved.floor_soft,
            gate,
            sites: BTreeMap::new(),
            marks: 0,
            newest: VecDeque::new(),
            unseen: BTreeMap::new(),
            cursors,
            before,
            has_past: true,
            coming: Vec::new(),
            delta: Delta::default(),
        };
        for (position, request, id) in saved.known {
            apply.known.insert(position, request, id);
        }
        for (site, floors) in saved.floors {
            apply.restore_site(&site, floors);
        }
        for (site, key, marks) in saved.marks {
            apply.guard(&site).restore(key, marks);
            apply.marks += 1;
        }
        apply.again(saved.unseen, 0);
        apply
    }

    /// Those of the witnesses are only coming. What was applied before this run is in no log of theirs that was read here, so
    /// nobody has to have read them to have heard it.
    pub fn handle_coming(&mut self, coming: Vec<usize>) {
        self.coming = coming;
    }

    /// Whether this is a node without a past: whatever it finds stored is stale.
    pub fn handle_no_past(&mut self) {
        self.has_past = false;
        self.raise_floor();
        self.ring.jump(self.position.next(), vec![None; self.cursors.len()]);
    }

    /// The wall clock was set back, so that what is stored looks younger than it is: all of it counts as softly purged. Only
    /// here; nobody else hears of it, and what other nodes answer is as good as before.
    pub fn handle_clock_set_back(&mut self) {
        let position = self.position.next();
        self.raise(Mode::Soft, position);
        self.ring.push_local();
        self.advance(position);
    }

    /// Applies an event, unless it is known. Returns whether it is new.
    pub fn handle_event(&mut self, event: &Arc<Event>, source: Source, now_ms: u64) -> bool {
        let known = self.known.position(event);
        let position = known.unwrap_or_else(|| self.apply(event, now_ms));
        match source {
            Source::Direct if known.is_none() => self.keep_unseen(event),
            Source::Direct => {}
            Source::Log { witness, seq } => {
                self.ring.note(position, witness, seq);
                if self.unseen.remove(&event.id()).is_some() {
                    self.delta.unseen.insert(event.id(), None);
                }
            }
        }
        known.is_none()
    }

    /// What a witness says about its log when a tail is opened, and from time to time. Returns where to read on, or
    /// none if its log must not be read now: it may not vote, and this node is no witness that recovers.
    ///
    /// What cannot be read any more is jumped over: the floor rises, and everything stored so far is stale.
    pub fn handle_head(&mut self, witness: usize, head: LogHead, recovering: bool, now_ms: u64) -> Option<TailStart> {
        self.heads[witness] = Some(head);
        if !head.voting && !recovering {
            return None;
        }
        match self.cursors[witness] {
            Some(cursor) if cursor.epoch == head.epoch => {
                if cursor.seq + 1 < head.base {
                    self.jump(witness, &head, recovering, now_ms);
                }
            }
            Some(_) if head.base == 1 => {
                self.ring.forget(witness);
                self.set_cursor(witness, Cursor { epoch: head.epoch, seq: 0, chain: head.base_chain });
            }
            None if self.reads_all(witness, &head, recovering) => {
                self.set_cursor(witness, Cursor { epoch: head.epoch, seq: head.base - 1, chain: head.base_chain });
            }
            _ => self.jump(witness, &head, recovering, now_ms),
        }
        if head.voting && !self.coming.contains(&witness) {
            self.ring.rebase(witness, head.epoch, head.seq);
        }
        self.cursors[witness].map(|cursor| TailStart { cursor, recovering })
    }

    /// Whether a log that was never read, or is read again, is read as a whole from its first record on, so that nothing has
    /// to be jumped over: that of a new witness, or one that was read beyond its first record before. A node without a past
    /// has nothing to lose by a jump, and need not read it all.
    fn reads_all(&self, witness: usize, head: &LogHead, recovering: bool) -> bool {
        let whole = head.base == 1 && self.has_past;
        let again = self.before.get(witness).copied().flatten();
        whole || (recovering && again.is_some_and(|it| it.epoch == head.epoch && it.seq + 1 >= head.base))
    }

    /// A record that the tail of a witness brought.
    pub fn handle_record(&mut self, witness: usize, epoch: u64, record: &Record, now_ms: u64) -> Heard {
        let Some(cursor) = self.cursors[witness] else { return Heard::Broken };
        if cursor.epoch != epoch || !follows(&cursor, record) {
            return Heard::Broken;
        }
        let source = Source::Log { witness, seq: record.seq };
        let new = self.handle_event(&record.event, source, now_ms);
        self.set_cursor(witness, Cursor { epoch, seq: record.seq, chain: record.chain });
        Heard::Consumed { new }
    }

    /// What a stream, whose places have holes, holds at `read`: these events, everything before being read. False if that
    /// is not after what was read, or of another life of the stream.
    pub fn handle_passage(&mut self, witness: usize, read: Cursor, events: &[Arc<Event>], now_ms: u64) -> bool {
        if !self.cursors[witness].is_some_and(|cursor| cursor.epoch == read.epoch && cursor.seq < read.seq) {
            return false;
        }
        for event in events {
            self.handle_event(event, Source::Log { witness, seq: read.seq }, now_ms);
        }
        self.set_cursor(witness, read);
        true
    }

    /// The own log grew to `cursor`, every record of it being applied. Not saved: the log itself is.
    pub fn handle_own_log(&mut self, cursor: Cursor) {
        if let Some(own) = self.terms.own {
            self.cursors[own] = Some(cursor);
        }
    }

    /// The own log began a new epoch, or may vote from now on with everything acknowledged before in it.
    pub fn handle_own_epoch(&mut self, cursor: Cursor, voting: bool) {
        let Some(own) = self.terms.own else { return };
        if self.cursors[own].is_some_and(|old| old.epoch != cursor.epoch) {
            self.ring.forget(own);
        }
        self.cursors[own] = Some(cursor);
        if voting && !self.coming.contains(&own) {
            self.ring.rebase(own, cursor.epoch, cursor.seq);
        }
    }

    /// Whether this node has read what `witness` last said about its log; if so, whether that one votes.
    #[must_use]
    pub fn confirmed(&self, witness: usize) -> Option<bool> {
        let head = self.heads.get(witness).copied().flatten()?;
        let cursor = self.cursors[witness]?;
        (cursor.epoch == head.epoch && cursor.seq >= head.seq).then_some(head.voting)
    }

    /// What the witnesses said so far counts no more: they have to say it again.
    pub fn handle_doubt(&mut self) {
        self.heads.fill(None);
    }

    /// How far a witness's log was read.
    #[must_use]
    pub fn cursor(&self, witness: usize) -> Option<Cursor> {
        self.cursors.get(witness).copied().flatten()
    }

    /// Whether this node keeps marks for a site.
    #[must_use]
    pub fn knows(&self, site: &SiteId) -> bool {
        self.sites.contains_key(site)
    }

    /// How many sites this node keeps marks for.
    #[must_use]
    pub fn sites(&self) -> usize {
        self.sites.len()
    }

    /// Whether any witness this node reads has lost a part of its log to compaction.
    #[must_use]
    pub fn compacted(&self, witness: usize) -> bool {
        self.heads.get(witness).copied().flatten().is_some_and(|head| head.base > 1)
    }

    /// What was stored before this boot may be judged by the marks from now on.
    pub fn open_gate(&self) {
        self.gate.open();
    }

    /// What this node has heard, for an answer about `site`. To be taken *before* the cache is asked.
    #[must_use]
    pub fn have(&self, site: &SiteId, now_ms: u64) -> Have {
        let cursors = self.terms.witnesses.iter().zip(&self.cursors);
        let cursors =
            cursors.filter_map(|(name, cursor)| cursor.map(|cursor| (name.clone(), cursor.epoch, cursor.seq)));
        let young = |(at_ms, _): &&(u64, PurgeId)| now_ms.saturating_sub(*at_ms) <= HAVE_IDS_MS;
        let of_site = self.sites.get(site).map(|site| site.newest.iter().rev()).into_iter().flatten();
        let ids = of_site.take_while(young).chain(self.newest.iter().rev().take_while(young));
        let ids = ids.map(|(_, id)| *id).take(HAVE_IDS_MAX).collect();
        Have { run: self.terms.run, position: self.position, cursors: cursors.collect(), ids }
    }

    /// How much of our order, at most up to `at_start`, a peer's answer about `site` reflects.
    pub fn covered(&mut self, peer: &NodeId, site: &SiteId, have: &Have, at_start: Position) -> Position {
        let epochs: Vec<Option<u64>> = self.cursors.iter().map(|cursor| cursor.map(|cursor| cursor.epoch)).collect();
        self.ring.covered(peer, site, have, &self.terms.witnesses, &epochs, at_start)
    }

    /// Whether a peer has heard of events about a site that this node has not applied. It may say so without need when very
    /// many came in the last seconds.
    #[must_use]
    pub fn behind(&self, site: &SiteId, have: &Have) -> bool {
        let of_site = self.sites.get(site).map(|site| &site.newest).into_iter().flatten();
        let known: Vec<PurgeId> = of_site.chain(&self.newest).map(|(_, id)| *id).collect();
        have.ids.iter().any(|id| !known.contains(id))
    }

    /// How many purged keys are remembered.
    #[must_use]
    pub fn marks(&self) -> usize {
        self.marks
    }

    /// The id under which this request is already known, if it is: the same as the event's own, or a conflict.
    #[must_use]
    pub fn request(&self, event: &Event) -> Option<PurgeId> {
        self.known.ids.get(&event.request()).map(|(_, id)| *id)
    }

    /// Whether an event was heard of: by the hash of its request, or since a witness's log was read up to one of these
    /// places (witness, epoch, record) where it is.
    #[must_use]
    pub fn heard(&self, request: u128, places: &[(usize, u64, u64)]) -> bool {
        let read = |(witness, epoch, seq): &(usize, u64, u64)| {
            self.cursor(*witness).is_some_and(|cursor| cursor.epoch == *epoch && cursor.seq >= *seq)
        };
        self.known.ids.contains_key(&request) || places.iter().any(read)
    }

    /// Where an event was applied, if that is known.
    #[must_use]
    pub fn applied_at(&self, event: &Event) -> Option<Position> {
        self.known.position(event)
    }

    /// The node's position.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// The node's position, as fills read it.
    #[must_use]
    pub fn published(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.published)
    }

    /// The guard of a site; made if there is none yet.
    pub fn guard(&mut self, site: &SiteId) -> Arc<SiteGuard> {
        if let Some(site) = self.sites.get(site) {
            return Arc::clone(&site.guard);
        }
        self.restore_site(site, SiteFloors { hard: self.floor, soft: self.floor_soft })
    }

    /// What changed since this was last asked.
    pub fn poll_delta(&mut self) -> Delta {
        std::mem::take(&mut self.delta)
    }

    fn restore_site(&mut self, site: &SiteId, floors: SiteFloors) -> Arc<SiteGuard> {
        let floors = SiteFloors { hard: floors.hard.max(self.floor), soft: floors.soft.max(self.floor_soft) };
        let start = self.start.max(self.floor).max(self.floor_soft);
        let guard = Arc::new(SiteGuard::restored(self.terms.secret, site, start, floors, Arc::clone(&self.gate)));
        self.sites.insert(site.clone(), Site { guard: Arc::clone(&guard), newest: VecDeque::new() });
        guard
    }

    /// Gives an event the next position. The guard tells hits before the position tells fills: a fill that has seen
    /// the new position is stamped with it, and whatever is older is already stale.
    fn apply(&mut self, event: &Arc<Event>, now_ms: u64) -> Position {
        let position = self.position.next();
        match event.site() {
            Some(site) => self.mark(event, site, position),
            None => self.raise(event.mode(), position),
        }
        self.ring.push(event.site().cloned(), event.id());
        let newest = match event.site() {
            Some(site) => self.sites.get_mut(site).map(|site| &mut site.newest),
            None => Some(&mut self.newest),
        };
        if let Some(newest) = newest {
            while newest.len() >= NEWEST_MAX {
                newest.pop_front();
            }
            newest.push_back((now_ms, event.id()));
        }
        self.delta.known.push((position, event.request(), event.id()));
        if let Some(forgotten) = self.known.insert(position, event.request(), event.id()) {
            self.delta.forget = Some(forgotten.next());
        }
        self.advance(position);
        self.shed();
        position
    }

    /// Tells the guard of a site.
    fn mark(&mut self, event: &Event, site: &SiteId, position: Position) {
        let guard = self.guard(site);
        let hashes: Vec<u64> = event.keys().iter().filter_map(|key| guard.hashes().hash(key)).collect();
        let tagged = event.keys().iter().any(|key| matches!(key, PurgeKey::Tag(_)));
        self.marks += guard.mark(position, event.mode(), &hashes, tagged, |key, marks| {
            self.delta.marks.push((site.clone(), key, marks));
        });
        if event.keys().contains(&PurgeKey::Site) {
            self.marks -= guard.raise(event.mode(), position);
            self.delta.floors.insert(site.clone(), guard.floors());
        }
        guard.publish(position);
    }

    /// Everything of the realm so far is stale, or softly so.
    fn raise(&mut self, mode: Mode, position: Position) {
        for site in self.sites.values() {
            self.marks -= site.guard.raise(mode, position);
            site.guard.publish(position);
        }
        match mode {
            Mode::Soft => {
                self.floor_soft = position;
                self.delta.floor_soft = Some(position);
            }
            Mode::Hard => {
                self.floor = position;
                self.delta.floor = Some(position);
                self.delta.marks.clear();
            }
        }
    }

    /// Keeps the marks under their limit.
    fn shed(&mut self) {
        while self.marks > self.terms.limits.marks {
            let Some((name, site)) = self.sites.iter().max_by_key(|(_, site)| site.guard.marks()) else { return };
            let gone = site.guard.shed();
            self.delta.floors.insert(name.clone(), site.guard.floors());
            self.marks -= gone;
            if gone == 0 {
                return;
            }
        }
    }

    fn keep_unseen(&mut self, event: &Arc<Event>) {
        self.unseen.insert(event.id(), Arc::clone(event));
        self.delta.unseen.insert(event.id(), Some(Arc::clone(event)));
    }

    /// Passes over a part of a witness's log that cannot be read any more, or that a new node need not read.
    fn jump(&mut self, witness: usize, head: &LogHead, recovering: bool, now_ms: u64) {
        let cursor = if recovering {
            Cursor { epoch: head.epoch, seq: head.base - 1, chain: head.base_chain }
        } else {
            Cursor { epoch: head.epoch, seq: head.seq, chain: head.chain }
        };
        self.raise_floor();
        self.set_cursor(witness, cursor);
        let heard = self.cursors.iter().map(|cursor| cursor.map(|cursor| (cursor.epoch, cursor.seq)));
        self.ring.jump(self.position.next(), heard.collect());
        let unseen = std::mem::take(&mut self.unseen).into_values().collect();
        self.again(unseen, now_ms);
    }

    /// Everything so far is stale.
    fn raise_floor(&mut self) {
        let position = self.position.next();
        self.raise(Mode::Hard, position);
        self.advance(position);
    }

    /// Applies events again: they are in no log that we heard, so no cursor speaks for them, and what covers them
    /// in a peer's answer is their place in the ring alone.
    fn again(&mut self, events: Vec<Arc<Event>>, now_ms: u64) {
        for event in events {
            self.apply(&event, now_ms);
            self.keep_unseen(&event);
        }
    }

    fn set_cursor(&mut self, witness: usize, cursor: Cursor) {
        self.cursors[witness] = Some(cursor);
        if let Some(name) = self.terms.witnesses.get(witness) {
            self.delta.cursors.insert(name.clone(), cursor);
        }
    }

    fn advance(&mut self, position: Position) {
        self.position = position;
        self.published.store(position.0, Release);
    }
}

/// The ids of the last applied events.
#[derive(Debug)]
struct Known {
    max: usize,
    ids: HashMap<u128, (Position, PurgeId)>,
    order: VecDeque<(Position, u128)>,
}

impl Known {
    fn new(max: usize) -> Self {
        Self { max, ids: HashMap::new(), order: VecDeque::new() }
    }

    fn position(&self, event: &Event) -> Option<Position> {
        let (position, id) = self.ids.get(&event.request())?;
        (*id == event.id()).then_some(*position)
    }

    /// Returns the position of the event that was forgotten for it.
    fn insert(&mut self, position: Position, request: u128, id: PurgeId) -> Option<Position> {
        self.ids.insert(request, (position, id));
        self.order.push_back((position, request));
        if self.order.len() <= self.max {
            return None;
        }
        let (oldest, request) = self.order.pop_front()?;
        if self.ids.get(&request).is_some_and(|(position, _)| *position == oldest) {
            self.ids.remove(&request);
        }
        Some(oldest)
    }
}

mod fork;
#[cfg(test)]
mod tests;
