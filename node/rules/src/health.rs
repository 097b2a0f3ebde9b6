//! Health of nodes and regions: what was observed, and the verdict that all nodes with the same view reach.

use region_config::{NodeId, RegionId};

/// A region's standing, best first: the order in which steering prefers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RegionState {
    /// Healthy.
    Up,
    /// Some observers fail to reach it, or some of its nodes are down.
    Degraded,
    /// Told to give up its clients.
    Draining,
    /// Nobody has said anything yet.
    Unknown,
    /// A quorum of regions cannot reach it.
    Down,
}

impl RegionState {
    /// The word for it in logs, metrics, API and screens.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Draining => "draining",
            Self::Unknown => "unknown",
            Self::Down => "down",
        }
    }
}

/// A node's standing as this node sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeState {
    /// Answers probes.
    Up,
    /// Not heard of yet.
    Unknown,
    /// Does not answer probes.
    Down,
}

impl NodeState {
    /// The word for it in logs, metrics, API and screens.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Unknown => "unknown",
            Self::Down => "down",
        }
    }
}

/// What one region says about another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vote {
    /// Who says it.
    pub observer: RegionId,
    /// Whether it reaches the region.
    pub healthy: bool,
}

/// A node in the fleet's health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// Its name.
    pub name: NodeId,
    /// Its standing.
    pub state: NodeState,
    /// Round trip of the last probe, in microseconds.
    pub rtt_us: Option<u32>,
}

/// A region in the fleet's health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionView {
    /// The verdict.
    pub state: RegionState,
    /// When the verdict last changed, in ms since the Unix epoch (for people, never for decisions).
    pub since_unix_ms: u64,
    /// Whether a change of verdict is in the making.
    pub pending: bool,
    /// Its nodes, in the order of the config.
    pub nodes: Vec<NodeView>,
    /// The votes behind the verdict.
    pub votes: Vec<Vote>,
}

/// The health of the whole fleet. Immutable; swapped whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fleet {
    /// Counts the changes of any verdict, on this node.
    pub epoch: u64,
    /// Whether this node sees fewer than half of the regions, and therefore keeps the last verdicts.
    pub minority: bool,
    /// One per region, in the order of the config.
    pub regions: Vec<RegionView>,
}
