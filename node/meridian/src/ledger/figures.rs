//! What a realm's ledger counts of itself.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use rules::purge::{Event, Mode, Scope};
use wire::purge::{Refusal, Sent};

use super::realm::PurgeFault;
use crate::{
    clock,
    observe::{Durations, Histogram},
};

/// Counters of one realm on this node.
#[derive(Debug)]
pub struct Figures {
    /// From the moment that a purge was taken by another node to its effect here, by the clocks of both.
    effect: Timed,
    commits: Timed,
    taken: ByKind,
    applied: ByKind,
    refused: [AtomicU64; CAUSES.len()],
    /// Lines on which another node did not serve this one.
    refusals: [AtomicU64; Refusal::ALL.len()],
    tokens: [AtomicU64; Tokens::ALL.len()],
}

/// Durations and their sum.
#[derive(Debug)]
struct Timed {
    durations: Histogram,
    micros: AtomicU64,
}

/// Counts by scope and mode.
#[derive(Debug, Default)]
struct ByKind([[AtomicU64; 2]; Scope::ALL.len()]);

/// What became of tokens that clients showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tokens {
    /// This node had heard of the purge.
    Heard,
    /// It came while the request waited.
    Waited,
    /// It did not: the origin was asked.
    NotYet,
    /// It was no token, one of another realm, or one too many.
    Ignored,
}

impl Tokens {
    /// Every one, in their order.
    pub const ALL: [Self; 4] = [Self::Heard, Self::Waited, Self::NotYet, Self::Ignored];

    /// The word for it in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Heard => "heard",
            Self::Waited => "waited",
            Self::NotYet => "not-yet",
            Self::Ignored => "ignored",
        }
    }
}

/// Why purges are refused, as metrics say it.
const CAUSES: [&str; 6] = ["unknown-site", "malformed", "conflict", "stopped", "busy", "chance"];

impl Figures {
    pub(super) fn new() -> Self {
        Self {
            effect: Timed::new(),
            commits: Timed::new(),
            taken: ByKind::default(),
            applied: ByKind::default(),
            refused: Default::default(),
            refusals: Default::default(),
            tokens: Default::default(),
        }
    }

    /// An event of another node came into effect just now.
    pub(super) fn note_effect(&self, sent: &Sent) {
        if sent.taken_unix_us != 0 {
            self.effect.note(clock::unix_us().saturating_sub(sent.taken_unix_us));
        }
    }

    /// A group of changes is on disk.
    pub(super) fn note_commit(&self, took: Duration) {
        self.commits.note(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// An application's purge was taken by this node.
    pub(super) fn note_taken(&self, event: &Event) {
        self.taken.note(event);
    }

    /// An event is in effect here for the first time.
    pub(super) fn note_applied(&self, event: &Event) {
        self.applied.note(event);
    }

    /// An application's purge was not taken.
    pub(super) fn note_refused(&self, fault: &PurgeFault) {
        let cause = match fault {
            PurgeFault::UnknownSite { .. } => 0,
            PurgeFault::Event(_) => 1,
            PurgeFault::Conflict { .. } => 2,
            PurgeFault::Stopped(_) => 3,
            PurgeFault::Busy => 4,
            PurgeFault::Chance => 5,
        };
        self.refused[cause].fetch_add(1, Relaxed);
    }

    /// Another node did not serve this one.
    pub(super) fn note_refusal(&self, why: Refusal) {
        self.refusals[why as usize].fetch_add(1, Relaxed);
    }

    /// How often other nodes did not serve this one, by cause.
    pub fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Refusal::ALL.into_iter().zip(&self.refusals).map(|(why, count)| (why.as_str(), count.load(Relaxed)))
    }

    /// Clients showed tokens.
    pub fn note_tokens(&self, became: Tokens, count: u64) {
        self.tokens[became as usize].fetch_add(count, Relaxed);
    }

    /// Tokens that clients showed, by what became of them.
    pub fn tokens(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let counts = Tokens::ALL.into_iter().zip(&self.tokens);
        counts.map(|(became, count)| (became.as_str(), count.load(Relaxed)))
    }

    /// An origin's answer ordered purges of what cannot be purged.
    pub fn note_left_out(&self, count: usize) {
        self.refused[1].fetch_add(count as u64, Relaxed);
    }

    /// How long purges took from where they were taken until they came into effect here.
    #[must_use]
    pub fn effect(&self) -> Durations {
        self.effect.durations.read()
    }

    /// The same, with the sum in us.
    #[must_use]
    pub fn effect_and_sum(&self) -> (Durations, u64) {
        self.effect.read()
    }

    /// How long groups of changes took to be written, and the sum in us.
    #[must_use]
    pub fn commits(&self) -> (Durations, u64) {
        self.commits.read()
    }

    /// Purges that this node took, by scope and mode.
    pub fn taken(&self) -> impl Iterator<Item = (Scope, Mode, u64)> + '_ {
        self.taken.read()
    }

    /// Events that came into effect here, by scope and mode.
    pub fn applied(&self) -> impl Iterator<Item = (Scope, Mode, u64)> + '_ {
        self.applied.read()
    }

    /// Purges that were not taken, by cause.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        CAUSES.into_iter().zip(&self.refused).map(|(cause, count)| (cause, count.load(Relaxed)))
    }
}

impl Timed {
    fn new() -> Self {
        Self { durations: Histogram::new(), micros: AtomicU64::new(0) }
    }

    fn note(&self, micros: u64) {
        self.durations.note_shared(micros);
        self.micros.fetch_add(micros, Relaxed);
    }

    fn read(&self) -> (Durations, u64) {
        (self.durations.read(), self.micros.load(Relaxed))
    }
}

impl ByKind {
    fn note(&self, event: &Event) {
        self.0[event.scope() as usize][usize::from(event.mode() == Mode::Hard)].fetch_add(1, Relaxed);
    }

    fn read(&self) -> impl Iterator<Item = (Scope, Mode, u64)> + '_ {
        Scope::ALL.into_iter().zip(&self.0).flat_map(|(scope, counts)| {
            let modes = [Mode::Soft, Mode::Hard].into_iter().zip(counts);
            modes.map(move |(mode, count)| (scope, mode, count.load(Relaxed)))
        })
    }
}
