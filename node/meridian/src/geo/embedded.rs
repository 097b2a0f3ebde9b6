//! The built-in country database: our own format, since the source's is ten times as large.
//!
//! ```text
//! 0   magic "MERIDGEO"                                8
//! 8   version of the format, 1                        1
//! 9   bits of an IPv4 cell, 24                        1
//! 10  bits of an IPv6 cell, 48                        1
//! 11  n, number of countries                          1
//! 12  country codes, two ASCII letters each           2 n
//! then, for IPv4 and for IPv6:
//!     number of ranges, little-endian                 4
//!     b, bytes of the ranges, little-endian           4
//!     ranges                                          b
//! then the CRC-32 of everything before, little-endian 4
//! ```
//! A range is its length in cells and its country's number (from 1; 0 is no data). Together the ranges cover the whole
//! address space from its lowest address. A length is `odd << zeros`: one byte of zeros, with its top bit set if odd is
//! not 1, and then `odd >> 1` in groups of 7 bits, lowest first, all but the last with their top bit set.

use std::collections::HashMap;

use rules::steering::{Base, BaseBuilder, BaseFault, Location, LocationId, Point};

static COUNTRIES: &[u8] = include_bytes!("../../geo/countries.bin");
static CENTROIDS: &str = include_str!("../../geo/centroids.txt");

const MAGIC: &[u8; 8] = b"MERIDGEO";
const VERSION: u8 = 1;

/// What is wrong with the bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// They do not begin as they should.
    #[error("expected the magic MERIDGEO and version {VERSION}")]
    Head,
    /// They are not what was written.
    #[error("the checksum is wrong")]
    Checksum,
    /// They end too early, or say what cannot be.
    #[error("a table ends early or does not cover its address space")]
    Table,
    /// Ranges in the wrong order.
    #[error(transparent)]
    Ranges(#[from] BaseFault),
}

/// The built-in ranges.
pub(super) fn ranges() -> Result<Base, Damage> {
    unpack(COUNTRIES, &centroids(CENTROIDS))
}

/// The middle of each country, by its code. Shared with databases that know countries but no coordinates.
pub(super) fn built_in_centroids() -> HashMap<[u8; 2], Point> {
    centroids(CENTROIDS)
}

/// Reads lines of `code north east`; others are comments.
fn centroids(text: &str) -> HashMap<[u8; 2], Point> {
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let code: [u8; 2] = words.next()?.as_bytes().try_into().ok()?;
        let [north, east] = [words.next()?.parse().ok()?, words.next()?.parse().ok()?];
        Some((code, Point::from_degrees(north, east)?))
    };
    text.lines().filter_map(line).collect()
}

fn unpack(bytes: &[u8], centroids: &HashMap<[u8; 2], Point>) -> Result<Base, Damage> {
    let (body, checksum) = bytes.split_last_chunk::<4>().ok_or(Damage::Head)?;
    let mut reader = Reader(body);
    let head = reader.take(12).ok_or(Damage::Head)?;
    if head[..8] != *MAGIC || head[8] != VERSION {
        return Err(Damage::Head);
    }
    if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
        return Err(Damage::Checksum);
    }
    let codes = reader.take(2 * usize::from(head[11])).ok_or(Damage::Table)?;

    let mut builder = BaseBuilder::new();
    let mut ids: Vec<LocationId> = vec![0];
    for code in codes.as_chunks::<2>().0 {
        let point = centroids.get(code).copied();
        let location = Location { country: Some(*code), point, ..Location::NOWHERE };
        ids.push(builder.location(location));
    }
    table(&mut reader, head[9], 32, |first, last, country| {
        let id = *ids.get(usize::from(country)).ok_or(Damage::Table)?;
        let ends = u32::try_from(first).ok().zip(u32::try_from(last).ok());
        let (first, last) = ends.ok_or(Damage::Table)?;
        Ok(builder.range_v4(first, last, id)?)
    })?;
    table(&mut reader, head[10], 128, |first, last, country| {
        let id = *ids.get(usize::from(country)).ok_or(Damage::Table)?;
        Ok(builder.range_v6(first, last, id)?)
    })?;
    Ok(builder.finish())
}

