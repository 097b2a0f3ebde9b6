//! Which region a client is sent to, and why.
//!
//! Compile, do not look up. A geo database becomes a [`Base`]: address-ordered ranges of locations. For every set of
//! legal regions it becomes a [`Map`]: ranges of region *lists*, nearest region first. A question is then one range
//! search, which also yields the EDNS client-subnet scope (RFC 7871), and [`decide`] reorders that one list by health.
//!
//! The stages, in this order; each leaves its reason:
//! 1. address: what the client's address is, with IPv4 taken out of IPv6 transition addresses;
//! 2. legal regions: the mask from [`crate::residency::eligible`], applied first and checked again last; inside it, what
//!    the site wishes to be named;
//! 3. rules for some clients: `only` takes regions away, `prefer` puts some first;
//! 4. cost: priority, then great-circle distance with the site's bias. Stages 2 to 4 are compiled into the lists;
//! 5. health: a stable partition, Up before Degraded before Draining before Unknown before Down;
//! 6. shares: which of the healthiest this client's part of the list goes to, by weight or by load;
//! 7. last check: a region outside the mask is never named, whatever the stages before have done.
//!
//! The client's place is never a legal input: databases disagree on it. It orders regions, it never allows one.

mod address;
mod answers;
mod base;
mod classes;
mod decide;
mod explain;
mod gates;
mod index;
mod lists;
mod map;
mod overlay;
mod place;
mod places;
mod ranges;
mod round_trips;
mod shares;
pub mod spill;
mod standing;
pub mod what_if;
mod wishes;

pub use address::{Block, block_hash, cells, inner};
pub use answers::{ADDRESSES_MAX, Addresses, Chosen, Endpoint};
pub use base::{Base, BaseBuilder, BaseFault, Location, LocationId};
pub use classes::{CLASSES_MAX, Classed, Classes, Grain, meanwhile};
pub use decide::{Decision, Outcome, Policy, Reason, Refusal, TTL_S, decide, regions_up_to};
pub use explain::{Explanation, RegionExplanation, explain};
pub use gates::{Edition, Objection, objections};
pub use map::{Map, Origin};
pub use place::Point;
pub use ranges::Step;
pub use round_trips::{ROWS_MAX, RoundTrip, RoundTrips, RowFault};
pub use shares::{Parted, Shares, Spread};
pub use standing::Standing;
pub use wishes::{Rule, Wishes};

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
