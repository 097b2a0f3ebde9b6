//! A decision told to people: the same code path, with what is known of the client and of every region beside it.

use std::net::IpAddr;

use region_config::{Config, RegionId, RegionMask};

use super::{
    address::Block,
    base::{Base, Location},
    decide::{Outcome, Policy, Reason, Standing, decide},
    map::{Map, Origin},
    place::Point,
};
use crate::health::RegionState;

/// A decision, and what it was made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// What the database says about the client's address.
    pub location: Location,
    /// What the regions were ordered by, before health.
    pub origin: Origin,
    /// The addresses that get the same answer.
    pub block: Block,
    /// How it came out.
    pub outcome: Outcome,
    /// For how long the answer may be kept, in seconds.
    pub ttl_s: u32,
    /// Every region exactly once, in the order of the config.
    pub regions: Vec<RegionExplanation>,
}

/// What became of one region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionExplanation {
    /// Its name.
    pub region: RegionId,
    /// Why it is or is not the answer.
    pub reason: Reason,
    /// Its place in the order, from 0; none if it may not be named.
    pub place: Option<usize>,
    /// Great-circle distance from the client, in kilometres, if it is known where that is.
    pub kilometres: Option<u16>,
    /// Its state.
    pub state: RegionState,
}

/// Decides as [`decide`] does, and says what led there.
#[must_use]
pub fn explain(
    address: IpAddr,
    reachable: RegionMask,
    policy: &Policy,
    map: &Map,
    standing: &Standing,
    (config, base): (&Config, &Base),
) -> Explanation {
    let decision = decide(address, reachable, policy, map, standing);
    let location = base.location(address);
    let explained = |(index, region): (usize, &region_config::Region)| RegionExplanation {
        region: region.name.clone(),
        reason: decision.reason(index),
        place: decision.order().position(|listed| listed == index),
        kilometres: kilometres(location.point, region),
        state: standing.state(index),
    };
    Explanation {
        location,
        origin: map.origin(&location),
        block: decision.block(address),
        outcome: decision.outcome,
        ttl_s: decision.ttl_s,
        regions: config.regions.iter().enumerate().map(explained).collect(),
    }
}

fn kilometres(from: Option<Point>, region: &region_config::Region) -> Option<u16> {
    Some(from?.kilometres(Point::from_degrees(region.latitude, region.longitude)?))
}
