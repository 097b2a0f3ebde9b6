//! Whether a stored response is served (RFC 9111 sections 4 and 4.2.4; RFC 5861).

use region_config::Policy;

use super::{Freshness, Reason};
use crate::purge::Standing;

/// What is done with a stored response that matches a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Serve it.
    Serve {
        /// Its age, in seconds: the `Age` to send.
        age_s: u32,
        /// What is left of its lifetime, in seconds.
        ttl_s: i64,
    },
    /// Serve it now and fetch a fresh one behind.
    ServeAndRefresh {
        /// Its age, in seconds: the `Age` to send.
        age_s: u32,
        /// What is left of its lifetime, in seconds: 0 or less if it is stale by age.
        ttl_s: i64,
        /// Why it is refreshed.
        reason: Reason,
    },
    /// Ask the origin, with its validators, whether it still holds.
    Revalidate {
        /// Why.
        reason: Reason,
    },
    /// Fetch anew, without its validators: it was purged, and a 304 would bring it back.
    Refetch {
        /// Why.
        reason: Reason,
    },
}

/// Decides about a stored response. What the client asks for by `Cache-Control` plays no part: no client can make the
/// cache miss.
///
/// A soft purge ends the lifetime, but is also leave to serve the old response while one request refreshes it, as
/// long as the response itself does not forbid that.
#[must_use]
pub fn decide(freshness: &Freshness, standing: Standing, now_unix_ms: u64) -> Decision {
    if standing == Standing::Stale {
        return Decision::Refetch { reason: Reason::Purged };
    }
    if freshness.always_revalidate {
        return Decision::Revalidate { reason: Reason::NoCache };
    }
    let age_s = freshness.age_s(now_unix_ms);
    let ttl_s = freshness.ttl_s(now_unix_ms);
    if age_s < freshness.lifetime_s {
        return match standing {
            Standing::Soft if freshness.must_revalidate => Decision::Revalidate { reason: Reason::SoftPurged },
            Standing::Soft => Decision::ServeAndRefresh { age_s, ttl_s, reason: Reason::SoftPurged },
            Standing::Valid | Standing::Stale => Decision::Serve { age_s, ttl_s },
        };
    }
    if age_s < freshness.lifetime_s.saturating_add(freshness.stale_while_revalidate_s) {
        return Decision::ServeAndRefresh { age_s, ttl_s, reason: Reason::StaleWhileRevalidate };
    }
    Decision::Revalidate { reason: Reason::Stale }
}

/// Whether a stored response may be served since the origin failed (refused, reset, timed out, or answered 500, 502,
/// 503 or 504), and its age in seconds if so.
///
/// The response's own `stale-if-error` counts, else the route's. Never after a purge, nor where `must-revalidate`,
/// `proxy-revalidate`, `no-cache` or `s-maxage` forbids it.
#[must_use]
pub fn stale_on_error(freshness: &Freshness, standing: Standing, now_unix_ms: u64, policy: &Policy) -> Option<u32> {
    if standing == Standing::Stale || freshness.always_revalidate {
        return None;
    }
    let age_s = freshness.age_s(now_unix_ms);
    let stale = standing == Standing::Soft || age_s >= freshness.lifetime_s;
    if stale && freshness.must_revalidate {
        return None;
    }
    let window_s = freshness.stale_if_error_s.unwrap_or(policy.stale_if_error_s);
    (age_s < freshness.lifetime_s.saturating_add(window_s)).then_some(age_s)
}
