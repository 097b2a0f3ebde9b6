#![allow(clippy::unwrap_used, reason = "tests")]
use std::{collections::BTreeMap, path::PathBuf};

use proptest::prelude::*;
use region_config::{JurisdictionId, Limits, Node, NodeConfig, Region, RegionId};

use super::*;
use crate::health::{Force, Orders, Target};

fn node(region: usize, index: usize) -> NodeId {
    NodeId::parse(&format!("r{region}-{index}")).unwrap()
}

/// A fleet of `regions` x `nodes`, seen from one of them.
pub(in crate::health) fn config(regions: usize, nodes: usize, here: (usize, usize)) -> Config {
    let region = |r: usize| RegionId::parse(&format!("r{r}")).unwrap();
    Config {
        node: NodeConfig {
            name: node(here.0, here.1),
            region: region(here.0),
            state_dir: PathBuf::new(),
            http: vec![],
            https: vec![],
            dns: vec![],
            dns_terms: region_config::DnsTerms::default(),
            admin: None,
            peer: None,
            identity: None,
            workers: 1,
            memory_bytes: 0,
            disk_bytes: 0,
            geo: region_config::Geo::default(),
            access_log: None,
            purge: None,
            resolvers: Vec::new(),
            limits: Limits::default(),
        },
        jurisdictions: vec![],
        regions: (0..regions)
            .map(|r| Region {
                name: region(r),
                latitude: 0.0,
                longitude: 0.0,
                jurisdiction: JurisdictionId::parse("x").unwrap(),
                capacity_per_second: None,
                nodes: (0..nodes).map(|i| Node { name: node(r, i), peer: None, addresses: vec![] }).collect(),
            })
            .collect(),
        zones: vec![],
        tenants: vec![],
        sites: vec![],
        tokens: Vec::new(),
        witnesses: vec![],
        streams: vec![],
        fingerprint: [0; 32],
    }
}

/// A whole fleet run in lockstep: who reaches whom is a function of the two regions or nodes.
struct World {
    regions: usize,
    nodes: usize,
    now_ms: u64,
    /// What is forced, as all know it.
    book: Book,
    views: BTreeMap<(usize, usize), Verdicts>,
}

impl World {
    fn new(regions: usize, nodes: usize) -> Self {
        let places = (0..regions).flat_map(|r| (0..nodes).map(move |i| (r, i)));
        let views = places.map(|place| (place, Verdicts::new(&config(regions, nodes, place), Settings::default())));
        let mut world = Self { regions, nodes, now_ms: 0, book: Book::default(), views: views.collect() };
        world.run(5_000, |_, _| true);
        world
    }

    /// Half a second per round: everyone probes everyone and hears what those who answered have to say.
    fn run(&mut self, ms: u64, reaches: impl Fn((usize, usize), (usize, usize)) -> bool) {
        let end = self.now_ms + ms;
        while self.now_ms < end {
            self.now_ms += 500;
            let reports: BTreeMap<_, _> = self.views.iter().map(|(place, view)| (*place, view.report())).collect();
            for (observer, view) in &mut self.views {
                for (target, report) in &reports {
                    let name = node(target.0, target.1);
                    if reaches(*observer, *target) && reaches(*target, *observer) {
                        view.handle_answer(&name, 100);
                        view.handle_report(&name, report.clone(), self.now_ms);
                    } else {
                        view.handle_miss(&name, 0);
                    }
                }
                view.poll(&self.book, self.now_ms, self.now_ms);
            }
        }
    }

    /// What a node sees now, with what is forced.
    fn seen(&mut self, observer: (usize, usize)) -> Fleet {
        let mut fleet = self.views.get_mut(&observer).unwrap().poll(&self.book, self.now_ms, self.now_ms);
        self.book.apply(&mut fleet);
        fleet
    }

    fn states(&mut self, observer: (usize, usize)) -> Vec<RegionState> {
        self.seen(observer).regions.iter().map(|region| region.state).collect()
    }

    fn node(&mut self, observer: (usize, usize), of: (usize, usize)) -> NodeState {
        self.seen(observer).regions[of.0].nodes[of.1].state
    }

