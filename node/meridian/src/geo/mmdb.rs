//! Databases in MaxMind's format.
//!
//! Two schemas: MaxMind's own (`country.iso_code`, `location.latitude`, `location.longitude`) and the flat one of
//! ip-location-db (`country_code`, `latitude`, `longitude`). A record without coordinates stands at its country's middle.
//! `country` is used, not `registered_country`: that is where the holder is, not where the address is.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use maxminddb::{LookupResult, MaxMindDbError, PathElement, Reader, WithinOptions};
use rules::steering::{Base, BaseBuilder, BaseFault, Location, LocationId, Point};

use super::embedded;

/// Steps of a degree that coordinates are rounded to: a quarter is finer than the distance between any two regions asks
/// for, and keeps the number of locations small.
const STEPS: f64 = 4.0;
/// The parts of IPv6 that addresses of clients come from: global unicast, and unique local for those who map their own.
const CLIENTS_V6: [(Ipv6Addr, u8); 2] =
    [(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3), (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7)];

/// Why a file is no usable database.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseFault {
    /// It is not in MaxMind's format, or damaged.
    #[error("expected an intact file in MaxMind's format, found: {0}")]
    Format(#[from] MaxMindDbError),
    /// Its networks overlap.
    #[error(transparent)]
    Ranges(#[from] BaseFault),
    /// Its search tree runs in circles.
    #[error("expected an intact file in MaxMind's format, found: a search tree with more networks than nodes allow")]
    Endless,
    /// It is about something else.
    #[error(
        "it is a `{kind}` database with no countries or coordinates in it: expected `country.iso_code` and `location`, \
         or `country_code`, `latitude` and `longitude`"
    )]
    NoPlaces {
        /// What it says it is.
        kind: String,
    },
}

/// Reads all networks of a database, and says what it is.
pub(super) fn ranges(bytes: Vec<u8>) -> Result<(Base, String), DatabaseFault> {
    let reader = Reader::from_source(bytes)?;
    // the library's check also demands a description, which files of ip-location-db do without; what they lack of the check,
    // the walk below makes up for: it ends, and it reads every record that a network points to
    if !reader.metadata().description.is_empty() {
        reader.verify()?;
    }
    let mut places = Places::new(reader.metadata().node_count);
    if reader.metadata().ip_version == 6 {
        for (network, length) in CLIENTS_V6 {
            walk(&reader, IpAddr::V6(network), length, &mut places)?;
        }
    }
    walk(&reader, IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0, &mut places)?;

    let metadata = reader.metadata();
    if places.locations == 0 {
        return Err(DatabaseFault::NoPlaces { kind: metadata.database_type.chars().take(80).collect() });
    }
    let kind: String = metadata.database_type.chars().filter(|c| !c.is_control()).take(80).collect();
    Ok((places.builder.finish(), format!("{kind}, built at {} (Unix time)", metadata.build_epoch)))
}

/// Adds all networks inside one network, in address order.
fn walk(reader: &Reader<Vec<u8>>, first: IpAddr, length: u8, places: &mut Places) -> Result<(), DatabaseFault> {
    let within = format!("{first}/{length}").parse().map_err(MaxMindDbError::InvalidNetwork)?;
    for found in reader.within(within, WithinOptions::default())? {
        let found = found?;
        places.networks_left = places.networks_left.checked_sub(1).ok_or(DatabaseFault::Endless)?;
        let location = places.of(&found)?;
        let network = found.network()?;
        let host_bits = u32::from(network.prefix());
        match (network.network(), first) {
            (IpAddr::V4(v4), IpAddr::V4(_)) => {
                let inside = u32::MAX.checked_shr(host_bits).unwrap_or(0);
                places.builder.range_v4(v4.to_bits(), v4.to_bits() | inside, location)?;
            }
            (IpAddr::V6(v6), IpAddr::V6(_)) => {
                let inside = u128::MAX.checked_shr(host_bits).unwrap_or(0);
                places.builder.range_v6(v6.to_bits(), v6.to_bits() | inside, location)?;
            }
            // an IPv6 database without IPv4 in it answers for `::/n` when asked for IPv4
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {}
        }
    }
    Ok(())
}

