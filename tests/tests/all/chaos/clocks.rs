//! A node whose wall clock is wrong by ten minutes, and is set while it runs.
//!
//! The order of purges goes by no clock, so nothing may be older than its purge at any node, and every purge is
//! acknowledged. That the clock is wrong, and that it was set, is told to the operator.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{version, warm};
use crate::harness::{
    client::Connection,
    fleet::{FREE, FREE_SITE, Fleet, Member},
    orders::Door,
    until_some,
};

/// How wrong the clock is.
const TEN_MINUTES_S: i64 = 600;
const OBJECTS: usize = 20;
/// How long purges go on in each state of the clock, at least.
const PHASE: Duration = Duration::from_secs(4);
/// How soon a purge is in effect everywhere, with nothing broken.
const ACKNOWLEDGED: Duration = Duration::from_secs(10);
/// How soon the operator is told.
const TOLD: Duration = Duration::from_secs(15);
/// Between two questions of a client.
const PAUSE: Duration = Duration::from_millis(3);

fn target(object: usize) -> String {
    format!("/o/700/clocked-{object}")
}

/// What clients and the one who purges write down.
#[derive(Default)]
struct Board {
    /// Per object what a request that begins now must get at least.
    floors: Vec<AtomicU64>,
    checked: AtomicUsize,
    purged: AtomicUsize,
    end: AtomicBool,
}

/// Asks a node until the end, and judges its answers.
async fn client(board: Arc<Board>, name: String, address: SocketAddr) {
    let mut connection = Connection::open(address).await.unwrap();
    for object in (0..OBJECTS).cycle() {
        if board.end.load(SeqCst) {
            return;
        }
        let floor = board.floors[object].load(SeqCst);
        let reply = connection.get(FREE, &target(object)).await.unwrap();
        let version = version(&reply).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        assert!(version >= floor, "{name}: {floor} was acknowledged, and this is older: {}", reply.seen());
        board.checked.fetch_add(1, SeqCst);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Purges one object after the other, through one node after the other, until the end; each must be acknowledged by all.
async fn purges(board: Arc<Board>, doors: Vec<Door>, origin: Arc<AtomicU64>) {
    for number in 0.. {
        if board.end.load(SeqCst) {
            return;
        }
        let version = origin.fetch_add(1, SeqCst) + 1;
        let (door, object) = (&doors[number % doors.len()], number % OBJECTS);
        let tag = format!("clocked-{object}");
        let order = json!({ "site": FREE_SITE, "tags": [tag], "wait": "all", "timeout_ms": ACKNOWLEDGED.as_millis() });
        let (status, receipt) = door.order(&order).await.unwrap();
        assert_eq!((status, &receipt["state"]), (200, &json!("all")), "at {}: {receipt}", door.name);
        let states = receipt["nodes"].as_array().unwrap().iter().map(|node| &node["state"]);
        assert!(states.clone().all(|state| state == "applied"), "at {}: {receipt}", door.name);
        board.floors[object].fetch_max(version, SeqCst);
        board.purged.fetch_add(1, SeqCst);
        tokio::time::sleep(PAUSE).await;
    }
}

/// A series of a node's metrics page.
async fn series(node: &Member, name: &str) -> Result<f64, String> {
    let page = node.admin("/metrics").await.text();
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).ok_or_else(|| format!("no {name}"))
}

/// Waits until a node says that its clock is so far ahead.
async fn skewed(node: &Member, ahead_s: i64) -> Duration {
    let what = format!("{} knows that its clock is {ahead_s} s ahead", node.name);
    let ((), after) = until_some(&what, TOLD, async || {
        let skew_s = series(node, "meridian_clock_skew_seconds{realm=\"global\"}").await?;
        if (skew_s - ahead_s as f64).abs() < 2.0 { Ok(()) } else { Err(format!("{skew_s} s")) }
    })
    .await;
    after
}

/// Waits until a node's log says something.
async fn logged(node: &Member, what: &str) {
    until_some(&format!("the log says: {what}"), TOLD, async || {
        let log = node.log();
        if log.contains(what) { Ok(()) } else { Err(log) }
    })
    .await;
}

/// Waits until the node has seen so many steps of its clock.
async fn stepped(node: &Member, direction: &str, times: f64) {
    let name = format!("meridian_clock_steps_total{{direction=\"{direction}\"}}");
    let what = format!("{} has seen {times} steps {direction}", node.name);
    until_some(&what, TOLD, async || match series(node, &name).await? {
        steps if steps == times => Ok(()),
        steps => Err(format!("{steps}")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_ten_minutes_off_and_is_set_hides_no_purge() {
    let mut fleet = Fleet::prepare(1, "");
    fleet.origin.forget();
    // a witness, as all three are
    fleet.nodes[1].wrong_clock().set(TEN_MINUTES_S);
    fleet.nodes.iter_mut().for_each(Member::start);
    fleet.all_ready().await;
    let node = &fleet.nodes[1];
    for node in &fleet.nodes {
        let mut connection = Connection::open(node.http).await.unwrap();
        for object in 0..OBJECTS {
            warm(&mut connection, &target(object)).await;
        }
    }
    let board = Arc::new(Board { floors: (0..OBJECTS).map(|_| AtomicU64::new(1)).collect(), ..Board::default() });
    let mut tasks = JoinSet::new();
    for node in &fleet.nodes {
        tasks.spawn(client(Arc::clone(&board), node.name.clone(), node.http));
    }
    let doors = fleet.nodes.iter().map(Member::door).collect();
    tasks.spawn(purges(Arc::clone(&board), doors, fleet.origin.versions()));

    // from its start on
    let told = skewed(node, TEN_MINUTES_S).await;
    logged(node, "wall clock is off those of the witnesses").await;
    until_some("/readyz says it", TOLD, async || {
        let ready: Value = serde_json::from_slice(&node.admin("/readyz").await.body).unwrap();
        if ready.to_string().contains("minutes off") { Ok(()) } else { Err(ready.to_string()) }
    })
    .await;
    goes_on(&board, &mut tasks).await;
    // set right, which is back; and a clock that goes the other way; and forth again
    for (ahead_s, direction, times) in
        [(0, "back", 1.0), (-TEN_MINUTES_S, "back", 2.0), (TEN_MINUTES_S, "forward", 1.0), (0, "back", 3.0)]
    {
        fleet.nodes[1].wrong_clock().set(ahead_s);
        let node = &fleet.nodes[1];
        stepped(node, direction, times).await;
        skewed(node, ahead_s).await;
        goes_on(&board, &mut tasks).await;
    }
    logged(&fleet.nodes[1], "the wall clock was set back").await;
    board.end.store(true, SeqCst);
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    eprintln!(
        "{} purges acknowledged by all and {} answers checked while a clock was up to 10 min ahead and behind, and set four \
         times; none stale; skew told after {told:.1?}",
        board.purged.load(SeqCst),
        board.checked.load(SeqCst),
    );
}

/// Lets purges and clients go on for a while, and fails if one of them has.
async fn goes_on(board: &Board, tasks: &mut JoinSet<()>) {
    let (start, purged) = (Instant::now(), board.purged.load(SeqCst));
    while start.elapsed() < PHASE || board.purged.load(SeqCst) < purged + OBJECTS {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if let Some(ended) = tasks.try_join_next() {
            ended.unwrap();
        }
        assert!(start.elapsed() < PHASE * 10, "hardly any purge is acknowledged");
    }
}
