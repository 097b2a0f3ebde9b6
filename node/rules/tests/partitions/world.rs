//! A fleet's health in simulated time: the product's machines for probes, reports, verdicts and steering on every node, and
//! a network that is made up from one number. Three regions with two nodes each.
//!
//! Honest about what it leaves out: gossip is a report that arrives whole or not at all, as `peers::gossip` pushes each
//! change to everybody; chitchat's own rounds, which only say the same again, are not there.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use region_config::{
    Config, JurisdictionId, Limits, Node, NodeConfig, NodeId, RealmId, Region, RegionId, RegionMask, WitnessSet,
};
use rules::{
    health::{
        Book, Fleet, Force, NodeState, Readiness, RegionState, RegionView, Report, Settings, Target, Verdicts,
        WHOLE_PERCENT,
    },
    purge::{self, Electorate},
    steering::{Base, BaseBuilder, Location, Map, Outcome, Point, Standing, Wishes, decide},
};

/// Those of the product, but that regions need not have been up for a minute first.
pub(crate) fn settings() -> Settings {
    Settings { warm_ms: 10_000, ..Settings::default() }
}

/// Region and index in it.
pub(crate) type Place = (usize, usize);
pub(crate) const REGIONS: usize = 3;
pub(crate) const NODES: usize = 2;
const STEP_MS: u64 = 10;
const PROBE_EVERY_MS: u64 = 350;
const PATIENCE_MS: u64 = 300;
const JUDGE_EVERY_MS: u64 = 100;
const CITIES: [(f64, f64); REGIONS] = [(50.1, 8.7), (37.4, -122.1), (1.3, 103.8)];

pub(crate) fn name((region, index): Place) -> NodeId {
    NodeId::parse(&format!("r{region}-{index}")).unwrap()
}

pub(crate) fn places() -> impl Iterator<Item = Place> {
    (0..REGIONS).flat_map(|region| (0..NODES).map(move |index| (region, index)))
}

/// What gets through, from one node to another, one way.
#[derive(Clone, Copy)]
pub(crate) struct Net {
    pub(crate) probes: fn(Place, Place) -> bool,
    pub(crate) gossip: fn(Place, Place) -> bool,
}

impl Net {
    pub(crate) const WHOLE: Self = Self { probes: |_, _| true, gossip: |_, _| true };

    pub(crate) const fn cut(both: fn(Place, Place) -> bool) -> Self {
        Self { probes: both, gossip: both }
    }
}

enum Event {
    Answer { from: Place, generation: u64, issue: u64 },
    Miss { of: Place },
    Report { from: Place, generation: u64, issue: u64, report: Report },
}

struct Sim {
    verdicts: Verdicts,
    alive: bool,
    generation: u64,
    issue: u64,
    said: Option<Report>,
    heard: BTreeMap<Place, (u64, u64)>,
    next_probe_ms: BTreeMap<Place, u64>,
    fleet: Fleet,
}

pub(crate) struct World {
    chance: u64,
    /// How many regions, with how many nodes each.
    shape: (usize, usize),
    /// Those of the global realm; the ones that are chosen if none are named.
    pub(crate) witnesses: Vec<Place>,
    pub(crate) loss_percent: u64,
    pub(crate) net: Net,
    /// What is forced, as all know it at once.
    book: Book,
    pub(crate) now_ms: u64,
    nodes: BTreeMap<Place, Sim>,
    events: BTreeMap<(u64, u64), (Place, Event)>,
    sent: u64,
    maps: BTreeMap<Place, Vec<(RegionMask, Map)>>,
    /// Every change of what any node sees, in the order in which it happened.
    pub(crate) trace: Vec<String>,
}

impl World {
    /// All nodes run, and know each other.
    pub(crate) fn new(seed: u64, loss_percent: u64) -> Self {
        Self::of(REGIONS, seed, loss_percent)
    }

    /// The same with so many of the regions.
    pub(crate) fn of(regions: usize, seed: u64, loss_percent: u64) -> Self {
        let mut world = Self::cold((regions, NODES), seed, loss_percent);
        world.run(15_000);
        for observer in world.places() {
            assert!(world.whole(observer), "seed {seed}: {observer:?} at the start\n{}", world.trace.join("\n"));
        }
        world
    }

