//! What routes declare about keys, done to a request: its query reduced, its fields dressed, its key made of the parts
//! that are declared. A route that declares nothing costs nothing here.

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use http::{HeaderMap, Uri, request::Parts};
use region_config::{KeyRules, Policy};
use rules::{
    caching::{self, Demand, Groups, Ordered},
    key::{self, Facts, Key, Target},
    purge::{Mode, PurgeKey},
};

use super::{
    searched,
    sites::{Lodger, Served},
    spine::{Asked, Caller},
};
use crate::snapshot::Shared;

/// The target with what the route leaves of its query.
#[must_use]
pub fn target<'a>(policy: &Policy, target: Target<'a>) -> Target<'a> {
    match &policy.query {
        Some(rules) => key::reduced(rules, target),
        None => target,
    }
}

/// The request in the form that the route wants, if that is another than it came in.
#[must_use]
pub fn dressed(shared: &Shared, caller: Caller, policy: &Policy, parts: &Parts) -> Option<Parts> {
    if policy.key.is_none() && policy.normalise.is_none() {
        return None;
    }
    let facts = match caller {
        Caller::Client { address, .. } => Some(facts(shared, policy.key.as_deref(), address)),
        // the node where the client came in has said them
        Caller::Peer { .. } => None,
    };
    let mut parts = parts.clone();
    key::dress(policy, facts, &mut parts.headers);
    Some(parts)
}

/// What is known of an address, as far as the route asks for it.
#[must_use]
pub fn facts(shared: &Shared, rules: Option<&KeyRules>, address: IpAddr) -> Facts {
    if !rules.is_some_and(|rules| rules.country) {
        return Facts::default();
    }
    let base = shared.geo.load();
    Facts { country: base.as_ref().and_then(|base| base.ranges().location(address).country) }
}

impl<'a> Asked<'a> {
    /// The same with what the route declares: more parts in the key, and what clients may ask of the cache. `headers` are
    /// those of the [`dressed`] request.
    #[must_use]
    pub(super) fn declared(self, shared: &Shared, policy: &'a Policy, headers: &HeaderMap) -> Self {
        let rules = policy.key.as_deref();
        let primary = rules.map(|rules| key::with_declared(&shared.secret, self.primary, rules, headers));
        Self {
            primary: primary.unwrap_or(self.primary),
            keyed: rules,
            demand: Demand::of(policy, headers),
            ahead: policy.refresh_ahead,
            bound_ms: policy.max_staleness_ms,
            ..self
        }
    }
}

/// What the answer to an unsafe request voids, as purges name it: its URL and those that the answer names, as far as this
/// node has them stored or is fetching them, and the groups that it names (RFC 9875 section 3).
#[must_use]
pub fn voided(shared: &Shared, served: &Served, asked: &Asked<'_>, answered: &HeaderMap, urls: bool) -> Vec<PurgeKey> {
    let mut keys = Vec::new();
    if urls {
        let mut targets = vec![asked.target.to_string()];
        targets.extend(caching::also_invalidated(asked.https, asked.authority, &asked.target.path, answered));
        keys.extend(targets.iter().flat_map(|target| voided_urls(shared, served, asked, target)));
    }
    match caching::invalidated_groups(asked.https, asked.authority, answered) {
        Groups::Listed(tags) => keys.extend(tags.into_iter().map(PurgeKey::Tag)),
        Groups::Oversize => tracing::debug!("more groups than are taken are left as they are"),
    }
    keys
}

/// What an origin's answer orders to be purged: hard and softly; and how much of it cannot be.
#[must_use]
pub(super) fn ordered(
    shared: &Shared,
    served: &Served,
    host: &str,
    answered: &HeaderMap,
) -> (Vec<PurgeKey>, Vec<PurgeKey>, usize) {
    let Ordered { tags, urls, site, mut left_out } = Ordered::of(answered);
    let mut hard: Vec<PurgeKey> = tags.into_iter().map(|tag| PurgeKey::Tag(tag.to_owned())).collect();
    for url in urls {
        match ordered_url(shared, served, host, url) {
            Some(key) => hard.push(key),
            None => left_out += 1,
        }
    }
    match site {
        Some(Mode::Hard) => (vec![PurgeKey::Site], Vec::new(), left_out),
        Some(Mode::Soft) => (hard, vec![PurgeKey::Site], left_out),
        None => (hard, Vec::new(), left_out),
    }
}

/// A path of the request's host, or a URL with a host of the site.
fn ordered_url(shared: &Shared, served: &Served, host: &str, text: &str) -> Option<PurgeKey> {
    let uri = text.parse::<Uri>().ok().filter(|_| !text.contains('#'))?;
    let host = match uri.authority() {
        None => host.to_owned(),
        Some(authority) => {
            let named = authority.host().trim_end_matches('.').to_ascii_lowercase();
            let sites = shared.sites.load();
            let Some(Lodger::Served(of)) = sites.find(&named) else { return None };
            (of.site.name == served.site.name).then_some(named)?
        }
    };
    let parsed = key::target(&uri).ok()?;
    let reduced = target(served.policy(&parsed.path), parsed.clone());
    Some(PurgeKey::Url { host, target: reduced.to_string() })
}

/// A URL in the forms that it is filed under, if something of it may be stored here: most writes are to URLs that nobody
/// caches.
fn voided_urls(shared: &Shared, served: &Served, asked: &Asked<'_>, text: &str) -> Vec<PurgeKey> {
    let parsed = text.parse::<Uri>().ok();
    let Some(parsed) = parsed.as_ref().and_then(|uri| key::target(uri).ok()) else { return Vec::new() };
    let policy = served.policy(&parsed.path);
    let reduced = target(policy, parsed);
    let key_of = |target: &Target<'_>| {
        let site = &served.site;
        key::primary(&shared.secret, &site.tenant, &site.name, asked.https, asked.authority, target)
    };
    let path = Target { path: Cow::Borrowed(&reduced.path), query: None };
    let mut targets = searched::canonical(shared, key_of(&path), &reduced);
    // under which keys it is stored is not known where more than the URL is in them
    if !targets.is_empty() || policy.key.is_some() || is_stored(shared, key_of(&reduced)) {
        targets.push(reduced.to_string());
    }
    targets.dedup();
    targets.into_iter().map(|target| PurgeKey::Url { host: asked.host.to_owned(), target }).collect()
}

/// Whether something is stored, or being fetched: what is under way may have been made before the write.
fn is_stored(shared: &Shared, key: Key) -> bool {
    shared.objects.memory(key).is_some() || shared.objects.contains(key) || shared.flights.is_under_way(key)
}

/// Whether a config has a route that asks where clients are.
#[must_use]
pub fn asks_for_countries(config: &region_config::Config) -> bool {
    let routes = |site: &Arc<region_config::Site>| {
        site.routes.iter().any(|route| route.policy.key.as_ref().is_some_and(|key| key.country))
    };
    config.sites.iter().any(routes)
}
