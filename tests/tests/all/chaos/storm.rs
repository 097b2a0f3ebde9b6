//! Purges that wait for all nodes, while clients ask all nodes, while nodes are killed and cut off from each other.
//!
//! The origin has the new version before a purge is ordered. From the acknowledgement on, no answer that begins to be asked
//! for may be older, at any node, whatever happened to it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{task::JoinSet, time::timeout};

use super::{Chance, version, warm};
use crate::harness::{
    client::Connection,
    firewall::Partitions,
    fleet::{Between, FREE, FREE_SITE, Fleet, Plan},
    orders::Door,
};

/// Objects, each with a tag of its own.
const OBJECTS: usize = 60;
/// Connections of clients to each node.
const CLIENTS: usize = 2;
/// A client that gets no answer in this time connects anew.
const CLIENT_PATIENCE: Duration = Duration::from_secs(5);
/// Pause between two purges.
const PURGE_EVERY: Duration = Duration::from_millis(100);
/// What a purge waits at most for all nodes.
const PURGE_TIMEOUT_MS: u64 = 30_000;
/// How often an order is repeated whose node went away.
const REPEATS: usize = 30;
/// How soon everything that was ordered is in effect everywhere once nothing is broken any more.
const CONVERGED: Duration = Duration::from_secs(10);

fn target(object: usize) -> String {
    format!("/o/1500/storm-{object}")
}

/// What the storm is like.
#[derive(Debug, Clone, Copy)]
struct Weather {
    lasts: Duration,
    /// Requests a second that each client makes at most.
    client_rate: u32,
    /// How long a fault lasts, and how long there is none: least and most.
    fault: (Duration, Duration),
    calm: (Duration, Duration),
    site: Kind,
    between: Between,
}

/// What the site promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A purge for all waits until every node has it.
    Standard,
    /// A purge for all ends when the bound has passed, for nodes that cannot be reached.
    Bounded,
}

/// The routes of a bounded site.
const BOUNDED: &str = "[[sites.routes]]\npath = \"/*\"\nclass = \"tight\"\nmax_staleness = \"2s\"\n";

/// What everybody writes down.
#[derive(Debug, Default)]
struct Board {
    /// Per object the version that a request which begins now must get at least.
    floors: Vec<AtomicU64>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    stale: Mutex<Vec<String>>,
    /// Orders that were never acknowledged, with what was said last.
    open: Mutex<Vec<String>>,
    slowest_ms: AtomicU64,
    clients_end: AtomicBool,
    purges_end: AtomicBool,
}

impl Board {
    fn count(&self, what: &'static str) {
        *self.counts.lock().unwrap().entry(what).or_default() += 1;
    }

    fn counted(&self, what: &str) -> u64 {
        self.counts.lock().unwrap().get(what).copied().unwrap_or(0)
    }
}

