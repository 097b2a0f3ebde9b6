//! What classes promise, and what becomes of load when nodes count, tell and share out by them.
#![allow(clippy::unwrap_used, clippy::cast_precision_loss, reason = "tests")]

use std::net::{IpAddr, Ipv4Addr};

use super::{
    super::{
        Base, BaseBuilder, Location, Outcome, Policy, Standing, Wishes, decide,
        spill::{STEP_MS, Spilling, loads},
        tests::{config, fleet, here},
    },
    *,
};
use crate::health::RegionState::{self, Degraded, Down, Draining, Up};

const REGIONS: usize = 4;
/// Clients of each of the places, in /24.
const BLOCKS: u32 = 250;

/// Clients beside each region, in 10/8 and so on.
fn base() -> Base {
    let mut builder = BaseBuilder::new();
    for (index, region) in (0u32..).zip(&config(REGIONS).regions) {
        let point = Point::from_degrees(region.latitude, region.longitude);
        let place = builder.location(Location { point, ..Location::NOWHERE });
        builder.range_v4((10 + index) << 24, ((11 + index) << 24) - 1, place).unwrap();
    }
    builder.finish()
}

fn client(place: u32, block: u32) -> IpAddr {
    Ipv4Addr::from_bits((10 + place) << 24 | block << 8 | 1).into()
}

fn map(mask: RegionMask, asked: &str) -> Map {
    Map::compile(&config(REGIONS), &base(), &Wishes::nearest(mask), &here(asked))
}

#[test]
fn nodes_of_other_regions_and_orders_mean_the_same_by_a_class() {
    let mut turned = config(REGIONS);
    turned.regions.reverse();
    let turned_map = Map::compile(&turned, &base(), &Wishes::nearest(0b1111), &here("r3"));
    let (mut ours, mut theirs) = (Classes::new(&config(REGIONS)), Classes::new(&turned));
    let (map, pinned) = (map(0b1111, "r0"), map(0b0111, "r0"));
    let ours_of = ours.add(&map, 0b1111, Grain::List);
    let theirs_of = theirs.add(&turned_map, 0b1111, Grain::List);
    for place in 0..4 {
        let address = client(place, 7);
        let (a, b) = (ours_of.of(map.list_id(address)).unwrap(), theirs_of.of(turned_map.list_id(address)).unwrap());
        assert_eq!(ours.id_of(a), theirs.id_of(b), "clients of {place}");
        assert_eq!(theirs.find(ours.id_of(a).unwrap()), Some(b));
        assert_eq!(ours.alone(a), Some(place as usize));
    }
    let before = ours.count();
    let nearest = ours.add(&pinned, 0b0111, Grain::Nearest);
    let known: Vec<usize> = (0..pinned.size().0).filter_map(|list| nearest.of(list)).collect();
    assert!(known.iter().all(|class| ours.alone(*class).unwrap() < 3));
    assert!(ours.count() - before <= 3, "one for each region at most, however many lists there are");
    let wished = ours.add(&map, 0b1111, Grain::At(2));
    assert!((0..map.size().0).all(|list| wished.of(list) == Some(2)));
}

/// A fleet whose regions bear so much, and clients who ask.
struct World {
    classes: Classes,
    maps: Vec<(Map, Classed, Policy)>,
    capacities: Vec<Option<f64>>,
    /// Of each node: its loop, the maps as it answers from them, and when it began.
    nodes: Vec<(Spilling, Vec<Map>, u64)>,
    states: [RegionState; REGIONS],
    /// The same at the second before.
    stood: [RegionState; REGIONS],
    /// What part of its clients each gets, in percent.
    percent: [u8; REGIONS],
    /// Smoothed, by class.
    told: Vec<f64>,
    now_ms: u64,
}

