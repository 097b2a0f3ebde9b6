//! Leaving in order, as the API says and takes it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An order for a node to leave.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainOrder {
    /// For how long resolvers may still send clients, in s; two of the longest TTLs that DNS gives out, if nothing is said.
    #[serde(default)]
    pub wait_s: Option<u64>,
}

/// How far a node has come in leaving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DrainPhase {
    /// Nobody told it to go.
    Serving,
    /// Out of DNS; serves all who come, until resolvers have forgotten it.
    Waiting,
    /// Asks those who are left to go.
    Leaving,
}

/// Whether a node is leaving.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DrainState {
    /// How far it has come.
    pub phase: DrainPhase,
    /// When it was told to go, in ms since the Unix epoch.
    pub since_unix_ms: Option<u64>,
    /// For how long resolvers may still send clients, in s.
    pub wait_s: Option<u64>,
    /// How long the clients that are left may take to go, in s.
    pub finish_s: Option<u64>,
    /// The node's process on its machine, `id-start`: while it runs, the node has not ended.
    #[serde(default)]
    pub process: Option<String>,
}
