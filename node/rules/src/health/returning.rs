//! A region that comes back gets its clients little by little: it has nothing of what it served in its caches, and its
//! origins would get all of that at once.
//!
//! Each node remembers which regions it saw leave and come back, and says in its report how far they are. What DNS goes by
//! is what the observer regions say together, so that nodes with the same view answer the same, and a name server that has
//! just come back itself, the region's own ones before all, does as the others do. That two nodes hear of a step a moment
//! apart moves some hundredths of the clients between two legal, healthy regions.

use std::collections::BTreeMap;

use region_config::RegionId;

use super::{Layout, Orders, RegionState, Report, Settings, votes_needed};

/// What a region gets of its clients when it is back, in percent.
const FROM_PERCENT: u8 = 10;
/// In how many steps it comes to all, each of which is told to the fleet.
const STEPS: u64 = 10;
/// All of the clients.
pub const WHOLE_PERCENT: u8 = 100;

/// What of its clients a region gets that has been back for so long, in percent.
#[must_use]
pub fn part_percent(back_ms: u64, settings: &Settings) -> u8 {
    let step = back_ms.saturating_mul(STEPS) / settings.return_ms.max(1);
    let per_step = u64::from(WHOLE_PERCENT - FROM_PERCENT) / STEPS;
    u8::try_from(u64::from(FROM_PERCENT) + step.min(STEPS) * per_step).unwrap_or(WHOLE_PERCENT)
}

/// What a node remembers of one region.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Memory {
    /// Since when it is up for the first time (monotonic, in ms).
    up_since_ms: Option<u64>,
    /// Whether it was up for long enough to have something to lose: in a fleet that starts, no region has.
    was_warm: bool,
    /// Since when it is away (monotonic, in ms), if it has left and is not up again yet.
    gone_since_ms: Option<u64>,
    /// When it came back (monotonic, in ms).
    back_at_ms: Option<u64>,
    /// The state that was seen last.
    state: Option<RegionState>,
    /// When it changed last (monotonic, in ms); that something was heard of it at all is no change.
    changed_at_ms: Option<u64>,
}

impl Memory {
    /// Takes the region's state, with what is forced; gives the part of its clients that it should get, in percent.
    pub(super) fn handle_state(&mut self, state: RegionState, now_ms: u64, settings: &Settings) -> u8 {
        if self.state.replace(state).is_some_and(|before| before != state && before != RegionState::Unknown) {
            self.changed_at_ms = Some(now_ms);
        }
        match state {
            RegionState::Up => {
                if self.is_long_gone(now_ms, settings) {
                    self.back_at_ms = Some(now_ms);
                }
                self.gone_since_ms = None;
                let since = *self.up_since_ms.get_or_insert(now_ms);
                self.was_warm |= now_ms.saturating_sub(since) >= settings.warm_ms;
            }
            RegionState::Down | RegionState::Draining => {
                // who leaves again before it had all of its clients needs not be away for long
                let returning = self.back_at_ms.take().is_some();
                let since = now_ms.saturating_sub(if returning { settings.away_ms } else { 0 });
                self.gone_since_ms = self.gone_since_ms.or(self.was_warm.then_some(since));
                self.up_since_ms = None;
            }
            // behind all that are up it gets no clients, so that nothing begins
            RegionState::Degraded | RegionState::Unknown => {}
        }
        let back_ms = self.back_at_ms.map(|since| now_ms.saturating_sub(since));
        let part = back_ms.map_or(WHOLE_PERCENT, |back_ms| part_percent(back_ms, settings));
        if part >= WHOLE_PERCENT {
            self.back_at_ms = None;
        }
        if self.is_long_gone(now_ms, settings) { FROM_PERCENT } else { part }
    }

    /// Whether the state changed not long ago.
    pub(super) fn has_changed_lately(&self, now_ms: u64, settings: &Settings) -> bool {
        self.changed_at_ms.is_some_and(|at| now_ms.saturating_sub(at) < settings.recent_ms)
    }

    fn is_long_gone(&self, now_ms: u64, settings: &Settings) -> bool {
        self.gone_since_ms.is_some_and(|since| now_ms.saturating_sub(since) >= settings.away_ms)
    }
}

