//! Where DNS leads an address, by the functions that answer, in the words of the API.

use std::{net::IpAddr, sync::Arc};

use arc_swap::ArcSwap;
use region_config::{RegionId, Site};
use rules::steering::{Location, RegionExplanation};

use crate::{
    admin::{Steered, SteeredFrom, SteeredRegion, Steering, SteeringEpochs, Whither},
    dns::{Explained, View},
    snapshot::Shared,
};

/// Where DNS leads an address.
#[must_use]
pub fn steered(shared: &Arc<Shared>, view: &Arc<ArcSwap<View>>) -> Steered {
    let (shared, view) = (Arc::clone(shared), Arc::clone(view));
    Arc::new(move |whither, address, without| {
        let (base, view, fleet) = (shared.geo.load_full()?, view.load(), shared.health.fleet());
        let site = match whither {
            Whither::Site(name) => view.config().sites.iter().find(|site| site.name == *name)?,
            Whither::Host(host) => view.site_named(host)?,
        };
        let explained = view.explain(&site.name, address, &fleet, without, &base)?;
        let epochs = SteeringEpochs {
            config: view.config().fingerprint.iter().take(8).map(|byte| format!("{byte:02x}")).collect(),
            plan: view.plan(),
            health: fleet.epoch,
            geo: base.describe(),
        };
        let mut steering = told(site, address, &explained, epochs);
        tell_forced(&mut steering.regions, &shared.health.forced());
        Some(steering)
    })
}

/// For a node that answers no DNS.
#[must_use]
pub fn not_steered() -> Steered {
    Arc::new(|_: Whither<'_>, _, _: &[RegionId]| None)
}

/// An explanation in the words of the API.
#[must_use]
pub fn told(site: &Site, address: IpAddr, explained: &Explained, epochs: SteeringEpochs) -> Steering {
    let Explained { record, explanation: explained, ipv6_region } = explained;
    let mut regions: Vec<_> = explained.regions.iter().collect();
    regions.sort_by_key(|region| region.place.unwrap_or(usize::MAX));
    Steering {
        client: address.to_string(),
        site: site.name.to_string(),
        pin: site.pin.as_ref().map(ToString::to_string),
        record: record.to_string(),
        ipv6_region: ipv6_region.as_ref().map(ToString::to_string),
        outcome: explained.outcome.as_str().into(),
        ttl_s: explained.ttl_s,
        scope: explained.block.length,
        prefix: format!("{}/{}", explained.block.first, explained.block.length),
        location: from(&explained.location),
        rule: explained.rule.as_ref().map(|(whom, force)| format!("{force} for {whom}")),
        origin: explained.origin.as_str().into(),
        epochs,
        regions: regions.into_iter().map(region).collect(),
    }
}

fn from(location: &Location) -> SteeredFrom {
    let degrees = location.point.map(rules::steering::Point::degrees);
    let rounded = |degrees: f64| (degrees * 100.0).round() / 100.0;
    SteeredFrom {
        country: location.country.map(|code| code.escape_ascii().to_string()),
        continent: location.continent().map(|continent| continent.as_str().into()),
        latitude: degrees.map(|[north, _]| rounded(north)),
        longitude: degrees.map(|[_, east]| rounded(east)),
        accuracy_km: location.accuracy_km,
        asn: location.asn,
    }
}

fn region(region: &RegionExplanation) -> SteeredRegion {
    SteeredRegion {
        region: region.region.to_string(),
        chosen: region.place == Some(0),
        reason: because(region),
        word: region.reason.as_str().into(),
        place: region.place,
        state: region.state.as_str().into(),
        kilometres: region.kilometres,
        estimated_ms: region.estimated_us.map(|us| f64::from(us / 100) / 10.0),
        measured_ms: region.measured.map(|trip| f64::from(trip.us / 100) / 10.0),
        samples: region.measured.map(|trip| trip.samples),
        bias_percent: region.bias_percent,
        priority: region.priority,
        weight: region.weight,
        share: region.share.map(|share| (share * 1000.0).round() / 1000.0),
    }
}

fn because(region: &RegionExplanation) -> String {
    match region.kilometres {
        Some(kilometres) => format!("{}: {} ({kilometres} km)", region.reason.as_str(), region.reason.meaning()),
        None => format!("{}: {}", region.reason.as_str(), region.reason.meaning()),
    }
}

/// Adds to the reasons of regions that operators force who does, and why.
fn tell_forced(regions: &mut [SteeredRegion], book: &rules::health::Book) {
    for (target, forced) in book.in_force() {
        let (rules::health::Target::Region(name), Some(force)) = (target, forced.force) else { continue };
        for region in regions.iter_mut().filter(|region| region.region == name.as_str()) {
            region.reason += &format!(" (forced {} by {}: {})", force.as_str(), forced.who, forced.why);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use region_config::NodeId;
    use rules::health::{Book, Force, Target};

    use super::*;

    /// Whoever asked why nobody is led to a region was told that it is down, and not that somebody had said so.
    #[test]
    fn a_region_that_is_forced_is_told_with_who_and_why() {
        let mut regions: Vec<SteeredRegion> = ["a", "b", "c"]
            .map(|region| SteeredRegion { region: region.into(), reason: "word: why".into(), ..Default::default() })
            .into();
        let (mut book, node) = (Book::default(), NodeId::parse("n").unwrap());
        let target = |region| Target::Region(RegionId::parse(region).unwrap());
        for (region, force) in [("a", Some(Force::Down)), ("b", Some(Force::Up)), ("b", None)] {
            book.order(target(region), force, ("ada", "fibre cut"), &node, 1).unwrap();
        }
        tell_forced(&mut regions, &book);
        let told: Vec<&str> = regions.iter().map(|region| region.reason.as_str()).collect();
        assert_eq!(told, ["word: why (forced down by ada: fibre cut)", "word: why", "word: why"]);
    }
}
