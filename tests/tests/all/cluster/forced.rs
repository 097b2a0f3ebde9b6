//! What operators force: everywhere at once, through kills and restarts, and never beyond the law.

use std::time::Duration;

use super::{all, led_to};
use crate::harness::{
    fleet::{CALIFORNIAN, FREE, Fleet, GERMAN, Member, PINNED},
    until_some,
};

const EU: &str = "eu-central";
const US: &str = "us-west";
/// From the first packet on; a fleet that has just started knows nothing of its regions.
const FIRST: Duration = Duration::from_secs(20);
/// Orders reach whom a node reaches at once; probes and processes share the machine.
const SPREAD: Duration = Duration::from_secs(5);

/// Orders something at a node, by the command line.
fn order(fleet: &Fleet, at: &Member, arguments: &[&str]) -> String {
    let config = at.dir.to_str().unwrap();
    let ended = fleet.run(&[&["force"], arguments, &["--config", config]].concat());
    assert_eq!(ended.code, Some(0), "meridian force {arguments:?}: {}", ended.output);
    ended.output
}

/// Waits until DNS everywhere names a region for the pinned site.
async fn pinned_in(fleet: &Fleet, region: &str) {
    for server in &fleet.nodes {
        for subnet in [GERMAN, CALIFORNIAN] {
            let steered = fleet.steered(server, PINNED, subnet).await.unwrap();
            assert_eq!(steered.regions, [region], "{} for {subnet}", server.name);
        }
    }
}

#[tokio::test]
async fn a_region_that_is_forced_down_is_left_by_all_also_through_kills_until_it_is_released() {
    let mut fleet = Fleet::start(2).await;
    led_to(&fleet, &all(&fleet), EU, US, FIRST).await;
    let told = order(&fleet, fleet.node("us-west-1"), &["down", "--region", EU, "--why", "fibre cut", "--who", "ada"]);
    assert!(told.contains("warning") && told.contains("care"), "the pinned site has no other region: {told}");
    let elsewhere = async |fleet: &Fleet| {
        until_some("nobody is led to the EU", SPREAD, async || {
            for server in &fleet.nodes {
                let steered = fleet.steered(server, FREE, GERMAN).await?;
                if steered.regions.is_empty() || steered.regions.contains(&EU) {
                    return Err(format!("{}: {steered:?}", server.name));
                }
            }
            Ok(())
        })
        .await
        .1
    };
    eprintln!("forced down on all six nodes within {:?}", elsewhere(&fleet).await);
    pinned_in(&fleet, EU).await;
    let status = fleet.run(&["status", "--config", fleet.node("ap-southeast-2").dir.to_str().unwrap()]);
    assert!(status.output.contains("region eu-central is forced: down, by ada: fibre cut"), "{}", status.output);
    let config = fleet.node("us-west-1").dir.to_str().unwrap();
    let why = fleet.run(&["explain", "route", "--config", config, "--client", "91.0.0.1", "--host", FREE]);
    assert!(why.output.contains("(forced down by ada: fibre cut)"), "{}", why.output);

    // all that know it are killed in the middle of it, and start again; one of them stays away
    fleet.nodes.iter_mut().for_each(Member::kill);
    for node in fleet.nodes.iter_mut().filter(|node| node.name != "ap-southeast-1") {
        node.start();
    }
    // the other node of its region cannot be ready without it: of two witnesses both are needed
    for node in fleet.nodes.iter_mut().filter(|node| node.region != "ap-southeast") {
        node.ready().await;
    }
    let away = fleet.nodes.iter().position(|node| node.name == "ap-southeast-1").unwrap();
    let absent = fleet.nodes.remove(away);
    elsewhere(&fleet).await;
    order(&fleet, fleet.node("eu-central-2"), &["release", "--region", EU, "--why", "mended"]);
    led_to(&fleet, &all(&fleet), EU, US, FIRST).await;

    // it has the old order on its disk, and cannot bring it back
    fleet.nodes.insert(away, absent);
    fleet.nodes[away].start();
    fleet.all_ready().await;
    led_to(&fleet, &all(&fleet), EU, US, FIRST).await;
    for server in &fleet.nodes {
        let forced: serde_json::Value = serde_json::from_str(&server.admin("/api/v1/forced").await.text()).unwrap();
        assert_eq!(forced["forced"][0]["state"], "released", "{}: {forced}", server.name);
    }
}

