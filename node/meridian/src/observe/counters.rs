//! What is counted per site: plain numbers, kept so that noting a request costs a few ns and never waits for another
//! thread.
//!
//! Every thread writes cells of its own (see [`super::threads`]), with a load and a store instead of a locked addition;
//! a reader adds up the cells of all threads.

use std::{
    collections::BTreeMap,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use rules::caching::Reason;

use super::{
    histogram::{Durations, Histogram},
    reason::{REASONS, place},
    threads::{SLOTS, Slot, slot},
};

/// What became of a request, as its site counts it. Each request has exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    /// Answered from cache, fresh.
    Hit,
    /// Answered from cache past its lifetime: while revalidating behind, or because the origin failed.
    Stale,
    /// Answered from cache after the origin had said that it is still good.
    Revalidated,
    /// Answered with what was fetched for it, or for another request at the same time.
    Miss,
    /// Passed through; the cache had no part in it.
    Pass,
    /// Refused by a rule: residency, limits, malformed.
    Refused,
    /// Failed: the origin or a peer gave no usable answer.
    Error,
}

impl Outcome {
    /// All outcomes, in the order of their counters.
    pub const ALL: [Self; 7] =
        [Self::Hit, Self::Stale, Self::Revalidated, Self::Miss, Self::Pass, Self::Refused, Self::Error];

    /// The word for it in metrics, log, API and screens.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Revalidated => "revalidated",
            Self::Miss => "miss",
            Self::Pass => "pass",
            Self::Refused => "refused",
            Self::Error => "error",
        }
    }
}

/// The counters of one site. Kept by whoever handles its requests, never looked up on the way.
#[derive(Debug)]
pub struct SiteCounters {
    /// Made when a thread first counts something, so that an idle site costs next to nothing.
    shards: [OnceLock<Box<Shard>>; SLOTS],
}

impl Default for SiteCounters {
    fn default() -> Self {
        Self { shards: [const { OnceLock::new() }; SLOTS] }
    }
}

impl SiteCounters {
    /// Notes an answered request: what became of it, why it was not a hit, the bytes of body sent, and the time from
    /// its head to the answer's head in us.
    #[inline]
    pub fn note(&self, outcome: Outcome, reason: Option<Reason>, bytes: u64, micros: u32) {
        let (shard, pen) = self.mine();
        pen.add(&shard.outcomes[outcome as usize], 1);
        pen.add(&shard.bytes_out, bytes);
        pen.add(&shard.micros, u64::from(micros));
        shard.latency.note(pen, micros);
        if let Some(reason) = reason {
            pen.add_at(&shard.reasons, place(reason));
        }
    }

    /// Notes bytes of body that were sent, piece by piece.
    pub fn note_bytes(&self, bytes: u64) {
        let (shard, pen) = self.mine();
        pen.add(&shard.bytes_out, bytes);
    }

    /// Notes that the origin was asked, for whatever reason.
    pub fn note_origin_fetch(&self) {
        let (shard, pen) = self.mine();
        pen.add(&shard.origin_fetches, 1);
    }

    /// Notes a request that waited for the fill of another one instead of asking itself; once, however often it waits.
    pub fn note_collapsed(&self) {
        let (shard, pen) = self.mine();
        pen.add(&shard.collapsed, 1);
    }

    /// Notes a response to a fetch that was made for the cache: it is stored, or renews what is stored, or is noted with
    /// the reason why it is not, once.
    pub fn note_fetched(&self) {
        let (shard, pen) = self.mine();
        pen.add(&shard.fetched, 1);
    }

    /// Notes a 304 that renewed what is stored.
    pub fn note_renewed(&self) {
        let (shard, pen) = self.mine();
        pen.add(&shard.renewed, 1);
    }

    /// Notes a response that was stored.
    pub fn note_stored(&self) {
        let (shard, pen) = self.mine();
        pen.add(&shard.stored, 1);
    }