/// What one node says of regions that left or are coming back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Returns {
    /// Whether it has not run for long enough to have seen all that is coming back: of regions that it does not mention it
    /// then says nothing.
    pub new_here: bool,
    /// What of their clients they should get, in percent; those that it does not mention get all.
    pub parts: BTreeMap<RegionId, u8>,
}

impl Returns {
    /// What it says of a region; none if it cannot know.
    fn part(&self, region: &RegionId) -> Option<u8> {
        let said = self.parts.get(region).map(|part| (*part).clamp(1, WHOLE_PERCENT));
        said.or(if self.new_here { None } else { Some(WHOLE_PERCENT) })
    }
}

/// What part of its clients the region with index `target` gets, in percent, by the fresh reports, which are in the order
/// of the layout.
///
/// One vote per observer region, the median of its nodes; then the median of the votes; of two in the middle the larger
/// part counts. Less than all needs as many votes as [`votes_needed`]: what a single observer says moves nobody. The
/// target's own region has no vote: of itself it has not been away.
#[must_use]
pub fn part_of(layout: &Layout, reports: &[Vec<Option<&Report>>], orders: &Orders, target: usize) -> u8 {
    let Some((name, _)) = layout.regions.get(target) else { return WHOLE_PERCENT };
    let others = reports.iter().enumerate().filter(|(region, _)| *region != target);
    let vote = |reports: &Vec<Option<&Report>>| {
        median(reports.iter().flatten().filter_map(|report| report.returns.part(name)).collect())
    };
    let votes: Vec<u8> = others.filter_map(|(_, reports)| vote(reports)).collect();
    let needed = votes_needed(reports, orders, target);
    let less = votes.iter().filter(|part| **part < WHOLE_PERCENT).count();
    if less < needed { WHOLE_PERCENT } else { median(votes).unwrap_or(WHOLE_PERCENT) }
}

