//! What would change for given clients if a region were gone, or the config another one: the same for the command line and the
//! API.

use std::{net::IpAddr, sync::Arc};

use region_config::{Config, RegionId, Site, SiteId};
use rules::steering::{
    cells,
    what_if::{Client, Compared, Maps, Scene, compare},
};

use crate::{
    admin::model::{BeforeAfter, WhatIfRegion, WhatIfSite},
    geo,
};

/// Most cells that one prefix stands for: a shorter one is looked at in so many places.
const CELLS_MAX: u32 = 256;

/// A config with its geo database.
#[derive(Clone, Copy)]
pub struct World<'a> {
    /// The config.
    pub config: &'a Config,
    /// Where clients are.
    pub base: &'a geo::Base,
}

impl World<'_> {
    fn scene(&self, site: &Site, without: &[RegionId], maps: &mut Maps) -> Scene {
        Scene::new(self.config, site, self.base.ranges(), &self.config.node.region, without, maps)
    }
}

/// What would change, for one site or for all that are in both worlds. `without` is gone in the second one. None if the sites'
/// wishes are so many that more than `maps_max` maps would have to be compiled for them, give or take two.
#[must_use]
pub fn compared(
    now: World<'_>,
    then: World<'_>,
    clients: &[Client],
    without: &[RegionId],
    site: Option<&str>,
    maps_max: usize,
) -> Option<Vec<WhatIfSite>> {
    let wanted = |it: &&Arc<Site>| site.is_none_or(|name| it.name.as_str() == name);
    let (mut maps_now, mut maps_then) = (Maps::default(), Maps::default());
    let mut answers = Vec::new();
    for site in now.config.sites.iter().filter(wanted) {
        // a site that the candidate no longer has cannot be compared
        let Some(after) = then.config.sites.iter().find(|it| it.name == site.name) else { continue };
        if maps_now.count() + maps_then.count() > maps_max {
            return None;
        }
        let before = now.scene(site, &[], &mut maps_now).shared_out(clients);
        let after = then.scene(after, without, &mut maps_then).shared_out(clients);
        answers.push(told(site, &compare(&before, &after, clients)));
    }
    Some(answers)
}

/// The names of the sites that both configs have.
#[must_use]
pub fn sites<'a>(now: &'a Config, then: &Config) -> Vec<&'a str> {
    let both = |name: &SiteId| then.sites.iter().any(|site| site.name == *name);
    now.sites.iter().map(|site| &site.name).filter(|name| both(name)).map(SiteId::as_str).collect()
}

/// The regions of these names.
///
/// # Errors
/// The name that no region has.
pub fn regions(names: &[String], config: &Config) -> Result<Vec<RegionId>, String> {
    let known = |name: &String| {
        let region = config.regions.iter().find(|region| region.name.as_str() == name);
        region.map(|region| region.name.clone()).ok_or_else(|| name.clone())
    };
    names.iter().map(known).collect()
}

/// The clients of an address or prefix: one that is longer than what resolvers send stands for one of them.
#[must_use]
pub fn clients(block: &str, requests: f64) -> Option<Vec<Client>> {
    if !requests.is_finite() || requests < 0.0 {
        return None;
    }
    let (address, length) = match block.split_once('/') {
        Some((address, length)) => (address.parse::<IpAddr>().ok()?, length.parse::<u8>().ok()?),
        None => (block.parse().ok()?, u8::MAX),
    };
    let bits = if address.is_ipv4() { 32 } else { 128 };
    if length > bits && block.contains('/') {
        return None;
    }
    let addresses = cells(address, length.min(bits), CELLS_MAX);
    #[allow(clippy::cast_precision_loss, reason = "at most 256")]
    let each = requests / addresses.len().max(1) as f64;
    Some(addresses.into_iter().map(|address| Client { address, requests: each }).collect())
}

fn told(site: &Site, compared: &Compared) -> WhatIfSite {
    let Compared { requests, moved, refused, stranded, violations, regions } = compared;
    let pair = |[before, after]: [f64; 2]| BeforeAfter { before, after };
    WhatIfSite {
        site: site.name.to_string(),
        requests: *requests,
        moved: *moved,
        moved_part: part(*moved, *requests),
        refused: pair(*refused),
        stranded: pair(*stranded),
        violations: BeforeAfter { before: violations[0], after: violations[1] },
        regions: (regions.iter())
            .map(|region| WhatIfRegion {
                region: region.region.to_string(),
                before: region.requests[0],
                after: region.requests[1],
                capacity: region.capacity,
                load_part: region.capacity.map(|capacity| part(region.requests[1], capacity)),
            })
            .collect(),
    }
}

fn part(some: f64, all: f64) -> f64 {
    if all > 0.0 { some / all } else { 0.0 }
}