    /// So many regions with so many nodes each, all started at this moment.
    pub(crate) fn cold(shape: (usize, usize), seed: u64, loss_percent: u64) -> Self {
        let mut world = Self {
            chance: seed.wrapping_mul(2).wrapping_add(1),
            shape,
            witnesses: Vec::new(),
            loss_percent,
            net: Net::WHOLE,
            book: Book::default(),
            now_ms: 0,
            nodes: BTreeMap::new(),
            events: BTreeMap::new(),
            sent: 0,
            maps: BTreeMap::new(),
            trace: Vec::new(),
        };
        let base = base();
        for place in world.places() {
            let here = RegionId::parse(&format!("r{}", place.0)).unwrap();
            let map = |mask: RegionMask| {
                (mask, Map::compile(&config(shape, place, &[]), &base, &Wishes::nearest(mask), &here))
            };
            world.maps.insert(place, [(1 << shape.0) - 1, 0b001, 0b010, 0b100].map(map).into());
            world.start(place);
        }
        world
    }

    /// Whether a node sees all regions and all nodes up.
    pub(crate) fn whole(&self, observer: Place) -> bool {
        let fleet = &self.nodes[&observer].fleet;
        let up = |region: &RegionView| {
            region.state == RegionState::Up && region.nodes.iter().all(|node| node.state == NodeState::Up)
        };
        !fleet.minority && fleet.regions.iter().all(up)
    }

    /// A node begins anew, and knows nothing.
    pub(crate) fn start(&mut self, place: Place) {
        let mut verdicts = Verdicts::new(&config(self.shape, place, &[]), settings());
        verdicts.handle_readiness(Readiness::Ready);
        let mut fleet = verdicts.poll(&self.book, self.now_ms, self.now_ms);
        self.book.apply(&mut fleet);
        let others = self.places().filter(|other| *other != place);
        let next_probe_ms = others.map(|other| (other, self.now_ms + self.draw(PROBE_EVERY_MS))).collect();
        let generation = self.now_ms + 1;
        let node = Sim {
            verdicts,
            alive: true,
            generation,
            issue: 0,
            said: None,
            heard: BTreeMap::new(),
            next_probe_ms,
            fleet,
        };
        self.nodes.insert(place, node);
    }

    pub(crate) fn kill(&mut self, place: Place) {
        self.nodes.get_mut(&place).unwrap().alive = false;
    }

    pub(crate) fn drain(&mut self, place: Place) {
        self.nodes.get_mut(&place).unwrap().verdicts.handle_readiness(Readiness::Draining);
    }

    /// Forces a region or a node, or takes that back.
    pub(crate) fn force(&mut self, target: Target, force: Option<Force>) {
        self.book.order(target, force, ("ops", "a test"), &name((0, 0)), self.now_ms).unwrap();
    }

    pub(crate) fn run(&mut self, ms: u64) {
        self.watch(ms, |_| {});
    }

    /// Runs, and looks at the world whenever verdicts were judged.
    pub(crate) fn watch(&mut self, ms: u64, mut look: impl FnMut(&Self)) {
        let end = self.now_ms + ms;
        while self.now_ms < end {
            self.now_ms += STEP_MS;
            self.deliver();
            for place in self.places() {
                self.turn(place);
            }
            if self.now_ms.is_multiple_of(JUDGE_EVERY_MS) {
                look(self);
            }
        }
    }

    /// How long it takes until something holds; fails if it takes longer than `deadline_ms`.
    pub(crate) fn until(&mut self, what: &str, deadline_ms: u64, holds: impl Fn(&Self) -> bool) -> u64 {
        let began = self.now_ms;
        while !holds(self) {
            assert!(
                self.now_ms - began < deadline_ms,
                "not within {deadline_ms} ms: {what}\n{}",
                self.trace.join("\n")
            );
            self.run(STEP_MS);
        }
        self.now_ms - began
    }

    pub(crate) fn states(&self, observer: Place) -> [RegionState; REGIONS] {
        let regions = &self.nodes[&observer].fleet.regions;
        std::array::from_fn(|region| regions.get(region).map_or(RegionState::Unknown, |region| region.state))
    }

    pub(crate) fn minority(&self, observer: Place) -> bool {
        self.nodes[&observer].fleet.minority
    }

    /// The region that DNS at a node names to a client near region `near`, under a mask.
    pub(crate) fn answer(&self, at: Place, near: usize, eligible: RegionMask) -> (usize, Outcome) {
        self.answer_to(at, (near, 0), eligible)
    }

    /// The same for a client in one of the /24 there.
    fn answer_to(&self, at: Place, (near, cell): (usize, u8), eligible: RegionMask) -> (usize, Outcome) {
        let standing = Standing::of(&self.nodes[&at].fleet);
        let (_, map) = self.maps[&at].iter().find(|(mask, _)| *mask == eligible).unwrap();
        let client = IpAddr::from(Ipv4Addr::new(10 + u8::try_from(near).unwrap(), 0, cell, 1));
        let policy = Wishes::nearest(eligible).policy(30);
        let decision = decide(client, eligible, &policy, map, &standing);
        (decision.region().expect("never an empty answer"), decision.outcome)
    }

