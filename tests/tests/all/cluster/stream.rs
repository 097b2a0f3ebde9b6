//! Purges that are kept in a stream of NATS JetStream instead of by witnesses.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::harness::{
    client::{self, PATIENCE},
    fleet::{FREE, FREE_SITE, Fleet, Member, PINNED, PINNED_SITE, fleet_more},
    nats::{Nats, SYSTEM, Sync, USER},
    stamped, until_some,
};

/// The stream of the realm of free sites.
const STREAM: &str = "meridian-global";

/// A stream for free sites, and one for the pinned one.
fn streams(nats: &Nats, more: &str) -> String {
    ["global", "eu"]
        .map(|realm| {
            format!(
                "[[streams]]\nrealm = \"{realm}\"\njurisdiction = \"eu\"\nservers = {}\nreplicas = {}\n\
                 sync_always = true\ncredentials = \"nats.user\"\n{more}\n",
                nats.listed(),
                nats.servers.len(),
            )
        })
        .concat()
}

fn write_credentials(dir: &Path) {
    fs::write(dir.join("fleet/nats.user"), USER).unwrap();
    fs::write(dir.join("fleet/nats.admin"), SYSTEM).unwrap();
}

/// A node in each of three regions, with so many servers.
pub(super) async fn started(servers: usize) -> (Fleet, Nats) {
    let mut fleet = Fleet::prepare(1, "");
    let nats = Nats::start(fleet.dir(), servers, Sync::Always).await;
    fleet_more(fleet.dir(), &streams(&nats, "system_credentials = \"nats.admin\""));
    write_credentials(fleet.dir());
    fleet.nodes.iter_mut().for_each(Member::start);
    fleet.all_ready().await;
    (fleet, nats)
}

fn by_tag(site: &str, tag: &str, wait: &str) -> Value {
    json!({ "site": site, "tags": [tag], "wait": wait, "timeout_ms": 20_000 })
}

/// Purges, and returns the receipt of what has come so far.
async fn purged(node: &Member, order: &Value, state: &str) -> Value {
    let (status, receipt) = node.purge(order).await.unwrap_or_else(|error| panic!("{order} at {}: {error}", node.name));
    // it may have come further than was waited for
    let reached = |state: &str| ["accepted", "quorum", "region", "all"].iter().position(|it| *it == state);
    let seen = receipt["state"].as_str().and_then(reached);
    assert!(status == 200 && seen >= reached(state), "{order} at {}: {status} {receipt}", node.name);
    receipt
}

async fn version(node: &Member, host: &str, target: &str) -> u64 {
    let reply = node.get(host, target).await;
    stamped::check(&reply.body).unwrap_or_else(|fault| panic!("{}: {fault}: {}", node.name, reply.seen())).version
}

/// Waits until a node gives a version.
async fn comes_to(node: &Member, target: &str, expected: u64) {
    until_some(&format!("{} gives version {expected}", node.name), PATIENCE, async || {
        let reply = client::try_send(node.http, client::empty(client::get(FREE, target))).await?;
        let seen = stamped::check(&reply.body).map_err(|fault| format!("{fault}: {}", reply.seen()))?.version;
        if seen == expected { Ok(()) } else { Err(format!("version {seen}")) }
    })
    .await;
}

#[tokio::test]
async fn a_purge_is_stored_by_the_stream_and_in_effect_everywhere() {
    let (fleet, _nats) = started(1).await;
    let object = "/o/2000/streamed";
    for round in 1..=5usize {
        for node in &fleet.nodes {
            assert_eq!(version(node, FREE, object).await, round as u64);
            assert!(node.get(FREE, object).await.is_hit());
        }
        fleet.origin.publish();
        let through = &fleet.nodes[round % 2];
        let receipt = purged(through, &by_tag(FREE_SITE, "all", "all"), "all").await;
        let stored: Vec<_> =
            receipt["stored"].as_array().unwrap().iter().map(|it| it["node"].as_str().unwrap()).collect();
        assert_eq!(stored, ["stream"], "{receipt}");
        assert_eq!(receipt["nodes"].as_array().unwrap().len(), 3, "{receipt}");
    }
    // the realm of the pinned site has a stream of its own
    let german = fleet.node("eu-central-1");
    assert_eq!(version(german, PINNED, object).await, 6);
    fleet.origin.publish();
    purged(german, &by_tag(PINNED_SITE, "all", "quorum"), "quorum").await;
    assert_eq!(version(german, PINNED, object).await, 7);
}

