//! Databases in MaxMind's format, in any of the schemas of [`super::record`].
//!
//! A record without coordinates stands at its country's middle.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use maxminddb::{LookupResult, MaxMindDbError, Reader, WithinOptions};
use rules::steering::{Base, BaseBuilder, BaseFault, Location, LocationId, Point};

use super::{embedded, record::Record};
use crate::clock;

/// Steps of a degree that coordinates are rounded to: a quarter is finer than the distance between any two regions asks
/// for, and keeps the number of locations small.
const STEPS: f64 = 4.0;
/// The parts of IPv6 that addresses of clients come from: global unicast, and unique local for those who map their own.
const CLIENTS_V6: [(Ipv6Addr, u8); 2] =
    [(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3), (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7)];
/// How long a file may take: a city database takes seconds.
const TIME_MAX: Duration = Duration::from_secs(300);
/// How many networks go by between two looks at the clock.
const LOOK_EVERY: u64 = 4096;
/// Characters of a database's name that are kept.
const KIND_MAX: usize = 80;

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
    /// It takes too long.
    #[error("expected a file that is read in {} s, found one that takes longer", TIME_MAX.as_secs())]
    Slow,
    /// It is about something else.
    #[error("it is a `{kind}` database with no {} in it: expected {}", wanted.name(), wanted.fields())]
    Nothing {
        /// What it says it is.
        kind: String,
        /// What it should say.
        wanted: Wanted,
    },
}

/// What a file is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Where addresses are.
    Places,
    /// Which networks they belong to.
    Networks,
}

impl Wanted {
    /// The word for it in metrics and the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Places => "places",
            Self::Networks => "networks",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Places => "countries or coordinates",
            Self::Networks => "AS numbers",
        }
    }

    fn fields(self) -> &'static str {
        match self {
            Self::Places => "`country.iso_code` and `location`, or `country_code`, `latitude` and `longitude`",
            Self::Networks => "`autonomous_system_number` or `asn`",
        }
    }
}

/// What a file says of itself, and how much was found in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    /// The kind of database.
    pub(super) kind: String,
    /// When its data were put together, in s since the Unix epoch.
    pub(super) built_unix_s: u64,
    /// Its networks with a record: IPv4, IPv6.
    pub(super) networks: [u64; 2],
    /// Those of them that say what the file was read for.
    pub(super) useful: [u64; 2],
}

/// Reads all networks of a database.
pub(super) fn read(bytes: Vec<u8>, wanted: Wanted) -> Result<(Base, Said), DatabaseFault> {
    let reader = Reader::from_source(bytes)?;
    // the library's check also demands a description, which files of ip-location-db do without; what they lack of the check,
    // the walk below makes up for: it ends, and it reads every record that a network points to
    if !reader.metadata().description.is_empty() {
        reader.verify()?;
    }
    let mut found = Findings::new(reader.metadata().node_count, wanted);
    if reader.metadata().ip_version == 6 {
        for (network, length) in CLIENTS_V6 {
            walk(&reader, (IpAddr::V6(network), length), &mut found)?;
        }
    }
    walk(&reader, (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0), &mut found)?;

    let Findings { builder, networks, useful, .. } = found;
    let metadata = reader.metadata();
    let kind: String = metadata.database_type.chars().filter(|c| !c.is_control()).take(KIND_MAX).collect();
    if useful == [0, 0] {
        return Err(DatabaseFault::Nothing { kind, wanted });
    }
    Ok((builder.finish(), Said { kind, built_unix_s: metadata.build_epoch, networks, useful }))
}

/// What a database says about one address.
#[derive(Debug)]
pub(super) struct Row {
    /// The database's network that it is in, `first/length`.
    pub(super) network: String,
    /// The record of that network, if it has one.
    pub(super) record: Option<Record>,
    /// What a node makes of it: rounded, and with the addresses beside it that share a cell.
    pub(super) steered: Location,
    pub(super) said: Said,
}

/// Looks one address up, as it is in the file and as a node sees it. The address is not one that carries another.
pub(super) fn look_up(bytes: Vec<u8>, address: IpAddr, wanted: Wanted) -> Result<Row, DatabaseFault> {
    let reader = Reader::from_source(bytes)?;
    let metadata = reader.metadata();
    let kind: String = metadata.database_type.chars().filter(|c| !c.is_control()).take(KIND_MAX).collect();
    let said = Said { kind, built_unix_s: metadata.build_epoch, networks: [0, 0], useful: [0, 0] };
    if address.is_ipv6() && metadata.ip_version == 4 {
        return Ok(Row { network: "none".to_owned(), record: None, steered: Location::NOWHERE, said });
    }
    let row = reader.lookup(address)?;
    let mut found = Findings::new(metadata.node_count, wanted);
    let cell = match address {
        IpAddr::V4(v4) => (IpAddr::V4((v4.to_bits() & 0xffff_ff00).into()), 24),
        IpAddr::V6(v6) => (IpAddr::V6((v6.to_bits() >> 72 << 72).into()), 56),
    };
    walk(&reader, cell, &mut found)?;
    let steered = found.builder.finish().location(address);
    Ok(Row { network: row.network()?.to_string(), record: row.decode()?, steered, said })
}

