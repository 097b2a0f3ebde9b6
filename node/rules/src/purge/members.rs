//! Who belongs to a realm, and which of them keep its log.

use region_config::{Config, NodeId, RealmId, RegionId, STREAM_WITNESS};

use super::roll::Roll;
use crate::residency;

pub use region_config::WITNESSES_MAX;

/// Witnesses that are chosen where the operator names none.
const WITNESSES_DEFAULT: usize = 3;

/// The nodes that the config counts to a realm, with their regions, in the order of the config. What a node may
/// really do is decided by its certificate.
#[must_use]
pub fn members(config: &Config, realm: &RealmId) -> Vec<(NodeId, RegionId)> {
    let regions = config.regions.iter().filter(|region| residency::member(realm, &region.jurisdiction));
    regions.flat_map(|region| region.nodes.iter().map(|node| (node.name.clone(), region.name.clone()))).collect()
}

/// The witnesses of a realm: those that its [`Roll`] names.
#[must_use]
pub fn witnesses(config: &Config, realm: &RealmId) -> Vec<NodeId> {
    Roll::of(config, realm).witnesses()
}

/// The one witness of a realm whose log is a stream; no node is one then.
pub(super) fn stream(config: &Config, realm: &RealmId) -> Option<NodeId> {
    config.streams.iter().find(|stream| stream.realm == *realm)?;
    NodeId::parse(STREAM_WITNESS).ok()
}

/// Those of `named` that are members of the realm.
pub(super) fn inside(config: &Config, realm: &RealmId, named: &[NodeId]) -> Vec<NodeId> {
    let members = members(config, realm);
    let inside = named.iter().filter(|node| members.iter().any(|(name, _)| name == *node));
    inside.take(WITNESSES_MAX).cloned().collect()
}

/// The witnesses of a realm for which none are named: all members if there are at most three, or three in regions as
/// different as can be. The same on every node with the same config.
pub(super) fn derived(config: &Config, realm: &RealmId) -> Vec<NodeId> {
    let members = members(config, realm);
    // the first node of each region, then the second ones, and so on
    let mut ranked: Vec<(usize, &NodeId)> = Vec::with_capacity(members.len());
    for (index, (node, region)) in members.iter().enumerate() {
        ranked.push((members[..index].iter().filter(|(_, other)| other == region).count(), node));
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().take(WITNESSES_DEFAULT).map(|(_, node)| node.clone()).collect()
}

/// How many of `witnesses` are a majority.
#[must_use]
pub fn majority(witnesses: usize) -> usize {
    witnesses / 2 + 1
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use region_config::{JurisdictionId, Limits, Node, NodeConfig, Region, WitnessSet};

    use super::*;

    fn config(regions: &[(&str, &str, &[&str])]) -> Config {
        let node = |name: &&str| Node { name: NodeId::parse(name).unwrap(), peer: None, addresses: vec![] };
        let region = |(name, jurisdiction, nodes): &(&str, &str, &[&str])| Region {
            name: RegionId::parse(name).unwrap(),
            latitude: 0.0,
            longitude: 0.0,
            jurisdiction: JurisdictionId::parse(jurisdiction).unwrap(),
            capacity_per_second: None,
            nodes: nodes.iter().map(node).collect(),
        };
        Config {
            node: NodeConfig {
                name: NodeId::parse("a1").unwrap(),
                region: RegionId::parse("a").unwrap(),
                state_dir: ".".into(),
                http: vec![],
                https: vec![],
                dns: vec![],
                dns_terms: region_config::DnsTerms::default(),
                admin: None,
                peer: None,
                identity: None,
                workers: 0,
                memory_bytes: 0,
                disk_bytes: 0,
                geo: region_config::Geo::default(),
                access_log: None,
                purge: None,
                resolvers: Vec::new(),
                limits: Limits::default(),
            },
            jurisdictions: vec![],
            regions: regions.iter().map(region).collect(),
            zones: vec![],
            tenants: vec![],
            sites: vec![],
            tokens: Vec::new(),
            witnesses: vec![],
            streams: vec![],
            fingerprint: [0; 32],
        }
    }

    fn names(nodes: &[NodeId]) -> Vec<&str> {
        nodes.iter().map(NodeId::as_str).collect()
    }

    #[test]
    fn witnesses_are_spread_over_regions() {
        let fleet = config(&[("a", "eu", &["a1", "a2"]), ("b", "us", &["b1", "b2"]), ("c", "sg", &["c1", "c2"])]);
        assert_eq!(names(&witnesses(&fleet, &RealmId::global())), ["a1", "b1", "c1"]);
        let eu = RealmId::pinned(&JurisdictionId::parse("eu").unwrap());
        assert_eq!(names(&witnesses(&fleet, &eu)), ["a1", "a2"]);
        let two = config(&[("a", "eu", &["a1", "a2", "a3"]), ("b", "us", &["b1"])]);
        assert_eq!(names(&witnesses(&two, &RealmId::global())), ["a1", "b1", "a2"]);
    }

    #[test]
    fn named_witnesses_count_only_inside_the_realm() {
        let mut fleet = config(&[("a", "eu", &["a1", "a2"]), ("b", "us", &["b1"])]);
        let eu = RealmId::pinned(&JurisdictionId::parse("eu").unwrap());
        let named = ["a2", "b1"].map(|name| NodeId::parse(name).unwrap()).to_vec();
        let set = |realm: &RealmId| WitnessSet {
            realm: realm.clone(),
            version: 1,
            nodes: named.clone(),
            next: vec![],
            written_at: String::new(),
        };
        fleet.witnesses = vec![set(&eu), set(&RealmId::global())];
        assert_eq!(names(&witnesses(&fleet, &eu)), ["a2"]);
        assert_eq!(names(&witnesses(&fleet, &RealmId::global())), ["a2", "b1"]);
    }

    #[test]
    fn two_majorities_always_meet() {
        for n in 1..=WITNESSES_MAX {
            assert!(2 * majority(n) > n);
        }
    }
}
