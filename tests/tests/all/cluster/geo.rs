//! Where clients are: a node's answers against an independent computation, and other databases while it runs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use crate::harness::{
    fleet::{FREE, Fleet, Member},
    until_some,
    written::Written,
};

/// 1 October 2026.
pub(crate) const BUILT: u64 = 1_790_812_800;

/// Python with maxminddb: what `MERIDIAN_GEO_PYTHON` names, else what `tests/tools.sh` has put under `target`.
fn python() -> PathBuf {
    if let Some(path) = std::env::var_os("MERIDIAN_GEO_PYTHON") {
        return path.into();
    }
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/geo/bin/python");
    assert!(installed.is_file(), "there is no {}: run `make tools-test`", installed.display());
    installed
}

/// A fleet of one node in each region, of which the first has a database of its own.
pub(crate) async fn fleet_with(database: &Path) -> Fleet {
    let mut fleet = Fleet::prepare(1, "");
    let table = format!("[geo]\nfile = \"{}\"\n", database.display());
    let dir = &fleet.nodes[0].dir;
    fs::write(dir.join("geo.toml"), table).unwrap();
    fleet.nodes.iter_mut().for_each(Member::start);
    fleet.all_ready().await;
    // by its own verdicts: where its database leads anybody is what the tests are about
    until_some("the first node sees every region up", super::steering::FIRST, async || {
        let told: Value = serde_json::from_str(&fleet.nodes[0].admin("/api/v1/fleet").await.text()).unwrap();
        let regions = told["regions"].as_array().unwrap();
        if regions.iter().all(|region| region["state"] == "up") { Ok(()) } else { Err(told["regions"].to_string()) }
    })
    .await;
    fleet
}

/// Compares the first node's answers with those of `tests/geo/independent.py`; gives what that counted.
pub(crate) async fn compared(fleet: &Fleet, database: &Path, more: &[&str]) -> Value {
    let config = region_config::load(&fleet.nodes[0].dir).unwrap_or_else(|faults| panic!("{faults}"));
    let of = |region: &region_config::Region| {
        let addresses: Vec<_> = region.nodes.iter().flat_map(|node| &node.addresses).map(ToString::to_string).collect();
        let place = json!({ "latitude": region.latitude, "longitude": region.longitude, "addresses": addresses });
        (region.name.to_string(), place)
    };
    let regions: serde_json::Map<_, _> = config.regions.iter().map(of).collect();
    let file = fleet.dir().join("regions.json");
    fs::write(&file, Value::Object(regions).to_string()).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(python());
    command.arg(root.join("geo/independent.py")).arg("--database").arg(database).arg("--regions").arg(file);
    command.arg("--centroids").arg(root.join("../node/meridian/geo/centroids.txt"));
    command.args(["--server", &fleet.nodes[0].dns.to_string(), "--name", FREE]).args(more);
    let ended = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let (said, faults) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    eprintln!("{}: {said}{faults}", database.display());
    assert!(ended.status.success(), "answers differ: {said}{faults}");
    serde_json::from_str(&said).unwrap()
}

#[tokio::test]
async fn answers_agree_with_an_independent_computation() {
    // MaxMind's own test database: every network of it
    let city = Path::new(env!("CARGO_MANIFEST_DIR")).join("../node/meridian/geo/test-data/GeoIP2-City-Test.mmdb");
    let fleet = fleet_with(&city).await;
    let counted = compared(&fleet, &city, &[]).await;
    assert!(counted["compared"].as_u64().unwrap() > 100, "{counted}");
    drop(fleet);

    // one that is scattered over the Earth, in the flat schema, with cells of several places
    let dir = tempfile::TempDir::new().unwrap();
    let scattered = dir.path().join("scattered.mmdb");
    fs::write(&scattered, scattered_over_the_earth().bytes()).unwrap();
    let fleet = fleet_with(&scattered).await;
    // most of it is sea, where regions are about as far from each other more often than where people live
    let counted = compared(&fleet, &scattered, &["--least", "99.5"]).await;
    assert!(counted["compared"].as_u64().unwrap() > 2_000, "{counted}");
}

