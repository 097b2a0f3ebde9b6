//! Every link between two nodes is cut in turn, and every node is cut off in turn, while purges go on.
//!
//! What one cut link keeps back goes round by the others. A node that is cut off altogether cannot hear of a purge: how old
//! its answers may be then, is what `class` and `max_staleness` of a route are for.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::task::JoinSet;

use super::version;
use crate::harness::{
    client::{Connection, Reply},
    fleet::{Between, FREE, FREE_SITE, Fleet, Plan},
    until_some,
};

/// How long a cut lasts after the purge: among all tests, and where there is time.
const SHORT: Duration = Duration::from_millis(1_200);
const BEYOND_BOUND: Duration = Duration::from_millis(3_500);
const LONG: Duration = Duration::from_secs(8);
/// A node that is cut off says so in what it serves, from so long after the cut on: 5 s, and a second of this machine's.
const UNMARKED: Duration = Duration::from_secs(6);
const MARK: &str = "detail=unconfirmed";
/// How soon a purge has gone round a link that is cut.
const ROUND: Duration = Duration::from_secs(3);
/// How soon a node that was cut off has what it missed.
const HEALED: Duration = Duration::from_secs(5);
/// What a route promises, and the route.
const BOUND: Duration = Duration::from_secs(2);
const TIGHT: &str = "[[sites.routes]]\npath = \"/o/400/tight/*\"\nclass = \"tight\"\nmax_staleness = \"2s\"\n";
const PAUSE: Duration = Duration::from_millis(5);

/// What a node answered for an object after its purge was acknowledged.
#[derive(Debug, Default)]
struct Answers {
    /// How long after the acknowledgement the last request began that got an older version.
    older: Option<Duration>,
    /// The same of one that was not marked as perhaps too old.
    unmarked: Option<Duration>,
    marked: usize,
    /// The longest that an answer took.
    slowest: Duration,
}

/// Asks a node for an object for a while.
async fn watch(address: SocketAddr, target: String, floor: u64, acknowledged: Instant, until: Instant) -> Answers {
    let mut connection = Connection::open(address).await.unwrap();
    let mut answers = Answers::default();
    while Instant::now() < until {
        let began = acknowledged.elapsed();
        let Ok(reply) = connection.get(FREE, &target).await else {
            connection = Connection::open(address).await.unwrap();
            continue;
        };
        answers.slowest = answers.slowest.max(acknowledged.elapsed() - began);
        answers.take(&reply, floor, began);
        tokio::time::sleep(PAUSE).await;
    }
    answers
}

impl Answers {
    fn take(&mut self, reply: &Reply, floor: u64, began: Duration) {
        if reply.status != 200 {
            return;
        }
        if version(reply).unwrap_or_else(|fault| panic!("{fault}")) >= floor {
            return;
        }
        self.older = Some(began);
        if reply.cache_status().contains(MARK) {
            self.marked += 1;
        } else {
            self.unmarked = Some(began);
        }
    }
}

/// The two objects that each cut is watched by: of a standard route, and of a bounded one.
fn targets(tag: &str) -> [String; 2] {
    [format!("/o/400/{tag}"), format!("/o/400/tight/{tag}")]
}

/// What the nodes answered for the two objects.
struct Seen {
    standard: Vec<Answers>,
    tight: Vec<Answers>,
}

/// Cuts as told, purges through a node, and watches both objects on all nodes. Returns what each answered.
async fn cut(fleet: &Fleet, links: &[(usize, usize)], through: usize, tag: &str, lasts: Duration) -> Seen {
    for (node, target) in fleet.nodes.iter().flat_map(|node| targets(tag).map(|target| (node, target))) {
        assert_eq!(node.get(FREE, &target).await.status, 200);
        let reply = node.get(FREE, &target).await;
        assert!(reply.is_hit(), "{}: {}", node.name, reply.seen());
    }
    links.iter().for_each(|(one, other)| fleet.shim().cut_both(*one, *other));
    let floor = fleet.origin.publish();
    let tags = [tag.to_owned(), format!("tight/{tag}")];
    let order = json!({ "site": FREE_SITE, "tags": tags, "wait": "quorum", "timeout_ms": 10_000 });
    let (status, receipt) = fleet.nodes[through].purge(&order).await.unwrap();
    assert_eq!(status, 200, "{tag} through {}: {receipt}", fleet.nodes[through].name);
    let acknowledged = Instant::now();
    let mut watches = JoinSet::new();
    for (number, node) in fleet.nodes.iter().enumerate() {
        for (kind, target) in targets(tag).into_iter().enumerate() {
            let watch = watch(node.http, target, floor, acknowledged, acknowledged + lasts);
            watches.spawn(async move { ((kind, number), watch.await) });
        }
    }
    let mut answers = watches.join_all().await;
    answers.sort_by_key(|(place, _)| *place);
    fleet.shim().heal();
    let what = format!("{tag} is in effect everywhere");
    until_some(&what, HEALED, async || {
        for (node, target) in fleet.nodes.iter().flat_map(|node| targets(tag).map(|target| (node, target))) {
            let reply = node.get(FREE, &target).await;
            let version = version(&reply)?;
            if version < floor {
                return Err(format!("{}: {}", node.name, reply.seen()));
            }
        }
        Ok(())
    })
    .await;
    let mut standard: Vec<_> = answers.into_iter().map(|(_, answers)| answers).collect();
    let tight = standard.split_off(fleet.nodes.len());
    Seen { standard, tight }
}