#[tokio::test]
async fn a_forced_state_stands_above_the_observers_and_below_the_law() {
    let mut fleet = Fleet::start(2).await;
    led_to(&fleet, &all(&fleet), EU, US, FIRST).await;
    // a node that is to drain is named by nobody, and goes on answering
    let drained = fleet.node("eu-central-1").ip;
    order(&fleet, fleet.node("ap-southeast-1"), &["drain", "--node", "eu-central-1", "--why", "new disk"]);
    until_some("the other node of the region is named alone", SPREAD, async || {
        for server in &fleet.nodes {
            for host in [FREE, PINNED] {
                let steered = fleet.steered(server, host, GERMAN).await?;
                if steered.regions != [EU] || steered.answer.addresses.contains(&drained) {
                    return Err(format!("{}: {steered:?}", server.name));
                }
            }
        }
        Ok(())
    })
    .await;
    assert_eq!(fleet.node("eu-central-1").get(FREE, "/o/100/still").await.status, 200);
    // with the other one dead, nothing of the region is left that should have clients; it stayed named for good
    fleet.nodes.iter_mut().find(|node| node.name == "eu-central-2").unwrap().kill();
    until_some("the region of the two is left", FIRST, async || {
        for server in fleet.nodes.iter().filter(|node| node.name != "eu-central-2") {
            let steered = fleet.steered(server, FREE, GERMAN).await?;
            if steered.regions.is_empty() || steered.regions.contains(&EU) {
                return Err(format!("{}: {steered:?}", server.name));
            }
        }
        Ok(())
    })
    .await;
    order(&fleet, fleet.node("eu-central-1"), &["release", "--node", "eu-central-1", "--why", "disk is in"]);

    // the observers are wrong, says the operator
    fleet.kill_region(EU);
    let left: Vec<String> = fleet.nodes.iter().filter(|node| node.region != EU).map(|node| node.name.clone()).collect();
    let left: Vec<&str> = left.iter().map(String::as_str).collect();
    let seen = async |at: &str| -> serde_json::Value {
        serde_json::from_str(&fleet.node(at).admin("/api/v1/fleet").await.text()).unwrap()
    };
    until_some("the dead region is down and left", FIRST, async || {
        let region = &seen(left[0]).await["regions"][0];
        let steered = fleet.steered(fleet.node(left[0]), FREE, GERMAN).await?;
        let is_left = region["observed"] == "down" && !steered.regions.contains(&EU);
        if is_left { Ok(()) } else { Err(format!("{region} {steered:?}")) }
    })
    .await;
    order(&fleet, fleet.node(left[0]), &["up", "--region", EU, "--why", "the probes are wrong"]);
    led_to(&fleet, &left, EU, US, SPREAD).await;
    let seen = seen(left[0]).await;
    assert_eq!((&seen["regions"][0]["state"], &seen["regions"][0]["observed"]), (&"up".into(), &"down".into()));

    // no order makes a region legal: the pinned site is never led out
    for region in [US, "ap-southeast"] {
        order(&fleet, fleet.node(left[0]), &["up", "--region", region, "--why", "a test"]);
    }
    order(&fleet, fleet.node(left[0]), &["down", "--region", EU, "--why", "a test"]);
    tokio::time::sleep(Duration::from_millis(500)).await;
    for name in &left {
        let steered = fleet.steered(fleet.node(name), PINNED, CALIFORNIAN).await.unwrap();
        assert_eq!(steered.regions, [EU], "{name}: {steered:?}");
        assert_eq!(fleet.node(name).get(PINNED, "/o/100/never").await.status, 421);
    }
}
