//! From a host name to the site that answers for it: compiled once per config, asked on every request.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use region_config::{Config, HostPattern, JurisdictionId, PathPattern, Policy, Route, Site};
use rules::{
    purge::SiteGuard,
    relay::Ways,
    residency::{self, Permit},
};

use crate::{
    ledger::{Ledgers, Realm},
    observe::{Observe, RelayCounters, SiteCounters},
};

/// A site that this node may serve: what a request for it needs at hand.
#[derive(Debug)]
pub struct Served {
    /// What the operator said.
    pub site: Arc<Site>,
    /// Its index in the config.
    pub place: usize,
    /// The right to touch its data.
    pub permit: Permit,
    /// The ledger of its realm.
    pub realm: Arc<Realm>,
    /// Whether something stored was purged since.
    pub guard: Arc<SiteGuard>,
    /// What is counted about it.
    pub counters: Arc<SiteCounters>,
}

impl Served {
    /// The policy for a path: that of the first route that matches.
    #[must_use]
    pub fn policy(&self, path: &str) -> &Policy {
        static DEFAULT: std::sync::LazyLock<Policy> = std::sync::LazyLock::new(Policy::default);
        route(&self.site, path).map_or_else(|| &*DEFAULT, |route| &route.policy)
    }
}

/// The first route of a site that matches a path: they are kept most specific first.
#[must_use]
pub fn route<'a>(site: &'a Site, path: &str) -> Option<&'a Route> {
    site.routes.iter().find(|route| matches(&route.path, path))
}

/// Whether a route's pattern covers a path; prefixes end on `/` borders.
fn matches(pattern: &PathPattern, path: &str) -> bool {
    match pattern {
        PathPattern::Exact(exact) => path == exact,
        PathPattern::Prefix(prefix) => {
            path.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
    }
}

/// What a host name leads to on this node.
#[derive(Debug, Clone)]
pub enum Lodger {
    /// A site that this node serves.
    Served(Arc<Served>),
    /// A site whose data may not be here: refuse, touch nothing, say nothing. Beside what the config says of it, nothing is
    /// at hand.
    Outside(Arc<Outside>),
}

/// A site whose data may not be on this node.
#[derive(Debug)]
pub struct Outside {
    /// What the operator said.
    pub site: Arc<Site>,
    /// How its clients' connections are passed on, if the operator wants it.
    pub(super) relay: Option<Relay>,
}

/// What passing on a site's connections needs at hand.
#[derive(Debug)]
pub(super) struct Relay {
    /// Where to.
    pub(super) ways: Ways,
    /// What is counted of it.
    pub(super) counters: Arc<RelayCounters>,
}

/// All sites by host.
#[derive(Debug, Default)]
pub struct Sites {
    exact: HashMap<Box<str>, Lodger>,
    suffix: HashMap<Box<str>, Lodger>,
    any: Option<Lodger>,
}

impl Sites {
    /// Compiles the table for a node that is certified for `here`.
    #[must_use]
    pub fn compile(config: &Config, here: &JurisdictionId, ledgers: &Ledgers, observe: &Observe) -> Self {
        let mut sites = Self::default();
        for (place, site) in config.sites.iter().enumerate() {
            let lodger = lodge(config, (place, site), here, ledgers, observe);
            for host in &site.hosts {
                match host {
                    HostPattern::Exact(name) => {
                        sites.exact.insert(name.as_str().into(), lodger.clone());
                    }
                    HostPattern::Suffix(name) => {
                        sites.suffix.insert(name.as_str().into(), lodger.clone());
                    }
                    HostPattern::Any => sites.any = Some(lodger.clone()),
                }
            }
        }
        sites
    }

    /// Finds who answers for a host (as [`bare_host`] gives it): its exact name, then the longest suffix, then `*`.
    #[must_use]
    pub fn find(&self, host: &str) -> Option<&Lodger> {
        if let Some(found) = self.exact.get(host) {
            return Some(found);
        }
        if !self.suffix.is_empty() {
            let mut rest = host;
            while let Some((_, parent)) = rest.split_once('.') {
                if let Some(found) = self.suffix.get(parent) {
                    return Some(found);
                }
                rest = parent;
            }
        }
        self.any.as_ref()
    }
}

/// Decides whether a site may be here, and gathers what serving it needs.
fn lodge(
    config: &Config,
    (place, site): (usize, &Arc<Site>),
    here: &JurisdictionId,
    ledgers: &Ledgers,
    observe: &Observe,
) -> Lodger {
    let outside = || {
        let ways = Ways::of(config, site, &config.node.region, here);
        let relay = ways.map(|ways| Relay { ways, counters: observe.relays().site(&site.name) });
        Lodger::Outside(Arc::new(Outside { site: Arc::clone(site), relay }))
    };
    let Ok(permit) = residency::permit(site, here) else { return outside() };
    let Some(realm) = ledgers.realm(permit.realm()) else { return outside() };
    Lodger::Served(Arc::new(Served {
        site: Arc::clone(site),
        place,
        guard: realm.guard(&site.name),
        realm: Arc::clone(realm),
        counters: observe.site(&site.name),
        permit,
    }))
}

/// A host without port and last dot, in lower case; borrowed where it is so already.
#[must_use]
pub fn bare_host(authority: &str) -> Cow<'_, str> {
    let host = match authority.rfind(':') {
        Some(colon) if authority[colon + 1..].bytes().all(|b| b.is_ascii_digit()) => &authority[..colon],
        _ => authority,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_on_a_slash() {
        let prefix = PathPattern::Prefix("/a".into());
        assert!(matches(&prefix, "/a") && matches(&prefix, "/a/") && matches(&prefix, "/a/b"));
        assert!(!matches(&prefix, "/ab") && !matches(&prefix, "/"));
        assert!(matches(&PathPattern::Prefix(String::new()), "/anything"));
    }

    #[test]
    fn a_host_is_told_from_its_port() {
        for (authority, host) in [
            ("Example.COM:80", "example.com"),
            ("example.com.", "example.com"),
            ("[::1]:8080", "[::1]"),
            ("[::1]", "[::1]"),
            ("127.0.0.1:1", "127.0.0.1"),
        ] {
            assert_eq!(bare_host(authority), host);
        }
    }
}
