//! What a realm keeps on disk: as a whole when a node starts, and as changes while it runs. The changes of one
//! [`Delta`] are written in one transaction, so cursors are never ahead of the marks, nor the marks behind the log.

use std::{collections::BTreeMap, sync::Arc};

use region_config::{NodeId, SiteId};

use super::{
    event::{Event, PurgeId},
    guard::{Marks, SiteFloors},
    position::Position,
    roll::Roll,
    witness::{Cursor, Record},
};

/// A realm as it was saved.
#[derive(Debug, Clone, Default)]
pub struct Saved {
    /// The realm's floor.
    pub floor: Position,
    /// The realm's soft floor.
    pub floor_soft: Position,
    /// Last purges per site and hashed key.
    pub marks: Vec<(SiteId, u64, Marks)>,
    /// Floors of sites.
    pub floors: Vec<(SiteId, SiteFloors)>,
    /// Applied events: position, hash of site and idempotency key, id. In the order of positions.
    pub known: Vec<(Position, u128, PurgeId)>,
    /// Applied events that were not seen in any witness's log yet.
    pub unseen: Vec<Arc<Event>>,
    /// How far each witness's log was heard.
    pub cursors: Vec<(NodeId, Cursor)>,
    /// The same, where they have to be heard again because this node begins a log of its own.
    pub cursors_before: Vec<(NodeId, Cursor)>,
    /// This node's own log, if it is a witness and has one.
    pub witness: Option<SavedWitness>,
    /// Events this node took from applications and that are not known to be on a majority.
    pub outbox: Vec<Arc<Event>>,
    /// The witnesses that it was last started with; none in a file of before that was kept.
    pub roll: Option<SavedRoll>,
}

/// The witnesses that a node was last started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedRoll {
    /// Their roll.
    pub roll: Roll,
    /// Whether the node knows that the new ones of it have taken over.
    pub complete: bool,
}

/// A witness's log as it was saved.
#[derive(Debug, Clone)]
pub struct SavedWitness {
    /// Its borders. `durable` is its last record.
    pub state: WitnessState,
    /// The ids of its newest records, oldest first.
    pub ids: Vec<(u64, PurgeId)>,
    /// Its newest records, oldest first.
    pub newest: Vec<Arc<Record>>,
}

/// The borders of a witness's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WitnessState {
    /// Random name of this life of the log.
    pub epoch: u64,
    /// Sequence number of the first record that is kept, or of the first one to come.
    pub base: u64,
    /// Chain value before the record at `base`.
    pub base_chain: u64,
    /// Whether it may acknowledge: false until it has recovered what it may have lost.
    pub voting: bool,
}

/// What changed since the last delta.
#[derive(Debug, Clone, Default)]
pub struct Delta {
    /// The realm's floor rose: all marks at or below it are needless.
    pub floor: Option<Position>,
    /// The realm's soft floor rose.
    pub floor_soft: Option<Position>,
    /// New values of marks, the later ones counting.
    pub marks: Vec<(SiteId, u64, Marks)>,
    /// New floors of sites; marks at or below the hard one are needless.
    pub floors: BTreeMap<SiteId, SiteFloors>,
    /// Newly applied events.
    pub known: Vec<(Position, u128, PurgeId)>,
    /// Applied events below this position may be forgotten.
    pub forget: Option<Position>,
    /// Events to keep as unseen (`Some`) or no longer (`None`).
    pub unseen: BTreeMap<PurgeId, Option<Arc<Event>>>,
    /// New cursors.
    pub cursors: BTreeMap<NodeId, Cursor>,
    /// New borders of the own log; records before its base may go.
    pub witness: Option<WitnessState>,
    /// New records of the own log.
    pub records: Vec<Arc<Record>>,
    /// Events to keep in the outbox (`Some`) or no longer (`None`).
    pub outbox: BTreeMap<PurgeId, Option<Arc<Event>>>,
    /// The witnesses from now on.
    pub roll: Option<SavedRoll>,
    /// Whether the own log, as far as it was written before this delta, counts no more.
    pub forget_log: bool,
    /// Whether the others' logs count as not read, as far as that was written before this delta.
    pub forget_cursors: bool,
}

impl Delta {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.floor.is_none()
            && self.floor_soft.is_none()
            && self.marks.is_empty()
            && self.floors.is_empty()
            && self.known.is_empty()
            && self.forget.is_none()
            && self.unseen.is_empty()
            && self.cursors.is_empty()
            && self.witness.is_none()
            && self.records.is_empty()
            && self.outbox.is_empty()
            && self.roll.is_none()
            && !self.forget_log
            && !self.forget_cursors
    }
}
