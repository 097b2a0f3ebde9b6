//! What all parts of a running node share: handles made once, and snapshots that are swapped whole.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use http::HeaderValue;
use region_config::{Config, JurisdictionId, NodeId, RegionId};
use rules::{caching::status::CacheName, key::Secret};
use store::objects::Objects;

use crate::{
    edge::sites::Sites,
    fill::{coded::Codings, flight::Flights, slices::Slices},
    geo::Base,
    ledger::Ledgers,
    load::Load,
    observe::Observe,
    origin::Origins,
    peers::{Health, Mesh},
    restart,
    tasks::Tasks,
};

/// Who this node is, by its certificate (or by its config, in a fleet of one).
#[derive(Debug, Clone)]
pub struct Here {
    /// Its name.
    pub node: NodeId,
    /// The region it stands in.
    pub region: RegionId,
    /// The jurisdiction that it is certified for.
    pub jurisdiction: JurisdictionId,
}

/// The node's shared parts. Nothing here is locked while a request waits.
pub struct Shared {
    /// Who this node is.
    pub here: Here,
    /// The config that the node was started with: some of it holds until it is started again.
    pub started_with: Arc<Config>,
    /// The config in force.
    pub config: Arc<ArcSwap<Config>>,
    /// What is wrong with the config that was offered last, and why it is not in force; none if it is.
    pub refused: ArcSwapOption<String>,
    /// The sites in force, by host.
    pub sites: ArcSwap<Sites>,
    /// The secret behind this node's cache keys.
    pub secret: Secret,
    /// What is stored.
    pub objects: Objects,
    /// What is being fetched.
    pub flights: Flights,
    /// The bodies that are being coded.
    pub codings: Codings,
    /// The parts of stored bodies that are being fetched.
    pub slices: Slices,
    /// The origins.
    pub origins: Arc<Origins>,
    /// The purge ledgers, one per realm.
    pub ledgers: Arc<Ledgers>,
    /// The fleet's health.
    pub health: Arc<Health>,
    /// Where clients are on the map; none if neither DNS nor a route asks.
    pub geo: Arc<ArcSwapOption<Base>>,
    /// What is counted.
    pub observe: Arc<Observe>,
    /// What clients ask for against what regions bear.
    pub load: Arc<Load>,
    /// The other nodes; none in a fleet of one.
    pub mesh: Option<Arc<Mesh>>,
    /// What this node calls itself in `Via`; also how it finds a loop.
    pub via: HeaderValue,
    /// What this node calls itself in `Cache-Status`.
    pub cache_name: CacheName,
    /// When it started, in ms since the Unix epoch.
    pub started_unix_ms: u64,
    /// The owner of what runs in the background.
    pub tasks: Tasks,
}

impl Shared {
    /// What of the config in force waits for a restart, as sentences.
    #[must_use]
    pub fn restart_due(&self) -> Vec<String> {
        restart::due(&self.started_with, &self.config.load())
    }
}
