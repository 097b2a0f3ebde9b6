//! A geo database in address order: ranges of locations, made once per database and never looked into per request.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use region_config::Continent;

use super::{
    address::{Spot, spot},
    place::Point,
    ranges::{Ranges, Word},
    round_trips::RoundTrips,
};

/// Resolvers send no more bits of an address than these (RFC 7871 section 11.1), so finer ranges only split caches.
const CELL_BITS_V4: u32 = 24;
const CELL_BITS_V6: u32 = 56;
/// Bits below a cell in what ranges begin with: all of IPv4, half of IPv6.
const CELL_SHIFT: u32 = 8;

/// Index of a location in a [`Base`]; 0 is nowhere.
pub type LocationId = u32;

/// What a database says about an address.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Location {
    /// ISO 3166-1 alpha-2, upper case. Never a legal input: databases disagree on it.
    pub country: Option<[u8; 2]>,
    /// Where it is: the city's coordinates, or the country's middle.
    pub point: Option<Point>,
    /// How far from there it may be, in kilometres, if the database says so.
    pub accuracy_km: Option<u16>,
    /// The autonomous system that announces it, if a database says so.
    pub asn: Option<u32>,
}

impl Location {
    /// The location of addresses that no database knows.
    pub const NOWHERE: Self = Self { country: None, point: None, accuracy_km: None, asn: None };

    /// The continent that its country is of.
    #[must_use]
    pub fn continent(&self) -> Option<Continent> {
        Continent::of(self.country?)
    }
}

/// Why ranges could not be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BaseFault {
    /// Ranges must come in ascending order and must not overlap.
    #[error("ranges are not in ascending order: {first} comes after {before}")]
    Order {
        /// Where the offending range begins.
        first: IpAddr,
        /// Where the range before it ends.
        before: IpAddr,
    },
    /// A range ends before it begins.
    #[error("a range beginning at {first} ends before it begins")]
    Empty {
        /// Where it begins.
        first: IpAddr,
    },
}

/// Ranges of locations for all of IPv4 and IPv6.
#[derive(Debug, Clone, PartialEq)]
pub struct Base {
    pub(super) locations: Vec<Location>,
    pub(super) v4: Ranges<u32>,
    /// By the first 64 bits.
    pub(super) v6: Ranges<u64>,
    /// What was measured, beside what the database says.
    pub(super) round_trips: Arc<RoundTrips>,
}

impl Base {
    /// This base with round trips that were measured.
    #[must_use]
    pub fn with_round_trips(self, round_trips: RoundTrips) -> Self {
        Self { round_trips: Arc::new(round_trips), ..self }
    }

    /// What was measured.
    #[must_use]
    pub fn round_trips(&self) -> &RoundTrips {
        &self.round_trips
    }

    /// What is known of an address; [`Location::NOWHERE`] if nothing.
    #[must_use]
    pub fn location(&self, address: IpAddr) -> Location {
        let id = match spot(address) {
            Spot::V4 { address, .. } => self.v4.find(address).value,
            Spot::V6(bits) => self.v6.find(first_half(bits)).value,
        };
        self.locations.get(id as usize).copied().unwrap_or(Location::NOWHERE)
    }

    /// A location by its id; [`Location::NOWHERE`] if there is none.
    pub(super) fn at(&self, id: LocationId) -> &Location {
        self.locations.get(id as usize).unwrap_or(&Location::NOWHERE)
    }

    /// How many ranges it has: IPv4, IPv6.
    #[must_use]
    pub fn ranges(&self) -> (usize, usize) {
        (self.v4.len(), self.v6.len())
    }

    /// How many locations it knows.
    #[must_use]
    pub fn locations(&self) -> usize {
        self.locations.len() - 1
    }

    /// Whether it knows of any address which network (AS number) it is in.
    #[must_use]
    pub fn knows_networks(&self) -> bool {
        self.locations.iter().any(|location| location.asn.is_some())
    }

    /// The countries that it knows addresses in, ISO 3166-1 alpha-2.
    #[must_use]
    pub fn countries(&self) -> BTreeSet<[u8; 2]> {
        self.locations.iter().filter_map(|location| location.country).collect()
    }

