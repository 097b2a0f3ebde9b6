//! What a node does with what it counts and hears.
#![allow(clippy::unwrap_used, reason = "tests")]

use region_config::{Config, JurisdictionId};
use rules::health::RegionState;

use super::*;
use crate::{dns::tests::config, geo};

const GERMAN: [u8; 4] = [91, 0, 0, 1];

fn bearing(capacity: u32) -> Config {
    let mut config = config();
    config.regions[0].capacity_per_second = Some(capacity);
    config
}

/// A node whose clients and clock we are.
struct Node {
    load: Load,
    view: ArcSwap<View>,
    /// What it sees of the others.
    fleet: Fleet,
    demands: Vec<(NodeId, String, bool)>,
    /// What it told last.
    told: String,
    book: Book,
    free: usize,
    site: Arc<Site>,
    now_ms: u64,
}

impl Node {
    fn new(config: &Config) -> Self {
        let view = View::compile(config, &geo::Base::embedded().unwrap()).unwrap();
        let free = config.sites.iter().position(|site| site.pin.is_none()).unwrap();
        Self {
            load: Load::default(),
            view: ArcSwap::from_pointee(view),
            fleet: Health::start(config, None, Tasks::new()).fleet().as_ref().clone(),
            demands: Vec::new(),
            told: String::new(),
            book: Book::default(),
            free,
            site: Arc::clone(&config.sites[free]),
            now_ms: 1_000,
        }
    }

    /// So many seconds with so many requests of German clients in each.
    fn run(&mut self, s: u64, requests: u32) {
        for _ in 0..s {
            for request in 0..requests {
                let [a, b, ..] = GERMAN;
                self.load.note(self.free, &self.site, IpAddr::from([a, b, u8::try_from(request % 250).unwrap(), 1]));
            }
            self.now_ms += 1_000;
            let seen = Seen { fleet: Arc::new(self.fleet.clone()), demands: self.demands.clone() };
            if let Some(text) = self.book.turn(&self.load, &self.view, seen, self.now_ms) {
                self.told = text;
            }
        }
    }

    fn shared(&self) -> bool {
        self.view.load().map(self.free).unwrap().shares().are_some()
    }
}

#[test]
fn more_than_a_region_bears_is_led_on_and_comes_back_when_there_is_less() {
    let mut node = Node::new(&bearing(100));
    node.run(60, 60);
    assert!(!node.shared());
    assert!((node.load.regions()[0].demand - 60.0).abs() < 8.0, "{:?}", node.load.regions());
    node.run(100, 120);
    assert!(node.shared());
    let [ours, other] = [0, 1].map(|region| node.load.regions()[region].clone());
    assert!(ours.gives && (ours.demand - 120.0).abs() < 4.0, "{ours:?}");
    assert!((ours.led - 75.0).abs() < 8.0 && (other.led - 45.0).abs() < 8.0 && !other.gives, "{ours:?} {other:?}");
    // another plan is shared out before it is in force, and if load has moved meanwhile
    let config = bearing(100);
    let compile = |config: &Config| View::compile(config, &geo::Base::embedded().unwrap()).unwrap();
    let at = node.free;
    let shared = |view: &View| view.map(at).unwrap().shares().are_some();
    assert!(shared(&node.load.share_out(compile(&config))));
    // also where the regions stand in another order: all clients were called back to the region that led them on
    let mut turned = bearing(100);
    turned.regions.reverse();
    let by_name = |node: &Node| {
        let parts = node.book.parts.values().flatten();
        parts.map(|(region, part)| (node.book.regions[*region].clone(), *part)).collect::<Vec<_>>()
    };
    let before = by_name(&node);
    let other = node.load.share_out(compile(&turned));
    assert!(shared(&other) && before.iter().any(|(_, part)| *part < 0.7), "{before:?}");
    assert!(dns::put(&node.view, &Arc::new(other)));
    node.site = Arc::clone(&turned.sites[node.free]);
    node.run(1, 120);
    assert_eq!((by_name(&node), node.shared()), (before, true));
    let mut fewer = turned.clone();
    fewer.regions.remove(0);
    assert!(!shared(&node.load.share_out(compile(&fewer))), "who led clients to it begins anew");
    assert!(dns::put(&node.view, &Arc::new(compile(&config))));
    node.site = Arc::clone(&config.sites[node.free]);
    assert!(!node.shared());
    node.run(2, 120);
    assert!(node.shared());
    node.run(120, 60);
    assert!(!node.shared(), "{:?}", node.load.regions());
}