/// A client of one node: asks for one object after the other, and judges the answers.
async fn client(board: Arc<Board>, node: String, address: SocketAddr, rate: u32, first: usize) {
    let mut connection = None;
    let mut pace = tokio::time::interval(Duration::from_secs(1) / rate);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for number in first.. {
        if board.clients_end.load(Ordering::SeqCst) {
            return;
        }
        pace.tick().await;
        let mut open = match connection.take() {
            Some(open) => open,
            None => match Connection::open(address).await {
                Ok(open) => open,
                Err(_) => {
                    board.count("not connected");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let object = number * 7 % OBJECTS;
        let target = target(object);
        let floor = board.floors[object].load(Ordering::SeqCst);
        let reply = match timeout(CLIENT_PATIENCE, open.get(FREE, &target)).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(_)) => {
                board.count("connection lost");
                continue;
            }
            Err(_) => {
                board.count("no answer in time");
                continue;
            }
        };
        if reply.broken.is_some() {
            board.count("broken off");
            continue;
        }
        if reply.status != 200 {
            board.count(if reply.status == 503 { "503" } else { "other status" });
            connection = Some(open);
            continue;
        }
        match version(&reply) {
            Ok(version) if version >= floor => board.count("checked"),
            Ok(version) => {
                let log = format!("{node}: {target} is {version}, and {floor} was acknowledged: {}", reply.seen());
                board.stale.lock().unwrap().push(log);
            }
            Err(fault) => board.stale.lock().unwrap().push(format!("{node}: {target}: {fault}")),
        }
        if reply.is_hit() {
            board.count("hits");
        }
        connection = Some(open);
    }
}

/// Orders one purge, again at another node if one goes away, and notes its acknowledgement.
async fn purge(board: Arc<Board>, doors: Arc<Vec<Door>>, through: usize, object: usize, version: u64) {
    let key = format!("storm-{version}");
    let order = json!({
        "site": FREE_SITE, "tags": [format!("storm-{object}")], "wait": "all", "timeout_ms": PURGE_TIMEOUT_MS,
        "idempotency_key": key,
    });
    let sent = Instant::now();
    let mut last = String::new();
    for repeat in 0..REPEATS {
        let door = &doors[(through + repeat) % doors.len()];
        match door.order(&order).await {
            Ok((200, receipt)) if receipt["state"] == "all" => {
                board.floors[object].fetch_max(version, Ordering::SeqCst);
                board.count("acknowledged");
                let fenced = receipt["nodes"].as_array().unwrap().iter().any(|node| node["state"] == "fenced");
                if fenced {
                    board.count("acknowledged, with a fenced node");
                }
                let ms = u64::try_from(sent.elapsed().as_millis()).unwrap();
                board.slowest_ms.fetch_max(ms, Ordering::SeqCst);
                return;
            }
            Ok((202, receipt)) => {
                board.count("timed out");
                last = format!("{}: {}", door.name, pending(&receipt));
            }
            Ok((503, problem)) => {
                board.count("refused");
                last = format!("{}: {problem}", door.name);
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Ok((status, answer)) => panic!("{order} at {}: {status} {answer}", door.name),
            Err(fault) => {
                board.count("orders that lost their node");
                last = format!("{}: {fault}", door.name);
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
    board.open.lock().unwrap().push(format!("{key}, {:?}: {last}", sent.elapsed()));
}

fn pending(receipt: &Value) -> String {
    let nodes = receipt["nodes"].as_array().into_iter().flatten();
    let pending: Vec<_> =
        nodes.filter(|node| node["state"] == "pending").map(|node| node["node"].to_string()).collect();
    format!("{} of id {}: {} are pending", receipt["state"], receipt["id"], pending.join(", "))
}

/// Ten purges a second, through one node after the other. Returns the orders that are under way.
async fn purges(board: Arc<Board>, doors: Arc<Vec<Door>>, origin: Arc<AtomicU64>) -> JoinSet<()> {
    let mut orders = JoinSet::new();
    let mut pace = tokio::time::interval(PURGE_EVERY);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for number in 0.. {
        pace.tick().await;
        if board.purges_end.load(Ordering::SeqCst) {
            break;
        }
        while orders.try_join_next().is_some() {}
        let version = origin.fetch_add(1, Ordering::SeqCst) + 1;
        board.count("purges");
        let (board, doors) = (Arc::clone(&board), Arc::clone(&doors));
        orders.spawn(purge(board, doors, number % 6, number * 11 % OBJECTS, version));
    }
    orders
}

/// What breaks.
#[derive(Debug, Clone)]
enum Fault {
    /// SIGKILL.
    Kill(usize),
    /// Nothing goes from the ones to the others.
    Cut { what: &'static str, from: Vec<usize>, to: Vec<usize> },
    /// Nothing goes from the ones to the others, nor back.
    Part { what: &'static str, ones: Vec<usize>, others: Vec<usize> },
}

/// Draws a fault. Nodes 0 and 1 are of the first region, and so on; the first of each is a witness.
fn fault(chance: &mut Chance) -> Fault {
    let except = |some: &[usize]| (0..6).filter(|node| !some.contains(node)).collect::<Vec<_>>();
    let node = chance.below(6);
    let region: Vec<_> = (0..6).filter(|other| other / 2 == node / 2).collect();
    let witness = node / 2 * 2;
    match chance.below(10) {
        0..3 => Fault::Kill(node),
        3 => Fault::Part { what: "a node", ones: vec![node], others: except(&[node]) },
        4 => Fault::Cut { what: "what a node sends", from: vec![node], to: except(&[node]) },
        5 => Fault::Cut { what: "what a node is sent", from: except(&[node]), to: vec![node] },
        6 => Fault::Part { what: "a region", others: except(&region), ones: region },
        7 => Fault::Cut { what: "what a region sends", to: except(&region), from: region },
        8 => Fault::Part {
            what: "a witness from the others",
            ones: vec![witness],
            others: vec![(witness + 2) % 6, (witness + 4) % 6],
        },
        _ => Fault::Part { what: "all witnesses from all", ones: vec![0, 2, 4], others: (0..6).collect() },
    }
}

/// Breaks things and mends them, one after the other, until the time is over; then everything is whole.
async fn faults(fleet: &mut Fleet, board: &Board, weather: Weather, chance: &mut Chance) {
    let start = Instant::now();
    while start.elapsed() < weather.lasts {
        tokio::time::sleep(chance.between(weather.calm.0, weather.calm.1)).await;
        let lasts = chance.between(weather.fault.0, weather.fault.1);
        let fault = fault(chance);
        match &fault {
            Fault::Kill(node) => {
                board.count("kills");
                fleet.nodes[*node].kill();
                tokio::time::sleep(lasts / 3).await;
                fleet.nodes[*node].start();
                fleet.nodes[*node].ready().await;
            }
            Fault::Cut { what, from, to } => {
                board.count("partitions one way");
                board.count(what);
                fleet.cut(pairs(from, to));
                tokio::time::sleep(lasts).await;
            }
            Fault::Part { what, ones, others } => {
                board.count("partitions both ways");
                board.count(what);
                fleet.cut(pairs(ones, others).chain(pairs(others, ones)));
                tokio::time::sleep(lasts / 2).await;
                // now and then what is cut off dies too
                if chance.below(4) == 0 {
                    board.count("kills");
                    fleet.nodes[ones[0]].kill();
                    fleet.nodes[ones[0]].start();
                }
                tokio::time::sleep(lasts / 2).await;
            }
        }
        fleet.heal();
    }
    fleet.all_ready().await;
}

fn pairs<'a>(ones: &'a [usize], others: &'a [usize]) -> impl Iterator<Item = (usize, usize)> + 'a {
    ones.iter().flat_map(|one| others.iter().filter(move |other| *other != one).map(move |other| (*one, *other)))
}

async fn storm(weather: Weather) {
    let routes = (weather.site == Kind::Bounded).then_some(BOUNDED);
    let mut fleet = Fleet::planned(Plan { per_region: 2, between: weather.between, routes, ..Plan::default() }).await;
    fleet.origin.forget();
    let mut chance = Chance::new();
    let seed = chance.0;
    let board = Arc::new(Board { floors: (0..OBJECTS).map(|_| AtomicU64::new(1)).collect(), ..Board::default() });
    for node in &fleet.nodes {
        let mut connection = Connection::open(node.http).await.unwrap();
        for object in 0..OBJECTS {
            warm(&mut connection, &target(object)).await;
        }
    }
    let mut clients = JoinSet::new();
    for (number, node) in (0..CLIENTS).flat_map(|_| fleet.nodes.iter().enumerate()) {
        let first = number * 13;
        clients.spawn(client(Arc::clone(&board), node.name.clone(), node.http, weather.client_rate, first));
    }
    let doors = Arc::new(fleet.nodes.iter().map(|node| node.door()).collect());
    let purging = tokio::spawn(purges(Arc::clone(&board), doors, fleet.origin.versions()));
    let start = Instant::now();
    faults(&mut fleet, &board, weather, &mut chance).await;
    board.purges_end.store(true, Ordering::SeqCst);
    let healed = Instant::now();
    let mut orders = purging.await.unwrap();
    while let Some(ended) = orders.join_next().await {
        ended.unwrap();
    }
    let converged = healed.elapsed();
    // and a while after the last acknowledgement
    tokio::time::sleep(Duration::from_secs(1)).await;
    board.clients_end.store(true, Ordering::SeqCst);
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    let last = everything_is_new(&fleet, &board).await;
    tell(&board, start.elapsed(), converged, &fleet, seed);
    let stale = board.stale.lock().unwrap();
    assert!(
        stale.is_empty(),
        "seed {seed}: {} stale answers, first: {:#?}",
        stale.len(),
        &stale[..stale.len().min(10)]
    );
    assert!(last.is_empty(), "seed {seed}: in the end: {last:#?}");
    let open = board.open.lock().unwrap();
    assert!(open.is_empty(), "seed {seed}: never acknowledged: {open:#?}");
    assert!(converged < CONVERGED, "seed {seed}: what was ordered took {converged:?} after the last fault");
    let [checked, hits] = ["checked", "hits"].map(|what| board.counted(what));
    assert!(hits > checked / 4, "the caches were hardly used: {hits} hits of {checked}");
    assert!(board.counted("acknowledged") > 0 && board.counted("kills") + board.counted("partitions both ways") > 0);
    assert!(fleet.traffic().lost > 0, "no partition had an effect");
}

/// What is older than it may be when all is over.
async fn everything_is_new(fleet: &Fleet, board: &Board) -> Vec<String> {
    let mut old = Vec::new();
    for node in &fleet.nodes {
        for (object, floor) in board.floors.iter().enumerate() {
            let reply = node.get(FREE, &target(object)).await;
            match version(&reply) {
                Ok(version) if version >= floor.load(Ordering::SeqCst) => {}
                other => old.push(format!("{}: {}: {other:?}, {floor:?}", node.name, target(object))),
            }
        }
    }
    old
}

fn tell(board: &Board, lasted: Duration, converged: Duration, fleet: &Fleet, seed: u64) {
    let counts = board.counts.lock().unwrap().clone();
    let list: Vec<_> = counts.iter().map(|(what, count)| format!("{what} {count}")).collect();
    eprintln!(
        "seed {seed}, {lasted:.1?}: {}; stale {}; never acknowledged {}; slowest acknowledgement {} ms; all in effect \
         {converged:.1?} after the last fault; {:?}",
        list.join(", "),
        board.stale.lock().unwrap().len(),
        board.open.lock().unwrap().len(),
        board.slowest_ms.load(Ordering::SeqCst),
        fleet.traffic(),
    );
}

/// Among all tests.
async fn short(test: &str, site: Kind) {
    let ms = Duration::from_millis;
    let fault = (ms(500), ms(2_500));
    let Some(between) = between(test) else { return };
    storm(Weather {
        lasts: Duration::from_secs(14),
        client_rate: 50,
        fault,
        calm: (ms(200), ms(1_000)),
        site,
        between,
    })
    .await;
}

/// For ten minutes, or as many seconds as `MERIDIAN_STORM_S` says.
async fn long(test: &str, site: Kind) {
    let ms = Duration::from_millis;
    let seconds = std::env::var("MERIDIAN_STORM_S").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(600);
    let (lasts, fault) = (Duration::from_secs(seconds), (ms(500), ms(5_000)));
    let Some(between) = between(test) else { return };
    storm(Weather { lasts, client_rate: 150, fault, calm: (ms(500), ms(3_000)), site, between }).await;
}

/// What parts the nodes in this run; none if all is done already, in a network namespace.
fn between(test: &str) -> Option<Between> {
    Some(match Partitions::of_test(&format!("chaos::storm::{test}"))? {
        Partitions::Shim => Between::Shim,
        Partitions::Kernel => Between::Firewall,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_seen_nowhere_while_nodes_are_killed_and_cut_off() {
    short("what_was_acknowledged_is_seen_nowhere_while_nodes_are_killed_and_cut_off", Kind::Standard).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_is_it_seen_by_the_nodes_that_a_bound_speaks_for() {
    short("nor_is_it_seen_by_the_nodes_that_a_bound_speaks_for", Kind::Bounded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "ten minutes: make chaos"]
async fn ten_minutes_of_a_standard_site() {
    long("ten_minutes_of_a_standard_site", Kind::Standard).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "ten minutes: make chaos"]
async fn ten_minutes_of_a_bounded_site() {
    long("ten_minutes_of_a_bounded_site", Kind::Bounded).await;
}