fn scattered_over_the_earth() -> Written {
    let mut written = Written::new("Scattered", 6, BUILT);
    written.described = false;
    for n in 0..2_048u32 {
        // a spiral from pole to pole
        let turn = f64::from(n) * 137.507_764 % 360.0 - 180.0;
        let north = (2.0 * f64::from(n) / 2_048.0 - 1.0).asin().to_degrees();
        #[allow(clippy::cast_possible_truncation, reason = "degrees, as these files have them")]
        let at = [north as f32, turn as f32];
        let (high, low) = (n >> 8, n & 255);
        if n % 8 == 0 {
            written.add_flat(&format!("84.{high}.{low}.0/25"), "DE", at);
            written.add_flat(&format!("84.{high}.{low}.128/26"), "US", [37.5, -120.0]);
        } else {
            written.add_flat(&format!("84.{high}.{low}.0/24"), "DE", at);
        }
        written.add_flat(&format!("2003:{n:x}::/32"), "DE", at);
    }
    written
}

/// A test of what operators do, with the program that they do it with.
#[tokio::test]
async fn a_running_node_takes_updates_holds_back_what_is_suspicious_and_survives_its_files() {
    let dir = tempfile::TempDir::new().unwrap();
    let [file, second, suspicious] = ["city.mmdb", "second", "suspicious"].map(|name| dir.path().join(name));
    fs::write(&file, place_of_germans("DE", [52.5, 13.5], BUILT)).unwrap();
    fs::write(&second, place_of_germans("DE", [52.5, 13.5], BUILT + 86_400)).unwrap();
    fs::write(&suspicious, place_of_germans("US", [45.5, -121.0], BUILT + 2 * 86_400)).unwrap();
    let fleet = fleet_with(&file).await;
    let node = &fleet.nodes[0];
    let config = node.dir.to_str().unwrap();
    let [from, other] = [&second, &suspicious].map(|path| path.to_str().unwrap());
    let update = |more: &[&str]| fleet.run(&[&["geo", "update", "--config", config, "--json"][..], more].concat());

    let done = update(&["--from", from]);
    assert_eq!(done.code, Some(0), "{}", done.output);
    told(node, "meridian_geo_reloads_total{outcome=\"taken\"} 1").await;
    let held = update(&["--from", other]);
    assert_eq!(held.code, Some(5), "{}", held.output);
    assert!(held.output.contains("\"moved\""), "{}", held.output);

    // by hand, past the command: the node holds it back itself
    fs::copy(&suspicious, dir.path().join("aside")).unwrap();
    fs::rename(dir.path().join("aside"), &file).unwrap();
    told(node, "meridian_geo_alarm{alarm=\"held\"} 1").await;
    leads(&fleet, "eu-central").await;
    fs::File::options().write(true).open(&file).unwrap().set_len(100).unwrap();
    told(node, "meridian_geo_alarm{alarm=\"refused\"} 1").await;
    fs::remove_file(&file).unwrap();
    told(node, "meridian_geo_reloads_total{outcome=\"refused\"} 2").await;
    leads(&fleet, "eu-central").await;
    let ready = node.admin("/readyz").await;
    assert!(ready.status == 200 && ready.text().contains("No such file"), "{}", ready.text());

    let forced = update(&["--from", other, "--force"]);
    assert_eq!(forced.code, Some(0), "{}", forced.output);
    told(node, "meridian_geo_reloads_total{outcome=\"taken\"} 2").await;
    leads(&fleet, "us-west").await;
    let again = update(&["--from", from, "--force"]);
    assert_eq!(again.code, Some(0), "{}", again.output);
    told(node, "meridian_geo_reloads_total{outcome=\"taken\"} 3").await;
    leads(&fleet, "eu-central").await;
    let back = update(&["--rollback"]);
    assert_eq!(back.code, Some(0), "{}", back.output);
    told(node, "meridian_geo_reloads_total{outcome=\"taken\"} 4").await;
    leads(&fleet, "us-west").await;

    let looked = fleet.run(&["geo", "lookup", "91.0.0.1", "--config", config, "--json"]);
    let found: Value = serde_json::from_str(&looked.output).unwrap_or_else(|_| panic!("{}", looked.output));
    assert_eq!((&found["country"], &found["regions"][0]["region"]), (&json!("US"), &json!("us-west")), "{found}");
    let checked = fleet.run(&["geo", "check", from, "--config", config]);
    assert_eq!(checked.code, Some(5), "{}", checked.output);
    assert!(checked.output.contains("older than those in use"), "{}", checked.output);
}