    /// This base with the AS numbers of another one, where that knows any.
    #[must_use]
    pub fn with_networks_of(&self, networks: &Self) -> Self {
        let mut joined = Joined { places: &self.locations, networks: &networks.locations, ..Joined::default() };
        joined.locations.push(Location::NOWHERE);
        joined.known.insert((0, 0), 0);
        let v4 = Ranges::new(overlaid(&self.v4, &networks.v4).map(|(start, pair)| (start, joined.id(pair))));
        let v6 = Ranges::new(overlaid(&self.v6, &networks.v6).map(|(start, pair)| (start, joined.id(pair))));
        Self { locations: joined.locations, v4, v6, round_trips: Arc::clone(&self.round_trips) }
    }

    /// This base with all that another one says about IPv4, in place of what this one says.
    #[must_use]
    pub fn with_v4_of(&self, other: &Self) -> Self {
        let (locations, ids) = self.appended(other);
        Self {
            locations,
            v4: other.v4.translated(&ids),
            v6: self.v6.clone(),
            round_trips: Arc::clone(&self.round_trips),
        }
    }

    /// This base with all that another one says about IPv6, in place of what this one says.
    #[must_use]
    pub fn with_v6_of(&self, other: &Self) -> Self {
        let (locations, ids) = self.appended(other);
        Self {
            locations,
            v4: self.v4.clone(),
            v6: other.v6.translated(&ids),
            round_trips: Arc::clone(&self.round_trips),
        }
    }

    /// The locations of both, and the new ids of the other's.
    fn appended(&self, other: &Self) -> (Vec<Location>, Vec<LocationId>) {
        let more = other.locations.get(1..).unwrap_or(&[]);
        let before = self.locations.len();
        let id = |at: usize| LocationId::try_from(before + at).unwrap_or(0);
        let ids = std::iter::once(0).chain((0..more.len()).map(id)).collect();
        (self.locations.iter().chain(more).copied().collect(), ids)
    }

    /// Some IPv4 addresses that it knows, spread evenly over all that it knows: about `count` /24, or all if there are fewer.
    #[must_use]
    pub fn sample_v4(&self, count: u64) -> Vec<IpAddr> {
        let starts = self.v4.iter().map(|(start, value)| (u64::from(start) >> CELL_SHIFT, value));
        let address = |cell: u64| IpAddr::V4(u32::try_from(cell << CELL_SHIFT).unwrap_or(0).into());
        sampled(starts, 1 << CELL_BITS_V4, count).into_iter().map(address).collect()
    }

    /// Some IPv6 addresses that it knows, as [`Base::sample_v4`]: /56.
    #[must_use]
    pub fn sample_v6(&self, count: u64) -> Vec<IpAddr> {
        let starts = self.v6.iter().map(|(start, value)| (start >> CELL_SHIFT, value));
        let address = |cell: u64| IpAddr::V6((u128::from(cell) << (64 + CELL_SHIFT)).into());
        sampled(starts, 1 << CELL_BITS_V6, count).into_iter().map(address).collect()
    }
}

/// About `count` cells of ranges with a value, at even distances; `end` is behind the last cell of all.
fn sampled(starts: impl Iterator<Item = (u64, u32)>, end: u64, count: u64) -> Vec<u64> {
    let mut starts = starts.peekable();
    let mut known = Vec::new();
    while let Some((first, value)) = starts.next() {
        let after = starts.peek().map_or(end, |(next, _)| *next);
        if value != 0 {
            known.push((first, after - first));
        }
    }
    let total: u64 = known.iter().map(|(_, cells)| cells).sum();
    let step = (total / count.max(1)).max(1);
    let (mut next, mut before) = (step / 2, 0);
    let mut cells = Vec::new();
    for (first, length) in known {
        while next < before + length {
            cells.push(first + next - before);
            next += step;
        }
        before += length;
    }
    cells
}

/// Two location ids, of places and of networks, as one.
#[derive(Default)]
struct Joined<'a> {
    places: &'a [Location],
    networks: &'a [Location],
    locations: Vec<Location>,
    known: HashMap<(LocationId, LocationId), LocationId>,
}

impl Joined<'_> {
    fn id(&mut self, pair: (LocationId, LocationId)) -> LocationId {
        if let Some(id) = self.known.get(&pair) {
            return *id;
        }
        let of = |locations: &[Location], id: LocationId| locations.get(id as usize).copied();
        let place = of(self.places, pair.0).unwrap_or(Location::NOWHERE);
        let asn = of(self.networks, pair.1).and_then(|location| location.asn).or(place.asn);
        let id = LocationId::try_from(self.locations.len()).unwrap_or(0);
        self.locations.push(Location { asn, ..place });
        self.known.insert(pair, id);
        id
    }
}

