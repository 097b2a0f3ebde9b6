//! Which region a client is sent to, and why.
//!
//! Compile, do not look up. A geo database becomes a [`Base`]: address-ordered ranges of locations. For every set of
//! legal regions it becomes a [`Map`]: ranges of region *lists*, nearest region first. A question is then one range
//! search, which also yields the EDNS client-subnet scope (RFC 7871), and [`decide`] reorders that one list by health.
//!
//! The stages, in this order; each leaves its reason:
//! 1. address: what the client's address is, with IPv4 taken out of IPv6 transition addresses;
//! 2. legal regions: the mask from [`crate::residency::eligible`], applied first and checked again last;
//! 3. cost: great-circle distance, compiled into the lists (measured round trips will correct it there);
//! 4. health: a stable partition, Up before Degraded before Draining before Unknown before Down;
//! 5. last check: a region outside the mask is never named, whatever the stages before have done.
//!
//! The client's place is never a legal input: databases disagree on it. It orders regions, it never allows one.

mod address;
mod answers;
mod base;
mod decide;
mod explain;
mod gates;
mod map;
mod place;
mod ranges;

pub use address::{Block, block_hash, inner};
pub use answers::{ADDRESSES_MAX, Addresses, Chosen, Endpoint};
pub use base::{Base, BaseBuilder, BaseFault, Location, LocationId};
pub use decide::{Decision, Outcome, Policy, Reason, Refusal, Standing, decide, regions_up_to};
pub use explain::{Explanation, RegionExplanation, explain};
pub use gates::{Edition, Objection, objections};
pub use map::{Map, Origin};
pub use place::Point;

#[cfg(test)]
mod tests;
