//! A node that gets next to no processor time blames nobody else for it.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use super::{all, led_to};
use crate::harness::fleet::{CALIFORNIAN, FREE, Fleet, GERMAN, PINNED};

const EU: &str = "eu-central";
const US: &str = "us-west";
const FIRST: Duration = Duration::from_secs(20);
/// For so long it is starved: stopped for most of each slice, as by a hypervisor that has sold too much.
const STARVED: Duration = Duration::from_secs(15);
const STOPPED: Duration = Duration::from_millis(450);
const RUNNING: Duration = Duration::from_millis(80);

fn signal(name: &str, pid: u32) {
    let sent = Command::new("kill").args([name, &pid.to_string()]).status().unwrap();
    assert!(sent.success(), "kill {name} {pid}");
}

#[tokio::test]
async fn a_node_without_processor_time_finds_nobody_down_and_moves_nobody() {
    let mut fleet = Fleet::start(2).await;
    led_to(&fleet, &all(&fleet), EU, US, FIRST).await;
    let starved = "us-west-1";
    let pid = fleet.node(starved).pid();
    let before = fleet.node(starved).log().len();
    let began = Instant::now();
    let (mut slices, mut asked) = (0, 0);
    while began.elapsed() < STARVED {
        signal("-STOP", pid);
        let stopped = Instant::now();
        // meanwhile all others lead clients where they did before
        for server in fleet.nodes.iter().filter(|node| node.name != starved) {
            for (host, subnet, region) in [(FREE, GERMAN, EU), (FREE, CALIFORNIAN, US), (PINNED, CALIFORNIAN, EU)] {
                let steered = fleet.steered(server, host, subnet).await.unwrap();
                assert_eq!(steered.regions, [region], "{} for {subnet}: {steered:?}", server.name);
                asked += 1;
            }
        }
        tokio::time::sleep(STOPPED.saturating_sub(stopped.elapsed())).await;
        signal("-CONT", pid);
        tokio::time::sleep(RUNNING).await;
        slices += 1;
    }
    led_to(&fleet, &all(&fleet), EU, US, FIRST).await;
    let log = fleet.node(starved).log();
    let blamed: Vec<&str> = log[before..].lines().filter(|line| line.contains("node is down")).collect();
    eprintln!("{slices} slices, {asked} questions to the others; the starved node blamed {}", blamed.len());
    assert!(blamed.is_empty(), "{blamed:?}");
    fleet.all_ready().await;
}
