//! From the reports of all regions to what should be said of one: a vote per region, and a quorum.

use region_config::{Config, NodeId, RegionId};

use super::{Force, Orders, Readiness, RegionState, Report, Vote};

/// Which nodes stand in which region, in the order of the config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The regions with their nodes.
    pub regions: Vec<(RegionId, Vec<NodeId>)>,
}

impl Layout {
    /// The layout that a config describes.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let nodes = |region: &region_config::Region| region.nodes.iter().map(|node| node.name.clone()).collect();
        Self { regions: config.regions.iter().map(|region| (region.name.clone(), nodes(region))).collect() }
    }

    /// Where a node is: index of its region, index in the region.
    #[must_use]
    pub fn place(&self, node: &NodeId) -> Option<(usize, usize)> {
        self.regions
            .iter()
            .enumerate()
            .find_map(|(region, (_, nodes))| nodes.iter().position(|name| name == node).map(|index| (region, index)))
    }
}

/// What should be said of a region rests on this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// What was observed.
    Observed,
    /// What its nodes say of themselves and what operators say of them, alone: it is meant, and no mishap.
    Word,
}

/// What should be said of a region, and the votes behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The verdict, before hysteresis. [`RegionState::Unknown`] means that nobody has an opinion.
    pub state: RegionState,
    /// What that rests on.
    pub ground: Ground,
    /// One vote per region that has one.
    pub votes: Vec<Vote>,
}

/// Judges the region with index `target` by the fresh reports and by what is forced, which are in the order of the layout.
///
/// * One vote per observer region: the median of its nodes, a tie counts as healthy. A region is healthy for a node that
///   gets an answer from any of the region's nodes. The target's own region has no vote, unless it is the only one.
/// * Down if more than half of the votes say so, and as many as [`votes_needed`]. Or if so many say so of each node that is
///   not forced down: what the operator forbids and what is dead make no region together.
/// * Draining if none of its nodes is left that takes clients, and one of them answers and says so or is forced not to. Who
///   answers and has not said anything yet may well serve.
/// * Degraded if at least 18 % of the votes and as many as [`votes_needed`] are against it: what a single observer says moves
///   nobody. Or if more than half of its nodes take no clients, since they are down for a majority, not ready, or forced out:
///   one of two that is restarted moves nobody, since DNS names the other one.
///
/// Where all of its nodes are forced out, the book says what the region is, and this what it would be without.
#[must_use]
pub fn judge(layout: &Layout, reports: &[Vec<Option<&Report>>], orders: &Orders, target: usize) -> Judgement {
    let Some((_, nodes)) = layout.regions.get(target) else {
        return Judgement { state: RegionState::Unknown, ground: Ground::Observed, votes: Vec::new() };
    };
    let reaches = |report: &Report| opinion_of_region(report, nodes);
    let votes = votes(layout, reports, target, reaches);
    let against = votes.iter().filter(|vote| !vote.healthy).count();
    let needed = votes_needed(reports, orders, target);
    let members = Members::of(layout, reports, orders, target);
    let doubted = against >= needed && against * 100 >= votes.len() * 18;

    let state = if votes.is_empty() {
        RegionState::Unknown
    } else if against >= needed && against * 2 > votes.len() || members.none_remains(needed) {
        RegionState::Down
    } else if members.all_leave() {
        RegionState::Draining
    } else if doubted || members.serving * 2 < nodes.len() {
        RegionState::Degraded
    } else {
        RegionState::Up
    };
    let meant = state == RegionState::Draining && members.down.is_empty();
    Judgement { state, ground: if meant { Ground::Word } else { Ground::Observed }, votes }
}

/// Whether whoever holds these fresh reports sees fewer than half of the regions. Those that are forced down do not count:
/// nobody waits for them.
#[must_use]
pub fn minority(reports: &[Vec<Option<&Report>>], orders: &Orders) -> bool {
    let counted = || reports.iter().enumerate().filter(|(region, _)| !orders.region_is_down(*region));
    let seen = counted().filter(|(_, reports)| is_heard(reports)).count();
    seen * 2 < counted().count()
}

/// How many votes against a region count: two, since what one observer says moves nobody; one where there is no other that
/// could vote. A region that is forced down is not waited for, and one that is heard all the same has a vote.
#[must_use]
pub fn votes_needed(reports: &[Vec<Option<&Report>>], orders: &Orders, target: usize) -> usize {
    let observers = reports.iter().enumerate().filter(|(region, _)| *region != target);
    let count = observers.filter(|(region, reports)| !orders.region_is_down(*region) || is_heard(reports)).count();
    count.clamp(1, 2)
}

