//! kill -9 in the middle of fills and purges.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::json;

use crate::harness::{
    client::{Connection, fetch},
    fleet::{FREE, FREE_SITE, Fleet},
    stamped, until_some,
};

const KILLS: usize = 20;

/// A node must be back within this.
const BACK: Duration = Duration::from_secs(15);

/// The set that is never purged, and must survive every kill: small ones, and some in chunks.
fn old_set() -> Vec<String> {
    (0..20).map(|number| format!("/o/{}/kept-{number}", if number % 4 == 0 { 300_000 } else { 3_000 })).collect()
}

/// The set that is purged all the time.
fn purged_set() -> Vec<String> {
    (0..8).map(|number| format!("/o/{}/purged-{number}", if number % 4 == 0 { 200_000 } else { 2_000 })).collect()
}

fn tag(target: &str) -> &str {
    target.rsplit('/').next().unwrap()
}

/// For each target the version that a request which starts now must get at least.
type Floors = Arc<Mutex<HashMap<String, u64>>>;

/// Checks one answer: whole or openly broken, and not older than its floor.
fn judge(target: &str, floor: u64, reply: &crate::harness::client::Reply) -> Result<(), String> {
    if reply.broken.is_some() || reply.status != 200 {
        return Ok(());
    }
    let stamp = stamped::check(&reply.body).map_err(|fault| format!("{target}: {fault}: {}", reply.seen()))?;
    if stamp.target != target || stamp.version < floor {
        return Err(format!("{target}: a purged object came back: {stamp:?}, purged at {floor}: {}", reply.seen()));
    }
    Ok(())
}

/// Asks for new and purged objects until told to stop or the node is gone. Returns how many answers were judged.
async fn load(address: SocketAddr, round: usize, floors: Floors, stop: Arc<AtomicBool>) -> Result<usize, String> {
    let mut judged = 0;
    let Ok(mut connection) = Connection::open(address).await else { return Ok(0) };
    let purged = purged_set();
    for number in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        // few new ones: the disk must have room for the old set
        let target = match number % 5 {
            0 if number < 100 => format!("/o/{}/round-{round}-{number}", 1_000 + 7_919 * (number % 20)),
            _ => purged[number % purged.len()].clone(),
        };
        let floor = floors.lock().unwrap().get(&target).copied().unwrap_or(1);
        let Ok(reply) = connection.get(FREE, &target).await else { break };
        judge(&target, floor, &reply)?;
        judged += 1;
    }
    Ok(judged)
}

