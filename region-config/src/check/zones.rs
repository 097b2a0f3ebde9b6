//! Zones: what stands in them besides sites, and what of the sites DNS could not answer for as it is meant.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use super::{families, site, unique};
use crate::{
    build::LOCAL,
    config::HostPattern,
    dns::TEXTS_MAX,
    fault::{Gatherer, Place},
    host::HostName,
    shape::listed,
    written::{Root, SiteSection, ZoneSection},
};

/// Keys of one zone: two while one takes over from another, and to spare.
const DNSSEC_KEYS_MAX: usize = 4;

/// Those that are registered (RFC 8659 section 7.2, RFC 9495, CA/Browser Forum).
const CAA_TAGS: [&str; 7] = ["issue", "issuewild", "issuemail", "issuevmc", "iodef", "contactemail", "contactphone"];

pub(super) fn check(root: &Root, gatherer: &mut Gatherer) {
    unique(root.zones.iter().filter_map(|it| it.value.name.as_ref()), "zone", "", gatherer);
    for section in &root.zones {
        name_servers(&section.value, gatherer);
        texts(&section.value, gatherer);
        caa(&section.value, gatherer);
        let keys = &section.value.dnssec_keys;
        let about = about(&section.value);
        // a record is in a zone once (RFC 2181 section 5)
        unique(keys, "key", &about, gatherer);
        if let Some(surplus) = keys.get(DNSSEC_KEYS_MAX) {
            let found = format!("{} keys in `dnssec_keys`", keys.len());
            let expected = format!("at most {DNSSEC_KEYS_MAX}: one that signs, and one that takes over or goes");
            gatherer.error(surplus.place, &about, found, expected);
        }
    }
    addresses_of_name_servers(root, gatherer);
    hosts_of_name_servers(root, gatherer);
    families::some_family(root, gatherer);
    if root.dns.is_some() && !root.zones.is_empty() {
        hosts_outside(root, gatherer);
        without_hosts(root, gatherer);
        families::check(root, gatherer);
    }
}

fn about(zone: &ZoneSection) -> String {
    zone.name.as_ref().map_or_else(String::new, |it| format!("zone `{}`", it.value))
}

/// Texts lie in their zone, all of a name together, and no more than fit into a message.
fn texts(zone: &ZoneSection, gatherer: &mut Gatherer) {
    let Some(apex) = &zone.name else { return };
    let about = about(zone);
    unique(zone.txt.iter().filter_map(|it| it.value.name.as_ref()), "TXT records of", &about, gatherer);
    for texts in &zone.txt {
        if let Some(name) = texts.value.name.as_ref().filter(|it| !HostName::within(&it.value.0, &apex.value.0)) {
            let found = format!("`{}` lies outside the zone", name.value);
            gatherer.error(name.place, &about, found, format!("`{}` or a name below it", apex.value));
        }
        unique(&texts.value.values, "text", &about, gatherer);
        if texts.value.values.len() > TEXTS_MAX {
            let found = format!("{} texts under one name", texts.value.values.len());
            gatherer.error(texts.place, &about, found, format!("at most {TEXTS_MAX}"));
        }
    }
}

/// A CA passes over what it does not know (RFC 8659 section 4.1): a misspelt tag restricts nobody, or everybody.
fn caa(zone: &ZoneSection, gatherer: &mut Gatherer) {
    let about = about(zone);
    for section in &zone.caa {
        let Some(tag) = section.value.tag.as_ref().filter(|it| !CAA_TAGS.contains(&it.value.0.as_str())) else {
            continue;
        };
        let critical = section.value.critical.as_ref().is_some_and(|it| it.value);
        let effect = if critical { "no CA may issue anything" } else { "it restricts nobody" };
        let found = format!("`{}` is no CAA tag that CAs know: {effect}", tag.value.0);
        gatherer.warning(tag.place, &about, found, listed(&CAA_TAGS));
    }
}

fn name_servers(zone: &ZoneSection, gatherer: &mut Gatherer) {
    let Some(apex) = &zone.name else { return };
    let about = about(zone);
    unique(zone.name_servers.iter().filter_map(|it| it.value.name.as_ref()), "name server", &about, gatherer);
    for server in &zone.name_servers {
        let Some(name) = &server.value.name else { continue };
        let inside = HostName::within(&name.value.0, &apex.value.0);
        if inside && server.value.addresses.is_empty() {
            let found = format!("name server `{}` lies inside the zone but has no `addresses`", name.value);
            gatherer.error(server.place, &about, found, "its addresses, which the parent zone needs too (glue)");
        }
    }
}

/// A name server of several zones has its addresses, in whatever order, wherever they are written.
fn addresses_of_name_servers(root: &Root, gatherer: &mut Gatherer) {
    let mut first: BTreeMap<&str, (BTreeSet<IpAddr>, Place)> = BTreeMap::new();
    for zone in &root.zones {
        let about = about(&zone.value);
        for server in zone.value.name_servers.iter().filter(|it| !it.value.addresses.is_empty()) {
            let Some(name) = &server.value.name else { continue };
            let addresses: BTreeSet<IpAddr> = server.value.addresses.iter().map(|it| it.value).collect();
            match first.get(name.value.0.as_str()) {
                Some((others, place)) if *others != addresses => {
                    let found = format!(
                        "name server `{}` has other addresses than at {}",
                        name.value,
                        gatherer.name_of(*place)
                    );
                    gatherer.error(name.place, &about, found, "the same `addresses` in each zone that it serves");
                }
                Some(_) => {}
                None => drop(first.insert(&name.value.0, (addresses, server.place))),
            }
        }
    }
}

