//! Forced states: an operator's word on a region or node, which stands above what is observed.
//!
//! Each region and node has at most one entry, and every node keeps all entries. The later order wins, by a hybrid clock
//! that never goes back: an order is always later than what its node knew. An entry that was taken back stays as one that
//! forces nothing, so that a node that was away meanwhile cannot bring the old one back; where the book is full, the one that
//! was taken back first makes room.
//!
//! A forced state says who is healthy, never who is legal: the mask of [`crate::residency::eligible`] stands above it.

use std::collections::BTreeMap;

use region_config::{NodeId, RegionId};

use super::{Fleet, Layout, NodeState, RegionState};

/// Regions and nodes that a book has entries of, at most.
pub const ENTRIES_MAX: usize = 512;
/// Length of a reason, in characters.
pub const WHY_CHARS_MAX: usize = 200;
/// Length of the name of who orders, in characters.
pub const WHO_CHARS_MAX: usize = 64;
/// No order is as late as this: above it, numbers would not survive JSON.
const VERSION_MAX: u64 = 1 << 53;
/// No order is later than our clock by more than this, in ms: 366 days ...
const AHEAD_MS_MAX: u64 = 366 * 24 * 3600 * 1000;
/// ... but a clock that stands before 2026 (in ms since the Unix epoch) was never set, and says nothing about others.
const CLOCKS_FROM_MS: u64 = 1_767_225_600_000;

/// What is forced.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// A region.
    Region(RegionId),
    /// A node.
    Node(NodeId),
}

/// What it is forced to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Force {
    /// Healthy, whatever the observers say.
    Up,
    /// Down, whatever the observers say.
    Down,
    /// To give up its clients.
    Drain,
}

impl Force {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Up, Self::Down, Self::Drain];

    /// The word for it in orders, logs, API and screens.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Drain => "drain",
        }
    }

    /// The force of this name.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|force| force.as_str() == word)
    }

    fn region(self) -> RegionState {
        match self {
            Self::Up => RegionState::Up,
            Self::Down => RegionState::Down,
            Self::Drain => RegionState::Draining,
        }
    }

    fn node(self) -> NodeState {
        match self {
            Self::Up => NodeState::Up,
            Self::Down => NodeState::Down,
            Self::Drain => NodeState::Draining,
        }
    }
}

/// What an operator said last of a region or node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forced {
    /// What it is forced to be; none if that was taken back.
    pub force: Option<Force>,
    /// Who says so.
    pub who: String,
    /// Why.
    pub why: String,
    /// The node that took the order.
    pub node: NodeId,
    /// When, in ms since the Unix epoch, by that node's clock.
    pub unix_ms: u64,
    /// The place in the order of all that was said of it: the highest wins.
    pub version: u64,
}

/// Why an order or an entry is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForceFault {
    /// The reason.
    #[error("a reason has 1 to {WHY_CHARS_MAX} characters, none of them a control character")]
    Why,
    /// Who orders.
    #[error("the name of who orders has 1 to {WHO_CHARS_MAX} characters, none of them a control character")]
    Who,
    /// There is nothing to take back.
    #[error("nothing is forced there")]
    NotForced,
    /// The book is full of what is in force.
    #[error("at most {ENTRIES_MAX} regions and nodes can be forced")]
    Full,
    /// Its time or its version is beyond all that a clock could say.
    #[error("it is later than this node's clock by more than a year")]
    Late,
}

/// All that operators said: one entry for each region and node that they said anything of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Book {
    entries: BTreeMap<Target, Forced>,
    changes: u64,
}

