//! A decision told to people: the same code path, with what is known of the client and of every region beside it.

use std::net::IpAddr;

use region_config::{Config, RegionId, RegionMask};

use super::{
    address::Block,
    base::{Base, Location},
    decide::{Outcome, Policy, Reason, decide},
    map::{Map, Origin},
    place::Point,
    places::{blended, estimate, micros},
    round_trips::RoundTrip,
    standing::Standing,
    wishes::Wishes,
};
use crate::health::RegionState;

/// A decision, and what it was made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// What the database says about the client's address.
    pub location: Location,
    /// The site's rule for the client, as it is written: whom it is for, and `only` or `prefer`.
    pub rule: Option<(String, &'static str)>,
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

impl Explanation {
    /// The region that is the answer, if one is.
    #[must_use]
    pub fn chosen(&self) -> Option<&RegionId> {
        self.regions.iter().find(|region| region.place == Some(0)).map(|region| &region.region)
    }
}

/// What became of one region.
#[derive(Debug, Clone, PartialEq)]
pub struct RegionExplanation {
    /// Its name.
    pub region: RegionId,
    /// Why it is or is not the answer.
    pub reason: Reason,
    /// Its place in the order, from 0; none if it may not be named.
    pub place: Option<usize>,
    /// Great-circle distance from the client, in kilometres, if it is known where that is.
    pub kilometres: Option<u16>,
    /// The round trip that is estimated from it, with the site's bias and with what was measured, in microseconds.
    pub estimated_us: Option<u32>,
    /// What was measured for clients like this one.
    pub measured: Option<RoundTrip>,
    /// By how many percent its distances are shortened; below 0, lengthened.
    pub bias_percent: i32,
    /// A lower one is named first.
    pub priority: u8,
    /// Its part of the clients beside others, as the site wishes.
    pub weight: Option<u32>,
    /// Which part of the clients of the same list it gets while all are healthy, from 0 to 1, if they are shared out.
    pub share: Option<f64>,
    /// Its state.
    pub state: RegionState,
}

/// Decides as [`decide`] does, and says what led there.
#[must_use]
pub fn explain(
    address: IpAddr,
    reachable: RegionMask,
    (wishes, policy): (&Wishes, &Policy),
    map: &Map,
    standing: &Standing,
    (config, base): (&Config, &Base),
) -> Explanation {
    let decision = decide(address, reachable, policy, map, standing);
    let location = base.location(address);
    let explained = |(index, region): (usize, &region_config::Region)| {
        let kilometres = kilometres(location.point, region);
        let (measured, stretch) = (base.round_trips().find(&location, &region.name), wishes.stretch(index));
        let cost = |kilometres| match measured {
            Some(trip) => blended(trip, kilometres, stretch),
            None => estimate(kilometres, stretch),
        };
        RegionExplanation {
            region: region.name.clone(),
            reason: decision.reason(index),
            place: decision.order().position(|listed| listed == index),
            kilometres,
            estimated_us: kilometres.map(|kilometres| micros(cost(kilometres))),
            measured,
            bias_percent: 100 - i32::from(wishes.stretch(index)),
            priority: wishes.priority(index),
            weight: wishes.weight(index),
            share: decision.share(index),
            state: standing.state(index),
        }
    };
    let rule = wishes.rule(address, &location);
    Explanation {
        location,
        rule: rule.map(|rule| (rule.whom.to_string(), rule.force.as_str())),
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