impl World {
    /// A free site, and one that is pinned to the regions 0 and 2.
    fn new(capacities: [Option<f64>; REGIONS]) -> Self {
        let config = config(REGIONS);
        let mut classes = Classes::new(&config);
        let maps: Vec<_> = [(0b1111, Grain::List), (0b0101, Grain::Nearest)]
            .map(|(mask, grain)| {
                let map = map(mask, "r0");
                let classed = classes.add(&map, mask, grain);
                (map, classed, Wishes::nearest(mask).policy(30))
            })
            .into();
        let own = || maps.iter().map(|(map, ..)| map.clone()).collect::<Vec<_>>();
        // nodes that take their steps at other moments
        let nodes = [0, 3_000, 7_000].map(|at| (Spilling::default(), own(), at)).into();
        let told = vec![0.0; classes.count()];
        Self {
            classes,
            maps,
            capacities: capacities.into(),
            nodes,
            states: [Up; REGIONS],
            stood: [Up; REGIONS],
            percent: [100; REGIONS],
            told,
            now_ms: 0,
        }
    }

    /// Goes on for a time in which clients of each place ask for the free site and for the pinned one so often, each with
    /// another name server, give or take a fiftieth. Gives the load of each region at each second.
    fn run(&mut self, s: u64, demand: [[f64; REGIONS]; 2]) -> Vec<[f64; REGIONS]> {
        (0..s).map(|_| self.second(demand)).collect()
    }

    fn standing(&self) -> Standing {
        let mut fleet = fleet(&self.states);
        for (region, percent) in fleet.regions.iter_mut().zip(self.percent) {
            region.part_percent = percent;
        }
        Standing::of(&fleet)
    }

    /// What the first node believes that each region has.
    fn booked(&self) -> Vec<f64> {
        let demands = self.classes.demands(&self.told, &self.standing());
        let known = self.nodes[0].0.known();
        loads(&demands, &demands.iter().map(|demand| known[&demand.list].clone()).collect(), REGIONS)
    }

    fn second(&mut self, demand: [[f64; REGIONS]; 2]) -> [f64; REGIONS] {
        self.now_ms += 1_000;
        let standing = self.standing();
        let (mut loads, mut counted) = ([0.0; REGIONS], vec![0.0; self.classes.count()]);
        for (site, (demand, (map, classed, policy))) in demand.iter().zip(&self.maps).enumerate() {
            for (place, requests) in (0u32..).zip(demand) {
                let noise = 1.0 + 0.02 * ((self.now_ms / 1000 * 7919 + u64::from(place)) % 200) as f64 / 100.0 - 0.02;
                for block in 0..BLOCKS {
                    let address = client(place, block);
                    let at = &self.nodes[(block % 3) as usize].1[site];
                    let decision = decide(address, !0, policy, at, &standing);
                    let region = decision.region().unwrap();
                    assert_eq!(policy.legal >> region & 1, 1, "never beyond the mask");
                    assert_ne!(self.states[region], Down);
                    let requests = requests * noise / f64::from(BLOCKS);
                    loads[region] += requests;
                    counted[classed.of(map.list_id(address)).unwrap()] += requests;
                }
            }
        }
        for (told, counted) in self.told.iter_mut().zip(counted) {
            *told += (counted - *told) * (1.0 - (-0.1f64).exp());
        }
        let demands = self.classes.demands(&self.told, &standing);
        let classes = &self.classes;
        for (spilling, maps, began_ms) in &mut self.nodes {
            let due = self.now_ms >= *began_ms && (self.now_ms - *began_ms).is_multiple_of(STEP_MS);
            if !due && self.states == self.stood {
                continue;
            }
            if spilling.handle_demand(self.now_ms, &demands, &self.capacities, 10).is_none() {
                continue;
            }
            let of = |list: u64| spilling.known().get(&list).map_or(&[][..], Vec::as_slice);
            let parts = |class: usize| {
                let id = classes.id_of(class).unwrap();
                Parted { parts: of(id.into()), meanwhile: of(meanwhile(id)) }
            };
            for (at, (map, classed, _)) in maps.iter_mut().zip(&self.maps) {
                *at = classed.shares(parts).map_or_else(|| map.clone(), |shares| map.sharing(shares));
            }
        }
        self.stood = self.states;
        loads
    }
}

const ALL_BEAR: [Option<f64>; REGIONS] = [Some(1000.0); REGIONS];
/// 1.2 times of what region 0 bears; a fourth of that for the pinned site.
const TOO_MUCH: [[f64; REGIONS]; 2] = [[900.0, 300.0, 300.0, 300.0], [300.0, 0.0, 0.0, 0.0]];
const AT_REST: [[f64; REGIONS]; 2] = [[450.0, 300.0, 300.0, 300.0], [150.0, 0.0, 0.0, 0.0]];