#[tokio::test]
async fn a_node_that_was_away_reads_what_was_purged_meanwhile_and_keeps_the_rest() {
    let (mut fleet, _nats) = started(1).await;
    let (purged_one, kept) = ("/o/2000/gone", "/o/2000/kept");
    for target in [purged_one, kept] {
        assert_eq!(version(&fleet.nodes[1], FREE, target).await, 1);
    }
    // written to its disk behind the answer
    tokio::time::sleep(Duration::from_secs(2)).await;
    fleet.nodes[1].kill();
    fleet.origin.publish();
    let order = json!({ "site": FREE_SITE, "urls": [format!("http://{FREE}{purged_one}")], "wait": "quorum" });
    purged(&fleet.nodes[0], &order, "quorum").await;
    fleet.nodes[1].start();
    fleet.all_ready().await;
    let back = &fleet.nodes[1];
    assert_eq!(version(back, FREE, purged_one).await, 2, "a purged object came back");
    assert_eq!(version(back, FREE, kept).await, 1, "what was not purged is kept");
    assert!(!back.log().contains("the stream has dropped"), "{}", back.log());
}

#[tokio::test]
async fn servers_that_are_killed_lose_no_purge_that_was_acknowledged() {
    let (mut fleet, mut nats) = started(1).await;
    let object = "/o/2000/killed";
    for round in 1..=3u64 {
        for node in &fleet.nodes {
            comes_to(node, object, round).await;
        }
        // this one will only hear of it from the stream
        fleet.nodes[2].kill();
        fleet.origin.publish();
        purged(&fleet.nodes[0], &by_tag(FREE_SITE, "all", "quorum"), "quorum").await;
        nats.servers[0].kill();
        // what is taken meanwhile is on disk here, and acknowledged when the servers are back
        let order =
            json!({ "site": FREE_SITE, "tags": [format!("later-{round}")], "wait": "quorum", "timeout_ms": 1_500 });
        let (status, receipt) = fleet.nodes[1].purge(&order).await.unwrap();
        assert_eq!((status, receipt["state"].as_str()), (202, Some("accepted")), "{receipt}");
        nats.servers[0].start();
        let id = receipt["id"].as_str().unwrap();
        until_some("it is acknowledged", PATIENCE, async || {
            let reply = fleet.nodes[1].admin(&format!("/api/v1/purges/{id}")).await.text();
            if !reply.contains("\"state\":\"accepted\"") { Ok(()) } else { Err(reply) }
        })
        .await;
        fleet.nodes[2].start();
        fleet.all_ready().await;
        assert_eq!(version(&fleet.nodes[2], FREE, object).await, round + 1, "an acknowledged purge was lost");
    }
}

#[tokio::test]
async fn a_stream_that_is_made_anew_voids_what_was_stored() {
    let (fleet, nats) = started(1).await;
    let object = "/o/2000/anew";
    for node in &fleet.nodes {
        assert_eq!(version(node, FREE, object).await, 1);
    }
    purged(&fleet.nodes[0], &by_tag(FREE_SITE, "something", "all"), "all").await;
    fleet.origin.publish();
    let context = nats.context().await.unwrap();
    context.delete_stream(STREAM).await.unwrap();
    // whatever it had acknowledged may have been about anything
    for node in &fleet.nodes {
        comes_to(node, object, 2).await;
        assert!(node.log().contains("the stream is another one than it was"), "{}", node.log());
    }
    fleet.origin.publish();
    purged(&fleet.nodes[1], &by_tag(FREE_SITE, "all", "all"), "all").await;
    for node in &fleet.nodes {
        assert_eq!(version(node, FREE, object).await, 3);
    }
}

