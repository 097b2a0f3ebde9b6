//! The lists of all maps of a config as classes of clients: what demand is counted by, told to the fleet, and shared out.
//!
//! A list's number in a map is an accident of the database and of the node that compiled it. A class is known by the names of
//! its regions in their order, so that nodes with other databases, or with sites that wish other things, mean the same by it.
//!
//! What is told of a class leaves the jurisdictions that its regions lie in. So clients of sites with a pin are counted by the
//! region that is nearest to them and no closer: what that region is asked for could be seen at its door.

use std::collections::HashMap;

use region_config::{Config, REGIONS_MAX, RegionMask};

use super::{
    map::Map,
    place::Point,
    shares::{Parted, Shares},
    spill::{Demand, rising},
    standing::Standing,
};

/// Most classes that are counted; the clients of others are not shared out.
pub const CLASSES_MAX: usize = 8192;

/// The classes of all maps, each once.
#[derive(Debug, Clone, Default)]
pub struct Classes {
    names: Vec<String>,
    points: Vec<Option<Point>>,
    classes: Vec<Class>,
    by_id: HashMap<u32, u32>,
}

/// Clients who are led to the same regions in the same order.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Class {
    id: u32,
    /// By their index in the config, best first.
    regions: Vec<u8>,
}

/// The class of each list of a map, by the list's number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classed(Vec<u32>);

/// How exactly the clients of a map are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Grain {
    /// By their whole list.
    List,
    /// By the region that is nearest to them, for sites with a pin.
    Nearest,
    /// Not by where they are: as what the region with this index is asked for, for sites that wish how clients are shared out.
    At(usize),
}