impl Book {
    /// Takes an operator's order; `None` as `force` takes back what was forced. Gives the entry that says so.
    ///
    /// # Errors
    /// [`ForceFault`] if it makes no sense; then nothing has changed.
    pub fn order(
        &mut self,
        target: Target,
        force: Option<Force>,
        (who, why): (&str, &str),
        node: &NodeId,
        unix_ms: u64,
    ) -> Result<Forced, ForceFault> {
        if force.is_none() && self.force(&target).is_none() {
            return Err(ForceFault::NotForced);
        }
        let known = self.entries.get(&target).map_or(0, |known| known.version);
        let forced = Forced {
            force,
            who: who.trim().to_owned(),
            why: why.trim().to_owned(),
            node: node.clone(),
            unix_ms,
            version: unix_ms.max(known + 1),
        };
        self.merge(target, forced.clone(), unix_ms)?;
        Ok(forced)
    }

    /// Takes an entry from disk or from another node, at `now_unix_ms` by our clock. True if it is later than what was known,
    /// and kept.
    ///
    /// An entry that is far ahead of all clocks is refused: its place in the order could never be exceeded.
    ///
    /// # Errors
    /// [`ForceFault`] if it cannot be one; then nothing has changed.
    pub fn merge(&mut self, target: Target, forced: Forced, now_unix_ms: u64) -> Result<bool, ForceFault> {
        check(&forced.why, WHY_CHARS_MAX).ok_or(ForceFault::Why)?;
        check(&forced.who, WHO_CHARS_MAX).ok_or(ForceFault::Who)?;
        let was_set = now_unix_ms >= CLOCKS_FROM_MS;
        let ahead_ms = if was_set { AHEAD_MS_MAX } else { VERSION_MAX };
        let latest = now_unix_ms.saturating_add(ahead_ms).min(VERSION_MAX - 1);
        if forced.version > latest || forced.unix_ms > latest {
            return Err(ForceFault::Late);
        }
        match self.entries.get(&target) {
            Some(known) if rank(known) >= rank(&forced) => return Ok(false),
            None if self.entries.len() >= ENTRIES_MAX => {
                let first = self.first_released().ok_or(ForceFault::Full)?;
                if forced.force.is_none() && (rank(&forced), &target) < (rank(first.1), first.0) {
                    return Ok(false);
                }
                let first = first.0.clone();
                self.entries.remove(&first);
            }
            _ => {}
        }
        self.entries.insert(target, forced);
        self.changes += 1;
        Ok(true)
    }

    /// Everything that was said last, also what forces nothing any more.
    pub fn entries(&self) -> impl Iterator<Item = (&Target, &Forced)> {
        self.entries.iter()
    }

    /// What is forced now.
    pub fn in_force(&self) -> impl Iterator<Item = (&Target, &Forced)> {
        self.entries.iter().filter(|(_, forced)| forced.force.is_some())
    }

    /// What is said of a region or node, if that forces anything.
    #[must_use]
    pub fn of(&self, target: &Target) -> Option<&Forced> {
        self.entries.get(target).filter(|forced| forced.force.is_some())
    }

    /// Counts the changes of this book.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// A sum over all entries: two books with the same one say the same. 0 is the book in which nothing was ever said.
    #[must_use]
    pub fn digest(&self) -> u64 {
        if self.entries.is_empty() {
            return 0;
        }
        let mut sum = blake3::Hasher::new();
        for (target, forced) in &self.entries {
            let (kind, name) = match target {
                Target::Region(name) => (b'r', name.as_str()),
                Target::Node(name) => (b'n', name.as_str()),
            };
            sum.update(&[kind]);
            for text in [name, forced.node.as_str(), &forced.who, &forced.why, forced.force.map_or("", Force::as_str)] {
                sum.update(&(text.len() as u64).to_le_bytes());
                sum.update(text.as_bytes());
            }
            sum.update(&forced.unix_ms.to_le_bytes());
            sum.update(&forced.version.to_le_bytes());
        }
        sum.finalize().as_bytes().first_chunk().map_or(1, |head| u64::from_be_bytes(*head).max(1))
    }