/// Country, and coordinates in [`STEPS`].
type Rounded = (Option<[u8; 2]>, Option<[i16; 2]>);

/// The locations found so far.
struct Places {
    builder: BaseBuilder,
    locations: usize,
    /// How many more networks a sound tree can have: each has a place in a node, and a node has two.
    networks_left: u64,
    centroids: HashMap<[u8; 2], Point>,
    /// By where the record stands in the file: many networks share one.
    records: HashMap<usize, LocationId>,
    /// By country and rounded coordinates: many records share one.
    known: HashMap<Rounded, LocationId>,
}

impl Places {
    fn new(nodes: u32) -> Self {
        Self {
            builder: BaseBuilder::new(),
            locations: 0,
            // part of the tree is walked twice in a file whose IPv4 networks lie above its nodes for them
            networks_left: u64::from(nodes).saturating_mul(4),
            centroids: embedded::built_in_centroids(),
            records: HashMap::new(),
            known: HashMap::new(),
        }
    }

    fn of(&mut self, found: &LookupResult<'_, Vec<u8>>) -> Result<LocationId, DatabaseFault> {
        let Some(offset) = found.offset() else { return Ok(0) };
        if let Some(id) = self.records.get(&offset) {
            return Ok(*id);
        }
        found.decode::<serde::de::IgnoredAny>()?;
        let id = self.location(country(found)?, coordinates(found)?);
        self.records.insert(offset, id);
        Ok(id)
    }

    fn location(&mut self, country: Option<[u8; 2]>, coordinates: Option<[f64; 2]>) -> LocationId {
        #[allow(clippy::cast_possible_truncation, reason = "checked to be degrees; an f64 saturates")]
        let steps = coordinates.map(|degrees| degrees.map(|degree| (degree * STEPS).round() as i16));
        if country.is_none() && steps.is_none() {
            return 0;
        }
        if let Some(id) = self.known.get(&(country, steps)) {
            return *id;
        }
        let exact = steps.and_then(|[n, e]| Point::from_degrees(f64::from(n) / STEPS, f64::from(e) / STEPS));
        let point = exact.or_else(|| self.centroids.get(&country?).copied());
        let id = self.builder.location(Location { country, point, ..Location::NOWHERE });
        self.locations += 1;
        self.known.insert((country, steps), id);
        id
    }
}

fn country(found: &LookupResult<'_, Vec<u8>>) -> Result<Option<[u8; 2]>, MaxMindDbError> {
    let nested = [PathElement::Key("country"), PathElement::Key("iso_code")];
    let code: Option<&str> = match found.decode_path(&nested)? {
        Some(code) => Some(code),
        None => found.decode_path(&[PathElement::Key("country_code")])?,
    };
    let code: Option<[u8; 2]> = code.and_then(|code| code.as_bytes().try_into().ok());
    Ok(code.filter(|code| code.iter().all(u8::is_ascii_alphabetic)).map(|code| code.map(|c| c.to_ascii_uppercase())))
}

/// Degrees north and east, if they are on the Earth and not the origin, which stands for "unknown".
fn coordinates(found: &LookupResult<'_, Vec<u8>>) -> Result<Option<[f64; 2]>, MaxMindDbError> {
    let read = |key: &'static str| -> Result<Option<f64>, MaxMindDbError> {
        let nested = found.decode_path::<Degrees>(&[PathElement::Key("location"), PathElement::Key(key)])?;
        let degrees = if nested.is_some() { nested } else { found.decode_path(&[PathElement::Key(key)])? };
        Ok(degrees.map(|Degrees(degrees)| degrees))
    };
    let (Some(north), Some(east)) = (read("latitude")?, read("longitude")?) else { return Ok(None) };
    Ok(Point::from_degrees(north, east).and(Some([north, east])).filter(|degrees| *degrees != [0.0, 0.0]))
}