    /// Notes a response that was not stored, and why.
    pub fn note_not_stored(&self, reason: Reason) {
        let (shard, pen) = self.mine();
        pen.add_at(&shard.not_stored, place(reason));
    }

    /// Adds up what all threads have counted so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for shard in self.shards.iter().filter_map(OnceLock::get) {
            shard.sum_into(&mut totals);
        }
        totals
    }

    #[inline]
    fn mine(&self) -> (&Shard, Pen) {
        let slot = slot();
        // the index is below SLOTS by construction, which the compiler cannot see
        let shard = self.shards[slot.index.min(SLOTS - 1)].get_or_init(|| Box::new(Shard::new()));
        (shard, Pen(slot))
    }
}

/// The cells that one thread writes. Aligned so that two threads never write the same cache line.
#[derive(Debug)]
#[repr(align(128))]
struct Shard {
    outcomes: [AtomicU64; Outcome::ALL.len()],
    bytes_out: AtomicU64,
    micros: AtomicU64,
    origin_fetches: AtomicU64,
    collapsed: AtomicU64,
    fetched: AtomicU64,
    stored: AtomicU64,
    renewed: AtomicU64,
    reasons: [AtomicU64; REASONS],
    not_stored: [AtomicU64; REASONS],
    latency: Histogram,
}

impl Shard {
    fn new() -> Self {
        Self {
            outcomes: [const { AtomicU64::new(0) }; Outcome::ALL.len()],
            bytes_out: AtomicU64::new(0),
            micros: AtomicU64::new(0),
            origin_fetches: AtomicU64::new(0),
            collapsed: AtomicU64::new(0),
            fetched: AtomicU64::new(0),
            stored: AtomicU64::new(0),
            renewed: AtomicU64::new(0),
            reasons: [const { AtomicU64::new(0) }; REASONS],
            not_stored: [const { AtomicU64::new(0) }; REASONS],
            latency: Histogram::new(),
        }
    }

    fn sum_into(&self, totals: &mut Totals) {
        sum(&mut totals.outcomes, &self.outcomes);
        sum(&mut totals.reasons, &self.reasons);
        sum(&mut totals.not_stored, &self.not_stored);
        totals.bytes_out += self.bytes_out.load(Relaxed);
        totals.micros += self.micros.load(Relaxed);
        totals.origin_fetches += self.origin_fetches.load(Relaxed);
        totals.collapsed += self.collapsed.load(Relaxed);
        totals.fetched += self.fetched.load(Relaxed);
        totals.stored += self.stored.load(Relaxed);
        totals.renewed += self.renewed.load(Relaxed);
        self.latency.sum_into(&mut totals.latency);
    }
}

fn sum(totals: &mut [u64], cells: &[AtomicU64]) {
    for (total, cell) in totals.iter_mut().zip(cells) {
        *total += cell.load(Relaxed);
    }
}

/// How the calling thread writes a cell: alone, or with a locked addition.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pen(Slot);

impl Pen {
    pub(super) fn of(slot: Slot) -> Self {
        Self(slot)
    }

    #[inline]
    pub(super) fn add(self, cell: &AtomicU64, by: u64) {
        if self.0.own {
            cell.store(cell.load(Relaxed).wrapping_add(by), Relaxed);
        } else {
            cell.fetch_add(by, Relaxed);
        }
    }

    #[inline]
    fn add_at(self, cells: &[AtomicU64], index: usize) {
        if let Some(cell) = cells.get(index) {
            self.add(cell, 1);
        }
    }

    #[cfg(test)]
    pub(super) fn shared() -> Self {
        Self(Slot { index: SLOTS - 1, own: false })
    }
}