    fn minority(&mut self, observer: (usize, usize)) -> bool {
        self.seen(observer).minority
    }

    fn force(&mut self, target: Target, force: Option<Force>) {
        self.book.order(target, force, ("ops", "a test"), &node(0, 0), self.now_ms).unwrap();
    }

    fn places(&self) -> Vec<(usize, usize)> {
        (0..self.regions).flat_map(|r| (0..self.nodes).map(move |i| (r, i))).collect()
    }
}

use RegionState::{Degraded, Down, Draining, Unknown, Up};

#[test]
fn a_dead_region_is_down_for_all_others_within_two_seconds_and_back_after_the_hold() {
    let mut world = World::new(3, 2);
    let alive = |a: (usize, usize), b: (usize, usize)| a.0 != 0 && b.0 != 0 || a == b;
    world.run(2_000, alive);
    for observer in [(1, 0), (1, 1), (2, 0), (2, 1)] {
        assert_eq!(world.states(observer), [Down, Up, Up]);
    }
    world.run(2_500, |_, _| true);
    assert_eq!(world.states((1, 0)), [Down, Up, Up]);
    world.run(2_500, |_, _| true);
    for observer in world.places() {
        assert_eq!(world.states(observer), [Up, Up, Up]);
    }
}

#[test]
fn a_region_is_degraded_when_most_of_its_nodes_are_down_and_not_when_one_of_two_is() {
    let mut world = World::new(3, 2);
    world.run(6_000, |a, b| a == b || (a != (0, 0) && b != (0, 0)));
    for observer in [(0, 1), (1, 0), (2, 1)] {
        assert_eq!(world.states(observer), [Up, Up, Up]);
        assert_eq!(world.node(observer, (0, 0)), NodeState::Down);
    }
    let mut world = World::new(3, 3);
    world.run(6_000, |a, b| a == b || [a, b].iter().all(|place| place.0 != 0 || place.1 == 2));
    for observer in [(0, 2), (1, 0), (2, 1)] {
        assert_eq!(world.states(observer), [Degraded, Up, Up]);
    }
}

#[test]
fn a_link_between_two_regions_that_is_gone_moves_nobody() {
    let mut world = World::new(3, 2);
    for _ in 0..60 {
        world.run(500, |a, b| !matches!((a.0, b.0), (0, 1) | (1, 0)));
        for observer in world.places() {
            assert_eq!(world.states(observer), [Up, Up, Up], "{observer:?}");
        }
    }
}

#[test]
fn a_node_that_starts_or_drains_is_known_as_such() {
    let mut world = World::new(3, 2);
    for (readiness, state) in [
        (Readiness::Draining, NodeState::Draining),
        (Readiness::Starting, NodeState::Starting),
        (Readiness::Ready, NodeState::Up),
    ] {
        world.views.get_mut(&(0, 0)).unwrap().handle_readiness(readiness);
        world.run(1_000, |_, _| true);
        for observer in world.places() {
            assert_eq!(world.node(observer, (0, 0)), state, "{observer:?}");
        }
    }
}

#[test]
fn a_draining_region_counts_at_once() {
    let mut world = World::new(3, 2);
    world.views.get_mut(&(0, 0)).unwrap().handle_readiness(Readiness::Draining);
    world.run(1_000, |_, _| true);
    assert_eq!(world.states((1, 0))[0], Up, "the other half is there");
    world.views.get_mut(&(0, 1)).unwrap().handle_readiness(Readiness::Draining);
    world.run(1_000, |_, _| true);
    for observer in world.places() {
        assert_eq!(world.states(observer), [Draining, Up, Up]);
    }
}

fn member(region: usize, index: usize) -> Target {
    Target::Node(node(region, index))
}

fn region(region: usize) -> Target {
    Target::Region(RegionId::parse(&format!("r{region}")).unwrap())
}

