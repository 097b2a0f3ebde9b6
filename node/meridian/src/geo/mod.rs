//! Where addresses are: a geo database, made into the ranges that steering works with.
//!
//! Two sources: the country-level default that is built in (`geo/README.md` in this crate says whose it is and what is
//! wrong with it), and files in MaxMind's format that the operator names: one for places, one for AS numbers. A file is
//! read into memory, never mapped: a mapped file that is truncated in place kills the process.
//!
//! A file that knows only one family of addresses leaves the other to the built-in database, and says so.

mod embedded;
mod files;
mod gates;
mod idle;
mod lookup;
mod mmdb;
mod record;
mod update;
mod watch;

use std::{
    io,
    path::{Path, PathBuf},
};

use region_config::Geo;
use rules::steering::{self, RoundTrips, RowFault};

use self::files::Stamps;
pub use self::{
    embedded::Damage,
    gates::Held,
    gates::against,
    idle::idle,
    lookup::{Found, Said, look_up},
    mmdb::{DatabaseFault, Wanted},
    update::{Force, Order, UpdateFault, Updated, rollback, update},
    watch::{AcceptFault, Alarm, HeldFile, Newer, Watch},
};

/// Largest file of round trips that is read, in bytes.
const ROUND_TRIPS_BYTES_MAX: u64 = 64 << 20;
/// What the built-in database is called.
const BUILT_IN: &str = "built-in country database";
/// When the data of the built-in database were put together: 17 June 2026, in s since the Unix epoch.
const BUILT_IN_UNIX_S: u64 = 1_781_654_400;

/// A geo database in memory.
#[derive(Debug, Clone)]
pub struct Base {
    ranges: steering::Base,
    editions: Vec<Edition>,
    /// The family that the file knows nothing about, and that the built-in database answers for.
    lent: Option<&'static str>,
    /// What the config asked for.
    source: Geo,
    stamps: Stamps,
}

/// A database that a base was made of.
#[derive(Debug, Clone)]
pub struct Edition {
    /// What it was read for.
    pub wanted: Wanted,
    /// The file; none for the built-in one.
    pub path: Option<PathBuf>,
    /// What it says it is.
    pub kind: String,
    /// When its data were put together, in s since the Unix epoch.
    pub built_unix_s: u64,
    /// Its networks: IPv4, IPv6.
    pub networks: [u64; 2],
    /// Those of them that say what it was read for.
    pub useful: [u64; 2],
    sum: blake3::Hash,
}

impl Base {
    /// The country-level default. Takes some tens of milliseconds.
    ///
    /// # Errors
    /// [`GeoFault::Embedded`] if the built-in bytes are not what was built in.
    pub fn embedded() -> Result<Self, GeoFault> {
        let ranges = embedded::ranges().map_err(GeoFault::Embedded)?;
        let (v4, v6) = ranges.ranges();
        let networks = [v4 as u64, v6 as u64];
        let edition = Edition {
            wanted: Wanted::Places,
            path: None,
            kind: BUILT_IN.to_owned(),
            built_unix_s: BUILT_IN_UNIX_S,
            networks,
            useful: networks,
            sum: blake3::hash(&[]),
        };
        Ok(Self { ranges, editions: vec![edition], lent: None, source: Geo::default(), stamps: Stamps::default() })
    }

    /// A file of places in MaxMind's format, in MaxMind's schema or a flat one. Takes seconds for a city database: not for a
    /// thread that answers.
    ///
    /// # Errors
    /// [`GeoFault`] if the file cannot be read, is damaged, or says nothing about places.
    pub fn load(path: &Path) -> Result<Self, GeoFault> {
        Self::open(&Geo { file: Some(path.to_owned()), ..Geo::default() })
    }

    /// What the config asks for: its files, or the built-in default in place of the one for places.
    ///
    /// # Errors
    /// As [`Base::load`] and [`Base::embedded`].
    pub fn open(geo: &Geo) -> Result<Self, GeoFault> {
        // before anything is read: a file that changes meanwhile must look changed
        let stamps = Stamps::of(geo);
        let mut base = match &geo.file {
            Some(path) => Self::of_places(path)?,
            None => Self::embedded()?,
        };
        if let Some(path) = &geo.asn_file {
            let (networks, edition) = read(path, Wanted::Networks)?;
            base.ranges = base.ranges.with_networks_of(&networks);
            base.editions.push(edition);
        }
        if let Some(path) = &geo.round_trips {
            base.ranges = base.ranges.with_round_trips(round_trips(path)?);
        }
        Ok(Self { source: geo.clone(), stamps, ..base })
    }

