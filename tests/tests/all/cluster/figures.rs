//! What the metrics page says of purges, on nodes that take and hear them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use serde_json::{Value, json};
use yaml_rust2::{Yaml, YamlLoader};

use crate::harness::{
    fleet::{FREE_SITE, Fleet, Member},
    until_some,
};

/// Every series of a node's page, with its value.
async fn page(node: &Member) -> BTreeMap<String, f64> {
    let text = node.admin("/metrics").await.text();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.parse().unwrap())
        })
        .collect()
}

#[tokio::test]
async fn the_page_says_how_purges_and_the_ledger_are_doing() {
    let mut fleet = Fleet::start(1).await;
    let taker = fleet.node("eu-central-1");
    let (status, receipt) = taker.purge(&json!({ "site": FREE_SITE, "tags": ["a-tag"], "wait": "all" })).await.unwrap();
    assert_eq!(status, 200, "{receipt}");
    let (status, receipt) =
        taker.purge(&json!({ "site": FREE_SITE, "everything": true, "mode": "soft", "wait": "all" })).await.unwrap();
    assert_eq!(status, 200, "{receipt}");

    for node in &fleet.nodes {
        let page = page(node).await;
        let of = |series: &str| *page.get(series).unwrap_or_else(|| panic!("{}: no {series}", node.name));
        let took = f64::from(u8::from(node.name == "eu-central-1"));
        for (scope, mode) in [("tag", "hard"), ("site", "soft")] {
            let kind = format!("{{realm=\"global\",scope=\"{scope}\",mode=\"{mode}\"}}");
            assert_eq!(of(&format!("meridian_purges_taken_total{kind}")), took, "{} {kind}", node.name);
            assert_eq!(of(&format!("meridian_purges_applied_total{kind}")), 1.0, "{} {kind}", node.name);
        }
        let effects = of("meridian_purge_effect_seconds_count{realm=\"global\"}");
        assert_eq!(effects, 2.0 * (1.0 - took), "{}: purges of others", node.name);
        assert_eq!(of("meridian_purge_ledger_up{realm=\"global\"}"), 1.0);
        assert_eq!(of("meridian_purges_waiting{realm=\"global\"}"), 0.0);
        assert_eq!(of("meridian_purges_waiting_oldest_seconds{realm=\"global\"}"), 0.0);
        assert!(of("meridian_purge_lease_age_seconds{realm=\"global\"}") < 5.0);
        assert!(of("meridian_purge_commit_seconds_count{realm=\"global\"}") >= 1.0);
        assert_eq!(of("meridian_purge_log_records{realm=\"global\"}"), 2.0);
        assert_eq!(of("meridian_purge_log_voting{realm=\"global\"}"), 1.0);
        let named: BTreeSet<_> = page.keys().filter(|series| series.contains("purge")).collect();
        assert!(named.iter().all(|series| !series.contains("a-tag") && !series.contains(FREE_SITE)), "{named:?}");
    }

    let (with_clocks, _) =
        until_some("the witnesses have said what their clocks show", Duration::from_secs(10), async || {
            let page = page(fleet.node("us-west-1")).await;
            if page.contains_key("meridian_clock_skew_seconds{realm=\"global\"}") {
                Ok(page)
            } else {
                Err("not yet".to_owned())
            }
        })
        .await;
    assert!(with_clocks["meridian_clock_skew_seconds{realm=\"global\"}"].abs() < 0.5, "one machine, one clock");
    alerts_are_about(&with_clocks);

    // each tells the others how purges stand, of the realms that they share
    let (told, _) = until_some("all have a lease", Duration::from_secs(10), async || {
        let told = ledgers(fleet.node("us-west-1")).await;
        let leased = told.values().all(|ledger| ledger["lease_age_ms"].as_u64().is_some_and(|ms| ms < 5_000));
        if leased && told.len() > 3 { Ok(told) } else { Err(format!("{told:?}")) }
    })
    .await;
    let realms = ["ap-southeast-1/global", "eu-central-1/global", "us-west-1/global", "us-west-1/us"];
    assert_eq!(told.keys().collect::<Vec<_>>(), realms, "nothing is told of a realm to who is no member");

    // without its witnesses a node says so
    let killed = ["us-west", "ap-southeast"];
    killed.into_iter().for_each(|region| fleet.kill_region(region));
    let taker = fleet.node("eu-central-1");
    let (status, _) = taker.purge(&json!({ "site": FREE_SITE, "tags": ["b"], "wait": "local" })).await.unwrap();
    assert_eq!(status, 200);
    until_some("what waits, and the lease, grow old", Duration::from_secs(20), async || {
        let page = page(taker).await;
        let of = |name: &str, more: &str| page[&format!("{name}{{realm=\"global\"{more}}}")];
        let old = of("meridian_purges_waiting", "") == 1.0
            && of("meridian_purges_waiting_oldest_seconds", "") > 1.0
            && of("meridian_purge_lease_age_seconds", "") > 1.0
            && of("meridian_purge_witness_age_seconds", ",witness=\"us-west-1\"") > 1.0
            && of("meridian_purge_witness_age_seconds", ",witness=\"eu-central-1\"") == 0.0
            && of("meridian_purge_backlog", ",peer=\"us-west-1\"") == 1.0;
        if old { Ok(()) } else { Err(format!("{page:?}")) }
    })
    .await;
    let told = &ledgers(taker).await["eu-central-1/global"];
    let ms = |name: &str| told[name].as_u64().unwrap_or(0);
    assert!(told["waiting"] == 1 && ms("waiting_oldest_ms") > 1_000 && ms("lease_age_ms") > 1_000, "{told}");
    let us = json!({ "node": "us-west-1", "purges": 1 });
    assert!(told["backlog"].as_array().unwrap().contains(&us), "{told}");
    let shown = fleet.run(&["status", "--config", taker.dir.to_str().unwrap()]);
    let mut lines = shown.output.lines().filter(|line| line.contains("global"));
    let row = lines.next().unwrap_or_default();
    assert!(row.contains("us-west-1 1"), "{}", shown.output);
}

