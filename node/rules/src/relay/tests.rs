#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::health::{NodeView, RegionView};

const WORLD: &str = r#"
[node]
name = "u1"
[http]
listen = "127.0.0.1:8080"
[peer]
listen = "127.0.0.1:7400"
ca = "ca.pem"
certificate = "n.pem"
key = "n.key"
[[jurisdictions]]
name = "eu"
countries = ["DE", "FR"]
[[jurisdictions]]
name = "us"
countries = ["US"]
[[regions]]
name = "frankfurt"
latitude = 50.1
longitude = 8.7
jurisdiction = "eu"
nodes = [{ name = "f1", peer = "127.0.0.1:7401" }, { name = "f2", peer = "127.0.0.1:7402" }]
[[regions]]
name = "virginia"
latitude = 39.0
longitude = -77.5
jurisdiction = "us"
nodes = [{ name = "u1", peer = "127.0.0.1:7400" }]
[[regions]]
name = "dublin"
latitude = 53.3
longitude = -6.3
jurisdiction = "eu"
nodes = [{ name = "d1", peer = "127.0.0.1:7403" }, { name = "d2", peer = "127.0.0.1:7404" }]
[[sites]]
name = "care"
hosts = "care.test"
pin = "eu"
origin = "http://127.0.0.1:3000"
tls = { certificate = "c.pem", key = "c.key" }
"#;

fn config(more: &str) -> Config {
    region_config::check(&[("f.toml", &format!("{WORLD}{more}"))]).unwrap().config
}

const RELAYED: &str = "misrouted_tls = \"relay\"\n";

/// The ways of the first site from the node in Virginia.
fn ways(config: &Config) -> Option<Ways> {
    Ways::of(config, &config.sites[0], &config.regions[1].name, &config.regions[1].jurisdiction)
}

fn fleet(config: &Config, regions: &[RegionState], node: impl Fn(&str) -> NodeState) -> Fleet {
    let view = |(region, state): (&region_config::Region, &RegionState)| RegionView {
        name: region.name.clone(),
        part_percent: 100,
        state: *state,
        since_unix_ms: 0,
        pending: false,
        recent: false,
        nodes: (region.nodes.iter())
            .map(|it| NodeView { name: it.name.clone(), state: node(it.name.as_str()), rtt_us: None })
            .collect(),
        votes: Vec::new(),
    };
    Fleet { epoch: 1, minority: false, regions: config.regions.iter().zip(regions).map(view).collect() }
}

const UP: [RegionState; 3] = [RegionState::Up; 3];

/// The nodes' names, and of each two of one region only the region's letter, as the client's address chooses among them.
fn tried(config: &Config, fleet: &Fleet) -> Vec<String> {
    let nodes = ways(config).unwrap().nodes(config, fleet, "192.0.2.7".parse().unwrap());
    nodes.iter().map(|node| node.as_str().to_owned()).collect()
}

fn letters(tried: &[String]) -> String {
    tried.iter().filter_map(|name| name.chars().next()).collect()
}

#[test]
fn nothing_is_relayed_unless_the_site_is_pinned_elsewhere_and_the_operator_wants_it() {
    let refused = config("");
    assert_eq!(ways(&refused), None);
    assert!(!may_take(&refused.sites[0], &refused.regions[0].jurisdiction));
    let relayed = config(RELAYED);
    let site = &relayed.sites[0];
    assert!(ways(&relayed).is_some());
    assert!(may_take(site, &relayed.regions[0].jurisdiction));
    assert!(!may_take(site, &relayed.regions[1].jurisdiction), "a node outside takes nothing");
    let inside = Ways::of(&relayed, site, &relayed.regions[0].name, &relayed.regions[0].jurisdiction);
    assert_eq!(inside, None, "inside, it is served");
}

#[test]
fn the_last_try_is_for_another_region_however_many_nodes_the_nearest_has() {
    let more = (3..9).map(|n| format!(", {{ name = \"d{n}\", peer = \"127.0.0.1:74{n}1\" }}")).collect::<String>();
    let world = WORLD.replace("\"127.0.0.1:7404\" }", &format!("\"127.0.0.1:7404\" }}{more}"));
    let config = region_config::check(&[("f.toml", &format!("{world}{RELAYED}"))]).unwrap().config;
    let fleet = |regions: &[RegionState]| fleet(&config, regions, |_| NodeState::Up);
    assert_eq!(letters(&tried(&config, &fleet(&UP))), "dddf");
    let alone = world.replace(
        "name = \"frankfurt\"\nlatitude = 50.1\nlongitude = 8.7\njurisdiction = \"eu\"",
        "name = \"frankfurt\"\nlatitude = 50.1\nlongitude = 8.7\njurisdiction = \"us\"",
    );
    let alone = region_config::check(&[("f.toml", &format!("{alone}{RELAYED}"))]).unwrap().config;
    assert_eq!(letters(&tried(&alone, &self::fleet(&alone, &UP, |_| NodeState::Up))), "dddd", "there is no other");
}

