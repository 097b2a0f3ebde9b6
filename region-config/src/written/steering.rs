//! What a site may wish of steering, and the small values in it.

use std::net::IpAddr;

use serde_json::{Value, json};
use toml::{Spanned, de::DeValue};

use crate::{
    country::Continent,
    ids::RegionId,
    leaf::{Country, Whole, words},
    shape::{Reader, Shape, Text, listed, nearest, section},
    steering::{AllDown, Cidr},
};

const ASN_MAX: u64 = 4_294_967_295;

section! {
    /// What a site wishes of steering, beyond the nearest healthy region. Nothing of it names a region outside the site's `pin`.
    SteeringSection {
        /// The regions that DNS may name; all if left out.
        many allow: RegionId,
        /// Regions that DNS does not name; none if left out.
        many deny: RegionId,
        /// What is said of single regions.
        many regions: WishSection,
        /// Rules for some clients; of several that fit a client the narrowest counts: the longest block, else the autonomous system, else the country, else the continent.
        many pins: PinSection,
        /// The order of regions for clients of whom no place is known, behind which the others follow; first the region of the node that was asked if left out.
        many no_data: RegionId,
        /// What is answered while all regions that may be named are down: the one that would be named if all were up (`last-good`), one of `fallback` (`fallback`), or a failure (`fail`); `last-good` if left out.
        may all_down: AllDown,
        /// The regions for `all_down = "fallback"`; also ones that `allow` and `deny` leave out, but none outside the site's `pin`.
        many fallback: RegionId,
    }
}

section! {
    /// What a site wishes of a region.
    WishSection("region" by "region") {
        /// The region.
        need region: RegionId,
        /// Its part of the clients beside the other regions of its priority that have one; 0 leaves it for when no other is healthy. As soon as one region has a weight, chance decides by weight, and not distance; regions without one come after those.
        may weight: Whole<0, 1_000>,
        /// By how many percent its distances are shortened; below 0, lengthened; 0 if left out.
        may bias: Bias,
        /// Regions with a lower number are named first, however far they are; 0 if left out.
        may priority: Whole<0, 9>,
    }
}

section! {
    /// A rule for some clients: one of `cidr`, `asn`, `country` and `continent`, and one of `only` and `prefer`.
    PinSection {
        /// Blocks of addresses; IPv6 ones are no longer than /64.
        many cidr: Cidr,
        /// Numbers of autonomous systems; needs a geo database that has them.
        many asn: Whole<1, ASN_MAX>,
        /// Countries.
        many country: Country,
        /// Continents: `AF`, `AN`, `AS`, `EU`, `NA`, `OC` or `SA`.
        many continent: Continent,
        /// The regions that are named to these clients, and no others.
        many only: RegionId,
        /// The regions that are named to these clients first, in this order.
        many prefer: RegionId,
    }
}

words!(AllDown, "last-good" => Self::LastGood, "fallback" => Self::Fallback, "fail" => Self::Fail);
words!(Continent,
    "AF" => Self::Africa, "AN" => Self::Antarctica, "AS" => Self::Asia, "EU" => Self::Europe,
    "NA" => Self::NorthAmerica, "OC" => Self::Oceania, "SA" => Self::SouthAmerica,
);

/// A block of addresses.
impl Text for Cidr {
    fn expected() -> String {
        "a block of addresses, such as \"192.0.2.0/24\" or \"2001:db8::/32\", IPv6 no longer than /64".to_owned()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let Some((address, length)) = text.split_once('/') else {
            let whole = text.parse::<IpAddr>().ok().filter(IpAddr::is_ipv4);
            return Err(whole.map_or_else(String::new, |address| format!("for one address: \"{address}/32\"")));
        };
        let (Ok(first), Ok(length)) = (address.parse::<IpAddr>(), length.parse::<u8>()) else {
            return Err(String::new());
        };
        let around = Self::around(first, length).ok_or_else(String::new)?;
        if first.is_ipv6() && length > 64 {
            return Err(Self::around(first, 64).map_or_else(String::new, |it| format!("for example \"{it}\"")));
        }
        Self::new(first, length).ok_or_else(|| format!("bits are set behind its length; did you mean \"{around}\"?"))
    }
}

/// Percent by which distances are shortened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bias(pub(crate) i32);

const BIAS: &str = "a whole number from -99 to 99";

impl Shape for Bias {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let number = value.get_ref().as_integer().and_then(|it| i32::from_str_radix(it.as_str(), it.radix()).ok());
        let read = number.filter(|number| (-99..=99).contains(number)).map(Self);
        if read.is_none() {
            reader.unexpected(value, BIAS, None);
        }
        read
    }

    fn schema() -> Value {
        json!({ "type": "integer", "minimum": -99, "maximum": 99, "description": BIAS })
    }
}
