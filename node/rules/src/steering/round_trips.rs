//! Round trips that somebody has measured, from the clients of a network to regions: where there are enough of them, they say
//! more than a distance.
//!
//! ```text
//! # asn,country,region,ms,samples
//! 3320,DE,eu-central,18.5,1200
//! -,BR,us-east,121,640
//! ```
//!
//! Of several rows for a region, the one about the client's network in its country counts, else the one about the network,
//! else the one about the country.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

use region_config::RegionId;

use super::{base::Location, places::Cost};

/// Most rows that are read.
pub const ROWS_MAX: usize = 1_000_000;
/// Longest row, in bytes.
const ROW_BYTES_MAX: usize = 200;
/// Longest round trip that is believed, in ms.
const MS_MAX: f64 = 10_000.0;
/// With so many samples, what was measured counts for half.
const HALF_AT: u64 = 50;
/// What the region that is nearest by distance may be dearer, in [`Cost`] and in percent, before a measured one takes its
/// place: measurements swing, and clients should not.
const GAIN: Cost = 1_000_000;
const GAIN_PERCENT: Cost = 15;

/// What was measured to a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoundTrip {
    /// How long it took: the middle of all samples, in microseconds.
    pub us: u32,
    /// How often it was measured.
    pub samples: u32,
}

impl RoundTrip {
    /// What a client costs there, by what was measured as far as that is to be believed (`n / (n + 50)` of it with `n` samples), else by
    /// the estimate. `stretch_percent` is what the site makes of all that a region costs beyond the least.
    pub(super) fn blended(self, estimate: Cost, least: Cost, stretch_percent: u8) -> Cost {
        let measured = u64::from(self.us) * 100;
        let beyond = measured.saturating_sub(u64::from(least)) * u64::from(stretch_percent) / 100;
        let stretched = measured.min(u64::from(least)) + beyond;
        let samples = u64::from(self.samples);
        let blended = (stretched * samples + u64::from(estimate) * HALF_AT) / (samples + HALF_AT);
        Cost::try_from(blended).unwrap_or(Cost::MAX)
    }
}

/// Whether a region that costs `measured` takes the first place from one that costs `first`.
pub(super) fn is_worth_it(first: Cost, measured: Cost) -> bool {
    first.saturating_sub(measured) > GAIN.max(first / 100 * GAIN_PERCENT)
}

/// Why a text is no table of round trips.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: found {found}, expected {expected}")]
pub struct RowFault {
    /// Which line, from 1.
    pub line: usize,
    /// What stands there.
    pub found: String,
    /// What should.
    pub expected: &'static str,
}

/// Whose round trips: a network (AS number), a country, or a network in a country.
type Whose = (Option<u32>, Option<[u8; 2]>);

/// All that was measured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoundTrips(BTreeMap<Whose, BTreeMap<RegionId, RoundTrip>>);

impl RoundTrips {
    /// Whether nothing was measured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many rows there are.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }

    /// All regions that rows are about, each once.
    pub fn regions(&self) -> impl Iterator<Item = &RegionId> {
        self.0.values().flat_map(BTreeMap::keys).collect::<BTreeSet<_>>().into_iter()
    }

    /// All countries that rows are about.
    #[must_use]
    pub fn countries(&self) -> BTreeSet<[u8; 2]> {
        self.0.keys().filter_map(|(_, country)| *country).collect()
    }

    /// Whether any row is about a network.
    #[must_use]
    pub fn names_networks(&self) -> bool {
        self.0.keys().any(|(asn, _)| asn.is_some())
    }

    /// What was measured from where clients of a location are to a region.
    #[must_use]
    pub fn find(&self, location: &Location, region: &RegionId) -> Option<RoundTrip> {
        if self.is_empty() {
            return None;
        }
        let Location { asn, country, .. } = *location;
        let whose = [(asn, country), (asn, None), (None, country)];
        let known = whose.iter().filter(|whose| **whose != (None, None)).filter_map(|whose| self.0.get(whose));
        known.filter_map(|regions| regions.get(region)).copied().next()
    }
}

impl FromStr for RoundTrips {
    type Err = RowFault;

    fn from_str(text: &str) -> Result<Self, RowFault> {
        let mut trips = Self::default();
        let rows = text.lines().zip(1..).map(|(row, line)| (row.trim(), line));
        for (at, (row, line)) in rows.filter(|(row, _)| !row.is_empty() && !row.starts_with('#')).enumerate() {
            let fault = |found: &str, expected| RowFault { line, found: quoted(found), expected };
            if at >= ROWS_MAX {
                return Err(RowFault { line, found: "another row".to_owned(), expected: "at most 1,000,000 of them" });
            }
            let cells: Vec<&str> =
                row.get(..row.len().min(ROW_BYTES_MAX)).unwrap_or("").split(',').map(str::trim).collect();
            let [asn, country, region, ms, samples] = cells[..] else {
                return Err(fault(row, "`asn,country,region,ms,samples`"));
            };
            let whose = (
                known(asn, |asn| asn.parse().ok()).ok_or_else(|| fault(asn, "an AS number, or `-` for any"))?,
                known(country, code).ok_or_else(|| fault(country, "a country's two letters, or `-` for any"))?,
            );
            if whose == (None, None) {
                return Err(fault(row, "an AS number or a country"));
            }
            let name = RegionId::parse(region).map_err(|_| fault(region, "a region's name"))?;
            let in_range = |ms: &f64| ms.is_finite() && *ms > 0.0 && *ms <= MS_MAX;
            let ms =
                ms.parse().ok().filter(in_range).ok_or_else(|| fault(ms, "milliseconds, above 0 and up to 10000"))?;
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded on both sides")]
            let us = (ms * 1_000.0) as u32;
            let samples = samples.parse().ok().ok_or_else(|| fault(samples, "how many samples there were"))?;
            let before = trips.0.entry(whose).or_default().insert(name, RoundTrip { us, samples });
            if before.is_some() {
                return Err(fault(row, "one row for a network, a country and a region"));
            }
        }
        Ok(trips)
    }
}

