//! HTTP caching rules.

use http::HeaderName;

/// How long a stored response is fresh, and what may be done with it afterwards (RFC 9111 section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// Freshness lifetime, in seconds.
    pub lifetime_s: u32,
    /// The moment at which the response was of age zero, in ms since the Unix epoch.
    pub age_zero_unix_ms: u64,
    /// RFC 5861 section 3, in seconds.
    pub stale_while_revalidate_s: u32,
    /// RFC 5861 section 4, in seconds; none where the response does not say.
    pub stale_if_error_s: Option<u32>,
    /// `must-revalidate` and its kin.
    pub must_revalidate: bool,
    /// `no-cache`: never reused without asking.
    pub always_revalidate: bool,
}

/// The request fields that select a variant: sorted, deduplicated.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VarySpec(pub Box<[HeaderName]>);
