//! Debug tokens and trails as the API says them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Step;

/// A debug token to make.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DebugTokenOrder {
    /// The site that it is for.
    pub site: String,
    /// For how long it lives, in minutes: 1 to 60.
    #[serde(default = "minutes_default")]
    pub minutes: u64,
}

fn minutes_default() -> u64 {
    60
}

/// A debug token: requests of clients that send it as `X-Meridian-Debug` leave a trail.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DebugToken {
    /// What it is revoked by: 16 hex digits.
    pub id: String,
    /// The site that it is for.
    pub site: String,
    /// The token itself; told when it is made, and never again.
    pub token: Option<String>,
    /// When it ends, in ms since the Unix epoch.
    pub expires_unix_ms: u64,
}

/// The debug tokens that live on a node.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DebugTokens {
    /// The tokens, without their secrets.
    pub tokens: Vec<DebugToken>,
}

/// What a node did with a request, and why.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Trail {
    /// The request's id: 32 hex digits.
    pub id: String,
    /// The site.
    pub site: String,
    /// When it came, in ms since the Unix epoch.
    pub unix_ms: u64,
    /// Its method.
    pub method: String,
    /// Its host and target.
    pub url: String,
    /// The answer's status.
    pub status: u16,
    /// What became of it, as its site counts it.
    pub outcome: String,
    /// Why it was no fresh hit; none if it was.
    pub reason: Option<String>,
    /// What an operator can do about the reason; none without one.
    pub advice: Option<String>,
    /// What `Cache-Status` said.
    pub cache_status: String,
    /// Time to the answer's head, in us.
    pub micros: u32,
    /// The steps, in their order.
    pub steps: Vec<Step>,
}
