//! What a hit asks: was anything that this object falls under purged since its fill began?

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{
            AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
            fence,
        },
    },
};

use region_config::SiteId;

use self::filter::{Filter, Turn};
use super::{
    event::Mode,
    keys::{RealmSecret, SiteKeys, UNTAGGED, pack, unpack},
    position::Position,
};

/// How an object stands towards the purges that this node applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Nothing it falls under was purged since its fill began.
    Valid,
    /// Softly purged: stale, whatever its lifetime says.
    Soft,
    /// Purged, or older than what this node can vouch for: never served again.
    Stale,
}

/// The positions of the last purges of one key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Marks {
    /// Of the last hard one.
    pub hard: Position,
    /// Of the last soft one.
    pub soft: Position,
}

impl Marks {
    fn newest(self) -> u64 {
        self.hard.0.max(self.soft.0)
    }

    fn raise(&mut self, mode: Mode, position: Position) {
        let mark = match mode {
            Mode::Hard => &mut self.hard,
            Mode::Soft => &mut self.soft,
        };
        *mark = position.max(*mark);
    }

    fn since(self, since: u64) -> Standing {
        if self.hard.0 > since {
            Standing::Stale
        } else if self.soft.0 > since {
            Standing::Soft
        } else {
            Standing::Valid
        }
    }
}

/// The lines under everything of a site.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct SiteFloors {
    /// Everything stamped before it is stale: a jump, a hard purge of the site, or marks that were given up.
    pub hard: Position,
    /// Everything stamped before it is softly purged.
    pub soft: Position,
}

/// Closes what was stored before this boot until the node has caught up with its witnesses: nobody can say yet
/// what was purged while it was away. Shared by the guards of a realm.
#[derive(Debug, Default)]
pub struct Gate(AtomicU64);

impl Gate {
    /// A gate under which everything stamped before `position` counts as stale.
    #[must_use]
    pub fn closed_below(position: Position) -> Self {
        Self(AtomicU64::new(position.0))
    }

    /// Lets everything through.
    pub fn open(&self) {
        self.0.store(0, Release);
    }

    /// Whether everything is let through.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.load(Acquire) == 0
    }
}

/// The purges of one site, as hits see them. One writer (the realm, in its local order), any number of readers; a
/// reader takes a lock only if more than 8 keys were purged since the object was last judged, and it is likely to be one
/// of them or was not judged since the last but one sweep ([`SiteGuard::turn`]).
///
/// Memory: 24 bytes and the table's slack per purged key; the realm bounds the sum over its sites and has the
/// largest give up its older half ([`SiteGuard::shed`]), which purges too much and never too little.
#[derive(Debug)]
pub struct SiteGuard {
    keys: SiteKeys,
    gate: Arc<Gate>,
    /// Position of the newest purge or jump; written last.
    newest: AtomicU64,
    floor_hard: AtomicU64,
    floor_soft: AtomicU64,
    recent: Recent,
    /// Before `kept`; made at the first purge.
    filter: OnceLock<Filter>,
    kept: RwLock<Kept>,
}

/// What readers see only under a lock.
#[derive(Debug, Default)]
struct Kept {
    marks: Table,
    turn: Turn,
    /// The newest position at the beginning of the last sweep.
    swept: u64,
    /// A large table that nobody needs any more: to give it back takes longer than a purge may.
    needless: Option<Table>,
}

type Table = HashMap<u64, Marks, BuildHasherDefault<Hashed>>;

/// A table with more places than this is not given back at once.
const NEEDLESS_MIN: usize = 1024;

impl SiteGuard {
    /// The guard of a site of which nothing was purged; everything stamped before `floor` is stale.
    #[must_use]
    pub fn new(secret: RealmSecret, site: &SiteId, floor: Position, gate: Arc<Gate>) -> Self {
        Self::restored(secret, site, floor, SiteFloors { hard: floor, soft: Position::ZERO }, gate)
    }

    /// The guard of a site as it was saved. `start` is the first position of this boot.
    pub(super) fn restored(
        secret: RealmSecret,
        site: &SiteId,
        start: Position,
        floors: SiteFloors,
        gate: Arc<Gate>,
    ) -> Self {
        Self {
            keys: SiteKeys::new(secret, site),
            gate,
            newest: AtomicU64::new(start.0),
            floor_hard: AtomicU64::new(floors.hard.0),
            floor_soft: AtomicU64::new(floors.soft.0),
            recent: Recent::new(start),
            filter: OnceLock::new(),
            kept: RwLock::new(Kept { swept: start.0, ..Kept::default() }),
        }
    }

    /// How an object stands whose fill began at `stamp` and that falls under `keys` (from [`SiteGuard::keys`]).
    ///
    /// `verified` belongs to the object: up to which position it is known to stand. Kept in memory only; 0 at first.
    #[must_use]
    #[inline]
    pub fn standing(&self, stamp: Position, verified: &AtomicU64, keys: &[u64]) -> Standing {
        let newest = self.newest.load(Acquire);
        let since = stamp.0.max(verified.load(Relaxed));
        if since >= newest {
            return Standing::Valid;
        }
        self.judge(since, newest, verified, keys)
    }

