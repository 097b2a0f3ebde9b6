//! The config of the simulated fleet: three regions of two nodes, one site, everybody in one jurisdiction.

use std::sync::Arc;

use fastrand::Rng;
use region_config::{
    Config, HostPattern, Limits, Node, NodeConfig, PathPattern, Policy, RealmId, Region, RegionId, Route, Site,
    StatusFor, TenantId, WitnessSet,
};

use crate::{
    log::{NAMES, NODES, REGIONS},
    net::{address, jurisdiction, node_id},
    node::site,
};

fn region_id(name: &str) -> RegionId {
    RegionId::parse(name).unwrap_or_else(|_| unreachable!("the name is a name"))
}

/// The witnesses at first where they change: the first of each region.
const OLD: [usize; 3] = [0, 2, 4];

/// A change of the witnesses during a run, in the two steps that an operator takes.
#[derive(Debug, Clone)]
pub struct Change {
    new: Vec<usize>,
}

impl Change {
    /// Draws the new witnesses: three others, or five.
    #[must_use]
    pub fn draw(rng: &mut Rng) -> Self {
        let mut nodes: Vec<usize> = (0..NODES).collect();
        loop {
            rng.shuffle(&mut nodes);
            let count = if rng.u8(0..4) == 0 { 5 } else { 3 };
            let new = nodes[..count].to_vec();
            if !(count == 3 && new.iter().all(|node| OLD.contains(node))) {
                return Self { new };
            }
        }
    }

    /// Whether a node is a witness before or after it.
    #[must_use]
    pub fn touches(&self, node: usize) -> bool {
        OLD.contains(&node) || self.new.contains(&node)
    }

    /// What the config says of it in a version: 1 to 3.
    #[must_use]
    pub fn set(&self, version: u32) -> WitnessSet {
        let named = |nodes: &[usize]| nodes.iter().map(|node| node_id(*node)).collect();
        let (nodes, next) = match version {
            ..=1 => (named(&OLD), Vec::new()),
            2 => (named(&OLD), named(&self.new)),
            3.. => (named(&self.new), Vec::new()),
        };
        WitnessSet { realm: RealmId::global(), version: version.into(), nodes, next, written_at: String::new() }
    }
}

/// The config of one node. With `tight_ms`, all of the site is tight.
#[must_use]
pub fn config(index: usize, tight_ms: Option<u64>, witnesses: Option<WitnessSet>) -> Config {
    let region = |name: &&str| Region {
        name: region_id(name),
        latitude: 0.0,
        longitude: 0.0,
        jurisdiction: jurisdiction(),
        capacity_per_second: None,
        nodes: (0..NODES)
            .filter(|node| REGIONS[*node] == *name)
            .map(|node| Node { name: node_id(node), peer: Some(address(node)), addresses: vec![] })
            .collect(),
    };
    Config {
        node: NodeConfig {
            name: node_id(index),
            region: region_id(REGIONS[index]),
            state_dir: NAMES[index].into(),
            http: vec![],
            https: vec![],
            dns: vec![],
            dns_terms: region_config::DnsTerms::default(),
            admin: None,
            purge: None,
            peer: Some(address(index)),
            identity: None,
            workers: 0,
            memory_bytes: 0,
            disk_bytes: 0,
            geo: region_config::Geo::default(),
            access_log: None,
            resolvers: Vec::new(),
            limits: Limits::default(),
        },
        jurisdictions: vec![],
        regions: ["eu", "us", "ap"].iter().map(region).collect(),
        zones: vec![],
        tenants: vec![],
        sites: vec![Arc::new(Site {
            name: site(),
            tenant: TenantId::parse("acme").unwrap_or_else(|_| unreachable!("the name is a name")),
            hosts: vec![HostPattern::Any],
            pin: None,
            origins: vec![],
            routes: vec![Route {
                path: PathPattern::Prefix(String::new()),
                policy: Policy { max_staleness_ms: tight_ms, ..Policy::default() },
            }],
            tls: None,
            dns_ttl_s: 20,
            steering: region_config::SiteSteering::default(),
            https_port: 443,
            cache_status: StatusFor::All,
            failover_on: Vec::new(),
            purge_by_response: false,
            misrouted_to: None,
            misrouted_tls: region_config::MisroutedTls::Refuse,
        })],
        tokens: vec![],
        witnesses: witnesses.into_iter().collect(),
        streams: vec![],
        fingerprint: [0; 32],
    }
}