/// A number of either precision: MaxMind writes doubles, ip-location-db floats.
struct Degrees(f64);

impl<'de> serde::Deserialize<'de> for Degrees {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;

        impl serde::de::Visitor<'_> for Number {
            type Value = Degrees;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number of degrees")
            }

            fn visit_f64<E>(self, degrees: f64) -> Result<Degrees, E> {
                Ok(Degrees(degrees))
            }
        }

        deserializer.deserialize_any(Number)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::path::{Path, PathBuf};

    use rules::steering::Point;

    use crate::geo::{Base, GeoFault};

    fn file(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("geo/test-data").join(name)
    }

    #[test]
    fn a_city_database_knows_its_networks_in_both_families() {
        let base = Base::load(&file("GeoIP2-City-Test.mmdb")).unwrap();
        for (address, country) in [
            ("81.2.69.142", Some(*b"GB")),
            ("::ffff:81.2.69.142", Some(*b"GB")),
            ("89.160.20.112", Some(*b"SE")),
            ("216.160.83.56", Some(*b"US")),
            ("2001:218::1", Some(*b"JP")),
            ("10.0.0.1", None),
        ] {
            let location = base.ranges().location(address.parse().unwrap());
            assert_eq!(location.country, country, "{address}");
        }
        assert!(base.describe().starts_with("GeoIP2-City"), "{}", base.describe());
    }

    #[test]
    fn a_damaged_file_is_a_clear_error_and_never_a_panic() {
        for name in [
            "MaxMind-DB-test-broken-search-tree-24.mmdb",
            "MaxMind-DB-test-broken-pointers-24.mmdb",
            "GeoIP2-City-Test-Invalid-Node-Count.mmdb",
        ] {
            let fault = Base::load(&file(name)).unwrap_err();
            assert!(matches!(fault, GeoFault::Database { .. }), "{name}: {fault}");
            assert!(fault.to_string().contains(name), "{fault}");
        }
        let whole = std::fs::read(file("GeoIP2-City-Test.mmdb")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for length in [0, 1, 1000, whole.len() / 2, whole.len() - 1] {
            let cut = folder.path().join("cut.mmdb");
            std::fs::write(&cut, &whole[..length]).unwrap();
            assert!(Base::load(&cut).is_err(), "{length}");
        }
    }

    #[test]
    fn a_file_in_the_flat_schema_and_without_description_is_read() {
        let base = Base::load(&file("flat-country.mmdb")).unwrap();
        for (address, country) in [("84.160.0.1", Some(*b"DE")), ("128.32.0.1", Some(*b"US")), ("10.0.0.1", None)] {
            let location = base.ranges().location(address.parse().unwrap());
            assert_eq!(location.country, country, "{address}");
            assert_eq!(location.point.is_some(), country.is_some(), "{address}");
        }
        assert_eq!(base.ranges().location("84.0.0.1".parse().unwrap()).point, Point::from_degrees(51.0, 10.5));
    }

    #[test]
    fn octets_changed_at_random_never_make_it_panic() {
        let whole = std::fs::read(file("GeoIP2-City-Test.mmdb")).unwrap();
        let mut seed = 1u64;
        for _ in 0..200 {
            let mut bytes = whole.clone();
            for _ in 0..4 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = usize::try_from(seed >> 33).unwrap() % bytes.len();
                bytes[at] = u8::try_from(seed >> 20 & 0xff).unwrap();
            }
            let _ = super::ranges(bytes);
        }
    }

    #[test]
    fn a_missing_file_and_one_about_something_else_are_told_apart() {
        let fault = Base::load(&file("nowhere.mmdb")).unwrap_err().to_string();
        assert!(fault.contains("cannot read the geo database") && fault.contains("nowhere.mmdb"), "{fault}");
        let fault = Base::load(&file("GeoLite2-ASN-Test.mmdb")).unwrap_err().to_string();
        assert!(fault.contains("`GeoLite2-ASN` database with no countries"), "{fault}");
    }
}