/// Where either of two covers begins a range, with the values of both from there on.
fn overlaid<'a, W: Word>(first: &'a Ranges<W>, second: &'a Ranges<W>) -> impl Iterator<Item = (W, (u32, u32))> + 'a {
    let (mut first, mut second) = (first.iter().peekable(), second.iter().peekable());
    let mut values = (0, 0);
    std::iter::from_fn(move || {
        let heads = (first.peek().map(|it| it.0), second.peek().map(|it| it.0));
        let start = match heads {
            (Some(a), Some(b)) => a.min(b),
            (Some(start), None) | (None, Some(start)) => start,
            (None, None) => return None,
        };
        if let Some((_, value)) = first.next_if(|it| it.0 == start) {
            values.0 = value;
        }
        if let Some((_, value)) = second.next_if(|it| it.0 == start) {
            values.1 = value;
        }
        Some((start, values))
    })
}

/// The first 64 bits of an IPv6 address.
#[allow(clippy::cast_possible_truncation, reason = "the shift leaves 64 bits")]
pub(super) fn first_half(bits: u128) -> u64 {
    (bits >> 64) as u64
}

/// Builds a [`Base`] of ranges in ascending order, flattened to /24 and /56: a cell with several locations gets the one
/// that most of its addresses have.
#[derive(Debug)]
pub struct BaseBuilder {
    locations: Vec<Location>,
    v4: Cells,
    v6: Cells,
}

impl Default for BaseBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BaseBuilder {
    /// A builder that knows no address yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            locations: vec![Location::NOWHERE],
            v4: Cells::new(32 - CELL_BITS_V4),
            v6: Cells::new(128 - CELL_BITS_V6),
        }
    }

    /// Adds a location and gives its id.
    pub fn location(&mut self, location: Location) -> LocationId {
        self.locations.push(location);
        LocationId::try_from(self.locations.len() - 1).unwrap_or(0)
    }

    /// Says that the IPv4 addresses `first..=last` are at `location`.
    ///
    /// # Errors
    /// [`BaseFault`] if it does not come after all IPv4 ranges before it.
    pub fn range_v4(&mut self, first: u32, last: u32, location: LocationId) -> Result<(), BaseFault> {
        let address = |bits: u128| IpAddr::V4(u32::try_from(bits).unwrap_or(u32::MAX).into());
        self.v4.add(u128::from(first), u128::from(last), location, address)
    }

    /// Says that the IPv6 addresses `first..=last` are at `location`.
    ///
    /// # Errors
    /// [`BaseFault`] if it does not come after all IPv6 ranges before it.
    pub fn range_v6(&mut self, first: u128, last: u128, location: LocationId) -> Result<(), BaseFault> {
        self.v6.add(first, last, location, |bits| IpAddr::V6(bits.into()))
    }

    /// The finished base.
    #[must_use]
    pub fn finish(mut self) -> Base {
        self.v4.close();
        self.v6.close();
        // a start behind the last cell has nothing to start
        let v4 = self.v4.starts.iter().filter_map(|(cell, value)| Some((u32::try_from(cell << 8).ok()?, *value)));
        let v6 = self.v6.starts.iter().filter_map(|(cell, value)| Some((cell.checked_mul(1 << 8)?, *value)));
        let (v4, v6) = (Ranges::new(v4), Ranges::new(v6));
        self.locations.shrink_to_fit();
        Base { locations: self.locations, v4, v6, round_trips: Arc::default() }
    }
}

/// Ranges of addresses on their way to ranges of cells.
#[derive(Debug)]
struct Cells {
    /// Bits of an address below its cell.
    shift: u32,
    /// First cell and location of every range so far; gaps are ranges of location 0.
    starts: Vec<(u64, LocationId)>,
    /// The first address that may still be added.
    next: u128,
    /// The cell that is being shared out, and how many addresses each location has in it.
    open: Option<u64>,
    shares: Vec<(LocationId, u128)>,
    /// Whether the last address of all has been added.
    full: bool,
}

impl Cells {
    fn new(shift: u32) -> Self {
        Self { shift, starts: Vec::new(), next: 0, open: None, shares: Vec::new(), full: false }
    }