#[test]
fn where_no_region_says_what_it_bears_nothing_is_counted() {
    let mut node = Node::new(&bearing(100));
    node.run(3, 10);
    assert!(node.load.counted.load().is_some());
    let config = config();
    assert!(dns::put(&node.view, &Arc::new(View::compile(&config, &geo::Base::embedded().unwrap()).unwrap())));
    node.run(1, 10);
    assert!(node.load.counted.load().is_none() && !node.load.on.load(Relaxed));
    assert!(node.load.regions().is_empty());
}

/// Until the next turn, or for good if DNS could not take the new config, sites were counted by the older one's index: a pinned
/// one as a free one, by its client's whole list.
#[test]
fn a_site_of_another_config_is_not_counted_as_the_one_that_had_its_place() {
    let mut node = Node::new(&bearing(100));
    node.run(2, 10);
    let counted = || node.load.counted.load().as_ref().unwrap().tally.totals().iter().sum::<u64>();
    let before = counted();
    assert!(before > 0);
    let mut turned = bearing(100);
    turned.sites.reverse();
    for (place, site) in turned.sites.iter().enumerate() {
        node.load.note(place, site, GERMAN.into());
    }
    let pinned = Site { pin: Some(JurisdictionId::parse("eu").unwrap()), ..Site::clone(&node.site) };
    node.load.note(node.free, &Arc::new(pinned), GERMAN.into());
    assert_eq!(counted(), before);
    node.load.note(node.free, &node.site, GERMAN.into());
    assert_eq!(counted(), before + 1);
}

#[test]
fn what_other_nodes_are_asked_for_is_added_up() {
    let config = bearing(100);
    let view = View::compile(&config, &geo::Base::embedded().unwrap()).unwrap();
    let roster = view.roster().unwrap();
    let classes = roster.classes();
    let class = roster.class(0, GERMAN.into()).unwrap();
    let told: BTreeMap<u32, f64> = [(classes.id_of(class).unwrap(), 50.0), (77, 1000.0)].into();
    let sums = by_class(roster, [(&told, 1.0), (&told, 1.0)]);
    assert!((sums[class] - 100.0).abs() < 1e-9 && (sums.iter().sum::<f64>() - 100.0).abs() < 1e-9, "{sums:?}");
}

/// What a dead region was asked for was forgotten as it died, since its own nodes had counted it: no room was made.
#[test]
fn a_region_dies_with_the_nodes_that_counted_its_clients_and_room_is_made_at_once() {
    let mut config = bearing(100);
    config.regions[1].capacity_per_second = Some(80);
    let mut third = config.regions[1].clone();
    (third.name, third.latitude) = (RegionId::parse("third").unwrap(), -third.latitude);
    third.capacity_per_second = None;
    config.regions.push(third);
    let mut node = Node::new(&config);
    let roster = Arc::clone(node.view.load().roster().unwrap());
    let class = roster.class(node.free, GERMAN.into()).unwrap();
    let mut requests = vec![0.0; roster.classes().count()];
    requests[class] = 70.0;
    let told = told::encode(roster.classes(), &requests, None);
    node.demands = vec![(NodeId::parse("other").unwrap(), told, true)];
    node.run(30, 0);
    let figures =
        |node: &Node| node.load.regions().iter().map(|it| [it.demand, it.led].map(f64::round)).collect::<Vec<_>>();
    assert_eq!(figures(&node), [[70.0, 70.0], [0.0, 0.0], [0.0, 0.0]]);
    node.demands[0].2 = false;
    node.fleet.regions[0].state = RegionState::Down;
    node.run(1, 0);
    assert_eq!(figures(&node), [[0.0, 0.0], [70.0, 60.0], [0.0, 10.0]]);
    // its clients ask others now, or nobody
    node.run(60, 0);
    assert!(node.load.regions().iter().all(|it| it.demand < 2.0), "{:?}", node.load.regions());
}

/// One that was restarted while a region had 80 % led nobody on, for good, while the others did.
#[test]
fn a_node_that_was_just_started_gives_what_the_others_give_and_says_so() {
    let giving_of = |node: &Node| told::decode(&node.told).unwrap().gives;
    let mut alone = Node::new(&bearing(100));
    alone.run(60, 80);
    assert_eq!((giving_of(&alone), alone.shared()), (Some(vec![]), false));
    let mut node = Node::new(&bearing(100));
    let eu = node.view.load().roster().unwrap().classes().id_of(0).unwrap();
    let says = |name: &str, gives: &str| (NodeId::parse(name).unwrap(), format!("1;;{gives}"), true);
    let gives = format!("{eu:08x},");
    node.demands = vec![says("a", &gives), says("b", &gives), says("c", "")];
    node.run(60, 80);
    assert_eq!((giving_of(&node), node.shared()), (Some(vec![eu]), true), "{:?}", node.load.regions());
    node.run(120, 60);
    assert_eq!((giving_of(&node), node.shared()), (Some(vec![]), false));
}
