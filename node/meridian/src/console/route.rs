//! Where DNS leads an address, by the functions that answer, in the words of the API.

use std::{net::IpAddr, sync::Arc};

use arc_swap::ArcSwap;
use region_config::{Config, RegionId, Site};
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
    Arc::new(move |config, whither, address, without| {
        let (base, view, fleet) = (shared.geo.load_full()?, view.load(), shared.health.fleet());
        let site = match whither {
            Whither::Site(site) => site,
            Whither::Host(host) => config.sites.get(view.site_named(host)?)?,
        };
        let explained = view.explain(&site.name, address, &fleet, without, (config, &base))?;
        let epochs = SteeringEpochs {
            config: config.fingerprint.iter().take(8).map(|byte| format!("{byte:02x}")).collect(),
            plan: view.plan(),
            health: fleet.epoch,
            geo: base.describe(),
        };
        Some(told(site, address, &explained, epochs))
    })
}

/// For a node that answers no DNS.
#[must_use]
pub fn not_steered() -> Steered {
    Arc::new(|_: &Config, _: Whither<'_>, _, _: &[RegionId]| None)
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