    fn of_places(path: &Path) -> Result<Self, GeoFault> {
        let (ranges, edition) = read(path, Wanted::Places)?;
        let built_in = || embedded::ranges().map_err(GeoFault::Embedded);
        let (ranges, lent) = match edition.useful {
            [_, 0] => (ranges.with_v6_of(&built_in()?), Some("IPv6")),
            [0, _] => (ranges.with_v4_of(&built_in()?), Some("IPv4")),
            _ => (ranges, None),
        };
        Ok(Self { ranges, editions: vec![edition], lent, source: Geo::default(), stamps: Stamps::default() })
    }

    /// The ranges, for steering.
    #[must_use]
    pub fn ranges(&self) -> &steering::Base {
        &self.ranges
    }

    /// What it was made of: places first.
    #[must_use]
    pub fn editions(&self) -> &[Edition] {
        &self.editions
    }

    /// The family of addresses that its file knows nothing about, so that the built-in database answers for it.
    #[must_use]
    pub fn lent(&self) -> Option<&'static str> {
        self.lent
    }

    /// Whether it is what a config asks for.
    #[must_use]
    pub fn is_of(&self, geo: &Geo) -> bool {
        let of = |geo: &Geo| (geo.file.clone(), geo.asn_file.clone(), geo.round_trips.clone());
        of(&self.source) == of(geo)
    }

    /// What it is and how large, for operators.
    #[must_use]
    pub fn describe(&self) -> String {
        let of = |edition: &Edition| format!("{}, built {}", edition.kind, day(edition.built_unix_s));
        let editions: Vec<_> = self.editions.iter().map(of).collect();
        let (v4, v6) = self.ranges.ranges();
        let locations = self.ranges.locations();
        let lent = self.lent.map_or_else(String::new, |family| format!(" (no {family} in it: the {BUILT_IN} answers)"));
        let measured = match self.ranges.round_trips().rows() {
            0 => String::new(),
            rows => format!(", {rows} measured round trips"),
        };
        format!("{}{lent}: {v4} IPv4 ranges, {v6} IPv6 ranges, {locations} locations{measured}", editions.join("; "))
    }
}

impl Edition {
    /// How old its data are, in s.
    #[must_use]
    pub fn age_s(&self, unix_ms: u64) -> u64 {
        (unix_ms / 1000).saturating_sub(self.built_unix_s)
    }

    /// The file's name in messages.
    #[must_use]
    pub fn name(&self) -> String {
        self.path.as_ref().map_or_else(|| self.kind.clone(), |path| path.display().to_string())
    }
}

/// Reads a file for what it says of places or networks.
fn read(path: &Path, wanted: Wanted) -> Result<(steering::Base, Edition), GeoFault> {
    let bytes = files::read(path).map_err(|cause| GeoFault::Read { path: path.to_owned(), cause })?;
    let sum = blake3::hash(&bytes);
    let database = |cause| GeoFault::Database { path: path.to_owned(), cause: Box::new(cause) };
    let (ranges, said) = mmdb::read(bytes, wanted).map_err(database)?;
    let mmdb::Said { kind, built_unix_s, networks, useful } = said;
    let edition = Edition { wanted, path: Some(path.to_owned()), kind, built_unix_s, networks, useful, sum };
    Ok((ranges, edition))
}

/// Reads round trips that were measured.
fn round_trips(path: &Path) -> Result<RoundTrips, GeoFault> {
    let unreadable = |cause| GeoFault::Unmeasured { path: path.to_owned(), cause };
    let text = String::from_utf8(files::read_up_to(path, ROUND_TRIPS_BYTES_MAX).map_err(unreadable)?);
    let text = text.map_err(|cause| unreadable(io::Error::new(io::ErrorKind::InvalidData, cause.utf8_error())))?;
    text.parse().map_err(|cause| GeoFault::RoundTrips { path: path.to_owned(), cause })
}

/// A day as `2026-06-17`, of seconds since the Unix epoch.
#[must_use]
pub fn day(unix_s: u64) -> String {
    // days since the first of March of the year 0, whose leap day is the last of its year
    let days = unix_s / 86_400 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Why there is no geo database.
#[derive(Debug, thiserror::Error)]
pub enum GeoFault {
    /// The built-in one is damaged.
    #[error("the built-in country database is damaged: {0}")]
    Embedded(embedded::Damage),
    /// The file cannot be read.
    #[error("cannot read the geo database {}: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The file of round trips cannot be read.
    #[error("cannot read the round trips {}: {cause}", path.display())]
    Unmeasured {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The file has no round trips.
    #[error("{}: {cause}", path.display())]
    RoundTrips {
        /// The file.
        path: PathBuf,
        /// Where, and what is wrong there.
        cause: RowFault,
    },
    /// The file is no usable database.
    #[error("cannot use the geo database {}: {cause}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: Box<mmdb::DatabaseFault>,
    },
}

#[cfg(test)]
mod tests;
