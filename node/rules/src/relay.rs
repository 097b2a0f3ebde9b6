//! A client's TLS connection that came to a node which may not have the site's data, and is passed on sealed: to which nodes.

use std::{cmp::Reverse, net::IpAddr};

use region_config::{Config, JurisdictionId, MisroutedTls, NodeId, REGIONS_MAX, RegionId, RegionMask, Site};

use crate::{
    health::{Fleet, NodeState, RegionState},
    key, residency,
    steering::{Block, Point, Wishes, block_hash},
};

/// Most nodes that are tried for one connection.
pub const TRIES_MAX: usize = 4;
/// And of one region, while there is another: all of its nodes may have no room, or not know of the site yet.
const TRIES_OF_REGION: usize = 3;

/// The bits of a client's address that choose among a region's nodes: those that resolvers send too, so that a client's next
/// connection finds the node that gave it its session tickets.
const PREFIX_BITS: (u8, u8) = (24, 56);

/// The regions that a site's connections are relayed to from one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ways {
    /// What a node has to be certified for.
    pin: JurisdictionId,
    /// The nearest first, as the config has them.
    regions: Vec<Way>,
}

/// One region of them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Way {
    name: RegionId,
    /// Whether it is for when all others are down.
    fallback: bool,
    kilometres: u16,
}

impl Ways {
    /// The ways from a node in region `here` that is certified for `jurisdiction`; none if the site is not to be relayed from
    /// there. The same regions as DNS names, in the order of distance.
    #[must_use]
    pub fn of(config: &Config, site: &Site, here: &RegionId, jurisdiction: &JurisdictionId) -> Option<Self> {
        let pin = site.pin.as_ref().filter(|pin| *pin != jurisdiction)?;
        if site.misrouted_tls != MisroutedTls::Relay {
            return None;
        }
        let wishes = Wishes::of(config, site, RegionMask::MAX);
        let policy = wishes.policy(site.dns_ttl_s);
        // once more what residency says, whatever the wishes have become
        let nameable = wishes.nameable() & residency::eligible(config, site);
        let point = |name: &RegionId| {
            let region = config.regions.iter().find(|region| region.name == *name)?;
            Point::from_degrees(region.latitude, region.longitude)
        };
        let from = point(here);
        let mut regions: Vec<Way> = (config.regions.iter().enumerate().take(REGIONS_MAX))
            .filter(|(index, _)| nameable >> index & 1 == 1)
            .map(|(index, region)| Way {
                name: region.name.clone(),
                fallback: policy.eligible >> index & 1 == 0,
                kilometres: from.zip(point(&region.name)).map_or(u16::MAX, |(from, to)| from.kilometres(to)),
            })
            .collect();
        regions.sort_by(|a, b| (a.fallback, a.kilometres, &a.name).cmp(&(b.fallback, b.kilometres, &b.name)));
        Some(Self { pin: pin.clone(), regions })
    }

    /// What a node's certificate has to say, before it is sent anything.
    #[must_use]
    pub fn pin(&self) -> &JurisdictionId {
        &self.pin
    }

    /// The nodes to try for a client, in this order, at most [`TRIES_MAX`]: those of healthy regions first, of these the nearest,
    /// and in a region those that serve; the last place is for another region. A node that does not answer comes last and is tried all the same: being
    /// asked once too often costs it nothing.
    #[must_use]
    pub fn nodes(&self, config: &Config, fleet: &Fleet, client: IpAddr) -> Vec<NodeId> {
        let bits = if client.is_ipv4() { PREFIX_BITS.0 } else { PREFIX_BITS.1 };
        let placement = block_hash(Block::around(client, bits));
        let mut found = Vec::new();
        for (order, way) in self.regions.iter().enumerate() {
            // the config may have been replaced since the ways were compiled, and by one with another order
            let region = config.regions.iter().find(|region| region.name == way.name);
            let Some(region) = region.filter(|region| region.jurisdiction == self.pin) else { continue };
            let view = fleet.region(&way.name);
            let state = view.map_or(RegionState::Unknown, |view| view.state);
            for node in &region.nodes {
                let seen = view.and_then(|view| view.nodes.iter().find(|seen| seen.name == node.name));
                let rank = rank(seen.map_or(NodeState::Unknown, |seen| seen.state));
                let chance = Reverse(key::weight(placement, &node.name));
                found.push((
                    (rank == SILENT, state == RegionState::Down, way.fallback),
                    (state, order, rank, chance),
                    &node.name,
                ));
            }
        }
        found.sort();
        let (mut within, mut beyond) = (Vec::new(), Vec::new());
        for (_, (_, region, ..), node) in found {
            let taken = within.iter().filter(|(of, _)| *of == region).count();
            if taken < TRIES_OF_REGION { &mut within } else { &mut beyond }.push((region, node));
        }
        within.into_iter().chain(beyond).take(TRIES_MAX).map(|(_, node)| node.clone()).collect()
    }
}

/// The rank of nodes that do not answer.
const SILENT: u8 = 3;

fn rank(state: NodeState) -> u8 {
    match state {
        NodeState::Up => 0,
        NodeState::Draining => 1,
        NodeState::Starting | NodeState::Unknown => 2,
        NodeState::Down => SILENT,
    }
}

/// Whether a node certified for `here` may take what another node relays for a site: it is pinned to its own jurisdiction, and
/// the operator wants it relayed. Everything else has no business in a relayed connection.
#[must_use]
pub fn may_take(site: &Site, here: &JurisdictionId) -> bool {
    site.misrouted_tls == MisroutedTls::Relay && site.pin.as_ref() == Some(here)
}

#[cfg(test)]
mod tests;
