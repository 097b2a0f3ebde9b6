//! Translation between two nodes' orders: what of *our* order had another node heard when it answered?

use std::collections::{HashMap, VecDeque};

use region_config::{NodeId, SiteId};

use super::{event::PurgeId, members::WITNESSES_MAX, position::Position};

/// Applied events that are kept for translation.
pub const RING_MAX: usize = 65_536;
/// Ids that a [`Have`] names, at most.
pub const HAVE_IDS_MAX: usize = 64;
/// How long a [`Have`] names an event by its id; after that the cursors speak for it.
pub(super) const HAVE_IDS_MS: u64 = 10_000;
/// Pairs of peer and site whose last translation is remembered.
const MEMO_MAX: usize = 65_536;

/// What a node had heard when it looked into its cache for a peer. It goes with the answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Have {
    /// Random name of the sender's present run: what it applied may be forgotten with the run.
    pub run: u64,
    /// The sender's own position. It means nothing in our order, but the answers of one run are ordered by it.
    pub position: Position,
    /// How far the sender had heard each witness: epoch and sequence number.
    pub cursors: Vec<(NodeId, u64, u64)>,
    /// The site's newest events that the sender had applied.
    pub ids: Vec<PurgeId>,
}

/// An applied event, as translation needs it.
#[derive(Debug, Clone)]
struct Entry {
    /// None if it is about all of the realm.
    site: Option<SiteId>,
    id: PurgeId,
    /// Its place in each witness's log, where known; 0 is not known.
    seqs: [u64; WITNESSES_MAX],
    /// It is no event but something of this node alone, which no answer of a peer lacks.
    local: bool,
}

/// The applied events of this boot, in local order, without holes: what is older was restored, jumped over or has
/// run out of the ring, and counts as one entry, `base`, which is covered by who has heard every witness at least as
/// far.
#[derive(Debug, Clone)]
pub(super) struct Ring {
    /// Per witness: the epoch and sequence number that cover everything before the first entry.
    base: Vec<Option<(u64, u64)>>,
    /// Something before the first entry is in no log that we know of: nobody can cover it.
    blind: bool,
    /// Position of the first entry.
    first: Position,
    entries: VecDeque<Entry>,
    max: usize,
    /// Per peer and site: what the peer covered of our order, and when.
    memo: HashMap<(NodeId, SiteId), Memo>,
}

/// At `theirs`, one of its positions, a peer covered our order up to `ours`.
#[derive(Debug, Clone, Copy)]
struct Memo {
    run: u64,
    theirs: Position,
    ours: Position,
}

impl Ring {
    pub(super) fn new(first: Position, base: Vec<Option<(u64, u64)>>, max: usize) -> Self {
        Self { base, blind: false, first, entries: VecDeque::new(), max, memo: HashMap::new() }
    }

    /// Everything so far is replaced by a jump. `first` is the position of the next entry.
    pub(super) fn jump(&mut self, first: Position, base: Vec<Option<(u64, u64)>>) {
        *self = Self::new(first, base, self.max);
    }

    /// The next event in local order.
    pub(super) fn push(&mut self, site: Option<SiteId>, id: PurgeId) {
        if self.entries.len() == self.max {
            self.retire();
        }
        self.entries.push_back(Entry { site, id, seqs: [0; WITNESSES_MAX], local: false });
    }

    /// The next position is of this node alone.
    pub(super) fn push_local(&mut self) {
        self.push(None, PurgeId(0));
        if let Some(entry) = self.entries.back_mut() {
            entry.local = true;
        }
    }

    /// Moves the oldest entry into the base.
    fn retire(&mut self) {
        let Some(oldest) = self.entries.pop_front() else { return };
        self.first = self.first.next();
        self.blind |= !oldest.local && !self.base.iter().zip(oldest.seqs).any(|(base, seq)| base.is_some() && seq != 0);
        for (base, seq) in self.base.iter_mut().zip(oldest.seqs) {
            if let Some((_, base)) = base {
                *base = seq.max(*base);
            }
        }
    }

