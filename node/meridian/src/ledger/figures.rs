//! What a realm's ledger counts of itself.

use region_config::NodeId;
use wire::purge::Sent;

use crate::{
    clock,
    observe::{Durations, Histogram},
};

/// Counters of one realm on this node.
#[derive(Debug)]
pub struct Figures {
    /// From the moment that a purge was taken by another node to its effect here, by the clocks of both.
    effect: Histogram,
}

impl Figures {
    pub(super) fn new() -> Self {
        Self { effect: Histogram::new() }
    }

    /// Events of another node came into effect just now.
    pub(super) fn note_effect(&self, events: &[Sent]) {
        let now = clock::unix_us();
        for sent in events.iter().filter(|sent| sent.taken_unix_us != 0) {
            self.effect.note_shared(now.saturating_sub(sent.taken_unix_us));
        }
    }

    /// How long purges took from where they were taken until they came into effect here.
    #[must_use]
    pub fn effect(&self) -> Durations {
        self.effect.read()
    }
}

/// How a realm stands on this node, for operators.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Its witnesses, each with how many ms ago this node was sure to have heard all that it had; none if never.
    pub witnesses: Vec<(NodeId, Option<u64>)>,
    /// How many ms ago this node was sure to have heard everything; none if it never was.
    pub lease_age_ms: Option<u64>,
    /// Purges taken here that no majority has yet.
    pub waiting: usize,
    /// Per other member: events that wait to be sent or answered.
    pub backlog: Vec<(NodeId, usize)>,
    /// Purged keys remembered.
    pub marks: usize,
}
