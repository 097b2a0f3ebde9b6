//! Health of nodes and regions: what was observed, and the verdict that all nodes with the same view reach.
//!
//! Five steps, each pure: [`Probed`] turns answers and silences of one node into a [`NodeState`]; [`judge`] turns the
//! reports of all regions, and what operators force, into what should be said of a region; [`Verdicts`] holds that against
//! flapping and against the view of a minority, and gives the [`Fleet`]; the [`Book`] lays over it what operators force;
//! [`Verdicts::settle`] says what part of their clients regions get that have just come back.

mod course;
mod forced;
mod judge;
mod probed;
mod returning;
mod verdicts;

use std::collections::BTreeMap;

use region_config::{NodeId, RegionId};

pub use course::Course;
pub use forced::{Book, ENTRIES_MAX, Force, ForceFault, Forced, Orders, Target, WHO_CHARS_MAX, WHY_CHARS_MAX};
pub use judge::{Ground, Judgement, Layout, judge, minority, votes_needed};
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
    /// What a fall adds to a region's penalty, whether to degraded or to down, in one step or in several.
    pub flap_penalty: f64,
    /// The time in which a penalty halves, in ms.
    pub half_life_ms: u64,
    /// Above this penalty a region that fell does not rise: after two falls within two minutes, so that no region changes
    /// more than four times in two minutes, or three in one ...
    pub suppress_above: f64,
    /// ... until its penalty is below this.
    pub reuse_below: f64,
    /// How long a region must have been up so that, when it has left and comes back, it gets its clients little by little.
    pub warm_ms: u64,
    /// How long it must have been away for that, in ms: longer than a wrong verdict that is taken back at once.
    pub away_ms: u64,
    /// How long it takes then until it gets all of them.
    pub return_ms: u64,
    /// For how long a region counts as changed lately, in ms.
    pub recent_ms: u64,
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
            suppress_above: 1250.0,
            reuse_below: 500.0,
            warm_ms: 60_000,
            away_ms: 5000,
            return_ms: 60_000,
            recent_ms: 600_000,
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
    /// Its name.
    pub name: RegionId,
    /// The verdict.
    pub state: RegionState,
    /// When the verdict last changed, in ms since the Unix epoch (for people, never for decisions).
    pub since_unix_ms: u64,
    /// Whether a change of verdict is in the making.
    pub pending: bool,
    /// Whether the state changed within the last ten minutes, other than from [`RegionState::Unknown`].
    pub recent: bool,
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
    /// Whether this node sees fewer than half of the regions, and therefore keeps the last verdicts. Those that are forced
    /// down do not count.
    pub minority: bool,
    /// One per region, in the order of the config.
    pub regions: Vec<RegionView>,
}

impl Fleet {
    /// A region by its name: health may be of another config than the one at hand.
    #[must_use]
    pub fn region(&self, name: &RegionId) -> Option<&RegionView> {
        self.regions.iter().find(|region| region.name == *name)
    }

    /// The same in the order of `layout`, and without the votes. Regions and nodes that the fleet does not know are unknown:
    /// it is of another config than what it is asked about.
    #[must_use]
    pub fn placed(&self, layout: &Layout) -> Self {
        let place = |(at, (name, nodes)): (usize, &(RegionId, Vec<NodeId>))| {
            let here = self.regions.get(at).filter(|region| region.name == *name);
            let known = here.or_else(|| self.regions.iter().find(|region| region.name == *name));
            let known_nodes = known.map_or(&[][..], |region| &region.nodes);
            let place = |(at, name): (usize, &NodeId)| {
                let here = known_nodes.get(at).filter(|node| node.name == *name);
                let known = here.or_else(|| known_nodes.iter().find(|node| node.name == *name));
                known.cloned().unwrap_or_else(|| NodeView {
                    name: name.clone(),
                    state: NodeState::Unknown,
                    rtt_us: None,
                })
            };
            let nodes = nodes.iter().enumerate().map(place).collect();
            match known {
                Some(region) => RegionView { name: name.clone(), nodes, votes: Vec::new(), ..*region },
                None => RegionView::unknown(name.clone(), nodes),
            }
        };
        let regions = layout.regions.iter().enumerate().map(place).collect();
        Self { epoch: self.epoch, minority: self.minority, regions }
    }
}

impl RegionView {
    fn unknown(name: RegionId, nodes: Vec<NodeView>) -> Self {
        Self {
            name,
            state: RegionState::Unknown,
            since_unix_ms: 0,
            pending: false,
            recent: false,
            part_percent: WHOLE_PERCENT,
            nodes,
            votes: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reload put other regions in front, DNS could not take it for a zone's key that was gone, and went on with the
    /// health of other regions in their places.
    #[test]
    fn a_fleet_is_read_by_names_and_not_by_places() {
        let names = |count: usize, of: &str| -> Vec<String> { (0..count).map(|at| format!("{of}{at}")).collect() };
        let region = |name: &str| RegionId::parse(name).unwrap_or_else(|_| unreachable!("a name"));
        let node = |name: &str| NodeId::parse(name).unwrap_or_else(|_| unreachable!("a name"));
        let states = [RegionState::Up, RegionState::Down, RegionState::Draining];
        let nodes = |of: &str| -> Vec<NodeView> {
            let view = |name: String| NodeView { name: node(&name), state: NodeState::Up, rtt_us: Some(1) };
            names(2, &format!("{of}-")).into_iter().map(view).collect()
        };
        let view = |(name, state): (String, RegionState)| RegionView {
            state,
            nodes: nodes(&name),
            ..RegionView::unknown(region(&name), Vec::new())
        };
        let mut fleet =
            Fleet { epoch: 3, minority: false, regions: names(3, "r").into_iter().zip(states).map(view).collect() };
        fleet.regions[1].nodes[0].state = NodeState::Down;
        let layout = |regions: &[(&str, &[&str])]| Layout {
            regions: regions
                .iter()
                .map(|(name, nodes)| (region(name), nodes.iter().map(|name| node(name)).collect()))
                .collect(),
        };
        let same = layout(&[("r0", &["r0-0", "r0-1"]), ("r1", &["r1-0", "r1-1"]), ("r2", &["r2-0", "r2-1"])]);
        assert_eq!(fleet.placed(&same), fleet);
        let other = fleet.placed(&layout(&[("r2", &["r2-0"]), ("new", &["new-0"]), ("r1", &["r1-1", "r1-2", "r1-0"])]));
        let told: Vec<_> = other.regions.iter().map(|region| (region.name.to_string(), region.state)).collect();
        let expected = [("r2", RegionState::Draining), ("new", RegionState::Unknown), ("r1", RegionState::Down)];
        assert_eq!(told, expected.map(|(name, state)| (name.to_owned(), state)));
        let nodes: Vec<_> = other.regions[2].nodes.iter().map(|node| node.state).collect();
        assert_eq!(nodes, [NodeState::Up, NodeState::Unknown, NodeState::Down]);
    }
}
