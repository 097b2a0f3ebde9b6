//! What water-filling promises.

use proptest::prelude::*;

use super::*;

fn demand(requests: f64, regions: &[usize]) -> Demand {
    #[allow(clippy::cast_precision_loss, reason = "small numbers")]
    let priced = regions.iter().enumerate().map(|(place, region)| (*region, place as f64 * 10.0));
    Demand { list: 0, part_of: None, requests, regions: priced.collect() }
}

fn bounds(to: &[f64]) -> Vec<Bounds> {
    to.iter().map(|to| Bounds { gives_above: *to, takes_to: *to }).collect()
}

/// Requests at each region, rounded.
fn rounded(lists: &[Demand], parts: &Parts, regions: usize) -> Vec<f64> {
    loads(lists, parts, regions).into_iter().map(f64::round).collect()
}

#[test]
fn what_a_region_cannot_bear_goes_to_the_next_with_room() {
    let lists = [demand(100.0, &[0, 1, 2]), demand(30.0, &[1, 0, 2])];
    let parts = filled(&lists, &bounds(&[60.0, 50.0, 100.0]));
    assert_eq!(rounded(&lists, &parts, 3), [60.0, 50.0, 20.0]);
    assert_eq!(parts[1], [(1, 1.0), (0, 0.0), (2, 0.0)]);
}

#[test]
fn the_moves_that_cost_least_are_made() {
    let cheap = Demand { regions: vec![(0, 10.0), (1, 12.0)], ..demand(50.0, &[]) };
    let dear = Demand { regions: vec![(0, 10.0), (1, 90.0)], ..demand(50.0, &[]) };
    let parts = filled(&[dear, cheap], &bounds(&[50.0, 50.0]));
    assert_eq!((parts[0][0].1, parts[1][1].1), (1.0, 1.0));
}

#[test]
fn what_nobody_has_room_for_stays_at_the_first_choice() {
    let lists = [demand(100.0, &[0, 1])];
    let parts = filled(&lists, &bounds(&[10.0, 20.0]));
    assert_eq!(rounded(&lists, &parts, 2), [80.0, 20.0]);
}

#[test]
fn a_region_that_is_down_gives_everything_before_its_neighbours_overload() {
    let lists = [demand(100.0, &[0, 1, 2])];
    let down = [Bounds::DOWN, Bounds { gives_above: 70.0, takes_to: 70.0 }, Bounds::NONE];
    assert_eq!(rounded(&lists, &filled(&lists, &down), 3), [0.0, 70.0, 30.0]);
}

/// Steps until nothing changes, ten seconds each; the part at the first region after each.
fn steps(spilling: &mut Spilling, from_ms: u64, lists: &[Demand], capacities: &[Option<f64>]) -> Vec<f64> {
    let step = |n: u64| {
        let now_ms = from_ms + n * STEP_MS;
        spilling.handle_demand(now_ms, lists, capacities, 10).map(|parts| parts[0][0].1)
    };
    (0..20).map_while(step).collect()
}

#[test]
fn a_region_at_95_percent_gives_up_clients_step_by_step_and_does_not_swing() {
    let capacities = [Some(100.0), Some(100.0)];
    let mut spilling = Spilling::default();
    let near = |told: &[f64], expected: &[f64]| {
        assert!(
            told.len() == expected.len() && told.iter().zip(expected).all(|(a, b)| (a - b).abs() < 0.001),
            "{told:?}"
        );
    };
    near(&steps(&mut spilling, 0, &[demand(84.0, &[0, 1])], &capacities), &[]);
    // 95 wants to be 75: a part of 0.789
    near(&steps(&mut spilling, 1_000_000, &[demand(95.0, &[0, 1])], &capacities), &[0.9, 0.8]);
    // a little less demand is within the dead band; much less is still above where giving ends
    near(&steps(&mut spilling, 2_000_000, &[demand(94.0, &[0, 1])], &capacities), &[]);
    near(&steps(&mut spilling, 3_000_000, &[demand(80.0, &[0, 1])], &capacities), &[0.9, 0.9375]);
    near(&steps(&mut spilling, 4_000_000, &[demand(70.0, &[0, 1])], &capacities), &[1.0]);
}

#[test]
fn no_step_comes_before_answers_have_run_out() {
    let (lists, capacities) = ([demand(200.0, &[0, 1])], [Some(100.0), None]);
    let mut spilling = Spilling::default();
    assert!(spilling.handle_demand(5, &lists, &capacities, 30).is_some());
    assert!(spilling.handle_demand(30_004, &lists, &capacities, 30).is_none());
    assert!(spilling.handle_demand(30_005, &lists, &capacities, 30).is_some());
}

