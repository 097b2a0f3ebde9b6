//! Tokens of applications, and the listener for them.

use std::collections::BTreeMap;

use super::{unique, unknown};
use crate::{
    build,
    fault::Gatherer,
    written::{Root, TokenSection},
};

pub(super) fn check(root: &Root, gatherer: &mut Gatherer) {
    unique(root.tokens.iter().filter_map(|it| it.value.name.as_ref()), "token", "", gatherer);
    let mut sites: BTreeMap<&str, &str> = BTreeMap::new();
    for site in &root.sites {
        let tenant = site.value.tenant.as_ref().map_or(build::DEFAULT_TENANT, |it| it.value.as_str());
        if let Some(name) = &site.value.name {
            sites.insert(name.value.as_str(), tenant);
        }
    }
    let mut digests = BTreeMap::new();
    for token in &root.tokens {
        of(&token.value, &sites, gatherer);
        let Some(digest) = &token.value.digest else { continue };
        if let Some(before) = digests.insert(digest.value.to_string(), digest.place) {
            let found = format!("the digest stands already at {}", gatherer.name_of(before));
            gatherer.error(digest.place, "", found, "a token of its own for each");
        }
    }
    if let Some(purge) = root.purge.as_ref().filter(|_| root.tokens.is_empty()) {
        let found = "[purge] listens, but there is no token";
        gatherer.warning(purge.place, "", found, "`[[tokens]]`, as `meridian token new` prints it");
    }
}

fn of(token: &TokenSection, sites: &BTreeMap<&str, &str>, gatherer: &mut Gatherer) {
    let about = token.name.as_ref().map_or_else(String::new, |it| format!("token `{}`", it.value));
    let tenant = token.tenant.as_ref().map_or(build::DEFAULT_TENANT, |it| it.value.as_str());
    let own: Vec<&str> = sites.iter().filter(|(_, of)| **of == tenant).map(|(site, _)| *site).collect();
    if own.is_empty() {
        let tenants: std::collections::BTreeSet<&str> = sites.values().copied().collect();
        if let Some(tenant) = &token.tenant {
            unknown(tenant, "tenant", &about, tenants, gatherer);
        } else if let Some(name) = &token.name {
            let found = format!("no `tenant`, and no site is of tenant `{tenant}`");
            gatherer.error(name.place, &about, found, "the tenant whose sites the token is for");
        }
        return;
    }
    // an empty list is a slip, and must not mean everything
    for (key, empty) in [("sites", token.sites.is_empty()), ("verbs", token.verbs.is_empty())] {
        if empty && token.written.contains(&key) {
            let found = format!("`{key}` has nothing in it");
            gatherer.error(token.place, &about, found, "at least one, or no such line");
        }
    }
    for site in &token.sites {
        match sites.get(site.value.as_str()) {
            None => unknown(site, "site", &about, own.iter().copied(), gatherer),
            Some(other) if *other != tenant => {
                let found = format!("site `{}` is of tenant `{other}`, and the token of `{tenant}`", site.value);
                gatherer.error(site.place, &about, found, "sites of one tenant");
            }
            Some(_) => {}
        }
    }
}