    /// How many of 250 blocks of clients near a region DNS at a node leads there, and how many of those of its pinned site.
    pub(crate) fn at_home(&self, at: Place, near: usize) -> (usize, usize) {
        let all = (1 << self.shape.0) - 1;
        let home = |mask: RegionMask| (0..250).filter(|cell| self.answer_to(at, (near, *cell), mask).0 == near).count();
        (home(all), home(1 << near))
    }

    /// What DNS at a node says to a client near each region of the free site, and of those pinned to each region.
    pub(crate) fn answers(&self, at: Place) -> [usize; 2 * REGIONS] {
        std::array::from_fn(|index| {
            let near = index % REGIONS;
            self.answer(at, near, if index < REGIONS { 0b111 } else { 1 << near }).0
        })
    }

    /// Whether a purge of a realm that a node takes is acknowledged by a majority of the witnesses: those that it and
    /// they can reach each other. `pin` is a region's jurisdiction, or none for the global realm.
    pub(crate) fn purges(&self, at: Place, pin: Option<usize>) -> bool {
        let realm = match pin {
            None => RealmId::global(),
            Some(region) => RealmId::pinned(&jurisdiction(region)),
        };
        let witnesses = purge::witnesses(&config(self.shape, at, &self.witnesses), &realm);
        let there = |witness: usize| places().find(|place| name(*place) == witnesses[witness]).unwrap();
        let reach = |witness| {
            let to = there(witness);
            to == at || self.nodes[&to].alive && (self.net.gossip)(at, to) && (self.net.gossip)(to, at)
        };
        Electorate::of(witnesses.len()).met(reach)
    }

    pub(crate) fn places(&self) -> impl Iterator<Item = Place> + use<> {
        let (regions, nodes) = self.shape;
        (0..regions).flat_map(move |region| (0..nodes).map(move |index| (region, index)))
    }

    fn turn(&mut self, place: Place) {
        if !self.nodes[&place].alive {
            return;
        }
        let due: Vec<Place> =
            self.nodes[&place].next_probe_ms.iter().filter(|(_, at)| **at <= self.now_ms).map(|(to, _)| *to).collect();
        for to in due {
            self.nodes.get_mut(&place).unwrap().next_probe_ms.insert(to, self.now_ms + PROBE_EVERY_MS);
            self.probe(place, to);
        }
        if self.now_ms.is_multiple_of(JUDGE_EVERY_MS) {
            self.judge(place);
        }
    }

    /// Three asks, each of which may be lost, as may its answer.
    fn probe(&mut self, from: Place, to: Place) {
        let passes = (self.net.probes)(from, to) && (self.net.probes)(to, from) && self.nodes[&to].alive;
        let kept = (0..3).any(|_| !self.lost() && !self.lost());
        if passes && kept {
            let (generation, issue) = (self.nodes[&to].generation, self.nodes[&to].issue);
            let after = self.way(from, to) * 2;
            self.send(after, from, Event::Answer { from: to, generation, issue });
        } else {
            self.send(PATIENCE_MS, from, Event::Miss { of: to });
        }
    }

    fn judge(&mut self, place: Place) {
        let now_ms = self.now_ms;
        let node = self.nodes.get_mut(&place).unwrap();
        let mut fleet = node.verdicts.poll(&self.book, now_ms, 0);
        self.book.apply(&mut fleet);
        node.verdicts.settle(&mut fleet, &self.book, now_ms);
        let seen = |fleet: &Fleet| {
            let region = |region: &RegionView| match region.part_percent {
                WHOLE_PERCENT => region.state.as_str().to_owned(),
                part => format!("{} ({part} %)", region.state.as_str()),
            };
            let regions = fleet.regions.iter().map(region).collect::<Vec<_>>().join(" ");
            format!("{regions}{}", if fleet.minority { " (minority)" } else { "" })
        };
        let (before, now) = (seen(&node.fleet), seen(&fleet));
        node.fleet = fleet;
        let report = node.verdicts.report();
        let new = node.said.as_ref() != Some(&report);
        if new {
            node.issue += 1;
            node.said = Some(report.clone());
        }
        let (generation, issue) = (node.generation, node.issue);
        if before != now {
            self.trace.push(format!("{now_ms:>7} {}: {now}", name(place)));
        }
        if new {
            for to in self.places().filter(|to| *to != place) {
                self.tell(place, to, generation, issue, &report);
            }
        }
    }