/// What was forced was laid over verdicts that knew nothing of it: a node that the operator had forced out answered probes,
/// so its region stayed up for ever when the other one died, and DNS named both.
#[test]
fn what_is_forced_out_and_what_is_dead_make_no_region_together() {
    for (force, state) in [(Force::Down, Down), (Force::Drain, Draining)] {
        let mut world = World::new(3, 2);
        world.force(member(0, 0), Some(force));
        world.run(5_000, |_, _| true);
        assert_eq!(world.states((1, 0)), [Up; 3], "the other half is there");
        let alive = |a: (usize, usize), b: (usize, usize)| a == b || (a != (0, 1) && b != (0, 1));
        world.run(2_500, alive);
        for observer in [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1)] {
            assert_eq!(world.states(observer), [state, Up, Up], "{force:?}, as seen by {observer:?}");
        }
        // nothing of it is kept: with the dead node back, and with the other one released, the region is back after the hold
        world.run(6_000, |_, _| true);
        assert_eq!(world.states((1, 0)), [Up; 3], "{force:?}: it is back");
        world.run(2_500, alive);
        world.force(member(0, 0), None);
        world.run(500, alive);
        assert_ne!(world.states((1, 0))[0], Up, "{force:?}: only after the hold");
        world.run(150_000, alive);
        assert_eq!(world.states((1, 0)), [Up; 3], "{force:?}: it is released");
    }
    // what the operator knows better counts
    let mut world = World::new(3, 2);
    world.force(member(0, 0), Some(Force::Drain));
    world.force(member(0, 1), Some(Force::Up));
    world.run(5_000, |a, b| a == b || (a != (0, 1) && b != (0, 1)));
    assert_eq!(world.states((1, 0)), [Up; 3]);
}

#[test]
fn what_is_forced_out_and_what_drains_by_its_own_word_make_no_region_together() {
    let mut world = World::new(3, 2);
    world.force(member(0, 0), Some(Force::Down));
    world.views.get_mut(&(0, 1)).unwrap().handle_readiness(Readiness::Draining);
    world.run(1_000, |_, _| true);
    for observer in world.places() {
        assert_eq!(world.states(observer), [Draining, Up, Up]);
    }
}

#[test]
fn a_node_that_comes_and_goes_beside_one_that_is_forced_out_is_damped_as_a_region_is() {
    let mut world = World::new(3, 2);
    world.force(member(0, 0), Some(Force::Drain));
    let (mut before, mut changes) = (world.states((1, 0)), 0);
    for half in 0..240 {
        let gone = half % 20 < 8;
        world.run(500, |a, b| !gone || a == b || (a != (0, 1) && b != (0, 1)));
        let now = world.states((1, 0));
        changes += usize::from(now != before);
        before = now;
    }
    assert!((2..=4).contains(&changes), "{changes} in two minutes");
}

#[test]
fn a_region_whose_nodes_are_all_forced_out_is_observed_as_before_and_back_at_once() {
    let mut world = World::new(3, 2);
    world.force(member(0, 0), Some(Force::Down));
    world.force(member(0, 1), Some(Force::Drain));
    world.run(10_000, |_, _| true);
    assert_eq!(world.states((1, 0)), [Draining, Up, Up]);
    world.force(member(0, 1), None);
    assert_eq!(world.states((1, 0)), [Up; 3]);
}

/// Regions that were entered before their nodes ran counted as not seen: the fleet froze, and a region that died was named
/// for good.
#[test]
fn regions_that_are_forced_down_until_they_run_freeze_nothing() {
    let mut world = World::new(3, 2);
    for at in 3..7 {
        world.force(region(at), Some(Force::Down));
    }
    let planned = config(7, 2, (1, 0));
    let names = |range: std::ops::Range<usize>| -> Vec<RegionId> {
        range.map(|at| RegionId::parse(&format!("r{at}")).unwrap()).collect()
    };
    world.views.get_mut(&(1, 0)).unwrap().replace(&planned);
    assert!(!world.minority((1, 0)));
    let view = &world.views[&(1, 0)];
    assert_eq!((view.unheard(&world.book), view.unheard(&Book::default())), (vec![], names(3..7)));
    world.run(5_000, |a, b| a == b || a.0 != 0 && b.0 != 0);
    assert_eq!(world.states((1, 0)), [Down, Up, Up, Down, Down, Down, Down]);
    // nobody said so: three of seven are fewer than half, whoever is dead
    world.force(region(3), None);
    world.force(region(4), None);
    assert!(world.minority((1, 0)));
    assert_eq!(world.views[&(1, 0)].unheard(&world.book), names(3..5));
}