#[test]
fn the_nearest_healthy_region_comes_first_and_silent_nodes_last() {
    let config = config(RELAYED);
    let all = |_: &str| NodeState::Up;
    // Dublin is nearer to Virginia than Frankfurt
    assert_eq!(letters(&tried(&config, &fleet(&config, &UP, all))), "ddff");
    let degraded = [RegionState::Up, RegionState::Up, RegionState::Degraded];
    assert_eq!(letters(&tried(&config, &fleet(&config, &degraded, all))), "ffdd");
    let silent = |name: &str| if name == "d1" { NodeState::Down } else { NodeState::Up };
    let order = tried(&config, &fleet(&config, &UP, silent));
    assert_eq!((order[0].as_str(), order[3].as_str()), ("d2", "d1"));
    let draining = |name: &str| if name == "d2" { NodeState::Draining } else { NodeState::Up };
    assert_eq!(tried(&config, &fleet(&config, &UP, draining))[..2], ["d1", "d2"]);
    let none = |_: &str| NodeState::Down;
    assert_eq!(tried(&config, &fleet(&config, &[RegionState::Down; 3], none)).len(), 4, "all are tried all the same");
}

#[test]
fn what_dns_may_not_name_is_not_relayed_to_either() {
    let config = config(&format!("{RELAYED}steering = {{ deny = [\"dublin\"] }}\n"));
    assert_eq!(letters(&tried(&config, &fleet(&config, &UP, |_| NodeState::Up))), "ff");
    let config = self::config(&format!(
        "{RELAYED}steering = {{ allow = [\"frankfurt\"], all_down = \"fallback\", fallback = [\"dublin\"] }}\n"
    ));
    assert_eq!(letters(&tried(&config, &fleet(&config, &UP, |_| NodeState::Up))), "ffdd");
}

#[test]
fn clients_of_one_block_find_the_same_node_and_all_blocks_together_all() {
    let config = config(RELAYED);
    let fleet = fleet(&config, &UP, |_| NodeState::Up);
    let ways = ways(&config).unwrap();
    let first = |client: [u8; 4]| ways.nodes(&config, &fleet, client.into())[0].clone();
    assert_eq!(first([192, 0, 2, 1]), first([192, 0, 2, 200]));
    let firsts: BTreeSet<_> = (0..64).map(|block| first([198, 51, block, 1])).collect();
    assert_eq!(firsts.len(), 2, "{firsts:?}");
}

proptest! {
    #[test]
    fn no_state_of_the_fleet_leads_out_of_the_jurisdiction(
        regions in proptest::collection::vec(0..5usize, 3),
        nodes in proptest::collection::vec(0..5usize, 5),
        client in any::<u32>(),
        replaced in any::<bool>(),
    ) {
        const REGIONS: [RegionState; 5] = [
            RegionState::Up, RegionState::Degraded, RegionState::Draining, RegionState::Unknown, RegionState::Down,
        ];
        const NODES: [NodeState; 5] =
            [NodeState::Up, NodeState::Starting, NodeState::Draining, NodeState::Unknown, NodeState::Down];
        let config = config(RELAYED);
        let states: Vec<_> = regions.iter().map(|at| REGIONS[*at]).collect();
        let names = ["f1", "f2", "u1", "d1", "d2"];
        let state = |name: &str| NODES[nodes[names.iter().position(|it| *it == name).unwrap()]];
        let fleet = fleet(&config, &states, state);
        let ways = ways(&config).unwrap();
        let mut now = config;
        if replaced {
            // the config of a moment later, in another order, and with Dublin elsewhere
            now.regions.swap(0, 1);
            now.regions[2].jurisdiction = now.regions[0].jurisdiction.clone();
        }
        let found = ways.nodes(&now, &fleet, IpAddr::V4(client.into()));
        prop_assert!(found.len() <= TRIES_MAX);
        prop_assert!(replaced || found.len() == TRIES_MAX);
        let unique: BTreeSet<_> = found.iter().collect();
        prop_assert_eq!(unique.len(), found.len());
        for node in found {
            let region = now.regions.iter().find(|region| region.nodes.iter().any(|it| it.name == node)).unwrap();
            prop_assert_eq!(region.jurisdiction.as_str(), "eu");
        }
    }
}
