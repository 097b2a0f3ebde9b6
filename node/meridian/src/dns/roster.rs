//! Whose demand is counted, and whose clients are shared out by load: the classes of all sites' clients, and the views that are
//! made of one plan while load moves clients.

use std::{net::IpAddr, sync::Arc};

use region_config::{Config, RegionId, RegionMask, Site};
use rules::steering::{Classed, Classes, Grain, Map, Parted};

use super::view::View;

/// The classes of the clients of all sites of a view, and what its regions bear.
#[derive(Debug)]
pub struct Roster {
    classes: Classes,
    /// Each site, in the order of the config, with its group.
    sites: Vec<(Arc<Site>, usize)>,
    groups: Vec<Group>,
    regions: Vec<RegionId>,
    capacities: Vec<Option<f64>>,
}

/// Sites with one map that are counted alike.
#[derive(Debug)]
struct Group {
    /// As nobody has shared it out.
    map: Arc<Map>,
    grain: Grain,
    classed: Classed,
}

impl Roster {
    /// None if no region says what it bears, or before there is a database: then nobody counts. `site` gives what a site, by
    /// its index, is led by, and what may be named of it.
    pub(super) fn new<'a>(
        config: &Config,
        site: impl Fn(usize) -> Option<(&'a Arc<Map>, RegionMask)>,
    ) -> Option<Arc<Self>> {
        let capacities: Vec<_> =
            config.regions.iter().map(|region| region.capacity_per_second.map(f64::from)).collect();
        if capacities.iter().all(Option::is_none) {
            return None;
        }
        let here = config.regions.iter().position(|region| region.name == config.node.region).unwrap_or(0);
        let regions = config.regions.iter().map(|region| region.name.clone()).collect();
        let classes = Classes::new(config);
        let mut roster = Self { classes, sites: Vec::new(), groups: Vec::<Group>::new(), regions, capacities };
        for (index, told) in config.sites.iter().enumerate() {
            let (map, eligible) = site(index)?;
            let grain = grain(told, map, here);
            let known = roster.groups.iter().position(|group| Arc::ptr_eq(&group.map, map) && group.grain == grain);
            roster.sites.push((Arc::clone(told), known.unwrap_or(roster.groups.len())));
            if known.is_none() {
                let classed = roster.classes.add(map, eligible, grain);
                roster.groups.push(Group { map: Arc::clone(map), grain, classed });
            }
        }
        Some(Arc::new(roster))
    }

    /// The classes.
    #[must_use]
    pub fn classes(&self) -> &Classes {
        &self.classes
    }

    /// The regions, in the order of the config.
    #[must_use]
    pub fn regions(&self) -> &[RegionId] {
        &self.regions
    }

    /// What each region bears in a second, in the order of the config.
    #[must_use]
    pub fn capacities(&self) -> &[Option<f64>] {
        &self.capacities
    }

    /// Whether the site with this index is `told`, of the very config that this was made of: a site that another config
    /// tells of is another one, since it may have got a pin.
    #[must_use]
    #[inline]
    pub fn is_of(&self, site: usize, told: &Arc<Site>) -> bool {
        self.sites.get(site).is_some_and(|(known, _)| Arc::ptr_eq(known, told))
    }

    /// The class of a client of a site, by its index.
    #[must_use]
    pub fn class(&self, site: usize, address: IpAddr) -> Option<usize> {
        let group = self.groups.get(self.sites.get(site)?.1)?;
        group.classed.of(group.map.list_id(address))
    }

    /// The map of each site when the classes are shared out so: `parts` are by the class's index.
    pub(super) fn maps<'a>(&self, parts: impl Fn(usize) -> Parted<'a>) -> Vec<Arc<Map>> {
        let shared = |group: &Group| match group.classed.shares(&parts).filter(|_| !matches!(group.grain, Grain::At(_)))
        {
            Some(shares) => Arc::new(group.map.sharing(shares)),
            None => Arc::clone(&group.map),
        };
        let groups: Vec<Arc<Map>> = self.groups.iter().map(shared).collect();
        self.sites.iter().filter_map(|(_, group)| groups.get(*group).cloned()).collect()
    }
}

/// How exactly a site's clients are counted.
fn grain(site: &Site, map: &Map, here: usize) -> Grain {
    if map.shares().are_some() {
        Grain::At(here)
    } else if site.pin.is_some() {
        Grain::Nearest
    } else {
        Grain::List
    }
}

impl View {
    /// The same view with the classes of clients shared out so. It is of the same plan, and takes the place of a view of
    /// that plan only.
    #[must_use]
    pub fn shared_out<'a>(&self, parts: impl Fn(usize) -> Parted<'a>) -> Option<Self> {
        let maps = self.roster()?.maps(parts);
        Some(self.with_maps(maps))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::{dns::tests::config, geo};

    fn german() -> IpAddr {
        "91.0.0.1".parse().unwrap()
    }

    #[test]
    fn nobody_counts_where_no_region_says_what_it_bears() {
        let view = View::compile(&config(), &geo::Base::embedded().unwrap()).unwrap();
        assert!(view.roster().is_none() && view.shared_out(|_| Parted::default()).is_none());
    }

    #[test]
    fn clients_are_shared_out_and_a_pinned_site_is_counted_by_its_nearest_region_only() {
        let mut config = config();
        config.regions[0].capacity_per_second = Some(100);
        let view = View::compile(&config, &geo::Base::embedded().unwrap()).unwrap();
        let roster = Arc::clone(view.roster().unwrap());
        let free = config.sites.iter().position(|site| site.pin.is_none()).unwrap();
        let class = roster.class(free, german()).unwrap();
        assert!(class >= roster.classes().regions(), "a list, and no region alone");
        if let Some(pinned) = config.sites.iter().position(|site| site.pin.is_some()) {
            let class = roster.class(pinned, german()).unwrap();
            assert_eq!(roster.classes().alone(class), Some(0));
        }
        assert_eq!(roster.class(config.sites.len(), german()), None);
        let parts = [(0, 0.5), (1, 0.5)];
        let shared = view.shared_out(|at| if at == class { parts[..].into() } else { Parted::default() }).unwrap();
        assert_eq!(shared.plan(), view.plan());
        let again = shared.shared_out(|_| Parted::default()).unwrap();
        for (view, is) in [(&view, false), (&shared, true), (&again, false)] {
            assert_eq!(view.map(free).unwrap().shares().are_some(), is);
        }
    }
}