fn is_heard(reports: &[Option<&Report>]) -> bool {
    reports.iter().any(Option::is_some)
}

/// What a region's nodes are good for.
#[derive(Default)]
struct Members {
    /// They take clients, as far as is known, or are forced up.
    serving: usize,
    /// They answer, and say that they take no clients, or are forced to take none.
    leaving: usize,
    /// They are forced to take none, whether they answer or not.
    forced_out: usize,
    /// For each that could still have clients, but is down for a majority: how many votes say so.
    down: Vec<usize>,
}

impl Members {
    fn of(layout: &Layout, reports: &[Vec<Option<&Report>>], orders: &Orders, target: usize) -> Self {
        let mut members = Self::default();
        let Some((_, nodes)) = layout.regions.get(target) else { return members };
        let ignored = orders.all_out(target);
        for (index, node) in nodes.iter().enumerate() {
            let report = reports.get(target).and_then(|reports| reports.get(index).copied().flatten());
            let votes = votes(layout, reports, target, |report| report.answers.get(node).copied());
            let against = votes.iter().filter(|vote| !vote.healthy).count();
            let down = (against * 2 > votes.len()).then_some(against);
            let force = if ignored { None } else { orders.node(target, index) };
            members.count(force, down, report);
        }
        members
    }

    fn count(&mut self, force: Option<Force>, down: Option<usize>, report: Option<&Report>) {
        let unready = report.is_some_and(|report| report.readiness != Readiness::Ready);
        self.forced_out += usize::from(matches!(force, Some(Force::Down | Force::Drain)));
        match (force, down) {
            (Some(Force::Up), _) => self.serving += 1,
            (Some(Force::Down), _) => {}
            (_, Some(against)) => self.down.push(against),
            (Some(Force::Drain), None) => self.leaving += 1,
            (None, None) if unready => self.leaving += 1,
            (None, None) => self.serving += 1,
        }
    }

    /// Whether something is forced out, and enough votes say that all that is left is down.
    fn none_remains(&self, needed: usize) -> bool {
        let none = self.serving + self.leaving == 0;
        none && self.forced_out > 0 && self.down.iter().all(|against| *against >= needed)
    }

    /// Whether none is left that takes clients, which is not for their being down alone.
    fn all_leave(&self) -> bool {
        self.serving == 0 && self.leaving + self.forced_out > 0
    }
}

/// One vote per region with an opinion: the median of its nodes' opinions.
fn votes(
    layout: &Layout,
    reports: &[Vec<Option<&Report>>],
    target: usize,
    opinion: impl Fn(&Report) -> Option<bool>,
) -> Vec<Vote> {
    let alone = layout.regions.len() == 1;
    let observers = layout.regions.iter().zip(reports).enumerate();
    observers
        .filter(|(index, _)| alone || *index != target)
        .filter_map(|(_, ((observer, _), reports))| {
            let opinions: Vec<bool> = reports.iter().flatten().filter_map(|report| opinion(report)).collect();
            let healthy = opinions.iter().filter(|healthy| **healthy).count();
            let vote = || Vote { observer: observer.clone(), healthy: healthy * 2 >= opinions.len() };
            (!opinions.is_empty()).then(vote)
        })
        .collect()
}

/// Whether a node reaches a region: yes if any of its nodes answers, no if none does, none while it does not know all.
fn opinion_of_region(report: &Report, nodes: &[NodeId]) -> Option<bool> {
    let answers = || nodes.iter().map(|node| report.answers.get(node));
    if answers().any(|answer| answer == Some(&true)) {
        return Some(true);
    }
    answers().all(|answer| answer == Some(&false)).then_some(false)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::{
        super::{Returns, verdicts::tests::config},
        *,
    };

    #[test]
    fn a_region_does_not_drain_while_a_node_of_it_answers_that_has_not_said_so() {
        let layout = Layout::of(&config(3, 2, (0, 0)));
        let all = layout.regions.iter().flat_map(|(_, nodes)| nodes.iter().map(|node| (node.clone(), true)));
        let answers: std::collections::BTreeMap<_, _> = all.collect();
        let says = |readiness| Report { readiness, answers: answers.clone(), returns: Returns::default() };
        let (ready, draining) = (says(Readiness::Ready), says(Readiness::Draining));
        let of = |first: Option<&Report>| {
            let reports = vec![vec![Some(&ready); 2], vec![first, Some(&draining)], vec![Some(&ready); 2]];
            judge(&layout, &reports, &Orders::default(), 1).state
        };
        assert_eq!(of(Some(&draining)), RegionState::Draining);
        assert_eq!(of(Some(&ready)), RegionState::Up);
        assert_eq!(of(None), RegionState::Up, "it answers, and has said nothing yet");
    }
}
