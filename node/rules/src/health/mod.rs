//! Health of nodes and regions: what was observed, and the verdict that all nodes with the same view reach.
//!
//! Five steps, each pure: [`Probed`] turns answers and silences of one node into a [`NodeState`]; [`judge`] turns the
//! reports of all regions into what should be said of a region; [`Verdicts`] holds that against flapping and against the
//! view of a minority, and gives the [`Fleet`]; the [`Book`] lays over it what operators force; [`Verdicts::settle`] says what
//! part of their clients regions get that have just come back.

mod course;
mod forced;
mod judge;
mod probed;
mod returning;
mod verdicts;

use std::collections::BTreeMap;

use region_config::{NodeId, RegionId};

pub use course::Course;
pub use forced::{Book, ENTRIES_MAX, Force, ForceFault, Forced, Target, WHO_CHARS_MAX, WHY_CHARS_MAX};
pub use judge::{Judgement, Layout, judge, minority};
pub use probed::Probed;
pub use returning::{Returns, WHOLE_PERCENT, part_of, part_percent};
pub use verdicts::Verdicts;

/// The constants of the verdict.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// How often a node's report is confirmed, in ms.
    pub heartbeat_ms: u64,
    /// After so many heartbeats without a confirmation a report no longer counts.
    pub fresh_heartbeats: u64,
    /// So many failed probes in a row make a node down.
    pub misses_down: u32,
    /// So many answered probes in a row make a node that was down up again.
    pub answers_up: u32,
    /// A miss that we notice so much too late, in ms, is our own slowness ...
    pub late_ms: u64,
    /// ... but only so many in a row: then nobody may answer us at all.
    pub excused_max: u32,
    /// How long a region must look degraded before it is called so, in ms: longer than the reports of a region that was
    /// cut off stay fresh beyond its own failed probes, so that being cut off oneself changes no verdict.
    pub settle_ms: u64,
    /// How long a region must look better without a break before it is called so, in ms.
    pub hold_ms: u64,
    /// What going down adds to a region's penalty.
    pub flap_penalty: f64,
    /// The time in which a penalty halves, in ms.
    pub half_life_ms: u64,
    /// Above this penalty a region that went down stays down ...
    pub suppress_above: f64,
    /// ... until its penalty is below this.
    pub reuse_below: f64,
    /// How long a region must have been up so that, when it has left and comes back, it gets its clients little by little.
    pub warm_ms: u64,
    /// How long it must have been away for that, in ms: longer than a wrong verdict that is taken back at once.
    pub away_ms: u64,
    /// How long it takes then until it gets all of them.
    pub return_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            heartbeat_ms: 1000,
            fresh_heartbeats: 3,
            misses_down: 3,
            answers_up: 2,
            late_ms: 50,
            excused_max: 8,
            settle_ms: 2000,
            hold_ms: 3000,
            flap_penalty: 1000.0,
            half_life_ms: 60_000,
            suppress_above: 2000.0,
            reuse_below: 750.0,
            warm_ms: 60_000,
            away_ms: 5000,
            return_ms: 60_000,
        }
    }
}

/// What a node says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Not ready for clients yet.
    Starting,
    /// Ready for clients.
    Ready,
    /// Told to give up its clients.
    Draining,
}

/// What one node says: of itself, and of the nodes that it probes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Of itself.
    pub readiness: Readiness,
    /// Of the others: true if it answers. A node that is not in here is not known yet.
    pub answers: BTreeMap<NodeId, bool>,
    /// Of regions that left or are coming back.
    pub returns: Returns,
}

/// A region's standing, best first: the order in which steering prefers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RegionState {
    /// Healthy.
    Up,
    /// Several observers fail to reach it, or most of its nodes are down.
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
    /// Answers probes, and is not ready for clients yet.
    Starting,
    /// Answers probes, and was told to give up its clients.
    Draining,
    /// Not heard of yet.
    Unknown,
    /// Does not answer probes.
    Down,
}

impl NodeState {
    /// Whether it answers probes.
    #[must_use]
    pub fn answers(self) -> bool {
        matches!(self, Self::Up | Self::Starting | Self::Draining)
    }

    /// The word for it in logs, metrics, API and screens.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Starting => "starting",
            Self::Draining => "draining",
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
    /// What part of the clients it is first for it gets while others are as healthy, in percent: less than all for a minute
    /// after it came back.
    pub part_percent: u8,
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
