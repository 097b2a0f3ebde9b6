//! Regions that have addresses of one family only, beside others that have both: what DNS makes of them surprises.

use std::net::IpAddr;

use super::site::about;
use crate::{
    fault::Gatherer,
    ids::RegionId,
    shape::At,
    written::{RegionSection, Root, SiteSection},
};

/// Most sites that are named in a warning.
const SITES_TOLD: usize = 3;

pub(super) fn check(root: &Root, gatherer: &mut Gatherer) {
    for region in &root.regions {
        let [ipv4, ipv6] = [has(region, IpAddr::is_ipv4), has(region, IpAddr::is_ipv6)];
        let (found, wanted): (_, fn(&IpAddr) -> bool) = match (ipv4, ipv6) {
            // "no such record" is kept by resolvers for everyone (RFC 7871 section 7.4)
            (true, false) => (
                "no node of it has an IPv6 address, though those of other regions have: so that all clients are told the \
                 same, DNS names no IPv6 address at all for",
                IpAddr::is_ipv6,
            ),
            (false, true) => (
                "no node of it has an IPv4 address, though those of other regions have: A never leads here, and AAAA \
                 perhaps elsewhere than A, for",
                IpAddr::is_ipv4,
            ),
            (true, true) | (false, false) => continue,
        };
        let mixed = |site: &&At<SiteSection>| {
            let named = || root.regions.iter().filter(|it| may_be_named(&site.value, &it.value));
            named().any(|it| std::ptr::eq(it, region)) && named().any(|it| has(it, wanted))
        };
        let sites: Vec<String> = root.sites.iter().filter(mixed).map(|site| about(&site.value)).collect();
        if let (false, Some(name)) = (sites.is_empty(), &region.value.name) {
            let family = if ipv4 { "IPv6" } else { "IPv4" };
            let expected = format!("an {family} address of a node in it, or the region in `deny` there");
            let found = format!("{found} {}", shortened(&sites));
            gatherer.warning(region.place, &format!("region `{}`", name.value), found, expected);
        }
    }
}

fn has(region: &At<RegionSection>, family: fn(&IpAddr) -> bool) -> bool {
    region.value.nodes.iter().flat_map(|node| &node.value.addresses).any(|address| family(&address.value))
}

/// Whether DNS may lead clients of a site to a region.
fn may_be_named(site: &SiteSection, region: &RegionSection) -> bool {
    let is =
        |list: &[At<RegionId>]| list.iter().any(|it| region.name.as_ref().is_some_and(|name| name.value == it.value));
    let legal = match (&site.pin, &region.jurisdiction) {
        (Some(pin), Some(jurisdiction)) => pin.value == jurisdiction.value,
        (Some(_), None) => false,
        (None, _) => true,
    };
    let wished = site.steering.as_ref().map(|it| &it.value).is_none_or(|wished| {
        let allowed = wished.allow.is_empty() || is(&wished.allow);
        (allowed && !is(&wished.deny)) || is(&wished.fallback)
    });
    legal && wished
}

/// The first sites, and how many more there are.
fn shortened(sites: &[String]) -> String {
    let told = sites.iter().take(SITES_TOLD).map(String::as_str).collect::<Vec<_>>().join(", ");
    match sites.len().saturating_sub(SITES_TOLD) {
        0 => told,
        more => format!("{told} and {more} more"),
    }
}
