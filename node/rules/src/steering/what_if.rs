//! What would change for given clients if a region were gone or the config another one: by the functions that answer.

use std::{collections::BTreeMap, net::IpAddr};

use region_config::{Config, JurisdictionId, REGIONS_MAX, RegionId, RegionMask, Site};

use super::{
    base::Base,
    decide::{Outcome, Policy, decide, regions_up_to},
    map::Map,
    place::Point,
    shares::Shares,
    spill::{AIM, Bounds, Demand, ENTER, filled, first_only, loads, rising},
    standing::Standing,
    wishes::Wishes,
};
use crate::health::{Fleet, NodeView, RegionState, RegionView, WHOLE_PERCENT};

/// A client, or a block of them that is led as one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Client {
    /// An address of it.
    pub address: IpAddr,
    /// Requests in a second.
    pub requests: f64,
}

/// A site under a config, with some regions gone and all others up.
#[derive(Debug)]
pub struct Scene {
    regions: Vec<Stage>,
    pin: Option<JurisdictionId>,
    policy: Policy,
    reachable: RegionMask,
    map: Map,
    standing: Standing,
}

/// Maps of one config and database that scenes share: those of sites with the same wishes are the same.
#[derive(Debug, Default)]
pub struct Maps(Vec<(Wishes, Map)>);

impl Maps {
    /// How many were compiled.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    fn map(&mut self, config: &Config, base: &Base, here: &RegionId, wishes: &Wishes) -> Map {
        if let Some((_, map)) = self.0.iter().find(|(known, _)| known == wishes) {
            return map.clone();
        }
        let map = Map::compile(config, base, wishes, here);
        self.0.push((wishes.clone(), map.clone()));
        map
    }
}

/// A region of a scene.
#[derive(Debug)]
struct Stage {
    name: RegionId,
    jurisdiction: JurisdictionId,
    point: Option<Point>,
    stretch: u8,
    capacity: Option<f64>,
}

/// What would change.
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    /// Requests in a second of all clients.
    pub requests: f64,
    /// Those of clients that would be led to another region.
    pub moved: f64,
    /// Those of clients that would get no answer before, and after.
    pub refused: [f64; 2],
    /// Those of clients that would be led to a region that is gone, since all that they may be led to are: before, and after.
    /// No region has them as load.
    pub stranded: [f64; 2],
    /// Clients that would be led out of the jurisdiction that the site is pinned to, before and after: none, or this
    /// program is at fault.
    pub violations: [u64; 2],
    /// The regions of both, by name.
    pub regions: Vec<Loaded>,
}

/// A region's load before and after.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// Which region.
    pub region: RegionId,
    /// Requests in a second before, and after.
    pub requests: [f64; 2],
    /// What it bears afterwards, if the config says so.
    pub capacity: Option<f64>,
}

impl Scene {
    /// A site of a config. `here` is the region of the node that is asked; `maps` are of the same config, database and region.
    #[must_use]
    pub fn new(
        config: &Config,
        site: &Site,
        base: &Base,
        here: &RegionId,
        without: &[RegionId],
        maps: &mut Maps,
    ) -> Self {
        let wishes = Wishes::of(config, site, addressed(config, |_| true));
        let map = maps.map(config, base, here, &wishes);
        let stage = |(index, region): (usize, &region_config::Region)| Stage {
            name: region.name.clone(),
            jurisdiction: region.jurisdiction.clone(),
            point: Point::from_degrees(region.latitude, region.longitude),
            stretch: wishes.stretch(index),
            capacity: region.capacity_per_second.map(f64::from),
        };
        let regions: Vec<Stage> = config.regions.iter().enumerate().map(stage).collect();
        let gone = |stage: &Stage| without.contains(&stage.name);
        let state = |stage| if gone(stage) { RegionState::Down } else { RegionState::Up };
        let states = regions.iter().map(|stage| (stage.name.clone(), state(stage)));
        Self {
            policy: wishes.policy(site.dns_ttl_s),
            reachable: regions_up_to(REGIONS_MAX),
            pin: site.pin.clone(),
            standing: Standing::of(&fleet(states)),
            map,
            regions,
        }
    }

    /// The same when load has been shared out as far as it would be: where a region that these clients are led to would
    /// bear no more. Where the site wishes weights, those count and not load.
    #[must_use]
    pub fn shared_out(mut self, clients: &[Client]) -> Self {
        let capacities: Vec<Option<f64>> = self.regions.iter().map(|region| region.capacity).collect();
        if capacities.iter().all(Option::is_none) || self.map.shares().are_some() {
            return self;
        }
        let mut requests: BTreeMap<usize, f64> = BTreeMap::new();
        for client in clients {
            *requests.entry(self.map.list_id(client.address)).or_default() += client.requests;
        }
        let demands: Vec<Demand> = requests
            .iter()
            .map(|(list, requests)| Demand {
                list: *list as u64,
                part_of: None,
                requests: *requests,
                regions: self.priced(*list),
            })
            .collect();
        let unspilled = loads(&demands, &first_only(&demands), self.regions.len());
        let bound = |(capacity, load): (&Option<f64>, f64)| match capacity {
            Some(capacity) => {
                let gives_above = if load > capacity * ENTER { capacity * AIM } else { f64::INFINITY };
                Bounds { gives_above, takes_to: capacity * AIM }
            }
            None => Bounds::NONE,
        };
        let bounds: Vec<Bounds> = capacities.iter().zip(unspilled).map(bound).collect();
        let parts = filled(&demands, &bounds);
        let count = self.map.size().0;
        let mut by_list: Vec<&[(usize, f64)]> = vec![&[]; count];
        for (list, parts) in requests.keys().zip(&parts) {
            if let Some(place) = by_list.get_mut(*list) {
                *place = parts;
            }
        }
        self.map = self.map.sharing(Shares::by_load(by_list.into_iter().map(Into::into)));
        self
    }

