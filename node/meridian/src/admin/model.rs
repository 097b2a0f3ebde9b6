//! What the admin API says and takes, as JSON. The OpenAPI document, and from it the UI's types, are made of these.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

mod debug;
mod drain;
mod forced;
mod geo;
mod ledgers;
mod purges;
mod steering;
mod what_if;

pub use debug::{DebugToken, DebugTokenOrder, DebugTokens, Trail};
pub use drain::{DrainOrder, DrainPhase, DrainState};
pub use forced::{ForceAnswer, ForceOrder, Forced, ForcedAll, ForcedState};
pub use geo::{GeoAcceptOrder, GeoAlarm, GeoEdition, GeoHeld, GeoState};
pub use ledgers::{Backlog, RealmLedger, WitnessHeard};
pub use purges::{
    Audit, AuditEntry, AuditOutcome, Purge, PurgeAnswer, PurgeAnswers, PurgeBatch, PurgeMode, PurgeNode,
    PurgeNodeState, PurgeOrder, PurgeOrdered, PurgeScope, PurgeSignature, PurgeState, PurgeStored, PurgeWait, Purges,
    SignedPurge,
};
pub use steering::{RouteOrder, SteeredFrom, SteeredRegion, Steering, SteeringEpochs};
pub use what_if::{BeforeAfter, WhatIf, WhatIfClient, WhatIfFile, WhatIfOrder, WhatIfRegion, WhatIfSite};

/// The fleet as this node sees it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Fleet {
    /// The node that answers.
    pub node: String,
    /// The region that it stands in.
    pub region: String,
    /// This node's wall clock, in ms since the Unix epoch.
    pub now_unix_ms: u64,
    /// Counts the changes of verdict on this node.
    pub epoch: u64,
    /// Whether this node sees fewer than half of the regions, and therefore keeps the last verdicts.
    pub minority: bool,
    /// All regions, in the order of the config.
    pub regions: Vec<Region>,
}

/// A region and the verdict on it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Region {
    /// Its name.
    pub name: String,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// The legal area it lies in.
    pub jurisdiction: String,
    /// The verdict, with what is forced.
    pub state: RegionState,
    /// The verdict without what is forced.
    #[serde(default = "unknown")]
    pub observed: RegionState,
    /// What an operator forces it to be.
    #[serde(default)]
    pub forced: Option<Forced>,
    /// Whether a change of verdict is in the making.
    pub pending: bool,
    /// When the verdict last changed, in ms since the Unix epoch; 0 if it never did.
    pub since_unix_ms: u64,
    /// What part of the clients it is first for it gets while others are as healthy, in percent: less than 100 for a minute
    /// after it came back.
    #[serde(default = "whole_percent")]
    pub part_percent: u8,
    /// What it is asked for against what it bears; none where no region says what it bears.
    #[serde(default)]
    pub load: Option<RegionLoad>,
    /// What each region says of it.
    pub votes: Vec<Vote>,
    /// Its nodes.
    pub nodes: Vec<Node>,
}

/// What a region is asked for against what it bears, as this node knows it from all.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RegionLoad {
    /// Requests in a second of the clients that it is first for among the regions that are not down.
    pub demand_per_second: f64,
    /// What it gets of these and of those that others give up, once clients are where DNS leads them.
    pub led_per_second: f64,
    /// What it bears, if the config says so.
    pub capacity_per_second: Option<f64>,
    /// Whether DNS leads some of its clients on to other regions, since there would be more than it bears.
    pub gives: bool,
}

/// What a node of an older version does.
fn whole_percent() -> u8 {
    rules::health::WHOLE_PERCENT
}

/// What a node of an older version says.
fn unknown() -> RegionState {
    RegionState::Unknown
}

/// The verdict on a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RegionState {
    /// Healthy.
    Up,
    /// Several observers fail to reach it, or most of its nodes are down.
    Degraded,
    /// Told to give up its clients.
    Draining,
    /// Nobody has said anything yet.
    Unknown,
    /// A quorum of regions cannot reach it.
    Down,
}

/// What one region says of another.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Vote {
    /// The region that says it.
    pub observer: String,
    /// Whether it reaches the other.
    pub healthy: bool,
}

