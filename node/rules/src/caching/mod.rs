//! What HTTP lets a shared cache do (RFC 9111, RFC 9110, RFC 5861, RFC 9211, RFC 9213): facts in, an answer out.
//!
//! A request's way: [`fields::framing_fault`] at the door, [`intent`], then with what is stored [`decide`],
//! [`conditional`] and [`ranges`]; with what comes from the origin [`storing`], [`conditional::freshen`] and
//! [`invalidates`]. All of the way to a hit is free of allocation.

pub mod coding;
pub mod conditional;
mod date;
mod deception;
mod demand;
mod directives;
pub mod fields;
pub mod framing;
mod freshness;
mod groups;
mod invalidation;
mod lifetime;
mod lists;
mod no_vary_search;
mod ordered;
pub mod ranges;
mod reason;
mod reuse;
pub mod status;
mod storing;
mod surrogate;
mod tags;
mod vary;

use http::{
    HeaderMap, Method,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
};
use region_config::{CacheMode, Class, Policy};

pub use date::parse as parse_date;
pub use demand::Demand;
pub use directives::Directives;
pub use freshness::Freshness;
pub use groups::{Groups, groups, invalidated_groups};
pub use invalidation::{also_invalidated, invalidates, is_safe};
pub(crate) use lists::members as list_members;
pub use no_vary_search::SearchVariance;
pub use ordered::{ORDERED_MAX, Ordered};
pub use reason::Reason;
pub use reuse::{Decision, decide, nearly_over, stale_on_error};
pub use status::CacheStatus;
pub use storing::{Exchange, Storing, storing};
pub use tags::Tags;
pub(crate) use vary::write_normalised;
pub use vary::{Vary, VarySpec};

/// Longest method that is passed on, in bytes; the longest registered one has 17.
const METHOD_BYTES_MAX: usize = 32;

/// What a request asks of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// An answer, stored or to be stored.
    Lookup,
    /// To be passed to the origin.
    Pass(Reason),
    /// What is not done here: answer [`Reason::MethodRefused`] with 405, [`Reason::MethodUnknown`] with 501.
    Refuse(Reason),
}

/// Decides what a request asks of the cache. GET and HEAD look up; whatever else passes, unknown methods as unsafe
/// ones; CONNECT and TRACE are refused. (Over HTTP/2 a body may come without `Content-Length`: whoever sees one on a
/// GET passes it too.)
#[must_use]
pub fn intent(method: &Method, headers: &HeaderMap, policy: &Policy) -> Intent {
    let looks_up = *method == Method::GET || *method == Method::HEAD;
    if !looks_up {
        return if *method == Method::CONNECT || *method == Method::TRACE {
            Intent::Refuse(Reason::MethodRefused)
        } else if method.as_str().len() > METHOD_BYTES_MAX {
            Intent::Refuse(Reason::MethodUnknown)
        } else {
            Intent::Pass(Reason::Method)
        };
    }
    if policy.cache == CacheMode::Off {
        return Intent::Pass(Reason::CacheOff);
    }
    if policy.class == Class::Live {
        return Intent::Pass(Reason::LiveRoute);
    }
    let has_length = headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0");
    if has_length || headers.contains_key(TRANSFER_ENCODING) {
        return Intent::Pass(Reason::RequestBody);
    }
    Intent::Lookup
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
