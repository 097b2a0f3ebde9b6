//! Fetching anew behind the client's back: what is stale and may be served meanwhile, and what soon would be.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use rules::{
    caching::{self, SearchVariance, ranges::Span},
    key::{self, Key},
    purge::fill::Vouch,
};
use wire::entry::Body;

use super::shelf::Found;
use crate::{
    fill::{self, Job, Need, Wanted, Way, slices},
    snapshot::Shared,
};

/// Of the hits near the end of a lifetime one in so many fetches anew: what is asked for often is surely fetched in time,
/// what is asked for once hardly ever for nothing.
const ONE_IN: u32 = 16;

/// Nobody waits for what is fetched here.
const UNBOUND: Vouch = Vouch { bound_ms: None, since_ms: 0, now_ms: 0 };

/// Whether this hit is the one to fetch anew before its lifetime is over.
pub(super) fn is_due(found: &Found, ttl_s: i64) -> bool {
    static HITS: AtomicU32 = AtomicU32::new(0);
    caching::nearly_over(&found.object.freshness, ttl_s) && HITS.fetch_add(1, Ordering::Relaxed).is_multiple_of(ONE_IN)
}

/// Fetches anew, unless that is under way.
pub(super) fn start(shared: &Arc<Shared>, wanted: Arc<Wanted>, found: Found) {
    let sliced = matches!(found.object.body, Body::Chunked { chunk_bytes: slices::SLICE_BYTES, .. });
    let part = sliced.then(|| slices::around(0, Some(0)));
    let key = flown(found.key, part);
    let way = way(&found, Way::Owner);
    let job = Job { key, stale: Some((found.key, found.object)), conditional: true, way, part, wanted };
    // nobody waits: the seat is given up at once, the fetch goes on
    let need = Need { vouch: UNBOUND, after: None };
    drop(fill::board(shared, &job, need, None, || false));
}

/// Whom to ask whether a stored object is still good. If it stands for other URLs too, only the origin can say that it is good
/// for all of them; else whoever is asked `otherwise`.
pub(super) fn way(found: &Found, otherwise: Way) -> Way {
    if SearchVariance::of(&found.object.headers).is_some() { Way::AfterArrival } else { otherwise }
}

/// What requests meet under that want the same.
pub(super) fn flown(key: Key, part: Option<Span>) -> Key {
    match part {
        Some((first, _)) => key::part(key, Some(first / u64::from(slices::SLICE_BYTES))),
        None => key,
    }
}
