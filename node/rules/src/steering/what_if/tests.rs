//! What a region's death and another config change, for given clients.
#![allow(clippy::unwrap_used, clippy::float_cmp, reason = "tests")]

use super::*;
use crate::steering::wishes::tests::{AMERICAN, GERMAN, base, config};

/// Sites with addresses in all regions.
fn addressed_config(steering: &str, capacity: Option<u32>) -> Config {
    let mut config = config(steering);
    for (at, region) in (0u8..).zip(&mut config.regions) {
        region.nodes[0].addresses = vec![IpAddr::from([198, 51, 100, at])];
        region.capacity_per_second = capacity;
    }
    config
}

fn scene(config: &Config, without: &[&str]) -> Scene {
    let without: Vec<RegionId> = without.iter().map(|name| RegionId::parse(name).unwrap()).collect();
    Scene::new(config, &config.sites[0], &base(), &RegionId::parse("tyo").unwrap(), &without, &mut Maps::default())
}

fn clients() -> Vec<Client> {
    let german = (0..200u8).map(|at| Client { address: IpAddr::from([84, 160, at, 1]), requests: 1.0 });
    german.chain([Client { address: AMERICAN.parse().unwrap(), requests: 50.0 }]).collect()
}

fn requests(compared: &Compared, region: &str) -> [f64; 2] {
    compared.regions.iter().find(|it| it.region.as_str() == region).unwrap().requests
}

#[test]
fn a_regions_death_moves_its_own_clients_and_no_others() {
    let config = addressed_config("", None);
    let compared = compare(&scene(&config, &[]), &scene(&config, &["fra"]), &clients());
    assert_eq!((compared.requests, compared.moved, compared.refused), (250.0, 200.0, [0.0, 0.0]));
    assert_eq!((requests(&compared, "fra"), requests(&compared, "dub")), ([200.0, 0.0], [0.0, 200.0]));
    assert_eq!((requests(&compared, "iad"), compared.violations), ([50.0, 50.0], [0, 0]));
}

#[test]
fn what_the_next_region_cannot_bear_goes_further() {
    let config = addressed_config("", Some(160));
    let before = scene(&config, &[]).shared_out(&clients());
    let after = scene(&config, &["fra"]).shared_out(&clients());
    let compared = compare(&before, &after, &clients());
    let near = |region: &str, expected: [f64; 2]| {
        let found = requests(&compared, region);
        let close = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 16.0);
        assert!(close, "{region}: {found:?}");
    };
    // 75 % of 160 is 120: of 200 the rest goes on; Virginia has 50 of its own
    near("fra", [120.0, 0.0]);
    near("dub", [80.0, 120.0]);
    near("iad", [50.0, 120.0]);
    assert!(compared.regions.iter().all(|it| it.capacity == Some(160.0)));
}

#[test]
fn a_candidate_is_compared_by_the_names_of_regions() {
    let (now, candidate) = (addressed_config("", None), addressed_config("[sites.steering]\ndeny = \"fra\"\n", None));
    let compared = compare(&scene(&now, &[]), &scene(&candidate, &[]), &clients());
    assert_eq!((compared.moved, requests(&compared, "dub")), (200.0, [0.0, 200.0]));
}

#[test]
fn a_pinned_site_stays_inside_also_when_all_is_gone() {
    let config = addressed_config("pin = \"eu\"\n", Some(10));
    let gone = scene(&config, &["fra", "dub"]).shared_out(&clients());
    let compared = compare(&scene(&config, &[]).shared_out(&clients()), &gone, &clients());
    assert_eq!((compared.violations, requests(&compared, "iad")), ([0, 0], [0.0, 0.0]));
    // DNS goes on naming one of the two, and nobody serves there
    assert_eq!((compared.refused, compared.stranded, compared.moved), ([0.0, 0.0], [0.0, 250.0], 0.0));
    assert_eq!((requests(&compared, "fra")[1], requests(&compared, "dub")[1]), (0.0, 0.0));
    assert!(scene(&config, &[]).leads(&Client { address: GERMAN.parse().unwrap(), requests: 1.0 }).is_some());
}