    fn tell(&mut self, from: Place, to: Place, generation: u64, issue: u64, report: &Report) {
        if (self.net.gossip)(from, to) && !self.lost() {
            let after = self.way(from, to);
            self.send(after, to, Event::Report { from, generation, issue, report: report.clone() });
        }
    }

    fn deliver(&mut self) {
        let later = self.events.split_off(&(self.now_ms + 1, 0));
        for (_, (to, event)) in std::mem::replace(&mut self.events, later) {
            if self.nodes[&to].alive {
                self.handle(to, event);
            }
        }
    }

    fn handle(&mut self, at: Place, event: Event) {
        let now_ms = self.now_ms;
        let node = self.nodes.get_mut(&at).unwrap();
        match event {
            Event::Miss { of } => _ = node.verdicts.handle_miss(&name(of), 0),
            Event::Report { from, generation, issue, report } => {
                // an older one that was overtaken on the way says nothing new
                if node.heard.get(&from).is_none_or(|heard| *heard < (generation, issue)) {
                    node.heard.insert(from, (generation, issue));
                    node.verdicts.handle_report(&name(from), report, now_ms);
                }
            }
            Event::Answer { from, generation, issue } => {
                node.verdicts.handle_answer(&name(from), 1000);
                match node.heard.get(&from) {
                    Some(heard) if *heard == (generation, issue) => {
                        node.verdicts.handle_confirmation(&name(from), now_ms);
                        return;
                    }
                    Some((run, _)) if *run != generation => node.verdicts.handle_restart(&name(from)),
                    _ => {}
                }
                // behind: it asks for the report, which takes both ways
                let there = &self.nodes[&from];
                let (generation, issue) = (there.generation, there.issue);
                if let Some(report) = there.said.clone().filter(|_| there.alive && (self.net.gossip)(at, from)) {
                    self.tell(from, at, generation, issue, &report);
                }
            }
        }
    }

    fn send(&mut self, after_ms: u64, to: Place, event: Event) {
        self.sent += 1;
        self.events.insert((self.now_ms + after_ms.max(1), self.sent), (to, event));
    }

    /// One way, in ms.
    fn way(&mut self, from: Place, to: Place) -> u64 {
        let far = if from.0 == to.0 { 1 } else { 60 };
        far + self.draw(10)
    }

    fn lost(&mut self) -> bool {
        self.draw(100) < self.loss_percent
    }

    /// A number below `below`: `SplitMix64`.
    fn draw(&mut self, below: u64) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.chance ^ (self.chance >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    }
}

fn jurisdiction(region: usize) -> JurisdictionId {
    JurisdictionId::parse(&format!("j{region}")).unwrap()
}

/// A client beside each region: 10/8, 11/8, 12/8.
fn base() -> Base {
    let mut builder = BaseBuilder::new();
    for (index, (north, east)) in CITIES.into_iter().enumerate() {
        let place = Location { country: Some(*b"XX"), point: Point::from_degrees(north, east), ..Location::NOWHERE };
        let place = builder.location(place);
        let first = (10 + u32::try_from(index).unwrap()) << 24;
        builder.range_v4(first, first + (1 << 24) - 1, place).unwrap();
    }
    builder.finish()
}

/// The fleet as a node of it is configured: each region is a jurisdiction of its own.
fn config((regions, nodes): (usize, usize), here: Place, witnesses: &[Place]) -> Config {
    let node = |place: Place| Node { name: name(place), peer: None, addresses: Vec::new() };
    let region = |region: usize| Region {
        name: RegionId::parse(&format!("r{region}")).unwrap(),
        latitude: CITIES[region % CITIES.len()].0,
        longitude: CITIES[region % CITIES.len()].1,
        jurisdiction: jurisdiction(region),
        capacity_per_second: None,
        nodes: (0..nodes).map(|index| node((region, index))).collect(),
    };
    let named = WitnessSet {
        realm: RealmId::global(),
        version: 1,
        nodes: witnesses.iter().map(|place| name(*place)).collect(),
        next: Vec::new(),
        written_at: String::new(),
    };
    Config {
        node: NodeConfig {
            name: name(here),
            region: RegionId::parse(&format!("r{}", here.0)).unwrap(),
            state_dir: PathBuf::new(),
            http: Vec::new(),
            https: Vec::new(),
            dns: Vec::new(),
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
        jurisdictions: Vec::new(),
        regions: (0..regions).map(region).collect(),
        zones: Vec::new(),
        tenants: Vec::new(),
        sites: Vec::new(),
        tokens: Vec::new(),
        witnesses: if witnesses.is_empty() { Vec::new() } else { vec![named] },
        streams: Vec::new(),
        fingerprint: [0; 32],
    }
}