/// The one in the middle, the larger of two.
fn median(mut parts: Vec<u8>) -> Option<u8> {
    parts.sort_unstable();
    parts.get(parts.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;
    use region_config::NodeId;

    use super::{
        super::Readiness,
        RegionState::{Degraded, Down, Draining, Unknown, Up},
        *,
    };

    #[test]
    fn a_region_has_changed_lately_for_ten_minutes_after_each_change() {
        let (settings, mut memory) = (Settings::default(), Memory::default());
        let mut lately = |state, now_ms| {
            memory.handle_state(state, now_ms, &Settings::default());
            memory.has_changed_lately(now_ms, &settings)
        };
        assert!(!lately(RegionState::Unknown, 0));
        assert!(!lately(RegionState::Up, 1_000), "it was only heard of");
        assert!(lately(RegionState::Down, 5_000) && lately(RegionState::Up, 9_000));
        assert!(lately(RegionState::Up, 608_999) && !lately(RegionState::Up, 609_000));
    }

    #[test]
    fn the_part_grows_from_a_tenth_to_all_in_a_minute() {
        let part_percent = |back_ms| super::part_percent(back_ms, &Settings::default());
        let parts: Vec<u8> = (0..=11).map(|step| part_percent(step * 6_000)).collect();
        assert_eq!(parts, [10, 19, 28, 37, 46, 55, 64, 73, 82, 91, 100, 100]);
        assert_eq!((part_percent(5_999), part_percent(59_999), part_percent(u64::MAX)), (10, 91, 100));
    }

    /// The parts of a region that has these states, ten seconds each.
    fn parts(states: &[RegionState]) -> Vec<u8> {
        let (mut memory, settings) = (Memory::default(), Settings { warm_ms: 10_000, ..Settings::default() });
        states.iter().zip(0..).map(|(state, at)| memory.handle_state(*state, at * 10_000, &settings)).collect()
    }

    #[test]
    fn only_a_region_that_was_up_and_left_comes_back_slowly() {
        assert_eq!(parts(&[Unknown, Up, Up, Up]), [100; 4]);
        assert_eq!(parts(&[Unknown, Down, Down, Up, Up]), [100; 5], "at the start of a fleet");
        assert_eq!(
            parts(&[Unknown, Up, Down, Down, Up, Down, Down, Up]),
            [100; 8],
            "in a fleet that does not come to rest"
        );
        assert_eq!(parts(&[Up, Up, Degraded, Degraded, Up]), [100; 5], "it kept what it had");
        assert_eq!(parts(&[Up, Up, Down, Down, Up, Up, Up])[2..], [100, 10, 10, 19, 37]);
        assert_eq!(parts(&[Up, Up, Draining, Draining, Draining, Up, Up])[2..], [100, 10, 10, 10, 19]);
        assert_eq!(parts(&[Up, Up, Down, Degraded, Degraded, Up, Up])[2..], [100, 10, 10, 10, 19]);
        assert_eq!(parts(&[Up, Up, Down, Down, Up, Up, Down, Up, Up])[4..], [10, 19, 10, 10, 19], "and anew");
        let long = [&[Up, Up, Down, Down][..], &[Up; 8][..]].concat();
        assert_eq!(parts(&long)[4..], [10, 19, 37, 55, 64, 82, 100, 100]);
    }

    #[test]
    fn a_region_that_was_gone_for_a_moment_only_gets_all_of_its_clients_at_once() {
        let (mut memory, settings) = (Memory::default(), Settings::default());
        let mut part = |state, s: u64| memory.handle_state(state, s * 1000, &settings);
        for at in 0..100 {
            assert_eq!(part(Up, at), 100);
        }
        assert_eq!((part(Down, 100), part(Down, 104), part(Up, 104)), (100, 100, 100));
        assert_eq!((part(Down, 110), part(Down, 115), part(Up, 116)), (100, 10, 10));
    }

    fn layout(regions: usize) -> Layout {
        let region =
            |n: usize| (RegionId::parse(&format!("r{n}")).unwrap(), vec![NodeId::parse(&format!("n{n}")).unwrap()]);
        Layout { regions: (0..regions).map(region).collect() }
    }

    /// The part of region 0, where each region has nodes that say this of it: none from a node that is new.
    fn part(said: &[&[Option<u8>]]) -> u8 {
        let report = |part: &Option<u8>| Report {
            readiness: Readiness::Ready,
            answers: BTreeMap::new(),
            returns: Returns {
                new_here: part.is_none(),
                parts: part.iter().map(|part| (RegionId::parse("r0").unwrap(), *part)).collect(),
            },
        };
        let reports: Vec<Vec<Report>> = said.iter().map(|nodes| nodes.iter().map(report).collect()).collect();
        let reports: Vec<Vec<Option<&Report>>> = reports.iter().map(|nodes| nodes.iter().map(Some).collect()).collect();
        part_of(&layout(said.len()), &reports, &Orders::default(), 0)
    }

    #[test]
    fn the_observers_decide_together_and_one_of_them_moves_nobody() {
        assert_eq!(part(&[&[None], &[Some(10)], &[Some(19)]]), 19);
        assert_eq!(part(&[&[Some(100)], &[Some(10)], &[Some(10)]]), 10, "it has no vote on itself");
        assert_eq!(part(&[&[None], &[Some(10)], &[Some(100)]]), 100);
        assert_eq!(part(&[&[None], &[Some(10)], &[None]]), 100);
        assert_eq!(part(&[&[None], &[Some(10), Some(100)], &[Some(10), None]]), 100);
        assert_eq!(part(&[&[None], &[Some(10), Some(10), Some(100)], &[Some(10), None]]), 10);
        assert_eq!(part(&[&[None], &[Some(28)]]), 28, "of two regions there is one observer");
        assert_eq!(part(&[&[Some(10)]]), 100, "and of one none");
        assert_eq!(part(&[&[None], &[Some(0)], &[Some(0)]]), 1);
    }

    proptest! {
        #[test]
        fn the_part_lies_between_what_the_observers_say(said in prop::collection::vec(prop::option::of(0u8..200), 1..7)) {
            let nodes: Vec<[Option<u8>; 1]> = said.iter().map(|part| [*part]).collect();
            let nodes: Vec<&[Option<u8>]> = nodes.iter().map(<[_; 1]>::as_slice).collect();
            let got = part(&nodes);
            let least = said.iter().skip(1).flatten().copied().min().unwrap_or(100).clamp(1, 100);
            prop_assert!((least..=100).contains(&got), "{got} of {said:?}");
        }
    }
}
