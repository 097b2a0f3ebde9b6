//! The regions that may be named, and what it costs to send a client there.

use std::cmp::Reverse;

use region_config::{REGIONS_MAX, Region, RegionId};

use super::{
    address::mix,
    base::Location,
    place::Point,
    round_trips::{RoundTrip, RoundTrips, is_worth_it},
    wishes::Wishes,
};

/// What reaching a region costs, in hundredths of a microsecond: a round trip, as far as it can be told from a distance.
pub(super) type Cost = u32;

/// What a round trip takes beside the way, in [`Cost`].
const START: Cost = 400_000;
/// What a kilometre adds for each percent that distances count (20 us for a whole one), in [`Cost`].
const KILOMETRE_PERCENT: Cost = 20;

/// Estimated round trip over a distance of which so many percent count.
pub(super) fn estimate(kilometres: u16, stretch_percent: u8) -> Cost {
    START + u32::from(kilometres) * KILOMETRE_PERCENT * u32::from(stretch_percent)
}

/// The same by what was measured, as far as that is to be believed.
pub(super) fn blended(trip: RoundTrip, kilometres: u16, stretch_percent: u8) -> Cost {
    trip.blended(estimate(kilometres, stretch_percent), START, stretch_percent)
}

/// A cost in microseconds.
pub(super) fn micros(cost: Cost) -> u32 {
    cost / 100
}

/// What comes before distance: whether a region is for when all others are down, its priority, and whether it has no weight
/// though others have.
pub(super) type Class = (bool, u8, bool);

/// A region that may be named.
pub(super) struct Place {
    /// Its index in the config.
    pub(super) index: u8,
    name: RegionId,
    /// Where it is.
    point: Option<Point>,
    /// What its distances count, in percent.
    stretch: u8,
    /// What comes before distance.
    class: Class,
    /// Breaks ties, the same way on every node.
    tie: u64,
}

impl Place {
    fn estimate(&self, from: Option<Point>) -> Cost {
        match (from, self.point) {
            (Some(from), Some(to)) => estimate(from.kilometres(to), self.stretch),
            _ => Cost::MAX,
        }
    }
}

pub(super) struct Places {
    /// In the order of the config.
    regions: Vec<Place>,
    /// For each region by its index: the regions' indices by distance from it, within their classes.
    from: Vec<Vec<u8>>,
}

impl Places {
    pub(super) fn new(regions: &[Region], wishes: &Wishes) -> Self {
        let place = |(index, region): (usize, &Region)| Place {
            index: u8::try_from(index).unwrap_or(u8::MAX),
            name: region.name.clone(),
            point: Point::from_degrees(region.latitude, region.longitude),
            stretch: wishes.stretch(index),
            class: (
                wishes.eligible() >> index & 1 == 0,
                wishes.priority(index),
                wishes.weight(index).is_some_and(|weight| weight == 0),
            ),
            tie: region.name.as_str().bytes().fold(0, |hash, byte| mix(hash ^ u64::from(byte))),
        };
        let nameable = wishes.nameable();
        let named = regions.iter().enumerate().take(REGIONS_MAX).filter(|(index, _)| nameable >> index & 1 == 1);
        let mut places = Self { regions: named.map(place).collect(), from: vec![Vec::new(); REGIONS_MAX] };
        let from = |place: &Place| (usize::from(place.index), places.by_cost(place.point, 0));
        for (index, order) in places.regions.iter().map(from).collect::<Vec<_>>() {
            places.from[index] = order;
        }
        places
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.regions.len()
    }

    /// The index of a region that may be named.
    pub(super) fn index_of(&self, name: &RegionId) -> Option<u8> {
        self.regions.iter().find(|place| place.name == *name).map(|place| place.index)
    }

    /// The regions in the order of the config, within their classes.
    pub(super) fn configured(&self) -> Vec<u8> {
        let mut order: Vec<&Place> = self.regions.iter().collect();
        order.sort_by_key(|place| place.class);
        order.into_iter().map(|place| place.index).collect()
    }

    /// The regions by distance from one of them, within their classes.
    pub(super) fn from(&self, region: u8) -> &[u8] {
        self.from.get(usize::from(region)).map_or(&[], Vec::as_slice)
    }

    /// The regions by what they cost from a point, within their classes; equally dear ones in an order that `tie` decides.
    pub(super) fn by_cost(&self, point: Option<Point>, tie: u64) -> Vec<u8> {
        self.ordered(tie, |place| place.estimate(point))
    }

    /// The regions by what they cost from a location, by what was measured where something was. The first one is the one that is
    /// nearest, unless the gain is worth it.
    pub(super) fn by_measured(&self, location: &Location, tie: u64, trips: &RoundTrips) -> Vec<u8> {
        let near = self.by_cost(location.point, tie);
        let measured = |place: &Place| trips.find(location, &place.name);
        if !self.regions.iter().any(|place| measured(place).is_some()) {
            return near;
        }
        let cost = |place: &Place| {
            let estimate = place.estimate(location.point);
            measured(place).map_or(estimate, |trip| trip.blended(estimate, START, place.stretch))
        };
        let mut order = self.ordered(tie, cost);
        let place = |index: Option<&u8>| self.regions.iter().find(|place| Some(&place.index) == index);
        if let (Some(nearest), Some(first)) = (place(near.first()), place(order.first()))
            && nearest.class == first.class
            && !is_worth_it(cost(nearest), cost(first))
        {
            order.retain(|index| *index != nearest.index);
            order.insert(0, nearest.index);
        }
        order
    }

    fn ordered(&self, tie: u64, cost: impl Fn(&Place) -> Cost) -> Vec<u8> {
        let key = |place: &Place| (place.class, cost(place), Reverse(mix(place.tie ^ tie)), place.index);
        let mut order: Vec<_> = self.regions.iter().map(key).collect();
        order.sort_unstable();
        order.into_iter().map(|(.., index)| index).collect()
    }

    /// A region's class.
    pub(super) fn class(&self, region: u8) -> Class {
        self.regions.iter().find(|place| place.index == region).map_or((true, u8::MAX, true), |place| place.class)
    }
}