    fn add(
        &mut self,
        first: u128,
        last: u128,
        value: LocationId,
        address: impl Fn(u128) -> IpAddr,
    ) -> Result<(), BaseFault> {
        if last < first {
            return Err(BaseFault::Empty { first: address(first) });
        }
        if first < self.next || self.full {
            return Err(BaseFault::Order { first: address(first), before: address(self.next.wrapping_sub(1)) });
        }
        match last.checked_add(1) {
            Some(next) => self.next = next,
            None => self.full = true,
        }
        self.share_out(first, last, value);
        Ok(())
    }

    /// Splits a range into a part of a cell, whole cells, and a part of a cell.
    fn share_out(&mut self, first: u128, last: u128, value: LocationId) {
        let inside = (1 << self.shift) - 1;
        let (first_cell, last_cell) = (self.cell(first), self.cell(last));
        let starts_whole = first & inside == 0;
        let ends_whole = last & inside == inside;
        if first_cell == last_cell && !(starts_whole && ends_whole) {
            self.part(first_cell, value, last - first + 1);
            return;
        }
        if !starts_whole {
            self.part(first_cell, value, inside - (first & inside) + 1);
        }
        let whole_first = if starts_whole { first_cell } else { first_cell + 1 };
        let whole_after = if ends_whole { last_cell + 1 } else { last_cell };
        if whole_first < whole_after {
            self.close();
            self.starts.push((whole_first, value));
            self.starts.push((whole_after, 0));
        }
        if !ends_whole {
            self.part(last_cell, value, (last & inside) + 1);
        }
    }

    fn part(&mut self, cell: u64, value: LocationId, addresses: u128) {
        if self.open != Some(cell) {
            self.close();
            self.open = Some(cell);
        }
        match self.shares.iter_mut().find(|(known, _)| *known == value) {
            Some((_, share)) => *share += addresses,
            None => self.shares.push((value, addresses)),
        }
    }

    /// Gives the open cell to the location with most of its addresses; of equals, to the one that came first.
    fn close(&mut self) {
        let Some(cell) = self.open.take() else { return };
        let most = self.shares.iter().rev().max_by_key(|(_, share)| *share).map_or(0, |(value, _)| *value);
        self.shares.clear();
        self.starts.push((cell, most));
        self.starts.push((cell + 1, 0));
    }

