//! What a site wishes of steering, beyond the nearest healthy region.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::{country::Continent, ids::RegionId};

/// Rules for clients of one site, at most.
pub const PINS_MAX: usize = 4_096;

/// Most different sets of wishes that sites may have: each costs memory on every node, with a city database some tens of MB.
pub const WISHES_MAX: usize = 64;

/// What a site wishes. Nothing of it reaches beyond the regions that the site's data may be in: those are a matter of
/// residency alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SiteSteering {
    /// The regions that may be named; empty means all.
    pub allow: Vec<RegionId>,
    /// Regions that may not be named.
    pub deny: Vec<RegionId>,
    /// What is said of single regions.
    pub regions: Vec<RegionWish>,
    /// Rules for some clients.
    pub pins: Vec<Pin>,
    /// The order of regions for clients of whom no place is known, behind which the others follow; empty means: first the
    /// region of the node that was asked.
    pub no_data: Vec<RegionId>,
    /// What is answered while all regions are down.
    pub all_down: AllDown,
    /// The regions that [`AllDown::Fallback`] names.
    pub fallback: Vec<RegionId>,
}

/// What a site wishes of a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionWish {
    /// Which one.
    pub region: RegionId,
    /// Its part of the clients among the regions of its priority that have one; none means that distance decides.
    pub weight: Option<u32>,
    /// By how many percent its distances are shortened; below 0, lengthened.
    pub bias_percent: i32,
    /// Regions with a lower number are named first, however far they are.
    pub priority: u8,
}

/// A rule for some clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Whom it is for. Of several that fit a client, the narrowest counts: the longest block, else the autonomous system,
    /// else the country, else the continent.
    pub whom: Whom,
    /// Whether other regions may be named to them.
    pub force: Force,
    /// The regions; at least one.
    pub regions: Vec<RegionId>,
}

/// Whom a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Whom {
    /// The addresses of a block.
    Block(Cidr),
    /// Addresses that an autonomous system announces.
    Asn(u32),
    /// Addresses in a country, ISO 3166-1 alpha-2 in upper case.
    Country([u8; 2]),
    /// Addresses on a continent.
    Continent(Continent),
}

/// As it is written in the files.
impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block(cidr) => write!(f, "{cidr}"),
            Self::Asn(asn) => write!(f, "AS{asn}"),
            Self::Country(code) => write!(f, "{}", code.escape_ascii()),
            Self::Continent(continent) => write!(f, "continent {}", continent.as_str()),
        }
    }
}

/// Whether a rule leaves other regions a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// No other region is named.
    Only,
    /// The rule's regions come first, in their order.
    Prefer,
}

impl Force {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Only => "only",
            Self::Prefer => "prefer",
        }
    }
}

/// What is answered while all regions that may be named are down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AllDown {
    /// The region that would be named if all were up: a wrong verdict must not blank a name.
    #[default]
    LastGood,
    /// A region of [`SiteSteering::fallback`] that is not down; if there is none, as [`AllDown::LastGood`].
    Fallback,
    /// A failure (SERVFAIL), never an empty answer.
    Fail,
}

impl AllDown {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LastGood => "last-good",
            Self::Fallback => "fallback",
            Self::Fail => "fail",
        }
    }
}

/// A block of addresses; no bit is set behind its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    first: IpAddr,
    length: u8,
}

impl Cidr {
    /// A block that begins at `first`; none if its length is longer than an address, or bits are set behind it.
    #[must_use]
    pub fn new(first: IpAddr, length: u8) -> Option<Self> {
        let block = Self::around(first, length)?;
        (block.first == first).then_some(block)
    }

    /// The block of this length that holds an address; none if it is longer than an address.
    #[must_use]
    pub fn around(address: IpAddr, length: u8) -> Option<Self> {
        let first = match address {
            IpAddr::V4(v4) if length <= 32 => {
                let kept = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & kept))
            }
            IpAddr::V6(v6) if length <= 128 => {
                let kept = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & kept))
            }
            IpAddr::V4(_) | IpAddr::V6(_) => return None,
        };
        Some(Self { first, length })
    }

    /// Its first address.
    #[must_use]
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// Its prefix length.
    #[must_use]
    pub fn length(&self) -> u8 {
        self.length
    }
}

/// As it is written in the files.
impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.length)
    }
}