fn swing(loads: &[[f64; REGIONS]], region: usize) -> f64 {
    let of = |it: &[f64; REGIONS]| it[region];
    loads.iter().map(of).fold(0.0, f64::max) - loads.iter().map(of).fold(f64::INFINITY, f64::min)
}

#[test]
fn what_a_region_cannot_bear_goes_on_and_comes_back_and_nothing_swings() {
    let mut world = World::new(ALL_BEAR);
    let quiet = world.run(60, AT_REST);
    assert!(quiet.iter().all(|loads| loads[0] < 620.0), "{:?}", quiet.last());
    world.run(180, TOO_MUCH);
    let settled = world.run(120, TOO_MUCH);
    for loads in &settled {
        assert!((700.0..830.0).contains(&loads[0]), "{loads:?}: three quarters of 1000");
        assert!(loads.iter().skip(1).all(|load| *load < 830.0), "{loads:?}");
    }
    // the noise is 4 %, and no more moves than that
    assert!(swing(&settled, 0) < 60.0, "{}", swing(&settled, 0));
    // a little less is above where giving ends: it goes on without a change of what is given
    let less = TOO_MUCH.map(|site| site.map(|requests| requests * 0.98));
    assert!(swing(&world.run(60, less), 0) < 80.0);
    world.run(150, AT_REST);
    let back = world.run(60, AT_REST);
    assert!(back.iter().all(|loads| loads[0] > 570.0), "all are back: {:?}", back.last());
}

#[test]
fn no_step_moves_more_than_a_tenth_and_nodes_agree_in_the_end() {
    let mut world = World::new(ALL_BEAR);
    world.run(30, AT_REST);
    let mut before = world.second(TOO_MUCH)[0];
    for loads in world.run(120, TOO_MUCH) {
        assert!(before - loads[0] < 0.1 * 1200.0 + 60.0, "{before} to {}", loads[0]);
        before = loads[0];
    }
    let parts: Vec<_> = world.nodes.iter().map(|(spilling, ..)| spilling.parts().clone()).collect();
    for other in &parts[1..] {
        for (ours, theirs) in parts[0].iter().flatten().zip(other.iter().flatten()) {
            assert!(ours.0 == theirs.0 && (ours.1 - theirs.1).abs() < 0.06, "{ours:?} {theirs:?}");
        }
    }
}

#[test]
fn a_region_that_fails_overloads_no_neighbour_that_has_others_behind_it() {
    let mut world = World::new([Some(1000.0), Some(600.0), Some(1000.0), Some(1000.0)]);
    let demand = [[500.0, 350.0, 200.0, 200.0], [0.0; REGIONS]];
    world.run(60, demand);
    world.states[0] = Down;
    world.run(12, demand);
    let settled = world.run(120, demand);
    for loads in &settled {
        assert!(loads[0] == 0.0 && loads.iter().all(|load| *load < 830.0) && loads[1] < 560.0, "{loads:?}");
    }
    world.states[0] = Up;
    world.run(90, demand);
    assert!(world.run(30, demand).iter().all(|loads| loads[0] > 470.0));
}