/// How purges stand, by `node/realm`, as a node is told.
async fn ledgers(node: &Member) -> BTreeMap<String, Value> {
    let told: Value = serde_json::from_slice(&node.admin("/api/v1/fleet").await.body).unwrap();
    let each = |list: &Value| list.as_array().cloned().unwrap_or_default();
    let nodes = each(&told["regions"]).into_iter().flat_map(|region| each(&region["nodes"]));
    let rows = nodes.flat_map(|node| {
        let name = node["name"].as_str().unwrap().to_owned();
        each(&node["ledgers"]).into_iter().map(move |ledger| (name.clone(), ledger))
    });
    rows.map(|(node, ledger)| (format!("{node}/{}", ledger["realm"].as_str().unwrap()), ledger)).collect()
}

/// The alert rules can be read, say what to do, and are about metrics that a page has.
fn alerts_are_about(page: &BTreeMap<String, f64>) {
    let metrics: BTreeSet<&str> = page.keys().filter_map(|series| series.split('{').next()).collect();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/alerts/meridian.rules.yml");
    let rules = YamlLoader::load_from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let groups = rules[0]["groups"].as_vec().unwrap();
    let mut names = BTreeSet::new();
    for rule in groups.iter().flat_map(|group| group["rules"].as_vec().unwrap()) {
        let text = |value: &Yaml| value.as_str().unwrap_or_else(|| panic!("text is missing: {rule:?}")).to_owned();
        let name = text(&rule["alert"]);
        assert!(names.insert(name.clone()), "two rules are called {name}");
        for said in ["summary", "runbook"] {
            assert!(text(&rule["annotations"][said]).len() > 20, "{name}: {said}");
        }
        assert!(["page", "ticket"].contains(&text(&rule["labels"]["severity"]).as_str()), "{name}");
        let said = [text(&rule["expr"]), text(&rule["annotations"]["runbook"])];
        let words = said.iter().flat_map(|said| said.split(|c: char| !c.is_alphanumeric() && c != '_'));
        let asked: Vec<_> = words.filter(|word| word.starts_with("meridian_")).collect();
        assert!(!asked.is_empty(), "{name} asks nothing");
        for metric in asked {
            let histogram = format!("{metric}_count");
            assert!(metrics.contains(metric) || metrics.contains(histogram.as_str()), "{name}: no metric {metric}");
        }
    }
    assert!(names.len() >= 9, "{names:?}");
}