/// A site's counters as read at one moment; also of several sites or nodes together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Totals {
    /// Requests, by the index of their [`Outcome`].
    pub outcomes: [u64; Outcome::ALL.len()],
    /// Why requests were not hits, by the code of the reason.
    reasons: [u64; REASONS],
    /// Why responses were not stored, by the code of the reason.
    not_stored: [u64; REASONS],
    /// Bytes of bodies sent to clients.
    pub bytes_out: u64,
    /// Sum of the times to the answer's head, in us.
    pub micros: u64,
    /// Times the origin was asked.
    pub origin_fetches: u64,
    /// Requests that waited for another one's fill.
    pub collapsed: u64,
    /// Responses to fetches for the cache.
    pub fetched: u64,
    /// Those that were stored.
    pub stored: u64,
    /// Those that renewed what is stored.
    pub renewed: u64,
    /// Times to the answer's head.
    pub latency: Durations,
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            outcomes: [0; Outcome::ALL.len()],
            reasons: [0; REASONS],
            not_stored: [0; REASONS],
            bytes_out: 0,
            micros: 0,
            origin_fetches: 0,
            collapsed: 0,
            fetched: 0,
            stored: 0,
            renewed: 0,
            latency: Durations::default(),
        }
    }
}

impl Totals {
    /// Requests with this outcome.
    #[must_use]
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize]
    }

    /// All requests.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.outcomes.iter().sum()
    }

    /// Requests that were answered from cache without waiting for anybody: fresh or stale.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.of(Outcome::Hit) + self.of(Outcome::Stale)
    }

    /// Why requests were not hits: the reasons that were given, by their words.
    #[must_use]
    pub fn not_hit(&self) -> BTreeMap<&'static str, u64> {
        by_word(&self.reasons)
    }

    /// Why responses were not stored: the reasons that were given, by their words.
    #[must_use]
    pub fn not_stored(&self) -> BTreeMap<&'static str, u64> {
        by_word(&self.not_stored)
    }

    /// Adds the counters of another site to these.
    pub fn absorb(&mut self, other: &Self) {
        let add = |to: &mut [u64], from: &[u64]| to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        add(&mut self.outcomes, &other.outcomes);
        add(&mut self.reasons, &other.reasons);
        add(&mut self.not_stored, &other.not_stored);
        self.bytes_out += other.bytes_out;
        self.micros += other.micros;
        self.origin_fetches += other.origin_fetches;
        self.collapsed += other.collapsed;
        self.fetched += other.fetched;
        self.stored += other.stored;
        self.renewed += other.renewed;
        self.latency.absorb(&other.latency);
    }
}

fn by_word(counts: &[u64; REASONS]) -> BTreeMap<&'static str, u64> {
    let counted = Reason::ALL.iter().map(|reason| (reason.as_str(), counts[place(*reason)]));
    counted.filter(|(_, count)| *count > 0).collect()
}

/// The share of hits among the requests that were not refused; none if there were none.
#[must_use]
pub fn hit_ratio(hits: u64, requests: u64, refused: u64) -> Option<f64> {
    let answered = requests.saturating_sub(refused);
    (answered > 0).then(|| hits as f64 / answered as f64)
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;

    #[test]
    fn nothing_is_lost_when_many_threads_count_at_once() {
        let counters = Arc::new(SiteCounters::default());
        // more threads than own slots: the shared one is used, too
        let threads: Vec<_> = (0..SLOTS + 8)
            .map(|_| {
                let counters = Arc::clone(&counters);
                thread::spawn(move || (0..500).for_each(|_| counters.note(Outcome::Miss, Some(Reason::UriMiss), 10, 7)))
            })
            .collect();
        for thread in threads {
            assert!(thread.join().is_ok());
        }
        let totals = counters.totals();
        let expected = (SLOTS as u64 + 8) * 500;
        assert_eq!(totals.requests(), expected);
        assert_eq!(totals.of(Outcome::Miss), expected);
        assert_eq!(totals.not_hit()["uri-miss"], expected);
        assert_eq!(totals.bytes_out, expected * 10);
        assert_eq!(totals.latency.count(), expected);
    }

    #[test]
    fn the_hit_ratio_leaves_out_what_was_refused() {
        assert_eq!(hit_ratio(3, 10, 4), Some(0.5));
        assert_eq!(hit_ratio(0, 4, 4), None);
    }
}
