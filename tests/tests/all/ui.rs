//! The web interface in a real headless browser, before a fleet that loses a region.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::Value;

use crate::harness::{
    Process,
    fleet::{FREE, Fleet},
    until,
};

const UI: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../admin-ui");

/// If set, the screenshot in docs is made anew.
const KEEP_SCREENSHOT: &str = "MERIDIAN_KEEP_SCREENSHOT";

const DOWN_WITHIN_MS: u64 = 3_000;

/// The whole run of the browser.
const RUN: Duration = Duration::from_secs(90);

/// Checks that there is a browser and what drives it.
pub(crate) fn browser() -> PathBuf {
    let chromium = env::var_os("CHROMIUM").map_or_else(|| PathBuf::from("/usr/bin/chromium"), PathBuf::from);
    assert!(
        chromium.is_file(),
        "there is no {}: install the package `chromium`, or name one in CHROMIUM",
        chromium.display()
    );
    let driver = Path::new(UI).join("node_modules/playwright-core");
    assert!(driver.is_dir(), "playwright-core is not installed: run `npm ci` in admin-ui");
    chromium
}

/// Runs admin-ui/e2e/screens.mjs against a node; returns the events that it told.
fn screens(fleet: &Fleet, at: &str, arguments: &[&str], more: &[(&str, String)]) -> Vec<Value> {
    let node = fleet.node(at);
    let mut command = Command::new("node");
    command.arg("e2e/screens.mjs").args(arguments).current_dir(UI);
    command
        .env("CHROMIUM", browser())
        .env("MERIDIAN_ADMIN", format!("http://{}", node.admin))
        .env("MERIDIAN_TOKEN", node.token());
    for (name, value) in more {
        command.env(name, value);
    }
    let mut process = Process::start(&format!("screens-{}", arguments.join("-")), &node.dir, &mut command);
    until(&format!("the browser is done with {arguments:?}"), RUN, || process.ended());
    let output = process.output();
    let events: Vec<Value> = output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert!(events.iter().any(|event| event["event"] == "passed"), "{arguments:?} at {at}:\n{output}");
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_killed_region_is_shown_as_down_within_three_seconds() {
    browser();
    let fleet = Fleet::start(2).await;
    for node in &fleet.nodes {
        for number in 0..20 {
            node.get(FREE, &format!("/o/1000/{}", number % 5)).await;
        }
    }
    let shots = fleet.nodes[0].dir.join("screenshots");
    let shots_in = ("MERIDIAN_SCREENSHOTS", shots.to_str().unwrap().to_owned());
    screens(&fleet, "us-west-1", &["all"], std::slice::from_ref(&shots_in));
    let pids: Vec<String> = fleet.region("eu-central").map(|node| node.pid().to_string()).collect();
    let kill = ("MERIDIAN_KILL", pids.join(","));
    let within = DOWN_WITHIN_MS.to_string();
    let events = screens(&fleet, "us-west-1", &["down", "eu-central", &within], &[shots_in, kill]);
    let down = events.iter().find(|event| event["event"] == "down");
    let after_ms = down.and_then(|event| event["after_ms"].as_u64()).unwrap_or_else(|| panic!("{events:?}"));
    eprintln!("the browser showed the killed region as down after {after_ms} ms");
    assert!(after_ms <= DOWN_WITHIN_MS, "{events:?}");
    if env::var_os(KEEP_SCREENSHOT).is_some() {
        let kept = Path::new(UI).join("../docs/fleet.png");
        fs::copy(shots.join("down.png"), &kept).unwrap();
        eprintln!("kept as {}", kept.display());
    }
}
