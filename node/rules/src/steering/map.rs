//! A base compiled for one site's wishes: ranges of region lists, best region first.

use std::{net::IpAddr, sync::Arc};

use region_config::{Config, RegionId, RegionMask};

use super::{
    address::{Spot, beside_carriers, mix, spot},
    base::{Base, Location, LocationId, first_half},
    lists::Lists,
    overlay,
    places::Places,
    ranges::{Ranges, Step, Word},
    shares::{Shares, Spread},
    wishes::Wishes,
};

/// Resolvers send no more bits of an address than these (RFC 7871 section 11.1): clients that share them are led as one.
const CELL_BITS_V4: u32 = 24;
const CELL_BITS_V6: u32 = 56;

/// What the order of a list comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The distance from where the address is.
    Distance,
    /// No data: the region of the node that was asked, since resolvers prefer the name server that is near.
    Asked,
    /// No data: the order that the site wishes, or, if the node that was asked is in no region that may be named, the order
    /// of the config.
    Configured,
}

impl Origin {
    /// The word for it in API and screens.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Distance => "distance",
            Self::Asked => "asked",
            Self::Configured => "configured",
        }
    }
}

/// Ranges of region lists for all of IPv4 and IPv6, for one site's wishes, and how clients of one list are shared out.
#[derive(Debug, Clone)]
pub struct Map {
    table: Arc<Table>,
    shares: Arc<Shares>,
}

#[derive(Debug)]
struct Table {
    nameable: RegionMask,
    /// Regions in a list: as many as may be named.
    length: usize,
    /// All lists, one after the other. The first is for addresses that nothing is known of.
    lists: Vec<u8>,
    /// For each list, the regions that may be named to its clients: all but where a rule says `only`.
    masks: Vec<RegionMask>,
    without_data: Origin,
    v4: Ranges<u32>,
    v6: Ranges<u64>,
}

/// What a map says about an address.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Listed<'a> {
    /// All regions that may be named, best first.
    pub(super) list: &'a [u8],
    /// Those that may be named to this client.
    pub(super) mask: RegionMask,
    /// Length of the block around the address that has the same list, and the same part of it if there are parts.
    pub(super) scope: u8,
    /// How the list's clients are shared out, and the number by which this one is.
    pub(super) spread: Option<(&'a Spread, u64)>,
}

impl Map {
    /// Compiles `base` for a site's wishes; `here` is the region of the node that answers. Takes milliseconds for a country
    /// database and some tens of milliseconds for a city database: not for a thread that answers.
    #[must_use]
    pub fn compile(config: &Config, base: &Base, wishes: &Wishes, here: &RegionId) -> Self {
        let places = Places::new(&config.regions, wishes);
        let asked = places.index_of(here).filter(|index| wishes.eligible() >> index & 1 == 1);
        let mut lists = Lists::new(&places, wishes, base.round_trips(), asked);
        let ids = lists.of_all(&base.locations);
        let v4 = ruled(&base.v4, &overlay::v4(wishes), &ids, |at, rule| lists.of(base.at(at), Some(rule)));
        let v6 = ruled(&base.v6, &overlay::v6(wishes), &ids, |at, rule| lists.of(base.at(at), Some(rule)));
        let shares = Arc::new(Shares::wished(wishes, lists.iter()));
        let without_data =
            if wishes.no_data().is_empty() && asked.is_some() { Origin::Asked } else { Origin::Configured };
        let (length, (lists, masks)) = (places.count(), lists.finish());
        let table = Table { nameable: wishes.nameable(), length, lists, masks, without_data, v4, v6 };
        Self { table: Arc::new(table), shares }
    }

    /// The same map with its clients shared out otherwise.
    #[must_use]
    pub fn sharing(&self, shares: Shares) -> Self {
        Self { table: Arc::clone(&self.table), shares: Arc::new(shares) }
    }

    /// The regions that its lists hold.
    #[must_use]
    pub fn nameable(&self) -> RegionMask {
        self.table.nameable
    }