#[tokio::test]
async fn what_is_held_back_is_taken_on_an_order_by_the_api_that_names_its_contents() {
    let dir = tempfile::TempDir::new().unwrap();
    let [file, aside] = ["city.mmdb", "aside"].map(|name| dir.path().join(name));
    fs::write(&file, place_of_germans("DE", [52.5, 13.5], BUILT)).unwrap();
    let fleet = fleet_with(&file).await;
    let node = &fleet.nodes[0];
    fs::write(&aside, place_of_germans("US", [45.5, -121.0], BUILT + 86_400)).unwrap();
    fs::rename(&aside, &file).unwrap();
    told(node, "meridian_geo_alarm{alarm=\"held\"} 1").await;
    let state: Value = serde_json::from_slice(&node.admin("/api/v1/geo").await.body).unwrap();
    assert_eq!(state["editions"][0]["file"], json!(file.to_str().unwrap()), "{state}");
    assert_eq!((&state["alarms"][0]["alarm"], state["held"].as_array().unwrap().len()), (&json!("held"), 1), "{state}");
    let held = &state["held"][0];
    assert!(held["why"][0].as_str().unwrap().contains("nearest region"), "{state}");
    let accept = async |sum: &str| node.post("/api/v1/geo/accept", &json!({ "sum": sum })).await;
    assert_eq!(accept(&"0".repeat(64)).await.status, 409);
    leads(&fleet, "eu-central").await;
    let accepted = accept(held["sum"].as_str().unwrap()).await;
    assert_eq!(accepted.status, 202, "{}", accepted.seen());
    told(node, "meridian_geo_reloads_total{outcome=\"taken\"} 1").await;
    leads(&fleet, "us-west").await;
    told(node, "meridian_geo_alarm{alarm=\"held\"} 0").await;
}

/// A database of 100 networks, with all Germans of the tests in one place.
fn place_of_germans(code: &str, at: [f64; 2], built_unix_s: u64) -> Vec<u8> {
    let mut city = Written::new("Test-City", 6, built_unix_s);
    for n in 0..100 {
        city.add_city(&format!("91.0.{n}.0/24"), code, at);
        city.add_city(&format!("2003:{n:x}::/32"), code, at);
    }
    city.bytes()
}

/// Waits until a node's metrics page has a line.
pub(crate) async fn told(node: &Member, line: &str) {
    until_some(&format!("{} tells {line}", node.name), super::steering::FIRST, async || {
        let page = node.admin("/metrics").await.text();
        if page.lines().any(|it| it == line) {
            return Ok(());
        }
        Err(page.lines().filter(|it| it.starts_with("meridian_geo")).collect::<Vec<_>>().join("\n"))
    })
    .await;
}

/// Where the first node leads German clients.
async fn leads(fleet: &Fleet, region: &str) {
    let steered = fleet.steered(&fleet.nodes[0], FREE, crate::harness::fleet::GERMAN).await.unwrap();
    assert_eq!(steered.regions, [region], "{steered:?}");
}
