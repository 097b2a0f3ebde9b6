//! What is stored for another query and answers this one too, by its `No-Vary-Search`. Asked only when nothing is stored
//! for the URL itself: one more look into memory on a miss, and none on a hit.

use std::borrow::Cow;

use http::HeaderMap;
use rules::{
    caching::SearchVariance,
    key::{self, Key, Target},
};
use wire::entry::Entry;

use super::{
    shelf::{self, Found, Look, Shelf},
    sites::Served,
    spine::Asked,
};
use crate::snapshot::Shared;

/// The key of a request's path without its query, with what else the route has in the key.
#[must_use]
pub fn path_key(shared: &Shared, served: &Served, asked: &Asked<'_>, headers: &HeaderMap) -> Key {
    if asked.target.query.is_none() {
        return asked.primary;
    }
    let site = &served.site;
    let path = Target { path: Cow::Borrowed(&asked.target.path), query: None };
    let primary = key::primary(&shared.secret, &site.tenant, &site.name, asked.https, asked.authority, &path);
    asked.keyed.map_or(primary, |rules| key::with_declared(&shared.secret, primary, rules, headers))
}

/// What is in memory under a key that stands for this URL too, with that key.
pub(super) fn in_memory(
    shared: &Shared,
    served: &Served,
    asked: &Asked<'_>,
    headers: &HeaderMap,
) -> Option<(Key, Entry)> {
    let path = path_key(shared, served, asked, headers);
    let Entry::Search(index) = shared.objects.memory(key::search_index(&shared.secret, path))? else { return None };
    keys(shared, path, asked, &index.variances).find_map(|key| Some((key, shared.objects.memory(key)?)))
}

/// What is in memory or on disk under a key that stands for this URL too.
pub(super) async fn shelf(
    shared: &Shared,
    look: Look,
    served: &Served,
    asked: &Asked<'_>,
    headers: &HeaderMap,
    now: u64,
) -> Shelf {
    let path = path_key(shared, served, asked, headers);
    let index = key::search_index(&shared.secret, path);
    if !shared.objects.contains(index) {
        return Shelf::Nothing;
    }
    let Some(Entry::Search(index)) = look.at(shared, index).await else { return Shelf::Nothing };
    for key in keys(shared, path, asked, &index.variances) {
        if let Shelf::Found(found) = shelf::shelf(shared, look, key, headers, now).await {
            return Shelf::Found(Found { presented: Some(presented(served, asked)), ..found });
        }
    }
    Shelf::Nothing
}

/// What a purge names this URL by: what is stored for others and served for it must stand that, too.
pub(super) fn presented(served: &Served, asked: &Asked<'_>) -> Box<[u64]> {
    Box::new([served.guard.url_key(asked.host, &asked.target.path, asked.target.query.as_deref())])
}

fn keys<'a>(
    shared: &'a Shared,
    path: Key,
    asked: &'a Asked<'_>,
    variances: &'a [SearchVariance],
) -> impl Iterator<Item = Key> {
    let query = asked.target.query.as_deref();
    variances.iter().map(move |variance| key::searched(&shared.secret, path, variance, query))
}

/// The targets that are one with a URL by what responses of its path said, as purges name them.
#[must_use]
pub fn canonical(shared: &Shared, path_key: Key, target: &Target<'_>) -> Vec<String> {
    let Some(Entry::Search(index)) = shared.objects.memory(key::search_index(&shared.secret, path_key)) else {
        return Vec::new();
    };
    let path = &target.path;
    let one = |variance: &SearchVariance| match variance.canonical(target.query.as_deref()) {
        Some(query) => format!("{path}?{query}"),
        None => path.to_string(),
    };
    index.variances.iter().map(one).collect()
}
