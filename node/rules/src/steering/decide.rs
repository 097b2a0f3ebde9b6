//! The decision: which regions, in which order, why, for how long, and for whom else.

use std::net::IpAddr;

use region_config::{REGIONS_MAX, RegionMask};

use super::{
    address::Block,
    map::{Map, Origin},
};
use crate::health::{Fleet, NodeState, RegionState};

/// TTL of an answer that is expected to change soon, in seconds.
const HASTY_TTL_S: u32 = 10;
/// Bounds of every TTL, in seconds.
const TTL_S: (u32, u32) = (5, 300);

/// What a site demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The regions that may be named, from [`crate::residency::eligible`].
    pub eligible: RegionMask,
    /// TTL of answers in quiet times, in seconds.
    pub ttl_s: u32,
}

/// The fleet's health as masks of regions: made once per change, read per question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Up, Degraded, Draining, Unknown, Down: disjoint, and together all regions.
    classes: [RegionMask; 5],
    /// Regions whose verdict is about to change.
    pending: RegionMask,
    /// For each region, its nodes that are Up, and those that are not known to be Down; by their index in the region.
    nodes: Vec<(u64, u64)>,
}

impl Standing {
    /// The masks of a fleet; a region or node that it does not mention is Unknown.
    #[must_use]
    pub fn of(fleet: &Fleet) -> Self {
        let mut standing = Self { classes: [0; 5], pending: 0, nodes: Vec::with_capacity(fleet.regions.len()) };
        for (index, region) in fleet.regions.iter().enumerate().take(REGIONS_MAX) {
            standing.classes[class(region.state)] |= 1 << index;
            standing.pending |= u64::from(region.pending) << index;
            let mask = |state: NodeState| {
                let having = region.nodes.iter().enumerate().take(64).filter(|(_, node)| node.state == state);
                having.fold(0u64, |mask, (at, _)| mask | 1 << at)
            };
            standing.nodes.push((mask(NodeState::Up), !mask(NodeState::Down)));
        }
        let mentioned = standing.classes.iter().fold(0, |all, class| all | class);
        standing.classes[class(RegionState::Unknown)] |= !mentioned;
        standing
    }

    /// The nodes of a region that are Up, and those that are not known to be Down.
    #[must_use]
    pub fn nodes(&self, region: usize) -> (u64, u64) {
        self.nodes.get(region).copied().unwrap_or((0, u64::MAX))
    }

    /// A region's state.
    #[must_use]
    pub fn state(&self, region: usize) -> RegionState {
        let at = self
            .classes
            .iter()
            .position(|class| class.checked_shr(u32::try_from(region).unwrap_or(64)).unwrap_or(0) & 1 == 1);
        STATES[at.unwrap_or(class(RegionState::Unknown))]
    }
}

/// The states in the order of preference.
const STATES: [RegionState; 5] =
    [RegionState::Up, RegionState::Degraded, RegionState::Draining, RegionState::Unknown, RegionState::Down];

const fn class(state: RegionState) -> usize {
    match state {
        RegionState::Up => 0,
        RegionState::Degraded => 1,
        RegionState::Draining => 2,
        RegionState::Unknown => 3,
        RegionState::Down => 4,
    }
}

/// Regions in order, best first; a list without allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    regions: [u8; REGIONS_MAX],
    length: u8,
}

impl Order {
    const EMPTY: Self = Self { regions: [0; REGIONS_MAX], length: 0 };

    fn push(&mut self, region: u8) {
        if let Some(place) = self.regions.get_mut(usize::from(self.length)) {
            *place = region;
            self.length += 1;
        }
    }

    /// The regions' indices in the config, best first.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.regions[..usize::from(self.length)]
    }

    fn mask(&self) -> RegionMask {
        self.as_slice().iter().fold(0, |mask, region| mask | 1 << (region & 63))
    }
}

/// How the decision came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The region of first choice.
    Normal,
    /// Another one, since the first choice is less healthy.
    Failover,
    /// All legal regions are down: the one of first choice all the same, since a wrong verdict must not blank a name.
    FailStatic,
    /// No region may be named.
    Refuse(Refusal),
}

impl Outcome {
    /// The word for it in logs, metrics, API and screens.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Failover => "failover",
            Self::FailStatic => "fail-static",
            Self::Refuse(Refusal::NoRegion) => "no-region",
            Self::Refuse(Refusal::NoAddress) => "no-address",
            Self::Refuse(Refusal::Invariant) => "invariant-violated",
        }
    }
}

/// Why no region may be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No region lies where the site's data must stay.
    NoRegion,
    /// No legal region has an address of the family that was asked for.
    NoAddress,
    /// The last check found a region outside the mask: a fault of this program, which must never become an answer.
    Invariant,
}

/// What became of one region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reason {
    /// It is the answer.
    Chosen,
    /// As healthy as the chosen one, and later in the list.
    Later,
    /// Behind the chosen one because some observers fail to reach it.
    Degraded,
    /// Behind the chosen one because it gives up its clients.
    Draining,
    /// Behind the chosen one because nobody has said anything about it yet.
    Unknown,
    /// Behind the chosen one because it is down.
    Down,
    /// It has no address of the family that was asked for.
    NoAddress,
    /// The site's data may not be there.
    Outside,
}

