//! DNS messages: queries parsed strictly, replies composed with the EDNS client-subnet scope they are owed.
//!
//! Strict where leniency would hurt others: a malformed client-subnet option that is quietly ignored becomes an answer
//! with scope 0, which takes over a resolver's cache for everyone behind it. So whatever is malformed is FORMERR.

mod cookie;
mod data;
mod query;
mod quick;
mod reply;
pub mod sign;
mod text;

pub use cookie::{COOKIE_BYTES, CookieJudged, CookieSecrets};
pub use data::{Service, ServiceData, caa, txt};
pub use domain::base::{
    Serial,
    iana::{Class, ExtendedErrorCode, OptRcode, Rcode, Rtype},
    name::Name,
};
pub use query::{Edns, Fault, LowerName, Owed, Query, Subnet, parse};
pub use reply::{
    Composed, Data, DnsName, Record, Reply, Soa, compose, compose_cookie, compose_fault, compose_short,
    compose_truncated,
};
pub use text::zone_line;

/// Largest UDP message that is sent, in bytes: no fragments on any usual path (DNS flag day 2020).
pub const UDP_BYTES_MAX: usize = 1232;
/// Largest TCP message, in bytes: its length has two octets (RFC 1035 section 4.2.2).
pub const TCP_BYTES_MAX: usize = 65_535;

#[cfg(test)]
mod tests;
