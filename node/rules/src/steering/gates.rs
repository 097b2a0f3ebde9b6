//! Whether a newer edition of a geo database may take the place of the one in use, or waits for an operator's word.
//!
//! A database that is sound as a file can still be wrong as a whole: half of it missing, another product under the same
//! name, last year's. Answers of a whole fleet would move with it.

use std::{fmt, net::IpAddr};

use super::{base::Base, place::Point};

/// The least that must be left of a family's networks, in percent of those before.
const NETWORKS_LEAST_PERCENT: u64 = 90;
/// The most sampled prefixes that may get another nearest region, in percent of those that have one.
const MOVED_MOST_PERCENT: u64 = 15;
/// How far ahead of the clock a database may be dated, in s: somebody's clock is always a little wrong.
const AHEAD_MOST_S: u64 = 2 * 86_400;
/// Prefixes that are compared, of each family.
const SAMPLE: u64 = 20_000;

/// A database, with what its file said of itself.
#[derive(Debug, Clone, Copy)]
pub struct Edition<'a> {
    /// What it says.
    pub base: &'a Base,
    /// How many networks its file has: IPv4, IPv6.
    pub networks: [u64; 2],
    /// When its data were put together, in s since the Unix epoch.
    pub built_unix_s: u64,
}

/// Why a newer edition is not simply taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Objection {
    /// Its data are older than those in use: going back is nothing that happens by itself.
    Older {
        /// How much older, in s.
        seconds: u64,
    },
    /// Its data are of a time that is to come: nothing could ever be newer.
    Future {
        /// How far ahead, in s.
        seconds: u64,
    },
    /// Much of it is missing.
    Fewer {
        /// Of which family: `IPv4`, `IPv6`.
        family: &'static str,
        /// The networks in use.
        before: u64,
        /// Those that it has.
        after: u64,
    },
    /// It leads many clients elsewhere.
    Moved {
        /// Of which family: `IPv4`, `IPv6`.
        family: &'static str,
        /// Prefixes that were compared.
        sampled: u64,
        /// Those of them whose nearest region is another one.
        moved: u64,
    },
}

impl Objection {
    /// The word for it in logs, metrics and JSON.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Older { .. } => "older",
            Self::Future { .. } => "future",
            Self::Fewer { .. } => "fewer-networks",
            Self::Moved { .. } => "moved",
        }
    }
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Older { seconds } => {
                let days = seconds.div_ceil(86_400);
                write!(f, "its data are {days} days older than those in use")
            }
            Self::Future { seconds } => write!(f, "its data are from the future, {} days ahead", seconds / 86_400),
            Self::Fewer { family, before, after } => write!(
                f,
                "it has {after} {family} networks, and {before} are in use: expected at least {NETWORKS_LEAST_PERCENT} %"
            ),
            Self::Moved { family, sampled, moved } => write!(
                f,
                "the nearest region of {moved} in {sampled} {family} prefixes would be another one: expected at most \
                 {MOVED_MOST_PERCENT} %"
            ),
        }
    }
}

/// All that speaks against `newer` in place of `current`; `regions` is where the regions are. Takes some milliseconds.
#[must_use]
pub fn objections(current: &Edition<'_>, newer: &Edition<'_>, regions: &[Point], now_unix_s: u64) -> Vec<Objection> {
    let mut found = Vec::new();
    let ahead_s = newer.built_unix_s.saturating_sub(now_unix_s);
    if ahead_s > AHEAD_MOST_S {
        found.push(Objection::Future { seconds: ahead_s });
    }
    if newer.built_unix_s < current.built_unix_s {
        found.push(Objection::Older { seconds: current.built_unix_s - newer.built_unix_s });
    }
    for (family, (before, after)) in ["IPv4", "IPv6"].into_iter().zip(current.networks.into_iter().zip(newer.networks))
    {
        if after.saturating_mul(100) < before.saturating_mul(NETWORKS_LEAST_PERCENT) {
            found.push(Objection::Fewer { family, before, after });
        }
    }
    for (family, sample) in [("IPv4", current.base.sample_v4(SAMPLE)), ("IPv6", current.base.sample_v6(SAMPLE))] {
        let (sampled, moved) = moved(current.base, newer.base, regions, &sample);
        if moved * 100 > sampled * MOVED_MOST_PERCENT {
            found.push(Objection::Moved { family, sampled, moved });
        }
    }
    found
}

