//! Finding what is stored for a request, and what of it would have to be fetched.

use std::sync::Arc;

use http::{HeaderMap, header, request::Parts};
use rules::{
    caching::{
        Reason,
        ranges::{self, Selection, Span},
    },
    key::{self, Key},
};
use wire::entry::{Entry, Object};

use super::{
    answer::Stock,
    coded::Codes,
    spine::{Asked, is_head},
};
use crate::{
    fill::{Wanted, slices},
    snapshot::Shared,
};

/// A stored object that was found, with the key it stands under.
pub(super) struct Found {
    pub(super) key: Key,
    pub(super) object: Arc<Object>,
    /// What purges name the URL by that was asked for, if it was found for another one.
    pub(super) presented: Option<Box<[u64]>>,
}

impl Found {
    /// What is served of it.
    pub(super) fn stock<'a>(&'a self, refill: &'a dyn Fn() -> Arc<Wanted>, codes: Codes) -> Stock<'a> {
        Stock { object: &self.object, key: self.key, refill: Some(refill), codes }
    }
}

/// What the store says about a key.
pub(super) enum Shelf {
    Found(Found),
    /// Variants are there, but not this one; the key that this request's would have.
    OtherVariants(Key),
    /// Its answers were private a moment ago.
    Private(Reason),
    Nothing,
}

/// Picks from what stands under the primary key; `variant` looks under a variant's key.
pub(super) fn pick(
    shared: &Shared,
    primary: Key,
    headers: &HeaderMap,
    now: u64,
    entry: Option<Entry>,
    mut variant: impl FnMut(Key) -> Option<Entry>,
) -> Shelf {
    match entry {
        Some(Entry::Object(object)) => Shelf::Found(Found { key: primary, object, presented: None }),
        Some(Entry::HitForMiss { until_unix_ms, reason }) if until_unix_ms > now => {
            Shelf::Private(Reason::from_code(reason).unwrap_or(Reason::HitForMiss))
        }
        Some(Entry::Vary(index)) => {
            let mut first = None;
            for spec in &index.specs {
                let key = key::variant(&shared.secret, primary, spec, headers);
                first.get_or_insert(key);
                if let Some(Entry::Object(object)) = variant(key) {
                    return Shelf::Found(Found { key, object, presented: None });
                }
            }
            first.map_or(Shelf::Nothing, Shelf::OtherVariants)
        }
        _ => Shelf::Nothing,
    }
}

/// How the store is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// For a request: what is found gets warm.
    Use,
    /// For an explanation, which leaves everything as it was.
    Peek,
}

impl Look {
    /// What stands under a key, in memory or on disk.
    pub(super) async fn at(self, shared: &Shared, key: Key) -> Option<Entry> {
        match self {
            Self::Use => shared.objects.lookup(key).await,
            Self::Peek => shared.objects.peek(key).await,
        }
    }
}

/// What stands under a primary key, in memory or on disk.
pub(super) async fn shelf(shared: &Shared, look: Look, primary: Key, headers: &HeaderMap, now: u64) -> Shelf {
    let entry = look.at(shared, primary).await;
    if let Some(Entry::Vary(index)) = &entry {
        for spec in &index.specs {
            let key = key::variant(&shared.secret, primary, spec, headers);
            if let Some(Entry::Object(object)) = look.at(shared, key).await {
                return Shelf::Found(Found { key, object, presented: None });
            }
        }
    }
    pick(shared, primary, headers, now, entry, |_| None)
}

/// Which slices are fetched for a request: `Some(None)` if the whole is. None if the origin must be asked for just what
/// the client asked for: for a suffix or several parts of what is not known, and where slices cannot be kept.
#[expect(clippy::option_option, reason = "a part, the whole, or neither")]
pub(super) fn part(
    shared: &Shared,
    asked: &Asked<'_>,
    parts: &Parts,
    found: Option<&Found>,
    now: u64,
) -> Option<Option<Span>> {
    let headers = &parts.headers;
    if is_head(&parts.method) || !headers.contains_key(header::RANGE) {
        return Some(None);
    }
    if let Some(found) = found {
        let length = found.object.body.length();
        return Some(match ranges::select(headers, found.object.status, &found.object.headers, length) {
            Selection::Part { first, last } if length > u64::from(slices::SLICE_BYTES) => {
                Some(slices::around(first, Some(last)))
            }
            _ => None,
        });
    }
    let (first, last) = ranges::asked(headers)?;
    match shared.objects.memory(key::part(asked.primary, None)) {
        Some(Entry::HitForMiss { until_unix_ms, reason }) if until_unix_ms > now => {
            (reason == Reason::RangesIgnored.code()).then_some(None)
        }
        _ => Some(Some(slices::around(first, last))),
    }
}