    /// How many lists it has, and how many ranges of IPv4 and IPv6.
    #[must_use]
    pub fn size(&self) -> (usize, usize, usize) {
        (self.table.masks.len(), self.table.v4.len(), self.table.v6.len())
    }

    /// How clients are shared out.
    #[must_use]
    pub fn shares(&self) -> &Shares {
        &self.shares
    }

    /// The regions of a list that may be named to its clients, best first, and only those that are in `mask`.
    pub fn list(&self, id: usize, mask: RegionMask) -> impl Iterator<Item = usize> + '_ {
        let mask = mask & self.table.masks.get(id).copied().unwrap_or(0);
        let start = id * self.table.length;
        let list = self.table.lists.get(start..start + self.table.length).unwrap_or(&[]);
        list.iter().map(|region| usize::from(*region)).filter(move |region| mask >> region & 1 == 1)
    }

    /// The number of the list for an address.
    #[must_use]
    pub fn list_id(&self, address: IpAddr) -> usize {
        let found = match spot(address) {
            Spot::V4 { address, .. } => self.table.v4.find(address),
            Spot::V6(bits) => self.table.v6.find(first_half(bits)),
        };
        found.value as usize
    }

    /// What the order of the list for a location comes from.
    pub(super) fn origin(&self, location: &Location) -> Origin {
        if location.point.is_some() { Origin::Distance } else { self.table.without_data }
    }

    /// The number of the cell of clients that are led as one around an address, and how many leading bits of the address
    /// tell it.
    pub(super) fn cell(address: IpAddr) -> (u64, u8) {
        let (cell, bits) = match spot(address) {
            Spot::V4 { address, before } => (u64::from(address >> (32 - CELL_BITS_V4)), before + CELL_BITS_V4),
            Spot::V6(bits) => (first_half(bits) >> (64 - CELL_BITS_V6), CELL_BITS_V6),
        };
        (mix(cell), u8::try_from(bits).unwrap_or(128))
    }

    /// Tells the processor that an address will be asked for soon. Memory is slow beside all else that a decision takes, so
    /// whoever has several to make does this for all of them first.
    pub fn fetch(&self, address: IpAddr, step: Step) {
        match spot(address) {
            Spot::V4 { address, .. } => self.table.v4.fetch(address, step),
            Spot::V6(bits) => self.table.v6.fetch(first_half(bits), step),
        }
    }

    /// The list for an address.
    pub(super) fn listed(&self, address: IpAddr) -> Listed<'_> {
        let table = &*self.table;
        let (found, before, least, (cell, cell_bits)) = match spot(address) {
            Spot::V4 { address, before } => {
                (table.v4.find(address), before, 0, (u64::from(address >> (32 - CELL_BITS_V4)), CELL_BITS_V4))
            }
            Spot::V6(bits) => {
                let half = first_half(bits);
                (table.v6.find(half), 0, beside_carriers(bits), (half >> (64 - CELL_BITS_V6), CELL_BITS_V6))
            }
        };
        let id = found.value as usize;
        let start = id * table.length;
        let spread = self.shares.of(id).map(|spread| (spread, mix(cell)));
        let cell_bits = if spread.is_some() { cell_bits } else { 0 };
        let scope = found.scope.max(least).max(cell_bits);
        Listed {
            list: table.lists.get(start..start + table.length).unwrap_or(&[]),
            mask: table.masks.get(id).copied().unwrap_or(0),
            scope: u8::try_from(before + scope).unwrap_or(128),
            spread,
        }
    }
}

/// Ranges of locations, with ranges of rules for blocks beside them, as ranges of lists. `ids` are the lists where there is
/// no such rule.
fn ruled<W: Word>(
    base: &Ranges<W>,
    rules: &Ranges<W>,
    ids: &[u32],
    mut list: impl FnMut(LocationId, usize) -> u32,
) -> Ranges<W> {
    Ranges::new(base.beside(rules).map(|(start, location, rule)| match rule.checked_sub(1) {
        Some(rule) => (start, list(location, rule as usize)),
        None => (start, ids.get(location as usize).copied().unwrap_or(0)),
    }))
}
