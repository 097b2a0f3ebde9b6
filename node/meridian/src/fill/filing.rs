//! Under which keys a response is filed, and the indexes that lead to it.

use std::sync::{Arc, atomic::AtomicU64};

use http::HeaderMap;
use rules::{
    caching::{Reason, SearchVariance, VarySpec},
    key::{self, Key},
    purge::{Standing, fill::Made},
};
use wire::entry::{Entry, Object, SEARCH_VARIANCES_MAX, SearchIndex, VARIANTS_MAX, VaryIndex};

use super::Wanted;
use crate::{clock, snapshot::Shared};

/// Orders of request fields that one URL's variants may be told apart by.
const SPECS_MAX: usize = 8;

/// Where a response is filed.
#[derive(Debug, Clone)]
pub struct Filed {
    /// The key of its URL, or of all URLs that are one by its `No-Vary-Search`.
    pub primary: Key,
    /// What it does not vary by.
    pub variance: Option<SearchVariance>,
    /// Which request fields it depends on, with the key that the leader's request selects.
    pub vary: Option<(VarySpec, Key)>,
}

impl Filed {
    /// Where a response to a request is filed.
    ///
    /// What another node answered from its store is filed under this URL alone, even if it says that it stands for others:
    /// that node has seen that no purge named *this* URL, and the response's new stamp would hide one that named another.
    pub(super) fn of(
        shared: &Shared,
        wanted: &Wanted,
        made: Made,
        headers: &HeaderMap,
        vary: Option<VarySpec>,
    ) -> Self {
        let variance = SearchVariance::of(headers).filter(|_| made == Made::AtOrigin);
        let primary = match &variance {
            Some(variance) => key::searched(&shared.secret, wanted.path_key, variance, wanted.query.as_deref()),
            None => wanted.primary,
        };
        let vary = vary.map(|spec| {
            let key = key::variant(&shared.secret, primary, &spec, &wanted.headers);
            (spec, key)
        });
        Self { primary, variance, vary }
    }

    /// The key that the response itself stands under.
    #[must_use]
    pub fn key(&self) -> Key {
        self.vary.as_ref().map_or(self.primary, |(_, key)| *key)
    }

    /// Whether there is room for it: a URL has so many variants and no more.
    ///
    /// # Errors
    /// [`Reason::VariantCap`] if there is none.
    pub(super) fn has_room(&self, shared: &Shared, wanted: &Wanted) -> Result<(), Reason> {
        let Some((_, key)) = &self.vary else { return Ok(()) };
        let Some(Entry::Vary(index)) = shared.objects.memory(self.primary) else { return Ok(()) };
        let most = most(wanted);
        if index.variants.contains(key) || index.variants.len() < most {
            return Ok(());
        }
        let living = index.variants.iter().filter(|key| lives(shared, wanted, **key)).count();
        if living < most { Ok(()) } else { Err(Reason::VariantCap) }
    }
}

fn most(wanted: &Wanted) -> usize {
    usize::try_from(wanted.policy().variants_max).unwrap_or(VARIANTS_MAX).min(VARIANTS_MAX)
}

/// Whether something that may still be served stands under a variant's key.
fn lives(shared: &Shared, wanted: &Wanted, key: Key) -> bool {
    match shared.objects.memory(key) {
        Some(Entry::Object(object)) => object.freshness.ttl_s(clock::unix_ms()) > 0 && !is_purged(wanted, &object),
        Some(_) => false,
        None => shared.objects.contains(key),
    }
}

fn is_purged(wanted: &Wanted, object: &Object) -> bool {
    let verified = AtomicU64::new(object.stamp.0);
    wanted.served.guard.standing(object.stamp, &verified, &object.purge_keys) == Standing::Stale
}

/// Makes a stored response findable.
pub(super) fn index(shared: &Shared, wanted: &Wanted, filed: &Filed) {
    if let Some(variance) = &filed.variance {
        index_search(shared, wanted, variance);
        // what stands under the URL itself would be found first, and be asked for again and again
        if shared.objects.contains(wanted.primary) {
            shared.objects.remove(wanted.primary);
        }
    }
    if let Some((spec, key)) = &filed.vary {
        index_variant(shared, wanted, filed.primary, spec, *key);
    }
}

/// Files which request fields tell this URL's variants apart, newest first, and which variants there are.
fn index_variant(shared: &Shared, wanted: &Wanted, primary: Key, spec: &VarySpec, key: Key) {
    let mut specs = vec![spec.clone()];
    let mut variants = Vec::new();
    if let Some(Entry::Vary(index)) = shared.objects.memory(primary) {
        if index.specs.first() == Some(spec) && index.variants.contains(&key) {
            return;
        }
        specs.extend(index.specs.iter().filter(|known| *known != spec).take(SPECS_MAX - 1).cloned());
        variants.extend(index.variants.iter().filter(|known| **known != key));
        if variants.len() >= most(wanted) {
            variants.retain(|key| lives(shared, wanted, *key));
        }
    }
    variants.push(key);
    let surplus = variants.len().saturating_sub(VARIANTS_MAX);
    variants.drain(..surplus);
    let entry = Entry::Vary(Arc::new(VaryIndex { specs, variants }));
    shared.objects.insert(&wanted.served.permit, primary, entry);
}

/// Files what responses of this path do not vary by, newest first.
fn index_search(shared: &Shared, wanted: &Wanted, variance: &SearchVariance) {
    let key = key::search_index(&shared.secret, wanted.path_key);
    let mut variances = vec![variance.clone()];
    if let Some(Entry::Search(index)) = shared.objects.memory(key) {
        if index.variances.first() == Some(variance) {
            return;
        }
        let others = index.variances.iter().filter(|known| *known != variance);
        variances.extend(others.take(SEARCH_VARIANCES_MAX - 1).cloned());
    }
    let entry = Entry::Search(Arc::new(SearchIndex { variances }));
    shared.objects.insert(&wanted.served.permit, key, entry);
}