/// A node as this node sees it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Whether it answers probes, with what is forced.
    pub state: NodeState,
    /// What an operator forces it to be.
    #[serde(default)]
    pub forced: Option<Forced>,
    /// Round trip of the last probe, in us; none for this node itself.
    pub rtt_us: Option<u32>,
    /// Whether it says that it is ready to serve; none if it did not answer.
    pub ready: Option<bool>,
    /// Addresses that DNS gives out for it.
    pub addresses: Vec<String>,
    /// How purges stand on it, for each realm that it and the node that answers are both members of; nothing if it did not
    /// answer.
    #[serde(default)]
    pub ledgers: Vec<RealmLedger>,
}

/// Whether a node answers probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// It does.
    Up,
    /// It does, and is not ready for clients yet.
    Starting,
    /// It does, and was told to give up its clients.
    Draining,
    /// Not heard of yet.
    Unknown,
    /// It does not.
    Down,
}

/// All sites with the counters of all nodes that answered.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Sites {
    /// When the counters were read, in ms since the Unix epoch.
    pub read_unix_ms: u64,
    /// The nodes whose counters are in the sums.
    pub nodes: Vec<String>,
    /// The nodes that did not answer in time: their requests are missing from the sums.
    pub missing: Vec<String>,
    /// The sites, in the order of the config.
    pub sites: Vec<Site>,
}

/// A site with its counters.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Site {
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub tenant: String,
    /// The jurisdiction that its data may not leave.
    pub pin: Option<String>,
    /// The hosts it answers for.
    pub hosts: Vec<String>,
    /// All nodes together.
    pub total: Counters,
    /// What the cache is worth to the site.
    #[serde(default)]
    pub worth: Worth,
    /// Why requests were not hits, most frequent first.
    pub not_hit: Vec<ReasonCount>,
    /// Why responses were not stored, most frequent first.
    pub not_stored: Vec<ReasonCount>,
    /// Each node that has counted something.
    pub nodes: Vec<NodeCounters>,
}

/// What a cache is worth to a site, since the processes started.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Worth {
    /// The share of requests that shared another one's fetch; none without requests.
    pub collapse_ratio: Option<f64>,
    /// The share of requests for which nothing was fetched; none without requests. Below 0 where more is fetched than asked for.
    pub offload: Option<f64>,
    /// Requests that were answered with something stale, where that is allowed.
    pub stale_served: u64,
    /// Requests that were held back to spare the node or the origin, and answered with an error.
    pub shed: u64,
}

/// One node's counters of a site.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct NodeCounters {
    /// The node.
    pub node: String,
    /// The region that it stands in.
    pub region: String,
    /// Its counters.
    pub counters: Counters,
}

/// Counters since the process started, and means over the last 10 s.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Counters {
    /// All requests.
    pub requests: u64,
    /// Requests answered from cache without waiting for anybody: fresh or stale.
    pub hits: u64,
    /// Requests by what became of them.
    pub outcomes: BTreeMap<String, u64>,
    /// The share of hits among the requests that were not refused; none if there were none.
    pub hit_ratio: Option<f64>,
    /// The same over the last 10 s.
    pub recent_hit_ratio: Option<f64>,
    /// Requests per second over the last 10 s.
    pub requests_per_s: f64,
    /// Bytes of bodies sent per second over the last 10 s.
    pub bytes_per_s: f64,
    /// Bytes of bodies sent to clients.
    pub bytes_out: u64,
    /// Times the origin was asked.
    pub origin_fetches: u64,
    /// Requests that waited for another one's fill.
    pub collapsed: u64,
    /// Responses stored.
    pub stored: u64,
}

/// How often a reason was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReasonCount {
    /// The reason's word, as in `Cache-Status`, metrics and log.
    pub reason: String,
    /// What it means, in a sentence.
    pub meaning: String,
    /// What an operator can do about it.
    #[serde(default)]
    pub advice: String,
    /// How often.
    pub count: u64,
}

