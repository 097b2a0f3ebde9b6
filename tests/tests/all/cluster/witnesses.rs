//! The witnesses of a realm are changed while the fleet runs.

use serde_json::{Value, json};

use crate::harness::{
    client::{self, PATIENCE},
    fleet::{FREE, FREE_SITE, Fleet, Member, fleet_more},
    stamped, until_some,
};

const OLD: &str = r#"["eu-central-1", "us-west-1", "ap-southeast-1"]"#;
const NEW: &str = r#"["ap-southeast-1", "eu-central-2", "us-west-2"]"#;
const OBJECT: &str = "/o/2000/witnessed";

fn named(version: u32, nodes: &str, next: Option<&str>) -> String {
    let next = next.map_or_else(String::new, |next| format!("next = {next}\n"));
    format!("[[witnesses]]\nrealm = \"global\"\nversion = {version}\nnodes = {nodes}\n{next}")
}

/// A purge of the object, which changes with it.
async fn purged(fleet: &Fleet, through: &str, wait: &str) -> Value {
    fleet.origin.publish();
    let order = json!({ "site": FREE_SITE, "tags": ["witnessed"], "wait": wait });
    let (status, receipt) = fleet.node(through).purge(&order).await.unwrap();
    assert_eq!(status, 200, "through {through}: {receipt}");
    receipt
}

fn stored_by(receipt: &Value) -> Vec<&str> {
    receipt["stored"].as_array().unwrap().iter().map(|it| it["node"].as_str().unwrap()).collect()
}

async fn version(node: &Member) -> u64 {
    let reply = node.get(FREE, OBJECT).await;
    stamped::check(&reply.body).unwrap_or_else(|fault| panic!("{}: {fault}: {}", node.name, reply.seen())).version
}

/// Kills a node and starts it; it listens then, and may wait for others.
async fn restart(fleet: &mut Fleet, name: &str) {
    let node = fleet.nodes.iter_mut().find(|node| node.name == name).unwrap();
    node.kill();
    node.start();
    let admin = node.admin;
    until_some(&format!("{name} lives"), PATIENCE, async || {
        let reply = client::try_send(admin, client::empty(client::get(&admin.to_string(), "/healthz"))).await?;
        if reply.status == 200 { Ok(()) } else { Err(reply.seen()) }
    })
    .await;
}

/// Waits until a node warns of something.
async fn warns(node: &Member, of: &str) {
    until_some(&format!("{} warns: {of}", node.name), PATIENCE, async || {
        let status: Value = serde_json::from_str(&node.admin("/api/v1/status").await.text()).unwrap();
        let warnings = status["warnings"].to_string();
        if warnings.contains(of) { Ok(()) } else { Err(warnings) }
    })
    .await;
}

#[tokio::test]
async fn witnesses_are_replaced_one_restart_at_a_time_and_no_purge_is_lost() {
    let mut fleet = Fleet::prepare(2, &named(1, OLD, None));
    fleet.nodes.iter_mut().for_each(Member::start);
    fleet.all_ready().await;
    for node in &fleet.nodes {
        assert_eq!(version(node).await, 1);
    }
    let receipt = purged(&fleet, "us-west-2", "all").await;
    assert!(stored_by(&receipt).iter().all(|name| OLD.contains(name)), "{receipt}");

    // the first step: those first that are no witnesses yet
    fleet_more(fleet.dir(), &named(2, OLD, Some(NEW)));
    for name in ["eu-central-2", "us-west-2", "ap-southeast-2"] {
        restart(&mut fleet, name).await;
    }
    purged(&fleet, "us-west-1", "quorum").await;
    for name in ["us-west-1", "eu-central-1"] {
        restart(&mut fleet, name).await;
    }
    // the last one is not served any more, and says so
    let last = fleet.node("ap-southeast-1");
    until_some("it is refused", PATIENCE, async || {
        let page = last.admin("/metrics").await.text();
        let line = page.lines().find(|line| {
            line.starts_with("meridian_purge_refusals_total{realm=\"global\"") && line.contains("cause=\"sealed\"")
        });
        if line.is_some_and(|line| !line.ends_with(" 0")) { Ok(()) } else { Err(format!("{line:?}")) }
    })
    .await;
    assert!(last.log().contains("a witness does not serve this node"), "{}", last.log());
    restart(&mut fleet, "ap-southeast-1").await;
    fleet.all_ready().await;
    for node in &fleet.nodes {
        warns(node, "have taken over").await;
    }
    for name in ["us-west-1", "us-west-2"] {
        purged(&fleet, name, "quorum").await;
    }

    // the second one
    fleet_more(fleet.dir(), &named(3, NEW, None));
    for name in ["us-west-1", "us-west-2", "eu-central-1", "ap-southeast-1", "eu-central-2", "ap-southeast-2"] {
        restart(&mut fleet, name).await;
        fleet.nodes.iter_mut().find(|node| node.name == name).unwrap().ready().await;
        purged(&fleet, name, "quorum").await;
    }
    let receipt = purged(&fleet, "eu-central-1", "all").await;
    assert!(stored_by(&receipt).iter().all(|name| NEW.contains(name)), "{receipt}");
    let now = version(&fleet.nodes[0]).await;
    for node in &fleet.nodes {
        assert_eq!(version(node).await, now, "{}", node.name);
    }

    // a node with an old config says what is wrong with it, and does not run
    fleet.nodes[0].kill();
    fleet_more(fleet.dir(), &named(1, OLD, None));
    let ended = fleet.run(&["run", "--config", fleet.nodes[0].dir.to_str().unwrap()]);
    assert_ne!(ended.code, Some(0), "{}", ended.output);
    for part in ["more.toml:1", "the config has version 1", "was last started with version 3", "version = 3"] {
        assert!(ended.output.contains(part), "{part}: {}", ended.output);
    }
    fleet_more(fleet.dir(), &named(3, NEW, None));
    fleet.nodes[0].start();
    fleet.all_ready().await;
    assert_eq!(version(&fleet.nodes[0]).await, now);
}
