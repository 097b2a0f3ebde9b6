//! Sites: one tenant's fault names its site, and never hides another's.

mod route;

use std::collections::{BTreeMap, BTreeSet};

use super::{Known, node, steering, unique, unknown};
use crate::{
    config::{Deadlines, HostPattern, MisroutedTls},
    fault::{Gatherer, Place},
    host::OriginUrl,
    shape::At,
    written::{DeadlinesSection, HealthSection, OriginSection, Root, SiteSection},
};

pub(super) fn check(root: &Root, known: &Known<'_>, gatherer: &mut Gatherer) {
    unique(root.sites.iter().filter_map(|it| it.value.name.as_ref()), "site", "", gatherer);
    hosts(root, gatherer);
    if root.sites.is_empty() {
        gatherer.warning(
            root.place,
            "",
            "there is no site, so nothing is served",
            "`[[sites]]` with `hosts` and `origin`",
        );
    }
    for site in &root.sites {
        let about = about(&site.value);
        pin(&site.value, &about, known, gatherer);
        misrouted(&site.value, &about, gatherer);
        relayed(&site.value, &about, gatherer);
        origins(site, &about, root, gatherer);
        routes(&site.value, &about, gatherer);
        steering::check(&site.value, &about, root, known, gatherer);
    }
    steering::different(root, gatherer);
}

pub(super) fn about(site: &SiteSection) -> String {
    site.name.as_ref().map_or_else(String::new, |it| format!("site `{}`", it.value))
}

/// A host belongs to one site.
fn hosts(root: &Root, gatherer: &mut Gatherer) {
    let mut claimed: BTreeMap<String, (Place, &SiteSection)> = BTreeMap::new();
    for site in &root.sites {
        for host in &site.value.hosts {
            if let Some((place, other)) = claimed.get(&host.value.to_string()) {
                let whose = if std::ptr::eq(*other, &raw const site.value) { String::new() } else { about(other) };
                let by = if whose.is_empty() { String::new() } else { format!(" by {whose}") };
                let found = format!("host `{}` is claimed already{by} at {}", host.value, gatherer.name_of(*place));
                gatherer.error(host.place, &about(&site.value), found, "each host at one site");
                continue;
            }
            claimed.insert(host.value.to_string(), (host.place, &site.value));
        }
    }
}

fn pin(site: &SiteSection, about: &str, known: &Known<'_>, gatherer: &mut Gatherer) {
    let Some(pin) = &site.pin else { return };
    match known.jurisdictions.get(&pin.value) {
        None if known.jurisdictions_whole => {
            unknown(pin, "jurisdiction", about, known.jurisdictions.keys().map(|it| it.as_str()), gatherer);
        }
        Some(false) => {
            let found = format!("it is pinned to `{}`, but no region lies there", pin.value);
            gatherer.error(pin.place, about, found, "a jurisdiction with a region, or nobody could serve it");
        }
        Some(true) | None => {}
    }
}

/// Who is sent there has to be answered there, and must not be sent on.
fn misrouted(site: &SiteSection, about: &str, gatherer: &mut Gatherer) {
    let Some(to) = &site.misrouted_to else { return };
    let own = |host: &At<HostPattern>| matches!(&host.value, HostPattern::Exact(name) if *name == to.value.0);
    if site.pin.is_none() {
        let found = "`misrouted_to` of a site that may be everywhere: no node is the wrong one";
        gatherer.error(to.place, about, found, "`pin` beside it");
    } else if !site.hosts.iter().any(own) {
        let found = format!("`misrouted_to` is `{}`, which is none of its hosts", to.value.0);
        gatherer.error(to.place, about, found, "one of `hosts`, written out");
    }
}

/// Only a node with the site's key can end what is relayed to it.
fn relayed(site: &SiteSection, about: &str, gatherer: &mut Gatherer) {
    let Some(at) = site.misrouted_tls.as_ref().filter(|it| it.value == MisroutedTls::Relay) else { return };
    if site.pin.is_none() {
        let found = "`misrouted_tls = \"relay\"` of a site that may be everywhere: no node is the wrong one";
        gatherer.error(at.place, about, found, "`pin` beside it");
    } else if !site.written.contains(&"tls") {
        let found = "`misrouted_tls = \"relay\"` of a site without a certificate: there is no TLS to relay";
        gatherer.error(at.place, about, found, "`tls` beside it");
    }
}