/// This node's own state.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Its name.
    pub node: String,
    /// The region that it stands in.
    pub region: String,
    /// The jurisdiction that its certificate states (in a fleet of one: its region's).
    pub jurisdiction: String,
    /// The version that runs.
    pub version: String,
    /// When the process started, in ms since the Unix epoch.
    pub started_unix_ms: u64,
    /// For how long it has run, in s.
    pub uptime_s: u64,
    /// Fingerprint of the fleet's config, in hex: nodes with the same one agree.
    pub config_fingerprint: String,
    /// Resident memory in bytes; none where the system does not tell.
    pub memory_bytes: Option<u64>,
    /// Open file descriptors; none where the system does not tell.
    pub open_files: Option<u64>,
    /// What it listens on.
    pub listeners: Vec<Listener>,
    /// What an operator should look at.
    pub warnings: Vec<String>,
}

/// An address that a node listens on.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Listener {
    /// What for: `http`, `https`, `dns`, `admin` or `peer`.
    pub purpose: String,
    /// Address and port.
    pub address: String,
}

/// A request to explain.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainOrder {
    /// The URL, absolute.
    pub url: String,
    /// The method.
    #[serde(default = "method_default")]
    pub method: String,
    /// Header fields of the request.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// An address: which regions would DNS give to a client there?
    #[serde(default)]
    pub client: Option<String>,
}

fn method_default() -> String {
    "GET".into()
}

/// What this node would do with a request, and why.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// The site that answers for the host; none if the request is refused before that is known.
    pub site: Option<String>,
    /// Whose it is.
    pub tenant: Option<String>,
    /// The jurisdiction that its data may not leave.
    pub pin: Option<String>,
    /// The steps, in their order: what was decided and why.
    pub steps: Vec<Step>,
    /// What the cache key is made of; none if the request is not looked up.
    pub key: Option<KeyParts>,
    /// What `Cache-Status` would say, as far as that is known without asking anybody; none if nothing.
    #[serde(default)]
    pub cache_status: Option<String>,
    /// The regions that DNS would name; none if no address was given.
    pub steering: Option<Steering>,
}

/// One decision on the way of a request.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Step {
    /// Which: `residency`, `route`, `lookup`, `key`, `stored`, `lifetime`, `purges`, `decision`, `coding`, `body`, `origin`; of a
    /// request that was answered also `memory`, `fetch`, `fetched`.
    pub step: String,
    /// What was decided.
    pub verdict: String,
    /// The reason's word, as in `Cache-Status`; none where there is no choice.
    pub reason: Option<String>,
    /// In a sentence.
    pub detail: String,
    /// What an operator can do about the reason; none without one.
    #[serde(default)]
    pub advice: Option<String>,
    /// How long after the request came, in us; none if it never came.
    #[serde(default)]
    pub after_us: Option<u32>,
}

/// What a cache key is made of.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct KeyParts {
    /// Whose it is.
    pub tenant: String,
    /// The site.
    pub site: String,
    /// `http` or `https`.
    pub scheme: String,
    /// Host and port, as the request names them.
    pub host: String,
    /// The path, normalised.
    pub path: String,
    /// The query, normalised, as far as the route leaves it; none if there is none.
    pub query: Option<String>,
    /// Path and query as they were asked for.
    #[serde(default)]
    pub original: String,
    /// What the route leaves out of the query, in the order it came.
    #[serde(default)]
    pub left_out: Vec<LeftOut>,
    /// What the route has in the key beside the URL.
    #[serde(default)]
    pub declared: Vec<DeclaredPart>,
    /// The node of this node's region that owns the object.
    pub owner: Option<String>,
}

/// A parameter that is in no key, and that the origin does not get.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LeftOut {
    /// The parameter, with its value.
    pub parameter: String,
    /// Why: `not-allowed`, `denied`, `tracking`, `empty`.
    pub why: String,
}

/// A part of a key that a route declares.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DeclaredPart {
    /// Which: `header x-plan`, `cookie plan`.
    pub part: String,
    /// What the request has for it, as the origin gets it; none if it has nothing.
    pub value: Option<String>,
}

/// Whether this node can serve, part by part.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Readiness {
    /// Whether all parts are ready.
    pub ready: bool,
    /// The parts.
    pub parts: Vec<Part>,
}

/// A part that must be ready before a node serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Part {
    /// Its name: `config`, `ledger`, `listeners`, `disk`.
    pub part: String,
    /// Whether it is ready.
    pub ready: bool,
    /// What it waits for, or does without; none if there is nothing to say.
    pub detail: Option<String>,
}