#[test]
fn a_region_that_is_forced_down_has_a_vote_while_it_is_heard() {
    let mut world = World::new(3, 2);
    world.force(region(2), Some(Force::Down));
    for _ in 0..20 {
        world.run(500, |a, b| !matches!((a.0, b.0), (0, 1) | (1, 0)));
        for observer in world.places() {
            assert_eq!(world.states(observer), [Up, Up, Down], "one observer moves nobody: {observer:?}");
        }
    }
    world.run(3_000, |a, b| a.0 == b.0);
    assert_eq!((world.states((0, 0)), world.states((1, 0))), (vec![Up, Down, Down], vec![Down, Up, Down]));
}

#[test]
fn of_two_regions_one_vote_is_enough() {
    let mut world = World::new(2, 2);
    world.run(2_000, |a, b| a.0 == b.0);
    assert_eq!(world.states((0, 0)), [Up, Down]);
    assert_eq!(world.states((1, 0)), [Down, Up]);
}

#[test]
fn a_fleet_of_one_is_up() {
    let mut view = Verdicts::new(&config(1, 1, (0, 0)), Settings::default());
    let fleet = view.poll(&Book::default(), 0, 0);
    assert_eq!((fleet.regions[0].state, fleet.minority), (Up, false));
}

#[test]
fn the_only_region_judges_itself() {
    let mut world = World::new(1, 3);
    world.run(6_000, |a, b| a == b || (a.1 != 2 && b.1 != 2));
    assert_eq!(world.states((0, 0)), [Up]);
    world.run(6_000, |a, b| a == b || (a.1 == 0 && b.1 == 0));
    assert_eq!(world.states((0, 0)), [Degraded]);
}

#[test]
fn one_region_cut_off_freezes_and_changes_no_verdict_of_its_own() {
    let mut world = World::new(3, 2);
    let together = |a: (usize, usize), b: (usize, usize)| (a.0 == 0) == (b.0 == 0);
    for _ in 0..40 {
        world.run(500, together);
        for observer in [(0, 0), (0, 1)] {
            assert_eq!(world.states(observer), [Up, Up, Up]);
        }
    }
    assert!(world.minority((0, 0)) && !world.minority((1, 0)));
    assert_eq!(world.states((1, 0)), [Down, Up, Up]);
}

#[test]
fn a_node_that_starts_alone_calls_nobody_down() {
    let mut view = Verdicts::new(&config(3, 2, (0, 0)), Settings::default());
    for now_ms in (0..20_000).step_by(500) {
        for (region, index) in [(0, 1), (1, 0), (1, 1), (2, 0), (2, 1)] {
            view.handle_miss(&node(region, index), 0);
        }
        let fleet = view.poll(&Book::default(), now_ms, now_ms);
        assert!(fleet.minority);
        assert_eq!(fleet.regions.iter().map(|region| region.state).collect::<Vec<_>>(), [Up, Unknown, Unknown]);
    }
}

#[test]
fn nobody_can_speak_of_us_but_our_own_probes() {
    let mut view = Verdicts::new(&config(3, 1, (0, 0)), Settings::default());
    let slander = Report { readiness: Readiness::Draining, answers: BTreeMap::new(), returns: Returns::default() };
    view.handle_report(&node(0, 0), slander, 0);
    for _ in 0..5 {
        view.handle_miss(&node(0, 0), 0);
    }
    assert_eq!(view.node(&node(0, 0)), NodeState::Up);
    assert_eq!(view.report().readiness, Readiness::Ready);
}

