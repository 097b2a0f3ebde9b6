//! The geo databases of a node, as the API says and takes it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The geo databases that a node uses, and what is wrong with those on disk.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct GeoState {
    /// What is in use; empty if nothing that the node does asks for places.
    pub editions: Vec<GeoEdition>,
    /// What an operator should look at.
    pub alarms: Vec<GeoAlarm>,
    /// Files that wait for an operator's word.
    pub held: Vec<GeoHeld>,
}

/// A geo database in use.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct GeoEdition {
    /// `places` or `networks`.
    pub wanted: String,
    /// The file; none if it is built in.
    pub file: Option<String>,
    /// What it says it is.
    pub kind: String,
    /// When its data were put together, in s since the Unix epoch.
    pub built_unix_s: u64,
    /// Its networks, of both families.
    pub networks: u64,
}

/// What is wrong with geo databases.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct GeoAlarm {
    /// `refused`, `held`, `old`, `one-family` or `no-networks`.
    pub alarm: String,
    /// What was found.
    pub detail: String,
}

/// A file that is sound, and suspicious.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct GeoHeld {
    /// The file.
    pub file: String,
    /// The BLAKE3 sum of its contents, in hexadecimal: what an order to take it has to name.
    pub sum: String,
    /// What speaks against it.
    pub why: Vec<String>,
}

/// An order to take a file that is held back.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GeoAcceptOrder {
    /// The sum of the contents that are meant.
    pub sum: String,
}
