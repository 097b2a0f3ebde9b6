//! What sites wish of steering.

use super::{value, values};
use crate::{
    steering::{Force, Pin, RegionWish, SiteSteering, Whom},
    written::steering::{PinSection, SteeringSection, WishSection},
};

pub(crate) fn of(section: &SteeringSection) -> Option<SiteSteering> {
    Some(SiteSteering {
        allow: values(&section.allow),
        deny: values(&section.deny),
        regions: section.regions.iter().map(|it| wish(&it.value)).collect::<Option<_>>()?,
        pins: section.pins.iter().flat_map(|it| pins(&it.value)).collect(),
        no_data: values(&section.no_data),
        all_down: value(&section.all_down).unwrap_or_default(),
        fallback: values(&section.fallback),
    })
}

fn wish(section: &WishSection) -> Option<RegionWish> {
    Some(RegionWish {
        region: value(&section.region)?,
        weight: section.weight.as_ref().map(|it| it.value.small()),
        bias_percent: section.bias.as_ref().map_or(0, |it| it.value.0),
        priority: section.priority.as_ref().and_then(|it| u8::try_from(it.value.0).ok()).unwrap_or(0),
    })
}

/// A rule for each of those that one table is for.
fn pins(section: &PinSection) -> Vec<Pin> {
    let (force, regions) = match section.only.as_slice() {
        [] => (Force::Prefer, values(&section.prefer)),
        only => (Force::Only, values(only)),
    };
    let blocks = section.cidr.iter().map(|it| Whom::Block(it.value));
    let asns = section.asn.iter().map(|it| Whom::Asn(it.value.small()));
    let countries = section.country.iter().map(|it| Whom::Country(it.value.0));
    let continents = section.continent.iter().map(|it| Whom::Continent(it.value));
    let whom = blocks.chain(asns).chain(countries).chain(continents);
    whom.map(|whom| Pin { whom, force, regions: regions.clone() }).collect()
}