    /// The event at `position` stands at `seq` in a witness's log, under the epoch that we read. True if it is the
    /// first log that it was seen in.
    pub(super) fn note(&mut self, position: Position, witness: usize, seq: u64) -> bool {
        let index = position.0.checked_sub(self.first.0).and_then(|index| usize::try_from(index).ok());
        let Some(entry) = index.and_then(|index| self.entries.get_mut(index)) else { return false };
        let first = entry.seqs.iter().all(|seq| *seq == 0);
        entry.seqs[witness] = seq;
        first
    }

    /// A witness began a new log: places in the old one say nothing any more. Nobody covers the base until
    /// [`Ring::rebase`].
    pub(super) fn forget(&mut self, witness: usize) {
        for entry in &mut self.entries {
            entry.seqs[witness] = 0;
        }
    }

    /// A witness votes under `epoch`: its log up to `seq` holds everything acknowledged that its old one held.
    pub(super) fn rebase(&mut self, witness: usize, epoch: u64, seq: u64) {
        if self.base[witness].is_none_or(|(old, _)| old != epoch) {
            self.base[witness] = Some((epoch, seq));
        }
    }

    /// How much of our order up to `until` a peer had heard, as far as it touches `site`.
    ///
    /// What a peer covered at one of its positions it covers at every later one, so the walk goes on from there. An
    /// answer that was *older* than the last one (it may well arrive later) starts from the beginning.
    pub(super) fn covered(
        &mut self,
        peer: &NodeId,
        site: &SiteId,
        have: &Have,
        witnesses: &[NodeId],
        epochs: &[Option<u64>],
        until: Position,
    ) -> Position {
        let mut heard = [None; WITNESSES_MAX];
        for (slot, name) in heard.iter_mut().zip(witnesses) {
            let cursor = have.cursors.iter().find(|(witness, ..)| witness == name);
            *slot = cursor.map(|(_, epoch, seq)| (*epoch, *seq));
        }
        let base = self.base.iter().zip(&heard).all(|(base, heard)| match (base, heard) {
            (None, _) => true,
            (Some(base), Some(heard)) => base.0 == heard.0 && base.1 <= heard.1,
            (Some(_), None) => false,
        });
        if self.blind || !base {
            return Position::ZERO;
        }
        let seqs = std::array::from_fn::<u64, WITNESSES_MAX, _>(|w| match (heard[w], epochs.get(w)) {
            (Some((epoch, seq)), Some(Some(ours))) if epoch == *ours => seq,
            _ => 0,
        });
        let key = (peer.clone(), site.clone());
        let from = match self.memo.get(&key) {
            Some(memo) if memo.run == have.run && memo.theirs <= have.position => memo.ours,
            _ => Position::ZERO,
        };
        let covered = self.walk(from, until, |entry| {
            let logged = entry.seqs.iter().zip(seqs).any(|(seq, heard)| *seq != 0 && *seq <= heard);
            entry.local
                || entry.site.as_ref().is_some_and(|other| other != site)
                || logged
                || have.ids.contains(&entry.id)
        });
        self.remember(key, Memo { run: have.run, theirs: have.position, ours: covered });
        covered
    }

    /// The position before the first entry after `from` that is not covered, at most `until`.
    fn walk(&self, from: Position, until: Position, covered: impl Fn(&Entry) -> bool) -> Position {
        let skip = usize::try_from(from.next().0.saturating_sub(self.first.0)).unwrap_or(usize::MAX);
        let mut position = Position(self.first.0.saturating_add(skip as u64));
        for entry in self.entries.iter().skip(skip) {
            if position > until || !covered(entry) {
                return position.before().min(until);
            }
            position = position.next();
        }
        until
    }

    fn remember(&mut self, key: (NodeId, SiteId), new: Memo) {
        if self.memo.len() >= MEMO_MAX && !self.memo.contains_key(&key) {
            self.memo.clear();
        }
        let last = self.memo.entry(key).or_insert(new);
        if last.run != new.run || (last.theirs <= new.theirs && last.ours <= new.ours) {
            *last = new;
        }
    }
}

mod fork;
