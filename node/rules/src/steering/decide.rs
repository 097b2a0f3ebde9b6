//! The decision: which regions, in which order, why, for how long, and for whom else.

use std::net::IpAddr;

use region_config::{REGIONS_MAX, RegionMask};

use super::{address::Block, map::Map};
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

impl Policy {
    /// The TTLs that answers can have, in seconds: in quiet times, and when they are expected to change.
    #[must_use]
    pub fn ttls_s(&self) -> [u32; 2] {
        let quiet = self.ttl_s.clamp(TTL_S.0, TTL_S.1);
        [quiet, quiet.min(HASTY_TTL_S)]
    }
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
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Chosen,
        Self::Later,
        Self::Degraded,
        Self::Draining,
        Self::Unknown,
        Self::Down,
        Self::NoAddress,
        Self::Outside,
    ];

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
pub struct Decision<'a> {
    /// How it came out.
    pub outcome: Outcome,
    /// How many leading bits of the client's address the answer depends on (RFC 7871): all addresses that share them get
    /// the same answer. Independent of health.
    pub scope: u8,
    /// For how long the answer may be kept, in seconds.
    pub ttl_s: u32,
    ranking: Ranking<'a>,
}

/// A list under a mask and a health: what [`Decision::order`] walks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ranking<'a> {
    list: &'a [u8],
    eligible: RegionMask,
    reachable: RegionMask,
    standing: &'a Standing,
}

impl<'a> Ranking<'a> {
    /// The legal regions by health; among equally healthy ones the list's order stays.
    fn order(self) -> impl Iterator<Item = u8> + 'a {
        let legal = self.eligible & self.reachable;
        let classes = self.standing.classes.iter().map(move |class| class & legal).filter(|class| *class != 0);
        classes.flat_map(move |class| self.list.iter().copied().filter(move |region| holds(class, *region)))
    }
}

impl<'a> Decision<'a> {
    /// The regions that may be named, by their index in the config, best first. None exactly if the outcome is a refusal.
    pub fn order(&self) -> impl Iterator<Item = usize> + 'a {
        let refused = matches!(self.outcome, Outcome::Refuse(_));
        self.ranking.order().map(usize::from).take(if refused { 0 } else { REGIONS_MAX })
    }

    /// The region that is the answer, by its index in the config.
    #[must_use]
    pub fn region(&self) -> Option<usize> {
        self.order().next()
    }

    /// What became of a region, by its index in the config.
    #[must_use]
    pub fn reason(&self, region: usize) -> Reason {
        let Ranking { eligible, reachable, standing, .. } = self.ranking;
        let index = u8::try_from(region).unwrap_or(u8::MAX);
        if !holds(eligible, index) {
            return Reason::Outside;
        }
        if !holds(reachable, index) {
            return Reason::NoAddress;
        }
        match self.region() {
            Some(chosen) if chosen == region => Reason::Chosen,
            Some(chosen) if standing.state(chosen) == standing.state(region) => Reason::Later,
            _ => behind(standing.state(region)),
        }
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
pub fn decide<'a>(
    address: IpAddr,
    reachable: RegionMask,
    policy: &Policy,
    map: &'a Map,
    standing: &'a Standing,
) -> Decision<'a> {
    let listed = map.listed(address);
    let ranking = Ranking { list: listed.list, eligible: policy.eligible, reachable, standing };
    let outcome = outcome(ranking);
    let quiet = outcome == Outcome::Normal && !expected_to_change(listed.list, standing);
    let [calm_s, hasty_s] = policy.ttls_s();
    Decision { outcome, scope: listed.scope, ttl_s: if quiet { calm_s } else { hasty_s }, ranking }
}

/// How it came out; and the last check, which trusts none of the stages before.
fn outcome(ranking: Ranking<'_>) -> Outcome {
    let Ranking { list, eligible, reachable, standing } = ranking;
    let Some(chosen) = ranking.order().next() else {
        return Outcome::Refuse(if eligible == 0 { Refusal::NoRegion } else { Refusal::NoAddress });
    };
    if !holds(eligible, chosen) {
        return Outcome::Refuse(Refusal::Invariant);
    }
    if holds(standing.classes[class(RegionState::Down)], chosen) {
        return Outcome::FailStatic;
    }
    match list.iter().find(|region| holds(eligible & reachable, **region)) {
        Some(first) if *first == chosen => Outcome::Normal,
        _ => Outcome::Failover,
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

fn holds(mask: RegionMask, region: u8) -> bool {
    mask.checked_shr(u32::from(region)).unwrap_or(0) & 1 == 1
}

/// Whether one of a list's first two regions is about to change its verdict: the answer would be another one soon.
fn expected_to_change(list: &[u8], standing: &Standing) -> bool {
    list.iter().take(2).any(|region| holds(standing.pending, *region))
}