/// All of its demand counted as its own from the first moment, while most of its clients were still with the next region, and
/// what that one gave up came back to it: 24.7 of 20, and the figures said 12.
#[test]
fn a_region_that_comes_back_overloads_no_neighbour_meanwhile() {
    let mut world = World::new(ALL_BEAR);
    let demand = [[700.0, 600.0, 0.0, 0.0], [0.0; REGIONS]];
    world.run(60, demand);
    world.states[0] = Down;
    world.run(240, demand);
    let before = world.second(demand);
    assert!(before[0] == 0.0 && before.iter().all(|load| *load < 830.0), "{before:?}");
    world.states[0] = Up;
    for step in 0..10 {
        world.percent[0] = 10 + 9 * step;
        let loads = world.run(6, demand);
        for loads in &loads[1..] {
            assert!(loads.iter().all(|load| *load < 860.0), "{loads:?} at {}", world.percent[0]);
        }
        let (standing, (_, maps, _)) = (world.standing(), &world.nodes[0]);
        let decision = decide(client(0, 0), !0, &world.maps[0].2, &maps[0], &standing);
        let shares: Vec<f64> = (0..REGIONS).filter_map(|region| decision.share(region)).collect();
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 0.01, "{shares:?}");
        assert!((shares[0] * 100.0 - f64::from(world.percent[0])).abs() < 1.0, "{shares:?}");
        let home = 700.0 * f64::from(world.percent[0]) / 100.0;
        assert!((loads[5][0] - home).abs() < 130.0, "{:?} is not {home}", loads[5]);
        for (booked, led) in world.booked().iter().zip(loads[5]) {
            assert!((booked - led).abs() < 110.0, "{:?} booked, {loads:?}", world.booked());
        }
    }
    world.percent[0] = 100;
    world.run(120, demand);
    assert!(world.run(10, demand).iter().all(|loads| loads[0] > 670.0 && loads[1] > 570.0));
}

/// What a region gave up was meant for one that DNS does not name while others are healthier: all of it stayed.
#[test]
fn load_goes_to_regions_that_dns_names_only() {
    let mut world = World::new(ALL_BEAR);
    world.states[1] = Degraded;
    world.run(240, TOO_MUCH);
    for loads in world.run(60, TOO_MUCH) {
        assert!(loads[1] == 0.0 && loads.iter().all(|load| *load < 830.0), "{loads:?}");
    }
}

#[test]
fn only_the_healthiest_regions_that_serve_have_a_demand() {
    let mut classes = Classes::new(&config(REGIONS));
    classes.add(&map(0b1111, "r0"), 0b1111, Grain::List);
    let requests = vec![1.0; classes.count()];
    let masks = |states: [RegionState; REGIONS]| {
        let demands = classes.demands(&requests, &Standing::of(&fleet(&states)));
        assert!(demands.is_sorted_by_key(|demand| demand.list));
        let mask = |demand: &Demand| demand.regions.iter().fold(0u64, |mask, (region, _)| mask | 1 << region);
        let of = |class: usize| {
            demands.iter().find(|demand| classes.id_of(class).map(u64::from) == Some(demand.list)).map(mask)
        };
        (0..classes.count()).filter_map(of).collect::<Vec<_>>()
    };
    let alone = [1, 2, 4, 8];
    for (states, alone_of, listed) in [
        ([Up; REGIONS], alone, 0b1111),
        ([Up, Degraded, Up, Degraded], alone, 0b0101),
        ([Degraded, Degraded, Down, Draining], [1, 2, 0, 0], 0b0011),
        ([Draining, Down, Down, Draining], [0; 4], 0),
    ] {
        let masks = masks(states);
        assert_eq!(masks[..4], alone_of, "{states:?}");
        assert!(masks[4..].iter().all(|mask| *mask == listed), "{states:?}: {masks:?}");
    }
}

/// Two lists whose moves cost the same were taken in the order in which each node had met them.
#[test]
fn nodes_of_all_regions_come_to_the_same_parts() {
    const ALL: usize = 8;
    let config = config(ALL);
    let mut builder = BaseBuilder::new();
    for (at, first) in (0u32..200).zip((10u32 << 24..).step_by(1 << 16)) {
        let degrees =
            |step: u32, whole: i32| f64::from(i32::try_from(at * step % 997).unwrap() * whole / 997 - whole / 2);
        let point = Point::from_degrees(degrees(101, 120), degrees(331, 360));
        let place = builder.location(Location { point, ..Location::NOWHERE });
        builder.range_v4(first, first + 0xffff, place).unwrap();
    }
    let base = builder.finish();
    let standing = Standing::of(&fleet(&[Up; ALL]));
    let of_node = |region: usize| {
        let map = Map::compile(&config, &base, &Wishes::nearest(0xff), &here(&format!("r{region}")));
        let mut classes = Classes::new(&config);
        classes.add(&map, 0xff, Grain::List);
        classes
    };
    let nodes: Vec<Classes> = (0..ALL).map(of_node).collect();
    let known = |class: &usize| nodes.iter().all(|node| node.find(nodes[0].id_of(*class).unwrap()).is_some());
    let told: Vec<u32> = (ALL..nodes[0].count()).filter(known).map(|class| nodes[0].id_of(class).unwrap()).collect();
    assert!(told.len() > 20, "{}", told.len());
    let parts = |node: &Classes| {
        let mut requests = vec![0.0; node.count()];
        told.iter().for_each(|id| requests[node.find(*id).unwrap()] = 10.0 + f64::from(id % 7));
        let demands = node.demands(&requests, &standing);
        let mut spilling = Spilling::default();
        for step in 0..10 {
            spilling.handle_demand(
                step * STEP_MS,
                &demands,
                &[Some(40.0), None, Some(40.0), None, Some(40.0), Some(60.0), None, None],
                10,
            );
        }
        spilling.known().clone()
    };
    let first = parts(&nodes[0]);
    assert!(first.values().any(|parts| parts[0].1 < 0.9), "load moves some");
    for node in &nodes[1..] {
        assert_eq!(parts(node), first);
    }
}

