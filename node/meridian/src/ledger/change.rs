//! A change of the witnesses while a realm runs: whom a witness serves, and how far the change has come.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use region_config::{NodeId, RealmId};
use rules::purge::{Misstep, RollSum, SavedRoll, Stand, Witness};
use wire::purge::Refusal;

use super::{carrier::CarryFault, core::Core, realm::Realm};

/// Peers that are remembered for having refused this node: more than a realm has members.
const TOLD_MAX: usize = 1_024;

/// How a change of the witnesses stands on this node, for operators.
#[derive(Debug, Clone)]
pub struct Change {
    /// The version of the config that names both sets.
    pub version: u64,
    /// Whether the new ones have taken over, as far as this node knows and remembers: then it may be started with them alone.
    pub complete: bool,
    /// Present witnesses that this node has not read since they were started with this version.
    pub unread: Vec<NodeId>,
    /// New witnesses that do not have yet, as far as this node knows, what the present ones have.
    pub unsynced: Vec<NodeId>,
}

/// The peers whose refusals an operator has been told of.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<BTreeSet<(NodeId, &'static str)>>);

impl Change {
    /// What an operator should know of it.
    #[must_use]
    pub fn told(&self, realm: &RealmId) -> String {
        let Self { version, complete, unread, unsynced } = self;
        if *complete {
            return format!(
                "the new witnesses of realm `{realm}` (version {version}) have taken over as far as this node knows: when all \
                 nodes say so, start them with version {} and the new ones as `nodes`, without `next`",
                version + 1
            );
        }
        let named = |nodes: &[NodeId]| nodes.iter().map(NodeId::as_str).collect::<Vec<_>>().join(", ");
        let mut told = format!("the witnesses of realm `{realm}` are being changed (version {version})");
        if !unread.is_empty() {
            told += &format!(
                "; not read since they were started with it, of which a majority is needed: {}",
                named(unread)
            );
        }
        if !unsynced.is_empty() {
            told +=
                &format!("; new ones that have not taken over yet, of which a majority is needed: {}", named(unsynced));
        }
        told
    }
}

impl Core {
    /// Whether the own log may serve a node that was started with this roll: one of an older version never, so that what
    /// the old witnesses agreed on is at some moment all there will ever be.
    pub(super) fn admits(&self, peer: RollSum) -> Result<(), Refusal> {
        let steps = self.roll.roll.sum().becomes(peer, self.handover.complete());
        steps.map_err(|misstep| match misstep {
            Misstep::Older => Refusal::Sealed,
            Misstep::Early => Refusal::Early,
            Misstep::Differs | Misstep::Straight | Misstep::Late | Misstep::Missed => Refusal::Differs,
        })
    }

    /// What the own log says of itself.
    pub(super) fn stand(&self) -> Stand {
        Stand { version: self.roll.roll.version, synced: self.synced() }
    }

    fn synced(&self) -> bool {
        let synced = |log: &Witness| log.voting() && self.handover.synced(log.head().seq);
        self.roll.roll.changes() && self.witness.as_ref().is_some_and(synced)
    }

    /// Draws the consequences of what was read for a change under way; `heard` are the witnesses that were read as far as
    /// they said, and whether they vote.
    pub(super) fn weigh_change(&mut self, heard: &[(usize, bool)]) {
        if !self.roll.roll.changes() {
            return;
        }
        for (witness, voting) in heard {
            self.handover.handle_confirmed(*witness, *voting);
        }
        let Some(log) = &mut self.witness else { return };
        self.handover.handle_own(log.voting(), log.appended().seq);
        if self.handover.handed_over() && !log.voting() {
            log.handle_handed_over();
            if log.voting() {
                self.votes();
            }
        }
    }

    /// Whether the change has become complete: then that is to be written.
    pub(super) fn weigh_complete(&mut self) {
        let synced = self.synced();
        if self.roll.roll.changes() && self.caught_up && self.handover.poll_complete(synced) {
            self.roll.complete = true;
            self.remember = true;
            self.change += 1;
            self.complete_change = self.change;
        }
    }

    /// What is to be written of the roll.
    pub(super) fn poll_roll(&mut self) -> Option<SavedRoll> {
        std::mem::take(&mut self.remember).then(|| self.roll.clone())
    }
}

impl Realm {
    /// A peer did not serve this node.
    pub(super) fn note_refusal(&self, peer: &NodeId, fault: &CarryFault) {
        let CarryFault::Refused(why) = fault else { return };
        self.figures.note_refusal(*why);
        if !why.is_of_the_roll() {
            return;
        }
        let mut told = self.told.0.lock();
        if told.len() < TOLD_MAX && told.insert((peer.clone(), why.as_str())) {
            tracing::warn!(realm = %self.name, %peer, version = self.version, %why, "a witness does not serve this node");
        }
    }

    /// How a change of the witnesses stands; none if there is none.
    pub(super) fn change(&self, core: &Core) -> Option<Change> {
        core.roll.roll.changes().then(|| {
            let (unread, unsynced) = core.handover.missing(core.synced());
            let named = |places: Vec<usize>| {
                places.into_iter().filter_map(|place| self.witnesses.get(place).cloned()).collect()
            };
            let (unread, unsynced) = (named(unread), named(unsynced));
            // what is not remembered yet could be forgotten by a restart, which is what an operator does next
            let remembered = self.written.read(|written| *written >= core.complete_change);
            Change { version: self.version, complete: remembered && core.handover.complete(), unread, unsynced }
        })
    }
}