/// Adds all networks inside one network, in address order.
fn walk(reader: &Reader<Vec<u8>>, inside: (IpAddr, u8), found: &mut Findings) -> Result<(), DatabaseFault> {
    let (first, length) = inside;
    let within = format!("{first}/{length}").parse().map_err(MaxMindDbError::InvalidNetwork)?;
    for network in reader.within(within, WithinOptions::default())? {
        let row = network?;
        found.count()?;
        let location = found.of(&row)?;
        let network = row.network()?;
        let host_bits = u32::from(network.prefix());
        match (network.network(), first) {
            (IpAddr::V4(v4), IpAddr::V4(outer)) => {
                // a network that is wider than what was asked for is told whole
                let last = v4.to_bits() | u32::MAX.checked_shr(host_bits).unwrap_or(0);
                let last = last.min(outer.to_bits() | u32::MAX.checked_shr(u32::from(length)).unwrap_or(0));
                found.note(0, location);
                found.builder.range_v4(v4.to_bits().max(outer.to_bits()), last, location)?;
            }
            (IpAddr::V6(v6), IpAddr::V6(outer)) => {
                let last = v6.to_bits() | u128::MAX.checked_shr(host_bits).unwrap_or(0);
                let last = last.min(outer.to_bits() | u128::MAX.checked_shr(u32::from(length)).unwrap_or(0));
                found.note(1, location);
                found.builder.range_v6(v6.to_bits().max(outer.to_bits()), last, location)?;
            }
            // an IPv6 database without IPv4 in it answers for `::/n` when asked for IPv4
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {}
        }
    }
    Ok(())
}

/// Country, coordinates in [`STEPS`], accuracy, AS number.
type Rounded = (Option<[u8; 2]>, Option<[i16; 2]>, Option<u16>, Option<u32>);

/// What was found so far.
struct Findings {
    builder: BaseBuilder,
    wanted: Wanted,
    networks: [u64; 2],
    useful: [u64; 2],
    /// How many more networks a sound tree can have: each has a place in a node, and a node has two.
    networks_left: u64,
    until: Instant,
    centroids: HashMap<[u8; 2], Point>,
    /// By where the record stands in the file: many networks share one.
    records: HashMap<usize, LocationId>,
    /// By what is kept of the record: many records share one.
    known: HashMap<Rounded, LocationId>,
}

impl Findings {
    fn new(nodes: u32, wanted: Wanted) -> Self {
        Self {
            builder: BaseBuilder::new(),
            wanted,
            networks: [0, 0],
            useful: [0, 0],
            // part of the tree is walked twice in a file whose IPv4 networks lie above its nodes for them
            networks_left: u64::from(nodes).saturating_mul(4),
            until: clock::instant() + TIME_MAX,
            centroids: embedded::built_in_centroids(),
            records: HashMap::new(),
            known: HashMap::new(),
        }
    }

    /// Counts a network against what a sound file can have, in the time that it may take.
    fn count(&mut self) -> Result<(), DatabaseFault> {
        self.networks_left = self.networks_left.checked_sub(1).ok_or(DatabaseFault::Endless)?;
        let late = self.networks_left.is_multiple_of(LOOK_EVERY) && clock::instant() > self.until;
        if late { Err(DatabaseFault::Slow) } else { Ok(()) }
    }

    fn note(&mut self, family: usize, location: LocationId) {
        self.networks[family] += 1;
        self.useful[family] += u64::from(location != 0);
    }

    fn of(&mut self, row: &LookupResult<'_, Vec<u8>>) -> Result<LocationId, DatabaseFault> {
        let Some(offset) = row.offset() else { return Ok(0) };
        if let Some(id) = self.records.get(&offset) {
            return Ok(*id);
        }
        let record: Record = row.decode()?.unwrap_or_default();
        let id = self.location(&record);
        self.records.insert(offset, id);
        Ok(id)
    }

    fn location(&mut self, record: &Record) -> LocationId {
        let asn = record.asn();
        let rounded = match self.wanted {
            Wanted::Places => {
                #[allow(clippy::cast_possible_truncation, reason = "checked to be degrees; an f64 saturates")]
                let steps = record.degrees().map(|degrees| degrees.map(|degree| (degree * STEPS).round() as i16));
                (record.country(), steps, record.accuracy_km().filter(|_| steps.is_some()), asn)
            }
            Wanted::Networks => (None, None, None, asn),
        };
        let useful = match self.wanted {
            // a database of networks alone is none of places
            Wanted::Places => rounded.0.is_some() || rounded.1.is_some(),
            Wanted::Networks => asn.is_some(),
        };
        if !useful {
            return 0;
        }
        if let Some(id) = self.known.get(&rounded) {
            return *id;
        }
        let (country, steps, accuracy_km, asn) = rounded;
        let exact = steps.and_then(|[n, e]| Point::from_degrees(f64::from(n) / STEPS, f64::from(e) / STEPS));
        let point = exact.or_else(|| self.centroids.get(&country?).copied());
        let id = self.builder.location(Location { country, point, accuracy_km, asn });
        self.known.insert(rounded, id);
        id
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
    fn a_missing_file_and_one_about_something_else_are_told_apart() {
        let fault = Base::load(&file("nowhere.mmdb")).unwrap_err().to_string();
        assert!(fault.contains("cannot read the geo database") && fault.contains("nowhere.mmdb"), "{fault}");
        let fault = Base::load(&file("GeoLite2-ASN-Test.mmdb")).unwrap_err().to_string();
        assert!(fault.contains("`GeoLite2-ASN` database with no countries"), "{fault}");
    }
}