/// Under a name server's name everybody is told the name server's addresses, or resolvers would not reach the zone. A
/// site's host of that name would be led past its pin and all that the site wishes.
fn hosts_of_name_servers(root: &Root, gatherer: &mut Gatherer) {
    let taken = names_of_name_servers(root);
    for site in &root.sites {
        for host in &site.value.hosts {
            let HostPattern::Exact(name) = &host.value else { continue };
            let Some(zone) = taken.get(name) else { continue };
            let found = format!(
                "host `{name}` is a name server of zone `{zone}`, so DNS names the name server's addresses to \
                 everybody, whatever is said of the site"
            );
            let expected = "another host, or `name_servers` with other names";
            gatherer.error(host.place, &site::about(&site.value), found, expected);
        }
    }
}

/// The names in zones that name servers have, each with a zone that it serves.
fn names_of_name_servers(root: &Root) -> BTreeMap<String, &str> {
    let mut names = BTreeMap::new();
    for (zone, apex) in root.zones.iter().filter_map(|it| Some((&it.value, &it.value.name.as_ref()?.value.0))) {
        let written = zone.name_servers.iter().filter(|it| !it.value.addresses.is_empty());
        names.extend(written.filter_map(|it| Some((it.value.name.as_ref()?.value.0.clone(), apex.as_str()))));
        if zone.name_servers.is_empty() {
            let regions = root.regions.iter().filter_map(|it| Some(it.value.name.as_ref()?.value.as_str()));
            let regions = regions.chain(root.regions.is_empty().then_some(LOCAL));
            names.extend(regions.map(|region| (format!("ns-{region}.{apex}"), apex.as_str())));
        }
    }
    names.retain(|name, _| apexes(root).any(|apex| HostName::within(name, apex)));
    names
}

/// With DNS, hosts lie in zones.
fn hosts_outside(root: &Root, gatherer: &mut Gatherer) {
    for site in &root.sites {
        for host in &site.value.hosts {
            let (found, expected) = match &host.value {
                HostPattern::Exact(name) if name.starts_with('[') || name.parse::<Ipv4Addr>().is_ok() => continue,
                HostPattern::Any => (
                    "host `*` is for whoever comes: DNS answers for none of these names".to_owned(),
                    apexes(root).next().map_or_else(String::new, |apex| {
                        format!("`*.{apex}` for all names below a zone, or hosts that are written out")
                    }),
                ),
                host if !apexes(root).any(|apex| is_in(host, apex)) => (
                    format!("host `{host}` lies in no zone, so DNS will not answer for it"),
                    "a host inside one of `[[zones]]`".to_owned(),
                ),
                HostPattern::Exact(_) | HostPattern::Suffix(_) => continue,
            };
            gatherer.warning(host.place, &site::about(&site.value), found, expected);
        }
    }
}

/// A zone is there for sites.
fn without_hosts(root: &Root, gatherer: &mut Gatherer) {
    // there may be hosts that could not be read; that there are no sites at all is told elsewhere
    if root.sites.is_empty() || gatherer.failed() {
        return;
    }
    for apex in root.zones.iter().filter_map(|it| it.value.name.as_ref()) {
        let mut hosts = root.sites.iter().flat_map(|it| &it.value.hosts);
        let nearer = |host: &HostPattern| {
            let above = |other: &&str| other.len() > apex.value.0.len() && is_in(host, other);
            matches!(host, HostPattern::Exact(_)) && apexes(root).any(|other| above(&other))
        };
        if !hosts.any(|host| is_in(&host.value, &apex.value.0) && !nearer(&host.value)) {
            let found =
                "no site has a host in it: but for what is written here, all names in it do not exist (NXDOMAIN)";
            let expected = format!("a site with a host such as `www.{}`", apex.value);
            gatherer.warning(apex.place, &format!("zone `{}`", apex.value), found, expected);
        }
    }
}

/// Whether DNS has a name for a site.
pub(super) fn answers_for(root: &Root, site: &SiteSection) -> bool {
    site.hosts.iter().any(|host| apexes(root).any(|apex| is_in(&host.value, apex)))
}

fn apexes(root: &Root) -> impl Iterator<Item = &str> {
    root.zones.iter().filter_map(|it| Some(it.value.name.as_ref()?.value.0.as_str()))
}

/// Whether names in a zone lead to a site with this host. A pattern above the zone has them all.
fn is_in(host: &HostPattern, apex: &str) -> bool {
    match host {
        HostPattern::Exact(name) => HostName::within(name, apex),
        HostPattern::Suffix(suffix) => HostName::within(suffix, apex) || HostName::within(apex, suffix),
        HostPattern::Any => false,
    }
}