/// All lists began anew when a region failed: what another one had given up came back to it within a moment.
#[test]
fn when_a_region_is_gone_room_is_made_at_once_and_when_it_is_back_the_others_take_their_time() {
    let capacities = [Some(100.0), Some(100.0), None];
    let list = |list: u64, requests: f64, regions: &[usize]| Demand { list, ..demand(requests, regions) };
    let mut spilling = Spilling::default();
    let before = [list(1, 120.0, &[0, 2]), list(2, 60.0, &[1, 0, 2])];
    for step in 0..5 {
        spilling.handle_demand(step * STEP_MS, &before, &capacities, 10);
    }
    let given = spilling.parts()[0].clone();
    assert!(given[0].1 < 0.65, "{given:?}");
    let gone = [list(1, 120.0, &[0, 2]), list(2, 60.0, &[0, 2])];
    let parts = spilling.handle_demand(4 * STEP_MS + 100, &gone, &capacities, 10).unwrap().clone();
    assert_eq!(rounded(&gone, &parts, 3), [75.0, 0.0, 105.0], "{parts:?}");
    let back = spilling.handle_demand(5 * STEP_MS, &before, &capacities, 10).unwrap().clone();
    assert_eq!(back[1][0], (1, 1.0));
    assert!((back[0][0].1 - parts[0][0].1 - STEP).abs() < 1e-9, "{back:?} after {parts:?}");
}

/// 91 points of a list moved at once, since a region was back that stands last in it.
#[test]
fn a_region_that_is_back_calls_its_own_lists_home_at_once_and_no_others() {
    let capacities = [Some(100.0), Some(100.0), Some(100.0)];
    let list = |list: u64, requests: f64, regions: &[usize]| Demand { list, ..demand(requests, regions) };
    let mut spilling = Spilling::default();
    let gone = [list(1, 70.0, &[1, 2]), list(2, 60.0, &[1, 2])];
    for step in 0..8 {
        spilling.handle_demand(step * STEP_MS, &gone, &capacities, 10);
    }
    let before = spilling.known().clone();
    assert_eq!(rounded(&gone, spilling.parts(), 3)[1], 75.0, "{before:?}");
    // region 0 takes a tenth of its own clients
    let meanwhile = Demand { part_of: Some(1), ..list(11, 63.0, &[1, 2]) };
    let back = [list(1, 7.0, &[0, 1, 2]), list(2, 60.0, &[1, 2, 0]), meanwhile];
    let parts = spilling.handle_demand(7 * STEP_MS + 1_000, &back, &capacities, 10).unwrap();
    assert_eq!(parts[0], [(0, 1.0), (1, 0.0), (2, 0.0)]);
    assert_eq!(parts[1], [before[&2][0], before[&2][1], (0, 0.0)]);
    assert_eq!(parts[2], before[&1], "they stay where they are");
    // once all of them are led home, what is left of the others goes home too
    spilling.handle_demand(8 * STEP_MS, &[list(1, 70.0, &[0, 1, 2]), list(2, 60.0, &[1, 2, 0])], &capacities, 10);
    for step in 9..30 {
        let all = [list(1, 70.0, &[0, 1, 2]), list(2, 60.0, &[1, 2, 0])];
        spilling.handle_demand(step * STEP_MS, &all, &capacities, 10);
    }
    assert_eq!(spilling.known().len(), 2);
    assert_eq!(spilling.parts(), &[[(0, 1.0), (1, 0.0), (2, 0.0)], [(1, 1.0), (2, 0.0), (0, 0.0)]]);
}

/// One that had just been started led nobody on for good, while the others did.
#[test]
fn who_remembers_nothing_does_as_most_others_between_where_giving_begins_and_ends() {
    let capacities = [Some(100.0), None];
    let gives = |load: f64, others: &[bool]| {
        let mut spilling = Spilling::default();
        spilling.handle_giving(&others.iter().map(|gives| vec![*gives]).collect::<Vec<_>>());
        spilling.handle_demand(0, &[demand(load, &[0, 1])], &capacities, 10);
        spilling.known_to_give(0)
    };
    assert_eq!(gives(80.0, &[true, true, false]), Some(true));
    assert_eq!(gives(80.0, &[true, false, false]), Some(false));
    assert_eq!(gives(80.0, &[]), None, "nobody knows");
    assert_eq!((gives(86.0, &[false; 3]), gives(74.0, &[true; 3])), (Some(true), Some(false)));
    // who saw a peak alone comes back to what the others do
    let mut spilling = Spilling::default();
    spilling.handle_demand(0, &[demand(86.0, &[0, 1])], &capacities, 10);
    spilling.handle_giving(&[vec![false], vec![false], vec![]]);
    spilling.handle_demand(STEP_MS, &[demand(84.0, &[0, 1])], &capacities, 10);
    assert!(!spilling.gives(0));
}