    /// The regions of a list that are not down, best first, each with what it costs from the first one: whoever is led on
    /// comes from around there.
    fn priced(&self, list: usize) -> Vec<(usize, f64)> {
        let alive = |region: &usize| self.standing.state(*region) != RegionState::Down;
        let regions: Vec<usize> = self.map.list(list, self.policy.eligible & self.reachable).filter(alive).collect();
        let first = regions.first().and_then(|first| self.regions.get(*first)?.point);
        let cost = |region: usize| {
            let stage = self.regions.get(region)?;
            Some(f64::from(first?.kilometres(stage.point?)) * f64::from(stage.stretch))
        };
        rising(regions.iter().map(|region| (*region, cost(*region).unwrap_or(f64::MAX))))
    }

    /// The region that a client is led to.
    fn leads(&self, client: &Client) -> Option<&Stage> {
        let decision = decide(client.address, self.reachable, &self.policy, &self.map, &self.standing);
        let refused = matches!(decision.outcome, Outcome::Refuse(_));
        self.regions.get(decision.region().filter(|_| !refused)?)
    }

    /// Whether a region is not there any more.
    fn is_gone(&self, stage: &Stage) -> bool {
        let at = self.regions.iter().position(|it| it.name == stage.name);
        at.is_some_and(|at| self.standing.state(at) == RegionState::Down)
    }

    /// Whether a region lies outside the jurisdiction that the site is pinned to; asked of the config, not of any mask.
    fn is_outside(&self, stage: &Stage) -> bool {
        self.pin.as_ref().is_some_and(|pin| *pin != stage.jurisdiction)
    }
}

/// Leads the clients in both scenes, and says what differs.
#[must_use]
pub fn compare(before: &Scene, after: &Scene, clients: &[Client]) -> Compared {
    let mut compared = Compared {
        requests: 0.0,
        moved: 0.0,
        refused: [0.0; 2],
        stranded: [0.0; 2],
        violations: [0; 2],
        regions: Vec::new(),
    };
    let mut loads: BTreeMap<RegionId, [f64; 2]> = BTreeMap::new();
    for region in before.regions.iter().chain(&after.regions) {
        loads.entry(region.name.clone()).or_default();
    }
    for client in clients {
        let led = [before.leads(client), after.leads(client)];
        compared.requests += client.requests;
        if led[0].map(|stage| &stage.name) != led[1].map(|stage| &stage.name) {
            compared.moved += client.requests;
        }
        for (at, (scene, stage)) in [before, after].into_iter().zip(led).enumerate() {
            let Some(stage) = stage else {
                compared.refused[at] += client.requests;
                continue;
            };
            compared.violations[at] += u64::from(scene.is_outside(stage));
            if scene.is_gone(stage) {
                compared.stranded[at] += client.requests;
                continue;
            }
            if let Some(load) = loads.get_mut(&stage.name) {
                load[at] += client.requests;
            }
        }
    }
    let capacity = |name: &RegionId| after.regions.iter().find(|stage| stage.name == *name)?.capacity;
    let loaded = |(region, requests): (RegionId, [f64; 2])| Loaded { capacity: capacity(&region), region, requests };
    compared.regions = loads.into_iter().map(loaded).collect();
    compared
}

/// The regions that have an address which is like that, one bit for each.
#[must_use]
pub fn addressed(config: &Config, like: impl Fn(&IpAddr) -> bool) -> RegionMask {
    let has = |region: &region_config::Region| region.nodes.iter().flat_map(|node| &node.addresses).any(&like);
    let bits = config.regions.iter().take(REGIONS_MAX).enumerate();
    bits.fold(0, |mask, (index, region)| mask | u64::from(has(region)) << index)
}

fn fleet(states: impl Iterator<Item = (RegionId, RegionState)>) -> Fleet {
    let view = |(name, state)| RegionView {
        name,
        state,
        since_unix_ms: 0,
        pending: false,
        recent: false,
        part_percent: WHOLE_PERCENT,
        nodes: Vec::<NodeView>::new(),
        votes: vec![],
    };
    Fleet { epoch: 0, minority: false, regions: states.map(view).collect() }
}

#[cfg(test)]
mod tests;
