//! What was written for clients by their network or country, and applies to nobody with the geo databases that are in use.

use region_config::{Config, RegionId, Whom};

use super::Base;

/// How many names a sentence has, at most.
const TOLD: usize = 5;

/// A sentence for each kind of thing that applies to nobody: most likely somebody mistyped, or a database is missing.
#[must_use]
pub fn idle(config: &Config, base: &Base) -> Vec<String> {
    let rules = idle_rules(config, base).map(|sites| {
        format!(
            "rules for clients by `asn` apply to nobody, as the geo databases have no AS numbers: site {sites}; \
             expected a database that has them, such as `[geo] asn_file`"
        )
    });
    [rules].into_iter().flatten().chain(idle_round_trips(config, base)).collect()
}

/// The sites whose rules by AS number apply to nobody.
fn idle_rules(config: &Config, base: &Base) -> Option<String> {
    let by_network = |site: &region_config::Site| site.steering.pins.iter().any(|it| matches!(it.whom, Whom::Asn(_)));
    let sites = config.sites.iter().filter(|site| by_network(site)).map(|site| site.name.to_string());
    named(&sites.collect::<Vec<_>>()).filter(|_| !base.ranges().knows_networks())
}

fn idle_round_trips(config: &Config, base: &Base) -> impl Iterator<Item = String> {
    let trips = base.ranges().round_trips();
    let known = |name: &RegionId| config.regions.iter().any(|region| region.name == *name);
    let strangers: Vec<_> = trips.regions().filter(|name| !known(name)).map(ToString::to_string).collect();
    let countries = trips.countries();
    let countries: Vec<String> =
        countries.difference(&base.ranges().countries()).map(|code| code.escape_ascii().to_string()).collect();
    let networks = trips.names_networks() && !base.ranges().knows_networks();
    [
        named(&strangers)
            .map(|names| format!("round trips were measured to regions that are not in the config: {names}")),
        named(&countries).map(|names| {
            format!("round trips were measured from countries that the geo databases have no addresses in: {names}")
        }),
        networks
            .then(|| "round trips were measured from networks, but the geo databases have no AS numbers".to_owned()),
    ]
    .into_iter()
    .flatten()
}

/// The first names, and how many more there are; none if there are none.
fn named(names: &[String]) -> Option<String> {
    let told: Vec<String> = names.iter().take(TOLD).map(|name| format!("`{name}`")).collect();
    match (told.is_empty(), names.len() - told.len()) {
        (true, _) => None,
        (false, 0) => Some(told.join(", ")),
        (false, more) => Some(format!("{} and {more} more", told.join(", "))),
    }
}