/// The nearest one by kilometres was filled first, though the site wishes that it comes last.
#[test]
fn load_goes_along_the_list_also_where_regions_of_lower_priority_are_nearer() {
    let mut classes = Classes::new(&config(REGIONS));
    let mut regions = classes.by_distance(vec![0, 1, 2, 3]);
    regions[1..].reverse();
    let class = classes.of(regions.clone()) as usize;
    let mut requests = vec![0.0; classes.count()];
    requests[class] = 1600.0;
    let demands = classes.demands(&requests, &Standing::of(&fleet(&[Up; REGIONS])));
    let mut spilling = Spilling::default();
    for step in 0..20 {
        spilling.handle_demand(step * STEP_MS, &demands, &ALL_BEAR, 10);
    }
    let loads = loads(&demands, spilling.parts(), REGIONS);
    let along: Vec<f64> = regions.iter().map(|region| loads[usize::from(*region)].round()).collect();
    assert_eq!(along, [750.0, 750.0, 100.0, 0.0]);
}

#[test]
fn without_room_anywhere_everything_stays_where_it_is() {
    let mut world = World::new([Some(1000.0), Some(100.0), Some(100.0), Some(100.0)]);
    world.run(120, TOO_MUCH);
    assert!(world.run(30, TOO_MUCH).iter().all(|loads| loads[0] > 1150.0));
}

#[test]
fn load_is_named_as_the_reason() {
    let (map, policy) = (map(0b1111, "r0"), Wishes::nearest(0b1111).policy(30));
    let mut classes = Classes::new(&config(REGIONS));
    let classed = classes.add(&map, 0b1111, Grain::List);
    let class = classed.of(map.list_id(client(0, 0))).unwrap();
    let standing = Standing::of(&fleet(&[Up; REGIONS]));
    let only: Vec<f64> = (0..classes.count()).map(|at| f64::from(u8::from(at == class))).collect();
    let demands = classes.demands(&only, &standing);
    let mut parts: Vec<(usize, f64)> = demands[0].regions.iter().map(|(region, _)| (*region, 0.0)).collect();
    (parts[0].1, parts[1].1) = (0.5, 0.5);
    let shares = classed.shares(|at| if at == class { parts.as_slice().into() } else { Parted::default() }).unwrap();
    let shared = map.sharing(shares);
    let mut seen = [0; 2];
    for block in 0..BLOCKS {
        let decision = decide(client(0, block), !0, &policy, &shared, &standing);
        let spilled = decision.region() != Some(0);
        seen[usize::from(spilled)] += 1;
        assert_eq!(decision.outcome, if spilled { Outcome::Spill } else { Outcome::Normal });
        assert_eq!(decision.reason(0).as_str(), if spilled { "spill" } else { "chosen" });
        assert_eq!((decision.scope, decision.ttl_s), (24, if spilled { 10 } else { 30 }));
    }
    assert!(seen.iter().all(|count| *count > 80), "{seen:?}");
    assert!(classed.shares(|_| [(0, 1.0), (1, 0.0)][..].into()).is_none());
}