/// How many of a sample have a nearest region in either base, and for how many it is another one.
fn moved(before: &Base, after: &Base, regions: &[Point], sample: &[IpAddr]) -> (u64, u64) {
    let mut counts = (0, 0);
    for address in sample {
        let [old, new] = [before, after].map(|base| nearest(base, *address, regions));
        counts.0 += u64::from(old.is_some() || new.is_some());
        counts.1 += u64::from(old != new);
    }
    counts
}

/// The nearest region of an address, by its index; none if nothing is known of the address.
fn nearest(base: &Base, address: IpAddr, regions: &[Point]) -> Option<usize> {
    let from = base.location(address).point?;
    let far = |(_, region): &(usize, &Point)| from.kilometres(**region);
    regions.iter().enumerate().min_by_key(far).map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::steering::{BaseBuilder, Location};

    fn point(north: f64, east: f64) -> Point {
        Point::from_degrees(north, east).unwrap()
    }

    /// A base of 200 networks of each family, all in the east but the first `west` of each hundred.
    fn base(west: u32) -> Base {
        let mut builder = BaseBuilder::new();
        let [east_id, west_id] = [(50.0, 10.0), (40.0, -100.0)]
            .map(|(north, east)| builder.location(Location { point: Some(point(north, east)), ..Location::NOWHERE }));
        let of = |n: u32| if n % 100 < west { west_id } else { east_id };
        for n in 0..200 {
            let first = (10 << 24) + (n << 12);
            builder.range_v4(first, first + 0x7ff, of(n)).unwrap();
            let first = (0x2001_0db8u128 << 96) + (u128::from(n) << 76);
            builder.range_v6(first, first + (1 << 74), of(n)).unwrap();
        }
        builder.finish()
    }

    fn check(before: (&Base, [u64; 2], u64), after: (&Base, [u64; 2], u64)) -> Vec<&'static str> {
        let edition = |(base, networks, built_unix_s)| Edition { base, networks, built_unix_s };
        let regions = [point(50.0, 8.0), point(37.0, -120.0)];
        objections(&edition(before), &edition(after), &regions, 10).iter().map(Objection::as_str).collect()
    }

    #[test]
    fn an_edition_that_differs_little_is_taken() {
        let (old, new) = (base(0), base(15));
        assert!(check((&old, [200, 200], 5), (&new, [180, 180], 5)).is_empty());
    }

    #[test]
    fn one_that_is_older_smaller_or_leads_elsewhere_is_objected_to() {
        let (old, new) = (base(0), base(16));
        assert_eq!(check((&old, [200, 200], 5), (&old, [200, 200], 4)), ["older"]);
        assert_eq!(check((&old, [200, 200], 5), (&old, [200, 200], 172_811)), ["future"]);
        assert!(check((&old, [200, 200], 5), (&old, [200, 200], 172_810)).is_empty());
        assert_eq!(check((&old, [200, 200], 5), (&old, [179, 200], 5)), ["fewer-networks"]);
        assert_eq!(check((&old, [200, 200], 5), (&old, [200, 0], 5)), ["fewer-networks"]);
        assert_eq!(check((&old, [200, 200], 5), (&new, [200, 200], 6)), ["moved", "moved"]);
        assert_eq!(check((&old, [200, 200], 5), (&new, [0, 0], 0)).len(), 5);
    }

    #[test]
    fn without_regions_or_data_nothing_can_move() {
        let empty = BaseBuilder::new().finish();
        assert!(check((&empty, [0, 0], 0), (&empty, [0, 0], 0)).is_empty());
        let full = base(0);
        let edition = Edition { base: &full, networks: [1, 1], built_unix_s: 1 };
        assert!(objections(&edition, &edition, &[], 1).is_empty());
    }

    #[test]
    fn an_objection_says_what_was_found_and_expected() {
        let fewer = Objection::Fewer { family: "IPv6", before: 100, after: 3 }.to_string();
        assert_eq!(fewer, "it has 3 IPv6 networks, and 100 are in use: expected at least 90 %");
        assert_eq!(Objection::Older { seconds: 86_401 }.to_string(), "its data are 2 days older than those in use");
    }
}