#[tokio::test]
async fn a_stream_that_is_set_back_voids_what_was_stored_on_all_nodes() {
    let (mut fleet, mut nats) = started(1).await;
    let object = "/o/2000/back";
    let store = nats.servers[0].store();
    purged(&fleet.nodes[0], &by_tag(FREE_SITE, "before", "all"), "all").await;
    nats.servers[0].kill();
    let copy = store.with_extension("copy");
    copy_all(&store, &copy);
    nats.servers[0].start();
    for node in &fleet.nodes {
        assert_eq!(version(node, FREE, object).await, 1);
    }
    purged(&fleet.nodes[0], &by_tag(FREE_SITE, "lost", "all"), "all").await;
    nats.servers[0].kill();
    fs::remove_dir_all(&store).unwrap();
    copy_all(&copy, &store);
    fleet.origin.publish();
    nats.servers[0].start();
    for node in &fleet.nodes {
        comes_to(node, object, 2).await;
    }
    fleet.all_ready().await;
    let told = fleet.nodes.iter().filter(|node| node.log().contains("the stream was set back")).count();
    assert!(told > 0, "nobody has noticed");
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_all(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[tokio::test]
async fn a_node_without_its_stream_is_not_ready_and_says_why() {
    let mut fleet = Fleet::prepare(1, "");
    let mut nats = Nats::prepare(fleet.dir(), 1, Sync::Lazily);
    fleet_more(fleet.dir(), &streams(&nats, "system_credentials = \"nats.admin\""));
    write_credentials(fleet.dir());
    fleet.nodes[0].start();
    says(&fleet.nodes[0], &["connecting to nats://127.0.0.1:"]).await;
    // servers that acknowledge before they sync
    nats.servers[0].start();
    nats.ready().await;
    says(&fleet.nodes[0], &["these servers acknowledge before they sync: nats-1"]).await;
    // and a stream that is kept in memory
    let context = nats.context().await.unwrap();
    let memory = async_nats::jetstream::stream::Config {
        name: STREAM.into(),
        subjects: vec![format!("{STREAM}.>")],
        storage: async_nats::jetstream::stream::StorageType::Memory,
        ..Default::default()
    };
    context.create_stream(memory).await.unwrap();
    fleet_more(fleet.dir(), &streams(&nats, ""));
    fleet.nodes[0].kill();
    fleet.nodes[0].start();
    says(&fleet.nodes[0], &["its storage is memory; expected file", "expected `deny_delete` and `deny_purge`"]).await;
    for secret in [USER, SYSTEM] {
        let secret = secret.split_once(':').unwrap().1;
        assert!(!fleet.nodes[0].log().contains(secret), "a secret is in the log");
    }
}

/// Waits until a node has told all of it, and sees that it is not ready.
async fn says(node: &Member, expected: &[&str]) {
    until_some(&format!("{} says {expected:?}", node.name), PATIENCE, async || {
        let log = node.log();
        if expected.iter().all(|it| log.contains(it)) { Ok(()) } else { Err(log) }
    })
    .await;
    let ready = client::try_send(node.admin, client::empty(client::get(&node.admin.to_string(), "/readyz"))).await;
    assert_eq!(ready.map(|reply| reply.status.as_u16()), Ok(503));
}

#[tokio::test]
async fn a_config_whose_stream_could_lose_purges_is_refused() {
    let fleet = Fleet::prepare(1, "[[streams]]\nrealm = \"global\"\nservers = \"nats://192.0.2.1\"\n");
    let dir = fleet.nodes[0].dir.clone();
    let ended = fleet.run(&["check", "--config", dir.to_str().unwrap()]);
    assert_eq!(ended.code, Some(3), "{}", ended.output);
    for said in ["sync_interval: always", "is spoken to in clear text"] {
        assert!(ended.output.contains(said), "{}", ended.output);
    }
}

#[tokio::test]
async fn of_three_servers_one_may_die() {
    let (fleet, mut nats) = started(3).await;
    let object = "/o/2000/three";
    for dead in 0..3 {
        nats.servers[dead].kill();
        let start = Instant::now();
        let version_now = fleet.origin.publish();
        purged(&fleet.nodes[dead], &by_tag(FREE_SITE, "all", "all"), "all").await;
        eprintln!("with server {dead} dead, acknowledged after {:?}", start.elapsed());
        for node in &fleet.nodes {
            assert_eq!(version(node, FREE, object).await, version_now);
        }
        nats.servers[dead].start();
        nats.ready().await;
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
}