impl Classes {
    /// No classes but those of each region alone, which come first, by the region's index.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let regions = || config.regions.iter().take(REGIONS_MAX);
        let mut classes = Self {
            names: regions().map(|region| region.name.to_string()).collect(),
            points: regions().map(|region| Point::from_degrees(region.latitude, region.longitude)).collect(),
            ..Self::default()
        };
        for region in 0..classes.names.len() {
            classes.of(vec![u8::try_from(region).unwrap_or(u8::MAX)]);
        }
        classes
    }

    /// The classes of a map, for what may be named of it.
    pub fn add(&mut self, map: &Map, eligible: RegionMask, grain: Grain) -> Classed {
        let class = |list: usize| {
            let regions = || map.list(list, eligible).filter_map(|region| u8::try_from(region).ok());
            match grain {
                Grain::List => regions().collect(),
                Grain::Nearest => self.by_distance(regions().collect()),
                Grain::At(region) => u8::try_from(region).into_iter().collect(),
            }
        };
        let lists: Vec<Vec<u8>> = (0..map.size().0).map(class).collect();
        Classed(lists.into_iter().map(|regions| self.of(regions)).collect())
    }

    /// The first of them, then the others by their distance from it.
    fn by_distance(&self, mut regions: Vec<u8>) -> Vec<u8> {
        if let Some((first, others)) = regions.split_first_mut() {
            let first = usize::from(*first);
            let name = |region: u8| self.names.get(usize::from(region));
            others.sort_by(|a, b| {
                let far = |region: u8| self.kilometres(first, usize::from(region)).unwrap_or(u16::MAX);
                far(*a).cmp(&far(*b)).then_with(|| name(*a).cmp(&name(*b)))
            });
        }
        regions
    }

    fn kilometres(&self, from: usize, to: usize) -> Option<u16> {
        let point = |region: usize| *self.points.get(region)?;
        Some(point(from)?.kilometres(point(to)?))
    }

    /// The index of a class; of its first region alone if there are too many.
    fn of(&mut self, regions: Vec<u8>) -> u32 {
        let id = self.id(&regions);
        if let Some(known) = self.by_id.get(&id) {
            return *known;
        }
        if self.classes.len() >= CLASSES_MAX {
            return regions.first().map_or(0, |first| u32::from(*first));
        }
        let index = u32::try_from(self.classes.len()).unwrap_or(0);
        self.classes.push(Class { id, regions });
        self.by_id.insert(id, index);
        index
    }

    /// FNV-1a, 32 bits, over the names. Two lists of one id are one class: then some clients are counted as others.
    fn id(&self, regions: &[u8]) -> u32 {
        let names = regions.iter().filter_map(|region| self.names.get(usize::from(*region)));
        let bytes = names.flat_map(|name| name.bytes().chain([b'>']));
        bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
    }

    /// How many regions there are, each of which is a class alone: those come first.
    #[must_use]
    pub fn regions(&self) -> usize {
        self.names.len()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.classes.len()
    }

    /// What all nodes call a class, by its index.
    #[must_use]
    pub fn id_of(&self, class: usize) -> Option<u32> {
        self.classes.get(class).map(|class| class.id)
    }

    /// The class of this id, by its index.
    #[must_use]
    pub fn find(&self, id: u32) -> Option<usize> {
        self.by_id.get(&id).map(|class| *class as usize)
    }

    /// The class of the first region of a class alone.
    #[must_use]
    pub fn alone(&self, class: usize) -> Option<usize> {
        self.classes.get(class)?.regions.first().map(|first| usize::from(*first))
    }

    /// What each class asks for, over the healthiest of its regions that serve, as DNS names no others while one of those is
    /// there; each priced by its distance from the first: whoever is led on comes from around there. `requests` are in a
    /// second, by the class's index. The number of each is its class's id, and they come in the order of these: the index
    /// is another one on nodes of other regions, and all are to come to the same parts.
    ///
    /// Where the first region has just come back, what it does not take yet is a list of its own, [`meanwhile`], over those
    /// that were not away: that is where those clients are.
    #[must_use]
    pub fn demands(&self, requests: &[f64], standing: &Standing) -> Vec<Demand> {
        let asked = self.classes.iter().zip(requests).filter(|(_, requests)| **requests > 0.0);
        let demand = |(class, requests): (&Class, &f64)| {
            let all = class.regions.iter().fold(0, |mask, region| mask | 1 << region);
            let among = standing.best(all) & standing.serving();
            let first = class.regions.iter().copied().find(|region| among >> region & 1 == 1);
            let there = among & !standing.returning();
            let taken = first.filter(|_| there != 0).map_or(1.0, |first| standing.part(first));
            let list = u64::from(class.id);
            let mut demands =
                vec![Demand { list, part_of: None, requests: requests * taken, regions: self.priced(class, among) }];
            if taken < 1.0 {
                let (requests, regions) = (requests * (1.0 - taken), self.priced(class, there));
                demands.push(Demand { list: meanwhile(class.id), part_of: Some(list), requests, regions });
            }
            demands
        };
        let mut demands: Vec<Demand> = asked.flat_map(demand).collect();
        demands.sort_by_key(|demand| demand.list);
        demands
    }

    /// The regions of a class that are in `among`, with their distance from the first of them.
    fn priced(&self, class: &Class, among: RegionMask) -> Vec<(usize, f64)> {
        let regions = || class.regions.iter().copied().map(usize::from).filter(|region| among >> region & 1 == 1);
        let first = regions().next();
        let cost = |region| first.and_then(|first| self.kilometres(first, region)).map_or(f64::MAX, f64::from);
        rising(regions().map(|region| (region, cost(region))))
    }
}

/// The number of the list of a class's clients whom its first region, which has just come back, does not take yet.
#[must_use]
pub fn meanwhile(class: u32) -> u64 {
    1 << 32 | u64::from(class)
}

impl Classed {
    /// The class of a list, by its index.
    #[must_use]
    pub fn of(&self, list: usize) -> Option<usize> {
        self.0.get(list).map(|class| *class as usize)
    }

    /// How the lists of this map are shared out when its classes are shared out so; none if all clients of all lists go to
    /// their first regions. `parts` are by the class's index.
    #[must_use]
    pub fn shares<'a>(&self, parts: impl Fn(usize) -> Parted<'a>) -> Option<Shares> {
        let shares = Shares::by_load(self.0.iter().map(|class| parts(*class as usize)));
        shares.are_some().then_some(shares)
    }
}

#[cfg(test)]
mod tests;
