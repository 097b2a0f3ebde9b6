//! What operators force, as the API says and takes it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a region or node is forced to be, whatever is observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ForcedState {
    /// Healthy.
    Up,
    /// Down.
    Down,
    /// To give up its clients.
    Drain,
    /// Nothing any more: what is observed counts.
    Released,
}

/// An order to force a region or a node, or to take that back.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForceOrder {
    /// The region; either this or `node`.
    #[serde(default)]
    pub region: Option<String>,
    /// The node; either this or `region`.
    #[serde(default)]
    pub node: Option<String>,
    /// What it is forced to be; `released` takes it back.
    pub state: ForcedState,
    /// Why: 1 to 200 characters, shown to all who look at the fleet.
    pub why: String,
    /// Who orders it: 1 to 64 characters. The operator, if nothing is said.
    #[serde(default)]
    pub who: Option<String>,
}

/// What an operator forces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Forced {
    /// The region, if it is one.
    pub region: Option<String>,
    /// The node, if it is one.
    pub node: Option<String>,
    /// What it is forced to be.
    pub state: ForcedState,
    /// Who ordered it.
    pub who: String,
    /// Why.
    pub why: String,
    /// The node that took the order.
    pub taken_by: String,
    /// When, in ms since the Unix epoch, by that node's clock.
    pub since_unix_ms: u64,
}

/// Everything that is forced.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ForcedAll {
    /// The sum over all that was ever ordered: nodes with the same one agree.
    pub digest: String,
    /// What is forced now, and what was taken back last.
    pub forced: Vec<Forced>,
}

/// An order that is in force.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ForceAnswer {
    /// What is forced.
    pub forced: Forced,
    /// What it means that the operator should know.
    pub warnings: Vec<String>,
}