    /// The keys that an object falls under: its URL, its host, its path and what is above it, and its tags, hashed. The
    /// whole site needs none. Without `tags`, because nobody can list them, it falls to every purge by a tag.
    #[must_use]
    pub fn keys(&self, host: &str, path: &str, query: Option<&str>, tags: Option<&[&str]>) -> Box<[u64]> {
        let place = [self.keys.url(host, path, query), self.keys.host(host)];
        let place = place.into_iter().chain(self.keys.prefixes(host, path));
        let untagged = tags.is_none().then_some(UNTAGGED);
        place.chain(tags.unwrap_or_default().iter().map(|tag| self.keys.tag(tag))).chain(untagged).collect()
    }

    /// The key of a URL alone.
    #[must_use]
    pub fn url_key(&self, host: &str, path: &str, query: Option<&str>) -> u64 {
        self.keys.url(host, path, query)
    }

    /// Something of the site was purged since the object was last judged: was it the object?
    ///
    /// The gate is read before the marks and the floor after them: the gate opens only after what it stood for was
    /// marked, and marks are dropped only after the floor was raised over them.
    #[inline(never)]
    fn judge(&self, since: u64, newest: u64, verified: &AtomicU64, keys: &[u64]) -> Standing {
        // what is below the floor needs no look at its keys
        if since < self.gate.0.load(Acquire) || since < self.floor_hard.load(Acquire) {
            return Standing::Stale;
        }
        // that a tag was purged is not among the recent keys
        let recent = if keys.last() == Some(&UNTAGGED) { None } else { self.recent.find(since, newest, keys) };
        let marked = recent.unwrap_or_else(|| self.marked(since, keys));
        if since < self.floor_hard.load(Acquire) {
            return Standing::Stale;
        }
        let standing = if since < self.floor_soft.load(Acquire) { marked.max(Standing::Soft) } else { marked };
        if standing == Standing::Valid {
            verified.fetch_max(newest, Relaxed);
        }
        standing
    }

    /// Asks the exact marks, for the keys that the filter lets through.
    fn marked(&self, since: u64, keys: &[u64]) -> Standing {
        let Some(filter) = self.filter.get() else { return Standing::Valid };
        if filter.is_clear_of(since, keys) {
            return Standing::Valid;
        }
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let suspects = keys.iter().filter(|key| filter.lets_through(since, **key));
        let marks = suspects.filter_map(|key| kept.marks.get(key)).map(|marks| marks.since(since));
        marks.max().unwrap_or(Standing::Valid)
    }

    /// A sweep begins, which judges everything that is in memory: what is judged from now on is asked only about what was
    /// purged since the beginning of the one before. False, with nothing to be swept, if nothing was purged since then.
    pub fn turn(&self) -> bool {
        let newest = self.newest.load(Acquire);
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        if newest <= kept.swept {
            return false;
        }
        kept.swept = newest;
        if let Some(filter) = self.filter.get() {
            filter.turn(&mut kept.turn);
        }
        let needless = kept.needless.take();
        drop(kept);
        // given back outside the lock
        drop(needless);
        true
    }

    /// The hash functions of this site.
    pub(super) fn hashes(&self) -> &SiteKeys {
        &self.keys
    }

    /// Marks keys as purged at `position`, telling their new marks; `tagged` if tags are among them. Returns how many
    /// keys are new. [`SiteGuard::publish`] makes it seen.
    pub(super) fn mark(
        &self,
        position: Position,
        mode: Mode,
        keys: &[u64],
        tagged: bool,
        mut told: impl FnMut(u64, Marks),
    ) -> usize {
        if keys.is_empty() {
            return 0;
        }
        let filter = self.filter.get_or_init(Filter::new);
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        let Kept { marks, turn, .. } = &mut *kept;
        let before = marks.len();
        for key in keys.iter().chain(tagged.then_some(&UNTAGGED)) {
            let mark = marks.entry(*key).or_default();
            mark.raise(mode, position);
            told(*key, *mark);
            filter.add(turn, position.0, *key);
        }
        let added = marks.len() - before;
        drop(kept);
        self.recent.push(position, mode, keys);
        added
    }

    /// Puts back marks that were saved. Only before anyone reads.
    pub(super) fn restore(&self, key: u64, saved: Marks) {
        let filter = self.filter.get_or_init(Filter::new);
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        // what was stored before is judged by the marks themselves, so that the filter begins empty
        filter.skip(&mut kept.turn, saved.newest());
        kept.marks.insert(key, saved);
    }