/// Purges one object after the other through a node, until told to stop or the node is gone. Returns how many were
/// acknowledged.
async fn purges(fleet: &Fleet, through: usize, floors: &Floors, stop: &AtomicBool) -> usize {
    let mut acknowledged = 0;
    for target in purged_set().iter().cycle() {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let version = fleet.origin.publish();
        let order = json!({ "site": FREE_SITE, "tags": [tag(target)], "wait": "quorum", "timeout_ms": 5000 });
        match fleet.nodes[through].purge(&order).await {
            Ok((200, _)) => {
                let mut floors = floors.lock().unwrap();
                let floor = floors.entry(target.clone()).or_default();
                *floor = version.max(*floor);
                acknowledged += 1;
            }
            Ok(_) => {}
            Err(_) => break,
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_kills_in_the_middle_of_fills_and_purges_lose_nothing_and_bring_nothing_back() {
    let mut fleet = Fleet::start(1).await;
    let victim = fleet.nodes.iter().position(|node| node.region == "us-west").unwrap();
    let http = fleet.nodes[victim].http;
    for target in old_set().iter().chain(&purged_set()) {
        assert_eq!(fetch(http, FREE, target).await.status, 200);
    }
    let floors: Floors = Arc::default();
    let (mut judged, mut acknowledged, mut old_hits, mut slowest) = (0, 0, 0, Duration::ZERO);
    let mut last_words = 0;
    let mut chance = 0x2545_f491_4f6c_dd1d_u64;
    for round in 0..KILLS {
        let stop = Arc::new(AtomicBool::new(false));
        // what is judged under load is bound by the purges before this round: those were known when the node started
        let before: Floors = Arc::new(Mutex::new(floors.lock().unwrap().clone()));
        let loads: Vec<_> =
            (0..3).map(|_| tokio::spawn(load(http, round, Arc::clone(&before), Arc::clone(&stop)))).collect();
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        let life = Duration::from_millis(100 + chance % 400);
        let kill = async {
            tokio::time::sleep(life).await;
            let pid = fleet.nodes[victim].pid();
            kill_9(pid);
            // the fleet goes on purging what the dead node has on its disk
            tokio::time::sleep(Duration::from_millis(100)).await;
            stop.store(true, Ordering::SeqCst);
        };
        let ((), through_other, through_victim) = tokio::join!(
            kill,
            purges(&fleet, (victim + 1) % 3, &floors, &stop),
            purges(&fleet, victim, &floors, &stop)
        );
        acknowledged += through_other + through_victim;
        last_words += through_victim;
        for load in loads {
            judged += load.await.unwrap().unwrap_or_else(|fault| panic!("round {round}, before the kill: {fault}"));
        }
        fleet.nodes[victim].kill();
        fleet.nodes[victim].start();
        let after = fleet.nodes[victim].ready().await;
        assert!(after < BACK, "round {round}: ready only after {after:?}");
        slowest = slowest.max(after);
        let known = floors.lock().unwrap().clone();
        for target in purged_set() {
            let reply = fetch(http, FREE, &target).await;
            assert_eq!(reply.status, 200, "round {round}: {target}: {}", reply.seen());
            assert!(reply.broken.is_none(), "round {round}: {target}: {}", reply.seen());
            let floor = known.get(&target).copied().unwrap_or(1);
            judge(&target, floor, &reply).unwrap_or_else(|fault| panic!("round {round}, after the kill: {fault}"));
        }
        for target in old_set() {
            let reply = fetch(http, FREE, &target).await;
            let stamp =
                stamped::check(&reply.body).unwrap_or_else(|fault| panic!("round {round}: {fault}: {}", reply.seen()));
            assert_eq!(stamp.target, target);
            old_hits += usize::from(reply.is_hit());
        }
    }
    let all = old_set().len() * KILLS;
    eprintln!(
        "{KILLS} kills: {judged} answers under load and {acknowledged} purges acknowledged ({last_words} by \
         the node that was killed), none undone; ready after {slowest:?} at most; \
         {old_hits} of {all} requests for the old set were hits"
    );
    assert!(old_hits * 100 >= all * 95, "only {old_hits} of {all} requests for the old set were hits after a restart");
    assert!(acknowledged >= KILLS && judged >= KILLS * 10, "hardly anything happened: {acknowledged}, {judged}");
}

fn kill_9(pid: u32) {
    let pid = i32::try_from(pid).unwrap();
    // SAFETY: no memory is involved; the process is our child, and not waited for yet
    #[allow(unsafe_code, reason = "the only way to send a signal")]
    let sent = unsafe { libc::kill(pid, libc::SIGKILL) };
    assert_eq!(sent, 0, "SIGKILL to {pid}");
}

#[tokio::test]
async fn what_was_purged_while_a_node_was_dead_does_not_come_back_with_it() {
    let mut fleet = Fleet::start(1).await;
    let victim = fleet.nodes.iter().position(|node| node.region == "ap-southeast").unwrap();
    let http = fleet.nodes[victim].http;
    for target in ["/o/2000/gone", "/o/2000/stays"] {
        fetch(http, FREE, target).await;
        assert!(fetch(http, FREE, target).await.is_hit());
    }
    // until it is on the disk
    until_some("the objects survive a restart", Duration::from_secs(30), async || {
        fleet.nodes[victim].kill();
        fleet.nodes[victim].start();
        fleet.nodes[victim].ready().await;
        let reply = fetch(http, FREE, "/o/2000/stays").await;
        if reply.is_hit() { Ok(()) } else { Err(reply.seen()) }
    })
    .await;
    fleet.nodes[victim].kill();
    fleet.origin.publish();
    let order = json!({ "site": FREE_SITE, "tags": ["gone"], "wait": "quorum" });
    let (status, receipt) = fleet.nodes[(victim + 1) % 3].purge(&order).await.unwrap();
    assert_eq!(status, 200, "{receipt}");
    fleet.nodes[victim].start();
    fleet.nodes[victim].ready().await;
    let reply = fetch(http, FREE, "/o/2000/gone").await;
    assert_eq!(stamped::check(&reply.body).unwrap().version, 2, "{}", reply.seen());
    let reply = fetch(http, FREE, "/o/2000/stays").await;
    assert!(reply.is_hit(), "what was not purged is still there: {}", reply.seen());
    assert_eq!(stamped::check(&reply.body).unwrap().version, 1);
}