#[test]
fn no_region_costs_less_than_one_before_it() {
    assert_eq!(
        rising([(0, 0.0), (3, 900.0), (1, 200.0), (2, 1000.0)]),
        [(0, 0.0), (3, 900.0), (1, 900.0), (2, 1000.0)]
    );
}

#[test]
fn a_list_that_was_not_there_begins_at_its_first_region() {
    let mut spilling = Spilling::default();
    let lists = [demand(200.0, &[0, 1]), Demand { list: 7, ..demand(200.0, &[0, 1]) }];
    let capacities = [Some(100.0), None];
    assert!(spilling.handle_demand(0, &lists[..1], &capacities, 10).is_some());
    let parts = spilling.handle_demand(STEP_MS, &lists, &capacities, 10).unwrap();
    assert!((parts[0][0].1 - 0.8).abs() < 1e-9 && (parts[1][0].1 - 0.9).abs() < 1e-9, "{parts:?}");
    assert!(spilling.gives(0) && !spilling.gives(1) && !spilling.gives(9));
}

/// Its clients came back all at once, and were led on anew from the beginning when it was asked for again.
#[test]
fn a_list_that_is_asked_for_now_and_then_goes_home_step_by_step() {
    let mut spilling = Spilling::default();
    let lists = [demand(200.0, &[0, 1]), Demand { list: 7, ..demand(200.0, &[0, 1]) }];
    let capacities = [Some(100.0), None];
    for step in 0..5 {
        spilling.handle_demand(step * STEP_MS, &lists, &capacities, 10);
    }
    let first = |spilling: &Spilling| spilling.known().get(&7).map(|parts| parts[0].1);
    assert!((first(&spilling).unwrap() - 0.5).abs() < 1e-9);
    spilling.handle_demand(5 * STEP_MS, &lists[..1], &capacities, 10);
    assert!((first(&spilling).unwrap() - 0.6).abs() < 1e-9);
    let again = spilling.handle_demand(6 * STEP_MS, &lists, &capacities, 10).unwrap();
    assert!((again[1][0].1 - 0.5).abs() < 1e-9, "{again:?}");
    let mut at_home = (7..20).map(|step| {
        let changed = spilling.handle_demand(step * STEP_MS, &lists[..1], &[None, None], 10).is_some();
        (changed, first(&spilling))
    });
    assert_eq!(at_home.find(|(_, first)| first.is_none()), Some((true, None)));
}

fn lists() -> impl Strategy<Value = Vec<Demand>> {
    let list = (0.0f64..1000.0, Just((0usize..8).collect::<Vec<_>>()).prop_shuffle(), 1usize..8)
        .prop_map(|(requests, regions, count)| demand(requests, &regions[..count]));
    prop::collection::vec(list, 1..20).prop_map(|mut lists| {
        lists.iter_mut().zip(0..).for_each(|(list, number)| list.list = number);
        lists
    })
}

fn cases(short: u32, long: u32) -> ProptestConfig {
    ProptestConfig::with_cases(if std::env::var_os("MERIDIAN_LONG").is_some() { long } else { short })
}

proptest! {
    #![proptest_config(cases(300, 100_000))]

    #[test]
    fn parts_are_one_together_and_of_the_lists_regions_only(
        lists in lists(),
        capacities in prop::collection::vec(prop::option::of(0.0f64..2000.0), 8),
        rounds in 1u64..6,
    ) {
        let mut spilling = Spilling::default();
        for round in 0..rounds {
            let before = spilling.parts().clone();
            spilling.handle_demand(round * STEP_MS, &lists, &capacities, 5);
            for (at, (list, parts)) in lists.iter().zip(spilling.parts()).enumerate() {
                let sum: f64 = parts.iter().map(|(_, part)| part).sum();
                prop_assert!((sum - 1.0).abs() < 1e-9, "{sum}");
                prop_assert!(parts.iter().all(|(_, part)| (-1e-9..=1.0 + 1e-9).contains(part)));
                prop_assert!(parts.iter().map(|(region, _)| *region).eq(list.regions.iter().map(|(region, _)| *region)));
                if let Some(before) = before.get(at) {
                    let moved: f64 = parts.iter().zip(before).map(|((_, a), (_, b))| (a - b).max(0.0)).sum();
                    prop_assert!(moved <= STEP + 1e-9, "{moved}");
                }
            }
        }
    }

    #[test]
    fn no_region_is_filled_over_its_bound_by_others(
        lists in lists(),
        to in prop::collection::vec(1.0f64..2000.0, 8),
    ) {
        let parts = filled(&lists, &bounds(&to));
        let (own, all) = (loads(&lists, &first_only(&lists), 8), loads(&lists, &parts, 8));
        for region in 0..8 {
            prop_assert!(all[region] <= own[region].max(to[region]) + 1e-6);
        }
        let before: f64 = own.iter().sum();
        prop_assert!((before - all.iter().sum::<f64>()).abs() < 1e-6, "demand is kept");
    }
}
