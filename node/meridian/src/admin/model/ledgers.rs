//! How the purges of realms stand on nodes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How the purges of a realm stand on a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct RealmLedger {
    /// The realm: `global`, or a jurisdiction.
    pub realm: String,
    /// The lease's age: how long ago the node was sure to have heard of every purge, in ms; none if it never was since it
    /// started.
    pub lease_age_ms: Option<u64>,
    /// How it hears of purges from each witness; none where a stream carries them.
    pub witnesses: Vec<WitnessHeard>,
    /// Purges that the node took, and that no majority has yet.
    pub waiting: u64,
    /// How long ago the oldest of them was taken, in ms; none if there is none.
    pub waiting_oldest_ms: Option<u64>,
    /// Purges that each other member has not answered the node yet; those who have answered all are left out.
    pub backlog: Vec<Backlog>,
    /// Whether its disk failed, so that it takes no purges.
    pub stopped: bool,
}

/// How a node hears of purges from a witness.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct WitnessHeard {
    /// The witness.
    pub node: String,
    /// How long ago the node was sure to have heard all that the witness had, in ms; none if it never was since it started.
    pub age_ms: Option<u64>,
    /// Purges that the witness says it has, and that the node has not read yet.
    pub unread: u64,
}

/// Purges that wait for a member.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Backlog {
    /// The member.
    pub node: String,
    /// How many.
    pub purges: u64,
}
