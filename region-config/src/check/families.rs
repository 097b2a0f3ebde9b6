//! Regions that have addresses of one family only, beside others that have both: what DNS makes of them surprises, and
//! may be nothing at all.

use std::net::IpAddr;

use super::{site::about, zones};
use crate::{
    fault::Gatherer,
    ids::RegionId,
    shape::At,
    written::{RegionSection, Root, SiteSection},
};

/// Most names in a sentence.
const TOLD: usize = 3;

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

/// AAAA is there for all clients or for none: where it is for none, a site needs a region that A can name.
pub(super) fn some_family(root: &Root, gatherer: &mut Gatherer) {
    // there may be addresses and names that could not be read
    if gatherer.failed() {
        return;
    }
    for site in root.sites.iter().filter(|site| zones::answers_for(root, &site.value)) {
        let named: Vec<_> = root.regions.iter().filter(|it| may_be_named(&site.value, &it.value)).collect();
        let mut allowed = root.regions.iter().filter(|it| is_allowed(&site.value, &it.value));
        let without: Vec<_> = named.iter().filter(|it| !has(it, IpAddr::is_ipv6)).collect();
        if without.is_empty() || allowed.any(|it| has(it, IpAddr::is_ipv4)) {
            continue;
        }
        let names = without.iter().filter_map(|it| Some(format!("`{}`", it.value.name.as_ref()?.value)));
        let found = format!(
            "DNS would name no address at all: no region that it allows has an IPv4 address, and IPv6 addresses are named \
             only if all its regions have one, which these have not: {}",
            shortened(&names.collect::<Vec<_>>())
        );
        let expected = "an IPv6 address in these regions, or an IPv4 address in one that it allows";
        gatherer.error(site.place, &about(&site.value), found, expected);
    }
}

fn has(region: &At<RegionSection>, family: fn(&IpAddr) -> bool) -> bool {
    region.value.nodes.iter().flat_map(|node| &node.value.addresses).any(|address| family(&address.value))
}

/// Whether DNS may lead clients of a site to a region.
fn may_be_named(site: &SiteSection, region: &RegionSection) -> bool {
    let fallback = site.steering.as_ref().is_some_and(|it| is_in(&it.value.fallback, region));
    is_allowed(site, region) || (is_legal(site, region) && fallback)
}

/// The same while not all of them are down.
fn is_allowed(site: &SiteSection, region: &RegionSection) -> bool {
    let wished =
        site.steering.as_ref().map(|it| &it.value).is_none_or(|wished| {
            (wished.allow.is_empty() || is_in(&wished.allow, region)) && !is_in(&wished.deny, region)
        });
    is_legal(site, region) && wished
}

fn is_legal(site: &SiteSection, region: &RegionSection) -> bool {
    match (&site.pin, &region.jurisdiction) {
        (Some(pin), Some(jurisdiction)) => pin.value == jurisdiction.value,
        (Some(_), None) => false,
        (None, _) => true,
    }
}

fn is_in(list: &[At<RegionId>], region: &RegionSection) -> bool {
    region.name.as_ref().is_some_and(|name| list.iter().any(|it| it.value == name.value))
}

/// The first names, and how many more there are.
fn shortened(names: &[String]) -> String {
    let told = names.iter().take(TOLD).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(TOLD) {
        0 => told,
        more => format!("{told} and {more} more"),
    }
}