#[test]
fn a_new_config_keeps_what_is_known() {
    let mut world = World::new(3, 2);
    let view = world.views.get_mut(&(0, 0)).unwrap();
    view.replace(&config(4, 2, (0, 0)));
    let fleet = view.poll(&Book::default(), 5_000, 5_000);
    assert_eq!(fleet.regions.iter().map(|region| region.state).collect::<Vec<_>>(), [Up, Up, Up, Unknown]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However one node's links fail, no other node changes a verdict about anything, and nobody calls a region down of
    /// which another node still answers.
    #[test]
    fn one_cut_off_observer_moves_no_one(cut in 0usize..6, lost in proptest::collection::vec(any::<bool>(), 6)) {
        let mut world = World::new(3, 2);
        let cut = (cut / 2, cut % 2);
        let broken = |a: (usize, usize), b: (usize, usize)| a == cut && a != b && lost[b.0 * 2 + b.1];
        for _ in 0..20 {
            world.run(500, |a, b| !broken(a, b) && !broken(b, a));
            for observer in world.places() {
                for (region, state) in world.states(observer).into_iter().enumerate() {
                    prop_assert_ne!(state, Down);
                    if observer != cut {
                        prop_assert_eq!(state, Up, "of {} as seen by {:?}", region, observer);
                    }
                }
            }
        }
    }

    /// The verdict depends on what was said, not on who looks or in which order it was heard.
    #[test]
    fn the_same_reports_give_the_same_verdict(
        opinions in proptest::collection::vec(proptest::collection::vec(proptest::option::of(any::<bool>()), 8), 8),
        order in Just((0..8usize).collect::<Vec<_>>()).prop_shuffle(),
        from in 0usize..8, other in 0usize..8,
    ) {
        let place = |n: usize| (n / 2, n % 2);
        let name = |n: usize| node(place(n).0, place(n).1);
        // the two that look find all others up, so they listen to all; the rest says what it likes
        let says = |n: usize, m: usize| if n == from || n == other || n == m { Some(true) } else { opinions[n][m] };
        let report = |n: usize| Report {
            readiness: Readiness::Ready,
            answers: (0..8).filter_map(|m| says(n, m).map(|answers| (name(m), answers))).collect(),
            returns: Returns::default(),
        };
        let layout = Layout::of(&config(4, 2, place(from)));
        let all: Vec<Report> = (0..8).map(report).collect();
        let table: Vec<Vec<Option<&Report>>> = all.chunks(2).map(|pair| pair.iter().map(Some).collect()).collect();
        let expected: Vec<_> = (0..4).map(|region| judge(&layout, &table, &Orders::default(), region)).collect();
        for here in [from, other] {
            let mut view = Verdicts::new(&config(4, 2, place(here)), Settings::default());
            for n in &order {
                view.handle_answer(&name(*n), 1);
                view.handle_report(&name(*n), all[*n].clone(), 0);
            }
            let fleet = view.poll(&Book::default(), 0, 0);
            for (judged, seen) in expected.iter().zip(&fleet.regions) {
                prop_assert_eq!(&judged.votes, &seen.votes);
            }
            let own = view.report();
            let judged: Vec<_> = (0..4).map(|region| judge(&view.layout, &view.fresh(&own, 0), &Orders::default(), region)).collect();
            prop_assert_eq!(&judged, &expected);
        }
    }

    /// No region is up, or degraded, of which all nodes are forced out or down for a majority of the other regions.
    #[test]
    fn no_region_stands_on_what_is_forced_out_or_dead(
        shape in (3usize..6, 1usize..4),
        dead in proptest::collection::vec(proptest::bool::weighted(0.4), 15),
        noise in proptest::collection::vec(proptest::bool::weighted(0.15), 225),
        forced in proptest::collection::vec(
            proptest::option::weighted(0.5, proptest::sample::select(vec![Force::Down, Force::Drain])), 15),
        draining in proptest::collection::vec(proptest::bool::weighted(0.2), 15),
    ) {
        let places: Vec<_> = (0..shape.0).flat_map(|r| (0..shape.1).map(move |i| (r, i))).collect();
        let says = |observer: usize, of: usize| observer == of || dead[of] == noise[observer * 15 + of];
        let report = |observer: usize, says: &dyn Fn(usize) -> bool| Report {
            readiness: if draining[observer] { Readiness::Draining } else { Readiness::Ready },
            answers: places.iter().enumerate().map(|(of, place)| (node(place.0, place.1), says(of))).collect(),
            returns: Returns::default(),
        };
        let mut view = Verdicts::new(&config(shape.0, shape.1, (0, 0)), Settings::default());
        for (at, place) in places.iter().enumerate() {
            view.handle_answer(&node(place.0, place.1), 1);
            view.handle_report(&node(place.0, place.1), Report { readiness: Readiness::Ready, ..report(at, &|_| true) }, 0);
        }
        let all_up = view.poll(&Book::default(), 0, 0).regions.iter().all(|region| region.state == Up);
        prop_assert!(all_up);

        let mut book = Book::default();
        for (at, place) in places.iter().enumerate() {
            view.handle_report(&node(place.0, place.1), report(at, &|of| says(at, of)), 1);
            (0..3).filter(|_| dead[at]).for_each(|_| _ = view.handle_miss(&node(place.0, place.1), 0));
            if forced[at].is_some() {
                book.order(member(place.0, place.1), forced[at], ("ops", "a test"), &node(0, 0), 1).unwrap();
            }
        }
        let mut fleet = view.poll(&book, 1, 1);
        book.apply(&mut fleet);
        // who is dead is not heard, and this node goes by its own probes
        let hears = |observer: usize| observer == 0 || !dead[observer];
        let finds = |observer: usize, of: usize| if observer == 0 { of == 0 || !dead[of] } else { says(observer, of) };
        let down = |of: usize| {
            let vote = |region: usize| {
                let nodes = (0..places.len()).filter(|at| places[*at].0 == region && hears(*at));
                let found: Vec<bool> = nodes.map(|at| finds(at, of)).collect();
                let healthy = found.iter().filter(|healthy| **healthy).count() * 2 >= found.len();
                (!found.is_empty()).then_some(healthy)
            };
            let votes: Vec<bool> = (0..shape.0).filter(|region| *region != places[of].0).filter_map(vote).collect();
            votes.iter().filter(|healthy| !**healthy).count() * 2 > votes.len()
        };
        for (region, view) in fleet.regions.iter().enumerate().filter(|(_, view)| !fleet.minority && !view.votes.is_empty()) {
            let nodes = || (0..places.len()).filter(|at| places[*at].0 == region);
            if nodes().any(|at| forced[at].is_some()) && nodes().all(|at| forced[at].is_some() || down(at)) {
                prop_assert!(!matches!(view.state, Up | Degraded), "{} is {:?}", view.name, view.state);
            }
        }
    }

    /// While a node sees fewer than half of the regions, no report and no probe changes a verdict.
    #[test]
    fn a_minority_freezes(events in proptest::collection::vec((0usize..2, any::<bool>(), 0u64..2000), 1..60)) {
        let mut world = World::new(5, 2);
        let mut view = world.views.remove(&(0, 0)).unwrap();
        let mut now_ms = world.now_ms;
        // every other region falls silent at once
        for _ in 0..3 {
            for (region, index) in world.places() {
                if region > 0 { view.handle_miss(&node(region, index), 0); }
            }
        }
        let before: Vec<_> = view.poll(&Book::default(), now_ms, 0).regions.iter().map(|region| region.state).collect();
        for (index, up, ms) in events {
            now_ms += ms;
            // one other region flickers: two of five are still fewer than half
            if up {
                view.handle_answer(&node(1, index), 1);
                let answers = BTreeMap::from([(node(2, 0), false), (node(2, 1), false)]);
                let report = Report { readiness: Readiness::Ready, answers, returns: Returns::default() };
                view.handle_report(&node(1, index), report, now_ms);
            } else {
                view.handle_miss(&node(1, index), 0);
            }
            let fleet = view.poll(&Book::default(), now_ms, 0);
            prop_assert!(fleet.minority);
            prop_assert_eq!(fleet.regions.iter().map(|region| region.state).collect::<Vec<_>>(), before.clone());
        }
    }
}
