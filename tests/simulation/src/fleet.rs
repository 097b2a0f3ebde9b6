//! The config of the simulated fleet: three regions of two nodes, one site, everybody in one jurisdiction.

use std::sync::Arc;

use region_config::{
    Config, HostPattern, Limits, Node, NodeConfig, PathPattern, Policy, Region, RegionId, Route, Site, StatusFor,
    TenantId,
};

use crate::{
    log::{NAMES, NODES, REGIONS},
    net::{address, jurisdiction, node_id},
    node::site,
};

fn region_id(name: &str) -> RegionId {
    RegionId::parse(name).unwrap_or_else(|_| unreachable!("the name is a name"))
}

/// The config of one node. With `tight_ms`, all of the site is tight.
#[must_use]
pub fn config(index: usize, tight_ms: Option<u64>) -> Config {
    let region = |name: &&str| Region {
        name: region_id(name),
        latitude: 0.0,
        longitude: 0.0,
        jurisdiction: jurisdiction(),
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
            admin: None,
            purge: None,
            peer: Some(address(index)),
            identity: None,
            workers: 0,
            memory_bytes: 0,
            disk_bytes: 0,
            geo_file: None,
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
            cache_status: StatusFor::All,
            failover_on: Vec::new(),
            purge_by_response: false,
        })],
        tokens: vec![],
        witnesses: vec![],
        streams: vec![],
        fingerprint: [0; 32],
    }
}
