//! The fleet's health, as steering reads it.

use region_config::{REGIONS_MAX, RegionMask};

use super::decide::holds;
use crate::health::{Fleet, NodeState, RegionState, WHOLE_PERCENT};

/// The fleet's health as masks of regions: made once per change, read per question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Up, Degraded, Draining, Unknown, Down: disjoint, and together all regions.
    pub(super) classes: [RegionMask; 5],
    /// Regions whose verdict is about to change; for one that is Down, to a better one.
    pub(super) pending: RegionMask,
    /// Regions whose verdict changed in the last ten minutes.
    pub(super) recent: RegionMask,
    /// Regions that have just come back, and so get a part of their clients only.
    pub(super) returning: RegionMask,
    /// For each region, what part of the clients that it is first for it gets, in percent.
    parts: Vec<u8>,
    /// For each region, its nodes that are Up, and those that are not known to be Down; by their index in the region.
    nodes: Vec<(u64, u64)>,
}

impl Standing {
    /// The masks of a fleet; a region or node that it does not mention is Unknown.
    #[must_use]
    pub fn of(fleet: &Fleet) -> Self {
        let nodes = Vec::with_capacity(fleet.regions.len());
        let mut standing = Self { classes: [0; 5], pending: 0, recent: 0, returning: 0, parts: Vec::new(), nodes };
        for (index, region) in fleet.regions.iter().enumerate().take(REGIONS_MAX) {
            standing.classes[class(region.state)] |= 1 << index;
            standing.pending |= u64::from(region.pending) << index;
            standing.recent |= u64::from(region.recent) << index;
            let serves = matches!(region.state, RegionState::Up | RegionState::Degraded);
            standing.returning |= u64::from(serves && region.part_percent < WHOLE_PERCENT) << index;
            standing.parts.push(region.part_percent);
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

    /// The same with some regions Down.
    #[must_use]
    pub fn without(mut self, regions: RegionMask) -> Self {
        for class in &mut self.classes {
            *class &= !regions;
        }
        self.classes[class(RegionState::Down)] |= regions;
        self.pending &= !regions;
        self.recent &= !regions;
        self.returning &= !regions;
        self
    }

    /// What part of the clients it is first for a region gets while others are as healthy, from 0 to 1.
    pub(super) fn part(&self, region: u8) -> f64 {
        if !holds(self.returning, region) {
            return 1.0;
        }
        self.parts.get(usize::from(region)).map_or(1.0, |percent| f64::from(*percent) / f64::from(WHOLE_PERCENT))
    }

    /// The regions that have just come back, and so get a part of their clients only.
    pub(super) fn returning(&self) -> RegionMask {
        self.returning
    }

    /// The healthiest of some regions: those of the first class that has any of them.
    pub(super) fn best(&self, among: RegionMask) -> RegionMask {
        self.classes.iter().map(|class| class & among).find(|class| *class != 0).unwrap_or(0)
    }

    pub(super) fn down(&self) -> RegionMask {
        self.classes[class(RegionState::Down)]
    }

    /// The regions that nobody has said anything about.
    pub(super) fn unknown(&self) -> RegionMask {
        self.classes[class(RegionState::Unknown)]
    }

    /// The regions that clients may be led on to or from.
    #[must_use]
    pub fn serving(&self) -> RegionMask {
        !(self.down() | self.classes[class(RegionState::Draining)])
    }

    /// The regions that are Up, Degraded, Draining, Unknown and Down.
    #[must_use]
    pub fn classes(&self) -> [RegionMask; 5] {
        self.classes
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