async fn fleet() -> Fleet {
    Fleet::planned(Plan { per_region: 2, between: Between::Shim, routes: Some(TIGHT), ..Plan::default() }).await
}

/// A node never answers for a bounded route what is older than this after the acknowledgement of its purge.
fn bounded(fleet: &Fleet, seen: &Seen, cut: &str) {
    for (node, answers) in fleet.nodes.iter().zip(&seen.tight) {
        let older = answers.older.unwrap_or_default();
        assert!(older <= BOUND, "{cut}: {} answered older {older:?} after the acknowledgement", node.name);
    }
}

/// Cuts every link in turn.
async fn links_in_turn(lasts: Duration) {
    let fleet = fleet().await;
    let mut worst = (Duration::ZERO, String::new());
    let mut silent = BTreeMap::new();
    for one in 0..6 {
        for other in one + 1..6 {
            let tag = format!("link-{one}-{other}");
            let seen = cut(&fleet, &[(one, other)], one, &tag, lasts).await;
            bounded(&fleet, &seen, &tag);
            for (node, answers) in fleet.nodes.iter().zip(&seen.standard) {
                let cut = format!("{} to {} cut: {}", fleet.nodes[one].name, fleet.nodes[other].name, node.name);
                let older = answers.older.unwrap_or_default();
                assert!(older < ROUND, "{cut} was older {older:?} after the acknowledgement");
                silent.insert(answers.slowest, cut.clone());
                worst = worst.max((older, cut));
            }
        }
    }
    let slowest = silent.pop_last().unwrap();
    eprintln!(
        "15 links cut in turn: the last older answer began {:.1?} after the acknowledgement ({}); the slowest answer took \
         {:.1?} ({})",
        worst.0, worst.1, slowest.0, slowest.1
    );
}

/// Cuts every node off in turn.
async fn nodes_in_turn(lasts: Duration) {
    let fleet = fleet().await;
    for alone in 0..6 {
        let links: Vec<_> = (0..6).filter(|other| *other != alone).map(|other| (alone, other)).collect();
        let through = (alone + 1) % 6;
        let tag = format!("alone-{alone}");
        // one of them long enough to see the mark; where there is time, all
        let lasts = if alone == 5 { LONG } else { lasts };
        let seen = cut(&fleet, &links, through, &tag, lasts).await;
        bounded(&fleet, &seen, &tag);
        for (number, (node, answers)) in fleet.nodes.iter().zip(&seen.standard).enumerate() {
            if number == alone {
                let [older, unmarked, bounded] = [answers.older, answers.unmarked, seen.tight[alone].older];
                let [older, unmarked, bounded] = [older, unmarked, bounded].map(Option::unwrap_or_default);
                eprintln!(
                    "{} alone for {lasts:?}: standard older until {older:.1?}, without mark until {unmarked:.1?}, {} answers \
                     with it; bounded older until {bounded:.1?}",
                    node.name, answers.marked
                );
                assert!(unmarked <= UNMARKED, "{} served without mark after {unmarked:?}", node.name);
                assert!(lasts < LONG || answers.marked > 0, "{} was never marked", node.name);
            } else {
                let older = answers.older.unwrap_or_default();
                assert!(older < ROUND, "{} was older {older:?} after the acknowledgement", node.name);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_goes_round_every_link_that_is_cut() {
    links_in_turn(SHORT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_off_is_alone_in_what_it_does_not_know() {
    nodes_in_turn(BEYOND_BOUND).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make chaos"]
async fn every_link_and_every_node_cut_off_for_longer() {
    links_in_turn(LONG).await;
    nodes_in_turn(LONG).await;
}