    /// Everything stamped before `position`, which is newer than every mark, is purged. Returns how many marks became
    /// needless and were dropped: in one piece, however many they were.
    pub(super) fn raise(&self, mode: Mode, position: Position) -> usize {
        match mode {
            Mode::Soft => {
                self.floor_soft.fetch_max(position.0, Release);
                0
            }
            Mode::Hard => {
                self.floor_hard.fetch_max(position.0, Release);
                let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
                let needless = std::mem::take(&mut kept.marks);
                if let Some(filter) = self.filter.get() {
                    filter.forget(&mut kept.turn, position.0);
                }
                let count = needless.len();
                let spare = needless.capacity() > NEEDLESS_MIN && kept.needless.is_none();
                let now = if spare { kept.needless.replace(needless) } else { Some(needless) };
                drop(kept);
                drop(now);
                count
            }
        }
    }

    /// Makes everything up to `position` seen by hits that begin from now on.
    pub(super) fn publish(&self, position: Position) {
        self.newest.fetch_max(position.0, Release);
    }

    /// Gives up the older half of the marks: the floor rises over them. Returns how many went.
    pub(super) fn shed(&self) -> usize {
        let mut ages: Vec<u64> = {
            let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
            kept.marks.values().map(|marks| marks.newest()).collect()
        };
        if ages.is_empty() {
            return 0;
        }
        let middle = ages.len() / 2;
        let (_, floor, _) = ages.select_nth_unstable(middle);
        self.floor_hard.fetch_max(*floor, Release);
        self.drop_below(*floor)
    }

    fn drop_below(&self, floor: u64) -> usize {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        let before = kept.marks.len();
        kept.marks.retain(|_, marks| marks.newest() > floor);
        before - kept.marks.len()
    }

    /// The lines under everything.
    #[must_use]
    pub fn floors(&self) -> SiteFloors {
        SiteFloors { hard: Position(self.floor_hard.load(Acquire)), soft: Position(self.floor_soft.load(Acquire)) }
    }

    /// How many purged keys it remembers.
    #[must_use]
    pub fn marks(&self) -> usize {
        self.kept.read().unwrap_or_else(PoisonError::into_inner).marks.len()
    }
}

/// Entries that a hit walks back over before it asks the exact marks: more is dearer than asking (measured).
const WALK_MAX: usize = 8;
/// Slots; a power of two with room over it, so that a walk is seldom overtaken by the writer.
const SLOTS: usize = 64;
/// Position of a slot that is being written.
const WRITING: u64 = u64::MAX;

/// The newest purged keys, newest last. Each slot carries its position, so a reader sees when it was overtaken.
#[derive(Debug)]
struct Recent {
    slots: Box<[Slot]>,
    /// Slots ever written.
    head: AtomicUsize,
    /// What was purged at or before this position is not in here.
    start: u64,
}

#[derive(Debug, Default)]
struct Slot {
    position: AtomicU64,
    key: AtomicU64,
}

impl Recent {
    fn new(start: Position) -> Self {
        Self { slots: (0..SLOTS).map(|_| Slot::default()).collect(), head: AtomicUsize::new(0), start: start.0 }
    }

    fn push(&self, position: Position, mode: Mode, keys: &[u64]) {
        let mut head = self.head.load(Relaxed);
        for key in keys {
            let slot = self.slot(head);
            slot.position.store(WRITING, Relaxed);
            fence(Release);
            slot.key.store(pack(*key, mode), Relaxed);
            slot.position.store(position.0, Release);
            head += 1;
        }
        self.head.store(head, Release);
    }

    /// The worst mark after `since`, or none if this is not the place to tell.
    fn find(&self, since: u64, newest: u64, keys: &[u64]) -> Option<Standing> {
        if since < self.start {
            return None;
        }
        let head = self.head.load(Acquire);
        // where more than these came since, none of them needs to be looked at
        if head > WALK_MAX && self.slot(head - WALK_MAX - 1).position.load(Relaxed) > since {
            return None;
        }
        let mut worst = Standing::Valid;
        for back in 1..=head.min(WALK_MAX + 1) {
            let slot = self.slot(head - back);
            let position = slot.position.load(Acquire);
            let (key, mode) = unpack(slot.key.load(Acquire));
            if position <= since {
                return Some(worst);
            }
            let overtaken = position > newest || slot.position.load(Relaxed) != position;
            if overtaken || back > WALK_MAX {
                return None;
            }
            if keys.contains(&key) {
                worst = worst.max(if mode == Mode::Hard { Standing::Stale } else { Standing::Soft });
            }
        }
        Some(worst)
    }

    fn slot(&self, index: usize) -> &Slot {
        &self.slots[index % SLOTS]
    }
}

/// Keys are keyed hashes already: they are their own hash.
#[derive(Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, key: u64) {
        // the table takes its place from the low bits, of which the lowest is always 0
        self.0 = key.rotate_right(1);
    }
}

mod filter;
mod fork;
#[cfg(test)]
mod tests;