/// `-` for any, else what `read` makes of it; none if that is nothing.
fn known<T>(cell: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<Option<T>> {
    if cell == "-" { Some(None) } else { read(cell).map(Some) }
}

fn code(cell: &str) -> Option<[u8; 2]> {
    let code: [u8; 2] = cell.as_bytes().try_into().ok()?;
    code.iter().all(u8::is_ascii_alphabetic).then(|| code.map(|letter| letter.to_ascii_uppercase()))
}

fn quoted(found: &str) -> String {
    let short: String = found.chars().filter(|c| !c.is_control()).take(60).collect();
    format!("`{short}`")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    fn trips(text: &str) -> RoundTrips {
        text.parse().unwrap()
    }

    fn at(asn: Option<u32>, country: Option<[u8; 2]>) -> Location {
        Location { asn, country, ..Location::NOWHERE }
    }

    #[test]
    fn the_row_that_says_most_about_a_client_counts() {
        let trips =
            trips("# measured\n\n-,DE,r1,30,100\r\n 3320 , de , r1 , 10.5 , 7\n3320,-,r1,20,100\n3320,-,r2,25,1\n");
        let (r1, r2) = (RegionId::parse("r1").unwrap(), RegionId::parse("r2").unwrap());
        let us = |asn, country, region| trips.find(&at(asn, country), region).map(|trip| trip.us);
        assert_eq!(us(Some(3320), Some(*b"DE"), &r1), Some(10_500));
        assert_eq!(us(Some(3320), Some(*b"AT"), &r1), Some(20_000));
        assert_eq!(us(Some(1), Some(*b"DE"), &r1), Some(30_000));
        assert_eq!(us(Some(3320), Some(*b"DE"), &r2), Some(25_000));
        assert_eq!((us(None, None, &r1), us(Some(1), Some(*b"AT"), &r1)), (None, None));
        assert_eq!((trips.rows(), trips.regions().count()), (4, 2));
    }

    #[test]
    fn samples_make_what_was_measured_count() {
        let blended = |us, samples| RoundTrip { us, samples }.blended(4_000_000, 400_000, 100);
        assert_eq!(blended(20_000, 0), 4_000_000);
        assert_eq!(blended(20_000, 50), 3_000_000);
        assert_eq!(blended(20_000, 950), 2_100_000);
        assert_eq!(RoundTrip { us: 20_000, samples: u32::MAX }.blended(0, 400_000, 50) / 10_000, 119, "with a bias");
        assert_eq!(RoundTrip { us: 2_000, samples: u32::MAX }.blended(0, 400_000, 50) / 10_000, 19, "below the least");
        assert!(is_worth_it(3_000_000, 1_900_000) && !is_worth_it(3_000_000, 2_000_000), "10 ms");
        assert!(is_worth_it(20_000_000, 16_900_000) && !is_worth_it(20_000_000, 17_100_000), "15 percent");
    }

    #[test]
    fn what_is_no_row_is_told_with_its_line() {
        for (row, expected) in [
            ("1,DE,r1,5", "`asn,country,region,ms,samples`"),
            ("AS1,DE,r1,5,1", "an AS number, or `-` for any"),
            ("-1,DE,r1,5,1", "an AS number, or `-` for any"),
            ("1,GER,r1,5,1", "a country's two letters, or `-` for any"),
            ("-,-,r1,5,1", "an AS number or a country"),
            ("1,DE,,5,1", "a region's name"),
            ("1,DE,r1,NaN,1", "milliseconds, above 0 and up to 10000"),
            ("1,DE,r1,0,1", "milliseconds, above 0 and up to 10000"),
            ("1,DE,r1,5,-1", "how many samples there were"),
            ("2,DE,r1,6,1", "one row for a network, a country and a region"),
        ] {
            let fault = format!("# first\n2,DE,r1,5,1\n{row}\n").parse::<RoundTrips>().unwrap_err();
            assert_eq!((fault.line, fault.expected), (3, expected), "{row}");
            assert!(fault.to_string().starts_with("line 3: found `"), "{fault}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "[0-9a-zA-Z,.#\\n -]{0,200}|.{0,100}") {
            let _ = text.parse::<RoundTrips>();
        }

        #[test]
        fn a_blend_lies_between_the_two(us in 1u32..10_000_000, samples: u32, estimate in 400_000u32..50_000_000) {
            let blended = RoundTrip { us, samples }.blended(estimate, 400_000, 100);
            let measured = us.saturating_mul(100);
            prop_assert!((estimate.min(measured)..=estimate.max(measured)).contains(&blended));
        }
    }
}