impl Reason {
    /// The word for it in logs, metrics, API and screens.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chosen => "chosen",
            Self::Later => "later",
            Self::Degraded => "degraded",
            Self::Draining => "draining",
            Self::Unknown => "unknown",
            Self::Down => "down",
            Self::NoAddress => "no-address",
            Self::Outside => "outside",
        }
    }

    /// What it means, as a sentence.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Chosen => "The region is the answer.",
            Self::Later => "The region is as healthy as the chosen one, but stands later in the list.",
            Self::Degraded => "Some observers fail to reach the region, so healthier ones go first.",
            Self::Draining => "The region gives up its clients, so others go first.",
            Self::Unknown => "Nobody has said anything about the region yet, so known ones go first.",
            Self::Down => "The region is down, so all others go first.",
            Self::NoAddress => "The region has no address of the family that was asked for.",
            Self::Outside => "The region lies outside the jurisdiction that the site's data may not leave.",
        }
    }
}

/// What a client is told, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// How it came out.
    pub outcome: Outcome,
    /// The regions that may be named, best first. Empty exactly if the outcome is a refusal.
    pub order: Order,
    /// What the list behind it was ordered by.
    pub origin: Origin,
    /// How many leading bits of the client's address the answer depends on (RFC 7871): all addresses that share them get
    /// the same answer. Independent of health.
    pub scope: u8,
    /// For how long the answer may be kept, in seconds.
    pub ttl_s: u32,
    reasons: [Reason; REGIONS_MAX],
}

impl Decision {
    /// The region that is the answer, by its index in the config.
    #[must_use]
    pub fn region(&self) -> Option<usize> {
        self.order.as_slice().first().map(|region| usize::from(*region))
    }

    /// What became of a region, by its index in the config.
    #[must_use]
    pub fn reason(&self, region: usize) -> Reason {
        self.reasons.get(region).copied().unwrap_or(Reason::Outside)
    }

    /// The addresses that get the same answer as `address`.
    #[must_use]
    pub fn block(&self, address: IpAddr) -> Block {
        Block::around(address, self.scope)
    }
}

/// The mask of the first `count` regions.
#[must_use]
pub fn regions_up_to(count: usize) -> RegionMask {
    u32::try_from(count).ok().and_then(|count| RegionMask::MAX.checked_shl(count)).map_or(RegionMask::MAX, |high| !high)
}

/// Decides where a client at `address` is sent.
///
/// `reachable` are the regions that have an address of the family that was asked for. `map` must have been compiled for
/// `policy.eligible`; what it holds beyond that is never named. Allocates nothing.
#[must_use]
pub fn decide(address: IpAddr, reachable: RegionMask, policy: &Policy, map: &Map, standing: &Standing) -> Decision {
    let listed = map.listed(address);
    let legal = policy.eligible & reachable;
    let mut decision = Decision {
        outcome: Outcome::Normal,
        order: Order::EMPTY,
        origin: listed.origin,
        scope: listed.scope,
        ttl_s: policy.ttl_s.clamp(TTL_S.0, TTL_S.1),
        reasons: [Reason::Outside; REGIONS_MAX],
    };
    note_unreachable(&mut decision, policy.eligible & !reachable);
    by_health(&mut decision, listed.list, legal, standing);

    decision.outcome = outcome(&decision, listed.list, policy.eligible, reachable, standing);
    if matches!(decision.outcome, Outcome::Refuse(_)) {
        decision.order = Order::EMPTY;
    }
    if decision.outcome != Outcome::Normal || expected_to_change(listed.list, standing) {
        decision.ttl_s = decision.ttl_s.min(HASTY_TTL_S);
    }
    decision
}

fn note_unreachable(decision: &mut Decision, mut mask: RegionMask) {
    while mask != 0 {
        decision.reasons[mask.trailing_zeros() as usize] = Reason::NoAddress;
        mask &= mask - 1;
    }
}

/// Orders the legal regions of a list by health; among equally healthy ones the list's order stays.
fn by_health(decision: &mut Decision, list: &[u8], legal: RegionMask, standing: &Standing) {
    let mut best = None;
    for (class, mask) in standing.classes.iter().enumerate() {
        if mask & legal == 0 {
            continue;
        }
        for region in list {
            if !holds(mask & legal, *region) {
                continue;
            }
            let reason = match best {
                None => Reason::Chosen,
                Some(chosen) if chosen == class => Reason::Later,
                Some(_) => behind(STATES[class]),
            };
            best = best.or(Some(class));
            decision.order.push(*region);
            decision.reasons[usize::from(region & 63)] = reason;
        }
    }
}

fn behind(state: RegionState) -> Reason {
    match state {
        RegionState::Up => Reason::Later,
        RegionState::Degraded => Reason::Degraded,
        RegionState::Draining => Reason::Draining,
        RegionState::Unknown => Reason::Unknown,
        RegionState::Down => Reason::Down,
    }
}

/// How it came out; and the last check, which trusts none of the stages before.
fn outcome(
    decision: &Decision,
    list: &[u8],
    eligible: RegionMask,
    reachable: RegionMask,
    standing: &Standing,
) -> Outcome {
    if decision.order.mask() & !eligible != 0 {
        return Outcome::Refuse(Refusal::Invariant);
    }
    let Some(chosen) = decision.order.as_slice().first() else {
        return Outcome::Refuse(if eligible == 0 { Refusal::NoRegion } else { Refusal::NoAddress });
    };
    if holds(standing.classes[class(RegionState::Down)], *chosen) {
        return Outcome::FailStatic;
    }
    match list.iter().find(|region| holds(eligible & reachable, **region)) {
        Some(first) if first == chosen => Outcome::Normal,
        _ => Outcome::Failover,
    }
}

fn holds(mask: RegionMask, region: u8) -> bool {
    mask.checked_shr(u32::from(region)).unwrap_or(0) & 1 == 1
}

/// Whether one of a list's first two regions is about to change its verdict: the answer would be another one soon.
fn expected_to_change(list: &[u8], standing: &Standing) -> bool {
    list.iter().take(2).any(|region| holds(standing.pending, *region))
}
