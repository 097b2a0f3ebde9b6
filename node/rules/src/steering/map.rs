//! A base compiled for one set of legal regions: ranges of region lists, nearest region first.

use std::{cmp::Reverse, collections::HashMap, net::IpAddr};

use region_config::{Config, REGIONS_MAX, Region, RegionId, RegionMask};

use super::{
    address::{Spot, beside_carriers, mix, spot},
    base::{Base, Location, first_half},
    place::Point,
    ranges::Ranges,
};

/// How many places of a list the client's own distance decides. Behind them the regions stand by their distance from the
/// first one: the same tail for all who have that first region, so that there are few lists and wide scopes.
const NEAREST: usize = 3;

/// What the order of a list comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The distance from where the address is.
    Distance,
    /// No data: the region of the node that was asked, since resolvers prefer the name server that is near.
    Asked,
    /// No data, and the node that was asked is in no legal region: the order of the config.
    Configured,
}

/// Ranges of region lists for all of IPv4 and IPv6, under one set of legal regions.
#[derive(Debug, Clone)]
pub struct Map {
    eligible: RegionMask,
    /// Regions in a list: as many as are legal.
    length: usize,
    /// All lists, one after the other. The first is for addresses that nothing is known of.
    lists: Vec<u8>,
    without_data: Origin,
    v4: Ranges<u32>,
    v6: Ranges<u64>,
}

/// What a map says about an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listed<'a> {
    /// All legal regions, nearest first.
    pub(super) list: &'a [u8],
    /// Length of the block around the address that has the same list.
    pub(super) scope: u8,
}

impl Map {
    /// Compiles `base` for the regions of `eligible`; `here` is the region of the node that answers. Takes milliseconds for
    /// a country database and some tens of milliseconds for a city database: not for a thread that answers.
    #[must_use]
    pub fn compile(config: &Config, base: &Base, eligible: RegionMask, here: &RegionId) -> Self {
        let places = Places::new(&config.regions, eligible);
        let asked = places.regions.iter().find(|place| config.regions[usize::from(place.index)].name == *here);
        let mut lists = Lists::new(&places, asked.map(|place| place.index));
        let ids: Vec<u32> = base.locations.iter().map(|location| lists.of(*location)).collect();
        Self {
            eligible,
            length: places.regions.len(),
            lists: lists.all,
            without_data: if asked.is_some() { Origin::Asked } else { Origin::Configured },
            v4: base.v4.translated(&ids),
            v6: base.v6.translated(&ids),
        }
    }

    /// The regions that its lists hold.
    #[must_use]
    pub fn eligible(&self) -> RegionMask {
        self.eligible
    }

    /// How many lists it has, and how many ranges of IPv4 and IPv6.
    #[must_use]
    pub fn size(&self) -> (usize, usize, usize) {
        (self.lists.len() / self.length.max(1), self.v4.len(), self.v6.len())
    }

    /// What the order of the list for a location comes from.
    pub(super) fn origin(&self, location: &Location) -> Origin {
        if location.point.is_some() { Origin::Distance } else { self.without_data }
    }

    /// The list for an address.
    pub(super) fn listed(&self, address: IpAddr) -> Listed<'_> {
        let (found, before, least) = match spot(address) {
            Spot::V4 { address, before } => (self.v4.find(address), before, 0),
            Spot::V6(bits) => (self.v6.find(first_half(bits)), 0, beside_carriers(bits)),
        };
        let start = found.value as usize * self.length;
        Listed {
            list: self.lists.get(start..start + self.length).unwrap_or(&[]),
            scope: u8::try_from(before + found.scope.max(least)).unwrap_or(128),
        }
    }
}

/// A legal region, as far as the cost of sending a client there goes.
struct Place {
    /// Its index in the config.
    index: u8,
    /// Where it is.
    point: Option<Point>,
    /// Breaks ties, the same way on every node.
    weight: u64,
}

struct Places {
    /// In the order of the config.
    regions: Vec<Place>,
    /// For each region by its index: the legal regions' indices by distance from it.
    from: Vec<Vec<u8>>,
}

impl Places {
    fn new(regions: &[Region], eligible: RegionMask) -> Self {
        let place = |(index, region): (usize, &Region)| Place {
            index: u8::try_from(index).unwrap_or(u8::MAX),
            point: Point::from_degrees(region.latitude, region.longitude),
            weight: region.name.as_str().bytes().fold(0, |hash, byte| mix(hash ^ u64::from(byte))),
        };
        let legal = regions.iter().enumerate().take(REGIONS_MAX).filter(|(index, _)| eligible >> index & 1 == 1);
        let mut places = Self { regions: legal.map(place).collect(), from: vec![Vec::new(); REGIONS_MAX] };
        let from = places.regions.iter().map(|place| (usize::from(place.index), places.by_distance(place.point, 0)));
        for (index, order) in from.collect::<Vec<_>>() {
            places.from[index] = order;
        }
        places
    }

    /// The legal regions by distance from a point; equally far ones in an order that `tie` decides.
    fn by_distance(&self, point: Option<Point>, tie: u64) -> Vec<u8> {
        let cost = |place: &Place| match (point, place.point) {
            (Some(from), Some(to)) => from.kilometres(to),
            _ => u16::MAX,
        };
        let mut order: Vec<_> = self.regions.iter().map(|p| (cost(p), Reverse(mix(p.weight ^ tie)), p.index)).collect();
        order.sort_unstable();
        order.into_iter().map(|(_, _, index)| index).collect()
    }
}

struct Lists<'a> {
    places: &'a Places,
    all: Vec<u8>,
    known: HashMap<[u8; NEAREST], u32>,
}

impl<'a> Lists<'a> {
    /// Lists that begin with the one for no data.
    fn new(places: &'a Places, asked: Option<u8>) -> Self {
        let all: Vec<u8> = match asked {
            Some(index) => with_tail(&[index], &places.from[usize::from(index)]),
            None => places.regions.iter().map(|place| place.index).collect(),
        };
        // where it is just the list that some location has, both share it, and the scopes are wider
        let head = all.len().min(NEAREST);
        let whole = asked.is_some() || all.len() <= NEAREST;
        let known = if whole { HashMap::from([(key(&all[..head]), 0)]) } else { HashMap::new() };
        Self { places, all, known }
    }

    /// The number of the list for a location.
    fn of(&mut self, location: Location) -> u32 {
        let length = self.places.regions.len();
        let Some(point) = location.point.filter(|_| length > 0) else { return 0 };
        let tie = location.country.map_or(0, |code| mix(u64::from(u16::from_be_bytes(code))));
        let mut nearest = self.places.by_distance(Some(point), tie);
        nearest.truncate(NEAREST);
        let key = key(&nearest);
        if let Some(id) = self.known.get(&key) {
            return *id;
        }
        let id = u32::try_from(self.all.len() / length).unwrap_or(0);
        self.all.extend(with_tail(&nearest, &self.places.from[usize::from(nearest[0])]));
        self.known.insert(key, id);
        id
    }
}

/// What tells one list from another: its first places.
fn key(nearest: &[u8]) -> [u8; NEAREST] {
    std::array::from_fn(|at| nearest.get(at).copied().unwrap_or(u8::MAX))
}

/// `head`, then what is in `rest` and not in it, in the order of `rest`.
fn with_tail(head: &[u8], rest: &[u8]) -> Vec<u8> {
    head.iter().chain(rest.iter().filter(|index| !head.contains(index))).copied().collect()
}