/// Reads one family's ranges and gives each that has a country to `add`, as first and last address.
fn table(
    reader: &mut Reader<'_>,
    cell_bits: u8,
    bits: u32,
    mut add: impl FnMut(u128, u128, u8) -> Result<(), Damage>,
) -> Result<(), Damage> {
    let shift = bits.checked_sub(u32::from(cell_bits)).ok_or(Damage::Table)?;
    let cells = 1u128.checked_shl(u32::from(cell_bits)).ok_or(Damage::Table)?;
    let count = reader.number().ok_or(Damage::Table)?;
    let length = usize::try_from(reader.number().ok_or(Damage::Table)?).map_err(|_| Damage::Table)?;
    let mut ranges = Reader(reader.take(length).ok_or(Damage::Table)?);
    let mut at = 0u128;
    for _ in 0..count {
        let length = ranges.length().filter(|length| *length <= cells - at).ok_or(Damage::Table)?;
        let country = ranges.take(1).ok_or(Damage::Table)?[0];
        if country > 0 {
            let inside = u128::MAX.checked_shr(128 - shift).unwrap_or(0);
            add(at << shift, ((at + length - 1) << shift) | inside, country)?;
        }
        at += length;
    }
    if at == cells && ranges.0.is_empty() { Ok(()) } else { Err(Damage::Table) }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    /// A length in cells; never 0.
    fn length(&mut self) -> Option<u128> {
        let first = self.take(1)?[0];
        let mut odd = 1u128;
        let mut shift = 1;
        let mut more = first & 0x80 != 0;
        while more {
            let group = self.take(1)?[0];
            odd |= u128::from(group & 0x7f) << shift;
            shift += 7;
            more = group & 0x80 != 0 && shift < 64;
        }
        let zeros = u32::from(first & 0x7f);
        (zeros <= 56).then(|| odd << zeros)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_built_in_database_knows_well_known_addresses() {
        let base = ranges().unwrap();
        for (address, country) in [
            ("91.0.0.1", Some(*b"DE")),
            ("128.32.0.1", Some(*b"US")),
            ("73.0.0.1", Some(*b"US")),
            ("133.11.0.1", Some(*b"JP")),
            ("200.160.0.1", Some(*b"BR")),
            ("2003::1", Some(*b"DE")),
            ("2601::1", Some(*b"US")),
            ("2804::1", Some(*b"BR")),
            ("10.0.0.1", None),
            ("192.0.2.1", None),
            ("255.255.255.255", None),
            ("2001:db8::1", None),
            ("::1", None),
        ] {
            let location = base.location(address.parse().unwrap());
            assert_eq!(location.country, country, "{address}");
            assert_eq!(location.point.is_some(), country.is_some(), "{address}");
        }
    }

    #[test]
    fn a_changed_octet_anywhere_is_noticed() {
        for at in [0, 8, 11, 100, 5000, COUNTRIES.len() / 2, COUNTRIES.len() - 1] {
            let mut bytes = COUNTRIES.to_vec();
            bytes[at] ^= 1;
            assert!(unpack(&bytes, &HashMap::new()).is_err(), "{at}");
        }
        assert_eq!(unpack(&[], &HashMap::new()).unwrap_err(), Damage::Head);
    }

    #[test]
    fn a_table_that_lies_is_refused_though_its_checksum_is_right() {
        let sealed = |body: &[u8]| [body, &crc32fast::hash(body).to_le_bytes()].concat();
        let head = [MAGIC.as_slice(), &[1, 24, 48, 1], b"DE"].concat();
        for table in [
            &[1, 0, 0, 0, 2, 0, 0, 0, 23, 1][..],
            &[1, 0, 0, 0, 2, 0, 0, 0, 127, 1],
            &[1, 0, 0, 0, 9, 0, 0, 0, 24, 1],
            &[2, 0, 0, 0, 2, 0, 0, 0, 24, 1],
            &[1, 0, 0, 0, 2, 0, 0, 0, 24, 9],
        ] {
            let bytes = sealed(&[&head, table].concat());
            assert_eq!(unpack(&bytes, &HashMap::new()).unwrap_err(), Damage::Table, "{table:?}");
        }
        let good = [&head[..], &[1, 0, 0, 0, 2, 0, 0, 0, 24, 1], &[1, 0, 0, 0, 2, 0, 0, 0, 48, 0]].concat();
        let base = unpack(&sealed(&good), &HashMap::new()).unwrap();
        assert_eq!(base.location("255.255.255.255".parse().unwrap()).country, Some(*b"DE"));
    }
}
