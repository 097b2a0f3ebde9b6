//! What databases say about one address, and what a node makes of it.

use std::net::IpAddr;

use region_config::{Geo, Region};
use rules::steering::{self, Location, Point};

use super::{BUILT_IN, BUILT_IN_UNIX_S, GeoFault, Wanted, embedded, files, mmdb};

/// What is known of an address.
#[derive(Debug)]
pub struct Found {
    /// The address that was looked up: the IPv4 address inside, if one is.
    pub address: IpAddr,
    /// What a node steers by.
    pub location: Location,
    /// Degrees north and east as the file has them; none if the country's middle stands for them.
    pub degrees: Option<[f64; 2]>,
    /// What said so, in the order in which it was asked.
    pub said: Vec<Said>,
    /// The regions by their distance, with it in kilometres; empty if nobody knows where the address is.
    pub regions: Vec<(String, u16)>,
}

/// One database's part in it.
#[derive(Debug)]
pub struct Said {
    /// What it was asked for.
    pub wanted: Wanted,
    /// The file; the name of the built-in database.
    pub source: String,
    /// What it says it is.
    pub kind: String,
    /// The network of the file that the address is in; none for the built-in database.
    pub network: Option<String>,
    /// Whether it knows the address.
    pub known: bool,
    /// When its data were put together, in s since the Unix epoch.
    pub built_unix_s: u64,
}

/// Looks an address up as a node with these files does.
///
/// # Errors
/// [`GeoFault`] if a file cannot be read or used.
pub fn look_up(geo: &Geo, address: IpAddr, regions: &[Region]) -> Result<Found, GeoFault> {
    let address = steering::inner(address);
    let mut found =
        Found { address, location: Location::NOWHERE, degrees: None, said: Vec::new(), regions: Vec::new() };
    if let Some(path) = &geo.file {
        let row = found.ask(path, Wanted::Places)?;
        found.location = row.steered;
        found.degrees = row.record.as_ref().and_then(super::record::Record::degrees);
    }
    if geo.file.is_none() || found.family_is_missing(geo)? {
        let location = embedded::ranges().map_err(GeoFault::Embedded)?.location(address);
        found.location = location;
        found.said.push(Said {
            wanted: Wanted::Places,
            source: BUILT_IN.to_owned(),
            kind: BUILT_IN.to_owned(),
            network: None,
            known: location != Location::NOWHERE,
            built_unix_s: BUILT_IN_UNIX_S,
        });
    }
    if let Some(path) = &geo.asn_file {
        let row = found.ask(path, Wanted::Networks)?;
        found.location.asn = row.steered.asn.or(found.location.asn);
    }
    found.regions = by_distance(found.location.point, regions);
    Ok(found)
}

impl Found {
    fn ask(&mut self, path: &std::path::Path, wanted: Wanted) -> Result<mmdb::Row, GeoFault> {
        let bytes = files::read(path).map_err(|cause| GeoFault::Read { path: path.to_owned(), cause })?;
        let database = |cause| GeoFault::Database { path: path.to_owned(), cause: Box::new(cause) };
        let row = mmdb::look_up(bytes, self.address, wanted).map_err(database)?;
        self.said.push(Said {
            wanted,
            source: path.display().to_string(),
            kind: row.said.kind.clone(),
            network: row.record.is_some().then(|| row.network.clone()),
            known: row.steered != Location::NOWHERE,
            built_unix_s: row.said.built_unix_s,
        });
        Ok(row)
    }

    /// Whether the file knows nothing about any address of this family, so that the built-in database answers.
    fn family_is_missing(&self, geo: &Geo) -> Result<bool, GeoFault> {
        if self.location != Location::NOWHERE {
            return Ok(false);
        }
        // only the whole file tells; that an address is unknown is rare enough to look
        let base = super::Base::open(&Geo { asn_file: None, ..geo.clone() })?;
        Ok(base.lent() == Some(if self.address.is_ipv4() { "IPv4" } else { "IPv6" }))
    }
}

fn by_distance(from: Option<Point>, regions: &[Region]) -> Vec<(String, u16)> {
    let Some(from) = from else { return Vec::new() };
    let far = |region: &Region| {
        let at = Point::from_degrees(region.latitude, region.longitude)?;
        Some((region.name.to_string(), from.kilometres(at)))
    };
    let mut regions: Vec<_> = regions.iter().filter_map(far).collect();
    regions.sort_by_key(|(_, kilometres)| *kilometres);
    regions
}