fn origins(site: &At<SiteSection>, about: &str, root: &Root, gatherer: &mut Gatherer) {
    let SiteSection { origin, origins, .. } = &site.value;
    match (origin, origins.as_slice()) {
        (None, []) if !["origin", "origins"].iter().any(|key| site.value.written.contains(key)) => {
            let expected = "where its responses come from, such as `origin = \"http://127.0.0.1:3000\"`";
            gatherer.error(site.place, about, "no `origin`", expected);
        }
        (Some(short), [_, ..]) => {
            gatherer.error(short.place, about, "both `origin` and `origins`", "one or the other");
        }
        (Some(_) | None, _) => {}
    }
    let urls = origin.iter().chain(origins.iter().filter_map(|it| it.value.url.as_ref()));
    for url in urls.filter(|it| node::is_own_listener(root, &it.value.host, it.value.port)) {
        let OriginUrl { host, port, .. } = &url.value;
        let found = format!("the origin {host}:{port} is this node's own listener");
        gatherer.error(url.place, about, found, "another address: requests would go round in a circle");
    }
    if let (Some(first), [] | [_]) = (site.value.failover_on.first(), origins.as_slice()) {
        let found = "`failover_on` with one origin: there is no other to ask";
        gatherer.warning(first.place, about, found, "two or more `[[sites.origins]]`");
    }
    let mut names = BTreeSet::new();
    for section in origins {
        let Some(url) = &section.value.url else { continue };
        let (name, place) = match &section.value.name {
            Some(name) => (name.value.0.clone(), name.place),
            None => (url.value.to_string(), url.place),
        };
        let about = format!("{about}: origin `{name}`");
        times(&section.value, &about, gatherer);
        if let (Some(identity), false) = (&section.value.identity, url.value.tls) {
            let found = "`identity` for an origin in clear text, which asks for no certificate";
            gatherer.error(identity.place, &about, found, "an origin with `https://`");
        }
        if !names.insert(name) {
            gatherer.error(place, &about, "another origin of the site has this name", "a `name` of its own");
        }
    }
}

fn times(origin: &OriginSection, about: &str, gatherer: &mut Gatherer) {
    if let Some(section) = &origin.deadlines {
        deadlines(section, about, gatherer);
    }
    let Some(HealthSection { interval, timeout, .. }) = origin.health.as_ref().map(|it| &it.value) else { return };
    if let (Some(timeout), Some(interval)) = (timeout, interval)
        && timeout.value.0 > interval.value.0
    {
        let found = "`health.timeout` is longer than `health.interval`";
        gatherer.error(timeout.place, about, found, "an answer before the next question");
    }
}

fn deadlines(section: &At<DeadlinesSection>, about: &str, gatherer: &mut Gatherer) {
    let DeadlinesSection { connect, first_byte, between_bytes, total, .. } = &section.value;
    let total_ms = total.as_ref().map_or(Deadlines::default().total_ms, |it| it.value.0);
    let steps = [
        ("connect", connect.as_ref().map(|it| (it.value.0, it.place))),
        ("first_byte", first_byte.as_ref().map(|it| (it.value.0, it.place))),
        ("between_bytes", between_bytes.as_ref().map(|it| (it.value.0, it.place))),
    ];
    for (name, step) in steps {
        let Some((_, place)) = step.filter(|(ms, _)| *ms > total_ms) else { continue };
        let found = format!("`deadlines.{name}` is longer than `deadlines.total`");
        gatherer.error(place, about, found, "a step no longer than the whole");
    }
}

fn routes(site: &SiteSection, about: &str, gatherer: &mut Gatherer) {
    let paths = site.routes.iter().filter_map(|it| it.value.path.as_ref());
    unique(paths, "route", about, gatherer);
    for it in &site.routes {
        route::check(&it.value, about, gatherer);
    }
}
