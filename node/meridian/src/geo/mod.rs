//! Where addresses are: a geo database, made into the ranges that steering works with.
//!
//! Two sources: the country-level default that is built in (`geo/README.md` in this crate says whose it is and what is
//! wrong with it), and a file in MaxMind's format that the operator names. A file is read into memory, never mapped: a
//! mapped file that is truncated in place kills the process.

mod embedded;
mod mmdb;

use std::{
    io,
    path::{Path, PathBuf},
};

use rules::steering;

/// Largest database file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// A geo database in memory.
#[derive(Debug, Clone)]
pub struct Base {
    ranges: steering::Base,
    description: String,
}

impl Base {
    /// The country-level default. Takes some tens of milliseconds.
    ///
    /// # Errors
    /// [`GeoFault::Embedded`] if the built-in bytes are not what was built in.
    pub fn embedded() -> Result<Self, GeoFault> {
        let ranges = embedded::ranges().map_err(GeoFault::Embedded)?;
        Ok(Self { ranges, description: "built-in country database".to_owned() })
    }

    /// A file in MaxMind's format: City or Country in MaxMind's schema, or the flat schema of ip-location-db. Takes
    /// seconds for a city database: not for a thread that answers.
    ///
    /// # Errors
    /// [`GeoFault`] if the file cannot be read, is damaged, or says nothing about places.
    pub fn load(path: &Path) -> Result<Self, GeoFault> {
        let bytes = read(path).map_err(|cause| GeoFault::Read { path: path.to_owned(), cause })?;
        let (ranges, description) =
            mmdb::ranges(bytes).map_err(|cause| GeoFault::Database { path: path.to_owned(), cause })?;
        Ok(Self { ranges, description })
    }

    /// What the config asks for: the file, or the built-in default.
    ///
    /// # Errors
    /// As [`Base::load`] and [`Base::embedded`].
    pub fn open(file: Option<&Path>) -> Result<Self, GeoFault> {
        file.map_or_else(Self::embedded, Self::load)
    }

    /// The ranges, for steering.
    #[must_use]
    pub fn ranges(&self) -> &steering::Base {
        &self.ranges
    }

    /// What it is and how large, for operators.
    #[must_use]
    pub fn describe(&self) -> String {
        let (v4, v6) = self.ranges.ranges();
        let locations = self.ranges.locations();
        format!("{}: {v4} IPv4 ranges, {v6} IPv6 ranges, {locations} locations", self.description)
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let bytes = std::fs::metadata(path)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it has {bytes} bytes, and {FILE_BYTES_MAX} are the most that is read")));
    }
    std::fs::read(path)
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
    /// The file is no usable database.
    #[error("cannot use the geo database {}: {cause}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: mmdb::DatabaseFault,
    },
}

pub use embedded::Damage;
pub use mmdb::DatabaseFault;