    /// What is forced now, in the order of `layout`.
    #[must_use]
    pub fn orders(&self, layout: &Layout) -> Orders {
        if self.in_force().next().is_none() {
            return Orders::default();
        }
        let node = |node: &NodeId| self.force(&Target::Node(node.clone()));
        let of = |(region, nodes): &(RegionId, Vec<NodeId>)| {
            (self.force(&Target::Region(region.clone())), nodes.iter().map(node).collect())
        };
        Orders { regions: layout.regions.iter().map(of).collect() }
    }

    /// Lays what is forced over what was observed, which [`super::judge`] has judged with the same orders.
    ///
    /// A region all of whose nodes are forced down or to drain is so itself, unless it is forced otherwise.
    pub fn apply(&self, fleet: &mut Fleet) {
        fleet.epoch += self.changes;
        if self.in_force().next().is_none() {
            return;
        }
        for view in &mut fleet.regions {
            let mut leaving = Leaving::default();
            for node in &mut view.nodes {
                let force = self.force(&Target::Node(node.name.clone()));
                leaving.count(force);
                if let Some(force) = force {
                    node.state = force.node();
                }
            }
            let target = Target::Region(view.name.clone());
            if let Some(force) = self.force(&target).or_else(|| leaving.of_all(view.nodes.len())) {
                view.state = force.region();
                view.pending = false;
            }
            if let Some(forced) = self.of(&target) {
                view.since_unix_ms = forced.unix_ms;
            }
        }
    }

    /// Of what was taken back, the entry that was taken back first.
    fn first_released(&self) -> Option<(&Target, &Forced)> {
        let released = self.entries.iter().filter(|(_, forced)| forced.force.is_none());
        released.min_by_key(|(target, forced)| (rank(forced), *target))
    }

    fn force(&self, target: &Target) -> Option<Force> {
        self.entries.get(target).and_then(|forced| forced.force)
    }
}

/// What is forced, in the order of a [`Layout`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Orders {
    /// Of each region and of its nodes; empty if nothing is forced at all.
    regions: Vec<(Option<Force>, Vec<Option<Force>>)>,
}

impl Orders {
    /// Whether the region with this index is forced down, as a region.
    #[must_use]
    pub fn region_is_down(&self, region: usize) -> bool {
        self.regions.get(region).is_some_and(|(force, _)| *force == Some(Force::Down))
    }

    /// What a node is forced to be, by the indices of its region and in that.
    #[must_use]
    pub fn node(&self, region: usize, index: usize) -> Option<Force> {
        self.regions.get(region)?.1.get(index).copied().flatten()
    }

    /// Whether all nodes of a region are forced down or to drain.
    #[must_use]
    pub fn all_out(&self, region: usize) -> bool {
        let out = |force: &Option<Force>| matches!(force, Some(Force::Down | Force::Drain));
        self.regions.get(region).is_some_and(|(_, nodes)| !nodes.is_empty() && nodes.iter().all(out))
    }
}

/// How many of a region's nodes are forced to take no clients.
#[derive(Default)]
struct Leaving {
    down: usize,
    drained: usize,
}

impl Leaving {
    fn count(&mut self, force: Option<Force>) {
        match force {
            Some(Force::Down) => self.down += 1,
            Some(Force::Drain) => self.drained += 1,
            Some(Force::Up) | None => {}
        }
    }

    /// What the region of so many nodes is, if none of them is left.
    fn of_all(&self, nodes: usize) -> Option<Force> {
        match nodes {
            0 => None,
            _ if self.down == nodes => Some(Force::Down),
            _ if self.down + self.drained == nodes => Some(Force::Drain),
            _ => None,
        }
    }
}

/// What decides between two entries: one order on all of them, so that all nodes come to the same book.
fn rank(forced: &Forced) -> (u64, u64, &NodeId, Option<Force>, &str, &str) {
    (forced.version, forced.unix_ms, &forced.node, forced.force, &forced.who, &forced.why)
}

fn check(text: &str, chars_max: usize) -> Option<()> {
    let good = !text.trim().is_empty() && text.chars().count() <= chars_max && !text.chars().any(char::is_control);
    good.then_some(())
}

#[cfg(test)]
mod tests;
