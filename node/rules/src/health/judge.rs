//! From the reports of all regions to what should be said of one: a vote per region, and a quorum.

use region_config::{Config, NodeId, RegionId};

use super::{Readiness, RegionState, Report, Vote};

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

/// What should be said of a region, and the votes behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The verdict, before hysteresis. [`RegionState::Unknown`] means that nobody has an opinion.
    pub state: RegionState,
    /// One vote per region that has one.
    pub votes: Vec<Vote>,
}

/// Judges the region with index `target` by the fresh reports, which are in the order of the layout.
///
/// * One vote per observer region: the median of its nodes, a tie counts as healthy. A region is healthy for a node that
///   gets an answer from any of the region's nodes. The target's own region has no vote, unless it is the only one.
/// * Down if more than half of the votes say so, and at least two of them (one if there are only two regions).
/// * Draining if all of its nodes that answer say that they are not ready for clients. Who answers and has not said anything
///   yet may well serve.
/// * Degraded if at least 18 % of the votes and at least two (one if there are only two regions) are against it: what a
///   single observer says moves nobody. Or if more than half of its nodes are down for a majority, or not ready: one of
///   two that is restarted moves nobody either, since DNS names the other one.
#[must_use]
pub fn judge(layout: &Layout, reports: &[Vec<Option<&Report>>], target: usize) -> Judgement {
    let Some((_, nodes)) = layout.regions.get(target) else {
        return Judgement { state: RegionState::Unknown, votes: Vec::new() };
    };
    let reaches = |report: &Report| opinion_of_region(report, nodes);
    let votes = votes(layout, reports, target, reaches);
    let against = votes.iter().filter(|vote| !vote.healthy).count();
    let needed = if layout.regions.len() <= 2 { 1 } else { 2 };
    let node_down = |node: &NodeId| {
        let votes = self::votes(layout, reports, target, |report| report.answers.get(node).copied());
        votes.iter().filter(|vote| !vote.healthy).count() * 2 > votes.len()
    };
    let down = nodes.iter().filter(|node| node_down(node)).count();
    let spoken = || reports.get(target).into_iter().flatten().zip(nodes);
    let readiness = || spoken().filter(|(_, node)| !node_down(node)).map(|(report, _)| *report);
    let unready = readiness().flatten().filter(|report| report.readiness != Readiness::Ready).count();
    let doubted = against >= needed && against * 100 >= votes.len() * 18;

    let state = if votes.is_empty() {
        RegionState::Unknown
    } else if against * 2 > votes.len() && against >= needed {
        RegionState::Down
    } else if unready > 0 && unready == readiness().count() {
        RegionState::Draining
    } else if doubted || (down + unready) * 2 > nodes.len() {
        RegionState::Degraded
    } else {
        RegionState::Up
    };
    Judgement { state, votes }
}

/// Whether whoever holds these fresh reports sees fewer than half of the regions.
#[must_use]
pub fn minority(reports: &[Vec<Option<&Report>>]) -> bool {
    let seen = reports.iter().filter(|region| region.iter().any(Option::is_some)).count();
    seen * 2 < reports.len()
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
            judge(&layout, &reports, 1).state
        };
        assert_eq!(of(Some(&draining)), RegionState::Draining);
        assert_eq!(of(Some(&ready)), RegionState::Up);
        assert_eq!(of(None), RegionState::Up, "it answers, and has said nothing yet");
    }
}