    #[allow(clippy::cast_possible_truncation, reason = "a cell has 24 or 56 bits")]
    fn cell(&self, address: u128) -> u64 {
        (address >> self.shift) as u64
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn v4(text: &str) -> u32 {
        text.parse::<std::net::Ipv4Addr>().unwrap().to_bits()
    }

    fn country(base: &Base, text: &str) -> Option<[u8; 2]> {
        base.location(text.parse().unwrap()).country
    }

    #[test]
    fn a_mixed_cell_belongs_to_the_location_with_most_of_its_addresses() {
        let mut builder = BaseBuilder::new();
        let [de, fr] = [*b"DE", *b"FR"].map(|c| builder.location(Location { country: Some(c), ..Location::NOWHERE }));
        builder.range_v4(v4("10.0.0.0"), v4("10.0.1.63"), de).unwrap();
        builder.range_v4(v4("10.0.1.64"), v4("10.0.1.191"), fr).unwrap();
        builder.range_v4(v4("10.0.2.0"), v4("10.0.2.0"), fr).unwrap();
        builder.range_v4(v4("255.255.255.0"), u32::MAX, fr).unwrap();
        builder.range_v6(0x2001_0db8 << 96, (0x2001_0db9 << 96) - 1, de).unwrap();
        builder.range_v6(u128::MAX, u128::MAX, fr).unwrap();
        let base = builder.finish();
        for (address, expected) in [
            ("10.0.0.9", Some(*b"DE")),
            ("10.0.1.0", Some(*b"FR")),
            ("10.0.1.255", Some(*b"FR")),
            ("10.0.2.200", Some(*b"FR")),
            ("10.0.3.0", None),
            ("9.255.255.255", None),
            ("255.255.255.255", Some(*b"FR")),
            ("2001:db8:ffff::1", Some(*b"DE")),
            ("2001:db9::1", None),
            ("ffff:ffff:ffff:ffff::", Some(*b"FR")),
        ] {
            assert_eq!(country(&base, address), expected, "{address}");
        }
    }

    #[test]
    fn networks_of_another_base_are_laid_over_the_places_of_this_one() {
        let mut builder = BaseBuilder::new();
        let de = builder.location(Location { country: Some(*b"DE"), asn: Some(1), ..Location::NOWHERE });
        builder.range_v4(v4("10.0.0.0"), v4("10.0.3.255"), de).unwrap();
        builder.range_v6(0x2001_0db8 << 96, (0x2001_0db9 << 96) - 1, de).unwrap();
        let places = builder.finish();
        let mut builder = BaseBuilder::new();
        let seven = builder.location(Location { asn: Some(7), ..Location::NOWHERE });
        builder.range_v4(v4("10.0.1.0"), v4("10.0.2.255"), seven).unwrap();
        builder.range_v4(v4("11.0.0.0"), v4("11.0.0.255"), seven).unwrap();
        let joined = places.with_networks_of(&builder.finish());
        for (address, country, asn) in [
            ("9.0.0.0", None, None),
            ("10.0.0.1", Some(*b"DE"), Some(1)),
            ("10.0.1.1", Some(*b"DE"), Some(7)),
            ("10.0.2.255", Some(*b"DE"), Some(7)),
            ("10.0.3.1", Some(*b"DE"), Some(1)),
            ("11.0.0.9", None, Some(7)),
            ("11.0.1.0", None, None),
            ("2001:db8::1", Some(*b"DE"), Some(1)),
        ] {
            let location = joined.location(address.parse().unwrap());
            assert_eq!((location.country, location.asn), (country, asn), "{address}");
        }
        assert_eq!(joined.locations(), 3);
    }

    #[test]
    fn one_family_can_be_taken_from_another_base() {
        let base = |code: [u8; 2]| {
            let mut builder = BaseBuilder::new();
            let id = builder.location(Location { country: Some(code), ..Location::NOWHERE });
            builder.range_v4(v4("10.0.0.0"), v4("10.0.3.255"), id).unwrap();
            builder.range_v6(0x2001_0db8 << 96, (0x2001_0db9 << 96) - 1, id).unwrap();
            builder.finish()
        };
        let (de, fr) = (base(*b"DE"), base(*b"FR"));
        let mixed = de.with_v6_of(&fr);
        assert_eq!((country(&mixed, "10.0.0.1"), country(&mixed, "2001:db8::1")), (Some(*b"DE"), Some(*b"FR")));
        let mixed = de.with_v4_of(&fr);
        assert_eq!((country(&mixed, "10.0.0.1"), country(&mixed, "2001:db8::1")), (Some(*b"FR"), Some(*b"DE")));
        assert_eq!((country(&mixed, "11.0.0.1"), country(&mixed, "2001:db9::1")), (None, None));
    }

    #[test]
    fn a_sample_is_spread_evenly_over_what_is_known() {
        let mut builder = BaseBuilder::new();
        let de = builder.location(Location { country: Some(*b"DE"), ..Location::NOWHERE });
        builder.range_v4(v4("10.0.0.0"), v4("10.255.255.255"), de).unwrap();
        builder.range_v4(v4("12.0.0.0"), v4("12.255.255.255"), de).unwrap();
        builder.range_v4(v4("255.255.255.0"), u32::MAX, de).unwrap();
        builder.range_v6(u128::MAX - ((1 << 72) - 1), u128::MAX, de).unwrap();
        let base = builder.finish();
        let sample = base.sample_v4(100);
        assert!((100..=101).contains(&sample.len()));
        let inside = |text: &str| sample.iter().filter(|it| it.to_string().starts_with(text)).count();
        assert_eq!((inside("10."), inside("12.")), (50, 50));
        assert!(sample.iter().all(|address| base.location(*address).country.is_some()));
        assert_eq!(base.sample_v4(u64::MAX).len(), 2 * 65_536 + 1);
        assert_eq!(base.sample_v6(5).len(), 1);
        assert!(BaseBuilder::new().finish().sample_v6(5).is_empty());
    }

    #[test]
    fn ranges_out_of_order_are_refused() {
        let mut builder = BaseBuilder::new();
        builder.range_v4(10, 20, 0).unwrap();
        assert!(matches!(builder.range_v4(20, 30, 0), Err(BaseFault::Order { .. })));
        assert!(matches!(builder.range_v4(31, 30, 0), Err(BaseFault::Empty { .. })));
        builder.range_v6(5, u128::MAX, 0).unwrap();
        assert!(matches!(builder.range_v6(0, 1, 0), Err(BaseFault::Order { .. })));
    }
}
